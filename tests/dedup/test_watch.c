/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves of the watch, by hand, over one virtual server and over a cluster of three:
 *   1. a new store is made, by one node or by two at once, and ends with canaries of one epoch;
 *   2. FLUSHALL, a restart without data, an empty replica are noticed within a check and end in a new epoch, once
 *      every node has asserted, not before; a restart with data and a failover are SUSPECT from the right time on;
 *   3. a migration of slots is nothing;
 *   4. who was down: late, remembered, fresh, crashed in the middle, gone for good;
 *   5. other streams or another key are refused, with both said;
 *   6. an assertion that may have been lost again is wanted again, under another number;
 *   7. each allocation fails once: it goes on as if nothing had been.
 */
#include "base/alloc.h"
#include "tests/dedup/watch_world.h"

#include <stdio.h>

enum {
    CHECK_MS = 2000,
    TIMEOUT_MS = 500,
    SLACK_MS = 50,
    NOTICED_MS = CHECK_MS + TIMEOUT_MS + SLACK_MS
};

static struct mr_watch *watch_of(struct world *world, uint32_t node) {
    return world->nodes[node].watch;
}

static struct mr_watch_stats stats_of(struct world *world, uint32_t node) {
    struct mr_watch_stats stats;
    mr_watch_stats(watch_of(world, node), &stats);
    return stats;
}

static bool same_epoch(struct mr_epoch a, struct mr_epoch b) {
    return memcmp(&a, &b, sizeof a) == 0;
}

static void start_all(struct world *world) {
    for (uint32_t i = 0; i < world->node_count; i++) {
        world_start(world, i);
    }
    world_until_all(world, MR_WATCH_STRICT);
}

static struct world *open_started(uint64_t seed, uint32_t nodes, bool cluster) {
    struct world *world = world_open(&(struct world_options){
        .seed = seed, .nodes = nodes, .servers = cluster ? 5 : 1, .masters = cluster ? 3 : 0});
    start_all(world);
    return world;
}

static void claim_some(struct world *world, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        world_record(world, i % world->node_count);
    }
    world_run(world, 500);
}

static void check_store(struct world *world) {
    struct mr_epoch epoch = mr_watch_epoch(watch_of(world, 0));
    for (uint32_t i = 0; i < world->node_count; i++) {
        if (watch_of(world, i) != NULL) {
            assert_true(same_epoch(mr_watch_epoch(watch_of(world, i)), epoch));
            assert_int_equal(mr_watch_need(watch_of(world, i)), 0);
            assert_string_equal(mr_watch_reason(watch_of(world, i)), "");
        }
    }
    for (uint32_t t = 0; t < world->tag_count; t++) {
        assert_true(world_canary_is(world, t, &epoch));
    }
}

/* ---- 1: making ---- */

static void a_new_store_is_made(void **state) {
    (void)state;
    for (uint32_t nodes = 1; nodes <= 3; nodes++) {
        for (int cluster = 0; cluster < 2; cluster++) {
            struct world *world = open_started(nodes, nodes, cluster != 0);
            check_store(world);
            assert_true(world->time.ns < UINT64_C(15000000000)); /* two checks, and some looks */
            for (uint32_t i = 0; i < nodes; i++) {
                assert_int_equal(stats_of(world, i).lost, 0);
                assert_int_equal(stats_of(world, i).suspected, 0);
                assert_int_equal(stats_of(world, i).not_strict, 0);
            }
            claim_some(world, 30);
            world_check_counts(world);
            world_close(world);
        }
    }
}

static void a_crash_of_the_maker_ends_nothing(void **state) {
    (void)state;
    for (uint64_t when_ms = 1; when_ms < 6000; when_ms += when_ms < 20 ? 1 : 709) {
        struct world *world =
            world_open(&(struct world_options){.seed = when_ms, .nodes = 2, .tags = 200});
        world_start(world, 0);
        world_run(world, when_ms);
        world_crash(world, 0);
        world_start(world, 1);
        world_until(world, 1, MR_WATCH_STRICT);
        world_start(world, 0);
        world_until_all(world, MR_WATCH_STRICT);
        check_store(world);
        world_close(world);
    }
}

