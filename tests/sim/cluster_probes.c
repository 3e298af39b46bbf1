/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/cluster_probes.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

static_assert((int)CLUSTER_FAULT_COUNT < (int)CLUSTER_PROBE_COUNT, "faults come first: one number names both");

static const struct {
    const char *name;
    const char *text;
} rows[CLUSTER_PROBE_COUNT] = {
#define X(name, text) {#name, text},
    CLUSTER_PROBES(X)
#undef X
};

const char *cluster_probe_name(enum cluster_probe probe) {
    return rows[probe].name;
}

uint32_t cluster_probes_print(const uint64_t hits[CLUSTER_PROBE_COUNT]) {
    uint32_t missed = 0;
    for (uint32_t i = 0; i < CLUSTER_PROBE_COUNT; i++) {
        (void)printf("%10" PRIu64 "  %-23s %s%s\n", hits[i], rows[i].name, rows[i].text,
                     hits[i] == 0 ? "  <- never" : "");
        missed += hits[i] == 0;
    }
    return missed;
}
