/* SPDX-License-Identifier: Apache-2.0 */
#include "event/batch.h"

#include "base/alloc.h"
#include "base/check.h"
#include "event/columns.h"
#include "event/text.h"
#include "event/tree.h"

enum { BATCH_MAGIC = 0x6d724261 };

static const char *const reject_codes[MR_REJECT_COUNT] = {[MR_REJECT_NONE] = "none",
#define X(name, code) [MR_REJECT_##name] = code,
                                                          MR_REJECT_TABLE(X)
#undef X
};

const char *mr_reject_code(enum mr_reject reject) {
    MR_ASSERT((unsigned)reject < MR_REJECT_COUNT);
    return reject_codes[reject];
}

/* Bytes per event, has_id included where the schema may need it. */
static size_t row_bytes(const struct mr_schema *schema, bool with_has_id) {
    size_t fixed = sizeof(struct mr_fingerprint) + sizeof(int64_t) + sizeof(struct mr_span) +
                   sizeof(uint32_t) + 1;
    return fixed + (with_has_id ? 1 : 0) +
           schema->columns * (sizeof(union mr_value) + 1);
}

/* The next array of the block: count elements of size bytes; moves what *old held. */
static void *take(uint8_t **at, size_t size, uint32_t capacity, const void *old, uint32_t count) {
    uint8_t *array = *at;
    *at += size * capacity;
    if (count > 0) {
        memcpy(array, old, size * count);
    }
    return array;
}

bool mr_batch_grow(struct mr_batch *batch, uint32_t count, uint32_t capacity) {
    MR_ASSERT(capacity > batch->capacity && count <= batch->capacity);
    const struct mr_schema *schema = batch->schema;
    bool with_has_id =
        schema->options.missing_id == MR_MISSING_ACCEPT || schema->options.id_parts == 0;
    size_t bytes = row_bytes(schema, with_has_id) * capacity;
    /* What every event writes is not cleared, nor order. Not mr_alloc_zero: jemalloc makes zeros of large
     * blocks by giving their pages back, and the page faults that follow cost as much as half of decoding. */
    uint8_t *block = mr_alloc(bytes);
    if (block == NULL) {
        return false;
    }
    void *old = batch->fps;
    uint8_t *at = block; /* widest elements first: each array is aligned by what is before it */
    batch->fps = take(&at, sizeof *batch->fps, capacity, batch->fps, count);
    batch->times_ms = take(&at, sizeof *batch->times_ms, capacity, batch->times_ms, count);
    batch->spans = take(&at, sizeof *batch->spans, capacity, batch->spans, count);
    memset(at, 0, batch->columns * sizeof(union mr_value) * capacity);
    for (uint32_t i = 0; i < batch->columns; i++) {
        struct mr_column *column = &batch->column[i];
        column->values = take(&at, sizeof *column->values, capacity, column->values, count);
    }
    batch->order = take(&at, sizeof *batch->order, capacity, batch->order, count);
    memset(at, 0, (size_t)(block + bytes - at));
    batch->verdicts = take(&at, 1, capacity, batch->verdicts, count);
    for (uint32_t i = 0; i < batch->columns; i++) {
        batch->column[i].kinds = take(&at, 1, capacity, batch->column[i].kinds, count);
    }
    if (with_has_id) {
        batch->has_id = take(&at, sizeof(bool), capacity, batch->has_id, count);
    }
    MR_ASSERT(at == block + bytes);
    mr_free(old);
    batch->capacity = capacity;
    batch->block_bytes = bytes;
    return true;
}

struct mr_batch *mr_batch_open(const struct mr_schema *schema, uint32_t capacity) {
    MR_ASSERT(capacity >= 1);
    uint32_t columns = schema->columns;
    size_t bytes = sizeof(struct mr_batch) + columns * sizeof(struct mr_column) +
                   (schema->options.shards + 1) * sizeof(uint32_t);
    struct mr_batch *batch = mr_alloc_aligned(_Alignof(struct mr_batch), bytes);
    if (batch == NULL) {
        return NULL;
    }
    memset(batch, 0, bytes);
    batch->magic = BATCH_MAGIC;
    batch->schema = schema;
    batch->time_max_ms = INT64_MIN;
    batch->columns = columns;
    batch->column = (struct mr_column *)(batch + 1);
    batch->shard_start = (uint32_t *)(batch->column + columns);
    if (!mr_batch_grow(batch, 0, capacity)) {
        mr_free(batch);
        return NULL;
    }
    return batch;
}

void mr_batch_close(struct mr_batch *batch) {
    if (batch == NULL) {
        return;
    }
    MR_ASSERT(batch->magic == BATCH_MAGIC);
    batch->magic = 0;
    mr_buf_finish(&batch->body);
    mr_buf_finish(&batch->unescaped);
    mr_free(batch->errors);
    mr_free(batch->taken);
    mr_free(batch->fps); /* the block begins with them */
    mr_free(batch);
}

