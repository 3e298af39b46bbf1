/* SPDX-License-Identifier: Apache-2.0 */
#include "log/record.h"

#include "base/check.h"
#include "base/hash.h"
#include "log/wire.h"

enum {
    VERSION = 1,
    CHECK_BLOCK = 16 << 10, /* part of the format */
    AT_TYPE = 4,
    AT_VERSION = 5,
    AT_PAYLOAD_LEN = 8,
    AT_BUNDLE_COUNT = 12,
    AT_BUNDLE_INDEX = 16,
    AT_SEGMENT = 20,
    AT_LSN = 24,
    AT_SEQ = 32,
    AT_INCARNATION = 40,
    AT_RECORDED_MS = 48,
    AT_PAYLOAD_CHECK = 56,
    AT_HEADER_CHECK = 72,
};

static_assert(AT_HEADER_CHECK + 8 == MR_RECORD_HEADER, "the header's check is its last field");
static_assert(MR_RECORD_HEADER % MR_RECORD_ALIGN == 0, "payloads are aligned");

const char *mr_record_type_name(enum mr_record_type type) {
    static const char *const names[MR_RECORD_TYPE_END] = {
        [MR_RECORD_CONFIG] = "config", [MR_RECORD_START] = "start", [MR_RECORD_EVENTS] = "events",
        [MR_RECORD_TICK] = "tick",     [MR_RECORD_DEAD] = "dead",   [MR_RECORD_GAP] = "gap",
        [MR_RECORD_VERDICTS] = "verdicts", [MR_RECORD_WATERMARK] = "watermark",
        [MR_RECORD_REDRIVE] = "redrive",
        [MR_RECORD_DISCARD] = "discard",
    };
    MR_ASSERT(type > 0 && type < MR_RECORD_TYPE_END);
    return names[type];
}

uint64_t mr_record_size(size_t payload_len) {
    uint64_t size = MR_RECORD_HEADER + (uint64_t)payload_len;
    return (size + MR_RECORD_ALIGN - 1) & ~(uint64_t)(MR_RECORD_ALIGN - 1);
}

static size_t payload_len_of(const struct iovec *payload, int payload_count) {
    size_t len = 0;
    for (int i = 0; i < payload_count; i++) {
        len += payload[i].iov_len;
    }
    return len;
}

uint64_t mr_record_payload_check(const struct iovec *payload, int payload_count) {
    uint8_t joined[CHECK_BLOCK]; /* a block that lies in more than one part */
    size_t joined_len = 0;
    uint64_t check = 0;
    for (int i = 0; i < payload_count; i++) {
        const uint8_t *at = payload[i].iov_base;
        size_t left = payload[i].iov_len;
        while (left > 0) {
            if (joined_len == 0 && left >= CHECK_BLOCK) {
                check = mr_hash64(mr_bytes_of(at, CHECK_BLOCK), check);
                at += CHECK_BLOCK;
                left -= CHECK_BLOCK;
                continue;
            }
            size_t room = CHECK_BLOCK - joined_len;
            size_t len = left < room ? left : room;
            if (joined_len == 0 && i == payload_count - 1) {
                return mr_hash64(mr_bytes_of(at, left), check); /* the last block, in one piece */
            }
            memcpy(joined + joined_len, at, len);
            joined_len += len;
            at += len;
            left -= len;
            if (joined_len == CHECK_BLOCK) {
                check = mr_hash64(mr_bytes_of(joined, CHECK_BLOCK), check);
                joined_len = 0;
            }
        }
    }
    return joined_len > 0 ? mr_hash64(mr_bytes_of(joined, joined_len), check) : check;
}

