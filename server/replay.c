/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Replay: the retained log of a data directory, once more and under another configuration, into a results store of its
 * own (docs/REPLAY.md). The data directory is only read, and may be a running server's.
 *
 *     data/log ──▶ pipeline (a shadow: pipeline/pipeline.h) ──▶ DIR/unfinished.db … DIR/REPLAY, DIR/results.db
 *
 * DIR/results.db has its name last: what a replay that was stopped leaves behind is taken away by the next one.
 */
#include "aggregate/window.h"
#include "base/alloc.h"
#include "base/check.h"
#include "base/event_count.h"
#include "base/time_text.h"
#include "pipeline/data.h"
#include "pipeline/promote.h"
#include "pipeline/shadow_store.h"
#include "server/cli.h"
#include "server/replay_note.h"
#include "server/time_param.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { PATH_CAP = 4096, PROGRESS_NS = 100 * 1000 * 1000, FLUSH_ERRORS_MAX = 3 };

struct replay {
    const struct mr_cli *cli;
    struct mr_disk *disk;
    struct mr_config *config;
    struct mr_datadir data;
    struct mr_file *lock; /* of DIR */
    char unfinished[PATH_CAP];
    char finished[PATH_CAP];
    int64_t from_ms;
    struct mr_log_extent extent;
    struct mr_log_reader *reader; /* until the pipeline has it */
    struct mr_record first;       /* read from it; lsn 0: there is none */
    struct mr_plan *plan;
    struct mr_results_rule *results_rules;
    struct mr_results *results;
    struct mr_shadow_store store;
    struct mr_restored restored; /* nothing: where checkpoints begin */
    char checkpoint_dir[PATH_CAP];
    struct mr_pipeline *pipeline;
    struct mr_replay_note note;
    struct mr_event_count wake;
    uint64_t began_ns;
    bool terminal;
    struct mr_error error;
};

/* ---- the directory ---- */

static enum mr_status name_in(char ret[PATH_CAP], const char *dir, const char *name, struct mr_error *error) {
    int len = snprintf(ret, PATH_CAP, "%s/%s", dir, name);
    return len > 0 && len < PATH_CAP ? MR_OK : mr_error_set(error, MR_LIMIT, "--into %s: too long a path", dir);
}

static bool is_there(const char *dir, const char *name) {
    char path[PATH_CAP];
    struct mr_error error;
    return name_in(path, dir, name, &error) == MR_OK && access(path, F_OK) == 0;
}

/* MR_OK also when it was not there. */
static enum mr_status take_away(struct replay *r, const char *name) {
    char path[PATH_CAP];
    enum mr_status status = name_in(path, r->cli->into, name, &r->error);
    if (status == MR_OK) {
        status = mr_disk_unlink(r->disk, path);
    }
    return status == MR_OK || status == MR_NOT_FOUND
               ? MR_OK
               : mr_error_set(&r->error, status, "cannot remove %s: %s", path, mr_status_text(status));
}

static enum mr_status lock_directory(struct replay *r) {
    char path[PATH_CAP];
    enum mr_status status = mr_disk_mkdir(r->disk, r->cli->into);
    if (status == MR_OK && is_there(r->cli->into, "LOCK")) {
        return mr_error_set(&r->error, MR_BUSY, "--into %s is a data directory: name one of its own", r->cli->into);
    }
    if (status == MR_OK) {
        status = name_in(path, r->cli->into, "REPLAY.lock", &r->error);
    }
    if (status == MR_OK) {
        status = mr_file_open(r->disk, path, MR_FILE_CREATE, &r->lock);
    }
    if (status == MR_OK) {
        status = mr_file_lock(r->lock);
    }
    return status == MR_OK
               ? MR_OK
               : mr_error_set(&r->error, status, "--into %s: %s", r->cli->into,
                              status == MR_BUSY ? "another replay is writing to it" : mr_status_text(status));
}

/* What a promotion that was stopped goes on with stays (pipeline/promote.h). */
static enum mr_status check_promoting(struct replay *r) {
    uint32_t steps = 0;
    enum mr_status status = mr_datadir_read_promoting(&r->data, &steps, &r->error);
    return status == MR_OK && steps > 0 && is_there(r->cli->into, "joined.db")
               ? mr_error_set(&r->error, MR_BUSY,
                              "--into %s: a `millrace replay promote` was stopped in the middle, and may need it: run "
                              "that again, to its end, or name another directory",
                              r->cli->into)
               : status;
}

