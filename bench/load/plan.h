/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Plan: what stands in slot n of a run: an event of its own, or an earlier one again; and its event time.
 *
 * Idea        Slot n is the (n mod batch)-th event of request n / batch. Marks are random numbers of (seed, n): a marked
 *             slot or request repeats an earlier one that is not marked itself, so that nobody has to remember what was
 *             sent: neither the sender nor, after the run, the verifier.
 *
 *                 request     0        1        2*       3        * marked: request 0 again, byte for byte
 *                 slots       a b c d  e f a'g  a b c d  h c'i j  ' marked: an earlier event again
 *                 verdicts    A A A A  A A D A  D D D D  A D A A
 *
 *             A third kind of mark (beyond) repeats the event sent `beyond` slots before, longer ago than the horizon:
 *             it must be counted again. There is one slot for each target, so no such copy meets another.
 * Shape       Constant after init, but bases: in a closed loop without a start time the request's number is given a base
 *             time when it is taken, which the plan remembers (8 bytes a request, pages touched only when used).
 * Units       Event time in ms since the Unix epoch.
 * Threads     Reading from any; bases[k] is written before any thread takes a request greater than k.
 * Invariants  I1 A slot's source is at most the slot, is no repeat itself, and lies in a request that is none.
 *             I2 Slots below late_from are not late: the watermark passes them first.
 */
#include "base/status.h"

#include <stdint.h>

#define MR_LOAD_LATE_MS          INT64_C(86400000) /* late events are a day old */
#define MR_LOAD_REQUEST_DELAY    8  /* a request comes again after 1 to 8 others, or as many more as are repeats */
#define MR_LOAD_PROBES           64 /* slots (requests) looked at for one that is no repeat itself */
#define MR_LOAD_BASES_MAX        (UINT64_C(1) << 27)
#define MR_LOAD_DISORDER_STEPS   4096

enum mr_load_disorder {
    MR_LOAD_DISORDER_UNIFORM,
    MR_LOAD_DISORDER_EXPONENTIAL, /* mean: an eighth of the bound, which cuts it */
    MR_LOAD_DISORDER_YAHOO,       /* -49 to +50 ms, and one in 100,000 up to 60 s late; no bound */
};

enum mr_load_kind { MR_LOAD_FRESH, MR_LOAD_REPEATED, MR_LOAD_BEYOND };

struct mr_load_slot {
    uint64_t source; /* whose content it has */
    enum mr_load_kind kind;
};

struct mr_load_plan_options {
    uint64_t seed;
    uint32_t batch;
    double repeat_events; /* shares, 0..1 */
    double repeat_requests;
    double repeat_beyond;
    double late;
    uint64_t repeat_delay;  /* slots, at least 1 */
    uint64_t beyond_slots;  /* how far back a beyond copy reaches; at least 1 where repeat_beyond > 0 */
    uint64_t late_from;
    enum mr_load_disorder disorder;
    int64_t disorder_ms;
    bool timed;         /* times are a function of n: start_ms + n * ms_per_event; else of the base of its request */
    int64_t start_ms;
    double ms_per_event;
};

struct mr_load_plan {
    struct mr_load_plan_options o;
    uint64_t repeat_seed;
    uint64_t request_seed;
    uint64_t late_seed;
    uint64_t time_seed;
    uint64_t beyond_cut; /* marks below it: beyond; below repeat_cut: repeated */
    uint64_t repeat_cut;
    uint64_t request_cut;
    uint64_t late_cut;
    uint16_t *steps; /* exponential disorder: 65536 is the bound */
    int64_t *bases;  /* NULL when timed */
};

/* MR_NO_MEMORY: finish is fine all the same. */
enum mr_status mr_load_plan_init(struct mr_load_plan *plan,
                                 const struct mr_load_plan_options *options) MR_MUST_CHECK;
void mr_load_plan_finish(struct mr_load_plan *plan);

/* The request whose bytes request k has: k, or an earlier one. */
uint64_t mr_load_plan_request(const struct mr_load_plan *plan, uint64_t k);
/* What slot n holds, repeated requests included. */
struct mr_load_slot mr_load_plan_slot(const struct mr_load_plan *plan, uint64_t n);
/* The same for a slot of a request that is no repeat. */
struct mr_load_slot mr_load_plan_event(const struct mr_load_plan *plan, uint64_t n);
bool mr_load_plan_is_late(const struct mr_load_plan *plan, uint64_t source);
/* The time that request k is about: of its first slot, without disorder and lateness. */
int64_t mr_load_plan_base(const struct mr_load_plan *plan, uint64_t k);
/* Event time of a source. */
int64_t mr_load_plan_time(const struct mr_load_plan *plan, uint64_t source);
