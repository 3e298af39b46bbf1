/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that what Redis Cluster says is read right:
 *   1. slots: the vector of the specification, hash tags, and known keys;
 *   2. addresses: a table of what is one and what is not, and back to text;
 *   3. MOVED and ASK, and what only looks like them;
 *   4. ranges of CLUSTER SLOTS: each field wrong in turn.
 */
#include "net/redis_slots.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static uint32_t slot(const char *key) {
    return mr_redis_slot(mr_bytes_text(key));
}

static void slots_are_those_of_the_specification(void **state) {
    (void)state;
    assert_int_equal(slot("123456789"), 0x31c3); /* the specification's vector: below 16384 as it is */
    assert_int_equal(slot(""), 0);
    assert_int_equal(slot("foo"), 12182);
    assert_int_equal(slot("bar"), 5061);
    assert_int_equal(slot("hello"), 866);
    assert_int_equal(mr_redis_slot((struct mr_bytes){0}), 0);
    assert_int_equal(mr_redis_slot(MR_BYTES("a\0b")), mr_redis_slot(MR_BYTES("x{a\0b}")));
    assert_int_not_equal(mr_redis_slot(MR_BYTES("a\0b")), slot("a"));
}

static void hash_tags_count_alone(void **state) {
    (void)state;
    assert_int_equal(slot("{user1000}.following"), slot("user1000"));
    assert_int_equal(slot("{user1000}.followers"), slot("user1000"));
    assert_int_equal(slot("foo{bar}{zap}"), slot("bar"));
    assert_int_equal(slot("foo{{bar}}zap"), slot("{bar"));
    assert_int_equal(slot("a}b{c}d"), slot("c"));
    assert_int_equal(slot("foo{}{bar}"), 8363); /* all of it: the first tag is empty */
    const char *whole[] = {"foo{}", "{}", "{", "}", "foo{bar", "foo}bar{", "x{"};
    for (size_t i = 0; i < sizeof whole / sizeof whole[0]; i++) { /* none of them has a tag */
        char tagged[32];
        (void)snprintf(tagged, sizeof tagged, "%s", whole[i]);
        uint32_t crc = 0;
        for (const char *p = tagged; *p != '\0'; p++) { /* the slow way: bit by bit, high bit first */
            for (int bit = 7; bit >= 0; bit--) {
                uint32_t in = ((uint32_t)(unsigned char)*p >> bit & 1) ^ (crc >> 15 & 1);
                crc = (crc << 1 & 0xffff) ^ (in ? 0x1021 : 0);
            }
        }
        assert_int_equal(slot(whole[i]), crc % MR_REDIS_SLOTS);
    }
}

