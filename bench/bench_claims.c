/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Measures claims of ids in one real Redis: what a plain client does against the two layouts.
 *
 *     bench_claims [IDS [RECORDS [always|no]]]       default 20,000 ids, 64 records of 1,000 under way, appendonly no
 *
 * plain: SET key token NX PX ttl, one command an id, 1,000 in the pipeline. key: the key layout. bucket early, late: the
 * bucket layout in the first half of a generation, where the one before it (as many ids) is looked up too, and in
 * the second, where there is none behind. again: the same ids claimed by other records, all duplicates. For each: ids a
 * second, CPU of Redis and of this process, Redis's memory an id, and how many times as many ids as plain's a second of
 * Redis's CPU does. Starts a redis-server of its own; without one in the PATH it prints "skipped".
 */
#include "base/alloc.h"
#include "base/check.h"
#include "base/clock.h"
#include "dedup/claims.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { RECORD_IDS = 1000, RECORDS_MAX = 1024, PLAIN_DEPTH = 1000, HORIZON_MS = 3600000 };

struct bench {
    uint64_t ids;
    uint32_t records; /* under way */
    char address[32];
    uint16_t port;
    char dir[64];
    pid_t pid;
    struct mr_redis_transport *transport; /* of the claims */
    struct mr_redis_transport *asking;
    struct mr_redis_connection *connection; /* of plain, and to ask */
    double plain_ns;
    uint64_t idle_ns; /* CPU that the benchmark itself took, to be left out */
};

static void die(const char *what) {
    (void)fprintf(stderr, "bench_claims: %s\n", what);
    exit(2);
}

static uint64_t cpu_ns(void) {
    struct timespec t;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

static struct mr_fingerprint fp_of(uint64_t n) {
    uint64_t x = (n + 1) * UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 32)) * UINT64_C(0xd6e8feb86659fd93);
    x ^= x >> 32;
    uint64_t y = x * UINT64_C(0xbf58476d1ce4e5b9);
    return (struct mr_fingerprint){.lo = x, .hi = (y ^ (y >> 29)) >> 8};
}

/* ---- the server ---- */

static uint16_t free_port(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &len) != 0) {
        die("no port");
    }
    (void)close(fd);
    return ntohs(address.sin_port);
}

static bool start_server(struct bench *b, const char *append) {
    char port[8];
    b->port = free_port();
    (void)snprintf(port, sizeof port, "%u", b->port);
    (void)snprintf(b->address, sizeof b->address, "127.0.0.1:%u", b->port);
    (void)snprintf(b->dir, sizeof b->dir, "/tmp/bench-claims-XXXXXX");
    if (mkdtemp(b->dir) == NULL) {
        die("no directory");
    }
    bool always = strcmp(append, "always") == 0;
    b->pid = fork();
    if (b->pid == 0) {
        int null = open("/dev/null", O_RDWR);
        (void)dup2(null, 1);
        (void)dup2(null, 2);
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)execlp("redis-server", "redis-server", "--port", port, "--bind", "127.0.0.1", "--dir",
                     b->dir, "--save", "", "--appendonly", always ? "yes" : "no", "--appendfsync",
                     "always", (char *)NULL);
        _exit(127);
    }
    (void)nanosleep(&(struct timespec){0, 300000000}, NULL);
    return waitpid(b->pid, NULL, WNOHANG) == 0;
}

static void stop_server(struct bench *b) {
    (void)kill(b->pid, SIGKILL);
    (void)waitpid(b->pid, NULL, 0);
    char command[96];
    (void)snprintf(command, sizeof command, "rm -rf '%s'", b->dir);
    if (system(command) != 0) {
        (void)fprintf(stderr, "bench_claims: %s stays\n", b->dir);
    }
}

static void receive(struct bench *b, struct mr_redis_reply *ret) {
    struct mr_error error;
    while (!mr_redis_connection_next(b->connection, ret)) {
        enum mr_status status = mr_redis_connection_step(b->connection, &error);
        if (status == MR_AGAIN) {
            mr_redis_transport_wait(b->asking, 100000000);
        } else if (status != MR_OK) {
            die(error.text);
        }
    }
    if (ret->type == MR_REDIS_FAILURE) {
        die((const char *)ret->text.ptr);
    }
}

static struct mr_redis_reply ask(struct bench *b, const char *one, const char *two) {
    const struct mr_bytes argv[] = {mr_bytes_text(one), mr_bytes_text(two == NULL ? "" : two)};
    struct mr_redis_reply reply;
    if (mr_redis_connection_send(b->connection, argv, two == NULL ? 1 : 2) != MR_OK) {
        die("no memory");
    }
    receive(b, &reply);
    return reply;
}

static double info(struct bench *b, const char *section, const char *name) {
    struct mr_redis_reply reply = ask(b, "INFO", section);
    char text[8192];
    size_t len = reply.text.len < sizeof text - 1 ? reply.text.len : sizeof text - 1;
    memcpy(text, reply.text.ptr, len);
    text[len] = '\0';
    const char *at = strstr(text, name);
    return at == NULL ? 0 : strtod(at + strlen(name), NULL);
}

