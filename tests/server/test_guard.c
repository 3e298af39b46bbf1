/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves: the guard lets through what can be read in one way only.
 *
 * 1. Tables of requests that must pass and that must be refused, with the status.
 * 2. Every byte value at a place in the URI, in a header name and in a header value, against the
 * grammar written down a second time.
 * 3. Random URIs: what passes has no dot segment, however often it is decoded once.
 */
#include "server/guard.h"

#include "base/check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

struct sample {
    const char *method;
    const char *uri;
    const char *version;
    const char *headers; /* "Name: value|Name: value" */
    unsigned int status; /* 0: passes */
};

#define HOST "Host: a"

static const struct sample samples[] = {
    /* must accept */
    {"GET", "/", "HTTP/1.1", HOST, 0},
    {"GET", "/", "HTTP/1.0", "", 0},
    {"HEAD", "/v1/streams", "HTTP/1.1", HOST, 0},
    {"POST", "/v1/streams/a/events?return=results", "HTTP/1.1", HOST "|Content-Length: 10", 0},
    {"POST", "/v1/events", "HTTP/1.1", HOST "|Transfer-Encoding: chunked", 0},
    {"POST", "/v1/events", "HTTP/1.1", HOST "|transfer-encoding: Chunked", 0},
    {"POST", "/v1/events", "HTTP/1.1", HOST "|Content-Length: 000000000000000007", 0},
    {"POST", "/v1/events", "HTTP/1.1", HOST "|Content-Length: 1|Expect: 100-Continue", 0},
    {"GET", "/v1/rules/r/windows?key.url=http://x/../y&from=%00", "HTTP/1.1", HOST, 0},
    {"GET", "/v1/streams/s/events/a%2Fb", "HTTP/1.1", HOST, 0},
    {"GET", "/v1/streams/s/events/a..b", "HTTP/1.1", HOST, 0},
    {"GET", "/v1/streams/s/events/...", "HTTP/1.1", HOST, 0},
    {"GET", "/v1/streams/s/events/.x", "HTTP/1.1", HOST, 0},
    {"GET", "/a/", "HTTP/1.1", HOST, 0},
    {"PUT", "/", "HTTP/1.1", HOST, 0},
    {"GET", "/", "HTTP/1.1", HOST "|X-A: 1|X-A: 2|Accept: a|Accept: b", 0},
    {"GET", "/", "HTTP/1.1", HOST "|X-Utf8: \xc3\xa4", 0},
    {"GET", "/", "HTTP/1.1", "Host: ", 0},
    {"GET", "/", "HTTP/1.0", HOST, 0},
    /* method and version */
    {"BREW", "/", "HTTP/1.1", HOST, 501},
    {"get", "/", "HTTP/1.1", HOST, 501},
    {"", "/", "HTTP/1.1", HOST, 400},
    {"GE T", "/", "HTTP/1.1", HOST, 400},
    {"GET", "/", "HTTP/1.2", HOST, 505},
    {"GET", "/", "HTTP/2.0", HOST, 505},
    {"GET", "/", "http/1.1", HOST, 505},
    {"GET", "/", "", "", 505},
    /* URI */
    {"GET", "", "HTTP/1.1", HOST, 400},
    {"GET", "*", "HTTP/1.1", HOST, 400},
    {"GET", "a", "HTTP/1.1", HOST, 400},
    {"GET", "http://a/", "HTTP/1.1", HOST, 400},
    {"GET", "//", "HTTP/1.1", HOST, 400},
    {"GET", "/a//b", "HTTP/1.1", HOST, 400},
    {"GET", "/..", "HTTP/1.1", HOST, 400},
    {"GET", "/.", "HTTP/1.1", HOST, 400},
    {"GET", "/a/../b", "HTTP/1.1", HOST, 400},
    {"GET", "/a/./b", "HTTP/1.1", HOST, 400},
    {"GET", "/a/..?x", "HTTP/1.1", HOST, 400},
    {"GET", "/a/%2e%2e/b", "HTTP/1.1", HOST, 400},
    {"GET", "/a/%2E%2e/b", "HTTP/1.1", HOST, 400},
    {"GET", "/a/.%2E/b", "HTTP/1.1", HOST, 400},
    {"GET", "/a/%2e./b", "HTTP/1.1", HOST, 400},
    {"GET", "/a/%2e", "HTTP/1.1", HOST, 400},
    {"GET", "/ax%2e%2Ey", "HTTP/1.1", HOST, 400},
    {"GET", "/a%00", "HTTP/1.1", HOST, 400},
    {"GET", "/a b", "HTTP/1.1", HOST, 400},
    {"GET", "/a#b", "HTTP/1.1", HOST, 400},
    {"GET", "/\xc3\xa4", "HTTP/1.1", HOST, 400},
    {"GET", "/a%", "HTTP/1.1", HOST, 400},
    {"GET", "/a%2", "HTTP/1.1", HOST, 400},
    {"GET", "/a%2g", "HTTP/1.1", HOST, 400},
    {"GET", "/a?b%zz", "HTTP/1.1", HOST, 400},
    /* framing */
    {"POST", "/", "HTTP/1.1", HOST "|Content-Length: 1|Content-Length: 1", 400},
    {"POST", "/", "HTTP/1.1", HOST "|Content-Length: 1|content-length: 2", 400},
    {"POST", "/", "HTTP/1.1", HOST "|Content-Length: 1, 1", 400},
    {"POST", "/", "HTTP/1.1", HOST "|Content-Length: +1", 400},
    {"POST", "/", "HTTP/1.1", HOST "|Content-Length: -1", 400},
    {"POST", "/", "HTTP/1.1", HOST "|Content-Length: 0x1", 400},
    {"POST", "/", "HTTP/1.1", HOST "|Content-Length: 1 ", 400},
    {"POST", "/", "HTTP/1.1", HOST "|Content-Length: ", 400},
    {"POST", "/", "HTTP/1.1", HOST "|Content-Length: 99999999999999999999", 400},
    {"POST", "/", "HTTP/1.1", HOST "|Content-Length: 1|Transfer-Encoding: chunked", 400},
    {"POST", "/", "HTTP/1.1", HOST "|Transfer-Encoding: gzip, chunked", 400},
    {"POST", "/", "HTTP/1.1", HOST "|Transfer-Encoding: chunked ", 400},
    {"POST", "/", "HTTP/1.1", HOST "|Transfer-Encoding: identity", 400},
    {"POST", "/", "HTTP/1.1", HOST "|Transfer-Encoding: chunked|Transfer-Encoding: chunked", 400},
    {"POST", "/", "HTTP/1.0", HOST "|Transfer-Encoding: chunked", 400},
    {"POST", "/", "HTTP/1.1", HOST "|Transfer-Encoding : chunked", 400},
    {"GET", "/", "HTTP/1.1", "", 400},
    {"GET", "/", "HTTP/1.1", HOST "|Host: b", 400},
    {"GET", "/", "HTTP/1.0", HOST "|host: a", 400},
    {"GET", "/", "HTTP/1.1", "Host: a b", 400},
    {"GET", "/", "HTTP/1.1", HOST "|Authorization: Bearer a|Authorization: Bearer b", 400},
    {"POST", "/", "HTTP/1.1", HOST "|Content-Type: a|Content-Type: b", 400},
    {"POST", "/", "HTTP/1.1", HOST "|Content-Encoding: gzip|Content-Encoding: gzip", 400},
    {"POST", "/", "HTTP/1.1", HOST "|Expect: 200-ok", 417},
    {"GET", "/", "HTTP/1.1", HOST "|: x", 400},
    {"GET", "/", "HTTP/1.1", HOST "|A(: x", 400},
    {"GET", "/", "HTTP/1.1", HOST "|A: x\ry", 400},
};

