/* SPDX-License-Identifier: Apache-2.0 */
/* A wave's way: sent, answered, guarded, decided. */
#include "dedup/claims_parts.h"

#define NO_PART UINT16_MAX
#define NO_TAG  UINT32_MAX

/* ---- parts and guards ---- */

/* Which canary stands for a node in the key layout: any that it serves. */
static void note_map(struct mr_claims *claims) {
    uint64_t version = mr_redis_map_version(claims->redis);
    if (version == claims->map_version) {
        return;
    }
    claims->map_version = version;
    memset(claims->node_tag, 0xff, sizeof claims->node_tag);
    for (uint32_t p = claims->place_count; p-- > 0;) {
        uint32_t node = mr_redis_node_of(claims->redis, claims->places[p].slot);
        if (node != MR_REDIS_NO_NODE) {
            claims->node_tag[node] = p;
        }
    }
    for (uint32_t slot = 0; claims->slot_numbers != NULL && slot < MR_REDIS_SLOTS; slot++) {
        uint32_t node = mr_redis_node_of(claims->redis, slot);
        if (node != MR_REDIS_NO_NODE) {
            claims->node_tag[node] = claims->place_count + slot;
        }
    }
}

/* The open part of the node, or a new one. NO_PART: it may not be used now. */
static uint16_t part_of(struct mr_claims *claims, struct mr_claims_wave *wave, uint32_t node) {
    struct mr_redis_node info;
    mr_redis_node(claims->redis, node, &info);
    for (uint32_t p = wave->part_count; p-- > 0;) {
        const struct mr_claims_part *part = &wave->parts[p];
        if (part->node == node && part->session == info.session && !part->closed) {
            return (uint16_t)p;
        }
    }
    if (info.session == 0 || wave->part_count == MR_CLAIMS_PARTS ||
        !mr_watch_passed(claims->watch, node, info.session)) {
        return NO_PART;
    }
    wave->parts[wave->part_count] = (struct mr_claims_part){
        .session = info.session, .node = node, .tag = claims->node_tag[node]};
    return (uint16_t)wave->part_count++;
}

static uint64_t tag_of(const struct mr_claims *claims, const struct mr_claims_wave *wave,
                       uint64_t kind, uint32_t index) {
    return kind | (uint64_t)(wave - claims->waves) << MR_CLAIMS_TAG_WAVE | index;
}

static void send_command(struct mr_claims *claims, struct mr_claims_wave *wave, uint32_t index,
                         uint32_t node) {
    struct mr_claims_command *command = &wave->commands[index];
    uint16_t p = node == MR_REDIS_NO_NODE ? NO_PART : part_of(claims, wave, node);
    if (p == NO_PART) {
        wave->halts = true;
        return;
    }
    bool key = claims->streams[command->place / MR_CLAIM_BUCKETS].layout == MR_CLAIM_KEY;
    uint64_t tag = tag_of(claims, wave, MR_CLAIMS_TAG_COMMAND, index);
    enum mr_status status = key ? mr_claims_key_send(claims, wave, command, node, tag)
                                : mr_claims_bucket_send(claims, wave, command, node, tag);
    if (status != MR_OK) {
        wave->halts = true;
        return;
    }
    command->part = p;
    wave->parts[p].keys |= key;
    wave->unanswered++;
    claims->stats.commands++;
    claims->stats.ids += command->ids;
}

static void send_guard(struct mr_claims *claims, struct mr_claims_wave *wave, uint32_t p,
                       uint64_t kind, const struct mr_bytes *argv, uint32_t argc) {
    struct mr_claims_part *part = &wave->parts[p];
    struct mr_redis_command send = {argv, argc, tag_of(claims, wave, kind, p), false};
    struct mr_redis_node info;
    mr_redis_node(claims->redis, part->node, &info);
    if (info.session != part->session || mr_redis_send(claims->redis, part->node, &send) != MR_OK) {
        part->bad = true;
        return;
    }
    part->guards++;
    wave->unanswered++;
}

