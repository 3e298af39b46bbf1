/* SPDX-License-Identifier: Apache-2.0 */
#include "config/interpolate.h"

#include "base/check.h"
#include "config/value.h"

struct interpolation {
    char *const *environment;
    struct mr_arena *arena;
    struct mr_error *error;
    struct mr_buf text; /* of the value at hand */
    size_t total;       /* bytes of all values so far */
};

/* What stands between the braces. */
struct reference {
    struct mr_bytes name;
    struct mr_bytes word; /* behind :- or :? */
    char operator;        /* '-', '?', or 0 */
};

static const char *look_up(char *const *environment, struct mr_bytes name) {
    for (char *const *e = environment; e != NULL && *e != NULL; e++) {
        if (strncmp(*e, (const char *)name.ptr, name.len) == 0 && (*e)[name.len] == '=') {
            return *e + name.len + 1;
        }
    }
    return NULL;
}

static bool name_char(uint8_t c, bool first) {
    bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
    return letter || (!first && c >= '0' && c <= '9');
}

/* inside: between "${" and "}". */
static enum mr_status split(struct interpolation *in, const struct mr_node *node,
                            struct mr_bytes inside, struct reference *ret) {
    size_t len = 0;
    while (len < inside.len && name_char(inside.ptr[len], len == 0)) {
        len++;
    }
    *ret = (struct reference){.name = mr_bytes_of(inside.ptr, len), .word = MR_BYTES("")};
    if (len > 0 && len == inside.len) {
        return MR_OK;
    }
    bool valid = len > 0 && inside.len >= len + 2 && inside.ptr[len] == ':' &&
                 (inside.ptr[len + 1] == '-' || inside.ptr[len + 1] == '?');
    if (!valid) {
        return mr_node_error(in->error, node, MR_INVALID,
                             "`${%s}` is no variable; expected ${NAME}, ${NAME:-default} or "
                             "${NAME:?message} ($$ is a dollar)",
                             mr_show(inside).text);
    }
    ret->operator=(char) inside.ptr[len + 1];
    ret->word = mr_bytes_of(inside.ptr + len + 2, inside.len - len - 2);
    if (memmem(ret->word.ptr, ret->word.len, "${", 2) != NULL) {
        return mr_node_error(in->error, node, MR_INVALID,
                             "a variable inside `${%s:%c...}`; they do not nest",
                             mr_show(ret->name).text, ret->operator);
    }
    return MR_OK;
}

static enum mr_status expand(struct interpolation *in, const struct mr_node *node,
                             const struct reference *ref) {
    const char *value = look_up(in->environment, ref->name);
    bool missing = value == NULL || (ref->operator!= 0 && * value == 0);
    if (missing && ref->operator== '-') {
        mr_buf_append_bytes(&in->text, ref->word);
        return MR_OK;
    }
    if (missing && ref->operator== '?') {
        return mr_node_error(in->error, node, MR_INVALID, "environment variable `%s`: %s",
                             mr_show(ref->name).text,
                             ref->word.len == 0 ? "not set" : mr_show(ref->word).text);
    }
    if (missing) {
        return mr_node_error(
            in->error, node, MR_INVALID,
            "environment variable `%s` is not set; set it, or write ${%s:-default}",
            mr_show(ref->name).text, mr_show(ref->name).text);
    }
    if (!mr_value_utf8(mr_bytes_text(value))) {
        return mr_node_error(in->error, node, MR_INVALID,
                             "environment variable `%s` is not UTF-8 text",
                             mr_show(ref->name).text);
    }
    mr_buf_append_text(&in->text, value);
    return MR_OK;
}

/* Fills in->text with the value of the scalar. */
static enum mr_status rewrite(struct interpolation *in, const struct mr_node *node) {
    struct mr_bytes t = node->text;
    mr_buf_clear(&in->text);
    for (size_t i = 0; i < t.len;) {
        bool special =
            t.ptr[i] == '$' && i + 1 < t.len && (t.ptr[i + 1] == '$' || t.ptr[i + 1] == '{');
        if (!special) {
            mr_buf_append(&in->text, t.ptr + i, 1);
            i++;
            continue;
        }
        if (t.ptr[i + 1] == '$') {
            mr_buf_append_char(&in->text, '$');
            i += 2;
            continue;
        }
        const uint8_t *from = t.ptr + i + 2;
        const uint8_t *end = memchr(from, '}', t.len - i - 2);
        if (end == NULL) {
            return mr_node_error(in->error, node, MR_INVALID,
                                 "`${` without its `}` ($$ is a dollar)");
        }
        struct reference ref;
        enum mr_status status = split(in, node, mr_bytes_of(from, (size_t)(end - from)), &ref);
        status = status != MR_OK ? status : expand(in, node, &ref);
        if (status != MR_OK) {
            return status;
        }
        i = (size_t)(end - t.ptr) + 1;
    }
    return MR_OK;
}

static enum mr_status interpolate_scalar(struct interpolation *in, struct mr_node *node) {
    if (node->text.len == 0 || memchr(node->text.ptr, '$', node->text.len) == NULL) {
        return MR_OK;
    }
    enum mr_status status = rewrite(in, node);
    if (status != MR_OK) {
        return status;
    }
    in->total += in->text.len;
    if (in->total > MR_INTERPOLATED_MAX) {
        return mr_node_error(in->error, node, MR_LIMIT,
                             "values of more than 4 MiB from the environment");
    }
    struct mr_bytes copy = mr_arena_copy(in->arena, mr_buf_bytes(&in->text));
    if (in->text.failed || copy.ptr == NULL) {
        return mr_error_set(in->error, MR_NO_MEMORY, "%s: out of memory", node->file);
    }
    node->text = copy;
    node->quoted = true; /* an empty variable is an empty text, not a value left out */
    return MR_OK;
}

/* Depth is bounded: the tree has at most MR_YAML_DEPTH_MAX levels. */
static enum mr_status visit(struct interpolation *in, struct mr_node *node) {
    if (node->kind == MR_NODE_SCALAR) {
        return interpolate_scalar(in, node);
    }
    for (struct mr_node *n = node->first; n != NULL; n = n->next) {
        bool is_key = node->kind == MR_NODE_MAPPING;
        MR_ASSERT(!is_key || n->value != NULL);
        enum mr_status status = visit(in, is_key ? n->value : n);
        if (status != MR_OK) {
            return status;
        }
    }
    return MR_OK;
}

enum mr_status mr_interpolate(struct mr_node *root, char *const *environment,
                              struct mr_arena *arena, struct mr_error *error) {
    MR_ASSERT(root != NULL && root->kind == MR_NODE_MAPPING);
    struct interpolation in = {.environment = environment, .arena = arena, .error = error};
    mr_buf_init(&in.text, 2 * MR_INTERPOLATED_MAX); /* room to pass the bound by one variable */
    enum mr_status status = visit(&in, root);
    mr_buf_finish(&in.text);
    return status;
}
