/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/redis/claims_script.h"

#include "base/check.h"
#include "dedup/claims_script.h"

#include <stdlib.h>

enum { TEXTS_MAX = 8192 };

struct texts {
    uint32_t count;
    struct mr_bytes items[TEXTS_MAX];
};

/* MessagePack's short texts, one behind the other. */
static void unpack(struct mr_bytes packed, struct texts *ret) {
    ret->count = 0;
    for (size_t at = 0; at < packed.len;) {
        MR_ASSERT((packed.ptr[at] & 0xe0) == 0xa0 && ret->count < TEXTS_MAX);
        size_t len = packed.ptr[at] & 0x1f;
        MR_ASSERT(at + 1 + len <= packed.len);
        ret->items[ret->count++] = mr_bytes_of(packed.ptr + at + 1, len);
        at += 1 + len;
    }
}

static int64_t count_key(struct virtual_redis_call *call, struct mr_bytes key) {
    const struct mr_bytes argv[] = {MR_BYTES("EXISTS"), key};
    return virtual_redis_do(call, argv, 2).integer;
}

static bool canary_is_right(struct virtual_redis_call *call) {
    const struct mr_bytes argv[] = {MR_BYTES("GET"), call->keys[0]};
    struct mr_redis_reply canary = virtual_redis_do(call, argv, 2);
    return call->args[0].len == 0 ||
           (canary.type == MR_REDIS_TEXT && mr_bytes_equal(canary.text, call->args[0]));
}

/* Straight from malloc, as all of the virtual Redis. */
struct reply {
    size_t len;
    uint8_t bytes[TEXTS_MAX * 32 + 8];
};

static void put_byte(struct reply *reply, size_t byte) {
    reply->bytes[reply->len++] = (uint8_t)byte;
}

static void put_owner(struct reply *reply, bool owned, struct mr_bytes owner) {
    MR_ASSERT(!owned || owner.len < 32);
    put_byte(reply, owned ? 0xa0 + owner.len : 0xc2);
    if (owned) {
        memcpy(reply->bytes + reply->len, owner.ptr, owner.len);
        reply->len += owner.len;
    }
}

/* The array's head, then an owner or false for each id. Returns how many had an owner. */
static uint32_t find_owners(struct virtual_redis_call *call, const struct texts *ids,
                            bool *is_owned, struct reply *reply) {
    uint32_t count = ids->count - 1;
    uint32_t taken = 0;
    if (count < 16) {
        put_byte(reply, 0x90 + count);
    } else {
        put_byte(reply, 0xdc);
        put_byte(reply, count >> 8);
        put_byte(reply, count);
    }
    for (uint32_t i = 0; i < count; i++) {
        struct mr_bytes owner = {NULL, 0};
        is_owned[i] = virtual_redis_hget(call, call->keys[1], ids->items[i], &owner) ||
                      virtual_redis_hget(call, call->keys[2], ids->items[i], &owner);
        put_owner(reply, is_owned[i], owner);
        taken += is_owned[i];
    }
    return taken;
}

static void run(void *ctx, struct virtual_redis_call *call, struct mr_redis_reply *ret) {
    (void)ctx;
    MR_ASSERT(call->key_count == 3 && call->arg_count == 4);
    if (!canary_is_right(call)) {
        *ret = (struct mr_redis_reply){.type = MR_REDIS_INTEGER};
        return;
    }
    struct texts *ids = malloc(sizeof *ids);
    struct texts *claims = malloc(sizeof *claims);
    bool *is_owned = malloc(TEXTS_MAX);
    struct reply *reply = calloc(1, sizeof *reply);
    MR_ASSERT(ids != NULL && claims != NULL && is_owned != NULL && reply != NULL);
    unpack(call->args[2], ids);
    unpack(call->args[3], claims);
    MR_ASSERT(mr_bytes_equal(ids->items[ids->count - 1], MR_BYTES(MR_CLAIMS_ABOUT)));
    MR_ASSERT(claims->count == 2 * (ids->count - 1));
    bool is_new = count_key(call, call->keys[1]) == 0;
    uint32_t taken = find_owners(call, ids, is_owned, reply);
    bool again = call->args[0].len == 0;
    for (uint32_t i = 0; i + 1 < ids->count; i++) {
        const struct mr_bytes remove[] = {MR_BYTES("HDEL"), call->keys[2], ids->items[i]};
        if (again) {
            (void)virtual_redis_do(call, remove, 3);
        }
        if (!is_owned[i] || again) {
            MR_ASSERT(mr_bytes_equal(ids->items[i], claims->items[2 * i]));
            virtual_redis_hset(call, call->keys[1], claims->items[2 * i], claims->items[2 * i + 1]);
        }
    }
    if (is_new && (taken + 1 < ids->count || again)) {
        const struct mr_bytes expire[] = {MR_BYTES("PEXPIRE"), call->keys[1], call->args[1]};
        virtual_redis_hset(call, call->keys[1], MR_BYTES(MR_CLAIMS_ABOUT), MR_BYTES("about"));
        (void)virtual_redis_do(call, expire, 3);
    }
    virtual_redis_reply_text(call, ret, MR_REDIS_TEXT,
                             mr_bytes_of(reply->bytes, taken == 0 ? 0 : reply->len));
    free(reply);
    free(is_owned);
    free(claims);
    free(ids);
}

void claims_script_register(struct virtual_redis *v) {
    virtual_redis_script(v, MR_CLAIMS_SCRIPT_BEGINS, run, NULL);
}
