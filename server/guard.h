/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Guard: refuses requests whose meaning is open to interpretation, before anything else looks at them.
 *
 * Idea        libmicrohttpd is lenient (it takes Content-Length together with Transfer-Encoding, two Hosts,
 *             `TE :`, and hands out %2e%2e decoded); a proxy before us may read the same bytes otherwise, and
 *             the difference is request smuggling. What passes here can be read in one way only.
 * Checks      method    a token; known to HTTP (else 501); facts.method is MR_METHOD_COUNT for known ones that
 *                       no route has (405 is the router's)
 *             version   HTTP/1.0 or HTTP/1.1 (else 505)
 *             URI       origin form; at most MR_GUARD_URI_MAX bytes (else 414); visible ASCII, no '#', whole
 *                       percent escapes; in the path no "//", no "." or ".." segment however encoded, no
 *                       "%2e%2e", no "%00"
 *             headers   names are tokens, values have no control bytes; bounds on number and bytes (else 431);
 *                       what frames or authorises at most once; Content-Length digits only;
 *                       Transfer-Encoding exactly `chunked`, in HTTP/1.1 and never with Content-Length; exactly
 *                       one Host in HTTP/1.1; Expect only 100-continue (else 417)
 * Owner       Borrows everything; facts point into the input's URI.
 * Threads     Pure functions.
 * Errors      A refusal: the status to answer before closing the connection (400 where nothing else is said).
 */
#include "server/request.h"

#define MR_GUARD_URI_MAX 8192u
#define MR_GUARD_HEADERS_MAX 64u
#define MR_GUARD_HEADER_BYTES_MAX 16384u /* names and values; libmicrohttpd's pool of 32 KiB holds them */

struct mr_header {
    struct mr_bytes name;
    struct mr_bytes value;
};

struct mr_guard_input {
    struct mr_bytes method;
    struct mr_bytes uri; /* as sent, undecoded */
    struct mr_bytes version;
    const struct mr_header *headers;
    uint32_t header_count;
};

struct mr_guard_facts {
    enum mr_method method;
    struct mr_bytes path;
    struct mr_bytes query; /* behind '?', may be empty */
    bool has_length;
    uint64_t content_length; /* 0 without a header */
    bool chunked;
    bool expect_continue;
};

struct mr_guard_refusal {
    unsigned int status;
    const char *detail;
};

/* true: *ret is filled. false: *ret_refusal is. */
bool mr_guard_passes(const struct mr_guard_input *input, struct mr_guard_facts *ret,
                     struct mr_guard_refusal *ret_refusal) MR_MUST_CHECK;

/* ASCII letters compare without case; name is lower case. */
bool mr_header_is(struct mr_bytes given, const char *name);

/* Decodes %xx of text onto the end of ret; false when an escape is broken (ret then holds a part). */
bool mr_percent_decode(struct mr_bytes text, struct mr_buf *ret) MR_MUST_CHECK;
