/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves of the client, over the virtual Redis, one thing at a time:
 *   1. options that make no sense are refused with a text;
 *   2. each error of Redis has its outcome;
 *   3. patience: a hang is UNKNOWN when the timeout is over, not before; a caller that was away is not punished;
 *   4. attempts come later and later, and not at the same moment from two clients;
 *   5. bytes_max; log-in; sessions;
 *   6. the map: nodes that come and go, and how often it is read;
 *   7. each allocation fails in turn: no answer is lost.
 */
#include "base/alloc.h"
#include "tests/net/rig.h"

#include <stdio.h>
#include <string.h>

#define MS UINT64_C(1000000)

static struct rig *open_up(const struct rig_options *options) {
    struct rig *rig = rig_open(options);
    rig_settle(rig);
    return rig;
}

static struct mr_redis_node node_of(const struct rig *rig, uint32_t node) {
    struct mr_redis_node about;
    mr_redis_node(rig->redis, node, &about);
    return about;
}

/* A key whose slot the server serves. */
static uint32_t key_of(const struct rig *rig, uint32_t server, uint32_t skip) {
    for (uint32_t key = 0;; key++) {
        if (virtual_redis_master_of(rig->v, rig_slot(key)) == server && skip-- == 0) {
            return key;
        }
    }
}

/* ---- opening ---- */

static void strange_options_are_refused(void **state) {
    (void)state;
    struct rig_options rig_options = {.servers = 3, .masters = 3};
    struct rig *rig = rig_open(&rig_options);
    for (int i = 0; i < 11; i++) {
        struct mr_redis_options o;
        struct mr_bytes addresses[RIG_NODES_MAX];
        struct mr_error error = {.text = ""};
        struct mr_redis *redis = NULL;
        rig_client_options(rig, &rig_options, &o, addresses);
        switch (i) {
        case 0: o.address_count = 0; break;
        case 1: o.cluster = false; break; /* of three addresses */
        case 2: addresses[1] = MR_BYTES("a:b"); break;
        case 3: o.user = MR_BYTES("mill"); break;
        case 4: o.name = MR_BYTES("mill race"); break;
        case 5: o.name = MR_BYTES("mill\n"); break;
        case 6: o.timeout_ns = 0; break;
        case 7: o.retry_min_ns = 0; break;
        case 8: o.retry_max_ns = o.retry_min_ns - 1; break;
        case 9: o.bytes_max = 0; break;
        default: break; /* as it is */
        }
        enum mr_status status = mr_redis_open(&o, &redis, &error);
        assert_int_equal(status, i < 10 ? MR_INVALID : MR_OK);
        assert_int_equal(error.text[0] != '\0', i < 10);
        mr_redis_close(redis);
    }
    rig_close(rig);
}

static void passwords(void **state) {
    (void)state;
    struct rig_options right = {.password = "secret", .user = "mill"};
    struct rig *rig = open_up(&right);
    struct mr_redis_options o;
    struct mr_bytes addresses[RIG_NODES_MAX];
    struct {
        const char *user;
        const char *password;
        const char *trouble;
    } rows[] = {{"mill", "wrong", "WRONGPASS"}, {"race", "secret", "WRONGPASS"}, {"", "", "NOAUTH"}};
    for (int i = 0; i < 3; i++) {
        struct mr_redis *redis;
        rig_client_options(rig, &(struct rig_options){.user = rows[i].user, .password = rows[i].password}, &o,
                           addresses);
        assert_int_equal(mr_redis_open(&o, &redis, NULL), MR_OK);
        for (int step = 0; step < 5; step++) {
            (void)mr_redis_step(redis);
        }
        struct mr_redis_node about;
        mr_redis_node(redis, 0, &about);
        assert_true(about.session == 0 && strstr(about.trouble, rows[i].trouble) != NULL);
        assert_false(mr_redis_is_up(redis));
        mr_redis_close(redis);
    }
    rig_close(rig);
}

/* ---- outcomes ---- */

