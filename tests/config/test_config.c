/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that what is accepted means what it says.
 *
 * 1. The built-in defaults, and those of every option, are the documented ones.
 * 2. Every example loads; the built-in defaults are the example default.yaml.
 * 3. Printing and reading back gives the same configuration, for tables, examples and random texts.
 * 4. The state text is the one known by heart, and changes with what shapes state and nothing else.
 * 5. Help names every option.
 */
#include "support.h"

#include "base/file.h"
#include "config/load.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define HASH           "0123456789abcdef0123456789ABCDEF0123456789abcdef0123456789abcdef"
#define STREAM(more)   "streams: { s: { id: i, time: t, " more " } }\n"
#define RULE(keys)     "streams: { s: { id: i, time: t } }\nrules: { r: { " keys " } }\n"
#define STORE(nodes)   "stores: { main: { type: redis, nodes: " nodes " } }\n"
#define SINK(keys)                                                                                 \
    STORE("[h]") "sinks: { live: { type: redis, store: main" keys " } }\n"
#define SHARED         "node: { id: a }\ncluster: { name: c-1, secret: '16 bytes or more' }\n"
#define CLAIMING(more) STREAM("dedup: { mode: redis, store: " more " }")
#define FULL           "from: s, window: { size: 1m }, metrics: { n: count }"

/* A configuration, and a piece that its printed form must hold. */
struct accept {
    const char *yaml;
    const char *printed;
};

