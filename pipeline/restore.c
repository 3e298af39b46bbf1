/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Restore: from a checkpoint's files into the stations.
 *
 *     manifest ─┬─ sequencer, flusher, rules, counters       by name of stream and rule
 *               ├─ dedup blobs ──▶ generations, then ids from the parts
 *               └─ group parts ──▶ windows
 *
 * With as many shards as before each shard takes its own blobs and parts. With another number every shard reads all of
 * them and takes what is its own by hash; then the ids are also written anew, for the old parts are divided otherwise.
 */
#include "pipeline/restore.h"

#include "aggregate/window.h"
#include "base/alloc.h"
#include "base/bug.h"
#include "base/check.h"
#include "base/pack.h"
#include "base/report.h"
#include "pipeline/stations.h"

enum { PENDING_BYTES_MAX = 16 << 20 }; /* of ids written anew, not yet synced */

struct loading {
    struct mr_pipeline *pipeline;
    const struct mr_restored *from;
    const struct mr_manifest *manifest;
    uint32_t old_streams;
    uint32_t old_rules;
    bool moved; /* another number of shards */
    uint32_t stream_now[MR_STREAMS_MAX]; /* old index -> new; UINT32_MAX: gone, or begins anew */
    uint32_t rule_now[MR_RULES_MAX];
    uint32_t shard; /* the one being loaded */
    uint32_t stream; /* new index */
    uint32_t saved;  /* which blob the ids being read belong to */
    uint64_t dropped_events;
    bool contents;   /* and has them with it */
    bool compares;   /* they are known still */
    struct mr_fingerprint *mine; /* scratch: ids of a block that belong to the shard */
    uint64_t *mine_contents;     /* and their contents */
    struct mr_error *error;
};

static enum mr_status unreadable(struct loading *l, const char *what) {
    return mr_error_set(l->error, MR_CORRUPT, "%s/manifest-%016llu: %s cannot be read", l->from->dir,
                        (unsigned long long)l->manifest->number, what);
}

static struct mr_unpack unpack_blob(const struct loading *l, enum mr_blob_kind kind, uint32_t shard) {
    const struct mr_buf *blob = mr_manifest_blob(l->manifest, kind, shard, 0);
    return (struct mr_unpack){.rest = blob == NULL ? mr_bytes_of(NULL, 0) : mr_buf_bytes(blob),
                              .failed = blob == NULL};
}

/* ---- what is small ---- */

static void map_names(struct loading *l) {
    const struct mr_config_change *change = &l->from->change;
    const struct mr_plan *plan = l->pipeline->plan;
    memset(l->stream_now, 0xff, sizeof l->stream_now);
    memset(l->rule_now, 0xff, sizeof l->rule_now);
    for (uint32_t i = 0; i < plan->stream_count; i++) {
        if (change->stream_of[i] != UINT32_MAX) {
            l->stream_now[change->stream_of[i]] = i;
        }
    }
    for (uint32_t i = 0; i < plan->rule_count; i++) {
        if (change->rule_of[i] != UINT32_MAX && change->rules[i] != MR_CHANGE_ANEW) {
            l->rule_now[change->rule_of[i]] = i;
        }
    }
}

/* What the sequencer's part has of a stream (mr_sequencer_seal). */
struct sealed_stream {
    struct mr_watermark watermark;
    uint64_t received;
    uint64_t rejected;
    uint64_t first_lsn; /* of what is undecided */
    uint64_t last_lsn;
    uint64_t pending;
    struct mr_local local;
};

/* false: not one, or out of memory; the rest cannot be read either. The watermark is the caller's to finish. */
static bool unpack_stream(struct mr_unpack *u, struct sealed_stream *ret) {
    mr_watermark_init(&ret->watermark);
    if (!mr_watermark_load(&ret->watermark, u)) {
        return false;
    }
    ret->received = mr_unpack_u64(u);
    ret->rejected = mr_unpack_u64(u);
    ret->first_lsn = mr_unpack_u64(u);
    ret->last_lsn = mr_unpack_u64(u);
    ret->pending = mr_unpack_u64(u);
    return mr_local_load(&ret->local, u);
}