/* ---- what is measured ---- */

struct moment {
    double redis_s;
    double bytes;
    uint64_t own_ns;
    uint64_t wall_ns;
};

static struct moment now(struct bench *b) {
    struct moment m = {
        .redis_s = info(b, "cpu", "used_cpu_sys:") + info(b, "cpu", "used_cpu_user:"),
        .bytes = info(b, "memory", "used_memory:"),
    };
    m.own_ns = cpu_ns() - b->idle_ns;
    m.wall_ns = mr_clock_mono_ns(mr_clock_system());
    return m;
}

static void print_part(struct bench *b, const char *name, const struct moment *from, uint64_t ids) {
    struct moment to = now(b);
    double n = (double)ids;
    double redis_ns = (to.redis_s - from->redis_s) * 1e9 / n;
    b->plain_ns = b->plain_ns == 0 ? redis_ns : b->plain_ns;
    (void)printf(
        "%-13s %8.0f ids/s  Redis %6.0f ns/id  own %5.0f ns/id  %4.0f bytes/id  %4.1f x plain\n",
        name, n * 1e9 / (double)(to.wall_ns - from->wall_ns), redis_ns,
        (double)(to.own_ns - from->own_ns) / n, (to.bytes - from->bytes) / n,
        redis_ns > 0 ? b->plain_ns / redis_ns : 0);
}

static void run_plain(struct bench *b, uint64_t first, bool silent) {
    struct moment from = now(b);
    uint8_t key[32] = "d:bench/events:";
    struct mr_redis_reply reply;
    uint64_t answered = 0;
    for (uint64_t i = 0; i < b->ids; i++) {
        struct mr_fingerprint fp = fp_of(first + i);
        memcpy(key + 15, &fp, 15);
        const struct mr_bytes argv[] = {MR_BYTES("SET"),          mr_bytes_of(key, 30),
                                        MR_BYTES("twelve bytes"), MR_BYTES("NX"),
                                        MR_BYTES("PX"),           MR_BYTES("7200000")};
        if (mr_redis_connection_send(b->connection, argv, 6) != MR_OK) {
            die("no memory");
        }
        if ((i + 1) % PLAIN_DEPTH == 0 || i + 1 == b->ids) {
            for (; answered <= i; answered++) {
                receive(b, &reply);
            }
        }
    }
    if (!silent) {
        print_part(b, "plain", &from, b->ids);
    }
}

struct load {
    struct mr_claim claims[RECORDS_MAX];
    struct mr_fingerprint ids[RECORDS_MAX][RECORD_IDS];
    uint8_t outcomes[RECORDS_MAX][RECORD_IDS];
};

static uint32_t order[RECORD_IDS];

static void fill(struct load *load, uint32_t slot, uint64_t first, uint64_t lsn, uint32_t count,
                 int64_t recorded_ms) {
    for (uint32_t i = 0; i < count; i++) {
        load->ids[slot][i] = fp_of(first + i);
    }
    load->claims[slot] = (struct mr_claim){
        .recorded_ms = recorded_ms,
        .lsn = lsn,
        .ids = load->ids[slot],
        .order = order,
        .count = count,
        .outcomes = load->outcomes[slot],
    };
}

static struct mr_claims *open_claims(struct bench *b, enum mr_claim_layout layout) {
    const struct mr_claims_stream stream = {
        layout == MR_CLAIM_KEY ? MR_BYTES("events-key") : MR_BYTES("events"), layout, HORIZON_MS};
    const struct mr_bytes address = mr_bytes_text(b->address);
    const struct mr_claims_options options = {
        .transport = b->transport,
        .clock = mr_clock_system(),
        .streams = &stream,
        .stream_count = 1,
        .cluster = layout == MR_CLAIM_KEY ? MR_BYTES("key") : MR_BYTES("bench"),
        .node = MR_BYTES("bench"),
        .incarnation = 1,
        .assume_strict = true, /* it measures; it keeps nothing */
        .addresses = &address,
        .address_count = 1,
        .timeout_ns = UINT64_C(20000000000),
        .recent_ms = 60000,
        .bytes_max = UINT64_C(1) << 30,
        .seed = 1,
    };
    struct mr_claims *claims;
    struct mr_error error;
    if (mr_claims_open(&options, &claims, &error) != MR_OK) {
        die(error.text);
    }
    uint64_t start_ns = mr_clock_mono_ns(mr_clock_system());
    while (mr_watch_state(mr_claims_watch(claims)) != MR_WATCH_STRICT) {
        if (!mr_claims_step(claims)) {
            mr_claims_wait(claims, 10000000);
        }
        if (mr_clock_mono_ns(mr_clock_system()) - start_ns > UINT64_C(30000000000)) {
            die(mr_watch_reason(mr_claims_watch(claims)));
        }
    }
    return claims;
}

