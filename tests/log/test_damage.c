/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that a damaged log is never read wrongly. A small log of two segments, closed, is damaged
 * in one place at a time: every byte flipped, the file cut at every byte, every sector zeroed, set
 * to 0xff, overwritten with every other one, and swapped with every other one. Then:
 *   1. a reader gives records of the model in order, or says MR_CORRUPT;
 *   2. open refuses with MR_CORRUPT, naming segment and offset, or what is then there is the
 *      model: all of it, unless the damage left no header of a later bundle than the first it hit,
 *      for then it cannot be told from a torn write: all before that bundle. (One damaged byte:
 *      only in the last bundle.)
 *   3. a cut file is always refused, and so is a damaged segment header.
 */
#include "log/segment.h"
#include "tests/log/world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

enum { SECTOR = 512, SEGMENT = 8192 };

struct sample {
    struct world w;
    char path[2][MR_SEGMENT_PATH_MAX];
    struct mr_segment segment[2];
    uint64_t end[2]; /* of the records */
    struct place {
        uint64_t offset;
        uint64_t size;
        size_t bundle;
        size_t before;              /* records of the model before this bundle */
    } places[WORLD_BUNDLE_MAX * 6]; /* of the last segment's records */
    size_t place_count;
    uint64_t refused;
    uint64_t recovered;
};

/* Bytes [from, to) of a file that are not what they were. */
struct range {
    uint64_t from;
    uint64_t to;
};

static void make_sample(struct sample *s) {
    struct mr_error error;
    *s = (struct sample){0};
    world_init(&s->w, 1, SEGMENT);
    assert_int_equal(world_open(&s->w, &error), MR_OK);
    static const struct bundle bundles[] = {
        {.seq = 2, .count = 3, .recorded_ms = 1, .len = {100, 0, 300}},
        {.seq = 3, .count = 1, .recorded_ms = 2, .len = {513}},
        {.seq = 5, .count = 2, .recorded_ms = 3, .len = {1, 2600}}, /* the first is now full */
        {.seq = 6, .count = 2, .recorded_ms = 4, .len = {200, 90}},
        {.seq = 7, .count = 1, .recorded_ms = 5, .len = {0}},
        {.seq = 8, .count = 3, .recorded_ms = 6, .len = {30, 700, 8}},
    };
    s->end[0] = MR_SEGMENT_HEADER + mr_record_size(0); /* the START */
    s->end[1] = MR_SEGMENT_HEADER;
    for (size_t i = 0; i < sizeof bundles / sizeof bundles[0]; i++) {
        size_t before = s->w.truth_len;
        assert_int_equal(world_append(&s->w, &bundles[i], &error), MR_OK);
        for (uint32_t r = 0; r < bundles[i].count; r++) {
            uint64_t *end = &s->end[i < 3 ? 0 : 1];
            uint64_t size = mr_record_size(bundles[i].len[r]);
            if (i >= 3) {
                s->places[s->place_count++] = (struct place){*end, size, i, before};
            }
            *end += size;
        }
    }
    world_check(&s->w);
    world_close(&s->w);
    struct mr_segments segments;
    assert_int_equal(mr_segments_list(virtual_disk_disk(s->w.vd), WORLD_DIR, &segments, &error),
                     MR_OK);
    assert_int_equal(segments.count, 2);
    for (int i = 0; i < 2; i++) {
        s->segment[i] = segments.items[i];
        assert_int_equal(mr_segment_path(WORLD_DIR, &segments.items[i], s->path[i]), MR_OK);
    }
    mr_segments_finish(&segments);
}

static bool hit(const struct range ranges[2], uint64_t offset, uint64_t len) {
    return (ranges[0].from < offset + len && ranges[0].to > offset) ||
           (ranges[1].from < offset + len && ranges[1].to > offset);
}

