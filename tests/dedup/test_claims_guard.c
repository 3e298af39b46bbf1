/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that nothing but a reply with its guard decides an outcome, over one virtual Redis or three:
 *   1. the guard: maxmemory-policy, the canary, the turn of the watch; it came, and it was not refused; a FLUSHALL under
 *      way;
 *   2. errors are no verdicts, and commands are not repeated more often than every 50 ms; after NOSCRIPT at once;
 *   3. replies that are not as they should be, cut and changed at each byte;
 *   4. ids of a slot that moves are asked for where they are; a server of one slot has its guard.
 */
#include "dedup/claims_parts.h"
#include "tests/dedup/claims_world.h"

#include <stdlib.h>

/* ---- 1 ---- */

static void an_outcome_needs_the_policy(void **state) {
    (void)state;
    for (uint32_t stream = 0; stream < CLAIMS_STREAMS; stream++) {
        struct claims_world *world = claims_open_one(1);
        claims_command(world, 0, "CONFIG", "SET", "maxmemory-policy", "allkeys-lru");
        struct claims_record *r = claims_record_of(world, 0, stream, 2, 1, 2, 0);
        for (uint32_t i = 0; i < 20; i++) {
            (void)claims_step(world, 0);
            assert_false(r->decided);
            assert_int_equal(r->claim.undecided, 2);
        }
        struct mr_watch *watch = mr_claims_watch(world->nodes[0].claims);
        assert_int_equal(mr_watch_state(watch),
                         MR_WATCH_NOT_STRICT); /* the guard said so, not the next check */
        claims_command(world, 0, "CONFIG", "SET", "maxmemory-policy", "noeviction");
        claims_finish(world);
        claims_expect(r, MR_CLAIM_MINE, MR_CLAIM_MINE,
                      MR_CLAIM_NONE); /* was executed and did not count */
        claims_close(world);
    }
}

/* The data goes while the claims are on their way. */
static void an_outcome_needs_the_canary(void **state) {
    (void)state;
    for (uint32_t stream = 0; stream < CLAIMS_STREAMS; stream++) {
        struct claims_world *world = claims_open_one(2);
        struct claims_record *first = claims_record_of(world, 0, stream, 2, 1, 2, 0);
        claims_finish(world);
        virtual_redis_set_delay(world->v, 0, 20000000, 20000000);
        struct claims_record *second = claims_record_of(world, 1, stream, 3, 1, 2, 3);
        (void)claims_step(world, 1);
        assert_true(second->put);
        virtual_redis_flush(world->v, 0);
        world->time.ns += 30000000;
        (void)claims_step(world, 1);
        assert_false(second->decided);
        assert_int_equal(second->claim.undecided, 3);
        assert_int_not_equal(mr_watch_state(mr_claims_watch(world->nodes[1].claims)),
                             MR_WATCH_STRICT);
        claims_finish(world);
        claims_expect(first, MR_CLAIM_WON, MR_CLAIM_WON, MR_CLAIM_NONE);
        assert_int_equal(second->outcomes[0], MR_CLAIM_TAKEN);
        assert_int_equal(second->outcomes[1], MR_CLAIM_TAKEN);
        assert_int_not_equal(second->outcomes[2], MR_CLAIM_TAKEN);
        claims_check(world);
        claims_close(world);
    }
}

/* The connection breaks behind the command and before its guard: the reply that came does not count. */
static void an_outcome_needs_its_guard(void **state) {
    (void)state;
    for (uint32_t stream = 0; stream < CLAIMS_STREAMS; stream++) {
        struct claims_world *world = claims_open_one(1);
        (void)claims_record_of(world, 0, stream, 1, 50, 0, 0);
        claims_finish(world); /* the script is loaded */
        struct claims_record *r = claims_record_of(world, 0, stream, 2, 1, 257, 0);
        uint64_t commands = claims_stats_of(world, 0).commands;
        uint64_t repeated = claims_stats_of(world, 0).repeated;
        virtual_redis_cut_after(world->v, 0, 3); /* two commands, then the guard */
        claims_finish(world);
        claims_expect(r, MR_CLAIM_MINE, MR_CLAIM_MINE, MR_CLAIM_NONE);
        assert_int_equal(claims_stats_of(world, 0).commands - commands, 4);
        assert_int_equal(claims_stats_of(world, 0).repeated - repeated, 2);
        claims_close(world);
    }
}

