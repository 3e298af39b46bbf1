/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves what another number of shards does to what was remembered. Ids are divided by
 * mr_fingerprint_shard; each new shard is given all old saved states and its share of their chunks,
 * in any order:
 *   1. random calls, moves from S to S' shards, and starts with the same S, in every mode: within
 *      the horizon nothing is new again; without joining nothing is remembered longer than the
 *      horizon and two generations; no id is lost; the chunks written while moving are all that the
 *      next start needs, and it finds the same state;
 *   2. more generations than the ring holds are joined: nothing is forgotten early;
 *   3. a shard that gets no ids, one state given to many shards, and less room than there are ids;
 *   4. each allocation fails once.
 */
#include "dedup/layout.h"
#include "kept.h"

enum { POOL = 900, SHARDS_MAX = 8, BATCH = 40 };

struct shard {
    struct mr_dedup *dedup;
    struct kept kept;
};

struct run {
    struct rng rng;
    struct mr_dedup_options options; /* of one shard; ids_max of all */
    struct shard shards[SHARDS_MAX];
    uint32_t count;
    int64_t now_ms;
    bool known[POOL];
    int64_t first_ms[POOL];
};

static struct mr_dedup_options options_of(const struct run *run, uint32_t shards) {
    struct mr_dedup_options options = run->options;
    options.ids_max = options.ids_max / shards + 1;
    return options;
}

static struct shard *shard_of(struct run *run, uint32_t id) {
    return &run->shards[mr_fingerprint_shard(fp_of(id, FP_RANDOM), run->count)];
}

static void open_run(struct run *run, uint64_t seed, const struct mr_dedup_options *options,
                     uint32_t shards) {
    memset(run, 0, sizeof *run);
    run->rng.state = seed;
    run->options = *options;
    run->count = shards;
    struct mr_dedup_options each = options_of(run, shards);
    for (uint32_t i = 0; i < shards; i++) {
        run->shards[i].dedup = dedup_open(&each);
        mr_dedup_journal(run->shards[i].dedup, true);
    }
}

static void close_run(struct run *run) {
    for (uint32_t i = 0; i < run->count; i++) {
        mr_dedup_close(run->shards[i].dedup);
        kept_free(&run->shards[i].kept);
    }
}

static uint64_t live_ids(const struct run *run) {
    uint64_t live = 0;
    for (uint32_t i = 0; i < run->count; i++) {
        mr_dedup_check_scan(run->shards[i].dedup);
        live += mr_counter_read(&mr_dedup_stats(run->shards[i].dedup)->live_ids);
    }
    return live;
}

/* ---- moving ---- */

struct old_shards {
    struct mr_bytes blobs[SHARDS_MAX];
    struct snapshot snapshots[SHARDS_MAX];
    struct kept kept[SHARDS_MAX];
    uint32_t count;
};

static void save_all(struct run *run, struct old_shards *old) {
    old->count = run->count;
    for (uint32_t i = 0; i < run->count; i++) {
        struct shard *shard = &run->shards[i];
        old->blobs[i] = snapshot_save(&old->snapshots[i], &shard->kept, shard->dedup);
        kept_prune(&shard->kept, mr_dedup_first_generation(shard->dedup), &run->rng);
        kept_shuffle(&shard->kept, &run->rng);
        old->kept[i] = shard->kept;
        mr_dedup_close(shard->dedup);
    }
    memset(run->shards, 0, sizeof run->shards);
}

static void free_old(struct old_shards *old) {
    for (uint32_t i = 0; i < old->count; i++) {
        mr_buf_finish(&old->snapshots[i].blob);
        kept_free(&old->kept[i]);
    }
}

static enum mr_status load_share(struct shard *shard, const struct old_shards *old, uint32_t index,
                                 uint32_t shards, struct mr_error *error) {
    enum mr_status status = MR_OK;
    for (uint32_t s = 0; s < old->count; s++) {
        for (uint32_t i = 0; i < old->kept[s].count && status == MR_OK; i++) {
            const struct mr_dedup_chunk *chunk = old->kept[s].chunks[i];
            struct mr_fingerprint mine[MR_DEDUP_CHUNK_IDS];
            uint32_t count = 0;
            for (uint32_t k = 0; k < chunk->count; k++) {
                if (mr_fingerprint_shard(chunk->ids[k], shards) == index) {
                    mine[count++] = chunk->ids[k];
                }
            }
            status = mr_dedup_load_ids(shard->dedup, s, chunk->generation, mine, NULL, count, error);
            kept_take(&shard->kept, shard->dedup, false);
        }
    }
    return status;
}

