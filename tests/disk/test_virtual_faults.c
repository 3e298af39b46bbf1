/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves what a virtual disk does only when it is asked to:
 *   1. zeroed: blocks never written before come back as zeros, others as written; nothing else;
 *   2. flipped: exactly one bit of what a write changed is wrong, and what it left as it was never;
 *   3. reordered: of two writes the later may survive alone; a rename not synced may be lost;
 *   4. reads fail; failures and cuts of power keep to their paths; slow operations call back first;
 *   5. a full disk takes what fits, may shrink below what it holds, and grows again;
 *   6. a bit that flips at rest flips back; removed files come back in a clone.
 * Each with its probe.
 */
#include "tests/disk/virtual_disk.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

enum { SECTOR = 512, LEN = SECTOR * 4 };

static struct mr_file *create(struct virtual_disk *vd, const char *path) {
    struct mr_file *file;
    assert_int_equal(mr_disk_mkdir(virtual_disk_disk(vd), "d"), MR_OK);
    assert_int_equal(mr_file_open(virtual_disk_disk(vd), path, MR_FILE_CREATE, &file), MR_OK);
    return file;
}

static bool exists(struct virtual_disk *vd, const char *path) {
    struct mr_file *file;
    enum mr_status status = mr_file_open(virtual_disk_disk(vd), path, MR_FILE_READ, &file);
    if (status == MR_OK) {
        mr_file_close(file);
    }
    return status == MR_OK;
}

static void put(struct mr_file *file, uint8_t value, uint64_t offset, size_t len) {
    uint8_t bytes[LEN];
    memset(bytes, value, sizeof bytes);
    assert_int_equal(mr_file_pwrite(file, mr_bytes_of(bytes, len), offset), MR_OK);
}

/* A disk with the fates, whose file d/f has LEN bytes that say 1 and are safe. */
static struct virtual_disk *disk_with_file(uint64_t seed, unsigned fates, struct mr_file **ret) {
    struct virtual_disk *vd = virtual_disk_open(seed);
    virtual_disk_set_fates(vd, fates);
    *ret = create(vd, "d/f");
    put(*ret, 1, 0, LEN);
    assert_int_equal(mr_file_sync(*ret), MR_OK);
    assert_int_equal(mr_disk_sync_dir(virtual_disk_disk(vd), "d"), MR_OK);
    return vd;
}

static void zeroed_blocks_were_never_written(void **state) {
    (void)state;
    struct mr_file *file;
    struct virtual_disk *vd = disk_with_file(1, 1u << VIRTUAL_DISK_ZEROED, &file);
    put(file, 2, LEN - 100, 1000); /* over 100 bytes of before, 900 new ones */
    virtual_disk_crash(vd);
    mr_file_close(file);
    struct mr_bytes content = virtual_disk_content(vd, "d/f");
    assert_int_equal(content.len, LEN + 900);
    for (size_t i = 0; i < content.len; i++) {
        assert_int_equal(content.ptr[i], i < LEN - 100 ? 1 : i < LEN ? 2 : 0);
    }
    assert_int_equal(virtual_disk_probe(vd, VIRTUAL_DISK_PROBE_WRITE_ZEROED), 1);
    virtual_disk_close(vd);
}

static unsigned bits_that_differ(struct mr_bytes a, const uint8_t *b) {
    unsigned bits = 0;
    for (size_t i = 0; i < a.len; i++) {
        bits += (unsigned)__builtin_popcount(a.ptr[i] ^ b[i]);
    }
    return bits;
}

static void one_bit_of_what_changed_is_flipped(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 100; seed++) {
        struct mr_file *file;
        struct virtual_disk *vd = disk_with_file(seed, 1u << VIRTUAL_DISK_FLIPPED, &file);
        uint8_t expected[LEN];
        memset(expected, 1, LEN);
        memset(expected + 700, 2, 10);
        assert_int_equal(mr_file_pwrite(file, mr_bytes_of(expected, LEN), 0), MR_OK);
        virtual_disk_crash(vd);
        mr_file_close(file);
        struct mr_bytes content = virtual_disk_content(vd, "d/f");
        assert_int_equal(content.len, LEN);
        assert_int_equal(bits_that_differ(content, expected), 1);
        assert_int_not_equal(memcmp(content.ptr + 700, expected + 700, 10), 0);
        assert_int_equal(virtual_disk_probe(vd, VIRTUAL_DISK_PROBE_WRITE_FLIPPED), 1);

        file = create(vd, "d/f");
        memcpy(expected, content.ptr, LEN);
        assert_int_equal(mr_file_pwrite(file, mr_bytes_of(expected, LEN), 0), MR_OK);
        virtual_disk_crash(vd);
        mr_file_close(file);
        assert_memory_equal(virtual_disk_content(vd, "d/f").ptr, expected, LEN);
        virtual_disk_close(vd);
    }
}

