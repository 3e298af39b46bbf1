/* SPDX-License-Identifier: Apache-2.0 */
#include "dedup/watch_parts.h"

#include "base/check.h"
#include "base/hash.h"

#include <stdio.h>

/*
 * The store's key is worked on by looking, doing one step, and looking again. What is to be done follows from the
 * look alone (decide), so that it does not matter who did the steps before, nor whether one was done twice.
 *
 *      RESTING ──due──▶ LOOKING ──HGETALL──▶ decide ──nothing──▶ RESTING
 *                          ▲                    └──an act──▶ ACTING ──all answered──┐
 *                          └───────────────────────────────────────────────────────┘
 */

enum { ARGC_MAX = 8 };

/* The words of a command, and what those made for it stand in. */
struct words {
    struct mr_bytes argv[ARGC_MAX];
    uint32_t argc;
    char target[MR_WATCH_EPOCH_HEX + 1];
    char chosen[MR_WATCH_EPOCH_HEX + 1];
    char number[24];
    char key_hash[17];
    uint8_t canary[MR_EPOCH_LEN + 1];
};

static void add(struct words *words, struct mr_bytes word) {
    MR_ASSERT(words->argc < ARGC_MAX);
    words->argv[words->argc++] = word;
}

static void add_text(struct words *words, const char *text) {
    add(words, mr_bytes_text(text));
}

/* ---- what this node says ---- */

static bool may_say_good(const struct mr_watch *w) {
    return w->ready && w->need.want == MR_WATCH_WANT_NONE && !w->resume.pending &&
           w->loss == MR_WATCH_NO_LOSS && mr_watch_all_passed(w);
}

/* A hash of the servers, not 0. */
static uint64_t servers_hash(const struct mr_watch *w) {
    uint64_t hash = 1;
    for (uint32_t i = 0; i < w->server_count; i++) {
        if (w->servers[i].slots > 0) {
            hash = mr_hash64(mr_bytes_of(&w->servers[i].identity, sizeof w->servers[i].identity),
                             hash) |
                   1;
        }
    }
    return hash;
}

static void print_good(const struct mr_watch *w, struct mr_buf *ret) {
    int64_t good_ms = INT64_MAX;
    uint64_t evicted = 0;
    for (uint32_t i = 0; i < w->server_count; i++) {
        const struct mr_watch_server *server = &w->servers[i];
        if (server->slots > 0) {
            good_ms = server->good_ms < good_ms ? server->good_ms : good_ms;
            evicted += server->evicted;
        }
    }
    mr_buf_printf(ret, "%lld %llu", (long long)good_ms, (unsigned long long)evicted);
    for (uint32_t i = 0; i < w->server_count; i++) {
        if (w->servers[i].slots > 0) {
            mr_buf_printf(ret, " %016llx", (unsigned long long)w->servers[i].identity);
        }
    }
}

static bool has_asserted(const struct mr_watch *w) {
    return w->need.want == MR_WATCH_WANT_NONE && !w->resume.pending;
}

/* HSET key node:<id> ms asserted:<id> epoch good:<id> …. Without memory for the last it is left as it is. */
static void build_announce(struct mr_watch *w, struct words *words) {
    struct mr_watch_store *s = &w->store;
    (void)snprintf(words->number, sizeof words->number, "%lld",
                   (long long)mr_clock_wall_ms(w->options.clock));
    add(words, MR_BYTES("HSET"));
    add(words, s->key);
    add(words, s->field_node);
    add_text(words, words->number);
    add(words, s->field_asserted);
    add_text(words, has_asserted(w) ? words->target : "-");
    mr_buf_clear(&s->text);
    if (may_say_good(w)) {
        print_good(w, &s->text);
    }
    s->saying = 0;
    if (s->text.len > 0 && !s->text.failed) {
        add(words, s->field_good);
        add(words, mr_buf_bytes(&s->text));
        s->saying = servers_hash(w);
    }
}

/* ---- the commands of an act ---- */

static void build_describe(struct mr_watch *w, uint32_t i, struct words *words) {
    (void)snprintf(words->key_hash, sizeof words->key_hash, "%016llx",
                   (unsigned long long)w->options.key_hash);
    add(words, MR_BYTES("HSETNX"));
    add(words, w->store.key);
    add_text(words, i == 0 ? "shape" : "key_hash");
    add(words, i == 0 ? w->options.shape : mr_bytes_text(words->key_hash));
}

