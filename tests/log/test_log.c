/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves what log.h promises of a log on a disk that works:
 *   1. a new log begins with a START of seq 1; reopened it goes on, with the same incarnation;
 *   2. bundles go to new segments as a whole; one larger than a segment gets a segment for itself;
 *   3. a reader starts at a seq, at an lsn, stops at its limit, and goes on behind the end when
 *      more was appended, over segments and after a failed write;
 *   4. on the machine's own disk, a reader on another thread beside the appender gets every record
 *      once; one that is too slow for retention is told so, and begins anew with what is there;
 *   5. a second log, or another version's file, in the directory is refused;
 *   6. list and dump print what is there;
 *   7. a long payload can be taken from the reader, and reading on leaves it alone.
 */
#include "base/hash.h"
#include "base/limits.h"
#include "log/segment.h"
#include "log/wire.h"
#include "tests/log/world.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static void open_world(struct world *w) {
    struct mr_error error;
    if (world_open(w, &error) != MR_OK) {
        fail_msg("%s", error.text);
    }
}

static void append_some(struct world *w, int bundles, size_t len_max) {
    struct mr_error error;
    for (int i = 0; i < bundles; i++) {
        struct bundle b = world_bundle(w, len_max);
        assert_int_equal(world_append(w, &b, &error), MR_OK);
    }
}

static void begins_and_goes_on(void **state) {
    (void)state;
    struct world w;
    world_init(&w, 1, 65536);
    open_world(&w);
    assert_int_equal(mr_log_last_seq(w.log), 1);
    assert_int_equal(mr_log_last_lsn(w.log), 1);
    assert_true(mr_log_last_recorded_ms(w.log) == INT64_MIN);
    assert_int_equal(mr_log_incarnation(w.log), 0x1234567890abcdef);
    world_close(&w);
    open_world(&w);
    assert_int_equal(mr_log_last_seq(w.log), 2);
    assert_true(mr_log_last_recorded_ms(w.log) == INT64_MIN);
    append_some(&w, 3, 100);
    uint64_t seq = mr_log_last_seq(w.log);
    int64_t recorded_ms = mr_log_last_recorded_ms(w.log);
    uint64_t bytes = mr_counter_read(&mr_log_stats(w.log)->bytes);
    uint64_t records = mr_counter_read(&mr_log_stats(w.log)->records);
    world_close(&w);
    open_world(&w);
    assert_int_equal(mr_log_last_seq(w.log), seq + 1);
    assert_int_equal(mr_log_last_recorded_ms(w.log), recorded_ms);
    assert_int_equal(mr_counter_read(&mr_log_stats(w.log)->bytes), bytes + mr_record_size(0));
    assert_int_equal(mr_counter_read(&mr_log_stats(w.log)->records), records + 1);
    assert_int_equal(mr_counter_read(&mr_log_stats(w.log)->segments), 1);
    assert_int_equal(mr_counter_read(&mr_log_stats(w.log)->torn_bytes), 0);
    assert_int_equal(mr_log_incarnation(w.log), 0x1234567890abcdef);
    world_check(&w);
    world_finish(&w);
}

static void knows_the_last_config(void **state) {
    (void)state;
    struct world w;
    struct mr_error error;
    struct mr_log_entry entries[3] = {
        {.type = MR_RECORD_CONFIG}, {.type = MR_RECORD_CONFIG}, {.type = MR_RECORD_TICK}};
    world_init(&w, 8, 8192);
    open_world(&w);
    assert_int_equal(mr_log_config_lsn(w.log), 0);
    assert_int_equal(mr_log_append(w.log, 2, 1, entries, 3, &error), MR_OK);
    assert_int_equal(mr_log_config_lsn(w.log), 3);
    append_some(&w, 30, 600);
    assert_int_equal(mr_log_config_lsn(w.log), 3);
    world_close(&w);
    open_world(&w);
    assert_int_equal(mr_log_config_lsn(w.log), 3);
    w.from_lsn = mr_log_last_lsn(w.log);
    world_close(&w);
    open_world(&w);
    assert_int_equal(mr_log_config_lsn(w.log), 0); /* what is not read is not known */
    world_finish(&w);
}

