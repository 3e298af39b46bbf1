/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/cluster_check.h"

#include "base/check.h"
#include "base/key.h"
#include "pipeline/stations.h"
#include "tests/redis/virtual_parts.h" /* whose a slot is */
#include "tests/sim/cluster_clients.h"
#include "tests/sim/cluster_life.h"
#include "tests/sim/cluster_model.h"
#include "tests/sim/journal.h"
#include "tests/sim/spoil.h"

#include <inttypes.h>
#include <string.h>

enum { STORE = 0, MANIFESTS_MAX = 8, ASKED_MAX = 8 };

/* ---- I1, I2 ---- */

static void check_stream(struct cluster_node *node, uint32_t i, bool processed) {
    struct mr_stream_stats s;
    struct mr_rule_stats r;
    mr_pipeline_stream_stats(node->pipeline, i, &s);
    mr_pipeline_rule_stats(node->pipeline, i, &r);
    uint64_t decided = s.accepted + s.duplicate + s.late + s.rejected + s.pending;
    if (decided > s.received || (processed && decided != s.received)) {
        CLUSTER_FAILS("n%u: s%u: received %" PRIu64 " = %" PRIu64 " + %" PRIu64 " + %" PRIu64 " + %" PRIu64
                      " + %" PRIu64 "%s",
                      node->index, i, s.received, s.accepted, s.duplicate, s.late, s.rejected, s.pending,
                      processed ? " when all is processed" : "");
    }
    if (processed && s.accepted != r.applied) {
        CLUSTER_FAILS("n%u: s%u: accepted %" PRIu64 ", applied %" PRIu64, node->index, i, s.accepted, r.applied);
    }
    if (mr_pipeline_live(node->pipeline)) { /* else replay is on the way to where it was */
        if (s.watermark_ms < node->watermarks_ms[i]) {
            CLUSTER_FAILS("n%u: s%u: the watermark went back from %" PRId64 " to %" PRId64, node->index, i,
                          node->watermarks_ms[i], s.watermark_ms);
        }
        node->watermarks_ms[i] = s.watermark_ms;
    }
}

void cluster_check_now(struct cluster_world *w) {
    for (uint32_t i = 0; i < w->settings.nodes; i++) {
        struct cluster_node *node = &w->nodes[i];
        if (node->pipeline == NULL || mr_pipeline_failure(node->pipeline, NULL) != MR_OK) {
            continue; /* it stopped in the middle of something */
        }
        struct mr_pipeline_stats p;
        mr_pipeline_stats(node->pipeline, &p);
        for (uint32_t k = 0; k < w->settings.streams; k++) {
            check_stream(node, k, p.processed_seq == p.last_seq);
        }
    }
}

/* ---- I3 ---- */

void cluster_check_outage(struct cluster_node *node) {
    bool goes_on = cluster_settings_local(&node->world->settings);
    if (!mr_pipeline_live(node->pipeline) || !cluster_life_has_outage(node) || goes_on) {
        return;
    }
    uint32_t count = cluster_clients_under_way(node);
    if (count > 0) {
        cluster_life_explain(node);
        CLUSTER_FAILS("n%u keeps %u batches in an outage", node->index, count);
    }
    cluster_hit(node->world, CLUSTER_PROBE_OUTAGE_QUIET);
}

/* ---- I4 ---- */

/* One server, so that one canary stands for all. Whatever was sent before the loss is answered or given up by now. */
static bool canary_is_lost(const struct cluster_world *w) {
    uint64_t patience_ns = 3 * (uint64_t)w->settings.timeout_ms * 1000000;
    if (w->settings.servers != 1 || w->lost_ns == 0 || w->clock.mono_ns < w->lost_ns + patience_ns) {
        return false;
    }
    struct mr_bytes canary;
    return !virtual_redis_peek(w->redis, 0, MR_BYTES("c:{c/s0/0}"), &canary) || canary.len != MR_EPOCH_LEN;
}

