/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Redrive:
 *   1. the set of redriven places against a naive one, with saving and loading;
 *   2. an event from the future counts once its time has come, passes its own claim by, and leaves its copies duplicates;
 *   3. a second redrive changes nothing: in the same life, over restarts, checkpoints, power cuts, other shards;
 *   4. its own claim only: once that is forgotten and a copy was taken, the redriven one is the duplicate;
 *   5. what is still in the future, or rejected, comes back as a dead letter under the number of the redrive's record;
 *   6. a log of random sends, redrives, checkpoints, restarts and power cuts counts each event once (law L7 after each).
 */
#include "base/report.h"
#include "pipeline/dead_letters.h"
#include "pipeline/redrive.h"
#include "pipeline/redrives.h"
#include "tests/pipeline/node.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static const int64_t epoch_ms = INT64_C(1700000000000);

enum { HOUR_MS = 3600 * 1000 };

static uint64_t next_random(uint64_t *state) {
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *state >> 33;
}

/* ---- 1: the set ---- */

enum { LSNS = 40, INDEXES = 5 };

static void set_against_oracle(void **state) {
    (void)state;
    bool has[LSNS][INDEXES] = {{false}};
    struct mr_redrives set = {.cap = 0};
    uint64_t random = 7;
    for (uint32_t n = 0; n < 20000; n++) {
        uint64_t lsn = next_random(&random) % LSNS;
        uint32_t index = (uint32_t)(next_random(&random) % INDEXES);
        assert_true(mr_redrives_has(&set, lsn + 1, index) == has[lsn][index]);
        if (has[lsn][index]) {
            mr_redrives_remove(&set, lsn + 1, index);
        } else {
            assert_int_equal(mr_redrives_add(&set, lsn + 1, index, 0), MR_OK);
        }
        has[lsn][index] = !has[lsn][index];
        mr_redrives_check(&set);
        if (n % 500 == 0) { /* saved and loaded, without those that the log has lost */
            uint64_t first = next_random(&random) % LSNS;
            struct mr_buf saved;
            mr_buf_init(&saved, 1 << 20);
            mr_redrives_save(&set, first + 1, &saved);
            mr_redrives_finish(&set);
            assert_int_equal(mr_redrives_load(&set, mr_buf_bytes(&saved)), MR_OK);
            mr_buf_finish(&saved);
            for (uint64_t i = 0; i < first; i++) {
                memset(has[i], 0, sizeof has[i]);
            }
        }
    }
    mr_redrives_finish(&set);
}

static void bad_sets_are_refused(void **state) {
    (void)state;
    uint8_t bytes[24] = {1};
    struct mr_redrives set = {.cap = 0};
    assert_int_equal(mr_redrives_load(&set, mr_bytes_of(bytes, 11)), MR_CORRUPT);
    assert_int_equal(mr_redrives_load(&set, mr_bytes_of(bytes + 12, 12)), MR_CORRUPT); /* lsn 0 */
    memcpy(bytes + 12, bytes, 12);
    assert_int_equal(mr_redrives_load(&set, mr_bytes_of(bytes, 24)), MR_CORRUPT); /* twice */
    mr_redrives_finish(&set);
}

static void full_forgets_what_the_log_has_lost(void **state) {
    (void)state;
    struct mr_redrives set = {.cap = 0};
    for (uint32_t i = 0; i < MR_REDRIVES_MAX; i++) {
        assert_int_equal(mr_redrives_add(&set, 1 + i / 4, i % 4, 1), MR_OK);
    }
    assert_int_equal(mr_redrives_add(&set, 1 << 20, 0, 1), MR_LIMIT);
    assert_int_equal(mr_redrives_add(&set, 1 << 20, 0, 101), MR_OK);
    assert_int_equal(set.count, MR_REDRIVES_MAX - 400 + 1);
    assert_false(mr_redrives_has(&set, 100, 3));
    assert_true(mr_redrives_has(&set, 101, 0));
    mr_redrives_check(&set);
    mr_redrives_finish(&set);
}

/* ---- a node ---- */

static void open_node(struct node *node, const char *dedup) {
    char yaml[1024];
    (void)snprintf(yaml, sizeof yaml,
                   "node: { data_dir: data, shards: 3 }\n"
                   "limits: { body: 64KiB, inflated: 64KiB, event: 4KiB, batch_events: 1000, in_flight: 1MiB }\n"
                   "log: { segment: 1200KiB, reserve: 0 }\n"
                   "checkpoint: { every: 1d }\n"
                   "streams: { s: { id: id, time: { field: ts, format: ms }, dedup: { %s },\n"
                   "  watermark: { out_of_orderness: 0s, idle_timeout: off, max_future: 5m } } }\n"
                   "rules: { r: { from: s, group_by: [key], window: { type: tumbling, size: 1s },\n"
                   "  allowed_lateness: 100d, metrics: { n: count } } }\n",
                   dedup);
    node_open(node, yaml, epoch_ms);
}

