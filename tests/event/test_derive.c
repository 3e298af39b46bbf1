/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that a schema's expressions become columns: by hand for each use, for derived fields, hidden
 * columns, rejects and their place in the list of errors, in all formats and with all decoders; then
 * random bodies against a naive evaluation by the reference reader.
 */
#include "help.h"
#include "reference.h"

#include "event/expr.h"

enum { EXPRS_MAX = 12 };

static struct mr_lookup *lookup;
static struct mr_expr_lookup lookups[1];
static struct variants variants;

static int set_up(void **state) {
    struct mr_lookup_options options = {MR_BYTES("k"), MR_BYTES("v"), 1000, 1 << 20};
    (void)state;
    assert_int_equal(
        mr_lookup_open(MR_BYTES("k,v\n17,DE\n18,FR\nview,seen\n"), &options, &lookup, NULL), MR_OK);
    lookups[0] = (struct mr_expr_lookup){MR_BYTES("t"), lookup};
    variants_open(&variants);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    variants_close(&variants);
    mr_lookup_close(lookup);
    return 0;
}

struct one {
    const char *text;
    enum mr_field_use use;
};

/* usual_options with expressions; field "k" is wanted as KEY and ANY. */
struct setting {
    struct mr_schema_options options;
    struct mr_field fields[3];
    struct mr_schema_expr exprs[EXPRS_MAX];
    struct mr_schema_derived derived[EXPRS_MAX];
};

static void setting_init(struct setting *s, const struct one *exprs, uint32_t count,
                         const char *const (*derived)[2], uint32_t derived_count) {
    s->options = usual_options();
    s->fields[0] = (struct mr_field){MR_BYTES("k"), MR_FIELD_KEY};
    s->fields[1] = (struct mr_field){MR_BYTES("n"), MR_FIELD_NUMBER};
    s->fields[2] = (struct mr_field){MR_BYTES("k"), MR_FIELD_ANY};
    for (uint32_t i = 0; i < count; i++) {
        s->exprs[i] = (struct mr_schema_expr){MR_BYTES("where of rule r"), mr_bytes_text(exprs[i].text),
                                              exprs[i].use};
    }
    for (uint32_t i = 0; i < derived_count; i++) {
        s->derived[i] =
            (struct mr_schema_derived){.name = mr_bytes_text(derived[i][0]), .text = mr_bytes_text(derived[i][1])};
    }
    s->options.fields = s->fields;
    s->options.field_count = 3;
    s->options.exprs = s->exprs;
    s->options.expr_count = count;
    s->options.derived = s->derived;
    s->options.derived_count = derived_count;
    s->options.lookups = lookups;
    s->options.lookup_count = 1;
}

/* A value as the tables below write it: #17 are DIGITS. */
static const char *tell(const struct mr_batch *batch, uint32_t column, uint32_t row, char *ret) {
    static const char *const words[] = {"missing", "null", "false", "true"};
    union mr_value value = batch->column[column].values[row];
    union mr_expr_datum datum = {.i = value.i};
    uint8_t kind = batch->column[column].kinds[row];
    if (kind <= MR_VALUE_TRUE) {
        assert_int_equal(value.i, 0);
        return words[kind];
    }
    if (kind == MR_VALUE_OTHER) {
        return "other";
    }
    if (kind == MR_VALUE_INT || kind == MR_VALUE_DOUBLE) {
        ret[mr_expr_scalar_text(kind, datum, ret)] = 0;
        return ret;
    }
    struct mr_bytes text = mr_batch_text(batch, value);
    (void)snprintf(ret, 64, "%s%.*s%s", kind == MR_VALUE_DIGITS ? "#" : "'", (int)text.len,
                   (const char *)text.ptr, kind == MR_VALUE_DIGITS ? "" : "'");
    return ret;
}

static void assert_column(const struct mr_batch *batch, uint32_t column, const char *const *expected,
                          uint32_t rows) {
    for (uint32_t i = 0; i < rows; i++) {
        char text[64];
        const char *is = tell(batch, column, i, text);
        if (strcmp(is, expected[i]) != 0) {
            fail_msg("column %u, event %u: %s, expected %s", column, i, is, expected[i]);
        }
    }
}

