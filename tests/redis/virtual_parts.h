/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Virtual parts: what the files of the virtual Redis share. */
#include "base/check.h"
#include "net/redis.h" /* mr_redis_slot */
#include "tests/redis/virtual_redis.h"
#include "tests/redis/virtual_store.h"

#define VIRTUAL_SLOT_STAYS UINT8_MAX
#define VIRTUAL_ADDRESS_MAX 32
#define VIRTUAL_HEX_MAX 41

enum { VIRTUAL_SCRIPTS_MAX = 16 };

struct virtual_block {
    struct virtual_block *next;
    uint64_t bytes[];
};

struct virtual_memory { /* of a reply */
    struct virtual_block *blocks;
};

struct virtual_script {
    char *text; /* the prefix, or the SHA1 */
    virtual_redis_script_fn *fn;
    void *ctx;
};

struct virtual_server {
    char host[VIRTUAL_ADDRESS_MAX];
    char address[VIRTUAL_ADDRESS_MAX];
    struct virtual_store store;
    bool up;
    bool hangs;
    uint64_t awake_ns; /* since when it hangs no more */
    bool is_replica; /* in a cluster it answers MOVED, else READONLY */
    char run_id[VIRTUAL_HEX_MAX];
    char replication_id[VIRTUAL_HEX_MAX];
    uint64_t evicted;
    char policy[32]; /* maxmemory-policy */
    char appendonly[8];
    char appendfsync[16];
    char maxmemory[24];
    struct { /* loaded scripts: SHA1 and who it is */
        char sha[VIRTUAL_HEX_MAX];
        uint32_t script;
    } loaded[VIRTUAL_SCRIPTS_MAX];
    uint32_t loaded_count;
    uint64_t delay_min_ns;
    uint64_t delay_max_ns;
    uint32_t cut_before; /* commands to go; 0: off */
    uint32_t cut_after;
    const char *failure;
    uint32_t failures; /* commands to go */
};

struct virtual_command { /* on its way to the server */
    struct virtual_command *next;
    uint64_t arrives_ns;
    uint64_t number; /* over all connections, for commands that arrive together */
    uint32_t argc;
    struct mr_bytes argv[]; /* and their bytes */
};

struct virtual_answer { /* on its way back */
    struct virtual_answer *next;
    uint64_t arrives_ns;
    bool told; /* by step */
    struct mr_redis_reply reply;
    struct virtual_memory memory;
};

struct virtual_connection {
    struct mr_redis_connection connection;
    struct virtual_redis *v;
    struct virtual_connection *next;
    uint32_t server;
    bool broken;
    bool alone; /* closed by the client; what has been sent may still be executed */
    bool knows_password;
    bool asking;
    const char *trouble;
    uint64_t last_arrival_ns;
    struct virtual_command *commands;
    struct virtual_command **commands_end;
    struct virtual_answer *answers;
    struct virtual_answer **answers_end;
    struct virtual_answer *taken; /* the one the client looks at */
};

struct virtual_redis {
    struct mr_redis_transport transport;
    struct virtual_redis_options options;
    uint64_t random;
    uint64_t hash;
    uint64_t number;
    struct virtual_server *servers;
    uint32_t server_count;
    struct virtual_connection *connections;
    uint32_t open; /* of them, not alone */
    uint8_t slot_server[MR_REDIS_SLOTS];
    uint8_t slot_to[MR_REDIS_SLOTS];
    struct virtual_script scripts[VIRTUAL_SCRIPTS_MAX];
    uint32_t script_count;
    virtual_redis_witness_fn *witness;
    void *witness_ctx;
    uint64_t probes[VIRTUAL_REDIS_PROBE_COUNT];
};

/* virtual_redis.c */
uint64_t virtual_redis_below(struct virtual_redis *v, uint64_t bound);
void virtual_redis_break(struct virtual_connection *c, const char *why);
void virtual_redis_new_id(struct virtual_redis *v, char ret[VIRTUAL_HEX_MAX]);

/* virtual_commands.c. *memory is empty; *ret is the reply. Returns whether it was executed, not refused. */
bool virtual_redis_execute(struct virtual_connection *c, const struct virtual_command *command,
                           struct virtual_memory *memory, struct mr_redis_reply *ret);
void virtual_memory_free(struct virtual_memory *memory);
void *virtual_memory_take(struct virtual_memory *memory, size_t size);

/* virtual_admin.c: the commands that are not about data. */
struct virtual_run { /* a command while it runs */
    struct virtual_connection *c; /* NULL: within a script */
    struct virtual_redis *v;
    struct virtual_server *server;
    const struct mr_bytes *argv;
    uint32_t argc;
    int64_t now_ms;
    struct virtual_memory *memory;
    struct mr_redis_reply *ret;
};

typedef void virtual_command_fn(struct virtual_run *run);
virtual_command_fn virtual_run_ping, virtual_run_auth, virtual_run_client, virtual_run_select, virtual_run_time,
    virtual_run_info, virtual_run_config, virtual_run_flushall, virtual_run_wait, virtual_run_cluster,
    virtual_run_asking, virtual_run_script, virtual_run_eval, virtual_run_dbsize;

/* Replies. */
void virtual_say_text(struct virtual_run *run, enum mr_redis_reply_type type, struct mr_bytes text);
void virtual_say(struct virtual_run *run, enum mr_redis_reply_type type, const char *format, ...) MR_PRINTF(3, 4);
void virtual_say_integer(struct virtual_run *run, int64_t value);
void virtual_say_ok(struct virtual_run *run);
bool virtual_word_is(struct mr_bytes bytes, const char *word); /* whatever the case */
bool virtual_parse_int(struct mr_bytes bytes, int64_t *ret);
