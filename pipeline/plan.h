/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Plan: a configuration compiled for the stations: schemas, rules, watermark and dedup options.
 *
 * Owner       Whoever opens it; constant and shared afterwards. Borrows the configuration.
 * Errors      MR_INVALID (with a text) for paths the schema refuses, MR_NO_MEMORY.
 */
#include "aggregate/rule.h"
#include "aggregate/watermark.h"
#include "config/config.h"
#include "dedup/dedup.h"
#include "event/decode.h"

struct mr_plan_stream {
    struct mr_bytes name;
    struct mr_schema *schema;
    struct mr_schema *schema_ce; /* the same columns, and what CloudEvents require */
    struct mr_watermark_options watermark;
    struct mr_dedup_options dedup; /* of one shard */
    struct mr_secret contents;     /* of hashes of contents (dedup.contents) */
    bool observe;                  /* duplicates are counted, not removed */
    bool claimed;                  /* a shared store decides: config->stores[store] */
    bool local;                    /* and while it is away, this node's own table of the ids that it has counted */
    uint32_t store;
    uint32_t source_column; /* a watermark for each of its values; MR_NO_COLUMN: one for all */
    uint64_t partners; /* bit k: some rule reads stream k besides this one */
};

struct mr_plan {
    const struct mr_config *config;
    struct mr_plan_stream *streams;
    struct mr_bytes *stream_names;
    uint32_t stream_count;
    struct mr_rule *rules;
    uint32_t rule_count;
    uint32_t shards;
    bool bounded;
    uint64_t *generations; /* by rule: sink/results.h */
    struct mr_lookup **tables;         /* by lookup of the configuration */
    struct mr_expr_lookup *lookups;
    struct mr_arena arena; /* texts made for messages */
    struct mr_buf state_text; /* mr_config_print_state: what CONFIG records and checkpoints hold */
};

/* bounded: `millrace run`, the watermark waits for the end of the input. */
enum mr_status mr_plan_open(const struct mr_config *config, const struct mr_hash_key *key, bool bounded,
                            struct mr_plan **ret, struct mr_error *error) MR_MUST_CHECK;
void mr_plan_close(struct mr_plan *plan); /* NULL is fine */

/* Slots of a shard's ring to the flusher: a power of two. */
uint32_t mr_plan_flush_ring(const struct mr_config *config);

/* One line of the memory sum that `millrace check` prints. */
struct mr_plan_memory {
    char holder[64];
    uint64_t bytes;
};

/* Fills up to cap lines; returns how many. */
uint32_t mr_plan_memory_sum(const struct mr_config *config, struct mr_plan_memory *ret, uint32_t cap);
