/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that runs of alike events (event/run.h) are invisible: bodies of many events of one shape or a few, whose
 * values
 * are of every length and kind at which the code path changes, decoded on every path with prediction on and off, must
 * give the same batch to the last byte; and that most of the alike events were taken in runs, so that it was they
 * that were
 * compared. What is right, test_differential.c and test_syntax.c say.
 */
#include "help.h"

#include <string.h>

enum { ROUNDS = 60, MEMBERS_MAX = 12, KINDS = 12 };

struct env {
    struct variants variants;
    uint64_t random;
};

static int setup(void **state) {
    struct env *env = calloc(1, sizeof *env);
    variants_open(&env->variants);
    *state = env;
    return 0;
}

static int teardown(void **state) {
    struct env *env = *state;
    variants_close(&env->variants);
    free(env);
    return 0;
}

static uint64_t taken(const struct env *env) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < env->variants.count; i++) {
        sum += mr_decoder_taken(env->variants.decoder[i]);
    }
    return sum;
}

static bool has_runs(void) {
    struct mr_decoder *decoder = NULL;
    bool has = mr_decoder_open(MR_DECODE_AVX2, &decoder) == MR_OK;
    mr_decoder_close(decoder);
    return has;
}

/* A member of a shape: what its values are, mostly. */
struct member {
    const char *name;
    uint32_t kind;
    uint32_t len; /* of strings; 0: any */
};

struct shape {
    struct member members[MEMBERS_MAX];
    uint32_t count;
    const char *gap;       /* behind colons and commas */
    const char *separator; /* behind events */
};

static uint32_t below(struct env *env, uint32_t n) {
    return random_below(&env->random, n);
}

static const char *pick(struct env *env, const char *const *texts, uint32_t count) {
    return texts[below(env, count)];
}

#define PICK(env, texts) pick(env, texts, sizeof(texts) / sizeof(texts)[0])

/* Lengths around those at which something changes: vectors, lengths that are assumed. */
static void put_string(struct env *env, struct mr_buf *body, uint32_t len) {
    static const uint32_t lens[] = {0,  1,  5,  7,  8,  15, 16, 17, 31,  32,
                                    33, 55, 56, 57, 58, 63, 64, 65, 120, 300};
    static const char *const odd[] = {"\\\"",           "\\u0041", "\xC3\xA4", "\xF0\x9F\x98\x80",
                                      "\\uD83D\\uDE00", "\\\\"};
    len = len > 0 ? len : lens[below(env, sizeof lens / sizeof lens[0])];
    uint32_t at = below(env, 12) == 0 ? below(env, len + 1) : UINT32_MAX;
    mr_buf_append_char(body, '"');
    for (uint32_t i = 0; i < len; i++) {
        if (i == at) {
            mr_buf_append_text(body, PICK(env, odd));
        }
        mr_buf_append_char(body, (char)('a' + below(env, 26)));
    }
    mr_buf_append_char(body, '"');
}

static void put_number(struct env *env, struct mr_buf *body) {
    static const char *const limits[] = {"0",
                                         "-0",
                                         "0.0",
                                         "-0.5",
                                         "0.25",
                                         "9",
                                         "-9",
                                         "99999999",
                                         "100000000",
                                         "999999.9",
                                         "9999999.9",
                                         "-12345678.5",
                                         "123456789012345",
                                         "1234567890123456",
                                         "9999999999999999",
                                         "12345678901234567",
                                         "123456789012345.6",
                                         "12345678901234.5",
                                         "1234567890123456.7",
                                         "1.2345678901234",
                                         "1.23456789012345",
                                         "12345678901234.",
                                         "12345678901234567.",
                                         "-123456789012345",
                                         "0.1234567890123",
                                         "0.12345678901234",
                                         "12345678.1234567",
                                         "9223372036854775807",
                                         "-9223372036854775808",
                                         "9223372036854775808",
                                         "1e3",
                                         "1E-7",
                                         "12.5e+10",
                                         "0.30000000000000004",
                                         "1.7976931348623157e308",
                                         "5e-324",
                                         "100"};
    if (below(env, 3) == 0) {
        mr_buf_append_text(body, PICK(env, limits));
        return;
    }
    uint32_t scale = below(env, 4);
    static const uint32_t scales[] = {10, 1000, 100000, 1000000000};
    mr_buf_printf(body, "%s%u", below(env, 4) == 0 ? "-" : "", below(env, scales[scale]));
    if (below(env, 2) == 0) {
        mr_buf_printf(body, ".%0*u", 1 + (int)below(env, 6), below(env, 10));
    }
}

