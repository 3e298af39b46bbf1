/* SPDX-License-Identifier: Apache-2.0 */
#include "event/schema.h"

#include "base/alloc.h"
#include "base/check.h"
#include "event/batch.h"
#include "event/derive.h"
#include "event/expr.h"
#include "event/text.h"
#include "event/tree.h"

enum { ARENA_FIRST = 4096, ARENA_MAX = 1 << 20 };

static_assert(MR_NODES_MAX < UINT16_MAX, "nodes are numbered in 16 bits");
static_assert(MR_FIELDS_MAX <= UINT8_MAX, "a use names its column in 8 bits");

/* A use not yet sorted to its leaf. */
struct wish {
    uint16_t node;
    struct mr_use use;
};

struct builder {
    struct mr_schema *schema;
    struct mr_error *error;
    struct wish *wishes;
    uint32_t wish_count;
};

static const char *const attribute_names[MR_ATTRIBUTES] = {
    [MR_CE_SPECVERSION] = "specversion",
    [MR_CE_ID] = "id",
    [MR_CE_SOURCE] = "source",
    [MR_CE_TYPE] = "type",
};

/* The path of a node from the top, without the top itself. Returns its length. */
static uint32_t ancestry(const struct mr_schema *schema, uint32_t node,
                         uint16_t ret[MR_PATH_DEPTH_MAX]) {
    uint32_t depth = schema->nodes[node].depth;
    MR_ASSERT(depth <= MR_PATH_DEPTH_MAX);
    for (uint32_t i = depth; i > 0; i--) {
        ret[i - 1] = (uint16_t)node;
        node = schema->nodes[node].parent;
    }
    return depth;
}

void mr_tree_pointer(const struct mr_schema *schema, uint32_t node, char *ret, size_t cap) {
    uint16_t path[MR_PATH_DEPTH_MAX];
    uint32_t depth = ancestry(schema, node, path);
    struct mr_line line;
    mr_line_init(&line, ret, cap);
    for (uint32_t i = 0; i < depth; i++) {
        const struct mr_node *part = &schema->nodes[path[i]];
        mr_line_add_text(&line, "/");
        size_t from = 0; /* RFC 6901: ~ is written ~0, / is written ~1 */
        for (size_t at = 0; at < part->name_len; at++) {
            if (part->name[at] == '~' || part->name[at] == '/') {
                mr_line_add(&line, part->name + from, at - from);
                mr_line_add_text(&line, part->name[at] == '~' ? "~0" : "~1");
                from = at + 1;
            }
        }
        mr_line_add(&line, part->name + from, part->name_len - from);
    }
}

static enum mr_status bad_path(struct mr_error *error, struct mr_bytes path, const char *why) {
    return mr_error_set(error, MR_INVALID, "field \"%.*s\": %s", (int)path.len,
                        (const char *)path.ptr, why);
}

enum mr_status mr_tree_check_path(struct mr_bytes path, struct mr_error *error) {
    if (path.len == 0) {
        return mr_error_set(error, MR_INVALID, "a field has an empty path");
    }
    if (!mr_utf8_valid(path)) {
        return mr_error_set(error, MR_INVALID, "a field's path is not UTF-8");
    }
    if (path.len > MR_PATH_LEN_MAX) {
        return mr_error_set(error, MR_INVALID, "a field's path is longer than %d bytes",
                            MR_PATH_LEN_MAX);
    }
    uint32_t parts = 1;
    for (size_t i = 0; i < path.len; i++) {
        bool dot = path.ptr[i] == '.';
        if (dot && (i == 0 || i + 1 == path.len || path.ptr[i - 1] == '.')) {
            return bad_path(error, path, "a name in the path is empty");
        }
        parts += dot;
    }
    if (parts > MR_PATH_DEPTH_MAX) {
        return bad_path(error, path, "the path has more than 8 names");
    }
    return MR_OK;
}

static_assert(MR_PATH_DEPTH_MAX == 8, "said in the text above");

static uint32_t add_node(struct mr_schema *schema, uint32_t parent, struct mr_bytes name) {
    MR_ASSERT(schema->node_count < MR_NODES_MAX);
    uint32_t n = schema->node_count++;
    schema->nodes[n] = (struct mr_node){
        .name = name.ptr,
        .name_len = (uint16_t)name.len,
        .parent = (uint16_t)parent,
        .depth = (uint8_t)(schema->nodes[parent].depth + 1),
    };
    schema->nodes[parent].inner = true;
    uint32_t slot = (uint32_t)mr_tree_hash(parent, name.ptr, name.len) & schema->table_mask;
    while (schema->table[slot] != 0) {
        slot = (slot + 1) & schema->table_mask;
    }
    schema->table[slot] = (uint16_t)n;
    return n;
}