static enum mr_status load_moved(struct shard *shard, const struct old_shards *old, uint32_t index,
                                 uint32_t shards, struct mr_error *error) {
    enum mr_status status = mr_dedup_load_begin(shard->dedup, old->blobs, old->count, error);
    mr_dedup_journal(shard->dedup, true);
    if (status == MR_OK) {
        status = load_share(shard, old, index, shards, error);
    }
    if (status == MR_OK) {
        status = mr_dedup_load_end(shard->dedup, true, error);
    }
    kept_take(&shard->kept, shard->dedup, true);
    return status;
}

static void move(struct run *run, uint32_t shards) {
    struct old_shards old;
    uint64_t live = live_ids(run);
    save_all(run, &old);
    run->count = shards;
    struct mr_dedup_options each = options_of(run, shards);
    for (uint32_t i = 0; i < shards; i++) {
        struct mr_error error = {.text = ""};
        run->shards[i].dedup = dedup_open(&each);
        assert_int_equal(load_moved(&run->shards[i], &old, i, shards, &error), MR_OK);
        assert_int_equal(mr_counter_read(&mr_dedup_stats(run->shards[i].dedup)->evicted_ids), 0);
    }
    assert_int_equal(live_ids(run), live);
    free_old(&old);
}

static void restart(struct run *run) {
    struct mr_dedup_options each = options_of(run, run->count);
    for (uint32_t i = 0; i < run->count; i++) {
        struct shard *shard = &run->shards[i];
        uint64_t hash = mr_dedup_state_hash_scan(shard->dedup);
        uint64_t first = mr_dedup_first_generation(shard->dedup);
        shard->dedup = kept_restart(&shard->kept, shard->dedup, &each, &run->rng);
        assert_true(mr_dedup_state_hash_scan(shard->dedup) == hash);
        assert_true(mr_dedup_first_generation(shard->dedup) == first);
    }
}

/* ---- random runs ---- */

static void judge(struct run *run) {
    int64_t cuts = run->options.mode == MR_DEDUP_EXACT ? 16 : 4;
    int64_t generation_ms = (run->options.horizon_ms + cuts - 1) / cuts;
    for (uint64_t n = rng_below(&run->rng, BATCH); n > 0; n--) {
        uint32_t id = (uint32_t)rng_below(&run->rng, POOL);
        bool duplicate = judge_id(shard_of(run, id)->dedup, id);
        int64_t age_ms = run->now_ms - run->first_ms[id];
        if (!duplicate) {
            assert_true(!run->known[id] || age_ms > run->options.horizon_ms);
            run->known[id] = true;
            run->first_ms[id] = run->now_ms;
        } else if (run->options.mode == MR_DEDUP_EXACT) {
            assert_true(run->known[id]);
            assert_true(age_ms <= run->options.horizon_ms + 2 * generation_ms);
        }
    }
}

static void advance(struct run *run) {
    uint64_t horizon_ms = (uint64_t)run->options.horizon_ms;
    bool far = rng_below(&run->rng, 30) == 0;
    run->now_ms += (int64_t)rng_below(&run->rng, far ? horizon_ms * 2 : horizon_ms / 12 + 2);
    for (uint32_t i = 0; i < run->count; i++) {
        mr_dedup_advance(run->shards[i].dedup, run->now_ms);
    }
}

static void run_random(uint64_t seed, const struct mr_dedup_options *options) {
    static struct run run;
    open_run(&run, seed, options, 1 + (uint32_t)(seed % 4));
    for (uint32_t step = 0; step < 260; step++) {
        uint64_t kind = rng_below(&run.rng, 30);
        if (kind == 0) {
            move(&run, (uint32_t)(1 + rng_below(&run.rng, 6)));
        } else if (kind < 3) {
            restart(&run);
        } else if (kind < 12) {
            advance(&run);
        } else {
            judge(&run);
        }
        (void)live_ids(&run);
    }
    close_run(&run);
}

