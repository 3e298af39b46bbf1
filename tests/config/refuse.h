/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Refuse: configurations, each with the whole text of the error it must give: file, line, column,
 * what was found, what was expected.
 */

#define HASH         "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define HASH_UPPER   "0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF"
#define STREAM(more) "streams: { s: { id: i, time: t, " more " } }\n"
#define RULE(keys)   "streams: { s: { id: i, time: t } }\nrules: { r: { " keys " } }\n"
#define FULL         "from: s, window: { size: 1m }, metrics: { n: count }"
#define TOKEN(keys)  "auth: { tokens: { a: { " keys " } } }\n"

/* What YAML allows and a configuration does not. */
static const struct refuse refuse_yaml[] = {
    {"a: &x 1\n", "f:1:4: an anchor (&name); write the value out instead"},
    {"a: *x\n", "f:1:4: an alias (*name); write the value out instead"},
    {"a: !!int 1\n", "f:1:4: a tag (!name); expected a value without one: put a text that begins with ! in quotes"},
    {"a: !x {}\n", "f:1:4: a tag (!name); expected a value without one: put a text that begins with ! in quotes"},
    {"--- {}\n--- {}\n", "f:2:1: a second document; expected one only"},
    {"node: {}\nhttp: {}\nnode: {}\n", "f:3:1: `node` is here twice; the first is in line 1"},
    {"node:\n  id: a\n  id: b\n", "f:3:3: `id` is here twice; the first is in line 2"},
    {"node: {id: x\n",
     "f:2:1: not YAML: while parsing a flow mapping, did not find expected ',' or '}'"},
    {"a:\n\tb: 1\n", "f:2:1: not YAML: while scanning for the next token, found character that "
                     "cannot start any token (a tab; indent with spaces)"},
    {"- a\n- b\n", "f:1:1: not a configuration; expected sections such as `streams:` and `rules:`"},
    {"just text\n",
     "f:1:1: not a configuration; expected sections such as `streams:` and `rules:`"},
    {"{a: 1}: 2\n", "f:1:1: a key is a mapping or a list; expected a name"},
    {"? [a]\n: 1\n", "f:1:3: a key is a mapping or a list; expected a name"},
    {"node: \"\x01\"\n", "f:1:8: not UTF-8 text: control characters are not allowed"},
    {"node: \xff\n", "f:1:7: not UTF-8 text: invalid leading UTF-8 octet"},
    {"a: [[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]\n", "f:1:19: nested deeper than 16 levels"},
    {"a: b: c\n", "f:1:5: not YAML: mapping values are not allowed in this context"},
    {"x: |\n  a\n y\n",
     "f:3:2: not YAML: while parsing a block mapping, did not find expected key"},
    {"# only\nnode: [a, &b c]\n", "f:2:11: an anchor (&name); write the value out instead"},
    {"node: { id: a, id: b }\n", "f:1:16: `id` is here twice; the first is in line 1"},
    {"\xef\xbb\xbfnod: 1\n", "f:1:1: unknown key `nod`; did you mean `node`?"},
    {"%YAML 3.0\n---\na: 1\n", "f:1:1: not YAML: found incompatible YAML document"},
    {"n\xc3\xb6"
     "de: *x\n",
     "f:1:7: an alias (*name); write the value out instead"},
};

