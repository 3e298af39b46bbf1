/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* The rule that stage benchmarks of aggregate/ measure: count and sum by one text key. The caller gives it a window. */
#include "aggregate/rule.h"

static inline struct mr_rule bench_rule(struct mr_window window) {
    struct mr_rule rule = {
        .name = MR_BYTES("pages"),
        .key_seed = 42,
        .key_count = 1,
        .key_names = {MR_BYTES("page")},
        .window = window,
        .metric_count = 2,
        .inputs = {{.where = MR_NO_COLUMN,
                    .metric_columns = {MR_NO_COLUMN, 1},
                    .metric_where = {MR_NO_COLUMN, MR_NO_COLUMN}}},
        .input_count = 1,
        .metrics = {{.kind = MR_METRIC_COUNT}, {.kind = MR_METRIC_SUM}},
        .trigger = {.late = true},
        .groups_max = UINT64_MAX,
        .groups_bytes = UINT64_MAX / 2,
        .final_floor_ms = INT64_MIN,
    };
    rule.state_len = mr_metric_layout(rule.metrics, rule.metric_count, 0);
    return rule;
}
