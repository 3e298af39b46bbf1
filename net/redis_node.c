/* SPDX-License-Identifier: Apache-2.0 */
#include "net/redis_parts.h"

#include "base/alloc.h"

enum { TAGS_FIRST = 64 };

#define ASK_KEPT_NS UINT64_C(60000000000) /* a node that ASK named is known that long, though it serves no slot */

/* ---- tags ---- */

static struct mr_redis_tag *tag_at(const struct mr_redis_tags *tags, uint32_t i) {
    MR_ASSERT(i < tags->count);
    return &tags->slots[(tags->first + i) & (tags->capacity - 1)];
}

/* Makes room for one more. */
static enum mr_status tags_reserve(struct mr_redis_tags *tags) {
    if (tags->count < tags->capacity) {
        return MR_OK;
    }
    uint32_t capacity = tags->capacity == 0 ? TAGS_FIRST : tags->capacity * 2;
    if (capacity < tags->capacity) {
        return MR_NO_MEMORY;
    }
    struct mr_redis_tag *slots = mr_alloc(capacity * sizeof *slots);
    if (slots == NULL) {
        return MR_NO_MEMORY;
    }
    for (uint32_t i = 0; i < tags->count; i++) {
        slots[i] = *tag_at(tags, i);
    }
    mr_free(tags->slots);
    *tags = (struct mr_redis_tags){slots, capacity, 0, tags->count};
    return MR_OK;
}

static void tags_push(struct mr_redis_tags *tags, struct mr_redis_tag tag) {
    MR_ASSERT(tags->count < tags->capacity);
    tags->count++;
    *tag_at(tags, tags->count - 1) = tag;
}

static struct mr_redis_tag tags_pop(struct mr_redis_tags *tags) {
    struct mr_redis_tag tag = *tag_at(tags, 0);
    tags->first = (tags->first + 1) & (tags->capacity - 1);
    tags->count--;
    return tag;
}

/* Whether a command of the session there is waits for its reply. */
static bool is_owed(const struct mr_redis_peer *peer) {
    return peer->link.state == MR_REDIS_LINK_UP && peer->tags.count > 0 &&
           tag_at(&peer->tags, peer->tags.count - 1)->session == peer->link.session;
}

/* Whether the oldest command's connection is gone. */
static bool has_lost(const struct mr_redis_peer *peer) {
    return peer->tags.count > 0 && (peer->link.state != MR_REDIS_LINK_UP ||
                                    tag_at(&peer->tags, 0)->session != peer->link.session);
}

/* When patience ends with the reply that is owed; UINT64_MAX while replies may still lie here unread. */
static uint64_t overdue_ns(const struct mr_redis *r, const struct mr_redis_peer *peer) {
    bool may_be_late = is_owed(peer) && peer->waiting && !has_lost(peer) && peer->link.dry;
    return may_be_late ? peer->waiting_ns + r->options.timeout_ns : UINT64_MAX;
}

/* Patience begins in a step, which writes: between send and step may lie any time. */
static void begin_waiting(const struct mr_redis *r, struct mr_redis_peer *peer) {
    bool is_new = is_owed(peer) && !peer->waiting;
    peer->waiting = is_owed(peer);
    peer->waiting_ns = is_new ? r->now_ns : peer->waiting_ns;
}

/* ---- steps ---- */

void mr_redis_peer_forget(struct mr_redis_peer *peer) {
    mr_redis_connection_close(peer->link.connection);
    mr_free(peer->tags.slots);
    *peer = (struct mr_redis_peer){0};
}

