/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves: a feed sends every pane behind its place that its writer shows, once and in order, in bounded pieces, whatever
 * comes in meanwhile; it ends, and sends nothing more, when what it was to send is gone; ends reach those who wait.
 *
 * Steps: 1. places as text. 2. four feeds of two rules read by threads of their own while panes are put; the sum of what
 * they got is that of the outbox. 3. the outbox is pruned behind a feed that waits for its reader. 4. no more than
 * MR_FEEDS_MAX; stop ends those that wait, and none begins behind it. 5. a client that hangs up.
 */
#include "server/feeds.h"

#include "base/check.h"
#include "base/event_count.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

enum { PANES_MAX = 30000, FEEDS = 4, RULES = 2, EPOCH = 77 };

/* An outbox: pane i has id i and is of rule i % RULES. */
static struct {
    pthread_mutex_t lock;
    struct mr_results_state state;
} outbox = {PTHREAD_MUTEX_INITIALIZER, {0, 0, 0, 0}};
static struct mr_results_reader the_reader;

enum mr_status mr_results_reader_open(struct mr_results *results, struct mr_results_reader **ret) {
    (void)results;
    *ret = &the_reader;
    return MR_OK;
}

void mr_results_reader_close(struct mr_results_reader *reader) {
    assert_ptr_equal(reader, &the_reader);
}

enum mr_status mr_results_read_state(struct mr_results_reader *reader, struct mr_results_state *ret,
                                     struct mr_error *error) {
    (void)reader;
    (void)error;
    pthread_mutex_lock(&outbox.lock);
    *ret = outbox.state;
    pthread_mutex_unlock(&outbox.lock);
    return MR_OK;
}

enum mr_status mr_results_read_outbox_rule(struct mr_results_reader *reader, uint32_t rule, uint64_t after_id,
                                           mr_results_outbox_visit visit, void *ctx, uint64_t *ret_id,
                                           struct mr_error *error) {
    struct mr_results_state state;
    assert_int_equal(mr_results_read_state(reader, &state, error), MR_OK);
    *ret_id = after_id;
    for (uint64_t id = after_id + 1; id <= state.newest_id; id++) {
        struct mr_pane pane = {.rule = rule, .revision = id};
        *ret_id = id;
        if (id >= state.oldest_id && id % RULES == rule && !visit(ctx, id, &pane)) {
            break;
        }
    }
    return MR_OK;
}

static void set_outbox(uint64_t oldest, uint64_t newest) {
    pthread_mutex_lock(&outbox.lock);
    outbox.state = (struct mr_results_state){.epoch = EPOCH, .oldest_id = oldest, .newest_id = newest};
    pthread_mutex_unlock(&outbox.lock);
}

static void begin_panes(void *ctx) {
    (void)ctx;
}

/* Every seventh pane is not shown. */
static bool write_pane(void *ctx, const struct mr_pane *pane, struct mr_buf *buf) {
    (void)ctx;
    mr_buf_printf(buf, "data: %llu\n\n", (unsigned long long)pane->revision);
    return pane->revision % 7 != 0;
}

static void close_writer(void *ctx) {
    (*(uint32_t *)ctx)++;
}

static mr_counter open_feeds;
static mr_counter panes[RULES];
static uint32_t closed[MR_FEEDS_MAX];

static struct mr_feeds *open_all(void) {
    struct mr_feeds *feeds = NULL;
    struct mr_feeds_options options = {.clock = mr_clock_system(), .open = &open_feeds, .panes = panes};
    memset(closed, 0, sizeof closed);
    assert_int_equal(mr_feeds_open(&options, &feeds), MR_OK);
    return feeds;
}

static enum mr_status begin(struct mr_feeds *feeds, uint32_t n, uint64_t after_id, struct mr_feed **ret) {
    const struct mr_feed_writer writer = {begin_panes, write_pane, close_writer, &closed[n % MR_FEEDS_MAX]};
    const struct mr_feed_place after = {EPOCH, after_id};
    return mr_feeds_begin(feeds, n % RULES, &after, &writer, ret);
}

