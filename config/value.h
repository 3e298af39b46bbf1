/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Value: texts of a configuration to values and back. Pure; whole texts only (" 5" is no number).
 *
 * Errors      false: not of the form; outputs unchanged.
 */
#include "base/bytes.h"

#define MR_PATH_LEN_MAX 256 /* bytes of a dotted field path */

bool mr_value_utf8(struct mr_bytes text);
/* Digits only, below 2^64. */
bool mr_value_count(struct mr_bytes text, uint64_t *ret);
/* Digits and B, KB, MB, GB, TB (powers of 1,000), KiB, MiB, GiB, TiB (of 1,024), or nothing. */
bool mr_value_bytes(struct mr_bytes text, uint64_t *ret);
/* A decimal number such as 0.001 or 1e-4, zero or greater, finite. */
bool mr_value_rate(struct mr_bytes text, double *ret);
/* The same, of any sign; -0 is 0. */
bool mr_value_number(struct mr_bytes text, double *ret);
/* [A-Za-z_][A-Za-z0-9_]*, at most MR_NAME_MAX bytes: what can stand in an expression without quotes. */
bool mr_value_identifier(struct mr_bytes text);
/* 1 to 256 bytes without control characters. */
bool mr_value_column(struct mr_bytes text);
/* [a-z_][a-z0-9_-]*, at most MR_NAME_MAX bytes. */
bool mr_value_name(struct mr_bytes text);
/* 1 to 256 bytes without spaces and control characters. */
bool mr_value_word(struct mr_bytes text);
/* A dotted path of at most MR_PATH_DEPTH_MAX member names: none empty, without control characters.
 */
bool mr_value_path(struct mr_bytes text);
/* 64 hexadecimal digits of either case; surrounding white space is allowed (files end in a
 * newline). */
bool mr_value_sha256(struct mr_bytes text, uint8_t ret[32]);
/* 127.0.0.1:8080, [::1]:8080, localhost:8080; an address alone (port 8080) or a port alone
 * (127.0.0.1). *ret_host lies in text, or is a constant. */
bool mr_value_listen(struct mr_bytes text, struct mr_bytes *ret_host, uint16_t *ret_port);
/* redis-1.example.org:6379, 10.0.0.1:6379, [::1]:6379; without a port it is default_port. *ret_host
 * lies in text, with its brackets. */
bool mr_value_node(struct mr_bytes text, uint16_t default_port, struct mr_bytes *ret_host,
                   uint16_t *ret_port);
/* 127.0.0.0/8 and ::1. host as mr_value_listen gives it. */
bool mr_value_loopback(struct mr_bytes host);

/* The text in the largest unit that divides the value: 1d, 90s, 64MiB. Appended to ret. */
void mr_value_show_duration(int64_t ms, struct mr_buf *ret);
void mr_value_show_bytes(uint64_t bytes, struct mr_buf *ret);
/* The shortest decimal that reads back the same, of any number. */
void mr_value_show_rate(double rate, struct mr_buf *ret);

/* Edits (insert, delete, replace, swap neighbours) that turn a into b, but 1 where one begins with
 * the other (three bytes or more: cert, cert_file); texts longer than 64 bytes are UINT32_MAX
 * apart. Optimal string alignment distance. */
uint32_t mr_value_distance(struct mr_bytes a, struct mr_bytes b);
/* Whether two names so far apart are probably the same name mistyped. */
bool mr_value_near(uint32_t distance, struct mr_bytes typed);
