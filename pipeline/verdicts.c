/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/verdicts.h"

#include <string.h>

enum { VERSION = 1, HEAD_LEN = 8, ENTRY_LEN = 16 };

void mr_verdicts_pack_head(struct mr_buf *buf, uint32_t entries) {
    uint8_t head[HEAD_LEN] = {VERSION};
    memcpy(head + 4, &entries, sizeof entries);
    mr_buf_append_bytes(buf, mr_bytes_of(head, sizeof head));
}

void mr_verdicts_pack(struct mr_buf *buf, const struct mr_verdicts *verdicts) {
    uint8_t entry[ENTRY_LEN] = {0};
    memcpy(entry, &verdicts->lsn, sizeof verdicts->lsn);
    memcpy(entry + 8, &verdicts->events, sizeof verdicts->events);
    entry[12] = verdicts->local;
    mr_buf_append_bytes(buf, mr_bytes_of(entry, sizeof entry));
    mr_buf_append_bytes(buf, mr_bytes_of(verdicts->taken, mr_verdicts_bits_len(verdicts->events)));
}

enum mr_status mr_verdicts_begin(struct mr_bytes payload, uint64_t lsn,
                                 struct mr_verdicts_reader *ret, struct mr_error *error) {
    *ret = (struct mr_verdicts_reader){.left = 0};
    bool sound = payload.len >= HEAD_LEN && payload.ptr[0] == VERSION;
    uint32_t entries = 0;
    if (sound) {
        memcpy(&entries, payload.ptr + 4, sizeof entries);
        ret->rest = mr_bytes_of(payload.ptr + HEAD_LEN, payload.len - HEAD_LEN);
        ret->left = entries;
        struct mr_verdicts_reader walk = *ret;
        struct mr_verdicts entry;
        while (mr_verdicts_next(&walk, &entry)) {
            continue;
        }
        sound = walk.left == 0 && walk.rest.len == 0;
    }
    return sound ? MR_OK
                 : mr_error_set(error, MR_CORRUPT, "log record %llu: not a VERDICTS payload of version %d",
                                (unsigned long long)lsn, VERSION);
}

bool mr_verdicts_next(struct mr_verdicts_reader *reader, struct mr_verdicts *ret) {
    if (reader->left == 0 || reader->rest.len < ENTRY_LEN) {
        return false;
    }
    memcpy(&ret->lsn, reader->rest.ptr, sizeof ret->lsn);
    memcpy(&ret->events, reader->rest.ptr + 8, sizeof ret->events);
    uint32_t local;
    memcpy(&local, reader->rest.ptr + 12, sizeof local);
    ret->local = local == 1;
    size_t len = mr_verdicts_len(ret->events);
    if (reader->rest.len < len || local > 1) {
        return false;
    }
    ret->taken = reader->rest.ptr + ENTRY_LEN;
    reader->rest = mr_bytes_of(reader->rest.ptr + len, reader->rest.len - len);
    reader->left--;
    return true;
}
