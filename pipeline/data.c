/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/data.h"

#include "base/alloc.h"
#include "base/check.h"
#include "pipeline/dead_letters.h"

struct mr_results_rule *mr_data_results_rules(const struct mr_plan *plan) {
    size_t names = plan->rule_count * (size_t)MR_RULE_METRICS_MAX;
    struct mr_results_rule *rules =
        mr_alloc_zero(1, (plan->rule_count + 1) * sizeof *rules + names * sizeof(struct mr_bytes));
    if (rules == NULL) {
        return NULL;
    }
    struct mr_bytes *name = (struct mr_bytes *)(void *)(rules + plan->rule_count + 1);
    for (uint32_t i = 0; i < plan->rule_count; i++) {
        const struct mr_rule *rule = &plan->rules[i];
        rules[i] = (struct mr_results_rule){
            .name = rule->name,
            .key_names = rule->key_names,
            .key_count = rule->key_count,
            .metric_names = name,
            .metric_count = rule->metric_count,
            .window_size_ms = rule->window_size_ms,
        };
        for (uint32_t k = 0; k < rule->metric_count; k++) {
            *name++ = rule->metrics[k].name;
        }
    }
    return rules;
}

/* The first line in which the two texts differ, for the message. */
static struct mr_bytes first_difference(struct mr_bytes a, struct mr_bytes b) {
    size_t same = 0;
    while (same < a.len && same < b.len && a.ptr[same] == b.ptr[same]) {
        same++;
    }
    size_t from = same;
    while (from > 0 && b.ptr[from - 1] != '\n') {
        from--;
    }
    size_t to = same;
    while (to < b.len && b.ptr[to] != '\n') {
        to++;
    }
    return mr_bytes_of(b.ptr + from, to - from);
}

static enum mr_status compare_config(const struct mr_data *data, struct mr_bytes stored,
                                     struct mr_error *error) {
    struct mr_bytes now = mr_buf_bytes(&data->plan->state_text);
    if (mr_bytes_equal(stored, now)) {
        return MR_OK;
    }
    struct mr_bytes line = first_difference(stored, now);
    return mr_error_set(error, MR_MISMATCH,
                        "streams or rules differ from those that made %s (at `%.*s`): this version cannot "
                        "change them on existing data; go back to the old ones, or start with another "
                        "node.data_dir",
                        data->dir.path, (int)(line.len > 120 ? 120 : line.len),
                        (const char *)line.ptr);
}

/* The CONFIG record is the first of a log behind START. */
static enum mr_status check_config(struct mr_data *data, struct mr_error *error) {
    struct mr_log_reader *reader = NULL;
    enum mr_status status = mr_log_reader_open(data->dir.disk, data->dir.log_dir, 1, &reader, error);
    struct mr_record record;
    while (status == MR_OK) {
        status = mr_log_reader_next(reader, &record, error);
        if (status == MR_OK && record.type == MR_RECORD_CONFIG) {
            status = compare_config(data, record.payload, error);
            mr_log_reader_close(reader);
            return status;
        }
        if (status == MR_OK && record.type != MR_RECORD_START) {
            status = mr_error_set(error, MR_CORRUPT, "the log in %s has no CONFIG record before its events",
                                  data->dir.log_dir);
        }
    }
    mr_log_reader_close(reader);
    return status; /* MR_END: a new log */
}

static enum mr_status write_config(struct mr_data *data, struct mr_clock *clock,
                                   struct mr_error *error) {
    struct mr_log_entry entry = {
        .type = MR_RECORD_CONFIG,
        .payload = {{data->plan->state_text.ptr, data->plan->state_text.len}},
        .payload_count = 1,
    };
    return mr_log_append(data->log, mr_log_last_seq(data->log) + 1, mr_clock_wall_ms(clock), &entry, 1,
                         error);
}

static enum mr_status open_logs(struct mr_data *data, struct mr_clock *clock,
                                const struct mr_config *config, struct mr_error *error) {
    struct mr_log_options options = {
        .disk = data->dir.disk,
        .clock = clock,
        .dir = data->dir.log_dir,
        .segment_bytes = config->log.segment_bytes,
        .reserve_bytes = config->log.reserve_bytes,
        .sync = config->log.sync,
    };
    enum mr_status status = mr_log_open(&options, &data->log, error);
    if (status != MR_OK) {
        return status;
    }
    options.dir = data->dir.dead_dir;
    options.segment_bytes = config->log.segment_bytes / 8; /* rare things: small files */
    status = mr_log_open(&options, &data->dead, error);
    if (status != MR_OK) {
        return status;
    }
    status = mr_dead_letters_last_seq_scan(data->dir.disk, data->dir.dead_dir, &data->dead_seq, error);
    /* Dead letters of bundles that the log has lost must not hide those of the bundles that get their numbers. */
    uint64_t last_seq = mr_log_last_seq(data->log);
    if (status == MR_OK && data->dead_seq >= last_seq) {
        data->dead_seq = last_seq - 1;
    }
    return status;
}

static enum mr_status open_parts(struct mr_data *data, struct mr_clock *clock,
                                 const struct mr_config *config, struct mr_error *error) {
    enum mr_status status = mr_plan_open(config, &data->dir.key, false, &data->plan, error);
    if (status == MR_OK) {
        status = open_logs(data, clock, config, error);
    }
    if (status != MR_OK) {
        return status;
    }
    status = check_config(data, error);
    if (status == MR_END) {
        status = write_config(data, clock, error);
    } else if (status == MR_OK) {
        status = mr_log_reader_open(data->dir.disk, data->dir.log_dir, 1, &data->replay, error);
    }
    if (status == MR_OK) {
        data->results_rules = mr_data_results_rules(data->plan);
        if (data->results_rules == NULL) {
            status = mr_error_set(error, MR_NO_MEMORY, "out of memory opening the data directory");
        }
    }
    return status;
}

enum mr_status mr_data_open(struct mr_disk *disk, struct mr_clock *clock,
                            const struct mr_config *config, struct mr_data *ret,
                            struct mr_error *error) {
    *ret = (struct mr_data){0};
    enum mr_status status = mr_datadir_open(disk, config->node.data_dir, &ret->dir, error);
    if (status != MR_OK) {
        return status;
    }
    status = open_parts(ret, clock, config, error);
    if (status != MR_OK) {
        mr_data_close(ret);
    }
    return status;
}

void mr_data_close(struct mr_data *data) {
    mr_log_reader_close(data->replay);
    mr_log_close(data->log);
    mr_log_close(data->dead);
    mr_plan_close(data->plan);
    mr_free(data->results_rules);
    mr_datadir_close(&data->dir);
    *data = (struct mr_data){0};
}
