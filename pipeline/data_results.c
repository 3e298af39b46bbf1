/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/data_results.h"

#include "pipeline/panes.h"

#include "aggregate/window.h"
#include "base/alloc.h"
#include "base/bug.h"
#include "base/hash.h"
#include "base/report.h"
#include "pipeline/stations.h"

#include <stdlib.h>

/* The store follows the log and the checkpoint, not the other way round. The log ends with this start's START record: a
 * store that claims to be as far has seen bundles that the log has lost (a copy put back), whose numbers will be given
 * again; so has one that has rows of what is a GAP now. With log.sync off the log may have lost power's worth of
 * records, or a part of a bundle, without a sign: what came after the checkpoint, which was synced, is made again. */
enum mr_status mr_data_settle_results(struct mr_data *data, struct mr_error *error) {
    uint64_t base = data->restored.newest.seq;
    uint64_t flushed = mr_results_flushed_seq(data->results);
    uint32_t shards = 0;
    enum mr_status status = mr_datadir_read_shards(&data->dir, &shards, error);
    bool other_shards = shards != 0 && shards != data->plan->shards;
    bool gap = mr_log_gap_lsn(data->log) > data->restored.newest.lsn;
    bool unfinished = mr_datadir_is_rewound(&data->dir); /* to another checkpoint than this one */
    bool ahead = gap || unfinished || flushed >= mr_log_last_seq(data->log) || !data->options.config->log.sync;
    if (status == MR_OK && flushed > base && (other_shards || ahead)) {
        mr_report(MR_LEVEL_WARN, "results_rewound", "reason=\"%s\" from=%llu to=%llu source=\"the log\"",
                  ahead ? "they may be ahead of the log" : "another number of shards",
                  (unsigned long long)flushed, (unsigned long long)base);
        status = mr_datadir_set_rewound(&data->dir, true, error);
        if (status != MR_OK) {
            return status;
        }
        status = mr_results_rewind(data->results, base);
        if (status != MR_OK) {
            return mr_error_set(error, status, "results: %s", mr_results_error_text(data->results));
        }
    }
    if (status == MR_OK && flushed < base && mr_log_first_lsn(data->log) == 1 && !data->from_zero) {
        mr_report(MR_LEVEL_WARN, "results_rebuilt", "reason=\"the store is older than the checkpoint\" source=\"the log\"");
        return MR_AGAIN;
    }
    if (status == MR_OK && flushed < base) {
        mr_report(MR_LEVEL_WARN, "results_incomplete",
                  "have=%llu need=%llu reason=\"the store is older than the checkpoint, and the log does not reach "
                  "back\" action=\"rows that were final before are missing\"",
                  (unsigned long long)flushed, (unsigned long long)base);
    }
    data->rewound = mr_datadir_is_rewound(&data->dir);
    if (status == MR_OK && shards != data->plan->shards) {
        status = mr_datadir_write_shards(&data->dir, data->plan->shards, error);
    }
    return status;
}

/* ---- rows that are gone with those that replaced them ---- */

enum { AGAIN_BYTES = 1 << 20 }; /* of panes of the outbox, at once */

/* A place in a rule's table, by a hash of window start and key, and a pane of it. */
struct place {
    uint64_t hash;
    uint64_t id;
    bool retraction;
};

/* The panes of a rule in the outbox. */
struct again {
    struct mr_data *data;
    struct mr_results_reader *reader;
    uint32_t rule;
    bool retractions; /* as panes like others */
    struct place *places; /* pass 1: all; pass 2: the last one of each place, by hash */
    size_t count;
    size_t cap;
    struct mr_flush *flush;
    bool failed; /* no memory */
};

static uint64_t hash_of(int64_t start_ms, struct mr_bytes key) {
    return mr_hash64(key, (uint64_t)start_ms);
}

static bool add_place(struct again *a, struct place place) {
    if (a->count == a->cap) {
        size_t cap = a->cap == 0 ? 1024 : 2 * a->cap;
        struct place *places = mr_realloc(a->places, cap * sizeof *places);
        if (places == NULL) {
            return false;
        }
        a->places = places;
        a->cap = cap;
    }
    a->places[a->count++] = place;
    return true;
}

static bool list_place(void *ctx, uint64_t id, const struct mr_pane *pane) {
    struct again *a = ctx;
    struct place place = {hash_of(pane->window_start_ms, pane->key), id, pane->retraction};
    if ((!pane->retraction || a->retractions) && !add_place(a, place)) {
        a->flush->panes.failed = true;
        return false;
    }
    return true;
}

/* Behind all that the outbox has of it. */
static void list_row(void *ctx, int64_t start_ms, struct mr_bytes key) {
    struct again *a = ctx;
    struct place place = {hash_of(start_ms, key), UINT64_MAX, false};
    a->failed = !add_place(a, place) || a->failed;
}

static int compare_places(const void *left, const void *right) {
    const struct place *a = left;
    const struct place *b = right;
    return a->hash != b->hash ? (a->hash > b->hash) - (a->hash < b->hash) : (a->id > b->id) - (a->id < b->id);
}

