/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that Redis ends up with the newest row of each group, whatever happens on the way:
 *   1. random rows and retractions, with epochs and revisions about 2^53, to one server and to a cluster, while
 *      connections break before and after the script ran, servers hang, fail over, forget scripts and move slots:
 *      afterwards no two groups have one key, and every hash is, field by field, what a model says that knows only the
 *      greatest (epoch, revision, final or retracted);
 *   2. the same against a real redis-server, without faults: the script in Lua is the one in C;
 *   3. errors by hand: OOM, NOSCRIPT, a lost reply, a key of somebody else, a later epoch, a server that is not there;
 *   4. a retraction leaves a tombstone that goes after a while, and keeps what is older away until then;
 *   5. every allocation failing in turn.
 */
#include "base/alloc.h"
#include "sink/redis_sink.h"
#include "tests/redis/redis_server.h"
#include "tests/redis/virtual_redis.h"
#include "tests/redis/virtual_time.h"
#include "tests/sink/redis_fields.h"
#include "tests/sink/results_rig.h"
#include "tests/sink/sink_script.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { SEEDS = 12, ROUNDS = 30, PANES_MAX = 40, ROWS_MAX = 16, MODEL_MAX = 4096, SERVERS = 4, MASTERS = 3 };

static const struct mr_bytes prefix = {(const uint8_t *)"t{1}:", 5};

/* Those of the rig; the configuration lets no column be called `events`. */
static struct mr_results_rule rules[RIG_RULES];
static struct mr_bytes plain_keys[2];

struct world {
    struct virtual_time time;
    struct mr_clock *clock;
    struct virtual_redis *v;
    struct redis_server *server;
    struct mr_redis_transport *transport;
    struct mr_redis_transport *looking;
    struct mr_redis *looker;
    struct mr_redis_sink *sink;
    bool cluster;
};

static struct mr_redis_options client(const struct world *w, struct mr_redis_transport *transport,
                                      const struct mr_bytes *addresses, uint32_t count) {
    return (struct mr_redis_options){
        .transport = transport,
        .clock = w->clock,
        .addresses = addresses,
        .address_count = count,
        .cluster = w->cluster,
        .name = MR_BYTES("sink"),
        .timeout_ns = 200000000,
        .retry_min_ns = 10000000,
        .retry_max_ns = 1000000000,
        .bytes_max = 1 << 20,
        .seed = 7,
    };
}

static void open_clients(struct world *w, int64_t ttl_ms, bool no_prefix_tag) {
    struct mr_bytes addresses[SERVERS];
    uint32_t count = w->cluster ? SERVERS : 1;
    for (uint32_t i = 0; i < count; i++) {
        addresses[i] = mr_bytes_text(w->v != NULL ? virtual_redis_address(w->v, i) : w->server->address);
    }
    struct mr_redis_options looking = client(w, w->looking, addresses, count);
    assert_int_equal(mr_redis_open(&looking, &w->looker, NULL), MR_OK);
    struct mr_redis_sink_options options = {
        .redis = client(w, w->transport, addresses, count),
        .prefix = no_prefix_tag ? MR_BYTES("t:") : prefix,
        .ttl_ms = ttl_ms,
        .rows_max = ROWS_MAX,
        .bytes_max = 1 << 20,
    };
    assert_int_equal(mr_redis_sink_open(&options, &w->sink, NULL), MR_OK);
}

static void open_virtual(struct world *w, uint64_t seed, bool cluster, int64_t ttl_ms) {
    *w = (struct world){.cluster = cluster};
    virtual_time_init(&w->time);
    w->clock = &w->time.clock;
    w->v = virtual_redis_open(&(struct virtual_redis_options){.seed = seed,
                                                              .clock = w->clock,
                                                              .pass = virtual_time_pass,
                                                              .pass_ctx = &w->time,
                                                              .servers = cluster ? SERVERS : 1,
                                                              .masters = cluster ? MASTERS : 0});
    sink_script_register(w->v);
    w->transport = w->looking = virtual_redis_transport(w->v);
    open_clients(w, ttl_ms, cluster);
}

