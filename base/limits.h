/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Limits: every bound that is not in the configuration, in one place, with its reason.
 */
#include <stdint.h>

/* Configuration */
#define MR_STREAMS_MAX 64
#define MR_RULES_MAX 256
#define MR_STORES_MAX 8
#define MR_STORE_NODES_MAX 32
#define MR_RULE_METRICS_MAX 64
#define MR_RULE_KEYS_MAX 8
#define MR_RULE_INPUTS_MAX 8     /* streams of one rule */
#define MR_ID_PARTS_MAX 4
#define MR_FIELDS_MAX 128       /* columns of one stream: projected fields, expressions, and the fields those use */
#define MR_DERIVED_MAX 32       /* derived fields of one stream: bits of a word */
#define MR_PATH_DEPTH_MAX 8     /* data.order.id has 3 */
#define MR_NAME_MAX 64          /* streams, rules, metrics, tokens: [a-z_][a-z0-9_-]* in bytes */
#define MR_SHARDS_MAX 64

/* Events */
#define MR_JSON_DEPTH_MAX 32
#define MR_ID_LEN_MAX 1024      /* bytes, after unescaping */
#define MR_KEY_TEXT_MAX 500     /* bytes of one group_by value; over it the event is rejected (bad_key) */
#define MR_KEY_LEN_MAX 4096     /* of an encoded group key: MR_RULE_KEYS_MAX x (3 + MR_KEY_TEXT_MAX) fit */
#define MR_ERRORS_MAX 100       /* listed in one answer */
#define MR_TIME_MIN_MS INT64_C(946684800000)   /* 2000-01-01T00:00:00Z, the first accepted event time */
#define MR_TIME_MAX_MS INT64_C(4102444800000)  /* 2100-01-01T00:00:00Z, the first refused */

/* Bundles: a bundle closes at either bound; a single larger batch makes a bundle of its own. */
#define MR_BUNDLE_BYTES_MAX (4u << 20)
#define MR_BUNDLE_EVENTS_MAX 65536u
#define MR_BUNDLE_BATCHES_MAX 1024u

/* Queues, in messages. The bytes behind them are bounded by limits.in_flight. */
#define MR_SUBMIT_RING 4096
#define MR_CLAIM_RING 4096 /* batches on their way to the claimer */
#define MR_CLAIMS_BYTES_MAX (64u << 20)     /* of ids and commands under way, by store */
#define MR_CLAIM_BATCHES_BYTES_MAX (32u << 20) /* of batches read from the log to be claimed, by stream */
#define MR_SHARD_RING 64
#define MR_EXCHANGE_RING 128 /* more than MR_SHARD_RING, so that a shard's bundles always fit */
#define MR_FLUSH_RING 64         /* slices of panes, at least; enough for the panes of one window of the largest rule, */
#define MR_FLUSH_RING_MAX 1024   /* so that closing it does not hold the shard up, but no more than this */
#define MR_ASK_RING 128
#define MR_SAVE_RING 256 /* chunks of ids and slices of groups on their way to disk: 64 KiB each */

/* Slices, in groups, of firing and scanning between two looks at the rings. */
#define MR_SLICE_GROUPS 1024u

/* Event bytes may be read (never used) this far behind their end by vector loads. */
#define MR_PADDING 64
