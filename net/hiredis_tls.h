/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * TLS under the transport: OpenSSL, when the build found it. net/hiredis_tls.c is its one user.
 *
 * Idea        hiredis only parses, so TLS needs nothing of it, and works with every version. The server's certificate
 *             must be signed by the authority and be for the name (or the address) connected to.
 * Owner       A session uses the socket, but does not close it.
 * Errors      MR_UNSUPPORTED: not built in. MR_INVALID: a file is missing or no certificate. MR_IO: see the trouble.
 */
#include "net/redis_transport.h"

struct mr_tls;
struct mr_tls_session;

enum mr_status mr_tls_open(const struct mr_redis_tls *options, struct mr_tls **ret,
                           struct mr_error *error) MR_MUST_CHECK;
void mr_tls_close(struct mr_tls *tls); /* NULL is fine */

enum mr_status mr_tls_session_open(struct mr_tls *tls, int fd, const char *host, struct mr_tls_session **ret,
                                   struct mr_error *error) MR_MUST_CHECK;
void mr_tls_session_close(struct mr_tls_session *session); /* NULL is fine */

/* Both shake hands first. *ret_len 0: not now. */
enum mr_status mr_tls_write(struct mr_tls_session *session, struct mr_bytes bytes, size_t *ret_len);
enum mr_status mr_tls_read(struct mr_tls_session *session, void *bytes, size_t len, size_t *ret_len);
/* Whether even a write has to wait until something is read. */
bool mr_tls_waits_for_bytes(const struct mr_tls_session *session);
/* What went wrong, in a buffer of the session's. */
const char *mr_tls_trouble(const struct mr_tls_session *session);