static void each_error_has_its_outcome(void **state) {
    (void)state;
    static const struct {
        const char *text;
        enum mr_redis_outcome outcome;
    } rows[] = {
        {"TRYAGAIN Multiple keys", MR_REDIS_LATER},
        {"LOADING Redis is loading the dataset in memory", MR_REDIS_LATER},
        {"CLUSTERDOWN The cluster is down", MR_REDIS_LATER},
        {"CLUSTERDOWN", MR_REDIS_LATER},
        {"MASTERDOWN Link with MASTER is down", MR_REDIS_LATER},
        {"READONLY You can't write", MR_REDIS_LATER},
        {"BUSY Redis is busy running a script.", MR_REDIS_LATER},
        {"NOREPLICAS Not enough good replicas to write.", MR_REDIS_LATER},
        {"BUSYKEY Target key name already exists.", MR_REDIS_REFUSED},
        {"OOM command not allowed", MR_REDIS_REFUSED},
        {"MISCONF Redis is configured to save", MR_REDIS_REFUSED},
        {"NOPERM this user has no permissions", MR_REDIS_REFUSED},
        {"NOAUTH Authentication required.", MR_REDIS_REFUSED},
        {"NOSCRIPT No matching script.", MR_REDIS_REFUSED},
        {"WRONGTYPE Operation", MR_REDIS_REFUSED},
        {"ERR unknown", MR_REDIS_REFUSED},
        {"MOVED 99999 10.0.0.1:6379", MR_REDIS_REFUSED}, /* no such slot */
        {"ASK 1", MR_REDIS_REFUSED},
        {"MOVED 1 10.0.0.2:6379", MR_REDIS_MOVED},
        {"ASK 1 10.0.0.2:6379", MR_REDIS_ASKED},
    };
    for (int cluster = 0; cluster < 2; cluster++) {
        struct rig *rig = open_up(&(struct rig_options){.servers = 2, .masters = cluster ? 2 : 0});
        for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
            bool redirects = rows[i].outcome == MR_REDIS_MOVED || rows[i].outcome == MR_REDIS_ASKED;
            enum mr_redis_outcome meant = redirects && !cluster ? MR_REDIS_REFUSED : rows[i].outcome;
            uint32_t node = cluster ? mr_redis_node_of(rig->redis, 1) : 0; /* slot 1 is the first server's */
            virtual_redis_answer(rig->v, 0, rows[i].text, 1);
            uint32_t tag = rig->tags;
            if (!rig_send_to(rig, node, key_of(rig, 0, 0), false)) {
                fail();
            }
            rig_settle(rig);
            assert_int_equal(rig->commands[tag].outcome, meant);
        }
        rig_check_all(rig);
        rig_close(rig);
    }
}

/* ---- patience ---- */

static void a_hang_is_unknown_in_time(void **state) {
    (void)state;
    struct rig *rig = open_up(&(struct rig_options){0});
    uint64_t session = node_of(rig, 0).session;
    virtual_redis_hang(rig->v, 0, true);
    assert_true(rig_send(rig, 1) && rig_send(rig, 2));
    rig_run(rig, RIG_TIMEOUT_NS - 2 * MS);
    assert_int_equal(rig->outcomes[MR_REDIS_UNKNOWN], 0);
    assert_true(node_of(rig, 0).session == session && node_of(rig, 0).unanswered == 2);
    rig_run(rig, 4 * MS);
    assert_int_equal(rig->outcomes[MR_REDIS_UNKNOWN], 2);
    assert_true(node_of(rig, 0).session == 0 && node_of(rig, 0).unanswered == 0);
    assert_non_null(strstr(node_of(rig, 0).trouble, "no reply"));
    rig_run(rig, 10 * RIG_TIMEOUT_NS); /* log-ins hang too */
    assert_non_null(strstr(node_of(rig, 0).trouble, "not connected"));
    virtual_redis_hang(rig->v, 0, false);
    rig_settle(rig);
    assert_true(node_of(rig, 0).session > session);
    assert_true(rig_send(rig, 3));
    rig_settle(rig);
    assert_int_equal(rig->outcomes[MR_REDIS_ANSWERED], 1);
    rig_check_all(rig);
    rig_close(rig);
}

