/* SPDX-License-Identifier: Apache-2.0 */
/* Loading, the end: windows are built of what was gathered. */
#include "aggregate/loading.h"
#include "aggregate/window.h"
#include "base/alloc.h"
#include "base/bug.h"
#include "base/hash.h"

#include <inttypes.h>
#include <stdlib.h>

enum { SLOT_AHEAD = 8 }; /* groups: index slots are prefetched this far ahead */

/* A saved group and its place in the order of first appearance: by shard, then ref. */
struct place {
    uint64_t order;
    const uint8_t *group;
};

/* The window being built. */
struct build {
    struct mr_combine *combine;
    struct mr_combine_rule *rule;
    struct mr_load_window *from;
    struct mr_combine_window *window; /* NULL: not opened yet */
    struct place *places;
    struct mr_error *error;
};

static void fill_places(const struct build *b) {
    size_t n = 0;
    for (const struct mr_load_piece *piece = b->from->first; piece != NULL; piece = piece->next) {
        for (size_t at = 0; at < piece->len; n++) {
            struct mr_saved_group head;
            memcpy(&head, piece->groups + at, sizeof head);
            b->places[n] = (struct place){piece->shard << 32 | head.ref, piece->groups + at};
            at += (size_t)mr_saved_group_size(&head);
        }
    }
    MR_ASSERT(n == b->from->count);
}

static bool is_sorted(const struct place *places, size_t count) {
    for (size_t k = 1; k < count; k++) {
        if (places[k].order < places[k - 1].order) {
            return false;
        }
    }
    return true;
}

static void merge_places(const struct place *left, const struct place *middle,
                         const struct place *end, struct place *to) {
    const struct place *right = middle;
    if (right == end || middle[-1].order <= middle->order) { /* in order: nearly always */
        memcpy(to, left, (size_t)(end - left) * sizeof *to);
        return;
    }
    while (left < middle && right < end) {
        *to++ = right->order < left->order ? *right++ : *left++;
    }
    memcpy(to, left, (size_t)(middle - left) * sizeof *to);
    memcpy(to + (middle - left), right, (size_t)(end - right) * sizeof *to);
}

/* Merge sort: reads memory in order, and what the walk wrote is in order already. */
static enum mr_status sort_places(struct build *b) {
    size_t count = b->from->count;
    if (is_sorted(b->places, count)) {
        return MR_OK;
    }
    struct place *to = mr_alloc(count * sizeof *to);
    if (to == NULL) {
        return mr_loading_no_memory(b->error);
    }
    for (size_t width = 1; width < count; width *= 2) {
        for (size_t at = 0; at < count; at += 2 * width) {
            size_t middle = count - at < width ? count : at + width;
            size_t end = count - at < 2 * width ? count : at + 2 * width;
            merge_places(b->places + at, b->places + middle, b->places + end, to + at);
        }
        struct place *sorted = to;
        to = b->places;
        b->places = sorted;
    }
    mr_free(to);
    return MR_OK;
}

static struct mr_saved_group head_of(const uint8_t *group) {
    struct mr_saved_group head;
    memcpy(&head, group, sizeof head);
    return head;
}

static bool is_same(const uint8_t *a, const uint8_t *b) {
    struct mr_saved_group head_a = head_of(a);
    struct mr_saved_group head_b = head_of(b);
    size_t size = (size_t)mr_saved_group_size(&head_a);
    return size == mr_saved_group_size(&head_b) && memcmp(a, b, size) == 0;
}

static enum mr_status two_values(const struct build *b) {
    return mr_error_set(
        b->error, MR_CORRUPT,
        "groups of a checkpoint: two values for one group of rule %.*s, window %" PRId64,
        (int)b->rule->rule->name.len, (const char *)b->rule->rule->name.ptr, b->from->start_ms);
}

static struct mr_bytes key_of(const uint8_t *group) {
    struct mr_saved_group head = head_of(group);
    return mr_bytes_of(group + sizeof head + head.state_len, head.key_len);
}

