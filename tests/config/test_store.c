/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that stores, the cluster and secrets mean what they say.
 *
 * 1. What is wrong is refused with the right words at the right place (refuse_store.h); counts at both sides of bounds.
 * 2. Secrets come from files as they are, and stand in nothing printed and in no message.
 * 3. The example of a cluster takes what differs from the environment.
 * 4. Sinks have what they say, a cluster or not, and are no part of the state.
 *
 * What is printed: test_config.c; the state: test_state.c; changes: test_change.c.
 */
#include "support.h"

#include "base/alloc.h"
#include "refuse_store.h"

REFUSES(stores)
REFUSES(shared)
REFUSES(sinks)

static void stores_are_what_they_say(void **state_) {
    (void)state_;
    struct mr_config *c = parse("node: { id: a }\n" CLUSTER(
        "name: c-1, secret: 16 bytes or more") "stores:\n"
                                               "  a: { type: redis, nodes: [h] }\n"
                                               "  b: { type: redis, nodes: [g, \"[::1]:1\"], "
                                               "cluster: true, timeout: 1s, recent: 2m,\n"
                                               "       assume_strict: true, user: u, password: p, "
                                               "tls: { ca_file: x, cert_file: y, key_file: z } "
                                               "}\n" CLAIMING(
                                                   ", store: b, layout: key, outage: local"));
    assert_text(c->cluster.name, "c-1");
    assert_text(c->cluster.secret, "16 bytes or more");
    assert_int_equal(c->cluster.secret_file.len, 0);
    assert_int_equal(c->store_count, 2);
    assert_int_equal(mr_config_store_index(c, MR_BYTES("b")), 1);
    assert_int_equal(mr_config_store_index(c, MR_BYTES("c")), UINT32_MAX);
    const struct mr_config_store *a = &c->stores[0];
    assert_text(a->name, "a");
    assert_int_equal(a->node_count, 1);
    assert_text(a->nodes[0], "h:6379");
    assert_int_equal(a->timeout_ms, 200);
    assert_int_equal(a->recent_ms, 60000);
    assert_false(a->cluster || a->assume_strict || a->tls);
    assert_int_equal(a->user.len + a->password.len + a->password_file.len + a->tls_ca_file.len, 0);
    const struct mr_config_store *b = &c->stores[1];
    assert_int_equal(b->node_count, 2);
    assert_text(b->nodes[1], "[::1]:1");
    assert_int_equal(b->timeout_ms, 1000);
    assert_int_equal(b->recent_ms, 120000);
    assert_true(b->cluster && b->assume_strict && b->tls);
    assert_text(b->user, "u");
    assert_text(b->password, "p");
    assert_text(b->tls_ca_file, "x");
    assert_text(b->tls_cert_file, "y");
    assert_text(b->tls_key_file, "z");
    struct mr_config_stream *s = &c->streams[0];
    assert_int_equal(s->dedup.mode, MR_CONFIG_REDIS);
    assert_int_equal(s->dedup.store, 1);
    assert_int_equal(s->dedup.layout, MR_CONFIG_KEY);
    assert_int_equal(s->dedup.outage, MR_CONFIG_OUTAGE_LOCAL);
    for (enum mr_config_dedup mode = MR_CONFIG_EXACT; mode <= MR_CONFIG_REDIS; mode++) {
        s->dedup.mode = mode;
        s->dedup.outage = MR_CONFIG_OUTAGE_LOCAL;
        assert_int_equal(mr_config_keeps_ids(s), mode != MR_CONFIG_NONE);
        s->dedup.outage = MR_CONFIG_OUTAGE_HOLD;
        assert_int_equal(mr_config_keeps_ids(s), mode != MR_CONFIG_NONE && mode != MR_CONFIG_REDIS);
    }
    mr_config_close(c);
}

