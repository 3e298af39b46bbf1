/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that random expressions over random values come out as a slow interpreter says that knows
 * nothing of columns, postfix or types: it walks the tree that the text was written from. Where the
 * text is refused for its types, the interpreter's tree must show a reason. Numbers are compared as
 * long doubles (64 bits of mantissa here), so that exactness has an oracle of its own.
 */
#include "help.h"

#include "event/expr.h"

#include <math.h>

enum { ROUNDS = 6000, ROWS = 23, FIELDS = 6, NODES = 40, TEXTS = 1 << 16 };

enum kind { NUL, MISS, BOOL, INT, DBL, STR, OTH };

struct value {
    enum kind kind;
    bool b;
    int64_t i;
    double d;
    char s[24];
};

/* name: how it is written; arity; infix operators have a level. */
static const struct op {
    const char *name;
    int arity;
    int level;
} ops[] = {
    {"||", 2, 1},          {"&&", 2, 2},       {"==", 2, 3},       {"!=", 2, 3},
    {"<", 2, 4},           {"<=", 2, 4},       {">", 2, 4},        {">=", 2, 4},
    {"+", 2, 5},           {"-", 2, 5},        {"*", 2, 6},        {"/", 2, 6},
    {"%", 2, 6},           {"!", 1, 7},        {"-", 1, 7},        {"?", 3, 0},
    {"in", 1, 4},          {"not in", 1, 4},   {"starts_with", 2, 9}, {"ends_with", 2, 9},
    {"contains", 2, 9},    {"lower", 1, 9},    {"upper", 1, 9},    {"length", 1, 9},
    {"is_missing", 1, 9},  {"is_null", 1, 9},  {"coalesce", 2, 9}, {"abs", 1, 9},
    {"floor", 1, 9},       {"ceil", 1, 9},     {"round", 1, 9},    {"number", 1, 9},
    {"text", 1, 9},
};

enum {
    OR, AND, EQ, NE, LT, LE, GT, GE, ADD, SUB, MUL, DIV, MOD, NOT, NEG, CHOOSE, IN, NOT_IN, STARTS,
    ENDS, CONTAINS, LOWER, UPPER, LENGTH, MISSING, ISNULL, COALESCE, ABS, FLOOR, CEIL, ROUND, NUMBER,
    TEXT, OPS
};

static_assert(sizeof ops / sizeof ops[0] == OPS, "one row an operation");

enum { LIST = 3 };

struct tree {
    int op;    /* -1: literal, -2: field */
    int field;
    struct value literal;
    struct value list[LIST];
    struct tree *child[3];
};

struct world {
    uint64_t random;
    struct tree nodes[NODES];
    int node_count;
    struct value fields[FIELDS][ROWS];
    struct mr_column columns[FIELDS];
    union mr_value values[FIELDS][ROWS];
    uint8_t kinds[FIELDS][ROWS];
    uint8_t texts[TEXTS];
    uint32_t text_len;
};

static struct value random_value(struct world *w, bool literal) {
    static const char *const strings[] = {"", "a", "A", "ab", "aB", "b", "1", "-2", "0.5", "17x", "true"};
    static const int64_t ints[] = {0, 1, -1, 2, 3, 7, -5, INT64_MAX, INT64_MIN, INT64_C(1) << 53,
                                   (INT64_C(1) << 53) + 1};
    static const double doubles[] = {0.5, -0.5, 1.0, 2.5, -2.5, 3.0, 0x1p53, 0x1p63, -0x1p63, 1e300, 1e-300};
    struct value v = {.kind = (enum kind)random_below(&w->random, 7)};
    if (literal && (v.kind == MISS || v.kind == OTH)) {
        v.kind = STR;
    }
    v.b = random_below(&w->random, 2) == 1;
    v.i = ints[random_below(&w->random, 11)];
    v.d = doubles[random_below(&w->random, 11)];
    (void)snprintf(v.s, sizeof v.s, "%s", strings[random_below(&w->random, 11)]); /* fits */
    return v;
}

