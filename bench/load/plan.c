/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/load/plan.h"

#include "base/alloc.h"
#include "base/check.h"
#include "bench/load/random.h"

#include <math.h>

enum { YAHOO_SPREAD_MS = 100, YAHOO_BEHIND_MS = 50, YAHOO_ONE_IN = 100000, YAHOO_LATE_MS = 60000 };

#define BASES_BYTES (MR_LOAD_BASES_MAX * sizeof(int64_t))

/* The quantiles of an exponential with mean 1/8, cut at 1, in the middle of each step. */
static uint16_t *make_steps(void) {
    uint16_t *steps = mr_alloc(MR_LOAD_DISORDER_STEPS * sizeof *steps);
    for (uint32_t i = 0; steps != NULL && i < MR_LOAD_DISORDER_STEPS; i++) {
        double x = -log(1 - (i + 0.5) / MR_LOAD_DISORDER_STEPS) / 8;
        steps[i] = (uint16_t)(x >= 1 ? UINT16_MAX : x * UINT16_MAX);
    }
    return steps;
}

enum mr_status mr_load_plan_init(struct mr_load_plan *plan,
                                 const struct mr_load_plan_options *options) {
    MR_ASSERT(options->batch > 0 && options->repeat_delay > 0);
    MR_ASSERT(options->repeat_beyond <= 0 || options->beyond_slots > 0);
    MR_ASSERT(options->repeat_beyond + options->repeat_events <= 1);
    *plan = (struct mr_load_plan){
        .o = *options,
        .repeat_seed = mr_load_seed(options->seed, MR_LOAD_REPEAT),
        .request_seed = mr_load_seed(options->seed, MR_LOAD_REPEAT_REQUEST),
        .late_seed = mr_load_seed(options->seed, MR_LOAD_LATE),
        .time_seed = mr_load_seed(options->seed, MR_LOAD_TIME),
        .beyond_cut = mr_load_cut(options->repeat_beyond),
        .repeat_cut = mr_load_cut(options->repeat_beyond + options->repeat_events),
        .request_cut = mr_load_cut(options->repeat_requests),
        .late_cut = mr_load_cut(options->late),
    };
    if (options->disorder == MR_LOAD_DISORDER_EXPONENTIAL) {
        plan->steps = make_steps();
        if (plan->steps == NULL) {
            return MR_NO_MEMORY;
        }
    }
    if (!options->timed) {
        plan->bases = mr_alloc_pages(BASES_BYTES);
        if (plan->bases == NULL) {
            return MR_NO_MEMORY;
        }
    }
    return MR_OK;
}

void mr_load_plan_finish(struct mr_load_plan *plan) {
    mr_free(plan->steps);
    if (plan->bases != NULL) {
        mr_free_pages(plan->bases, BASES_BYTES);
    }
    plan->steps = NULL;
    plan->bases = NULL;
}

static bool request_is_marked(const struct mr_load_plan *plan, uint64_t k) {
    return plan->request_cut > 0 && mr_load_random(plan->request_seed, k) < plan->request_cut;
}

uint64_t mr_load_plan_request(const struct mr_load_plan *plan, uint64_t k) {
    if (!request_is_marked(plan, k)) {
        return k;
    }
    uint64_t back = 1 + mr_load_below(mr_load_mix(mr_load_random(plan->request_seed, k)),
                                      MR_LOAD_REQUEST_DELAY);
    for (uint32_t i = 0; i < MR_LOAD_PROBES && back <= k; i++, back++) {
        if (!request_is_marked(plan, k - back)) {
            return k - back;
        }
    }
    return k;
}

/* Whether others may repeat it: only what is marked nowhere, so that a repeat never leads to another. */
static bool is_target(const struct mr_load_plan *plan, uint64_t n) {
    return mr_load_random(plan->repeat_seed, n) >= plan->repeat_cut &&
           !request_is_marked(plan, n / plan->o.batch);
}

