/* SPDX-License-Identifier: Apache-2.0 */
#include "aggregate/slices.h"

#include "aggregate/slices_state.h"
#include "aggregate/window.h"
#include "base/alloc.h"
#include "base/check.h"

#include <stdlib.h>

enum {
    SCRATCH_BYTES_MAX = 1 << 30,
    KEY_PLACES_BYTES = sizeof(void *), /* its bucket */
};

/* Bounded by one parcel over MR_COMBINE_SAVE_WAITING_MAX, as long as the caller heeds that. */
#define WAITING_BYTES_MAX (SIZE_MAX / 2)

enum mr_status mr_slices_open(const struct mr_rule *rule, struct mr_slices **ret) {
    const struct mr_window *window = &rule->window;
    MR_ASSERT(window->kind == MR_WINDOW_SLIDING && window->sliced && window->slice_ms > 0);
    MR_ASSERT(window->size_ms % window->slice_ms == 0 && window->every_ms % window->slice_ms == 0);
    MR_ASSERT(rule->state_len % 8 == 0 && rule->metric_count > 0);
    struct mr_slices *s = mr_alloc_zero(1, sizeof *s);
    if (s == NULL) {
        return MR_NO_MEMORY;
    }
    s->rule = rule;
    s->offset_ms = window->offset_ms % window->slice_ms;
    s->open_ms = mr_window_first_open(rule, INT64_MIN);
    mr_timeline_init(&s->by_time);
    mr_buf_init(&s->encoded, SCRATCH_BYTES_MAX);
    mr_buf_init(&s->save.waiting, WAITING_BYTES_MAX);
    s->live = mr_alloc_zero(1, rule->state_len);
    if (s->live == NULL) {
        mr_slices_close(s);
        return MR_NO_MEMORY;
    }
    *ret = s;
    return MR_OK;
}

static uint64_t key_cost(const struct mr_key_entry *entry) {
    return sizeof(struct mr_sliced_key) + sizeof *entry + KEY_PLACES_BYTES + entry->len;
}

static void remove_key(struct mr_slices *s, struct mr_sliced_key *key) {
    MR_ASSERT(key->root == NULL);
    *(key->previous == NULL ? &s->first : &key->previous->next) = key->next;
    *(key->next == NULL ? &s->last : &key->next->previous) = key->previous;
    s->found = s->found == key ? NULL : s->found;
    s->usage.keys--;
    s->usage.key_bytes -= key_cost(key->entry);
    s->usage.bytes -= key_cost(key->entry);
    key->entry->root = NULL;
    mr_key_index_release(&s->by_key, key->entry);
    mr_free(key);
}

void mr_slices_close(struct mr_slices *s) {
    if (s == NULL) {
        return;
    }
    mr_slices_save_stop(s);
    while (s->first != NULL) {
        mr_slice_tree_free(s, s->first);
        remove_key(s, s->first);
    }
    struct mr_slice *slice;
    while ((slice = mr_timeline_ceil(&s->by_time, INT64_MIN)) != NULL) {
        mr_timeline_remove(&s->by_time, slice->start_ms);
        mr_free(slice);
    }
    mr_timeline_finish(&s->by_time);
    mr_key_index_finish(&s->by_key);
    mr_buf_finish(&s->encoded);
    mr_free(s->live);
    mr_free(s);
}

const struct mr_slices_usage *mr_slices_usage(const struct mr_slices *s) {
    return &s->usage;
}

/* The one that was found last is, mostly, the one that is asked for next. */
static struct mr_sliced_key *find_key(struct mr_slices *s, uint64_t hash, struct mr_bytes bytes) {
    struct mr_sliced_key *found = s->found;
    if (found == NULL || found->entry->hash != hash || !mr_bytes_equal(mr_slices_key_bytes(found), bytes)) {
        const struct mr_key_entry *entry = mr_key_index_find(&s->by_key, hash, bytes);
        found = entry == NULL ? NULL : entry->root;
    }
    s->found = found == NULL ? s->found : found;
    return found;
}

static struct mr_slice_leaf *find_leaf(const struct mr_sliced_key *key, uint64_t number) {
    struct mr_slice_leaf *recent = key->recent;
    return recent != NULL && recent->node.number == number ? recent : mr_slice_tree_find(key, number);
}