/* Names that do not exist. */
static const struct refuse refuse_unknown[] = {
    {"strems: {}\n", "f:1:1: unknown key `strems`; did you mean `streams`?"},
    {"colour: red\n",
     "f:1:1: unknown key `colour`; expected one of node, http, auth, limits, log, checkpoint, cluster, stores, sinks, lookups, streams, rules"},
    {"node: { shrads: 2 }\n", "f:1:9: unknown key `shrads` in node; did you mean `shards`?"},
    {"http:\n  lisen: 1\n", "f:2:3: unknown key `lisen` in http; did you mean `listen`?"},
    {"http: { tls: { cert: x } }\n",
     "f:1:16: unknown key `cert` in http.tls; did you mean `cert_file`?"},
    {"limits: { body_size: 1 }\n",
     "f:1:11: unknown key `body_size` in limits; did you mean `body`?"},
    {"log: { snyc: group }\n", "f:1:8: unknown key `snyc` in log; did you mean `sync`?"},
    {"auth: { token: {} }\n", "f:1:9: unknown key `token` in auth; did you mean `tokens`?"},
    {TOKEN("sha: x"), "f:1:24: unknown key `sha` in auth.tokens.NAME; did you mean `sha256`?"},
    {STREAM("dedupe: {}"), "f:1:33: unknown key `dedupe` in streams.NAME; did you mean `dedup`?"},
    {STREAM("dedup: { horizn: 1h }"),
     "f:1:42: unknown key `horizn` in streams.NAME.dedup; did you mean `horizon`?"},
    {STREAM("watermark: { lag: 1s }"),
     "f:1:46: unknown key `lag` in streams.NAME.watermark; expected one of out_of_orderness, "
     "idle_timeout, max_future, source"},
    {"streams: { s: { id: i, time: { field: t, fmt: ms } } }\n",
     "f:1:42: unknown key `fmt` in streams.NAME.time; expected one of field, format"},
    {RULE("form: s"), "f:2:15: unknown key `form` in rules.NAME; did you mean `from`?"},
    {RULE(FULL ", windows: 1"),
     "f:2:69: unknown key `windows` in rules.NAME; did you mean `window`?"},
    {RULE("from: s, window: { sise: 1m }"),
     "f:2:34: unknown key `sise` in rules.NAME.window; did you mean `size`?"},
    {RULE(FULL ", trigger: { pane: x }"),
     "f:2:80: unknown key `pane` in rules.NAME.trigger; did you mean `panes`?"},
    {RULE(FULL ", groups: { maximum: 1 }"),
     "f:2:79: unknown key `maximum` in rules.NAME.groups; did you mean `max`?"},
    {"Node: {}\n", "f:1:1: unknown key `Node`; did you mean `node`?"},
    {"node: { \"data\\u0007dir\": x }\n",
     "f:1:9: unknown key `data\\x07dir` in node; did you mean `data_dir`?"},
    {"\"\": 1\n",
     "f:1:1: unknown key ``; expected one of node, http, auth, limits, log, checkpoint, cluster, stores, sinks, lookups, streams, rules"},
    {"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa: 1\n",
     "f:1:1: unknown key "
     "`aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa...`; expected one of "
     "node, http, auth, limits, log, checkpoint, cluster, stores, sinks, lookups, streams, rules"},
    {"\xc3\xb6\xc3\xb6\xc3\xb6\xc3\xb6\xc3\xb6\xc3\xb6\xc3\xb6\xc3\xb6\xc3\xb6\xc3\xb6\xc3\xb6\xc3"
     "\xb6\xc3\xb6\xc3\xb6\xc3\xb6\xc3\xb6\xc3\xb6\xc3\xb6\xc3\xb6\xc3\xb6\xc3\xb6\xc3\xb6\xc3\xb6"
     "\xc3\xb6\xc3\xb6\xc3\xb6\xc3\xb6\xc3\xb6\xc3\xb6\xc3\xb6\xc3\xb6\xc3\xb6\xc3\xb6\xc3\xb6\xc3"
     "\xb6\xc3\xb6\xc3\xb6\xc3\xb6\xc3\xb6\xc3\xb6: 1\n",
     "f:1:1: unknown key "
     "`\xc3\xb6\xc3\xb6\xc3\xb6\xc3\xb6\xc3\xb6\xc3\xb6\xc3\xb6\xc3\xb6\xc3\xb6\xc3\xb6\xc3\xb6\xc3"
     "\xb6\xc3\xb6\xc3\xb6\xc3\xb6\xc3\xb6\xc3\xb6\xc3\xb6\xc3\xb6\xc3\xb6\xc3\xb6\xc3\xb6\xc3\xb6"
     "\xc3\xb6\xc3\xb6\xc3\xb6\xc3\xb6\xc3\xb6\xc3\xb6\xc3\xb6\xc3\xb6\xc3\xb6\xc3\xb6\xc3\xb6...`;"
     " expected one of node, http, auth, limits, log, checkpoint, cluster, stores, sinks, lookups, streams, rules"},
};

/* Names that this version does not have. */
static const struct refuse refuse_later[] = {
    {"results: { retain: 30d }\n", "f:1:1: `results`: known, not in this version"},
    {"http: { redirects: true }\n", "f:1:9: `redirects`: known, not in this version"},
    {TOKEN("quota: 1"), "f:1:24: `quota`: known, not in this version"},
    {"stores: { m: { type: postgres } }\n", "f:1:22: `type: postgres`: known, not in this version"},
    {"stores: { m: { type: clickhouse } }\n", "f:1:22: `type: clickhouse`: known, not in this version"},
    {"sinks: { l: { type: postgres } }\n", "f:1:21: `type: postgres`: known, not in this version"},
    {"sinks: { l: { type: clickhouse } }\n", "f:1:21: `type: clickhouse`: known, not in this version"},
    {"sinks: { l: { type: kafka } }\n", "f:1:21: `type: kafka`: known, not in this version"},
    {"sinks: { l: { type: http } }\n", "f:1:21: `type: http`: known, not in this version"},
};

