/* SPDX-License-Identifier: Apache-2.0 */
#include "server/params.h"

#include "base/check.h"
#include "config/value.h"

#include <stdio.h>

enum { LIST_MAX = 256 };

/* Decodes onto the end of text, which has room for it. false: a broken escape. */
static bool decode(struct mr_bytes raw, struct mr_buf *text, struct mr_bytes *ret) {
    MR_ASSERT(text->cap - text->len >= raw.len);
    uint8_t *begin = text->ptr + text->len;
    uint8_t *to = begin;
    for (size_t i = 0; i < raw.len; i++) {
        uint8_t c = raw.ptr[i];
        if (c == '%') {
            int byte = raw.len - i < 3 ? -1 : mr_hex_byte(raw.ptr + i + 1);
            if (byte < 0) {
                return false;
            }
            c = (uint8_t)byte;
            i += 2;
        } else if (c == '+') {
            c = ' ';
        }
        *to++ = c;
    }
    *ret = mr_bytes_of(begin, (size_t)(to - begin));
    text->len += ret->len;
    return true;
}

static const struct mr_param *find_bytes(const struct mr_params *params, struct mr_bytes name) {
    for (uint32_t i = 0; i < params->count; i++) {
        if (mr_bytes_equal(params->items[i].name, name)) {
            return &params->items[i];
        }
    }
    return NULL;
}

/* One piece between two '&'. */
static enum mr_status take(struct mr_params *params, struct mr_bytes piece,
                           struct mr_error *error) {
    const uint8_t *equals = memchr(piece.ptr, '=', piece.len);
    size_t name_len = equals == NULL ? piece.len : (size_t)(equals - piece.ptr);
    struct mr_bytes raw_name = mr_bytes_of(piece.ptr, name_len);
    struct mr_bytes raw_value = mr_bytes_of(piece.ptr + piece.len, 0);
    if (equals != NULL) {
        raw_value = mr_bytes_of(equals + 1, piece.len - name_len - 1);
    }
    struct mr_param param;
    if (!decode(raw_name, &params->text, &param.name) ||
        !decode(raw_value, &params->text, &param.value)) {
        return mr_error_set(error, MR_INVALID,
                            "query parameter `%s`: broken percent escape; expected %% and two "
                            "hexadecimal digits",
                            mr_quote(piece).text);
    }
    if (param.name.len == 0) {
        return mr_error_set(error, MR_INVALID, "query parameter without a name: `%s`",
                            mr_quote(piece).text);
    }
    if (find_bytes(params, param.name) != NULL) {
        return mr_error_set(error, MR_INVALID, "query parameter `%s` is given twice",
                            mr_quote(param.name).text);
    }
    if (params->count == MR_PARAMS_MAX) {
        return mr_error_set(error, MR_INVALID, "more than %d query parameters", MR_PARAMS_MAX);
    }
    params->items[params->count++] = param;
    return MR_OK;
}

enum mr_status mr_params_init(struct mr_params *ret, struct mr_bytes query,
                              struct mr_error *error) {
    *ret = (struct mr_params){0};
    mr_buf_init(&ret->text, query.len);
    if (query.len == 0) {
        return MR_OK;
    }
    /* Decoding never lengthens: nothing moves once there is room for all of it. */
    if (mr_buf_reserve(&ret->text, query.len) == NULL) {
        return mr_error_set(error, MR_NO_MEMORY, "no memory for the query");
    }
    enum mr_status status = MR_OK;
    size_t at = 0;
    while (status == MR_OK && at < query.len) {
        const uint8_t *end = memchr(query.ptr + at, '&', query.len - at);
        size_t len = end == NULL ? query.len - at : (size_t)(end - query.ptr) - at;
        if (len > 0) {
            status = take(ret, mr_bytes_of(query.ptr + at, len), error);
        }
        at += len + 1;
    }
    return status;
}

void mr_params_finish(struct mr_params *params) {
    mr_buf_finish(&params->text);
    params->count = 0;
}

static bool begins_with(struct mr_bytes name, const char *prefix) {
    size_t len = strlen(prefix);
    return name.len > len && memcmp(name.ptr, prefix, len) == 0;
}

static bool is_known(struct mr_bytes name, const char *const *names, uint32_t name_count,
                     const char *prefix) {
    for (uint32_t i = 0; i < name_count; i++) {
        if (mr_bytes_equal(name, mr_bytes_text(names[i]))) {
            return true;
        }
    }
    return prefix != NULL && begins_with(name, prefix);
}

/* What was probably meant; NULL: nothing is near. */
static const char *nearest(struct mr_bytes typed, const char *const *names, uint32_t name_count) {
    const char *best = NULL;
    uint32_t best_distance = UINT32_MAX;
    for (uint32_t i = 0; i < name_count; i++) {
        uint32_t distance = mr_value_distance(typed, mr_bytes_text(names[i]));
        if (distance < best_distance) {
            best = names[i];
            best_distance = distance;
        }
    }
    return best != NULL && mr_value_near(best_distance, typed) ? best : NULL;
}

