/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/panes.h"

#include "base/check.h"

enum mr_status mr_panes_put(struct mr_results *results, const struct mr_plan *plan, const struct mr_flush *flush,
                            struct mr_arena *scratch) {
    struct mr_bytes rest = mr_buf_bytes(&flush->panes);
    struct mr_number numbers[MR_RULE_METRICS_MAX];
    struct mr_pane pane;
    while (mr_pane_next(&rest, &pane)) {
        MR_ASSERT(pane.rule < plan->rule_count);
        const struct mr_rule *rule = &plan->rules[pane.rule];
        if (!pane.retraction) {
            mr_arena_reset(scratch);
            mr_metrics_finish(rule->metrics, rule->metric_count, pane.state, scratch, numbers);
            pane.numbers = numbers;
            pane.number_count = rule->metric_count;
        }
        enum mr_status status = mr_results_put(results, &pane);
        if (status != MR_OK) {
            return status;
        }
    }
    return MR_OK;
}