/* Values out of form and bounds, outside of streams and rules. */
static const struct refuse refuse_types[] = {
    {"node: 5\n", "f:1:7: `node`: found `5`; expected a mapping"},
    {"node: [a]\n", "f:1:7: `node`: found a list; expected a mapping"},
    {"streams: x\n", "f:1:10: `streams`: found `x`; expected a mapping"},
    {"streams: {}\n", "f:1:1: `streams` is empty; expected at least one"},
    {"streams:\n", "f:1:1: `streams` is empty; expected at least one"},
    {"rules: 7\n", "f:1:8: `rules`: found `7`; expected a mapping"},
    {"node: { id: [a] }\n", "f:1:13: `id`: found a list; expected a name of a-z 0-9 _ -, not "
                            "beginning with 0-9 or -, at most 64"},
    {"node: { id: {} }\n", "f:1:13: `id`: found a mapping; expected a name of a-z 0-9 _ -, not "
                           "beginning with 0-9 or -, at most 64"},
    {"node: { id: }\n", "f:1:13: `id`: no value; expected a name of a-z 0-9 _ -, not beginning "
                        "with 0-9 or -, at most 64"},
    {"node: { id: \"\" }\n", "f:1:13: `id`: no value; expected a name of a-z 0-9 _ -, not "
                             "beginning with 0-9 or -, at most 64"},
    {"node: { id: Node }\n",
     "f:1:13: `id: Node`; expected a name of a-z 0-9 _ -, not beginning with 0-9 or -, at most 64"},
    {"node: { id: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa }\n",
     "f:1:13: `id: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa`; expected a "
     "name of a-z 0-9 _ -, not beginning with 0-9 or -, at most 64"},
    {"node: { data_dir: \"a\\0b\" }\n", "f:1:19: `data_dir: a\\x00b`; expected a file path"},
    {"node: { shards: 0 }\n", "f:1:17: `shards: 0`; expected auto, or 1 to 64"},
    {"node: { shards: 65 }\n", "f:1:17: `shards: 65`; expected auto, or 1 to 64"},
    {"node: { shards: many }\n", "f:1:17: `shards: many`; expected auto, or 1 to 64"},
    {"node: { shards: -1 }\n", "f:1:17: `shards: -1`; expected auto, or 1 to 64"},
    {"node: { shards: 4294967297 }\n", "f:1:17: `shards: 4294967297`; expected auto, or 1 to 64"},
    {"http: { threads: 99999999999999999999 }\n",
     "f:1:18: `threads: 99999999999999999999`; expected auto, or 1 to 64"},
    {"http: { listen: example.org:80 }\n",
     "f:1:17: `listen: example.org:80`; expected ADDRESS:PORT such as 127.0.0.1:8080, [::1]:8080 "
     "or 0.0.0.0:8080"},
    {"http: { listen: \"::1\" }\n", "f:1:17: `listen: ::1`; expected ADDRESS:PORT such as "
                                    "127.0.0.1:8080, [::1]:8080 or 0.0.0.0:8080"},
    {"http: { listen: \"127.0.0.1:65536\" }\n",
     "f:1:17: `listen: 127.0.0.1:65536`; expected ADDRESS:PORT such as 127.0.0.1:8080, [::1]:8080 "
     "or 0.0.0.0:8080"},
    {"http: { listen: \"127.0.0.1:\" }\n", "f:1:17: `listen: 127.0.0.1:`; expected ADDRESS:PORT "
                                           "such as 127.0.0.1:8080, [::1]:8080 or 0.0.0.0:8080"},
    {"http: { listen: \"1.2.3:80\" }\n", "f:1:17: `listen: 1.2.3:80`; expected ADDRESS:PORT such "
                                         "as 127.0.0.1:8080, [::1]:8080 or 0.0.0.0:8080"},
    {"http: { listen: \"[127.0.0.1]:80\" }\n",
     "f:1:17: `listen: [127.0.0.1]:80`; expected ADDRESS:PORT such as 127.0.0.1:8080, [::1]:8080 "
     "or 0.0.0.0:8080"},
    {"http: { listen: 70000 }\n", "f:1:17: `listen: 70000`; expected ADDRESS:PORT such as "
                                  "127.0.0.1:8080, [::1]:8080 or 0.0.0.0:8080"},
    {"http: { listen: \":8080\" }\n", "f:1:17: `listen: :8080`; expected ADDRESS:PORT such as "
                                      "127.0.0.1:8080, [::1]:8080 or 0.0.0.0:8080"},
    {"http: { listen: [1] }\n", "f:1:17: `listen`: found a list; expected ADDRESS:PORT such as "
                                "127.0.0.1:8080, [::1]:8080 or 0.0.0.0:8080"},
    {"http: { allow_insecure: yes }\n", "f:1:25: `allow_insecure: yes`; expected true or false"},
    {"http: { allow_insecure: ture }\n",
     "f:1:25: `allow_insecure: ture`; expected true or false; did you mean `true`?"},
    {"http: { connections: 0 }\n", "f:1:22: `connections: 0`; expected 1 to 100000"},
    {"http: { header_timeout: 10 }\n",
     "f:1:25: `header_timeout: 10`; expected a duration, 10ms to 1h"},
    {"http: { header_timeout: 2h }\n",
     "f:1:25: `header_timeout: 2h`; expected a duration, 10ms to 1h"},
    {"http: { idle_timeout: off }\n",
     "f:1:23: `idle_timeout: off`; expected a duration, 10ms to 1h"},
    {"http: { body_timeout: 1ms }\n",
     "f:1:23: `body_timeout: 1ms`; expected a duration, 10ms to 1h"},
    {"http: { tls: { cert_file: a } }\n", "f:1:9: `tls` lacks `key_file`; expected a file path"},
    {"http: { tls: { key_file: a } }\n", "f:1:9: `tls` lacks `cert_file`; expected a file path"},
    {"http: { tls: }\n", "f:1:9: `tls` lacks `cert_file`; expected a file path"},
    {"limits: { body: 32Mib }\n", "f:1:17: `body: 32Mib`; expected a size, 1KiB to 1GiB"},
    {"limits: { body: 1.5MiB }\n", "f:1:17: `body: 1.5MiB`; expected a size, 1KiB to 1GiB"},
    {"limits: { body: 1023 }\n", "f:1:17: `body: 1023`; expected a size, 1KiB to 1GiB"},
    {"limits: { body: 2GiB }\n", "f:1:17: `body: 2GiB`; expected a size, 1KiB to 1GiB"},
    {"limits: { body: 99999999999TiB }\n",
     "f:1:17: `body: 99999999999TiB`; expected a size, 1KiB to 1GiB"},
    {"limits: { inflate_ratio: 0 }\n", "f:1:26: `inflate_ratio: 0`; expected 1 to 100000"},
    {"limits: { batch_events: 1000001 }\n",
     "f:1:25: `batch_events: 1000001`; expected 1 to 1000000"},
    {"limits: { event: 63 }\n", "f:1:18: `event: 63`; expected a size, 64 to 1GiB"},
    {"log: { sync: on }\n", "f:1:14: `sync: on`; expected group or off"},
    {"log: { segment: 1KiB }\n", "f:1:17: `segment: 1KiB`; expected a size, 1MiB to 16GiB"},
    {"log: { retain: 59s }\n", "f:1:16: `retain: 59s`; expected off, or a duration, 1m to 3650d"},
    {"log: { retain: 3651d }\n",
     "f:1:16: `retain: 3651d`; expected off, or a duration, 1m to 3650d"},
    {"log: { retain: 0 }\n", "f:1:16: `retain: 0`; expected off, or a duration, 1m to 3650d"},
    {"log: { retain: never }\n",
     "f:1:16: `retain: never`; expected off, or a duration, 1m to 3650d"},
    {"log: { retain_bytes: 2097151 }\n",
     "f:1:22: `retain_bytes: 2097151`; expected off, or a size, 2MiB to 64TiB"},
    {"log: { retain_bytes: 65TiB }\n",
     "f:1:22: `retain_bytes: 65TiB`; expected off, or a size, 2MiB to 64TiB"},
    {"log: { retain_bytes: of }\n",
     "f:1:22: `retain_bytes: of`; expected off, or a size, 2MiB to 64TiB"},
    {"log: { retain_bytes: 18446744073709551615 }\n",
     "f:1:22: `retain_bytes: 18446744073709551615`; expected off, or a size, 2MiB to 64TiB"},
    {"log: { reserve: off }\n", "f:1:17: `reserve: off`; expected a size, 0 to 64TiB"},
    {"checkpoint: { every: 99ms }\n", "f:1:22: `every: 99ms`; expected a duration, 100ms to 1d"},
    {"checkpoint: { every: 25h }\n", "f:1:22: `every: 25h`; expected a duration, 100ms to 1d"},
    {"checkpoint: { every: off }\n", "f:1:22: `every: off`; expected a duration, 100ms to 1d"},
    {"checkpoint: 30s\n", "f:1:13: `checkpoint`: found `30s`; expected a mapping"},
    {"limits: { memory: 15MiB }\n", "f:1:19: `memory: 15MiB`; expected a size, 16MiB to 64TiB"},
};