static void what_is_flushed_while_it_is_made_is_made_again(void **state) {
    (void)state;
    for (uint64_t when_ms = 1; when_ms < 5000; when_ms += when_ms < 20 ? 1 : 507) {
        for (int cluster = 0; cluster < 2; cluster++) {
            struct world *world = world_open(&(struct world_options){.seed = when_ms,
                                                                     .nodes = 2,
                                                                     .servers = cluster ? 3 : 1,
                                                                     .masters = cluster ? 3 : 0,
                                                                     .tags = 200});
            world_start(world, 0);
            world_start(world, 1);
            world_run(world, when_ms);
            virtual_redis_flush(world->v, cluster ? (uint32_t)(when_ms % 3) : 0);
            world_run(world, NOTICED_MS);
            world_until_all(world, MR_WATCH_STRICT);
            check_store(world);
            world_close(world);
        }
    }
}

/* What was lost between filling and the first belief is found before it: becoming ready, all is read. */
static void nobody_believes_before_reading_all(void **state) {
    (void)state;
    struct world *world = world_open(&(struct world_options){.seed = 7, .nodes = 1, .tags = 400});
    struct mr_bytes ready;
    char first[2 * MR_EPOCH_LEN + 1] = "";
    char now[2 * MR_EPOCH_LEN + 1] = "";
    world_start(world, 0);
    while (!virtual_redis_peek_field(world->v, 0, MR_BYTES("millrace:{shop}"), MR_BYTES("ready"),
                                     &ready)) {
        (void)world_step_node(world, 0);
        world->time.ns += 1000000;
    }
    assert_int_not_equal(mr_watch_state(watch_of(world, 0)), MR_WATCH_STRICT);
    (void)snprintf(first, sizeof first, "%.*s", (int)ready.len, (const char *)ready.ptr);
    static const char *const del[] = {"DEL", "c:{shop/orders/399}"};
    world_command(world, 0, del, 2);
    world_until(world, 0, MR_WATCH_STRICT);
    struct mr_epoch epoch = mr_watch_epoch(watch_of(world, 0));
    for (size_t i = 0; i < MR_EPOCH_LEN; i++) {
        (void)snprintf(now + 2 * i, 3, "%02x", epoch.bytes[i]);
    }
    assert_string_not_equal(first, now);
    check_store(world);
    world_close(world);
}

/* ---- 2: losses and doubts ---- */

/* Noticed in time by both; and as neither asserts, neither goes on. */
static void flush_is_noticed(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 8; seed++) {
        bool cluster = seed % 2 == 1;
        struct world *world = open_started(seed, 2, cluster);
        struct mr_epoch before = mr_watch_epoch(watch_of(world, 0));
        claim_some(world, 40);
        world_run(world, 1 + seed * 300);
        world->nodes[1].keeps_quiet = true;
        virtual_redis_flush(world->v, cluster ? (uint32_t)(seed / 2 % 3) : 0);
        world_run(world, NOTICED_MS);
        assert_int_not_equal(mr_watch_state(watch_of(world, 0)), MR_WATCH_STRICT);
        assert_int_not_equal(mr_watch_state(watch_of(world, 1)), MR_WATCH_STRICT);
        world_run(world, 70000); /* longer than peers_ms: node 1 lives, and is waited for */
        world_expect(world, 0, MR_WATCH_AWAY, "waiting for node node-1");
        world_expect(world, 1, MR_WATCH_LOST, "asserted again");
        assert_true(same_epoch(mr_watch_epoch(watch_of(world, 1)), before));
        world->nodes[1].keeps_quiet = false;
        world_until_all(world, MR_WATCH_STRICT);
        check_store(world);
        assert_false(same_epoch(mr_watch_epoch(watch_of(world, 0)), before));
        assert_int_equal(stats_of(world, 0).lost, 1);
        assert_int_equal(stats_of(world, 0).peers_missing, 0);
        claim_some(world, 40);
        world_check_counts(world);
        world_close(world);
    }
}

