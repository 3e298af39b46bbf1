/* SPDX-License-Identifier: Apache-2.0 */
#include "server/rows.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/key.h"
#include "base/time_text.h"

#include <math.h>


bool mr_rows_fits(const struct mr_rule *rule, const struct mr_row *row) {
    if (row->state.len != rule->state_len) {
        return false;
    }
    struct mr_bytes key = row->key;
    if (mr_key_is_other(key)) {
        return true;
    }
    struct mr_key_value value;
    for (uint32_t i = 0; i < rule->key_count; i++) {
        if (!mr_key_next(&key, &value) || value.tag == MR_KEY_OTHER) {
            return false;
        }
    }
    return key.len == 0;
}

static bool is_shown(const struct mr_rows_view *view, uint32_t metric) {
    return (view->metrics >> metric & 1) != 0;
}

/* The value of the next column; every column of the overflow group has the same. */
static struct mr_key_value next_value(struct mr_bytes *key) {
    struct mr_key_value value = {.tag = MR_KEY_STRING, .text = MR_BYTES(MR_KEY_OTHER_TEXT)};
    if (!mr_key_is_other(*key)) {
        bool more = mr_key_next(key, &value);
        MR_ASSERT(more && value.tag != MR_KEY_OTHER);
    }
    return value;
}

/* false: a year without a text. */
static bool time_text(int64_t ms, char ret[MR_TIME_TEXT_LEN + 1]) {
    if (!mr_time_has_text(ms)) {
        return false;
    }
    mr_time_format(ms, ret);
    return true;
}

/* JSON */

static void json_time(struct mr_json *json, const char *name, int64_t ms) {
    char text[MR_TIME_TEXT_LEN + 1];
    mr_json_key(json, name);
    if (time_text(ms, text)) {
        mr_json_text(json, text);
    } else {
        mr_json_null(json);
    }
}

static void json_key_value(struct mr_json *json, const struct mr_key_value *value) {
    switch (value->tag) {
    case MR_KEY_NULL:
        mr_json_null(json);
        return;
    case MR_KEY_TRUE:
    case MR_KEY_FALSE:
        mr_json_bool(json, value->tag == MR_KEY_TRUE);
        return;
    case MR_KEY_NUMBER:
        mr_json_raw(json, value->text); /* checked to be a JSON number when the event was decoded */
        return;
    case MR_KEY_STRING:
        mr_json_string(json, value->text);
        return;
    case MR_KEY_OTHER:
        break;
    }
    MR_UNREACHABLE();
}

static void json_number(struct mr_json *json, const struct mr_number *number) {
    switch (number->kind) {
    case MR_NUMBER_NULL:
        mr_json_null(json);
        return;
    case MR_NUMBER_INT:
        mr_json_int(json, number->i);
        return;
    case MR_NUMBER_DOUBLE:
    case MR_NUMBER_OVERFLOW:
        mr_json_double(json, number->d); /* null when not finite */
        return;
    }
    MR_UNREACHABLE();
}

/* Returns which of the metrics shown have overflowed. */
static uint64_t json_metrics(struct mr_json *json, const struct mr_rows_view *view,
                             const struct mr_row *row) {
    uint64_t overflow = 0;
    mr_json_key(json, "metrics");
    mr_json_object_begin(json);
    for (uint32_t m = 0; m < view->rule->metric_count; m++) {
        if (!is_shown(view, m)) {
            continue;
        }
        const struct mr_metric *metric = &view->rule->metrics[m];
        struct mr_number number = mr_metric_finish(metric, row->state.ptr);
        mr_json_key_bytes(json, metric->name);
        json_number(json, &number);
        overflow |= (uint64_t)(number.kind == MR_NUMBER_OVERFLOW) << m;
    }
    mr_json_object_end(json);
    return overflow;
}

static void json_overflow(struct mr_json *json, const struct mr_rule *rule, uint64_t overflow) {
    if (overflow == 0) {
        return;
    }
    mr_json_key(json, "overflow");
    mr_json_array_begin(json);
    for (uint32_t m = 0; m < rule->metric_count; m++) {
        if ((overflow >> m & 1) != 0) {
            mr_json_string(json, rule->metrics[m].name);
        }
    }
    mr_json_array_end(json);
}