/* Streams. */
static const struct refuse refuse_streams[] = {
    {"streams: { S: {} }\n",
     "f:1:12: `S` is no name; expected a-z 0-9 _ -, not beginning with 0-9 or -, at most 64"},
    {"streams: { 1a: {} }\n",
     "f:1:12: `1a` is no name; expected a-z 0-9 _ -, not beginning with 0-9 or -, at most 64"},
    {"streams: { s: {} }\n",
     "f:1:12: `s` lacks `time`; expected a field, or a mapping of field and format"},
    {"streams: { s: }\n",
     "f:1:12: `s` lacks `time`; expected a field, or a mapping of field and format"},
    {"streams: { s: [] }\n", "f:1:15: `s`: found a list; expected a mapping"},
    {"streams: { s: { time: t } }\n",
     "f:1:12: `s` lacks `id`; expected the field that names an event, or dedup: { mode: none }"},
    {"streams: { s: { id: i } }\n",
     "f:1:12: `s` lacks `time`; expected a field, or a mapping of field and format"},
    {"streams: { s: { id: [], time: t } }\n",
     "f:1:21: `id`: a list of 0; expected a field, or a list of 1 to 4 such as [source, id]"},
    {"streams: { s: { id: [a, b, c, d, e], time: t } }\n",
     "f:1:21: `id`: a list of 5; expected a field, or a list of 1 to 4 such as [source, id]"},
    {"streams: { s: { id: [[a]], time: t } }\n",
     "f:1:22: `id`: found a list; expected a field, or a list of 1 to 4 such as [source, id]"},
    {"streams: { s: { id: {}, time: t } }\n",
     "f:1:21: `id`: found a mapping; expected a field, or a list of 1 to 4 such as [source, id]"},
    {"streams: { s: { id: a..b, time: t } }\n",
     "f:1:21: `a..b` is no field; expected names with dots between, at most 8 and 256 bytes, such "
     "as data.order.id"},
    {"streams: { s: { id: .a, time: t } }\n",
     "f:1:21: `.a` is no field; expected names with dots between, at most 8 and 256 bytes, such as "
     "data.order.id"},
    {"streams: { s: { id: a., time: t } }\n",
     "f:1:21: `a.` is no field; expected names with dots between, at most 8 and 256 bytes, such as "
     "data.order.id"},
    {"streams: { s: { id: a.b.c.d.e.f.g.h.i, time: t } }\n",
     "f:1:21: `a.b.c.d.e.f.g.h.i` is no field; expected names with dots between, at most 8 and 256 "
     "bytes, such as data.order.id"},
    {"streams: { s: { id: \"a\\nb\", time: t } }\n",
     "f:1:21: `a\\x0ab` is no field; expected names with dots between, at most 8 and 256 bytes, "
     "such as data.order.id"},
    {"streams: { s: { id: [a, a], time: t } }\n", "f:1:25: `a` is here twice"},
    {"streams: { s: { id: a, time: a.b } }\n",
     "f:1:30: `a.b` is used here, and `a` in line 1: a field of stream `s` cannot be both a value "
     "and a mapping"},
    {"streams: { s: { id: [a.b, a.b.c], time: t } }\n",
     "f:1:27: `a.b.c` is used here, and `a.b` in line 1: a field of stream `s` cannot be both a "
     "value and a mapping"},
    {"streams: { s: { id: i, time: {} } }\n",
     "f:1:24: `time` lacks `field`; expected a field such as time or data.order.id"},
    {"streams: { s: { id: i, time: { field: [t] } } }\n",
     "f:1:39: `field`: found a list; expected a field such as time or data.order.id"},
    {"streams: { s: { id: i, time: { field: t, format: msec } } }\n",
     "f:1:50: `format: msec`; expected rfc3339, s, ms, us or ns"},
    {"streams: { s: { id: i, time: { field: t, format: minutes } } }\n",
     "f:1:50: `format: minutes`; expected rfc3339, s, ms, us or ns"},
    {"streams: { s: { id: i, time: [t] } }\n",
     "f:1:30: `time`: found a list; expected a field, or { field: NAME, format: ms }"},
    {STREAM("missing_id: drop"), "f:1:45: `missing_id: drop`; expected reject or accept"},
    {STREAM("missing_time: arival"),
     "f:1:47: `missing_time: arival`; expected arrival or reject; did you mean `arrival`?"},
    {STREAM("dedup: { mode: exat }"),
     "f:1:48: `mode: exat`; expected exact, bloom, redis, observe or none; did you mean `exact`?"},
    {STREAM("dedup: { mode: [exact] }"),
     "f:1:48: `mode`: found a list; expected exact, bloom, redis, observe or none"},
    {STREAM("dedup: { horizon: 999ms }"),
     "f:1:51: `horizon: 999ms`; expected a duration, 1s to 3650d"},
    {STREAM("dedup: { horizon: 3651d }"),
     "f:1:51: `horizon: 3651d`; expected a duration, 1s to 3650d"},
    {STREAM("dedup: { horizon: 1 day }"),
     "f:1:51: `horizon: 1 day`; expected a duration, 1s to 3650d"},
    {STREAM("dedup: { ids: 0 }"), "f:1:47: `ids: 0`; expected 1 to 100000000000"},
    {STREAM("dedup: { ids: 10k }"), "f:1:47: `ids: 10k`; expected 1 to 100000000000"},
    {STREAM("dedup: { when_full: evict }"),
     "f:1:53: `when_full: evict`; expected reject or evict_oldest; did you mean `evict_oldest`?"},
    {STREAM("dedup: { error: 1e-4 }"), "f:1:42: `error`: only mode bloom has one"},
    {STREAM("dedup: { mode: bloom, error: 1e-6 }"),
     "f:1:62: `error: 1e-6`; expected 0.00001 to 0.1"},
    {STREAM("dedup: { mode: bloom, error: 0x1p-9 }"),
     "f:1:62: `error: 0x1p-9`; expected 0.00001 to 0.1"},
    {STREAM("dedup: { mode: bloom, error: nan }"), "f:1:62: `error: nan`; expected 0.00001 to 0.1"},
    {STREAM("dedup: { mode: none, horizon: 1h }"),
     "f:1:54: `horizon`: it means nothing with mode none"},
    {STREAM("dedup: { mode: observe, error: 1e-4 }"), "f:1:57: `error`: only mode bloom has one"},
    {STREAM("watermark: { idle_timeout: 999ms }"),
     "f:1:60: `idle_timeout: 999ms`; expected off, or a duration, 1s to 3650d"},
    {STREAM("watermark: { idle_timeout: of }"),
     "f:1:60: `idle_timeout: of`; expected off, or a duration, 1s to 3650d"},
    {STREAM("watermark: { out_of_orderness: off }"),
     "f:1:64: `out_of_orderness: off`; expected a duration, 0s to 3650d"},
    {STREAM("watermark: { max_future: -1s }"),
     "f:1:58: `max_future: -1s`; expected a duration, 0s to 3650d"},
    {STREAM("watermark: 5s"), "f:1:44: `watermark`: found `5s`; expected a mapping"},
};

