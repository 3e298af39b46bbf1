/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that columns hold what the rows held:
 *   1. a page by hand: times ascending from descending rows, nulls, negative and broken seconds, several metrics;
 *   2. random rows: every value of every series is that of the row, and null where there is none;
 *   3. panes that are rows are series of their own; no rows at all; an answer that would be too long; no memory.
 */
#include "server/columns.h"

#include "base/alloc.h"
#include "base/check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static struct mr_rule rule(void) {
    struct mr_rule r = {.key_count = 1, .metric_count = 2, .final_floor_ms = INT64_MIN};
    r.key_names[0] = MR_BYTES("c");
    r.metrics[0] = (struct mr_metric){.name = MR_BYTES("a"), .kind = MR_METRIC_COUNT};
    r.metrics[1] = (struct mr_metric){.name = MR_BYTES("b"), .kind = MR_METRIC_COUNT};
    r.state_len = mr_metric_layout(r.metrics, 2, 0);
    assert_int_equal(r.state_len, 16);
    return r;
}

/* The state of a count is the count. */
static void add(struct mr_columns *columns, int64_t start_ms, const char *key, size_t key_len, uint64_t a, uint64_t b) {
    uint64_t state[2] = {a, b};
    const struct mr_row row = {
        .window_start_ms = start_ms, .window_end_ms = start_ms + 1, .key = mr_bytes_of(key, key_len),
        .state = mr_bytes_of(state, sizeof state)};
    mr_columns_add(columns, &row);
}

#define ADD(columns, start_ms, key, a, b) add(columns, start_ms, key, sizeof key - 1, a, b)

/* NULL: refused. To be freed. */
static char *write(struct mr_columns *columns, const struct mr_rows_view *view, size_t bytes_max) {
    struct mr_buf out;
    struct mr_json json;
    mr_buf_init(&out, 1 << 20);
    mr_json_init(&json, &out);
    mr_json_object_begin(&json);
    bool done = mr_columns_write(columns, view, bytes_max, &json);
    char *text = NULL;
    if (done) {
        mr_json_object_end(&json);
        text = calloc(1, out.len + 1);
        assert_non_null(text);
        memcpy(text, out.ptr, out.len);
    }
    mr_buf_finish(&out);
    return text;
}

static void must_write(struct mr_columns *columns, const struct mr_rows_view *view, const char *want) {
    char *text = write(columns, view, 1 << 20);
    assert_non_null(text);
    assert_string_equal(text, want);
    free(text);
}

static void by_hand(void **state) {
    (void)state;
    struct mr_rule r = rule();
    struct mr_rows_view view = {.rule = &r, .metrics = MR_ROWS_METRICS_ALL};
    struct mr_columns columns;
    mr_columns_init(&columns);
    must_write(&columns, &view, "{\"t_unit\":\"s\",\"t\":[],\"series\":[]}");
    ADD(&columns, 2000, "s\0\1y", 1, 2);
    ADD(&columns, 2000, "s\0\1x", 3, 4);
    ADD(&columns, 250, "s\0\1y", 5, 6);
    ADD(&columns, -1, "o\3", 7, 8);
    must_write(&columns, &view,
               "{\"t_unit\":\"s\",\"t\":[-0.001,0.250,2],\"series\":["
               "{\"key\":{\"c\":\"(other)\"},\"metric\":\"a\",\"v\":[7,null,null]},"
               "{\"key\":{\"c\":\"(other)\"},\"metric\":\"b\",\"v\":[8,null,null]},"
               "{\"key\":{\"c\":\"x\"},\"metric\":\"a\",\"v\":[null,null,3]},"
               "{\"key\":{\"c\":\"x\"},\"metric\":\"b\",\"v\":[null,null,4]},"
               "{\"key\":{\"c\":\"y\"},\"metric\":\"a\",\"v\":[null,5,1]},"
               "{\"key\":{\"c\":\"y\"},\"metric\":\"b\",\"v\":[null,6,2]}]}");
    assert_null(write(&columns, &view, 100));
    view.metrics = 2;
    must_write(&columns, &view,
               "{\"t_unit\":\"s\",\"t\":[-0.001,0.250,2],\"series\":["
               "{\"key\":{\"c\":\"(other)\"},\"metric\":\"b\",\"v\":[8,null,null]},"
               "{\"key\":{\"c\":\"x\"},\"metric\":\"b\",\"v\":[null,null,4]},"
               "{\"key\":{\"c\":\"y\"},\"metric\":\"b\",\"v\":[null,6,2]}]}");
    for (size_t nth = 1; nth <= 2; nth++) {
        struct mr_buf out;
        struct mr_json json;
        mr_buf_init(&out, 1 << 16);
        mr_json_init(&json, &out);
        mr_json_object_begin(&json);
        mr_alloc_fail_at(nth, 0);
        assert_false(mr_columns_write(&columns, &view, 1 << 16, &json));
        mr_alloc_fail_at(0, 0);
        mr_buf_finish(&out);
    }
    mr_columns_finish(&columns);
}

