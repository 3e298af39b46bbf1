/* SPDX-License-Identifier: Apache-2.0 */
/* The commands about data, the table of all, and what stands before a command is executed: AUTH, slots, faults. */
#include "tests/redis/virtual_parts.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

/* ---- memory and replies ---- */

void *virtual_memory_take(struct virtual_memory *memory, size_t size) {
    struct virtual_block *block = virtual_redis_need(calloc(1, sizeof *block + size));
    block->next = memory->blocks;
    memory->blocks = block;
    return block->bytes;
}

void virtual_memory_free(struct virtual_memory *memory) {
    for (struct virtual_block *b = memory->blocks, *next; b != NULL; b = next) {
        next = b->next;
        free(b);
    }
    memory->blocks = NULL;
}

static void set_text(struct virtual_memory *memory, struct mr_redis_reply *ret, enum mr_redis_reply_type type,
                     struct mr_bytes text) {
    uint8_t *bytes = virtual_memory_take(memory, text.len + 1);
    if (text.len > 0) {
        memcpy(bytes, text.ptr, text.len);
    }
    *ret = (struct mr_redis_reply){.type = type, .text = mr_bytes_of(bytes, text.len)};
}

static struct mr_redis_reply *set_list(struct virtual_memory *memory, struct mr_redis_reply *ret, uint32_t count) {
    struct mr_redis_reply *items = virtual_memory_take(memory, (count + 1) * sizeof *items);
    *ret = (struct mr_redis_reply){.type = MR_REDIS_LIST, .items = items, .count = count};
    return items;
}

void virtual_say_text(struct virtual_run *run, enum mr_redis_reply_type type, struct mr_bytes text) {
    set_text(run->memory, run->ret, type, text);
}

void virtual_say(struct virtual_run *run, enum mr_redis_reply_type type, const char *format, ...) {
    char text[2048];
    va_list args;
    va_start(args, format);
    int len = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    MR_ASSERT(len >= 0 && (size_t)len < sizeof text);
    virtual_say_text(run, type, mr_bytes_of(text, (size_t)len));
}

void virtual_say_integer(struct virtual_run *run, int64_t value) {
    *run->ret = (struct mr_redis_reply){.type = MR_REDIS_INTEGER, .integer = value};
}

void virtual_say_ok(struct virtual_run *run) {
    virtual_say(run, MR_REDIS_STATUS, "OK");
}

static void say_wrong_type(struct virtual_run *run) {
    virtual_say(run, MR_REDIS_FAILURE, "WRONGTYPE Operation against a key holding the wrong kind of value");
}

static void say_syntax(struct virtual_run *run) {
    virtual_say(run, MR_REDIS_FAILURE, "ERR syntax error");
}

bool virtual_word_is(struct mr_bytes bytes, const char *word) {
    return bytes.len == strlen(word) && strncasecmp((const char *)bytes.ptr, word, bytes.len) == 0;
}

bool virtual_parse_int(struct mr_bytes bytes, int64_t *ret) {
    char text[24];
    char *end;
    if (bytes.len == 0 || bytes.len >= sizeof text) {
        return false;
    }
    memcpy(text, bytes.ptr, bytes.len);
    text[bytes.len] = '\0';
    *ret = strtoll(text, &end, 10);
    return *end == '\0' && !isspace((unsigned char)text[0]);
}

/* ---- strings and keys ---- */

static struct virtual_entry *find(struct virtual_run *run, uint32_t arg) {
    return virtual_store_find(&run->server->store, run->argv[arg], run->now_ms);
}

struct set_options {
    bool nx, xx, get, keep;
    int64_t expire_ms;
};

static bool parse_set(struct virtual_run *run, struct set_options *o) {
    *o = (struct set_options){0};
    for (uint32_t i = 3; i < run->argc; i++) {
        struct mr_bytes word = run->argv[i];
        bool px = virtual_word_is(word, "PX");
        if (px || virtual_word_is(word, "EX")) {
            int64_t n;
            if (++i == run->argc || !virtual_parse_int(run->argv[i], &n) || n <= 0 || o->expire_ms != 0) {
                return false;
            }
            o->expire_ms = run->now_ms + (px ? n : n * 1000);
            continue;
        }
        bool *flag = virtual_word_is(word, "NX")        ? &o->nx
                     : virtual_word_is(word, "XX")      ? &o->xx
                     : virtual_word_is(word, "GET")     ? &o->get
                     : virtual_word_is(word, "KEEPTTL") ? &o->keep
                                                        : NULL;
        if (flag == NULL) {
            return false;
        }
        *flag = true;
    }
    return !(o->nx && o->xx) && !(o->keep && o->expire_ms != 0);
}

