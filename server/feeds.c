/* SPDX-License-Identifier: Apache-2.0 */
#include "server/feeds.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/event_count.h"
#include "base/report.h"

#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>

enum { FEED_MAGIC = 0x6d724664, RETRY_MS = 2000 };

static const uint64_t poll_ns = UINT64_C(50000000);
static const uint64_t hang_up_ns = UINT64_C(1000000000);   /* how often clients are looked at */
static const uint64_t keep_alive_ns = UINT64_C(15000000000);

struct mr_feed {
    uint32_t magic;
    uint32_t rule;
    struct mr_feeds *feeds;
    struct mr_feed *next; /* of those that wait */
    struct mr_feed_writer writer;
    struct mr_feed_place place; /* as of what is in out */
    struct mr_buf out;
    size_t given;
    uint64_t quiet_ns; /* when a keep-alive is due */
    bool over;
    bool hung_up;
    /* While it waits. */
    int fd;
    void (*wake)(void *ctx);
    void *ctx;
};

struct mr_feeds {
    /* Constant after open. */
    struct mr_clock *clock;
    mr_counter *open;
    mr_counter *panes;
    pthread_t thread;
    bool running; /* stop's */

    /* The follower's. */
    struct mr_results_reader *reader;
    struct mr_feed *waiting;
    uint64_t look_ns; /* when clients are looked at next */
    bool failing;     /* the store could not be read, and it was said */

    struct mr_event_count wake;
    struct mr_event_count left; /* a feed ended */
    pthread_mutex_t lock;       /* guards incoming */
    struct mr_feed *incoming;
    _Atomic bool stopping; /* written under the lock; seq_cst, as open in begin and stop */
};

/* ---- places ---- */

void mr_feed_place_text(const struct mr_feed_place *place, char ret[MR_FEED_PLACE_TEXT]) {
    int len = snprintf(ret, MR_FEED_PLACE_TEXT, "%" PRIu64 "-%" PRIu64, place->epoch, place->id);
    MR_ASSERT(len > 0 && len < MR_FEED_PLACE_TEXT);
}

/* Digits without a zero before them, up to UINT64_MAX. */
static bool take_number(struct mr_bytes *rest, uint64_t *ret) {
    uint64_t value = 0;
    size_t at = 0;
    while (at < rest->len && rest->ptr[at] >= '0' && rest->ptr[at] <= '9') {
        uint64_t digit = (uint64_t)(rest->ptr[at] - '0');
        if (value > (UINT64_MAX - digit) / 10 || (at == 1 && value == 0)) {
            return false;
        }
        value = value * 10 + digit;
        at++;
    }
    *rest = mr_bytes_of(rest->ptr + at, rest->len - at);
    *ret = value;
    return at > 0;
}

bool mr_feed_place_parse(struct mr_bytes text, struct mr_feed_place *ret) {
    struct mr_feed_place place;
    if (!take_number(&text, &place.epoch) || text.len == 0 || text.ptr[0] != '-') {
        return false;
    }
    text = mr_bytes_of(text.ptr + 1, text.len - 1);
    if (!take_number(&text, &place.id) || text.len > 0) {
        return false;
    }
    *ret = place;
    return true;
}

bool mr_feed_place_reaches(const struct mr_feed_place *place, const struct mr_results_state *store) {
    return place->epoch == store->epoch && place->id <= store->newest_id && place->id + 1 >= store->oldest_id;
}

/* ---- one feed ---- */

static void append_place(struct mr_feed *feed, uint64_t id) {
    char text[MR_FEED_PLACE_TEXT];
    const struct mr_feed_place place = {feed->place.epoch, id};
    mr_feed_place_text(&place, text);
    mr_buf_printf(&feed->out, "id: %s\n", text);
}

static bool is_stopping(const struct mr_feeds *feeds) {
    return atomic_load_explicit(&feeds->stopping, memory_order_seq_cst);
}

/* Counts the feed in; MR_OK, MR_FULL or MR_CLOSED. */
static enum mr_status enter(struct mr_feeds *feeds) {
    uint64_t before = atomic_fetch_add_explicit(feeds->open, 1, memory_order_seq_cst);
    enum mr_status status = is_stopping(feeds) ? MR_CLOSED : before >= MR_FEEDS_MAX ? MR_FULL : MR_OK;
    if (status != MR_OK) {
        atomic_fetch_sub_explicit(feeds->open, 1, memory_order_seq_cst);
    }
    return status;
}

