/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves what docs/EXPRESSIONS.md says: each operator and function on values of all kinds, precedence,
 * nulls, exact numbers, and that bad texts are refused with their position. Values are written as
 * JSON; `missing` and `other` stand for themselves.
 */
#include "help.h"

#include "base/json.h"
#include "event/expr.h"

#include <math.h>

enum { COLUMNS = 16, ROWS = 4 };

/* Fields by name, and what they hold in each of four events. */
static const struct {
    const char *path;
    const char *values[ROWS];
} fields[] = {
    {"s", {"\"view\"", "\"Click\"", "\"\"", "\"\xC3\xA9t\xC3\xA9\""}},
    {"i", {"0", "7", "-3", "9223372036854775807"}},
    {"d", {"0.5", "7.0", "-2.5", "9223372036854775808.0"}},
    {"b", {"true", "false", "true", "false"}},
    {"n", {"null", "missing", "1", "\"x\""}},
    {"mix", {"1", "\"1\"", "true", "other"}},
    {"o", {"other", "other", "null", "missing"}},
    {"data.price", {"10", "20", "30", "40"}},
    {"odd-name.x", {"1", "2", "3", "4"}},
};

enum { FIELDS = sizeof fields / sizeof fields[0] };

struct table {
    union mr_value values[FIELDS][ROWS];
    uint8_t kinds[FIELDS][ROWS];
    struct mr_column columns[FIELDS];
    struct mr_buf body;
    struct mr_expr_scratch *scratch;
    struct mr_lookup *lookup;
    struct mr_expr_lookup lookups[2];
    struct mr_expr_names names;
};

static enum mr_status find_field(void *ctx, struct mr_bytes path, struct mr_expr_field *ret,
                                 struct mr_error *error) {
    (void)ctx;
    for (uint32_t i = 0; i < FIELDS; i++) {
        if (mr_bytes_equal(path, mr_bytes_text(fields[i].path))) {
            ret->index = i;
            return MR_OK;
        }
    }
    return mr_error_set(error, MR_INVALID, "no field `%.*s`", (int)path.len, (const char *)path.ptr);
}

static void set_value(struct table *t, uint32_t field, uint32_t row, const char *text) {
    union mr_value *value = &t->values[field][row];
    uint8_t *kind = &t->kinds[field][row];
    value->i = 0;
    switch (text[0]) {
    case 'n':
        *kind = MR_VALUE_NULL;
        break;
    case 'm':
        *kind = MR_VALUE_MISSING;
        break;
    case 't':
        *kind = MR_VALUE_TRUE;
        break;
    case 'f':
        *kind = MR_VALUE_FALSE;
        break;
    case 'o':
        *kind = MR_VALUE_OTHER;
        break;
    case '"':
        *kind = MR_VALUE_STRING;
        value->text = (struct mr_text){(uint32_t)t->body.len, (uint32_t)strlen(text) - 2};
        mr_buf_append(&t->body, text + 1, strlen(text) - 2);
        break;
    default:
        *kind = strchr(text, '.') != NULL ? MR_VALUE_DOUBLE : MR_VALUE_INT;
        if (*kind == MR_VALUE_INT) {
            value->i = strtoll(text, NULL, 10);
        } else {
            value->d = strtod(text, NULL);
        }
        break;
    }
}

static int set_up(void **state) {
    static const char csv[] = "campaign,country\n17,DE\n18,FR\n0.5,half\ntrue,yes\nview,seen\n";
    struct mr_lookup_options options = {MR_BYTES("campaign"), MR_BYTES("country"), 100, 1 << 20};
    struct table *t = mr_alloc_zero(1, sizeof *t);
    mr_buf_init(&t->body, 4096);
    for (uint32_t f = 0; f < FIELDS; f++) {
        for (uint32_t r = 0; r < ROWS; r++) {
            set_value(t, f, r, fields[f].values[r]);
        }
        t->columns[f] = (struct mr_column){t->values[f], t->kinds[f]};
    }
    assert_int_equal(mr_expr_scratch_open(&t->scratch), MR_OK);
    assert_int_equal(mr_lookup_open(MR_BYTES(csv), &options, &t->lookup, NULL), MR_OK);
    t->lookups[0] = (struct mr_expr_lookup){MR_BYTES("campaigns"), t->lookup};
    t->lookups[1] = (struct mr_expr_lookup){MR_BYTES("other"), t->lookup};
    t->names = (struct mr_expr_names){find_field, NULL, t->lookups, 2};
    *state = t;
    return 0;
}