/* rows: of those places only that are a row, by list_row. */
static void keep_last_of_each(struct again *a, bool rows) {
    size_t kept = 0;
    if (a->count > 0) {
        qsort(a->places, a->count, sizeof *a->places, compare_places);
    }
    for (size_t i = 0; i < a->count; i++) {
        bool last = i + 1 == a->count || a->places[i + 1].hash != a->places[i].hash;
        if (rows) { /* the one before the row */
            last = !last && a->places[i].id != UINT64_MAX && a->places[i + 1].id == UINT64_MAX;
        }
        if (last) {
            a->places[kept++] = a->places[i];
        }
    }
    a->count = kept;
}

static int compare_hash(const void *key, const void *item) {
    uint64_t hash = *(const uint64_t *)key;
    const struct place *place = item;
    return (hash > place->hash) - (hash < place->hash);
}

static bool take_last(void *ctx, uint64_t id, const struct mr_pane *pane) {
    struct again *a = ctx;
    uint64_t hash = hash_of(pane->window_start_ms, pane->key);
    const struct place *last =
        a->count == 0 ? NULL : bsearch(&hash, a->places, a->count, sizeof *last, compare_hash);
    if (last != NULL && last->id == id && !pane->retraction) {
        struct mr_pane copy = *pane;
        copy.rule = a->rule;
        mr_pane_append(&a->flush->panes, &copy);
        a->flush->pane_count++;
    }
    return a->flush->panes.len < AGAIN_BYTES;
}

/* All of the outbox; what the visitor has taken into the flush is put. */
static enum mr_status pass(struct again *a, mr_results_outbox_visit visit, struct mr_arena *scratch,
                           struct mr_error *error) {
    enum mr_status status = MR_OK;
    uint64_t last = UINT64_MAX;
    for (uint64_t after = 0; status == MR_OK && after != last;) {
        last = after;
        a->flush = mr_flush_open(a->data->restored.newest.seq);
        if (a->flush == NULL) {
            return MR_NO_MEMORY;
        }
        status = mr_results_read_outbox_rule(a->reader, a->rule, last, visit, a, &after, error);
        if (status == MR_OK) {
            status = a->flush->panes.failed ? MR_NO_MEMORY
                                            : mr_panes_put(a->data->results, a->data->plan, a->flush, scratch);
        }
        mr_flush_close(a->flush);
    }
    return status;
}

/* Of sessions whose panes discard: rows are never replaced, but taken back, by what the log may have lost. Which there are
 * the sessions know, and what they say the outbox. */
static enum mr_status keep_rows(struct again *a, const struct mr_pipeline *pipeline) {
    enum mr_status status = MR_OK;
    for (uint32_t i = 0; status == MR_OK && i < a->data->plan->shards; i++) {
        status = mr_combine_session_rows_scan(pipeline->shards[i].combine, a->rule, list_row, a);
    }
    keep_last_of_each(a, true);
    return a->failed ? MR_NO_MEMORY : status;
}

static enum mr_status put_rule(struct again *a, const struct mr_pipeline *pipeline, struct mr_arena *scratch,
                               struct mr_error *error) {
    const struct mr_results_rule *rule = &a->data->results_rules[a->rule];
    if (rule->discarding && !rule->ends_vary) {
        return MR_OK; /* rows stay as they are */
    }
    a->retractions = rule->ends_vary && !rule->discarding;
    a->count = 0;
    enum mr_status status = pass(a, list_place, scratch, error);
    if (status == MR_OK && rule->discarding) {
        status = keep_rows(a, pipeline);
    } else {
        keep_last_of_each(a, false);
    }
    return status == MR_OK ? pass(a, take_last, scratch, error) : status;
}

/* A row from behind the checkpoint is gone, and with it what it had replaced; but the outbox still says that. Rows that are
 * there refuse it. A retraction is kept with the pane it takes back, whatever made it: of windows, whose rows are replaced
 * and never removed, it was a later pane. */
static enum mr_status put_replaced(struct mr_data *data, const struct mr_pipeline *pipeline, struct mr_error *error) {
    struct again a = {.data = data};
    struct mr_arena scratch;
    mr_arena_init(&scratch, MR_PANE_SCRATCH_FIRST, MR_PANE_SCRATCH_MAX);
    enum mr_status status = mr_results_reader_open(data->results, &a.reader);
    bool opened = status == MR_OK;
    for (a.rule = 0; status == MR_OK && a.rule < data->plan->rule_count; a.rule++) {
        status = put_rule(&a, pipeline, &scratch, error);
    }
    if (opened) {
        mr_results_reader_close(a.reader);
    }
    mr_free(a.places);
    mr_arena_finish(&scratch);
    return status;
}

/* ---- what memory has ---- */

/* What closed windows and all sessions had at the checkpoint. A pane from before it may have been replaced by one that the log has lost,
 * and has gone with that; no bundle behind the checkpoint fires it again. */
