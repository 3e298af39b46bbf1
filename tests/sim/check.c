/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/check.h"

#include "base/check.h"
#include "base/dead.h"
#include "base/key.h"
#include "pipeline/dead_letters.h"
#include "tests/sim/outbox.h"
#include "tests/sim/redrives.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- answers ---- */

/* Every answer a client ever got is what the model says of the same record. */
void sim_check_answers(const struct sim_model *m) {
    const struct sim_world *w = m->world;
    uint64_t last_lsn = m->record_count == 0 ? 0 : m->records[m->record_count - 1].lsn;
    for (uint32_t i = 0; i < w->answer_count; i++) {
        const struct sim_answer *answer = &w->answers[i];
        const struct sim_request *request = &w->requests[answer->request];
        if (answer->lsn > last_lsn) {
            continue; /* the model stopped before */
        }
        const struct sim_record *r = sim_model_record(m, answer->lsn);
        if (r == NULL || r->count != request->count) {
            SIM_FAILS("lost: record %" PRIu64 " was acknowledged", answer->lsn);
        }
        if (memcmp(r->verdicts, answer->verdicts, r->count) != 0) {
            SIM_FAILS("record %" PRIu64 ": answered %.*s, model says %.*s", answer->lsn, (int)r->count,
                      answer->verdicts, (int)r->count, r->verdicts);
        }
    }
}

static void check_none_lost(const struct sim_model *m) {
    uint64_t last_lsn = m->record_count == 0 ? 0 : m->records[m->record_count - 1].lsn;
    for (uint32_t i = 0; i < m->world->answer_count; i++) {
        if (m->world->answers[i].lsn > last_lsn) {
            SIM_FAILS("lost: record %" PRIu64 " was acknowledged", m->world->answers[i].lsn);
        }
    }
}

/* ---- rows ---- */

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
    struct sim_model *model;
    const struct mr_plan *plan;
    uint32_t rule;
    bool rewound; /* the store has been, or was lost */
};

struct seen_row {
    int64_t window_ms;
    int64_t end_ms;
    struct mr_bytes key;
    struct mr_bytes state;
    uint64_t events;
    bool final;
};

static const struct sim_rule *rule_of(const struct compare *c) {
    return &c->model->settings->rule[c->rule];
}

/* Of one text in few events distinct is exact. */
static bool is_whole(const struct compare *c, const struct sim_cell *cell, const struct seen_row *row, int64_t sum) {
    struct mr_number tags = mr_metric_finish(c->plan->rules[c->rule].metrics, 2, row->state, NULL);
    return cell->events == row->events && sum == cell->sum && tags.kind == MR_NUMBER_INT &&
           tags.i == __builtin_popcount(cell->tags);
}

/* A row that may change yet says what was fired last. After a rewind that may be all there is: the program says again
 * what a closed window holds. */
static bool is_said(const struct compare *c, const struct sim_cell *cell, const struct seen_row *row, int64_t sum) {
    if (rule_of(c)->kind == MR_CONFIG_SESSION) {
        return row->events <= cell->events && (row->events < cell->events || sum == cell->sum);
    }
    return cell->fired > 0 && row->events == cell->said_events && sum == cell->said_sum;
}

static bool is_right(const struct compare *c, struct sim_cell *cell, const struct seen_row *row, int64_t sum,
                     bool stored) {
    bool grew = rule_of(c)->panes == MR_CONFIG_DISCARDING && rule_of(c)->kind == MR_CONFIG_SESSION;
    if (cell == NULL || (grew ? row->end_ms > cell->end_ms : row->end_ms != cell->end_ms)) {
        return false;
    }
    if (rule_of(c)->panes == MR_CONFIG_DISCARDING) {
        cell->seen_events += row->events;
        cell->seen_sum += sum;
        return cell->seen_events <= cell->events;
    }
    bool closed = sim_model_watermark(c->model, c->rule) >= cell->end_ms;
    bool late_session = rule_of(c)->kind == MR_CONFIG_SESSION && closed && rule_of(c)->late;
    if (!stored || row->final || late_session) {
        return is_whole(c, cell, row, sum);
    }
    return is_said(c, cell, row, sum) || (closed && c->rewound && is_whole(c, cell, row, sum));
}

