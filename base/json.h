/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * JSON writer: appends JSON to a buffer. Reading is event/'s.
 *
 * Idea        The writer keeps track of commas, so that callers only say what comes next.
 *
 *                 mr_json_object_begin(&j); mr_json_key(&j, "n"); mr_json_int(&j, 1); mr_json_object_end(&j);
 *
 * Owner       The caller owns the buffer; a failed append shows in buf->failed, asked once at the end.
 * Errors      Bytes that are not UTF-8 are written as U+FFFD. NaN and infinities are written as null.
 *             Asserted: at most 63 levels, one outermost value per init, begins and ends in pairs.
 * Cost        Numbers: the shortest decimal that reads back to the same double.
 */
#include "base/bytes.h"

struct mr_json {
    struct mr_buf *buf;
    uint32_t depth;
    uint64_t has_item; /* bit d: level d already has an item, so a comma comes next; depth <= 63 */
    bool after_key;
};

void mr_json_init(struct mr_json *json, struct mr_buf *buf);
void mr_json_object_begin(struct mr_json *json);
void mr_json_object_end(struct mr_json *json);
void mr_json_array_begin(struct mr_json *json);
void mr_json_array_end(struct mr_json *json);
void mr_json_key(struct mr_json *json, const char *key);
void mr_json_key_bytes(struct mr_json *json, struct mr_bytes key);
void mr_json_string(struct mr_json *json, struct mr_bytes text);
void mr_json_text(struct mr_json *json, const char *text);
void mr_json_int(struct mr_json *json, int64_t value);
void mr_json_uint(struct mr_json *json, uint64_t value);
void mr_json_double(struct mr_json *json, double value);
void mr_json_bool(struct mr_json *json, bool value);
void mr_json_null(struct mr_json *json);
/* Already JSON: appended as it is. */
void mr_json_raw(struct mr_json *json, struct mr_bytes text);

/* A double as the shortest text that reads back the same, laid out as ECMAScript does (1e21 and 1e-7
 * are the first with an exponent), whatever the locale; NaN and infinities: null. ret has room for 32
 * and is NUL-terminated. Returns the length. Implemented in double_text.c. */
size_t mr_double_text(double value, char ret[32]);
