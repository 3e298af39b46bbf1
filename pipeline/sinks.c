/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/sinks.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/hash.h"
#include "pipeline/sink_worker.h"

enum {
    ROWS_MAX = 4096, /* of a batch */
    KEY_MAX = 2 * MR_KEY_LEN_MAX,
    TARGET_MAX = 1 << 16,
};
#define RETRY_MIN_NS UINT64_C(50000000)
#define RETRY_MAX_NS UINT64_C(2000000000)

/* ---- opening ---- */

/* Where it goes: rows that are there already are not in another place. */
static enum mr_status hash_target(struct mr_sink_worker *w, const struct mr_config_store *store) {
    struct mr_buf text;
    mr_buf_init(&text, TARGET_MAX);
    mr_buf_append_bytes(&text, w->sink->prefix);
    for (uint32_t i = 0; i < store->node_count; i++) {
        mr_buf_append_char(&text, ' ');
        mr_buf_append_bytes(&text, store->nodes[i]);
    }
    w->target = mr_hash64(mr_buf_bytes(&text), 0);
    enum mr_status status = text.failed ? MR_NO_MEMORY : MR_OK;
    mr_buf_finish(&text);
    return status;
}

static enum mr_status find_rules(struct mr_sink_worker *w, uint32_t sink) {
    const struct mr_config *config = w->sinks->options.plan->config;
    w->rules = mr_alloc_zero(config->rule_count + 1, sizeof *w->rules); /* one more: never a size of 0 */
    if (w->rules == NULL) {
        return MR_NO_MEMORY;
    }
    for (uint32_t i = 0; i < config->rule_count; i++) {
        if (mr_config_rule_has_sink(&config->rules[i], sink)) {
            w->rules[w->rule_count++] =
                (struct mr_sink_rule){.rule = i, .open_from_ms = INT64_MAX, .open_from_ms_next = INT64_MAX};
        }
    }
    return MR_OK;
}

static enum mr_status open_redis(struct mr_sink_worker *w, uint32_t index, const struct mr_config_store *store,
                                 struct mr_error *error) {
    const struct mr_sinks_options *o = &w->sinks->options;
    uint64_t seed = o->seed + index;
    if (o->seed == 0 && mr_random_bytes(&seed, sizeof seed) != MR_OK) {
        return mr_error_set(error, MR_IO, "the kernel gives no random bytes");
    }
    struct mr_redis_sink_options options = {
        .redis = {.transport = o->transports[index],
                  .clock = o->clock,
                  .addresses = store->nodes,
                  .address_count = store->node_count,
                  .cluster = store->cluster,
                  .user = store->user,
                  .password = store->password,
                  .name = o->plan->config->node.id,
                  .timeout_ns = (uint64_t)store->timeout_ms * 1000000,
                  .retry_min_ns = RETRY_MIN_NS,
                  .retry_max_ns = RETRY_MAX_NS,
                  .seed = seed},
        .prefix = w->sink->prefix,
        .ttl_ms = w->sink->ttl_ms,
        .rows_max = ROWS_MAX,
        .bytes_max = MR_SINK_BYTES_MAX,
    };
    return mr_redis_sink_open(&options, &w->redis, error);
}

static enum mr_status open_worker(struct mr_sinks *sinks, uint32_t index, struct mr_error *error) {
    struct mr_sink_worker *w = &sinks->workers[index];
    const struct mr_config *config = sinks->options.plan->config;
    w->sinks = sinks;
    w->sink = &config->sinks[index];
    w->stats.name = w->sink->name;
    mr_buf_init(&w->range.after_key, KEY_MAX);
    (void)pthread_mutex_init(&w->lock, NULL); /* cannot fail here: no attributes */
    enum mr_status status = find_rules(w, index);
    if (status == MR_OK) {
        status = hash_target(w, &config->stores[w->sink->store]);
    }
    if (status == MR_OK && w->rule_count > 0) {
        status = mr_results_reader_open(sinks->options.results, &w->reader);
    }
    if (status != MR_OK) {
        return mr_error_set(error, status, "sink %.*s: %s", (int)w->sink->name.len,
                            (const char *)w->sink->name.ptr, mr_status_text(status));
    }
    return w->rule_count == 0 ? MR_OK : open_redis(w, index, &config->stores[w->sink->store], error);
}

