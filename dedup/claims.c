/* SPDX-License-Identifier: Apache-2.0 */
#include "dedup/claims.h"

#include "base/alloc.h"
#include "dedup/claims_parts.h"

#include <inttypes.h>
#include <stdio.h>

enum {
    BYTES_PER_ID = 160, /* entry, mark and command, and the command in the pipeline */
    BYTES_PER_CLAIM = 256,
    PIPELINE_MIN = 1 << 20,
    CHECK_MS = 2000,
    PEERS_MS = 60000,
    TEXT_MAX = 8 << 20, /* shape and tags of 64 streams, and of the slots */
    HORIZON_TTL_HALVES_BUCKET =
        7, /* two of the generation, one after it, half of one for clocks and delays */
    HORIZON_TTL_HALVES_KEY = 4,
};

#define RETRY_MIN_NS UINT64_C(50000000)
#define RETRY_MAX_NS UINT64_C(2000000000)
#define WAIT_MAX_NS  UINT64_C(100000000) /* the watch has its own times */

/* ---- names ---- */

/* 48 bits: that two logs of a cluster of 100 nodes, each of which was made anew 100 times, have the same ones has a
 * probability of 2e-7. */
static enum mr_status make_owner(const struct mr_claims_options *o, uint8_t ret[6]) {
    struct mr_buf text;
    mr_buf_init(&text, MR_CLAIMS_KEY_MAX);
    mr_buf_printf(&text, "%zu:", o->cluster.len);
    mr_buf_append_bytes(&text, o->cluster);
    mr_buf_printf(&text, "%zu:", o->node.len);
    mr_buf_append_bytes(&text, o->node);
    mr_buf_printf(&text, "%" PRIu64, o->incarnation);
    bool failed = text.failed;
    uint64_t hash = failed ? 0 : mr_checksum(mr_buf_bytes(&text));
    mr_buf_finish(&text);
    memcpy(ret, &hash, 6);
    return failed ? MR_NO_MEMORY : MR_OK;
}

void mr_claims_token(const struct mr_claims *claims, const struct mr_claims_member *member,
                     uint8_t ret[MR_CLAIMS_TOKEN_LEN]) {
    memcpy(ret, claims->owner, sizeof claims->owner);
    for (unsigned i = 0; i < 6; i++) {
        ret[6 + i] = (uint8_t)(member->lsn >> (8 * i));
    }
}

/* ---- opening ---- */

static enum mr_status check_options(const struct mr_claims_options *o, struct mr_error *error) {
    MR_ASSERT(o->transport != NULL && o->clock != NULL);
    MR_ASSERT(o->stream_count > 0 && o->stream_count <= MR_STREAMS_MAX);
    if (o->cluster.len == 0 || o->cluster.len > MR_NAME_MAX || o->node.len == 0 ||
        o->node.len > MR_NAME_MAX) {
        return mr_error_set(error, MR_INVALID, "the names of cluster and node have 1 to %d bytes",
                            MR_NAME_MAX);
    }
    for (uint32_t s = 0; s < o->stream_count; s++) {
        const struct mr_claims_stream *stream = &o->streams[s];
        if (stream->name.len == 0 || stream->name.len > MR_NAME_MAX || stream->horizon_ms <= 0 ||
            stream->horizon_ms > INT64_MAX / HORIZON_TTL_HALVES_BUCKET) {
            return mr_error_set(error, MR_INVALID,
                                "stream %" PRIu32 ": its name or its horizon is out of bounds", s);
        }
    }
    return MR_OK;
}

static bool alloc_parts(struct mr_claims *c, const struct mr_claims_options *o) {
    c->stream_count = o->stream_count;
    c->place_count = o->stream_count * MR_CLAIM_BUCKETS;
    c->streams = mr_alloc_zero(c->stream_count, sizeof *c->streams);
    c->places = mr_alloc_zero(c->place_count, sizeof *c->places);
    c->names = mr_alloc_zero(c->stream_count, 2 * MR_NAME_MAX + 3);
    c->ids = mr_alloc(MR_CLAIMS_COMMAND_IDS * (1 + MR_CLAIMS_FP_LEN) + sizeof MR_CLAIMS_ABOUT);
    c->pairs = mr_alloc(MR_CLAIMS_COMMAND_IDS * (2 + MR_CLAIMS_FP_LEN + MR_CLAIMS_TOKEN_LEN));
    return c->streams != NULL && c->places != NULL && c->names != NULL && c->ids != NULL &&
           c->pairs != NULL;
}

