/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tree of a key: a binary radix tree of slice numbers. Two numbers part at the highest bit in which they differ, bit
 * L - 1 of an inner node of level L. No inner node has less than two nodes below, so there is one for each leaf but one.
 */
#include "aggregate/slices_state.h"
#include "base/alloc.h"
#include "base/check.h"

static struct mr_slice_inner *inner_of(const struct mr_slice_node *node) {
    MR_ASSERT(node->level > 0);
    return (struct mr_slice_inner *)(uintptr_t)node;
}

static struct mr_slice_leaf *leaf_of(const struct mr_slice_node *node) {
    MR_ASSERT(node->level == 0);
    return (struct mr_slice_leaf *)(uintptr_t)node;
}

static bool is_below(const struct mr_slice_node *node, uint64_t number) {
    return (number >> node->level) == (node->number >> node->level);
}

static uint32_t side_of(const struct mr_slice_node *node, uint64_t number) {
    return (uint32_t)(number >> (node->level - 1)) & 1;
}

static size_t leaf_size(const struct mr_slices *s) {
    return sizeof(struct mr_slice_leaf) + s->rule->state_len;
}

static size_t inner_size(const struct mr_slices *s) {
    return sizeof(struct mr_slice_inner) + (s->rule->grows ? 0 : s->rule->state_len);
}

struct mr_slice_leaf *mr_slice_tree_find(const struct mr_sliced_key *key, uint64_t number) {
    const struct mr_slice_node *node = key->root;
    while (node != NULL && node->level > 0 && is_below(node, number)) {
        node = inner_of(node)->below[side_of(node, number)];
    }
    return node != NULL && node->level == 0 && node->number == number ? leaf_of(node) : NULL;
}

static uint64_t end_of(const struct mr_slice_node *node) {
    return node->number + (UINT64_C(1) << node->level);
}

/* One of both ways is not taken: but for one node a level the answer is there at once, or there is none. */
static const struct mr_slice_leaf *before(const struct mr_slice_node *node, uint64_t number) {
    while (node != NULL && node->level > 0 && end_of(node) <= number) {
        node = inner_of(node)->below[1];
    }
    if (node == NULL || node->number >= number) {
        return NULL;
    }
    if (node->level == 0) {
        return leaf_of(node);
    }
    const struct mr_slice_leaf *found = before(inner_of(node)->below[1], number);
    return found != NULL ? found : before(inner_of(node)->below[0], number);
}

static const struct mr_slice_leaf *behind(const struct mr_slice_node *node, uint64_t number) {
    while (node != NULL && node->level > 0 && node->number > number) {
        node = inner_of(node)->below[0];
    }
    if (node == NULL || end_of(node) <= number + 1) {
        return NULL;
    }
    if (node->level == 0) {
        return leaf_of(node);
    }
    const struct mr_slice_leaf *found = behind(inner_of(node)->below[0], number);
    return found != NULL ? found : behind(inner_of(node)->below[1], number);
}

const struct mr_slice_leaf *mr_slice_tree_before(const struct mr_sliced_key *key, uint64_t number) {
    return before(key->root, number);
}

const struct mr_slice_leaf *mr_slice_tree_behind(const struct mr_sliced_key *key, uint64_t number) {
    return behind(key->root, number);
}

/* Its own value goes too, if it is an inner node. I2: above one without a value there is none either. */
void mr_slice_tree_forget(struct mr_slices *s, struct mr_slice_node *node) {
    node = node != NULL && node->level == 0 ? node->parent : node;
    for (; node != NULL && node->made; node = node->parent) {
        struct mr_slice_inner *inner = inner_of(node);
        mr_free(inner->encoded);
        inner->encoded = NULL;
        s->usage.cached -= inner->len;
        inner->len = 0;
        node->made = false;
    }
}

/* What points to node. */
static struct mr_slice_node **link_to(struct mr_sliced_key *key, const struct mr_slice_node *node) {
    if (node->parent == NULL) {
        return &key->root;
    }
    struct mr_slice_inner *parent = inner_of(node->parent);
    return &parent->below[parent->below[1] == node];
}