static void pass_time(struct node *node, int64_t ms) {
    node->clock.wall_ms += ms;
    node->clock.mono_ns += (uint64_t)ms * 1000000;
}

static void send(struct node *node, const char *id, int64_t time_ms) {
    struct mr_buf body;
    mr_buf_init(&body, 1 << 16);
    mr_buf_printf(&body, "{\"id\":\"%s\",\"ts\":%lld,\"key\":\"k\"}\n", id, (long long)time_ms);
    assert_true(node_send(node, &body));
}

struct wanted {
    struct node *node;
    struct mr_redrive_source *source;
    uint32_t nth; /* of the dead letters, from 0 */
    uint32_t seen;
    struct mr_batch *batch;
    struct mr_error error;
};

static void on_entry(void *ctx, const struct mr_dead *entry) {
    struct wanted *w = ctx;
    if (w->seen++ == w->nth) {
        enum mr_status status = mr_redrive_make(w->source, entry, &w->batch, &w->error);
        assert_true((status == MR_OK) == (w->batch != NULL));
    }
}

/* The nth dead letter as a batch, or NULL with an error; *ret_count: how many there are. */
static struct mr_batch *make_from(struct node *node, uint64_t last_lsn, uint32_t nth, uint32_t *ret_count,
                                  struct mr_error *ret_error) {
    struct mr_ask flush = {.kind = MR_ASK_FLUSH};
    assert_true(node_ask(node, &flush));
    struct mr_disk *disk = virtual_disk_disk(node->disk);
    struct wanted w = {.node = node, .nth = nth};
    assert_int_equal(mr_redrive_source_open(disk, "data/log", node->data.plan, last_lsn, &w.source), MR_OK);
    struct mr_dead_page page = {.stream = UINT32_MAX,
                                .reason = -1,
                                .limit = 100000,
                                .last_lsn = mr_pipeline_dead_lsn(node->pipeline),
                                .visit = on_entry,
                                .ctx = &w};
    struct mr_error error;
    assert_int_equal(mr_dead_letters_read(disk, "data/dead", &page, &error), MR_OK);
    mr_redrive_source_close(w.source);
    *ret_count = w.seen;
    *ret_error = w.error;
    return w.batch;
}

static struct mr_batch *make(struct node *node, uint32_t nth, uint32_t *ret_count) {
    struct mr_error error;
    return make_from(node, mr_log_last_lsn(node->data.log), nth, ret_count, &error);
}

/* Redrives the nth dead letter; see the node's answer. */
static bool redrive(struct node *node, uint32_t nth) {
    uint32_t count = 0;
    struct mr_batch *batch = make(node, nth, &count);
    if (batch == NULL) {
        fail_msg("dead letter %u of %u cannot be redriven", nth, count);
    }
    return node_submit(node, batch);
}

static void expect_refused(struct node *node, uint32_t nth) {
    assert_false(redrive(node, nth));
    assert_true(node->answer.given);
    assert_int_equal(node->answer.refusal, MR_REFUSAL_REDRIVEN);
}

static uint32_t dead_count(struct node *node) {
    uint32_t count = 0;
    mr_batch_close(make(node, UINT32_MAX, &count));
    return count;
}

/* Law L7, and what the rule has taken. */
static void expect_counts(struct node *node, uint64_t accepted, uint64_t received) {
    struct mr_stream_stats s;
    struct mr_rule_stats r;
    struct mr_ask flush = {.kind = MR_ASK_FLUSH};
    assert_true(node_ask(node, &flush));
    mr_pipeline_stream_stats(node->pipeline, 0, &s);
    mr_pipeline_rule_stats(node->pipeline, 0, &r);
    assert_int_equal(s.received, s.accepted + s.duplicate + s.late + s.rejected);
    assert_int_equal(s.accepted, r.applied + r.filtered + r.late + r.dropped);
    assert_int_equal(s.accepted, accepted);
    assert_int_equal(s.received, received);
}

#define EXACT "mode: exact, horizon: 24h, ids: 1000"

/* ---- 2 ---- */

