/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that texts become values and back: tables at both sides of every bound; what is shown
 * reads back the same; and the edit distance against the recursive definition for all short texts
 * of a small alphabet.
 */
#include "support.h"

#include "base/time_text.h"
#include "config/node.h"
#include "config/value.h"

#include <math.h>

static void counts(void **state_) {
    (void)state_;
    uint64_t value = 77;
    assert_true(mr_value_count(MR_BYTES("18446744073709551615"), &value));
    assert_true(value == UINT64_MAX);
    assert_true(mr_value_count(MR_BYTES("007"), &value));
    assert_int_equal(value, 7);
    static const char *const bad[] = {
        "", "18446744073709551616", "99999999999999999999", "-1", "+1", " 1", "1 ", "0x1", "1.0"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_false(mr_value_count(mr_bytes_text(bad[i]), &value));
    }
    assert_int_equal(value, 7);
}

static void sizes(void **state_) {
    (void)state_;
    static const struct {
        const char *text;
        uint64_t bytes;
    } good[] = {{"0", 0},
                {"1", 1},
                {"5B", 5},
                {"3KB", 3000},
                {"3KiB", 3072},
                {"2MB", 2000000},
                {"2MiB", 2 << 20},
                {"1GB", 1000000000},
                {"1GiB", 1 << 30},
                {"4TB", UINT64_C(4000000000000)},
                {"16777215TiB", UINT64_C(16777215) << 40}};
    uint64_t value;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_true(mr_value_bytes(mr_bytes_text(good[i].text), &value));
        assert_true(value == good[i].bytes);
    }
    static const char *const bad[] = {"",       "KiB",         "1kib", "1 KiB", "1K",
                                      "1.5KiB", "16777216TiB", "-1",   "1KiBs"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_false(mr_value_bytes(mr_bytes_text(bad[i]), &value));
    }
}

static void rates(void **state_) {
    (void)state_;
    static const struct {
        const char *text;
        double rate;
    } good[] = {{"0.5", 0.5}, {"1e-4", 1e-4}, {"0", 0}, {"1.", 1}, {"2E+3", 2000}};
    double value;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_true(mr_value_rate(mr_bytes_text(good[i].text), &value));
        assert_true(value == good[i].rate);
    }
    static const char *const bad[] = {"",
                                      ".5",
                                      "-1",
                                      "+1",
                                      "nan",
                                      "inf",
                                      "1e999",
                                      "0x1p3",
                                      "1e",
                                      "1 ",
                                      "1,5",
                                      "1e5e5",
                                      "0.00000000000000000000000000000000000000001"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_false(mr_value_rate(mr_bytes_text(bad[i]), &value));
    }
}

static void numbers(void **state_) {
    (void)state_;
    static const struct {
        const char *text;
        double number;
    } good[] = {{"0", 0}, {"-0", 0}, {"-0.5", -0.5}, {"-1e-4", -1e-4}, {"1e21", 1e21}, {"7", 7}};
    double value;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_true(mr_value_number(mr_bytes_text(good[i].text), &value));
        assert_true(value == good[i].number);
        assert_true(signbit(value) == (good[i].number < 0)); /* -0 would print as another text */
    }
    static const char *const bad[] = {"", "-", "--1", "+1", "- 1", "-.5", "-inf", "-nan", "-1e999", "1 "};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_false(mr_value_number(mr_bytes_text(bad[i]), &value));
    }
}