enum { ROWS = 7 };

static const char lines[] =
    "{\"id\":\"1\",\"k\":\"view\",\"n\":2,\"p\":17,\"o\":{\"x\":1.50}}\n"
    "{\"id\":\"2\",\"k\":\"a\\u0042\\n\",\"n\":null,\"p\":\"18\",\"o\":{\"x\":-0.0}}\n"
    "{\"id\":\"3\",\"k\":5,\"p\":[1],\"o\":7}\n"
    "{\"id\":\"4\",\"k\":null,\"n\":0.5,\"p\":1e999,\"o\":{\"x\":\"\"}}\n"
    "{\"id\":5,\"k\":true,\"n\":-1,\"p\":null,\"o\":{\"x\":false}}\n"
    "{\"id\":\"6\", \"k\" : \"V\xC3\x8B\" , \"n\" : 3 , \"p\" : 18 , \"o\" : { \"x\" : {} } }\n"
    "{\"id\":\"7\"}\n";

static struct mr_batch *decode(const struct setting *s, enum mr_format format, struct mr_bytes body) {
    struct mr_schema *schema = open_schema(&s->options);
    /* A schema from the options of a schema is the same: how replay gets its own. */
    struct mr_schema *second = open_schema(mr_schema_options(schema));
    struct mr_batch *batch = NULL;
    struct mr_batch *again = NULL;
    struct mr_error error = {.text = ""};
    if (decode_all(&variants, schema, format, body, &batch, &error) != MR_OK) {
        fail_msg("%s", error.text);
    }
    assert_int_equal(decode_all(&variants, second, format, body, &again, NULL), MR_OK);
    assert_same_batch(batch, again);
    mr_batch_close(again);
    mr_schema_close(second);
    batch->schema = NULL; /* tests read columns only */
    mr_schema_close(schema);
    return batch;
}

static void fills_columns_by_use(void **state) {
    static const struct {
        struct one expr;
        const char *values[ROWS];
    } cases[] = {
        {{"k", MR_FIELD_ANY}, {"'view'", "'aB\n'", "5", "null", "true", "'V\xC3\x8B'", "missing"}},
        {{"k", MR_FIELD_KEY}, {"'view'", "'aB\n'", "#5", "null", "true", "'V\xC3\x8B'", "missing"}},
        {{"k", MR_FIELD_NUMBER}, {"missing", "missing", "5", "null", "missing", "missing", "missing"}},
        {{"k == 'view'", MR_EXPR_WHERE}, {"true", "false", "false", "false", "false", "false", "false"}},
        {{"n > 0.5", MR_EXPR_WHERE}, {"true", "false", "false", "false", "false", "true", "false"}},
        {{"n > 0.5", MR_FIELD_ANY}, {"true", "null", "null", "false", "false", "true", "null"}},
        {{"p", MR_FIELD_ANY}, {"17", "'18'", "other", "other", "null", "18", "missing"}},
        {{"lower(k)", MR_FIELD_KEY}, {"'view'", "'ab\n'", "null", "null", "null", "'v\xC3\x8B'", "null"}},
        {{"lookup('t', p)", MR_FIELD_ANY}, {"'DE'", "'FR'", "null", "null", "null", "'FR'", "null"}},
        {{"o.x", MR_FIELD_ANY}, {"1.5", "0", "missing", "''", "false", "other", "missing"}},
        {{"n * 1.5", MR_FIELD_KEY}, {"#3", "null", "null", "#0.75", "#-1.5", "#4.5", "null"}},
        {{"n + 1", MR_FIELD_NUMBER}, {"3", "null", "null", "1.5", "0", "4", "null"}},
    };
    (void)state;
    enum { CASES = sizeof cases / sizeof cases[0] };
    static_assert((int)CASES <= (int)EXPRS_MAX, "all at once");
    struct setting s;
    struct one exprs[CASES];
    for (uint32_t i = 0; i < CASES; i++) {
        exprs[i] = cases[i].expr;
    }
    setting_init(&s, exprs, CASES, NULL, 0);
    struct mr_batch *batch = decode(&s, MR_FORMAT_NDJSON, MR_BYTES(lines));
    assert_int_equal(batch->count, ROWS);
    assert_int_equal(batch->rejected, 0);
    assert_int_equal(batch->columns, 3 + CASES + 2); /* hidden: p, o.x; k and n are there */
    for (uint32_t i = 0; i < CASES; i++) {
        assert_column(batch, 3 + i, cases[i].values, ROWS);
    }
    assert_column(batch, 0, cases[1].values, ROWS); /* the field itself */
    assert_column(batch, 2, cases[0].values, ROWS);
    mr_batch_close(batch);
    for (uint32_t i = 0; i < CASES; i++) { /* and each alone */
        setting_init(&s, exprs + i, 1, NULL, 0);
        batch = decode(&s, MR_FORMAT_AUTO, MR_BYTES(lines));
        assert_column(batch, 3, cases[i].values, ROWS);
        mr_batch_close(batch);
    }
}

