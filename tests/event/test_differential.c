/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that the projection is right and that prediction is invisible: bodies of random events,
 * most of the shape of the one before, some with bytes changed, as lines and as arrays, decoded on
 * every code path with prediction on and off (the batches must be the same), and each event
 * compared with what an oracle on the reference reader's tree says: accepted or not, for which
 * reasons it may be refused, id, time, texts, numbers.
 */
#include "help.h"
#include "reference.h"

#include <math.h>

enum { ROUNDS = 1200, EVENTS_MAX = 12, MEMBERS = 10 };

struct env {
    struct variants variants;
    struct mr_schema *schema;
    struct ref *ref;
    uint64_t random;
};

static int setup(void **state) {
    struct env *env = calloc(1, sizeof *env);
    variants_open(&env->variants);
    struct mr_schema_options options = usual_options();
    env->schema = open_schema(&options);
    env->ref = calloc(1, sizeof *env->ref);
    *state = env;
    return 0;
}

static int teardown(void **state) {
    struct env *env = *state;
    variants_close(&env->variants);
    mr_schema_close(env->schema);
    free(env->ref);
    free(env);
    return 0;
}

static const char *const values[] = {
    "1",
    "17",
    "-3",
    "0",
    "-0",
    "12.345",
    "1e3",
    "1e400",
    "9223372036854775807",
    "9223372036854775808",
    "1700000000123",
    "\"1700000000123\"",
    "1700000000123.9",
    "\"2023-11-14T22:13:20Z\"",
    "\"yesterday\"",
    "true",
    "false",
    "null",
    "\"\"",
    "\"DE\"",
    "\"u41\"",
    "\"/page/17\"",
    "\"\\u0061b\"",
    "\"\\uD83D\\uDE00\"",
    "\"0123456789abcdef0123456789abcdef\"",
    "\"\xE2\x82\xAC\"",
    "[]",
    "{}",
    "[1,{\"id\":2}]",
    "{\"e\":1}",
    "{\"e\":\"x\",\"f\":{\"g\":2.5}}",
    "{\"f\":{\"g\":7},\"e\":null}",
    "{\"f\":1}",
    "{\"f\":{}}",
    "{\"e\":1,\"e\":2}",
    "{\"f\":{\"g\":1},\"f\":2}",
    "0.1",
    "1.7976931348623157e308",
    "123456789012345678901234567890",
};

static const char *const names[MEMBERS] = {"id", "time", "k",    "n",       "d",
                                           "b",  "x",    "user", "country", "value"};

struct event {
    int order[MEMBERS];
    int count;
    int gap;
    int value[MEMBERS];
};

static void shuffle_event(struct env *env, struct event *event) {
    event->count = 3 + (int)random_below(&env->random, MEMBERS - 2);
    event->gap = (int)random_below(&env->random, 5);
    for (int i = 0; i < event->count; i++) {
        event->order[i] = (int)random_below(&env->random, MEMBERS);
        event->value[i] = (int)random_below(&env->random, sizeof values / sizeof values[0]);
    }
    event->order[random_below(&env->random, (uint32_t)event->count)] = 0; /* mostly an id */
}

/* Good values for the fields with a meaning, mostly. */
static const char *choose_value(struct env *env, int name, int usual) {
    if (random_below(&env->random, 8) == 0) {
        return values[random_below(&env->random, sizeof values / sizeof values[0])];
    }
    switch (name) {
    case 0:
        return values[19 + usual % 6];
    case 1:
        return values[10 + usual % 4];
    case 3:
    case 5:
        return values[usual % 7];
    default:
        return values[usual];
    }
}

