/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `millrace replay promote DIR -c FILE`: what a replay made takes the place of what the node has (pipeline/promote.h).
 */
#include "server/replay_promote.h"

#include "base/clock.h"
#include "pipeline/promote.h"
#include "server/cli.h"

#include <inttypes.h>
#include <stdio.h>

enum { PATH_CAP = 4096 };

enum mr_status mr_replay_may_promote(const struct mr_replay_note *note, const char *dir, struct mr_error *error) {
    if (note->gone > 0) {
        return mr_error_set(error, MR_UNSUPPORTED,
                            "%s was made without %" PRIu64
                            " events of streams that are not in its configuration: nothing that "
                            "leaves events out is promoted",
                            dir, note->gone);
    }
    if (!note->promotable) {
        return mr_error_set(
            error, MR_UNSUPPORTED,
            "%s cannot take the place of the data: the replay left something out (--from, or the log was "
            "trimmed: only the node has what was before), or a shared store decides",
            dir);
    }
    return MR_OK;
}

enum mr_status mr_replay_promote(const struct mr_config *config, struct mr_bytes data_dir, const char *dir,
                                 const struct mr_replay_note *note, struct mr_error *error) {
    char checkpoint[PATH_CAP];
    char results[PATH_CAP];
    int checkpoint_len = snprintf(checkpoint, sizeof checkpoint, "%s/checkpoint", dir);
    int results_len = snprintf(results, sizeof results, "%s/results.db", dir);
    if (checkpoint_len < 0 || checkpoint_len >= PATH_CAP || results_len < 0 || results_len >= PATH_CAP) {
        return mr_error_set(error, MR_LIMIT, "%s: too long a path", dir);
    }
    struct mr_promotion promotion = {
        .disk = mr_disk_system(),
        .clock = mr_clock_system(),
        .config = config,
        .data_dir = data_dir,
        .checkpoint_dir = checkpoint,
        .results_path = results,
        .incarnation = note->incarnation,
        .record_hash = note->record_hash,
    };
    return mr_promote(&promotion, error);
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
    enum mr_status status = mr_replay_note_read(mr_disk_system(), cli->operands[1], &note, &error);
    if (status == MR_OK) {
        status = mr_replay_may_promote(&note, cli->operands[1], &error);
    }
    if (status == MR_OK) {
        struct mr_bytes data = cli->data != NULL ? mr_bytes_text(cli->data) : config->node.data_dir;
        status = mr_replay_promote(config, data, cli->operands[1], &note, &error);
    }
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
    return MR_EXIT_OK;
}
