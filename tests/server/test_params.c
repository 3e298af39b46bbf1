/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that a query string is read in one way only:
 *   1. tables of what is accepted, and as what, and of what is refused, with the message;
 *   2. any pairs of bytes, encoded at random in one of the allowed ways, come back as they were;
 *   3. numbers, choices and formats at their bounds; Accept with weights and ranges.
 */
#include "base/check.h"
#include "server/accept.h"
#include "server/params.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static void must_accept(void **state) {
    (void)state;
    static const struct {
        const char *query;
        uint32_t count;
        const char *name;
        const char *value;
    } cases[] = {
        {"", 0, NULL, NULL},
        {"&&&", 0, NULL, NULL},
        {"a=1", 1, "a", "1"},
        {"a=1&b=2&", 2, "b", "2"},
        {"&a=1&&b=2", 2, "a", "1"},
        {"a", 1, "a", ""},
        {"a=", 1, "a", ""},
        {"a==b=", 1, "a", "=b="},
        {"a=x+y%2B%26%3d", 1, "a", "x y+&="},
        {"%61b=%7e", 1, "ab", "~"},
        {"key.country=D%45", 1, "key.country", "DE"},
        {"a=%C3%a9", 1, "a", "\xc3\xa9"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct mr_params params;
        struct mr_error error;
        assert_int_equal(mr_params_init(&params, mr_bytes_text(cases[i].query), &error), MR_OK);
        mr_params_check(&params);
        assert_int_equal(params.count, cases[i].count);
        if (cases[i].name != NULL) {
            const struct mr_param *param = mr_params_find(&params, cases[i].name);
            assert_non_null(param);
            assert_true(mr_bytes_equal(param->value, mr_bytes_text(cases[i].value)));
        }
        assert_null(mr_params_find(&params, "absent"));
        mr_params_finish(&params);
    }
}

static void must_refuse(void **state) {
    (void)state;
    static const struct {
        const char *query;
        const char *text; /* in the message */
    } cases[] = {
        {"a=%", "broken percent escape"},
        {"a=%4", "`a=%4`"},
        {"a=%4g", "broken percent escape"},
        {"%zz=1", "broken percent escape"},
        {"=1", "without a name"},
        {"a=1&b=2&a=1", "`a` is given twice"},
        {"a=1&%61=1", "`a` is given twice"},
        {"%1b[2J=1&%1b[2J=2", "`\\x1b[2J` is given twice"},
        {"limti=1", "`limti`; did you mean `limit`?"},
        {"zzzzzzzz=1", "unknown query parameter `zzzzzzzz`; this path has from, limit, key.<name>"},
        {"key.=1", "unknown query parameter `key.`"},
        {"%00=1", "unknown query parameter `\\x00`"},
    };
    static const char *const names[] = {"from", "limit", "a", "b"};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct mr_params params;
        struct mr_error error = {0};
        enum mr_status status = mr_params_init(&params, mr_bytes_text(cases[i].query), &error);
        if (status == MR_OK) {
            mr_params_check(&params);
            status = mr_params_known(&params, names, 2, "key.", &error);
        }
        assert_int_equal(status, MR_INVALID);
        assert_int_equal(error.status, MR_INVALID);
        if (strstr(error.text, cases[i].text) == NULL) {
            fail_msg("%s: %s", cases[i].query, error.text);
        }
        mr_params_finish(&params);
    }
    struct mr_params params;
    struct mr_error error;
    assert_int_equal(mr_params_init(&params, MR_BYTES("key.x=1&from=2&limit=3"), &error), MR_OK);
    assert_int_equal(mr_params_known(&params, names, 2, "key.", &error), MR_OK);
    assert_int_equal(mr_params_known(&params, names, 2, NULL, &error), MR_INVALID);
    mr_params_finish(&params);
}