static void a_later_write_may_survive_alone(void **state) {
    (void)state;
    unsigned seen = 0;
    unsigned probed = 0;
    for (uint64_t seed = 0; seed < 100; seed++) {
        struct mr_file *file;
        struct virtual_disk *vd = disk_with_file(seed, VIRTUAL_DISK_FATES_USUAL, &file);
        put(file, 2, 0, SECTOR);
        put(file, 3, SECTOR, SECTOR);
        virtual_disk_crash(vd);
        mr_file_close(file);
        struct mr_bytes content = virtual_disk_content(vd, "d/f");
        seen += content.ptr[0] == 1 && content.ptr[SECTOR] == 3;
        probed += virtual_disk_probe(vd, VIRTUAL_DISK_PROBE_WRITES_REORDERED) > 0;
        virtual_disk_close(vd);
    }
    assert_true(probed > 5 && seen >= probed); /* a torn write of one sector is one as well */
}

static void a_rename_that_was_not_synced_may_be_lost(void **state) {
    (void)state;
    unsigned lost = 0;
    for (uint64_t seed = 0; seed < 50; seed++) {
        struct mr_file *file;
        struct virtual_disk *vd = disk_with_file(seed, VIRTUAL_DISK_FATES_USUAL, &file);
        mr_file_close(file);
        assert_int_equal(mr_disk_rename(virtual_disk_disk(vd), "d/f", "d/g"), MR_OK);
        virtual_disk_crash(vd);
        assert_true(exists(vd, "d/f") != exists(vd, "d/g"));
        assert_int_equal(virtual_disk_probe(vd, VIRTUAL_DISK_PROBE_RENAME_LOST), exists(vd, "d/f"));
        lost += exists(vd, "d/f");
        virtual_disk_close(vd);
    }
    assert_true(lost > 5 && lost < 45);
}

static void reads_fail_and_failures_keep_to_their_paths(void **state) {
    (void)state;
    struct mr_file *file;
    struct virtual_disk *vd = disk_with_file(1, VIRTUAL_DISK_FATES_USUAL, &file);
    struct mr_file *other = create(vd, "d/other");
    uint8_t byte = 0;
    size_t len;
    virtual_disk_fail(vd, 1, 1u << VIRTUAL_DISK_READ, VIRTUAL_DISK_FOREVER, MR_IO);
    virtual_disk_fail_under(vd, "d//f");
    assert_int_equal(mr_file_pread(other, &byte, 1, 0, &len), MR_OK);
    assert_int_equal(mr_file_pread(file, &byte, 1, 0, &len), MR_IO);
    assert_int_equal(virtual_disk_failed_count(vd, 1u << VIRTUAL_DISK_READ), 1);
    virtual_disk_fail_under(vd, NULL);
    assert_int_equal(mr_file_pread(other, &byte, 1, 0, &len), MR_IO);
    assert_int_equal(virtual_disk_failed_count(vd, VIRTUAL_DISK_ALL), 2);
    virtual_disk_fail(vd, 0, 0, VIRTUAL_DISK_ONCE, MR_OK);
    assert_int_equal(mr_file_pread(file, &byte, 1, 0, &len), MR_OK);
    assert_int_equal(byte, 1);
    mr_file_close(other);
    mr_file_close(file);
    virtual_disk_close(vd);
}

