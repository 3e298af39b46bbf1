/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/model.h"

#include "base/check.h"
#include "base/dead.h"
#include "base/key.h"
#include "pipeline/dead_letters.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { CELLS_MAX = 1 << 15, RECORDS_MAX = 1 << 14, IDS_MAX = SIM_REQUESTS_MAX * SIM_EVENTS_MAX };

struct cell {
    uint32_t rule;
    int64_t window_ms;
    uint32_t key;
    uint64_t events;
    int64_t sum;
    bool found; /* in what the program says */
};

struct record {
    uint64_t lsn;
    uint32_t count;
    uint8_t verdicts[SIM_EVENTS_MAX];
    bool dead[SIM_EVENTS_MAX]; /* must be among the dead letters */
    bool dead_found[SIM_EVENTS_MAX];
};

struct model {
    const struct sim_settings *settings;
    bool seen[IDS_MAX];
    int64_t watermark_ms;
    int64_t last_event_ms; /* recorded time */
    struct cell *cells;
    uint32_t cell_count;
    struct record *records;
    uint32_t record_count;
    uint64_t verdicts[256];
};

#define DIFFERS(...)                                                                               \
    do {                                                                                           \
        (void)fprintf(stderr, "model: " __VA_ARGS__);                                              \
        (void)fputc('\n', stderr);                                                                 \
        abort();                                                                                   \
    } while (0)

static struct cell *cell_of(struct model *m, uint32_t rule, int64_t window_ms, uint32_t key) {
    for (uint32_t i = 0; i < m->cell_count; i++) {
        struct cell *c = &m->cells[i];
        if (c->rule == rule && c->window_ms == window_ms && c->key == key) {
            return c;
        }
    }
    return NULL;
}

static void add(struct model *m, uint32_t rule, int64_t window_ms, const struct sim_event *e) {
    struct cell *c = cell_of(m, rule, window_ms, e->key);
    if (c == NULL) {
        MR_ASSERT(m->cell_count < CELLS_MAX);
        c = &m->cells[m->cell_count++];
        *c = (struct cell){.rule = rule, .window_ms = window_ms, .key = e->key};
    }
    c->events++;
    c->sum += e->value;
}

/* The thirty lines. */
static uint8_t judge(struct model *m, const struct sim_event *e, int64_t recorded_ms,
                     int64_t before_ms, int64_t *max_ms, bool *dead) {
    const struct sim_settings *s = m->settings;
    *dead = true;
    if (e->broken) {
        return 'R';
    }
    bool future = e->ts_ms > recorded_ms + s->max_future_ms;
    if (!future && e->ts_ms > *max_ms) {
        *max_ms = e->ts_ms;
    }
    if (m->seen[e->id]) {
        *dead = false;
        return 'D';
    }
    m->seen[e->id] = true;
    if (future) {
        return 'L';
    }
    uint32_t late = 0;
    for (uint32_t i = 0; i < SIM_RULES; i++) {
        int64_t window_ms = e->ts_ms / s->window_ms[i] * s->window_ms[i];
        bool final = before_ms != INT64_MIN &&
                     window_ms + s->window_ms[i] + s->lateness_ms[i] <= before_ms;
        late += final;
        if (!final) {
            add(m, i, window_ms, e);
        }
    }
    *dead = late > 0;
    return late == SIM_RULES ? 'L' : 'A';
}

static void end_bundle(struct model *m, int64_t recorded_ms, int64_t max_ms) {
    const struct sim_settings *s = m->settings;
    if (max_ms != INT64_MIN) {
        m->last_event_ms = recorded_ms;
        if (max_ms - s->out_of_orderness_ms > m->watermark_ms) {
            m->watermark_ms = max_ms - s->out_of_orderness_ms;
        }
    }
    bool idle = m->last_event_ms != INT64_MIN && s->idle_timeout_ms != INT64_MAX &&
                recorded_ms - m->last_event_ms >= s->idle_timeout_ms;
    if (idle && recorded_ms - s->out_of_orderness_ms > m->watermark_ms) {
        m->watermark_ms = recorded_ms - s->out_of_orderness_ms;
    }
}

/* A line as write_body (world.c) made it. */
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
        DIFFERS("the log holds what nobody sent: %s", text);
    }
    e.ts_ms = ts_ms;
    e.broken = end != '}';
    return e;
}

static void take_record(struct model *m, const struct mr_record *record, int64_t before_ms,
                        int64_t *max_ms) {
    MR_ASSERT(m->record_count < RECORDS_MAX);
    struct record *r = &m->records[m->record_count++];
    *r = (struct record){.lsn = record->lsn};
    const uint8_t *at = record->payload.ptr + 16 + record->payload.ptr[3];
    const uint8_t *end = record->payload.ptr + record->payload.len;
    while (at < end) {
        const uint8_t *eol = memchr(at, '\n', (size_t)(end - at));
        MR_ASSERT(eol != NULL && r->count < SIM_EVENTS_MAX);
        struct sim_event e = parse_line(mr_bytes_of(at, (size_t)(eol - at)));
        uint8_t verdict = judge(m, &e, record->recorded_ms, before_ms, max_ms, &r->dead[r->count]);
        r->verdicts[r->count++] = verdict;
        m->verdicts[verdict]++;
        at = eol + 1;
    }
}

