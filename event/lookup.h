/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Lookup: a constant table from text to text, read from CSV: what country a campaign is for.
 *
 * Idea        Read once and never changed, so that all threads may look without a lock.
 * Shape       Open addressing over the hashes of keys, at most half full; a slot is the number of a row.
 *
 *                 campaign,name,country        key column campaign, value column country:
 *                 17,"Spring, big",DE          "17" → "DE"
 *                 18,Summer,FR                 "18" → "FR"
 *
 * Format      RFC 4180 with a header line: fields apart by commas, quoted ones with "" for a quote and
 *             anything else between the quotes; lines end in \r\n or \n; empty lines are skipped; a byte
 *             order mark at the beginning too. UTF-8. Every line has as many fields as the header.
 * Owner       The table owns copies; the bytes of the file are borrowed for the call.
 * Threads     Constant after open.
 * Errors      open: MR_INVALID with "line 3: …" (a key twice with different values names both lines),
 *             MR_LIMIT (rows, bytes, length of a text), MR_NO_MEMORY.
 * Cost        find: one hash and, mostly, one comparison: about 20 ns where the table is in the cache.
 */
#include "base/bytes.h"

#define MR_LOOKUP_TEXT_MAX 4096u /* bytes of a key or value */
#define MR_LOOKUP_ROWS_MAX 10000000u

struct mr_lookup_options {
    struct mr_bytes key; /* names of the header */
    struct mr_bytes value;
    uint32_t rows_max; /* at most MR_LOOKUP_ROWS_MAX */
    size_t bytes_max;  /* of memory */
};

struct mr_lookup;

enum mr_status mr_lookup_open(struct mr_bytes csv, const struct mr_lookup_options *options,
                              struct mr_lookup **ret, struct mr_error *error) MR_MUST_CHECK;
void mr_lookup_close(struct mr_lookup *lookup); /* NULL is fine */

/* The value of a key, as long as the table lives; false when it is not there. */
bool mr_lookup_find(const struct mr_lookup *lookup, struct mr_bytes key, struct mr_bytes *ret);

uint32_t mr_lookup_rows(const struct mr_lookup *lookup);
/* Of memory. */
size_t mr_lookup_bytes(const struct mr_lookup *lookup);
