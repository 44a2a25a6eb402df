// SPDX-License-Identifier: Apache-2.0
//
// From a team's quantities to the PUs, cores and GPUs of each rank. In a domain with several owners
// those who also own the domain before come first, and those who own the next one last, so that
// what a rank has is in one piece where it can be.
#include "pmix_server/topology/map_internal.h"

#include <errno.h>
#include <stdlib.h>

struct owner {
    uint32_t side; // 0: owns the domain before, 2: owns the next, 1: neither
    uint32_t team;
};

static int compare_owners(const void *a, const void *b)
{
    const struct owner *x = a, *y = b;
    return x->side != y->side ? (x->side > y->side) - (x->side < y->side)
                              : (x->team > y->team) - (x->team < y->team);
}

static uint32_t list_owners(const struct pm_plan *plan, uint32_t domain, struct owner *owners)
{
    uint32_t n = 0;
    for (uint32_t t = 0; t < plan->n_teams; t++) {
        if (*pm_quantity(plan, t, domain) == 0)
            continue;
        bool before = domain > 0 && *pm_quantity(plan, t, domain - 1);
        bool after = domain + 1 < plan->n_domains && *pm_quantity(plan, t, domain + 1);
        owners[n++] = (struct owner){before ? 0 : after ? 2 : 1, t};
    }
    qsort(owners, n, sizeof(*owners), compare_owners);
    return n;
}

// Which team has each unit; n_teams: none.
static int own_units(struct pm_plan *plan, uint32_t *team_of)
{
    struct owner *owners = pm_plan_alloc(plan, plan->n_teams, sizeof(*owners));
    if (!owners)
        return -ENOMEM;
    for (uint32_t d = 0; d < plan->n_domains; d++) {
        uint32_t at = plan->domains[d].first, n = list_owners(plan, d, owners);
        for (uint32_t i = 0; i < n; i++)
            for (uint32_t j = 0; j < *pm_quantity(plan, owners[i].team, d); j++)
                team_of[at++] = owners[i].team;
        while (at < plan->domains[d].first + plan->domains[d].n)
            team_of[at++] = plan->n_teams;
    }
    return 0;
}

static int add_unit(const struct pm_plan *plan, const struct pm_unit *unit,
                    struct pm_bind_rank *rank)
{
    for (uint32_t i = 0; i < unit->n; i++)
        if (pm_set_add(&rank->pus, plan->pus[unit->first + i]) < 0)
            return -ENOMEM;
    return 0;
}

// Teams in the order in which ranks get them: that of the ranks' GPUs, or of their first core.
struct turn {
    uint32_t first_core, team;
};

static int compare_turns(const void *a, const void *b)
{
    const struct turn *x = a, *y = b;
    return x->first_core != y->first_core
               ? (x->first_core > y->first_core) - (x->first_core < y->first_core)
               : (x->team > y->team) - (x->team < y->team);
}

static struct turn *take_turns(struct pm_plan *plan, const uint32_t *team_of)
{
    struct turn *turns = pm_plan_alloc(plan, plan->n_teams, sizeof(*turns));
    for (uint32_t t = 0; turns && t < plan->n_teams; t++)
        turns[t] = (struct turn){PM_PLACE_NONE, t};
    for (uint32_t i = plan->n_units; turns && i-- > 0;)
        if (team_of[i] < plan->n_teams && plan->units[i].core < turns[team_of[i]].first_core)
            turns[team_of[i]].first_core = plan->units[i].core;
    bool by_core = plan->request->options.order == PM_ORDER_CORE || !plan->has_gpus;
    if (turns && by_core && !plan->request->given)
        qsort(turns, plan->n_teams, sizeof(*turns), compare_turns);
    return turns;
}

static int give_units(const struct pm_plan *plan, const uint32_t *team_of, uint32_t team,
                      struct pm_bind_rank *rank)
{
    for (uint32_t i = 0; i < plan->n_units; i++)
        if (team_of[i] == team && add_unit(plan, &plan->units[i], rank) < 0)
            return -ENOMEM;
    return 0;
}

