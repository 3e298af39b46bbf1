/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves, through real sockets: each case of the ingest contract has its status, headers and
 * counts; each error is a problem+json; smuggled requests get one answer and the end of the
 * connection.
 *
 * Steps: tables of requests against the fixture's server; bodies in every form (NDJSON, array,
 * object, CloudEvents structured, batched, binary; inflated; chunked); refusals of long bodies told
 * to clients that send all of it; one connection used many times; authentication.
 */
#include "fixture.h"

#include "base/check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#define LIMITS                                                                                     \
    "limits: { body: 64KiB, inflated: 256KiB, in_flight: 1MiB, event: 1KiB, batch_events: 50 }\n"

static struct fixture fixture;

static int open_fixture(void **state) {
    (void)state;
    fixture_open(&fixture, "", LIMITS);
    return fixture.server == NULL;
}

static int close_fixture(void **state) {
    (void)state;
    fixture_close(&fixture);
    return 0;
}

static void expect(const char *response, const char *status, const char *part) {
    char line[64];
    (void)snprintf(line, sizeof line, "HTTP/1.1 %s ", status);
    if (strncmp(response, line, strlen(line)) != 0 || strstr(response, part) == NULL) {
        fail_msg("expected %s and `%s`, got:\n%s", status, part, response);
    }
    if (status[0] >= '4') {
        assert_non_null(strstr(response, "Content-Type: application/problem+json"));
    }
    assert_non_null(strstr(response, "X-Content-Type-Options: nosniff"));
    assert_non_null(strstr(response, "X-Request-Id: "));
}

static void expect_post(const char *path, const char *headers, const char *body, const char *status,
                        const char *part) {
    expect(client_post(&fixture, path, headers, body, strlen(body)), status, part);
}

#define CLICKS "/v1/streams/clicks/events"
#define ND     "Content-Type: application/x-ndjson\r\n"
#define JSON   "Content-Type: application/json\r\n"

static void test_bodies(void **state) {
    (void)state;
    expect_post(
        CLICKS, ND, "{\"id\":\"a\"}\n{\"id\":\"dup\"}\n{\"id\":\"late\"}\n{bad\n", "200",
        "{\"received\":4,\"accepted\":1,\"duplicate\":1,\"late\":1,\"rejected\":1,\"errors\":[{");
    expect_post(CLICKS "?return=results", ND,
                "{\"id\":\"a\"}\n{\"id\":\"dup\"}\nx\n{\"id\":\"late\"}", "200",
                "\"results\":\"ADRL\"");
    expect_post(CLICKS "?return=summary", JSON, "[{\"id\":\"a\"},{\"id\":\"b\"}]", "200",
                "\"received\":2,\"accepted\":2,");
    expect_post(CLICKS, JSON, "{\"id\":\"a\"}", "200", "\"received\":1,\"accepted\":1,");
    expect_post(CLICKS, "", "{\"id\":\"a\"}\n{\"id\":\"b\"}\n", "200", "\"accepted\":2,");
    expect_post("/v1/events", "", "{\"id\":\"a\"}", "200", "\"accepted\":1,");
    expect_post("/v1/streams/views/events?return=results", ND,
                "{\"id\":\"dup1\"}\n{\"id\":\"b\"}\n", "200",
                "\"accepted\":2,\"duplicate\":0,\"late\":0,\"rejected\":0,\"errors\":[],"
                "\"results\":\"AA\"");
    /* Empty: NDJSON and the untyped are batches of nothing, JSON is not JSON. */
    expect_post(CLICKS, ND, "", "200", "{\"received\":0,");
    expect_post(CLICKS, "", "", "200", "{\"received\":0,");
    expect_post(CLICKS, JSON, "[]", "200", "{\"received\":0,");
    expect_post(CLICKS, JSON, "", "400", "the body is empty");
    expect_post(CLICKS, JSON, "nonsense", "400", "\"status\":400");
    expect_post(CLICKS, ND, "nonsense\n", "400", "\"received\":1,\"accepted\":0,");
    expect_post(CLICKS, ND, "{\"x\":1}\n", "400", "\"code\":\"missing_id\"");
}