static void compare_row(struct compare *c, const struct seen_row *row, bool stored) {
    const char *where = stored ? "store" : "open";
    uint32_t key = key_number(row->key);
    struct sim_cell *cell = sim_model_cell(c->model, c->rule, row->window_ms, key);
    struct mr_number sum = mr_metric_finish(c->plan->rules[c->rule].metrics, 1, row->state, NULL);
    if (sum.kind != MR_NUMBER_INT || !is_right(c, cell, row, sum.i, stored)) {
        SIM_FAILS("%s: rule %u window %" PRId64 " to %" PRId64 " key %u: %" PRIu64 " events, sum %" PRId64
                  "; model: to %" PRId64 ", %" PRIu64 ", %" PRId64 ", said %" PRIu64,
                  where, c->rule, row->window_ms, row->end_ms, key, row->events, sum.i,
                  cell == NULL ? 0 : cell->end_ms, cell == NULL ? 0 : cell->events, cell == NULL ? 0 : cell->sum,
                  cell == NULL ? 0 : cell->said_events);
    }
    if (row->final != sim_model_final(c->model, c->rule, row->end_ms)) {
        SIM_FAILS("%s: rule %u window %" PRId64 " key %u is %sfinal", where, c->rule, row->window_ms,
                  key, row->final ? "" : "not ");
    }
    cell->found = true;
    cell->stored = cell->stored || stored;
}

/* The answer's rows, in all shards; finishes them. */
static void compare_scan(struct compare *c, struct mr_ask *ask) {
    int64_t watermark_ms = sim_model_watermark(c->model, c->rule);
    for (uint32_t i = 0; i < c->plan->shards; i++) {
        if (ask->results[i].status != MR_OK || ask->results[i].watermark_ms != watermark_ms) {
            SIM_FAILS("a scan of shard %u: %s, watermark %" PRId64 "; model: %" PRId64, i,
                      mr_status_text(ask->results[i].status), ask->results[i].watermark_ms, watermark_ms);
        }
        struct mr_bytes rest = mr_buf_bytes(&ask->results[i].rows);
        struct mr_row row;
        while (mr_row_next(&rest, &row)) {
            struct seen_row seen = {row.window_start_ms, row.window_end_ms, row.key, row.state, row.events, row.final};
            compare_row(c, &seen, false);
            if (row.revision > ask->seq) {
                SIM_FAILS("a row of revision %" PRIu64 " at the cut %" PRIu64, row.revision, ask->seq);
            }
        }
    }
}

static void check_missing(const struct compare *c) {
    for (uint32_t i = 0; i < c->model->cell_count; i++) {
        const struct sim_cell *cell = &c->model->cells[i];
        if (cell->rule == c->rule && cell->era == c->model->eras[c->rule] && !cell->gone && !cell->found) {
            SIM_FAILS("rule %u window %" PRId64 " key %u: missing", cell->rule, cell->window_ms,
                      cell->key);
        }
    }
}

/* A final window's row leaves memory once the store has it; it does not change any more. */
static bool find_stored_final(void *ctx, const struct mr_pane *row) {
    struct compare *c = ctx;
    const struct sim_cell *cell =
        sim_model_cell(c->model, c->rule, row->window_start_ms, key_number(row->key));
    if (cell != NULL && sim_model_final(c->model, c->rule, cell->end_ms) && !cell->found) {
        struct seen_row seen = {row->window_start_ms, row->window_end_ms, row->key, row->state, row->events, true};
        compare_row(c, &seen, true);
    }
    return true;
}

void sim_check_scan(struct sim_model *m, struct mr_ask *ask) {
    struct compare c = {m, m->world->data.plan, ask->scan.rule, false};
    compare_scan(&c, ask);
    if (rule_of(&c)->panes == MR_CONFIG_DISCARDING) {
        return; /* the store may be ahead of the cut: which of its rows were there is not known */
    }
    mr_memory_results_each(m->world->store.results, c.rule, find_stored_final, &c);
    check_missing(&c);
}

