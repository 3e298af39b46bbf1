/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that a look is answered by nothing but its own replies, in both layouts, over one virtual Redis:
 *   1. not strict before, meanwhile, or strict again in another turn: no answer;
 *   2. lost replies, a server that hangs, errors, replies that are not as they should be: no answer, and soon;
 *   3. as many as there may be; a slot that was used again takes no reply of the look before.
 */
#include "tests/dedup/claims_look.h"

/* ---- 1 ---- */

static void nothing_is_believed_unless_strict(void **state) {
    (void)state;
    for (uint32_t stream = 0; stream < CLAIMS_STREAMS; stream++) {
        struct claims_options options = {.seed = 5, .nodes = 1, .pool = 100};
        struct claims_world *world = claims_open(&options);
        struct mr_claim_look look = look_of(stream, 1, BASE_MS);
        look_put(world, 0, &look); /* nothing is connected yet */
        assert_ptr_equal(look_next(world, 0), &look);
        assert_int_equal(look.status, MR_AGAIN);
        claims_until_strict(world);
        assert_false(look_is_seen(world, 0, stream, 1, BASE_MS));
        claims_command(world, 0, "CONFIG", "SET", "maxmemory-policy", "allkeys-lru");
        claims_run(world, 3000);
        uint64_t sent = claims_stats_of(world, 0).redis.commands;
        look_put(world, 0, &look);
        assert_ptr_equal(look_next(world, 0), &look);
        assert_int_equal(look.status, MR_AGAIN);
        assert_int_equal(claims_stats_of(world, 0).redis.commands, sent);
        claims_close(world);
    }
}

/* LOST is a state in which assertions are sent, and looks are not. */
static void nothing_is_believed_while_lost(void **state) {
    (void)state;
    for (uint32_t stream = 0; stream < CLAIMS_STREAMS; stream++) {
        struct claims_world *world = claims_open_one(1);
        struct mr_claims *claims = world->nodes[0].claims;
        assert_int_equal(look_claim_at(world, 0, stream, 1, BASE_MS), MR_CLAIM_WON);
        virtual_redis_flush(world->v, 0);
        for (uint32_t i = 0; mr_watch_state(mr_claims_watch(claims)) != MR_WATCH_LOST; i++) {
            assert_true(i < 10000);
            (void)mr_claims_step(claims); /* without assertions */
            world->time.ns += 1000000;
        }
        struct mr_claim_look look = look_of(stream, 1, BASE_MS);
        look_put(world, 0, &look);
        assert_ptr_equal(look_next(world, 0), &look);
        assert_int_equal(look.status, MR_AGAIN);
        for (uint32_t i = 0; i < 100 && mr_watch_state(mr_claims_watch(claims)) != MR_WATCH_STRICT;
             i++) {
            claims_run(world, 50);
        }
        assert_true(look_is_seen(world, 0, stream, 1, BASE_MS)); /* it was asserted */
        claims_close(world);
    }
}

/* A connection that is new since the watch's last step: it may be to anybody. */
static void a_session_must_have_passed(void **state) {
    (void)state;
    for (uint32_t stream = 0; stream < CLAIMS_STREAMS; stream++) {
        struct claims_world *world = claims_open_one(1);
        struct mr_claims *claims = world->nodes[0].claims;
        struct mr_redis_node before;
        struct mr_redis_node after;
        mr_redis_node(claims->redis, 0, &before);
        virtual_redis_cut_all(world->v, 0);
        for (uint32_t i = 0; i < 300; i++) {
            (void)mr_redis_step(claims->redis);
            world->time.ns += 1000000;
        }
        mr_redis_node(claims->redis, 0, &after);
        assert_true(after.session != 0 && after.session != before.session);
        assert_int_equal(mr_watch_state(mr_claims_watch(claims)), MR_WATCH_STRICT);
        struct mr_claim_look look = look_of(stream, 1, BASE_MS);
        look_put(world, 0, &look);
        assert_ptr_equal(look_next(world, 0), &look);
        assert_int_equal(look.status, MR_AGAIN);
        claims_close(world);
    }
}

