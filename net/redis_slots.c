/* SPDX-License-Identifier: Apache-2.0 */
#include "net/redis_slots.h"

#include "base/check.h"

#include <stdio.h>

enum {
    PORT_DEFAULT = 6379,
    HOST_LEN_MAX = 255,       /* of a name in the DNS */
    CRC_POLYNOMIAL = 0x1021,  /* XMODEM, as the specification of Redis Cluster says */
};

static_assert(HOST_LEN_MAX + sizeof "[]:65535" <= MR_REDIS_ADDRESS_MAX, "host and port fit");

/* ---- slots ---- */

static uint16_t crc16(struct mr_bytes bytes) {
    uint32_t crc = 0;
    for (size_t i = 0; i < bytes.len; i++) {
        crc ^= (uint32_t)bytes.ptr[i] << 8;
        for (int bit = 0; bit < 8; bit++) {
            crc = (crc & 0x8000) != 0 ? crc << 1 ^ CRC_POLYNOMIAL : crc << 1;
        }
    }
    return (uint16_t)crc;
}

/* {user}.x and {user}.y go together; of {}x and {x all of it counts. */
static struct mr_bytes tag_of(struct mr_bytes key) {
    const uint8_t *open = key.len == 0 ? NULL : memchr(key.ptr, '{', key.len);
    if (open == NULL) {
        return key;
    }
    const uint8_t *begin = open + 1;
    size_t left = key.len - (size_t)(begin - key.ptr);
    const uint8_t *close = left == 0 ? NULL : memchr(begin, '}', left);
    return close == NULL || close == begin ? key : mr_bytes_of(begin, (size_t)(close - begin));
}

uint32_t mr_redis_slot(struct mr_bytes key) {
    return crc16(tag_of(key)) % MR_REDIS_SLOTS;
}

/* ---- numbers and addresses ---- */

static bool parse_number(struct mr_bytes text, uint32_t max, uint32_t *ret) {
    uint64_t number = 0;
    if (text.len == 0 || text.len > 9) {
        return false;
    }
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] < '0' || text.ptr[i] > '9') {
            return false;
        }
        number = number * 10 + (text.ptr[i] - '0');
    }
    if (number > max) {
        return false;
    }
    *ret = (uint32_t)number;
    return true;
}

static bool is_host(struct mr_bytes host) {
    if (host.len == 0 || host.len > HOST_LEN_MAX) {
        return false;
    }
    for (size_t i = 0; i < host.len; i++) {
        uint8_t c = host.ptr[i];
        if (c <= ' ' || c >= 0x7f || c == '[' || c == ']' || c == '/' || c == '@') {
            return false;
        }
    }
    return true;
}

static void copy_host(struct mr_bytes host, char ret[MR_REDIS_ADDRESS_MAX]) {
    MR_ASSERT(host.len < MR_REDIS_ADDRESS_MAX);
    memcpy(ret, host.ptr, host.len);
    ret[host.len] = '\0';
}

static struct mr_bytes cut(struct mr_bytes text, size_t from, size_t to) {
    MR_ASSERT(from <= to && to <= text.len);
    return mr_bytes_of(text.ptr + from, to - from);
}

/* Where the last `c` is; text.len: nowhere. */
static size_t find_last(struct mr_bytes text, char c) {
    const uint8_t *found = text.len == 0 ? NULL : memrchr(text.ptr, c, text.len);
    return found == NULL ? text.len : (size_t)(found - text.ptr);
}

enum mr_status mr_redis_address_parse(struct mr_bytes text, char host[MR_REDIS_ADDRESS_MAX],
                                      uint16_t *ret_port, struct mr_error *error) {
    struct mr_bytes name = text;
    struct mr_bytes digits = {0};
    bool has_port = false;
    if (text.len > 0 && text.ptr[0] == '[') {
        size_t close = find_last(text, ']');
        bool closed = close < text.len && (close + 1 == text.len || text.ptr[close + 1] == ':');
        name = closed ? cut(text, 1, close) : (struct mr_bytes){0};
        has_port = closed && close + 1 < text.len;
        digits = has_port ? cut(text, close + 2, text.len) : digits;
    } else {
        size_t colon = find_last(text, ':');
        has_port = colon < text.len;
        name = cut(text, 0, colon);
        digits = has_port ? cut(text, colon + 1, text.len) : digits;
        if (name.len > 0 && memchr(name.ptr, ':', name.len) != NULL) {
            return mr_error_set(error, MR_INVALID, "\"%.*s\": an IPv6 address stands in brackets, [::1]:6379",
                                (int)(text.len > 100 ? 100 : text.len), (const char *)text.ptr);
        }
    }
    uint32_t port = PORT_DEFAULT;
    if (!is_host(name) || (has_port && (!parse_number(digits, UINT16_MAX, &port) || port == 0))) {
        return mr_error_set(error, MR_INVALID, "\"%.*s\" is no address: host:port, [v6]:port or host is",
                            (int)(text.len > 100 ? 100 : text.len), text.len == 0 ? "" : (const char *)text.ptr);
    }
    copy_host(name, host);
    *ret_port = (uint16_t)port;
    return MR_OK;
}