static enum mr_status load_sequencer(struct loading *l) {
    struct mr_sequencer *s = &l->pipeline->sequencer;
    struct mr_unpack u = unpack_blob(l, MR_BLOB_SEQUENCER, 0);
    mr_counter_set(&s->bundles, mr_unpack_u64(&u));
    mr_counter_set(&s->batches, mr_unpack_u64(&u));
    for (uint32_t i = 0; i < l->old_streams; i++) {
        struct sealed_stream sealed;
        if (!unpack_stream(&u, &sealed)) {
            mr_watermark_finish(&sealed.watermark);
            return unreadable(l, "the sequencer's part");
        }
        sealed.watermark.watermark_ms -= MR_BUG(WATERMARK_BACK) ? 1500 : 0;
        uint32_t now = l->stream_now[i];
        if (sealed.first_lsn != 0 && (now == UINT32_MAX || !l->pipeline->plan->streams[now].claimed)) {
            mr_watermark_finish(&sealed.watermark);
            return mr_error_set(l->error, MR_MISMATCH,
                                "a stream that leaves dedup mode redis still has events whose ids are not decided (log record "
                                "%llu on): start with the configuration before until they are",
                                (unsigned long long)sealed.first_lsn);
        }
        if (now == UINT32_MAX || l->pipeline->plan->streams[now].source_column == MR_NO_COLUMN) {
            mr_watermark_finish(&sealed.watermark); /* the sources alone: one place for all from here on */
        }
        if (now != UINT32_MAX) {
            s->undecided[now].first_lsn = sealed.first_lsn;
            s->undecided[now].last_lsn = sealed.last_lsn;
            mr_counter_set(&s->undecided[now].events, sealed.pending);
            s->locals[now] = sealed.local;
            s->watermarks[now] = sealed.watermark;
            atomic_store_explicit(&s->watermark_ms[now], sealed.watermark.watermark_ms, memory_order_relaxed);
            mr_counter_set(&s->received[now], sealed.received);
            mr_counter_set(&s->rejected[now], sealed.rejected);
        }
    }
    s->seq = l->manifest->seq;
    s->lsn = l->manifest->lsn;
    s->recorded_ms = l->manifest->recorded_ms;
    atomic_store_explicit(&s->last_seq, s->seq, memory_order_relaxed);
    return mr_unpack_end(&u) ? MR_OK : unreadable(l, "the sequencer's part");
}

/* Places in the log, of whatever stream: they hold under any configuration. */
static enum mr_status load_redrives(struct loading *l) {
    const struct mr_buf *blob = mr_manifest_blob(l->manifest, MR_BLOB_REDRIVES, 0, 0);
    if (blob == NULL || MR_BUG(REDRIVES_FORGOTTEN)) {
        return MR_OK;
    }
    enum mr_status status = mr_redrives_load(&l->pipeline->sequencer.redrives, mr_buf_bytes(blob));
    return status == MR_CORRUPT     ? unreadable(l, "the list of redrives")
           : status == MR_NO_MEMORY ? mr_error_set(l->error, status, "out of memory loading the checkpoint")
                                    : status;
}

/* Counters of old shards that are no more are added to those of shard 0. */
static enum mr_status load_counters(struct loading *l, uint32_t old_shard) {
    struct mr_shard *shard = &l->pipeline->shards[l->moved ? 0 : old_shard];
    struct mr_unpack u = unpack_blob(l, MR_BLOB_SHARD, old_shard);
    for (uint32_t i = 0; i < l->old_streams; i++) {
        struct mr_shard_stream none;
        bool gone = l->stream_now[i] == UINT32_MAX;
        struct mr_shard_stream *s = gone ? &none : &shard->streams[l->stream_now[i]];
        mr_counter *counters[] = {&s->accepted, &s->duplicate, &s->late, &s->future, &s->observed};
        for (uint32_t k = 0; k < sizeof counters / sizeof counters[0]; k++) {
            uint64_t value = mr_unpack_u64(&u);
            if (!gone) {
                mr_counter_add(counters[k], value);
            }
        }
    }
    for (uint32_t i = 0; i < l->old_rules; i++) {
        uint64_t filtered = mr_unpack_u64(&u);
        uint64_t late = mr_unpack_u64(&u);
        if (l->rule_now[i] != UINT32_MAX) {
            mr_counter_add(&shard->rules[l->rule_now[i]].filtered, filtered);
            mr_counter_add(&shard->rules[l->rule_now[i]].late, late);
        }
    }
    /* Checkpoints of before have neither these nor those behind them. */
    for (uint32_t i = 0; u.rest.len > 0 && i < l->old_streams; i++) {
        for (uint32_t k = 0; k < MR_REDRIVE_VERDICTS; k++) {
            uint64_t value = mr_unpack_u64(&u);
            if (l->stream_now[i] != UINT32_MAX) {
                mr_counter_add(&shard->streams[l->stream_now[i]].redriven[k], value);
            }
        }
    }
    for (uint32_t i = 0; u.rest.len > 0 && i < l->old_streams; i++) {
        uint64_t conflicts = mr_unpack_u64(&u);
        if (l->stream_now[i] != UINT32_MAX) {
            mr_counter_add(&shard->streams[l->stream_now[i]].conflicts, conflicts);
        }
    }
    return mr_unpack_end(&u) ? MR_OK : unreadable(l, "a shard's part");
}