/* What the group says of panes that are still to come. */
static enum mr_status add_firing(struct build *b, struct mr_group *group, uint32_t ref,
                                 const struct mr_group_firing *firing) {
    struct mr_combine_window *window = b->window;
    const struct mr_rule *rule = b->rule->rule;
    window->unsaid = window->unsaid || (group->panes & MR_GROUP_UNSAID) != 0;
    if (!mr_combine_fires_early(rule)) {
        return MR_OK;
    }
    *mr_combine_firing(rule, group) = *firing;
    if (firing->waiting_ms == 0 || rule->trigger.early_ms == 0 || MR_BUG(EARLY_TIMER_LOST)) {
        return MR_OK; /* early_ms 0: it was on when the group began to wait */
    }
    struct mr_combine_timer timer = {firing->waiting_ms, window->start_ms, ref};
    return mr_combine_add_timer(&b->rule->timers, timer) ? MR_OK : mr_loading_no_memory(b->error);
}

/* The state, checked when it was read, becomes a live one. */
static enum mr_status add_state(struct build *b, struct mr_group *group, const uint8_t *saved, uint32_t state_len) {
    const struct mr_rule *rule = b->rule->rule;
    if (!rule->grows) {
        memcpy(mr_group_state(group), saved, state_len);
        return MR_OK;
    }
    enum mr_status status = mr_metric_merge(rule->metrics, rule->metric_count, mr_group_state(group),
                                            mr_bytes_of(saved, state_len));
    size_t heap = mr_metric_heap(rule->metrics, rule->metric_count, mr_group_state(group));
    b->window->heap += heap;
    b->rule->bytes += heap;
    return status == MR_OK ? MR_OK : mr_loading_no_memory(b->error);
}

static enum mr_status add_group(struct build *b, const uint8_t *saved, uint32_t hash) {
    struct mr_bytes key = key_of(saved);
    struct mr_saved_group head = head_of(saved);
    uint32_t ref;
    if (b->window != NULL && mr_groups_find(&b->window->groups, hash, key, &ref) != NULL) {
        return two_values(b);
    }
    struct mr_group *group =
        mr_combine_add_group(b->combine, b->rule, &b->window, b->from->start_ms, hash, key, &ref);
    if (group == NULL) {
        return mr_loading_no_memory(b->error);
    }
    group->events = head.events;
    group->revision = head.revision;
    group->panes = head.panes;
    enum mr_status status = add_state(b, group, saved + sizeof head, head.state_len);
    return status == MR_OK ? add_firing(b, group, ref, &head.firing) : status;
}

static enum mr_status add_groups(struct build *b) {
    const struct mr_rule *rule = b->rule->rule;
    uint32_t hashes[SLOT_AHEAD] = {0};
    for (size_t k = 0; k < b->from->count + SLOT_AHEAD; k++) {
        if (k >= SLOT_AHEAD) {
            const struct place *place = &b->places[k - SLOT_AHEAD];
            bool again = k > SLOT_AHEAD && place[-1].order == place->order;
            enum mr_status status = MR_OK;
            if (!again) {
                status = add_group(b, place->group, hashes[k % SLOT_AHEAD]);
            } else if (!is_same(place[-1].group, place->group)) {
                status = two_values(b);
            }
            if (status != MR_OK) {
                return status;
            }
        }
        if (k < b->from->count) {
            struct mr_bytes key = key_of(b->places[k].group);
            hashes[k % SLOT_AHEAD] = mr_group_hash(mr_hash64(key, rule->key_seed));
            if (b->window != NULL) {
                mr_groups_prefetch_slot(&b->window->groups, hashes[k % SLOT_AHEAD]);
            }
        }
    }
    b->window->closed_seq = b->from->closed_seq;
    return MR_OK;
}

/* What was to be said when the window is final: it is now, under a shorter lateness, or late panes have been turned on. */
static void settle_window(const struct build *b) {
    const struct mr_rule *rule = b->rule->rule;
    struct mr_combine_window *window = b->window;
    if (mr_window_final(rule, window->start_ms, mr_combine_watermark(b->combine, b->rule))) {
        MR_ASSERT(window->unsaid);
        mr_combine_make_final(b->combine, window);
    } else if (window->unsaid && rule->trigger.late) {
        mr_combine_expire(window);
    }
}

