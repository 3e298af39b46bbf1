/* SPDX-License-Identifier: Apache-2.0 */
#include "config/load.h"

#include "base/check.h"
#include "base/time_text.h"

#include <sched.h>
#include <stdio.h>
#include <unistd.h>

enum { EXPECTED_MAX = 256 };

enum mr_status mr_load_no_memory(const struct mr_load *load) {
    return mr_error_set(load->error, MR_NO_MEMORY, "%s: out of memory", load->root->file);
}

void *mr_load_array(struct mr_load *load, size_t count, size_t size) {
    void *array = mr_arena_alloc(load->arena, count * size);
    if (array != NULL) {
        memset(array, 0, count * size);
    }
    return array;
}

enum mr_status mr_load_copy(struct mr_load *load, struct mr_bytes text, struct mr_bytes *ret) {
    struct mr_bytes copy = mr_arena_copy(load->arena, text);
    if (copy.ptr == NULL) {
        return mr_load_no_memory(load);
    }
    *ret = copy;
    return MR_OK;
}

struct mr_near mr_load_near(const char *name) {
    struct mr_near near = {""};
    if (name != NULL) {
        (void)snprintf(near.text, sizeof near.text, "; did you mean `%s`?",
                       name); /* names are short */
    }
    return near;
}

static const char *kind_text(const struct mr_node *node) {
    return node->kind == MR_NODE_MAPPING ? "a mapping" : "a list";
}

enum mr_status mr_load_scalar(struct mr_load *load, const struct mr_node *key,
                              const struct mr_node *value, const char *expected) {
    if (value->kind != MR_NODE_SCALAR) {
        return mr_node_error(load->error, value, MR_INVALID, "`%s`: found %s; expected %s",
                             mr_show(key->text).text, kind_text(value), expected);
    }
    if (value->text.len == 0) {
        return mr_node_error(load->error, value, MR_INVALID, "`%s`: no value; expected %s",
                             mr_show(key->text).text, expected);
    }
    return MR_OK;
}

enum mr_status mr_load_list(struct mr_load *load, const struct mr_node *key, uint32_t max,
                            const char *expected) {
    const struct mr_node *list = key->value;
    if (list->kind != MR_NODE_SEQUENCE) {
        return mr_load_scalar(load, key, list, expected);
    }
    if (list->count == 0 || list->count > max) {
        return mr_node_error(load->error, list, MR_INVALID, "`%s`: a list of %u; expected %s",
                             mr_show(key->text).text, list->count, expected);
    }
    for (const struct mr_node *item = list->first; item != NULL; item = item->next) {
        enum mr_status status = mr_load_scalar(load, key, item, expected);
        if (status != MR_OK) {
            return status;
        }
    }
    return MR_OK;
}

static enum mr_status load_mapping(struct mr_load *load, const struct mr_node *key,
                                   const struct mr_node **ret) {
    const struct mr_node *value = key->value;
    if (value->kind == MR_NODE_MAPPING) {
        *ret = value;
        return MR_OK;
    }
    if (mr_node_empty(value)) {
        *ret = NULL;
        return MR_OK;
    }
    if (value->kind == MR_NODE_SEQUENCE) {
        return mr_node_error(load->error, value, MR_INVALID,
                             "`%s`: found a list; expected a mapping", mr_show(key->text).text);
    }
    return mr_node_error(load->error, value, MR_INVALID, "`%s`: found `%s`; expected a mapping",
                         mr_show(key->text).text, mr_show(value->text).text);
}

enum mr_status mr_load_names(struct mr_load *load, const struct mr_node *key, uint32_t max,
                             const struct mr_node **ret) {
    const struct mr_node *mapping;
    enum mr_status status = load_mapping(load, key, &mapping);
    if (status != MR_OK) {
        return status;
    }
    uint32_t count = 0;
    for (const struct mr_node *n = mapping == NULL ? NULL : mapping->first; n != NULL;
         n = n->next) {
        if (!mr_value_name(n->text)) {
            return mr_node_error(
                load->error, n, MR_INVALID,
                "`%s` is no name; expected a-z 0-9 _ -, not beginning with 0-9 or -, "
                "at most 64",
                mr_show(n->text).text);
        }
        if (++count > max) {
            return mr_node_error(load->error, n, MR_INVALID, "`%s`: more than %u of them",
                                 mr_show(key->text).text, max);
        }
    }
    *ret = mapping;
    return MR_OK;
}

enum mr_status mr_load_path(struct mr_load *load, const struct mr_node *value,
                            struct mr_bytes *ret) {
    if (!mr_value_path(value->text)) {
        return mr_node_error(
            load->error, value, MR_INVALID,
            "`%s` is no field; expected names with dots between, at most 8 and 256 "
            "bytes, such as data.order.id",
            mr_show(value->text).text);
    }
    return mr_load_copy(load, value->text, ret);
}