/* Expressions read the columns of rules, whatever their use: the same as from a column of their own. */
static void reads_columns_of_any_use(void **state) {
    static const struct one exprs[] = {{"k", MR_FIELD_ANY}, {"n", MR_FIELD_ANY}, {"x", MR_FIELD_ANY}};
    static const char body[] = "{\"id\":1,\"k\":17,\"n\":1,\"x\":17}\n"
                               "{\"id\":2,\"k\":-0,\"n\":-0,\"x\":-0}\n"
                               "{\"id\":3,\"k\":1e999,\"n\":null,\"x\":1e999}\n"
                               "{\"id\":4,\"k\":0.50,\"n\":0.50,\"x\":0.50}\n"
                               "{\"id\":5,\"k\":12345678901234567890,\"n\":5,\"x\":12345678901234567890}\n"
                               "{\"id\":6,\"k\":\"\\n\",\"x\":\"\\n\"}\n"
                               "{\"id\":7,\"k\":\"\",\"n\":-9223372036854775808,\"x\":\"\"}";
    static const char *const values[][ROWS] = {
        {"17", "0", "other", "0.5", "12345678901234567000", "'\n'", "''"},
        {"1", "0", "null", "0.5", "5", "missing", "-9223372036854775808"},
    };
    (void)state;
    struct setting s;
    setting_init(&s, exprs, 3, NULL, 0);
    s.options.field_count = 2; /* k KEY, n NUMBER; x is hidden */
    struct mr_batch *batch = decode(&s, MR_FORMAT_NDJSON, MR_BYTES(body));
    assert_int_equal(batch->rejected, 0);
    assert_int_equal(batch->columns, 2 + 3 + 1);
    assert_column(batch, 2, values[0], ROWS);
    assert_column(batch, 3, values[1], ROWS);
    assert_column(batch, 4, values[0], ROWS);
    assert_column(batch, 5, values[0], ROWS);
    mr_batch_close(batch);
}

