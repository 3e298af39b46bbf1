/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that a dedup that was saved and loaded, with the same options, cannot be told from one that
 * never stopped:
 *   1. random calls to both, in every mode; one of them is saved and loaded now and then, from chunks
 *      in any order, in any pieces, some of forgotten generations missing, those from after the save
 *      cut off. Verdicts, room, due, seen, counters and state hash are the same after each call,
 *      through enough generations for every tag to come around;
 *   2. ids that are missing, that are too many, twice there, of no generation or no fingerprints are
 *      MR_CORRUPT;
 *   3. a saved state cut at every byte is MR_CORRUPT; with any byte changed it is refused with a
 *      text, or loaded and sound;
 *   4. each allocation fails once: MR_NO_MEMORY, and it can be closed.
 */
#include "kept.h"

enum { POOL = 400, BATCH_MAX = 60 };

/* ---- as if there had been no break ---- */

struct run {
    struct rng rng;
    struct mr_dedup_options options;
    struct mr_dedup *straight;
    struct mr_dedup *broken;
    struct kept kept;
    int64_t now_ms;
};

static void judge(struct run *run) {
    uint32_t ids[BATCH_MAX];
    uint8_t a[BATCH_MAX];
    uint8_t b[BATCH_MAX];
    uint64_t room = mr_dedup_room(run->straight, run->now_ms);
    uint32_t count = (uint32_t)rng_below(&run->rng, BATCH_MAX);
    count = room < count ? (uint32_t)room : count;
    for (uint32_t i = 0; i < count; i++) {
        ids[i] = (uint32_t)rng_below(&run->rng, POOL);
    }
    judge_ids(run->straight, ids, count, a);
    judge_ids(run->broken, ids, count, b);
    assert_memory_equal(a, b, count);
}

static void advance(struct run *run) {
    uint64_t horizon_ms = (uint64_t)run->options.horizon_ms;
    uint64_t step_ms = rng_below(&run->rng, 20) == 0 ? horizon_ms * 2 : horizon_ms / 12 + 2;
    run->now_ms += (int64_t)rng_below(&run->rng, step_ms);
    mr_dedup_advance(run->straight, run->now_ms);
    mr_dedup_advance(run->broken, run->now_ms);
}

/* What is written after the save belongs to the next checkpoint, which never comes. */
static void go_on_in_vain(struct run *run) {
    mr_dedup_advance(run->broken, run->now_ms + (int64_t)rng_below(&run->rng, 50));
    for (uint32_t i = 0; i < 3; i++) {
        uint32_t ids[BATCH_MAX];
        uint8_t duplicate[BATCH_MAX];
        uint64_t room = mr_dedup_room(run->broken, run->now_ms);
        uint32_t count = room < 20 ? (uint32_t)room : 20;
        for (uint32_t k = 0; k < count; k++) {
            ids[k] = (uint32_t)rng_below(&run->rng, POOL);
        }
        judge_ids(run->broken, ids, count, duplicate);
    }
    kept_take(&run->kept, run->broken, true);
}

static void restart(struct run *run) {
    struct snapshot snapshot;
    struct mr_bytes blob = snapshot_save(&snapshot, &run->kept, run->broken);
    uint64_t first = mr_dedup_first_generation(run->broken);
    if (rng_below(&run->rng, 2) == 0) {
        go_on_in_vain(run);
        kept_cut(&run->kept, snapshot.chunks);
    }
    kept_prune(&run->kept, first, &run->rng);
    if (rng_below(&run->rng, 2) == 0) {
        kept_shuffle(&run->kept, &run->rng);
    }
    mr_dedup_close(run->broken);
    run->broken = dedup_open(&run->options);
    struct mr_error error;
    assert_int_equal(kept_load(&run->kept, run->broken, blob, &run->rng, &error), MR_OK);
    mr_dedup_journal(run->broken, true);
    mr_buf_finish(&snapshot.blob);
}

