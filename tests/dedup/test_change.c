/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves what a start with other options does to what was remembered:
 *   1. random calls and starts with random options, against a list of promises: an id is promised for
 *      the horizon under which it was new, and for each horizon under which it was remembered since;
 *      nothing is new again before, whatever the order of changes, however many generations there
 *      are. A twin that is saved and loaded between the changes as well is the same in everything, so
 *      a horizon that waits survives any number of starts;
 *   2. horizons that grow and shrink often, so that there are more generations than can be: they are
 *      joined, and every promise is kept;
 *   3. a shorter horizon begins when those under the old one are forgotten, not later, whether one
 *      starts in between or not;
 *   4. less ids: reject refuses, evict_oldest forgets the oldest, and no more than it has to, in
 *      whatever order ids come;
 *   5. modes that may become each other, and those that may not.
 */
#include "dedup/layout.h"
#include "kept.h"

enum { POOL = 400, BATCH_MAX = 40 };

/* ---- promises ---- */

struct run {
    struct rng rng;
    struct mr_dedup_options options;
    struct mr_dedup *a; /* starts when options change */
    struct mr_dedup *b; /* and in between */
    struct kept kept_a;
    struct kept kept_b;
    int64_t now_ms;
    int64_t longest_ms; /* of all horizons */
    bool known[POOL];
    int64_t first_ms[POOL];
    int64_t promised_ms[POOL]; /* a duplicate until then, this millisecond included */
    int64_t said_ms[POOL];     /* by mr_dedup_seen, and again no new id before; 0: nothing */
};

static int64_t later(int64_t a, int64_t b) {
    return a > b ? a : b;
}

static void note_new(struct run *run, uint32_t id) {
    assert_true(!run->known[id] || run->now_ms > run->promised_ms[id]);
    assert_true(!run->known[id] || run->now_ms >= run->said_ms[id]);
    run->known[id] = true;
    run->first_ms[id] = run->now_ms;
    run->promised_ms[id] = run->now_ms + run->options.horizon_ms;
    int64_t from_ms;
    int64_t to_ms;
    int64_t until_ms;
    assert_true(mr_dedup_seen(run->a, fp_of(id, FP_RANDOM), &from_ms, &to_ms, &until_ms));
    assert_true(until_ms > run->promised_ms[id]);
    bool may_fill =
        run->options.mode == MR_DEDUP_BLOOM || run->options.when_full == MR_WHEN_FULL_EVICT_OLDEST;
    run->said_ms[id] = may_fill ? 0 : until_ms;
}

static void judge(struct run *run) {
    uint32_t ids[BATCH_MAX];
    uint8_t duplicate[BATCH_MAX];
    uint8_t twin[BATCH_MAX];
    uint32_t count = (uint32_t)rng_below(&run->rng, BATCH_MAX);
    for (uint32_t i = 0; i < count; i++) {
        ids[i] = (uint32_t)rng_below(&run->rng, POOL);
    }
    judge_ids(run->a, ids, count, duplicate);
    judge_ids(run->b, ids, count, twin);
    assert_memory_equal(duplicate, twin, count);
    for (uint32_t i = 0; i < count; i++) {
        if (duplicate[i] == 0) {
            note_new(run, ids[i]);
        } else if (run->options.mode == MR_DEDUP_EXACT) {
            assert_true(run->known[ids[i]]);
            assert_true(run->now_ms - run->first_ms[ids[i]] <= 2 * run->longest_ms);
        }
    }
}

static void advance(struct run *run) {
    uint64_t span_ms = rng_below(&run->rng, 3) == 0 ? 200 : 12;
    span_ms = rng_below(&run->rng, 60) == 0 ? 4000 : span_ms;
    run->now_ms += (int64_t)rng_below(&run->rng, span_ms);
    mr_dedup_advance(run->a, run->now_ms);
    mr_dedup_advance(run->b, run->now_ms);
}