/* The watch finds something wrong while the claims are under way, whatever their own guards say. */
static void an_outcome_needs_the_same_turn(void **state) {
    (void)state;
    for (uint32_t stream = 0; stream < CLAIMS_STREAMS; stream++) {
        struct claims_world *world = claims_open_one(1);
        struct mr_watch *watch = mr_claims_watch(world->nodes[0].claims);
        virtual_redis_set_delay(world->v, 0, 20000000, 20000000);
        struct claims_record *r = claims_record_of(world, 0, stream, 2, 1, 2, 0);
        (void)claims_step(world, 0);
        mr_watch_say_lost(watch, 3);
        for (uint32_t i = 0; i < 30; i++) {
            (void)claims_step(world, 0);
            world->time.ns += 1000000;
            assert_false(r->decided);
            assert_int_equal(r->claim.undecided, 2);
        }
        assert_int_equal(claims_stats_of(world, 0).repeated, 2);
        claims_finish(world);
        claims_expect(r, MR_CLAIM_MINE, MR_CLAIM_MINE, MR_CLAIM_NONE);
        claims_close(world);
    }
}

static void fail_guards(void *ctx, uint32_t server, const struct mr_bytes *argv, uint32_t argc,
                        const struct mr_redis_reply *reply) {
    (void)argc;
    (void)reply;
    if (mr_bytes_equal(argv[0], MR_BYTES("EVALSHA")) || mr_bytes_equal(argv[0], MR_BYTES("SET"))) {
        virtual_redis_answer(ctx, server, "NOPERM this user has no permissions", 2);
    }
}

/* The guard is refused: nobody has said that the policy is right. */
static void a_refused_guard_is_not_right(void **state) {
    (void)state;
    for (uint32_t stream = 0; stream < CLAIMS_STREAMS; stream++) {
        struct claims_world *world = claims_open_one(1);
        (void)claims_record_of(world, 0, stream, 1, 50, 0, 0);
        claims_finish(world);
        virtual_redis_watch(world->v, fail_guards, world->v);
        struct claims_record *r = claims_record_of(world, 0, stream, 1, 1, 0, 0);
        claims_run(world, 300);
        assert_false(r->decided);
        assert_int_equal(r->claim.undecided, 1);
        virtual_redis_watch(world->v, NULL, NULL);
        virtual_redis_answer(world->v, 0, "", 0);
        claims_finish(world);
        claims_expect(r, MR_CLAIM_MINE, MR_CLAIM_NONE, MR_CLAIM_NONE);
        claims_close(world);
    }
}

/* ---- 2 ---- */

static void errors_are_no_verdicts(void **state) {
    (void)state;
    static const char *const errors[] = {
        "OOM command not allowed when used memory > 'maxmemory'.",
        "LOADING Redis is loading the dataset in memory",
        "TRYAGAIN Multiple keys request during rehashing of slot",
        "CLUSTERDOWN The cluster is down",
        "READONLY You can't write against a read only replica.",
        "MISCONF Redis is configured to save RDB snapshots",
        "BUSY Redis is busy running a script.",
        "NOPERM this user has no permissions",
        "ERR something else",
    };
    for (uint32_t stream = 0; stream < CLAIMS_STREAMS; stream++) {
        for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
            struct claims_world *world = claims_open_one(1);
            (void)claims_record_of(world, 0, stream, 1, 50, 0, 0);
            claims_finish(world);
            struct claims_record *r = claims_record_of(world, 0, stream, 2, 1, 2, 0);
            uint64_t commands = claims_stats_of(world, 0).commands;
            virtual_redis_answer(world->v, 0, errors[i], UINT32_MAX);
            claims_run(world, 500);
            assert_false(r->decided);
            assert_int_equal(r->claim.undecided, 2);
            assert_in_range(claims_stats_of(world, 0).commands - commands, 2,
                            22); /* two each 50 ms */
            virtual_redis_answer(world->v, 0, "", 0);
            claims_finish(world);
            claims_expect(r, MR_CLAIM_WON, MR_CLAIM_WON, MR_CLAIM_NONE);
            claims_close(world);
        }
    }
}

/* The command alone fails, and its guard is right. */
static void an_error_alone_is_no_verdict(void **state) {
    (void)state;
    for (uint32_t stream = 0; stream < CLAIMS_STREAMS; stream++) {
        struct claims_world *world = claims_open_one(1);
        (void)claims_record_of(world, 0, stream, 1, 50, 0, 0);
        claims_finish(world);
        virtual_redis_answer(world->v, 0, "OOM command not allowed", 1);
        struct claims_record *r = claims_record_of(world, 0, stream, 1, 1, 0, 0);
        claims_run(world, 20);
        assert_false(r->decided);
        assert_int_equal(r->claim.undecided, 1);
        claims_finish(world);
        claims_expect(r, MR_CLAIM_WON, MR_CLAIM_NONE, MR_CLAIM_NONE);
        claims_close(world);
    }
}

