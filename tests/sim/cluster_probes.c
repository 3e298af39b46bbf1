/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/cluster_probes.h"

#include <assert.h>

static_assert((int)CLUSTER_FAULT_COUNT < (int)CLUSTER_PROBE_COUNT, "faults come first: one number names both");

const struct sim_probe_row cluster_probe_rows[CLUSTER_PROBE_COUNT] = {
#define X(name, text) {#name, text},
    CLUSTER_PROBES(X)
#undef X
};

const char *cluster_probe_name(enum cluster_probe probe) {
    return cluster_probe_rows[probe].name;
}
