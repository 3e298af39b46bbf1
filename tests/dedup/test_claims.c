/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves of claims, in both layouts, over one virtual Redis:
 *   1. nobody's, the record's own, another's; twice in one record; the same id in several records at a time;
 *   2. the order of next; assertions pass the others by; withdrawn and put again;
 *   3. bytes_max; records larger than a wave; more ids of a bucket than a command takes;
 *   4. ids are remembered for the horizon and over the end of a generation, and forgotten later;
 *   5. each allocation that fails leaves nothing behind that open or a later step does not put right.
 * What an outcome needs is in test_claims_guard.c.
 */
#include "base/alloc.h"
#include "dedup/claims_parts.h"
#include "tests/dedup/claims_world.h"

/* ---- 1 ---- */

static void says_whose_an_id_is(void **state) {
    (void)state;
    for (uint32_t stream = 0; stream < CLAIMS_STREAMS; stream++) {
        struct claims_world *world = claims_open_one(2);
        struct claims_record *first = claims_record_of(world, 0, stream, 3, 1, 2, 1);
        claims_finish(world);
        claims_expect(first, MR_CLAIM_WON, MR_CLAIM_WON, MR_CLAIM_TAKEN);
        struct claims_record *other = claims_record_of(world, 1, stream, 3, 2, 3, 1);
        claims_finish(world);
        claims_expect(other, MR_CLAIM_TAKEN, MR_CLAIM_WON, MR_CLAIM_TAKEN);
        /* The same record once more, as after a crash that lost its verdicts. */
        claims_crash(world, 0);
        world->nodes[0].next_decided = 0;
        world->nodes[0].next_put = 0;
        first->decided = false;
        claims_finish(world);
        claims_expect(first, MR_CLAIM_MINE, MR_CLAIM_MINE, MR_CLAIM_TAKEN);
        claims_check(world);
        claims_close(world);
    }
}

/* The same lsn of another node, or of another log of the same node, is another record. */
static void tokens_name_the_record(void **state) {
    (void)state;
    for (uint32_t stream = 0; stream < CLAIMS_STREAMS; stream++) {
        struct claims_world *world = claims_open_one(2);
        (void)claims_record_of(world, 0, stream, 1, 1, 0, 0);
        claims_finish(world);
        struct claims_record *other = claims_record_of(world, 1, stream, 1, 1, 0, 0);
        other->claim.lsn = world->nodes[0].records[0].claim.lsn;
        claims_finish(world);
        claims_expect(other, MR_CLAIM_TAKEN, MR_CLAIM_NONE, MR_CLAIM_NONE);
        claims_crash(world, 0);
        world->options.incarnation = 1;
        struct claims_record *later = claims_record_of(world, 0, stream, 1, 1, 0, 0);
        later->claim.lsn = other->claim.lsn;
        claims_finish(world);
        claims_expect(later, MR_CLAIM_TAKEN, MR_CLAIM_NONE, MR_CLAIM_NONE);
        claims_close(world);
    }
}