static const struct accept must_accept[] = {
    {"",
     "streams:\n  events:\n    id: [source, id]\n    time:\n      field: time\n      format: ms\n"},
    {"# nothing\n", "rules:\n  events_by_type:\n    from: events\n    group_by: [type]\n"},
    {"---\n...\n", "    metrics:\n      count: count\n"},
    {"node:\nhttp:\nlimits:\n", "  listen: \"127.0.0.1:8080\"\n"},
    {"rules: {}\n", "rules: {}\n"},
    {"rules:\n", "rules: {}\n"},
    {"auth: { tokens: {} }\n", "auth:\n  tokens: {}\n"},
    {"streams: { s: { id: i, time: t } }\n", "rules: {}\n"},
    {"rules: { r: { " FULL " } }\nstreams: { s: { id: i, time: t } }\n", "    from: s\n"},
    {"rules: { r: { from: events, window: { size: 1m }, metrics: { n: count } } }\n",
     "  events:\n"},
    {"\xef\xbb\xbfnode: { id: with-mark }\n", "  id: with-mark\n"},
    {"node: { id: _a-0 }\r\nhttp:\r\n  threads: 3\r\n", "  threads: 3\n"},
    {"node: { shards: 64 }\n", "  shards: 64\n"},
    {"node: { shards: \"1\" }\n", "  shards: 1\n"},
    {"node: { data_dir: \"a: b \\n\\u2028 $$x \\\"q\\\" \\\\ \xc3\xb6\" }\n",
     "  data_dir: \"a: b \\u000a\\u2028 $$x \\\"q\\\" \\\\ \xc3\xb6\"\n"},
    {"http: { listen: 9090 }\n", "  listen: \"127.0.0.1:9090\"\n"},
    {"http: { listen: \"127.0.0.1:0\" }\n", "  listen: \"127.0.0.1:0\"\n"},
    {"http: { listen: localhost }\n", "  listen: \"127.0.0.1:8080\"\n"},
    {"http: { listen: \"localhost:1\" }\n", "  listen: \"127.0.0.1:1\"\n"},
    {"http: { listen: \"[::1]:8080\" }\n", "  listen: \"[::1]:8080\"\n"},
    {"http: { listen: \"[::1]\" }\n", "  listen: \"[::1]:8080\"\n"},
    {"http: { listen: 127.9.9.9 }\n", "  listen: \"127.9.9.9:8080\"\n"},
    {"http: { listen: 0.0.0.0, allow_insecure: true }\n", "  listen: \"0.0.0.0:8080\"\n"},
    {"http: { listen: \"[::]:80\", tls: { cert_file: /c, key_file: /k } }\n"
     "auth: { tokens: { a: { sha256: " HASH ", allow: query } } }\n",
     "  tls:\n    cert_file: /c\n    key_file: /k\n"},
    {"auth: { tokens: { a: { sha256: " HASH
     ", allow: [admin, query, ingest], streams: [events] } } }\n",
     "      sha256: 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n"
     "      allow: [ingest, query, admin]\n      streams: [events]\n"},
    {"auth: { tokens: { a: { sha256: " HASH ", allow: ingest } } }\n", "      allow: [ingest]\n"},
    {"limits: { body: 64MB, inflated: 67108863 }\n", "  body: 62500KiB\n  inflated: 67108863\n"},
    {"limits: { body: 1KiB, inflated: 2KB, in_flight: 1MiB, memory: 16MiB }\n",
     "  inflated: 2000\n"},
    {"limits: { memory: 64TiB }\n", "  memory: 64TiB\n"},
    {"log: { sync: off, reserve: 0 }\n", "  sync: off\n  segment: 128MiB\n  reserve: 0\n"},
    {"log: { segment: 65MiB }\n", "  segment: 65MiB\n"},
    {"log: { retain: 1m, retain_bytes: 256MiB }\n",
     "  retain: 1m\n  retain_bytes: 256MiB\ncheckpoint:\n  every: 30s\n"},
    {"log: { retain: off, retain_bytes: off }\n", "  retain: off\n  retain_bytes: off\n"},
    {"log: { retain: 3650d, retain_bytes: 64TiB }\n", "  retain: 3650d\n  retain_bytes: 64TiB\n"},
    {"limits: { body: 512KiB, inflated: 1MiB }\nlog: { segment: 2MiB, retain_bytes: 4MiB }\n",
     "  retain_bytes: 4MiB\n"},
    {"log: { segment: 16GiB }\n", "  retain_bytes: 50GiB\n"},
    {"checkpoint: { every: 100ms }\n", "checkpoint:\n  every: 100ms\nstreams:\n"},
    {"checkpoint: { every: 24h }\n", "  every: 1d\n"},
    {"checkpoint:\n", "  every: 30s\n"},
    {"http: { header_timeout: 10ms, idle_timeout: 1h }\n", "  header_timeout: 10ms\n"},
    {"streams: { s: { id: [a.b, c, d, e.f.g], time: t } }\n", "    id: [a.b, c, d, e.f.g]\n"},
    {"streams: { s: { id: a.b.c.d.e.f.g.h, time: t } }\n", "    id: [a.b.c.d.e.f.g.h]\n"},
    {"streams: { s: { id: [\"with space\", \"\xc3\xb6$lib\"], time: t } }\n",
     "    id: [\"with space\", \"\xc3\xb6$$lib\"]\n"},
    {"streams: { s: { id: properties.$id, time: t } }\n", "    id: [\"properties.$$id\"]\n"},
    {"streams: { s: { id: t, time: t } }\n", "    id: [t]\n"},
    {"streams: { s: { id: i, time: { field: ts, format: ns } } }\n", "      format: ns\n"},
    {"streams: { s: { id: i, time: { field: ts, format: rfc3339 } } }\n",
     "      format: rfc3339\n"},
    {"streams: { s: { time: t, dedup: { mode: none } } }\n",
     "    dedup:\n      mode: none\n    watermark:"},
    {"streams: { s: { id: i, time: t, dedup: { mode: none } } }\n", "    id: [i]\n"},
    {STREAM("missing_id: accept, missing_time: reject"),
     "    missing_id: accept\n    missing_time: reject\n"},
    {STREAM("dedup: { mode: bloom, error: 1e-5 }"), "      error: 0.00001\n"},
    {STREAM("dedup: { error: 0.1, mode: bloom }"), "      error: 0.1\n"},
    {STREAM("dedup: { mode: observe, horizon: 1s, ids: 1 }"),
     "      mode: observe\n      horizon: 1s\n      ids: 1\n"},
    {STREAM("dedup: { horizon: 3650d, ids: 100000000000, when_full: evict_oldest }"),
     "      horizon: 3650d\n      ids: 100000000000\n      when_full: evict_oldest\n"},
    {STREAM("watermark: { out_of_orderness: 0s, idle_timeout: off, max_future: 1h30m }"),
     "      out_of_orderness: 0s\n      idle_timeout: off\n      max_future: 90m\n"},
    {RULE(FULL ", group_by: []"), "    group_by: []\n"},
    {RULE(FULL ", group_by: data.country"), "    group_by: [data.country]\n"},
    {RULE(FULL ", group_by: [i, t, a, b, c, d, e, f]"), "    group_by: [i, t, a, b, c, d, e, f]\n"},
    {RULE(FULL ", group_by: [data._x]"), "    group_by: [data._x]\n"},
    {RULE(FULL ", allowed_lateness: 36500d"), "    allowed_lateness: 36500d\n"},
    {RULE(FULL ", trigger: { late: true, panes: accumulating }"),
     "    trigger:\n      early: 0s\n      early_count: 0\n      late: true\n      panes: "
     "accumulating\n"},
    {RULE(FULL ", groups: { max: 5, bytes: 64KiB, when_full: drop }"),
     "      max: 5\n      bytes: 64KiB\n      when_full: drop\n"},
    {RULE("from: [s], window: { type: tumbling, size: 1ms }, metrics: { n: count }"),
     "      size: 1ms\n"},
    {RULE("from: s, group_by: x, window: { size: 1m }, metrics: { x_n: count, a: { sum: x }, b: { "
          "min: x "
          "}, c: { max: x }, d: { avg: i } }"),
     "      x_n: count\n      a: { sum: x }\n      b: { min: x }\n      c: { max: x }\n      d: { "
     "avg: i "
     "}\n"},
    {"node: { id: \"${NAME}\" }\n", "  id: n1\n"},
    {"node: { id: '${NAME}-${A}' }\n", "  id: n1-1\n"},
    {"node:\n  id: ${MISSING:-other}\n", "  id: other\n"},
    {"node:\n  id: ${EMPTY:-other}\n", "  id: other\n"},
    {"node:\n  id: ${NAME:-other}\n", "  id: n1\n"},
    {"node: { id: \"${NAME:?is needed}\" }\n", "  id: n1\n"},
    {"node: { id: 'a${EMPTY}b' }\n", "  id: ab\n"},
    {"node: { data_dir: \"${TRICK}\" }\nhttp: { threads: 7 }\n",
     "  data_dir: \"2\\u000ahttp: { threads: 3 }\"\n"},
    {"node: { data_dir: \"$$ $ $x $${NAME} ${NAME}\" }\n",
     "  data_dir: \"$$ $$ $$x $${NAME} n1\"\n"},
    {"node: { shards: \"${A}\" }\n", "  shards: 1\n"},
    {"streams: { \"s\": { id: i, time: t } }\n", "  s:\n"},
    {"stores:\n", "checkpoint:\n  every: 30s\nstreams:\n"},
    {"stores: {}\n", "checkpoint:\n  every: 30s\nstreams:\n"},
    {STORE("[h]"),
     "stores:\n  main:\n    type: redis\n    nodes: [\"h:6379\"]\n    cluster: false\n"
     "    timeout: 200ms\n    recent: 1m\n    assume_strict: false\n    tls: false\nstreams:\n"},
    {STORE("h"), "    nodes: [\"h:6379\"]\n"},
    {STORE("10.0.0.1:007"), "    nodes: [\"10.0.0.1:7\"]\n"},
    {STORE("\"[::1]\""), "    nodes: [\"[::1]:6379\"]\n"},
    {STORE("[a, \"b:1\", \"[fe80::1]:65535\"], cluster: true"),
     "    nodes: [\"a:6379\", \"b:1\", \"[fe80::1]:65535\"]\n    cluster: true\n"},
    {STORE("[h], cluster: true, timeout: 10ms, recent: 1s, assume_strict: true"),
     "    cluster: true\n    timeout: 10ms\n    recent: 1s\n    assume_strict: true\n"},
    {STORE("[h], timeout: 1m, recent: 24h"), "    timeout: 1m\n    recent: 1d\n"},
    {STORE("[h], password: open sesame"), "    password: (set)\n"},
    {STORE("[h], user: \"m\\u00f6:$$\", password: \"open: #sesame\""),
     "    user: \"m\xc3\xb6:$$\"\n    password: (set)\n    tls: false\n"},
    {STORE("[h], tls: true"), "    tls: true\n"},
    {STORE("[h], tls: false"), "    tls: false\n"},
    {STORE("[h], tls: {}"), "    tls: true\n"},
    {STORE("[h], tls: { ca_file: /c a }"), "    tls:\n      ca_file: \"/c a\"\nstreams:\n"},
    {STORE("[h], tls: { cert_file: c, key_file: k }"),
     "    tls:\n      cert_file: c\n      key_file: k\nstreams:\n"},
    {SHARED STORE("[h]") CLAIMING("main"), "cluster:\n  name: c-1\n  secret: (set)\nstores:\n"},
    {SHARED STORE("[h]") CLAIMING("main"),
     "      mode: redis\n      horizon: 1d\n      store: main\n      layout: bucket\n      outage: "
     "reject\n    watermark:\n"},
    {CLAIMING("main, layout: key, outage: hold, horizon: 1h") STORE("[h]") SHARED,
     "      horizon: 1h\n      store: main\n      layout: key\n      outage: hold\n"},
    {SHARED STORE("[h]") CLAIMING("main, outage: local, ids: 5, when_full: evict_oldest"),
     "      ids: 5\n      when_full: evict_oldest\n      store: main\n      layout: bucket\n      "
     "outage: local\n"},
    {SHARED "stores: { a: { type: redis, nodes: [h] }, b: { type: redis, nodes: [h], password: "
            "sesame } }\n" CLAIMING("b"),
     "      store: b\n"},
    {SINK(""), "sinks:\n  live:\n    type: redis\n    store: main\n    prefix: \"millrace:node-1:\"\n"
               "    ttl: 7d\nstreams:\n"},
    {SINK("") "node: { id: n2 }\n", "    prefix: \"millrace:n2:\"\n"},
    {SINK(", prefix: x, ttl: off"), "    prefix: x\n    ttl: off\n"},
    {SINK(", prefix: \"{a}:$$\", ttl: 1s"), "    prefix: \"{a}:$$\"\n    ttl: 1s\n"},
    {"sinks: { live: { store: main, type: redis } }\n" STORE("[h]"), "    store: main\n"},
    {"sinks: {}\n", "checkpoint:\n  every: 30s\nstreams:\n"},
    {SINK("") RULE(FULL ", sinks: live"), "    sinks: [live]\n"},
    {SINK("") RULE(FULL ", sinks: [live]"), "      when_full: other\n    sinks: [live]\n"},
    {SINK("") RULE(FULL ", sinks: []"), "      when_full: other\n"},
    {"sinks: { b: { type: redis, store: main }, a: { type: redis, store: main } }\n" STORE("[h]")
         RULE(FULL ", sinks: [a, b]"),
     "    sinks: [a, b]\n"},
};

