/* SPDX-License-Identifier: Apache-2.0 */
#include "server/media.h"

#include "base/check.h"
#include "server/guard.h"

static const struct {
    const char *type;
    struct mr_media media;
} types[] = {
    {"application/json", {MR_FORMAT_AUTO, false, false}},
    {"application/x-ndjson", {MR_FORMAT_NDJSON, false, true}},
    {"application/ndjson", {MR_FORMAT_NDJSON, false, true}},
    {"application/jsonl", {MR_FORMAT_NDJSON, false, true}},
    {"application/cloudevents+json", {MR_FORMAT_OBJECT, true, false}},
    {"application/cloudevents-batch+json", {MR_FORMAT_ARRAY, true, false}},
    {"", {MR_FORMAT_AUTO, false, true}},
    {"text/plain", {MR_FORMAT_AUTO, false, true}},
    {"application/octet-stream", {MR_FORMAT_AUTO, false, true}},
    {"application/x-www-form-urlencoded", {MR_FORMAT_AUTO, false, true}},
};

static const struct {
    const char *name;
    enum mr_encoding encoding;
} encodings[] = {
    {"", MR_ENCODING_IDENTITY},   {"identity", MR_ENCODING_IDENTITY}, {"gzip", MR_ENCODING_GZIP},
    {"x-gzip", MR_ENCODING_GZIP}, {"deflate", MR_ENCODING_DEFLATE},   {"zstd", MR_ENCODING_ZSTD},
};

static bool is_space(uint8_t c) {
    return c == ' ' || c == '\t';
}

static struct mr_bytes trim(struct mr_bytes text) {
    while (text.len > 0 && is_space(text.ptr[0])) {
        text.ptr++;
        text.len--;
    }
    while (text.len > 0 && is_space(text.ptr[text.len - 1])) {
        text.len--;
    }
    return text;
}

/* Takes what stands before the next separator off *rest, which ends empty after the last. */
static struct mr_bytes take(struct mr_bytes *rest, char separator) {
    if (rest->len == 0) {
        return *rest;
    }
    const uint8_t *end = memchr(rest->ptr, separator, rest->len);
    size_t len = end != NULL ? (size_t)(end - rest->ptr) : rest->len;
    struct mr_bytes part = mr_bytes_of(rest->ptr, len);
    size_t used = end != NULL ? len + 1 : len;
    *rest = mr_bytes_of(rest->ptr + used, rest->len - used);
    return trim(part);
}

static struct mr_bytes unquote(struct mr_bytes text) {
    bool quoted = text.len >= 2 && text.ptr[0] == '"' && text.ptr[text.len - 1] == '"';
    return quoted ? mr_bytes_of(text.ptr + 1, text.len - 2) : text;
}

/* Only charset matters: JSON is UTF-8, and another charset would be read wrongly without an error.
 */
static enum mr_status check_charset(struct mr_bytes parameters, struct mr_error *error) {
    while (parameters.len > 0) {
        struct mr_bytes value = take(&parameters, ';');
        struct mr_bytes name = take(&value, '=');
        value = unquote(trim(value));
        if (mr_header_is(name, "charset") && !mr_header_is(value, "utf-8") &&
            !mr_header_is(value, "utf8") && !mr_header_is(value, "us-ascii")) {
            return mr_error_set(error, MR_UNSUPPORTED, "charset %.*s; expected utf-8",
                                (int)(value.len > 64 ? 64 : value.len), (const char *)value.ptr);
        }
    }
    return MR_OK;
}

enum mr_status mr_media_type(struct mr_bytes content_type, struct mr_media *ret,
                             struct mr_error *error) {
    struct mr_bytes rest = content_type;
    struct mr_bytes type = take(&rest, ';');
    MR_ASSERT(type.len <= content_type.len);
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (mr_header_is(type, types[i].type)) {
            enum mr_status status = check_charset(rest, error);
            if (status == MR_OK) {
                *ret = types[i].media;
            }
            return status;
        }
    }
    return mr_error_set(error, MR_UNSUPPORTED,
                        "content type %.*s; expected application/json, application/x-ndjson, "
                        "application/cloudevents+json or application/cloudevents-batch+json",
                        (int)(type.len > 100 ? 100 : type.len), (const char *)type.ptr);
}

enum mr_status mr_media_encoding(struct mr_bytes content_encoding, enum mr_encoding *ret,
                                 struct mr_error *error) {
    struct mr_bytes name = trim(content_encoding);
    for (size_t i = 0; i < sizeof encodings / sizeof encodings[0]; i++) {
        if (mr_header_is(name, encodings[i].name)) {
            *ret = encodings[i].encoding;
            return MR_OK;
        }
    }
    return mr_error_set(error, MR_UNSUPPORTED, "content encoding %.*s; expected one of %s",
                        (int)(name.len > 64 ? 64 : name.len), (const char *)name.ptr,
                        MR_ACCEPT_ENCODING);
}