/* DIR is ours, empty, or has what an earlier replay left. */
static enum mr_status prepare_directory(struct replay *r) {
    static const char *const left[] = {"results.db", "results.db-wal", "results.db-shm",    "REPLAY",
                                       "REPLAY.new", "unfinished.db",  "unfinished.db-wal", "unfinished.db-shm",
                                       "joined.db",  "joined.db-wal",  "joined.db-shm"};
    enum mr_status status = lock_directory(r);
    if (status != MR_OK) {
        return status;
    }
    bool results = is_there(r->cli->into, "results.db");
    if (results && !is_there(r->cli->into, "REPLAY")) {
        return mr_error_set(&r->error, MR_BUSY,
                            "--into %s has a results.db that no replay has made: name another directory", r->cli->into);
    }
    if (results && !r->cli->again) {
        return mr_error_set(
            &r->error, MR_BUSY,
            "--into %s has the results of a replay: name another directory, or replace them with --again",
            r->cli->into);
    }
    status = check_promoting(r);
    for (size_t i = 0; status == MR_OK && i < sizeof left / sizeof left[0]; i++) {
        status = take_away(r, left[i]);
    }
    if (status == MR_OK) {
        status = name_in(r->unfinished, r->cli->into, "unfinished.db", &r->error);
    }
    return status == MR_OK ? name_in(r->finished, r->cli->into, "results.db", &r->error) : status;
}

/* A checkpoint of an earlier replay goes. */
static enum mr_status prepare_checkpoint(struct replay *r) {
    enum mr_status status = name_in(r->checkpoint_dir, r->cli->into, "checkpoint", &r->error);
    if (status == MR_OK) {
        status = mr_restored_open(r->disk, r->checkpoint_dir, &r->restored, &r->error);
    }
    if (status != MR_OK) {
        return status;
    }
    mr_restored_finish(&r->restored);
    mr_manifest_init(&r->restored.newest);
    mr_manifest_init(&r->restored.before);
    return mr_restored_tidy(&r->restored, &r->error);
}

/* ---- opening ---- */

/* What is read here is what the replay goes on from: behind it nothing can be missing, whatever retention does meanwhile. */
static enum mr_status read_beginning(struct replay *r) {
    enum mr_status status = mr_log_reader_open(r->disk, r->data.log_dir, 0, &r->reader, &r->error);
    if (status == MR_OK) {
        status = mr_log_reader_next(r->reader, &r->first, &r->error);
    }
    r->note.first_ms = INT64_MIN;
    if (status == MR_OK) {
        r->note.first_lsn = r->first.lsn;
        r->note.incarnation = r->first.incarnation;
        r->note.first_ms = r->first.lsn > 1 ? r->first.recorded_ms : INT64_MIN;
    }
    return status == MR_END ? MR_OK : status;
}

static enum mr_status look_at_data(struct replay *r) {
    struct mr_bytes path = r->cli->data != NULL ? mr_bytes_text(r->cli->data) : r->config->node.data_dir;
    enum mr_status status = mr_datadir_look(r->disk, path, &r->data, &r->error);
    if (status == MR_OK) {
        status = read_beginning(r);
    }
    if (status == MR_OK) {
        status = mr_log_extent_scan(r->disk, r->data.log_dir, &r->extent, &r->error);
    }
    if (status == MR_OK) {
        memcpy(r->note.data_dir, r->data.path, sizeof r->data.path);
        r->note.last_lsn = r->extent.last_lsn;
        r->note.last_seq = r->extent.last_seq;
    }
    return status;
}