/* The same columns from lines, an array, single objects, and CloudEvents. */
static void works_in_all_formats(void **state) {
    static const struct one exprs[] = {{"lower(type)", MR_FIELD_KEY}, {"data.v > 1", MR_EXPR_WHERE}};
    static const char *const keys[] = {"'a'", "'b'"};
    static const char *const where[] = {"false", "true"};
    static const char one[] =
        "{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"s\",\"type\":\"A\",\"data\":{\"v\":1}}";
    static const char two[] =
        "{\"specversion\":\"1.0\",\"id\":\"2\",\"source\":\"s\",\"type\":\"b\",\"data\":{\"v\":2}}";
    (void)state;
    for (int ce = 0; ce < 2; ce++) {
        struct setting s;
        char body[512];
        setting_init(&s, exprs, 2, NULL, 0);
        s.options.cloudevents = ce == 1;
        static const char *const shapes[] = {"%s\n%s\n", "[%s,%s]", " [ %s ,\n%s ]"};
        for (int i = 0; i < 3; i++) {
            (void)snprintf(body, sizeof body, shapes[i], one, two); /* fits */
            struct mr_batch *batch = decode(&s, MR_FORMAT_AUTO, mr_bytes_text(body));
            assert_int_equal(batch->order_count, 2);
            assert_column(batch, 3, keys, 2);
            assert_column(batch, 4, where, 2);
            mr_batch_close(batch);
        }
        struct mr_batch *batch = decode(&s, MR_FORMAT_OBJECT, MR_BYTES(two));
        assert_column(batch, 3, keys + 1, 1);
        assert_column(batch, 4, where + 1, 1);
        mr_batch_close(batch);
        batch = decode(&s, MR_FORMAT_AUTO, MR_BYTES("[]"));
        assert_int_equal(batch->count, 0);
        mr_batch_close(batch);
    }
}

/* Later ones use earlier ones; a name hides the field, but not from its own text. */
static void derives_fields(void **state) {
    static const char *const derived[][2] = {
        {"n", "n * 10"}, {"net", "n - 1"}, {"unused", "p"}, {"data.kind", "net > 8 ? 'big' : 'small'"}};
    static const struct one exprs[] = {{"n", MR_FIELD_ANY},
                                       {"net + net", MR_FIELD_NUMBER},
                                       {"data.kind", MR_FIELD_KEY},
                                       {"data.kind == 'big' && net != 19", MR_EXPR_WHERE}};
    static const char *const values[][ROWS] = {
        {"20", "null", "null", "5", "-10", "30", "null"},
        {"38", "null", "null", "8", "-22", "58", "null"},
        {"'big'", "'small'", "'small'", "'small'", "'small'", "'big'", "'small'"},
        {"false", "false", "false", "false", "false", "true", "false"},
    };
    (void)state;
    struct setting s;
    /* First what is used by name by no expression: its vector must not be what another schema left. */
    setting_init(&s, exprs + 2, 1, derived, 4);
    struct mr_batch *batch = decode(&s, MR_FORMAT_NDJSON, MR_BYTES(lines));
    assert_column(batch, 3, values[2], ROWS);
    mr_batch_close(batch);
    setting_init(&s, exprs, 4, derived, 4);
    batch = decode(&s, MR_FORMAT_NDJSON, MR_BYTES(lines));
    for (uint32_t i = 0; i < 4; i++) {
        assert_column(batch, 3 + i, values[i], ROWS);
    }
    mr_batch_close(batch);
}

static void assert_refused(struct setting *s, const char *text) {
    struct mr_schema *schema = NULL;
    struct mr_error error = {.text = ""};
    assert_int_equal(mr_schema_open(&s->options, &schema, &error), MR_INVALID);
    assert_null(schema);
    if (strstr(error.text, text) == NULL) {
        fail_msg("\"%s\", expected \"%s\"", error.text, text);
    }
}

