/* SPDX-License-Identifier: Apache-2.0 */
#include "sink/redis_sink.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/hash.h"
#include "sink/redis_row.h"

#include <stdio.h>

enum {
    PAUSE_MIN_NS = 50 * 1000 * 1000,
    SILENCE_NS = 1000 * 1000 * 1000, /* longer than that nothing was answered: something is the matter */
    COMMAND_ARGUMENTS = 3, /* EVALSHA, the script, the number of keys */
};
static const uint64_t pause_max_ns = UINT64_C(5000000000);

#define NONE UINT32_MAX

struct item {
    struct mr_redis_row row;
    uint32_t slot;
    uint32_t node_asked; /* NONE, or where to send it this once */
    uint32_t next;       /* in the list of free ones, or of those with this hash */
    uint32_t bucket;
    bool sent;
};

struct mr_redis_sink {
    struct mr_redis *redis;
    struct mr_clock *clock;
    struct mr_bytes prefix;
    int64_t ttl_ms;
    uint64_t bytes_max;
    uint64_t bytes; /* of rows that are waiting or sent */
    uint32_t rows_max;
    uint32_t rows;
    struct item *items;
    uint32_t free;
    uint32_t *buckets; /* by hash of the key, of rows that are waiting or sent */
    uint32_t bucket_count;
    uint32_t *waiting; /* a ring of rows_max items, in the order in which they are sent */
    uint32_t waiting_first;
    uint32_t waiting_count;
    struct mr_redis_row scratch;
    uint64_t sessions[MR_REDIS_NODES_MAX]; /* in which the node got the script's text */
    uint64_t pause_ns; /* the next one */
    uint64_t paused_until_ns;
    uint64_t progress_ns; /* the last answer, or the first row put */
    struct mr_redis_sink_stats stats;
};

/* ---- opening ---- */

static enum mr_status open_tables(struct mr_redis_sink *s) {
    s->bucket_count = 1;
    while (s->bucket_count < s->rows_max) {
        s->bucket_count *= 2;
    }
    s->items = mr_alloc_zero(s->rows_max, sizeof *s->items);
    s->buckets = mr_alloc(s->bucket_count * sizeof *s->buckets);
    s->waiting = mr_alloc(s->rows_max * sizeof *s->waiting);
    if (s->items == NULL || s->buckets == NULL || s->waiting == NULL) {
        return MR_NO_MEMORY;
    }
    memset(s->buckets, 0xff, s->bucket_count * sizeof *s->buckets);
    for (uint32_t i = 0; i < s->rows_max; i++) {
        mr_redis_row_init(&s->items[i].row);
        s->items[i].next = i + 1 < s->rows_max ? i + 1 : NONE;
    }
    return MR_OK;
}

enum mr_status mr_redis_sink_open(const struct mr_redis_sink_options *options, struct mr_redis_sink **ret,
                                  struct mr_error *error) {
    MR_ASSERT(options->rows_max > 0 && options->rows_max < NONE && options->ttl_ms > 0);
    struct mr_redis_sink *s = mr_alloc_zero(1, sizeof *s);
    if (s == NULL) {
        return mr_error_set(error, MR_NO_MEMORY, "%s", mr_status_text(MR_NO_MEMORY));
    }
    s->clock = options->redis.clock;
    s->prefix = options->prefix;
    s->ttl_ms = options->ttl_ms;
    s->bytes_max = options->bytes_max;
    s->rows_max = options->rows_max;
    s->pause_ns = PAUSE_MIN_NS;
    mr_redis_row_init(&s->scratch);
    struct mr_redis_options redis = options->redis;
    redis.bytes_max = MR_SINK_PIPELINE_BYTES_MAX;
    enum mr_status status = open_tables(s);
    status = status == MR_OK ? mr_redis_open(&redis, &s->redis, error)
                             : mr_error_set(error, status, "%s", mr_status_text(status));
    if (status != MR_OK) {
        mr_redis_sink_close(s);
        return status;
    }
    *ret = s;
    return MR_OK;
}

