/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that a damaged part is never read wrongly:
 *   1. six kinds of damage, everywhere: a bit flipped, a sector zeroed or set, cut, extended with garbage, two blocks
 *      swapped, a block of another part or log: refused, with file and offset, wherever it lies in what is read, and
 *      without harm where it does not;
 *   2. a len that ends no block and a from that begins none are refused;
 *   3. a sound checksum over a length no writer could have written is refused without asking for the memory.
 */
#include "base/hash.h"
#include "log/wire.h"
#include "tests/log/part_sample.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static void other_places_are_refused(void **state) {
    (void)state;
    struct part_sample s;
    sample_make_small(&s, sample_small_id);
    uint64_t end = s.end[s.count - 1];
    for (uint64_t at = 0; at <= end + 100; at++) {
        bool sound = sample_block_at(&s, at) != SIZE_MAX;
        if (!sound) {
            sample_must_refuse(&s, s.disk, 0, at);
        }
        if (!sound && at != 0) {
            sample_must_refuse(&s, s.disk, at, end);
        }
    }
    sample_must_refuse(&s, s.disk, s.end[3], s.end[2]);
    sample_must_refuse(&s, s.disk, UINT64_MAX, UINT64_MAX);
    sample_must_refuse(&s, s.disk, 0, UINT64_MAX);
    sample_must_refuse(&s, s.disk, UINT64_MAX - 7, end);
    sample_close(&s);
}

/* The content is that of the sample but for the bytes [first, last]: every reading of it. */
static void judge(const struct part_sample *s, const uint8_t *content, size_t content_len,
                  uint64_t first, uint64_t last) {
    struct virtual_disk *vd = virtual_disk_clone(s->vd, 1);
    struct mr_disk *disk = virtual_disk_disk(vd);
    virtual_disk_replace(vd, s->path, mr_bytes_of(content, content_len));
    uint64_t end = s->end[s->count - 1];
    for (size_t from = 0; from <= s->count; from += s->count / 2) {
        uint64_t begin = sample_begin(s, from);
        if (first < MR_PART_HEADER || (first < end && last >= begin)) {
            sample_must_refuse(s, disk, begin, end);
        }
    }
    if (first >= MR_PART_HEADER) { /* all blocks before the damage are there */
        size_t sound = 0;
        while (sound < s->count && s->end[sound] <= first) {
            sound++;
        }
        sample_must_hold(s, disk, sample_begin(s, sound));
        if (first < end) {
            struct mr_error error;
            size_t seen;
            assert_int_equal(sample_read(s, disk, 0, end, &seen, &error), MR_CORRUPT);
            assert_int_equal(seen, content_len < end ? 0 : sound); /* a short file is not begun */
        }
    }
    virtual_disk_close(vd);
}

/* As above; finds out itself where the damage is. False: it changed nothing. */
static bool judge_changed(const struct part_sample *s, const uint8_t *content) {
    struct mr_bytes was = virtual_disk_content(s->vd, s->path);
    uint64_t first = 0;
    uint64_t last = was.len;
    while (first < was.len && content[first] == was.ptr[first]) {
        first++;
    }
    if (first == was.len) {
        return false;
    }
    while (content[last - 1] == was.ptr[last - 1]) {
        last--;
    }
    judge(s, content, was.len, first, last - 1);
    return true;
}

static uint8_t *copy_of(const struct part_sample *s, size_t more) {
    struct mr_bytes content = virtual_disk_content(s->vd, s->path);
    uint8_t *copy = malloc(content.len + more);
    assert_non_null(copy);
    memcpy(copy, content.ptr, content.len);
    return copy;
}

static void every_byte_flipped(void **state) {
    (void)state;
    struct part_sample s;
    sample_make_small(&s, sample_small_id);
    uint8_t *copy = copy_of(&s, 0);
    for (uint64_t at = 0; at < s.end[s.count - 1]; at++) {
        copy[at] ^= (uint8_t)(1u << at % 8);
        judge(&s, copy, s.end[s.count - 1], at, at);
        copy[at] ^= (uint8_t)(1u << at % 8);
    }
    free(copy);
    sample_close(&s);
}

