/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/model.h"

#include "base/check.h"
#include "base/hash.h"
#include "base/pack.h"
#include "tests/sim/clients.h"
#include "tests/sim/journal.h"
#include "tests/sim/queries.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- the table ---- */

static uint32_t slot_of(const struct sim_model *m, uint32_t rule, int64_t window_ms, uint32_t key) {
    uint64_t hash = ((uint64_t)window_ms * SIM_RULES + rule + 64 * m->eras[rule]) * 0x9e3779b97f4a7c15u + key;
    hash *= 0xbf58476d1ce4e5b9u;
    uint32_t mask = 2 * m->cell_cap - 1;
    uint32_t slot = (uint32_t)(hash >> 32) & mask;
    while (m->index[slot] != 0) {
        const struct sim_cell *c = &m->cells[m->index[slot] - 1];
        if (c->rule == rule && c->era == m->eras[rule] && c->window_ms == window_ms && c->key == key) {
            break;
        }
        slot = (slot + 1) & mask;
    }
    return slot;
}

struct sim_cell *sim_model_cell(const struct sim_model *m, uint32_t rule, int64_t window_ms,
                                uint32_t key) {
    uint32_t cell = m->index[slot_of(m, rule, window_ms, key)];
    return cell == 0 || m->cells[cell - 1].gone ? NULL : &m->cells[cell - 1];
}

static void grow_cells(struct sim_model *m) {
    m->cell_cap = m->cell_cap == 0 ? 256 : m->cell_cap * 2;
    m->cells = realloc(m->cells, m->cell_cap * sizeof *m->cells);
    m->active = realloc(m->active, m->cell_cap * sizeof *m->active);
    free(m->index);
    m->index = calloc(2 * (size_t)m->cell_cap, sizeof *m->index);
    MR_ASSERT(m->cells != NULL && m->active != NULL && m->index != NULL);
    for (uint32_t i = 0; i < m->cell_count; i++) {
        const struct sim_cell *c = &m->cells[i];
        if (c->era != m->eras[c->rule]) {
            continue; /* nobody looks for it */
        }
        m->index[slot_of(m, c->rule, c->window_ms, c->key)] = i + 1;
    }
}

/* The cell of that place, empty if there was none, or one that is gone. */
static struct sim_cell *place(struct sim_model *m, uint32_t rule, int64_t window_ms, int64_t end_ms, uint32_t key) {
    if (m->cell_count == m->cell_cap) {
        grow_cells(m);
    }
    uint32_t *slot = &m->index[slot_of(m, rule, window_ms, key)];
    bool fresh = *slot == 0;
    if (fresh) {
        *slot = ++m->cell_count;
    }
    if (fresh && m->settings->rule[rule].kind != MR_CONFIG_SESSION) {
        m->active[m->active_count++] = *slot - 1;
    }
    struct sim_cell *c = &m->cells[*slot - 1];
    if (fresh || c->gone) {
        *c = (struct sim_cell){.rule = rule,
                               .era = m->eras[rule],
                               .key = key,
                               .window_ms = window_ms,
                               .end_ms = end_ms,
                               .waiting_ms = INT64_MIN};
    }
    return c;
}

static void add(struct sim_cell *c, const struct sim_event *e) {
    c->events++;
    c->sum += e->value;
    c->tags |= 1u << sim_event_tag(e);
    c->changed = true;
}

/* ---- the thirty lines ---- */

static bool is_final(const struct sim_model *m, uint32_t rule, int64_t end_ms, int64_t watermark_ms) {
    return end_ms <= m->floors_ms[rule] ||
           (watermark_ms != INT64_MIN && end_ms + m->settings->lateness_ms[rule] <= watermark_ms);
}

static int64_t least(const struct sim_model *m, uint32_t rule, bool before) {
    int64_t ms = INT64_MAX;
    for (uint32_t i = 0; i < m->settings->streams; i++) {
        const struct sim_watermark *w = &m->streams[i].time;
        int64_t at_ms = before ? w->before_ms : w->ms;
        ms = (m->settings->rule[rule].from >> i & 1) != 0 && at_ms < ms ? at_ms : ms;
    }
    return ms;
}

int64_t sim_model_watermark(const struct sim_model *m, uint32_t rule) {
    return least(m, rule, false);
}

bool sim_model_final(const struct sim_model *m, uint32_t rule, int64_t end_ms) {
    return is_final(m, rule, end_ms, sim_model_watermark(m, rule));
}

