/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Measures appends to the log: bench_log [MIB [GROUPS_MAX]]       default 32 MiB of each size, at most 256 groups
 *
 * Groups (what one sync makes durable) of 32 KB, 256 KB and 2 MB, in records of up to 128 KB, into a new log on the real
 * disk, with sync and with `sync: off`. Prints ns of time for an event of 125 bytes, ms for a group, whether writes go
 * past the page cache, and a hash of the payloads as read back. The directory lies under TMPDIR or here, and goes away.
 */
#include "base/direct.h"
#include "base/hash.h"
#include "bench/measure.h"
#include "log/log.h"

#include <fcntl.h>
#include <unistd.h>

enum { EVENT_BYTES = 125, RECORD_BYTES = 128 << 10, ENTRIES_MAX = 16, FIRST_SEQ = 2 };

#define SEGMENT_BYTES (UINT64_C(128) << 20)

static uint8_t payload[ENTRIES_MAX * RECORD_BYTES];

static void must(enum mr_status status, const struct mr_error *error) {
    if (status != MR_OK) {
        (void)fprintf(stderr, "bench_log: %s: %s\n", mr_status_text(status), error->text);
        exit(1);
    }
}

/* Whether base/file.c can write past the page cache in this directory. */
static bool is_direct(const char *dir) {
    char path[BENCH_PATH_MAX + 16];
    (void)snprintf(path, sizeof path, "%s/probe", dir);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    struct mr_direct *direct = NULL;
    if (fd >= 0 && ftruncate(fd, MR_DIRECT_BLOCK) == 0) {
        direct = mr_direct_open(fd, false);
    }
    const struct iovec iov = {payload, 1000};
    bool yes = direct != NULL && mr_direct_write(direct, &iov, 1, 0) == 0;
    mr_direct_close(direct);
    if (fd >= 0) {
        (void)close(fd); /* nothing depends on it */
    }
    (void)unlink(path);
    return yes;
}

static struct mr_log *open_log(const char *dir, bool sync) {
    const struct mr_log_options options = {.disk = mr_disk_system(),
                                           .clock = mr_clock_system(),
                                           .dir = dir,
                                           .segment_bytes = SEGMENT_BYTES,
                                           .sync = sync,
                                           .incarnation = 1};
    struct mr_log *log = NULL;
    struct mr_error error = {0};
    must(mr_log_open(&options, &log, &error), &error);
    return log;
}

static void append_group(struct mr_log *log, uint64_t seq, uint32_t bytes) {
    struct mr_log_entry entries[ENTRIES_MAX] = {{.payload_count = 0}};
    struct mr_error error = {0};
    uint32_t count = 0;
    for (uint32_t at = 0; at < bytes; at += RECORD_BYTES) {
        uint32_t len = bytes - at < RECORD_BYTES ? bytes - at : RECORD_BYTES;
        entries[count++] = (struct mr_log_entry){
            .type = MR_RECORD_EVENTS, .payload = {{payload + at, len}}, .payload_count = 1};
    }
    must(mr_log_append(log, seq, 0, entries, count, &error), &error);
}

static uint64_t read_back(const char *dir, uint64_t groups, uint32_t bytes) {
    struct mr_log_reader *reader = NULL;
    struct mr_error error = {0};
    struct mr_record record;
    uint64_t hash = 0;
    uint64_t read = 0;
    must(mr_log_reader_open(mr_disk_system(), dir, FIRST_SEQ, &reader, &error), &error);
    enum mr_status status;
    while ((status = mr_log_reader_next(reader, &record, &error)) == MR_OK) {
        hash = mr_hash64(record.payload, hash);
        read += record.payload.len;
    }
    if (status != MR_END) {
        must(status, &error);
    }
    MR_ASSERT(read == groups * bytes);
    mr_log_reader_close(reader);
    return hash;
}

static void measure(const char *parent, uint32_t bytes, bool sync, uint64_t groups, bool direct) {
    struct bench_runs runs = {.ns = NULL};
    char dir[BENCH_PATH_MAX + 16];
    char parameters[64];
    char note[64];
    (void)snprintf(dir, sizeof dir, "%s/log", parent);
    struct mr_log *log = open_log(dir, sync);
    for (uint64_t n = 0; n < groups; n++) {
        memcpy(payload, &n, sizeof n); /* no group like the one before */
        uint64_t begin_ns = bench_wall_ns();
        append_group(log, FIRST_SEQ + n, bytes);
        bench_add(&runs, (bench_wall_ns() - begin_ns) * EVENT_BYTES, bytes);
    }
    mr_log_close(log);
    (void)snprintf(parameters, sizeof parameters, "%u KB a group, sync %s", bytes >> 10,
                   sync ? "on" : "off");
    (void)snprintf(note, sizeof note, "%.3f ms a group, %s",
                   bench_median(&runs) * bytes / EVENT_BYTES / 1e6,
                   sync && direct ? "direct" : "through the cache");
    bench_line("log", parameters, &runs, "event", note, read_back(dir, groups, bytes));
    bench_remove(dir);
}

int main(int argc, char **argv) {
    static const uint32_t sizes[] = {32 << 10, 256 << 10, 2 << 20};
    uint64_t bytes = (argc > 1 ? strtoull(argv[1], NULL, 10) : 32) << 20;
    uint64_t groups_max = argc > 2 ? strtoull(argv[2], NULL, 10) : 256;
    char dir[BENCH_PATH_MAX];
    uint64_t random = 1;
    for (size_t i = 0; i < sizeof payload; i++) {
        payload[i] = (uint8_t)(' ' + bench_random(&random) % 64);
    }
    bench_make_directory(dir);
    bool direct = is_direct(dir);
    for (int sync = 1; sync >= 0; sync--) {
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            uint64_t groups = bytes / sizes[i] < groups_max ? bytes / sizes[i] : groups_max;
            measure(dir, sizes[i], sync == 1, groups == 0 ? 1 : groups, direct);
        }
    }
    bench_remove(dir);
    return 0;
}
