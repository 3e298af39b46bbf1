/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The hot loop works on some hundred events at a time, so that what it remembers about them stays
 * in the first-level cache: judge → for each rule: keys and hashes (prefetching slots) → partials →
 * metrics by column.
 */
#include "aggregate/lift.h"

#include "aggregate/dead_letter.h"
#include "aggregate/key_columns.h"
#include "aggregate/partial_table.h"
#include "aggregate/window.h"
#include "base/alloc.h"
#include "base/bug.h"

enum {
    LIFT_CHUNK = 256,      /* events judged together */
    KEY_BYTES = 32 * 1024, /* their encoded keys; long keys make smaller groups of probes */
    TEXT_AHEAD = 16,       /* events: their texts are prefetched so far ahead; the other core wrote them */
};

/* Bounded by the bundle (its events times the rules): no bound of its own that a replay could meet
 * for ever. */
#define PARCEL_BYTES_MAX (SIZE_MAX / 2)

/* A rule and one of the streams it reads. */
struct lift_rule {
    const struct mr_rule *rule;
    const struct mr_rule_input *input;
    struct mr_partial_list partials; /* those that events of this stream began */
    int64_t late_before_ms;          /* of this batch: events before it are late */
    int64_t slice_start_ms;          /* of the last event: its neighbours are likely in the same one */
    int64_t slice_end_ms;
};

struct mr_lift {
    struct lift_rule *rules; /* sorted by stream, then index */
    uint32_t rule_count;     /* of them: a rule is there once for each of its streams */
    uint32_t stream_first[MR_STREAMS_MAX + 1]; /* rules of stream s: from [s] to [s + 1] */
    const struct mr_bytes *stream_names;
    uint32_t stream_count;
    uint32_t shard;
    uint32_t shards;
    uint64_t seq;
    struct mr_partial_table table;

    /* Scratch of a chunk. */
    uint32_t live[LIFT_CHUNK]; /* accepted events */
    struct mr_partial_probe probes[LIFT_CHUNK];
    uint32_t events[LIFT_CHUNK];
    uint8_t *states[LIFT_CHUNK];
    uint32_t some_events[LIFT_CHUNK]; /* those that one metric takes */
    uint8_t *some_states[LIFT_CHUNK];
    uint8_t keys[KEY_BYTES + MR_KEY_SHORT]; /* each with zeros behind it up to a multiple of 8 */
};

/* What one call of mr_lift_batch works on. */
struct job {
    struct mr_batch *batch;
    struct lift_rule *rules; /* of its stream */
    uint32_t rule_count;
    int64_t watermark_ms; /* of its stream */
    int64_t time_limit_ms;
    int64_t some_late_ms; /* before it some rule says late */
    struct mr_buf *dead;
    uint32_t *dead_count;
    struct mr_lift_counts *counts;
    struct mr_lift_rule_counts *rule_counts;
};

static void sort_rules(struct mr_lift *lift, const struct mr_rule *rules, uint32_t rule_count) {
    uint32_t at = 0;
    for (uint32_t s = 0; s < lift->stream_count; s++) {
        lift->stream_first[s] = at;
        for (uint32_t r = 0; r < rule_count; r++) {
            for (uint32_t i = 0; i < rules[r].input_count; i++) {
                if (rules[r].inputs[i].stream == s) {
                    lift->rules[at].rule = &rules[r];
                    lift->rules[at++].input = &rules[r].inputs[i];
                }
            }
        }
    }
    lift->stream_first[lift->stream_count] = at;
    MR_ASSERT(at == lift->rule_count); /* every input names a stream of the plan */
}

