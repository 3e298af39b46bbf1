/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that an event's bytes say what its fact says: each is one valid JSON object (by the server's own decoder), its
 * fields read back are the fact and the time, its group is found again from a row's key, and ids differ over events
 * and seeds. And that digits are printf's.
 */
#include "bench/load/events.h"

#include "base/alloc.h"
#include "bench/load/digits.h"
#include "bench/load/random.h"
#include "bench/load/reader.h"
#include "event/decode.h"

#include <inttypes.h>
#include <stdio.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

enum { EVENTS = 20000 };

static const int64_t T0 = INT64_C(1767225600000);

static void open_events(struct mr_load_events *events, enum mr_load_kind_of_event kind, uint64_t seed) {
    struct mr_load_pick pick = {0};
    if (kind == MR_LOAD_PAGES) {
        assert_int_equal(mr_load_pick_open_zipf(&pick, 1000, 0.99), MR_OK);
    }
    assert_int_equal(mr_load_events_open(events, kind, seed, kind == MR_LOAD_PAGES ? &pick : NULL), MR_OK);
}

static struct mr_bytes member(struct mr_bytes event, const char *name) {
    struct mr_bytes text;
    assert_true(mr_load_member(event, name, &text));
    return mr_load_unquoted(text);
}

static void assert_uint(struct mr_bytes text, uint64_t expected) {
    char shown[32];
    int len = snprintf(shown, sizeof shown, "%" PRIu64, expected);
    assert_true(mr_bytes_equal(text, mr_bytes_of(shown, (size_t)len)));
}

/* What the server makes of an ad with the table that --print-ads prints. */
static void campaign_key(const struct mr_buf *ads, struct mr_bytes ad, char *ret, size_t cap) {
    const char *row = memmem(ads->ptr, ads->len, ad.ptr, ad.len);
    assert_true(row != NULL && row[-1] == '\n' && row[ad.len] == ',');
    const char *campaign = row + ad.len + 1;
    (void)snprintf(ret, cap, "{\"campaign\":\"%.*s\"}", (int)strcspn(campaign, "\n"), campaign);
}

/* The row's key object, as the server would make it from the event. */
static void check_group(const struct mr_load_events *events, const struct mr_buf *ads, struct mr_bytes event,
                        uint64_t group) {
    char key[256];
    uint64_t found;
    struct mr_bytes a;
    if (events->kind == MR_LOAD_YAHOO) {
        campaign_key(ads, member(event, "ad_id"), key, sizeof key);
    } else {
        const char *name = events->kind == MR_LOAD_PAGES ? "key" : "auction";
        assert_true(mr_load_member(event, name, &a));
        (void)snprintf(key, sizeof key, "{\"%s\":%.*s}", name, (int)a.len, (const char *)a.ptr);
    }
    assert_true(mr_load_events_group(events, mr_bytes_text(key), &found));
    assert_int_equal(found, group);
}

static void check_event(const struct mr_load_events *events, const struct mr_buf *ads, uint64_t n, struct mr_bytes event,
                        int64_t time_ms) {
    struct mr_error error;
    struct mr_load_fact fact = mr_load_events_fact(events, n);
    assert_int_equal(mr_json_value_check(event, &error), MR_OK);
    check_group(events, ads, event, fact.group);
    if (events->kind == MR_LOAD_PAGES) {
        double value;
        assert_true(mr_load_number(member(event, "value"), &value));
        assert_true(value * 8 >= (double)fact.value && value * 8 <= (double)fact.value);
        assert_uint(member(event, "ts"), (uint64_t)time_ms);
        assert_int_equal(member(event, "id").len, 32);
        assert_true(event.len >= 105 && event.len <= 125);
    } else if (events->kind == MR_LOAD_YAHOO) {
        assert_uint(member(event, "event_time"), (uint64_t)time_ms);
        assert_int_equal(member(event, "user_id").len, 36);
        assert_int_equal(fact.value, 0);
        assert_int_equal(fact.filtered, !mr_bytes_equal(member(event, "event_type"), MR_BYTES("view")));
    } else {
        assert_uint(member(event, "dateTime"), (uint64_t)time_ms);
        assert_uint(member(event, "price"), (uint64_t)fact.value);
        assert_uint(member(event, "auction"), fact.group);
        assert_true(fact.value >= 100 && fact.value <= 100000000);
    }
}

static int compare_ids(const void *a, const void *b) {
    return memcmp(a, b, 32);
}