static void set_streams(struct mr_claims *c, const struct mr_claims_options *o) {
    for (uint32_t s = 0; s < c->stream_count; s++) {
        const struct mr_claims_stream *from = &o->streams[s];
        struct mr_claims_own_stream *stream = &c->streams[s];
        char *prefix = c->names + s * (size_t)(2 * MR_NAME_MAX + 3);
        int halves =
            from->layout == MR_CLAIM_KEY ? HORIZON_TTL_HALVES_KEY : HORIZON_TTL_HALVES_BUCKET;
        int len = snprintf(prefix, 2 * MR_NAME_MAX + 3, "%.*s/%.*s/", (int)o->cluster.len,
                           (const char *)o->cluster.ptr, (int)from->name.len,
                           (const char *)from->name.ptr);
        *stream =
            (struct mr_claims_own_stream){.layout = from->layout, .horizon_ms = from->horizon_ms};
        stream->prefix = prefix;
        stream->prefix_len = (uint32_t)len;
        stream->ttl_ms = (from->horizon_ms * halves + 1) / 2;
        (void)snprintf(stream->ttl, sizeof stream->ttl, "%" PRId64, stream->ttl_ms);
    }
}

static enum mr_status open_redis(struct mr_claims *c, const struct mr_claims_options *o,
                                 struct mr_error *error) {
    uint64_t seed = o->seed;
    enum mr_status status = seed != 0 ? MR_OK : mr_random_bytes(&seed, sizeof seed);
    if (status != MR_OK) {
        return mr_error_set(error, status, "no random bytes");
    }
    struct mr_redis_options options = {
        .transport = o->transport,
        .clock = o->clock,
        .addresses = o->addresses,
        .address_count = o->address_count,
        .cluster = o->cluster_mode,
        .user = o->user,
        .password = o->password,
        .name = o->node,
        .timeout_ns = o->timeout_ns,
        .retry_min_ns = RETRY_MIN_NS,
        .retry_max_ns = RETRY_MAX_NS,
        .bytes_max = o->bytes_max > PIPELINE_MIN ? o->bytes_max : PIPELINE_MIN,
        .seed = seed,
    };
    return mr_redis_open(&options, &c->redis, error);
}

static enum mr_status open_client(struct mr_claims *c, const struct mr_claims_options *o,
                                  struct mr_error *error) {
    enum mr_status status = open_redis(c, o, error);
    if (status != MR_OK) {
        return status;
    }
    struct mr_buf text;
    struct mr_bytes shape;
    struct mr_bytes *tags;
    uint32_t count;
    mr_buf_init(&text, TEXT_MAX);
    status = mr_claims_name(c, o, &text, &shape, &tags, &count);
    if (status != MR_OK) {
        mr_buf_finish(&text);
        return mr_error_set(error, status, "%s", mr_status_text(status));
    }
    struct mr_watch_options options = {
        .redis = c->redis,
        .clock = o->clock,
        .cluster = o->cluster,
        .node = o->node,
        .shape = shape,
        .key_hash = o->key_hash,
        .tags = tags,
        .tag_count = count,
        .assume_strict = o->assume_strict,
        .epoch = o->epoch,
        .recent_ms = o->recent_ms,
        .check_ms = CHECK_MS,
        .peers_ms = PEERS_MS,
        .seed = o->seed,
    };
    status = mr_watch_open(&options, &c->watch, error);
    mr_free(tags);
    mr_buf_finish(&text);
    return status;
}

enum mr_status mr_claims_open(const struct mr_claims_options *o, struct mr_claims **ret,
                              struct mr_error *error) {
    enum mr_status status = check_options(o, error);
    if (status != MR_OK) {
        return status;
    }
    struct mr_claims *c = mr_alloc_zero(1, sizeof *c);
    if (c == NULL || !alloc_parts(c, o) || make_owner(o, c->owner) != MR_OK) {
        mr_claims_close(c);
        return mr_error_set(error, MR_NO_MEMORY, "%s", mr_status_text(MR_NO_MEMORY));
    }
    uint64_t ids = o->bytes_max / BYTES_PER_ID / MR_CLAIMS_WAVES;
    c->wave_ids = ids < MR_CLAIMS_WAVE_IDS ? (uint32_t)ids : MR_CLAIMS_WAVE_IDS;
    c->clock = o->clock;
    c->cluster_mode = o->cluster_mode;
    c->assume_strict = o->assume_strict;
    c->bytes_max = o->bytes_max;
    c->map_version = UINT64_MAX;
    c->cluster_len = (uint32_t)o->cluster.len;
    set_streams(c, o);
    mr_claims_script_sha(c->script_sha);
    status = open_client(c, o, error);
    if (status != MR_OK) {
        mr_claims_close(c);
        return status;
    }
    *ret = c;
    return MR_OK;
}

