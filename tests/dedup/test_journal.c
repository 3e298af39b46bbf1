/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that the journal is exactly the list of new ids:
 *   1. random calls in every mode, with takes in between: the chunks one behind the other are the
 *      ids that were new, in order; chunks are no larger than a generation; generations never
 *      decrease and each has as many ids as it holds; what was reserved was enough, also when time
 *      moved on in between;
 *   2. no memory for reserve: nothing has changed, and the next time it works;
 *   3. judge without reserve is a broken invariant; off, nothing is written and nothing needed.
 */
#include "kept.h"

#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { POOL = 700, BATCH_MAX = 120 };

struct run {
    struct rng rng;
    struct mr_dedup *dedup;
    int64_t now_ms;
    struct kept kept;
    uint64_t written; /* ids */
    uint64_t compared;
    uint32_t expected[200000];
};

static void compare(struct run *run, uint32_t from_chunk) {
    for (uint32_t i = from_chunk; i < run->kept.count; i++) {
        const struct mr_dedup_chunk *chunk = run->kept.chunks[i];
        assert_true(i == 0 || run->kept.chunks[i - 1]->generation <= chunk->generation);
        for (uint32_t k = 0; k < chunk->count; k++) {
            struct mr_fingerprint fp = fp_of(run->expected[run->compared++], FP_RANDOM);
            assert_true(mr_fingerprint_equal(chunk->ids[k], fp));
        }
    }
}

static void judge(struct run *run) {
    uint32_t ids[BATCH_MAX];
    uint8_t duplicate[BATCH_MAX];
    uint64_t room = mr_dedup_room(run->dedup, run->now_ms);
    uint32_t count = (uint32_t)rng_below(&run->rng, rng_below(&run->rng, 3) == 0 ? 4 : BATCH_MAX);
    count = room < count ? (uint32_t)room : count;
    struct mr_fingerprint fps[BATCH_MAX];
    uint32_t order[BATCH_MAX];
    for (uint32_t i = 0; i < count; i++) {
        ids[i] = (uint32_t)rng_below(&run->rng, POOL);
        fps[i] = fp_of(ids[i], FP_RANDOM);
        order[i] = count - 1 - i;
    }
    assert_int_equal(mr_dedup_reserve(run->dedup, count), MR_OK);
    if (rng_below(&run->rng, 3) == 0) {
        run->now_ms += (int64_t)rng_below(&run->rng, 40);
        mr_dedup_advance(run->dedup, run->now_ms);
    }
    uint32_t half = (uint32_t)rng_below(&run->rng, count + 1);
    mr_dedup_judge(run->dedup, fps, order, half, duplicate);
    mr_dedup_judge(run->dedup, fps, order + half, count - half, duplicate + half);
    for (uint32_t k = 0; k < count; k++) {
        if (duplicate[k] == 0) {
            run->expected[run->written++] = ids[order[k]];
        }
    }
}

/* The newest chunks of each live generation have as many ids as there are live ones. */
static void count_live(const struct run *run) {
    uint64_t live = 0;
    for (uint32_t i = 0; i < run->kept.count; i++) {
        bool remembered = run->kept.chunks[i]->generation >= mr_dedup_first_generation(run->dedup);
        live += remembered ? run->kept.chunks[i]->count : 0;
    }
    assert_int_equal(live, mr_counter_read(&mr_dedup_stats(run->dedup)->live_ids));
}

