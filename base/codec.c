/* SPDX-License-Identifier: Apache-2.0 */
#include "base/codec.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/limits.h"

/* For the allocator hooks and the frame header; both unchanged since zstd 1.3. */
#define ZSTD_STATIC_LINKING_ONLY
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

enum {
    WBITS_GZIP = 15 + 16,
    WBITS_ZLIB = 15,
    WBITS_RAW = -15,
    HEAD_MAX = ZSTD_FRAMEHEADERSIZE_MAX,
    ROOM_LEAST = 4 * 1024, /* smaller steps would cost more in calls than they save in memory */
    RATIO_SLACK = 64 * 1024,
    GZIP_LEN_MIN = 18,        /* header and trailer */
    ZLIB_PIECE_MAX = 1 << 30, /* zlib counts in unsigned int */
};

/*
 *              first byte              the head says what follows        end of a member or frame
 *     HEAD ----------------> (head) ----------------------------> BODY ----+--> HEAD (gzip, zstd)
 *       ^                                                                  +--> DONE (deflate)
 *       +------------------------------------------------------------------+
 *
 * The input may end in HEAD with no byte of a head, after at least one member, or in DONE.
 */
enum state { STATE_IDLE, STATE_HEAD, STATE_BODY, STATE_DONE };

struct mr_codec {
    enum state state;
    enum mr_encoding encoding;
    bool complete;          /* at least one member or frame was */
    uint8_t head[HEAD_MAX]; /* gathered when a head is cut over two pieces of input */
    size_t head_len;
    size_t head_at; /* how much of it the decoder has taken */
    z_stream zlib;
    ZSTD_DCtx *zstd;
};

static void *zlib_alloc(void *ctx, uInt count, uInt size) {
    (void)ctx;                         /* one heap for all */
    return mr_alloc_zero(count, size); /* for its check of the product */
}

static void zlib_free(void *ctx, void *ptr) {
    (void)ctx; /* one heap for all */
    mr_free(ptr);
}

static void *zstd_alloc(void *ctx, size_t size) {
    (void)ctx; /* one heap for all */
    return mr_alloc(size);
}

static void zstd_free(void *ctx, void *ptr) {
    (void)ctx; /* one heap for all */
    mr_free(ptr);
}

enum mr_status mr_codec_open(struct mr_codec **ret) {
    struct mr_codec *codec = mr_alloc_zero(1, sizeof *codec);
    if (codec == NULL) {
        return MR_NO_MEMORY;
    }
    codec->zlib.zalloc = zlib_alloc;
    codec->zlib.zfree = zlib_free;
    ZSTD_customMem memory = {.customAlloc = zstd_alloc, .customFree = zstd_free};
    codec->zstd = ZSTD_createDCtx_advanced(memory);
    if (codec->zstd == NULL) {
        goto fail;
    }
    size_t set = ZSTD_DCtx_setParameter(codec->zstd, ZSTD_d_windowLogMax, MR_CODEC_WINDOW_LOG_MAX);
    MR_ASSERT(!ZSTD_isError(set));
    int error = inflateInit2(&codec->zlib, WBITS_GZIP);
    MR_ASSERT(error == Z_OK || error == Z_MEM_ERROR);
    if (error != Z_OK) {
        goto fail;
    }
    *ret = codec;
    return MR_OK;
fail:
    mr_codec_close(codec);
    return MR_NO_MEMORY;
}

void mr_codec_close(struct mr_codec *codec) {
    if (codec == NULL) {
        return;
    }
    (void)inflateEnd(&codec->zlib);   /* fails only for a stream never begun */
    (void)ZSTD_freeDCtx(codec->zstd); /* NULL is fine */
    mr_free(codec);
}

/* RFC 1950: the method is 8, the window at most 32 KiB, and the two bytes are a multiple of 31. A
 * raw stream that begins so would have a stored block with padding bits set, which no encoder
 * writes. */