void mr_record_encode(const struct mr_record *record, const struct iovec *payload,
                      int payload_count, uint8_t ret[MR_RECORD_HEADER]) {
    size_t payload_len = payload_len_of(payload, payload_count);
    MR_ASSERT(record->type > 0 && record->type < MR_RECORD_TYPE_END);
    MR_ASSERT(payload_len <= MR_RECORD_PAYLOAD_MAX);
    MR_ASSERT(record->bundle_index < record->bundle_count);
    MR_ASSERT(record->lsn > record->bundle_index && record->seq > 0);
    memset(ret, 0, MR_RECORD_HEADER);
    mr_wire_put_u32(ret, MR_RECORD_MAGIC);
    ret[AT_TYPE] = (uint8_t)record->type;
    ret[AT_VERSION] = VERSION;
    mr_wire_put_u32(ret + AT_PAYLOAD_LEN, (uint32_t)payload_len);
    mr_wire_put_u32(ret + AT_BUNDLE_COUNT, record->bundle_count);
    mr_wire_put_u32(ret + AT_BUNDLE_INDEX, record->bundle_index);
    mr_wire_put_u32(ret + AT_SEGMENT, record->segment);
    mr_wire_put_u64(ret + AT_LSN, record->lsn);
    mr_wire_put_u64(ret + AT_SEQ, record->seq);
    mr_wire_put_u64(ret + AT_INCARNATION, record->incarnation);
    mr_wire_put_u64(ret + AT_RECORDED_MS, (uint64_t)record->recorded_ms);
    mr_wire_put_u64(ret + AT_PAYLOAD_CHECK, mr_record_payload_check(payload, payload_count));
    mr_wire_put_u64(ret + AT_HEADER_CHECK, mr_checksum(mr_bytes_of(ret, AT_HEADER_CHECK)));
}

/* Nothing in a header is believed before its check; after it, only what an encoder could have
 * made. */
enum mr_status mr_record_decode(const uint8_t header[MR_RECORD_HEADER], struct mr_record *ret,
                                uint64_t *ret_payload_check) {
    if (mr_wire_u32(header) != MR_RECORD_MAGIC || header[AT_VERSION] != VERSION ||
        mr_wire_u64(header + AT_HEADER_CHECK) !=
            mr_checksum(mr_bytes_of(header, AT_HEADER_CHECK))) {
        return MR_CORRUPT;
    }
    struct mr_record record = {
        .type = (enum mr_record_type)header[AT_TYPE],
        .bundle_count = mr_wire_u32(header + AT_BUNDLE_COUNT),
        .bundle_index = mr_wire_u32(header + AT_BUNDLE_INDEX),
        .segment = mr_wire_u32(header + AT_SEGMENT),
        .lsn = mr_wire_u64(header + AT_LSN),
        .lsn_count = 1,
        .seq = mr_wire_u64(header + AT_SEQ),
        .incarnation = mr_wire_u64(header + AT_INCARNATION),
        .recorded_ms = (int64_t)mr_wire_u64(header + AT_RECORDED_MS),
        .payload = {NULL, mr_wire_u32(header + AT_PAYLOAD_LEN)},
    };
    if (header[AT_TYPE] == 0 || header[AT_TYPE] >= MR_RECORD_TYPE_END ||
        record.payload.len > MR_RECORD_PAYLOAD_MAX || record.bundle_index >= record.bundle_count ||
        record.lsn <= record.bundle_index || record.seq == 0) {
        return MR_CORRUPT;
    }
    *ret = record;
    *ret_payload_check = mr_wire_u64(header + AT_PAYLOAD_CHECK);
    return MR_OK;
}

void mr_record_gap_encode(uint64_t lsn, uint64_t lsn_count, uint8_t ret[MR_RECORD_GAP_LEN]) {
    MR_ASSERT(lsn > 0 && lsn_count > 0 && lsn_count <= MR_LSN_MAX && lsn <= MR_LSN_MAX - lsn_count);
    mr_wire_put_u64(ret, lsn);
    mr_wire_put_u64(ret + 8, lsn_count);
}

enum mr_status mr_record_gap_decode(struct mr_record *record) {
    MR_ASSERT(record->type == MR_RECORD_GAP && record->payload.ptr != NULL);
    if (record->payload.len != MR_RECORD_GAP_LEN || record->bundle_count != 1 ||
        mr_wire_u64(record->payload.ptr) != record->lsn) {
        return MR_CORRUPT;
    }
    uint64_t lsn_count = mr_wire_u64(record->payload.ptr + 8);
    if (lsn_count == 0 || lsn_count > MR_LSN_MAX || record->lsn > MR_LSN_MAX - lsn_count) {
        return MR_CORRUPT;
    }
    record->lsn_count = lsn_count;
    return MR_OK;
}