struct client {
    struct mr_feed *feed;
    struct mr_event_count woken;
    _Atomic bool awake;
    int fds[2];
    uint64_t until_id;
    struct mr_buf got;
    bool over;
    pthread_t thread;
};

static void wake(void *ctx) {
    struct client *client = ctx;
    atomic_store(&client->awake, true);
    mr_event_count_signal(&client->woken);
}

/* false: stopped. */
static bool sleep_until_woken(struct client *client) {
    atomic_store(&client->awake, false);
    if (!mr_feed_wait(client->feed, client->fds[0], wake, client)) {
        return false;
    }
    for (;;) {
        uint32_t value = mr_event_count_value(&client->woken);
        if (atomic_load(&client->awake)) {
            return true;
        }
        mr_event_count_wait(&client->woken, value, UINT64_MAX);
    }
}

static bool has_got(struct client *client) {
    char last[64];
    size_t len = (size_t)snprintf(last, sizeof last, "data: %llu\n\n", (unsigned long long)client->until_id);
    return client->until_id > 0 && client->got.len >= len &&
           memcmp(client->got.ptr + client->got.len - len, last, len) == 0;
}

static void *read_all(void *arg) {
    struct client *client = arg;
    char piece[777];
    while (!has_got(client)) {
        size_t len = 0;
        enum mr_feed_next next = mr_feed_read(client->feed, piece, sizeof piece, &len);
        if (next == MR_FEED_OVER) {
            client->over = true;
            break;
        }
        if (next == MR_FEED_BYTES) {
            mr_buf_append(&client->got, piece, len);
        } else {
            (void)sleep_until_woken(client); /* stopped: then the next read says over */
        }
    }
    return NULL;
}

static void open_client(struct client *client, struct mr_feeds *feeds, uint32_t n, uint64_t after_id) {
    *client = (struct client){0};
    mr_event_count_init(&client->woken);
    mr_buf_init(&client->got, 16 << 20);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, client->fds), 0);
    assert_int_equal(begin(feeds, n, after_id, &client->feed), MR_OK);
}

static void close_client(struct client *client) {
    mr_feed_end(client->feed);
    mr_buf_finish(&client->got);
    (void)close(client->fds[0]);
    (void)close(client->fds[1]);
}

static void expect_panes(struct client *client, uint32_t rule, uint64_t after_id, uint64_t last_id) {
    struct mr_buf expected;
    mr_buf_init(&expected, 16 << 20);
    mr_buf_printf(&expected, "retry: 2000\nid: %d-%llu\n\n", EPOCH, (unsigned long long)after_id);
    for (uint64_t id = after_id + 1; id <= last_id; id++) {
        if (id % RULES == rule && id % 7 != 0) {
            unsigned long long number = id;
            mr_buf_printf(&expected, "id: %d-%llu\ndata: %llu\n\n", EPOCH, number, number);
        }
    }
    assert_true(mr_bytes_equal(mr_buf_bytes(&expected), mr_buf_bytes(&client->got)));
    mr_buf_finish(&expected);
}

static void test_places(void **state) {
    (void)state;
    static const char *const bad[] = {"", "-", "1", "1-", "-1", "01-1", "1-00", "1-1 ", " 1-1", "1-1-1", "+1-1", "1--1",
                                      "18446744073709551616-1", "1-18446744073709551616", "99999999999999999999-1"};
    struct mr_feed_place place = {0, 0};
    char text[MR_FEED_PLACE_TEXT];
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_false(mr_feed_place_parse(mr_bytes_text(bad[i]), &place));
    }
    mr_feed_place_text(&(struct mr_feed_place){UINT64_MAX, 0}, text);
    assert_true(mr_feed_place_parse(mr_bytes_text(text), &place));
    assert_true(place.epoch == UINT64_MAX && place.id == 0);
    const struct mr_results_state store = {.epoch = 5, .oldest_id = 10, .newest_id = 20};
    static const struct {
        uint64_t epoch;
        uint64_t id;
        bool reaches;
    } cases[] = {{5, 8, false},  {5, 9, true},   {5, 20, true},         {5, 21, false},
                 {4, 15, false}, {6, 15, false}, {5, UINT64_MAX, false}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        place = (struct mr_feed_place){cases[i].epoch, cases[i].id};
        assert_int_equal(mr_feed_place_reaches(&place, &store), cases[i].reaches);
    }
}

