/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that a body comes back byte for byte, and that none can do harm. The inputs are made here
 * with zlib and zstd themselves.
 *   1. every format, many sizes, several members and frames, whole and in pieces of every small
 * size;
 *   2. what must be refused: wrong format, dictionary, legacy format, bytes behind the end, too
 * large a window; every cut of every format; every changed bit gives an error or (where the format
 * has no checksum) some output, never a crash;
 *   3. bombs stop at the limit, and the limit is exact to the byte;
 *   4. the k-th allocation fails, for every k; the codec works afterwards.
 */
#include "base/codec.h"

#include "base/alloc.h"
#include "base/limits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>
#include <zlib.h>
#include <zstd.h>

enum form { GZIP, ZLIB, RAW, ZSTD, ZSTD_UNSIZED, ZSTD_SUMMED, IDENTITY, FORMS };

static const enum mr_encoding encodings[FORMS] = {
    MR_ENCODING_GZIP, MR_ENCODING_DEFLATE, MR_ENCODING_DEFLATE,  MR_ENCODING_ZSTD,
    MR_ENCODING_ZSTD, MR_ENCODING_ZSTD,    MR_ENCODING_IDENTITY,
};

static void deflate_to(struct mr_buf *buf, int window_bits, struct mr_bytes text) {
    z_stream z = {0};
    assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, window_bits, 8, Z_DEFAULT_STRATEGY), Z_OK);
    size_t bound = deflateBound(&z, text.len);
    z.next_in = (Bytef *)(uintptr_t)text.ptr;
    z.avail_in = (uInt)text.len;
    z.next_out = mr_buf_reserve(buf, bound);
    assert_non_null(z.next_out);
    z.avail_out = (uInt)bound;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    buf->len += z.total_out;
    (void)deflateEnd(&z);
}

static void zstd_to(struct mr_buf *buf, enum form form, int window_log, struct mr_bytes text) {
    ZSTD_CCtx *ctx = ZSTD_createCCtx();
    (void)ZSTD_CCtx_setParameter(ctx, ZSTD_c_compressionLevel, 1);
    (void)ZSTD_CCtx_setParameter(ctx, ZSTD_c_windowLog, window_log);
    (void)ZSTD_CCtx_setParameter(ctx, ZSTD_c_contentSizeFlag, form != ZSTD_UNSIZED);
    (void)ZSTD_CCtx_setParameter(ctx, ZSTD_c_checksumFlag, form == ZSTD_SUMMED);
    size_t bound = ZSTD_compressBound(text.len);
    uint8_t *out = mr_buf_reserve(buf, bound);
    assert_non_null(out);
    size_t len = ZSTD_compress2(ctx, out, bound, text.ptr, text.len);
    assert_false(ZSTD_isError(len));
    buf->len += len;
    (void)ZSTD_freeCCtx(ctx);
}

static void encode(struct mr_buf *buf, enum form form, struct mr_bytes text) {
    switch (form) {
    case GZIP:
        deflate_to(buf, 15 + 16, text);
        break;
    case ZLIB:
        deflate_to(buf, 15, text);
        break;
    case RAW:
        deflate_to(buf, -15, text);
        break;
    case ZSTD:
    case ZSTD_UNSIZED:
    case ZSTD_SUMMED:
        zstd_to(buf, form, 0, text);
        break;
    default:
        mr_buf_append_bytes(buf, text);
    }
}

/* Half text, half noise, so that it shrinks, but not to nothing. */
static struct mr_bytes make_text(size_t len) {
    static const char words[] =
        "{\"id\":\"e-0123456789\",\"ts\":1795326840123,\"country\":\"DE\"}\n";
    uint8_t *text = mr_alloc(len == 0 ? 1 : len);
    uint64_t seed = 42;
    for (size_t i = 0; i < len; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        text[i] = i % 8 < 2 ? (uint8_t)(seed >> 60) : (uint8_t)words[i % (sizeof words - 1)];
    }
    return mr_bytes_of(text, len);
}