static void open_real(struct world *w) {
    *w = (struct world){.clock = mr_clock_system(), .server = redis_server_start(NULL)};
    assert_int_equal(mr_hiredis_open(&(struct mr_redis_tls){0}, &w->transport, NULL), MR_OK);
    assert_int_equal(mr_hiredis_open(&(struct mr_redis_tls){0}, &w->looking, NULL), MR_OK);
    open_clients(w, 60000, false);
}

static void close_world(struct world *w) {
    mr_redis_sink_close(w->sink);
    mr_redis_close(w->looker);
    if (w->server != NULL) {
        mr_redis_transport_finish(w->transport);
        mr_redis_transport_finish(w->looking);
        redis_server_stop(w->server);
    }
    virtual_redis_close(w->v);
}

static void step(struct world *w) {
    if (!mr_redis_sink_step(w->sink)) {
        mr_redis_sink_wait(w->sink, 20000000);
    }
    mr_redis_sink_check(w->sink);
}

/* For so long at most, in steps of 20 ms and less. */
static bool run_until_empty(struct world *w, uint64_t ns) {
    uint64_t until_ns = mr_clock_mono_ns(w->clock) + ns;
    while (!mr_redis_sink_is_empty(w->sink) && mr_clock_mono_ns(w->clock) < until_ns) {
        step(w);
    }
    return mr_redis_sink_is_empty(w->sink);
}

static struct mr_redis_sink_stats stats_of(const struct world *w) {
    struct mr_redis_sink_stats stats;
    mr_redis_sink_stats(w->sink, &stats);
    return stats;
}

/* One command of the looker, whose answer lives until the next one. */
static struct mr_redis_reply ask(struct world *w, const struct mr_bytes *argv, uint32_t argc) {
    for (int tries = 0; tries < 10000; tries++) {
        struct mr_redis_answer answer;
        uint32_t node = mr_redis_node_of(w->looker, mr_redis_slot(argc > 1 ? argv[1] : MR_BYTES("")));
        struct mr_redis_command command = {.argv = argv, .argc = argc};
        bool sent = node != MR_REDIS_NO_NODE && mr_redis_send(w->looker, node, &command) == MR_OK;
        bool answered = false;
        for (int i = 0; i < 100 && !answered; i++) {
            if (!mr_redis_step(w->looker)) {
                mr_redis_wait(w->looker, 10000000);
            }
            answered = mr_redis_next(w->looker, &answer);
        }
        if (sent && answered && answer.outcome == MR_REDIS_ANSWERED) {
            return answer.reply;
        }
        assert_true(sent || !answered);
    }
    fail_msg("no answer");
    return (struct mr_redis_reply){0};
}

/* ---- the model ---- */

struct entry {
    struct rig_pane pane;
    uint64_t epoch;
};

struct model {
    uint32_t count;
    struct entry entries[MODEL_MAX];
};

static void assert_hash(struct world *w, const struct entry *e) {
    struct mr_buf key;
    struct redis_fields f;
    mr_buf_init(&key, 1 << 16);
    assert_true(mr_redis_sink_key(&key, w->cluster ? MR_BYTES("t:") : prefix, &rules[e->pane.pane.rule],
                                  &e->pane.pane));
    redis_fields_expect(&f, &rules[e->pane.pane.rule], &e->pane.pane, e->epoch);
    const struct mr_bytes argv[] = {MR_BYTES("HGETALL"), mr_buf_bytes(&key)};
    struct mr_redis_reply reply = ask(w, argv, 2);
    assert_int_equal(reply.count, 2 * f.count);
    for (uint32_t i = 0; i < f.count; i++) {
        bool found = false;
        for (uint32_t j = 0; j < reply.count; j += 2) {
            if (mr_bytes_equal(reply.items[j].text, mr_bytes_text(f.names[i]))) {
                struct mr_bytes want = mr_buf_bytes(&f.values[i]);
                assert_int_equal(reply.items[j + 1].text.len, want.len);
                assert_true(want.len == 0 || memcmp(reply.items[j + 1].text.ptr, want.ptr, want.len) == 0);
                found = true;
            }
        }
        if (!found) {
            print_error("%.*s has no field %s\n", (int)key.len, (char *)key.ptr, f.names[i]);
        }
        assert_true(found);
        mr_buf_finish(&f.values[i]);
    }
    mr_buf_finish(&key);
}