static void what_a_script_found_stops_at_once(void **state) {
    (void)state;
    struct world *world = open_started(3, 2, false);
    claim_some(world, 40);
    virtual_redis_flush(world->v, 0);
    mr_watch_say_lost(watch_of(world, 0), 7);
    assert_int_not_equal(mr_watch_state(watch_of(world, 0)), MR_WATCH_STRICT);
    world_run(world, 20);
    assert_int_not_equal(mr_watch_state(watch_of(world, 1)), MR_WATCH_SUSPECT);
    assert_true(strlen(mr_watch_reason(watch_of(world, 0))) > 0);
    world_until_all(world, MR_WATCH_STRICT);
    uint64_t lost = stats_of(world, 0).lost;
    assert_int_equal(lost, 1);
    mr_watch_say_lost(watch_of(world, 0), 7); /* a late one: looked at, and found to be nothing */
    assert_int_equal(mr_watch_state(watch_of(world, 0)), MR_WATCH_AWAY);
    assert_true(world_until(world, 0, MR_WATCH_STRICT) < 100);
    assert_int_equal(stats_of(world, 0).lost, lost);
    world_check_counts(world);
    world_close(world);
}

static void a_missing_canary_is_enough(void **state) {
    (void)state;
    struct world *world = open_started(4, 1, true);
    static const char *const del[] = {"DEL", "c:{shop/orders/5}"};
    world_command(world, world_tag_server(world, 5), del, 2);
    world_run(world, NOTICED_MS); /* fewer than 256 on each server: every check reads all */
    world_until(world, 0, MR_WATCH_STRICT);
    assert_int_equal(stats_of(world, 0).lost, 1);
    check_store(world);
    world_close(world);
}

static void restarts_and_failovers_are_told_apart(void **state) {
    (void)state;
    enum { KEPT, EMPTY, FAILED_OVER, REPLACED, REPLACED_EMPTY, KINDS };
    for (int kind = 0; kind < KINDS; kind++) {
        bool cluster = kind >= REPLACED;
        struct world *world = open_started(10 + (uint64_t)kind, 3, cluster);
        claim_some(world, 60);
        world_run(world, 20000);
        uint32_t server = cluster ? 1 : 0;
        int64_t now_ms = mr_clock_wall_ms(&world->time.clock);
        for (uint32_t i = 0; i < 3; i++) {
            world->nodes[i].keeps_quiet = true;
        }
        switch (kind) {
        case KEPT:
        case EMPTY:
            virtual_redis_down(world->v, server);
            world_run(world, 3000);
            world_expect(world, 0, MR_WATCH_AWAY, "not connected");
            virtual_redis_up(world->v, server,
                             kind == EMPTY ? VIRTUAL_REDIS_EMPTY : VIRTUAL_REDIS_KEPT);
            break;
        case FAILED_OVER:
            virtual_redis_fail_over(world->v, server, 0);
            break;
        case REPLACED:
            virtual_redis_take_over(world->v, server, 3, 0);
            break;
        default:
            virtual_redis_take_over(world->v, server, 3, 0);
            virtual_redis_flush(world->v, 3);
        }
        bool lost = kind == EMPTY || kind == REPLACED_EMPTY;
        world_until_all(world, lost ? MR_WATCH_LOST : MR_WATCH_SUSPECT);
        for (uint32_t i = 0; i < 3 && !lost; i++) { /* the last good check, less recent_ms */
            int64_t since_ms = mr_watch_since_ms(watch_of(world, i));
            assert_in_range(now_ms - since_ms, 10000, 10000 + CHECK_MS + TIMEOUT_MS);
            assert_int_equal(stats_of(world, i).suspected, 1);
        }
        world->nodes[0].keeps_quiet = false;
        world_run(world, 10000);
        world_expect(world, 0, MR_WATCH_AWAY, "waiting for node node-"); /* one is not enough */
        world->nodes[1].keeps_quiet = false;
        world->nodes[2].keeps_quiet = false;
        world_until_all(world, MR_WATCH_STRICT);
        check_store(world);
        assert_int_equal(stats_of(world, 2).lost, lost);
        claim_some(world, 60);
        world_check_counts(world);
        world_close(world);
    }
}

