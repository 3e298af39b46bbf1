/* SPDX-License-Identifier: Apache-2.0 */
#include "event/cloudevents.h"

#include "base/check.h"
#include "base/json.h"
#include "event/decode.h"
#include "event/text.h"

enum { ATTRIBUTES_MAX = 64, NAME_MAX_LEN = 128 };

/* One attribute with its name in lower case and its value decoded into scratch. */
struct attribute {
    char name[NAME_MAX_LEN];
    size_t name_len;
    struct mr_bytes value;
};

static uint8_t lower(uint8_t c) {
    return c >= 'A' && c <= 'Z' ? (uint8_t)(c + 0x20) : c;
}

static bool equal_lower(struct mr_bytes a, const char *b) {
    size_t len = strlen(b);
    for (size_t i = 0; a.len == len && i < len; i++) {
        if (lower(a.ptr[i]) != (uint8_t)b[i]) {
            return false;
        }
    }
    return a.len == len;
}

/* Attribute names are lower-case letters and digits (CloudEvents 1.0.2, section 3.1). */
static bool copy_name(struct mr_bytes name, struct attribute *ret) {
    if (name.len == 0 || name.len > sizeof ret->name) {
        return false;
    }
    for (size_t i = 0; i < name.len; i++) {
        uint8_t c = lower(name.ptr[i]);
        if ((c < 'a' || c > 'z') && (c < '0' || c > '9')) {
            return false;
        }
        ret->name[i] = (char)c;
    }
    ret->name_len = name.len;
    return true;
}

/* The value as HTTP binding 3.1.3.2 reads it: a quoted string loses its quotes and backslashes,
 * then one round of percent-decoding; a percent sign without two hex digits stands for itself.
 *
 *     "Euro \"%E2%82%AC\""   ->   Euro "€"
 *
 * ret has room for value.len bytes. */
static size_t decode_value(struct mr_bytes value, uint8_t *ret) {
    const uint8_t *p = value.ptr;
    size_t len = value.len;
    bool quoted = len >= 2 && p[0] == '"' && p[len - 1] == '"';
    p += quoted;
    len -= quoted ? 2 : 0;
    size_t out = 0;
    for (size_t i = 0; i < len; i++) {
        if (quoted && p[i] == '\\' && i + 1 < len) {
            i++;
        } else if (p[i] == '%' && i + 2 < len && mr_hex_byte(p + i + 1) >= 0) {
            ret[out++] = (uint8_t)mr_hex_byte(p + i + 1);
            i += 2;
            continue;
        }
        ret[out++] = p[i];
    }
    MR_ASSERT(out <= value.len);
    return out;
}

static bool name_equal(const struct attribute *a, const struct attribute *b) {
    return a->name_len == b->name_len && memcmp(a->name, b->name, a->name_len) == 0;
}

/* data, datacontenttype: the body's, not a header's. */
static bool is_reserved(const struct attribute *a) {
    struct mr_bytes name = {(const uint8_t *)a->name, a->name_len};
    return equal_lower(name, "data") || equal_lower(name, "datacontenttype");
}

static enum mr_status put_attributes(const struct mr_ce_header *headers, uint32_t count,
                                     struct mr_json *json, struct mr_buf *scratch,
                                     struct mr_error *error) {
    struct attribute attributes[ATTRIBUTES_MAX];
    if (count > ATTRIBUTES_MAX) {
        return mr_error_set(error, MR_INVALID, "%u ce- headers; at most %d", count, ATTRIBUTES_MAX);
    }
    for (uint32_t i = 0; i < count; i++) {
        struct attribute *a = &attributes[i];
        if (!copy_name(headers[i].name, a) || is_reserved(a)) {
            return mr_error_set(error, MR_INVALID,
                                "ce- header number %u does not name a CloudEvents attribute",
                                i + 1);
        }
        for (uint32_t k = 0; k < i; k++) {
            if (name_equal(a, &attributes[k])) {
                return mr_error_set(error, MR_INVALID, "header ce-%.*s is there twice",
                                    (int)a->name_len, a->name);
            }
        }
        mr_buf_clear(scratch);
        uint8_t *room = mr_buf_reserve(scratch, headers[i].value.len + 1);
        if (room == NULL) {
            return mr_error_set(error, MR_NO_MEMORY, "out of memory");
        }
        a->value = mr_bytes_of(room, decode_value(headers[i].value, room));
        if (!mr_utf8_valid(a->value)) {
            return mr_error_set(error, MR_INVALID, "header ce-%.*s is not UTF-8", (int)a->name_len,
                                a->name);
        }
        mr_json_key_bytes(json, mr_bytes_of(a->name, a->name_len));
        mr_json_string(json, a->value);
    }
    return MR_OK;
}

