/* SPDX-License-Identifier: Apache-2.0 */
#include "dedup/watch.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/hash.h"
#include "dedup/watch_parts.h"

#include <stdarg.h>
#include <stdio.h>

enum { STRINGS_CHUNK = 4096, STRINGS_CHUNK_MAX = 256 << 10, TEXT_MAX = 16 << 10 };

/* ---- opening ---- */

/* prefix, middle and suffix as one. */
static enum mr_status join(struct mr_watch *w, const char *prefix, struct mr_bytes middle,
                           const char *suffix, struct mr_bytes *ret) {
    size_t before = strlen(prefix);
    size_t after = strlen(suffix);
    uint8_t *text = mr_arena_alloc(&w->strings, before + middle.len + after + 1);
    if (text == NULL) {
        return MR_NO_MEMORY;
    }
    memcpy(text, prefix, before);
    if (middle.len > 0) {
        memcpy(text + before, middle.ptr, middle.len);
    }
    memcpy(text + before + middle.len, suffix, after + 1);
    *ret = mr_bytes_of(text, before + middle.len + after);
    return MR_OK;
}

static enum mr_status copy_canaries(struct mr_watch *w, const struct mr_watch_options *options) {
    w->canaries = mr_alloc_zero(options->tag_count, sizeof *w->canaries);
    if (w->canaries == NULL) {
        return MR_NO_MEMORY;
    }
    for (uint32_t t = 0; t < options->tag_count; t++) {
        struct mr_watch_canary *canary = &w->canaries[t];
        if (join(w, "c:{", options->tags[t], "}", &canary->key) != MR_OK) {
            return MR_NO_MEMORY;
        }
        canary->slot = mr_redis_slot(canary->key);
        canary->server = MR_REDIS_NO_NODE;
    }
    w->canary_count = options->tag_count;
    return MR_OK;
}

static enum mr_status copy_strings(struct mr_watch *w, const struct mr_watch_options *options) {
    struct mr_watch_store *s = &w->store;
    struct mr_watch_options *o = &w->options;
    o->tags = NULL; /* the caller's */
    if (join(w, "", options->cluster, "", &o->cluster) != MR_OK ||
        join(w, "", options->node, "", &o->node) != MR_OK ||
        join(w, "", options->shape, "", &o->shape) != MR_OK ||
        join(w, "millrace:{", options->cluster, "}", &s->key) != MR_OK ||
        join(w, "node:", options->node, "", &s->field_node) != MR_OK ||
        join(w, "asserted:", options->node, "", &s->field_asserted) != MR_OK ||
        join(w, "good:", options->node, "", &s->field_good) != MR_OK) {
        return MR_NO_MEMORY;
    }
    s->slot = mr_redis_slot(s->key);
    return copy_canaries(w, options);
}

static enum mr_status choose_seeds(struct mr_watch *w) {
    if (w->options.seed == 0) {
        return mr_random_bytes(w->seeds, sizeof w->seeds);
    }
    for (size_t i = 0; i < 2; i++) { /* nodes of one seed differ */
        w->seeds[i] = mr_hash64(w->options.node, w->options.seed + i);
    }
    return MR_OK;
}

enum mr_status mr_watch_open(const struct mr_watch_options *options, struct mr_watch **ret,
                             struct mr_error *error) {
    MR_ASSERT(options->redis != NULL && options->clock != NULL && options->tag_count > 0);
    MR_ASSERT(options->check_ms > 0 && options->peers_ms >= 0 && options->recent_ms >= 0);
    struct mr_watch *w = mr_alloc_zero(1, sizeof *w);
    if (w == NULL) {
        return mr_error_set(error, MR_NO_MEMORY, "%s", mr_status_text(MR_NO_MEMORY));
    }
    w->options = *options;
    mr_arena_init(&w->strings, STRINGS_CHUNK, STRINGS_CHUNK_MAX);
    mr_buf_init(&w->store.text, TEXT_MAX);
    mr_buf_init(&w->store.forget, TEXT_MAX);
    enum mr_status status = copy_strings(w, options);
    if (status == MR_OK) {
        status = choose_seeds(w);
    }
    if (status != MR_OK) {
        mr_watch_close(w);
        return mr_error_set(error, status, "%s", mr_status_text(status));
    }
    w->epoch = options->epoch;
    w->check_ns = (uint64_t)options->check_ms * 1000000;
    w->hurry_ns = w->check_ns / 8;
    w->now_ns = mr_clock_mono_ns(options->clock);
    w->need.number = 1;
    *ret = w;
    return MR_OK;
}

