/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that requests are whole and repeatable: the head's length is the body's; the events are the plan's, in order, in
 * both formats; a repeated request has its source's bytes; compressed bodies inflate (by the server's codec) to the plain
 * ones; lines of a file come in batches, each once a pass; and allocations that fail are told.
 */
#include "bench/load/body.h"

#include "base/alloc.h"

#include <stdio.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

enum { BATCH = 40 };

struct world {
    struct mr_load_plan plan;
    struct mr_load_events events;
    struct mr_load_target target;
    struct mr_load_maker maker;
    struct mr_load_body body;
};

static void open_world(struct world *w) {
    const struct mr_load_plan_options options = {
        .seed = 4, .batch = BATCH, .repeat_events = 0.2, .repeat_requests = 0.2, .late = 0.1, .repeat_delay = 100,
        .timed = true, .start_ms = INT64_C(1767225600000), .ms_per_event = 1,
    };
    struct mr_load_pick pick;
    assert_int_equal(mr_load_plan_init(&w->plan, &options), MR_OK);
    assert_int_equal(mr_load_pick_open_zipf(&pick, 100, 1), MR_OK);
    assert_int_equal(mr_load_events_open(&w->events, MR_LOAD_PAGES, 4, &pick), MR_OK);
    w->target = (struct mr_load_target){.host = "127.0.0.1:1"};
    mr_load_maker_init(&w->maker);
    w->maker.plan = &w->plan;
    w->maker.events = &w->events;
    w->maker.target = &w->target;
    w->maker.stream = "events";
    mr_load_body_init(&w->body);
}

static void close_world(struct world *w) {
    mr_load_body_finish(&w->body);
    mr_load_maker_finish(&w->maker);
    mr_load_events_close(&w->events);
    mr_load_plan_finish(&w->plan);
}

/* What is behind the head, whose Content-Length it must be. */
static struct mr_bytes payload(const struct mr_load_body *body) {
    struct mr_bytes all = mr_load_body_bytes(body);
    const char *end = memmem(all.ptr, all.len, "\r\n\r\n", 4);
    const char *length = memmem(all.ptr, all.len, "Content-Length: ", 16);
    assert_true(end != NULL && length != NULL && length < end);
    size_t head = (size_t)(end + 4 - (const char *)all.ptr);
    assert_int_equal(strtoul(length + 16, NULL, 10), all.len - head);
    assert_memory_equal(all.ptr, "POST /v1/streams/events/events HTTP/1.1\r\nHost: 127.0.0.1:1\r\n", 60);
    return mr_bytes_of(all.ptr + head, all.len - head);
}

static void expect_events(struct world *w, uint64_t k, struct mr_buf *ret) {
    uint32_t kinds[3] = {0};
    uint32_t late = 0;
    mr_buf_clear(ret);
    for (uint64_t n = k * BATCH; n < (k + 1) * BATCH; n++) {
        uint8_t text[MR_LOAD_EVENT_BYTES_MAX];
        struct mr_load_slot slot = mr_load_plan_slot(&w->plan, n);
        size_t len = mr_load_events_write(&w->events, slot.source, mr_load_plan_time(&w->plan, slot.source), text);
        mr_buf_append(ret, text, len);
        mr_buf_append_char(ret, '\n');
        kinds[slot.kind]++;
        late += slot.kind == MR_LOAD_FRESH && mr_load_plan_is_late(&w->plan, slot.source);
    }
    assert_int_equal(w->body.events, BATCH);
    assert_int_equal(w->body.repeated, kinds[MR_LOAD_REPEATED]);
    assert_int_equal(w->body.late, late);
    assert_int_equal(w->body.fresh, kinds[MR_LOAD_FRESH] - late);
}

