/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `millrace replay compare DIR`: what the rows that a replay made are against those of the live store, rule by rule.
 *
 * Compared are windows that both must have: those that the replay did not leave out, and that were final at its end.
 */
#include "base/json.h"
#include "base/time_text.h"
#include "pipeline/datadir.h"
#include "server/cli.h"
#include "server/replay_note.h"
#include "sink/results.h"
#include "sink/results_compare.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_CAP = 4096, LIMIT_DEFAULT = 10, LINE_BYTES_MAX = 256 << 20 };

struct comparing {
    bool json;
    uint64_t limit;
    uint64_t shown;
    struct mr_buf text; /* of the rule's rows */
    struct mr_json out; /* into text: an array */
};

static const char *time_text(int64_t ms, char ret[32]) {
    if (mr_time_has_text(ms)) {
        mr_time_format(ms, ret);
    } else {
        (void)snprintf(ret, 32, "%" PRId64, ms);
    }
    return ret;
}

static void add_values(struct mr_json *json, const struct mr_difference *d, uint32_t side) {
    mr_json_object_begin(json);
    for (uint32_t k = 0; k < d->column_count; k++) {
        if (d->values[side][k].len > 0) {
            mr_json_key_bytes(json, d->columns[k]);
            mr_json_raw(json, d->values[side][k]);
        }
    }
    mr_json_object_end(json);
}

static void add_json(struct comparing *c, const struct mr_difference *d) {
    static const char *const kinds[] = {"changed", "missing", "new"};
    char text[32];
    uint32_t side = d->kind == MR_DIFFERENCE_MISSING ? 0 : 1;
    mr_json_object_begin(&c->out);
    mr_json_key(&c->out, "kind");
    mr_json_text(&c->out, kinds[d->kind]);
    mr_json_key(&c->out, "window_start");
    mr_json_text(&c->out, time_text(d->window_start_ms, text));
    mr_json_key(&c->out, "window_end");
    mr_json_text(&c->out, time_text(d->window_end_ms[side], text));
    for (uint32_t i = 0; i < 2; i++) {
        if (d->kind == MR_DIFFERENCE_CHANGED || i == side) {
            mr_json_key(&c->out, i == 0 ? "before" : "after");
            add_values(&c->out, d, i);
        }
    }
    mr_json_object_end(&c->out);
}

static void add_bytes(struct mr_buf *text, struct mr_bytes bytes) {
    if (bytes.len > 0) {
        mr_buf_append_bytes(text, bytes);
    } else {
        mr_buf_append_char(text, '-');
    }
}

/* `~ 2026-11-22T05:54:00.000Z country="DE" views 3 → 4 events 3 → 4` */
static void add_line(struct comparing *c, const struct mr_difference *d) {
    static const char marks[] = {'~', '-', '+'};
    char text[32];
    mr_buf_printf(&c->text, "  %c %s", marks[d->kind], time_text(d->window_start_ms, text));
    if (d->kind == MR_DIFFERENCE_CHANGED && d->window_end_ms[0] != d->window_end_ms[1]) {
        mr_buf_printf(&c->text, " window_end %s", time_text(d->window_end_ms[0], text));
        mr_buf_printf(&c->text, " → %s", time_text(d->window_end_ms[1], text));
    }
    for (uint32_t k = 0; k < d->column_count; k++) {
        bool same = mr_bytes_equal(d->values[0][k], d->values[1][k]);
        mr_buf_append_char(&c->text, ' ');
        mr_buf_append_bytes(&c->text, d->columns[k]);
        if (d->kind != MR_DIFFERENCE_CHANGED || same) {
            mr_buf_append_char(&c->text, '=');
            add_bytes(&c->text, d->values[d->kind == MR_DIFFERENCE_MISSING ? 0 : 1][k]);
        } else {
            mr_buf_append_char(&c->text, ' ');
            add_bytes(&c->text, d->values[0][k]);
            mr_buf_append_text(&c->text, " → ");
            add_bytes(&c->text, d->values[1][k]);
        }
    }
    mr_buf_append_char(&c->text, '\n');
}

static void add_difference(void *ctx, const struct mr_difference *d) {
    struct comparing *c = ctx;
    if (c->shown == c->limit) {
        return;
    }
    c->shown++;
    if (c->json) {
        add_json(c, d);
    } else {
        add_line(c, d);
    }
}

static void print_rule(const struct comparing *c, const struct mr_replay_rule *rule,
                       const struct mr_compare_counts *n) {
    char from[32];
    char to[32];
    const char *format = c->json ? "{\"rule\":\"%s\",\"equal\":%" PRIu64 ",\"changed\":%" PRIu64 ",\"missing\":%" PRIu64
                                   ",\"new\":%" PRIu64 ",\"open\":%" PRIu64
                                 : "%s: %" PRIu64 " equal, %" PRIu64 " changed, %" PRIu64 " missing, %" PRIu64
                                   " new, %" PRIu64 " not final";
    (void)printf(format, rule->name, n->equal, n->changed, n->missing, n->added, n->open);
    if (c->json) {
        (void)fputs(",\"rows\":", stdout);
        (void)fwrite(c->text.ptr, 1, c->text.len, stdout); /* mr_cli_written tells */
        (void)fputs("}\n", stdout);
        return;
    }
    bool bounded = rule->begins_ms != INT64_MIN;
    (void)printf("; windows%s%s up to %s%s\n", bounded ? " from " : "", bounded ? time_text(rule->begins_ms, from) : "",
                 rule->final_end_ms == INT64_MIN ? "none" : time_text(rule->final_end_ms, to),
                 n->has[0] ? "" : "; the live store has no such rule");
    (void)fwrite(c->text.ptr, 1, c->text.len, stdout);
    uint64_t all = n->changed + n->missing + n->added;
    if (all > c->shown) {
        (void)printf("  … and %" PRIu64 " more (--limit)\n", all - c->shown);
    }
}

