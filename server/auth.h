/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Auth: bearer tokens (RFC 6750) against the hashes in the configuration. The one user of GnuTLS.
 *
 * Idea        Only SHA-256 of a token is stored. A given token is hashed and compared with every stored hash,
 *             all bytes of it, so that neither the number of equal bytes nor the place of the token in the list
 *             shows in the time taken.
 * Owner       Borrows the configuration.
 * Threads     Pure functions of their arguments.
 * Errors      MR_INVALID: no Authorization header, or none of the form `Bearer <token>`. MR_NOT_FOUND: a token
 *             that is not ours. Both are 401.
 */
#include "server/request.h"

#define MR_TOKEN_LEN_MAX 512

/* *ret NULL without authentication (no tokens are configured). */
enum mr_status mr_auth_find(const struct mr_config *config, struct mr_bytes authorization,
                            const struct mr_config_token **ret) MR_MUST_CHECK;

/* Whether rights has one of those a route asks for (0: none needed). */
bool mr_auth_may(uint32_t rights, uint32_t route_right);

/*
 * Without tokens whoever reaches a loopback address may do everything. A browser on the same machine reaches it, too, for
 * any page that it shows: one may send forms there, or have its own name resolve to 127.0.0.1. What administrators do is
 * refused to both: host, if there is one, is an address or localhost, and origin, if there is one (browsers say it with
 * what changes something), is the same.
 */
bool mr_auth_is_local(struct mr_bytes host, struct mr_bytes origin);

/* The hash that the configuration holds of a token. */
void mr_sha256(struct mr_bytes bytes, uint8_t ret[32]);