/* Adds the path's nodes and one use at its end. path is in the arena. */
static void add_use(struct builder *b, struct mr_bytes path, enum mr_use_kind kind, uint32_t index,
                    uint16_t *ret_node) {
    struct mr_schema *schema = b->schema;
    uint32_t node = 0;
    size_t from = 0;
    while (from < path.len) {
        const uint8_t *dot = memchr(path.ptr + from, '.', path.len - from);
        size_t end = dot == NULL ? path.len : (size_t)(dot - path.ptr);
        struct mr_bytes name = {path.ptr + from, end - from};
        uint32_t child = mr_tree_find(schema, node, name.ptr, name.len);
        child = child == 0 ? add_node(schema, node, name) : child;
        node = child;
        from = end + 1;
    }
    b->wishes[b->wish_count++] = (struct wish){
        .node = (uint16_t)node,
        .use = {.kind = (uint8_t)kind, .index = (uint8_t)index},
    };
    schema->nodes[node].use_count++;
    if (ret_node != NULL) {
        *ret_node = (uint16_t)node;
    }
}

/* A path cannot be wanted as a value and as an object: says which two. */
static enum mr_status check_leaves(struct builder *b) {
    const struct mr_schema *schema = b->schema;
    for (uint32_t n = 1; n < schema->node_count; n++) {
        uint32_t parent = schema->nodes[n].parent;
        if (schema->nodes[parent].use_count > 0) {
            char above[MR_POINTER_MAX];
            char below[MR_POINTER_MAX];
            mr_tree_pointer(schema, parent, above, sizeof above);
            mr_tree_pointer(schema, n, below, sizeof below);
            return mr_error_set(b->error, MR_INVALID,
                                "field %s is used itself and is the parent of the used %s", above,
                                below);
        }
    }
    return MR_OK;
}

/* Sorts the wishes to their leaves, in the order of enum mr_use_kind, then as given. */
static void place_uses(struct builder *b) {
    struct mr_schema *schema = b->schema;
    uint32_t next = 0;
    for (uint32_t n = 0; n < schema->node_count; n++) {
        schema->nodes[n].use_first = (uint16_t)next;
        next += schema->nodes[n].use_count;
        schema->nodes[n].use_count = 0;
    }
    MR_ASSERT(next == b->wish_count);
    for (uint8_t kind = MR_USE_ATTRIBUTE; kind <= MR_USE_ANY; kind++) {
        for (uint32_t i = 0; i < b->wish_count; i++) {
            if (b->wishes[i].use.kind == kind) {
                struct mr_node *node = &schema->nodes[b->wishes[i].node];
                schema->uses[node->use_first + node->use_count++] = b->wishes[i].use;
            }
        }
    }
    schema->use_count = next;
}

static enum mr_step_kind step_of(const struct mr_schema *schema, const struct mr_node *node) {
    if (node->inner || node->use_count != 1) {
        return node->inner ? MR_STEP_INNER : MR_STEP_LEAF;
    }
    switch (schema->uses[node->use_first].kind) {
    case MR_USE_ID:
        return MR_STEP_ID;
    case MR_USE_KEY:
        return MR_STEP_KEY;
    case MR_USE_NUMBER:
        return MR_STEP_NUMBER;
    case MR_USE_ANY:
        return MR_STEP_ANY;
    case MR_USE_TIME:
        return schema->options.time_format == MR_TIME_MS  ? MR_STEP_TIME_MS
               : schema->options.time_format == MR_TIME_S ? MR_STEP_TIME_S
                                                          : MR_STEP_LEAF;
    default:
        return MR_STEP_LEAF;
    }
}

static void place_steps(struct mr_schema *schema) {
    for (uint32_t n = 0; n < schema->node_count; n++) {
        schema->nodes[n].step = (uint8_t)step_of(schema, &schema->nodes[n]);
    }
}

/* Texts are copied with readable bytes behind them (tree.h, I2). */
enum mr_status mr_tree_copy_text(struct mr_schema *schema, struct mr_bytes *text) {
    uint8_t *copy = mr_arena_alloc(&schema->arena, text->len + MR_PADDING);
    if (copy == NULL) {
        return MR_NO_MEMORY;
    }
    memset(copy, 0, text->len + MR_PADDING);
    if (text->len > 0) {
        memcpy(copy, text->ptr, text->len);
    }
    text->ptr = copy;
    return MR_OK;
}

static enum mr_status copy_pair(struct mr_schema *schema, struct mr_bytes *name,
                                struct mr_bytes *text) {
    enum mr_status status = mr_tree_copy_text(schema, name);
    return status == MR_OK ? mr_tree_copy_text(schema, text) : status;
}