static enum mr_status compare_rule(struct comparing *c, struct mr_comparison *comparison,
                                   const struct mr_replay_rule *rule, bool all, struct mr_error *error) {
    struct mr_compare_range range = {
        .start_from_ms = rule->begins_ms, .end_to_ms = all ? INT64_MAX : rule->final_end_ms, .all = all};
    struct mr_compare_counts counts;
    c->shown = 0;
    mr_buf_clear(&c->text);
    mr_json_init(&c->out, &c->text);
    if (c->json) {
        mr_json_array_begin(&c->out);
    }
    enum mr_status status =
        mr_results_compare_rule(comparison, mr_bytes_text(rule->name), &range, add_difference, c, &counts, error);
    if (c->json) {
        mr_json_array_end(&c->out);
    }
    if (status == MR_OK && c->text.failed) {
        status = mr_error_set(error, MR_LIMIT, "too many rows to show: lower --limit");
    }
    if (status == MR_OK) {
        print_rule(c, rule, &counts);
    }
    return status;
}

/* Both stores are of one log. */
static enum mr_status match_logs(const char *live, const struct mr_replay_note *note, struct mr_error *error) {
    char wanted[20];
    struct mr_buf text;
    mr_buf_init(&text, 4096);
    (void)snprintf(wanted, sizeof wanted, "%016" PRIx64 "\n", note->incarnation);
    enum mr_status status =
        mr_results_sqlite_query(live, "SELECT value FROM millrace_meta WHERE name='incarnation'", &text, error);
    if (status == MR_OK && !mr_bytes_equal(mr_buf_bytes(&text), mr_bytes_text(wanted))) {
        status = mr_error_set(error, MR_MISMATCH, "%s is of another log than the one that was replayed", live);
    }
    mr_buf_finish(&text);
    return status;
}

static enum mr_status compare(const struct mr_cli *cli, const struct mr_replay_note *note, struct comparing *c,
                              struct mr_error *error) {
    struct mr_datadir data;
    char shadow[PATH_CAP];
    struct mr_comparison *comparison = NULL;
    struct mr_bytes path = mr_bytes_text(cli->data != NULL ? cli->data : note->data_dir);
    int len = snprintf(shadow, sizeof shadow, "%s/results.db", cli->operands[1]);
    if (len < 0 || (size_t)len >= sizeof shadow) {
        return mr_error_set(error, MR_LIMIT, "%s: too long a path", cli->operands[1]);
    }
    enum mr_status status = mr_datadir_look(mr_disk_system(), path, &data, error);
    if (status == MR_OK) {
        status = match_logs(data.results_path, note, error);
    }
    if (status == MR_OK) {
        status = mr_results_compare_open(data.results_path, shadow, &comparison, error);
    }
    for (uint32_t i = 0; status == MR_OK && i < note->rule_count; i++) {
        if (cli->rule == NULL || strcmp(cli->rule, note->rules[i].name) == 0) {
            status = compare_rule(c, comparison, &note->rules[i], cli->all, error);
        }
    }
    mr_results_compare_close(comparison);
    return status;
}

static bool has_rule(const struct mr_replay_note *note, const char *name) {
    bool has = name == NULL;
    for (uint32_t i = 0; i < note->rule_count && !has; i++) {
        has = strcmp(note->rules[i].name, name) == 0;
    }
    return has;
}

static bool parse_limit(const char *text, uint64_t *ret) {
    size_t digits = strspn(text, "0123456789");
    errno = 0;
    *ret = strtoull(text, NULL, 10);
    return digits > 0 && text[digits] == '\0' && errno == 0;
}

int mr_cli_replay_compare(const struct mr_cli *cli) {
    static struct mr_replay_note note;
    struct mr_error error;
    struct comparing c = {.json = cli->json, .limit = LIMIT_DEFAULT};
    if (cli->operand_count != 2 || (cli->limit != NULL && !parse_limit(cli->limit, &c.limit))) {
        (void)fprintf(stderr,
                      "usage: millrace replay compare DIR [--data DIR] [--rule NAME] [--limit N] [--all] [--json]\n");
        return MR_EXIT_USAGE;
    }
    enum mr_status status = mr_replay_note_read(mr_disk_system(), cli->operands[1], &note, &error);
    if (status == MR_OK && !has_rule(&note, cli->rule)) {
        (void)fprintf(stderr, "millrace: no such rule in --rule: %s\n", cli->rule);
        return MR_EXIT_USAGE;
    }
    if (status == MR_OK) {
        mr_buf_init(&c.text, LINE_BYTES_MAX);
        status = compare(cli, &note, &c, &error);
        mr_buf_finish(&c.text);
    }
    if (status != MR_OK) {
        (void)fprintf(stderr, "millrace: %s\n", error.text);
        return MR_EXIT_FAILURE;
    }
    return mr_cli_written();
}