bool mr_redis_peer_step(struct mr_redis *r, struct mr_redis_peer *peer) {
    struct mr_redis_link *link = &peer->link;
    if (!peer->used) {
        return false;
    }
    if (peer->leaving && peer->tags.count == 0) {
        mr_redis_peer_forget(peer);
        return true;
    }
    if (peer->leaving && link->state == MR_REDIS_LINK_DOWN) {
        return false; /* it only stays until next has told what became of its commands */
    }
    uint64_t failures = r->stats.failures;
    bool moved = mr_redis_link_step(r, link);
    begin_waiting(r, peer);
    struct mr_redis_reply reply;
    if (link->state == MR_REDIS_LINK_UP && !link->dry && !is_owed(peer)) {
        link->dry = true;
        if (mr_redis_connection_next(link->connection, &reply)) {
            mr_redis_link_break(r, link, "a reply came that no command asked for");
        }
    }
    if (!moved && r->now_ns >= overdue_ns(r, peer)) { /* what was read just now is looked at first */
        r->stats.timeouts++;
        mr_redis_link_break(r, link, "no reply within %llu ms",
                            (unsigned long long)(r->options.timeout_ns / 1000000));
    }
    if (r->stats.failures == failures) {
        return moved;
    }
    r->map.wanted = true;
    return true;
}

uint64_t mr_redis_peer_due_ns(const struct mr_redis *r, const struct mr_redis_peer *peer) {
    if (!peer->used) {
        return UINT64_MAX;
    }
    if (has_lost(peer) || (is_owed(peer) && !peer->link.dry) || (peer->leaving && peer->tags.count == 0)) {
        return 0;
    }
    uint64_t link_ns = mr_redis_link_due_ns(r, &peer->link);
    uint64_t reply_ns = overdue_ns(r, peer);
    return link_ns < reply_ns ? link_ns : reply_ns;
}

/* ---- commands ---- */

static uint64_t size_of(const struct mr_redis_command *command) {
    enum { FRAME = 8 }; /* "$15\r\n" and "\r\n", about */
    uint64_t size = FRAME;
    for (uint32_t i = 0; i < command->argc; i++) {
        size += command->argv[i].len + FRAME;
    }
    return size;
}

enum mr_status mr_redis_peer_send(struct mr_redis *r, struct mr_redis_peer *peer,
                                  const struct mr_redis_command *command) {
    MR_ASSERT(command->argc > 0);
    struct mr_redis_link *link = &peer->link;
    uint64_t bytes = size_of(command);
    bool is_full = peer->unanswered_bytes > 0 && peer->unanswered_bytes + bytes > r->options.bytes_max;
    if (!peer->used || peer->leaving || link->state != MR_REDIS_LINK_UP || is_full) {
        return MR_AGAIN;
    }
    enum mr_status status = tags_reserve(&peer->tags);
    if (status == MR_OK && command->asking) {
        const struct mr_bytes asking = MR_BYTES("ASKING");
        status = mr_redis_connection_send(link->connection, &asking, 1);
    }
    if (status != MR_OK) {
        return status;
    }
    status = mr_redis_connection_send(link->connection, command->argv, command->argc);
    if (status != MR_OK) {
        if (command->asking) { /* an ASKING alone would let the next command in where it must not go */
            mr_redis_link_break(r, link, "%s", mr_status_text(status));
        }
        return status;
    }
    peer->waiting = peer->waiting && peer->tags.count > 0;
    tags_push(&peer->tags, (struct mr_redis_tag){command->tag, link->session, bytes, command->asking});
    peer->unanswered_bytes += bytes;
    r->stats.commands++;
    r->stats.bytes_out += bytes;
    return MR_OK;
}

/* ---- answers ---- */

/* Not executed, and worth another try. */
static bool is_for_later(struct mr_bytes text, bool *ret_map_is_old) {
    static const struct {
        const char *word;
        bool map_is_old;
    } words[] = {
        {"TRYAGAIN", false},  {"LOADING", false}, {"CLUSTERDOWN", true}, {"MASTERDOWN", true},
        {"READONLY", true},   {"BUSY", false},    {"NOREPLICAS", false},
    };
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        struct mr_bytes word = mr_bytes_text(words[i].word);
        if (text.len >= word.len && memcmp(text.ptr, word.ptr, word.len) == 0 &&
            (text.len == word.len || text.ptr[word.len] == ' ')) { /* BUSY, not BUSYKEY */
            *ret_map_is_old = words[i].map_is_old;
            return true;
        }
    }
    return false;
}