void cluster_check_claims(struct cluster_node *node, const struct mr_claims_stats *stats) {
    struct cluster_world *w = node->world;
    if (node->canary_was_lost && stats->won > node->won) {
        CLUSTER_FAILS("n%u won %" PRIu64 " claims while a canary was missing", node->index, stats->won - node->won);
    }
    node->won = stats->won;
    node->canary_was_lost = canary_is_lost(w);
    if (stats->counted_twice > 0 && w->losses == 0 && !cluster_settings_local(&w->settings)) {
        CLUSTER_FAILS("n%u says that %" PRIu64 " ids were counted twice, and nothing was lost", node->index,
                      stats->counted_twice);
    }
}

/* ---- I5 ---- */

void cluster_check_ledger(const struct mr_pipeline *pipeline, struct cluster_ledger *ret) {
    *ret = (struct cluster_ledger){.count = pipeline->plan->stream_count};
    for (uint32_t i = 0; i < ret->count; i++) {
        mr_pipeline_stream_stats(pipeline, i, &ret->streams[i]);
        mr_pipeline_rule_stats(pipeline, i, &ret->rules[i]);
    }
    ret->hash = mr_pipeline_state_hash_scan(pipeline);
}

void cluster_check_same(const struct cluster_node *node, const struct cluster_ledger *before,
                        const struct cluster_ledger *after, bool hash, const char *what) {
    for (uint32_t i = 0; i < before->count; i++) {
        const struct mr_stream_stats *a = &before->streams[i];
        const struct mr_stream_stats *b = &after->streams[i];
        const struct {
            const char *name;
            uint64_t before;
            uint64_t after;
        } rows[] = {
            {"received", a->received, b->received},
            {"accepted", a->accepted, b->accepted},
            {"duplicate", a->duplicate, b->duplicate},
            {"late", a->late, b->late},
            {"future", a->future, b->future},
            {"rejected", a->rejected, b->rejected},
            {"pending", a->pending, b->pending},
            {"ids", a->dedup_ids, b->dedup_ids},
            {"watermark", (uint64_t)a->watermark_ms, (uint64_t)b->watermark_ms},
            {"applied", before->rules[i].applied, after->rules[i].applied},
            {"late of the rule", before->rules[i].late, after->rules[i].late},
        };
        for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
            if (rows[k].before != rows[k].after) {
                CLUSTER_FAILS("n%u: %s gives s%u another ledger: %s %" PRIu64 ", not %" PRIu64, node->index, what, i,
                              rows[k].name, rows[k].after, rows[k].before);
            }
        }
    }
    if (hash && before->hash != after->hash) {
        CLUSTER_FAILS("n%u: %s gives another state", node->index, what);
    }
}

struct rows {
    const struct mr_pane **items;
    uint64_t count;
};

static bool list_row(void *ctx, const struct mr_pane *row) {
    struct rows *rows = ctx;
    rows->items[rows->count++] = row;
    return true;
}

static struct rows list_rows(const struct cluster_node *node, uint32_t rule) {
    struct rows rows = {calloc(mr_memory_results_count(node->results, rule) + 1, sizeof(struct mr_pane *)), 0};
    MR_ASSERT(rows.items != NULL);
    mr_memory_results_each(node->results, rule, list_row, &rows);
    return rows;
}

void cluster_check_rows_equal(const struct cluster_node *node, const struct cluster_node *twin) {
    for (uint32_t rule = 0; rule < node->plan->rule_count; rule++) {
        struct rows a = list_rows(node, rule);
        struct rows b = list_rows(twin, rule);
        bool same = a.count == b.count;
        for (uint64_t i = 0; i < a.count && same; i++) {
            const struct mr_pane *x = a.items[i];
            const struct mr_pane *y = b.items[i];
            same = x->window_start_ms == y->window_start_ms && mr_bytes_equal(x->key, y->key) &&
                   x->events == y->events && x->final == y->final && x->revision == y->revision &&
                   mr_bytes_equal(x->state, y->state);
        }
        if (!same) {
            CLUSTER_FAILS("n%u: rule %u: a replay of the whole log gives other rows", node->index, rule);
        }
        free(a.items);
        free(b.items);
    }
}

/* ---- I7 ---- */

