/* SPDX-License-Identifier: Apache-2.0 */
/* The bucket layout: one run of the script for the ids of a bucket (dedup/claims_script.h). */
#include "dedup/claims_parts.h"

#include <inttypes.h>
#include <stdio.h>

/* MessagePack: a text of up to 31 bytes begins with its length. */
enum { TEXT_OF = 0xa0, PACKED_FALSE = 0xc2, ARRAY_OF = 0x90, ARRAY_OF_16_BITS = 0xdc };

static_assert(MR_CLAIMS_COMMAND_IDS * 2 + 2 < 7000, "unpack in the script has room on Lua's stack");

struct keys {
    char text[3][MR_CLAIMS_KEY_MAX];
    struct mr_bytes canary;
    struct mr_bytes hash;
    struct mr_bytes beside;
};

struct mr_bytes mr_claims_bucket_name(const struct mr_claims_own_stream *stream, uint32_t bucket,
                                      int64_t generation, char ret[MR_CLAIMS_KEY_MAX]) {
    int len = snprintf(ret, MR_CLAIMS_KEY_MAX, "b:{%s%" PRIu32 "}:%" PRId64, stream->prefix, bucket,
                       generation);
    MR_ASSERT(len > 0 && len < MR_CLAIMS_KEY_MAX);
    return mr_bytes_of(ret, (size_t)len);
}

/* A step is half a generation: a copy of an id of its first half may be in the generation before, of its second half in
 * the one behind. */
int64_t mr_claims_beside(int64_t step) {
    return step % 2 == 0 ? step / 2 - 1 : step / 2 + 1;
}

static void name_keys(const struct mr_claims_own_stream *stream, int64_t step, uint32_t bucket,
                      struct keys *ret) {
    int len = snprintf(ret->text[0], sizeof ret->text[0], "c:{%s%" PRIu32 "}", stream->prefix, bucket);
    MR_ASSERT(len > 0 && len < MR_CLAIMS_KEY_MAX);
    ret->canary = mr_bytes_of(ret->text[0], (size_t)len);
    ret->hash = mr_claims_bucket_name(stream, bucket, step / 2, ret->text[1]);
    ret->beside = mr_claims_bucket_name(stream, bucket, mr_claims_beside(step), ret->text[2]);
}

static size_t put_text(uint8_t *at, const void *text, size_t len) {
    at[0] = (uint8_t)(TEXT_OF + len);
    memcpy(at + 1, text, len);
    return 1 + len;
}

/* Fills claims->ids and claims->pairs, and returns them. */
static void pack(struct mr_claims *claims, const struct mr_claims_wave *wave,
                 const struct mr_claims_command *command, struct mr_bytes *ret_ids,
                 struct mr_bytes *ret_pairs) {
    uint8_t *ids = claims->ids;
    uint8_t *pairs = claims->pairs;
    uint8_t token[MR_CLAIMS_TOKEN_LEN];
    uint32_t member = UINT32_MAX;
    for (uint32_t i = command->first; i < command->first + command->count; i++) {
        if (wave->marks[i] == MR_CLAIMS_REPEATS) {
            continue;
        }
        const struct mr_claims_entry *e = &wave->entries[i];
        if (e->member != member) {
            member = e->member;
            mr_claims_token(claims, &wave->members[member], token);
        }
        ids[0] = TEXT_OF + MR_CLAIMS_FP_LEN;
        mr_claims_put_fp(ids + 1, e->fp);
        memcpy(pairs, ids, 1 + MR_CLAIMS_FP_LEN);
        pairs += 1 + MR_CLAIMS_FP_LEN;
        ids += 1 + MR_CLAIMS_FP_LEN;
        pairs += put_text(pairs, token, sizeof token);
    }
    ids += put_text(ids, MR_CLAIMS_ABOUT, sizeof MR_CLAIMS_ABOUT - 1);
    *ret_ids = mr_bytes_of(claims->ids, (size_t)(ids - claims->ids));
    *ret_pairs = mr_bytes_of(claims->pairs, (size_t)(pairs - claims->pairs));
}

/* The script goes ahead of the first command of a session, and again after a NOSCRIPT. */
static enum mr_status send_script(struct mr_claims *claims, uint32_t node) {
    struct mr_redis_node info;
    mr_redis_node(claims->redis, node, &info);
    if (claims->script_session[node] == info.session) {
        return MR_OK;
    }
    const struct mr_bytes argv[] = {MR_BYTES("SCRIPT"), MR_BYTES("LOAD"), mr_claims_script_text()};
    struct mr_redis_command send = {argv, sizeof argv / sizeof argv[0], MR_CLAIMS_TAG_SCRIPT | node,
                                    false};
    enum mr_status status = mr_redis_send(claims->redis, node, &send);
    if (status == MR_OK) {
        claims->script_session[node] = info.session;
    }
    return status;
}

