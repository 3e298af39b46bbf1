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
};

/* The line or lines of one option that applies (mr_option_applies). */
void mr_print_option(struct mr_print *print, const struct mr_option *option, const void *holder);
void mr_print_scope(struct mr_print *print, enum mr_scope scope, const void *holder);
/* As a YAML scalar that reads back the same, quoted and escaped where it must be. */
void mr_print_text(struct mr_print *print, struct mr_bytes text);