static void build_canary(struct mr_watch *w, uint32_t i, struct words *words) {
    bool fill = w->store.act == MR_WATCH_FILL;
    memcpy(words->canary, w->target.bytes, MR_EPOCH_LEN);
    words->canary[MR_EPOCH_LEN] = '?';
    add(words, MR_BYTES("SET"));
    add(words, w->canaries[w->store.act_first + i].key);
    add(words, mr_bytes_of(words->canary, fill ? MR_EPOCH_LEN : MR_EPOCH_LEN + 1));
    if (fill) { /* a hole stays one, and what stood there is told */
        add(words, MR_BYTES("XX"));
        add(words, MR_BYTES("GET"));
    }
}

static void build_forget(struct mr_watch *w, struct words *words) {
    static const char *const prefixes[] = {"node:", "asserted:", "good:"};
    size_t at[3];
    struct mr_buf *text = &w->store.text;
    mr_buf_clear(text);
    for (size_t i = 0; i < 3; i++) {
        at[i] = text->len;
        mr_buf_append_text(text, prefixes[i]);
        mr_buf_append_bytes(text, mr_buf_bytes(&w->store.forget));
    }
    add(words, MR_BYTES("HDEL"));
    add(words, w->store.key);
    for (size_t i = 0; i < 3; i++) {
        size_t end = i < 2 ? at[i + 1] : text->len;
        add(words, mr_bytes_of(text->ptr + at[i], end - at[i]));
    }
}

static void build_set(struct mr_watch *w, const char *command, const char *field, const char *epoch,
                      struct words *words) {
    add_text(words, command);
    add(words, w->store.key);
    add_text(words, field);
    add_text(words, epoch);
}

/* Whether a loss is behind the epoch that is to come: then there are claims to assert. */
static bool is_recovery(const struct mr_watch *w) {
    return w->loss != MR_WATCH_NO_LOSS || w->need.want == MR_WATCH_WANT_ALL ||
           mr_epoch_equal(&w->store.look.recovering, &w->target);
}

/* Command i of the act. false: not now. */
static bool build(struct mr_watch *w, uint32_t i, struct words *words) {
    words->argc = 0;
    mr_watch_hex(&w->target, words->target);
    mr_watch_hex(&w->store.chosen, words->chosen);
    switch (w->store.act) {
    case MR_WATCH_BEGIN:
        build_set(w, "HSETNX", "epoch", words->chosen, words);
        break;
    case MR_WATCH_REPLACE:
        build_set(w, "HSET", "epoch", words->chosen, words);
        if (is_recovery(w)) {
            add_text(words, "recovering");
            add_text(words, words->chosen);
        }
        break;
    case MR_WATCH_DESCRIBE:
        build_describe(w, i, words);
        break;
    case MR_WATCH_RECOVERING:
        build_set(w, "HSET", "recovering", words->target, words);
        break;
    case MR_WATCH_MARK:
    case MR_WATCH_FILL:
        build_canary(w, i, words);
        break;
    case MR_WATCH_MARKED:
        build_set(w, "HSET", "marked", words->target, words);
        break;
    case MR_WATCH_READY:
        build_set(w, "HSET", "ready", words->target, words);
        break;
    case MR_WATCH_ANNOUNCE:
        build_announce(w, words);
        break;
    case MR_WATCH_FORGET:
        build_forget(w, words);
        return !w->store.text.failed;
    case MR_WATCH_NOTHING:
        MR_UNREACHABLE();
    }
    return true;
}

static bool is_canaries(enum mr_watch_act act) {
    return act == MR_WATCH_MARK || act == MR_WATCH_FILL;
}

static uint32_t node_of(const struct mr_watch *w, uint32_t i) {
    uint32_t slot =
        is_canaries(w->store.act) ? w->canaries[w->store.act_first + i].slot : w->store.slot;
    return mr_redis_node_of(w->options.redis, slot);
}

static enum mr_status send_act(struct mr_watch *w, uint32_t i, uint32_t node, bool asking) {
    struct words words;
    if (node == MR_REDIS_NO_NODE || !build(w, i, &words)) {
        return MR_AGAIN;
    }
    struct mr_watch_tag tag = {MR_WATCH_ACT, 0, w->store.round, i};
    struct mr_redis_command command = {words.argv, words.argc, mr_watch_tag_pack(tag), asking};
    return mr_redis_send(w->options.redis, node, &command);
}

/* ---- looking ---- */

void mr_watch_store_hurry(struct mr_watch *w, bool announce) {
    w->store.again = true;
    w->store.look_ns = w->now_ns;
    if (announce) {
        w->store.announce_ns = 0;
    }
}

