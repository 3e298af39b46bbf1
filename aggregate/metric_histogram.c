/* SPDX-License-Identifier: Apache-2.0 */
#include "aggregate/metric_histogram.h"

#include "aggregate/metric_value.h"
#include "aggregate/sketch.h"

/* How many bounds are <= the value. */
static uint32_t bucket_of_double(const double *bounds, uint32_t count, double x) {
    uint32_t low = 0;
    while (low < count) {
        uint32_t middle = (low + count) / 2;
        if (bounds[middle] <= x) {
            low = middle + 1;
        } else {
            count = middle;
        }
    }
    return low;
}

static uint32_t bucket_of_int(const double *bounds, uint32_t count, int64_t x) {
    uint32_t low = 0;
    while (low < count) {
        uint32_t middle = (low + count) / 2;
        if (mr_compare_int_double(x, bounds[middle]) >= 0) {
            low = middle + 1;
        } else {
            count = middle;
        }
    }
    return low;
}

void mr_histogram_metric_add(const struct mr_metric *metric, const struct mr_column *column, const uint32_t *events,
                             uint8_t *const *states, uint32_t n) {
    for (uint32_t k = 0; k < n; k++) {
        uint64_t *counts = (void *)(states[k] + metric->offset);
        uint32_t e = events[k];
        if (column->kinds[e] == MR_VALUE_INT) {
            counts[bucket_of_int(metric->params, metric->param_count, column->values[e].i)]++;
        } else if (column->kinds[e] == MR_VALUE_DOUBLE) {
            counts[bucket_of_double(metric->params, metric->param_count, column->values[e].d)]++;
        }
    }
}

struct mr_number mr_histogram_metric_finish(const struct mr_metric *metric, const uint8_t *counts,
                                            struct mr_arena *scratch) {
    struct mr_buf buf;
    struct mr_json json;
    if (scratch == NULL) {
        return (struct mr_number){.kind = MR_NUMBER_NULL};
    }
    mr_buf_init(&buf, MR_SKETCH_JSON_MAX);
    mr_json_init(&json, &buf);
    mr_json_object_begin(&json);
    mr_json_key(&json, "bounds");
    mr_json_array_begin(&json);
    for (uint32_t i = 0; i < metric->param_count; i++) {
        mr_json_double(&json, metric->params[i]);
    }
    mr_json_array_end(&json);
    mr_json_key(&json, "counts");
    mr_json_array_begin(&json);
    for (uint32_t i = 0; i <= metric->param_count; i++) {
        mr_json_uint(&json, mr_get_u64(counts + (size_t)i * 8));
    }
    mr_json_array_end(&json);
    mr_json_object_end(&json);
    return mr_sketch_json(&buf, scratch);
}