/* It is answered at once, and the reply under way is passed by. */
static void a_loss_under_way_ends_it(void **state) {
    (void)state;
    for (uint32_t stream = 0; stream < CLAIMS_STREAMS; stream++) {
        struct claims_world *world = claims_open_one(1);
        struct mr_watch *watch = mr_claims_watch(world->nodes[0].claims);
        assert_int_equal(look_claim_at(world, 0, stream, 1, BASE_MS), MR_CLAIM_WON);
        virtual_redis_set_delay(world->v, 0, 20000000, 20000000);
        struct mr_claim_look look = look_of(stream, 1, BASE_MS);
        look_put(world, 0, &look);
        (void)claims_step(world, 0);
        assert_null(look_next(world, 0));
        mr_watch_say_lost(watch, 3);
        (void)claims_step(world, 0);
        assert_ptr_equal(look_next(world, 0), &look);
        assert_int_equal(look.status, MR_AGAIN);
        claims_run(world, 50);
        assert_null(look_next(world, 0));
        claims_until_strict(world);
        assert_true(look_is_seen(world, 0, stream, 1, BASE_MS));
        claims_close(world);
    }
}

/* The reply comes before the step that would end it, and when the watch is strict again. */
static void another_turn_is_no_better(void **state) {
    (void)state;
    for (uint32_t stream = 0; stream < CLAIMS_STREAMS; stream++) {
        struct claims_world *world = claims_open_one(1);
        struct mr_claims *claims = world->nodes[0].claims;
        struct mr_claim_look look = look_of(stream, 1, BASE_MS);
        virtual_redis_set_delay(world->v, 0, 20000000, 20000000);
        look_put(world, 0, &look);
        look.turn--;
        struct mr_redis_reply nil = {.type = MR_REDIS_NIL};
        struct mr_redis_answer answer = {.tag = MR_CLAIMS_TAG_LOOK | UINT64_C(1) << 9,
                                         .outcome = MR_REDIS_ANSWERED};
        answer.reply = (struct mr_redis_reply){.type = MR_REDIS_LIST, .items = &nil, .count = 1};
        if (stream == 1) {
            answer.reply = (struct mr_redis_reply){.type = MR_REDIS_INTEGER, .integer = -2};
        }
        mr_claims_answer(claims, &answer);
        assert_ptr_equal(look_next(world, 0), &look);
        assert_int_equal(look.status, MR_AGAIN);
        claims_close(world);
    }
}

/* ---- 2 ---- */

/* Each command of the look in turn is not executed, or its reply is lost. */
static void lost_replies_are_no_answers(void **state) {
    (void)state;
    for (uint32_t stream = 0; stream < CLAIMS_STREAMS; stream++) {
        for (uint32_t cut = 0; cut < 4; cut++) {
            uint32_t nth = cut / 2 + 1;
            if (stream == 1 && nth == 2) {
                continue; /* one command is all */
            }
            struct claims_world *world = claims_open_one(1);
            assert_int_equal(look_claim_at(world, 0, stream, 1, BASE_MS), MR_CLAIM_WON);
            struct mr_claim_look look = look_of(stream, 1, BASE_MS);
            look_put(world, 0, &look);
            if (cut % 2 == 0) {
                virtual_redis_cut_before(world->v, 0, nth);
            } else {
                virtual_redis_cut_after(world->v, 0, nth);
            }
            look_await(world, 0, &look, 600);
            assert_int_equal(look.status, MR_AGAIN);
            claims_until_strict(world);
            assert_true(look_is_seen(world, 0, stream, 1, BASE_MS));
            claims_close(world);
        }
    }
}

static void a_server_that_hangs_ends_it(void **state) {
    (void)state;
    for (uint32_t stream = 0; stream < CLAIMS_STREAMS; stream++) {
        struct claims_world *world = claims_open_one(1);
        assert_int_equal(look_claim_at(world, 0, stream, 1, BASE_MS), MR_CLAIM_WON);
        virtual_redis_hang(world->v, 0, true);
        struct mr_claim_look look = look_of(stream, 1, BASE_MS);
        look_put(world, 0, &look);
        look_await(world, 0, &look, 510); /* the client's timeout is 500 ms */
        assert_int_equal(look.status, MR_AGAIN);
        virtual_redis_hang(world->v, 0, false);
        claims_until_strict(world);
        assert_true(look_is_seen(world, 0, stream, 1, BASE_MS));
        claims_close(world);
    }
}

