/* SPDX-License-Identifier: Apache-2.0 */
#include "event/derive.h"

#include "base/alloc.h"
#include "base/check.h"
#include "event/expr.h"

#include <stdio.h>

enum { CACHE_SLOTS = 256 };

static_assert(MR_DERIVED_MAX <= 64, "a bit each");

/* Compiling. */

struct compiler {
    struct mr_schema *schema;
    uint32_t visible; /* derived fields that the text may use */
    uint64_t used;    /* those that it does */
};

static bool find_derived(struct compiler *c, struct mr_bytes path, struct mr_expr_field *ret) {
    const struct mr_schema *schema = c->schema;
    for (uint32_t i = 0; i < c->visible; i++) {
        if (mr_bytes_equal(schema->options.derived[i].name, path)) {
            ret->derived = true;
            ret->index = i;
            ret->types = mr_expr_types(schema->derived[i]);
            c->used |= UINT64_C(1) << i;
            return true;
        }
    }
    return false;
}

static bool find_column(const struct mr_schema *schema, struct mr_bytes path, uint32_t *ret) {
    /* Any use of a rule will do: an event whose value is not a number, or no key, is rejected anyway, and
     * of the others a column of that use holds all there is. */
    const struct mr_schema_options *o = &schema->options;
    for (uint32_t i = 0; i < o->field_count; i++) {
        if (mr_bytes_equal(o->fields[i].path, path)) {
            *ret = i;
            return true;
        }
    }
    for (uint32_t i = 0; i < schema->hidden_count; i++) {
        if (mr_bytes_equal(schema->hidden[i].path, path)) {
            *ret = o->field_count + o->expr_count + i;
            return true;
        }
    }
    return false;
}

static enum mr_status find_field(void *ctx, struct mr_bytes path, struct mr_expr_field *ret,
                                 struct mr_error *error) {
    struct compiler *c = ctx;
    struct mr_schema *schema = c->schema;
    const struct mr_schema_options *o = &schema->options;
    if (find_derived(c, path, ret) || find_column(schema, path, &ret->index)) {
        return MR_OK;
    }
    enum mr_status status = mr_tree_check_path(path, error);
    if (status != MR_OK) {
        return status;
    }
    ret->index = o->field_count + o->expr_count + schema->hidden_count;
    if (ret->index >= MR_FIELDS_MAX) {
        return mr_error_set(error, MR_INVALID,
                            "over %d columns of one stream: %u fields of rules, %u expressions, and the "
                            "fields that those use",
                            MR_FIELDS_MAX, o->field_count, o->expr_count);
    }
    struct mr_field hidden = {path, MR_FIELD_ANY};
    if (mr_tree_copy_text(schema, &hidden.path) != MR_OK) {
        return MR_NO_MEMORY;
    }
    schema->hidden[schema->hidden_count++] = hidden;
    return MR_OK;
}

/* One text; its errors begin with the name. */
static enum mr_status compile_one(struct compiler *c, const char *what, struct mr_bytes name, struct mr_bytes text,
                                  struct mr_expr **ret, struct mr_error *error) {
    struct mr_expr_names names = {
        .field = find_field,
        .ctx = c,
        .lookups = c->schema->options.lookups,
        .lookup_count = c->schema->options.lookup_count,
    };
    struct mr_error local = {.text = ""};
    enum mr_status status = mr_expr_open(text, &names, ret, &local);
    if (status != MR_OK) {
        return mr_error_set(error, status, "%s%.*s: %s", what, (int)name.len, (const char *)name.ptr,
                            local.text);
    }
    return MR_OK;
}

static enum mr_status compile_derived(struct compiler *c, uint64_t *needs, struct mr_error *error) {
    struct mr_schema *schema = c->schema;
    for (uint32_t i = 0; i < schema->options.derived_count; i++) {
        const struct mr_schema_derived *one = &schema->options.derived[i];
        enum mr_status status = mr_tree_check_path(one->name, error);
        for (uint32_t k = 0; k < i && status == MR_OK; k++) {
            if (mr_bytes_equal(one->name, schema->options.derived[k].name)) {
                status = mr_error_set(error, MR_INVALID, "derived field %.*s: there are two of that name",
                                      (int)one->name.len, (const char *)one->name.ptr);
            }
        }
        c->visible = i;
        c->used = 0;
        if (status == MR_OK) {
            bool labelled = one->label.len > 0;
            status = compile_one(c, labelled ? "" : "derived field ", labelled ? one->label : one->name, one->text,
                                 &schema->derived[i], error);
        }
        if (status != MR_OK) {
            return status;
        }
        needs[i] = c->used;
    }
    c->visible = schema->options.derived_count;
    return MR_OK;
}