void mr_rows_json(struct mr_json *json, const struct mr_rows_view *view, const struct mr_row *row) {
    MR_ASSERT(mr_rows_fits(view->rule, row));
    mr_json_object_begin(json);
    json_time(json, "window_start", row->window_start_ms);
    json_time(json, "window_end", row->window_end_ms);
    mr_json_key(json, "key");
    mr_json_object_begin(json);
    struct mr_bytes key = row->key;
    for (uint32_t i = 0; i < view->rule->key_count; i++) {
        struct mr_key_value value = next_value(&key);
        mr_json_key_bytes(json, view->rule->key_names[i]);
        json_key_value(json, &value);
    }
    mr_json_object_end(json);
    uint64_t overflow = json_metrics(json, view, row);
    mr_json_key(json, "events");
    mr_json_uint(json, row->events);
    mr_json_key(json, "revision");
    mr_json_uint(json, row->revision);
    mr_json_key(json, "final");
    mr_json_bool(json, row->final);
    json_overflow(json, view->rule, overflow);
    if (view->local != NULL && mr_local_touches(view->local, row->window_start_ms, row->window_end_ms)) {
        mr_json_key(json, "approximate");
        mr_json_bool(json, true);
    }
    mr_json_object_end(json);
}

void mr_rows_ndjson(struct mr_buf *buf, const struct mr_rows_view *view, const struct mr_row *row) {
    struct mr_json json;
    mr_json_init(&json, buf);
    mr_rows_json(&json, view, row);
    mr_buf_append_char(buf, '\n');
}

/* CSV */

static bool needs_quotes(struct mr_bytes text) {
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.ptr[i];
        if (c == '"' || c == ',' || c == '\r' || c == '\n') {
            return true;
        }
    }
    return text.len == 0; /* nothing at all would be null */
}

static void csv_text(struct mr_buf *buf, struct mr_bytes text) {
    if (!needs_quotes(text)) {
        mr_buf_append_bytes(buf, text);
        return;
    }
    mr_buf_append_char(buf, '"');
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] == '"') {
            mr_buf_append_char(buf, '"');
        }
        mr_buf_append_char(buf, (char)text.ptr[i]);
    }
    mr_buf_append_char(buf, '"');
}

static void csv_time(struct mr_buf *buf, int64_t ms) {
    char text[MR_TIME_TEXT_LEN + 1];
    if (time_text(ms, text)) {
        mr_buf_append(buf, text, MR_TIME_TEXT_LEN);
    }
    mr_buf_append_char(buf, ',');
}

static void csv_key_value(struct mr_buf *buf, const struct mr_key_value *value) {
    switch (value->tag) {
    case MR_KEY_NULL:
        return;
    case MR_KEY_TRUE:
    case MR_KEY_FALSE:
        mr_buf_append_text(buf, value->tag == MR_KEY_TRUE ? "true" : "false");
        return;
    case MR_KEY_NUMBER:
    case MR_KEY_STRING:
        csv_text(buf, value->text);
        return;
    case MR_KEY_OTHER:
        break;
    }
    MR_UNREACHABLE();
}

static void csv_number(struct mr_buf *buf, const struct mr_number *number) {
    char text[32];
    switch (number->kind) {
    case MR_NUMBER_NULL:
        return;
    case MR_NUMBER_INT:
        mr_buf_printf(buf, "%lld", (long long)number->i);
        return;
    case MR_NUMBER_DOUBLE:
    case MR_NUMBER_OVERFLOW:
        if (isfinite(number->d)) {
            mr_buf_append(buf, text, mr_double_text(number->d, text));
        }
        return;
    }
    MR_UNREACHABLE();
}

void mr_rows_csv_header(struct mr_buf *buf, const struct mr_rows_view *view) {
    const struct mr_rule *rule = view->rule;
    mr_buf_append_text(buf, "window_start,window_end,");
    for (uint32_t i = 0; i < rule->key_count; i++) {
        csv_text(buf, rule->key_names[i]);
        mr_buf_append_char(buf, ',');
    }
    for (uint32_t m = 0; m < rule->metric_count; m++) {
        if (is_shown(view, m)) {
            csv_text(buf, rule->metrics[m].name);
            mr_buf_append_char(buf, ',');
        }
    }
    mr_buf_append_text(buf, "events,revision,final\r\n");
}

