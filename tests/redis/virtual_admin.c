/* SPDX-License-Identifier: Apache-2.0 */
/* The commands that are not about data: who am I, how am I set up, scripts. */
#include "tests/redis/virtual_parts.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* ---- the connection ---- */

void virtual_run_ping(struct virtual_run *run) {
    if (run->argc == 2) {
        virtual_say_text(run, MR_REDIS_TEXT, run->argv[1]);
    } else {
        virtual_say(run, MR_REDIS_STATUS, "PONG");
    }
}

void virtual_run_auth(struct virtual_run *run) {
    const struct virtual_redis_options *o = &run->v->options;
    struct mr_bytes user = run->argc == 3 ? run->argv[1] : MR_BYTES("default");
    struct mr_bytes user_meant = mr_bytes_text(o->user == NULL ? "default" : o->user);
    if (o->password == NULL && run->argc == 2) {
        virtual_say(run, MR_REDIS_FAILURE, "ERR AUTH <password> called without any password configured for the "
                                           "default user. Are you sure your configuration is correct?");
    } else if (o->password == NULL || !mr_bytes_equal(user, user_meant) ||
               !mr_bytes_equal(run->argv[run->argc - 1], mr_bytes_text(o->password))) {
        virtual_say(run, MR_REDIS_FAILURE, "WRONGPASS invalid username-password pair or user is disabled.");
    } else {
        run->c->knows_password = true;
        virtual_say_ok(run);
    }
}

void virtual_run_client(struct virtual_run *run) {
    if (virtual_word_is(run->argv[1], "SETNAME") && run->argc == 3) {
        virtual_say_ok(run);
    } else {
        virtual_say(run, MR_REDIS_FAILURE, "ERR unknown subcommand of CLIENT");
    }
}

void virtual_run_select(struct virtual_run *run) {
    if (mr_bytes_equal(run->argv[1], MR_BYTES("0"))) {
        virtual_say_ok(run);
    } else {
        virtual_say(run, MR_REDIS_FAILURE, "ERR DB index is out of range");
    }
}

void virtual_run_asking(struct virtual_run *run) {
    if (run->v->options.masters == 0) {
        virtual_say(run, MR_REDIS_FAILURE, "ERR This instance has cluster support disabled");
        return;
    }
    run->c->asking = true;
    virtual_say_ok(run);
}

/* ---- the server ---- */

void virtual_run_time(struct virtual_run *run) {
    struct virtual_run item = *run;
    struct mr_redis_reply *items = virtual_memory_take(run->memory, 2 * sizeof *items);
    item.ret = &items[0];
    virtual_say(&item, MR_REDIS_TEXT, "%" PRId64, run->now_ms / 1000);
    item.ret = &items[1];
    virtual_say(&item, MR_REDIS_TEXT, "%" PRId64, run->now_ms % 1000 * 1000);
    *run->ret = (struct mr_redis_reply){.type = MR_REDIS_LIST, .items = items, .count = 2};
}

void virtual_run_dbsize(struct virtual_run *run) {
    virtual_say_integer(run, (int64_t)run->server->store.keys.count);
}

void virtual_run_wait(struct virtual_run *run) {
    virtual_say_integer(run, 0); /* nobody counts replicas here */
}

void virtual_run_flushall(struct virtual_run *run) {
    virtual_store_clear(&run->server->store);
    virtual_say_ok(run);
}

static uint32_t replicas(const struct virtual_redis *v) {
    return v->options.masters == 0 ? v->server_count - 1 : 0;
}

void virtual_run_info(struct virtual_run *run) {
    const struct virtual_server *s = run->server;
    virtual_say(run, MR_REDIS_TEXT,
                "# Server\r\nredis_version:7.0.15\r\nrun_id:%s\r\n# Memory\r\nused_memory:%" PRIu64
                "\r\nmaxmemory:%s\r\nmaxmemory_policy:%s\r\n# Persistence\r\nloading:0\r\naof_enabled:%d\r\n"
                "# Stats\r\nevicted_keys:%" PRIu64 "\r\n# Replication\r\nrole:%s\r\nconnected_slaves:%u\r\n"
                "master_failover_state:no-failover\r\nmaster_replid:%s\r\n# Cluster\r\ncluster_enabled:%d\r\n",
                s->run_id, 1000000 + s->store.keys.count * 100, s->maxmemory, s->policy,
                strcmp(s->appendonly, "yes") == 0, s->evicted, s->is_replica ? "slave" : "master",
                replicas(run->v), s->replication_id, run->v->options.masters != 0);
}