static void accepts(void **state_) {
    (void)state_;
    for (size_t i = 0; i < sizeof must_accept / sizeof must_accept[0]; i++) {
        struct mr_config *config = parse(must_accept[i].yaml);
        struct mr_buf text = print(config);
        if (strstr((const char *)text.ptr, must_accept[i].printed) == NULL) {
            print_error("%s\n->\n%s\nlacks\n%s\n", must_accept[i].yaml, (const char *)text.ptr,
                        must_accept[i].printed);
            fail();
        }
        assert_round_trip(config);
        mr_buf_finish(&text);
        mr_config_close(config);
    }
}

static void assert_default_process(const struct mr_config *c) {
    assert_text(c->node.id, "node-1");
    assert_text(c->node.data_dir, "./millrace-data");
    assert_in_range(c->node.shards, 1, 16);
    assert_text(c->http.host, "127.0.0.1");
    assert_int_equal(c->http.port, 8080);
    assert_in_range(c->http.threads, 1, 16);
    assert_false(c->http.tls);
    assert_false(c->http.allow_insecure);
    assert_int_equal(c->http.connections, 1000);
    assert_int_equal(c->http.connections_per_address, 0);
    assert_int_equal(c->http.header_timeout_ms, 10000);
    assert_int_equal(c->http.body_timeout_ms, 60000);
    assert_int_equal(c->http.idle_timeout_ms, 75000);
    assert_int_equal(c->auth.token_count, 0);
    assert_int_equal(c->limits.body_bytes, 32 << 20);
    assert_int_equal(c->limits.inflated_bytes, 64 << 20);
    assert_int_equal(c->limits.inflate_ratio, 200);
    assert_int_equal(c->limits.event_bytes, 1 << 20);
    assert_int_equal(c->limits.batch_events, 100000);
    assert_int_equal(c->limits.in_flight_bytes, 256 << 20);
    assert_int_equal(c->limits.memory_bytes, UINT64_C(4) << 30);
    assert_true(c->log.sync);
    assert_int_equal(c->log.segment_bytes, 128 << 20);
    assert_int_equal(c->log.reserve_bytes, 64 << 20);
    assert_int_equal(c->log.retain_ms, 48 * 3600000);
    assert_int_equal(c->log.retain_bytes, UINT64_C(50) << 30);
    assert_int_equal(c->checkpoint.every_ms, 30000);
}

