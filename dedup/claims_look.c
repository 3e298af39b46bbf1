/* SPDX-License-Identifier: Apache-2.0 */
/* Looks: whether an id was claimed. HMGET of its field in each of the two generations that a claim would be compared
 * with (not HGET, which servers' users may not call: claims have no need of it), or PTTL of its key.
 *
 *      tag   kind | use of the slot: 31 bits | reply: 1 bit | slot: 8 bits
 *
 * A look ends with its last reply, or with whatever says that it cannot be answered. Replies that are still under way then
 * find another use in the slot, or none. */
#include "dedup/claims_parts.h"

enum { SLOT_BITS = 8, REPLIES_MAX = 2, USES_SHIFT = SLOT_BITS + 1, NS_PER_MS = 1000000 };

static_assert(MR_CLAIM_LOOKS == 1 << SLOT_BITS, "the tag has the slot's number");

#define USES_MASK ((UINT32_C(1) << 31) - 1)

/* ---- the queue ---- */

static void end(struct mr_claims *c, struct mr_claim_look *look, enum mr_status status) {
    look->status = status;
    if (status != MR_OK || !look->seen) {
        look->seen = false;
        look->from_ms = look->to_ms = look->until_ms = 0;
    }
    look->next = c->looks.answered;
    c->looks.answered = look;
}

static void end_slot(struct mr_claims *c, struct mr_claims_look_slot *slot, enum mr_status status) {
    struct mr_claim_look *look = slot->look;
    slot->look = NULL;
    end(c, look, status);
}

struct mr_claim_look *mr_claims_looked(struct mr_claims *c) {
    struct mr_claim_look *look = c->looks.answered;
    if (look != NULL) {
        c->looks.answered = look->next;
        c->looks.count--;
        look->next = NULL;
    }
    return look;
}

/* ---- sending ---- */

/* Which generation the reply is of. */
static int64_t generation_of(const struct mr_claims_own_stream *stream,
                             const struct mr_claim_look *look, uint32_t reply) {
    int64_t step = look->now_ms / stream->horizon_ms;
    return reply == 0 ? step / 2 : mr_claims_beside(step);
}

/* Nobody has checked a session that the watch has not passed. */
static bool send_to(struct mr_claims *c, uint32_t node, const struct mr_redis_command *command) {
    struct mr_redis_node info;
    if (node == MR_REDIS_NO_NODE) {
        return false;
    }
    mr_redis_node(c->redis, node, &info);
    return mr_watch_passed(c->watch, node, info.session) &&
           mr_redis_send(c->redis, node, command) == MR_OK;
}

/* asked: the node that ASK names, or MR_REDIS_NO_NODE. */
static bool send_look(struct mr_claims *c, const struct mr_claims_look_slot *slot, uint32_t reply,
                      uint32_t asked) {
    const struct mr_claim_look *look = slot->look;
    const struct mr_claims_own_stream *stream = &c->streams[look->stream];
    uint64_t use = slot->uses & USES_MASK;
    struct mr_redis_command send = {
        .tag = MR_CLAIMS_TAG_LOOK | use << USES_SHIFT | (uint64_t)reply << SLOT_BITS |
               (uint64_t)(slot - c->looks.slots),
        .asking = asked != MR_REDIS_NO_NODE,
    };
    if (stream->layout == MR_CLAIM_KEY) {
        uint8_t name[MR_CLAIMS_KEY_MAX];
        struct mr_bytes key = mr_claims_key_name(stream, look->id, name);
        const struct mr_bytes argv[] = {MR_BYTES("PTTL"), key};
        uint32_t node = mr_redis_node_of(c->redis, c->cluster_mode ? mr_redis_slot(key) : 0);
        send.argv = argv;
        send.argc = 2;
        return send_to(c, send.asking ? asked : node, &send);
    }
    uint32_t bucket = mr_claims_bucket_of(look->id);
    uint32_t place = look->stream * MR_CLAIM_BUCKETS + bucket;
    char name[MR_CLAIMS_KEY_MAX];
    uint8_t field[MR_CLAIMS_FP_LEN];
    mr_claims_put_fp(field, look->id);
    const struct mr_bytes argv[] = {
        MR_BYTES("HMGET"),
        mr_claims_bucket_name(stream, bucket, generation_of(stream, look, reply), name),
        mr_bytes_of(field, sizeof field),
    };
    send.argv = argv;
    send.argc = 3;
    return send_to(c, send.asking ? asked : mr_redis_node_of(c->redis, c->places[place].slot),
                   &send);
}