static struct tree *grow(struct world *w, int depth) {
    MR_ASSERT(w->node_count < NODES);
    struct tree *t = &w->nodes[w->node_count++];
    uint32_t dice = random_below(&w->random, 10);
    *t = (struct tree){.op = -1};
    if (depth == 0 || dice < 2 || w->node_count > NODES - 10) {
        t->op = dice % 2 == 0 ? -2 : -1;
        t->field = (int)random_below(&w->random, FIELDS);
        t->literal = random_value(w, true);
        return t;
    }
    t->op = (int)random_below(&w->random, OPS);
    for (int i = 0; i < LIST; i++) {
        t->list[i] = random_value(w, true);
    }
    for (int i = 0; i < ops[t->op].arity; i++) {
        t->child[i] = grow(w, depth - 1);
    }
    return t;
}

static void write_literal(const struct value *v, struct mr_buf *out) {
    switch (v->kind) {
    case BOOL:
        mr_buf_append_text(out, v->b ? "true" : "false");
        break;
    case INT:
        mr_buf_printf(out, "%lld", (long long)v->i);
        break;
    case DBL:
        mr_buf_printf(out, "%.17e", v->d);
        break;
    case STR:
        mr_buf_printf(out, "\"%s\"", v->s);
        break;
    default:
        mr_buf_append_text(out, "null");
        break;
    }
}

/* With as few parentheses as C needs, and sometimes more. Negative literals bind like a minus. */
static void write_tree(struct world *w, const struct tree *t, int level, struct mr_buf *out) {
    if (t->op == -2) {
        mr_buf_printf(out, "f%d", t->field);
        return;
    }
    if (t->op == -1) {
        write_literal(&t->literal, out);
        return;
    }
    const struct op *op = &ops[t->op];
    bool wrap = op->level < level || random_below(&w->random, 8) == 0;
    mr_buf_append_text(out, wrap ? "(" : "");
    if (op->level == 9) {
        mr_buf_printf(out, "%s(", op->name);
        for (int i = 0; i < op->arity; i++) {
            mr_buf_append_text(out, i > 0 ? ", " : "");
            write_tree(w, t->child[i], 0, out);
        }
        mr_buf_append_text(out, ")");
    } else if (t->op == CHOOSE) {
        write_tree(w, t->child[0], 1, out);
        mr_buf_append_text(out, " ? ");
        write_tree(w, t->child[1], 0, out);
        mr_buf_append_text(out, " : ");
        write_tree(w, t->child[2], 0, out);
    } else if (t->op == NOT || t->op == NEG) {
        mr_buf_printf(out, "%s ", op->name);
        /* -(1) is an operation, -1 a literal: the same value but for the smallest int */
        bool literal = t->child[0]->op == -1;
        mr_buf_append_text(out, literal ? "(" : "");
        write_tree(w, t->child[0], op->level, out);
        mr_buf_append_text(out, literal ? ")" : "");
    } else {
        write_tree(w, t->child[0], op->level, out);
        mr_buf_printf(out, " %s ", op->name);
        if (t->op == IN || t->op == NOT_IN) {
            mr_buf_append_text(out, "[");
            for (int i = 0; i < LIST; i++) {
                mr_buf_append_text(out, i > 0 ? "," : "");
                write_literal(&t->list[i], out);
            }
            mr_buf_append_text(out, "]");
        } else {
            write_tree(w, t->child[1], op->level + 1, out);
        }
    }
    mr_buf_append_text(out, wrap ? ")" : "");
}

/* The slow interpreter. */

static const struct value null_value = {.kind = NUL};

static bool none(const struct value *v) {
    return v->kind == NUL || v->kind == MISS;
}

static bool is_number(const struct value *v) {
    return v->kind == INT || v->kind == DBL;
}

static long double exact(const struct value *v) {
    return v->kind == INT ? (long double)v->i : (long double)v->d;
}

static struct value of_bool(bool b) {
    return (struct value){.kind = BOOL, .b = b};
}

static struct value of_double(double d) {
    return isfinite(d) ? (struct value){.kind = DBL, .d = d} : null_value;
}

static bool same(const struct value *a, const struct value *b) {
    if (is_number(a) && is_number(b)) {
        return exact(a) == exact(b);
    }
    return a->kind == b->kind && ((a->kind == STR && strcmp(a->s, b->s) == 0) ||
                                  (a->kind == BOOL && a->b == b->b));
}

static struct value compare(int op, const struct value *a, const struct value *b) {
    int order;
    if (is_number(a) && is_number(b)) {
        order = exact(a) < exact(b) ? -1 : exact(a) > exact(b);
    } else if (a->kind == STR && b->kind == STR) {
        order = strcmp(a->s, b->s);
    } else {
        return null_value;
    }
    return of_bool(op == LT   ? order < 0
                   : op == LE ? order <= 0
                   : op == GT ? order > 0
                              : order >= 0);
}