/* Whether values of these types may be what the column is for. */
static enum mr_status check_use(const struct mr_schema_expr *one, const struct mr_expr *expr,
                                struct mr_error *error) {
    uint8_t types = mr_expr_types(expr);
    bool fits = one->use == MR_EXPR_WHERE     ? (types & MR_EXPR_BOOL) != 0
                : one->use == MR_FIELD_NUMBER ? (types & MR_EXPR_NUMBER) != 0
                                              : true;
    char is[64];
    return fits ? MR_OK
                : mr_error_set(error, MR_INVALID, "%.*s: expected %s, but this is %s", (int)one->name.len,
                               (const char *)one->name.ptr,
                               one->use == MR_EXPR_WHERE ? "a truth value" : "a number",
                               mr_expr_types_text(types, is, sizeof is));
}

enum mr_status mr_derive_compile(struct mr_schema *schema, struct mr_error *error) {
    const struct mr_schema_options *o = &schema->options;
    if (o->expr_count == 0 && o->derived_count == 0) {
        return MR_OK;
    }
    size_t lists = (o->derived_count + o->expr_count) * sizeof(struct mr_expr *);
    schema->hidden = mr_arena_alloc(&schema->arena, MR_FIELDS_MAX * sizeof *schema->hidden);
    schema->derived = mr_arena_alloc(&schema->arena, lists);
    if (schema->hidden == NULL || schema->derived == NULL) {
        schema->derived = NULL;
        return mr_error_set(error, MR_NO_MEMORY, "out of memory");
    }
    memset(schema->derived, 0, lists);
    schema->exprs = schema->derived + o->derived_count;
    struct compiler c = {.schema = schema};
    uint64_t needs[MR_DERIVED_MAX];
    enum mr_status status = compile_derived(&c, needs, error);
    c.used = 0;
    for (uint32_t i = 0; i < o->expr_count && status == MR_OK; i++) {
        status = compile_one(&c, "", o->exprs[i].name, o->exprs[i].text, &schema->exprs[i], error);
        if (status == MR_OK) {
            status = check_use(&o->exprs[i], schema->exprs[i], error);
        }
    }
    for (uint32_t i = o->derived_count; i > 0 && status == MR_OK; i--) { /* what is used, uses others */
        c.used |= (c.used >> (i - 1) & 1) != 0 ? needs[i - 1] : 0;
    }
    schema->derived_used = c.used;
    return status;
}

void mr_derive_forget(struct mr_schema *schema) {
    uint32_t count = schema->derived == NULL
                         ? 0
                         : schema->options.derived_count + schema->options.expr_count;
    for (uint32_t i = 0; i < count; i++) {
        mr_expr_close(schema->derived[i]); /* the expressions stand behind the derived fields */
    }
}

/* Running. */

struct made_slot {
    uint64_t hash;
    struct mr_text text; /* off from the beginning of made */
    uint32_t batch;      /* in which it was put here */
};

struct mr_derive_scratch {
    struct mr_expr_scratch *expr;
    struct mr_expr_vector *derived; /* derived_room of them */
    uint32_t derived_room;
    uint32_t batch; /* counts them: entries of the cache from others are void */
    struct mr_buf made;
    struct mr_expr_vector out;
    struct made_slot cache[CACHE_SLOTS];
};

/* One run. */
struct run {
    struct mr_derive_scratch *s;
    struct mr_build *b;
    struct mr_expr_rows rows;
    uint32_t rejected;
    const struct mr_schema_expr *of; /* whose values are being stored */
};

void mr_derive_scratch_close(struct mr_derive_scratch *scratch) {
    if (scratch != NULL) {
        mr_expr_scratch_close(scratch->expr);
        mr_free(scratch->derived);
        mr_buf_finish(&scratch->made);
        mr_free(scratch);
    }
}

static enum mr_status prepare(struct mr_derive_scratch **scratch, uint32_t derived) {
    if (*scratch == NULL) {
        struct mr_derive_scratch *made = mr_alloc_zero(1, sizeof *made);
        if (made == NULL || mr_expr_scratch_open(&made->expr) != MR_OK) {
            mr_free(made);
            return MR_NO_MEMORY;
        }
        *scratch = made;
    }
    struct mr_derive_scratch *s = *scratch;
    if (s->derived_room < derived) {
        struct mr_expr_vector *vectors = mr_realloc(s->derived, derived * sizeof *vectors);
        if (vectors == NULL) {
            return MR_NO_MEMORY;
        }
        s->derived = vectors;
        s->derived_room = derived;
    }
    if (++s->batch == 0) { /* after 2^32 of them */
        memset(s->cache, 0, sizeof s->cache);
        s->batch = 1;
    }
    return MR_OK;
}