static enum mr_status build_window(struct build *b) {
    b->places = mr_alloc(b->from->count * sizeof *b->places);
    if (b->places == NULL) {
        return mr_loading_no_memory(b->error);
    }
    fill_places(b);
    enum mr_status status = sort_places(b);
    if (status == MR_OK) {
        status = add_groups(b);
    }
    if (status == MR_OK) {
        settle_window(b);
    }
    mr_free(b->places);
    mr_load_free_pieces(b->from);
    return status;
}

static enum mr_status check_all_seen(const struct mr_combine_loading *loading,
                                     struct mr_error *error) {
    for (uint32_t s = 0; s < MR_SHARDS_MAX; s++) {
        if (loading->saved[s].seen != loading->saved[s].all) {
            return mr_error_set(error, MR_CORRUPT,
                                "groups of shard %" PRIu32 ": %" PRIu32
                                " slices are there, not all and each once",
                                s, loading->saved[s].seen);
        }
    }
    return MR_OK;
}

static bool fires_before(const struct mr_combine_timer *a, const struct mr_combine_timer *b) {
    if (a->waiting_ms != b->waiting_ms) {
        return a->waiting_ms < b->waiting_ms;
    }
    return a->start_ms != b->start_ms ? a->start_ms < b->start_ms : a->ref < b->ref;
}

static int compare_timers(const void *a, const void *b) {
    return fires_before(a, b) ? -1 : fires_before(b, a);
}

/* As they were added when the groups began to wait; the ring has been filled from its beginning. */
static void sort_timers(struct mr_combine_timers *timers) {
    MR_ASSERT(timers->first == 0);
    if (timers->count > 1) {
        qsort(timers->items, timers->count, sizeof timers->items[0], compare_timers);
    }
}

enum mr_status mr_combine_load_also(struct mr_combine *combine, const struct mr_combine_load_also *load,
                                    struct mr_error *error) {
    struct mr_combine_loading *loading = combine->loading;
    MR_ASSERT(loading != NULL && load->rule_map_len <= MR_RULES_MAX);
    enum mr_status status = check_all_seen(loading, error);
    if (status != MR_OK) {
        return status;
    }
    uint32_t *rule_map = mr_alloc((load->rule_map_len + 1) * sizeof *rule_map);
    if (rule_map == NULL) {
        return mr_loading_no_memory(error);
    }
    for (uint32_t i = 0; i < load->rule_map_len; i++) {
        uint32_t rule = load->rule_map[i];
        MR_ASSERT(rule == UINT32_MAX || rule < combine->rule_count);
        rule_map[i] = rule;
        if (rule != UINT32_MAX && combine->rules[rule].sessions != NULL) {
            mr_sessions_load_from(combine->rules[rule].sessions, load->begins_ms[rule]);
        }
    }
    mr_free(loading->rule_map);
    loading->rule_map = rule_map;
    loading->rule_map_len = load->rule_map_len;
    loading->begins_ms = load->begins_ms;
    memset(loading->saved, 0, sizeof loading->saved);
    return MR_OK;
}

enum mr_status mr_combine_load_end(struct mr_combine *combine, struct mr_error *error) {
    struct mr_combine_loading *loading = combine->loading;
    MR_ASSERT(loading != NULL);
    enum mr_status status = check_all_seen(loading, error);
    for (uint32_t r = 0; r < combine->rule_count && status == MR_OK; r++) {
        const struct mr_timeline *windows = &loading->windows[r];
        struct mr_load_window *from = mr_timeline_ceil(windows, INT64_MIN);
        for (; from != NULL && status == MR_OK;
             from = mr_load_window_after(windows, from->start_ms)) {
            struct build b = {
                .combine = combine, .rule = &combine->rules[r], .from = from, .error = error};
            status = build_window(&b);
        }
        if (status == MR_OK && combine->rules[r].sessions != NULL) {
            status = mr_sessions_load_end(combine->rules[r].sessions, error);
        }
        if (status == MR_OK && combine->rules[r].slices != NULL &&
            mr_slices_load_end(combine->rules[r].slices) != MR_OK) {
            status = mr_loading_no_memory(error);
        }
        if (status == MR_OK) {
            sort_timers(&combine->rules[r].timers);
        }
    }
    if (status == MR_OK) {
        mr_combine_set_gauges(combine);
        mr_combine_load_stop(combine);
    }
    return status;
}