void sim_check_seen(struct sim_model *m, const struct mr_ask *ask, uint32_t id) {
    struct sim_ids *ids = &m->streams[ask->stream].ids;
    bool expected = sim_ids_seen(ids, id, m->recorded_ms);
    if (ask->seen != expected) {
        SIM_FAILS("id e%u is said to be %s at bundle %" PRIu64, id, ask->seen ? "seen" : "new", ask->seq);
    }
    int64_t at_ms = ids->counted_ms[id];
    /* A Bloom filter may take an id for one of any generation, also one that it knew and has forgotten. */
    if (ask->seen && !ids->bloom &&
        (at_ms < ask->seen_from_ms || at_ms >= ask->seen_to_ms ||
         ask->seen_until_ms < at_ms + ids->promised_ms[id])) {
        SIM_FAILS("id e%u, seen at %" PRId64 ", is said to be of [%" PRId64 ", %" PRId64 ") until %" PRId64,
                  id, at_ms, ask->seen_from_ms, ask->seen_to_ms, ask->seen_until_ms);
    }
}

static struct mr_ask *open_scan(struct sim_world *w, uint32_t rule) {
    struct mr_ask *ask = calloc(1, sizeof *ask);
    MR_ASSERT(ask != NULL);
    ask->kind = MR_ASK_SCAN;
    ask->scan = (struct mr_scan){.rule = rule,
                                 .from_ms = INT64_MIN,
                                 .to_ms = INT64_MAX,
                                 .state = MR_SCAN_ALL,
                                 .order = MR_SCAN_ORDER_WINDOW,
                                 .limit = UINT32_MAX};
    sim_world_ask(w, ask);
    return ask;
}

static void close_scan(const struct sim_world *w, struct mr_ask *ask) {
    for (uint32_t i = 0; i < w->data.plan->shards; i++) {
        mr_buf_finish(&ask->results[i].rows);
    }
    free(ask);
}

static void compare_open(struct compare *c) {
    struct mr_ask *ask = open_scan(c->model->world, c->rule);
    compare_scan(c, ask);
    close_scan(c->model->world, ask);
}

static bool compare_stored(void *ctx, const struct mr_pane *row) {
    struct seen_row seen = {row->window_start_ms, row->window_end_ms, row->key, row->state, row->events, row->final};
    compare_row(ctx, &seen, true);
    return true;
}

/* A session of late data has no row until it is final, where late panes are off. */
static bool must_be_stored(const struct compare *c, const struct sim_cell *cell) {
    const struct sim_model *m = c->model;
    bool final = sim_model_final(m, c->rule, cell->end_ms);
    bool closed = final || cell->end_ms <= sim_model_watermark(m, c->rule);
    if (rule_of(c)->kind == MR_CONFIG_SESSION) {
        return final || (closed && rule_of(c)->late);
    }
    return cell->fired > 0 && (closed || !c->rewound);
}

/* Each event is in exactly one pane, or in none yet. */
static void check_stored(const struct compare *c) {
    const struct sim_model *m = c->model;
    bool discarding = rule_of(c)->panes == MR_CONFIG_DISCARDING;
    for (uint32_t i = 0; i < m->cell_count; i++) {
        const struct sim_cell *cell = &m->cells[i];
        if (cell->rule != c->rule || cell->era != m->eras[c->rule] || cell->gone) {
            continue;
        }
        if (discarding && (cell->seen_events != cell->events || cell->seen_sum != cell->sum)) {
            SIM_FAILS("rule %u window %" PRId64 " key %u: panes of %" PRIu64 " events, sum %" PRId64
                      "; model: %" PRIu64 ", %" PRId64,
                      cell->rule, cell->window_ms, cell->key, cell->seen_events, cell->seen_sum, cell->events,
                      cell->sum);
        }
        if (!cell->stored && must_be_stored(c, cell)) {
            SIM_FAILS("rule %u window %" PRId64 " key %u: not stored", cell->rule, cell->window_ms, cell->key);
        }
    }
}

/* ---- rows where groups are bounded ---- */

/* Which key came while there was room for it depends on the shards: what a window has in all is compared, and that no
 * key has more than it should. */
struct window_sum {
    int64_t window_ms;
    uint64_t events;
    uint64_t model_events;
    int64_t sum;
    int64_t model_sum;
};

struct sums {
    struct sim_model *model;
    const struct mr_plan *plan;
    uint32_t rule;
    struct window_sum *items;
    uint32_t count;
    uint64_t events; /* in all windows */
    uint64_t model_events;
};

