/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/panes.h"

#include "base/alloc.h"
#include "base/check.h"

#include <stdlib.h>

static enum mr_status put(struct mr_results *results, const struct mr_plan *plan, struct mr_pane *pane,
                          struct mr_arena *scratch) {
    struct mr_number numbers[MR_RULE_METRICS_MAX];
    MR_ASSERT(pane->rule < plan->rule_count);
    const struct mr_rule *rule = &plan->rules[pane->rule];
    if (!pane->retraction) {
        mr_arena_reset(scratch);
        mr_metrics_finish(rule->metrics, rule->metric_count, pane->state, scratch, numbers);
        pane->numbers = numbers;
        pane->number_count = rule->metric_count;
    }
    return mr_results_put(results, pane);
}

enum mr_status mr_panes_put(struct mr_results *results, const struct mr_plan *plan, const struct mr_flush *flush,
                            struct mr_arena *scratch) {
    struct mr_bytes rest = mr_buf_bytes(&flush->panes);
    struct mr_pane pane;
    while (mr_pane_next(&rest, &pane)) {
        enum mr_status status = put(results, plan, &pane, scratch);
        if (status != MR_OK) {
            return status;
        }
    }
    return MR_OK;
}

enum mr_status mr_panes_open(struct mr_panes *panes, struct mr_results *results, const struct mr_plan *plan,
                             uint32_t together) {
    MR_ASSERT(together > 0);
    *panes = (struct mr_panes){.results = results, .plan = plan, .together = together};
    mr_arena_init(&panes->scratch, MR_PANE_SCRATCH_FIRST, MR_PANE_SCRATCH_MAX);
    panes->places = mr_alloc(together * sizeof *panes->places);
    return panes->places == NULL ? MR_NO_MEMORY : MR_OK;
}

void mr_panes_close(struct mr_panes *panes) {
    mr_free(panes->places);
    mr_arena_finish(&panes->scratch);
    *panes = (struct mr_panes){0};
}

static int by_row(const void *a, const void *b) {
    const struct mr_pane_place *x = a;
    const struct mr_pane_place *y = b;
    if (x->rule != y->rule) {
        return x->rule < y->rule ? -1 : 1;
    }
    if (x->window_start_ms != y->window_start_ms) {
        return x->window_start_ms < y->window_start_ms ? -1 : 1;
    }
    int order = mr_bytes_compare(mr_bytes_of(x->key, x->key_len), mr_bytes_of(y->key, y->key_len));
    return order != 0 ? order : (x->number > y->number) - (x->number < y->number);
}

enum mr_status mr_panes_put_gathered(struct mr_panes *panes) {
    enum mr_status status = MR_OK;
    qsort(panes->places, panes->count, sizeof *panes->places, by_row);
    for (uint32_t i = 0; i < panes->count && status == MR_OK; i++) {
        struct mr_bytes encoded = mr_bytes_of(panes->places[i].pane, panes->places[i].pane_len);
        struct mr_pane pane;
        bool is_there = mr_pane_next(&encoded, &pane);
        MR_ASSERT(is_there && encoded.len == 0);
        status = put(panes->results, panes->plan, &pane, &panes->scratch);
    }
    panes->count = 0;
    return status;
}

enum mr_status mr_panes_gather(struct mr_panes *panes, const struct mr_flush *flush) {
    struct mr_bytes rest = mr_buf_bytes(&flush->panes);
    struct mr_pane pane;
    for (const uint8_t *at = rest.ptr; mr_pane_next(&rest, &pane); at = rest.ptr) {
        if (flush->seq != panes->seq || panes->count == panes->together) {
            enum mr_status status = mr_panes_put_gathered(panes);
            if (status != MR_OK) {
                return status;
            }
            panes->seq = flush->seq;
        }
        panes->places[panes->count] = (struct mr_pane_place){
            .pane = at,
            .key = pane.key.ptr,
            .window_start_ms = pane.window_start_ms,
            .pane_len = (uint32_t)(rest.ptr - at),
            .key_len = (uint32_t)pane.key.len,
            .rule = pane.rule,
            .number = panes->count,
        };
        panes->count++;
    }
    return MR_OK;
}