static void rest(struct mr_watch *w, bool failed) {
    struct mr_watch_store *s = &w->store;
    bool awaits = !w->ready || w->loss != MR_WATCH_NO_LOSS || mr_watch_has_suspects(w);
    s->standing = MR_WATCH_RESTING;
    if (failed || !s->again) {
        s->look_ns = w->now_ns + (failed || awaits ? w->hurry_ns : w->check_ns);
    }
}

static void look(struct mr_watch *w) {
    w->store.standing = MR_WATCH_LOOKING;
    w->store.look_sent = false;
    w->store.round = (w->store.round + 1) % MR_WATCH_ROUNDS;
}

static enum mr_status send_look(struct mr_watch *w, uint32_t node, bool asking) {
    const struct mr_bytes argv[2] = {MR_BYTES("HGETALL"), w->store.key};
    struct mr_watch_tag tag = {MR_WATCH_LOOK, 0, w->store.round, 0};
    struct mr_redis_command command = {argv, 2, mr_watch_tag_pack(tag), asking};
    return mr_redis_send(w->options.redis, node, &command);
}

/* Nothing is believed of a server that has not passed: it may be anybody's. */
static bool step_look(struct mr_watch *w) {
    struct mr_watch_store *s = &w->store;
    uint32_t node = mr_redis_node_of(w->options.redis, s->slot);
    if (s->look_sent || node == MR_REDIS_NO_NODE || !mr_watch_has_passed(w, &w->servers[node]) ||
        send_look(w, node, false) != MR_OK) {
        return false;
    }
    s->look_sent = true;
    s->again = false;
    if (w->loss == MR_WATCH_LOSS_FOUND) {
        w->loss = MR_WATCH_LOSS_LOOKING;
    }
    return true;
}

static bool any_peer_missing(const struct mr_watch *w, bool recovering) {
    for (uint32_t i = 0; i < w->store.peer_count; i++) {
        const struct mr_watch_peer *peer = &w->store.peers[i];
        if (!(recovering ? peer->asserted : peer->believes)) {
            return true;
        }
    }
    return false;
}

static void take_look(struct mr_watch *w) {
    struct mr_watch_store *s = &w->store;
    if (mr_epoch_is_none(&s->look.epoch)) {
        w->ready = false;
        mr_watch_lose(w, "%.*s is gone: data was lost (FLUSHALL, or a start without its data)",
                      (int)s->key.len, (const char *)s->key.ptr);
        return;
    }
    bool adopted = !mr_epoch_equal(&s->look.epoch, &w->target);
    if (adopted) {
        mr_watch_adopt(w, &s->look.epoch);
    }
    bool ready = mr_epoch_equal(&s->look.ready, &w->target);
    if (ready && !w->ready) {
        mr_watch_check_again(w); /* now there are canaries to read */
        w->stats.peers_missing += !adopted && any_peer_missing(w, true);
    }
    if (w->ready && !ready) { /* a failover took it back, and perhaps canaries with it */
        s->filled = 0;
    }
    w->ready = ready;
    s->knows_peers |= ready;
    if (mr_watch_has_suspects(w) && may_say_good(w) && mr_watch_awaited(w, false) == NULL) {
        w->stats.peers_missing += any_peer_missing(w, false);
        for (uint32_t i = 0; i < w->server_count; i++) {
            w->servers[i].suspect = false;
        }
    }
}

/* ---- deciding ---- */

static bool must_announce(const struct mr_watch *w) {
    const struct mr_watch_store *s = &w->store;
    bool asserted = mr_epoch_equal(&s->look.asserted, &w->target);
    return w->now_ns >= s->announce_ns || asserted != has_asserted(w) ||
           (may_say_good(w) && servers_hash(w) != s->said);
}

/* Who chose the epoch and did not finish marking in this time is dead, or cannot. Nodes differ, so as not to choose all
 * at once. */
static bool is_abandoned(const struct mr_watch *w) {
    uint64_t extra_ns = mr_hash64(w->options.node, 0) % (2 * w->check_ns);
    return w->now_ns - w->target_ns >= 5 * w->check_ns + extra_ns;
}

/* All have asserted: fill. Who marked does it; the others when it does not. */
static bool is_ripe(struct mr_watch *w) {
    struct mr_watch_store *s = &w->store;
    if (!has_asserted(w) || mr_watch_awaited(w, true) != NULL || !mr_watch_has_settled(w)) {
        s->ripe_ns = 0;
        return false;
    }
    if (s->ripe_ns == 0) {
        s->ripe_ns = w->now_ns;
    }
    return mr_epoch_equal(&s->chosen, &w->target) || w->now_ns - s->ripe_ns >= 2 * w->check_ns;
}

