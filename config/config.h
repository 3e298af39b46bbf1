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
 *             but with dedup mode none; rules need `from`, `window` and one metric; tokens need `allow`
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
 *             I3 Of the paths that a stream's id, time, source, group_by and metrics use, none is the parent of
 *                another; at most MR_FIELDS_MAX (path or derived field, as key or number) columns over all its rules. A
 *                derived field is no path: it hides a field of its name, and is none of id, time and source. What
 *                expressions read is checked where they are compiled.
 *             I4 A rule's group_by paths and metric names differ, also without case, from each other and from
 *                window_start, window_end, window_start_ms, window_end_ms, events, revision, final, pane,
 *                pane_index and timing; none begins with _.
 *             I5 No two tokens have the same hash.
 *             I6 Durations are at most 36,500 days, so that a few of them and a time add up in an int64.
 *             I7 With a stream of dedup mode redis there is a cluster.name, a cluster.secret of 16 bytes or more, and
 *                node.id was given; without one there is no cluster. (Not so for mr_config_parse_state.)
 *             I8 A store has 1 to 32 different nodes, HOST:PORT or [IPV6]:PORT, exactly one unless it is a cluster. A user
 *                has a password. A TLS certificate has a key.
 *             I9 A sink has a prefix: where none was given it names this node. A rule's sinks are different ones.
 *             I10 A rule has 1 to MR_RULE_INPUTS_MAX different streams, a metric's `from` is one of them. A ratio is
 *                over two different metrics of its rule that are numbers and no ratios. Windows, triggers and the
 *                parameters of metrics are as the comments at their fields say; a sliding window has an event in at
 *                most MR_EVENT_WINDOWS_MAX, and one that is kept as slices has at most as many of them, no early
 *                trigger, and no more than MR_EVENT_WINDOWS_WHOLE windows within lateness; a global one has an early
 *                trigger. Expressions are not empty, at most MR_EXPR_LEN_MAX bytes, and not compiled.
 */
#include "base/bytes.h"
#include "base/limits.h"

#define MR_SINKS_MAX 8 /* each has a thread and a reader of the results */
#define MR_LOOKUPS_MAX 16
#define MR_LOOKUP_BYTES_MAX (UINT64_C(256) << 20) /* of one file, which is kept in memory */
#define MR_EXPR_LEN_MAX 4096    /* bytes of one expression */
#define MR_EVENT_WINDOWS_WHOLE 1000 /* sliding windows that one event is in; in more only of rules kept as slices */
#define MR_EVENT_WINDOWS_MAX 100000 /* of those: windows that an event is in, and slices that a window is made of */
#define MR_BOUNDS_MAX 64        /* of one histogram */
#define MR_QUANTILES_MAX 16     /* of one metric */

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
    MR_CONFIG_VARIANCE,
    MR_CONFIG_STDDEV,
    MR_CONFIG_FIRST,
    MR_CONFIG_LAST,
    MR_CONFIG_DISTINCT,
    MR_CONFIG_QUANTILES,
    MR_CONFIG_TOP,
    MR_CONFIG_HISTOGRAM,
    MR_CONFIG_COLLECT,
    MR_CONFIG_RATIO, /* of two other metrics of the rule */
};
enum mr_config_window { MR_CONFIG_TUMBLING, MR_CONFIG_SLIDING, MR_CONFIG_SESSION, MR_CONFIG_GLOBAL };
enum mr_config_panes { MR_CONFIG_ACCUMULATING, MR_CONFIG_DISCARDING, MR_CONFIG_RETRACTING };
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

/* As it was written; event/ compiles it. */
struct mr_config_expr {
    struct mr_bytes text; /* empty: none */
    uint32_t line;        /* of the value in the file; 0 in a state text */
    uint32_t column;
};

/* A table of a CSV file that expressions look things up in. */
struct mr_config_lookup {
    struct mr_bytes name;
    struct mr_bytes file; /* relative to the working directory; empty in a state text */
    struct mr_bytes key_column;
    struct mr_bytes value_column;
    struct mr_bytes data; /* the file's bytes; ptr NULL in a state text, which knows their hash alone */
    uint64_t data_len;
    uint64_t data_hash; /* mr_checksum */
};

/* A field that is computed from others. */
struct mr_config_derived {
    struct mr_bytes name;
    struct mr_config_expr expr;
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
        bool conflicts; /* exact: the same id with another content is a dead letter */
    } dedup;
    struct {
        int64_t out_of_orderness_ms;
        int64_t idle_timeout_ms; /* INT64_MAX: off, the watermark waits for events */
        int64_t max_future_ms;
        struct mr_bytes source; /* dotted path: a watermark for each of its values; empty: one for all */
    } watermark;
    struct mr_config_derived *derived; /* in the order of the file */
    uint32_t derived_count;
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
    struct mr_bytes field;       /* dotted path or derived field; empty for count and ratio */
    struct mr_config_expr where; /* of the rule's events only those; empty: all */
    uint32_t from;               /* index into mr_config.streams: of its events only; UINT32_MAX: of all the rule's */
    double params[MR_BOUNDS_MAX]; /* quantiles, or bounds of a histogram, ascending */
    uint32_t param_count;
    uint32_t limit;   /* n of top and collect */
    double error;     /* distinct, quantiles: relative; else 0 */
    uint32_t over[2]; /* ratio: numerator and denominator, indexes into the rule's metrics */
};

struct mr_config_rule {
    struct mr_bytes name;
    uint32_t streams[MR_RULE_INPUTS_MAX]; /* different indexes into mr_config.streams */
    uint32_t stream_count;                /* at least 1 */
    struct mr_config_expr where;
    struct mr_bytes group_by[MR_RULE_KEYS_MAX];
    uint32_t group_by_count;
    struct {
        enum mr_config_window kind;
        int64_t size_ms;   /* tumbling, sliding */
        int64_t every_ms;  /* sliding: at most size_ms */
        int64_t offset_ms; /* tumbling: below size_ms; sliding: below every_ms */
        int64_t gap_ms;    /* session */
        int64_t max_ms;    /* session: at least twice gap_ms; INT64_MAX: off */
        struct mr_bytes time_zone; /* tumbling, of whole days by its calendar; empty: UTC, every day 24 hours */
    } window; /* what the kind has no use for is 0, or empty; max_ms is off */
    int64_t allowed_lateness_ms;
    struct {
        int64_t early_ms;     /* 0: off */
        uint64_t early_count; /* 0: off */
        bool late;
        enum mr_config_panes panes;
    } trigger;
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
    struct mr_config_lookup *lookups;
    uint32_t lookup_count;
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
/* Whether the rule takes events of that stream. */
/* Of sliding windows: the greatest span of time of which windows are made as a whole; and whether an event is in so many
 * that open ones are kept as such slices (aggregate/slices.h). */
int64_t mr_config_rule_slice_ms(const struct mr_config_rule *rule);
bool mr_config_rule_sliced(const struct mr_config_rule *rule);
/* Tests only: rules of more windows an event than this are, instead of MR_EVENT_WINDOWS_WHOLE. No other thread is running. */
void mr_config_slice_above(int64_t windows);
bool mr_config_rule_has_stream(const struct mr_config_rule *rule, uint32_t stream);
/* Whether the metric takes events of that stream, one of its rule's. */
bool mr_config_metric_has_stream(const struct mr_config_metric_def *metric, uint32_t stream);
/* The derived field of that name, or UINT32_MAX. */
uint32_t mr_config_derived_index(const struct mr_config_stream *stream, struct mr_bytes name);
