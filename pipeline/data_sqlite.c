/* SPDX-License-Identifier: Apache-2.0 */
/* Data, the results store as a node has it: a SQLite file. */
#include "pipeline/data.h"
#include "sink/results_sqlite.h"

#include <stdio.h>
#include <string.h>

enum mr_status mr_data_open_sqlite(void *ctx, const struct mr_data *data, struct mr_results **ret,
                                   struct mr_error *error) {
    (void)ctx;
    struct mr_results_sqlite_options options = {
        .path = data->dir.results_path,
        .incarnation = mr_log_incarnation(data->log),
        .rules = data->results_rules,
        .rule_count = data->plan->rule_count,
        .sync = true, /* with log.sync off as well: a checkpoint relies on it, and commits are few */
        .outbox_panes_max = MR_OUTBOX_PANES_MAX,
    };
    enum mr_status status = mr_results_sqlite_open(&options, ret, error);
    if (status == MR_CORRUPT) {
        size_t len = strlen(error->text);
        (void)snprintf(error->text + len, sizeof error->text - len,
                       " (move results.db and its companions away: a start makes them again from the log, as far "
                       "back as it reaches)");
    }
    return status;
}

void mr_data_close_sqlite(void *ctx, struct mr_results *results) {
    (void)ctx;
    mr_results_close(results);
}
