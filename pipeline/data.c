/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/data.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/report.h"
#include "pipeline/data_results.h"
#include "pipeline/dead_letters.h"
#include "pipeline/lookups.h"
#include "pipeline/stations.h"

#include <stdio.h>

enum { SHAPE_LEN = 160 }; /* two words and four numbers */

/* What makes a table one of another shape besides its columns, in words: into text, SHAPE_LEN long. */
static struct mr_bytes write_shape(const struct mr_rule *rule, char *text) {
    static const char *const kinds[] = {"tumbling", "sliding", "calendar", "session", "global"};
    static const char *const panes[] = {"accumulating", "discarding", "retracting"};
    const struct mr_window *w = &rule->window;
    int len = snprintf(text, SHAPE_LEN, "%s window %lld ms every %lld ms offset %lld ms gap %lld ms %s", kinds[w->kind],
                       (long long)w->size_ms, (long long)w->every_ms, (long long)w->offset_ms, (long long)w->gap_ms,
                       panes[rule->trigger.panes]);
    MR_ASSERT(len > 0 && len < SHAPE_LEN);
    return mr_bytes_of(text, (size_t)len);
}

struct mr_results_rule *mr_data_results_rules(const struct mr_plan *plan) {
    size_t names = plan->rule_count * (size_t)MR_RULE_METRICS_MAX;
    struct mr_results_rule *rules =
        mr_alloc_zero(1, (plan->rule_count + 1) * sizeof *rules + names * sizeof(struct mr_bytes) +
                             plan->rule_count * SHAPE_LEN);
    if (rules == NULL) {
        return NULL;
    }
    struct mr_bytes *name = (struct mr_bytes *)(void *)(rules + plan->rule_count + 1);
    char *shape = (char *)(name + names);
    for (uint32_t i = 0; i < plan->rule_count; i++) {
        const struct mr_rule *rule = &plan->rules[i];
        rules[i] = (struct mr_results_rule){
            .name = rule->name,
            .key_names = rule->key_names,
            .key_count = rule->key_count,
            .metric_names = name,
            .metric_count = rule->metric_count,
            .shape = write_shape(rule, shape + i * SHAPE_LEN),
            .ends_vary = rule->window.kind == MR_WINDOW_SESSION,
            .discarding = rule->trigger.panes == MR_DISCARDING,
            .retracting = rule->trigger.panes == MR_ACCUMULATING_RETRACTING,
            .generation = plan->generations[i],
        };
        for (uint32_t k = 0; k < rule->metric_count; k++) {
            *name++ = rule->metrics[k].name;
        }
    }
    return rules;
}

/* ---- a plan and its store ---- */

static void close_plan(struct mr_data *data) {
    if (data->results != NULL) {
        data->options.close_results(data->options.ctx, data->results);
    }
    data->results = NULL;
    mr_free(data->results_rules);
    data->results_rules = NULL;
    mr_plan_close(data->plan);
    data->plan = NULL;
}

/* From the checkpoint's configuration to the plan's. */
static enum mr_status compare(struct mr_data *data, const struct mr_config *before,
                              const struct mr_config *config, uint64_t anew_seq,
                              struct mr_error *error) {
    data->restored.old_streams = before->stream_count;
    data->restored.old_rules = before->rule_count;
    enum mr_status status = mr_config_compare(before, config, &data->restored.change, error);
    return status == MR_OK
               ? mr_restored_plan(&data->restored, before, anew_seq, data->plan, error)
               : status;
}

/* before: the configuration of the checkpoint; NULL: there is none. */
static enum mr_status open_plan(struct mr_data *data, const struct mr_config *config,
                                const struct mr_config *before, uint64_t anew_seq,
                                struct mr_error *error) {
    enum mr_status status = mr_plan_open(config, &data->dir.key, false, &data->plan, error);
    if (status == MR_OK && before != NULL) {
        status = compare(data, before, config, anew_seq, error);
    }
    if (status == MR_OK) {
        data->results_rules = mr_data_results_rules(data->plan);
        status = data->results_rules != NULL
                     ? data->options.open_results(data->options.ctx, data, &data->results, error)
                     : mr_error_set(error, MR_NO_MEMORY, "out of memory opening the data directory");
    }
    if (status == MR_OK && !data->settled) {
        status = mr_data_settle_results(data, error);
        data->settled = status == MR_OK;
    }
    data->changed = before != NULL && data->restored.change.any;
    return status;
}

