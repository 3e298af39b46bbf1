/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Conflicts (dedup.conflicts: detect):
 *   1. what is a copy and what a conflict, within a request and over several, and the dead letter that comes of it;
 *   2. what came first is what others are compared with, also when it was late or too far ahead;
 *   3. a log of random sends, checkpoints, restarts, power cuts, other shards, expiry, and the setting switched on and
 *      off, against a list of what came first with each id: exactly the conflicts become dead letters, in order, and
 *      are counted;
 *   4. conflicts are not redriven.
 */
#include "base/report.h"
#include "pipeline/dead_letters.h"
#include "pipeline/redrive.h"
#include "tests/pipeline/node.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static const int64_t epoch_ms = INT64_C(1700000000000);

enum { HORIZON_MS = 60 * 1000, LETTERS_MAX = 4000 };

static uint64_t next_random(uint64_t *state) {
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *state >> 33;
}

/* ---- a node ---- */

static void open_node(struct node *node) {
    node_open(node,
              "node: { data_dir: data, shards: 3 }\n"
              "limits: { body: 64KiB, inflated: 64KiB, event: 4KiB, batch_events: 1000, in_flight: 1MiB }\n"
              "log: { segment: 1200KiB, reserve: 0 }\n"
              "checkpoint: { every: 1d }\n"
              "streams: { s: { id: id, time: { field: ts, format: ms }, missing_id: accept,\n"
              "  dedup: { horizon: 60s, ids: 20000, conflicts: detect },\n"
              "  watermark: { out_of_orderness: 0s, idle_timeout: off, max_future: 5m } } }\n"
              "rules: { r: { from: s, window: { type: tumbling, size: 1s }, metrics: { n: count } } }\n",
              epoch_ms);
}

static void restart(struct node *node, bool conflicts) {
    node_stop(node);
    node->config->streams[0].dedup.conflicts = conflicts;
    node_must_start(node);
}

static void pass_time(struct node *node, int64_t ms) {
    node->clock.wall_ms += ms;
    node->clock.mono_ns += (uint64_t)ms * 1000000;
}

static void send(struct node *node, const char *text) {
    struct mr_buf body;
    mr_buf_init(&body, 1 << 16);
    mr_buf_append_text(&body, text);
    assert_true(node_send(node, &body));
}

/* ---- dead letters ---- */

struct letters {
    char *json[LETTERS_MAX];
    uint32_t count;
    struct node *node;
};

static void on_letter(void *ctx, const struct mr_dead *entry) {
    struct letters *l = ctx;
    assert_true(l->count < LETTERS_MAX);
    l->json[l->count] = strndup((const char *)entry->json.ptr, entry->json.len);
    assert_non_null(l->json[l->count]);
    l->count++;
}

static void read_letters(struct node *node, struct letters *ret) {
    struct mr_ask flush = {.kind = MR_ASK_FLUSH};
    assert_true(node_ask(node, &flush));
    *ret = (struct letters){.node = node};
    struct mr_dead_page page = {.stream = UINT32_MAX,
                                .reason = MR_DEAD_CONFLICT,
                                .limit = LETTERS_MAX,
                                .last_lsn = mr_pipeline_dead_lsn(node->pipeline),
                                .visit = on_letter,
                                .ctx = ret};
    struct mr_error error;
    assert_int_equal(mr_dead_letters_read(virtual_disk_disk(node->disk), "data/dead", &page, &error), MR_OK);
}

static void free_letters(struct letters *letters) {
    for (uint32_t i = 0; i < letters->count; i++) {
        free(letters->json[i]);
    }
}

/* Each letter holds this text, in this order; the counter says so many, and law L7 holds. */
static void expect_letters(struct node *node, const char *const *texts, uint32_t count) {
    struct letters *letters = malloc(sizeof *letters);
    struct mr_stream_stats s;
    assert_non_null(letters);
    read_letters(node, letters);
    for (uint32_t i = 0; i < count && i < letters->count; i++) {
        if (strstr(letters->json[i], texts[i]) == NULL) {
            fail_msg("letter %u is %s, not of %s", i, letters->json[i], texts[i]);
        }
    }
    assert_int_equal(letters->count, count);
    free_letters(letters);
    free(letters);
    mr_pipeline_stream_stats(node->pipeline, 0, &s);
    assert_int_equal(s.conflicts, count);
    assert_int_equal(s.received, s.accepted + s.duplicate + s.late + s.rejected);
}

/* ---- 1, 2 ---- */

#define T "\"ts\":1700000000000"

