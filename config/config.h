/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Config: the settings of a process, loaded from YAML, checked, with every default filled in.
 *
 * Idea        One table of options (config/options.h) says name, type, bounds, default, unit and meaning;
 *             loading, checking, `did you mean`, `millrace check`, --help and docs/CONFIG.md come from it.
 * Units       _ms, _bytes as named.
 * Owner       mr_config owns everything it points to, in one arena, until mr_config_close.
 * Threads     Constant after load.
 * Errors      MR_INVALID with `file:line:col: what; expected what` (and `did you mean`), the first one
 *             found. A key of API.md that this version lacks: MR_UNSUPPORTED, "known, not in this version".
 *             MR_NOT_FOUND, MR_IO for the file itself, MR_LIMIT where it is too large (1 MiB, 100,000 values; its
 *             streams and rules with every default written out 1 MiB, so that they can be read back).
 *
 * Left out    Without `streams`: the built-in stream `events`. Without `streams` and `rules`: the built-in
 *             rule too. A file of comments only is the built-in configuration. Streams need `time`, and `id`
 *             but with dedup mode none; rules need `from`, `window.size` and one metric; tokens need `allow`
 *             and one of sha256, sha256_file; stores need `type` and `nodes`; sinks need `type` and `store`; a cluster needs
 *             `name` and one of secret, secret_file. A *_file that is no certificate is read at load, relative to the working directory.
 *
 * Secrets     stand in no message and in nothing printed. Tokens are known by their hash only. The cluster's secret and
 *             the stores' passwords are kept, and printed as the file they came from (secret_file, password_file), which
 *             reads back; one that stood in the configuration itself is printed as `secret: (set)`, which is
 *             refused when it is read: whoever wants the printed file to be one puts secrets in files.
 *
 * Invariants  What the rest of the program may rely on after a load:
 *             I1 limits: body <= inflated; body + inflated <= in_flight <= memory, so that one largest request
 *                is always let in; inflated + 1 MiB <= log.segment, so that its record fits in a segment;
 *                2 x log.segment <= log.retain_bytes.
 *             I2 Beyond loopback there are tokens and TLS, or http.allow_insecure. http.host is an address.
 *             I3 Of the paths that a stream's id, time, group_by and metrics use, none is the parent of
 *                another; at most MR_FIELDS_MAX (path, as key or number) columns over all its rules.
 *             I4 A rule's group_by paths and metric names differ, also without case, from each other and from
 *                window_start, window_end, window_start_ms, window_end_ms, events, revision and final; none
 *                begins with _.
 *             I5 No two tokens have the same hash.
 *             I6 Durations are at most 36,500 days, so that a few of them and a time add up in an int64.
 *             I7 With a stream of dedup mode redis there is a cluster.name, a cluster.secret of 16 bytes or more, and
 *                node.id was given; without one there is no cluster. (Not so for mr_config_parse_state.)
 *             I8 A store has 1 to 32 different nodes, HOST:PORT or [IPV6]:PORT, exactly one unless it is a cluster. A user
 *                has a password. A TLS certificate has a key.
 *             I9 A sink has a prefix: where none was given it names this node. A rule's sinks are different ones.
 */
#include "base/bytes.h"
#include "base/limits.h"

#define MR_SINKS_MAX 8 /* each has a thread and a reader of the results */

enum mr_config_dedup {
    MR_CONFIG_EXACT,
    MR_CONFIG_BLOOM,
    MR_CONFIG_OBSERVE,
    MR_CONFIG_NONE,
    MR_CONFIG_REDIS, /* strict across nodes: claims in a store */
};
enum mr_config_layout { MR_CONFIG_BUCKET, MR_CONFIG_KEY };
/* While the store of claims is away, or is not strict: refuse events (503), take them and decide later, or let this
 * node's own table decide. */
