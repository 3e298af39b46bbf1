/* SPDX-License-Identifier: Apache-2.0 */
/* Where sessions are found: those of a key by time, all by what is due; and the lists. */
#include "aggregate/sessions_state.h"

/* The treap of a key: by start; a parent's priority is not below its children's. */

static void update(struct mr_session *session) {
    int64_t max = session->end_ms;
    if (session->left != NULL && session->left->max_end_ms > max) {
        max = session->left->max_end_ms;
    }
    if (session->right != NULL && session->right->max_end_ms > max) {
        max = session->right->max_end_ms;
    }
    session->max_end_ms = max;
}

static void split(struct mr_session *root, int64_t start_ms, struct mr_session **ret_before,
                  struct mr_session **ret_after) {
    if (root == NULL) {
        *ret_before = NULL;
        *ret_after = NULL;
        return;
    }
    if (root->start_ms < start_ms) {
        *ret_before = root;
        split(root->right, start_ms, &root->right, ret_after);
    } else {
        *ret_after = root;
        split(root->left, start_ms, ret_before, &root->left);
    }
    update(root);
}

static struct mr_session *join(struct mr_session *before, struct mr_session *after) {
    if (before == NULL || after == NULL) {
        return before == NULL ? after : before;
    }
    if (before->priority > after->priority) {
        before->right = join(before->right, after);
        update(before);
        return before;
    }
    after->left = join(before, after->left);
    update(after);
    return after;
}

static struct mr_session *insert(struct mr_session *root, struct mr_session *session) {
    if (root == NULL || session->priority > root->priority) {
        split(root, session->start_ms, &session->left, &session->right);
        update(session);
        return session;
    }
    if (session->start_ms < root->start_ms) {
        root->left = insert(root->left, session);
    } else {
        root->right = insert(root->right, session);
    }
    update(root);
    return root;
}

static struct mr_session *without(struct mr_session *root, const struct mr_session *session) {
    MR_ASSERT(root != NULL);
    if (root == session) {
        return join(root->left, root->right);
    }
    if (session->start_ms < root->start_ms) {
        root->left = without(root->left, session);
    } else {
        root->right = without(root->right, session);
    }
    update(root);
    return root;
}

/* Priorities are a function of start and key: the shape depends on what is there only. */
void mr_session_tree_insert(struct mr_session *session) {
    MR_ASSERT(mr_session_tree_find(session->key, session->start_ms) == NULL);
    uint64_t mixed = ((uint64_t)session->start_ms ^ session->key->hash) * UINT64_C(0x9E3779B97F4A7C15);
    session->priority = (mixed ^ mixed >> 29) * UINT64_C(0xBF58476D1CE4E5B9);
    session->left = NULL;
    session->right = NULL;
    session->key->root = insert(session->key->root, session);
}

void mr_session_tree_remove(struct mr_session *session) {
    session->key->root = without(session->key->root, session);
    session->left = NULL;
    session->right = NULL;
}

/* What ends at or before start lies in parts of the tree that are passed by as a whole. */
static struct mr_session *overlap(struct mr_session *root, int64_t from_ms, int64_t start_ms, int64_t end_ms) {
    if (root == NULL || root->max_end_ms <= start_ms) {
        return NULL;
    }
    if (root->start_ms >= from_ms) {
        struct mr_session *left = overlap(root->left, from_ms, start_ms, end_ms);
        if (left != NULL) {
            return left;
        }
        if (root->start_ms >= end_ms) {
            return NULL;
        }
        if (root->end_ms > start_ms) {
            return root;
        }
    }
    return overlap(root->right, from_ms, start_ms, end_ms);
}

struct mr_session *mr_session_tree_overlap(const struct mr_key_entry *key, int64_t from_ms, int64_t start_ms,
                                           int64_t end_ms) {
    return overlap(key->root, from_ms, start_ms, end_ms);
}

struct mr_session *mr_session_tree_find(const struct mr_key_entry *key, int64_t start_ms) {
    struct mr_session *session = key->root;
    while (session != NULL && session->start_ms != start_ms) {
        session = start_ms < session->start_ms ? session->left : session->right;
    }
    return session;
}

