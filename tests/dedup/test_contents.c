/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that copies are told from conflicts by what came first with an id, whatever lies between:
 *   1. random judging, time and starts, with and without eviction, against a list of what came first. Which ids are
 *      known says a dedup without contents that is called alike: contents change nothing of it;
 *   2. a start may begin to keep contents, or end it: ids remembered without a content never conflict;
 *   3. the same over moves to other numbers of shards, whose chunks are written anew;
 *   4. chunks hold ids and contents in one piece, also those that are not full;
 *   5. only mode exact keeps contents.
 */
#include "kept.h"

enum { POOL = 600, BATCH = 50, CONTENTS = 3, SHARDS_MAX = 5 };

struct node {
    struct mr_dedup *dedup;
    struct mr_dedup *plain; /* without contents */
    struct kept kept;
    struct kept plain_kept;
};

struct run {
    struct rng rng;
    struct mr_dedup_options options; /* of one shard; ids_max of all */
    struct node nodes[SHARDS_MAX];
    uint32_t shards;
    int64_t now_ms;
    uint64_t first[POOL]; /* content; 0: not known */
    uint64_t found[3];    /* how often, by enum mr_dedup_found */
};

static struct mr_dedup_options options_of(const struct run *run, bool contents) {
    struct mr_dedup_options options = run->options;
    options.ids_max = options.ids_max / run->shards + 1;
    options.contents = contents && run->options.contents;
    return options;
}

static void open_nodes(struct run *run) {
    struct mr_dedup_options options = options_of(run, true);
    struct mr_dedup_options plain = options_of(run, false);
    for (uint32_t i = 0; i < run->shards; i++) {
        run->nodes[i] = (struct node){.dedup = dedup_open(&options), .plain = dedup_open(&plain)};
    }
}

static void switch_journals(struct run *run) {
    for (uint32_t i = 0; i < run->shards; i++) {
        mr_dedup_journal(run->nodes[i].dedup, true);
        mr_dedup_journal(run->nodes[i].plain, true);
    }
}

static void close_nodes(struct run *run) {
    for (uint32_t i = 0; i < run->shards; i++) {
        mr_dedup_close(run->nodes[i].dedup);
        mr_dedup_close(run->nodes[i].plain);
        kept_free(&run->nodes[i].kept);
        kept_free(&run->nodes[i].plain_kept);
    }
}

/* ---- judging ---- */

struct batch {
    struct mr_fingerprint fps[BATCH];
    uint32_t ids[BATCH];
    uint64_t contents[BATCH]; /* by k */
    uint32_t order[BATCH];
    uint32_t count; /* of order */
    uint8_t duplicate[BATCH];
    uint8_t plain[BATCH];
};

static void judge_node(struct run *run, struct node *node, struct batch *b) {
    mr_dedup_advance(node->dedup, run->now_ms);
    mr_dedup_advance(node->plain, run->now_ms);
    assert_int_equal(mr_dedup_reserve(node->dedup, b->count), MR_OK);
    assert_int_equal(mr_dedup_reserve(node->plain, b->count), MR_OK);
    if (run->options.contents) {
        mr_dedup_judge_contents(node->dedup, b->fps, b->contents, b->order, b->count, b->duplicate);
    } else {
        mr_dedup_judge(node->dedup, b->fps, b->order, b->count, b->duplicate);
    }
    mr_dedup_judge(node->plain, b->fps, b->order, b->count, b->plain);
    for (uint32_t k = 0; k < b->count; k++) {
        uint32_t id = b->ids[b->order[k]];
        uint64_t content = run->options.contents ? b->contents[k] : 0;
        bool differ = run->first[id] != 0 && content != 0 && run->first[id] != content;
        assert_int_equal(b->duplicate[k], b->plain[k] == 0 ? MR_DEDUP_NEW
                                          : differ         ? MR_DEDUP_CONFLICT
                                                           : MR_DEDUP_DUPLICATE);
        run->first[id] = b->plain[k] == 0 ? content : run->first[id];
        run->found[b->duplicate[k]]++;
    }
    kept_take(&node->kept, node->dedup, false);
    kept_take(&node->plain_kept, node->plain, false);
}

/* A request: each shard judges its own, backwards, so that order is more than 0, 1, 2 … */
static void judge(struct run *run) {
    struct batch b;
    uint32_t count = (uint32_t)rng_below(&run->rng, BATCH + 1);
    for (uint32_t i = 0; i < count; i++) {
        b.ids[i] = (uint32_t)rng_below(&run->rng, POOL);
        b.fps[i] = fp_of(b.ids[i], FP_RANDOM);
    }
    for (uint32_t s = 0; s < run->shards; s++) {
        b.count = 0;
        for (uint32_t i = count; i-- > 0;) {
            if (mr_fingerprint_shard(b.fps[i], run->shards) == s) {
                b.contents[b.count] = rng_below(&run->rng, CONTENTS + 1);
                b.order[b.count++] = i;
            }
        }
        judge_node(run, &run->nodes[s], &b);
    }
}

/* ---- starts ---- */

