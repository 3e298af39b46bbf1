/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves of `millrace log repair`, by the oracle of tests/log/sample.h:
 *   1. a sound log, or one with a torn tail, is not changed;
 *   2. every byte of a small log flipped; every set of its records damaged, in each way;
 *   3. every file missing, cut at every place, with every kind of wrong header;
 *   4. random damage over a log with torn and given-up writes: sectors swapped, zeroed, moved between files;
 *   5. what is needed before the beginning or behind the end becomes a GAP too;
 *   6. readers from any seq or lsn, list and dump know GAPs; a repair after a repair keeps both damages apart.
 */
#include "base/hash.h"
#include "log/wire.h"
#include "tests/log/sample.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { SECTOR = 512 };

static uint64_t random_state;

static uint64_t below(uint64_t bound) {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (random_state >> 33) % bound;
}

static void sound_logs_are_not_changed(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct sample s;
        sample_make_rich(&s, seed);
        struct virtual_disk *vd = virtual_disk_clone(s.vd, 1);
        struct mr_log_repair repair = sample_repair_and_verify(&s, vd);
        assert_int_equal(repair.damages, 0);
        assert_int_equal(repair.segments, s.segments.count);
        assert_false(sample_exists(vd, SAMPLE_DIR "/quarantine"));
        virtual_disk_close(vd);
        sample_finish(&s);
    }
}

static void every_byte_flipped(void **state) {
    (void)state;
    struct sample s;
    sample_make_small(&s);
    uint64_t repaired = 0;
    for (uint32_t i = 0; i < s.segments.count; i++) {
        char path[MR_SEGMENT_PATH_MAX];
        sample_path(&s, i, path);
        for (uint64_t at = 0; at < s.segments.items[i].size; at++) {
            bool in_header = at < 64;
            bool in_records = at >= MR_SEGMENT_HEADER;
            if (!in_header && (!in_records || at % (i == 1 ? 3 : 13) != 0)) {
                continue;
            }
            struct virtual_disk *vd = virtual_disk_clone(s.vd, 1);
            virtual_disk_flip(vd, path, at, (uint8_t)(1u << at % 8));
            struct mr_log_repair repair = sample_repair_and_verify(&s, vd);
            repaired += repair.damages > 0;
            assert_true(!in_header || (repair.damages == 1 && repair.lost_lsns == 0));
            assert_true(repair.lost_lsns <= 1);
            virtual_disk_close(vd);
        }
    }
    assert_true(repaired > 700);
    sample_finish(&s);
}

enum way { FLIP_PAYLOAD, FLIP_LENGTH, FLIP_CHECK, ZERO, ONES, WAYS };

static void damage_record(const struct sample *s, struct virtual_disk *vd, uint32_t i,
                          enum way way) {
    const struct sample_record *r = &s->records[i];
    size_t len = MR_RECORD_HEADER + r->record.payload.len;
    char path[MR_SEGMENT_PATH_MAX];
    sample_path(s, r->segment, path);
    switch (way) {
    case FLIP_PAYLOAD:
        virtual_disk_flip(vd, path, r->offset + len - 1, 0x40);
        break;
    case FLIP_LENGTH:
        virtual_disk_flip(vd, path, r->offset + 9, 0x20);
        break;
    case FLIP_CHECK:
        virtual_disk_flip(vd, path, r->offset + 72, 1);
        break;
    case ZERO:
        sample_fill(s, vd, r->segment, r->offset, 0, len);
        break;
    default:
        sample_fill(s, vd, r->segment, r->offset, 0xff, len);
        break;
    }
}

static void every_set_of_records(void **state) {
    (void)state;
    struct sample s;
    sample_make_small(&s);
    uint64_t repaired = 0;
    for (uint32_t set = 1; set < 1u << s.count; set += set % 3 == 0 ? 13 : 11) {
        struct virtual_disk *vd = virtual_disk_clone(s.vd, 1);
        uint32_t lost = 0;
        for (uint32_t i = 0; i < s.count; i++) {
            if ((set >> i & 1) != 0) {
                damage_record(&s, vd, i, (enum way)((set + i) % WAYS));
                lost++;
            }
        }
        struct mr_log_repair repair = sample_repair_and_verify(&s, vd);
        assert_true(repair.lost_lsns <= lost);
        repaired += repair.damages > 0;
        virtual_disk_close(vd);
    }
    assert_true(repaired > 500);
    sample_finish(&s);
}