static void refuses_bad_expressions(void **state) {
    static const struct {
        struct one expr;
        const char *derived[2];
        const char *text;
    } cases[] = {
        {{"n > )", MR_EXPR_WHERE}, {"x", "1"}, "where of rule r: column 5: expected a value, found `)`"},
        {{"n + 1", MR_EXPR_WHERE}, {"x", "1"}, "where of rule r: expected a truth value, but this is a number"},
        {{"null", MR_EXPR_WHERE}, {"x", "1"}, "where of rule r: expected a truth value, but this is null"},
        {{"lower(k)", MR_FIELD_NUMBER}, {"x", "1"}, "expected a number, but this is a text"},
        {{"a.b.c.d.e.f.g.h.i > 1", MR_EXPR_WHERE},
         {"x", "1"},
         "column 1: field \"a.b.c.d.e.f.g.h.i\": the path has more than 8"},
        {{"k.x > 1", MR_EXPR_WHERE}, {"x", "1"}, "/k is used itself and is the parent of the used /k/x"},
        {{"lookup('u', k) == '1'", MR_EXPR_WHERE}, {"x", "1"}, "column 8: no lookup table `u`"},
        {{"b", MR_EXPR_WHERE}, {"x", "1 +"}, "derived field x: column 4: expected a value, found the end"},
        {{"b", MR_EXPR_WHERE}, {"x..y", "1"}, "a name in the path is empty"},
        {{"length(x) == 1", MR_EXPR_WHERE}, {"x", "n + 1"}, "column 8: `length` takes a text, found a number"},
    };
    (void)state;
    struct setting s;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        setting_init(&s, &cases[i].expr, 1, &cases[i].derived, 1);
        assert_refused(&s, cases[i].text);
    }
    static const char *const twice[][2] = {{"x", "1"}, {"y", "2"}, {"x", "3"}};
    setting_init(&s, &cases[0].expr, 0, twice, 3);
    assert_refused(&s, "derived field x: there are two of that name");
    s.options.derived_count = MR_DERIVED_MAX + 1;
    assert_refused(&s, "33 derived fields; at most 32");
    s.options.derived_count = 0;
    s.options.expr_count = MR_FIELDS_MAX - 2;
    assert_refused(&s, "3 fields and 126 expressions; at most 128 together");
}

/* Fields, expressions and hidden fields together fill all columns, and not one more. */
static void bounds_its_columns(void **state) {
    (void)state;
    struct mr_schema_expr exprs[MR_FIELDS_MAX];
    char texts[MR_FIELDS_MAX][16];
    struct setting s;
    setting_init(&s, NULL, 0, NULL, 0);
    for (int i = 0; i < MR_FIELDS_MAX; i++) {
        (void)snprintf(texts[i], sizeof texts[i], "f%d", i); /* fits */
        exprs[i] = (struct mr_schema_expr){MR_BYTES("e"), mr_bytes_text(texts[i]), MR_FIELD_ANY};
    }
    s.options.exprs = exprs;
    s.options.expr_count = 62; /* and as many hidden, and three fields: 127 */
    struct mr_batch *batch = decode(&s, MR_FORMAT_AUTO, MR_BYTES("{\"id\":1,\"f61\":61}"));
    assert_int_equal(batch->columns, 127);
    assert_true(batch->column[3 + 61].values[0].i == 61);
    mr_batch_close(batch);
    s.options.expr_count = 63;
    assert_refused(&s, "e: column 1: over 128 columns of one stream: 3 fields of rules, 63 expressions");
}

/* Keys that cannot be: the error stands among the others, times are counted without the event. */
static void rejects_bad_keys(void **state) {
    static const struct one exprs[] = {{"lower(k)", MR_FIELD_ANY}, {"p", MR_FIELD_KEY}, {"q", MR_FIELD_KEY}};
    (void)state;
    struct mr_buf body;
    struct setting s;
    mr_buf_init(&body, 1 << 20);
    mr_buf_append_text(&body, "{\"id\":1,\"time\":1700000000000,\"p\":1,\"q\":[]}\n\n{\"id\":2,\"p\":{}}\nbroken\n");
    mr_buf_append_text(&body, "{\"id\":4,\"time\":1700000001000,\"k\":\"A\",\"p\":\"");
    for (int i = 0; i < MR_KEY_TEXT_MAX; i++) {
        mr_buf_append_char(&body, 'x');
    }
    mr_buf_append_text(&body, "\"}\n{\"id\":5,\"time\":1700000002000,\"k\":\"B\",\"p\":\"");
    for (int i = 0; i <= MR_KEY_TEXT_MAX; i++) {
        mr_buf_append_char(&body, 'x');
    }
    mr_buf_append_text(&body, "\"}\n");
    setting_init(&s, exprs, 3, NULL, 0);
    struct mr_batch *batch = decode(&s, MR_FORMAT_NDJSON, mr_buf_bytes(&body));
    static const struct {
        uint32_t index;
        uint32_t line;
        enum mr_reject reject;
        const char *detail;
    } expected[] = {
        {0, 1, MR_REJECT_BAD_KEY, "where of rule r: an object or array cannot be a key"},
        {1, 3, MR_REJECT_BAD_KEY, "where of rule r: an object or array cannot be a key"},
        {2, 4, MR_REJECT_BAD_JSON, "expected"},
        {4, 6, MR_REJECT_BAD_KEY, "where of rule r: a text of 501 bytes, too long for a key"},
    };
    assert_int_equal(batch->count, 5);
    assert_int_equal(batch->rejected, 4);
    assert_int_equal(batch->error_count, 4);
    for (uint32_t i = 0; i < 4; i++) {
        assert_int_equal(batch->errors[i].index, expected[i].index);
        assert_int_equal(batch->errors[i].line, expected[i].line);
        assert_int_equal(batch->errors[i].reject, expected[i].reject);
        assert_non_null(strstr(batch->errors[i].detail, expected[i].detail));
    }
    assert_int_equal(batch->arrivals, 0);
    assert_true(batch->time_max_ms == 1700000001000);
    assert_int_equal(batch->column[4].kinds[3], MR_VALUE_STRING);
    mr_batch_close(batch);
    mr_buf_finish(&body);
}