static enum mr_status remember_epoch(void *ctx, uint32_t store, const struct mr_epoch *epoch) {
    struct mr_data *data = ctx;
    struct mr_error error;
    struct mr_bytes name = data->options.config->stores[store].name;
    enum mr_status status = mr_datadir_write_epoch(&data->dir, name, epoch, &error);
    if (status == MR_OK) {
        data->epochs[store] = *epoch;
    }
    return status;
}

static enum mr_status read_epochs(struct mr_data *data, struct mr_error *error) {
    const struct mr_config *config = data->options.config;
    enum mr_status status = MR_OK;
    for (uint32_t i = 0; status == MR_OK && i < config->store_count; i++) {
        status = mr_datadir_read_epoch(&data->dir, config->stores[i].name, &data->epochs[i], error);
    }
    return status;
}

enum mr_status mr_data_pipeline(struct mr_data *data, struct mr_pipeline **ret,
                                struct mr_error *error) {
    const struct mr_config *config = data->options.config;
    bool checkpoint = data->restored.newest.number != 0;
    struct mr_pipeline_options options = {
        .plan = data->plan,
        .clock = data->options.clock,
        .log = data->log,
        .log_dir = data->dir.log_dir,
        .dead = data->dead,
        .dead_seq = data->dead_seq,
        .results = data->results,
        .disk = data->options.disk,
        .checkpoint_dir = data->dir.checkpoint_dir,
        .checkpoint_every_ms = config->checkpoint.every_ms,
        .restored = &data->restored,
        .retain_ms = config->log.retain_ms,
        .retain_bytes = config->log.retain_bytes,
        .transports = data->live ? data->options.transports : NULL,
        .key = data->dir.key,
        .epochs = data->epochs,
        .remember = remember_epoch,
        .remember_ctx = data,
        .seed = data->options.seed,
        .promoted_seq = data->promoted_seq,
    };
    uint64_t from_seq = checkpoint ? data->restored.newest.seq + 1 : 1;
    enum mr_status status = mr_log_reader_open(data->options.disk, data->dir.log_dir, from_seq,
                                               &options.replay, error);
    if (status == MR_OK) {
        mr_log_reader_limit(options.replay, mr_log_last_lsn(data->log));
        status = mr_pipeline_open(&options, ret, error); /* takes the reader over in every case */
    }
    if (status != MR_OK) {
        return status;
    }
    if (data->rewound) {
        status = mr_data_complete_results(data, *ret, error);
    }
    if (status == MR_OK && data->changed) {
        status = mr_data_say_change(data, *ret, error);
    }
    if (status != MR_OK) {
        mr_pipeline_close(*ret);
        *ret = NULL;
    }
    return status;
}

/* ---- streams and rules that change ---- */

/* What comes behind the state at hand: the next CONFIG record. */
struct mr_next_config {
    bool found;
    bool adjacent; /* nothing was counted between the state and it */
    bool last;     /* no other one behind it says otherwise */
    uint64_t seq;
    struct mr_buf text;
};

static bool makes_a_bundle(enum mr_record_type type) {
    return type == MR_RECORD_EVENTS || type == MR_RECORD_TICK || type == MR_RECORD_REDRIVE ||
           type == MR_RECORD_VERDICTS || type == MR_RECORD_WATERMARK;
}