/* ---- ids ---- */

/* Ids that are divided anew are written anew, as they come (not by a trial, which has no directory). */
static enum mr_status write_ids(struct loading *l, bool all) {
    struct mr_dedup *dedup = l->pipeline->shards[l->shard].dedup[l->stream];
    struct mr_dedup_chunk *chunk = mr_dedup_take(dedup, all);
    enum mr_status status = MR_OK;
    while (chunk != NULL && l->pipeline->checkpointer.dir == NULL) {
        struct mr_dedup_chunk *rest = chunk->next;
        mr_free(chunk);
        chunk = rest;
    }
    while (chunk != NULL) {
        struct mr_dedup_chunk *rest = chunk->next;
        chunk->next = NULL;
        bool mine = status != MR_OK;
        if (status == MR_OK) {
            status = mr_lane_append(&l->pipeline->checkpointer, l->shard, l->stream, chunk, l->error);
            mine = status == MR_NO_SPACE;
        }
        if (mine) {
            mr_free(chunk);
        }
        chunk = rest;
    }
    if (status == MR_OK && l->pipeline->checkpointer.pending_bytes > PENDING_BYTES_MAX) {
        status = mr_lanes_sync(&l->pipeline->checkpointer, l->error);
    }
    return status;
}

/* Those of a block that belong to the shard, into the scratch; returns how many. */
static uint32_t take_mine(struct loading *l, const struct mr_fingerprint *ids, const uint64_t *contents, size_t count) {
    uint32_t shards = l->pipeline->plan->shards;
    uint32_t mine = 0;
    for (size_t i = 0; i < count; i++) {
        if (mr_fingerprint_shard(ids[i], shards) == l->shard) {
            l->mine_contents[mine] = contents == NULL ? 0 : contents[i];
            l->mine[mine++] = ids[i];
        }
    }
    return mine;
}

static enum mr_status load_block(void *ctx, uint64_t tag, struct mr_bytes payload) {
    struct loading *l = ctx;
    struct mr_dedup *dedup = l->pipeline->shards[l->shard].dedup[l->stream];
    const struct mr_fingerprint *ids = (const struct mr_fingerprint *)(const void *)payload.ptr;
    size_t each = sizeof *ids + (l->contents ? sizeof(uint64_t) : 0);
    size_t count = payload.len / each;
    if (payload.len % each != 0 || count > MR_DEDUP_CHUNK_IDS) {
        return unreadable(l, "a block of ids");
    }
    const uint64_t *contents = l->compares ? (const uint64_t *)(const void *)(ids + count) : NULL;
    if (!l->moved) {
        return mr_dedup_load_ids(dedup, l->saved, tag, ids, contents, (uint32_t)count, l->error);
    }
    uint32_t mine = take_mine(l, ids, contents, count);
    enum mr_status status =
        mr_dedup_load_ids(dedup, l->saved, tag, l->mine, contents == NULL ? NULL : l->mine_contents, mine, l->error);
    return status == MR_OK ? write_ids(l, false) : status;
}

/* Which contents count that the parts of the stream hold: those since dedup.conflicts is on without a break. When it
 * was off, none, and from now on those of parts that begin now. (No number below is given to a part again: a checkpoint
 * that says so names parts of groups that began behind it.) */