static struct window_sum *sum_of(struct sums *sums, int64_t window_ms) {
    for (uint32_t i = 0; i < sums->count; i++) {
        if (sums->items[i].window_ms == window_ms) {
            return &sums->items[i];
        }
    }
    sums->items = realloc(sums->items, (sums->count + 1) * sizeof *sums->items);
    MR_ASSERT(sums->items != NULL);
    sums->items[sums->count] = (struct window_sum){.window_ms = window_ms};
    return &sums->items[sums->count++];
}

static bool is_fired(const struct sums *sums, int64_t window_ms) {
    const struct sim_model *m = sums->model;
    int64_t watermark_ms = sim_model_watermark(m, sums->rule);
    return watermark_ms != INT64_MIN && window_ms + m->settings->window_ms[sums->rule] <= watermark_ms;
}

static void add_row(struct sums *sums, const struct seen_row *row) {
    struct sim_world *w = sums->model->world;
    struct window_sum *sum = sum_of(sums, row->window_ms);
    struct mr_number total = mr_metric_finish(sums->plan->rules[sums->rule].metrics, 1, row->state, NULL);
    sum->events += row->events;
    sum->sum += total.i;
    sums->events += row->events;
    if (mr_key_is_other(row->key)) {
        sim_hit(w, SIM_PROBE_GROUPS_OTHER);
        return;
    }
    const struct sim_cell *cell = sim_model_cell(sums->model, sums->rule, row->window_ms, key_number(row->key));
    if (cell == NULL || cell->events < row->events) {
        SIM_FAILS("rule %u window %" PRId64 ": a group of %" PRIu64 " events, model: %" PRIu64, sums->rule,
                  row->window_ms, row->events, cell == NULL ? 0 : cell->events);
    }
}

static bool add_stored(void *ctx, const struct mr_pane *row) {
    struct sums *sums = ctx;
    struct seen_row seen = {row->window_start_ms, row->window_end_ms, row->key, row->state, row->events, row->final};
    if (row->final != sim_model_final(sums->model, sums->rule, row->window_end_ms)) {
        SIM_FAILS("rule %u window %" PRId64 " is %sfinal", sums->rule, row->window_start_ms,
                  row->final ? "" : "not ");
    }
    add_row(sums, &seen);
    return true;
}

/* Of windows that have fired the store has all. */
static void add_open(struct sums *sums) {
    struct mr_ask *ask = open_scan(sums->model->world, sums->rule);
    for (uint32_t i = 0; i < sums->plan->shards; i++) {
        struct mr_bytes rest = mr_buf_bytes(&ask->results[i].rows);
        struct mr_row row;
        while (mr_row_next(&rest, &row)) {
            struct seen_row seen = {row.window_start_ms, row.window_end_ms, row.key, row.state, row.events, row.final};
            if (!is_fired(sums, row.window_start_ms)) {
                add_row(sums, &seen);
            }
        }
    }
    close_scan(sums->model->world, ask);
}

static void check_groups(struct sim_model *m, uint32_t rule) {
    struct sums sums = {.model = m, .plan = m->world->data.plan, .rule = rule};
    for (uint32_t i = 0; i < m->cell_count; i++) {
        const struct sim_cell *cell = &m->cells[i];
        if (cell->rule == rule && cell->era == m->eras[rule]) {
            struct window_sum *sum = sum_of(&sums, cell->window_ms);
            sum->model_events += cell->events;
            sum->model_sum += cell->sum;
            sums.model_events += cell->events;
        }
    }
    mr_memory_results_each(m->world->store.results, rule, add_stored, &sums);
    add_open(&sums);
    bool drop = m->settings->groups_drop;
    for (uint32_t i = 0; i < sums.count; i++) {
        const struct window_sum *s = &sums.items[i];
        if (drop ? s->events > s->model_events : s->events != s->model_events || s->sum != s->model_sum) {
            SIM_FAILS("rule %u window %" PRId64 ": %" PRIu64 " events, sum %" PRId64 "; model: %" PRIu64
                      ", %" PRId64,
                      rule, s->window_ms, s->events, s->sum, s->model_events, s->model_sum);
        }
    }
    struct mr_rule_stats stats;
    mr_pipeline_rule_stats(m->world->pipeline, rule, &stats);
    m->world->probes[SIM_PROBE_GROUPS_DROPPED] += stats.dropped;
    if (sums.model_events - sums.events != stats.dropped) {
        SIM_FAILS("rule %u: %" PRIu64 " events of %" PRIu64 " are counted, %" PRIu64 " were dropped", rule,
                  sums.events, sums.model_events, stats.dropped);
    }
    free(sums.items);
}