static bool is_zlib_head(const uint8_t head[2]) {
    return (head[0] & 15) == 8 && head[0] >> 4 <= 7 && (head[0] << 8 | head[1]) % 31 == 0;
}

static enum mr_status zlib_begin(struct mr_codec *codec, int window_bits) {
    int error = inflateReset2(&codec->zlib, window_bits);
    MR_ASSERT(error == Z_OK); /* it frees, and allocates nothing */
    return MR_OK;
}

/* Checked here and not left to the decoder, which lets a large window pass when it need not keep
 * one, and reads the formats of zstd before 1.0. */
static enum mr_status zstd_check_head(struct mr_codec *codec, struct mr_bytes input,
                                      size_t *ret_missing, struct mr_error *error) {
    ZSTD_frameHeader header;
    size_t need = ZSTD_getFrameHeader(&header, input.ptr, input.len);
    if (ZSTD_isError(need)) {
        return mr_error_set(error, MR_INVALID, "zstd: %s", ZSTD_getErrorName(need));
    }
    if (need > 0) {
        MR_ASSERT(need > input.len);
        *ret_missing = need - input.len;
        return MR_OK;
    }
    if (header.windowSize > UINT64_C(1) << MR_CODEC_WINDOW_LOG_MAX) {
        return mr_error_set(error, MR_LIMIT,
                            "zstd: the frame asks for a window of %llu bytes, over %u",
                            header.windowSize, 1u << MR_CODEC_WINDOW_LOG_MAX);
    }
    size_t reset = ZSTD_DCtx_reset(codec->zstd, ZSTD_reset_session_only);
    MR_ASSERT(!ZSTD_isError(reset));
    *ret_missing = 0;
    return MR_OK;
}

/* Looks at the beginning of a member or frame and makes the decoder ready for it. *ret_missing: how
 * many bytes more are needed first. */
static enum mr_status begin_body(struct mr_codec *codec, struct mr_bytes input, size_t *ret_missing,
                                 struct mr_error *error) {
    *ret_missing = 0;
    switch (codec->encoding) {
    case MR_ENCODING_IDENTITY:
        return MR_OK;
    case MR_ENCODING_GZIP:
        return zlib_begin(codec, WBITS_GZIP);
    case MR_ENCODING_DEFLATE:
        if (input.len < 2) {
            *ret_missing = 2 - input.len;
            return MR_OK;
        }
        return zlib_begin(codec, is_zlib_head(input.ptr) ? WBITS_ZLIB : WBITS_RAW);
    case MR_ENCODING_ZSTD:
        return zstd_check_head(codec, input, ret_missing, error);
    }
    MR_UNREACHABLE();
}

static void take(struct mr_bytes *input, size_t len) {
    MR_ASSERT(len <= input->len);
    if (len == 0) {
        return; /* ptr may be NULL */
    }
    *input = mr_bytes_of(input->ptr + len, input->len - len);
}

/* Goes from HEAD to BODY when enough of the input is there. A head that lies whole in the input
 * stays in it; else it is gathered, and the body begins with the gathered bytes. */
static enum mr_status read_head(struct mr_codec *codec, struct mr_bytes *input,
                                struct mr_error *error) {
    MR_ASSERT(codec->state == STATE_HEAD);
    size_t missing = 0;
    while (input->len > 0) {
        bool gathered = codec->head_len > 0;
        struct mr_bytes seen = gathered ? mr_bytes_of(codec->head, codec->head_len) : *input;
        enum mr_status status = begin_body(codec, seen, &missing, error);
        if (status != MR_OK) {
            return status;
        }
        if (missing == 0) {
            codec->state = STATE_BODY;
            return MR_OK;
        }
        size_t len = gathered && missing < input->len ? missing : input->len;
        MR_ASSERT(len <= HEAD_MAX - codec->head_len);
        memcpy(codec->head + codec->head_len, input->ptr, len);
        codec->head_len += len;
        take(input, len);
    }
    if (codec->head_len == 0) {
        return MR_OK;
    }
    /* The input ended just where the gathered head may have become whole. */
    struct mr_bytes head = mr_bytes_of(codec->head, codec->head_len);
    enum mr_status status = begin_body(codec, head, &missing, error);
    codec->state = status == MR_OK && missing == 0 ? STATE_BODY : STATE_HEAD;
    return status;
}