/* MOVED and ASK; false: the text is neither, or does not say where to. */
static bool redirect(struct mr_redis *r, struct mr_redis_answer *ret) {
    const char *host = r->peers[ret->node].link.address.host;
    struct mr_redis_address address;
    uint32_t slot;
    bool asked;
    if (!r->options.cluster || !mr_redis_redirect_parse(ret->reply.text, host, &asked, &slot, &address)) {
        return false;
    }
    if (!asked) {
        ret->outcome = MR_REDIS_MOVED;
        r->stats.moved++;
        mr_redis_map_moved(r, ret->node, slot, &address);
        return true;
    }
    ret->node_asked = mr_redis_map_node(r, &address);
    if (ret->node_asked == MR_REDIS_NO_NODE) {
        ret->outcome = MR_REDIS_LATER;
        r->stats.later++;
        return true;
    }
    r->peers[ret->node_asked].keep_until_ns = r->now_ns + ASK_KEPT_NS;
    ret->outcome = MR_REDIS_ASKED;
    r->stats.asked++;
    return true;
}

static void judge(struct mr_redis *r, struct mr_redis_answer *ret) {
    bool map_is_old = false;
    ret->outcome = MR_REDIS_ANSWERED;
    if (ret->reply.type != MR_REDIS_FAILURE || redirect(r, ret)) {
        return;
    }
    if (is_for_later(ret->reply.text, &map_is_old)) {
        ret->outcome = MR_REDIS_LATER;
        r->stats.later++;
        r->map.wanted |= map_is_old;
    } else {
        ret->outcome = MR_REDIS_REFUSED;
        r->stats.refused++;
    }
}

static bool take_reply(struct mr_redis *r, struct mr_redis_peer *peer, struct mr_redis_reply *ret) {
    if (!mr_redis_connection_next(peer->link.connection, ret)) {
        peer->link.dry = true;
        return false;
    }
    peer->waiting_ns = r->now_ns;
    return true;
}

bool mr_redis_peer_next(struct mr_redis *r, uint32_t node, struct mr_redis_answer *ret) {
    struct mr_redis_peer *peer = &r->peers[node];
    struct mr_redis_reply reply = {0};
    bool lost = has_lost(peer);
    if (peer->tags.count == 0) {
        return false;
    }
    if (!lost && tag_at(&peer->tags, 0)->asking) {
        if (!take_reply(r, peer, &reply)) {
            return false;
        }
        tag_at(&peer->tags, 0)->asking = false;
    }
    if (!lost && !take_reply(r, peer, &reply)) {
        return false;
    }
    struct mr_redis_tag tag = tags_pop(&peer->tags);
    MR_ASSERT(peer->unanswered_bytes >= tag.bytes);
    peer->unanswered_bytes -= tag.bytes;
    *ret = (struct mr_redis_answer){.tag = tag.tag, .node = node, .session = tag.session, .reply = reply,
                                    .outcome = MR_REDIS_UNKNOWN, .node_asked = MR_REDIS_NO_NODE};
    if (!lost) {
        judge(r, ret);
    }
    return true;
}

void mr_redis_peer_check(const struct mr_redis *r, const struct mr_redis_peer *peer) {
    const struct mr_redis_link *link = &peer->link;
    MR_ASSERT((link->connection != NULL) == (link->state != MR_REDIS_LINK_DOWN));
    MR_ASSERT((link->session != 0) == (link->state == MR_REDIS_LINK_UP));
    MR_ASSERT(link->session <= r->sessions);
    uint64_t bytes = 0;
    uint64_t session = 0;
    for (uint32_t i = 0; i < peer->tags.count; i++) {
        const struct mr_redis_tag *tag = tag_at(&peer->tags, i);
        MR_ASSERT(tag->session >= session); /* those of sessions gone stand first */
        session = tag->session;
        bytes += tag->bytes;
    }
    MR_ASSERT(bytes == peer->unanswered_bytes);
    MR_ASSERT(peer->used || (peer->tags.count == 0 && peer->slots == 0));
}
