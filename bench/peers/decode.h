/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * What peers_decode asks of simdjson: id, ts, key and value of each line of a body, as columns.
 *
 * Owner       ptr stays the caller's; [len, len + padding) must be readable and is not looked at.
 * Errors      false: a line is broken, or lacks a field.
 */
#ifdef __cplusplus
extern "C" {
#endif
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct peer_columns {
    const char **ids; /* into the body */
    const char **keys;
    uint32_t *id_lens;
    uint32_t *key_lens;
    int64_t *times;
    double *values;
    size_t cap;
    size_t count;
};

size_t peer_simdjson_padding(void);
const char *peer_simdjson_version(void); /* and the code path */
bool peer_simdjson_can_run(void);        /* built for AVX2 */
/* One document stream over the whole body. */
bool peer_simdjson_stream(const char *ptr, size_t len, struct peer_columns *columns);
/* A document for each line. */
bool peer_simdjson_lines(const char *ptr, size_t len, struct peer_columns *columns);

#ifdef __cplusplus
}
#endif