static void end_body(struct mr_codec *codec) {
    MR_ASSERT(codec->state == STATE_BODY);
    MR_ASSERT(codec->head_at == codec->head_len);
    codec->state = codec->encoding == MR_ENCODING_DEFLATE ? STATE_DONE : STATE_HEAD;
    codec->complete = true;
    codec->head_len = 0;
    codec->head_at = 0;
}

static uInt zlib_piece(size_t len) {
    return (uInt)(len < ZLIB_PIECE_MAX ? len : ZLIB_PIECE_MAX);
}

static const char *zlib_name(const struct mr_codec *codec) {
    return codec->encoding == MR_ENCODING_GZIP ? "gzip" : "deflate";
}

static enum mr_status zlib_step(struct mr_codec *codec, struct mr_bytes *input, uint8_t *out,
                                size_t out_cap, size_t *ret_len, bool *ret_ended,
                                struct mr_error *error) {
    z_stream *z = &codec->zlib;
    uInt in_len = zlib_piece(input->len);
    uInt out_len = zlib_piece(out_cap);
    z->next_in = (Bytef *)(uintptr_t)input->ptr; /* zlib does not write there */
    z->avail_in = in_len;
    z->next_out = out;
    z->avail_out = out_len;
    int result = inflate(z, Z_NO_FLUSH);
    MR_ASSERT(result != Z_STREAM_ERROR);
    if (result == Z_MEM_ERROR) {
        return mr_error_set(error, MR_NO_MEMORY, "%s: %s", zlib_name(codec),
                            mr_status_text(MR_NO_MEMORY));
    }
    if (result == Z_DATA_ERROR || result == Z_NEED_DICT) {
        return mr_error_set(error, MR_INVALID, "%s: %s", zlib_name(codec),
                            result == Z_NEED_DICT ? "needs a dictionary"
                            : z->msg != NULL      ? z->msg
                                                  : "bad data");
    }
    /* Z_BUF_ERROR is "nothing to do with so little", which the two lengths say as well. */
    take(input, in_len - z->avail_in);
    *ret_len = out_len - z->avail_out;
    *ret_ended = result == Z_STREAM_END;
    return MR_OK;
}

static enum mr_status zstd_step(struct mr_codec *codec, struct mr_bytes *input, uint8_t *out,
                                size_t out_cap, size_t *ret_len, bool *ret_ended,
                                struct mr_error *error) {
    ZSTD_inBuffer in = {.src = input->ptr, .size = input->len, .pos = 0};
    ZSTD_outBuffer to = {.dst = out, .size = out_cap, .pos = 0};
    size_t left = ZSTD_decompressStream(codec->zstd, &to, &in);
    if (ZSTD_isError(left)) {
        ZSTD_ErrorCode code = ZSTD_getErrorCode(left);
        enum mr_status status = code == ZSTD_error_memory_allocation               ? MR_NO_MEMORY
                                : code == ZSTD_error_frameParameter_windowTooLarge ? MR_LIMIT
                                                                                   : MR_INVALID;
        return mr_error_set(error, status, "zstd: %s", ZSTD_getErrorName(left));
    }
    take(input, in.pos);
    *ret_len = to.pos;
    *ret_ended = left == 0;
    return MR_OK;
}

static enum mr_status body_step(struct mr_codec *codec, struct mr_bytes *input, uint8_t *out,
                                size_t out_cap, size_t *ret_len, bool *ret_ended,
                                struct mr_error *error) {
    if (codec->encoding == MR_ENCODING_IDENTITY) {
        size_t len = input->len < out_cap ? input->len : out_cap;
        if (len > 0) {
            memcpy(out, input->ptr, len);
        }
        take(input, len);
        *ret_len = len;
        *ret_ended = input->len == 0;
        return MR_OK;
    }
    bool zstd = codec->encoding == MR_ENCODING_ZSTD;
    return (zstd ? zstd_step : zlib_step)(codec, input, out, out_cap, ret_len, ret_ended, error);
}

