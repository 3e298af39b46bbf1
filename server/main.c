/* SPDX-License-Identifier: Apache-2.0 */
/*
 * millrace: reads the command line and calls the subcommand.
 */
#include "base/clock.h"
#include "base/report.h"
#include "server/child.h"
#include "server/cli.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char usage[] =
    "millrace counts every event once: it removes duplicates from events sent over HTTP,\n"
    "aggregates them in event-time windows and answers queries.\n"
    "\n"
    "usage:\n"
    "  millrace [serve] [-c FILE]            start the server (without FILE: built-in defaults,\n"
    "                                        http://127.0.0.1:8080, data in ./millrace-data)\n"
    "  millrace check [FILE]                 check FILE, print the memory sum and the effective file\n"
    "  millrace run [-c FILE] [INPUT…]       the same over files (plain, .gz, .zst) or - for standard\n"
    "                                        input; prints the final results\n"
    "      --csv                             as CSV instead of NDJSON (one rule)\n"
    "      --rule NAME                       of this rule only\n"
    "      --stream NAME                     of which stream the input is (where there are several);\n"
    "                                        or STREAM=INPUT for each\n"
    "      --into FILE                       keep the results in a SQLite file as well\n"
    "      --sinks                           and carry them to the rules' sinks, over what is there\n"
    "      --json                            the summary as one JSON line on stderr\n"
    "  millrace log list|dump DIR [--json]   look at an event log (DIR: millrace-data/log)\n"
    "  millrace log repair DIR [LSN]         move what is damaged out of the way; from LSN on it is needed\n"
    "  millrace replay -c FILE --into DIR    the retained log once more, under FILE's rules, into DIR/results.db;\n"
    "                                        the server whose log it is may go on\n"
    "      --data DIR                        the data directory (without it: FILE's node.data_dir)\n"
    "      --from TIME                       leave out windows that begin before\n"
    "      --again                           replace what an earlier replay made in DIR\n"
    "      --json                            the counts as one JSON line\n"
    "  millrace replay compare DIR           rows of the live store against those in DIR, rule by rule\n"
    "      --data DIR, --rule NAME           of this data directory; this rule only\n"
    "      --limit N, --all, --json          show N rows a rule (10); also rows that are not final; JSON lines\n"
    "  millrace replay promote DIR -c FILE   (server stopped) what DIR has replaces the live rows and windows\n"
    "  millrace replay cancel --data DIR     forget what the next start was to promote (POST /v1/replays/…/promote)\n"
    "  millrace help config [markdown]       every configuration key, its default and its bounds\n"
    "  millrace version\n"
    "\n"
    "exit codes: 0 fine, 1 failure, 2 usage, 78 bad configuration\n";

static int fail_usage(const char *what, const char *which) {
    (void)fprintf(stderr, "millrace: %s `%s`\nTry `millrace --help`.\n", what, which);
    return MR_EXIT_USAGE;
}

static int print_usage(void) {
    (void)fputs(usage, stdout);
    return mr_cli_written();
}

static int help(const struct mr_cli *cli) {
    bool config = cli->operand_count > 0 && strcmp(cli->operands[0], "config") == 0;
    bool markdown = cli->operand_count > 1 && strcmp(cli->operands[1], "markdown") == 0;
    int known = config + (config && markdown);
    if (cli->operand_count > known) {
        return fail_usage("no help for", cli->operands[known]);
    }
    if (!config) {
        return print_usage();
    }
    struct mr_buf text;
    mr_buf_init(&text, 1 << 20);
    mr_config_help(&text, markdown);
    (void)fwrite(text.ptr, 1, text.len, stdout); /* mr_cli_written tells */
    mr_buf_finish(&text);
    return mr_cli_written();
}

struct command {
    const char *name;
    int (*run)(const struct mr_cli *cli);
    bool takes_operands;
};

static const struct command commands[] = {
    {"serve", mr_cli_serve, false}, {"check", mr_cli_check, true}, {"run", mr_cli_run, true},
    {"log", mr_cli_log, true},      {"replay", mr_cli_replay, true}, {"version", mr_cli_version, false},
    {"help", help, true},
};

static const struct command *find_command(const char *word) {
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        if (strcmp(commands[i].name, word) == 0) {
            return &commands[i];
        }
    }
    return NULL;
}

/* An option with a value: `-c FILE` or `--rule=NAME`. Returns whether argv[*i] was this option. */
static bool take_value(char **argv, int argc, int *i, const char *option, const char **ret) {
    size_t len = strlen(option);
    if (strcmp(argv[*i], option) == 0 && *i + 1 < argc) {
        *ret = argv[++*i];
        return true;
    }
    if (strncmp(argv[*i], option, len) == 0 && argv[*i][len] == '=') {
        *ret = argv[*i] + len + 1;
        return true;
    }
    return false;
}

static bool take_option(char **argv, int argc, int *i, struct mr_cli *cli) {
    if (take_value(argv, argc, i, "-c", &cli->config_file) ||
        take_value(argv, argc, i, "--config", &cli->config_file) ||
        take_value(argv, argc, i, "--rule", &cli->rule) ||
        take_value(argv, argc, i, "--stream", &cli->stream) ||
        take_value(argv, argc, i, "--into", &cli->into) ||
        take_value(argv, argc, i, "--from", &cli->from) ||
        take_value(argv, argc, i, "--data", &cli->data) ||
        take_value(argv, argc, i, "--limit", &cli->limit) ||
        take_value(argv, argc, i, "--parent", &cli->parent)) {
        return true;
    }
    const struct {
        const char *name;
        bool *set;
    } flags[] = {
        {"--json", &cli->json}, {"--csv", &cli->csv},     {"--sinks", &cli->sinks},
        {"--all", &cli->all},   {"--again", &cli->again},
    };
    for (size_t k = 0; k < sizeof flags / sizeof flags[0]; k++) {
        if (strcmp(argv[*i], flags[k].name) == 0) {
            *flags[k].set = true;
            return true;
        }
    }
    return false;
}

static int dispatch(int argc, char **argv, struct mr_cli *cli) {
    const struct command *command = &commands[0];
    int i = 1;
    if (argc > 1 && argv[1][0] != '-') {
        command = find_command(argv[1]);
        if (command == NULL) {
            return fail_usage("unknown command", argv[1]);
        }
        i = 2;
    }
    for (; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            return print_usage();
        }
        if (strcmp(argv[i], "--version") == 0) {
            return mr_cli_version(cli);
        }
        if (take_option(argv, argc, &i, cli)) {
            continue;
        }
        if (argv[i][0] == '-' && argv[i][1] != '\0') {
            return fail_usage("unknown option or missing value", argv[i]);
        }
        if (!command->takes_operands || cli->operand_count == MR_CLI_OPERANDS_MAX) {
            return fail_usage("unexpected argument", argv[i]);
        }
        cli->operands[cli->operand_count++] = argv[i];
    }
    if (cli->parent != NULL && !mr_child_follow(cli->parent)) {
        return fail_usage("no process that started this one:", cli->parent);
    }
    return command->run(cli);
}

int main(int argc, char **argv) {
    static const char *operands[MR_CLI_OPERANDS_MAX];
    struct mr_cli cli = {.operands = operands};
    (void)signal(SIGPIPE, SIG_IGN); /* a client that goes away is an error code, not the end */
    mr_report_configure(STDERR_FILENO, MR_LEVEL_INFO, mr_clock_system());
    return dispatch(argc, argv, &cli);
}
