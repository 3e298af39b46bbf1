/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Answer: reads HTTP/1.1 answers out of what a socket gave so far.
 *
 * Idea        Nothing is kept between calls: the caller collects bytes and asks whether a whole answer is there.
 *             Answers of an ingest come in one piece, so that asking twice is rare.
 * Owner       Texts point into the bytes, or into chunks for a chunked body.
 * Errors      MR_AGAIN: more bytes are needed. MR_INVALID: no HTTP/1.x answer. Without a length an answer lasts until the
 *             connection closes, which these answers don't: refused as MR_INVALID.
 */
#include "base/bytes.h"

struct mr_load_answer {
    uint32_t status;
    bool close;             /* the connection ends behind it */
    uint32_t retry_after_s; /* 0: not said */
    struct mr_bytes cursor; /* X-Next-Cursor; len 0: none */
    struct mr_bytes body;
    size_t len; /* all of it, in the bytes given */
};

/* chunks is cleared, and holds a chunked body. */
enum mr_status mr_load_answer_read(struct mr_bytes bytes, struct mr_buf *chunks,
                                   struct mr_load_answer *ret) MR_MUST_CHECK;
/* The detail of a problem+json, or the beginning of the body, to show a person. */
struct mr_bytes mr_load_answer_detail(const struct mr_load_answer *answer);
