/* SPDX-License-Identifier: Apache-2.0 */
/*
 * YAML: libyaml's events put together to a tree. Everything that makes two readers disagree about a
 * file (anchors, tags, a key twice, several documents) is refused where it stands.
 */
#include "config/node.h"

#include "base/check.h"

#include <yaml.h>

struct level {
    struct mr_node *node;
    struct mr_node *key; /* of a mapping: read, its value is still to come */
};

struct builder {
    yaml_parser_t parser;
    struct mr_bytes yaml;
    const char *name;
    struct mr_arena *arena;
    struct mr_error *error;
    struct mr_node *root;
    uint32_t documents;
    uint32_t nodes;
    uint32_t depth;
    struct level levels[MR_YAML_DEPTH_MAX];
};

static enum mr_status fail(struct builder *b, yaml_mark_t at, enum mr_status status,
                           const char *text) {
    return mr_error_set(b->error, status, "%s:%zu:%zu: %s", b->name, at.line + 1, at.column + 1,
                        text);
}

/* Line and column of a byte, for errors of which libyaml knows only the offset. */
static yaml_mark_t mark_of(struct mr_bytes yaml, size_t offset) {
    yaml_mark_t mark = {0, 0, 0};
    for (size_t i = 0; i < offset && i < yaml.len; i++) {
        if (yaml.ptr[i] == '\n') {
            mark.line++;
            mark.column = 0;
        } else if ((yaml.ptr[i] & 0xc0) != 0x80) {
            mark.column++;
        }
    }
    return mark;
}

/* What people most often did when the parser stops there. */
static const char *hint_at(struct mr_bytes yaml, yaml_mark_t mark) {
    size_t line = 0;
    size_t i = 0;
    while (i < yaml.len && line < mark.line) {
        line += yaml.ptr[i] == '\n';
        i++;
    }
    if (i + mark.column < yaml.len && yaml.ptr[i + mark.column] == '\t') {
        return " (a tab; indent with spaces)";
    }
    const uint8_t *end = i < yaml.len ? memchr(yaml.ptr + i, '\n', yaml.len - i) : NULL;
    size_t len = end == NULL ? yaml.len - i : (size_t)(end - yaml.ptr) - i;
    bool variable = len > 0 && memmem(yaml.ptr + i, len, "${", 2) != NULL;
    return variable ? " (inside { } or [ ], quote \"${...}\")" : "";
}

static enum mr_status fail_parser(struct builder *b) {
    const yaml_parser_t *p = &b->parser;
    const char *problem = p->problem == NULL ? "cannot be read" : p->problem;
    if (p->error == YAML_MEMORY_ERROR) {
        return mr_error_set(b->error, MR_NO_MEMORY, "%s: out of memory", b->name);
    }
    if (p->error == YAML_READER_ERROR) {
        yaml_mark_t at = mark_of(b->yaml, p->problem_offset);
        return mr_error_set(b->error, MR_INVALID, "%s:%zu:%zu: not UTF-8 text: %s", b->name,
                            at.line + 1, at.column + 1, problem);
    }
    return mr_error_set(b->error, MR_INVALID, "%s:%zu:%zu: not YAML: %s%s%s%s", b->name,
                        p->problem_mark.line + 1, p->problem_mark.column + 1,
                        p->context == NULL ? "" : p->context, p->context == NULL ? "" : ", ",
                        problem, hint_at(b->yaml, p->problem_mark));
}

static enum mr_status add_key(struct builder *b, struct level *level, struct mr_node *key,
                              yaml_mark_t at) {
    if (key->kind != MR_NODE_SCALAR) {
        return fail(b, at, MR_INVALID, "a key is a mapping or a list; expected a name");
    }
    if (level->node->count == MR_YAML_KEYS_MAX) {
        return fail(b, at, MR_LIMIT, "a mapping of more than 1,024 keys");
    }
    for (const struct mr_node *n = level->node->first; n != NULL; n = n->next) {
        if (mr_bytes_equal(n->text, key->text)) {
            return mr_node_error(b->error, key, MR_INVALID,
                                 "`%s` is here twice; the first is in line %u",
                                 mr_show(key->text).text, n->line);
        }
    }
    level->key = key;
    return MR_OK;
}