uint64_t sim_model_verdicts(const struct sim_model *m, uint8_t verdict) {
    uint64_t count = 0;
    for (uint32_t i = 0; i < m->settings->streams; i++) {
        count += m->streams[i].verdicts[verdict];
    }
    return count;
}

/* With all that it overlaps it becomes one; what is final stays as it is. */
static void add_to_session(struct sim_model *m, uint32_t rule, const struct sim_event *e, int64_t before_ms) {
    struct sim_cell all = {.window_ms = e->ts_ms, .end_ms = e->ts_ms + m->settings->window_ms[rule]};
    add(&all, e);
    for (uint32_t *link = &m->sessions[rule][e->key]; *link != 0;) {
        struct sim_cell *c = &m->cells[*link - 1];
        if (is_final(m, rule, c->end_ms, before_ms) || c->window_ms >= all.end_ms || c->end_ms <= all.window_ms) {
            link = &c->next;
            continue;
        }
        all.window_ms = c->window_ms < all.window_ms ? c->window_ms : all.window_ms;
        all.end_ms = c->end_ms > all.end_ms ? c->end_ms : all.end_ms;
        all.events += c->events;
        all.sum += c->sum;
        all.tags |= c->tags;
        c->gone = true;
        *link = c->next;
    }
    struct sim_cell *c = place(m, rule, all.window_ms, all.end_ms, e->key);
    c->events = all.events;
    c->sum = all.sum;
    c->tags = all.tags;
    c->next = m->sessions[rule][e->key];
    m->sessions[rule][e->key] = (uint32_t)(c - m->cells) + 1;
}

/* false: it is late, each of its windows is final. */
static bool take(struct sim_model *m, uint32_t rule, const struct sim_event *e) {
    int64_t before_ms = least(m, rule, true);
    int64_t size_ms = m->settings->window_ms[rule];
    int64_t every_ms = m->settings->rule[rule].every_ms;
    if (m->settings->rule[rule].kind == MR_CONFIG_SESSION) {
        bool late = is_final(m, rule, e->ts_ms + size_ms, before_ms);
        if (!late) {
            add_to_session(m, rule, e, before_ms);
        }
        return !late;
    }
    bool taken = false;
    int64_t offset_ms = m->settings->rule[rule].offset_ms;
    int64_t start_ms = (e->ts_ms - offset_ms) / every_ms * every_ms + offset_ms;
    for (; start_ms > e->ts_ms - size_ms; start_ms -= every_ms) {
        if (!is_final(m, rule, start_ms + size_ms, before_ms)) {
            add(place(m, rule, start_ms, start_ms + size_ms, e->key), e);
            taken = true;
        }
    }
    return taken;
}

/* Of what differs between two events of an id. */
static uint64_t content_of(const struct sim_event *e) {
    int64_t content[] = {e->ts_ms, e->key, e->value, e->source};
    return mr_checksum(mr_bytes_of(content, sizeof content)) | 1;
}

static bool conflicts(const struct sim_settings *s, const struct sim_model_stream *of, const struct sim_event *e) {
    return sim_settings_detects(s) && of->contents[e->id] != 0 && of->contents[e->id] != content_of(e);
}

/* own: it was judged before, and what is remembered of its id is of itself. */
static uint8_t judge(struct sim_model *m, uint32_t stream, const struct sim_event *e, bool own, bool *dead,
                     bool *too_far) {
    const struct sim_settings *s = m->settings;
    struct sim_model_stream *of = &m->streams[stream];
    *dead = true;
    if (e->broken) {
        return 'R';
    }
    sim_watermark_event(&of->time, &s->stream[stream], e->source, e->ts_ms, m->recorded_ms);
    if (!own && sim_ids_judge(&of->ids, e->id, m->recorded_ms)) {
        if (s->mode != SIM_OBSERVE) {
            *dead = conflicts(s, of, e);
            of->conflicts += *dead;
            return 'D';
        }
        of->observed++;
    } else if (!own) {
        of->contents[e->id] = sim_settings_detects(s) ? content_of(e) : 0;
    }
    if (e->ts_ms > m->recorded_ms + s->stream[stream].max_future_ms) {
        *too_far = true;
        return 'L';
    }
    uint32_t late = 0;
    uint32_t takers = 0;
    for (uint32_t i = 0; i < s->rules; i++) {
        if (sim_settings_takes(s, i, stream, e->value)) {
            takers++;
            late += !take(m, i, e);
        }
    }
    *dead = late > 0;
    return takers > 0 && late == takers ? 'L' : 'A';
}