static void a_slow_server_is_not_cut_off_while_it_answers(void **state) {
    (void)state;
    struct rig *rig = open_up(&(struct rig_options){0});
    uint64_t session = node_of(rig, 0).session;
    virtual_redis_set_delay(rig->v, 0, 20 * MS, 20 * MS);
    for (uint32_t i = 0; i < 1000; i++) { /* it always owes something, for far longer than the timeout */
        assert_true(rig_send(rig, i % 7));
        rig_run(rig, i < 200 ? 0 : 6 * MS);
    }
    rig_settle(rig);
    assert_int_equal(rig->outcomes[MR_REDIS_ANSWERED], 1000);
    assert_true(node_of(rig, 0).session == session);
    rig_close(rig);
}

static void who_was_away_is_not_punished(void **state) {
    (void)state;
    struct rig *rig = open_up(&(struct rig_options){0});
    rig->time.ns += 100 * RIG_TIMEOUT_NS; /* before it sends */
    assert_true(rig_send(rig, 1));
    rig_settle(rig);
    assert_true(rig_send(rig, 1));
    rig->time.ns += 100 * RIG_TIMEOUT_NS; /* between send and step */
    virtual_redis_set_delay(rig->v, 0, 10 * MS, 10 * MS);
    rig_settle(rig);
    assert_true(rig_send(rig, 1));
    (void)rig_step(rig);
    rig->time.ns += 100 * RIG_TIMEOUT_NS; /* while the reply waits */
    rig_settle(rig);
    assert_true(rig_send(rig, 1));
    while (rig->outcomes[MR_REDIS_ANSWERED] < 4) {
        rig->time.ns += MS;
        (void)rig_step(rig);
    }
    rig->time.ns += 100 * RIG_TIMEOUT_NS; /* between an answer and a command, without a step */
    assert_true(rig_send(rig, 1));
    (void)rig_step(rig);
    (void)rig_step(rig);
    rig_settle(rig);
    assert_int_equal(rig->outcomes[MR_REDIS_ANSWERED], 5);
    rig_close(rig);
}

/* The times of the attempts on a server that is down, until max_ns. */
static uint32_t attempts(uint64_t seed, uint64_t *ret, uint32_t max, uint64_t max_ns) {
    struct rig *rig = rig_open(&(struct rig_options){.seed = seed});
    virtual_redis_down(rig->v, 0);
    uint64_t start_ns = rig->time.ns;
    uint64_t connects = 0;
    uint32_t count = 0;
    while (rig->time.ns < start_ns + max_ns && count < max) {
        struct mr_redis_stats stats;
        (void)rig_step(rig);
        mr_redis_stats(rig->redis, &stats);
        if (stats.connects > connects) {
            connects = stats.connects;
            ret[count++] = rig->time.ns - start_ns;
        }
        mr_redis_wait(rig->redis, MS);
    }
    rig_close(rig);
    return count;
}

static void attempts_come_later_and_later(void **state) {
    (void)state;
    enum { MAX = 30 };
    uint64_t a[MAX];
    uint64_t b[MAX];
    uint32_t count = attempts(1, a, MAX, UINT64_MAX / 2);
    assert_int_equal(count, MAX);
    assert_int_equal(a[0], 0);
    uint64_t delay_ns = RIG_RETRY_MIN_NS;
    for (uint32_t i = 1; i < count; i++) {
        uint64_t gap_ns = a[i] - a[i - 1];
        assert_true(gap_ns >= delay_ns / 2 && gap_ns <= delay_ns + 2 * MS);
        delay_ns = delay_ns * 2 > RIG_RETRY_MAX_NS ? RIG_RETRY_MAX_NS : delay_ns * 2;
    }
    assert_true(delay_ns == RIG_RETRY_MAX_NS);
    assert_int_equal(attempts(2, b, MAX, UINT64_MAX / 2), MAX);
    uint32_t same = 0;
    for (uint32_t i = 1; i < MAX; i++) {
        same += a[i] == b[i];
    }
    assert_true(same < MAX / 4);
}

/* ---- limits ---- */

