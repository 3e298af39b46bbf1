/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Quantiles: how many values lie in each of many narrow buckets, whose bounds grow by a factor.
 *
 * Idea        In a bucket [lo, hi) with hi <= lo (1 + e) / (1 - e), the value 2 lo hi / (lo + hi) is within e of all
 *             of it. Counts of buckets add up in any order.
 *
 *                 keys   … -2  -1  |  0  |  1   2   3 …       negative | 0, and below 2.3e-308 | positive
 *
 *             A key is a logarithm, scaled: the exponent of the double and a cubic of its mantissa instead of the true
 *             one, for 1 % more buckets: no libm, so equal on every machine.
 * Shape       live     counts u64 and keys i32, ascending, side by side, in one block with room to grow.
 *             encoded  | f64 min | f64 max | u32 n | u32 0 | n counts u64 | n keys i32 |
 *
 *             At most 20.48 / error buckets in use (2048 for 0.01: 58 factors of two without a gap). One more, and the
 *             lowest is folded into the next: the highest stay exact to `error`, so quantiles from the top down do.
 *             What is kept follows from the values alone, not from their order.
 * Numbers     min and max are exact, and so are the quantiles of one value, and of rank 0 and n - 1.
 * Sources     C. Masson, J. Rim, H. Lee, DDSketch (2019); the cubic is that of its published implementations.
 * Cost        add: a search among the buckets in use, some 25 ns; a new bucket moves those above it.
 */
#include "aggregate/sketch.h"

/* Buckets to one doubling, of mr_metric.scale; and the most of them in use. */
double mr_quantiles_scale(double error);
uint32_t mr_quantiles_buckets(double error);