static void assert_default_stream(const struct mr_config_stream *s) {
    assert_text(s->name, "events");
    assert_int_equal(s->id_parts, 2);
    assert_text(s->id[0], "source");
    assert_text(s->id[1], "id");
    assert_text(s->time_field, "time");
    assert_int_equal(s->time_format, MR_CONFIG_MS);
    assert_true(s->reject_missing_id);
    assert_false(s->reject_missing_time);
    assert_int_equal(s->dedup.mode, MR_CONFIG_EXACT);
    assert_int_equal(s->dedup.when_full, MR_CONFIG_REJECT);
    assert_int_equal(s->dedup.horizon_ms, 86400000);
    assert_int_equal(s->dedup.ids, 10000000);
    assert_true(s->dedup.error == 1e-4);
    assert_int_equal(s->watermark.out_of_orderness_ms, 30000);
    assert_int_equal(s->watermark.idle_timeout_ms, 60000);
    assert_int_equal(s->watermark.max_future_ms, 300000);
}

static void defaults_are_the_documented_ones(void **state_) {
    (void)state_;
    struct mr_config *c = NULL;
    struct mr_error error;
    assert_int_equal(mr_config_load(NULL, NULL, &c, &error), MR_OK);
    assert_default_process(c);
    assert_int_equal(c->stream_count, 1);
    assert_default_stream(&c->streams[0]);
    assert_int_equal(c->rule_count, 1);
    const struct mr_config_rule *r = &c->rules[0];
    assert_text(r->name, "events_by_type");
    assert_int_equal(r->stream_count, 1);
    assert_int_equal(r->streams[0], 0);
    assert_int_equal(r->group_by_count, 1);
    assert_text(r->group_by[0], "type");
    assert_int_equal(r->window.size_ms, 60000);
    assert_int_equal(r->allowed_lateness_ms, 300000);
    assert_int_equal(r->metric_count, 1);
    assert_text(r->metrics[0].name, "count");
    assert_int_equal(r->metrics[0].kind, MR_CONFIG_COUNT);
    assert_int_equal(r->metrics[0].field.len, 0);
    assert_int_equal(r->groups.max, 1000000);
    assert_int_equal(r->groups.bytes, 256 << 20);
    assert_int_equal(r->groups.when_full, MR_CONFIG_OTHER);
    assert_text(c->source, "built-in defaults");
    assert_int_equal(mr_config_stream_index(c, MR_BYTES("events")), 0);
    assert_int_equal(mr_config_stream_index(c, MR_BYTES("event")), UINT32_MAX);
    assert_int_equal(mr_config_rule_index(c, MR_BYTES("events_by_type")), 0);
    assert_int_equal(mr_config_rule_index(c, MR_BYTES("events")), UINT32_MAX);
    assert_round_trip(c);
    mr_config_close(c);
    mr_config_close(NULL);
}