static bool reject(struct run *run, uint32_t row, enum mr_reject why, const char *text, size_t number) {
    char detail[MR_DETAIL_MAX];
    (void)snprintf(detail, sizeof detail, text, number); /* fits */
    run->rejected++;
    return mr_build_reject_late(run->b, row, why, run->of->name, detail);
}

/* Puts a text that is neither in the body nor unescaped behind what was made before, or finds it there.
 * False: over the bound, or out of memory (made.failed tells). */
static bool keep_text(struct run *run, struct mr_bytes text, struct mr_text *ret) {
    struct mr_derive_scratch *s = run->s;
    uint64_t hash = mr_checksum(text);
    struct made_slot *slot = &s->cache[hash % CACHE_SLOTS];
    bool found = slot->batch == s->batch && slot->hash == hash && slot->text.len == text.len &&
                 (text.len == 0 || memcmp(s->made.ptr + slot->text.off, text.ptr, text.len) == 0);
    if (!found) {
        if (text.len > s->made.cap_max - s->made.len) {
            return false;
        }
        struct mr_text at = {(uint32_t)s->made.len, (uint32_t)text.len};
        mr_buf_append_bytes(&s->made, text);
        if (s->made.failed) {
            return false;
        }
        *slot = (struct made_slot){hash, at, s->batch};
    }
    ret->off = ((uint32_t)run->b->walk->unescaped->len + slot->text.off) | MR_TEXT_UNESCAPED;
    ret->len = slot->text.len;
    return true;
}

static bool place_text(struct run *run, struct mr_bytes text, struct mr_text *ret) {
    const struct mr_walk *walk = run->b->walk;
    uintptr_t at = (uintptr_t)text.ptr;
    uintptr_t body = (uintptr_t)walk->body;
    uintptr_t unescaped = (uintptr_t)walk->unescaped->ptr;
    if (text.len == 0) { /* anywhere: nothing may have been unescaped or made */
        *ret = (struct mr_text){0, 0};
        return true;
    }
    if (at >= body && at < (uintptr_t)walk->end) {
        *ret = (struct mr_text){(uint32_t)(at - body), (uint32_t)text.len};
        return true;
    }
    if (at >= unescaped && at < unescaped + walk->unescaped->len) {
        *ret = (struct mr_text){(uint32_t)(at - unescaped) | MR_TEXT_UNESCAPED, (uint32_t)text.len};
        return true;
    }
    return keep_text(run, text, ret);
}

/* A text as the value of a row: true, or false when out of memory; the event may be rejected. */
static bool store_text(struct run *run, struct mr_column *column, uint32_t row, struct mr_bytes text,
                       uint8_t kind) {
    struct mr_text placed;
    if (run->of->use == MR_FIELD_KEY && text.len > MR_KEY_TEXT_MAX) {
        return reject(run, row, MR_REJECT_BAD_KEY, "a text of %zu bytes, too long for a key", text.len);
    }
    if (!place_text(run, text, &placed)) {
        return !run->s->made.failed && reject(run, row, MR_REJECT_TOO_LONG,
                                              "the texts that expressions make in this request are over "
                                              "%zu bytes",
                                              run->s->made.cap_max);
    }
    column->values[row].text = placed;
    column->kinds[row] = kind;
    return true;
}

static bool store_key(struct run *run, struct mr_column *column, uint32_t row, uint32_t i) {
    const struct mr_expr_vector *out = &run->s->out;
    char text[32];
    switch (out->kinds[i]) {
    case MR_VALUE_STRING:
        return store_text(run, column, row, mr_bytes_of(out->values[i].text, out->lens[i]),
                          MR_VALUE_STRING);
    case MR_VALUE_INT:
    case MR_VALUE_DOUBLE: {
        size_t len = mr_expr_scalar_text(out->kinds[i], out->values[i], text);
        return store_text(run, column, row, mr_bytes_of(text, len), MR_VALUE_DIGITS);
    }
    case MR_VALUE_OTHER:
        return reject(run, row, MR_REJECT_BAD_KEY, "an object or array cannot be a key", 0);
    default:
        column->kinds[row] = out->kinds[i];
        return true;
    }
}