void mr_batch_clear_row(struct mr_batch *batch, uint32_t i) {
    MR_ASSERT(i < batch->capacity);
    batch->fps[i] = (struct mr_fingerprint){0, 0};
    batch->times_ms[i] = 0;
    for (uint32_t c = 0; c < batch->columns; c++) {
        batch->column[c].values[i] = (union mr_value){.i = 0};
        batch->column[c].kinds[i] = MR_VALUE_MISSING;
    }
    if (batch->has_id != NULL) {
        batch->has_id[i] = false;
    }
}

bool mr_batch_errors(struct mr_batch *batch) {
    if (batch->errors == NULL) {
        batch->errors = mr_alloc(MR_ERRORS_MAX * sizeof *batch->errors);
    }
    return batch->errors != NULL;
}

static void order_one_shard(struct mr_batch *batch) {
    uint32_t *order = batch->order;
    uint32_t count = batch->count;
    uint32_t n = batch->rejected == 0 ? count : 0;
    for (uint32_t i = 0; i < n; i++) {
        order[i] = i;
    }
    for (uint32_t i = n; i < count; i++) {
        order[n] = i; /* overwritten by the next one if i was rejected */
        n += batch->verdicts[i] != MR_VERDICT_REJECTED;
    }
    batch->shard_start[0] = 0;
    batch->shard_start[1] = n;
}

/* From each shard's count in next makes where its first event goes, there and in shard_start. */
static void start_shards(struct mr_batch *batch, uint32_t shards, uint32_t *next) {
    uint32_t sum = 0;
    for (uint32_t s = 0; s < shards; s++) {
        uint32_t count = next[s];
        batch->shard_start[s] = sum;
        next[s] = sum;
        sum += count;
    }
    batch->shard_start[shards] = sum;
}

/* Counting sort: next first holds the counts, then where each shard's next event goes. */
static void order_shards(struct mr_batch *batch, uint32_t shards) {
    uint32_t next[MR_SHARDS_MAX] = {0};
    for (uint32_t i = 0; i < batch->count; i++) {
        next[mr_fingerprint_shard(batch->fps[i], shards)] +=
            batch->verdicts[i] != MR_VERDICT_REJECTED;
    }
    start_shards(batch, shards, next);
    for (uint32_t i = 0; i < batch->count; i++) {
        if (batch->verdicts[i] != MR_VERDICT_REJECTED) {
            batch->order[next[mr_fingerprint_shard(batch->fps[i], shards)]++] = i;
        }
    }
}

/* Of order_few_shards: two bits an event, and places of 16 bits. */
enum { FEW_SHARDS_MAX = 4, FEW_EVENTS_MAX = 16384, WORD_EVENTS = 32, PLACE_BITS = 16 };

/* The shards of events [first, stop), two bits each, the first one's lowest. */
static uint64_t shards_word(const struct mr_fingerprint *fps, uint32_t first, uint32_t stop,
                            uint32_t shards) {
    uint64_t word = 0;
    for (uint32_t i = stop; i > first; i--) {
        word = word * 4 + mr_fingerprint_shard(fps[i - 1], shards);
    }
    return word;
}

/* Writes events [first, stop) where places says, 16 bits for each shard's next; the places after them. */
static uint64_t place_word(uint32_t *order, uint64_t places, uint64_t word, uint32_t first,
                           uint32_t stop) {
    for (uint32_t i = first; i < stop; i++) {
        uint32_t shift = (uint32_t)(word & 3) * PLACE_BITS;
        order[(uint16_t)(places >> shift)] = i;
        places += UINT64_C(1) << shift;
        word >>= 2;
    }
    return places;
}

/* The same for few shards and no rejected event, three times as fast: a count in memory waits for the store of the event
 * before it with the same shard, and a fingerprint that is read behind a store waits until its place is known. */
static void order_few_shards(struct mr_batch *batch, uint32_t shards) {
    const uint64_t lows = UINT64_C(0x5555555555555555);
    uint64_t words[FEW_EVENTS_MAX / WORD_EVENTS];
    uint32_t next[FEW_SHARDS_MAX] = {0};
    uint32_t count = batch->count;
    for (uint32_t i = 0; i < count; i += WORD_EVENTS) {
        uint32_t stop = count - i < WORD_EVENTS ? count : i + WORD_EVENTS;
        uint64_t word = shards_word(batch->fps, i, stop, shards);
        uint64_t low = word & lows;
        uint64_t high = word >> 1 & lows;
        uint32_t both = (uint32_t)__builtin_popcountll(low & high);
        uint32_t odd = (uint32_t)__builtin_popcountll(low);
        uint32_t upper = (uint32_t)__builtin_popcountll(high);
        next[0] += stop - i - (odd + upper - both);
        next[1] += odd - both;
        next[2] += upper - both;
        next[3] += both;
        words[i / WORD_EVENTS] = word;
    }
    start_shards(batch, shards, next);
    uint64_t places = 0;
    for (uint32_t s = 0; s < shards; s++) {
        places |= (uint64_t)next[s] << s * PLACE_BITS;
    }
    for (uint32_t i = 0; i < count; i += WORD_EVENTS) {
        uint32_t stop = count - i < WORD_EVENTS ? count : i + WORD_EVENTS;
        places = place_word(batch->order, places, words[i / WORD_EVENTS], i, stop);
    }
}