/* off is the largest value of the field: whatever is compared with it is less. */
static void off_is_without_end(void **state_) {
    (void)state_;
    struct mr_config *c = parse("log: { retain: off, retain_bytes: off }\n");
    assert_true(c->log.retain_ms == INT64_MAX);
    assert_true(c->log.retain_bytes == UINT64_MAX);
    mr_config_close(c);
}

static enum mr_status visit_example(void *ctx, const char *name) {
    size_t len = strlen(name);
    if (len > 5 && strcmp(name + len - 5, ".yaml") == 0) {
        struct mr_config *config = load_example(name);
        assert_round_trip(config);
        mr_config_close(config);
        (*(uint32_t *)ctx)++;
    }
    return MR_OK;
}

static void every_example_loads(void **state_) {
    (void)state_;
    uint32_t count = 0;
    assert_int_equal(chdir(MR_EXAMPLES "/../.."), 0); /* their lookups are named from there */
    assert_int_equal(mr_disk_list(mr_disk_system(), MR_EXAMPLES, visit_example, &count), MR_OK);
    assert_true(count >= 3);
}

static void the_default_example_is_built_in(void **state_) {
    (void)state_;
    struct mr_buf text;
    mr_buf_init(&text, MR_YAML_BYTES_MAX);
    assert_int_equal(mr_disk_read_all(mr_disk_system(), MR_EXAMPLES "/default.yaml", &text), MR_OK);
    assert_true(mr_bytes_equal(mr_buf_bytes(&text), mr_config_default_yaml()));
    mr_buf_finish(&text);
}

