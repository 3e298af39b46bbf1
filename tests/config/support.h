/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Support: what the tests of config/ share.
 */
#include "base/check.h"
#include "base/file.h"
#include "config/change.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

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
    enum mr_status status = mr_config_parse_state(mr_buf_bytes(&text), "state", &again, &error);
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

static inline bool same_bytes_inside(const struct mr_buf *text, struct mr_bytes wanted) {
    return wanted.len > 0 && memmem(text->ptr, text->len, wanted.ptr, wanted.len) != NULL;
}

/* A printed text with its first `(set)` replaced by the secret, which must be there, and nowhere else; to be freed. */
static inline struct mr_buf put_back(struct mr_buf text, struct mr_bytes secret) {
    static const char set[] = ": (set)\n";
    assert_false(same_bytes_inside(&text, secret));
    const char *at = strstr((const char *)text.ptr, set);
    assert_non_null(at);
    size_t before = (size_t)(at - (const char *)text.ptr);
    struct mr_buf whole;
    mr_buf_init(&whole, PRINT_MAX);
    mr_buf_append(&whole, text.ptr, before);
    mr_buf_printf(&whole, ": '%.*s'\n", (int)secret.len, (const char *)secret.ptr);
    mr_buf_append_text(&whole, at + sizeof set - 1);
    assert_non_null(mr_buf_reserve(&whole, 1));
    whole.ptr[whole.len] = 0;
    mr_buf_finish(&text);
    return whole;
}

/* The printed configuration, and its secrets, which are left out there: cut and filled in by hand. */
static inline struct mr_buf print_whole(const struct mr_config *c) {
    struct mr_buf text = print(c);
    if (c->cluster.secret.len > 0 && c->cluster.secret_file.len == 0) {
        text = put_back(text, c->cluster.secret);
    }
    for (uint32_t i = 0; i < c->store_count; i++) {
        if (c->stores[i].password.len > 0 && c->stores[i].password_file.len == 0) {
            text = put_back(text, c->stores[i].password);
        }
    }
    return text;
}

/* Printing, reading that, and printing again gives the same bytes; and the same state. A text that lacks secrets is
 * refused, and is the same with them. */
static inline void assert_round_trip(const struct mr_config *config) {
    struct mr_buf first = print(config);
    struct mr_buf whole = print_whole(config);
    if (!mr_bytes_equal(mr_buf_bytes(&first), mr_buf_bytes(&whole))) {
        struct mr_config *none = NULL;
        struct mr_error error = {0};
        assert_int_equal(mr_config_parse(mr_buf_bytes(&first), "f", environment, &none, &error),
                         MR_INVALID);
        assert_non_null(strstr(error.text, ": (set)` says that there is one"));
    }
    struct mr_config *again = parse((const char *)whole.ptr);
    struct mr_buf second = print(again);
    assert_string_equal((const char *)first.ptr, (const char *)second.ptr);
    assert_false(texts_differ(config, again));
    mr_config_close(state_again(config));
    mr_buf_finish(&second);
    mr_buf_finish(&whole);
    mr_buf_finish(&first);
    mr_config_close(again);
}

struct refuse {
    const char *yaml;
    const char *text;
};

static inline void refuse(const char *yaml, const char *text) {
    struct mr_config *config = NULL;
    struct mr_error error = {0};
    enum mr_status status = mr_config_parse(mr_bytes_text(yaml), "f", environment, &config, &error);
    if (status == MR_OK || strcmp(error.text, text) != 0) {
        print_error("%s\n", yaml);
    }
    assert_string_equal(status == MR_OK ? "accepted" : error.text, text);
    assert_null(config);
    bool later = strstr(text, ": known, not in this version") != NULL;
    assert_int_equal(status, later ? MR_UNSUPPORTED : MR_INVALID);
    assert_int_equal(error.status, status);
}

#define REFUSES(name)                                                                              \
    static void refuses_##name(void **state_) {                                                    \
        (void)state_;                                                                              \
        for (size_t i = 0; i < sizeof refuse_##name / sizeof refuse_##name[0]; i++) {              \
            refuse(refuse_##name[i].yaml, refuse_##name[i].text);                                  \
        }                                                                                          \
    }

/* The status of a text that is too large for a table; the error goes to ret. */
static inline enum mr_status status_of(struct mr_buf *yaml, struct mr_error *ret) {
    struct mr_config *config = NULL;
    assert_false(yaml->failed);
    enum mr_status status = mr_config_parse(mr_buf_bytes(yaml), "f", environment, &config, ret);
    if (status == MR_OK) {
        assert_round_trip(config);
        mr_config_close(config);
    }
    mr_buf_clear(yaml);
    return status;
}

static inline struct mr_config *load_example(const char *name) {
    char path[512];
    (void)snprintf(path, sizeof path, "%s/%s", MR_EXAMPLES, name);
    struct mr_config *config = NULL;
    struct mr_error error = {0};
    enum mr_status status = mr_config_load(path, NULL, &config, &error);
    assert_string_equal(error.text, "");
    assert_int_equal(status, MR_OK);
    assert_text(config->source, path);
    return config;
}

/* A directory for one test, and one file in it. */
struct place {
    char dir[64];
    char file[96];
};

static inline struct place write_file(struct mr_bytes content) {
    struct place p;
    (void)snprintf(p.dir, sizeof p.dir, "%s/millrace-config-XXXXXX",
                   getenv("TMPDIR") == NULL || strlen(getenv("TMPDIR")) > 30 ? "/tmp"
                                                                             : getenv("TMPDIR"));
    assert_non_null(mkdtemp(p.dir));
    (void)snprintf(p.file, sizeof p.file, "%s/file", p.dir);
    struct mr_file *file;
    assert_int_equal(mr_file_open(mr_disk_system(), p.file, MR_FILE_CREATE, &file), MR_OK);
    assert_int_equal(mr_file_pwrite(file, content, 0), MR_OK);
    mr_file_close(file);
    return p;
}

static inline void remove_place(const struct place *p) {
    assert_int_equal(unlink(p->file), 0);
    assert_int_equal(rmdir(p->dir), 0);
}