static void resolves_repeats_in_one_wave(void **state) {
    (void)state;
    for (uint32_t stream = 0; stream < CLAIMS_STREAMS; stream++) {
        struct claims_world *world = claims_open_one(1);
        struct claims_node *node = &world->nodes[0];
        struct claims_record *a = claims_record_of(world, 0, stream, 3, 1, 2, 3);
        struct claims_record *b = claims_record_of(world, 0, stream, 3, 3, 4, 3);
        struct claims_record *c = claims_record_of(world, 0, stream, 2, 4, 1, 0);
        uint64_t ids = claims_stats_of(world, 0).ids;
        claims_finish(world);
        claims_expect(a, MR_CLAIM_WON, MR_CLAIM_WON, MR_CLAIM_WON);
        claims_expect(b, MR_CLAIM_TAKEN, MR_CLAIM_WON, MR_CLAIM_TAKEN);
        claims_expect(c, MR_CLAIM_TAKEN, MR_CLAIM_TAKEN, MR_CLAIM_NONE);
        assert_int_equal(claims_stats_of(world, 0).ids - ids, 4); /* each was asked for once */
        /* Again, with a record in front that wants what others own: the owner knows itself though it is behind. */
        struct claims_record *d = claims_record_of(world, 0, stream, 3, 2, 3, 4);
        struct claims_record swap = *d;
        *d = *a;
        *a = swap;
        a->claim.ctx = a;
        d->claim.ctx = d;
        claims_crash(world, 0);
        node->next_decided = 0;
        node->next_put = 0;
        for (uint32_t i = 0; i < node->count; i++) {
            node->records[i].decided = false;
        }
        claims_finish(world);
        claims_expect(a, MR_CLAIM_TAKEN, MR_CLAIM_TAKEN, MR_CLAIM_TAKEN);
        claims_expect(b, MR_CLAIM_TAKEN, MR_CLAIM_MINE, MR_CLAIM_TAKEN);
        claims_expect(c, MR_CLAIM_TAKEN, MR_CLAIM_TAKEN, MR_CLAIM_NONE);
        claims_expect(d, MR_CLAIM_MINE, MR_CLAIM_MINE, MR_CLAIM_MINE);
        claims_close(world);
    }
}

/* ---- 2 ---- */

static void assertions_pass_by(void **state) {
    (void)state;
    struct claims_world *world = claims_open_one(1);
    struct claims_node *node = &world->nodes[0];
    struct claims_record *done = claims_record_of(world, 0, 0, 2, 1, 2, 0);
    claims_finish(world);
    virtual_redis_set_delay(world->v, 0, 50000000, 50000000);
    (void)claims_record_of(world, 0, 0, 2, 8, 9, 0);
    (void)claims_step(world, 0);
    /* An assertion while strict: of what is there, of what is not, of what another has. */
    const uint32_t order[3] = {done->order[0], done->order[1], 2};
    const struct mr_fingerprint ids[3] = {done->ids[0], done->ids[1], claims_fp(0, 77)};
    uint8_t outcomes[3];
    struct mr_claim assertion = done->claim;
    assertion.again = true;
    assertion.ids = ids;
    assertion.order = order;
    assertion.count = 3;
    assertion.outcomes = outcomes;
    assert_true(mr_claims_put(node->claims, &assertion));
    struct mr_claim *next = NULL;
    while (next == NULL) {
        (void)mr_claims_step(node->claims);
        world->time.ns += 1000000;
        next = mr_claims_next(node->claims);
        if (next != NULL && !next->again) {
            node->records[1].decided = true; /* came first; that is fine, too */
            node->next_decided = 2;
            next = NULL;
        }
    }
    assert_ptr_equal(next, &assertion);
    assert_int_equal(outcomes[0], MR_CLAIM_MINE);
    assert_int_equal(outcomes[1], MR_CLAIM_MINE);
    assert_int_equal(outcomes[2], MR_CLAIM_WON);
    assert_int_equal(claims_stats_of(world, 0).kept, 2);
    assert_int_equal(claims_stats_of(world, 0).repaired, 1);
    assertion.lsn += 1000;
    assert_true(mr_claims_put(node->claims, &assertion));
    while ((next = mr_claims_next(node->claims)) == NULL || !next->again) {
        (void)mr_claims_step(node->claims);
        world->time.ns += 1000000;
    }
    /* Another record of this node: that is twice, too, but where the node counts no id twice. */
    assert_int_equal(outcomes[0], MR_CLAIM_TAKEN);
    assert_int_equal(claims_stats_of(world, 0).counted_twice, 3);
    assertion.lsn += 1000;
    assertion.once = true;
    assert_true(mr_claims_put(node->claims, &assertion));
    while ((next = mr_claims_next(node->claims)) == NULL || !next->again) {
        (void)mr_claims_step(node->claims);
        world->time.ns += 1000000;
    }
    assert_int_equal(outcomes[0], MR_CLAIM_OWN);
    assert_int_equal(claims_stats_of(world, 0).counted_twice, 3);
    assert_int_equal(claims_stats_of(world, 0).kept, 5);
    claims_close(world);
}