/* Splits "Name: value|…" (the first ": " separates). */
static uint32_t split(const char *text, struct mr_header ret[8]) {
    uint32_t count = 0;
    while (*text != '\0') {
        const char *end = strchr(text, '|');
        size_t len = end != NULL ? (size_t)(end - text) : strlen(text);
        const char *colon = strstr(text, ": ");
        assert_non_null(colon);
        size_t name_len = (size_t)(colon - text);
        assert_true(count < 8);
        ret[count].name = mr_bytes_of(text, name_len);
        ret[count++].value = mr_bytes_of(colon + 2, len - name_len - 2);
        text += len + (end != NULL);
    }
    return count;
}

static unsigned int status_of(const struct mr_guard_input *input, struct mr_guard_facts *facts) {
    struct mr_guard_refusal refusal = {0};
    if (mr_guard_passes(input, facts, &refusal)) {
        return 0;
    }
    assert_non_null(refusal.detail);
    return refusal.status;
}

static void test_tables(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++) {
        const struct sample *s = &samples[i];
        struct mr_header headers[8];
        struct mr_guard_facts facts;
        struct mr_guard_input input = {mr_bytes_text(s->method), mr_bytes_text(s->uri),
                                       mr_bytes_text(s->version), headers,
                                       split(s->headers, headers)};
        unsigned int status = status_of(&input, &facts);
        if (status != s->status) {
            fail_msg("%s %s %s [%s]: %u instead of %u", s->method, s->uri, s->version, s->headers,
                     status, s->status);
        }
    }
}

