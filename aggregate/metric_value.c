/* SPDX-License-Identifier: Apache-2.0 */
#include "aggregate/metric_value.h"

#include <math.h>
#include <stdlib.h>

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "payloads are the bytes of memory");

/* A number as sent. What is not an int64 is the nearest double, as in columns of numbers. */
static bool read_digits(struct mr_bytes text, struct mr_scalar *ret) {
    char copy[MR_KEY_TEXT_MAX + 1];
    if (text.len == 0 || text.len > MR_KEY_TEXT_MAX) {
        return false;
    }
    memcpy(copy, text.ptr, text.len);
    copy[text.len] = 0;
    size_t digits = strspn(copy + (copy[0] == '-'), "0123456789");
    if (digits + (copy[0] == '-') == text.len && digits <= 18) {
        ret->kind = MR_SCALAR_INT;
        ret->i = strtoll(copy, NULL, 10);
        return true;
    }
    ret->kind = MR_SCALAR_DOUBLE;
    ret->d = strtod(copy, NULL);
    if (digits == 19 && digits + (copy[0] == '-') == text.len) { /* the last ints of int64 */
        __int128_t whole = 0;
        for (size_t i = copy[0] == '-'; i < text.len; i++) {
            whole = whole * 10 + (copy[i] - '0');
        }
        whole = copy[0] == '-' ? -whole : whole;
        if (whole >= INT64_MIN && whole <= INT64_MAX) {
            ret->kind = MR_SCALAR_INT;
            ret->i = (int64_t)whole;
        }
    }
    return ret->kind == MR_SCALAR_INT || isfinite(ret->d);
}

bool mr_scalar_read(const struct mr_batch *batch, const struct mr_column *column, uint32_t event,
                    struct mr_scalar *ret) {
    union mr_value value = column->values[event];
    *ret = (struct mr_scalar){.kind = MR_SCALAR_NONE};
    switch (column->kinds[event]) {
    case MR_VALUE_FALSE:
        ret->kind = MR_SCALAR_FALSE;
        return true;
    case MR_VALUE_TRUE:
        ret->kind = MR_SCALAR_TRUE;
        return true;
    case MR_VALUE_INT:
        ret->kind = MR_SCALAR_INT;
        ret->i = value.i;
        return true;
    case MR_VALUE_DOUBLE:
        ret->kind = MR_SCALAR_DOUBLE;
        ret->d = value.d;
        return isfinite(value.d);
    case MR_VALUE_STRING:
        ret->kind = MR_SCALAR_TEXT;
        ret->text = mr_batch_text(batch, value);
        return true;
    case MR_VALUE_DIGITS:
        return read_digits(mr_batch_text(batch, value), ret);
    default: /* missing, null, what is no scalar */
        return false;
    }
}

void mr_scalar_cut(struct mr_scalar *value) {
    if (value->kind == MR_SCALAR_TEXT && value->text.len > MR_KEY_TEXT_MAX) {
        size_t len = MR_KEY_TEXT_MAX;
        while (len > 0 && (value->text.ptr[len] & 0xC0) == 0x80) { /* inside a character */
            len--;
        }
        value->text.len = len;
    }
}

static bool is_whole_int(double d) {
    return d >= -0x1p63 && d < 0x1p63 && (double)(int64_t)d == d;
}

void mr_scalar_normalize(struct mr_scalar *value) {
    if (value->kind == MR_SCALAR_DOUBLE && is_whole_int(value->d)) {
        value->kind = MR_SCALAR_INT;
        value->i = (int64_t)value->d;
    }
}

struct mr_bytes mr_scalar_payload(const struct mr_scalar *value) {
    switch (value->kind) {
    case MR_SCALAR_INT:
    case MR_SCALAR_DOUBLE:
        return mr_bytes_of(value->payload, sizeof value->payload);
    case MR_SCALAR_TEXT:
        return value->text;
    default:
        return mr_bytes_of(NULL, 0);
    }
}