enum mr_config_outage { MR_CONFIG_OUTAGE_REJECT, MR_CONFIG_OUTAGE_HOLD, MR_CONFIG_OUTAGE_LOCAL };
enum mr_config_when_full { MR_CONFIG_REJECT, MR_CONFIG_EVICT_OLDEST };
enum mr_config_time { MR_CONFIG_RFC3339, MR_CONFIG_S, MR_CONFIG_MS, MR_CONFIG_US, MR_CONFIG_NS };
enum mr_config_metric {
    MR_CONFIG_COUNT,
    MR_CONFIG_SUM,
    MR_CONFIG_MIN,
    MR_CONFIG_MAX,
    MR_CONFIG_AVG,
};
enum mr_config_groups_full { MR_CONFIG_OTHER, MR_CONFIG_DROP };

enum mr_right { MR_RIGHT_INGEST = 1, MR_RIGHT_QUERY = 2, MR_RIGHT_ADMIN = 4 };

struct mr_config_token {
    struct mr_bytes name;
    uint8_t sha256[32];
    uint32_t rights; /* of enum mr_right */
    bool all_streams;
    uint32_t streams[MR_STREAMS_MAX]; /* indexes into mr_config.streams */
    uint32_t stream_count;
};

struct mr_config_stream {
    struct mr_bytes name;
    struct mr_bytes id[MR_ID_PARTS_MAX]; /* dotted paths; the last is the id proper */
    uint32_t id_parts;                   /* 0 only with dedup none */
    bool reject_missing_id;
    struct mr_bytes time_field;
    enum mr_config_time time_format;
    bool reject_missing_time; /* else: arrival time */
    struct {
        enum mr_config_dedup mode;
        enum mr_config_when_full when_full;
        int64_t horizon_ms;
        uint64_t ids; /* over all shards */
        double error; /* bloom */
        uint32_t store; /* redis: index into mr_config.stores */
        enum mr_config_layout layout;
        enum mr_config_outage outage;
    } dedup;
    struct {
        int64_t out_of_orderness_ms;
        int64_t idle_timeout_ms; /* INT64_MAX: off, the watermark waits for events */
        int64_t max_future_ms;
    } watermark;
};

/* A Redis server or cluster. */
struct mr_config_store {
    struct mr_bytes name;
    struct mr_bytes nodes[MR_STORE_NODES_MAX]; /* "host:port", "[v6]:port" */
    uint32_t node_count;
    bool cluster;       /* Redis Cluster; else exactly one node */
    bool assume_strict; /* a managed service: what cannot be asked is taken to be right */
    int64_t timeout_ms;
    int64_t recent_ms;  /* so far back claims are asserted again after a restart or failover of Redis */
    struct mr_bytes user;
    struct mr_bytes password;      /* empty: none */
    struct mr_bytes password_file; /* where it was read; empty: in the configuration */
    bool tls;
    struct mr_bytes tls_ca_file; /* empty: the system's; the other two: none */
    struct mr_bytes tls_cert_file;
    struct mr_bytes tls_key_file;
};

/* Where results are sent to besides the results store: hashes in a store. */
struct mr_config_sink {
    struct mr_bytes name;
    uint32_t store;         /* index into mr_config.stores */
    struct mr_bytes prefix; /* of every key */
    int64_t ttl_ms;         /* INT64_MAX: off, they stay */
};

struct mr_config_metric_def {
    struct mr_bytes name;
    enum mr_config_metric kind;
    struct mr_bytes field; /* dotted path; empty for count */
};

struct mr_config_rule {
    struct mr_bytes name;
    uint32_t stream; /* index into mr_config.streams */
    struct mr_bytes group_by[MR_RULE_KEYS_MAX];
    uint32_t group_by_count;
    int64_t window_size_ms; /* tumbling */
    int64_t allowed_lateness_ms;
    struct mr_config_metric_def metrics[MR_RULE_METRICS_MAX];
    uint32_t metric_count;
    struct {
        uint64_t max;
        uint64_t bytes; /* memory for the rule's open groups */
        enum mr_config_groups_full when_full;
    } groups;
    uint32_t sinks[MR_SINKS_MAX]; /* indexes into mr_config.sinks; no part of the state */
    uint32_t sink_count;
};