static int tear_down(void **state) {
    struct table *t = *state;
    mr_expr_scratch_close(t->scratch);
    mr_lookup_close(t->lookup);
    mr_buf_finish(&t->body);
    mr_free(t);
    return 0;
}

/* The value of row i as in the tables below: doubles always with a point or exponent. */
static void tell(const struct mr_expr_vector *v, uint32_t i, struct mr_buf *ret) {
    char text[32];
    switch (v->kinds[i]) {
    case MR_VALUE_MISSING:
        mr_buf_append_text(ret, "missing");
        break;
    case MR_VALUE_NULL:
        mr_buf_append_text(ret, "null");
        break;
    case MR_VALUE_OTHER:
        mr_buf_append_text(ret, "other");
        break;
    case MR_VALUE_STRING:
        mr_buf_append_char(ret, '"');
        mr_buf_append(ret, v->values[i].text, v->lens[i]);
        mr_buf_append_char(ret, '"');
        break;
    default: {
        size_t len = mr_expr_scalar_text(v->kinds[i], v->values[i], text);
        mr_buf_append(ret, text, len);
        if (v->kinds[i] == MR_VALUE_DOUBLE && memchr(text, '.', len) == NULL &&
            memchr(text, 'e', len) == NULL) {
            mr_buf_append_text(ret, ".0");
        }
        break;
    }
    }
}

static void assert_values(struct table *t, const char *text, const char *const *expected,
                          uint32_t rows) {
    struct mr_expr *expr = NULL;
    struct mr_error error = {.text = ""};
    if (mr_expr_open(mr_bytes_text(text), &t->names, &expr, &error) != MR_OK) {
        fail_msg("%s: %s", text, error.text);
    }
    struct mr_expr_rows in = {.columns = t->columns, .body = t->body.ptr, .count = rows};
    struct mr_expr_vector *out = mr_alloc(sizeof *out);
    assert_int_equal(mr_expr_eval(expr, &in, t->scratch, out), MR_OK);
    for (uint32_t i = 0; i < rows; i++) {
        struct mr_buf told;
        mr_buf_init(&told, 1 << 20);
        tell(out, i, &told);
        mr_buf_append_char(&told, 0);
        if (strcmp((const char *)told.ptr, expected[i]) != 0) {
            fail_msg("%s, event %u: %s, expected %s", text, i, (const char *)told.ptr, expected[i]);
        }
        mr_buf_finish(&told);
    }
    mr_free(out);
    mr_expr_close(expr);
    mr_expr_scratch_clear(t->scratch);
}

