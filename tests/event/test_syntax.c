/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that the decoder takes exactly the texts of RFC 8259 (UTF-8, no lone surrogates, 32
 * levels), wherever in an event they stand:
 *   1. tables of values that must be accepted and refused, each as the whole body, as an unused and
 * as a used value, as an id, a time, an inner node, deep inside others, behind an event of the same
 * shape and before one, on every code path with prediction on and off;
 *   2. every context is also judged by the reference reader;
 *   3. a long valid event, cut at every byte and changed at every byte, against the reference;
 *   4. names with escapes; depth on both sides of the limit.
 */
#include "help.h"
#include "reference.h"

#define T(literal)                                                                                 \
    { (const uint8_t *)(literal), sizeof(literal) - 1 }

static const struct mr_bytes must_accept[] = {
    /* literals, white space */
    T("null"),
    T("true"),
    T("false"),
    T(" true"),
    T("true "),
    T("\t\r null\t\r "),
    T("  1  "),
    T(" \t \t  \r                                     7"),
    /* numbers */
    T("0"),
    T("-0"),
    T("1"),
    T("-1"),
    T("10"),
    T("123456789"),
    T("12345678"),
    T("1234567"),
    T("1234567890123456"),
    T("12345678901234567"),
    T("-123"),
    T("0.0"),
    T("-0.0"),
    T("0.5"),
    T("1.5"),
    T("0.12345678"),
    T("0.123456789"),
    T("1e1"),
    T("1E1"),
    T("1e+1"),
    T("1e-1"),
    T("1E+22"),
    T("1E-22"),
    T("0e0"),
    T("0e+1"),
    T("0E-1"),
    T("1.5e10"),
    T("1.5E-10"),
    T("1e00"),
    T("1e001"),
    T("-1e-0"),
    T("123.456e78"),
    T("-0e-10"),
    T("9223372036854775807"),
    T("9223372036854775808"),
    T("-9223372036854775808"),
    T("-9223372036854775809"),
    T("18446744073709551616"),
    T("100000000000000000000000000000000000000000000000000000000000000000000000000000000000"),
    T("0.000000000000000000000000000000000000000000000000000000000000000000000000000000001"),
    T("1e400"),
    T("-1e400"),
    T("1e-400"),
    T("0e999999999999999999999"),
    T("1e999999999999999999999"),
    T("1.7976931348623157e308"),
    T("4.9e-324"),
    T("20e1"),
    T("123123e100000"),
    T("-1.0"),
    /* strings */
    T("\"\""),
    T("\"a\""),
    T("\"abc def\""),
    T("\"1234567\""),
    T("\"12345678\""),
    T("\"123456789\""),
    T("\"0123456789abcdef0123456789abcde\""),
    T("\"0123456789abcdef0123456789abcdef\""),
    T("\"0123456789abcdef0123456789abcdef0\""),
    T("\" \""),
    T("\"/\""),
    T("\"\x7f\""),
    T("\"'\""),
    T("\"{}[],:\""),
    T("\"null\""),
    T("\"# // /* */\""),
    T("\"0123456789012345678901234567890123456789012345678901234567890123456789\""),
    /* escapes */
    T("\"\\\"\""),
    T("\"\\\\\""),
    T("\"\\/\""),
    T("\"\\b\\f\\n\\r\\t\""),
    T("\"\\u0041\""),
    T("\"\\u0000\""),
    T("\"\\u001f\""),
    T("\"\\u00e9\""),
    T("\"\\u20AC\""),
    T("\"\\uFFFF\""),
    T("\"\\uffff\""),
    T("\"\\uFFFE\""),
    T("\"\\uD83D\\uDE00\""),
    T("\"\\ud83d\\ude00\""),
    T("\"\\uDBFF\\uDFFF\""),
    T("\"\\uD800\\uDC00\""),
    T("\"a\\uD801\\uDC37b\""),
    T("\"\\u0060\\u012a\\u12AB\""),
    T("\"\\\\u0000\""),
    T("\"\\\\\\\"\""),
    T("\"\\\\a\""),
    T("\"\\u2028\\u2029\""),
    T("\"\\uD834\\uDD1E\\u0041\""),
    T("\"\\u0022\""),
    T("\"\\u005C\""),
    T("\"0123456789abcdef0123456789abcdef\\n0123456789abcdef0123456789abcdef\""),
    T("\"0123456789abcde\\\"0123456789abcdef\\\"\""),
    T("\"\\uE000\""),
    T("\"\\uD7FF\""),
    /* UTF-8 */
    T("\"\xC2\x80\""),
    T("\"\xDF\xBF\""),
    T("\"\xE0\xA0\x80\""),
    T("\"\xED\x9F\xBF\""),
    T("\"\xEE\x80\x80\""),
    T("\"\xEF\xBF\xBF\""),
    T("\"\xEF\xBF\xBE\""),
    T("\"\xEF\xBB\xBF\""),
    T("\"\xF0\x90\x80\x80\""),
    T("\"\xF4\x8F\xBF\xBF\""),
    T("\"\xE2\x82\xAC\xE2\x82\xAC\""),
    T("\"\xCF\x80\""),
    T("\"\xF0\x9F\x98\x80 ok\""),
    T("\"\xE2\x80\xA8\xE2\x80\xA9\""),
    T("\"0123456789012345678901234567890\xC3\xA9\""),
    T("\"012345678901234567890123456789\xE2\x82\xAC\""),
    T("\"\xF1\x80\x80\x80\xF3\xBF\xBF\xBF\""),
    /* arrays */
    T("[]"),
    T("[ ]"),
    T("[1]"),
    T("[1,2]"),
    T("[ 1 , 2 ]"),
    T("[[]]"),
    T("[[],[]]"),
    T("[[[[[]]]]]"),
    T("[\"\"]"),
    T("[\"a\"]"),
    T("[null,1,\"1\",{}]"),
    T("[1,null,null,null,2]"),
    T("[true]"),
    T("[1\t]"),
    T("[-0]"),
    T("[-1]"),
    T("[1E22]"),
    T("[0e1]"),
    T("[123e65]"),
    T("[{}]"),
    T("[false]"),
    /* objects */
    T("{}"),
    T("{ }"),
    T("{\"a\":1}"),
    T("{\"a\":1,\"b\":2}"),
    T("{ \"a\" : 1 , \"b\" : 2 }"),
    T("{\"a\":[]}"),
    T("{\"a\":{}}"),
    T("{\"\":0}"),
    T("{\"a\":1,\"a\":1}"),
    T("{\"a\":1,\"a\":2}"),
    T("{\"a\\u0000b\":1}"),
    T("{\"\\u0061\":1}"),
    T("{\"a\":{\"b\":{\"c\":[{\"d\":1}]}}}"),
    T("{\"\xC3\xA9\":1}"),
    T("{\"a\":null}"),
    T("{\"min\":-1.0e+28,\"max\":1.0e+28}"),
    T("{\"x\":[{\"id\":\"a\"}],\"id\":\"b\"}"),
    T("{\"id\":{\"id\":{}}}"),
};