/* Clocks: binary heaps whose sessions know their place. */

bool mr_session_clock_before(const struct mr_session *a, const struct mr_session *b, uint32_t clock) {
    if (a->due[clock] != b->due[clock]) {
        return a->due[clock] < b->due[clock];
    }
    if (a->start_ms != b->start_ms) {
        return a->start_ms < b->start_ms;
    }
    return mr_bytes_compare(mr_session_key_bytes(a), mr_session_key_bytes(b)) < 0;
}

static struct mr_session *at(const struct mr_slots *heap, uint64_t place) {
    return *mr_slot(heap, place);
}

static void put(const struct mr_slots *heap, uint64_t place, struct mr_session *session, uint32_t clock) {
    *mr_slot(heap, place) = session;
    session->at[clock] = place + 1;
}

static void sift_up(const struct mr_slots *heap, uint64_t place, uint32_t clock) {
    struct mr_session *moved = at(heap, place);
    while (place > 0 && mr_session_clock_before(moved, at(heap, (place - 1) / 2), clock)) {
        put(heap, place, at(heap, (place - 1) / 2), clock);
        place = (place - 1) / 2;
    }
    put(heap, place, moved, clock);
}

static void sift_down(const struct mr_slots *heap, uint64_t place, uint32_t clock) {
    struct mr_session *moved = at(heap, place);
    for (uint64_t child = 2 * place + 1; child < heap->count; child = 2 * place + 1) {
        if (child + 1 < heap->count && mr_session_clock_before(at(heap, child + 1), at(heap, child), clock)) {
            child++;
        }
        if (!mr_session_clock_before(at(heap, child), moved, clock)) {
            break;
        }
        put(heap, place, at(heap, child), clock);
        place = child;
    }
    put(heap, place, moved, clock);
}

void mr_session_clock_set(struct mr_sessions *s, struct mr_session *session, uint32_t clock, int64_t due_ms) {
    struct mr_slots *heap = &s->clocks[clock];
    session->due[clock] = due_ms;
    if (session->at[clock] == 0) {
        MR_ASSERT(heap->count < (uint64_t)heap->block_count * MR_SLOTS_BLOCK);
        put(heap, heap->count++, session, clock);
    }
    sift_up(heap, session->at[clock] - 1, clock);
    sift_down(heap, session->at[clock] - 1, clock);
}

void mr_session_clock_clear(struct mr_sessions *s, struct mr_session *session, uint32_t clock) {
    struct mr_slots *heap = &s->clocks[clock];
    uint64_t place = session->at[clock];
    session->due[clock] = INT64_MAX;
    if (place == 0) {
        return;
    }
    MR_ASSERT(at(heap, place - 1) == session);
    struct mr_session *last = at(heap, heap->count - 1);
    session->at[clock] = 0;
    mr_slots_pop(heap);
    if (last != session) {
        put(heap, place - 1, last, clock);
        sift_up(heap, place - 1, clock);
        sift_down(heap, last->at[clock] - 1, clock);
    }
}

/* Lists. */

void mr_session_list_push(struct mr_session_list *list, struct mr_session *session, enum mr_session_place place) {
    session->links[place] = (struct mr_session_link){.previous = list->last};
    *(list->last == NULL ? &list->first : &list->last->links[place].next) = session;
    list->last = session;
}

void mr_session_list_push_front(struct mr_session_list *list, struct mr_session *session,
                                enum mr_session_place place) {
    session->links[place] = (struct mr_session_link){.next = list->first};
    *(list->first == NULL ? &list->last : &list->first->links[place].previous) = session;
    list->first = session;
}

void mr_session_list_remove(struct mr_session_list *list, struct mr_session *session, enum mr_session_place place) {
    struct mr_session_link *link = &session->links[place];
    *(link->previous == NULL ? &list->first : &link->previous->links[place].next) = link->next;
    *(link->next == NULL ? &list->last : &link->next->links[place].previous) = link->previous;
    *link = (struct mr_session_link){0};
}