enum mr_status mr_claims_bucket_send(struct mr_claims *claims, struct mr_claims_wave *wave,
                                     const struct mr_claims_command *command, uint32_t node,
                                     uint64_t tag) {
    enum mr_status status = send_script(claims, node);
    if (status != MR_OK) {
        return status;
    }
    const struct mr_claims_own_stream *stream = &claims->streams[command->place / MR_CLAIM_BUCKETS];
    struct keys keys;
    struct mr_bytes ids;
    struct mr_bytes pairs;
    name_keys(stream, wave->steps[command->place / MR_CLAIM_BUCKETS],
              command->place % MR_CLAIM_BUCKETS, &keys);
    pack(claims, wave, command, &ids, &pairs);
    const struct mr_bytes argv[] = {
        MR_BYTES("EVALSHA"),
        mr_bytes_text(claims->script_sha),
        MR_BYTES("3"),
        keys.canary,
        keys.hash,
        keys.beside,
        mr_bytes_of(wave->epoch.bytes, wave->again ? 0 : MR_EPOCH_LEN),
        mr_bytes_text(stream->ttl),
        ids,
        pairs,
    };
    struct mr_redis_command send = {argv, sizeof argv / sizeof argv[0], tag, command->asked};
    return mr_redis_send(claims->redis, node, &send);
}

/* ---- replies ---- */

/* Behind the head of an array of so many; NULL: it is none. */
static const uint8_t *read_head(struct mr_bytes text, uint32_t *ret_count) {
    if (text.len >= 1 && (text.ptr[0] & 0xf0) == ARRAY_OF) {
        *ret_count = text.ptr[0] & 0x0f;
        return text.ptr + 1;
    }
    if (text.len >= 3 && text.ptr[0] == ARRAY_OF_16_BITS) {
        *ret_count = (uint32_t)text.ptr[1] << 8 | text.ptr[2];
        return text.ptr + 3;
    }
    return NULL;
}

/* Whether it is one owner or false for each of the ids, and nothing else. */
static bool is_well_formed(struct mr_bytes text, const uint8_t *at, uint32_t count) {
    const uint8_t *end = text.ptr + text.len;
    for (uint32_t i = 0; i < count; i++) {
        bool owned = at < end && *at == TEXT_OF + MR_CLAIMS_TOKEN_LEN;
        size_t len = owned ? 1 + MR_CLAIMS_TOKEN_LEN : 1;
        if ((size_t)(end - at) < len || (!owned && *at != PACKED_FALSE)) {
            return false;
        }
        at += len;
    }
    return at == end;
}

static bool read_owners(struct mr_claims *claims, struct mr_claims_wave *wave,
                        const struct mr_claims_command *command, struct mr_bytes text) {
    uint32_t count;
    const uint8_t *at = read_head(text, &count);
    if (at == NULL || count != command->ids || !is_well_formed(text, at, count)) {
        return false;
    }
    for (uint32_t i = command->first; i < command->first + command->count; i++) {
        if (wave->marks[i] == MR_CLAIMS_REPEATS) {
            continue;
        }
        if (*at == PACKED_FALSE) {
            wave->marks[i] = MR_CLAIM_WON;
            at++;
        } else {
            mr_claims_mark_owner(claims, wave, i, at + 1);
            at += 1 + MR_CLAIMS_TOKEN_LEN;
        }
    }
    return true;
}

bool mr_claims_bucket_read(struct mr_claims *claims, struct mr_claims_wave *wave,
                           const struct mr_claims_command *command,
                           const struct mr_redis_reply *reply, bool *ret_lost) {
    *ret_lost = reply->type == MR_REDIS_INTEGER && reply->integer == 0;
    if (reply->type != MR_REDIS_TEXT) {
        return false;
    }
    if (reply->text.len > 0) {
        return read_owners(claims, wave, command, reply->text);
    }
    for (uint32_t i = command->first; i < command->first + command->count; i++) {
        if (wave->marks[i] != MR_CLAIMS_REPEATS) {
            wave->marks[i] = MR_CLAIM_WON;
        }
    }
    return true;
}
