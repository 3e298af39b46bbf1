/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Distinct: how many different values, from one 64-bit hash of each (mr_scalar_hash).
 *
 * Idea        Few values: their hashes, so the count is exact. Many: HyperLogLog, m = 2^p registers; a hash's first p
 *             bits choose one, which keeps the greatest position of the first one-bit in the rest. Which form it has,
 *             and its bytes, follow from the set of values alone: not from the order of adds and merges.
 * Shape       live     sparse: an open-addressing table of hashes, in order of their first bits; dense: m bytes.
 *             encoded  | u8 form 1 | u8 p | u16 0 | u32 n | n hashes of 8 B, ascending |
 *                      | u8 form 2 | u8 p | u16 0 | u32 0 | m registers of 6 bits, four in 3 B, low bits first |
 *
 *             Sparse up to max(3/32 m, 16) hashes, which is where both take equal room: 1536 for p = 14.
 * Numbers     p is the least with 1.04 / sqrt(2^p) <= error: error 0.01 is p = 14, 0.81 %. Estimate: Ertl's improved
 *             one, without tables and thresholds.
 * Sources     P. Flajolet, E. Fusy, O. Gandouet, F. Meunier, HyperLogLog (2007). S. Heule, M. Nunkesser, A. Hall,
 *             HyperLogLog in Practice (2013): 64 bits, the sparse form. O. Ertl, New cardinality estimation
 *             algorithms for HyperLogLog sketches (2017), algorithm 6.
 * Cost        add: a hash and one cache line, some 15 ns.
 * Limits      The hash has no secret: who chooses values can make them count too few or too many.
 */
#include "aggregate/sketch.h"

uint32_t mr_distinct_precision(double error);