static void every_record_in_every_way(void **state) {
    (void)state;
    struct sample s;
    sample_make_small(&s);
    for (uint32_t i = 0; i < s.count; i++) {
        for (int way = 0; way < WAYS; way++) {
            struct virtual_disk *vd = virtual_disk_clone(s.vd, 1);
            damage_record(&s, vd, i, (enum way)way);
            struct mr_log_repair repair = sample_repair_and_verify(&s, vd);
            /* The last bundle: nothing tells damage from a torn write. */
            bool torn = s.records[i].record.seq == s.records[s.count - 1].record.seq;
            assert_int_equal(repair.lost_lsns, torn ? 0 : 1);
            assert_int_equal(repair.damages, torn ? 0 : 1);
            assert_int_equal(repair.quarantined_bytes > 0, !torn && way != ZERO);
            virtual_disk_close(vd);
        }
    }
    sample_finish(&s);
}

static void missing_files(void **state) {
    (void)state;
    struct sample s;
    sample_make_small(&s);
    struct virtual_disk *vd = virtual_disk_clone(s.vd, 1);
    sample_remove(&s, vd, 1);
    struct mr_log_repair repair = sample_repair_and_verify(&s, vd);
    assert_int_equal(repair.damages, 1);
    assert_int_equal(repair.lost_lsns,
                     s.segments.items[2].first_lsn - s.segments.items[1].first_lsn);
    virtual_disk_close(vd);

    /* The last: nothing says that it was there. */
    vd = virtual_disk_clone(s.vd, 1);
    sample_remove(&s, vd, 2);
    repair = sample_repair_and_verify(&s, vd);
    assert_int_equal(repair.damages, 0);
    virtual_disk_close(vd);

    for (uint64_t seed = 1; seed <= 10; seed++) {
        struct sample rich;
        sample_make_rich(&rich, seed);
        for (uint32_t i = 1; i + 1 < rich.segments.count; i++) {
            vd = virtual_disk_clone(rich.vd, 1);
            sample_remove(&rich, vd, i);
            if (i % 2 == 0) {
                sample_remove(&rich, vd, i - 1);
            }
            if (i > 2 || i % 2 == 1) {
                (void)sample_repair_and_verify(&rich, vd);
            }
            virtual_disk_close(vd);
        }
        sample_finish(&rich);
    }
    sample_finish(&s);
}

static void cut_files(void **state) {
    (void)state;
    struct sample s;
    sample_make_small(&s);
    for (uint32_t i = 0; i < s.segments.count; i++) {
        for (uint64_t at = 0; at < s.segments.items[i].size;
             at += at < 64 || at > 4090 ? 11 : 997) {
            struct virtual_disk *vd = virtual_disk_clone(s.vd, 1);
            sample_truncate(&s, vd, i, at);
            struct mr_log_repair repair = sample_repair_and_verify(&s, vd);
            assert_true(repair.damages > 0);
            virtual_disk_close(vd);
        }
    }
    /* The last one, cut in the bundle's second record: the bundle had three. */
    struct virtual_disk *vd = virtual_disk_clone(s.vd, 1);
    sample_truncate(&s, vd, 2, s.records[s.count - 2].offset + MR_RECORD_HEADER + 5);
    struct mr_log_repair repair = sample_repair_and_verify(&s, vd);
    assert_int_equal(repair.lost_lsns, 2);
    virtual_disk_close(vd);
    /* And in the first: its header says how many there were. */
    vd = virtual_disk_clone(s.vd, 1);
    sample_truncate(&s, vd, 2, s.records[s.count - 3].offset + MR_RECORD_HEADER + 5);
    repair = sample_repair_and_verify(&s, vd);
    assert_int_equal(repair.lost_lsns, 3);
    virtual_disk_close(vd);
    sample_finish(&s);
}

/* A header with a sound check that is not the right one. */
static void put_header(const struct sample *s, struct virtual_disk *vd, uint32_t i,
                       const struct mr_segment *segment) {
    uint8_t header[MR_SEGMENT_HEADER];
    mr_segment_encode(segment, header);
    sample_write(s, vd, i, 0, header, sizeof header);
}

