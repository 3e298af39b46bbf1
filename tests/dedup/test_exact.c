/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that the table is a map from live fingerprints to tags, whatever the sweep has done:
 *   1. random judging, opening and killing of tags and sweeping against an array indexed by id,
 *      with check after each step; ids spread, all with one home, and all around the end of
 *      the lines; with contents, which tell copies from conflicts, and without;
 *   2. a table filled, killed and filled again at once never runs out of slots (I3);
 *   3. the sweep ends, and leaves nothing dead; tags come around many times, also where next to no ids do (I4).
 */
#include "dedup/exact.h"

#include "base/alloc.h"
#include "support.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

enum { POOL = 400, BATCH_MAX = 40 };

struct model {
    uint8_t tag[POOL]; /* 0: not live */
    uint64_t content[POOL]; /* of the live ones; 0: not known */
    uint64_t live;
    uint64_t oldest; /* ordinals [oldest, next) are live */
    uint64_t next;
};

static uint8_t tag_of(uint64_t ordinal) {
    return (uint8_t)(1 + ordinal % 255);
}

static void kill_oldest(struct mr_exact *exact, struct model *model) {
    uint8_t tag = tag_of(model->oldest++);
    mr_exact_tag_kill(exact, tag);
    for (uint32_t i = 0; i < POOL; i++) {
        if (model->tag[i] == tag) {
            model->tag[i] = 0;
            model->live--;
        }
    }
}

static uint8_t found(const struct model *model, uint32_t id, uint64_t content) {
    uint64_t first = model->content[id];
    if (model->tag[id] == 0) {
        return MR_DEDUP_NEW;
    }
    return first != 0 && content != 0 && first != content ? MR_DEDUP_CONFLICT : MR_DEDUP_DUPLICATE;
}

static void judge(struct mr_exact *exact, struct model *model, struct rng *rng, enum fp_kind kind) {
    struct mr_fingerprint fps[BATCH_MAX];
    uint64_t contents[BATCH_MAX] = {0};
    uint32_t ids[BATCH_MAX];
    uint32_t order[BATCH_MAX];
    uint8_t duplicate[BATCH_MAX];
    uint32_t count = (uint32_t)rng_below(rng, BATCH_MAX + 1);
    for (uint32_t i = 0; i < count; i++) {
        ids[i] = (uint32_t)rng_below(rng, POOL);
        fps[i] = fp_of(ids[i], kind);
        order[i] = count - 1 - i;
        contents[i] = exact->contents == NULL ? 0 : rng_below(rng, 4);
    }
    uint64_t room = exact->ids_max - model->live;
    uint64_t new_max = rng_below(rng, 3) == 0 ? rng_below(rng, room + 1) : room;
    struct mr_dedup_batch batch = {fps, order, count, duplicate, exact->contents == NULL ? NULL : contents};
    uint64_t new_ids = UINT64_MAX;
    uint8_t tag = tag_of(model->next - 1);
    uint32_t next = mr_exact_judge(exact, &batch, 0, tag, new_max, &new_ids);
    uint64_t expected = 0;
    for (uint32_t k = 0; k < next; k++) {
        uint32_t id = ids[order[k]];
        assert_int_equal(duplicate[k], found(model, id, contents[k]));
        if (model->tag[id] == 0) {
            model->tag[id] = tag;
            model->content[id] = contents[k];
            model->live++;
            expected++;
        }
    }
    assert_int_equal(new_ids, expected);
    assert_true(expected <= new_max);
    assert_true(next == count || (expected == new_max && model->tag[ids[order[next]]] == 0));
}

static void run(uint64_t seed, uint64_t ids_max, enum fp_kind kind, enum mr_exact_kind table) {
    struct rng rng = {seed};
    struct mr_exact exact;
    assert_int_equal(mr_exact_open(&exact, ids_max, table), MR_OK);
    struct model model = {.next = 1};
    mr_exact_tag_open(&exact, tag_of(0));
    for (uint32_t step = 0; step < 400; step++) {
        switch (rng_below(&rng, 6)) {
        case 0:
            if (model.next - model.oldest < 1 + seed % 60) {
                mr_exact_tag_open(&exact, tag_of(model.next++));
            }
            break;
        case 1:
            if (model.next - model.oldest > 1) {
                kill_oldest(&exact, &model);
            }
            break;
        case 2:
            (void)mr_exact_sweep(&exact, rng_below(&rng, 30)); /* any amount will do */
            break;
        default:
            judge(&exact, &model, &rng, kind);
        }
        mr_exact_check_scan(&exact);
        assert_int_equal(exact.used - exact.dead, model.live);
        uint32_t id = (uint32_t)rng_below(&rng, POOL);
        assert_int_equal(mr_exact_find(&exact, fp_of(id, kind)), model.tag[id]);
    }
    for (uint32_t id = 0; id < POOL; id++) {
        assert_int_equal(mr_exact_find(&exact, fp_of(id, kind)), model.tag[id]);
    }
    mr_exact_close(&exact);
}

static void is_a_map_of_live_fingerprints(void **state) {
    (void)state;
    static const uint64_t sizes[] = {1, 3, 46, 47, 150, POOL};
    for (uint64_t seed = 1; seed <= 3; seed++) {
        for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
            for (enum fp_kind kind = 0; kind < FP_KINDS; kind++) {
                run(seed * 7, sizes[s], kind, MR_EXACT_IDS);
                run(seed * 7, sizes[s], kind, MR_EXACT_CONTENTS);
            }
        }
    }
}