static enum mr_status load_contents_from(struct loading *l, uint32_t old_stream, uint64_t *ret) {
    struct mr_checkpointer *c = &l->pipeline->checkpointer;
    const struct mr_buf *blob = mr_manifest_blob(l->manifest, MR_BLOB_CONTENTS, 0, old_stream);
    *ret = UINT64_MAX;
    if (!l->pipeline->plan->streams[l->stream].dedup.contents) {
        return MR_OK;
    }
    if (blob == NULL) {
        c->contents_from[l->stream] = c->next_part;
        return MR_OK;
    }
    struct mr_unpack u = {.rest = mr_buf_bytes(blob)};
    *ret = mr_unpack_u64(&u);
    if (!mr_unpack_end(&u) || *ret > c->next_part) {
        return unreadable(l, "since when contents are kept");
    }
    c->contents_from[l->stream] = *ret;
    return MR_OK;
}

/* The blobs of the old shards that this shard needs: its own, or all. */
static enum mr_status begin_dedup(struct loading *l, uint32_t old_stream, uint32_t *ret_count) {
    struct mr_bytes saved[MR_SHARDS_MAX];
    uint32_t count = l->moved ? l->manifest->shards : 1;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t old_shard = l->moved ? i : l->shard;
        const struct mr_buf *blob =
            mr_manifest_blob(l->manifest, MR_BLOB_DEDUP, old_shard, old_stream);
        if (blob == NULL) {
            return unreadable(l, "a dedup part");
        }
        saved[i] = mr_buf_bytes(blob);
    }
    *ret_count = count;
    return mr_dedup_load_begin(l->pipeline->shards[l->shard].dedup[l->stream], saved, count,
                               l->error);
}

static enum mr_status load_dedup(struct loading *l, uint32_t old_stream, uint64_t contents_from) {
    struct mr_dedup *dedup = l->pipeline->shards[l->shard].dedup[l->stream];
    uint32_t blobs = 0;
    enum mr_status status = begin_dedup(l, old_stream, &blobs);
    if (status == MR_OK && l->moved) {
        mr_dedup_journal(dedup, true);
    }
    for (uint32_t i = 0; status == MR_OK && i < l->manifest->part_count; i++) {
        const struct mr_manifest_part *part = &l->manifest->parts[i];
        bool wanted = mr_part_has_ids(part) && part->stream == old_stream &&
                      (l->moved || part->shard == l->shard);
        if (!wanted) {
            continue;
        }
        l->contents = part->id.kind == MR_PART_CONTENTS;
        l->compares = l->contents && part->id.number >= contents_from;
        l->saved = l->moved ? part->shard : 0;
        status = mr_part_read(l->from->disk, l->from->dir, &part->id, 0, part->len, load_block, l,
                              l->error);
        if (status == MR_OK && !l->moved) {
            status = mr_lane_adopt(&l->pipeline->checkpointer, l->shard, l->stream, part);
        }
    }
    if (status == MR_OK) {
        status = mr_dedup_load_end(dedup, l->moved, l->error);
    }
    if (status == MR_OK && l->moved) {
        status = write_ids(l, true);
    }
    return status;
}

static enum mr_status say_full(struct loading *l) {
    struct mr_error inner = *l->error;
    struct mr_bytes name = l->pipeline->plan->streams[l->stream].name;
    return mr_error_set(l->error, MR_FULL,
                        "`streams.%.*s.dedup.ids: %llu` is less than what is remembered (%s): raise it",
                        (int)name.len, (const char *)name.ptr,
                        (unsigned long long)l->pipeline->plan->config->streams[l->stream].dedup.ids,
                        inner.text);
}

static enum mr_status load_dedups(struct loading *l) {
    enum mr_status status = MR_OK;
    for (uint32_t old = 0; old < l->old_streams; old++) {
        l->stream = l->stream_now[old];
        if (l->stream == UINT32_MAX || l->from->change.streams[l->stream] == MR_CHANGE_ANEW) {
            continue;
        }
        uint64_t contents_from = 0;
        status = load_contents_from(l, old, &contents_from);
        for (l->shard = 0; status == MR_OK && l->shard < l->pipeline->plan->shards; l->shard++) {
            status = load_dedup(l, old, contents_from);
        }
        if (status != MR_OK) {
            return status == MR_FULL ? say_full(l) : status;
        }
    }
    return status;
}

/* ---- groups ---- */