static void takes_claims_back(void **state) {
    (void)state;
    for (uint32_t stream = 0; stream < CLAIMS_STREAMS; stream++) {
        struct claims_world *world = claims_open_one(1);
        virtual_redis_set_delay(world->v, 0, 20000000, 20000000);
        struct claims_record *a = claims_record_of(world, 0, stream, 3, 1, 2, 3);
        struct claims_record *b = claims_record_of(world, 0, stream, 3, 3, 4, 5);
        (void)claims_step(world, 0);
        world->time.ns += 12000000; /* executed, not answered */
        claims_withdraw(world, 0);
        assert_null(mr_claims_withdraw(world->nodes[0].claims));
        assert_false(mr_claims_busy(world->nodes[0].claims));
        claims_finish(world);
        claims_expect(a, MR_CLAIM_MINE, MR_CLAIM_MINE, MR_CLAIM_MINE);
        claims_expect(b, MR_CLAIM_TAKEN, MR_CLAIM_MINE, MR_CLAIM_MINE);
        claims_check(world);
        claims_close(world);
    }
}

/* ---- 3 ---- */

static void is_bounded(void **state) {
    (void)state;
    struct claims_options options = {
        .seed = 5, .nodes = 1, .pool = CLAIMS_IDS_MAX, .bytes_max = 20000};
    struct claims_world *world = claims_open(&options);
    claims_until_strict(world);
    static uint32_t numbers[CLAIMS_IDS_MAX];
    for (uint32_t i = 0; i < CLAIMS_IDS_MAX; i++) {
        numbers[i] = i;
    }
    struct mr_claims *claims = world->nodes[0].claims;
    struct claims_record *huge = claims_record(world, 0, 0, numbers, CLAIMS_IDS_MAX);
    struct claims_record *small = claims_record(world, 0, 0, numbers, 50);
    struct claims_record *next = claims_record(world, 0, 0, numbers, 50);
    struct claims_record *last = claims_record(world, 0, 0, numbers, 50);
    assert_true(mr_claims_put(claims, &huge->claim)); /* it is alone */
    assert_false(mr_claims_put(claims, &small->claim));
    assert_ptr_equal(mr_claims_withdraw(claims), &huge->claim);
    assert_true(mr_claims_put(claims, &small->claim));
    assert_true(mr_claims_put(claims, &next->claim));
    assert_false(mr_claims_put(claims, &last->claim));
    assert_ptr_equal(mr_claims_withdraw(claims), &small->claim);
    assert_true(mr_claims_put(claims, &last->claim));
    assert_ptr_equal(mr_claims_withdraw(claims), &next->claim);
    assert_ptr_equal(mr_claims_withdraw(claims), &last->claim);
    claims_finish(world);
    claims_check(world);
    claims_close(world);
}

static void fills_commands(void **state) {
    (void)state;
    struct claims_world *world = claims_open_one(1);
    enum { IDS = 2 * MR_CLAIMS_COMMAND_IDS + 10 };
    static struct mr_fingerprint ids[IDS + 1];
    static uint32_t order[IDS + 1];
    static uint8_t outcomes[IDS + 1];
    for (uint32_t i = 0; i < IDS; i++) {
        ids[i] = (struct mr_fingerprint){.lo = i * UINT64_C(7919), .hi = 33 + 256 * (uint64_t)i};
        order[i] = i;
    }
    ids[IDS] = ids[0];
    order[IDS] = IDS;
    struct mr_claim claim = {.recorded_ms = 1,
                             .lsn = 9,
                             .ids = ids,
                             .order = order,
                             .count = IDS + 1,
                             .outcomes = outcomes};
    struct mr_claims *claims = world->nodes[0].claims;
    for (uint32_t turn = 0; turn < 2; turn++) {
        uint64_t commands = claims_stats_of(world, 0).commands;
        assert_true(mr_claims_put(claims, &claim));
        while (mr_claims_next(claims) == NULL) {
            (void)mr_claims_step(claims);
            world->time.ns += 1000000;
        }
        assert_int_equal(claims_stats_of(world, 0).commands - commands, 3);
        for (uint32_t i = 0; i < IDS; i++) {
            assert_int_equal(outcomes[i], turn == 0 ? MR_CLAIM_WON : MR_CLAIM_MINE);
        }
        assert_int_equal(outcomes[IDS], MR_CLAIM_TAKEN);
    }
    claims_close(world);
}

