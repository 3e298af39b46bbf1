/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that a client reads what a row holds:
 *   1. whole rows in JSON, NDJSON and CSV, written by hand: all kinds of key values and numbers;
 *   2. a subset of the metrics, a rule without keys, numbers that overflowed, years without a text;
 *   3. fields of CSV are quoted where RFC 4180 asks for it;
 *   4. rows that do not fit their rule are told apart, at every cut of the key, also where panes are rows;
 *   5. folding random rows gives those of an oracle that adds up the overflow groups of each
 * window, whether states are aligned or not, and stops when told; where panes are rows they stay apart;
 *   6. what steps, the greatest, and panes show instead or more; which rows are approximate.
 */
#include "server/rows.h"

#include "base/alloc.h"
#include "base/key.h"
#include "event/batch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define START_MS INT64_C(1700000040000)

struct fixture {
    struct mr_rule rule;
    struct mr_buf key;
    struct mr_buf out;
    uint8_t *state;
};

static void add_metric(struct mr_rule *rule, const char *name, enum mr_metric_kind kind) {
    rule->metrics[rule->metric_count++] = (struct mr_metric){
        .name = mr_bytes_text(name),
        .kind = kind,
    };
}

/* Keys country and paid; metrics views, spend, lowest, highest, mean. */
static void fixture_init(struct fixture *f) {
    *f = (struct fixture){.rule = {.key_count = 2, .final_floor_ms = INT64_MIN}};
    f->rule.key_names[0] = MR_BYTES("country");
    f->rule.key_names[1] = MR_BYTES("paid");
    add_metric(&f->rule, "views", MR_METRIC_COUNT);
    add_metric(&f->rule, "spend", MR_METRIC_SUM);
    add_metric(&f->rule, "lowest", MR_METRIC_MIN);
    add_metric(&f->rule, "highest", MR_METRIC_MAX);
    add_metric(&f->rule, "mean", MR_METRIC_AVG);
    f->rule.state_len = mr_metric_layout(f->rule.metrics, f->rule.metric_count, 0);
    mr_buf_init(&f->key, 4096);
    mr_buf_init(&f->out, 1 << 20);
    f->state = mr_alloc(f->rule.state_len);
    assert_non_null(f->state);
    memset(f->state, 0, f->rule.state_len);
}

static void fixture_finish(struct fixture *f) {
    mr_buf_finish(&f->key);
    mr_buf_finish(&f->out);
    mr_free(f->state);
}

static void add_value(struct fixture *f, union mr_value value, uint8_t kind) {
    struct mr_column column = {.values = &value, .kinds = &kind};
    const uint32_t event = 0;
    for (uint32_t m = 0; m < f->rule.metric_count; m++) {
        const struct mr_metric *metric = &f->rule.metrics[m];
        const struct mr_column *of = metric->kind == MR_METRIC_COUNT ? NULL : &column;
        assert_int_equal(mr_metric_add(metric, NULL, of, &event, &f->state, 1), MR_OK);
    }
}

static void add_int(struct fixture *f, int64_t i) {
    add_value(f, (union mr_value){.i = i}, MR_VALUE_INT);
}

static void add_double(struct fixture *f, double d) {
    add_value(f, (union mr_value){.d = d}, MR_VALUE_DOUBLE);
}

static void add_key(struct fixture *f, enum mr_key_tag tag, struct mr_bytes text) {
    mr_key_append(&f->key, (struct mr_key_value){tag, text});
}

static struct mr_row row_of(const struct fixture *f) {
    return (struct mr_row){
        .window_start_ms = START_MS,
        .window_end_ms = START_MS + 10000,
        .events = 3,
        .revision = 17,
        .key = mr_buf_bytes(&f->key),
        .state = mr_bytes_of(f->state, f->rule.state_len),
    };
}

static void assert_out(struct fixture *f, const char *want) {
    mr_buf_append_char(&f->out, 0);
    assert_false(f->out.failed);
    assert_string_equal((const char *)f->out.ptr, want);
    mr_buf_clear(&f->out);
}

