/* SPDX-License-Identifier: Apache-2.0 */
#include "aggregate/hot.h"

#include "aggregate/combine.h"
#include "base/alloc.h"

enum { TAGS_AT_ONCE = 16, KEY_FIRST = 32 };

static_assert(MR_HOT_KEYS % TAGS_AT_ONCE == 0, "the tags are compared in whole runs");

enum mr_status mr_hot_init(struct mr_hot *hot) {
    *hot = (struct mr_hot){.step = 1, .random = 1, .began_ms = INT64_MIN, .period_ms = INT64_MIN};
    hot->tags = mr_alloc_zero(MR_HOT_KEYS, sizeof *hot->tags);
    hot->counters = mr_alloc_zero(MR_HOT_KEYS, sizeof *hot->counters);
    return hot->tags == NULL || hot->counters == NULL ? MR_NO_MEMORY : MR_OK;
}

void mr_hot_finish(struct mr_hot *hot) {
    for (uint32_t i = 0; hot->counters != NULL && i < MR_HOT_KEYS; i++) {
        mr_free(hot->counters[i].key);
    }
    mr_free(hot->counters);
    mr_free(hot->tags);
    *hot = (struct mr_hot){0};
}

/* The upper bits of a linear congruential generator (Knuth's MMIX): places need to be uneven, not secret. */
static int64_t draw(struct mr_hot *hot) {
    hot->random = hot->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (int64_t)(hot->random >> 32 & (hot->step - 1));
}

/* MR_HOT_KEYS: it has none. A loop without a way out compares a whole run of tags in a few instructions. */
static uint32_t find(const struct mr_hot *hot, uint64_t hash) {
    uint32_t tag = (uint32_t)hash;
    for (uint32_t from = 0; from < MR_HOT_KEYS; from += TAGS_AT_ONCE) {
        const uint32_t *tags = &hot->tags[from];
        uint32_t any = 0;
        for (uint32_t i = 0; i < TAGS_AT_ONCE; i++) {
            any |= tags[i] == tag;
        }
        for (uint32_t i = from; any != 0 && i < from + TAGS_AT_ONCE && i < hot->used; i++) {
            if (hot->counters[i].hash == hash) {
                return i;
            }
        }
    }
    return MR_HOT_KEYS;
}

/* A counter with the least count. The least only grows until the next halving, so the hand rarely goes all the way. */
static uint32_t find_least(struct mr_hot *hot) {
    uint64_t least = UINT64_MAX;
    uint32_t place = hot->hand;
    for (uint32_t n = 0; n < MR_HOT_KEYS; n++) {
        uint32_t i = (hot->hand + n) % MR_HOT_KEYS;
        if (hot->counters[i].count < least) {
            least = hot->counters[i].count;
            place = i;
        }
        if (least == hot->least) {
            break;
        }
    }
    MR_ASSERT(least >= hot->least);
    hot->least = least;
    hot->hand = place;
    return place;
}

static bool keep_key(struct mr_hot_counter *counter, struct mr_bytes key) {
    MR_ASSERT(key.len <= MR_KEY_LEN_MAX);
    if (key.len > counter->key_cap) {
        uint32_t cap = key.len < KEY_FIRST ? KEY_FIRST : (uint32_t)key.len;
        uint8_t *bytes = mr_realloc(counter->key, cap);
        if (bytes == NULL) {
            return false;
        }
        counter->key = bytes;
        counter->key_cap = cap;
    }
    if (key.len > 0) {
        memcpy(counter->key, key.ptr, key.len);
    }
    counter->key_len = (uint32_t)key.len;
    return true;
}

static void count(struct mr_hot *hot, uint64_t hash, struct mr_bytes key, uint64_t weight) {
    uint32_t i = find(hot, hash);
    if (i == MR_HOT_KEYS) {
        bool fresh = hot->used < MR_HOT_KEYS;
        i = fresh ? hot->used : find_least(hot);
        struct mr_hot_counter *counter = &hot->counters[i];
        if (!keep_key(counter, key)) {
            return;
        }
        counter->hash = hash;
        counter->error = fresh ? 0 : counter->count;
        counter->count = counter->error;
        hot->tags[i] = (uint32_t)hash;
        hot->used += fresh;
        hot->least = fresh ? 0 : hot->least;
    }
    hot->counters[i].count += weight;
    hot->heaviest = hot->counters[i].count > hot->heaviest ? hot->counters[i].count : hot->heaviest;
}