/* The store has an epoch that is not ready. */
static enum mr_watch_act decide_making(struct mr_watch *w) {
    struct mr_watch_store *s = &w->store;
    if (!mr_epoch_equal(&s->look.marked, &w->target)) {
        if (!mr_epoch_equal(&s->chosen, &w->target)) {
            return is_abandoned(w) ? MR_WATCH_REPLACE : MR_WATCH_NOTHING;
        }
        return s->marked < w->canary_count ? MR_WATCH_MARK : MR_WATCH_MARKED;
    }
    if (!is_ripe(w)) {
        return MR_WATCH_NOTHING;
    }
    return s->filled < w->canary_count ? MR_WATCH_FILL : MR_WATCH_READY;
}

static enum mr_watch_act decide(struct mr_watch *w) {
    struct mr_watch_store *s = &w->store;
    bool may = mr_watch_all_passed(w); /* on a store that is not strict nothing is made */
    if (w->mismatch[0] != '\0') {
        return MR_WATCH_NOTHING;
    }
    if (mr_epoch_is_none(&s->look.epoch)) {
        return may ? MR_WATCH_BEGIN : MR_WATCH_NOTHING;
    }
    if (!s->look.has_shape || !s->look.has_key) {
        return may ? MR_WATCH_DESCRIBE : MR_WATCH_NOTHING;
    }
    if (w->loss != MR_WATCH_NO_LOSS) { /* found before this look: nobody has answered it yet */
        return may && w->loss == MR_WATCH_LOSS_LOOKING ? MR_WATCH_REPLACE : MR_WATCH_NOTHING;
    }
    if (must_announce(w)) {
        return MR_WATCH_ANNOUNCE;
    }
    if (!may) {
        return MR_WATCH_NOTHING;
    }
    if (w->ready) {
        return s->forget.len > 0 ? MR_WATCH_FORGET : MR_WATCH_NOTHING;
    }
    if (w->need.want == MR_WATCH_WANT_ALL && !mr_epoch_equal(&s->look.recovering, &w->target)) {
        return MR_WATCH_RECOVERING;
    }
    return decide_making(w);
}

/* ---- acting ---- */

static struct mr_epoch choose(struct mr_watch *w) {
    struct mr_epoch epoch;
    w->choices++;
    for (size_t i = 0; i < 2; i++) {
        uint64_t half =
            mr_hash64(w->options.node, w->seeds[i] ^ (w->now_ns + w->choices)) | 1; /* not none */
        memcpy(epoch.bytes + 8 * i, &half, sizeof half);
    }
    return epoch;
}

static void start(struct mr_watch *w, enum mr_watch_act act) {
    struct mr_watch_store *s = &w->store;
    s->standing = MR_WATCH_ACTING;
    s->round = (s->round + 1) % MR_WATCH_ROUNDS;
    s->act = act;
    s->act_ns = w->now_ns;
    s->act_first = 0;
    s->act_count = act == MR_WATCH_DESCRIBE ? 2 : 1;
    s->act_sent = 0;
    s->unanswered = 0;
    s->failed = false;
    if (act == MR_WATCH_BEGIN || act == MR_WATCH_REPLACE) {
        s->chosen = choose(w);
    }
    if (is_canaries(act)) {
        s->act_first = act == MR_WATCH_MARK ? s->marked : s->filled;
        uint32_t left = w->canary_count - s->act_first;
        s->act_count = left < MR_WATCH_PIECE ? left : MR_WATCH_PIECE;
    }
}

static void finish(struct mr_watch *w) {
    struct mr_watch_store *s = &w->store;
    if (s->failed) {
        rest(w, true);
        return;
    }
    s->trouble[0] = '\0';
    if (s->act == MR_WATCH_MARK) {
        s->marked += s->act_count;
    } else if (s->act == MR_WATCH_FILL) {
        s->filled += s->act_count;
    } else if (s->act == MR_WATCH_ANNOUNCE) {
        s->announce_ns = w->now_ns + w->check_ns;
        s->said = s->saying != 0 ? s->saying : s->said;
        if (w->state == MR_WATCH_STRICT && s->forget.len == 0) { /* that was all */
            rest(w, false);
            return;
        }
    }
    look(w);
}

