/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Saving: a walk over slices and their leaves, in steps, and what merge and retire write down before they change it.
 *
 * A leaf's mark says whether it has been written in this save, or is newer than its begin. What is added meanwhile comes
 * behind the leaves of its slice, or is a slice of its own.
 */
#include "aggregate/saved.h"
#include "aggregate/slices_state.h"
#include "base/check.h"

static uint64_t encoded_len(const struct mr_rule *rule, const uint8_t *live) {
    return rule->grows ? mr_metric_encoded_len(rule->metrics, rule->metric_count, live) : rule->state_len;
}

/* Reserves all of the record before it writes any of it: without memory there is none. */
static void put_leaf(const struct mr_slices *s, struct mr_slice_leaf *leaf, struct mr_buf *buf) {
    const struct mr_rule *rule = s->rule;
    const struct mr_key_entry *key = leaf->key->entry;
    struct mr_saved_leaf head = {
        .start_ms = mr_slice_start(s, leaf->node.number),
        .events = leaf->node.events,
        .revision = leaf->node.revision,
        .ordinal = leaf->key->ordinal,
        .key_len = key->len,
        .state_len = (uint32_t)encoded_len(rule, mr_slice_live(leaf)),
    };
    size_t size = (size_t)mr_saved_leaf_size(&head);
    uint8_t *at = mr_buf_reserve(buf, size);
    if (at == NULL) {
        return;
    }
    memset(at + size - 8, 0, 8);
    memcpy(at, &head, sizeof head);
    mr_metric_encode(rule->metrics, rule->metric_count, mr_slice_live(leaf), at + sizeof head);
    if (key->len > 0) {
        memcpy(at + sizeof head + head.state_len, key->bytes, key->len);
    }
    buf->len += size;
}

void mr_slice_touch(struct mr_slices *s, struct mr_slice_leaf *leaf) {
    struct mr_slices_save *save = &s->save;
    if (save->under_way && leaf->node.save_mark != save->number) {
        leaf->node.save_mark = save->number;
        put_leaf(s, leaf, &save->waiting);
        save->waiting_count++;
    }
}

void mr_slice_save_leave(struct mr_slices *s, const struct mr_slice_leaf *leaf) {
    if (s->save.at == leaf) {
        s->save.at = leaf->next;
        s->save.start_ms += leaf->next == NULL;
    }
}

void mr_slices_save_begin(struct mr_slices *s, uint64_t seq) {
    MR_ASSERT(!s->save.under_way);
    struct mr_buf waiting = s->save.waiting;
    MR_ASSERT(waiting.cap == 0 && !waiting.failed);
    s->save = (struct mr_slices_save){
        .under_way = true, .seq = seq, .number = s->save.number + 1, .start_ms = INT64_MIN, .waiting = waiting};
}

/* The next leaf of the walk; NULL: it is through. */
static struct mr_slice_leaf *take_next(struct mr_slices *s) {
    struct mr_slices_save *save = &s->save;
    if (save->at == NULL) {
        const struct mr_slice *slice = mr_timeline_ceil(&s->by_time, save->start_ms);
        if (slice == NULL) {
            return NULL;
        }
        save->start_ms = slice->start_ms;
        save->at = slice->first;
    }
    struct mr_slice_leaf *leaf = save->at;
    save->at = leaf->next;
    save->start_ms += leaf->next == NULL;
    return leaf;
}

bool mr_slices_save(struct mr_slices *s, uint32_t budget, struct mr_buf *ret, uint32_t *ret_count, bool *ret_failed) {
    struct mr_slices_save *save = &s->save;
    MR_ASSERT(save->under_way && budget > 0);
    mr_buf_append_bytes(ret, mr_buf_bytes(&save->waiting));
    *ret_count = save->waiting_count;
    *ret_failed = ret->failed || save->waiting.failed;
    if (*ret_failed) {
        return false;
    }
    mr_buf_clear(&save->waiting);
    save->waiting_count = 0;
    struct mr_slice_leaf *leaf = NULL;
    for (; budget > 0 && (leaf = take_next(s)) != NULL; budget--) {
        if (leaf->node.save_mark != save->number) {
            leaf->node.save_mark = save->number;
            put_leaf(s, leaf, ret);
            (*ret_count)++;
        }
    }
    *ret_failed = ret->failed;
    bool done = leaf == NULL && budget > 0;
    if (done) {
        mr_slices_save_stop(s);
    }
    return done;
}

bool mr_slices_saving(const struct mr_slices *s) {
    return s->save.under_way;
}

size_t mr_slices_save_waiting(const struct mr_slices *s) {
    return s->save.waiting.len;
}

void mr_slices_save_stop(struct mr_slices *s) {
    s->save.under_way = false;
    s->save.at = NULL;
    mr_buf_finish(&s->save.waiting);
}
