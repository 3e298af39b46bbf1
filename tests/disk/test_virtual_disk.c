/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that the virtual disk is as cruel as it says and no crueller:
 *   1. what was synced survives every crash, file and name; what was not may be lost, kept or
 *      torn, and each of these happens;
 *   2. a failed sync loses writes that a later sync does not bring back, though they are seen;
 *   3. of unsynced names a prefix survives; a rename is whole or not at all;
 *   4. failures come at the asked operation, once or from then on; power goes at the asked one;
 *   5. a full disk refuses; 6. the same seed gives the same bytes and hash.
 */
#include "tests/disk/virtual_disk.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

enum { LEN = 512 * 8 };

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

static void synced_survives_and_unsynced_may_tear(void **state) {
    (void)state;
    unsigned whole = 0;
    unsigned none = 0;
    unsigned torn = 0;
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct virtual_disk *vd = virtual_disk_open(seed);
        struct mr_file *file = create(vd, "d/f");
        put(file, 1, 0, LEN);
        assert_int_equal(mr_file_sync(file), MR_OK);
        assert_int_equal(mr_disk_sync_dir(virtual_disk_disk(vd), "d"), MR_OK);
        put(file, 2, 0, LEN);
        virtual_disk_crash(vd);
        size_t len;
        uint8_t one;
        assert_int_equal(mr_file_pread(file, &one, 1, 0, &len), MR_IO);
        assert_int_equal(mr_file_sync(file), MR_IO);
        mr_file_close(file);
        struct mr_bytes content = virtual_disk_content(vd, "d/f");
        assert_int_equal(content.len, LEN);
        unsigned fresh = 0;
        for (size_t sector = 0; sector < LEN; sector += 512) {
            for (size_t i = 1; i < 512; i++) {
                assert_int_equal(content.ptr[sector + i], content.ptr[sector]);
            }
            assert_true(content.ptr[sector] == 1 || content.ptr[sector] == 2);
            fresh += content.ptr[sector] == 2;
        }
        whole += fresh == 8;
        none += fresh == 0;
        torn += fresh > 0 && fresh < 8;
        virtual_disk_close(vd);
    }
    assert_true(whole > 20 && none > 20 && torn > 20);
}

static void a_failed_sync_is_not_mended_by_the_next(void **state) {
    (void)state;
    unsigned lost = 0;
    for (uint64_t seed = 0; seed < 100; seed++) {
        struct virtual_disk *vd = virtual_disk_open(seed);
        struct mr_file *file = create(vd, "d/f");
        put(file, 1, 0, LEN);
        assert_int_equal(mr_file_sync(file), MR_OK);
        assert_int_equal(mr_disk_sync_dir(virtual_disk_disk(vd), "d"), MR_OK);
        put(file, 2, 0, LEN);
        virtual_disk_fail(vd, 1, 1u << VIRTUAL_DISK_SYNC, VIRTUAL_DISK_ONCE, MR_IO);
        assert_int_equal(mr_file_sync(file), MR_IO);
        assert_int_equal(mr_file_sync(file), MR_OK);
        assert_int_equal(virtual_disk_content(vd, "d/f").ptr[0], 2);
        put(file, 3, 512, 512);
        assert_int_equal(mr_file_sync(file), MR_OK);
        mr_file_close(file);
        virtual_disk_crash(vd);
        struct mr_bytes content = virtual_disk_content(vd, "d/f");
        assert_int_equal(content.ptr[512], 3);
        lost += content.ptr[0] == 1 || content.ptr[1024] == 1;
        virtual_disk_close(vd);
    }
    assert_true(lost > 20);
}

static void names_survive_in_order(void **state) {
    (void)state;
    unsigned seen[5] = {0};
    for (uint64_t seed = 0; seed < 300; seed++) {
        struct virtual_disk *vd = virtual_disk_open(seed);
        struct mr_disk *disk = virtual_disk_disk(vd);
        mr_file_close(create(vd, "d/a"));
        assert_int_equal(mr_disk_sync_dir(disk, "d"), MR_OK);
        mr_file_close(create(vd, "d/b"));
        assert_int_equal(mr_disk_rename(disk, "d/b", "d/c"), MR_OK);
        assert_int_equal(mr_disk_rename(disk, "d/a", "d/c"), MR_OK);
        assert_int_equal(mr_disk_unlink(disk, "d/c"), MR_OK);
        assert_false(exists(vd, "d/a") || exists(vd, "d/b") || exists(vd, "d/c"));
        virtual_disk_crash(vd);
        unsigned now = (unsigned)exists(vd, "d/a") | (unsigned)exists(vd, "d/b") << 1 |
                       (unsigned)exists(vd, "d/c") << 2;
        static const unsigned steps[5] = {1, 1 | 2, 1 | 4, 4, 0};
        unsigned step = 0;
        while (step < 5 && steps[step] != now) {
            step++;
        }
        assert_true(step < 5);
        seen[step]++;
        virtual_disk_close(vd);
    }
    for (unsigned step = 0; step < 5; step++) {
        assert_true(seen[step] > 0);
    }
}