static void the_git_example_says_what_the_tests_expect(void **state_) {
    (void)state_;
    struct mr_config *c = load_example("git-commits.yaml");
    const struct mr_config_stream *s = &c->streams[mr_config_stream_index(c, MR_BYTES("commits"))];
    assert_int_equal(s->id_parts, 1);
    assert_text(s->id[0], "id");
    assert_int_equal(s->dedup.horizon_ms, INT64_C(7) * 86400000);
    assert_int_equal(s->dedup.ids, 1000000);
    assert_int_equal(s->watermark.out_of_orderness_ms, 3600000);
    assert_true(s->watermark.idle_timeout_ms == INT64_MAX);
    const struct mr_config_rule *r = &c->rules[mr_config_rule_index(c, MR_BYTES("words_by_area"))];
    assert_int_equal(r->window.size_ms, 86400000);
    assert_true(r->allowed_lateness_ms == INT64_C(6000) * 86400000);
    assert_int_equal(r->metric_count, 4);
    assert_int_equal(r->metrics[1].kind, MR_CONFIG_SUM);
    assert_text(r->metrics[1].field, "words");
    mr_config_close(c);
}

static void hashes_come_from_files(void **state_) {
    (void)state_;
    struct place p = write_file(MR_BYTES(HASH "\n"));
    char yaml[256];
    (void)snprintf(yaml, sizeof yaml,
                   "auth: { tokens: { a: { sha256_file: %s, allow: [ingest, admin] } } }\n",
                   p.file);
    struct mr_config *c = parse(yaml);
    assert_int_equal(c->auth.token_count, 1);
    const struct mr_config_token *token = &c->auth.tokens[0];
    assert_text(token->name, "a");
    assert_int_equal(token->sha256[0], 0x01);
    assert_int_equal(token->sha256[31], 0xef);
    assert_int_equal(token->rights, MR_RIGHT_INGEST | MR_RIGHT_ADMIN);
    assert_true(token->all_streams);
    assert_round_trip(c); /* through sha256 */
    mr_config_close(c);
    remove_place(&p);

    p = write_file(MR_BYTES("correct horse battery staple\n"));
    (void)snprintf(yaml, sizeof yaml,
                   "auth: { tokens: { a: { sha256_file: %s, allow: query } } }\n", p.file);
    struct mr_error error;
    c = NULL;
    assert_int_equal(mr_config_parse(mr_bytes_text(yaml), "f", NULL, &c, &error), MR_INVALID);
    assert_non_null(strstr(error.text, "expected a file of 64 hexadecimal digits"));
    assert_null(strstr(error.text, "horse"));
    remove_place(&p);
}