/* Returns how many generations were forgotten. */
static uint64_t run_random(uint64_t seed, const struct mr_dedup_options *options, uint32_t steps) {
    struct run run = {.rng = {seed}, .options = *options};
    run.straight = dedup_open(options);
    run.broken = dedup_open(options);
    mr_dedup_journal(run.broken, true);
    uint32_t restarts = 0;
    for (uint32_t step = 0; step < steps; step++) {
        switch (rng_below(&run.rng, 10)) {
        case 0:
        case 1:
            advance(&run);
            break;
        case 2:
            (void)mr_dedup_sweep(run.broken, (uint32_t)rng_below(&run.rng, 100));
            break;
        case 3:
            kept_take(&run.kept, run.broken, rng_below(&run.rng, 2) == 0);
            break;
        case 4:
            restart(&run);
            restarts++;
            break;
        default:
            judge(&run);
        }
        assert_same(run.straight, run.broken, &run.rng, run.now_ms, options->horizon_ms, POOL);
    }
    assert_true(restarts > 2);
    uint64_t generations = mr_dedup_first_generation(run.broken);
    mr_dedup_close(run.straight);
    mr_dedup_close(run.broken);
    kept_free(&run.kept);
    return generations;
}

static void goes_on_as_if_there_had_been_no_break(void **state) {
    (void)state;
    static const uint64_t sizes[] = {1, 7, 60, 300};
    static const int64_t horizons[] = {1, 50, 1000};
    uint64_t seed = 1;
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        for (size_t h = 0; h < sizeof horizons / sizeof horizons[0]; h++) {
            for (uint32_t kind = 0; kind < 4; kind++) {
                struct mr_dedup_options options = {
                    .mode = kind < 2 ? MR_DEDUP_EXACT : MR_DEDUP_BLOOM,
                    .when_full = kind % 2 == 0 ? MR_WHEN_FULL_REJECT : MR_WHEN_FULL_EVICT_OLDEST,
                    .horizon_ms = horizons[h],
                    .ids_max = sizes[s],
                    .error = 1e-3,
                };
                (void)run_random(seed++, &options, 150);
            }
        }
    }
    struct mr_dedup_options none = {.mode = MR_DEDUP_NONE};
    (void)run_random(seed, &none, 150);
}

static void tags_come_around(void **state) {
    (void)state;
    struct mr_dedup_options options = {.mode = MR_DEDUP_EXACT,
                                       .when_full = MR_WHEN_FULL_EVICT_OLDEST,
                                       .horizon_ms = 320,
                                       .ids_max = 150};
    uint64_t forgotten = run_random(77, &options, 600);
    assert_true(forgotten > 3 * 255 && forgotten < UINT64_MAX);
}

/* ---- what cannot be ---- */

/* Some generations, in evict_oldest so that there are many; the chunks and the saved state. */
static struct mr_bytes fill(const struct mr_dedup_options *options, struct kept *kept,
                            struct snapshot *snapshot) {
    struct mr_dedup *dedup = dedup_open(options);
    mr_dedup_journal(dedup, true);
    for (uint32_t id = 0; id < 60; id++) {
        mr_dedup_advance(dedup, 5000 + (int64_t)id * 10);
        assert_false(judge_id(dedup, id));
    }
    struct mr_bytes blob = snapshot_save(snapshot, kept, dedup);
    mr_dedup_close(dedup);
    return blob;
}

static const struct mr_dedup_options OPTIONS[] = {
    {MR_DEDUP_EXACT, MR_WHEN_FULL_REJECT, 1000, 80, 0, false},
    {MR_DEDUP_EXACT, MR_WHEN_FULL_EVICT_OLDEST, 1000, 40, 0, false},
    {MR_DEDUP_BLOOM, MR_WHEN_FULL_REJECT, 1000, 80, 1e-4, false},
    {MR_DEDUP_NONE, MR_WHEN_FULL_REJECT, 0, 0, 0, false},
};

