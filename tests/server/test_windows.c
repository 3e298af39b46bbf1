/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that the parameters of a windows query become the scan they ask for:
 *   1. each parameter alone and some together, against the scan's fields;
 *   2. a table of what is refused, with the status and what the message names;
 *   3. a cursor goes on in the same question whatever the order of parameters, the limit, the format
 *      and the time of day, with the times of the first page; every other question refuses it;
 *   4. a step: its range, its cursors, and those that are of no step; the question for the greatest.
 */
#include "server/cursor.h"
#include "server/time_param.h"
#include "server/windows.h"

#include "base/check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define NOW INT64_C(1795326840123)

static struct mr_rule rule(void) {
    struct mr_rule r = {.name = MR_BYTES("views"),
                        .index = 3,
                        .key_count = 2,
                        .metric_count = 3,
                        .window = {.size_ms = 10000},
                        .final_floor_ms = INT64_MIN};
    r.key_names[0] = MR_BYTES("country");
    r.key_names[1] = MR_BYTES("data.kind");
    static const char *const names[] = {"views", "spend", "mean"};
    for (uint32_t i = 0; i < 3; i++) {
        r.metrics[i] = (struct mr_metric){.name = mr_bytes_text(names[i]), .kind = MR_METRIC_COUNT};
    }
    return r;
}

static struct mr_windows parse(const struct mr_rule *r, const char *query) {
    struct mr_windows w;
    struct mr_error error;
    if (mr_windows_init(&w, r, mr_bytes_text(query), MR_BYTES(""), NOW, &error) != MR_OK) {
        fail_msg("%s: %s", query, error.text);
    }
    return w;
}

static void defaults(void **state) {
    (void)state;
    struct mr_rule r = rule();
    struct mr_windows w = parse(&r, "");
    assert_int_equal(w.scan.rule, 3);
    assert_true(w.scan.from_ms == INT64_MIN && w.scan.to_ms == INT64_MAX);
    assert_int_equal(w.scan.state, MR_SCAN_ALL);
    assert_int_equal(w.scan.order, MR_SCAN_ORDER_WINDOW);
    assert_false(w.scan.descending || w.scan.has_after);
    assert_int_equal(w.scan.limit, MR_WINDOWS_LIMIT);
    assert_int_equal(w.scan.filter_count, 0);
    assert_true(w.view.metrics == MR_ROWS_METRICS_ALL);
    assert_int_equal(w.answer, MR_ANSWER_JSON);
    mr_windows_finish(&w);
}

static void everything(void **state) {
    (void)state;
    struct mr_rule r = rule();
    struct mr_windows w =
        parse(&r, "key.data.kind=%28other%29&from=now-1h&to=2026-11-22T05:54:00.124Z&"
                  "metrics=mean,views&order=-spend&limit=10000&state=final&"
                  "key.country=a+b&format=csv");
    assert_int_equal(w.scan.from_ms, NOW - 3600000);
    assert_int_equal(w.scan.to_ms, NOW + 1);
    assert_int_equal(w.scan.state, MR_SCAN_FINAL);
    assert_int_equal(w.scan.order, 1);
    assert_true(w.scan.descending);
    assert_int_equal(w.scan.limit, 10000);
    assert_int_equal(w.scan.filter_count, 2);
    assert_int_equal(w.scan.filters[0].key, 0);
    assert_true(mr_bytes_equal(w.scan.filters[0].text, MR_BYTES("a b")));
    assert_int_equal(w.scan.filters[1].key, 1);
    assert_true(mr_bytes_equal(w.scan.filters[1].text, MR_BYTES("(other)")));
    assert_true(w.view.metrics == 5);
    assert_int_equal(w.answer, MR_ANSWER_CSV);
    mr_windows_finish(&w);
    w = parse(&r, "order=-window_start&state=open&metrics=spend&from=5&to=5");
    assert_int_equal(w.scan.order, MR_SCAN_ORDER_WINDOW);
    assert_true(w.scan.descending);
    assert_int_equal(w.scan.state, MR_SCAN_OPEN);
    assert_true(w.view.metrics == 2);
    mr_windows_finish(&w);
}