static void send_canary(struct mr_claims *claims, struct mr_claims_wave *wave, uint32_t p) {
    struct mr_claims_part *part = &wave->parts[p];
    if (part->tag == NO_TAG) {
        part->bad = true; /* it has no slot yet: ASK named it */
        return;
    }
    struct mr_buf key;
    mr_buf_init(&key, MR_CLAIMS_KEY_MAX);
    mr_buf_append_text(&key, "c:{");
    mr_claims_put_tag(claims, part->tag, &key);
    mr_buf_append_char(&key, '}');
    const struct mr_bytes argv[] = {MR_BYTES("GET"), mr_buf_bytes(&key)};
    if (key.failed) {
        part->bad = true;
    } else {
        send_guard(claims, wave, p, MR_CLAIMS_TAG_CANARY, argv, 2);
    }
    mr_buf_finish(&key);
}

static void close_parts(struct mr_claims *claims, struct mr_claims_wave *wave) {
    static const struct mr_bytes policy[] = {{(const uint8_t *)"CONFIG", 6},
                                             {(const uint8_t *)"GET", 3},
                                             {(const uint8_t *)"maxmemory-policy", 16}};
    for (uint32_t p = 0; p < wave->part_count; p++) {
        struct mr_claims_part *part = &wave->parts[p];
        if (part->closed) {
            continue;
        }
        if (part->keys && !wave->again) {
            send_canary(claims, wave, p);
        }
        if (!claims->assume_strict) {
            send_guard(claims, wave, p, MR_CLAIMS_TAG_POLICY, policy, 3);
        }
        part->closed = true;
    }
}

/* Whether the watch still says of the store what it said when the wave was sent. */
static bool is_current(const struct mr_claims *claims, const struct mr_claims_wave *wave) {
    if (wave->again && wave->need != 0) {
        return mr_watch_need(claims->watch) == wave->need;
    }
    return mr_watch_state(claims->watch) == MR_WATCH_STRICT &&
           mr_watch_turn(claims->watch) == wave->turn;
}

/* ---- sending ---- */

/* One that is missing would only leave claims to the next wave. */
static bool nodes_are_ready(const struct mr_claims *claims) {
    uint32_t nodes = mr_redis_nodes(claims->redis);
    for (uint32_t n = 0; n < nodes; n++) {
        struct mr_redis_node info;
        mr_redis_node(claims->redis, n, &info);
        if (info.slots > 0 &&
            (info.session == 0 || !mr_watch_passed(claims->watch, n, info.session))) {
            return false;
        }
    }
    return nodes > 0;
}

bool mr_claims_send(struct mr_claims *claims, struct mr_claims_queue *queue) {
    struct mr_claims_wave *wave = NULL;
    for (uint32_t w = 0; w < MR_CLAIMS_WAVES && wave == NULL; w++) {
        wave = claims->waves[w].open ? NULL : &claims->waves[w];
    }
    if (wave == NULL || queue->fresh == NULL || !nodes_are_ready(claims) ||
        !mr_claims_group(claims, queue, wave)) {
        return false;
    }
    note_map(claims);
    wave->open = true;
    wave->again = queue == &claims->queues[1];
    wave->halts = false;
    wave->turn = mr_watch_turn(claims->watch);
    wave->need = mr_watch_need(claims->watch);
    wave->epoch = mr_watch_epoch(claims->watch);
    for (uint32_t i = 0; i < wave->command_count; i++) {
        const struct mr_claims_command *command = &wave->commands[i];
        bool key = claims->streams[command->place / MR_CLAIM_BUCKETS].layout == MR_CLAIM_KEY;
        uint32_t slot =
            key ? mr_claims_key_slot(claims, wave, command) : claims->places[command->place].slot;
        send_command(claims, wave, i, mr_redis_node_of(claims->redis, slot));
    }
    close_parts(claims, wave);
    return true;
}

/* ---- answers ---- */

static void read_command(struct mr_claims *claims, struct mr_claims_wave *wave,
                         struct mr_claims_command *command, const struct mr_redis_reply *reply) {
    bool lost = false;
    if (claims->streams[command->place / MR_CLAIM_BUCKETS].layout == MR_CLAIM_KEY) {
        command->answered = mr_claims_key_read(claims, wave, command, reply);
    } else {
        command->answered = mr_claims_bucket_read(claims, wave, command, reply, &lost);
    }
    if (lost && !wave->again && is_current(claims, wave)) {
        mr_watch_say_lost(claims->watch, command->place);
    }
    wave->halts |= !command->answered;
}