void mr_claims_close(struct mr_claims *c) {
    if (c == NULL) {
        return;
    }
    mr_watch_close(c->watch);
    mr_redis_close(c->redis);
    for (uint32_t w = 0; w < MR_CLAIMS_WAVES; w++) {
        mr_free(c->waves[w].entries);
        mr_free(c->waves[w].marks);
        mr_free(c->waves[w].commands);
        mr_free(c->waves[w].members);
    }
    mr_free(c->streams);
    mr_free(c->places);
    mr_free(c->names);
    mr_free(c->slot_numbers);
    mr_free(c->ids);
    mr_free(c->pairs);
    mr_free(c->seen);
    mr_free(c);
}

/* ---- queues ---- */

static uint64_t bytes_of(const struct mr_claim *claim) {
    return BYTES_PER_CLAIM + (uint64_t)claim->count * BYTES_PER_ID;
}

/* Assertions have a bound of their own: while they are made the others wait. */
bool mr_claims_put(struct mr_claims *c, struct mr_claim *claim) {
    struct mr_claims_queue *queue = &c->queues[claim->again];
    MR_ASSERT(claim->stream < c->stream_count && claim->recorded_ms >= 0 && claim->lsn >> 48 == 0);
    uint64_t bytes = bytes_of(claim);
    if (queue->bytes > 0 && queue->bytes + bytes > c->bytes_max) {
        return false;
    }
    claim->next = NULL;
    claim->undecided = claim->count;
    claim->wave = 0;
    if (claim->count > 0) {
        memset(claim->outcomes, MR_CLAIM_NONE, claim->count);
    }
    if (queue->first == NULL) {
        queue->first = claim;
    } else {
        queue->last->next = claim;
    }
    queue->last = claim;
    queue->fresh = queue->fresh == NULL ? claim : queue->fresh;
    queue->bytes += bytes;
    queue->count += claim->undecided > 0;
    return true;
}

static struct mr_claim *pop(struct mr_claims_queue *queue) {
    struct mr_claim *claim = queue->first;
    queue->first = claim->next;
    queue->fresh = queue->fresh == claim ? claim->next : queue->fresh;
    queue->bytes -= bytes_of(claim);
    queue->count -= claim->undecided > 0;
    claim->next = NULL;
    return claim;
}

struct mr_claim *mr_claims_next(struct mr_claims *c) {
    for (uint32_t q = 2; q-- > 0;) {
        struct mr_claim *first = c->queues[q].first;
        if (first != NULL && first->undecided == 0 && first->wave == 0) {
            return pop(&c->queues[q]);
        }
    }
    return NULL;
}

/* What is under way of it goes on without it. */
struct mr_claim *mr_claims_withdraw(struct mr_claims *c) {
    if (c->queues[0].first == NULL) {
        return NULL;
    }
    struct mr_claim *claim = pop(&c->queues[0]);
    if (claim->wave != 0) {
        c->waves[claim->wave - 1].members[claim->member].claim = NULL;
        claim->wave = 0;
    }
    return claim;
}

bool mr_claims_busy(const struct mr_claims *c) {
    return c->queues[0].first != NULL || c->queues[1].first != NULL;
}

void mr_claims_decide(struct mr_claims *c, struct mr_claim *claim, uint32_t k,
                      enum mr_claim_outcome outcome) {
    MR_ASSERT(k < claim->count && claim->outcomes[k] == MR_CLAIM_NONE && claim->undecided > 0);
    struct mr_claims_stats *s = &c->stats;
    s->won += outcome == MR_CLAIM_WON && !claim->again;
    s->mine += outcome == MR_CLAIM_MINE && !claim->again;
    s->taken += outcome == MR_CLAIM_TAKEN && !claim->again;
    s->repaired += outcome == MR_CLAIM_WON && claim->again;
    s->kept += (outcome == MR_CLAIM_MINE || outcome == MR_CLAIM_OWN) && claim->again;
    s->counted_twice += outcome == MR_CLAIM_TAKEN && claim->again;
    claim->outcomes[k] = (uint8_t)outcome;
    if (--claim->undecided == 0) {
        c->queues[claim->again].count--;
    }
}

