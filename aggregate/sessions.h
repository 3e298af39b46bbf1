/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Sessions: the session windows of one rule on one shard: merges proto-sessions, fires panes, answers scans.
 *
 * Idea        A session of a key is a run of events less than gap apart: [first event, last event + gap). Lift makes
 *             a proto-session of what one bundle has of a key; here it meets the sessions that are there, and whatever
 *             it overlaps becomes one. Merging moves a session's start, which names its row in the results store: what
 *             was said of a start that is gone is taken back (a retraction).
 *
 *                  before        [ A: fired )          [ B: open )
 *                  merged               [ proto  ······· )
 *                  after         [ A ∪ proto ∪ B                  )     B's row, if it had one, is retracted;
 *                                                                       A's start, and so A's row, lives on
 *
 *              merge … merge → advance(seq, watermark, recorded time) → fire(budget) … → released later
 *
 * Input       A partial: window_start_ms is the first event's time; its state begins with the mr_session_extent, whose
 *             end_ms is last event + gap; behind it the encoded metrics. Lift guarantees that no event of it is late by
 *             its own [t, t + gap), and that it is at most window.size_ms long. So a start is never that of a FINAL
 *             session, and (start, key) is unique among all that are there.
 * Merging     [s, e) overlaps when it shares a moment: touching ends do not. FINAL sessions take nothing. No session is
 *             longer than window.size_ms: candidates are taken in order of start, each that would make the result so
 *             far too long stays apart. Then sessions of a key may overlap, and how the events are divided depends on
 *             the order of bundles, but for one log it is always the same.
 * States
 *                     ┌────── merged with what ends later ─────┐
 *                     ▼                                        │
 *                   OPEN ── end ≤ watermark: ON_TIME ──▶ CLOSED (late data) ── end + lateness ≤ watermark ──▶ FINAL
 *
 *             One that is made of late data below the watermark begins CLOSED, and its panes are LATE.
 * Firing      After each bundle: what is retracted; LATE panes of CLOSED sessions that changed (trigger.late; else one
 *             when it is FINAL, if it changed after its last one); a pane at once of any session that was fired before
 *             and now reaches elsewhere, because the store tells by a row's end when it is final; EARLY panes by
 *             early_count and early_ms, changed sessions only; ON_TIME panes of those that close now, in order of (end,
 *             start, key). A pane for a start whose row is another's (swallowed and begun again in one bundle) takes
 *             the row over: no retraction, and it fires whatever the trigger. At most one pane for a (start, key[,
 *             index]) and bundle, so the revision (the bundle's seq) tells all that was said of it apart.
 * Panes       A merged session continues the greatest pane.index. DISCARDING: each pane is a row of its own, whose key
 *             ends with its index; a session with nothing new fires nothing. A retraction names each of the rows, and
 *             what these held is part of the next pane of what swallowed them: so every event is in exactly one row.
 *             For that a second block per session sums up what its rows hold. (When sessions merge and the one whose
 *             start lives on had the lesser index, its rows are retracted too: indexes of one start have no holes.)
 * Bounds      groups_max and groups_bytes over OPEN and CLOSED sessions, the latter with sketches, keys and index.
 * Units       Event time and recorded time in ms; budgets in sessions.
 * Owner       One shard thread. The rule outlives the sessions.
 * Errors      MR_FULL: nothing has changed; it is for the caller to take the overflow key or to drop. MR_NO_MEMORY: the
 *             caller stops the process.
 * Cost        merge: O(log n) and O(log n) for each swallowed session; fire: O(log n) a session. Nothing is O(n) but
 *             close and what is named scan, in slices. A session takes about 250 B and its states, a key 50 B and
 *             its bytes.
 * Invariants  I1 one pane or retraction for each (start, key[, index]) and bundle.  I2 non-FINAL sessions of a key that
 *             overlap would be too long as one.  I3 stats.bytes is a function of the sessions, not of their history,
 *             but for what sketches have on the heap (mr_metric_heap), which may be less after a load.
 * Sources     Akidau et al., The Dataflow Model, 2015 (sessions, merging windows, retractions); Litwin, 1980 (linear
 *             hashing); Seidel and Aragon, 1996 (treaps); Cormen et al., chapter 14 (interval trees).
 */
#include "aggregate/combine.h"

struct mr_sessions;
struct mr_session;

struct mr_sessions_stats {
    mr_counter sessions; /* OPEN and CLOSED, as the next two */
    mr_counter keys;
    mr_counter bytes;
    mr_counter finals;      /* FINAL and not released */
    mr_counter panes;       /* fired since open; retractions not counted */
    mr_counter retractions; /* likewise */
    mr_counter swallowed;   /* sessions that became part of another, since open */
};

/* The rule's window is MR_WINDOW_SESSION with 0 < gap_ms <= size_ms, its metrics begin at mr_rule_prefix. */
enum mr_status mr_sessions_open(const struct mr_rule *rule, uint32_t shard,
                                struct mr_sessions **ret) MR_MUST_CHECK;
void mr_sessions_close(struct mr_sessions *sessions); /* NULL is fine */

/* Merges the partial under a key that may be another than its own; key_hash is mr_hash64(key, rule->key_seed).
 * MR_FULL: over a bound, and the partial would be a session of its own. The overflow group is never full: its sessions
 * may exceed the bounds, as many as fit apart between the final boundary and the newest event. */
enum mr_status mr_sessions_merge(struct mr_sessions *sessions, uint64_t seq, int64_t recorded_ms,
                                 struct mr_partial *partial, uint64_t key_hash,
                                 struct mr_bytes key) MR_MUST_CHECK;

/* Ends bundle seq: event time moves to watermark_ms, recorded time to recorded_ms; neither ever goes back. */
void mr_sessions_advance(struct mr_sessions *sessions, uint64_t seq, int64_t watermark_ms, int64_t recorded_ms);
/* Fires sessions until *budget is used up or the bundle has fired; *budget becomes what is left. MR_NO_MEMORY also when
 * flush->panes has failed. */
enum mr_status mr_sessions_fire(struct mr_sessions *sessions, uint32_t *budget, struct mr_flush *flush,
                                bool *ret_done) MR_MUST_CHECK;

/* The panes of all sessions that have a row, as they stand, with timing and revision of their last: for a store that has
 * lost newer ones, and with them those before. OPEN ones too, for a row that is not there cannot be taken back when its
 * session is swallowed; what came since its last pane is in it. Between bundles, up to budget sessions a call; false: that
 * was all, and the next call begins anew. DISCARDING: nothing is said; mr_sessions_rows_scan says which rows there are.
 * Without memory flush->panes has failed. */
bool mr_sessions_fire_again(struct mr_sessions *sessions, uint32_t budget, struct mr_flush *flush);

/* The place of each row that a session has, OPEN and CLOSED ones. Between bundles. MR_NO_MEMORY. */
typedef void (*mr_sessions_row)(void *ctx, int64_t start_ms, struct mr_bytes key);
enum mr_status mr_sessions_rows_scan(struct mr_sessions *sessions, mr_sessions_row visit, void *ctx) MR_MUST_CHECK;

/* As mr_combine_say_left; budget in sessions looked at. */
enum mr_status mr_sessions_say_left(struct mr_sessions *sessions, uint64_t seq, uint32_t budget,
                                    struct mr_flush *flush, bool *ret_done) MR_MUST_CHECK;

/* As mr_combine_release; a save under way is no hindrance. *budget becomes what is left. */
bool mr_sessions_release(struct mr_sessions *sessions, uint64_t confirmed_seq, uint32_t *budget);

/* The recorded time at which an EARLY pane is due; INT64_MAX: none. */
int64_t mr_sessions_next_due(const struct mr_sessions *sessions);
/* The least watermark at which a session closes or becomes FINAL; INT64_MAX: none (or at the end of time). */
int64_t mr_sessions_next_watermark(const struct mr_sessions *sessions);
const struct mr_sessions_stats *mr_sessions_stats(const struct mr_sessions *sessions);

/* As mr_combine_scan: between bundles; no merge, advance or fire before the scan is done. DISCARDING: a session's row
 * is what its next pane would be, if there is anything in it. */
bool mr_sessions_scan(struct mr_sessions *sessions, const struct mr_scan *scan, struct mr_scan_cursor *cursor,
                      uint32_t budget, struct mr_scan_result *result);
void mr_sessions_scan_stop(struct mr_sessions *sessions, struct mr_scan_cursor *cursor);

/* Saving, as mr_combine_save: all OPEN and CLOSED sessions as they were at the end of bundle seq. A slice is a
 * self-contained piece, a multiple of 8 bytes long. */
void mr_sessions_save_begin(struct mr_sessions *sessions, uint64_t seq);
enum mr_status mr_sessions_save(struct mr_sessions *sessions, uint32_t budget, struct mr_buf *ret,
                                bool *ret_done) MR_MUST_CHECK;
bool mr_sessions_saving(const struct mr_sessions *sessions);
size_t mr_sessions_save_waiting(const struct mr_sessions *sessions);
void mr_sessions_save_stop(struct mr_sessions *sessions);

/* Loading, as mr_combine_load, into sessions just opened: begin, slices of all old shards in any order, end. The rule
 * has the same keys, window and metrics as the one that was saved, and is DISCARDING if that was; other settings may
 * differ. Sessions that are FINAL now are left out, but for those with something unsaid (mr_sessions_say_left).
 * Errors      MR_CORRUPT: not a slice of this seq, or not what save can have written; MR_MISMATCH: the rule was
 *             DISCARDING and is not, or the other way round; MR_NO_MEMORY. After any only mr_sessions_close. */
struct mr_sessions_load {
    uint64_t seq;
    int64_t watermark_ms;
    uint32_t shards;
};
enum mr_status mr_sessions_load_begin(struct mr_sessions *sessions, const struct mr_sessions_load *load,
                                      struct mr_error *error) MR_MUST_CHECK;
/* A session that begins before begins_ms and is not FINAL yet by the watermark (whatever the rule's floor says) is
 * MR_UNSUPPORTED: it cannot be left out, for the next event of its key may be one of its own. INT64_MIN, as after begin:
 * none is. */
void mr_sessions_load_from(struct mr_sessions *sessions, int64_t begins_ms);
/* slice: what one call of mr_sessions_save appended, or several, one behind the other. */
enum mr_status mr_sessions_load_slice(struct mr_sessions *sessions, struct mr_bytes slice,
                                      struct mr_error *error) MR_MUST_CHECK;
enum mr_status mr_sessions_load_end(struct mr_sessions *sessions, struct mr_error *error) MR_MUST_CHECK;
/* Of a rule that is gone: what the OPEN and CLOSED sessions of these slices held. Checked like load_slice does as far
 * as that goes without a rule. */
enum mr_status mr_sessions_saved_events(struct mr_bytes slice, uint64_t *ret_events,
                                        struct mr_error *error) MR_MUST_CHECK;

/* A hash of all OPEN and CLOSED sessions, whatever their order in memory. *ret_hash. O(n). */
enum mr_status mr_sessions_state_hash_scan(struct mr_sessions *sessions, uint64_t *ret_hash) MR_MUST_CHECK;
void mr_sessions_check_scan(struct mr_sessions *sessions);
