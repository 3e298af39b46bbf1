/* SPDX-License-Identifier: Apache-2.0 */
#include "aggregate/sketch_top.h"

#include "aggregate/metric_value.h"
#include "base/alloc.h"

enum { HEAD_LEN = 16, RECORD_LEN = 32, ENTRIES_FIRST = 4, COUNTERS_LEAST = 100, COUNTERS_PER_VALUE = 10 };

/* No stream has so many events; bytes from a file may say so: counts stop there, and floors and errors one below, so
 * that the invariants hold. */
#define COUNT_MAX (UINT64_C(1) << 60)

struct entry {
    uint64_t hash;
    uint64_t count;
    uint64_t error;
    uint32_t off; /* of the payload in texts */
    uint16_t len;
    uint16_t kind;
    uint32_t place; /* in the heap */
};

struct top {
    struct mr_sketch head;
    uint64_t floor;
    struct entry *entries;
    uint32_t *slots; /* index of an entry + 1; 0: none; twice the capacity */
    uint32_t *heap;  /* indexes of entries; made when the first value has no room */
    uint32_t count;
    uint32_t capacity; /* a power of two */
    uint32_t heap_capacity;
    bool ordered; /* the heap is one */
    struct mr_texts texts;
};

struct head {
    uint64_t floor;
    uint32_t count;
    uint32_t texts_len;
};

struct record {
    uint64_t hash;
    uint64_t count;
    uint64_t error;
    uint32_t off;
    uint16_t len;
    uint16_t kind;
};

static_assert(sizeof(struct head) == HEAD_LEN && sizeof(struct record) == RECORD_LEN, "data format");
static_assert(MR_KEY_TEXT_MAX <= UINT16_MAX, "a length fits");

uint32_t mr_top_counters(uint32_t n) {
    uint32_t counters = n * COUNTERS_PER_VALUE;
    return counters < COUNTERS_LEAST ? COUNTERS_LEAST : counters;
}

static void account(struct top *t) {
    t->head.heap = sizeof *t + t->capacity * (sizeof t->entries[0] + 2 * sizeof t->slots[0]) +
                   t->heap_capacity * sizeof t->heap[0] + t->texts.cap;
}

static void top_close(struct mr_sketch *sketch) {
    struct top *t = (struct top *)sketch;
    mr_free(t->entries);
    mr_free(t->slots);
    mr_free(t->heap);
    mr_texts_finish(&t->texts);
    mr_free(t);
}

