/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves what a change of the configuration does, over pairs of random configurations that differ in a few settings,
 * against a model that knows the settings by name; and that `any` is whether the state texts differ.
 */
#include "support.h"

#include "config/options.h"

#include <stdio.h>

/* The model: settings by name, each a number below its domain; 0 is the default where there is one. */

enum {
    ID,
    TIME,
    FORMAT,
    MISSING_ID,
    MISSING_TIME,
    MODE,
    HORIZON,
    IDS,
    WHEN_FULL,
    ERROR,
    STORE,
    LAYOUT,
    OUTAGE,
    LATE_BY,
    IDLE,
    FUTURE,
    SOURCE,
    DERIVE,
    STREAM_SETTINGS
};
enum {
    FROM,
    GROUP_BY,
    WHERE,
    WINDOW,
    LATENESS,
    EARLY,
    LATE,
    PANES,
    METRICS,
    MAX,
    BYTES,
    GROUPS_FULL,
    RULE_SETTINGS
};
enum { NAMES = 3, VALUES = 5, LOCAL = 2 };
enum { EXACT, OBSERVE, BLOOM, NONE, REDIS };

static const char *const stream_values[STREAM_SETTINGS][VALUES] = {
    [ID] = {"[i]", "[j]", "[i, j]", "[j, i]"},
    [TIME] = {"t", "u"},
    [FORMAT] = {"ms", "rfc3339", "ns"},
    [MISSING_ID] = {"reject", "accept"},
    [MISSING_TIME] = {"arrival", "reject"},
    [MODE] = {"exact", "observe", "bloom", "none", "redis"},
    [HORIZON] = {"24h", "1h"},
    [IDS] = {"10000000", "7"},
    [WHEN_FULL] = {"reject", "evict_oldest"},
    [ERROR] = {"1e-4", "0.02"},
    [STORE] = {"x", "y", "z"},
    [LAYOUT] = {"bucket", "key"},
    [OUTAGE] = {"reject", "hold", "local"},
    [LATE_BY] = {"30s", "0s"},
    [IDLE] = {"1m", "off", "2m"},
    [FUTURE] = {"5m", "0s"},
    [SOURCE] = {"", ", source: from.where"},
    [DERIVE] = {"", "x: a + 1", "x: a + 2", "x: a + 1, w: x * 2", "w: x * 2, q: 7"},
};

static const char *const rule_values[RULE_SETTINGS][VALUES] = {
    [FROM] = {"a", "b", "c"},
    [GROUP_BY] = {"[]", "[x]", "[x, y]", "[y, x]"},
    [WHERE] = {"", ", where: z > 0", ", where: w > 0"},
    [WINDOW] = {"size: 1m", "size: 1s", "type: sliding, size: 1m, every: 1s",
                "type: session, gap: 1m", "size: 1m, offset: 1s"},
    [LATENESS] = {"5m", "0s"},
    [EARLY] = {"0s", "1s"},
    [LATE] = {"true", "false"},
    [PANES] = {"accumulating", "discarding"},
    [METRICS] = {"{ n: count }", "{ n: { sum: p } }", "{ n: { min: p } }",
                 "{ n: count, m: count }"},
    [MAX] = {"1000000", "1"},
    [BYTES] = {"256MiB", "64KiB"},
    [GROUPS_FULL] = {"other", "drop"},
};

struct spec {
    bool has_stream[NAMES];
    bool has_rule[NAMES];
    uint8_t stream[NAMES][STREAM_SETTINGS];
    uint8_t rule[NAMES][RULE_SETTINGS];
    bool turned; /* the last comes first */
    bool other_node;
    bool other_cluster;
};

static uint64_t random_state = 7;

static uint32_t below(uint32_t bound) {
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(random_state >> 33) % bound;
}

static uint8_t any_value(const char *const *values) {
    uint32_t count = 0;
    while (count < VALUES && values[count] != NULL) {
        count++;
    }
    return (uint8_t)below(count);
}

/* A rule's stream is there; one stream is. */
static void spec_mend(struct spec *s) {
    bool one = s->has_stream[0] || s->has_stream[1] || s->has_stream[2];
    s->has_stream[0] = s->has_stream[0] || !one;
    for (int i = 0; i < NAMES; i++) {
        s->has_rule[i] = s->has_rule[i] && s->has_stream[s->rule[i][FROM]];
    }
}

