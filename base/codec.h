/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Codec: inflates gzip, deflate (zlib, and the raw form some clients send) and zstd. The one user of
 * zlib and zstd.
 *
 * Idea        A small body must not become a large one: the output is bounded in bytes and in its ratio
 *             to the input, while inflating and not after.
 * Owner       A codec belongs to one thread and is used for many bodies; the buffers are the caller's.
 * Errors      MR_LIMIT   the output would pass ret->cap_max - MR_PADDING (cap_max includes the padding:
 *                        a limit of n bytes is a cap_max of n + MR_PADDING), or ratio_max times the
 *                        input (+ 64 KiB, so that small bodies of one repeated byte pass), or the zstd
 *                        window is over MR_CODEC_WINDOW_LOG_MAX.
 *             MR_INVALID not of the format, cut short (an empty input too), or bytes behind the end
 *                        (several gzip members and several zstd frames one after another are allowed).
 *             MR_NO_MEMORY. On any error ret holds nothing usable.
 * Cost        A codec holds about 100 KiB, and from the first body that needs it on a window of 32 KiB
 *             (gzip, deflate) or up to 8.3 MiB (zstd).
 */
#include "base/bytes.h"

enum mr_encoding { MR_ENCODING_IDENTITY, MR_ENCODING_GZIP, MR_ENCODING_DEFLATE, MR_ENCODING_ZSTD };

#define MR_CODEC_WINDOW_LOG_MAX 23 /* 8 MiB, what zstd -19 asks for */

struct mr_codec;

enum mr_status mr_codec_open(struct mr_codec **ret) MR_MUST_CHECK;
void mr_codec_close(struct mr_codec *codec);

/* Appends the inflated input to ret, and MR_PADDING unused bytes of room behind it. */
enum mr_status mr_codec_inflate(struct mr_codec *codec, enum mr_encoding encoding,
                                struct mr_bytes input, uint32_t ratio_max, struct mr_buf *ret,
                                struct mr_error *error) MR_MUST_CHECK;

/* Streaming, for files read in pieces: input is consumed from the front (*input moves on), output is
 * written to out up to out_cap (at least 1). *ret_len 0: the input is used up, more is needed; until
 * then call again, also with an empty input, for output may be left. No bound on the output but the
 * caller's. After an error the stream is over; begin starts anew, also in the middle of another. */
enum mr_status mr_codec_stream_begin(struct mr_codec *codec, enum mr_encoding encoding) MR_MUST_CHECK;
enum mr_status mr_codec_stream_next(struct mr_codec *codec, struct mr_bytes *input, uint8_t *out,
                                    size_t out_cap, size_t *ret_len,
                                    struct mr_error *error) MR_MUST_CHECK;
/* At the end of the input: MR_OK when the last member or frame is complete, else MR_INVALID. */
enum mr_status mr_codec_stream_end(struct mr_codec *codec, struct mr_error *error) MR_MUST_CHECK;