static enum mr_status put_closed(struct mr_data *data, const struct mr_pipeline *pipeline) {
    const struct mr_plan *plan = data->plan;
    struct mr_arena scratch;
    mr_arena_init(&scratch, MR_PANE_SCRATCH_FIRST, MR_PANE_SCRATCH_MAX);
    enum mr_status status = MR_OK;
    for (uint32_t i = 0; i < plan->shards * plan->rule_count; i++) {
        struct mr_combine *combine = pipeline->shards[i % plan->shards].combine;
        int64_t start_ms = INT64_MIN;
        for (bool more = true; more && status == MR_OK;) {
            struct mr_flush *flush = mr_flush_open(data->restored.newest.seq);
            if (flush == NULL) {
                status = MR_NO_MEMORY;
                break;
            }
            more = mr_combine_fire_again(combine, i / plan->shards, &start_ms, flush);
            status = flush->panes.failed ? MR_NO_MEMORY
                                         : mr_panes_put(data->results, plan, flush, &scratch);
            mr_flush_close(flush);
        }
    }
    mr_arena_finish(&scratch);
    return status;
}

/* Rewinding took every final mark, for the bundles that set them may be lost. */
static enum mr_status put_finals(struct mr_data *data, const struct mr_pipeline *pipeline) {
    const struct mr_plan *plan = data->plan;
    enum mr_status status = MR_OK;
    int64_t watermarks_ms[MR_STREAMS_MAX];
    for (uint32_t i = 0; i < plan->stream_count; i++) {
        watermarks_ms[i] = pipeline->sequencer.watermarks[i].watermark_ms;
    }
    for (uint32_t i = 0; status == MR_OK && i < plan->rule_count; i++) {
        const struct mr_rule *rule = &plan->rules[i];
        int64_t watermark_ms = mr_rule_watermark(rule, watermarks_ms);
        int64_t end_ms = mr_window_final_end(rule, watermark_ms);
        if (end_ms != INT64_MIN) {
            status = mr_results_finalize(data->results, i, end_ms);
        }
    }
    return status;
}

enum mr_status mr_data_complete_results(struct mr_data *data, const struct mr_pipeline *pipeline,
                                       struct mr_error *error) {
    enum mr_status status = mr_results_begin(data->results);
    if (status == MR_OK) {
        status = put_replaced(data, pipeline, error);
    }
    if (status == MR_OK) {
        status = put_closed(data, pipeline);
    }
    if (status == MR_OK) {
        status = put_finals(data, pipeline);
    }
    if (status == MR_OK) {
        status = mr_results_commit(data->results, mr_results_flushed_seq(data->results));
    }
    if (status != MR_OK) {
        mr_results_rollback(data->results);
        return mr_error_set(error, status, "results: %s", mr_results_error_text(data->results));
    }
    data->rewound = false;
    return mr_datadir_set_rewound(&data->dir, false, error);
}

/* What late panes that were off have kept back, of one rule on one shard. A store that is beyond the change has it, and may
 * have taken some of it back since. */
static enum mr_status put_left(struct mr_data *data, struct mr_combine *combine, uint32_t rule,
                               struct mr_arena *scratch) {
    uint64_t seq = data->restored.change_seq;
    bool said = mr_results_flushed_seq(data->results) >= seq || MR_BUG(KEPT_BACK_LOST);
    enum mr_status status = MR_OK;
    for (bool done = false; !done && status == MR_OK;) {
        struct mr_flush *flush = mr_flush_open(seq);
        if (flush == NULL) {
            return MR_NO_MEMORY;
        }
        status = mr_combine_say_left(combine, seq, rule, MR_SLICE_GROUPS, flush, &done);
        if (status == MR_OK && !said) {
            status = mr_panes_put(data->results, data->plan, flush, scratch);
        }
        mr_flush_close(flush);
    }
    return status;
}

static enum mr_status put_all_left(struct mr_data *data, const struct mr_pipeline *pipeline) {
    const struct mr_plan *plan = data->plan;
    struct mr_arena scratch;
    mr_arena_init(&scratch, MR_PANE_SCRATCH_FIRST, MR_PANE_SCRATCH_MAX);
    enum mr_status status = MR_OK;
    for (uint32_t i = 0; status == MR_OK && i < plan->shards * plan->rule_count; i++) {
        status = put_left(data, pipeline->shards[i % plan->shards].combine, i / plan->shards, &scratch);
    }
    mr_arena_finish(&scratch);
    return status;
}

enum mr_status mr_data_say_change(struct mr_data *data, const struct mr_pipeline *pipeline, struct mr_error *error) {
    MR_ASSERT(data->restored.change_seq > data->restored.newest.seq);
    enum mr_status status = mr_results_begin(data->results);
    if (status == MR_OK) {
        status = put_all_left(data, pipeline);
    }
    for (uint32_t i = 0; status == MR_OK && i < data->plan->rule_count; i++) {
        if (data->restored.finals_ms[i] != INT64_MIN) {
            status = mr_results_finalize(data->results, i, data->restored.finals_ms[i]);
        }
    }
    if (status == MR_OK) {
        status = mr_results_commit(data->results, mr_results_flushed_seq(data->results));
    }
    if (status != MR_OK) {
        mr_results_rollback(data->results);
        return mr_error_set(error, status, "results: %s", mr_results_error_text(data->results));
    }
    return MR_OK;
}