static void bytes_say_what_the_fact_says(void **state) {
    (void)state;
    struct mr_buf ads;
    mr_buf_init(&ads, 1 << 20);
    assert_int_equal(mr_load_events_print_ads(&ads), MR_OK);
    for (int kind = MR_LOAD_PAGES; kind <= MR_LOAD_BIDS; kind++) {
        struct mr_load_events events;
        uint8_t (*ids)[32] = malloc(EVENTS * sizeof *ids);
        assert_non_null(ids);
        open_events(&events, (enum mr_load_kind_of_event)kind, 5);
        for (uint64_t n = 0; n < EVENTS; n++) {
            uint8_t text[MR_LOAD_EVENT_BYTES_MAX];
            uint8_t again[MR_LOAD_EVENT_BYTES_MAX];
            int64_t time_ms = T0 + (int64_t)(mr_load_random(1, n) % 100000000);
            struct mr_bytes event = mr_bytes_of(text, mr_load_events_write(&events, n, time_ms, text));
            check_event(&events, &ads, n, event, time_ms);
            assert_int_equal(mr_load_events_write(&events, n, time_ms, again), event.len);
            assert_memory_equal(text, again, event.len);
            memcpy(ids[n], member(event, kind == MR_LOAD_YAHOO ? "event_id" : "id").ptr, 32);
        }
        qsort(ids, EVENTS, sizeof *ids, compare_ids);
        for (uint64_t n = 1; n < EVENTS; n++) {
            assert_true(memcmp(ids[n - 1], ids[n], 32) < 0);
        }
        free(ids);
        mr_load_events_close(&events);
    }
    mr_buf_finish(&ads);
}

static void seeds_differ(void **state) {
    (void)state;
    uint8_t one[MR_LOAD_EVENT_BYTES_MAX];
    uint8_t two[MR_LOAD_EVENT_BYTES_MAX];
    struct mr_load_events a;
    struct mr_load_events b;
    open_events(&a, MR_LOAD_PAGES, 1);
    open_events(&b, MR_LOAD_PAGES, 2);
    for (uint64_t n = 0; n < 1000; n++) {
        (void)mr_load_events_write(&a, n, T0, one);
        (void)mr_load_events_write(&b, n, T0, two);
        assert_memory_not_equal(one, two, 40);
    }
    mr_load_events_close(&a);
    mr_load_events_close(&b);
}

static void other_keys_are_refused(void **state) {
    (void)state;
    uint64_t group;
    struct mr_load_events events;
    static const char *const wrong[] = {"{}", "{\"key\":\"(other)\"}", "{\"key\":\"/page/\"}", "{\"key\":\"/page/07\"}",
                                        "{\"key\":\"/page/7x\"}", "{\"key\":7}", "{\"key\":null}", "[]", ""};
    open_events(&events, MR_LOAD_PAGES, 1);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_false(mr_load_events_group(&events, mr_bytes_text(wrong[i]), &group));
    }
    mr_load_events_close(&events);
    open_events(&events, MR_LOAD_YAHOO, 1);
    assert_false(mr_load_events_group(&events, MR_BYTES("{\"campaign\":null}"), &group));
    assert_false(mr_load_events_group(&events, MR_BYTES("{\"campaign\":\"campaign-07\"}"), &group));
    mr_load_events_close(&events);
}

static void digits_are_printfs(void **state) {
    (void)state;
    for (uint64_t n = 0; n < 200000; n++) {
        uint64_t value = n < 100000 ? n : mr_load_random(7, n) >> (n % 64);
        char expected[32];
        uint8_t got[32];
        int len = snprintf(expected, sizeof expected, "%" PRIu64, value);
        assert_int_equal(mr_load_put_uint(got, value) - got, len);
        assert_memory_equal(got, expected, (size_t)len);
        assert_int_equal(mr_load_put_time(got, (int64_t)(value >> 1)) - got, snprintf(expected, sizeof expected, "%" PRIu64, value >> 1));
        assert_memory_equal(got, expected, strlen(expected));
        (void)snprintf(expected, sizeof expected, "%016" PRIx64, value);
        assert_int_equal(mr_load_put_hex(got, value) - got, 16);
        assert_memory_equal(got, expected, 16);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_say_what_the_fact_says),
        cmocka_unit_test(seeds_differ),
        cmocka_unit_test(other_keys_are_refused),
        cmocka_unit_test(digits_are_printfs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