void mr_watch_close(struct mr_watch *w) {
    if (w == NULL) {
        return;
    }
    mr_watch_peers_free(w);
    mr_buf_finish(&w->store.text);
    mr_buf_finish(&w->store.forget);
    mr_free(w->canaries);
    mr_arena_finish(&w->strings);
    mr_free(w);
}

/* ---- state ---- */

bool mr_watch_has_passed(const struct mr_watch *w, const struct mr_watch_server *server) {
    return server->session != 0 && server->passed_session == server->session &&
           w->now_ns - server->good_ns <= 3 * w->check_ns;
}

bool mr_watch_all_passed(const struct mr_watch *w) {
    for (uint32_t i = 0; i < w->server_count; i++) {
        const struct mr_watch_server *server = &w->servers[i];
        if ((server->slots > 0 && !mr_watch_has_passed(w, server)) || server->must_prove) {
            return false;
        }
    }
    return mr_redis_is_up(w->options.redis);
}

static enum mr_watch_state MR_PRINTF(3, 4)
    because(struct mr_watch *w, enum mr_watch_state state, const char *format, ...) {
    va_list args;
    va_start(args, format);
    (void)vsnprintf(w->reason, sizeof w->reason, format, args); /* cut is fine */
    va_end(args);
    return state;
}

/* What is wrong with the servers; STRICT: nothing. */
static enum mr_watch_state judge_servers(struct mr_watch *w) {
    for (uint32_t i = 0; i < w->server_count; i++) {
        if (w->servers[i].slots > 0 && w->servers[i].not_strict) {
            return because(w, MR_WATCH_NOT_STRICT, "%s", w->servers[i].trouble);
        }
    }
    if (w->store.trouble[0] != '\0') {
        return because(w, MR_WATCH_NOT_STRICT, "%s", w->store.trouble);
    }
    for (uint32_t i = 0; i < w->server_count; i++) {
        const struct mr_watch_server *server = &w->servers[i];
        if (server->slots == 0 || mr_watch_has_passed(w, server)) {
            continue;
        }
        if (server->session != 0) {
            return server->trouble[0] != '\0'
                       ? because(w, MR_WATCH_AWAY, "%s", server->trouble)
                       : because(w, MR_WATCH_AWAY, "%s: is being checked", server->address);
        }
        struct mr_redis_node node = {.trouble = ""};
        if (i < mr_redis_nodes(w->options.redis)) {
            mr_redis_node(w->options.redis, i, &node);
        }
        return because(w, MR_WATCH_AWAY, "%s: not connected%s%s", server->address,
                       node.trouble[0] != '\0' ? ": " : "", node.trouble);
    }
    if (!mr_redis_is_up(w->options.redis)) {
        const char *trouble = mr_redis_map_trouble(w->options.redis);
        return because(w, MR_WATCH_AWAY, "not every slot of the cluster is served%s%s",
                       trouble[0] != '\0' ? ": " : "", trouble);
    }
    return mr_watch_all_passed(w)
               ? MR_WATCH_STRICT
               : because(w, MR_WATCH_AWAY,
                         "slots went to another server: looking whether they were migrated");
}

static bool is_marked(const struct mr_watch *w) {
    return mr_epoch_equal(&w->store.look.marked, &w->target);
}

static enum mr_watch_state await_peer(struct mr_watch *w, bool recovering, const char *why) {
    const struct mr_watch_peer *peer = mr_watch_awaited(w, recovering);
    if (peer != NULL) {
        return because(w, MR_WATCH_AWAY,
                       "%s: waiting for node %.*s to assert its claims; if it is gone for good, it "
                       "is given up after %lld "
                       "s",
                       why, (int)peer->id.len, (const char *)peer->id.ptr,
                       (long long)(w->options.peers_ms / 1000));
    }
    return because(w, MR_WATCH_AWAY, "%s", why);
}

