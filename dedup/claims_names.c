/* SPDX-License-Identifier: Apache-2.0 */
/* What all nodes name alike: places, canaries, the shape of the store. */
#include "dedup/claims_parts.h"

#include "base/alloc.h"

#include <inttypes.h>

void mr_claims_tag(struct mr_buf *ret, struct mr_bytes cluster, struct mr_bytes stream,
                   uint32_t bucket) {
    mr_buf_append_bytes(ret, cluster);
    mr_buf_append_char(ret, '/');
    mr_buf_append_bytes(ret, stream);
    mr_buf_printf(ret, "/%" PRIu32, bucket);
}

/* What every node must have alike, whatever the order of its configuration. */
static void put_shape(struct mr_buf *ret, const struct mr_claims_options *o) {
    mr_buf_append_text(ret, "claims 1");
    struct mr_bytes last = {NULL, 0};
    for (uint32_t i = 0; i < o->stream_count; i++) {
        const struct mr_claims_stream *next = NULL;
        for (uint32_t s = 0; s < o->stream_count; s++) {
            const struct mr_claims_stream *stream = &o->streams[s];
            bool behind = i == 0 || mr_bytes_compare(stream->name, last) > 0;
            if (behind && (next == NULL || mr_bytes_compare(stream->name, next->name) < 0)) {
                next = stream;
            }
        }
        MR_ASSERT(next != NULL); /* names are unique */
        last = next->name;
        mr_buf_append_text(ret, "; ");
        mr_buf_append_bytes(ret, last);
        if (next->layout == MR_CLAIM_KEY) {
            mr_buf_append_text(ret, ": key");
        } else {
            mr_buf_printf(ret, ": %d buckets", MR_CLAIM_BUCKETS);
        }
        mr_buf_printf(ret, ", %" PRId64 " ms", next->horizon_ms);
    }
}

/* ---- canaries of slots ---- */

/* In the key layout ids go to every slot, and what a server of a single slot says must be guarded, too. So each slot has a
 * canary: of "<cluster>//0", "<cluster>//1" … the first that hashes there. About 170,000 are tried. */
static enum mr_status find_slots(struct mr_claims *c, struct mr_bytes cluster) {
    uint32_t *numbers = mr_alloc(MR_REDIS_SLOTS * sizeof *numbers);
    struct mr_buf tag;
    mr_buf_init(&tag, MR_CLAIMS_KEY_MAX);
    if (numbers != NULL) {
        memset(numbers, 0xff, MR_REDIS_SLOTS * sizeof *numbers);
        uint32_t left = MR_REDIS_SLOTS;
        for (uint32_t n = 0; left > 0 && !tag.failed; n++) {
            mr_buf_clear(&tag);
            mr_claims_tag(&tag, cluster, MR_BYTES(""), n);
            uint32_t slot = tag.failed ? 0 : mr_redis_slot(mr_buf_bytes(&tag));
            left -= numbers[slot] == UINT32_MAX;
            numbers[slot] = numbers[slot] == UINT32_MAX ? n : numbers[slot];
        }
    }
    bool failed = tag.failed || numbers == NULL;
    mr_buf_finish(&tag);
    c->slot_numbers = numbers;
    return failed ? MR_NO_MEMORY : MR_OK;
}

static bool needs_slots(const struct mr_claims *c) {
    bool has_keys = false;
    for (uint32_t s = 0; s < c->stream_count; s++) {
        has_keys |= c->streams[s].layout == MR_CLAIM_KEY;
    }
    return has_keys && c->cluster_mode;
}

void mr_claims_put_tag(const struct mr_claims *c, uint32_t tag, struct mr_buf *ret) {
    const char *prefix = c->streams[0].prefix;
    if (tag < c->place_count) {
        mr_buf_append_text(ret, c->streams[tag / MR_CLAIM_BUCKETS].prefix);
        mr_buf_printf(ret, "%" PRIu32, tag % MR_CLAIM_BUCKETS);
    } else {
        mr_claims_tag(ret, mr_bytes_of(prefix, c->cluster_len), MR_BYTES(""),
                      c->slot_numbers[tag - c->place_count]);
    }
}

enum mr_status mr_claims_name(struct mr_claims *c, const struct mr_claims_options *o,
                              struct mr_buf *text, struct mr_bytes *ret_shape,
                              struct mr_bytes **ret_tags, uint32_t *ret_count) {
    enum mr_status status = needs_slots(c) ? find_slots(c, o->cluster) : MR_OK;
    if (status != MR_OK) {
        return status;
    }
    uint32_t count = c->place_count + (c->slot_numbers == NULL ? 0 : MR_REDIS_SLOTS);
    struct mr_bytes *tags = mr_alloc_zero(count, sizeof *tags);
    put_shape(text, o);
    size_t shape_len = text->len;
    for (uint32_t t = 0; tags != NULL && t < count; t++) {
        size_t before = text->len;
        mr_claims_put_tag(c, t, text);
        tags[t].len = text->len - before;
    }
    if (tags == NULL || text->failed) {
        mr_free(tags);
        return MR_NO_MEMORY;
    }
    const uint8_t *at = text->ptr + shape_len;
    for (uint32_t t = 0; t < count; t++) {
        tags[t].ptr = at;
        at += tags[t].len;
    }
    for (uint32_t p = 0; p < c->place_count; p++) {
        c->places[p].slot = (uint16_t)mr_redis_slot(tags[p]);
    }
    *ret_shape = mr_bytes_of(text->ptr, shape_len);
    *ret_tags = tags;
    *ret_count = count;
    return MR_OK;
}