void mr_rows_csv(struct mr_buf *buf, const struct mr_rows_view *view, const struct mr_row *row) {
    const struct mr_rule *rule = view->rule;
    MR_ASSERT(mr_rows_fits(rule, row));
    csv_time(buf, row->window_start_ms);
    csv_time(buf, row->window_end_ms);
    struct mr_bytes key = row->key;
    for (uint32_t i = 0; i < rule->key_count; i++) {
        struct mr_key_value value = next_value(&key);
        csv_key_value(buf, &value);
        mr_buf_append_char(buf, ',');
    }
    for (uint32_t m = 0; m < rule->metric_count; m++) {
        if (is_shown(view, m)) {
            struct mr_number number = mr_metric_finish(&rule->metrics[m], row->state.ptr);
            csv_number(buf, &number);
            mr_buf_append_char(buf, ',');
        }
    }
    mr_buf_printf(buf, "%llu,%llu,%s\r\n", (unsigned long long)row->events,
                  (unsigned long long)row->revision, row->final ? "true" : "false");
}

/* Fold */

enum mr_status mr_rows_fold_init(struct mr_rows_fold *fold, const struct mr_rule *rule,
                                 bool (*visit)(void *ctx, const struct mr_row *row), void *ctx) {
    *fold = (struct mr_rows_fold){.rule = rule, .visit = visit, .ctx = ctx};
    fold->states = mr_alloc(2 * (size_t)rule->state_len + 1); /* one more: never a size of 0 */
    return fold->states == NULL ? MR_NO_MEMORY : MR_OK;
}

void mr_rows_fold_finish(struct mr_rows_fold *fold) {
    mr_free(fold->states);
    fold->states = NULL;
    fold->has_other = false;
}

static bool give_other(struct mr_rows_fold *fold) {
    if (!fold->has_other) {
        return true;
    }
    fold->has_other = false;
    return fold->visit(fold->ctx, &fold->other);
}

/* States from a file are not aligned, and merging reads them in place: copy first. */
static void copy_state(uint8_t *into, struct mr_bytes state) {
    if (state.len > 0) {
        memcpy(into, state.ptr, state.len);
    }
}

static void keep_other(struct mr_rows_fold *fold, const struct mr_row *row) {
    fold->has_other = true;
    fold->other = *row;
    memcpy(fold->key, row->key.ptr, sizeof fold->key);
    copy_state(fold->states, row->state);
    fold->other.key = mr_bytes_of(fold->key, sizeof fold->key);
    fold->other.state = mr_bytes_of(fold->states, row->state.len);
}

static void merge_other(struct mr_rows_fold *fold, const struct mr_row *row) {
    struct mr_row *other = &fold->other;
    uint8_t *from = fold->states + fold->rule->state_len;
    copy_state(from, row->state);
    mr_metric_merge(fold->rule->metrics, fold->rule->metric_count, fold->states, from);
    memcpy(fold->key, row->key.ptr, sizeof fold->key);
    other->events += row->events;
    other->revision = row->revision > other->revision ? row->revision : other->revision;
    other->final = other->final && row->final;
}

bool mr_rows_fold_push(struct mr_rows_fold *fold, const struct mr_row *row) {
    MR_ASSERT(fold->states != NULL);
    MR_ASSERT(mr_rows_fits(fold->rule, row));
    bool is_other = mr_key_is_other(row->key);
    if (is_other && fold->has_other && row->window_start_ms == fold->other.window_start_ms) {
        merge_other(fold, row);
        return true;
    }
    if (!give_other(fold)) {
        return false;
    }
    if (is_other) {
        keep_other(fold, row);
        return true;
    }
    return fold->visit(fold->ctx, row);
}

void mr_rows_fold_end(struct mr_rows_fold *fold) {
    (void)give_other(fold); /* nothing comes behind it, whatever visit says */
}
