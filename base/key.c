/* SPDX-License-Identifier: Apache-2.0 */
#include "base/key.h"

#include "base/check.h"

static bool has_text(enum mr_key_tag tag) {
    return tag == MR_KEY_NUMBER || tag == MR_KEY_STRING;
}

static bool is_tag(uint8_t byte) {
    return byte == MR_KEY_NULL || byte == MR_KEY_TRUE || byte == MR_KEY_FALSE ||
           byte == MR_KEY_OTHER || byte == MR_KEY_PANE || has_text(byte);
}

static bool take_text(struct mr_bytes *rest, size_t header, size_t len, struct mr_key_value *ret) {
    if (rest->len - header < len) {
        return false;
    }
    ret->text = mr_bytes_of(rest->ptr + header, len);
    *rest = mr_bytes_of(rest->ptr + header + len, rest->len - header - len);
    return true;
}

bool mr_key_next(struct mr_bytes *rest, struct mr_key_value *ret) {
    if (rest->len == 0 || !is_tag(rest->ptr[0])) {
        return false;
    }
    enum mr_key_tag tag = rest->ptr[0];
    size_t header = has_text(tag) ? 3 : 1;
    if (rest->len < header) {
        return false;
    }
    size_t len = tag == MR_KEY_OTHER ? 1 : tag == MR_KEY_PANE ? MR_KEY_PANE_LEN - 1 : 0;
    if (has_text(tag)) {
        len = (size_t)rest->ptr[1] << 8 | rest->ptr[2];
    }
    struct mr_key_value value = {.tag = tag};
    if (!take_text(rest, header, len, &value)) {
        return false;
    }
    *ret = value;
    return true;
}

void mr_key_append(struct mr_buf *buf, struct mr_key_value value) {
    MR_ASSERT(value.text.len <= UINT16_MAX);
    uint8_t header[3] = {(uint8_t)value.tag, (uint8_t)(value.text.len >> 8),
                         (uint8_t)value.text.len};
    MR_ASSERT(value.tag != MR_KEY_OTHER || value.text.len == 1);
    MR_ASSERT(value.tag != MR_KEY_PANE || value.text.len == MR_KEY_PANE_LEN - 1);
    mr_buf_append(buf, header, has_text(value.tag) ? 3 : 1);
    mr_buf_append_bytes(buf, value.text);
}

bool mr_key_is_other(struct mr_bytes key) {
    size_t rest = key.len - 2; /* wraps for shorter ones */
    return key.len > 0 && key.ptr[0] == MR_KEY_OTHER && (rest == 0 || rest == MR_KEY_PANE_LEN);
}

void mr_key_write_pane(uint8_t *at, uint32_t index) {
    at[0] = MR_KEY_PANE;
    for (uint32_t i = 0; i < 4; i++) {
        at[1 + i] = (uint8_t)(index >> (24 - 8 * i));
    }
}