/* OPEN windows over a slice that are over neither of its neighbours: INT64_MIN, INT64_MAX where there is none. */
static uint64_t windows_alone(const struct mr_slices *s, int64_t slice_ms, int64_t before_ms, int64_t behind_ms) {
    const struct mr_rule *rule = s->rule;
    int64_t every_ms = rule->window.every_ms;
    int64_t first = mr_window_first_after(rule, slice_ms);
    int64_t last = mr_window_start(rule, slice_ms);
    int64_t from = before_ms == INT64_MIN ? s->open_ms : mr_window_start(rule, before_ms) + every_ms;
    int64_t to = behind_ms == INT64_MAX ? last : mr_window_first_after(rule, behind_ms) - every_ms;
    first = s->open_ms > first ? s->open_ms : first;
    first = from > first ? from : first;
    last = to < last ? to : last;
    return first > last ? 0 : (uint64_t)((last - first) / every_ms) + 1;
}

/* Of a key that is not in the slice; NULL: of a new one. */
static uint64_t groups_more(const struct mr_slices *s, const struct mr_sliced_key *key, int64_t slice_ms) {
    if (key == NULL) {
        return windows_alone(s, slice_ms, INT64_MIN, INT64_MAX);
    }
    uint64_t number = mr_slice_number(s, slice_ms);
    const struct mr_slice_leaf *before = mr_slice_tree_before(key, number);
    const struct mr_slice_leaf *behind = mr_slice_tree_behind(key, number);
    return windows_alone(s, slice_ms, before == NULL ? INT64_MIN : mr_slice_start(s, before->node.number),
                         behind == NULL ? INT64_MAX : mr_slice_start(s, behind->node.number));
}

struct mr_slices_place mr_slices_find(struct mr_slices *s, int64_t slice_ms, uint64_t key_hash, struct mr_bytes bytes) {
    const struct mr_sliced_key *key = find_key(s, key_hash, bytes);
    if (key != NULL && find_leaf(key, mr_slice_number(s, slice_ms)) != NULL) {
        return (struct mr_slices_place){.there = true};
    }
    return (struct mr_slices_place){.groups_more = groups_more(s, key, slice_ms)};
}

void mr_slices_group_closed(struct mr_slices *s, bool first_of_window) {
    s->usage.groups--;
    s->usage.windows -= first_of_window;
}

void mr_slices_advance(struct mr_slices *s, int64_t open_ms) {
    MR_ASSERT(open_ms >= s->open_ms);
    s->open_ms = open_ms;
}

static struct mr_sliced_key *add_key(struct mr_slices *s, uint64_t hash, struct mr_bytes bytes) {
    struct mr_sliced_key *key = mr_alloc_zero(1, sizeof *key);
    struct mr_key_entry *entry = key == NULL ? NULL : mr_key_index_add(&s->by_key, hash, bytes);
    if (entry == NULL) {
        mr_free(key);
        return NULL;
    }
    entry->refs = 1;
    entry->root = key;
    key->entry = entry;
    key->ordinal = s->next_ordinal++;
    key->previous = s->last;
    *(s->last == NULL ? &s->first : &s->last->next) = key;
    s->last = key;
    s->usage.keys++;
    s->usage.key_bytes += key_cost(entry);
    s->usage.bytes += key_cost(entry);
    return key;
}

static struct mr_slice *find_or_add_slice(struct mr_slices *s, int64_t start_ms) {
    struct mr_slice *slice = mr_timeline_find(&s->by_time, start_ms);
    if (slice != NULL) {
        return slice;
    }
    slice = mr_alloc_zero(1, sizeof *slice);
    if (slice == NULL || mr_timeline_insert(&s->by_time, start_ms, slice) != MR_OK) {
        mr_free(slice);
        return NULL;
    }
    const struct mr_slice *before = mr_timeline_floor(&s->by_time, start_ms - 1);
    const struct mr_slice *behind = mr_timeline_ceil(&s->by_time, start_ms + 1);
    s->usage.windows += windows_alone(s, start_ms, before == NULL ? INT64_MIN : before->start_ms,
                                      behind == NULL ? INT64_MAX : behind->start_ms);
    slice->start_ms = start_ms;
    s->usage.slices++;
    s->usage.bytes += sizeof *slice;
    return slice;
}