static struct mr_claims_look_slot *take_slot(struct mr_claims *c, struct mr_claim_look *look) {
    for (uint32_t s = 0; s < MR_CLAIM_LOOKS; s++) {
        struct mr_claims_look_slot *slot = &c->looks.slots[s];
        if (slot->look == NULL) {
            *slot = (struct mr_claims_look_slot){
                .look = look, .asked_ns = mr_clock_mono_ns(c->clock), .uses = slot->uses + 1};
            return slot;
        }
    }
    MR_UNREACHABLE();
}

bool mr_claims_look(struct mr_claims *c, struct mr_claim_look *look) {
    MR_ASSERT(look->stream < c->stream_count);
    MR_ASSERT(look->now_ms >= 0 &&
              look->now_ms <= INT64_MAX / 7); /* five horizons later fit, too */
    if (c->looks.count == MR_CLAIM_LOOKS) {
        return false;
    }
    c->looks.count++;
    look->seen = false;
    look->turn = mr_watch_turn(c->watch);
    look->undecided = c->streams[look->stream].layout == MR_CLAIM_KEY ? 1 : REPLIES_MAX;
    if (mr_watch_state(c->watch) != MR_WATCH_STRICT) {
        end(c, look, MR_AGAIN);
        return true;
    }
    struct mr_claims_look_slot *slot = take_slot(c, look);
    for (uint32_t reply = 0; reply < look->undecided; reply++) {
        if (!send_look(c, slot, reply, MR_REDIS_NO_NODE)) {
            end_slot(c, slot, MR_AGAIN);
            return true;
        }
    }
    return true;
}

/* ---- answers ---- */

/* The claim was made before the reply came, whatever the clock of the node that recorded the id said. */
static int64_t replied_ms(const struct mr_claims *c, const struct mr_claims_look_slot *slot) {
    uint64_t asked_ns = mr_clock_mono_ns(c->clock) - slot->asked_ns;
    return slot->look->now_ms + (int64_t)((asked_ns + NS_PER_MS - 1) / NS_PER_MS);
}

/* Whichever of two is there: an id that both have was first seen in the earlier. */
static bool read_field(const struct mr_claims *c, const struct mr_claims_look_slot *slot,
                       uint32_t number, const struct mr_redis_reply *reply) {
    struct mr_claim_look *look = slot->look;
    const struct mr_claims_own_stream *stream = &c->streams[look->stream];
    if (reply->type != MR_REDIS_LIST || reply->count != 1) {
        return false;
    }
    const struct mr_redis_reply *owner = &reply->items[0];
    if (owner->type == MR_REDIS_NIL) {
        return true;
    }
    if (owner->type != MR_REDIS_TEXT || owner->text.len != MR_CLAIMS_TOKEN_LEN) {
        return false; /* nor would a claim decide by it */
    }
    int64_t horizon_ms = stream->horizon_ms;
    int64_t begin_ms = generation_of(stream, look, number) * 2 * horizon_ms;
    int64_t end_ms = begin_ms + 2 * horizon_ms;
    int64_t now_ms = replied_ms(c, slot);
    int64_t from_ms = begin_ms < now_ms ? begin_ms : now_ms;
    if (!look->seen || from_ms < look->from_ms) {
        look->from_ms = from_ms;
        look->to_ms = end_ms < now_ms + 1 ? end_ms : now_ms + 1;
        look->until_ms = end_ms + horizon_ms;
    }
    look->seen = true;
    return true;
}

