/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Value: what becomes of a wanted value. Part of walk.c, in a file of its own for its length.
 *
 * Idea        Most values are as expected: a plain string, a short number, followed by a comma or
 * brace. The predicted walk tries that first (try_…), in few instructions and without side effects
 *             when it is not so; take_value does it all, and says what is wrong.
 */
#include "event/scan.h"

/* A key's encoding is a tag, two bytes of length and the text (base/key.h). */
enum { KEY_TEXT_MAX = MR_KEY_TEXT_MAX };

static void use_string(struct mr_walk *walk, uint32_t n, struct mr_use use, struct mr_text text,
                       struct mr_bytes raw) {
    switch (use.kind) {
    case MR_USE_ID:
        if (text.len > MR_ID_LEN_MAX) {
            mr_walk_object(walk, MR_REJECT_BAD_ID, n, "an id of over 1024 bytes", raw.ptr, raw.len);
        } else if (text.len == 0 && use.index + 1u == walk->schema->options.id_parts) {
            mr_walk_object(walk, MR_REJECT_BAD_ID, n, "an empty id", raw.ptr, raw.len);
        }
        walk->id[use.index] = text;
        walk->ids |= (uint8_t)(1u << use.index);
        break;
    case MR_USE_TIME:
        mr_walk_time_text(walk, n, text, raw);
        break;
    case MR_USE_KEY:
        if (text.len > KEY_TEXT_MAX) {
            mr_walk_object(walk, MR_REJECT_BAD_KEY, n, "a text too long for a key", raw.ptr,
                           raw.len);
        }
        walk->column[use.index].values[walk->row].text = text;
        walk->column[use.index].kinds[walk->row] = MR_VALUE_STRING;
        break;
    case MR_USE_ANY:
        walk->column[use.index].values[walk->row].text = text;
        walk->column[use.index].kinds[walk->row] = MR_VALUE_STRING;
        break;
    case MR_USE_NUMBER:
        mr_walk_object(walk, MR_REJECT_BAD_NUMBER, n, "not a number", raw.ptr, raw.len);
        break;
    case MR_USE_ATTRIBUTE:
        mr_walk_attribute(walk, n, (enum mr_attribute)use.index, text, raw);
        break;
    default:
        MR_UNREACHABLE();
    }
}

static void use_number(struct mr_walk *walk, uint32_t n, struct mr_use use,
                       const struct mr_decimal *decimal) {
    struct mr_text text = {(uint32_t)(decimal->text - walk->body), decimal->len};
    switch (use.kind) {
    case MR_USE_ID:
        if (text.len > MR_ID_LEN_MAX) {
            mr_walk_object(walk, MR_REJECT_BAD_ID, n, "an id of over 1024 bytes", decimal->text,
                           text.len);
        }
        walk->id[use.index] = text;
        walk->ids |= (uint8_t)(1u << use.index);
        break;
    case MR_USE_TIME:
        mr_walk_time_number(walk, n, decimal);
        break;
    case MR_USE_KEY:
        if (text.len > KEY_TEXT_MAX) {
            mr_walk_object(walk, MR_REJECT_BAD_KEY, n, "a number too long for a key", decimal->text,
                           text.len);
        }
        walk->column[use.index].values[walk->row].text = text;
        walk->column[use.index].kinds[walk->row] = MR_VALUE_DIGITS;
        break;
    case MR_USE_NUMBER:
    case MR_USE_ANY: {
        union mr_value value = {.i = 0};
        uint8_t kind = MR_VALUE_INT;
        if (!mr_decimal_int(decimal, &value.i)) {
            kind = MR_VALUE_DOUBLE;
            if (!mr_decimal_double(decimal, walk->c_locale, &value.d)) {
                if (use.kind == MR_USE_ANY) {
                    walk->column[use.index].kinds[walk->row] = MR_VALUE_OTHER;
                    break;
                }
                mr_walk_object(walk, MR_REJECT_BAD_NUMBER, n, "over the range of a double",
                               decimal->text, text.len);
            }
        }
        walk->column[use.index].values[walk->row] = value;
        walk->column[use.index].kinds[walk->row] = kind;
        break;
    }
    case MR_USE_ATTRIBUTE:
        mr_walk_object(walk, MR_REJECT_BAD_CLOUDEVENT, n, "not a string", decimal->text, text.len);
        break;
    default:
        MR_UNREACHABLE();
    }
}