static void loads_the_script_again(void **state) {
    (void)state;
    struct claims_world *world = claims_open_one(1);
    (void)claims_record_of(world, 0, 0, 1, 50, 0, 0);
    claims_finish(world);
    claims_command(world, 0, "SCRIPT", "FLUSH", NULL, NULL);
    struct claims_record *r = claims_record_of(world, 0, 0, 1, 1, 0, 0);
    uint64_t from_ns = world->time.ns;
    while (!r->decided) {
        (void)claims_step(world, 0);
        world->time.ns += 1000000;
    }
    assert_true(world->time.ns - from_ns < 20000000); /* without a pause */
    claims_expect(r, MR_CLAIM_WON, MR_CLAIM_NONE, MR_CLAIM_NONE);
    assert_int_equal(virtual_redis_probe(world->v, VIRTUAL_REDIS_PROBE_NOSCRIPT), 1);
    claims_close(world);
}

/* ---- 3 ---- */

enum { READ_IDS = 5 };

struct reading {
    struct mr_claims *claims;
    struct mr_claims_wave *wave;
    struct mr_claims_entry entries[READ_IDS];
    struct mr_claims_member members[1];
    uint8_t marks[READ_IDS];
};

/* Five ids, of which the third repeats the first. */
static void begin_reading(struct reading *r) {
    memset(r->entries, 0, sizeof r->entries);
    memset(r->marks, 0, sizeof r->marks);
    r->members[0] = (struct mr_claims_member){.lsn = 0x010203040506};
    r->wave->entries = r->entries;
    r->wave->marks = r->marks;
    r->wave->members = r->members;
    r->marks[2] = MR_CLAIMS_REPEATS;
}

static void open_reading(struct reading *r) {
    r->claims = calloc(1, sizeof *r->claims);
    r->wave = calloc(1, sizeof *r->wave);
    assert_true(r->claims != NULL && r->wave != NULL);
    memcpy(r->claims->owner, "ownerX", 6);
    begin_reading(r);
}

static bool has_marks(const struct reading *r) {
    bool any = false;
    for (uint32_t i = 0; i < READ_IDS; i++) {
        any |= i != 2 && r->marks[i] != MR_CLAIM_NONE;
    }
    return any;
}

static const uint8_t token_mine[] = "ownerX\x06\x05\x04\x03\x02\x01";

static void key_replies_are_read_strictly(void **state) {
    (void)state;
    struct reading r;
    open_reading(&r);
    const struct mr_claims_command command = {.first = 1, .count = 1, .ids = 1};
    static const struct {
        struct mr_redis_reply reply;
        enum mr_claim_outcome outcome;
    } cases[] = {
        {{.type = MR_REDIS_NIL}, MR_CLAIM_WON},
        {{.type = MR_REDIS_TEXT, .text = {token_mine, 12}}, MR_CLAIM_MINE},
        {{.type = MR_REDIS_TEXT, .text = {(const uint8_t *)"another's ..", 12}}, MR_CLAIM_TAKEN},
        {{.type = MR_REDIS_TEXT, .text = {token_mine, 11}}, MR_CLAIM_NONE},
        {{.type = MR_REDIS_TEXT, .text = {token_mine, 13}}, MR_CLAIM_NONE},
        {{.type = MR_REDIS_TEXT, .text = {token_mine, 0}}, MR_CLAIM_NONE},
        {{.type = MR_REDIS_STATUS, .text = {(const uint8_t *)"OK", 2}}, MR_CLAIM_NONE},
        {{.type = MR_REDIS_FAILURE, .text = {(const uint8_t *)"ERR", 3}}, MR_CLAIM_NONE},
        {{.type = MR_REDIS_INTEGER, .integer = 1}, MR_CLAIM_NONE},
        {{.type = MR_REDIS_LIST}, MR_CLAIM_NONE},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        begin_reading(&r);
        bool read = mr_claims_key_read(r.claims, r.wave, &command, &cases[i].reply);
        assert_int_equal(read, cases[i].outcome != MR_CLAIM_NONE);
        assert_int_equal(r.marks[1], cases[i].outcome);
    }
    free(r.claims);
    free(r.wave);
}

