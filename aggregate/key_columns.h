/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Key columns: where the group keys of a batch's events are, and how they are encoded (base/key.h).
 *
 * Idea        Nearly all keys are one short text of the body: copying it whole, with the readable bytes behind it, needs
 *             neither a call nor a branch on its length.
 * Shape       A key: for each column tag, length where it is a text (2 bytes, the greater one first), text.
 * Owner       Borrows the batch's columns. A copy of its pointers, which no store to bytes can change, so that the
 *             compiler keeps them in registers.
 * Threads     Whoever has the batch.
 */
#include "aggregate/rule.h"
#include "base/key.h"
#include "event/batch.h"

enum {
    MR_KEY_HEADER = 3, /* tag and length */
    MR_KEY_COLUMNS_MAX = MR_KEY_LEN_MAX + MR_KEY_HEADER * MR_RULE_KEYS_MAX,
    MR_KEY_SHORT = 32, /* texts up to here are short */
};

static_assert(MR_KEY_SHORT <= MR_PADDING, "a short text is read with what lies behind it");

struct mr_key_columns {
    struct mr_column columns[MR_RULE_KEYS_MAX];
    uint32_t count;
    const uint8_t *body;
};

static inline struct mr_key_columns mr_key_columns_of(const struct mr_rule *rule, const struct mr_rule_input *input,
                                                      const struct mr_batch *batch) {
    struct mr_key_columns key = {.count = rule->key_count, .body = batch->body.ptr};
    for (uint32_t c = 0; c < key.count; c++) {
        key.columns[c] = batch->column[input->key_columns[c]];
    }
    return key;
}

/* One value that is a short text of the body; at has room for MR_KEY_SHORT bytes more than it takes. Its length; 0: it is
 * something else. */
static inline uint32_t mr_key_encode_short(const uint8_t *body, uint8_t kind, struct mr_text text, uint8_t *at) {
    bool is_short = kind == MR_VALUE_STRING && text.len <= MR_KEY_SHORT && (text.off & MR_TEXT_UNESCAPED) == 0;
    if (__builtin_expect(!is_short, 0)) {
        return 0;
    }
    uint32_t header = MR_KEY_STRING | text.len << 16; /* little-endian, as all our formats are */
    memcpy(at, &header, sizeof header);
    memcpy(at + MR_KEY_HEADER, body + text.off, MR_KEY_SHORT);
    return MR_KEY_HEADER + text.len;
}

/* The whole key of an event, of any values; at has room for MR_KEY_COLUMNS_MAX + MR_KEY_SHORT. The decoder bounds each
 * text so that all of them fit. */
uint32_t mr_key_columns_encode(const struct mr_key_columns *key, const struct mr_batch *batch, uint32_t event,
                               uint8_t *at);