static void wrong_headers(void **state) {
    (void)state;
    struct sample s;
    sample_make_small(&s);
    for (uint32_t i = 0; i < s.segments.count; i++) {
        for (int how = 0; how < 6; how++) {
            struct virtual_disk *vd = virtual_disk_clone(s.vd, 1);
            struct mr_segment wrong = s.segments.items[i];
            wrong.number += how == 0;
            wrong.first_lsn += how == 1;
            wrong.incarnation += how == 2;
            put_header(&s, vd, i, &wrong);
            if (how == 3) { /* and its records do not say either */
                sample_fill(&s, vd, i, 0, 0xee, wrong.size);
            } else if (how == 4) {
                sample_fill(&s, vd, i, 0, 0, wrong.size);
            } else if (how == 5) {
                for (uint32_t all = 0; all < s.segments.count; all++) {
                    sample_fill(&s, vd, all, 0, 0x11, 64);
                }
            }
            struct virtual_disk *was = virtual_disk_clone(vd, 1);
            struct mr_log_repair repair;
            assert_int_equal(sample_repair(vd, 0, &repair), MR_OK);
            assert_true(repair.damages > 0);
            bool alien_end = how == 2 && i == 2; /* by its name another log's: taken away whole */
            if (alien_end) {
                char path[MR_SEGMENT_PATH_MAX];
                sample_path(&s, 2, path);
                assert_false(sample_exists(vd, path));
                assert_true(
                    sample_exists(vd, SAMPLE_DIR "/quarantine/0000000000000011-00000003-0.bin"));
            } else {
                assert_true(how >= 3 || repair.lost_lsns == 0);
                sample_verify(&s, was, vd);
            }
            virtual_disk_close(was);
            virtual_disk_close(vd);
        }
    }
    sample_finish(&s);
}

/* The whole content of segment `from` under another name. */
static void copy_as(const struct sample *s, struct virtual_disk *vd, uint32_t from, uint32_t number,
                    uint64_t first_lsn) {
    char path[MR_SEGMENT_PATH_MAX];
    struct mr_segment name = {.number = number, .first_lsn = first_lsn};
    struct mr_file *file;
    sample_path(s, from, path);
    struct mr_bytes content = virtual_disk_content(s->vd, path);
    assert_int_equal(mr_segment_path(SAMPLE_DIR, &name, path), MR_OK);
    assert_int_equal(mr_file_open(virtual_disk_disk(vd), path, MR_FILE_CREATE, &file), MR_OK);
    mr_file_close(file);
    assert_int_equal(mr_disk_sync_dir(virtual_disk_disk(vd), SAMPLE_DIR), MR_OK);
    virtual_disk_replace(vd, path, content);
}

static void files_without_a_place(void **state) {
    (void)state;
    static const struct {
        uint32_t number;
        uint64_t first_lsn;
        const char *quarantine; /* NULL: it keeps its name */
    } cases[] = {
        {2, 7, "0000000000000007-00000002-0.bin"}, /* a second one of the number */
        {1, 6, "0000000000000006-00000001-0.bin"},
        {9, 3, "0000000000000003-00000009-0.bin"}, /* begins before those before it */
        {7, 14, NULL},                             /* as the next one would be called */
        {4, UINT64_MAX, "18446744073709551615-00000004-0.bin"},
    };
    struct sample s;
    sample_make_small(&s);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct virtual_disk *vd = virtual_disk_clone(s.vd, 1);
        copy_as(&s, vd, 1, cases[i].number, cases[i].first_lsn);
        struct mr_log *log;
        struct mr_error error = {.text = ""};
        assert_int_equal(sample_open_log(vd, 0, &log, &error), MR_CORRUPT);
        assert_non_null(strstr(error.text, "`millrace log repair " SAMPLE_DIR "` quarantines"));
        struct mr_log_repair repair = sample_repair_and_verify(&s, vd);
        assert_true(repair.damages > 0 && repair.lost_lsns == 0);
        if (cases[i].quarantine != NULL) {
            char path[256];
            (void)snprintf(path, sizeof path, SAMPLE_DIR "/quarantine/%s", cases[i].quarantine);
            assert_true(sample_exists(vd, path));
        }
        virtual_disk_close(vd);
    }
    sample_finish(&s);
}