/* A reply with every owner there can be, cut at each byte, with each byte changed, and longer. */
static void bucket_replies_are_read_strictly(void **state) {
    (void)state;
    struct reading r;
    open_reading(&r);
    const struct mr_claims_command command = {.first = 0, .count = READ_IDS, .ids = READ_IDS - 1};
    uint8_t text[64] = {0x94, 0xc2, 0xac};
    memcpy(text + 3, token_mine, 12);
    text[15] = 0xac;
    memcpy(text + 16, "another's ..", 12);
    text[28] = 0xc2;
    const size_t len = 29;
    bool lost;
    struct mr_redis_reply reply = {.type = MR_REDIS_TEXT, .text = {text, len}};
    assert_true(mr_claims_bucket_read(r.claims, r.wave, &command, &reply, &lost));
    static const uint8_t wanted[READ_IDS] = {MR_CLAIM_WON, MR_CLAIM_MINE, MR_CLAIMS_REPEATS,
                                             MR_CLAIM_TAKEN, MR_CLAIM_WON};
    assert_memory_equal(r.marks, wanted, READ_IDS);
    for (size_t cut = 1; cut < sizeof text; cut++) {
        begin_reading(&r);
        reply.text.len = cut;
        assert_int_equal(mr_claims_bucket_read(r.claims, r.wave, &command, &reply, &lost),
                         cut == len);
        assert_true(cut == len || !has_marks(&r));
    }
    static const size_t heads[] = {0, 1, 2, 15, 28}; /* else it is another token */
    for (size_t h = 0; h < sizeof heads / sizeof heads[0]; h++) {
        for (unsigned byte = 0; byte < 256; byte++) {
            uint8_t before = text[heads[h]];
            text[heads[h]] = (uint8_t)byte;
            begin_reading(&r);
            reply.text.len = len;
            bool same = byte == before;
            assert_int_equal(mr_claims_bucket_read(r.claims, r.wave, &command, &reply, &lost),
                             same);
            assert_true(same || !has_marks(&r));
            text[heads[h]] = before;
        }
    }
    static const enum mr_redis_reply_type odd[] = {MR_REDIS_NIL, MR_REDIS_STATUS, MR_REDIS_FAILURE,
                                                   MR_REDIS_INTEGER, MR_REDIS_LIST};
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
        begin_reading(&r);
        reply = (struct mr_redis_reply){.type = odd[i], .integer = 1};
        assert_false(mr_claims_bucket_read(r.claims, r.wave, &command, &reply, &lost));
        assert_true(!lost && !has_marks(&r));
    }
    reply = (struct mr_redis_reply){.type = MR_REDIS_INTEGER};
    assert_false(mr_claims_bucket_read(r.claims, r.wave, &command, &reply, &lost));
    assert_true(lost && !has_marks(&r));
    free(r.claims);
    free(r.wave);
}

/* What stands where a token should is nobody's token: the id waits until somebody has looked. */
static void a_strange_value_is_no_verdict(void **state) {
    (void)state;
    struct claims_world *world = claims_open_one(1);
    struct mr_fingerprint fp = claims_fp(1, 1);
    char key[64] = "d:shop/clicks:";
    size_t len = strlen(key);
    for (unsigned i = 0; i < 15; i++) {
        key[len++] = (char)(i < 8 ? fp.lo >> (8 * i) : fp.hi >> (8 * (i - 8)));
    }
    const struct mr_bytes set[] = {MR_BYTES("SET"), mr_bytes_of(key, len), MR_BYTES("strange")};
    const struct mr_bytes del[] = {MR_BYTES("DEL"), mr_bytes_of(key, len)};
    claims_send(world, 0, set, 3);
    struct claims_record *r = claims_record_of(world, 0, 1, 2, 1, 2, 0);
    claims_run(world, 200);
    assert_false(r->decided);
    assert_int_equal(r->claim.undecided, 1);
    claims_send(world, 0, del, 2);
    claims_finish(world);
    claims_expect(r, MR_CLAIM_WON, MR_CLAIM_WON, MR_CLAIM_NONE);
    claims_close(world);
}

/* ---- 4 ---- */

static struct claims_world *open_cluster(void) {
    struct claims_options options = {.seed = 6, .nodes = 1, .masters = 3, .pool = 1000};
    struct claims_world *world = claims_open(&options);
    claims_until_strict(world);
    return world;
}

/* Another id of the same slot; the stream of the key layout. */
static uint32_t neighbour(uint32_t number) {
    for (uint32_t other = number + 1;; other++) {
        if (claims_slot(1, other) == claims_slot(1, number)) {
            return other;
        }
    }
}