static const struct mr_bytes must_refuse[] = {
    /* nothing, literals */
    T(""),
    T(" "),
    T("nul"),
    T("nulll"),
    T("Null"),
    T("NULL"),
    T("tru"),
    T("truee"),
    T("True"),
    T("fals"),
    T("falsee"),
    T("FALSE"),
    T("nil"),
    T("undefined"),
    T("n"),
    T("t"),
    T("f"),
    T("none"),
    T("null0"),
    T("true1"),
    T("nan"),
    T("NaN"),
    T("-NaN"),
    T("Infinity"),
    T("-Infinity"),
    T("+Infinity"),
    T("inf"),
    T("-inf"),
    T("abc"),
    T("*"),
    T("a"),
    T("'a'"),
    T("`a`"),
    T("\\"),
    T("\\u0041"),
    T("$"),
    T("(1)"),
    T("<null>"),
    T("@"),
    T("."),
    /* numbers */
    T("-"),
    T("+"),
    T("+1"),
    T("++1"),
    T("--1"),
    T("-a"),
    T("- 1"),
    T("01"),
    T("-01"),
    T("00"),
    T("-00"),
    T("012"),
    T("0123456789"),
    T("1."),
    T("0."),
    T("-0."),
    T("-1."),
    T(".5"),
    T("-.5"),
    T("1.e1"),
    T("0.e1"),
    T(".e1"),
    T("1e"),
    T("1E"),
    T("1e+"),
    T("1e-"),
    T("1e "),
    T("0e"),
    T("0E+"),
    T("1.0e"),
    T("1.0e+"),
    T("1.0e-"),
    T("1ee1"),
    T("1e1e1"),
    T("1e1.5"),
    T("1e+-1"),
    T("1.5.5"),
    T("1..5"),
    T("1,5"),
    T("1 000"),
    T("1_000"),
    T("0x1"),
    T("0x"),
    T("0x42"),
    T("0b1"),
    T("0o7"),
    T("1a"),
    T("1e1a"),
    T("12e"),
    T("1-1"),
    T("1+2"),
    T("1f"),
    T("1L"),
    T("1/2"),
    T("-1x"),
    T("2.e3"),
    T("2.e-3"),
    T("2.e+3"),
    T("9.e+"),
    T("0.1.2"),
    T("0.3e"),
    T("0.3e+"),
    T("0e+-1"),
    T("1eE2"),
    T("\xEF\xBC\x91"),
    T("1\xEF\xBC\x91"),
    T("-foo"),
    T("-2."),
    T("1:2"),
    T("1 2"),
    T("1\xE5"),
    T("123\x00"),
    T("1e1\xE5"),
    T("0\xE5"),
    T("12345678x"),
    T("1234567812345678x"),
    T("1;"),
    T("1}"),
    T("1]"),
    /* strings */
    T("\""),
    T("\"a"),
    T("a\""),
    T("\"a\"b"),
    T("\"a\"\"b\""),
    T("\"a\" \"b\""),
    T("'"),
    T("'a\""),
    T("\"a'"),
    T("\"\n\""),
    T("\"\r\""),
    T("\"\t\""),
    T("\"\x00\""),
    T("\"\x01\""),
    T("\"\x1f\""),
    T("\"a\x00z\""),
    T("\"0123456789abcdef0123456789abcdef\x1f\""),
    T("\"0123456789abcdef0123456789abcdef"),
    T("\"0123456789abcdef0123456789abcdef\n\""),
    T("\"\x08\""),
    T("\"\x0c\""),
    T("\"x\""
      "x"),
    /* escapes */
    T("\"\\"),
    T("\"\\\""),
    T("\"\\x41\""),
    T("\"\\a\""),
    T("\"\\v\""),
    T("\"\\0\""),
    T("\"\\'\""),
    T("\"\\ \""),
    T("\"\\\n\""),
    T("\"\\U0041\""),
    T("\"\\u\""),
    T("\"\\u0\""),
    T("\"\\u00\""),
    T("\"\\u004\""),
    T("\"\\u004g\""),
    T("\"\\u 041\""),
    T("\"\\u+041\""),
    T("\"\\u-041\""),
    T("\"\\u00A"),
    T("\"\\u004"),
    T("\"\\u"),
    T("\"\\u{41}\""),
    T("\"\\\x00\""),
    T("\"\\\xF0\x9F\x98\x80\""),
    T("\"\\\\\\\""),
    T("\"\\\t\""),
    T("\"\\uqqqq\""),
    T("\"\\B\""),
    T("\"\\N\""),
    T("\"\\e\""),
    T("\"\\u00\xC3\xA9\""),
    T("\"\\\xE5\""),
    T("\"\\u\xE5\""),
    /* surrogates */
    T("\"\\uD800\""),
    T("\"\\uDBFF\""),
    T("\"\\uDC00\""),
    T("\"\\uDFFF\""),
    T("\"\\uD800\\n\""),
    T("\"\\uD800a\""),
    T("\"\\uD800\\u0041\""),
    T("\"\\uD800\\uD800\""),
    T("\"\\uD800\\uDBFF\""),
    T("\"\\uDC00\\uD800\""),
    T("\"\\uD800\\\""),
    T("\"\\uD800\\u\""),
    T("\"\\uD800\\uDC0\""),
    T("\"\\uD800\\u1x\""),
    T("\"\\uD800\\\\uDC00\""),
    T("\"\\uD800\\uE000\""),
    T("\"\\uDADA\""),
    T("\"\\uD888\\u1234\""),
    T("\"\\ud83d\""),
    T("\"a\\ude00\""),
    T("\"\\uD83D\\uDE00\\uD83D\""),
    T("\"\\uD800\\uDC00\\uDC00\""),
    T("\"\\uD834\\uDd\""),
    /* UTF-8 */
    T("\"\x80\""),
    T("\"\xBF\""),
    T("\"\xC0\x80\""),
    T("\"\xC1\xBF\""),
    T("\"\xC0\xAF\""),
    T("\"\xC2\""),
    T("\"\xC2 \""),
    T("\"\xE0\x80\x80\""),
    T("\"\xE0\x9F\xBF\""),
    T("\"\xE2\x82\""),
    T("\"\xE2\""),
    T("\"\xE2\x28\xA1\""),
    T("\"\xE2\x82\x28\""),
    T("\"\xED\xA0\x80\""),
    T("\"\xED\xBF\xBF\""),
    T("\"\xED\xA0\x81\xED\xB0\x80\""),
    T("\"\xF0\x80\x80\x80\""),
    T("\"\xF0\x8F\xBF\xBF\""),
    T("\"\xF4\x90\x80\x80\""),
    T("\"\xF5\x80\x80\x80\""),
    T("\"\xF8\x88\x80\x80\x80\""),
    T("\"\xFC\x84\x80\x80\x80\x80\""),
    T("\"\xFE\""),
    T("\"\xFF\""),
    T("\"\xF0\x9F\x98\""),
    T("\"\xF0\x9F\""),
    T("\"\xF0\""),
    T("\"a\xFF"
      "b\""),
    T("\"\xE9\""),
    T("\"\xE6\x97\xA5\xD1\x88\xFA\""),
    T("\"0123456789abcdef0123456789abcde\xC3\""),
    T("\"0123456789abcdef0123456789abcdef\xE2\x82\""),
    T("\"\xC3\xA9\xC3\""),
    T("\"\xC3"),
    T("\xC3\xA9"),
    T("\xFF"),
    T("\xE5"),
    T("\xEF\xBB\xBF"
      "1"),
    T("\xEF\xBB"),
    T("\xF0\x9F\x98\x80"),
    T("\"\xF4\xBF\xBF\xBF\""),
    T("\"\xF0\x28\x8C\xBC\""),
    /* arrays */
    T("["),
    T("]"),
    T("[["),
    T("[]]"),
    T("[1"),
    T("[1,"),
    T("[1,]"),
    T("[,1]"),
    T("[,]"),
    T("[1,,2]"),
    T("[1 2]"),
    T("[1;2]"),
    T("[1:2]"),
    T("[\"a\":1]"),
    T("[\"\":1]"),
    T("[x]"),
    T("[x"),
    T("[1]x"),
    T("[1}"),
    T("[(1)]"),
    T("[\"a\",4"),
    T("[1,2,3,"),
    T("[*]"),
    T("[true"),
    T("[tru]"),
    T("[-]"),
    T("[\"a"),
    T("[\"a\""),
    T("[1,\v2]"),
    T("[\"a\"\f]"),
    T("[\xC2\xA0]"),
    T("[\xE2\x81\xA0]"),
    T("[][]"),
    T("[,"),
    T("[{}"),
    T("[{]"),
    T("[}"),
    T("[,,]"),
    T("[-2.]"),
    T("[<null>]"),
    T("[1,1,"),
    T("[\\n]"),
    T("[\"\t\"]"),
    T("[\x00]"),
    T("[1,]]"),
    T("[\"\",]"),
    /* objects */
    T("{"),
    T("}"),
    T("{}}"),
    T("{{}}"),
    T("{\"a\"}"),
    T("{\"a\":}"),
    T("{\"a\":1"),
    T("{\"a\":1,}"),
    T("{\"a\":1,,}"),
    T("{,}"),
    T("{,\"a\":1}"),
    T("{\"a\":1,,\"b\":2}"),
    T("{\"a\" 1}"),
    T("{\"a\"::1}"),
    T("{\"a\":1:2}"),
    T("{\"a\":1 2}"),
    T("{a:1}"),
    T("{'a':1}"),
    T("{1:1}"),
    T("{null:1}"),
    T("{[]:1}"),
    T("{\"a\",\"b\"}"),
    T("{\"a\":1;\"b\":2}"),
    T("{\"a\":1 \"b\":2}"),
    T("{\"a\":1]"),
    T("{\"a\":[}"),
    T("{\"a\":{]"),
    T("{\"a\":1}x"),
    T("{\"a\":1}}"),
    T("{\"a\":1}{}"),
    T("{\"a\":1}#"),
    T("{\"a\":1}//"),
    T("{\"a\":/**/1}"),
    T("{\"a\":1/*c*/}"),
    T("{\"a"),
    T("{\"a\""),
    T("{\"a\":"),
    T("{\"a\":\"b"),
    T("{\"a\":tru}"),
    T("{\"\\uD800\":1}"),
    T("{\"\xFF\":1}"),
    T("{\"\n\":1}"),
    T("{\"a\":\v1}"),
    T("{\"a\"\x00:1}"),
    T("{\"a\":1,\"b\"}"),
    T("{\"a\":1,b:2}"),
    T("{:1}"),
    T("{1}"),
    T("{\"a\":+1}"),
    T("{\"a\":01}"),
    T("{\"a\":'b'}"),
    T("{\"a\\x\":1}"),
    T("{\"\\u00\":1}"),
    T("{\xF0\x9F\x98\x80}"),
    T("{\"id\":0,,,,,}"),
    T("{\"a\":\"a\" 123}"),
};

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

