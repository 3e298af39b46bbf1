/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Support: what the tests of config/ share.
 */
#include "base/check.h"
#include "config/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define PRINT_MAX (4u << 20)

/* As `environ` has it: texts that may be written to. */
static char env[][40] = {
    "NAME=n1", "NAMES=wrong", "EMPTY=", "A=1", "TRICK=2\nhttp: { threads: 3 }", "BINARY=\xff"};
static char *const environment[] = {env[0], env[1], env[2], env[3], env[4], env[5], NULL};

static inline struct mr_config *parse(const char *yaml) {
    struct mr_config *config = NULL;
    struct mr_error error = {0};
    enum mr_status status = mr_config_parse(mr_bytes_text(yaml), "f", environment, &config, &error);
    if (status != MR_OK) {
        print_error("%s\n-> %s\n", yaml, error.text);
    }
    assert_int_equal(status, MR_OK);
    return config;
}

/* The printed configuration, to be freed with mr_buf_finish; a NUL follows its length. */
static inline struct mr_buf print(const struct mr_config *config) {
    struct mr_buf text;
    mr_buf_init(&text, PRINT_MAX);
    mr_config_print(config, &text);
    assert_non_null(mr_buf_reserve(&text, 1));
    text.ptr[text.len] = 0;
    return text;
}

static inline struct mr_buf state(const struct mr_config *config) {
    struct mr_buf text;
    mr_buf_init(&text, PRINT_MAX);
    mr_config_state_text(config, &text);
    assert_non_null(mr_buf_reserve(&text, 1));
    text.ptr[text.len] = 0;
    return text;
}

static inline void assert_text(struct mr_bytes found, const char *expected) {
    char copy[512];
    assert_true(found.len < sizeof copy);
    memcpy(copy, found.ptr, found.len);
    copy[found.len] = 0;
    assert_string_equal(copy, expected);
}

/* Printing, reading that, and printing again gives the same bytes; and the same state. */
static inline void assert_round_trip(const struct mr_config *config) {
    struct mr_buf first = print(config);
    struct mr_config *again = parse((const char *)first.ptr);
    struct mr_buf second = print(again);
    assert_string_equal((const char *)first.ptr, (const char *)second.ptr);
    struct mr_buf state_first = state(config);
    struct mr_buf state_second = state(again);
    assert_string_equal((const char *)state_first.ptr, (const char *)state_second.ptr);
    mr_buf_finish(&state_first);
    mr_buf_finish(&state_second);
    mr_buf_finish(&second);
    mr_buf_finish(&first);
    mr_config_close(again);
}