static void append(struct mr_node *parent, struct mr_node *child) {
    if (parent->last == NULL) {
        parent->first = child;
    } else {
        parent->last->next = child;
    }
    parent->last = child;
    parent->count++;
}

/* Puts a new node where the tree goes on. */
static enum mr_status attach(struct builder *b, struct mr_node *node, yaml_mark_t at) {
    if (b->depth == 0) {
        MR_ASSERT(b->root == NULL);
        b->root = node;
        return MR_OK;
    }
    struct level *level = &b->levels[b->depth - 1];
    if (level->node->kind == MR_NODE_SEQUENCE) {
        append(level->node, node);
        return MR_OK;
    }
    MR_ASSERT(level->node->kind == MR_NODE_MAPPING);
    if (level->key != NULL) {
        level->key->value = node;
        append(level->node, level->key);
        level->key = NULL;
        return MR_OK;
    }
    return add_key(b, level, node, at);
}

/* Its text is empty. */
static enum mr_status new_node(struct builder *b, enum mr_node_kind kind, yaml_mark_t at,
                               struct mr_node **ret) {
    if (b->nodes == MR_YAML_NODES_MAX) {
        return fail(b, at, MR_LIMIT, "more than 100,000 values; this is no configuration");
    }
    struct mr_node *node = mr_arena_alloc(b->arena, sizeof *node);
    if (node == NULL) {
        return mr_error_set(b->error, MR_NO_MEMORY, "%s: out of memory", b->name);
    }
    b->nodes++;
    *node = (struct mr_node){.kind = kind,
                             .line = (uint32_t)at.line + 1,
                             .column = (uint32_t)at.column + 1,
                             .file = b->name,
                             .text = MR_BYTES("")};
    *ret = node;
    return MR_OK;
}

static enum mr_status on_scalar(struct builder *b, const yaml_event_t *event) {
    struct mr_node *node = NULL;
    enum mr_status status = new_node(b, MR_NODE_SCALAR, event->start_mark, &node);
    if (status != MR_OK) {
        return status;
    }
    node->quoted = event->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
    node->text =
        mr_arena_copy(b->arena, mr_bytes_of(event->data.scalar.value, event->data.scalar.length));
    if (node->text.ptr == NULL) {
        return mr_error_set(b->error, MR_NO_MEMORY, "%s: out of memory", b->name);
    }
    return attach(b, node, event->start_mark);
}

static enum mr_status on_begin(struct builder *b, enum mr_node_kind kind, yaml_mark_t at) {
    struct mr_node *node = NULL;
    enum mr_status status = new_node(b, kind, at, &node);
    if (status != MR_OK) {
        return status;
    }
    status = attach(b, node, at);
    if (status != MR_OK) {
        return status;
    }
    if (b->depth == MR_YAML_DEPTH_MAX) {
        return fail(b, at, MR_INVALID, "nested deeper than 16 levels");
    }
    b->levels[b->depth] = (struct level){.node = node};
    b->depth++;
    return MR_OK;
}

static enum mr_status refuse_marks(struct builder *b, const yaml_event_t *event, const void *anchor,
                                   const void *tag) {
    if (anchor != NULL) {
        return fail(b, event->start_mark, MR_INVALID,
                    "an anchor (&name); write the value out instead");
    }
    if (tag != NULL) {
        return fail(b, event->start_mark, MR_INVALID,
                    "a tag (!name); expected a value without one: put a text that begins with ! in quotes");
    }
    return MR_OK;
}

