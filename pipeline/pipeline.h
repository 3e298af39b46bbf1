/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Pipeline: the stations, wired: sequencer → dedup and lift → exchange → combine → flusher. Knows no HTTP.
 *
 * Idea        Every station is a step function that does what it can and returns whether it did anything.
 *             Threads call their station's step and sleep when it did nothing; the simulator calls the same
 *             steps on one thread, in any order.
 *
 *                submit ─MPSC─▶ sequencer ─SPSC─▶ shard i: dedup, lift ─SPSC mesh─▶ shard j: combine
 *                                  │ log                                              │ SPSC
 *                                  ▼ append, sync, dispatch                           ▼
 *                                disk                                  flusher: results, dead letters
 *
 *             A question (mr_ask) travels the same way as a bundle without events, so that every shard answers
 *             as of the same cut, and what was acknowledged before asking is in the answer.
 * Owner       The opener. A submitted batch belongs to the pipeline until its done is called; an asked
 *             question likewise.
 * Threads     submit and ask: any thread. done callbacks run on the sequencer's, a shard's or the flusher's
 *             thread and must not wait. stats: any thread.
 * Errors      open: MR_MISMATCH (streams or rules differ from the data's: the process ends with 78), MR_BUSY
 *             (data directory in use), MR_CORRUPT, MR_IO, MR_NO_MEMORY, with a text.
 */
#include "base/histogram.h"
#include "aggregate/combine.h"
#include "dedup/claims.h"
#include "log/log.h"
#include "pipeline/dead_marks.h"
#include "pipeline/local.h"
#include "pipeline/plan.h"
#include "sink/results.h"

struct mr_pipeline;

/* What became of a redriven event: enum mr_verdict, counted. */
#define MR_REDRIVE_VERDICT_TABLE(X) \
    X(ACCEPTED, "accepted")         \
    X(DUPLICATE, "duplicate")       \
    X(LATE, "late")                 \
    X(REJECTED, "rejected")

enum mr_redrive_verdict {
#define X(name, text) MR_REDRIVE_##name,
    MR_REDRIVE_VERDICT_TABLE(X)
#undef X
        MR_REDRIVE_VERDICTS
};

struct mr_pipeline_options {
    const struct mr_plan *plan;
    struct mr_clock *clock;
    struct mr_log *log;          /* NULL: bounded input without a log */
    const char *log_dir;         /* of it, for readers */
    struct mr_log *dead;         /* dead-letter log; NULL: dead letters are counted only */
    struct mr_log_reader *replay; /* what to replay before going live; NULL: nothing. Taken over */
    /* A shadow: replay is all it does, over a log that may be another process's. The log's CONFIG records change
     * nothing, events of streams that are not configured are passed over and counted, and behind shadow_to_lsn it
     * ends: no clock ticks on, windows that are open stay so. log is NULL, log_dir and disk are of the log read. */
    bool shadow;
    uint64_t shadow_to_lsn;
    const struct mr_record *shadow_first; /* that was read from replay already: what retention removes then is missed;
                                           * NULL: none was. Its payload is the reader's */
    uint64_t shadow_incarnation; /* of that log: its checkpoint says so */
    /* Before this bundle the log is read as a shadow reads it, under this configuration whatever it says
     * (pipeline/promote.h); 0: none of it. */
    uint64_t promoted_seq;
    uint64_t dead_seq;           /* dead letters of bundles up to this one are written already */
    struct mr_results *results;
    struct mr_disk *disk;        /* of checkpoint_dir */
    const char *checkpoint_dir;  /* NULL: no checkpoints (bounded input) */
    int64_t checkpoint_every_ms;
    const struct mr_restored *restored; /* what to begin with (pipeline/restore.h); NULL: nothing, replay is from zero */
    int64_t retain_ms;           /* of the log; INT64_MAX: no bound */
    uint64_t retain_bytes;       /* UINT64_MAX: no bound */
    /* Shared stores, by store of the configuration; NULL: nothing is claimed (a stage on the way to another
     * configuration; what is undecided stays so). */
    struct mr_redis_transport *const *transports;
    struct mr_hash_key key;      /* whose hash all nodes must agree on */
    const struct mr_epoch *epochs; /* by store: what the data directory remembers */
    /* Called on the claimer's thread before the first claim in a new epoch. */
    enum mr_status (*remember)(void *ctx, uint32_t store, const struct mr_epoch *epoch);
    void *remember_ctx;
    uint64_t seed;               /* of tokens' and clients' random parts; 0: the kernel's */
};

enum mr_status mr_pipeline_open(const struct mr_pipeline_options *options, struct mr_pipeline **ret,
                                struct mr_error *error) MR_MUST_CHECK;
/* Everything submitted must be done; threads stopped. NULL is fine. */
void mr_pipeline_close(struct mr_pipeline *pipeline);

/* Threads: one for the sequencer, one for each shard, one for the flusher. */
enum mr_status mr_pipeline_start(struct mr_pipeline *pipeline) MR_MUST_CHECK;
/* Refuses what is submitted from now on (DRAINING), and ends once everything before is acknowledged,
 * processed and flushed; then stops the threads. */
void mr_pipeline_stop(struct mr_pipeline *pipeline);
/* Replay is over: submissions are taken. */
bool mr_pipeline_live(const struct mr_pipeline *pipeline);
/* MR_OK, or why the pipeline stopped for good (out of memory, corrupt log met in replay). */
enum mr_status mr_pipeline_failure(const struct mr_pipeline *pipeline, struct mr_error *ret);

/* Hands a decoded batch over (batch->done, ctx, stream are set). false: the queue is full, the batch is still
 * the caller's. An empty batch (count 0) must not be submitted. */
bool mr_pipeline_submit(struct mr_pipeline *pipeline, struct mr_batch *batch) MR_MUST_CHECK;

enum mr_ask_kind {
    MR_ASK_SCAN,  /* rows of open windows */
    MR_ASK_SEEN,  /* was this id seen */
    MR_ASK_HOT,   /* the heaviest keys of scan.rule: rows as of mr_hot_append */
    MR_ASK_FLUSH, /* results and dead letters of everything before are written */
    MR_ASK_DISCARD, /* as FLUSH; then the mark is appended to the dead-letter log */
    MR_ASK_END,   /* bounded input ends here: watermarks jump to the end of time, then as FLUSH */
    MR_ASK_ADVANCE,    /* nothing older than advance_ms will come of stream, or of one source of it */
    MR_ASK_CHECKPOINT, /* by mr_pipeline_checkpoint alone */
};

/* A question. The asker fills the upper part, keeps the memory alive until done is called, and reads the
 * answers afterwards. */
struct mr_ask {
    enum mr_ask_kind kind;
    void (*done)(struct mr_ask *ask, void *ctx);
    void *ctx;
    struct mr_scan scan;      /* SCAN; HOT: its rule */
    uint32_t stream;          /* SEEN */
    struct mr_fingerprint fp; /* SEEN */
    struct mr_bytes source;   /* ADVANCE; ptr NULL: of the whole stream. Borrowed until done */
    int64_t advance_ms;       /* ADVANCE; afterwards: where the stream's watermark is */
    struct mr_dead_mark mark; /* DISCARD */

    struct mr_scan_result results[MR_SHARDS_MAX]; /* SCAN, HOT: one for each shard; the asker finishes rows */
    uint64_t seq; /* the cut: everything up to this bundle is in the answer */
    bool closed;  /* the pipeline was closed before it could answer */
    /* DISCARD: MR_OK when the mark is durable. CHECKPOINT: MR_OK when it is complete; seq is its bundle. SEEN of a stream
     * with a shared store: MR_AGAIN: it cannot be asked now, or not believed. ADVANCE: MR_LIMIT: further ahead of the
     * clock than max_future; MR_NO_SPACE, MR_IO: the log cannot be written. */
    enum mr_status status;
    uint64_t number;       /* CHECKPOINT: of its manifest */
    void *checkpoint;      /* the pipeline's own */
    struct mr_ask *next;   /* likewise */
    struct mr_ask *previous;
    struct mr_claim_look look;
    bool seen;    /* SEEN */
    int64_t seen_from_ms;
    int64_t seen_to_ms;
    int64_t seen_until_ms;

    _Alignas(64) _Atomic uint32_t shards_left; /* as in a batch */
};

/* false: too many questions at once (503). */
bool mr_pipeline_ask(struct mr_pipeline *pipeline, struct mr_ask *ask) MR_MUST_CHECK;

/* Makes a checkpoint now, of everything acknowledged before; several who ask at a time share one. done is called on the
 * checkpointer's thread, when it is complete or has failed (ask->status). false: too many are waiting. */
bool mr_pipeline_checkpoint(struct mr_pipeline *pipeline, struct mr_ask *ask) MR_MUST_CHECK;

/* Numbers for /metrics and the stream and rule pages: a moment's view, summed over shards. */
struct mr_stream_stats {
    uint64_t received; /* counted at the append */
    uint64_t accepted;
    uint64_t duplicate;
    uint64_t late;
    uint64_t future; /* part of late */
    uint64_t rejected;
    uint64_t pending; /* in the log, not decided yet by a shared store */
    uint64_t local;   /* judged by this node alone: the shared store was away (outage: local) */
    uint64_t observed_duplicates; /* mode observe: counted, not removed */
    uint64_t conflicts;           /* of duplicate: with another content (dedup.conflicts) */
    uint64_t redriven[MR_REDRIVE_VERDICTS]; /* of the above: events of the dead letters that were judged again */
    uint64_t dedup_ids;
    uint64_t dedup_bytes;
    uint64_t dedup_evicted;
    uint64_t dedup_expired;
    double dedup_error; /* bloom: estimated */
    double dedup_fill;
    int64_t watermark_ms; /* INT64_MIN: nothing seen */
};

struct mr_rule_stats {
    uint64_t applied;
    uint64_t filtered;
    uint64_t late;
    uint64_t dropped;
    uint64_t overflow;
    uint64_t windows;
    uint64_t groups;
    uint64_t bytes;
    uint64_t panes;
    uint64_t hot_events; /* lately, as the next: aggregate/hot.h */
    uint64_t hot_heaviest; /* of the heaviest key */
};

struct mr_pipeline_stats {
    uint64_t last_seq;      /* dispatched */
    uint64_t processed_seq; /* combined on every shard */
    uint64_t flushed_seq;   /* in the results store */
    int64_t system_lag_ms;  /* age of the oldest record not yet processed */
    uint64_t bundles;
    uint64_t batches;
    uint64_t refused_ids_full;
    uint64_t refused_disk_full;
    uint64_t refused_log_failed;
    uint64_t refused_store_away;
    uint64_t sent_away_undecided; /* batches whose verdicts came later than the answer */
    uint64_t flush_panes;
    uint64_t flush_commits;
    uint64_t flush_errors;
    uint64_t dead_letters;
    uint64_t dead_segments_removed; /* of their log, by retention */
    uint64_t replayed_bundles;
    uint64_t replayed_events;
    uint64_t shadow_gone;    /* events of streams that are not configured */
    uint64_t shadow_unknown; /* records whose verdicts are in the log, and which are not there themselves */
    uint64_t shadow_lost;    /* records that a GAP stands for */
    uint64_t clock_jumps;
    uint64_t submit_queue; /* batches waiting */
    uint64_t checkpoints;  /* made since open */
    uint64_t checkpoint_failures;
    uint64_t checkpoint_seq;    /* 0: none yet */
    int64_t checkpoint_recorded_ms;
    uint64_t checkpoint_duration_ns;
    uint64_t checkpoint_bytes;  /* of the newest on disk */
    bool checkpoint_broken;     /* no more until a restart: ids could not be written */
};

/* A shared store as its claimer sees it. */
struct mr_store_stats {
    bool used;   /* false: by no stream; the rest says nothing */
    bool strict;
    bool local; /* it is away, and all of its streams are decided by this node alone (outage: local) */
    char reason[256]; /* why not; "" */
    struct mr_claims_stats claims;
};
void mr_pipeline_store_stats(struct mr_pipeline *pipeline, uint32_t store, struct mr_store_stats *ret);

/* The times when ids of the stream were decided by this node alone. */
void mr_pipeline_local(struct mr_pipeline *pipeline, uint32_t stream, struct mr_local *ret);

void mr_pipeline_stream_stats(const struct mr_pipeline *pipeline, uint32_t stream,
                              struct mr_stream_stats *ret);
/* How long after its first sight a duplicate came, in ms: tells which horizon is needed. A sample: the last duplicate
 * of each request stands for all of it; to within half a generation. Adds to ret. */
void mr_pipeline_duplicate_age(const struct mr_pipeline *pipeline, uint32_t stream,
                               struct mr_histogram *ret);
/* Where the rule is: the least of its streams' watermarks. */
int64_t mr_pipeline_rule_watermark(const struct mr_pipeline *pipeline, uint32_t rule);
void mr_pipeline_rule_stats(const struct mr_pipeline *pipeline, uint32_t rule,
                            struct mr_rule_stats *ret);
void mr_pipeline_stats(const struct mr_pipeline *pipeline, struct mr_pipeline_stats *ret);
const struct mr_log *mr_pipeline_log(const struct mr_pipeline *pipeline); /* for its stats; may be NULL */
uint64_t mr_pipeline_dead_lsn(const struct mr_pipeline *pipeline); /* last durable record of the dead-letter log */

/* The simulator's way: no threads; each call is one step of one station; returns whether it did anything.
 * station 0: sequencer, 1..S: shards, S + 1: flusher, S + 2: checkpointer, S + 3: claimer. */
uint32_t mr_pipeline_stations(const struct mr_pipeline *pipeline);
bool mr_pipeline_step(struct mr_pipeline *pipeline, uint32_t station);
/* A hash of dedup and window state at a moment when nothing is under way. */
uint64_t mr_pipeline_state_hash_scan(const struct mr_pipeline *pipeline);