static void a_bundle_lies_in_one_segment(void **state) {
    (void)state;
    struct world w;
    struct mr_error error;
    world_init(&w, 2, 8192);
    open_world(&w);
    struct bundle large = {.seq = 2, .count = 2, .recorded_ms = 1, .len = {300000, 20000}};
    struct bundle small = {.seq = 3, .count = 1, .recorded_ms = 2, .len = {10}};
    assert_int_equal(world_append(&w, &large, &error), MR_OK);
    assert_int_equal(world_append(&w, &small, &error), MR_OK);
    assert_int_equal(mr_counter_read(&mr_log_stats(w.log)->segments), 2);
    world_check(&w);
    struct mr_segments segments;
    assert_int_equal(mr_segments_list(virtual_disk_disk(w.vd), WORLD_DIR, &segments, &error),
                     MR_OK);
    assert_int_equal(segments.count, 2);
    assert_int_equal(segments.items[0].size, 8192);
    assert_true(segments.items[1].size > 320000 && segments.items[1].size < 330000);
    assert_int_equal(segments.items[1].first_lsn, 2);
    mr_segments_finish(&segments);
    static uint8_t byte;
    struct mr_log_entry entry = {.type = MR_RECORD_EVENTS,
                                 .payload = {{&byte, MR_RECORD_PAYLOAD_MAX}, {&byte, 1}},
                                 .payload_count = 2};
    assert_int_equal(mr_log_append(w.log, 4, 3, &entry, 1, &error), MR_LIMIT);
    append_some(&w, 100, 2000);
    world_check(&w);
    world_finish(&w);
}

/* The first record that a reader gives, or 0. */
static uint64_t first_lsn_of(struct world *w, uint64_t from_seq, uint64_t from_lsn) {
    struct mr_log_reader *reader;
    struct mr_record record = {.lsn = 0};
    struct mr_error error;
    assert_int_equal(
        mr_log_reader_open(virtual_disk_disk(w->vd), WORLD_DIR, from_seq, &reader, &error), MR_OK);
    if (from_lsn > 0) {
        assert_int_equal(mr_log_reader_seek(reader, from_lsn, &error), MR_OK);
    }
    enum mr_status status = mr_log_reader_next(reader, &record, &error);
    assert_true(status == MR_OK || status == MR_END);
    mr_log_reader_close(reader);
    return status == MR_OK ? record.lsn : 0;
}

static void readers_start_where_asked(void **state) {
    (void)state;
    struct world w;
    world_init(&w, 3, 8192);
    open_world(&w);
    append_some(&w, 40, 400);
    assert_true(mr_counter_read(&mr_log_stats(w.log)->segments) > 3);
    uint64_t last = mr_log_last_lsn(w.log);
    for (uint64_t lsn = 1; lsn <= last + 1; lsn++) {
        assert_int_equal(first_lsn_of(&w, 0, lsn), lsn <= last ? lsn : 0);
    }
    /* The model begins behind the START, so record i of it has lsn i + 2. */
    for (uint64_t seq = 2; seq <= mr_log_last_seq(w.log) + 1; seq++) {
        size_t i = 0;
        while (i < w.truth_len && w.truth[i].seq < seq) {
            i++;
        }
        assert_int_equal(first_lsn_of(&w, seq, 0), i < w.truth_len ? i + 2 : 0);
        assert_int_equal(first_lsn_of(&w, seq, 20), i + 2 > last ? 0 : i + 2 > 20 ? i + 2 : 20);
    }
    world_finish(&w);
}