static void say(struct sim_cell *c) {
    c->fired++;
    c->said_events = c->events;
    c->said_sum = c->sum;
    c->counted_events = c->events;
    c->waiting_ms = INT64_MIN;
    c->unsaid = false;
}

static void fire(const struct sim_model *m, struct sim_cell *c) {
    const struct sim_rule *rule = &m->settings->rule[c->rule];
    bool was_closed = c->end_ms <= m->floors_ms[c->rule] || c->end_ms <= least(m, c->rule, true);
    if (was_closed) {
        c->unsaid = c->unsaid || c->changed;
        if (c->unsaid && (rule->late ? c->changed : sim_model_final(m, c->rule, c->end_ms))) {
            say(c);
        }
    } else if (c->end_ms <= sim_model_watermark(m, c->rule)) {
        say(c);
    } else if (c->changed && rule->early_count > 0 && c->events - c->counted_events >= rule->early_count) {
        say(c);
    } else {
        if (c->changed && rule->early_ms > 0 && c->waiting_ms == INT64_MIN) {
            c->waiting_ms = m->recorded_ms;
        }
        if (rule->early_ms > 0 && c->waiting_ms != INT64_MIN && c->waiting_ms + rule->early_ms <= m->recorded_ms) {
            say(c);
        }
    }
    c->changed = false;
}

static void fire_all(struct sim_model *m) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < m->active_count; i++) {
        struct sim_cell *c = &m->cells[m->active[i]];
        if (c->era != m->eras[c->rule] || c->rule >= m->settings->rules) {
            continue; /* a rule that is gone begins anew when it comes again */
        }
        fire(m, c);
        if (!sim_model_final(m, c->rule, c->end_ms)) {
            m->active[kept++] = m->active[i];
        }
    }
    m->active_count = kept;
}

static void end_bundle(struct sim_model *m) {
    struct sim_watermark *times[SIM_STREAMS];
    for (uint32_t i = 0; i < SIM_STREAMS; i++) {
        times[i] = &m->streams[i].time;
    }
    sim_watermarks_end_bundle(times, m->settings, m->recorded_ms);
    fire_all(m);
}

/* ---- the log ---- */

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

static void judge_record(struct sim_model *m, struct sim_record *r, bool own) {
    uint32_t stream = r->request->stream;
    for (uint32_t i = 0; i < r->count; i++) {
        const struct sim_event *e = &r->request->events[r->first + i];
        r->verdicts[i] = judge(m, stream, e, own, &r->dead[i], &r->future[i]);
        m->streams[stream].verdicts[r->verdicts[i]]++;
    }
}

static void take_record(struct sim_model *m, const struct mr_record *record) {
    struct sim_record *r = add_record(m, record->lsn);
    r->seq = record->seq;
    r->recorded_ms = record->recorded_ms;
    const uint8_t *at = record->payload.ptr + 16 + record->payload.ptr[3];
    const uint8_t *end = record->payload.ptr + record->payload.len;
    r->request = sim_clients_find(m->world, mr_bytes_of(at, (size_t)(end - at)));
    if (r->request == NULL) {
        SIM_FAILS("record %" PRIu64 " holds what nobody sent", record->lsn);
    }
    r->count = r->request->count;
    judge_record(m, r, false);
}

/* The record that the event was in; NULL: repair has left it out. Behind a repaired gap other events may be dead
 * letters than were when people looked at them. */
static struct sim_record *find_origin(struct sim_model *m, const struct mr_record *record, uint64_t lsn,
                                      uint32_t index) {
    const struct sim_record *found = sim_model_record(m, lsn);
    if (found == NULL && m->world->log_repaired) {
        return NULL;
    }
    struct sim_record *from = found == NULL ? NULL : &m->records[found - m->records];
    bool may = from != NULL && lsn < record->lsn && index < from->count &&
               (from->future[index] || from->verdicts[index] == 'R' || m->world->log_repaired);
    if (!may || from->redriven[index]) {
        SIM_FAILS("record %" PRIu64 ": (%" PRIu64 ", %u) is redriven%s", record->lsn, lsn, index,
                  may ? " again" : ", and must not be");
    }
    from->redriven[index] = true;
    return from;
}

