/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves where a stream with several sources is:
 *   1. random walks of a few sources, with silence, late beginners and producers who advance, against a model that keeps
 *      a list of what every source said: the least of those that are not silent, never back; saved and loaded in between
 *      it goes on the same;
 *   2. over MR_SOURCES_MAX the one that was silent the longest gives way, and without one the rest share a place;
 *   3. what is no saved watermark is refused, and so is memory that runs out.
 */
#include "aggregate/watermark.h"
#include "base/alloc.h"
#include "tests/aggregate/kit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

enum { SOURCES = 5, STEPS = 400 };

struct spoken {
    int64_t time_max_ms[SOURCES];
    int64_t advanced_ms[SOURCES];
    int64_t last_ms[SOURCES];
    int64_t stream_last_ms;
    int64_t watermark_ms;
};

static const struct mr_watermark_options options = {
    .out_of_orderness_ms = 7, .idle_timeout_ms = 50, .max_future_ms = 1000000};

static int64_t greater(int64_t a, int64_t b) {
    return a > b ? a : b;
}

static void model_tick(struct spoken *m, int64_t recorded_ms) {
    int64_t least = INT64_MAX;
    bool any = false;
    bool known = false;
    for (int i = 0; i < SOURCES; i++) {
        known = known || m->last_ms[i] != 0;
        if (m->last_ms[i] != 0 && recorded_ms - m->last_ms[i] < options.idle_timeout_ms) {
            int64_t reached = m->time_max_ms[i] == 0 ? INT64_MIN : m->time_max_ms[i] - options.out_of_orderness_ms;
            int64_t place = greater(reached, m->advanced_ms[i] == 0 ? INT64_MIN : m->advanced_ms[i]);
            least = place < least ? place : least;
            any = true;
        }
    }
    if (any) {
        m->watermark_ms = greater(m->watermark_ms, least);
    } else if (known && recorded_ms - m->stream_last_ms >= options.idle_timeout_ms) {
        m->watermark_ms = greater(m->watermark_ms, recorded_ms - options.out_of_orderness_ms);
    }
}

static struct mr_bytes name_of(uint32_t source, char text[16]) {
    int len = snprintf(text, 16, "source %u", source);
    return mr_bytes_of(text, source == 0 ? 0 : (size_t)len); /* one has no name */
}

static void save_and_load(struct mr_watermark *w) {
    struct mr_buf saved;
    mr_buf_init(&saved, 1 << 20);
    mr_watermark_save(w, &saved);
    mr_watermark_finish(w);
    struct mr_watermark back;
    mr_watermark_init(&back);
    struct mr_unpack u = {.rest = mr_buf_bytes(&saved)};
    assert_true(mr_watermark_load(&back, &u));
    assert_true(mr_unpack_end(&u));
    *w = back;
    mr_buf_finish(&saved);
}

static void walk(uint64_t seed) {
    struct kit_random random = {seed};
    struct spoken m = {.watermark_ms = INT64_MIN};
    struct mr_watermark w;
    mr_watermark_init(&w);
    int64_t recorded_ms = 100000;
    for (int step = 0; step < STEPS; step++) {
        char text[16];
        recorded_ms += kit_below(&random, 12);
        uint32_t events = kit_below(&random, 4);
        int64_t most_ms = INT64_MIN;
        for (uint32_t k = 0; k < events; k++) {
            uint32_t source = kit_below(&random, 1 + (uint32_t)step * SOURCES / STEPS);
            int64_t time_ms = recorded_ms - 40 + kit_below(&random, 60) - (int64_t)source * 5;
            assert_int_equal(mr_watermark_observe_source(&w, name_of(source, text), time_ms, recorded_ms), MR_OK);
            m.time_max_ms[source] = greater(m.time_max_ms[source], time_ms);
            m.last_ms[source] = recorded_ms;
            m.stream_last_ms = recorded_ms;
            most_ms = greater(most_ms, time_ms);
        }
        mr_watermark_observe(&w, &options, most_ms, recorded_ms);
        if (kit_below(&random, 9) == 0) {
            uint32_t source = kit_below(&random, SOURCES);
            bool whole = kit_below(&random, 3) == 0;
            int64_t to_ms = recorded_ms - 30 + kit_below(&random, 30);
            struct mr_bytes name = whole ? mr_bytes_of(NULL, 0) : name_of(source, text);
            assert_int_equal(mr_watermark_advance(&w, name, to_ms, recorded_ms), MR_OK);
            if (whole) {
                m.watermark_ms = greater(m.watermark_ms, to_ms);
            } else {
                m.advanced_ms[source] = greater(m.advanced_ms[source], to_ms);
                m.last_ms[source] = recorded_ms;
                m.stream_last_ms = recorded_ms;
            }
        }
        mr_watermark_tick(&w, &options, recorded_ms);
        model_tick(&m, recorded_ms);
        assert_true(w.watermark_ms == m.watermark_ms);
        if (kit_below(&random, 10) == 0) {
            save_and_load(&w);
        }
    }
    mr_watermark_finish(&w);
}