#define TIMES_JSON                                                                                 \
    "{\"window_start\":\"2023-11-14T22:14:00.000Z\",\"window_end\":\"2023-11-14T22:14:10.000Z\","
#define TIMES_CSV "2023-11-14T22:14:00.000Z,2023-11-14T22:14:10.000Z,"

static void a_row_in_all_formats(void **state) {
    (void)state;
    struct fixture f;
    fixture_init(&f);
    add_key(&f, MR_KEY_STRING, MR_BYTES("D\"E"));
    add_key(&f, MR_KEY_TRUE, MR_BYTES(""));
    add_int(&f, 3);
    add_double(&f, 0.5);
    add_int(&f, -1);
    struct mr_row row = row_of(&f);
    const struct mr_rows_view view = {.rule = &f.rule, .metrics = MR_ROWS_METRICS_ALL};
    mr_rows_ndjson(&f.out, &view, &row);
    mr_rows_ndjson(&f.out, &view, &row);
#define ROW                                                                                        \
    TIMES_JSON                                                                                     \
        "\"key\":{\"country\":\"D\\\"E\",\"paid\":true},\"metrics\":{\"views\":3,"                 \
        "\"spend\":2.5,\"lowest\":-1,\"highest\":3,\"mean\":0.8333333333333334},\"events\":3,"     \
        "\"revision\":17,\"final\":false}"
    assert_out(&f, ROW "\n" ROW "\n");
    struct mr_json json;
    mr_json_init(&json, &f.out);
    mr_json_array_begin(&json);
    mr_rows_json(&json, &view, &row);
    mr_rows_json(&json, &view, &row);
    mr_json_array_end(&json);
    assert_out(&f, "[" ROW "," ROW "]");
#undef ROW
    row.final = true;
    mr_rows_csv_header(&f.out, &view);
    mr_rows_csv(&f.out, &view, &row);
    assert_out(&f, "window_start,window_end,country,paid,views,spend,lowest,highest,mean,events,"
                   "revision,final\r\n" TIMES_CSV
                   "\"D\"\"E\",true,3,2.5,-1,3,0.8333333333333334,3,17,true\r\n");
    fixture_finish(&f);
}

static void key_values_of_all_kinds(void **state) {
    (void)state;
    static const struct {
        enum mr_key_tag tag;
        const char *text;
        size_t len;
        const char *json;
        const char *csv;
    } cases[] = {
        {MR_KEY_NULL, "", 0, "null", ""},
        {MR_KEY_TRUE, "", 0, "true", "true"},
        {MR_KEY_FALSE, "", 0, "false", "false"},
        {MR_KEY_NUMBER, "1.50", 4, "1.50", "1.50"},
        {MR_KEY_NUMBER, "99999999999999999999", 20, "99999999999999999999", "99999999999999999999"},
        {MR_KEY_STRING, "17", 2, "\"17\"", "17"},
        {MR_KEY_STRING, "", 0, "\"\"", "\"\""},
        {MR_KEY_STRING, "a\nb", 3, "\"a\\nb\"", "\"a\nb\""},
        {MR_KEY_STRING, "a\rb", 3, "\"a\\rb\"", "\"a\rb\""},
        {MR_KEY_STRING, "a,b", 3, "\"a,b\"", "\"a,b\""},
        {MR_KEY_STRING, "a b", 3, "\"a b\"", "a b"},
        {MR_KEY_STRING, "\"", 1, "\"\\\"\"", "\"\"\"\""},
    };
    struct fixture f;
    fixture_init(&f);
    const struct mr_rows_view view = {.rule = &f.rule, .metrics = 0};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        mr_buf_clear(&f.key);
        add_key(&f, cases[i].tag, mr_bytes_of(cases[i].text, cases[i].len));
        add_key(&f, MR_KEY_STRING, MR_BYTES("x"));
        struct mr_row row = row_of(&f);
        char want[300];
        (void)snprintf(want, sizeof want,
                       TIMES_JSON "\"key\":{\"country\":%s,\"paid\":\"x\"},"
                                  "\"metrics\":{},\"events\":3,\"revision\":17,\"final\":false}\n",
                       cases[i].json);
        mr_rows_ndjson(&f.out, &view, &row);
        assert_out(&f, want);
        (void)snprintf(want, sizeof want, TIMES_CSV "%s,x,3,17,false\r\n", cases[i].csv);
        mr_rows_csv(&f.out, &view, &row);
        assert_out(&f, want);
    }
    fixture_finish(&f);
}