static void must_refuse(void **state) {
    (void)state;
    static const struct {
        const char *query;
        enum mr_status status;
        const char *text;
    } cases[] = {
        {"form=1", MR_INVALID, "`form`; did you mean"},
        {"key=1", MR_INVALID, "unknown query parameter `key`"},
        {"key.city=1", MR_INVALID,
         "`key.city`: no key of this rule; its keys are: country, data.kind"},
        {"key.country=1&key.country=2", MR_INVALID, "given twice"},
        {"from=yesterday", MR_INVALID, "`from`: `yesterday`"},
        {"to=", MR_INVALID, "`to`: ``"},
        {"from=6&to=5", MR_INVALID, "`from`: `6` is after `to`: `5`"},
        {"from=now&to=now-1h", MR_INVALID, "is after"},
        {"metrics=", MR_INVALID, "`metrics`: ``"},
        {"metrics=views,", MR_INVALID, "`metrics`: ``"},
        {"metrics=views,clicks", MR_INVALID,
         "`clicks` is no metric of this rule; expected some of views, spend, mean"},
        {"order=", MR_INVALID, "`order`: ``"},
        {"order=-", MR_INVALID, "`order`: `-`"},
        {"order=--views", MR_INVALID, "`order`: `--views`"},
        {"order=clicks", MR_INVALID, "expected one of window_start, views, spend, mean"},
        {"limit=0", MR_INVALID, "from 1 to 10000"},
        {"limit=10001", MR_INVALID, "from 1 to 10000"},
        {"state=closed", MR_INVALID, "expected one of all, open, final"},
        {"format=xml", MR_INVALID, "expected one of json, ndjson, csv"},
        {"format=table", MR_INVALID, "expected one of json, ndjson, csv, columns"},
        {"step=", MR_INVALID, "`step`: ``; expected a duration such as 1m, 1h or 7d"},
        {"step=0s", MR_INVALID, "`step`: `0s`; expected a duration"},
        {"step=60", MR_INVALID, "`step`: `60`; expected a duration"},
        {"step=3661d", MR_INVALID, "up to 3660d"},
        {"step=9s", MR_INVALID, "`9s`; expected a multiple of the rule's windows of 10s, such as 10s or 20s"},
        {"step=1m1s", MR_INVALID, "such as 1m or 70s"},
        {"step=1m&order=views", MR_INVALID, "with `step` expected window_start or -window_start; /v1/rules/{rule}/top"},
        {"metric=views", MR_INVALID, "unknown query parameter `metric`"},
        {"cursor=", MR_INVALID, "`cursor`"},
        {"cursor=AAAA", MR_INVALID, "`cursor`"},
        {"order=views&cursor=AAAA", MR_INVALID, "no pages in the order of a metric"},
    };
    struct mr_rule r = rule();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct mr_windows w;
        struct mr_error error = {0};
        enum mr_status status =
            mr_windows_init(&w, &r, mr_bytes_text(cases[i].query), MR_BYTES(""), NOW, &error);
        if (status != cases[i].status || strstr(error.text, cases[i].text) == NULL) {
            fail_msg("%s: %d %s", cases[i].query, (int)status, error.text);
        }
        mr_windows_finish(&w);
    }
    struct mr_windows w;
    struct mr_error error;
    assert_int_equal(mr_windows_init(&w, &r, MR_BYTES(""), MR_BYTES("text/html"), NOW, &error),
                     MR_NOT_FOUND);
    mr_windows_finish(&w);
}

/* query, with a cursor made from `first`, asked a day later. */
static enum mr_status go_on(const struct mr_rule *r, const char *first, const char *query,
                            struct mr_windows *ret) {
    struct mr_buf text;
    mr_buf_init(&text, 65536);
    mr_buf_printf(&text, "%s&cursor=", query);
    struct mr_windows w = parse(r, first);
    mr_windows_cursor(&w, 90000, MR_BYTES("s\0\2DEz"), &text);
    struct mr_error error;
    enum mr_status status =
        mr_windows_init(ret, r, mr_buf_bytes(&text), MR_BYTES(""), NOW + 86400000, &error);
    if (status != MR_OK) {
        assert_non_null(strstr(error.text, "another question"));
    }
    mr_windows_finish(&w);
    mr_buf_finish(&text);
    return status;
}

static void cursors(void **state) {
    (void)state;
    static const char first[] =
        "from=now-1h&to=now&key.country=DE&key.data.kind=x&order=-window_start";
    static const char *const same[] = {
        first,
        "order=-window_start&key.data.kind=x&key.country=DE&to=now&from=now-1h",
        "from=now-1h&to=now&key.country=D%45&key.data.kind=x&order=-window_start&limit=7&format="
        "csv&metrics=views",
        "from=now-1h&to=now&key.country=DE&key.data.kind=x&order=-window_start&state=all",
    };
    static const char *const others[] = {
        "",
        "from=now-2h&to=now&key.country=DE&key.data.kind=x&order=-window_start",
        "from=now-1h&key.country=DE&key.data.kind=x&order=-window_start",
        "from=now-1h&to=now&key.country=FR&key.data.kind=x&order=-window_start",
        "from=now-1h&to=now&key.country=DE&order=-window_start",
        "from=now-1h&to=now&key.country=x&key.data.kind=DE&order=-window_start",
        "from=now-1h&to=now&key.country=DE&key.data.kind=x",
        "from=now-1h&to=now&key.country=DE&key.data.kind=x&order=-window_start&state=open",
    };
    struct mr_rule r = rule();
    struct mr_windows w;
    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++) {
        assert_int_equal(go_on(&r, first, same[i], &w), MR_OK);
        assert_int_equal(w.scan.from_ms, NOW - 3600000);
        assert_int_equal(w.scan.to_ms, NOW);
        assert_true(w.scan.has_after);
        assert_int_equal(w.scan.after_start_ms, 90000);
        assert_true(mr_bytes_equal(w.scan.after_key, MR_BYTES("s\0\2DEz")));
        mr_windows_finish(&w);
    }
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        assert_int_equal(go_on(&r, first, others[i], &w), MR_INVALID);
        mr_windows_finish(&w);
    }
    struct mr_rule another = rule();
    another.name = MR_BYTES("clicks");
    struct mr_windows of_another = parse(&another, first);
    struct mr_windows of_this = parse(&r, first);
    assert_true(of_another.question != of_this.question);
    mr_windows_finish(&of_another);
    mr_windows_finish(&of_this);
}

