// SPDX-License-Identifier: Apache-2.0
//
// The table of faults: fault_strike.c has what each does, fault.c when it does so.
#ifndef PM_TESTS_SIM_FAULT_H
#define PM_TESTS_SIM_FAULT_H

#include "tests/sim/sim.h"

struct sim_fault_row {
    const char *name;
    void (*strike)(struct sim *s, const struct sim_fault *f);
    void (*heal)(struct sim *s, const struct sim_fault *f); // after ms; NULL: for good
    uint32_t arg_min, arg_max;
    uint32_t ms_min, ms_max;
    bool of_agents; // never the coordinator's slot
};

// slow_link.c: the link between f->node and f->peer, or any of f->node, until sim_slow_link_end().
void sim_slow_link_begin(struct sim *s, const struct sim_fault *f, uint32_t more_ms, uint32_t frame_us);
void sim_slow_link_end(struct sim *s, uint32_t slot); // of a node that has none: nothing

extern const struct sim_fault_row sim_fault_rows[SIM_FAULT_MAX];

#endif