static void run_random(uint64_t seed, const struct mr_dedup_options *options, uint64_t cap_max) {
    static struct run run;
    memset(&run, 0, sizeof run);
    run.rng.state = seed;
    run.dedup = dedup_open(options);
    mr_dedup_journal(run.dedup, true);
    for (uint32_t step = 0; step < 400; step++) {
        switch (rng_below(&run.rng, 6)) {
        case 0:
            run.now_ms += (int64_t)rng_below(&run.rng, 60);
            mr_dedup_advance(run.dedup, run.now_ms);
            break;
        case 1: {
            uint32_t before = run.kept.count;
            bool all = rng_below(&run.rng, 2) == 0;
            kept_take(&run.kept, run.dedup, all);
            compare(&run, before);
            assert_true(!all || run.compared == run.written);
            if (all) {
                count_live(&run);
            }
            break;
        }
        default:
            judge(&run);
        }
        mr_dedup_check_scan(run.dedup);
    }
    uint32_t before = run.kept.count;
    kept_take(&run.kept, run.dedup, true);
    compare(&run, before);
    assert_true(run.compared == run.written && run.written > 300);
    for (uint32_t i = 0; i < run.kept.count; i++) {
        assert_true(run.kept.chunks[i]->cap <= cap_max);
    }
    assert_null(mr_dedup_take(run.dedup, true));
    mr_dedup_close(run.dedup);
    kept_free(&run.kept);
}

static void is_the_list_of_new_ids(void **state) {
    (void)state;
    const struct {
        struct mr_dedup_options options;
        uint64_t cap_max; /* of a chunk: a generation, or the table */
    } runs[] = {
        {{MR_DEDUP_EXACT, MR_WHEN_FULL_REJECT, 300, 1000, 0, false}, 1051},
        {{MR_DEDUP_EXACT, MR_WHEN_FULL_REJECT, 300, 60, 0, false}, 64},
        {{MR_DEDUP_EXACT, MR_WHEN_FULL_EVICT_OLDEST, 300, 1, 0, false}, 1},
        {{MR_DEDUP_EXACT, MR_WHEN_FULL_EVICT_OLDEST, 900, 70, 0, false}, 3},
        {{MR_DEDUP_EXACT, MR_WHEN_FULL_EVICT_OLDEST, 900, 600, 0, false}, 20},
        {{MR_DEDUP_BLOOM, MR_WHEN_FULL_REJECT, 300, 500, 1e-3, false}, 132},
        {{MR_DEDUP_BLOOM, MR_WHEN_FULL_EVICT_OLDEST, 900, 100, 1e-3, false}, 27},
    };
    for (size_t i = 0; i < sizeof runs / sizeof runs[0]; i++) {
        run_random(i + 1, &runs[i].options, runs[i].cap_max);
        run_random(i + 100, &runs[i].options, runs[i].cap_max);
    }
}

/* 4096 is a round number of ids: chunks end there, and in generations of 4097 one id later. */
static void large_generations_take_several_chunks(void **state) {
    (void)state;
    struct mr_dedup_options options = {MR_DEDUP_EXACT, MR_WHEN_FULL_EVICT_OLDEST, 1000,
                                       4097 * 32 * 20 / 21, 0, false};
    enum { BATCH = 5000 };
    static struct mr_fingerprint fps[BATCH];
    static uint32_t order[BATCH];
    static uint8_t duplicate[BATCH];
    struct mr_dedup *dedup = dedup_open(&options);
    mr_dedup_journal(dedup, true);
    struct kept kept = {0};
    for (uint64_t id = 0; id < 40000; id += BATCH) {
        for (uint32_t i = 0; i < BATCH; i++) {
            fps[i] = fp_of(id + i, FP_RANDOM);
            order[i] = i;
        }
        assert_int_equal(mr_dedup_reserve(dedup, BATCH), MR_OK);
        mr_dedup_judge(dedup, fps, order, BATCH, duplicate);
        kept_take(&kept, dedup, false);
    }
    kept_take(&kept, dedup, true);
    uint64_t id = 0;
    for (uint32_t i = 0; i < kept.count; i++) {
        const struct mr_dedup_chunk *chunk = kept.chunks[i];
        assert_int_equal(chunk->cap, MR_DEDUP_CHUNK_IDS);
        assert_int_equal(chunk->generation, id / 4097);
        assert_int_equal(chunk->count, id == 9 * 4097 ? 40000 - id : i % 2 == 0 ? 4096 : 1);
        for (uint32_t k = 0; k < chunk->count; k++) {
            assert_true(mr_fingerprint_equal(chunk->ids[k], fp_of(id++, FP_RANDOM)));
        }
    }
    assert_int_equal(id, 40000);
    mr_dedup_close(dedup);
    kept_free(&kept);
}

