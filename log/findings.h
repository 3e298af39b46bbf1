/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Findings: what `millrace log repair` says: a line for each damage it dealt with, and a summary.
 *
 * Errors      A stream that takes no more is remembered and said at the end: a repair does not stop half-way for it.
 */
#include "log/log.h"
#include "log/segment.h"

struct mr_findings {
    void *stdio;
    bool json;
    enum mr_status status; /* the first thing that went wrong */
    struct mr_log_repair sum;
};

struct mr_finding {
    const struct mr_segment *segment;
    const char *what;       /* "bad segment header" */
    uint64_t offset;        /* in its file */
    uint64_t bytes;         /* in quarantine; 0: none */
    const char *quarantine; /* the name of that file */
    uint64_t lsn;           /* the first lost */
    uint64_t lsn_count;     /* how many; 0: none */
};

/* Prints and counts it. */
void mr_findings_add(struct mr_findings *findings, const struct mr_finding *finding);
/* first_lsn 0: there is no log. MR_IO or MR_NO_MEMORY when something could not be printed. */
enum mr_status mr_findings_end(struct mr_findings *findings, const char *dir, uint64_t first_lsn,
                               uint64_t last_lsn, struct mr_error *error) MR_MUST_CHECK;
