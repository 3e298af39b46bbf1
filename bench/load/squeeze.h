/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Squeeze: compresses request bodies (the server's side, inflating, is base/codec). The one user of zlib and zstd here.
 *
 * Idea        Fastest levels: what is measured is the server, which inflates.
 * Owner       A squeezer belongs to one thread and is used for many bodies.
 * Errors      MR_NO_MEMORY.
 */
#include "base/codec.h"

struct mr_load_squeezer;

/* GZIP, DEFLATE or ZSTD. */
enum mr_status mr_load_squeezer_open(enum mr_encoding encoding,
                                     struct mr_load_squeezer **ret) MR_MUST_CHECK;
void mr_load_squeezer_close(struct mr_load_squeezer *squeezer); /* NULL is fine */
/* Appends the compressed input to ret. */
enum mr_status mr_load_squeeze(struct mr_load_squeezer *squeezer, struct mr_bytes input,
                               struct mr_buf *ret) MR_MUST_CHECK;