struct mr_slice_leaf *mr_slices_leaf(struct mr_slices *s, int64_t start_ms, uint64_t key_hash, struct mr_bytes bytes,
                                     bool *ret_key_is_new) {
    uint64_t number = mr_slice_number(s, start_ms);
    MR_ASSERT(mr_slice_start(s, number) == start_ms);
    struct mr_sliced_key *key = find_key(s, key_hash, bytes);
    *ret_key_is_new = key == NULL;
    struct mr_slice_leaf *leaf = key == NULL ? NULL : find_leaf(key, number);
    if (leaf == NULL) {
        struct mr_slice *slice = find_or_add_slice(s, start_ms);
        uint64_t more = groups_more(s, key, start_ms);
        key = slice == NULL || key != NULL ? key : add_key(s, key_hash, bytes);
        leaf = slice == NULL || key == NULL ? NULL : mr_slice_tree_add(s, key, number);
        if (leaf == NULL) {
            return NULL; /* the process ends: what was begun does not count */
        }
        s->usage.groups += more;
        *(slice->first == NULL ? &slice->first : &slice->last->next) = leaf;
        slice->last = leaf;
        leaf->node.save_mark = s->save.number; /* it is new: no save under way wants it */
    }
    key->recent = leaf;
    s->found = key;
    return leaf;
}

enum mr_status mr_slices_merge_leaf(struct mr_slices *s, struct mr_slice_leaf *leaf, struct mr_bytes encoded,
                                    uint64_t events, uint64_t revision) {
    const struct mr_rule *rule = s->rule;
    uint8_t *live = mr_slice_live(leaf);
    mr_slice_tree_forget(s, &leaf->node);
    size_t before = rule->grows ? mr_metric_heap(rule->metrics, rule->metric_count, live) : 0;
    enum mr_status status = mr_metric_merge(rule->metrics, rule->metric_count, live, encoded);
    size_t grown = (rule->grows ? mr_metric_heap(rule->metrics, rule->metric_count, live) : 0) - before; /* may wrap */
    s->usage.heap += grown;
    s->usage.bytes += grown;
    leaf->node.events += events;
    leaf->node.revision = revision;
    return status;
}

enum mr_status mr_slices_merge(struct mr_slices *s, uint64_t seq, struct mr_partial *p, uint64_t key_hash,
                               struct mr_bytes key) {
    bool key_is_new;
    struct mr_slice_leaf *leaf = mr_slices_leaf(s, p->window_start_ms, key_hash, key, &key_is_new);
    if (leaf == NULL) {
        return MR_NO_MEMORY;
    }
    mr_slice_touch(s, leaf);
    return mr_slices_merge_leaf(s, leaf, mr_bytes_of(mr_partial_state(p), p->state_len), p->events, seq);
}

bool mr_slices_window_from(const struct mr_slices *s, int64_t from_ms, int64_t *ret_start_ms) {
    const struct mr_window *window = &s->rule->window;
    int64_t start = mr_window_start(s->rule, from_ms);
    start += start < from_ms ? window->every_ms : 0;
    const struct mr_slice *slice = mr_timeline_ceil(&s->by_time, start);
    if (slice == NULL) {
        return false;
    }
    int64_t first = mr_window_first_after(s->rule, slice->start_ms); /* the first that holds it */
    *ret_start_ms = first > start ? first : start;
    return true;
}

bool mr_slices_window_to(const struct mr_slices *s, int64_t to_ms, int64_t *ret_start_ms) {
    int64_t start = mr_window_start(s->rule, to_ms);
    const struct mr_slice *slice = mr_timeline_ceil(&s->by_time, start);
    if (slice != NULL && slice->start_ms < start + s->rule->window.size_ms) {
        *ret_start_ms = start;
        return true;
    }
    slice = mr_timeline_floor(&s->by_time, start - 1);
    if (slice != NULL) {
        *ret_start_ms = mr_window_start(s->rule, slice->start_ms);
    }
    return slice != NULL;
}

