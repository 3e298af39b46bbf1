/* SPDX-License-Identifier: Apache-2.0 */
/* The key layout: SET d:<cluster>/<stream>:<fingerprint> <token> GET PX <ttl> NX for each id; assertions without NX. */
#include "dedup/claims_parts.h"

/* "d:", the prefix without its "/", ":", the fingerprint. */
struct mr_bytes mr_claims_key_name(const struct mr_claims_own_stream *stream,
                                   struct mr_fingerprint id, uint8_t ret[MR_CLAIMS_KEY_MAX]) {
    size_t len = stream->prefix_len - 1;
    memcpy(ret, "d:", 2);
    memcpy(ret + 2, stream->prefix, len);
    ret[2 + len] = ':';
    mr_claims_put_fp(ret + 3 + len, id);
    return mr_bytes_of(ret, 3 + len + MR_CLAIMS_FP_LEN);
}

static struct mr_bytes key_of(const struct mr_claims *claims, const struct mr_claims_wave *wave,
                              const struct mr_claims_command *command,
                              uint8_t ret[MR_CLAIMS_KEY_MAX]) {
    return mr_claims_key_name(&claims->streams[command->place / MR_CLAIM_BUCKETS],
                              wave->entries[command->first].fp, ret);
}

uint32_t mr_claims_key_slot(const struct mr_claims *claims, const struct mr_claims_wave *wave,
                            const struct mr_claims_command *command) {
    uint8_t key[MR_CLAIMS_KEY_MAX];
    return claims->cluster_mode ? mr_redis_slot(key_of(claims, wave, command, key)) : 0;
}

enum mr_status mr_claims_key_send(struct mr_claims *claims, struct mr_claims_wave *wave,
                                  const struct mr_claims_command *command, uint32_t node,
                                  uint64_t tag) {
    MR_ASSERT(command->count == 1);
    uint8_t key[MR_CLAIMS_KEY_MAX];
    uint8_t token[MR_CLAIMS_TOKEN_LEN];
    mr_claims_token(claims, &wave->members[wave->entries[command->first].member], token);
    const struct mr_bytes argv[] = {
        MR_BYTES("SET"),
        key_of(claims, wave, command, key),
        mr_bytes_of(token, sizeof token),
        MR_BYTES("GET"),
        MR_BYTES("PX"),
        mr_bytes_text(claims->streams[command->place / MR_CLAIM_BUCKETS].ttl),
        MR_BYTES("NX"),
    };
    uint32_t argc = sizeof argv / sizeof argv[0] - wave->again;
    struct mr_redis_command send = {argv, argc, tag, command->asked};
    return mr_redis_send(claims->redis, node, &send);
}

bool mr_claims_key_read(struct mr_claims *claims, struct mr_claims_wave *wave,
                        const struct mr_claims_command *command,
                        const struct mr_redis_reply *reply) {
    if (reply->type == MR_REDIS_NIL) {
        wave->marks[command->first] = MR_CLAIM_WON;
        return true;
    }
    if (reply->type != MR_REDIS_TEXT || reply->text.len != MR_CLAIMS_TOKEN_LEN) {
        return false;
    }
    mr_claims_mark_owner(claims, wave, command->first, reply->text.ptr);
    return true;
}