/* There is always room for all ids, so nothing is ever evicted. */
static void change(struct run *run) {
    static const int64_t horizons[] = {20, 100, 300, 1000, 3000};
    struct mr_dedup_options *options = &run->options;
    if (rng_below(&run->rng, 3) > 0) {
        options->horizon_ms = horizons[rng_below(&run->rng, 5)];
    }
    if (rng_below(&run->rng, 2) > 0) {
        options->ids_max = POOL + rng_below(&run->rng, 3) * POOL;
    }
    if (rng_below(&run->rng, 4) == 0) {
        bool evict = options->when_full == MR_WHEN_FULL_EVICT_OLDEST;
        options->when_full = evict ? MR_WHEN_FULL_REJECT : MR_WHEN_FULL_EVICT_OLDEST;
    }
    run->longest_ms = later(run->longest_ms, options->horizon_ms);
    run->a = kept_restart(&run->kept_a, run->a, options, &run->rng);
    run->b = kept_restart(&run->kept_b, run->b, options, &run->rng);
    for (uint32_t id = 0; id < POOL; id++) {
        if (run->known[id] && seen_id(run->a, id)) {
            int64_t ms = run->first_ms[id] + options->horizon_ms;
            run->promised_ms[id] = later(run->promised_ms[id], ms);
        }
        /* From now on the newest generation may fill up, and end before it said. */
        bool evict = options->when_full == MR_WHEN_FULL_EVICT_OLDEST;
        run->said_ms[id] = evict || options->mode == MR_DEDUP_BLOOM ? 0 : run->said_ms[id];
        assert_true(!run->known[id] || run->now_ms > run->promised_ms[id] || seen_id(run->a, id));
    }
}

static void run_random(uint64_t seed, struct run *run, const struct mr_dedup_options *options,
                       uint32_t steps) {
    memset(run, 0, sizeof *run);
    run->rng.state = seed;
    run->options = *options;
    run->a = dedup_open(options);
    run->b = dedup_open(options);
    mr_dedup_journal(run->a, true);
    mr_dedup_journal(run->b, true);
    run->longest_ms = options->horizon_ms;
    for (uint32_t step = 0; step < steps; step++) {
        uint64_t kind = rng_below(&run->rng, 40);
        if (kind == 0) {
            change(run);
        } else if (kind < 4) {
            run->b = kept_restart(&run->kept_b, run->b, &run->options, &run->rng);
        } else if (kind < 20) {
            advance(run);
        } else {
            judge(run);
        }
        assert_same(run->a, run->b, &run->rng, run->now_ms, run->options.horizon_ms, POOL);
        assert_int_equal(mr_counter_read(&mr_dedup_stats(run->a)->evicted_ids), 0);
    }
    mr_dedup_close(run->a);
    mr_dedup_close(run->b);
    kept_free(&run->kept_a);
    kept_free(&run->kept_b);
}

static void readmits_nothing_before_its_time(void **state) {
    (void)state;
    static struct run run;
    for (uint64_t seed = 1; seed <= 24; seed++) {
        bool bloom = seed % 3 == 0;
        struct mr_dedup_options options = {
            .mode = bloom ? MR_DEDUP_BLOOM : MR_DEDUP_EXACT,
            .when_full = seed % 2 == 0 ? MR_WHEN_FULL_REJECT : MR_WHEN_FULL_EVICT_OLDEST,
            .horizon_ms = 300,
            .ids_max = POOL,
            .error = 1e-4,
        };
        run_random(seed, &run, &options, 500);
    }
}

/* ---- many generations ---- */

static uint32_t generations_of(const struct mr_dedup *dedup) {
    struct mr_buf blob;
    struct mr_saved saved;
    mr_buf_init(&blob, 1 << 20);
    mr_dedup_save(dedup, &blob);
    assert_int_equal(mr_saved_read(mr_buf_bytes(&blob), &saved, NULL), MR_OK);
    mr_buf_finish(&blob);
    return saved.count;
}

enum { SPARSE_IDS = 6000 };

struct sparse {
    struct rng rng;
    struct mr_dedup_options options;
    struct mr_dedup *dedup;
    struct kept kept;
    int64_t now_ms;
    uint32_t ids;
    int64_t first_ms[SPARSE_IDS];
    int64_t promised_ms[SPARSE_IDS];
};

static void sparse_id(struct sparse *sparse) {
    bool duplicate = judge_id(sparse->dedup, sparse->ids);
    assert_true(!duplicate || sparse->options.mode == MR_DEDUP_BLOOM);
    int64_t promised_ms = sparse->now_ms + sparse->options.horizon_ms;
    sparse->first_ms[sparse->ids] = sparse->now_ms;
    sparse->promised_ms[sparse->ids++] = duplicate ? -1 : promised_ms; /* by mistake: no promise */
}

