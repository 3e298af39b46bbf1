/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves of the checks of a server:
 *   1. INFO is read exactly: fields by their whole name, lines by "\r\n", numbers by all their digits;
 *   2. each setting that is wrong is refused at connect, is noticed when it changes later, with the server and what to do,
 *      and is fine again when it is set right; a field that INFO lacks, or is odd, likewise;
 *   3. with assume_strict CONFIG is not asked, and INFO still is;
 *   4. what a guard behind claims saw stops at once; a session is not believed before it has passed; a server that does not
 *      answer is not believed for long.
 */
#include "dedup/watch_parts.h"
#include "tests/dedup/watch_world.h"

#include <stdio.h>
#include <stdlib.h>

enum { CHECK_MS = 2000, NOTICED_MS = CHECK_MS + 550 };

/* ---- 1: INFO ---- */

static void info_is_read_exactly(void **state) {
    (void)state;
    static const struct {
        const char *info;
        const char *name;
        const char *value; /* NULL: there is none */
    } rows[] = {
        {"# Server\r\nrun_id:abc\r\n", "run_id", "abc"},
        {"run_id:abc", "run_id", "abc"},
        {"# Server\r\nold_run_id:x\r\nrun_id:abc\r\n", "run_id", "abc"},
        {"run_id_2:x\r\nrun_id:abc\r\n", "run_id", "abc"},
        {"text:run_id:x\r\nrun_id:abc:d\r\n", "run_id", "abc:d"},
        {"run_id:\r\nrole:master\r\n", "run_id", ""},
        {"\r\n\r\nrole:master\r\n\r\n", "role", "master"},
        {"# role:slave\r\nrole:master\r\n", "role", "master"},
        {"x:1\nrole:slave\r\nrole:master\r\n", "role", "master"},
        {"role:master\rx\r\n", "role", "master\rx"},
        {"", "role", NULL},
        {"role", "role", NULL},
        {"role\r\n", "role", NULL},
        {" role:master\r\n", "role", NULL},
        {"Role:master\r\n", "role", NULL},
        {"x:1\nrole:master\r\n", "role", NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct mr_bytes value = MR_BYTES("untouched");
        bool found = mr_watch_info_field(mr_bytes_text(rows[i].info), rows[i].name, &value);
        assert_int_equal(found, rows[i].value != NULL);
        assert_true(mr_bytes_equal(value, mr_bytes_text(found ? rows[i].value : "untouched")));
    }
    static const char *const refused[] = {
        "", "-1", "+1", " 1", "1 ", "1.0", "x", "18446744073709551616", "99999999999999999999"};
    uint64_t number = 7;
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        assert_false(mr_watch_number(mr_bytes_text(refused[i]), &number));
        assert_int_equal(number, 7);
    }
    assert_true(mr_watch_number(MR_BYTES("18446744073709551615"), &number) && number == UINT64_MAX);
    assert_true(mr_watch_number(MR_BYTES("000"), &number) && number == 0);
}

/* ---- replies that are changed on their way ---- */

static const struct mr_redis_transport_ops *inner;
static const char *spoilt_field; /* of INFO; NULL: nothing is changed */
static const char *spoilt_value; /* NULL: the field is left out */
static bool config_is_empty;
static uint32_t configs; /* replies to CONFIG GET seen */
static char spoilt[8192];

static void spoil_info(struct mr_bytes *info) {
    size_t len = 0;
    const char *at = (const char *)info->ptr;
    const char *end = at + info->len;
    size_t name_len = strlen(spoilt_field);
    while (at < end) {
        const char *line_end = strstr(at, "\r\n");
        size_t line_len = (size_t)(line_end - at) + 2;
        if (strncmp(at, spoilt_field, name_len) == 0 && at[name_len] == ':') {
            len += spoilt_value == NULL ? 0
                                        : (size_t)snprintf(spoilt + len, sizeof spoilt - len,
                                                           "%s:%s\r\n", spoilt_field, spoilt_value);
        } else {
            memcpy(spoilt + len, at, line_len);
            len += line_len;
        }
        at += line_len;
    }
    *info = mr_bytes_of(spoilt, len);
}

