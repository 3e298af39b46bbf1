/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves what the decoder makes of whole requests, on every path, with prediction on and off:
 *   1. formats: what AUTO takes a body for, blank lines, broken lines and arrays, line numbers;
 *   2. ids: of strings and numbers, of several parts, missing ones; fingerprints;
 *   3. times in every unit and at the borders; keys; numbers; CloudEvents attributes;
 *   4. the errors list: codes, pointers, details, its bound;
 *   5. limits, growth, memory that runs out at every allocation, two schemas in turn on one
 * decoder.
 */
#include "help.h"

struct env {
    struct variants variants;
    struct mr_schema *schema;
};

static int setup(void **state) {
    struct env *env = calloc(1, sizeof *env);
    variants_open(&env->variants);
    struct mr_schema_options options = usual_options();
    env->schema = open_schema(&options);
    *state = env;
    return 0;
}

static int teardown(void **state) {
    struct env *env = *state;
    variants_close(&env->variants);
    mr_schema_close(env->schema);
    free(env);
    return 0;
}

static struct mr_batch *decode_as(struct env *env, const struct mr_schema *schema,
                                  enum mr_format format, const char *body) {
    struct mr_batch *batch;
    struct mr_error error;
    if (decode_all(&env->variants, schema, format, mr_bytes_text(body), &batch, &error) != MR_OK) {
        fail_msg("%s: %s", body, error.text);
    }
    return batch;
}

static struct mr_batch *decode(struct env *env, const char *body) {
    return decode_as(env, env->schema, MR_FORMAT_AUTO, body);
}

/* "ARA…": - accepted by the decoder, R rejected; and the format it was taken for. */
static void assert_verdicts(struct env *env, enum mr_format format, const char *body,
                            enum mr_format taken, const char *verdicts) {
    struct mr_batch *batch = decode_as(env, env->schema, format, body);
    char found[64] = {0};
    for (uint32_t i = 0; i < batch->count; i++) {
        found[i] = batch->verdicts[i] == MR_VERDICT_REJECTED ? 'R' : '-';
    }
    assert_string_equal(found, verdicts);
    assert_int_equal(batch->format, taken);
    mr_batch_close(batch);
}

static void tells_formats(void **state) {
    struct env *env = *state;
    const enum mr_format any = MR_FORMAT_AUTO;
    const enum mr_format lines = MR_FORMAT_NDJSON;
    const enum mr_format array = MR_FORMAT_ARRAY;
    const enum mr_format object = MR_FORMAT_OBJECT;
    assert_verdicts(env, any, "", lines, "");
    assert_verdicts(env, any, " \n\r\t\n", lines, "");
    assert_verdicts(env, lines, "", lines, "");
    assert_verdicts(env, lines, "\n \n", lines, "");
    assert_verdicts(env, any, "{\"id\":1}", object, "-");
    assert_verdicts(env, any, " {\n\"id\"\n:\n1\n}\n", object, "-");
    assert_verdicts(env, any, "{\"id\":1}\n{\"id\":2}", lines, "--");
    assert_verdicts(env, any, "{\"id\":1}\r\n{\"id\":2}\r\n", lines, "--");
    assert_verdicts(env, any, "{\"id\":1}\n\n  \n{\"id\":2}\n", lines, "--");
    assert_verdicts(env, any, "{\"id\":1} {\"id\":2}", lines, "R");
    assert_verdicts(env, any, "{\"id\":1", lines, "R");
    assert_verdicts(env, any, "{\n\"id\":1", lines, "RR");
    assert_verdicts(env, any, "{}", object, "R");
    assert_verdicts(env, lines, "{\"id\":1}\nx\n{\"id\":2}\n[]\n\"{}\"\n{\"id\":3}", lines,
                    "-R-RR-");
    assert_verdicts(env, lines, "{\"id\":1}x\n{\"id\":2}", lines, "R-");
    assert_verdicts(env, lines, "{\"id\"\n:1}\n{\"id\":2}", lines, "RR-");
    assert_verdicts(env, lines, "{\"id\":1,\"x\":\"\n\"}\n{\"id\":2}", lines, "RR-");
    assert_verdicts(env, any, "[]", array, "");
    assert_verdicts(env, any, " [ \n ] \n", array, "");
    assert_verdicts(env, any, "[{\"id\":1},{\"id\":2}]", array, "--");
    assert_verdicts(env, any, "[\n{\"id\":1}\n,\n{\"id\":2}\n]\n", array, "--");
    assert_verdicts(env, array, "[{\"id\":1},1,[],\"a\",null,{\"id\":2}]", array, "-RRRR-");
    assert_verdicts(env, array, "[{\"id\":1},{\"id\":}, {\"id\":3}]", array, "-R");
    assert_verdicts(env, array, "[{\"id\":1} {\"id\":2}]", array, "-R");
    assert_verdicts(env, array, "[{\"id\":1},]", array, "-R");
    assert_verdicts(env, array, "[{\"id\":1},", array, "-R");
    assert_verdicts(env, array, "[{\"id\":1}", array, "-R");
    assert_verdicts(env, array, "[{\"id\":1}]x", array, "-R");
    assert_verdicts(env, array, "[", array, "R");
    assert_verdicts(env, array, "[{\"id\":1},\xFF", array, "-R");
    assert_verdicts(env, object, "{\"id\":1}\n", object, "-");
    assert_verdicts(env, object, "{\"id\":1}\n{\"id\":2}", object, "R");
    assert_verdicts(env, object, "{\"id\":1", object, "R");
    assert_verdicts(env, object, "[]", object, "R");
    assert_verdicts(env, object, "", object, "R");
    assert_verdicts(env, object, "1 2", object, "R");
}