/* Claims ids [first, first + ids) in records of 1,000, `records` of them under way. */
static void run_claims(struct bench *b, struct mr_claims *claims, const char *name, uint64_t first,
                       int64_t recorded_ms, enum mr_claim_outcome expected) {
    static uint64_t lsn;
    static struct load load;
    struct mr_claims_stats before;
    struct mr_claims_stats after;
    mr_claims_stats(claims, &before);
    struct moment from = now(b);
    uint64_t sent = 0;
    uint64_t done = 0;
    for (uint32_t slot = 0; slot < b->records && sent < b->ids; slot++) {
        uint32_t count = b->ids - sent < RECORD_IDS ? (uint32_t)(b->ids - sent) : RECORD_IDS;
        fill(&load, slot, first + sent, ++lsn, count, recorded_ms);
        MR_ASSERT(mr_claims_put(claims, &load.claims[slot]));
        sent += count;
    }
    while (done < b->ids) {
        if (!mr_claims_step(claims)) {
            mr_claims_wait(claims, 100000000);
        }
        uint64_t idle_ns = cpu_ns();
        for (struct mr_claim *claim; (claim = mr_claims_next(claims)) != NULL;) {
            for (uint32_t i = 0; i < claim->count; i++) {
                /* MINE: it was sent twice, because the watch had doubts meanwhile. */
                bool repeated = expected == MR_CLAIM_WON && claim->outcomes[i] == MR_CLAIM_MINE;
                MR_ASSERT(claim->outcomes[i] == expected || repeated);
            }
            done += claim->count;
            if (sent < b->ids) {
                uint32_t count =
                    b->ids - sent < RECORD_IDS ? (uint32_t)(b->ids - sent) : RECORD_IDS;
                fill(&load, (uint32_t)(claim - load.claims), first + sent, ++lsn, count,
                     recorded_ms);
                MR_ASSERT(mr_claims_put(claims, claim));
                sent += count;
            }
        }
        b->idle_ns += cpu_ns() - idle_ns;
    }
    if (name == NULL) {
        return;
    }
    print_part(b, name, &from, b->ids);
    mr_claims_stats(claims, &after);
    (void)printf("%-13s %8.1f ids a command, %" PRIu64 " commands sent again\n", "",
                 (double)b->ids / (double)(after.commands - before.commands),
                 after.repeated - before.repeated);
}

int main(int argc, char **argv) {
    struct bench b = {
        .ids = argc > 1 ? strtoull(argv[1], NULL, 10) : 20000,
        .records = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 64,
    };
    b.records = b.records > RECORDS_MAX || b.records == 0 ? RECORDS_MAX : b.records;
    const struct mr_redis_tls tls = {.on = false};
    struct mr_error error;
    for (uint32_t i = 0; i < RECORD_IDS; i++) {
        order[i] = i;
    }
    (void)signal(SIGPIPE, SIG_IGN);
    if (!start_server(&b, argc > 3 ? argv[3] : "no")) {
        (void)printf("skipped: no redis-server\n");
        return 0;
    }
    if (mr_hiredis_open(&tls, &b.transport, &error) != MR_OK ||
        mr_hiredis_open(&tls, &b.asking, &error) != MR_OK ||
        mr_redis_transport_open(b.asking, "127.0.0.1", b.port, &b.connection, &error) != MR_OK) {
        die(error.text);
    }
    (void)ask(&b, "PING", NULL);
    run_plain(&b, 0, true); /* warms up; and is there, as in the other parts */
    run_plain(&b, b.ids, false);
    (void)ask(&b, "FLUSHALL", NULL);
    struct mr_claims *key = open_claims(&b, MR_CLAIM_KEY);
    run_claims(&b, key, NULL, 0, 0, MR_CLAIM_WON);
    run_claims(&b, key, "key", b.ids, 0, MR_CLAIM_WON);
    run_claims(&b, key, "key again", 0, 0, MR_CLAIM_TAKEN);
    mr_claims_close(key);
    (void)ask(&b, "FLUSHALL", NULL);
    struct mr_claims *bucket = open_claims(&b, MR_CLAIM_BUCKET);
    run_claims(&b, bucket, NULL, 0, HORIZON_MS, MR_CLAIM_WON);
    run_claims(&b, bucket, "bucket late", b.ids, HORIZON_MS, MR_CLAIM_WON);
    run_claims(&b, bucket, NULL, 2 * b.ids, 2 * HORIZON_MS, MR_CLAIM_WON);
    run_claims(&b, bucket, "bucket early", 3 * b.ids, 2 * HORIZON_MS, MR_CLAIM_WON);
    run_claims(&b, bucket, "bucket again", 2 * b.ids, 2 * HORIZON_MS, MR_CLAIM_TAKEN);
    mr_claims_close(bucket);
    mr_redis_connection_close(b.connection);
    mr_redis_transport_finish(b.asking);
    mr_redis_transport_finish(b.transport);
    stop_server(&b);
    return 0;
}
