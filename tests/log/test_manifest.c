/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that a manifest is read as it was written, and that writing one is one switch:
 *   1. random manifests: written, read, equal; also the empty one, and one with large blobs;
 *   2. power cut in every changing operation of writing one manifest after another: each is there whole or not at all,
 *      those acknowledged are there, and what the list says stays through another power cut;
 *   3. every k-th operation and allocation fails: the manifests before are as they were, and the next write succeeds;
 *   4. the list knows our names and no others.
 */
#include "base/alloc.h"
#include "tests/log/manifest_sample.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define TEMPORARY MANIFEST_DIR "/manifest.tmp"

enum { NUMBER = 6, SIZE = 10 };

static void random_manifests(void **state) {
    (void)state;
    struct virtual_disk *vd = manifest_disk(1);
    struct mr_error error = {.status = MR_OK};
    for (uint64_t number = 1; number <= 200; number++) {
        size_t size = (size_t)(number % 41);
        assert_int_equal(manifest_write(virtual_disk_disk(vd), number, size, &error), MR_OK);
        assert_int_equal(manifest_read(virtual_disk_disk(vd), number, size, &error), MR_OK);
    }
    struct mr_manifest manifest;
    assert_int_equal(manifest_build(0, 40, &manifest), MR_OK);
    assert_null(mr_manifest_blob(&manifest, 99, 0, 0));
    mr_manifest_finish(&manifest);
    assert_null(mr_manifest_blob(&manifest, 0, 0, 0));
    virtual_disk_close(vd);
}

static void large_blobs(void **state) {
    (void)state;
    struct virtual_disk *vd = manifest_disk(1);
    struct mr_disk *disk = virtual_disk_disk(vd);
    struct mr_error error;
    struct mr_manifest manifest;
    struct mr_manifest got;
    enum { LEN = 5 << 20 };
    mr_manifest_init(&manifest);
    manifest.number = 1;
    for (uint32_t i = 0; i < 3; i++) {
        struct mr_buf *buf = mr_manifest_add_blob(&manifest, 1, i, 0);
        assert_non_null(buf);
        uint8_t *room = mr_buf_reserve(buf, LEN);
        assert_non_null(room);
        memset(room, (int)i + 1, LEN);
        buf->len += LEN;
    }
    assert_int_equal(mr_manifest_write(disk, MANIFEST_DIR, &manifest, &error), MR_OK);
    assert_int_equal(mr_manifest_read(disk, MANIFEST_DIR, 1, &got, &error), MR_OK);
    manifest_must_equal(&manifest, &got);
    mr_manifest_finish(&got);

    /* Over the limit in sum: its length alone says so, the bytes are not looked at. */
    size_t len = manifest.blobs[0].bytes.len;
    manifest.number = 2;
    manifest.blobs[0].bytes.len = MR_MANIFEST_BYTES_MAX;
    assert_int_equal(mr_manifest_write(disk, MANIFEST_DIR, &manifest, &error), MR_LIMIT);
    manifest.blobs[0].bytes.len = len;
    /* A blob that did not take all that was put in. */
    manifest.blobs[1].bytes.failed = true;
    assert_int_equal(mr_manifest_write(disk, MANIFEST_DIR, &manifest, &error), MR_NO_MEMORY);
    assert_int_equal(mr_manifest_read(disk, MANIFEST_DIR, 2, &got, &error), MR_CORRUPT);
    mr_manifest_finish(&manifest);
    virtual_disk_close(vd);
}

/* ---- failures ---- */

/* Manifests 1, 2, 3; each removes the one two before it. Stops at the first failure. Returns the
 * newest acknowledged. */
static uint64_t script(struct mr_disk *disk, enum mr_status *ret, struct mr_error *error) {
    for (uint64_t number = 1; number <= 3; number++) {
        *ret = manifest_write(disk, number, SIZE, error);
        if (*ret == MR_OK && number > 2) {
            *ret = mr_manifest_remove(disk, MANIFEST_DIR, number - 2);
        }
        if (*ret != MR_OK) {
            return number - 1;
        }
    }
    return 3;
}

static bool listed(const struct mr_manifest_list *list, uint64_t number) {
    for (uint32_t i = 0; i < list->manifest_count; i++) {
        if (list->manifests[i] == number) {
            return true;
        }
    }
    return false;
}