static void refuses_whole_bodies(void **state) {
    static const struct {
        enum mr_format format;
        const char *body;
        const char *text;
    } cases[] = {
        {MR_FORMAT_AUTO, "x", "byte 0x78"},
        {MR_FORMAT_AUTO, "\"a\"", "byte 0x22"},
        {MR_FORMAT_AUTO, "\xFF\xFE{", "byte 0xFF"},
        {MR_FORMAT_ARRAY, "{}", "not a JSON array"},
        {MR_FORMAT_ARRAY, "", "not a JSON array"},
        {MR_FORMAT_AUTO, "\xEF\xBB\xBF{}", "byte order mark"},
        {MR_FORMAT_NDJSON, "\xEF\xBB\xBF{}", "byte order mark"},
        {MR_FORMAT_ARRAY, "\xEF\xBB\xBF[]", "byte order mark"},
        {MR_FORMAT_OBJECT, "\xEF\xBB\xBF", "byte order mark"},
    };
    struct env *env = *state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct mr_batch *batch;
        struct mr_error error;
        assert_int_equal(decode_all(&env->variants, env->schema, cases[i].format,
                                    mr_bytes_text(cases[i].body), &batch, &error),
                         MR_INVALID);
        assert_non_null(strstr(error.text, cases[i].text));
    }
}

static void counts_lines(void **state) {
    static const char *const bodies[] = {
        "\n\n{\"id\":1}\n{\n\n\r\n  \n{\"id\":2}\n{\"x\":1}\r\n{\"id\":3}\n}",
        "\n[\n{\"id\":1},\n\n{\n\"x\":1},{\"id\":2},\n7,\n{\"id\":}\n]",
        "\n\n{\n}\n",
    };
    static const uint32_t lines[][3] = {{4, 9, 11}, {5, 7, 8}, {3, 0, 0}};
    struct env *env = *state;
    for (size_t i = 0; i < 3; i++) {
        struct mr_batch *batch = decode(env, bodies[i]);
        assert_int_equal(batch->error_count, i == 2 ? 1 : 3);
        for (uint32_t e = 0; e < batch->error_count; e++) {
            assert_int_equal(batch->errors[e].line, lines[i][e]);
        }
        mr_batch_close(batch);
    }
}

static void assert_error(struct env *env, const struct mr_schema *schema, const char *body,
                         enum mr_reject reject, const char *pointer, const char *detail) {
    for (int again = 0; again < 2; again++) { /* the second time it is predicted */
        struct mr_batch *batch = decode_as(env, schema, MR_FORMAT_NDJSON, body);
        if (batch->error_count != 1 || batch->errors[0].reject != reject ||
            strcmp(batch->errors[0].pointer, pointer) != 0 ||
            strcmp(batch->errors[0].detail, detail) != 0) {
            fail_msg("%s: %s %s %s", body, mr_reject_code(reject_of(batch, 0)),
                     batch->error_count > 0 ? batch->errors[0].pointer : "-",
                     batch->error_count > 0 ? batch->errors[0].detail : "-");
        }
        mr_batch_close(batch);
    }
}

