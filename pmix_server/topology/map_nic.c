// SPDX-License-Identifier: Apache-2.0
//
// The NIC of each GPU: the one with the nearest PCI ancestor in common, and of several such the one
// with the fewest ranks so far. A rank without a GPU takes one by its cores. Only the fabric
// counts, or Ethernet that can do RDMA where there is none; plain ports, second ports and links
// that are down are never named. Nor is a NIC on another package: there the fabric library knows no
// less than we do.
#include "pmix_server/topology/map_internal.h"

#include <errno.h>
#include <stdlib.h>

static bool works(const struct pm_machine_nic *nic)
{
    return nic->class <= PM_NIC_RDMA_ETHERNET && !nic->down && !nic->second_port;
}

// Of the best class that the machine has.
static bool usable(const struct pm_machine *machine, uint32_t nic)
{
    for (uint32_t i = 0; i < machine->n_nics; i++)
        if (works(&machine->nics[i]) && machine->nics[i].class < machine->nics[nic].class)
            return false;
    return works(&machine->nics[nic]);
}

bool pm_has_usable_nic(const struct pm_machine *machine)
{
    for (uint32_t i = 0; i < machine->n_nics; i++)
        if (works(&machine->nics[i]))
            return true;
    return false;
}

// As seen from some PUs, where PCI tells nothing.
static enum pm_rail rail_from(const struct pm_machine *machine, const struct pm_set *pus,
                              uint32_t nic)
{
    const struct pm_set *near = &machine->nics[nic].near;
    enum pm_rail rail = PM_RAIL_SYS;
    if (pm_set_empty(near) || pm_set_empty(pus))
        return PM_RAIL_SYS;
    for (uint32_t i = 0; i < machine->n_packages; i++)
        if (pm_set_intersects(&machine->packages[i].pus, pus) &&
            pm_set_intersects(&machine->packages[i].pus, near))
            rail = PM_RAIL_PACKAGE;
    for (uint32_t i = 0; i < machine->n_numas; i++)
        if (pm_set_intersects(&machine->numas[i].pus, pus) &&
            pm_set_intersects(&machine->numas[i].pus, near))
            rail = PM_RAIL_NODE;
    return rail;
}

// `place`: of a GPU, or NONE.
static enum pm_rail rail(const struct pm_machine *machine, const struct pm_bind_rank *rank,
                         uint32_t place, uint32_t nic)
{
    if (place == PM_PLACE_NONE)
        return rail_from(machine, &rank->pus, nic);
    if (!machine->rails)
        return rail_from(machine, &machine->gpus[place].near, nic);
    return machine->rails[(size_t)place * machine->n_nics + nic];
}

static struct pm_bind_nic nearest(const struct pm_machine *machine, const struct pm_bind_rank *rank,
                                  uint32_t place, const uint32_t *load)
{
    struct pm_bind_nic best = {PM_PLACE_NONE, PM_RAIL_SYS};
    for (uint32_t nic = 0; nic < machine->n_nics; nic++) {
        if (!usable(machine, nic))
            continue;
        enum pm_rail far = rail(machine, rank, place, nic);
        if (far < best.rail ||
            (far == best.rail && far < PM_RAIL_SYS && load[nic] < load[best.nic]))
            best = (struct pm_bind_nic){nic, far};
    }
    return best;
}

static void add(struct pm_bind_rank *rank, struct pm_bind_nic nic, uint32_t *load)
{
    if (nic.nic == PM_PLACE_NONE)
        return;
    uint32_t at = 0;
    while (at < rank->n_nics && rank->nics[at].nic != nic.nic)
        at++;
    if (at < rank->n_nics) {
        rank->nics[at].rail = nic.rail < rank->nics[at].rail ? nic.rail : rank->nics[at].rail;
        return;
    }
    load[nic.nic]++;
    rank->nics[rank->n_nics++] = nic;
}

static int best_first(const void *a, const void *b)
{
    const struct pm_bind_nic *x = a, *y = b;
    return x->rail != y->rail ? (x->rail > y->rail) - (x->rail < y->rail)
                              : (x->nic > y->nic) - (x->nic < y->nic);
}

static int choose(const struct pm_plan *plan, struct pm_bind_rank *rank, uint32_t *load)
{
    rank->nics = calloc((size_t)rank->n_gpus + 1, sizeof(*rank->nics));
    if (!rank->nics)
        return -ENOMEM;
    if (rank->n_gpus == 0)
        add(rank, nearest(plan->machine, rank, PM_PLACE_NONE, load), load);
    for (uint32_t i = 0; i < rank->n_gpus; i++)
        add(rank, nearest(plan->machine, rank, plan->request->gpus[rank->gpus[i]], load), load);
    qsort(rank->nics, rank->n_nics, sizeof(*rank->nics), best_first);
    return 0;
}

int pm_bind_nics(const struct pm_plan *plan, struct pm_binding *binding)
{
    uint32_t *load = calloc((size_t)plan->machine->n_nics + 1, sizeof(*load));
    int rc = load ? 0 : -ENOMEM;
    for (uint32_t r = 0; r < binding->n_ranks && rc == 0; r++)
        rc = choose(plan, &binding->ranks[r], load);
    free(load);
    return rc;
}