static void what_has_no_order(void **state) {
    (void)state;
    static const enum mr_metric_kind kinds[] = {MR_METRIC_QUANTILES, MR_METRIC_TOP, MR_METRIC_HISTOGRAM,
                                                MR_METRIC_COLLECT};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        struct mr_rule r = rule();
        r.metrics[1].kind = kinds[i];
        struct mr_windows w;
        struct mr_error error;
        assert_int_equal(mr_windows_init(&w, &r, MR_BYTES("order=-spend"), MR_BYTES(""), NOW, &error), MR_INVALID);
        assert_non_null(strstr(error.text, "`order`: `spend` is of kind "));
        assert_non_null(strstr(error.text, mr_metric_kind_name(kinds[i])));
        mr_windows_finish(&w);
        assert_int_equal(mr_windows_init_top(&w, &r, MR_BYTES("metric=spend"), MR_BYTES(""), NOW, &error), MR_INVALID);
        assert_non_null(strstr(error.text, "whose value is an object or a list"));
        mr_windows_finish(&w);
    }
}

static void steps(void **state) {
    (void)state;
    struct mr_rule r = rule();
    struct mr_windows w = parse(&r, "step=1m&from=61000&to=120001&order=-window_start");
    assert_int_equal(w.step_ms, 60000);
    assert_int_equal(w.view.shape, MR_ROWS_STEPS);
    assert_true(mr_windows_from(&w) == 60000 && mr_windows_to(&w) == 180000 && w.scan.descending);
    mr_windows_finish(&w);
    w = parse(&r, "step=1m&from=61000&to=61000");
    assert_true(mr_windows_from(&w) == 60000 && mr_windows_to(&w) == 60000);
    mr_windows_finish(&w);
    w = parse(&r, "step=10s");
    assert_true(mr_windows_from(&w) == INT64_MIN && mr_windows_to(&w) == INT64_MAX);
    mr_windows_finish(&w);
    r.window.kind = MR_WINDOW_SESSION;
    struct mr_error error;
    assert_int_equal(mr_windows_init(&w, &r, MR_BYTES("step=10s"), MR_BYTES(""), NOW, &error), MR_INVALID);
    assert_non_null(strstr(error.text, "only tumbling windows are added up"));
    mr_windows_finish(&w);
}

/* The first question's cursor in the second one. */
static enum mr_status resume(const char *first, int64_t step, const struct mr_bytes *key, const char *second,
                             struct mr_windows *ret) {
    struct mr_rule r = rule();
    struct mr_error error;
    struct mr_buf text;
    mr_buf_init(&text, 65536);
    mr_buf_printf(&text, "%s&cursor=", second);
    struct mr_windows w = parse(&r, first);
    if (w.step_ms > 0) {
        mr_windows_step_cursor(&w, step, key, &text);
    } else {
        mr_windows_cursor(&w, step, *key, &text);
    }
    enum mr_status status = mr_windows_init(ret, &r, mr_buf_bytes(&text), MR_BYTES(""), NOW + 5000, &error);
    if (status != MR_OK) {
        assert_non_null(strstr(error.text, "query parameter `cursor`: "));
    }
    mr_windows_finish(&w);
    mr_buf_finish(&text);
    return status;
}