static void addresses(void **state) {
    (void)state;
    static const struct {
        const char *text;
        const char *host; /* NULL: refused */
        uint16_t port;
        const char *printed;
    } rows[] = {
        {"redis:6380", "redis", 6380, "redis:6380"},
        {"redis", "redis", 6379, "redis:6379"},
        {"127.0.0.1:1", "127.0.0.1", 1, "127.0.0.1:1"},
        {"[::1]:65535", "::1", 65535, "[::1]:65535"},
        {"[fe80::1%eth0]", "fe80::1%eth0", 6379, "[fe80::1%eth0]:6379"},
        {"", NULL, 0, NULL},          {":6379", NULL, 0, NULL},     {"redis:", NULL, 0, NULL},
        {"redis:0", NULL, 0, NULL},   {"redis:65536", NULL, 0, NULL}, {"redis:-1", NULL, 0, NULL},
        {"redis:6379x", NULL, 0, NULL}, {"::1", NULL, 0, NULL},     {"::1:6379", NULL, 0, NULL},
        {"[::1", NULL, 0, NULL},      {"[::1]6379", NULL, 0, NULL}, {"[]:6379", NULL, 0, NULL},
        {"re dis:6379", NULL, 0, NULL}, {"redis:99999999999", NULL, 0, NULL}, {"u@redis:1", NULL, 0, NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct mr_redis_address address = {.host = "before", .port = 7};
        struct mr_error error = {.text = ""};
        enum mr_status status = mr_redis_address_parse(mr_bytes_text(rows[i].text), address.host, &address.port, &error);
        if (rows[i].host == NULL) {
            assert_int_equal(status, MR_INVALID);
            assert_string_not_equal(error.text, "");
            assert_string_equal(address.host, "before"); /* written only on success */
            assert_int_equal(address.port, 7);
            continue;
        }
        char printed[MR_REDIS_ADDRESS_MAX];
        assert_int_equal(status, MR_OK);
        assert_string_equal(address.host, rows[i].host);
        assert_int_equal(address.port, rows[i].port);
        mr_redis_address_print(&address, printed);
        assert_string_equal(printed, rows[i].printed);
    }
    char text[MR_REDIS_ADDRESS_MAX + 10];
    struct mr_redis_address address;
    memset(text, 'a', sizeof text);
    assert_int_equal(mr_redis_address_parse(mr_bytes_of(text, 255), address.host, &address.port, NULL), MR_OK);
    char printed[MR_REDIS_ADDRESS_MAX];
    mr_redis_address_print(&address, printed);
    assert_int_equal(strlen(printed), 255 + 5);
    assert_int_equal(mr_redis_address_parse(mr_bytes_of(text, 256), address.host, &address.port, NULL), MR_INVALID);
}

static void redirects(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int kind; /* 0: none, 1: MOVED, 2: ASK */
        uint32_t slot;
        const char *host;
        uint16_t port;
    } rows[] = {
        {"MOVED 3999 127.0.0.1:6381", 1, 3999, "127.0.0.1", 6381},
        {"ASK 0 redis-3:1", 2, 0, "redis-3", 1},
        {"MOVED 16383 :6381", 1, 16383, "asked", 6381},
        {"MOVED 16383 ?:6381", 1, 16383, "asked", 6381},
        {"ASK 5 2001:db8::7:6381", 2, 5, "2001:db8::7", 6381},
        {"MOVED 16384 a:1", 0, 0, NULL, 0}, {"MOVED 1 a:0", 0, 0, NULL, 0},  {"MOVED 1 a", 0, 0, NULL, 0},
        {"MOVED 1", 0, 0, NULL, 0},         {"MOVED", 0, 0, NULL, 0},        {"MOVED ", 0, 0, NULL, 0},
        {"MOVED  a:1", 0, 0, NULL, 0},      {"MOVED x a:1", 0, 0, NULL, 0},  {"moved 1 a:1", 0, 0, NULL, 0},
        {"MOVED 1 a:65536", 0, 0, NULL, 0}, {"ASKING 1 a:1", 0, 0, NULL, 0}, {"", 0, 0, NULL, 0},
        {"ASK 1 b a:1", 0, 0, NULL, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct mr_redis_address address;
        uint32_t got = 0;
        bool asked = false;
        bool is = mr_redis_redirect_parse(mr_bytes_text(rows[i].text), "asked", &asked, &got, &address);
        assert_int_equal(is, rows[i].kind != 0);
        if (is) {
            assert_int_equal(asked, rows[i].kind == 2);
            assert_int_equal(got, rows[i].slot);
            assert_string_equal(address.host, rows[i].host);
            assert_int_equal(address.port, rows[i].port);
        }
    }
}

/* One range, whose parts a test spoils. */
struct sample {
    struct mr_redis_reply master[3];
    struct mr_redis_reply range[3];
    struct mr_redis_reply ranges[1];
    struct mr_redis_reply reply;
};

static void fill(struct sample *s) {
    *s = (struct sample){
        .master = {{.type = MR_REDIS_TEXT, .text = MR_BYTES("10.0.0.7")},
                   {.type = MR_REDIS_INTEGER, .integer = 7000},
                   {.type = MR_REDIS_TEXT, .text = MR_BYTES("id")}},
        .range = {{.type = MR_REDIS_INTEGER, .integer = 5}, {.type = MR_REDIS_INTEGER, .integer = 9}},
    };
    s->range[2] = (struct mr_redis_reply){.type = MR_REDIS_LIST, .items = s->master, .count = 3};
    s->ranges[0] = (struct mr_redis_reply){.type = MR_REDIS_LIST, .items = s->range, .count = 3};
    s->reply = (struct mr_redis_reply){.type = MR_REDIS_LIST, .items = s->ranges, .count = 1};
}

static enum mr_status parse(const struct sample *s, struct mr_redis_range *ret) {
    return mr_redis_range_parse(&s->reply, 0, "asked", ret, NULL);
}

static void ranges(void **state) {
    (void)state;
    struct sample s;
    struct mr_redis_range range;
    fill(&s);
    assert_int_equal(parse(&s, &range), MR_OK);
    assert_true(range.first == 5 && range.last == 9 && range.master.port == 7000);
    assert_string_equal(range.master.host, "10.0.0.7");

    struct mr_redis_reply hidden[] = {{.type = MR_REDIS_NIL}, {.type = MR_REDIS_TEXT},
                                      {.type = MR_REDIS_TEXT, .text = MR_BYTES("?")}};
    for (int i = 0; i < 3; i++) {
        fill(&s);
        s.master[0] = hidden[i];
        assert_int_equal(parse(&s, &range), MR_OK);
        assert_string_equal(range.master.host, "asked");
    }
    struct mr_redis_reply integers[] = {{.type = MR_REDIS_INTEGER, .integer = -1},
                                        {.type = MR_REDIS_INTEGER, .integer = 70000},
                                        {.type = MR_REDIS_TEXT, .text = MR_BYTES("7")},
                                        {.type = MR_REDIS_NIL}};
    for (int i = 0; i < 4; i++) {
        struct mr_redis_reply *parts[] = {&s.range[0], &s.range[1], &s.master[1], &s.ranges[0], &s.range[2]};
        for (size_t k = 0; k < sizeof parts / sizeof parts[0]; k++) {
            fill(&s);
            *parts[k] = integers[i];
            assert_int_equal(parse(&s, &range), MR_CORRUPT);
        }
    }
    fill(&s);
    s.range[0].integer = 10; /* behind the last */
    assert_int_equal(parse(&s, &range), MR_CORRUPT);
    fill(&s);
    s.master[0].text = MR_BYTES("a b");
    assert_int_equal(parse(&s, &range), MR_CORRUPT);
    fill(&s);
    s.master[0].type = MR_REDIS_INTEGER;
    assert_int_equal(parse(&s, &range), MR_CORRUPT);
    fill(&s);
    s.range[2].count = 1;
    assert_int_equal(parse(&s, &range), MR_CORRUPT);
    fill(&s);
    s.ranges[0].count = 2;
    assert_int_equal(parse(&s, &range), MR_CORRUPT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slots_are_those_of_the_specification),
        cmocka_unit_test(hash_tags_count_alone),
        cmocka_unit_test(addresses),
        cmocka_unit_test(redirects),
        cmocka_unit_test(ranges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
