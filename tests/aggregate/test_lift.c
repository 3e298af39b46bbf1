/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that lifting is the sum of its events:
 *   1. random NDJSON bodies, decoded by event/, of two streams with several rules: verdicts,
 *      counters, dead letters and the partials of every parcel (their owner, order and numbers) are
 *      those of a plain loop over the events, whatever the watermark, the floors and the shards;
 *   2. keys: what the encoded key of each kind of value is, texts with escapes and long ones;
 *   3. dead letters, whole; the millisecond at which an event becomes late, or future;
 *   4. bundles do not leak into each other; a failing allocation is told.
 */
#include "aggregate/window.h"
#include "base/alloc.h"
#include "base/dead.h"
#include "base/key.h"
#include "event/decode.h"
#include "tests/aggregate/kit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

enum { STREAMS = 2, RULES = 4, EVENTS_MAX = 700, SHARDS = 3, BATCHES = 3 };

#define T0 INT64_C(1700000000000)

static const struct mr_bytes stream_names[] = {{(const uint8_t *)"clicks", 6},
                                               {(const uint8_t *)"orders", 6}};

struct event {
    int64_t time_ms;
    uint32_t key;
    int64_t value;
};

struct batch {
    struct event events[EVENTS_MAX];
    struct mr_batch *decoded;
    uint32_t count;
    int64_t watermark_ms;
};

struct world {
    struct mr_rule rules[RULES];
    struct mr_schema *schema;
    struct mr_decoder *decoder;
    struct mr_lift *lift;
    struct kit_random random;
    struct batch batches[BATCHES];
};

static struct mr_schema *open_schema(void) {
    static const struct mr_field fields[] = {
        {{(const uint8_t *)"k", 1}, MR_FIELD_KEY},
        {{(const uint8_t *)"v", 1}, MR_FIELD_NUMBER},
        {{(const uint8_t *)"n", 1}, MR_FIELD_KEY},
    };
    struct mr_schema_options options = {
        .stream = MR_BYTES("clicks"),
        .time = MR_BYTES("ts"),
        .time_format = MR_TIME_MS,
        .missing_id = MR_MISSING_ACCEPT,
        .fields = fields,
        .field_count = 3,
        .event_bytes_max = 1 << 16,
        .events_max = 100000,
        .shards = 1,
    };
    struct mr_schema *schema = NULL;
    assert_int_equal(mr_schema_open(&options, &schema, NULL), MR_OK);
    return schema;
}

static struct mr_batch *decode(struct world *w, const char *text, size_t len) {
    struct mr_buf body;
    struct mr_batch *batch = NULL;
    mr_buf_init(&body, 1 << 24);
    mr_buf_append(&body, text, len);
    assert_non_null(mr_buf_reserve(&body, MR_PADDING));
    assert_int_equal(mr_decode(w->decoder, w->schema, MR_FORMAT_NDJSON, &body, &batch, NULL),
                     MR_OK);
    assert_int_equal(batch->rejected, 0);
    return batch;
}

static void open_world(struct world *w, uint64_t seed, uint32_t shard, uint32_t shards) {
    memset(w, 0, sizeof *w);
    w->random.state = seed;
    w->schema = open_schema();
    assert_int_equal(mr_decoder_open(MR_DECODE_AUTO, &w->decoder), MR_OK);
    w->rules[0] = kit_rule(0, 1, 1, 1000, 0);
    w->rules[1] = kit_rule(1, 0, 1, 700, 500);
    w->rules[2] = kit_rule(2, 0, 2, 60000, 10000);
    w->rules[3] = kit_rule(3, 0, 0, 10, 100);
    assert_int_equal(mr_lift_open(w->rules, RULES, stream_names, STREAMS, shard, shards, &w->lift),
                     MR_OK);
}

static void close_world(struct world *w) {
    for (uint32_t b = 0; b < BATCHES; b++) {
        mr_batch_close(w->batches[b].decoded);
    }
    mr_lift_close(w->lift);
    mr_decoder_close(w->decoder);
    mr_schema_close(w->schema);
}