struct mr_slice_leaf *mr_slice_tree_add(struct mr_slices *s, struct mr_sliced_key *key, uint64_t number) {
    struct mr_slice_leaf *leaf = mr_alloc_zero(1, leaf_size(s));
    struct mr_slice_inner *inner = key->root == NULL ? NULL : mr_alloc_zero(1, inner_size(s));
    if (leaf == NULL || (key->root != NULL && inner == NULL)) {
        mr_free(leaf);
        mr_free(inner);
        return NULL;
    }
    leaf->key = key;
    leaf->node.number = number;
    s->usage.leaves++;
    s->usage.bytes += leaf_size(s) + (inner == NULL ? 0 : inner_size(s));
    if (inner == NULL) {
        key->root = &leaf->node;
        return leaf;
    }
    struct mr_slice_node *at = key->root;
    while (at->level > 0 && is_below(at, number)) {
        at = inner_of(at)->below[side_of(at, number)];
    }
    MR_ASSERT(at->level > 0 || at->number != number);
    uint64_t level = 64 - (uint64_t)__builtin_clzll(at->number ^ number);
    MR_ASSERT(level > at->level && level < 64);
    inner->node.level = (uint8_t)level;
    inner->node.number = number >> level << level;
    inner->node.parent = at->parent;
    *link_to(key, at) = &inner->node;
    inner->below[side_of(&inner->node, number)] = &leaf->node;
    inner->below[side_of(&inner->node, at->number)] = at;
    leaf->node.parent = &inner->node;
    at->parent = &inner->node;
    mr_slice_tree_forget(s, inner->node.parent);
    return leaf;
}

static void free_node(struct mr_slices *s, struct mr_slice_node *node) {
    if (node->level > 0) {
        struct mr_slice_inner *inner = inner_of(node);
        mr_free(inner->encoded);
        s->usage.cached -= inner->len;
        s->usage.bytes -= inner_size(s);
    } else {
        const struct mr_rule *rule = s->rule;
        uint8_t *live = mr_slice_live(leaf_of(node));
        size_t heap = rule->grows ? mr_metric_heap(rule->metrics, rule->metric_count, live) : 0;
        mr_metric_release(rule->metrics, rule->metric_count, live);
        s->usage.heap -= heap;
        s->usage.bytes -= leaf_size(s) + heap;
        s->usage.leaves--;
    }
    mr_free(node);
}

void mr_slice_tree_remove(struct mr_slices *s, struct mr_slice_leaf *leaf) {
    struct mr_sliced_key *key = leaf->key;
    struct mr_slice_node *parent = leaf->node.parent;
    mr_slice_tree_forget(s, &leaf->node);
    if (parent == NULL) {
        key->root = NULL;
    } else {
        struct mr_slice_inner *inner = inner_of(parent);
        struct mr_slice_node *other = inner->below[inner->below[0] == &leaf->node];
        *link_to(key, parent) = other;
        other->parent = parent->parent;
        free_node(s, parent);
    }
    key->recent = key->recent == leaf ? NULL : key->recent;
    free_node(s, &leaf->node);
}

/* Leaves first; as deep as numbers have bits. */
static void free_all(struct mr_slices *s, struct mr_slice_node *node) {
    if (node->level > 0) {
        free_all(s, inner_of(node)->below[0]);
        free_all(s, inner_of(node)->below[1]);
    }
    free_node(s, node);
}

void mr_slice_tree_free(struct mr_slices *s, struct mr_sliced_key *key) {
    if (key->root != NULL) {
        free_all(s, key->root);
    }
    key->root = NULL;
}

/* A node's value, encoded; valid until the next call. An inner one is made. ptr NULL: out of memory. */
static struct mr_bytes encoded_of(struct mr_slices *s, struct mr_slice_node *node) {
    const struct mr_rule *rule = s->rule;
    if (!rule->grows) {
        return mr_bytes_of(node->level > 0 ? inner_of(node)->blocks : leaf_of(node)->blocks, rule->state_len);
    }
    if (node->level > 0) {
        return mr_bytes_of(inner_of(node)->encoded, (size_t)inner_of(node)->len);
    }
    const uint8_t *live = mr_slice_live(leaf_of(node));
    uint32_t len = mr_metric_encoded_len(rule->metrics, rule->metric_count, live);
    mr_buf_clear(&s->encoded);
    uint8_t *at = mr_buf_reserve(&s->encoded, len);
    if (at != NULL) {
        mr_metric_encode(rule->metrics, rule->metric_count, live, at);
    }
    return mr_bytes_of(at, len);
}

static enum mr_status add_node(struct mr_slices *s, struct mr_slice_node *node, uint8_t *live) {
    struct mr_bytes encoded = encoded_of(s, node);
    return encoded.ptr == NULL
               ? MR_NO_MEMORY
               : mr_metric_merge(s->rule->metrics, s->rule->metric_count, live, encoded);
}

