/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/load/result.h"

#include "base/alloc.h"
#include "bench/load/reader.h"
#include "config/value.h"

#include <math.h>
#include <stddef.h>

struct value {
    const char *name;
    size_t offset;
    enum mr_load_unit unit;
};

static const struct value values[] = {
#define X(name, unit, what) {#name, offsetof(struct mr_load_result, name), MR_LOAD_##unit},
    MR_LOAD_VALUES(X)
#undef X
};

enum { VALUES = sizeof values / sizeof values[0], UNSENT_LISTED = 1000000 };

static bool take_prefix(struct mr_bytes *name, const char *prefix) {
    size_t len = strlen(prefix);
    if (name->len < len || memcmp(name->ptr, prefix, len) != 0) {
        return false;
    }
    *name = mr_bytes_of(name->ptr + len, name->len - len);
    return true;
}

static bool histogram_value(const struct mr_histogram *h, struct mr_bytes name, double *ret) {
    uint64_t count = mr_histogram_count(h);
    double share;
    if (mr_bytes_equal(name, MR_BYTES("max"))) {
        *ret = count == 0 ? NAN : (double)mr_histogram_max(h);
        return true;
    }
    if (mr_bytes_equal(name, MR_BYTES("mean"))) {
        *ret = count == 0 ? NAN : (double)mr_histogram_sum(h) / (double)count;
        return true;
    }
    if (!take_prefix(&name, "p") || name.len == 0 || name.ptr[0] < '0' || name.ptr[0] > '9' ||
        !mr_load_number(name, &share) || !(share >= 0 && share <= 100)) {
        return false;
    }
    *ret = count == 0 ? NAN : (double)mr_histogram_quantile(h, share / 100);
    return true;
}

bool mr_load_result_value(const struct mr_load_result *result, struct mr_bytes name, double *ret,
                          enum mr_load_unit *ret_unit) {
    for (size_t i = 0; i < VALUES; i++) {
        if (mr_bytes_equal(name, mr_bytes_text(values[i].name))) {
            *ret = *(const double *)(const void *)((const char *)result + values[i].offset);
            *ret_unit = values[i].unit;
            return true;
        }
    }
    bool service = take_prefix(&name, "service_");
    *ret_unit = MR_LOAD_NS;
    return histogram_value(service ? &result->measured->service : &result->measured->latency, name, ret);
}

const char *mr_load_result_suggest(struct mr_bytes typed) {
    const char *best = NULL;
    uint32_t best_distance = UINT32_MAX;
    for (size_t i = 0; i < VALUES; i++) {
        uint32_t distance = mr_value_distance(typed, mr_bytes_text(values[i].name));
        if (distance < best_distance) {
            best = values[i].name;
            best_distance = distance;
        }
    }
    return mr_value_near(best_distance, typed) ? best : NULL;
}

enum mr_status mr_load_result_open(struct mr_load_result *result) {
    *result = (struct mr_load_result){0};
    for (size_t i = 0; i < VALUES; i++) {
        *(double *)(void *)((char *)result + values[i].offset) = NAN;
    }
    result->measured = mr_alloc_zero(1, sizeof *result->measured);
    result->total = mr_alloc_zero(1, sizeof *result->total);
    return result->measured == NULL || result->total == NULL ? MR_NO_MEMORY : MR_OK;
}

void mr_load_result_close(struct mr_load_result *result) {
    mr_free(result->measured);
    mr_free(result->total);
}

/* Requests that were due before the end and never sent waited at least until now: leaving them out would be the very
 * omission that an open loop is there to avoid. */
static void take_unsent(struct mr_load_result *result, const struct mr_load_run *run, uint64_t end_ns) {
    result->unsent = 0;
    if (run->interval_ns <= 0) {
        return;
    }
    double due = ceil((double)(run->end_ns - run->began_ns) / run->interval_ns);
    uint64_t due_count = due < (double)run->requests_max ? (uint64_t)due : run->requests_max;
    for (uint64_t k = run->next; k < due_count; k++) {
        uint64_t due_ns = run->began_ns + (uint64_t)(run->interval_ns * (double)k);
        result->unsent++;
        if (due_ns >= run->measure_ns && due_ns < end_ns && k - run->next < UNSENT_LISTED) {
            mr_histogram_add(&result->measured->latency, end_ns - due_ns);
        }
    }
}

void mr_load_result_take(struct mr_load_result *result, const struct mr_load_run *run) {
    struct mr_load_tally *m = result->measured;
    struct mr_load_tally *t = result->total;
    mr_load_run_tally(run, true, m);
    mr_load_run_tally(run, false, t);
    uint64_t last_ns = run->last_answer_ns;
    uint64_t until_ns = last_ns > run->measure_ns ? last_ns : run->measure_ns;
    result->seconds = (double)(until_ns - run->measure_ns) / 1e9;
    if (result->seconds > 0) {
        result->rate = (double)mr_load_read(&m->events) / result->seconds;
        result->bytes_per_second = (double)mr_load_read(&m->bytes) / result->seconds;
    }
#define COPY(name) result->name = (double)mr_load_read(&t->name)
    COPY(requests);
    COPY(events);
    COPY(accepted);
    COPY(duplicate);
    COPY(late);
    COPY(rejected);
    COPY(pending);
    COPY(retried);
    COPY(resent);
    COPY(missed_slots);
#undef COPY
    if (run->plan != NULL) {
        double more = (double)mr_load_read(&t->planned_accepted) - result->accepted;
        double later = (double)mr_load_read(&t->planned_late) - result->late;
        result->missed_duplicates = more + later < 0 ? -(more + later) : 0;
        result->false_duplicates = more + later > 0 ? more + later : 0;
    }
    take_unsent(result, run, until_ns);
}