void mr_redis_sink_close(struct mr_redis_sink *s) {
    if (s == NULL) {
        return;
    }
    mr_redis_close(s->redis);
    for (uint32_t i = 0; s->items != NULL && i < s->rows_max; i++) {
        mr_redis_row_finish(&s->items[i].row);
    }
    mr_redis_row_finish(&s->scratch);
    mr_free(s->items);
    mr_free(s->buckets);
    mr_free(s->waiting);
    mr_free(s);
}

/* ---- rows ---- */

static void push_waiting(struct mr_redis_sink *s, uint32_t i) {
    MR_ASSERT(s->waiting_count < s->rows_max);
    s->waiting[(s->waiting_first + s->waiting_count) % s->rows_max] = i;
    s->waiting_count++;
    s->items[i].sent = false;
}

static uint32_t pop_waiting(struct mr_redis_sink *s) {
    MR_ASSERT(s->waiting_count > 0);
    uint32_t i = s->waiting[s->waiting_first];
    s->waiting_first = (s->waiting_first + 1) % s->rows_max;
    s->waiting_count--;
    return i;
}

static void end_row(struct mr_redis_sink *s, uint32_t i) {
    struct item *item = &s->items[i];
    uint32_t *at = &s->buckets[item->bucket];
    while (*at != i) {
        MR_ASSERT(*at != NONE);
        at = &s->items[*at].next;
    }
    *at = item->next;
    item->next = s->free;
    s->free = i;
    s->bytes -= item->row.bytes.len;
    s->rows--;
    if (s->rows == 0) {
        s->stats.failing = false;
    }
}

/* A row of that hash that is waiting, or NONE. One that was sent goes its way: the script compares. */
static uint32_t find_waiting(const struct mr_redis_sink *s, uint32_t bucket, struct mr_bytes key) {
    uint32_t i = s->buckets[bucket];
    while (i != NONE && (s->items[i].sent || !mr_bytes_equal(mr_redis_row_key(&s->items[i].row), key))) {
        i = s->items[i].next;
    }
    return i;
}

static void swap_row(struct mr_redis_sink *s, struct item *item) {
    struct mr_redis_row old = item->row;
    item->row = s->scratch;
    s->scratch = old;
}

enum mr_status mr_redis_sink_put(struct mr_redis_sink *s, const struct mr_results_rule *rule, uint64_t epoch,
                                 const struct mr_pane *pane) {
    struct mr_redis_row_target target = {.prefix = s->prefix, .ttl_ms = s->ttl_ms, .epoch = epoch};
    enum mr_status status = mr_redis_row_set(&s->scratch, &target, rule, pane);
    if (status != MR_OK) {
        return status;
    }
    struct mr_bytes key = mr_redis_row_key(&s->scratch);
    uint32_t bucket = (uint32_t)mr_hash64(key, 0) & (s->bucket_count - 1);
    uint32_t i = find_waiting(s, bucket, key);
    if (i != NONE) {
        if (mr_redis_row_is_newer(&s->scratch, &s->items[i].row)) {
            s->bytes += s->scratch.bytes.len - s->items[i].row.bytes.len;
            swap_row(s, &s->items[i]);
        }
        return MR_OK;
    }
    if (s->free == NONE || (s->rows > 0 && s->bytes + s->scratch.bytes.len > s->bytes_max)) {
        return MR_FULL;
    }
    if (s->rows == 0) {
        s->progress_ns = mr_clock_mono_ns(s->clock);
    }
    i = s->free;
    struct item *item = &s->items[i];
    s->free = item->next;
    item->slot = mr_redis_slot(key);
    item->node_asked = NONE;
    item->bucket = bucket;
    item->next = s->buckets[bucket];
    s->buckets[bucket] = i;
    swap_row(s, item);
    s->bytes += item->row.bytes.len;
    s->rows++;
    push_waiting(s, i);
    return MR_OK;
}

/* ---- sending ---- */