static void run_model(struct model *m, struct sim_world *w) {
    struct mr_log_reader *reader = NULL;
    struct mr_error error;
    enum mr_status status = mr_log_reader_open(virtual_disk_disk(w->disk), w->data.dir.log_dir, 1,
                                               &reader, &error);
    MR_ASSERT(status == MR_OK);
    /* A record whose append failed may still be on the disk: it is nobody's until a start finds it there. */
    mr_log_reader_limit(reader, mr_counter_read(&mr_log_stats(w->data.log)->last_lsn));
    struct mr_record record;
    uint64_t seq = 0;
    int64_t before_ms = INT64_MIN;
    int64_t max_ms = INT64_MIN;
    int64_t recorded_ms = INT64_MIN;
    bool counts = false;
    while ((status = mr_log_reader_next(reader, &record, &error)) == MR_OK) {
        if (record.seq != seq) {
            if (counts) {
                end_bundle(m, recorded_ms, max_ms);
            }
            seq = record.seq;
            before_ms = m->watermark_ms;
            max_ms = INT64_MIN;
            counts = record.type == MR_RECORD_EVENTS || record.type == MR_RECORD_TICK;
            if (counts && record.recorded_ms < recorded_ms) {
                DIFFERS("recorded time went back at bundle %" PRIu64, record.seq);
            }
            recorded_ms = counts ? record.recorded_ms : recorded_ms;
        }
        if (record.type == MR_RECORD_EVENTS) {
            take_record(m, &record, before_ms, &max_ms);
        }
    }
    MR_ASSERT(status == MR_END);
    if (counts) {
        end_bundle(m, recorded_ms, max_ms);
    }
    mr_log_reader_close(reader);
}

static const struct record *record_of(const struct model *m, uint64_t lsn) {
    for (uint32_t i = 0; i < m->record_count; i++) {
        if (m->records[i].lsn == lsn) {
            return &m->records[i];
        }
    }
    return NULL;
}

/* Every answer a client ever got is what the model says of the same record. */
static void check_answers(const struct model *m, const struct sim_world *w) {
    for (uint32_t i = 0; i < w->answer_count; i++) {
        const struct sim_answer *answer = &w->answers[i];
        const struct sim_request *request = &w->requests[answer->request];
        const struct record *r = record_of(m, answer->lsn);
        if (r == NULL || r->count != request->count) {
            DIFFERS("lost: record %" PRIu64 " was acknowledged", answer->lsn);
        }
        if (memcmp(r->verdicts, answer->verdicts, r->count) != 0) {
            DIFFERS("record %" PRIu64 ": answered %.*s, model says %.*s", answer->lsn, (int)r->count,
                    answer->verdicts, (int)r->count, r->verdicts);
        }
    }
}

static uint32_t key_number(struct mr_bytes key) {
    struct mr_key_value value;
    bool ok = mr_key_next(&key, &value) && value.tag == MR_KEY_STRING && value.text.len > 1;
    MR_ASSERT(ok);
    uint32_t number = 0;
    for (size_t i = 1; i < value.text.len; i++) {
        number = number * 10 + (uint32_t)(value.text.ptr[i] - '0');
    }
    return number;
}

struct compare {
    struct model *model;
    const struct mr_plan *plan;
    uint32_t rule;
};

static void compare_row(struct compare *c, int64_t window_ms, struct mr_bytes key, uint64_t events,
                        struct mr_bytes state, const char *where) {
    struct cell *cell = cell_of(c->model, c->rule, window_ms, key_number(key));
    struct mr_number sum = mr_metric_finish(&c->plan->rules[c->rule].metrics[1], state.ptr);
    if (cell == NULL || cell->events != events || sum.kind != MR_NUMBER_INT || sum.i != cell->sum) {
        DIFFERS("%s: rule %u window %" PRId64 " key %u: %" PRIu64 " events, sum %" PRId64
                "; model: %" PRIu64 ", %" PRId64,
                where, c->rule, window_ms, key_number(key), events, sum.i,
                cell == NULL ? 0 : cell->events, cell == NULL ? 0 : cell->sum);
    }
    cell->found = true;
}

/* Rows of windows that are still in memory: these are newer than the store's. */
static void compare_open(struct compare *c, struct sim_world *w) {
    struct mr_ask *ask = calloc(1, sizeof *ask);
    MR_ASSERT(ask != NULL);
    ask->kind = MR_ASK_SCAN;
    ask->scan = (struct mr_scan){.rule = c->rule,
                                 .from_ms = INT64_MIN,
                                 .to_ms = INT64_MAX,
                                 .state = MR_SCAN_ALL,
                                 .order = MR_SCAN_ORDER_WINDOW,
                                 .limit = CELLS_MAX};
    sim_world_ask(w, ask);
    for (uint32_t i = 0; i < w->settings.shards; i++) {
        MR_ASSERT(ask->results[i].status == MR_OK);
        struct mr_bytes rest = mr_buf_bytes(&ask->results[i].rows);
        struct mr_row row;
        while (mr_row_next(&rest, &row)) {
            compare_row(c, row.window_start_ms, row.key, row.events, row.state, "open");
        }
        mr_buf_finish(&ask->results[i].rows);
    }
    free(ask);
}

