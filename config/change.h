/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Change: what becomes of the state in a data directory when its configuration changes.
 *
 * Idea        The log's CONFIG records and every checkpoint carry the YAML of streams and rules they were made with
 *             (mr_config_print_state). At a start this is compared with the configuration at hand, stream by stream
 *             and rule by rule, by name. What is outside of streams and rules may change freely, but for the names that
 *             claims in a shared store are made under.
 *
 *                 stream   new: begins empty   gone: its ids are forgotten, with a warning
 *                          live: time, missing_time, missing_id, watermark, dedup.ids, when_full, outage (to or from local:
 *                                what this node has counted is not remembered, or is forgotten),
 *                                horizon (dedup/dedup.h says how a shorter one readmits nothing), exact <-> observe,
 *                                conflicts (ids remembered while it was off are not compared), derive (but see rule)
 *                          from or to none: what was remembered is not there, or is forgotten, with a warning
 *                          dedup.store, layout: the claims made so far are elsewhere, and no longer looked at
 *                          refused: id (its parts make the fingerprints; with none on either side it may change),
 *                          exact or observe <-> bloom <-> redis, bloom's error
 *                 rule     new: begins empty   gone: its open windows are dropped, with a warning; its table stays
 *                          live: allowed_lateness, trigger.early, early_count, late, groups.*
 *                          begins anew (a new generation): from, where, group_by, window, trigger.panes, metrics; and
 *                          when a derived field or a lookup that it uses (config/use.h) is another one
 *                 lookups  what a file holds, and key and value, are part of the state; where it lies is not
 *                 node.id, cluster.name
 *                          refused where dedup mode redis was and is in use: a claim made again after a crash would not
 *                          be known as this node's own. The cluster's secret is the data directory's KEY, and not here.
 *                 stores   addresses, times, passwords, TLS: live, and no part of the state
 *
 * Refused     MR_MISMATCH; the process ends with 78; the text names stream and setting, says old and new, why, and how
 *             to go on (go back, or another node.data_dir).
 */
#include "config/config.h"

enum mr_change {
    MR_CHANGE_NONE,
    MR_CHANGE_LIVE, /* something differs that may */
    MR_CHANGE_NEW,
    MR_CHANGE_ANEW, /* a rule: same name, new generation; a stream: dedup from or to none,
                     * another store or layout */
};

struct mr_config_change {
    uint32_t stream_of[MR_STREAMS_MAX]; /* new index -> old index; UINT32_MAX: new */
    enum mr_change streams[MR_STREAMS_MAX]; /* by new index */
    uint32_t rule_of[MR_RULES_MAX];
    enum mr_change rules[MR_RULES_MAX];
    uint32_t streams_gone;
    uint32_t rules_gone;
    bool any; /* something differs at all */
};

/* MR_MISMATCH with a text when it is refused; MR_NO_MEMORY. ret is written on success only. */
enum mr_status mr_config_compare(const struct mr_config *before, const struct mr_config *now,
                                 struct mr_config_change *ret, struct mr_error *error) MR_MUST_CHECK;

/* Whether ids, times and watermarks of the one are those of the other: every stream of now is one of before, with the
 * same settings but for derive. MR_MISMATCH, and the text names the first that differs; MR_NO_MEMORY. */
enum mr_status mr_config_compare_kept(const struct mr_config *before, const struct mr_config *now,
                                      struct mr_error *error) MR_MUST_CHECK;
/* Whether rows of the one rule can stand in a table of the other: the same group_by, window, metrics and panes. */
enum mr_status mr_config_rows_fit(const struct mr_config *before, uint32_t before_rule, const struct mr_config *now,
                                  uint32_t now_rule, bool *ret) MR_MUST_CHECK;

/* YAML of streams and rules alone, every default written out, that mr_config_parse_state reads back to the same streams
 * and rules. Equal streams and rules, in equal order, give equal text: `any` is whether it differs. At most 1 MiB: loading
 * refuses a configuration of more.
 *
 * With a stream of dedup mode redis node.id, cluster.name and the names and types of the stores in use come before them, by
 * first use; secrets and addresses are never in it. Lookups say a hash of their content. (Without either of them
 * mr_config_parse reads it, too.) */
void mr_config_print_state(const struct mr_config *config, struct mr_buf *ret);
/* What mr_config_print_state says, and the defaults of all else: cluster.secret is empty, the stores have no nodes, and
 * the lookups no data.
 * To be compared and printed; whoever runs it takes those of the configuration at hand. name stands in messages. */
enum mr_status mr_config_parse_state(struct mr_bytes text, const char *name, struct mr_config **ret,
                                     struct mr_error *error) MR_MUST_CHECK;
