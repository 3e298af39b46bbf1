/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/log/part_sample.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* What is read, beside what must be. */
struct seen {
    const struct part_sample *s;
    size_t next;
};

uint64_t sample_mixed(uint64_t x) { /* splitmix64 */
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static uint64_t tag_of(const struct part_sample *s, size_t i) {
    return sample_mixed(s->id.number * 1000 + i);
}

/* Payloads are a function of part and place; every third is zeros, which damage may look like. */
static void fill(const struct part_sample *s, size_t i, uint8_t *ret, size_t len) {
    for (size_t b = 0; b < len; b += 8) {
        uint64_t word = i % 3 == 2 ? 0 : sample_mixed(tag_of(s, i) + b);
        memcpy(ret + b, &word, len - b < 8 ? len - b : 8);
    }
}

void sample_open(struct part_sample *s, uint64_t seed, struct mr_part_id id) {
    *s = (struct part_sample){.vd = virtual_disk_open(seed), .id = id};
    s->disk = virtual_disk_disk(s->vd);
    (void)snprintf(s->path, sizeof s->path, "%s/part-%016" PRIu64, SAMPLE_DIR, id.number);
    assert_int_equal(mr_disk_mkdir(s->disk, SAMPLE_DIR), MR_OK);
}

void sample_close(struct part_sample *s) {
    mr_part_close(s->writer);
    virtual_disk_close(s->vd);
}

enum mr_status sample_append(struct part_sample *s, size_t len, struct mr_error *error) {
    uint8_t *payload = malloc(len + 1);
    assert_non_null(payload);
    fill(s, s->count, payload, len);
    enum mr_status status =
        mr_part_append(s->writer, tag_of(s, s->count), mr_bytes_of(payload, len), error);
    free(payload);
    if (status == MR_OK) {
        s->len[s->count] = len;
        s->end[s->count] = mr_part_len(s->writer);
        uint64_t begin = s->count == 0 ? MR_PART_HEADER : s->end[s->count - 1];
        assert_int_equal(s->end[s->count] - begin, MR_PART_BLOCK + (len + 7) / 8 * 8);
        s->count++;
    }
    return status;
}

const struct mr_part_id sample_small_id = {.number = 17, .incarnation = 0xabcdef, .kind = 3};

/* A closed part of some small blocks, all synced. */
void sample_make_small(struct part_sample *s, struct mr_part_id id) {
    static const size_t lens[] = {0, 40, 40, 1, 7, 8, 700, 9, 700, 40};
    struct mr_error error;
    sample_open(s, 1, id);
    assert_int_equal(mr_part_create(s->disk, SAMPLE_DIR, &id, &s->writer, &error), MR_OK);
    for (size_t i = 0; i < sizeof lens / sizeof lens[0]; i++) {
        assert_int_equal(sample_append(s, lens[i], &error), MR_OK);
    }
    assert_int_equal(mr_part_sync(s->writer, &error), MR_OK);
    mr_part_close(s->writer);
    s->writer = NULL;
}

uint64_t sample_begin(const struct part_sample *s, size_t i) {
    return i == 0 ? MR_PART_HEADER : s->end[i - 1];
}

/* The block that begins at an offset; count for the end; SIZE_MAX for any other place. */
size_t sample_block_at(const struct part_sample *s, uint64_t offset) {
    for (size_t i = 0; i <= s->count; i++) {
        if (sample_begin(s, i) == offset) {
            return i;
        }
    }
    return SIZE_MAX;
}

static enum mr_status compare(void *ctx, uint64_t tag, struct mr_bytes payload) {
    struct seen *seen = ctx;
    const struct part_sample *s = seen->s;
    assert_true(seen->next < s->count);
    assert_int_equal(tag, tag_of(s, seen->next));
    assert_int_equal(payload.len, s->len[seen->next]);
    assert_int_equal((uintptr_t)payload.ptr % 8, 0);
    uint8_t *expected = malloc(payload.len + 1);
    assert_non_null(expected);
    fill(s, seen->next, expected, payload.len);
    assert_memory_equal(payload.ptr, expected, payload.len);
    free(expected);
    seen->next++;
    return MR_OK;
}

/* Reads as read and as verify do, which must agree; nothing wrong may be seen on the way. */
enum mr_status sample_read(const struct part_sample *s, struct mr_disk *disk, uint64_t from,
                           uint64_t len, size_t *ret_seen, struct mr_error *error) {
    size_t first = sample_block_at(s, from == 0 ? MR_PART_HEADER : from);
    struct seen seen = {s, first == SIZE_MAX ? s->count : first};
    enum mr_status status =
        mr_part_read(disk, SAMPLE_DIR, &s->id, from, len, compare, &seen, error);
    struct mr_error again;
    assert_int_equal(mr_part_verify(disk, SAMPLE_DIR, &s->id, from, len, &again), status);
    if (status != MR_OK) {
        assert_int_equal(error->status, status);
        assert_string_equal(error->text, again.text);
        assert_non_null(strstr(error->text, s->path));
    }
    *ret_seen = seen.next;
    return status;
}

void sample_must_hold(const struct part_sample *s, struct mr_disk *disk, uint64_t len) {
    struct mr_error error = {.status = MR_OK};
    size_t seen;
    enum mr_status status = sample_read(s, disk, 0, len, &seen, &error);
    if (status != MR_OK) {
        fail_msg("%s", error.text);
    }
    assert_int_equal(seen, sample_block_at(s, len));
}

void sample_must_refuse(const struct part_sample *s, struct mr_disk *disk, uint64_t from,
                        uint64_t len) {
    struct mr_error error = {.status = MR_OK};
    size_t seen;
    assert_int_equal(sample_read(s, disk, from, len, &seen, &error), MR_CORRUPT);
    assert_non_null(strstr(error.text, ": offset "));
}
