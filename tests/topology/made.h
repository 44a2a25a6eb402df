// SPDX-License-Identifier: Apache-2.0
//
// Machines made by hand: a regular tree of packages, NUMA nodes, L3s and cores, with what a test
// adds or changes. PUs are numbered as Linux does: first threads of all cores, then second ones.
#ifndef TESTS_TOPOLOGY_MADE_H
#define TESTS_TOPOLOGY_MADE_H

#include "pmix_server/topology/machine.h"

struct made_shape {
    uint32_t packages;
    uint32_t numas; // of each package
    uint32_t l3s;   // of each NUMA node; 0: the machine shows none
    uint32_t cores; // of each L3 (or NUMA node)
    uint32_t threads;
    uint32_t pu_first, pu_step; // numbers: pu_first + i * pu_step; step 0 counts as 1
};

// Ends the program if there is no memory. pm_machine_done() frees it.
struct pm_machine made_machine(struct made_shape shape);
// Near these PUs; the PCI address grows with each. Returns its place.
uint32_t made_gpu(struct pm_machine *m, enum pm_gpu_vendor vendor, const struct pm_set *near);
uint32_t made_nic(struct pm_machine *m, enum pm_nic_class class, const char *name,
                  const struct pm_set *near);
// After all GPUs and NICs: no rail is closer than a NUMA node or package tells.
void made_rails(struct pm_machine *m);

#endif