static struct spec spec_random(void) {
    struct spec s = {.turned = below(8) == 0};
    for (int i = 0; i < NAMES; i++) {
        s.has_stream[i] = below(5) > 0;
        s.has_rule[i] = below(5) > 0;
        for (int k = 0; k < STREAM_SETTINGS; k++) {
            s.stream[i][k] = any_value(stream_values[k]);
        }
        for (int k = 0; k < RULE_SETTINGS; k++) {
            s.rule[i][k] = any_value(rule_values[k]);
        }
    }
    spec_mend(&s);
    return s;
}

static struct spec spec_changed(const struct spec *before) {
    struct spec s = *before;
    for (uint32_t n = below(6); n > 0; n--) {
        uint32_t i = below(NAMES);
        uint32_t what = below(16);
        if (what == 0) {
            s.has_stream[i] = !s.has_stream[i];
        } else if (what == 1) {
            s.has_rule[i] = !s.has_rule[i];
        } else if (what == 2) {
            s.turned = !s.turned;
            s.other_node = below(4) == 0;
            s.other_cluster = below(4) == 0;
        } else if (what < 10) {
            uint32_t k = below(STREAM_SETTINGS);
            s.stream[i][k] = any_value(stream_values[k]);
        } else {
            uint32_t k = below(RULE_SETTINGS);
            s.rule[i][k] = any_value(rule_values[k]);
        }
    }
    spec_mend(&s);
    return s;
}

static int place(const struct spec *s, int i) {
    return s->turned ? (i + NAMES - 1) % NAMES : i;
}

static bool has_claims(const struct spec *s) {
    bool claims = false;
    for (int i = 0; i < NAMES; i++) {
        claims = claims || (s->has_stream[i] && s->stream[i][MODE] == REDIS);
    }
    return claims;
}

static bool has_table(const uint8_t *v) {
    return v[MODE] != NONE && (v[MODE] != REDIS || v[OUTAGE] == LOCAL);
}

/* Addresses and secrets differ each time; what they are is no part of the state. */
static void write_shared(struct mr_buf *yaml, const struct spec *s) {
    if (has_claims(s)) {
        mr_buf_printf(yaml, "node: { id: %s }\ncluster: { name: %s, secret: any-of-%u-secrets }\n",
                      s->other_node ? "m" : "n", s->other_cluster ? "d" : "c", below(1000) + 1000);
    }
    for (uint32_t first = below(3), k = 0; k < 3; k++) {
        mr_buf_printf(yaml, "%s  %s: { type: redis, nodes: [h%u] }\n", k == 0 ? "stores:\n" : "",
                      stream_values[STORE][(first + k) % 3], below(5));
    }
}

static void write_dedup(struct mr_buf *yaml, const uint8_t *v) {
    mr_buf_printf(yaml, ", dedup: { mode: %s", stream_values[MODE][v[MODE]]);
    if (v[MODE] != NONE) {
        mr_buf_printf(yaml, ", horizon: %s", stream_values[HORIZON][v[HORIZON]]);
    }
    if (has_table(v)) {
        mr_buf_printf(yaml, ", ids: %s, when_full: %s", stream_values[IDS][v[IDS]],
                      stream_values[WHEN_FULL][v[WHEN_FULL]]);
    }
    if (v[MODE] == REDIS) {
        mr_buf_printf(yaml, ", store: %s, layout: %s", stream_values[STORE][v[STORE]],
                      stream_values[LAYOUT][v[LAYOUT]]);
        if (v[OUTAGE] != 0 || below(2) == 0) {
            mr_buf_printf(yaml, ", outage: %s", stream_values[OUTAGE][v[OUTAGE]]);
        }
    }
    if (v[MODE] == BLOOM && (v[ERROR] != 0 || below(2) == 0)) {
        mr_buf_printf(yaml, ", error: %s", stream_values[ERROR][v[ERROR]]);
    }
    mr_buf_append_text(yaml, " }");
}

