/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Support: what the tests of config/ share.
 */
#include "base/check.h"
#include "config/change.h"

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

static inline void assert_text(struct mr_bytes found, const char *expected) {
    char copy[512];
    assert_true(found.len < sizeof copy);
    memcpy(copy, found.ptr, found.len);
    copy[found.len] = 0;
    assert_string_equal(copy, expected);
}

/* The state text, to be freed with mr_buf_finish; a NUL follows its length. */
static inline struct mr_buf state_yaml(const struct mr_config *config) {
    struct mr_buf text;
    mr_buf_init(&text, PRINT_MAX);
    mr_config_print_state(config, &text);
    assert_non_null(mr_buf_reserve(&text, 1));
    text.ptr[text.len] = 0;
    return text;
}

static inline bool texts_differ(const struct mr_config *a, const struct mr_config *b) {
    struct mr_buf text_a = state_yaml(a);
    struct mr_buf text_b = state_yaml(b);
    bool differ = !mr_bytes_equal(mr_buf_bytes(&text_a), mr_buf_bytes(&text_b));
    mr_buf_finish(&text_a);
    mr_buf_finish(&text_b);
    return differ;
}

/* What a start reads from the state text: it must give the same text again. */
static inline struct mr_config *state_again(const struct mr_config *config) {
    struct mr_buf text = state_yaml(config);
    struct mr_config *again = NULL;
    struct mr_error error = {0};
    enum mr_status status = mr_config_parse(mr_buf_bytes(&text), "state", NULL, &again, &error);
    if (status != MR_OK) {
        print_error("%s\n-> %s\n", (const char *)text.ptr, error.text);
    }
    assert_int_equal(status, MR_OK);
    struct mr_buf text_again = state_yaml(again);
    assert_string_equal((const char *)text_again.ptr, (const char *)text.ptr);
    assert_int_equal(text_again.len, text.len);
    mr_buf_finish(&text_again);
    mr_buf_finish(&text);
    return again;
}

/* Printing, reading that, and printing again gives the same bytes; and the same state. */
static inline void assert_round_trip(const struct mr_config *config) {
    struct mr_buf first = print(config);
    struct mr_config *again = parse((const char *)first.ptr);
    struct mr_buf second = print(again);
    assert_string_equal((const char *)first.ptr, (const char *)second.ptr);
    assert_false(texts_differ(config, again));
    mr_config_close(state_again(config));
    mr_buf_finish(&second);
    mr_buf_finish(&first);
    mr_config_close(again);
}
