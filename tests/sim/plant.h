// SPDX-License-Identifier: Apache-2.0
//
// Planted violations; see plant.c.
#ifndef PM_TESTS_SIM_PLANT_H
#define PM_TESTS_SIM_PLANT_H

#include "tests/sim/commands.h"

// Runs the scenario of a planted violation, with the lie or without. True: nothing fired; else what did
// is in ret_violation (PM_TEXT_CAP).
bool sim_plant_run(enum sim_plant scenario, bool lie, FILE *trace, char *ret_violation);

#endif
