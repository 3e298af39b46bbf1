/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Status: the one return type of every function that can fail, and the text that goes with it.
 *
 * Idea        A status says which class of thing went wrong, so that the caller can choose a policy;
 *             an mr_error says it to a person: what, where, and what was expected.
 * Owner       The caller owns the mr_error; functions write it only when they fail.
 * Threads     Values; nothing shared.
 */
#include <stdbool.h>
#include <stddef.h>

#define MR_STATUS_TABLE(X)                                                                         \
    X(OK, "ok")                                                                                    \
    X(AGAIN, "not now, try again")                                                                 \
    X(END, "no more")                                                                              \
    X(INVALID, "bad input")                                                                        \
    X(NOT_FOUND, "not found")                                                                      \
    X(LIMIT, "over a limit")                                                                       \
    X(FULL, "no room")                                                                             \
    X(CORRUPT, "corrupt data")                                                                     \
    X(IO, "input/output error")                                                                    \
    X(NO_SPACE, "no space left")                                                                   \
    X(NO_MEMORY, "out of memory")                                                                  \
    X(BUSY, "in use by another process")                                                           \
    X(MISMATCH, "does not match what is stored")                                                   \
    X(UNSUPPORTED, "known, not in this version")                                                   \
    X(CLOSED, "closed")

enum mr_status {
#define X(name, text) MR_##name,
    MR_STATUS_TABLE(X)
#undef X
        MR_STATUS_COUNT
};

#define MR_MUST_CHECK __attribute__((warn_unused_result))
#define MR_PRINTF(fmt, first) __attribute__((format(printf, fmt, first)))

#define MR_ERROR_TEXT_MAX 512

/* A failure told to a person. text is NUL-terminated and cut at its capacity. */
struct mr_error {
    enum mr_status status;
    char text[MR_ERROR_TEXT_MAX];
};

/* The short text of a status; never NULL. */
const char *mr_status_text(enum mr_status status);

/* Fills *error (which may be NULL) and returns status, so that `return mr_error_set(…)` reads well. */
enum mr_status mr_error_set(struct mr_error *error, enum mr_status status, const char *format, ...)
    MR_PRINTF(3, 4);
