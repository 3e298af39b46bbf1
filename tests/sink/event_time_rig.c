/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sink/event_time_rig.h"

#include "base/key.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { INDEXES = 3 };

#define NAME(text)                                                                                 \
    { (const uint8_t *)(text), sizeof(text) - 1 }

static const struct mr_bytes key_names[] = {NAME("k")};
static const struct mr_bytes metric_names[] = {NAME("n")};

#define RULE(name, ends_vary, discarding, retracting)                                              \
    { NAME(name), key_names, 1, metric_names, 1, NAME("of its kind"), ends_vary, discarding, retracting, 0 }

const struct mr_results_rule event_rules[EVENT_RULES] = {
    RULE("sliding", false, false, false),  RULE("session", true, false, false), RULE("global", false, false, false),
    RULE("discarding", true, true, false), RULE("retracting", true, false, true),
};

static void make_key(struct event_pane *p, uint64_t k) {
    uint8_t *at = p->bytes;
    *at++ = k == 0 ? MR_KEY_NULL : k == 1 ? MR_KEY_TRUE : MR_KEY_OTHER;
    if (k == 2) {
        *at++ = 7;
    }
    if (event_rules[p->pane.rule].discarding) {
        mr_key_write_pane(at, p->pane.index);
        at += MR_KEY_PANE_LEN;
    }
    p->pane.key = mr_bytes_of(p->bytes, (size_t)(at - p->bytes));
}

void event_pane_make(struct event_pane *p, uint32_t rule, uint64_t start, uint64_t k, uint64_t revision, uint64_t value) {
    *p = (struct event_pane){.number = {.kind = MR_NUMBER_INT, .i = (int64_t)value}};
    p->state[0] = (uint8_t)(value % 2); /* some of the same state have other events */
    p->pane = (struct mr_pane){
        .rule = rule,
        .timing = MR_TIMING_ON_TIME,
        .window_start_ms = (int64_t)start * 1000,
        .window_end_ms = (int64_t)start * 1000 + 3000,
        .revision = revision,
        .events = value,
        .state = mr_bytes_of(p->state, sizeof p->state),
        .numbers = &p->number,
        .number_count = 1,
    };
    make_key(p, k);
}

void event_pane_retract(struct event_pane *p) {
    p->pane.retraction = true;
    p->pane.state = mr_bytes_of(NULL, 0);
    p->pane.numbers = NULL;
    p->pane.number_count = 0;
    p->pane.events = 0;
}

void event_pane_random(struct event_pane *p, uint64_t *random, uint64_t seq) {
    uint64_t older = rig_below(random, 4) == 0 ? rig_below(random, seq) : 0;
    uint32_t rule = (uint32_t)rig_below(random, EVENT_RULES);
    event_pane_make(p, rule, rig_below(random, EVENT_STARTS), 0, seq - older, rig_below(random, 3));
    p->pane.index = (uint32_t)rig_below(random, INDEXES);
    p->pane.timing = (enum mr_timing)rig_below(random, 3);
    p->state[1] = (uint8_t)rig_below(random, 2); /* and the other way round */
    p->pane.final = rig_below(random, 6) == 0;
    if (rule != 0) { /* any length */
        p->pane.window_end_ms = p->pane.window_start_ms + 1 + (int64_t)rig_below(random, 5) * 1000;
    }
    if (rule == EVENT_GLOBAL) {
        p->pane.window_start_ms = INT64_C(-62135596800000);
        p->pane.window_end_ms = INT64_C(253402300800000);
    }
    make_key(p, rig_below(random, EVENT_KEYS));
    if (rig_below(random, 4) == 0) {
        event_pane_retract(p);
    }
}

void event_stores_open_file(struct event_stores *p) {
    struct mr_results_sqlite_options options = rig_options(&p->dir);
    options.rules = event_rules;
    options.rule_count = EVENT_RULES;
    options.outbox_panes_max = p->outbox_max;
    p->stores[0] = rig_open(&options);
}

void event_stores_open(struct event_stores *p, uint64_t outbox_max, uint64_t random) {
    *p = (struct event_stores){.outbox_max = outbox_max, .random = random, .seq = 1};
    rig_dir_init(&p->dir);
    rig_read_init(&p->reads[0]);
    rig_read_init(&p->reads[1]);
    event_stores_open_file(p);
    p->stores[1] = mr_memory_results_open(&(struct mr_memory_results_options){
        .rules = event_rules, .rule_count = EVENT_RULES, .outbox_panes_max = outbox_max});
}

void event_stores_close(struct event_stores *p) {
    mr_results_close(p->stores[0]);
    mr_results_close(p->stores[1]);
    rig_read_finish(&p->reads[0]);
    rig_read_finish(&p->reads[1]);
    rig_dir_finish(&p->dir);
}

void event_store_put(struct mr_results *results, struct event_pane *pane, uint64_t seq) {
    rig_store(results, &pane->pane, 1, seq);
}