/* More rejects than the list has room for: the first ones are listed, whatever rejected them. */
static void lists_the_first_rejects(void **state) {
    static const struct one exprs[] = {{"p", MR_FIELD_KEY}, {"q", MR_FIELD_KEY}};
    (void)state;
    struct mr_buf body;
    struct setting s;
    mr_buf_init(&body, 1 << 20);
    for (int i = 0; i < 300; i++) {
        mr_buf_printf(&body, "%s\n",
                      i % 3 == 0   ? "{\"id\":1,\"q\":{}}"
                      : i % 3 == 1 ? "{\"id\":1,\"p\":{}}"
                                   : "{}");
    }
    setting_init(&s, exprs, 2, NULL, 0);
    struct mr_batch *batch = decode(&s, MR_FORMAT_NDJSON, mr_buf_bytes(&body));
    assert_int_equal(batch->rejected, 300);
    assert_int_equal(batch->error_count, MR_ERRORS_MAX);
    assert_true(batch->errors_truncated);
    for (uint32_t i = 0; i < 2 * MR_ERRORS_MAX / 3; i++) {
        assert_int_equal(batch->errors[i].index, i);
        assert_int_equal(batch->errors[i].line, i + 1);
    }
    mr_batch_close(batch);
    mr_buf_finish(&body);
}