/* Rules. */
static const struct refuse refuse_rules[] = {
    {RULE("from: s"), "f:2:10: `r` lacks `window`; expected a mapping"},
    {RULE("from: s, window: {}, metrics: { n: count }"),
     "f:2:24: `window` lacks `size`; expected a duration, 1ms to 3650d"},
    {RULE("from: s, window: { size: 1m }"),
     "f:2:10: `r` lacks `metrics`; expected a mapping NAME: metric, 1 to 64"},
    {RULE("from: s, window: { size: 1m }, metrics: {}"),
     "f:2:46: `metrics` is empty; expected at least one, such as views: count"},
    {RULE("window: { size: 1m }, metrics: { n: count }"),
     "f:2:10: `r` lacks `from`; expected a stream, or a list of up to 8"},
    {RULE("from: t"), "f:2:21: `t` is no stream; expected one of those under `streams`"},
    {"streams: { clicks: { id: i, time: t } }\nrules: { r: { from: click } }\n",
     "f:2:21: `click` is no stream; did you mean `clicks`?"},
    {RULE("from: []"), "f:2:21: `from`: a list of 0; expected a stream, or a list of up to 8 such as [clicks, views]"},
    {RULE("from: [s, s]"), "f:2:25: `s` is here twice"},
    {RULE("from: {}"), "f:2:21: `from`: found a mapping; expected a stream, or a list of up to 8 such as [clicks, views]"},
    {RULE("group_by: [a, b, c, d, e, f, g, h, i]"),
     "f:2:25: `group_by`: a list of 9; expected a field, or a list of up to 8 such as [country]"},
    {RULE("group_by: [a, \"\"]"),
     "f:2:29: `group_by`: no value; expected a field, or a list of up to 8 such as [country]"},
    {RULE("group_by: {}"), "f:2:25: `group_by`: found a mapping; expected a field, or a list of up "
                           "to 8 such as [country]"},
    {RULE(FULL ", group_by: [a, b, a]"), "f:2:86: `a` is a result column of `r` already (upper and "
                                         "lower case are one); expected another name"},
    {RULE(FULL ", group_by: [n]"), "f:2:57: `n` is a result column of `r` already (upper and lower "
                                   "case are one); expected another name"},
    {RULE(FULL ", group_by: [A, a]"), "f:2:83: `a` is a result column of `r` already (upper and "
                                      "lower case are one); expected another name"},
    {RULE(FULL ", group_by: [events]"),
     "f:2:80: `events` is a column of every result; expected another name"},
    {RULE(FULL ", group_by: [Final]"),
     "f:2:80: `Final` is a column of every result; expected another name"},
    {RULE(FULL ", group_by: [_x]"),
     "f:2:80: `_x`: names of result columns that begin with _ are kept for millrace"},
    {RULE(FULL ", group_by: [i.x]"), "f:2:80: `i.x` is used here, and `i` in line 1: a field of "
                                     "stream `s` cannot be both a value and a mapping"},
    {RULE(FULL ", group_by: [a.b, a]"), "f:2:85: `a` is used here, and `a.b` in line 2: a field of "
                                        "stream `s` cannot be both a value and a mapping"},
    {RULE(FULL ", group_by: [a..b]"), "f:2:80: `a..b` is no field; expected names with dots "
                                      "between, at most 8 and 256 bytes, such as data.order.id"},
    {RULE("from: s, window: { size: 1m }, metrics: { revision: count }"),
     "f:2:57: `revision` is a column of every result; expected another name"},
    {RULE("from: s, window: { size: 1m }, metrics: { window_start: count }"),
     "f:2:57: `window_start` is a column of every result; expected another name"},
    {RULE("from: s, window: { size: 1m }, metrics: { _n: count }"),
     "f:2:57: `_n`: names of result columns that begin with _ are kept for millrace"},
    {RULE("from: s, window: { size: 1m }, metrics: { N: count }"),
     "f:2:57: `N` is no name; expected a-z 0-9 _ -, not beginning with 0-9 or -, at most 64"},
    {RULE("from: s, window: { size: 1m }, metrics: { n: { sum: t.x } }"),
     "f:2:67: `t.x` is used here, and `t` in line 1: a field of stream `s` cannot be both a value "
     "and a mapping"},
    {RULE("from: s, window: { size: 1m }, group_by: n, metrics: { n: { sum: x } }"),
     "f:2:70: `n` is a result column of `r` already (upper and lower case are one); expected "
     "another name"},
    {RULE("metrics: { n: sum }"), "f:2:29: `n: sum`: of which field? expected { sum: FIELD }"},
    {RULE("metrics: { n: cuont }"),
     "f:2:29: `n: cuont`; expected count, or a function such as { sum: FIELD }; did you mean "
     "`count`?"},
    {RULE("metrics: { n: { count: x } }"),
     "f:2:38: `count: x`; expected count: events, with `where` or `from` beside it"},
    {RULE("metrics: { n: { smu: x } }"),
     "f:2:31: unknown key `smu` in rules.NAME.metrics.NAME; did you mean `sum`?"},
    {RULE("metrics: { n: { sum: x, min: x } }"),
     "f:2:39: `min` beside `sum`; expected one function"},
    {RULE("metrics: { n: {} }"),
     "f:2:29: `n` has no function; expected count, or a function such as { sum: FIELD }"},
    {RULE("metrics: { n: [count] }"),
     "f:2:29: `n`: found a list; expected count, or a function such as { sum: FIELD }"},
    {RULE("metrics: { n: { sum: [x] } }"), "f:2:36: `sum`: found a list; expected a field"},
    {RULE("metrics: { n: { sum: } }"), "f:2:36: `sum`: no value; expected a field"},
    {RULE("metrics: { n: }"), "f:2:29: `n`: no value; expected count, or a function such as { "
                              "sum: FIELD }"},
    {RULE("metrics: { n: { sum: a..b } }"),
     "f:2:36: `a..b` is no field; expected names with dots between, at most 8 and 256 bytes, such "
     "as data.order.id"},
    {RULE(FULL ", window: {}"), "f:2:69: `window` is here twice; the first is in line 2"},
    {RULE("window: { type: tumblng, size: 1m }"),
     "f:2:31: `type: tumblng`; expected tumbling, sliding, session or global; did you mean `tumbling`?"},
    {RULE("window: { size: 0s }"), "f:2:31: `size: 0s`; expected a duration, 1ms to 3650d"},
    {RULE("window: 1m"), "f:2:23: `window`: found `1m`; expected a mapping"},
    {RULE("allowed_lateness: 36501d"),
     "f:2:33: `allowed_lateness: 36501d`; expected a duration, 0s to 36500d"},
    {RULE("allowed_lateness: soon"),
     "f:2:33: `allowed_lateness: soon`; expected a duration, 0s to 36500d"},
    {RULE("groups: { max: 0 }"), "f:2:30: `max: 0`; expected 1 to 1000000000"},
    {RULE("groups: { bytes: 1KiB }"), "f:2:32: `bytes: 1KiB`; expected a size, 64KiB to 16TiB"},
    {RULE("groups: { when_full: othre }"),
     "f:2:36: `when_full: othre`; expected other or drop; did you mean `other`?"},
    {RULE("trigger: { late: maybe }"), "f:2:32: `late: maybe`; expected true or false"},
    {"streams: { s: { id: i, time: t } }\nrules: { Bad: {} }\n",
     "f:2:10: `Bad` is no name; expected a-z 0-9 _ -, not beginning with 0-9 or -, at most 64"},
    {"rules: { r: { from: event } }\n", "f:1:21: `event` is no stream; did you mean `events`?"},
};

