/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that a damaged manifest is never read:
 *   1. six kinds of damage, everywhere: a bit flipped, a sector zeroed or set, cut, extended with garbage, two sectors
 *      swapped, a sector (and the whole) of another manifest: MR_CORRUPT with the file's name; another version with a
 *      sound checksum is MR_MISMATCH;
 *   2. a sound checksum over every byte of the body changed gives a status and never a crash, and numbers nobody wrote
 *      get no memory.
 */
#include "base/hash.h"
#include "log/wire.h"
#include "tests/log/manifest_sample.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

enum { SECTOR = 512, HEADER = 24 };

enum { NUMBER = 6, SIZE = 10 };

struct sample {
    struct virtual_disk *vd;
    char path[128];
    uint8_t *copy; /* of the file, with room for a sector behind it */
    size_t len;
};

static void make_sample(struct sample *s) {
    struct mr_error error;
    *s = (struct sample){.vd = manifest_disk(1)};
    manifest_path(NUMBER, s->path);
    assert_int_equal(manifest_write(virtual_disk_disk(s->vd), NUMBER - 1, SIZE, &error), MR_OK);
    assert_int_equal(manifest_write(virtual_disk_disk(s->vd), NUMBER, SIZE, &error), MR_OK);
    struct mr_bytes content = virtual_disk_content(s->vd, s->path);
    assert_true(content.len > 3 * SECTOR);
    s->len = content.len;
    s->copy = malloc(s->len + SECTOR);
    assert_non_null(s->copy);
    memcpy(s->copy, content.ptr, s->len);
}

static void finish_sample(struct sample *s) {
    free(s->copy);
    virtual_disk_close(s->vd);
}

static enum mr_status read_damaged(const struct sample *s, size_t len) {
    struct mr_error error = {.status = MR_OK};
    struct virtual_disk *vd = virtual_disk_clone(s->vd, 1);
    virtual_disk_replace(vd, s->path, mr_bytes_of(s->copy, len));
    enum mr_status status = manifest_read(virtual_disk_disk(vd), NUMBER, SIZE, &error);
    assert_true(status == MR_OK || strstr(error.text, s->path) != NULL);
    virtual_disk_close(vd);
    return status;
}

static void restore(struct sample *s) {
    memcpy(s->copy, virtual_disk_content(s->vd, s->path).ptr, s->len);
}

static void every_byte_flipped(void **state) {
    (void)state;
    struct sample s;
    make_sample(&s);
    assert_int_equal(read_damaged(&s, s.len), MR_OK);
    for (size_t at = 0; at < s.len; at++) {
        s.copy[at] ^= (uint8_t)(1u << at % 8);
        assert_int_equal(read_damaged(&s, s.len), MR_CORRUPT);
        s.copy[at] ^= (uint8_t)(1u << at % 8);
    }
    finish_sample(&s);
}

static void cut_or_extended(void **state) {
    (void)state;
    struct sample s;
    make_sample(&s);
    for (size_t len = 0; len < s.len; len++) {
        assert_int_equal(read_damaged(&s, len), MR_CORRUPT);
    }
    for (size_t more = 1; more <= SECTOR; more++) {
        memset(s.copy + s.len, more % 2 == 0 ? 0 : (int)more & 0xff, SECTOR);
        assert_int_equal(read_damaged(&s, s.len + more), MR_CORRUPT);
    }
    finish_sample(&s);
}

static void sectors_overwritten_and_swapped(void **state) {
    (void)state;
    struct sample s;
    make_sample(&s);
    struct mr_bytes was = virtual_disk_content(s.vd, s.path);
    char before[128];
    manifest_path(NUMBER - 1, before);
    for (size_t a = 0; a < s.len; a += SECTOR) {
        size_t len = s.len - a < SECTOR ? s.len - a : SECTOR;
        memset(s.copy + a, 0, len);
        assert_int_equal(read_damaged(&s, s.len), MR_CORRUPT);
        memset(s.copy + a, 0xff, len);
        assert_int_equal(read_damaged(&s, s.len), MR_CORRUPT);
        restore(&s);
        struct mr_bytes other = virtual_disk_content(s.vd, before);
        if (a + len <= other.len) {
            memcpy(s.copy + a, other.ptr + a, len);
            assert_int_equal(read_damaged(&s, s.len), MR_CORRUPT);
            restore(&s);
        }
        for (size_t b = a + SECTOR; b + SECTOR <= s.len; b += SECTOR) {
            memcpy(s.copy + a, was.ptr + b, SECTOR);
            memcpy(s.copy + b, was.ptr + a, SECTOR);
            assert_int_equal(read_damaged(&s, s.len), MR_CORRUPT);
            restore(&s);
        }
    }
    finish_sample(&s);
}

