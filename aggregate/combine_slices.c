/* SPDX-License-Identifier: Apache-2.0 */
/* Merging into a rule whose OPEN windows are slices (aggregate/slices.h), and what its bounds and gauges count. */
#include "aggregate/combine_state.h"
#include "aggregate/window.h"

/* How many windows may be CLOSED at a time. */
static uint64_t closed_max(const struct mr_rule *rule) {
    int64_t lateness_ms = rule->allowed_lateness_ms;
    return lateness_ms == 0 ? 0 : (uint64_t)(lateness_ms / rule->window.every_ms) + 1;
}

uint64_t mr_combine_sliced_groups(const struct mr_combine_rule *cr) {
    return cr->groups + mr_slices_usage(cr->slices)->groups;
}

/* Groups are (window, key)s, as of every rule, though OPEN windows hold none: when event time jumps, all of them close
 * in one bundle, and their panes are what the bound has to bound. A window that closes moves its groups from the
 * slices' number to the CLOSED windows'. Its bytes are new then, and nothing of it may be lost: so each key has room
 * reserved in each window that may be CLOSED. What is charged depends on the log alone, so that the same partials
 * overflow after a restart: for what is cached, sketches have as much reserved as the slices' take. */
bool mr_combine_sliced_full(const struct mr_combine_rule *cr, uint64_t more, size_t key_len) {
    const struct mr_rule *rule = cr->rule;
    const struct mr_slices_usage *usage = mr_slices_usage(cr->slices);
    uint64_t group_bytes = sizeof(struct mr_group) + mr_combine_group_len(rule) + key_len;
    uint64_t heap = usage->leaves == 0 ? 0 : usage->heap / usage->leaves;
    uint64_t reserved = closed_max(rule) * (usage->keys + 1) * (group_bytes + heap);
    uint64_t bytes = usage->bytes + usage->heap + (cr->bytes > reserved ? cr->bytes : reserved);
    return mr_combine_sliced_groups(cr) + more > rule->groups_max || bytes + group_bytes > rule->groups_bytes;
}

void mr_combine_set_gauge(struct mr_combine_rule *cr) {
    uint64_t windows = cr->window_count;
    uint64_t groups = cr->groups;
    uint64_t bytes = cr->bytes;
    if (cr->slices != NULL) {
        windows += mr_slices_usage(cr->slices)->windows;
        groups = mr_combine_sliced_groups(cr);
        bytes += mr_slices_usage(cr->slices)->bytes + mr_slices_usage(cr->slices)->cached;
    }
    mr_counter_set(&cr->stats.windows, windows);
    mr_counter_set(&cr->stats.groups, groups);
    mr_counter_set(&cr->stats.bytes, bytes);
}

static enum mr_status merge_slice(struct mr_combine *combine, struct mr_combine_rule *cr, struct mr_partial *p,
                                  struct mr_combine_merged *ret) {
    struct mr_bytes key = mr_partial_key(p);
    struct mr_slices_place place = mr_slices_find(cr->slices, p->window_start_ms, p->key_hash, key);
    if (place.there || !mr_combine_sliced_full(cr, place.groups_more, key.len)) {
        ret->applied = true;
        return mr_slices_merge(cr->slices, combine->merging_seq, p, p->key_hash, key);
    }
    if (cr->rule->when_full == MR_GROUPS_DROP) {
        int64_t start_ms;
        int64_t end_ms;
        mr_window_slice(cr->rule, p->window_start_ms, &start_ms, &end_ms);
        return mr_combine_drop(combine, cr, p, start_ms, end_ms);
    }
    ret->applied = true;
    ret->overflow = true;
    struct mr_bytes other = mr_combine_other_key(cr);
    return mr_slices_merge(cr->slices, combine->merging_seq, p, mr_hash64(other, cr->rule->key_seed), other);
}

enum mr_status mr_combine_merge_sliced(struct mr_combine *combine, struct mr_combine_rule *cr, struct mr_partial *p,
                                       struct mr_combine_merged *ret) {
    const struct mr_rule *rule = cr->rule;
    int64_t watermark_ms = mr_combine_watermark(combine, cr);
    int64_t start_ms = mr_window_start(rule, p->window_start_ms);
    enum mr_status status = MR_OK;
    if (start_ms >= cr->slices_open_ms) {
        status = merge_slice(combine, cr, p, ret);
        start_ms = cr->slices_open_ms - rule->window.every_ms;
    }
    for (; status == MR_OK && mr_window_end(rule, start_ms) > p->window_start_ms &&
           !mr_window_final(rule, start_ms, watermark_ms);
         start_ms -= rule->window.every_ms) {
        status = mr_combine_merge_window(combine, cr, p, start_ms, ret);
    }
    return status;
}