/* An event of a record before, which was future or rejected, and once only. */
static void take_redrive(struct sim_model *m, const struct mr_record *record) {
    enum { HEADER = 24 };
    const uint8_t *p = record->payload.ptr;
    int64_t first_ms;
    struct sim_record *r = add_record(m, record->lsn); /* it may move the others */
    memcpy(&r->from_index, p + 4, sizeof r->from_index);
    memcpy(&r->from_lsn, p + 8, sizeof r->from_lsn);
    memcpy(&first_ms, p + 16, sizeof first_ms);
    const uint8_t *at = p + HEADER + 16 + p[HEADER + 3];
    struct mr_bytes body = mr_bytes_of(at, (size_t)(p + record->payload.len - at));
    r->seq = record->seq;
    r->recorded_ms = record->recorded_ms;
    r->count = 1;
    r->request = sim_clients_find_event(m->world, body, &r->first);
    const struct sim_record *from = find_origin(m, record, r->from_lsn, r->from_index);
    bool known = r->request != NULL && (from == NULL || (from->request->stream == r->request->stream &&
                 from->request->events[from->first + r->from_index].id == r->request->events[r->first].id &&
                 from->recorded_ms == first_ms &&
                 (from->future[r->from_index] == (p[1] != 0) || m->world->log_repaired)));
    if (!known) {
        SIM_FAILS("record %" PRIu64 " is a redrive of another event than it names", record->lsn);
    }
    const struct sim_event *e = &r->request->events[r->first];
    struct sim_ids *ids = &m->streams[r->request->stream].ids;
    bool own = p[1] != 0 && !e->broken && sim_ids_passes(ids, e->id, first_ms, m->recorded_ms);
    m->unsure = m->unsure || (from == NULL && p[1] != 0 && !own && !e->broken &&
                              sim_ids_seen(ids, e->id, m->recorded_ms));
    judge_record(m, r, own);
    m->redrives += r->verdicts[0] == 'A';
}

static uint32_t find_name(const char (*names)[8], uint32_t count, struct mr_bytes name) {
    uint32_t i = 0;
    while (i < count && !mr_bytes_equal(name, mr_bytes_text(names[i]))) {
        i++;
    }
    return i;
}

/* What a producer said, which must be what one has: queries.c. */
static void take_advance(struct sim_model *m, const struct mr_record *record) {
    struct mr_unpack u = {.rest = record->payload};
    int64_t to_ms = mr_unpack_i64(&u);
    uint32_t stream = find_name(sim_stream_names, SIM_STREAMS, mr_unpack_bytes(&u));
    bool of_source = mr_unpack_u32(&u) != 0;
    uint32_t source = find_name(sim_source_names, SIM_SOURCES, mr_unpack_bytes(&u));
    bool known = mr_unpack_end(&u) && stream < m->settings->streams && (!of_source || source < SIM_SOURCES);
    struct sim_advance advance = {.stream = stream, .source = of_source ? source : SIM_SOURCES, .to_ms = to_ms};
    if (!known || !sim_advance_was_sent(m->world, &advance)) {
        SIM_FAILS("record %" PRIu64 " holds a watermark that nobody sent", record->lsn);
    }
    sim_watermark_advance(&m->streams[stream].time, advance.source, to_ms, m->recorded_ms);
    m->advances++;
}

static void begin_rule(struct sim_model *m, uint32_t rule) {
    m->eras[rule]++;
    m->floors_ms[rule] = INT64_MIN;
    for (uint32_t i = 0; i < SIM_STREAMS; i++) {
        m->streams[i].accepted_before[rule] = m->streams[i].verdicts['A'];
    }
    memset(m->sessions[rule], 0, sizeof m->sessions[rule]);
}

/* What late panes that were off have kept back is said when the change makes its window final, or turns them on. Where
 * early panes are off nobody remembers when a group fired, and whether it waits. */
static void change_cells(struct sim_model *m) {
    for (uint32_t i = 0; i < m->active_count; i++) {
        struct sim_cell *c = &m->cells[m->active[i]];
        const struct sim_rule *rule = &m->settings->rule[c->rule];
        if (c->era != m->eras[c->rule] || c->rule >= m->settings->rules) {
            continue;
        }
        if (c->unsaid && (rule->late || sim_model_final(m, c->rule, c->end_ms))) {
            say(c);
        }
        if (rule->early_ms == 0 && rule->early_count == 0) {
            c->waiting_ms = INT64_MIN;
            c->counted_events = rule->panes == MR_CONFIG_DISCARDING ? c->counted_events : 0;
        }
    }
}