static void run_set(struct virtual_run *run) {
    struct set_options o;
    if (!parse_set(run, &o)) {
        say_syntax(run);
        return;
    }
    struct virtual_entry *e = find(run, 1);
    if (o.get && e != NULL && e->fields != NULL) {
        say_wrong_type(run);
        return;
    }
    bool does = !(o.nx && e != NULL) && !(o.xx && e == NULL);
    if (o.get && e != NULL) {
        virtual_say_text(run, MR_REDIS_TEXT, e->value);
    } else if (!o.get && does) {
        virtual_say_ok(run);
    }
    if (does) {
        int64_t expire_ms = o.keep && e != NULL ? e->expire_ms : o.expire_ms;
        virtual_store_set(&run->server->store, run->argv[1], run->argv[2], expire_ms);
    }
}

static void run_get(struct virtual_run *run) {
    struct virtual_entry *e = find(run, 1);
    if (e != NULL && e->fields != NULL) {
        say_wrong_type(run);
    } else if (e != NULL) {
        virtual_say_text(run, MR_REDIS_TEXT, e->value);
    }
}

static void run_del(struct virtual_run *run) {
    int64_t count = 0;
    for (uint32_t i = 1; i < run->argc; i++) {
        if (find(run, i) != NULL) {
            virtual_store_remove(&run->server->store, run->argv[i]);
            count++;
        }
    }
    virtual_say_integer(run, count);
}

static void run_exists(struct virtual_run *run) {
    int64_t count = 0;
    for (uint32_t i = 1; i < run->argc; i++) {
        count += find(run, i) != NULL;
    }
    virtual_say_integer(run, count);
}

static void run_type(struct virtual_run *run) {
    struct virtual_entry *e = find(run, 1);
    virtual_say(run, MR_REDIS_STATUS, "%s", e == NULL ? "none" : e->fields == NULL ? "string" : "hash");
}

static void run_pexpire(struct virtual_run *run) {
    int64_t ms;
    if (!virtual_parse_int(run->argv[2], &ms)) {
        virtual_say(run, MR_REDIS_FAILURE, "ERR value is not an integer or out of range");
        return;
    }
    struct virtual_entry *e = find(run, 1);
    if (e != NULL && ms <= 0) {
        virtual_store_remove(&run->server->store, run->argv[1]);
    } else if (e != NULL) {
        virtual_store_expire(&run->server->store, e, run->now_ms + ms);
    }
    virtual_say_integer(run, e != NULL);
}

static void run_pttl(struct virtual_run *run) {
    struct virtual_entry *e = find(run, 1);
    virtual_say_integer(run, e == NULL ? -2 : e->expire_ms == 0 ? -1 : e->expire_ms - run->now_ms);
}

/* ---- hashes ---- */

/* False: it is a string, and that was said. *ret NULL: there is none. */
static bool find_hash(struct virtual_run *run, struct virtual_entry **ret) {
    *ret = find(run, 1);
    if (*ret == NULL || (*ret)->fields != NULL) {
        return true;
    }
    say_wrong_type(run);
    return false;
}

static void run_hset(struct virtual_run *run) {
    struct virtual_entry *hash;
    bool only_new = virtual_word_is(run->argv[0], "HSETNX");
    int64_t added = 0;
    if (run->argc % 2 != 0 || (only_new && run->argc != 4)) {
        virtual_say(run, MR_REDIS_FAILURE, "ERR wrong number of arguments for 'hset' command");
        return;
    }
    if (!find_hash(run, &hash)) {
        return;
    }
    for (uint32_t i = 2; i < run->argc; i += 2) {
        hash = find(run, 1);
        bool is_new = hash == NULL || virtual_store_field(hash, run->argv[i]) == NULL;
        if (is_new || !only_new) {
            virtual_store_set_field(&run->server->store, run->argv[1], run->argv[i], run->argv[i + 1]);
        }
        added += is_new;
    }
    virtual_say_integer(run, added);
}