static void power_goes_where_it_is_asked(void **state) {
    (void)state;
    struct mr_file *file;
    struct virtual_disk *vd = disk_with_file(1, VIRTUAL_DISK_FATES_USUAL, &file);
    struct mr_file *other = create(vd, "d/other");
    virtual_disk_cut_power_where(vd, 2, 1u << VIRTUAL_DISK_SYNC, "d/oth");
    put(other, 1, 0, 1);
    assert_int_equal(mr_file_sync(other), MR_OK);
    for (int i = 0; i < 3; i++) {
        put(other, 1, 0, 1);
        assert_int_equal(mr_file_sync(file), MR_OK);
    }
    assert_int_equal(mr_file_sync(other), MR_IO);
    assert_false(virtual_disk_power(vd));
    virtual_disk_crash(vd);
    mr_file_close(other);
    mr_file_close(file);
    virtual_disk_close(vd);
}

static void count_op(void *ctx, enum virtual_disk_op op) {
    unsigned *counts = ctx;
    counts[op]++;
}

static void slow_operations_call_back(void **state) {
    (void)state;
    unsigned counts[VIRTUAL_DISK_OP_COUNT] = {0};
    struct mr_file *file;
    struct virtual_disk *vd = disk_with_file(1, VIRTUAL_DISK_FATES_USUAL, &file);
    virtual_disk_slow(vd, 1u << VIRTUAL_DISK_SYNC, 3, count_op, counts);
    for (int i = 0; i < 300; i++) {
        put(file, 1, 0, 1);
        assert_int_equal(mr_file_sync(file), MR_OK);
    }
    assert_true(counts[VIRTUAL_DISK_SYNC] > 60 && counts[VIRTUAL_DISK_SYNC] < 150);
    assert_int_equal(counts[VIRTUAL_DISK_WRITE], 0);
    assert_int_equal(virtual_disk_probe(vd, VIRTUAL_DISK_PROBE_SLOW), counts[VIRTUAL_DISK_SYNC]);
    virtual_disk_slow(vd, 0, 0, NULL, NULL);
    assert_int_equal(mr_file_sync(file), MR_OK);
    mr_file_close(file);
    virtual_disk_close(vd);
}

static void a_full_disk_takes_what_fits_and_grows_again(void **state) {
    (void)state;
    uint8_t bytes[100];
    uint64_t size;
    uint64_t free_bytes;
    memset(bytes, 7, sizeof bytes);
    struct mr_file *file;
    struct virtual_disk *vd = disk_with_file(1, VIRTUAL_DISK_FATES_USUAL, &file);
    virtual_disk_set_capacity(vd, LEN + 30);
    assert_int_equal(mr_file_pwrite(file, mr_bytes_of(bytes, 100), LEN), MR_NO_SPACE);
    assert_int_equal(mr_file_size(file, &size), MR_OK);
    assert_int_equal(size, LEN + 30);
    assert_int_equal(virtual_disk_content(vd, "d/f").ptr[LEN + 29], 7);
    assert_int_equal(virtual_disk_probe(vd, VIRTUAL_DISK_PROBE_SHORT_FULL), 1);

    virtual_disk_set_capacity(vd, LEN / 2);
    assert_int_equal(mr_disk_free_bytes(virtual_disk_disk(vd), "d", &free_bytes), MR_OK);
    assert_int_equal(free_bytes, 0);
    put(file, 8, 0, LEN); /* in place */
    assert_int_equal(mr_file_pwrite(file, mr_bytes_of(bytes, 100), LEN), MR_NO_SPACE);
    assert_int_equal(mr_file_size(file, &size), MR_OK);
    assert_int_equal(size, LEN + 30);

    virtual_disk_set_capacity(vd, 0);
    assert_int_equal(mr_file_pwrite(file, mr_bytes_of(bytes, 100), LEN), MR_OK);
    mr_file_close(file);
    virtual_disk_close(vd);
}

static void a_flipped_bit_flips_back(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 50; seed++) {
        struct mr_file *file;
        struct virtual_disk *vd = disk_with_file(seed, VIRTUAL_DISK_FATES_USUAL, &file);
        mr_file_close(file);
        uint8_t expected[LEN];
        memset(expected, 1, LEN);
        uint8_t mask;
        uint64_t offset = virtual_disk_rot(vd, "d/f", 10, 20, &mask);
        assert_true(offset >= 10 && offset < 20);
        assert_int_equal(bits_that_differ(virtual_disk_content(vd, "d/f"), expected), 1);
        virtual_disk_crash(vd); /* durable as well */
        assert_int_equal(virtual_disk_content(vd, "d/f").ptr[offset], 1 ^ mask);
        virtual_disk_flip(vd, "d/f", offset, mask);
        assert_memory_equal(virtual_disk_content(vd, "d/f").ptr, expected, LEN);
        assert_int_equal(virtual_disk_probe(vd, VIRTUAL_DISK_PROBE_ROTTED), 1);
        virtual_disk_close(vd);
    }
}

