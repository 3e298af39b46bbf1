/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that dedup in mode exact says of each id what a naive model says, and what the header
 * promises:
 *   1. random calls (judge, advance by small steps, generations, horizons and ages, sweep) against
 *      a model with a plain list of generations, and against the promise itself: within the horizon
 *      a duplicate, one generation after it new. Small tables, both policies, ids spread, with one
 *      home, and around the end of the table. check_scan after each step;
 *   2. a second instance gets the same ids in other cuts, and no sweep from outside: same verdicts
 *      and same state hash;
 *   3. more than 255 generations, with live ids, many times over;
 *   4. the full table: a batch of duplicates still fits; evict_oldest remembers the newest ids_max;
 *   5. options out of bounds and missing memory are refused; mode none remembers nothing.
 */
#include "dedup/dedup.h"

#include "base/alloc.h"
#include "support.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

enum { POOL = 300, BATCH_MAX = 48, MODEL_GENS = 64, MODEL_IDS = 256 };

/* ---- model ---- */

struct model_gen {
    int64_t from_ms;
    int64_t to_ms;
    uint32_t count;
    uint32_t ids[MODEL_IDS];
};

struct model {
    int64_t horizon_ms;
    int64_t generation_ms;
    uint32_t cap;
    uint32_t each_max;
    int64_t now_ms;
    uint32_t live;
    uint64_t evicted;
    uint64_t expired;
    uint32_t gens;
    struct model_gen gen[MODEL_GENS];
    int64_t first_ms[POOL]; /* when it was last taken for new */
    bool known[POOL];       /* it ever was, and has not been evicted */
};

static void model_init(struct model *model, const struct mr_dedup_options *options) {
    memset(model, 0, sizeof *model);
    model->horizon_ms = options->horizon_ms;
    model->generation_ms = (options->horizon_ms + 15) / 16;
    model->cap = (uint32_t)(options->ids_max + options->ids_max / 20 + 1);
    bool evict = options->when_full == MR_WHEN_FULL_EVICT_OLDEST;
    model->each_max = evict ? (model->cap + 31) / 32 : UINT32_MAX;
}

static void model_drop_oldest(struct model *model) {
    assert_true(model->gens > 0);
    model->live -= model->gen[0].count;
    model->gens--;
    memmove(&model->gen[0], &model->gen[1], model->gens * sizeof model->gen[0]);
}

static void model_advance(struct model *model, int64_t now_ms) {
    model->now_ms = now_ms > model->now_ms ? now_ms : model->now_ms;
    while (model->gens > 0 && model->gen[0].to_ms + model->horizon_ms <= model->now_ms) {
        model->expired += model->gen[0].count;
        model_drop_oldest(model);
    }
}

static const struct model_gen *model_find(const struct model *model, uint32_t id) {
    for (uint32_t g = 0; g < model->gens; g++) {
        for (uint32_t i = 0; i < model->gen[g].count; i++) {
            if (model->gen[g].ids[i] == id) {
                return &model->gen[g];
            }
        }
    }
    return NULL;
}

static void model_evict(struct model *model) {
    for (uint32_t i = 0; i < model->gen[0].count; i++) {
        model->known[model->gen[0].ids[i]] = false;
    }
    model->evicted += model->gen[0].count;
    model_drop_oldest(model);
}

static void model_open(struct model *model) {
    assert_true(model->gens < MODEL_GENS);
    int64_t slot_ms = model->now_ms / model->generation_ms * model->generation_ms;
    struct model_gen *gen = &model->gen[model->gens++];
    gen->from_ms = model->now_ms;
    gen->to_ms = slot_ms + model->generation_ms;
    gen->count = 0;
}

static bool model_judge(struct model *model, uint32_t id) {
    bool duplicate = model_find(model, id) != NULL;
    int64_t age_ms = model->now_ms - model->first_ms[id];
    if (model->known[id]) { /* the promise, without the word generation in it */
        assert_true(duplicate || age_ms > model->horizon_ms);
        assert_true(!duplicate || age_ms < model->horizon_ms + model->generation_ms);
    }
    if (duplicate) {
        return true;
    }
    if (model->live == model->cap) {
        model_evict(model);
    }
    struct model_gen *last = model->gens > 0 ? &model->gen[model->gens - 1] : NULL;
    if (last == NULL || last->count == model->each_max || last->to_ms <= model->now_ms) {
        model_open(model);
        last = &model->gen[model->gens - 1];
    }
    assert_true(last->count < MODEL_IDS);
    last->ids[last->count++] = id;
    if (last->count == model->each_max) {
        last->to_ms = model->now_ms + 1;
    }
    model->live++;
    model->known[id] = true;
    model->first_ms[id] = model->now_ms;
    return false;
}

