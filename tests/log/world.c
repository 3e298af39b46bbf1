/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/log/world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static uint64_t mixed(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

uint64_t world_below(struct world *w, uint64_t bound) {
    w->random += 0x9e3779b97f4a7c15u;
    return mixed(w->random) % bound;
}

void world_payload(uint64_t seq, uint32_t index, uint8_t *ret, size_t len) {
    uint64_t word = 0;
    for (size_t i = 0; i < len; i++) {
        word = i % 8 == 0 ? mixed(seq * 1000003 + index * 101 + i + 1) : word >> 8;
        ret[i] = (uint8_t)word;
    }
}

void world_init(struct world *w, uint64_t seed, uint64_t segment_bytes) {
    *w = (struct world){.vd = virtual_disk_open(seed),
                        .segment_bytes = segment_bytes,
                        .sync = true,
                        .random = seed,
                        .now_ms = 1000};
}

void world_finish(struct world *w) {
    world_close(w);
    virtual_disk_close(w->vd);
    free(w->truth);
}

enum mr_status world_open(struct world *w, struct mr_error *error) {
    const struct mr_log_options options = {
        .disk = virtual_disk_disk(w->vd),
        .clock = mr_clock_system(),
        .dir = WORLD_DIR,
        .segment_bytes = w->segment_bytes,
        .reserve_bytes = w->reserve_bytes,
        .sync = w->sync,
        .incarnation = 0x1234567890abcdef,
        .from_lsn = w->from_lsn,
    };
    assert_null(w->log);
    enum mr_status status = mr_log_open(&options, &w->log, error);
    if (status == MR_OK) {
        mr_log_check(w->log);
    }
    return status;
}

void world_close(struct world *w) {
    mr_log_close(w->log);
    w->log = NULL;
}

void world_crash(struct world *w) {
    virtual_disk_crash(w->vd);
    world_close(w);
}

struct bundle world_bundle(struct world *w, size_t len_max) {
    struct bundle b = {
        .seq = mr_log_last_seq(w->log) + 1 + (world_below(w, 4) == 0 ? world_below(w, 3) : 0),
        .count = 1 + (uint32_t)world_below(w, WORLD_BUNDLE_MAX),
        .recorded_ms = w->now_ms++,
    };
    for (uint32_t i = 0; i < b.count; i++) {
        b.len[i] = world_below(w, 8) == 0 ? 0 : world_below(w, len_max + 1);
    }
    return b;
}

static void push(struct world *w, const struct expected *e) {
    if (w->truth_len == w->truth_cap) {
        w->truth_cap = w->truth_cap == 0 ? 64 : w->truth_cap * 2;
        w->truth = realloc(w->truth, w->truth_cap * sizeof *w->truth);
        assert_non_null(w->truth);
    }
    w->truth[w->truth_len++] = *e;
}

static struct expected expected_of(const struct bundle *b, uint32_t i) {
    return (struct expected){b->seq, i, b->count, b->len[i], b->recorded_ms};
}

enum mr_status world_append(struct world *w, const struct bundle *b, struct mr_error *error) {
    struct mr_log_entry entries[WORLD_BUNDLE_MAX];
    uint8_t *payloads[WORLD_BUNDLE_MAX];
    for (uint32_t i = 0; i < b->count; i++) {
        uint8_t *p = payloads[i] = malloc(b->len[i] + 1);
        assert_non_null(p);
        world_payload(b->seq, i, p, b->len[i]);
        size_t head = b->len[i] < 5 ? b->len[i] : 5; /* in parts, one of them empty */
        entries[i] = (struct mr_log_entry){
            .type = MR_RECORD_EVENTS,
            .payload = {{p, head}, {NULL, 0}, {p + head, b->len[i] - head}},
            .payload_count = 3,
        };
    }
    uint64_t lsn = mr_log_last_lsn(w->log);
    enum mr_status status = mr_log_append(w->log, b->seq, b->recorded_ms, entries, b->count, error);
    mr_log_check(w->log);
    for (uint32_t i = 0; i < b->count; i++) {
        assert_true(status != MR_OK || entries[i].lsn == lsn + 1 + i);
        free(payloads[i]);
    }
    if (status == MR_OK) {
        for (uint32_t i = 0; i < b->count; i++) {
            struct expected e = expected_of(b, i);
            push(w, &e);
        }
        w->maybe_len = 0;
        assert_int_equal(mr_log_last_seq(w->log), b->seq);
        assert_int_equal(mr_log_last_recorded_ms(w->log), b->recorded_ms);
    } else {
        assert_int_equal(mr_log_last_lsn(w->log), lsn);
        assert_true(w->maybe_len < WORLD_MAYBE_MAX);
        w->maybe[w->maybe_len++] = *b;
    }
    return status;
}

static bool is_record(const struct mr_record *r, const struct expected *e) {
    if (r->seq != e->seq || r->bundle_index != e->index || r->bundle_count != e->count ||
        r->payload.len != e->len || r->recorded_ms != e->recorded_ms ||
        r->type != MR_RECORD_EVENTS) {
        return false;
    }
    uint8_t *payload = malloc(e->len + 1);
    assert_non_null(payload);
    world_payload(e->seq, e->index, payload, e->len);
    bool same = memcmp(payload, r->payload.ptr, e->len) == 0;
    free(payload);
    return same;
}

/* Record number i behind the model: of a bundle that was not acknowledged? */
static bool is_maybe(const struct world *w, const struct mr_record *r, size_t i) {
    for (size_t m = 0; m < w->maybe_len; m++) {
        struct expected e = expected_of(&w->maybe[m], (uint32_t)i);
        if (i < w->maybe[m].count && is_record(r, &e)) {
            return true;
        }
    }
    return false;
}

size_t world_compare(const struct world *w, struct mr_disk *disk, const char *dir, size_t least,
                     enum mr_status *ret_status, struct mr_error *error) {
    struct mr_log_reader *reader;
    size_t count = 0;
    uint64_t next_lsn = 1;
    *ret_status = mr_log_reader_open(disk, dir, 0, &reader, error);
    if (*ret_status != MR_OK) {
        return 0;
    }
    for (;;) {
        struct mr_record record;
        *ret_status = mr_log_reader_next(reader, &record, error);
        if (*ret_status != MR_OK) {
            break;
        }
        assert_int_equal(record.lsn, next_lsn++);
        if (record.type == MR_RECORD_START) {
            assert_int_equal(record.payload.len, 0);
            continue;
        }
        if (count < w->truth_len) {
            assert_true(is_record(&record, &w->truth[count]));
        } else {
            assert_true(is_maybe(w, &record, count - w->truth_len));
        }
        count++;
    }
    *ret_status = *ret_status == MR_END ? MR_OK : *ret_status;
    mr_log_reader_close(reader);
    if (*ret_status == MR_OK) {
        assert_true(count >= least);
    }
    return count;
}

void world_check(struct world *w) {
    struct mr_error error = {.status = MR_OK};
    enum mr_status status;
    size_t count =
        world_compare(w, virtual_disk_disk(w->vd), WORLD_DIR, w->truth_len, &status, &error);
    if (status != MR_OK) {
        fail_msg("%s", error.text);
    }
    for (size_t m = 0; count > w->truth_len && m < w->maybe_len; m++) {
        /* Which of them it was: they differ in recorded_ms. */
        struct mr_log_reader *reader;
        struct mr_record record;
        assert_int_equal(mr_log_reader_open(virtual_disk_disk(w->vd), WORLD_DIR, w->maybe[m].seq,
                                            &reader, &error),
                         MR_OK);
        bool here = false;
        while (mr_log_reader_next(reader, &record, &error) == MR_OK) {
            here = here || (record.type == MR_RECORD_EVENTS && record.seq == w->maybe[m].seq &&
                            record.recorded_ms == w->maybe[m].recorded_ms);
        }
        mr_log_reader_close(reader);
        if (here) {
            size_t survived = count - w->truth_len;
            for (uint32_t i = 0; i < survived; i++) {
                struct expected e = expected_of(&w->maybe[m], i);
                push(w, &e);
            }
            break;
        }
    }
    assert_int_equal(w->truth_len, count);
    w->maybe_len = 0;
}