/* An id that is still at the source is found there, a new one goes where ASK says. */
static void ask_is_followed_for_one_id(void **state) {
    (void)state;
    struct claims_world *world = open_cluster();
    world->options.pool = 1000000;
    uint32_t slot = claims_slot(1, 1);
    uint32_t from = virtual_redis_master_of(world->v, slot);
    uint32_t is_there = 1;
    uint32_t is_new = neighbour(1);
    (void)claims_record_of(world, 0, 1, 1, is_there, 0, 0);
    claims_finish(world);
    virtual_redis_migrate_begin(world->v, slot, (from + 1) % 3);
    struct claims_record *r = claims_record_of(world, 0, 1, 2, is_there, is_new, 0);
    claims_finish(world);
    assert_true(virtual_redis_probe(world->v, VIRTUAL_REDIS_PROBE_ASK) > 0);
    claims_expect(r, MR_CLAIM_TAKEN, MR_CLAIM_WON, MR_CLAIM_NONE);
    struct claims_record *again = claims_record_of(world, 0, 1, 2, is_there, is_new, 0);
    claims_finish(world);
    claims_expect(again, MR_CLAIM_TAKEN, MR_CLAIM_TAKEN, MR_CLAIM_NONE);
    virtual_redis_migrate_end(world->v, slot);
    again = claims_record_of(world, 0, 1, 2, is_new, is_there, 0);
    claims_finish(world);
    claims_expect(again, MR_CLAIM_TAKEN, MR_CLAIM_TAKEN, MR_CLAIM_NONE);
    claims_close(world);
}

static void a_bucket_on_the_way_waits(void **state) {
    (void)state;
    struct claims_world *world = open_cluster();
    uint32_t slot = claims_slot(0, 1);
    uint32_t from = virtual_redis_master_of(world->v, slot);
    (void)claims_record_of(world, 0, 0, 1, 1, 0, 0);
    claims_finish(world);
    virtual_redis_migrate_begin(world->v, slot, (from + 1) % 3);
    (void)virtual_redis_migrate_keys(world->v, slot, 1);
    struct claims_record *r = claims_record_of(world, 0, 0, 1, 1, 0, 0);
    claims_run(world, 300);
    assert_false(r->decided); /* one of its keys is here, one there: TRYAGAIN */
    virtual_redis_migrate_end(world->v, slot);
    claims_finish(world);
    claims_expect(r, MR_CLAIM_TAKEN, MR_CLAIM_NONE, MR_CLAIM_NONE);
    claims_close(world);
}

static bool has_bucket(uint32_t slot) {
    struct mr_buf tag;
    bool has = false;
    mr_buf_init(&tag, 1000);
    for (uint32_t p = 0; p < CLAIMS_STREAMS * MR_CLAIM_BUCKETS; p++) {
        mr_buf_clear(&tag);
        mr_claims_tag(&tag, MR_BYTES("shop"), p % 2 == 0 ? MR_BYTES("orders") : MR_BYTES("clicks"),
                      p / 2);
        has |= mr_redis_slot(mr_buf_bytes(&tag)) == slot;
    }
    mr_buf_finish(&tag);
    return has;
}

/* A server that has this one slot has a canary, too. */
static void one_slot_is_enough(void **state) {
    (void)state;
    struct claims_world *world = open_cluster();
    uint32_t number = 1;
    while (has_bucket(claims_slot(1, number))) {
        number++;
    }
    uint32_t slot = claims_slot(1, number);
    virtual_redis_migrate_begin(world->v, slot, 3);
    virtual_redis_migrate_end(world->v, slot);
    struct claims_record *r = claims_record_of(world, 0, 1, 2, number, number + 1, 0);
    claims_finish(world);
    claims_expect(r, MR_CLAIM_WON, MR_CLAIM_WON, MR_CLAIM_NONE);
    assert_int_equal(virtual_redis_master_of(world->v, slot), 3);
    claims_close(world);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_outcome_needs_the_policy),
        cmocka_unit_test(an_outcome_needs_the_canary),
        cmocka_unit_test(an_outcome_needs_its_guard),
        cmocka_unit_test(an_outcome_needs_the_same_turn),
        cmocka_unit_test(a_refused_guard_is_not_right),
        cmocka_unit_test(errors_are_no_verdicts),
        cmocka_unit_test(an_error_alone_is_no_verdict),
        cmocka_unit_test(loads_the_script_again),
        cmocka_unit_test(key_replies_are_read_strictly),
        cmocka_unit_test(bucket_replies_are_read_strictly),
        cmocka_unit_test(a_strange_value_is_no_verdict),
        cmocka_unit_test(ask_is_followed_for_one_id),
        cmocka_unit_test(a_bucket_on_the_way_waits),
        cmocka_unit_test(one_slot_is_enough),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