/* ---- one random run ---- */

struct run {
    struct rng rng;
    struct mr_dedup_options options;
    enum fp_kind kind;
    struct mr_dedup *dedup;
    struct mr_dedup *twin; /* the same ids in other cuts, never swept from outside */
    struct model model;
};

static struct mr_dedup *open_dedup(const struct mr_dedup_options *options) {
    struct mr_dedup *dedup = NULL;
    struct mr_error error;
    assert_int_equal(mr_dedup_open(options, &dedup, &error), MR_OK);
    mr_dedup_check_scan(dedup);
    return dedup;
}

/* Ids for one call; in reject no more than there is room for, as the sequencer does. */
static uint32_t choose_ids(struct run *run, uint32_t ids[BATCH_MAX]) {
    uint32_t count = (uint32_t)rng_below(&run->rng, BATCH_MAX + 1);
    uint64_t room = mr_dedup_room(run->dedup, run->model.now_ms);
    bool wanted[POOL] = {false};
    uint32_t kept = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t id = (uint32_t)rng_below(&run->rng, POOL);
        bool new_id = model_find(&run->model, id) == NULL && !wanted[id];
        if (new_id && room == 0) {
            continue;
        }
        room -= new_id;
        wanted[id] = true;
        ids[kept++] = id;
    }
    return kept;
}

static void judge(struct run *run) {
    uint32_t ids[BATCH_MAX];
    struct mr_fingerprint fps[BATCH_MAX];
    uint32_t order[BATCH_MAX];
    uint8_t duplicate[BATCH_MAX];
    uint32_t count = choose_ids(run, ids);
    for (uint32_t k = 0; k < count; k++) {
        order[k] = (k * 5 + 3) % count; /* some order; a permutation when 5 does not divide count */
    }
    for (uint32_t i = 0; i < count; i++) {
        order[i] = count % 5 == 0 ? i : order[i];
        fps[i] = fp_of(ids[i], run->kind);
    }
    memset(duplicate, 9, sizeof duplicate);
    mr_dedup_judge(run->dedup, fps, order, count, duplicate);
    uint8_t twin[BATCH_MAX];
    for (uint32_t from = 0; from < count;) {
        uint32_t n = (uint32_t)(1 + rng_below(&run->rng, count - from));
        mr_dedup_judge(run->twin, fps, order + from, n, twin + from);
        from += n;
    }
    for (uint32_t k = 0; k < count; k++) {
        assert_int_equal(duplicate[k], model_judge(&run->model, ids[order[k]]));
        assert_int_equal(twin[k], duplicate[k]);
    }
    for (uint32_t k = count; k < BATCH_MAX; k++) {
        assert_int_equal(duplicate[k], 9); /* nothing is written behind the batch */
    }
}

static void advance(struct run *run) {
    struct rng *rng = &run->rng;
    int64_t generation_ms = run->model.generation_ms;
    int64_t now_ms = run->model.now_ms;
    switch (rng_below(rng, 16)) {
    case 0:
        now_ms += run->options.horizon_ms;
        break;
    case 1: /* next to a cut */
        now_ms += generation_ms - now_ms % generation_ms - (int64_t)rng_below(rng, 2);
        break;
    case 2:
        now_ms -= (int64_t)rng_below(rng, 1000); /* never back */
        break;
    case 3:
        now_ms += (int64_t)rng_below(rng, 40) == 0 ? INT64_C(1) << 50 : 1;
        break;
    default:
        now_ms += (int64_t)rng_below(rng, (uint64_t)generation_ms + 1);
    }
    uint32_t before = run->model.live;
    bool due = mr_dedup_due(run->dedup, now_ms);
    uint64_t room = mr_dedup_room(run->dedup, now_ms);
    model_advance(&run->model, now_ms);
    assert_int_equal(due, run->model.live < before);
    bool bounded = run->options.when_full == MR_WHEN_FULL_REJECT;
    assert_true(room == (bounded ? run->model.cap - run->model.live : UINT64_MAX));
    mr_dedup_advance(run->dedup, now_ms);
    mr_dedup_advance(run->twin, now_ms);
}