static void the_overflow_group_and_empty_metrics(void **state) {
    (void)state;
    struct fixture f;
    fixture_init(&f);
    add_key(&f, MR_KEY_OTHER, MR_BYTES("\5"));
    struct mr_row row = row_of(&f);
    const struct mr_rows_view view = {.rule = &f.rule, .metrics = 1u << 1 | 1u << 2 | 1u << 4};
    mr_rows_ndjson(&f.out, &view, &row);
    assert_out(&f, TIMES_JSON "\"key\":{\"country\":\"(other)\",\"paid\":\"(other)\"},\"metrics\":"
                              "{\"spend\":0,\"lowest\":null,\"mean\":null},\"events\":3,"
                              "\"revision\":17,\"final\":false}\n");
    mr_rows_csv_header(&f.out, &view);
    mr_rows_csv(&f.out, &view, &row);
    assert_out(
        &f,
        "window_start,window_end,country,paid,spend,lowest,mean,events,revision,final\r\n" TIMES_CSV
        "(other),(other),0,,,3,17,false\r\n");
    fixture_finish(&f);
}

static void sums_that_overflow_say_so(void **state) {
    (void)state;
    struct fixture f;
    fixture_init(&f);
    f.rule.key_count = 0;
    add_int(&f, INT64_MAX);
    add_int(&f, INT64_MAX);
    struct mr_row row = row_of(&f);
    const struct mr_rows_view both = {.rule = &f.rule, .metrics = 1u << 1 | 1u << 3};
    mr_rows_ndjson(&f.out, &both, &row);
    assert_out(&f, TIMES_JSON "\"key\":{},\"metrics\":{\"spend\":18446744073709552000,"
                              "\"highest\":9223372036854775807},\"events\":3,\"revision\":17,"
                              "\"final\":false,\"overflow\":[\"spend\"]}\n");
    mr_rows_csv_header(&f.out, &both);
    mr_rows_csv(&f.out, &both, &row);
    assert_out(&f, "window_start,window_end,spend,highest,events,revision,final\r\n" TIMES_CSV
                   "18446744073709552000,9223372036854775807,3,17,false\r\n");
    const struct mr_rows_view one = {.rule = &f.rule, .metrics = 1u << 3}; /* what is not shown is not told of */
    mr_rows_ndjson(&f.out, &one, &row);
    assert_out(&f,
               TIMES_JSON "\"key\":{},\"metrics\":{\"highest\":9223372036854775807},\"events\":3,"
                          "\"revision\":17,\"final\":false}\n");
    add_double(&f, 1.7e308);
    add_double(&f, 1.7e308);
    const struct mr_rows_view sum = {.rule = &f.rule, .metrics = 1u << 1};
    mr_rows_ndjson(&f.out, &sum, &row);
    assert_out(&f,
               TIMES_JSON "\"key\":{},\"metrics\":{\"spend\":null},\"events\":3,\"revision\":17,"
                          "\"final\":false,\"overflow\":[\"spend\"]}\n");
    mr_rows_csv(&f.out, &sum, &row);
    assert_out(&f, TIMES_CSV ",3,17,false\r\n");
    fixture_finish(&f);
}

