/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Use: which derived fields and lookups a rule's results depend on. Private to config/.
 *
 * Idea        Expressions are compiled elsewhere; here a name that stands in one as a word counts as used. So a rule
 *             may begin anew for a name in a quoted text, but never goes on with values of two meanings.
 * Threads     Pure functions.
 * Cost        O(derived fields x bytes of expressions), at a start.
 */
#include "config/config.h"

/* One rule of one configuration. */
struct mr_config_use {
    const struct mr_config *config;
    const struct mr_config_rule *rule;
};

/* Of two rules whose own settings are equal: whether a derived field or lookup that one of them uses is another one. */
bool mr_config_use_differs(const struct mr_config_use *before, const struct mr_config_use *now);