struct env {
    struct variants variants;
    struct mr_schema *schema;
    struct ref *ref;
    struct mr_buf body;
    struct mr_buf prime;
};

static int setup(void **state) {
    struct env *env = calloc(1, sizeof *env);
    variants_open(&env->variants);
    struct mr_schema_options options = usual_options();
    env->schema = open_schema(&options);
    env->ref = calloc(1, sizeof *env->ref);
    mr_buf_init(&env->body, 1 << 20);
    mr_buf_init(&env->prime, 1 << 20);
    *state = env;
    return 0;
}

static int teardown(void **state) {
    struct env *env = *state;
    variants_close(&env->variants);
    mr_schema_close(env->schema);
    mr_buf_finish(&env->body);
    mr_buf_finish(&env->prime);
    free(env->ref);
    free(env);
    return 0;
}

/* Where a value stands: the text before and behind it. The first has nothing around the value; up
 * to USED_ALONE it must be one value. */
enum { USED_ALONE = 9 };

static const char *const contexts[][2] = {
    {"", ""},
    {"{\"id\":\"1\",\"x\":", "}"},
    {"{\"id\":\"1\",\"k\":", "}"},
    {"{\"id\":\"1\",\"n\":", ",\"k\":\"z\"}"},
    {"{\"id\":\"1\",\"b\":", "}"},
    {"{\"id\":", ",\"x\":[]}"},
    {"{\"id\":\"1\", \"time\" : ", " , \"y\":{}}"},
    {"{\"id\":\"1\",\"d\":", ",\"k\":1}"},
    {"{\"id\":\"1\",\"d\":{\"e\":", "},\"k\":1}"},
    {"{\"id\":\"1\",\"d\":{\"q\":0,\"f\":{\"g\":", "}}}"},
    {"{\"x\":[{\"y\":[[{\"z\":", "}]]}],\"id\":\"1\"}"},
    {"{\"x\":[1,", "],\"id\":\"1\"}"},
    {"{\"id\":\"1\",\"d\":{\"e\":{\"f\":[", "]}}}"},
};