/* Equal made texts are kept once; over the bound events are rejected. */
static void bounds_made_texts(void **state) {
    static const struct one exprs[] = {{"lower(k)", MR_FIELD_ANY}};
    (void)state;
    struct mr_buf body;
    struct setting s;
    mr_buf_init(&body, 8 << 20);
    for (int i = 0; i < 1000; i++) {
        mr_buf_printf(&body, "{\"id\":%d,\"k\":\"HELLO %d\"}\n", i, i % 7);
    }
    setting_init(&s, exprs, 1, NULL, 0);
    struct mr_batch *batch = decode(&s, MR_FORMAT_NDJSON, mr_buf_bytes(&body));
    assert_int_equal(batch->unescaped.len, 7 * 7);
    for (uint32_t i = 0; i < 1000; i++) {
        char expected[16];
        (void)snprintf(expected, sizeof expected, "'hello %u'", i % 7); /* fits */
        const char *const one[] = {expected};
        char text[64];
        assert_string_equal(tell(batch, 3, i, text), one[0]);
    }
    mr_batch_close(batch);
    /* Many times the same large text, in other cases each: more than the factor allows. */
    static const struct one many[] = {{"upper(k)", MR_FIELD_ANY}, {"b ? upper(k) : lower(k)", MR_FIELD_ANY},
                                      {"lookup('big', p)", MR_FIELD_ANY}};
    struct mr_lookup_options options = {MR_BYTES("k"), MR_BYTES("v"), 3000, 64 << 20};
    struct mr_buf csv;
    mr_buf_init(&csv, 64 << 20);
    mr_buf_append_text(&csv, "k,v\n");
    mr_buf_clear(&body);
    for (int i = 0; i < 1000; i++) {
        mr_buf_printf(&csv, "%d,%04000d\n", i, i);
        mr_buf_printf(&body, "{\"id\":%d,\"p\":%d}\n", i, i);
    }
    struct mr_lookup *big = NULL;
    assert_int_equal(mr_lookup_open(mr_buf_bytes(&csv), &options, &big, NULL), MR_OK);
    struct mr_expr_lookup named = {MR_BYTES("big"), big};
    setting_init(&s, many, 3, NULL, 0);
    s.options.lookups = &named;
    batch = decode(&s, MR_FORMAT_NDJSON, mr_buf_bytes(&body));
    uint32_t fit = (uint32_t)((MR_MADE_FACTOR * body.len + MR_MADE_EXTRA) / 4000);
    assert_int_equal(batch->rejected, 1000 - fit);
    assert_int_equal(batch->errors[0].index, fit);
    assert_int_equal(batch->errors[0].reject, MR_REJECT_TOO_LONG);
    assert_non_null(strstr(batch->errors[0].detail, "the texts that expressions make in this request"));
    mr_batch_close(batch);
    mr_lookup_close(big);
    mr_buf_finish(&csv);
    mr_buf_finish(&body);
}

/* Random bodies of more events than a chunk: each row against the reference reader's tree. */

static bool ref_is(const struct ref_value *v, enum ref_kind kind) {
    return v != NULL && v->kind == kind;
}

static void assert_row(const struct mr_batch *batch, uint32_t i, const struct ref_value *event) {
    int count;
    const struct ref_value *k = ref_member(event, "k", &count);
    const struct ref_value *n = ref_member(event, "n", &count);
    const struct ref_value *o = ref_member(event, "o", &count);
    const struct ref_value *x = ref_is(o, REF_OBJECT) ? ref_member(o, "x", &count) : NULL;
    bool view = ref_is(k, REF_STRING) && mr_bytes_equal(k->text, MR_BYTES("view"));
    bool positive = ref_is(n, REF_NUMBER) && strtod((const char *)n->raw.ptr, NULL) > 0;
    char text[64];
    assert_string_equal(tell(batch, 3, i, text), view && positive ? "true" : "false");
    if (ref_is(k, REF_STRING)) {
        char lower[64];
        (void)snprintf(lower, sizeof lower, "'%.*s'", (int)k->text.len, (const char *)k->text.ptr);
        for (char *p = lower; *p != 0; p++) {
            *p = (char)(*p >= 'A' && *p <= 'Z' ? *p + 32 : *p);
        }
        assert_string_equal(tell(batch, 4, i, text), lower);
    } else {
        assert_string_equal(tell(batch, 4, i, text), "null");
    }
    bool none = x == NULL || x->kind == REF_NULL;
    assert_string_equal(tell(batch, 5, i, text), none ? "true" : "false");
}