/* The media type without parameters and white space. */
static struct mr_bytes media_type(struct mr_bytes type) {
    size_t end = 0;
    while (end < type.len && type.ptr[end] != ';') {
        end++;
    }
    while (end > 0 && (type.ptr[end - 1] == ' ' || type.ptr[end - 1] == '\t')) {
        end--;
    }
    return mr_bytes_of(type.ptr, end);
}

static bool is_json(struct mr_bytes type) {
    struct mr_bytes media = media_type(type);
    if (equal_lower(media, "application/json") || equal_lower(media, "text/json")) {
        return true;
    }
    return media.len > 5 && equal_lower(mr_bytes_of(media.ptr + media.len - 5, 5), "+json");
}

/* A JSON string of base64; buf is emptied before. */
static void put_base64(struct mr_bytes data, struct mr_buf *buf) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    mr_buf_clear(buf);
    mr_buf_append_char(buf, '"');
    for (size_t i = 0; i < data.len; i += 3) {
        size_t left = data.len - i;
        uint32_t three = (uint32_t)data.ptr[i] << 16;
        three |= left > 1 ? (uint32_t)data.ptr[i + 1] << 8 : 0;
        three |= left > 2 ? (uint32_t)data.ptr[i + 2] : 0;
        char four[4] = {digits[three >> 18], digits[three >> 12 & 63],
                        left > 1 ? digits[three >> 6 & 63] : '=',
                        left > 2 ? digits[three & 63] : '='};
        mr_buf_append(buf, four, sizeof four);
    }
    mr_buf_append_char(buf, '"');
}

/* Without a content type the data is JSON if it is one JSON value. */
static enum mr_status put_data(struct mr_bytes type, struct mr_bytes data, struct mr_json *json,
                               struct mr_buf *scratch, struct mr_error *error) {
    if (data.len == 0) {
        return MR_OK;
    }
    enum mr_status status = MR_INVALID;
    if (type.len == 0 || is_json(type)) {
        struct mr_error why = {.status = MR_OK};
        status = mr_json_value_check(data, &why);
        if (status != MR_OK && (status != MR_INVALID || type.len > 0)) {
            return mr_error_set(error, status, "the data of the event: %s", why.text);
        }
    }
    if (status == MR_OK) {
        mr_json_key(json, "data");
        mr_json_raw(json, data);
        return MR_OK;
    }
    put_base64(data, scratch);
    if (scratch->failed) {
        return mr_error_set(error, MR_NO_MEMORY, "out of memory");
    }
    mr_json_key(json, "data_base64");
    mr_json_raw(json, mr_buf_bytes(scratch));
    return MR_OK;
}

enum mr_status mr_cloudevents_structured(const struct mr_ce_header *headers, uint32_t header_count,
                                         struct mr_bytes content_type, struct mr_bytes data,
                                         struct mr_buf *ret, struct mr_error *error) {
    size_t before = ret->len;
    struct mr_json json;
    struct mr_buf scratch;
    mr_buf_init(&scratch, SIZE_MAX / 2);
    mr_json_init(&json, ret);
    mr_json_object_begin(&json);
    enum mr_status status = put_attributes(headers, header_count, &json, &scratch, error);
    if (status == MR_OK && content_type.len > 0) {
        if (mr_utf8_valid(content_type)) {
            mr_json_key(&json, "datacontenttype");
            mr_json_string(&json, content_type);
        } else {
            status = mr_error_set(error, MR_INVALID, "the content type is not UTF-8");
        }
    }
    if (status == MR_OK) {
        status = put_data(content_type, data, &json, &scratch, error);
    }
    mr_buf_finish(&scratch);
    if (status != MR_OK) {
        ret->len = before;
        return status;
    }
    mr_json_object_end(&json);
    if (mr_buf_reserve(ret, MR_PADDING) == NULL) {
        status = ret->cap >= ret->cap_max ? MR_LIMIT : MR_NO_MEMORY;
        return mr_error_set(error, status, "the event does not fit: %s", mr_status_text(status));
    }
    return MR_OK;
}
