/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that in the whole cluster each id is counted by exactly one record, and that this is the one Redis names:
 *   1. three nodes, one server or three of a cluster: random records of few ids, both layouts, while connections break
 *      before and after commands, servers hang, answer OOM, LOADING and the like, restart, are replaced, slots move, nodes
 *      crash and take claims back; verdicts come in the order of the log;
 *   2. the same with data lost now and then (FLUSHALL): what was counted is asserted, and nothing is counted twice;
 *   3. the same with memory so short that allocations fail.
 */
#include "base/alloc.h"
#include "tests/dedup/claims_world.h"

#include <stdio.h>

struct sum {
    uint64_t probes[VIRTUAL_REDIS_PROBE_COUNT];
    uint64_t won, mine, taken, repeated, kept, repaired;
};

static void add_node(struct sum *sum, const struct claims_node *node) {
    struct mr_claims_stats stats;
    mr_claims_stats(node->claims, &stats);
    sum->won += stats.won;
    sum->mine += stats.mine;
    sum->taken += stats.taken;
    sum->repeated += stats.repeated;
    sum->kept += stats.kept;
    sum->repaired += stats.repaired;
    assert_int_equal(stats.waiting, 0);
}

enum trouble { HARMLESS, LOSES_DATA, NO_MEMORY };

/* A slot that ids are in is begun to move, goes on, or has moved. */
static void move_slot(struct claims_world *world, uint32_t *slot) {
    uint32_t servers = virtual_redis_servers(world->v);
    if (servers == 1) {
        return;
    }
    if (*slot != UINT32_MAX) {
        if (claims_below(world, 3) == 0) {
            virtual_redis_migrate_end(world->v, *slot); /* if a fault or heal has not done so */
            *slot = UINT32_MAX;
        }
        return;
    }
    uint32_t stream =
        world->options.only_buckets ? 0 : (uint32_t)claims_below(world, CLAIMS_STREAMS);
    *slot = claims_slot(stream, (uint32_t)claims_below(world, world->options.pool));
    uint32_t to = (uint32_t)claims_below(world, servers);
    virtual_redis_migrate_end(world->v, *slot); /* a fault may have begun it */
    if (to == virtual_redis_master_of(world->v, *slot) || !virtual_redis_is_up(world->v, to)) {
        *slot = UINT32_MAX;
    } else {
        virtual_redis_migrate_begin(world->v, *slot, to);
    }
}

static void disturb(struct claims_world *world, enum trouble trouble, uint32_t *slot) {
    uint32_t node = (uint32_t)claims_below(world, world->node_count);
    switch (claims_below(world, 24)) {
    case 0:
    case 1:
        virtual_redis_fault(world->v, true);
        break;
    case 2:
        if (world->nodes[node].claims == NULL) {
            claims_start(world, node);
        } else if (claims_below(world, 3) == 0) {
            claims_crash(world, node);
        }
        break;
    case 3:
        if (world->nodes[node].claims != NULL) {
            claims_withdraw(world, node);
        }
        break;
    case 4:
        for (uint32_t s = 0; s < virtual_redis_servers(world->v); s++) {
            virtual_redis_set_delay(world->v, s, 0, claims_below(world, 20) * 1000000);
        }
        break;
    case 5:
        if (claims_below(world, 3) == 0) {
            virtual_redis_heal(world->v);
        }
        break;
    case 6:
        if (trouble == LOSES_DATA && claims_below(world, 6) == 0) {
            virtual_redis_flush(world->v,
                                (uint32_t)claims_below(world, virtual_redis_servers(world->v)));
        }
        break;
    case 7:
    case 8:
    case 9:
        move_slot(world, slot);
        break;
    default:
        break;
    }
}

