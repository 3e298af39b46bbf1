/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Combine: the open windows of the (rule, key)s one shard owns: merges partials, fires panes,
 * answers scans.
 *
 * Idea        For each bundle, in order: merge S parcels, in shard order; advance event time; fire
 *             what is due, in slices, so that a window of a million groups does not stop the shard.
 *             Until a bundle has fired completely the next one is not merged: that makes every pane
 *             a function of the log.
 *
 *              merge(p0) … merge(pS-1) → advance(seq, watermarks) → fire(budget)* → released later
 *
 * Shape       Per rule: windows in order of start (aggregate/timeline.h); per window: its groups in
 *             order of first appearance and an index of them that grows segment by segment
 *             (aggregate/groups.h).
 * States      of a window: OPEN (end > watermark) → CLOSED (fired ON_TIME, takes late data) → FINAL
 *             (takes nothing; readable until the flusher has confirmed its last pane, then freed).
 * Bounds      groups_max and groups_bytes of a rule on this shard, over its OPEN and CLOSED
 *             windows. Over either, a partial for a new key goes into the window's overflow group
 *             (key tag 'o', this shard's number; it may exceed the bound by one group a window), or
 *             is dropped: counted, and a dead letter (reason groups) with rule, window, key and
 *             count.
 * Sliding     A partial is of one slice, and is merged into each window over it that is not final; applied or
 *             dropped once, as a whole: dropped when no window took it.
 * Slices      Of a rule whose window is `sliced` OPEN windows are in aggregate/slices.h, and become windows when they close;
 *             bounds and counters are of (window, key)s all the same. It has no early trigger.
 * Sessions    Of a rule of session windows all this is in aggregate/sessions.h; here are its counters.
 * Panes       A group's panes are numbered. Where panes discard, a group begins anew after each, its key in rows and
 *             panes ends with the pane's number, and it shows no row while nothing has come.
 * Units       Times in ms of event time; budgets in groups.
 * Owner       One shard thread. mr_combine_stats may be read from any thread.
 * Errors      MR_NO_MEMORY: state is unchanged by the failing partial, the caller stops the
 *             process.
 * Cost        merge: one or two cache misses a partial. No call is O(all groups).
 * Invariants  I1 a pane's revision is the seq of the bundle it fired in, and one (rule, window,
 *             key) fires at most once a bundle.  I2 watermarks never decrease.  I3 applied +
 *             dropped == events merged.
 */
#include "aggregate/rule.h"
#include "base/counters.h"
#include "base/pane.h"
#include "base/partial.h"

struct mr_combine;
struct mr_hot;
struct mr_sessions;

struct mr_combine_rule_stats {
    mr_counter applied;  /* events */
    mr_counter dropped;  /* events of dropped partials */
    mr_counter overflow; /* events merged into overflow groups (part of applied) */
    mr_counter windows;  /* OPEN and CLOSED */
    mr_counter groups;
    mr_counter bytes;
    mr_counter panes;
    mr_counter hot_events; /* of lately, as the next: aggregate/hot.h */
    mr_counter hot_heaviest; /* of the heaviest key */
};

enum mr_status mr_combine_open(const struct mr_rule *rules, uint32_t rule_count,
                               uint32_t stream_count, const struct mr_bytes *stream_names,
                               uint32_t shard, struct mr_combine **ret) MR_MUST_CHECK;
void mr_combine_close(struct mr_combine *combine);

/* Merges one parcel of bundle seq; the caller closes it. Dead letters (dropped groups) are kept for
 * the bundle's flush. */
enum mr_status mr_combine_merge(struct mr_combine *combine, struct mr_parcel *parcel) MR_MUST_CHECK;

/* Ends bundle seq, of this recorded time: event time moves to watermarks[stream]; what is due is queued for firing, rule
 * by rule: late panes of changed groups in closed windows and early ones by count, in order of (window start, group);
 * early ones by time; windows that close; with trigger.late off, changed groups of windows that are final now. */
void mr_combine_advance(struct mr_combine *combine, uint64_t seq, const int64_t *watermarks_ms,
                        int64_t recorded_ms);

/* Fires up to budget groups of the current bundle into flush (panes, dead letters, and finals: only
 * shard 0 says those, once per bundle and rule whose final boundary moved). *ret_done: nothing is
 * left. */
enum mr_status mr_combine_fire(struct mr_combine *combine, uint32_t budget, struct mr_flush *flush,
                               bool *ret_done) MR_MUST_CHECK;

/* The panes of one CLOSED window as it stands, with the revisions its groups had: for a store that has lost newer ones.
 * The first window that begins at *start_ms or later; *start_ms moves behind it. false: there is none. Between bundles.
 * Without memory flush->panes has failed. */
bool mr_combine_fire_again(struct mr_combine *combine, uint32_t rule, int64_t *start_ms,
                           struct mr_flush *flush);

