/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Help: the option table for people, as text for a terminal or as markdown for docs/CONFIG.md.
 */
#include "base/check.h"
#include "config/options.h"

enum { VALUES_MAX = 256 };

static void append_default(struct mr_buf *ret, const struct mr_option *o, const char *needed) {
    if (o->default_text == MR_NEEDED) {
        mr_buf_append_text(ret, needed);
    } else {
        mr_buf_append_text(ret, o->default_text);
    }
}

/* A column of a markdown table ends at a |. */
static void append_cell(struct mr_buf *ret, struct mr_bytes text) {
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] == '|') {
            mr_buf_append_char(ret, '\\');
        }
        mr_buf_append_char(ret, (char)text.ptr[i]);
    }
}

static void option_markdown(struct mr_buf *ret, const struct mr_option *o, struct mr_bytes values) {
    mr_buf_printf(ret, "| `%s` | ", o->key);
    append_cell(ret, values);
    mr_buf_append_text(ret, " | ");
    bool has_default = o->default_text != MR_NEEDED && o->default_text[0] != 0;
    mr_buf_append_text(ret, has_default ? "`" : "");
    append_default(ret, o, "needed");
    mr_buf_append_text(ret, has_default ? "`" : "");
    mr_buf_append_text(ret, " | ");
    append_cell(ret, mr_bytes_text(o->doc));
    mr_buf_append_text(ret, " |\n");
}

static void option_text(struct mr_buf *ret, const struct mr_option *o, struct mr_bytes values) {
    mr_buf_printf(ret, "  %-24s %s\n  %-24s ", o->key, o->doc, "");
    mr_buf_append_bytes(ret, values);
    if (o->default_text == MR_NEEDED || o->default_text[0] != 0) {
        mr_buf_append_text(ret, o->default_text == MR_NEEDED ? "; " : "; default ");
        append_default(ret, o, "needed");
    }
    mr_buf_append_char(ret, '\n');
}

static void scope_later(struct mr_buf *ret, enum mr_scope scope, bool markdown) {
    bool first = true;
    for (const struct mr_option *o = mr_option_next(scope, NULL); o != NULL;
         o = mr_option_next(scope, o)) {
        if (o->type == MR_OPTION_LATER) {
            mr_buf_append_text(ret, !first     ? ", "
                                    : markdown ? "\nKnown, not in this version: "
                                               : "  known, not in this version: ");
            mr_buf_printf(ret, markdown ? "`%s`" : "%s", o->key);
            first = false;
        }
    }
    if (!first) {
        mr_buf_append_text(ret, markdown ? ".\n" : "\n");
    }
}

static void scope_help(struct mr_buf *ret, enum mr_scope scope, bool markdown,
                       struct mr_buf *values) {
    const char *where = mr_scope_where(scope);
    const char *title = *where == 0 ? "the file" : where;
    if (markdown) {
        mr_buf_printf(ret, *where == 0 ? "\n## The file\n\n" : "\n## `%s`\n\n", where);
        mr_buf_append_text(ret, "| key | values | default | meaning |\n|---|---|---|---|\n");
    } else {
        mr_buf_printf(ret, "\n%s\n", title);
    }
    for (const struct mr_option *o = mr_option_next(scope, NULL); o != NULL;
         o = mr_option_next(scope, o)) {
        if (o->type == MR_OPTION_LATER) {
            continue;
        }
        mr_buf_clear(values);
        mr_option_show_values(o, values);
        if (markdown) {
            option_markdown(ret, o, mr_buf_bytes(values));
        } else {
            option_text(ret, o, mr_buf_bytes(values));
        }
    }
    scope_later(ret, scope, markdown);
}

static const char intro_markdown[] =
    "# Configuration\n\n"
    "Made from the option table (`config/options.h`); do not edit.\n\n"
    "One YAML file; without one, `config/examples/default.yaml` is built in. An unknown key is an "
    "error.\n"
    "Durations: `200ms 10s 5m 24h 7d 1h30m`. Sizes: `64KiB`, `MiB`, `GiB`, `TiB` (of 1,024), `KB`, "
    "`MB`,\n"
    "`GB`, `TB` (of 1,000), or bytes. Fields: dotted paths such as `data.order.id`. In values "
    "`${VAR}`,\n"
    "`${VAR:-default}` and `${VAR:?message}` are the environment's, and `$$` is a dollar.\n"
    "Expressions such as `price > 0` are texts, too: with a comma, bracket, quote, `#` or `: ` in them put them in\n"
    "quotes.\n";

static const char intro_text[] = "One YAML file; without one, one stream `events` and one rule "
                                 "that counts by `type` each minute.\n"
                                 "Durations: 200ms 10s 5m 24h 7d 1h30m. Sizes: 64KiB, MiB, GiB, "
                                 "TiB (of 1,024), KB, MB, GB, TB (of\n"
                                 "1,000), or bytes. Fields: dotted paths such as data.order.id. In "
                                 "values ${VAR}, ${VAR:-default} and\n"
                                 "${VAR:?message} are the environment's, and $$ is a dollar. "
                                 "Expressions such as price > 0 are texts, too:\n"
                                 "with a comma, bracket, quote, # or `: ` in them put them in "
                                 "quotes.\n";

void mr_config_help(struct mr_buf *ret, bool markdown) {
    struct mr_buf values;
    mr_buf_init(&values, VALUES_MAX);
    mr_buf_append_text(ret, markdown ? intro_markdown : intro_text);
    for (enum mr_scope scope = MR_SCOPE_ROOT; scope < MR_SCOPE_COUNT; scope++) {
        scope_help(ret, scope, markdown, &values);
    }
    ret->failed = ret->failed || values.failed;
    mr_buf_finish(&values);
}
