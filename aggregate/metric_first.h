/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * First and last: one value and where it stands.
 *
 * Shape       In the block, 32 bytes; the last 8 are an int, a double, or of a text the sketch's slot: live a pointer,
 *             encoded { u32 offset, u32 length }; an empty text has none. Encoded the sketch is the text's bytes alone.
 * Errors      As of sketches.
 */
#include "aggregate/metric_value.h"
#include "aggregate/sketch.h"

struct mr_first_state {
    int64_t time_ms;
    uint64_t lsn;
    uint32_t index;
    uint32_t kind; /* enum mr_scalar_kind; NONE: there is no value, all is zero */
    union {
        uint8_t payload[8];
        struct mr_sketch *text; /* kind TEXT */
        uint32_t encoded[2];    /* offset, length */
    };
};

enum mr_status mr_first_add(const struct mr_metric *metric, const struct mr_batch *batch,
                            const struct mr_column *column, const uint32_t *events, uint8_t *const *states,
                            uint32_t n) MR_MUST_CHECK;
/* text: of from, where it is one. */
enum mr_status mr_first_merge(enum mr_metric_kind kind, struct mr_first_state *into,
                              const struct mr_first_state *from, struct mr_bytes text) MR_MUST_CHECK;
struct mr_bytes mr_first_text(const struct mr_sketch *sketch);
void mr_first_close(struct mr_sketch *sketch);
bool mr_first_check(const struct mr_first_state *s, struct mr_bytes text);
/* Without scratch the text is borrowed. */
struct mr_number mr_first_finish(const struct mr_first_state *s, struct mr_bytes text, struct mr_arena *scratch);