static void copies_and_conflicts(void **state) {
    (void)state;
    struct node node;
    open_node(&node);
    node_must_start(&node);
    send(&node, "{\"id\":\"a\"," T ",\"v\":1}\n"
                " \t{\"id\":\"a\"," T ",\"v\":1} \r\n" /* a copy: the space around is not part of it */
                "{\"id\":\"a\"," T ",\"v\":2}\n"
                "{\"id\":\"b\"," T "}\n"
                "{" T ",\"id\":\"b\"}\n" /* the same values in another text */
                "{" T ",\"v\":1}\n{" T ",\"v\":2}\n"); /* without an id none is another's */
    assert_int_equal(node.answer.accepted, 4);
    assert_int_equal(node.answer.duplicate, 3);
    send(&node, "{\"id\":\"a\"," T ",\"v\":2}");
    assert_int_equal(node.answer.duplicate, 1); /* again: it is compared with the first, not with the one before */
    send(&node, "{\"id\":\"\\u0061\"," T ",\"v\":1}"); /* the same id, written otherwise */
    assert_int_equal(node.answer.duplicate, 1);
    static const char *const wanted[] = {
        "{\"reason\":\"conflict\",\"stream\":\"s\",\"lsn\":", "\"event\":{\"id\":\"a\"," T ",\"v\":2}}",
        "\"index\":0,\"time\":\"2023-11-14T22:13:20.000Z\",\"event\":{\"id\":\"\\u0061\"," T ",\"v\":1}}"};
    struct letters letters;
    read_letters(&node, &letters);
    assert_int_equal(letters.count, 4);
    uint32_t of_a = 0;
    for (uint32_t i = 0; i < letters.count; i++) {
        assert_ptr_equal(strstr(letters.json[i], wanted[0]), letters.json[i]);
        of_a += strstr(letters.json[i], wanted[1]) != NULL;
    }
    assert_int_equal(of_a, 2);
    assert_non_null(strstr(letters.json[3], wanted[2]));
    free_letters(&letters);
    node_stop(&node);
    node_close(&node);
}

static void what_was_not_counted_is_compared_with(void **state) {
    (void)state;
    struct node node;
    open_node(&node);
    node_must_start(&node);
    send(&node, "{\"id\":\"late\",\"ts\":1600000000000}\n{\"id\":\"far\",\"ts\":1800000000000}\n"
                "{\"id\":\"now\"," T "}\n");
    assert_int_equal(node.answer.late, 1); /* the watermark as it stood before: the first is not late yet */
    send(&node, "{\"id\":\"late2\",\"ts\":1600000000000}\n");
    assert_int_equal(node.answer.late, 1);
    send(&node, "{\"id\":\"far\",\"ts\":1800000000001}\n");
    send(&node, "{\"id\":\"late2\"," T "}\n");
    send(&node, "{\"id\":\"late2\",\"ts\":1600000000000}\n");
    assert_int_equal(node.answer.duplicate, 1);
    static const char *const wanted[] = {"{\"id\":\"far\",\"ts\":1800000000001}", "{\"id\":\"late2\"," T "}"};
    expect_letters(&node, wanted, 2);
    node_stop(&node);
    node_close(&node);
}

/* ---- 3 ---- */

enum { POOL = 60, VALUES = 3 };

struct oracle {
    uint64_t random;
    bool on;
    int first[POOL]; /* value; -1: not known */
    char *texts[LETTERS_MAX];
    uint32_t count;
};

static void forget(struct oracle *o) {
    for (uint32_t i = 0; i < POOL; i++) {
        o->first[i] = -1;
    }
}

static void send_random(struct node *node, struct oracle *o) {
    char text[96];
    uint32_t id = (uint32_t)(next_random(&o->random) % POOL);
    int value = (int)(next_random(&o->random) % VALUES);
    (void)snprintf(text, sizeof text, "{\"id\":\"e%u\"," T ",\"v\":%d}", id, value);
    send(node, text);
    bool duplicate = node->answer.duplicate == 1;
    if (!duplicate) {
        o->first[id] = o->on ? value : -1;
    } else if (o->on && o->first[id] >= 0 && o->first[id] != value) {
        assert_true(o->count < LETTERS_MAX);
        o->texts[o->count++] = strdup(text);
    }
}

static void come_between(struct node *node, struct oracle *o) {
    switch (next_random(&o->random) % 6) {
    case 0:
        node_save(node);
        return;
    case 1:
        pass_time(node, (int64_t)(next_random(&o->random) % (HORIZON_MS / 2)));
        return;
    case 2:
        node_lose_power(node);
        break;
    case 3:
        node_stop(node);
        node->config->node.shards = 1 + (uint32_t)(next_random(&o->random) % 4);
        break;
    case 4:
        node_stop(node);
        o->on = !o->on || next_random(&o->random) % 2 == 0; /* mostly on */
        node->config->streams[0].dedup.conflicts = o->on;
        break;
    default:
        node_stop(node);
        break;
    }
    if (!o->on) {
        forget(o);
    }
    node_must_start(node);
}