/* Of a rule of session windows: mr_sessions_rows_scan. */
enum mr_status mr_combine_session_rows_scan(struct mr_combine *combine, uint32_t rule,
                                            void (*visit)(void *ctx, int64_t start_ms, struct mr_bytes key),
                                            void *ctx) MR_MUST_CHECK;

/* The flusher has made everything up to and including seq durable: FINAL windows whose last pane is
 * not newer may go. Frees at most budget windows, or an eighth of those that are there, if that is more: so that they do
 * not pile up where each bundle ends many; call again while it returns true. While a scan is under way it frees nothing
 * and returns false. */
bool mr_combine_release(struct mr_combine *combine, uint64_t confirmed_seq, uint32_t budget);

const struct mr_combine_rule_stats *mr_combine_stats(const struct mr_combine *combine,
                                                     uint32_t rule);
/* The keys of the rule that had the most applied events lately: each under the key its rows have, one that was over the
 * bounds under the overflow group's. Between bundles. */
const struct mr_hot *mr_combine_hot(const struct mr_combine *combine, uint32_t rule);

/* Scans: a query's part on this shard, as of the last advanced bundle. Run between bundles, in
 * slices; the caller merges no bundle before the scan is done. */
enum mr_scan_state { MR_SCAN_ALL, MR_SCAN_OPEN, MR_SCAN_FINAL }; /* OPEN: not final */

struct mr_scan_filter {
    uint32_t key;         /* index of the key column in the rule */
    struct mr_bytes text; /* equals a string, a number's text, or true, false, null */
};

#define MR_SCAN_ORDER_WINDOW (-1)

struct mr_scan {
    /* The question; constant. */
    uint32_t rule;
    int64_t from_ms; /* window_start in [from, to) */
    int64_t to_ms;
    enum mr_scan_state state;
    struct mr_scan_filter filters[MR_RULE_KEYS_MAX];
    uint32_t filter_count;
    int32_t order; /* MR_SCAN_ORDER_WINDOW, or the index of a metric */
    bool descending;
    uint32_t limit;
    bool has_after; /* window order only: rows behind (after_start_ms, after_key) in that order */
    int64_t after_start_ms;
    struct mr_bytes after_key;
};

/* A row of an answer: the same from combine and from the results store. */
struct mr_row {
    int64_t window_start_ms;
    int64_t window_end_ms;
    uint64_t events;
    uint64_t revision; /* not fired yet: seq of the last change */
    bool final;
    struct mr_bytes key;
    struct mr_bytes state;
};

/* The bound of one answer's rows. */
#define MR_SCAN_BYTES_MAX (64u << 20)

/* Rows packed into a buffer: the first `limit` of this shard in the scan's order (window order: by
 * window start, then key bytes; descending turns both. Metric order: descending turns the metric
 * only; equal ones come by window start and key, ascending). The first slice initialises it; the
 * caller finishes rows. On MR_LIMIT the rows that fitted are there. */
struct mr_scan_result {
    struct mr_buf rows;
    uint32_t count;
    int64_t watermark_ms;  /* of the rule's stream at the cut */
    enum mr_status status; /* MR_LIMIT: the rows buffer's bound was met, MR_NO_MEMORY */
};

void mr_row_append(struct mr_buf *buf, const struct mr_row *row);
bool mr_row_next(struct mr_bytes *rest, struct mr_row *ret);
/* <0: row a comes before b in this scan's order; 0: the same place. States need not be aligned. */
int mr_scan_compare(const struct mr_scan *scan, const struct mr_rule *rule, const struct mr_row *a,
                    const struct mr_row *b);
/* All filters. The overflow group matches MR_KEY_OTHER_TEXT in any column. */
bool mr_scan_matches(const struct mr_scan *scan, struct mr_bytes key);

/* Runs up to budget groups of the scan; returns true when done (also with a status). cursor begins
 * as {0}. Who gives up before that calls mr_combine_scan_stop. */
struct mr_scan_cursor {
    bool started;
    int64_t window_start_ms;
    uint64_t group;
    void *work; /* owned by the scan until done */
    struct mr_sessions *sessions; /* whose work it is; NULL: combine's own */
};
bool mr_combine_scan(struct mr_combine *combine, const struct mr_scan *scan,
                     struct mr_scan_cursor *cursor, uint32_t budget, struct mr_scan_result *result);
/* Frees what an unfinished scan holds; nothing after its end. */
void mr_combine_scan_stop(struct mr_combine *combine, struct mr_scan_cursor *cursor);

/* A hash of all state, independent of memory layout: for tests and replay comparison. O(n). */
uint64_t mr_combine_state_hash_scan(struct mr_combine *combine);
void mr_combine_check_scan(const struct mr_combine *combine);

