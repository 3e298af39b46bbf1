/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * CLI: the subcommands of `millrace`. Each returns the exit code: 0 fine, 1 failure, 2 usage, 78 configuration.
 * stdout is data, stderr is talk.
 */
#include "base/status.h"
#include "config/config.h"

enum mr_exit { MR_EXIT_OK = 0, MR_EXIT_FAILURE = 1, MR_EXIT_USAGE = 2, MR_EXIT_CONFIG = 78 };

#define MR_CLI_OPERANDS_MAX 4096

struct mr_cli {
    const char *config_file; /* -c; NULL: built-in defaults */
    bool json;
    bool csv;
    const char *rule; /* --rule; NULL: all */
    const char *stream; /* --stream: of inputs that name none; NULL: the only one */
    const char *into; /* --into; NULL: a temporary store */
    const char *from; /* --from; NULL: the beginning */
    const char *data; /* --data; NULL: the configuration's */
    const char *limit; /* --limit */
    const char *parent; /* --parent: the process that started this one for itself (server/child.h); NULL: none */
    bool again;       /* --again: over what an earlier replay made */
    bool all;         /* --all: rows that are not final, too */
    bool sinks;       /* --sinks: results go to the rules' sinks, too */
    const char **operands;
    int operand_count;
};

int mr_cli_serve(const struct mr_cli *cli);
int mr_cli_check(const struct mr_cli *cli);
int mr_cli_run(const struct mr_cli *cli);
int mr_cli_log(const struct mr_cli *cli);
int mr_cli_replay(const struct mr_cli *cli);
int mr_cli_replay_compare(const struct mr_cli *cli);
int mr_cli_replay_promote(const struct mr_cli *cli);
int mr_cli_replay_cancel(const struct mr_cli *cli);
int mr_cli_version(const struct mr_cli *cli);

/* Says what went wrong on stderr and returns the exit code that fits the status. */
int mr_cli_failed(const struct mr_error *error);
/* All that was printed on stdout is out: 0, or says that it is not and returns the exit code. */
int mr_cli_written(void);
/* Loads the configuration and refuses one whose memory sum is over limits.memory; 0 or an exit code. */
int mr_cli_load(const struct mr_cli *cli, struct mr_config **ret);
