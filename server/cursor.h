/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Cursor: where the next page of an answer begins, as an opaque text.
 *
 * Idea        A cursor holds the place of the last row given out, not a number of rows, so that it stays right
 *             while rows come and go. It belongs to one question; with another one it would skip rows in
 *             silence, so a hash of the question goes with it. Relative times are resolved once, on the first
 *             page, and kept in it.
 * Shape       base64url without padding (RFC 4648) of little-endian
 *
 *                 | version u8 | question u64 | from i64 | to i64 | place u64 | rest … | checksum u64 |
 *
 * Threads     Pure.
 * Errors      decode: MR_INVALID for everything that encode has not made; a text for the client. The checksum
 *             is against accidents: a forged cursor asks for nothing that its sender may not see anyway.
 */
#include "base/bytes.h"
#include "base/limits.h"

#define MR_CURSOR_REST_MAX (MR_KEY_LEN_MAX + 1)
#define MR_CURSOR_TEXT_MAX 5600 /* of base64url: (41 + MR_CURSOR_REST_MAX) * 4 / 3, rounded up */

struct mr_cursor {
    uint64_t question; /* mr_checksum of the question's text */
    int64_t from_ms;   /* INT64_MIN: unbounded, else of years 0 to 9999, as to */
    int64_t to_ms;     /* INT64_MAX: unbounded */
    uint64_t place;
    struct mr_bytes rest;
};

/* Appends the text; rest.len <= MR_CURSOR_REST_MAX (asserted). */
void mr_cursor_encode(const struct mr_cursor *cursor, struct mr_buf *ret);

/* rest borrows from scratch, which is cleared and needs a cap_max of MR_CURSOR_TEXT_MAX. */
enum mr_status mr_cursor_decode(struct mr_bytes text, uint64_t question, struct mr_buf *scratch,
                                struct mr_cursor *ret, struct mr_error *error) MR_MUST_CHECK;