static void check_promises(const struct sparse *sparse) {
    mr_dedup_check_scan(sparse->dedup);
    for (uint32_t id = 0; id < sparse->ids; id++) {
        assert_true(sparse->now_ms > sparse->promised_ms[id] || seen_id(sparse->dedup, id));
    }
}

/* A third of a horizon with one id a generation, and a start with another horizon; now and then a burst
 * that fills generations. Nothing before is forgotten while horizons grow, so there are soon more
 * short generations than can be. Returns the most there were at a start. */
static uint32_t run_sparse(uint64_t seed, struct sparse *sparse, enum mr_dedup_mode mode,
                           uint32_t grows_of_8) {
    uint32_t most = 0;
    int64_t cuts = mode == MR_DEDUP_EXACT ? MR_DEDUP_GENERATIONS : MR_DEDUP_BLOOM_GENERATIONS;
    memset(sparse, 0, sizeof *sparse);
    sparse->rng.state = seed;
    sparse->options = (struct mr_dedup_options){
        .mode = mode,
        .when_full = MR_WHEN_FULL_EVICT_OLDEST,
        .horizon_ms = 64,
        .ids_max = SPARSE_IDS,
        .error = 1e-4,
    };
    sparse->dedup = dedup_open(&sparse->options);
    mr_dedup_journal(sparse->dedup, true);
    while (sparse->ids < SPARSE_IDS - 1000) {
        int64_t *horizon_ms = &sparse->options.horizon_ms;
        uint64_t steps = (uint64_t)cuts / 3 + rng_below(&sparse->rng, 2);
        for (uint64_t i = 0; i < steps; i++) {
            sparse->now_ms += *horizon_ms / cuts + 1;
            mr_dedup_advance(sparse->dedup, sparse->now_ms);
            sparse_id(sparse);
        }
        for (uint64_t i = rng_below(&sparse->rng, 6) == 0 ? 900 : 0; i > 0; i--) {
            sparse_id(sparse);
        }
        check_promises(sparse);
        uint32_t count = generations_of(sparse->dedup);
        most = count > most ? count : most;
        bool grows = rng_below(&sparse->rng, 8) < grows_of_8;
        *horizon_ms = grows ? *horizon_ms * 2 : *horizon_ms / 4 + 1;
        *horizon_ms = *horizon_ms > INT64_C(1) << 40 ? 64 : *horizon_ms;
        sparse->options.ids_max = SPARSE_IDS + rng_below(&sparse->rng, 4) * SPARSE_IDS;
        sparse->dedup = kept_restart(&sparse->kept, sparse->dedup, &sparse->options, &sparse->rng);
        for (uint32_t id = 0; id < sparse->ids; id++) {
            if (sparse->now_ms <= sparse->promised_ms[id]) {
                int64_t ms = sparse->first_ms[id] + *horizon_ms;
                sparse->promised_ms[id] = later(sparse->promised_ms[id], ms);
            }
        }
        check_promises(sparse);
    }
    assert_int_equal(mr_counter_read(&mr_dedup_stats(sparse->dedup)->evicted_ids), 0);
    mr_dedup_close(sparse->dedup);
    kept_free(&sparse->kept);
    return most;
}

static void joins_what_is_too_many(void **state) {
    (void)state;
    static struct sparse sparse;
    uint32_t most = 0;
    uint32_t most_bloom = 0;
    for (uint32_t grows = 6; grows <= 8; grows++) {
        uint32_t count = run_sparse(grows, &sparse, MR_DEDUP_EXACT, grows);
        most = count > most ? count : most;
        count = run_sparse(grows, &sparse, MR_DEDUP_BLOOM, grows);
        most_bloom = count > most_bloom ? count : most_bloom;
    }
    assert_true(most > MR_LAYOUT_EXACT_MAX && most_bloom > MR_BLOOMING_SPANS);
}

/* ---- by hand ---- */

static void new_ids(struct mr_dedup *dedup, uint32_t *next, int64_t from_ms, int64_t to_ms) {
    for (int64_t now_ms = from_ms; now_ms < to_ms; now_ms += 5) {
        mr_dedup_advance(dedup, now_ms);
        assert_false(judge_id(dedup, (*next)++)); /* id n is first seen at 5 n */
    }
}