static void run_hget(struct virtual_run *run) {
    struct virtual_entry *hash;
    if (!find_hash(run, &hash) || hash == NULL) {
        return;
    }
    struct virtual_entry *field = virtual_store_field(hash, run->argv[2]);
    if (field != NULL) {
        virtual_say_text(run, MR_REDIS_TEXT, field->value);
    }
}

static void run_hmget(struct virtual_run *run) {
    struct virtual_entry *hash;
    if (!find_hash(run, &hash)) {
        return;
    }
    struct mr_redis_reply *items = set_list(run->memory, run->ret, run->argc - 2);
    for (uint32_t i = 2; i < run->argc; i++) {
        struct virtual_entry *field = hash == NULL ? NULL : virtual_store_field(hash, run->argv[i]);
        if (field != NULL) {
            set_text(run->memory, &items[i - 2], MR_REDIS_TEXT, field->value);
        }
    }
}

struct listing {
    struct virtual_memory *memory;
    struct mr_redis_reply *at;
};

static bool list_field(void *ctx, struct virtual_entry *e) {
    struct listing *l = ctx;
    set_text(l->memory, l->at++, MR_REDIS_TEXT, e->name);
    set_text(l->memory, l->at++, MR_REDIS_TEXT, e->value);
    return true;
}

static void run_hgetall(struct virtual_run *run) {
    struct virtual_entry *hash;
    if (!find_hash(run, &hash)) {
        return;
    }
    uint32_t count = hash == NULL ? 0 : (uint32_t)hash->fields->count;
    struct listing listing = {run->memory, set_list(run->memory, run->ret, count * 2)};
    if (hash != NULL) {
        virtual_table_each(hash->fields, list_field, &listing);
    }
}

static void run_hdel(struct virtual_run *run) {
    struct virtual_entry *hash;
    int64_t count = 0;
    if (!find_hash(run, &hash)) {
        return;
    }
    for (uint32_t i = 2; i < run->argc; i++) {
        hash = find(run, 1);
        if (hash != NULL && virtual_store_field(hash, run->argv[i]) != NULL) {
            virtual_store_remove_field(&run->server->store, hash, run->argv[i]);
            count++;
        }
    }
    virtual_say_integer(run, count);
}

static void run_hlen(struct virtual_run *run) {
    struct virtual_entry *hash;
    if (find_hash(run, &hash)) {
        virtual_say_integer(run, hash == NULL ? 0 : (int64_t)hash->fields->count);
    }
}

static void run_hexists(struct virtual_run *run) {
    struct virtual_entry *hash;
    if (find_hash(run, &hash)) {
        virtual_say_integer(run, hash != NULL && virtual_store_field(hash, run->argv[2]) != NULL);
    }
}

/* ---- the table ---- */

enum key_place { KEYS_NONE, KEYS_ONE, KEYS_REST, KEYS_NUMBERED };
enum { FREE = 1, WRITES = 2, EARLY = 4 }; /* FREE: ordered failures pass it by. EARLY: before AUTH */