static void add_new(struct mr_exact *exact, uint64_t n, uint8_t tag, uint64_t room) {
    struct mr_fingerprint fp = fp_of(n, FP_RANDOM);
    uint32_t order = 0;
    uint8_t duplicate = 2;
    uint64_t new_ids = 0;
    struct mr_dedup_batch batch = {&fp, &order, 1, &duplicate, NULL};
    assert_int_equal(mr_exact_judge(exact, &batch, 0, tag, room, &new_ids), 1);
    assert_int_equal(duplicate, 0);
}

/* `parts` generations fill the table; then each new one lives at the cost of the oldest. Returns
 * the most slots that were ever used. */
static uint64_t turn_over(uint64_t ids, uint64_t parts) {
    struct mr_exact exact;
    assert_int_equal(mr_exact_open(&exact, ids, MR_EXACT_IDS), MR_OK);
    uint64_t each = ids / parts;
    uint64_t used_max = 0;
    uint64_t ordinals = ids > 1000 ? parts * 6 : 600;
    for (uint64_t ordinal = 0; ordinal < ordinals; ordinal++) {
        if (ordinal >= parts) {
            mr_exact_tag_kill(&exact, tag_of(ordinal - parts));
        }
        mr_exact_tag_open(&exact, tag_of(ordinal));
        for (uint64_t i = 0; i < each; i++) {
            add_new(&exact, ordinal * each + i, tag_of(ordinal), each - i);
            used_max = exact.used > used_max ? exact.used : used_max;
        }
        if (ids <= 500) {
            mr_exact_check_scan(&exact);
        }
    }
    assert_true(used_max <= exact.slots);
    mr_exact_close(&exact);
    return used_max;
}

static void never_runs_out_of_slots(void **state) {
    (void)state;
    static const uint64_t sizes[] = {1, 30, 46, 500, 5000};
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        (void)turn_over(sizes[s], 1); /* the whole table dies at once */
    }
    assert_true(turn_over(480, 32) > 480); /* else no dead entries were in the way */
    assert_true(turn_over(4800, 32) > 4800);
}

/* I4: one id a generation is too little to move the sweep around a large table; what opening a tag asks for is enough. */
static void tags_come_around_where_few_ids_do(void **state) {
    (void)state;
    enum { LIVE = 112 };
    struct mr_exact exact;
    assert_int_equal(mr_exact_open(&exact, 50000, MR_EXACT_IDS), MR_OK);
    for (uint64_t ordinal = 0; ordinal < 2000; ordinal++) {
        if (ordinal >= LIVE) {
            mr_exact_tag_kill(&exact, tag_of(ordinal - LIVE));
        }
        mr_exact_tag_open(&exact, tag_of(ordinal));
        add_new(&exact, ordinal, tag_of(ordinal), 1);
    }
    assert_true(exact.dead > 0);
    assert_int_equal(exact.used - exact.dead, LIVE);
    mr_exact_check_scan(&exact);
    mr_exact_close(&exact);
}

static void sweep_ends_and_leaves_nothing(void **state) {
    (void)state;
    for (enum fp_kind kind = 0; kind < FP_KINDS; kind++) {
        struct mr_exact exact;
        assert_int_equal(mr_exact_open(&exact, 200, MR_EXACT_IDS), MR_OK);
        struct model model = {.next = 0};
        struct rng rng = {77};
        for (uint32_t i = 0; i < 3; i++) {
            mr_exact_tag_open(&exact, tag_of(model.next++));
            judge(&exact, &model, &rng, kind);
        }
        assert_false(mr_exact_sweep(&exact, 1000));
        kill_oldest(&exact, &model);
        assert_true(exact.dead > 0);
        uint64_t steps = 0;
        while (mr_exact_sweep(&exact, 1)) {
            mr_exact_check_scan(&exact);
            steps++;
        }
        assert_true(steps < exact.slots);
        assert_int_equal(exact.dead, 0);
        assert_int_equal(exact.used, model.live);
        mr_exact_check_scan(&exact);
        mr_exact_close(&exact);
    }
}

static void spends_what_it_planned(void **state) {
    (void)state;
    for (uint64_t ids = 1000; ids <= UINT64_C(1) << 32; ids *= 3) {
        uint64_t bytes = mr_exact_bytes_planned(ids, MR_EXACT_IDS);
        assert_true(bytes >= ids * 22 && bytes <= ids * 24);
        bytes = mr_exact_bytes_planned(ids, MR_EXACT_CONTENTS);
        assert_true(bytes >= ids * 33 && bytes <= ids * 34);
    }
    struct mr_exact exact;
    for (uint64_t n = 1; n <= 2; n++) {
        mr_alloc_fail_at(n, 0);
        assert_int_equal(mr_exact_open(&exact, 100, MR_EXACT_CONTENTS), MR_NO_MEMORY);
        mr_alloc_fail_at(0, 0);
        mr_exact_close(&exact);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(is_a_map_of_live_fingerprints),
        cmocka_unit_test(never_runs_out_of_slots),
        cmocka_unit_test(tags_come_around_where_few_ids_do),
        cmocka_unit_test(sweep_ends_and_leaves_nothing),
        cmocka_unit_test(spends_what_it_planned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