struct mr_sliced_key *mr_slices_first_key(const struct mr_slices *s) {
    return s->first;
}

struct mr_sliced_key *mr_slices_next_key(const struct mr_sliced_key *key) {
    return key->next;
}

struct mr_bytes mr_slices_key_bytes(const struct mr_sliced_key *key) {
    return mr_bytes_of(key->entry->bytes, key->entry->len);
}

uint64_t mr_slices_key_hash(const struct mr_sliced_key *key) {
    return key->entry->hash;
}

static void retire_leaf(struct mr_slices *s, struct mr_slice *slice) {
    struct mr_slice_leaf *leaf = slice->first;
    struct mr_sliced_key *key = leaf->key;
    mr_slice_touch(s, leaf);
    mr_slice_save_leave(s, leaf);
    slice->first = leaf->next;
    slice->last = slice->first == NULL ? NULL : slice->last;
    mr_slice_tree_remove(s, leaf);
    if (key->root == NULL) {
        remove_key(s, key);
    }
}

bool mr_slices_retire(struct mr_slices *s, uint32_t *budget) {
    struct mr_slice *slice = mr_timeline_ceil(&s->by_time, INT64_MIN);
    for (; slice != NULL && slice->start_ms < s->open_ms; slice = mr_timeline_ceil(&s->by_time, INT64_MIN)) {
        for (; slice->first != NULL; (*budget)--) {
            if (*budget == 0) {
                return false;
            }
            retire_leaf(s, slice);
        }
        mr_timeline_remove(&s->by_time, slice->start_ms);
        s->usage.slices--;
        s->usage.bytes -= sizeof *slice;
        mr_free(slice);
    }
    return true;
}

enum mr_status mr_slices_load(struct mr_slices *s, const struct mr_slices_loaded *loaded) {
    bool key_is_new;
    uint64_t hash = mr_hash64(loaded->key, s->rule->key_seed);
    struct mr_slice_leaf *leaf = mr_slices_leaf(s, loaded->start_ms, hash, loaded->key, &key_is_new);
    if (leaf == NULL) {
        return MR_NO_MEMORY;
    }
    struct mr_sliced_key *key = leaf->key;
    if (key_is_new) {
        key->shard = loaded->shard;
        key->ordinal = loaded->ordinal;
    }
    if (leaf->node.events > 0 || key->shard != loaded->shard || key->ordinal != loaded->ordinal) {
        return MR_CORRUPT;
    }
    mr_buf_clear(&s->encoded); /* an aligned copy */
    mr_buf_append_bytes(&s->encoded, loaded->state);
    return s->encoded.failed
               ? MR_NO_MEMORY
               : mr_slices_merge_leaf(s, leaf, mr_buf_bytes(&s->encoded), loaded->events, loaded->revision);
}

static int compare_keys(const void *a, const void *b) {
    const struct mr_sliced_key *left = *(struct mr_sliced_key *const *)a;
    const struct mr_sliced_key *right = *(struct mr_sliced_key *const *)b;
    if (left->shard != right->shard) {
        return left->shard < right->shard ? -1 : 1;
    }
    return left->ordinal < right->ordinal ? -1 : left->ordinal > right->ordinal;
}

enum mr_status mr_slices_load_end(struct mr_slices *s) {
    size_t count = (size_t)s->usage.keys;
    struct mr_sliced_key **keys = mr_alloc((count + 1) * sizeof(struct mr_sliced_key *));
    if (keys == NULL) {
        return MR_NO_MEMORY;
    }
    size_t n = 0;
    for (struct mr_sliced_key *key = s->first; key != NULL; key = key->next) {
        keys[n++] = key;
    }
    MR_ASSERT(n == count);
    qsort(keys, count, sizeof(struct mr_sliced_key *), compare_keys);
    for (size_t k = 0; k < count; k++) {
        keys[k]->previous = k == 0 ? NULL : keys[k - 1];
        keys[k]->next = k + 1 == count ? NULL : keys[k + 1];
        keys[k]->ordinal = k;
    }
    s->first = count == 0 ? NULL : keys[0];
    s->last = count == 0 ? NULL : keys[count - 1];
    s->next_ordinal = count;
    mr_free(keys);
    return MR_OK;
}