static bool store_any(struct run *run, struct mr_column *column, uint32_t row, uint32_t i) {
    const struct mr_expr_vector *out = &run->s->out;
    uint8_t kind = out->kinds[i];
    if (kind == MR_VALUE_STRING) {
        return store_text(run, column, row, mr_bytes_of(out->values[i].text, out->lens[i]), kind);
    }
    column->kinds[row] = kind;
    if (kind == MR_VALUE_INT || kind == MR_VALUE_DOUBLE) {
        column->values[row].i = out->values[i].i; /* or the double: the same eight bytes */
    }
    return true;
}

static void store_number(struct mr_column *column, uint32_t row, const struct mr_expr_vector *out,
                         uint32_t i) {
    uint8_t kind = out->kinds[i];
    if (kind == MR_VALUE_INT || kind == MR_VALUE_DOUBLE) {
        column->values[row].i = out->values[i].i;
        column->kinds[row] = kind;
    } else {
        column->kinds[row] = kind == MR_VALUE_NULL ? MR_VALUE_NULL : MR_VALUE_MISSING;
    }
}

/* out to the column of the expression; rows of rejected events stay MISSING. */
static bool store(struct run *run, struct mr_column *column) {
    const struct mr_expr_vector *out = &run->s->out;
    const uint8_t *verdicts = run->b->batch->verdicts;
    bool ok = true;
    for (uint32_t i = 0; i < run->rows.count && ok; i++) {
        uint32_t row = run->rows.first + i;
        if (verdicts[row] == MR_VERDICT_REJECTED) {
            continue;
        }
        switch (run->of->use) {
        case MR_EXPR_WHERE:
            column->kinds[row] = out->kinds[i] == MR_VALUE_TRUE ? MR_VALUE_TRUE : MR_VALUE_FALSE;
            break;
        case MR_FIELD_NUMBER:
            store_number(column, row, out, i);
            break;
        case MR_FIELD_KEY:
            ok = store_key(run, column, row, i);
            break;
        default:
            ok = store_any(run, column, row, i);
            break;
        }
    }
    return ok;
}

static enum mr_status run_chunk(struct run *run) {
    const struct mr_schema *schema = run->b->schema;
    struct mr_derive_scratch *s = run->s;
    mr_expr_scratch_clear(s->expr);
    for (uint64_t left = schema->derived_used; left != 0; left &= left - 1) {
        uint32_t i = (uint32_t)__builtin_ctzll(left);
        if (mr_expr_eval(schema->derived[i], &run->rows, s->expr, &s->derived[i]) != MR_OK) {
            return MR_NO_MEMORY;
        }
    }
    for (uint32_t i = 0; i < schema->options.expr_count; i++) {
        run->of = &schema->options.exprs[i];
        if (mr_expr_eval(schema->exprs[i], &run->rows, s->expr, &s->out) != MR_OK ||
            !store(run, &run->b->batch->column[schema->options.field_count + i])) {
            return MR_NO_MEMORY;
        }
    }
    return MR_OK;
}

/* Offsets of texts have 31 bits. */
static size_t made_max(const struct mr_walk *walk) {
    size_t bound = MR_MADE_FACTOR * (size_t)(walk->end - walk->body) + MR_MADE_EXTRA;
    size_t room = MR_TEXT_UNESCAPED - 1 - walk->unescaped->len;
    return bound < room ? bound : room;
}

enum mr_status mr_derive_run(struct mr_derive_scratch **scratch, struct mr_build *b) {
    const struct mr_walk *walk = b->walk;
    struct mr_batch *batch = b->batch;
    if (prepare(scratch, b->schema->options.derived_count) != MR_OK) {
        return MR_NO_MEMORY;
    }
    struct run run = {
        .s = *scratch,
        .b = b,
        .rows = {.columns = batch->column,
                 .body = walk->body,
                 .unescaped = walk->unescaped->ptr,
                 .derived = (*scratch)->derived},
    };
    mr_buf_init(&run.s->made, made_max(walk));
    enum mr_status status = MR_OK;
    for (uint32_t first = 0; first < batch->count && status == MR_OK; first += MR_EXPR_CHUNK) {
        uint32_t left = batch->count - first;
        run.rows.first = first;
        run.rows.count = left < MR_EXPR_CHUNK ? left : MR_EXPR_CHUNK;
        status = run_chunk(&run);
    }
    if (status == MR_OK && run.s->made.len > 0) {
        mr_buf_append_bytes(walk->unescaped, mr_buf_bytes(&run.s->made));
        status = walk->unescaped->failed ? MR_NO_MEMORY : MR_OK;
    }
    mr_buf_finish(&run.s->made);
    if (status == MR_OK && run.rejected > 0) {
        mr_build_count_times(b);
    }
    return status;
}