static void leave(struct mr_feeds *feeds) {
    uint64_t before = atomic_fetch_sub_explicit(feeds->open, 1, memory_order_seq_cst);
    MR_ASSERT(before > 0);
    mr_event_count_signal(&feeds->left);
}

enum mr_status mr_feeds_begin(struct mr_feeds *feeds, uint32_t rule, const struct mr_feed_place *after,
                              const struct mr_feed_writer *writer, struct mr_feed **ret) {
    enum mr_status status = enter(feeds);
    if (status != MR_OK) {
        return status;
    }
    struct mr_feed *feed = mr_alloc_zero(1, sizeof *feed);
    if (feed == NULL) {
        leave(feeds);
        return MR_NO_MEMORY;
    }
    *feed = (struct mr_feed){.magic = FEED_MAGIC, .rule = rule, .feeds = feeds, .writer = *writer, .place = *after};
    feed->quiet_ns = mr_clock_mono_ns(feeds->clock) + keep_alive_ns;
    mr_buf_init(&feed->out, MR_FEED_BYTES_MAX + MR_FEED_EVENT_BYTES_MAX);
    mr_buf_printf(&feed->out, "retry: %d\n", RETRY_MS);
    append_place(feed, after->id);
    mr_buf_append_char(&feed->out, '\n');
    if (feed->out.failed) {
        feed->writer.close = NULL;
        mr_feed_end(feed);
        return MR_NO_MEMORY;
    }
    *ret = feed;
    return MR_OK;
}

void mr_feed_end(struct mr_feed *feed) {
    if (feed == NULL) {
        return;
    }
    struct mr_feeds *feeds = feed->feeds;
    MR_ASSERT(feed->magic == FEED_MAGIC && feed->wake == NULL);
    if (feed->writer.close != NULL) {
        feed->writer.close(feed->writer.ctx);
    }
    mr_buf_finish(&feed->out);
    feed->magic = 0;
    mr_free(feed);
    leave(feeds);
}

enum mr_feed_next mr_feed_read(struct mr_feed *feed, char *to, size_t cap, size_t *ret_len) {
    MR_ASSERT(feed->magic == FEED_MAGIC && feed->wake == NULL && feed->given <= feed->out.len && cap > 0);
    size_t left = feed->out.len - feed->given;
    if (left == 0) {
        return feed->over || is_stopping(feed->feeds) ? MR_FEED_OVER : MR_FEED_WAIT;
    }
    *ret_len = left < cap ? left : cap;
    memcpy(to, feed->out.ptr + feed->given, *ret_len);
    feed->given += *ret_len;
    return MR_FEED_BYTES;
}

bool mr_feed_wait(struct mr_feed *feed, int fd, void (*wake)(void *ctx), void *ctx) {
    struct mr_feeds *feeds = feed->feeds;
    MR_ASSERT(feed->magic == FEED_MAGIC && feed->wake == NULL && feed->given == feed->out.len);
    pthread_mutex_lock(&feeds->lock);
    bool taken = !is_stopping(feeds); /* stop sets it under the lock: the follower takes all that came before */
    if (taken) {
        mr_buf_clear(&feed->out);
        feed->given = 0;
        feed->fd = fd;
        feed->wake = wake;
        feed->ctx = ctx;
        feed->next = feeds->incoming;
        feeds->incoming = feed;
    }
    pthread_mutex_unlock(&feeds->lock);
    if (taken) {
        mr_event_count_signal(&feeds->wake); /* feeds are there until the http threads are gone */
    }
    return taken;
}

/* ---- the follower ---- */

struct look {
    struct mr_feed *feed;
    uint64_t shown;
    uint64_t taken_id;
    bool full;
};

static bool visit(void *ctx, uint64_t id, const struct mr_pane *pane) {
    struct look *look = ctx;
    struct mr_feed *feed = look->feed;
    size_t before = feed->out.len;
    append_place(feed, id);
    bool shown = feed->writer.write(feed->writer.ctx, pane, &feed->out);
    if (!shown || feed->out.failed || (feed->out.len > MR_FEED_BYTES_MAX && before > 0)) {
        look->full = shown || feed->out.failed;
        feed->out.len = before;
    }
    if (!look->full) {
        look->taken_id = id;
        look->shown += shown;
    }
    return !look->full && feed->out.len < MR_FEED_BYTES_MAX;
}

