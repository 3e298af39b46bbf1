/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves of looks, in both layouts, over one virtual Redis or three:
 *   1. claimed by this node, by another, by nobody; when, and until when: with claims themselves as the oracle, at every
 *      border of generations and at the end of a key's time;
 *   2. slots that move;
 *   3. beside claims under load and faults: an id that was decided before the question is seen, one that was never put
 *      is not.
 * What an answer needs is in test_claims_look_guard.c.
 */
#include "base/alloc.h"
#include "tests/dedup/claims_look.h"

/* ---- 1 ---- */

static void says_whether_anybody_has_claimed(void **state) {
    (void)state;
    for (uint32_t stream = 0; stream < CLAIMS_STREAMS; stream++) {
        struct claims_world *world = claims_open_one(2);
        assert_false(look_is_seen(world, 0, stream, 1, BASE_MS));
        assert_false(look_is_seen(world, 0, stream, 1, BASE_MS)); /* it has claimed nothing */
        assert_int_equal(look_claim_at(world, 0, stream, 1, BASE_MS), MR_CLAIM_WON);
        assert_int_equal(look_claim_at(world, 1, stream, 2, BASE_MS), MR_CLAIM_WON);
        for (uint32_t node = 0; node < 2; node++) {
            assert_true(look_is_seen(world, node, stream, 1, BASE_MS));
            assert_true(look_is_seen(world, node, stream, 2, BASE_MS));
            assert_false(look_is_seen(world, node, stream, 3, BASE_MS));
            assert_false(look_is_seen(world, node, 1 - stream, 1, BASE_MS));
        }
        claims_close(world);
    }
}

/* Of every pair of recorded times the look says what a claim is told then. */
static void looks_where_claims_look(void **state) {
    (void)state;
    struct claims_world *world = claims_open_one(2);
    static const int64_t near_ms[] = {-1, 0, 1, HORIZON_MS / 2};
    uint32_t number = 0;
    uint32_t sights[2] = {0};
    for (int64_t a = 0; a < 8; a++) {
        int64_t first_ms = BASE_MS + a / 4 * HORIZON_MS + near_ms[a % 4];
        for (int64_t b = -8; b <= 16; b++) {
            int64_t now_ms =
                BASE_MS + (b < 0 ? (b - 3) / 4 : b / 4) * HORIZON_MS + near_ms[(b + 8) % 4];
            number++;
            assert_int_equal(look_claim_at(world, 0, 0, number, first_ms), MR_CLAIM_WON);
            struct mr_claim_look look = look_ask(world, 1, 0, number, now_ms);
            enum mr_claim_outcome outcome = look_claim_at(world, 1, 0, number, now_ms);
            assert_int_equal(look.status, MR_OK);
            assert_int_equal(look.seen, outcome == MR_CLAIM_TAKEN);
            sights[look.seen]++;
            if (look.seen) {
                int64_t begin_ms = first_ms / HORIZON_MS / 2 * 2 * HORIZON_MS;
                assert_true(look.from_ms <= begin_ms && look.from_ms <= now_ms);
                assert_true(begin_ms > now_ms || look.from_ms == begin_ms);
                assert_true(first_ms < look.to_ms || first_ms > now_ms);
                assert_true(look.to_ms <= now_ms + 1 || look.to_ms == begin_ms + 2 * HORIZON_MS);
                assert_true(look.until_ms >= first_ms + HORIZON_MS);
            }
        }
    }
    assert_true(sights[0] > 20 && sights[1] > 60);
    claims_close(world);
}

/* A copy before until_ms is a duplicate; in the bucket layout one recorded then is not, in the other one claimed then. */
static void until_is_what_claims_keep(void **state) {
    (void)state;
    for (int64_t a = 0; a < 4; a++) {
        struct claims_world *world = claims_open_one(1);
        int64_t first_ms = BASE_MS + a * HORIZON_MS / 2 + (a % 2 == 0 ? 0 : HORIZON_MS / 2 - 1);
        assert_int_equal(look_claim_at(world, 0, 0, 1, first_ms), MR_CLAIM_WON);
        struct mr_claim_look look = look_ask(world, 0, 0, 1, first_ms);
        assert_true(look.seen);
        assert_int_equal(look.until_ms, BASE_MS + 3 * HORIZON_MS);
        assert_int_equal(look.from_ms, BASE_MS);
        assert_in_range(look.to_ms, first_ms + 1, first_ms + 4);
        assert_true(look_is_seen(world, 0, 0, 1, look.until_ms - 1));
        assert_false(look_is_seen(world, 0, 0, 1, look.until_ms));
        assert_int_equal(look_claim_at(world, 0, 0, 1, look.until_ms - 1), MR_CLAIM_TAKEN);
        assert_int_equal(look_claim_at(world, 0, 0, 1, look.until_ms), MR_CLAIM_WON);
        claims_close(world);
    }
}