static void explains_errors(void **state) {
    struct env *env = *state;
    const struct mr_schema *s = env->schema;
    assert_error(env, s, "{\"id\":1,\"time\":\"yesterday\"}", MR_REJECT_BAD_TIME, "/time",
                 "neither RFC 3339 nor a number: \"yesterday\"");
    assert_error(env, s, "{\"id\":1,\"time\":17}", MR_REJECT_BAD_TIME, "/time",
                 "outside 2000 to 2100 when read as milliseconds: 17");
    assert_error(env, s, "{\"id\":1,\"time\":true}", MR_REJECT_BAD_TIME, "/time",
                 "neither RFC 3339 nor a number: true");
    assert_error(env, s, "{\"id\":1,\"time\":\"1999-12-31T23:59:59.999Z\"}", MR_REJECT_BAD_TIME,
                 "/time", "outside 2000 to 2100: \"1999-12-31T23:59:59.999Z\"");
    assert_error(env, s, "{\"id\":1,\"n\":\"7\"}", MR_REJECT_BAD_NUMBER, "/n",
                 "not a number: \"7\"");
    assert_error(env, s, "{\"id\":1,\"n\":1e999}", MR_REJECT_BAD_NUMBER, "/n",
                 "over the range of a double: 1e999");
    assert_error(env, s, "{\"id\":1,\"d\":{\"f\":{\"g\":[1]}}}", MR_REJECT_BAD_NUMBER, "/d/f/g",
                 "not a number: [1]");
    assert_error(env, s, "{\"id\":1,\"k\":{\"a\":1}}", MR_REJECT_BAD_KEY, "/k",
                 "an object or array cannot be a key: {\"a\":1}");
    assert_error(env, s, "{\"k\":1}", MR_REJECT_MISSING_ID, "/id", "the id is missing");
    assert_error(env, s, "{\"id\":null}", MR_REJECT_MISSING_ID, "/id", "the id is missing");
    assert_error(env, s, "{\"id\":\"\"}", MR_REJECT_BAD_ID, "/id", "an empty id: \"\"");
    assert_error(env, s, "{\"id\":false}", MR_REJECT_BAD_ID, "/id",
                 "neither a string nor a number: false");
    assert_error(env, s, "{\"id\":1,\"id\":1}", MR_REJECT_DUPLICATE_NAME, "/id",
                 "the second time in this event: \"id\"");
    assert_error(env, s, "{\"id\":1,\"d\":{},\"d\":1}", MR_REJECT_DUPLICATE_NAME, "/d",
                 "the second time in this event: \"d\"");
    assert_error(env, s, "[{}]", MR_REJECT_NOT_OBJECT, "", "not an object: [{}]");
    assert_error(env, s, "{\"id\":1,}", MR_REJECT_BAD_JSON, "",
                 "expected a name in quotes at byte 9 of the event, found '}'");
    assert_error(env, s, "{\"id\":1", MR_REJECT_BAD_JSON, "",
                 "expected a comma or a closing brace at byte 8 of the event, found the end");
    assert_error(env, s, "{\"id\":1}\t2\n", MR_REJECT_BAD_JSON, "",
                 "expected the end of the line at byte 10 of the event, found '2'");
    assert_error(env, s, "{\"id\":\"\xFF\"}", MR_REJECT_BAD_UTF8, "",
                 "expected UTF-8 at byte 8 of the event, found byte 0xFF");
    assert_error(
        env, s, "{\"id\":\"\\ud800\"}", MR_REJECT_BAD_JSON, "",
        "expected a pair of surrogates, not a lone one at byte 8 of the event, found '\\'");
    /* Not well-formed comes before all else, and the first complaint before the later ones. */
    assert_error(env, s, "{\"id\":\"\",\"n\":\"x\",}", MR_REJECT_BAD_JSON, "",
                 "expected a name in quotes at byte 18 of the event, found '}'");
    assert_error(env, s, "{\"n\":\"x\",\"id\":\"\"}", MR_REJECT_BAD_NUMBER, "/n",
                 "not a number: \"x\"");
}

/* Details are cut at a character. */
static void cuts_details(void **state) {
    struct env *env = *state;
    for (int shift = 0; shift < 4; shift++) {
        char body[400];
        int len = sprintf(body, "{\"id\":1,\"n\":\"%.*s", shift, "abcd");
        for (int i = 0; i < 80; i++) {
            len += sprintf(body + len, "\xE2\x82\xAC");
        }
        (void)sprintf(body + len, "\"}");           /* fits */
        struct mr_batch *batch = decode(env, body); /* mr_batch_check looks at the UTF-8 */
        const char *detail = batch->errors[0].detail;
        assert_true(strlen(detail) >= MR_DETAIL_MAX - 4);
        assert_string_equal(detail + strlen(detail) - 3, "\xE2\x80\xA6");
        mr_batch_close(batch);
    }
}

static void bounds_the_errors_list(void **state) {
    struct env *env = *state;
    struct mr_buf body;
    mr_buf_init(&body, 1 << 20);
    for (int i = 0; i < MR_ERRORS_MAX; i++) {
        mr_buf_append_text(&body, "x\n");
    }
    struct mr_batch *batch;
    assert_int_equal(decode_all(&env->variants, env->schema, MR_FORMAT_NDJSON, mr_buf_bytes(&body),
                                &batch, NULL),
                     MR_OK);
    assert_int_equal(batch->error_count, MR_ERRORS_MAX);
    assert_false(batch->errors_truncated);
    mr_batch_close(batch);
    mr_buf_append_text(&body, "{\"id\":1}\nx\n");
    assert_int_equal(decode_all(&env->variants, env->schema, MR_FORMAT_NDJSON, mr_buf_bytes(&body),
                                &batch, NULL),
                     MR_OK);
    assert_int_equal(batch->error_count, MR_ERRORS_MAX);
    assert_true(batch->errors_truncated);
    assert_int_equal(batch->rejected, MR_ERRORS_MAX + 1);
    assert_int_equal(batch->order_count, 1);
    mr_batch_close(batch);
    mr_buf_finish(&body);
}

static void makes_ids(void **state) {
    struct env *env = *state;
    struct mr_batch *batch =
        decode(env, "{\"id\":\"17\"}\n{\"id\":17}\n{\"id\":17.0}\n{\"id\":\"\\u0031\\u0037\"}\n{"
                    "\"id\":\"a\\u0000b\"}\n{\"id\":\"a\"}");
    assert_int_equal(batch->order_count, 6);
    assert_null(batch->has_id);
    struct mr_bytes id = MR_BYTES("17");
    assert_true(mr_fingerprint_equal(batch->fps[0], mr_decode_fingerprint(env->schema, &id, 1)));
    assert_true(mr_fingerprint_equal(batch->fps[0], batch->fps[1]));
    assert_false(mr_fingerprint_equal(batch->fps[0], batch->fps[2]));
    assert_true(mr_fingerprint_equal(batch->fps[0], batch->fps[3]));
    assert_false(mr_fingerprint_equal(batch->fps[4], batch->fps[5]));
    mr_batch_close(batch);
}

