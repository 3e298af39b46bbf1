/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Measures sliding windows in combine: bench_slices [windows] [keys] [one in] [whole].
 *
 * One rule, count and sum in windows of `windows` slices of 10 s, one each 10 s: an event is in `windows` of them. Each
 * bundle is one slice, in which each of `keys` keys has a partial of ten events, or one in so many of them; after it one
 * window closes. The first `windows` bundles fill the windows, as many again are measured: nanoseconds of this thread's
 * CPU a partial (merge) and a pane (fire: the window put together, said, and released). `whole`: each window holds its
 * values, as it does of rules with up to 1,000 windows an event.
 */
#include "aggregate/combine.h"
#include "aggregate/lift.h"
#include "base/key.h"
#include "bench/measure.h"
#include "bench/rule.h"

enum { SLICE_MS = 10000, EVENTS = 10 };

#define T0 INT64_C(1700000000000)

static struct mr_rule make_rule(int64_t windows, bool sliced) {
    return bench_rule((struct mr_window){.kind = MR_WINDOW_SLIDING,
                                         .size_ms = windows * SLICE_MS,
                                         .every_ms = SLICE_MS,
                                         .slice_ms = SLICE_MS,
                                         .sliced = sliced});
}

/* State: zeros but for the count of events; what merging costs does not depend on it. */
static void append(struct mr_parcel *parcel, const struct mr_rule *rule, int64_t slice_ms, uint32_t key) {
    uint8_t bytes[32];
    char text[16];
    struct mr_buf encoded;
    mr_buf_init(&encoded, sizeof bytes);
    int len = snprintf(text, sizeof text, "page%06u", key);
    mr_key_append(&encoded, (struct mr_key_value){MR_KEY_STRING, mr_bytes_of(text, (size_t)len)});
    size_t used = sizeof(struct mr_partial) + rule->state_len + encoded.len;
    struct mr_partial p = {.key_hash = mr_hash64(mr_buf_bytes(&encoded), rule->key_seed),
                           .window_start_ms = slice_ms,
                           .events = EVENTS,
                           .key_len = (uint32_t)encoded.len,
                           .state_len = rule->state_len,
                           .size = (uint32_t)((used + 7) & ~(size_t)7)};
    uint8_t *at = mr_buf_reserve(&parcel->bytes, p.size);
    MR_ASSERT(at != NULL);
    memset(at, 0, p.size);
    memcpy(at, &p, sizeof p);
    memcpy(at + sizeof p, &(uint64_t){EVENTS}, sizeof(uint64_t)); /* count is the first metric */
    memcpy(at + sizeof p + rule->state_len, encoded.ptr, encoded.len);
    parcel->bytes.len += p.size;
    parcel->count++;
    mr_buf_finish(&encoded);
}

struct totals {
    struct bench_runs merge;
    struct bench_runs fire;
    uint64_t hash;
};

static void run_bundle(struct mr_combine *combine, uint64_t seq, struct mr_parcel *parcel, int64_t watermark_ms,
                       struct totals *t) {
    uint64_t begin = bench_clock_ns(CLOCK_THREAD_CPUTIME_ID);
    enum mr_status status = mr_combine_merge(combine, parcel);
    MR_ASSERT(status == MR_OK);
    uint64_t merged = bench_clock_ns(CLOCK_THREAD_CPUTIME_ID);
    uint64_t panes = 0;
    mr_combine_advance(combine, seq, &watermark_ms, 0);
    for (bool done = false; !done;) {
        struct mr_flush *flush = mr_flush_open(seq);
        MR_ASSERT(flush != NULL);
        status = mr_combine_fire(combine, 1024, flush, &done);
        MR_ASSERT(status == MR_OK);
        panes += flush->pane_count;
        t->hash ^= mr_checksum(mr_buf_bytes(&flush->panes)) * (2 * seq + 1);
        mr_flush_close(flush);
    }
    while (mr_combine_release(combine, seq, 16)) {
    }
    if (parcel->count > 0) {
        bench_add(&t->merge, merged - begin, parcel->count);
    }
    if (panes > 0) {
        bench_add(&t->fire, bench_clock_ns(CLOCK_THREAD_CPUTIME_ID) - merged, panes);
    }
}

int main(int argc, char **argv) {
    uint64_t windows = argc > 1 ? strtoull(argv[1], NULL, 10) : 8640;
    uint32_t keys = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 100;
    uint32_t one_in = argc > 3 ? (uint32_t)strtoul(argv[3], NULL, 10) : 1;
    bool whole = argc > 4;
    const struct mr_rule rule = make_rule((int64_t)windows, !whole);
    const struct mr_bytes stream_name = MR_BYTES("bench");
    struct mr_combine *combine = NULL;
    struct totals t = {.hash = 0};
    uint64_t random = 1;
    enum mr_status status = mr_combine_open(&rule, 1, 1, &stream_name, 0, &combine);
    MR_ASSERT(status == MR_OK && windows > 0 && keys > 0 && one_in > 0);
    for (uint64_t seq = 1; seq <= 2 * windows; seq++) {
        struct mr_parcel *parcel = mr_parcel_open(seq, 0);
        MR_ASSERT(parcel != NULL);
        int64_t slice_ms = T0 + (int64_t)seq * SLICE_MS;
        for (uint32_t key = 0; key < keys; key++) {
            if (bench_random(&random) % one_in == 0) {
                append(parcel, &rule, slice_ms, key);
            }
        }
        if (seq == windows + 1) {
            bench_finish(&t.merge);
            bench_finish(&t.fire);
        }
        run_bundle(combine, seq, parcel, slice_ms + SLICE_MS, &t);
        mr_parcel_close(parcel);
    }
    char parameters[64];
    char note[64];
    const char *how = whole ? " whole" : "";
    uint64_t bytes = mr_counter_read(&mr_combine_stats(combine, 0)->bytes);
    (void)snprintf(note, sizeof note, "%.1f bytes/partial of a window",
                   (double)bytes * one_in / (double)(windows * keys));
    (void)snprintf(parameters, sizeof parameters, "merge, %" PRIu64 "%s windows", windows, how);
    bench_line("slices", parameters, &t.merge, "partial", note, t.hash);
    (void)snprintf(parameters, sizeof parameters, "fire, %u keys, 1 in %u", keys, one_in);
    bench_line("slices", parameters, &t.fire, "pane", "", t.hash);
    mr_combine_close(combine);
    return 0;
}