static void make_batch(struct world *w, struct batch *b, uint32_t stream) {
    struct mr_buf text;
    mr_buf_init(&text, 1 << 24);
    mr_batch_close(b->decoded);
    b->count = 1 + kit_below(&w->random, EVENTS_MAX);
    for (uint32_t i = 0; i < b->count; i++) {
        struct event *e = &b->events[i];
        uint32_t spread = kit_below(&w->random, 20) == 0 ? 30000 : 2500;
        e->time_ms = T0 + kit_below(&w->random, spread);
        e->key = kit_below(&w->random, kit_below(&w->random, 2) == 0 ? 3 : 50);
        e->value = (int64_t)kit_below(&w->random, 2000) - 1000;
        /* What follows a key differs from one event to the next. */
        mr_buf_printf(&text, "{\"ts\":%lld,\"k\":\"k%u\"%.*s,\"n\":%u,\"v\":%lld}\n", (long long)e->time_ms, e->key,
                      (int)kit_below(&w->random, 4), "   ", e->key % 3, (long long)e->value);
    }
    b->decoded = decode(w, (const char *)text.ptr, text.len);
    assert_int_equal(b->decoded->count, b->count);
    b->decoded->stream = stream;
    b->decoded->lsn = 100 + stream;
    b->watermark_ms = kit_below(&w->random, 3) == 0 ? INT64_MIN : T0 + kit_below(&w->random, 2500);
    mr_buf_finish(&text);
}

/* What the plain loop makes of the bundle: a model's windows, and the order of first appearance by
 * rule. */
struct oracle {
    struct model_window windows[RULES][KIT_WINDOWS_MAX * 8];
    uint32_t window_count[RULES];
    struct first {
        uint32_t window;
        uint32_t group;
    } order[RULES][20000];
    uint32_t order_count[RULES];
    struct mr_lift_rule_counts rules[RULES];
    struct mr_lift_counts counts[STREAMS];
    uint32_t dead;
};

static bool is_late(const struct mr_rule *rule, int64_t time, int64_t watermark) {
    int64_t start = time - time % rule->window.size_ms;
    int64_t end = start + rule->window.size_ms;
    return end <= rule->final_floor_ms ||
           (watermark != INT64_MIN && end + rule->allowed_lateness_ms <= watermark);
}

static void apply(struct oracle *o, const struct mr_rule *rule, const struct event *e) {
    uint32_t r = rule->index;
    int64_t start = e->time_ms - e->time_ms % rule->window.size_ms;
    uint32_t i = 0;
    while (i < o->window_count[r] && o->windows[r][i].start_ms != start) {
        i++;
    }
    struct model_window *window = &o->windows[r][i];
    if (i == o->window_count[r]) {
        assert_true(i < KIT_WINDOWS_MAX * 8);
        o->window_count[r]++;
        window->start_ms = start;
        window->group_count = 0;
    }
    uint32_t key = rule->key_count == 0 ? 0 : e->key;
    uint32_t g = 0;
    while (g < window->group_count && window->groups[g].key != key) {
        g++;
    }
    if (g == window->group_count) {
        window->group_count++;
        window->groups[g] = (struct model_group){.key = key, .min = INT64_MAX, .max = INT64_MIN};
        o->order[r][o->order_count[r]++] = (struct first){i, g};
    }
    struct model_group *group = &window->groups[g];
    group->events++;
    group->sum += e->value;
    group->min = e->value < group->min ? e->value : group->min;
    group->max = e->value > group->max ? e->value : group->max;
}

/* Judges one event as lift.h says, and applies it. */
static char judge(struct world *w, struct oracle *o, const struct batch *b, const struct event *e,
                  int64_t limit) {
    uint32_t stream = b->decoded->stream;
    uint32_t takes = 0;
    uint32_t late = 0;
    for (uint32_t r = 0; r < RULES; r++) {
        if (w->rules[r].inputs[0].stream == stream) {
            takes++;
            late += is_late(&w->rules[r], e->time_ms, b->watermark_ms);
        }
    }
    if (e->time_ms > limit) {
        o->counts[stream].future++;
        o->dead++;
        return MR_VERDICT_LATE;
    }
    o->dead += late > 0;
    if (late == takes) {
        o->counts[stream].late++;
        return MR_VERDICT_LATE;
    }
    o->counts[stream].accepted++;
    for (uint32_t r = 0; r < RULES; r++) {
        if (w->rules[r].inputs[0].stream == stream) {
            if (is_late(&w->rules[r], e->time_ms, b->watermark_ms)) {
                o->rules[r].late++;
            } else {
                apply(o, &w->rules[r], e);
            }
        }
    }
    return MR_VERDICT_ACCEPTED;
}