static void put_event(struct env *env, struct mr_buf *body, const struct event *event) {
    static const char *const gaps[] = {"", "", " ", "  \t", "                                   "};
    const char *gap = gaps[event->gap];
    mr_buf_append_char(body, '{');
    for (int i = 0; i < event->count; i++) {
        int name = event->order[i];
        bool escaped = event->value[i] % 16 == 3 && names[name][0] == 'i';
        mr_buf_printf(body, "%s%s\"%s\"%s:%s%s", i > 0 ? "," : "", gap,
                      escaped ? "\\u0069d" : names[name], gap, gap,
                      choose_value(env, name, event->value[i]));
    }
    mr_buf_printf(body, "%s}", gap);
}

static void mutate(struct env *env, uint8_t *bytes, size_t len) {
    static const char hostile[] = "\"\\{}[]:,0-.eEu \tntf\x01\x80\xC3\xE2\xF0\xFF";
    for (uint32_t n = random_below(&env->random, 3); n > 0; n--) {
        bytes[random_below(&env->random, (uint32_t)len)] =
            (uint8_t)hostile[random_below(&env->random, sizeof hostile - 1)];
    }
}

/* --- the oracle --- */

#define BIT(reject) (1u << MR_REJECT_##reject)

static bool digits_time(struct mr_bytes text, int64_t *ret) {
    static struct ref ref;
    char copy[64] = {0};
    const struct ref_value *v = ref_parse(&ref, text);
    if (v == NULL || v->kind != REF_NUMBER || v->raw.len != text.len) {
        return false;
    }
    assert_true(text.len < sizeof copy);
    memcpy(copy, text.ptr, text.len);
    double d = strtod(copy, NULL);
    *ret =
        d > -9e15 && d < 9e15 ? (int64_t)floor(d) : INT64_MAX; /* exact for the numbers used here */
    return true;
}

static uint32_t judge_time(const struct ref_value *v, int64_t *ret) {
    int64_t ms = MR_TIME_ARRIVAL;
    if (v == NULL || v->kind == REF_NULL) {
        *ret = ms;
        return 0;
    }
    if (v->kind == REF_STRING && mr_bytes_equal(v->text, MR_BYTES("2023-11-14T22:13:20Z"))) {
        ms = INT64_C(1700000000000);
    } else if ((v->kind != REF_STRING && v->kind != REF_NUMBER) ||
               !digits_time(v->kind == REF_STRING ? v->text : v->raw, &ms)) {
        return BIT(BAD_TIME);
    }
    *ret = ms;
    return ms < MR_TIME_MIN_MS || ms >= MR_TIME_MAX_MS ? BIT(BAD_TIME) : 0;
}

static uint32_t judge_number(const struct ref_value *v, union mr_value *ret, uint8_t *ret_kind) {
    *ret_kind = v == NULL ? MR_VALUE_MISSING : MR_VALUE_NULL;
    *ret = (union mr_value){.i = 0};
    if (v == NULL || v->kind == REF_NULL) {
        return 0;
    }
    char copy[64] = {0};
    if (v->kind != REF_NUMBER) {
        return BIT(BAD_NUMBER);
    }
    assert_true(v->raw.len < sizeof copy);
    memcpy(copy, v->raw.ptr, v->raw.len);
    bool whole = strpbrk(copy, ".eE") == NULL;
    double d = strtod(copy, NULL);
    if (whole && d > -9.2e18 && (d < 9.2e18 || strcmp(copy, "9223372036854775807") == 0)) {
        *ret_kind = MR_VALUE_INT;
        ret->i = strtoll(copy, NULL, 10);
    } else {
        *ret_kind = MR_VALUE_DOUBLE;
        ret->d = d;
    }
    return isinf(d) ? BIT(BAD_NUMBER) : 0;
}

/* What one event must become. */
struct oracle {
    uint32_t problems; /* bits of enum mr_reject; none: accepted */
    struct mr_bytes id;
    int64_t time_ms;
    const struct ref_value *key[2];
    struct mr_column number[2];
    union mr_value value[2];
    uint8_t kind[2];
};

static const struct ref_value *member(const struct ref_value *object, const char *name,
                                      uint32_t *problems) {
    int count = 0;
    const struct ref_value *v =
        object == NULL || object->kind != REF_OBJECT ? NULL : ref_member(object, name, &count);
    *problems |= count > 1 ? BIT(DUPLICATE_NAME) : 0;
    return v;
}

