// SPDX-License-Identifier: Apache-2.0
//
// pm-sim run --seed N [--trace]     one world; with its timeline on stdout
// pm-sim run --seeds A-B            many; one line per failure, with the command that replays it
// pm-sim run --list FILE            seeds that once failed
// pm-sim plant [NAME]               does each checker fire?
// pm-sim links                      do TCP and clocks behave as told?
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "tests/sim/commands.h"

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *help;
} commands[] = {
    {"run", sim_command_run, "[--profile swarm|spares] --seed N [--trace | --trace-all] | --seeds A-B [--seconds S] [--cells] | --list FILE"},
    {"plant", sim_command_plant, "[NAME]"},
    {"links", sim_command_links, ""},
    {"traces", sim_command_traces, "DIR [--update] [NAME...]"},
    {"explore", sim_command_explore,
     "[--nodes N] [--spares N] [--shrink] [--relaunch] [--faults F] [--from STATE] [--only FAULT] [--ranks-end] [--must-close] "
     "[--latency-us L] [--delay-us D] [--every-order] [--seconds S] [--mib M] [--states N] [--audit]"},
    {"scale", sim_command_scale, "[--nodes N] [--ranks-per-node N] [--fanout N] [--hop-us N] ..."},
    {"costs", sim_command_costs, ""},
};

int main(int argc, char **argv)
{
    for (size_t i = 0; argc > 1 && i < sizeof(commands) / sizeof(*commands); i++)
        if (!strcmp(argv[1], commands[i].name))
            return commands[i].run(argc - 1, argv + 1);
    fprintf(stderr, "usage:\n");
    for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++)
        fprintf(stderr, "  pm-sim %s %s\n", commands[i].name, commands[i].help);
    return 2;
}