/* Records that say what holds already are passed over, and those that a promotion has made void. */
static enum mr_status find_next_config(struct mr_data *data, uint64_t behind_seq, struct mr_bytes now,
                                       struct mr_next_config *ret, struct mr_error *error) {
    struct mr_log_reader *reader = NULL;
    ret->adjacent = true;
    ret->last = true;
    enum mr_status status = mr_log_reader_open(data->options.disk, data->dir.log_dir,
                                               behind_seq + 1, &reader, error);
    uint64_t config_lsn = mr_log_config_lsn(data->log);
    struct mr_record record = {.lsn = 0};
    while (status == MR_OK && record.lsn < config_lsn) {
        status = mr_log_reader_next(reader, &record, error);
        if (status != MR_OK) {
            break;
        }
        if (!ret->found) {
            ret->adjacent = ret->adjacent && !makes_a_bundle(record.type);
        }
        bool known = !ret->found && mr_bytes_equal(record.payload, now);
        if (record.type != MR_RECORD_CONFIG || record.seq < data->promoted_seq || known) {
            continue;
        }
        if (!ret->found) {
            ret->found = true;
            ret->seq = record.seq;
            mr_buf_append_bytes(&ret->text, record.payload);
            status = ret->text.failed ? MR_NO_MEMORY : MR_OK;
        } else {
            ret->last = ret->last && mr_bytes_equal(record.payload, mr_buf_bytes(&ret->text));
        }
    }
    mr_log_reader_close(reader);
    if (status == MR_NO_MEMORY) {
        return mr_error_set(error, status, "out of memory reading the log's configuration");
    }
    return status == MR_END ? MR_OK : status;
}

/* Before the log says that the configuration holds. */
static enum mr_status keep_lookups(struct mr_data *data, struct mr_error *error) {
    const struct mr_config *config = data->options.config;
    enum mr_status status = MR_OK;
    for (uint32_t i = 0; status == MR_OK && i < config->lookup_count; i++) {
        status = mr_datadir_keep_lookup(&data->dir, config->lookups[i].data, error);
    }
    return status;
}

static enum mr_status append_config(struct mr_data *data, struct mr_bytes text,
                                    struct mr_error *error) {
    struct mr_log_entry entry = {
        .type = MR_RECORD_CONFIG,
        .payload = {{(void *)(uintptr_t)text.ptr, text.len}},
        .payload_count = 1,
    };
    /* With the last recorded time: the clock may be wrong, and nothing is received with it. */
    int64_t recorded_ms = mr_log_last_recorded_ms(data->log);
    if (recorded_ms == INT64_MIN) {
        recorded_ms = mr_clock_wall_ms(data->options.clock);
    }
    enum mr_status status = keep_lookups(data, error);
    if (status == MR_OK) {
        status = mr_log_append(data->log, mr_log_last_seq(data->log) + 1, recorded_ms, &entry, 1, error);
    }
    /* With log.sync off as well: the results store is about to be made for it. */
    return status == MR_OK ? mr_log_sync(data->log, error) : status;
}

static enum mr_status parse_state(const struct mr_data *data, struct mr_bytes text,
                                  struct mr_config **ret, struct mr_error *error) {
    enum mr_status status =
        mr_config_parse_state(text, "the configuration this data was made with", ret, error);
    if (status == MR_OK) {
        (*ret)->node.shards = data->options.config->node.shards;
    } else if (status == MR_INVALID || status == MR_UNSUPPORTED) {
        error->status = status = MR_MISMATCH; /* of another version, not of this user */
    }
    return status;
}

static enum mr_status replay_and_save(struct mr_data *data, struct mr_error *error) {
    struct mr_pipeline *pipeline = NULL;
    enum mr_status status = mr_data_pipeline(data, &pipeline, error);
    return status == MR_OK ? mr_data_run_to_checkpoint(pipeline, error) : status;
}

static enum mr_status read_checkpoint(struct mr_data *data, struct mr_error *error) {
    mr_restored_finish(&data->restored);
    return mr_restored_open(data->options.disk, data->dir.checkpoint_dir, &data->restored, error);
}

/* What the lookups held when the configuration was made: contents[lookup_count]. */
static enum mr_status read_lookups(struct mr_data *data, struct mr_config *config, struct mr_buf *contents,
                                   struct mr_error *error) {
    enum mr_status status = MR_OK;
    for (uint32_t i = 0; i < config->lookup_count; i++) {
        struct mr_config_lookup *lookup = &config->lookups[i];
        mr_buf_init(&contents[i], (size_t)lookup->data_len + 1);
        if (status == MR_OK) {
            status = mr_datadir_read_lookup(&data->dir, lookup->data_hash, lookup->data_len, &contents[i], error);
            lookup->data = mr_buf_bytes(&contents[i]);
        }
    }
    return status;
}