static void requests_hold_the_plans_events(void **state) {
    (void)state;
    struct world w;
    struct mr_buf expected;
    struct mr_buf inflated;
    struct mr_codec *codec;
    open_world(&w);
    mr_buf_init(&expected, 1 << 20);
    mr_buf_init(&inflated, 1 << 20);
    assert_int_equal(mr_codec_open(&codec), MR_OK);
    for (int encoding = MR_ENCODING_IDENTITY; encoding <= MR_ENCODING_ZSTD; encoding++) {
        mr_load_maker_finish(&w.maker);
        w.maker.encoding = (enum mr_encoding)encoding;
        for (uint64_t k = 0; k < 60; k++) {
            w.maker.array = k % 2 == 1;
            assert_int_equal(mr_load_maker_make(&w.maker, k, &w.body), MR_OK);
            struct mr_bytes got = payload(&w.body);
            if (encoding != MR_ENCODING_IDENTITY) {
                struct mr_error error;
                mr_buf_clear(&inflated);
                assert_int_equal(mr_codec_inflate(codec, (enum mr_encoding)encoding, got, 1000, &inflated, &error), MR_OK);
                got = mr_buf_bytes(&inflated);
            }
            expect_events(&w, k, &expected);
            assert_int_equal(got.len, expected.len + w.maker.array);
            for (size_t i = 0; i < expected.len && w.maker.array; i++) {
                expected.ptr[i] = expected.ptr[i] == '\n' ? ',' : expected.ptr[i];
            }
            expected.ptr[expected.len - 1] = w.maker.array ? ']' : '\n';
            assert_true(!w.maker.array || got.ptr[0] == '[');
            assert_memory_equal(got.ptr + w.maker.array, expected.ptr, expected.len);
        }
    }
    mr_codec_close(codec);
    mr_buf_finish(&inflated);
    mr_buf_finish(&expected);
    close_world(&w);
}

static void lines_come_once_a_pass(void **state) {
    (void)state;
    for (uint32_t lines = 1; lines < 40; lines++) {
        for (uint32_t batch = 1; batch < 9; batch++) {
            struct mr_load_lines file;
            struct mr_buf text;
            mr_buf_init(&text, 1 << 16);
            for (uint32_t i = 0; i < lines; i++) {
                mr_buf_printf(&text, "%s{\"id\":%u}%s", i % 3 == 0 ? " \r\n\n" : "", i, i + 1 < lines || batch % 2 ? "\n" : "");
            }
            assert_int_equal(mr_load_lines_open_text(&file, &text, batch), MR_OK);
            assert_int_equal(file.lines, lines);
            uint32_t next = 0;
            for (uint64_t k = 0; k < file.batches * 2; k++) {
                uint32_t events;
                uint32_t found = 0;
                struct mr_bytes part = mr_load_lines_batch(&file, k, &events);
                for (size_t at = 0; at < part.len; at++) {
                    if (part.ptr[at] == '{') {
                        assert_int_equal(strtoul((const char *)part.ptr + at + 6, NULL, 10), next % lines);
                        next++;
                        found++;
                    }
                }
                assert_int_equal(found, events);
            }
            assert_int_equal(next, 2 * lines);
            mr_load_lines_close(&file);
        }
    }
    struct mr_load_lines file;
    struct mr_buf text;
    mr_buf_init(&text, 100);
    mr_buf_append_text(&text, " \n\r\n");
    assert_int_equal(mr_load_lines_open_text(&file, &text, 3), MR_INVALID);
}

static void tells_no_memory(void **state) {
    (void)state;
    bool made = false;
    for (size_t nth = 1; nth < 20 && !made; nth++) {
        struct world w;
        open_world(&w);
        w.maker.encoding = MR_ENCODING_GZIP;
        mr_alloc_fail_at(nth, 0);
        made = mr_load_maker_make(&w.maker, 0, &w.body) == MR_OK;
        bool failed = mr_alloc_failed();
        mr_alloc_fail_at(0, 0);
        assert_int_equal(made, !failed);
        assert_int_equal(mr_load_maker_make(&w.maker, 0, &w.body), MR_OK);
        (void)payload(&w.body);
        close_world(&w);
    }
    assert_true(made);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_hold_the_plans_events),
        cmocka_unit_test(lines_come_once_a_pass),
        cmocka_unit_test(tells_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
