/* SPDX-License-Identifier: Apache-2.0 */
#include "server/rows.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/key.h"
#include "base/time_text.h"

#include <math.h>

/* Of the arena for texts among the numbers of a row. */
enum { SCRATCH_FIRST = 4096, SCRATCH_MAX = 1 << 20 };

/* with_pane: the index of a pane stands at the end. */
static bool key_fits(const struct mr_rule *rule, struct mr_bytes key, bool with_pane) {
    struct mr_key_value value;
    uint32_t columns = mr_key_is_other(key) ? 1 : rule->key_count;
    bool other = mr_key_is_other(key);
    for (uint32_t i = 0; i < columns; i++) {
        if (!mr_key_next(&key, &value) || value.tag == MR_KEY_PANE || (value.tag == MR_KEY_OTHER) != other) {
            return false;
        }
    }
    if (with_pane && (!mr_key_next(&key, &value) || value.tag != MR_KEY_PANE)) {
        return false;
    }
    return key.len == 0;
}

bool mr_rows_fits(const struct mr_rule *rule, const struct mr_row *row) {
    return mr_metric_check(rule->metrics, rule->metric_count, row->state) == MR_OK &&
           key_fits(rule, row->key, rule->trigger.panes == MR_DISCARDING);
}

/* Whether keys of this view's rows end with a pane's number. */
static bool has_panes(const struct mr_rows_view *view) {
    return (view->shape == MR_ROWS_WINDOWS || view->shape == MR_ROWS_PANES) &&
           view->rule->trigger.panes == MR_DISCARDING;
}

static bool is_shown_row(const struct mr_rows_view *view, const struct mr_row *row) {
    const struct mr_rule *rule = view->rule;
    return mr_metric_check(rule->metrics, rule->metric_count, row->state) == MR_OK &&
           key_fits(rule, row->key, has_panes(view));
}

int64_t mr_rows_pane(const struct mr_rule *rule, struct mr_bytes key) {
    if (rule->trigger.panes != MR_DISCARDING) {
        return -1;
    }
    MR_ASSERT(key.len >= MR_KEY_PANE_LEN);
    return mr_key_read_pane(mr_bytes_of(key.ptr + key.len - MR_KEY_PANE_LEN + 1, MR_KEY_PANE_LEN - 1));
}

static bool has_times(const struct mr_rows_view *view) {
    return view->shape != MR_ROWS_TOP;
}

static bool has_revision(const struct mr_rows_view *view) {
    return view->shape == MR_ROWS_WINDOWS || view->shape == MR_ROWS_STEPS || view->shape == MR_ROWS_PANES;
}

static bool is_approximate(const struct mr_rows_view *view, const struct mr_row *row) {
    for (uint32_t i = 0; i < view->local_count; i++) {
        if (mr_local_touches(&view->locals[i], row->window_start_ms, row->window_end_ms)) {
            return true;
        }
    }
    return false;
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
    case MR_KEY_PANE:
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
    case MR_NUMBER_BOOL:
        mr_json_bool(json, number->i != 0);
        return;
    case MR_NUMBER_TEXT:
        mr_json_string(json, mr_bytes_of(number->text, number->len));
        return;
    case MR_NUMBER_JSON:
        mr_json_raw(json, mr_bytes_of(number->text, number->len));
        return;
    }
    MR_UNREACHABLE();
}

bool mr_rows_json_metric(struct mr_json *json, const struct mr_rule *rule, uint32_t metric, struct mr_bytes state,
                         struct mr_arena *scratch) {
    struct mr_number number = mr_metric_finish(rule->metrics, metric, state, scratch);
    json_number(json, &number);
    return number.kind == MR_NUMBER_OVERFLOW;
}

