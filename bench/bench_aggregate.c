/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Measures lift and combine: bench_aggregate [events] [keys] [groups].
 *
 * Events of one stream in bundles of 4,000, with a text key of `keys` values, a time and a number;
 * one rule of 10 s windows with count and sum. Four shards' worth of parcels come out of lift; one
 * combine takes all of them. Prints nanoseconds of this thread's CPU per event (lift), per partial
 * (merge) and per pane (fire, release included), over the bundles; memory per group, and a hash of
 * the panes and the state, which depends on nothing but the two arguments. Then a window of `groups`
 * groups is saved, while every 16th of them is changed, and loaded again, once: ns per group of both.
 */
#include "aggregate/combine.h"
#include "aggregate/lift.h"
#include "base/key.h"
#include "bench/measure.h"
#include "bench/rule.h"
#include "event/batch.h"

enum { BUNDLE = 4000, SHARDS = 4, SPREAD_MS = 3000, BUNDLE_MS = 400 };
enum { SAVE_GROUPS = 256, SAVE_CHANGED = 16 };

#define T0 INT64_C(1700000000000)

static uint64_t cpu_ns(void) {
    return bench_clock_ns(CLOCK_THREAD_CPUTIME_ID);
}

/* The columns lift reads, without a decoder before them. */
struct source {
    struct mr_batch batch;
    struct mr_column columns[2];
    union mr_value keys[BUNDLE];
    union mr_value numbers[BUNDLE];
    uint8_t key_kinds[BUNDLE];
    uint8_t number_kinds[BUNDLE];
    int64_t times_ms[BUNDLE];
    uint32_t order[BUNDLE];
    uint8_t verdicts[BUNDLE];
};

static void fill(struct source *s, uint64_t bundle, uint32_t keys, uint64_t *random) {
    mr_buf_clear(&s->batch.body);
    for (uint32_t i = 0; i < BUNDLE; i++) {
        uint64_t r = bench_random(random);
        s->keys[i].text.off = (uint32_t)s->batch.body.len;
        mr_buf_printf(&s->batch.body, "page%06u", (unsigned)(r % keys));
        s->keys[i].text.len = (uint32_t)s->batch.body.len - s->keys[i].text.off;
        s->key_kinds[i] = MR_VALUE_STRING;
        s->number_kinds[i] = r % 3 == 0 ? MR_VALUE_DOUBLE : MR_VALUE_INT;
        if (r % 3 == 0) {
            s->numbers[i].d = (double)(r >> 40) / 100;
        } else {
            s->numbers[i].i = (int64_t)(r >> 50);
        }
        s->times_ms[i] = T0 + (int64_t)(bundle * BUNDLE_MS + (r >> 20) % SPREAD_MS);
        s->order[i] = i;
    }
    (void)mr_buf_reserve(&s->batch.body, MR_PADDING); /* a failure shows in failed */
    MR_ASSERT(!s->batch.body.failed);
}

static struct source *open_source(void) {
    struct source *s = mr_alloc_aligned(MR_CACHE_LINE, sizeof *s);
    MR_ASSERT(s != NULL);
    memset(s, 0, sizeof *s);
    mr_buf_init(&s->batch.body, BUNDLE * 64);
    s->columns[0] = (struct mr_column){s->keys, s->key_kinds};
    s->columns[1] = (struct mr_column){s->numbers, s->number_kinds};
    s->batch.count = BUNDLE;
    s->batch.column = s->columns;
    s->batch.columns = 2;
    s->batch.times_ms = s->times_ms;
    s->batch.verdicts = s->verdicts;
    return s;
}

struct totals {
    struct bench_runs lift;
    struct bench_runs merge;
    struct bench_runs fire;
    uint64_t events;
    uint64_t partials;
    uint64_t bytes_most;
    uint64_t groups_most;
    uint64_t hash;
};

static void lift_bundle(struct mr_lift *lift, struct source *s, uint64_t seq, int64_t watermark_ms,
                        struct mr_parcel **parcels, struct totals *t) {
    struct mr_lift_counts counts = {0};
    struct mr_lift_rule_counts rule_counts = {0};
    struct mr_buf dead;
    uint32_t dead_count = 0;
    mr_buf_init(&dead, 1 << 20);
    uint64_t begin = cpu_ns();
    mr_lift_begin(lift, seq);
    enum mr_status status = mr_lift_batch(lift, &s->batch, s->order, BUNDLE, &watermark_ms,
                                          INT64_MAX, &dead, &dead_count, &counts, &rule_counts);
    MR_ASSERT(status == MR_OK && counts.accepted == BUNDLE);
    status = mr_lift_finish(lift, parcels);
    MR_ASSERT(status == MR_OK);
    bench_add(&t->lift, cpu_ns() - begin, BUNDLE);
    t->events += BUNDLE;
    mr_buf_finish(&dead);
}