static enum mr_status copy_exprs(struct mr_schema *schema) {
    struct mr_schema_options *o = &schema->options;
    struct mr_arena *arena = &schema->arena;
    struct mr_schema_expr *exprs = mr_arena_alloc(arena, o->expr_count * sizeof *exprs);
    struct mr_schema_derived *derived = mr_arena_alloc(arena, o->derived_count * sizeof *derived);
    struct mr_expr_lookup *lookups = mr_arena_alloc(arena, o->lookup_count * sizeof *lookups);
    if (exprs == NULL || derived == NULL || lookups == NULL) {
        return MR_NO_MEMORY;
    }
    enum mr_status status = MR_OK;
    for (uint32_t i = 0; i < o->expr_count && status == MR_OK; i++) {
        exprs[i] = o->exprs[i];
        status = copy_pair(schema, &exprs[i].name, &exprs[i].text);
    }
    for (uint32_t i = 0; i < o->derived_count && status == MR_OK; i++) {
        derived[i] = o->derived[i];
        status = copy_pair(schema, &derived[i].name, &derived[i].text);
        status = status == MR_OK ? mr_tree_copy_text(schema, &derived[i].label) : status;
    }
    for (uint32_t i = 0; i < o->lookup_count && status == MR_OK; i++) {
        lookups[i] = o->lookups[i];
        status = mr_tree_copy_text(schema, &lookups[i].name);
    }
    o->exprs = exprs;
    o->derived = derived;
    o->lookups = lookups;
    return status;
}

static enum mr_status copy_options(struct mr_schema *schema) {
    struct mr_schema_options *o = &schema->options;
    enum mr_status status = mr_tree_copy_text(schema, &o->stream);
    for (uint32_t i = 0; i < o->id_parts && status == MR_OK; i++) {
        status = mr_tree_copy_text(schema, &o->id[i]);
    }
    if (status == MR_OK) {
        status = mr_tree_copy_text(schema, &o->time);
    }
    struct mr_field *fields = mr_arena_alloc(&schema->arena, o->field_count * sizeof *fields + 1);
    if (status != MR_OK || fields == NULL) {
        return MR_NO_MEMORY;
    }
    for (uint32_t i = 0; i < o->field_count; i++) {
        fields[i] = o->fields[i];
        status = mr_tree_copy_text(schema, &fields[i].path);
        if (status != MR_OK) {
            return status;
        }
    }
    o->fields = fields;
    return copy_exprs(schema);
}

static enum mr_status add_path(struct builder *b, struct mr_bytes path, enum mr_use_kind kind,
                               uint32_t index, uint16_t *ret_node) {
    enum mr_status status = mr_tree_check_path(path, b->error);
    if (status == MR_OK) {
        add_use(b, path, kind, index, ret_node);
    }
    return status;
}

static enum mr_status add_attributes(struct builder *b) {
    for (uint32_t i = 0; i < MR_ATTRIBUTES; i++) {
        struct mr_bytes name = mr_bytes_text(attribute_names[i]);
        if (mr_tree_copy_text(b->schema, &name) != MR_OK) {
            return mr_error_set(b->error, MR_NO_MEMORY, "out of memory");
        }
        add_use(b, name, MR_USE_ATTRIBUTE, i, &b->schema->attribute_node[i]);
    }
    return MR_OK;
}

static enum mr_status add_all(struct builder *b) {
    static const enum mr_use_kind kinds[] = {
        [MR_FIELD_KEY] = MR_USE_KEY,
        [MR_FIELD_NUMBER] = MR_USE_NUMBER,
        [MR_FIELD_ANY] = MR_USE_ANY,
    };
    const struct mr_schema_options *o = &b->schema->options;
    enum mr_status status = o->cloudevents ? add_attributes(b) : MR_OK;
    for (uint32_t i = 0; i < o->id_parts && status == MR_OK; i++) {
        status = add_path(b, o->id[i], MR_USE_ID, i, &b->schema->id_node[i]);
    }
    if (status == MR_OK && o->time.len > 0) {
        status = add_path(b, o->time, MR_USE_TIME, 0, &b->schema->time_node);
    }
    for (uint32_t i = 0; i < o->field_count && status == MR_OK; i++) {
        status = add_path(b, o->fields[i].path, kinds[o->fields[i].use], i, NULL);
    }
    for (uint32_t i = 0; i < b->schema->hidden_count && status == MR_OK; i++) {
        uint32_t column = o->field_count + o->expr_count + i;
        status = add_path(b, b->schema->hidden[i].path, MR_USE_ANY, column, NULL);
    }
    return status == MR_OK ? check_leaves(b) : status;
}