static enum mr_status open_store(struct replay *r) {
    r->results_rules = mr_data_results_rules(r->plan);
    if (r->results_rules == NULL) {
        return mr_error_set(&r->error, MR_NO_MEMORY, "out of memory opening the results store");
    }
    struct mr_results_sqlite_options options = {
        .path = r->unfinished,
        .incarnation = r->note.incarnation,
        .rules = r->results_rules,
        .rule_count = r->plan->rule_count,
        .sync = false, /* it is synced when it is whole */
    };
    enum mr_status status = mr_results_sqlite_open(&options, &r->results, &r->error);
    if (status == MR_OK) {
        mr_shadow_store_init(&r->store, r->results, r->plan, r->note.first_ms, r->from_ms);
    }
    return status;
}

static enum mr_status open_pipeline(struct replay *r) {
    struct mr_pipeline_options options = {
        .plan = r->plan,
        .clock = mr_clock_system(),
        .results = &r->store.base,
        .disk = r->disk,
        .log_dir = r->data.log_dir,
        .replay = r->reader,
        .shadow = true,
        .shadow_first = r->first.lsn == 0 ? NULL : &r->first,
        .shadow_to_lsn = r->extent.last_lsn,
        .shadow_incarnation = r->note.incarnation,
        .checkpoint_dir = r->checkpoint_dir,
        .checkpoint_every_ms = INT64_MAX / 1000000, /* at the end alone */
        .restored = &r->restored,
    };
    enum mr_status status = mr_pipeline_open(&options, &r->pipeline, &r->error); /* takes the reader over */
    r->reader = NULL;
    if (status == MR_OK && mr_pipeline_start(r->pipeline) != MR_OK) {
        status = mr_error_set(&r->error, MR_NO_MEMORY, "cannot start the pipeline");
    }
    return status;
}

static enum mr_status open_all(struct replay *r) {
    enum mr_status status = look_at_data(r);
    if (status == MR_OK) {
        status = prepare_directory(r);
    }
    if (status == MR_OK) {
        status = prepare_checkpoint(r);
    }
    if (status == MR_OK) {
        status = mr_plan_open(r->config, &r->data.key, false, &r->plan, &r->error);
    }
    if (status == MR_OK) {
        r->note.configuration = mr_hash64(mr_buf_bytes(&r->plan->state_text), 0);
        status = open_store(r);
    }
    return status == MR_OK ? open_pipeline(r) : status;
}

/* ---- replaying ---- */

/* For who started this process: a line of JSON a time, before the counts. */
static void tell_progress(const struct mr_pipeline_stats *stats, double share) {
    (void)printf("{\"progress\":%.3f,\"events\":%" PRIu64 "}\n", share, stats->replayed_events);
    (void)fflush(stdout);
}

static void say_progress(struct replay *r, const struct mr_pipeline_stats *stats, bool last) {
    if (!r->terminal && r->cli->parent == NULL) {
        return;
    }
    uint64_t all = r->extent.last_seq - r->first.seq + 1;
    uint64_t done = stats->processed_seq < r->first.seq ? 0 : stats->processed_seq - r->first.seq + 1;
    double share = last ? 1 : (double)done / (double)all;
    if (r->cli->parent != NULL) {
        tell_progress(stats, share);
        return;
    }
    double seconds = (double)(mr_clock_mono_ns(mr_clock_system()) - r->began_ns) / 1e9;
    char bar[31];
    for (int i = 0; i < 30; i++) {
        bar[i] = (double)i < share * 30 ? '#' : '.';
    }
    bar[30] = '\0';
    (void)fprintf(stderr, "\rreplay [%s] %3.0f %%  %" PRIu64 " events  %.2f M/s %s", bar, share * 100,
                  stats->replayed_events, seconds > 0 ? (double)stats->replayed_events / seconds / 1e6 : 0,
                  last ? "\n" : "");
}

/* A server would try again later. */
static enum mr_status check_flusher(struct replay *r, const struct mr_pipeline_stats *stats) {
    return stats->flush_errors < FLUSH_ERRORS_MAX && stats->checkpoint_failures == 0
               ? MR_OK
               : mr_error_set(&r->error, MR_NO_SPACE, "results cannot be written to %s: is there room?", r->unfinished);
}

static void flushed(struct mr_ask *ask, void *ctx) {
    (void)ask;
    mr_event_count_signal(ctx);
}

