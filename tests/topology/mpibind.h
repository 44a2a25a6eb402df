// SPDX-License-Identifier: Apache-2.0
//
// What LLNL's mpibind does (0.23), from the rules that its sources and its answers on real machines show:
//
//   greedy, fewer ranks than NUMA nodes: whole nodes in order, with all their hardware threads and GPUs.
//   else: each NUMA node has as many ranks as its part of the GPUs says (without GPUs, of the threads); there
//     the first level of caches or cores with an object for each thread is cut into blocks, and a rank
//     has one thread of each object of its block.
//
// Kinder than the original in three things: it knows which GPUs were granted, GPU memories are no NUMA
// nodes to it, and it does not crash on what a display's driver adds to a topology. Like the original it
// loses GPUs that no granted core is near to.
#ifndef TESTS_TOPOLOGY_MPIBIND_H
#define TESTS_TOPOLOGY_MPIBIND_H

#include "tests/topology/score.h"

// As launch() of launchers.h. 0 or -ENOMEM.
int mpibind(const struct score_case *c, bool greedy, struct score_rank *ranks);

#endif
