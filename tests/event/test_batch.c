/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that a batch is divided over the shards as its contract says (event/batch.h, I1): for every number of shards
 * around those that are treated apart, batches of every length around those that are, without rejected events and with
 * few and many of them, order is compared with what a loop over the events for each shard makes.
 */
#include "event/columns.h"
#include "help.h"

enum { EVENTS_MAX = 17000 };

/* Random fingerprints; rejected ones are zeros. */
static void fill(struct mr_batch *batch, uint32_t count, uint32_t reject_in_1000, uint64_t *random) {
    batch->count = count;
    batch->rejected = 0;
    for (uint32_t i = 0; i < count; i++) {
        bool rejected = random_below(random, 1000) < reject_in_1000;
        uint64_t lo = random_next(random);
        batch->fps[i] = (struct mr_fingerprint){.lo = rejected ? 0 : lo, .hi = 0};
        batch->verdicts[i] = rejected ? MR_VERDICT_REJECTED : MR_VERDICT_NONE;
        batch->rejected += rejected;
    }
}

static void compare(const struct mr_batch *batch, uint32_t shards) {
    uint32_t at = 0;
    for (uint32_t s = 0; s < shards; s++) {
        assert_int_equal(batch->shard_start[s], at);
        for (uint32_t i = 0; i < batch->count; i++) {
            uint32_t owner = (uint32_t)(((__uint128_t)batch->fps[i].lo * shards) >> 64);
            if (owner == s && batch->verdicts[i] != MR_VERDICT_REJECTED) {
                assert_true(at < batch->order_count && batch->order[at] == i);
                at++;
            }
        }
    }
    assert_int_equal(batch->shard_start[shards], at);
    assert_int_equal(batch->order_count, at);
}

static void divides_over_shards(void **state) {
    (void)state;
    static const uint32_t counts[] = {0, 1, 2, 31, 32, 33, 63, 64, 65, 1000, 16383, 16384, 16385, EVENTS_MAX};
    static const uint32_t rejects[] = {0, 3, 900, 1000};
    uint64_t random = 5;
    for (uint32_t shards = 1; shards <= 7; shards++) {
        struct mr_schema_options options = usual_options();
        options.shards = shards;
        struct mr_schema *schema = open_schema(&options);
        struct mr_batch *batch = mr_batch_open(schema, EVENTS_MAX);
        assert_non_null(batch);
        for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++) {
            for (size_t r = 0; r < sizeof rejects / sizeof rejects[0]; r++) {
                fill(batch, counts[c], rejects[r], &random);
                mr_batch_partition(batch, shards);
                compare(batch, shards);
            }
        }
        mr_batch_close(batch);
        mr_schema_close(schema);
    }
}

/* Growing keeps what is there, and what an event need not write is as in a new batch. */
static void grows_with_zeros(void **state) {
    (void)state;
    struct mr_schema_options options = usual_options();
    options.missing_id = MR_MISSING_ACCEPT;
    struct mr_schema *schema = open_schema(&options);
    struct mr_batch *batch = mr_batch_open(schema, 3);
    assert_non_null(batch);
    for (uint32_t capacity = 3; capacity < 1000; capacity = capacity * 2 + 1) {
        for (uint32_t i = 0; i < capacity; i++) {
            batch->fps[i] = (struct mr_fingerprint){i, capacity};
            batch->times_ms[i] = i;
            batch->spans[i] = (struct mr_span){i, i + 1};
            for (uint32_t c = 0; c < batch->columns; c++) {
                batch->column[c].values[i].i = (int64_t)i * c;
                batch->column[c].kinds[i] = (uint8_t)c;
            }
        }
        assert_true(mr_batch_grow(batch, capacity, capacity * 2 + 1));
        for (uint32_t i = 0; i < batch->capacity; i++) {
            bool old = i < capacity;
            assert_true(!old || (batch->fps[i].lo == i && batch->fps[i].hi == capacity));
            assert_true(!old || (batch->times_ms[i] == i && batch->spans[i].len == i + 1));
            assert_int_equal(batch->verdicts[i], MR_VERDICT_NONE);
            for (uint32_t c = 0; c < batch->columns; c++) {
                assert_true(batch->column[c].values[i].i == (old ? (int64_t)i * c : 0));
                assert_int_equal(batch->column[c].kinds[i], old ? c : MR_VALUE_MISSING);
            }
        }
    }
    mr_batch_close(batch);
    mr_schema_close(schema);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(divides_over_shards),
        cmocka_unit_test(grows_with_zeros),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
