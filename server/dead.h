/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Dead letters, what their routes have in common.
 */
#include "base/json.h"
#include "pipeline/dead_letters.h"
#include "server/request.h"

extern const char *const mr_dead_reasons[MR_DEAD_REASON_COUNT];

/* mr_dead_letters_read of the server's log, without what is discarded. last_lsn is the caller's. */
enum mr_status mr_dead_read(struct mr_server *server, struct mr_dead_page *page,
                            struct mr_error *error) MR_MUST_CHECK;
/* Whether the token may see the entry. Those of streams that are gone are for who may see every stream. */
bool mr_dead_may_see(const struct mr_request *request, const struct mr_dead *entry);
/* An address as the list shows it: `17-3`, the fourth entry of record 17 of the dead-letter log. */
struct mr_dead_address {
    uint64_t lsn; /* from 1 */
    uint32_t entry;
};

/* The JSON of the entry that a page visits, with its address as first member. Inside an array of json, or alone. */
void mr_dead_write(const struct mr_dead_page *page, const struct mr_dead *entry, struct mr_json *json);
/* The entry that the path's first parameter names, if the token may see it: calls visit, with what it is and page's
 * at_… false: the answer is given, 404 where there is none. */
bool mr_dead_find(const struct mr_request *request, struct mr_response *response, struct mr_dead_address *ret,
                  void (*visit)(void *ctx, const struct mr_dead_page *page, const struct mr_dead *entry), void *ctx);

/* The dead-letter log cannot be read: reports it, and fills the answer. */
void mr_dead_refuse_log(struct mr_response *response, const struct mr_error *error);
