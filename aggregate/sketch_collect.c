/* SPDX-License-Identifier: Apache-2.0 */
#include "aggregate/sketch_collect.h"

#include "aggregate/metric_value.h"
#include "base/alloc.h"

enum { HEAD_LEN = 40, RECORD_LEN = 32, ENTRIES_FIRST = 4 };

/* No stream has so many events; bytes from a file may say so: the total stops there. */
#define TOTAL_MAX (UINT64_C(1) << 60)

/* In memory as encoded; offsets of texts: into texts. */
struct record {
    int64_t time_ms;
    uint64_t lsn;
    uint32_t index;
    uint16_t len; /* of the text */
    uint16_t kind;
    union {
        uint8_t payload[8]; /* of a number; booleans: 0 */
        uint64_t off;       /* below 2^32 */
    };
};

struct head {
    uint64_t total;
    int64_t cut_time_ms;
    uint64_t cut_lsn;
    uint32_t cut_index;
    uint32_t has_cut;
    uint32_t count;
    uint32_t texts_len;
};

struct collect {
    struct mr_sketch head;
    uint64_t total;
    struct mr_place cut;
    bool has_cut;
    uint32_t count;
    uint32_t capacity;
    uint32_t bytes; /* of records and texts */
    struct record *records;
    struct mr_texts texts;
};

static_assert(sizeof(struct head) == HEAD_LEN && sizeof(struct record) == RECORD_LEN, "data format");
static_assert(RECORD_LEN + MR_KEY_TEXT_MAX <= MR_METRIC_COLLECT_BYTES, "one value always fits");

static void account(struct collect *c) {
    c->head.heap = sizeof *c + (size_t)c->capacity * RECORD_LEN + c->texts.cap;
}

static void collect_close(struct mr_sketch *sketch) {
    struct collect *c = (struct collect *)sketch;
    mr_free(c->records);
    mr_texts_finish(&c->texts);
    mr_free(c);
}

static struct mr_place place_of(const struct record *r) {
    return (struct mr_place){r->time_ms, r->lsn, r->index};
}

static struct mr_scalar value_of(const struct record *r, const uint8_t *texts) {
    if (r->kind == MR_SCALAR_TEXT) {
        return mr_scalar_of(r->kind, mr_texts_at(texts, r->off, r->len));
    }
    return mr_scalar_of(r->kind, mr_bytes_of(r->payload, sizeof r->payload));
}

static enum mr_status tidy(struct collect *c) {
    struct mr_texts texts = {.ptr = NULL};
    for (uint32_t i = 0; i < c->count; i++) {
        struct record *r = &c->records[i];
        uint32_t off;
        if (r->kind != MR_SCALAR_TEXT) {
            continue;
        }
        if (!mr_texts_append(&texts, mr_texts_at(c->texts.ptr, r->off, r->len), &off)) {
            mr_texts_finish(&texts);
            return MR_NO_MEMORY;
        }
        r->off = off;
    }
    mr_texts_finish(&c->texts);
    c->texts = texts;
    account(c);
    return MR_OK;
}

/* What is over the limits goes, from the back. */
static enum mr_status cut(struct collect *c, uint32_t limit) {
    while (c->count > limit || c->bytes > MR_METRIC_COLLECT_BYTES) {
        const struct record *last = &c->records[--c->count];
        c->cut = place_of(last);
        c->has_cut = true;
        c->bytes -= RECORD_LEN + (uint32_t)last->len;
        c->texts.forgotten += last->len;
    }
    return mr_texts_wasteful(&c->texts) ? tidy(c) : MR_OK;
}

static enum mr_status grow(struct collect *c) {
    uint32_t capacity = c->capacity == 0 ? ENTRIES_FIRST : c->capacity * 2;
    struct record *records = mr_realloc(c->records, (size_t)capacity * RECORD_LEN);
    if (records == NULL) {
        return MR_NO_MEMORY;
    }
    c->records = records;
    c->capacity = capacity;
    account(c);
    return MR_OK;
}