static void bounds_ids_and_keys(void **state) {
    struct env *env = *state;
    static const struct {
        const char *format;
        size_t len;
        enum mr_reject reject;
    } cases[] = {
        {"{\"id\":\"%s\"}", MR_ID_LEN_MAX, MR_REJECT_NONE},
        {"{\"id\":\"%s\"}", MR_ID_LEN_MAX + 1, MR_REJECT_BAD_ID},
        {"{\"id\":%s}", MR_ID_LEN_MAX, MR_REJECT_NONE},
        {"{\"id\":%s}", MR_ID_LEN_MAX + 1, MR_REJECT_BAD_ID},
        {"{\"id\":1,\"k\":\"%s\"}", MR_KEY_TEXT_MAX, MR_REJECT_NONE},
        {"{\"id\":1,\"k\":\"%s\"}", MR_KEY_TEXT_MAX + 1, MR_REJECT_BAD_KEY},
        {"{\"id\":1,\"k\":%s}", MR_KEY_TEXT_MAX, MR_REJECT_NONE},
        {"{\"id\":1,\"k\":%s}", MR_KEY_TEXT_MAX + 1, MR_REJECT_BAD_KEY},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[MR_ID_LEN_MAX + 2] = {0};
        char body[2 * MR_ID_LEN_MAX + 128];
        memset(text, '7', cases[i].len);
        int len = snprintf(body, sizeof body / 2, cases[i].format, text);
        body[len] = '\n';
        memcpy(body + len + 1, body, (size_t)len);
        body[2 * len + 1] = 0; /* the second line is predicted */
        struct mr_batch *batch = decode(env, body);
        assert_int_equal(reject_of(batch, 0), cases[i].reject);
        assert_int_equal(reject_of(batch, 1), cases[i].reject);
        mr_batch_close(batch);
    }
}

/* ("a", "bc") is not ("ab", "c"), absent is not "", and the order of members does not matter. */
static void makes_ids_of_parts(void **state) {
    struct env *env = *state;
    struct mr_schema_options options = usual_options();
    options.id[0] = MR_BYTES("source");
    options.id[1] = MR_BYTES("d.id");
    options.id_parts = 2;
    options.field_count = 0;
    struct mr_schema *schema = open_schema(&options);
    struct mr_batch *batch = decode_as(
        env, schema, MR_FORMAT_NDJSON,
        "{\"source\":\"a\",\"d\":{\"id\":\"bc\"}}\n{\"source\":\"ab\",\"d\":{\"id\":\"c\"}}\n{"
        "\"d\":{\"id\":\"bc\"}}\n"
        "{\"source\":\"\",\"d\":{\"id\":\"bc\"}}\n{\"source\":null,\"d\":{\"id\":\"bc\"}}\n"
        "{\"d\":{\"id\":\"bc\"},\"source\":\"\\u0061\"}\n{\"source\":\"a\"}\n{\"source\":[],\"d\":{"
        "\"id\":\"bc\"}}\n"
        "{\"source\":\"a\",\"d\":7}\n{\"source\":\"a\",\"d\":{\"id\":\"\"}}\n");
    static const uint8_t same[6][6] = {{1, 0, 0, 0, 0, 1}, {0, 1, 0, 0, 0, 0}, {0, 0, 1, 0, 1, 0},
                                       {0, 0, 0, 1, 0, 0}, {0, 0, 1, 0, 1, 0}, {1, 0, 0, 0, 0, 1}};
    for (int i = 0; i < 6; i++) {
        for (int k = 0; k < 6; k++) {
            assert_int_equal(mr_fingerprint_equal(batch->fps[i], batch->fps[k]), same[i][k]);
        }
    }
    struct mr_bytes parts[2] = {MR_BYTES("a"), MR_BYTES("bc")};
    assert_true(mr_fingerprint_equal(batch->fps[0], mr_decode_fingerprint(schema, parts, 2)));
    parts[0] = mr_bytes_of(NULL, 0);
    assert_true(mr_fingerprint_equal(batch->fps[2], mr_decode_fingerprint(schema, parts, 2)));
    assert_int_equal(reject_of(batch, 6), MR_REJECT_MISSING_ID);
    assert_int_equal(reject_of(batch, 7), MR_REJECT_BAD_ID);
    assert_int_equal(reject_of(batch, 8), MR_REJECT_MISSING_ID);
    assert_int_equal(reject_of(batch, 9), MR_REJECT_BAD_ID);
    mr_batch_close(batch);
    /* An id longer than any event's must be looked up without harm, and is another id. */
    char longer[MR_ID_LEN_MAX + 2];
    memset(longer, 'x', sizeof longer);
    parts[0] = mr_bytes_of(longer, MR_ID_LEN_MAX + 1);
    parts[1] = mr_bytes_of(longer, MR_ID_LEN_MAX + 2);
    struct mr_fingerprint a = mr_decode_fingerprint(schema, parts, 2);
    parts[1].len--;
    assert_false(mr_fingerprint_equal(a, mr_decode_fingerprint(schema, parts, 2)));
    mr_schema_close(schema);
}