/* Expressions without fields: one value. */
static const char *const constants[][2] = {
    {"1", "1"}, {"-9223372036854775808", "-9223372036854775808"},
    {"9223372036854775808", "9223372036854776000.0"}, {"-1.5e3", "-1500.0"}, {"-1e-400", "0.0"},
    {"\"a\\u00e9\\n\"", "\"a\xC3\xA9\n\""}, {"'it\\'s \"so\"'", "\"it's \"so\"\""},
    {"'\\ud83d\\ude00'", "\"\xF0\x9F\x98\x80\""}, {"1 + 2 * 3", "7"}, {"(1 + 2) * 3", "9"},
    {"10 - 4 - 3", "3"}, {"2 - -3", "5"}, {"2--3", "5"}, {"--3", "3"}, {"7 / 2", "3.5"},
    {"6 / 2", "3.0"}, {"1 / 0", "null"}, {"1.0 / 0.0", "null"}, {"0 % 0", "null"},
    {"1.5 % 0", "null"}, {"-7 % 3", "-1"}, {"7 % -3", "1"}, {"7.5 % 2", "1.5"},
    {"-9223372036854775808 % -1", "0"}, {"9223372036854775807 + 1", "9223372036854776000.0"},
    {"-9223372036854775808 - 1", "-9223372036854776000.0"},
    {"4611686018427387904 * 2", "9223372036854776000.0"},
    {"-(-9223372036854775808)", "9223372036854776000.0"},
    {"abs(-9223372036854775808)", "9223372036854776000.0"}, {"1e308 * 10", "null"},
    {"1e308 * 10 == null", "true"}, {"9007199254740993 == 9007199254740992.0", "false"},
    {"9007199254740993 > 9007199254740992.0", "true"},
    {"9223372036854775807 < 9223372036854775808.0", "true"},
    {"-9223372036854775808 == -9223372036854775808.0", "true"}, {"3 < 3.5", "true"},
    {"-3 > -3.5", "true"}, {"0.0 == -0.0", "true"}, {"1 < 2 == true", "true"},
    {"'a' < 'b'", "true"}, {"'a' < 'aa'", "true"}, {"'Z' < 'a'", "true"}, {"'' <= ''", "true"},
    {"null == null", "true"}, {"null != null", "false"}, {"1 == null", "false"},
    {"null + 1", "null"}, {"null < 1", "null"}, {"-null", "null"}, {"!null", "null"},
    {"true && null", "null"}, {"false && null", "false"}, {"null || true", "true"},
    {"null || false", "null"}, {"true || false && false", "true"}, {"!true || true", "true"},
    {"!(true || true)", "false"}, {"true ? 1 : 2", "1"}, {"null ? 1 : 2", "2"},
    {"false ? 1 : true ? 2 : 3", "2"}, {"1 + (true ? 1 : 2)", "2"}, {"3 in [1, 2, 3]", "true"},
    {"3 in [3.0]", "true"}, {"3 not in [1, 2, 3]", "false"}, {"4 in [1, -2, 1 + 2, 'x']", "false"},
    {"'b' in ['c', 'a', 'b']", "true"}, {"null in [1]", "null"}, {"null not in [1]", "null"},
    {"null in [1, null]", "true"}, {"1 in [null]", "false"}, {"1 + 1 in [2]", "true"},
    {"starts_with('abc', 'ab')", "true"}, {"starts_with('ab', 'abc')", "false"},
    {"starts_with('ab', '')", "true"}, {"ends_with('abc', 'bc')", "true"},
    {"ends_with('abc', 'ab')", "false"}, {"contains('abc', 'b')", "true"},
    {"contains('', 'b')", "false"}, {"contains('abc', null)", "null"},
    {"lower('A\xC3\x89Z@[`{')", "\"a\xC3\x89z@[`{\""},
    {"upper('az\xC3\xA9@[`{')", "\"AZ\xC3\xA9@[`{\""}, {"length('\xC3\xA9t\xC3\xA9')", "3"},
    {"length('')", "0"}, {"is_missing(null)", "false"}, {"is_null(null)", "true"},
    {"coalesce(null, null, 3, 4)", "3"}, {"coalesce(null, null)", "null"}, {"floor(-2.5)", "-3"},
    {"ceil(-2.5)", "-2"}, {"round(-2.5)", "-3"}, {"round(2.4)", "2"}, {"floor(1e300)", "1e+300"},
    {"floor(7)", "7"}, {"abs(-2.5)", "2.5"}, {"number('17')", "17"}, {"number('-1.5e1')", "-15.0"},
    {"number(' 17')", "null"}, {"number('17x')", "null"}, {"number('1e999')", "null"},
    {"number('')", "null"}, {"number('017')", "null"}, {"number(3)", "3"}, {"text(17)", "\"17\""},
    {"text(-0.25)", "\"-0.25\""}, {"text(-0.0)", "\"0\""}, {"text(true)", "\"true\""},
    {"text('x')", "\"x\""}, {"text(null)", "null"},
    {"text(-9223372036854775808)", "\"-9223372036854775808\""},
    {"lookup('campaigns', 17)", "\"DE\""}, {"lookup('campaigns', '18')", "\"FR\""},
    {"lookup('campaigns', 0.5)", "\"half\""}, {"lookup('campaigns', true)", "\"yes\""},
    {"lookup('campaigns', 'x')", "null"}, {"lookup('campaigns', null)", "null"},
    {" 1\n\t+\r\n1 ", "2"},
};

static void computes_constants(void **state) {
    for (size_t i = 0; i < sizeof constants / sizeof constants[0]; i++) {
        assert_values(*state, constants[i][0], &constants[i][1], 1);
    }
}