/* The watch is not told: a user who may claim and not ask is no reason to stop. */
static void errors_are_no_answers(void **state) {
    (void)state;
    static const char *const errors[] = {
        "LOADING Redis is loading the dataset in memory",
        "CLUSTERDOWN The cluster is down",
        "NOPERM this user has no permissions",
        "WRONGTYPE Operation against a key",
        "ERR something else",
    };
    for (uint32_t stream = 0; stream < CLAIMS_STREAMS; stream++) {
        for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
            struct claims_world *world = claims_open_one(1);
            assert_int_equal(look_claim_at(world, 0, stream, 1, BASE_MS), MR_CLAIM_WON);
            struct mr_claim_look look = look_of(stream, 1, BASE_MS);
            virtual_redis_answer(world->v, 0, errors[i], 1);
            look_put(world, 0, &look);
            look_await(world, 0, &look, 10);
            assert_int_equal(look.status, MR_AGAIN);
            assert_int_equal(mr_watch_state(mr_claims_watch(world->nodes[0].claims)),
                             MR_WATCH_STRICT);
            virtual_redis_answer(world->v, 0, "", 0);
            assert_true(look_is_seen(world, 0, stream, 1, BASE_MS));
            claims_close(world);
        }
    }
}

static void replies_are_read_strictly(void **state) {
    (void)state;
    static const struct mr_redis_reply nil = {.type = MR_REDIS_NIL};
    static const struct mr_redis_reply token = {.type = MR_REDIS_TEXT,
                                                .text = {(const uint8_t *)"abcdefghijkl", 12}};
    static const struct mr_redis_reply less = {.type = MR_REDIS_TEXT,
                                               .text = {(const uint8_t *)"abcdefghijkl", 11}};
    static const struct mr_redis_reply number = {.type = MR_REDIS_INTEGER, .integer = 1};
    enum expected { BAD, NO, YES };
    const struct {
        struct mr_redis_reply reply;
        enum expected bucket, key;
    } cases[] = {
        {{.type = MR_REDIS_LIST, .items = (struct mr_redis_reply *)&nil, .count = 1}, NO, BAD},
        {{.type = MR_REDIS_LIST, .items = (struct mr_redis_reply *)&token, .count = 1}, YES, BAD},
        {{.type = MR_REDIS_LIST, .items = (struct mr_redis_reply *)&less, .count = 1}, BAD, BAD},
        {{.type = MR_REDIS_LIST, .items = (struct mr_redis_reply *)&number, .count = 1}, BAD, BAD},
        {{.type = MR_REDIS_LIST, .items = (struct mr_redis_reply *)&token, .count = 2}, BAD, BAD},
        {{.type = MR_REDIS_LIST}, BAD, BAD},
        {nil, BAD, BAD},
        {token, BAD, BAD},
        {{.type = MR_REDIS_STATUS, .text = {(const uint8_t *)"OK", 2}}, BAD, BAD},
        {number, BAD, YES},
        {{.type = MR_REDIS_INTEGER, .integer = 0}, BAD, YES},
        {{.type = MR_REDIS_INTEGER, .integer = 3 * HORIZON_MS}, BAD, YES},
        {{.type = MR_REDIS_INTEGER, .integer = -1}, BAD, BAD},
        {{.type = MR_REDIS_INTEGER, .integer = -2}, BAD, NO},
        {{.type = MR_REDIS_INTEGER, .integer = -3}, BAD, BAD},
    };
    for (uint32_t stream = 0; stream < CLAIMS_STREAMS; stream++) {
        struct claims_world *world = claims_open_one(1);
        uint64_t use = 0; /* of slot 0 */
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            enum expected expected = stream == 0 ? cases[i].bucket : cases[i].key;
            for (uint32_t reply = 0; reply < 2 - stream; reply++) {
                struct mr_claim_look look = look_of(stream, 1, BASE_MS);
                look_put(world, 0, &look);
                struct mr_redis_answer answer = {.outcome = MR_REDIS_ANSWERED};
                answer.tag = MR_CLAIMS_TAG_LOOK | ++use << 9 | reply << 8;
                answer.reply = cases[i].reply;
                mr_claims_answer(world->nodes[0].claims, &answer);
                struct mr_claim_look *found = look_next(world, 0);
                if (found == NULL) {
                    assert_true(stream == 0 && expected != BAD);
                    answer.reply = (struct mr_redis_reply){
                        .type = MR_REDIS_LIST, .items = (struct mr_redis_reply *)&nil, .count = 1};
                    answer.tag ^= 1 << 8;
                    mr_claims_answer(world->nodes[0].claims, &answer);
                    found = look_next(world, 0);
                }
                assert_ptr_equal(found, &look);
                assert_int_equal(look.status, expected == BAD ? MR_AGAIN : MR_OK);
                assert_int_equal(look.seen, expected == YES);
                assert_true(look.from_ms <= BASE_MS && look.until_ms <= BASE_MS + 3 * HORIZON_MS);
            }
        }
        claims_close(world);
    }
}