/* How many records of the model must be there if segment i is accepted with this damage. */
static size_t least_of(const struct sample *s, int i, const struct range ranges[2]) {
    size_t first = 0;
    while (first < s->place_count && !hit(ranges, s->places[first].offset, s->places[first].size)) {
        first++;
    }
    if (i == 0 || first == s->place_count) {
        return s->w.truth_len;
    }
    for (size_t p = first; p < s->place_count; p++) {
        if (s->places[p].bundle > s->places[first].bundle &&
            !hit(ranges, s->places[p].offset, MR_RECORD_HEADER)) {
            return s->w.truth_len;
        }
    }
    return s->places[first].before;
}

/* Segment i of vd was damaged: what do reader and open say? */
static void judge(struct sample *s, struct virtual_disk *vd, int i, const struct range ranges[2],
                  bool must_refuse) {
    struct mr_error error = {.status = MR_OK};
    enum mr_status status;
    size_t least = least_of(s, i, ranges);
    (void)world_compare(&s->w, virtual_disk_disk(vd), WORLD_DIR, least, &status, &error);
    assert_true(status == MR_OK || status == MR_CORRUPT);

    struct world damaged = s->w;
    damaged.vd = vd;
    status = world_open(&damaged, &error);
    if (status == MR_OK) {
        assert_false(must_refuse);
        world_close(&damaged);
        (void)world_compare(&s->w, virtual_disk_disk(vd), WORLD_DIR, least, &status, &error);
        assert_int_equal(status, MR_OK);
        s->recovered++;
    } else {
        assert_int_equal(status, MR_CORRUPT);
        assert_non_null(strstr(error.text, s->path[i]));
        assert_non_null(strstr(error.text, ": offset "));
        s->refused++;
    }
    virtual_disk_close(vd);
}

/* Changes segment i to content and judges it; nothing to judge when that changes nothing. */
static void try(struct sample *s, int i, const uint8_t *content) {
    struct mr_bytes was = virtual_disk_content(s->w.vd, s->path[i]);
    struct range ranges[2] = {{0, 0}, {0, 0}};
    size_t count = 0;
    for (uint64_t sector = 0; sector < was.len; sector += SECTOR) {
        uint64_t from = sector;
        uint64_t to = sector + SECTOR;
        while (from < to && content[from] == was.ptr[from]) {
            from++;
        }
        while (from < to && content[to - 1] == was.ptr[to - 1]) {
            to--;
        }
        if (from < to) {
            assert_true(count < 2);
            ranges[count++] = (struct range){from, to};
        }
    }
    if (count > 0) {
        struct virtual_disk *vd = virtual_disk_clone(s->w.vd, 1);
        virtual_disk_replace(vd, s->path[i], mr_bytes_of(content, was.len));
        judge(s, vd, i, ranges, hit(ranges, 0, 64));
    }
}

static bool in_records(const struct sample *s, int i, uint64_t offset) {
    return offset < 64 || (offset >= MR_SEGMENT_HEADER && offset < s->end[i] + MR_RECORD_HEADER);
}

static void every_byte_flipped(void **state) {
    (void)state;
    struct sample s;
    make_sample(&s);
    for (int i = 0; i < 2; i++) {
        for (uint64_t at = 0; at < s.end[i] + MR_RECORD_HEADER && at < SEGMENT; at++) {
            if (in_records(&s, i, at)) {
                struct virtual_disk *vd = virtual_disk_clone(s.w.vd, 1);
                virtual_disk_flip(vd, s.path[i], at, (uint8_t)(1u << at % 8));
                const struct range ranges[2] = {{at, at + 1}, {0, 0}};
                judge(&s, vd, i, ranges, at < 64);
            }
        }
    }
    assert_true(s.refused > 3000 && s.recovered > 800);
    world_finish(&s.w);
}

static void cut_at_every_byte(void **state) {
    (void)state;
    struct sample s;
    make_sample(&s);
    for (int i = 0; i < 2; i++) {
        for (uint64_t at = 0; at < SEGMENT; at += in_records(&s, i, at) ? 1 : 61) {
            struct virtual_disk *vd = virtual_disk_clone(s.w.vd, 1);
            struct mr_bytes content = virtual_disk_content(s.w.vd, s.path[i]);
            virtual_disk_replace(vd, s.path[i], mr_bytes_of(content.ptr, at));
            const struct range ranges[2] = {{at, SEGMENT}, {0, 0}};
            judge(&s, vd, i, ranges, true);
        }
    }
    assert_int_equal(s.recovered, 0);
    world_finish(&s.w);
}