static void test_facts(void **state) {
    (void)state;
    struct mr_header headers[8];
    struct mr_guard_facts facts;
    struct mr_guard_input input = {MR_BYTES("POST"), MR_BYTES("/a/b?c=?d"), MR_BYTES("HTTP/1.1"),
                                   headers, 0};
    input.header_count = split("Host: h|Content-Length: 123|Expect: 100-continue", headers);
    assert_int_equal(status_of(&input, &facts), 0);
    assert_int_equal(facts.method, MR_METHOD_POST);
    assert_true(mr_bytes_equal(facts.path, MR_BYTES("/a/b")));
    assert_true(mr_bytes_equal(facts.query, MR_BYTES("c=?d")));
    assert_true(facts.has_length && facts.content_length == 123);
    assert_true(facts.expect_continue && !facts.chunked);
    input.uri = MR_BYTES("/x?");
    input.header_count = split("Host: h|Transfer-Encoding: chunked", headers);
    assert_int_equal(status_of(&input, &facts), 0);
    assert_true(facts.chunked && !facts.has_length && facts.content_length == 0);
    assert_int_equal(facts.query.len, 0);
    input.method = MR_BYTES("PATCH");
    assert_int_equal(status_of(&input, &facts), 0);
    assert_int_equal(facts.method, MR_METHOD_COUNT);
}

static void test_bounds(void **state) {
    (void)state;
    static char uri[MR_GUARD_URI_MAX + 2];
    static char value[MR_GUARD_HEADER_BYTES_MAX];
    struct mr_header headers[MR_GUARD_HEADERS_MAX + 1];
    struct mr_guard_facts facts;
    struct mr_guard_input input = {MR_BYTES("GET"), MR_BYTES("/"), MR_BYTES("HTTP/1.1"), headers,
                                   1};
    memset(uri, 'a', sizeof uri);
    uri[0] = '/';
    headers[0] = (struct mr_header){MR_BYTES("Host"), MR_BYTES("h")};
    for (uint32_t i = 1; i <= MR_GUARD_HEADERS_MAX; i++) {
        headers[i] = (struct mr_header){MR_BYTES("X"), MR_BYTES("")};
    }
    input.uri = mr_bytes_of(uri, MR_GUARD_URI_MAX);
    assert_int_equal(status_of(&input, &facts), 0);
    input.uri.len++;
    assert_int_equal(status_of(&input, &facts), 414);
    input.uri.len = 1;
    input.header_count = MR_GUARD_HEADERS_MAX;
    assert_int_equal(status_of(&input, &facts), 0);
    input.header_count++;
    assert_int_equal(status_of(&input, &facts), 431);
    memset(value, 'v', sizeof value);
    input.header_count = 2;
    headers[1].value = mr_bytes_of(value, MR_GUARD_HEADER_BYTES_MAX - 6); /* "Host" "h" "X" */
    assert_int_equal(status_of(&input, &facts), 0);
    headers[1].value.len++;
    assert_int_equal(status_of(&input, &facts), 431);
}

static bool is_tchar(int c) {
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '!' ||
           c == '#' || c == '$' || c == '%' || c == '&' || c == '\'' || c == '*' || c == '+' ||
           c == '-' || c == '.' || c == '^' || c == '_' || c == '`' || c == '|' || c == '~';
}