static void ask(struct run *run) {
    uint32_t id = (uint32_t)rng_below(&run->rng, POOL);
    int64_t from_ms = -1;
    int64_t to_ms = -1;
    int64_t until_ms = -1;
    bool seen = mr_dedup_seen(run->dedup, fp_of(id, run->kind), &from_ms, &to_ms, &until_ms);
    const struct model_gen *gen = model_find(&run->model, id);
    assert_int_equal(seen, gen != NULL);
    if (gen != NULL) {
        assert_int_equal(from_ms, gen->from_ms);
        assert_int_equal(to_ms, gen->to_ms);
        assert_int_equal(until_ms, gen->to_ms + run->model.horizon_ms);
        int64_t first_ms = run->model.first_ms[id];
        assert_true(from_ms <= first_ms && first_ms < to_ms);
    } else {
        assert_int_equal(from_ms, -1);
    }
}

static void check(const struct run *run) {
    mr_dedup_check_scan(run->dedup);
    mr_dedup_check_scan(run->twin);
    assert_int_equal(mr_dedup_state_hash_scan(run->dedup), mr_dedup_state_hash_scan(run->twin));
    const struct mr_dedup_stats *stats = mr_dedup_stats(run->dedup);
    assert_int_equal(mr_counter_read(&stats->live_ids), run->model.live);
    assert_int_equal(mr_counter_read(&stats->evicted_ids), run->model.evicted);
    assert_int_equal(mr_counter_read(&stats->expired_ids), run->model.expired);
    assert_int_equal(mr_counter_read(&stats->generation),
                     run->model.now_ms / run->model.generation_ms);
}

/* Returns how many generations of time went by. */
static int64_t run_random(uint64_t seed, const struct mr_dedup_options *options, enum fp_kind kind,
                          uint32_t steps) {
    static struct run run;
    memset(&run, 0, sizeof run);
    run.rng.state = seed;
    run.options = *options;
    run.kind = kind;
    model_init(&run.model, options);
    run.dedup = open_dedup(options);
    run.twin = open_dedup(options);
    for (uint32_t step = 0; step < steps; step++) {
        switch (rng_below(&run.rng, 8)) {
        case 0:
        case 1:
            advance(&run);
            break;
        case 2:
            (void)mr_dedup_sweep(run.dedup, (uint32_t)rng_below(&run.rng, 100));
            break;
        case 3:
            ask(&run);
            break;
        default:
            judge(&run);
        }
        check(&run);
    }
    mr_dedup_close(run.dedup);
    mr_dedup_close(run.twin);
    return run.model.now_ms / run.model.generation_ms;
}

static void agrees_with_the_model(void **state) {
    (void)state;
    static const uint64_t sizes[] = {1, 2, 20, 41, 100, 200};
    static const int64_t horizons[] = {1, 16, 17, 1000};
    uint64_t seed = 1;
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        for (size_t h = 0; h < sizeof horizons / sizeof horizons[0]; h++) {
            for (enum fp_kind kind = 0; kind < FP_KINDS; kind++) {
                struct mr_dedup_options options = {
                    .mode = MR_DEDUP_EXACT,
                    .when_full = seed % 2 == 0 ? MR_WHEN_FULL_REJECT : MR_WHEN_FULL_EVICT_OLDEST,
                    .horizon_ms = horizons[h],
                    .ids_max = sizes[s],
                };
                (void)run_random(seed++, &options, kind, 160);
            }
        }
    }
}

/* Long enough for each tag to come around several times, in both policies. */
static void tags_come_around(void **state) {
    (void)state;
    for (uint32_t i = 0; i < 2; i++) {
        struct mr_dedup_options options = {
            .mode = MR_DEDUP_EXACT,
            .when_full = i == 0 ? MR_WHEN_FULL_REJECT : MR_WHEN_FULL_EVICT_OLDEST,
            .horizon_ms = 160,
            .ids_max = 190,
        };
        assert_true(run_random(1000 + i, &options, FP_RANDOM, 2500) > 2 * 255);
    }
}

/* ---- by hand ---- */

static bool judge_one(struct mr_dedup *dedup, uint64_t id) {
    struct mr_fingerprint fp = fp_of(id, FP_RANDOM);
    uint32_t order = 0;
    uint8_t duplicate = 2;
    mr_dedup_judge(dedup, &fp, &order, 1, &duplicate);
    assert_in_range(duplicate, 0, 1);
    return duplicate == 1;
}

