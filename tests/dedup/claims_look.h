/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Claims look: questions in a world of claims, for the tests of looks. */
#include "dedup/claims_parts.h"
#include "tests/dedup/claims_world.h"

#define HORIZON_MS CLAIMS_HORIZON_MS
#define BASE_MS    (1000 * HORIZON_MS) /* a generation begins */

static inline struct mr_claim_look look_of(uint32_t stream, uint32_t number, int64_t now_ms) {
    struct mr_claim_look look = {
        .stream = stream, .id = claims_fp(stream, number), .now_ms = now_ms};
    memset(&look.status, 0xee, sizeof look.status);
    look.seen = true; /* whatever is left of the last time */
    look.from_ms = look.to_ms = look.until_ms = 77;
    return look;
}

static inline void look_put(struct claims_world *world, uint32_t node, struct mr_claim_look *look) {
    assert_true(mr_claims_look(world->nodes[node].claims, look));
    mr_claims_check(world->nodes[node].claims);
}

static inline struct mr_claim_look *look_next(struct claims_world *world, uint32_t node) {
    struct mr_claim_look *look = mr_claims_looked(world->nodes[node].claims);
    mr_claims_check(world->nodes[node].claims);
    if (look != NULL && look->status == MR_AGAIN) {
        assert_true(!look->seen && look->from_ms == 0 && look->to_ms == 0 && look->until_ms == 0);
    } else if (look != NULL) {
        assert_int_equal(look->status, MR_OK);
        assert_true(!look->seen || (look->from_ms < look->to_ms && look->until_ms >= look->now_ms));
        assert_true(look->seen || (look->from_ms == 0 && look->to_ms == 0 && look->until_ms == 0));
    }
    return look;
}

/* In steps of a millisecond. */
static inline void look_await(struct claims_world *world, uint32_t node,
                              const struct mr_claim_look *look, uint32_t ms_max) {
    const struct mr_claim_look *found = NULL;
    for (uint32_t i = 0; (found = look_next(world, node)) == NULL; i++) {
        assert_true(i <= ms_max);
        while (claims_step(world, node)) {
        }
        world->time.ns += 1000000;
    }
    assert_ptr_equal(found, look);
    assert_null(look_next(world, node));
}

static inline struct mr_claim_look look_ask(struct claims_world *world, uint32_t node,
                                            uint32_t stream, uint32_t number, int64_t now_ms) {
    struct mr_claim_look look = look_of(stream, number, now_ms);
    look_put(world, node, &look);
    look_await(world, node, &look, 2000);
    look.next = NULL;
    return look;
}

static inline bool look_is_seen(struct claims_world *world, uint32_t node, uint32_t stream,
                                uint32_t number, int64_t now_ms) {
    struct mr_claim_look look = look_ask(world, node, stream, number, now_ms);
    assert_int_equal(look.status, MR_OK);
    return look.seen;
}

static inline enum mr_claim_outcome look_claim_at(struct claims_world *world, uint32_t node,
                                                  uint32_t stream, uint32_t number,
                                                  int64_t recorded_ms) {
    struct claims_record *r = claims_record_of(world, node, stream, 1, number, 0, 0);
    r->claim.recorded_ms = recorded_ms;
    claims_finish(world);
    return r->outcomes[0];
}