static bool next_spoilt(struct mr_redis_connection *c, struct mr_redis_reply *ret) {
    if (!inner->next(c, ret)) {
        return false;
    }
    if (ret->type == MR_REDIS_TEXT && ret->text.len > 8 &&
        memcmp(ret->text.ptr, "# Server", 8) == 0 && spoilt_field != NULL) {
        spoil_info(&ret->text);
    }
    if (ret->type == MR_REDIS_LIST && ret->count == 2 && ret->items[0].text.len >= 6 &&
        (memcmp(ret->items[0].text.ptr, "append", 6) == 0 ||
         memcmp(ret->items[0].text.ptr, "maxmem", 6) == 0)) {
        configs++;
        ret->count = config_is_empty ? 0 : 2;
    }
    return true;
}

static struct world *open_spoilt(bool assume_strict) {
    static struct mr_redis_transport_ops ops;
    struct world *world =
        world_open(&(struct world_options){.seed = 5, .nodes = 1, .assume_strict = assume_strict});
    inner = virtual_redis_transport(world->v)->ops;
    ops = *inner;
    ops.next = next_spoilt;
    virtual_redis_transport(world->v)->ops = &ops;
    spoilt_field = NULL;
    config_is_empty = false;
    configs = 0;
    return world;
}

static struct mr_watch *watch_of(struct world *world) {
    return world->nodes[0].watch;
}

static bool passed(struct world *world) {
    struct mr_redis_node node;
    mr_redis_node(world->nodes[0].redis, 0, &node);
    return mr_watch_passed(watch_of(world), 0, node.session);
}

/* ---- 2: settings ---- */

static void config_set(struct world *world, const char *name, const char *value) {
    const char *const words[] = {"CONFIG", "SET", name, value};
    world_command(world, 0, words, 4);
}

static void settings_are_noticed(void **state) {
    (void)state;
    static const struct {
        const char *name;
        const char *wrong;
        const char *right;
        const char *text;
    } rows[] = {
        {"maxmemory-policy", "allkeys-lru", "noeviction",
         "10.0.0.1:6379: maxmemory-policy is allkeys-lru: set noeviction"},
        {"maxmemory-policy", "volatile-ttl", "noeviction", "maxmemory-policy is volatile-ttl"},
        {"appendonly", "no", "yes", "10.0.0.1:6379: appendonly is no: set yes"},
        {"appendfsync", "everysec", "always", "10.0.0.1:6379: appendfsync is everysec: set always"},
        {"appendfsync", "no", "always", "appendfsync is no: set always"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct world *world = world_open(&(struct world_options){.seed = i, .nodes = 1});
        config_set(world, rows[i].name, rows[i].wrong);
        world_start(world, 0);
        world_run(world, 1000);
        world_expect(world, 0, MR_WATCH_NOT_STRICT, rows[i].text);
        assert_false(passed(world));
        uint64_t keys = virtual_redis_keys(world->v, 0);
        assert_int_equal(keys, 0); /* nothing is made there */
        config_set(world, rows[i].name, rows[i].right);
        world_until(world, 0, MR_WATCH_STRICT);
        assert_true(passed(world));
        world_run(world, 777);
        config_set(world, rows[i].name, rows[i].wrong);
        world_run(world, NOTICED_MS);
        world_expect(world, 0, MR_WATCH_NOT_STRICT, rows[i].text);
        assert_false(passed(world));
        config_set(world, rows[i].name, rows[i].right);
        world_run(world, NOTICED_MS);
        world_expect(world, 0, MR_WATCH_STRICT, "");
        struct mr_watch_stats stats;
        mr_watch_stats(watch_of(world), &stats);
        assert_int_equal(stats.not_strict, 2);
        assert_int_equal(stats.lost, 0);
        world_close(world);
    }
}

static void fields_of_info_are_noticed(void **state) {
    (void)state;
    static const struct {
        const char *field;
        const char *value;
        enum mr_watch_state state;
        const char *text;
    } rows[] = {
        {"redis_version", NULL, MR_WATCH_NOT_STRICT, "INFO has no redis_version"},
        {"redis_version", "6.2.14", MR_WATCH_NOT_STRICT, "version 6.2.14: 7.0 or newer"},
        {"redis_version", "x", MR_WATCH_NOT_STRICT, "version x: 7.0 or newer"},
        {"redis_version", "10.1", MR_WATCH_STRICT, ""},
        {"loading", NULL, MR_WATCH_NOT_STRICT, "INFO has no loading"},
        {"loading", "1", MR_WATCH_AWAY, "10.0.0.1:6379: is loading its data"},
        {"role", NULL, MR_WATCH_NOT_STRICT, "INFO has no role"},
        {"role", "slave", MR_WATCH_NOT_STRICT, "role is slave: give the address of the master"},
        {"run_id", NULL, MR_WATCH_NOT_STRICT, "INFO has no run_id"},
        {"run_id", "", MR_WATCH_NOT_STRICT, "INFO has no run_id"},
        {"master_replid", NULL, MR_WATCH_NOT_STRICT, "INFO has no master_replid"},
        {"evicted_keys", NULL, MR_WATCH_NOT_STRICT, "INFO has no evicted_keys"},
        {"evicted_keys", "many", MR_WATCH_NOT_STRICT, "evicted_keys is many, which is no number"},
    };
    for (int assume = 0; assume < 2; assume++) {
        for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
            struct world *world = open_spoilt(assume != 0);
            spoilt_field = rows[i].field;
            spoilt_value = rows[i].value;
            world_start(world, 0);
            world_run(world, 6000);
            world_expect(world, 0, rows[i].state, rows[i].text);
            spoilt_field = NULL;
            world_until(world, 0, MR_WATCH_STRICT);
            world_run(world, 1234);
            spoilt_field = rows[i].field;
            world_run(world, NOTICED_MS);
            world_expect(world, 0, rows[i].state, rows[i].text);
            assert_int_equal(passed(world), rows[i].state == MR_WATCH_STRICT);
            world_close(world);
        }
    }
}