static enum mr_status on_event(struct builder *b, const yaml_event_t *event) {
    enum mr_status status = MR_OK;
    switch (event->type) {
    case YAML_DOCUMENT_START_EVENT:
        b->documents++;
        return b->documents == 1
                   ? MR_OK
                   : fail(b, event->start_mark, MR_INVALID, "a second document; expected one only");
    case YAML_ALIAS_EVENT:
        return fail(b, event->start_mark, MR_INVALID,
                    "an alias (*name); write the value out instead");
    case YAML_SCALAR_EVENT:
        status = refuse_marks(b, event, event->data.scalar.anchor, event->data.scalar.tag);
        return status != MR_OK ? status : on_scalar(b, event);
    case YAML_MAPPING_START_EVENT:
        status =
            refuse_marks(b, event, event->data.mapping_start.anchor, event->data.mapping_start.tag);
        return status != MR_OK ? status : on_begin(b, MR_NODE_MAPPING, event->start_mark);
    case YAML_SEQUENCE_START_EVENT:
        status = refuse_marks(b, event, event->data.sequence_start.anchor,
                              event->data.sequence_start.tag);
        return status != MR_OK ? status : on_begin(b, MR_NODE_SEQUENCE, event->start_mark);
    case YAML_MAPPING_END_EVENT:
    case YAML_SEQUENCE_END_EVENT:
        MR_ASSERT(b->depth > 0);
        b->depth--;
        MR_ASSERT(b->levels[b->depth].key == NULL);
        return MR_OK;
    case YAML_NO_EVENT:
    case YAML_STREAM_START_EVENT:
    case YAML_STREAM_END_EVENT:
    case YAML_DOCUMENT_END_EVENT:
        return MR_OK;
    }
    MR_UNREACHABLE();
}

static enum mr_status read_events(struct builder *b) {
    for (bool done = false; !done;) {
        yaml_event_t event;
        if (!yaml_parser_parse(&b->parser, &event)) {
            return fail_parser(b);
        }
        enum mr_status status = on_event(b, &event);
        done = event.type == YAML_STREAM_END_EVENT;
        yaml_event_delete(&event);
        if (status != MR_OK) {
            return status;
        }
    }
    MR_ASSERT(b->depth == 0);
    return MR_OK;
}

/* Nothing but comments is an empty mapping; any other root than a mapping is a mistake. */
static enum mr_status finish_root(struct builder *b) {
    yaml_mark_t start = {0, 0, 0};
    if (b->root == NULL || mr_node_empty(b->root)) {
        return new_node(b, MR_NODE_MAPPING, start, &b->root);
    }
    if (b->root->kind != MR_NODE_MAPPING) {
        return mr_node_error(
            b->error, b->root, MR_INVALID,
            "not a configuration; expected sections such as `streams:` and `rules:`");
    }
    return MR_OK;
}

enum mr_status mr_yaml_parse(struct mr_bytes yaml, const char *name, struct mr_arena *arena,
                             struct mr_node **ret, struct mr_error *error) {
    MR_ASSERT(name != NULL && arena != NULL);
    if (yaml.len > MR_YAML_BYTES_MAX) {
        return mr_error_set(error, MR_LIMIT, "%s: longer than 1 MiB; this is no configuration",
                            name);
    }
    struct builder b = {.yaml = yaml, .name = name, .arena = arena, .error = error};
    if (!yaml_parser_initialize(&b.parser)) {
        return mr_error_set(error, MR_NO_MEMORY, "%s: out of memory", name);
    }
    /* Said, not guessed: a file in UTF-16 is refused rather than read differently elsewhere. A
     * UTF-8 byte order mark would only be skipped by the guess, so it is skipped here. */
    yaml_parser_set_encoding(&b.parser, YAML_UTF8_ENCODING);
    bool has_mark = yaml.len >= 3 && memcmp(yaml.ptr, "\xef\xbb\xbf", 3) == 0;
    size_t skip = has_mark ? 3 : 0;
    b.yaml = mr_bytes_of(yaml.len == 0 ? (const uint8_t *)"" : yaml.ptr + skip, yaml.len - skip);
    yaml_parser_set_input_string(&b.parser, b.yaml.ptr, b.yaml.len);
    enum mr_status status = read_events(&b);
    yaml_parser_delete(&b.parser);
    if (status == MR_OK) {
        status = finish_root(&b);
    }
    if (status == MR_OK) {
        MR_ASSERT(b.root->kind == MR_NODE_MAPPING);
        *ret = b.root;
    }
    return status;
}
