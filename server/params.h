/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Params: the parameters of a query string.
 *
 * Idea        A parameter that nobody reads is a question that was misunderstood, so an unknown one is an error
 *             that names it, and so is one that is given twice.
 *
 *                 from=now-1h&key.country=D%45&metrics=views%2Cspend
 *                 ^name ^value          ^decoded: DE
 *
 * Shape       Names and values percent-decoded, '+' read as a space (application/x-www-form-urlencoded); bytes,
 *             also NUL. Empty pieces ("a=1&&b=2") are passed over; a name without '=' has an empty value.
 * Owner       init/finish: the decoded bytes lie in one buffer of the caller's struct.
 * Threads     Pure.
 * Errors      MR_INVALID with a text for the client: the parameter, what stood there (escaped, cut), what was
 *             expected. MR_UNSUPPORTED: known, not in this version. MR_NO_MEMORY.
 */
#include "base/bytes.h"

#define MR_PARAMS_MAX 32

struct mr_param {
    struct mr_bytes name;
    struct mr_bytes value;
};

struct mr_params {
    struct mr_param items[MR_PARAMS_MAX];
    uint32_t count;
    struct mr_buf text;
};

/* *ret is to be finished also after an error. */
enum mr_status mr_params_init(struct mr_params *ret, struct mr_bytes query,
                              struct mr_error *error) MR_MUST_CHECK;
void mr_params_finish(struct mr_params *params);

/* Every parameter is one of names, or begins with prefix (NULL: none does). */
enum mr_status mr_params_known(const struct mr_params *params, const char *const *names,
                               uint32_t name_count, const char *prefix,
                               struct mr_error *error) MR_MUST_CHECK;

/* NULL: not given. */
const struct mr_param *mr_params_find(const struct mr_params *params, const char *name);

/* The whole number of a parameter, within [least, most]; *ret is left alone when it is not given. */
enum mr_status mr_params_count(const struct mr_params *params, const char *name, uint32_t least,
                               uint32_t most, uint32_t *ret, struct mr_error *error) MR_MUST_CHECK;

/* The index of a parameter's value in choices; *ret is left alone when it is not given. */
enum mr_status mr_params_choice(const struct mr_params *params, const char *name,
                                const char *const *choices, uint32_t choice_count, uint32_t *ret,
                                struct mr_error *error) MR_MUST_CHECK;

/* Bytes of a client as they may stand in a message: printable ASCII as it is, the rest as \xNN, cut. */
#define MR_QUOTED_MAX 80

struct mr_quoted {
    char text[MR_QUOTED_MAX + 4];
};

struct mr_quoted mr_quote(struct mr_bytes bytes);

/* Texts for a message: "a, b, c", cut. Appends to a text of cap bytes, NUL-terminated. */
void mr_list_append(char *text, size_t cap, struct mr_bytes item);

void mr_params_check(const struct mr_params *params);
