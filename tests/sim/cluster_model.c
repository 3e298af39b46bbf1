/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/cluster_model.h"

#include "base/check.h"
#include "pipeline/verdicts.h"
#include "tests/sim/cluster_clients.h"
#include "tests/sim/journal.h"

#include <inttypes.h>
#include <string.h>

/* ---- cells ---- */

struct cluster_cell *cluster_model_cell(const struct cluster_model *model, uint32_t rule, int64_t window_ms,
                                        uint32_t key) {
    for (uint32_t i = 0; i < model->cell_count; i++) {
        struct cluster_cell *c = &model->cells[i];
        if (c->window_ms == window_ms && c->rule == rule && c->key == key) {
            return c;
        }
    }
    return NULL;
}

static void add(struct cluster_model *m, uint32_t stream, const struct cluster_id *id) {
    int64_t size_ms = m->world->settings.stream[stream].window_ms;
    int64_t window_ms = id->ts_ms / size_ms * size_ms;
    struct cluster_cell *c = cluster_model_cell(m, stream, window_ms, id->key);
    if (c == NULL) {
        if (m->cell_count == m->cell_cap) {
            m->cell_cap = m->cell_cap == 0 ? 64 : m->cell_cap * 2;
            m->cells = realloc(m->cells, m->cell_cap * sizeof *m->cells);
            MR_ASSERT(m->cells != NULL);
        }
        c = &m->cells[m->cell_count++];
        *c = (struct cluster_cell){.window_ms = window_ms, .rule = stream, .key = id->key};
    }
    c->events++;
    c->sum += id->value;
}

/* ---- the thirty lines ---- */

/* taken: NULL: this node alone judges. */
static uint8_t judge(struct cluster_model *m, uint32_t stream, const struct cluster_event *e, bool taken) {
    const struct cluster_stream *s = &m->world->settings.stream[stream];
    const struct cluster_id *id = &m->world->ids[stream][e->id];
    if (e->broken) {
        return 'R';
    }
    bool future = id->ts_ms > m->recorded_ms + s->max_future_ms;
    if (!future && id->ts_ms > m->times_max_ms[stream]) {
        m->times_max_ms[stream] = id->ts_ms;
    }
    if (s->claimed ? taken : m->accepted[stream][e->id] > 0) {
        return 'D';
    }
    m->accepted[stream][e->id]++;
    int64_t end_ms = id->ts_ms / s->window_ms * s->window_ms + s->window_ms;
    if (future || (m->before_ms[stream] != INT64_MIN && end_ms + s->lateness_ms <= m->before_ms[stream])) {
        return 'L';
    }
    add(m, stream, id);
    return 'A';
}

static void take_effect(struct cluster_model *m, struct cluster_record *r, const uint8_t *taken) {
    uint32_t stream = r->request->stream;
    const struct cluster_stream *s = &m->world->settings.stream[stream];
    bool remembers = s->claimed && s->outage == MR_CONFIG_OUTAGE_LOCAL;
    for (uint32_t i = 0; i < r->request->count; i++) {
        uint32_t id = r->request->events[i].id;
        bool is_taken = taken != NULL && mr_verdicts_is_taken(taken, i);
        bool is_known = remembers && m->accepted[stream][id] > 0;
        r->verdicts[i] = judge(m, stream, &r->request->events[i], is_taken || is_known);
        m->verdicts[stream][r->verdicts[i]]++;
        m->alone[stream][id] = m->alone[stream][id] || (r->local && (r->verdicts[i] == 'A' || r->verdicts[i] == 'L'));
    }
    r->decided = true;
}

static void begin_bundle(struct cluster_model *m) {
    for (uint32_t s = 0; s < m->world->settings.streams; s++) {
        m->before_ms[s] = m->watermarks_ms[s];
        m->times_max_ms[s] = INT64_MIN;
    }
}

static void end_bundle(struct cluster_model *m) {
    for (uint32_t i = 0; i < m->world->settings.streams; i++) {
        const struct cluster_stream *s = &m->world->settings.stream[i];
        int64_t moved_ms = INT64_MIN;
        int64_t silent_ms = m->last_events_ms[i] == INT64_MIN ? INT64_MIN : m->recorded_ms - m->last_events_ms[i];
        if (m->times_max_ms[i] != INT64_MIN) {
            m->last_events_ms[i] = m->recorded_ms;
            moved_ms = m->times_max_ms[i] - s->out_of_orderness_ms;
        } else if (silent_ms >= s->idle_timeout_ms && m->pending[i] == 0) { /* who waits for verdicts is not idle */
            moved_ms = m->recorded_ms - s->out_of_orderness_ms;
        }
        m->watermarks_ms[i] = moved_ms > m->watermarks_ms[i] ? moved_ms : m->watermarks_ms[i];
    }
}

/* ---- the log ---- */