static void evaluates_fields(void **state) {
    static const struct {
        const char *text;
        const char *values[ROWS];
    } cases[] = {
        {"s", {"\"view\"", "\"Click\"", "\"\"", "\"\xC3\xA9t\xC3\xA9\""}},
        {"n", {"null", "missing", "1", "\"x\""}},
        {"o", {"other", "other", "null", "missing"}},
        {"s == \"view\"", {"true", "false", "false", "false"}},
        {"\"view\" != s", {"false", "true", "true", "true"}},
        {"s == 'view' && i >= 0", {"true", "false", "false", "false"}},
        {"i > 0 || s == ''", {"false", "true", "true", "true"}},
        {"i + 1", {"1", "8", "-2", "9223372036854776000.0"}},
        {"i == d", {"false", "true", "false", "false"}},
        {"i < d", {"true", "false", "true", "true"}},
        {"d * 2", {"1.0", "14.0", "-5.0", "18446744073709552000.0"}},
        {"i / d", {"0.0", "1.0", "1.2", "1.0"}},
        {"-i", {"0", "-7", "3", "-9223372036854775807"}},
        {"n == null", {"true", "true", "false", "false"}},
        {"n != null", {"false", "false", "true", "true"}},
        {"null == n", {"true", "true", "false", "false"}},
        {"is_missing(n)", {"false", "true", "false", "false"}},
        {"is_null(n)", {"true", "true", "false", "false"}},
        {"n == 1", {"null", "null", "true", "false"}},
        {"n != 1", {"null", "null", "false", "true"}},
        {"n < 2", {"null", "null", "true", "null"}},
        {"n in [1, 'x']", {"null", "null", "true", "true"}},
        {"n in [1, null]", {"true", "true", "true", "false"}},
        {"n not in [1, null]", {"false", "false", "false", "true"}},
        {"coalesce(n, 0)", {"0", "0", "1", "\"x\""}},
        {"coalesce(o, n)", {"other", "other", "1", "\"x\""}},
        {"b ? n : i", {"null", "7", "1", "9223372036854775807"}},
        {"!b", {"false", "true", "false", "true"}},
        {"b == true", {"true", "false", "true", "false"}},
        {"!s", {"null", "null", "null", "null"}},
        {"s && b", {"null", "false", "null", "false"}},
        {"s || b", {"true", "null", "true", "null"}},
        {"s ? 1 : 2", {"2", "2", "2", "2"}},
        {"mix == 1", {"true", "false", "false", "false"}},
        {"mix == \"1\"", {"false", "true", "false", "false"}},
        {"mix == true", {"false", "false", "true", "false"}},
        {"mix == mix", {"true", "true", "true", "false"}},
        {"mix != mix", {"false", "false", "false", "true"}},
        {"mix in [1, '1', true]", {"true", "true", "true", "false"}},
        {"mix < 2", {"true", "null", "null", "null"}},
        {"mix + 1", {"2", "null", "null", "null"}},
        {"number(mix)", {"1", "1", "null", "null"}},
        {"text(mix)", {"\"1\"", "\"1\"", "\"true\"", "null"}},
        {"lower(s)", {"\"view\"", "\"click\"", "\"\"", "\"\xC3\xA9t\xC3\xA9\""}},
        {"upper(s)", {"\"VIEW\"", "\"CLICK\"", "\"\"", "\"\xC3\xA9T\xC3\xA9\""}},
        {"length(s)", {"4", "5", "0", "3"}},
        {"length(i)", {"null", "null", "null", "null"}},
        {"contains(s, 'i')", {"true", "true", "false", "false"}},
        {"starts_with(s, lower('V'))", {"true", "false", "false", "false"}},
        {"floor(d)", {"0", "7", "-3", "9223372036854776000.0"}},
        {"lookup('campaigns', s)", {"\"seen\"", "null", "null", "null"}},
        {"lookup('campaigns', d)", {"\"half\"", "null", "null", "null"}},
        {"upper(lookup('campaigns', s))", {"\"SEEN\"", "null", "null", "null"}},
        {"data.price + `odd-name`.x", {"11", "22", "33", "44"}},
        {"data.price > 10 && data.price <= 30 ? 'mid' : text(data.price)",
         {"\"10\"", "\"mid\"", "\"mid\"", "\"40\""}},
        {"(i - 1) * (i + 1) - i * i + 1", {"0", "0", "0", "1.0"}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_values(*state, cases[i].text, cases[i].values, ROWS);
    }
}

static void refuses_with_positions(void **state) {
    static const char *const cases[][2] = {
        {"", "column 1: expected a value, found the end"},
        {"price > )", "column 1: no field `price`"},
        {"i > 0 && s == )", "column 15: expected a value, found `)`"},
        {"i > 0 && (s == 'x'", "column 19: expected an operator or `)`, found the end"},
        {"i i", "column 3: expected an operator or the end, found `i`"},
        {"i and b", "column 3: expected an operator, found `and`; did you mean `&&`?"},
        {"i = 1", "column 3: `=` is not an operator; did you mean `==`?"},
        {"b & b", "column 3: `&` is not an operator; did you mean `&&`?"},
        {"i @ 1", "column 3: `@` means nothing here"},
        {"\xC3\xA9 == 1", "column 1: byte 0xC3 means nothing here"},
        {"'\xC3\xA9' == 1 @", "column 10: `@` means nothing here"},
        {"i >\n  )", "line 2, column 3: expected a value, found `)`"},
        {"'abc", "column 1: the text is not closed: expected '"},
        {"\"a\\x\"", "column 3: not an escape of JSON"},
        {"\"\\u12\"", "column 2: expected four hexadecimal digits"},
        {"'\\ud800'", "column 2: half of a surrogate pair"},
        {"'\\udc00'", "column 2: half of a surrogate pair"},
        {"'a\x01'", "column 3: a control character"},
        {"`abc", "column 1: the backquote is not closed"},
        {"``", "column 1: an empty name"},
        {"`a.b`", "column 1: a name with a dot"},
        {"data.", "column 6: expected a name behind the dot"},
        {"1.5.2", "column 1: `1.5.2` is not a number"},
        {"01", "column 1: `01` is not a number"},
        {"1e999", "column 1: `1e999` is over the range of a number"},
        {"lowr(s)", "column 1: no function `lowr`; did you mean `lower`?"},
        {"start(s)", "column 1: no function `start`; did you mean `starts_with`?"},
        {"nonsense(s)", "column 1: no function `nonsense`"},
        {"lower()", "column 1: lower takes 1 text, found 0"},
        {"1 + length(s, s)", "column 5: length takes 1 text, found 2"},
        {"coalesce(s)", "column 1: coalesce takes 2 values or more, found 1"},
        {"lower(3)", "column 7: `lower` takes a text, found a number"},
        {"1 + 'a'", "column 5: `+` takes a number, found a text"},
        {"i + (s == 'a')", "column 6: `+` takes a number, found a truth value"},
        {"i && 1", "column 6: `&&` takes a truth value, found a number"},
        {"!1", "column 2: `!` takes a truth value, found a number"},
        {"-'a'", "column 2: `-` takes a number, found a text"},
        {"1 < i < 2", "column 1: `<` takes a number or text, found a truth value"},
        {"1 == 'a'", "column 1: `==` compares a number with a text"},
        {"length(s) == '1'", "column 1: `==` compares a number with a text"},
        {"lower(s) in [1, 2]", "column 1: `in` compares a text with a number"},
        {"1 ? 2 : 3", "column 1: `?` takes a truth value, found a number"},
        {"b ? 1", "column 6: expected `:` and the other value, found the end"},
        {"i in 1", "column 6: expected `[` and a list, found `1`"},
        {"i in []", "column 7: expected a value, found `]`"},
        {"i in [1", "column 8: expected `,` or `]`, found the end"},
        {"i in [1, i]", "column 10: the values of a list must be constant"},
        {"i not 1", "column 7: expected `in` behind `not`, found `1`"},
        {"lookup(s, s)", "column 8: expected the name of a lookup table in quotes, found `s`"},
        {"lookup('campaign', s)", "column 8: no lookup table `campaign`; did you mean `campaigns`?"},
        {"lookup('zzz', s)", "column 8: no lookup table `zzz`"},
        {"lookup('campaigns')", "column 19: expected `,` and the key, found `)`"},
        {"lookup('campaigns', s, s)", "column 1: lookup takes 2 values, a table's name and a key, found 3"},
        {"'a\xFF'", "not UTF-8"},
        {"s.lower(3)", "column 1: no field `s.lower`"},
    };
    struct table *t = *state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct mr_expr *expr = NULL;
        struct mr_error error = {.text = ""};
        assert_int_equal(mr_expr_open(mr_bytes_text(cases[i][0]), &t->names, &expr, &error), MR_INVALID);
        assert_null(expr);
        if (strstr(error.text, cases[i][1]) == NULL) {
            fail_msg("%s: \"%s\", expected \"%s\"", cases[i][0], error.text, cases[i][1]);
        }
    }
}