static uint64_t least(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

static struct mr_scalar entry_value(const struct top *t, const struct entry *e) {
    return mr_scalar_of(e->kind, mr_texts_at(t->texts.ptr, e->off, e->len));
}

/* The index. */

static uint32_t slot_count(const struct top *t) {
    return t->capacity * 2;
}

/* The slot of the value, or the free one where it belongs. */
static uint32_t find(const struct top *t, const struct mr_scalar *value, uint64_t hash) {
    uint32_t at = mr_hash_reduce(hash, slot_count(t));
    struct mr_bytes payload = mr_scalar_payload(value);
    for (; t->slots[at] != 0; at = (at + 1) & (slot_count(t) - 1)) {
        const struct entry *e = &t->entries[t->slots[at] - 1];
        if (e->hash == hash && e->kind == value->kind &&
            mr_bytes_equal(mr_texts_at(t->texts.ptr, e->off, e->len), payload)) {
            break;
        }
    }
    return at;
}

static void index_all(struct top *t) {
    memset(t->slots, 0, slot_count(t) * sizeof t->slots[0]);
    for (uint32_t i = 0; i < t->count; i++) {
        uint32_t at = mr_hash_reduce(t->entries[i].hash, slot_count(t));
        while (t->slots[at] != 0) {
            at = (at + 1) & (slot_count(t) - 1);
        }
        t->slots[at] = i + 1;
    }
}

/* Backward shift (Knuth 6.4, algorithm R): no tombstones. */
static void unindex(struct top *t, uint32_t entry) {
    uint32_t mask = slot_count(t) - 1;
    uint32_t hole = mr_hash_reduce(t->entries[entry].hash, slot_count(t));
    while (t->slots[hole] != entry + 1) {
        hole = (hole + 1) & mask;
    }
    for (uint32_t at = (hole + 1) & mask; t->slots[at] != 0; at = (at + 1) & mask) {
        uint32_t home = mr_hash_reduce(t->entries[t->slots[at] - 1].hash, slot_count(t));
        if (((at - home) & mask) >= ((at - hole) & mask)) {
            t->slots[hole] = t->slots[at];
            hole = at;
        }
    }
    t->slots[hole] = 0;
}

static enum mr_status grow(struct top *t) {
    uint32_t capacity = t->capacity == 0 ? ENTRIES_FIRST : t->capacity * 2;
    struct entry *entries = mr_realloc(t->entries, capacity * sizeof entries[0]);
    if (entries == NULL) {
        return MR_NO_MEMORY;
    }
    t->entries = entries;
    uint32_t *slots = mr_alloc_zero((size_t)capacity * 2, sizeof slots[0]);
    if (slots == NULL) {
        return MR_NO_MEMORY;
    }
    mr_free(t->slots);
    t->slots = slots;
    t->capacity = capacity;
    index_all(t);
    account(t);
    return MR_OK;
}

/* The heap. */

static bool is_less(const struct top *t, const struct entry *a, const struct entry *b) {
    if (a->count != b->count) {
        return a->count < b->count;
    }
    if (a->hash != b->hash) {
        return a->hash < b->hash;
    }
    struct mr_scalar x = entry_value(t, a);
    struct mr_scalar y = entry_value(t, b);
    return mr_scalar_compare(&x, &y) < 0;
}

static void sift_down(struct top *t, uint32_t at, uint32_t count) {
    uint32_t entry = t->heap[at];
    for (uint32_t child = 2 * at + 1; child < count; child = 2 * at + 1) {
        if (child + 1 < count && is_less(t, &t->entries[t->heap[child + 1]], &t->entries[t->heap[child]])) {
            child++;
        }
        if (!is_less(t, &t->entries[t->heap[child]], &t->entries[entry])) {
            break;
        }
        t->heap[at] = t->heap[child];
        t->entries[t->heap[at]].place = at;
        at = child;
    }
    t->heap[at] = entry;
    t->entries[entry].place = at;
}

static enum mr_status order(struct top *t) {
    if (t->heap_capacity < t->count) {
        uint32_t *heap = mr_realloc(t->heap, t->count * sizeof heap[0]);
        if (heap == NULL) {
            return MR_NO_MEMORY;
        }
        t->heap = heap;
        t->heap_capacity = t->count;
        account(t);
    }
    for (uint32_t i = 0; i < t->count; i++) {
        t->heap[i] = i;
        t->entries[i].place = i;
    }
    for (uint32_t i = t->count / 2; i-- > 0;) {
        sift_down(t, i, t->count);
    }
    t->ordered = true;
    return MR_OK;
}

/* Entries. */

/* Copies the texts that are still somebody's. */
static enum mr_status tidy(struct top *t) {
    struct mr_texts texts = {.ptr = NULL};
    for (uint32_t i = 0; i < t->count; i++) {
        struct entry *e = &t->entries[i];
        uint32_t off;
        if (!mr_texts_append(&texts, mr_texts_at(t->texts.ptr, e->off, e->len), &off)) {
            mr_texts_finish(&texts);
            return MR_NO_MEMORY;
        }
        e->off = off;
    }
    mr_texts_finish(&t->texts);
    t->texts = texts;
    account(t);
    return MR_OK;
}

static enum mr_status set_value(struct top *t, struct entry *e, const struct mr_scalar *value, uint64_t hash) {
    struct mr_bytes payload = mr_scalar_payload(value);
    if (!mr_texts_append(&t->texts, payload, &e->off)) {
        return MR_NO_MEMORY;
    }
    e->hash = hash;
    e->len = (uint16_t)payload.len;
    e->kind = (uint16_t)value->kind;
    account(t);
    return MR_OK;
}

static enum mr_status append(struct top *t, const struct mr_scalar *value, uint64_t hash, uint64_t count,
                             uint64_t error) {
    if (t->count == t->capacity) {
        enum mr_status status = grow(t);
        if (status != MR_OK) {
            return status;
        }
    }
    uint32_t slot = find(t, value, hash);
    struct entry *e = &t->entries[t->count];
    *e = (struct entry){.count = count, .error = error};
    enum mr_status status = set_value(t, e, value, hash);
    if (status == MR_OK) {
        t->slots[slot] = ++t->count;
        t->ordered = false;
    }
    return status;
}

/* The value takes over the least counter. */
static enum mr_status take_over(struct top *t, const struct mr_scalar *value, uint64_t hash) {
    enum mr_status status = t->ordered ? MR_OK : order(t);
    if (status != MR_OK) {
        return status;
    }
    uint32_t victim = t->heap[0];
    struct entry *e = &t->entries[victim];
    MR_ASSERT(e->count >= t->floor);
    unindex(t, victim);
    t->texts.forgotten += e->len;
    status = set_value(t, e, value, hash);
    if (status != MR_OK) {
        e->len = 0;
        return status;
    }
    t->floor = least(e->count, COUNT_MAX - 1);
    e->error = t->floor;
    e->count = t->floor + 1;
    t->slots[find(t, value, hash)] = victim + 1;
    sift_down(t, 0, t->count);
    return mr_texts_wasteful(&t->texts) ? tidy(t) : MR_OK;
}

static enum mr_status open_one(struct mr_sketch **slot) {
    if (*slot == NULL) {
        struct top *t = mr_alloc_zero(1, sizeof *t);
        if (t == NULL) {
            return MR_NO_MEMORY;
        }
        account(t);
        *slot = &t->head;
    }
    return MR_OK;
}

static enum mr_status add_value(const struct mr_metric *metric, struct mr_sketch **slot,
                                const struct mr_scalar *value) {
    enum mr_status status = open_one(slot);
    if (status != MR_OK) {
        return status;
    }
    struct top *t = (struct top *)*slot;
    uint64_t hash = mr_scalar_hash(value);
    uint32_t at = t->capacity == 0 ? 0 : t->slots[find(t, value, hash)];
    if (at == 0) {
        return t->count < metric->capacity ? append(t, value, hash, 1, 0) : take_over(t, value, hash);
    }
    struct entry *e = &t->entries[at - 1];
    e->count += e->count < COUNT_MAX;
    if (t->ordered) {
        sift_down(t, e->place, t->count);
    }
    return MR_OK;
}

static enum mr_status top_add(const struct mr_metric *metric, const struct mr_batch *batch,
                              const struct mr_column *column, const uint32_t *events, uint8_t *const *states,
                              uint32_t n) {
    for (uint32_t k = 0; k < n; k++) {
        struct mr_scalar value;
        if (!mr_scalar_read(batch, column, events[k], &value)) {
            continue;
        }
        mr_scalar_cut(&value);
        mr_scalar_normalize(&value);
        enum mr_status status = add_value(metric, mr_sketch_slot(metric, states[k]), &value);
        if (status != MR_OK) {
            return status;
        }
    }
    return MR_OK;
}

/* Keeps the `most` greatest: the heap gives the others. */
static enum mr_status cut_to(struct top *t, uint32_t most) {
    if (t->count <= most) {
        return MR_OK;
    }
    enum mr_status status = order(t);
    if (status != MR_OK) {
        return status;
    }
    for (uint32_t left = t->count; left > most; left--) {
        struct entry *e = &t->entries[t->heap[0]];
        t->floor = e->count > t->floor ? least(e->count, COUNT_MAX - 1) : t->floor;
        t->texts.forgotten += e->len;
        e->kind = MR_SCALAR_NONE;
        t->heap[0] = t->heap[left - 1];
        sift_down(t, 0, left - 1);
    }
    uint32_t kept = 0;
    for (uint32_t i = 0; i < t->count; i++) {
        if (t->entries[i].kind != MR_SCALAR_NONE) {
            t->entries[kept++] = t->entries[i];
        }
    }
    MR_ASSERT(kept == most);
    t->count = kept;
    t->ordered = false;
    index_all(t);
    return tidy(t);
}

static struct record record_at(const uint8_t *records, uint32_t i) {
    struct record r;
    memcpy(&r, records + (size_t)i * RECORD_LEN, sizeof r);
    return r;
}

static struct mr_scalar record_value(const uint8_t *payloads, const struct record *r) {
    return mr_scalar_of(r->kind, mr_texts_at(payloads, r->off, r->len));
}

static enum mr_status top_merge(const struct mr_metric *metric, struct mr_sketch **slot, struct mr_bytes from) {
    struct head head;
    MR_ASSERT(from.len >= sizeof head);
    memcpy(&head, from.ptr, sizeof head);
    const uint8_t *records = from.ptr + HEAD_LEN;
    const uint8_t *payloads = records + (size_t)head.count * RECORD_LEN;
    enum mr_status status = open_one(slot);
    if (status != MR_OK) {
        return status;
    }
    struct top *t = (struct top *)*slot;
    uint64_t floor = t->floor;
    for (uint32_t i = 0; i < t->count; i++) { /* as if none of them were in the other */
        t->entries[i].count += head.floor;
        t->entries[i].error += head.floor;
    }
    t->ordered = false;
    for (uint32_t i = 0; i < head.count; i++) {
        struct record r = record_at(records, i);
        struct mr_scalar value = record_value(payloads, &r);
        uint32_t at = t->capacity == 0 ? 0 : t->slots[find(t, &value, r.hash)];
        if (at != 0) { /* it is: what it counts there, instead */
            t->entries[at - 1].count += r.count - head.floor;
            t->entries[at - 1].error += r.error - head.floor;
            continue;
        }
        status = append(t, &value, r.hash, r.count + floor, r.error + floor);
        if (status != MR_OK) {
            return status;
        }
    }
    t->floor = least(floor + head.floor, COUNT_MAX - 1);
    for (uint32_t i = 0; i < t->count; i++) {
        t->entries[i].count = least(t->entries[i].count, COUNT_MAX);
        t->entries[i].error = least(t->entries[i].error, COUNT_MAX - 1);
    }
    return cut_to(t, metric->capacity);
}

static uint32_t payload_bytes(const struct top *t) {
    uint32_t len = 0;
    for (uint32_t i = 0; i < t->count; i++) {
        len += t->entries[i].len;
    }
    return len;
}

static uint32_t top_encoded_len(const struct mr_metric *metric, const struct mr_sketch *sketch) {
    (void)metric;
    const struct top *t = (const struct top *)sketch;
    return HEAD_LEN + t->count * RECORD_LEN + payload_bytes(t);
}

/* (hash, value); a's value is entry's, b's offset is into the texts too. */
static bool comes_before(const struct top *t, const struct record *a, const struct record *b) {
    if (a->hash != b->hash) {
        return a->hash < b->hash;
    }
    struct mr_scalar x = record_value(t->texts.ptr, a);
    struct mr_scalar y = record_value(t->texts.ptr, b);
    return mr_scalar_compare(&x, &y) < 0;
}

/* Insertion from the back: the index gives them nearly in order. */
static void insert_sorted(const struct top *t, uint8_t *records, uint32_t count, const struct entry *e) {
    struct record r = {e->hash, e->count, e->error, e->off, e->len, e->kind};
    uint32_t at = count;
    for (; at > 0; at--) {
        struct record before = record_at(records, at - 1);
        if (!comes_before(t, &r, &before)) {
            break;
        }
        memcpy(records + (size_t)at * RECORD_LEN, &before, sizeof before);
    }
    memcpy(records + (size_t)at * RECORD_LEN, &r, sizeof r);
}

static void top_encode(const struct mr_metric *metric, const struct mr_sketch *sketch, uint8_t *ret) {
    (void)metric;
    const struct top *t = (const struct top *)sketch;
    struct head head = {t->floor, t->count, payload_bytes(t)};
    memcpy(ret, &head, sizeof head);
    uint8_t *records = ret + HEAD_LEN;
    uint32_t count = 0;
    for (int wrapped = 0; wrapped < 2; wrapped++) { /* what went around the end of the index is greatest */
        for (uint32_t i = 0; i < slot_count(t); i++) {
            const struct entry *e = t->slots[i] == 0 ? NULL : &t->entries[t->slots[i] - 1];
            if (e != NULL && (mr_hash_reduce(e->hash, slot_count(t)) > i) == wrapped) {
                insert_sorted(t, records, count++, e);
            }
        }
    }
    MR_ASSERT(count == t->count);
    uint8_t *payloads = records + (size_t)count * RECORD_LEN;
    uint32_t off = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct record r = record_at(records, i);
        if (r.len > 0) {
            memcpy(payloads + off, t->texts.ptr + r.off, r.len);
        }
        r.off = off;
        off += r.len;
        memcpy(records + (size_t)i * RECORD_LEN, &r, sizeof r);
    }
}