/* Feeds what is left of a gathered head first, then the input. */
static enum mr_status read_body(struct mr_codec *codec, struct mr_bytes *input, uint8_t *out,
                                size_t out_cap, size_t *ret_len, struct mr_error *error) {
    MR_ASSERT(codec->state == STATE_BODY);
    bool from_head = codec->head_at < codec->head_len;
    struct mr_bytes head =
        mr_bytes_of(codec->head + codec->head_at, codec->head_len - codec->head_at);
    bool ended = false;
    enum mr_status status =
        body_step(codec, from_head ? &head : input, out, out_cap, ret_len, &ended, error);
    if (status != MR_OK) {
        return status;
    }
    codec->head_at = codec->head_len - head.len;
    if (ended) {
        end_body(codec);
    }
    return MR_OK;
}

enum mr_status mr_codec_stream_begin(struct mr_codec *codec, enum mr_encoding encoding) {
    MR_ASSERT(encoding <= MR_ENCODING_ZSTD);
    codec->state = STATE_HEAD;
    codec->encoding = encoding;
    codec->complete =
        encoding == MR_ENCODING_IDENTITY; /* nothing at all is a whole file of nothing */
    codec->head_len = 0;
    codec->head_at = 0;
    return MR_OK;
}

enum mr_status mr_codec_stream_next(struct mr_codec *codec, struct mr_bytes *input, uint8_t *out,
                                    size_t out_cap, size_t *ret_len, struct mr_error *error) {
    MR_ASSERT(codec->state != STATE_IDLE);
    MR_ASSERT(out_cap > 0);
    size_t len = 0;
    while (len == 0) {
        size_t before = input->len + (codec->head_len - codec->head_at);
        enum mr_status status = MR_OK;
        if (codec->state == STATE_DONE && input->len > 0) {
            status = mr_error_set(error, MR_INVALID, "bytes behind the end");
        } else if (codec->state == STATE_HEAD && input->len > 0) {
            status = read_head(codec, input, error);
        }
        if (status == MR_OK && codec->state == STATE_BODY) {
            status = read_body(codec, input, out, out_cap, &len, error);
        }
        if (status != MR_OK) {
            codec->state = STATE_IDLE;
            return status;
        }
        if (len == 0 && input->len + (codec->head_len - codec->head_at) == before) {
            break;
        }
    }
    MR_ASSERT(len <= out_cap);
    *ret_len = len;
    return MR_OK;
}

enum mr_status mr_codec_stream_end(struct mr_codec *codec, struct mr_error *error) {
    MR_ASSERT(codec->state != STATE_IDLE);
    bool between =
        codec->state == STATE_DONE || (codec->state == STATE_HEAD && codec->head_len == 0);
    codec->state = STATE_IDLE;
    if (!between || !codec->complete) {
        return mr_error_set(error, MR_INVALID, "cut short");
    }
    return MR_OK;
}

/* The most that may be appended to ret. */
static size_t output_bound(const struct mr_buf *ret, size_t input_len, uint32_t ratio_max) {
    size_t by_ratio;
    if (__builtin_mul_overflow(input_len, (size_t)ratio_max, &by_ratio) ||
        __builtin_add_overflow(by_ratio, RATIO_SLACK, &by_ratio)) {
        by_ratio = SIZE_MAX;
    }
    size_t by_cap = ret->cap_max - ret->len;
    by_cap = by_cap > MR_PADDING ? by_cap - MR_PADDING : 0;
    return by_ratio < by_cap ? by_ratio : by_cap;
}

/* How much room to begin with: what the input says of itself (its first frame, its last member),
 * which may be a lie, else four times its length. The caller cuts it at the limit. */