static void accepts_missing_ids(void **state) {
    struct env *env = *state;
    struct mr_schema_options options = usual_options();
    options.missing_id = MR_MISSING_ACCEPT;
    struct mr_schema *schema = open_schema(&options);
    struct mr_batch *batch =
        decode_as(env, schema, MR_FORMAT_NDJSON,
                  "{\"id\":1}\n{}\n{\"id\":null}\nx\n{\"id\":\"\"}\n{\"id\":2}");
    static const bool has[] = {true, false, false, false, false, true};
    assert_int_equal(batch->order_count, 4);
    assert_memory_equal(batch->has_id, has, sizeof has);
    mr_batch_close(batch);
    batch = decode_as(env, schema, MR_FORMAT_NDJSON, "{\"id\":1}\nx\n{\"id\":2}");
    assert_null(batch->has_id);
    mr_batch_close(batch);
    options.id_parts = 0;
    mr_schema_close(schema);
    schema = open_schema(&options);
    struct mr_buf body; /* equal events spread over the shards */
    mr_buf_init(&body, 1 << 16);
    for (int i = 0; i < 300; i++) {
        mr_buf_append_text(&body, "{}\n");
    }
    assert_int_equal(
        decode_all(&env->variants, schema, MR_FORMAT_NDJSON, mr_buf_bytes(&body), &batch, NULL),
        MR_OK);
    assert_int_equal(batch->order_count, 300);
    assert_false(batch->has_id[0] || batch->has_id[299]);
    for (uint32_t s = 0; s < 3; s++) {
        assert_in_range(batch->shard_start[s + 1] - batch->shard_start[s], 50, 200);
    }
    mr_batch_close(batch);
    mr_buf_finish(&body);
    mr_schema_close(schema);
}

#define BAD INT64_MAX

static void reads_times(void **state) {
    static const struct {
        enum mr_time_format format;
        const char *value;
        int64_t ms;
    } cases[] = {
        {MR_TIME_MS, "1700000000123", 1700000000123},
        {MR_TIME_MS, "\"1700000000123\"", 1700000000123},
        {MR_TIME_MS, "1700000000123.999", 1700000000123},
        {MR_TIME_MS, "1.700000000123e12", 1700000000123},
        {MR_TIME_MS, "1700000000123000e-3", 1700000000123},
        {MR_TIME_MS, "946684799999", BAD},
        {MR_TIME_MS, "946684799999.9999999999999999999999", BAD},
        {MR_TIME_MS, "946684800000", 946684800000},
        {MR_TIME_MS, "4102444799999", 4102444799999},
        {MR_TIME_MS, "4102444800000", BAD},
        {MR_TIME_MS, "4102444799999.99999999999999999999", 4102444799999},
        {MR_TIME_MS, "-1700000000123", BAD},
        {MR_TIME_MS, "0", BAD},
        {MR_TIME_MS, "1e999", BAD},
        {MR_TIME_MS, "99999999999999999999999999", BAD},
        {MR_TIME_MS, "\"01700000000123\"", BAD},
        {MR_TIME_MS, "\" 1700000000123\"", BAD},
        {MR_TIME_MS, "\"\"", BAD},
        {MR_TIME_MS, "\"1700000000123 \"", BAD},
        {MR_TIME_MS, "\"+1700000000123\"", BAD},
        {MR_TIME_MS, "[]", BAD},
        {MR_TIME_MS, "\"17000000001\\u00323\"", 1700000000123},
        {MR_TIME_MS, "\"2023-11-14T22:13:20.123Z\"", 1700000000123},
        {MR_TIME_MS, "\"2023-11-14T23:13:20.1239+01:00\"", 1700000000123},
        {MR_TIME_MS, "\"2023-11-14\"", BAD},
        {MR_TIME_MS, "null", MR_TIME_ARRIVAL},
        {MR_TIME_MS, "false", BAD},
        {MR_TIME_S, "1700000000", 1700000000000},
        {MR_TIME_S, "1700000000.1239", 1700000000123},
        {MR_TIME_S, "1700000000.12399999999999999999999", 1700000000123},
        {MR_TIME_S, "1.7e9", 1700000000000},
        {MR_TIME_S, "\"1700000000.5\"", 1700000000500},
        {MR_TIME_S, "1700000000123", BAD},
        {MR_TIME_S, "946684800", 946684800000},
        {MR_TIME_S, "946684799.999", BAD},
        {MR_TIME_S, "4102444799", 4102444799000},
        {MR_TIME_S, "4102444800", BAD},
        {MR_TIME_US, "1700000000123999", 1700000000123},
        {MR_TIME_US, "1700000000123", BAD},
        {MR_TIME_US, "\"1700000000123999.9\"", 1700000000123},
        {MR_TIME_NS, "1700000000123999999", 1700000000123},
        {MR_TIME_NS, "\"1700000000123999999\"", 1700000000123},
        {MR_TIME_NS, "4102444799999999999", 4102444799999},
        {MR_TIME_NS, "4102444800000000000", BAD},
        {MR_TIME_NS, "18446744073709551615", BAD},
        {MR_TIME_NS, "1.7e18", 1700000000000},
        {MR_TIME_RFC3339, "1700000000123", BAD},
        {MR_TIME_RFC3339, "\"1700000000123\"", BAD},
        {MR_TIME_RFC3339, "\"2023-11-14T22:13:20Z\"", 1700000000000},
        {MR_TIME_RFC3339, "null", MR_TIME_ARRIVAL},
        {MR_TIME_RFC3339, "\"2099-12-31T23:59:59.999Z\"", 4102444799999},
        {MR_TIME_RFC3339, "\"2100-01-01T00:00:00Z\"", BAD},
    };
    struct env *env = *state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct mr_schema_options options = usual_options();
        options.time_format = cases[i].format;
        struct mr_schema *schema = open_schema(&options);
        char body[300];
        (void)snprintf(
            body, sizeof body,
            "{\"id\":1,\"time\":%s}\n{\"id\":1,\"time\":%s}\n{\"id\":1,\"time\":%s}", /* fits */
            cases[i].value, cases[i].value, cases[i].value);
        struct mr_batch *batch = decode_as(env, schema, MR_FORMAT_NDJSON, body);
        for (uint32_t k = 0; k < 3; k++) {
            if (reject_of(batch, k) != (cases[i].ms == BAD ? MR_REJECT_BAD_TIME : MR_REJECT_NONE) ||
                (cases[i].ms != BAD && batch->times_ms[k] != cases[i].ms)) {
                fail_msg("%s: %lld", body, (long long)batch->times_ms[k]);
            }
        }
        bool timed = cases[i].ms != BAD && cases[i].ms != MR_TIME_ARRIVAL;
        assert_true(batch->time_max_ms == (timed ? cases[i].ms : INT64_MIN));
        assert_int_equal(batch->arrivals, cases[i].ms == MR_TIME_ARRIVAL ? 3 : 0);
        mr_batch_close(batch);
        mr_schema_close(schema);
    }
}

