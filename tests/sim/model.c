/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/model.h"

#include "base/check.h"
#include "base/hash.h"
#include "tests/sim/journal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- the table ---- */

static uint32_t slot_of(const struct sim_model *m, uint32_t rule, int64_t window_ms, uint32_t key) {
    uint64_t hash = ((uint64_t)window_ms * SIM_RULES + rule) * 0x9e3779b97f4a7c15u + key;
    hash *= 0xbf58476d1ce4e5b9u;
    uint32_t mask = 2 * m->cell_cap - 1;
    uint32_t slot = (uint32_t)(hash >> 32) & mask;
    while (m->index[slot] != 0) {
        const struct sim_cell *c = &m->cells[m->index[slot] - 1];
        if (c->rule == rule && c->window_ms == window_ms && c->key == key) {
            break;
        }
        slot = (slot + 1) & mask;
    }
    return slot;
}

struct sim_cell *sim_model_cell(const struct sim_model *m, uint32_t rule, int64_t window_ms,
                                uint32_t key) {
    uint32_t cell = m->index[slot_of(m, rule, window_ms, key)];
    return cell == 0 ? NULL : &m->cells[cell - 1];
}

static void grow_cells(struct sim_model *m) {
    m->cell_cap = m->cell_cap == 0 ? 256 : m->cell_cap * 2;
    m->cells = realloc(m->cells, m->cell_cap * sizeof *m->cells);
    free(m->index);
    m->index = calloc(2 * (size_t)m->cell_cap, sizeof *m->index);
    MR_ASSERT(m->cells != NULL && m->index != NULL);
    for (uint32_t i = 0; i < m->cell_count; i++) {
        const struct sim_cell *c = &m->cells[i];
        m->index[slot_of(m, c->rule, c->window_ms, c->key)] = i + 1;
    }
}

static void add(struct sim_model *m, uint32_t rule, int64_t window_ms, const struct sim_event *e) {
    struct sim_cell *c = sim_model_cell(m, rule, window_ms, e->key);
    if (c == NULL) {
        if (m->cell_count == m->cell_cap) {
            grow_cells(m);
        }
        c = &m->cells[m->cell_count];
        *c = (struct sim_cell){.rule = rule, .window_ms = window_ms, .key = e->key};
        m->index[slot_of(m, rule, window_ms, e->key)] = ++m->cell_count;
    }
    c->events++;
    c->sum += e->value;
}

/* ---- the thirty lines ---- */

static bool is_final(const struct sim_settings *s, uint32_t rule, int64_t window_ms,
                     int64_t watermark_ms) {
    return watermark_ms != INT64_MIN &&
           window_ms + s->window_ms[rule] + s->lateness_ms[rule] <= watermark_ms;
}

bool sim_model_final(const struct sim_model *m, uint32_t rule, int64_t window_ms) {
    return is_final(&m->world->settings, rule, window_ms, m->watermark_ms);
}

static uint8_t judge(struct sim_model *m, const struct sim_event *e, int64_t before_ms,
                     int64_t *max_ms, bool *dead) {
    const struct sim_settings *s = &m->world->settings;
    *dead = true;
    if (e->broken) {
        return 'R';
    }
    bool future = e->ts_ms > m->recorded_ms + s->max_future_ms;
    if (!future && e->ts_ms > *max_ms) {
        *max_ms = e->ts_ms;
    }
    if (sim_ids_judge(&m->ids, e->id, m->recorded_ms)) {
        *dead = false;
        return 'D';
    }
    if (future) {
        return 'L';
    }
    uint32_t late = 0;
    for (uint32_t i = 0; i < SIM_RULES; i++) {
        int64_t window_ms = e->ts_ms / s->window_ms[i] * s->window_ms[i];
        if (is_final(s, i, window_ms, before_ms)) {
            late++;
        } else {
            add(m, i, window_ms, e);
        }
    }
    *dead = late > 0;
    return late == SIM_RULES ? 'L' : 'A';
}

static void end_bundle(struct sim_model *m, int64_t max_ms) {
    const struct sim_settings *s = &m->world->settings;
    if (max_ms != INT64_MIN) {
        m->last_event_ms = m->recorded_ms;
        if (max_ms - s->out_of_orderness_ms > m->watermark_ms) {
            m->watermark_ms = max_ms - s->out_of_orderness_ms;
        }
    }
    bool idle = m->last_event_ms != INT64_MIN && s->idle_timeout_ms != INT64_MAX &&
                m->recorded_ms - m->last_event_ms >= s->idle_timeout_ms;
    if (idle && m->recorded_ms - s->out_of_orderness_ms > m->watermark_ms) {
        m->watermark_ms = m->recorded_ms - s->out_of_orderness_ms;
    }
}

/* ---- the log ---- */

