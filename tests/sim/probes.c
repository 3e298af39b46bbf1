/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/probes.h"

#include <assert.h>

static_assert((int)SIM_FAULT_COUNT < (int)SIM_PROBE_COUNT, "faults come first, so that one number names both");

const struct sim_probe_row sim_probe_rows[SIM_PROBE_COUNT] = {
#define X(name, text) {#name, text},
    SIM_PROBES(X)
#undef X
};

const char *sim_probe_name(enum sim_probe probe) {
    return sim_probe_rows[probe].name;
}
