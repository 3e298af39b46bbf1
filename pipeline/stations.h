/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Stations: the insides of a pipeline, shared by the files of pipeline/ and by nobody else.
 *
 * Idea        One struct a station, each with one owner thread; what several threads touch is a ring, an event
 *             count, or an atomic word named here with its pairing.
 *
 *      sequencer ──in[i]──▶ shard i ──mesh[i][j]──▶ shard j ──out[j]──▶ flusher
 *       │   ▲                  └──────────── saves[i] ──────────────▶ checkpointer
 *       ▼   └─ decided
 *      claimer ◀──▶ Redis                (streams with dedup mode redis only)
 *
 *             A bundle is read by the dedup half of every shard and then by the combine half of every shard.
 *             The sequencer keeps all bundles in a list and frees the oldest once both halves of all shards have
 *             let go, so that closing a pipeline in the middle of anything (the simulator's crash) finds them.
 * Invariants  I1 Every bundle puts exactly one parcel on every mesh ring, in order of dispatch, so the lowest
 *             bundle can always go on (L10).  I2 a shard pops a bundle only when every mesh ring it writes to
 *             has room.  I3 done_seq of a shard is stored after the last parcel of that bundle was pushed to
 *             its flush ring.
 */
#include "aggregate/lift.h"
#include "base/event_count.h"
#include "base/ring.h"
#include "dedup/claims.h"
#include "log/manifest.h"
#include "pipeline/fetch.h"
#include "pipeline/panes.h"
#include "pipeline/pipeline.h"
#include "pipeline/redrive.h"
#include "pipeline/redrives.h"
#include "pipeline/verdicts.h"

#include <pthread.h>

enum mr_step { MR_STEP_IDLE, MR_STEP_BLOCKED, MR_STEP_WORKED }; /* the greater wins when combined */

enum mr_bundle_kind { MR_BUNDLE_EVENTS, MR_BUNDLE_ASK };

/* What the dedup half of one shard leaves for the combine half of the same shard. */
struct mr_bundle_part {
    struct mr_buf dead;
    uint32_t dead_count;
};

struct mr_bundle {
    enum mr_bundle_kind kind;
    uint64_t seq; /* ASK: of the last bundle before it */
    int64_t recorded_ms;
    struct mr_ask *ask;
    struct mr_batch **batches; /* each NULL once its done was called, by the last shard */
    uint32_t batch_count;
    int64_t *watermarks_before; /* by stream */
    int64_t *watermarks_after;
    struct mr_bundle_part *parts; /* by shard; each touched by its shard's thread alone */
    struct mr_bundle *next; /* in the sequencer's list */
    /* Each shard decrements with release when its half is done; the sequencer loads with acquire before it frees.
     * dedup_left 0: every batch was handed to its done callback and is gone. */
    _Atomic uint32_t dedup_left;
    _Atomic uint32_t combine_left;
};

/* Counters of one shard for one stream; written by the shard. */
struct mr_shard_stream {
    mr_counter accepted;
    mr_counter duplicate;
    mr_counter late;
    mr_counter future;
    mr_counter observed;
    mr_counter conflicts; /* of duplicate */
    mr_counter redriven[MR_REDRIVE_VERDICTS]; /* of the above (and of rejected): enum mr_redrive_verdict */
    struct mr_histogram duplicate_age_ms;
    /* For the sequencer's admission: the shard stores room, then judged with release; the sequencer loads judged
     * with acquire, then room. room is then at least as new as judged, so room - (admitted - judged) never
     * promises what is not there. */
    _Atomic uint64_t room;
    _Atomic uint64_t judged;
};

struct mr_shard_rule {
    mr_counter filtered;
    mr_counter late;
};

/* What a shard hands to the checkpointer, in order: ids as they are judged, all the time; for a checkpoint SEALED (every
 * id before the barrier is on the ring before it), then slices of groups, then DONE. The checkpointer frees it. */
enum mr_save_kind { MR_SAVE_IDS, MR_SAVE_SEALED, MR_SAVE_GROUPS, MR_SAVE_DONE };

struct mr_save {
    struct mr_save *next; /* in the shard's list */
    enum mr_save_kind kind;
    uint32_t stream;               /* IDS */
    struct mr_dedup_chunk *chunk;  /* IDS: owned */
    struct mr_buf groups;          /* GROUPS: owned */
    bool failed;                   /* DONE: out of memory on the way */
};

/* A checkpoint under way. The checkpointer owns it; the sequencer, each shard and the flusher fill in their own part
 * when the barrier passes, before they hand on what tells the checkpointer so (a ring, or the question's end). */
struct mr_checkpoint {
    struct mr_ask ask; /* the barrier: it travels like any question */
    struct mr_manifest manifest; /* seq, lsn, recorded_ms: the sequencer's */
    struct mr_buf sequencer;
    struct mr_buf redrives;
    struct mr_buf flusher;
    uint64_t dead_lsn; /* the dead-letter log's last record; the flusher's */
    struct mr_buf *shards; /* counters, by shard */
    struct mr_buf *dedups; /* [shard * streams + stream] */
    /* release by the flusher when everything up to the barrier is stored, acquire by the checkpointer */
    _Atomic bool flushed;
};

enum mr_gather { MR_GATHERING, MR_FIRING, MR_SCANNING, MR_FLUSHING };

struct mr_shard {
    struct mr_pipeline *pipeline;
    uint32_t index;
    struct mr_event_count wake;
    struct mr_ring *in;  /* bundles, from the sequencer */
    struct mr_ring *out; /* mr_flush, to the flusher */

    /* Dedup half. */
    struct mr_dedup **dedup; /* by stream */
    struct mr_lift *lift;
    uint8_t *duplicate; /* scratch, scratch_cap each */
    uint8_t *own;
    uint64_t *contents; /* hashes, where the stream has conflicts detected */
    uint32_t *fresh;
    uint32_t scratch_cap;
    struct mr_parcel **parcels; /* scratch: S */

    /* Combine half. */
    struct mr_combine *combine;
    enum mr_gather gather;
    uint32_t gathered; /* parcels of the current bundle merged so far */
    struct mr_bundle *bundle; /* the current one, once its first parcel is here */
    struct mr_scan_cursor scan;

    /* For checkpoints: pipeline/shard_save.c. */
    struct mr_ring *saves; /* mr_save, to the checkpointer */
    struct mr_save *save_first; /* made, not yet on the ring */
    struct mr_save *save_last;
    struct mr_checkpoint *walking; /* its groups are being saved */

    struct mr_shard_stream *streams;
    struct mr_shard_rule *rules;
    _Atomic uint64_t done_seq; /* release by the shard (I3); acquire by the flusher and stats */
    pthread_t thread;
};

/* Records of a stream whose verdicts are not in the log yet: a shared store says them, in the order of the log. */
struct mr_undecided {
    uint64_t first_lsn; /* none lies below; 0: there are none */
    uint64_t last_lsn;  /* of the stream's last EVENTS record */
    mr_counter events;  /* in them */
};

#define MR_LAG_SLOTS 1024 /* recorded times of the last bundles, for system lag */

/* A producer's word that nothing older will come. */
struct mr_advance {
    bool has;
    uint32_t stream;
    struct mr_bytes source; /* ptr NULL: of the whole stream */
    int64_t time_ms;
};

struct mr_sequencer {
    struct mr_pipeline *pipeline;
    struct mr_event_count wake;
    struct mr_ring *submit; /* batches, from any thread */
    struct mr_ring *asks;   /* questions, from any thread */

    struct mr_batch *held; /* taken off the ring, did not fit the last bundle */
    struct mr_batch **group;
    struct mr_log_entry *entries; /* VERDICTS, and one a batch */
    uint8_t (*headers)[16]; /* of EVENTS payloads */
    uint8_t (*redrive_headers)[MR_REDRIVE_HEADER]; /* of REDRIVE payloads, before those */
    struct mr_redrives redrives; /* the events of the retained log that were redriven */
    struct mr_batch **decided; /* taken off the claimer's ring; their verdicts are not in the log yet */
    uint32_t decided_count;
    _Atomic uint64_t decided_logged; /* batches, since open; release by the sequencer, acquire by the claimer */
    struct mr_buf verdicts; /* the payload for some of them */
    struct mr_undecided *undecided; /* by stream */
    struct mr_local *locals; /* by stream; written under local_lock, which pages take */
    pthread_mutex_t local_lock;
    uint64_t gathered_claimed; /* events in the group that the claimer will get: not yet among the undecided */
    struct mr_watermark *watermarks;
    struct mr_advance advance; /* of the bundle being made */
    struct mr_buf advance_source;
    struct mr_bundle *oldest; /* list of bundles not yet freed */
    struct mr_bundle *newest;
    struct mr_ask *held_ask; /* taken off the ring, waits for room */
    uint64_t *admitted; /* ids, by stream x shard, since open */
    uint64_t seq;
    uint64_t lsn; /* of the last record of seq */
    uint64_t trimmed_lsn; /* what needed_lsn was when the log was last trimmed as far as it goes */
    int64_t recorded_ms;
    int64_t clock_base_ms; /* wall and monotonic time, read together */
    uint64_t clock_base_ns;
    uint64_t tick_checked_ns;
    bool tick_wanted; /* the table is full: expiry may help */
    bool ended;       /* bounded input is over */

    struct mr_log_reader *replay;
    struct mr_record replay_record; /* read ahead: the first of the next bundle */
    bool replay_has_record;
    struct mr_events_decoder *decoder;
    struct mr_fetch *fetch;         /* for what did not find room in waiting */
    struct mr_batch *waiting_first; /* of EVENTS read, their VERDICTS not yet; in order of the log */
    struct mr_batch *waiting_last;
    uint64_t waiting_bytes;
    bool shadow;            /* pipeline.h */
    uint64_t shadow_to_lsn;
    uint64_t shadow_incarnation;
    uint64_t promoted_seq;
    mr_counter shadow_gone;
    mr_counter shadow_unknown;
    mr_counter shadow_lost;
    struct mr_buf replay_config; /* of the CONFIG record that ended replay; empty: the log's end did */
    uint64_t replay_config_seq;

    mr_counter *received; /* by stream */
    mr_counter *rejected;
    _Atomic int64_t *watermark_ms; /* by stream, relaxed: for pages and metrics */
    _Atomic int64_t lag_recorded_ms[MR_LAG_SLOTS]; /* by seq modulo; relaxed */
    _Atomic uint64_t last_seq; /* dispatched; relaxed */
    mr_counter bundles;
    mr_counter batches;
    mr_counter refused[MR_REFUSAL_COUNT];
    mr_counter replayed_bundles;
    mr_counter replayed_events;
    mr_counter clock_jumps;
    pthread_t thread;
};

struct mr_flusher {
    struct mr_pipeline *pipeline;
    struct mr_event_count wake;
    struct mr_flush **held;  /* by shard: popped, not yet due */
    struct mr_flush *first;  /* of the open transaction, kept until its commit, in order */
    struct mr_flush *last;
    uint64_t open_bytes;
    uint64_t opened_ns;
    uint64_t retry_ns;       /* 0: not waiting after a failure */
    uint64_t goal_seq;       /* parcels up to here are being taken */
    uint64_t complete_seq;   /* the open list holds everything up to here */
    bool open;
    uint32_t asks;           /* questions in the open list */
    struct mr_panes gathered; /* of the open list, not yet put; none behind a failure */
    struct mr_buf dead;
    uint64_t dead_seq;       /* bundles up to this one have their dead letters in the log */
    uint64_t dead_record;    /* seq of the dead-letter log itself */
    uint64_t dead_trimmed_lsn; /* what dead_needed_lsn was when that log was last trimmed as far as it goes */
    _Atomic uint64_t confirmed_seq; /* release by the flusher; acquire by shards: rows up to here are stored */
    mr_counter panes;
    mr_counter commits;
    mr_counter errors;
    mr_counter dead_letters;
    mr_counter dead_segments_removed;
    pthread_t thread;
};

struct mr_lane_part {
    struct mr_manifest_part part;
    uint64_t verified; /* of its bytes, read back */
};

/* Ids of one (stream, shard) on disk: parts that are complete, and the one being written. */
struct mr_lane {
    struct mr_lane_part *parts; /* complete and durable, in order */
    uint32_t part_count;
    uint32_t part_cap;
    struct mr_part_writer *writer; /* NULL: none yet */
    uint64_t writer_tag_first;
    uint64_t writer_tag;           /* newest generation in it */
    uint64_t verified;             /* of the writer's bytes */
    struct mr_dedup_chunk *first;  /* appended, not yet synced: needed again if the sync fails */
    struct mr_dedup_chunk *last;
};

enum mr_checkpoint_phase { MR_CHECKPOINT_IDLE, MR_CHECKPOINT_GATHERING };

struct mr_checkpointer {
    struct mr_pipeline *pipeline;
    struct mr_event_count wake;
    struct mr_ring *requests; /* mr_ask, from any thread */
    const char *dir;          /* NULL: no checkpoints are made */
    enum mr_checkpoint_phase phase;
    struct mr_checkpoint *current;
    bool failed;              /* the current one: what comes for it is thrown away */
    bool asked;               /* its barrier is on its way */
    uint32_t sealed;          /* shards that are */
    uint32_t done;
    struct mr_part_writer **groups; /* by shard, of the current one */
    struct mr_save **stuck;   /* by shard: taken off the ring, the disk had no room for it */
    struct mr_ask *waiting;   /* for the next one to begin; a list through next */
    struct mr_ask *served;    /* by the current one */
    struct mr_lane *lanes;    /* [shard * streams + stream] */
    uint64_t *contents_from;  /* by stream, where contents are kept: those in parts of lower numbers count no more */
    uint64_t pending_bytes;   /* of chunks in lanes, not yet synced */
    struct mr_manifest kept[2]; /* the one before and the newest; number 0: none */
    uint64_t next_manifest;
    uint64_t next_part;
    uint64_t part_incarnation; /* of this run's parts: an old file of the same number is not one of them */
    uint64_t every_ns;
    bool lanes_moved;         /* since the current one began: what it noted of parts may not hold */
    uint64_t begun_ns;        /* of the current or last one */
    uint64_t retry_ns;        /* 0: not waiting after a failure */
    _Atomic bool broken;      /* relaxed: ids could not be kept; no more checkpoints until a restart */
    uint64_t dead_lsns[2]; /* of the one before and the newest of this run; 0: none */
    _Atomic uint64_t dead_needed_lsn; /* as needed_lsn, of the dead-letter log: relaxed, it goes with nothing else */
    _Atomic uint64_t needed_lsn; /* release when a checkpoint is complete, acquire by the sequencer: log below may go */
    mr_counter checkpoints;
    mr_counter failures;
    mr_counter seq;
    mr_counter recorded_ms;
    mr_counter duration_ns;
    mr_counter bytes; /* on disk, of the newest */
    pthread_t thread;
};

/* One stream whose ids a shared store decides. */
struct mr_claimer_stream {
    struct mr_batch *first; /* from the sequencer, in order of the log, not yet put */
    struct mr_batch *last;
    uint64_t cursor_lsn; /* 0, or: the records from here… */
    uint64_t shed_lsn;   /* …to here come before them, and are read from the log */
    struct mr_fetch *fetch;
    struct mr_claim_work *stuck; /* the claims had no room for it */
    uint32_t claimed_as;         /* its index among the store's streams */
    uint64_t under_way_bytes;    /* of batches put and not given back */
};

/* This node's claims being asserted again, from its own log. */
struct mr_assertion {
    bool on;
    uint64_t need; /* of the watch, when it began */
    struct mr_log_reader *reader; /* of VERDICTS */
    struct mr_fetch *fetch;
    struct mr_buf payload;
    struct mr_verdicts_reader entries;
    struct mr_claim_work *stuck;
    uint32_t under_way;
    struct mr_claim_work *first; /* those under way */
    bool local;         /* only what this node decided by itself */
    int64_t covers_ms;  /* local_since_ms, when it began */
    bool waits;         /* for… */
    uint64_t wait_for;  /* …so many decided batches to be in the log: then it begins… */
    uint64_t wait_need; /* …as long as the watch wants the same */
};

struct mr_claimer_store {
    struct mr_claims *claims; /* NULL: no stream needs it */
    bool outage;        /* what waits was sent away, and new events get the stream's outage policy */
    _Atomic bool local; /* streams with outage local are decided here; the claimer's; relaxed: for pages */
    bool was_strict;    /* since open */
    int64_t local_since_ms; /* recorded time since when some were, that the store does not know of; INT64_MAX: none */
    uint64_t away_ns;   /* since when it is not strict; 0: it is */
    uint64_t progress_ns; /* when a verdict came, or nothing waited for one */
    struct mr_epoch epoch; /* that the data directory remembers */
    struct mr_assertion assertion;
    uint64_t horizon_ms; /* the longest of its streams */
    struct mr_ask *looking; /* questions under way */
    char reason[256];   /* under the claimer's lock */
    _Atomic uint32_t state; /* enum mr_watch_state; relaxed: for pages */
    struct mr_claims_stats stats; /* under the claimer's lock */
};

struct mr_claimer {
    struct mr_pipeline *pipeline;
    struct mr_event_count wake;
    struct mr_ring *in;  /* batches that are in the log, from the sequencer */
    struct mr_ring *out; /* decided ones, to the sequencer */
    struct mr_ring *asks; /* questions after ids, from any thread */
    struct mr_batch *held_first; /* decided, the ring has no room */
    struct mr_batch *held_last;
    uint32_t held;    /* so many */
    uint64_t decided; /* batches, since open: they are held, or were pushed to out */
    struct mr_claimer_store *stores;
    struct mr_claimer_stream *streams; /* by stream of the plan */
    _Atomic bool *refuses; /* by stream; relaxed: the outage policy is reject, and there is an outage */
    uint64_t shown_ns;
    bool begun;          /* replay is over, and what it left was taken over */
    _Atomic bool in_hand; /* between in and out there is something; release by the claimer, acquire by stop */
    pthread_mutex_t lock; /* of what pages show: texts and numbers */
    enum mr_status (*remember)(void *ctx, uint32_t store, const struct mr_epoch *epoch);
    void *remember_ctx;
    mr_counter shed;     /* batches sent away undecided */
    pthread_t thread;
};

struct mr_pipeline {
    const struct mr_plan *plan;
    struct mr_clock *clock;
    struct mr_disk *disk;
    const char *log_dir;
    struct mr_log *log;
    struct mr_log *dead;
    struct mr_results *results;
    struct mr_sequencer sequencer;
    struct mr_shard *shards;
    struct mr_ring **mesh; /* [from * S + to] */
    struct mr_flusher flusher;
    struct mr_checkpointer checkpointer;
    struct mr_claimer claimer;
    struct mr_log_retention retention; /* needed_lsn is the checkpointer's to say */
    int64_t retain_ms;
    struct mr_ask stop_flush; /* the questions of mr_pipeline_stop, and what tells their end */
    struct mr_ask stop_checkpoint;
    struct mr_event_count stop_done;
    bool threads;
    _Atomic bool live;     /* release when replay is over; acquire by mr_pipeline_live */
    _Atomic bool stopping; /* relaxed: a later look sees it */
    _Atomic bool quit;     /* release by stop before it signals; acquire in the threads' loops */
    _Atomic bool failed;   /* release after failure is written (claimed by fail_claim); acquire by readers */
    _Atomic bool fail_claim;
    struct mr_error failure;
};

/* Blobs of a manifest. */
enum mr_blob_kind {
    MR_BLOB_CONFIG = 1, /* YAML of streams and rules */
    MR_BLOB_RULES,      /* by rule: generation, floor */
    MR_BLOB_SEQUENCER,
    MR_BLOB_FLUSHER,
    MR_BLOB_SHARD, /* by shard: counters */
    MR_BLOB_DEDUP, /* by shard and stream: dedup/dedup.h */
    MR_BLOB_REDRIVES, /* pipeline/redrives.h; absent in checkpoints of before there were redrives */
    MR_BLOB_CONTENTS, /* by stream, absent where contents are not kept: contents_from */
};
enum mr_part_kind {
    MR_PART_IDS = 1,
    MR_PART_GROUPS,
    MR_PART_CONTENTS, /* ids with contents: blocks of n ids, 16 bytes each, then n contents, 8 bytes each */
};
static inline bool mr_part_has_ids(const struct mr_manifest_part *part) {
    return part->id.kind == MR_PART_IDS || part->id.kind == MR_PART_CONTENTS;
}

static inline struct mr_ring *mr_mesh(const struct mr_pipeline *p, uint32_t from, uint32_t to) {
    return p->mesh[from * p->plan->shards + to];
}

/* The pipeline cannot go on: the first one's text is kept, and every station stops working. */
void mr_pipeline_fail(struct mr_pipeline *pipeline, enum mr_status status, const char *text);

/* pipeline/bundle.c */
struct mr_bundle *mr_bundle_open(const struct mr_plan *plan, enum mr_bundle_kind kind,
                                 uint32_t batch_count);
void mr_bundle_close(struct mr_bundle *bundle, const struct mr_plan *plan);
/* Gives a batch back to who submitted it. */
void mr_batch_refuse(struct mr_batch *batch, enum mr_refusal refusal);

/* pipeline/sequencer.c */
enum mr_status mr_sequencer_open(struct mr_pipeline *pipeline, struct mr_log_reader *replay,
                                 struct mr_error *error) MR_MUST_CHECK;
void mr_sequencer_close(struct mr_sequencer *s);
enum mr_step mr_sequencer_step(struct mr_sequencer *s);
/* How long the thread may sleep when there is nothing to do. */
uint64_t mr_sequencer_sleep_ns(const struct mr_sequencer *s);
/* Room for one more bundle on every shard's ring. */
bool mr_sequencer_has_room(const struct mr_sequencer *s);
/* Counts the ids of a batch that will be dispatched, for the room of the batches behind it. */
void mr_sequencer_admit(struct mr_sequencer *s, const struct mr_batch *batch);
/* Takes over batches and hands them to every shard as the next bundle, sequencer's seq and recorded_ms set. */
enum mr_status mr_sequencer_dispatch(struct mr_sequencer *s, struct mr_batch **batches,
                                     uint32_t count) MR_MUST_CHECK;

/* pipeline/sequencer_save.c */
void mr_sequencer_seal(struct mr_sequencer *s, struct mr_checkpoint *checkpoint);
enum mr_step mr_sequencer_trim(struct mr_sequencer *s);

/* pipeline/sequencer_time.c */
/* The recorded time of the next bundle: the wall clock, but never back, and ahead by no more than monotonic time and some
 * slack: a jump ahead would expire every id and close every window. */
int64_t mr_sequencer_now(struct mr_sequencer *s);
/* The bundle's watermarks before and after its events; arrival times become recorded time. */
enum mr_status mr_sequencer_move_watermarks(struct mr_sequencer *s, struct mr_bundle *bundle) MR_MUST_CHECK;
/* pipeline/advance.c: a producer says that nothing older will come. Appends the record, sends its bundle and answers. */
void mr_sequencer_advance(struct mr_sequencer *s, struct mr_ask *ask);
/* What a WATERMARK record of the bundle being made says, or said. */
enum mr_status mr_sequencer_read_advance(struct mr_sequencer *s, const struct mr_record *record,
                                         struct mr_error *error) MR_MUST_CHECK;
enum mr_status mr_sequencer_apply_advance(struct mr_sequencer *s) MR_MUST_CHECK;
/* The batch's ids were decided by this node alone. */
void mr_sequencer_note_local(struct mr_sequencer *s, const struct mr_bundle *bundle, const struct mr_batch *batch);
/* Whether the clock alone would close or finish a window, or fire early panes, by now_ms. */
bool mr_sequencer_due(const struct mr_sequencer *s, int64_t now_ms);

/* pipeline/sequencer_claims.c: events whose ids a shared store decides. */
/* Batches that the claimer has decided, as many as fit a bundle, into the group, and what the log says of them into
 * verdicts. They stay in decided until mr_sequencer_decided_done. */
uint32_t mr_sequencer_take_decided(struct mr_sequencer *s);
void mr_sequencer_decided_done(struct mr_sequencer *s, uint32_t count);
/* The log has failed: nobody will know. */
void mr_sequencer_abandon_decided(struct mr_sequencer *s);
/* A batch that was just appended goes to the claimer, whose ring has room. */
void mr_sequencer_hand_over(struct mr_sequencer *s, struct mr_batch *batch);
void mr_undecided_add(struct mr_undecided *undecided, uint64_t lsn, uint32_t events);
void mr_undecided_remove(struct mr_undecided *undecided, uint64_t lsn, uint32_t events);
/* The first record that a start from this state may read. */
uint64_t mr_sequencer_needed_lsn(const struct mr_sequencer *s);

/* pipeline/claimer.c */
struct mr_pipeline_options;
enum mr_status mr_claimer_open(struct mr_pipeline *pipeline, const struct mr_pipeline_options *options,
                               struct mr_error *error) MR_MUST_CHECK;
void mr_claimer_close(struct mr_claimer *c);
enum mr_step mr_claimer_step(struct mr_claimer *c);
/* Sleeps until the network or the sequencer has something. value: of wake, before the step. */
void mr_claimer_sleep(struct mr_claimer *c, uint32_t value);
/* Nothing is on its way between the sequencer and the sequencer. Any thread. */
bool mr_claimer_is_idle(const struct mr_claimer *c);
/* Nothing of this stream is taken now. Any thread. */
bool mr_claimer_refuses(const struct mr_claimer *c, uint32_t stream);
/* pipeline/claim_work.c: a batch whose ids are being claimed. */
struct mr_claim_work {
    struct mr_claim claim;
    struct mr_batch *batch;
    uint32_t *order;
    struct mr_claim_work *next; /* of an assertion that is under way */
    struct mr_claim_work *previous;
};
/* taken: not NULL: only the others, again. NULL: no memory; the batch stays the caller's. */
struct mr_claim_work *mr_claim_work_open(struct mr_batch *batch, const uint8_t *taken);
void mr_claim_work_close(struct mr_claim_work *work); /* not the batch */
/* pipeline/claimer_assert.c: one step of asserting the store's claims again; returns whether it did anything. */
bool mr_claimer_assert(struct mr_claimer *c, uint32_t store);
/* Claims of the store that are not decided are taken back and answered by the outage policy; the log has them. */
void mr_claimer_shed(struct mr_claimer *claimer, uint32_t store);
void mr_assertion_end(struct mr_assertion *a);
/* The claims have given this one back. */
void mr_assertion_back(struct mr_assertion *a, struct mr_claim_work *work);
/* The claims are closed: what was under way goes as well. */
void mr_assertion_forget(struct mr_assertion *a);

/* pipeline/replay.c: one bundle from the log; MR_END when there is none left. */
enum mr_status mr_replay_next(struct mr_sequencer *s, struct mr_error *error) MR_MUST_CHECK;
/* Batches that wait for their verdicts are let go. */
void mr_replay_forget(struct mr_sequencer *s);

/* pipeline/shadow.c: what replay does otherwise there. As mr_log_reader_next; MR_END behind what is to be replayed. */
enum mr_status mr_shadow_record(struct mr_sequencer *s, struct mr_error *error) MR_MUST_CHECK;
/* The configuration that the log goes on with. MR_MISMATCH: verdicts come from elsewhere under it. */
enum mr_status mr_shadow_config(const struct mr_sequencer *s, struct mr_error *error) MR_MUST_CHECK;
/* A record of EVENTS, or the verdicts of one, could not be taken, for that reason (of verdicts MR_OK: their stream
 * asks no store). MR_OK: it is passed over, and counted. Else error says why not. */
enum mr_status mr_shadow_events(struct mr_sequencer *s, enum mr_status status, uint32_t events) MR_MUST_CHECK;
enum mr_status mr_shadow_verdicts(struct mr_sequencer *s, enum mr_status status, uint32_t events,
                                  struct mr_error *error) MR_MUST_CHECK;

/* pipeline/shard.c */
enum mr_status mr_shard_open(struct mr_pipeline *pipeline, uint32_t index,
                             struct mr_error *error) MR_MUST_CHECK;
void mr_shard_close(struct mr_shard *shard);
enum mr_step mr_shard_step(struct mr_shard *shard);

/* pipeline/flusher.c */
enum mr_status mr_flusher_open(struct mr_pipeline *pipeline, uint64_t dead_seq,
                               struct mr_error *error) MR_MUST_CHECK;
void mr_flusher_close(struct mr_flusher *f);
enum mr_step mr_flusher_step(struct mr_flusher *f);
uint64_t mr_flusher_sleep_ns(const struct mr_flusher *f);

/* pipeline/dead_retention.c: one old segment of the dead-letter log goes, if one may and should. */
enum mr_step mr_flusher_trim_dead(struct mr_flusher *f);

/* pipeline/shard_judge.c: verdicts of this shard's events of the batch, and what is new into the lift. */
enum mr_status mr_shard_judge(struct mr_shard *shard, struct mr_bundle *bundle,
                              struct mr_batch *batch) MR_MUST_CHECK;

/* pipeline/conflicts.c: the same id with another content (dedup.conflicts). */
/* Hashes of the contents of order[0..count) into the shard's scratch, which has room. */
void mr_conflicts_hash(struct mr_shard *shard, const struct mr_batch *batch, const uint32_t *order, uint32_t count);
/* Events that the shard's scratch says are conflicts become dead letters, besides being duplicates. */
void mr_conflicts_keep(struct mr_shard *shard, struct mr_bundle *bundle, const struct mr_batch *batch,
                       const uint32_t *order, uint32_t count);

/* pipeline/shard_save.c: the shard's part in checkpoints. */
/* What was made goes on the ring as far as there is room; false: something is left. */
bool mr_shard_push_saves(struct mr_shard *shard);
/* Chunks that are complete (or all) are on their way. */
enum mr_status mr_shard_keep_ids(struct mr_shard *shard, bool all) MR_MUST_CHECK;
/* The barrier passes the dedup half. */
enum mr_status mr_shard_seal(struct mr_shard *shard, struct mr_checkpoint *checkpoint) MR_MUST_CHECK;
/* One slice of the walk. */
enum mr_step mr_shard_walk(struct mr_shard *shard);
void mr_save_close(struct mr_save *save); /* NULL is fine */

/* pipeline/checkpoint_switch.c: everything of the current one is durable, its manifest is written and read back. */
enum mr_status mr_checkpoint_switch(struct mr_checkpointer *c, struct mr_error *error) MR_MUST_CHECK;
/* It takes the place of the one before, and the oldest goes. */
void mr_checkpoint_retire(struct mr_checkpointer *c);
/* A manifest must not outlive its parts: first it goes, durably. */
enum mr_status mr_checkpoint_discard(struct mr_checkpointer *c, uint64_t number) MR_MUST_CHECK;

/* pipeline/checkpointer.c */
struct mr_restored;
enum mr_status mr_checkpointer_open(struct mr_pipeline *pipeline, const char *dir,
                                    const struct mr_restored *restored,
                                    struct mr_error *error) MR_MUST_CHECK;
void mr_checkpointer_close(struct mr_checkpointer *c);
enum mr_step mr_checkpointer_step(struct mr_checkpointer *c);
uint64_t mr_checkpointer_sleep_ns(const struct mr_checkpointer *c);

/* pipeline/lanes.c: ids on disk. */
/* A part that nothing counts on. What cannot be removed now is removed at the next start. */
void mr_discard_part(const struct mr_checkpointer *c, uint64_t number);
/* Takes the chunk over in every case. MR_NO_SPACE: nothing happened, *chunk is still the caller's (try again). MR_IO: ids
 * are lost to the disk. */
enum mr_status mr_lane_append(struct mr_checkpointer *c, uint32_t shard, uint32_t stream,
                              struct mr_dedup_chunk *chunk, struct mr_error *error) MR_MUST_CHECK;
/* Everything appended is durable; lanes_moved when some of it lies in another part than before. */
enum mr_status mr_lanes_sync(struct mr_checkpointer *c, struct mr_error *error) MR_MUST_CHECK;
/* The parts of a lane as they are now go into the manifest; those of forgotten generations go. */
enum mr_status mr_lane_list(struct mr_checkpointer *c, uint32_t shard, uint32_t stream,
                            uint64_t first_generation, struct mr_manifest *ret) MR_MUST_CHECK;
/* From where on a part's bytes have not been read back yet; and: all of them have. */
uint64_t mr_lane_verified(struct mr_checkpointer *c, const struct mr_manifest_part *part);
void mr_lanes_verified(struct mr_checkpointer *c);
/* A part of an earlier run, whole. */
enum mr_status mr_lane_adopt(struct mr_checkpointer *c, uint32_t shard, uint32_t stream,
                             const struct mr_manifest_part *part) MR_MUST_CHECK;
void mr_lanes_close(struct mr_checkpointer *c);