/* true, false, null; an object or array. */
static void use_other(struct mr_walk *walk, uint32_t n, struct mr_use use, struct mr_bytes raw) {
    uint8_t first = *raw.ptr;
    bool null = first == 'n';
    bool container = first == '{' || first == '[';
    switch (use.kind) {
    case MR_USE_ID:
        if (!null) {
            mr_walk_object(walk, MR_REJECT_BAD_ID, n, "neither a string nor a number", raw.ptr,
                           raw.len);
        }
        break;
    case MR_USE_TIME:
        if (!null) {
            mr_walk_object(walk, MR_REJECT_BAD_TIME, n, "neither RFC 3339 nor a number", raw.ptr,
                           raw.len);
        }
        break;
    case MR_USE_KEY:
        if (container) {
            mr_walk_object(walk, MR_REJECT_BAD_KEY, n, "an object or array cannot be a key",
                           raw.ptr, raw.len);
        }
        walk->column[use.index].kinds[walk->row] = null           ? MR_VALUE_NULL
                                                   : first == 't' ? MR_VALUE_TRUE
                                                   : first == 'f' ? MR_VALUE_FALSE
                                                                  : MR_VALUE_MISSING;
        break;
    case MR_USE_NUMBER:
        if (!null) {
            mr_walk_object(walk, MR_REJECT_BAD_NUMBER, n, "not a number", raw.ptr, raw.len);
        }
        walk->column[use.index].kinds[walk->row] = null ? MR_VALUE_NULL : MR_VALUE_MISSING;
        break;
    case MR_USE_ANY:
        walk->column[use.index].kinds[walk->row] = null           ? MR_VALUE_NULL
                                                   : first == 't' ? MR_VALUE_TRUE
                                                   : first == 'f' ? MR_VALUE_FALSE
                                                                  : MR_VALUE_OTHER;
        break;
    case MR_USE_ATTRIBUTE:
        mr_walk_object(walk, MR_REJECT_BAD_CLOUDEVENT, n, "not a string", raw.ptr, raw.len);
        break;
    default:
        MR_UNREACHABLE();
    }
}

static inline const uint8_t *take_string(struct mr_walk *walk, const uint8_t *p, uint32_t n) {
    const struct mr_node *node = &walk->schema->nodes[n];
    bool escaped;
    const uint8_t *close = scan_string(walk, p + 1, &escaped);
    if (close == NULL) {
        return NULL;
    }
    struct mr_bytes raw = {p, (size_t)(close + 1 - p)};
    struct mr_text text = {(uint32_t)(p + 1 - walk->body), (uint32_t)(close - p - 1)};
    if (escaped && !mr_walk_unescape(walk, &text)) {
        return NULL;
    }
    const struct mr_use *uses = walk->schema->uses + node->use_first;
    for (uint32_t i = 0; i < node->use_count; i++) {
        use_string(walk, n, uses[i], text, raw);
    }
    return close + 1;
}

/* A wanted value: to all its uses. */
static __attribute__((noinline)) const uint8_t *take_value(struct mr_walk *walk, const uint8_t *p,
                                                           uint32_t n) {
    if (*p == '"') {
        return take_string(walk, p, n);
    }
    const struct mr_node *node = &walk->schema->nodes[n];
    const struct mr_use *uses = walk->schema->uses + node->use_first;
    if (*p == '-' || (*p >= '0' && *p <= '9')) {
        struct mr_decimal decimal;
        const uint8_t *end = scan_number(walk, p, &decimal);
        for (uint32_t i = 0; end != NULL && i < node->use_count; i++) {
            use_number(walk, n, uses[i], &decimal);
        }
        return end;
    }
    const uint8_t *end = skip_value(walk, p, node->depth);
    for (uint32_t i = 0; end != NULL && i < node->use_count; i++) {
        use_other(walk, n, uses[i], mr_bytes_of(p, (size_t)(end - p)));
    }
    return end;
}

/* The end of the value at p, taken as the step says, if it is as plain as they come; else NULL. */

/* The closing quote of the string at p. */
static inline const uint8_t *try_string(const uint8_t *p) {
    if (*p != '"') {
        return NULL;
    }
    p = skip_plain(p + 1);
    return LIKELY(*p == '"') ? p : NULL;
}

static inline const uint8_t *try_skip(const uint8_t *p) {
    p = try_string(p);
    return LIKELY(p != NULL) ? p + 1 : NULL;
}

static inline const uint8_t *try_id(struct mr_walk *walk, uint32_t part, const uint8_t *p) {
    const uint8_t *close = try_string(p);
    size_t len = close == NULL ? SIZE_MAX : (size_t)(close - p - 1);
    if (len == 0 || len > MR_ID_LEN_MAX) {
        return NULL;
    }
    walk->id[part] = (struct mr_text){(uint32_t)(p + 1 - walk->body), (uint32_t)len};
    walk->ids |= (uint8_t)(1u << part);
    return close + 1;
}