static enum mr_status load_slice(void *ctx, uint64_t tag, struct mr_bytes payload) {
    struct loading *l = ctx;
    (void)tag;
    uint64_t dropped = 0;
    bool counters = !l->moved || l->shard == 0;
    enum mr_status status = mr_combine_load_slice(l->pipeline->shards[l->shard].combine, payload,
                                                  counters, &dropped, l->error);
    l->dropped_events += counters ? dropped : 0;
    return status;
}

static enum mr_status load_slices(struct loading *l) {
    enum mr_status status = MR_OK;
    for (uint32_t i = 0; status == MR_OK && i < l->manifest->part_count; i++) {
        const struct mr_manifest_part *part = &l->manifest->parts[i];
        if (part->id.kind == MR_PART_GROUPS && (l->moved || part->shard == l->shard)) {
            status = mr_part_read(l->from->disk, l->from->dir, &part->id, 0, part->len, load_slice, l, l->error);
        }
    }
    return status;
}

/* joined: whose windows come from another checkpoint; NULL: none do. */
static enum mr_status load_groups(struct loading *l, struct loading *joined, const int64_t *watermarks_ms) {
    struct mr_combine *combine = l->pipeline->shards[l->shard].combine;
    struct mr_combine_load load = {
        .seq = l->manifest->seq,
        .watermarks_ms = watermarks_ms,
        .rule_map = l->rule_now,
        .rule_map_len = l->old_rules,
        .shards = l->pipeline->plan->shards,
    };
    enum mr_status status = mr_combine_load_begin(combine, &load, l->error);
    if (status == MR_OK) {
        status = load_slices(l);
    }
    if (status == MR_OK && joined != NULL) {
        struct mr_combine_load_also also = {
            .rule_map = joined->rule_now, .rule_map_len = joined->old_rules, .begins_ms = l->from->join->begins_ms};
        joined->shard = l->shard;
        status = mr_combine_load_also(combine, &also, l->error);
        status = status == MR_OK ? load_slices(joined) : status;
    }
    return status == MR_OK ? mr_combine_load_end(combine, l->error) : status;
}

static enum mr_status load_windows(struct loading *l, struct loading *joined) {
    const struct mr_plan *plan = l->pipeline->plan;
    int64_t watermarks_ms[MR_STREAMS_MAX];
    for (uint32_t i = 0; i < plan->stream_count; i++) {
        watermarks_ms[i] = l->pipeline->sequencer.watermarks[i].watermark_ms;
    }
    enum mr_status status = MR_OK;
    for (l->shard = 0; status == MR_OK && l->shard < plan->shards; l->shard++) {
        status = load_groups(l, joined, watermarks_ms);
    }
    bool trial = l->pipeline->checkpointer.dir == NULL;
    if (status == MR_OK && l->dropped_events > 0 && !trial && joined == NULL) {
        mr_report(MR_LEVEL_WARN, "windows_dropped",
                  "events=%llu reason=\"their rule is gone or begins anew\" "
                  "action=\"the log has the events, as far back as it reaches\"",
                  (unsigned long long)l->dropped_events);
    }
    return status;
}

static void settle_shards(struct loading *l) {
    const struct mr_plan *plan = l->pipeline->plan;
    for (uint32_t i = 0; i < plan->shards; i++) {
        struct mr_shard *shard = &l->pipeline->shards[i];
        atomic_store_explicit(&shard->done_seq, l->manifest->seq, memory_order_relaxed);
        for (uint32_t k = 0; k < plan->stream_count; k++) {
            uint64_t room = mr_dedup_room(shard->dedup[k], l->manifest->recorded_ms);
            atomic_store_explicit(&shard->streams[k].room, room, memory_order_relaxed);
        }
    }
}

/* ---- rules from another checkpoint ---- */

static struct loading loading_of(struct mr_pipeline *pipeline, const struct mr_restored *from,
                                 struct mr_fingerprint *mine, struct mr_error *error) {
    return (struct loading){
        .pipeline = pipeline,
        .from = from,
        .manifest = &from->newest,
        .old_streams = from->old_streams,
        .old_rules = from->old_rules,
        .moved = from->newest.shards != pipeline->plan->shards,
        .mine = mine,
        .mine_contents = mine == NULL ? NULL : (uint64_t *)(void *)(mine + MR_DEDUP_CHUNK_IDS),
        .error = error,
    };
}