/* Until the end of the log has passed every station. */
static enum mr_status wait_end(struct replay *r, struct mr_ask *ask) {
    struct mr_pipeline_stats stats;
    bool asked = false;
    uint32_t begun = mr_event_count_value(&r->wake);
    for (;;) {
        uint32_t value = mr_event_count_value(&r->wake);
        mr_pipeline_stats(r->pipeline, &stats);
        enum mr_status status = mr_pipeline_failure(r->pipeline, &r->error);
        if (status == MR_OK) {
            status = check_flusher(r, &stats);
        }
        if (status != MR_OK || value != begun) {
            say_progress(r, &stats, value != begun);
            return status;
        }
        if (!asked && mr_pipeline_live(r->pipeline)) {
            asked = mr_pipeline_checkpoint(r->pipeline, ask);
        }
        say_progress(r, &stats, false);
        mr_event_count_wait(&r->wake, value, PROGRESS_NS); /* the end of the replay has no other way to tell */
    }
}

/* Says why, too. */
static int exit_code(const struct replay *r, enum mr_status status) {
    int code = mr_cli_failed(&r->error);
    return status == MR_NOT_FOUND ? MR_EXIT_FAILURE : code;
}

static enum mr_status run_to_end(struct replay *r) {
    struct mr_ask *ask = mr_alloc_zero(1, sizeof *ask);
    if (ask == NULL) {
        return mr_error_set(&r->error, MR_NO_MEMORY, "out of memory");
    }
    ask->kind = MR_ASK_CHECKPOINT;
    ask->done = flushed;
    ask->ctx = &r->wake;
    enum mr_status status = wait_end(r, ask);
    if (status == MR_OK && ask->status != MR_OK) {
        status = mr_error_set(&r->error, ask->status, "the checkpoint of the replay in %s failed: %s",
                              r->checkpoint_dir, mr_status_text(ask->status));
    }
    if (status != MR_OK) {
        _Exit(exit_code(r, status)); /* stations are stuck in the middle of things, and may hold the question */
    }
    mr_free(ask);
    return MR_OK;
}

/* ---- what it came to ---- */

static void note_streams(struct replay *r, int64_t *watermarks_ms) {
    for (uint32_t i = 0; i < r->plan->stream_count; i++) {
        struct mr_stream_stats s;
        mr_pipeline_stream_stats(r->pipeline, i, &s);
        watermarks_ms[i] = s.watermark_ms;
        r->note.received += s.received;
        r->note.accepted += s.accepted;
        r->note.duplicate += s.duplicate;
        r->note.late += s.late;
        r->note.rejected += s.rejected;
        r->note.pending += s.pending;
    }
}

static void note_all(struct replay *r) {
    int64_t watermarks_ms[MR_STREAMS_MAX];
    struct mr_pipeline_stats stats;
    mr_pipeline_stats(r->pipeline, &stats);
    note_streams(r, watermarks_ms);
    r->note.gone = stats.shadow_gone;
    r->note.unknown = stats.shadow_unknown;
    r->note.lost = stats.shadow_lost;
    r->note.made_ms = mr_clock_wall_ms(mr_clock_system());
    r->note.rule_count = r->plan->rule_count;
    for (uint32_t i = 0; i < r->plan->rule_count; i++) {
        const struct mr_rule *rule = &r->plan->rules[i];
        struct mr_replay_rule *note = &r->note.rules[i];
        (void)snprintf(note->name, sizeof note->name, "%.*s", (int)rule->name.len, (const char *)rule->name.ptr);
        note->begins_ms = r->store.begins_ms[i];
        note->final_end_ms = mr_window_final_end(rule, mr_rule_watermark(rule, watermarks_ms));
    }
}

/* The checkpoint's last record, as the log has it. */
static enum mr_status note_checkpoint(struct replay *r) {
    struct mr_restored made;
    enum mr_status status = mr_restored_open(r->disk, r->checkpoint_dir, &made, &r->error);
    if (status == MR_OK) {
        r->note.promotable = made.newest.number != 0;
        r->note.last_lsn = made.newest.lsn;
        r->note.last_seq = made.newest.seq;
        status = mr_promote_record_hash(r->disk, r->data.log_dir, made.newest.lsn, &r->note.record_hash, &r->error);
        mr_restored_finish(&made);
    }
    return status;
}