static void drop_text(struct mr_bytes text) {
    mr_free((void *)(uintptr_t)text.ptr);
}

/* The input in memory of exactly its length, so that ASan sees a read behind its end. */
static enum mr_status inflate_exact(struct mr_codec *codec, enum form form, struct mr_bytes input,
                                    struct mr_buf *out) {
    struct mr_error error = {.status = MR_OK};
    uint8_t *copy = malloc(input.len == 0 ? 1 : input.len);
    if (input.len > 0) {
        memcpy(copy, input.ptr, input.len);
    }
    enum mr_status status =
        mr_codec_inflate(codec, encodings[form], mr_bytes_of(copy, input.len), 10000, out, &error);
    free(copy);
    if (status != MR_OK) {
        assert_int_equal(error.status, status);
        assert_true(error.text[0] != 0);
    } else {
        assert_true(out->cap - out->len >= MR_PADDING);
    }
    mr_buf_check(out);
    return status;
}

/* In pieces of in_piece bytes to pieces of out_piece bytes. */
static enum mr_status stream(struct mr_codec *codec, enum form form, struct mr_bytes input,
                             size_t in_piece, size_t out_piece, struct mr_buf *out) {
    enum mr_status status = mr_codec_stream_begin(codec, encodings[form]);
    for (size_t at = 0; status == MR_OK && at < input.len; at += in_piece) {
        size_t len = input.len - at < in_piece ? input.len - at : in_piece;
        struct mr_bytes piece = mr_bytes_of(input.ptr + at, len);
        size_t got = 1;
        while (status == MR_OK && got > 0) {
            uint8_t *room = mr_buf_reserve(out, out_piece);
            assert_non_null(room);
            got = 0;
            status = mr_codec_stream_next(codec, &piece, room, out_piece, &got, NULL);
            out->len += got;
        }
        assert_true(status != MR_OK || piece.len == 0);
    }
    return status == MR_OK ? mr_codec_stream_end(codec, NULL) : status;
}

static void all_forms_all_sizes(void **state) {
    struct mr_codec *codec = *state;
    static const size_t sizes[] = {0, 1, 2, 100, 4095, 4096, 65536, 65537, 300000, 3000000};
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        struct mr_bytes text = make_text(sizes[s]);
        for (enum form form = 0; form < FORMS; form++) {
            struct mr_buf in;
            struct mr_buf out;
            mr_buf_init(&in, 8 << 20);
            mr_buf_init(&out, 16 << 20);
            encode(&in, form, text);
            mr_buf_append_text(&out, "before");
            assert_int_equal(inflate_exact(codec, form, mr_buf_bytes(&in), &out), MR_OK);
            assert_int_equal(out.len, 6 + text.len);
            assert_memory_equal(out.ptr, "before", 6);
            assert_true(mr_bytes_equal(mr_bytes_of(out.ptr + 6, out.len - 6), text));
            mr_buf_clear(&out);
            assert_int_equal(stream(codec, form, mr_buf_bytes(&in), 16384, 5000, &out), MR_OK);
            assert_true(mr_bytes_equal(mr_buf_bytes(&out), text));
            mr_buf_finish(&in);
            mr_buf_finish(&out);
        }
        drop_text(text);
    }
}

static void pieces_of_every_small_size(void **state) {
    struct mr_codec *codec = *state;
    struct mr_bytes text = make_text(700);
    for (enum form form = 0; form < FORMS; form++) {
        struct mr_buf in;
        struct mr_buf out;
        mr_buf_init(&in, 8 << 20);
        mr_buf_init(&out, 8 << 20);
        encode(&in, form, text);
        for (size_t in_piece = 1; in_piece <= 24; in_piece++) {
            for (size_t out_piece = 1; out_piece <= 24; out_piece += 7) {
                mr_buf_clear(&out);
                assert_int_equal(stream(codec, form, mr_buf_bytes(&in), in_piece, out_piece, &out),
                                 MR_OK);
                assert_true(mr_bytes_equal(mr_buf_bytes(&out), text));
            }
        }
        mr_buf_finish(&in);
        mr_buf_finish(&out);
    }
    drop_text(text);
}