static bool blank(struct mr_bytes text) {
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] > ' ') {
            return false;
        }
    }
    return true;
}

enum mr_status mr_load_expr(struct mr_load *load, const struct mr_node *key,
                            const struct mr_node *value, struct mr_config_expr *ret) {
    static const char expected[] = "an expression such as price > 0, at most 4096 bytes";
    static_assert(MR_EXPR_LEN_MAX == 4096, "said above");
    enum mr_status status = mr_load_scalar(load, key, value, expected);
    if (status != MR_OK) {
        return status;
    }
    if (value->text.len > MR_EXPR_LEN_MAX || blank(value->text)) {
        return mr_node_error(load->error, value, MR_INVALID, "`%s`: %zu bytes%s; expected %s",
                             mr_show(key->text).text, value->text.len,
                             blank(value->text) ? " of white space" : "", expected);
    }
    ret->line = load->state ? 0 : value->line;
    ret->column = load->state ? 0 : value->column;
    return mr_load_copy(load, value->text, &ret->text);
}

enum mr_status mr_load_named(struct mr_load *load, const struct mr_node *value, const char *what,
                             const struct mr_named *items, uint32_t *ret) {
    uint32_t best = 0;
    uint32_t best_distance = UINT32_MAX;
    for (uint32_t i = 0; i < items->count; i++) {
        struct mr_bytes name = mr_named_name(items, i);
        if (mr_bytes_equal(name, value->text)) {
            *ret = i;
            return MR_OK;
        }
        uint32_t distance = mr_value_distance(value->text, name);
        if (distance < best_distance) {
            best = i;
            best_distance = distance;
        }
    }
    if (!mr_value_near(best_distance, value->text)) {
        return mr_node_error(load->error, value, MR_INVALID,
                             "`%s` is no %s; expected one of those under `%ss`",
                             mr_show(value->text).text, what, what);
    }
    return mr_node_error(load->error, value, MR_INVALID, "`%s` is no %s; did you mean `%s`?",
                         mr_show(value->text).text, what, mr_show(mr_named_name(items, best)).text);
}

/* Half of the processors this process may run on: the rest is for the other kind of threads. */
static uint32_t cpus_auto(void) {
    cpu_set_t set;
    long cpus = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set)
                                                            : sysconf(_SC_NPROCESSORS_ONLN);
    long half = cpus / 2;
    return half < 1 ? 1 : half > MR_CPUS_AUTO_MAX ? MR_CPUS_AUTO_MAX : (uint32_t)half;
}

/* The value of a row as a number within its bounds, whatever its unit. */
static bool read_number(const struct mr_option *option, struct mr_bytes text, uint64_t *ret) {
    uint64_t number = 0;
    int64_t ms;
    switch (option->type) {
    case MR_OPTION_CPUS:
        if (mr_bytes_equal(text, MR_BYTES("auto"))) {
            *ret = cpus_auto();
            return true;
        }
        if (!mr_value_count(text, &number)) {
            return false;
        }
        break;
    case MR_OPTION_COUNT:
    case MR_OPTION_COUNT64:
        if (!mr_value_count(text, &number)) {
            return false;
        }
        break;
    case MR_OPTION_BYTES:
    case MR_OPTION_BYTES_OFF:
        if (option->type == MR_OPTION_BYTES_OFF && mr_bytes_equal(text, MR_BYTES("off"))) {
            *ret = UINT64_MAX;
            return true;
        }
        if (!mr_value_bytes(text, &number)) {
            return false;
        }
        break;
    default:
        if (option->type == MR_OPTION_DURATION_OFF && mr_bytes_equal(text, MR_BYTES("off"))) {
            *ret = INT64_MAX;
            return true;
        }
        if (!mr_duration_parse(text, &ms) || ms < 0) {
            return false;
        }
        number = (uint64_t)ms;
        break;
    }
    *ret = number;
    return number >= option->min && number <= option->max;
}

static bool read_rate(const struct mr_option *option, struct mr_bytes text, double *ret) {
    return mr_value_rate(text, ret) && *ret >= (double)option->min / 1e9 &&
           *ret <= (double)option->max / 1e9;
}

/* Writes the field when the text is a value of the row's kind. */
static bool read_field(const struct mr_option *option, struct mr_bytes text, void *field) {
    if (option->type == MR_OPTION_RATE) {
        double rate;
        bool valid = read_rate(option, text, &rate);
        if (valid) {
            memcpy(field, &rate, sizeof rate);
        }
        return valid;
    }
    uint64_t number;
    if (!read_number(option, text, &number)) {
        return false;
    }
    if (option->size == sizeof(uint32_t)) {
        MR_ASSERT(number <= UINT32_MAX);
        uint32_t small = (uint32_t)number;
        memcpy(field, &small, sizeof small);
    } else {
        MR_ASSERT(option->size == sizeof number);
        memcpy(field, &number, sizeof number);
    }
    return true;
}