/* Takes the pane over, or lets it go. */
static void keep(struct model *m, struct rig_pane *pane, uint64_t epoch) {
    const struct mr_pane *b = &pane->pane;
    for (uint32_t i = 0; i < m->count; i++) {
        const struct mr_pane *a = &m->entries[i].pane.pane;
        if (a->rule != b->rule || a->window_start_ms != b->window_start_ms || !mr_bytes_equal(a->key, b->key)) {
            continue;
        }
        uint64_t before[] = {m->entries[i].epoch, a->revision, a->retraction ? 2 : a->final};
        uint64_t now[] = {epoch, b->revision, b->retraction ? 2 : b->final};
        int k = 0;
        while (k < 2 && before[k] == now[k]) {
            k++;
        }
        if (before[k] >= now[k]) {
            rig_pane_finish(pane);
            return;
        }
        rig_pane_finish(&m->entries[i].pane);
        m->entries[i].pane = *pane;
        m->entries[i].pane.pane.numbers = m->entries[i].pane.numbers;
        m->entries[i].pane.pane.state = mr_bytes_of(m->entries[i].pane.state, pane->pane.state.len);
        m->entries[i].epoch = epoch;
        return;
    }
    assert_true(m->count < MODEL_MAX);
    struct entry *e = &m->entries[m->count++];
    e->pane = *pane;
    e->pane.pane.numbers = e->pane.numbers;
    e->pane.pane.state = mr_bytes_of(e->pane.state, pane->pane.state.len);
    e->epoch = epoch;
}

static void put(struct world *w, struct model *m, uint64_t *random) {
    static const uint64_t edges[] = {1, 9, 99, (UINT64_C(1) << 53) - 1, UINT64_C(1) << 53, INT64_MAX - 3};
    struct rig_pane pane;
    uint64_t epoch = edges[rig_below(random, 6)] + rig_below(random, 3);
    uint64_t revision = edges[rig_below(random, 6)] + rig_below(random, 3);
    rig_pane_random(&pane, random, revision);
    pane.pane.final = rig_below(random, 2) == 0;
    pane.pane.retraction = rig_below(random, 4) == 0;
    enum mr_status status;
    int steps = 0;
    while ((status = mr_redis_sink_put(w->sink, &rules[pane.pane.rule], epoch, &pane.pane)) == MR_FULL) {
        step(w);
        if (w->v != NULL && ++steps % 200 == 0) {
            virtual_redis_heal(w->v); /* or a full sink waits for ever */
        }
    }
    assert_int_equal(status, MR_OK);
    keep(m, &pane, epoch);
}

static void assert_model(struct world *w, struct model *m) {
    for (uint32_t i = 0; i < m->count; i++) {
        assert_hash(w, &m->entries[i]);
        rig_pane_finish(&m->entries[i].pane);
    }
    const struct mr_bytes argv[] = {MR_BYTES("DBSIZE")};
    if (!w->cluster) {
        assert_int_equal(ask(w, argv, 1).integer, m->count); /* no two groups have one key */
    }
}

