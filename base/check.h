/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Check: assertions that stay on.
 *
 * MR_ASSERT(condition)   always on, also in release: a broken invariant stops the process, because
 *                        every answer after it would be a guess.
 * MR_VERIFY(condition)   for checks that cost O(n); on where MR_VERIFY_ON is defined (tests, fuzzing,
 *                        simulation), off in release.
 */
#include <assert.h> /* static_assert */
#include <stdlib.h>

_Noreturn void mr_check_failed(const char *condition, const char *file, int line);

#define MR_ASSERT(condition)                                                                       \
    (__builtin_expect(!!(condition), 1) ? (void)0 : mr_check_failed(#condition, __FILE__, __LINE__))

#ifdef MR_VERIFY_ON
#define MR_VERIFY(condition) MR_ASSERT(condition)
#else
#define MR_VERIFY(condition) ((void)sizeof(!!(condition)))
#endif

#define MR_UNREACHABLE() mr_check_failed("unreachable", __FILE__, __LINE__)
