/* SPDX-License-Identifier: Apache-2.0 */
#include "dedup/watch_parts.h"

#include <stdio.h>

/* The line without its end, cut off the text. Only "\r\n" ends a line: a lone "\n" is part of a value. */
static struct mr_bytes cut_line(struct mr_bytes *text) {
    for (size_t i = 0; i + 1 < text->len; i++) {
        if (text->ptr[i] == '\r' && text->ptr[i + 1] == '\n') {
            struct mr_bytes line = mr_bytes_of(text->ptr, i);
            *text = mr_bytes_of(text->ptr + i + 2, text->len - i - 2);
            return line;
        }
    }
    struct mr_bytes line = *text;
    *text = (struct mr_bytes){0};
    return line;
}

/* "# Server\r\nredis_version:7.0.15\r\n\r\n# Clients\r\n…": a name is everything before the first colon of its line. */
bool mr_watch_info_field(struct mr_bytes info, const char *name, struct mr_bytes *ret) {
    size_t len = strlen(name);
    while (info.len > 0) {
        struct mr_bytes line = cut_line(&info);
        if (line.len > len && line.ptr[len] == ':' && memcmp(line.ptr, name, len) == 0) {
            *ret = mr_bytes_of(line.ptr + len + 1, line.len - len - 1);
            return true;
        }
    }
    return false;
}

bool mr_watch_number(struct mr_bytes text, uint64_t *ret) {
    uint64_t number = 0;
    for (size_t i = 0; i < text.len; i++) {
        uint64_t digit = (uint64_t)text.ptr[i] - '0';
        if (digit > 9 || number > (UINT64_MAX - digit) / 10) {
            return false;
        }
        number = number * 10 + digit;
    }
    if (text.len == 0) {
        return false;
    }
    *ret = number;
    return true;
}

struct mr_bytes mr_watch_word(struct mr_bytes *text) {
    size_t len = 0;
    while (len < text->len && text->ptr[len] != ' ') {
        len++;
    }
    struct mr_bytes word = mr_bytes_of(text->ptr, len);
    size_t cut = len < text->len ? len + 1 : len;
    *text = mr_bytes_of(text->ptr + cut, text->len - cut);
    return word;
}

void mr_watch_hex(const struct mr_epoch *epoch, char ret[MR_WATCH_EPOCH_HEX + 1]) {
    for (size_t i = 0; i < MR_EPOCH_LEN; i++) {
        (void)snprintf(ret + 2 * i, 3, "%02x", epoch->bytes[i]); /* always 2 characters */
    }
}

bool mr_watch_unhex(struct mr_bytes text, struct mr_epoch *ret) {
    struct mr_epoch epoch;
    if (text.len != MR_WATCH_EPOCH_HEX) {
        return false;
    }
    for (size_t i = 0; i < MR_EPOCH_LEN; i++) {
        int byte = mr_hex_byte(text.ptr + 2 * i);
        if (byte < 0) {
            return false;
        }
        epoch.bytes[i] = (uint8_t)byte;
    }
    *ret = epoch;
    return !mr_epoch_is_none(ret);
}
