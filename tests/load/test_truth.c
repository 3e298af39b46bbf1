/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that the truth is what a plain server makes of the bytes: each slot's event is written, read back, looked up
 * among the ids seen, and added to an array; and that allocations that fail change nothing.
 */
#include "bench/load/truth.h"

#include "base/alloc.h"
#include "bench/load/random.h"
#include "bench/load/reader.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

enum { SLOTS = 6000, BATCH = 100, IDS = 1 << 14 };

struct model {
    struct {
        int64_t window_ms;
        uint64_t group;
        uint64_t count;
        int64_t second;
    } rows[SLOTS];
    uint32_t row_count;
    char ids[IDS][33];
    struct mr_load_verdicts verdicts;
};

/* Whether it is new. */
static bool remember(struct model *m, struct mr_bytes id) {
    uint64_t at = 0;
    for (size_t i = 0; i < id.len; i++) {
        at = mr_load_mix(at + id.ptr[i]);
    }
    for (;; at++) {
        char *slot = m->ids[at % IDS];
        if (slot[0] == 0) {
            memcpy(slot, id.ptr, 32);
            return true;
        }
        if (memcmp(slot, id.ptr, 32) == 0) {
            return false;
        }
    }
}

static void count(struct model *m, int64_t window_ms, uint64_t group, int64_t value, enum mr_load_second kind) {
    uint32_t i = 0;
    while (i < m->row_count && (m->rows[i].window_ms != window_ms || m->rows[i].group != group)) {
        i++;
    }
    if (i == m->row_count) {
        m->row_count++;
        m->rows[i].window_ms = window_ms;
        m->rows[i].group = group;
    }
    m->rows[i].count++;
    if (kind == MR_LOAD_MAX_WHOLE) {
        m->rows[i].second = value > m->rows[i].second ? value : m->rows[i].second;
    } else {
        m->rows[i].second += value;
    }
}

struct workload {
    enum mr_load_kind_of_event kind;
    const char *id;
    const char *time;
    const char *group;
    const char *value; /* NULL: none */
    double scale;
    size_t group_at; /* where its number begins */
};

static const struct workload workloads[] = {
    {MR_LOAD_PAGES, "id", "ts", "key", "value", 8, sizeof "/page/" - 1},
    {MR_LOAD_YAHOO, "event_id", "event_time", "ad_id", NULL, 0, 0},
    {MR_LOAD_BIDS, "id", "dateTime", "auction", "price", 1, 0},
};

static struct mr_bytes member(struct mr_bytes event, const char *name) {
    struct mr_bytes text;
    assert_true(mr_load_member(event, name, &text));
    return mr_load_unquoted(text);
}

/* An ad's campaign, from the table that --print-ads prints. */
static uint64_t campaign_of(const struct mr_buf *ads, struct mr_bytes ad) {
    const char *row = memmem(ads->ptr, ads->len, ad.ptr, ad.len);
    assert_non_null(row);
    return strtoull(row + ad.len + sizeof ",campaign-" - 1, NULL, 10);
}

static void take(struct model *m, struct mr_bytes event, const struct workload *w, const struct mr_buf *ads,
                 int64_t start_ms) {
    bool ad = w->kind == MR_LOAD_YAHOO;
    bool counts = !ad || mr_bytes_equal(member(event, "event_type"), MR_BYTES("view"));
    int64_t time_ms = strtoll((const char *)member(event, w->time).ptr, NULL, 10);
    if (!remember(m, member(event, w->id))) {
        m->verdicts.duplicate++;
        return;
    }
    if (counts && time_ms < start_ms - 3600000) { /* what no rule takes is late for none */
        m->verdicts.late++;
        return;
    }
    m->verdicts.accepted++;
    if (!counts) {
        return;
    }
    double value = 0;
    assert_true(w->value == NULL || mr_load_number(member(event, w->value), &value));
    struct mr_bytes group = member(event, w->group);
    count(m, time_ms - time_ms % 10000,
          ad ? campaign_of(ads, group) : strtoull((const char *)group.ptr + w->group_at, NULL, 10),
          (int64_t)(value * w->scale), w->kind == MR_LOAD_BIDS ? MR_LOAD_MAX_WHOLE : MR_LOAD_SUM_EIGHTHS);
}