/* How the store stands; the servers are fine. */
static enum mr_watch_state judge_store(struct mr_watch *w) {
    const struct mr_watch_store *s = &w->store;
    if (w->loss != MR_WATCH_NO_LOSS) {
        return because(w, MR_WATCH_AWAY, "%s; claims will be asserted again from this node's log",
                       w->loss_text);
    }
    if (mr_epoch_is_none(&w->target) || w->resume.pending) {
        return because(w, MR_WATCH_AWAY, "%.*s is being read", (int)s->key.len,
                       (const char *)s->key.ptr);
    }
    bool recovering = mr_epoch_equal(&s->look.recovering, &w->target);
    if (w->need.want != MR_WATCH_WANT_NONE && (w->ready || is_marked(w))) {
        return w->need.want == MR_WATCH_WANT_ALL
                   ? because(w, MR_WATCH_LOST,
                             "claims were lost in Redis: all within the horizon are asserted again")
                   : because(
                         w, MR_WATCH_SUSPECT,
                         "Redis was restarted or failed over: recent claims are asserted again");
    }
    if (!w->ready) {
        return await_peer(w, true,
                          recovering ? "claims were lost in Redis and are asserted again"
                                     : "Redis is being prepared");
    }
    if (mr_watch_has_suspects(w)) {
        return await_peer(w, false, "Redis was restarted or failed over");
    }
    w->reason[0] = '\0';
    return MR_WATCH_STRICT;
}

static void judge(struct mr_watch *w) {
    enum mr_watch_state before = w->state;
    if (w->mismatch[0] != '\0') {
        w->state = because(w, MR_WATCH_MISMATCH, "%s", w->mismatch);
    } else {
        w->state = judge_servers(w);
    }
    if (w->state == MR_WATCH_STRICT) {
        w->state = judge_store(w);
    }
    if (w->state == MR_WATCH_STRICT) {
        w->epoch = w->target; /* all that this node has claimed is in it */
        w->was_strict = true;
    }
    w->turn += w->state != before;
    w->stats.not_strict += w->state == MR_WATCH_NOT_STRICT && before != MR_WATCH_NOT_STRICT;
}

/* ---- stepping ---- */

/* When there is something to compare with. A failover may have taken "ready" back: then the rest is as good as it was. */
static bool may_resume(const struct mr_watch *w) {
    return w->resume.pending && w->loss == MR_WATCH_NO_LOSS && (w->ready || is_marked(w)) &&
           mr_watch_all_passed(w);
}

bool mr_watch_step(struct mr_watch *w) {
    w->now_ns = mr_clock_mono_ns(w->options.clock);
    mr_watch_follow(w);
    bool any = false;
    for (uint32_t i = 0; i < w->server_count; i++) {
        any |= mr_watch_check_step(w, i);
    }
    if (may_resume(w)) {
        mr_watch_resume(w);
        any = true;
    }
    any |= mr_watch_store_step(w);
    judge(w);
    return any;
}

void mr_watch_answer(struct mr_watch *w, const struct mr_redis_answer *answer) {
    MR_ASSERT((answer->tag & MR_WATCH_TAG) != 0);
    struct mr_watch_tag tag = mr_watch_tag_unpack(answer->tag);
    w->now_ns = mr_clock_mono_ns(w->options.clock);
    if (tag.command == MR_WATCH_LOOK || tag.command == MR_WATCH_ACT) {
        mr_watch_store_answer(w, tag, answer);
    } else {
        mr_watch_check_answer(w, tag, answer);
    }
    judge(w);
}

/* ---- questions ---- */

enum mr_watch_state mr_watch_state(const struct mr_watch *w) {
    return w->state;
}

const char *mr_watch_reason(const struct mr_watch *w) {
    return w->reason;
}