static void years_and_counts_at_their_ends(void **state) {
    (void)state;
    struct fixture f;
    fixture_init(&f);
    f.rule.key_count = 0;
    const struct mr_rows_view view = {.rule = &f.rule, .metrics = 0};
    struct mr_row row = row_of(&f);
    row.window_start_ms = INT64_C(-62167219200001);
    row.window_end_ms = INT64_C(253402300800000);
    row.events = UINT64_MAX;
    row.revision = UINT64_MAX;
    mr_rows_ndjson(&f.out, &view, &row);
    assert_out(&f, "{\"window_start\":null,\"window_end\":null,\"key\":{},\"metrics\":{},"
                   "\"events\":18446744073709551615,\"revision\":18446744073709551615,"
                   "\"final\":false}\n");
    row.window_start_ms++;
    row.window_end_ms--;
    mr_rows_csv(&f.out, &view, &row);
    assert_out(&f, "0000-01-01T00:00:00.000Z,9999-12-31T23:59:59.999Z,18446744073709551615,"
                   "18446744073709551615,false\r\n");
    fixture_finish(&f);
}

static void awkward_names_are_quoted(void **state) {
    (void)state;
    struct fixture f;
    fixture_init(&f);
    f.rule.key_names[0] = MR_BYTES("a,b");
    f.rule.key_names[1] = MR_BYTES("say \"hi\"");
    const struct mr_rows_view view = {.rule = &f.rule, .metrics = 1};
    mr_rows_csv_header(&f.out, &view);
    assert_out(
        &f, "window_start,window_end,\"a,b\",\"say \"\"hi\"\"\",views,events,revision,final\r\n");
    fixture_finish(&f);
}

static void shapes(void **state) {
    (void)state;
    struct fixture f;
    fixture_init(&f);
    add_key(&f, MR_KEY_STRING, MR_BYTES("DE"));
    add_key(&f, MR_KEY_FALSE, MR_BYTES(""));
    struct mr_row row = row_of(&f);
    struct mr_rows_view view = {.rule = &f.rule, .metrics = 1, .shape = MR_ROWS_STEPS, .windows = 60};
#define KEY "\"key\":{\"country\":\"DE\",\"paid\":false},\"metrics\":{\"views\":0},\"events\":3"
    mr_rows_ndjson(&f.out, &view, &row);
    assert_out(&f, TIMES_JSON KEY ",\"revision\":17,\"final\":false,\"windows\":60}\n");
    mr_rows_csv_header(&f.out, &view);
    mr_rows_csv(&f.out, &view, &row);
    assert_out(&f, "window_start,window_end,country,paid,views,events,revision,final,windows\r\n" TIMES_CSV
                   "DE,false,0,3,17,false,60\r\n");
    view.shape = MR_ROWS_TOP;
    mr_rows_ndjson(&f.out, &view, &row);
    assert_out(&f, "{" KEY "}\n");
    mr_rows_csv_header(&f.out, &view);
    mr_rows_csv(&f.out, &view, &row);
    assert_out(&f, "country,paid,views,events\r\nDE,false,0,3\r\n");
    view.shape = MR_ROWS_TOP_STEPS;
    mr_rows_ndjson(&f.out, &view, &row);
    assert_out(&f, TIMES_JSON KEY "}\n");
    mr_rows_csv_header(&f.out, &view);
    mr_rows_csv(&f.out, &view, &row);
    assert_out(&f, "window_start,window_end,country,paid,views,events\r\n" TIMES_CSV "DE,false,0,3\r\n");
    /* Of the second stream some were decided here. */
    struct mr_local locals[2] = {{.count = 0}, {.count = 1}};
    locals[1].spans[0] = (struct mr_local_span){.event_from_ms = START_MS + 9999, .event_to_ms = START_MS + 20000};
    view.shape = MR_ROWS_WINDOWS;
    view.locals = locals;
    view.local_count = 2;
    mr_rows_ndjson(&f.out, &view, &row);
    assert_out(&f, TIMES_JSON KEY ",\"revision\":17,\"final\":false,\"approximate\":true}\n");
    view.local_count = 1;
    mr_rows_ndjson(&f.out, &view, &row);
    assert_out(&f, TIMES_JSON KEY ",\"revision\":17,\"final\":false}\n");
    fixture_finish(&f);
}

