/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/promote.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/report.h"
#include "config/change.h"
#include "log/log.h"
#include "pipeline/copy.h"
#include "pipeline/join.h"
#include "pipeline/restore.h"

#include <stdio.h>

enum { PATH_CAP = 4096, STEP_BEGUN = 1, STEP_ASIDE = 2 };

struct promoting {
    const struct mr_promotion *p;
    struct mr_datadir dir;
    const char *checkpoint_dir; /* what takes the place of the node's: the replay's, or what was joined */
    const char *results_path;
    struct mr_restored shadow; /* the checkpoint that is there */
    struct mr_buf state;       /* of the configuration */
    uint64_t seq;              /* N */
    struct mr_error *error;
};

enum mr_status mr_promote_record_hash(struct mr_disk *disk, const char *log_dir, uint64_t lsn, uint64_t *ret,
                                      struct mr_error *error) {
    struct mr_log_reader *reader = NULL;
    struct mr_record record;
    enum mr_status status = mr_log_reader_open(disk, log_dir, 0, &reader, error);
    if (status == MR_OK) {
        status = mr_log_reader_seek(reader, lsn, error);
    }
    if (status == MR_OK) {
        status = mr_log_reader_next(reader, &record, error);
    }
    if (status == MR_OK) {
        uint64_t head[] = {record.lsn, record.seq, record.type, (uint64_t)record.recorded_ms, record.incarnation};
        *ret = mr_hash64(record.payload, mr_hash64(mr_bytes_of(head, sizeof head), 0));
    }
    mr_log_reader_close(reader);
    return status == MR_END
               ? mr_error_set(error, MR_NOT_FOUND, "%s has no record %llu", log_dir, (unsigned long long)lsn)
               : status;
}

/* ---- may it be done ---- */

static enum mr_status check_state(struct promoting *g) {
    return mr_bytes_equal(mr_restored_config(&g->shadow), mr_buf_bytes(&g->state))
               ? MR_OK
               : mr_error_set(
                     g->error, MR_MISMATCH,
                     "the configuration is not the one that the replay was made under: its streams or rules differ");
}

static enum mr_status check_plan(struct promoting *g) {
    const struct mr_config *config = g->p->config;
    for (uint32_t i = 0; !g->p->joins && i < config->stream_count; i++) {
        if (config->streams[i].dedup.mode == MR_CONFIG_REDIS) {
            return mr_error_set(
                g->error, MR_UNSUPPORTED,
                "streams.%.*s.dedup.mode is redis: what this node has not asked the store for yet is in its "
                "own checkpoint only: promote by joining both",
                (int)config->streams[i].name.len, (const char *)config->streams[i].name.ptr);
        }
    }
    mr_config_print_state(config, &g->state);
    return g->state.failed ? mr_error_set(g->error, MR_NO_MEMORY, "out of memory") : check_state(g);
}

/* The log still has what comes behind S, and S itself is what the replay has read. */
static enum mr_status check_log(struct promoting *g) {
    const struct mr_manifest *m = &g->shadow.newest;
    uint64_t lsn = g->p->record_lsn == 0 ? m->lsn : g->p->record_lsn;
    struct mr_log_extent extent;
    enum mr_status status = mr_log_extent_scan(g->p->disk, g->dir.log_dir, &extent, g->error);
    if (status == MR_OK && (extent.first_lsn > lsn || extent.last_lsn < lsn)) {
        return mr_error_set(g->error, MR_NOT_FOUND,
                            "the replay ended with record %llu, but the log has %llu to %llu only: replay again",
                            (unsigned long long)lsn, (unsigned long long)extent.first_lsn,
                            (unsigned long long)extent.last_lsn);
    }
    uint64_t hash = 0;
    if (status == MR_OK) {
        status = mr_promote_record_hash(g->p->disk, g->dir.log_dir, lsn, &hash, g->error);
    }
    if (status == MR_OK && (m->incarnation != g->p->incarnation || hash != g->p->record_hash || m->lsn < lsn)) {
        status = mr_error_set(
            g->error, MR_MISMATCH,
            "record %llu of %s is not the one that the replay ended with (another log, or a crash has taken "
            "that record): replay again",
            (unsigned long long)lsn, g->dir.log_dir);
    }
    return status;
}

static enum mr_status lock_directory(struct promoting *g) {
    const struct mr_config *config = g->p->config;
    struct mr_hash_key key;
    mr_hash_key_derive(config->cluster.name, config->cluster.secret, &key);
    return mr_datadir_open(g->p->disk, g->p->data_dir, config->cluster.name.len > 0 ? &key : NULL, &g->dir, g->error);
}

/* ---- joining (pipeline/join.h) ---- */

