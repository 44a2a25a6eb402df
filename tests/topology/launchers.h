// SPDX-License-Identifier: Apache-2.0
//
// What others do: Slurm without us, from the rules of its sources (the distribution of cores inside
// a node: block, or cyclic over sockets, which is the default; and how a task gets its GPUs), and
// mpibind (mpibind.h).
#ifndef TESTS_TOPOLOGY_LAUNCHERS_H
#define TESTS_TOPOLOGY_LAUNCHERS_H

#include "tests/topology/score.h"

struct launcher {
    const char *name;
    bool cyclic;
    // Fills in the GPUs of a rank that has its cores; NULL: it is mpibind.
    void (*gpus_of)(const struct score_case *c, struct score_rank *ranks, uint32_t rank);
    bool greedy; // of mpibind
};

enum { LAUNCHERS = 10, LAUNCHERS_OF_SLURM = 8 };
extern const struct launcher launchers[LAUNCHERS];

// Fills ranks[0 .. n_ranks - 1], which must be zeroed; ranks_done() frees what they hold. 0 or
// -ENOMEM.
int launch(const struct launcher *launcher, const struct score_case *c, struct score_rank *ranks);
void ranks_done(struct score_rank *ranks, uint32_t n);

#endif