static void files_are_loaded_or_not_with_a_word(void **state_) {
    (void)state_;
    struct mr_config *c = NULL;
    struct mr_error error;
    struct place p = write_file(MR_BYTES("node:\n  shards: none\n"));
    assert_int_equal(mr_config_load(p.file, NULL, &c, &error), MR_INVALID);
    assert_non_null(strstr(error.text, "/file:2:11: `shards: none`"));
    remove_place(&p);
    assert_int_equal(mr_config_load(p.file, NULL, &c, &error), MR_NOT_FOUND);
    assert_non_null(strstr(error.text, "/file: cannot be read: not found"));

    struct mr_buf large;
    mr_buf_init(&large, 2 * MR_YAML_BYTES_MAX);
    memset(mr_buf_reserve(&large, MR_YAML_BYTES_MAX + 1), '#', MR_YAML_BYTES_MAX + 1);
    large.len = MR_YAML_BYTES_MAX + 1;
    p = write_file(mr_buf_bytes(&large));
    assert_int_equal(mr_config_load(p.file, NULL, &c, &error), MR_LIMIT);
    assert_non_null(strstr(error.text, "longer than 1 MiB"));
    remove_place(&p);
    mr_buf_finish(&large);
    assert_null(c);
}

/* Random texts survive printing and reading, whatever YAML or ${} could make of them. */
static void texts_survive(void **state_) {
    (void)state_;
    static const uint32_t special[] = {
        '"',    '\\',   '$',     '{',      '}',    ':',    '#',    '-',    ' ',
        '\n',   '\t',   '\r',    '\'',     '&',    '*',    '!',    '|',    '.',
        0x7f,   0x85,   0xa0,    0x2028,   0x2029, 0xd7ff, 0xe000, 0xfeff, 0xfffd,
        0xfffe, 0xffff, 0x10000, 0x10ffff, 1,      0x1b,   'a',    '0',    ','};
    enum { SPECIALS = sizeof special / sizeof special[0] };
    struct mr_config *config = parse("");
    uint32_t seed = 1;
    for (int round = 0; round < 2000; round++) {
        uint8_t text[4 * 12];
        size_t len = 0;
        seed = seed * 1664525u + 1013904223u;
        uint32_t characters = 1 + (seed >> 16) % 12;
        for (uint32_t i = 0; i < characters; i++) {
            seed = seed * 1664525u + 1013904223u;
            uint32_t c = special[(seed >> 16) % SPECIALS];
            if (c < 0x80) {
                text[len++] = (uint8_t)c;
            } else if (c < 0x800) {
                text[len++] = (uint8_t)(0xc0 | c >> 6);
                text[len++] = (uint8_t)(0x80 | (c & 0x3f));
            } else if (c < 0x10000) {
                text[len++] = (uint8_t)(0xe0 | c >> 12);
                text[len++] = (uint8_t)(0x80 | (c >> 6 & 0x3f));
                text[len++] = (uint8_t)(0x80 | (c & 0x3f));
            } else {
                text[len++] = (uint8_t)(0xf0 | c >> 18);
                text[len++] = (uint8_t)(0x80 | (c >> 12 & 0x3f));
                text[len++] = (uint8_t)(0x80 | (c >> 6 & 0x3f));
                text[len++] = (uint8_t)(0x80 | (c & 0x3f));
            }
        }
        config->node.data_dir = mr_bytes_of(text, len);
        struct mr_buf printed = print(config);
        struct mr_config *again = parse((const char *)printed.ptr);
        assert_int_equal(again->node.data_dir.len, len);
        assert_memory_equal(again->node.data_dir.ptr, text, len);
        mr_config_close(again);
        mr_buf_finish(&printed);
    }
    mr_config_close(config);
}