static void put_event(struct mr_buf *buf, size_t context, struct mr_bytes value) {
    mr_buf_clear(buf);
    mr_buf_append_text(buf, contexts[context][0]);
    mr_buf_append_bytes(buf, value);
    mr_buf_append_text(buf, contexts[context][1]);
}

/* The event in env->body, alone: syntax errors exactly where the reference has them. */
static bool accepts(struct env *env, enum mr_format format) {
    struct mr_batch *batch;
    struct mr_bytes body = mr_buf_bytes(&env->body);
    enum mr_status status = decode_all(&env->variants, env->schema, format, body, &batch, NULL);
    if (status == MR_INVALID && body.len >= 3 && memcmp(body.ptr, "\xEF\xBB\xBF", 3) == 0) {
        return false;
    }
    assert_int_equal(status, MR_OK);
    bool accepted = batch->count == 1 && !is_syntax(reject_of(batch, 0));
    mr_batch_close(batch);
    return accepted;
}

/* The event in env->body between two that are well-formed, as lines or as an array. */
static void between_neighbours(struct env *env, enum mr_format format, bool accepted) {
    struct mr_batch *batch;
    struct mr_buf body;
    mr_buf_init(&body, 1 << 20);
    const char *const parts[2][3] = {{"", "\n", ""}, {"[", ",", "]"}};
    const char *const *part = parts[format == MR_FORMAT_ARRAY];
    mr_buf_append_text(&body, part[0]);
    mr_buf_append_bytes(&body, mr_buf_bytes(&env->prime));
    mr_buf_append_text(&body, part[1]);
    mr_buf_append_bytes(&body, mr_buf_bytes(&env->body));
    mr_buf_append_text(&body, part[1]);
    mr_buf_append_bytes(&body, mr_buf_bytes(&env->prime));
    mr_buf_append_text(&body, part[2]);
    enum mr_status status =
        decode_all(&env->variants, env->schema, format, mr_buf_bytes(&body), &batch, NULL);
    assert_int_equal(status, MR_OK);
    if (format == MR_FORMAT_NDJSON) {
        assert_int_equal(batch->count, 3);
        assert_false(is_syntax(reject_of(batch, 2)));
        assert_int_equal(!is_syntax(reject_of(batch, 1)), accepted);
    } else if (accepted) {
        assert_int_equal(batch->count, 3);
    }
    assert_false(is_syntax(reject_of(batch, 0)));
    mr_batch_close(batch);
    mr_buf_finish(&body);
}