static void combine_bundle(struct mr_combine *combine, uint64_t seq, int64_t watermark_ms,
                           struct mr_parcel **parcels, struct totals *t) {
    const struct mr_combine_rule_stats *stats = mr_combine_stats(combine, 0);
    uint64_t partials = 0;
    uint64_t panes = 0;
    uint64_t begin = cpu_ns();
    for (uint32_t s = 0; s < SHARDS; s++) {
        partials += parcels[s]->count;
        enum mr_status status = mr_combine_merge(combine, parcels[s]);
        MR_ASSERT(status == MR_OK);
    }
    bench_add(&t->merge, cpu_ns() - begin, partials);
    t->partials += partials;
    if (mr_counter_read(&stats->groups) > t->groups_most) {
        t->groups_most = mr_counter_read(&stats->groups);
        t->bytes_most = mr_counter_read(&stats->bytes);
    }
    begin = cpu_ns();
    mr_combine_advance(combine, seq, &watermark_ms, 0);
    for (bool done = false; !done;) {
        struct mr_flush *flush = mr_flush_open(seq);
        MR_ASSERT(flush != NULL);
        enum mr_status status = mr_combine_fire(combine, 1024, flush, &done);
        MR_ASSERT(status == MR_OK);
        panes += flush->pane_count;
        t->hash ^= mr_checksum(mr_buf_bytes(&flush->panes)) * (2 * seq + 1);
        mr_flush_close(flush);
    }
    while (mr_combine_release(combine, seq, 16)) {
    }
    if (panes > 0) {
        bench_add(&t->fire, cpu_ns() - begin, panes);
    }
}

/* One event of each of the groups step apart, in no order, into the first window. */
static void touch_groups(struct mr_combine *combine, const struct mr_rule *rule, uint64_t seq,
                         uint64_t groups, uint32_t step) {
    const uint64_t far = 1000003; /* prime: every group comes once */
    for (uint64_t k = 0; k < groups;) {
        struct mr_parcel *parcel = mr_parcel_open(seq, 0);
        MR_ASSERT(parcel != NULL);
        for (uint32_t n = 0; n < BUNDLE && k < groups; n++, k += step) {
            char text[16];
            struct mr_buf key;
            uint64_t group = k * far % groups / step * step;
            int len = snprintf(text, sizeof text, "page%08u", (unsigned)group);
            mr_buf_init(&key, 64);
            mr_key_append(&key,
                          (struct mr_key_value){MR_KEY_STRING, mr_bytes_of(text, (size_t)len)});
            size_t used = sizeof(struct mr_partial) + rule->state_len + key.len;
            struct mr_partial p = {.key_hash = mr_hash64(mr_buf_bytes(&key), rule->key_seed),
                                   .window_start_ms = T0,
                                   .events = 1,
                                   .key_len = (uint32_t)key.len,
                                   .state_len = rule->state_len,
                                   .size = (uint32_t)((used + 7) & ~(size_t)7)};
            uint8_t *at = mr_buf_reserve(&parcel->bytes, p.size);
            MR_ASSERT(at != NULL);
            memset(at, 0, p.size);
            memcpy(at, &p, sizeof p);
            memcpy(at + sizeof p + rule->state_len, key.ptr, key.len);
            parcel->bytes.len += p.size;
            parcel->count++;
            mr_buf_finish(&key);
        }
        enum mr_status status = mr_combine_merge(combine, parcel);
        MR_ASSERT(status == MR_OK);
        mr_parcel_close(parcel);
    }
}

struct slice {
    struct slice *next;
    struct mr_buf bytes;
};

/* Returns the slices; *ret_ns: of saving alone. */
static struct slice *save_groups(struct mr_combine *combine, uint64_t *ret_ns) {
    struct slice *first = NULL;
    struct slice **last = &first;
    *ret_ns = 0;
    for (bool done = false; !done; last = &(*last)->next) {
        *last = mr_alloc_zero(1, sizeof **last);
        MR_ASSERT(*last != NULL);
        mr_buf_init(&(*last)->bytes, 1 << 30);
        uint64_t begin = cpu_ns();
        enum mr_status status = mr_combine_save(combine, SAVE_GROUPS, &(*last)->bytes, &done);
        MR_ASSERT(status == MR_OK);
        *ret_ns += cpu_ns() - begin;
    }
    return first;
}

static struct mr_combine *load_groups(const struct mr_rule *rule, struct slice *slices,
                                      uint64_t *ret_ns) {
    const struct mr_bytes stream_name = MR_BYTES("bench");
    const int64_t watermark_ms = T0;
    const uint32_t rule_map = 0;
    const struct mr_combine_load how = {1, &watermark_ms, &rule_map, 1, 1};
    struct mr_combine *combine = NULL;
    uint64_t dropped;
    enum mr_status status = mr_combine_open(rule, 1, 1, &stream_name, 0, &combine);
    MR_ASSERT(status == MR_OK);
    uint64_t begin = cpu_ns();
    status = mr_combine_load_begin(combine, &how, NULL);
    while (slices != NULL && status == MR_OK) {
        struct slice *slice = slices;
        slices = slice->next;
        status = mr_combine_load_slice(combine, mr_buf_bytes(&slice->bytes), true, &dropped, NULL);
        mr_buf_finish(&slice->bytes);
        mr_free(slice);
    }
    MR_ASSERT(status == MR_OK);
    status = mr_combine_load_end(combine, NULL);
    MR_ASSERT(status == MR_OK);
    *ret_ns = cpu_ns() - begin;
    return combine;
}