static void test_cloudevents(void **state) {
    (void)state;
    static const char one[] =
        "{\"specversion\":\"1.0\",\"id\":\"a\",\"source\":\"/s\",\"type\":\"t\"}";
    char batch[512];
    (void)snprintf(batch, sizeof batch, "[%s,%s]", one, one);
    expect_post(CLICKS, "Content-Type: application/cloudevents+json; charset=UTF-8\r\n", one, "200",
                "\"accepted\":1,");
    expect_post(CLICKS, "Content-Type: application/cloudevents-batch+json\r\n", batch, "200",
                "\"accepted\":2,");
    expect_post(CLICKS, "Content-Type: application/cloudevents+json\r\n", "{\"id\":\"a\"}", "400",
                "\"code\":\"bad_cloudevent\"");
    expect_post(CLICKS,
                "Content-Type: image/png\r\nce-specversion: 1.0\r\nCE-ID: dup\r\nce-source: /s\r\n"
                "ce-type: t\r\n",
                "\x89PNG", "200", "\"received\":1,\"accepted\":0,\"duplicate\":1,");
    expect_post(CLICKS, JSON "ce-specversion: 1.0\r\nce-id: a\r\nce-source: /s\r\nce-type: t\r\n",
                "{\"n\":1}", "200", "\"accepted\":1,");
    expect_post(CLICKS, JSON "ce-specversion: 1.0\r\nce-id: a\r\nce-id: b\r\n", "{}", "400",
                "CloudEvents binary mode");
}

static void test_refusals(void **state) {
    (void)state;
    static const struct {
        const char *path;
        const char *headers;
        const char *status;
        const char *part;
    } samples[] = {
        {"/v1/streams/nothing/events", ND, "404", "no stream `nothing`"},
        {"/v1/nowhere", ND, "404", "no such path"},
        {"/v1/streams", ND, "405", "Allow: GET, HEAD\r\n"},
        {CLICKS, "Content-Type: text/html\r\n", "415", "content type text/html"},
        {CLICKS, "Content-Type: application/json; charset=latin1\r\n", "415", "charset"},
        {CLICKS, "Content-Encoding: br\r\n", "415",
         "Accept-Encoding: identity, gzip, deflate, zstd"},
        {CLICKS "?return=all", ND, "400", "`return`: `all`"},
        {CLICKS "?x=1", ND, "400", "`x`"},
        {CLICKS "?return=results&return=results", ND, "400", "`return`"},
        {CLICKS, "Content-Encoding: gzip\r\n", "400", "inflate"},
        {"/v1/dead-letters/redrive", "", "200", "mr_route_redrive"},
    };
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++) {
        expect_post(samples[i].path, samples[i].headers, "{\"id\":\"a\"}", samples[i].status,
                    samples[i].part);
    }
    fixture_judge(JUDGE_REFUSE);
    expect_post(CLICKS, ND, "{\"id\":\"a\"}", "503", "Retry-After: 10\r\n");
    fixture_judge(JUDGE_FULL);
    expect_post(CLICKS, ND, "{\"id\":\"a\"}", "503", "Retry-After: 1\r\n");
    fixture_judge(JUDGE_THREAD);
    fixture_live(false);
    expect_post(CLICKS, ND, "{\"id\":\"a\"}", "503", "replays its log");
    fixture_live(true);
    assert_int_equal(mr_counter_read(&fixture.server->refused_queue), 1);
}

/* A zlib stream of stored blocks: no compressor needed. Returns its length. */
static size_t zlib_stored(const uint8_t *data, size_t len, uint8_t *ret) {
    uint32_t a = 1;
    uint32_t b = 0;
    size_t at = 0;
    ret[at++] = 0x78;
    ret[at++] = 0x01;
    for (size_t i = 0; i < len; i += 60000) {
        size_t part = len - i < 60000 ? len - i : 60000;
        ret[at++] = i + part == len;
        ret[at++] = (uint8_t)part;
        ret[at++] = (uint8_t)(part >> 8);
        ret[at++] = (uint8_t)~part;
        ret[at++] = (uint8_t)(~part >> 8);
        memcpy(ret + at, data + i, part);
        at += part;
    }
    for (size_t i = 0; i < len; i++) {
        a = (a + data[i]) % 65521;
        b = (b + a) % 65521;
    }
    uint32_t adler = b << 16 | a;
    for (int shift = 24; shift >= 0; shift -= 8) {
        ret[at++] = (uint8_t)(adler >> shift);
    }
    return at;
}

static void test_inflate(void **state) {
    (void)state;
    static uint8_t data[1000];
    static uint8_t packed[2000];
    memset(data, ' ', sizeof data);
    memcpy(data, "{\"id\":\"a\"}\n{\"id\":\"dup\"}\n", 24);
    size_t len = zlib_stored(data, sizeof data, packed);
    expect(client_post(&fixture, CLICKS, ND "Content-Encoding: deflate\r\n", packed, len), "200",
           "\"received\":2,\"accepted\":1,\"duplicate\":1,");
    expect(client_post(&fixture, CLICKS, ND "Content-Encoding: deflate\r\n", packed, len - 1),
           "400", "inflate");
    expect(client_post(&fixture, CLICKS, ND "Content-Encoding: deflate\r\n", packed, 0), "400", "");
}