/* The store is closed: one file, which gets its name when REPLAY is there. */
static enum mr_status finish_directory(struct replay *r) {
    struct mr_file *file = NULL;
    enum mr_status status = mr_file_open(r->disk, r->unfinished, MR_FILE_WRITE, &file);
    if (status == MR_OK) {
        status = mr_file_sync(file);
    }
    mr_file_close(file);
    if (status == MR_OK && is_there(r->cli->into, "unfinished.db-wal")) {
        status = MR_BUSY; /* somebody looks at it */
    }
    if (status != MR_OK) {
        return mr_error_set(&r->error, status, "cannot finish %s: %s", r->unfinished, mr_status_text(status));
    }
    status = mr_replay_note_write(r->disk, r->cli->into, &r->note, &r->error);
    if (status != MR_OK) {
        return status;
    }
    status = mr_disk_rename(r->disk, r->unfinished, r->finished);
    if (status == MR_OK) {
        status = mr_disk_sync_dir(r->disk, r->cli->into);
    }
    return status == MR_OK
               ? MR_OK
               : mr_error_set(&r->error, status, "cannot rename %s: %s", r->unfinished, mr_status_text(status));
}

static const char *time_text(int64_t ms, char ret[MR_TIME_TEXT_LEN + 1]) {
    if (mr_time_has_text(ms)) {
        mr_time_format(ms, ret);
    } else {
        (void)snprintf(ret, MR_TIME_TEXT_LEN + 1, "%s", ms == INT64_MIN ? "none" : "the end of time");
    }
    return ret;
}

static void say_trimmed(const struct replay *r) {
    char text[MR_TIME_TEXT_LEN + 1];
    int64_t horizon_ms = 0;
    for (uint32_t i = 0; i < r->config->stream_count; i++) {
        bool none = r->config->streams[i].dedup.mode == MR_CONFIG_NONE;
        int64_t stream_ms = none ? 0 : r->config->streams[i].dedup.horizon_ms;
        horizon_ms = stream_ms > horizon_ms ? stream_ms : horizon_ms;
    }
    (void)fprintf(stderr,
                  "millrace: the log begins at record %" PRIu64
                  ", of %s: what was before it has been removed (log.retain).\n"
                  "  Left out are all windows that may lack events: %s",
                  r->note.first_lsn, time_text(r->note.first_ms, text), r->note.rule_count == 0 ? "no rule\n" : "");
    for (uint32_t i = 0; i < r->note.rule_count; i++) {
        (void)fprintf(stderr, "%s%s before %s%s", i == 0 ? "" : ", ", r->note.rules[i].name,
                      time_text(r->note.rules[i].begins_ms, text), i + 1 == r->note.rule_count ? "\n" : "");
    }
    (void)fprintf(
        stderr,
        "  Ids that came only before it are not known: a repeat with another event time, or without one, counts again "
        "within\n  the dedup horizon of the log's beginning (%" PRId64 " s).\n",
        horizon_ms / 1000);
}

static void say_warnings(const struct replay *r) {
    if (r->note.first_ms != INT64_MIN) {
        say_trimmed(r);
    }
    if (r->note.gone > 0) {
        (void)fprintf(stderr,
                      "millrace: %" PRIu64 " events are of streams that are not in the configuration: passed over.\n",
                      r->note.gone);
    }
    if (r->note.pending > 0) {
        (void)fprintf(stderr,
                      "millrace: %" PRIu64 " events have no verdict of the shared store in the log yet: not counted.\n",
                      r->note.pending);
    }
    if (r->note.unknown > 0) {
        (void)fprintf(stderr,
                      "millrace: %" PRIu64 " events took effect in the log, but were recorded before it begins: not "
                      "counted.\n",
                      r->note.unknown);
    }
    if (r->note.lost > 0) {
        (void)fprintf(stderr,
                      "millrace: %" PRIu64 " records of the log were lost to damage: their events are not counted.\n",
                      r->note.lost);
    }
}