enum mr_status mr_lift_open(const struct mr_rule *rules, uint32_t rule_count,
                            const struct mr_bytes *stream_names, uint32_t stream_count,
                            uint32_t shard, uint32_t shards, struct mr_lift **ret) {
    MR_ASSERT(stream_count <= MR_STREAMS_MAX && rule_count <= MR_RULES_MAX);
    MR_ASSERT(shard < shards && shards <= MR_SHARDS_MAX);
    struct mr_lift *lift = mr_alloc_zero(1, sizeof *lift);
    if (lift == NULL) {
        return MR_NO_MEMORY;
    }
    for (uint32_t r = 0; r < rule_count; r++) {
        lift->rule_count += rules[r].input_count;
    }
    lift->stream_names = stream_names;
    lift->stream_count = stream_count;
    lift->shard = shard;
    lift->shards = shards;
    enum mr_status status = mr_partial_table_init(&lift->table);
    lift->rules = mr_alloc_zero(lift->rule_count + 1, sizeof *lift->rules);
    if (status != MR_OK || lift->rules == NULL) {
        mr_lift_close(lift);
        return MR_NO_MEMORY;
    }
    sort_rules(lift, rules, rule_count);
    mr_lift_begin(lift, 0);
    *ret = lift;
    return MR_OK;
}

/* Frees what partials hold besides the table's memory. */
static void release_partials(struct mr_lift *lift) {
    for (uint32_t r = 0; r < lift->rule_count; r++) {
        const struct mr_rule *rule = lift->rules[r].rule;
        struct mr_partial_entry *e = lift->rules[r].partials.first;
        for (; e != NULL && rule->grows; e = e->next) {
            mr_metric_release(rule->metrics, rule->metric_count, mr_partial_state(&e->partial));
        }
    }
}

void mr_lift_close(struct mr_lift *lift) {
    if (lift == NULL) {
        return;
    }
    if (lift->rules != NULL) {
        release_partials(lift);
    }
    mr_partial_table_finish(&lift->table);
    mr_free(lift->rules);
    mr_free(lift);
}

void mr_lift_begin(struct mr_lift *lift, uint64_t seq) {
    release_partials(lift);
    lift->seq = seq;
    mr_partial_table_reset(&lift->table);
    for (uint32_t r = 0; r < lift->rule_count; r++) {
        lift->rules[r].partials = (struct mr_partial_list){NULL, NULL};
    }
}

static bool is_true(const struct mr_batch *batch, uint32_t column, uint32_t event) {
    return column == MR_NO_COLUMN || batch->column[column].kinds[event] == MR_VALUE_TRUE;
}

static void write_dead_letter(const struct mr_lift *lift, const struct job *job, uint32_t event,
                              enum mr_dead_reason reason, const struct mr_rule *const *late,
                              uint32_t late_count) {
    struct mr_dead_letter letter = {
        .reason = reason,
        .batch = job->batch,
        .event = event,
        .stream_name = lift->stream_names[job->batch->stream],
        .watermark_ms = job->watermark_ms,
        .rules = late,
        .rule_count = late_count,
    };
    mr_dead_letter_event(job->dead, &letter);
    (*job->dead_count)++;
}

/* An event that is too late for some rule. Late as a whole when all rules that would take it say so; there must be one. */
static bool judge_late(const struct mr_lift *lift, const struct job *job, uint32_t event) {
    const struct mr_rule *late[MR_RULES_MAX];
    uint32_t late_count = 0;
    uint32_t takers = 0;
    int64_t time = job->batch->times_ms[event];
    for (uint32_t r = 0; r < job->rule_count; r++) {
        const struct lift_rule *lr = &job->rules[r];
        if (is_true(job->batch, lr->input->where, event)) {
            takers++;
            if (time < lr->late_before_ms) {
                late[late_count++] = lr->rule;
            }
        }
    }
    if (late_count > 0) {
        write_dead_letter(lift, job, event, MR_DEAD_LATE, late, late_count);
    }
    return takers > 0 && late_count == takers;
}