static uint8_t *copy_of(struct sample *s, int i) {
    struct mr_bytes content = virtual_disk_content(s->w.vd, s->path[i]);
    uint8_t *copy = malloc(content.len);
    assert_non_null(copy);
    return memcpy(copy, content.ptr, content.len);
}

static void overwrite(struct sample *s, int i, uint64_t sector, const uint8_t with[SECTOR]) {
    uint8_t *copy = copy_of(s, i);
    memcpy(copy + sector, with, SECTOR);
    try(s, i, copy);
    free(copy);
}

static void every_sector_overwritten(void **state) {
    (void)state;
    static const uint8_t zeros[SECTOR];
    uint8_t ones[SECTOR];
    memset(ones, 0xff, sizeof ones);
    struct sample s;
    make_sample(&s);
    for (int i = 0; i < 2; i++) {
        for (uint64_t sector = 0; sector < SEGMENT; sector += SECTOR) {
            overwrite(&s, i, sector, zeros);
            overwrite(&s, i, sector, ones);
            for (int j = 0; j < 2; j++) {
                struct mr_bytes other = virtual_disk_content(s.w.vd, s.path[j]);
                for (uint64_t from = 0; from < SEGMENT; from += SECTOR) {
                    overwrite(&s, i, sector, other.ptr + from);
                }
            }
        }
    }
    assert_true(s.refused > 200 && s.recovered > 20);
    world_finish(&s.w);
}

static void every_two_sectors_swapped(void **state) {
    (void)state;
    struct sample s;
    make_sample(&s);
    for (int i = 0; i < 2; i++) {
        struct mr_bytes content = virtual_disk_content(s.w.vd, s.path[i]);
        for (uint64_t a = 0; a < SEGMENT; a += SECTOR) {
            for (uint64_t b = a + SECTOR; b < SEGMENT; b += SECTOR) {
                uint8_t *copy = copy_of(&s, i);
                memcpy(copy + a, content.ptr + b, SECTOR);
                memcpy(copy + b, content.ptr + a, SECTOR);
                try(&s, i, copy);
                free(copy);
            }
        }
    }
    assert_true(s.refused > 50);
    world_finish(&s.w);
}

static void segments_of_two_logs_do_not_mix(void **state) {
    (void)state;
    struct sample s;
    make_sample(&s);
    struct mr_error error;
    struct mr_segment other = s.segment[1];
    other.incarnation ^= 1;
    uint8_t header[MR_SEGMENT_HEADER];
    mr_segment_encode(&other, header);
    struct mr_bytes content = virtual_disk_content(s.w.vd, s.path[1]);
    uint8_t *copy = malloc(content.len);
    assert_non_null(copy);
    memcpy(copy, content.ptr, content.len);
    memcpy(copy, header, sizeof header);
    virtual_disk_replace(s.w.vd, s.path[1], mr_bytes_of(copy, content.len));
    assert_int_equal(world_open(&s.w, &error), MR_CORRUPT);
    assert_non_null(strstr(error.text, "another log"));

    /* The name of the one, the content of the other. */
    content = virtual_disk_content(s.w.vd, s.path[0]);
    memcpy(copy, content.ptr, content.len);
    virtual_disk_replace(s.w.vd, s.path[1], mr_bytes_of(copy, content.len));
    assert_int_equal(world_open(&s.w, &error), MR_CORRUPT);
    free(copy);
    world_finish(&s.w);
}