static void requires_times(void **state) {
    struct env *env = *state;
    struct mr_schema_options options = usual_options();
    options.missing_time = MR_MISSING_REJECT;
    struct mr_schema *schema = open_schema(&options);
    assert_error(env, schema, "{\"id\":1}", MR_REJECT_MISSING_TIME, "/time", "the time is missing");
    assert_error(env, schema, "{\"id\":1,\"time\":null}", MR_REJECT_MISSING_TIME, "/time",
                 "the time is missing");
    options.time_format = MR_TIME_RFC3339;
    mr_schema_close(schema);
    schema = open_schema(&options);
    assert_error(env, schema, "{\"id\":1,\"time\":17}", MR_REJECT_BAD_TIME, "/time",
                 "not RFC 3339; for numbers declare the unit (s, ms, us, ns): 17");
    mr_schema_close(schema);
}

/* One field wanted as id, time, key and number at once. */
static void serves_all_uses_of_a_field(void **state) {
    struct env *env = *state;
    struct mr_schema_options options = usual_options();
    const struct mr_field fields[] = {{MR_BYTES("t"), MR_FIELD_KEY},
                                      {MR_BYTES("t"), MR_FIELD_NUMBER},
                                      {MR_BYTES("t"), MR_FIELD_NUMBER}};
    options.id[0] = MR_BYTES("t");
    options.time = MR_BYTES("t");
    options.fields = fields;
    options.field_count = 3;
    struct mr_schema *schema = open_schema(&options);
    struct mr_batch *batch =
        decode_as(env, schema, MR_FORMAT_NDJSON, "{\"t\":1700000000123}\n{\"t\":1700000000123}");
    struct mr_bytes id = MR_BYTES("1700000000123");
    for (uint32_t i = 0; i < 2; i++) {
        assert_int_equal(reject_of(batch, i), MR_REJECT_NONE);
        assert_true(mr_fingerprint_equal(batch->fps[i], mr_decode_fingerprint(schema, &id, 1)));
        assert_true(batch->times_ms[i] == 1700000000123);
        assert_int_equal(batch->column[0].kinds[i], MR_VALUE_DIGITS);
        assert_true(mr_bytes_equal(mr_batch_text(batch, batch->column[0].values[i]), id));
        assert_true(batch->column[1].values[i].i == 1700000000123 &&
                    batch->column[2].values[i].i == 1700000000123);
    }
    mr_batch_close(batch);
    mr_schema_close(schema);
}

static void requires_cloudevents_attributes(void **state) {
    struct env *env = *state;
    struct mr_schema_options options = usual_options();
    options.cloudevents = true;
    options.id[0] = MR_BYTES("source");
    options.id[1] = MR_BYTES("id");
    options.id_parts = 2;
    struct mr_schema *schema = open_schema(&options);
    struct mr_batch *batch = decode_as(env, schema, MR_FORMAT_NDJSON,
                                       "{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/"
                                       "s\",\"type\":\"t\"}\n{\"specversion\":\"\\u0031.0\",\"id\":"
                                       "\"1\",\"source\":\"/s\",\"type\":\"t\"}");
    assert_int_equal(batch->order_count, 2);
    mr_batch_close(batch);
    assert_error(env, schema, "{\"id\":\"1\",\"source\":\"/s\",\"type\":\"t\"}",
                 MR_REJECT_BAD_CLOUDEVENT, "/specversion", "the attribute is missing");
    assert_error(env, schema,
                 "{\"specversion\":\"0.3\",\"id\":\"1\",\"source\":\"/s\",\"type\":\"t\"}",
                 MR_REJECT_BAD_CLOUDEVENT, "/specversion", "specversion is not \"1.0\": \"0.3\"");
    assert_error(env, schema, "{\"specversion\":1.0,\"id\":\"1\",\"source\":\"/s\",\"type\":\"t\"}",
                 MR_REJECT_BAD_CLOUDEVENT, "/specversion", "not a string: 1.0");
    assert_error(env, schema,
                 "{\"specversion\":\"1.0\",\"id\":\"\",\"source\":\"/s\",\"type\":\"t\"}",
                 MR_REJECT_BAD_CLOUDEVENT, "/id", "empty: \"\"");
    assert_error(env, schema, "{\"specversion\":\"1.0\",\"id\":7,\"source\":\"/s\",\"type\":\"t\"}",
                 MR_REJECT_BAD_CLOUDEVENT, "/id", "not a string: 7");
    assert_error(env, schema,
                 "{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":null,\"type\":\"t\"}",
                 MR_REJECT_BAD_CLOUDEVENT, "/source", "not a string: null");
    assert_error(env, schema, "{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/s\"}",
                 MR_REJECT_BAD_CLOUDEVENT, "/type", "the attribute is missing");
    mr_schema_close(schema);
}