/* As a start and a stop without an event between: the node's checkpoint is that of the log's end. */
static enum mr_status settle_and_join(struct promoting *g, const struct mr_config *config) {
    struct mr_data data;
    struct mr_data_options options = {.disk = g->p->disk,
                                      .clock = g->p->clock,
                                      .config = config,
                                      .open_results = mr_data_open_sqlite,
                                      .close_results = mr_data_close_sqlite,
                                      .settle_only = true};
    enum mr_status status = mr_data_open(&options, &data, g->error);
    if (status != MR_OK) {
        return status;
    }
    struct mr_join join = {.data = &data,
                           .config = config,
                           .checkpoint_dir = g->p->checkpoint_dir,
                           .results_path = g->p->results_path,
                           .joined_dir = g->p->joined_dir,
                           .joined_path = g->p->joined_path,
                           .begins_ms = g->p->begins_ms};
    status = mr_join_make(&join, g->error);
    if (status == MR_OK) { /* the lock stays ours */
        g->dir = data.dir;
        data.dir.lock = NULL;
    }
    mr_data_close(&data);
    return status;
}

/* A promotion that was stopped goes on with what was joined for it: the node still has the checkpoint that was joined,
 * or none, or the joined one. */
static enum mr_status check_joined(struct promoting *g) {
    struct mr_restored node;
    enum mr_status status = mr_restored_open(g->p->disk, g->dir.checkpoint_dir, &node, g->error);
    if (status == MR_OK && node.newest.number != 0 && node.newest.lsn != g->shadow.newest.lsn) {
        status = mr_error_set(
            g->error, MR_MISMATCH,
            "%s is of record %llu, but the promotion that was stopped in the middle is of record %llu: run "
            "that one again, to its end",
            g->checkpoint_dir, (unsigned long long)g->shadow.newest.lsn, (unsigned long long)node.newest.lsn);
    }
    mr_restored_finish(&node);
    return status;
}

/* What was joined before a promotion began is what it goes on with. */
static enum mr_status open_joined(struct promoting *g) {
    uint32_t steps = 0;
    enum mr_status status = mr_datadir_read_promoting(&g->dir, &steps, g->error);
    if (status == MR_OK && steps == 0) {
        struct mr_config *config = mr_alloc(sizeof *config);
        if (config == NULL) {
            return mr_error_set(g->error, MR_NO_MEMORY, "out of memory");
        }
        *config = *g->p->config;
        config->node.data_dir = g->p->data_dir;
        status = settle_and_join(g, config);
        mr_free(config);
    } else if (status == MR_OK) {
        status = lock_directory(g);
    }
    if (status == MR_OK) {
        g->checkpoint_dir = g->p->joined_dir;
        g->results_path = g->p->joined_path;
        status = mr_restored_open_replay(g->p->disk, g->checkpoint_dir, &g->shadow, g->error);
    }
    if (status == MR_NOT_FOUND && steps > 0) {
        return mr_error_set(g->error, MR_MISMATCH,
                            "the promotion of another replay was stopped in the middle: run that one again, to its "
                            "end");
    }
    if (status == MR_OK && steps > 0) {
        status = check_joined(g);
    }
    return status == MR_OK ? check_state(g) : status;
}

/* ---- doing it ---- */

/* From here on the log was taken under the new configuration. */
static enum mr_status append_config(struct promoting *g) {
    const struct mr_config *config = g->p->config;
    struct mr_log *log = NULL;
    struct mr_log_options options = {.disk = g->p->disk,
                                     .clock = g->p->clock,
                                     .dir = g->dir.log_dir,
                                     .segment_bytes = config->log.segment_bytes,
                                     .reserve_bytes = config->log.reserve_bytes,
                                     .sync = true,
                                     .from_lsn = g->shadow.newest.lsn + 1};
    struct mr_log_entry entry = {
        .type = MR_RECORD_CONFIG, .payload = {{g->state.ptr, g->state.len}}, .payload_count = 1};
    enum mr_status status = MR_OK;
    for (uint32_t i = 0; status == MR_OK && i < config->lookup_count; i++) {
        status = mr_datadir_keep_lookup(&g->dir, config->lookups[i].data, g->error);
    }
    if (status == MR_OK) {
        status = mr_log_open(&options, &log, g->error);
    }
    if (status == MR_OK) {
        g->seq = mr_log_last_seq(log) + 1;
        int64_t recorded_ms = mr_log_last_recorded_ms(log); /* nothing is received with it */
        recorded_ms = recorded_ms == INT64_MIN ? g->shadow.newest.recorded_ms : recorded_ms;
        status = mr_log_append(log, g->seq, recorded_ms, &entry, 1, g->error);
    }
    mr_log_close(log);
    return status;
}

