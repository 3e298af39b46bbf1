/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves: each path of the API finds its route, parameters come out decoded, and 404 and 405 are
 * told apart.
 *
 * 1. A table of paths and what they must find.
 * 2. The table of routes itself: no two rows for one method and path, parameters within bounds, a
 * handler wherever one is called.
 * 3. Random paths, made of pieces of the patterns, against a matcher that splits into segments.
 */
#include "handlers.h"

#include "base/check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

static const struct {
    enum mr_method method;
    const char *path;
    const char *pattern; /* NULL: none */
    const char *first;
    const char *second;
    const char *allow;
} samples[] = {
    {MR_METHOD_POST, "/v1/streams/clicks/events", "/v1/streams/{stream}/events", "clicks", "",
     NULL},
    {MR_METHOD_POST, "/v1/streams/a%2Fb/events", "/v1/streams/{stream}/events", "a/b", "", NULL},
    {MR_METHOD_POST, "/v1/events", "/v1/events", "", "", NULL},
    {MR_METHOD_GET, "/v1/streams/s/events/id%20x", "/v1/streams/{stream}/events/{id}", "s", "id x",
     NULL},
    {MR_METHOD_HEAD, "/v1/streams/s/events/%e2%82%ac", "/v1/streams/{stream}/events/{id}", "s",
     "\xe2\x82\xac", NULL},
    {MR_METHOD_GET, "/", "/", "", "", NULL},
    {MR_METHOD_HEAD, "/livez", "/livez", "", "", NULL},
    {MR_METHOD_GET, "/v1/rules/r/windows", "/v1/rules/{rule}/windows", "r", "", NULL},
    {MR_METHOD_GET, "/v1/rules/r/top", "/v1/rules/{rule}/top", "r", "", NULL},
    {MR_METHOD_GET, "/v1/rules/r/stream", "/v1/rules/{rule}/stream", "r", "", NULL},
    {MR_METHOD_DELETE, "/v1/dead-letters", "/v1/dead-letters", "", "", NULL},
    {MR_METHOD_POST, "/v1/dead-letters/redrive", "/v1/dead-letters/redrive", "", "", NULL},
    {MR_METHOD_POST, "/v1/checkpoint", "/v1/checkpoint", "", "", NULL},
    /* 405 */
    {MR_METHOD_GET, "/v1/events", NULL, NULL, NULL, "POST"},
    {MR_METHOD_HEAD, "/v1/streams/s/events", NULL, NULL, NULL, "POST"},
    {MR_METHOD_POST, "/v1/streams", NULL, NULL, NULL, "GET, HEAD"},
    {MR_METHOD_POST, "/v1/dead-letters", NULL, NULL, NULL, "GET, HEAD, DELETE"},
    {MR_METHOD_COUNT, "/", NULL, NULL, NULL, "GET, HEAD"},
    /* 404 */
    {MR_METHOD_GET, "/v1", NULL, NULL, NULL, NULL},
    {MR_METHOD_GET, "/v1/", NULL, NULL, NULL, NULL},
    {MR_METHOD_GET, "/v1/streams/", NULL, NULL, NULL, NULL},
    {MR_METHOD_GET, "/v1/streams//events/x", NULL, NULL, NULL, NULL},
    {MR_METHOD_GET, "/v1/streams/s/events/x/y", NULL, NULL, NULL, NULL},
    {MR_METHOD_GET, "/livez/", NULL, NULL, NULL, NULL},
    {MR_METHOD_GET, "/livezz", NULL, NULL, NULL, NULL},
    {MR_METHOD_HEAD, "/nowhere", NULL, NULL, NULL, NULL},
    {MR_METHOD_GET, "/v1/%73treams", NULL, NULL, NULL, NULL},
};

static void test_samples(void **state) {
    (void)state;
    struct mr_buf scratch;
    mr_buf_init(&scratch, 1 << 16);
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++) {
        struct mr_bytes params[MR_PATH_PARAMS_MAX] = {{0}};
        const char *allow = "unset";
        mr_buf_clear(&scratch);
        const struct mr_route *route = mr_route_find(
            samples[i].method, mr_bytes_text(samples[i].path), &scratch, params, &allow);
        if (samples[i].pattern == NULL) {
            assert_null(route);
            if (samples[i].allow == NULL) {
                assert_null(allow);
            } else {
                assert_non_null(allow);
                assert_string_equal(allow, samples[i].allow);
            }
            continue;
        }
        assert_non_null(route);
        assert_string_equal(route->pattern, samples[i].pattern);
        assert_true(mr_bytes_equal(params[0], mr_bytes_text(samples[i].first)));
        assert_true(mr_bytes_equal(params[1], mr_bytes_text(samples[i].second)));
    }
    mr_buf_finish(&scratch);
}