static enum mr_status load_choice(struct mr_load *load, const struct mr_option *option,
                                  const struct mr_node *value, void *field, const char *expected) {
    const struct mr_choice *choice = mr_choice_find(option->choices, value->text);
    if (choice == NULL) {
        const char *near = mr_choice_suggest(option->choices, value->text);
        return mr_node_error(load->error, value, MR_INVALID, "`%s: %s`; expected %s%s", option->key,
                             mr_show(value->text).text, expected, mr_load_near(near).text);
    }
    if (choice->value == MR_CHOICE_LATER) {
        return mr_node_error(load->error, value, MR_UNSUPPORTED, "`%s: %s`: %s", option->key,
                             choice->text, mr_status_text(MR_UNSUPPORTED));
    }
    bool yes = choice->value != 0;
    if (option->size == sizeof yes) {
        memcpy(field, &yes, sizeof yes);
    } else if (option->size != 0) {
        MR_ASSERT(option->size == sizeof choice->value);
        memcpy(field, &choice->value, sizeof choice->value);
    }
    return MR_OK;
}

static bool valid_text(const struct mr_option *option, struct mr_bytes text) {
    switch (option->type) {
    case MR_OPTION_NAME:
        return mr_value_name(text);
    case MR_OPTION_WORD:
        return mr_value_word(text);
    case MR_OPTION_COLUMN:
        return mr_value_column(text);
    default:
        MR_ASSERT(option->type == MR_OPTION_TEXT);
        return memchr(text.ptr, 0, text.len) == NULL;
    }
}

static enum mr_status load_text(struct mr_load *load, const struct mr_option *option,
                                const struct mr_node *value, struct mr_bytes *field,
                                const char *expected) {
    struct mr_bytes text = value->text;
    if (!valid_text(option, text)) {
        return mr_node_error(load->error, value, MR_INVALID, "`%s: %s`; expected %s", option->key,
                             mr_show(text).text, expected);
    }
    return mr_load_copy(load, text, field);
}

static enum mr_status load_value(struct mr_load *load, const struct mr_option *option,
                                 const struct mr_node *value, void *holder, const char *expected) {
    struct mr_node key = {.text = mr_bytes_text(option->key)};
    enum mr_status status = mr_load_scalar(load, &key, value, expected);
    if (status != MR_OK) {
        return status;
    }
    void *field = (uint8_t *)holder + option->offset;
    switch (option->type) {
    case MR_OPTION_CHOICE:
        return load_choice(load, option, value, field, expected);
    case MR_OPTION_NAME:
    case MR_OPTION_TEXT:
    case MR_OPTION_WORD:
    case MR_OPTION_COLUMN:
        return load_text(load, option, value, field, expected);
    case MR_OPTION_EXPR:
        return mr_load_expr(load, &key, value, field);
    case MR_OPTION_FIELD:
        return mr_load_path(load, value, field);
    default:
        break;
    }
    if (!read_field(option, value->text, field)) {
        return mr_node_error(load->error, value, MR_INVALID, "`%s: %s`; expected %s", option->key,
                             mr_show(value->text).text, expected);
    }
    return MR_OK;
}

enum mr_status mr_load_value(struct mr_load *load, const struct mr_option *option,
                             const struct mr_node *value, void *holder) {
    MR_ASSERT(option->type < MR_OPTION_SCOPE);
    struct mr_buf expected;
    mr_buf_init(&expected, EXPECTED_MAX);
    mr_option_show_values(option, &expected);
    mr_buf_append_char(&expected, 0);
    enum mr_status status =
        expected.failed ? mr_load_no_memory(load)
                        : load_value(load, option, value, holder, (const char *)expected.ptr);
    mr_buf_finish(&expected);
    return status;
}

