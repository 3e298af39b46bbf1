/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Join, in this order:
 *
 *     replay ─▶ E        node's rows ─┐
 *        └────────── replay's rows ───┴─▶ joined.db        both checkpoints ─▶ one pipeline ─▶ joined checkpoint
 */
#include "pipeline/join.h"

#include "aggregate/window.h"
#include "base/alloc.h"
#include "base/check.h"
#include "pipeline/copy.h"
#include "pipeline/join_rows.h"
#include "pipeline/shadow_store.h"
#include "pipeline/stations.h"

#include <stdio.h>

enum { PATH_CAP = 4096 };

struct joining {
    const struct mr_join *j;
    struct mr_data *data;
    struct mr_config *before; /* of the node */
    struct mr_restored shadow;
    struct mr_restored_join join;
    int64_t begins_ms[MR_RULES_MAX]; /* of windows: as the replay's rows, but for global ones */
    struct mr_plan *shadow_plan;     /* the replay's own generations */
    struct mr_plan *plan;            /* the node's, when it is done */
    struct mr_error *error;
};

static enum mr_status no_memory(const struct joining *g) {
    return mr_error_set(g->error, MR_NO_MEMORY, "out of memory joining the replay with the data");
}

static bool is_other(const struct joining *g, uint32_t rule) {
    enum mr_change change = g->data->restored.change.rules[rule];
    return change == MR_CHANGE_NEW || change == MR_CHANGE_ANEW;
}

/* ---- the plans ---- */

/* Events of windows that are left out are late for the rule, and stay so. */
static void raise_floor(struct mr_rule *rule, int64_t begins_ms) {
    if (begins_ms == INT64_MIN) {
        return;
    }
    bool session = rule->window.kind == MR_WINDOW_SESSION;
    int64_t last_ms =
        session ? begins_ms - 1 : mr_window_start(rule, begins_ms - 1); /* the last one that begins before */
    int64_t end_ms = mr_window_end(rule, last_ms);
    rule->final_floor_ms = end_ms > rule->final_floor_ms ? end_ms : rule->final_floor_ms;
}

static enum mr_status open_plan(struct joining *g) {
    struct mr_data *data = g->data;
    struct mr_restored *node = &data->restored;
    const struct mr_config *config = g->j->config;
    enum mr_status status = mr_config_parse_state(mr_restored_config(node), "the configuration this data was made with",
                                                  &g->before, g->error);
    if (status == MR_OK) {
        status = mr_config_compare_kept(g->before, config, g->error);
    }
    if (status == MR_OK) {
        node->old_streams = g->before->stream_count;
        node->old_rules = g->before->rule_count;
        status = mr_config_compare(g->before, config, &node->change, g->error);
    }
    if (status == MR_OK) {
        status = mr_plan_open(config, &data->dir.key, false, &g->plan, g->error);
    }
    if (status == MR_OK) { /* E was never another generation's: it is the bundle of a START, or of a TICK */
        status = mr_restored_plan(node, g->before, node->newest.seq, g->plan, g->error);
    }
    for (uint32_t i = 0; status == MR_OK && i < g->plan->rule_count; i++) {
        struct mr_rule *rule = &g->plan->rules[i];
        int64_t begins_ms = rule->window.kind == MR_WINDOW_GLOBAL ? INT64_MIN : g->j->begins_ms[i];
        g->begins_ms[i] = begins_ms;
        if (is_other(g, i) && begins_ms == INT64_MAX) {
            status = mr_error_set(g->error, MR_UNSUPPORTED,
                                  "rule %.*s: of no window does the log have all events (max_future)",
                                  (int)rule->name.len, (const char *)rule->name.ptr);
        } else if (is_other(g, i)) {
            raise_floor(rule, begins_ms);
        }
    }
    return status;
}

/* ---- the replay goes on ---- */

static enum mr_status read_shadow(struct joining *g) {
    const struct mr_config *config = g->j->config;
    enum mr_status status =
        mr_restored_open_replay(g->data->dir.disk, g->j->checkpoint_dir, &g->shadow, g->error);
    if (status == MR_OK) {
        g->shadow.old_streams = config->stream_count;
        g->shadow.old_rules = config->rule_count;
        status = mr_config_compare(config, config, &g->shadow.change, g->error);
    }
    return status == MR_OK ? mr_restored_plan(&g->shadow, config, 0, g->shadow_plan, g->error) : status;
}