/* Claims that were asserted a moment ago are recent, however old they are. */
static void a_failover_after_an_assertion_wants_it_again(void **state) {
    (void)state;
    struct world *world = open_started(30, 1, false);
    claim_some(world, 40);
    world_run(world, 20000);
    virtual_redis_flush(world->v, 0);
    world_run(world, NOTICED_MS);
    world_until(world, 0, MR_WATCH_STRICT);
    virtual_redis_fail_over(world->v, 0, 0);
    world->nodes[0].keeps_quiet = true;
    world_until(world, 0, MR_WATCH_LOST);
    world->nodes[0].keeps_quiet = false;
    world_until(world, 0, MR_WATCH_STRICT);
    world_run(world, 20000);
    virtual_redis_fail_over(world->v, 0, 0);
    world->nodes[0].keeps_quiet = true;
    world_until(world, 0, MR_WATCH_SUSPECT);
    int64_t since_ms = mr_watch_since_ms(watch_of(world, 0));
    world->nodes[0].keeps_quiet = false;
    world_until(world, 0, MR_WATCH_STRICT);
    virtual_redis_fail_over(world->v, 0, 0);
    world->nodes[0].keeps_quiet = true;
    world_until(world, 0, MR_WATCH_SUSPECT);
    assert_true(mr_watch_since_ms(watch_of(world, 0)) <= since_ms);
    world_close(world);
}

static void eviction_is_a_loss(void **state) {
    (void)state;
    struct world *world = open_started(31, 2, false);
    claim_some(world, 40);
    static const char *const set[] = {"SET", "somebody", "else's"};
    world_command(world, 0, set, 3);
    do { /* the canaries must stay: evicted_keys alone tells */
        virtual_redis_evict(world->v, 0, 1);
    } while (false);
    world_run(world, NOTICED_MS);
    world_until_all(world, MR_WATCH_STRICT);
    assert_int_equal(stats_of(world, 0).lost, 1);
    world_check_counts(world);
    world_close(world);
}

/* ---- 3: migration ---- */

static void migration_is_nothing(void **state) {
    (void)state;
    struct world *world = open_started(40, 2, true);
    claim_some(world, 60);
    for (uint32_t t = 0; t < 20; t++) { /* to a master there is, and to a new one */
        uint32_t slot = mr_redis_slot(world->tags[t]);
        uint32_t from = virtual_redis_master_of(world->v, slot);
        virtual_redis_migrate_begin(world->v, slot, t % 2 == 0 ? 4 : (from + 1) % 3);
        world_run(world, world_below(world, 1500));
        (void)virtual_redis_migrate_keys(world->v, slot, 1);
        world_run(world, world_below(world, 1500));
        claim_some(world, 4);
        virtual_redis_migrate_end(world->v, slot);
        world_run(world, world_below(world, 3000));
    }
    world_run(world, 5000);
    world_until_all(world, MR_WATCH_STRICT);
    for (uint32_t i = 0; i < 2; i++) {
        assert_int_equal(stats_of(world, i).lost, 0);
        assert_int_equal(stats_of(world, i).suspected, 0);
    }
    check_store(world);
    claim_some(world, 60);
    world_check_counts(world);
    world_close(world);
}

/* ---- 4: who was down ---- */

static void late_nodes_assert_for_themselves(void **state) {
    (void)state;
    struct world *world = open_started(50, 3, false);
    claim_some(world, 60);
    world_crash(world, 2);
    virtual_redis_flush(world->v, 0);
    world_run(world, 50000);
    world_expect(world, 0, MR_WATCH_AWAY, "waiting for node node-2");
    world_run(world, 15000); /* given up after peers_ms */
    world_until(world, 0, MR_WATCH_STRICT);
    world_until(world, 1, MR_WATCH_STRICT);
    assert_int_equal(stats_of(world, 0).peers_missing, 1);
    world_start(world, 2);
    world->nodes[2].keeps_quiet = true;
    world_until(world, 2, MR_WATCH_LOST);
    assert_int_equal(mr_watch_state(watch_of(world, 0)), MR_WATCH_STRICT);
    world->nodes[2].keeps_quiet = false;
    world_until(world, 2, MR_WATCH_STRICT);
    check_store(world);
    assert_int_equal(stats_of(world, 0).lost, 1);
    world_close(world);
}