/* ---- all rows ---- */

static void check_table(struct sim_model *m) {
    const uint64_t *probes = m->world->probes;
    bool rewound = probes[SIM_PROBE_RESULTS_REWOUND] + probes[SIM_PROBE_STORE_LOST] > 0;
    struct compare c = {m, m->world->data.plan, 0, rewound};
    for (c.rule = 0; c.rule < m->settings->rules; c.rule++) {
        if (m->settings->groups_max[c.rule] > 0) {
            check_groups(m, c.rule);
            continue;
        }
        compare_open(&c);
        mr_memory_results_each(m->world->store.results, c.rule, compare_stored, &c);
        check_missing(&c);
        check_stored(&c);
        sim_outbox_check(m->world, c.rule);
    }
}

/* ---- the ledger ---- */

static uint64_t check_stream(const struct sim_model *m, uint32_t stream) {
    const struct sim_model_stream *of = &m->streams[stream];
    struct mr_stream_stats s;
    mr_pipeline_stream_stats(m->world->pipeline, stream, &s);
    bool equal = s.accepted == of->verdicts['A'] && s.duplicate == of->verdicts['D'] &&
                 s.late == of->verdicts['L'] && s.rejected == of->verdicts['R'] &&
                 s.observed_duplicates == of->observed && s.conflicts == of->conflicts;
    if (!equal || s.received != s.accepted + s.duplicate + s.late + s.rejected) {
        SIM_FAILS("ledger of stream %u: received %" PRIu64 " = %" PRIu64 " + %" PRIu64 " + %" PRIu64 " + %" PRIu64,
                  stream, s.received, s.accepted, s.duplicate, s.late, s.rejected);
    }
    if (s.watermark_ms != of->time.ms) {
        SIM_FAILS("watermark of stream %u %" PRId64 ", model %" PRId64, stream, s.watermark_ms, of->time.ms);
    }
    return s.accepted;
}

static void check_ledger(const struct sim_model *m) {
    uint64_t accepted[SIM_STREAMS] = {0};
    for (uint32_t k = 0; k < m->settings->streams; k++) {
        accepted[k] = check_stream(m, k);
    }
    for (uint32_t i = 0; i < m->settings->rules; i++) {
        struct mr_rule_stats r;
        uint64_t sum = 0;
        for (uint32_t k = 0; k < m->settings->streams; k++) {
            bool reads = (m->settings->rule[i].from >> k & 1) != 0;
            sum += reads ? accepted[k] - m->streams[k].accepted_before[i] : 0;
        }
        mr_pipeline_rule_stats(m->world->pipeline, i, &r);
        if (sum != r.applied + r.filtered + r.late + r.dropped) {
            SIM_FAILS("rule %u: accepted %" PRIu64 ", applied %" PRIu64 ", late %" PRIu64, i, sum,
                      r.applied, r.late);
        }
    }
}

/* ---- dead letters ---- */

static void find_dead(void *ctx, const struct mr_dead *entry) {
    struct sim_model *m = ctx;
    char text[512];
    size_t len = entry->json.len < sizeof text - 1 ? entry->json.len : sizeof text - 1;
    memcpy(text, entry->json.ptr, len);
    text[len] = 0;
    if (entry->reason == MR_DEAD_GROUPS && m->world->settings.groups_drop) {
        return; /* of groups, not of events */
    }
    const char *lsn = strstr(text, "\"lsn\":");
    const char *index = strstr(text, "\"index\":");
    MR_ASSERT(lsn != NULL && index != NULL);
    const struct sim_record *r = sim_model_record(m, strtoull(lsn + 6, NULL, 10));
    unsigned long i = strtoul(index + 8, NULL, 10);
    bool wrong = r == NULL || i >= r->count || !r->dead[i] ||
                 (r->verdicts[i] == 'D') != (entry->reason == MR_DEAD_CONFLICT);
    if (wrong && !m->world->log_lost) {
        SIM_FAILS("a dead letter that should not be: %s", text);
    }
    if (!wrong) {
        m->records[r - m->records].dead_found[i] = true;
    }
}

/* Dead letters of bundles up to this one may have gone with retention: the first record that is left begins behind them.
 * 0: none has. */