/* A line as write_body (clients.c) made it. */
static struct sim_event parse_line(struct mr_bytes line) {
    char text[160];
    MR_ASSERT(line.len < sizeof text);
    memcpy(text, line.ptr, line.len);
    text[line.len] = 0;
    struct sim_event e = {0};
    long long ts_ms;
    char end = 0;
    int n = sscanf(text, "{\"id\":\"e%u\",\"ts\":%lld,\"key\":\"k%u\",\"value\":%d%c", &e.id, &ts_ms,
                   &e.key, &e.value, &end);
    if (n < 4) {
        SIM_FAILS("the log holds what nobody sent: %s", text);
    }
    e.ts_ms = ts_ms;
    e.broken = end != '}';
    return e;
}

static void check_sent(const struct sim_world *w, struct mr_bytes body, uint64_t lsn) {
    uint64_t hash = mr_checksum(body);
    for (uint32_t i = 0; i < w->settings.requests; i++) {
        if (w->requests[i].count > 0 && w->requests[i].body_hash == hash) {
            return;
        }
    }
    SIM_FAILS("record %" PRIu64 " holds what nobody sent", lsn);
}

static struct sim_record *add_record(struct sim_model *m, uint64_t lsn) {
    if (m->record_count == m->record_cap) {
        m->record_cap = m->record_cap == 0 ? 256 : m->record_cap * 2;
        m->records = realloc(m->records, m->record_cap * sizeof *m->records);
        MR_ASSERT(m->records != NULL);
    }
    struct sim_record *r = &m->records[m->record_count++];
    *r = (struct sim_record){.lsn = lsn};
    return r;
}

static void take_record(struct sim_model *m, const struct mr_record *record, int64_t before_ms,
                        int64_t *max_ms) {
    struct sim_record *r = add_record(m, record->lsn);
    const uint8_t *at = record->payload.ptr + 16 + record->payload.ptr[3];
    const uint8_t *end = record->payload.ptr + record->payload.len;
    check_sent(m->world, mr_bytes_of(at, (size_t)(end - at)), record->lsn);
    while (at < end) {
        const uint8_t *eol = memchr(at, '\n', (size_t)(end - at));
        MR_ASSERT(eol != NULL && r->count < SIM_EVENTS_MAX);
        struct sim_event e = parse_line(mr_bytes_of(at, (size_t)(eol - at)));
        uint8_t verdict = judge(m, &e, before_ms, max_ms, &r->dead[r->count]);
        r->verdicts[r->count++] = verdict;
        m->verdicts[verdict]++;
        at = eol + 1;
    }
}

static void run(struct sim_model *m, struct sim_journal *journal, uint64_t last_seq) {
    struct mr_record record;
    uint64_t seq = 0;
    int64_t before_ms = INT64_MIN;
    int64_t max_ms = INT64_MIN;
    bool counts = false;
    while (sim_journal_next(journal, &record) && record.seq <= last_seq) {
        if (record.seq != seq) {
            if (counts) {
                end_bundle(m, max_ms);
            }
            seq = record.seq;
            before_ms = m->watermark_ms;
            max_ms = INT64_MIN;
            counts = record.type == MR_RECORD_EVENTS || record.type == MR_RECORD_TICK;
            if (counts && record.recorded_ms < m->recorded_ms) {
                SIM_FAILS("recorded time went back at bundle %" PRIu64, record.seq);
            }
            m->recorded_ms = counts ? record.recorded_ms : m->recorded_ms;
        }
        if (record.type == MR_RECORD_EVENTS) {
            take_record(m, &record, before_ms, &max_ms);
        }
    }
    if (counts) {
        end_bundle(m, max_ms);
    }
}

void sim_model_open(struct sim_world *w, uint64_t last_seq, struct sim_model *ret) {
    *ret = (struct sim_model){
        .world = w,
        .watermark_ms = INT64_MIN,
        .last_event_ms = INT64_MIN,
        .recorded_ms = INT64_MIN,
    };
    sim_ids_init(&ret->ids, &w->settings, w->id_shards);
    grow_cells(ret);
    struct sim_journal journal;
    /* A record whose append failed may still be on the disk: it is nobody's until a start finds it there. */
    sim_journal_open(w, mr_counter_read(&mr_log_stats(w->data.log)->last_lsn), &journal);
    run(ret, &journal, last_seq);
    sim_journal_close(&journal);
}

void sim_model_close(struct sim_model *m) {
    sim_ids_finish(&m->ids);
    free(m->records);
    free(m->index);
    free(m->cells);
}

static int by_lsn(const void *key, const void *item) {
    uint64_t lsn = *(const uint64_t *)key;
    const struct sim_record *record = item;
    return (lsn > record->lsn) - (lsn < record->lsn);
}

const struct sim_record *sim_model_record(const struct sim_model *m, uint64_t lsn) {
    return m->record_count == 0
               ? NULL
               : bsearch(&lsn, m->records, m->record_count, sizeof *m->records, by_lsn);
}