/* Payloads that are long for the segment are taken, others not; in either case all that is read is the model's. */
static void payloads_are_taken(void **state) {
    (void)state;
    struct world w;
    struct mr_error error;
    struct mr_log_reader *reader = NULL;
    struct mr_record record;
    struct mr_buf taken[2] = {{.len = 0}}; /* of the record before, and of this one */
    uint32_t count = 0;
    world_init(&w, 5, 8192);
    open_world(&w);
    append_some(&w, 60, 3000);
    assert_int_equal(mr_log_reader_open(virtual_disk_disk(w.vd), WORLD_DIR, 2, &reader, &error), MR_OK);
    for (size_t i = 0; mr_log_reader_next(reader, &record, &error) == MR_OK; i++) {
        uint8_t expected[3000];
        const struct expected *e = &w.truth[i];
        assert_true(i < w.truth_len && record.payload.len == e->len && e->len <= sizeof expected);
        world_payload(e->seq, e->index, expected, e->len);
        mr_log_reader_take_payload(reader, &record, &taken[1]);
        assert_true(taken[1].len == 0 || (taken[1].len == e->len && e->len >= 1024)); /* larger segments: longer */
        assert_true(taken[1].len == 0 || (taken[1].ptr == record.payload.ptr && taken[1].cap >= e->len + MR_PADDING));
        assert_true(mr_bytes_equal(record.payload, mr_bytes_of(expected, e->len)));
        if (taken[0].len > 0) { /* reading on has left it alone */
            world_payload(e[-1].seq, e[-1].index, expected, e[-1].len);
            assert_true(mr_bytes_equal(mr_buf_bytes(&taken[0]), mr_bytes_of(expected, e[-1].len)));
        }
        count += taken[1].len > 0;
        mr_buf_finish(&taken[0]);
        taken[0] = taken[1];
    }
    assert_true(count > 20 && count < w.truth_len - 30);
    mr_buf_finish(&taken[0]);
    mr_log_reader_close(reader);
    world_finish(&w);
}

static void a_reader_follows(void **state) {
    (void)state;
    struct world w;
    struct mr_error error;
    struct mr_log_reader *reader;
    struct mr_record record;
    world_init(&w, 4, 8192);
    open_world(&w);
    assert_int_equal(mr_log_reader_open(virtual_disk_disk(w.vd), WORLD_DIR, 0, &reader, &error),
                     MR_OK);
    uint64_t next = 1;
    for (int round = 0; round < 60; round++) {
        if (round % 3 == 1) { /* also where the bundle is written twice */
            unsigned kinds = 1u << VIRTUAL_DISK_SYNC | 1u << VIRTUAL_DISK_SYNC_DIR;
            virtual_disk_fail(w.vd, 1 + world_below(&w, 3), kinds, VIRTUAL_DISK_ONCE, MR_IO);
        }
        append_some(&w, (int)world_below(&w, 4), 600);
        uint64_t last = mr_log_last_lsn(w.log);
        uint64_t limit =
            round % 2 == 0 || next > last ? last : next + world_below(&w, last - next + 1);
        mr_log_reader_limit(reader, limit);
        enum mr_status status;
        while ((status = mr_log_reader_next(reader, &record, &error)) == MR_OK) {
            assert_int_equal(record.lsn, next++);
        }
        assert_int_equal(status, MR_END);
        assert_int_equal(next, limit + 1);
    }
    assert_true(next > 100);
    /* A restart adds a START; without a limit the end is found as well. */
    world_close(&w);
    open_world(&w);
    mr_log_reader_limit(reader, UINT64_MAX);
    enum mr_status status;
    while ((status = mr_log_reader_next(reader, &record, &error)) == MR_OK) {
        assert_int_equal(record.lsn, next++);
    }
    if (status != MR_END) {
        fail_msg("%s", error.text);
    }
    assert_int_equal(record.type, MR_RECORD_START);
    assert_int_equal(next, mr_log_last_lsn(w.log) + 1);
    mr_log_reader_close(reader);
    world_finish(&w);
}

static void an_empty_directory_reads_as_empty(void **state) {
    (void)state;
    struct world w;
    struct mr_error error;
    struct mr_log_reader *reader;
    struct mr_record record;
    world_init(&w, 5, 8192);
    struct mr_disk *disk = virtual_disk_disk(w.vd);
    assert_int_equal(mr_log_reader_open(disk, WORLD_DIR, 0, &reader, &error), MR_NOT_FOUND);
    assert_int_equal(mr_disk_mkdir(disk, WORLD_DIR), MR_OK);
    assert_int_equal(mr_log_reader_open(disk, WORLD_DIR, 0, &reader, &error), MR_OK);
    assert_int_equal(mr_log_reader_next(reader, &record, &error), MR_END);
    struct mr_log_extent extent;
    assert_int_equal(mr_log_extent_scan(disk, WORLD_DIR, &extent, &error), MR_NOT_FOUND);
    open_world(&w);
    assert_int_equal(mr_log_extent_scan(disk, WORLD_DIR, &extent, &error), MR_OK);
    assert_true(extent.first_lsn == 1 && extent.last_lsn == 1 && extent.last_seq == 1);
    assert_int_equal(mr_log_reader_next(reader, &record, &error), MR_OK);
    assert_int_equal(record.type, MR_RECORD_START);
    assert_int_equal(mr_log_reader_next(reader, &record, &error), MR_END);
    mr_log_reader_close(reader);
    world_finish(&w);
}