/* The slot of a row that is there begins to move, with what is in it: until it has, ASK is the answer. */
static void move_slot(struct world *w, const struct model *m, uint64_t *random) {
    struct mr_buf key;
    mr_buf_init(&key, 1 << 16);
    const struct mr_pane *pane = &m->entries[rig_below(random, m->count)].pane.pane;
    assert_true(mr_redis_sink_key(&key, MR_BYTES("t:"), &rules[pane->rule], pane));
    uint32_t slot = mr_redis_slot(mr_buf_bytes(&key));
    uint32_t to = (virtual_redis_master_of(w->v, slot) + 1) % MASTERS;
    virtual_redis_heal(w->v);
    virtual_redis_migrate_begin(w->v, slot, to);
    (void)virtual_redis_migrate_keys(w->v, slot, 10);
    for (uint64_t revision = 1; revision < 4; revision++) { /* an old row of it */
        struct mr_pane old = *pane;
        old.revision = revision;
        assert_int_equal(mr_redis_sink_put(w->sink, &rules[pane->rule], 1, &old), MR_OK);
        assert_true(run_until_empty(w, UINT64_C(20000000000)));
        if (revision == 2) {
            virtual_redis_migrate_end(w->v, slot);
        }
    }
    mr_buf_finish(&key);
}

static void run_random(struct world *w, uint64_t seed, bool faults) {
    static struct model model;
    uint64_t random = seed;
    model.count = 0;
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t panes = rig_below(&random, PANES_MAX);
        for (uint64_t i = 0; i < panes; i++) {
            if (faults && rig_below(&random, 20) == 0) {
                virtual_redis_fault(w->v, true);
            }
            if (faults && rig_below(&random, 40) == 0) {
                virtual_redis_heal(w->v);
            }
            if (faults && rig_below(&random, 60) == 0) {
                virtual_redis_answer(w->v, 0, "OOM command not allowed when used memory > 'maxmemory'.", 3);
            }
            put(w, &model, &random);
        }
        if (faults && w->cluster && model.count > 0 && rig_below(&random, 10) == 0) {
            virtual_redis_heal(w->v);
            assert_true(run_until_empty(w, UINT64_C(60000000000)));
            move_slot(w, &model, &random);
        }
        for (uint64_t steps = rig_below(&random, 30); steps > 0; steps--) {
            step(w);
        }
    }
    if (faults) {
        virtual_redis_heal(w->v);
    }
    assert_true(run_until_empty(w, UINT64_C(60000000000)));
    assert_false(stats_of(w).failing);
    assert_int_equal(stats_of(w).wrong_keys, 0);
    assert_model(w, &model);
}

static void random_rows_through_faults(void **state_) {
    (void)state_;
    uint64_t probes[VIRTUAL_REDIS_PROBE_COUNT] = {0};
    uint64_t there_already = 0;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct world w;
        open_virtual(&w, seed, seed % 2 == 0, INT64_MAX);
        run_random(&w, seed, true);
        there_already += stats_of(&w).there_already;
        for (int i = 0; i < VIRTUAL_REDIS_PROBE_COUNT; i++) {
            probes[i] += virtual_redis_probe(w.v, (enum virtual_redis_probe)i);
        }
        close_world(&w);
    }
    assert_true(there_already > 0);
    assert_true(probes[VIRTUAL_REDIS_PROBE_CUT_AFTER] > 0 && probes[VIRTUAL_REDIS_PROBE_CUT_BEFORE] > 0);
    assert_true(probes[VIRTUAL_REDIS_PROBE_MOVED] > 0 && probes[VIRTUAL_REDIS_PROBE_ASK] > 0);
    assert_true(probes[VIRTUAL_REDIS_PROBE_NOSCRIPT] > 0 && probes[VIRTUAL_REDIS_PROBE_FAILED] > 0);
    assert_int_equal(probes[VIRTUAL_REDIS_PROBE_DATA_LOST] + probes[VIRTUAL_REDIS_PROBE_WRITE_LOST], 0);
}

static void random_rows_to_a_real_server(void **state_) {
    (void)state_;
    if (!redis_server_is_installed()) {
        print_message("skipped: no redis-server\n");
        return;
    }
    struct world w;
    open_real(&w);
    run_random(&w, 4711, false);
    close_world(&w);
}

/* ---- by hand ---- */

static void put_simple(struct world *w, uint64_t k, uint64_t epoch, uint64_t revision) {
    struct rig_pane pane;
    rig_pane_simple(&pane, 0, k, revision, 5);
    assert_int_equal(mr_redis_sink_put(w->sink, &rules[0], epoch, &pane.pane), MR_OK);
    rig_pane_finish(&pane);
}

