/* SPDX-License-Identifier: Apache-2.0 */
#include "base/dead.h"

#include "base/check.h"

enum { HEADER = 8 };

static const char *const reasons[MR_DEAD_REASON_COUNT] = {
#define X(name, text) [MR_DEAD_##name] = text,
    MR_DEAD_REASON_TABLE(X)
#undef X
};

const char *mr_dead_reason_text(enum mr_dead_reason reason) {
    MR_ASSERT((unsigned)reason < MR_DEAD_REASON_COUNT);
    return reasons[reason];
}

size_t mr_dead_begin(struct mr_buf *buf, uint32_t stream, enum mr_dead_reason reason) {
    MR_ASSERT(stream <= UINT16_MAX);
    size_t at = buf->len;
    uint16_t stream16 = (uint16_t)stream;
    uint8_t header[HEADER] = {0};
    memcpy(header + 4, &stream16, sizeof stream16);
    header[6] = (uint8_t)reason;
    mr_buf_append(buf, header, HEADER);
    return at;
}

void mr_dead_end(struct mr_buf *buf, size_t at) {
    if (buf->failed) {
        return;
    }
    MR_ASSERT(buf->len >= at + HEADER);
    uint32_t len = (uint32_t)(buf->len - at - HEADER);
    memcpy(buf->ptr + at, &len, sizeof len);
}

bool mr_dead_next(struct mr_bytes *rest, struct mr_dead *ret) {
    if (rest->len < HEADER) {
        return false;
    }
    uint32_t len;
    uint16_t stream;
    memcpy(&len, rest->ptr, sizeof len);
    memcpy(&stream, rest->ptr + 4, sizeof stream);
    uint8_t reason = rest->ptr[6];
    if (len > rest->len - HEADER || reason >= MR_DEAD_REASON_COUNT) {
        return false;
    }
    *ret = (struct mr_dead){stream, reason, mr_bytes_of(rest->ptr + HEADER, len)};
    *rest = mr_bytes_of(rest->ptr + HEADER + len, rest->len - HEADER - len);
    return true;
}

/* In what we write, nothing that others chose stands before it. */
struct mr_bytes mr_dead_stream(const struct mr_dead *dead) {
    static const char key[] = "\"stream\":\"";
    const uint8_t *at = memmem(dead->json.ptr, dead->json.len, key, sizeof key - 1);
    if (at == NULL) {
        return mr_bytes_of(NULL, 0);
    }
    at += sizeof key - 1;
    size_t left = dead->json.len - (size_t)(at - dead->json.ptr);
    const uint8_t *end = memchr(at, '"', left); /* names have no quotes in them */
    return end == NULL ? mr_bytes_of(NULL, 0) : mr_bytes_of(at, (size_t)(end - at));
}

static const uint8_t *behind(const struct mr_dead *dead, const char *key) {
    const uint8_t *at = memmem(dead->json.ptr, dead->json.len, key, strlen(key));
    return at == NULL ? NULL : at + strlen(key);
}

/* A whole number; something stands behind it, the object's end at least. */
static bool read_number(const struct mr_dead *dead, const uint8_t *at, uint64_t *ret) {
    const uint8_t *end = dead->json.ptr + dead->json.len;
    uint64_t value = 0;
    const uint8_t *first = at;
    while (at != NULL && at < end && *at >= '0' && *at <= '9') {
        if (value > (UINT64_MAX - 9) / 10) {
            return false;
        }
        value = value * 10 + (uint64_t)(*at++ - '0');
    }
    *ret = value;
    return at != first;
}

/* As of the stream: nothing that others chose stands before these. */
bool mr_dead_place(const struct mr_dead *dead, uint64_t *ret_lsn, uint32_t *ret_index) {
    uint64_t lsn = 0;
    uint64_t index = 0;
    if (dead->reason == MR_DEAD_GROUPS || !read_number(dead, behind(dead, "\"lsn\":"), &lsn) ||
        !read_number(dead, behind(dead, "\"index\":"), &index) || index > UINT32_MAX) {
        return false;
    }
    *ret_lsn = lsn;
    *ret_index = (uint32_t)index;
    return true;
}