static void identifiers_and_columns(void **state_) {
    (void)state_;
    static const char *const good[] = {"a", "_", "A9_z",
                                       "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};
    static const char *const bad[] = {"", "9a", "a-b", "a.b", "a b", "\xc3\xb6", "$a",
                                      "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_true(mr_value_identifier(mr_bytes_text(good[i])));
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_false(mr_value_identifier(mr_bytes_text(bad[i])));
    }
    assert_true(mr_value_column(MR_BYTES("price (EUR), e.g..")));
    assert_false(mr_value_column(MR_BYTES("")));
    assert_false(mr_value_column(MR_BYTES("a\nb")));
    assert_false(mr_value_column(MR_BYTES("a\0b")));
    uint8_t column[257];
    memset(column, 'a', sizeof column);
    assert_true(mr_value_column(mr_bytes_of(column, 256)));
    assert_false(mr_value_column(mr_bytes_of(column, 257)));
}

static void names_and_paths(void **state_) {
    (void)state_;
    static const char *const names[] = {
        "a", "_", "a-b_0", "z9",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};
    static const char *const no_names[] = {
        "",         "A",
        "0a",       "-a",
        "a.b",      "a b",
        "\xc3\xb6", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        assert_true(mr_value_name(mr_bytes_text(names[i])));
    }
    for (size_t i = 0; i < sizeof no_names / sizeof no_names[0]; i++) {
        assert_false(mr_value_name(mr_bytes_text(no_names[i])));
    }
    static const char *const paths[] = {"a", "a.b", "A B.$c", "1.2.3.4.5.6.7.8", "\xc3\xb6"};
    static const char *const no_paths[] = {"",    ".",    "a.", ".a", "a..b", "1.2.3.4.5.6.7.8.9",
                                           "a\n", "a\x7f"};
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        assert_true(mr_value_path(mr_bytes_text(paths[i])));
    }
    for (size_t i = 0; i < sizeof no_paths / sizeof no_paths[0]; i++) {
        assert_false(mr_value_path(mr_bytes_text(no_paths[i])));
    }
    uint8_t path[MR_PATH_LEN_MAX + 1];
    memset(path, 'a', sizeof path);
    assert_true(mr_value_path(mr_bytes_of(path, MR_PATH_LEN_MAX)));
    assert_false(mr_value_path(mr_bytes_of(path, MR_PATH_LEN_MAX + 1)));
    assert_false(mr_value_path(mr_bytes_of("a\0b", 3)));
}

static void words(void **state_) {
    (void)state_;
    static const char *const good[] = {"a", "A-b:c", "\xc3\xb6", "$x"};
    static const char *const bad[] = {"", "a b", " a", "a\n", "\t", "\x7f"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_true(mr_value_word(mr_bytes_text(good[i])));
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_false(mr_value_word(mr_bytes_text(bad[i])));
    }
    uint8_t word[257];
    memset(word, 'a', sizeof word);
    assert_true(mr_value_word(mr_bytes_of(word, 256)));
    assert_false(mr_value_word(mr_bytes_of(word, 257)));
    assert_false(mr_value_word(mr_bytes_of("a\0b", 3)));
}

static void nodes_of_stores(void **state_) {
    (void)state_;
    static const struct {
        const char *text;
        const char *host;
        uint16_t port;
    } good[] = {
        {"h", "h", 99},
        {"h:1", "h", 1},
        {"h:65535", "h", 65535},
        {"h:0080", "h", 80},
        {"10.0.0.1", "10.0.0.1", 99},
        {"10.0.0.1:6379", "10.0.0.1", 6379},
        {"[::1]", "[::1]", 99},
        {"[fe80::1:2]:7", "[fe80::1:2]", 7},
        {"redis-1.Example.org:6379", "redis-1.Example.org", 6379},
        {"redis_1", "redis_1", 99},
        {"1a", "1a", 99},
        {"a.b.", "a.b.", 99},
        {"3.redis", "3.redis", 99},
    };
    struct mr_bytes host;
    uint16_t port;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_true(mr_value_node(mr_bytes_text(good[i].text), 99, &host, &port));
        assert_text(host, good[i].host);
        assert_int_equal(port, good[i].port);
    }
    static const char *const bad[] = {
        "",           ":",         ":1",         "h:",        "h:0",
        "h:65536",    "h:-1",      "h:1:2",      "h: 1",      "h:1 ",
        " h",         "h/0",       "u@h:1",      "redis://h", "::1",
        "[::1",       "[]",        "[]:1",       "[h]:1",     "[::1]1",
        "[::1]:",     "[::1]:0",   "::1]",       "[::1]x:1",  "10.0.0",
        "10.0.0.256", "1",         "6379",       "-h",        ".h",
        "h..g",       "h\xc3\xb6", "[10.0.0.1]", "[::1%lo]",  "h:99999999999999999999",
        "."};
    port = 77;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (mr_value_node(mr_bytes_text(bad[i]), 99, &host, &port)) {
            print_error("%s\n", bad[i]);
            fail();
        }
    }
    assert_int_equal(port, 77);
    uint8_t long_name[254];
    memset(long_name, 'a', sizeof long_name);
    assert_true(mr_value_node(mr_bytes_of(long_name, 253), 99, &host, &port));
    assert_false(mr_value_node(mr_bytes_of(long_name, 254), 99, &host, &port));
    assert_false(mr_value_node(mr_bytes_of("h\0", 2), 99, &host, &port));
}

