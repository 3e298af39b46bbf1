/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Target: the server that is asked: its address, and GET requests that wait for their answer.
 *
 * Owner       The target owns its texts. An answer's texts live in the caller's buffers until the next call.
 * Threads     Constant after open; get may be called from any thread, each with buffers of its own.
 * Errors      Texts say which address, what was tried, and what to do where that is known.
 */
#include "bench/load/answer.h"

#include <sys/socket.h>

struct mr_load_target {
    char host[256]; /* as in the URL, with its port: the Host header */
    char authorization[600]; /* a whole header line with its end, or "" */
    struct sockaddr_storage address;
    socklen_t address_len;
};

/* url: http://HOST:PORT, HOST:PORT or a port. token: sent as Bearer; NULL: none. */
enum mr_status mr_load_target_open(struct mr_load_target *target, const char *url,
                                   const char *token, struct mr_error *error) MR_MUST_CHECK;
/* A connection is begun (non-blocking, EINPROGRESS is fine) or made (blocking: within 5 s, then 30 s for reads). */
enum mr_status mr_load_target_begin(const struct mr_load_target *target, int *ret_fd,
                                    struct mr_error *error) MR_MUST_CHECK;
enum mr_status mr_load_target_connect(const struct mr_load_target *target, int *ret_fd,
                                      struct mr_error *error) MR_MUST_CHECK;
/* GET path over a connection of its own. The answer's status is the caller's to look at. */
enum mr_status mr_load_target_get(const struct mr_load_target *target, const char *path,
                                  struct mr_buf *in, struct mr_buf *chunks,
                                  struct mr_load_answer *ret, struct mr_error *error) MR_MUST_CHECK;
/* The same, for 200 only: any other is an error with what the server said. */
enum mr_status mr_load_target_get_ok(const struct mr_load_target *target, const char *path,
                                     struct mr_buf *in, struct mr_buf *chunks,
                                     struct mr_load_answer *ret, struct mr_error *error) MR_MUST_CHECK;
