/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Numbered: names of files that differ by a number, as in dir/part-0000000000000017.
 *
 * Idea        One number has one name: a name is ours when writing its number gives it again.
 */
#include "base/status.h"

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MR_NUMBERED_PATH_MAX 4096 /* as Linux */
#define MR_NUMBERED_NAME_MAX 48

static inline void mr_numbered_name(const char *kind, uint64_t number,
                                    char ret[MR_NUMBERED_NAME_MAX]) {
    (void)snprintf(ret, MR_NUMBERED_NAME_MAX, "%s-%016" PRIu64, kind, number);
}

/* MR_LIMIT when it is too long. */
static inline enum mr_status mr_numbered_path(const char *dir, const char *kind, uint64_t number,
                                              char ret[MR_NUMBERED_PATH_MAX]) {
    char name[MR_NUMBERED_NAME_MAX];
    mr_numbered_name(kind, number, name);
    int len = snprintf(ret, MR_NUMBERED_PATH_MAX, "%s/%s", dir, name);
    return len > 0 && len < MR_NUMBERED_PATH_MAX ? MR_OK : MR_LIMIT;
}

static inline bool mr_numbered_parse(const char *name, const char *kind, uint64_t *ret) {
    char again[MR_NUMBERED_NAME_MAX];
    size_t len = strlen(kind);
    if (strncmp(name, kind, len) != 0 || name[len] != '-') {
        return false;
    }
    uint64_t number = strtoull(name + len + 1, NULL, 10);
    mr_numbered_name(kind, number, again);
    *ret = number;
    return strcmp(name, again) == 0;
}
