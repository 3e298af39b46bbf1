/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Dead letters, what their routes have in common.
 */
#include "pipeline/dead_letters.h"
#include "server/request.h"

extern const char *const mr_dead_reasons[MR_DEAD_REASON_COUNT];

/* mr_dead_letters_read of the server's log, without what is discarded. last_lsn is the caller's. */
enum mr_status mr_dead_read(struct mr_server *server, struct mr_dead_page *page,
                            struct mr_error *error) MR_MUST_CHECK;
/* Whether the token may see the entry. Those of streams that are gone are for who may see every stream. */
bool mr_dead_may_see(const struct mr_request *request, const struct mr_dead *entry);
/* The dead-letter log cannot be read: reports it, and fills the answer. */
void mr_dead_refuse_log(struct mr_response *response, const struct mr_error *error);
