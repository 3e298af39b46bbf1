/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Help for the tests of event/: decoders of every path with prediction on and off, which must give
 * the same batch; schemas in a line; bodies in blocks of exactly their size, so that ASan sees each
 * read behind the padding.
 */
#include "base/alloc.h"
#include "base/check.h"
#include "event/decode.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { VARIANTS_MAX = 4 };

struct variants {
    struct mr_decoder *decoder[VARIANTS_MAX];
    uint32_t count;
};

void variants_open(struct variants *v);
void variants_close(struct variants *v);

/* Decodes with one decoder; *ret NULL on failure. */
enum mr_status decode_with(struct mr_decoder *decoder, const struct mr_schema *schema,
                           enum mr_format format, struct mr_bytes body, struct mr_batch **ret,
                           struct mr_error *error);
/* Decodes with all of them, asserts that the results are the same and pass mr_batch_check, and
 * returns the first. */
enum mr_status decode_all(struct variants *v, const struct mr_schema *schema, enum mr_format format,
                          struct mr_bytes body, struct mr_batch **ret, struct mr_error *error);
void assert_same_batch(const struct mr_batch *a, const struct mr_batch *b);

/* id, time (ms, arrival when missing), and fields: "k" KEY, "n" NUMBER, "d.e" KEY, "d.f.g" NUMBER,
 * "b" KEY and NUMBER. */
struct mr_schema_options usual_options(void);
struct mr_schema *open_schema(const struct mr_schema_options *options);

/* The reject code of event i, NONE if it was not rejected. Errors must not be truncated. */
enum mr_reject reject_of(const struct mr_batch *batch, uint32_t i);
static inline bool is_syntax(enum mr_reject reject) {
    return reject == MR_REJECT_BAD_JSON || reject == MR_REJECT_BAD_UTF8 ||
           reject == MR_REJECT_TOO_DEEP;
}

uint64_t random_next(uint64_t *state);
static inline uint32_t random_below(uint64_t *state, uint32_t n) {
    return (uint32_t)(random_next(state) >> 33) % n;
}