void mr_batch_partition(struct mr_batch *batch, uint32_t shards) {
    MR_ASSERT(shards >= 1 && shards <= MR_SHARDS_MAX);
    if (shards == 1) {
        order_one_shard(batch);
    } else if (shards <= FEW_SHARDS_MAX && batch->count <= FEW_EVENTS_MAX && batch->rejected == 0) {
        order_few_shards(batch, shards);
    } else {
        order_shards(batch, shards);
    }
    batch->order_count = batch->shard_start[shards];
    MR_ASSERT(batch->order_count + batch->rejected == batch->count);
}

size_t mr_batch_bytes(const struct mr_batch *batch) {
    size_t errors = batch->errors == NULL ? 0 : MR_ERRORS_MAX * sizeof *batch->errors;
    size_t head = sizeof *batch + batch->columns * sizeof *batch->column +
                  (batch->schema->options.shards + 1) * sizeof *batch->shard_start;
    return head + batch->block_bytes + batch->body.cap + batch->unescaped.cap + errors;
}

static void check_value(const struct mr_batch *batch, union mr_value value, uint8_t kind) {
    MR_ASSERT(kind <= MR_VALUE_OTHER);
    if (kind == MR_VALUE_STRING || kind == MR_VALUE_DIGITS) {
        bool unescaped = (value.text.off & MR_TEXT_UNESCAPED) != 0;
        uint64_t end = (uint64_t)(value.text.off & ~MR_TEXT_UNESCAPED) + value.text.len;
        MR_ASSERT(end <= (unescaped ? batch->unescaped.len : batch->body.len));
    }
}

static void check_row(const struct mr_batch *batch, uint32_t i, uint32_t *after) {
    struct mr_span span = batch->spans[i];
    uint8_t verdict = batch->verdicts[i];
    MR_ASSERT(span.off >= *after && (uint64_t)span.off + span.len <= batch->body.len); /* I3 */
    *after = span.off + span.len;
    MR_ASSERT(verdict == MR_VERDICT_NONE || verdict == MR_VERDICT_ACCEPTED ||
              verdict == MR_VERDICT_DUPLICATE || verdict == MR_VERDICT_LATE ||
              verdict == MR_VERDICT_REJECTED);
    for (uint32_t c = 0; c < batch->columns; c++) {
        check_value(batch, batch->column[c].values[i], batch->column[c].kinds[i]);
        MR_ASSERT(verdict != MR_VERDICT_REJECTED || batch->column[c].kinds[i] == MR_VALUE_MISSING);
    }
}

/* I1, and that each event stands with its shard, in request order. */
static void check_order(const struct mr_batch *batch, uint32_t shards) {
    MR_ASSERT(batch->order_count + batch->rejected == batch->count);
    MR_ASSERT(batch->shard_start[0] == 0 && batch->shard_start[shards] == batch->order_count);
    for (uint32_t s = 0; s < shards; s++) {
        MR_ASSERT(batch->shard_start[s] <= batch->shard_start[s + 1]);
        for (uint32_t k = batch->shard_start[s]; k < batch->shard_start[s + 1]; k++) {
            uint32_t i = batch->order[k];
            MR_ASSERT(i < batch->count && batch->verdicts[i] != MR_VERDICT_REJECTED);
            MR_ASSERT(mr_fingerprint_shard(batch->fps[i], shards) == s);
            MR_ASSERT(k == batch->shard_start[s] || batch->order[k - 1] < i);
        }
    }
}

void mr_batch_check(const struct mr_batch *batch, uint32_t shards) {
    MR_ASSERT(batch->magic == BATCH_MAGIC && batch->count <= batch->capacity);
    MR_ASSERT(batch->count == 0 || batch->body.cap >= batch->body.len + MR_PADDING);
    mr_buf_check(&batch->body);
    mr_buf_check(&batch->unescaped);
    uint32_t rejected = 0;
    uint32_t after = 0;
    for (uint32_t i = 0; i < batch->count; i++) {
        check_row(batch, i, &after);
        rejected += batch->verdicts[i] == MR_VERDICT_REJECTED;
    }
    MR_ASSERT(rejected == batch->rejected); /* I2 */
    check_order(batch, shards);
    MR_ASSERT(batch->error_count <= MR_ERRORS_MAX);
    MR_ASSERT(batch->errors_truncated == (batch->error_count < batch->rejected));
    for (uint32_t i = 0; i < batch->error_count; i++) {
        const struct mr_event_error *e = &batch->errors[i];
        MR_ASSERT(e->index < batch->count && e->line >= 1);
        MR_ASSERT(batch->verdicts[e->index] == MR_VERDICT_REJECTED);
        MR_ASSERT(mr_utf8_valid(mr_bytes_text(e->pointer)));
        MR_ASSERT(mr_utf8_valid(mr_bytes_text(e->detail)));
    }
}