static enum mr_status unknown_key(struct mr_load *load, enum mr_scope scope,
                                  const struct mr_node *key) {
    const char *where = mr_scope_where(scope);
    const char *near = mr_option_suggest(scope, key->text);
    const char *in = *where == 0 ? "" : " in ";
    if (near != NULL) {
        return mr_node_error(load->error, key, MR_INVALID,
                             "unknown key `%s`%s%s; did you mean `%s`?", mr_show(key->text).text,
                             in, where, near);
    }
    struct mr_buf keys;
    mr_buf_init(&keys, EXPECTED_MAX);
    for (const struct mr_option *o = mr_option_next(scope, NULL); o != NULL;
         o = mr_option_next(scope, o)) {
        if (o->type != MR_OPTION_LATER) {
            mr_buf_append_text(&keys, keys.len == 0 ? "" : ", ");
            mr_buf_append_text(&keys, o->key);
        }
    }
    enum mr_status status =
        mr_node_error(load->error, key, MR_INVALID, "unknown key `%s`%s%s; expected one of %.*s",
                      mr_show(key->text).text, in, where, (int)keys.len, (const char *)keys.ptr);
    mr_buf_finish(&keys);
    return status;
}

static enum mr_status load_option(struct mr_load *load, const struct mr_option *option,
                                  const struct mr_node *key, void *holder) {
    switch (option->type) {
    case MR_OPTION_LATER:
        return mr_node_error(load->error, key, MR_UNSUPPORTED, "`%s`: %s", option->key,
                             mr_status_text(MR_UNSUPPORTED));
    case MR_OPTION_SCOPE:
        return mr_load_scope(load, option->inner, key, holder);
    case MR_OPTION_CODE:
        return option->load(load, key, holder);
    default:
        return mr_load_value(load, option, key->value, holder);
    }
}

/* Defaults are read by the same code as the file, so that the table cannot hold one out of bounds.
 */
static enum mr_status load_default(struct mr_load *load, const struct mr_option *option,
                                   void *holder) {
    if (option->type == MR_OPTION_SCOPE) {
        return mr_load_scope(load, option->inner, NULL, holder);
    }
    if (option->default_text == NULL || option->default_text[0] == 0) {
        return MR_OK;
    }
    struct mr_node value = {
        .kind = MR_NODE_SCALAR, .file = "default", .text = mr_bytes_text(option->default_text)};
    struct mr_node key = {.kind = MR_NODE_SCALAR,
                          .file = "default",
                          .text = mr_bytes_text(option->key),
                          .value = &value};
    enum mr_status status = load_option(load, option, &key, holder);
    MR_ASSERT(status == MR_OK || status == MR_NO_MEMORY);
    return status;
}

enum mr_status mr_load_missing(const struct mr_load *load, const struct mr_option *option,
                               const struct mr_node *key) {
    struct mr_buf values;
    mr_buf_init(&values, EXPECTED_MAX);
    mr_option_show_values(option, &values);
    enum mr_status status = mr_node_error(load->error, key, MR_INVALID,
                                          "`%s` lacks `%s`; expected %.*s", mr_show(key->text).text,
                                          option->key, (int)values.len, (const char *)values.ptr);
    mr_buf_finish(&values);
    return status;
}

enum mr_status mr_load_scope(struct mr_load *load, enum mr_scope scope, const struct mr_node *key,
                             void *holder) {
    MR_ASSERT(load->root != NULL && holder != NULL);
    const struct mr_node *mapping = NULL;
    enum mr_status status = key == NULL ? MR_OK : load_mapping(load, key, &mapping);
    const struct mr_option *o = mr_option_next(scope, NULL);
    for (; o != NULL && status == MR_OK; o = mr_option_next(scope, o)) {
        status = load_default(load, o, holder);
    }
    const struct mr_node *n = mapping == NULL ? NULL : mapping->first;
    for (; n != NULL && status == MR_OK; n = n->next) {
        o = mr_option_find(scope, n->text);
        status = o == NULL ? unknown_key(load, scope, n) : load_option(load, o, n, holder);
    }
    if (key == NULL || status != MR_OK) {
        return status;
    }
    bool names_only = load->state && scope == MR_SCOPE_STORE;
    for (o = mr_option_next(scope, NULL); o != NULL && !names_only; o = mr_option_next(scope, o)) {
        if (o->default_text == MR_NEEDED && mr_node_get(mapping, o->key) == NULL) {
            return mr_load_missing(load, o, key);
        }
    }
    return MR_OK;
}

enum mr_status mr_option_load_listen(struct mr_load *load, const struct mr_node *key,
                                     void *holder) {
    struct mr_config *config = holder;
    static const char expected[] =
        "ADDRESS:PORT such as 127.0.0.1:8080, [::1]:8080 or 0.0.0.0:8080";
    enum mr_status status = mr_load_scalar(load, key, key->value, expected);
    if (status != MR_OK) {
        return status;
    }
    struct mr_bytes host;
    uint16_t port;
    if (!mr_value_listen(key->value->text, &host, &port)) {
        return mr_node_error(load->error, key->value, MR_INVALID, "`listen: %s`; expected %s",
                             mr_show(key->value->text).text, expected);
    }
    config->http.port = port;
    return mr_load_copy(load, host, &config->http.host);
}