struct setting {
    const char *name;
    char *value;
    size_t size;
};

static void run_config_set(struct virtual_run *run, const struct setting *settings, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (virtual_word_is(run->argv[2], settings[i].name) && run->argv[3].len < settings[i].size) {
            (void)snprintf(settings[i].value, settings[i].size, "%.*s", (int)run->argv[3].len,
                           (const char *)run->argv[3].ptr);
            virtual_say_ok(run);
            return;
        }
    }
    virtual_say(run, MR_REDIS_FAILURE, "ERR Unknown option or number of arguments for CONFIG SET");
}

void virtual_run_config(struct virtual_run *run) {
    struct virtual_server *s = run->server;
    const struct setting settings[] = {
        {"maxmemory-policy", s->policy, sizeof s->policy},
        {"maxmemory", s->maxmemory, sizeof s->maxmemory},
        {"appendonly", s->appendonly, sizeof s->appendonly},
        {"appendfsync", s->appendfsync, sizeof s->appendfsync},
    };
    size_t count = sizeof settings / sizeof settings[0];
    if (virtual_word_is(run->argv[1], "SET") && run->argc == 4) {
        run_config_set(run, settings, count);
        return;
    }
    if (!virtual_word_is(run->argv[1], "GET")) {
        virtual_say(run, MR_REDIS_FAILURE, "ERR unknown subcommand of CONFIG");
        return;
    }
    struct mr_redis_reply *items = virtual_memory_take(run->memory, 2 * count * sizeof *items);
    struct virtual_run item = *run;
    uint32_t found = 0;
    for (size_t i = 0; i < count; i++) {
        for (uint32_t a = 2; a < run->argc; a++) {
            if (virtual_word_is(run->argv[a], settings[i].name)) {
                item.ret = &items[found++];
                virtual_say(&item, MR_REDIS_TEXT, "%s", settings[i].name);
                item.ret = &items[found++];
                virtual_say(&item, MR_REDIS_TEXT, "%s", settings[i].value);
                break;
            }
        }
    }
    *run->ret = (struct mr_redis_reply){.type = MR_REDIS_LIST, .items = items, .count = found};
}

/* ---- CLUSTER SLOTS ---- */

static void say_master(struct virtual_run *run, uint32_t server) {
    static const char *const hidden[] = {"", "?", NULL}; /* NULL: nil */
    const struct virtual_server *s = &run->v->servers[server];
    struct mr_redis_reply *items = virtual_memory_take(run->memory, 3 * sizeof *items);
    struct virtual_run item = *run;
    item.ret = &items[0];
    uint64_t how = s == run->server ? virtual_redis_below(run->v, 4) : 3;
    if (how == 3) {
        virtual_say(&item, MR_REDIS_TEXT, "%s", s->host);
    } else if (hidden[how] != NULL) {
        virtual_say(&item, MR_REDIS_TEXT, "%s", hidden[how]);
    }
    items[1] = (struct mr_redis_reply){.type = MR_REDIS_INTEGER, .integer = 6379};
    item.ret = &items[2];
    virtual_say(&item, MR_REDIS_TEXT, "%s", s->replication_id);
    *run->ret = (struct mr_redis_reply){.type = MR_REDIS_LIST, .items = items, .count = 3};
}