static void expect_partial(const struct mr_rule *rule, struct mr_partial *p,
                           const struct model_window *window, const struct model_group *group) {
    assert_int_equal(p->rule, rule->index);
    assert_int_equal(p->window_start_ms, window->start_ms);
    assert_int_equal(p->events, group->events);
    assert_int_equal(p->size % 8, 0);
    struct mr_buf key;
    mr_buf_init(&key, 256);
    kit_key(rule, group->key, &key);
    assert_true(mr_bytes_equal(mr_partial_key(p), mr_buf_bytes(&key)));
    assert_int_equal(p->key_hash, mr_hash64(mr_buf_bytes(&key), rule->key_seed));
    mr_buf_finish(&key);
    model_expect_state(rule, group, mr_partial_state(p));
}

/* Each parcel holds its partials of the rules of stream 0, then 1, in the oracle's order. */
static void expect_parcels(struct world *w, struct oracle *o, struct mr_parcel **parcels,
                           uint32_t shards) {
    static const uint32_t by_stream[RULES] = {1, 2, 3, 0};
    size_t at[SHARDS] = {0};
    uint32_t count[SHARDS] = {0};
    for (uint32_t n = 0; n < RULES; n++) {
        const struct mr_rule *rule = &w->rules[by_stream[n]];
        for (uint32_t k = 0; k < o->order_count[rule->index]; k++) {
            struct first first = o->order[rule->index][k];
            const struct model_window *window = &o->windows[rule->index][first.window];
            const struct model_group *group = &window->groups[first.group];
            struct mr_buf key;
            mr_buf_init(&key, 256);
            kit_key(rule, group->key, &key);
            uint32_t s = mr_rule_shard(mr_hash64(mr_buf_bytes(&key), rule->key_seed), shards);
            mr_buf_finish(&key);
            assert_true(at[s] < parcels[s]->bytes.len);
            struct mr_partial *p = (struct mr_partial *)(void *)(parcels[s]->bytes.ptr + at[s]);
            at[s] += p->size;
            count[s]++;
            expect_partial(rule, p, window, group);
        }
    }
    for (uint32_t s = 0; s < shards; s++) {
        assert_int_equal(at[s], parcels[s]->bytes.len);
        assert_int_equal(count[s], parcels[s]->count);
    }
}

static void lift_bundle(struct world *w, struct oracle *o, uint64_t seq, uint32_t shards) {
    struct mr_buf dead;
    struct mr_lift_counts counts[STREAMS] = {{0}};
    struct mr_lift_rule_counts rule_counts[RULES] = {{0}};
    uint32_t dead_count = 0;
    memset(o, 0, sizeof *o);
    mr_buf_init(&dead, 1 << 24);
    mr_lift_begin(w->lift, seq);
    for (uint32_t n = 0; n < BATCHES; n++) {
        struct batch *b = &w->batches[n];
        int64_t limit = T0 + (kit_below(&w->random, 2) == 0 ? 2400 : 100000);
        make_batch(w, b, n % STREAMS);
        assert_int_equal(mr_lift_batch(w->lift, b->decoded, b->decoded->order,
                                       b->decoded->order_count, kit_everywhere(b->watermark_ms), limit, &dead,
                                       &dead_count, &counts[b->decoded->stream], rule_counts),
                         MR_OK);
        for (uint32_t i = 0; i < b->count; i++) {
            assert_int_equal(b->decoded->verdicts[i], judge(w, o, b, &b->events[i], limit));
        }
    }
    assert_memory_equal(counts, o->counts, sizeof counts);
    assert_memory_equal(rule_counts, o->rules, sizeof rule_counts);
    assert_int_equal(dead_count, o->dead);
    struct mr_bytes rest = mr_buf_bytes(&dead);
    struct mr_dead letter;
    while (mr_dead_next(&rest, &letter)) {
        dead_count--;
    }
    assert_int_equal(dead_count, 0);
    struct mr_parcel *parcels[SHARDS];
    assert_int_equal(mr_lift_finish(w->lift, parcels), MR_OK);
    expect_parcels(w, o, parcels, shards);
    for (uint32_t s = 0; s < shards; s++) {
        assert_int_equal(parcels[s]->seq, seq);
        assert_int_equal(parcels[s]->origin, shards - 1);
        mr_parcel_close(parcels[s]);
    }
    mr_buf_finish(&dead);
}

