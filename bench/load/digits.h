/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Digits: numbers to text, two digits at a time, for the loop that writes events (printf would cost more than all of it).
 */
#include "base/bytes.h"

extern const char mr_load_decimal_pairs[201]; /* "000102…99" */

#define MR_LOAD_PUT(at, literal) (memcpy((at), (literal), sizeof(literal) - 1), (at) + sizeof(literal) - 1)

/* 8 hexadecimal digits, as one word in memory order: each nibble to a byte of its own, then 10 to 15 are lifted from
 * behind '9' to 'a'. */
static inline uint64_t mr_load_hex_word(uint32_t value) {
    uint64_t x = value;
    x = (x << 16 | x) & UINT64_C(0x0000FFFF0000FFFF);
    x = (x << 8 | x) & UINT64_C(0x00FF00FF00FF00FF);
    x = (x << 4 | x) & UINT64_C(0x0F0F0F0F0F0F0F0F);
    uint64_t letters = (x + UINT64_C(0x0606060606060606)) >> 4 & UINT64_C(0x0101010101010101);
    x += UINT64_C(0x3030303030303030) + letters * ('a' - '9' - 1);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    x = __builtin_bswap64(x);
#endif
    return x;
}

/* 16 hexadecimal digits. */
static inline uint8_t *mr_load_put_hex(uint8_t *at, uint64_t value) {
    uint64_t words[2] = {mr_load_hex_word((uint32_t)(value >> 32)), mr_load_hex_word((uint32_t)value)};
    memcpy(at, words, sizeof words);
    return at + sizeof words;
}

/* Exactly two digits; value < 100. */
static inline uint8_t *mr_load_put_pair(uint8_t *at, uint64_t value) {
    memcpy(at, mr_load_decimal_pairs + 2 * value, 2);
    return at + 2;
}

/* Exactly six digits; value < 1,000,000. The divisions do not wait for each other. */
static inline uint8_t *mr_load_put_six(uint8_t *at, uint32_t value) {
    uint32_t high = value / 10000;
    uint32_t four = value / 100;
    at = mr_load_put_pair(at, high);
    at = mr_load_put_pair(at, four - high * 100);
    return mr_load_put_pair(at, value - four * 100);
}

/* Any number, in a function of its own. */
uint8_t *mr_load_put_uint_long(uint8_t *at, uint64_t value);

/* Below 100. */
static inline uint8_t *mr_load_put_small(uint8_t *at, uint64_t value) {
    if (value < 10) {
        *at = (uint8_t)('0' + value);
        return at + 1;
    }
    return mr_load_put_pair(at, value);
}

/* As many digits as it needs. Most are small: short ways for these. */
static inline uint8_t *mr_load_put_uint(uint8_t *at, uint64_t value) {
    if (value < 100) {
        return mr_load_put_small(at, value);
    }
    if (value < 10000) {
        at = mr_load_put_small(at, value / 100);
        return mr_load_put_pair(at, value % 100);
    }
    at = mr_load_put_uint_long(at, value / 10000);
    at = mr_load_put_pair(at, value / 100 % 100);
    return mr_load_put_pair(at, value % 100);
}

/* Milliseconds since 1970: 13 digits for the years 2001 to 2286, which are all that a server takes. */
static inline uint8_t *mr_load_put_time(uint8_t *at, int64_t ms) {
    uint64_t value = (uint64_t)ms;
    if (value < UINT64_C(1000000000000) || value > UINT64_C(9999999999999)) {
        return mr_load_put_uint(at, value);
    }
    uint64_t high = value / 1000000; /* 7 digits, and 6 */
    *at = (uint8_t)('0' + high / 1000000);
    (void)mr_load_put_six(at + 1, (uint32_t)(high % 1000000));
    return mr_load_put_six(at + 7, (uint32_t)(value % 1000000));
}
