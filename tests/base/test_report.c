/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves what an operator reads, through a pipe and under a clock of the test's own:
 *   1. the form of a line, the least level, silence;
 *   2. values: every byte, every capacity; nothing raw reaches the terminal;
 *   3. long lines are cut at a character; the rate limit, event by event, and what it says of the
 * rest;
 *   4. four threads at once: whole lines only (also under TSan).
 */
#include "base/report.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

struct fake_clock {
    struct mr_clock clock;
    int64_t wall_ms;
    uint64_t mono_ns;
};

static int64_t fake_wall_ms(struct mr_clock *clock) {
    return ((struct fake_clock *)clock)->wall_ms;
}

static uint64_t fake_mono_ns(struct mr_clock *clock) {
    return ((struct fake_clock *)clock)->mono_ns;
}

struct fixture {
    struct fake_clock clock;
    int ends[2];
    char text[65536];
};

static int set_up(void **state) {
    static struct fixture f;
    f.clock = (struct fake_clock){{fake_wall_ms, fake_mono_ns}, INT64_C(1795326840123), 5};
    assert_int_equal(pipe(f.ends), 0);
    mr_report_configure(f.ends[1], MR_LEVEL_INFO, &f.clock.clock);
    *state = &f;
    return 0;
}

static int tear_down(void **state) {
    struct fixture *f = *state;
    mr_report_configure(-1, MR_LEVEL_INFO, NULL);
    (void)close(f->ends[0]);
    (void)close(f->ends[1]);
    return 0;
}

/* What has been written since; a mark written behind it makes the read end. */
static const char *seen(struct fixture *f) {
    size_t len = 0;
    assert_int_equal(write(f->ends[1], "\0", 1), 1);
    while (len == 0 || f->text[len - 1] != 0) {
        ssize_t n = read(f->ends[0], f->text + len, sizeof f->text - len);
        assert_true(n > 0);
        len += (size_t)n;
    }
    return f->text;
}

static size_t count_of(const char *text, const char *part) {
    size_t count = 0;
    for (const char *at = strstr(text, part); at != NULL; at = strstr(at + 1, part)) {
        count++;
    }
    return count;
}

static void lines_and_levels(void **state) {
    struct fixture *f = *state;
    char value[64];
    mr_report(MR_LEVEL_WARN, "log_tail_cut", "bytes=%d segment=%s", 512,
              mr_report_value("0000.log", value, sizeof value));
    assert_string_equal(seen(f),
                        "ts=2026-11-22T05:54:00.123Z level=warn event=log_tail_cut bytes=512 "
                        "segment=\"0000.log\"\n");
    mr_report(MR_LEVEL_DEBUG, "quiet", "n=%d", 1);
    assert_string_equal(seen(f), "");
    mr_report(MR_LEVEL_ERROR, "started", "%s", "");
    assert_string_equal(seen(f), "ts=2026-11-22T05:54:00.123Z level=error event=started\n");
    mr_report(MR_LEVEL_INFO, "forged", "text=%s", "a\nts=1 \x1b[2J\x7f");
    assert_string_equal(seen(f),
                        "ts=2026-11-22T05:54:00.123Z level=info event=forged text=a?ts=1 ?[2J?\n");
    mr_report_configure(-1, MR_LEVEL_DEBUG, &f->clock.clock);
    mr_report(MR_LEVEL_ERROR, "silent", "n=%d", 1);
    mr_report_flush();
    mr_report_configure(f->ends[1], MR_LEVEL_DEBUG, &f->clock.clock);
    assert_string_equal(seen(f), "");
    mr_report(MR_LEVEL_DEBUG, "loud", "n=%d", 1);
    assert_int_equal(count_of(seen(f), "level=debug event=loud n=1\n"), 1);
}

