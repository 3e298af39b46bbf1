/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves: the answer counts each verdict once, has one letter an event, turns into a 400 exactly
 * when every event was rejected, and never reads as success without memory.
 *
 * 1. Golden answers. 2. Random verdicts against a naive count. 3. A buffer of every size too small.
 */
#include "server/ingest_answer.h"

#include "base/alloc.h"
#include "base/check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

static struct mr_batch *batch_of(const char *letters, struct mr_event_error *errors) {
    static struct mr_batch batch;
    static uint8_t verdicts[4096];
    size_t count = strlen(letters);
    assert_true(count <= sizeof verdicts);
    memcpy(verdicts, letters, count);
    batch = (struct mr_batch){.count = (uint32_t)count, .verdicts = verdicts, .errors = errors};
    for (size_t i = 0; i < count; i++) {
        batch.rejected += letters[i] == 'R';
    }
    return &batch;
}

static void expect(struct mr_response *response, unsigned int status, const char *type,
                   const char *body) {
    assert_int_equal(response->status, status);
    assert_string_equal(response->content_type, type);
    if (!mr_bytes_equal(mr_buf_bytes(&response->body), mr_bytes_text(body))) {
        fail_msg("%.*s\ninstead of\n%s", (int)response->body.len, (char *)response->body.ptr, body);
    }
}

static void test_golden(void **state) {
    (void)state;
    struct mr_response response = {.status = 0};
    struct mr_answer_options options = {.synced = true};
    struct mr_event_error errors[1] = {{.index = 2,
                                        .line = 3,
                                        .reject = MR_REJECT_BAD_TIME,
                                        .pointer = "/time",
                                        .detail = "\"x\""}};
    mr_buf_init(&response.body, 1 << 20);
    mr_ingest_answer(NULL, &options, &response);
    expect(&response, 200, "application/json",
           "{\"received\":0,\"accepted\":0,\"duplicate\":0,\"late\":0,\"rejected\":0,"
           "\"errors\":[]}\n");
    options.results = true;
    mr_ingest_answer(NULL, &options, &response);
    expect(&response, 200, "application/json",
           "{\"received\":0,\"accepted\":0,\"duplicate\":0,\"late\":0,\"rejected\":0,"
           "\"errors\":[],\"results\":\"\"}\n");
    struct mr_batch *batch = batch_of("ADRLA", errors);
    batch->error_count = 1;
    batch->errors_truncated = true;
    mr_ingest_answer(batch, &options, &response);
    expect(&response, 200, "application/json",
           "{\"received\":5,\"accepted\":2,\"duplicate\":1,\"late\":1,\"rejected\":1,"
           "\"errors\":[{\"index\":2,\"line\":3,\"code\":\"bad_time\",\"pointer\":\"/time\","
           "\"detail\":\"\\\"x\\\"\"}],\"errors_truncated\":true,\"results\":\"ADRLA\"}\n");
    options.observe = true;
    options.synced = false;
    batch->errors_truncated = false;
    mr_ingest_answer(batch, &options, &response);
    expect(&response, 200, "application/json",
           "{\"received\":5,\"accepted\":3,\"duplicate\":0,\"late\":1,\"rejected\":1,"
           "\"durability\":\"page_cache\","
           "\"errors\":[{\"index\":2,\"line\":3,\"code\":\"bad_time\",\"pointer\":\"/time\","
           "\"detail\":\"\\\"x\\\"\"}],\"results\":\"AARLA\"}\n");
    mr_buf_finish(&response.body);
}

static void test_all_rejected(void **state) {
    (void)state;
    struct mr_response response = {.status = 0};
    struct mr_answer_options options = {.synced = true};
    struct mr_event_error errors[1] = {{.reject = MR_REJECT_BAD_JSON, .line = 1, .detail = "odd"}};
    mr_buf_init(&response.body, 1 << 20);
    struct mr_batch *batch = batch_of("RR", errors);
    batch->error_count = 1;
    mr_ingest_answer(batch, &options, &response);
    expect(&response, 400, "application/problem+json",
           "{\"type\":\"about:blank\",\"title\":\"Bad Request\",\"status\":400,"
           "\"detail\":\"every event was rejected; the first: odd\","
           "\"received\":2,\"accepted\":0,\"duplicate\":0,\"late\":0,\"rejected\":2,"
           "\"errors\":[{\"index\":0,\"line\":1,\"code\":\"bad_json\",\"pointer\":\"\","
           "\"detail\":\"odd\"}]}\n");
    mr_buf_finish(&response.body);
}

static void test_refusals(void **state) {
    (void)state;
    for (int refusal = MR_REFUSAL_NONE + 1; refusal <= MR_REFUSAL_ABANDONED; refusal++) {
        struct mr_response response = {.status = 0};
        mr_buf_init(&response.body, 1 << 20);
        mr_ingest_refused((enum mr_refusal)refusal, &response);
        assert_int_equal(response.status, 503);
        assert_true(response.retry_after_s > 0);
        assert_true(response.body.len > 80);
        mr_buf_finish(&response.body);
    }
}

static void test_random(void **state) {
    (void)state;
    static const char letters[] = "ADLR";
    uint64_t seed = 7;
    for (uint32_t round = 0; round < 2000; round++) {
        char verdicts[300];
        uint32_t counts[4] = {0};
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        uint32_t count = 1 + (uint32_t)(seed >> 33) % (sizeof verdicts - 1);
        for (uint32_t i = 0; i < count; i++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            uint32_t which = (uint32_t)(seed >> 62);
            verdicts[i] = letters[which];
            counts[which]++;
        }
        verdicts[count] = '\0';
        struct mr_response response = {.status = 0};
        struct mr_answer_options options = {.synced = true, .results = true};
        char expected[1024];
        mr_buf_init(&response.body, 1 << 20);
        mr_ingest_answer(batch_of(verdicts, NULL), &options, &response);
        (void)snprintf(
            expected, sizeof expected,
            "\"received\":%u,\"accepted\":%u,\"duplicate\":%u,\"late\":%u,\"rejected\":%u,"
            "\"errors\":[],\"results\":\"%s\"}\n",
            count, counts[0], counts[1], counts[2], counts[3], verdicts);
        size_t len = strlen(expected);
        assert_true(response.body.len >= len);
        assert_memory_equal(response.body.ptr + response.body.len - len, expected, len);
        assert_int_equal(response.status, counts[3] == count ? 400 : 200);
        mr_buf_finish(&response.body);
    }
}

static void test_no_memory(void **state) {
    (void)state;
    struct mr_answer_options options = {.synced = true, .results = true};
    for (size_t cap = 1; cap < 400; cap++) {
        struct mr_response response = {.status = 0};
        mr_buf_init(&response.body, cap);
        mr_ingest_answer(batch_of("AADLRAA", NULL), &options, &response);
        bool complete = response.body.len > 2 && response.body.ptr[response.body.len - 1] == '\n';
        assert_int_equal(response.status, complete ? 200 : 503);
        mr_buf_finish(&response.body);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),    cmocka_unit_test(test_all_rejected),
        cmocka_unit_test(test_refusals),  cmocka_unit_test(test_random),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