/*
 * Saving: all groups of OPEN and CLOSED windows as they were at the end of bundle `seq`, without stopping: a walk in
 * slices, and between two slices merge, advance and fire go on. A group that is changed before the walk reaches it is
 * written down first as it was (its revision says whether it has changed since `seq`). FINAL windows are left out: the
 * results store has them before the checkpoint counts. While a save is under way mr_combine_release frees nothing.
 *
 *     begin(seq) ── save(slice) ── merge … ── save(slice) ── … ── save(slice, done)
 *
 * Shape       A slice is a self-contained piece for mr_combine_load; per rule by its index. The last one also has the
 *             counters of mr_combine_rule_stats as they were at begin.
 * Bounds      What merge writes down waits in a buffer until the next slice: mr_combine_save_waiting says how many
 *             bytes; the caller merges no further parcel while that is over MR_COMBINE_SAVE_WAITING_MAX. A slice takes
 *             about 1 MiB of it, and goes on walking only when nothing waits.
 * Errors      No memory for what merge would write down: merge goes on, the save fails at its next slice.
 */
#define MR_COMBINE_SAVE_WAITING_MAX (8u << 20)

/* Between bundles: nothing is being merged or fired. seq >= that of the last advance. */
void mr_combine_save_begin(struct mr_combine *combine, uint64_t seq);
/* Appends what waits, and up to budget groups, to ret: one slice. Fine at any time, also in the middle of a bundle.
 * MR_NO_MEMORY (ret failed): the save is to be given up (mr_combine_save_stop); nothing else changes. */
enum mr_status mr_combine_save(struct mr_combine *combine, uint32_t budget, struct mr_buf *ret,
                               bool *ret_done) MR_MUST_CHECK;
bool mr_combine_saving(const struct mr_combine *combine);
size_t mr_combine_save_waiting(const struct mr_combine *combine);
void mr_combine_save_stop(struct mr_combine *combine); /* fine when none is under way */

/*
 * Loading, into a combine just opened: begin, slices in any order, end. Afterwards everything is as it was at the end
 * of the bundle, the order of groups and the bytes they are charged with included.
 *
 * rule_map[i]: which rule the i-th rule of the saving plan is now; UINT32_MAX: it is gone or begins anew, and its groups
 * are left out (*ret_dropped_events counts their events). A rule that is mapped has the same keys, window size, and
 * metrics; other settings may differ. shards: how many there are now; a group is taken if it belongs to this shard
 * (overflow groups: their number modulo shards), so slices of all old shards may be given to each. Windows that are
 * FINAL now, because allowed_lateness is shorter than it was, are left out: the results store has them; that they are
 * final the caller says to it (up to mr_window_final_end), for no bundle will. What trigger.late: false has kept back of
 * them is there and has to be said before any bundle (mr_combine_say_left); so has that of CLOSED windows if late is
 * true now, for rows of closed windows then say all.
 * Errors      MR_CORRUPT: not a slice of this seq; two values for one group; a window's state is not what the watermark
 *             says; at the end: of an old shard of which there was a slice not all were there, each once. MR_NO_MEMORY.
 *             After any error only mr_combine_close.
 * Bounds      Until the end one more copy of the groups, not counting the slices.
 */
struct mr_combine_load {
    uint64_t seq;
    const int64_t *watermarks_ms; /* by stream of this plan */
    const uint32_t *rule_map;
    uint32_t rule_map_len;
    uint32_t shards;
};
enum mr_status mr_combine_load_begin(struct mr_combine *combine, const struct mr_combine_load *load,
                                     struct mr_error *error) MR_MUST_CHECK;
/* slice: what one call of mr_combine_save appended, or several, one behind the other. counters: add its counters too
 * (of all shards that are given a slice, one should). *ret_dropped_events: of this slice; the same for every shard. */
enum mr_status mr_combine_load_slice(struct mr_combine *combine, struct mr_bytes slice, bool counters,
                                     uint64_t *ret_dropped_events,
                                     struct mr_error *error) MR_MUST_CHECK;
/* A second checkpoint of the same bundle, of another plan: what was given so far is complete, and the slices that
 * follow are of this one. Its rule_map names rules that the first one's does not. begins_ms, by rule of this plan,
 * borrowed until the end: windows that begin earlier are left out, whatever the watermark says of them; sessions, which
 * cannot be left out while the next event may go on with them, are refused. Errors besides: MR_UNSUPPORTED. */
struct mr_combine_load_also {
    const uint32_t *rule_map;
    uint32_t rule_map_len;
    const int64_t *begins_ms;
};
enum mr_status mr_combine_load_also(struct mr_combine *combine, const struct mr_combine_load_also *load,
                                    struct mr_error *error) MR_MUST_CHECK;
enum mr_status mr_combine_load_end(struct mr_combine *combine, struct mr_error *error) MR_MUST_CHECK;
/* After a load under other settings, once for each rule and before anything else: LATE panes of what trigger.late: false
 * has kept back and may not any longer. Their revision is seq, the change's own: above that of all that was loaded, below
 * that of the first bundle, and every start that makes the change says the same again. Up to budget groups a call;
 * *ret_done: that was all. */
enum mr_status mr_combine_say_left(struct mr_combine *combine, uint64_t seq, uint32_t rule, uint32_t budget,
                                   struct mr_flush *flush, bool *ret_done) MR_MUST_CHECK;
