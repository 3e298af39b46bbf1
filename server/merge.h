/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Merge: the sorted rows of several sources (every shard's open windows, the results store) into the one list of
 * an answer.
 *
 * Idea        Each source gives its first rows in the scan's order. A row among the first `limit` of all rows is
 *             among the first `limit` of every source that has it, so merging those lists is enough, and both
 *             versions of a row that two sources have are there to be compared.
 *
 *                 shard 0   w1 DE   w1 FR   w2 DE*            *last row that fitted: there are more behind it
 *                 shard 1   w1 US   w3 FR
 *                 store     w0 DE   w1 DE                     the newer revision of w1 DE stands
 *                 merged    w0 DE   w1 DE   w1 FR   w1 US   w2 DE │ stops: what follows in shard 0 is not known
 *
 * Shape       Window order: the overflow groups of a window come out as one row (server/rows.h). Metric order: merging
 *             changes a row's place, so overflow rows are taken from sources of their own, which have them merged
 *             already (flag others), and passed over elsewhere. Where panes are rows, they are not merged.
 * Owner       Borrows the sources; a visited row borrows until visit returns.
 * Threads     One.
 * Errors      MR_NO_MEMORY.
 * Cost        Rows x sources comparisons.
 * Invariants  I1 at most `limit` rows are visited, in the scan's order, no (window, key) twice.
 *             I2 more is false only if every row of every source was taken and no source has more.
 */
#include "aggregate/combine.h"

#define MR_MERGE_SOURCES_MAX (MR_SHARDS_MAX + 2)

/* With so many rows more than an answer's limit from each source, a page is never empty while there is more:
 * one overflow group of each shard, and the row behind them. */
#define MR_MERGE_SLACK (MR_SHARDS_MAX + 1)

struct mr_merge_source {
    struct mr_bytes rows; /* packed: mr_row_append; what is left is in it afterwards */
    bool more;            /* there may be rows behind the last */
    bool others;          /* metric order: holds the merged overflow groups, and only these */
};

struct mr_merge {
    /* The question. Of the scan order and descending are used. */
    const struct mr_scan *scan;
    const struct mr_rule *rule;
    uint32_t limit;
    /* false: no more, please. */
    bool (*visit)(void *ctx, const struct mr_row *row);
    void *ctx;
    /* The answer. */
    uint32_t count; /* rows visited */
    bool more;      /* there may be rows behind the last one visited */
    bool cut;       /* a source ended early: in metric order the answer is then wrong */
};

/* Of sources that have the same row with the same revision, the first one's stands. */
enum mr_status mr_merge_run(struct mr_merge *merge, struct mr_merge_source *sources,
                            uint32_t source_count) MR_MUST_CHECK;

/* The key that a cursor keeps of the last row, in window order: of an overflow row one behind all shards' overflow
 * groups of the window, also those that a shard makes later. Borrows key, or a constant. */
struct mr_bytes mr_merge_place(const struct mr_scan *scan, struct mr_bytes key);