/* 1600 ms, in generations of 100, become 160 in generations of 10 at 2000, at once or over 800. */
static void shorten(uint64_t seed, int64_t between_ms, bool starts_again, bool evict) {
    struct rng rng = {seed};
    struct mr_dedup_options options = {
        .mode = MR_DEDUP_EXACT,
        .when_full = evict ? MR_WHEN_FULL_EVICT_OLDEST : MR_WHEN_FULL_REJECT,
        .horizon_ms = 1600,
        .ids_max = 2000,
    };
    struct kept kept = {0};
    struct mr_dedup *dedup = dedup_open(&options);
    mr_dedup_journal(dedup, true);
    uint32_t next = 0;
    int64_t changed_ms = 2000;
    new_ids(dedup, &next, 0, changed_ms);
    if (between_ms != 0) {
        options.horizon_ms = between_ms;
        dedup = kept_restart(&kept, dedup, &options, &rng);
        changed_ms = 2600; /* what came until now was promised 800 */
        new_ids(dedup, &next, 2000, changed_ms);
    }
    options.horizon_ms = 160;
    dedup = kept_restart(&kept, dedup, &options, &rng);
    for (int64_t now_ms = changed_ms; now_ms < changed_ms + 1600; now_ms += 50) {
        new_ids(dedup, &next, now_ms, now_ms + 50);
        uint32_t oldest = next - 320 - 10; /* 1600 and half a generation ago */
        assert_true(seen_id(dedup, oldest < changed_ms / 5 ? oldest + 10 : next - 32));
        if (starts_again) {
            dedup = kept_restart(&kept, dedup, &options, &rng);
        }
    }
    new_ids(dedup, &next, changed_ms + 1600, changed_ms + 1800);
    for (int64_t now_ms = changed_ms + 1800; now_ms < changed_ms + 2200; now_ms += 50) {
        new_ids(dedup, &next, now_ms, now_ms + 50);
        assert_true(seen_id(dedup, next - 32));
        assert_false(seen_id(dedup, next - 32 - 22)); /* one generation of the old length */
        assert_true(now_ms < changed_ms + 2000 || !seen_id(dedup, next - 32 - 4));
        if (starts_again) {
            dedup = kept_restart(&kept, dedup, &options, &rng);
        }
    }
    mr_dedup_close(dedup);
    kept_free(&kept);
}

static void a_shorter_horizon_begins_in_the_end(void **state) {
    (void)state;
    for (uint32_t i = 0; i < 8; i++) {
        shorten(i, i % 2 == 0 ? 0 : 800, (i & 2) != 0, (i & 4) != 0);
    }
}

/* An eviction of the last one under the old horizon lets the new one begin, and expire at once. */
static void eviction_lets_a_shorter_horizon_begin(void **state) {
    (void)state;
    struct rng rng = {5};
    struct mr_dedup_options options = {.mode = MR_DEDUP_EXACT,
                                       .when_full = MR_WHEN_FULL_EVICT_OLDEST,
                                       .horizon_ms = 16000,
                                       .ids_max = 60};
    struct kept kept = {0};
    struct mr_dedup *dedup = dedup_open(&options);
    mr_dedup_journal(dedup, true);
    uint32_t id = 0;
    for (; id < 4; id++) {
        assert_false(judge_id(dedup, id));
    }
    options.horizon_ms = 160;
    dedup = kept_restart(&kept, dedup, &options, &rng);
    for (; id < 64; id++) { /* the table holds 64 */
        mr_dedup_advance(dedup, (int64_t)id * 10);
        assert_false(judge_id(dedup, id));
    }
    assert_true(seen_id(dedup, 0) && seen_id(dedup, 5));
    mr_dedup_advance(dedup, 2000);
    for (; id < 70; id++) {
        assert_false(judge_id(dedup, id));
        mr_dedup_check_scan(dedup);
    }
    assert_false(seen_id(dedup, 0) || seen_id(dedup, 5) || seen_id(dedup, 50));
    assert_true(seen_id(dedup, 64));
    mr_dedup_close(dedup);
    kept_free(&kept);
}