static void another_version_is_refused(void **state) {
    (void)state;
    struct world w;
    struct mr_error error;
    world_init(&w, 6, 8192);
    open_world(&w);
    world_close(&w);
    char path[MR_SEGMENT_PATH_MAX];
    struct mr_segment first = {.number = 1, .first_lsn = 1};
    assert_int_equal(mr_segment_path(WORLD_DIR, &first, path), MR_OK);
    uint8_t *content = malloc(8192);
    assert_non_null(content);
    memcpy(content, virtual_disk_content(w.vd, path).ptr, 8192);
    mr_wire_put_u16(content + 4, 2);
    mr_wire_put_u64(content + 56, mr_checksum(mr_bytes_of(content, 56)));
    virtual_disk_replace(w.vd, path, mr_bytes_of(content, 8192));
    assert_int_equal(world_open(&w, &error), MR_MISMATCH);
    assert_non_null(strstr(error.text, path));
    assert_non_null(strstr(error.text, "version"));
    free(content);
    world_finish(&w);
}

struct follower {
    const char *dir;
    const struct mr_log_stats *stats;
    uint64_t until;
    uint64_t read;
    bool trimmed; /* the log may begin later than what is next, when the reader begins (anew) */
    bool failed;
};

static void *follow(void *ctx) {
    struct follower *f = ctx;
    struct mr_log_reader *reader;
    struct mr_record record;
    struct mr_error error;
    uint8_t payload[512];
    bool anew = f->trimmed;
    if (mr_log_reader_open(mr_disk_system(), f->dir, 0, &reader, &error) != MR_OK) {
        f->failed = true;
        return NULL;
    }
    while (f->read < f->until && !f->failed) {
        if (f->stats != NULL) {
            mr_log_reader_limit(reader, mr_counter_read(&f->stats->last_lsn));
        }
        enum mr_status status = mr_log_reader_next(reader, &record, &error);
        if (status == MR_END) {
            continue;
        }
        if (status == MR_NOT_FOUND && f->trimmed && !anew) {
            f->failed = mr_log_reader_seek(reader, f->read + 1, &error) != MR_OK;
            anew = true;
            continue;
        }
        if (status == MR_OK && anew && record.lsn > f->read) {
            f->read = record.lsn - 1;
            anew = false;
        }
        f->failed = status != MR_OK || record.lsn != f->read + 1 || record.payload.len > 512;
        if (!f->failed && record.type == MR_RECORD_EVENTS) {
            world_payload(record.seq, record.bundle_index, payload, record.payload.len);
            f->failed = memcmp(payload, record.payload.ptr, record.payload.len) != 0;
        }
        f->read++;
        if (!f->failed && !f->trimmed && f->read % 64 == 0) { /* whatever is being written: what was read is there */
            struct mr_log_extent extent;
            f->failed = mr_log_extent_scan(mr_disk_system(), f->dir, &extent, &error) != MR_OK ||
                        extent.first_lsn != 1 || extent.last_lsn < f->read || extent.last_seq < record.seq;
        }
    }
    mr_log_reader_close(reader);
    return NULL;
}

static enum mr_status unlink_in(void *ctx, const char *name) {
    char path[600];
    (void)snprintf(path, sizeof path, "%s/%s", (const char *)ctx, name);
    return mr_disk_unlink(mr_disk_system(), path);
}

static char *temporary_dir(void) {
    char template[] = "/tmp/millrace-test-XXXXXX";
    assert_non_null(mkdtemp(template));
    return strdup(template);
}

static void remove_dir(char *dir) {
    assert_int_equal(mr_disk_list(mr_disk_system(), dir, unlink_in, dir), MR_OK);
    assert_int_equal(rmdir(dir), 0);
    free(dir);
}

