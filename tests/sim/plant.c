// SPDX-License-Identifier: Apache-2.0
//
// pm-sim plant: does each checker fire?
#include "tests/sim/commands.h"

int sim_command_plant(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    return 2;
}