static void judge_key(struct oracle *o, int i, const struct ref_value *v) {
    o->key[i] = v;
    if (v != NULL && (v->kind == REF_ARRAY || v->kind == REF_OBJECT)) {
        o->problems |= BIT(BAD_KEY);
    }
}

static void judge(struct ref *ref, struct mr_bytes event, struct oracle *o) {
    memset(o, 0, sizeof *o);
    const struct ref_value *top = ref_parse(ref, event);
    if (top == NULL) {
        o->problems = BIT(BAD_JSON) | BIT(BAD_UTF8) | BIT(TOO_DEEP);
        return;
    }
    if (top->kind != REF_OBJECT) {
        o->problems = BIT(NOT_OBJECT);
        return;
    }
    const struct ref_value *id = member(top, "id", &o->problems);
    if (id == NULL || id->kind == REF_NULL) {
        o->problems |= BIT(MISSING_ID);
    } else if (id->kind == REF_NUMBER || (id->kind == REF_STRING && id->text.len > 0)) {
        o->id = id->kind == REF_NUMBER ? id->raw : id->text;
    } else {
        o->problems |= BIT(BAD_ID);
    }
    o->problems |= judge_time(member(top, "time", &o->problems), &o->time_ms);
    judge_key(o, 0, member(top, "k", &o->problems));
    o->problems |= judge_number(member(top, "n", &o->problems), &o->value[0], &o->kind[0]);
    const struct ref_value *d = member(top, "d", &o->problems);
    judge_key(o, 1, member(d, "e", &o->problems));
    const struct ref_value *g = member(member(d, "f", &o->problems), "g", &o->problems);
    o->problems |= judge_number(g, &o->value[1], &o->kind[1]);
    union mr_value unused;
    uint8_t unused_kind;
    const struct ref_value *b = member(top, "b", &o->problems);
    o->problems |= judge_number(b, &unused, &unused_kind);
    o->problems |= b != NULL && b->kind >= REF_ARRAY ? BIT(BAD_KEY) : 0;
}

static void assert_key(const struct mr_batch *batch, uint32_t column, uint32_t i,
                       const struct ref_value *v) {
    static const uint8_t kinds[] = {[REF_NULL] = MR_VALUE_NULL,
                                    [REF_FALSE] = MR_VALUE_FALSE,
                                    [REF_TRUE] = MR_VALUE_TRUE,
                                    [REF_NUMBER] = MR_VALUE_DIGITS,
                                    [REF_STRING] = MR_VALUE_STRING};
    uint8_t kind = batch->column[column].kinds[i];
    assert_int_equal(kind, v == NULL ? MR_VALUE_MISSING : kinds[v->kind]);
    if (kind == MR_VALUE_STRING || kind == MR_VALUE_DIGITS) {
        struct mr_bytes text = mr_batch_text(batch, batch->column[column].values[i]);
        assert_true(mr_bytes_equal(text, kind == MR_VALUE_STRING ? v->text : v->raw));
    }
}

static void assert_event(struct env *env, const struct mr_batch *batch, uint32_t i,
                         struct mr_bytes event) {
    static struct oracle o;
    judge(env->ref, event, &o);
    enum mr_reject reject = reject_of(batch, i);
    if ((reject == MR_REJECT_NONE) != (o.problems == 0) ||
        (reject != MR_REJECT_NONE && (o.problems >> reject & 1) == 0)) {
        fail_msg("%s for %.*s", mr_reject_code(reject), (int)event.len, event.ptr);
    }
    if (reject != MR_REJECT_NONE) {
        return;
    }
    assert_true(mr_fingerprint_equal(batch->fps[i], mr_decode_fingerprint(env->schema, &o.id, 1)));
    assert_true(batch->times_ms[i] == o.time_ms);
    assert_key(batch, 0, i, o.key[0]);
    assert_key(batch, 2, i, o.key[1]);
    for (int n = 0; n < 2; n++) {
        const struct mr_column *column = &batch->column[n == 0 ? 1 : 3];
        assert_int_equal(column->kinds[i], o.kind[n]);
        assert_memory_equal(&column->values[i], &o.value[n], sizeof o.value[n]);
    }
}

