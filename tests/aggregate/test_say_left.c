/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that what late data changed while late panes were off is said, once, also when the settings change meanwhile:
 *   1. windows and sessions whose late data is unsaid are saved, and loaded under the same settings, a shorter lateness,
 *      late panes turned on: the panes at the change and at the bundles behind it, compared with a table;
 *   2. with any budget; the revision is that of the change; a save behind the change says nothing again;
 *   3. early panes that were off for a while have forgotten what was said before: all events count.
 */
#include "tests/aggregate/test_sessions_kit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

enum { CHANGE_SEQ = 7, TEXT_MAX = 512, PANES_MAX = 8 };

struct change {
    const char *name;
    int64_t lateness_ms;
    bool late;
    enum mr_accumulation panes;
    const char *at_change;
    const char *next;  /* of the first bundle behind it, with late data where a window takes any */
    const char *final; /* of the bundle that ends lateness */
};

/* Words of timing, start, ":" and events, "#" and index, "@" and revision, f: final; by key, for sessions of a bundle are
 * said in no order that holds. */
static void say(struct mr_bytes panes, char *text) {
    struct mr_pane all[PANES_MAX];
    uint32_t count = 0;
    for (; panes.len > 0; count++) {
        struct mr_pane pane;
        assert_true(count < PANES_MAX && mr_pane_next(&panes, &pane));
        uint32_t i = count;
        for (; i > 0 && mr_bytes_compare(pane.key, all[i - 1].key) < 0; i--) {
            all[i] = all[i - 1];
        }
        all[i] = pane;
    }
    size_t at = strlen(text);
    for (uint32_t i = 0; i < count; i++) {
        at += (size_t)snprintf(text + at, TEXT_MAX - at, "%s%c%lld:%llu#%u@%llu%s", at == 0 ? "" : " ",
                               "EOL"[all[i].timing], (long long)all[i].window_start_ms,
                               (unsigned long long)all[i].events, all[i].index, (unsigned long long)all[i].revision,
                               all[i].final ? "f" : "");
    }
}

static void fire(struct mr_combine *combine, uint64_t seq, int64_t watermark_ms, char *text) {
    struct mr_flush *flush = mr_flush_open(seq);
    bool done = false;
    text[0] = 0;
    mr_combine_advance(combine, seq, &watermark_ms, 0);
    assert_int_equal(mr_combine_fire(combine, UINT32_MAX, flush, &done), MR_OK);
    assert_true(done);
    mr_combine_check_scan(combine);
    say(mr_buf_bytes(&flush->panes), text);
    mr_flush_close(flush);
}

static void say_left(struct mr_combine *combine, uint32_t budget, char *text) {
    struct mr_buf panes;
    mr_buf_init(&panes, 1 << 20);
    for (bool done = false; !done;) {
        struct mr_flush *flush = mr_flush_open(CHANGE_SEQ);
        assert_int_equal(mr_combine_say_left(combine, CHANGE_SEQ, 0, budget, flush, &done), MR_OK);
        assert_true(flush->pane_count <= budget);
        mr_buf_append_bytes(&panes, mr_buf_bytes(&flush->panes));
        mr_flush_close(flush);
    }
    mr_combine_check_scan(combine);
    text[0] = 0;
    say(mr_buf_bytes(&panes), text);
    mr_buf_finish(&panes);
}

static struct mr_combine *load(const struct mr_rule *rule, uint64_t seq, int64_t watermark_ms,
                               const struct kit_slices *slices) {
    static const uint32_t same[] = {0};
    struct mr_combine *combine = kit_open(rule, 1, 0);
    struct mr_combine_load how = {seq, &watermark_ms, same, 1, 1};
    struct mr_error error = {.text = ""};
    uint64_t dropped;
    assert_int_equal(kit_load(combine, &how, slices, 1, &dropped, &error), MR_OK);
    return combine;
}

/* One event of the key in [start, start + 10). */
static void merge(struct mr_combine *combine, const struct mr_rule *rule, uint64_t seq, int64_t start_ms, uint32_t key) {
    static const int64_t value = 1;
    struct mr_parcel *parcel = mr_parcel_open(seq, 0);
    kit_partial(parcel, rule, start_ms, key, &value, 1);
    if (rule->window.kind == MR_WINDOW_SESSION) {
        struct mr_session_extent extent = {.end_ms = start_ms + 10, .start_ms = start_ms};
        memcpy(parcel->bytes.ptr + sizeof(struct mr_partial), &extent, sizeof extent);
    }
    assert_int_equal(mr_combine_merge(combine, parcel), MR_OK);
    mr_parcel_close(parcel);
}

/* Keys 0 and 1 are said at the end of [0, 10); then come another event of key 1 and one of key 2. */
static void make_unsaid(const struct mr_rule *rule, struct kit_slices *ret) {
    char text[TEXT_MAX];
    struct mr_combine *combine = kit_open(rule, 1, 0);
    merge(combine, rule, 1, 0, 0);
    merge(combine, rule, 1, 0, 1);
    fire(combine, 1, 20, text);
    assert_string_equal(text, "O0:1#0@1 O0:1#0@1");
    merge(combine, rule, 2, 0, 1);
    merge(combine, rule, 2, 0, 2);
    fire(combine, 2, 21, text);
    assert_string_equal(text, "");
    kit_save(combine, 2, 1, ret);
    mr_combine_close(combine);
}