struct old {
    struct mr_bytes blobs[SHARDS_MAX];
    struct snapshot snapshots[SHARDS_MAX];
    struct kept kept[SHARDS_MAX];
    uint32_t count;
};

static void load_chunk(struct mr_dedup *dedup, const struct mr_dedup_chunk *chunk, uint32_t saved, uint32_t shard,
                       uint32_t shards) {
    struct mr_fingerprint mine[MR_DEDUP_CHUNK_IDS];
    uint64_t mine_contents[MR_DEDUP_CHUNK_IDS];
    const uint64_t *contents = mr_dedup_chunk_contents(chunk);
    uint32_t count = 0;
    for (uint32_t k = 0; k < chunk->count; k++) {
        if (mr_fingerprint_shard(chunk->ids[k], shards) == shard) {
            mine_contents[count] = contents == NULL ? 0 : contents[k];
            mine[count++] = chunk->ids[k];
        }
    }
    struct mr_error error;
    assert_int_equal(mr_dedup_load_ids(dedup, saved, chunk->generation, mine, contents == NULL ? NULL : mine_contents,
                                       count, &error), MR_OK);
}

/* As a process with any number of shards that reads what the one before has written; kept becomes what this one has. */
static void load(struct run *run, struct mr_dedup *dedup, struct kept *kept, const struct old *old, uint32_t shard) {
    struct mr_error error;
    bool moved = old->count != run->shards;
    uint32_t first = moved ? 0 : shard;
    uint32_t blobs = moved ? old->count : 1;
    assert_int_equal(mr_dedup_load_begin(dedup, old->blobs + first, blobs, &error), MR_OK);
    mr_dedup_journal(dedup, moved);
    for (uint32_t s = 0; s < blobs; s++) {
        for (uint32_t i = 0; i < old->kept[first + s].count; i++) {
            load_chunk(dedup, old->kept[first + s].chunks[i], s, shard, run->shards);
            kept_take(kept, dedup, false);
        }
    }
    assert_int_equal(mr_dedup_load_end(dedup, moved, &error), MR_OK);
    kept_take(kept, dedup, true);
    mr_dedup_check_scan(dedup);
}

static void save_old(struct old *old, uint32_t i, struct mr_dedup *dedup, struct kept *kept, struct rng *rng) {
    old->blobs[i] = snapshot_save(&old->snapshots[i], kept, dedup);
    kept_prune(kept, mr_dedup_first_generation(dedup), rng);
    old->kept[i] = *kept;
    *kept = (struct kept){0};
    mr_dedup_close(dedup);
}

static void free_old(struct old *old, struct kept *adopting, bool adopt) {
    for (uint32_t i = 0; i < old->count; i++) {
        mr_buf_finish(&old->snapshots[i].blob);
        if (!adopt) {
            kept_free(&old->kept[i]);
            continue;
        }
        assert_int_equal(adopting[i].count, 0);
        adopting[i] = old->kept[i]; /* with as many shards the files stay */
    }
}

static void restart(struct run *run, uint32_t shards, bool contents) {
    struct old with = {.count = run->shards};
    struct old plain = {.count = run->shards};
    struct kept with_kept[SHARDS_MAX] = {0};
    struct kept plain_kept[SHARDS_MAX] = {0};
    uint64_t hash = run->shards == 1 ? mr_dedup_state_hash_scan(run->nodes[0].dedup) : 0;
    for (uint32_t i = 0; i < run->shards; i++) {
        save_old(&with, i, run->nodes[i].dedup, &run->nodes[i].kept, &run->rng);
        save_old(&plain, i, run->nodes[i].plain, &run->nodes[i].plain_kept, &run->rng);
    }
    bool same = shards == 1 && run->shards == 1 && contents == run->options.contents;
    run->shards = shards;
    run->options.contents = contents;
    open_nodes(run);
    for (uint32_t i = 0; i < shards; i++) {
        load(run, run->nodes[i].dedup, &with_kept[i], &with, i);
        load(run, run->nodes[i].plain, &plain_kept[i], &plain, i);
    }
    assert_true(!same || hash == mr_dedup_state_hash_scan(run->nodes[0].dedup));
    free_old(&with, with_kept, with.count == shards);
    free_old(&plain, plain_kept, plain.count == shards);
    for (uint32_t i = 0; i < shards; i++) {
        run->nodes[i].kept = with_kept[i];
        run->nodes[i].plain_kept = plain_kept[i];
    }
    switch_journals(run);
}

static void forget_contents(struct run *run) {
    memset(run->first, 0, sizeof run->first);
}

/* What a start does with the setting and the shards. A chunk of an id that was loaded without its content, and written
 * anew, has it no more; of one that stays where it is, the caller says what counts (pipeline/restore.c), and here all
 * of it does. */
static void start(struct run *run) {
    bool moves = rng_below(&run->rng, 3) == 0;
    uint32_t shards = moves ? 1 + (uint32_t)rng_below(&run->rng, SHARDS_MAX) : run->shards;
    bool contents = rng_below(&run->rng, 4) == 0 ? !run->options.contents : run->options.contents;
    bool forgets = shards != run->shards && !contents;
    restart(run, shards, contents);
    if (forgets) {
        forget_contents(run);
    }
}

