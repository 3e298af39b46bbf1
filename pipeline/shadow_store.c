/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/shadow_store.h"

#include "base/check.h"

static const struct mr_results_ops shadow_ops;

static struct mr_shadow_store *store_of(struct mr_results *results) {
    MR_ASSERT(results->ops == &shadow_ops);
    return (struct mr_shadow_store *)results;
}

static enum mr_status shadow_begin(struct mr_results *results) {
    return mr_results_begin(store_of(results)->inner);
}

static enum mr_status shadow_put(struct mr_results *results, const struct mr_pane *pane) {
    struct mr_shadow_store *store = store_of(results);
    MR_ASSERT(pane->rule < MR_RULES_MAX);
    return pane->window_start_ms < store->begins_ms[pane->rule] ? MR_OK : mr_results_put(store->inner, pane);
}

static enum mr_status shadow_finalize(struct mr_results *results, uint32_t rule, int64_t end_ms) {
    return mr_results_finalize(store_of(results)->inner, rule, end_ms);
}

static enum mr_status shadow_commit(struct mr_results *results, uint64_t flushed_seq) {
    return mr_results_commit(store_of(results)->inner, flushed_seq);
}

static void shadow_rollback(struct mr_results *results) {
    mr_results_rollback(store_of(results)->inner);
}

static uint64_t shadow_flushed_seq(struct mr_results *results) {
    return mr_results_flushed_seq(store_of(results)->inner);
}

static const char *shadow_error_text(struct mr_results *results) {
    return mr_results_error_text(store_of(results)->inner);
}

/* The flusher's; what is not here nobody asks of it. */
static const struct mr_results_ops shadow_ops = {
    .begin = shadow_begin,
    .put = shadow_put,
    .finalize = shadow_finalize,
    .commit = shadow_commit,
    .rollback = shadow_rollback,
    .flushed_seq = shadow_flushed_seq,
    .error_text = shadow_error_text,
};

static int64_t sum(int64_t a, int64_t b) {
    return a > INT64_MAX - b ? INT64_MAX : a + b;
}

static int64_t whole_from(const struct mr_plan *plan, const struct mr_rule *rule, int64_t first_ms) {
    int64_t future_ms = 0;
    for (uint32_t i = 0; i < rule->input_count; i++) {
        int64_t most_ms = plan->streams[rule->inputs[i].stream].watermark.max_future_ms;
        future_ms = most_ms > future_ms ? most_ms : future_ms;
    }
    int64_t begins_ms = sum(first_ms, future_ms);
    return rule->window.kind == MR_WINDOW_SESSION ? sum(begins_ms, rule->window.gap_ms) : begins_ms;
}

void mr_shadow_store_init(struct mr_shadow_store *store, struct mr_results *inner, const struct mr_plan *plan,
                          int64_t first_ms, int64_t from_ms) {
    store->base.ops = &shadow_ops;
    store->inner = inner;
    for (uint32_t i = 0; i < plan->rule_count; i++) {
        int64_t begins_ms = first_ms == INT64_MIN ? INT64_MIN : whole_from(plan, &plan->rules[i], first_ms);
        store->begins_ms[i] = from_ms > begins_ms ? from_ms : begins_ms;
    }
}

void mr_shadow_store_init_from(struct mr_shadow_store *store, struct mr_results *inner, const int64_t *begins_ms,
                               uint32_t rule_count) {
    MR_ASSERT(rule_count <= MR_RULES_MAX);
    store->base.ops = &shadow_ops;
    store->inner = inner;
    memcpy(store->begins_ms, begins_ms, rule_count * sizeof *begins_ms);
}