static void random_damage_once(const struct sample *s, struct virtual_disk *vd) {
    uint32_t i = (uint32_t)below(s->segments.count);
    uint32_t k = (uint32_t)below(s->segments.count);
    char path[MR_SEGMENT_PATH_MAX];
    char other[MR_SEGMENT_PATH_MAX];
    sample_path(s, i, path);
    sample_path(s, k, other);
    if (!sample_exists(vd, path) || !sample_exists(vd, other)) {
        return;
    }
    uint8_t sector[SECTOR];
    struct mr_bytes content = virtual_disk_content(vd, path);
    struct mr_bytes from = virtual_disk_content(vd, other);
    if (content.len < SECTOR || from.len < SECTOR) {
        return;
    }
    uint64_t at = below(content.len / SECTOR) * SECTOR;
    uint64_t back = below(from.len / SECTOR) * SECTOR;
    switch (below(8)) {
    case 0:
        sample_fill(s, vd, i, at, 0, SECTOR);
        break;
    case 1:
        sample_fill(s, vd, i, at, 0xa5, SECTOR);
        break;
    case 2: /* moved: stands in two places */
        memcpy(sector, from.ptr + back, SECTOR);
        sample_write(s, vd, i, at, sector, SECTOR);
        break;
    case 3: /* swapped, in one file */
        back = below(content.len / SECTOR) * SECTOR;
        memcpy(sector, content.ptr + at, SECTOR);
        sample_write(s, vd, i, at, content.ptr + back, SECTOR);
        sample_write(s, vd, i, back, sector, SECTOR);
        break;
    case 4:
        if (below(4) == 0) {
            sample_truncate(s, vd, i, below(content.len));
        }
        break;
    case 5:
        if (below(6) == 0 && i > 0 && i + 1 < s->segments.count) {
            sample_remove(s, vd, i);
        }
        break;
    default:
        virtual_disk_flip(vd, path, below(content.len), (uint8_t)(1 + below(255)));
        break;
    }
}

static void random_damage(void **state) {
    (void)state;
    uint64_t repaired = 0;
    for (uint64_t seed = 1; seed <= 30; seed++) {
        struct sample s;
        sample_make_rich(&s, seed);
        for (uint64_t again = 0; again < 10; again++) {
            random_state = seed * 1000 + again;
            struct virtual_disk *vd = virtual_disk_clone(s.vd, 1);
            for (uint64_t n = 1 + below(6); n > 0; n--) {
                random_damage_once(&s, vd);
            }
            repaired += sample_repair_and_verify(&s, vd).damages > 0;
            virtual_disk_close(vd);
        }
        sample_finish(&s);
    }
    assert_true(repaired > 150);
}

/* The log as a reader that starts at a seq or lsn sees it: nothing skipped but what is before. */
static void readers_start_at_gaps(void **state) {
    (void)state;
    struct sample s;
    sample_make_small(&s);
    struct virtual_disk *vd = virtual_disk_clone(s.vd, 1);
    struct mr_log_repair repair;
    struct mr_error error;
    for (uint32_t lsn = 4; lsn <= 7;
         lsn++) { /* the end of bundle 2, bundle 3, the head of bundle 5 */
        damage_record(&s, vd, lsn - 1, ONES);
    }
    assert_int_equal(sample_repair(vd, 0, &repair), MR_OK);
    assert_int_equal(repair.lost_lsns, 4);
    for (uint64_t lsn = 1; lsn <= s.count; lsn++) {
        struct mr_log_reader *reader;
        struct mr_record record;
        assert_int_equal(mr_log_reader_open(virtual_disk_disk(vd), SAMPLE_DIR, 0, &reader, &error),
                         MR_OK);
        assert_int_equal(mr_log_reader_seek(reader, lsn, &error), MR_OK);
        assert_int_equal(mr_log_reader_next(reader, &record, &error), MR_OK);
        assert_true(record.lsn <= lsn && record.lsn + record.lsn_count > lsn);
        assert_int_equal(record.type == MR_RECORD_GAP, lsn >= 4 && lsn <= 7);
        assert_true(record.type != MR_RECORD_GAP || record.bundle_index == 0);
        mr_log_reader_close(reader);
    }
    /* Bundle 3 is lost whole: who asks for it meets the GAP, and so does who asks for the rest of bundle 2. */
    static const struct {
        uint64_t from_seq;
        uint64_t lsn;
    } cases[] = {{2, 2}, {3, 4}, {4, 4}, {5, 8}, {6, 9}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct mr_log_reader *reader;
        struct mr_record record;
        assert_int_equal(mr_log_reader_open(virtual_disk_disk(vd), SAMPLE_DIR, cases[i].from_seq,
                                            &reader, &error),
                         MR_OK);
        assert_int_equal(mr_log_reader_next(reader, &record, &error), MR_OK);
        assert_int_equal(record.lsn, cases[i].lsn);
        mr_log_reader_close(reader);
    }
    virtual_disk_close(vd);
    sample_finish(&s);
}

