/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The walk over one event, compiled once for any machine and, with MR_WALK_AVX2, once for AVX2.
 */
#include "event/walk.h"

#include "base/check.h"
#include "event/run.h"
#include "event/scan.h"
#include "event/value.h"

static void set_gap(struct mr_shape *shape, struct mr_step *step, const uint8_t *gap, size_t len) {
    size_t head = len < MR_GAP_HEAD ? len : MR_GAP_HEAD;
    memset(step->gap, 0, sizeof step->gap);
    memcpy(step->gap, gap, head);
    uint8_t mask[16] = {0};
    memset(mask, 0xFF, head < 16 ? head : 16);
    memcpy(step->mask, mask, sizeof mask);
    step->bits = head == 32 ? UINT32_MAX : (UINT32_C(1) << head) - 1;
    step->gap_len = (uint16_t)len;
    step->more_off = shape->more_len;
    memcpy(shape->more + shape->more_len, gap + head, len - head);
    shape->more_len = (uint16_t)(shape->more_len + (len - head));
}

/* Appends a step to the shape; a shape that is full ends here, and prediction with it. */
static void record(struct mr_walk *walk, enum mr_step_kind kind, const uint8_t *after,
                   const uint8_t *value, uint32_t node, uint32_t child) {
    struct mr_shape *shape = walk->shape;
    size_t gap_len = (size_t)(value - after);
    if (!shape->recording || shape->count == MR_STEPS_MAX || gap_len > UINT16_MAX ||
        gap_len > (size_t)(MR_GAP_HEAD + MR_GAP_MORE_MAX - shape->more_len)) {
        shape->recording = false;
        return;
    }
    struct mr_step *step = &shape->steps[shape->count++];
    set_gap(shape, step, after, gap_len);
    step->node = (uint16_t)node;
    step->child = (uint16_t)child;
    step->marks = shape->mark_count;
    step->kind = (uint8_t)(kind | (gap_len > MR_GAP_HEAD ? MR_STEP_LONG : 0));
    step->index = walk->schema->uses[walk->schema->nodes[child].use_first].index;
}

/* Remembers that a wanted name was seen; false when it was before, in this event. */
static bool mark(struct mr_walk *walk, uint32_t child) {
    struct mr_shape *shape = walk->shape;
    if (walk->seen[child] == walk->generation) {
        shape->recording = false; /* I2 */
        return false;
    }
    walk->seen[child] = walk->generation;
    if (shape->mark_count == MR_MARKS_MAX) {
        shape->recording = false;
    } else {
        shape->marks[shape->mark_count++] = (uint16_t)child;
    }
    return true;
}

/* The wanted member by its name, compared without escapes. */
static uint32_t find_member(const struct mr_walk *walk, uint32_t node, const uint8_t *name,
                            size_t len, bool escaped) {
    if (!escaped) {
        return mr_tree_find(walk->schema, node, name, len);
    }
    uint8_t plain[MR_PATH_LEN_MAX * 6 + MR_PADDING]; /* \u0061 is the longest way to write a byte */
    if (len > MR_PATH_LEN_MAX * 6) {
        return 0;
    }
    size_t plain_len = mr_unescape(name, len, plain);
    return mr_tree_find(walk->schema, node, plain, plain_len);
}

/* What the general walk stands on. */
struct place {
    const uint8_t *p;
    const uint8_t *after; /* the end of the value before: a gap begins here */
    uint32_t node;        /* whose members are being read */
    bool members;         /* p is where a name must be, not behind a value */
};