/* The verdict of an event that is too far in the future, or late for some rule. */
static enum mr_verdict judge_unusual(const struct mr_lift *lift, const struct job *job, uint32_t event) {
    MR_ASSERT(job->batch->times_ms[event] != MR_TIME_ARRIVAL);
    if (job->batch->times_ms[event] > job->time_limit_ms) {
        job->counts->future++;
        write_dead_letter(lift, job, event, MR_DEAD_FUTURE, NULL, 0);
        return MR_VERDICT_LATE;
    }
    if (judge_late(lift, job, event)) {
        job->counts->late++;
        return MR_BUG(LATE_AS_DUPLICATE) ? MR_VERDICT_DUPLICATE : MR_VERDICT_LATE;
    }
    return MR_VERDICT_ACCEPTED;
}

/* Sets the verdicts of order[0..n), writes dead letters, and collects the accepted events in
 * lift->live. */
static uint32_t judge(struct mr_lift *lift, const struct job *job, const uint32_t *order,
                      uint32_t n) {
    uint32_t live = 0;
    const int64_t *times = job->batch->times_ms;
    uint8_t *verdicts = job->batch->verdicts;
    int64_t some_late_ms = job->some_late_ms > MR_TIME_ARRIVAL ? job->some_late_ms : MR_TIME_ARRIVAL + 1;
    int64_t time_limit_ms = job->time_limit_ms;
    for (uint32_t k = 0; k < n; k++) {
        uint32_t e = order[k];
        uint8_t verdict = MR_VERDICT_ACCEPTED;
        if (__builtin_expect(times[e] < some_late_ms || times[e] > time_limit_ms, 0)) {
            verdict = (uint8_t)judge_unusual(lift, job, e);
        }
        verdicts[e] = verdict;
        lift->live[live] = e;
        live += verdict == MR_VERDICT_ACCEPTED;
    }
    job->counts->accepted += live;
    return live;
}

/* What one partial of the rule holds of times around this one: times of a slice are in the same windows. Of sessions:
 * times that are less than a gap apart, whatever lies between them. */
static void find_slice(struct lift_rule *lr, int64_t time) {
    const struct mr_rule *rule = lr->rule;
    if (rule->window.kind != MR_WINDOW_SESSION) {
        mr_window_slice(rule, time, &lr->slice_start_ms, &lr->slice_end_ms);
        return;
    }
    int64_t gap = rule->window.gap_ms;
    lr->slice_start_ms = time / gap * gap; /* times are after 1970 */
    lr->slice_end_ms = lr->slice_start_ms + gap;
}

/* The accepted events that the rule takes, and the slice of each; returns how many. */
static uint32_t take_events(struct mr_lift *lift, struct lift_rule *lr, const struct job *job, uint32_t live_count) {
    struct mr_lift_rule_counts *counts = &job->rule_counts[lr->rule->index];
    const int64_t *times = job->batch->times_ms;
    const uint32_t where = lr->input->where;
    const int64_t late_before_ms = lr->late_before_ms;
    int64_t slice_start_ms = lr->slice_start_ms;
    int64_t slice_end_ms = lr->slice_end_ms;
    uint32_t n = 0;
    for (uint32_t k = 0; k < live_count; k++) {
        uint32_t e = lift->live[k];
        int64_t time = times[e];
        if (where != MR_NO_COLUMN && !is_true(job->batch, where, e)) {
            counts->filtered++;
            continue;
        }
        if (time < late_before_ms) {
            counts->late++;
            continue;
        }
        if (time < slice_start_ms || time >= slice_end_ms) {
            find_slice(lr, time);
            slice_start_ms = lr->slice_start_ms;
            slice_end_ms = lr->slice_end_ms;
        }
        lift->events[n] = e;
        lift->probes[n].window_start_ms = slice_start_ms;
        n++;
    }
    return n;
}