static void sinks_are_what_they_say(void **state_) {
    (void)state_;
    struct mr_config *c = parse(
        RULES("sinks: [b, a]") "stores: { x: { type: redis, nodes: [h] }, y: { type: redis, nodes: [h] } }\n"
                               "sinks: { a: { type: redis, store: y }, b: { type: redis, store: x, "
                               "prefix: \"p{q}\", ttl: 90s },\n"
                               "  c: { type: redis, store: x, ttl: off } }\nnode: { id: n7 }\n");
    assert_int_equal(c->cluster.name.len, 0);
    assert_int_equal(c->sink_count, 3);
    assert_text(c->sinks[0].name, "a");
    assert_text(c->sinks[0].prefix, "millrace:n7:");
    assert_int_equal(c->sinks[0].store, 1);
    assert_int_equal(c->sinks[0].ttl_ms, INT64_C(604800000));
    assert_text(c->sinks[1].prefix, "p{q}");
    assert_int_equal(c->sinks[1].store, 0);
    assert_int_equal(c->sinks[1].ttl_ms, 90000);
    assert_int_equal(c->sinks[2].ttl_ms, INT64_MAX);
    assert_int_equal(c->rules[0].sink_count, 2);
    assert_int_equal(c->rules[0].sinks[0], 1);
    assert_int_equal(c->rules[0].sinks[1], 0);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(mr_config_rule_has_sink(&c->rules[0], i), i < 2);
    }
    mr_config_close(c);
}

static void sinks_are_no_state(void **state_) {
    (void)state_;
    static const char *const yamls[] = {RULES("sinks: l") NODES("[h]") SINKS("l: { " LIVE " }"),
                                        RULES("allowed_lateness: 5m")};
    struct mr_buf texts[2];
    for (int i = 0; i < 2; i++) {
        struct mr_config *c = parse(yamls[i]);
        mr_buf_init(&texts[i], PRINT_MAX);
        mr_config_print_state(c, &texts[i]);
        mr_config_close(c);
    }
    assert_true(mr_bytes_equal(mr_buf_bytes(&texts[0]), mr_buf_bytes(&texts[1])));
    mr_buf_finish(&texts[0]);
    mr_buf_finish(&texts[1]);
}

/* The one that needs the most from outside says what it takes, and comes up without it. */
static void the_cluster_example_takes_the_environment(void **state_) {
    (void)state_;
    struct mr_config *c = load_example("cluster.yaml");
    assert_text(c->node.id, "node-1");
    assert_int_equal(c->streams[0].dedup.mode, MR_CONFIG_REDIS);
    assert_text(c->stores[c->streams[0].dedup.store].nodes[0], "127.0.0.1:6379");
    mr_config_close(c);
    static char set[][48] = {"MILLRACE_NODE=node-2",
                             "MILLRACE_SECRET=another: # 'secret', {quoted}",
                             "MILLRACE_REDIS=[::1]:7000", "MILLRACE_DATA=/d", "MILLRACE_LISTEN=7"};
    char *const others[] = {set[0], set[1], set[2], set[3], set[4], NULL};
    struct mr_error error;
    c = NULL;
    assert_int_equal(mr_config_load(MR_EXAMPLES "/cluster.yaml", others, &c, &error), MR_OK);
    assert_text(c->node.id, "node-2");
    assert_text(c->node.data_dir, "/d");
    assert_int_equal(c->http.port, 7);
    assert_text(c->cluster.secret, "another: # 'secret', {quoted}");
    assert_text(c->stores[0].nodes[0], "[::1]:7000");
    mr_config_close(c);
}

static void add_store(struct mr_buf *yaml, uint32_t name, uint32_t nodes) {
    mr_buf_printf(yaml, "  s%u: { type: redis, cluster: true, nodes: [", name);
    for (uint32_t i = 0; i < nodes; i++) {
        mr_buf_printf(yaml, "%sh%u", i == 0 ? "" : ", ", i);
    }
    mr_buf_append_text(yaml, "] }\n");
}

static void counts_of_stores_are_bounded(void **state_) {
    (void)state_;
    struct mr_error error;
    struct mr_buf yaml;
    mr_buf_init(&yaml, PRINT_MAX);
    for (uint32_t more = 0; more <= 1; more++) {
        mr_buf_append_text(&yaml, "stores:\n");
        for (uint32_t i = 0; i < MR_STORES_MAX + more; i++) {
            add_store(&yaml, i, MR_STORE_NODES_MAX);
        }
        assert_int_equal(status_of(&yaml, &error), more ? MR_INVALID : MR_OK);
    }
    assert_string_equal(error.text, "f:10:3: `stores`: more than 8 of them");
    mr_buf_append_text(&yaml, "stores:\n");
    add_store(&yaml, 0, MR_STORE_NODES_MAX + 1);
    assert_int_equal(status_of(&yaml, &error), MR_INVALID);
    assert_string_equal(error.text, "f:2:44: `nodes`: a list of 33; expected a list of 1 to 32 "
                                    "such as [\"10.0.0.1:6379\"]");
    mr_buf_finish(&yaml);
}

