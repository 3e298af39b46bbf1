/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Problem: error answers as application/problem+json (RFC 9457). mr_problem itself is in server/request.h.
 *
 * Threads     Pure but for the response.
 * Errors      Out of memory: an answer with a status and an empty body.
 */
#include "server/request.h"

/* The reason phrase of a status; "Error" for one that this server never sends. */
const char *mr_status_phrase(unsigned int status);

/* As mr_problem, with the member "limit". */
void mr_problem_limit(struct mr_response *response, unsigned int status, uint64_t limit,
                      const char *format, ...) MR_PRINTF(4, 5);

/* The members that every problem begins with, into an object that the caller began. */
void mr_problem_members(struct mr_json *json, unsigned int status, const char *detail);