/* The node's own goes, manifests before parts; then parts come before manifests. */
static enum mr_status replace_checkpoint(struct promoting *g) {
    struct mr_restored none;
    enum mr_status status = mr_restored_open(g->p->disk, g->dir.checkpoint_dir, &none, g->error);
    if (status != MR_OK) {
        return status;
    }
    mr_restored_finish(&none);
    mr_manifest_init(&none.newest);
    mr_manifest_init(&none.before);
    status = mr_restored_tidy(&none, g->error);
    return status == MR_OK ? mr_copy_checkpoint(g->p->disk, g->checkpoint_dir, g->dir.checkpoint_dir, g->error)
                           : status;
}

static enum mr_status replace_results(struct promoting *g) {
    char made[PATH_CAP];
    (void)snprintf(made, sizeof made, "%s.new", g->dir.results_path); /* fits */
    enum mr_status status = mr_copy_file(g->p->disk, g->results_path, made, g->error);
    if (status != MR_OK) {
        return status;
    }
    status = mr_disk_rename(g->p->disk, made, g->dir.results_path);
    if (status == MR_OK) {
        status = mr_disk_sync_dir(g->p->disk, g->dir.path);
    }
    return status == MR_OK ? MR_OK
                           : mr_error_set(g->error, status, "cannot rename %s: %s", made, mr_status_text(status));
}

static enum mr_status set_aside(struct promoting *g, uint32_t steps) {
    if (steps >= STEP_ASIDE) {
        return MR_OK; /* what is there now is ours */
    }
    enum mr_status status = mr_datadir_set_results_aside(&g->dir, g->error);
    return status == MR_OK ? mr_datadir_write_promoting(&g->dir, STEP_ASIDE, g->error) : status;
}

static enum mr_status promote(struct promoting *g) {
    uint32_t steps = 0;
    enum mr_status status = mr_datadir_read_promoting(&g->dir, &steps, g->error);
    if (status == MR_OK && steps < STEP_BEGUN) {
        status = mr_datadir_write_promoting(&g->dir, STEP_BEGUN, g->error);
    }
    if (status == MR_OK) {
        status = append_config(g);
    }
    if (status == MR_OK) {
        status = set_aside(g, steps);
    }
    if (status == MR_OK) {
        status = replace_checkpoint(g);
    }
    if (status == MR_OK) {
        status = replace_results(g);
    }
    if (status == MR_OK) {
        status = mr_datadir_write_promoted(&g->dir, g->seq, g->error);
    }
    if (status == MR_OK) {
        status = mr_datadir_write_shards(&g->dir, g->shadow.newest.shards, g->error);
    }
    if (status == MR_OK) {
        status = mr_datadir_set_rewound(&g->dir, false, g->error);
    }
    return status == MR_OK ? mr_datadir_write_promoting(&g->dir, 0, g->error) : status;
}

/* The copies go. What cannot be removed is in nobody's way: the next one begins with that. */
static void remove_copies(const struct promoting *g) {
    struct mr_error error;
    if (mr_join_remove(g->p->disk, g->p->joined_dir, g->p->joined_path, &error) != MR_OK) {
        char quoted[MR_ERROR_TEXT_MAX];
        mr_report(MR_LEVEL_WARN, "copies_left", "reason=%s", mr_report_value(error.text, quoted, sizeof quoted));
    }
}

enum mr_status mr_promote(const struct mr_promotion *promotion, struct mr_error *error) {
    struct promoting g = {.p = promotion,
                          .checkpoint_dir = promotion->checkpoint_dir,
                          .results_path = promotion->results_path,
                          .error = error};
    mr_manifest_init(&g.shadow.newest);
    mr_manifest_init(&g.shadow.before);
    mr_buf_init(&g.state, MR_RECORD_PAYLOAD_MAX);
    enum mr_status status =
        mr_datadir_look(promotion->disk, promotion->data_dir, &g.dir, error); /* else it would be made */
    if (status == MR_OK && !promotion->joins) {
        status = lock_directory(&g);
    }
    if (status == MR_OK) {
        status = mr_restored_open_replay(promotion->disk, promotion->checkpoint_dir, &g.shadow, error);
    }
    if (status == MR_OK) {
        status = check_plan(&g);
    }
    if (status == MR_OK) {
        status = check_log(&g);
    }
    if (status == MR_OK && promotion->joins) {
        status = open_joined(&g);
    }
    if (status == MR_OK) {
        status = promote(&g);
    }
    if (status == MR_OK && promotion->joins) {
        remove_copies(&g);
    }
    mr_buf_finish(&g.state);
    mr_restored_finish(&g.shadow);
    mr_datadir_close(&g.dir);
    return status;
}