/* ---- 4 ---- */

static enum mr_claim_outcome claim_at(struct claims_world *world, uint32_t stream, uint32_t number,
                                      int64_t recorded_ms) {
    struct claims_record *r = claims_record_of(world, 0, stream, 1, number, 0, 0);
    r->claim.recorded_ms = recorded_ms;
    claims_finish(world);
    return r->outcomes[0];
}

/* Every pair of recorded times at most a horizon apart, at steps of a quarter of it. */
static void remembers_over_generations(void **state) {
    (void)state;
    struct claims_world *world = claims_open_one(1);
    const int64_t step_ms = CLAIMS_HORIZON_MS / 4;
    const int64_t base_ms = 1000 * CLAIMS_HORIZON_MS;
    uint32_t number = 0;
    for (int64_t a = 0; a < 16; a++) {
        for (int64_t b = a - 4; b <= a + 4; b++) {
            int64_t first_ms = base_ms + a * step_ms;
            assert_int_equal(claim_at(world, 0, ++number, first_ms), MR_CLAIM_WON);
            assert_int_equal(claim_at(world, 0, number, base_ms + b * step_ms), MR_CLAIM_TAKEN);
        }
    }
    claims_close(world);
}

/* Two records that wait together, on the two sides of the end of a generation. */
static void keeps_generations_apart(void **state) {
    (void)state;
    struct claims_world *world = claims_open_one(1);
    const int64_t base_ms = 1000 * CLAIMS_HORIZON_MS;
    struct claims_record *a = claims_record_of(world, 0, 0, 1, 1, 0, 0);
    struct claims_record *b = claims_record_of(world, 0, 0, 1, 2, 0, 0);
    a->claim.recorded_ms = base_ms + CLAIMS_HORIZON_MS;
    b->claim.recorded_ms = base_ms + 2 * CLAIMS_HORIZON_MS;
    claims_finish(world);
    claims_expect(a, MR_CLAIM_WON, MR_CLAIM_NONE, MR_CLAIM_NONE);
    claims_expect(b, MR_CLAIM_WON, MR_CLAIM_NONE, MR_CLAIM_NONE);
    assert_int_equal(claim_at(world, 0, 2, base_ms + 3 * CLAIMS_HORIZON_MS), MR_CLAIM_TAKEN);
    assert_int_equal(claim_at(world, 0, 1, base_ms), MR_CLAIM_TAKEN);
    claims_close(world);
}

/* In Redis's time: half of a horizon of it may pass before a claim is sent, and it still lasts. */
static void forgets_late_enough(void **state) {
    (void)state;
    for (uint32_t stream = 0; stream < CLAIMS_STREAMS; stream++) {
        struct claims_world *world = claims_open_one(1);
        const int64_t base_ms = 1000 * CLAIMS_HORIZON_MS;
        const uint64_t half_ns = (uint64_t)CLAIMS_HORIZON_MS / 2 * 1000000;
        /* The generation begins, and gets an id at its very end. */
        assert_int_equal(claim_at(world, stream, 1, base_ms), MR_CLAIM_WON);
        for (uint32_t half = 0; half < 4; half++) {
            world->time.ns += half_ns;
            claims_until_strict(world);
        }
        assert_int_equal(claim_at(world, stream, 2, base_ms + 2 * CLAIMS_HORIZON_MS - 1),
                         MR_CLAIM_WON);
        for (uint32_t half = 0; half < 2; half++) {
            world->time.ns += half_ns;
            claims_until_strict(world);
        }
        assert_int_equal(claim_at(world, stream, 2, base_ms + 3 * CLAIMS_HORIZON_MS - 1),
                         MR_CLAIM_TAKEN);
        for (uint32_t half = 0; half < 8; half++) {
            world->time.ns += half_ns;
            claims_until_strict(world);
        }
        assert_int_equal(claim_at(world, stream, 2, base_ms + 7 * CLAIMS_HORIZON_MS), MR_CLAIM_WON);
        claims_close(world);
    }
}