static bool begins(struct mr_bytes text, const char *with) {
    size_t len = strlen(with);
    return text.len >= len && memcmp(text.ptr, with, len) == 0;
}

static void answer_command(struct mr_claims *claims, struct mr_claims_wave *wave, uint32_t index,
                           const struct mr_redis_answer *answer) {
    struct mr_claims_command *command = &wave->commands[index];
    switch (answer->outcome) {
    case MR_REDIS_ANSWERED:
        if (answer->session == wave->parts[command->part].session) {
            read_command(claims, wave, command, &answer->reply);
        }
        break;
    case MR_REDIS_ASKED:
        if (!command->asked && is_current(claims, wave)) {
            command->asked = true;
            send_command(claims, wave, index, answer->node_asked);
        } else {
            wave->halts = true;
        }
        break;
    case MR_REDIS_LATER:
    case MR_REDIS_REFUSED:
        if (begins(answer->reply.text, "NOSCRIPT")) {
            claims->script_session[answer->node] = 0;
        } else {
            bool passes =
                answer->outcome == MR_REDIS_LATER && !begins(answer->reply.text, "NOREPLICAS");
            if (!passes && is_current(claims, wave)) {
                mr_watch_say_refused(claims->watch, answer->node, answer->reply.text);
            }
            wave->halts = true;
        }
        break;
    case MR_REDIS_MOVED:
    case MR_REDIS_UNKNOWN:
        break; /* again, at once */
    }
}

/* A guard is right, or the part decides nothing. */
static void answer_guard(struct mr_claims *claims, struct mr_claims_wave *wave, uint64_t kind,
                         uint32_t p, const struct mr_redis_answer *answer) {
    struct mr_claims_part *part = &wave->parts[p];
    const struct mr_redis_reply *reply = &answer->reply;
    bool came = answer->outcome == MR_REDIS_ANSWERED && answer->session == part->session;
    bool right = false;
    bool current = is_current(claims, wave);
    MR_ASSERT(part->guards > 0);
    part->guards--;
    if (kind == MR_CLAIMS_TAG_POLICY && came && reply->type == MR_REDIS_LIST && reply->count == 2) {
        right = mr_bytes_equal(reply->items[1].text, MR_BYTES("noeviction"));
        if (!right && current) {
            mr_watch_say_policy(claims->watch, part->node, reply->items[1].text);
        }
    } else if (kind == MR_CLAIMS_TAG_CANARY && came &&
               (reply->type == MR_REDIS_TEXT || reply->type == MR_REDIS_NIL)) {
        right = reply->type == MR_REDIS_TEXT &&
                mr_bytes_equal(reply->text, mr_bytes_of(wave->epoch.bytes, MR_EPOCH_LEN));
        if (!right && current) {
            mr_watch_say_lost(claims->watch, part->tag);
        }
    }
    part->bad |= !right;
    wave->halts |= came && !right;
}

void mr_claims_answer(struct mr_claims *claims, const struct mr_redis_answer *answer) {
    uint64_t kind = answer->tag & MR_CLAIMS_TAG_KIND;
    uint32_t index = (uint32_t)answer->tag;
    if (kind == MR_CLAIMS_TAG_SCRIPT) {
        bool loaded = answer->outcome == MR_REDIS_ANSWERED;
        if (!loaded && claims->script_session[index] == answer->session) {
            claims->script_session[index] = 0;
        }
        return;
    }
    if (kind == MR_CLAIMS_TAG_LOOK) {
        mr_claims_look_answer(claims, answer);
        return;
    }
    uint32_t w = (uint32_t)(answer->tag >> MR_CLAIMS_TAG_WAVE) & 0xff;
    MR_ASSERT(w < MR_CLAIMS_WAVES && claims->waves[w].open && claims->waves[w].unanswered > 0);
    struct mr_claims_wave *wave = &claims->waves[w];
    wave->unanswered--;
    if (kind == MR_CLAIMS_TAG_COMMAND) {
        answer_command(claims, wave, index, answer);
    } else {
        answer_guard(claims, wave, kind, index, answer);
    }
}