void virtual_run_cluster(struct virtual_run *run) {
    const struct virtual_redis *v = run->v;
    if (v->options.masters == 0 || !virtual_word_is(run->argv[1], "SLOTS")) {
        virtual_say(run, MR_REDIS_FAILURE, "ERR This instance has cluster support disabled");
        return;
    }
    uint32_t count = 0;
    for (uint32_t slot = 0; slot < MR_REDIS_SLOTS; slot++) {
        count += slot == 0 || v->slot_server[slot] != v->slot_server[slot - 1];
    }
    struct mr_redis_reply *ranges = virtual_memory_take(run->memory, count * sizeof *ranges);
    *run->ret = (struct mr_redis_reply){.type = MR_REDIS_LIST, .items = ranges, .count = count};
    for (uint32_t first = 0, last; first < MR_REDIS_SLOTS; first = last + 1, ranges++) {
        for (last = first; last + 1 < MR_REDIS_SLOTS && v->slot_server[last + 1] == v->slot_server[first];) {
            last++;
        }
        struct mr_redis_reply *items = virtual_memory_take(run->memory, 3 * sizeof *items);
        items[0] = (struct mr_redis_reply){.type = MR_REDIS_INTEGER, .integer = first};
        items[1] = (struct mr_redis_reply){.type = MR_REDIS_INTEGER, .integer = last};
        struct virtual_run item = *run;
        item.ret = &items[2];
        say_master(&item, v->slot_server[first]);
        *ranges = (struct mr_redis_reply){.type = MR_REDIS_LIST, .items = items, .count = 3};
    }
}

/* ---- scripts ---- */

static uint32_t roll(uint32_t x, int bits) {
    return x << bits | x >> (32 - bits);
}