static bool blank_or_lines(struct mr_bytes body) {
    bool blank = true;
    for (size_t i = 0; i < body.len; i++) {
        if (body.ptr[i] == '\n') {
            return true;
        }
        blank = blank && (body.ptr[i] == ' ' || body.ptr[i] == '\t' || body.ptr[i] == '\r');
    }
    return blank;
}

/* One value in all contexts; expected: what the table says of the value itself and as a member. */
static void judge(struct env *env, struct mr_bytes value, bool expected) {
    for (size_t c = 0; c < COUNT(contexts); c++) {
        put_event(&env->prime, c, mr_bytes_text("\"7\""));
        put_event(&env->body, c, value);
        struct mr_bytes body = mr_buf_bytes(&env->body);
        bool accepted = ref_parse(env->ref, body) != NULL;
        if (c <= USED_ALONE && accepted != expected) { /* "1,5" is two items of a list */
            fail_msg("the reference is wrong, context %zu: %.*s", c, (int)body.len, body.ptr);
        }
        if (accepts(env, MR_FORMAT_OBJECT) != accepted) {
            fail_msg("context %zu: %.*s", c, (int)body.len, body.ptr);
        }
        if (!blank_or_lines(body)) {
            assert_int_equal(accepts(env, MR_FORMAT_NDJSON), accepted);
            between_neighbours(env, MR_FORMAT_NDJSON, accepted);
        }
        between_neighbours(env, MR_FORMAT_ARRAY, accepted);
        struct mr_error error;
        assert_int_equal(mr_json_value_check(body, &error), accepted ? MR_OK : MR_INVALID);
    }
}