/* How long ago it was is Redis's word, when that was is as exact as the time that the reply took. */
static bool read_ttl(const struct mr_claims *c, const struct mr_claims_look_slot *slot,
                     const struct mr_redis_reply *reply) {
    enum { NO_KEY = -2, NO_EXPIRY = -1 };
    struct mr_claim_look *look = slot->look;
    int64_t ttl_ms = c->streams[look->stream].ttl_ms;
    if (reply->type != MR_REDIS_INTEGER || reply->integer <= NO_EXPIRY) {
        return reply->type == MR_REDIS_INTEGER && reply->integer == NO_KEY;
    }
    int64_t left_ms = reply->integer < ttl_ms ? reply->integer : ttl_ms; /* its clock went back */
    look->seen = true;
    look->from_ms = look->now_ms - (ttl_ms - left_ms);
    look->to_ms = replied_ms(c, slot) - (ttl_ms - left_ms) + 1;
    look->until_ms = look->now_ms + left_ms;
    return true;
}

/* Whether the slot's look can still be answered. Not after MOVED: the watch wants proof of the server before, in another
 * turn. */
static bool take_reply(struct mr_claims *c, struct mr_claims_look_slot *slot, uint32_t number,
                       const struct mr_redis_answer *answer) {
    struct mr_claim_look *look = slot->look;
    if (mr_watch_turn(c->watch) != look->turn) {
        return false;
    }
    if (answer->outcome == MR_REDIS_ASKED && !slot->asked[number]) {
        slot->asked[number] = true;
        return send_look(c, slot, number, answer->node_asked);
    }
    if (answer->outcome != MR_REDIS_ANSWERED) {
        return false;
    }
    bool is_key = c->streams[look->stream].layout == MR_CLAIM_KEY;
    look->undecided--;
    return is_key ? read_ttl(c, slot, &answer->reply) : read_field(c, slot, number, &answer->reply);
}

void mr_claims_look_answer(struct mr_claims *c, const struct mr_redis_answer *answer) {
    struct mr_claims_look_slot *slot = &c->looks.slots[answer->tag & (MR_CLAIM_LOOKS - 1)];
    uint32_t use = (uint32_t)(answer->tag >> USES_SHIFT) & USES_MASK;
    if (slot->look == NULL || use != (slot->uses & USES_MASK)) {
        return; /* of a look that has ended */
    }
    if (!take_reply(c, slot, (uint32_t)(answer->tag >> SLOT_BITS) & 1, answer)) {
        end_slot(c, slot, MR_AGAIN);
    } else if (slot->look->undecided == 0) {
        end_slot(c, slot, MR_OK);
    }
}

/* STRICT in another turn is no better: the reply may be of the data that was lost in between. */
bool mr_claims_look_step(struct mr_claims *c) {
    uint64_t turn = mr_watch_turn(c->watch);
    bool any = false;
    if (turn == c->looks.turn) {
        return false;
    }
    c->looks.turn = turn;
    for (uint32_t s = 0; s < MR_CLAIM_LOOKS; s++) {
        struct mr_claims_look_slot *slot = &c->looks.slots[s];
        if (slot->look != NULL && slot->look->turn != turn) {
            end_slot(c, slot, MR_AGAIN);
            any = true;
        }
    }
    return any;
}

/* ---- check ---- */

void mr_claims_look_check(const struct mr_claims *c) {
    uint32_t count = 0;
    for (uint32_t s = 0; s < MR_CLAIM_LOOKS; s++) {
        const struct mr_claim_look *look = c->looks.slots[s].look;
        MR_ASSERT(look == NULL || (look->undecided > 0 && look->undecided <= REPLIES_MAX));
        MR_ASSERT(look == NULL || look->stream < c->stream_count);
        count += look != NULL;
    }
    for (const struct mr_claim_look *look = c->looks.answered; look != NULL; look = look->next) {
        MR_ASSERT(look->status == MR_OK || (look->status == MR_AGAIN && !look->seen));
        count++;
    }
    MR_ASSERT(count == c->looks.count);
}