static void panes_that_are_rows(void **state) {
    (void)state;
    struct fixture f;
    fixture_init(&f);
    f.rule.trigger.panes = MR_DISCARDING;
    add_key(&f, MR_KEY_STRING, MR_BYTES("DE"));
    add_key(&f, MR_KEY_FALSE, MR_BYTES(""));
    struct mr_row row = row_of(&f);
    assert_false(mr_rows_fits(&f.rule, &row));
    add_key(&f, MR_KEY_PANE, MR_BYTES("\0\0\1\2"));
    row = row_of(&f);
    for (size_t len = 0; len < f.key.len; len++) {
        row.key.len = len;
        assert_false(mr_rows_fits(&f.rule, &row));
    }
    row = row_of(&f);
    assert_true(mr_rows_fits(&f.rule, &row));
    assert_int_equal(mr_rows_pane(&f.rule, row.key), 258);
    const struct mr_rows_view view = {.rule = &f.rule, .metrics = 1};
    mr_rows_ndjson(&f.out, &view, &row);
    assert_out(&f, TIMES_JSON KEY ",\"revision\":17,\"final\":false,\"pane\":258}\n");
    mr_rows_csv_header(&f.out, &view);
    mr_rows_csv(&f.out, &view, &row);
    assert_out(&f, "window_start,window_end,country,paid,views,events,revision,final,pane\r\n" TIMES_CSV
                   "DE,false,0,3,17,false,258\r\n");
    f.rule.trigger.panes = MR_ACCUMULATING;
    assert_false(mr_rows_fits(&f.rule, &row));
    assert_int_equal(mr_rows_pane(&f.rule, row.key), -1);
    add_key(&f, MR_KEY_PANE, MR_BYTES("\0\0\0\0")); /* two of them */
    row = row_of(&f);
    f.rule.trigger.panes = MR_DISCARDING;
    assert_false(mr_rows_fits(&f.rule, &row));
    mr_buf_clear(&f.key);
    add_key(&f, MR_KEY_OTHER, MR_BYTES("\3"));
    row = row_of(&f);
    assert_false(mr_rows_fits(&f.rule, &row));
    add_key(&f, MR_KEY_PANE, MR_BYTES("\0\0\0\0"));
    row = row_of(&f);
    assert_true(mr_rows_fits(&f.rule, &row));
    f.rule.trigger.panes = MR_ACCUMULATING;
    assert_false(mr_rows_fits(&f.rule, &row));
    fixture_finish(&f);
#undef KEY
}

static bool count_row(void *ctx, const struct mr_row *row) {
    (void)row;
    (*(int *)ctx)++;
    return true;
}

static void overflow_panes_stay_apart(void **state) {
    (void)state;
    struct fixture f;
    fixture_init(&f);
    f.rule.trigger.panes = MR_DISCARDING;
    struct mr_rows_fold fold;
    int rows = 0;
    assert_int_equal(mr_rows_fold_init(&fold, &f.rule, count_row, &rows), MR_OK);
    for (uint8_t shard = 0; shard < 3; shard++) {
        mr_buf_clear(&f.key);
        add_key(&f, MR_KEY_OTHER, mr_bytes_of(&shard, 1));
        add_key(&f, MR_KEY_PANE, MR_BYTES("\0\0\0\0"));
        struct mr_row row = row_of(&f);
        assert_true(mr_rows_fold_push(&fold, &row));
    }
    mr_rows_fold_end(&fold);
    mr_rows_fold_finish(&fold);
    assert_int_equal(rows, 3);
    fixture_finish(&f);
}