/* Windows of that checkpoint can be loaded under the watermarks of this one where both say the same of them: those that
 * are not left out end behind begins_ms. */
static enum mr_status match_watermark(struct loading *j, const struct mr_restored_join *join, uint32_t stream,
                                      int64_t there_ms) {
    const struct mr_plan *plan = j->pipeline->plan;
    int64_t here_ms = j->pipeline->sequencer.watermarks[stream].watermark_ms;
    int64_t later_ms = here_ms > there_ms ? here_ms : there_ms;
    for (uint32_t i = 0; here_ms != there_ms && i < plan->rule_count; i++) {
        const struct mr_rule *rule = &plan->rules[i];
        bool reads = false;
        for (uint32_t k = 0; k < rule->input_count; k++) {
            reads = reads || rule->inputs[k].stream == stream;
        }
        bool joins = j->rule_now[j->from->change.rule_of[i]] != UINT32_MAX && rule->window.kind != MR_WINDOW_GLOBAL;
        if (reads && joins && join->begins_ms[i] < later_ms) {
            return mr_error_set(
                j->error, MR_UNSUPPORTED,
                "the watermark of streams.%.*s is at %lld ms in the data, but at %lld ms in the replay (a "
                "source that was silent since before the log's beginning, or an out_of_orderness that was "
                "another one): windows of rule %.*s may have closed at another time there",
                (int)plan->streams[stream].name.len, (const char *)plan->streams[stream].name.ptr, (long long)here_ms,
                (long long)there_ms, (int)rule->name.len, (const char *)rule->name.ptr);
        }
    }
    return MR_OK;
}

static enum mr_status match_watermarks(struct loading *j, const struct mr_restored_join *join) {
    struct mr_unpack u = unpack_blob(j, MR_BLOB_SEQUENCER, 0);
    (void)mr_unpack_u64(&u); /* bundles */
    (void)mr_unpack_u64(&u); /* batches */
    enum mr_status status = MR_OK;
    for (uint32_t i = 0; status == MR_OK && i < j->old_streams; i++) {
        struct sealed_stream sealed;
        bool read = unpack_stream(&u, &sealed);
        status =
            read ? match_watermark(j, join, i, sealed.watermark.watermark_ms) : unreadable(j, "the sequencer's part");
        mr_watermark_finish(&sealed.watermark);
    }
    return status;
}

/* Of rules that have nothing in the one, and of no stream. The plan is that of the other. */
static enum mr_status open_joined(const struct loading *l, struct loading *ret) {
    const struct mr_restored_join *join = l->from->join;
    *ret = loading_of(l->pipeline, join->from, NULL, l->error);
    MR_ASSERT(ret->manifest->seq == l->manifest->seq && ret->manifest->lsn == l->manifest->lsn);
    MR_ASSERT(ret->old_streams == l->pipeline->plan->stream_count && !join->from->change.any);
    memset(ret->stream_now, 0xff, sizeof ret->stream_now);
    memset(ret->rule_now, 0xff, sizeof ret->rule_now);
    for (uint32_t i = 0; i < l->pipeline->plan->rule_count; i++) {
        enum mr_change change = l->from->change.rules[i];
        bool joins = change == MR_CHANGE_NEW || change == MR_CHANGE_ANEW;
        ret->rule_now[join->from->change.rule_of[i]] = joins ? i : UINT32_MAX;
    }
    enum mr_status status = match_watermarks(ret, join);
    for (uint32_t i = 0; status == MR_OK && i < ret->manifest->shards; i++) {
        status = load_counters(ret, i);
    }
    return status;
}

enum mr_status mr_restore(struct mr_pipeline *pipeline, const struct mr_restored *restored,
                          struct mr_error *error) {
    struct mr_fingerprint *mine = mr_alloc(MR_DEDUP_CHUNK_IDS * (sizeof *mine + sizeof(uint64_t)));
    if (mine == NULL) {
        return mr_error_set(error, MR_NO_MEMORY, "out of memory loading the checkpoint");
    }
    struct loading l = loading_of(pipeline, restored, mine, error);
    struct loading joined;
    map_names(&l);
    enum mr_status status = load_sequencer(&l);
    status = status == MR_OK ? load_redrives(&l) : status;
    for (uint32_t i = 0; status == MR_OK && i < restored->newest.shards; i++) {
        status = load_counters(&l, i);
    }
    if (status == MR_OK) {
        status = load_dedups(&l);
    }
    if (status == MR_OK && restored->join != NULL) {
        status = open_joined(&l, &joined);
    }
    if (status == MR_OK) {
        status = load_windows(&l, restored->join != NULL ? &joined : NULL);
    }
    if (status == MR_OK) {
        settle_shards(&l);
    }
    mr_free(mine);
    return status;
}