static void failures_come_when_asked(void **state) {
    (void)state;
    struct virtual_disk *vd = virtual_disk_open(1);
    struct mr_file *file = create(vd, "d/f");
    uint64_t size;
    virtual_disk_fail(vd, 3, 1u << VIRTUAL_DISK_SIZE, VIRTUAL_DISK_ONCE, MR_NO_MEMORY);
    for (int i = 1; i <= 5; i++) {
        put(file, 1, 0, 10); /* another kind */
        assert_int_equal(mr_file_size(file, &size), i == 3 ? MR_NO_MEMORY : MR_OK);
    }
    virtual_disk_fail(vd, 2, 1u << VIRTUAL_DISK_SIZE, VIRTUAL_DISK_FOREVER, MR_IO);
    for (int i = 1; i <= 5; i++) {
        assert_int_equal(mr_file_size(file, &size), i >= 2 ? MR_IO : MR_OK);
    }
    virtual_disk_fail(vd, 0, 0, VIRTUAL_DISK_ONCE, MR_OK);
    assert_int_equal(mr_file_size(file, &size), MR_OK);
    assert_int_equal(virtual_disk_op_count(vd, 1u << VIRTUAL_DISK_SIZE), 11);

    virtual_disk_cut_power(vd, 2);
    assert_int_equal(mr_file_size(file, &size), MR_OK); /* changes nothing, so does not count */
    put(file, 2, 0, 10);
    assert_true(virtual_disk_power(vd));
    assert_int_equal(mr_file_sync(file), MR_IO);
    assert_false(virtual_disk_power(vd));
    assert_int_equal(mr_file_size(file, &size), MR_IO);
    assert_false(exists(vd, "d/f"));
    virtual_disk_crash(vd);
    assert_true(virtual_disk_power(vd));
    mr_file_close(file);
    virtual_disk_close(vd);
}

static void a_full_disk_refuses(void **state) {
    (void)state;
    struct virtual_disk *vd = virtual_disk_open(1);
    struct mr_disk *disk = virtual_disk_disk(vd);
    struct mr_file *file = create(vd, "d/f");
    uint64_t free_bytes;
    virtual_disk_set_capacity(vd, 10000);
    assert_int_equal(mr_file_allocate(file, 6000), MR_OK);
    assert_int_equal(mr_disk_free_bytes(disk, "d", &free_bytes), MR_OK);
    assert_int_equal(free_bytes, 4000);
    assert_int_equal(mr_file_allocate(file, 10001), MR_NO_SPACE);
    put(file, 1, 5000, 1000);
    assert_int_equal(mr_file_pwrite(file, MR_BYTES("12"), 9999), MR_NO_SPACE);
    struct mr_file *other = create(vd, "d/g");
    assert_int_equal(mr_file_allocate(other, 4001), MR_NO_SPACE);
    mr_file_close(file);
    assert_int_equal(mr_disk_unlink(disk, "d/f"), MR_OK);
    assert_int_equal(mr_disk_sync_dir(disk, "d"), MR_OK);
    assert_int_equal(mr_file_allocate(other, 10000), MR_OK);
    mr_file_close(other);
    virtual_disk_close(vd);
}

static void locks_and_modes(void **state) {
    (void)state;
    struct virtual_disk *vd = virtual_disk_open(1);
    struct mr_disk *disk = virtual_disk_disk(vd);
    struct mr_file *first = create(vd, "d/f");
    struct mr_file *second = create(vd, "d//f");
    struct mr_file *none;
    assert_int_equal(mr_file_lock(first), MR_OK);
    assert_int_equal(mr_file_lock(second), MR_BUSY);
    mr_file_close(first);
    assert_int_equal(mr_file_lock(second), MR_OK);
    virtual_disk_crash(vd);
    mr_file_close(second);
    assert_int_equal(mr_file_open(disk, "d/none", MR_FILE_WRITE, &none), MR_NOT_FOUND);
    assert_int_equal(mr_file_open(disk, "nodir/f", MR_FILE_CREATE, &none), MR_NOT_FOUND);
    first = create(vd, "d/f");
    assert_int_equal(mr_file_open(disk, "d/f", MR_FILE_CREATE_NEW, &none), MR_BUSY);
    mr_file_close(first);
    virtual_disk_close(vd);
}

static uint64_t run(uint64_t seed, uint8_t ret[LEN]) {
    struct virtual_disk *vd = virtual_disk_open(seed);
    struct mr_file *file = create(vd, "d/f");
    assert_int_equal(mr_file_allocate(file, LEN), MR_OK);
    assert_int_equal(mr_file_sync(file), MR_OK);
    assert_int_equal(mr_disk_sync_dir(virtual_disk_disk(vd), "d"), MR_OK);
    for (int i = 1; i < 20; i++) {
        put(file, (uint8_t)i, (uint64_t)i * 100, 1500);
    }
    virtual_disk_crash(vd);
    mr_file_close(file);
    virtual_disk_flip(vd, "d/f", 5, 0x80);
    struct virtual_disk *clone = virtual_disk_clone(vd, 0);
    memcpy(ret, virtual_disk_content(clone, "d/f").ptr, LEN);
    uint64_t hash = virtual_disk_hash(vd);
    virtual_disk_close(clone);
    virtual_disk_close(vd);
    return hash;
}

static void same_seed_same_disk(void **state) {
    (void)state;
    uint8_t a[LEN];
    uint8_t b[LEN];
    uint8_t c[LEN];
    uint64_t hash = run(42, a);
    assert_true(run(42, b) == hash);
    assert_memory_equal(a, b, LEN);
    (void)run(43, c);
    assert_true(memcmp(a, c, LEN) != 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(synced_survives_and_unsynced_may_tear),
        cmocka_unit_test(a_failed_sync_is_not_mended_by_the_next),
        cmocka_unit_test(names_survive_in_order),
        cmocka_unit_test(failures_come_when_asked),
        cmocka_unit_test(a_full_disk_refuses),
        cmocka_unit_test(locks_and_modes),
        cmocka_unit_test(same_seed_same_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