enum mr_status mr_sinks_open(const struct mr_sinks_options *options, struct mr_sinks **ret,
                             struct mr_error *error) {
    uint32_t count = options->plan->config->sink_count;
    MR_ASSERT(options->plan->rule_count == options->plan->config->rule_count && count <= MR_SINKS_MAX);
    struct mr_sinks *sinks = mr_alloc_zero(1, sizeof *sinks + count * sizeof sinks->workers[0]);
    if (sinks == NULL) {
        return mr_error_set(error, MR_NO_MEMORY, "out of memory opening sinks");
    }
    sinks->options = *options;
    enum mr_status status = MR_OK;
    while (status == MR_OK && sinks->count < count) {
        status = open_worker(sinks, sinks->count++, error);
    }
    if (status != MR_OK) {
        mr_sinks_close(sinks);
        return status;
    }
    *ret = sinks;
    return MR_OK;
}

void mr_sinks_close(struct mr_sinks *sinks) {
    if (sinks == NULL) {
        return;
    }
    for (uint32_t i = 0; i < sinks->count; i++) {
        struct mr_sink_worker *w = &sinks->workers[i];
        MR_ASSERT(!w->has_thread);
        if (w->dirty && !w->copying) {
            mr_sink_cursor_write(w);
        }
        mr_redis_sink_close(w->redis);
        mr_results_reader_close(w->reader);
        mr_buf_finish(&w->range.after_key);
        (void)pthread_mutex_destroy(&w->lock);
        mr_free(w->rules);
    }
    mr_free(sinks);
}

uint32_t mr_sinks_count(const struct mr_sinks *sinks) {
    return sinks == NULL ? 0 : sinks->count;
}

/* ---- threads ---- */

static void *run_worker(void *ctx) {
    struct mr_sink_worker *w = ctx;
    /* acquire: pairs with the release in mr_sinks_stop */
    while (!atomic_load_explicit(&w->sinks->quit, memory_order_acquire)) {
        if (!mr_sink_worker_step(w)) {
            mr_sink_worker_sleep(w);
        }
    }
    return NULL;
}

enum mr_status mr_sinks_start(struct mr_sinks *sinks) {
    for (uint32_t i = 0; i < sinks->count; i++) {
        struct mr_sink_worker *w = &sinks->workers[i];
        MR_ASSERT(!w->has_thread);
        if (w->rule_count == 0) {
            continue; /* it has nothing to do, ever */
        }
        if (pthread_create(&w->thread, NULL, run_worker, w) != 0) {
            mr_sinks_stop(sinks);
            return MR_NO_MEMORY;
        }
        w->has_thread = true;
    }
    return MR_OK;
}

void mr_sinks_stop(struct mr_sinks *sinks) {
    if (sinks == NULL) {
        return;
    }
    /* release: pairs with the acquire in run_worker */
    atomic_store_explicit(&sinks->quit, true, memory_order_release);
    for (uint32_t i = 0; i < sinks->count; i++) {
        struct mr_sink_worker *w = &sinks->workers[i];
        if (w->has_thread) {
            (void)pthread_join(w->thread, NULL); /* fails only for a thread that is none */
            w->has_thread = false;
        }
    }
}

/* ---- questions ---- */

void mr_sinks_flush(struct mr_sinks *sinks) {
    for (uint32_t i = 0; i < mr_sinks_count(sinks); i++) {
        mr_counter_add_shared(&sinks->workers[i].flush_asked, 1);
    }
}

bool mr_sinks_idle(const struct mr_sinks *sinks, uint32_t sink) {
    MR_ASSERT(sink < sinks->count);
    const struct mr_sink_worker *w = &sinks->workers[sink];
    return w->rule_count == 0 || mr_counter_read(&w->flush_done) >= mr_counter_read(&w->flush_asked);
}

void mr_sinks_stats(struct mr_sinks *sinks, uint32_t sink, struct mr_sink_stats *ret) {
    MR_ASSERT(sink < sinks->count);
    struct mr_sink_worker *w = &sinks->workers[sink];
    (void)pthread_mutex_lock(&w->lock); /* cannot fail: not recursive, and initialized */
    *ret = w->stats;
    (void)pthread_mutex_unlock(&w->lock);
}

bool mr_sinks_step(struct mr_sinks *sinks, uint32_t sink) {
    MR_ASSERT(sink < sinks->count);
    return mr_sink_worker_step(&sinks->workers[sink]);
}

void mr_sinks_sleep(struct mr_sinks *sinks, uint32_t sink) {
    MR_ASSERT(sink < sinks->count);
    struct mr_sink_worker *w = &sinks->workers[sink];
    if (w->rule_count > 0) {
        mr_sink_worker_sleep(w);
    }
}