/* Of the same process: it has copied another master, and is one again. And counters that were set back. */
static void identities_and_counters(void **state) {
    (void)state;
    static const struct {
        const char *field;
        const char *before;
        const char *after;
        uint64_t lost;
        uint64_t suspected;
    } rows[] = {
        {"run_id", "a", "b", 0, 1},       {"master_replid", "a", "b", 0, 1},
        {"evicted_keys", "5", "5", 0, 0}, {"evicted_keys", "5", "6", 1, 0},
        {"evicted_keys", "5", "0", 0, 0}, {"evicted_keys", "0", "1", 1, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct world *world = open_spoilt(i % 2 == 0);
        spoilt_field = rows[i].field;
        spoilt_value = rows[i].before;
        world_start(world, 0);
        world_until(world, 0, MR_WATCH_STRICT);
        world_run(world, 5000);
        spoilt_value = rows[i].after;
        world_run(world, NOTICED_MS);
        world_until(world, 0, MR_WATCH_STRICT);
        struct mr_watch_stats stats;
        mr_watch_stats(watch_of(world), &stats);
        assert_int_equal(stats.lost, rows[i].lost);
        assert_int_equal(stats.suspected, rows[i].suspected);
        world_close(world);
    }
}

/* ---- 3: assume_strict ---- */

static void assume_strict_asks_no_config(void **state) {
    (void)state;
    struct world *world = open_spoilt(false);
    world_start(world, 0);
    world_until(world, 0, MR_WATCH_STRICT);
    assert_true(configs >= 3);
    config_is_empty = true;
    world_run(world, NOTICED_MS);
    world_expect(world, 0, MR_WATCH_NOT_STRICT,
                 "says nothing: set assume_strict if whoever runs this Redis guarantees");
    world_close(world);

    world = open_spoilt(true);
    config_set(world, "maxmemory-policy", "allkeys-lru");
    config_set(world, "appendfsync", "no");
    configs = 0;
    world_start(world, 0);
    world_until(world, 0, MR_WATCH_STRICT);
    world_run(world, 5000);
    assert_int_equal(configs, 0);
    mr_watch_say_policy(watch_of(world), 0, MR_BYTES("allkeys-lru"));
    world_expect(world, 0, MR_WATCH_STRICT, "");
    virtual_redis_flush(world->v, 0); /* canaries stay */
    world_run(world, NOTICED_MS);
    world_until(world, 0, MR_WATCH_STRICT);
    struct mr_watch_stats stats;
    mr_watch_stats(watch_of(world), &stats);
    assert_int_equal(stats.lost, 1);
    world_close(world);
}

static void a_refusal_is_told(void **state) {
    (void)state;
    struct world *world = world_open(&(struct world_options){.seed = 9, .nodes = 1});
    virtual_redis_answer(world->v, 0, "NOPERM this user has no permissions", 2);
    world_start(world, 0);
    world_run(world, 1000);
    world_expect(world, 0, MR_WATCH_NOT_STRICT,
                 "INFO is refused (NOPERM this user has no permissions): allow it");
    world_until(world, 0, MR_WATCH_STRICT);
    world_crash(world, 0);
    world_close(world);
}

/* ---- 4: at once, and not for ever ---- */

static void what_a_guard_saw_stops_at_once(void **state) {
    (void)state;
    struct world *world = world_open(&(struct world_options){.seed = 10, .nodes = 1});
    world_start(world, 0);
    world_until(world, 0, MR_WATCH_STRICT);
    mr_watch_say_policy(watch_of(world), 0, MR_BYTES("noeviction"));
    world_expect(world, 0, MR_WATCH_STRICT, "");
    mr_watch_say_policy(watch_of(world), 0, MR_BYTES("allkeys-lfu"));
    world_expect(world, 0, MR_WATCH_NOT_STRICT,
                 "10.0.0.1:6379: maxmemory-policy is allkeys-lfu: set noeviction");
    assert_false(passed(world));
    world_run(world, NOTICED_MS); /* it is noeviction in fact */
    world_expect(world, 0, MR_WATCH_STRICT, "");
    world_close(world);
}

static void a_session_is_checked_first(void **state) {
    (void)state;
    struct world *world = world_open(&(struct world_options){.seed = 11, .nodes = 1});
    world_start(world, 0);
    world_until(world, 0, MR_WATCH_STRICT);
    struct mr_redis_node node;
    mr_redis_node(world->nodes[0].redis, 0, &node);
    uint64_t session = node.session;
    assert_true(mr_watch_passed(watch_of(world), 0, session));
    assert_false(mr_watch_passed(watch_of(world), 0, session + 1));
    assert_false(mr_watch_passed(watch_of(world), 0, 0));
    assert_false(mr_watch_passed(watch_of(world), 99, session));
    virtual_redis_set_delay(world->v, 0, 100000000, 100000000);
    virtual_redis_cut_all(world->v, 0);
    uint32_t steps_between = 0;
    for (int i = 0; i < 10000 && (node.session == session || !passed(world)); i++) {
        (void)world_step_node(world, 0);
        mr_redis_node(world->nodes[0].redis, 0, &node);
        if (node.session != 0 && node.session != session && !passed(world)) {
            steps_between++;
            assert_int_not_equal(mr_watch_state(watch_of(world)), MR_WATCH_STRICT);
        }
        world->time.ns += 1000000;
    }
    assert_true(steps_between > 100); /* a way there and back */
    assert_true(passed(world));
    assert_false(mr_watch_passed(watch_of(world), 0, session));
    world_close(world);
}

static void who_does_not_answer_is_not_believed(void **state) {
    (void)state;
    struct world *world = world_open(&(struct world_options){.seed = 12, .nodes = 1});
    world_start(world, 0);
    world_until(world, 0, MR_WATCH_STRICT);
    world_run(world, 1111);
    virtual_redis_hang(world->v, 0, true);
    world_run(world, NOTICED_MS);
    world_expect(world, 0, MR_WATCH_AWAY, "10.0.0.1:6379: not connected");
    virtual_redis_hang(world->v, 0, false);
    world_until(world, 0, MR_WATCH_STRICT);
    /* Nobody steps the client: what it knows grows old. */
    world->time.ns += UINT64_C(7000000000);
    (void)mr_watch_step(watch_of(world));
    assert_int_not_equal(mr_watch_state(watch_of(world)), MR_WATCH_STRICT);
    world_until(world, 0, MR_WATCH_STRICT);
    world_close(world);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(info_is_read_exactly),
        cmocka_unit_test(settings_are_noticed),
        cmocka_unit_test(fields_of_info_are_noticed),
        cmocka_unit_test(identities_and_counters),
        cmocka_unit_test(assume_strict_asks_no_config),
        cmocka_unit_test(a_refusal_is_told),
        cmocka_unit_test(what_a_guard_saw_stops_at_once),
        cmocka_unit_test(a_session_is_checked_first),
        cmocka_unit_test(who_does_not_answer_is_not_believed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