/* before, then unit so often, then after: fits with `most` units, is refused with one more. */
static void assert_bound(struct table *t, const char *before, const char *unit, const char *after,
                         const char *close, int most, const char *text) {
    for (int n = most; n <= most + 1; n++) {
        struct mr_buf buf;
        mr_buf_init(&buf, 1 << 20);
        mr_buf_append_text(&buf, before);
        for (int i = 0; i < n; i++) {
            mr_buf_append_text(&buf, unit);
        }
        mr_buf_append_text(&buf, after);
        for (int i = 0; i < n; i++) {
            mr_buf_append_text(&buf, close);
        }
        struct mr_expr *expr = NULL;
        struct mr_error error = {.text = ""};
        enum mr_status status = mr_expr_open(mr_buf_bytes(&buf), &t->names, &expr, &error);
        if (n == most) {
            if (status != MR_OK) {
                fail_msg("%s%s…: %s", before, unit, error.text);
            }
        } else {
            assert_int_equal(status, MR_INVALID);
            if (strstr(error.text, text) == NULL) {
                fail_msg("%s%s…: %s", before, unit, error.text);
            }
        }
        mr_expr_close(expr);
        mr_buf_finish(&buf);
    }
}

static void keeps_its_limits(void **state) {
    struct table *t = *state;
    assert_bound(t, "", " ", "1", "", MR_EXPR_TEXT_MAX - 1, "at most 4096");
    assert_bound(t, "", "(", "1", ")", MR_EXPR_DEPTH_MAX - 1, "nested too deeply: at most 32");
    assert_bound(t, "", "!", "b", "", MR_EXPR_DEPTH_MAX - 1, "nested too deeply");
    assert_bound(t, "", "- ", "i", "", MR_EXPR_DEPTH_MAX - 1, "nested too deeply");
    assert_bound(t, "", "lower(", "s", ")", MR_EXPR_DEPTH_MAX - 1, "nested too deeply");
    assert_bound(t, "", "b?1:", "2", "", MR_EXPR_DEPTH_MAX - 1, "nested too deeply");
    assert_bound(t, "i", "+i", "", "", (MR_EXPR_NODES_MAX - 1) / 2, "more than 512 values");
    assert_bound(t, "i in [0", ",1", "]", "", MR_EXPR_LIST_MAX - 1, "more than 256 values in a list");
}

