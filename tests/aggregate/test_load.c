/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that a load takes what was saved and nothing else:
 *   1. every byte of a slice flipped, every length of it cut: refused with a text; with the checksum
 *      made right again: refused or taken, and never a broken state;
 *   2. made by hand: keys that are none, counts that are wrong;
 *   3. slices missing, given twice, of another seq, with two values for a group: refused; a group
 *      that was written down twice is taken once.
 */
#include "aggregate/saved.h"
#include "tests/aggregate/kit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

enum { RULES = 4, KEYS = 40 };

static const uint32_t same_rules[RULES] = {0, 1, 2, 3};

static void make_rules(struct mr_rule *rules) {
    rules[0] = kit_rule(0, 0, 1, 10, 0);
    rules[1] = kit_rule(1, 0, 2, 25, 40);
    rules[2] = kit_rule(2, 0, 0, 10, 20);
    rules[3] = kit_rule(3, 0, 1, 30, 20);
    rules[3].window = (struct mr_window){
        .kind = MR_WINDOW_SLIDING, .sliced = true, .size_ms = 30, .every_ms = 10, .slice_ms = 10};
}

/* Bundle seq: some partials of each rule. */
static void merge(struct mr_combine *combine, const struct mr_rule *rules, uint64_t seq,
                  uint32_t partials) {
    struct kit_random random = {seq};
    struct mr_parcel *parcel = mr_parcel_open(seq, 0);
    for (uint32_t k = 0; k < partials; k++) {
        uint32_t r = kit_below(&random, RULES);
        int64_t step = rules[r].window.sliced ? rules[r].window.slice_ms : rules[r].window.size_ms;
        int64_t start = (int64_t)kit_below(&random, 4) * step;
        uint32_t key = rules[r].key_count == 0 ? 0 : kit_below(&random, KEYS);
        const int64_t value = (int64_t)kit_below(&random, 100);
        kit_partial(parcel, &rules[r], start, key, &value, 1);
    }
    assert_int_equal(mr_combine_merge(combine, parcel), MR_OK);
    mr_parcel_close(parcel);
}

/* One slice, damaged, into a combine of its own. */
static enum mr_status load_one(const struct mr_rule *rules, struct mr_bytes slice) {
    static const int64_t watermark = 15;
    struct mr_combine_load how = {2, &watermark, same_rules, RULES, 1};
    struct mr_error error = {.text = ""};
    struct mr_combine *combine = kit_open(rules, RULES, 0);
    uint64_t dropped;
    assert_int_equal(mr_combine_load_begin(combine, &how, &error), MR_OK);
    enum mr_status status = mr_combine_load_slice(combine, slice, true, &dropped, &error);
    if (status == MR_OK) {
        status = mr_combine_load_end(combine, &error);
    }
    if (status == MR_OK) {
        mr_combine_check_scan(combine);
    } else {
        assert_int_equal(status, MR_CORRUPT);
        assert_int_equal(error.status, status);
        assert_true(strlen(error.text) > 10);
    }
    mr_combine_close(combine);
    return status;
}

/* A save of one slice, of OPEN and CLOSED windows of four rules, one of them as slices, and an overflow group. */
static void save_small(struct mr_rule *rules, struct kit_slices *ret) {
    make_rules(rules);
    rules[1].groups_max = 9;
    struct mr_combine *combine = kit_open(rules, RULES, 0);
    merge(combine, rules, 1, 12);
    kit_advance(combine, 1, 5);
    merge(combine, rules, 2, 12);
    kit_advance(combine, 2, 15);
    kit_save(combine, 2, 1000, ret);
    assert_int_equal(ret->count, 1);
    mr_combine_close(combine);
}

static struct mr_buf copy_of(const struct mr_buf *slice, size_t len) {
    struct mr_buf copy;
    mr_buf_init(&copy, slice->len + 4096);
    mr_buf_append(&copy, slice->ptr, len);
    return copy;
}

static void damaged_slices(void **state) {
    (void)state;
    struct mr_rule rules[RULES];
    struct kit_slices slices = {0};
    save_small(rules, &slices);
    const struct mr_buf *slice = &slices.items[0];
    assert_int_equal(load_one(rules, mr_buf_bytes(slice)), MR_OK);
    uint32_t taken = 0;
    uint32_t refused = 0;
    for (size_t at = 0; at < slice->len; at++) {
        struct mr_buf cut = copy_of(slice, at);
        assert_int_equal(load_one(rules, mr_buf_bytes(&cut)), MR_CORRUPT);
        mr_buf_finish(&cut);
        for (unsigned bit = 1; bit < 256; bit *= 4) {
            struct mr_buf copy = copy_of(slice, slice->len);
            copy.ptr[at] ^= (uint8_t)bit;
            assert_int_equal(load_one(rules, mr_buf_bytes(&copy)), MR_CORRUPT);
            kit_slice_seal(&copy);
            bool ok = load_one(rules, mr_buf_bytes(&copy)) == MR_OK;
            taken += ok;
            refused += !ok;
            mr_buf_finish(&copy);
        }
    }
    assert_true(taken > 100 && refused > 400);
    kit_slices_finish(&slices);
}