static void exactly_the_conflicts(void **state) {
    (void)state;
    uint32_t letters = 0;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct node node;
        static struct oracle o;
        o = (struct oracle){.random = seed, .on = true};
        forget(&o);
        open_node(&node);
        node_must_start(&node);
        for (uint32_t n = 0; n < 500; n++) {
            if (next_random(&o.random) % 8 == 0) {
                come_between(&node, &o);
            } else {
                send_random(&node, &o);
            }
            if (n % 100 == 99) {
                expect_letters(&node, (const char *const *)o.texts, o.count);
            }
        }
        letters += o.count;
        for (uint32_t i = 0; i < o.count; i++) {
            free(o.texts[i]);
        }
        node_stop(&node);
        node_close(&node);
    }
    assert_true(letters > 500);
}

static void switched_off_and_on(void **state) {
    (void)state;
    for (int saved = 0; saved < 2; saved++) {
        struct node node;
        open_node(&node);
        node.config->streams[0].dedup.conflicts = false;
        node_must_start(&node);
        send(&node, "{\"id\":\"a\"," T ",\"v\":1}");
        if (saved != 0) {
            node_save(&node);
        }
        restart(&node, true);
        send(&node, "{\"id\":\"a\"," T ",\"v\":2}"); /* remembered without its content */
        send(&node, "{\"id\":\"b\"," T ",\"v\":1}");
        send(&node, "{\"id\":\"b\"," T ",\"v\":2}");
        static const char *const wanted[] = {"{\"id\":\"b\"," T ",\"v\":2}", "{\"id\":\"b\"," T ",\"v\":3}"};
        expect_letters(&node, wanted, 1);
        restart(&node, true);
        send(&node, "{\"id\":\"b\"," T ",\"v\":3}");
        expect_letters(&node, wanted, 2);
        restart(&node, false);
        send(&node, "{\"id\":\"b\"," T ",\"v\":4}");
        for (int again = 0; again < 2; again++) {
            restart(&node, true);
            send(&node, "{\"id\":\"b\"," T ",\"v\":4}"); /* forgotten */
            expect_letters(&node, wanted, 2);
            node_save(&node);
        }
        node_stop(&node);
        node_close(&node);
    }
}

/* ---- 4 ---- */

struct attempt {
    struct mr_redrive_source *source;
    uint32_t refused;
};

static void try_redrive(void *ctx, const struct mr_dead *entry) {
    struct attempt *attempt = ctx;
    struct mr_batch *batch = NULL;
    struct mr_error error;
    assert_int_equal(mr_redrive_make(attempt->source, entry, &batch, &error), MR_UNSUPPORTED);
    assert_null(batch);
    assert_string_equal(error.text, mr_redrive_refusal(MR_DEAD_CONFLICT));
    attempt->refused++;
}

static void conflicts_are_not_redriven(void **state) {
    (void)state;
    struct node node;
    open_node(&node);
    node_must_start(&node);
    send(&node, "{\"id\":\"a\"," T ",\"v\":1}\n{\"id\":\"a\"," T ",\"v\":2}\n");
    struct mr_ask flush = {.kind = MR_ASK_FLUSH};
    assert_true(node_ask(&node, &flush));
    struct mr_disk *disk = virtual_disk_disk(node.disk);
    struct attempt attempt = {.refused = 0};
    uint64_t last_lsn = mr_counter_read(&mr_log_stats(node.data.log)->last_lsn);
    assert_int_equal(mr_redrive_source_open(disk, "data/log", node.data.plan, last_lsn, &attempt.source), MR_OK);
    struct mr_dead_page page = {.stream = UINT32_MAX,
                                .reason = -1,
                                .limit = 10,
                                .last_lsn = mr_pipeline_dead_lsn(node.pipeline),
                                .visit = try_redrive,
                                .ctx = &attempt};
    struct mr_error error;
    assert_int_equal(mr_dead_letters_read(disk, "data/dead", &page, &error), MR_OK);
    assert_int_equal(attempt.refused, 1);
    mr_redrive_source_close(attempt.source);
    node_stop(&node);
    node_close(&node);
}

int main(void) {
    mr_report_configure(-1, MR_LEVEL_ERROR, NULL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(copies_and_conflicts),
        cmocka_unit_test(what_was_not_counted_is_compared_with),
        cmocka_unit_test(exactly_the_conflicts),
        cmocka_unit_test(switched_off_and_on),
        cmocka_unit_test(conflicts_are_not_redriven),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
