// SPDX-License-Identifier: Apache-2.0
//
// What scale mode measures: the life of one step from its launch to the loss of a node.
#ifndef PM_TESTS_SIM_SCALE_RUN_H
#define PM_TESTS_SIM_SCALE_RUN_H

#include "tests/sim/scale.h"

enum scale_phase {
    SCALE_JOIN = 0, // launch to the map on the last node
    SCALE_START,    // to all ranks started and known to run
    SCALE_FIRST,    // fence, whose set nobody knows yet
    SCALE_BARRIER,
    SCALE_DATA, // fence that collects
    SCALE_DETECT, // rank dies to decision
    SCALE_DOWN_SWEEP, // decision to the last agent's word to a shim to end its rank
    SCALE_UP_SWEEP,   // to the coordinator's next epoch
    SCALE_START_SWEEP, // to the last start message at a shim
    SCALE_SWEEPS,      // the three together
    SCALE_AGAIN,       // last start message to running
    SCALE_LOSS,        // host dies to decision
    SCALE_REPAIR,      // host dies to the last orphan's new parent
    SCALE_PHASE_MAX,
};
const char *scale_phase_name(enum scale_phase phase);

#define SCALE_SAMPLES_MAX 1000u

struct scale_sample {
    uint32_t n;
    uint64_t ns[SCALE_SAMPLES_MAX]; // sorted
    struct scale_load coordinator; // of the last one
    struct scale_load busiest;     // agent: the most of each, not of one
};

struct scale_plan {
    uint32_t barriers;
    uint32_t restarts;
    uint32_t data_fences;
    bool loss;
};

struct scale_result {
    struct scale_sample phases[SCALE_PHASE_MAX];
    uint64_t payload; // bytes of the whole collecting fence
    uint64_t core_mean, core_most, core_coordinator, world_bytes; // memory
    uint64_t events, frames, sealed;
    uint32_t depth;
    uint32_t orphans;
    long rss_mib; // of both processes, the most of each
    double cpu_s; // of the one that took longer
};

// In two processes, each with a world of its own: the restarts in one, all else in the other. NULL: that
// failed, and why has been said.
struct scale_result *scale_measure(const struct scale_config *config, const struct scale_plan *plan);
// q of 0..1; 0 without samples.
uint64_t scale_quantile(const struct scale_sample *s, double q);

#endif