/* The slice cut at every length, its header and checksum made to say that this is all of it. */
static void cut_slices_that_say_so(void **state) {
    (void)state;
    struct mr_rule rules[RULES];
    struct kit_slices slices = {0};
    save_small(rules, &slices);
    for (uint64_t len = sizeof(struct mr_saved_slice); len < slices.items[0].len; len++) {
        struct mr_buf cut = copy_of(&slices.items[0], len);
        memcpy(cut.ptr + offsetof(struct mr_saved_slice, len), &len, sizeof len);
        kit_slice_seal(&cut);
        (void)load_one(rules, mr_buf_bytes(&cut)); /* whole runs may stay */
        mr_buf_finish(&cut);
    }
    kit_slices_finish(&slices);
}

/* The text of what a load of two saved slices says, of which the second was changed. */
static void expect_refused(const struct mr_rule *rules, const struct mr_combine_load *how,
                           const struct mr_buf *const *slices, uint32_t count, const char *text) {
    struct mr_combine *combine = kit_open(rules, RULES, 0);
    struct mr_error error = {.text = ""};
    uint64_t dropped;
    enum mr_status status = mr_combine_load_begin(combine, how, &error);
    for (uint32_t i = 0; i < count && status == MR_OK; i++) {
        status = mr_combine_load_slice(combine, mr_buf_bytes(slices[i]), false, &dropped, &error);
    }
    status = status == MR_OK ? mr_combine_load_end(combine, &error) : status;
    assert_int_equal(status, text == NULL ? MR_OK : MR_CORRUPT);
    if (text != NULL && strstr(error.text, text) == NULL) {
        fail_msg("`%s` is not in `%s`", text, error.text);
    }
    mr_combine_close(combine);
}

/* A last slice that has a group once more: it takes the first run's first group of `slice`. */
static struct mr_buf last_with_group_again(const struct mr_buf *slice, const struct mr_buf *last) {
    struct mr_saved_slice head;
    struct mr_saved_run run;
    struct mr_saved_group group;
    const uint8_t *at = slice->ptr + sizeof head;
    memcpy(&head, last->ptr, sizeof head);
    memcpy(&run, at, sizeof run);
    memcpy(&group, at + sizeof run, sizeof group);
    run.count = 1;
    run.len = mr_saved_group_size(&group);
    head.len += sizeof run + run.len;
    struct mr_buf copy;
    mr_buf_init(&copy, 1 << 20);
    mr_buf_append(&copy, &head, sizeof head);
    mr_buf_append(&copy, &run, sizeof run);
    mr_buf_append(&copy, at + sizeof run, (size_t)run.len);
    mr_buf_append(&copy, last->ptr + sizeof head, last->len - sizeof head);
    kit_slice_seal(&copy);
    return copy;
}

static void slices_that_do_not_belong(void **state) {
    (void)state;
    struct mr_rule rules[RULES];
    struct kit_slices s = {0};
    make_rules(rules);
    struct mr_combine *combine = kit_open(rules, RULES, 0);
    merge(combine, rules, 1, 40);
    kit_advance(combine, 1, 5);
    mr_combine_save_begin(combine, 1);
    assert_false(kit_save_slice(combine, 9, &s));
    assert_true(kit_save_slice(combine, 1000, &s));
    mr_combine_close(combine);
    const struct mr_buf *a = &s.items[0];
    const struct mr_buf *b = &s.items[1];
    const int64_t watermark = 5;
    const int64_t other_watermark = 10;
    struct mr_combine_load how = {1, &watermark, same_rules, RULES, 1};
    expect_refused(rules, &how, (const struct mr_buf *const[]){b, a}, 2, NULL);
    expect_refused(rules, &how, NULL, 0, NULL); /* a shard that nothing was saved for */
    expect_refused(rules, &how, &a, 1, "slices are there, not all");
    expect_refused(rules, &how, &b, 1, "slices are there, not all");
    expect_refused(rules, &how, (const struct mr_buf *const[]){a, b, b}, 3, "two values for one slice");
    static const uint32_t without_slices[RULES] = {0, 1, 2, UINT32_MAX};
    struct mr_combine_load wrong = how;
    wrong.rule_map = without_slices;
    expect_refused(rules, &wrong, (const struct mr_buf *const[]){a, b, a}, 3, "each once");
    wrong = how;
    wrong.seq = 2;
    expect_refused(rules, &wrong, &a, 1, "another checkpoint");
    wrong = how;
    wrong.rule_map_len = 2;
    expect_refused(rules, &wrong, &a, 1, "another checkpoint");
    wrong = how;
    wrong.watermarks_ms = &other_watermark;
    expect_refused(rules, &wrong, &a, 1, "the watermark has closed");

    struct mr_buf twice = last_with_group_again(a, b);
    expect_refused(rules, &how, (const struct mr_buf *const[]){a, &twice}, 2, NULL);
    expect_refused(rules, &how, (const struct mr_buf *const[]){&twice, a}, 2, NULL);
    uint8_t *group = twice.ptr + sizeof(struct mr_saved_slice) + sizeof(struct mr_saved_run);
    group[0] ^= 1; /* of its events: 1 is 0 now, else another number */
    group[0] |= 2;
    kit_slice_seal(&twice);
    expect_refused(rules, &how, (const struct mr_buf *const[]){a, &twice}, 2, "two values");
    expect_refused(rules, &how, (const struct mr_buf *const[]){&twice, a}, 2, "two values");
    mr_buf_finish(&twice);
    twice = last_with_group_again(a, b);
    group = twice.ptr + sizeof(struct mr_saved_slice) + sizeof(struct mr_saved_run);
    group[offsetof(struct mr_saved_group, ref) + 1] ^= 0x10; /* in another place */
    kit_slice_seal(&twice);
    expect_refused(rules, &how, (const struct mr_buf *const[]){a, &twice}, 2, "two values");
    mr_buf_finish(&twice);
    kit_slices_finish(&s);
}