static struct mr_buf key_of(const struct world *w, uint64_t k) {
    struct mr_buf key;
    struct rig_pane pane;
    mr_buf_init(&key, 1 << 16);
    rig_pane_simple(&pane, 0, k, 1, 5);
    assert_true(mr_redis_sink_key(&key, w->cluster ? MR_BYTES("t:") : prefix, &rules[0], &pane.pane));
    rig_pane_finish(&pane);
    return key;
}

static void errors_are_counted_and_tried_again(void **state_) {
    (void)state_;
    struct world w;
    open_virtual(&w, 1, false, INT64_MAX);
    put_simple(&w, 1, 1, 1);
    assert_true(run_until_empty(&w, 1000000000));
    assert_int_equal(stats_of(&w).applied, 1);
    virtual_redis_answer(w.v, 0, "OOM command not allowed when used memory > 'maxmemory'.", 3);
    put_simple(&w, 2, 1, 1);
    while (stats_of(&w).errors < 3) {
        step(&w);
        assert_true(stats_of(&w).errors == 0 || stats_of(&w).failing);
    }
    assert_non_null(strstr(stats_of(&w).reason, "OOM command not allowed"));
    assert_true(run_until_empty(&w, 1000000000));
    assert_false(stats_of(&w).failing);
    assert_int_equal(stats_of(&w).applied, 2);
    assert_int_equal(stats_of(&w).errors, 3);
    const struct mr_bytes flush[] = {MR_BYTES("SCRIPT"), MR_BYTES("FLUSH")};
    (void)ask(&w, flush, 2);
    put_simple(&w, 3, 1, 1);
    assert_true(run_until_empty(&w, 1000000000));
    assert_int_equal(stats_of(&w).applied, 3);
    assert_int_equal(stats_of(&w).errors, 3); /* to have no script is none */
    virtual_redis_cut_after(w.v, 0, 1);
    put_simple(&w, 4, 1, 1);
    assert_true(run_until_empty(&w, 1000000000));
    assert_int_equal(stats_of(&w).applied, 3);
    assert_int_equal(stats_of(&w).there_already, 1); /* nobody had said so */
    assert_int_equal(stats_of(&w).reconnects, 1);
    close_world(&w);
}

static void keys_of_others_are_left_alone(void **state_) {
    (void)state_;
    struct world w;
    open_virtual(&w, 1, false, INT64_MAX);
    struct mr_buf text = key_of(&w, 1);
    struct mr_buf hash = key_of(&w, 2);
    const struct mr_bytes set[] = {MR_BYTES("SET"), mr_buf_bytes(&text), MR_BYTES("theirs")};
    const struct mr_bytes hset[] = {MR_BYTES("HSET"), mr_buf_bytes(&hash), MR_BYTES("its"), MR_BYTES("own")};
    (void)ask(&w, set, 3);
    (void)ask(&w, hset, 4);
    for (uint64_t k = 0; k < 4; k++) {
        put_simple(&w, k, 1, 1);
    }
    assert_true(run_until_empty(&w, 1000000000));
    assert_int_equal(stats_of(&w).applied, 2);
    assert_int_equal(stats_of(&w).wrong_keys, 2);
    assert_int_equal(stats_of(&w).errors, 2);
    assert_non_null(strstr(stats_of(&w).key, "t{1}:ad_views:"));
    struct mr_bytes value;
    assert_true(virtual_redis_peek(w.v, 0, mr_buf_bytes(&text), &value));
    assert_true(mr_bytes_equal(value, MR_BYTES("theirs")));
    assert_false(virtual_redis_peek_field(w.v, 0, mr_buf_bytes(&hash), MR_BYTES("events"), &value));
    mr_buf_finish(&text);
    mr_buf_finish(&hash);
    close_world(&w);
}

