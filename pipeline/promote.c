/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/promote.h"

#include "base/alloc.h"
#include "base/check.h"
#include "config/change.h"
#include "log/log.h"
#include "pipeline/restore.h"

#include <stdio.h>

enum { PATH_CAP = 4096, COPY_BYTES = 1 << 20, STEP_BEGUN = 1, STEP_ASIDE = 2 };

struct promoting {
    const struct mr_promotion *p;
    struct mr_datadir dir;
    struct mr_restored shadow; /* the checkpoint that the replay made */
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

static enum mr_status check_plan(struct promoting *g) {
    const struct mr_config *config = g->p->config;
    for (uint32_t i = 0; i < config->stream_count; i++) {
        if (config->streams[i].dedup.mode == MR_CONFIG_REDIS) {
            return mr_error_set(
                g->error, MR_UNSUPPORTED,
                "streams.%.*s.dedup.mode is redis: promoting is known, not in this version, where a shared "
                "store decides",
                (int)config->streams[i].name.len, (const char *)config->streams[i].name.ptr);
        }
    }
    mr_config_print_state(config, &g->state);
    if (g->state.failed) {
        return mr_error_set(g->error, MR_NO_MEMORY, "out of memory");
    }
    return mr_bytes_equal(mr_restored_config(&g->shadow), mr_buf_bytes(&g->state))
               ? MR_OK
               : mr_error_set(
                     g->error, MR_MISMATCH,
                     "the configuration is not the one that the replay was made under: its streams or rules differ");
}

/* The log still has what comes behind S, and S itself is what the replay has read. */
static enum mr_status check_log(struct promoting *g) {
    const struct mr_manifest *m = &g->shadow.newest;
    struct mr_log_extent extent;
    enum mr_status status = mr_log_extent_scan(g->p->disk, g->dir.log_dir, &extent, g->error);
    if (status == MR_OK && (extent.first_lsn > m->lsn || extent.last_lsn < m->lsn)) {
        return mr_error_set(g->error, MR_NOT_FOUND,
                            "the replay ended with record %llu, but the log has %llu to %llu only: replay again",
                            (unsigned long long)m->lsn, (unsigned long long)extent.first_lsn,
                            (unsigned long long)extent.last_lsn);
    }
    uint64_t hash = 0;
    if (status == MR_OK) {
        status = mr_promote_record_hash(g->p->disk, g->dir.log_dir, m->lsn, &hash, g->error);
    }
    if (status == MR_OK && (m->incarnation != g->p->incarnation || hash != g->p->record_hash)) {
        status = mr_error_set(
            g->error, MR_MISMATCH,
            "record %llu of %s is not the one that the replay ended with (another log, or a crash has taken "
            "that record): replay again",
            (unsigned long long)m->lsn, g->dir.log_dir);
    }
    return status;
}

static enum mr_status open_directory(struct promoting *g) {
    const struct mr_config *config = g->p->config;
    struct mr_hash_key key;
    mr_hash_key_derive(config->cluster.name, config->cluster.secret, &key);
    enum mr_status status = mr_datadir_look(g->p->disk, g->p->data_dir, &g->dir, g->error); /* else it would be made */
    if (status == MR_OK) {
        status =
            mr_datadir_open(g->p->disk, g->p->data_dir, config->cluster.name.len > 0 ? &key : NULL, &g->dir, g->error);
    }
    if (status == MR_OK) {
        status = mr_restored_open(g->p->disk, g->p->checkpoint_dir, &g->shadow, g->error);
    }
    if (status == MR_OK && g->shadow.newest.number == 0) {
        status = mr_error_set(g->error, MR_NOT_FOUND, "%s has no checkpoint: replay again", g->p->checkpoint_dir);
    }
    return status;
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

static enum mr_status copy_bytes(struct mr_file *from, struct mr_file *to, uint8_t *buf) {
    size_t len = COPY_BYTES;
    enum mr_status status = MR_OK;
    for (uint64_t at = 0; status == MR_OK && len == COPY_BYTES; at += len) {
        status = mr_file_pread(from, buf, COPY_BYTES, at, &len);
        if (status == MR_OK && len > 0) {
            status = mr_file_pwrite(to, mr_bytes_of(buf, len), at);
        }
    }
    return status == MR_OK ? mr_file_sync(to) : status;
}

/* Over what is there. */
static enum mr_status copy_file(struct promoting *g, const char *from, const char *to) {
    struct mr_file *source = NULL;
    struct mr_file *target = NULL;
    uint8_t *buf = mr_alloc(COPY_BYTES);
    enum mr_status status = buf == NULL ? MR_NO_MEMORY : mr_disk_unlink(g->p->disk, to);
    if (status == MR_OK || status == MR_NOT_FOUND) {
        status = mr_file_open(g->p->disk, from, MR_FILE_READ, &source);
    }
    if (status == MR_OK) {
        status = mr_file_open(g->p->disk, to, MR_FILE_CREATE_NEW, &target);
    }
    if (status == MR_OK) {
        status = copy_bytes(source, target, buf);
    }
    mr_file_close(source);
    mr_file_close(target);
    mr_free(buf);
    return status == MR_OK
               ? MR_OK
               : mr_error_set(g->error, status, "cannot copy %s to %s: %s", from, to, mr_status_text(status));
}

struct copying {
    struct promoting *g;
    bool manifests; /* those alone; else all but those */
};

static enum mr_status copy_named(void *ctx, const char *name) {
    struct copying *c = ctx;
    char from[PATH_CAP];
    char to[PATH_CAP];
    if ((strncmp(name, "manifest-", 9) == 0) != c->manifests || name[0] == '.') {
        return MR_OK;
    }
    int from_len = snprintf(from, sizeof from, "%s/%s", c->g->p->checkpoint_dir, name);
    int to_len = snprintf(to, sizeof to, "%s/%s", c->g->dir.checkpoint_dir, name);
    if (from_len < 0 || from_len >= PATH_CAP || to_len < 0 || to_len >= PATH_CAP) {
        return mr_error_set(c->g->error, MR_LIMIT, "%s: too long a path", name);
    }
    return copy_file(c->g, from, to);
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
    for (int pass = 0; status == MR_OK && pass < 2; pass++) {
        struct copying c = {.g = g, .manifests = pass == 1};
        (void)mr_error_set(g->error, MR_IO, "cannot list %s", g->p->checkpoint_dir);
        status = mr_disk_list(g->p->disk, g->p->checkpoint_dir, copy_named, &c);
        if (status == MR_OK) {
            status = mr_disk_sync_dir(g->p->disk, g->dir.checkpoint_dir);
        }
    }
    return status;
}

static enum mr_status replace_results(struct promoting *g) {
    char made[PATH_CAP];
    (void)snprintf(made, sizeof made, "%s.new", g->dir.results_path); /* fits */
    enum mr_status status = copy_file(g, g->p->results_path, made);
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

enum mr_status mr_promote(const struct mr_promotion *promotion, struct mr_error *error) {
    struct promoting g = {.p = promotion, .error = error};
    mr_manifest_init(&g.shadow.newest);
    mr_manifest_init(&g.shadow.before);
    mr_buf_init(&g.state, MR_RECORD_PAYLOAD_MAX);
    enum mr_status status = open_directory(&g);
    if (status == MR_OK) {
        status = check_plan(&g);
    }
    if (status == MR_OK) {
        status = check_log(&g);
    }
    if (status == MR_OK) {
        status = promote(&g);
    }
    mr_buf_finish(&g.state);
    mr_restored_finish(&g.shadow);
    mr_datadir_close(&g.dir);
    return status;
}
