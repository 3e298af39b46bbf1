/* SPDX-License-Identifier: Apache-2.0 */
#include "aggregate/metric_moments.h"

#include "aggregate/metric_sum.h"
#include "base/check.h"
#include "event/batch.h"

#include <math.h>

static_assert(sizeof(struct mr_moments_state) == 48, "data format");

/* A double-double: hi + lo, |lo| <= half a unit in the last place of hi. */
struct dd {
    double hi;
    double lo;
};

static inline struct dd two_sum(double a, double b) {
    double sum = a + b;
    double part = sum - a;
    return (struct dd){sum, (a - (sum - part)) + (b - part)};
}

static inline struct dd quick_two_sum(double a, double b) { /* |a| >= |b| */
    double sum = a + b;
    return (struct dd){sum, b - (sum - a)};
}

/* Dekker: halves of 26 bits, whose products are exact. */
static inline struct dd two_product(double a, double b) {
    const double split = 134217729; /* 2^27 + 1 */
    double p = a * b;
    double t = split * a;
    double a_hi = t - (t - a);
    double a_lo = a - a_hi;
    t = split * b;
    double b_hi = t - (t - b);
    double b_lo = b - b_hi;
    return (struct dd){p, ((a_hi * b_hi - p) + a_hi * b_lo + a_lo * b_hi) + a_lo * b_lo};
}

static inline struct dd dd_add(struct dd a, struct dd b) {
    struct dd high = two_sum(a.hi, b.hi);
    struct dd low = two_sum(a.lo, b.lo);
    high = quick_two_sum(high.hi, high.lo + low.hi);
    return quick_two_sum(high.hi, high.lo + low.lo);
}

static inline struct dd dd_multiply(struct dd a, struct dd b) {
    struct dd p = two_product(a.hi, b.hi);
    return quick_two_sum(p.hi, p.lo + (a.hi * b.lo + a.lo * b.hi));
}

static struct dd dd_divide(struct dd a, double b) {
    double q = a.hi / b;
    struct dd p = two_product(q, b);
    struct dd rest = dd_add(a, (struct dd){-p.hi, -p.lo});
    double more = rest.hi / b;
    p = two_product(more, b);
    rest = dd_add(rest, (struct dd){-p.hi, -p.lo});
    return dd_add(quick_two_sum(q, more), (struct dd){rest.hi / b, 0});
}

static struct dd dd_of_int(int64_t i) {
    double hi = (double)i;
    return (struct dd){hi, (double)((__int128_t)i - (__int128_t)hi)};
}

static inline struct dd sum_of(const struct mr_moments_state *s) {
    return (struct dd){s->sum_hi, s->sum_lo};
}

static inline struct dd squares_of(const struct mr_moments_state *s) {
    return (struct dd){s->squares_hi, s->squares_lo};
}

static inline void set(struct mr_moments_state *s, struct dd sum, struct dd squares) {
    bool fine = isfinite(squares.hi) && isfinite(squares.lo) && isfinite(sum.hi) && isfinite(sum.lo);
    s->sum_hi = fine ? sum.hi : 0;
    s->sum_lo = fine ? sum.lo : 0;
    s->squares_hi = fine ? squares.hi : (double)INFINITY;
    s->squares_lo = fine ? squares.lo : 0;
}

static inline void add_value(struct mr_moments_state *s, struct dd x) {
    if (s->values++ == 0) {
        s->shift = x.hi;
    }
    struct dd d = dd_add(two_sum(x.hi, -s->shift), (struct dd){x.lo, 0});
    set(s, dd_add(sum_of(s), d), dd_add(squares_of(s), dd_multiply(d, d)));
}

void mr_moments_add(const struct mr_metric *metric, const struct mr_column *column, const uint32_t *events,
                    uint8_t *const *states, uint32_t n) {
    for (uint32_t k = 0; k < n; k++) {
        struct mr_moments_state *s = (void *)(states[k] + metric->offset);
        uint32_t e = events[k];
        if (column->kinds[e] == MR_VALUE_INT) {
            add_value(s, dd_of_int(column->values[e].i));
        } else if (column->kinds[e] == MR_VALUE_DOUBLE) {
            add_value(s, (struct dd){column->values[e].d, 0});
        }
    }
}

/* With g = from's shift - into's: a value's d is from's + g, so the sum grows by n g, the squares by
 * 2 g sum + n g^2. */
void mr_moments_merge(struct mr_moments_state *into, const struct mr_moments_state *from) {
    if (from->values == 0) {
        return;
    }
    if (into->values == 0) {
        *into = *from;
        return;
    }
    struct dd g = two_sum(from->shift, -into->shift);
    struct dd n = {(double)from->values, 0};
    struct dd sum = sum_of(from);
    struct dd twice = {2 * sum.hi, 2 * sum.lo};
    struct dd ng = dd_multiply(n, g);
    struct dd squares = dd_add(squares_of(from), dd_multiply(g, dd_add(twice, ng)));
    set(into, dd_add(sum_of(into), dd_add(sum, ng)), dd_add(squares_of(into), squares));
    into->values += from->values;
}

struct mr_number mr_variance_finish(const struct mr_moments_state *s) {
    if (s->values == 0) {
        return (struct mr_number){.kind = MR_NUMBER_NULL};
    }
    double n = (double)s->values;
    struct dd sum = sum_of(s);
    struct dd away = dd_divide(dd_multiply(sum, sum), n);
    struct dd rest = dd_add(squares_of(s), (struct dd){-away.hi, -away.lo});
    double variance = dd_divide(rest, n).hi;
    if (!isfinite(variance)) {
        return mr_number_of_double(INFINITY);
    }
    return mr_number_of_double(variance > 0 ? variance : 0);
}

struct mr_number mr_stddev_finish(const struct mr_moments_state *s) {
    struct mr_number variance = mr_variance_finish(s);
    return variance.kind == MR_NUMBER_NULL ? variance : mr_number_of_double(sqrt(variance.d));
}