/* One step of the way: the log up to the next change, under these streams and rules. */
static enum mr_status run_stage(struct mr_data *data, struct mr_bytes text,
                                const struct mr_config *before, uint64_t anew_seq,
                                struct mr_error *error) {
    struct mr_config *config = NULL;
    mr_report(MR_LEVEL_INFO, "configuration_stage", "from_seq=%llu",
              (unsigned long long)data->restored.newest.seq);
    struct mr_buf contents[MR_LOOKUPS_MAX];
    uint32_t lookups = 0;
    enum mr_status status = parse_state(data, text, &config, error);
    if (status == MR_OK) {
        lookups = config->lookup_count;
        status = read_lookups(data, config, contents, error);
    }
    if (status == MR_OK) {
        status = open_plan(data, config, before, anew_seq, error);
    }
    if (status == MR_OK) {
        mr_data_give_room(data->plan, data->options.config);
        status = replay_and_save(data, error);
    }
    close_plan(data);
    for (uint32_t i = 0; i < lookups; i++) {
        mr_buf_finish(&contents[i]);
    }
    mr_config_close(config);
    if (status == MR_OK) {
        status = read_checkpoint(data, error);
    }
    return status == MR_OK ? mr_restored_tidy(&data->restored, error) : status;
}

static void say_change(const struct mr_data *data) {
    const struct mr_config_change *change = &data->restored.change;
    for (uint32_t i = 0; i < data->plan->rule_count; i++) {
        if (change->rules[i] == MR_CHANGE_NEW || change->rules[i] == MR_CHANGE_ANEW) {
            mr_report(MR_LEVEL_WARN, "rule_begins", "rule=%.*s generation=%llu reason=\"%s\"",
                      (int)data->plan->rules[i].name.len, (const char *)data->plan->rules[i].name.ptr,
                      (unsigned long long)data->plan->generations[i],
                      change->rules[i] == MR_CHANGE_NEW ? "it is new" : "its definition changed");
        }
    }
    if (change->streams_gone + change->rules_gone > 0) {
        mr_report(MR_LEVEL_WARN, "configuration_lost", "streams=%u rules=%u action=\"their tables stay\"",
                  change->streams_gone, change->rules_gone);
    }
}

/* Where the data stands. */
struct mr_position {
    struct mr_config *config; /* of the checkpoint; NULL: there is none */
    struct mr_bytes text;     /* likewise; empty */
    struct mr_next_config next;
};

static enum mr_status look(struct mr_data *data, struct mr_position *ret, struct mr_error *error) {
    const struct mr_manifest *newest = &data->restored.newest;
    enum mr_status status = MR_OK;
    if (newest->number != 0) {
        ret->text = mr_restored_config(&data->restored);
        status = parse_state(data, ret->text, &ret->config, error);
    }
    bool behind = mr_log_config_lsn(data->log) > newest->lsn;
    return status == MR_OK && behind ? find_next_config(data, newest->seq, ret->text, &ret->next, error)
                                     : status;
}

/* Loads the checkpoint under the new configuration and throws it away again: what does not fit is refused before the
 * log says that it has changed. The results store is left alone, for opening it makes new tables. */
static enum mr_status try_config(struct mr_data *data, const struct mr_config *before,
                                 struct mr_error *error) {
    enum mr_status status =
        mr_plan_open(data->options.config, &data->dir.key, false, &data->plan, error);
    if (status == MR_OK) {
        status = compare(data, before, data->options.config, 0, error);
    }
    if (status == MR_OK) {
        struct mr_pipeline *trial = NULL;
        struct mr_pipeline_options options = {.plan = data->plan,
                                              .clock = data->options.clock,
                                              .log = data->log,
                                              .disk = data->options.disk,
                                              .restored = &data->restored};
        status = mr_pipeline_open(&options, &trial, error);
        if (status == MR_OK) {
            mr_pipeline_close(trial);
        }
    }
    close_plan(data);
    return status;
}

