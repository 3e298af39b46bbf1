/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Accept: in which format a client wants its rows: by the parameter `format`, else by the header Accept.
 *
 * Threads     Pure.
 * Errors      MR_INVALID: a format that this route does not have. MR_NOT_FOUND: the header accepts none of them (406).
 *             With a text.
 */
#include "server/params.h"

enum mr_answer { MR_ANSWER_JSON, MR_ANSWER_NDJSON, MR_ANSWER_CSV, MR_ANSWER_COLUMNS, MR_ANSWER_COUNT };

const char *mr_answer_media_type(enum mr_answer answer);

/* formats: how many of enum mr_answer, from the front, this route has. accept: the header's value, may be empty. The
 * largest q wins, then the first named; of a range that fits several, the first of the enum: so nobody gets columns but
 * by their name. */
enum mr_status mr_answer_choose(const struct mr_params *params, struct mr_bytes accept,
                                uint32_t formats, enum mr_answer *ret,
                                struct mr_error *error) MR_MUST_CHECK;