/* Puts a value where it belongs, if that is before the cut. Does not count it. */
static enum mr_status put(struct collect *c, uint32_t limit, struct mr_place place, const struct mr_scalar *value) {
    if (c->has_cut && mr_place_compare(place, c->cut) >= 0) {
        return MR_OK;
    }
    if (c->count == c->capacity && grow(c) != MR_OK) {
        return MR_NO_MEMORY;
    }
    struct record r = {.time_ms = place.time_ms, .lsn = place.lsn, .index = place.index, .kind = (uint16_t)value->kind};
    if (value->kind == MR_SCALAR_TEXT) {
        uint32_t off;
        if (!mr_texts_append(&c->texts, value->text, &off)) {
            return MR_NO_MEMORY;
        }
        r.len = (uint16_t)value->text.len;
        r.off = off;
        account(c);
    } else {
        memcpy(r.payload, value->payload, sizeof r.payload);
    }
    uint32_t at = c->count;
    while (at > 0 && mr_place_compare(place_of(&c->records[at - 1]), place) > 0) {
        at--;
    }
    memmove(c->records + at + 1, c->records + at, (size_t)(c->count - at) * RECORD_LEN);
    c->records[at] = r;
    c->count++;
    c->bytes += RECORD_LEN + (uint32_t)r.len;
    return cut(c, limit);
}

static enum mr_status open_one(struct mr_sketch **slot) {
    if (*slot == NULL) {
        struct collect *c = mr_alloc_zero(1, sizeof *c);
        if (c == NULL) {
            return MR_NO_MEMORY;
        }
        account(c);
        *slot = &c->head;
    }
    return MR_OK;
}

static enum mr_status collect_add(const struct mr_metric *metric, const struct mr_batch *batch,
                                  const struct mr_column *column, const uint32_t *events, uint8_t *const *states,
                                  uint32_t n) {
    for (uint32_t k = 0; k < n; k++) {
        struct mr_scalar value;
        if (!mr_scalar_read(batch, column, events[k], &value)) {
            continue;
        }
        mr_scalar_cut(&value);
        struct mr_sketch **slot = mr_sketch_slot(metric, states[k]);
        enum mr_status status = open_one(slot);
        if (status == MR_OK) {
            struct collect *c = (struct collect *)*slot;
            c->total++;
            status = put(c, metric->limit, mr_place_of(batch, events[k]), &value);
        }
        if (status != MR_OK) {
            return status;
        }
    }
    return MR_OK;
}

static struct record record_at(const uint8_t *records, uint32_t i) {
    struct record r;
    memcpy(&r, records + (size_t)i * RECORD_LEN, sizeof r);
    return r;
}

/* Nothing from `at` on stays. */
static void cut_at(struct collect *c, struct mr_place at) {
    if (c->has_cut && mr_place_compare(at, c->cut) >= 0) {
        return;
    }
    c->has_cut = true;
    c->cut = at;
    while (c->count > 0 && mr_place_compare(place_of(&c->records[c->count - 1]), at) >= 0) {
        const struct record *last = &c->records[--c->count];
        c->bytes -= RECORD_LEN + (uint32_t)last->len;
        c->texts.forgotten += last->len;
    }
}

static enum mr_status collect_merge(const struct mr_metric *metric, struct mr_sketch **slot, struct mr_bytes from) {
    struct head head;
    MR_ASSERT(from.len >= sizeof head);
    memcpy(&head, from.ptr, sizeof head);
    const uint8_t *records = from.ptr + HEAD_LEN;
    const uint8_t *texts = records + (size_t)head.count * RECORD_LEN;
    enum mr_status status = open_one(slot);
    if (status != MR_OK) {
        return status;
    }
    struct collect *c = (struct collect *)*slot;
    c->total = c->total + head.total < TOTAL_MAX ? c->total + head.total : TOTAL_MAX;
    if (head.has_cut != 0) {
        cut_at(c, (struct mr_place){head.cut_time_ms, head.cut_lsn, head.cut_index});
    }
    for (uint32_t i = 0; i < head.count && status == MR_OK; i++) {
        struct record r = record_at(records, i);
        struct mr_scalar value = value_of(&r, texts);
        status = put(c, metric->limit, place_of(&r), &value);
    }
    return status;
}

static uint32_t texts_len(const struct collect *c) {
    return c->bytes - c->count * RECORD_LEN;
}

static uint32_t collect_encoded_len(const struct mr_metric *metric, const struct mr_sketch *sketch) {
    (void)metric;
    return HEAD_LEN + ((const struct collect *)sketch)->bytes;
}

static void collect_encode(const struct mr_metric *metric, const struct mr_sketch *sketch, uint8_t *ret) {
    (void)metric;
    const struct collect *c = (const struct collect *)sketch;
    struct head head = {.total = c->total, .count = c->count, .texts_len = texts_len(c)};
    if (c->has_cut) {
        head.has_cut = 1;
        head.cut_time_ms = c->cut.time_ms;
        head.cut_lsn = c->cut.lsn;
        head.cut_index = c->cut.index;
    }
    memcpy(ret, &head, sizeof head);
    uint8_t *records = ret + HEAD_LEN;
    uint8_t *texts = records + (size_t)c->count * RECORD_LEN;
    uint32_t off = 0;
    for (uint32_t i = 0; i < c->count; i++) {
        struct record r = c->records[i];
        if (r.kind == MR_SCALAR_TEXT) {
            if (r.len > 0) {
                memcpy(texts + off, c->texts.ptr + r.off, r.len);
            }
            r.off = off;
            off += r.len;
        }
        memcpy(records + (size_t)i * RECORD_LEN, &r, sizeof r);
    }
    MR_ASSERT(off == head.texts_len);
}

