/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Reference: a slow JSON reader that can be compared with RFC 8259 line by line: recursive, a byte
 * at a time, code points decoded by arithmetic. It shares nothing with event/.
 */
#include "base/bytes.h"

enum ref_kind { REF_NULL, REF_FALSE, REF_TRUE, REF_NUMBER, REF_STRING, REF_ARRAY, REF_OBJECT };

enum { REF_VALUES_MAX = 2000, REF_TEXT_MAX = 65536 };

struct ref_value {
    enum ref_kind kind;
    struct mr_bytes raw;
    struct mr_bytes text; /* STRING: without escapes */
    struct mr_bytes name; /* of a member, without escapes */
    struct ref_value *child;
    struct ref_value *next;
};

struct ref {
    struct mr_bytes in;
    size_t at;
    bool deep; /* more than 32 levels */
    size_t value_count;
    size_t text_len;
    struct ref_value values[REF_VALUES_MAX];
    uint8_t text[REF_TEXT_MAX];
};

/* The text as exactly one JSON value with white space around it; NULL if it is not, or is deeper
 * than 32 levels (then ref->deep, unless something else is wrong before). */
const struct ref_value *ref_parse(struct ref *ref, struct mr_bytes text);

/* The first member of that name; *ret_count: how many there are. */
const struct ref_value *ref_member(const struct ref_value *object, const char *name,
                                   int *ret_count);