static void test_every_pane_once(void **state) {
    (void)state;
    struct client clients[FEEDS];
    set_outbox(1, 100);
    struct mr_feeds *feeds = open_all();
    for (uint32_t n = 0; n < FEEDS; n++) {
        open_client(&clients[n], feeds, n, n * 30);
        clients[n].until_id = PANES_MAX - RULES + n % RULES + (n % RULES == 0 ? RULES : 0);
        while (clients[n].until_id % 7 == 0) {
            clients[n].until_id -= RULES;
        }
        assert_int_equal(pthread_create(&clients[n].thread, NULL, read_all, &clients[n]), 0);
    }
    uint64_t seed = 9;
    for (uint64_t newest = 100; newest < PANES_MAX;) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        newest += seed >> 52;
        set_outbox(1, newest < PANES_MAX ? newest : PANES_MAX);
    }
    for (uint32_t n = 0; n < FEEDS; n++) {
        assert_int_equal(pthread_join(clients[n].thread, NULL), 0);
        assert_false(clients[n].over);
        expect_panes(&clients[n], n % RULES, n * 30, clients[n].until_id);
        close_client(&clients[n]);
        assert_int_equal(closed[n], 1);
    }
    assert_int_equal(mr_counter_read(&open_feeds), 0);
    mr_feeds_close(feeds);
}

static void test_pruned(void **state) {
    (void)state;
    struct client client;
    set_outbox(1, 20000);
    struct mr_feeds *feeds = open_all();
    open_client(&client, feeds, 0, 0);
    char piece[64];
    size_t len;
    assert_int_equal(mr_feed_read(client.feed, piece, sizeof piece, &len), MR_FEED_BYTES);
    assert_int_equal(mr_feed_read(client.feed, piece, sizeof piece, &len), MR_FEED_WAIT);
    assert_true(sleep_until_woken(&client)); /* the first pieces are in it now */
    set_outbox(15000, 20000);
    (void)read_all(&client);
    assert_true(client.over);
    assert_true(client.got.len > MR_FEED_BYTES_MAX / 2 && client.got.len <= MR_FEED_BYTES_MAX);
    close_client(&client);
    mr_feeds_close(feeds);
}

static void test_bound_and_stop(void **state) {
    (void)state;
    static struct client clients[MR_FEEDS_MAX];
    struct mr_feed *more = NULL;
    set_outbox(1, 0);
    struct mr_feeds *feeds = open_all();
    for (uint32_t n = 0; n < MR_FEEDS_MAX; n++) {
        open_client(&clients[n], feeds, n, 0);
    }
    assert_int_equal(begin(feeds, 0, 0, &more), MR_FULL);
    for (uint32_t n = 0; n < MR_FEEDS_MAX; n++) {
        assert_int_equal(pthread_create(&clients[n].thread, NULL, read_all, &clients[n]), 0);
    }
    (void)shutdown(clients[0].fds[1], SHUT_RDWR); /* hangs up: over, before any stop */
    assert_int_equal(pthread_join(clients[0].thread, NULL), 0);
    assert_true(clients[0].over);
    mr_feeds_stop(feeds, 0);
    assert_int_equal(begin(feeds, 0, 0, &more), MR_CLOSED);
    for (uint32_t n = 0; n < MR_FEEDS_MAX; n++) {
        if (n > 0) {
            assert_int_equal(pthread_join(clients[n].thread, NULL), 0);
        }
        assert_true(clients[n].over);
        expect_panes(&clients[n], n % RULES, 0, 0);
        close_client(&clients[n]);
    }
    mr_feeds_close(feeds);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_places),
        cmocka_unit_test(test_every_pane_once),
        cmocka_unit_test(test_pruned),
        cmocka_unit_test(test_bound_and_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