/* A shadow, so that it ends at E, and no clock ticks on. */
static enum mr_status run_shadow(struct joining *g, const struct mr_restored *from, const struct mr_plan *plan,
                                 struct mr_results *results, const char *checkpoint_dir) {
    const struct mr_data *data = g->data;
    struct mr_pipeline *pipeline = NULL;
    struct mr_pipeline_options options = {
        .plan = plan,
        .clock = data->options.clock,
        .log_dir = data->dir.log_dir,
        .results = results,
        .disk = data->dir.disk,
        .dead_seq = data->restored.dead_seq,
        .shadow = true,
        .shadow_to_lsn = data->restored.newest.lsn,
        .shadow_incarnation = data->restored.newest.incarnation,
        .checkpoint_dir = checkpoint_dir,
        .checkpoint_every_ms = INT64_MAX / 1000000, /* at the end alone */
        .restored = from,
    };
    enum mr_status status =
        mr_log_reader_open(data->dir.disk, data->dir.log_dir, from->newest.seq + 1, &options.replay, g->error);
    if (status == MR_OK) {
        mr_log_reader_limit(options.replay, mr_log_last_lsn(data->log));
        status = mr_pipeline_open(&options, &pipeline, g->error); /* takes the reader over in every case */
    }
    return status == MR_OK ? mr_data_run_to_checkpoint(pipeline, g->error) : status;
}

static enum mr_status open_store(struct joining *g, const char *path, const struct mr_plan *plan,
                                 struct mr_results_rule **ret_rules, struct mr_results **ret) {
    *ret_rules = mr_data_results_rules(plan);
    if (*ret_rules == NULL) {
        return no_memory(g);
    }
    struct mr_results_sqlite_options options = {
        .path = path,
        .incarnation = g->data->restored.newest.incarnation,
        .rules = *ret_rules,
        .rule_count = plan->rule_count,
        .sync = true,
    };
    return mr_results_sqlite_open(&options, ret, g->error);
}

static enum mr_status advance_shadow(struct joining *g) {
    const struct mr_manifest *e = &g->data->restored.newest;
    enum mr_status status = mr_plan_open(g->j->config, &g->data->dir.key, false, &g->shadow_plan, g->error);
    if (status == MR_OK) {
        status = read_shadow(g);
    }
    if (status == MR_OK && g->shadow.newest.seq < e->seq) {
        struct mr_results_rule *rules = NULL;
        struct mr_results *results = NULL;
        struct mr_shadow_store store;
        status = open_store(g, g->j->results_path, g->shadow_plan, &rules, &results);
        if (status == MR_OK) {
            mr_shadow_store_init_from(&store, results, g->j->begins_ms, g->shadow_plan->rule_count);
            status = run_shadow(g, &g->shadow, g->shadow_plan, &store.base, g->j->checkpoint_dir);
        }
        mr_results_close(results);
        mr_free(rules);
        status = status == MR_OK ? read_shadow(g) : status;
    }
    if (status == MR_OK && (g->shadow.newest.seq != e->seq || g->shadow.newest.lsn != e->lsn)) {
        status =
            mr_error_set(g->error, MR_NOT_FOUND,
                         "%s is of record %llu, the data of record %llu: the log has lost what lay between: replay "
                         "again",
                         g->j->checkpoint_dir, (unsigned long long)g->shadow.newest.lsn, (unsigned long long)e->lsn);
    }
    return status;
}

/* ---- what comes of both ---- */

/* Which rows are taken from where: mr_join_rows. */
static enum mr_status fill_store(struct joining *g, struct mr_results *to, const struct mr_results_rule *rules) {
    struct mr_join_rows from_node = {.path = g->data->dir.results_path, .plan = g->plan};
    struct mr_join_rows from_shadow = {.path = g->j->results_path, .plan = g->plan};
    enum mr_status status = MR_OK;
    for (uint32_t i = 0; status == MR_OK && i < g->plan->rule_count; i++) {
        uint32_t old = g->data->restored.change.rule_of[i];
        bool other = is_other(g, i);
        bool fits = !other;
        if (other && old != UINT32_MAX && mr_config_rows_fit(g->before, old, g->j->config, i, &fits) != MR_OK) {
            return no_memory(g);
        }
        if (other) {
            struct mr_join_part part = {.from_ms = g->j->begins_ms[i], .to_ms = INT64_MAX};
            mr_join_rows_add(&from_shadow, &rules[i], i, 0, part);
        }
        if (fits) {
            struct mr_join_part part = {
                .from_ms = INT64_MIN, .to_ms = other ? g->j->begins_ms[i] : INT64_MAX, .final_only = other};
            mr_join_rows_add(&from_node, &rules[i], i, g->data->restored.old_generations[old], part);
        }
    }
    uint64_t incarnation = g->data->restored.newest.incarnation;
    status = mr_join_rows_copy(&from_node, incarnation, to, g->error);
    return status == MR_OK ? mr_join_rows_copy(&from_shadow, incarnation, to, g->error) : status;
}

/* A lateness made shorter: windows are final that were not. And: the store has all up to E. */
static enum mr_status finish_store(struct joining *g, struct mr_results *to) {
    enum mr_status status = mr_results_begin(to);
    for (uint32_t i = 0; status == MR_OK && i < g->plan->rule_count; i++) {
        int64_t end_ms = g->data->restored.finals_ms[i];
        status = end_ms == INT64_MIN ? MR_OK : mr_results_finalize(to, i, end_ms);
    }
    if (status == MR_OK) {
        status = mr_results_commit(to, g->data->restored.newest.seq);
    }
    if (status != MR_OK) {
        mr_results_rollback(to);
        return mr_error_set(g->error, status, "%s: %s", g->j->joined_path, mr_results_error_text(to));
    }
    return MR_OK;
}

