// SPDX-License-Identifier: Apache-2.0
//
// Which parts of a machine a step may have been granted: all of it, and ten kinds of less.
#ifndef TESTS_TOPOLOGY_CASES_H
#define TESTS_TOPOLOGY_CASES_H

#include "pmix_server/topology/machine.h"

struct grant {
    const char *name; // "all", "half of each package", ...
    struct pm_set allowed;
    uint32_t *gpus, n_gpus;
};

enum { GRANTS = 11 };

// The `kind`-th grant of a machine of which `usable` PUs can be used at all; 0 is all of it. 1 if
// this machine has no such part, 0, or -ENOMEM. grant_done() frees it.
int grant_of(const struct pm_machine *machine, const struct pm_set *usable, uint32_t kind,
             struct grant *ret_grant);
void grant_done(struct grant *grant);

#endif
