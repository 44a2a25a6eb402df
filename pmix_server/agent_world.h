// SPDX-License-Identifier: Apache-2.0
//
// The world as its ranks see it where some nodes of the step may have none (spares, or lost ones): only those that
// have, in the order of their lowest rank. So a spare that takes a node's place takes its index, too, and what
// programs compute from index and size stays true.
#ifndef PM_AGENT_WORLD_H
#define PM_AGENT_WORLD_H

#include <stdint.h>

#include "pmix_server/wire/set.h"

struct agent;

struct pm_agent_world {
    uint32_t map_version; // of the map that it was made from
    uint32_t n;           // nodes
    uint32_t own;         // index of this node; UINT32_MAX: it has no ranks
    struct pm_set *ranks; // n sets, borrowed from the core's world
    char *nodelist;       // n names
    char *tasks_per_node; // as Slurm writes it: "8(x64),4"
    char *gtids;          // this node's ranks, "24,25,26,27"
};

// Of the world that the core knows now; NULL: it knows none, ranks never move (then it is the whole step),
// or there is no memory. Borrowed until the next map.
const struct pm_agent_world *pm_agent_world(struct agent *a);
void pm_agent_world_done(struct agent *a);

#endif
