/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Reader: members of the JSON objects that a millrace server answers with.
 *
 * Idea        Answers are small and well-formed: to look a member up, walk over the object's text. Nothing is built.
 * Owner       What is found points into the text.
 * Errors      false: no object, no such member, or not of that kind; outputs unchanged. Damaged text never leads outside.
 */
#include "base/bytes.h"

/* The text of an outermost member's value, as written: 12.5, "text", {…}. */
bool mr_load_member(struct mr_bytes object, const char *name, struct mr_bytes *ret);
/* A member of a member: counters.accepted. */
bool mr_load_member_in(struct mr_bytes object, const char *outer, const char *inner,
                       struct mr_bytes *ret);
/* A whole number, zero or greater. */
bool mr_load_member_uint(struct mr_bytes object, const char *name, uint64_t *ret);
bool mr_load_number(struct mr_bytes text, double *ret);
/* Without its quotes; escapes stay. Not a string: as it is. */
struct mr_bytes mr_load_unquoted(struct mr_bytes text);
/* The value of a sample without labels in a Prometheus text. */
bool mr_load_sample(struct mr_bytes text, const char *name, double *ret);