enum { OPTIONS_COUNT = sizeof OPTIONS / sizeof OPTIONS[0] };

enum damage { SOUND, MISSING, TWICE, TOO_MANY, TOO_NEW, NO_FINGERPRINT, DAMAGES };

static enum mr_status load_damaged(const struct kept *kept, struct mr_dedup *dedup,
                                   struct mr_bytes blob, enum damage damage,
                                   struct mr_error *error) {
    struct rng rng = {1};
    uint32_t at = kept->count - 2;
    struct mr_dedup_chunk *chunk = kept->chunks[at];
    struct mr_fingerprint id = fp_of(1000, FP_RANDOM);
    struct mr_fingerprint was = chunk->ids[0];
    uint64_t generation = chunk->generation;
    chunk->count -= damage == MISSING;
    chunk->generation += damage == TOO_NEW ? 1000 : 0;
    chunk->ids[0] = damage == TWICE ? kept->chunks[at + 1]->ids[0] : was;
    chunk->ids[0].hi |= damage == NO_FINGERPRINT ? UINT64_C(1) << 56 : 0;
    enum mr_status status = mr_dedup_load_begin(dedup, &blob, 1, error);
    assert_int_equal(status, MR_OK);
    status = kept_load_ids(kept, dedup, &rng, error);
    if (status == MR_OK && damage == TOO_MANY) {
        status = mr_dedup_load_ids(dedup, 0, generation, &id, NULL, 1, error);
    }
    status = status == MR_OK ? mr_dedup_load_end(dedup, false, error) : status;
    chunk->ids[0] = was;
    chunk->count += damage == MISSING;
    chunk->generation = generation;
    return status;
}

static void refuses_other_ids(void **state) {
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct kept kept = {0};
        struct snapshot snapshot;
        struct mr_bytes blob = fill(&OPTIONS[i], &kept, &snapshot);
        for (enum damage damage = SOUND; damage < DAMAGES; damage++) {
            struct mr_dedup *dedup = dedup_open(&OPTIONS[i]);
            struct mr_error error = {.text = ""};
            enum mr_status status = load_damaged(&kept, dedup, blob, damage, &error);
            bool fine = damage == SOUND || (damage == TWICE && OPTIONS[i].mode == MR_DEDUP_BLOOM);
            assert_int_equal(status, fine ? MR_OK : MR_CORRUPT);
            assert_true(fine || error.text[0] != '\0');
            mr_dedup_close(dedup);
        }
        mr_buf_finish(&snapshot.blob);
        kept_free(&kept);
    }
}

static void live_on(struct mr_dedup *dedup) {
    mr_dedup_check_scan(dedup);
    mr_dedup_journal(dedup, true);
    for (uint32_t id = 0; id < 40; id++) {
        if (mr_dedup_room(dedup, INT64_MIN) > 0) {
            (void)judge_id(dedup, id);
        }
        mr_dedup_advance(dedup, 6000 + id * id * 4);
        (void)seen_id(dedup, id / 2);
    }
    mr_dedup_check_scan(dedup);
    mr_dedup_advance(dedup, INT64_MAX);
    mr_dedup_check_scan(dedup);
}

/* Returns whether it was loaded. */
static bool load_bytes(const struct kept *kept, const struct mr_dedup_options *options,
                       struct mr_bytes blob) {
    struct rng rng = {1};
    struct mr_error error = {.status = MR_OK};
    struct mr_dedup *dedup = dedup_open(options);
    enum mr_status status = kept_load(kept, dedup, blob, &rng, &error);
    if (status == MR_OK) {
        live_on(dedup);
    } else {
        /* Another mode may be in the bytes. */
        assert_true(status == MR_CORRUPT || status == MR_MISMATCH || status == MR_FULL);
        assert_int_equal(error.status, status);
        assert_true(strlen(error.text) > 10);
    }
    mr_dedup_close(dedup);
    return status == MR_OK;
}