static void every_sector_overwritten(void **state) {
    (void)state;
    struct part_sample s;
    sample_make_small(&s, sample_small_id);
    uint64_t end = s.end[s.count - 1];
    int changed = 0;
    for (uint64_t at = 0; at < end; at += SAMPLE_SECTOR) {
        size_t len = end - at < SAMPLE_SECTOR ? (size_t)(end - at) : SAMPLE_SECTOR;
        uint8_t *copy = copy_of(&s, 0);
        memset(copy + at, 0, len);
        changed += judge_changed(&s, copy);
        memset(copy + at, 0xff, len);
        changed += judge_changed(&s, copy);
        free(copy);
    }
    assert_true(changed > 12);
    sample_close(&s);
}

static void cut_at_every_byte(void **state) {
    (void)state;
    struct part_sample s;
    sample_make_small(&s, sample_small_id);
    uint8_t *copy = copy_of(&s, 0);
    for (uint64_t at = 0; at < s.end[s.count - 1]; at++) {
        judge(&s, copy, at, at, UINT64_MAX);
    }
    free(copy);
    sample_close(&s);
}

/* What lies behind what counts is not there: half a block as a crash leaves it, garbage, and a
 * whole block. */
static void extended_with_garbage(void **state) {
    (void)state;
    struct part_sample s;
    sample_make_small(&s, sample_small_id);
    struct mr_bytes was = virtual_disk_content(s.vd, s.path);
    uint8_t *copy = copy_of(&s, 4096);
    for (size_t more = 0; more < 4096; more += 1 + more / 16) {
        for (size_t b = 0; b < more; b++) {
            copy[was.len + b] = (uint8_t)sample_mixed(more + b);
        }
        judge(&s, copy, was.len + more, was.len, UINT64_MAX);
        if (more > 0) {
            struct virtual_disk *vd = virtual_disk_clone(s.vd, 1);
            virtual_disk_replace(vd, s.path, mr_bytes_of(copy, was.len + more));
            sample_must_refuse(&s, virtual_disk_disk(vd), 0, was.len + more);
            virtual_disk_close(vd);
        }
    }
    free(copy);
    for (size_t i = 0; i <= s.count; i++) {
        sample_must_hold(&s, s.disk, sample_begin(&s, i));
    }
    sample_close(&s);
}

static void every_two_blocks_swapped(void **state) {
    (void)state;
    struct part_sample s;
    sample_make_small(&s, sample_small_id);
    struct mr_bytes was = virtual_disk_content(s.vd, s.path);
    int swapped = 0;
    for (size_t a = 0; a < s.count; a++) {
        for (size_t b = a + 1; b < s.count; b++) {
            size_t len = (size_t)(s.end[a] - sample_begin(&s, a));
            if (s.end[b] - sample_begin(&s, b) == len) {
                uint8_t *copy = copy_of(&s, 0);
                memcpy(copy + sample_begin(&s, a), was.ptr + sample_begin(&s, b), len);
                memcpy(copy + sample_begin(&s, b), was.ptr + sample_begin(&s, a), len);
                assert_true(judge_changed(&s, copy));
                free(copy);
                swapped++;
            }
        }
    }
    assert_true(swapped > 4);
    sample_close(&s);
}

/* Of the same place in a part of another number, or of the same number in another log: one block,
 * the header, or the whole file. */
