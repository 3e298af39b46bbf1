/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes the guard, the router and what reads header values. The input is a request's head as
 * bytes:
 *
 *     method SP uri SP version LF (name ":" value LF)*
 *
 * Proves: no crash; what passes obeys the promises of guard.h that can be said in a line each.
 */
#include "server/auth.h"
#include "server/guard.h"
#include "server/media.h"

#include "base/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What stands before the separator; all of it when there is none. */
static struct mr_bytes take(struct mr_bytes *rest, uint8_t separator) {
    size_t len = 0;
    while (len < rest->len && rest->ptr[len] != separator) {
        len++;
    }
    struct mr_bytes part = mr_bytes_of(rest->ptr, len);
    size_t used = len < rest->len ? len + 1 : len;
    *rest = mr_bytes_of(rest->ptr + used, rest->len - used);
    return part;
}

static void check_facts(const struct mr_guard_input *input, const struct mr_guard_facts *facts) {
    struct mr_buf decoded;
    MR_ASSERT(facts->path.len >= 1 && facts->path.ptr == input->uri.ptr);
    MR_ASSERT(facts->path.ptr[0] == '/');
    MR_ASSERT(facts->path.len + facts->query.len <= input->uri.len);
    MR_ASSERT(!(facts->chunked && facts->has_length));
    MR_ASSERT(facts->has_length || facts->content_length == 0);
    mr_buf_init(&decoded, MR_GUARD_URI_MAX + 1);
    MR_ASSERT(mr_percent_decode(facts->path, &decoded));
    MR_ASSERT(decoded.len <= facts->path.len);
    MR_ASSERT(memchr(decoded.ptr, '\0', decoded.len) == NULL);
    mr_buf_finish(&decoded);
}

/* Pure readers of header values, on every value. */
static void read_value(struct mr_bytes value) {
    static struct mr_config_token token;
    static struct mr_config config;
    struct mr_media media;
    enum mr_encoding encoding;
    struct mr_error error;
    const struct mr_config_token *found = NULL;
    config.auth.tokens = &token;
    config.auth.token_count = 1;
    (void)!mr_media_type(value, &media, &error);
    (void)!mr_media_encoding(value, &encoding, &error);
    enum mr_status status = mr_auth_find(&config, value, &found);
    MR_ASSERT(status == MR_INVALID || status == MR_NOT_FOUND); /* no token hashes to zeros */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct mr_header headers[MR_GUARD_HEADERS_MAX + 1];
    struct mr_bytes rest = mr_bytes_of(data, size);
    struct mr_bytes line = take(&rest, '\n');
    struct mr_guard_input input = {.headers = headers};
    struct mr_guard_facts facts;
    struct mr_guard_refusal refusal = {0};
    input.method = take(&line, ' ');
    input.uri = take(&line, ' ');
    input.version = line;
    while (rest.len > 0 && input.header_count <= MR_GUARD_HEADERS_MAX) {
        struct mr_bytes value = take(&rest, '\n');
        headers[input.header_count].name = take(&value, ':');
        headers[input.header_count++].value = value;
        read_value(value);
    }
    if (mr_guard_passes(&input, &facts, &refusal)) {
        check_facts(&input, &facts);
    } else {
        MR_ASSERT(refusal.status >= 400 && refusal.detail != NULL);
    }
    return 0;
}