/* Two settings that do not go together. */
static const struct refuse refuse_cross[] = {
    {"http: { listen: 0.0.0.0:8080 }\n",
     "f:1:17: `listen: 0.0.0.0` reaches beyond this machine without `auth.tokens`; set it, or "
     "http.allow_insecure: true"},
    {"http: { listen: \"[::]:8080\" }\n",
     "f:1:17: `listen: ::` reaches beyond this machine without `auth.tokens`; set it, or "
     "http.allow_insecure: true"},
    {"http: { listen: 0.0.0.0, tls: { cert_file: c, key_file: k } }\n",
     "f:1:17: `listen: 0.0.0.0` reaches beyond this machine without `auth.tokens`; set it, or "
     "http.allow_insecure: true"},
    {"http: { listen: 10.0.0.1:80 }\nauth: { tokens: { a: { sha256: \"" HASH
     "\", allow: [ingest] } } }\n",
     "f:1:17: `listen: 10.0.0.1` reaches beyond this machine without `http.tls`; set it, or "
     "http.allow_insecure: true"},
    {"http: { connections: 10, connections_per_address: 11 }\n",
     "f:1:51: `connections_per_address` 11 is over `connections` 10"},
    {"limits: { body: 65MiB }\n",
     "f:1:17: `body` 65MiB is over `inflated` 64MiB; expected at most that"},
    {"limits: { inflated: 16MiB }\n",
     "f:1:21: `body` 32MiB is over `inflated` 16MiB; expected at most that"},
    {"limits: { in_flight: 64MiB }\n", "f:1:22: `in_flight` 64MiB has no room for one largest "
                                       "request; expected at least `body` + `inflated`, 96MiB"},
    {"limits: { inflated: 225MiB }\n", "f:1:21: `in_flight` 256MiB has no room for one largest "
                                       "request; expected at least `body` + `inflated`, 257MiB"},
    {"limits: { memory: 128MiB }\n", "f:1:19: `memory` 128MiB is less than `in_flight` 256MiB"},
    {"limits: { in_flight: 5GiB }\n", "f:1:22: `memory` 4GiB is less than `in_flight` 5GiB"},
    {"log: { segment: 64MiB }\n", "f:1:17: `log.segment` 64MiB has no room for one largest record; "
                                  "expected at least `limits.inflated` + 1MiB, 65MiB"},
    {"log: { retain_bytes: 255MiB }\n",
     "f:1:22: `log.retain_bytes` 255MiB has no room for two segments; expected at least 2 x "
     "`log.segment`, 256MiB, or off"},
    {"log: { retain_bytes: 268435455 }\n",
     "f:1:22: `log.retain_bytes` 268435455 has no room for two segments; expected at least 2 x "
     "`log.segment`, 256MiB, or off"},
    {"limits: { body: 1MiB, inflated: 1MiB }\nlog: { segment: 4MiB, retain_bytes: 7MiB }\n",
     "f:2:37: `log.retain_bytes` 7MiB has no room for two segments; expected at least 2 x "
     "`log.segment`, 8MiB, or off"},
    {"limits: { inflated: 128MiB }\n",
     "f:1:21: `log.segment` 128MiB has no room for one largest record; expected at least "
     "`limits.inflated` + 1MiB, 129MiB"},
};

