/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that lookup tables read CSV as RFC 4180 writes it, refuse what is broken with its line, keep
 * their bounds, and find every key and no other (against a plain array).
 */
#include "help.h"

#include "event/lookup.h"

static const struct mr_lookup_options usual = {
    {(const uint8_t *)"k", 1}, {(const uint8_t *)"v", 1}, 1000000, 64 << 20};

static struct mr_lookup *open_table(struct mr_bytes csv) {
    /* In a block of exactly its size: reading behind it is seen. */
    struct mr_lookup *lookup = NULL;
    struct mr_error error = {.text = ""};
    uint8_t *copy = mr_alloc(csv.len + (csv.len == 0));
    memcpy(copy, csv.ptr, csv.len);
    enum mr_status status = mr_lookup_open(mr_bytes_of(copy, csv.len), &usual, &lookup, &error);
    mr_free(copy);
    if (status != MR_OK) {
        fail_msg("%s", error.text);
    }
    return lookup;
}

static void assert_finds(const struct mr_lookup *lookup, const char *key, const char *value) {
    struct mr_bytes found;
    bool there = mr_lookup_find(lookup, mr_bytes_text(key), &found);
    assert_int_equal(there, value != NULL);
    if (there) {
        assert_true(mr_bytes_equal(found, mr_bytes_text(value)));
    }
}

static void reads_csv(void **state) {
    static const struct {
        const char *csv;
        const char *pairs[4]; /* key, value, … ; a value NULL: not there */
    } cases[] = {
        {"k,v\na,1\n", {"a", "1", "b", NULL}},
        {"k,v\r\na,1\r\nb,2\r\n", {"a", "1", "b", "2"}},
        {"k,v\na,1\nb,2", {"a", "1", "b", "2"}},
        {"v,x,k\n1,y,a\n2,z,b\n", {"a", "1", "b", "2"}},
        {"\xEF\xBB\xBFk,v\na,1\n", {"a", "1", "", NULL}},
        {"\n\r\nk,v\n\na,1\n\n\n", {"a", "1", "", NULL}},
        {"k,v\n\"a,b\",\"say \"\"x\"\"\"\n", {"a,b", "say \"x\"", "a", NULL}},
        {"k,v\n\"a\nb\",\"1\r\n2\"\n", {"a\nb", "1\r\n2", "a", NULL}},
        {"\"k\",\"v\"\n\"\",\n", {"", "", "x", NULL}},
        {"k,v\n,1\nb,\n", {"", "1", "b", ""}},
        {"k,v\na,1\na,1\n", {"a", "1", "b", NULL}},
        {"k,v\n a , 1 \n", {" a ", " 1 ", "a", NULL}},
        {"k,v\n\xC3\xA9,\xE2\x82\xAC\n", {"\xC3\xA9", "\xE2\x82\xAC", "e", NULL}},
        {"k,v", {"k", NULL, "v", NULL}},
        {"k,v,v2,v2\na,1,2,3\n", {"a", "1", "1", NULL}},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct mr_lookup *lookup = open_table(mr_bytes_text(cases[i].csv));
        assert_finds(lookup, cases[i].pairs[0], cases[i].pairs[1]);
        assert_finds(lookup, cases[i].pairs[2], cases[i].pairs[3]);
        mr_lookup_close(lookup);
    }
    struct mr_lookup_options same = usual;
    struct mr_lookup *lookup = NULL;
    same.value = same.key; /* a set */
    assert_int_equal(mr_lookup_open(MR_BYTES("k\na\n"), &same, &lookup, NULL), MR_OK);
    assert_finds(lookup, "a", "a");
    mr_lookup_close(lookup);
    mr_lookup_close(NULL);
}

static void assert_refused(struct mr_bytes csv, const struct mr_lookup_options *options,
                           enum mr_status status, const char *text) {
    struct mr_lookup *lookup = NULL;
    struct mr_error error = {.text = ""};
    assert_int_equal(mr_lookup_open(csv, options, &lookup, &error), status);
    assert_null(lookup);
    if (strstr(error.text, text) == NULL) {
        fail_msg("\"%s\", expected \"%s\"", error.text, text);
    }
}

