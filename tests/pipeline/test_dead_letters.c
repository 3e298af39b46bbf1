/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Up to which bundle dead letters are written, as a start finds it:
 *   1. the last record of their log says it, and only when it has none behind the checkpoint, the checkpoint;
 *   2. so none is missing when the log lost bundles whose dead letters were written, and others have their numbers now;
 *   3. retention removes the oldest, and what is left opens and says the same.
 */
#include "base/dead.h"
#include "base/report.h"
#include "pipeline/dead_letters.h"
#include "tests/pipeline/node.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { TEXT_MAX = 1 << 16, RECORDS_MAX = 8 };

static const int64_t epoch_ms = INT64_C(1700000000000);

/* ---- 1: the scan ---- */

struct scan_case {
    uint64_t seqs[RECORDS_MAX]; /* what the records say, from lsn 2 on; 0 ends */
    uint64_t from_lsn;
    uint64_t known_seq;
    uint64_t expected;
};

static void append_seq(struct mr_log *log, uint64_t seq) {
    struct mr_error error;
    struct mr_log_entry entry = {
        .type = MR_RECORD_DEAD, .payload = {{&seq, sizeof seq}}, .payload_count = 1};
    assert_int_equal(mr_log_append(log, mr_log_last_seq(log) + 1, epoch_ms, &entry, 1, &error), MR_OK);
}

static uint64_t scan(const struct scan_case *c) {
    struct virtual_disk *disk = virtual_disk_open(1);
    struct mr_log_options options = {.disk = virtual_disk_disk(disk),
                                     .clock = mr_clock_system(),
                                     .dir = "dead",
                                     .segment_bytes = 1 << 16,
                                     .incarnation = 1};
    struct mr_error error;
    struct mr_log *log = NULL;
    assert_int_equal(mr_log_open(&options, &log, &error), MR_OK);
    for (uint32_t i = 0; i < RECORDS_MAX && c->seqs[i] != 0; i++) {
        append_seq(log, c->seqs[i]);
    }
    mr_log_close(log);
    uint64_t seq = 0;
    assert_int_equal(mr_dead_letters_last_seq_scan(options.disk, options.dir, c->from_lsn, c->known_seq, &seq, &error),
                     MR_OK);
    virtual_disk_close(disk);
    return seq;
}

static void the_last_record_says_it(void **state) {
    (void)state;
    static const struct scan_case cases[] = {
        {{0}, 1, 0, 0},
        {{5, 9}, 1, 0, 9},
        {{5, 9}, 3, 5, 9},
        {{5, 9}, 4, 9, 9},    /* nothing behind the checkpoint */
        {{5, 9, 4}, 1, 0, 4}, /* a start that lost 5 to 9 wrote the last one */
        {{5, 9, 4}, 4, 9, 4}, /* behind a checkpoint that knew of 9 */
        {{5, 9, 4, 6}, 4, 9, 6},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint64_t seq = scan(&cases[i]);
        if (seq != cases[i].expected) {
            fail_msg("case %zu: %llu", i, (unsigned long long)seq);
        }
    }
}

/* ---- 2: a node ---- */

static void open_node(struct node *node) {
    node_open(node,
              "node: { data_dir: data, shards: 2 }\n"
              "limits: { body: 64KiB, inflated: 64KiB, event: 4KiB, batch_events: 1000, in_flight: 1MiB }\n"
              "log: { segment: 1200KiB, reserve: 0, sync: off }\n"
              "checkpoint: { every: 1d }\n"
              "streams: { s: { id: id, time: { field: ts, format: ms },\n"
              "  dedup: { mode: exact, horizon: 24h, ids: 1000 } } }\n"
              "rules: { r: { from: s, group_by: [key], window: { type: tumbling, size: 1s },\n"
              "  metrics: { n: count } } }\n",
              epoch_ms);
}

/* One bundle with one event that has no id. */
static void send(struct node *node, const char *name) {
    struct mr_buf body;
    mr_buf_init(&body, 1 << 16);
    mr_buf_printf(&body, "{\"ts\":%lld,\"key\":\"%s\"}\n", (long long)epoch_ms, name);
    assert_true(node_send(node, &body));
    assert_int_equal(node->answer.rejected, 1);
}

static void saved(struct mr_ask *ask, void *ctx) {
    assert_int_equal(ask->status, MR_OK);
    *(bool *)ctx = !ask->closed;
}

static void step(struct node *node, uint32_t times) {
    for (uint32_t i = 0; i < times; i++) {
        node_step(node);
    }
}

