/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves: exactly the sockets past their deadline are shut down, once; the list stays whole while
 * entries come and go; the thread does it by itself.
 *
 * 1. Random adds, removes, sets and steps against an array; check() after each.
 * 2. The thread, on the real clock, and a peer that waits in read() for the shutdown.
 */
#include "server/deadlines.h"

#include "base/check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

enum { SOCKETS = 16 };

struct model {
    struct mr_deadline entry;
    int pair[2];
    bool added;
    uint64_t due_ns;
    bool down;
};

static bool is_down(int fd) {
    char byte;
    return recv(fd, &byte, 1, MSG_DONTWAIT) == 0;
}

static void open_pair(struct model *m) {
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, m->pair), 0);
    m->down = false;
}

static void test_random(void **state) {
    (void)state;
    struct model models[SOCKETS] = {0};
    struct mr_deadlines *deadlines = NULL;
    uint64_t seed = 3;
    uint64_t now_ns = 1000;
    uint64_t expired = 0;
    assert_int_equal(mr_deadlines_open(mr_clock_system(), 0, &deadlines), MR_OK);
    for (uint32_t round = 0; round < 20000; round++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        struct model *m = &models[(seed >> 33) % SOCKETS];
        uint64_t ahead = 1 + (seed >> 50) % 100;
        switch ((seed >> 40) % 4) {
        case 0:
            if (!m->added) {
                open_pair(m);
                m->due_ns = now_ns + ahead;
                mr_deadlines_add(deadlines, &m->entry, m->pair[0], m->due_ns);
            } else {
                mr_deadlines_remove(deadlines, &m->entry);
                (void)close(m->pair[0]);
                (void)close(m->pair[1]);
            }
            m->added = !m->added;
            break;
        case 1:
            m->due_ns = ahead % 3 == 0 ? 0 : now_ns + ahead;
            mr_deadline_set(&m->entry, m->due_ns);
            break;
        default:
            now_ns += ahead % 20;
            expired += mr_deadlines_step(deadlines, now_ns);
            for (uint32_t i = 0; i < SOCKETS; i++) {
                struct model *k = &models[i];
                if (k->added && k->due_ns != 0 && k->due_ns <= now_ns) {
                    k->due_ns = 0;
                    k->down = true;
                }
                assert_true(!k->added || is_down(k->pair[1]) == k->down);
            }
        }
        mr_deadlines_check(deadlines);
    }
    assert_int_equal(expired, mr_deadlines_expired(deadlines));
    assert_true(expired > 100);
    for (uint32_t i = 0; i < SOCKETS; i++) {
        if (models[i].added) {
            mr_deadlines_remove(deadlines, &models[i].entry);
            (void)close(models[i].pair[0]);
            (void)close(models[i].pair[1]);
        }
    }
    mr_deadlines_close(deadlines);
}

static void count_entry(struct mr_deadline *entry, void *ctx) {
    assert_true(entry->fd >= 0);
    *(uint32_t *)ctx += 1;
}

static void test_thread(void **state) {
    (void)state;
    struct model due = {0};
    struct model later = {0};
    struct mr_deadlines *deadlines = NULL;
    uint64_t now_ns = mr_clock_mono_ns(mr_clock_system());
    char byte;
    uint32_t count = 0;
    assert_int_equal(mr_deadlines_open(mr_clock_system(), 1, &deadlines), MR_OK);
    open_pair(&due);
    open_pair(&later);
    mr_deadlines_add(deadlines, &later.entry, later.pair[0], now_ns + 3600000000000u);
    mr_deadlines_add(deadlines, &due.entry, due.pair[0], now_ns + 3000000u);
    assert_int_equal(read(due.pair[1], &byte, 1), 0); /* returns when the thread shuts it down */
    assert_false(is_down(later.pair[1]));
    mr_deadlines_visit(deadlines, count_entry, &count);
    assert_int_equal(count, 2);
    mr_deadlines_remove(deadlines, &due.entry);
    mr_deadlines_remove(deadlines, &later.entry);
    mr_deadlines_close(deadlines);
    (void)close(due.pair[0]);
    (void)close(due.pair[1]);
    (void)close(later.pair[0]);
    (void)close(later.pair[1]);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random),
                                       cmocka_unit_test(test_thread)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