static int print_summary(const struct replay *r) {
    const struct mr_replay_note *n = &r->note;
    double seconds = (double)(mr_clock_mono_ns(mr_clock_system()) - r->began_ns) / 1e9;
    say_warnings(r);
    const char *format = r->cli->json ? "{\"first_lsn\":%" PRIu64 ",\"last_lsn\":%" PRIu64 ",\"received\":%" PRIu64
                                        ",\"accepted\":%" PRIu64 ",\"duplicate\":%" PRIu64 ",\"late\":%" PRIu64
                                        ",\"rejected\":%" PRIu64 ",\"pending\":%" PRIu64 ",\"gone\":%" PRIu64
                                        ",\"trimmed\":%s,\"seconds\":%.3f}\n"
                                      : "records %" PRIu64 " to %" PRIu64 "; received %" PRIu64 ": accepted %" PRIu64
                                        ", duplicate %" PRIu64 ", late %" PRIu64 ", rejected %" PRIu64
                                        ", pending %" PRIu64 "; of other streams %" PRIu64 "; the log is %s; %.2f s\n";
    const char *whole = n->first_ms == INT64_MIN ? "whole" : "trimmed";
    const char *trimmed = n->first_ms == INT64_MIN ? "false" : "true";
    (void)printf(format, n->first_lsn, n->last_lsn, n->received, n->accepted, n->duplicate, n->late, n->rejected,
                 n->pending, n->gone, r->cli->json ? trimmed : whole, seconds);
    return mr_cli_written();
}

/* ---- the command ---- */

static enum mr_status replay(struct replay *r) {
    mr_manifest_init(&r->restored.newest);
    mr_manifest_init(&r->restored.before);
    enum mr_status status = open_all(r);
    if (status == MR_OK) {
        status = run_to_end(r);
    }
    if (status == MR_OK) {
        note_all(r);
    }
    if (r->pipeline != NULL) {
        mr_pipeline_stop(r->pipeline);
    }
    mr_pipeline_close(r->pipeline);
    mr_results_close(r->results);
    if (status == MR_OK) {
        status = note_checkpoint(r);
    }
    mr_log_reader_close(r->reader);
    mr_free(r->results_rules);
    mr_plan_close(r->plan);
    return status == MR_OK ? finish_directory(r) : status;
}

static int replay_log(const struct mr_cli *cli) {
    struct replay r = {.cli = cli,
                       .disk = mr_disk_system(),
                       .from_ms = INT64_MIN,
                       .terminal = isatty(STDERR_FILENO) == 1 && !cli->json};
    if (cli->config_file == NULL || cli->into == NULL || cli->operand_count > 0) {
        (void)fprintf(stderr,
                      "usage: millrace replay -c FILE --into DIR [--from TIME] [--data DIR] [--again] [--json]\n"
                      "       millrace replay compare DIR [--data DIR] [--rule NAME] [--limit N] [--all] [--json]\n"
                      "       millrace replay promote DIR -c FILE [--data DIR]\n"
                      "       millrace replay cancel --data DIR\n");
        return MR_EXIT_USAGE;
    }
    int64_t now_ms = mr_clock_wall_ms(mr_clock_system());
    if (cli->from != NULL && mr_time_param("--from", mr_bytes_text(cli->from), now_ms, &r.from_ms, &r.error) != MR_OK) {
        (void)fprintf(stderr, "millrace: %s\n", r.error.text);
        return MR_EXIT_USAGE;
    }
    int code = mr_cli_load(cli, &r.config);
    if (code != MR_EXIT_OK) {
        return code;
    }
    mr_event_count_init(&r.wake);
    r.began_ns = mr_clock_mono_ns(mr_clock_system());
    enum mr_status status = replay(&r);
    code = status == MR_OK ? print_summary(&r) : exit_code(&r, status);
    mr_file_close(r.lock);
    mr_config_close(r.config);
    return code;
}

int mr_cli_replay(const struct mr_cli *cli) {
    if (cli->operand_count > 0 && strcmp(cli->operands[0], "compare") == 0) {
        return mr_cli_replay_compare(cli);
    }
    if (cli->operand_count > 0 && strcmp(cli->operands[0], "promote") == 0) {
        return mr_cli_replay_promote(cli);
    }
    if (cli->operand_count > 0 && strcmp(cli->operands[0], "cancel") == 0) {
        return mr_cli_replay_cancel(cli);
    }
    return replay_log(cli);
}