static void a_later_epoch_wins_and_is_told(void **state_) {
    (void)state_;
    struct world w;
    open_virtual(&w, 1, false, 60000);
    put_simple(&w, 1, 20, 900);
    assert_true(run_until_empty(&w, 1000000000));
    put_simple(&w, 1, 19, 1000);
    assert_true(run_until_empty(&w, 1000000000));
    assert_int_equal(stats_of(&w).later_epoch, 1);
    put_simple(&w, 1, 21, 1);
    assert_true(run_until_empty(&w, 1000000000));
    struct mr_buf key = key_of(&w, 1);
    struct mr_bytes value;
    assert_true(virtual_redis_peek_field(w.v, 0, mr_buf_bytes(&key), MR_BYTES("revision"), &value));
    assert_true(mr_bytes_equal(value, MR_BYTES("1")));
    w.time.ns += UINT64_C(59000000000);
    assert_int_equal(virtual_redis_keys(w.v, 0), 1);
    const struct mr_bytes left[] = {MR_BYTES("PTTL"), mr_buf_bytes(&key)};
    int64_t ttl_ms = ask(&w, left, 2).integer;
    assert_true(ttl_ms > 0 && ttl_ms <= 1000);
    mr_buf_finish(&key);
    close_world(&w);
}

static void retract_simple(struct world *w, uint64_t k, uint64_t revision) {
    struct rig_pane pane;
    rig_pane_simple(&pane, 0, k, revision, 5);
    pane.pane.retraction = true;
    pane.pane.number_count = 0;
    assert_int_equal(mr_redis_sink_put(w->sink, &rules[0], 1, &pane.pane), MR_OK);
    rig_pane_finish(&pane);
    assert_true(run_until_empty(w, 1000000000));
}

static bool has_field(struct world *w, const struct mr_buf *key, const char *field) {
    struct mr_bytes value;
    return virtual_redis_peek_field(w->v, 0, mr_buf_bytes(key), mr_bytes_text(field), &value);
}

static void a_retraction_leaves_a_tombstone(void **state_) {
    (void)state_;
    static const int64_t ttls_ms[] = {60000, INT64_MAX};
    for (int i = 0; i < 2; i++) {
        struct world w;
        open_virtual(&w, 1, false, ttls_ms[i]);
        struct mr_buf key = key_of(&w, 1);
        const struct mr_bytes left[] = {MR_BYTES("PTTL"), mr_buf_bytes(&key)};
        put_simple(&w, 1, 1, 7);
        assert_true(run_until_empty(&w, 1000000000));
        retract_simple(&w, 1, 6); /* of what was before */
        assert_true(has_field(&w, &key, "views"));
        retract_simple(&w, 1, 7);
        assert_false(has_field(&w, &key, "views") || has_field(&w, &key, "final"));
        assert_true(has_field(&w, &key, "retracted") && has_field(&w, &key, "_epoch"));
        int64_t want_ms = i == 0 ? 60000 : INT64_C(24) * 60 * 60 * 1000;
        int64_t ttl_ms = ask(&w, left, 2).integer;
        assert_true(ttl_ms > want_ms - 2000 && ttl_ms <= want_ms);
        for (uint64_t revision = 6; revision <= 7; revision++) { /* they come late */
            put_simple(&w, 1, 1, revision);
            assert_true(run_until_empty(&w, 1000000000));
            assert_false(has_field(&w, &key, "views"));
        }
        put_simple(&w, 1, 1, 8);
        assert_true(run_until_empty(&w, 1000000000));
        assert_true(has_field(&w, &key, "views") && !has_field(&w, &key, "retracted"));
        assert_int_equal(ask(&w, left, 2).integer < 0, i == 1); /* again as long as the sink says */
        retract_simple(&w, 2, 3); /* of a row that is not there yet */
        put_simple(&w, 2, 1, 3);
        assert_true(run_until_empty(&w, 1000000000));
        assert_int_equal(stats_of(&w).there_already, 4);
        w.time.ns += (uint64_t)want_ms * 1000000;
        struct mr_buf other = key_of(&w, 2);
        assert_false(has_field(&w, &other, "revision"));
        assert_int_equal(has_field(&w, &key, "revision"), i == 1); /* a row of a sink without ttl */
        mr_buf_finish(&key);
        mr_buf_finish(&other);
        close_world(&w);
    }
}