/* Constants are computed away: 1,000 of them are one. */
static void folds_constants(void **state) {
    static const char *const expected[] = {"1000"};
    struct mr_buf buf;
    mr_buf_init(&buf, 4096);
    for (int i = 0; i < 1000; i++) {
        mr_buf_append_text(&buf, i == 0 ? "1" : "+1");
    }
    mr_buf_append_char(&buf, 0);
    assert_values(*state, (const char *)buf.ptr, expected, 1);
    mr_buf_finish(&buf);
}

/* A wide expression needs many vectors at once; and more rows than one chunk are several calls. */
static void evaluates_wide_expressions(void **state) {
    static const char *const expected[] = {"0", "217", "-93", "285924533142498050000.0"};
    struct table *t = *state;
    struct mr_buf buf;
    mr_buf_init(&buf, 4096);
    for (int i = 0; i < 31; i++) {
        mr_buf_append_text(&buf, i < 30 ? "i + (" : "i");
    }
    for (int i = 0; i < 30; i++) {
        mr_buf_append_char(&buf, ')');
    }
    mr_buf_append_char(&buf, 0);
    assert_values(t, (const char *)buf.ptr, expected, ROWS);
    mr_buf_finish(&buf);
}

/* Texts over the bounds of functions that make or read them are null. */
static void bounds_made_texts(void **state) {
    struct table *t = *state;
    static uint8_t big[MR_EXPR_MADE_MAX + 1];
    memset(big, 'A', sizeof big);
    union mr_value values[2] = {{.text = {0, MR_EXPR_MADE_MAX}}, {.text = {0, MR_EXPR_MADE_MAX + 1}}};
    uint8_t kinds[2] = {MR_VALUE_STRING, MR_VALUE_STRING};
    struct mr_column column = {values, kinds};
    struct mr_expr_rows in = {.columns = &column, .body = big, .count = 2};
    struct mr_expr_vector *out = mr_alloc(sizeof *out);
    struct mr_expr *expr = NULL;
    assert_int_equal(mr_expr_open(MR_BYTES("lower(s)"), &t->names, &expr, NULL), MR_OK);
    assert_int_equal(mr_expr_eval(expr, &in, t->scratch, out), MR_OK);
    assert_int_equal(out->kinds[0], MR_VALUE_STRING);
    assert_int_equal(out->lens[0], MR_EXPR_MADE_MAX);
    assert_int_equal(out->values[0].text[MR_EXPR_MADE_MAX - 1], 'a');
    assert_int_equal(out->kinds[1], MR_VALUE_NULL);
    mr_expr_close(expr);
    memset(big, '1', sizeof big);
    values[0].text.len = MR_EXPR_NUMBER_MAX;
    values[1].text.len = MR_EXPR_NUMBER_MAX + 1;
    assert_int_equal(mr_expr_open(MR_BYTES("number(s)"), &t->names, &expr, NULL), MR_OK);
    assert_int_equal(mr_expr_eval(expr, &in, t->scratch, out), MR_OK);
    assert_int_equal(out->kinds[0], MR_VALUE_DOUBLE);
    assert_int_equal(out->kinds[1], MR_VALUE_NULL);
    mr_expr_close(expr);
    mr_free(out);
}