static void moves_and_forgets_nothing(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 16; seed++) {
        struct mr_dedup_options options = {
            .mode = seed % 4 < 2 ? MR_DEDUP_EXACT : MR_DEDUP_BLOOM,
            .when_full = seed % 2 == 0 ? MR_WHEN_FULL_REJECT : MR_WHEN_FULL_EVICT_OLDEST,
            .horizon_ms = seed % 3 == 0 ? 60 : 700,
            .ids_max = POOL * 8, /* room in each shard, however uneven */
            .error = 1e-4,
        };
        run_random(seed, &options);
    }
}

/* Each shard has its own full generations, each with its own times: more than 200 together. */
static void joins_what_is_too_many(void **state) {
    (void)state;
    static struct run run;
    for (uint32_t way = 0; way < 2; way++) {
        struct mr_dedup_options options = {
            .mode = way == 0 ? MR_DEDUP_EXACT : MR_DEDUP_BLOOM,
            .when_full = MR_WHEN_FULL_EVICT_OLDEST,
            .horizon_ms = 10000,
            .ids_max = way == 0 ? POOL * 3 / 2 : POOL * 5 / 4,
            .error = 1e-5,
        };
        open_run(&run, 3 + way, &options, SHARDS_MAX);
        for (uint32_t id = 0; id < POOL; id++) {
            run.now_ms = (int64_t)id * 3;
            for (uint32_t i = 0; i < run.count; i++) {
                mr_dedup_advance(run.shards[i].dedup, run.now_ms);
            }
            assert_false(judge_id(shard_of(&run, id)->dedup, id));
            run.first_ms[id] = run.now_ms;
        }
        move(&run, 1);
        struct mr_buf blob;
        struct mr_saved saved;
        mr_buf_init(&blob, 1 << 20);
        mr_dedup_save(run.shards[0].dedup, &blob);
        assert_int_equal(mr_saved_read(mr_buf_bytes(&blob), &saved, NULL), MR_OK);
        mr_buf_finish(&blob);
        assert_in_range(saved.count, way == 0 ? 30 : 3,
                        way == 0 ? MR_LAYOUT_EXACT_MAX : MR_BLOOMING_APART_MAX);
        restart(&run);
        while (run.now_ms < 16000) {
            run.now_ms += 100;
            mr_dedup_advance(run.shards[0].dedup, run.now_ms);
            for (uint32_t id = 0; id < POOL; id++) {
                bool promised = run.now_ms - run.first_ms[id] <= options.horizon_ms;
                assert_true(!promised || seen_id(run.shards[0].dedup, id));
            }
        }
        assert_int_equal(live_ids(&run), 0);
        close_run(&run);
    }
}

/* All ids are in the first of two shards; of three new ones the last gets none. */
static void a_shard_may_get_nothing(void **state) {
    (void)state;
    for (enum mr_dedup_mode mode = MR_DEDUP_EXACT; mode <= MR_DEDUP_NONE; mode++) {
        static struct run run;
        struct mr_dedup_options options = {.mode = mode,
                                           .when_full = MR_WHEN_FULL_EVICT_OLDEST,
                                           .horizon_ms = 1000,
                                           .ids_max = 300,
                                           .error = 1e-4};
        open_run(&run, 1, &options, 2);
        uint32_t judged = 0;
        for (uint32_t id = 0; id < 150; id++) {
            if (shard_of(&run, id) == &run.shards[0]) {
                mr_dedup_advance(run.shards[0].dedup, id);
                assert_false(judge_id(run.shards[0].dedup, id));
                judged++;
            }
        }
        move(&run, 3);
        assert_int_equal(live_ids(&run), mode == MR_DEDUP_NONE ? 0 : judged);
        assert_int_equal(mr_counter_read(&mr_dedup_stats(run.shards[2].dedup)->live_ids), 0);
        /* The empty generations that it got are in nobody's way when it is full. */
        for (uint32_t id = 0; id < 900; id++) {
            if (shard_of(&run, id) == &run.shards[2]) {
                mr_dedup_advance(run.shards[2].dedup, 150);
                assert_false(judge_id(run.shards[2].dedup, id));
                mr_dedup_check_scan(run.shards[2].dedup);
            }
        }
        uint64_t evicted = mr_counter_read(&mr_dedup_stats(run.shards[2].dedup)->evicted_ids);
        assert_true(mode == MR_DEDUP_NONE || evicted > 100);
        close_run(&run);
    }
}