static uint64_t top_encoded_max(const struct mr_metric *metric) {
    return mr_pad8(HEAD_LEN + (size_t)metric->capacity * (RECORD_LEN + MR_KEY_TEXT_MAX));
}

/* What an encoded scalar's payload is as long as. */
static bool is_payload_len(uint32_t kind, uint32_t len) {
    switch (kind) {
    case MR_SCALAR_FALSE:
    case MR_SCALAR_TRUE:
        return len == 0;
    case MR_SCALAR_INT:
    case MR_SCALAR_DOUBLE:
        return len == 8;
    default:
        return kind == MR_SCALAR_TEXT && len <= MR_KEY_TEXT_MAX;
    }
}

static bool top_check(const struct mr_metric *metric, struct mr_bytes encoded) {
    struct head head;
    if (encoded.len < sizeof head) {
        return false;
    }
    memcpy(&head, encoded.ptr, sizeof head);
    if (head.count == 0 || head.count > metric->capacity || head.floor >= COUNT_MAX ||
        (head.floor > 0 && head.count < metric->capacity) ||
        encoded.len != HEAD_LEN + (size_t)head.count * RECORD_LEN + head.texts_len) {
        return false;
    }
    const uint8_t *records = encoded.ptr + HEAD_LEN;
    const uint8_t *payloads = records + (size_t)head.count * RECORD_LEN;
    uint32_t off = 0;
    struct record before = {.hash = 0};
    for (uint32_t i = 0; i < head.count; i++) {
        struct record r = record_at(records, i);
        if (!is_payload_len(r.kind, r.len) || r.off != off || r.len > head.texts_len - off ||
            r.error > head.floor || r.count < head.floor || r.error >= r.count || r.count > COUNT_MAX) {
            return false;
        }
        off += r.len;
        struct mr_scalar value = record_value(payloads, &r);
        if (!mr_scalar_check(&value) || !mr_scalar_is_normal(&value) || mr_scalar_hash(&value) != r.hash) {
            return false;
        }
        struct mr_scalar last = record_value(payloads, &before);
        if (i > 0 && (r.hash < before.hash || (r.hash == before.hash && mr_scalar_compare(&last, &value) >= 0))) {
            return false;
        }
        before = r;
    }
    return off == head.texts_len;
}