static void bytes_have_a_bound(void **state) {
    (void)state;
    struct rig *rig = open_up(&(struct rig_options){.bytes_max = 1000});
    virtual_redis_hang(rig->v, 0, true);
    uint32_t taken = 0;
    while (rig_send(rig, 1)) {
        taken++;
    }
    struct mr_redis_node about = node_of(rig, 0);
    assert_true(taken > 5 && taken < 30);
    assert_true(about.unanswered == taken && about.unanswered_bytes <= 1000 && about.unanswered_bytes > 800);
    virtual_redis_hang(rig->v, 0, false);
    rig_settle(rig);
    static uint8_t large[5000];
    struct mr_bytes argv[] = {MR_BYTES("SET"), MR_BYTES("k"), {large, sizeof large}};
    struct mr_redis_command command = {.argv = argv, .argc = 3, .tag = 1};
    assert_int_equal(mr_redis_send(rig->redis, 0, &command), MR_OK); /* alone it may be larger, or it never went */
    assert_int_equal(mr_redis_send(rig->redis, 0, &command), MR_AGAIN);
    struct mr_redis_answer answer;
    while (!mr_redis_next(rig->redis, &answer)) {
        (void)mr_redis_step(rig->redis);
    }
    assert_true(answer.outcome == MR_REDIS_ANSWERED && node_of(rig, 0).unanswered_bytes == 0);
    rig_close(rig);
}

/* ---- the map ---- */

static uint32_t node_at(const struct rig *rig, uint32_t server) {
    for (uint32_t i = 0; i < mr_redis_nodes(rig->redis); i++) {
        if (strcmp(node_of(rig, i).address, virtual_redis_address(rig->v, server)) == 0) {
            return i;
        }
    }
    return MR_REDIS_NO_NODE;
}

static void nodes_come_and_go(void **state) {
    (void)state;
    struct rig *rig = open_up(&(struct rig_options){.seed = 5, .servers = 5, .masters = 3});
    uint32_t key = key_of(rig, 1, 0);
    uint32_t old = node_at(rig, 1);
    uint64_t old_session = node_of(rig, old).session;
    uint64_t version = mr_redis_map_version(rig->redis);
    assert_int_equal(node_at(rig, 3), MR_REDIS_NO_NODE);
    assert_true(rig_send(rig, key));
    rig_settle(rig);

    virtual_redis_take_over(rig->v, 1, 3, 0);
    assert_true(rig_send(rig, key)); /* MOVED, to a node not known before */
    while (rig->outcomes[MR_REDIS_MOVED] == 0) {
        (void)rig_step(rig);
    }
    uint32_t new = node_at(rig, 3); /* known at once; the map is not read yet */
    assert_int_equal(mr_redis_node_of(rig->redis, rig_slot(key)), new);
    assert_true(node_of(rig, new).slots == 1 && node_of(rig, old).slots > 1);
    assert_true(new != MR_REDIS_NO_NODE && mr_redis_map_version(rig->redis) > version);
    rig_run(rig, 100 * MS); /* the map is read, and the old one forgotten */
    assert_int_equal(node_at(rig, 1), MR_REDIS_NO_NODE);
    assert_int_equal(mr_redis_node_of(rig->redis, rig_slot(key)), new);
    assert_string_equal(node_of(rig, old).address, "");
    assert_int_equal(node_of(rig, old).slots, 0);
    assert_true(mr_redis_is_up(rig->redis));
    const struct mr_bytes argv[] = {MR_BYTES("PING")};
    struct mr_redis_command command = {.argv = argv, .argc = 1};
    assert_int_equal(mr_redis_send(rig->redis, old, &command), MR_AGAIN);
    assert_int_equal(mr_redis_send(rig->redis, MR_REDIS_NO_NODE, &command), MR_AGAIN);

    virtual_redis_take_over(rig->v, 2, 4, 0); /* the number is used again, with another session */
    virtual_redis_cut_all(rig->v, 2);
    rig_run(rig, 200 * MS);
    assert_int_equal(node_at(rig, 4), old);
    assert_true(node_of(rig, old).session > old_session);
    rig_check_all(rig);
    rig_close(rig);
}