static void members_and_frames_follow_each_other(void **state) {
    struct mr_codec *codec = *state;
    struct mr_bytes text = make_text(1000);
    for (enum form form = 0; form < FORMS; form++) {
        bool many = encodings[form] == MR_ENCODING_GZIP || encodings[form] == MR_ENCODING_ZSTD;
        struct mr_buf in;
        struct mr_buf out;
        mr_buf_init(&in, 8 << 20);
        mr_buf_init(&out, 8 << 20);
        encode(&in, form, text);
        encode(&in, form, mr_bytes_of(NULL, 0));
        if (encodings[form] == MR_ENCODING_ZSTD) { /* skippable frames: of 3 bytes and of none */
            mr_buf_append(&in, "\x50\x2A\x4D\x18\x03\0\0\0abc\x5F\x2A\x4D\x18\0\0\0\0", 19);
        }
        encode(&in, form, text);
        enum mr_status status = inflate_exact(codec, form, mr_buf_bytes(&in), &out);
        if (form == IDENTITY || many) {
            assert_int_equal(status, MR_OK);
            assert_int_equal(out.len, 2000);
            assert_memory_equal(out.ptr + 1000, text.ptr, 1000);
            for (size_t in_piece = 1; in_piece < 20; in_piece++) {
                mr_buf_clear(&out);
                assert_int_equal(stream(codec, form, mr_buf_bytes(&in), in_piece, 100, &out),
                                 MR_OK);
                assert_int_equal(out.len, 2000);
            }
        } else {
            assert_int_equal(status, MR_INVALID);
            mr_buf_clear(&out);
            assert_int_equal(stream(codec, form, mr_buf_bytes(&in), 7, 100, &out), MR_INVALID);
        }
        mr_buf_finish(&in);
        mr_buf_finish(&out);
    }
    drop_text(text);
}

static void every_cut_and_every_tail_is_refused(void **state) {
    struct mr_codec *codec = *state;
    struct mr_bytes text = make_text(400);
    for (enum form form = 0; form < IDENTITY; form++) {
        struct mr_buf in;
        struct mr_buf out;
        mr_buf_init(&in, 8 << 20);
        mr_buf_init(&out, 8 << 20);
        encode(&in, form, text);
        for (size_t cut = 0; cut < in.len; cut++) {
            mr_buf_clear(&out);
            assert_int_equal(inflate_exact(codec, form, mr_bytes_of(in.ptr, cut), &out),
                             MR_INVALID);
            mr_buf_clear(&out);
            assert_int_equal(stream(codec, form, mr_bytes_of(in.ptr, cut), 11, 90, &out),
                             MR_INVALID);
        }
        for (int tail = 0; tail < 256; tail++) {
            struct mr_buf longer;
            mr_buf_init(&longer, 8 << 20);
            mr_buf_append_bytes(&longer, mr_buf_bytes(&in));
            mr_buf_append_char(&longer, (char)tail);
            mr_buf_clear(&out);
            assert_int_equal(inflate_exact(codec, form, mr_buf_bytes(&longer), &out), MR_INVALID);
            mr_buf_finish(&longer);
        }
        mr_buf_finish(&in);
        mr_buf_finish(&out);
    }
    drop_text(text);
}

