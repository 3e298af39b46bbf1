/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Scan: the tokens of JSON. Part of walk.c, in a file of its own for its length.
 *
 * Idea        A string's bytes are looked at 32 (or 8) at a time for the four things that are not
 * plain: quote, backslash, control character, not ASCII. Most strings end at the first of them.
 * Errors      NULL, and walk->fault.
 */
#include "event/text.h"
#include "event/walk.h"

#ifdef MR_WALK_AVX2
#include <immintrin.h>
#endif

#define LIKELY(x) __builtin_expect(!!(x), 1)

static inline bool is_space(const struct mr_walk *walk, uint8_t c) {
    return c <= ' ' && (walk->space >> c & 1) != 0;
}

static inline const uint8_t *skip_space(const struct mr_walk *walk, const uint8_t *p) {
    while (is_space(walk, *p)) {
        p++;
    }
    return p;
}

/* The first byte from p that is a quote, a backslash, a control character or not ASCII. */
static inline const uint8_t *skip_plain(const uint8_t *p) {
#ifdef MR_WALK_AVX2
    /* Loaded, for the compiler would build the constants anew for each string. */
    const __m256i *stops = (const __m256i *)mr_scan_stops;
    const __m256i quote = _mm256_load_si256(&stops[0]);
    const __m256i backslash = _mm256_load_si256(&stops[1]);
    const __m256i blank = _mm256_load_si256(&stops[2]);
    for (;;) {
        __m256i bytes = _mm256_loadu_si256((const __m256i_u *)p);
        __m256i stop =
            _mm256_or_si256(_mm256_cmpeq_epi8(bytes, quote), _mm256_cmpeq_epi8(bytes, backslash));
        /* As signed bytes, both control characters and those from 0x80 on are less than a blank. */
        stop = _mm256_or_si256(stop, _mm256_cmpgt_epi8(blank, bytes));
        uint32_t bits = (uint32_t)_mm256_movemask_epi8(stop);
        if (LIKELY(bits != 0)) {
            return p + __builtin_ctz(bits);
        }
        p += 32;
    }
#else
    const uint64_t ones = UINT64_C(0x0101010101010101);
    for (;;) {
        uint64_t word = mr_load64(p);
        uint64_t quote = word ^ ones * '"';
        uint64_t backslash = word ^ ones * '\\';
        /* A borrow can only spoil bytes behind the first one that stops. */
        uint64_t stop = (word - ones * ' ') | (quote - ones) | (backslash - ones) | word;
        stop &= UINT64_C(0x8080808080808080);
        if (stop != 0) {
            return p + (__builtin_ctzll(stop) >> 3);
        }
        p += 8;
    }
#endif
}

/* p at a backslash; the byte behind the escape. */
static const uint8_t *scan_escape(struct mr_walk *walk, const uint8_t *p) {
    if (p[1] != 'u') {
        if (p[1] != 0 && strchr("\"\\/bfnrt", p[1]) != NULL) {
            return p + 2;
        }
        return mr_walk_refuse(walk, MR_REJECT_BAD_JSON, p + 1,
                              "one of \"\\/bfnrtu after a backslash");
    }
    int32_t code = mr_hex4(p + 2);
    if (code < 0) {
        return mr_walk_refuse(walk, MR_REJECT_BAD_JSON, p, "four hex digits after \\u");
    }
    if (code < 0xD800 || code > 0xDFFF) {
        return p + 6;
    }
    if (code <= 0xDBFF && p[6] == '\\' && p[7] == 'u') {
        int32_t low = mr_hex4(p + 8);
        if (low >= 0xDC00 && low <= 0xDFFF) {
            return p + 12;
        }
    }
    return mr_walk_refuse(walk, MR_REJECT_BAD_JSON, p, "a pair of surrogates, not a lone one");
}

static __attribute__((noinline)) const uint8_t *
scan_string_slow(struct mr_walk *walk, const uint8_t *p, bool *ret_escaped) {
    for (;;) {
        p = skip_plain(p);
        if (*p == '"') {
            return p;
        }
        if (*p == '\\') {
            *ret_escaped = true;
            p = scan_escape(walk, p);
            if (p == NULL) {
                return NULL;
            }
            continue;
        }
        if (*p < 0x20) {
            return mr_walk_refuse(walk, MR_REJECT_BAD_JSON, p, "the rest of a string");
        }
        while (*p >= 0x80) {
            const uint8_t *next = mr_utf8_next(p);
            if (next == NULL) {
                return mr_walk_refuse(walk, MR_REJECT_BAD_UTF8, p, "UTF-8");
            }
            p = next;
        }
    }
}