/* Defaults are now and then left out. */
static struct mr_config *spec_parse(const struct spec *s) {
    struct mr_buf yaml;
    mr_buf_init(&yaml, PRINT_MAX);
    write_shared(&yaml, s);
    mr_buf_append_text(&yaml, "streams:\n");
    for (int n = 0; n < NAMES; n++) {
        int i = place(s, n);
        const uint8_t *v = s->stream[i];
        if (!s->has_stream[i]) {
            continue;
        }
        mr_buf_printf(&yaml, "  %c: { id: %s, time: { field: %s, format: %s }", 'a' + i,
                      stream_values[ID][v[ID]], stream_values[TIME][v[TIME]],
                      stream_values[FORMAT][v[FORMAT]]);
        if (v[MISSING_ID] != 0 || below(2) == 0) {
            mr_buf_printf(&yaml, ", missing_id: %s", stream_values[MISSING_ID][v[MISSING_ID]]);
        }
        mr_buf_printf(&yaml, ", missing_time: %s", stream_values[MISSING_TIME][v[MISSING_TIME]]);
        write_dedup(&yaml, v);
        mr_buf_printf(&yaml, ", watermark: { out_of_orderness: %s, idle_timeout: %s, max_future: %s%s }",
                      stream_values[LATE_BY][v[LATE_BY]], stream_values[IDLE][v[IDLE]],
                      stream_values[FUTURE][v[FUTURE]], stream_values[SOURCE][v[SOURCE]]);
        mr_buf_printf(&yaml, ", derive: { %s } }\n", stream_values[DERIVE][v[DERIVE]]);
    }
    mr_buf_append_text(&yaml, "rules:\n");
    for (int n = 0; n < NAMES; n++) {
        int i = place(s, n);
        const uint8_t *v = s->rule[i];
        if (!s->has_rule[i]) {
            continue;
        }
        mr_buf_printf(&yaml, "  r%d: { from: %s%s, window: { %s }, metrics: %s, allowed_lateness: %s", i,
                      rule_values[FROM][v[FROM]], rule_values[WHERE][v[WHERE]],
                      rule_values[WINDOW][v[WINDOW]], rule_values[METRICS][v[METRICS]],
                      rule_values[LATENESS][v[LATENESS]]);
        mr_buf_printf(&yaml, ", trigger: { early: %s, late: %s, panes: %s }",
                      rule_values[EARLY][v[EARLY]], rule_values[LATE][v[LATE]],
                      rule_values[PANES][v[PANES]]);
        if (v[GROUP_BY] != 0 || below(2) == 0) {
            mr_buf_printf(&yaml, ", group_by: %s", rule_values[GROUP_BY][v[GROUP_BY]]);
        }
        mr_buf_printf(&yaml, ", groups: { max: %s, bytes: %s, when_full: %s } }\n",
                      rule_values[MAX][v[MAX]], rule_values[BYTES][v[BYTES]],
                      rule_values[GROUPS_FULL][v[GROUPS_FULL]]);
    }
    mr_buf_append_char(&yaml, 0);
    struct mr_config *config = parse((const char *)yaml.ptr);
    mr_buf_finish(&yaml);
    return config;
}

static bool model_refuses(const uint8_t *before, const uint8_t *now) {
    if (before[MODE] == NONE || now[MODE] == NONE) {
        return false;
    }
    bool forms_differ = (before[MODE] == BLOOM) != (now[MODE] == BLOOM) ||
                        (before[MODE] == REDIS) != (now[MODE] == REDIS);
    return before[ID] != now[ID] || forms_differ ||
           (now[MODE] == BLOOM && before[ERROR] != now[ERROR]);
}

static enum mr_change model_stream(const uint8_t *before, const uint8_t *now) {
    if ((before[MODE] == NONE) != (now[MODE] == NONE)) {
        return MR_CHANGE_ANEW;
    }
    if (now[MODE] == REDIS && (before[STORE] != now[STORE] || before[LAYOUT] != now[LAYOUT])) {
        return MR_CHANGE_ANEW;
    }
    if (now[MODE] == REDIS && has_table(before) != has_table(now)) {
        return MR_CHANGE_ANEW;
    }
    bool differs = false;
    for (int k = 0; k < STREAM_SETTINGS; k++) {
        bool counts = true;
        if (k == HORIZON) {
            counts = now[MODE] != NONE;
        } else if (k == IDS || k == WHEN_FULL) {
            counts = has_table(before) && has_table(now);
        } else if (k == STORE || k == LAYOUT || k == OUTAGE) {
            counts = now[MODE] == REDIS;
        } else if (k == ERROR) {
            counts = now[MODE] == BLOOM;
        }
        differs = differs || (counts && before[k] != now[k]);
    }
    return differs ? MR_CHANGE_LIVE : MR_CHANGE_NONE;
}

/* What x and w are under each of DERIVE's values, by hand: 0 is a field of the event. w is of an x, too. */
static const struct {
    uint8_t x;
    uint8_t w;
} derived[VALUES] = {{0, 0}, {1, 0}, {2, 0}, {1, 3}, {0, 4}};