static void every_changed_bit(void **state) {
    struct mr_codec *codec = *state;
    struct mr_bytes text = make_text(300);
    for (enum form form = 0; form < IDENTITY; form++) {
        bool summed = form == GZIP || form == ZLIB || form == ZSTD_SUMMED;
        struct mr_buf in;
        struct mr_buf out;
        mr_buf_init(&in, 8 << 20);
        mr_buf_init(&out, (1 << 20) + MR_PADDING);
        encode(&in, form, text);
        for (size_t bit = 0; bit < in.len * 8; bit++) {
            in.ptr[bit / 8] ^= (uint8_t)(1 << bit % 8);
            mr_buf_clear(&out);
            enum mr_status status = inflate_exact(codec, form, mr_buf_bytes(&in), &out);
            bool same = status == MR_OK && mr_bytes_equal(mr_buf_bytes(&out), text);
            assert_true(status != MR_OK || same || !summed);
            mr_buf_clear(&out);
            enum mr_status again = stream(codec, form, mr_buf_bytes(&in), 13, 64, &out);
            assert_int_equal(again == MR_OK, status == MR_OK); /* both ways judge alike */
            in.ptr[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        mr_buf_finish(&in);
        mr_buf_finish(&out);
    }
    drop_text(text);
}

static void other_formats_are_refused(void **state) {
    struct mr_codec *codec = *state;
    struct mr_buf out;
    mr_buf_init(&out, 1 << 20);
    const struct {
        enum form form;
        struct mr_bytes input;
    } must_refuse[] = {
        {GZIP, MR_BYTES("{\"a\":1}")},
        {GZIP, MR_BYTES("\x1F\x8B\x07\0\0\0\0\0\0\x03")}, /* method 7 */
        {GZIP, MR_BYTES("\x78\x9C\x03\0\0\0\0\x01")},     /* zlib, not gzip */
        {ZLIB, MR_BYTES("{\"a\":1}")},
        {ZLIB, MR_BYTES("x")},
        {ZLIB, MR_BYTES("\x78\xBB\0\0\0\x01\x03\0")}, /* a preset dictionary */
        {ZSTD, MR_BYTES("{\"a\":1}")},
        {ZSTD, MR_BYTES("\x1F\x8B\x08\0\0\0\0\0\0\x03\x03\0\0\0\0\0\0\0\0\0")},
        {ZSTD, MR_BYTES("\x27\xB5\x2F\xFD\0\0\0\0\0\0\0")},     /* zstd 0.7 */
        {ZSTD, MR_BYTES("\x28\xB5\x2F\xFD\x21\x07\0\x01\0\0")}, /* dictionary 7 */
        {ZSTD, MR_BYTES("\x50\x2A\x4D\x18\x03\0\0\0ab")},       /* skippable, cut */
    };
    for (size_t i = 0; i < sizeof must_refuse / sizeof must_refuse[0]; i++) {
        mr_buf_clear(&out);
        assert_int_equal(inflate_exact(codec, must_refuse[i].form, must_refuse[i].input, &out),
                         MR_INVALID);
        mr_buf_clear(&out);
        assert_int_equal(stream(codec, must_refuse[i].form, must_refuse[i].input, 3, 9, &out),
                         MR_INVALID);
    }
    mr_buf_finish(&out);
}

/* The same frame saying its size, 1000 (as two bytes less 256), beside the window: zstd itself
 * would inflate it in one go, without a window, and so without looking at its size. */
static void check_sized(struct mr_codec *codec, struct mr_bytes unsized, enum mr_status expected) {
    struct mr_buf in;
    struct mr_buf out;
    mr_buf_init(&in, 1 << 20);
    mr_buf_init(&out, 1 << 20);
    mr_buf_append(&in, unsized.ptr, 6);
    in.ptr[4] |= 0x40;
    mr_buf_append(&in, "\xE8\x02", 2);
    mr_buf_append(&in, unsized.ptr + 6, unsized.len - 6);
    assert_int_equal(ZSTD_getFrameContentSize(in.ptr, in.len), 1000);
    assert_int_equal(inflate_exact(codec, ZSTD, mr_buf_bytes(&in), &out), expected);
    mr_buf_finish(&in);
    mr_buf_finish(&out);
}

static void windows_are_bounded(void **state) {
    struct mr_codec *codec = *state;
    struct mr_bytes text = make_text(1000);
    for (int over = 0; over < 2; over++) {
        struct mr_buf in;
        struct mr_buf out;
        mr_buf_init(&in, 1 << 20);
        mr_buf_init(&out, 1 << 20);
        /* Single-segment frames shrink the window to the content, so the size is left out. A window
         * descriptor is written by hand: exponent in the upper five bits, counted from 1 KiB. */
        zstd_to(&in, ZSTD_UNSIZED, 10, text);
        assert_int_equal(in.ptr[4] & 0x20, 0);
        in.ptr[5] = (uint8_t)((MR_CODEC_WINDOW_LOG_MAX - 10 + over) << 3);
        enum mr_status expected = over ? MR_LIMIT : MR_OK;
        check_sized(codec, mr_buf_bytes(&in), expected);
        assert_int_equal(inflate_exact(codec, ZSTD_UNSIZED, mr_buf_bytes(&in), &out), expected);
        for (size_t piece = 1; piece < 8; piece++) {
            mr_buf_clear(&out);
            assert_int_equal(stream(codec, ZSTD_UNSIZED, mr_buf_bytes(&in), piece, 4096, &out),
                             expected);
        }
        mr_buf_finish(&in);
        mr_buf_finish(&out);
    }
    drop_text(text);
}

static void the_limit_is_exact(void **state) {
    struct mr_codec *codec = *state;
    static const size_t sizes[] = {1, 100, 4096, 65536, 65537, 262144};
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        struct mr_bytes text = make_text(sizes[s]);
        for (enum form form = 0; form < FORMS; form++) {
            struct mr_buf in;
            mr_buf_init(&in, 8 << 20);
            encode(&in, form, text);
            for (size_t more = 0; more < 3; more++) {
                struct mr_buf out; /* one byte too few, just enough, one to spare */
                mr_buf_init(&out, text.len + MR_PADDING - 1 + more);
                enum mr_status status = inflate_exact(codec, form, mr_buf_bytes(&in), &out);
                assert_int_equal(status, more == 0 ? MR_LIMIT : MR_OK);
                assert_true(more == 0 || mr_bytes_equal(mr_buf_bytes(&out), text));
                mr_buf_finish(&out);
            }
            struct mr_buf none;
            mr_buf_init(&none, MR_PADDING - 1);
            assert_int_equal(inflate_exact(codec, form, mr_buf_bytes(&in), &none), MR_LIMIT);
            mr_buf_finish(&none);
            mr_buf_finish(&in);
        }
        drop_text(text);
    }
}

static void bombs_stop_at_the_ratio(void **state) {
    struct mr_codec *codec = *state;
    const size_t len = 8 << 20;
    uint8_t *zeros = calloc(1, len);
    for (enum form form = 0; form < IDENTITY; form++) {
        struct mr_buf in;
        struct mr_buf out;
        struct mr_error error;
        mr_buf_init(&in, 64 << 20);
        mr_buf_init(&out, 256 << 20);
        for (int bodies = 0; bodies < (form == GZIP ? 2 : 1); bodies++) {
            encode(&in, form, mr_bytes_of(zeros, len));
        }
        assert_true(in.len < 64 << 10);
        assert_int_equal(
            mr_codec_inflate(codec, encodings[form], mr_buf_bytes(&in), 20, &out, &error),
            MR_LIMIT);
        assert_true(out.len <= in.len * 20 + 65536); /* stopped there, not after */
        assert_true(out.cap <= 4 * (in.len * 20 + 65536));
        /* A ratio of all ones does not overflow, and lets it pass. */
        mr_buf_clear(&out);
        assert_int_equal(
            mr_codec_inflate(codec, encodings[form], mr_buf_bytes(&in), UINT32_MAX, &out, &error),
            MR_OK);
        assert_int_equal(out.len % len, 0);
        mr_buf_finish(&in);
        mr_buf_finish(&out);
    }
    struct mr_buf small; /* 64 KiB of one byte pass, whatever the ratio */
    struct mr_buf out;
    mr_buf_init(&small, 1 << 20);
    mr_buf_init(&out, 1 << 20);
    encode(&small, GZIP, mr_bytes_of(zeros, 65536));
    assert_int_equal(mr_codec_inflate(codec, MR_ENCODING_GZIP, mr_buf_bytes(&small), 0, &out, NULL),
                     MR_OK);
    mr_buf_finish(&small);
    mr_buf_finish(&out);
    free(zeros);
}

/* A frame or member may say any size of itself; that only steers the first reservation. */
static void lies_about_the_size(void **state) {
    struct mr_codec *codec = *state;
    struct mr_bytes text = make_text(1000);
    struct mr_buf in;
    struct mr_buf out;
    mr_buf_init(&in, 1 << 20);
    mr_buf_init(&out, 1 << 20);
    encode(&in, GZIP, text);
    memset(in.ptr + in.len - 4, 0xFF, 4);
    assert_int_equal(inflate_exact(codec, GZIP, mr_buf_bytes(&in), &out), MR_INVALID);
    mr_buf_clear(&in);
    mr_buf_clear(&out);
    encode(&in, ZSTD, text); /* 1000: a two-byte size behind the descriptor, less 256 */
    assert_int_equal(ZSTD_getFrameContentSize(in.ptr, in.len), 1000);
    in.ptr[6] ^= 0x40;
    assert_int_not_equal(ZSTD_getFrameContentSize(in.ptr, in.len), 1000);
    assert_int_equal(inflate_exact(codec, ZSTD, mr_buf_bytes(&in), &out), MR_INVALID);
    mr_buf_finish(&in);
    mr_buf_finish(&out);
    drop_text(text);
}

static void every_allocation_may_fail(void **state) {
    (void)state;
    struct mr_bytes text = make_text(100000);
    for (enum form form = 0; form < FORMS; form++) {
        struct mr_buf in;
        mr_buf_init(&in, 8 << 20);
        encode(&in, form, text);
        bool reached_end = false;
        for (size_t nth = 1; !reached_end; nth++) {
            assert_true(nth < 50);
            struct mr_buf out;
            struct mr_codec *codec = NULL;
            mr_buf_init(&out, 8 << 20);
            mr_alloc_fail_at(nth, 0);
            enum mr_status status = mr_codec_open(&codec);
            if (status == MR_OK) {
                status = inflate_exact(codec, form, mr_buf_bytes(&in), &out);
                reached_end = status == MR_OK;
            } else {
                assert_null(codec);
            }
            mr_alloc_fail_at(0, 0);
            assert_true(status == MR_OK || status == MR_NO_MEMORY);
            if (codec != NULL && !reached_end) {
                mr_buf_clear(&out);
                assert_int_equal(inflate_exact(codec, form, mr_buf_bytes(&in), &out), MR_OK);
            }
            if (codec != NULL) {
                assert_true(mr_bytes_equal(mr_buf_bytes(&out), text));
            }
            mr_codec_close(codec);
            mr_buf_finish(&out);
        }
        mr_buf_finish(&in);
    }
    drop_text(text);
}

static int open_codec(void **state) {
    return mr_codec_open((struct mr_codec **)state) == MR_OK ? 0 : -1;
}

static int close_codec(void **state) {
    mr_codec_close(*state);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        /* one codec for all: each body finds it as the last left it */
        cmocka_unit_test(all_forms_all_sizes),
        cmocka_unit_test(pieces_of_every_small_size),
        cmocka_unit_test(members_and_frames_follow_each_other),
        cmocka_unit_test(every_cut_and_every_tail_is_refused),
        cmocka_unit_test(every_changed_bit),
        cmocka_unit_test(other_formats_are_refused),
        cmocka_unit_test(windows_are_bounded),
        cmocka_unit_test(the_limit_is_exact),
        cmocka_unit_test(bombs_stop_at_the_ratio),
        cmocka_unit_test(lies_about_the_size),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, open_codec, close_codec);
}