static uint64_t dead_gone_seq(struct sim_world *w) {
    struct mr_log_reader *reader = NULL;
    struct mr_error error;
    struct mr_record record = {.lsn = 0};
    uint64_t seq = 0;
    enum mr_status status =
        mr_log_reader_open(virtual_disk_disk(w->disk), w->data.dir.dead_dir, 0, &reader, &error);
    status = status == MR_OK ? mr_log_reader_next(reader, &record, &error) : status;
    bool whole = status == MR_OK && record.lsn == 1;
    while (status == MR_OK && !whole && (record.type != MR_RECORD_DEAD || record.payload.len < sizeof seq)) {
        status = mr_log_reader_next(reader, &record, &error);
    }
    if (status == MR_OK && !whole) {
        memcpy(&seq, record.payload.ptr, sizeof seq);
    }
    mr_log_reader_close(reader);
    return status == MR_OK ? seq : UINT64_MAX; /* none is left */
}

static void check_dead(struct sim_model *m) {
    struct sim_world *w = m->world;
    struct mr_dead_page page = {
        .stream = UINT32_MAX, .reason = -1, .limit = UINT32_MAX,
        .last_lsn = mr_pipeline_dead_lsn(w->pipeline), .visit = find_dead, .ctx = m};
    struct mr_error error;
    enum mr_status status = mr_dead_letters_read(virtual_disk_disk(w->disk), w->data.dir.dead_dir,
                                                 &page, &error);
    MR_ASSERT(status == MR_OK);
    /* Behind a repaired gap other events are late than were, in bundles whose dead letters are written. */
    uint64_t gone_seq = dead_gone_seq(w);
    for (uint32_t i = 0; i < m->record_count && !w->log_repaired; i++) {
        for (uint32_t k = 0; k < m->records[i].count && m->records[i].seq > gone_seq; k++) {
            if (m->records[i].dead[k] && !m->records[i].dead_found[k]) {
                SIM_FAILS("dead letter of record %" PRIu64 " event %u is missing", m->records[i].lsn, k);
            }
        }
    }
}

/* ---- all ---- */

static void count_outcomes(const struct sim_model *m) {
    struct sim_world *w = m->world;
    w->probes[SIM_PROBE_DUPLICATE] += sim_model_verdicts(m, 'D');
    w->probes[SIM_PROBE_LATE] += sim_model_verdicts(m, 'L');
    w->probes[SIM_PROBE_REJECTED] += sim_model_verdicts(m, 'R');
    w->probes[SIM_PROBE_ADVANCED] += m->advances;
    w->probes[SIM_PROBE_REDRIVEN] += m->redrives;
    for (uint32_t k = 0; k < m->settings->streams; k++) {
        const struct sim_ids *ids = &m->streams[k].ids;
        w->probes[SIM_PROBE_COUNTED_AGAIN] += ids->counted_again;
        w->probes[SIM_PROBE_OBSERVED] += m->streams[k].observed;
        w->probes[SIM_PROBE_CONFLICT] += m->streams[k].conflicts;
        w->probes[SIM_PROBE_BLOOM_MISTOOK] += ids->false_duplicates;
        if (ids->false_duplicates > 10 + (uint64_t)(2 * SIM_BLOOM_ERROR * (double)ids->judged_new)) {
            SIM_FAILS("%" PRIu64 " of %" PRIu64 " new ids were taken for old ones", ids->false_duplicates,
                      ids->judged_new);
        }
    }
}

void sim_check_all(struct sim_world *w) {
    /* No time passes from here on, so nothing moves while it is looked at. */
    struct mr_ask flush = {.kind = MR_ASK_FLUSH};
    sim_world_settle(w);
    sim_world_ask(w, &flush);
    struct sim_model *m = malloc(sizeof *m);
    MR_ASSERT(m != NULL);
    sim_model_open(w, UINT64_MAX, m);
    if (!m->unsure) {
        sim_check_answers(m);
        check_none_lost(m);
        sim_redrives_check(m);
        check_ledger(m);
        check_table(m);
        check_dead(m);
        count_outcomes(m);
    }
    sim_trace(w, sim_model_verdicts(m, 'A') * 31 + sim_model_verdicts(m, 'D') * 7 + sim_model_verdicts(m, 'L'));
    sim_model_close(m);
    free(m);
}