static void a_server_that_is_away_is_told(void **state_) {
    (void)state_;
    struct world w;
    open_virtual(&w, 1, false, INT64_MAX);
    virtual_redis_down(w.v, 0);
    put_simple(&w, 1, 1, 1);
    put_simple(&w, 1, 1, 2); /* takes its place */
    put_simple(&w, 1, 1, 1);
    assert_int_equal(stats_of(&w).rows, 1);
    assert_false(run_until_empty(&w, UINT64_C(3000000000)));
    assert_true(stats_of(&w).failing);
    assert_true(strlen(stats_of(&w).reason) > 4);
    virtual_redis_up(w.v, 0, VIRTUAL_REDIS_KEPT);
    assert_true(run_until_empty(&w, UINT64_C(3000000000)));
    assert_false(stats_of(&w).failing);
    virtual_redis_hang(w.v, 0, true);
    put_simple(&w, 2, 1, 1);
    assert_false(run_until_empty(&w, UINT64_C(3000000000)));
    assert_true(stats_of(&w).failing);
    virtual_redis_hang(w.v, 0, false);
    assert_true(run_until_empty(&w, UINT64_C(3000000000)));
    assert_int_equal(stats_of(&w).applied + stats_of(&w).there_already, 2);
    close_world(&w);
}

static void allocations_fail(void **state_) {
    (void)state_;
    struct world w;
    struct rig_pane pane;
    open_virtual(&w, 1, false, INT64_MAX);
    struct mr_bytes address = mr_bytes_text(virtual_redis_address(w.v, 0));
    struct mr_redis_sink_options options = {
        .redis = client(&w, w.transport, &address, 1), .prefix = prefix, .ttl_ms = 1, .rows_max = 3, .bytes_max = 999};
    enum mr_status status = MR_NO_MEMORY;
    int failures = 0;
    for (size_t nth = 1; status == MR_NO_MEMORY; nth++, failures++) {
        struct mr_redis_sink *sink = NULL;
        mr_alloc_fail_at(nth, 1);
        status = mr_redis_sink_open(&options, &sink, NULL);
        mr_alloc_fail_at(0, 0);
        assert_true((status == MR_OK) == (sink != NULL));
        mr_redis_sink_close(sink);
    }
    assert_int_equal(status, MR_OK);
    assert_true(failures > 5);
    rig_pane_simple(&pane, 0, 1, 1, 5);
    status = MR_NO_MEMORY;
    for (size_t nth = 1; status == MR_NO_MEMORY; nth++) {
        mr_alloc_fail_at(nth, 0);
        status = mr_redis_sink_put(w.sink, &rules[0], 1, &pane.pane);
        mr_alloc_fail_at(0, 0);
        mr_redis_sink_check(w.sink);
        assert_true((status == MR_OK) != mr_redis_sink_is_empty(w.sink));
    }
    assert_int_equal(status, MR_OK);
    mr_alloc_fail_at(1, 1); /* connecting and sending wait for memory */
    for (int i = 0; i < 20; i++) {
        step(&w);
    }
    mr_alloc_fail_at(0, 0);
    assert_false(mr_redis_sink_is_empty(w.sink));
    assert_true(run_until_empty(&w, UINT64_C(5000000000)));
    rig_pane_finish(&pane);
    close_world(&w);
}

int main(void) {
    memcpy(rules, rig_rules, sizeof rules);
    plain_keys[0] = MR_BYTES("event");
    plain_keys[1] = rules[1].key_names[1];
    rules[1].key_names = plain_keys;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_are_counted_and_tried_again),
        cmocka_unit_test(keys_of_others_are_left_alone),
        cmocka_unit_test(a_later_epoch_wins_and_is_told),
        cmocka_unit_test(a_retraction_leaves_a_tombstone),
        cmocka_unit_test(a_server_that_is_away_is_told),
        cmocka_unit_test(allocations_fail),
        cmocka_unit_test(random_rows_through_faults),
        cmocka_unit_test(random_rows_to_a_real_server),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