static void run_random(uint64_t seed, const struct mr_dedup_options *options, struct run *run) {
    *run = (struct run){.rng = {seed}, .options = *options, .shards = 1};
    open_nodes(run);
    switch_journals(run);
    for (uint32_t step = 0; step < 600; step++) {
        switch (rng_below(&run->rng, 12)) {
        case 0:
            start(run);
            break;
        case 1:
        case 2:
            run->now_ms += (int64_t)rng_below(&run->rng, 120);
            break;
        default:
            judge(run);
        }
    }
    for (uint32_t i = 0; i < run->shards; i++) {
        mr_dedup_check_scan(run->nodes[i].dedup);
    }
    close_nodes(run);
}

static void copies_and_conflicts(void **state) {
    (void)state;
    static struct run run;
    const struct mr_dedup_options options[] = {
        {MR_DEDUP_EXACT, MR_WHEN_FULL_REJECT, 1000, 2 * POOL, 0, true},
        {MR_DEDUP_EXACT, MR_WHEN_FULL_REJECT, 100000, 2 * POOL, 0, true},
    };
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
        uint64_t found[3] = {0};
        for (uint64_t seed = 1; seed <= 40; seed++) {
            run_random(seed * 31 + i, &options[i], &run);
            for (uint32_t k = 0; k < 3; k++) {
                found[k] += run.found[k];
            }
        }
        for (uint32_t k = 0; k < 3; k++) {
            assert_true(found[k] > 10000); /* of about 500,000: none is a rare case */
        }
    }
}

/* Where the oldest are evicted, which ones depends on the shards: with one, and the setting as it is. */
static void evicted_ids_take_their_contents_along(void **state) {
    (void)state;
    static struct run run;
    struct mr_dedup_options options = {MR_DEDUP_EXACT, MR_WHEN_FULL_EVICT_OLDEST, 3000, POOL / 3, 0, true};
    for (uint64_t seed = 1; seed <= 30; seed++) {
        run = (struct run){.rng = {seed}, .options = options, .shards = 1};
        open_nodes(&run);
        switch_journals(&run);
        for (uint32_t step = 0; step < 400; step++) {
            judge(&run);
            run.now_ms += (int64_t)rng_below(&run.rng, 20);
            if (rng_below(&run.rng, 40) == 0) {
                restart(&run, 1, true);
            }
        }
        assert_true(mr_counter_read(&mr_dedup_stats(run.nodes[0].dedup)->evicted_ids) > 0);
        assert_true(run.found[MR_DEDUP_CONFLICT] > 0);
        close_nodes(&run);
    }
}

static void a_chunk_is_in_one_piece(void **state) {
    (void)state;
    struct mr_dedup_options options = {MR_DEDUP_EXACT, MR_WHEN_FULL_REJECT, 1000, 10000, 0, true};
    static struct mr_fingerprint fps[5000];
    static uint64_t contents[5000];
    static uint32_t order[5000];
    static uint8_t duplicate[5000];
    struct mr_dedup *dedup = dedup_open(&options);
    mr_dedup_journal(dedup, true);
    for (uint32_t i = 0; i < 5000; i++) {
        fps[i] = fp_of(i / 2, FP_RANDOM); /* each second one is a duplicate */
        contents[i] = 1 + i;
        order[i] = i;
    }
    assert_int_equal(mr_dedup_reserve(dedup, 5000), MR_OK);
    mr_dedup_judge_contents(dedup, fps, contents, order, 5000, duplicate);
    struct mr_dedup_chunk *chunk = mr_dedup_take(dedup, true);
    assert_true(chunk != NULL && chunk->next == NULL && chunk->count == 2500);
    assert_int_equal(mr_dedup_chunk_bytes(chunk), 2500 * 24);
    assert_ptr_equal(mr_dedup_chunk_contents(chunk), chunk->ids + 2500);
    for (uint32_t i = 0; i < 2500; i++) {
        assert_true(mr_fingerprint_equal(chunk->ids[i], fps[2 * i]));
        assert_int_equal(mr_dedup_chunk_contents(chunk)[i], 1 + 2 * i);
        assert_int_equal(duplicate[2 * i + 1], MR_DEDUP_CONFLICT);
    }
    mr_free(chunk);
    mr_dedup_close(dedup);
}

static void only_exact_keeps_contents(void **state) {
    (void)state;
    static const enum mr_dedup_mode modes[] = {MR_DEDUP_BLOOM, MR_DEDUP_NONE};
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        struct mr_dedup_options options = {modes[i], MR_WHEN_FULL_REJECT, 1000, 100, 1e-3, true};
        struct mr_dedup *dedup = NULL;
        struct mr_error error;
        assert_int_equal(mr_dedup_open(&options, &dedup, &error), MR_INVALID);
        assert_string_equal(error.text, "dedup: only mode exact keeps contents");
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(copies_and_conflicts),
        cmocka_unit_test(evicted_ids_take_their_contents_along),
        cmocka_unit_test(a_chunk_is_in_one_piece),
        cmocka_unit_test(only_exact_keeps_contents),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