/* The keys of events[from..n), as far as the scratch for them reaches; returns up to where. */
static uint32_t encode_keys(struct mr_lift *lift, const struct lift_rule *lr, const struct mr_batch *batch,
                            uint32_t from, uint32_t n) {
    const struct mr_key_columns columns = mr_key_columns_of(lr->rule, lr->input, batch);
    const uint8_t *kinds = columns.columns[0].kinds;
    const union mr_value *values = columns.columns[0].values;
    const uint8_t *body = columns.body;
    const bool one = columns.count == 1;
    uint8_t *at = lift->keys;
    uint32_t k = from;
    for (; k < n && at <= lift->keys + (KEY_BYTES - MR_KEY_COLUMNS_MAX); k++) {
        uint32_t e = lift->events[k];
        uint32_t len = 0;
        if (one) {
            uint32_t ahead = lift->events[k + TEXT_AHEAD < n ? k + TEXT_AHEAD : n - 1];
            const uint8_t *text = body + values[ahead].text.off;
            __builtin_prefetch(text);
            __builtin_prefetch(text + MR_KEY_SHORT - 1);
            len = mr_key_encode_short(body, kinds[e], values[e].text, at);
        }
        if (__builtin_expect(len == 0, 0)) {
            len = mr_key_columns_encode(&columns, batch, e, at);
        }
        lift->probes[k].key = mr_bytes_of(at, len);
        memset(at + len, 0, 8);
        at += (len + 7) & ~7u;
    }
    return k;
}

/* A loop of its own: a hash right behind the writing of its key would wait for the stores (a load
 * that spans several of them is not forwarded). */
static void hash_keys(const struct mr_lift *lift, const struct mr_rule *rule, struct mr_partial_probe *probes,
                      uint32_t n) {
    const uint64_t seed = rule->key_seed;
    const uint32_t index = rule->index;
    const struct mr_partial_table table = lift->table;
    for (uint32_t k = 0; k < n; k++) {
        struct mr_partial_probe *probe = &probes[k];
        probe->key_hash = mr_hash64(probe->key, seed);
        probe->hash = mr_partial_hash(probe->key_hash, probe->window_start_ms, index);
        mr_partial_table_prefetch(&table, probe->hash);
    }
}

/* The extent of what each partial holds. */
static void note_times(const struct mr_lift *lift, const struct lift_rule *lr, const struct mr_batch *batch,
                       const uint32_t *events, uint32_t n) {
    for (uint32_t k = 0; k < n; k++) {
        struct mr_session_extent extent;
        memcpy(&extent, lift->states[k], sizeof extent);
        int64_t time = batch->times_ms[events[k]];
        bool first = extent.end_ms == 0;
        extent.start_ms = first || time < extent.start_ms ? time : extent.start_ms;
        int64_t end = time + lr->rule->window.gap_ms;
        extent.end_ms = first || end > extent.end_ms ? end : extent.end_ms;
        memcpy(lift->states[k], &extent, sizeof extent);
    }
}

static enum mr_status add_metric(struct mr_lift *lift, const struct lift_rule *lr, const struct mr_batch *batch,
                                 uint32_t m, const uint32_t *events, uint32_t n) {
    const struct mr_metric *metric = &lr->rule->metrics[m];
    uint32_t of = lr->input->metric_columns[m];
    const struct mr_column *column = of == MR_NO_COLUMN ? NULL : &batch->column[of];
    uint32_t where = lr->input->metric_where[m];
    if (where == MR_NO_COLUMN) {
        return mr_metric_add(metric, batch, column, events, lift->states, n);
    }
    uint32_t some = 0;
    for (uint32_t k = 0; k < n; k++) {
        lift->some_events[some] = events[k];
        lift->some_states[some] = lift->states[k];
        some += is_true(batch, where, events[k]);
    }
    return mr_metric_add(metric, batch, column, lift->some_events, lift->some_states, some);
}