/* A whole save of one open window of rule 0, made by hand. */
static struct mr_buf made_slice(const struct mr_rule *rules, struct mr_bytes key, uint32_t count) {
    struct mr_saved_group group = {
        .events = 1, .revision = 1, .key_len = (uint32_t)key.len, .state_len = rules[0].state_len};
    struct mr_saved_run run = {.state_len = rules[0].state_len, .start_ms = 100, .count = count};
    struct mr_saved_slice head = {
        .magic = MR_SAVED_MAGIC, .seq = 2, .rule_count = RULES, .last = 1};
    uint64_t size = mr_saved_group_size(&group);
    struct mr_buf slice;
    run.len = 2 * size; /* two groups, of one key */
    head.len = sizeof head + sizeof run + run.len + RULES * sizeof(struct mr_saved_counters);
    mr_buf_init(&slice, 1 << 20);
    mr_buf_append(&slice, &head, sizeof head);
    mr_buf_append(&slice, &run, sizeof run);
    for (uint32_t k = 0; k < 2; k++) {
        size_t end = slice.len + (size_t)size;
        uint64_t state[64];
        memset(state, 0, sizeof state);
        mr_buf_append(&slice, &group, sizeof group);
        mr_buf_append(&slice, state, run.state_len);
        mr_buf_append_bytes(&slice, key);
        while (slice.len < end) {
            mr_buf_append_char(&slice, 0);
        }
    }
    while (slice.len < head.len) {
        mr_buf_append_char(&slice, 0);
    }
    kit_slice_seal(&slice);
    return slice;
}

static void expect_made(const struct mr_rule *rules, struct mr_bytes key, uint32_t count,
                        enum mr_status status) {
    struct mr_buf slice = made_slice(rules, key, count);
    assert_int_equal(load_one(rules, mr_buf_bytes(&slice)), status);
    mr_buf_finish(&slice);
}

static void keys_and_counts(void **state) {
    (void)state;
    struct mr_rule rules[RULES];
    make_rules(rules);
    static uint8_t key[6000] = {'s', 0, 1, 'x'};
    expect_made(rules, mr_bytes_of(key, 4), 2, MR_OK); /* the same group twice */
    expect_made(rules, mr_bytes_of(key, 4), 1, MR_CORRUPT);
    expect_made(rules, mr_bytes_of(key, 4), 3, MR_CORRUPT);
    expect_made(rules, mr_bytes_of(key, 4), 0, MR_CORRUPT);
    expect_made(rules, mr_bytes_of(key, 3), 2, MR_CORRUPT);
    expect_made(rules, mr_bytes_of(key, 5), 2, MR_CORRUPT);
    expect_made(rules, MR_BYTES(""), 2, MR_CORRUPT);
    expect_made(rules, MR_BYTES("z"), 2, MR_OK);
    expect_made(rules, MR_BYTES("zz"), 2, MR_CORRUPT);
    expect_made(rules, MR_BYTES("o\1"), 2, MR_OK);
    expect_made(rules, MR_BYTES("o\1o\1"), 2, MR_CORRUPT);
    expect_made(rules, MR_BYTES("o\377"), 2, MR_CORRUPT); /* no shard has this number */
    key[1] = (MR_KEY_LEN_MAX - 3) >> 8;
    key[2] = (MR_KEY_LEN_MAX - 3) & 255;
    expect_made(rules, mr_bytes_of(key, MR_KEY_LEN_MAX), 2, MR_OK);
    key[2]++;
    expect_made(rules, mr_bytes_of(key, MR_KEY_LEN_MAX + 1), 2, MR_CORRUPT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(damaged_slices),
        cmocka_unit_test(cut_slices_that_say_so),
        cmocka_unit_test(slices_that_do_not_belong),
        cmocka_unit_test(keys_and_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