static void only_rows_of_the_rule_fit(void **state) {
    (void)state;
    struct fixture f;
    fixture_init(&f);
    add_key(&f, MR_KEY_STRING, MR_BYTES("ab"));
    add_key(&f, MR_KEY_NUMBER, MR_BYTES("1"));
    struct mr_row row = row_of(&f);
    assert_true(mr_rows_fits(&f.rule, &row));
    for (size_t len = 0; len < f.key.len; len++) {
        row.key.len = len;
        assert_false(mr_rows_fits(&f.rule, &row));
    }
    row = row_of(&f);
    row.state.len--;
    assert_false(mr_rows_fits(&f.rule, &row));
    add_key(&f, MR_KEY_NULL, MR_BYTES("")); /* a value too many */
    row = row_of(&f);
    assert_false(mr_rows_fits(&f.rule, &row));
    mr_buf_clear(&f.key);
    add_key(&f, MR_KEY_NULL, MR_BYTES(""));
    add_key(&f, MR_KEY_OTHER, MR_BYTES("\1")); /* the overflow group stands for all columns */
    row = row_of(&f);
    assert_false(mr_rows_fits(&f.rule, &row));
    fixture_finish(&f);
}

enum { WINDOWS = 5, SHARDS = 4, ROUNDS = 300, ROWS_MAX = WINDOWS * (SHARDS + 2) };

/* What is compared of a row: the state by the numbers of two metrics. */
struct plain_row {
    int64_t start_ms;
    uint64_t events;
    uint64_t revision;
    bool final;
    bool other;
    uint8_t shard; /* of the key */
    int64_t spend;
    int64_t highest;
};

struct plain_rows {
    const struct mr_rule *rule;
    struct plain_row rows[ROWS_MAX];
    size_t count;
    size_t stop;
};

static bool keep_plain(void *ctx, const struct mr_row *row) {
    struct plain_rows *list = ctx;
    assert_true(list->count < list->stop);
    assert_true(mr_rows_fits(list->rule, row));
    list->rows[list->count++] = (struct plain_row){
        .start_ms = row->window_start_ms,
        .events = row->events,
        .revision = row->revision,
        .final = row->final,
        .other = mr_key_is_other(row->key),
        .shard = row->key.ptr[1],
        .spend = mr_metric_finish(list->rule->metrics, 1, row->state, NULL).i,
        .highest = mr_metric_finish(list->rule->metrics, 3, row->state, NULL).i,
    };
    return list->count < list->stop;
}

static uint64_t next_random(uint64_t *seed) {
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return *seed >> 16;
}

static void expect(struct plain_rows *list, const struct plain_row *row) {
    struct plain_row *last = list->count == 0 ? NULL : &list->rows[list->count - 1];
    if (last != NULL && last->other && row->other && last->start_ms == row->start_ms) {
        last->events += row->events;
        last->revision = last->revision > row->revision ? last->revision : row->revision;
        last->final = last->final && row->final;
        last->shard = row->shard;
        last->spend += row->spend;
        last->highest = last->highest > row->highest ? last->highest : row->highest;
        return;
    }
    list->rows[list->count++] = *row;
}

/* A row of one value; its state lies `shift` bytes behind an aligned address. */
static void push_random(struct fixture *f, uint64_t *seed, struct mr_rows_fold *fold,
                        int64_t window, struct mr_key_value first, struct plain_rows *want,
                        bool *more) {
    int64_t value = (int64_t)(next_random(seed) % 1000) - 500;
    memset(f->state, 0, f->rule.state_len);
    add_int(f, value);
    mr_buf_clear(&f->key);
    mr_key_append(&f->key, first);
    if (first.tag != MR_KEY_OTHER) {
        add_key(f, MR_KEY_NULL, MR_BYTES(""));
    }
    uint8_t *memory = mr_alloc(f->rule.state_len + 8u);
    assert_non_null(memory);
    size_t shift = next_random(seed) % 8;
    memcpy(memory + shift, f->state, f->rule.state_len);
    struct mr_row row = row_of(f);
    row.state.ptr = memory + shift;
    row.window_start_ms = START_MS + window * 10000;
    row.window_end_ms = row.window_start_ms + 10000;
    row.events = next_random(seed) % 100;
    row.revision = next_random(seed) % 100;
    row.final = next_random(seed) % 3 != 0;
    const struct plain_row plain = {
        row.window_start_ms,       row.events,     row.revision, row.final,
        first.tag == MR_KEY_OTHER, row.key.ptr[1], value,        value};
    expect(want, &plain);
    if (*more) {
        *more = mr_rows_fold_push(fold, &row);
    }
    mr_free(memory); /* nothing of it is kept */
}