static bool compare_stored(void *ctx, const struct mr_pane *row) {
    struct compare *c = ctx;
    compare_row(c, row->window_start_ms, row->key, row->events, row->state, "store");
    return true;
}

static void check_table(struct model *m, struct sim_world *w) {
    struct compare c = {m, w->data.plan, 0};
    for (c.rule = 0; c.rule < SIM_RULES; c.rule++) {
        compare_open(&c, w);
        mr_memory_results_each(w->results, c.rule, compare_stored, &c);
    }
    for (uint32_t i = 0; i < m->cell_count; i++) {
        if (!m->cells[i].found) {
            DIFFERS("rule %u window %" PRId64 " key %u: missing", m->cells[i].rule,
                    m->cells[i].window_ms, m->cells[i].key);
        }
    }
}

static void check_ledger(const struct model *m, const struct sim_world *w) {
    struct mr_stream_stats s;
    mr_pipeline_stream_stats(w->pipeline, 0, &s);
    bool equal = s.accepted == m->verdicts['A'] && s.duplicate == m->verdicts['D'] &&
                 s.late == m->verdicts['L'] && s.rejected == m->verdicts['R'];
    if (!equal || s.received != s.accepted + s.duplicate + s.late + s.rejected) {
        DIFFERS("ledger: received %" PRIu64 " = %" PRIu64 " + %" PRIu64 " + %" PRIu64 " + %" PRIu64,
                s.received, s.accepted, s.duplicate, s.late, s.rejected);
    }
    for (uint32_t i = 0; i < SIM_RULES; i++) {
        struct mr_rule_stats r;
        mr_pipeline_rule_stats(w->pipeline, i, &r);
        if (s.accepted != r.applied + r.filtered + r.late + r.dropped) {
            DIFFERS("rule %u: accepted %" PRIu64 ", applied %" PRIu64 ", late %" PRIu64, i,
                    s.accepted, r.applied, r.late);
        }
    }
    if (s.watermark_ms != m->watermark_ms) {
        DIFFERS("watermark %" PRId64 ", model %" PRId64, s.watermark_ms, m->watermark_ms);
    }
}

static void find_dead(void *ctx, const struct mr_dead *entry) {
    struct model *m = ctx;
    char text[512];
    size_t len = entry->json.len < sizeof text - 1 ? entry->json.len : sizeof text - 1;
    memcpy(text, entry->json.ptr, len);
    text[len] = 0;
    const char *lsn = strstr(text, "\"lsn\":");
    const char *index = strstr(text, "\"index\":");
    MR_ASSERT(lsn != NULL && index != NULL);
    const struct record *r = record_of(m, strtoull(lsn + 6, NULL, 10));
    unsigned long i = strtoul(index + 8, NULL, 10);
    if (r == NULL || i >= r->count || !r->dead[i]) {
        DIFFERS("a dead letter that should not be: %s", text);
    }
    ((struct record *)(uintptr_t)r)->dead_found[i] = true;
}

static void check_dead(struct model *m, struct sim_world *w) {
    struct mr_dead_page page = {
        .stream = UINT32_MAX, .reason = -1, .limit = UINT32_MAX,
        .last_lsn = mr_pipeline_dead_lsn(w->pipeline), .visit = find_dead, .ctx = m};
    struct mr_error error;
    enum mr_status status = mr_dead_letters_read(virtual_disk_disk(w->disk), w->data.dir.dead_dir,
                                                 &page, &error);
    MR_ASSERT(status == MR_OK);
    for (uint32_t i = 0; i < m->record_count; i++) {
        for (uint32_t k = 0; k < m->records[i].count; k++) {
            if (m->records[i].dead[k] && !m->records[i].dead_found[k]) {
                DIFFERS("dead letter of record %" PRIu64 " event %u is missing", m->records[i].lsn, k);
            }
        }
    }
}

void sim_model_check(struct sim_world *w) {
    struct model *m = calloc(1, sizeof *m);
    MR_ASSERT(m != NULL);
    m->settings = &w->settings;
    m->watermark_ms = INT64_MIN;
    m->last_event_ms = INT64_MIN;
    m->cells = calloc(CELLS_MAX, sizeof *m->cells);
    m->records = calloc(RECORDS_MAX, sizeof *m->records);
    MR_ASSERT(m->cells != NULL && m->records != NULL);
    run_model(m, w);
    check_answers(m, w);
    check_ledger(m, w);
    check_table(m, w);
    check_dead(m, w);
    sim_trace(w, m->verdicts['A'] * 31 + m->verdicts['D'] * 7 + m->verdicts['L']);
    free(m->records);
    free(m->cells);
    free(m);
}