static const struct table_row {
    const char *name;
    uint32_t argc_min;
    uint32_t argc_max; /* 0: any */
    enum key_place keys;
    unsigned flags;
    virtual_command_fn *fn;
} table[] = {
    {"ASKING", 1, 1, KEYS_NONE, FREE, virtual_run_asking},
    {"AUTH", 2, 3, KEYS_NONE, FREE | EARLY, virtual_run_auth},
    {"CLIENT", 2, 0, KEYS_NONE, FREE, virtual_run_client},
    {"CLUSTER", 2, 0, KEYS_NONE, 0, virtual_run_cluster},
    {"CONFIG", 3, 0, KEYS_NONE, 0, virtual_run_config},
    {"DBSIZE", 1, 1, KEYS_NONE, 0, virtual_run_dbsize},
    {"DEL", 2, 0, KEYS_REST, WRITES, run_del},
    {"EVAL", 3, 0, KEYS_NUMBERED, WRITES, virtual_run_eval},
    {"EVALSHA", 3, 0, KEYS_NUMBERED, WRITES, virtual_run_eval},
    {"EXISTS", 2, 0, KEYS_REST, 0, run_exists},
    {"FLUSHALL", 1, 2, KEYS_NONE, WRITES, virtual_run_flushall},
    {"GET", 2, 2, KEYS_ONE, 0, run_get},
    {"HDEL", 3, 0, KEYS_ONE, WRITES, run_hdel},
    {"HEXISTS", 3, 3, KEYS_ONE, 0, run_hexists},
    {"HGET", 3, 3, KEYS_ONE, 0, run_hget},
    {"HGETALL", 2, 2, KEYS_ONE, 0, run_hgetall},
    {"HLEN", 2, 2, KEYS_ONE, 0, run_hlen},
    {"HMGET", 3, 0, KEYS_ONE, 0, run_hmget},
    {"HSET", 4, 0, KEYS_ONE, WRITES, run_hset},
    {"HSETNX", 4, 4, KEYS_ONE, WRITES, run_hset},
    {"INFO", 1, 0, KEYS_NONE, 0, virtual_run_info},
    {"PEXPIRE", 3, 3, KEYS_ONE, WRITES, run_pexpire},
    {"PING", 1, 2, KEYS_NONE, FREE, virtual_run_ping},
    {"PTTL", 2, 2, KEYS_ONE, 0, run_pttl},
    {"SCRIPT", 2, 0, KEYS_NONE, 0, virtual_run_script},
    {"SELECT", 2, 2, KEYS_NONE, 0, virtual_run_select},
    {"SET", 3, 0, KEYS_ONE, WRITES, run_set},
    {"TIME", 1, 1, KEYS_NONE, 0, virtual_run_time},
    {"TYPE", 2, 2, KEYS_ONE, 0, run_type},
    {"UNLINK", 2, 0, KEYS_REST, WRITES, run_del},
    {"WAIT", 3, 3, KEYS_NONE, 0, virtual_run_wait},
};

static const struct table_row *row_of(struct mr_bytes name) {
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        if (virtual_word_is(name, table[i].name)) {
            return &table[i];
        }
    }
    return NULL;
}

/* The row, or NULL, and why was said. */
static const struct table_row *check_form(struct virtual_run *run) {
    const struct table_row *row = row_of(run->argv[0]);
    if (row == NULL) {
        virtual_say(run, MR_REDIS_FAILURE, "ERR unknown command '%.*s'", (int)(run->argv[0].len % 100),
                    (const char *)run->argv[0].ptr);
    } else if (run->argc < row->argc_min || (row->argc_max != 0 && run->argc > row->argc_max)) {
        virtual_say(run, MR_REDIS_FAILURE, "ERR wrong number of arguments for '%s' command", row->name);
        return NULL;
    }
    return row;
}

/* ---- slots ---- */

static const struct mr_bytes *keys_of(const struct virtual_run *run, const struct table_row *row,
                                      uint32_t *ret_count) {
    int64_t count = 0;
    switch (row->keys) {
    case KEYS_NONE:
        break;
    case KEYS_ONE:
        *ret_count = 1;
        return run->argv + 1;
    case KEYS_REST:
        *ret_count = run->argc - 1;
        return run->argv + 1;
    case KEYS_NUMBERED:
        if (virtual_parse_int(run->argv[2], &count) && count >= 0 && count <= run->argc - 3) {
            *ret_count = (uint32_t)count;
            return run->argv + 3;
        }
        break;
    }
    *ret_count = 0;
    return NULL;
}

/* MOVED, ASK and TRYAGAIN as the specification of Redis Cluster has them. False: one of them was said. */
static bool check_slot(struct virtual_run *run, const struct table_row *row, bool asking) {
    struct virtual_redis *v = run->v;
    uint32_t count;
    const struct mr_bytes *keys = keys_of(run, row, &count);
    if (v->options.masters == 0 || count == 0) {
        return true;
    }
    uint32_t slot = mr_redis_slot(keys[0]);
    uint32_t missing = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (mr_redis_slot(keys[i]) != slot) {
            virtual_say(run, MR_REDIS_FAILURE, "CROSSSLOT Keys in request don't hash to the same slot");
            return false;
        }
        missing += virtual_store_find(&run->server->store, keys[i], run->now_ms) == NULL;
    }
    uint32_t me = (uint32_t)(run->server - v->servers);
    uint32_t owner = v->slot_server[slot];
    uint32_t to = v->slot_to[slot];
    bool moves = to != VIRTUAL_SLOT_STAYS;
    if (owner != me && !(moves && to == me && asking)) {
        v->probes[VIRTUAL_REDIS_PROBE_MOVED]++;
        virtual_say(run, MR_REDIS_FAILURE, "MOVED %u %s", slot, v->servers[owner].address);
        return false;
    }
    if (!moves || missing == 0 || (owner != me && count == 1)) {
        return true;
    }
    if (owner == me && missing == count) {
        v->probes[VIRTUAL_REDIS_PROBE_ASK]++;
        virtual_say(run, MR_REDIS_FAILURE, "ASK %u %s", slot, v->servers[to].address);
        return false;
    }
    v->probes[VIRTUAL_REDIS_PROBE_TRYAGAIN]++;
    virtual_say(run, MR_REDIS_FAILURE, "TRYAGAIN Multiple keys request during rehashing of slot");
    return false;
}