static uint64_t collect_encoded_max(const struct mr_metric *metric) {
    uint64_t most = (uint64_t)metric->limit * (RECORD_LEN + MR_KEY_TEXT_MAX);
    return mr_pad8(HEAD_LEN + (most < MR_METRIC_COLLECT_BYTES ? most : MR_METRIC_COLLECT_BYTES));
}

static bool check_record(const struct record *r, const uint8_t *texts, uint32_t *off, uint32_t texts_len) {
    if (r->kind == MR_SCALAR_TEXT) {
        if (r->off != *off || r->len > texts_len - *off || r->len > MR_KEY_TEXT_MAX) {
            return false;
        }
        *off += r->len;
        return true;
    }
    struct mr_scalar value = value_of(r, texts);
    bool is_bool = r->kind == MR_SCALAR_FALSE || r->kind == MR_SCALAR_TRUE;
    return r->len == 0 && mr_scalar_check(&value) && (!is_bool || r->off == 0);
}

static bool collect_check(const struct mr_metric *metric, struct mr_bytes encoded) {
    struct head head;
    if (encoded.len < sizeof head) {
        return false;
    }
    memcpy(&head, encoded.ptr, sizeof head);
    struct mr_place end = {head.cut_time_ms, head.cut_lsn, head.cut_index};
    bool no_cut = head.has_cut == 0;
    if (head.has_cut > 1 || head.count > metric->limit || head.total == 0 || head.total > TOTAL_MAX ||
        (no_cut ? head.total != head.count : head.total <= head.count) ||
        (no_cut && (end.time_ms != 0 || end.lsn != 0 || end.index != 0)) ||
        head.texts_len > MR_METRIC_COLLECT_BYTES ||
        head.count * RECORD_LEN + head.texts_len > MR_METRIC_COLLECT_BYTES ||
        encoded.len != HEAD_LEN + (size_t)head.count * RECORD_LEN + head.texts_len) {
        return false;
    }
    const uint8_t *records = encoded.ptr + HEAD_LEN;
    const uint8_t *texts = records + (size_t)head.count * RECORD_LEN;
    uint32_t off = 0;
    struct record before = {.time_ms = INT64_MIN};
    for (uint32_t i = 0; i < head.count; i++) {
        struct record r = record_at(records, i);
        if (!check_record(&r, texts, &off, head.texts_len) || mr_place_compare(place_of(&before), place_of(&r)) > 0 ||
            (!no_cut && mr_place_compare(place_of(&r), end) > 0)) {
            return false;
        }
        before = r;
    }
    return off == head.texts_len;
}

static struct mr_number collect_finish(const struct mr_metric *metric, struct mr_bytes encoded,
                                       struct mr_arena *scratch) {
    (void)metric;
    struct head head = {.count = 0};
    if (scratch == NULL) {
        return (struct mr_number){.kind = MR_NUMBER_NULL};
    }
    if (encoded.len >= sizeof head) {
        memcpy(&head, encoded.ptr, sizeof head);
    }
    const uint8_t *records = head.count == 0 ? NULL : encoded.ptr + HEAD_LEN;
    const uint8_t *texts = head.count == 0 ? NULL : records + (size_t)head.count * RECORD_LEN;
    struct mr_buf buf;
    struct mr_json json;
    mr_buf_init(&buf, MR_SKETCH_JSON_MAX);
    mr_json_init(&json, &buf);
    mr_json_object_begin(&json);
    mr_json_key(&json, "values");
    mr_json_array_begin(&json);
    for (uint32_t i = 0; i < head.count; i++) {
        struct record r = record_at(records, i);
        struct mr_scalar value = value_of(&r, texts);
        mr_scalar_json(&value, &json);
    }
    mr_json_array_end(&json);
    mr_json_key(&json, "count");
    mr_json_uint(&json, head.total);
    mr_json_object_end(&json);
    return mr_sketch_json(&buf, scratch);
}

const struct mr_sketch_ops mr_collect_ops = {
    .add = collect_add,
    .merge = collect_merge,
    .encoded_len = collect_encoded_len,
    .encode = collect_encode,
    .encoded_max = collect_encoded_max,
    .check = collect_check,
    .close = collect_close,
    .finish = collect_finish,
};