static void take_events(struct cluster_model *m, const struct mr_record *record) {
    if (m->record_count == m->record_cap) {
        m->record_cap = m->record_cap == 0 ? 256 : m->record_cap * 2;
        m->records = realloc(m->records, m->record_cap * sizeof *m->records);
        MR_ASSERT(m->records != NULL);
    }
    struct cluster_record *r = &m->records[m->record_count++];
    const uint8_t *at = record->payload.ptr + 16 + record->payload.ptr[3];
    const uint8_t *end = record->payload.ptr + record->payload.len;
    *r = (struct cluster_record){.lsn = record->lsn};
    r->request = cluster_clients_find(m->world, mr_bytes_of(at, (size_t)(end - at)));
    if (r->request == NULL) {
        CLUSTER_FAILS("n%u: record %" PRIu64 " holds what nobody sent", m->node, record->lsn);
    }
    uint32_t stream = r->request->stream;
    m->received[stream] += r->request->count;
    if (m->world->settings.stream[stream].claimed) {
        m->pending[stream] += r->request->count;
    } else {
        take_effect(m, r, NULL);
    }
}

static int by_lsn(const void *key, const void *item) {
    uint64_t lsn = *(const uint64_t *)key;
    const struct cluster_record *record = item;
    return (lsn > record->lsn) - (lsn < record->lsn);
}

const struct cluster_record *cluster_model_record(const struct cluster_model *model, uint64_t lsn) {
    return model->record_count == 0
               ? NULL
               : bsearch(&lsn, model->records, model->record_count, sizeof *model->records, by_lsn);
}

/* Each record of a claimed stream is decided once, and in the order of the log. */
static void take_verdicts(struct cluster_model *m, const struct mr_record *record) {
    struct mr_verdicts_reader reader;
    struct mr_verdicts entry;
    struct mr_error error;
    enum mr_status status = mr_verdicts_begin(record->payload, record->lsn, &reader, &error);
    MR_ASSERT(status == MR_OK);
    while (mr_verdicts_next(&reader, &entry)) {
        struct cluster_record *r = m->record_count == 0
                                       ? NULL
                                       : bsearch(&entry.lsn, m->records, m->record_count, sizeof *m->records, by_lsn);
        if (r == NULL || r->decided || r->request->count != entry.events) {
            CLUSTER_FAILS("n%u: record %" PRIu64 " decides record %" PRIu64 ", %s", m->node, record->lsn, entry.lsn,
                          r == NULL ? "which is none" : "which was decided before, or has another number of events");
        }
        uint32_t stream = r->request->stream;
        if (entry.lsn <= m->decided_lsn[stream]) {
            CLUSTER_FAILS("n%u: s%u: record %" PRIu64 " was decided after %" PRIu64, m->node, stream, entry.lsn,
                          m->decided_lsn[stream]);
        }
        m->decided_lsn[stream] = entry.lsn;
        m->pending[stream] -= r->request->count;
        if (entry.local && m->world->settings.stream[stream].outage != MR_CONFIG_OUTAGE_LOCAL) {
            CLUSTER_FAILS("n%u: s%u: record %" PRIu64 " was decided by the node alone", m->node, stream, entry.lsn);
        }
        r->local = entry.local;
        take_effect(m, r, entry.taken);
    }
}

static bool is_counted(enum mr_record_type type) {
    return type == MR_RECORD_EVENTS || type == MR_RECORD_TICK || type == MR_RECORD_VERDICTS;
}

static void take_record(struct cluster_model *m, const struct mr_record *record) {
    if (is_counted(record->type)) {
        if (record->recorded_ms < m->recorded_ms) {
            CLUSTER_FAILS("n%u: recorded time went back at bundle %" PRIu64, m->node, record->seq);
        }
        m->recorded_ms = record->recorded_ms;
    }
    if (record->type == MR_RECORD_EVENTS) {
        take_events(m, record);
    } else if (record->type == MR_RECORD_VERDICTS) {
        take_verdicts(m, record);
    }
}

static void run(struct cluster_model *m, struct sim_journal *journal) {
    struct mr_record record;
    uint64_t seq = 0;
    bool counts = false;
    while (sim_journal_next(journal, &record)) {
        if (record.seq != seq) {
            if (counts) {
                end_bundle(m);
            }
            begin_bundle(m);
            seq = record.seq;
            counts = is_counted(record.type);
        }
        take_record(m, &record);
    }
    if (counts) {
        end_bundle(m);
    }
}

struct cluster_model *cluster_model_open(struct cluster_node *node) {
    struct cluster_model *m = calloc(1, sizeof *m);
    struct sim_world *shell = calloc(1, sizeof *shell); /* of a world the journal looks at the disk only */
    MR_ASSERT(m != NULL && shell != NULL);
    m->world = node->world;
    m->node = node->index;
    m->recorded_ms = INT64_MIN;
    for (uint32_t i = 0; i < CLUSTER_STREAMS_MAX; i++) {
        m->watermarks_ms[i] = INT64_MIN;
        m->last_events_ms[i] = INT64_MIN;
    }
    shell->disk = node->disk;
    struct sim_journal journal;
    sim_journal_open(shell, mr_counter_read(&mr_log_stats(node->data.log)->last_lsn), &journal);
    run(m, &journal);
    sim_journal_close(&journal);
    free(shell);
    return m;
}

void cluster_model_close(struct cluster_model *model) {
    free(model->records);
    free(model->cells);
    free(model);
}