struct mr_config {
    struct {
        struct mr_bytes id;
        struct mr_bytes data_dir;
        uint32_t shards; /* auto is resolved: at least 1 */
    } node;
    struct {
        struct mr_bytes host; /* as in http.listen, without brackets */
        uint16_t port;        /* 0: any free one, said at start */
        uint32_t threads;     /* auto is resolved */
        bool tls;
        struct mr_bytes tls_cert_file;
        struct mr_bytes tls_key_file;
        bool allow_insecure;  /* listen beyond loopback without tokens or without TLS */
        uint32_t connections;
        uint32_t connections_per_address;
        int64_t header_timeout_ms;
        int64_t body_timeout_ms;
        int64_t idle_timeout_ms;
    } http;
    struct {
        struct mr_config_token *tokens;
        uint32_t token_count; /* 0: no authentication */
    } auth;
    struct {
        uint64_t body_bytes;
        uint64_t inflated_bytes;
        uint32_t inflate_ratio;
        uint64_t event_bytes;
        uint32_t batch_events;
        uint64_t in_flight_bytes;
        uint64_t memory_bytes; /* the whole process: `check` and `serve` refuse a larger sum */
    } limits;
    struct {
        bool sync;
        uint64_t segment_bytes;
        uint64_t reserve_bytes; /* of disk, kept free */
        int64_t retain_ms;      /* keep records this long, longer where a checkpoint needs them; INT64_MAX: for ever */
        uint64_t retain_bytes;  /* and at most so much, less only where a checkpoint needs more; UINT64_MAX: no bound */
    } log;
    struct {
        int64_t every_ms;
    } checkpoint;
    struct {
        struct mr_bytes name;   /* empty: this node is alone */
        struct mr_bytes secret; /* all nodes have the same; fingerprints depend on it */
        struct mr_bytes secret_file; /* where it was read; empty: in the configuration */
    } cluster;
    struct mr_config_store *stores;
    uint32_t store_count;
    struct mr_config_sink *sinks;
    uint32_t sink_count;
    struct mr_config_stream *streams;
    uint32_t stream_count;
    struct mr_config_rule *rules;
    uint32_t rule_count;
    struct mr_bytes source; /* the file's name, or "built-in defaults" */
    void *arena;
};

/* Loads path; NULL loads the built-in defaults (one stream `events`, one rule). environment: NULL-ended
 * NAME=value list for ${VAR}; pass `environ`. */
enum mr_status mr_config_load(const char *path, char *const *environment, struct mr_config **ret,
                              struct mr_error *error) MR_MUST_CHECK;
/* The same from memory; name stands in messages. */
enum mr_status mr_config_parse(struct mr_bytes yaml, const char *name, char *const *environment,
                               struct mr_config **ret, struct mr_error *error) MR_MUST_CHECK;
void mr_config_close(struct mr_config *config);

/* The effective configuration as YAML that mr_config_parse reads back to the same, where secrets come from files. */
void mr_config_print(const struct mr_config *config, struct mr_buf *ret);

/* All options with defaults, bounds and meaning: for `millrace help config` and docs/CONFIG.md (markdown). */
void mr_config_help(struct mr_buf *ret, bool markdown);

/* Whether this node remembers ids of the stream: what dedup.ids and when_full are for. */
bool mr_config_keeps_ids(const struct mr_config_stream *stream);

/* Index of the stream, rule or store of that name, or UINT32_MAX. */
uint32_t mr_config_stream_index(const struct mr_config *config, struct mr_bytes name);
uint32_t mr_config_rule_index(const struct mr_config *config, struct mr_bytes name);
uint32_t mr_config_store_index(const struct mr_config *config, struct mr_bytes name);

/* Whether the rule's results go to that sink. */
bool mr_config_rule_has_sink(const struct mr_config_rule *rule, uint32_t sink);