/* A setting of its own each: all texts differ from each other. */
static void state_tells_settings_apart(void **state_) {
    (void)state_;
    static const char *const yamls[] = {
        RULE(FULL),
        "streams: { s: { id: [i], time: u } }\nrules: { r: { " FULL " } }\n",
        "streams: { s: { id: [i, j], time: t } }\nrules: { r: { " FULL " } }\n",
        "streams: { s: { id: [j, i], time: t } }\nrules: { r: { " FULL " } }\n",
        "streams: { s: { id: [i], time: { field: t, format: s } } }\nrules: { r: { " FULL " } }\n",
        STREAM(""),
        STREAM("missing_id: accept"),
        STREAM("missing_time: reject"),
        STREAM("dedup: { mode: bloom }"),
        STREAM("dedup: { mode: bloom, error: 1e-3 }"),
        STREAM("dedup: { mode: observe }"),
        STREAM("dedup: { mode: none }"),
        STREAM("dedup: { horizon: 25h }"),
        STREAM("dedup: { when_full: evict_oldest }"),
        STREAM("watermark: { out_of_orderness: 1s }"),
        STREAM("watermark: { idle_timeout: off }"),
        STREAM("watermark: { max_future: 1s }"),
        SHARED STORE("[h]") CLAIMING("main"),
        SHARED STORE("[h]") CLAIMING("main, layout: key"),
        SHARED STORE("[h]") CLAIMING("main, outage: hold"),
        SHARED STORE("[h]") CLAIMING("main, outage: local"),
        SHARED STORE("[h]") CLAIMING("main, outage: local, ids: 7"),
        SHARED "stores: { other: { type: redis, nodes: [h] } }\n" CLAIMING("other"),
        RULE(FULL ", group_by: a"),
        RULE(FULL ", group_by: [a, b]"),
        RULE(FULL ", group_by: [b, a]"),
        RULE(FULL ", allowed_lateness: 0s"),
        RULE(FULL ", groups: { max: 2 }"),
        RULE(FULL ", groups: { bytes: 1MiB }"),
        RULE(FULL ", groups: { when_full: drop }"),
        RULE("from: s, window: { size: 2m }, metrics: { n: count }"),
        RULE("from: s, window: { size: 1m }, metrics: { m: count }"),
        RULE("from: s, window: { size: 1m }, metrics: { n: { sum: x } }"),
        RULE("from: s, window: { size: 1m }, metrics: { n: { max: x } }"),
        RULE("from: s, window: { size: 1m }, metrics: { n: { max: y } }"),
    };
    enum { COUNT = sizeof yamls / sizeof yamls[0] };
    struct mr_buf texts[COUNT];
    for (int i = 0; i < COUNT; i++) {
        struct mr_config *config = parse(yamls[i]);
        texts[i] = state_yaml(config);
        mr_config_close(config);
        for (int j = 0; j < i; j++) {
            assert_false(mr_bytes_equal(mr_buf_bytes(&texts[i]), mr_buf_bytes(&texts[j])));
        }
    }
    for (int i = 0; i < COUNT; i++) {
        mr_buf_finish(&texts[i]);
    }
}

static void help_names_every_option(void **state_) {
    (void)state_;
    size_t count;
    const struct mr_option *options = mr_options(&count);
    for (int markdown = 0; markdown <= 1; markdown++) {
        struct mr_buf help;
        mr_buf_init(&help, PRINT_MAX);
        mr_config_help(&help, markdown != 0);
        mr_buf_append_char(&help, 0);
        assert_false(help.failed);
        for (size_t i = 0; i < count; i++) {
            char heading[64];
            char key[64];
            const char *where = mr_scope_where(options[i].scope);
            (void)snprintf(heading, sizeof heading, markdown ? "\n## `%s`\n" : "\n%s\n", where);
            (void)snprintf(key, sizeof key, markdown ? "`%s`" : "%s", options[i].key);
            const char *scope =
                *where == 0 ? strstr((char *)help.ptr, markdown ? "\n## The" : "\nthe file\n")
                            : strstr((char *)help.ptr, heading);
            assert_non_null(scope);
            const char *end = strstr(scope + 2, markdown ? "\n## " : "\n\n");
            const char *found = strstr(scope + strlen(heading), key);
            assert_non_null(found);
            assert_true(end == NULL || found < end);
            if (options[i].type != MR_OPTION_LATER) {
                assert_non_null(options[i].doc);
                assert_non_null(strstr(scope, options[i].doc));
            }
        }
        mr_buf_finish(&help);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accepts),
        cmocka_unit_test(defaults_are_the_documented_ones),
        cmocka_unit_test(off_is_without_end),
        cmocka_unit_test(every_example_loads),
        cmocka_unit_test(the_default_example_is_built_in),
        cmocka_unit_test(the_git_example_says_what_the_tests_expect),
        cmocka_unit_test(hashes_come_from_files),
        cmocka_unit_test(files_are_loaded_or_not_with_a_word),
        cmocka_unit_test(texts_survive),
        cmocka_unit_test(state_tells_settings_apart),
        cmocka_unit_test(help_names_every_option),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