/* One member: name, colon, value; or name, colon and the brace that opens an inner node. */
static bool walk_member(struct mr_walk *walk, struct place *at) {
    const uint8_t *name = at->p + 1;
    if (*at->p != '"') {
        (void)mr_walk_refuse(walk, MR_REJECT_BAD_JSON, at->p, "a name in quotes"); /* NULL */
        return false;
    }
    bool escaped;
    const uint8_t *close = scan_string(walk, name, &escaped);
    if (close == NULL) {
        return false;
    }
    const uint8_t *value = skip_space(walk, close + 1);
    if (*value != ':') {
        (void)mr_walk_refuse(walk, MR_REJECT_BAD_JSON, value, "a colon after a name"); /* NULL */
        return false;
    }
    value = skip_space(walk, value + 1);
    uint32_t child = find_member(walk, at->node, name, (size_t)(close - name), escaped);
    const struct mr_node *node = &walk->schema->nodes[child];
    bool again = child != 0 && !mark(walk, child);
    if (again) {
        mr_walk_object(walk, MR_REJECT_DUPLICATE_NAME, child, "the second time in this event",
                       name - 1, (size_t)(close - name) + 2);
    } else if (child != 0 && node->inner && *value == '{') {
        at->node = child;
        at->p = skip_space(walk, value + 1);
        at->members = true;
        return true;
    }
    enum mr_step_kind kind = child == 0 ? MR_STEP_SKIP : (enum mr_step_kind)node->step;
    record(walk, kind, at->after, value, at->node, child);
    const uint8_t *end = kind >= MR_STEP_LEAF && !again
                             ? take_value(walk, value, child)
                             : skip_value(walk, value, walk->schema->nodes[at->node].depth + 1u);
    at->p = end;
    at->after = end;
    at->members = false;
    return end != NULL;
}

/* Behind a value or at an empty object: over the closing braces to the next name. True: the event
 * has ended. */
static bool walk_close(struct mr_walk *walk, struct place *at) {
    at->p = skip_space(walk, at->p);
    while (*at->p == '}') {
        at->p++;
        if (at->node == 0) {
            record(walk, MR_STEP_END, at->after, at->p, 0, 0);
            return true;
        }
        at->node = walk->schema->nodes[at->node].parent;
        at->members = false;
        at->p = skip_space(walk, at->p);
    }
    return false;
}

/* Marks what the steps before number k have seen. */
static void remember(struct mr_walk *walk, uint32_t k) {
    struct mr_shape *shape = walk->shape;
    if (++walk->generation == 0) {
        memset(walk->seen, 0, sizeof walk->seen);
        walk->generation = 1;
    }
    uint32_t marks = k == 0 ? 0 : shape->steps[k - 1].marks;
    for (uint32_t i = 0; i < marks; i++) {
        walk->seen[shape->marks[i]] = walk->generation;
    }
    /* The overflow of the gaps before k lies before that of step k. */
    shape->more_len = k < shape->count ? shape->steps[k].more_off : shape->more_len;
    shape->count = (uint16_t)k;
    shape->mark_count = (uint16_t)marks;
    shape->recording = walk->predict;
}

/* The general walk, from behind the value of step k - 1, or from the event's first byte. */
static __attribute__((noinline)) const uint8_t *walk_general(struct mr_walk *walk,
                                                             const uint8_t *after, uint32_t k) {
    struct place at = {.p = after, .after = after};
    remember(walk, k);
    if (k > 0) {
        at.node = walk->shape->steps[k - 1].node;
    } else {
        MR_ASSERT(*after == '{');
        at.p = skip_space(walk, after + 1);
        at.members = true;
    }
    for (;;) {
        if (!at.members || *at.p == '}') {
            if (walk_close(walk, &at)) {
                return at.p;
            }
            if (!at.members) {
                if (*at.p != ',') {
                    return mr_walk_refuse(walk, MR_REJECT_BAD_JSON, at.p,
                                          "a comma or a closing brace");
                }
                at.p = skip_space(walk, at.p + 1);
            }
        }
        if (!walk_member(walk, &at)) {
            return NULL;
        }
    }
}

/* The gap's first MR_GAP_HEAD bytes. */
static inline bool head_equal(const struct mr_step *step, const uint8_t *p) {
#ifdef MR_WALK_AVX2
    __m256i same = _mm256_cmpeq_epi8(_mm256_loadu_si256((const __m256i_u *)p),
                                     _mm256_loadu_si256((const __m256i_u *)step->gap));
    return (~(uint32_t)_mm256_movemask_epi8(same) & step->bits) == 0;
#else
    uint64_t a[2];
    uint64_t b[2];
    memcpy(a, p, sizeof a);
    memcpy(b, step->gap, sizeof b);
    if ((((a[0] ^ b[0]) & step->mask[0]) | ((a[1] ^ b[1]) & step->mask[1])) != 0) {
        return false;
    }
    size_t head = step->gap_len < MR_GAP_HEAD ? step->gap_len : MR_GAP_HEAD;
    return LIKELY(head <= 16) || memcmp(p + 16, step->gap + 16, head - 16) == 0;
#endif
}