/* Bodies over a limit: each client sends all of it, then reads, and must find the answer. */
static void test_too_long(void **state) {
    (void)state;
    static char body[1 << 20];
    memset(body, ' ', sizeof body);
    expect(client_post(&fixture, CLICKS, ND, body, 64 << 10), "200", "{\"received\":0,");
    expect(client_post(&fixture, CLICKS, ND, body, (64 << 10) + 1), "413", "\"limit\":65536}");
    expect(client_post(&fixture, CLICKS, ND, body, 1 << 20), "413", "\"limit\":65536}");
    expect(client_post(&fixture, "/v1/checkpoint", "", body, (64 << 10) + 1), "413", "\"limit\"");
    char many[51 * 11 + 1] = "";
    for (int i = 0; i < 51; i++) {
        strcat(many, "{\"id\":\"a\"}\n");
    }
    expect_post(CLICKS, ND, many, "413", "\"limit\":50}");
    char event[1100];
    (void)snprintf(event, sizeof event, "{\"id\":\"%01050d\"}\n{\"id\":\"a\"}", 0);
    expect_post(CLICKS "?return=results", ND, event, "200", "\"results\":\"RA\"");
    assert_int_equal(mr_counter_read(&fixture.server->in_flight_bytes), 0);
}

static void send_chunked(int fd, size_t total) {
    static char piece[4096];
    memset(piece, ' ', sizeof piece);
    client_text(fd,
                "POST " CLICKS " HTTP/1.1\r\nHost: localhost\r\n" ND "Transfer-Encoding: chunked\r\n\r\n");
    while (total > 0) {
        char head[32];
        size_t len = total < sizeof piece ? total : sizeof piece;
        (void)snprintf(head, sizeof head, "%zx\r\n", len);
        client_text(fd, head);
        client_send(fd, piece, len);
        client_text(fd, "\r\n");
        total -= len;
    }
    client_text(fd, "0\r\n\r\n");
}

static void test_chunked(void **state) {
    (void)state;
    int fd = client_open(&fixture);
    client_text(fd, "POST " CLICKS "?return=results HTTP/1.1\r\nHost: localhost\r\n" ND
                    "Transfer-Encoding: chunked\r\n\r\n5\r\n{\"id\"\r\n");
    client_text(fd, "9;x=y\r\n:\"dup1\"}\n\r\n0\r\nTrailer: x\r\n\r\n");
    expect(client_response(fd, false), "200", "\"results\":\"D\"");
    send_chunked(fd, 64 << 10);
    expect(client_response(fd, false), "200", "{\"received\":0,");
    send_chunked(fd, (64 << 10) + 1);
    expect(client_response(fd, false), "413", "\"limit\":65536}");
    send_chunked(fd, 900 << 10);
    expect(client_response(fd, false), "413", "\"limit\":65536}");
    send_chunked(fd, 3 << 20); /* beyond what is read for politeness: the end */
    assert_true(client_closed(fd));
    (void)close(fd);
}

static void test_expect_continue(void **state) {
    (void)state;
    int fd = client_open(&fixture);
    client_text(fd, "POST " CLICKS " HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
                    "Content-Length: 10\r\n\r\n");
    assert_int_equal(strncmp(client_response(fd, true), "HTTP/1.1 100 ", 13), 0);
    client_text(fd, "{\"id\":\"a\"}");
    expect(client_response(fd, false), "200", "\"accepted\":1,");
    client_text(fd, "POST " CLICKS " HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
                    "Content-Length: 70000\r\n\r\n");
    expect(client_response(fd, false), "413", "\"limit\":65536}"); /* before the body */
    assert_true(client_closed(fd));
    (void)close(fd);
}

static void test_keep_alive(void **state) {
    (void)state;
    int fd = client_open(&fixture);
    static const char get[] = "GET /v1/streams/s%20t HTTP/1.1\r\nHost: localhost\r\n\r\n";
    static const char post[] = "POST /v1/events HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: mine-%d\r\n"
                               "Content-Length: 10\r\n\r\n{\"id\":\"a\"}";
    for (int round = 0; round < 50; round++) {
        char text[512];
        (void)snprintf(text, sizeof text, post, round);
        client_text(fd, text);
        (void)snprintf(text, sizeof text, "X-Request-Id: mine-%d\r\n", round);
        expect(client_response(fd, false), "200", text);
        client_text(fd, get);
        expect(client_response(fd, false), "200", "\"param\":\"s t\"");
    }
    /* Pipelined: both in one write; a query on a worker, and a HEAD, in between. */
    char text[1024];
    (void)snprintf(text, sizeof text,
                   "%sGET /v1/rules/r/windows?x HTTP/1.1\r\nHost: localhost\r\n\r\n"
                   "HEAD /livez HTTP/1.1\r\nHost: localhost\r\n\r\n%s",
                   get, get);
    client_text(fd, text);
    expect(client_response(fd, false), "200", "\"handler\":\"mr_route_stream\"");
    expect(client_response(fd, false), "200",
           "{\"handler\":\"mr_route_windows\",\"param\":\"r\",\"query\":\"x\",\"reader\":true}");
    expect(client_response(fd, true), "200", "Content-Length: ");
    expect(client_response(fd, false), "200", "\"param\":\"s t\"");
    (void)close(fd);
    assert_non_null(strstr(client_once(&fixture, "HEAD /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n"),
                           "HTTP/1.1 404 "));
    expect(client_once(&fixture, "BREW / HTTP/1.1\r\nHost: localhost\r\n\r\n"), "501", "unknown method");
    expect(client_once(&fixture, "PUT /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n"), "405",
           "Allow: POST");
}

