/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of an answer, from combine and from the results store alike: packing, order, filters. */
#include "aggregate/combine.h"
#include "base/check.h"
#include "base/key.h"

struct packed {
    int64_t window_start_ms;
    int64_t window_end_ms;
    uint64_t events;
    uint64_t revision;
    uint32_t key_len;
    uint32_t state_len;
    uint64_t final;
};

static_assert(sizeof(struct packed) == 48, "no padding inside; the state behind it is aligned");

static size_t packed_size(const struct packed *p) {
    size_t size = sizeof *p + p->state_len + p->key_len;
    return (size + 7) & ~(size_t)7;
}

void mr_row_append(struct mr_buf *buf, const struct mr_row *row) {
    MR_ASSERT(row->state.len <= UINT32_MAX && row->key.len <= UINT32_MAX);
    struct packed p = {
        .window_start_ms = row->window_start_ms,
        .window_end_ms = row->window_end_ms,
        .events = row->events,
        .revision = row->revision,
        .key_len = (uint32_t)row->key.len,
        .state_len = (uint32_t)row->state.len,
        .final = row->final,
    };
    size_t size = packed_size(&p);
    uint8_t *at = mr_buf_reserve(buf, size); /* all of it or nothing */
    if (at == NULL) {
        return;
    }
    memset(at + size - 8, 0, 8);
    memcpy(at, &p, sizeof p);
    if (p.state_len > 0) {
        memcpy(at + sizeof p, row->state.ptr, p.state_len);
    }
    if (p.key_len > 0) {
        memcpy(at + sizeof p + p.state_len, row->key.ptr, p.key_len);
    }
    buf->len += size;
}

bool mr_row_next(struct mr_bytes *rest, struct mr_row *ret) {
    if (rest->len == 0) {
        return false;
    }
    struct packed p;
    MR_ASSERT(rest->len >= sizeof p);
    memcpy(&p, rest->ptr, sizeof p);
    size_t size = packed_size(&p);
    MR_ASSERT(rest->len >= size);
    *ret = (struct mr_row){
        .window_start_ms = p.window_start_ms,
        .window_end_ms = p.window_end_ms,
        .events = p.events,
        .revision = p.revision,
        .final = p.final != 0,
        .state = mr_bytes_of(rest->ptr + sizeof p, p.state_len),
        .key = mr_bytes_of(rest->ptr + sizeof p + p.state_len, p.key_len),
    };
    *rest = mr_bytes_of(rest->ptr + size, rest->len - size);
    return true;
}

static int compare_place(const struct mr_row *a, const struct mr_row *b) {
    if (a->window_start_ms != b->window_start_ms) {
        return a->window_start_ms < b->window_start_ms ? -1 : 1;
    }
    return mr_bytes_compare(a->key, b->key);
}

int mr_scan_compare(const struct mr_scan *scan, const struct mr_rule *rule, const struct mr_row *a,
                    const struct mr_row *b) {
    if (scan->order == MR_SCAN_ORDER_WINDOW) {
        int order = compare_place(a, b);
        return scan->descending ? -order : order;
    }
    MR_ASSERT(scan->order >= 0 && (uint32_t)scan->order < rule->metric_count);
    uint32_t metric = (uint32_t)scan->order;
    int order = mr_number_compare(mr_metric_finish(rule->metrics, metric, a->state, NULL),
                                  mr_metric_finish(rule->metrics, metric, b->state, NULL));
    if (order == 0) {
        return compare_place(a, b);
    }
    return scan->descending ? -order : order;
}

static bool value_matches(const struct mr_key_value *value, struct mr_bytes text) {
    switch (value->tag) {
    case MR_KEY_NULL:
        return mr_bytes_equal(text, MR_BYTES("null"));
    case MR_KEY_TRUE:
        return mr_bytes_equal(text, MR_BYTES("true"));
    case MR_KEY_FALSE:
        return mr_bytes_equal(text, MR_BYTES("false"));
    case MR_KEY_NUMBER:
    case MR_KEY_STRING:
        return mr_bytes_equal(text, value->text);
    case MR_KEY_OTHER:
        return mr_bytes_equal(text, MR_BYTES(MR_KEY_OTHER_TEXT));
    case MR_KEY_PANE:
        break; /* behind the columns: no filter names it */
    }
    MR_UNREACHABLE();
}

bool mr_scan_matches(const struct mr_scan *scan, struct mr_bytes key) {
    MR_ASSERT(scan->filter_count <= MR_RULE_KEYS_MAX);
    bool other = mr_key_is_other(key);
    for (uint32_t f = 0; f < scan->filter_count; f++) {
        struct mr_bytes rest = key;
        struct mr_key_value value = {.tag = MR_KEY_NULL};
        uint32_t column =
            other ? 0 : scan->filters[f].key; /* the overflow group has one value for all */
        for (uint32_t c = 0; c <= column; c++) {
            bool ok = mr_key_next(&rest, &value);
            MR_ASSERT(ok);
        }
        if (!value_matches(&value, scan->filters[f].text)) {
            return false;
        }
    }
    return true;
}
