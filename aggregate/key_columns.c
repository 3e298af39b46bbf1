/* SPDX-License-Identifier: Apache-2.0 */
#include "aggregate/key_columns.h"

#include "base/check.h"

static uint32_t encode_text(const struct mr_batch *batch, uint8_t tag, union mr_value value,
                            uint8_t *at) {
    struct mr_bytes text = mr_batch_text(batch, value);
    at[0] = tag;
    at[1] = (uint8_t)(text.len >> 8);
    at[2] = (uint8_t)text.len;
    MR_ASSERT(text.len <= MR_KEY_LEN_MAX);
    if (text.len > 0) {
        memcpy(at + MR_KEY_HEADER, text.ptr, text.len);
    }
    return MR_KEY_HEADER + (uint32_t)text.len;
}

static uint32_t encode_value(const struct mr_batch *batch, const struct mr_column *column,
                             uint32_t e, uint8_t *at) {
    union mr_value value = column->values[e];
    switch (column->kinds[e]) {
    case MR_VALUE_STRING:
        return encode_text(batch, MR_KEY_STRING, value, at);
    case MR_VALUE_DIGITS:
        return encode_text(batch, MR_KEY_NUMBER, value, at);
    case MR_VALUE_TRUE:
        *at = MR_KEY_TRUE;
        return 1;
    case MR_VALUE_FALSE:
        *at = MR_KEY_FALSE;
        return 1;
    case MR_VALUE_NULL:
    case MR_VALUE_MISSING:
        *at = MR_KEY_NULL;
        return 1;
    }
    MR_UNREACHABLE(); /* INT and DOUBLE are not kinds of a KEY column */
}

uint32_t mr_key_columns_encode(const struct mr_key_columns *key, const struct mr_batch *batch, uint32_t event,
                               uint8_t *at) {
    uint32_t len = 0;
    for (uint32_t c = 0; c < key->count; c++) {
        const struct mr_column *column = &key->columns[c];
        uint8_t kind = column->kinds[event];
        struct mr_text text = column->values[event].text;
        MR_ASSERT(c == 0 || kind < MR_VALUE_STRING || len + MR_KEY_HEADER + text.len <= MR_KEY_COLUMNS_MAX);
        uint32_t more = mr_key_encode_short(key->body, kind, text, at + len);
        len += more > 0 ? more : encode_value(batch, column, event, at + len);
    }
    return len;
}