/* Nobody finds a secret in a message, however it is written wrong. */
static void secrets_stand_in_no_message(void **state_) {
    (void)state_;
    static const char *const yamls[] = {
        CLUSTER("name: c, secret: hunter2"),
        CLUSTER("name: c, secret: [hunter2-hunter2-hunter2]"),
        CLUSTER("name: c, secret: { hunter2-hunter2-hunter2: x }"),
        CLUSTER("name: c, secret: hunter2-hunter2-hunter2"),
        CLUSTER("name: c, secret: hunter2-hunter2-hunter2, secret_file: /nonexistent/s"),
        NODES("[h], password: [hunter2]"),
        NODES("[h], password: hunter2, password_file: /nonexistent/s"),
        NODES("[g, h], password: hunter2"),
    };
    for (size_t i = 0; i < sizeof yamls / sizeof yamls[0]; i++) {
        struct mr_config *config = NULL;
        struct mr_error error = {0};
        enum mr_status status =
            mr_config_parse(mr_bytes_text(yamls[i]), "f", environment, &config, &error);
        assert_int_equal(status, MR_INVALID);
        assert_null(strstr(error.text, "hunter2"));
    }
    struct mr_buf yaml;
    struct mr_error error;
    mr_buf_init(&yaml, PRINT_MAX);
    for (int more = 0; more <= 1; more++) { /* the largest, and one more */
        mr_buf_append_text(&yaml, "stores: { main: { type: redis, nodes: [h], password: ");
        for (int i = 0; i < 4096 + more; i++) {
            mr_buf_append_char(&yaml, 'x');
        }
        mr_buf_append_text(&yaml, " } }\n");
        assert_int_equal(status_of(&yaml, &error), more ? MR_INVALID : MR_OK);
    }
    assert_string_equal(error.text, "f:1:54: `password`: 4097 bytes; expected 1 to 4096 bytes");
    mr_buf_finish(&yaml);
}

static enum mr_status parse_secrets(const struct place *p, struct mr_config **ret,
                                    struct mr_error *error) {
    char yaml[512];
    (void)snprintf(yaml, sizeof yaml,
                   "node: { id: a }\ncluster: { name: c, secret_file: %s }\n" NODES(
                       "[h], password_file: %s") CLAIMING(", store: main"),
                   p->file, p->file);
    *ret = NULL;
    return mr_config_parse(mr_bytes_text(yaml), "f", NULL, ret, error);
}

static void secrets_come_from_files(void **state_) {
    (void)state_;
    static const struct {
        const char *content;
        const char *secret; /* NULL: refused */
    } files[] = {
        {"sixteen-bytes-of", "sixteen-bytes-of"},
        {"sixteen-bytes-of\n", "sixteen-bytes-of"},
        {"sixteen-bytes-of\r\n", "sixteen-bytes-of"},
        {"sixteen-bytes-of\n\n", "sixteen-bytes-of\n"},
        {"sixteen-bytes-of\r", "sixteen-bytes-of\r"},
        {" two words and # \n $x ${y} ", " two words and # \n $x ${y} "},
        {"\xff\xfe binary \x01 binary\n", "\xff\xfe binary \x01 binary"},
        {"(set)-(set)-(set)\n", "(set)-(set)-(set)"},
        {"", NULL},
        {"\n", NULL},
        {"\r\n", NULL},
        {"fifteen-bytes-o", NULL},
        {"fifteen-bytes-o\n", NULL},
        {"fifteen-bytes-o\r\n", NULL},
    };
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        struct place p = write_file(mr_bytes_text(files[i].content));
        struct mr_config *c;
        struct mr_error error = {0};
        enum mr_status status = parse_secrets(&p, &c, &error);
        if (files[i].secret == NULL) {
            char text[256];
            (void)snprintf(
                text, sizeof text,
                "f:2:34: `secret_file: %s`: expected a file of 16 to 4096 bytes, and a newline",
                p.file);
            assert_int_equal(status, MR_INVALID);
            assert_string_equal(error.text, text);
        } else {
            assert_int_equal(status, MR_OK);
            assert_text(c->cluster.secret, files[i].secret);
            assert_text(c->stores[0].password, files[i].secret);
            assert_text(c->cluster.secret_file, p.file);
            assert_round_trip(c); /* through the file */
            struct mr_buf text = print(c);
            assert_false(same_bytes_inside(&text, c->cluster.secret));
            assert_non_null(strstr((const char *)text.ptr, "  secret_file: /"));
            assert_non_null(strstr((const char *)text.ptr, "    password_file: /"));
            assert_null(strstr((const char *)text.ptr, "(set)"));
            mr_buf_finish(&text);
            mr_config_close(c);
        }
        remove_place(&p);
    }
}

