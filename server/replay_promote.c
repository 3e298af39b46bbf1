/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `millrace replay promote DIR -c FILE`: what a replay made takes the place of what the node has (pipeline/promote.h).
 */
#include "server/replay_promote.h"

#include "base/clock.h"
#include "base/time_text.h"
#include "pipeline/promote.h"
#include "server/cli.h"

#include <inttypes.h>
#include <stdio.h>

enum { PATH_CAP = 4096 };

/* From where on the replay has rows of each rule. */
static void find_begins(const struct mr_config *config, const struct mr_replay_note *note, int64_t *ret_ms) {
    for (uint32_t i = 0; i < config->rule_count; i++) {
        ret_ms[i] = INT64_MIN;
        for (uint32_t k = 0; k < note->rule_count; k++) {
            if (mr_bytes_equal(config->rules[i].name, mr_bytes_text(note->rules[k].name))) {
                ret_ms[i] = note->rules[k].begins_ms;
            }
        }
    }
}

/* Something is in the node only: rows and ids from before, streams that were passed over, or what a shared store has
 * not decided yet. */
static bool leaves_out(const struct mr_config *config, const struct mr_replay_note *note) {
    bool any = note->gone > 0 || note->first_ms != INT64_MIN;
    for (uint32_t i = 0; i < note->rule_count; i++) {
        any = any || note->rules[i].begins_ms != INT64_MIN;
    }
    for (uint32_t i = 0; i < config->stream_count; i++) {
        any = any || config->streams[i].dedup.mode == MR_CONFIG_REDIS;
    }
    return any;
}

static enum mr_status name_in(char ret[PATH_CAP], const char *dir, const char *name, struct mr_error *error) {
    int len = snprintf(ret, PATH_CAP, "%s/%s", dir, name);
    return len > 0 && len < PATH_CAP ? MR_OK : mr_error_set(error, MR_LIMIT, "%s: too long a path", dir);
}

enum mr_status mr_replay_may_promote(const struct mr_replay_note *note, const char *dir, struct mr_error *error) {
    return note->promotable
               ? MR_OK
               : mr_error_set(error, MR_UNSUPPORTED, "%s has no checkpoint (an earlier version made it): replay again", dir);
}

enum mr_status mr_replay_promote(const struct mr_config *config, struct mr_bytes data_dir, const char *dir,
                                 const struct mr_replay_note *note, struct mr_error *error) {
    static const char *const names[] = {"checkpoint", "results.db", "joined", "joined.db"};
    char paths[4][PATH_CAP];
    int64_t begins_ms[MR_RULES_MAX];
    for (size_t i = 0; i < 4; i++) {
        enum mr_status status = name_in(paths[i], dir, names[i], error);
        if (status != MR_OK) {
            return status;
        }
    }
    find_begins(config, note, begins_ms);
    struct mr_promotion promotion = {
        .disk = mr_disk_system(),
        .clock = mr_clock_system(),
        .config = config,
        .data_dir = data_dir,
        .checkpoint_dir = paths[0],
        .results_path = paths[1],
        .incarnation = note->incarnation,
        .record_lsn = note->last_lsn,
        .record_hash = note->record_hash,
        .joins = leaves_out(config, note),
        .joined_dir = paths[2],
        .joined_path = paths[3],
        .begins_ms = begins_ms,
    };
    return mr_promote(&promotion, error);
}

static void say_joined(const struct mr_replay_note *note) {
    char text[MR_TIME_TEXT_LEN + 1];
    bool any = false;
    for (uint32_t i = 0; i < note->rule_count; i++) {
        if (mr_time_has_text(note->rules[i].begins_ms)) {
            mr_time_format(note->rules[i].begins_ms, text);
            (void)fprintf(
                stderr, "%s%s before %s",
                any ? ", "
                    : "Of rules that are new or another one, earlier windows were not replayed. They stay "
                      "as they were where they are final\nand the columns are the same, else they are left out: ",
                note->rules[i].name, text);
            any = true;
        }
    }
    (void)fprintf(stderr, "%s", any ? ".\n" : "");
}

/* No replay writes to it meanwhile. */
static enum mr_status lock_directory(const char *dir, struct mr_file **ret, struct mr_error *error) {
    char path[PATH_CAP];
    enum mr_status status = name_in(path, dir, "REPLAY.lock", error);
    if (status != MR_OK) {
        return status;
    }
    status = mr_file_open(mr_disk_system(), path, MR_FILE_WRITE, ret);
    if (status == MR_NOT_FOUND) {
        return MR_OK; /* it is not what a replay has made, and the caller will say so */
    }
    status = status == MR_OK ? mr_file_lock(*ret) : status;
    return status == MR_OK ? MR_OK
                           : mr_error_set(error, status, "%s: %s", dir,
                                          status == MR_BUSY ? "a replay is writing to it" : mr_status_text(status));
}

int mr_cli_replay_promote(const struct mr_cli *cli) {
    static struct mr_replay_note note;
    struct mr_error error;
    struct mr_config *config = NULL;
    if (cli->operand_count != 2 || cli->config_file == NULL) {
        (void)fprintf(stderr, "usage: millrace replay promote DIR -c FILE [--data DIR]\n");
        return MR_EXIT_USAGE;
    }
    int code = mr_cli_load(cli, &config);
    if (code != MR_EXIT_OK) {
        return code;
    }
    struct mr_file *lock = NULL;
    enum mr_status status = lock_directory(cli->operands[1], &lock, &error);
    if (status == MR_OK) {
        status = mr_replay_note_read(mr_disk_system(), cli->operands[1], &note, &error);
    }
    if (status == MR_OK) {
        status = mr_replay_may_promote(&note, cli->operands[1], &error);
    }
    if (status == MR_OK) {
        struct mr_bytes data = cli->data != NULL ? mr_bytes_text(cli->data) : config->node.data_dir;
        status = mr_replay_promote(config, data, cli->operands[1], &note, &error);
    }
    mr_file_close(lock);
    mr_config_close(config);
    if (status != MR_OK) {
        code = mr_cli_failed(&error);
        return status == MR_NOT_FOUND ? MR_EXIT_FAILURE : code;
    }
    (void)fprintf(stderr,
                  "millrace: promoted, as of record %" PRIu64
                  ": the next start with this configuration goes on from there. "
                  "The rows before are in results.db.before.\n",
                  note.last_lsn);
    say_joined(&note);
    return MR_EXIT_OK;
}