/* One id a generation, in a large table: the sweep gets no share from new ids and lives by its
 * debt. */
static void sparse_generations_come_around(void **state) {
    (void)state;
    struct mr_dedup_options options = {.mode = MR_DEDUP_EXACT,
                                       .when_full = MR_WHEN_FULL_REJECT,
                                       .horizon_ms = 1600,
                                       .ids_max = 200000};
    struct mr_dedup *dedup = open_dedup(&options);
    for (uint64_t id = 0; id < 2000; id++) {
        mr_dedup_advance(dedup, (int64_t)id * 100);
        assert_false(judge_one(dedup, id));
        assert_true(id < 16 || judge_one(dedup, id - 16));
        assert_int_equal(mr_counter_read(&mr_dedup_stats(dedup)->live_ids), id < 17 ? id + 1 : 17);
    }
    mr_dedup_check_scan(dedup);
    mr_dedup_close(dedup);
}

static void full_table_takes_duplicates(void **state) {
    (void)state;
    struct mr_dedup_options options = {.mode = MR_DEDUP_EXACT,
                                       .when_full = MR_WHEN_FULL_REJECT,
                                       .horizon_ms = 1000,
                                       .ids_max = 100};
    struct mr_dedup *dedup = open_dedup(&options);
    uint64_t room = mr_dedup_room(dedup, 0);
    assert_true(room >= 100 && room <= 106);
    for (uint64_t id = 0; id < room; id++) {
        assert_int_equal(mr_dedup_room(dedup, 0), room - id);
        assert_false(judge_one(dedup, id));
    }
    assert_int_equal(mr_dedup_room(dedup, 0), 0);
    assert_int_equal(mr_dedup_room(dedup, 1062), 0);
    assert_int_equal(mr_dedup_room(dedup, 1063), room); /* generation 63, horizon 1000 */
    for (uint64_t id = 0; id < room; id++) {
        assert_true(judge_one(dedup, id));
    }
    mr_dedup_advance(dedup, 1063);
    for (uint64_t id = 0; id < room; id++) {
        assert_false(judge_one(dedup, id));
    }
    mr_dedup_check_scan(dedup);
    mr_dedup_close(dedup);
}

static void eviction_keeps_the_newest(void **state) {
    (void)state;
    for (uint64_t ids_max = 1; ids_max < 130; ids_max++) {
        struct mr_dedup_options options = {.mode = MR_DEDUP_EXACT,
                                           .when_full = MR_WHEN_FULL_EVICT_OLDEST,
                                           .horizon_ms = 100000,
                                           .ids_max = ids_max};
        struct mr_dedup *dedup = open_dedup(&options);
        for (uint64_t id = 0; id < 3 * ids_max + 5; id++) {
            mr_dedup_advance(dedup, (int64_t)id / 7);
            assert_false(judge_one(dedup, id));
            int64_t ms[3];
            uint64_t old = id < ids_max ? 0 : id + 1 - ids_max;
            assert_true(mr_dedup_seen(dedup, fp_of(old, FP_RANDOM), &ms[0], &ms[1], &ms[2]));
        }
        assert_true(mr_counter_read(&mr_dedup_stats(dedup)->evicted_ids) > 0);
        mr_dedup_check_scan(dedup);
        mr_dedup_close(dedup);
    }
}

/* ---- edges ---- */

static void refuses_bad_options(void **state) {
    (void)state;
    const struct mr_dedup_options refused[] = {
        {.mode = MR_DEDUP_EXACT, .horizon_ms = 0, .ids_max = 10},
        {.mode = MR_DEDUP_EXACT, .horizon_ms = -5, .ids_max = 10},
        {.mode = MR_DEDUP_EXACT, .horizon_ms = INT64_MAX, .ids_max = 10},
        {.mode = MR_DEDUP_EXACT, .horizon_ms = 1000, .ids_max = 0},
        {.mode = MR_DEDUP_EXACT, .horizon_ms = 1000, .ids_max = UINT64_MAX},
        {.mode = MR_DEDUP_BLOOM, .horizon_ms = 1000, .ids_max = 10, .error = 0.0},
        {.mode = MR_DEDUP_BLOOM, .horizon_ms = 1000, .ids_max = 10, .error = 0.9},
        {.mode = MR_DEDUP_BLOOM, .horizon_ms = 1000, .ids_max = 10, .error = 1e-9},
        {.mode = (enum mr_dedup_mode)9, .horizon_ms = 1000, .ids_max = 10},
    };
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        struct mr_dedup *dedup = NULL;
        struct mr_error error = {.status = MR_OK};
        assert_int_equal(mr_dedup_open(&refused[i], &dedup, &error), MR_INVALID);
        assert_int_equal(error.status, MR_INVALID);
        assert_true(error.text[0] != '\0');
        assert_null(dedup);
    }
}