/* The clock of this node is behind: what the other recorded is of a generation to come. */
static void another_clock_may_be_ahead(void **state) {
    (void)state;
    struct claims_world *world = claims_open_one(2);
    int64_t begin_ms = BASE_MS + 2 * HORIZON_MS;
    assert_int_equal(look_claim_at(world, 0, 0, 1, begin_ms), MR_CLAIM_WON);
    struct mr_claim_look look = look_ask(world, 1, 0, 1, begin_ms - 1000);
    assert_true(look.seen);
    assert_in_range(look.from_ms, begin_ms - 1000, begin_ms - 990);
    assert_in_range(look.to_ms, look.from_ms + 1, begin_ms - 990);
    assert_int_equal(look.until_ms, begin_ms + 3 * HORIZON_MS);
    claims_close(world);
}

/* The claim was executed between two times of the one clock there is; so it is with a slow reply, and until the end. */
static void a_key_says_when(void **state) {
    (void)state;
    struct claims_world *world = claims_open_one(2);
    struct mr_clock *clock = &world->time.clock;
    int64_t before_ms = mr_clock_wall_ms(clock);
    assert_int_equal(look_claim_at(world, 0, 1, 1, BASE_MS), MR_CLAIM_WON);
    int64_t after_ms = mr_clock_wall_ms(clock);
    int64_t gone_ms = 0;
    for (uint32_t i = 0; i < 9; i++) {
        claims_run(world, 100); /* the watch notices the time that has passed */
        claims_until_strict(world);
        virtual_redis_set_delay(world->v, 0, i * 10000000, i * 10000000);
        int64_t now_ms = mr_clock_wall_ms(clock);
        struct mr_claim_look look = look_ask(world, 1, 1, 1, now_ms);
        assert_int_equal(look.status, MR_OK);
        virtual_redis_set_delay(world->v, 0, 0, 0);
        if (!look.seen) {
            assert_true(now_ms > gone_ms && i == 8);
            break;
        }
        assert_true(look.from_ms <= after_ms && look.to_ms > before_ms);
        assert_true(look.from_ms >= before_ms - i * 10 - 2 && look.to_ms <= after_ms + i * 10 + 4);
        assert_true(look.until_ms >= before_ms + 2 * HORIZON_MS - i * 10 - 2 &&
                    look.until_ms <= after_ms + 2 * HORIZON_MS);
        gone_ms = look.until_ms;
        world->time.ns += (uint64_t)HORIZON_MS / 4 * 1000000;
    }
    assert_false(look_is_seen(world, 0, 1, 1, mr_clock_wall_ms(clock)));
    claims_close(world);
}

/* To the millisecond: the last one in which it is there. */
static void a_key_goes_when_it_said(void **state) {
    (void)state;
    struct claims_world *world = claims_open_one(1);
    assert_int_equal(look_claim_at(world, 0, 1, 1, BASE_MS), MR_CLAIM_WON);
    int64_t until_ms = look_ask(world, 0, 1, 1, mr_clock_wall_ms(&world->time.clock)).until_ms;
    uint64_t left_ns = (uint64_t)(until_ms - mr_clock_wall_ms(&world->time.clock)) * 1000000;
    world->time.ns += left_ns - UINT64_C(5000000000);
    claims_run(world, 100);
    claims_until_strict(world);
    int64_t last_ms = 0;
    for (int64_t now_ms; (now_ms = mr_clock_wall_ms(&world->time.clock)) < until_ms + 10;) {
        struct mr_claim_look look = look_ask(world, 0, 1, 1, now_ms);
        if (look.status == MR_OK && look.seen) {
            assert_int_equal(last_ms, 0);
            assert_in_range(look.until_ms, until_ms - 2, until_ms + 2);
        } else if (look.status == MR_OK) {
            last_ms = last_ms == 0 ? now_ms : last_ms;
        }
    }
    assert_in_range(last_ms, until_ms - 2, until_ms + 4);
    claims_close(world);
}