static void accepts_json(void **state) {
    for (size_t i = 0; i < COUNT(must_accept); i++) {
        judge(*state, must_accept[i], true);
    }
}

static void refuses_all_else(void **state) {
    for (size_t i = 0; i < COUNT(must_refuse); i++) {
        judge(*state, must_refuse[i], false);
    }
}

static const char long_event[] = "{\"id\":\"0123456789abcdef0123456789abcdef\",\"time\":"
                                 "1700000000123 , \"k\":\"\xC3\xA9\\u00e9\\n\",\"x\":"
                                 "[1.5e3,{\"y\":[null,true,false,\"\\uD83D\\uDE00\"]},-0.25],\"d\":"
                                 "{\"e\":\"\xF0\x9F\x98\x80\",\"f\":{\"g\":-17}},"
                                 "\"n\":12.345,\"\\u0062\":42}";

/* The well-formed event before makes the prediction hold up to the change. */
static void judge_changed(struct env *env, struct mr_bytes changed) {
    mr_buf_clear(&env->prime);
    mr_buf_append(&env->prime, long_event, sizeof long_event - 1);
    mr_buf_clear(&env->body);
    mr_buf_append_bytes(&env->body, changed);
    bool accepted = ref_parse(env->ref, changed) != NULL;
    if (!blank_or_lines(changed)) {
        between_neighbours(env, MR_FORMAT_NDJSON, accepted);
        assert_int_equal(accepts(env, MR_FORMAT_NDJSON), accepted);
    }
    assert_int_equal(accepts(env, MR_FORMAT_OBJECT), accepted);
}