static struct mr_log *open_system(const char *dir, uint64_t segment_bytes) {
    struct mr_error error;
    struct mr_log *log = NULL;
    const struct mr_log_options options = {.disk = mr_disk_system(),
                                           .clock = mr_clock_system(),
                                           .dir = dir,
                                           .segment_bytes = segment_bytes,
                                           .sync = true};
    if (mr_log_open(&options, &log, &error) != MR_OK) {
        fail_msg("%s", error.text);
    }
    return log;
}

static void append_system(struct mr_log *log, uint32_t count, size_t len) {
    struct mr_log_entry entries[8];
    uint8_t payload[8][512];
    struct mr_error error;
    uint64_t seq = mr_log_last_seq(log) + 1;
    for (uint32_t i = 0; i < count; i++) {
        world_payload(seq, i, payload[i], len);
        entries[i] = (struct mr_log_entry){
            .type = MR_RECORD_EVENTS, .payload = {{payload[i], len}}, .payload_count = 1};
    }
    assert_int_equal(mr_log_append(log, seq, (int64_t)seq, entries, count, &error), MR_OK);
}

static void readers_on_other_threads(void **state) {
    (void)state;
    enum { BUNDLES = 150 };
    char *dir = temporary_dir();
    struct mr_log *log = open_system(dir, 32768);
    struct follower followers[2] = {
        {.dir = dir, .stats = mr_log_stats(log), .until = 1 + BUNDLES * 4},
        {.dir = dir, .until = 1 + BUNDLES * 4}, /* without a limit: may be ahead of the sync */
    };
    pthread_t threads[2];
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, follow, &followers[i]), 0);
    }
    for (uint32_t i = 0; i < BUNDLES; i++) {
        append_system(log, 4, (i * 37) % 512);
    }
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_false(followers[i].failed);
        assert_int_equal(followers[i].read, 1 + BUNDLES * 4);
    }
    assert_true(mr_counter_read(&mr_log_stats(log)->segments) > 5);
    assert_true(mr_histogram_count(&mr_log_stats(log)->sync_ns) >= BUNDLES);
    mr_log_close(log);
    log = open_system(dir, 32768);
    assert_int_equal(mr_log_last_lsn(log), 2 + BUNDLES * 4);
    assert_true(mr_log_incarnation(log) != 0);
    mr_log_close(log);
    remove_dir(dir);
}

/* They read while the segments they are at, and those behind, go. */
static void readers_beside_retention(void **state) {
    (void)state;
    enum { BUNDLES = 150 };
    char *dir = temporary_dir();
    struct mr_log *log = open_system(dir, 8192);
    struct follower followers[2] = {
        {.dir = dir, .stats = mr_log_stats(log), .until = 1 + BUNDLES * 4, .trimmed = true},
        {.dir = dir, .until = 1 + BUNDLES * 4, .trimmed = true},
    };
    pthread_t threads[2];
    struct mr_error error;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, follow, &followers[i]), 0);
    }
    for (uint32_t i = 0; i < BUNDLES; i++) {
        const struct mr_log_retention retention = {
            .needed_lsn = mr_log_last_lsn(log), .before_ms = INT64_MIN, .bytes_max = 3 * 8192};
        bool removed;
        append_system(log, 4, (i * 37) % 512);
        assert_int_equal(mr_log_trim(log, &retention, &removed, &error), MR_OK);
    }
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_false(followers[i].failed);
        assert_int_equal(followers[i].read, 1 + BUNDLES * 4);
    }
    assert_true(mr_counter_read(&mr_log_stats(log)->segments) <= 4);
    assert_true(mr_log_first_lsn(log) > BUNDLES);
    mr_log_close(log);
    remove_dir(dir);
}

typedef enum mr_status print_call(struct mr_disk *, const char *, bool, void *, struct mr_error *);

static char *printed(print_call *call, struct world *w, bool json, enum mr_status expected) {
    char *text = NULL;
    size_t len = 0;
    struct mr_error error = {.text = ""};
    FILE *out = open_memstream(&text, &len);
    assert_non_null(out);
    assert_int_equal(call(virtual_disk_disk(w->vd), WORLD_DIR, json, out, &error), expected);
    assert_int_equal(fclose(out), 0);
    assert_true(expected == MR_OK || strstr(error.text, "offset") != NULL);
    return text;
}