bool mr_watch_passed(const struct mr_watch *w, uint32_t node, uint64_t session) {
    bool state =
        w->state == MR_WATCH_STRICT || w->state == MR_WATCH_LOST || w->state == MR_WATCH_SUSPECT;
    return state && node < w->server_count && session != 0 && w->servers[node].session == session &&
           mr_watch_has_passed(w, &w->servers[node]);
}

uint64_t mr_watch_turn(const struct mr_watch *w) {
    return w->turn;
}

int64_t mr_watch_since_ms(const struct mr_watch *w) {
    return w->need.since_ms;
}

struct mr_epoch mr_watch_epoch(const struct mr_watch *w) {
    return w->epoch;
}

uint64_t mr_watch_need(const struct mr_watch *w) {
    return w->need.want == MR_WATCH_WANT_NONE ? 0 : w->need.number;
}

void mr_watch_stats(const struct mr_watch *w, struct mr_watch_stats *ret) {
    *ret = w->stats;
}

/* ---- what others found ---- */

/* It is looked at before it is believed: the script may have been answered before the store was made anew. */
void mr_watch_say_lost(struct mr_watch *w, uint32_t tag) {
    MR_ASSERT(tag < w->canary_count);
    if (w->state == MR_WATCH_STRICT || w->state == MR_WATCH_SUSPECT) {
        mr_watch_check_again(w);
        mr_watch_store_hurry(w, false);
        judge(w);
    }
}

void mr_watch_say_policy(struct mr_watch *w, uint32_t node, struct mr_bytes policy) {
    MR_ASSERT(node < w->server_count);
    if (!w->options.assume_strict && w->servers[node].session != 0) {
        mr_watch_check_policy(&w->servers[node], policy);
        judge(w);
    }
}

void mr_watch_say_refused(struct mr_watch *w, uint32_t node, struct mr_bytes text) {
    MR_ASSERT(node < w->server_count);
    if (w->servers[node].session != 0) {
        mr_watch_check_refused(&w->servers[node], text);
        judge(w);
    }
}

void mr_watch_asserted(struct mr_watch *w) {
    struct mr_watch_need *need = &w->need;
    if (need->want == MR_WATCH_WANT_NONE || !(w->ready || is_marked(w))) {
        return; /* nothing that was asserted until now is worth anything */
    }
    need->asserted = true;
    need->asserted_ms = mr_clock_wall_ms(w->options.clock);
    need->asserted_since_ms = need->since_ms;
    need->want = MR_WATCH_WANT_NONE;
    mr_watch_store_hurry(w, true);
    judge(w);
}

void mr_watch_check(const struct mr_watch *w) {
    const struct mr_watch_store *s = &w->store;
    MR_ASSERT(s->marked <= w->canary_count && s->filled <= w->canary_count);
    MR_ASSERT(s->act_sent <= s->act_count && s->unanswered <= s->act_sent);
    MR_ASSERT(s->peer_count <= s->peer_capacity && s->peer_count <= MR_WATCH_PEERS_MAX);
    MR_ASSERT(w->ready <= !mr_epoch_is_none(&w->target));
    MR_ASSERT((w->state == MR_WATCH_STRICT) == (w->reason[0] == '\0') || s->look_ns == 0);
    for (uint32_t t = 0; t < w->canary_count; t++) {
        MR_ASSERT(w->canaries[t].server == MR_REDIS_NO_NODE ||
                  w->canaries[t].server < MR_REDIS_NODES_MAX);
    }
    for (uint32_t i = 0; i < w->server_count; i++) {
        const struct mr_watch_server *server = &w->servers[i];
        MR_ASSERT(server->round.session == 0 || server->round.session == server->session);
        MR_ASSERT(server->not_strict <= (server->trouble[0] != '\0'));
        MR_ASSERT(server->round.canaries_left <= w->canary_count);
        MR_ASSERT(server->passed_session == 0 || server->good_ms != 0);
    }
    if (w->state == MR_WATCH_STRICT) {
        MR_ASSERT(w->ready && w->need.want == MR_WATCH_WANT_NONE &&
                  mr_epoch_equal(&w->epoch, &w->target));
    }
}