static enum mr_status apply_rule(struct mr_lift *lift, struct lift_rule *lr, const struct job *job,
                                 uint32_t live_count) {
    const struct mr_rule *rule = lr->rule;
    uint32_t taken = take_events(lift, lr, job, live_count);
    for (uint32_t from = 0, to; from < taken; from = to) {
        to = encode_keys(lift, lr, job->batch, from, taken);
        const uint32_t *events = lift->events + from;
        uint32_t n = to - from;
        hash_keys(lift, rule, lift->probes + from, n);
        enum mr_status status =
            mr_partial_table_count(&lift->table, rule, lift->probes + from, n, &lr->partials, lift->states);
        if (status != MR_OK) {
            return status;
        }
        if (rule->window.kind == MR_WINDOW_SESSION) {
            note_times(lift, lr, job->batch, events, n);
        }
        for (uint32_t m = 0; m < rule->metric_count; m++) {
            bool skipped = (lr->input->metrics_skipped >> m & 1) != 0;
            status = skipped ? MR_OK : add_metric(lift, lr, job->batch, m, events, n);
            if (status != MR_OK) {
                return status;
            }
        }
    }
    return MR_OK;
}

static void set_lateness(struct job *job, const int64_t *watermarks_ms) {
    job->some_late_ms = INT64_MIN;
    for (uint32_t r = 0; r < job->rule_count; r++) {
        struct lift_rule *lr = &job->rules[r];
        int64_t end = mr_window_late_before(lr->rule, mr_rule_watermark(lr->rule, watermarks_ms));
        lr->late_before_ms = end;
        lr->slice_start_ms = INT64_MAX; /* an empty slice: the first event looks for its own */
        lr->slice_end_ms = INT64_MIN;
        job->some_late_ms = end > job->some_late_ms ? end : job->some_late_ms;
    }
}

enum mr_status mr_lift_batch(struct mr_lift *lift, struct mr_batch *batch, const uint32_t *order,
                             uint32_t count, const int64_t *watermarks_ms, int64_t time_limit_ms,
                             struct mr_buf *dead, uint32_t *dead_count,
                             struct mr_lift_counts *counts,
                             struct mr_lift_rule_counts *rule_counts) {
    MR_ASSERT(batch->stream < lift->stream_count && count <= batch->count);
    uint32_t first = lift->stream_first[batch->stream];
    struct job job = {
        .batch = batch,
        .rules = lift->rules + first,
        .rule_count = lift->stream_first[batch->stream + 1] - first,
        .watermark_ms = watermarks_ms[batch->stream],
        .time_limit_ms = time_limit_ms,
        .dead = dead,
        .dead_count = dead_count,
        .counts = counts,
        .rule_counts = rule_counts,
    };
    set_lateness(&job, watermarks_ms);
    for (uint32_t at = 0; at < count; at += LIFT_CHUNK) {
        uint32_t n = count - at < LIFT_CHUNK ? count - at : LIFT_CHUNK;
        uint32_t live = judge(lift, &job, order + at, n);
        for (uint32_t r = 0; r < job.rule_count; r++) {
            enum mr_status status = apply_rule(lift, &job.rules[r], &job, live);
            if (status != MR_OK) {
                return status;
            }
        }
    }
    return dead->failed ? MR_NO_MEMORY : MR_OK;
}

static uint32_t encoded_len(const struct mr_rule *rule, struct mr_partial *p) {
    return rule->grows ? mr_metric_encoded_len(rule->metrics, rule->metric_count, mr_partial_state(p)) : p->state_len;
}

static uint32_t encoded_size(const struct mr_partial *p, uint32_t state_len) {
    return (uint32_t)((sizeof *p + state_len + p->key_len + 7) & ~(size_t)7);
}

