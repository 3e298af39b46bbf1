/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Sketch: what a metric that grows has behind its 8 bytes in the block, and the table by which metric.c reaches it.
 *
 * Owner       The block: metric.c opens none itself; add and merge put the first one into *slot, close frees it.
 * Errors      MR_NO_MEMORY from add and merge; *slot can be closed then, but has lost its meaning.
 * Cost        head.heap is kept up to date, so that asking for it costs nothing.
 */
#include "aggregate/metric.h"

struct mr_sketch {
    uint64_t heap; /* bytes */
};

struct mr_sketch_ops {
    enum mr_status (*add)(const struct mr_metric *metric, const struct mr_batch *batch, const struct mr_column *column,
                          const uint32_t *events, uint8_t *const *states, uint32_t n);
    /* from: what encode wrote, not empty, in any alignment. */
    enum mr_status (*merge)(const struct mr_metric *metric, struct mr_sketch **slot, struct mr_bytes from);
    uint32_t (*encoded_len)(const struct mr_metric *metric, const struct mr_sketch *sketch);
    /* ret has encoded_len bytes, in any alignment. */
    void (*encode)(const struct mr_metric *metric, const struct mr_sketch *sketch, uint8_t *ret);
    uint64_t (*encoded_max)(const struct mr_metric *metric);
    bool (*check)(const struct mr_metric *metric, struct mr_bytes encoded);
    void (*close)(struct mr_sketch *sketch);
    /* encoded may be empty. */
    struct mr_number (*finish)(const struct mr_metric *metric, struct mr_bytes encoded, struct mr_arena *scratch);
};

extern const struct mr_sketch_ops mr_distinct_ops;
extern const struct mr_sketch_ops mr_quantiles_ops;
extern const struct mr_sketch_ops mr_top_ops;
extern const struct mr_sketch_ops mr_collect_ops;

static inline struct mr_sketch **mr_sketch_slot(const struct mr_metric *metric, uint8_t *state) {
    return (struct mr_sketch **)(void *)(state + metric->offset);
}

/* A JSON text that was written into buf, which ends: in scratch. NULL when out of memory. */
struct mr_number mr_sketch_json(struct mr_buf *buf, struct mr_arena *scratch);

/* More than any JSON text of a metric has. */
#define MR_SKETCH_JSON_MAX (8u << 20)

/*
 * Texts of a sketch, one behind the other; what is forgotten stays until the owner of the offsets copies the rest.
 */
struct mr_texts {
    uint8_t *ptr;
    uint32_t len;
    uint32_t cap;
    uint32_t forgotten; /* bytes */
};

/* false when out of memory. */
bool mr_texts_append(struct mr_texts *texts, struct mr_bytes text, uint32_t *ret_off);
static inline struct mr_bytes mr_texts_at(const uint8_t *texts, uint64_t off, uint32_t len) {
    return mr_bytes_of(len == 0 ? NULL : texts + off, len);
}

/* Whether more than half is forgotten, and it is worth while. */
bool mr_texts_wasteful(const struct mr_texts *texts);
void mr_texts_finish(struct mr_texts *texts);
