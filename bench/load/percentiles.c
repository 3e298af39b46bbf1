/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/load/percentiles.h"

#include <inttypes.h>
#include <math.h>

#define TICKS_PER_HALF 5
#define NS_PER_MS      1e6

/* Mean and deviation from the buckets: each value counts as its bucket's bound. */
static double deviation(const struct mr_histogram *h, double mean) {
    uint64_t count = mr_histogram_count(h);
    double sum = 0;
    for (uint64_t below = 0; below < count;) {
        uint64_t value = mr_histogram_quantile(h, ((double)below + 0.5) / (double)count);
        uint64_t until = mr_histogram_count_below(h, value);
        if (until <= below) {
            until = count; /* rounding of the share: what is left is in the last bucket */
        }
        sum += ((double)value - mean) * ((double)value - mean) * (double)(until - below);
        below = until;
    }
    return count == 0 ? 0 : sqrt(sum / (double)count);
}

static void line(const struct mr_histogram *h, double share, struct mr_buf *ret) {
    uint64_t count = mr_histogram_count(h);
    double least = count == 0 ? 0 : 1 / (double)count; /* 0 %: the smallest value */
    uint64_t value = mr_histogram_quantile(h, share > least ? share : least);
    mr_buf_printf(ret, "%12.3f %14.12f %10" PRIu64, (double)value / NS_PER_MS, share, mr_histogram_count_below(h, value));
    if (share < 1) {
        mr_buf_printf(ret, " %14.2f", 1 / (1 - share));
    }
    mr_buf_append_char(ret, '\n');
}

void mr_load_percentiles(const struct mr_histogram *h, struct mr_buf *ret) {
    uint64_t count = mr_histogram_count(h);
    double mean = count == 0 ? 0 : (double)mr_histogram_sum(h) / (double)count;
    mr_buf_append_text(ret, "       Value     Percentile TotalCount 1/(1-Percentile)\n\n");
    double from = 0;
    for (double left = 1; count > 0 && left * (double)count >= 1; left /= 2) {
        for (int i = 0; i < TICKS_PER_HALF; i++) {
            line(h, from + left / 2 * i / TICKS_PER_HALF, ret);
        }
        from += left / 2;
    }
    line(h, 1, ret);
    mr_buf_printf(ret, "#[Mean    = %12.3f, StdDeviation   = %12.3f]\n", mean / NS_PER_MS, deviation(h, mean) / NS_PER_MS);
    mr_buf_printf(ret, "#[Max     = %12.3f, Total count    = %12" PRIu64 "]\n", (double)mr_histogram_max(h) / NS_PER_MS, count);
    mr_buf_printf(ret, "#[Buckets = %12d, SubBuckets     = %12d]\n", MR_HISTOGRAM_BUCKETS / MR_HISTOGRAM_STEPS,
                  MR_HISTOGRAM_STEPS);
}