static void test_table(void **state) {
    (void)state;
    for (uint32_t i = 0; i < mr_route_count; i++) {
        const struct mr_route *route = &mr_routes[i];
        uint32_t params = 0;
        for (const char *c = route->pattern; *c != '\0'; c++) {
            params += *c == '{';
        }
        assert_true(params <= MR_PATH_PARAMS_MAX);
        assert_true((route->kind == MR_ROUTE_INGEST) == (route->handler == NULL));
        assert_true(route->method != MR_METHOD_HEAD && route->method < MR_METHOD_COUNT);
        for (uint32_t k = 0; k < i; k++) {
            assert_false(mr_routes[k].method == route->method &&
                         strcmp(mr_routes[k].pattern, route->pattern) == 0);
        }
    }
}

/* Splits both sides at '/'. */
static bool oracle_matches(const char *pattern, const char *path) {
    for (;;) {
        if (*pattern != '/' || *path != '/') {
            return *pattern == *path && *pattern == '\0';
        }
        pattern++;
        path++;
        size_t a = strcspn(pattern, "/");
        size_t b = strcspn(path, "/");
        bool any = pattern[0] == '{' && b > 0;
        if (!any && (a != b || memcmp(pattern, path, a) != 0)) {
            return false;
        }
        pattern += a;
        path += b;
    }
}

static void test_random_paths(void **state) {
    (void)state;
    static const char *const pieces[] = {"/v1",      "/streams", "/rules", "/events",
                                         "/windows", "/x",       "/livez", "/",
                                         "/top",     "/stream",  "x"};
    uint64_t seed = 42;
    struct mr_buf scratch;
    uint32_t hits = 0;
    mr_buf_init(&scratch, 1 << 16);
    for (uint32_t round = 0; round < 50000; round++) {
        char path[128] = "";
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        uint32_t count = 1 + (uint32_t)(seed >> 60) % 6;
        for (uint32_t i = 0; i < count; i++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            strcat(path, pieces[(seed >> 33) % (sizeof pieces / sizeof pieces[0])]);
        }
        struct mr_bytes params[MR_PATH_PARAMS_MAX];
        const char *allow;
        mr_buf_clear(&scratch);
        const struct mr_route *route =
            mr_route_find(MR_METHOD_GET, mr_bytes_text(path), &scratch, params, &allow);
        const struct mr_route *expected = NULL;
        bool other = false;
        for (uint32_t i = 0; i < mr_route_count; i++) {
            bool here = oracle_matches(mr_routes[i].pattern, path);
            bool get = mr_routes[i].method == MR_METHOD_GET;
            expected = here && get && expected == NULL ? &mr_routes[i] : expected;
            other = other || (here && !get);
        }
        assert_ptr_equal(route, expected);
        assert_true(route != NULL || (allow != NULL) == other);
        hits += route != NULL;
    }
    assert_true(hits > 100);
    mr_buf_finish(&scratch);
}

static void test_later_and_problem(void **state) {
    (void)state;
    struct mr_request request = {.path = MR_BYTES("/v1/rules/r/top")};
    struct mr_response response = {.status = 200};
    mr_buf_init(&response.body, 1 << 16);
    mr_buf_append_text(&response.body, "half an answer");
    mr_route_later(&request, &response);
    assert_int_equal(response.status, 501);
    assert_string_equal(response.content_type, "application/problem+json");
    assert_true(mr_bytes_equal(
        mr_buf_bytes(&response.body),
        MR_BYTES("{\"type\":\"about:blank\",\"title\":\"Not Implemented\",\"status\":501,"
                 "\"detail\":\"/v1/rules/r/top is known, but not in this version\"}")));
    mr_problem_limit(&response, 413, 77, "%s\n", "too \"long\"");
    assert_true(mr_bytes_equal(
        mr_buf_bytes(&response.body),
        MR_BYTES("{\"type\":\"about:blank\",\"title\":\"Content Too Large\",\"status\":413,"
                 "\"detail\":\"too \\\"long\\\"\\n\",\"limit\":77}")));
    mr_buf_finish(&response.body);
    mr_buf_init(&response.body, 10); /* too small for any problem */
    mr_problem(&response, 503, "x");
    assert_int_equal(response.status, 503);
    assert_int_equal(response.body.len, 0);
    mr_buf_finish(&response.body);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_samples),
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_random_paths),
        cmocka_unit_test(test_later_and_problem),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
