/* SPDX-License-Identifier: Apache-2.0 */
#include "aggregate/partial_table.h"

#include "base/alloc.h"

enum { SLOTS_LOG2_FIRST = 10, ARENA_FIRST = 64 * 1024, ARENA_MAX = 4 * 1024 * 1024 };

static_assert(sizeof(struct mr_partial_slot) == 16, "four slots a cache line");
static_assert(sizeof(struct mr_partial_entry) == 8 + sizeof(struct mr_partial), "no padding");

enum mr_status mr_partial_table_init(struct mr_partial_table *table) {
    *table = (struct mr_partial_table){.slots_log2 = SLOTS_LOG2_FIRST, .bundle = 1};
    mr_arena_init(&table->arena, ARENA_FIRST, ARENA_MAX);
    table->slots = mr_alloc_zero((size_t)1 << SLOTS_LOG2_FIRST, sizeof *table->slots);
    return table->slots == NULL ? MR_NO_MEMORY : MR_OK;
}

void mr_partial_table_finish(struct mr_partial_table *table) {
    mr_arena_finish(&table->arena);
    mr_free(table->slots);
    table->slots = NULL;
}

void mr_partial_table_reset(struct mr_partial_table *table) {
    mr_arena_reset(&table->arena);
    table->used = 0;
    table->bundle++;
    if (table->bundle == 0) { /* slots of 2^32 bundles ago would come back to life */
        memset(table->slots, 0, sizeof *table->slots << table->slots_log2);
        table->bundle = 1;
    }
}

static void put(struct mr_partial_slot *slots, uint32_t slots_log2, uint64_t hash,
                struct mr_partial_slot slot) {
    uint32_t mask = (UINT32_C(1) << slots_log2) - 1;
    uint32_t i = (uint32_t)(hash >> (64 - slots_log2));
    while (slots[i].bundle == slot.bundle) {
        i = (i + 1) & mask;
    }
    slots[i] = slot;
}

/* Room for that many more. */
static enum mr_status reserve(struct mr_partial_table *table, uint32_t more) {
    uint32_t log2 = table->slots_log2;
    while (((uint64_t)table->used + more) * 2 > (uint64_t)1 << log2) {
        log2++;
    }
    if (log2 == table->slots_log2) {
        return MR_OK;
    }
    MR_ASSERT(log2 < 32);
    struct mr_partial_slot *slots = mr_alloc_zero((size_t)1 << log2, sizeof *slots);
    if (slots == NULL) {
        return MR_NO_MEMORY;
    }
    for (uint32_t i = 0; i < UINT32_C(1) << table->slots_log2; i++) {
        struct mr_partial_slot slot = table->slots[i];
        if (slot.bundle == table->bundle) {
            const struct mr_partial *p = &slot.entry->partial;
            put(slots, log2, mr_partial_hash(p->key_hash, p->window_start_ms, p->rule), slot);
        }
    }
    mr_free(table->slots);
    table->slots = slots;
    table->slots_log2 = log2;
    return MR_OK;
}

/* Keys of probes and of partials are filled up with zeros to whole words, so that neither copying nor comparing them
 * needs a call. */
static inline void copy_key(uint8_t *to, struct mr_bytes key) {
    for (size_t at = 0; at < key.len; at += 8) {
        memcpy(to + at, key.ptr + at, 8);
    }
}

static inline bool keys_equal(const uint8_t *a, const uint8_t *b, size_t len) {
    for (size_t at = 0; at < len; at += 8) {
        uint64_t x;
        uint64_t y;
        memcpy(&x, a + at, 8);
        memcpy(&y, b + at, 8);
        if (x != y) {
            return false;
        }
    }
    return true;
}

static struct mr_partial_entry *new_entry(struct mr_partial_table *table,
                                          const struct mr_rule *rule,
                                          const struct mr_partial_probe *probe) {
    size_t size = (sizeof(struct mr_partial) + rule->state_len + probe->key.len + 7) & ~(size_t)7;
    struct mr_partial_entry *entry = mr_arena_alloc(&table->arena, sizeof entry->next + size);
    if (entry == NULL) {
        return NULL;
    }
    entry->next = NULL;
    entry->partial = (struct mr_partial){
        .key_hash = probe->key_hash,
        .window_start_ms = probe->window_start_ms,
        .rule = rule->index,
        .key_len = (uint32_t)probe->key.len,
        .state_len = rule->state_len,
        .size = (uint32_t)size,
    };
    uint8_t *state = mr_partial_state(&entry->partial);
    memset(state, 0, rule->state_len);
    copy_key(state + rule->state_len, probe->key);
    return entry;
}

/* Equal keys have equal hashes. */
static inline bool is_same(const struct mr_partial *p, uint32_t rule,
                           const struct mr_partial_probe *probe) {
    uint64_t differs = (uint64_t)(p->window_start_ms ^ probe->window_start_ms) | (p->rule ^ rule) |
                       (p->key_len ^ probe->key.len);
    return differs == 0 && keys_equal(mr_partial_key(p).ptr, probe->key.ptr, p->key_len);
}

/* NULL: out of memory. Not inline: it would take the registers that the search needs. */
static __attribute__((noinline)) struct mr_partial_entry *add_entry(struct mr_partial_table *table,
                                                                    const struct mr_rule *rule,
                                                                    const struct mr_partial_probe *probe,
                                                                    uint32_t slot, struct mr_partial_list *list) {
    MR_ASSERT(((uint64_t)table->used + 1) * 2 <= (uint64_t)1 << table->slots_log2);
    struct mr_partial_entry *entry = new_entry(table, rule, probe);
    if (entry == NULL) {
        return NULL;
    }
    table->slots[slot] = (struct mr_partial_slot){entry, (uint32_t)probe->hash, table->bundle};
    table->used++;
    *(list->last == NULL ? &list->first : &list->last->next) = entry;
    list->last = entry;
    return entry;
}

enum mr_status mr_partial_table_count(struct mr_partial_table *table, const struct mr_rule *rule,
                                      const struct mr_partial_probe *probes, uint32_t n,
                                      struct mr_partial_list *list, uint8_t **states) {
    if (reserve(table, n) != MR_OK) {
        return MR_NO_MEMORY;
    }
    const struct mr_partial_slot *slots = table->slots;
    const uint32_t bundle = table->bundle;
    const uint32_t shift = 64 - table->slots_log2;
    const uint32_t mask = (UINT32_C(1) << table->slots_log2) - 1;
    const uint32_t index = rule->index;
    for (uint32_t k = 0; k < n; k++) {
        const struct mr_partial_probe *probe = &probes[k];
        uint32_t tag = (uint32_t)probe->hash;
        uint32_t i = (uint32_t)(probe->hash >> shift);
        struct mr_partial_entry *entry = NULL;
        for (; slots[i].bundle == bundle; i = (i + 1) & mask) {
            if (slots[i].tag == tag && is_same(&slots[i].entry->partial, index, probe)) {
                entry = slots[i].entry;
                break;
            }
        }
        if (entry == NULL) {
            entry = add_entry(table, rule, probe, i, list);
        }
        if (entry == NULL) {
            return MR_NO_MEMORY;
        }
        entry->partial.events++;
        states[k] = mr_partial_state(&entry->partial);
    }
    return MR_OK;
}