static void random_bundles(void **state) {
    (void)state;
    static struct world w;
    static struct oracle o;
    for (uint32_t shards = 1; shards <= SHARDS; shards += 2) {
        open_world(&w, shards, shards - 1, shards);
        for (uint64_t seq = 1; seq <= 8; seq++) {
            for (uint32_t r = 0; r < RULES; r++) {
                bool floor = seq > 4 && kit_below(&w.random, 2) == 0;
                w.rules[r].final_floor_ms = floor ? T0 + kit_below(&w.random, 2500) : INT64_MIN;
            }
            lift_bundle(&w, &o, seq, shards);
        }
        close_world(&w);
    }
}

/* Lifts one event by rule 2 (two keys) and returns its only partial's key. */
static void expect_key(struct world *w, const char *event, struct mr_bytes want) {
    char line[8192];
    int len = snprintf(line, sizeof line, "{\"ts\":%lld%s}", (long long)T0, event);
    struct mr_batch *batch = decode(w, line, (size_t)len);
    struct mr_buf dead;
    struct mr_lift_counts counts = {0};
    struct mr_lift_rule_counts rule_counts[RULES] = {{0}};
    uint32_t dead_count = 0;
    mr_buf_init(&dead, 1 << 20);
    mr_lift_begin(w->lift, 1);
    assert_int_equal(mr_lift_batch(w->lift, batch, batch->order, batch->order_count, kit_everywhere(INT64_MIN),
                                   INT64_MAX, &dead, &dead_count, &counts, rule_counts),
                     MR_OK);
    struct mr_parcel *parcel;
    assert_int_equal(mr_lift_finish(w->lift, &parcel), MR_OK);
    assert_int_equal(parcel->count, 3);
    struct mr_partial *p = (struct mr_partial *)(void *)parcel->bytes.ptr;
    p = (struct mr_partial *)(void *)(parcel->bytes.ptr + p->size);
    assert_int_equal(p->rule, 2);
    assert_int_equal(mr_partial_key(p).len, want.len);
    assert_memory_equal(mr_partial_key(p).ptr, want.ptr, want.len);
    mr_parcel_close(parcel);
    mr_buf_finish(&dead);
    mr_batch_close(batch);
}

static void keys_are_encoded(void **state) {
    (void)state;
    static struct world w;
    open_world(&w, 1, 0, 1);
    expect_key(&w, ",\"k\":\"DE\",\"n\":17", MR_BYTES("s\0\002DEn\0\00217"));
    expect_key(&w, ",\"k\":\"\",\"n\":\"17\"", MR_BYTES("s\0\0s\0\00217"));
    expect_key(&w, ",\"k\":true,\"n\":false", MR_BYTES("tf"));
    expect_key(&w, ",\"k\":null", MR_BYTES("zz"));
    expect_key(&w, ",\"k\":\"a\\u0062c\",\"n\":1e2", MR_BYTES("s\0\003abcn\0\0031e2"));
    char event[700] = ",\"n\":-0.5,\"k\":\"";
    uint8_t key[700] = {'s', 2, 8};
    size_t len = strlen(event);
    memset(event + len, 'x', 520);
    memcpy(event + len + 520, "\"", 2);
    memset(key + 3, 'x', 520);
    memcpy(key + 523, "n\0\004-0.5", 7);
    if (MR_KEY_LEN_MAX / MR_RULE_KEYS_MAX >= 520) {
        expect_key(&w, event, mr_bytes_of(key, 530));
    }
    close_world(&w);
}