static bool is_better(const struct record *a, const struct record *b, const uint8_t *payloads) {
    if (a->count != b->count) {
        return a->count > b->count;
    }
    struct mr_scalar x = record_value(payloads, a);
    struct mr_scalar y = record_value(payloads, b);
    return mr_scalar_compare(&x, &y) < 0;
}

/* The best, at most MR_METRIC_TOP_MAX, by insertion. Returns how many. */
static uint32_t select_best(const uint8_t *records, const uint8_t *payloads, uint32_t count, uint32_t most,
                            struct record *ret) {
    uint32_t have = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct record r = record_at(records, i);
        if (have == most && !is_better(&r, &ret[have - 1], payloads)) {
            continue;
        }
        have += have < most;
        uint32_t at = have - 1;
        for (; at > 0 && is_better(&r, &ret[at - 1], payloads); at--) {
            ret[at] = ret[at - 1];
        }
        ret[at] = r;
    }
    return have;
}

static struct mr_number top_finish(const struct mr_metric *metric, struct mr_bytes encoded,
                                   struct mr_arena *scratch) {
    struct record best[MR_METRIC_TOP_MAX];
    struct head head = {.count = 0};
    if (scratch == NULL) {
        return (struct mr_number){.kind = MR_NUMBER_NULL};
    }
    if (encoded.len >= sizeof head) {
        memcpy(&head, encoded.ptr, sizeof head);
    }
    const uint8_t *records = head.count == 0 ? NULL : encoded.ptr + HEAD_LEN;
    const uint8_t *payloads = head.count == 0 ? NULL : records + (size_t)head.count * RECORD_LEN;
    uint32_t count = select_best(records, payloads, head.count, metric->limit, best);
    struct mr_buf buf;
    struct mr_json json;
    mr_buf_init(&buf, MR_SKETCH_JSON_MAX);
    mr_json_init(&json, &buf);
    mr_json_array_begin(&json);
    for (uint32_t i = 0; i < count; i++) {
        struct mr_scalar value = record_value(payloads, &best[i]);
        mr_json_object_begin(&json);
        mr_json_key(&json, "value");
        mr_scalar_json(&value, &json);
        mr_json_key(&json, "count");
        mr_json_uint(&json, best[i].count);
        mr_json_key(&json, "error");
        mr_json_uint(&json, best[i].error);
        mr_json_object_end(&json);
    }
    mr_json_array_end(&json);
    return mr_sketch_json(&buf, scratch);
}

const struct mr_sketch_ops mr_top_ops = {
    .add = top_add,
    .merge = top_merge,
    .encoded_len = top_encoded_len,
    .encode = top_encode,
    .encoded_max = top_encoded_max,
    .check = top_check,
    .close = top_close,
    .finish = top_finish,
};