static bool step_act(struct mr_watch *w) {
    struct mr_watch_store *s = &w->store;
    bool any = false;
    while (s->act_sent < s->act_count &&
           send_act(w, s->act_sent, node_of(w, s->act_sent), false) == MR_OK) {
        s->act_sent++;
        s->unanswered++;
        any = true;
    }
    if (s->act_sent < s->act_count && w->now_ns - s->act_ns >= w->check_ns) {
        s->act_count = s->act_sent; /* a server is away: look how things stand by now */
        s->failed = true;
    }
    if (s->act_sent == s->act_count && s->unanswered == 0) {
        finish(w);
        any = true;
    }
    return any;
}

bool mr_watch_store_step(struct mr_watch *w) {
    struct mr_watch_store *s = &w->store;
    if (s->standing == MR_WATCH_RESTING && w->now_ns >= s->look_ns && w->mismatch[0] == '\0') {
        look(w);
    }
    bool any = false;
    if (s->standing == MR_WATCH_LOOKING) {
        any = step_look(w);
    }
    if (s->standing == MR_WATCH_ACTING) {
        any |= step_act(w);
    }
    return any;
}

/* ---- answers ---- */

static void refused(struct mr_watch *w, const char *what, const struct mr_redis_answer *answer) {
    (void)snprintf(w->store.trouble, sizeof w->store.trouble,
                   "%s: %s is refused (%.*s): set that right", w->servers[answer->node].address,
                   what, (int)answer->reply.text.len, (const char *)answer->reply.text.ptr);
}

static void take_act_reply(struct mr_watch *w, uint32_t i, const struct mr_redis_reply *reply) {
    if (w->store.act != MR_WATCH_FILL) {
        return;
    }
    uint8_t marked[MR_EPOCH_LEN + 1];
    memcpy(marked, w->target.bytes, MR_EPOCH_LEN);
    marked[MR_EPOCH_LEN] = '?';
    bool stood = reply->type == MR_REDIS_TEXT &&
                 (mr_bytes_equal(reply->text, mr_bytes_of(marked, sizeof marked)) ||
                  mr_bytes_equal(reply->text,
                                 mr_bytes_of(marked, MR_EPOCH_LEN))); /* another node filled it */
    if (!stood) {
        struct mr_bytes key = w->canaries[w->store.act_first + i].key;
        w->store.failed = true;
        mr_watch_lose(w, "%.*s was lost again while claims were asserted", (int)key.len,
                      (const char *)key.ptr);
    }
}

static void answer_act(struct mr_watch *w, uint32_t i, const struct mr_redis_answer *answer) {
    struct mr_watch_store *s = &w->store;
    MR_ASSERT(s->unanswered > 0 && i < s->act_sent);
    if (answer->outcome == MR_REDIS_ASKED && send_act(w, i, answer->node_asked, true) == MR_OK) {
        return;
    }
    s->unanswered--;
    switch (answer->outcome) {
    case MR_REDIS_ANSWERED:
        take_act_reply(w, i, &answer->reply);
        break;
    case MR_REDIS_REFUSED:
        refused(w, is_canaries(s->act) ? "SET" : "HSET", answer);
        s->failed = true;
        break;
    case MR_REDIS_MOVED:
    case MR_REDIS_ASKED:
    case MR_REDIS_LATER:
    case MR_REDIS_UNKNOWN:
        s->failed = true;
        break;
    }
}

static void answer_look(struct mr_watch *w, const struct mr_redis_answer *answer) {
    if (answer->outcome == MR_REDIS_ASKED && send_look(w, answer->node_asked, true) == MR_OK) {
        return;
    }
    if (answer->outcome == MR_REDIS_REFUSED) {
        refused(w, "HGETALL", answer);
    }
    if (answer->outcome != MR_REDIS_ANSWERED || mr_watch_look_read(w, &answer->reply) != MR_OK) {
        rest(w, true);
        return;
    }
    take_look(w);
    enum mr_watch_act act = decide(w);
    if (act == MR_WATCH_NOTHING) {
        w->store.trouble[0] = '\0'; /* nothing is left that could be refused */
        rest(w, false);
    } else {
        start(w, act);
    }
}

void mr_watch_store_answer(struct mr_watch *w, struct mr_watch_tag tag,
                           const struct mr_redis_answer *answer) {
    struct mr_watch_store *s = &w->store;
    MR_ASSERT(tag.round == s->round); /* a look or act is never given up before all is answered */
    if (tag.command == MR_WATCH_ACT) {
        MR_ASSERT(s->standing == MR_WATCH_ACTING);
        answer_act(w, tag.index, answer);
    } else {
        MR_ASSERT(s->standing == MR_WATCH_LOOKING && s->look_sent);
        answer_look(w, answer);
    }
}