static void put_time(struct env *env, struct mr_buf *body, const char *quote) {
    static const char *const odd[] = {"0946684800000",  "946684800000",     "946684799999",
                                      "4102444799999",  "4102444800000",    "1700000000123.5",
                                      "17000000001234", "1700000000",       "01700000000123",
                                      "1.7e12",         "12345678901234567"};
    if (below(env, 10) == 0) {
        mr_buf_printf(body, "%s%s%s", quote, PICK(env, odd), quote);
    } else {
        mr_buf_printf(body, "%s17%011u%s", quote, below(env, 1000000000), quote);
    }
}

static void put_value(struct env *env, struct mr_buf *body, const struct member *member) {
    static const char *const others[] = {
        "null",      "true",      "false",   "[]",       "{}",          "[1,\"a\",{\"b\":[null]}]",
        "{\"e\":1}", "nul",       "tru",     "01",       "-",           "1.",
        ".5",        "\"a\x01\"", "\"\\x\"", "\"\xFF\"", "\"\\uD800\"", "1e",
        ""};
    if (below(env, 40) == 0) {
        mr_buf_append_text(body, PICK(env, others));
        return;
    }
    switch (member->kind) {
    case 0:
    case 1:
    case 2:
    case 3:
        put_string(env, body, member->len);
        return;
    case 4:
        put_string(env, body, 0);
        return;
    case 5:
    case 6:
        put_number(env, body);
        return;
    case 7:
        put_time(env, body, "");
        return;
    case 8:
        put_time(env, body, "\"");
        return;
    case 9:
        mr_buf_append_text(body, below(env, 2) == 0 ? "true" : "null");
        return;
    case 10:
        mr_buf_printf(body, "%u", 1000 + below(env, 100000));
        return;
    default:
        mr_buf_printf(body, "\"2023-11-14T22:%02u:%02u.%03uZ\"", below(env, 60), below(env, 60),
                      below(env, 1000));
        return;
    }
}

/* id and time with usual values, others of any kind, in any order. */
static void make_shape(struct env *env, struct shape *shape) {
    static const char *const names[] = {"k",
                                        "n",
                                        "b",
                                        "x",
                                        "source",
                                        "url",
                                        "a name that is longer than thirty-two bytes",
                                        "country",
                                        "\xC3\xA4",
                                        "",
                                        "user"};
    static const char *const gaps[] = {"",  "",     "",
                                       " ", "\t  ", "                                          "};
    static const char *const separators[] = {
        "\n", "\n", "\n", "\r\n", "\n\n", " \n\t", "\n                         \n"};
    static const uint32_t lens[] = {1, 8, 31, 32, 33, 36, 56, 57, 64};
    shape->count = 2 + below(env, MEMBERS_MAX - 3);
    shape->gap = PICK(env, gaps);
    shape->separator = PICK(env, separators);
    for (uint32_t i = 0; i < shape->count; i++) {
        const char *name = names[(i * 3 + shape->count) % (sizeof names / sizeof names[0])];
        shape->members[i] = (struct member){name, below(env, KINDS),
                                            lens[below(env, sizeof lens / sizeof lens[0])]};
        if (strcmp(name, "n") == 0) {
            shape->members[i].kind = 5;
        }
    }
    uint32_t id = below(env, shape->count);
    static const uint32_t id_kinds[] = {0, 0, 0, 4, 10};
    shape->members[id] = (struct member){"id", id_kinds[below(env, 5)], 32};
    if (below(env, 8) != 0) {
        static const uint32_t time_kinds[] = {7, 7, 7, 8, 11};
        shape->members[(id + 1) % shape->count] =
            (struct member){"time", time_kinds[below(env, 5)], 0};
    }
}

