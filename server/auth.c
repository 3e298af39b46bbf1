/* SPDX-License-Identifier: Apache-2.0 */
#include "server/auth.h"

#include "base/check.h"
#include "pipeline/plan.h"
#include "server/guard.h"
#include "server/server.h"

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>

void mr_sha256(struct mr_bytes bytes, uint8_t ret[32]) {
    int failed = gnutls_hash_fast(GNUTLS_DIG_SHA256, bytes.ptr, bytes.len, ret);
    MR_ASSERT(failed == 0); /* SHA-256 is always there, also in FIPS mode */
}

/* Bearer is a scheme: without case. One or more spaces, then b64token: letters, digits, -._~+/ and
 * =. */
static bool parse_bearer(struct mr_bytes authorization, struct mr_bytes *ret) {
    static const char others[] = "-._~+/=";
    if (authorization.len < 8 || !mr_header_is(mr_bytes_of(authorization.ptr, 6), "bearer") ||
        authorization.ptr[6] != ' ') {
        return false;
    }
    size_t at = 7;
    while (at < authorization.len && authorization.ptr[at] == ' ') {
        at++;
    }
    struct mr_bytes token = mr_bytes_of(authorization.ptr + at, authorization.len - at);
    if (token.len == 0 || token.len > MR_TOKEN_LEN_MAX) {
        return false;
    }
    for (size_t i = 0; i < token.len; i++) {
        uint8_t c = token.ptr[i];
        bool alnum = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!alnum && memchr(others, c, sizeof others - 1) == NULL) {
            return false;
        }
    }
    *ret = token;
    return true;
}

/* 0 when equal; looks at all bytes whatever they are. volatile keeps the compiler from stopping
 * early. */
static uint8_t differs(const uint8_t a[32], const uint8_t b[32]) {
    volatile uint8_t difference = 0;
    for (size_t i = 0; i < 32; i++) {
        difference = (uint8_t)(difference | (a[i] ^ b[i]));
    }
    return difference;
}

enum mr_status mr_auth_find(const struct mr_config *config, struct mr_bytes authorization,
                            const struct mr_config_token **ret) {
    if (config->auth.token_count == 0) {
        *ret = NULL;
        return MR_OK;
    }
    MR_ASSERT(config->auth.tokens != NULL);
    struct mr_bytes given;
    if (!parse_bearer(authorization, &given)) {
        return MR_INVALID;
    }
    uint8_t hash[32];
    mr_sha256(given, hash);
    const struct mr_config_token *found = NULL;
    for (uint32_t i = 0; i < config->auth.token_count; i++) {
        if (differs(hash, config->auth.tokens[i].sha256) == 0) {
            found = &config->auth.tokens[i];
        }
    }
    if (found == NULL) {
        return MR_NOT_FOUND;
    }
    *ret = found;
    return MR_OK;
}

bool mr_auth_may(uint32_t rights, uint32_t route_right) {
    return route_right == 0 || (rights & route_right) != 0;
}

/* `host` or `host:port`, of an authority. */
static bool is_local_name(struct mr_bytes authority) {
    if (authority.len > 0 && authority.ptr[0] == '[') {
        return true; /* an IPv6 address: names have no brackets */
    }
    const uint8_t *colon = memchr(authority.ptr, ':', authority.len);
    struct mr_bytes name = mr_bytes_of(authority.ptr, colon == NULL ? authority.len : (size_t)(colon - authority.ptr));
    bool address = name.len > 0;
    for (size_t i = 0; i < name.len; i++) {
        address = address && (name.ptr[i] == '.' || (name.ptr[i] >= '0' && name.ptr[i] <= '9'));
    }
    return address || mr_header_is(name, "localhost");
}

bool mr_auth_is_local(struct mr_bytes host, struct mr_bytes origin) {
    if (host.len > 0 && !is_local_name(host)) {
        return false;
    }
    if (origin.len == 0) {
        return true;
    }
    const uint8_t *slashes = memmem(origin.ptr, origin.len, "://", 3);
    if (slashes == NULL) {
        return false; /* `null`, of a page without an origin */
    }
    const uint8_t *authority = slashes + 3;
    return mr_bytes_equal(mr_bytes_of(authority, (size_t)(origin.ptr + origin.len - authority)), host);
}

bool mr_request_may_use_stream(const struct mr_request *request, uint32_t stream) {
    const struct mr_config_token *token = request->token;
    MR_ASSERT(stream < MR_STREAMS_MAX);
    if (token == NULL || token->all_streams) {
        return true;
    }
    MR_ASSERT(token->stream_count <= MR_STREAMS_MAX);
    for (uint32_t i = 0; i < token->stream_count; i++) {
        if (token->streams[i] == stream) {
            return true;
        }
    }
    return false;
}

bool mr_request_may_use_rule(const struct mr_request *request, uint32_t rule) {
    MR_ASSERT(rule < request->server->plan->rule_count);
    const struct mr_rule *of = &request->server->plan->rules[rule];
    for (uint32_t i = 0; i < of->input_count; i++) {
        if (!mr_request_may_use_stream(request, of->inputs[i].stream)) {
            return false;
        }
    }
    return true;
}