/* Each would be two requests, or another one, to somebody else: one answer, or none, and the end.
 */
static void test_smuggling(void **state) {
    (void)state;
    static const char *const samples[] = {
        "POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: "
        "chunked\r\n\r\n"
        "0\r\n\r\nGET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nContent-Length: 44\r\n\r\n"
        "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "POST /v1/events HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n"
        "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "POST /v1/events HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"
        "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "POST /v1/events HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: +0\r\n\r\n"
        "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /livez HTTP/1.1\r\nHost: localhost\r\nHost: i\r\n\r\nGET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /livez HTTP/1.1\r\n\r\nGET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /v1/%2e%2e/livez HTTP/1.1\r\nHost: localhost\r\n\r\nGET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET http://h/livez HTTP/1.1\r\nHost: localhost\r\n\r\nGET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /livez\r\n\r\nGET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /liv ez HTTP/1.1\r\nHost: localhost\r\n\r\nGET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
    };
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++) {
        int fd = client_open(&fixture);
        client_text(fd, samples[i]);
        const char *all = client_all(fd);
        if (strstr(all, "HTTP/1.1 2") != NULL) {
            fail_msg("sample %zu: %s", i, all);
        }
        (void)close(fd);
    }
    int fd = client_open(&fixture);
    client_send(fd, "GET /livez\0x HTTP/1.1\r\nHost: h\r\n\r\n", 34);
    expect(client_response(fd, false), "400", "a NUL");
    assert_true(client_closed(fd));
    (void)close(fd);
}

static void test_auth(void **state) {
    (void)state;
    struct fixture f;
    /* sha256 of "abc" and of "" + "message digest": FIPS 180-2 and RFC 1321's words */
    fixture_open(
        &f, "",
        LIMITS
        "auth:\n  tokens:\n"
        "    web: { sha256: ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad,"
        " streams: [clicks], allow: [ingest] }\n");
    assert_non_null(f.server);
    static const char event[] = "{\"id\":\"a\"}";
    static const size_t len = sizeof event - 1;
    expect(client_post(&f, CLICKS, "Authorization: Bearer abc\r\n", event, len), "200", "");
    expect(client_post(&f, CLICKS, "", event, len), "401", "WWW-Authenticate: Bearer");
    expect(client_post(&f, CLICKS, "Authorization: Bearer abd\r\n", event, len), "401", "unknown");
    expect(client_post(&f, "/v1/streams/views/events", "Authorization: Bearer abc\r\n", event, len),
           "403", "not for this stream");
    expect(client_post(&f, "/v1/checkpoint", "Authorization: Bearer abc\r\n", event, len), "403",
           "`admin`");
    expect(
        client_once(&f, "GET /v1/rules HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer abc\r\n\r\n"),
        "403", "`query`");
    expect(client_once(&f, "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"), "200", "mr_route_livez");
    fixture_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_bodies, open_fixture, close_fixture),
        cmocka_unit_test_setup_teardown(test_cloudevents, open_fixture, close_fixture),
        cmocka_unit_test_setup_teardown(test_refusals, open_fixture, close_fixture),
        cmocka_unit_test_setup_teardown(test_inflate, open_fixture, close_fixture),
        cmocka_unit_test_setup_teardown(test_too_long, open_fixture, close_fixture),
        cmocka_unit_test_setup_teardown(test_chunked, open_fixture, close_fixture),
        cmocka_unit_test_setup_teardown(test_expect_continue, open_fixture, close_fixture),
        cmocka_unit_test_setup_teardown(test_keep_alive, open_fixture, close_fixture),
        cmocka_unit_test_setup_teardown(test_smuggling, open_fixture, close_fixture),
        cmocka_unit_test(test_auth),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