static void any_bytes_are_refused_or_sound(void **state) {
    (void)state;
    for (size_t i = 0; i < OPTIONS_COUNT; i++) {
        struct kept kept = {0};
        struct snapshot snapshot;
        struct mr_bytes blob = fill(&OPTIONS[i], &kept, &snapshot);
        uint8_t *copy = mr_alloc(blob.len + 8);
        assert_non_null(copy);
        for (size_t len = 0; len < blob.len; len++) {
            assert_false(load_bytes(&kept, &OPTIONS[i], mr_bytes_of(blob.ptr, len)));
            uint64_t first;
            assert_int_equal(mr_dedup_saved_first(mr_bytes_of(blob.ptr, len), &first), MR_CORRUPT);
        }
        uint32_t loaded = 0;
        for (size_t at = 0; at < blob.len * 3; at++) {
            memcpy(copy, blob.ptr, blob.len);
            const uint8_t flips[] = {(uint8_t)(1u << (at / 3 + at / 24) % 8), 0x80, 0xff};
            copy[at / 3] ^= flips[at % 3];
            loaded += load_bytes(&kept, &OPTIONS[i], mr_bytes_of(copy, blob.len));
        }
        memcpy(copy, blob.ptr, blob.len);
        memset(copy + blob.len, 0, 8);
        assert_false(load_bytes(&kept, &OPTIONS[i], mr_bytes_of(copy, blob.len + 8)));
        assert_true(load_bytes(&kept, &OPTIONS[i], blob));
        assert_true(OPTIONS[i].mode == MR_DEDUP_NONE || loaded < blob.len);
        mr_free(copy);
        mr_buf_finish(&snapshot.blob);
        kept_free(&kept);
    }
}

/* Also from one set of options to another, where ids are put together anew. */
static void survives_missing_memory(void **state) {
    (void)state;
    for (size_t i = 0; i < OPTIONS_COUNT * 2; i++) {
        struct mr_dedup_options options = OPTIONS[i / 2];
        struct kept kept = {0};
        struct snapshot snapshot;
        struct mr_bytes blob = fill(&options, &kept, &snapshot);
        options.horizon_ms *= i % 2 == 0 ? 1 : 2;
        size_t nth = 0;
        enum mr_status status;
        do {
            struct rng rng = {1};
            struct mr_error error = {.text = ""};
            struct mr_dedup *dedup = dedup_open(&options);
            mr_dedup_journal(dedup, i % 2 != 0);
            mr_alloc_fail_at(++nth, 0);
            status = kept_load(&kept, dedup, blob, &rng, &error);
            mr_alloc_fail_at(0, 0);
            assert_true(status == MR_OK || (status == MR_NO_MEMORY && error.text[0] != '\0'));
            mr_dedup_close(dedup);
        } while (status != MR_OK);
        assert_true(nth > 3);
        mr_buf_finish(&snapshot.blob);
        kept_free(&kept);
    }
}

static void save_says_when_there_is_no_memory(void **state) {
    (void)state;
    struct mr_dedup *dedup = dedup_open(&OPTIONS[0]);
    struct mr_buf buf;
    mr_buf_init(&buf, 1 << 20);
    mr_alloc_fail_at(1, 1);
    mr_dedup_save(dedup, &buf);
    mr_alloc_fail_at(0, 0);
    assert_true(buf.failed);
    mr_buf_finish(&buf);
    mr_dedup_close(dedup);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(goes_on_as_if_there_had_been_no_break),
        cmocka_unit_test(tags_come_around),
        cmocka_unit_test(refuses_other_ids),
        cmocka_unit_test(any_bytes_are_refused_or_sound),
        cmocka_unit_test(survives_missing_memory),
        cmocka_unit_test(save_says_when_there_is_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