/* 100 ids, to a single shard with room for 40. */
static void less_room_forgets_the_oldest_or_refuses(void **state) {
    (void)state;
    for (uint32_t way = 0; way < 4; way++) {
        static struct run run;
        struct mr_dedup_options options = {
            .mode = way < 2 ? MR_DEDUP_EXACT : MR_DEDUP_BLOOM, .horizon_ms = 1600, .error = 1e-6};
        options.ids_max = 400;
        open_run(&run, way, &options, 4);
        for (uint32_t id = 0; id < 100; id++) {
            for (uint32_t i = 0; i < 4; i++) {
                mr_dedup_advance(run.shards[i].dedup, id * 10);
            }
            assert_false(judge_id(shard_of(&run, id)->dedup, id));
        }
        struct old_shards old;
        save_all(&run, &old);
        options.ids_max = 40;
        options.when_full = way % 2 == 0 ? MR_WHEN_FULL_REJECT : MR_WHEN_FULL_EVICT_OLDEST;
        run.count = 1;
        run.shards[0].dedup = dedup_open(&options);
        struct mr_error error = {.text = ""};
        enum mr_status status = load_moved(&run.shards[0], &old, 0, 1, &error);
        assert_int_equal(status, way % 2 == 0 ? MR_FULL : MR_OK);
        if (status == MR_OK) {
            uint64_t live = live_ids(&run);
            assert_in_range(live, way < 2 ? 33 : 1, 43);
            const struct mr_dedup_stats *stats = mr_dedup_stats(run.shards[0].dedup);
            assert_int_equal(mr_counter_read(&stats->evicted_ids) + live, 100);
            for (uint32_t id = 0; id < 100; id++) {
                assert_int_equal(seen_id(run.shards[0].dedup, id), id >= 100 - live);
            }
        }
        close_run(&run);
        free_old(&old);
    }
}

static void survives_missing_memory(void **state) {
    (void)state;
    for (enum mr_dedup_mode mode = MR_DEDUP_EXACT; mode <= MR_DEDUP_BLOOM; mode++) {
        static struct run run;
        struct mr_dedup_options options = {.mode = mode,
                                           .when_full = MR_WHEN_FULL_EVICT_OLDEST,
                                           .horizon_ms = 1000,
                                           .ids_max = 300,
                                           .error = 1e-4};
        open_run(&run, 1, &options, 3);
        for (uint32_t id = 0; id < 200; id++) {
            (void)judge_id(shard_of(&run, id)->dedup, id);
        }
        struct old_shards old;
        save_all(&run, &old);
        size_t nth = 0;
        enum mr_status status;
        do {
            struct shard shard = {.dedup = dedup_open(&options)};
            struct mr_error error = {.text = ""};
            shard.kept.chunks = mr_alloc(1000 * sizeof shard.kept.chunks[0]);
            shard.kept.cap = 1000; /* so that the test itself allocates nothing */
            mr_alloc_fail_at(++nth, 0);
            status = load_moved(&shard, &old, 1, 2, &error);
            mr_alloc_fail_at(0, 0);
            assert_true(status == MR_OK || (status == MR_NO_MEMORY && error.text[0] != '\0'));
            mr_dedup_close(shard.dedup);
            kept_free(&shard.kept);
        } while (status != MR_OK);
        assert_true(nth > 5);
        free_old(&old);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(moves_and_forgets_nothing),
        cmocka_unit_test(joins_what_is_too_many),
        cmocka_unit_test(a_shard_may_get_nothing),
        cmocka_unit_test(less_room_forgets_the_oldest_or_refuses),
        cmocka_unit_test(survives_missing_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