static struct value math(int op, const struct value *a, const struct value *b) {
    if (!is_number(a) || !is_number(b)) {
        return null_value;
    }
    bool ints = a->kind == INT && b->kind == INT;
    double x = ints || a->kind == INT ? (double)a->i : a->d;
    double y = ints || b->kind == INT ? (double)b->i : b->d;
    if ((op == DIV || op == MOD) && y == 0) {
        return null_value;
    }
    if (op == DIV) {
        return of_double(x / y);
    }
    if (!ints) {
        return of_double(op == ADD ? x + y : op == SUB ? x - y : op == MUL ? x * y : fmod(x, y));
    }
    __int128_t p = a->i;
    __int128_t q = b->i;
    __int128_t r = op == ADD ? p + q : op == SUB ? p - q : op == MUL ? p * q : p % q;
    if (r >= INT64_MIN && r <= INT64_MAX) {
        return (struct value){.kind = INT, .i = (int64_t)r};
    }
    return of_double(op == ADD ? x + y : op == SUB ? x - y : x * y);
}

static struct value alone(int op, const struct value *a) {
    if (!is_number(a)) {
        return null_value;
    }
    if (op == NEG || op == ABS) {
        bool turn = op == NEG || exact(a) < 0;
        if (a->kind == DBL) {
            return of_double(op == ABS ? fabs(a->d) : -a->d);
        }
        return !turn               ? *a
               : a->i == INT64_MIN ? of_double(9223372036854775808.0)
                                   : (struct value){.kind = INT, .i = -a->i};
    }
    if (a->kind == INT) {
        return *a;
    }
    double d = op == FLOOR ? floor(a->d) : op == CEIL ? ceil(a->d) : round(a->d);
    bool fits = d >= -9223372036854775808.0 && d < 9223372036854775808.0;
    return fits ? (struct value){.kind = INT, .i = (int64_t)d} : of_double(d);
}

static struct value case_of(int op, struct value v) {
    for (char *p = v.s; v.kind == STR && *p != 0; p++) {
        *p = (char)(op == LOWER && *p >= 'A' && *p <= 'Z'   ? *p + 32
                    : op == UPPER && *p >= 'a' && *p <= 'z' ? *p - 32
                                                            : *p);
    }
    return v.kind == STR ? v : null_value;
}

static struct value parts(int op, const struct value *a, const struct value *b) {
    if (a->kind != STR || b->kind != STR) {
        return null_value;
    }
    size_t n = strlen(a->s);
    size_t m = strlen(b->s);
    const char *at = strstr(a->s, b->s);
    return of_bool(op == CONTAINS ? at != NULL
                   : op == STARTS ? at == a->s
                                  : n >= m && strcmp(a->s + n - m, b->s) == 0);
}

static struct value to_number(const struct value *v) {
    char *end;
    if (v->kind != STR) {
        return is_number(v) ? *v : null_value;
    }
    double d = strtod(v->s, &end);
    if (v->s[0] == 0 || *end != 0) {
        return null_value;
    }
    bool whole = strchr(v->s, '.') == NULL && strchr(v->s, 'e') == NULL;
    return whole ? (struct value){.kind = INT, .i = strtoll(v->s, NULL, 10)} : of_double(d);
}

/* Of doubles any text that reads back the same would do: the test compares them as numbers. */
static struct value to_text(const struct value *v) {
    struct value ret = {.kind = STR};
    switch (v->kind) {
    case STR:
        return *v;
    case BOOL:
        (void)snprintf(ret.s, sizeof ret.s, "%s", v->b ? "true" : "false"); /* fits */
        return ret;
    case INT:
        (void)snprintf(ret.s, sizeof ret.s, "%lld", (long long)v->i); /* fits */
        return ret;
    case DBL: {
        union mr_expr_datum datum = {.d = v->d};
        char text[32];
        size_t len = mr_expr_scalar_text(MR_VALUE_DOUBLE, datum, text);
        MR_ASSERT(len < sizeof ret.s);
        memcpy(ret.s, text, len);
        assert_true(strtod(ret.s, NULL) == v->d);
        return ret;
    }
    default:
        return null_value;
    }
}