/* Tokens. */
static const struct refuse refuse_tokens[] = {
    {TOKEN("allow: [ingest]"),
     "f:1:19: `a` has neither; expected one of `sha256` and `sha256_file`"},
    {TOKEN("sha256: secret, allow: [ingest]"),
     "f:1:32: `sha256`: expected 64 hexadecimal digits: the SHA-256 of the token, not the token"},
    {TOKEN("sha256: \"" HASH "\""),
     "f:1:19: `a` lacks `allow`; expected a list of ingest, query, admin"},
    {TOKEN("sha256: \"" HASH "\", allow: []"),
     "f:1:107: `allow`: a list of 0; expected a list of ingest, query, admin"},
    {TOKEN("sha256: \"" HASH "\", allow: [read]"),
     "f:1:108: `allow: read`; expected a list of ingest, query, admin"},
    {TOKEN("sha256: \"" HASH "\", allow: [ingst]"),
     "f:1:108: `allow: ingst`; expected a list of ingest, query, admin; did you mean `ingest`?"},
    {TOKEN("sha256: \"" HASH "\", allow: {}"),
     "f:1:107: `allow`: found a mapping; expected a list of ingest, query, admin"},
    {TOKEN("sha256: \"" HASH "\", allow: [query], streams: [event]"),
     "f:1:126: `event` is no stream; did you mean `events`?"},
    {TOKEN("sha256: \"" HASH "\", allow: [query], streams: [zzzzz]"),
     "f:1:126: `zzzzz` is no stream; expected one of those under `streams`"},
    {TOKEN("sha256: \"" HASH "\", allow: [query], streams: []"),
     "f:1:125: `streams`: a list of 0; expected a list of streams; left out, it is all of them"},
    {TOKEN("sha256: \"" HASH "\", allow: [query], streams: [events, events]"),
     "f:1:134: `events` is here twice"},
    {TOKEN("sha256_file: /nonexistent/token, allow: [query]"),
     "f:1:37: `sha256_file: /nonexistent/token`: cannot be read: not found"},
    {TOKEN("sha256: \"" HASH "\", sha256_file: /nonexistent/token, allow: [query]"),
     "f:1:113: `sha256_file: /nonexistent/token`: cannot be read: not found"},
    {"auth: { tokens: { a: { sha256: \"" HASH "\", allow: query }, b: { sha256: \"" HASH_UPPER
     "\", allow: query } } }\n",
     "f:1:116: `b` is the same secret as `a`; expected one each"},
    {"auth: { tokens: { A: {} } }\n",
     "f:1:19: `A` is no name; expected a-z 0-9 _ -, not beginning with 0-9 or -, at most 64"},
    {"auth: { tokens: 5 }\n", "f:1:17: `tokens`: found `5`; expected a mapping"},
    {TOKEN("sha256: [a], allow: query"),
     "f:1:32: `sha256`: found a list; expected 64 hexadecimal digits"},
    {TOKEN("sha256: \"" HASH "g\", allow: query"),
     "f:1:32: `sha256`: expected 64 hexadecimal digits: the SHA-256 of the token, not the token"},
    {TOKEN("sha256_file: \"\", allow: query"),
     "f:1:37: `sha256_file`: no value; expected a file path"},
};