static void a_dead_letter(void **state) {
    (void)state;
    static struct world w;
    open_world(&w, 1, 0, 1);
    char line[200];
    int len =
        snprintf(line, sizeof line, "{ \"ts\":%lld, \"k\":\"x\", \"more\":[1] }", (long long)T0);
    struct mr_batch *batch = decode(&w, line, (size_t)len);
    struct mr_buf dead;
    struct mr_lift_counts counts = {0};
    struct mr_lift_rule_counts rule_counts[RULES] = {{0}};
    uint32_t dead_count = 0;
    mr_buf_init(&dead, 1 << 20);
    batch->lsn = 9;
    for (int kind = 0; kind < 3; kind++) {
        /* late for the windows of 10 and 700 ms; for all; in the future */
        int64_t watermark = T0 + (kind == 0 ? 2000 : 80000);
        assert_int_equal(mr_lift_batch(w.lift, batch, batch->order, batch->order_count, kit_everywhere(watermark),
                                       kind == 2 ? T0 - 1 : INT64_MAX, &dead, &dead_count, &counts,
                                       rule_counts),
                         MR_OK);
        assert_int_equal(batch->verdicts[0], kind == 0 ? MR_VERDICT_ACCEPTED : MR_VERDICT_LATE);
    }
    static const char *const want[] = {
        "{\"reason\":\"late\",\"stream\":\"clicks\",\"lsn\":9,\"index\":0,"
        "\"time\":\"2023-11-14T22:13:20.000Z\",\"watermark\":\"2023-11-14T22:13:22.000Z\","
        "\"rules\":[\"second\",\"fourth\"],"
        "\"event\":{ \"ts\":1700000000000, \"k\":\"x\", \"more\":[1] }}",
        "{\"reason\":\"late\",\"stream\":\"clicks\",\"lsn\":9,\"index\":0,"
        "\"time\":\"2023-11-14T22:13:20.000Z\",\"watermark\":\"2023-11-14T22:14:40.000Z\","
        "\"rules\":[\"second\",\"third\",\"fourth\"],"
        "\"event\":{ \"ts\":1700000000000, \"k\":\"x\", \"more\":[1] }}",
        "{\"reason\":\"future\",\"stream\":\"clicks\",\"lsn\":9,\"index\":0,"
        "\"time\":\"2023-11-14T22:13:20.000Z\",\"watermark\":\"2023-11-14T22:14:40.000Z\","
        "\"rules\":[],\"event\":{ \"ts\":1700000000000, \"k\":\"x\", \"more\":[1] }}",
    };
    struct mr_bytes rest = mr_buf_bytes(&dead);
    for (int kind = 0; kind < 3; kind++) {
        struct mr_dead letter;
        assert_true(mr_dead_next(&rest, &letter));
        assert_int_equal(letter.reason, kind == 2 ? MR_DEAD_FUTURE : MR_DEAD_LATE);
        assert_int_equal(letter.stream, 0);
        assert_int_equal(letter.json.len, strlen(want[kind]));
        assert_memory_equal(letter.json.ptr, want[kind], letter.json.len);
    }
    assert_int_equal(rest.len, 0);
    assert_int_equal(dead_count, 3);
    mr_buf_finish(&dead);
    mr_batch_close(batch);
    close_world(&w);
}

static char verdict_at(struct world *w, uint32_t stream, int64_t time, int64_t watermark,
                       int64_t limit) {
    char line[64];
    int len = snprintf(line, sizeof line, "{\"ts\":%lld}", (long long)time);
    struct mr_batch *batch = decode(w, line, (size_t)len);
    struct mr_buf dead;
    struct mr_lift_counts counts = {0};
    struct mr_lift_rule_counts rule_counts[RULES] = {{0}};
    uint32_t dead_count = 0;
    mr_buf_init(&dead, 1 << 20);
    batch->stream = stream;
    assert_int_equal(mr_lift_batch(w->lift, batch, batch->order, 1, kit_everywhere(watermark), limit, &dead,
                                   &dead_count, &counts, rule_counts),
                     MR_OK);
    char verdict = (char)batch->verdicts[0];
    mr_buf_finish(&dead);
    mr_batch_close(batch);
    return verdict;
}