/* The parts that the node has its ids in are parts of the joined checkpoint, too. What was the node's alone goes. */
static enum mr_status save_joined(struct joining *g, struct mr_results *results) {
    const struct mr_restored *node = &g->data->restored;
    struct mr_restored both;
    enum mr_status status = mr_copy_checkpoint(node->disk, node->dir, g->j->joined_dir, g->error);
    if (status == MR_OK) {
        status = mr_restored_open(node->disk, g->j->joined_dir, &both, g->error);
    }
    if (status != MR_OK) {
        return status;
    }
    MR_ASSERT(both.newest.number == node->newest.number);
    g->join = (struct mr_restored_join){.from = &g->shadow, .begins_ms = g->begins_ms};
    both.join = &g->join;
    both.change = node->change;
    both.old_streams = node->old_streams;
    both.old_rules = node->old_rules;
    status = run_shadow(g, &both, g->plan, results, g->j->joined_dir);
    mr_restored_finish(&both);
    if (status == MR_OK) {
        status = mr_restored_open(node->disk, g->j->joined_dir, &both, g->error);
    }
    if (status == MR_OK) {
        mr_manifest_finish(&both.before);
        mr_manifest_init(&both.before);
        status = mr_restored_tidy(&both, g->error);
        mr_restored_finish(&both);
    }
    return status;
}

static enum mr_status make_joined(struct joining *g) {
    struct mr_results_rule *rules = NULL;
    struct mr_results *results = NULL;
    enum mr_status status = mr_join_remove(g->data->dir.disk, g->j->joined_dir, g->j->joined_path, g->error);
    if (status == MR_OK) {
        status = open_store(g, g->j->joined_path, g->plan, &rules, &results);
    }
    if (status == MR_OK) {
        status = fill_store(g, results, rules);
    }
    if (status == MR_OK) {
        status = finish_store(g, results);
    }
    if (status == MR_OK) {
        status = save_joined(g, results);
    }
    mr_results_close(results);
    mr_free(rules);
    return status;
}

/* What is joined is there as a whole, and stays: one file, whose log of changes went with the last connection. */
static enum mr_status settle_joined(struct joining *g) {
    char path[PATH_CAP];
    struct mr_file *file = NULL;
    int len = snprintf(path, sizeof path, "%s-wal", g->j->joined_path);
    MR_ASSERT(len > 0 && len < PATH_CAP); /* mr_join_remove has had it */
    if (mr_file_open(g->data->dir.disk, path, MR_FILE_READ, &file) == MR_OK) {
        mr_file_close(file);
        return mr_error_set(g->error, MR_BUSY, "%s is open in another process: close it there, and promote again",
                            g->j->joined_path);
    }
    len = snprintf(path, sizeof path, "%s/..", g->j->joined_dir);
    enum mr_status status = len > 0 && len < PATH_CAP ? mr_disk_sync_dir(g->data->dir.disk, path) : MR_LIMIT;
    return status == MR_OK ? MR_OK : mr_error_set(g->error, status, "cannot sync %s: %s", path, mr_status_text(status));
}

enum mr_status mr_join_make(const struct mr_join *join, struct mr_error *error) {
    struct joining g = {.j = join, .data = join->data, .error = error};
    mr_manifest_init(&g.shadow.newest);
    mr_manifest_init(&g.shadow.before);
    enum mr_status status = open_plan(&g);
    if (status == MR_OK) {
        status = advance_shadow(&g);
    }
    if (status == MR_OK) {
        status = make_joined(&g);
    }
    if (status == MR_OK) {
        status = settle_joined(&g);
    }
    mr_restored_finish(&g.shadow);
    mr_plan_close(g.shadow_plan);
    mr_plan_close(g.plan);
    mr_config_close(g.before);
    return status;
}

enum mr_status mr_join_remove(struct mr_disk *disk, const char *joined_dir, const char *joined_path,
                              struct mr_error *error) {
    static const char *const ends[] = {"", "-wal", "-shm"};
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        char path[PATH_CAP];
        int len = snprintf(path, sizeof path, "%s%s", joined_path, ends[i]);
        enum mr_status status = len > 0 && len < PATH_CAP ? mr_disk_unlink(disk, path) : MR_LIMIT;
        if (status != MR_OK && status != MR_NOT_FOUND) {
            return mr_error_set(error, status, "cannot remove %s: %s", path, mr_status_text(status));
        }
    }
    struct mr_restored none;
    enum mr_status status = mr_restored_open(disk, joined_dir, &none, error);
    if (status == MR_OK) {
        mr_restored_finish(&none);
        mr_manifest_init(&none.newest);
        mr_manifest_init(&none.before);
        status = mr_restored_tidy(&none, error);
    }
    return status;
}
