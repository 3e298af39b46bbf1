/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/probes.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

static_assert((int)SIM_FAULT_COUNT < (int)SIM_PROBE_COUNT, "faults come first, so that one number names both");

static const struct {
    const char *name;
    const char *text;
} rows[SIM_PROBE_COUNT] = {
#define X(name, text) {#name, text},
    SIM_PROBES(X)
#undef X
};

const char *sim_probe_name(enum sim_probe probe) {
    return rows[probe].name;
}

uint32_t sim_probes_print(const uint64_t hits[SIM_PROBE_COUNT]) {
    uint32_t missed = 0;
    for (uint32_t i = 0; i < SIM_PROBE_COUNT; i++) {
        (void)printf("%10" PRIu64 "  %-19s %s%s\n", hits[i], rows[i].name, rows[i].text,
                     hits[i] == 0 ? "  <- never" : "");
        missed += hits[i] == 0;
    }
    return missed;
}