/* A checkpoint whose dead letters are written together with those of bundles behind it. */
static void save_late(struct node *node) {
    bool done = false;
    struct mr_ask ask = {.kind = MR_ASK_CHECKPOINT, .done = saved, .ctx = &done};
    node->flusher_stands = true;
    assert_true(mr_pipeline_checkpoint(node->pipeline, &ask));
    step(node, 10); /* the log is synced up to the checkpoint */
    send(node, "lost-1");
    send(node, "lost-2");
    send(node, "lost-3");
    step(node, 10); /* the shards are done with all of them */
    node->flusher_stands = false;
    for (uint32_t i = 0; i < NODE_STEPS_MAX && !done; i++) {
        node_step(node);
    }
    assert_true(done);
}

static void add_json(void *ctx, const struct mr_dead *entry) {
    mr_buf_append_bytes(ctx, entry->json);
}

static uint32_t count_dead(struct node *node, const char *name) {
    struct mr_buf text;
    struct mr_error error;
    mr_buf_init(&text, TEXT_MAX);
    struct mr_dead_page page = {.stream = UINT32_MAX,
                                .reason = -1,
                                .limit = 1000,
                                .last_lsn = mr_pipeline_dead_lsn(node->pipeline),
                                .visit = add_json,
                                .ctx = &text};
    assert_int_equal(mr_dead_letters_read(virtual_disk_disk(node->disk), "data/dead", &page, &error), MR_OK);
    mr_buf_append(&text, "", 1);
    assert_false(text.failed || page.more);
    uint32_t count = 0;
    for (const char *at = (const char *)text.ptr; (at = strstr(at, name)) != NULL; at++) {
        count++;
    }
    mr_buf_finish(&text);
    return count;
}

static void numbers_given_again(void **state) {
    (void)state;
    static const char *const names[] = {"kept-1", "again-1", "again-2", "again-3", "again-4"};
    struct node node;
    open_node(&node);
    node_must_start(&node);
    send(&node, "kept-1");
    save_late(&node);
    node_lose_power(&node);

    node_must_start(&node);
    const struct mr_restored *restored = &node.data.restored;
    assert_true(mr_log_last_seq(node.data.log) < restored->dead_seq); /* the log has lost bundles */
    uint64_t dead_seq = restored->dead_seq;
    node.flusher_stands = true;
    for (uint32_t i = 1; i < sizeof names / sizeof names[0]; i++) {
        send(&node, names[i]);
    }
    assert_true(mr_log_last_seq(node.data.log) > dead_seq); /* they have the numbers of those lost */
    node_stop(&node); /* before their dead letters are written */
    node.flusher_stands = false;

    node_must_start(&node);
    struct mr_ask flush = {.kind = MR_ASK_FLUSH};
    assert_true(node_ask(&node, &flush));
    for (uint32_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        uint32_t count = count_dead(&node, names[i]);
        if (count != 1) {
            fail_msg("%s is listed %u times", names[i], count);
        }
    }
    node_stop(&node);
    node_close(&node);
}

/* ---- 3: what retention has removed ---- */

/* Segments go from the front; a log that may begin anywhere opens, says the same seq, and one that may not does not. */
static void begins_behind_what_is_gone(void **state) {
    (void)state;
    struct virtual_disk *disk = virtual_disk_open(1);
    struct mr_log_options options = {.disk = virtual_disk_disk(disk),
                                     .clock = mr_clock_system(),
                                     .dir = "dead",
                                     .segment_bytes = 8192,
                                     .incarnation = 1};
    struct mr_error error;
    struct mr_log *log = NULL;
    assert_int_equal(mr_log_open(&options, &log, &error), MR_OK);
    for (uint64_t seq = 5; seq < 205; seq++) {
        append_seq(log, seq);
    }
    struct mr_log_retention retention = {.needed_lsn = 150, .before_ms = INT64_MIN, .bytes_max = 1};
    bool removed = true;
    while (removed) {
        assert_int_equal(mr_log_trim(log, &retention, &removed, &error), MR_OK);
    }
    uint64_t first = mr_log_first_lsn(log);
    assert_true(first > 1 && first <= 150);
    mr_log_close(log);
    assert_int_equal(mr_log_open(&options, &log, &error), MR_CORRUPT);
    options.begins_anywhere = true;
    assert_int_equal(mr_log_open(&options, &log, &error), MR_OK);
    assert_true(mr_log_first_lsn(log) == first);
    mr_log_close(log);
    uint64_t seq = 0;
    assert_int_equal(mr_dead_letters_last_seq_scan(options.disk, options.dir, 1, 0, &seq, &error), MR_OK);
    assert_int_equal(seq, 204);
    options.from_lsn = 1000; /* the end is needed in any case */
    assert_int_equal(mr_log_open(&options, &log, &error), MR_CORRUPT);
    virtual_disk_close(disk);
}

int main(void) {
    mr_report_configure(-1, MR_LEVEL_ERROR, NULL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_last_record_says_it),
        cmocka_unit_test(numbers_given_again),
        cmocka_unit_test(begins_behind_what_is_gone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
