/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Dead letters, what their routes have in common.
 */
#include "base/dead.h"
#include "server/request.h"

extern const char *const mr_dead_reasons[MR_DEAD_REASON_COUNT];

/* Whether the token may see the entry. Those of streams that are gone are for who may see every stream. */
bool mr_dead_may_see(const struct mr_request *request, const struct mr_dead *entry);
/* The dead-letter log cannot be read: reports it, and fills the answer. */
void mr_dead_refuse_log(struct mr_response *response, const struct mr_error *error);