static void check_answers(const struct cluster_model *m) {
    const struct cluster_world *w = m->world;
    for (uint32_t i = 0; i < w->answer_count; i++) {
        const struct cluster_answer *answer = &w->answers[i];
        if (answer->node != m->node) {
            continue;
        }
        const struct cluster_request *request = &w->requests[answer->request];
        const struct cluster_record *r = cluster_model_record(m, answer->lsn);
        if (r == NULL || r->request->count != request->count || !r->decided) {
            CLUSTER_FAILS("n%u: record %" PRIu64 " was acknowledged, and %s", m->node, answer->lsn,
                          r == NULL ? "is lost" : "never decided");
        }
        if (!answer->pending && memcmp(r->verdicts, answer->verdicts, request->count) != 0) {
            CLUSTER_FAILS("n%u: record %" PRIu64 ": answered %.*s, the log says %.*s", m->node, answer->lsn,
                          (int)request->count, answer->verdicts, (int)request->count, r->verdicts);
        }
    }
}

/* ---- I8 ---- */

static void check_number(const struct cluster_model *m, uint32_t stream, const char *what, uint64_t node,
                         uint64_t model) {
    if (node != model) {
        CLUSTER_FAILS("n%u: s%u: %s %" PRIu64 ", its log says %" PRIu64, m->node, stream, what, node, model);
    }
}