/* A CONFIG record: from here on other settings. What was final stays final, what was promised holds. */
static void change(struct sim_model *m, const struct sim_settings *now) {
    const struct sim_settings *before = m->settings;
    for (uint32_t i = 0; i < SIM_RULES; i++) {
        bool same = sim_settings_same_rule(before, now, i);
        int64_t at_ms = sim_model_watermark(m, i);
        int64_t floor_ms = at_ms == INT64_MIN ? INT64_MIN : at_ms - before->lateness_ms[i];
        if (!same) {
            begin_rule(m, i);
        } else if (floor_ms > m->floors_ms[i]) {
            m->floors_ms[i] = floor_ms;
        }
    }
    for (uint32_t i = 0; i < SIM_STREAMS && now->horizon_ms != before->horizon_ms; i++) {
        sim_ids_change_horizon(&m->streams[i].ids, now->horizon_ms, m->recorded_ms);
    }
    for (uint32_t i = 0; i < SIM_STREAMS; i++) {
        if (!now->stream[i].by_source) {
            sim_watermark_forget_sources(&m->streams[i].time);
        }
        if (!sim_settings_detects(now)) {
            memset(m->streams[i].contents, 0, sizeof m->streams[i].contents);
        }
    }
    m->settings = now;
    change_cells(m);
}

static const struct sim_settings *find_version(const struct sim_world *w, struct mr_bytes text) {
    uint64_t hash = mr_checksum(text);
    for (uint32_t i = 0; i < w->version_count; i++) {
        if (w->versions[i].text_hash == hash) {
            return &w->versions[i].settings;
        }
    }
    SIM_FAILS("a CONFIG record holds what nobody configured");
}

static void begin_bundle(struct sim_model *m, const struct mr_record *record, bool counts) {
    for (uint32_t i = 0; i < SIM_STREAMS; i++) {
        sim_watermark_begin_bundle(&m->streams[i].time);
    }
    if (counts && record->recorded_ms < m->recorded_ms) {
        SIM_FAILS("recorded time went back at bundle %" PRIu64, record->seq);
    }
    m->recorded_ms = counts ? record->recorded_ms : m->recorded_ms;
}

static void run(struct sim_model *m, struct sim_journal *journal, uint64_t last_seq) {
    struct mr_record record;
    uint64_t seq = 0;
    bool counts = false;
    while (sim_journal_next(journal, &record) && record.seq <= last_seq) {
        if (record.seq != seq) {
            if (counts) {
                end_bundle(m);
            }
            seq = record.seq;
            counts = record.type == MR_RECORD_EVENTS || record.type == MR_RECORD_TICK ||
                     record.type == MR_RECORD_WATERMARK || record.type == MR_RECORD_REDRIVE;
            begin_bundle(m, &record, counts);
        }
        if (record.type == MR_RECORD_CONFIG) {
            change(m, find_version(m->world, record.payload));
        }
        if (record.type == MR_RECORD_EVENTS) {
            take_record(m, &record);
        }
        if (record.type == MR_RECORD_REDRIVE) {
            take_redrive(m, &record);
        }
        if (record.type == MR_RECORD_WATERMARK) {
            take_advance(m, &record);
        }
    }
    if (counts) {
        end_bundle(m);
    }
}

void sim_model_open(struct sim_world *w, uint64_t last_seq, struct sim_model *ret) {
    *ret = (struct sim_model){
        .world = w,
        .recorded_ms = INT64_MIN,
        .settings = &w->versions[0].settings,
        .floors_ms = {INT64_MIN, INT64_MIN},
    };
    static_assert(SIM_RULES == 2, "a floor for each");
    for (uint32_t i = 0; i < SIM_STREAMS; i++) {
        sim_ids_init(&ret->streams[i].ids, &w->versions[0].settings, w->ids[i]);
        sim_watermark_init(&ret->streams[i].time);
    }
    grow_cells(ret);
    struct sim_journal journal;
    /* A record whose append failed may still be on the disk: it is nobody's until a start finds it there. */
    sim_journal_open(w, mr_counter_read(&mr_log_stats(w->data.log)->last_lsn), &journal);
    run(ret, &journal, last_seq);
    sim_journal_close(&journal);
}

void sim_model_close(struct sim_model *m) {
    for (uint32_t i = 0; i < SIM_STREAMS; i++) {
        sim_ids_finish(&m->streams[i].ids);
    }
    free(m->records);
    free(m->index);
    free(m->active);
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