/* Variables: NAME=n1, EMPTY=, A=1, TRICK with a line of YAML, BINARY not UTF-8. */
static const struct refuse refuse_environment[] = {
    {"node: { id: \"${MISSING}\" }\n",
     "f:1:13: environment variable `MISSING` is not set; set it, or write ${MISSING:-default}"},
    {"node: { id: \"${MISSING:?set the node name}\" }\n",
     "f:1:13: environment variable `MISSING`: set the node name"},
    {"node: { id: \"${EMPTY:?}\" }\n", "f:1:13: environment variable `EMPTY`: not set"},
    {"node: { id: \"${EMPTY}\" }\n", "f:1:13: `id`: no value; expected a name of a-z 0-9 _ -, not "
                                     "beginning with 0-9 or -, at most 64"},
    {"node: { id: \"${NAME\" }\n", "f:1:13: `${` without its `}` ($$ is a dollar)"},
    {"node: { id: \"${}\" }\n", "f:1:13: `${}` is no variable; expected ${NAME}, ${NAME:-default} "
                                "or ${NAME:?message} ($$ is a dollar)"},
    {"node: { id: \"${1A}\" }\n", "f:1:13: `${1A}` is no variable; expected ${NAME}, "
                                  "${NAME:-default} or ${NAME:?message} ($$ is a dollar)"},
    {"node: { id: \"${A-b}\" }\n", "f:1:13: `${A-b}` is no variable; expected ${NAME}, "
                                   "${NAME:-default} or ${NAME:?message} ($$ is a dollar)"},
    {"node: { id: \"${A:=b}\" }\n", "f:1:13: `${A:=b}` is no variable; expected ${NAME}, "
                                    "${NAME:-default} or ${NAME:?message} ($$ is a dollar)"},
    {"node: { id: \"${MISSING:-${NAME}}\" }\n",
     "f:1:13: a variable inside `${MISSING:-...}`; they do not nest"},
    {"node: { id: \"a$$b\" }\n",
     "f:1:13: `id: a$b`; expected a name of a-z 0-9 _ -, not beginning with 0-9 or -, at most 64"},
    {"node: { id: \"a$b\" }\n",
     "f:1:13: `id: a$b`; expected a name of a-z 0-9 _ -, not beginning with 0-9 or -, at most 64"},
    {"node: { shards: \"${TRICK}\" }\n",
     "f:1:17: `shards: 2\\x0ahttp: { threads: 3 }`; expected auto, or 1 to 64"},
    {"node: { id: \"${BINARY}\" }\n", "f:1:13: environment variable `BINARY` is not UTF-8 text"},
    {"\"${NAME}\": 1\n",
     "f:1:1: unknown key `${NAME}`; expected one of node, http, auth, limits, log, checkpoint, cluster, stores, sinks, lookups, streams, rules"},
    {"node: { id: ${MISSING:-other} }\n",
     "f:1:14: not YAML: while parsing a flow mapping, did not find expected ',' or '}' (inside { } "
     "or [ ], quote \"${...}\")"},
    {"node: [\n", "f:2:1: not YAML: while parsing a flow node, did not find expected node content"},
    {"http: ${EMPTY}\n", "f:1:7: `http`: found ``; expected a mapping"},
    {"node: { id: \"${MISSING:-}\" }\n", "f:1:13: `id`: no value; expected a name of a-z 0-9 _ -, "
                                         "not beginning with 0-9 or -, at most 64"},
    {"streams: { s: { id: i, time: \"${TRICK}\" } }\n",
     "f:1:30: `2\\x0ahttp: { threads: 3 }` is no field; expected names with dots between, at most "
     "8 and 256 bytes, such as data.order.id"},
};