/* ---- deciding ---- */

/* Takes the marks of commands back whose verdicts nothing stands behind. */
static void drop_unproven(struct mr_claims *claims, struct mr_claims_wave *wave) {
    bool current = is_current(claims, wave);
    for (uint32_t i = 0; i < wave->command_count; i++) {
        const struct mr_claims_command *command = &wave->commands[i];
        if (current && command->answered) {
            const struct mr_claims_part *part = &wave->parts[command->part];
            if (part->closed && part->guards == 0 && !part->bad) {
                continue;
            }
        }
        claims->stats.repeated++;
        for (uint32_t e = command->first; e < command->first + command->count; e++) {
            if (wave->marks[e] != MR_CLAIMS_REPEATS) {
                wave->marks[e] = MR_CLAIM_NONE;
            }
        }
    }
}

/* What became of the first one with the same id says what becomes of this: in one record the second is a duplicate, else
 * the owner decides. */
static uint8_t outcome_of_repeat(const struct mr_claims *claims, const struct mr_claims_wave *wave,
                                 const struct mr_claims_entry *e) {
    uint32_t first = (uint32_t)e->fp.lo;
    uint8_t mark = wave->marks[first];
    uint32_t first_member = wave->entries[first].member;
    MR_ASSERT(mark != MR_CLAIMS_REPEATS);
    if (mark == MR_CLAIM_NONE || first_member == e->member) {
        bool counted_here = wave->members[e->member].once; /* all of them are, or are copies of what is */
        return mark == MR_CLAIM_NONE ? MR_CLAIM_NONE : counted_here ? MR_CLAIM_OWN : MR_CLAIM_TAKEN;
    }
    uint8_t own[MR_CLAIMS_TOKEN_LEN];
    uint8_t owner[MR_CLAIMS_TOKEN_LEN];
    mr_claims_token(claims, &wave->members[e->member], own);
    if (mark == MR_CLAIM_WON) {
        mr_claims_token(claims, &wave->members[first_member], owner);
    } else {
        memcpy(owner, &wave->entries[first].fp, sizeof owner);
    }
    return (uint8_t)mr_claims_compare(own, owner, wave->members[e->member].once);
}

static void decide(struct mr_claims *claims, struct mr_claims_wave *wave) {
    for (uint32_t i = 0; i < wave->entry_count; i++) {
        const struct mr_claims_entry *e = &wave->entries[i];
        struct mr_claim *claim = wave->members[e->member].claim;
        uint8_t mark = wave->marks[i];
        mark = mark == MR_CLAIMS_REPEATS ? outcome_of_repeat(claims, wave, e) : mark;
        if (claim != NULL && mark != MR_CLAIM_NONE) {
            mr_claims_decide(claims, claim, e->k, mark);
        }
    }
}

/* The first repetition is made at once, unless something asks for time; all after it with a pause. */
static void release(struct mr_claims *claims, struct mr_claims_wave *wave) {
    struct mr_claims_queue *queue = &claims->queues[wave->again];
    bool left = false;
    for (uint32_t m = 0; m < wave->member_count; m++) {
        struct mr_claim *claim = wave->members[m].claim;
        if (claim != NULL) {
            claim->wave = 0;
            left |= claim->undecided > 0;
        }
    }
    claims->failures = left ? claims->failures + 1 : 0;
    if (left) {
        queue->fresh = queue->first;
    }
    if (left && (wave->halts || claims->failures > 1)) {
        claims->pause_until_ns = mr_clock_mono_ns(claims->clock) + MR_CLAIMS_PAUSE_NS;
    }
    wave->open = false;
    wave->member_count = 0;
}

bool mr_claims_settle(struct mr_claims *claims) {
    bool ended = false;
    for (uint32_t w = 0; w < MR_CLAIMS_WAVES; w++) {
        struct mr_claims_wave *wave = &claims->waves[w];
        if (!wave->open) {
            continue;
        }
        close_parts(claims, wave);
        if (wave->unanswered == 0) {
            drop_unproven(claims, wave);
            decide(claims, wave);
            release(claims, wave);
            ended = true;
        }
    }
    return ended;
}