static void addresses(void **state_) {
    (void)state_;
    static const struct {
        const char *text;
        const char *host;
        uint16_t port;
        bool loopback;
    } good[] = {{"127.0.0.1:80", "127.0.0.1", 80, true},
                {"0.0.0.0:65535", "0.0.0.0", 65535, false},
                {"0.0.0.0", "0.0.0.0", 8080, false},
                {"0", "127.0.0.1", 0, true},
                {"[::1]:1", "::1", 1, true},
                {"[::]", "::", 8080, false},
                {"[::2]:1", "::2", 1, false},
                {"localhost:5", "127.0.0.1", 5, true},
                {"127.255.255.255", "127.255.255.255", 8080, true},
                {"128.0.0.1", "128.0.0.1", 8080, false},
                {"[2001:db8::1]:443", "2001:db8::1", 443, false},
                {"[::ffff:127.0.0.1]:1", "::ffff:127.0.0.1", 1, false}};
    struct mr_bytes host;
    uint16_t port;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_true(mr_value_listen(mr_bytes_text(good[i].text), &host, &port));
        assert_text(host, good[i].host);
        assert_int_equal(port, good[i].port);
        assert_int_equal(mr_value_loopback(host), good[i].loopback);
    }
    static const char *const bad[] = {"",
                                      ":",
                                      "::",
                                      "::1",
                                      "[::1",
                                      "::1]",
                                      "[]",
                                      "[]:1",
                                      "[::1]x:1",
                                      "[::1]:",
                                      "127.0.0.1:",
                                      "127.0.0.1:x",
                                      "127.0.0.1:65536",
                                      "127.0.0.1:99999999999999999999",
                                      "65536",
                                      "127.0.0:1",
                                      "host:1",
                                      "*:1",
                                      "[127.0.0.1]:1",
                                      "127.0.0.1:-1",
                                      " 127.0.0.1",
                                      "[fe80::1%lo]:1"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_false(mr_value_listen(mr_bytes_text(bad[i]), &host, &port));
    }
    assert_false(mr_value_listen(mr_bytes_of("127.0.0.1\0:80", 13), &host, &port));
}

static void utf8(void **state_) {
    (void)state_;
    static const char *const good[] = {"",
                                       "a",
                                       "\xc2\x80",
                                       "\xdf\xbf",
                                       "\xe0\xa0\x80",
                                       "\xed\x9f\xbf",
                                       "\xee\x80\x80",
                                       "\xf0\x90\x80\x80",
                                       "\xf4\x8f\xbf\xbf"};
    static const char *const bad[] = {"\x80",
                                      "\xbf",
                                      "\xc0\x80",
                                      "\xc1\xbf",
                                      "\xc2",
                                      "\xc2z",
                                      "\xe0\x9f\xbf",
                                      "\xe0\xa0",
                                      "\xed\xa0\x80",
                                      "\xf0\x8f\xbf\xbf",
                                      "\xf0\x90\x80",
                                      "\xf4\x90\x80\x80",
                                      "\xf5\x80\x80\x80",
                                      "\xff"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_true(mr_value_utf8(mr_bytes_text(good[i])));
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_false(mr_value_utf8(mr_bytes_text(bad[i])));
    }
}

static uint64_t next(uint64_t *seed) {
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *seed >> 20;
}

static void what_is_shown_reads_back(void **state_) {
    (void)state_;
    static const int64_t units[] = {1, 1000, 60000, 3600000, 86400000};
    uint64_t seed = 1;
    struct mr_buf text;
    mr_buf_init(&text, 64);
    for (int round = 0; round < 20000; round++) {
        int64_t ms = (int64_t)(next(&seed) % 40000) * units[next(&seed) % 5];
        int64_t ms_again = -1;
        mr_buf_clear(&text);
        mr_value_show_duration(ms, &text);
        assert_true(mr_duration_parse(mr_buf_bytes(&text), &ms_again));
        assert_true(ms == ms_again);

        uint64_t bytes = next(&seed) >> (next(&seed) % 44) << (next(&seed) % 4 * 10);
        uint64_t bytes_again = 0;
        mr_buf_clear(&text);
        mr_value_show_bytes(bytes, &text);
        assert_true(mr_value_bytes(mr_buf_bytes(&text), &bytes_again));
        assert_true(bytes == bytes_again);

        double rate = (double)(1 + next(&seed) % 1000000) * 1e-9;
        double rate_again = 0;
        mr_buf_clear(&text);
        mr_value_show_rate(rate, &text);
        assert_true(mr_value_rate(mr_buf_bytes(&text), &rate_again));
        assert_true(rate == rate_again);
    }
    mr_buf_finish(&text);
}