static void what_a_node_that_left_owes_is_told(void **state) {
    (void)state;
    struct rig *rig = open_up(&(struct rig_options){.seed = 6, .servers = 4, .masters = 3});
    uint32_t key = key_of(rig, 2, 0);
    uint32_t other_key = key_of(rig, 1, 0);
    uint32_t old = node_at(rig, 2);
    virtual_redis_hang(rig->v, 2, true);
    assert_true(rig_send(rig, key) && rig_send(rig, key));
    (void)rig_step(rig);
    virtual_redis_take_over(rig->v, 2, 3, 0);
    virtual_redis_answer(rig->v, 1, "CLUSTERDOWN The cluster is down", 1);
    assert_true(rig_send(rig, other_key));
    rig_run(rig, 100 * MS);
    assert_int_equal(mr_redis_node_of(rig->redis, rig_slot(key)), node_at(rig, 3));
    assert_int_equal(node_of(rig, old).slots, 0);
    assert_int_equal(node_of(rig, old).unanswered, 2); /* it may still answer: until the timeout */
    rig_run(rig, RIG_TIMEOUT_NS);
    assert_int_equal(rig->outcomes[MR_REDIS_UNKNOWN], 2);
    rig_run(rig, 100 * MS);
    assert_int_equal(node_at(rig, 2), MR_REDIS_NO_NODE);
    rig_check_all(rig);
    rig_close(rig);
}

static uint64_t map_reads(const struct rig *rig) {
    struct mr_redis_stats stats;
    mr_redis_stats(rig->redis, &stats);
    return stats.map_reads;
}

static void a_moving_slot_asks(void **state) {
    (void)state;
    struct rig *rig = open_up(&(struct rig_options){.seed = 7, .servers = 4, .masters = 3});
    uint32_t key = key_of(rig, 2, 0);
    virtual_redis_migrate_begin(rig->v, rig_slot(key), 3);
    assert_true(rig_send(rig, key)); /* the key is not there: ASK, which the rig follows once it can */
    rig_settle(rig);
    rig_run(rig, 100 * MS);
    assert_int_equal(rig->outcomes[MR_REDIS_ASKED], 1);
    uint32_t asked = node_at(rig, 3);
    assert_true(asked != MR_REDIS_NO_NODE && node_of(rig, asked).slots == 0);
    uint64_t reads = map_reads(rig);
    virtual_redis_answer(rig->v, 0, "CLUSTERDOWN The cluster is down", 1);
    assert_true(rig_send(rig, key_of(rig, 0, 0)));
    rig_run(rig, 100 * MS);
    assert_true(map_reads(rig) > reads && node_at(rig, 3) == asked); /* the map does not name it, the ASK did */
    uint64_t answered = rig->outcomes[MR_REDIS_ANSWERED];
    for (int i = 0; i < 5; i++) { /* ASKING counts for one command only */
        assert_true(rig_send_to(rig, asked, key, true));
        assert_true(rig_send_to(rig, asked, key, false));
    }
    rig_settle(rig);
    /* LATER: the CLUSTERDOWN above, and TRYAGAIN to pairs of keys of which one is there. */
    assert_int_equal(rig->outcomes[MR_REDIS_ANSWERED] - answered + rig->outcomes[MR_REDIS_LATER] - 1, 5);
    assert_int_equal(rig->outcomes[MR_REDIS_MOVED], 5);
    rig_run(rig, 3 * 60 * 1000 * MS); /* nobody asks any more: it is forgotten, though the slot still moves */
    assert_int_equal(node_at(rig, 3), MR_REDIS_NO_NODE);
    virtual_redis_migrate_end(rig->v, rig_slot(key));
    assert_true(rig_send(rig, key));
    rig_settle(rig);
    rig_run(rig, 100 * MS);
    assert_int_equal(mr_redis_node_of(rig->redis, rig_slot(key)), node_at(rig, 3));
    rig_check_all(rig);
    rig_close(rig);
}

static void the_map_is_not_read_all_the_time(void **state) {
    (void)state;
    struct rig *rig = open_up(&(struct rig_options){.seed = 8, .servers = 3, .masters = 3});
    uint64_t before = map_reads(rig);
    rig_run(rig, 10 * 60 * 1000 * MS);
    assert_in_range(map_reads(rig) - before, 9, 10); /* every minute */
    before = map_reads(rig);
    uint32_t key = key_of(rig, 1, 0);
    for (int i = 0; i < 1000; i++) { /* errors in a storm */
        virtual_redis_answer(rig->v, 1, "CLUSTERDOWN The cluster is down", 1);
        assert_true(rig_send(rig, key));
        rig_run(rig, MS);
    }
    assert_in_range(map_reads(rig) - before, 50, 1000 * MS / RIG_RETRY_MIN_NS + 1);
    rig_close(rig);
}