static void knows_its_types(void **state) {
    static const struct {
        const char *text;
        int types;
        const char *told;
    } cases[] = {
        {"s", MR_EXPR_ANY, "a truth value or number or text"},
        {"null", MR_EXPR_NULL, "null"},
        {"i + 1", MR_EXPR_NUMBER | MR_EXPR_NULL, "a number"},
        {"b ? 1 : 'x'", MR_EXPR_NUMBER | MR_EXPR_TEXT, "a number or text"},
        {"coalesce(lower(s), 1)", MR_EXPR_NUMBER | MR_EXPR_TEXT, "a number or text"},
        {"i == null", MR_EXPR_BOOL, "a truth value"},
    };
    struct table *t = *state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct mr_expr *expr = NULL;
        char told[64];
        assert_int_equal(mr_expr_open(mr_bytes_text(cases[i].text), &t->names, &expr, NULL), MR_OK);
        assert_int_equal(mr_expr_types(expr), cases[i].types);
        assert_string_equal(mr_expr_types_text(mr_expr_types(expr), told, sizeof told), cases[i].told);
        mr_expr_close(expr);
    }
}

/* Every allocation fails once: a clean error each time. */
static void survives_lack_of_memory(void **state) {
    struct table *t = *state;
    bool done = false;
    for (size_t nth = 1; !done; nth++) {
        struct mr_expr *expr = NULL;
        struct mr_expr_scratch *scratch = NULL;
        struct mr_expr_vector out;
        struct mr_expr_rows in = {.columns = t->columns, .body = t->body.ptr, .count = ROWS};
        mr_alloc_fail_at(nth, 0);
        enum mr_status status = mr_expr_open(
            MR_BYTES("lower(s) in ['view', 'x'] && lookup('campaigns', i) != upper('de')"), &t->names,
            &expr, NULL);
        if (status == MR_OK) {
            status = mr_expr_scratch_open(&scratch);
        }
        if (status == MR_OK) {
            status = mr_expr_eval(expr, &in, scratch, &out);
        }
        done = !mr_alloc_failed();
        mr_alloc_fail_at(0, 0);
        assert_int_equal(status, done ? MR_OK : MR_NO_MEMORY);
        mr_expr_scratch_close(scratch);
        mr_expr_close(expr);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(computes_constants),     cmocka_unit_test(evaluates_fields),
        cmocka_unit_test(refuses_with_positions), cmocka_unit_test(keeps_its_limits),
        cmocka_unit_test(folds_constants),        cmocka_unit_test(evaluates_wide_expressions),
        cmocka_unit_test(bounds_made_texts),      cmocka_unit_test(knows_its_types),
        cmocka_unit_test(survives_lack_of_memory),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
