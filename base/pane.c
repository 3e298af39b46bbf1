/* SPDX-License-Identifier: Apache-2.0 */
#include "base/pane.h"

#include "base/alloc.h"
#include "base/check.h"

/* A pane as it lies in a parcel, followed by state and key, padded to 8. */
struct packed {
    uint32_t rule;
    uint8_t timing;
    uint8_t final;
    uint8_t retraction;
    uint8_t zero;
    uint32_t index;
    uint32_t state_len;
    int64_t window_start_ms;
    int64_t window_end_ms;
    uint64_t revision;
    uint64_t events;
    uint64_t key_len;
};

static_assert(sizeof(struct packed) == 56, "no padding inside");

enum { FLUSH_BYTES_MAX = 1 << 30 };

static size_t packed_size(const struct packed *p) {
    size_t size = sizeof *p + p->state_len + p->key_len;
    return (size + 7) & ~(size_t)7;
}

struct mr_flush *mr_flush_open(uint64_t seq) {
    struct mr_flush *flush = mr_alloc_zero(1, sizeof *flush);
    if (flush == NULL) {
        return NULL;
    }
    flush->seq = seq;
    mr_buf_init(&flush->panes, FLUSH_BYTES_MAX);
    mr_buf_init(&flush->dead, FLUSH_BYTES_MAX);
    return flush;
}

void mr_flush_close(struct mr_flush *flush) {
    if (flush == NULL) {
        return;
    }
    mr_buf_finish(&flush->panes);
    mr_buf_finish(&flush->dead);
    mr_free(flush->finals);
    mr_free(flush);
}

void mr_pane_append(struct mr_buf *buf, const struct mr_pane *pane) {
    MR_ASSERT(pane->window_start_ms <= pane->window_end_ms);
    struct packed p = {
        .rule = pane->rule,
        .timing = (uint8_t)pane->timing,
        .final = pane->final,
        .retraction = pane->retraction,
        .index = pane->index,
        .window_start_ms = pane->window_start_ms,
        .window_end_ms = pane->window_end_ms,
        .revision = pane->revision,
        .events = pane->events,
        .state_len = (uint32_t)pane->state.len,
        .key_len = pane->key.len,
    };
    size_t used = sizeof p + p.state_len + p.key_len;
    static const uint8_t zeros[8];
    mr_buf_append(buf, &p, sizeof p);
    mr_buf_append_bytes(buf, pane->state);
    mr_buf_append_bytes(buf, pane->key);
    mr_buf_append(buf, zeros, packed_size(&p) - used);
}

bool mr_pane_next(struct mr_bytes *rest, struct mr_pane *ret) {
    if (rest->len == 0) {
        return false;
    }
    struct packed p;
    MR_ASSERT(rest->len >= sizeof p);
    memcpy(&p, rest->ptr, sizeof p);
    size_t size = packed_size(&p);
    MR_ASSERT(rest->len >= size);
    const uint8_t *at = rest->ptr + sizeof p;
    *ret = (struct mr_pane){
        .rule = p.rule,
        .timing = p.timing,
        .final = p.final != 0,
        .window_start_ms = p.window_start_ms,
        .window_end_ms = p.window_end_ms,
        .revision = p.revision,
        .events = p.events,
        .retraction = p.retraction != 0,
        .index = p.index,
        .state = mr_bytes_of(at, p.state_len),
        .key = mr_bytes_of(at + p.state_len, p.key_len),
    };
    *rest = mr_bytes_of(rest->ptr + size, rest->len - size);
    return true;
}
