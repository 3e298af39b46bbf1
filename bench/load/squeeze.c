/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/load/squeeze.h"

#include "base/alloc.h"
#include "base/check.h"

#include <zlib.h>
#include <zstd.h>

enum { LEVEL = 1, GZIP_WINDOW = 15 + 16, ZLIB_WINDOW = 15, MEMORY_LEVEL = 8 };

struct mr_load_squeezer {
    enum mr_encoding encoding;
    z_stream z; /* gzip, deflate */
    ZSTD_CCtx *zstd;
};

enum mr_status mr_load_squeezer_open(enum mr_encoding encoding, struct mr_load_squeezer **ret) {
    MR_ASSERT(encoding != MR_ENCODING_IDENTITY);
    struct mr_load_squeezer *s = mr_alloc_zero(1, sizeof *s);
    if (s == NULL) {
        return MR_NO_MEMORY;
    }
    s->encoding = encoding;
    bool made;
    if (encoding == MR_ENCODING_ZSTD) {
        s->zstd = ZSTD_createCCtx();
        made = s->zstd != NULL;
    } else {
        made = deflateInit2(&s->z, LEVEL, Z_DEFLATED, encoding == MR_ENCODING_GZIP ? GZIP_WINDOW : ZLIB_WINDOW,
                            MEMORY_LEVEL, Z_DEFAULT_STRATEGY) == Z_OK;
    }
    if (!made) {
        mr_free(s);
        return MR_NO_MEMORY;
    }
    *ret = s;
    return MR_OK;
}

void mr_load_squeezer_close(struct mr_load_squeezer *squeezer) {
    if (squeezer == NULL) {
        return;
    }
    if (squeezer->encoding == MR_ENCODING_ZSTD) {
        (void)ZSTD_freeCCtx(squeezer->zstd); /* has no failure but a bad pointer */
    } else {
        (void)deflateEnd(&squeezer->z); /* what was left in it is not wanted */
    }
    mr_free(squeezer);
}

enum mr_status mr_load_squeeze(struct mr_load_squeezer *squeezer, struct mr_bytes input,
                               struct mr_buf *ret) {
    bool zstd = squeezer->encoding == MR_ENCODING_ZSTD;
    size_t bound = zstd ? ZSTD_compressBound(input.len) : deflateBound(&squeezer->z, input.len);
    MR_ASSERT(bound <= UINT32_MAX && input.len <= UINT32_MAX);
    uint8_t *room = mr_buf_reserve(ret, bound);
    if (room == NULL) {
        return MR_NO_MEMORY;
    }
    size_t len;
    if (zstd) {
        len = ZSTD_compressCCtx(squeezer->zstd, room, bound, input.ptr, input.len, LEVEL);
        if (ZSTD_isError(len)) {
            return MR_NO_MEMORY; /* the only failure into enough room */
        }
    } else {
        z_stream *z = &squeezer->z;
        int reset = deflateReset(z);
        z->next_in = (Bytef *)input.ptr; /* not written to; zlib's field is not const */
        z->avail_in = (uInt)input.len;
        z->next_out = room;
        z->avail_out = (uInt)bound;
        int done = deflate(z, Z_FINISH);
        MR_ASSERT(reset == Z_OK && done == Z_STREAM_END);
        len = bound - z->avail_out;
    }
    ret->len += len;
    return MR_OK;
}