static void the_whole_of_another(void **state) {
    (void)state;
    struct sample s;
    struct mr_error error;
    struct mr_manifest got;
    char before[128];
    make_sample(&s);
    manifest_path(NUMBER - 1, before);
    virtual_disk_replace(s.vd, s.path, virtual_disk_content(s.vd, before));
    assert_int_equal(mr_manifest_read(virtual_disk_disk(s.vd), MANIFEST_DIR, NUMBER, &got, &error),
                     MR_CORRUPT);
    assert_non_null(strstr(error.text, "another checkpoint"));
    finish_sample(&s);
}

static void seal(uint8_t *file, size_t body_len) {
    uint64_t seed = mr_checksum(mr_bytes_of(file, 16));
    mr_wire_put_u64(file + 16, mr_hash64(mr_bytes_of(file + HEADER, body_len), seed));
}

static enum mr_status read_sealed(const struct sample *s, size_t len) {
    struct mr_error error;
    struct mr_manifest got;
    struct virtual_disk *vd = virtual_disk_clone(s->vd, 1);
    mr_wire_put_u64(s->copy + 8, len - HEADER);
    seal(s->copy, len - HEADER);
    virtual_disk_replace(vd, s->path, mr_bytes_of(s->copy, len));
    enum mr_status status =
        mr_manifest_read(virtual_disk_disk(vd), MANIFEST_DIR, NUMBER, &got, &error);
    if (status == MR_OK) {
        mr_manifest_finish(&got);
    }
    virtual_disk_close(vd);
    return status;
}

static void another_version(void **state) {
    (void)state;
    struct sample s;
    make_sample(&s);
    mr_wire_put_u32(s.copy + 4, 2);
    assert_int_equal(read_sealed(&s, s.len), MR_MISMATCH);
    finish_sample(&s);
}

static void sealed_nonsense(void **state) {
    (void)state;
    struct sample s;
    make_sample(&s);
    assert_int_equal(read_sealed(&s, s.len), MR_OK);
    int refused = 0;
    for (size_t at = HEADER; at < s.len; at++) {
        for (int i = 0; i < 2; i++) {
            s.copy[at] ^= i == 0 ? 0x01 : 0xff;
            enum mr_status status = read_sealed(&s, s.len);
            assert_true(status == MR_OK || status == MR_CORRUPT);
            refused += status == MR_CORRUPT;
            restore(&s);
        }
    }
    assert_true(refused > 100);
    for (size_t len = HEADER; len < s.len; len++) {
        assert_int_equal(read_sealed(&s, len), MR_CORRUPT);
        restore(&s);
    }
    /* Counts of blobs and parts, and the length of the first blob: under ASan an allocation of such
     * a size ends the test. */
    for (size_t at = HEADER + 52; at < HEADER + 60; at += 4) {
        mr_wire_put_u32(s.copy + at, UINT32_MAX);
        assert_int_equal(read_sealed(&s, s.len), MR_CORRUPT);
        restore(&s);
    }
    mr_wire_put_u32(s.copy + HEADER + 60 + 12, 1); /* its zero */
    assert_int_equal(read_sealed(&s, s.len), MR_CORRUPT);
    restore(&s);
    mr_wire_put_u64(s.copy + HEADER + 60 + 16, UINT64_MAX);
    assert_int_equal(read_sealed(&s, s.len), MR_CORRUPT);
    finish_sample(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_byte_flipped),
        cmocka_unit_test(cut_or_extended),
        cmocka_unit_test(sectors_overwritten_and_swapped),
        cmocka_unit_test(the_whole_of_another),
        cmocka_unit_test(another_version),
        cmocka_unit_test(sealed_nonsense),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