static void put_event(struct env *env, struct mr_buf *body, const struct shape *shape, bool clean) {
    mr_buf_append_char(body, '{');
    for (uint32_t i = 0; i < shape->count; i++) {
        const struct member *member = &shape->members[i];
        mr_buf_printf(body, "%s%s\"%s\":%s", i > 0 ? "," : "", shape->gap, member->name,
                      shape->gap);
        struct member usual = *member;
        if (clean && usual.kind <= 4) { /* what nothing is wrong with */
            mr_buf_printf(body, "\"%0*u\"", (int)usual.len, below(env, 10));
        } else if (clean) {
            mr_buf_printf(body, usual.kind == 7 ? "17%011u" : "%u",
                          usual.kind == 9 ? 1u : 1 + below(env, 1000000));
        } else {
            put_value(env, body, &usual);
        }
    }
    mr_buf_append_char(body, '}');
}

static void mutate(struct env *env, struct mr_buf *body, size_t from) {
    static const char hostile[] = "\"\\{}[]:,0-.eEu \n\r\tntf\x01\x80\xC3\xE2\xF0\xFF";
    body->ptr[from + below(env, (uint32_t)(body->len - from))] =
        (uint8_t)hostile[below(env, sizeof hostile - 1)];
}

/* One body: a few shapes, with `odds` in 100 events changed in one byte. */
static void put_body(struct env *env, struct mr_buf *body, bool array, uint32_t odds, bool clean) {
    struct shape shapes[3];
    uint32_t shape_count = 1 + (below(env, 3) == 0) + (below(env, 6) == 0);
    for (uint32_t i = 0; i < shape_count; i++) {
        make_shape(env, &shapes[i]);
    }
    uint32_t count = 1 + below(env, below(env, 4) == 0 ? 400 : 40);
    mr_buf_append_text(body, array ? "[" : "");
    for (uint32_t i = 0; i < count; i++) {
        const struct shape *shape = &shapes[below(env, shape_count)];
        size_t from = body->len;
        mr_buf_append_text(body, array && i > 0 ? "," : "");
        put_event(env, body, shape, clean);
        if (below(env, 100) < odds) {
            mutate(env, body, from);
        }
        mr_buf_append_text(body, array && below(env, 50) != 0 ? "" : shape->separator);
    }
    mr_buf_append_text(body, array ? "]" : "");
    if (below(env, 4) == 0) { /* cut anywhere */
        body->len = below(env, (uint32_t)body->len + 1);
    }
}

static struct mr_schema *schema_of(uint32_t number) {
    static const struct mr_field few[] = {
        {{(const uint8_t *)"k", 1}, MR_FIELD_ANY},    {{(const uint8_t *)"x", 1}, MR_FIELD_KEY},
        {{(const uint8_t *)"n", 1}, MR_FIELD_NUMBER}, {{(const uint8_t *)"url", 3}, MR_FIELD_ANY},
        {{(const uint8_t *)"time", 4}, MR_FIELD_ANY},
    };
    static const struct mr_field twice[] = {
        {{(const uint8_t *)"k", 1}, MR_FIELD_KEY},    {{(const uint8_t *)"k", 1}, MR_FIELD_ANY},
        {{(const uint8_t *)"n", 1}, MR_FIELD_KEY},    {{(const uint8_t *)"n", 1}, MR_FIELD_NUMBER},
        {{(const uint8_t *)"user", 4}, MR_FIELD_ANY}, {{(const uint8_t *)"id", 2}, MR_FIELD_KEY},
    };
    struct mr_schema_options options = usual_options();
    options.time_format = number % 4 == 3 ? MR_TIME_S : MR_TIME_MS;
    if (number % 3 == 1) {
        options.fields = few;
        options.field_count = number % 2 == 0 ? 4 : 5;
    } else if (number % 3 == 2) {
        options.fields = twice;
        options.field_count = number % 2 == 0 ? 5 : 6;
    }
    if (number % 5 == 4) {
        options.id[0] = MR_BYTES("source");
        options.id[1] = MR_BYTES("id");
        options.id_parts = 2;
    }
    options.missing_id = number % 7 == 6 ? MR_MISSING_ACCEPT : MR_MISSING_REJECT;
    options.missing_time = number % 2 == 0 ? MR_MISSING_ACCEPT : MR_MISSING_REJECT;
    options.event_bytes_max = number % 11 == 10 ? 200 : 1 << 20;
    options.events_max = 1000;
    options.shards = 1 + number % 3;
    return open_schema(&options);
}

