// SPDX-License-Identifier: Apache-2.0
//
// Memory nodes of each rank: those of its PUs, as far as they have ordinary memory, else the
// nearest one that has. A policy is only set where it cannot make a program fail, unless the user
// asks for it.
#include "pmix_server/topology/map_internal.h"

// To prefer the only node there is says nothing.
static bool has_choice(const struct pm_machine *m)
{
    for (uint32_t i = 1; i < m->n_numas; i++)
        if (m->numas[i].memory_from != m->numas[0].memory_from)
            return true;
    return false;
}

static enum pm_bind_memory choose(enum pm_bind_memory wish, uint64_t n_nodes)
{
    if (wish != PM_MEMORY_AUTO)
        return n_nodes ? wish : PM_MEMORY_DEFAULT;
    return n_nodes == 1 ? PM_MEMORY_PREFER : PM_MEMORY_DEFAULT;
}

static int nodes_of(const struct pm_machine *machine, struct pm_bind_rank *rank)
{
    for (uint32_t i = 0; i < rank->n_cores; i++) {
        const struct pm_machine_numa *numa = &machine->numas[machine->cores[rank->cores[i]].numa];
        uint32_t node = numa->memory_bytes ? numa->os_index : numa->memory_from;
        int rc = node == PM_PLACE_NONE ? 0 : pm_set_add(&rank->memory_nodes, node);
        if (rc < 0)
            return rc;
    }
    return 0;
}

int pm_bind_memory(const struct pm_plan *plan, struct pm_binding *binding)
{
    enum pm_bind_memory wish = plan->request->options.memory;
    if (wish == PM_MEMORY_AUTO && !has_choice(plan->machine))
        wish = PM_MEMORY_DEFAULT;
    for (uint32_t r = 0; r < binding->n_ranks; r++) {
        struct pm_bind_rank *rank = &binding->ranks[r];
        int rc = nodes_of(plan->machine, rank);
        if (rc < 0)
            return rc;
        rank->memory = choose(wish, pm_set_count(&rank->memory_nodes));
    }
    return 0;
}