static void refuses_each_truncation(void **state) {
    struct env *env = *state;
    for (size_t len = 0; len < sizeof long_event; len++) {
        judge_changed(env, mr_bytes_of(long_event, len));
    }
}

static void judges_each_changed_byte(void **state) {
    static const uint8_t values[] = {0,    1,    '\n', '\r', ' ',  '"',  '\\', '/',  ',',
                                     ':',  '{',  '}',  '[',  ']',  '0',  '9',  '-',  '.',
                                     'e',  'u',  'd',  'n',  't',  0x7F, 0x80, 0xA0, 0xBF,
                                     0xC0, 0xC3, 0xE2, 0xED, 0xF0, 0xF4, 0xFF};
    struct env *env = *state;
    char text[sizeof long_event];
    memcpy(text, long_event, sizeof text);
    for (size_t i = 0; i + 1 < sizeof long_event; i++) {
        for (size_t v = 0; v < COUNT(values); v += 1 + (i * 7 + v) % 3) {
            text[i] = (char)values[v];
            judge_changed(env, mr_bytes_of(text, sizeof text - 1));
        }
        text[i] = long_event[i];
    }
}

/* Removes and doubles each byte. */
static void judges_each_shift(void **state) {
    struct env *env = *state;
    size_t len = sizeof long_event - 1;
    char text[sizeof long_event + 1];
    for (size_t i = 0; i < len; i++) {
        memcpy(text, long_event, i);
        memcpy(text + i, long_event + i + 1, len - i - 1);
        judge_changed(env, mr_bytes_of(text, len - 1));
        memcpy(text, long_event, i + 1);
        memcpy(text + i + 1, long_event + i, len - i);
        judge_changed(env, mr_bytes_of(text, len + 1));
    }
}