static void too_many(void **state) {
    (void)state;
    struct mr_params params;
    struct mr_error error;
    struct mr_buf query;
    mr_buf_init(&query, 4096);
    for (uint32_t i = 0; i < MR_PARAMS_MAX; i++) {
        mr_buf_printf(&query, "p%u=%u&", i, i);
    }
    assert_int_equal(mr_params_init(&params, mr_buf_bytes(&query), &error), MR_OK);
    assert_int_equal(params.count, MR_PARAMS_MAX);
    mr_params_finish(&params);
    mr_buf_append_text(&query, "q");
    assert_int_equal(mr_params_init(&params, mr_buf_bytes(&query), &error), MR_INVALID);
    mr_params_finish(&params);
    mr_buf_finish(&query);
}

static uint32_t rnd(uint64_t *seed, uint32_t below) {
    *seed = *seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (uint32_t)(*seed >> 33) % below;
}

static void encode(uint64_t *seed, struct mr_buf *query, const uint8_t *bytes, size_t len) {
    for (size_t i = 0; i < len; i++) {
        uint8_t c = bytes[i];
        bool plain = c != '%' && c != '&' && c != '=' && c != '+' && c != ' ';
        if (c == ' ' && rnd(seed, 2) == 0) {
            mr_buf_append_char(query, '+');
        } else if (!plain || rnd(seed, 3) == 0) {
            mr_buf_printf(query, rnd(seed, 2) == 0 ? "%%%02x" : "%%%02X", c);
        } else {
            mr_buf_append_char(query, (char)c);
        }
    }
}

static void any_bytes(void **state) {
    (void)state;
    uint64_t seed = 7;
    for (int round = 0; round < 2000; round++) {
        uint8_t names[4][8];
        uint8_t values[4][16];
        size_t name_lens[4];
        size_t value_lens[4];
        struct mr_buf query;
        mr_buf_init(&query, 4096);
        for (uint32_t p = 0; p < 4; p++) {
            name_lens[p] = 1 + rnd(&seed, 7);
            value_lens[p] = rnd(&seed, 16);
            for (size_t i = 0; i < name_lens[p]; i++) {
                names[p][i] = (uint8_t)rnd(&seed, 256);
            }
            for (size_t i = 0; i < value_lens[p]; i++) {
                values[p][i] = (uint8_t)rnd(&seed, 256);
            }
            names[p][0] = (uint8_t)('0' + p); /* all differ */
            encode(&seed, &query, names[p], name_lens[p]);
            mr_buf_append_char(&query, '=');
            encode(&seed, &query, values[p], value_lens[p]);
            mr_buf_append_char(&query, '&');
        }
        struct mr_params params;
        struct mr_error error;
        assert_int_equal(mr_params_init(&params, mr_buf_bytes(&query), &error), MR_OK);
        mr_params_check(&params);
        assert_int_equal(params.count, 4);
        for (uint32_t p = 0; p < 4; p++) {
            assert_true(mr_bytes_equal(params.items[p].name, mr_bytes_of(names[p], name_lens[p])));
            assert_true(
                mr_bytes_equal(params.items[p].value, mr_bytes_of(values[p], value_lens[p])));
        }
        mr_params_finish(&params);
        mr_buf_finish(&query);
    }
}

static enum mr_status count_of(const char *query, uint32_t *ret) {
    struct mr_params params;
    struct mr_error error;
    assert_int_equal(mr_params_init(&params, mr_bytes_text(query), &error), MR_OK);
    enum mr_status status = mr_params_count(&params, "limit", 1, 10000, ret, &error);
    mr_params_finish(&params);
    return status;
}

static void counts(void **state) {
    (void)state;
    uint32_t value = 77;
    assert_int_equal(count_of("other=1", &value), MR_OK);
    assert_int_equal(value, 77);
    assert_int_equal(count_of("limit=1", &value), MR_OK);
    assert_int_equal(value, 1);
    assert_int_equal(count_of("limit=10000", &value), MR_OK);
    assert_int_equal(value, 10000);
    static const char *const bad[] = {
        "limit=0",   "limit=10001", "limit=",    "limit=-1",
        "limit=+1",  "limit=1e3",   "limit=0x1", "limit=99999999999999999999",
        "limit=%001"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(count_of(bad[i], &value), MR_INVALID);
    }
    assert_int_equal(value, 10000);
}