void mr_hot_sample(struct mr_hot *hot, uint64_t hash, struct mr_bytes key) {
    int64_t step = (int64_t)hot->step;
    MR_ASSERT(hot->at > hot->next && hot->next >= 0 && hot->next < step);
    uint64_t weight = 0;
    while (hot->at > hot->next) {
        weight += hot->step;
        hot->at -= step;
        if (hot->at >= step) { /* whole steps lie in this key's events, wherever their places are */
            int64_t whole = hot->at & ~(step - 1);
            weight += (uint64_t)whole;
            hot->at -= whole;
        }
        hot->next = draw(hot);
    }
    hot->total += weight;
    count(hot, hash, key, weight);
    while (hot->total >= hot->step * MR_HOT_SAMPLES) {
        hot->step *= 2;
    }
}

static void halve(struct mr_hot *hot, uint32_t times) {
    uint32_t kept = 0;
    hot->total >>= times;
    hot->heaviest >>= times;
    hot->least = 0;
    hot->hand = 0;
    for (uint32_t i = 0; i < hot->used; i++) {
        struct mr_hot_counter counter = hot->counters[i];
        counter.count >>= times;
        counter.error >>= times;
        hot->counters[i] = hot->counters[kept];
        hot->counters[kept] = counter; /* a swap: each key's memory stays somewhere */
        hot->tags[kept] = (uint32_t)counter.hash;
        kept += counter.count > 0;
    }
    hot->used = kept;
    while (hot->step > 1 && hot->total < hot->step * (MR_HOT_SAMPLES / 2)) {
        hot->step /= 2;
        hot->at = 0;
        hot->next = draw(hot);
    }
}

void mr_hot_advance(struct mr_hot *hot, int64_t recorded_ms) {
    if (hot->began_ms == INT64_MIN) {
        hot->began_ms = recorded_ms;
        hot->period_ms = recorded_ms;
    }
    int64_t periods = (recorded_ms - hot->period_ms) / MR_HOT_PERIOD_MS;
    if (periods > 0) {
        halve(hot, periods < 63 ? (uint32_t)periods : 63);
        hot->period_ms += periods * MR_HOT_PERIOD_MS;
    }
}

int64_t mr_hot_since_ms(const struct mr_hot *hot) {
    if (hot->began_ms == INT64_MIN) {
        return INT64_MIN;
    }
    int64_t since_ms = hot->period_ms - MR_HOT_PERIOD_MS;
    return since_ms > hot->began_ms ? since_ms : hot->began_ms;
}

void mr_hot_append(const struct mr_hot *hot, struct mr_buf *rows) {
    mr_row_append(rows, &(struct mr_row){.window_start_ms = mr_hot_since_ms(hot), .events = hot->total});
    for (uint32_t i = 0; i < hot->used; i++) {
        const struct mr_hot_counter *c = &hot->counters[i];
        mr_row_append(rows, &(struct mr_row){
                                .events = c->count,
                                .revision = c->error,
                                .key = mr_bytes_of(c->key, c->key_len),
                            });
    }
}

void mr_hot_check(const struct mr_hot *hot) {
    uint64_t sum = 0;
    uint64_t heaviest = 0;
    MR_ASSERT(hot->used <= MR_HOT_KEYS && hot->hand < MR_HOT_KEYS);
    MR_ASSERT(hot->step >= 1 && (hot->step & (hot->step - 1)) == 0);
    MR_ASSERT(hot->next >= 0 && hot->at <= hot->next && hot->at > -(int64_t)hot->step);
    for (uint32_t i = 0; i < hot->used; i++) {
        const struct mr_hot_counter *c = &hot->counters[i];
        MR_ASSERT(c->count > 0 && c->count >= c->error && c->key_len <= c->key_cap); /* I2 */
        MR_ASSERT(hot->tags[i] == (uint32_t)c->hash && find(hot, c->hash) == i); /* I3 */
        MR_ASSERT(hot->used < MR_HOT_KEYS || c->count >= hot->least);
        sum += c->count;
        heaviest = c->count > heaviest ? c->count : heaviest;
    }
    MR_ASSERT(sum <= hot->total && heaviest == hot->heaviest); /* I1 */
}