/* p behind the opening quote; the closing quote's place. */
static inline const uint8_t *scan_string(struct mr_walk *walk, const uint8_t *p,
                                         bool *ret_escaped) {
    *ret_escaped = false;
    p = skip_plain(p);
    return LIKELY(*p == '"') ? p : scan_string_slow(walk, p, ret_escaped);
}

static inline const uint8_t *scan_literal(struct mr_walk *walk, const uint8_t *p) {
    if (memcmp(p, "true", 4) == 0 || memcmp(p, "null", 4) == 0) {
        return p + 4;
    }
    if (memcmp(p, "false", 5) == 0) {
        return p + 5;
    }
    return mr_walk_refuse(walk, MR_REJECT_BAD_JSON, p, "a value");
}

static inline const uint8_t *scan_number(struct mr_walk *walk, const uint8_t *p,
                                         struct mr_decimal *ret) {
    const uint8_t *end = mr_decimal_scan(p, ret);
    return LIKELY(end != NULL) ? end
                               : mr_walk_refuse(walk, MR_REJECT_BAD_JSON, p, "a number of JSON");
}

/* Any value but an object or array. */
static inline const uint8_t *skip_scalar(struct mr_walk *walk, const uint8_t *p) {
    if (*p == '"') {
        bool escaped;
        p = scan_string(walk, p + 1, &escaped);
        return LIKELY(p != NULL) ? p + 1 : NULL;
    }
    if (*p == '-' || (*p >= '0' && *p <= '9')) {
        struct mr_decimal unused;
        return scan_number(walk, p, &unused);
    }
    return scan_literal(walk, p);
}

/* p where a member's name must be; its value. */
static const uint8_t *skip_name(struct mr_walk *walk, const uint8_t *p) {
    if (*p != '"') {
        return mr_walk_refuse(walk, MR_REJECT_BAD_JSON, p, "a name in quotes");
    }
    bool escaped;
    p = scan_string(walk, p + 1, &escaped);
    if (p == NULL) {
        return NULL;
    }
    p = skip_space(walk, p + 1);
    if (*p != ':') {
        return mr_walk_refuse(walk, MR_REJECT_BAD_JSON, p, "a colon after a name");
    }
    return skip_space(walk, p + 1);
}

/* p at '{' or '['. Bit 0 of objects tells what the innermost open container is. */
static const uint8_t *skip_container(struct mr_walk *walk, const uint8_t *p, uint32_t depth) {
    uint64_t objects = 0;
    uint32_t level = 0;
    for (;;) {
        if (*p == '{' || *p == '[') {
            if (depth + level >= MR_JSON_DEPTH_MAX) {
                return mr_walk_refuse(walk, MR_REJECT_TOO_DEEP, p, "at most 32 levels");
            }
            objects = objects << 1 | (*p == '{');
            level++;
            p = skip_space(walk, p + 1);
            if (*p != ((objects & 1) != 0 ? '}' : ']')) {
                p = (objects & 1) != 0 ? skip_name(walk, p) : p;
                if (p == NULL) {
                    return NULL;
                }
                continue;
            }
        } else {
            p = skip_scalar(walk, p);
            if (p == NULL) {
                return NULL;
            }
            p = skip_space(walk, p);
        }
        while (*p == ((objects & 1) != 0 ? '}' : ']')) {
            p++;
            objects >>= 1;
            if (--level == 0) {
                return p;
            }
            p = skip_space(walk, p);
        }
        if (*p != ',') {
            return mr_walk_refuse(walk, MR_REJECT_BAD_JSON, p,
                                  "a comma or the end of the container");
        }
        p = skip_space(walk, p + 1);
        p = (objects & 1) != 0 ? skip_name(walk, p) : p;
        if (p == NULL) {
            return NULL;
        }
    }
}

static_assert(MR_JSON_DEPTH_MAX == 32, "said in the text above, and objects has a bit per level");

static inline const uint8_t *skip_value(struct mr_walk *walk, const uint8_t *p, uint32_t depth) {
    return *p == '{' || *p == '[' ? skip_container(walk, p, depth) : skip_scalar(walk, p);
}