static void future_counts_when_its_time_has_come(void **state) {
    (void)state;
    static const char *const modes[] = {EXACT, "mode: none", "mode: observe, horizon: 24h, ids: 1000",
                                        "mode: bloom, horizon: 24h, ids: 1000",
                                        "mode: exact, horizon: 24h, ids: 1000, when_full: evict_oldest"};
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        struct node node;
        struct mr_stream_stats stats;
        open_node(&node, modes[i]);
        node_must_start(&node);
        send(&node, "a", epoch_ms + HOUR_MS);
        assert_int_equal(node.answer.late, 1);
        pass_time(&node, HOUR_MS);
        assert_true(redrive(&node, 0));
        assert_int_equal(node.answer.accepted, 1);
        expect_refused(&node, 0);
        expect_counts(&node, 1, 2);
        mr_pipeline_stream_stats(node.pipeline, 0, &stats);
        assert_int_equal(stats.redriven[MR_REDRIVE_ACCEPTED], 1);
        send(&node, "a", epoch_ms + HOUR_MS);
        assert_int_equal(node.answer.duplicate, i != 1 && i != 2);
        node_stop(&node);
        node_close(&node);
    }
}

/* ---- 3 ---- */

enum between { NOTHING, RESTART, POWER, SAVED, SAVED_POWER, SHARDS, BETWEEN_COUNT };

static void come_between(struct node *node, enum between what) {
    if (what == SAVED || what == SAVED_POWER || what == SHARDS) {
        node_save(node);
    }
    if (what == POWER || what == SAVED_POWER) {
        node_lose_power(node);
    } else if (what != NOTHING) {
        node_stop(node);
    }
    if (what == SHARDS) {
        node->config->node.shards = node->config->node.shards == 3 ? 2 : 3;
    }
    if (what != NOTHING) {
        node_must_start(node);
    }
}

static void once_whatever_comes_between(void **state) {
    (void)state;
    for (int before = 0; before < BETWEEN_COUNT; before++) {
        for (int after = 0; after < BETWEEN_COUNT; after++) {
            struct node node;
            struct mr_stream_stats stats;
            open_node(&node, EXACT);
            node_must_start(&node);
            send(&node, "a", epoch_ms + HOUR_MS);
            send(&node, "b", epoch_ms);
            pass_time(&node, HOUR_MS);
            assert_int_equal(dead_count(&node), 1); /* written: a power cut leaves it */
            come_between(&node, before);
            assert_true(redrive(&node, 0));
            assert_int_equal(node.answer.accepted, 1);
            come_between(&node, after);
            expect_refused(&node, 0);
            expect_counts(&node, 2, 3);
            mr_pipeline_stream_stats(node.pipeline, 0, &stats);
            assert_int_equal(stats.redriven[MR_REDRIVE_ACCEPTED], 1);
            send(&node, "a", epoch_ms + HOUR_MS);
            assert_int_equal(node.answer.duplicate, 1);
            come_between(&node, after);
            expect_refused(&node, 0);
            expect_counts(&node, 2, 4);
            node_stop(&node);
            node_close(&node);
        }
    }
}

/* Two made before either is taken. */
static void once_of_two_under_way(void **state) {
    (void)state;
    struct node node;
    uint32_t count;
    open_node(&node, EXACT);
    node_must_start(&node);
    send(&node, "a", epoch_ms + HOUR_MS);
    pass_time(&node, HOUR_MS);
    struct mr_batch *second = make(&node, 0, &count);
    struct mr_batch *first = make(&node, 0, &count);
    assert_true(node_submit(&node, first));
    assert_int_equal(node.answer.accepted, 1);
    assert_false(node_submit(&node, second));
    assert_int_equal(node.answer.refusal, MR_REFUSAL_REDRIVEN);
    node_stop(&node);
    node_close(&node);
}

/* With log.sync off the dead letters may have outlived the records that they name. */
static void lost_with_the_end_of_the_log(void **state) {
    (void)state;
    struct node node;
    uint32_t count;
    struct mr_error error = {.text = ""};
    open_node(&node, EXACT);
    node_must_start(&node);
    send(&node, "a", epoch_ms + HOUR_MS);
    uint64_t last_lsn = mr_log_last_lsn(node.data.log);
    assert_null(make_from(&node, last_lsn - 1, 0, &count, &error));
    assert_int_equal(count, 1);
    assert_int_equal(error.status, MR_NOT_FOUND);
    assert_non_null(strstr(error.text, "lost with the end of the log"));
    mr_batch_close(make_from(&node, last_lsn, 0, &count, &error));
    node_stop(&node);
    node_close(&node);
}

/* ---- 4 ---- */