static void blocks_of_another_part(void **state) {
    (void)state;
    static const struct mr_part_id others[] = {
        {.number = 18, .incarnation = 0xabcdef, .kind = 3},
        {.number = 17, .incarnation = 0xabcdee, .kind = 3},
    };
    struct part_sample s;
    sample_make_small(&s, sample_small_id);
    for (size_t o = 0; o < 2; o++) {
        struct part_sample other;
        sample_make_small(&other, others[o]);
        struct mr_bytes content = virtual_disk_content(other.vd, other.path);
        for (size_t i = 0; i < s.count; i++) {
            uint8_t *copy = copy_of(&s, 0);
            memcpy(copy + sample_begin(&s, i), content.ptr + sample_begin(&s, i),
                   s.end[i] - sample_begin(&s, i));
            assert_true(judge_changed(&s, copy));
            free(copy);
        }
        uint8_t *copy = copy_of(&s, 0);
        memcpy(copy, content.ptr, MR_PART_HEADER);
        judge(&s, copy, content.len, 0, MR_PART_HEADER);
        judge(&s, content.ptr, content.len, 0, UINT64_MAX);
        free(copy);
        sample_close(&other);
    }
    s.id.kind++; /* asked for as another kind */
    sample_must_refuse(&s, s.disk, 0, s.end[s.count - 1]);
    sample_close(&s);
}

static void missing_file(void **state) {
    (void)state;
    struct part_sample s;
    sample_make_small(&s, sample_small_id);
    s.id.number++;
    (void)snprintf(s.path, sizeof s.path, "%s/part-%016" PRIu64, SAMPLE_DIR, s.id.number);
    sample_must_refuse(&s, s.disk, 0, s.end[s.count - 1]);
    sample_must_refuse(&s, s.disk, 0, MR_PART_HEADER);
    sample_close(&s);
}

static void another_version(void **state) {
    (void)state;
    struct part_sample s;
    struct mr_error error;
    size_t seen;
    sample_make_small(&s, sample_small_id);
    uint8_t *copy = copy_of(&s, 0);
    mr_wire_put_u16(copy + 4, 2);
    mr_wire_put_u64(copy + 56, mr_checksum(mr_bytes_of(copy, 56)));
    virtual_disk_replace(s.vd, s.path, mr_bytes_of(copy, s.end[s.count - 1]));
    assert_int_equal(sample_read(&s, s.disk, 0, s.end[s.count - 1], &seen, &error), MR_MISMATCH);
    free(copy);
    sample_close(&s);
}

/* The checksum is right: only a mistake of a writer could make this. Under ASan an allocation of
 * such a size ends the test. */
static void lengths_nobody_wrote(void **state) {
    (void)state;
    static const uint64_t lens[] = {
        UINT64_MAX,        UINT64_MAX - 7,        UINT64_MAX - 63,   UINT64_C(1) << 63,
        UINT64_C(1) << 40, MR_PART_BLOCK_MAX + 1, MR_PART_BLOCK_MAX, 2945};
    struct part_sample s;
    sample_make_small(&s, sample_small_id);
    for (size_t i = 0; i < sizeof lens / sizeof lens[0]; i++) {
        struct virtual_disk *vd = virtual_disk_clone(s.vd, 1);
        uint8_t *copy = copy_of(&s, 0);
        uint8_t *block = copy + MR_PART_HEADER;
        mr_wire_put_u64(block + 8, lens[i]);
        mr_wire_put_u64(block + 48, mr_hash64(mr_bytes_of(block, 48), s.id.incarnation));
        virtual_disk_replace(vd, s.path, mr_bytes_of(copy, s.end[s.count - 1]));
        sample_must_refuse(&s, virtual_disk_disk(vd), 0, s.end[s.count - 1]);
        free(copy);
        virtual_disk_close(vd);
    }
    sample_close(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(other_places_are_refused), cmocka_unit_test(every_byte_flipped),
        cmocka_unit_test(every_sector_overwritten), cmocka_unit_test(cut_at_every_byte),
        cmocka_unit_test(extended_with_garbage),    cmocka_unit_test(every_two_blocks_swapped),
        cmocka_unit_test(blocks_of_another_part),   cmocka_unit_test(missing_file),
        cmocka_unit_test(another_version),          cmocka_unit_test(lengths_nobody_wrote),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
