/* SPDX-License-Identifier: Apache-2.0 */
#include "server/columns.h"

#include "base/alloc.h"
#include "base/check.h"

#include <stdio.h>
#include <stdlib.h>

enum { SCRATCH_FIRST = 4096, SCRATCH_MAX = 1 << 20 };

/* Everything of one writing. */
struct table {
    const struct mr_rows_view *view;
    struct mr_json *json;
    size_t bytes_max;
    struct mr_row *rows; /* by key, then time */
    uint32_t row_count;
    int64_t *times;
    uint32_t time_count;
    struct mr_arena scratch;
};

void mr_columns_init(struct mr_columns *ret) {
    *ret = (struct mr_columns){0};
    mr_buf_init(&ret->rows, MR_SCAN_BYTES_MAX);
}

void mr_columns_finish(struct mr_columns *columns) {
    mr_buf_finish(&columns->rows);
    columns->count = 0;
}

void mr_columns_add(struct mr_columns *columns, const struct mr_row *row) {
    mr_row_append(&columns->rows, row);
    columns->count++;
}

static int by_time(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a;
    int64_t y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

static int by_key(const void *a, const void *b) {
    const struct mr_row *x = a;
    const struct mr_row *y = b;
    int order = mr_bytes_compare(x->key, y->key);
    return order != 0 ? order : by_time(&x->window_start_ms, &y->window_start_ms);
}

static void sort_times(struct table *t) {
    for (uint32_t i = 0; i < t->row_count; i++) {
        t->times[i] = t->rows[i].window_start_ms;
    }
    qsort(t->times, t->row_count, sizeof *t->times, by_time);
    for (uint32_t i = 0; i < t->row_count; i++) {
        if (t->time_count == 0 || t->times[t->time_count - 1] != t->times[i]) {
            t->times[t->time_count++] = t->times[i];
        }
    }
}

/* Seconds: whole ones without a point. */
static void write_time(struct mr_json *json, int64_t ms) {
    char text[32];
    if (ms % 1000 == 0) {
        mr_json_int(json, ms / 1000);
        return;
    }
    uint64_t distance = ms < 0 ? 0 - (uint64_t)ms : (uint64_t)ms;
    int len = snprintf(text, sizeof text, "%s%llu.%03llu", ms < 0 ? "-" : "", (unsigned long long)(distance / 1000),
                       (unsigned long long)(distance % 1000));
    MR_ASSERT(len > 0 && (size_t)len < sizeof text);
    mr_json_raw(json, mr_bytes_of(text, (size_t)len));
}

static void write_times(const struct table *t) {
    mr_json_key(t->json, "t_unit");
    mr_json_text(t->json, "s");
    mr_json_key(t->json, "t");
    mr_json_array_begin(t->json);
    for (uint32_t i = 0; i < t->time_count; i++) {
        write_time(t->json, t->times[i]);
    }
    mr_json_array_end(t->json);
}

/* rows: of one key. */
static void write_series(struct table *t, const struct mr_row *rows, uint32_t count, uint32_t metric) {
    const struct mr_rule *rule = t->view->rule;
    mr_json_object_begin(t->json);
    mr_json_key(t->json, "key");
    mr_rows_json_key(t->json, rule, rows[0].key);
    if (t->view->shape == MR_ROWS_WINDOWS && rule->trigger.panes == MR_DISCARDING) {
        mr_json_key(t->json, "pane");
        mr_json_int(t->json, mr_rows_pane(rule, rows[0].key));
    }
    mr_json_key(t->json, "metric");
    mr_json_string(t->json, rule->metrics[metric].name);
    mr_json_key(t->json, "v");
    mr_json_array_begin(t->json);
    uint32_t at = 0;
    for (uint32_t i = 0; i < t->time_count; i++) {
        if (at < count && rows[at].window_start_ms == t->times[i]) {
            (void)mr_rows_json_metric(t->json, rule, metric, rows[at].state, &t->scratch);
            mr_arena_reset(&t->scratch);
            at++;
        } else {
            mr_json_null(t->json);
        }
    }
    MR_ASSERT(at == count);
    mr_json_array_end(t->json);
    mr_json_object_end(t->json);
}

static bool fits(const struct table *t) {
    return !t->json->buf->failed && t->json->buf->len <= t->bytes_max;
}

static void write_all(struct table *t) {
    mr_json_key(t->json, "series");
    mr_json_array_begin(t->json);
    uint32_t count = 0;
    for (uint32_t first = 0; first < t->row_count && fits(t); first += count) {
        count = 1;
        while (first + count < t->row_count &&
               mr_bytes_equal(t->rows[first].key, t->rows[first + count].key)) {
            count++;
        }
        for (uint32_t m = 0; m < t->view->rule->metric_count && fits(t); m++) {
            if (mr_rows_shows(t->view, m)) {
                write_series(t, &t->rows[first], count, m);
            }
        }
    }
    mr_json_array_end(t->json);
}

bool mr_columns_write(struct mr_columns *columns, const struct mr_rows_view *view, size_t bytes_max,
                      struct mr_json *json) {
    struct table t = {.view = view, .json = json, .bytes_max = bytes_max};
    t.rows = mr_alloc((columns->count + 1) * sizeof *t.rows);
    t.times = mr_alloc((columns->count + 1) * sizeof *t.times);
    bool done = t.rows != NULL && t.times != NULL && !columns->rows.failed;
    if (done) {
        struct mr_bytes rest = mr_buf_bytes(&columns->rows);
        while (mr_row_next(&rest, &t.rows[t.row_count])) {
            t.row_count++;
        }
        MR_ASSERT(t.row_count == columns->count);
        mr_arena_init(&t.scratch, SCRATCH_FIRST, SCRATCH_MAX);
        qsort(t.rows, t.row_count, sizeof *t.rows, by_key);
        sort_times(&t);
        write_times(&t);
        write_all(&t);
        mr_arena_finish(&t.scratch);
        done = fits(&t);
    }
    mr_free(t.rows);
    mr_free(t.times);
    return done;
}