struct mr_scalar mr_scalar_of(uint32_t kind, struct mr_bytes payload) {
    struct mr_scalar ret = {.kind = kind};
    if (kind == MR_SCALAR_TEXT) {
        ret.text = payload;
    } else if (payload.len == sizeof ret.payload) {
        memcpy(ret.payload, payload.ptr, sizeof ret.payload);
    }
    return ret;
}

bool mr_scalar_check(const struct mr_scalar *value) {
    switch (value->kind) {
    case MR_SCALAR_FALSE:
    case MR_SCALAR_TRUE:
    case MR_SCALAR_INT:
        return true;
    case MR_SCALAR_DOUBLE:
        return isfinite(value->d);
    case MR_SCALAR_TEXT:
        return value->text.len <= MR_KEY_TEXT_MAX;
    default:
        return false;
    }
}

bool mr_scalar_is_normal(const struct mr_scalar *value) {
    return value->kind != MR_SCALAR_DOUBLE || !is_whole_int(value->d);
}

/* A seed of its own for each kind, so that 1 and "\1\0\0\0\0\0\0\0" differ. */
uint64_t mr_scalar_hash(const struct mr_scalar *value) {
    static const uint64_t seed = UINT64_C(0x6D696C6C72616365); /* "millrace" */
    MR_ASSERT(value->kind != MR_SCALAR_NONE);
    if (value->kind == MR_SCALAR_TEXT) {
        return mr_hash64(value->text, seed + MR_SCALAR_TEXT);
    }
    uint64_t payload = value->kind == MR_SCALAR_INT || value->kind == MR_SCALAR_DOUBLE ? (uint64_t)value->i : 0;
    return mr_hash64(mr_bytes_of(&payload, sizeof payload), seed + value->kind);
}

int mr_compare_int_double(int64_t i, double d) {
    if (d >= 0x1p63) {
        return -1;
    }
    if (d < -0x1p63) {
        return 1;
    }
    int64_t whole = (int64_t)d;
    if (i != whole) {
        return i < whole ? -1 : 1;
    }
    double rest = d - (double)whole;
    return (rest < 0) - (rest > 0);
}

static int compare_numbers(const struct mr_scalar *a, const struct mr_scalar *b) {
    int order;
    if (a->kind == MR_SCALAR_INT && b->kind == MR_SCALAR_INT) {
        return (a->i > b->i) - (a->i < b->i);
    }
    if (a->kind == MR_SCALAR_INT) {
        order = mr_compare_int_double(a->i, b->d);
    } else if (b->kind == MR_SCALAR_INT) {
        order = -mr_compare_int_double(b->i, a->d);
    } else {
        return (a->d > b->d) - (a->d < b->d);
    }
    return order != 0 ? order : (int)a->kind - (int)b->kind;
}

int mr_scalar_compare(const struct mr_scalar *a, const struct mr_scalar *b) {
    bool a_number = a->kind == MR_SCALAR_INT || a->kind == MR_SCALAR_DOUBLE;
    bool b_number = b->kind == MR_SCALAR_INT || b->kind == MR_SCALAR_DOUBLE;
    if (a_number && b_number) {
        return compare_numbers(a, b);
    }
    if (a->kind != b->kind) { /* the kinds are in this order */
        return a->kind < b->kind ? -1 : 1;
    }
    return a->kind == MR_SCALAR_TEXT ? mr_bytes_compare(a->text, b->text) : 0;
}

void mr_scalar_json(const struct mr_scalar *value, struct mr_json *json) {
    switch (value->kind) {
    case MR_SCALAR_FALSE:
    case MR_SCALAR_TRUE:
        mr_json_bool(json, value->kind == MR_SCALAR_TRUE);
        break;
    case MR_SCALAR_INT:
        mr_json_int(json, value->i);
        break;
    case MR_SCALAR_DOUBLE:
        mr_json_double(json, value->d);
        break;
    case MR_SCALAR_TEXT:
        mr_json_string(json, value->text);
        break;
    default:
        MR_UNREACHABLE();
    }
}