/* Twice, so that the second time all of it may be taken. */
static void compare(struct env *env, const struct mr_schema *schema, enum mr_format format,
                    const struct mr_buf *body) {
    for (int again = 0; again < 2; again++) {
        struct mr_batch *batch = NULL;
        (void)decode_all(&env->variants, schema, format, mr_buf_bytes(body), &batch,
                         NULL); /* compared there */
        mr_batch_close(batch);
    }
}

static void takes_what_the_walk_takes(void **state) {
    struct env *env = *state;
    env->random = 7;
    for (uint32_t number = 0; number < ROUNDS; number++) {
        struct mr_schema *schema = schema_of(number);
        for (uint32_t round = 0; round < 20; round++) {
            struct mr_buf body;
            bool array = round % 4 == 3;
            mr_buf_init(&body, 1 << 24);
            put_body(env, &body, array, round % 3 * 4, round % 5 == 0);
            assert_false(body.failed);
            compare(env, schema, array ? MR_FORMAT_ARRAY : MR_FORMAT_NDJSON, &body);
            mr_buf_finish(&body);
        }
        mr_schema_close(schema);
    }
    assert_true(!has_runs() || taken(env) > ROUNDS * 100);
}

/* Of bodies that are all alike, all but the first few events are taken. */
static void takes_alike_events(void **state) {
    struct env *env = *state;
    struct mr_schema *schema = schema_of(0);
    struct mr_buf body;
    mr_buf_init(&body, 1 << 24);
    for (uint32_t i = 0; i < 5000;
         i++) { /* with values of changing lengths */
        mr_buf_printf(&body,
                      "{\"id\":\"%032u\",\"time\":17%011u,\"k\":\"/page/"
                      "%u\",\"x\":{\"y\":[%u]},\"n\":%u.%u,\"b\":-%u}\n",
                      i, i * 1000, i % 1000, i, i, i % 7, i % 100);
    }
    uint64_t before = taken(env);
    struct mr_batch *batch;
    assert_int_equal(
        decode_all(&env->variants, schema, MR_FORMAT_NDJSON, mr_buf_bytes(&body), &batch, NULL),
        MR_LIMIT);
    assert_null(batch);
    body.len = (size_t)((uint8_t *)memmem(body.ptr, body.len,
                                          "\"id\":\"00000000000000000000000000000900\"", 39) -
                        body.ptr) -
               1;
    assert_int_equal(
        decode_all(&env->variants, schema, MR_FORMAT_NDJSON, mr_buf_bytes(&body), &batch, NULL),
        MR_OK);
    assert_int_equal(batch->order_count, 900);
    assert_true(!has_runs() || taken(env) - before >= 900);
    mr_batch_close(batch);
    mr_buf_finish(&body);
    mr_schema_close(schema);
}

/* Long events, with strings of many vectors, and after them short ones again. */
static void takes_long_strings(void **state) {
    struct env *env = *state;
    struct mr_schema *schema = schema_of(1);
    env->random = 9;
    for (uint32_t round = 0; round < 40; round++) {
        struct mr_buf body;
        mr_buf_init(&body, 1 << 24);
        for (uint32_t i = 0; i < 30; i++) {
            uint32_t pad = i % 5 == 4 ? 16000 + below(env, 800) : below(env, 900);
            mr_buf_printf(&body,
                          "{\"id\":\"%032u\",\"pad\":\"%0*u\",\"time\":1700000000123,\"n\":%u,"
                          "\"k\":\"%u\",\"url\":\"%u\"}\n",
                          i, (int)pad, 1u, below(env, 1000), below(env, 1000), below(env, 100000));
        }
        compare(env, schema, MR_FORMAT_NDJSON, &body);
        mr_buf_finish(&body);
    }
    mr_schema_close(schema);
}