// The GPUs of a team's ranks follow it to the numbers that it gets.
static int give_teams(struct pm_plan *plan, const uint32_t *team_of, struct pm_binding *binding)
{
    struct turn *turns = take_turns(plan, team_of);
    struct pm_gpu_list *gpus = pm_plan_alloc(plan, binding->n_ranks, sizeof(*gpus));
    if (!turns || !gpus)
        return -ENOMEM;
    uint32_t rank = 0;
    for (uint32_t i = 0; i < plan->n_teams; i++) {
        const struct pm_team *team = &plan->teams[turns[i].team];
        for (uint32_t j = 0; j < team->n_ranks; j++, rank++) {
            if (plan->gpus)
                gpus[rank] = plan->gpus[team->first_rank + j];
            if (give_units(plan, team_of, turns[i].team, &binding->ranks[rank]) < 0)
                return -ENOMEM;
        }
    }
    plan->gpus = plan->gpus ? gpus : NULL;
    return 0;
}

// Mode numa: everything that was granted of the NUMA nodes that the rank has a part of.
static int widen(const struct pm_plan *plan, struct pm_bind_rank *rank)
{
    struct pm_set narrow = {0};
    int rc = pm_set_copy(&narrow, &rank->pus);
    for (uint32_t i = 0; i < plan->n_units && rc == 0; i++) {
        uint32_t numa = plan->machine->cores[plan->units[i].core].numa;
        if (pm_set_intersects(&narrow, &plan->machine->numas[numa].pus))
            rc = add_unit(plan, &plan->units[i], rank);
    }
    pm_set_done(&narrow);
    return rc;
}

int pm_bind_pus(struct pm_plan *plan, struct pm_binding *binding)
{
    uint32_t *team_of = pm_plan_alloc(plan, plan->n_units, sizeof(*team_of));
    if (!team_of)
        return -ENOMEM;
    int rc = own_units(plan, team_of);
    if (rc == 0)
        rc = give_teams(plan, team_of, binding);
    for (uint32_t r = 0; r < binding->n_ranks && rc == 0; r++)
        if (plan->request->options.mode == PM_BIND_NUMA)
            rc = widen(plan, &binding->ranks[r]);
    return rc;
}

int pm_bind_given_pus(const struct pm_plan *plan, struct pm_binding *binding)
{
    for (uint32_t r = 0; r < binding->n_ranks; r++)
        if (pm_set_copy(&binding->ranks[r].pus, plan->request->given[r].pus) < 0)
            return -ENOMEM;
    return 0;
}

static uint32_t count_threads(const struct pm_plan *plan, const struct pm_bind_rank *rank)
{
    const struct pm_bind_options *options = &plan->request->options;
    uint32_t pus = (uint32_t)pm_set_count(&rank->pus);
    if (options->cpus)
        return options->cpus < pus ? options->cpus : pus;
    return options->smt ? pus : rank->n_cores;
}

static int give_cores(const struct pm_plan *plan, struct pm_bind_rank *rank)
{
    const struct pm_machine *machine = plan->machine;
    rank->cores = calloc((size_t)pm_set_count(&rank->pus), sizeof(*rank->cores));
    if (!rank->cores)
        return -ENOMEM;
    for (uint32_t i = 0; i < machine->n_cores; i++)
        if (pm_set_intersects(&machine->cores[i].pus, &rank->pus))
            rank->cores[rank->n_cores++] = i;
    rank->threads = count_threads(plan, rank);
    return 0;
}

static int give_gpus(const struct pm_gpu_list *list, struct pm_bind_rank *rank)
{
    rank->gpus = calloc((size_t)list->n + 1, sizeof(*rank->gpus));
    if (!rank->gpus)
        return -ENOMEM;
    for (rank->n_gpus = 0; rank->n_gpus < list->n; rank->n_gpus++)
        rank->gpus[rank->n_gpus] = list->gpus[rank->n_gpus];
    return 0;
}

int pm_bind_cores_and_gpus(const struct pm_plan *plan, struct pm_binding *binding)
{
    static const struct pm_gpu_list none;
    for (uint32_t r = 0; r < binding->n_ranks; r++) {
        struct pm_bind_rank *rank = &binding->ranks[r];
        const struct pm_gpu_list *gpus = plan->gpus ? &plan->gpus[r] : &none;
        if (give_cores(plan, rank) < 0 || give_gpus(gpus, rank) < 0)
            return -ENOMEM;
    }
    return 0;
}