static void say_failure(struct mr_feeds *feeds, const struct mr_error *error) {
    char quoted[512];
    if (!feeds->failing) {
        mr_report(MR_LEVEL_WARN, "event_stream_failed", "reason=%s",
                  mr_report_value(error->text, quoted, sizeof quoted));
    }
    feeds->failing = true;
}

/* The next panes go into out. What was pruned while they were read is noticed behind it: then nothing of it counts. */
static enum mr_status read_panes(struct mr_feed *feed, struct mr_error *error) {
    struct mr_feeds *feeds = feed->feeds;
    struct look look = {.feed = feed, .taken_id = feed->place.id};
    struct mr_results_state store;
    uint64_t read_id = feed->place.id;
    feed->writer.begin(feed->writer.ctx);
    enum mr_status status =
        mr_results_read_outbox_rule(feeds->reader, feed->rule, feed->place.id, visit, &look, &read_id, error);
    if (status == MR_OK) {
        status = mr_results_read_state(feeds->reader, &store, error);
    }
    if (status == MR_OK && feed->out.failed) {
        status = mr_error_set(error, MR_NO_MEMORY, "no memory for an event, or it is longer than %u bytes",
                              MR_FEED_EVENT_BYTES_MAX);
    }
    if (status != MR_OK || !mr_feed_place_reaches(&feed->place, &store)) {
        mr_buf_finish(&feed->out);
        feed->over = true;
        return status;
    }
    feed->place.id = look.full ? look.taken_id : read_id;
    mr_counter_add(&feeds->panes[feed->rule], look.shown);
    return MR_OK;
}

/* Returns whether there is something for its client, or it is over. */
static bool fill(struct mr_feed *feed, const struct mr_results_state *store, uint64_t now_ns) {
    struct mr_feeds *feeds = feed->feeds;
    struct mr_error error;
    MR_ASSERT(feed->out.len == 0 && feed->given == 0);
    if (feed->hung_up) {
        feed->over = true;
        return true;
    }
    if (feed->place.id < store->newest_id || feed->place.epoch != store->epoch) {
        if (read_panes(feed, &error) != MR_OK) {
            say_failure(feeds, &error);
            return true;
        }
        feeds->failing = false;
    }
    if (feed->out.len == 0 && !feed->over && now_ns >= feed->quiet_ns) {
        mr_buf_append_text(&feed->out, ": keep-alive\n");
        append_place(feed, feed->place.id);
        mr_buf_append_char(&feed->out, '\n');
        feed->over = feed->out.failed;
    }
    if (feed->out.len > 0) {
        feed->quiet_ns = now_ns + keep_alive_ns;
    }
    return feed->out.len > 0 || feed->over;
}

/* The last that is done with it here. */
static void give_back(struct mr_feed *feed) {
    void (*wake)(void *ctx) = feed->wake;
    void *ctx = feed->ctx;
    feed->next = NULL;
    feed->wake = NULL;
    wake(ctx);
}

