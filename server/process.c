/* SPDX-License-Identifier: Apache-2.0 */
#include "server/process.h"

#include "base/check.h"

#include <unistd.h>

/* Fields of /proc/[pid]/stat, counted as proc(5) does. */
enum {
    FIELD_UTIME = 14,
    FIELD_STIME = 15,
    FIELD_THREADS = 20,
    FIELD_VSIZE = 23,
    FIELD_RSS = 24,
    FIELDS = 25
};

/* The name in field 2 may hold spaces and parentheses; the last ')' ends it. */
static bool split(struct mr_bytes stat, uint64_t ret[FIELDS]) {
    const uint8_t *close = stat.len == 0 ? NULL : memrchr(stat.ptr, ')', stat.len);
    if (close == NULL) {
        return false;
    }
    const uint8_t *end = stat.ptr + stat.len;
    const uint8_t *at = close + 1;
    uint32_t field = 2;
    while (at < end && field + 1 < FIELDS) {
        if (*at != ' ') {
            return false;
        }
        at++;
        field++;
        ret[field] = 0;
        for (; at < end && *at != ' '; at++) {
            if (*at >= '0' &&
                *at <= '9') { /* the state is a letter, some fields are negative: not used */
                ret[field] = ret[field] * 10 + (uint64_t)(*at - '0');
            }
        }
    }
    return field + 1 == FIELDS;
}

enum mr_status mr_process_parse(struct mr_bytes stat, uint64_t ticks_a_second, uint64_t page_bytes,
                                struct mr_process *ret) {
    MR_ASSERT(ticks_a_second > 0 && page_bytes > 0);
    uint64_t fields[FIELDS] = {0};
    if (!split(stat, fields)) {
        return MR_CORRUPT;
    }
    *ret = (struct mr_process){
        .cpu_s = (double)(fields[FIELD_UTIME] + fields[FIELD_STIME]) / (double)ticks_a_second,
        .resident_bytes = fields[FIELD_RSS] * page_bytes,
        .virtual_bytes = fields[FIELD_VSIZE],
        .threads = fields[FIELD_THREADS],
    };
    return MR_OK;
}

enum mr_status mr_process_read(struct mr_disk *disk, struct mr_process *ret) {
    struct mr_buf text;
    mr_buf_init(&text, 4096);
    long ticks = sysconf(_SC_CLK_TCK);
    long page = sysconf(_SC_PAGESIZE);
    enum mr_status status = mr_disk_read_all(disk, "/proc/self/stat", &text);
    if (status == MR_OK) {
        status = ticks > 0 && page > 0
                     ? mr_process_parse(mr_buf_bytes(&text), (uint64_t)ticks, (uint64_t)page, ret)
                     : MR_UNSUPPORTED;
    }
    mr_buf_finish(&text);
    return status;
}

static enum mr_status count_name(void *ctx, const char *name) {
    uint64_t *count = ctx;
    *count += name[0] != '.';
    return MR_OK;
}

enum mr_status mr_process_fds(struct mr_disk *disk, uint64_t *ret) {
    uint64_t count = 0;
    enum mr_status status = mr_disk_list(disk, "/proc/self/fd", count_name, &count);
    if (status == MR_OK) {
        *ret = count > 0 ? count - 1 : 0; /* the one that lists */
    }
    return status;
}