/* What a file held before it was ours: a record that is sound in itself, right behind the end, with the next numbers. */
static void records_of_another_log_stay_dead(void **state) {
    (void)state;
    struct world w;
    struct mr_error error;
    world_init(&w, 1, SEGMENT);
    assert_int_equal(world_open(&w, &error), MR_OK);
    struct bundle b = world_bundle(&w, 500);
    assert_int_equal(world_append(&w, &b, &error), MR_OK);
    uint64_t lsn = mr_log_last_lsn(w.log);
    uint64_t seq = mr_log_last_seq(w.log);
    uint64_t incarnation = mr_log_incarnation(w.log);
    uint64_t end = MR_SEGMENT_HEADER + mr_counter_read(&mr_log_stats(w.log)->bytes);
    world_close(&w);
    for (uint64_t wrong = 0; wrong < 2; wrong++) { /* as a check that it would pass, were it ours */
        struct mr_record record = {.type = MR_RECORD_TICK,
                                   .bundle_count = 1,
                                   .segment = 1,
                                   .lsn = lsn + 1,
                                   .seq = seq + 1,
                                   .incarnation = incarnation ^ (1 - wrong),
                                   .recorded_ms = w.now_ms};
        uint8_t header[MR_RECORD_HEADER];
        mr_record_encode(&record, NULL, 0, header);
        struct virtual_disk *vd = virtual_disk_clone(w.vd, 1);
        struct mr_segments segments;
        assert_int_equal(mr_segments_list(virtual_disk_disk(vd), WORLD_DIR, &segments, &error), MR_OK);
        char path[MR_SEGMENT_PATH_MAX];
        assert_int_equal(mr_segment_path(WORLD_DIR, &segments.items[0], path), MR_OK);
        struct mr_bytes content = virtual_disk_content(vd, path);
        uint8_t *copy = malloc(content.len);
        assert_non_null(copy);
        memcpy(copy, content.ptr, content.len);
        memcpy(copy + end, header, sizeof header);
        virtual_disk_replace(vd, path, mr_bytes_of(copy, content.len));
        free(copy);
        mr_segments_finish(&segments);
        struct mr_log *log = NULL;
        struct mr_log_options options = {.disk = virtual_disk_disk(vd),
                                         .clock = mr_clock_system(),
                                         .dir = WORLD_DIR,
                                         .segment_bytes = SEGMENT,
                                         .sync = true};
        assert_int_equal(mr_log_open(&options, &log, &error), MR_OK);
        assert_int_equal(mr_log_last_lsn(log), lsn + 1 + wrong); /* this open's START stands behind it */
        mr_log_close(log);
        virtual_disk_close(vd);
    }
    world_finish(&w);
}

static void a_missing_segment_is_noticed(void **state) {
    (void)state;
    struct world w;
    struct mr_error error;
    world_init(&w, 1, SEGMENT);
    assert_int_equal(world_open(&w, &error), MR_OK);
    for (int i = 0; i < 40; i++) {
        struct bundle b = world_bundle(&w, 500);
        assert_int_equal(world_append(&w, &b, &error), MR_OK);
    }
    world_close(&w);
    struct mr_segments segments;
    assert_int_equal(mr_segments_list(virtual_disk_disk(w.vd), WORLD_DIR, &segments, &error),
                     MR_OK);
    assert_true(segments.count > 3);
    char path[MR_SEGMENT_PATH_MAX];
    assert_int_equal(mr_segment_path(WORLD_DIR, &segments.items[1], path), MR_OK);
    assert_int_equal(mr_disk_unlink(virtual_disk_disk(w.vd), path), MR_OK);
    assert_int_equal(world_open(&w, &error), MR_CORRUPT);
    assert_non_null(strstr(error.text, "next segment begins at lsn"));
    mr_segments_finish(&segments);
    world_finish(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_byte_flipped),
        cmocka_unit_test(cut_at_every_byte),
        cmocka_unit_test(every_sector_overwritten),
        cmocka_unit_test(every_two_sectors_swapped),
        cmocka_unit_test(segments_of_two_logs_do_not_mix),
        cmocka_unit_test(records_of_another_log_stay_dead),
        cmocka_unit_test(a_missing_segment_is_noticed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