static void opens_at_the_edges_of_the_options(void **state) {
    (void)state;
    const struct mr_dedup_options accepted[] = {
        {.mode = MR_DEDUP_EXACT, .horizon_ms = 1, .ids_max = 1},
        {.mode = MR_DEDUP_BLOOM, .horizon_ms = 1, .ids_max = 1, .error = 1e-7},
        {.mode = MR_DEDUP_BLOOM, .horizon_ms = INT64_C(3000000000000), .ids_max = 9, .error = 0.5},
    };
    for (size_t i = 0; i < sizeof accepted / sizeof accepted[0]; i++) {
        struct mr_dedup *dedup = open_dedup(&accepted[i]);
        assert_int_equal(mr_counter_read(&mr_dedup_stats(dedup)->bytes),
                         mr_dedup_bytes_planned(&accepted[i]));
        assert_false(judge_one(dedup, 1));
        assert_true(judge_one(dedup, 1));
        mr_dedup_advance(dedup, INT64_MAX);
        assert_false(judge_one(dedup, 1));
        assert_true(judge_one(dedup, 1));
        mr_dedup_check_scan(dedup);
        mr_dedup_close(dedup);
    }
}

static void survives_missing_memory(void **state) {
    (void)state;
    for (enum mr_dedup_mode mode = MR_DEDUP_EXACT; mode <= MR_DEDUP_NONE; mode++) {
        struct mr_dedup_options options = {
            .mode = mode, .horizon_ms = 1000, .ids_max = 100, .error = 1e-3};
        struct mr_dedup *dedup = NULL;
        size_t nth = 0;
        enum mr_status status;
        do {
            struct mr_error error;
            mr_alloc_fail_at(++nth, 0);
            status = mr_dedup_open(&options, &dedup, &error);
            assert_true(status == MR_OK || status == MR_NO_MEMORY);
            assert_true(nth < 100);
        } while (status != MR_OK);
        mr_alloc_fail_at(0, 0);
        assert_true(nth > 1);
        mr_dedup_close(dedup);
    }
    mr_dedup_close(NULL);
}

static void none_remembers_nothing(void **state) {
    (void)state;
    struct mr_dedup_options options = {.mode = MR_DEDUP_NONE};
    struct mr_dedup *dedup = open_dedup(&options);
    mr_dedup_advance(dedup, 1000);
    assert_false(judge_one(dedup, 1));
    assert_false(judge_one(dedup, 1));
    int64_t ms[3];
    assert_false(mr_dedup_seen(dedup, fp_of(1, FP_RANDOM), &ms[0], &ms[1], &ms[2]));
    assert_false(mr_dedup_due(dedup, INT64_MAX));
    assert_false(mr_dedup_sweep(dedup, 100));
    assert_true(mr_dedup_room(dedup, 0) == UINT64_MAX);
    mr_dedup_check_scan(dedup);
    mr_dedup_close(dedup);
}

static void spends_at_most_24_bytes_an_id(void **state) {
    (void)state;
    for (uint64_t ids = 50000; ids < UINT64_C(1) << 36; ids *= 5) {
        struct mr_dedup_options options = {
            .mode = MR_DEDUP_EXACT, .horizon_ms = 1000, .ids_max = ids};
        assert_true(mr_dedup_bytes_planned(&options) <= 24 * ids);
        options.contents = true;
        assert_true(mr_dedup_bytes_planned(&options) <= 36 * ids);
        options.contents = false;
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_the_model),
        cmocka_unit_test(tags_come_around),
        cmocka_unit_test(sparse_generations_come_around),
        cmocka_unit_test(full_table_takes_duplicates),
        cmocka_unit_test(eviction_keeps_the_newest),
        cmocka_unit_test(refuses_bad_options),
        cmocka_unit_test(opens_at_the_edges_of_the_options),
        cmocka_unit_test(survives_missing_memory),
        cmocka_unit_test(none_remembers_nothing),
        cmocka_unit_test(spends_at_most_24_bytes_an_id),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
