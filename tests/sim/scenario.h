// SPDX-License-Identifier: Apache-2.0
//
// Scenarios with a name: a small world, what goes wrong in it and when. Each cell of the table of
// states in the design has at least one. scenario.c and
// scenario_places.c are the tables, command_traces.c runs them.
#ifndef PM_TESTS_SIM_SCENARIO_H
#define PM_TESTS_SIM_SCENARIO_H

#include "tests/sim/sim.h"

#define SCENARIO_FAULTS 5

// Strikes so long after the coordinator came into `state` of `epoch`; PM_STATE_NONE: after the
// launch.
struct scenario_fault {
    enum pm_state state;
    uint32_t epoch;
    uint32_t after_ms;
    struct sim_fault fault;
};

// What of the timeline is shown beside decisions, records, and what happens to ranks.
enum scenario_show {
    SHOW_TREE = 1,   // links, attachments, views
    SHOW_LOCAL = 2,  // what agents hear of their shims and servers
    SHOW_FENCES = 4,
    SHOW_PINGS = 8,
};

// Zero fields: 2 nodes of 1 rank, mode world, one fence, a life of about 5 s, T = 2 s, 3 restarts.
struct scenario {
    const char *name;
    const char *says; // what the design wants; the first line of the trace
    uint32_t nodes, per_node, fanout;
    uint32_t mode;     // enum pm_mode
    uint32_t restarts; // --pm-max-restarts; SCENARIO_ZERO: 0
    uint32_t spares;   // of the nodes
    uint32_t losses;   // --pm-max-node-losses; 0: unlimited
    uint32_t relaunch;   // --pm-relaunch, in a job of one node more
    uint32_t shrinks_to; // --pm-min-nodes, with --pm-shrink; 0: off
    uint32_t min_uptime_ms, backoff_ms, window_ms, grace_ms, orphan_ms, wait_ms, kill_wait_ms, life_ms;
    bool without_pmix;
    bool modex;
    bool health; // --pm-health
    bool fence;  // fence=, the site's program
    uint32_t blame;
    uint8_t sized; // SIM_SIZED_GPUS: 0 and 3 have 8
    uint32_t fence_piece;
    uint32_t show; // bits of enum scenario_show
    struct scenario_fault faults[SCENARIO_FAULTS];
};
#define SCENARIO_ZERO UINT32_MAX

// The i-th; NULL: there are no more.
const struct scenario *scenario_at(uint32_t i);

// The parameters of its world.
void scenario_params(const struct scenario *scenario, struct sim_params *ret);

#endif