static void a_restart_is_nothing_when_nothing_happened(void **state) {
    (void)state;
    for (int cluster = 0; cluster < 2; cluster++) {
        struct world *world = open_started(51, 2, cluster != 0);
        claim_some(world, 60);
        world_run(world, 5000);
        world_crash(world, 1);
        world_run(world, 100000);
        world_start(world, 1);
        assert_true(world_until(world, 1, MR_WATCH_STRICT) < 100);
        assert_int_equal(stats_of(world, 1).suspected, 0);
        check_store(world);
        world_close(world);
    }
}

static void a_restart_finds_what_happened_meanwhile(void **state) {
    (void)state;
    enum { RESTARTED, EVICTED, FLUSHED, REPLACED, KINDS };
    for (int kind = 0; kind < KINDS; kind++) {
        struct world *world = open_started(52 + (uint64_t)kind, 1, kind == REPLACED);
        claim_some(world, 60);
        world_run(world, 5000);
        int64_t now_ms = mr_clock_wall_ms(&world->time.clock);
        world_crash(world, 0);
        world_run(world, 10000);
        if (kind == RESTARTED) {
            virtual_redis_down(world->v, 0);
            virtual_redis_up(world->v, 0, VIRTUAL_REDIS_KEPT);
        } else if (kind == EVICTED) {
            static const char *const set[] = {"SET", "x", "y"};
            world_command(world, 0, set, 3);
            virtual_redis_evict(world->v, 0, 1);
        } else if (kind == FLUSHED) {
            virtual_redis_flush(world->v, 0);
        } else {
            virtual_redis_take_over(world->v, 2, 4, 0);
        }
        world_start(world, 0);
        world->nodes[0].keeps_quiet = true;
        bool doubt = kind == RESTARTED || kind == REPLACED;
        world_until(world, 0, doubt ? MR_WATCH_SUSPECT : MR_WATCH_LOST);
        if (doubt) {
            assert_in_range(now_ms - mr_watch_since_ms(watch_of(world, 0)), 10000,
                            10000 + 2 * CHECK_MS);
        }
        world->nodes[0].keeps_quiet = false;
        uint64_t took_ms = world_until(world, 0, MR_WATCH_STRICT);
        /* With the store's key its list of nodes is gone: peers that may exist get their time. */
        assert_true(doubt ? took_ms < 1000 : kind == FLUSHED ? took_ms > 50000 : took_ms < 10000);
        claim_some(world, 30);
        world_check_counts(world);
        world_close(world);
    }
}

static bool has_field(struct world *world, const char *field) {
    struct mr_bytes value;
    return virtual_redis_peek_field(world->v, 0, MR_BYTES("millrace:{shop}"), mr_bytes_text(field),
                                    &value);
}

static void who_was_not_seen_for_a_day_is_no_peer(void **state) {
    (void)state;
    static const uint64_t hour_ns = UINT64_C(3600000000000);
    for (uint64_t hours = 23; hours <= 25; hours += 2) {
        struct world *world = open_started(59, 2, false);
        world_crash(world, 1);
        world->time.ns += hours * hour_ns;
        world_run(world, 3000);
        virtual_redis_flush(world->v, 0);
        world_run(world, NOTICED_MS);
        uint64_t took_ms = world_until(world, 0, MR_WATCH_STRICT);
        assert_true(hours < 24 ? took_ms > 50000 : took_ms < 10000);
        assert_int_equal(stats_of(world, 0).peers_missing, hours < 24);
        world_close(world);
    }
    struct world *world = open_started(59, 2, false);
    world_crash(world, 1);
    world->time.ns += 6 * 24 * hour_ns;
    world_run(world, 3000);
    assert_true(has_field(world, "node:node-1") && has_field(world, "good:node-1"));
    world->time.ns += 25 * hour_ns;
    world_run(world, 3000);
    assert_false(has_field(world, "node:node-1") || has_field(world, "good:node-1") ||
                 has_field(world, "asserted:node-1"));
    assert_true(has_field(world, "node:node-0") && has_field(world, "epoch"));
    world_start(world, 1); /* nothing says what it believed in: it asserts everything */
    world->nodes[1].keeps_quiet = true;
    world_until(world, 1, MR_WATCH_LOST);
    world->nodes[1].keeps_quiet = false;
    world_until_all(world, MR_WATCH_STRICT);
    check_store(world);
    world_close(world);
}