static void less_ids(enum mr_dedup_mode mode, bool shuffled) {
    struct rng rng = {9};
    struct mr_dedup_options options = {.mode = mode,
                                       .when_full = MR_WHEN_FULL_EVICT_OLDEST,
                                       .horizon_ms = 100000,
                                       .ids_max = 400,
                                       .error = 1e-6};
    struct kept kept = {0};
    struct mr_dedup *dedup = dedup_open(&options);
    mr_dedup_journal(dedup, true);
    for (uint32_t id = 0; id < 300; id++) {
        mr_dedup_advance(dedup, id);
        assert_false(judge_id(dedup, id));
    }
    struct snapshot snapshot;
    struct mr_bytes blob = snapshot_save(&snapshot, &kept, dedup);
    mr_dedup_close(dedup);
    if (shuffled) {
        kept_shuffle(&kept, &rng);
    }
    options.ids_max = 150; /* 158 with the headroom */
    options.when_full = MR_WHEN_FULL_REJECT;
    dedup = dedup_open(&options);
    struct mr_error error = {.text = ""};
    assert_int_equal(kept_load(&kept, dedup, blob, &rng, &error), MR_FULL);
    assert_non_null(strstr(error.text, "158"));
    mr_dedup_close(dedup);
    options.when_full = MR_WHEN_FULL_EVICT_OLDEST;
    dedup = dedup_open(&options);
    assert_int_equal(kept_load(&kept, dedup, blob, &rng, &error), MR_OK);
    mr_dedup_check_scan(dedup);
    uint64_t live = mr_counter_read(&mr_dedup_stats(dedup)->live_ids);
    assert_int_equal(live + mr_counter_read(&mr_dedup_stats(dedup)->evicted_ids), 300);
    /* Generations of 14, in bloom of 106. */
    assert_in_range(live, mode == MR_DEDUP_EXACT ? 158 - 13 : 158 - 105, 158);
    for (uint32_t id = 0; id < 300; id++) {
        assert_int_equal(seen_id(dedup, id), id >= 300 - live);
    }
    for (uint32_t id = 300; id < 900; id++) {
        mr_dedup_advance(dedup, id);
        assert_false(judge_id(dedup, id));
        mr_dedup_check_scan(dedup);
    }
    mr_dedup_close(dedup);
    mr_buf_finish(&snapshot.blob);
    kept_free(&kept);
}

static void less_ids_forgets_the_oldest_or_refuses(void **state) {
    (void)state;
    less_ids(MR_DEDUP_EXACT, false);
    less_ids(MR_DEDUP_EXACT, true);
    less_ids(MR_DEDUP_BLOOM, false);
    less_ids(MR_DEDUP_BLOOM, true);
}

static void modes_become_each_other_or_not(void **state) {
    (void)state;
    for (enum mr_dedup_mode from = MR_DEDUP_EXACT; from <= MR_DEDUP_NONE; from++) {
        for (enum mr_dedup_mode to = MR_DEDUP_EXACT; to <= MR_DEDUP_NONE; to++) {
            struct rng rng = {1};
            struct mr_dedup_options options = {
                .mode = from, .horizon_ms = 1000, .ids_max = 100, .error = 1e-3};
            struct mr_dedup *dedup = dedup_open(&options);
            mr_dedup_journal(dedup, true);
            struct kept kept = {0};
            struct snapshot snapshot;
            mr_dedup_advance(dedup, 5000);
            assert_false(judge_id(dedup, 1));
            struct mr_bytes blob = snapshot_save(&snapshot, &kept, dedup);
            mr_dedup_close(dedup);
            options.mode = to;
            dedup = dedup_open(&options);
            struct mr_error error = {.text = ""};
            enum mr_status status = kept_load(&kept, dedup, blob, &rng, &error);
            bool fine = from == to || from == MR_DEDUP_NONE || to == MR_DEDUP_NONE;
            assert_int_equal(status, fine ? MR_OK : MR_MISMATCH);
            if (fine) {
                mr_dedup_journal(dedup, true);
                assert_int_equal(judge_id(dedup, 1), from == to && to != MR_DEDUP_NONE);
                mr_dedup_check_scan(dedup);
            } else {
                assert_non_null(strstr(error.text, from == MR_DEDUP_EXACT ? "exact" : "bloom"));
            }
            mr_dedup_close(dedup);
            mr_buf_finish(&snapshot.blob);
            kept_free(&kept);
        }
    }
}