static inline const uint8_t *try_key(struct mr_walk *walk, uint32_t column, const uint8_t *p) {
    const uint8_t *close = try_string(p);
    size_t len = close == NULL ? SIZE_MAX : (size_t)(close - p - 1);
    if (len > KEY_TEXT_MAX) {
        return NULL;
    }
    walk->column[column].values[walk->row].text =
        (struct mr_text){(uint32_t)(p + 1 - walk->body), (uint32_t)len};
    walk->column[column].kinds[walk->row] = MR_VALUE_STRING;
    return close + 1;
}

static inline const uint8_t *try_text(struct mr_walk *walk, uint32_t column, const uint8_t *p) {
    const uint8_t *close = try_string(p);
    if (close == NULL) {
        return NULL;
    }
    walk->column[column].values[walk->row].text =
        (struct mr_text){(uint32_t)(p + 1 - walk->body), (uint32_t)(close - p - 1)};
    walk->column[column].kinds[walk->row] = MR_VALUE_STRING;
    return close + 1;
}

static inline bool ends_value(uint8_t c) {
    return c == ',' || c == '}';
}

/* Numbers whose digits, point and end fit a word:
 *
 *     12.345,     the point is taken out: 12345, divided by 10^3
 *     ^^ ^^^
 */
static inline const uint8_t *try_number(struct mr_walk *walk, uint32_t column, const uint8_t *p) {
    bool negative = *p == '-';
    p += negative;
    uint64_t word = mr_load64(p);
    uint32_t whole = mr_digits_count(word);
    uint32_t digits = whole;
    if (whole == 0 || whole == 8 || (*p == '0' && whole > 1)) {
        return NULL;
    }
    bool point = p[whole] == '.';
    if (point) {
        uint64_t low = word & ((UINT64_C(1) << whole * 8) - 1);
        uint64_t fraction = word >> whole * 8 >> 8;
        uint32_t more = mr_digits_count(fraction);
        if (more == 0) {
            return NULL;
        }
        word = low | fraction << whole * 8;
        digits += more;
    }
    const uint8_t *end = p + digits + point;
    if (digits + point >= 8 || !ends_value(*end)) {
        return NULL;
    }
    uint64_t mantissa = mr_digits_value(word, digits);
    union mr_value *value = &walk->column[column].values[walk->row];
    if (point) {
        double d = (double)mantissa / mr_pow10_double[digits - whole];
        value->d = negative ? -d : d;
    } else {
        value->i = negative ? -(int64_t)mantissa : (int64_t)mantissa;
    }
    walk->column[column].kinds[walk->row] = point ? MR_VALUE_DOUBLE : MR_VALUE_INT;
    return end;
}

/* Whole numbers of 8 to 15 digits: seconds and milliseconds. */
static inline const uint8_t *try_time(struct mr_walk *walk, uint32_t factor, const uint8_t *p) {
    uint64_t high = mr_load64(p);
    uint64_t low = mr_load64(p + 8);
    uint32_t more = mr_digits_count(low);
    if (mr_digits_count(high) != 8 || *p == '0' || more == 8 || !ends_value(p[8 + more])) {
        return NULL;
    }
    uint64_t value = mr_digits_value(high, 8);
    if (LIKELY(more > 0)) {
        value = value * mr_pow10[more] + mr_digits_value(low, more);
    }
    int64_t ms = (int64_t)(value * factor);
    if (ms < MR_TIME_MIN_MS || ms >= MR_TIME_MAX_MS) {
        return NULL;
    }
    walk->time_ms = ms;
    walk->has_time = true;
    return p + 8 + more;
}

static inline const uint8_t *try_step(struct mr_walk *walk, const struct mr_step *step,
                                      const uint8_t *p) {
    switch (step->kind) {
    case MR_STEP_SKIP:
        return try_skip(p);
    case MR_STEP_ID:
        return try_id(walk, step->index, p);
    case MR_STEP_KEY:
        return try_key(walk, step->index, p);
    case MR_STEP_NUMBER:
        return try_number(walk, step->index, p);
    case MR_STEP_ANY:
        return *p == '"' ? try_text(walk, step->index, p) : try_number(walk, step->index, p);
    case MR_STEP_TIME_MS:
        return try_time(walk, 1, p);
    case MR_STEP_TIME_S:
        return try_time(walk, 1000, p);
    default:
        return NULL;
    }
}