static void panes(void **state) {
    (void)state;
    struct mr_rule r = rule();
    r.trigger.panes = MR_DISCARDING;
    struct mr_rows_view view = {.rule = &r, .metrics = 1};
    struct mr_columns columns;
    mr_columns_init(&columns);
    ADD(&columns, 1000, "s\0\1xp\0\0\0\0", 1, 0);
    ADD(&columns, 1000, "s\0\1xp\0\0\0\1", 2, 0);
    ADD(&columns, 2000, "s\0\1xp\0\0\0\0", 3, 0);
    must_write(&columns, &view,
               "{\"t_unit\":\"s\",\"t\":[1,2],\"series\":["
               "{\"key\":{\"c\":\"x\"},\"pane\":0,\"metric\":\"a\",\"v\":[1,3]},"
               "{\"key\":{\"c\":\"x\"},\"pane\":1,\"metric\":\"a\",\"v\":[2,null]}]}");
    mr_columns_finish(&columns);
}

static uint64_t seed = 5;

static uint32_t rnd(uint32_t below) {
    seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (uint32_t)(seed >> 33) % below;
}

enum { TIMES = 8, KEYS = 5 };

static void random_rows(void **state) {
    (void)state;
    struct mr_rule r = rule();
    const struct mr_rows_view view = {.rule = &r, .metrics = 1};
    for (uint32_t round = 0; round < 300; round++) {
        uint64_t grid[TIMES][KEYS] = {{0}};
        struct mr_columns columns;
        mr_columns_init(&columns);
        for (uint32_t i = 0; i < 20; i++) {
            uint32_t t = rnd(TIMES);
            uint32_t k = rnd(KEYS);
            if (grid[t][k] == 0) {
                grid[t][k] = 1 + rnd(100);
                char key[4] = {'s', 0, 1, (char)('a' + k)};
                add(&columns, t * 1000, key, sizeof key, grid[t][k], 0);
            }
        }
        struct mr_buf want;
        mr_buf_init(&want, 1 << 16);
        mr_buf_append_text(&want, "{\"t_unit\":\"s\",\"t\":[");
        bool has_t[TIMES] = {false};
        const char *comma = "";
        for (uint32_t t = 0; t < TIMES; t++) {
            for (uint32_t k = 0; k < KEYS; k++) {
                has_t[t] = has_t[t] || grid[t][k] > 0;
            }
            if (has_t[t]) {
                mr_buf_printf(&want, "%s%u", comma, t);
                comma = ",";
            }
        }
        mr_buf_append_text(&want, "],\"series\":[");
        const char *between = "";
        for (uint32_t k = 0; k < KEYS; k++) {
            bool has_k = false;
            for (uint32_t t = 0; t < TIMES; t++) {
                has_k = has_k || grid[t][k] > 0;
            }
            if (!has_k) {
                continue;
            }
            mr_buf_printf(&want, "%s{\"key\":{\"c\":\"%c\"},\"metric\":\"a\",\"v\":[", between, (char)('a' + k));
            between = ",";
            comma = "";
            for (uint32_t t = 0; t < TIMES; t++) {
                if (has_t[t] && grid[t][k] > 0) {
                    mr_buf_printf(&want, "%s%llu", comma, (unsigned long long)grid[t][k]);
                } else if (has_t[t]) {
                    mr_buf_printf(&want, "%snull", comma);
                }
                comma = has_t[t] ? "," : comma;
            }
            mr_buf_append_text(&want, "]}");
        }
        mr_buf_append_text(&want, "]}");
        mr_buf_append_char(&want, 0);
        must_write(&columns, &view, (const char *)want.ptr);
        mr_buf_finish(&want);
        mr_columns_finish(&columns);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(by_hand),
        cmocka_unit_test(panes),
        cmocka_unit_test(random_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
