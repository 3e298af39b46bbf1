/* SPDX-License-Identifier: Apache-2.0 */
#include "server/cli.h"

#include "base/check.h"
#include "base/file.h"
#include "log/log.h"
#include "pipeline/plan.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MEMORY_LINES = 2 * MR_STREAMS_MAX + MR_RULES_MAX + MR_SINKS_MAX + MR_LOOKUPS_MAX + 16, PRINT_MAX = 16 << 20, PATH_TEXT_MAX = 4096 };

int mr_cli_failed(const struct mr_error *error) {
    (void)fprintf(stderr, "millrace: %s\n", error->text);
    bool config = error->status == MR_INVALID || error->status == MR_UNSUPPORTED ||
                  error->status == MR_MISMATCH || error->status == MR_FULL || error->status == MR_NOT_FOUND;
    return config ? MR_EXIT_CONFIG : MR_EXIT_FAILURE;
}

int mr_cli_written(void) {
    if (fflush(stdout) == 0 && ferror(stdout) == 0) {
        return MR_EXIT_OK;
    }
    (void)fprintf(stderr, "millrace: cannot write to standard output\n");
    return MR_EXIT_FAILURE;
}

static uint64_t memory_sum(const struct mr_config *config, struct mr_plan_memory *lines,
                           uint32_t *ret_count) {
    *ret_count = mr_plan_memory_sum(config, lines, MEMORY_LINES);
    uint64_t sum = 0;
    for (uint32_t i = 0; i < *ret_count; i++) {
        sum += lines[i].bytes;
    }
    return sum;
}

static void print_memory(const struct mr_plan_memory *lines, uint32_t count, uint64_t sum,
                         uint64_t limit) {
    for (uint32_t i = 0; i < count; i++) {
        (void)fprintf(stderr, "  %10.1f MiB  %s\n", (double)lines[i].bytes / (1 << 20),
                      lines[i].holder);
    }
    (void)fprintf(stderr, "  %10.1f MiB  in all, of limits.memory %.1f MiB\n", (double)sum / (1 << 20),
                  (double)limit / (1 << 20));
}

int mr_cli_load(const struct mr_cli *cli, struct mr_config **ret) {
    struct mr_error error;
    enum mr_status status = mr_config_load(cli->config_file, environ, ret, &error);
    if (status != MR_OK) {
        (void)mr_cli_failed(&error);
        return MR_EXIT_CONFIG;
    }
    static struct mr_plan_memory lines[MEMORY_LINES];
    uint32_t count;
    uint64_t sum = memory_sum(*ret, lines, &count);
    uint64_t limit = (*ret)->limits.memory_bytes;
    if (sum > limit) {
        (void)fprintf(stderr, "millrace: this configuration may need more memory than limits.memory:\n");
        print_memory(lines, count, sum, limit);
        (void)fprintf(stderr, "Raise limits.memory, or lower dedup.ids, groups.bytes or limits.in_flight.\n");
        mr_config_close(*ret);
        return MR_EXIT_CONFIG;
    }
    return MR_EXIT_OK;
}

/* A name of a field may be any text; one that reads like an expression was probably meant to be one. */
static void note_field(struct mr_bytes rule, struct mr_bytes field) {
    for (size_t i = 0; i < field.len; i++) {
        if (field.ptr[i] != 0 && strchr("()*+/<>=!&|?", field.ptr[i]) != NULL) {
            (void)fprintf(stderr,
                          "note: rule %.*s takes `%.*s` as the name of a field; an expression goes into the stream's "
                          "`derive`, and its name here\n",
                          (int)rule.len, (const char *)rule.ptr, (int)field.len, (const char *)field.ptr);
            return;
        }
    }
}

static void print_notes(const struct mr_config *config) {
    for (uint32_t i = 0; i < config->rule_count; i++) {
        const struct mr_config_rule *r = &config->rules[i];
        for (uint32_t k = 0; k < r->group_by_count; k++) {
            note_field(r->name, r->group_by[k]);
        }
        for (uint32_t k = 0; k < r->metric_count; k++) {
            note_field(r->name, r->metrics[k].field);
        }
    }
}

int mr_cli_check(const struct mr_cli *given) {
    struct mr_cli cli = *given;
    if (cli.operand_count > 1 || (cli.operand_count == 1 && cli.config_file != NULL)) {
        (void)fprintf(stderr, "usage: millrace check [FILE]\n");
        return MR_EXIT_USAGE;
    }
    if (cli.operand_count == 1) {
        cli.config_file = cli.operands[0]; /* `check FILE` as well as `check -c FILE` */
    }
    struct mr_config *config = NULL;
    int code = mr_cli_load(&cli, &config);
    if (code != MR_EXIT_OK) {
        return code;
    }
    struct mr_error error;
    struct mr_plan *plan = NULL;
    struct mr_hash_key key = {{0}}; /* only the shapes are looked at */
    if (mr_plan_open(config, &key, false, &plan, &error) != MR_OK) {
        mr_config_close(config);
        return mr_cli_failed(&error);
    }
    mr_plan_close(plan);
    static struct mr_plan_memory lines[MEMORY_LINES];
    uint32_t count;
    uint64_t sum = memory_sum(config, lines, &count);
    (void)fprintf(stderr, "%.*s is fine. Memory at most:\n", (int)config->source.len,
                  (const char *)config->source.ptr);
    print_memory(lines, count, sum, config->limits.memory_bytes);
    print_notes(config);
    struct mr_buf text;
    mr_buf_init(&text, PRINT_MAX);
    mr_config_print(config, &text);
    (void)fwrite(text.ptr, 1, text.len, stdout);
    mr_buf_finish(&text);
    mr_config_close(config);
    return mr_cli_written();
}