static struct value equal(int op, const struct tree *t, const struct value *a, const struct value *b) {
    bool asks_a = t->child[1]->op == -1 && t->child[1]->literal.kind == NUL;
    bool asks_b = t->child[0]->op == -1 && t->child[0]->literal.kind == NUL;
    if (asks_a || asks_b) {
        return of_bool(none(asks_a ? a : b) == (op == EQ));
    }
    return none(a) || none(b) ? null_value : of_bool(same(a, b) == (op == EQ));
}

static struct value logic(int op, const struct value *a, const struct value *b) {
    bool decisive = op == OR;
    if ((a->kind == BOOL && a->b == decisive) || (b->kind == BOOL && b->b == decisive)) {
        return of_bool(decisive);
    }
    return a->kind == BOOL && b->kind == BOOL ? of_bool(!decisive) : null_value;
}

static struct value member(const struct tree *t, const struct value *a) {
    bool found = false;
    bool has_null = false;
    for (int i = 0; i < LIST; i++) {
        has_null = has_null || t->list[i].kind == NUL;
        found = found || same(a, &t->list[i]);
    }
    if (none(a)) {
        return has_null ? of_bool(t->op == IN) : null_value;
    }
    return of_bool(found == (t->op == IN));
}

static struct value interpret(const struct world *w, const struct tree *t, int row) {
    if (t->op < 0) {
        return t->op == -2 ? w->fields[t->field][row] : t->literal;
    }
    struct value v[3] = {{.kind = NUL}, {.kind = NUL}, {.kind = NUL}};
    for (int i = 0; i < ops[t->op].arity; i++) {
        v[i] = interpret(w, t->child[i], row);
    }
    switch (t->op) {
    case OR:
    case AND:
        return logic(t->op, &v[0], &v[1]);
    case EQ:
    case NE:
        return equal(t->op, t, &v[0], &v[1]);
    case LT:
    case LE:
    case GT:
    case GE:
        return compare(t->op, &v[0], &v[1]);
    case ADD:
    case SUB:
    case MUL:
    case DIV:
    case MOD:
        return math(t->op, &v[0], &v[1]);
    case NOT:
        return v[0].kind == BOOL ? of_bool(!v[0].b) : null_value;
    case CHOOSE:
        return v[0].kind == BOOL && v[0].b ? v[1] : v[2];
    case IN:
    case NOT_IN:
        return member(t, &v[0]);
    case STARTS:
    case ENDS:
    case CONTAINS:
        return parts(t->op, &v[0], &v[1]);
    case LOWER:
    case UPPER:
        return case_of(t->op, v[0]);
    case LENGTH:
        return v[0].kind == STR ? (struct value){.kind = INT, .i = (int64_t)strlen(v[0].s)} : null_value;
    case MISSING:
        return of_bool(v[0].kind == MISS);
    case ISNULL:
        return of_bool(none(&v[0]));
    case COALESCE:
        return !none(&v[0]) ? v[0] : none(&v[1]) ? null_value : v[1];
    case NUMBER:
        return to_number(&v[0]);
    case TEXT:
        return to_text(&v[0]);
    default:
        return alone(t->op, &v[0]);
    }
}

static void fill_fields(struct world *w) {
    static const uint8_t kinds[] = {
        [NUL] = MR_VALUE_NULL,  [MISS] = MR_VALUE_MISSING, [BOOL] = MR_VALUE_FALSE, [INT] = MR_VALUE_INT,
        [DBL] = MR_VALUE_DOUBLE, [STR] = MR_VALUE_STRING,  [OTH] = MR_VALUE_OTHER};
    w->text_len = 0;
    for (int f = 0; f < FIELDS; f++) {
        for (int r = 0; r < ROWS; r++) {
            struct value v = random_value(w, false);
            size_t len = strlen(v.s);
            union mr_value *to = &w->values[f][r];
            w->fields[f][r] = v;
            w->kinds[f][r] = (uint8_t)(kinds[v.kind] + (v.kind == BOOL && v.b));
            if (v.kind == STR) {
                to->text = (struct mr_text){w->text_len | (r % 2 == 0 ? MR_TEXT_UNESCAPED : 0),
                                            (uint32_t)len};
                memcpy(w->texts + w->text_len, v.s, len);
                w->text_len += (uint32_t)len;
            } else if (v.kind == DBL) {
                to->d = v.d;
            } else {
                to->i = v.i;
            }
        }
        w->columns[f] = (struct mr_column){w->values[f], w->kinds[f]};
    }
}

