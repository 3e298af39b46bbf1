/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sink/sink_script.h"

#include "base/check.h"
#include "sink/redis_sink.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static unsigned long long number(struct mr_bytes text) {
    char copy[32];
    MR_ASSERT(text.len > 0 && text.len < sizeof copy);
    memcpy(copy, text.ptr, text.len);
    copy[text.len] = 0;
    return strtoull(copy, NULL, 10);
}

/* <0, 0, >0: what the hash has against what comes. */
static int compare(const struct mr_redis_reply *old, const struct mr_bytes *args) {
    for (uint32_t i = 0; i < 3; i++) {
        bool tombstone = i == 2 && old->items[i].type != MR_REDIS_TEXT;
        unsigned long long a = tombstone ? 2 : number(old->items[i].text);
        unsigned long long b = number(args[i]);
        if (a != b) {
            bool of_epoch = i == 0;
            return a < b ? -1 : of_epoch ? 2 : 1;
        }
    }
    return 0;
}

static void set_fields(struct virtual_redis_call *call) {
    static const char *const names[] = {"_epoch", "revision"};
    const struct mr_bytes remove[] = {MR_BYTES("DEL"), call->keys[0]};
    const struct mr_bytes expire[] = {MR_BYTES("PEXPIRE"), call->keys[0], call->args[3]};
    (void)virtual_redis_do(call, remove, 2);
    bool retraction = number(call->args[2]) == 2;
    for (uint32_t i = 0; i < 2; i++) {
        virtual_redis_hset(call, call->keys[0], mr_bytes_text(names[i]), call->args[i]);
    }
    virtual_redis_hset(call, call->keys[0], retraction ? MR_BYTES("retracted") : MR_BYTES("final"),
                       retraction ? MR_BYTES("1") : call->args[2]);
    for (uint32_t i = 4; i + 1 < call->arg_count; i += 2) {
        virtual_redis_hset(call, call->keys[0], call->args[i], call->args[i + 1]);
    }
    if (call->args[3].len > 0) {
        (void)virtual_redis_do(call, expire, 3);
    }
}

static void run(void *ctx, struct virtual_redis_call *call, struct mr_redis_reply *ret) {
    (void)ctx;
    MR_ASSERT(call->key_count == 1 && call->arg_count >= 4 && call->arg_count % 2 == 0);
    const struct mr_bytes get[] = {MR_BYTES("HMGET"), call->keys[0], MR_BYTES("_epoch"), MR_BYTES("revision"),
                                   MR_BYTES("final"), MR_BYTES("retracted")};
    const struct mr_bytes exists[] = {MR_BYTES("EXISTS"), call->keys[0]};
    struct mr_redis_reply old = virtual_redis_do(call, get, 6);
    if (old.type == MR_REDIS_FAILURE) {
        *ret = old;
        return;
    }
    ret->type = MR_REDIS_INTEGER;
    bool ours = old.items[0].type == MR_REDIS_TEXT && old.items[1].type == MR_REDIS_TEXT &&
                (old.items[2].type == MR_REDIS_TEXT || old.items[3].type == MR_REDIS_TEXT);
    if (!ours && virtual_redis_do(call, exists, 2).integer == 1) {
        virtual_redis_reply_text(call, ret, MR_REDIS_FAILURE, MR_BYTES("WRONGTYPE not ours"));
        return;
    }
    int place = ours ? compare(&old, call->args) : -1;
    if (place < 0) {
        set_fields(call);
    }
    ret->integer = place < 0 ? 1 : place == 2 ? -1 : 0;
}

void sink_script_register(struct virtual_redis *v) {
    static char begin[41];
    struct mr_bytes text = mr_redis_sink_script();
    (void)snprintf(begin, sizeof begin, "%.40s", (const char *)text.ptr);
    virtual_redis_script(v, begin, run, NULL);
}