typedef enum mr_status print_call(struct mr_disk *, const char *, bool, void *, struct mr_error *);

static char *printed(print_call *call, struct virtual_disk *vd, bool json) {
    char *text = NULL;
    size_t len = 0;
    struct mr_error error = {.text = ""};
    FILE *out = open_memstream(&text, &len);
    assert_non_null(out);
    assert_int_equal(call(virtual_disk_disk(vd), SAMPLE_DIR, json, out, &error), MR_OK);
    assert_int_equal(fclose(out), 0);
    return text;
}

static enum mr_status repair_call(struct mr_disk *disk, const char *dir, bool json, void *stdio,
                                  struct mr_error *error) {
    struct mr_log_repair repair;
    return mr_log_repair(disk, dir, 0, json, stdio, &repair, error);
}

static void must_say(print_call *call, struct virtual_disk *vd, bool json, const char *const *says,
                     size_t count) {
    char *text = printed(call, vd, json);
    for (size_t i = 0; i < count; i++) {
        if (strstr(text, says[i]) == NULL) {
            fail_msg("`%s` does not say `%s`", text, says[i]);
        }
    }
    free(text);
}

#define MUST_SAY(call, vd, json, ...)                                                              \
    must_say(call, vd, json, (const char *const[]){__VA_ARGS__},                                   \
             sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))

static void what_it_says(void **state) {
    (void)state;
    struct sample s;
    sample_make_small(&s);
    struct virtual_disk *vd = virtual_disk_clone(s.vd, 1);
    MUST_SAY(repair_call, vd, false,
             SAMPLE_DIR ": 3 segments, lsn 1 to 13: sound, nothing to repair\n");
    damage_record(&s, vd, 2, FLIP_PAYLOAD); /* lsn 3, without a payload: its header's last byte */
    sample_remove(&s, vd, 1);
    struct virtual_disk *twin = virtual_disk_clone(vd, 1);
    MUST_SAY(repair_call, vd, false,
             "0000000000000001-00000001.log: offset 4360: damaged: lsn 3 to 3 lost: 80 bytes to "
             "quarantine/0000000000000001-00000001-4360.bin\n",
             "0000000000000001-00000001.log: offset 7504: missing: lsn 6 to 10 lost\n",
             SAMPLE_DIR
             ": 2 segments, lsn 1 to 13: 2 damages repaired, 6 records lost, 80 bytes in "
             "data/log/quarantine\n");
    MUST_SAY(repair_call, twin, true,
             "{\"name\":\"0000000000000001-00000001.log\",\"offset\":4360,\"what\":\"damaged\","
             "\"first_lost_lsn\":3,\"lost_lsns\":1,\"quarantined_bytes\":80,"
             "\"quarantine\":\"0000000000000001-00000001-4360.bin\"}\n",
             "\"what\":\"missing\",\"first_lost_lsn\":6,\"lost_lsns\":5,\"quarantined_bytes\":0}\n",
             "{\"log\":\"data/log\",\"segments\":2,\"first_lsn\":1,\"last_lsn\":13,\"damages\":2,"
             "\"lost_lsns\":6,\"quarantined_bytes\":80}\n");
    MUST_SAY(mr_log_list, vd, false, " sound, 6 lost\n", "sound\n");
    MUST_SAY(mr_log_list, vd, true, "\"lost_lsns\":6,", "\"lost_lsns\":0,", "\"last_lsn\":10,");
    MUST_SAY(mr_log_dump, vd, false, " gap ", "lsn 3 to 3 lost\n", "lsn 6 to 10 lost\n");
    MUST_SAY(mr_log_dump, vd, true, "\"type\":\"gap\"", "\"lost\":1,", "\"lost\":5,");
    virtual_disk_close(twin);
    virtual_disk_close(vd);
    sample_finish(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sound_logs_are_not_changed),
        cmocka_unit_test(every_byte_flipped),
        cmocka_unit_test(every_set_of_records),
        cmocka_unit_test(every_record_in_every_way),
        cmocka_unit_test(missing_files),
        cmocka_unit_test(cut_files),
        cmocka_unit_test(wrong_headers),
        cmocka_unit_test(files_without_a_place),
        cmocka_unit_test(random_damage),
        cmocka_unit_test(readers_start_at_gaps),
        cmocka_unit_test(what_it_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
