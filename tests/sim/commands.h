// SPDX-License-Identifier: Apache-2.0
//
// The commands of pm-sim; each has a file of its own, a row in main.c, and returns an exit status.
#ifndef PM_TESTS_SIM_COMMANDS_H
#define PM_TESTS_SIM_COMMANDS_H

#include "tests/sim/sim.h"

int sim_command_run(int argc, char **argv);   // command_run.c
int sim_command_links(int argc, char **argv); // command_links.c
int sim_command_plant(int argc, char **argv); // plant.c
int sim_command_traces(int argc, char **argv); // command_traces.c
int sim_command_explore(int argc, char **argv); // explore.c
int sim_command_scale(int argc, char **argv); // scale.c
int sim_command_costs(int argc, char **argv); // scale_costs.c

#endif