static void test_every_byte(void **state) {
    (void)state;
    for (int c = 0; c < 256; c++) {
        uint8_t uri[4] = {'/', 'x', (uint8_t)c, 'y'};
        uint8_t name[3] = {'X', (uint8_t)c, 'Y'};
        uint8_t value[3] = {'v', (uint8_t)c, 'w'};
        struct mr_header headers[2] = {{MR_BYTES("Host"), MR_BYTES("h")},
                                       {MR_BYTES("X"), MR_BYTES("v")}};
        struct mr_guard_facts facts;
        struct mr_guard_input input = {MR_BYTES("GET"), mr_bytes_of(uri, 4), MR_BYTES("HTTP/1.1"),
                                       headers, 2};
        bool uri_fine = c > ' ' && c < 0x7f && c != '#' && c != '%';
        assert_int_equal(status_of(&input, &facts), uri_fine ? 0 : 400);
        input.uri = MR_BYTES("/");
        headers[1].name = mr_bytes_of(name, 3);
        assert_int_equal(status_of(&input, &facts), is_tchar(c) ? 0 : 400);
        headers[1].name = MR_BYTES("X");
        headers[1].value = mr_bytes_of(value, 3);
        assert_int_equal(status_of(&input, &facts), c == '\t' || (c >= ' ' && c != 0x7f) ? 0 : 400);
    }
}

static uint64_t next_random(uint64_t *seed) {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

/* What a careless server behind us would do: decode, then split. */
static bool climbs(struct mr_bytes path) {
    struct mr_buf decoded;
    bool found = false;
    mr_buf_init(&decoded, 1 << 16);
    assert_true(mr_percent_decode(path, &decoded));
    mr_buf_append_char(&decoded, '/');
    size_t start = 1;
    for (size_t i = 1; i < decoded.len; i++) {
        if (decoded.ptr[i] == '/') {
            found = found || (i - start == 2 && memcmp(decoded.ptr + start, "..", 2) == 0);
            start = i + 1;
        }
        found = found || decoded.ptr[i] == '\0';
    }
    mr_buf_finish(&decoded);
    return found;
}

static void test_random_paths(void **state) {
    (void)state;
    static const char *const pieces[] = {"/", ".", "%2e", "%2E", "a", "%61", "%00", "%", "?", "//"};
    uint64_t seed = 88172645463325252u;
    uint32_t passed = 0;
    for (uint32_t round = 0; round < 100000; round++) {
        char uri[64] = "/";
        uint32_t count = (uint32_t)(next_random(&seed) % 9);
        for (uint32_t i = 0; i < count; i++) {
            strcat(uri, pieces[next_random(&seed) % (sizeof pieces / sizeof pieces[0])]);
        }
        struct mr_header host = {MR_BYTES("Host"), MR_BYTES("h")};
        struct mr_guard_facts facts;
        struct mr_guard_input input = {MR_BYTES("GET"), mr_bytes_text(uri), MR_BYTES("HTTP/1.1"),
                                       &host, 1};
        if (status_of(&input, &facts) == 0) {
            passed++;
            assert_true(facts.path.len >= 1 && facts.path.ptr[0] == '/');
            if (climbs(facts.path)) {
                fail_msg("passed: %s", uri);
            }
        }
    }
    assert_true(passed > 1000); /* or the test says nothing */
}

static void test_percent_decode(void **state) {
    (void)state;
    struct mr_buf buf;
    mr_buf_init(&buf, 100);
    assert_true(mr_percent_decode(MR_BYTES("a%2Fb%00%ffc"), &buf));
    assert_true(mr_bytes_equal(mr_buf_bytes(&buf), MR_BYTES("a/b\0\xff"
                                                            "c")));
    assert_false(mr_percent_decode(MR_BYTES("%"), &buf));
    assert_false(mr_percent_decode(MR_BYTES("%4"), &buf));
    assert_false(mr_percent_decode(MR_BYTES("%4x"), &buf));
    mr_buf_finish(&buf);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tables),       cmocka_unit_test(test_facts),
        cmocka_unit_test(test_bounds),       cmocka_unit_test(test_every_byte),
        cmocka_unit_test(test_random_paths), cmocka_unit_test(test_percent_decode),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