static void edges_of_lateness(void **state) {
    (void)state;
    static struct world w;
    const int64_t end = INT64_MAX;
    const int64_t minute = T0 + 40000; /* a window of rule 2 starts here, and of rule 0 */
    open_world(&w, 1, 0, 1);
    assert_int_equal(verdict_at(&w, 1, minute, minute, end), MR_VERDICT_ACCEPTED);
    assert_int_equal(verdict_at(&w, 1, minute, minute + 999, end), MR_VERDICT_ACCEPTED);
    assert_int_equal(verdict_at(&w, 1, minute, minute + 1000, end), MR_VERDICT_LATE);
    assert_int_equal(verdict_at(&w, 1, minute, end, end), MR_VERDICT_LATE);
    assert_int_equal(verdict_at(&w, 1, minute, INT64_MIN, minute), MR_VERDICT_ACCEPTED);
    assert_int_equal(verdict_at(&w, 1, minute, INT64_MIN, minute - 1), MR_VERDICT_LATE);
    /* Late for the short windows of stream 0, just not, or just, for the minutes. */
    assert_int_equal(verdict_at(&w, 0, minute, minute + 10000, end), MR_VERDICT_ACCEPTED);
    assert_int_equal(verdict_at(&w, 0, minute, minute + 10000, minute), MR_VERDICT_ACCEPTED);
    assert_int_equal(verdict_at(&w, 0, minute - 1, minute + 9999, end), MR_VERDICT_ACCEPTED);
    assert_int_equal(verdict_at(&w, 0, minute - 1, minute + 10000, end), MR_VERDICT_LATE);
    close_world(&w);
}

static void a_stream_without_rules_accepts(void **state) {
    (void)state;
    static struct world w;
    open_world(&w, 1, 0, 1);
    struct mr_lift *lift;
    assert_int_equal(mr_lift_open(NULL, 0, stream_names, 1, 0, 1, &lift), MR_OK);
    make_batch(&w, &w.batches[0], 0);
    struct mr_buf dead;
    struct mr_lift_counts counts = {0};
    uint32_t dead_count = 0;
    mr_buf_init(&dead, 1 << 20);
    struct mr_batch *batch = w.batches[0].decoded;
    assert_int_equal(mr_lift_batch(lift, batch, batch->order, batch->order_count, kit_everywhere(INT64_MAX),
                                   INT64_MAX, &dead, &dead_count, &counts, NULL),
                     MR_OK);
    assert_int_equal(counts.accepted, batch->count);
    assert_int_equal(counts.late, 0);
    struct mr_parcel *parcel;
    assert_int_equal(mr_lift_finish(lift, &parcel), MR_OK);
    assert_int_equal(parcel->count, 0);
    mr_parcel_close(parcel);
    mr_lift_close(lift);
    close_world(&w);
}

static void out_of_memory(void **state) {
    (void)state;
    static struct world w;
    uint32_t failures = 0;
    open_world(&w, 4, 0, 1);
    make_batch(&w, &w.batches[0], 0);
    struct mr_batch *batch = w.batches[0].decoded;
    for (size_t nth = 1; nth <= 12; nth++) {
        struct mr_lift *lift = NULL;
        struct mr_buf dead;
        struct mr_lift_counts counts = {0};
        struct mr_lift_rule_counts rule_counts[RULES] = {{0}};
        uint32_t dead_count = 0;
        struct mr_parcel *parcel = NULL;
        mr_buf_init(&dead, 1 << 20);
        mr_alloc_fail_at(nth, 0);
        enum mr_status status = mr_lift_open(w.rules, RULES, stream_names, STREAMS, 0, 1, &lift);
        if (status == MR_OK) {
            status = mr_lift_batch(lift, batch, batch->order, batch->order_count, kit_everywhere(INT64_MIN),
                                   INT64_MAX, &dead, &dead_count, &counts, rule_counts);
        }
        if (status == MR_OK) {
            status = mr_lift_finish(lift, &parcel);
        }
        mr_alloc_fail_at(0, 0);
        assert_true(status == MR_OK || status == MR_NO_MEMORY);
        failures += status != MR_OK;
        mr_parcel_close(parcel);
        mr_lift_close(lift);
        mr_buf_finish(&dead);
    }
    assert_in_range(failures, 5, 11);
    close_world(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_bundles),    cmocka_unit_test(keys_are_encoded),
        cmocka_unit_test(a_dead_letter),     cmocka_unit_test(a_stream_without_rules_accepts),
        cmocka_unit_test(edges_of_lateness), cmocka_unit_test(out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
