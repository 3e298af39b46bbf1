/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes the loading of windows: the input is a program of damages to the slices of a small save, made sound again (their
 * checksums), or the slices themselves. Loading is MR_OK or MR_CORRUPT; what was taken is a sound state that goes on:
 * bundles merge into it and fire, and saved and loaded it is the same.
 */
#include "aggregate/saved.h"
#include "base/check.h"
#include "log/wire.h"
#include "tests/aggregate/kit.h"

#include <stdlib.h>

enum { RULES = 3, SLICES_MAX = 16, SLICE_MAX = 4096, STEP = 8, SEQ = 4 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

struct slice {
    uint8_t bytes[SLICE_MAX];
    size_t len;
};

struct slices {
    struct slice items[SLICES_MAX];
    uint32_t count;
};

static void make_rules(struct mr_rule rules[RULES]) {
    rules[0] = kit_rule(0, 0, 1, 10, 20);
    rules[1] = kit_rule(1, 0, 2, 25, 40);
    rules[1].groups_max = 5;
    rules[2] = kit_rule(2, 0, 1, 40, 20);
    rules[2].window = (struct mr_window){
        .kind = MR_WINDOW_SLIDING, .sliced = true, .size_ms = 40, .every_ms = 10, .slice_ms = 10};
}

static void merge(struct mr_combine *combine, const struct mr_rule *rules, uint64_t seq) {
    struct mr_parcel *parcel = mr_parcel_open(seq, 0);
    for (uint32_t i = 0; i < 8; i++) {
        const struct mr_rule *rule = &rules[i % RULES];
        const int64_t values[] = {(int64_t)(seq * 10 + i), -7};
        int64_t step_ms = rule->window.sliced ? rule->window.slice_ms : rule->window.size_ms;
        int64_t start_ms = (int64_t)(seq + i / 4) * 10 / step_ms * step_ms;
        kit_partial(parcel, rule, start_ms, (uint32_t)seq + i, values, 2);
    }
    enum mr_status status = mr_combine_merge(combine, parcel);
    MR_ASSERT(status == MR_OK);
    mr_parcel_close(parcel);
}

/* Slices of two or three groups each. */
static void save(struct mr_combine *combine, uint64_t seq, struct slices *ret) {
    ret->count = 0;
    mr_combine_save_begin(combine, seq);
    for (bool done = false; !done;) {
        struct mr_buf buf;
        mr_buf_init(&buf, 1 << 20);
        enum mr_status status =
            mr_combine_save(combine, ret->count + 1 < SLICES_MAX ? 3 : 1000, &buf, &done);
        MR_ASSERT(status == MR_OK && ret->count < SLICES_MAX && buf.len <= SLICE_MAX);
        memcpy(ret->items[ret->count].bytes, buf.ptr, buf.len);
        ret->items[ret->count++].len = buf.len;
        mr_buf_finish(&buf);
    }
}

static void make_sample(const struct mr_rule *rules, struct slices *ret) {
    struct mr_combine *combine = kit_open(rules, RULES, 0);
    for (uint64_t seq = 1; seq <= SEQ; seq++) {
        merge(combine, rules, seq);
        kit_advance(combine, seq, (int64_t)seq * 10);
    }
    save(combine, SEQ, ret);
    mr_combine_close(combine);
}

static void seal(struct slice *slice, bool with_len) {
    if (slice->len < sizeof(struct mr_saved_slice)) {
        return;
    }
    if (with_len) {
        mr_wire_put_u64(slice->bytes + offsetof(struct mr_saved_slice, len), slice->len);
    }
    mr_wire_put_u64(slice->bytes, mr_checksum(mr_bytes_of(slice->bytes + 8, slice->len - 8)));
}

static void damage(struct slices *slices, const uint8_t step[STEP]) {
    struct slice *slice = &slices->items[step[1] % slices->count];
    size_t at = slice->len == 0 ? 0 : mr_wire_u16(step + 2) % slice->len;
    size_t word = at - at % 8;
    if (slice->len < 8 || word + 8 > slice->len) {
        return;
    }
    switch (step[0] % 7) {
    case 0:
        slice->bytes[at] ^= step[4];
        break;
    case 1:
        mr_wire_put_u32(slice->bytes + word + step[5] % 2 * 4, step[4]);
        break;
    case 2:
        mr_wire_put_u64(slice->bytes + word, (uint64_t)(int64_t)(int8_t)step[4]);
        break;
    case 3:
        slice->len = at;
        break;
    case 4: { /* 8 to 64 bytes from elsewhere */
        size_t from = mr_wire_u16(step + 4) % slice->len / 8 * 8;
        size_t most = slice->len - (from > word ? from : word);
        size_t count = (1u + step[6] % 8u) * 8;
        memmove(slice->bytes + word, slice->bytes + from, count < most ? count : most);
        break;
    }
    case 5:
        *slice = slices->items[step[4] % slices->count];
        break;
    default: /* two in one call */
        if (slice->len + slices->items[step[4] % slices->count].len <= SLICE_MAX) {
            const struct slice *other = &slices->items[step[4] % slices->count];
            size_t len = other->len;
            memmove(slice->bytes + slice->len, other->bytes, len);
            slice->len += len;
            return;
        }
    }
    if (step[7] % 4 != 0) {
        seal(slice, step[7] % 2 == 0);
    }
}

static enum mr_status load(struct mr_combine *combine, const struct mr_combine_load *how,
                           const struct slices *slices) {
    struct mr_error error = {.text = ""};
    uint64_t dropped;
    enum mr_status status = mr_combine_load_begin(combine, how, &error);
    for (uint32_t i = 0; i < slices->count && status == MR_OK; i++) {
        struct mr_bytes bytes = mr_bytes_of(slices->items[i].bytes, slices->items[i].len);
        status = mr_combine_load_slice(combine, bytes, i % 2 == 0, &dropped, &error);
    }
    if (status == MR_OK) {
        status = mr_combine_load_end(combine, &error);
    }
    MR_ASSERT(status == MR_OK || (status == MR_CORRUPT && error.text[0] != '\0'));
    return status;
}

/* What was taken goes on. */
static void check(struct mr_combine *combine, const struct mr_rule *rules,
                  const struct mr_combine_load *how) {
    static const uint32_t same[RULES] = {0, 1, 2};
    static struct slices again;
    mr_combine_check_scan(combine);
    save(combine, SEQ, &again);
    struct mr_combine_load whole = *how;
    whole.rule_map = same;
    struct mr_combine *other = kit_open(rules, RULES, 0);
    enum mr_status status = load(other, &whole, &again);
    MR_ASSERT(status == MR_OK);
    MR_ASSERT(mr_combine_state_hash_scan(other) == mr_combine_state_hash_scan(combine));
    mr_combine_close(other);
    int64_t watermark_ms = how->watermarks_ms[0];
    for (uint64_t seq = SEQ + 1; seq < SEQ + 4; seq++) {
        merge(combine, rules, seq + 20);
        watermark_ms += 30;
        kit_advance(combine, seq + 20, watermark_ms);
        mr_combine_check_scan(combine);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
    static const uint32_t maps[][RULES] = {{0, 1, 2}, {0, 1, 2}, {1, 0, 2}, {UINT32_MAX, 1, UINT32_MAX}};
    static struct slices sample;
    static struct slices slices;
    struct mr_rule rules[RULES];
    make_rules(rules);
    if (sample.count == 0) {
        make_sample(rules, &sample);
    }
    if (len < 4) {
        return 0;
    }
    slices = sample;
    const int64_t watermark_ms = SEQ * 10 + data[1] % 4 * 5;
    struct mr_combine_load how = {SEQ, &watermark_ms, maps[data[2] % 4], RULES, 1 + data[3] % 2};
    if (data[0] % 4 == 0) { /* the input is the slice */
        slices.count = 1;
        slices.items[0].len = len - 4 < SLICE_MAX ? len - 4 : SLICE_MAX;
        memcpy(slices.items[0].bytes, data + 4, slices.items[0].len);
        seal(&slices.items[0], true);
    }
    for (size_t at = 4; data[0] % 4 != 0 && at + STEP <= len && at < 64 * STEP; at += STEP) {
        damage(&slices, data + at);
    }
    struct mr_combine *combine = kit_open(rules, RULES, 0);
    if (load(combine, &how, &slices) == MR_OK) {
        check(combine, rules, &how);
    }
    mr_combine_close(combine);
    return 0;
}