/* The configuration has changed since the last run: finish what there is under the old one, and say so in the log. */
static enum mr_status change_config(struct mr_data *data, const struct mr_position *at,
                                    struct mr_bytes wanted, struct mr_error *error) {
    struct mr_config_change change;
    enum mr_status status = mr_config_compare(at->config, data->options.config, &change, error);
    struct mr_buf text; /* of its own: the checkpoint it lies in is replaced by the next one */
    mr_buf_init(&text, MR_RECORD_PAYLOAD_MAX);
    mr_buf_append_bytes(&text, at->text);
    if (status == MR_OK) {
        status = run_stage(data, mr_buf_bytes(&text), at->config, 0, error);
    }
    mr_buf_finish(&text);
    if (status == MR_OK) {
        status = try_config(data, at->config, error);
    }
    return status == MR_OK ? append_config(data, wanted, error) : status;
}

/* The log does not say of a configuration that it holds before a plan can be made of it: every later start would fail. */
static enum mr_status begin_log(struct mr_data *data, struct mr_bytes wanted, struct mr_error *error) {
    struct mr_plan *plan = NULL;
    enum mr_status status = mr_plan_open(data->options.config, &data->dir.key, false, &plan, error);
    if (status != MR_OK) {
        return status;
    }
    mr_plan_close(plan);
    return append_config(data, wanted, error);
}

/* One look at where the data stands, and one move. *ret_done: the plan for the configuration at hand is open. */
static enum mr_status move_on(struct mr_data *data, struct mr_bytes wanted, struct mr_position *at,
                              bool *ret_done, struct mr_error *error) {
    enum mr_status status = look(data, at, error);
    if (status != MR_OK) {
        return status;
    }
    const struct mr_next_config *next = &at->next;
    bool begun = at->config != NULL;
    if (!next->found && !begun) {
        return begin_log(data, wanted, error);
    }
    if (!next->found && !mr_bytes_equal(at->text, wanted)) {
        return change_config(data, at, wanted, error);
    }
    bool theirs = next->found && (next->adjacent || !begun); /* the next configuration's turn */
    uint64_t anew_seq = theirs && begun ? next->seq : 0;
    if (!next->found || (theirs && next->last && mr_bytes_equal(mr_buf_bytes(&next->text), wanted))) {
        *ret_done = true;
        data->live = true;
        status = open_plan(data, data->options.config, at->config, anew_seq, error);
        if (status == MR_OK && next->found && begun) {
            say_change(data);
        }
        return status;
    }
    struct mr_buf text;
    mr_buf_init(&text, MR_RECORD_PAYLOAD_MAX);
    mr_buf_append_bytes(&text, theirs ? mr_buf_bytes(&next->text) : at->text);
    status = run_stage(data, mr_buf_bytes(&text), at->config, anew_seq, error);
    mr_buf_finish(&text);
    return status;
}

/* Every stage that the log has, and no other one. */
static enum mr_status settle_end(struct mr_data *data, struct mr_error *error) {
    enum mr_status status = MR_OK;
    for (bool done = false; status == MR_OK && !done;) {
        struct mr_position at = {.config = NULL};
        struct mr_buf text;
        mr_buf_init(&at.next.text, MR_RECORD_PAYLOAD_MAX);
        mr_buf_init(&text, MR_RECORD_PAYLOAD_MAX);
        status = look(data, &at, error);
        bool begun = at.config != NULL;
        bool theirs = at.next.found && (at.next.adjacent || !begun);
        done = !at.next.found;
        if (status == MR_OK && done && !begun) {
            status = mr_error_set(error, MR_NOT_FOUND, "%s has no events yet", data->dir.path);
        }
        if (status == MR_OK) {
            mr_buf_append_bytes(&text, theirs ? mr_buf_bytes(&at.next.text) : at.text);
            status = run_stage(data, mr_buf_bytes(&text), at.config, theirs && begun ? at.next.seq : 0, error);
        }
        mr_buf_finish(&text);
        mr_buf_finish(&at.next.text);
        mr_config_close(at.config);
    }
    return status;
}

