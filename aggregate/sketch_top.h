/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Top: the most frequent values, with counts that are never too small and say by how much they may be too large.
 *
 * Idea        k counters. A value without one takes over the least, c, and may have come c times before: it counts from
 *             c on, with error c. `floor` is that c: no value without a counter came more often. While the different
 *             values fit, floor and all errors are 0, and the counts exact.
 * Shape       live     entries, an index of them by hash in order of its first bits, a heap with the least on top
 *                      (while full), and the texts.
 *             encoded  | u64 floor | u32 n | u32 bytes of payloads |
 *                      | n x { u64 hash | u64 count | u64 error | u32 offset | u16 length | u16 kind } | payloads |
 *
 *             Records ascend by (hash, value); payloads (metric_value.h) lie in their order without gaps.
 * Merging     Counts of a value in both add up; one in A alone may be as often as B's floor in B. Of the union the k
 *             greatest stay.
 * Invariants  error <= floor <= count, error < count, of every entry; floor > 0 only with k entries;
 *             floor <= events / k. The least is that of (count, hash, value), so what happens next follows from the entries, not
 *             their order.
 * Sources     A. Metwally, D. Agrawal, A. El Abbadi, Space-Saving (2005). P. Agarwal, G. Cormode and others, Mergeable
 *             Summaries (2012).
 * Cost        add: a hash and a look-up, O(log k) more while full: some 140 ns then.
 */
#include "aggregate/sketch.h"

/* Counters for the n best. */
uint32_t mr_top_counters(uint32_t n);