static void compare(const struct model *m, const struct mr_load_table *table, const struct mr_load_verdicts *verdicts) {
    assert_int_equal(verdicts->accepted, m->verdicts.accepted);
    assert_int_equal(verdicts->duplicate, m->verdicts.duplicate);
    assert_int_equal(verdicts->late, m->verdicts.late);
    assert_true(verdicts->duplicate > 0 && verdicts->late > 0);
    assert_int_equal(table->used, m->row_count);
    for (uint32_t i = 0; i < m->row_count; i++) {
        const struct mr_load_row *row = mr_load_table_find(table, m->rows[i].window_ms, m->rows[i].group);
        assert_non_null(row);
        assert_int_equal(row->count, m->rows[i].count);
        assert_int_equal(row->second, m->rows[i].second);
    }
}

static void is_what_a_server_makes_of_the_bytes(void **state) {
    (void)state;
    struct mr_buf ads;
    mr_buf_init(&ads, 1 << 20);
    assert_int_equal(mr_load_events_print_ads(&ads), MR_OK);
    for (size_t i = 0; i < sizeof workloads / sizeof workloads[0]; i++) {
        const struct workload *w = &workloads[i];
        struct mr_load_plan plan;
        struct mr_load_events events;
        struct mr_load_pick pick = {0};
        struct mr_load_table table;
        struct mr_load_verdicts verdicts;
        struct model *m = calloc(1, sizeof *m);
        assert_non_null(m);
        const struct mr_load_plan_options options = {
            .seed = 11, .batch = BATCH, .repeat_events = 0.1, .repeat_requests = 0.1, .late = 0.05, .repeat_delay = 300,
            .late_from = 2 * BATCH, .disorder_ms = 3000, .timed = true, .start_ms = INT64_C(1767225605000), .ms_per_event = 9,
        };
        assert_int_equal(mr_load_plan_init(&plan, &options), MR_OK);
        assert_int_equal(mr_load_pick_open_zipf(&pick, 50, 0.99), MR_OK);
        assert_int_equal(mr_load_events_open(&events, w->kind, 11, w->kind == MR_LOAD_PAGES ? &pick : NULL), MR_OK);
        mr_load_pick_close(&pick);
        for (uint64_t n = 0; n < SLOTS; n++) {
            uint8_t text[MR_LOAD_EVENT_BYTES_MAX];
            uint64_t source = mr_load_plan_slot(&plan, n).source;
            size_t len = mr_load_events_write(&events, source, mr_load_plan_time(&plan, source), text);
            take(m, mr_bytes_of(text, len), w, &ads, options.start_ms);
        }
        mr_load_table_init(&table, mr_load_names_of(events.kind)->kind);
        assert_int_equal(mr_load_truth(&plan, &events, SLOTS, &table, &verdicts), MR_OK);
        compare(m, &table, &verdicts);
        mr_load_table_finish(&table);
        mr_load_events_close(&events);
        mr_load_plan_finish(&plan);
        free(m);
    }
    mr_buf_finish(&ads);
}

static void no_memory_changes_nothing(void **state) {
    (void)state;
    struct mr_load_table table;
    mr_load_table_init(&table, MR_LOAD_SUM_EIGHTHS);
    for (uint64_t i = 0; i < 5000; i++) {
        uint64_t used = table.used;
        mr_alloc_fail_at(1, 0);
        if (mr_load_table_add(&table, 10000, i, 1, 3) != MR_OK) {
            mr_alloc_fail_at(0, 0);
            assert_int_equal(table.used, used);
            assert_null(mr_load_table_find(&table, 10000, i));
            assert_int_equal(mr_load_table_add(&table, 10000, i, 1, 3), MR_OK);
        }
        mr_alloc_fail_at(0, 0);
        assert_int_equal(mr_load_table_find(&table, 10000, i)->second, 3);
    }
    assert_int_equal(table.used, 5000);
    mr_load_table_finish(&table);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(is_what_a_server_makes_of_the_bytes),
        cmocka_unit_test(no_memory_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
