/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Reply: what the handlers of the read side have in common: refusing, asking the pipeline, writing times.
 *
 * Threads     As the handlers that call them.
 */
#include "base/json.h"
#include "server/request.h"
#include "server/server.h"

#define MR_REPLY_BYTES_MAX (64u << 20) /* of one answer */

/* A bad question: 400, 501 for MR_UNSUPPORTED, 406 for MR_NOT_FOUND, 503 for MR_NO_MEMORY. */
void mr_reply_refuse(struct mr_response *response, const struct mr_error *error);
/* The pipeline has not answered: 503 with Retry-After. */
void mr_reply_not_asked(struct mr_response *response, enum mr_status status);
/* Whether the answer is whole and within its bound; else it is a problem now. */
bool mr_reply_fits(struct mr_response *response);
/* Nothing of the answer so far, for another one. */
void mr_reply_clear(struct mr_response *response);

/* The stream or rule of the path; UINT32_MAX: 404 or 403 is the answer. */
uint32_t mr_reply_stream(const struct mr_request *request, struct mr_response *response);
uint32_t mr_reply_rule(const struct mr_request *request, struct mr_response *response);

/* No query parameters are known; false: 400 is the answer. */
bool mr_reply_no_params(const struct mr_request *request, struct mr_response *response);

/* The next cursor as header X-Next-Cursor; an empty text: none. */
void mr_reply_next_cursor(struct mr_response *response, struct mr_bytes cursor);

/* A member with a time in RFC 3339; null for one that has no such text, as INT64_MIN and INT64_MAX. */
void mr_reply_time(struct mr_json *json, const char *name, int64_t ms);
