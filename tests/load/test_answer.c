/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that an answer is read whole or not at all: every cut of it asks for more, and reads nothing beyond its end (each
 * in memory of its own, for the address sanitizer); and what is no answer is refused.
 */
#include "bench/load/answer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

static enum mr_status read_cut(const char *text, size_t len, struct mr_buf *chunks, struct mr_load_answer *ret, char **ret_copy) {
    *ret_copy = malloc(len + (len == 0));
    assert_non_null(*ret_copy);
    memcpy(*ret_copy, text, len);
    return mr_load_answer_read(mr_bytes_of(*ret_copy, len), chunks, ret);
}

static void whole_or_not_at_all(void **state) {
    (void)state;
    static const struct {
        const char *text;
        uint32_t status;
        const char *body;
        const char *cursor;
        uint32_t retry_after_s;
        bool close;
    } cases[] = {
        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, "hello", "", 0, false},
        {"HTTP/1.1 503 Service Unavailable\r\nretry-after: 17\r\nCONTENT-LENGTH:2\r\nConnection: close\r\n\r\n{}", 503, "{}", "",
         17, true},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Next-Cursor: abc-_9\r\n\r\n3\r\nabc\r\nA;x=1\r\n0123456789\r\n0\r\n\r\n",
         200, "abc0123456789", "abc-_9", 0, false},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nTrailer: x\r\n\r\n", 200, "", "", 0, false},
        {"HTTP/1.1 204 No Content\r\n\r\n", 204, "", "", 0, false},
        {"HTTP/1.0 200 OK\nContent-Length: 1\n\nx", 200, "x", "", 0, false},
    };
    struct mr_buf chunks;
    mr_buf_init(&chunks, 1 << 16);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t len = strlen(cases[i].text);
        struct mr_load_answer answer;
        char *copy;
        for (size_t cut = 0; cut < len; cut++) {
            assert_int_equal(read_cut(cases[i].text, cut, &chunks, &answer, &copy), MR_AGAIN);
            free(copy);
        }
        assert_int_equal(read_cut(cases[i].text, len, &chunks, &answer, &copy), MR_OK);
        assert_int_equal(answer.status, cases[i].status);
        assert_true(mr_bytes_equal(answer.body, mr_bytes_text(cases[i].body)));
        assert_true(mr_bytes_equal(answer.cursor, mr_bytes_text(cases[i].cursor)));
        assert_int_equal(answer.retry_after_s, cases[i].retry_after_s);
        assert_int_equal(answer.close, cases[i].close);
        assert_int_equal(answer.len, len);
        free(copy);
    }
    mr_buf_finish(&chunks);
}

static void must_refuse(void **state) {
    (void)state;
    static const char *const cases[] = {
        "SSH-2.0-OpenSSH\r\n\r\n", "HTTP/2 200\r\n\r\n", "HTTP/1.1 abc\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\nuntil the end",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
    };
    struct mr_buf chunks;
    mr_buf_init(&chunks, 1 << 16);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct mr_load_answer answer;
        char *copy;
        assert_int_equal(read_cut(cases[i], strlen(cases[i]), &chunks, &answer, &copy), MR_INVALID);
        free(copy);
    }
    mr_buf_finish(&chunks);
}

static void details_are_the_servers(void **state) {
    (void)state;
    struct mr_load_answer answer = {.body = MR_BYTES("{\"title\":\"x\",\"detail\":\"no stream\"}")};
    assert_true(mr_bytes_equal(mr_load_answer_detail(&answer), MR_BYTES("no stream")));
    answer.body = MR_BYTES("plain");
    assert_true(mr_bytes_equal(mr_load_answer_detail(&answer), MR_BYTES("plain")));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_or_not_at_all),
        cmocka_unit_test(must_refuse),
        cmocka_unit_test(details_are_the_servers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
