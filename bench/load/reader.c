/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/load/reader.h"

#include <stdlib.h>

static bool is_space(uint8_t c) {
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

static size_t skip_spaces(struct mr_bytes text, size_t at) {
    while (at < text.len && is_space(text.ptr[at])) {
        at++;
    }
    return at;
}

/* Behind the string that begins at `at`; text.len when it does not end. */
static size_t skip_string(struct mr_bytes text, size_t at) {
    for (at++; at < text.len && text.ptr[at] != '"'; at++) {
        at += text.ptr[at] == '\\';
    }
    return at < text.len ? at + 1 : text.len;
}

/* Behind the value that begins at `at`. */
static size_t skip_value(struct mr_bytes text, size_t at) {
    size_t depth = 0;
    while (at < text.len) {
        uint8_t c = text.ptr[at];
        if (c == '"') {
            at = skip_string(text, at);
            continue;
        }
        if (depth == 0 && (c == ',' || c == '}' || c == ']' || is_space(c))) {
            return at;
        }
        if (c == '{' || c == '[') {
            depth++;
        }
        at++;
        if (c == '}' || c == ']') {
            depth--;
            if (depth == 0) {
                return at;
            }
        }
    }
    return at;
}

bool mr_load_member(struct mr_bytes object, const char *name, struct mr_bytes *ret) {
    struct mr_bytes wanted = mr_bytes_text(name);
    size_t at = skip_spaces(object, 0);
    if (at >= object.len || object.ptr[at] != '{') {
        return false;
    }
    at = skip_spaces(object, at + 1);
    while (at < object.len && object.ptr[at] == '"') {
        size_t name_at = at + 1;
        at = skip_string(object, at);
        struct mr_bytes found = mr_bytes_of(object.ptr + name_at, at > name_at ? at - name_at - 1 : 0);
        at = skip_spaces(object, at);
        if (at >= object.len || object.ptr[at] != ':') {
            return false;
        }
        size_t value_at = skip_spaces(object, at + 1);
        at = skip_value(object, value_at);
        if (mr_bytes_equal(found, wanted)) {
            *ret = mr_bytes_of(object.ptr + value_at, at - value_at);
            return at > value_at;
        }
        at = skip_spaces(object, at);
        if (at >= object.len || object.ptr[at] != ',') {
            return false;
        }
        at = skip_spaces(object, at + 1);
    }
    return false;
}

bool mr_load_member_in(struct mr_bytes object, const char *outer, const char *inner,
                       struct mr_bytes *ret) {
    struct mr_bytes found;
    return mr_load_member(object, outer, &found) && mr_load_member(found, inner, ret);
}

bool mr_load_number(struct mr_bytes text, double *ret) {
    char copy[64];
    if (text.len == 0 || text.len >= sizeof copy) {
        return false;
    }
    memcpy(copy, text.ptr, text.len);
    copy[text.len] = '\0';
    char *end;
    double value = strtod(copy, &end);
    if (*end != '\0') {
        return false;
    }
    *ret = value;
    return true;
}

bool mr_load_member_uint(struct mr_bytes object, const char *name, uint64_t *ret) {
    struct mr_bytes text;
    if (!mr_load_member(object, name, &text) || text.len > 19) {
        return false;
    }
    uint64_t value = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] < '0' || text.ptr[i] > '9') {
            return false;
        }
        value = value * 10 + (uint64_t)(text.ptr[i] - '0');
    }
    *ret = value;
    return true;
}

struct mr_bytes mr_load_unquoted(struct mr_bytes text) {
    bool quoted = text.len >= 2 && text.ptr[0] == '"' && text.ptr[text.len - 1] == '"';
    return quoted ? mr_bytes_of(text.ptr + 1, text.len - 2) : text;
}

bool mr_load_sample(struct mr_bytes text, const char *name, double *ret) {
    size_t name_len = strlen(name);
    size_t at = 0;
    while (at < text.len) {
        const uint8_t *newline = memchr(text.ptr + at, '\n', text.len - at);
        size_t end = newline == NULL ? text.len : (size_t)(newline - text.ptr);
        if (end - at > name_len + 1 && memcmp(text.ptr + at, name, name_len) == 0 &&
            text.ptr[at + name_len] == ' ') {
            return mr_load_number(mr_bytes_of(text.ptr + at + name_len + 1, end - at - name_len - 1), ret);
        }
        at = end + 1;
    }
    return false;
}