static void run(uint64_t seed, uint32_t masters, enum trouble trouble, struct sum *sum) {
    struct claims_options options = {.seed = seed, .nodes = 3, .masters = masters, .pool = 300};
    options.assume_strict = seed % 5 == 0;
    options.only_buckets = masters != 0 && seed % 3 != 1; /* quicker */
    options.bytes_max = seed % 3 == 0 ? 40000 : 0;
    struct claims_world *world = claims_open(&options);
    claims_until_strict(world);
    uint32_t slot = UINT32_MAX; /* on the way */
    for (uint32_t step = 0; step < 400; step++) {
        uint32_t node = (uint32_t)claims_below(world, world->node_count);
        disturb(world, trouble, &slot);
        if (claims_below(world, 3) == 0 && world->nodes[node].count < CLAIMS_RECORDS_MAX) {
            (void)claims_random_record(world, node);
        }
        if (trouble == NO_MEMORY) {
            mr_alloc_fail_at(1 + claims_below(world, 40), (int)claims_below(world, 2));
        }
        (void)claims_step(world, node);
        mr_alloc_fail_at(0, 0);
        world->time.ns += claims_below(world, 5) == 0 ? claims_below(world, 8000000) : 0;
        if (claims_below(world, 10) == 0) {
            claims_run(world, claims_below(world, 60));
        }
    }
    virtual_redis_heal(world->v);
    claims_finish(world);
    claims_check(world);
    for (uint32_t n = 0; n < world->node_count; n++) {
        add_node(sum, &world->nodes[n]);
    }
    for (uint32_t p = 0; p < VIRTUAL_REDIS_PROBE_COUNT; p++) {
        sum->probes[p] += virtual_redis_probe(world->v, p);
    }
    claims_close(world);
}

static void print_sum(const char *name, const struct sum *sum) {
    static const char *const probes[] = {
#define X(probe, text) #probe,
        VIRTUAL_REDIS_PROBES(X)
#undef X
    };
    print_message("%s: won %llu mine %llu taken %llu repeated %llu kept %llu repaired %llu\n", name,
                  (unsigned long long)sum->won, (unsigned long long)sum->mine,
                  (unsigned long long)sum->taken, (unsigned long long)sum->repeated,
                  (unsigned long long)sum->kept, (unsigned long long)sum->repaired);
    for (uint32_t p = 0; p < VIRTUAL_REDIS_PROBE_COUNT; p++) {
        print_message("  %s %llu\n", probes[p], (unsigned long long)sum->probes[p]);
    }
}

static void each_id_is_counted_once(void **state) {
    (void)state;
    struct sum sum = {0};
    for (uint64_t seed = 1; seed <= 3; seed++) {
        run(seed, 0, HARMLESS, &sum);
        run(seed, 3, HARMLESS, &sum);
    }
    print_sum("harmless", &sum);
    assert_true(sum.won > 0 && sum.mine > 0 && sum.taken > 0 && sum.repeated > 0);
    static const enum virtual_redis_probe wanted[] = {
        VIRTUAL_REDIS_PROBE_CUT_BEFORE, VIRTUAL_REDIS_PROBE_CUT_AFTER, VIRTUAL_REDIS_PROBE_MOVED,
        VIRTUAL_REDIS_PROBE_FAILED};
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        assert_true(sum.probes[wanted[i]] > 0);
    }
}

static void data_that_was_lost_is_asserted(void **state) {
    (void)state;
    struct sum sum = {0};
    for (uint64_t seed = 101; seed <= 102; seed++) {
        run(seed, 0, LOSES_DATA, &sum);
        run(seed, 3, LOSES_DATA, &sum);
    }
    print_sum("loses data", &sum);
    assert_true(sum.kept > 0 && sum.repaired > 0);
}

static void memory_may_be_short(void **state) {
    (void)state;
    struct sum sum = {0};
    for (uint64_t seed = 201; seed <= 202; seed++) {
        run(seed, seed % 2 == 0 ? 0 : 3, NO_MEMORY, &sum);
    }
    print_sum("no memory", &sum);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_id_is_counted_once),
        cmocka_unit_test(data_that_was_lost_is_asserted),
        cmocka_unit_test(memory_may_be_short),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