bool mr_redis_address_equal(const struct mr_redis_address *a, const struct mr_redis_address *b) {
    return a->port == b->port && strcmp(a->host, b->host) == 0;
}

void mr_redis_address_print(const struct mr_redis_address *address, char ret[MR_REDIS_ADDRESS_MAX]) {
    bool is_v6 = strchr(address->host, ':') != NULL;
    (void)snprintf(ret, MR_REDIS_ADDRESS_MAX, is_v6 ? "[%.*s]:%u" : "%.*s:%u", HOST_LEN_MAX, address->host,
                   address->port); /* fits: static_assert above */
}

/* What a server says of a host: its name or address, or that it does not know. */
static bool take_host(struct mr_bytes said, const char *host_asked, char ret[MR_REDIS_ADDRESS_MAX]) {
    if (said.len == 0 || mr_bytes_equal(said, MR_BYTES("?"))) {
        said = mr_bytes_text(host_asked);
    }
    if (!is_host(said)) {
        return false;
    }
    copy_host(said, ret);
    return true;
}

/* ---- replies ---- */

static bool is_between(const struct mr_redis_reply *item, int64_t min, int64_t max) {
    return item->type == MR_REDIS_INTEGER && item->integer >= min && item->integer <= max;
}

/*
 *      1) first slot   2) last slot   3) the master: host or nil, port, id, …   4) … its replicas
 */
enum mr_status mr_redis_range_parse(const struct mr_redis_reply *reply, uint32_t i, const char *host_asked,
                                    struct mr_redis_range *ret, struct mr_error *error) {
    MR_ASSERT(reply->type == MR_REDIS_LIST && i < reply->count);
    const struct mr_redis_reply *range = &reply->items[i];
    const struct mr_redis_reply *part = range->items;
    if (range->type != MR_REDIS_LIST || range->count < 3 || !is_between(&part[0], 0, MR_REDIS_SLOTS - 1) ||
        !is_between(&part[1], part[0].integer, MR_REDIS_SLOTS - 1) || part[2].type != MR_REDIS_LIST ||
        part[2].count < 2 || !is_between(&part[2].items[1], 1, UINT16_MAX)) {
        return mr_error_set(error, MR_CORRUPT, "CLUSTER SLOTS: range %u is none", i);
    }
    const struct mr_redis_reply *host = &part[2].items[0];
    struct mr_redis_range range_read = {.first = (uint32_t)part[0].integer, .last = (uint32_t)part[1].integer};
    range_read.master.port = (uint16_t)part[2].items[1].integer;
    struct mr_bytes said = host->type == MR_REDIS_TEXT ? host->text : (struct mr_bytes){0};
    if ((host->type != MR_REDIS_TEXT && host->type != MR_REDIS_NIL) ||
        !take_host(said, host_asked, range_read.master.host)) {
        return mr_error_set(error, MR_CORRUPT, "CLUSTER SLOTS: the master of range %u has no host", i);
    }
    *ret = range_read;
    return MR_OK;
}

static bool begins(struct mr_bytes text, struct mr_bytes with) {
    return text.len >= with.len && memcmp(text.ptr, with.ptr, with.len) == 0;
}

bool mr_redis_redirect_parse(struct mr_bytes text, const char *host_asked, bool *ret_asked,
                             uint32_t *ret_slot, struct mr_redis_address *ret_address) {
    bool asked = begins(text, MR_BYTES("ASK "));
    if (!asked && !begins(text, MR_BYTES("MOVED "))) {
        return false;
    }
    struct mr_bytes rest = cut(text, asked ? 4 : 6, text.len);
    size_t space = find_last(rest, ' ');
    size_t colon = find_last(rest, ':'); /* of the port, also behind a bare IPv6 address */
    uint32_t slot;
    uint32_t port;
    struct mr_redis_address address;
    if (space == rest.len || colon == rest.len || colon < space ||
        !parse_number(cut(rest, 0, space), MR_REDIS_SLOTS - 1, &slot) ||
        !parse_number(cut(rest, colon + 1, rest.len), UINT16_MAX, &port) || port == 0 ||
        !take_host(cut(rest, space + 1, colon), host_asked, address.host)) {
        return false;
    }
    address.port = (uint16_t)port;
    *ret_asked = asked;
    *ret_slot = slot;
    *ret_address = address;
    return true;
}