/* ---- 2 ---- */

static struct claims_world *open_cluster(uint64_t seed) {
    struct claims_options options = {.seed = seed, .nodes = 1, .masters = 3, .pool = 300};
    struct claims_world *world = claims_open(&options);
    claims_until_strict(world);
    return world;
}

static void follows_slots(void **state) {
    (void)state;
    struct claims_world *world = open_cluster(6);
    for (uint32_t stream = 0; stream < CLAIMS_STREAMS; stream++) {
        for (uint32_t number = 1; number <= 5; number++) {
            assert_int_equal(look_claim_at(world, 0, stream, number, BASE_MS), MR_CLAIM_WON);
            uint32_t slot = claims_slot(stream, number);
            uint32_t to = (virtual_redis_master_of(world->v, slot) + 1) % 3;
            uint64_t asks = virtual_redis_probe(world->v, VIRTUAL_REDIS_PROBE_ASK);
            virtual_redis_migrate_begin(world->v, slot, to);
            assert_true(look_is_seen(world, 0, stream, number, BASE_MS));
            (void)virtual_redis_migrate_keys(world->v, slot, 1000);
            assert_true(look_is_seen(world, 0, stream, number, BASE_MS));
            assert_true(virtual_redis_probe(world->v, VIRTUAL_REDIS_PROBE_ASK) > asks);
            uint64_t moves = virtual_redis_probe(world->v, VIRTUAL_REDIS_PROBE_MOVED);
            virtual_redis_migrate_end(world->v, slot);
            struct mr_claim_look look = look_ask(world, 0, stream, number, BASE_MS);
            assert_int_equal(look.status, MR_AGAIN);
            assert_true(virtual_redis_probe(world->v, VIRTUAL_REDIS_PROBE_MOVED) > moves);
            claims_run(world, 10);
            claims_until_strict(world);
            assert_true(look_is_seen(world, 0, stream, number, BASE_MS));
        }
        assert_false(look_is_seen(world, 0, stream, 100, BASE_MS));
    }
    claims_close(world);
}

static void is_sent_on_once(void **state) {
    (void)state;
    static const enum mr_redis_outcome second[] = {MR_REDIS_ASKED, MR_REDIS_MOVED, MR_REDIS_LATER};
    for (uint32_t stream = 0; stream < CLAIMS_STREAMS; stream++) {
        for (uint32_t i = 0; i < 3; i++) {
            struct claims_world *world = claims_open_one(1);
            struct mr_claims *claims = world->nodes[0].claims;
            virtual_redis_set_delay(world->v, 0, 20000000, 20000000);
            struct mr_claim_look look = look_of(stream, 1, BASE_MS);
            look_put(world, 0, &look);
            uint64_t sent = claims_stats_of(world, 0).redis.commands;
            struct mr_redis_answer answer = {.tag = MR_CLAIMS_TAG_LOOK | UINT64_C(1) << 9};
            answer.outcome = MR_REDIS_ASKED;
            mr_claims_answer(claims, &answer);
            assert_null(look_next(world, 0));
            assert_int_equal(claims_stats_of(world, 0).redis.commands, sent + 1);
            if (stream == 0) {
                answer.tag ^= 1 << 8; /* the other reply may be sent on, too */
                mr_claims_answer(claims, &answer);
                assert_null(look_next(world, 0));
                sent++;
            }
            answer.outcome = second[i];
            mr_claims_answer(claims, &answer);
            assert_int_equal(claims_stats_of(world, 0).redis.commands, sent + 1);
            assert_ptr_equal(look_next(world, 0), &look);
            assert_int_equal(look.status, MR_AGAIN);
            claims_close(world);
        }
    }
}

/* ---- 3 ---- */

enum { UNDER_WAY = 30 };

struct question {
    struct mr_claim_look look;
    uint32_t number;
    bool free;
    bool was_decided; /* when it was asked */
};

struct load {
    struct question questions[UNDER_WAY];
    uint32_t seen, unseen, again;
};

enum standing { NEVER_PUT, PUT, DECIDED };