static void one_address_is_enough_and_the_rest_is_found(void **state) {
    (void)state;
    struct rig_options options = {.seed = 9, .servers = 4, .masters = 3};
    struct rig *rig = rig_open(&options);
    struct mr_redis_options o;
    struct mr_bytes addresses[RIG_NODES_MAX];
    mr_redis_close(rig->redis);
    rig_client_options(rig, &options, &o, addresses);
    struct mr_bytes two[] = {MR_BYTES("nobody:6379"), addresses[2]}; /* the first cannot be found */
    o.addresses = two;
    o.address_count = 2;
    assert_int_equal(mr_redis_open(&o, &rig->redis, NULL), MR_OK);
    rig_settle(rig);
    assert_int_equal(mr_redis_nodes(rig->redis), 3);
    virtual_redis_take_over(rig->v, 2, 3, 0);
    virtual_redis_down(rig->v, 2); /* none of those configured is there any more */
    rig_run(rig, 5000 * MS);
    assert_true(mr_redis_is_up(rig->redis));
    assert_true(node_at(rig, 3) != MR_REDIS_NO_NODE);
    for (uint32_t i = 0; i < 4; i++) {
        if (virtual_redis_is_up(rig->v, i)) {
            virtual_redis_down(rig->v, i);
        }
    }
    rig_run(rig, 10000 * MS);
    assert_false(mr_redis_is_up(rig->redis));
    assert_string_not_equal(mr_redis_map_trouble(rig->redis), "");
    virtual_redis_heal(rig->v);
    rig_settle(rig);
    rig_run(rig, 61000 * MS);
    assert_string_equal(mr_redis_map_trouble(rig->redis), "");
    rig_close(rig);
}

/* ---- memory ---- */

static void each_allocation_fails(void **state) {
    (void)state;
    bool failed = true;
    for (size_t k = 1; failed; k++) {
        struct rig_options options = {.seed = k, .servers = 3, .masters = 3};
        struct rig *rig = rig_open(&options);
        struct mr_redis_options o;
        struct mr_bytes addresses[RIG_NODES_MAX];
        mr_redis_close(rig->redis);
        rig_client_options(rig, &options, &o, addresses);
        mr_alloc_fail_at(k, 0);
        struct mr_error error;
        enum mr_status status = mr_redis_open(&o, &rig->redis, &error);
        if (status != MR_OK) {
            assert_true(status == MR_NO_MEMORY && error.status == MR_NO_MEMORY);
            status = mr_redis_open(&o, &rig->redis, NULL);
        }
        assert_int_equal(status, MR_OK);
        rig_settle(rig);
        for (uint32_t i = 0; i < 300; i++) {
            (void)rig_send(rig, i % 20); /* what was not sent has no answer */
        }
        rig_settle(rig);
        failed = mr_alloc_failed();
        mr_alloc_fail_at(0, 0);
        assert_true(rig->tags >= 299 && rig->outcomes[MR_REDIS_ANSWERED] == rig->tags);
        rig_check_all(rig);
        rig_close(rig);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strange_options_are_refused),
        cmocka_unit_test(passwords),
        cmocka_unit_test(each_error_has_its_outcome),
        cmocka_unit_test(a_hang_is_unknown_in_time),
        cmocka_unit_test(a_slow_server_is_not_cut_off_while_it_answers),
        cmocka_unit_test(who_was_away_is_not_punished),
        cmocka_unit_test(attempts_come_later_and_later),
        cmocka_unit_test(bytes_have_a_bound),
        cmocka_unit_test(nodes_come_and_go),
        cmocka_unit_test(what_a_node_that_left_owes_is_told),
        cmocka_unit_test(a_moving_slot_asks),
        cmocka_unit_test(the_map_is_not_read_all_the_time),
        cmocka_unit_test(one_address_is_enough_and_the_rest_is_found),
        cmocka_unit_test(each_allocation_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