static void removed_files_come_back_in_a_clone(void **state) {
    (void)state;
    struct mr_file *file;
    struct virtual_disk *vd = disk_with_file(1, VIRTUAL_DISK_FATES_USUAL, &file);
    struct mr_disk *disk = virtual_disk_disk(vd);
    mr_file_close(file);
    mr_file_close(create(vd, "d/early"));
    assert_int_equal(mr_disk_unlink(disk, "d/early"), MR_OK);
    assert_false(virtual_disk_has_unlinked(vd));
    virtual_disk_keep_unlinked(vd, "d/f");
    mr_file_close(create(vd, "d/g"));
    assert_int_equal(mr_disk_unlink(disk, "d/g"), MR_OK); /* not under the prefix */
    assert_int_equal(mr_disk_unlink(disk, "d/f"), MR_OK);
    mr_file_close(create(vd, "d/f2"));
    mr_file_close(create(vd, "d/f3"));
    assert_int_equal(mr_disk_rename(disk, "d/f2", "d/f3"), MR_OK);
    assert_int_equal(virtual_disk_probe(vd, VIRTUAL_DISK_PROBE_UNLINKED_KEPT), 2);

    struct virtual_disk *clone = virtual_disk_clone(vd, 2);
    assert_false(exists(clone, "d/f"));
    virtual_disk_put_back(clone, vd);
    virtual_disk_crash(clone);
    assert_int_equal(virtual_disk_content(clone, "d/f").len, LEN);
    assert_int_equal(virtual_disk_content(clone, "d/f").ptr[0], 1);
    assert_true(exists(clone, "d/f3"));
    assert_false(exists(clone, "d/g") || exists(clone, "d/early"));
    assert_false(exists(vd, "d/f"));
    virtual_disk_close(clone);
    virtual_disk_close(vd);
}

static void files_come_and_go_at_rest(void **state) {
    (void)state;
    struct mr_file *file;
    struct virtual_disk *vd = disk_with_file(1, VIRTUAL_DISK_FATES_USUAL, &file);
    struct mr_disk *disk = virtual_disk_disk(vd);
    mr_file_close(file);
    mr_file_close(create(vd, "d/g"));
    assert_int_equal(mr_disk_rename(disk, "d/g", "d/h"), MR_OK); /* not durable yet */
    virtual_disk_put(vd, "d/f", mr_bytes_text("short"));
    virtual_disk_put(vd, "d/new", mr_bytes_of(NULL, 0));
    virtual_disk_remove(vd, "d/h");
    virtual_disk_put(vd, "d/g", mr_bytes_text("again"));
    virtual_disk_remove(vd, "d//nothing");
    for (int i = 0; i < 2; i++) {
        assert_true(mr_bytes_equal(virtual_disk_content(vd, "d/f"), mr_bytes_text("short")));
        assert_int_equal(virtual_disk_content(vd, "d/new").len, 0);
        assert_false(exists(vd, "d/h") || virtual_disk_exists(vd, "d/h"));
        assert_true(virtual_disk_exists(vd, "d/new") && virtual_disk_exists(vd, "d/g"));
        virtual_disk_crash(vd);
    }
    virtual_disk_close(vd);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(zeroed_blocks_were_never_written),
        cmocka_unit_test(one_bit_of_what_changed_is_flipped),
        cmocka_unit_test(a_later_write_may_survive_alone),
        cmocka_unit_test(a_rename_that_was_not_synced_may_be_lost),
        cmocka_unit_test(reads_fail_and_failures_keep_to_their_paths),
        cmocka_unit_test(power_goes_where_it_is_asked),
        cmocka_unit_test(slow_operations_call_back),
        cmocka_unit_test(a_full_disk_takes_what_fits_and_grows_again),
        cmocka_unit_test(a_flipped_bit_flips_back),
        cmocka_unit_test(removed_files_come_back_in_a_clone),
        cmocka_unit_test(files_come_and_go_at_rest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