static enum standing standing_of(const struct claims_world *world, uint32_t stream,
                                 uint32_t number) {
    enum standing ret = NEVER_PUT;
    for (uint32_t n = 0; n < world->node_count; n++) {
        for (uint32_t i = 0; i < world->nodes[n].count; i++) {
            const struct claims_record *r = &world->nodes[n].records[i];
            for (uint32_t k = 0; r->claim.stream == stream && k < r->claim.count; k++) {
                enum standing standing = r->decided ? DECIDED : PUT;
                ret = r->numbers[k] == number && standing > ret ? standing : ret;
            }
        }
    }
    return ret;
}

static void ask_something(struct claims_world *world, struct load *load) {
    struct question *q = &load->questions[claims_below(world, UNDER_WAY)];
    if (!q->free) {
        return;
    }
    uint32_t stream = (uint32_t)claims_below(world, CLAIMS_STREAMS);
    q->number = (uint32_t)claims_below(world, world->options.pool + 50);
    q->look = look_of(stream, q->number, world->nodes[claims_below(world, 2)].recorded_ms);
    q->look.ctx = q;
    q->free = false;
    q->was_decided = standing_of(world, stream, q->number) == DECIDED;
    look_put(world, 0, &q->look);
}

static void take_answers(struct claims_world *world, struct load *load) {
    for (struct mr_claim_look *look; (look = look_next(world, 0)) != NULL;) {
        struct question *q = look->ctx;
        assert_true(look == &q->look && !q->free);
        q->free = true;
        load->again += look->status == MR_AGAIN;
        load->seen += look->status == MR_OK && look->seen;
        load->unseen += look->status == MR_OK && !look->seen;
        if (look->status == MR_OK && q->was_decided) {
            assert_true(look->seen);
        }
        if (look->seen) {
            assert_int_not_equal(standing_of(world, look->stream, q->number), NEVER_PUT);
        }
    }
}

static void run_load(uint64_t seed, uint32_t masters, bool short_of_memory, struct load *load) {
    struct claims_options options = {.seed = seed, .nodes = 2, .masters = masters, .pool = 600};
    struct claims_world *world = claims_open(&options);
    claims_until_strict(world);
    for (uint32_t i = 0; i < UNDER_WAY; i++) {
        load->questions[i].free = true;
    }
    for (uint32_t step = 0; step < 1000; step++) {
        uint32_t node = (uint32_t)claims_below(world, 2);
        if (claims_below(world, 40) == 0) {
            virtual_redis_fault(world->v, true);
        } else if (claims_below(world, 60) == 0) {
            virtual_redis_heal(world->v);
        }
        if (claims_below(world, 12) == 0 && world->nodes[node].count < CLAIMS_RECORDS_MAX) {
            (void)claims_random_record(world, node);
        }
        if (short_of_memory) {
            mr_alloc_fail_at(1 + claims_below(world, 10), (int)claims_below(world, 2));
        }
        ask_something(world, load);
        (void)claims_step(world, node);
        mr_alloc_fail_at(0, 0);
        take_answers(world, load);
        world->time.ns += claims_below(world, 5) == 0 ? claims_below(world, 8000000) : 0;
    }
    virtual_redis_heal(world->v);
    claims_finish(world);
    claims_run(world, 600);
    take_answers(world, load);
    for (uint32_t i = 0; i < UNDER_WAY; i++) {
        assert_true(load->questions[i].free);
    }
    claims_check(world);
    claims_close(world);
}

static void answers_beside_claims(void **state) {
    (void)state;
    static struct load load;
    for (uint64_t seed = 1; seed <= 4; seed++) {
        run_load(seed, seed == 2 ? 3 : 0, false, &load);
    }
    run_load(5, 0, true, &load);
    print_message("seen %u, not seen %u, no answer %u\n", load.seen, load.unseen, load.again);
    assert_true(load.seen > 200 && load.unseen > 200 && load.again > 100);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(says_whether_anybody_has_claimed),
        cmocka_unit_test(looks_where_claims_look),
        cmocka_unit_test(until_is_what_claims_keep),
        cmocka_unit_test(another_clock_may_be_ahead),
        cmocka_unit_test(a_key_says_when),
        cmocka_unit_test(a_key_goes_when_it_said),
        cmocka_unit_test(follows_slots),
        cmocka_unit_test(is_sent_on_once),
        cmocka_unit_test(answers_beside_claims),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