/* ---- 5 ---- */

static void open_fails_clean(void **state) {
    (void)state;
    struct claims_world *world = claims_open_one(1);
    claims_crash(world, 0);
    uint32_t failures = 0;
    for (size_t k = 1;; k++) {
        mr_alloc_fail_at(k, 0);
        enum mr_status status = claims_try_start(world, 0);
        bool failed = mr_alloc_failed();
        mr_alloc_fail_at(0, 0);
        if (status == MR_OK) {
            assert_false(failed);
            break;
        }
        assert_int_equal(status, MR_NO_MEMORY);
        assert_null(world->nodes[0].claims);
        failures++;
    }
    assert_true(failures > 10);
    claims_close(world);
}

static void steps_survive_failures(void **state) {
    (void)state;
    for (size_t k = 1; k < 120; k++) {
        struct claims_world *world = claims_open_one(1);
        static uint32_t numbers[300];
        for (uint32_t i = 0; i < 300; i++) {
            numbers[i] = i;
        }
        (void)claims_record(world, 0, 0, numbers, 300);
        (void)claims_record(world, 0, 1, numbers, 300);
        mr_alloc_fail_at(k, 0);
        for (uint32_t i = 0; i < 30 && !mr_alloc_failed(); i++) {
            (void)claims_step(world, 0);
        }
        bool failed = mr_alloc_failed();
        mr_alloc_fail_at(0, 0);
        claims_finish(world);
        claims_check(world);
        claims_close(world);
        if (!failed) {
            assert_true(k > 5);
            return;
        }
    }
}

static void refuses_bad_options(void **state) {
    (void)state;
    struct virtual_time time;
    virtual_time_init(&time);
    struct virtual_redis_options redis = {.seed = 1, .clock = &time.clock};
    struct virtual_redis *v = virtual_redis_open(&redis);
    const struct mr_claims_stream stream = {MR_BYTES("s"), MR_CLAIM_KEY, 0};
    const struct mr_bytes address = MR_BYTES("10.0.0.1:6379");
    struct mr_claims_options options = {.transport = virtual_redis_transport(v),
                                        .clock = &time.clock,
                                        .streams = &stream,
                                        .stream_count = 1,
                                        .cluster = MR_BYTES("c"),
                                        .node = MR_BYTES("n"),
                                        .addresses = &address,
                                        .address_count = 1,
                                        .timeout_ns = 1,
                                        .bytes_max = 1,
                                        .seed = 1};
    struct mr_claims *claims = NULL;
    struct mr_error error;
    assert_int_equal(mr_claims_open(&options, &claims, &error), MR_INVALID); /* no horizon */
    const struct mr_claims_stream good = {MR_BYTES("s"), MR_CLAIM_KEY, 1};
    options.streams = &good;
    options.node = MR_BYTES("");
    assert_int_equal(mr_claims_open(&options, &claims, &error), MR_INVALID);
    options.node = MR_BYTES("n");
    assert_int_equal(mr_claims_open(&options, &claims, &error), MR_OK);
    mr_claims_close(claims);
    mr_claims_close(NULL);
    virtual_redis_close(v);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(says_whose_an_id_is),
        cmocka_unit_test(tokens_name_the_record),
        cmocka_unit_test(resolves_repeats_in_one_wave),
        cmocka_unit_test(assertions_pass_by),
        cmocka_unit_test(takes_claims_back),
        cmocka_unit_test(is_bounded),
        cmocka_unit_test(fills_commands),
        cmocka_unit_test(remembers_over_generations),
        cmocka_unit_test(keeps_generations_apart),
        cmocka_unit_test(forgets_late_enough),
        cmocka_unit_test(open_fails_clean),
        cmocka_unit_test(steps_survive_failures),
        cmocka_unit_test(refuses_bad_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
