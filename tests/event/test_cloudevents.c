/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that binary mode becomes exactly the structured object: attributes, percent-decoding and
 * quotes, JSON data as it is, other data in base64 (RFC 4648's examples); that data and headers
 * cannot bring members of their own; and that the result decodes.
 */
#include "event/cloudevents.h"
#include "help.h"

#define HEADERS(...)                                                                               \
    (const struct mr_ce_header[]){__VA_ARGS__},                                                    \
        (uint32_t)(sizeof((struct mr_ce_header[]){__VA_ARGS__}) / sizeof(struct mr_ce_header))
#define H(name, value)                                                                             \
    { MR_BYTES(name), MR_BYTES(value) }

static void assert_object(const struct mr_ce_header *headers, uint32_t count, const char *type,
                          struct mr_bytes data, const char *expected) {
    struct mr_buf buf;
    struct mr_error error;
    mr_buf_init(&buf, 1 << 16);
    if (mr_cloudevents_structured(headers, count, mr_bytes_text(type), data, &buf, &error) !=
        MR_OK) {
        fail_msg("%s: %s", expected, error.text);
    }
    assert_true(buf.cap - buf.len >= MR_PADDING);
    mr_buf_append_char(&buf, 0);
    assert_string_equal((const char *)buf.ptr, expected);
    mr_buf_finish(&buf);
}

static void assert_invalid(const struct mr_ce_header *headers, uint32_t count, const char *type,
                           struct mr_bytes data, const char *text) {
    struct mr_buf buf;
    struct mr_error error = {.status = MR_OK};
    mr_buf_init(&buf, 1 << 16);
    mr_buf_append_text(&buf, "before");
    assert_int_equal(
        mr_cloudevents_structured(headers, count, mr_bytes_text(type), data, &buf, &error),
        MR_INVALID);
    assert_int_equal(buf.len, 6);
    if (strstr(error.text, text) == NULL) {
        fail_msg("%s", error.text);
    }
    mr_buf_finish(&buf);
}

static void writes_attributes(void **state) {
    (void)state;
    assert_object(HEADERS(H("id", "1"), H("Source", "/s"), H("SPECVERSION", "1.0")), "",
                  MR_BYTES(""), "{\"id\":\"1\",\"source\":\"/s\",\"specversion\":\"1.0\"}");
    assert_object(HEADERS(H("x", "Euro%20%E2%82%AC%20%F0%9F%98%80")), "", MR_BYTES(""),
                  "{\"x\":\"Euro \xE2\x82\xAC \xF0\x9F\x98\x80\"}");
    assert_object(HEADERS(H("x", "\"a \\\"b\\\\ %22c%22\"")), "", MR_BYTES(""),
                  "{\"x\":\"a \\\"b\\\\ \\\"c\\\"\"}");
    assert_object(HEADERS(H("x", "100%"), H("y", "%4"), H("z", "%zz%41%2")), "", MR_BYTES(""),
                  "{\"x\":\"100%\",\"y\":\"%4\",\"z\":\"%zzA%2\"}");
    assert_object(HEADERS(H("x", "\""), H("y", "\"\""), H("z", "")), "", MR_BYTES(""),
                  "{\"x\":\"\\\"\",\"y\":\"\",\"z\":\"\"}");
    assert_object(HEADERS(H("x", "a\",\"id\":\"2"), H("y", "%0A%00%1F")), "", MR_BYTES(""),
                  "{\"x\":\"a\\\",\\\"id\\\":\\\"2\",\"y\":\"\\n\\u0000\\u001f\"}");
    assert_object(HEADERS(H("x", "%2541")), "", MR_BYTES(""), "{\"x\":\"%41\"}"); /* one round */
}

static void refuses_bad_headers(void **state) {
    (void)state;
    assert_invalid(HEADERS(H("id", "1"), H("ID", "2")), "", MR_BYTES(""), "ce-id is there twice");
    assert_invalid(HEADERS(H("x", "%FF")), "", MR_BYTES(""), "ce-x is not UTF-8");
    assert_invalid(HEADERS(H("x", "\xC3")), "", MR_BYTES(""), "ce-x is not UTF-8");
    assert_invalid(HEADERS(H("id", "1"), H("", "1")), "", MR_BYTES(""), "number 2 does not name");
    assert_invalid(HEADERS(H("a-b", "1")), "", MR_BYTES(""), "does not name");
    assert_invalid(HEADERS(H("a\"", "1")), "", MR_BYTES(""), "does not name");
    assert_invalid(HEADERS(H("Data", "1")), "", MR_BYTES(""), "does not name");
    assert_invalid(HEADERS(H("datacontenttype", "1")), "", MR_BYTES(""), "does not name");
    assert_invalid(HEADERS(H("id", "1")), "text/\xFF", MR_BYTES("x"), "content type is not UTF-8");
}

static void carries_data(void **state) {
    (void)state;
    static const char *const json_types[] = {"application/json", "Application/JSON; charset=utf-8",
                                             "text/json", "application/vnd.x+json",
                                             "application/json ;x=1"};
    static const char *const encodings[][2] = {{"f", "Zg=="},           {"fo", "Zm8="},
                                               {"foo", "Zm9v"},         {"foob", "Zm9vYg=="},
                                               {"fooba", "Zm9vYmE="},   {"foobar", "Zm9vYmFy"},
                                               {"\xFB\xFF\xBF", "+/+/"}};
    char expected[200];
    for (size_t i = 0; i < 5; i++) {
        (void)snprintf(expected, sizeof expected,
                       "{\"id\":\"1\",\"datacontenttype\":\"%s\",\"data\": {\"n\":1}\n}",
                       json_types[i]); /* fits */
        assert_object(HEADERS(H("id", "1")), json_types[i], MR_BYTES(" {\"n\":1}\n"), expected);
    }
    for (size_t i = 0; i < 7; i++) {
        (void)snprintf(expected, sizeof expected,
                       "{\"id\":\"1\",\"datacontenttype\":\"text/plain\",\"data_base64\":\"%s\"}",
                       encodings[i][1]); /* fits */
        assert_object(HEADERS(H("id", "1")), "text/plain", mr_bytes_text(encodings[i][0]),
                      expected);
    }
    assert_object(HEADERS(H("id", "1")), "", MR_BYTES("17"), "{\"id\":\"1\",\"data\":17}");
    assert_object(HEADERS(H("id", "1")), "", MR_BYTES("fo"),
                  "{\"id\":\"1\",\"data_base64\":\"Zm8=\"}");
    assert_object(HEADERS(H("id", "1")), "application/json", MR_BYTES(""),
                  "{\"id\":\"1\",\"datacontenttype\":\"application/json\"}");
    assert_object(NULL, 0, "application/json", MR_BYTES("[]"),
                  "{\"datacontenttype\":\"application/json\",\"data\":[]}");
}

static void refuses_injected_members(void **state) {
    (void)state;
    static const char *const hostile[] = {
        "1,\"id\":\"2\"", "1}",       "{}{}",       "", " ", "{", "\"", "nul", "1 2",
        "\xFF",           "\"\xFF\"", "{\"a\":1}//"};
    for (size_t i = 0; i < sizeof hostile / sizeof hostile[0]; i++) {
        if (hostile[i][0] != 0) {
            assert_invalid(HEADERS(H("id", "1")), "application/json", mr_bytes_text(hostile[i]),
                           "not one JSON value");
        }
    }
    assert_invalid(HEADERS(H("id", "1")), "application/json", MR_BYTES("1\x00"),
                   "not one JSON value");
}

static void decodes_as_one_event(void **state) {
    (void)state;
    struct mr_schema_options options = usual_options();
    options.cloudevents = true;
    options.id[0] = MR_BYTES("source");
    options.id[1] = MR_BYTES("id");
    options.id_parts = 2;
    const struct mr_field field = {MR_BYTES("data.n"), MR_FIELD_NUMBER};
    options.fields = &field;
    options.field_count = 1;
    struct mr_schema *schema = open_schema(&options);
    struct mr_buf buf;
    mr_buf_init(&buf, 1 << 16);
    assert_int_equal(mr_cloudevents_structured(
                         HEADERS(H("specversion", "1.0"), H("id", "A%2F1"), H("source", "/s"),
                                 H("type", "t"), H("time", "2023-11-14T22:13:20Z")),
                         MR_BYTES("application/json"), MR_BYTES("{\n\"n\":1.5}"), &buf, NULL),
                     MR_OK);
    struct variants variants;
    struct mr_batch *batch;
    variants_open(&variants);
    assert_int_equal(
        decode_all(&variants, schema, MR_FORMAT_OBJECT, mr_buf_bytes(&buf), &batch, NULL), MR_OK);
    assert_int_equal(batch->order_count, 1);
    assert_true(batch->times_ms[0] == 1700000000000 && batch->column[0].values[0].d == 1.5);
    struct mr_bytes parts[2] = {MR_BYTES("/s"), MR_BYTES("A/1")};
    assert_true(mr_fingerprint_equal(batch->fps[0], mr_decode_fingerprint(schema, parts, 2)));
    mr_batch_close(batch);
    variants_close(&variants);
    mr_buf_finish(&buf);
    mr_schema_close(schema);
}

static void survives_no_memory(void **state) {
    (void)state;
    for (size_t nth = 1;; nth++) {
        struct mr_buf buf;
        mr_buf_init(&buf, 1 << 16);
        mr_alloc_fail_at(nth, 0);
        enum mr_status status = mr_cloudevents_structured(
            HEADERS(H("id", "1")), MR_BYTES("text/plain"), MR_BYTES("x"), &buf, NULL);
        mr_alloc_fail_at(0, 0);
        mr_buf_finish(&buf);
        if (status == MR_OK) {
            assert_true(nth >= 3);
            break;
        }
        assert_int_equal(status, MR_NO_MEMORY);
    }
    struct mr_buf small;
    mr_buf_init(&small, 20);
    assert_int_equal(mr_cloudevents_structured(HEADERS(H("id", "12345678901234567890")),
                                               MR_BYTES(""), MR_BYTES(""), &small, NULL),
                     MR_LIMIT);
    mr_buf_finish(&small);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_attributes),    cmocka_unit_test(refuses_bad_headers),
        cmocka_unit_test(carries_data),         cmocka_unit_test(refuses_injected_members),
        cmocka_unit_test(decodes_as_one_event), cmocka_unit_test(survives_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
