/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Kit: what the tests of aggregate/ share: random numbers, rules, parcels, and a model of combine
 * of one page.
 */
#include "aggregate/combine.h"
#include "aggregate/lift.h"

struct kit_random {
    uint64_t state;
};

uint64_t kit_random(struct kit_random *random);
/* In [0, below). */
uint32_t kit_below(struct kit_random *random, uint32_t below);

/* The same watermark in all streams; valid until the next call. */
const int64_t *kit_everywhere(int64_t watermark_ms);

enum { KIT_METRICS = 5, KIT_KEYS_MAX = 64, KIT_WINDOWS_MAX = 256 };

/* Rule `index` on stream: count, sum, min, max, avg of column 1; keys of key_count columns. */
struct mr_rule kit_rule(uint32_t index, uint32_t stream, uint32_t key_count, int64_t size_ms,
                        int64_t lateness_ms);

/* The encoded key number n of a rule; two columns: a string and a number. */
void kit_key(const struct mr_rule *rule, uint32_t n, struct mr_buf *ret);

/* Appends a partial made of the values. */
void kit_partial(struct mr_parcel *parcel, const struct mr_rule *rule, int64_t start_ms,
                 uint32_t key, const int64_t *values, uint32_t count);

/* A combine over one stream, clicks. */
struct mr_combine *kit_open(const struct mr_rule *rules, uint32_t count, uint32_t shard);
/* Ends bundle seq and fires it, into nothing. */
void kit_advance(struct mr_combine *combine, uint64_t seq, int64_t watermark_ms);

/* The shard a key belongs to. */
uint32_t kit_owner(const struct mr_rule *rule, uint32_t key, uint32_t shards);

/* Slices of a save, each in a buffer of its own. Begins as {0}. */
struct kit_slices {
    struct mr_buf *items;
    uint32_t count;
};

/* One call of mr_combine_save, which must succeed; true: the save is done. */
bool kit_save_slice(struct mr_combine *combine, uint32_t budget, struct kit_slices *ret);
/* A save from begin to end. */
void kit_save(struct mr_combine *combine, uint64_t seq, uint32_t budget, struct kit_slices *ret);
/* A load of the slices of `count` shards from begin to end, with the counters of the first one. */
enum mr_status kit_load(struct mr_combine *combine, const struct mr_combine_load *how,
                        const struct kit_slices *slices, uint32_t count, uint64_t *ret_dropped,
                        struct mr_error *error);
void kit_slices_finish(struct kit_slices *slices);
/* Makes a slice's checksum right again. */
void kit_slice_seal(struct mr_buf *slice);

/* Model. */
struct model_group {
    uint32_t key;
    uint64_t events;
    int64_t sum;
    int64_t min;
    int64_t max;
    uint64_t revision;
};

struct model_window {
    uint32_t rule;
    int64_t start_ms;
    bool closed;
    bool final;
    uint64_t closed_seq;
    uint64_t final_seq;
    struct model_group groups[KIT_KEYS_MAX]; /* in order of first appearance */
    uint32_t group_count;
};

struct model {
    const struct mr_rule *rules;
    uint32_t rule_count;
    struct model_window windows[KIT_WINDOWS_MAX]; /* by rule, then start */
    uint32_t window_count;
    int64_t watermark_ms;
};

void model_merge(struct model *model, uint64_t seq, uint32_t rule, int64_t start_ms, uint32_t key,
                 const int64_t *values, uint32_t count);

/* Called for each pane that the advance fires, in order. */
typedef void (*model_pane)(void *ctx, const struct model_window *window,
                           const struct model_group *group, enum mr_timing timing);
void model_advance(struct model *model, uint64_t seq, int64_t watermark_ms, model_pane pane,
                   void *ctx);
void model_release(struct model *model, uint64_t confirmed_seq);

/* Asserts that the state's numbers are the group's. */
void model_expect_state(const struct mr_rule *rule, const struct model_group *group,
                        const uint8_t *state);