static uint32_t least(uint32_t a, uint32_t b) {
    return a < b ? a : b;
}

/* Optimal string alignment, by its recursive definition. */
static uint32_t distance_oracle(const char *a, size_t i, const char *b, size_t j) {
    if (i == 0 || j == 0) {
        return (uint32_t)(i + j);
    }
    uint32_t best = distance_oracle(a, i - 1, b, j - 1) + (a[i - 1] != b[j - 1]);
    best = least(best, distance_oracle(a, i - 1, b, j) + 1);
    best = least(best, distance_oracle(a, i, b, j - 1) + 1);
    if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        best = least(best, distance_oracle(a, i - 2, b, j - 2) + 1);
    }
    return best;
}

static bool begins(const char *a, size_t a_len, const char *b, size_t b_len) {
    return a_len >= 3 && a_len < b_len && memcmp(a, b, a_len) == 0;
}

static void distances(void **state_) {
    (void)state_;
    enum { LEN = 4, LETTERS = 3, TEXTS = 81 };
    for (int x = 0; x < TEXTS; x++) {
        for (int y = 0; y < TEXTS; y++) {
            char a[LEN];
            char b[LEN];
            for (int k = 0, p = x, q = y; k < LEN; k++, p /= LETTERS, q /= LETTERS) {
                a[k] = (char)('a' + p % LETTERS);
                b[k] = (char)('a' + q % LETTERS);
            }
            for (size_t i = 0; i <= LEN; i++) {
                size_t j = (size_t)(x + y) % (LEN + 1);
                uint32_t expected = distance_oracle(a, i, b, j);
                if (begins(a, i, b, j) || begins(b, j, a, i)) {
                    expected = 1;
                }
                assert_int_equal(mr_value_distance(mr_bytes_of(a, i), mr_bytes_of(b, j)), expected);
            }
        }
    }
    uint8_t text[65];
    memset(text, 'a', sizeof text);
    assert_int_equal(mr_value_distance(mr_bytes_of(text, 64), mr_bytes_of(text, 64)), 0);
    assert_true(mr_value_distance(mr_bytes_of(text, 65), mr_bytes_of(text, 1)) == UINT32_MAX);
}

static void trees_know_where_they_stood(void **state_) {
    (void)state_;
    static const char yaml[] = "a: 1\nb:\n  - x\n  - \"y\xc3\xb6\"\nc: {\xc3\xb6: [], e: 'f'}\n";
    struct mr_arena arena;
    struct mr_node *root;
    struct mr_error error;
    mr_arena_init(&arena, 256, 4096);
    assert_int_equal(mr_yaml_parse(MR_BYTES(yaml), "f", &arena, &root, &error), MR_OK);
    assert_int_equal(root->count, 3);
    const struct mr_node *b = mr_node_get(root, "b");
    assert_int_equal(b->line, 2);
    assert_int_equal(b->column, 1);
    assert_int_equal(mr_node_items(b->value), 2);
    const struct mr_node *y = mr_node_item(b->value, 1);
    assert_int_equal(y->line, 4);
    assert_int_equal(y->column, 5);
    assert_true(y->quoted);
    assert_text(y->text, "y\xc3\xb6");
    assert_null(mr_node_item(b->value, 2));
    const struct mr_node *e = mr_node_get(mr_node_get(root, "c")->value, "e");
    assert_int_equal(e->line, 5);
    assert_int_equal(e->column, 12); /* characters, not bytes */
    assert_text(e->value->text, "f");
    assert_null(mr_node_get(root, "d"));
    assert_null(mr_node_get(b->value, "x"));
    const struct mr_node *a = mr_node_get(root, "a");
    assert_int_equal(mr_node_items(a->value), 1);
    assert_ptr_equal(mr_node_item(a->value, 0), a->value);
    assert_null(mr_node_item(a->value, 1));
    mr_arena_finish(&arena);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts),
        cmocka_unit_test(sizes),
        cmocka_unit_test(rates),
        cmocka_unit_test(numbers),
        cmocka_unit_test(identifiers_and_columns),
        cmocka_unit_test(names_and_paths),
        cmocka_unit_test(words),
        cmocka_unit_test(nodes_of_stores),
        cmocka_unit_test(addresses),
        cmocka_unit_test(utf8),
        cmocka_unit_test(distances),
        cmocka_unit_test(what_is_shown_reads_back),
        cmocka_unit_test(trees_know_where_they_stood),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