static enum mr_status settle_config(struct mr_data *data, struct mr_error *error) {
    struct mr_buf wanted;
    mr_buf_init(&wanted, MR_RECORD_PAYLOAD_MAX);
    mr_config_print_state(data->options.config, &wanted);
    enum mr_status status = wanted.failed ? mr_error_set(error, MR_NO_MEMORY, "out of memory") : MR_OK;
    for (bool done = false; status == MR_OK && !done;) {
        struct mr_position at = {.config = NULL};
        mr_buf_init(&at.next.text, MR_RECORD_PAYLOAD_MAX);
        status = move_on(data, mr_buf_bytes(&wanted), &at, &done, error);
        mr_buf_finish(&at.next.text);
        mr_config_close(at.config);
    }
    mr_buf_finish(&wanted);
    return status;
}

/* ---- life ---- */

/* Dead letters of bundles that the log has lost must not hide those of the bundles that get their numbers: an empty
 * record says how far they count. */
static enum mr_status settle_dead(struct mr_data *data, struct mr_error *error) {
    uint64_t limit = mr_log_last_seq(data->log) - 1;
    if (data->dead_seq <= limit) {
        return MR_OK;
    }
    data->dead_seq = limit;
    struct mr_log_entry entry = {
        .type = MR_RECORD_DEAD, .payload = {{&limit, sizeof limit}}, .payload_count = 1};
    enum mr_status status = mr_log_append(data->dead, mr_log_last_seq(data->dead) + 1,
                                          mr_clock_wall_ms(data->options.clock), &entry, 1, error);
    return status == MR_OK ? mr_log_sync(data->dead, error) : status;
}

/* The checkpoint's word counts only while nothing is written behind it: it is ahead of the checkpoint's own bundle when
 * one commit took several, and a start that found the others lost has written a lower one. */
static enum mr_status open_dead(struct mr_data *data, struct mr_log_options *options,
                                struct mr_error *error) {
    const struct mr_restored *r = &data->restored;
    options->dir = data->dir.dead_dir;
    options->segment_bytes /= 8; /* rare things: small files */
    options->from_lsn = r->dead_lsn + 1;
    options->begins_anywhere = r->dead_lsn == 0; /* no start needs more than its last records */
    enum mr_status status = mr_log_open(options, &data->dead, error);
    if (status == MR_OK) {
        status = mr_dead_letters_last_seq_scan(data->dir.disk, data->dir.dead_dir, r->dead_lsn + 1, r->dead_seq,
                                               &data->dead_seq, error);
    }
    return status == MR_OK ? settle_dead(data, error) : status;
}

static enum mr_status open_logs(struct mr_data *data, struct mr_error *error) {
    const struct mr_config *config = data->options.config;
    const struct mr_manifest *newest = &data->restored.newest;
    struct mr_log_options options = {
        .disk = data->dir.disk,
        .clock = data->options.clock,
        .dir = data->dir.log_dir,
        .segment_bytes = config->log.segment_bytes,
        .reserve_bytes = config->log.reserve_bytes,
        .sync = config->log.sync,
        .from_lsn = newest->number == 0 ? 1 : newest->needed_lsn,
    };
    enum mr_status status = mr_log_open(&options, &data->log, error);
    if (status == MR_OK && newest->number != 0 && mr_log_last_lsn(data->log) < newest->lsn) {
        status = mr_error_set(error, MR_CORRUPT, "%s ends at record %llu, but the checkpoint in %s was made at %llu: "
                              "its last segments are missing", data->dir.log_dir,
                              (unsigned long long)mr_log_last_lsn(data->log), data->dir.checkpoint_dir,
                              (unsigned long long)newest->lsn);
    }
    const struct mr_error *damage = &data->restored.damage;
    if (status == MR_CORRUPT && newest->number == 0 && damage->status != MR_OK) {
        struct mr_error inner = *error; /* the log is not to blame: it was trimmed to what a checkpoint needs */
        return mr_error_set(error, status, "no checkpoint can be read: %.200s: restore it; without one: %s",
                            damage->text, inner.text);
    }
    if (status == MR_OK && newest->number != 0 &&
        newest->incarnation != mr_log_incarnation(data->log)) {
        status = mr_error_set(error, MR_MISMATCH,
                              "%s was made from another log than the one in %s: put back the files that "
                              "belong together",
                              data->dir.checkpoint_dir, data->dir.log_dir);
    }
    return status == MR_OK ? open_dead(data, &options, error) : status;
}