static void save_and_load(const struct mr_rule *rule, uint64_t groups) {
    const struct mr_bytes stream_name = MR_BYTES("bench");
    const int64_t watermark_ms = T0;
    struct mr_combine *combine = NULL;
    struct bench_runs saved = {.ns = NULL};
    struct bench_runs loaded = {.ns = NULL};
    uint64_t ns;
    enum mr_status status = mr_combine_open(rule, 1, 1, &stream_name, 0, &combine);
    MR_ASSERT(status == MR_OK && groups > 0);
    touch_groups(combine, rule, 1, groups, 1);
    struct mr_flush *flush = mr_flush_open(1);
    bool done = false;
    MR_ASSERT(flush != NULL);
    mr_combine_advance(combine, 1, &watermark_ms, 0);
    status = mr_combine_fire(combine, 1, flush, &done);
    MR_ASSERT(status == MR_OK && done && flush->pane_count == 0);
    mr_flush_close(flush);
    uint64_t hash = mr_combine_state_hash_scan(combine);
    mr_combine_save_begin(combine, 1);
    touch_groups(combine, rule, 2, groups, SAVE_CHANGED);
    struct slice *slices = save_groups(combine, &ns);
    bench_add(&saved, ns, groups);
    mr_combine_close(combine);
    combine = load_groups(rule, slices, &ns);
    bench_add(&loaded, ns, groups);
    MR_ASSERT(mr_combine_state_hash_scan(combine) == hash);
    char parameters[64];
    (void)snprintf(parameters, sizeof parameters, "save, %" PRIu64 " groups", groups);
    bench_line("aggregate", parameters, &saved, "group", "", hash);
    (void)snprintf(parameters, sizeof parameters, "load, %" PRIu64 " groups", groups);
    bench_line("aggregate", parameters, &loaded, "group", "", hash);
    mr_combine_close(combine);
}

static void print_totals(struct totals *t, uint32_t keys) {
    char parameters[64];
    char note[64];
    (void)snprintf(parameters, sizeof parameters, "lift, %u keys", keys);
    (void)snprintf(note, sizeof note, "%.3f partials/event",
                   (double)t->partials / (double)t->events);
    bench_line("aggregate", parameters, &t->lift, "event", note, t->hash);
    (void)snprintf(parameters, sizeof parameters, "merge, %u keys", keys);
    (void)snprintf(note, sizeof note, "%.1f bytes/group",
                   (double)t->bytes_most / (double)t->groups_most);
    bench_line("aggregate", parameters, &t->merge, "partial", note, t->hash);
    if (t->fire.count > 0) { /* with few events no window ends */
        (void)snprintf(parameters, sizeof parameters, "fire, %u keys", keys);
        bench_line("aggregate", parameters, &t->fire, "pane", "", t->hash);
    }
}

int main(int argc, char **argv) {
    uint64_t events = argc > 1 ? strtoull(argv[1], NULL, 10) : 200000;
    uint32_t keys = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 1000;
    uint64_t groups = argc > 3 ? strtoull(argv[3], NULL, 10) : 50000;
    struct mr_rule rule = bench_rule((struct mr_window){.size_ms = 10000});
    const struct mr_bytes stream_name = MR_BYTES("bench");
    struct source *s = open_source();
    struct mr_lift *lift = NULL;
    struct mr_combine *combine = NULL;
    struct totals t = {0};
    enum mr_status status = mr_lift_open(&rule, 1, &stream_name, 1, 0, SHARDS, &lift);
    MR_ASSERT(status == MR_OK);
    status = mr_combine_open(&rule, 1, 1, &stream_name, 0, &combine);
    MR_ASSERT(status == MR_OK && keys > 0);
    uint64_t random = 1;
    for (uint64_t seq = 1; t.events < events; seq++) {
        struct mr_parcel *parcels[SHARDS];
        int64_t watermark_ms = T0 + (int64_t)(seq * BUNDLE_MS); /* nothing is late */
        fill(s, seq, keys, &random);
        lift_bundle(lift, s, seq, watermark_ms - BUNDLE_MS, parcels, &t);
        combine_bundle(combine, seq, watermark_ms, parcels, &t);
        for (uint32_t p = 0; p < SHARDS; p++) {
            mr_parcel_close(parcels[p]);
        }
    }
    t.hash ^= mr_combine_state_hash_scan(combine);
    print_totals(&t, keys);
    mr_combine_close(combine);
    mr_lift_close(lift);
    mr_buf_finish(&s->batch.body);
    mr_free(s);
    save_and_load(&rule, groups);
    return 0;
}
