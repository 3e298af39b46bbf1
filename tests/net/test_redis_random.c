/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves from seeds, with every fault of the virtual Redis, alone and as a cluster:
 *   1. every command sent gets exactly one answer, of each node in the order sent;
 *   2. what is ANSWERED is the command's own reply, never a late one of another;
 *   3. what is said not to be executed never is; what is UNKNOWN, once at most;
 *   4. when all is well again the client is up, and its map is the servers';
 *   5. the same seed gives the same run;
 *   6. each outcome and each fault came up.
 */
#include "tests/net/rig.h"

#include <stdio.h>

enum { SEEDS = 25, ROUNDS = 150, KEYS = 40 };

static uint64_t outcomes[MR_REDIS_UNKNOWN + 1];
static uint64_t probes[VIRTUAL_REDIS_PROBE_COUNT];
static struct mr_redis_stats sums;

static void one_round(struct rig *rig) {
    uint64_t count = rig_below(rig, 30);
    for (uint64_t i = 0; i < count && rig->tags < RIG_TAGS_MAX - 1000; i++) {
        (void)rig_send(rig, (uint32_t)rig_below(rig, KEYS));
    }
    if (rig_below(rig, 4) == 0) {
        virtual_redis_fault(rig->v, false);
    }
    uint64_t how = rig_below(rig, 6);
    if (how < 2) {
        (void)rig_step(rig);
    } else if (how == 2) {
        rig_doze(rig, rig_below(rig, 300000000));
    } else {
        rig_run(rig, rig_below(rig, 100000000));
    }
}

static void map_is_the_servers(struct rig *rig) {
    for (uint32_t slot = 0; slot < MR_REDIS_SLOTS; slot++) {
        uint32_t node = mr_redis_node_of(rig->redis, slot);
        struct mr_redis_node about;
        assert_true(node != MR_REDIS_NO_NODE);
        mr_redis_node(rig->redis, node, &about);
        assert_string_equal(about.address, virtual_redis_address(rig->v, virtual_redis_master_of(rig->v, slot)));
    }
}

static uint64_t one_seed(uint64_t seed, bool cluster) {
    struct rig *rig = rig_open(&(struct rig_options){
        .seed = seed,
        .servers = cluster ? 5 : 1,
        .masters = cluster ? 3 : 0,
        .password = seed % 2 == 0 ? "secret" : NULL,
        .bytes_max = seed % 3 == 0 ? 2000 : 0,
    });
    for (int i = 0; i < ROUNDS; i++) {
        one_round(rig);
    }
    virtual_redis_heal(rig->v);
    rig_settle(rig);
    rig_run(rig, UINT64_C(61000000000)); /* the map is read every minute, whatever happens */
    rig_settle(rig);
    map_is_the_servers(rig);
    uint64_t answered = rig->outcomes[MR_REDIS_ANSWERED];
    for (uint32_t key = 0; key < KEYS; key++) {
        assert_true(rig_send(rig, key));
        rig_settle(rig);
    }
    assert_int_equal(rig->outcomes[MR_REDIS_ANSWERED], answered + KEYS);
    rig_check_all(rig);
    for (int i = 0; i <= MR_REDIS_UNKNOWN; i++) {
        outcomes[i] += rig->outcomes[i];
    }
    for (int i = 0; i < VIRTUAL_REDIS_PROBE_COUNT; i++) {
        probes[i] += virtual_redis_probe(rig->v, (enum virtual_redis_probe)i);
    }
    struct mr_redis_stats stats;
    mr_redis_stats(rig->redis, &stats);
    assert_int_equal(stats.commands, rig->tags);
    assert_int_equal(stats.moved, rig->outcomes[MR_REDIS_MOVED]);
    assert_int_equal(stats.asked, rig->outcomes[MR_REDIS_ASKED]);
    assert_int_equal(stats.later, rig->outcomes[MR_REDIS_LATER]);
    assert_int_equal(stats.refused, rig->outcomes[MR_REDIS_REFUSED]);
    sums.timeouts += stats.timeouts;
    sums.failures += stats.failures;
    sums.map_reads += stats.map_reads;
    uint64_t hash = virtual_redis_hash(rig->v);
    rig_close(rig);
    return hash;
}

static void one_server(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        (void)one_seed(seed, false);
    }
}

static void a_cluster(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        (void)one_seed(seed, true);
    }
}

static void the_same_seed_is_the_same_run(void **state) {
    (void)state;
    assert_true(one_seed(3, true) == one_seed(3, true));
    assert_true(one_seed(3, true) != one_seed(4, true));
}

static void everything_came_up(void **state) {
    (void)state;
    for (int i = 0; i <= MR_REDIS_UNKNOWN; i++) {
        print_message("outcome %d: %llu\n", i, (unsigned long long)outcomes[i]);
        assert_true(outcomes[i] > 0);
    }
    static const char *const texts[] = {
#define X(name, text) text,
        VIRTUAL_REDIS_PROBES(X)
#undef X
    };
    for (int i = 0; i < VIRTUAL_REDIS_PROBE_COUNT; i++) {
        print_message("%s: %llu\n", texts[i], (unsigned long long)probes[i]);
        assert_true(probes[i] > 0 || i == VIRTUAL_REDIS_PROBE_NOSCRIPT); /* EVAL never meets it */
    }
    assert_true(sums.timeouts > 0 && sums.failures > sums.timeouts && sums.map_reads > 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_server),
        cmocka_unit_test(a_cluster),
        cmocka_unit_test(the_same_seed_is_the_same_run),
        cmocka_unit_test(everything_came_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