/* ---- execution ---- */

/* Whether it may run at all; why not was said. */
static bool admit(struct virtual_run *run, const struct table_row *row) {
    struct virtual_server *server = run->server;
    bool asking = run->c->asking;
    run->c->asking = false;
    if (run->v->options.password != NULL && !run->c->knows_password && (row->flags & EARLY) == 0) {
        virtual_say(run, MR_REDIS_FAILURE, "NOAUTH Authentication required.");
        return false;
    }
    if (server->failures > 0 && (row->flags & FREE) == 0) {
        server->failures--;
        run->v->probes[VIRTUAL_REDIS_PROBE_FAILED]++;
        virtual_say(run, MR_REDIS_FAILURE, "%s", server->failure);
        return false;
    }
    if (!check_slot(run, row, asking)) {
        return false;
    }
    if (server->is_replica && (row->flags & WRITES) != 0) {
        virtual_say(run, MR_REDIS_FAILURE, "READONLY You can't write against a read only replica.");
        return false;
    }
    return true;
}

bool virtual_redis_execute(struct virtual_connection *c, const struct virtual_command *command,
                           struct virtual_memory *memory, struct mr_redis_reply *ret) {
    struct virtual_redis *v = c->v;
    struct virtual_run run = {c,      v,  &v->servers[c->server], command->argv, command->argc,
                              mr_clock_wall_ms(v->options.clock), memory, ret};
    *ret = (struct mr_redis_reply){.type = MR_REDIS_NIL};
    const struct table_row *row = check_form(&run);
    if (row == NULL || !admit(&run, row)) {
        return false;
    }
    virtual_store_begin(&run.server->store);
    row->fn(&run);
    return ret->type != MR_REDIS_FAILURE;
}

struct mr_redis_reply virtual_redis_do(struct virtual_redis_call *call, const struct mr_bytes *argv,
                                       uint32_t argc) {
    struct mr_redis_reply ret = {.type = MR_REDIS_NIL};
    struct virtual_run run = {NULL, call->redis, &call->redis->servers[call->server], argv, argc, call->now_ms,
                              call->memory, &ret};
    const struct table_row *row = check_form(&run);
    if (row != NULL) {
        MR_ASSERT(row->keys != KEYS_NONE || row->fn == virtual_run_time);
        row->fn(&run);
    }
    return ret;
}

bool virtual_redis_hget(struct virtual_redis_call *call, struct mr_bytes key, struct mr_bytes field,
                        struct mr_bytes *ret) {
    struct virtual_store *store = &call->redis->servers[call->server].store;
    struct virtual_entry *hash = virtual_store_find(store, key, call->now_ms);
    struct virtual_entry *found = hash == NULL ? NULL : virtual_store_field(hash, field);
    if (found == NULL) {
        return false;
    }
    *ret = found->value;
    return true;
}

void virtual_redis_hset(struct virtual_redis_call *call, struct mr_bytes key, struct mr_bytes field,
                        struct mr_bytes value) {
    struct virtual_store *store = &call->redis->servers[call->server].store;
    struct virtual_entry *hash = virtual_store_find(store, key, call->now_ms); /* removes an expired one */
    MR_ASSERT(hash == NULL || hash->fields != NULL);
    virtual_store_set_field(store, key, field, value);
}

void virtual_redis_reply_text(struct virtual_redis_call *call, struct mr_redis_reply *ret,
                              enum mr_redis_reply_type type, struct mr_bytes text) {
    set_text(call->memory, ret, type, text);
}

struct mr_redis_reply *virtual_redis_reply_list(struct virtual_redis_call *call, struct mr_redis_reply *ret,
                                                uint32_t count) {
    return set_list(call->memory, ret, count);
}