static void survives_missing_memory(void **state) {
    (void)state;
    struct mr_dedup_options options = {MR_DEDUP_EXACT, MR_WHEN_FULL_EVICT_OLDEST, 1000, 40, 0, false};
    struct mr_dedup *dedup = dedup_open(&options);
    mr_dedup_journal(dedup, true);
    uint32_t ids[100];
    uint8_t duplicate[100];
    for (uint32_t i = 0; i < 100; i++) {
        ids[i] = i;
    }
    uint64_t hash = mr_dedup_state_hash_scan(dedup);
    size_t nth = 0;
    enum mr_status status;
    do {
        mr_alloc_fail_at(++nth, 1);
        status = mr_dedup_reserve(dedup, 100);
        assert_true(status == MR_OK || status == MR_NO_MEMORY);
        mr_dedup_check_scan(dedup);
        assert_true(mr_dedup_state_hash_scan(dedup) == hash);
    } while (status != MR_OK);
    mr_alloc_fail_at(1, 1); /* from here on nothing is allocated */
    assert_true(nth > 1);
    struct mr_fingerprint fps[100];
    uint32_t order[100];
    for (uint32_t i = 0; i < 100; i++) {
        fps[i] = fp_of(ids[i], FP_RANDOM);
        order[i] = i;
    }
    mr_dedup_judge(dedup, fps, order, 100, duplicate);
    mr_alloc_fail_at(0, 0);
    struct kept kept = {0};
    kept_take(&kept, dedup, true);
    assert_int_equal(kept.count, 50); /* generations of 2 */
    mr_dedup_close(dedup);
    kept_free(&kept);
}

static void without_reserve_judge_stops(void **state) {
    (void)state;
    struct mr_dedup_options options = {MR_DEDUP_EXACT, MR_WHEN_FULL_REJECT, 1000, 40, 0, false};
    struct mr_dedup *dedup = dedup_open(&options);
    mr_dedup_journal(dedup, true);
    assert_false(judge_id(dedup, 1));
    struct mr_fingerprint fp = fp_of(2, FP_RANDOM);
    uint32_t order = 0;
    uint8_t duplicate = 0;
    (void)fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)freopen("/dev/null", "w", stderr);
        (void)signal(SIGABRT, SIG_DFL);
        mr_dedup_judge(dedup, &fp, &order, 1, &duplicate);
        _exit(0);
    }
    int how = 0;
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_true(WIFSIGNALED(how) && WTERMSIG(how) == SIGABRT);
    mr_dedup_journal(dedup, false);
    mr_dedup_judge(dedup, &fp, &order, 1, &duplicate);
    assert_int_equal(duplicate, 0);
    assert_null(mr_dedup_take(dedup, true));
    mr_dedup_check_scan(dedup);
    mr_dedup_close(dedup);
}

static void none_writes_nothing(void **state) {
    (void)state;
    struct mr_dedup_options options = {.mode = MR_DEDUP_NONE};
    struct mr_dedup *dedup = dedup_open(&options);
    mr_dedup_journal(dedup, true);
    mr_alloc_fail_at(1, 1);
    assert_false(judge_id(dedup, 1));
    mr_alloc_fail_at(0, 0);
    assert_null(mr_dedup_take(dedup, true));
    assert_true(mr_dedup_first_generation(dedup) == UINT64_MAX);
    mr_dedup_close(dedup);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(is_the_list_of_new_ids),
        cmocka_unit_test(large_generations_take_several_chunks),
        cmocka_unit_test(survives_missing_memory),
        cmocka_unit_test(without_reserve_judge_stops),
        cmocka_unit_test(none_writes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
