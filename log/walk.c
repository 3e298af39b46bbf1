/* SPDX-License-Identifier: Apache-2.0 */
#include "log/walk.h"

#include "base/alloc.h"
#include "base/check.h"

#include <pthread.h>
#include <stdatomic.h>

enum { WALKERS_MAX = 4 }; /* with the caller: enough for the disk, whatever the number of cores */

struct walk {
    struct mr_disk *disk;
    const char *dir;
    const struct mr_segments *segments;
    uint32_t first;
    struct mr_walked *walked; /* each written by the thread that took its number; read when all have been joined */
    _Atomic uint32_t next;    /* relaxed: it gives out numbers and nothing else */
};

static enum mr_status note_first(void *ctx, const struct mr_record *record) {
    struct mr_walked *walked = ctx;
    if (walked->begins.lsn == 0) {
        walked->begins = *record;
        walked->begins.payload = mr_bytes_of(NULL, 0);
    }
    return MR_OK;
}

static void *take_segments(void *ctx) {
    struct walk *w = ctx;
    for (;;) {
        uint32_t i = w->first + atomic_fetch_add_explicit(&w->next, 1, memory_order_relaxed);
        if (i >= w->segments->count) {
            return NULL;
        }
        struct mr_error error;
        struct mr_walked *walked = &w->walked[i - w->first];
        walked->chain = mr_recover_chain(w->segments, i);
        walked->status = mr_recover_segment(w->disk, w->dir, w->segments, i, &walked->chain, note_first, walked,
                                            &walked->summary, &error);
    }
}

static void run(struct walk *w, uint32_t walkers) {
    pthread_t threads[WALKERS_MAX];
    uint32_t started = 0;
    while (started + 1 < walkers && pthread_create(&threads[started], NULL, take_segments, w) == 0) {
        started++;
    }
    (void)take_segments(w); /* also alone: a thread that cannot be had costs time */
    for (uint32_t i = 0; i < started; i++) {
        int failed = pthread_join(threads[i], NULL);
        MR_ASSERT(failed == 0);
    }
}

/* Each was walked as if nothing were known of what is before it. Behind a first record that follows that, and is no
 * GAP, the chain is the same in either case. */
static bool is_sound(const struct mr_walked *walked, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        bool follows = i == 0 || (walked[i].begins.type != MR_RECORD_GAP &&
                                  mr_chain_follows(&walked[i - 1].chain, &walked[i].begins));
        if (walked[i].status != MR_OK || walked[i].begins.lsn == 0 || !follows) {
            return false;
        }
    }
    return true;
}

struct mr_walked *mr_walk_open(struct mr_disk *disk, const char *dir, const struct mr_segments *segments,
                               uint32_t first) {
    MR_ASSERT(first < segments->count);
    uint32_t count = segments->count - first;
    if (!disk->ops->readers || count == 1) {
        return NULL;
    }
    struct walk w = {.disk = disk, .dir = dir, .segments = segments, .first = first};
    w.walked = mr_alloc_zero(count, sizeof *w.walked);
    if (w.walked == NULL) {
        return NULL;
    }
    run(&w, count < WALKERS_MAX ? count : WALKERS_MAX);
    if (!is_sound(w.walked, count)) {
        mr_free(w.walked);
        return NULL;
    }
    return w.walked;
}