/* Every manifest listed is whole; the newest acknowledged and the one before it are listed. Power
 * then goes again: they are still there. Returns the newest. */
static uint64_t must_stand(struct virtual_disk *vd, uint64_t acknowledged) {
    struct mr_disk *disk = virtual_disk_disk(vd);
    struct mr_manifest_list list;
    struct mr_error error;
    uint64_t newest = 0;
    assert_int_equal(mr_manifest_list(disk, MANIFEST_DIR, &list, &error), MR_OK);
    struct mr_file *file;
    assert_int_equal(mr_file_open(disk, TEMPORARY, MR_FILE_READ, &file), MR_NOT_FOUND);
    for (uint64_t n = acknowledged < 2 ? 1 : acknowledged - 1; n <= acknowledged; n++) {
        assert_true(listed(&list, n));
    }
    for (int again = 0; again < 2; again++) {
        for (uint32_t i = 0; i < list.manifest_count; i++) {
            newest = list.manifests[i];
            assert_int_equal(manifest_read(disk, newest, SIZE, &error), MR_OK);
        }
        virtual_disk_crash(vd);
    }
    mr_manifest_list_finish(&list);
    assert_true(newest == acknowledged || newest == acknowledged + 1);
    return newest;
}

static void power_cut_everywhere(void **state) {
    (void)state;
    uint64_t probes[VIRTUAL_DISK_PROBE_COUNT] = {0};
    int cuts = 0;
    int unacknowledged = 0;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        enum mr_status status = MR_IO;
        for (uint64_t nth = 1; status != MR_OK; nth++) {
            struct mr_error error;
            struct virtual_disk *vd = manifest_disk(seed * 1000 + nth);
            virtual_disk_cut_power(vd, nth);
            uint64_t acknowledged = script(virtual_disk_disk(vd), &status, &error);
            cuts += status != MR_OK;
            virtual_disk_crash(vd);
            uint64_t newest = must_stand(vd, acknowledged);
            unacknowledged += newest > acknowledged;
            assert_int_equal(manifest_write(virtual_disk_disk(vd), newest + 1, SIZE, &error),
                             MR_OK);
            assert_int_equal(must_stand(vd, newest + 1), newest + 1);
            for (unsigned i = 0; i < VIRTUAL_DISK_PROBE_COUNT; i++) {
                probes[i] += virtual_disk_probe(vd, (enum virtual_disk_probe)i);
            }
            virtual_disk_close(vd);
        }
    }
    assert_true(cuts >= 10 * (3 * 5 + 1)); /* unlink, write, sync, rename, directory; one removed */
    assert_true(unacknowledged > 0);
    assert_true(probes[VIRTUAL_DISK_PROBE_WRITE_TORN] > 0);
    assert_true(probes[VIRTUAL_DISK_PROBE_NAME_DROPPED] > 0);
}

/* Killed between the rename and the sync of the directory: the name is seen. Once listed it stays,
 * for then the one two before it is removed and log is trimmed. */
static void what_is_listed_stays(void **state) {
    (void)state;
    int lost = 0;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        for (int list_first = 0; list_first < 2; list_first++) {
            struct virtual_disk *vd = manifest_disk(seed);
            struct mr_disk *disk = virtual_disk_disk(vd);
            struct mr_error error;
            struct mr_manifest_list list = {0};
            virtual_disk_fail(vd, 1, 1u << VIRTUAL_DISK_SYNC_DIR, VIRTUAL_DISK_FOREVER, MR_IO);
            assert_int_equal(manifest_write(disk, 1, SIZE, &error), MR_IO);
            virtual_disk_fail(vd, 0, 0, VIRTUAL_DISK_ONCE, MR_OK);
            if (list_first == 1) {
                assert_int_equal(mr_manifest_list(disk, MANIFEST_DIR, &list, &error), MR_OK);
                assert_int_equal(list.manifest_count, 1);
                mr_manifest_list_finish(&list);
            }
            virtual_disk_crash(vd);
            assert_int_equal(mr_manifest_list(disk, MANIFEST_DIR, &list, &error), MR_OK);
            assert_true(list.manifest_count == 1 || list_first == 0);
            lost += list.manifest_count == 0;
            mr_manifest_list_finish(&list);
            virtual_disk_close(vd);
        }
    }
    assert_true(lost > 0);
}

