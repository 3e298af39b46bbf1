/* SPDX-License-Identifier: Apache-2.0 */
#include "server/cursor.h"

#include "base/check.h"
#include "base/hash.h"
#include "server/time_param.h"

enum {
    VERSION = 1,
    FIXED = 1 + 4 * 8,
    CHECKSUM = 8,
    BYTES_MAX = FIXED + MR_CURSOR_REST_MAX + CHECKSUM
};

static_assert((BYTES_MAX * 4 + 2) / 3 <= MR_CURSOR_TEXT_MAX, "the longest key fits");
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "fields are copied as they are");

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static uint8_t *put64(uint8_t *at, uint64_t value) {
    memcpy(at, &value, sizeof value);
    return at + sizeof value;
}

static uint64_t get64(const uint8_t *at) {
    uint64_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static void append_base64(struct mr_buf *buf, const uint8_t *bytes, size_t len) {
    for (size_t i = 0; i < len; i += 3) {
        size_t n = len - i < 3 ? len - i : 3;
        uint32_t word = (uint32_t)bytes[i] << 16;
        word |= n > 1 ? (uint32_t)bytes[i + 1] << 8 : 0;
        word |= n > 2 ? bytes[i + 2] : 0;
        char text[4] = {alphabet[word >> 18], alphabet[word >> 12 & 63], alphabet[word >> 6 & 63],
                        alphabet[word & 63]};
        mr_buf_append(buf, text, n + 1);
    }
}

void mr_cursor_encode(const struct mr_cursor *cursor, struct mr_buf *ret) {
    MR_ASSERT(cursor->rest.len <= MR_CURSOR_REST_MAX);
    uint8_t bytes[BYTES_MAX];
    uint8_t *at = bytes;
    *at++ = VERSION;
    at = put64(at, cursor->question);
    at = put64(at, (uint64_t)cursor->from_ms);
    at = put64(at, (uint64_t)cursor->to_ms);
    at = put64(at, cursor->place);
    if (cursor->rest.len > 0) {
        memcpy(at, cursor->rest.ptr, cursor->rest.len);
        at += cursor->rest.len;
    }
    at = put64(at, mr_checksum(mr_bytes_of(bytes, (size_t)(at - bytes))));
    append_base64(ret, bytes, (size_t)(at - bytes));
}

static int digit(uint8_t c) {
    const char *at = c == 0 ? NULL : strchr(alphabet, c);
    return at == NULL ? -1 : (int)(at - alphabet);
}

/* Every text has one meaning and every meaning one text: bits that pad the last digit are zero. */
static bool decode_base64(struct mr_bytes text, uint8_t ret[BYTES_MAX], size_t *ret_len) {
    uint32_t word = 0;
    uint32_t bits = 0;
    size_t len = 0;
    for (size_t i = 0; i < text.len; i++) {
        int value = digit(text.ptr[i]);
        if (value < 0) {
            return false;
        }
        word = (word << 6 | (uint32_t)value) & 0xffff;
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            if (len == BYTES_MAX) {
                return false;
            }
            ret[len++] = (uint8_t)(word >> bits);
        }
    }
    *ret_len = len;
    return bits < 6 && (word & ((1u << bits) - 1)) == 0;
}

enum mr_status mr_cursor_decode(struct mr_bytes text, uint64_t question, struct mr_buf *scratch,
                                struct mr_cursor *ret, struct mr_error *error) {
    uint8_t bytes[BYTES_MAX];
    size_t len = 0;
    bool sound = decode_base64(text, bytes, &len) && len >= FIXED + CHECKSUM &&
                 bytes[0] == VERSION &&
                 get64(bytes + len - CHECKSUM) == mr_checksum(mr_bytes_of(bytes, len - CHECKSUM));
    struct mr_cursor cursor = {0};
    if (sound) {
        cursor.question = get64(bytes + 1);
        cursor.from_ms = (int64_t)get64(bytes + 9);
        cursor.to_ms = (int64_t)get64(bytes + 17);
        cursor.place = get64(bytes + 25);
        sound = (cursor.from_ms == INT64_MIN || mr_time_has_text(cursor.from_ms)) &&
                (cursor.to_ms == INT64_MAX || mr_time_has_text(cursor.to_ms));
    }
    if (!sound) {
        return mr_error_set(error, MR_INVALID,
                            "query parameter `cursor`: not a cursor of this server; expected the "
                            "next_cursor of an earlier answer, unchanged");
    }
    if (cursor.question != question) {
        return mr_error_set(
            error, MR_INVALID,
            "query parameter `cursor`: of another question; repeat the parameters of "
            "the answer it came from (limit and format may differ)");
    }
    mr_buf_clear(scratch);
    mr_buf_append(scratch, bytes + FIXED, len - FIXED - CHECKSUM);
    if (scratch->failed) {
        return mr_error_set(error, MR_NO_MEMORY, "no memory for the cursor");
    }
    cursor.rest = mr_buf_bytes(scratch);
    *ret = cursor;
    return MR_OK;
}