static void sha1_block(uint32_t h[5], const uint8_t *block) {
    uint32_t w[80];
    for (int i = 0; i < 16; i++) {
        w[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 | (uint32_t)block[4 * i + 2] << 8 |
               block[4 * i + 3];
    }
    for (int i = 16; i < 80; i++) {
        w[i] = roll(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
    }
    uint32_t a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
    for (int i = 0; i < 80; i++) {
        uint32_t f = i < 20   ? ((b & c) | (~b & d)) + 0x5a827999
                     : i < 40 ? (b ^ c ^ d) + 0x6ed9eba1
                     : i < 60 ? ((b & c) | (b & d) | (c & d)) + 0x8f1bbcdc
                              : (b ^ c ^ d) + 0xca62c1d6;
        uint32_t next = roll(a, 5) + f + e + w[i];
        e = d;
        d = c;
        c = roll(b, 30);
        b = a;
        a = next;
    }
    h[0] += a;
    h[1] += b;
    h[2] += c;
    h[3] += d;
    h[4] += e;
}

/* FIPS 180-4. */
void virtual_redis_sha1(struct mr_bytes text, char ret_hex[41]) {
    uint32_t h[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
    size_t whole = text.len / 64 * 64;
    uint8_t tail[128] = {0};
    for (size_t i = 0; i < whole; i += 64) {
        sha1_block(h, text.ptr + i);
    }
    size_t left = text.len - whole;
    if (left > 0) {
        memcpy(tail, text.ptr + whole, left);
    }
    tail[left] = 0x80;
    size_t len = left < 56 ? 64 : 128;
    for (int i = 0; i < 8; i++) {
        tail[len - 1 - (size_t)i] = (uint8_t)((uint64_t)text.len * 8 >> 8 * i);
    }
    for (size_t i = 0; i < len; i += 64) {
        sha1_block(h, tail + i);
    }
    (void)snprintf(ret_hex, 41, "%08x%08x%08x%08x%08x", h[0], h[1], h[2], h[3], h[4]);
}

void virtual_redis_script(struct virtual_redis *v, const char *text, virtual_redis_script_fn *fn, void *ctx) {
    MR_ASSERT(v->script_count < VIRTUAL_SCRIPTS_MAX);
    char *copy = virtual_redis_need(strdup(text));
    v->scripts[v->script_count++] = (struct virtual_script){copy, fn, ctx};
}

/* The number of the script, loaded now; VIRTUAL_SCRIPTS_MAX: nobody registered it. */
static uint32_t load(struct virtual_run *run, struct mr_bytes text, char ret_sha[VIRTUAL_HEX_MAX]) {
    struct virtual_redis *v = run->v;
    struct virtual_server *s = run->server;
    virtual_redis_sha1(text, ret_sha);
    for (uint32_t i = 0; i < s->loaded_count; i++) {
        if (strcmp(s->loaded[i].sha, ret_sha) == 0) {
            return s->loaded[i].script;
        }
    }
    for (uint32_t i = 0; i < v->script_count; i++) {
        size_t len = strlen(v->scripts[i].text);
        if (strcmp(v->scripts[i].text, ret_sha) == 0 ||
            (text.len >= len && memcmp(text.ptr, v->scripts[i].text, len) == 0)) {
            MR_ASSERT(s->loaded_count < VIRTUAL_SCRIPTS_MAX);
            memcpy(s->loaded[s->loaded_count].sha, ret_sha, VIRTUAL_HEX_MAX);
            s->loaded[s->loaded_count++].script = i;
            return i;
        }
    }
    virtual_say(run, MR_REDIS_FAILURE, "ERR no such script is registered with the virtual Redis");
    return VIRTUAL_SCRIPTS_MAX;
}

static uint32_t find_loaded(const struct virtual_server *s, struct mr_bytes sha) {
    for (uint32_t i = 0; i < s->loaded_count; i++) {
        if (virtual_word_is(sha, s->loaded[i].sha)) {
            return s->loaded[i].script;
        }
    }
    return VIRTUAL_SCRIPTS_MAX;
}

void virtual_run_script(struct virtual_run *run) {
    char sha[VIRTUAL_HEX_MAX];
    if (virtual_word_is(run->argv[1], "LOAD") && run->argc == 3) {
        if (load(run, run->argv[2], sha) != VIRTUAL_SCRIPTS_MAX) {
            virtual_say(run, MR_REDIS_TEXT, "%s", sha);
        }
    } else if (virtual_word_is(run->argv[1], "EXISTS")) {
        struct mr_redis_reply *items = virtual_memory_take(run->memory, run->argc * sizeof *items);
        for (uint32_t i = 2; i < run->argc; i++) {
            bool is = find_loaded(run->server, run->argv[i]) != VIRTUAL_SCRIPTS_MAX;
            items[i - 2] = (struct mr_redis_reply){.type = MR_REDIS_INTEGER, .integer = is};
        }
        *run->ret = (struct mr_redis_reply){.type = MR_REDIS_LIST, .items = items, .count = run->argc - 2};
    } else if (virtual_word_is(run->argv[1], "FLUSH")) {
        run->server->loaded_count = 0;
        virtual_say_ok(run);
    } else {
        virtual_say(run, MR_REDIS_FAILURE, "ERR unknown subcommand of SCRIPT");
    }
}

static void say_no_script(struct virtual_run *run) {
    run->v->probes[VIRTUAL_REDIS_PROBE_NOSCRIPT]++;
    virtual_say(run, MR_REDIS_FAILURE, "NOSCRIPT No matching script. Please use EVAL.");
}

void virtual_run_eval(struct virtual_run *run) {
    char sha[VIRTUAL_HEX_MAX];
    int64_t keys;
    bool by_sha = virtual_word_is(run->argv[0], "EVALSHA");
    if (by_sha && run->argv[1].len != VIRTUAL_HEX_MAX - 1) {
        say_no_script(run);
        return;
    }
    if (!virtual_parse_int(run->argv[2], &keys) || keys < 0 || keys > run->argc - 3) {
        virtual_say(run, MR_REDIS_FAILURE, "ERR Number of keys can't be greater than number of args");
        return;
    }
    uint32_t script = by_sha ? find_loaded(run->server, run->argv[1]) : load(run, run->argv[1], sha);
    if (script == VIRTUAL_SCRIPTS_MAX) {
        if (by_sha) {
            say_no_script(run);
        }
        return;
    }
    struct virtual_redis_call call = {
        .redis = run->v,
        .server = (uint32_t)(run->server - run->v->servers),
        .now_ms = run->now_ms,
        .keys = run->argv + 3,
        .key_count = (uint32_t)keys,
        .args = run->argv + 3 + keys,
        .arg_count = run->argc - 3 - (uint32_t)keys,
        .memory = run->memory,
    };
    run->v->scripts[script].fn(run->v->scripts[script].ctx, &call, run->ret);
}