static void every_operation_fails(void **state) {
    (void)state;
    static const enum mr_status statuses[] = {MR_IO, MR_NO_SPACE};
    for (int how = 0; how < 4; how++) {
        enum mr_status status = MR_IO;
        uint64_t nth = 1;
        for (; status != MR_OK; nth++) {
            struct mr_error error;
            struct virtual_disk *vd = manifest_disk(nth);
            virtual_disk_fail(vd, nth, VIRTUAL_DISK_ALL,
                              how < 2 ? VIRTUAL_DISK_ONCE : VIRTUAL_DISK_FOREVER,
                              statuses[how % 2]);
            uint64_t acknowledged = script(virtual_disk_disk(vd), &status, &error);
            assert_true(status == MR_OK || status == statuses[how % 2]);
            virtual_disk_fail(vd, 0, 0, VIRTUAL_DISK_ONCE, MR_OK);
            /* No crash: the next attempt, with the next number. */
            uint64_t next = acknowledged + 2;
            assert_int_equal(manifest_write(virtual_disk_disk(vd), next, SIZE, &error), MR_OK);
            virtual_disk_crash(vd);
            assert_int_equal(manifest_read(virtual_disk_disk(vd), next, SIZE, &error), MR_OK);
            if (acknowledged > 0) {
                assert_int_equal(manifest_read(virtual_disk_disk(vd), acknowledged, SIZE, &error),
                                 MR_OK);
            }
            virtual_disk_close(vd);
        }
        assert_true(nth > 3 * 6);
    }
}

static struct virtual_disk *two_manifests(void) {
    struct virtual_disk *vd = manifest_disk(1);
    struct mr_error error;
    for (uint64_t number = NUMBER - 1; number <= NUMBER; number++) {
        assert_int_equal(manifest_write(virtual_disk_disk(vd), number, SIZE, &error), MR_OK);
    }
    return vd;
}

/* A failed reading is not called corruption: the file may be sound. */
static void every_reading_fails(void **state) {
    (void)state;
    struct virtual_disk *vd = two_manifests();
    struct mr_disk *disk = virtual_disk_disk(vd);
    enum mr_status status = MR_IO;
    uint64_t nth = 1;
    for (; status != MR_OK; nth++) {
        struct mr_error error;
        virtual_disk_fail(vd, nth, VIRTUAL_DISK_ALL, VIRTUAL_DISK_ONCE, MR_IO);
        status = manifest_read(disk, NUMBER, SIZE, &error);
        assert_true(status == MR_OK || status == MR_IO);
    }
    assert_int_equal(nth - 1, 4 + 1); /* open, size, header, body; none */
    for (nth = 1, status = MR_IO; status != MR_OK; nth++) {
        struct mr_error error;
        struct mr_manifest_list list;
        virtual_disk_fail(vd, nth, VIRTUAL_DISK_ALL, VIRTUAL_DISK_ONCE, MR_IO);
        status = mr_manifest_list(disk, MANIFEST_DIR, &list, &error);
        assert_true(status == MR_OK || status == MR_IO);
        if (status == MR_OK) {
            mr_manifest_list_finish(&list);
        }
    }
    virtual_disk_fail(vd, 0, 0, VIRTUAL_DISK_ONCE, MR_OK);
    virtual_disk_close(vd);
}

static void every_allocation_fails(void **state) {
    (void)state;
    struct virtual_disk *vd = two_manifests();
    struct mr_disk *disk = virtual_disk_disk(vd);
    struct mr_error error;
    struct mr_manifest_list list;
    int failed = 0;
    for (int what = 0; what < 3; what++) {
        enum mr_status status = MR_NO_MEMORY;
        for (size_t nth = 1; status != MR_OK; nth++) {
            struct mr_manifest got;
            mr_alloc_fail_at(nth, (int)(nth % 2));
            status = what == 0   ? manifest_write(disk, NUMBER + 1, SIZE, &error)
                     : what == 1 ? mr_manifest_read(disk, MANIFEST_DIR, NUMBER, &got, &error)
                                 : mr_manifest_list(disk, MANIFEST_DIR, &list, &error);
            mr_alloc_fail_at(0, 0);
            assert_true(status == MR_OK || status == MR_NO_MEMORY);
            failed += status != MR_OK;
            if (status == MR_OK && what == 1) {
                mr_manifest_finish(&got);
            }
        }
    }
    assert_true(failed > 20);
    assert_int_equal(list.manifest_count, 3);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(list.manifests[i], NUMBER - 1 + i);
        assert_int_equal(manifest_read(disk, list.manifests[i], SIZE, &error), MR_OK);
    }
    mr_manifest_list_finish(&list);
    virtual_disk_close(vd);
}