static bool size_parcels(const struct mr_lift *lift, struct mr_parcel **parcels) {
    size_t sizes[MR_SHARDS_MAX] = {0};
    for (uint32_t r = 0; r < lift->rule_count; r++) {
        const struct mr_rule *rule = lift->rules[r].rule;
        for (struct mr_partial_entry *e = lift->rules[r].partials.first; e != NULL; e = e->next) {
            sizes[mr_rule_shard(e->partial.key_hash, lift->shards)] +=
                encoded_size(&e->partial, encoded_len(rule, &e->partial));
        }
    }
    for (uint32_t s = 0; s < lift->shards; s++) {
        parcels[s] = mr_parcel_open(lift->seq, lift->shard);
        if (parcels[s] == NULL ||
            (sizes[s] > 0 && mr_buf_reserve(&parcels[s]->bytes, sizes[s]) == NULL)) {
            return false;
        }
    }
    return true;
}

/* size_parcels has made it. */
static inline uint8_t *take_room(struct mr_buf *bytes, uint32_t size) {
    MR_ASSERT(bytes->cap - bytes->len >= size);
    uint8_t *at = bytes->ptr + bytes->len;
    bytes->len += size;
    return at;
}

static void append_encoded(struct mr_buf *bytes, const struct mr_rule *rule, struct mr_partial *p) {
    struct mr_partial head = *p;
    head.state_len = encoded_len(rule, p);
    head.size = encoded_size(p, head.state_len);
    uint8_t *at = take_room(bytes, head.size);
    memset(at + head.size - 8, 0, 8);
    memcpy(at, &head, sizeof head);
    mr_metric_encode(rule->metrics, rule->metric_count, mr_partial_state(p), at + sizeof head);
    struct mr_bytes key = mr_partial_key(p);
    if (key.len > 0) {
        memcpy(at + sizeof head + head.state_len, key.ptr, key.len);
    }
}

static void append_partials(const struct mr_lift *lift, const struct lift_rule *lr, struct mr_parcel *const *parcels) {
    const struct mr_rule *rule = lr->rule;
    const uint32_t shards = lift->shards;
    for (struct mr_partial_entry *e = lr->partials.first; e != NULL; e = e->next) {
        struct mr_partial *p = &e->partial;
        struct mr_parcel *parcel = parcels[mr_rule_shard(p->key_hash, shards)];
        MR_ASSERT(p->events > 0);
        parcel->count++;
        if (rule->window.kind == MR_WINDOW_SESSION) {
            struct mr_session_extent extent;
            memcpy(&extent, mr_partial_state(p), sizeof extent);
            p->window_start_ms = extent.start_ms;
        }
        if (rule->grows) {
            append_encoded(&parcel->bytes, rule, p);
        } else {
            memcpy(take_room(&parcel->bytes, p->size), p, p->size);
        }
    }
}

enum mr_status mr_lift_finish(struct mr_lift *lift, struct mr_parcel **ret) {
    struct mr_parcel *parcels[MR_SHARDS_MAX] = {NULL};
    if (!size_parcels(lift, parcels)) {
        for (uint32_t s = 0; s < lift->shards; s++) {
            mr_parcel_close(parcels[s]);
        }
        return MR_NO_MEMORY;
    }
    for (uint32_t r = 0; r < lift->rule_count; r++) {
        append_partials(lift, &lift->rules[r], parcels);
    }
    memcpy(ret, parcels, lift->shards * sizeof *ret);
    mr_lift_begin(lift, lift->seq); /* moved: nothing is left here to be sent twice */
    return MR_OK;
}

struct mr_parcel *mr_parcel_open(uint64_t seq, uint32_t origin) {
    struct mr_parcel *parcel = mr_alloc_zero(1, sizeof *parcel);
    if (parcel != NULL) {
        parcel->seq = seq;
        parcel->origin = origin;
        mr_buf_init(&parcel->bytes, PARCEL_BYTES_MAX);
    }
    return parcel;
}

void mr_parcel_close(struct mr_parcel *parcel) {
    if (parcel != NULL) {
        mr_buf_finish(&parcel->bytes);
        mr_free(parcel);
    }
}
