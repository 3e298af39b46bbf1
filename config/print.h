/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Print: where printing stands. Private to config/.
 *
 * Errors      Those of the buffer, asked once at the end.
 */
#include "config/options.h"

struct mr_print {
    const struct mr_config *config;
    struct mr_buf *out;
    uint32_t depth; /* of two spaces each */
    bool state;     /* of what is not streams and rules, names alone: mr_config_print_state */
    const struct mr_config_metric_def *metrics; /* of the rule whose metrics are printed */
    bool flow;      /* inside { }, all on one line */
    bool flow_more; /* behind the first of them */
};

/* The line or lines of one option that applies (mr_option_applies). */
void mr_print_option(struct mr_print *print, const struct mr_option *option, const void *holder);
void mr_print_scope(struct mr_print *print, enum mr_scope scope, const void *holder);
/* The beginning of a line: "  key:"; inside { } of one of its members. */
void mr_print_begin(struct mr_print *print, const char *key);
/* Its end. */
void mr_print_end(struct mr_print *print);
void mr_print_list(struct mr_print *print, const char *key, const struct mr_bytes *items,
                   uint32_t count);
/* "name:" and the scope below it. */
void mr_print_named(struct mr_print *print, enum mr_scope scope, struct mr_bytes name,
                    const void *holder);
/* As a YAML scalar that reads back the same, quoted and escaped where it must be. */
void mr_print_text(struct mr_print *print, struct mr_bytes text);