static enum mr_change model_rule(const struct spec *a, const struct spec *b, int i) {
    const uint8_t *before = a->rule[i];
    const uint8_t *now = b->rule[i];
    if (before[FROM] != now[FROM] || before[GROUP_BY] != now[GROUP_BY] ||
        before[WHERE] != now[WHERE] || before[WINDOW] != now[WINDOW] ||
        before[PANES] != now[PANES] || before[METRICS] != now[METRICS]) {
        return MR_CHANGE_ANEW;
    }
    uint8_t was = a->stream[now[FROM]][DERIVE];
    uint8_t is = b->stream[now[FROM]][DERIVE];
    bool by_x = now[GROUP_BY] != 0 && derived[was].x != derived[is].x;
    bool by_w = now[WHERE] == 2 && derived[was].w != derived[is].w;
    if (by_x || by_w) {
        return MR_CHANGE_ANEW;
    }
    return memcmp(before, now, RULE_SETTINGS) == 0 ? MR_CHANGE_NONE : MR_CHANGE_LIVE;
}

/* Whether found agrees with the model, by the names of the configurations. */
static void assert_as_model(const struct spec *before, const struct spec *now,
                            const struct mr_config *config_before,
                            const struct mr_config *config_now,
                            const struct mr_config_change *found) {
    uint32_t streams_gone = 0;
    uint32_t rules_gone = 0;
    for (int i = 0; i < NAMES; i++) {
        char name[3] = {(char)('a' + i), 0, 0};
        uint32_t k = mr_config_stream_index(config_now, mr_bytes_text(name));
        streams_gone += before->has_stream[i] && !now->has_stream[i];
        if (now->has_stream[i]) {
            assert_int_equal(found->stream_of[k],
                             mr_config_stream_index(config_before, mr_bytes_text(name)));
            assert_int_equal(found->streams[k],
                             !before->has_stream[i]
                                 ? MR_CHANGE_NEW
                                 : model_stream(before->stream[i], now->stream[i]));
        }
        (void)snprintf(name, sizeof name, "r%d", i);
        k = mr_config_rule_index(config_now, mr_bytes_text(name));
        rules_gone += before->has_rule[i] && !now->has_rule[i];
        if (now->has_rule[i]) {
            assert_int_equal(found->rule_of[k],
                             mr_config_rule_index(config_before, mr_bytes_text(name)));
            assert_int_equal(found->rules[k], !before->has_rule[i]
                                                  ? MR_CHANGE_NEW
                                                  : model_rule(before, now, i));
        }
    }
    assert_int_equal(found->streams_gone, streams_gone);
    assert_int_equal(found->rules_gone, rules_gone);
}

static void agrees_with_the_model(void **state_) {
    (void)state_;
    uint32_t refused = 0;
    uint32_t same = 0;
    uint32_t anew = 0;
    enum { PAIRS = 1200 };
    for (int round = 0; round < PAIRS; round++) {
        struct spec a = spec_random();
        struct spec b = spec_changed(&a);
        struct mr_config *before = spec_parse(&a);
        struct mr_config *now = spec_parse(&b);
        if (round % 8 == 0) { /* as it is done: the old one was read from the log */
            struct mr_config *again = state_again(before);
            mr_config_close(before);
            before = again;
        }
        bool others = a.other_node != b.other_node || a.other_cluster != b.other_cluster;
        bool refuses = others && has_claims(&a) && has_claims(&b);
        for (int i = 0; i < NAMES; i++) {
            bool both = a.has_stream[i] && b.has_stream[i];
            refuses = refuses || (both && model_refuses(a.stream[i], b.stream[i]));
        }
        struct mr_config_change found;
        struct mr_error error = {0};
        assert_int_equal(mr_config_compare(before, now, &found, &error),
                         refuses ? MR_MISMATCH : MR_OK);
        if (!refuses) {
            assert_as_model(&a, &b, before, now, &found);
            for (uint32_t i = 0; i < now->rule_count; i++) {
                anew += found.rules[i] == MR_CHANGE_ANEW;
            }
            assert_int_equal(found.any, texts_differ(before, now));
        }
        refused += refuses;
        same += !refuses && !found.any;
        mr_config_close(before);
        mr_config_close(now);
    }
    assert_in_range(refused, PAIRS / 50, PAIRS / 2);
    assert_in_range(anew, PAIRS / 50, 3 * PAIRS);
    assert_in_range(same, PAIRS / 10, PAIRS - PAIRS / 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_the_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