/* ---- 3 ---- */

static uint32_t drain(struct claims_world *world, enum mr_status status, bool seen) {
    uint32_t count = 0;
    for (const struct mr_claim_look *look; (look = look_next(world, 0)) != NULL; count++) {
        assert_int_equal(look->status, status);
        assert_int_equal(look->seen, seen);
    }
    return count;
}

/* Slots are given back by answers, by a timeout, by the watch; and count until looked has given the look back. */
static void there_are_so_many(void **state) {
    (void)state;
    static struct mr_claim_look looks[MR_CLAIM_LOOKS];
    for (uint32_t stream = 0; stream < CLAIMS_STREAMS; stream++) {
        struct claims_world *world = claims_open_one(1);
        struct mr_claims *claims = world->nodes[0].claims;
        assert_int_equal(look_claim_at(world, 0, stream, 1, BASE_MS), MR_CLAIM_WON);
        for (uint32_t round = 0; round < 6; round++) {
            bool hangs = round % 3 == 1;
            virtual_redis_hang(world->v, 0, hangs);
            claims_until_strict(world);
            for (uint32_t i = 0; i < MR_CLAIM_LOOKS; i++) {
                looks[i] = look_of(stream, 1, BASE_MS);
                look_put(world, 0, &looks[i]);
            }
            struct mr_claim_look more = look_of(stream, 1, BASE_MS);
            assert_false(mr_claims_look(claims, &more));
            assert_false(mr_claims_busy(claims));
            if (round % 3 == 2) {
                mr_watch_say_lost(mr_claims_watch(claims), 3);
            }
            claims_run(world, hangs ? 600 : 5);
            assert_false(mr_claims_look(claims, &more));
            bool answered = round % 3 == 0;
            assert_int_equal(drain(world, answered ? MR_OK : MR_AGAIN, answered), MR_CLAIM_LOOKS);
            virtual_redis_hang(world->v, 0, false);
            claims_until_strict(world);
            assert_true(look_is_seen(world, 0, stream, 1, BASE_MS));
        }
        claims_close(world);
    }
}

/* The first reply is refused, which ends the look; the second, that the id is in the generation before, comes when
 * another look has its slot. */
static void a_late_reply_finds_another_use(void **state) {
    (void)state;
    uint32_t late = 0;
    struct claims_world *world = claims_open_one(1);
    int64_t now_ms = BASE_MS + 2 * HORIZON_MS;
    assert_int_equal(look_claim_at(world, 0, 0, 1, now_ms - 1), MR_CLAIM_WON);
    virtual_redis_set_delay(world->v, 0, 0, 20000000);
    for (uint32_t round = 0; round < 100; round++) {
        struct mr_claim_look first = look_of(0, 1, now_ms);
        struct mr_claim_look second = look_of(0, 2, now_ms);
        virtual_redis_answer(world->v, 0, "ERR not this one", 1);
        look_put(world, 0, &first);
        look_await(world, 0, &first, 50);
        if (first.status == MR_OK) {
            continue; /* a check of the watch was refused in its place */
        }
        struct mr_redis_node node;
        mr_redis_node(world->nodes[0].claims->redis, 0, &node);
        late += node.unanswered > 0;
        claims_until_strict(world);
        look_put(world, 0, &second);
        look_await(world, 0, &second, 50);
        assert_false(second.seen);
    }
    assert_true(late > 20);
    claims_close(world);
}