static void cursors_of_steps(void **state) {
    (void)state;
    struct mr_windows w;
    struct mr_bytes key = MR_BYTES("s\0\2DEz");
    struct mr_bytes none = MR_BYTES("");
    assert_int_equal(resume("from=now-1h&step=1m", 120000, &key, "step=60s&from=now-1h&limit=3", &w), MR_OK);
    assert_true(w.resumed && w.resume_step_ms == 120000 && w.resume_has_key && !w.scan.has_after);
    assert_true(mr_bytes_equal(w.resume_key, key) && w.scan.from_ms == NOW - 3600000);
    mr_windows_finish(&w);
    assert_int_equal(resume("step=1m", -60000, NULL, "step=1m", &w), MR_OK);
    assert_true(w.resumed && w.resume_step_ms == -60000 && !w.resume_has_key);
    mr_windows_finish(&w);
    assert_int_equal(resume("step=1m", 0, &none, "step=1m", &w), MR_OK); /* a rule without keys */
    assert_true(w.resumed && w.resume_has_key && w.resume_key.len == 0);
    mr_windows_finish(&w);
    static const struct {
        const char *first;
        int64_t step;
        const char *second;
    } others[] = {
        {"step=1m", 60000, ""},
        {"step=1m", 120000, "step=2m"},
        {"", 60000, "step=1m"},
        {"step=1m", 61000, "step=1m"},             /* not the beginning of one */
        {"step=1m", INT64_MAX / 60000 * 60000, "step=1m"}, /* forged */
        {"step=1m", INT64_MIN / 60000 * 60000, "step=1m"},
    };
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        assert_int_equal(resume(others[i].first, others[i].step, &key, others[i].second, &w), MR_INVALID);
        mr_windows_finish(&w);
    }
    /* A rest that no step has. */
    struct mr_rule r = rule();
    struct mr_error error;
    struct mr_buf text;
    mr_buf_init(&text, 65536);
    mr_buf_append_text(&text, "step=1m&cursor=");
    w = parse(&r, "step=1m");
    const struct mr_cursor made = {
        .question = w.question, .from_ms = INT64_MIN, .to_ms = INT64_MAX, .place = 60000, .rest = MR_BYTES("\2x")};
    mr_cursor_encode(&made, &text);
    mr_windows_finish(&w);
    assert_int_equal(mr_windows_init(&w, &r, mr_buf_bytes(&text), MR_BYTES(""), NOW, &error), MR_INVALID);
    assert_non_null(strstr(error.text, "not a cursor of a step"));
    mr_windows_finish(&w);
    mr_buf_finish(&text);
}

static void the_greatest(void **state) {
    (void)state;
    struct mr_rule r = rule();
    struct mr_error error;
    struct mr_windows w;
    assert_int_equal(mr_windows_init_top(&w, &r, MR_BYTES("metric=spend&n=3&key.country=DE&from=5&to=70000&format=csv"),
                                         MR_BYTES(""), NOW, &error),
                     MR_OK);
    assert_true(w.kind == MR_QUESTION_TOP && w.metric == 1 && w.n == 3 && w.view.shape == MR_ROWS_TOP);
    assert_true(w.scan.filter_count == 1 && w.answer == MR_ANSWER_CSV && w.step_ms == 0);
    assert_true(mr_windows_from(&w) == 5 && mr_windows_to(&w) == 70000);
    mr_windows_finish(&w);
    assert_int_equal(mr_windows_init_top(&w, &r, MR_BYTES("metric=views&step=1m"), MR_BYTES(""), NOW, &error), MR_OK);
    assert_true(w.n == MR_TOP_N && w.view.shape == MR_ROWS_TOP_STEPS && w.step_ms == 60000);
    mr_windows_finish(&w);
    static const struct {
        const char *query;
        const char *text;
    } cases[] = {
        {"", "`metric` is missing; expected one of views, spend, mean"},
        {"metric=clicks", "`metric`: `clicks`; expected one of views, spend, mean"},
        {"metric=views&order=views", "unknown query parameter `order`"},
        {"metric=views&cursor=x", "unknown query parameter `cursor`"},
        {"metric=views&n=0", "`n`: `0`; expected a whole number from 1 to 10000"},
        {"metric=views&format=columns", "expected one of json, ndjson, csv"},
        {"metric=views&step=15s", "such as 10s or 20s"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(mr_windows_init_top(&w, &r, mr_bytes_text(cases[i].query), MR_BYTES(""), NOW, &error),
                         MR_INVALID);
        if (strstr(error.text, cases[i].text) == NULL) {
            fail_msg("%s: %s", cases[i].query, error.text);
        }
        mr_windows_finish(&w);
    }
    r.window.kind = MR_WINDOW_SLIDING;
    assert_int_equal(mr_windows_init_top(&w, &r, MR_BYTES("metric=views"), MR_BYTES(""), NOW, &error), MR_INVALID);
    assert_non_null(strstr(error.text, "overlap"));
    mr_windows_finish(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults),
        cmocka_unit_test(everything),
        cmocka_unit_test(must_refuse),
        cmocka_unit_test(cursors),
        cmocka_unit_test(what_has_no_order),
        cmocka_unit_test(steps),
        cmocka_unit_test(cursors_of_steps),
        cmocka_unit_test(the_greatest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