static void only_its_own_claim(void **state) {
    (void)state;
    for (int copied = 0; copied < 2; copied++) {
        struct node node;
        int64_t then = epoch_ms + 30 * HOUR_MS;
        open_node(&node, EXACT);
        node_must_start(&node);
        send(&node, "a", then);
        assert_int_equal(node.answer.late, 1);
        pass_time(&node, 30 * HOUR_MS); /* its claim is forgotten by now */
        if (copied == 1) {
            send(&node, "a", then);
            assert_int_equal(node.answer.accepted, 1);
        }
        assert_true(redrive(&node, 0));
        assert_int_equal(node.answer.accepted, copied == 0);
        assert_int_equal(node.answer.duplicate, copied == 1);
        send(&node, "a", then);
        assert_int_equal(node.answer.duplicate, 1);
        expect_counts(&node, 1, 3 + (uint64_t)copied);
        node_stop(&node);
        node_close(&node);
    }
}

/* ---- 5 ---- */

static void back_among_the_dead(void **state) {
    (void)state;
    struct node node;
    open_node(&node, EXACT);
    node_must_start(&node);
    send(&node, "a", epoch_ms + HOUR_MS);
    send(&node, "", epoch_ms); /* no id: rejected */
    assert_int_equal(node.answer.rejected, 1);
    assert_true(redrive(&node, 0));
    assert_int_equal(node.answer.late, 1);
    assert_true(redrive(&node, 1));
    assert_int_equal(node.answer.rejected, 1);
    assert_int_equal(dead_count(&node), 4);
    expect_refused(&node, 0);
    expect_refused(&node, 1);
    expect_counts(&node, 0, 4);
    pass_time(&node, HOUR_MS);
    expect_refused(&node, 0);
    assert_true(redrive(&node, 2)); /* it names the redrive's record */
    assert_int_equal(node.answer.accepted, 1);
    expect_refused(&node, 2);
    node_lose_power(&node);
    node_must_start(&node);
    expect_refused(&node, 2);
    expect_counts(&node, 1, 5);
    node_stop(&node);
    node_close(&node);
}

/* ---- 6 ---- */

enum { IDS = 12, ROUNDS = 60, SEEDS = 12 };

static void each_event_counts_once(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct node node;
        uint64_t random = seed;
        uint64_t total = 0;
        uint64_t received = 0;
        open_node(&node, EXACT);
        node_must_start(&node);
        for (uint32_t n = 0; n < ROUNDS; n++) {
            uint64_t dice = next_random(&random) % 10;
            if (dice < 4) {
                uint32_t id = (uint32_t)(next_random(&random) % IDS);
                char text[8];
                (void)snprintf(text, sizeof text, "%u", id);
                send(&node, text, epoch_ms + (int64_t)id * HOUR_MS / 4);
                total += node.answer.accepted;
                received++;
            } else if (dice < 7) {
                uint32_t count = 0;
                mr_batch_close(make(&node, UINT32_MAX, &count));
                bool taken = count > 0 && redrive(&node, (uint32_t)(next_random(&random) % count));
                total += taken ? node.answer.accepted : 0;
                received += taken;
            } else if (dice == 7) {
                pass_time(&node, HOUR_MS / 3);
            } else {
                come_between(&node, next_random(&random) % BETWEEN_COUNT);
            }
            expect_counts(&node, total, received);
        }
        assert_true(total <= IDS); /* no id is accepted twice, by whatever way */
        /* Its time has come for all: what is left of the dead letters counts, and nothing else does. */
        pass_time(&node, IDS * HOUR_MS / 4);
        uint32_t dead = dead_count(&node);
        for (uint32_t i = 0; i < dead; i++) {
            total += redrive(&node, i) ? node.answer.accepted : 0;
        }
        uint64_t sent = 0;
        for (uint32_t id = 0; id < IDS; id++) {
            char text[8];
            (void)snprintf(text, sizeof text, "%u", id);
            send(&node, text, epoch_ms);
            sent += node.answer.accepted;
        }
        assert_int_equal(total + sent, IDS); /* those never sent before count now; the others have counted */
        assert_int_equal(dead_count(&node), dead);
        node_stop(&node);
        node_close(&node);
    }
}

int main(void) {
    mr_report_configure(-1, MR_LEVEL_ERROR, NULL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(set_against_oracle),
        cmocka_unit_test(bad_sets_are_refused),
        cmocka_unit_test(full_forgets_what_the_log_has_lost),
        cmocka_unit_test(future_counts_when_its_time_has_come),
        cmocka_unit_test(once_whatever_comes_between),
        cmocka_unit_test(once_of_two_under_way),
        cmocka_unit_test(lost_with_the_end_of_the_log),
        cmocka_unit_test(only_its_own_claim),
        cmocka_unit_test(back_among_the_dead),
        cmocka_unit_test(each_event_counts_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