static void quotes(void **state) {
    (void)state;
    assert_string_equal(mr_quote(MR_BYTES("a\0\x1b\\\x7f\xff z")).text,
                        "a\\x00\\x1b\\x5c\\x7f\\xff z");
    char text[400];
    memset(text, 'x', sizeof text);
    for (size_t len = 0; len < sizeof text; len++) {
        struct mr_quoted quoted = mr_quote(mr_bytes_of(text, len));
        assert_int_equal(strlen(quoted.text), len <= MR_QUOTED_MAX ? len : MR_QUOTED_MAX + 3);
    }
    char list[12] = "";
    mr_list_append(list, sizeof list, MR_BYTES("abc"));
    mr_list_append(list, sizeof list, MR_BYTES("def"));
    assert_string_equal(list, "abc, def");
    mr_list_append(list, sizeof list, MR_BYTES("ghi"));
    assert_string_equal(list, "abc, def, g");
}

static void formats(void **state) {
    (void)state;
    static const struct {
        const char *query;
        const char *accept;
        uint32_t formats;
        enum mr_status status;
        enum mr_answer answer;
    } cases[] = {
        {"", "", 3, MR_OK, MR_ANSWER_JSON},
        {"", " ", 3, MR_OK, MR_ANSWER_JSON},
        {"", "*/*", 3, MR_OK, MR_ANSWER_JSON},
        {"", "text/csv", 3, MR_OK, MR_ANSWER_CSV},
        {"", "TEXT/Csv ; header=present", 3, MR_OK, MR_ANSWER_CSV},
        {"", "text/*", 3, MR_OK, MR_ANSWER_CSV},
        {"", "application/x-ndjson", 3, MR_OK, MR_ANSWER_NDJSON},
        {"", "application/*", 3, MR_OK, MR_ANSWER_JSON},
        {"", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", 3, MR_OK,
         MR_ANSWER_JSON},
        {"", "application/json;q=0.5, text/csv;q=0.75", 3, MR_OK, MR_ANSWER_CSV},
        {"", "application/json;q=0.751, text/csv;q=0.75", 3, MR_OK, MR_ANSWER_JSON},
        {"", "text/csv;q=0, application/x-ndjson;q=0.001", 3, MR_OK, MR_ANSWER_NDJSON},
        {"", "text/csv, application/json", 3, MR_OK, MR_ANSWER_CSV},
        {"", "text/csv", 2, MR_NOT_FOUND, MR_ANSWER_JSON},
        {"", "text/html", 3, MR_NOT_FOUND, MR_ANSWER_JSON},
        {"", "application/json;q=0", 3, MR_NOT_FOUND, MR_ANSWER_JSON},
        {"", ",;,/,", 3, MR_NOT_FOUND, MR_ANSWER_JSON},
        {"format=csv", "application/json", 3, MR_OK, MR_ANSWER_CSV},
        {"format=ndjson", "text/html", 3, MR_OK, MR_ANSWER_NDJSON},
        {"format=csv", "", 2, MR_INVALID, MR_ANSWER_JSON},
        {"format=", "", 3, MR_INVALID, MR_ANSWER_JSON},
        {"format=columns", "", 3, MR_INVALID, MR_ANSWER_JSON},
        {"format=columns", "text/csv", 4, MR_OK, MR_ANSWER_COLUMNS},
        {"", "application/json", 4, MR_OK, MR_ANSWER_JSON},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct mr_params params;
        struct mr_error error;
        enum mr_answer answer = MR_ANSWER_COUNT;
        assert_int_equal(mr_params_init(&params, mr_bytes_text(cases[i].query), &error), MR_OK);
        enum mr_status status = mr_answer_choose(&params, mr_bytes_text(cases[i].accept),
                                                 cases[i].formats, &answer, &error);
        if (status != cases[i].status || (status == MR_OK && answer != cases[i].answer)) {
            fail_msg("case %zu: %d %d", i, (int)status, (int)answer);
        }
        mr_params_finish(&params);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(must_accept), cmocka_unit_test(must_refuse), cmocka_unit_test(too_many),
        cmocka_unit_test(any_bytes),   cmocka_unit_test(counts),      cmocka_unit_test(quotes),
        cmocka_unit_test(formats),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
