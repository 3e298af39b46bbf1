/* SPDX-License-Identifier: Apache-2.0 */
#include "reference.h"

#include "base/check.h"

static struct ref_value *value(struct ref *r, int depth);

static int peek(const struct ref *r) {
    return r->at < r->in.len ? r->in.ptr[r->at] : -1;
}

static bool eat(struct ref *r, int c) {
    if (peek(r) != c) {
        return false;
    }
    r->at++;
    return true;
}

static void space(struct ref *r) {
    while (peek(r) == ' ' || peek(r) == '\t' || peek(r) == '\n' || peek(r) == '\r') {
        r->at++;
    }
}

static bool word(struct ref *r, const char *text) {
    for (; *text != 0; text++) {
        if (!eat(r, *text)) {
            return false;
        }
    }
    return true;
}

static bool digits(struct ref *r) {
    size_t before = r->at;
    while (peek(r) >= '0' && peek(r) <= '9') {
        r->at++;
    }
    return r->at > before;
}

static bool number(struct ref *r) {
    (void)eat(r, '-'); /* optional */
    if (!eat(r, '0') && !digits(r)) {
        return false;
    }
    if (eat(r, '.') && !digits(r)) {
        return false;
    }
    if (eat(r, 'e') || eat(r, 'E')) {
        (void)(eat(r, '+') || eat(r, '-')); /* optional */
        return digits(r);
    }
    return true;
}

static void put(struct ref *r, int c) {
    MR_ASSERT(r->text_len < REF_TEXT_MAX);
    r->text[r->text_len++] = (uint8_t)c;
}

static void put_code(struct ref *r, int code) {
    if (code < 0x80) {
        put(r, code);
    } else if (code < 0x800) {
        put(r, 0xC0 + code / 64);
        put(r, 0x80 + code % 64);
    } else if (code < 0x10000) {
        put(r, 0xE0 + code / 4096);
        put(r, 0x80 + code / 64 % 64);
        put(r, 0x80 + code % 64);
    } else {
        put(r, 0xF0 + code / 262144);
        put(r, 0x80 + code / 4096 % 64);
        put(r, 0x80 + code / 64 % 64);
        put(r, 0x80 + code % 64);
    }
}

static int hex4(struct ref *r) {
    int code = 0;
    for (int i = 0; i < 4; i++) {
        int c = peek(r);
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0) {
            return -1;
        }
        code = code * 16 + digit;
        r->at++;
    }
    return code;
}

static bool escape(struct ref *r) {
    int c = peek(r);
    r->at++;
    switch (c) {
    case '"':
    case '\\':
    case '/':
        put(r, c);
        return true;
    case 'b':
        put(r, 8);
        return true;
    case 't':
        put(r, 9);
        return true;
    case 'n':
        put(r, 10);
        return true;
    case 'f':
        put(r, 12);
        return true;
    case 'r':
        put(r, 13);
        return true;
    case 'u':
        break;
    default:
        return false;
    }
    int code = hex4(r);
    if (code >= 0xD800 && code <= 0xDBFF) {
        int low = eat(r, '\\') && eat(r, 'u') ? hex4(r) : -1;
        if (low < 0xDC00 || low > 0xDFFF) {
            return false;
        }
        code = 0x10000 + (code - 0xD800) * 1024 + (low - 0xDC00);
    } else if (code < 0 || (code >= 0xDC00 && code <= 0xDFFF)) {
        return false;
    }
    put_code(r, code);
    return true;
}