/* It crashed with assertions half done: what it remembers is the epoch before. */
static void a_crash_in_a_recovery_starts_it_again(void **state) {
    (void)state;
    struct world *world = open_started(60, 2, false);
    claim_some(world, 60);
    world->nodes[1].keeps_quiet = true;
    virtual_redis_flush(world->v, 0);
    world_until(world, 1, MR_WATCH_LOST);
    world_crash(world, 1);
    world_run(world, 10000);
    world_expect(world, 0, MR_WATCH_AWAY, "waiting for node node-1");
    world_start(world, 1);
    world_until(world, 1, MR_WATCH_LOST);
    world->nodes[1].keeps_quiet = false;
    world_until_all(world, MR_WATCH_STRICT);
    assert_int_equal(stats_of(world, 0).peers_missing, 0);
    check_store(world);
    claim_some(world, 30);
    world_check_counts(world);
    world_close(world);
}

static void a_fresh_node_waits_for_a_recovery(void **state) {
    (void)state;
    struct world *world = world_open(&(struct world_options){.seed = 61, .nodes = 3});
    world_start(world, 0);
    world_start(world, 1);
    world_until(world, 0, MR_WATCH_STRICT);
    world_until(world, 1, MR_WATCH_STRICT);
    claim_some(world, 60);
    world->nodes[1].keeps_quiet = true;
    virtual_redis_flush(world->v, 0);
    world_start(world, 2); /* fresh, at the worst moment */
    world_run(world, 30000);
    world_expect(world, 2, MR_WATCH_AWAY, "waiting for node node-1");
    world->nodes[1].keeps_quiet = false;
    world_until_all(world, MR_WATCH_STRICT);
    assert_int_equal(stats_of(world, 2).lost, 0);
    check_store(world);
    claim_some(world, 60);
    world_check_counts(world);
    world_close(world);
}

/* A second loss while assertions go on: what was asserted is gone, and is wanted under another number. */
static void a_loss_in_a_recovery_starts_it_again(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 6; seed++) {
        bool cluster = seed % 2 == 1;
        struct world *world = open_started(62 + seed, 2, cluster);
        claim_some(world, 60);
        virtual_redis_flush(world->v, cluster ? (uint32_t)(seed / 2) : 0);
        world->nodes[1].keeps_quiet = true;
        world_until(world, 1, MR_WATCH_LOST);
        world_run(world, 1000);
        uint64_t need = mr_watch_need(watch_of(world, 1));
        assert_int_not_equal(need, 0);
        virtual_redis_flush(world->v, cluster ? (uint32_t)(seed / 2) : 0);
        if (cluster && seed / 2 != world_store_server(world)) {
            world->nodes[1].keeps_quiet =
                false; /* only filling finds it: nothing else is there yet to be missed */
        }
        world_run(world, 10000);
        assert_int_not_equal(mr_watch_need(watch_of(world, 1)), need);
        world->nodes[1].keeps_quiet = false;
        world_until_all(world, MR_WATCH_STRICT);
        check_store(world);
        claim_some(world, 60);
        world_check_counts(world);
        world_close(world);
    }
}

/* A replica that lagged brings the canary back that stood there before: filling compares. */
static void a_canary_of_before_is_found_when_it_is_filled(void **state) {
    (void)state;
    struct world *world = open_started(69, 1, true);
    virtual_redis_flush(world->v, 0);
    world->nodes[0].keeps_quiet = true;
    world_until(world, 0, MR_WATCH_LOST);
    uint64_t need = mr_watch_need(watch_of(world, 0));
    static const char *const set[] = {"SET", "c:{shop/orders/5}", "of before"};
    world_command(world, world_tag_server(world, 5), set, 3);
    world->nodes[0].keeps_quiet = false;
    world_until(world, 0, MR_WATCH_STRICT);
    assert_int_equal(stats_of(world, 0).lost, 2);
    assert_int_equal(mr_watch_need(watch_of(world, 0)), 0);
    assert_int_not_equal(need, 0);
    check_store(world);
    world_close(world);
}

/* ---- 5: refusals ---- */

