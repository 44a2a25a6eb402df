// SPDX-License-Identifier: Apache-2.0
//
// What the tables of scenarios are written with. See scenario.h.
#ifndef PM_TESTS_SIM_SCENARIO_PARTS_H
#define PM_TESTS_SIM_SCENARIO_PARTS_H

#include "tests/sim/scenario.h"

#define COORDINATOR PM_NODE_COORDINATOR
#define NOW(...)    {PM_STATE_NONE, 0, __VA_ARGS__}
#define IN(state, epoch, ...) {PM_STATE_##state, epoch, __VA_ARGS__}
#define FAULT(name, ...)      {.kind = SIM_FAULT_##name, __VA_ARGS__}

extern const struct scenario scenarios_of_places[];
extern const uint32_t n_scenarios_of_places;

#endif