/* Returns which of the metrics shown have overflowed. */
static uint64_t json_metrics(struct mr_json *json, const struct mr_rows_view *view,
                             const struct mr_row *row) {
    uint64_t overflow = 0;
    struct mr_arena scratch;
    mr_arena_init(&scratch, SCRATCH_FIRST, SCRATCH_MAX);
    mr_json_key(json, "metrics");
    mr_json_object_begin(json);
    for (uint32_t m = 0; m < view->rule->metric_count; m++) {
        if (mr_rows_shows(view, m)) {
            mr_json_key_bytes(json, view->rule->metrics[m].name);
            bool over = mr_rows_json_metric(json, view->rule, m, row->state, &scratch);
            overflow |= (uint64_t)over << m;
        }
    }
    mr_json_object_end(json);
    mr_arena_finish(&scratch);
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

void mr_rows_json_key(struct mr_json *json, const struct mr_rule *rule, struct mr_bytes key) {
    mr_json_object_begin(json);
    for (uint32_t i = 0; i < rule->key_count; i++) {
        struct mr_key_value value = next_value(&key);
        mr_json_key_bytes(json, rule->key_names[i]);
        json_key_value(json, &value);
    }
    mr_json_object_end(json);
}

static void json_pane(struct mr_json *json, const struct mr_pane *pane) {
    static const char *const timings[] = {
        [MR_TIMING_EARLY] = "EARLY", [MR_TIMING_ON_TIME] = "ON_TIME", [MR_TIMING_LATE] = "LATE"};
    MR_ASSERT((unsigned)pane->timing < sizeof timings / sizeof timings[0]);
    mr_json_key(json, "timing");
    mr_json_text(json, timings[pane->timing]);
    mr_json_key(json, "pane");
    mr_json_uint(json, pane->index);
    if (mr_key_is_other(pane->key)) {
        mr_json_key(json, "shard");
        mr_json_uint(json, pane->key.ptr[1]);
    }
    if (pane->retraction) {
        mr_json_key(json, "retraction");
        mr_json_bool(json, true);
    }
}

static void json_revision(struct mr_json *json, const struct mr_rows_view *view, const struct mr_row *row) {
    mr_json_key(json, "revision");
    mr_json_uint(json, row->revision);
    mr_json_key(json, "final");
    mr_json_bool(json, row->final);
    if (view->shape == MR_ROWS_PANES) {
        json_pane(json, view->pane);
    } else if (has_panes(view)) {
        mr_json_key(json, "pane");
        mr_json_int(json, mr_rows_pane(view->rule, row->key));
    }
    if (view->shape == MR_ROWS_STEPS) {
        mr_json_key(json, "windows");
        mr_json_uint(json, view->windows);
    }
}

void mr_rows_json(struct mr_json *json, const struct mr_rows_view *view, const struct mr_row *row) {
    MR_ASSERT(is_shown_row(view, row));
    mr_json_object_begin(json);
    if (has_times(view)) {
        json_time(json, "window_start", row->window_start_ms);
        json_time(json, "window_end", row->window_end_ms);
    }
    mr_json_key(json, "key");
    mr_rows_json_key(json, view->rule, row->key);
    uint64_t overflow = json_metrics(json, view, row);
    mr_json_key(json, "events");
    mr_json_uint(json, row->events);
    if (has_revision(view)) {
        json_revision(json, view, row);
    }
    json_overflow(json, view->rule, overflow);
    if (is_approximate(view, row)) {
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
    case MR_KEY_PANE:
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
    case MR_NUMBER_BOOL:
        mr_buf_append_text(buf, number->i != 0 ? "true" : "false");
        return;
    case MR_NUMBER_TEXT:
    case MR_NUMBER_JSON:
        csv_text(buf, mr_bytes_of(number->text, number->len));
        return;
    }
    MR_UNREACHABLE();
}

void mr_rows_csv_header(struct mr_buf *buf, const struct mr_rows_view *view) {
    const struct mr_rule *rule = view->rule;
    mr_buf_append_text(buf, has_times(view) ? "window_start,window_end," : "");
    for (uint32_t i = 0; i < rule->key_count; i++) {
        csv_text(buf, rule->key_names[i]);
        mr_buf_append_char(buf, ',');
    }
    for (uint32_t m = 0; m < rule->metric_count; m++) {
        if (mr_rows_shows(view, m)) {
            csv_text(buf, rule->metrics[m].name);
            mr_buf_append_char(buf, ',');
        }
    }
    mr_buf_append_text(buf, has_revision(view) ? "events,revision,final" : "events");
    mr_buf_append_text(buf, has_panes(view) ? ",pane" : view->shape == MR_ROWS_STEPS ? ",windows" : "");
    mr_buf_append_text(buf, "\r\n");
}

static void csv_end(struct mr_buf *buf, const struct mr_rows_view *view, const struct mr_row *row) {
    mr_buf_printf(buf, "%llu", (unsigned long long)row->events);
    if (has_revision(view)) {
        mr_buf_printf(buf, ",%llu,%s", (unsigned long long)row->revision, row->final ? "true" : "false");
    }
    if (has_panes(view)) {
        mr_buf_printf(buf, ",%lld", (long long)mr_rows_pane(view->rule, row->key));
    }
    if (view->shape == MR_ROWS_STEPS) {
        mr_buf_printf(buf, ",%llu", (unsigned long long)view->windows);
    }
    mr_buf_append_text(buf, "\r\n");
}

void mr_rows_csv(struct mr_buf *buf, const struct mr_rows_view *view, const struct mr_row *row) {
    const struct mr_rule *rule = view->rule;
    MR_ASSERT(is_shown_row(view, row));
    if (has_times(view)) {
        csv_time(buf, row->window_start_ms);
        csv_time(buf, row->window_end_ms);
    }
    struct mr_arena scratch;
    mr_arena_init(&scratch, SCRATCH_FIRST, SCRATCH_MAX);
    struct mr_bytes key = row->key;
    for (uint32_t i = 0; i < rule->key_count; i++) {
        struct mr_key_value value = next_value(&key);
        csv_key_value(buf, &value);
        mr_buf_append_char(buf, ',');
    }
    for (uint32_t m = 0; m < rule->metric_count; m++) {
        if (mr_rows_shows(view, m)) {
            struct mr_number number = mr_metric_finish(rule->metrics, m, row->state, &scratch);
            csv_number(buf, &number);
            mr_buf_append_char(buf, ',');
        }
    }
    csv_end(buf, view, row);
    mr_arena_finish(&scratch);
}

/* Fold */

enum mr_status mr_rows_fold_init(struct mr_rows_fold *fold, const struct mr_rule *rule,
                                 bool (*visit)(void *ctx, const struct mr_row *row), void *ctx) {
    *fold = (struct mr_rows_fold){.rule = rule, .visit = visit, .ctx = ctx};
    return mr_merged_init(&fold->merged, rule);
}

void mr_rows_fold_finish(struct mr_rows_fold *fold) {
    mr_merged_finish(&fold->merged);
    fold->has_other = false;
}

static bool give_other(struct mr_rows_fold *fold) {
    if (!fold->has_other) {
        return true;
    }
    fold->has_other = false;
    fold->other.state = mr_merged_state(&fold->merged);
    fold->failed = fold->other.state.ptr == NULL;
    return !fold->failed && fold->visit(fold->ctx, &fold->other);
}

static void set_key(struct mr_rows_fold *fold, struct mr_bytes key) {
    MR_ASSERT(key.len <= sizeof fold->key);
    memcpy(fold->key, key.ptr, key.len);
    fold->other.key = mr_bytes_of(fold->key, key.len);
}

static bool keep_other(struct mr_rows_fold *fold, const struct mr_row *row) {
    fold->has_other = true;
    fold->other = *row;
    set_key(fold, row->key);
    mr_merged_reset(&fold->merged);
    fold->failed = mr_merged_add(&fold->merged, row->state) != MR_OK;
    return !fold->failed;
}

static bool merge_other(struct mr_rows_fold *fold, const struct mr_row *row) {
    struct mr_row *other = &fold->other;
    set_key(fold, row->key);
    other->events += row->events;
    other->revision = row->revision > other->revision ? row->revision : other->revision;
    other->final = other->final && row->final;
    fold->failed = mr_merged_add(&fold->merged, row->state) != MR_OK;
    return !fold->failed;
}

bool mr_rows_fold_push(struct mr_rows_fold *fold, const struct mr_row *row) {
    MR_ASSERT(mr_rows_fits(fold->rule, row));
    bool is_other = mr_key_is_other(row->key) && fold->rule->trigger.panes != MR_DISCARDING;
    if (is_other && fold->has_other && row->window_start_ms == fold->other.window_start_ms) {
        return merge_other(fold, row);
    }
    if (!give_other(fold)) {
        return false;
    }
    return is_other ? keep_other(fold, row) : fold->visit(fold->ctx, row);
}

void mr_rows_fold_end(struct mr_rows_fold *fold) {
    (void)give_other(fold); /* nothing comes behind it, whatever visit says */
}