static void values(void **state) {
    (void)state;
    char ret[64];
    static const struct {
        const char *text;
        const char *shown;
    } cases[] = {
        {"", "\"\""},
        {"a b=c", "\"a b=c\""},
        {"say \"hi\"", "\"say \\\"hi\\\"\""},
        {"a\\b", "\"a\\\\b\""},
        {"\n\r\t", "\"\\n\\r\\t\""},
        {"\x01\x1b[0m\x7f", "\"\\x01\\x1b[0m\\x7f\""},
        {"K\xC3\xB6ln \xE2\x82\xAC \xF0\x9F\x98\x80",
         "\"K\xC3\xB6ln \xE2\x82\xAC \xF0\x9F\x98\x80\""},
        {"\x80\xFF\xC3", "\"\\x80\\xff\\xc3\""},
        {"\xC2\x9B[2J", "\"\\xc2\\x9b[2J\""}, /* C1: CSI */
        {"\xED\xA0\x80", "\"\\xed\\xa0\\x80\""},
        {"\xE0\x80\xAF", "\"\\xe0\\x80\\xaf\""},
        {"\xF4\x90\x80\x80", "\"\\xf4\\x90\\x80\\x80\""},
        {"\xE2\x82", "\"\\xe2\\x82\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_ptr_equal(mr_report_value(cases[i].text, ret, sizeof ret), ret);
        assert_string_equal(ret, cases[i].shown);
    }
    for (int c = 1; c < 256; c++) {
        char text[2] = {(char)c, 0};
        (void)mr_report_value(text, ret, sizeof ret);
        for (const char *at = ret; *at != 0; at++) {
            assert_true(*at >= 0x20 && *at < 0x7F);
        }
    }
}

static void values_are_cut(void **state) {
    (void)state;
    static const char text[] = "ab\n\x01"
                               "\xC3\xB6\xE2\x82\xAC"
                               "cd\"efgh";
    char whole[64];
    (void)mr_report_value(text, whole, sizeof whole);
    const size_t whole_len = strlen(whole);
    for (size_t cap = 8; cap <= whole_len + 4; cap++) {
        char ret[64];
        memset(ret, 'X', sizeof ret);
        (void)mr_report_value(text, ret, cap);
        size_t len = strlen(ret);
        assert_true(len < cap);
        assert_int_equal(ret[cap], 'X');
        if (cap > whole_len) {
            assert_string_equal(ret, whole);
            continue;
        }
        assert_string_equal(ret + len - 4, "...\"");
        size_t kept = len - 4;
        assert_memory_equal(ret, whole, kept);
        assert_true(kept + 5 + 4 > cap); /* no character or escape is longer than 4 */
        assert_true((whole[kept] & 0xC0) != 0x80);
        assert_true(whole[kept - 1] != '\\');
        assert_false(whole[kept - 1] == 'x' || (whole[kept - 1] == '0' && whole[kept] == '1'));
    }
}

static void long_lines_are_cut_at_a_character(void **state) {
    struct fixture *f = *state;
    static char text[9000];
    for (size_t shift = 0; shift < 3; shift++) {
        memset(text, 'x', shift);
        for (size_t i = shift; i + 4 < sizeof text; i += 3) {
            memcpy(text + i, "\xE2\x82\xAC", 4);
        }
        mr_report(MR_LEVEL_INFO, "long", "text=%s", text);
        const char *line = seen(f);
        size_t len = strlen(line);
        assert_true(len > 4090 && len <= 4096);
        assert_string_equal(line + len - 8, "\xE2\x82\xAC ...\n");
    }
}

static void the_rest_is_counted(void **state) {
    struct fixture *f = *state;
    for (int i = 0; i < 25; i++) {
        mr_report(MR_LEVEL_WARN, "often", "i=%d", i);
        mr_report(MR_LEVEL_INFO, i < 10 ? "as_often" : "other", "i=%d", i);
    }
    const char *text = seen(f);
    assert_int_equal(count_of(text, "event=often i="), 10);
    assert_int_equal(count_of(text, "event=as_often i="), 10);
    assert_int_equal(count_of(text, "event=other i="), 10);
    assert_int_equal(count_of(text, "suppressed"), 0);
    f->clock.mono_ns += 9999999999;
    mr_report(MR_LEVEL_WARN, "often", "i=%d", 99);
    assert_string_equal(seen(f), "");
    f->clock.mono_ns += 1; /* any event says what others have to say, once */
    mr_report(MR_LEVEL_INFO, "unrelated", "i=%d", 1);
    text = seen(f);
    assert_int_equal(count_of(text, "level=warn event=often suppressed=16\n"), 1);
    assert_int_equal(count_of(text, "level=info event=other suppressed=5\n"), 1);
    assert_int_equal(count_of(text, "suppressed"), 2);
    assert_int_equal(count_of(text, "event=unrelated i=1\n"), 1);
    for (int i = 0; i < 12; i++) {
        mr_report(MR_LEVEL_WARN, "often", "again=%d", i);
    }
    assert_int_equal(count_of(seen(f), "event=often again="), 10);
    mr_report_flush();
    mr_report_flush();
    assert_string_equal(seen(f),
                        "ts=2026-11-22T05:54:00.123Z level=warn event=often suppressed=2\n");
}

/* More events than the table tells apart: each is still written, and nothing breaks. */
static void more_events_than_the_table_holds(void **state) {
    struct fixture *f = *state;
    static char names[300][8];
    for (int i = 0; i < 300; i++) {
        (void)snprintf(names[i], sizeof names[i], "e%d", i);
        f->clock.mono_ns++;
        mr_report(MR_LEVEL_INFO, names[i], "i=%d", i);
    }
    assert_int_equal(count_of(seen(f), "event=e"), 300);
    for (int i = 0; i < 20; i++) { /* the newest is still known */
        mr_report(MR_LEVEL_INFO, names[299], "i=%d", i);
    }
    assert_int_equal(count_of(seen(f), "event=e299"), 9);
}

static void *report_many(void *ctx) {
    char value[32];
    for (int i = 0; i < 50; i++) {
        mr_report(MR_LEVEL_INFO, "threads", "name=%s i=%d",
                  mr_report_value(ctx, value, sizeof value), i);
    }
    return NULL;
}

static void threads_write_whole_lines(void **state) {
    struct fixture *f = *state;
    pthread_t threads[4];
    static char names[4][2] = {"a", "b", "c", "d"};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, report_many, names[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    mr_report_flush();
    const char *text = seen(f);
    assert_int_equal(count_of(text, "\n"), 11);
    assert_int_equal(count_of(text, "ts=2026-11-22T05:54:00.123Z level=info event=threads name=\""),
                     10);
    assert_int_equal(count_of(text, "level=info event=threads suppressed=190\n"), 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(lines_and_levels, set_up, tear_down),
        cmocka_unit_test(values),
        cmocka_unit_test(values_are_cut),
        cmocka_unit_test_setup_teardown(long_lines_are_cut_at_a_character, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_rest_is_counted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(more_events_than_the_table_holds, set_up, tear_down),
        cmocka_unit_test_setup_teardown(threads_write_whole_lines, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