/* The same by hand, in both layouts. */
static void a_tag_is_of_one_use(void **state) {
    (void)state;
    for (uint32_t stream = 0; stream < CLAIMS_STREAMS; stream++) {
        struct claims_world *world = claims_open_one(1);
        struct mr_claims *claims = world->nodes[0].claims;
        assert_false(look_is_seen(world, 0, stream, 1, BASE_MS)); /* use 1 of slot 0 */
        virtual_redis_set_delay(world->v, 0, 20000000, 20000000);
        struct mr_claim_look look = look_of(stream, 1, BASE_MS);
        look_put(world, 0, &look);
        struct mr_redis_answer answer = {.outcome = MR_REDIS_UNKNOWN};
        for (uint64_t use = 0; use < 5; use++) {
            for (uint64_t slot = 0; slot < MR_CLAIM_LOOKS; slot++) {
                for (uint64_t reply = 0; reply < 2 && (use != 2 || slot != 0); reply++) {
                    answer.tag = MR_CLAIMS_TAG_LOOK | use << 9 | reply << 8 | slot;
                    mr_claims_answer(claims, &answer);
                    assert_null(mr_claims_looked(claims));
                }
            }
        }
        answer.tag = MR_CLAIMS_TAG_LOOK | UINT64_C(2) << 9;
        mr_claims_answer(claims, &answer);
        assert_ptr_equal(look_next(world, 0), &look);
        claims_close(world);
    }
}

static uint32_t waits;

static void count_wait(struct mr_redis_transport *transport, uint64_t timeout_ns) {
    (void)transport;
    (void)timeout_ns;
    waits++;
}

/* Not while an answer lies there; and looks are no claims. */
static void waits_for_answers(void **state) {
    (void)state;
    struct claims_world *world = claims_open_one(1);
    struct mr_claims *claims = world->nodes[0].claims;
    struct mr_redis_transport *transport = virtual_redis_transport(world->v);
    struct mr_redis_transport_ops ops = *transport->ops;
    ops.wait = count_wait;
    transport->ops = &ops;
    virtual_redis_set_delay(world->v, 0, 20000000, 20000000);
    struct mr_claim_look look = look_of(0, 1, BASE_MS);
    look_put(world, 0, &look);
    while (claims_step(world, 0)) {
    }
    assert_false(mr_claims_busy(claims));
    waits = 0;
    mr_claims_wait(claims, 1000000);
    assert_int_equal(waits, 1);
    world->time.ns += 25000000;
    while (claims_step(world, 0)) {
    }
    mr_claims_wait(claims, 1000000);
    assert_int_equal(waits, 1);
    assert_false(mr_claims_busy(claims));
    assert_ptr_equal(look_next(world, 0), &look);
    mr_claims_wait(claims, 1000000);
    assert_int_equal(waits, 2);
    claims_close(world);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_believed_unless_strict),
        cmocka_unit_test(nothing_is_believed_while_lost),
        cmocka_unit_test(a_session_must_have_passed),
        cmocka_unit_test(a_loss_under_way_ends_it),
        cmocka_unit_test(another_turn_is_no_better),
        cmocka_unit_test(lost_replies_are_no_answers),
        cmocka_unit_test(a_server_that_hangs_ends_it),
        cmocka_unit_test(errors_are_no_answers),
        cmocka_unit_test(replies_are_read_strictly),
        cmocka_unit_test(there_are_so_many),
        cmocka_unit_test(a_late_reply_finds_another_use),
        cmocka_unit_test(a_tag_is_of_one_use),
        cmocka_unit_test(waits_for_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