static enum mr_status check_options(const struct mr_schema_options *o, struct mr_error *error) {
    if (o->id_parts > MR_ID_PARTS_MAX) {
        return mr_error_set(error, MR_INVALID, "an id of %u parts; at most %d", o->id_parts,
                            MR_ID_PARTS_MAX);
    }
    if (o->field_count > MR_FIELDS_MAX) {
        return mr_error_set(error, MR_INVALID, "%u fields used; at most %d", o->field_count,
                            MR_FIELDS_MAX);
    }
    if (o->expr_count > MR_FIELDS_MAX - o->field_count) {
        return mr_error_set(error, MR_INVALID, "%u fields and %u expressions; at most %d together",
                            o->field_count, o->expr_count, MR_FIELDS_MAX);
    }
    if (o->derived_count > MR_DERIVED_MAX) {
        return mr_error_set(error, MR_INVALID, "%u derived fields; at most %d", o->derived_count,
                            MR_DERIVED_MAX);
    }
    for (uint32_t i = 0; i < o->field_count; i++) {
        MR_ASSERT(o->fields[i].use <= MR_FIELD_ANY);
    }
    if (o->time.len == 0 && o->missing_time == MR_MISSING_REJECT) {
        return mr_error_set(error, MR_INVALID,
                            "no time field is named, and events without a time are rejected");
    }
    if (o->shards == 0 || o->shards > MR_SHARDS_MAX) {
        return mr_error_set(error, MR_INVALID, "%u shards; 1 to %d", o->shards, MR_SHARDS_MAX);
    }
    if (o->events_max == 0 || o->event_bytes_max == 0) {
        return mr_error_set(error, MR_INVALID, "the limits of events must not be 0");
    }
    return MR_OK;
}

/* Never given twice. relaxed: only that each is another one matters. */
static uint64_t next_number(void) {
    static _Atomic uint64_t numbers = 1;
    return atomic_fetch_add_explicit(&numbers, 1, memory_order_relaxed);
}

static bool alloc_tree(struct builder *b) {
    struct mr_schema *schema = b->schema;
    const struct mr_schema_options *o = &schema->options;
    uint32_t fields = o->field_count + schema->hidden_count;
    uint32_t uses = fields + o->id_parts + 1 + MR_ATTRIBUTES + 1; /* one stays empty */
    uint32_t nodes = 1 + (fields + o->id_parts + 1) * MR_PATH_DEPTH_MAX + MR_ATTRIBUTES;
    uint32_t slots = 16;
    while (slots < 2 * nodes) {
        slots *= 2;
    }
    schema->nodes = mr_arena_alloc(&schema->arena, nodes * sizeof *schema->nodes);
    schema->uses = mr_arena_alloc(&schema->arena, uses * sizeof *schema->uses);
    schema->table = mr_arena_alloc(&schema->arena, slots * sizeof *schema->table);
    b->wishes = mr_arena_alloc(&schema->arena, uses * sizeof *b->wishes);
    if (schema->nodes == NULL || schema->uses == NULL || schema->table == NULL ||
        b->wishes == NULL) {
        return false;
    }
    memset(schema->uses, 0, uses * sizeof *schema->uses);
    memset(schema->table, 0, slots * sizeof *schema->table);
    schema->table_mask = slots - 1;
    schema->nodes[0] = (struct mr_node){.inner = true};
    schema->node_count = 1;
    return true;
}

enum mr_status mr_schema_open(const struct mr_schema_options *options, struct mr_schema **ret,
                              struct mr_error *error) {
    enum mr_status status = check_options(options, error);
    if (status != MR_OK) {
        return status;
    }
    struct mr_schema *schema = mr_alloc_zero(1, sizeof *schema);
    if (schema == NULL) {
        return mr_error_set(error, MR_NO_MEMORY, "out of memory");
    }
    schema->options = *options;
    mr_arena_init(&schema->arena, ARENA_FIRST, ARENA_MAX);
    struct builder b = {.schema = schema, .error = error};
    if (copy_options(schema) != MR_OK) {
        status = mr_error_set(error, MR_NO_MEMORY, "out of memory");
        goto fail;
    }
    status = mr_derive_compile(schema, error);
    if (status != MR_OK) {
        goto fail;
    }
    schema->columns = options->field_count + options->expr_count + schema->hidden_count;
    if (!alloc_tree(&b)) {
        status = mr_error_set(error, MR_NO_MEMORY, "out of memory");
        goto fail;
    }
    status = add_all(&b);
    if (status != MR_OK) {
        goto fail;
    }
    place_uses(&b);
    place_steps(schema);
    schema->number = next_number();
    *ret = schema;
    return MR_OK;
fail:
    mr_schema_close(schema);
    return status;
}

void mr_schema_close(struct mr_schema *schema) {
    if (schema == NULL) {
        return;
    }
    mr_derive_forget(schema);
    mr_arena_finish(&schema->arena);
    mr_free(schema);
}

const struct mr_schema_options *mr_schema_options(const struct mr_schema *schema) {
    return &schema->options;
}
