/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes the events that every peer gets, one a line, from a seed:
 *
 *     {"id":"<32 hex>","ts":<ms>,"key":"/page/17","country":"DE","value":12.345,"user":"u41"}
 *
 * Keys are zipfian (theta 0.99) over 1,000; event time goes on at 100,000 events a second from START_MS. A share of the
 * lines repeats an earlier line byte for byte: half of these one of the last 10,000, half any.
 *
 * usage: peers_events FILE EVENTS SEED START_MS REPEATS(0…0.9)
 * Prints {"events":N,"repeats":N,"bytes":N}.
 */
#include "bench/peers/wire.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEYS = 1000, LINE_MAX_BYTES = 192, NEAR = 10000, EVENTS_A_MS = 100 };

struct lines {
    char *ptr;
    size_t *starts;
};

static double zipf_shares[KEYS]; /* cumulative */

static uint64_t mix(uint64_t z) { /* SplitMix64's finalizer */
    z += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static uint64_t draw(uint64_t seed, uint64_t n, uint64_t what) {
    return mix(mix(seed + 1) ^ mix(n * 8 + what));
}

static double share(uint64_t random) {
    return (double)(random >> 11) / (double)(UINT64_C(1) << 53);
}

static void fill_zipf(void) {
    double sum = 0;
    for (int i = 0; i < KEYS; i++) {
        sum += 1 / pow(i + 1, 0.99);
        zipf_shares[i] = sum;
    }
    for (int i = 0; i < KEYS; i++) {
        zipf_shares[i] /= sum;
    }
}

static int zipf(uint64_t random) {
    double at = share(random);
    int low = 0;
    int high = KEYS - 1;
    while (low < high) {
        int middle = (low + high) / 2;
        if (zipf_shares[middle] < at) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static size_t write_event(char *to, uint64_t seed, uint64_t n, int64_t start_ms) {
    static const char *const countries[] = {"DE", "FR", "US", "GB", "IN", "BR", "JP", "PL"};
    uint64_t fields = draw(seed, n, 3);
    int len =
        snprintf(to, LINE_MAX_BYTES,
                 "{\"id\":\"%016" PRIx64 "%016" PRIx64 "\",\"ts\":%" PRId64
                 ",\"key\":\"/page/%d\",\"country\":\"%s\",\"value\":%.3f,\"user\":\"u%d\"}\n",
                 draw(seed, n, 0), draw(seed, n, 1), start_ms + (int64_t)(n / EVENTS_A_MS),
                 zipf(draw(seed, n, 2)), countries[fields % 8],
                 (double)(fields / 8 % 100000) / 1000, (int)(fields >> 40) % 1000);
    if (len < 0 || len >= LINE_MAX_BYTES) {
        peer_die("an event of %d bytes", len);
    }
    return (size_t)len;
}

/* Which earlier line line n is to be: n itself is no repeat. */
static uint64_t source_of(uint64_t seed, uint64_t n, double repeats) {
    if (n == 0 || share(draw(seed, n, 4)) >= repeats) {
        return n;
    }
    uint64_t pick = draw(seed, n, 5);
    uint64_t among = pick % 2 == 0 && n > NEAR ? NEAR : n;
    return n - 1 - (pick >> 1) % among;
}

static uint64_t fill(struct lines *lines, uint64_t events, uint64_t seed, int64_t start_ms,
                     double share_of_repeats) {
    uint64_t repeats = 0;
    size_t at = 0;
    for (uint64_t n = 0; n < events; n++) {
        uint64_t source = source_of(seed, n, share_of_repeats);
        lines->starts[n] = at;
        if (source == n) {
            at += write_event(lines->ptr + at, seed, n, start_ms);
        } else {
            size_t len = lines->starts[source + 1] - lines->starts[source];
            memcpy(lines->ptr + at, lines->ptr + lines->starts[source], len);
            at += len;
            repeats++;
        }
        lines->starts[n + 1] = at;
    }
    return repeats;
}

int main(int argc, char **argv) {
    if (argc != 6) {
        peer_die("usage: peers_events FILE EVENTS SEED START_MS REPEATS");
    }
    uint64_t events = strtoull(argv[2], NULL, 10);
    uint64_t seed = strtoull(argv[3], NULL, 10);
    int64_t start_ms = strtoll(argv[4], NULL, 10);
    double share_of_repeats = strtod(argv[5], NULL);
    if (events == 0 || events > 100000000 || !(share_of_repeats >= 0 && share_of_repeats <= 0.9)) {
        peer_die("events 1 to 100 million, repeats 0 to 0.9");
    }
    struct lines lines = {.ptr = malloc(events * LINE_MAX_BYTES),
                          .starts = malloc((events + 1) * sizeof(size_t))};
    if (lines.ptr == NULL || lines.starts == NULL) {
        peer_die("no memory");
    }
    fill_zipf();
    uint64_t repeats = fill(&lines, events, seed, start_ms, share_of_repeats);
    size_t bytes = lines.starts[events];
    FILE *file = fopen(argv[1], "wb");
    if (file == NULL || fwrite(lines.ptr, 1, bytes, file) != bytes || fclose(file) != 0) {
        peer_die("%s: cannot write", argv[1]);
    }
    (void)printf("{\"events\":%" PRIu64 ",\"repeats\":%" PRIu64 ",\"bytes\":%zu}\n", events,
                 repeats, bytes);
    free(lines.ptr);
    free(lines.starts);
    return 0;
}
