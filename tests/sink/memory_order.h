/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Memory order: the order of numbers, as SQLite has it: nothing, numbers and booleans by value, texts by bytes.
 */
#include "base/pane.h"

/* <0, 0, >0. */
int mr_memory_compare_number(const struct mr_number *a, const struct mr_number *b);