/* Behind an event nothing but the end of its line may be learnt. By fresh decoders, which learn at once. */
static void learns_no_rubbish(void **state) {
    (void)state;
    static const char *const rubbish[] = {"x",  "]",  "{}", "{\"id\":2,\"k\":\"a\"}", ",", "1",
                                          "\"", "\v", " ,"};
    struct mr_schema *schema = schema_of(0);
    for (uint32_t i = 0; i < sizeof rubbish / sizeof rubbish[0]; i++) {
        struct variants variants;
        struct mr_buf body;
        variants_open(&variants);
        mr_buf_init(&body, 1 << 16);
        for (int k = 0; k < 12; k++) {
            mr_buf_printf(&body, "{\"id\":%d,\"k\":\"a\"}%s\n", k, rubbish[i]);
        }
        struct mr_batch *batch;
        assert_int_equal(
            decode_all(&variants, schema, MR_FORMAT_NDJSON, mr_buf_bytes(&body), &batch, NULL),
            MR_OK);
        assert_int_equal(batch->count, 12);
        assert_int_equal(batch->rejected, 12);
        mr_batch_close(batch);
        mr_buf_finish(&body);
        variants_close(&variants);
    }
    mr_schema_close(schema);
}

/* A value that was read too early as something else leaves nothing behind. By fresh decoders, which all have a
 * program. */
static void leaves_nothing_behind(void **state) {
    (void)state;
    static const char *const odd[] = {"1e400", "-1e400", "12e5", "1.5e-3", "12x", "null", "1.", "-1.", "01", "-01.5", "0.", ".5", "1234567890123456.",
                                      "123456789012345678901234567890", "123456789012345e2",
                                      "\"a\"", "-",      "-x",   "1.2.3",  "00",  "[1]"};
    struct mr_schema *schema = schema_of(1);
    for (uint32_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
        struct variants variants;
        struct mr_buf body;
        variants_open(&variants);
        mr_buf_init(&body, 1 << 16);
        for (int k = 0; k < 20; k++) {
            mr_buf_printf(&body,
                          "{\"id\":\"i%d\",\"time\":1700000000123,\"k\":%s,\"x\":%s,\"n\":%s}\n", k,
                          k == 9 ? odd[i] : "12", k == 11 ? odd[i] : "7", k == 13 ? odd[i] : "17");
        }
        struct mr_batch *batch;
        assert_int_equal(
            decode_all(&variants, schema, MR_FORMAT_NDJSON, mr_buf_bytes(&body), &batch, NULL),
            MR_OK);
        assert_int_equal(batch->count, 20);
        mr_batch_close(batch);
        mr_buf_finish(&body);
        variants_close(&variants);
    }
    mr_schema_close(schema);
}

/* A schema that is gone, and one that names the same fields (of another stream, or after a change): batches may be laid out
 * otherwise, and lie where the others lay. So what was learnt of one is not used for another: as many events are walked
 * before the first run as at the first time. */
static void keeps_schemas_apart(void **state) {
    struct env *env = *state;
    struct mr_buf body;
    mr_buf_init(&body, 1 << 16);
    for (int k = 0; k < 300; k++) {
        mr_buf_printf(&body, "{\"id\":\"i%d\",\"time\":1700000000123,\"k\":\"key\",\"n\":17}\n", k);
    }
    uint64_t each = 0;
    for (uint32_t round = 0; round < 10; round++) {
        struct mr_schema_options options = usual_options();
        options.shards = 1 + round % 3;
        struct mr_schema *schema = open_schema(&options);
        struct mr_batch *batch;
        uint64_t before = taken(env);
        assert_int_equal(decode_all(&env->variants, schema, MR_FORMAT_NDJSON, mr_buf_bytes(&body), &batch, NULL), MR_OK);
        uint64_t more = taken(env) - before;
        each = round == 0 ? more : each;
        assert_int_equal(more, each);
        assert_true(more > 0 || !has_runs());
        mr_batch_close(batch);
        mr_schema_close(schema);
    }
    mr_buf_finish(&body);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_what_the_walk_takes), cmocka_unit_test(takes_alike_events),
        cmocka_unit_test(takes_long_strings),        cmocka_unit_test(learns_no_rubbish),
        cmocka_unit_test(leaves_nothing_behind),     cmocka_unit_test(keeps_schemas_apart),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