static void walks(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        walk(seed * 31);
    }
}

static void too_many_sources(void **state) {
    (void)state;
    struct mr_watermark w;
    mr_watermark_init(&w);
    char text[16];
    for (uint32_t i = 0; i < MR_SOURCES_MAX; i++) {
        assert_int_equal(mr_watermark_observe_source(&w, name_of(i + 1, text), 1000, 100 + (int64_t)i), MR_OK);
    }
    assert_int_equal(w.source_count, MR_SOURCES_MAX);
    /* Number 1 has been silent the longest. */
    assert_int_equal(mr_watermark_observe_source(&w, MR_BYTES("new"), 2000, 5000), MR_OK);
    assert_int_equal(w.source_count, MR_SOURCES_MAX);
    assert_memory_equal(w.sources[0].name, "new", 3);
    for (uint32_t i = 1; i < MR_SOURCES_MAX; i++) {
        assert_int_equal(mr_watermark_observe_source(&w, name_of(i + 1, text), 3000, 5000), MR_OK);
    }
    /* All speak: the rest share one. */
    assert_int_equal(mr_watermark_observe_source(&w, MR_BYTES("a"), 100, 5000), MR_OK);
    assert_int_equal(mr_watermark_observe_source(&w, MR_BYTES("b"), 100, 5000), MR_OK);
    assert_int_equal(w.source_count, MR_SOURCES_MAX);
    assert_int_equal(w.sources[MR_SOURCES_MAX - 1].name_len, 0);
    mr_watermark_observe(&w, &options, 3000, 5000);
    mr_watermark_tick(&w, &options, 5000);
    assert_int_equal(w.watermark_ms, 2000 - options.out_of_orderness_ms); /* "new" is the last one */
    save_and_load(&w);
    assert_memory_equal(mr_watermark_slowest(&w, &options, 5000)->name, "new", 3);
    mr_watermark_finish(&w);
}

static void what_is_no_watermark(void **state) {
    (void)state;
    struct mr_watermark w;
    mr_watermark_init(&w);
    assert_int_equal(mr_watermark_observe_source(&w, MR_BYTES("x"), 5, 5), MR_OK);
    struct mr_buf saved;
    mr_buf_init(&saved, 4096);
    mr_watermark_save(&w, &saved);
    mr_watermark_finish(&w);
    for (size_t len = 0; len < saved.len; len++) {
        mr_watermark_init(&w);
        struct mr_unpack u = {.rest = mr_bytes_of(saved.ptr, len)};
        assert_false(mr_watermark_load(&w, &u));
        mr_watermark_finish(&w);
    }
    saved.ptr[24] = 2; /* two sources, of which one is there */
    struct mr_unpack u = {.rest = mr_buf_bytes(&saved)};
    assert_false(mr_watermark_load(&w, &u));
    mr_watermark_finish(&w);
    mr_buf_finish(&saved);
    for (size_t nth = 1; nth <= 2; nth++) {
        mr_watermark_init(&w);
        mr_alloc_fail_at(nth, 0);
        assert_int_equal(mr_watermark_observe_source(&w, MR_BYTES("x"), 5, 5), MR_NO_MEMORY);
        mr_alloc_fail_at(0, 0);
        mr_watermark_finish(&w);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(walks),
        cmocka_unit_test(too_many_sources),
        cmocka_unit_test(what_is_no_watermark),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