static void limits_events(void **state) {
    struct env *env = *state;
    struct mr_schema_options options = usual_options();
    options.events_max = 3;
    options.event_bytes_max = 20;
    struct mr_schema *schema = open_schema(&options);
    static const char *const too_many[] = {"{\"id\":1}\n{\"id\":2}\nx\n{\"id\":4}", "[1,2,3,4]",
                                           "[1,2,3"};
    for (int i = 0; i < 3; i++) {
        struct mr_batch *batch;
        struct mr_error error;
        assert_int_equal(decode_all(&env->variants, schema, MR_FORMAT_AUTO,
                                    mr_bytes_text(too_many[i]), &batch, &error),
                         MR_LIMIT);
        assert_string_equal(error.text, "more than 3 events in one request");
    }
    struct mr_batch *batch =
        decode_as(env, schema, MR_FORMAT_NDJSON,
                  "\n  {\"id\":1,\"x\":\"123456\"}  \n\n{\"id\":2,\"x\":\"12345\"}\n   "
                  "{\"id\":2,xxxxxxxxxxxxxx\n\n");
    assert_int_equal(reject_of(batch, 0), MR_REJECT_TOO_LONG);
    assert_string_equal(batch->errors[0].detail, "21 bytes, the limit of one event is 20");
    assert_int_equal(reject_of(batch, 2), MR_REJECT_TOO_LONG);
    assert_int_equal(batch->spans[0].len, 21);
    assert_int_equal(reject_of(batch, 1), MR_REJECT_NONE);
    mr_batch_close(batch);
    assert_verdicts(env, MR_FORMAT_NDJSON, "{\"id\":1}", MR_FORMAT_NDJSON, "-");
    mr_schema_close(schema);
}

/* Batches begin with room for as many events as are guessed: growing must keep all that was there. */
static void grows(void **state) {
    struct env *env = *state;
    struct mr_buf lines;
    struct mr_buf array;
    mr_buf_init(&lines, 1 << 20);
    mr_buf_init(&array, 1 << 20);
    for (int i = 0; i < 3000; i++) {
        mr_buf_printf(&lines, "{\"id\":%d,\"k\":\"\\u0061%d\"}\n", i, i);
        mr_buf_printf(&array, "%s{\"id\":%d,\"k\":\"\\u0061%d\"}", i > 0 ? "," : "[", i, i);
    }
    mr_buf_append_text(&array, "]");
    struct mr_batch *a;
    struct mr_batch *b;
    assert_int_equal(
        decode_all(&env->variants, env->schema, MR_FORMAT_AUTO, mr_buf_bytes(&lines), &a, NULL),
        MR_OK);
    assert_int_equal(
        decode_all(&env->variants, env->schema, MR_FORMAT_AUTO, mr_buf_bytes(&array), &b, NULL),
        MR_OK);
    assert_int_equal(a->count, 3000);
    assert_int_equal(b->count, 3000);
    assert_true(a->capacity <= 6000 && b->capacity <= 6000);
    assert_memory_equal(a->fps, b->fps, 3000 * sizeof *a->fps);
    assert_true(mr_batch_bytes(a) > lines.len + 3000 * 37);
    for (uint32_t i = 0; i < 3000; i += 123) {
        char text[16];
        (void)snprintf(text, sizeof text, "a%u", i); /* fits */
        assert_true(mr_bytes_equal(mr_batch_text(a, a->column[0].values[i]), mr_bytes_text(text)));
        assert_true(mr_bytes_equal(mr_batch_text(b, b->column[0].values[i]), mr_bytes_text(text)));
    }
    mr_batch_close(a);
    mr_batch_close(b);
    mr_buf_finish(&lines);
    mr_buf_finish(&array);
}

/* Fails the n-th allocation for every n: MR_NO_MEMORY, the body stays the caller's, nothing leaks.
 */