static void fold_round(struct fixture *f, uint64_t *seed) {
    struct plain_rows want = {.rule = &f->rule};
    struct plain_rows have = {.rule = &f->rule, .stop = 1 + next_random(seed) % ROWS_MAX};
    struct mr_rows_fold fold;
    assert_int_equal(mr_rows_fold_init(&fold, &f->rule, keep_plain, &have), MR_OK);
    bool more = true;
    for (int64_t window = 0; window < WINDOWS; window++) {
        if (next_random(seed) % 2 == 0) {
            const struct mr_key_value first = {MR_KEY_NUMBER, MR_BYTES("5")};
            push_random(f, seed, &fold, window, first, &want, &more);
        }
        for (uint8_t shard = 0; shard < SHARDS; shard++) {
            if (next_random(seed) % 2 == 0) {
                const struct mr_key_value first = {MR_KEY_OTHER, mr_bytes_of(&shard, 1)};
                push_random(f, seed, &fold, window, first, &want, &more);
            }
        }
        if (next_random(seed) % 2 == 0) {
            const struct mr_key_value first = {MR_KEY_STRING, MR_BYTES("z")};
            push_random(f, seed, &fold, window, first, &want, &more);
        }
    }
    if (more) {
        mr_rows_fold_end(&fold);
    }
    mr_rows_fold_finish(&fold);
    assert_int_equal(have.count, want.count < have.stop ? want.count : have.stop);
    for (size_t i = 0; i < have.count; i++) {
        const struct plain_row *a = &have.rows[i];
        const struct plain_row *b = &want.rows[i];
        assert_true(a->start_ms == b->start_ms && a->events == b->events);
        assert_true(a->revision == b->revision && a->final == b->final);
        assert_true(a->other == b->other && a->shard == b->shard);
        assert_true(a->spend == b->spend && a->highest == b->highest);
    }
}

static void overflow_groups_become_one(void **state) {
    (void)state;
    struct fixture f;
    fixture_init(&f);
    uint64_t seed = 11;
    for (int i = 0; i < ROUNDS; i++) {
        fold_round(&f, &seed);
    }
    fixture_finish(&f);
}

static void a_fold_without_memory_is_refused(void **state) {
    (void)state;
    struct fixture f;
    fixture_init(&f);
    struct mr_rows_fold fold;
    mr_alloc_fail_at(1, 0);
    assert_int_equal(mr_rows_fold_init(&fold, &f.rule, keep_plain, NULL), MR_NO_MEMORY);
    mr_alloc_fail_at(0, 0);
    mr_rows_fold_finish(&fold);
    fixture_finish(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_row_in_all_formats),
        cmocka_unit_test(key_values_of_all_kinds),
        cmocka_unit_test(the_overflow_group_and_empty_metrics),
        cmocka_unit_test(sums_that_overflow_say_so),
        cmocka_unit_test(years_and_counts_at_their_ends),
        cmocka_unit_test(awkward_names_are_quoted),
        cmocka_unit_test(shapes),
        cmocka_unit_test(panes_that_are_rows),
        cmocka_unit_test(overflow_panes_stay_apart),
        cmocka_unit_test(only_rows_of_the_rule_fit),
        cmocka_unit_test(overflow_groups_become_one),
        cmocka_unit_test(a_fold_without_memory_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