/* Of rules with sketches: adds both up in the scratch block and keeps that encoded. */
static enum mr_status make_encoded(struct mr_slices *s, struct mr_slice_inner *inner) {
    const struct mr_rule *rule = s->rule;
    enum mr_status status = add_node(s, inner->below[0], s->live);
    if (status == MR_OK) {
        status = add_node(s, inner->below[1], s->live);
    }
    if (status == MR_OK) {
        uint32_t len = mr_metric_encoded_len(rule->metrics, rule->metric_count, s->live);
        inner->encoded = mr_alloc(len);
        status = inner->encoded == NULL ? MR_NO_MEMORY : MR_OK;
        if (status == MR_OK) {
            mr_metric_encode(rule->metrics, rule->metric_count, s->live, inner->encoded);
            inner->len = len;
            s->usage.cached += len;
        }
    }
    mr_metric_release(rule->metrics, rule->metric_count, s->live);
    return status;
}

/* An inner node gets its value, and all below it theirs. */
static enum mr_status make(struct mr_slices *s, struct mr_slice_node *node, uint32_t *merges) {
    if (node->level == 0 || node->made) {
        return MR_OK;
    }
    struct mr_slice_inner *inner = inner_of(node);
    enum mr_status status = MR_OK;
    node->events = 0;
    node->revision = 0;
    for (uint32_t side = 0; side < 2 && status == MR_OK; side++) {
        struct mr_slice_node *below = inner->below[side];
        status = make(s, below, merges);
        node->events += below->events;
        node->revision = below->revision > node->revision ? below->revision : node->revision;
    }
    if (status == MR_OK && s->rule->grows) {
        status = make_encoded(s, inner);
    } else if (status == MR_OK) {
        struct mr_bytes first = encoded_of(s, inner->below[0]);
        memcpy(inner->blocks, first.ptr, first.len);
        status = add_node(s, inner->below[1], (uint8_t *)inner->blocks);
    }
    *merges += 1;
    node->made = status == MR_OK;
    return status;
}

/* What a window wants: slices [from, to). */
struct wanted {
    uint64_t from;
    uint64_t to;
    uint8_t *live; /* NULL: counts only */
    struct mr_slices_value value;
};

/* From the first slice to the last. */
static enum mr_status collect(struct mr_slices *s, struct mr_slice_node *node, struct wanted *w) {
    uint64_t end = end_of(node);
    if (end <= w->from || node->number >= w->to) {
        return MR_OK;
    }
    if (node->level > 0 && (node->number < w->from || end > w->to)) {
        enum mr_status status = collect(s, inner_of(node)->below[0], w);
        return status == MR_OK ? collect(s, inner_of(node)->below[1], w) : status;
    }
    enum mr_status status = make(s, node, &w->value.merges);
    if (status == MR_OK && w->live != NULL) {
        status = add_node(s, node, w->live);
        w->value.merges++;
    }
    w->value.events += node->events;
    w->value.revision = node->revision > w->value.revision ? node->revision : w->value.revision;
    return status;
}

enum mr_status mr_slices_add(struct mr_slices *s, const struct mr_sliced_key *key, int64_t start_ms, uint8_t *live,
                             struct mr_slices_value *ret) {
    struct wanted w = {.live = live};
    w.from = mr_slice_number(s, start_ms);
    w.to = mr_slice_number(s, start_ms + s->rule->window.size_ms);
    enum mr_status status = collect(s, key->root, &w);
    *ret = w.value;
    return status;
}

static void check_node(const struct mr_slices *s, const struct mr_slice_node *node, const struct mr_sliced_key *key,
                       uint64_t *leaves, uint64_t *cached) {
    if (node->level == 0) {
        MR_ASSERT(leaf_of(node)->key == key && node->events > 0);
        (*leaves)++;
        return;
    }
    const struct mr_slice_inner *inner = inner_of(node);
    uint64_t events = 0;
    for (uint32_t side = 0; side < 2; side++) {
        const struct mr_slice_node *below = inner->below[side];
        MR_ASSERT(below->parent == node && below->level < node->level && is_below(node, below->number));
        MR_ASSERT(side_of(node, below->number) == side);
        MR_ASSERT(!node->made || below->level == 0 || below->made); /* I2 */
        events += below->events;
        check_node(s, below, key, leaves, cached);
    }
    MR_ASSERT(node->number >> node->level << node->level == node->number);
    MR_ASSERT(!node->made || node->events == events);
    MR_ASSERT((inner->encoded != NULL) == (node->made && s->rule->grows));
    *cached += inner->len;
}

void mr_slice_tree_check(const struct mr_slices *s, const struct mr_sliced_key *key, uint64_t *leaves,
                         uint64_t *cached) {
    MR_ASSERT(key->root != NULL && key->root->parent == NULL);
    check_node(s, key->root, key, leaves, cached);
}