static enum mr_status refuse_unknown(struct mr_bytes name, const char *const *names,
                                     uint32_t name_count, const char *prefix,
                                     struct mr_error *error) {
    const char *meant = nearest(name, names, name_count);
    if (meant != NULL) {
        return mr_error_set(error, MR_INVALID, "unknown query parameter `%s`; did you mean `%s`?",
                            mr_quote(name).text, meant);
    }
    char list[LIST_MAX] = "";
    for (uint32_t i = 0; i < name_count; i++) {
        mr_list_append(list, sizeof list, mr_bytes_text(names[i]));
    }
    if (prefix != NULL) {
        char any[64];
        (void)snprintf(any, sizeof any, "%s<name>", prefix);
        mr_list_append(list, sizeof list, mr_bytes_text(any));
    }
    return mr_error_set(error, MR_INVALID, "unknown query parameter `%s`; this path has %s",
                        mr_quote(name).text, list[0] == '\0' ? "none" : list);
}

enum mr_status mr_params_known(const struct mr_params *params, const char *const *names,
                               uint32_t name_count, const char *prefix, struct mr_error *error) {
    for (uint32_t i = 0; i < params->count; i++) {
        if (!is_known(params->items[i].name, names, name_count, prefix)) {
            return refuse_unknown(params->items[i].name, names, name_count, prefix, error);
        }
    }
    return MR_OK;
}

const struct mr_param *mr_params_find(const struct mr_params *params, const char *name) {
    return find_bytes(params, mr_bytes_text(name));
}

enum mr_status mr_params_count(const struct mr_params *params, const char *name, uint32_t least,
                               uint32_t most, uint32_t *ret, struct mr_error *error) {
    MR_ASSERT(least <= most);
    const struct mr_param *param = mr_params_find(params, name);
    uint64_t value = 0;
    if (param == NULL) {
        return MR_OK;
    }
    if (!mr_value_count(param->value, &value) || value < least || value > most) {
        return mr_error_set(error, MR_INVALID,
                            "query parameter `%s`: `%s`; expected a whole number from %u to %u",
                            name, mr_quote(param->value).text, least, most);
    }
    *ret = (uint32_t)value;
    return MR_OK;
}

enum mr_status mr_params_choice(const struct mr_params *params, const char *name,
                                const char *const *choices, uint32_t choice_count, uint32_t *ret,
                                struct mr_error *error) {
    MR_ASSERT(choice_count > 0);
    const struct mr_param *param = mr_params_find(params, name);
    if (param == NULL) {
        return MR_OK;
    }
    char list[LIST_MAX] = "";
    for (uint32_t i = 0; i < choice_count; i++) {
        if (mr_bytes_equal(param->value, mr_bytes_text(choices[i]))) {
            *ret = i;
            return MR_OK;
        }
        mr_list_append(list, sizeof list, mr_bytes_text(choices[i]));
    }
    return mr_error_set(error, MR_INVALID, "query parameter `%s`: `%s`; expected one of %s", name,
                        mr_quote(param->value).text, list);
}

struct mr_quoted mr_quote(struct mr_bytes bytes) {
    static const char hex[] = "0123456789abcdef";
    struct mr_quoted ret;
    size_t len = 0;
    for (size_t i = 0; i < bytes.len; i++) {
        uint8_t c = bytes.ptr[i];
        bool plain = c >= 0x20 && c < 0x7f && c != '\\';
        if (len + (plain ? 1 : 4) > MR_QUOTED_MAX) {
            memcpy(ret.text + len, "...", 3);
            len += 3;
            break;
        }
        if (plain) {
            ret.text[len++] = (char)c;
        } else {
            char escape[4] = {'\\', 'x', hex[c >> 4], hex[c & 15]};
            memcpy(ret.text + len, escape, sizeof escape);
            len += sizeof escape;
        }
    }
    MR_ASSERT(len < sizeof ret.text);
    ret.text[len] = '\0';
    return ret;
}

void mr_list_append(char *text, size_t cap, struct mr_bytes item) {
    size_t len = strlen(text);
    MR_ASSERT(len < cap);
    (void)snprintf(text + len, cap - len, "%s%s", len == 0 ? "" : ", ", mr_quote(item).text);
}

void mr_params_check(const struct mr_params *params) {
    MR_ASSERT(params->count <= MR_PARAMS_MAX);
    mr_buf_check(&params->text);
    for (uint32_t i = 0; i < params->count; i++) {
        const struct mr_param *param = &params->items[i];
        MR_ASSERT(param->name.len > 0 && find_bytes(params, param->name) == param);
        MR_ASSERT(param->name.ptr >= params->text.ptr);
        MR_ASSERT(param->value.ptr + param->value.len <= params->text.ptr + params->text.len);
    }
}