/* The newest ends at 200 and is too full for the new options, in which a slot ends at 160. */
static void the_end_of_a_generation_never_goes_back(void **state) {
    (void)state;
    struct rng rng = {1};
    struct mr_dedup_options options = {.mode = MR_DEDUP_EXACT,
                                       .when_full = MR_WHEN_FULL_EVICT_OLDEST,
                                       .horizon_ms = 1600,
                                       .ids_max = 640};
    struct kept kept = {0};
    struct mr_dedup *dedup = dedup_open(&options);
    mr_dedup_journal(dedup, true);
    mr_dedup_advance(dedup, 150);
    for (uint32_t id = 0; id < 15; id++) { /* of 22 */
        assert_false(judge_id(dedup, id));
    }
    options.horizon_ms = 2560;
    options.ids_max = 320;
    dedup = kept_restart(&kept, dedup, &options, &rng);
    for (uint32_t id = 15; id < 60; id++) {
        assert_false(judge_id(dedup, id));
        mr_dedup_check_scan(dedup);
    }
    mr_dedup_close(dedup);
    kept_free(&kept);
}

/* The table is filled up, and made twice as large, again and again within one horizon. */
static void bloom_may_grow_many_times(void **state) {
    (void)state;
    struct rng rng = {1};
    struct mr_dedup_options options = {
        .mode = MR_DEDUP_BLOOM, .horizon_ms = 4000, .ids_max = 40, .error = 1e-3};
    struct kept kept = {0};
    struct mr_dedup *dedup = dedup_open(&options);
    mr_dedup_journal(dedup, true);
    static bool taken[10000];
    uint32_t id = 0;
    for (; options.ids_max < 3000; options.ids_max *= 2) {
        for (int64_t now_ms = 0; now_ms < 4000; now_ms += 400) {
            mr_dedup_advance(dedup, now_ms);
            uint64_t fill = mr_dedup_room(dedup, now_ms) * (now_ms > 3000 ? 4 : 1) / 4;
            for (uint64_t i = 0; i < fill; i++) {
                taken[id] = !judge_id(dedup, id);
                id++;
            }
            mr_dedup_check_scan(dedup);
        }
        struct mr_dedup_options twice = options;
        twice.ids_max *= 2;
        dedup = kept_restart(&kept, dedup, &twice, &rng);
    }
    for (uint32_t i = 0; i < id; i++) {
        assert_true(!taken[i] || seen_id(dedup, i));
    }
    mr_dedup_close(dedup);
    kept_free(&kept);
}

/* Filters that came from before are freed when they are forgotten. */
static void bloom_gives_back_what_it_took(void **state) {
    (void)state;
    struct rng rng = {1};
    struct mr_dedup_options options = {
        .mode = MR_DEDUP_BLOOM, .horizon_ms = 400, .ids_max = 100, .error = 1e-3};
    struct kept kept = {0};
    struct mr_dedup *dedup = dedup_open(&options);
    mr_dedup_journal(dedup, true);
    uint32_t id = 0;
    for (; id < 20; id++) {
        mr_dedup_advance(dedup, (int64_t)id * 20);
        (void)judge_id(dedup, id);
    }
    options.horizon_ms = 500;
    dedup = kept_restart(&kept, dedup, &options, &rng);
    const mr_counter *bytes = &mr_dedup_stats(dedup)->bytes;
    uint64_t planned = mr_dedup_bytes_planned(&options);
    assert_true(mr_counter_read(bytes) > planned);
    assert_true(mr_counter_read(bytes) < planned * 2);
    for (; id < 60; id++) {
        mr_dedup_advance(dedup, (int64_t)id * 20);
        (void)judge_id(dedup, id);
        mr_dedup_check_scan(dedup);
    }
    assert_true(mr_counter_read(bytes) == planned);
    mr_dedup_close(dedup);
    kept_free(&kept);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(readmits_nothing_before_its_time),
        cmocka_unit_test(joins_what_is_too_many),
        cmocka_unit_test(a_shorter_horizon_begins_in_the_end),
        cmocka_unit_test(eviction_lets_a_shorter_horizon_begin),
        cmocka_unit_test(less_ids_forgets_the_oldest_or_refuses),
        cmocka_unit_test(modes_become_each_other_or_not),
        cmocka_unit_test(the_end_of_a_generation_never_goes_back),
        cmocka_unit_test(bloom_may_grow_many_times),
        cmocka_unit_test(bloom_gives_back_what_it_took),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
