/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Key: the bytes of a group key: the values of the group_by columns, one behind the other.
 *
 * Shape       Each value: a tag byte, and for texts a length and the bytes.
 *
 *                 'z'                      null or missing (one group)
 *                 't' 'f'                  true, false
 *                 'n' len16 text           number, its JSON text as sent ("17")
 *                 's' len16 text           string, after unescaping
 *                 'o' shard                instead of all columns: the overflow group of a combine shard
 *                 'p' index32              behind all columns, in keys of rows and panes: the pane's index, where
 *                                          each pane is a row of its own (panes: discarding)
 *
 *             len16 is big-endian, so that keys of equal lengths sort by text. The overflow group sorts
 *             between numbers and strings.
 * Errors      mr_key_next returns false at the end and on malformed bytes (asserted well-formed when
 *             they come from our own files).
 */
#include "base/bytes.h"

enum mr_key_tag {
    MR_KEY_NULL = 'z',
    MR_KEY_TRUE = 't',
    MR_KEY_FALSE = 'f',
    MR_KEY_NUMBER = 'n',
    MR_KEY_STRING = 's',
    MR_KEY_OTHER = 'o',
    MR_KEY_PANE = 'p',
};

struct mr_key_value {
    enum mr_key_tag tag;
    struct mr_bytes text; /* NUMBER and STRING; for OTHER the one shard byte; for PANE four bytes, big-endian */
};

/* What a person sees instead of the columns' values of the overflow group. */
#define MR_KEY_OTHER_TEXT "(other)"

/* Takes the first value off *rest. */
bool mr_key_next(struct mr_bytes *rest, struct mr_key_value *ret);
/* Appends one value; text.len <= UINT16_MAX (asserted). */
void mr_key_append(struct mr_buf *buf, struct mr_key_value value);
/* Of the overflow group, with a pane's index or without. */
bool mr_key_is_other(struct mr_bytes key);
/* Writes a value with tag 'p'. */
#define MR_KEY_PANE_LEN 5
void mr_key_write_pane(uint8_t *at, uint32_t index);
/* The index in the text of a value with tag 'p'. */
static inline uint32_t mr_key_read_pane(struct mr_bytes text) {
    return (uint32_t)text.ptr[0] << 24 | (uint32_t)text.ptr[1] << 16 | (uint32_t)text.ptr[2] << 8 | text.ptr[3];
}