/* One character of several bytes: decoded, and refused unless it is the shortest form. */
static bool utf8(struct ref *r) {
    int c = peek(r);
    int more = c >= 0xF0 && c < 0xF8 ? 3 : c >= 0xE0 ? 2 : c >= 0xC0 ? 1 : 0;
    if (more == 0 || c >= 0xF8) {
        return false;
    }
    int code = more == 3 ? c & 7 : more == 2 ? c & 15 : c & 31;
    r->at++;
    for (int i = 0; i < more; i++) {
        c = peek(r);
        if (c < 0x80 || c > 0xBF) {
            return false;
        }
        code = code * 64 + (c & 63);
        r->at++;
    }
    int least = more == 1 ? 0x80 : more == 2 ? 0x800 : 0x10000;
    if (code < least || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)) {
        return false;
    }
    put_code(r, code);
    return true;
}

static bool string(struct ref *r, struct mr_bytes *ret) {
    size_t begin = r->text_len;
    if (!eat(r, '"')) {
        return false;
    }
    while (!eat(r, '"')) {
        int c = peek(r);
        if (c < 0x20) { /* the end, too */
            return false;
        }
        if (c == '\\') {
            r->at++;
            if (!escape(r)) {
                return false;
            }
        } else if (c >= 0x80) {
            if (!utf8(r)) {
                return false;
            }
        } else {
            put(r, c);
            r->at++;
        }
    }
    *ret = mr_bytes_of(r->text + begin, r->text_len - begin);
    return true;
}

static bool container(struct ref *r, struct ref_value *v, int depth) {
    char close = v->kind == REF_OBJECT ? '}' : ']';
    struct ref_value **tail = &v->child;
    r->at++;
    if (depth > 32) {
        r->deep = true;
        return false;
    }
    space(r);
    if (eat(r, close)) {
        return true;
    }
    for (;;) {
        struct mr_bytes name = {NULL, 0};
        space(r);
        if (v->kind == REF_OBJECT) {
            if (!string(r, &name)) {
                return false;
            }
            space(r);
            if (!eat(r, ':')) {
                return false;
            }
            space(r);
        }
        struct ref_value *item = value(r, depth);
        if (item == NULL) {
            return false;
        }
        item->name = name;
        *tail = item;
        tail = &item->next;
        space(r);
        if (eat(r, close)) {
            return true;
        }
        if (!eat(r, ',')) {
            return false;
        }
    }
}

static bool fill(struct ref *r, struct ref_value *v, int depth) {
    switch (peek(r)) {
    case '{':
        v->kind = REF_OBJECT;
        return container(r, v, depth + 1);
    case '[':
        v->kind = REF_ARRAY;
        return container(r, v, depth + 1);
    case '"':
        v->kind = REF_STRING;
        return string(r, &v->text);
    case 't':
        v->kind = REF_TRUE;
        return word(r, "true");
    case 'f':
        v->kind = REF_FALSE;
        return word(r, "false");
    case 'n':
        v->kind = REF_NULL;
        return word(r, "null");
    default:
        v->kind = REF_NUMBER;
        return number(r);
    }
}

static struct ref_value *value(struct ref *r, int depth) {
    MR_ASSERT(r->value_count < REF_VALUES_MAX);
    struct ref_value *v = &r->values[r->value_count++];
    *v = (struct ref_value){.kind = REF_NULL};
    size_t begin = r->at;
    if (!fill(r, v, depth)) {
        return NULL;
    }
    v->raw = mr_bytes_of(r->in.ptr + begin, r->at - begin);
    return v;
}

const struct ref_value *ref_parse(struct ref *r, struct mr_bytes text) {
    r->in = text;
    r->at = 0;
    r->deep = false;
    r->value_count = 0;
    r->text_len = 0;
    space(r);
    const struct ref_value *v = value(r, 0);
    space(r);
    return v != NULL && r->at == text.len ? v : NULL;
}

const struct ref_value *ref_member(const struct ref_value *object, const char *name,
                                   int *ret_count) {
    const struct ref_value *found = NULL;
    *ret_count = 0;
    for (const struct ref_value *v = object->child; v != NULL; v = v->next) {
        if (mr_bytes_equal(v->name, mr_bytes_text(name))) {
            found = found == NULL ? v : found;
            ++*ret_count;
        }
    }
    return found;
}