/* A start from zero goes through every configuration the log has seen, and a store that has the tables of a later one
 * would not take those of the first. */
static enum mr_status settle_generations(struct mr_data *data, struct mr_error *error) {
    if (data->restored.newest.number != 0 || mr_log_config_lsn(data->log) == 0) {
        return MR_OK;
    }
    struct mr_next_config first = {.found = false};
    mr_buf_init(&first.text, MR_RECORD_PAYLOAD_MAX);
    enum mr_status status = find_next_config(data, 0, mr_bytes_of(NULL, 0), &first, error);
    mr_buf_finish(&first.text);
    if (status == MR_OK && !first.last) {
        mr_report(MR_LEVEL_WARN, "results_rebuilt",
                  "reason=\"the log is replayed from zero, through other configurations\" "
                  "source=\"the log\" kept=results.db.before");
        status = mr_datadir_set_results_aside(&data->dir, error);
    }
    return status;
}

static enum mr_status open_parts(struct mr_data *data, bool from_zero, struct mr_error *error) {
    enum mr_status status = read_checkpoint(data, error);
    if (status == MR_OK && from_zero) {
        mr_restored_finish(&data->restored);
        mr_manifest_init(&data->restored.newest);
        mr_manifest_init(&data->restored.before);
        data->restored.dead_seq = 0;
        data->restored.dead_lsn = 0;
    }
    if (status == MR_OK) {
        status = open_logs(data, error);
    }
    if (status == MR_OK) { /* before there is another one: a damaged one must not become the one before it */
        status = mr_restored_tidy(&data->restored, error);
    }
    if (status == MR_OK) {
        status = settle_generations(data, error);
    }
    if (status != MR_OK) {
        return status;
    }
    return data->options.settle_only ? settle_end(data, error) : settle_config(data, error);
}

static enum mr_status open_from(const struct mr_data_options *options, bool from_zero,
                                struct mr_data *ret, struct mr_error *error) {
    *ret = (struct mr_data){.options = *options, .from_zero = from_zero};
    mr_manifest_init(&ret->restored.newest);
    mr_manifest_init(&ret->restored.before);
    const struct mr_config *config = options->config;
    struct mr_hash_key key;
    mr_hash_key_derive(config->cluster.name, config->cluster.secret, &key);
    enum mr_status status =
        mr_datadir_open(options->disk, config->node.data_dir, config->cluster.name.len > 0 ? &key : NULL,
                        &ret->dir, error);
    if (status != MR_OK) {
        return status;
    }
    status = read_epochs(ret, error);
    if (status == MR_OK) {
        status = mr_datadir_read_promoted(&ret->dir, &ret->promoted_seq, error);
    }
    if (status == MR_OK) {
        status = open_parts(ret, from_zero, error);
    }
    if (status != MR_OK) {
        mr_data_close(ret);
    }
    return status;
}

enum mr_status mr_data_open(const struct mr_data_options *options, struct mr_data *ret,
                            struct mr_error *error) {
    enum mr_status status = open_from(options, false, ret, error);
    status = status == MR_AGAIN ? open_from(options, true, ret, error) : status;
    if (status == MR_OK) {
        mr_lookups_drop(ret);
    }
    return status;
}

void mr_data_close(struct mr_data *data) {
    close_plan(data);
    mr_restored_finish(&data->restored);
    mr_log_close(data->log);
    mr_log_close(data->dead);
    mr_datadir_close(&data->dir);
    *data = (struct mr_data){0};
}