static bool send_row(struct mr_redis_sink *s, uint32_t i) {
    struct item *item = &s->items[i];
    uint32_t node = item->node_asked != NONE ? item->node_asked : mr_redis_node_of(s->redis, item->slot);
    if (node == MR_REDIS_NO_NODE || node >= mr_redis_nodes(s->redis)) {
        item->node_asked = NONE;
        return false;
    }
    struct mr_redis_node state;
    mr_redis_node(s->redis, node, &state);
    if (state.session == 0) {
        item->node_asked = NONE; /* it may be another one when that is back */
        return false;
    }
    struct mr_bytes argv[COMMAND_ARGUMENTS + MR_REDIS_ROW_ARGUMENTS_MAX];
    bool by_text = s->sessions[node] != state.session;
    MR_ASSERT(item->row.count <= MR_REDIS_ROW_ARGUMENTS_MAX);
    argv[0] = by_text ? MR_BYTES("EVAL") : MR_BYTES("EVALSHA");
    argv[1] = by_text ? mr_redis_sink_script() : mr_bytes_text(mr_redis_sink_sha);
    argv[2] = MR_BYTES("1");
    mr_redis_row_arguments(&item->row, argv + COMMAND_ARGUMENTS);
    struct mr_redis_command command = {
        .argv = argv,
        .argc = COMMAND_ARGUMENTS + item->row.count,
        .tag = i,
        .asking = item->node_asked != NONE,
    };
    if (mr_redis_send(s->redis, node, &command) != MR_OK) {
        return false;
    }
    s->sessions[node] = state.session;
    item->node_asked = NONE;
    item->sent = true;
    return true;
}

/* Each of them once; those whose node cannot take any now go to the end. */
static bool send_waiting(struct mr_redis_sink *s) {
    if (s->waiting_count == 0 || mr_clock_mono_ns(s->clock) < s->paused_until_ns) {
        return false;
    }
    bool moved = false;
    bool one_node = mr_redis_nodes(s->redis) <= 1;
    for (uint32_t left = s->waiting_count; left > 0; left--) {
        uint32_t i = pop_waiting(s);
        if (send_row(s, i)) {
            moved = true;
            continue;
        }
        push_waiting(s, i);
        if (one_node) {
            break; /* no other row will do better */
        }
    }
    return moved;
}

/* ---- answers ---- */

static bool has_word(struct mr_bytes text, const char *word) {
    return memmem(text.ptr, text.len, word, strlen(word)) != NULL;
}

static void fail(struct mr_redis_sink *s, struct mr_bytes reason) {
    s->stats.failing = true;
    (void)snprintf(s->stats.reason, sizeof s->stats.reason, "%.*s", (int)reason.len,
                   (const char *)reason.ptr); /* cut is fine */
}

static void keep_key(struct mr_redis_sink *s, uint32_t i) {
    struct mr_bytes key = mr_redis_row_key(&s->items[i].row);
    (void)snprintf(s->stats.key, sizeof s->stats.key, "%.*s", (int)key.len, (const char *)key.ptr); /* cut is fine */
}

static void take_reply(struct mr_redis_sink *s, uint32_t i, const struct mr_redis_reply *reply) {
    if (reply->type != MR_REDIS_INTEGER) {
        fail(s, MR_BYTES("an answer that the script does not give"));
        s->stats.errors++;
        push_waiting(s, i);
        s->paused_until_ns = mr_clock_mono_ns(s->clock) + pause_max_ns;
        return;
    }
    s->pause_ns = PAUSE_MIN_NS;
    s->stats.applied += reply->integer > 0;
    s->stats.there_already += reply->integer == 0;
    if (reply->integer < 0) {
        s->stats.later_epoch++;
        keep_key(s, i);
    }
    end_row(s, i);
}

/* Longer each time, until something is answered well again. */
static void pause(struct mr_redis_sink *s) {
    uint64_t now_ns = mr_clock_mono_ns(s->clock);
    if (now_ns < s->paused_until_ns) {
        return; /* an answer to what was sent before the pause */
    }
    s->paused_until_ns = now_ns + s->pause_ns;
    s->pause_ns = s->pause_ns * 2 < pause_max_ns ? s->pause_ns * 2 : pause_max_ns;
}

static void take_error(struct mr_redis_sink *s, uint32_t i, const struct mr_redis_answer *answer) {
    struct mr_bytes text = answer->reply.text;
    if (has_word(text, "NOSCRIPT")) {
        s->sessions[answer->node] = 0;
        push_waiting(s, i);
        return;
    }
    s->stats.errors++;
    if (has_word(text, "WRONGTYPE")) {
        s->stats.wrong_keys++;
        keep_key(s, i);
        end_row(s, i);
        return;
    }
    fail(s, text);
    pause(s);
    push_waiting(s, i);
}

