/* SPDX-License-Identifier: Apache-2.0 */
/* What holds of slices between calls, and a hash of them for comparing replays. */
#include "aggregate/slices_state.h"
#include "base/check.h"
#include "base/hash.h"

static bool hash_leaf(struct mr_slices *s, struct mr_slice_leaf *leaf, uint64_t *hash) {
    const struct mr_rule *rule = s->rule;
    uint64_t head[3] = {leaf->node.number, leaf->node.events, leaf->node.revision};
    uint32_t len = mr_metric_encoded_len(rule->metrics, rule->metric_count, mr_slice_live(leaf));
    mr_buf_clear(&s->encoded);
    uint8_t *at = mr_buf_reserve(&s->encoded, len);
    if (at == NULL) {
        return false;
    }
    mr_metric_encode(rule->metrics, rule->metric_count, mr_slice_live(leaf), at);
    *hash = mr_hash64(mr_bytes_of(head, sizeof head), *hash);
    *hash = mr_hash64(mr_bytes_of(at, len), *hash);
    *hash = mr_hash64(mr_slices_key_bytes(leaf->key), *hash);
    return true;
}

/* By slice, whatever the order there; and the order of keys. */
uint64_t mr_slices_state_hash_scan(struct mr_slices *s) {
    uint64_t sum = 0;
    const struct mr_slice *slice = mr_timeline_ceil(&s->by_time, INT64_MIN);
    for (; slice != NULL; slice = mr_timeline_ceil(&s->by_time, slice->start_ms + 1)) {
        for (struct mr_slice_leaf *leaf = slice->first; leaf != NULL; leaf = leaf->next) {
            uint64_t hash = 0;
            if (!hash_leaf(s, leaf, &hash)) {
                return 0;
            }
            sum += hash;
        }
    }
    for (const struct mr_sliced_key *key = s->first; key != NULL; key = key->next) {
        sum = mr_hash64(mr_slices_key_bytes(key), sum);
    }
    return sum;
}

static void check_slices(const struct mr_slices *s, uint64_t *leaves, uint64_t *heap) {
    uint64_t slices = 0;
    const struct mr_rule *rule = s->rule;
    mr_timeline_check_scan(&s->by_time);
    const struct mr_slice *slice = mr_timeline_ceil(&s->by_time, INT64_MIN);
    for (; slice != NULL; slice = mr_timeline_ceil(&s->by_time, slice->start_ms + 1)) {
        MR_ASSERT(slice->first != NULL && slice->last->next == NULL);
        for (struct mr_slice_leaf *leaf = slice->first; leaf != NULL; leaf = leaf->next) {
            MR_ASSERT(mr_slice_start(s, leaf->node.number) == slice->start_ms);
            MR_ASSERT(mr_slice_tree_find(leaf->key, leaf->node.number) == leaf);
            *heap += rule->grows ? mr_metric_heap(rule->metrics, rule->metric_count, mr_slice_live(leaf)) : 0;
            (*leaves)++;
        }
        slices++;
    }
    MR_ASSERT(slices == s->usage.slices);
}

/* A window after the other. */
static uint64_t groups_of(struct mr_slices *s, const struct mr_sliced_key *key) {
    uint64_t groups = 0;
    struct mr_slices_value value;
    int64_t start_ms;
    for (int64_t at = s->open_ms; mr_slices_window_from(s, at, &start_ms); at = start_ms + s->rule->window.every_ms) {
        enum mr_status status = mr_slices_add(s, key, start_ms, NULL, &value);
        MR_ASSERT(status == MR_OK);
        groups += value.events > 0;
    }
    return groups;
}

static uint64_t windows_of(const struct mr_slices *s) {
    uint64_t windows = 0;
    int64_t start_ms;
    for (int64_t at = s->open_ms; mr_slices_window_from(s, at, &start_ms); at = start_ms + s->rule->window.every_ms) {
        windows++;
    }
    return windows;
}

void mr_slices_check_scan(struct mr_slices *s, bool firing) {
    uint64_t listed = 0;
    uint64_t heap = 0;
    uint64_t leaves = 0;
    uint64_t cached = 0;
    uint64_t keys = 0;
    uint64_t groups = 0;
    check_slices(s, &listed, &heap);
    const struct mr_slice *first = mr_timeline_ceil(&s->by_time, INT64_MIN);
    MR_ASSERT(firing || first == NULL || first->start_ms >= s->open_ms); /* I1 */
    MR_ASSERT(firing || windows_of(s) == s->usage.windows);
    const struct mr_sliced_key *previous = NULL;
    for (const struct mr_sliced_key *key = s->first; key != NULL; previous = key, key = key->next) {
        MR_ASSERT(key->previous == previous && (previous == NULL || previous->ordinal < key->ordinal));
        MR_ASSERT(key->entry->root == key && key->ordinal < s->next_ordinal);
        groups += groups_of(s, key); /* makes values */
        mr_slice_tree_check(s, key, &leaves, &cached);
        keys++;
    }
    MR_ASSERT(s->last == previous && keys == s->usage.keys && keys == s->by_key.count);
    MR_ASSERT(firing || groups == s->usage.groups);
    MR_ASSERT(leaves == listed && leaves == s->usage.leaves);
    MR_ASSERT(heap == s->usage.heap && cached == s->usage.cached);
    MR_ASSERT(s->save.under_way || s->save.waiting.cap == 0);
    mr_key_index_check_scan(&s->by_key, s->rule->key_seed);
}