/* ---- the list ---- */

static void touch(struct mr_disk *disk, const char *name) {
    char path[256];
    struct mr_file *file;
    (void)snprintf(path, sizeof path, "%s/%s", MANIFEST_DIR, name);
    assert_int_equal(mr_file_open(disk, path, MR_FILE_CREATE, &file), MR_OK);
    mr_file_close(file);
}

static void names(void **state) {
    (void)state;
    static const char *const not_ours[] = {
        "manifest",
        "manifest-",
        "manifest-1",
        "manifest-00000000000000001",
        "manifest-+000000000000001",
        "manifest- 000000000000001",
        "manifest-000000000000000x",
        "manifest-0000000000000001.tmp",
        "manifest-99999999999999999999",
        "Manifest-0000000000000001",
        "part-",
        "part-1",
        "part-0000000000000001 ",
        "part--000000000000001",
        "partial-0000000000000001",
        "manifest.tmp2",
    };
    struct virtual_disk *vd = virtual_disk_open(1);
    struct mr_disk *disk = virtual_disk_disk(vd);
    struct mr_error error;
    struct mr_manifest_list list;
    assert_int_equal(mr_manifest_list(disk, MANIFEST_DIR, &list, &error),
                     MR_OK); /* no such directory */
    assert_true(list.manifests == NULL && list.parts == NULL);
    assert_true(list.manifest_count == 0 && list.part_count == 0);
    mr_manifest_list_finish(&list);

    assert_int_equal(mr_disk_mkdir(disk, MANIFEST_DIR), MR_OK);
    for (size_t i = 0; i < sizeof not_ours / sizeof not_ours[0]; i++) {
        touch(disk, not_ours[i]);
    }
    touch(disk, "manifest-0000000000000010");
    touch(disk, "manifest-0000000000000009");
    touch(disk, "manifest-18446744073709551615");
    touch(disk, "part-9999999999999999");
    touch(disk, "part-10000000000000000"); /* before it by name */
    touch(disk, "part-0000000000000000");
    touch(disk, "manifest.tmp");
    assert_int_equal(mr_manifest_list(disk, MANIFEST_DIR, &list, &error), MR_OK);
    assert_int_equal(list.manifest_count, 3);
    assert_int_equal(list.manifests[0], 9);
    assert_int_equal(list.manifests[1], 10);
    assert_int_equal(list.manifests[2], UINT64_MAX);
    assert_int_equal(list.part_count, 3);
    assert_int_equal(list.parts[0], 0);
    assert_int_equal(list.parts[1], UINT64_C(9999999999999999));
    assert_int_equal(list.parts[2], UINT64_C(10000000000000000));
    mr_manifest_list_finish(&list);

    assert_int_equal(mr_manifest_remove(disk, MANIFEST_DIR, UINT64_MAX), MR_OK);
    assert_int_equal(mr_manifest_remove(disk, MANIFEST_DIR, UINT64_MAX),
                     MR_OK); /* a missing one is fine */
    assert_int_equal(mr_part_remove(disk, MANIFEST_DIR, 0), MR_OK);
    assert_int_equal(mr_part_remove(disk, MANIFEST_DIR, 0), MR_OK);
    assert_int_equal(mr_manifest_list(disk, MANIFEST_DIR, &list, &error), MR_OK);
    assert_int_equal(list.manifest_count, 2);
    assert_int_equal(list.part_count, 2);
    mr_manifest_list_finish(&list);
    virtual_disk_close(vd);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_manifests),       cmocka_unit_test(large_blobs),
        cmocka_unit_test(power_cut_everywhere),   cmocka_unit_test(what_is_listed_stays),
        cmocka_unit_test(every_operation_fails),  cmocka_unit_test(every_reading_fails),
        cmocka_unit_test(every_allocation_fails), cmocka_unit_test(names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
