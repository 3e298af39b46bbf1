/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that panes come out of a flush parcel as they went in:
 *   1. random panes, one behind the other, with empty and odd-sized keys and states, and values at
 *      their ends, come back in order and field for field, but for numbers, which do not travel;
 *   2. the states can be read where they lie, whatever the sizes before them;
 *   3. a parcel is opened and closed without a leak, also half filled and when memory runs out.
 */
#include "base/alloc.h"
#include "base/pane.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

enum { PANES = 300, BYTES_MAX = 40 };

struct kept {
    struct mr_pane pane;
    struct mr_number number;
    uint8_t key[BYTES_MAX];
    uint8_t state[BYTES_MAX];
};

static uint64_t next_random(uint64_t *seed) {
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return *seed >> 16;
}

static int64_t random_int(uint64_t *seed) {
    static const int64_t ends[] = {0, -1, INT64_MIN / 2, INT64_MAX / 2, INT64_C(1700000000000)};
    return ends[next_random(seed) % 5] + (int64_t)(next_random(seed) % 100);
}

static void fill(uint8_t *bytes, uint64_t *seed) {
    for (size_t i = 0; i < BYTES_MAX; i++) {
        bytes[i] = (uint8_t)next_random(seed);
    }
}

static void random_pane(struct kept *k, uint64_t *seed) {
    fill(k->key, seed);
    fill(k->state, seed);
    k->pane = (struct mr_pane){
        .rule = (uint32_t)next_random(seed),
        .timing = (enum mr_timing)(next_random(seed) % 3),
        .final = next_random(seed) % 2 == 0,
        .window_start_ms = random_int(seed),
        .revision = next_random(seed) % 3 == 0 ? UINT64_MAX : next_random(seed),
        .events = next_random(seed),
        .key = mr_bytes_of(k->key, next_random(seed) % BYTES_MAX),
        .state = mr_bytes_of(k->state, next_random(seed) % BYTES_MAX),
        .retraction = next_random(seed) % 2 == 0,
        .index = (uint32_t)next_random(seed),
        .numbers = &k->number,
        .number_count = 1,
    };
    k->pane.window_end_ms = k->pane.window_start_ms + (int64_t)(next_random(seed) % 100000);
}

static void assert_same(const struct mr_pane *have, const struct mr_pane *want) {
    assert_int_equal(have->rule, want->rule);
    assert_int_equal(have->timing, want->timing);
    assert_int_equal(have->final, want->final);
    assert_true(have->window_start_ms == want->window_start_ms);
    assert_true(have->window_end_ms == want->window_end_ms);
    assert_true(have->revision == want->revision);
    assert_true(have->events == want->events);
    assert_true(mr_bytes_equal(have->key, want->key));
    assert_true(mr_bytes_equal(have->state, want->state));
    assert_int_equal(have->retraction, want->retraction);
    assert_int_equal(have->index, want->index);
    assert_null(have->numbers);
    assert_int_equal(have->number_count, 0);
}

static void panes_come_back_as_they_were(void **state) {
    (void)state;
    static struct kept kept[PANES];
    uint64_t seed = 7;
    struct mr_buf buf;
    mr_buf_init(&buf, 1 << 20);
    for (int i = 0; i < PANES; i++) {
        random_pane(&kept[i], &seed);
        mr_pane_append(&buf, &kept[i].pane);
        assert_int_equal(buf.len % 8, 0);
        mr_buf_check(&buf);
    }
    assert_false(buf.failed);
    struct mr_bytes rest = mr_buf_bytes(&buf);
    struct mr_pane pane;
    for (int i = 0; i < PANES; i++) {
        assert_true(mr_pane_next(&rest, &pane));
        assert_same(&pane, &kept[i].pane);
        assert_int_equal((uintptr_t)pane.state.ptr % 8, 0);
    }
    assert_int_equal(rest.len, 0);
    assert_false(mr_pane_next(&rest, &pane));
    mr_buf_finish(&buf);
}

static void a_parcel_opens_and_closes(void **state) {
    (void)state;
    mr_flush_close(NULL);
    struct mr_flush *flush = mr_flush_open(42);
    assert_non_null(flush);
    assert_int_equal(flush->seq, 42);
    assert_int_equal(flush->pane_count + flush->dead_count + flush->final_count, 0);
    assert_null(flush->finals);
    struct mr_bytes none = mr_buf_bytes(&flush->panes);
    struct mr_pane pane = {.rule = 3};
    assert_false(mr_pane_next(&none, &pane));
    mr_pane_append(&flush->panes, &pane);
    mr_buf_append_text(&flush->dead, "x");
    flush->finals = mr_alloc(sizeof *flush->finals);
    assert_non_null(flush->finals);
    flush->final_count = 1;
    assert_false(flush->panes.failed || flush->dead.failed);
    mr_flush_close(flush); /* the address sanitizer looks for leaks */
    mr_alloc_fail_at(1, 0);
    assert_null(mr_flush_open(1));
    mr_alloc_fail_at(0, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(panes_come_back_as_they_were),
        cmocka_unit_test(a_parcel_opens_and_closes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
