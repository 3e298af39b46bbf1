/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Wire: numbers in the log's files. Little-endian on every machine, at any alignment.
 */
#include <endian.h>
#include <stdint.h>
#include <string.h>

static inline void mr_wire_put_u16(uint8_t *at, uint16_t value) {
    uint16_t le = htole16(value);
    memcpy(at, &le, sizeof le);
}

static inline void mr_wire_put_u32(uint8_t *at, uint32_t value) {
    uint32_t le = htole32(value);
    memcpy(at, &le, sizeof le);
}

static inline void mr_wire_put_u64(uint8_t *at, uint64_t value) {
    uint64_t le = htole64(value);
    memcpy(at, &le, sizeof le);
}

static inline uint16_t mr_wire_u16(const uint8_t *at) {
    uint16_t le;
    memcpy(&le, at, sizeof le);
    return le16toh(le);
}

static inline uint32_t mr_wire_u32(const uint8_t *at) {
    uint32_t le;
    memcpy(&le, at, sizeof le);
    return le32toh(le);
}

static inline uint64_t mr_wire_u64(const uint8_t *at) {
    uint64_t le;
    memcpy(&le, at, sizeof le);
    return le64toh(le);
}