static void other_streams_are_refused(void **state) {
    (void)state;
    struct world *world = open_started(70, 2, false);
    world_crash(world, 1);
    world->options.shape = "orders:key:1d";
    world_start(world, 1);
    world_until(world, 1, MR_WATCH_MISMATCH);
    world_expect(world, 1, MR_WATCH_MISMATCH, "\"orders:bucket:1d\", and here \"orders:key:1d\"");
    world_run(world, 10000);
    world_expect(world, 1, MR_WATCH_MISMATCH, "delete that key");
    assert_int_equal(mr_watch_state(watch_of(world, 0)), MR_WATCH_STRICT);
    world_crash(world, 1);
    world_crash(world, 0);
    static const char *const del[] = {"DEL", "millrace:{shop}"}; /* what the text says to do */
    world_command(world, 0, del, 2);
    world_start(world, 0);
    world_start(world, 1);
    world_until_all(world, MR_WATCH_STRICT);
    check_store(world);
    world_close(world);
}

static void another_key_is_refused(void **state) {
    (void)state;
    struct world *world = open_started(71, 1, false);
    struct world_node *node = &world->nodes[0];
    world_crash(world, 0);
    struct mr_watch_options options;
    node->redis = world_client(world, "other", 5);
    world_watch_options(node, &options);
    options.key_hash = 99;
    assert_int_equal(mr_watch_open(&options, &node->watch, NULL), MR_OK);
    world_until(world, 0, MR_WATCH_MISMATCH);
    world_expect(world, 0, MR_WATCH_MISMATCH, "the hash of the key");
    world_close(world);
}

/* ---- 7: memory ---- */

static bool run_with_failure(size_t nth) {
    struct world *world = world_open(&(struct world_options){.seed = 80, .nodes = 2, .tags = 20});
    world_start(world, 0);
    world_run(world, 100);
    struct world_node *node = &world->nodes[1];
    node->redis = world_client(world, node->name, 5);
    struct mr_watch_options options;
    world_watch_options(node, &options);
    mr_alloc_fail_at(nth, 0);
    enum mr_status status = mr_watch_open(&options, &node->watch, NULL);
    if (status != MR_OK) {
        assert_int_equal(status, MR_NO_MEMORY);
        assert_int_equal(mr_watch_open(&options, &node->watch, NULL), MR_OK);
    }
    world_run(world, 7000);
    virtual_redis_flush(world->v, 0);
    world_run(world, NOTICED_MS);
    world_until_all(world, MR_WATCH_STRICT);
    bool failed = mr_alloc_failed();
    mr_alloc_fail_at(0, 0);
    check_store(world);
    world_close(world);
    return failed;
}

static void memory_may_fail(void **state) {
    (void)state;
    size_t nth = 1;
    while (run_with_failure(nth)) {
        nth++;
    }
    assert_true(nth > 10);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_store_is_made),
        cmocka_unit_test(a_crash_of_the_maker_ends_nothing),
        cmocka_unit_test(what_is_flushed_while_it_is_made_is_made_again),
        cmocka_unit_test(nobody_believes_before_reading_all),
        cmocka_unit_test(flush_is_noticed),
        cmocka_unit_test(what_a_script_found_stops_at_once),
        cmocka_unit_test(a_missing_canary_is_enough),
        cmocka_unit_test(restarts_and_failovers_are_told_apart),
        cmocka_unit_test(a_failover_after_an_assertion_wants_it_again),
        cmocka_unit_test(eviction_is_a_loss),
        cmocka_unit_test(migration_is_nothing),
        cmocka_unit_test(late_nodes_assert_for_themselves),
        cmocka_unit_test(a_restart_is_nothing_when_nothing_happened),
        cmocka_unit_test(a_restart_finds_what_happened_meanwhile),
        cmocka_unit_test(who_was_not_seen_for_a_day_is_no_peer),
        cmocka_unit_test(a_crash_in_a_recovery_starts_it_again),
        cmocka_unit_test(a_fresh_node_waits_for_a_recovery),
        cmocka_unit_test(a_loss_in_a_recovery_starts_it_again),
        cmocka_unit_test(a_canary_of_before_is_found_when_it_is_filled),
        cmocka_unit_test(other_streams_are_refused),
        cmocka_unit_test(another_key_is_refused),
        cmocka_unit_test(memory_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
