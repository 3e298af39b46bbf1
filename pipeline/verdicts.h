/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Verdicts: what a shared store said of the ids of EVENTS records, as the log keeps it: the first record of the bundle in
 * which those events take effect, in the order of the list. Or that nobody was asked: this node's own table decides then.
 *
 * Shape       0 version u8 (1)   1 zero[3]   4 entries u32, then for each entry
 *                 lsn u64, events u32, local u32 (0, 1: nobody was asked), and a bit an event (low bit first): it is
 *                 another's (local: all 0); padded to 8 bytes
 * Errors      next: false at the end; mr_verdicts_begin: MR_CORRUPT.
 */
#include "base/bytes.h"

struct mr_verdicts {
    uint64_t lsn;
    uint32_t events;
    bool local;
    const uint8_t *taken;
};

static inline size_t mr_verdicts_bits_len(uint32_t events) {
    return ((size_t)events + 63) / 64 * 8;
}

static inline bool mr_verdicts_is_taken(const uint8_t *taken, uint32_t event) {
    return ((taken[event / 8] >> (event % 8)) & 1) != 0;
}

/* Bytes that an entry adds. */
static inline size_t mr_verdicts_len(uint32_t events) {
    return 16 + mr_verdicts_bits_len(events);
}

void mr_verdicts_pack_head(struct mr_buf *buf, uint32_t entries);
void mr_verdicts_pack(struct mr_buf *buf, const struct mr_verdicts *verdicts);

struct mr_verdicts_reader {
    struct mr_bytes rest;
    uint32_t left;
};

/* The payload of record lsn. All of it is checked here. */
enum mr_status mr_verdicts_begin(struct mr_bytes payload, uint64_t lsn,
                                 struct mr_verdicts_reader *ret, struct mr_error *error) MR_MUST_CHECK;
bool mr_verdicts_next(struct mr_verdicts_reader *reader, struct mr_verdicts *ret);
