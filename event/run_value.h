/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Run values: where a value ends, and what digits say, with vectors. Part of run.c, in a file of its own for its
 * length.
 *
 * Idea        All 16 bytes of a number are looked at at once. Two tables, read from the middle, make the shuffle that
 *             puts its digits right-aligned and closes the gap of the point:
 *
 *                 48.924,"user":"u            6 bytes before the end, 3 behind the point
 *                 …00000000000048924          then pairs, fours, and eights of digits are added up
 *
 * Errors      MR_NOWHERE: not that plain. What was written is written again by whoever takes the value then.
 */
#include "event/number.h"
#include "event/run.h"

#include <immintrin.h>

#define MR_NOWHERE mr_run_tables.nowhere

/* 16 bytes must be readable at p. */
static inline __m128i load16(const void *p) {
    return _mm_loadu_si128((const __m128i_u *)p);
}

static inline __m256i load32(const void *p) {
    return _mm256_loadu_si256((const __m256i_u *)p);
}

/* What the bytes of a string are compared with, for a loop to hold in registers. */
struct stops {
    __m256i names;
    __m256i blanks;
};

static inline struct stops stops_load(void) {
    struct stops stops = {load32(mr_run_tables.stop_by_nibble), load32(mr_run_tables.blanks)};
    __asm__("" : "+x"(stops.names), "+x"(stops.blanks)); /* else they are loaded again for each value */
    return stops;
}

/* A bit for each of 32 bytes that is a quote, a backslash, a control character or not ASCII. */
static inline uint32_t stops_of(const struct stops *stops, const uint8_t *p) {
    __m256i bytes = load32(p);
    /* By its low four bits each byte is given the one character that it must not be; none for those from 0x80 on. */
    __m256i name = _mm256_shuffle_epi8(stops->names, bytes);
    __m256i low = _mm256_cmpgt_epi8(stops->blanks, bytes);
    return (uint32_t)_mm256_movemask_epi8(_mm256_or_si256(_mm256_cmpeq_epi8(bytes, name), low));
}

/* The first byte from p on that a plain string does not hold: its quote, most of the time. */
static inline const uint8_t *string_end(const struct stops *stops, const uint8_t *p) {
    uint32_t bits = stops_of(stops, p);
    while (__builtin_expect(bits == 0, 0)) { /* the NUL behind the body stops */
        p += 32;
        bits = stops_of(stops, p);
    }
    return p + __builtin_ctz(bits);
}

/* The same where the length is assumed: if all in it is plain. What is behind it, the next gap says; and as that need
 * not wait for this to be known, nor does anything else. */
static inline const uint8_t *string_end_fixed(const struct stops *stops,
                                              const struct mr_run_step *step, const uint8_t *p) {
    uint32_t fixed = step->fixed;
    bool plain = _bzhi_u32(stops_of(stops, p), fixed) == 0 &&
                 (fixed <= 32 || _bzhi_u32(stops_of(stops, p + 32), fixed - 32) == 0);
    return __builtin_expect(plain, 1) ? p + fixed : MR_NOWHERE;
}

static_assert(MR_RUN_FIXED_MAX <= 64 && MR_PADDING >= 32, "two vectors, read where the body may have ended");

struct digits {
    __m128i values;
    uint32_t others; /* a bit for each byte that is not a digit, and all above bit 15 */
};

static inline struct digits digits_of(const uint8_t *p) {
    __m128i values = _mm_sub_epi8(load16(p), load16(mr_run_tables.zeros));
    __m128i is_digit = _mm_cmpeq_epi8(_mm_min_epu8(values, load16(mr_run_tables.nines)), values);
    return (struct digits){values, ~(uint32_t)_mm_movemask_epi8(is_digit)};
}

/* Adds up digits to eights: the first eight in the first half of the low 64 bits. */
static inline __m128i digits_eights(__m128i digits) {
    __m128i pairs = _mm_maddubs_epi16(digits, load16(mr_run_tables.tens));
    __m128i fours = _mm_madd_epi16(pairs, load16(mr_run_tables.hundreds));
    return _mm_madd_epi16(_mm_packus_epi32(fours, fours), load16(mr_run_tables.thousands));
}

static inline uint64_t digits_sum(__m128i digits) {
    uint64_t both = (uint64_t)_mm_cvtsi128_si64(digits_eights(digits));
    return (both & UINT32_MAX) * 100000000 + (both >> 32);
}

/* The len bytes at p, at most 16, as a number; false: they are not all digits. */
static inline bool digits_whole(const uint8_t *p, uint32_t len, uint64_t *ret) {
    __m128i values = _mm_sub_epi8(load16(p), load16(mr_run_tables.zeros));
    __m128i aligned = _mm_shuffle_epi8(values, load16(mr_run_tables.align + len));
    __m128i over = _mm_subs_epu8(aligned, load16(mr_run_tables.nines));
    *ret = digits_sum(aligned);
    return _mm_testz_si128(over, over) != 0;
}

/* A number of at most 16 bytes, without sign and exponent. */
struct plain_number {
    __m128i values;
    uint32_t len;
    uint32_t fraction; /* digits behind the point; 0: whole */
};

/* The number at p, as far as it has digits and a point; that it ends there, the next gap says. */
static inline bool scan_plain(const uint8_t *p, struct plain_number *ret) {
    struct digits digits = digits_of(p);
    uint32_t whole = (uint32_t)__builtin_ctz(digits.others);
    ret->values = digits.values;
    ret->len = whole;
    ret->fraction = 0;
    if (__builtin_expect((uint8_t)(*p - '1') > 8, 0) && (*p != '0' || whole > 1)) {
        return false; /* not a digit, or a zero in front of one */
    }
    if (p[whole] == '.') {
        ret->len = (uint32_t)__builtin_ctz(digits.others & (digits.others - 1));
        ret->fraction = ret->len - whole - 1;
        return __builtin_expect(ret->fraction != 0, 1);
    }
    return true;
}

/* MR_VALUE_INT or MR_VALUE_DOUBLE. Exact, as mr_decimal_double is: below 2^53, a power of ten up to 22. */
static inline uint8_t plain_value(const struct plain_number *n, union mr_value *ret) {
    const int8_t *align = mr_run_tables.align + n->len;
    const int8_t *point = mr_run_tables.point + n->fraction;
    if (__builtin_expect(n->len > 8, 0)) {
        __m128i order =
            _mm_add_epi8(load16(align), n->fraction > 0 ? load16(point) : _mm_setzero_si128());
        uint64_t sum = digits_sum(_mm_shuffle_epi8(n->values, order));
        if (n->fraction == 0) {
            ret->i = (int64_t)sum;
            return MR_VALUE_INT;
        }
        ret->d = (double)(int64_t)sum / mr_pow10_double[n->fraction];
        return MR_VALUE_DOUBLE;
    }
    /* The same in the first eight bytes of the vector; what is in the others does not matter. */
    if (n->fraction == 0) {
        __m128i sum = digits_eights(_mm_shuffle_epi8(n->values, load16(align + 8)));
        ret->i = _mm_cvtsi128_si32(sum);
        return MR_VALUE_INT;
    }
    __m128i order = _mm_add_epi8(load16(align + 8), load16(point + 8));
    __m128d sum = _mm_cvtepi32_pd(digits_eights(_mm_shuffle_epi8(n->values, order)));
    ret->d = _mm_cvtsd_f64(sum) / mr_pow10_double[n->fraction];
    return MR_VALUE_DOUBLE;
}