struct found {
    uint32_t segments;
    bool log; /* a folder of this name: it is a data directory */
};

static enum mr_status on_name(void *ctx, const char *name) {
    struct found *found = ctx;
    size_t len = strlen(name);
    found->segments += len > 4 && strcmp(name + len - 4, ".log") == 0;
    found->log = found->log || strcmp(name, "log") == 0;
    return MR_OK;
}

/* The folder of segments: dir, or the log of the data directory dir. Anything else would be shown as an empty log. */
static enum mr_status find_log(const char *dir, char *ret, size_t cap, struct mr_error *error) {
    struct found found = {0};
    enum mr_status status = mr_disk_list(mr_disk_system(), dir, on_name, &found);
    bool inner = status == MR_OK && found.segments == 0 && found.log;
    int len = snprintf(ret, cap, "%s%s", dir, inner ? "/log" : "");
    if (len < 0 || (size_t)len >= cap) {
        return mr_error_set(error, MR_LIMIT, "%s: too long a path", dir);
    }
    if (inner) {
        found.segments = 0;
        status = mr_disk_list(mr_disk_system(), ret, on_name, &found);
    }
    if (status != MR_OK) {
        return mr_error_set(error, status, "%s: cannot list: %s", ret, mr_status_text(status));
    }
    return found.segments > 0 ? MR_OK : mr_error_set(error, MR_NOT_FOUND, "%s: no segment of a log", ret);
}

/* Locks the LOCK file of the folder, as a server does. MR_NOT_FOUND: it has none. */
static enum mr_status lock_in(const char *dir, const char *name, struct mr_file **ret,
                              struct mr_error *error) {
    char path[PATH_TEXT_MAX];
    int len = snprintf(path, sizeof path, "%s/%s", dir, name);
    if (len < 0 || (size_t)len >= sizeof path) {
        return mr_error_set(error, MR_LIMIT, "%s: too long a path", dir);
    }
    enum mr_status status = mr_file_open(mr_disk_system(), path, MR_FILE_WRITE, ret);
    if (status == MR_NOT_FOUND) {
        return status;
    }
    if (status == MR_OK) {
        status = mr_file_lock(*ret);
    }
    if (status == MR_BUSY) {
        return mr_error_set(error, status, "%s is in use by another millrace process: stop it first",
                            dir);
    }
    return status == MR_OK ? MR_OK
                           : mr_error_set(error, status, "cannot lock %s: %s", path,
                                          mr_status_text(status));
}

/* The lock of the data directory that the log is in, when it is in one: the folder that was named, or the one above. */
static enum mr_status lock_log(const char *named, const char *dir, struct mr_file **ret,
                               struct mr_error *error) {
    enum mr_status status = lock_in(named, "LOCK", ret, error);
    if (status == MR_NOT_FOUND) {
        status = lock_in(dir, "../LOCK", ret, error);
    }
    return status == MR_NOT_FOUND ? MR_OK : status;
}

/* A number from 1; 0 for anything else. */
static uint64_t parse_lsn(const char *text) {
    size_t digits = strspn(text, "0123456789");
    errno = 0;
    uint64_t value = strtoull(text, NULL, 10);
    return digits > 0 && text[digits] == '\0' && errno == 0 && value <= INT64_MAX ? value : 0;
}

static int log_repair(const struct mr_cli *cli) {
    uint64_t needed_lsn = cli->operand_count == 3 ? parse_lsn(cli->operands[2]) : 0;
    if (cli->operand_count < 2 || cli->operand_count > 3 ||
        (cli->operand_count == 3 && needed_lsn == 0)) {
        (void)fprintf(stderr, "usage: millrace log repair DIR [LSN] [--json]\n");
        return MR_EXIT_USAGE;
    }
    struct mr_error error;
    char dir[PATH_TEXT_MAX];
    struct mr_file *lock = NULL;
    struct mr_log_repair repair;
    enum mr_status status = find_log(cli->operands[1], dir, sizeof dir, &error);
    if (status == MR_OK) {
        status = lock_log(cli->operands[1], dir, &lock, &error);
    }
    if (status == MR_OK) {
        status = mr_log_repair(mr_disk_system(), dir, needed_lsn, cli->json, stdout, &repair, &error);
    }
    mr_file_close(lock);
    if (status != MR_OK) {
        (void)fprintf(stderr, "millrace: %s\n", error.text);
        return MR_EXIT_FAILURE;
    }
    return mr_cli_written();
}

int mr_cli_log(const struct mr_cli *cli) {
    const char *verb = cli->operand_count > 0 ? cli->operands[0] : "";
    if (strcmp(verb, "repair") == 0) {
        return log_repair(cli);
    }
    bool list = strcmp(verb, "list") == 0;
    if (cli->operand_count != 2 || (!list && strcmp(verb, "dump") != 0)) {
        (void)fprintf(stderr, "usage: millrace log list|dump|repair DIR [--json]\n");
        return MR_EXIT_USAGE;
    }
    struct mr_error error;
    char dir[PATH_TEXT_MAX];
    enum mr_status (*show)(struct mr_disk *, const char *, bool, void *, struct mr_error *) =
        list ? mr_log_list : mr_log_dump;
    if (find_log(cli->operands[1], dir, sizeof dir, &error) != MR_OK ||
        show(mr_disk_system(), dir, cli->json, stdout, &error) != MR_OK) {
        (void)fprintf(stderr, "millrace: %s\n", error.text);
        return MR_EXIT_FAILURE;
    }
    return mr_cli_written();
}

int mr_cli_version(const struct mr_cli *cli) {
    if (cli->json) {
        (void)printf("{\"name\":\"millrace\",\"version\":\"%s\"}\n", MR_VERSION);
    } else {
        (void)printf("millrace %s\n", MR_VERSION);
    }
    return mr_cli_written();
}
