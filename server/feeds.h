/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Feeds: answers without an end: what comes into the outbox of the results store, as server-sent events.
 *
 * Idea        One thread follows the outbox for all of them, with the one reader that it needs. A feed belongs either
 *             to its http thread, which sends what is in it, or, when all of that is sent, to the follower, which fills
 *             it again and wakes the connection. So what a slow client does not take stays in the outbox, and nobody
 *             waits for it.
 *
 *                 http thread          read: bytes … bytes, nothing left
 *                     │ wait           ▲
 *                     ▼                │ wake
 *                 follower             the next panes, at most MR_FEED_BYTES_MAX; or a keep-alive; or its end
 *
 * Text        What is sent begins with the client's pause before it connects again and with where it stands; so does
 *             every keep-alive say where the feed stands, which may be far behind the last pane of its rule:
 *
 *                 retry: 2000            id: 1763789012345-4711        : keep-alive
 *                 id: <epoch>-<id>       event: pane                   id: 1763789012345-4720
 *                                        data: {…}
 *
 * End         A feed ends when panes that it was to send have left the outbox (the client learns from its next question
 *             that it has missed something), when the store cannot be read, when its client hangs up, and by stop.
 * Owner       mr_feeds_begin hands a feed out, mr_feed_end takes it back; not while it waits. Its writer's ctx is the
 *             feed's, and closed with it.
 * Threads     begin, read, wait, end: any, one at a time for one feed. wake and write are called on the follower's,
 *             without a lock.
 * Errors      begin: MR_FULL: MR_FEEDS_MAX are open. MR_CLOSED: stopped. MR_NO_MEMORY. The writer stays the caller's.
 * Cost        At most MR_FEEDS_MAX * (MR_FEED_BYTES_MAX + one event) of memory. The outbox is looked at every 50 ms
 *             while a feed waits, else not at all.
 * Invariants  I1 what is sent is, in the order of ids, every pane behind after_id that write shows, each once.
 *             I2 open is the number of feeds begun and not ended, and at most MR_FEEDS_MAX.
 */
#include "base/clock.h"
#include "base/counters.h"
#include "sink/results.h"

#define MR_FEEDS_MAX            100
#define MR_FEED_BYTES_MAX       (64u << 10) /* that wait for one client; more only for an event that is longer */
#define MR_FEED_EVENT_BYTES_MAX (8u << 20)
#define MR_FEED_RETRY_S         5           /* said to those who are one too many */

struct mr_feeds;
struct mr_feed;

/* Of panes, to events. */
struct mr_feed_writer {
    void (*begin)(void *ctx); /* before the panes of a look */
    /* Appends the lines of one event but for its id, and the empty line behind it; false: nothing, it is not shown. */
    bool (*write)(void *ctx, const struct mr_pane *pane, struct mr_buf *buf);
    void (*close)(void *ctx);
    void *ctx;
};

/* Where a feed stands: everything up to this pane of the outbox was sent, or is not for it. */
struct mr_feed_place {
    uint64_t epoch;
    uint64_t id;
};

enum mr_feed_next { MR_FEED_BYTES, MR_FEED_WAIT, MR_FEED_OVER };

struct mr_feeds_options {
    struct mr_results *results;
    struct mr_clock *clock;
    mr_counter *open;  /* how many there are */
    mr_counter *panes; /* sent, by rule */
};

enum mr_status mr_feeds_open(const struct mr_feeds_options *options, struct mr_feeds **ret) MR_MUST_CHECK;
/* Wakes every feed that waits; each ends behind what it has. None begins any more. Waits up to wait_ns until all are
 * ended. NULL is fine, and again. */
void mr_feeds_stop(struct mr_feeds *feeds, uint64_t wait_ns);
/* All are ended. NULL is fine. */
void mr_feeds_close(struct mr_feeds *feeds);

enum mr_status mr_feeds_begin(struct mr_feeds *feeds, uint32_t rule, const struct mr_feed_place *after,
                              const struct mr_feed_writer *writer, struct mr_feed **ret) MR_MUST_CHECK;
void mr_feed_end(struct mr_feed *feed); /* NULL is fine */

/* BYTES: up to cap bytes are in `to`. */
enum mr_feed_next mr_feed_read(struct mr_feed *feed, char *to, size_t cap, size_t *ret_len);
/* Hands the feed over until wake(ctx). fd: its client's, looked at for a hang-up only. false: stopped, the feed is
 * still the caller's, and is over. */
bool mr_feed_wait(struct mr_feed *feed, int fd, void (*wake)(void *ctx), void *ctx) MR_MUST_CHECK;

/* A place as text, "1763789012345-4711", and back. */
#define MR_FEED_PLACE_TEXT 48
void mr_feed_place_text(const struct mr_feed_place *place, char ret[MR_FEED_PLACE_TEXT]);
bool mr_feed_place_parse(struct mr_bytes text, struct mr_feed_place *ret) MR_MUST_CHECK;
/* Whether all that came behind the place is still there. */
bool mr_feed_place_reaches(const struct mr_feed_place *place, const struct mr_results_state *store);