static void agrees_with_the_reference(void **state) {
    static const struct one exprs[] = {{"k == 'view' && n > 0", MR_EXPR_WHERE},
                                       {"lower(k)", MR_FIELD_KEY},
                                       {"o.x == null", MR_EXPR_WHERE}};
    static const char *const ks[] = {"\"view\"", "\"vi\\u0065w\"", "\"View\"", "\"x\\tY\"", "null", "1", "true"};
    static const char *const ns[] = {"1", "0", "-1", "0.25", "1e-3", "null", "12345678901234567890", "-0.0"};
    static const char *const os[] = {"{}", "{\"x\":1}", "{\"x\":null}", "{\"y\":2,\"x\":[]}", "null", "3", "[]"};
    (void)state;
    struct setting s;
    struct ref *ref = calloc(1, sizeof *ref);
    uint64_t random = 99;
    setting_init(&s, exprs, 3, NULL, 0);
    for (int round = 0; round < 25; round++) {
        struct mr_buf body;
        mr_buf_init(&body, 1 << 20);
        bool array = round % 2 == 1;
        uint32_t events = random_below(&random, 400);
        mr_buf_append_text(&body, array ? "[" : "");
        for (uint32_t i = 0; i < events; i++) {
            mr_buf_append_text(&body, array && i > 0 ? "," : "");
            mr_buf_printf(&body, "{\"id\":%u", random_below(&random, 1000));
            if (random_below(&random, 10) > 0) {
                mr_buf_printf(&body, ",\"k\":%s", ks[random_below(&random, 7)]);
            }
            if (random_below(&random, 10) > 0) {
                mr_buf_printf(&body, ",\"n\":%s", ns[random_below(&random, 8)]);
            }
            if (random_below(&random, 10) > 0) {
                mr_buf_printf(&body, ",\"o\":%s", os[random_below(&random, 7)]);
            }
            bool broken = !array && random_below(&random, 20) == 0;
            mr_buf_append_text(&body, broken ? ",}" : "}");
            mr_buf_append_text(&body, array ? "" : "\n");
        }
        mr_buf_append_text(&body, array ? "]" : "");
        s.options.shards = 1 + random_below(&random, 5);
        struct mr_batch *batch =
            decode(&s, array ? MR_FORMAT_ARRAY : MR_FORMAT_NDJSON, mr_buf_bytes(&body));
        assert_int_equal(batch->count, events);
        for (uint32_t i = 0; i < batch->count; i++) {
            if (batch->verdicts[i] == MR_VERDICT_REJECTED) {
                continue;
            }
            const struct ref_value *event = ref_parse(ref, mr_batch_event(batch, i));
            assert_non_null(event);
            assert_row(batch, i, event);
        }
        mr_batch_close(batch);
        mr_buf_finish(&body);
    }
    free(ref);
}

static void survives_lack_of_memory(void **state) {
    static const struct one exprs[] = {{"net > 1", MR_EXPR_WHERE}, {"lower(k)", MR_FIELD_KEY}, {"p", MR_FIELD_KEY}};
    static const char *const derived[][2] = {{"net", "n * 2"}};
    (void)state;
    struct setting s;
    setting_init(&s, exprs, 3, derived, 1);
    bool done = false;
    for (size_t nth = 1; !done; nth++) {
        struct mr_schema *schema = NULL;
        struct mr_decoder *decoder = NULL;
        struct mr_batch *batch = NULL;
        struct mr_buf body;
        mr_buf_init(&body, 1 << 16);
        mr_buf_append(&body, lines, sizeof lines - 1);
        assert_non_null(mr_buf_reserve(&body, MR_PADDING));
        mr_alloc_fail_at(nth, 0);
        enum mr_status status = mr_schema_open(&s.options, &schema, NULL);
        if (status == MR_OK) {
            status = mr_decoder_open(MR_DECODE_AUTO, &decoder);
        }
        if (status == MR_OK) {
            status = mr_decode(decoder, schema, MR_FORMAT_NDJSON, &body, &batch, NULL);
        }
        done = !mr_alloc_failed();
        mr_alloc_fail_at(0, 0);
        assert_int_equal(status, done ? MR_OK : MR_NO_MEMORY);
        mr_batch_close(batch);
        mr_decoder_close(decoder);
        mr_schema_close(schema);
        mr_buf_finish(&body);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fills_columns_by_use),    cmocka_unit_test(reads_columns_of_any_use),
        cmocka_unit_test(works_in_all_formats),
        cmocka_unit_test(derives_fields),          cmocka_unit_test(refuses_bad_expressions),
        cmocka_unit_test(bounds_its_columns),      cmocka_unit_test(rejects_bad_keys),
        cmocka_unit_test(lists_the_first_rejects), cmocka_unit_test(bounds_made_texts),
        cmocka_unit_test(agrees_with_the_reference), cmocka_unit_test(survives_lack_of_memory),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
