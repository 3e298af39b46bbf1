/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Collect: the values themselves, the first of them: bounded.
 *
 * Idea        Kept is the longest beginning of all values, in the order of (event time, lsn, index), that has at most
 *             `limit` of them and MR_METRIC_COLLECT_BYTES, 32 for each value and its text. `cut` is the place of the
 *             first one that is not kept: nothing from there on ever is, so what is kept does not depend on the order
 *             of adds and merges.
 * Shape       live     entries in order, and their texts.
 *             encoded  | u64 total | i64 cut time | u64 cut lsn | u32 cut index | u32 whether cut | u32 n |
 *                        u32 bytes of texts |
 *                      | n x { i64 time | u64 lsn | u32 index | u16 length | u16 kind | i64 or f64 or u64 offset } |
 *                      | texts |
 *
 *             Texts lie in the order of their records without gaps.
 * Cost        add: O(1) where values come in order, else a move of those behind.
 */
#include "aggregate/sketch.h"
