/* SPDX-License-Identifier: Apache-2.0 */
#include "dedup/watch_parts.h"

#include "base/check.h"

#include <stdarg.h>
#include <stdio.h>

static void want(struct mr_watch *w, enum mr_watch_want what, int64_t since_ms) {
    w->need.want = what;
    w->need.since_ms = since_ms;
    w->need.number++;
    mr_watch_store_hurry(w, true); /* what others read of this node is not true any more */
}

bool mr_watch_has_suspects(const struct mr_watch *w) {
    for (uint32_t i = 0; i < w->server_count; i++) {
        if (w->servers[i].suspect) {
            return true;
        }
    }
    return false;
}

void mr_watch_suspect(struct mr_watch *w, int64_t good_ms) {
    struct mr_watch_need *need = &w->need;
    if (good_ms == 0 || w->resume.pending || mr_epoch_is_none(&w->target)) {
        return; /* nothing was sent there yet, or all servers will be compared anyway */
    }
    int64_t since_ms = good_ms - w->options.recent_ms;
    if (!mr_epoch_equal(&w->epoch, &w->target)) {
        if (!mr_epoch_is_none(
                &w->epoch)) { /* what was asserted for the new epoch is recent, all of it */
            w->stats.suspected++;
            want(w, MR_WATCH_WANT_ALL, INT64_MIN);
        }
        return;
    }
    w->stats.suspected++;
    if (need->asserted && need->asserted_ms >= since_ms && need->asserted_since_ms < since_ms) {
        since_ms =
            need->asserted_since_ms; /* it asserted older claims, and may have lost them now */
    }
    if (need->want != MR_WATCH_WANT_NONE && need->since_ms < since_ms) {
        since_ms = need->since_ms;
    }
    want(w, since_ms == INT64_MIN ? MR_WATCH_WANT_ALL : MR_WATCH_WANT_RECENT, since_ms);
}

void mr_watch_lose(struct mr_watch *w, const char *format, ...) {
    if (w->loss != MR_WATCH_NO_LOSS || mr_epoch_is_none(&w->target)) {
        return;
    }
    w->loss = MR_WATCH_LOSS_FOUND;
    va_list args;
    va_start(args, format);
    (void)vsnprintf(w->loss_text, sizeof w->loss_text, format, args); /* cut is fine */
    va_end(args);
    mr_watch_store_hurry(w, false);
}

void mr_watch_adopt(struct mr_watch *w, const struct mr_epoch *epoch) {
    bool home = mr_epoch_is_none(&w->target) && mr_epoch_equal(&w->epoch, epoch);
    w->target = *epoch;
    w->target_ns = w->now_ns;
    w->ready = false;
    w->loss = MR_WATCH_NO_LOSS;
    w->store.marked = 0;
    w->store.filled = 0;
    w->store.ripe_ns = 0;
    w->resume.pending = home;
    w->need.asserted = false;
    mr_watch_check_drop(w); /* the canaries being read are those of the epoch before */
    if (home) {
        return;
    }
    for (uint32_t i = 0; i < w->store.peer_count; i++) {
        w->store.peers[i].unseen_ns = 0; /* who was down lately may come back to assert */
    }
    if (mr_epoch_is_none(&w->epoch)) {
        w->need.want = MR_WATCH_WANT_NONE;
    } else {
        w->stats.lost++;
        want(w, MR_WATCH_WANT_ALL, INT64_MIN);
    }
}

static bool believed(const struct mr_watch_resume *resume, uint64_t identity) {
    for (uint32_t i = 0; i < resume->count; i++) {
        if (resume->identities[i] == identity) {
            return true;
        }
    }
    return false;
}

/* This node was away: what happened to the servers meanwhile? All of them have passed. */
void mr_watch_resume(struct mr_watch *w) {
    struct mr_watch_resume *resume = &w->resume;
    MR_ASSERT(resume->pending && mr_epoch_equal(&w->epoch, &w->target));
    resume->pending = false;
    if (!resume
             ->known) { /* it remembers the epoch and has never said what it believed in: claims may be anywhere */
        want(w, MR_WATCH_WANT_ALL, INT64_MIN);
        return;
    }
    bool same = true;
    uint64_t evicted = 0;
    for (uint32_t i = 0; i < w->server_count; i++) {
        const struct mr_watch_server *server = &w->servers[i];
        if (server->slots > 0) {
            same &= believed(resume, server->identity);
            evicted += server->evicted;
        }
    }
    if (same && evicted > resume->evicted) {
        mr_watch_lose(w, "Redis has evicted keys since this node last looked: claims are lost; "
                         "maxmemory-policy must "
                         "stay noeviction");
    } else if (!same) {
        w->stats.suspected++;
        want(w, MR_WATCH_WANT_RECENT, resume->good_ms - w->options.recent_ms);
    }
}