static void counts_depth(void **state) {
    struct env *env = *state;
    for (int open = 28; open <= 36; open++) {
        for (int kind = 0; kind < 2; kind++) {
            mr_buf_clear(&env->body);
            mr_buf_append_text(&env->body, "{\"id\":\"1\",\"x\":");
            for (int i = 0; i < open; i++) {
                mr_buf_append_text(&env->body, kind == 0 ? "[" : "{\"k\":");
            }
            mr_buf_append_text(&env->body, "1");
            for (int i = 0; i < open; i++) {
                mr_buf_append_text(&env->body, kind == 0 ? "]" : "}");
            }
            mr_buf_append_text(&env->body, "}");
            bool accepted = ref_parse(env->ref, mr_buf_bytes(&env->body)) != NULL;
            assert_int_equal(accepted, open + 1 <= MR_JSON_DEPTH_MAX);
            assert_int_equal(accepts(env, MR_FORMAT_OBJECT), accepted);
            struct mr_batch *batch;
            assert_int_equal(decode_all(&env->variants, env->schema, MR_FORMAT_NDJSON,
                                        mr_buf_bytes(&env->body), &batch, NULL),
                             MR_OK);
            assert_int_equal(reject_of(batch, 0), accepted ? MR_REJECT_NONE : MR_REJECT_TOO_DEEP);
            mr_batch_close(batch);
        }
    }
}

/* Names mean what they say without their escapes, and count as twice with and without. */
static void compares_names_unescaped(void **state) {
    static const struct {
        const char *body;
        enum mr_reject reject;
    } cases[] = {
        {"{\"\\u0069d\":\"1\"}", MR_REJECT_NONE},
        {"{\"\\u0069\\u0064\":\"1\"}", MR_REJECT_NONE},
        {"{\"\\u0049d\":\"1\"}", MR_REJECT_MISSING_ID},
        {"{\"id\":\"1\",\"\\u0069d\":\"1\"}", MR_REJECT_DUPLICATE_NAME},
        {"{\"\\u0069d\":\"1\",\"i\\u0064\":\"1\"}", MR_REJECT_DUPLICATE_NAME},
        {"{\"id\":\"1\",\"d\":{},\"\\u0064\":1}", MR_REJECT_DUPLICATE_NAME},
        {"{\"id\":\"1\",\"d\":1,\"d\":{\"e\":1}}", MR_REJECT_DUPLICATE_NAME},
        {"{\"id\":\"1\",\"d\":{\"e\":1,\"\\u0065\":2}}", MR_REJECT_DUPLICATE_NAME},
        {"{\"id\":\"1\",\"d\":{\"x\":1,\"x\":2}}", MR_REJECT_NONE},
        {"{\"id\":\"1\",\"x\":1,\"\\u0078\":2}", MR_REJECT_NONE},
        {"{\"id\":\"1\",\"d\":{\"id\":\"2\"}}", MR_REJECT_NONE},
        {"{\"id\":\"1\",\"d.e\":1,\"d\":{\"e\":1}}", MR_REJECT_NONE},
        {"{\"id\\u0000\":\"1\"}", MR_REJECT_MISSING_ID},
    };
    struct env *env = *state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        for (int again = 0; again < 2; again++) { /* the second time it is predicted */
            struct mr_batch *batch;
            assert_int_equal(decode_all(&env->variants, env->schema, MR_FORMAT_AUTO,
                                        mr_bytes_text(cases[i].body), &batch, NULL),
                             MR_OK);
            assert_int_equal(reject_of(batch, 0), cases[i].reject);
            mr_batch_close(batch);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accepts_json),
        cmocka_unit_test(refuses_all_else),
        cmocka_unit_test(refuses_each_truncation),
        cmocka_unit_test(judges_each_changed_byte),
        cmocka_unit_test(judges_each_shift),
        cmocka_unit_test(counts_depth),
        cmocka_unit_test(compares_names_unescaped),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
