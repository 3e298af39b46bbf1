/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Exposition: metrics as text for Prometheus (text format 0.0.4).
 *
 *     # HELP millrace_events_total Events decided, by verdict.
 *     # TYPE millrace_events_total counter
 *     millrace_events_total{stream="clicks",verdict="accepted"} 996
 *
 * Owner       Appends to the caller's buffer; a failed append shows in buf->failed.
 * Threads     One.
 * Invariants  Asserted: names are [a-zA-Z_:][a-zA-Z0-9_:]*, all samples of a family stand behind its header.
 */
#include "base/bytes.h"
#include "base/histogram.h"

#define MR_LABELS_MAX 4

enum mr_exposition_type { MR_EXPOSE_COUNTER, MR_EXPOSE_GAUGE, MR_EXPOSE_HISTOGRAM };

struct mr_label {
    const char *name;
    struct mr_bytes value; /* any bytes: escaped; what is not UTF-8 becomes U+FFFD */
};

struct mr_exposition {
    struct mr_buf *buf;
    const char *family;
    enum mr_exposition_type type;
};

void mr_exposition_init(struct mr_exposition *e, struct mr_buf *buf);
/* Begins a family; name and help live while its samples are written. */
void mr_exposition_family(struct mr_exposition *e, enum mr_exposition_type type, const char *name,
                          const char *help);
void mr_exposition_uint(struct mr_exposition *e, const struct mr_label *labels,
                        uint32_t label_count, uint64_t value);
void mr_exposition_double(struct mr_exposition *e, const struct mr_label *labels,
                          uint32_t label_count, double value);
/* Cumulative buckets at bounds, ascending, in the histogram's unit; +Inf is added. unit: how many of the
 * histogram's units make one of the family's (1e9 for ns to s). */
void mr_exposition_histogram(struct mr_exposition *e, const struct mr_label *labels,
                             uint32_t label_count, const struct mr_histogram *h,
                             const uint64_t *bounds, uint32_t bound_count, double unit);