/* The bytes behind the head, which are only looked at as far as the body goes. */
static bool more_equal(const struct mr_walk *walk, const struct mr_step *step, const uint8_t *p) {
    size_t more = step->gap_len - (size_t)MR_GAP_HEAD;
    return (size_t)(walk->end - p) >= step->gap_len &&
           memcmp(p + MR_GAP_HEAD, walk->shape->more + step->more_off, more) == 0;
}

/* A step whose gap's head is equal, and whose value is not plain or gap is long. The end of the
 * value; NULL when something else was predicted. *ret_done: that was the event's end, or NULL for a
 * fault. */
static __attribute__((noinline)) const uint8_t *
take_step(struct mr_walk *walk, const struct mr_step *step, const uint8_t *p, bool *ret_done) {
    const uint8_t *value = p + step->gap_len;
    uint8_t kind = step->kind & (uint8_t)~MR_STEP_LONG;
    if (step->kind != kind && !more_equal(walk, step, p)) {
        return NULL;
    }
    if (kind == MR_STEP_END) {
        *ret_done = true;
        return value;
    }
    if (is_space(walk, *value) || (kind == MR_STEP_INNER && *value == '{')) {
        return NULL; /* a longer gap; an object to go into */
    }
    const uint8_t *next = kind >= MR_STEP_LEAF
                              ? take_value(walk, value, step->child)
                              : skip_value(walk, value, walk->schema->nodes[step->node].depth + 1u);
    *ret_done = next == NULL;
    return next;
}

static const uint8_t *walk_event(struct mr_walk *walk, const uint8_t *p) {
    const struct mr_step *step = walk->shape->steps;
    const struct mr_step *end = step + (walk->predict ? walk->shape->count : 0);
    walk->whole = true;
    for (; step < end && head_equal(step, p); step++) {
        if (step->kind == MR_STEP_END) {
            return p + step->gap_len;
        }
        const uint8_t *next = try_step(walk, step, p + step->gap_len);
        if (next == NULL) {
            bool done = false;
            next = take_step(walk, step, p, &done);
            if (done) {
                return next;
            }
            if (next == NULL) {
                break;
            }
        }
        p = next;
    }
    walk->whole = false;
    return walk_general(walk, p, (uint32_t)(step - walk->shape->steps));
}

static const uint8_t *walk_value(struct mr_walk *walk, const uint8_t *p, uint32_t depth) {
    return skip_value(walk, p, depth);
}

static size_t count_lines(const uint8_t *p, size_t len) {
    size_t count = 0;
    size_t i = 0;
#ifdef MR_WALK_AVX2
    enum { BLOCK = 32, ROUND = 255 * BLOCK }; /* a byte counts up to 255 */
    const __m256i feed = _mm256_set1_epi8('\n');
    while (i + BLOCK <= len) {
        size_t stop = len - i < ROUND ? i + (len - i) / BLOCK * BLOCK : i + ROUND;
        __m256i counts = _mm256_setzero_si256();
        for (; i < stop; i += BLOCK) {
            __m256i bytes = _mm256_loadu_si256((const __m256i_u *)(p + i));
            counts = _mm256_sub_epi8(counts, _mm256_cmpeq_epi8(bytes, feed));
        }
        __m256i sums = _mm256_sad_epu8(counts, _mm256_setzero_si256());
        count += (size_t)(_mm256_extract_epi64(sums, 0) + _mm256_extract_epi64(sums, 1) +
                          _mm256_extract_epi64(sums, 2) + _mm256_extract_epi64(sums, 3));
    }
#endif
    for (; i < len; i++) {
        count += p[i] == '\n';
    }
    return count;
}

static const uint8_t *walk_leaf(struct mr_walk *walk, const uint8_t *p, uint32_t node) {
    return take_value(walk, p, node);
}

#ifdef MR_WALK_AVX2
const struct mr_walk_ops mr_walk_avx2 = {walk_event, walk_value, count_lines, walk_leaf, mr_run_events, mr_run_learn};
#else
const struct mr_walk_ops mr_walk_portable = {walk_event, walk_value, count_lines, walk_leaf, NULL, NULL};
#endif