/* Suspended connections are not looked at by libmicrohttpd: nobody else would notice before the next keep-alive. */
static void look_at_clients(struct mr_feeds *feeds, uint64_t now_ns) {
    struct pollfd fds[MR_FEEDS_MAX];
    nfds_t count = 0;
    if (now_ns < feeds->look_ns) {
        return;
    }
    feeds->look_ns = now_ns + hang_up_ns;
    for (struct mr_feed *feed = feeds->waiting; feed != NULL; feed = feed->next) {
        MR_ASSERT(count < MR_FEEDS_MAX);
        fds[count++] = (struct pollfd){.fd = feed->fd, .events = POLLRDHUP};
    }
    if (poll(fds, count, 0) <= 0) {
        return; /* none did; or a signal came: the next time */
    }
    count = 0;
    for (struct mr_feed *feed = feeds->waiting; feed != NULL; feed = feed->next) {
        feed->hung_up = (fds[count++].revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
    }
}

/* Returns whether there is more to do at once. */
static bool follow_once(struct mr_feeds *feeds) {
    struct mr_results_state store;
    struct mr_error error;
    uint64_t now_ns = mr_clock_mono_ns(feeds->clock);
    bool more = false;
    if (feeds->waiting == NULL) {
        return false;
    }
    look_at_clients(feeds, now_ns);
    enum mr_status status = mr_results_read_state(feeds->reader, &store, &error);
    if (status != MR_OK) {
        say_failure(feeds, &error);
    }
    struct mr_feed **at = &feeds->waiting;
    while (*at != NULL) {
        struct mr_feed *feed = *at;
        feed->over = feed->over || status != MR_OK;
        if (feed->over || fill(feed, &store, now_ns)) {
            *at = feed->next;
            give_back(feed);
        } else {
            more = more || feed->place.id < store.newest_id;
            at = &feed->next;
        }
    }
    return more;
}

/* false: stopping, and these are the last. */
static bool take_incoming(struct mr_feeds *feeds) {
    pthread_mutex_lock(&feeds->lock);
    struct mr_feed *incoming = feeds->incoming;
    feeds->incoming = NULL;
    bool goes_on = !is_stopping(feeds);
    pthread_mutex_unlock(&feeds->lock);
    while (incoming != NULL) {
        struct mr_feed *feed = incoming;
        incoming = feed->next;
        feed->next = feeds->waiting;
        feeds->waiting = feed;
    }
    return goes_on;
}

static void *follow(void *arg) {
    struct mr_feeds *feeds = arg;
    for (;;) {
        uint32_t value = mr_event_count_value(&feeds->wake);
        if (!take_incoming(feeds)) {
            break;
        }
        if (!follow_once(feeds)) {
            mr_event_count_wait(&feeds->wake, value, feeds->waiting != NULL ? poll_ns : UINT64_MAX);
        }
    }
    while (feeds->waiting != NULL) {
        struct mr_feed *feed = feeds->waiting;
        feeds->waiting = feed->next;
        give_back(feed);
    }
    return NULL;
}

/* ---- all of them ---- */

enum mr_status mr_feeds_open(const struct mr_feeds_options *options, struct mr_feeds **ret) {
    struct mr_feeds *feeds = mr_alloc_zero(1, sizeof *feeds);
    if (feeds == NULL) {
        return MR_NO_MEMORY;
    }
    feeds->clock = options->clock;
    feeds->open = options->open;
    feeds->panes = options->panes;
    mr_event_count_init(&feeds->wake);
    mr_event_count_init(&feeds->left);
    int failed = pthread_mutex_init(&feeds->lock, NULL);
    MR_ASSERT(failed == 0);
    enum mr_status status = mr_results_reader_open(options->results, &feeds->reader);
    if (status == MR_OK && pthread_create(&feeds->thread, NULL, follow, feeds) != 0) {
        status = MR_NO_MEMORY;
    }
    if (status != MR_OK) {
        mr_feeds_close(feeds);
        return status;
    }
    feeds->running = true;
    *ret = feeds;
    return MR_OK;
}

void mr_feeds_stop(struct mr_feeds *feeds, uint64_t wait_ns) {
    if (feeds == NULL || !feeds->running) {
        return;
    }
    uint64_t start_ns = mr_clock_mono_ns(feeds->clock);
    pthread_mutex_lock(&feeds->lock);
    atomic_store_explicit(&feeds->stopping, true, memory_order_seq_cst);
    pthread_mutex_unlock(&feeds->lock);
    mr_event_count_signal(&feeds->wake);
    int failed = pthread_join(feeds->thread, NULL);
    MR_ASSERT(failed == 0);
    feeds->running = false;
    for (;;) {
        uint32_t value = mr_event_count_value(&feeds->left);
        uint64_t waited_ns = mr_clock_mono_ns(feeds->clock) - start_ns;
        if (mr_counter_read(feeds->open) == 0 || waited_ns >= wait_ns) {
            return;
        }
        mr_event_count_wait(&feeds->left, value, wait_ns - waited_ns);
    }
}

void mr_feeds_close(struct mr_feeds *feeds) {
    if (feeds == NULL) {
        return;
    }
    mr_feeds_stop(feeds, 0);
    MR_ASSERT(feeds->waiting == NULL && feeds->incoming == NULL && mr_counter_read(feeds->open) == 0);
    if (feeds->reader != NULL) {
        mr_results_reader_close(feeds->reader);
    }
    int failed = pthread_mutex_destroy(&feeds->lock);
    MR_ASSERT(failed == 0);
    mr_free(feeds);
}
