/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that pacing changes when bytes reach the disk, never which:
 *   1. random writes into two files, paced or not, leave what the same writes leave in memory;
 *   2. what was written before begin is sent in steps of a megabyte by begin, what comes behind it as it comes, and
 *      nothing after end;
 *   3. a file is cut in steps, never longer than asked for at the end, and made longer as ftruncate does;
 *   4. errors are those of pwrite and ftruncate.
 */
#include "base/pace.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { FILES = 2, FILE_MAX = 6 << 20, WRITES = 2000, WRITE_MAX = 40000 };

static int open_nameless(void) {
    char path[] = "/tmp/millrace-test-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(unlink(path), 0);
    return fd;
}

static uint32_t next_random(uint32_t *state) {
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

static void bytes_are_those_of_plain_writes(void **state) {
    (void)state;
    static uint8_t want[FILES][FILE_MAX];
    static uint8_t have[FILE_MAX];
    static uint8_t chunk[WRITE_MAX];
    memset(want, 0, sizeof want);
    size_t len[FILES] = {0};
    int fds[FILES] = {open_nameless(), open_nameless()};
    struct mr_pace pace = {0};
    uint32_t random = 7;
    for (int i = 0; i < WRITES; i++) {
        uint32_t f = next_random(&random) % 8 == 0;
        size_t n = 1 + next_random(&random) % WRITE_MAX;
        size_t at = next_random(&random) % (FILE_MAX - WRITE_MAX);
        memset(chunk, (int)next_random(&random), n);
        assert_int_equal(mr_pace_pwrite(&pace, fds[f], chunk, n, (off_t)at), n);
        memcpy(want[f] + at, chunk, n);
        len[f] = at + n > len[f] ? at + n : len[f];
        if (i % 100 == 50) {
            mr_pace_begin(&pace);
        } else if (i % 100 == 99) {
            mr_pace_end(&pace);
        }
    }
    for (int f = 0; f < FILES; f++) {
        assert_int_equal(pread(fds[f], have, sizeof have, 0), len[f]);
        assert_memory_equal(have, want[f], len[f]);
        assert_int_equal(close(fds[f]), 0);
    }
}

static void write_mib(struct mr_pace *pace, int fd, int from, int to) {
    static uint8_t mib[1 << 20];
    for (int i = from; i < to; i++) {
        assert_int_equal(mr_pace_pwrite(pace, fd, mib, sizeof mib, (off_t)i << 20), sizeof mib);
    }
}

static void steps_are_of_a_megabyte(void **state) {
    (void)state;
    int fd = open_nameless();
    struct mr_pace pace = {0};
    write_mib(&pace, fd, 0, 5);
    assert_int_equal(pace.steps, 0);
    mr_pace_begin(&pace);
    assert_int_equal(pace.steps, 5);
    write_mib(&pace, fd, 5, 8);
    assert_int_equal(pace.steps, 8);
    assert_int_equal(mr_pace_pwrite(&pace, fd, "x", 1, 0), 1);
    assert_int_equal(pace.steps, 8);
    mr_pace_end(&pace);
    write_mib(&pace, fd, 0, 2);
    mr_pace_end(&pace);
    mr_pace_begin(&pace); /* all that is behind the end */
    assert_int_equal(pace.steps, 8);
    mr_pace_end(&pace);
    assert_int_equal(close(fd), 0);
}

static int64_t size_of(int fd) {
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    return st.st_size;
}

static void files_are_cut_in_steps(void **state) {
    (void)state;
    static const struct {
        off_t from;
        off_t to;
        uint64_t steps;
    } cuts[] = {
        {0, 0, 0}, {10, 3, 0}, {3, 10, 0}, {4 << 20, 0, 0},
        {(4 << 20) + 1, 0, 1}, {13 << 20, 1 << 20, 2},
        {13 << 20, 5, 3},
    };
    for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
        int fd = open_nameless();
        struct mr_pace pace = {0};
        assert_int_equal(ftruncate(fd, cuts[i].from), 0);
        assert_int_equal(mr_pace_truncate(&pace, fd, cuts[i].to), 0);
        assert_int_equal(size_of(fd), cuts[i].to);
        assert_int_equal(pace.steps, cuts[i].steps);
        assert_int_equal(close(fd), 0);
    }
}

static void errors_are_told(void **state) {
    (void)state;
    struct mr_pace pace = {0};
    errno = 0;
    assert_int_equal(mr_pace_pwrite(&pace, -1, "x", 1, 0), -1);
    assert_int_equal(errno, EBADF);
    errno = 0;
    assert_int_equal(mr_pace_truncate(&pace, -1, 1), -1);
    assert_int_equal(errno, EBADF);
    int fd = open_nameless();
    assert_int_equal(mr_pace_truncate(&pace, fd, -1), -1);
    assert_int_equal(errno, EINVAL);
    assert_int_equal(mr_pace_pwrite(&pace, fd, "x", 1, 0), 1);
    assert_int_equal(close(fd), 0);
    errno = 0;
    mr_pace_begin(&pace); /* of a file that is gone: no more than a hint that fails */
    assert_int_equal(errno, 0);
    mr_pace_end(&pace);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_are_those_of_plain_writes),
        cmocka_unit_test(steps_are_of_a_megabyte),
        cmocka_unit_test(files_are_cut_in_steps),
        cmocka_unit_test(errors_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