static void change(const struct change *c, bool sessions, uint32_t budget) {
    struct mr_rule rule = sessions ? sk_rule(10, INT64_MAX, 100) : kit_rule(0, 0, 1, 10, 100);
    rule.trigger = (struct mr_trigger){.late = false, .panes = c->panes};
    struct kit_slices slices = {0};
    char text[TEXT_MAX];
    make_unsaid(&rule, &slices);
    rule.allowed_lateness_ms = c->lateness_ms;
    rule.trigger.late = c->late;
    struct mr_combine *combine = load(&rule, 2, 21, &slices);
    say_left(combine, budget, text);
    assert_string_equal(text, c->at_change);
    kit_slices_finish(&slices);
    slices = (struct kit_slices){0};
    kit_save(combine, CHANGE_SEQ, 1, &slices); /* as another start finds it */
    mr_combine_close(combine);
    combine = load(&rule, CHANGE_SEQ, 21, &slices);
    say_left(combine, budget, text);
    assert_string_equal(text, "");
    merge(combine, &rule, 8, c->lateness_ms < 11 ? 100 : 0, 1);
    fire(combine, 8, 22, text);
    assert_string_equal(text, c->next);
    fire(combine, 9, 300, text);
    assert_string_equal(text, c->final);
    kit_slices_finish(&slices);
    mr_combine_close(combine);
}

static void changes(void **state) {
    (void)state;
    static const struct change table[] = {
        {"the same", 100, false, MR_ACCUMULATING, "", "", "L0:3#1@9f L0:1#0@9f"},
        {"final at once", 5, false, MR_ACCUMULATING, "L0:2#1@7f L0:1#0@7f", "", "O100:1#0@9f"},
        {"final at once, and late on", 5, true, MR_ACCUMULATING, "L0:2#1@7f L0:1#0@7f", "", "O100:1#0@9f"},
        {"shorter, not final", 50, false, MR_ACCUMULATING, "", "", "L0:3#1@9f L0:1#0@9f"},
        {"late on", 100, true, MR_ACCUMULATING, "L0:2#1@7 L0:1#0@7", "L0:3#2@8", ""},
        {"the same", 100, false, MR_DISCARDING, "", "", "L0:2#1@9f L0:1#0@9f"},
        {"final at once", 5, false, MR_DISCARDING, "L0:1#1@7f L0:1#0@7f", "", "O100:1#0@9f"},
        {"late on", 100, true, MR_DISCARDING, "L0:1#1@7 L0:1#0@7", "L0:1#2@8", ""},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        for (uint32_t budget = 1; budget < 6; budget++) {
            print_message("%s, budget %u\n", table[i].name, budget);
            change(&table[i], false, budget);
            change(&table[i], true, budget);
        }
    }
}

/* Late panes were on when the late data came, and are turned off: it has been said, and is not again. */
static void said_before(void **state) {
    (void)state;
    for (uint32_t panes = 0; panes < 2; panes++) {
        struct mr_rule rule = kit_rule(0, 0, 1, 10, 100);
        rule.trigger = (struct mr_trigger){.late = true, .panes = panes == 0 ? MR_ACCUMULATING : MR_DISCARDING};
        struct kit_slices slices = {0};
        char text[TEXT_MAX];
        struct mr_combine *combine = kit_open(&rule, 1, 0);
        merge(combine, &rule, 1, 0, 1);
        fire(combine, 1, 20, text);
        merge(combine, &rule, 2, 0, 1);
        fire(combine, 2, 21, text);
        assert_string_equal(text, panes == 0 ? "L0:2#1@2" : "L0:1#1@2");
        kit_save(combine, 2, 1, &slices);
        mr_combine_close(combine);
        rule.trigger.late = false;
        combine = load(&rule, 2, 21, &slices);
        say_left(combine, 10, text);
        assert_string_equal(text, "");
        fire(combine, 9, 300, text);
        assert_string_equal(text, "");
        kit_slices_finish(&slices);
        mr_combine_close(combine);
    }
}

static void early_off_and_on(void **state) {
    (void)state;
    for (uint32_t off = 0; off < 2; off++) {
        struct mr_rule rule = kit_rule(0, 0, 1, 10, 100);
        struct mr_rule without = rule;
        rule.trigger.early_count = 3;
        char text[TEXT_MAX];
        struct mr_combine *combine = kit_open(&rule, 1, 0);
        for (uint32_t k = 0; k < 3; k++) {
            merge(combine, &rule, 1, 0, 1);
        }
        fire(combine, 1, 0, text);
        assert_string_equal(text, "E0:3#0@1");
        for (uint64_t seq = 2; seq < 4; seq++) { /* two starts */
            const struct mr_rule *now = seq == 2 && off ? &without : &rule;
            struct kit_slices slices = {0};
            kit_save(combine, seq - 1, 1, &slices);
            mr_combine_close(combine);
            combine = load(now, seq - 1, 0, &slices);
            kit_slices_finish(&slices);
            merge(combine, now, seq, 0, 1);
            fire(combine, seq, 0, text);
            assert_string_equal(text, seq == 3 && off ? "E0:5#1@3" : "");
        }
        mr_combine_close(combine);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(changes),
        cmocka_unit_test(said_before),
        cmocka_unit_test(early_off_and_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