static void say_trouble(struct mr_redis_sink *s, uint32_t node) {
    const char *trouble = "";
    if (node < mr_redis_nodes(s->redis)) {
        struct mr_redis_node state;
        mr_redis_node(s->redis, node, &state);
        trouble = state.trouble;
    } else {
        trouble = mr_redis_map_trouble(s->redis);
    }
    fail(s, trouble[0] != 0 ? mr_bytes_text(trouble) : MR_BYTES("no answer"));
}

static void take_answer(struct mr_redis_sink *s, const struct mr_redis_answer *answer) {
    uint32_t i = (uint32_t)answer->tag;
    MR_ASSERT(i < s->rows_max && s->items[i].sent);
    s->progress_ns = mr_clock_mono_ns(s->clock);
    switch (answer->outcome) {
    case MR_REDIS_ANSWERED:
        take_reply(s, i, &answer->reply);
        return;
    case MR_REDIS_MOVED:
        push_waiting(s, i);
        return;
    case MR_REDIS_ASKED:
        s->items[i].node_asked = answer->node_asked;
        push_waiting(s, i);
        return;
    case MR_REDIS_LATER:
    case MR_REDIS_REFUSED:
        take_error(s, i, answer);
        return;
    case MR_REDIS_UNKNOWN:
        say_trouble(s, answer->node);
        push_waiting(s, i);
        return;
    }
    MR_UNREACHABLE();
}

/* Who does not answer, or is not there: the node of the row that waits longest. */
static void look_for_silence(struct mr_redis_sink *s) {
    uint64_t now_ns = mr_clock_mono_ns(s->clock);
    if (s->rows == 0 || now_ns - s->progress_ns < SILENCE_NS || now_ns < s->paused_until_ns) {
        return;
    }
    s->progress_ns = now_ns;
    uint32_t node = s->waiting_count == 0
                        ? 0
                        : mr_redis_node_of(s->redis, s->items[s->waiting[s->waiting_first]].slot);
    say_trouble(s, node);
}

bool mr_redis_sink_step(struct mr_redis_sink *s) {
    bool moved = mr_redis_step(s->redis);
    struct mr_redis_answer answer;
    while (mr_redis_next(s->redis, &answer)) {
        take_answer(s, &answer);
        moved = true;
    }
    moved |= send_waiting(s);
    look_for_silence(s);
    return moved;
}

void mr_redis_sink_wait(struct mr_redis_sink *s, uint64_t timeout_ns) {
    uint64_t now_ns = mr_clock_mono_ns(s->clock);
    uint64_t left_ns = s->paused_until_ns > now_ns ? s->paused_until_ns - now_ns : UINT64_MAX;
    bool paused = s->waiting_count > 0 && left_ns < timeout_ns;
    mr_redis_wait(s->redis, paused ? left_ns : timeout_ns);
}

bool mr_redis_sink_is_empty(const struct mr_redis_sink *s) {
    return s->rows == 0;
}

void mr_redis_sink_stats(const struct mr_redis_sink *s, struct mr_redis_sink_stats *ret) {
    struct mr_redis_stats redis;
    mr_redis_stats(s->redis, &redis);
    *ret = s->stats;
    ret->rows = s->rows;
    ret->errors += redis.failures;
    ret->reconnects = redis.connects > 0 ? redis.connects - 1 : 0;
}

void mr_redis_sink_check(const struct mr_redis_sink *s) {
    uint64_t bytes = 0;
    uint32_t rows = 0;
    uint32_t waiting = 0;
    for (uint32_t b = 0; b < s->bucket_count; b++) {
        for (uint32_t i = s->buckets[b]; i != NONE; i = s->items[i].next) {
            MR_ASSERT(s->items[i].bucket == b && rows < s->rows_max);
            bytes += s->items[i].row.bytes.len;
            waiting += !s->items[i].sent;
            rows++;
        }
    }
    MR_ASSERT(rows == s->rows && bytes == s->bytes && waiting == s->waiting_count);
    MR_ASSERT(s->rows > 0 || !s->stats.failing);
    mr_redis_check(s->redis);
}
