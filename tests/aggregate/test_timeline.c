/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that a timeline is a sorted map: random insertions and removals (in order, out of order,
 * at the edges of int64) against a plain sorted array, all questions compared around every change;
 * and that it survives an allocation that fails, whichever.
 */
#include "aggregate/timeline.h"
#include "base/alloc.h"
#include "tests/aggregate/kit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

enum { TIMES_MAX = 2000 };

struct oracle {
    int64_t times[TIMES_MAX];
    uint32_t len;
};

static uint32_t rank(const struct oracle *o, int64_t time) {
    uint32_t i = 0;
    while (i < o->len && o->times[i] < time) {
        i++;
    }
    return i;
}

/* An item that tells its time; never NULL. */
static void *item_of(int64_t time) {
    return (void *)(uintptr_t)((uint64_t)time * 2 + 1);
}

static void *at(const struct oracle *o, uint32_t i) {
    return i < o->len ? item_of(o->times[i]) : NULL;
}

static void ask(const struct mr_timeline *t, const struct oracle *o, int64_t time) {
    uint32_t i = rank(o, time);
    bool there = i < o->len && o->times[i] == time;
    assert_ptr_equal(mr_timeline_find(t, time), there ? item_of(time) : NULL);
    assert_ptr_equal(mr_timeline_ceil(t, time), at(o, i));
    assert_ptr_equal(mr_timeline_floor(t, time), there ? item_of(time) : at(o, i - 1));
}

static void toggle(struct mr_timeline *t, struct oracle *o, int64_t time) {
    uint32_t i = rank(o, time);
    if (i < o->len && o->times[i] == time) {
        mr_timeline_remove(t, time);
        memmove(o->times + i, o->times + i + 1, (o->len - i - 1) * sizeof o->times[0]);
        o->len--;
    } else {
        assert_int_equal(mr_timeline_insert(t, time, item_of(time)), MR_OK);
        memmove(o->times + i + 1, o->times + i, (o->len - i) * sizeof o->times[0]);
        o->times[i] = time;
        o->len++;
    }
}

static void random_times(void **state) {
    (void)state;
    struct kit_random random = {3};
    for (uint32_t range = 4; range <= 4000; range *= 10) {
        struct mr_timeline t;
        struct oracle o = {.len = 0};
        mr_timeline_init(&t);
        for (int step = 0; step < 3000 && o.len < TIMES_MAX - 1; step++) {
            int64_t time = (int64_t)kit_below(&random, range) - range / 2;
            if (kit_below(&random, 100) == 0) {
                time = kit_below(&random, 2) == 0 ? INT64_MIN : INT64_MAX;
            }
            toggle(&t, &o, time);
            ask(&t, &o, time);
            ask(&t, &o, (int64_t)kit_below(&random, range) - range / 2);
            ask(&t, &o, INT64_MIN);
            ask(&t, &o, INT64_MAX);
            if (step % 50 == 0) {
                mr_timeline_check_scan(&t);
            }
        }
        mr_timeline_check_scan(&t);
        assert_int_equal(t.len, o.len);
        mr_timeline_finish(&t);
    }
}

static void a_moving_front(void **state) {
    (void)state;
    struct mr_timeline t;
    mr_timeline_init(&t);
    for (int64_t time = 0; time < 20000; time++) {
        assert_int_equal(mr_timeline_insert(&t, time, item_of(time)), MR_OK);
        if (time >= 1000) {
            mr_timeline_remove(&t, time - 1000);
        }
    }
    assert_int_equal(t.len, 1000);
    assert_true(t.head_count <= 1000 / 64 + 2); /* in order: full chunks */
    mr_timeline_check_scan(&t);
    mr_timeline_finish(&t);
}

static void out_of_memory(void **state) {
    (void)state;
    for (size_t nth = 1; nth < 20; nth++) {
        struct mr_timeline t;
        struct oracle o = {.len = 0};
        mr_timeline_init(&t);
        struct kit_random random = {nth};
        mr_alloc_fail_at(nth, 0);
        for (int step = 0; step < 800; step++) {
            int64_t time = kit_below(&random, 100000);
            uint32_t i = rank(&o, time);
            if (i < o.len && o.times[i] == time) {
                continue;
            }
            enum mr_status status = mr_timeline_insert(&t, time, item_of(time));
            if (status == MR_OK) {
                memmove(o.times + i + 1, o.times + i, (o.len - i) * sizeof o.times[0]);
                o.times[i] = time;
                o.len++;
            } else {
                assert_int_equal(status, MR_NO_MEMORY);
                mr_timeline_check_scan(&t);
            }
            ask(&t, &o, time);
        }
        mr_alloc_fail_at(0, 0);
        assert_int_equal(t.len, o.len);
        mr_timeline_check_scan(&t);
        mr_timeline_finish(&t);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_times),
        cmocka_unit_test(a_moving_front),
        cmocka_unit_test(out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