/* ---- the plan ---- */

/* Windows that were final under the settings before stay final. Their kind is the same, or the rule begins anew. */
static int64_t floor_of(const struct mr_rule *now, const struct mr_config_rule *before, int64_t floor_ms,
                        int64_t watermark_ms) {
    struct mr_rule rule = {.window = now->window,
                           .allowed_lateness_ms = before->allowed_lateness_ms,
                           .final_floor_ms = floor_ms};
    int64_t end_ms = mr_window_final_end(&rule, watermark_ms);
    return end_ms > floor_ms ? end_ms : floor_ms;
}

static int64_t watermark_of(const struct mr_config_rule *rule, const int64_t *watermarks_ms) {
    int64_t least = watermarks_ms[rule->streams[0]];
    for (uint32_t i = 1; i < rule->stream_count; i++) {
        int64_t next = watermarks_ms[rule->streams[i]];
        least = next < least ? next : least;
    }
    return least;
}

enum mr_status mr_restored_plan(struct mr_restored *restored, const struct mr_config *before,
                                uint64_t anew_seq, struct mr_plan *plan, struct mr_error *error) {
    const struct mr_buf *rules = mr_manifest_blob(&restored->newest, MR_BLOB_RULES, 0, 0);
    const struct mr_buf *sequencer = mr_manifest_blob(&restored->newest, MR_BLOB_SEQUENCER, 0, 0);
    struct mr_unpack u = {.rest = rules == NULL ? mr_bytes_of(NULL, 0) : mr_buf_bytes(rules)};
    struct mr_unpack w = {.rest = sequencer == NULL ? mr_bytes_of(NULL, 0) : mr_buf_bytes(sequencer)};
    uint64_t generations[MR_RULES_MAX];
    int64_t floors_ms[MR_RULES_MAX];
    int64_t watermarks_ms[MR_STREAMS_MAX];
    for (uint32_t i = 0; i < before->rule_count; i++) {
        generations[i] = mr_unpack_u64(&u);
        floors_ms[i] = mr_unpack_i64(&u);
    }
    (void)mr_unpack_u64(&w); /* bundles */
    (void)mr_unpack_u64(&w); /* batches */
    for (uint32_t i = 0; i < before->stream_count; i++) {
        struct sealed_stream sealed;
        bool read = unpack_stream(&w, &sealed);
        watermarks_ms[i] = sealed.watermark.watermark_ms;
        mr_watermark_finish(&sealed.watermark);
        if (!read) {
            w.failed = true;
            break;
        }
    }
    if (!mr_unpack_end(&u) || !mr_unpack_end(&w)) {
        return mr_error_set(error, MR_CORRUPT, "%s: the rules' part cannot be read", restored->dir);
    }
    restored->change_seq = anew_seq;
    memcpy(restored->old_generations, generations, before->rule_count * sizeof *generations);
    for (uint32_t i = 0; i < plan->rule_count; i++) {
        uint32_t old = restored->change.rule_of[i];
        restored->finals_ms[i] = INT64_MIN;
        if (old == UINT32_MAX || restored->change.rules[i] == MR_CHANGE_ANEW) {
            plan->generations[i] = anew_seq;
            continue;
        }
        plan->generations[i] = generations[old];
        plan->rules[i].final_floor_ms = floors_ms[old];
        if (restored->change.rules[i] != MR_CHANGE_NONE) {
            int64_t watermark_ms = watermark_of(&before->rules[old], watermarks_ms);
            plan->rules[i].final_floor_ms =
                floor_of(&plan->rules[i], &before->rules[old], floors_ms[old], watermark_ms);
            restored->finals_ms[i] = mr_window_final_end(&plan->rules[i], watermark_ms);
        }
    }
    return MR_OK;
}