static size_t lines_of(const char *text) {
    size_t lines = 0;
    for (; *text != '\0'; text++) {
        lines += *text == '\n';
    }
    return lines;
}

static void list_and_dump_print(void **state) {
    (void)state;
    struct world w;
    struct mr_error error;
    world_init(&w, 7, 8192);
    open_world(&w);
    static const char body[] = "{\"id\":\"a\\b\"}\n\x01\xff";
    struct mr_log_entry entries[2] = {
        {.type = MR_RECORD_EVENTS,
         .payload = {{(void *)(uintptr_t)body, sizeof body - 1}},
         .payload_count = 1},
        {.type = MR_RECORD_TICK},
    };
    assert_int_equal(mr_log_append(w.log, 2, INT64_C(1700000000123), entries, 2, &error), MR_OK);
    struct bundle b = {.seq = 3, .count = 1, .recorded_ms = INT64_C(1700000000123), .len = {5000}};
    assert_int_equal(world_append(&w, &b, &error), MR_OK);

    char *text = printed(mr_log_dump, &w, false, MR_OK);
    assert_int_equal(lines_of(text), 5);
    assert_non_null(strstr(text, "{\"id\":\"a\\\\b\"}\\n\\x01\\xff"));
    assert_non_null(strstr(text, "2023-11-14T22:13:20.123Z"));
    assert_non_null(strstr(text, " tick "));
    assert_non_null(strstr(text, "5000  "));
    assert_non_null(strstr(text, " ...\n"));
    free(text);
    text = printed(mr_log_dump, &w, true, MR_OK);
    assert_int_equal(lines_of(text), 4);
    assert_non_null(
        strstr(text, "{\"lsn\":2,\"seq\":2,\"index\":0,\"count\":2,\"type\":\"events\","));
    assert_non_null(strstr(text, "\"payload_len\":5000,"));
    assert_non_null(strstr(text, "\"cut\":true}"));
    free(text);
    text = printed(mr_log_list, &w, false, MR_OK);
    assert_int_equal(lines_of(text), 3);
    assert_non_null(strstr(text, "0000000000000004-00000002.log"));
    assert_non_null(strstr(text, "sound"));
    free(text);
    text = printed(mr_log_list, &w, true, MR_OK);
    assert_int_equal(lines_of(text), 2);
    assert_non_null(strstr(
        text, "\"first_lsn\":4,\"first_seq\":3,\"last_lsn\":4,\"last_seq\":3,\"records\":1,"));
    free(text);

    /* The second segment's only record damaged: a torn tail. The first one's: corrupt. */
    char path[MR_SEGMENT_PATH_MAX];
    world_close(&w);
    struct mr_segment second = {.number = 2, .first_lsn = 4};
    assert_int_equal(mr_segment_path(WORLD_DIR, &second, path), MR_OK);
    virtual_disk_flip(w.vd, path, MR_SEGMENT_HEADER + 200, 1);
    text = printed(mr_log_list, &w, true, MR_OK);
    assert_non_null(strstr(text, "\"state\":\"torn\""));
    free(text);
    struct mr_segment first = {.number = 1, .first_lsn = 1};
    assert_int_equal(mr_segment_path(WORLD_DIR, &first, path), MR_OK);
    virtual_disk_flip(w.vd, path, MR_SEGMENT_HEADER + MR_RECORD_HEADER + 10, 1);
    text = printed(mr_log_list, &w, false, MR_CORRUPT);
    assert_non_null(strstr(text, "corrupt\n"));
    free(text);
    text = printed(mr_log_dump, &w, false, MR_CORRUPT);
    assert_int_equal(lines_of(text), 2);
    free(text);
    world_finish(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(begins_and_goes_on),
        cmocka_unit_test(knows_the_last_config),
        cmocka_unit_test(a_bundle_lies_in_one_segment),
        cmocka_unit_test(readers_start_where_asked),
        cmocka_unit_test(payloads_are_taken),
        cmocka_unit_test(a_reader_follows),
        cmocka_unit_test(an_empty_directory_reads_as_empty),
        cmocka_unit_test(another_version_is_refused),
        cmocka_unit_test(readers_on_other_threads),
        cmocka_unit_test(readers_beside_retention),
        cmocka_unit_test(list_and_dump_print),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
