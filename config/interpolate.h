/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Interpolate: ${VAR}, ${VAR:-default} and ${VAR:?message} in the values of a tree.
 *
 * Idea        It happens after parsing, so a value with newlines or YAML syntax in it stays one
 * value, and nobody who controls a variable can add a key.
 *
 *                 ${VAR}            its value; unset is an error, empty is empty
 *                 ${VAR:-default}   the default when unset or empty
 *                 ${VAR:?message}   an error with this message when unset or empty
 *                 $$                one dollar; a dollar before anything but { and $ is itself, for
 * field names such as $lib
 *
 * Errors      MR_INVALID with file:line:col, the tree then half done; MR_LIMIT: more than
 *             MR_INTERPOLATED_MAX bytes of values in all; MR_NO_MEMORY.
 */
#include "config/node.h"

#define MR_INTERPOLATED_MAX (4u << 20)

/* environment: NULL-ended NAME=value list; NULL is an empty one. Keys stay as they are. */
enum mr_status mr_interpolate(struct mr_node *root, char *const *environment,
                              struct mr_arena *arena, struct mr_error *error) MR_MUST_CHECK;