/* ---- stepping ---- */

static struct mr_claims_queue *sendable(struct mr_claims *c) {
    enum mr_watch_state state = mr_watch_state(c->watch);
    bool asserts = state == MR_WATCH_LOST || state == MR_WATCH_SUSPECT || state == MR_WATCH_STRICT;
    if (mr_clock_mono_ns(c->clock) < c->pause_until_ns) {
        return NULL;
    }
    if (asserts && c->queues[1].fresh != NULL) {
        return &c->queues[1];
    }
    return state == MR_WATCH_STRICT && c->queues[0].fresh != NULL ? &c->queues[0] : NULL;
}

static bool take_answers(struct mr_claims *c) {
    bool any = false;
    struct mr_redis_answer answer;
    while (mr_redis_next(c->redis, &answer)) {
        any = true;
        if ((answer.tag & MR_WATCH_TAG) != 0) {
            mr_watch_answer(c->watch, &answer);
        } else {
            mr_claims_answer(c, &answer);
        }
    }
    return any;
}

bool mr_claims_step(struct mr_claims *c) {
    bool moved = mr_redis_step(c->redis);
    moved |= mr_watch_step(c->watch);
    moved |= take_answers(c);
    moved |= mr_claims_look_step(c);
    moved |= mr_claims_settle(c);
    bool sent = false;
    for (struct mr_claims_queue *queue;
         (queue = sendable(c)) != NULL && mr_claims_send(c, queue);) {
        sent = true;
    }
    if (sent) {
        (void)mr_redis_step(c->redis); /* writes it */
    }
    return moved || sent;
}

void mr_claims_wait(struct mr_claims *c, uint64_t timeout_ns) {
    if (c->looks.answered != NULL) {
        return;
    }
    uint64_t now_ns = mr_clock_mono_ns(c->clock);
    timeout_ns = timeout_ns < WAIT_MAX_NS ? timeout_ns : WAIT_MAX_NS;
    if (c->pause_until_ns > now_ns && c->pause_until_ns - now_ns < timeout_ns) {
        timeout_ns = c->pause_until_ns - now_ns;
    }
    mr_redis_wait(c->redis, timeout_ns);
}

struct mr_watch *mr_claims_watch(struct mr_claims *c) {
    return c->watch;
}

void mr_claims_stats(const struct mr_claims *c, struct mr_claims_stats *ret) {
    *ret = c->stats;
    ret->waiting = c->queues[0].count + c->queues[1].count;
    mr_watch_stats(c->watch, &ret->watch);
    mr_redis_stats(c->redis, &ret->redis);
}

/* ---- check ---- */

static void check_queue(const struct mr_claims *c, const struct mr_claims_queue *queue) {
    uint64_t bytes = 0;
    uint64_t count = 0;
    bool before_fresh = queue->fresh != NULL || queue->first != NULL;
    for (const struct mr_claim *claim = queue->first; claim != NULL; claim = claim->next) {
        before_fresh = before_fresh && claim != queue->fresh;
        bytes += bytes_of(claim);
        count += claim->undecided > 0;
        uint32_t undecided = 0;
        for (uint32_t k = 0; k < claim->count; k++) {
            undecided += claim->outcomes[k] == MR_CLAIM_NONE;
        }
        MR_ASSERT(undecided == claim->undecided);
        MR_ASSERT(claim->next != NULL || queue->last == claim);
        MR_ASSERT(!before_fresh || claim->wave != 0 || claim->undecided == 0);
        MR_ASSERT(claim->wave == 0 ||
                  c->waves[claim->wave - 1].members[claim->member].claim == claim);
    }
    MR_ASSERT(bytes == queue->bytes && count == queue->count);
}

void mr_claims_check(const struct mr_claims *c) {
    check_queue(c, &c->queues[0]);
    check_queue(c, &c->queues[1]);
    for (uint32_t w = 0; w < MR_CLAIMS_WAVES; w++) {
        const struct mr_claims_wave *wave = &c->waves[w];
        MR_ASSERT(wave->open || wave->member_count == 0);
        MR_ASSERT(wave->entry_count <= wave->entry_cap && wave->command_count <= wave->entry_cap);
    }
    for (uint32_t p = 0; p < c->place_count; p++) {
        MR_ASSERT(c->places[p].count == 0);
    }
    mr_claims_look_check(c);
}