static size_t first_room(enum mr_encoding encoding, struct mr_bytes input) {
    if (encoding == MR_ENCODING_IDENTITY) {
        return input.len;
    }
    if (encoding == MR_ENCODING_ZSTD) {
        unsigned long long size = ZSTD_getFrameContentSize(input.ptr, input.len);
        if (size != ZSTD_CONTENTSIZE_UNKNOWN && size != ZSTD_CONTENTSIZE_ERROR) {
            return size;
        }
    }
    if (encoding == MR_ENCODING_GZIP && input.len >= GZIP_LEN_MIN) {
        const uint8_t *end = input.ptr + input.len; /* ISIZE, RFC 1952 */
        return (size_t)end[-4] | (size_t)end[-3] << 8 | (size_t)end[-2] << 16 |
               (size_t)end[-1] << 24;
    }
    return input.len < SIZE_MAX / 4 ? input.len * 4 : SIZE_MAX;
}

/* Room for more output and the padding; as much of the buffer as is there, up to left. */
static size_t make_room(struct mr_buf *ret, size_t want, size_t left) {
    MR_ASSERT(left > 0);
    want = want < ROOM_LEAST ? ROOM_LEAST : want;
    want = want < left ? want : left;
    if (mr_buf_reserve(ret, want + MR_PADDING) == NULL) {
        return 0;
    }
    size_t room = ret->cap - ret->len - MR_PADDING;
    return room < left ? room : left;
}

/* Inflates until the input gives no more; MR_LIMIT when that is more than output_max. */
static enum mr_status inflate_into(struct mr_codec *codec, struct mr_bytes *input,
                                   size_t output_max, struct mr_buf *ret, struct mr_error *error) {
    size_t left = output_max;
    size_t want = first_room(codec->encoding, *input);
    while (input->len > 0 || codec->state == STATE_BODY) {
        uint8_t probe; /* beyond the limit one byte is enough to know */
        size_t room = left == 0 ? 1 : make_room(ret, want, left);
        if (room == 0) {
            return mr_error_set(error, MR_NO_MEMORY, "%s", mr_status_text(MR_NO_MEMORY));
        }
        uint8_t *out = left == 0 ? &probe : ret->ptr + ret->len;
        size_t len = 0;
        enum mr_status status = mr_codec_stream_next(codec, input, out, room, &len, error);
        if (status != MR_OK) {
            return status;
        }
        if (len == 0) {
            break;
        }
        if (left == 0) {
            return mr_error_set(error, MR_LIMIT, "the body inflates to more than %zu bytes",
                                output_max);
        }
        ret->len += len;
        left -= len;
        want = 0; /* from here on the buffer doubles when it is nearly used up */
    }
    return MR_OK;
}

enum mr_status mr_codec_inflate(struct mr_codec *codec, enum mr_encoding encoding,
                                struct mr_bytes input, uint32_t ratio_max, struct mr_buf *ret,
                                struct mr_error *error) {
    MR_ASSERT(!ret->failed);
    if (ret->cap_max - ret->len < MR_PADDING) {
        return mr_error_set(error, MR_LIMIT, "no room for an inflated body");
    }
    enum mr_status status = mr_codec_stream_begin(codec, encoding);
    MR_ASSERT(status == MR_OK);
    status = inflate_into(codec, &input, output_bound(ret, input.len, ratio_max), ret, error);
    if (status == MR_OK) {
        status = mr_codec_stream_end(codec, error);
    }
    codec->state = STATE_IDLE; /* also after an error in the middle */
    if (status == MR_OK && mr_buf_reserve(ret, MR_PADDING) == NULL) {
        status = mr_error_set(error, MR_NO_MEMORY, "%s", mr_status_text(MR_NO_MEMORY));
    }
    MR_ASSERT(status != MR_OK || (input.len == 0 && ret->cap - ret->len >= MR_PADDING));
    return status;
}