static void survives_no_memory(void **state) {
    static const char body_text[] =
        "[{\"id\":\"\\u0061\",\"k\":\"\\n\"},{},{},{},{},{},{},{\"id\":2}]";
    struct env *env = *state;
    for (size_t nth = 1;; nth++) {
        struct mr_buf body;
        struct mr_batch *batch = NULL;
        mr_buf_init(&body, 4096);
        mr_buf_append(&body, body_text, sizeof body_text - 1);
        assert_non_null(mr_buf_reserve(&body, MR_PADDING));
        mr_alloc_fail_at(nth, 0);
        enum mr_status status =
            mr_decode(env->variants.decoder[0], env->schema, MR_FORMAT_AUTO, &body, &batch, NULL);
        mr_alloc_fail_at(0, 0);
        if (status == MR_OK) {
            assert_int_equal(batch->count, 8);
            assert_int_equal(body.cap, 0);
            assert_true(nth > 5); /* batch, block, texts, errors, growth */
            mr_batch_close(batch);
            break;
        }
        assert_int_equal(status, MR_NO_MEMORY);
        assert_int_equal(body.len, sizeof body_text - 1);
        mr_buf_finish(&body);
    }
    for (size_t nth = 1; nth < 3; nth++) {
        struct mr_decoder *decoder = NULL;
        struct mr_schema *schema = NULL;
        struct mr_schema_options options = usual_options();
        mr_alloc_fail_at(nth, 0);
        assert_int_equal(mr_schema_open(&options, &schema, NULL), MR_NO_MEMORY);
        mr_alloc_fail_at(1, 0);
        assert_int_equal(mr_decoder_open(MR_DECODE_AUTO, &decoder), MR_NO_MEMORY);
        mr_alloc_fail_at(nth, 0);
        assert_int_equal(mr_json_value_check(MR_BYTES("{}"), NULL), MR_NO_MEMORY);
        mr_alloc_fail_at(0, 0);
    }
}

/* Schemas, formats and shapes taking turns: more than there is room for. */
static void keeps_shapes_apart(void **state) {
    struct env *env = *state;
    static const char *const names[] = {"a", "b", "c", "d", "e", "x.y"};
    struct mr_schema *schemas[6];
    struct mr_field field = {.use = MR_FIELD_NUMBER};
    for (int i = 0; i < 6; i++) {
        struct mr_schema_options options = usual_options();
        field.path = mr_bytes_text(names[i]);
        options.fields = &field;
        options.field_count = 1;
        schemas[i] = open_schema(&options);
    }
    static const char body[] =
        "{\"id\":1,\"a\":10,\"b\":11,\"c\":12,\"d\":13,\"e\":14,\"x\":{\"y\":15}}\n";
    static const char wide[] =
        "{\n\"id\":1,\n\"a\":10,\"b\":11,\"c\":12,\"d\":13,\"e\":14,\"x\":{\n\"y\":15}}\n";
    for (int round = 0; round < 40; round++) {
        int i = round * 5 % 7 % 6;
        struct mr_batch *batch =
            decode_as(env, schemas[i], round % 3 == 0 ? MR_FORMAT_NDJSON : MR_FORMAT_AUTO, body);
        assert_true(batch->column[0].values[0].i == 10 + i);
        mr_batch_close(batch);
        batch = decode_as(env, schemas[i], MR_FORMAT_OBJECT, wide);
        assert_true(batch->column[0].values[0].i == 10 + i);
        mr_batch_close(batch);
        batch =
            decode_as(env, schemas[i], MR_FORMAT_NDJSON, wide); /* its gaps must not match here */
        assert_int_equal(batch->rejected, 4);
        mr_batch_close(batch);
    }
    for (int i = 0; i < 6; i++) {
        mr_schema_close(schemas[i]);
    }
}

/* Events with more members, longer gaps and more used names than a shape can hold. */
static void outgrows_shapes(void **state) {
    struct env *env = *state;
    struct mr_buf body;
    mr_buf_init(&body, 1 << 22);
    for (int i = 0; i < 40; i++) {
        mr_buf_printf(&body, "{\"id\":%d", i);
        for (int k = 0; k < 150; k++) {
            mr_buf_printf(&body, ",%*s\"unused_%d\":%d", i / 4 * 7, "", k, k);
        }
        mr_buf_printf(&body, ",%*s\"n\":%d,\"k\":\"v%d\"}\n", i * 10, "", i, i);
    }
    struct mr_batch *batch;
    assert_int_equal(decode_all(&env->variants, env->schema, MR_FORMAT_NDJSON, mr_buf_bytes(&body),
                                &batch, NULL),
                     MR_OK);
    assert_int_equal(batch->order_count, 40);
    for (uint32_t i = 0; i < 40; i++) {
        assert_true(batch->column[1].values[i].i == (int64_t)i);
    }
    mr_batch_close(batch);
    mr_buf_finish(&body);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tells_formats),
        cmocka_unit_test(refuses_whole_bodies),
        cmocka_unit_test(counts_lines),
        cmocka_unit_test(explains_errors),
        cmocka_unit_test(cuts_details),
        cmocka_unit_test(bounds_the_errors_list),
        cmocka_unit_test(makes_ids),
        cmocka_unit_test(bounds_ids_and_keys),
        cmocka_unit_test(makes_ids_of_parts),
        cmocka_unit_test(accepts_missing_ids),
        cmocka_unit_test(reads_times),
        cmocka_unit_test(requires_times),
        cmocka_unit_test(serves_all_uses_of_a_field),
        cmocka_unit_test(requires_cloudevents_attributes),
        cmocka_unit_test(limits_events),
        cmocka_unit_test(grows),
        cmocka_unit_test(survives_no_memory),
        cmocka_unit_test(keeps_shapes_apart),
        cmocka_unit_test(outgrows_shapes),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