static void agrees_with_the_oracle_on_lines(void **state) {
    struct env *env = *state;
    env->random = 42;
    uint32_t accepted = 0;
    uint32_t rejected = 0;
    for (int round = 0; round < ROUNDS; round++) {
        struct mr_buf body;
        size_t starts[EVENTS_MAX + 1];
        struct event event;
        mr_buf_init(&body, 1 << 20);
        shuffle_event(env, &event);
        uint32_t count = 1 + random_below(&env->random, EVENTS_MAX);
        for (uint32_t i = 0; i < count; i++) {
            if (random_below(&env->random, 5) == 0) {
                shuffle_event(env, &event);
            }
            starts[i] = body.len;
            put_event(env, &body, &event);
            if (random_below(&env->random, 5) == 0) {
                mutate(env, body.ptr + starts[i] + 1,
                       body.len - starts[i] - 2); /* stays one line */
            }
            mr_buf_append_char(&body, '\n');
        }
        starts[count] = body.len;
        struct mr_batch *batch;
        assert_int_equal(decode_all(&env->variants, env->schema, MR_FORMAT_NDJSON,
                                    mr_buf_bytes(&body), &batch, NULL),
                         MR_OK);
        assert_int_equal(batch->count, count);
        for (uint32_t i = 0; i < count; i++) {
            assert_event(env, batch, i,
                         mr_bytes_of(body.ptr + starts[i], starts[i + 1] - starts[i] - 1));
        }
        rejected += batch->rejected;
        accepted += batch->order_count;
        mr_batch_close(batch);
        mr_buf_finish(&body);
    }
    assert_true(accepted > ROUNDS && rejected > ROUNDS); /* the test means something */
}

/* Arrays: up to the first syntax error as many events as elements, then one for the rest. */
static void agrees_with_the_oracle_on_arrays(void **state) {
    struct env *env = *state;
    env->random = 43;
    for (int round = 0; round < ROUNDS / 2; round++) {
        struct mr_buf body;
        struct event event;
        mr_buf_init(&body, 1 << 20);
        shuffle_event(env, &event);
        uint32_t count = 1 + random_below(&env->random, EVENTS_MAX);
        for (uint32_t i = 0; i < count; i++) {
            if (random_below(&env->random, 5) == 0) {
                shuffle_event(env, &event);
            }
            mr_buf_append_text(&body, i == 0 ? " [ " : i % 3 == 0 ? ",\n" : ",");
            put_event(env, &body, &event);
        }
        mr_buf_append_text(&body, "\n]");
        if (round % 2 == 0) {
            mutate(env, body.ptr + 2, body.len - 2);
        }
        struct mr_batch *batch;
        assert_int_equal(decode_all(&env->variants, env->schema, MR_FORMAT_ARRAY,
                                    mr_buf_bytes(&body), &batch, NULL),
                         MR_OK);
        struct mr_bytes whole = mr_buf_bytes(&body);
        bool valid = ref_parse(env->ref, whole) != NULL;
        uint32_t broken = 0;
        for (uint32_t i = 0; i < batch->count; i++) {
            broken += is_syntax(reject_of(batch, i));
        }
        assert_int_equal(broken, valid ? 0 : 1);
        for (uint32_t i = 0; i + broken < batch->count; i++) {
            assert_event(env, batch, i, mr_batch_event(batch, i));
        }
        mr_batch_close(batch);
        mr_buf_finish(&body);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_the_oracle_on_lines),
        cmocka_unit_test(agrees_with_the_oracle_on_arrays),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