/* At both sides of the bounds; and every allocation failing in turn. */
static void files_of_secrets_are_bounded(void **state_) {
    (void)state_;
    uint8_t bytes[4096 + 3];
    memset(bytes, 'x', sizeof bytes);
    for (size_t len = 4096; len <= sizeof bytes; len++) {
        for (size_t newline = 0; newline <= 2; newline++) {
            uint8_t content[sizeof bytes];
            memcpy(content, bytes, len);
            memcpy(content + len - newline, &"\r\n"[2 - newline], newline);
            struct place p = write_file(mr_bytes_of(content, len));
            struct mr_config *c;
            struct mr_error error = {0};
            bool fits = len - newline <= 4096;
            assert_int_equal(parse_secrets(&p, &c, &error), fits ? MR_OK : MR_INVALID);
            if (fits) {
                assert_int_equal(c->cluster.secret.len, len - newline);
                mr_config_close(c);
            }
            remove_place(&p);
        }
    }
    struct place p = write_file(MR_BYTES("sixteen-bytes-of\n"));
    enum mr_status status = MR_NO_MEMORY;
    for (size_t k = 1; status == MR_NO_MEMORY; k++) {
        struct mr_config *c;
        struct mr_error error = {0};
        mr_alloc_fail_at(k, 1);
        status = parse_secrets(&p, &c, &error);
        mr_alloc_fail_at(0, 0);
        mr_config_close(c);
    }
    assert_int_equal(status, MR_OK);
    remove_place(&p);
}

static void one_of_secret_and_file(void **state_) {
    (void)state_;
    struct place p = write_file(MR_BYTES("sixteen-bytes-of\n"));
    char yaml[512];
    struct mr_error error;
    struct mr_config *c = NULL;
    (void)snprintf(yaml, sizeof yaml,
                   "node: { id: a }\n"
                   "cluster: { name: c, secret: sixteen-bytes-it, secret_file: %s }\n" NODES("[h]")
                       CLAIMING(", store: main"),
                   p.file);
    assert_int_equal(mr_config_parse(mr_bytes_text(yaml), "f", NULL, &c, &error), MR_INVALID);
    assert_string_equal(error.text,
                        "f:2:1: `cluster` has both; expected one of `secret` and `secret_file`");
    (void)snprintf(
        yaml, sizeof yaml,
        "stores: { main: { type: redis, nodes: [h], password_file: %s, password: x } }\n", p.file);
    assert_int_equal(mr_config_parse(mr_bytes_text(yaml), "f", NULL, &c, &error), MR_INVALID);
    assert_string_equal(error.text,
                        "f:1:11: `main` has both; expected one of `password` and `password_file`");
    assert_null(c);
    remove_place(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_stores),
        cmocka_unit_test(refuses_shared),
        cmocka_unit_test(refuses_sinks),
        cmocka_unit_test(sinks_are_what_they_say),
        cmocka_unit_test(sinks_are_no_state),
        cmocka_unit_test(stores_are_what_they_say),
        cmocka_unit_test(the_cluster_example_takes_the_environment),
        cmocka_unit_test(counts_of_stores_are_bounded),
        cmocka_unit_test(secrets_stand_in_no_message),
        cmocka_unit_test(secrets_come_from_files),
        cmocka_unit_test(files_of_secrets_are_bounded),
        cmocka_unit_test(one_of_secret_and_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