static struct mr_load_slot find_repeated(const struct mr_load_plan *plan, uint64_t n,
                                         uint64_t mark) {
    uint64_t back = 1 + mr_load_below(mr_load_mix(mark), plan->o.repeat_delay);
    for (uint32_t i = 0; i < MR_LOAD_PROBES && back <= n; i++, back++) {
        if (is_target(plan, n - back)) {
            return (struct mr_load_slot){n - back, MR_LOAD_REPEATED};
        }
    }
    return (struct mr_load_slot){n, MR_LOAD_FRESH};
}

struct mr_load_slot mr_load_plan_event(const struct mr_load_plan *plan, uint64_t n) {
    if (plan->repeat_cut == 0) {
        return (struct mr_load_slot){n, MR_LOAD_FRESH};
    }
    uint64_t mark = mr_load_random(plan->repeat_seed, n);
    if (mark >= plan->repeat_cut) {
        return (struct mr_load_slot){n, MR_LOAD_FRESH};
    }
    if (mark >= plan->beyond_cut) {
        return find_repeated(plan, n, mark);
    }
    if (n >= plan->o.beyond_slots && is_target(plan, n - plan->o.beyond_slots)) {
        return (struct mr_load_slot){n - plan->o.beyond_slots, MR_LOAD_BEYOND};
    }
    return (struct mr_load_slot){n, MR_LOAD_FRESH};
}

struct mr_load_slot mr_load_plan_slot(const struct mr_load_plan *plan, uint64_t n) {
    uint64_t k = n / plan->o.batch;
    uint64_t source = mr_load_plan_request(plan, k);
    struct mr_load_slot slot = mr_load_plan_event(plan, n - (k - source) * plan->o.batch);
    if (source != k) {
        slot.kind = MR_LOAD_REPEATED;
    }
    MR_ASSERT(slot.source <= n);
    return slot;
}

bool mr_load_plan_is_late(const struct mr_load_plan *plan, uint64_t source) {
    return plan->late_cut > 0 && source >= plan->o.late_from &&
           mr_load_random(plan->late_seed, source) < plan->late_cut;
}

/* How much older than its base. */
static int64_t disorder_of(const struct mr_load_plan *plan, uint64_t source) {
    uint64_t random = mr_load_random(plan->time_seed, source);
    if (plan->o.disorder == MR_LOAD_DISORDER_YAHOO) {
        if (mr_load_below(mr_load_mix(random), YAHOO_ONE_IN) == 0) {
            return (int64_t)mr_load_below(random, YAHOO_LATE_MS);
        }
        return (int64_t)mr_load_below(random, YAHOO_SPREAD_MS) - YAHOO_BEHIND_MS;
    }
    if (plan->o.disorder == MR_LOAD_DISORDER_EXPONENTIAL) {
        return plan->steps[random % MR_LOAD_DISORDER_STEPS] * plan->o.disorder_ms / UINT16_MAX;
    }
    return (int64_t)mr_load_below(random, (uint64_t)plan->o.disorder_ms + 1);
}

/* Of a slot, without disorder. */
static int64_t base_of(const struct mr_load_plan *plan, uint64_t n) {
    return plan->o.timed ? plan->o.start_ms + (int64_t)((double)n * plan->o.ms_per_event)
                         : plan->bases[n / plan->o.batch];
}

int64_t mr_load_plan_base(const struct mr_load_plan *plan, uint64_t k) {
    return base_of(plan, k * plan->o.batch);
}

int64_t mr_load_plan_time(const struct mr_load_plan *plan, uint64_t source) {
    int64_t time_ms = base_of(plan, source);
    if (plan->o.disorder_ms > 0 || plan->o.disorder == MR_LOAD_DISORDER_YAHOO) {
        time_ms -= disorder_of(plan, source);
    }
    return mr_load_plan_is_late(plan, source) ? time_ms - MR_LOAD_LATE_MS : time_ms;
}