static void refuses_broken_files(void **state) {
    static const char *const cases[][2] = {
        {"", "the file is empty"},
        {"\n\r\n", "the file is empty"},
        {"x,v\n", "line 1: the header has no column `k`"},
        {"\nk,x\n", "line 2: the header has no column `v`"},
        {"k,v,k\n", "line 1: two columns are called `k`"},
        {"k,v\na\n", "line 2: 1 fields; the header has 2"},
        {"k,v\na,1\nb,2,3\n", "line 3: 3 fields; the header has 2"},
        {"k,v\n\"a\nb\",1\nc\n", "line 4: 1 fields; the header has 2"},
        {"k,v\na,\"1\n2\n", "line 2: the quote is not closed"},
        {"k,v\na,\"", "line 2: the quote is not closed"},
        {"k,v\na,1\"2\"\n", "line 2: a quote inside a field"},
        {"k,v\na,\"1\"2\n", "line 2: expected a comma or the line's end behind the closing quote"},
        {"k,v\na,1\rb,2\n", "line 2: a carriage return without a line feed"},
        {"k,v\na,1\r", "line 2: a carriage return without a line feed"},
        {"k,v\na,\xFF\n", "line 2: not UTF-8"},
        {"k,v\na,1\nb,2\n\na,3\n", "line 5: the key `a` has another value than in line 2"},
        {"k,v\n\"x\ny\",1\na,1\na,2\n", "line 5: the key `a` has another value than in line 4"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_refused(mr_bytes_text(cases[i][0]), &usual, MR_INVALID, cases[i][1]);
    }
}

static void keeps_its_limits(void **state) {
    (void)state;
    struct mr_lookup_options few = usual;
    few.rows_max = 2;
    struct mr_lookup *lookup = NULL;
    assert_int_equal(mr_lookup_open(MR_BYTES("k,v\na,1\nb,2\n"), &few, &lookup, NULL), MR_OK);
    assert_int_equal(mr_lookup_rows(lookup), 2);
    mr_lookup_close(lookup);
    assert_refused(MR_BYTES("k,v\na,1\nb,2\nc,3\n"), &few, MR_LIMIT, "line 4: more than 2 rows");
    struct mr_buf buf;
    mr_buf_init(&buf, 1 << 20);
    mr_buf_append_text(&buf, "k,v\n");
    for (uint32_t i = 0; i < MR_LOOKUP_TEXT_MAX; i++) {
        mr_buf_append_char(&buf, 'x');
    }
    lookup = NULL;
    size_t full = buf.len;
    mr_buf_append_text(&buf, ",1\n");
    lookup = open_table(mr_buf_bytes(&buf));
    mr_lookup_close(lookup);
    buf.len = full;
    mr_buf_append_text(&buf, "x,1\n");
    assert_refused(mr_buf_bytes(&buf), &usual, MR_LIMIT, "line 2: a field of 4097 bytes; at most 4096");
    mr_buf_clear(&buf);
    mr_buf_append_text(&buf, "k,v\n");
    for (int i = 0; i < 20000; i++) {
        mr_buf_printf(&buf, "%d,%d\n", i, i);
    }
    struct mr_lookup_options small = usual;
    small.bytes_max = 100000;
    assert_refused(mr_buf_bytes(&buf), &small, MR_LIMIT, "the table takes over 100000 bytes");
    mr_buf_finish(&buf);
}

/* Random keys: found with their values; others are not. */
static void finds_every_key(void **state) {
    (void)state;
    enum { ROWS = 50000 };
    uint64_t random = 7;
    struct mr_buf buf;
    uint32_t *values = mr_alloc(ROWS * sizeof *values);
    mr_buf_init(&buf, 8 << 20);
    mr_buf_append_text(&buf, "k,v\n");
    for (uint32_t i = 0; i < ROWS; i++) {
        values[i] = random_below(&random, 1000000);
        mr_buf_printf(&buf, "\"key %u\",%u\r\n", i * 3, values[i]);
    }
    struct mr_lookup *lookup = open_table(mr_buf_bytes(&buf));
    assert_int_equal(mr_lookup_rows(lookup), ROWS);
    assert_true(mr_lookup_bytes(lookup) < 8 << 20);
    for (uint32_t i = 0; i < 3 * ROWS; i++) {
        char key[32];
        char value[32];
        (void)snprintf(key, sizeof key, "key %u", i);              /* fits */
        (void)snprintf(value, sizeof value, "%u", values[i / 3]); /* fits */
        assert_finds(lookup, key, i % 3 == 0 ? value : NULL);
    }
    mr_lookup_close(lookup);
    mr_free(values);
    mr_buf_finish(&buf);
}

static void survives_lack_of_memory(void **state) {
    (void)state;
    bool done = false;
    for (size_t nth = 1; !done; nth++) {
        struct mr_lookup *lookup = NULL;
        mr_alloc_fail_at(nth, 0);
        enum mr_status status = mr_lookup_open(MR_BYTES("k,v\na,1\nb,2\n"), &usual, &lookup, NULL);
        done = !mr_alloc_failed();
        mr_alloc_fail_at(0, 0);
        assert_int_equal(status, done ? MR_OK : MR_NO_MEMORY);
        mr_lookup_close(lookup);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_csv),       cmocka_unit_test(refuses_broken_files),
        cmocka_unit_test(keeps_its_limits), cmocka_unit_test(finds_every_key),
        cmocka_unit_test(survives_lack_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