static void assert_value(const struct mr_expr_vector *out, uint32_t i, const struct value *v,
                         const char *text) {
    bool ok = false;
    switch (v->kind) {
    case NUL:
        ok = out->kinds[i] == MR_VALUE_NULL;
        break;
    case MISS:
        ok = out->kinds[i] == MR_VALUE_MISSING;
        break;
    case BOOL:
        ok = out->kinds[i] == (v->b ? MR_VALUE_TRUE : MR_VALUE_FALSE);
        break;
    case INT:
        ok = out->kinds[i] == MR_VALUE_INT && out->values[i].i == v->i;
        break;
    case DBL:
        ok = out->kinds[i] == MR_VALUE_DOUBLE && memcmp(&out->values[i].d, &v->d, sizeof v->d) == 0;
        break;
    case STR:
        ok = out->kinds[i] == MR_VALUE_STRING &&
             mr_bytes_equal(mr_bytes_of(out->values[i].text, out->lens[i]), mr_bytes_text(v->s));
        break;
    default:
        ok = out->kinds[i] == MR_VALUE_OTHER;
        break;
    }
    if (!ok) {
        fail_msg("%s: event %u is of kind %u, expected %d (i %lld, d %g, s %s)", text, i,
                 out->kinds[i], (int)v->kind, (long long)v->i, v->d, v->s);
    }
}

static enum mr_status find_field(void *ctx, struct mr_bytes path, struct mr_expr_field *ret,
                                 struct mr_error *error) {
    (void)ctx;
    (void)error;
    assert_true(path.len == 2 && path.ptr[0] == 'f');
    ret->index = path.ptr[1] - '0';
    return MR_OK;
}

static void compute(struct world *w, const struct tree *tree, const char *text, struct mr_expr *expr,
                    struct mr_expr_scratch *scratch, struct mr_expr_vector *out) {
    for (uint32_t first = 0; first < ROWS; first += 10) { /* chunks of 10, the last one of 3 */
        struct mr_expr_rows rows = {
            .columns = w->columns,
            .body = w->texts,
            .unescaped = w->texts,
            .first = first,
            .count = ROWS - first < 10 ? ROWS - first : 10,
        };
        mr_expr_scratch_clear(scratch);
        assert_int_equal(mr_expr_eval(expr, &rows, scratch, out), MR_OK);
        for (uint32_t i = 0; i < rows.count; i++) {
            struct value v = interpret(w, tree, (int)(first + i));
            assert_value(out, i, &v, text);
        }
    }
}

static void comes_out_as_interpreted(void **state) {
    (void)state;
    struct world *w = mr_alloc_zero(1, sizeof *w);
    struct mr_expr_vector *out = mr_alloc(sizeof *out);
    struct mr_expr_scratch *scratch = NULL;
    struct mr_expr_names names = {.field = find_field};
    int refused = 0;
    w->random = 20240601;
    assert_int_equal(mr_expr_scratch_open(&scratch), MR_OK);
    for (int round = 0; round < ROUNDS; round++) {
        struct mr_buf text;
        struct mr_expr *expr = NULL;
        struct mr_error error = {.text = ""};
        mr_buf_init(&text, 1 << 16);
        fill_fields(w);
        w->node_count = 0;
        const struct tree *tree = grow(w, 1 + round % 4);
        write_tree(w, tree, 0, &text);
        enum mr_status status = mr_expr_open(mr_buf_bytes(&text), &names, &expr, &error);
        mr_buf_append_char(&text, 0);
        if (status == MR_OK) {
            compute(w, tree, (const char *)text.ptr, expr, scratch, out);
        } else if (strstr(error.text, "takes") != NULL || strstr(error.text, "compares") != NULL) {
            refused++; /* types: test_expr.c */
        } else {
            fail_msg("%s: %s", (const char *)text.ptr, error.text);
        }
        mr_expr_close(expr);
        mr_buf_finish(&text);
    }
    assert_true(refused < ROUNDS * 2 / 3);
    mr_expr_scratch_close(scratch);
    mr_free(out);
    mr_free(w);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(comes_out_as_interpreted)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