static void check_ledger(const struct cluster_model *m) {
    const struct cluster_node *node = &m->world->nodes[m->node];
    for (uint32_t i = 0; i < m->world->settings.streams; i++) {
        struct mr_stream_stats s;
        mr_pipeline_stream_stats(node->pipeline, i, &s);
        check_number(m, i, "received", s.received, m->received[i]);
        check_number(m, i, "accepted", s.accepted, m->verdicts[i]['A']);
        check_number(m, i, "duplicate", s.duplicate, m->verdicts[i]['D']);
        check_number(m, i, "late", s.late, m->verdicts[i]['L']);
        check_number(m, i, "rejected", s.rejected, m->verdicts[i]['R']);
        check_number(m, i, "pending", s.pending, m->pending[i]);
        check_number(m, i, "watermark", (uint64_t)s.watermark_ms, (uint64_t)m->watermarks_ms[i]);
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

static bool check_row(void *ctx, const struct mr_pane *row) {
    struct cluster_model *m = ctx;
    const struct mr_plan *plan = m->world->nodes[m->node].data.plan;
    uint32_t key = key_number(row->key);
    struct cluster_cell *cell = cluster_model_cell(m, row->rule, row->window_start_ms, key);
    struct mr_number sum = mr_metric_finish(plan->rules[row->rule].metrics, 1, row->state, NULL);
    if (cell == NULL || cell->events != row->events || sum.kind != MR_NUMBER_INT || sum.i != cell->sum || !row->final) {
        CLUSTER_FAILS("n%u: rule %u window %" PRId64 " key %u: %" PRIu64 " events, sum %" PRId64
                      "%s; its log says %" PRIu64 ", %" PRId64,
                      m->node, row->rule, row->window_start_ms, key, row->events, sum.i,
                      row->final ? "" : ", not final", cell == NULL ? 0 : cell->events, cell == NULL ? 0 : cell->sum);
    }
    cell->found = true;
    return true;
}

static void check_rows(struct cluster_model *m) {
    for (uint32_t rule = 0; rule < m->world->settings.streams; rule++) {
        mr_memory_results_each(m->world->nodes[m->node].results, rule, check_row, m);
    }
    for (uint32_t i = 0; i < m->cell_count; i++) {
        if (!m->cells[i].found) {
            CLUSTER_FAILS("n%u: rule %u window %" PRId64 " key %u: missing", m->node, m->cells[i].rule,
                          m->cells[i].window_ms, m->cells[i].key);
        }
    }
}

/* ---- I6 ---- */

struct counts {
    uint64_t twice; /* counted more often than once, in all */
    uint64_t alone; /* of other ids: by nodes that decided alone */
    uint32_t stream; /* of one of those */
    uint32_t id;
};

static void count_id(struct cluster_world *w, struct cluster_model *const *models, uint32_t stream, uint32_t id,
                     struct counts *ret) {
    uint32_t count = 0;
    bool alone = false;
    for (uint32_t i = 0; i < w->settings.nodes; i++) {
        count += models[i]->accepted[stream][id];
        alone = alone || models[i]->alone[stream][id];
        if (models[i]->alone[stream][id] && models[i]->accepted[stream][id] > 1) {
            CLUSTER_FAILS("n%u: s%u-%u was counted twice by the same node", i, stream, id);
        }
        w->probes[CLUSTER_PROBE_ALONE] += models[i]->alone[stream][id];
    }
    if (count == 0 && w->ids[stream][id].acknowledged) {
        CLUSTER_FAILS("s%u-%u was acknowledged, and is counted nowhere", stream, id);
    }
    if (count > 1 && alone) {
        ret->alone += count - 1;
    } else if (count > 1) {
        ret->twice += count - 1;
        ret->stream = stream;
        ret->id = id;
    }
}

static void say_twice(const struct cluster_world *w, struct cluster_model *const *models, const struct counts *counts) {
    for (uint32_t i = 0; i < w->settings.nodes; i++) {
        for (uint32_t k = 0; k < models[i]->record_count; k++) {
            const struct cluster_record *r = &models[i]->records[k];
            for (uint32_t e = 0; e < r->request->count && r->request->stream == counts->stream; e++) {
                if (r->request->events[e].id == counts->id) {
                    (void)fprintf(stderr, "n%u: record %" PRIu64 " event %u: %c\n", i, r->lsn, e,
                                  r->decided ? r->verdicts[e] : '?');
                }
            }
        }
    }
}

static void check_counts(struct cluster_world *w, struct cluster_model *const *models) {
    struct counts counts = {.twice = 0};
    for (uint32_t s = 0; s < w->settings.streams; s++) {
        for (uint32_t id = 0; id < w->next_id[s] && w->settings.stream[s].claimed; id++) {
            count_id(w, models, s, id, &counts);
        }
    }
    uint64_t said = 0;
    uint64_t missing = 0;
    for (uint32_t i = 0; i < w->settings.nodes; i++) {
        struct mr_store_stats store;
        mr_pipeline_store_stats(w->nodes[i].pipeline, STORE, &store);
        said += w->nodes[i].counted_twice + store.claims.counted_twice;
        missing += w->nodes[i].peers_missing + store.claims.watch.peers_missing;
    }
    bool explained = w->settings.loss == CLUSTER_LOSES_SOME || missing > 0 ? counts.twice <= said : counts.twice == 0;
    cluster_say(w, CLUSTER_NODES_MAX, "counted twice", counts.twice);
    cluster_say(w, CLUSTER_NODES_MAX, "counted twice, as the nodes say", said);
    if (!explained) {
        say_twice(w, models, &counts);
        CLUSTER_FAILS("%" PRIu64 " ids were counted twice, s%u-%u one of them; the nodes say %" PRIu64
                      ", with %u losses and %" PRIu64 " nodes given up",
                      counts.twice, counts.stream, counts.id, said, w->losses, missing);
    }
    w->probes[CLUSTER_PROBE_COUNTED_TWICE] += counts.twice;
    w->probes[CLUSTER_PROBE_ALONE_TWICE] += counts.alone;
}

/* ---- probes ---- */

static void count_verdicts(struct cluster_world *w, struct cluster_model *const *models) {
    for (uint32_t n = 0; n < w->settings.nodes; n++) {
        for (uint32_t k = 0; k < models[n]->record_count; k++) {
            const struct cluster_record *r = &models[n]->records[k];
            uint32_t stream = r->request->stream;
            for (uint32_t e = 0; e < r->request->count && w->settings.stream[stream].claimed; e++) {
                bool here = models[n]->accepted[stream][r->request->events[e].id] > 0;
                w->probes[CLUSTER_PROBE_LATE] += r->verdicts[e] == 'L';
                w->probes[CLUSTER_PROBE_DUPLICATE] += r->verdicts[e] == 'D' && here;
                w->probes[CLUSTER_PROBE_DUPLICATE_ELSEWHERE] += r->verdicts[e] == 'D' && !here;
            }
        }
    }
}

void cluster_check_collect(struct cluster_node *node) {
    struct cluster_world *w = node->world;
    const struct mr_claimer *claimer = &node->pipeline->claimer;
    struct mr_claims_stats s;
    mr_claims_stats(claimer->stores[STORE].claims, &s);
    node->counted_twice += s.counted_twice;
    node->peers_missing += s.watch.peers_missing;
    w->probes[CLUSTER_PROBE_CLAIM_MINE] += s.mine;
    w->probes[CLUSTER_PROBE_CLAIM_REPEATED] += s.repeated;
    w->probes[CLUSTER_PROBE_SUSPECTED] += s.watch.suspected;
    w->probes[CLUSTER_PROBE_LOST] += s.watch.lost;
    w->probes[CLUSTER_PROBE_REPAIRED] += s.repaired;
    w->probes[CLUSTER_PROBE_KEPT] += s.kept;
    w->probes[CLUSTER_PROBE_PEERS_MISSING] += s.watch.peers_missing;
}

/* ---- all ---- */

void cluster_check_all(struct cluster_world *w) {
    struct cluster_model *models[CLUSTER_NODES_MAX];
    for (uint32_t i = 0; i < w->settings.nodes; i++) {
        models[i] = cluster_model_open(&w->nodes[i]);
    }
    check_counts(w, models);
    for (uint32_t i = 0; i < w->settings.nodes; i++) {
        check_answers(models[i]);
        check_ledger(models[i]);
        check_rows(models[i]);
        cluster_trace(w, models[i]->record_count);
    }
    count_verdicts(w, models);
    for (uint32_t i = 0; i < w->settings.nodes; i++) {
        cluster_model_close(models[i]);
    }
}

/* ---- I9 ---- */

uint32_t cluster_check_ask_others(struct cluster_world *w) {
    uint32_t first = w->answer_count;
    uint32_t asked = 0;
    bool keeps_claims = w->settings.loss == CLUSTER_LOSES_NOTHING;
    for (uint32_t n = 0; n < w->settings.nodes && keeps_claims && cluster_settings_local(&w->settings); n++) {
        struct cluster_model *model = cluster_model_open(&w->nodes[n]);
        for (uint32_t k = 0; k < model->record_count && asked < ASKED_MAX; k++) {
            if (model->records[k].local && w->requests[model->records[k].request - w->requests].legs[0].under_way == 0) {
                cluster_clients_again(w, (uint32_t)(model->records[k].request - w->requests), (n + 1) % w->settings.nodes);
                asked++;
            }
        }
        cluster_model_close(model);
    }
    w->probes[CLUSTER_PROBE_ASKED_OTHERS] += asked;
    return first;
}

void cluster_check_others_know(const struct cluster_world *w, uint32_t first_answer) {
    for (uint32_t i = first_answer; i < w->answer_count; i++) {
        const struct cluster_answer *answer = &w->answers[i];
        const struct cluster_request *request = &w->requests[answer->request];
        for (uint32_t e = 0; e < request->count && !answer->pending; e++) {
            if (answer->verdicts[e] != 'D' && answer->verdicts[e] != 'R') {
                CLUSTER_FAILS("n%u: record %" PRIu64 " event %u: %c, though another node has counted it while it was alone",
                              answer->node, answer->lsn, e, answer->verdicts[e]);
            }
        }
    }
}

void cluster_check_explain(struct cluster_node *node) {
    struct cluster_model *model = cluster_model_open(node);
    for (uint32_t i = 0; i < model->record_count; i++) {
        const struct cluster_record *r = &model->records[i];
        if (!r->decided) {
            (void)fprintf(stderr, "    record %" PRIu64 " of s%u with %u events has no verdicts\n", r->lsn,
                          r->request->stream, r->request->count);
        }
    }
    cluster_model_close(model);
}

struct virtual_disk *cluster_check_bare_disk(const struct cluster_node *node) {
    uint64_t manifests[MANIFESTS_MAX];
    struct virtual_disk *disk = virtual_disk_clone(node->disk, 1);
    struct sim_world *shell = calloc(1, sizeof *shell); /* of a world the journal looks at the disk only */
    MR_ASSERT(shell != NULL);
    shell->disk = node->disk;
    sim_journal_put_back(shell, disk);
    free(shell);
    uint32_t count = sim_spoil_list(node->disk, manifests, MANIFESTS_MAX);
    for (uint32_t i = 0; i < count; i++) {
        sim_spoil_remove_manifest(disk, manifests[i]);
    }
    return disk;
}
