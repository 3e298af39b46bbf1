/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * SLO: terms over a result, all of which must hold: p99<50ms,missed_duplicates==0.
 *
 *     terms = term { "," term }      term = name op number [unit]      op = < <= > >= == !=
 *
 * Units       Latencies need ns, us, ms or s; memory may have B, KiB, MiB or GiB; all else may have k or M.
 * Errors      MR_INVALID: which term, and what was expected. A value that was not measured does not hold.
 */
#include "bench/load/result.h"

#define MR_LOAD_SLO_TERMS 32

enum mr_load_op { MR_LOAD_LESS, MR_LOAD_AT_MOST, MR_LOAD_MORE, MR_LOAD_AT_LEAST, MR_LOAD_EQUAL, MR_LOAD_UNEQUAL };

struct mr_load_term {
    struct mr_bytes text; /* the term as it was written */
    struct mr_bytes name;
    enum mr_load_op op;
    double bound;
    enum mr_load_unit unit;
};

struct mr_load_slo {
    struct mr_load_term terms[MR_LOAD_SLO_TERMS];
    uint32_t count;
};

/* Texts point into text. */
enum mr_status mr_load_slo_parse(struct mr_load_slo *ret, const char *text,
                                 struct mr_error *error) MR_MUST_CHECK;
/* Whether a term holds; *ret_value: what was measured. */
bool mr_load_slo_holds(const struct mr_load_term *term, const struct mr_load_result *result,
                       double *ret_value);
/* A value in its unit for a person: 12.3 ms, 1.9 MiB, 1,234. */
void mr_load_show(double value, enum mr_load_unit unit, char *ret, size_t cap);
/* 1234567 as 1,234,567. */
void mr_load_show_count(uint64_t count, char ret[32]);
