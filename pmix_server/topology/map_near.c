// SPDX-License-Identifier: Apache-2.0
//
// What is near whom: domains and GPUs, domains and teams.
//
// A GPU whose place is unknown is near everything. One of whose near cores none was granted is near
// nothing; then the distance tells where to go: to its package first, and there to the nearest
// nodes.
#include "pmix_server/topology/map_internal.h"

#include <errno.h>
#include <string.h>

static const struct pm_set *near_of(const struct pm_plan *plan, uint32_t gpu)
{
    static const struct pm_set unknown;
    uint32_t place = plan->request->gpus[gpu];
    return place == PM_PLACE_NONE ? &unknown : &plan->machine->gpus[place].near;
}

static uint32_t hops(const struct pm_machine *machine, uint32_t a, uint32_t b)
{
    if (machine->numa_hops)
        return machine->numa_hops[(size_t)a * machine->n_numas + b];
    return a == b ? 10 : machine->numas[a].package == machine->numas[b].package ? 20 : 30;
}

enum { OTHER_PACKAGE = 256 };

// From the NUMA nodes near the GPU to the domain; another package is always farther.
static uint32_t distance(const struct pm_plan *plan, uint32_t gpu, uint32_t domain)
{
    const struct pm_machine *machine = plan->machine;
    const struct pm_domain *d = &plan->domains[domain];
    uint32_t least = 2 * OTHER_PACKAGE;
    for (uint32_t numa = 0; numa < machine->n_numas; numa++) {
        if (!pm_set_intersects(&machine->numas[numa].pus, near_of(plan, gpu)))
            continue;
        uint32_t far = hops(machine, numa, d->numa);
        far = far < OTHER_PACKAGE ? far : OTHER_PACKAGE - 1;
        far += machine->numas[numa].package == d->package ? 0 : OTHER_PACKAGE;
        least = far < least ? far : least;
    }
    return least;
}

static void place_gpu(struct pm_plan *plan, uint32_t gpu)
{
    const struct pm_set *pus = near_of(plan, gpu);
    bool *near = &plan->gpu_near[(size_t)gpu * plan->n_domains];
    bool *beside = &plan->gpu_beside[(size_t)gpu * plan->n_domains];
    for (uint32_t d = 0; d < plan->n_domains; d++) {
        const struct pm_domain *domain = &plan->domains[d];
        uint32_t pu = plan->pus[plan->units[domain->first].first];
        near[d] = pm_set_empty(pus) || pm_set_has(pus, pu);
        beside[d] = pm_set_empty(pus) ||
                    pm_set_intersects(&plan->machine->packages[domain->package].pus, pus);
    }
}

int pm_plan_near(struct pm_plan *plan)
{
    size_t n = (size_t)plan->request->n_gpus * plan->n_domains;
    plan->gpu_near = pm_plan_alloc(plan, n, sizeof(*plan->gpu_near));
    plan->gpu_beside = pm_plan_alloc(plan, n, sizeof(*plan->gpu_beside));
    if (!plan->gpu_near || !plan->gpu_beside)
        return -ENOMEM;
    for (uint32_t gpu = 0; gpu < plan->request->n_gpus; gpu++)
        place_gpu(plan, gpu);
    return 0;
}

// Adds to the team's rows what one (rank, GPU) pair says.
static void add_pair(struct pm_plan *plan, uint32_t team, uint32_t gpu)
{
    const size_t row = (size_t)team * plan->n_domains, from = (size_t)gpu * plan->n_domains;
    for (uint32_t d = 0; d < plan->n_domains; d++) {
        plan->near[row + d] += plan->gpu_near[from + d];
        plan->beside[row + d] += plan->gpu_beside[from + d];
        uint32_t far = distance(plan, gpu, d), *least = &plan->distance[row + d];
        *least = *least && *least < far ? *least : far;
    }
}

static void fill_team(struct pm_plan *plan, uint32_t t, uint32_t n_pairs)
{
    struct pm_team *team = &plan->teams[t];
    const size_t row = (size_t)t * plan->n_domains;
    uint32_t pairs = 0;
    for (uint32_t r = team->first_rank; plan->has_gpus && r < team->first_rank + team->n_ranks; r++)
        for (uint32_t i = 0; i < plan->gpus[r].n; i++, pairs++)
            add_pair(plan, t, plan->gpus[r].gpus[i]);
    for (uint32_t d = 0; d < plan->n_domains && pairs; d++) {
        plan->near[row + d] /= pairs;
        plan->beside[row + d] /= pairs;
    }
    team->pairs = n_pairs ? (double)pairs * plan->n_teams / n_pairs : 0;
}

// The team does not care which units it gets.
static bool indifferent(const struct pm_plan *plan, uint32_t team)
{
    const size_t at = (size_t)team * plan->n_domains;
    for (uint32_t d = 1; d < plan->n_domains; d++)
        if (plan->near[at + d] != plan->near[at] || plan->beside[at + d] != plan->beside[at] ||
            plan->distance[at + d] != plan->distance[at])
            return false;
    return true;
}

static bool same_class(const struct pm_plan *plan, uint32_t a, uint32_t b)
{
    const size_t n = plan->n_domains, bytes = n * sizeof(*plan->near);
    if (plan->teams[a].kind != plan->teams[b].kind)
        return false;
    if (indifferent(plan, a) && indifferent(plan, b))
        return true;
    return memcmp(&plan->near[a * n], &plan->near[b * n], bytes) == 0 &&
           memcmp(&plan->beside[a * n], &plan->beside[b * n], bytes) == 0 &&
           memcmp(&plan->distance[a * n], &plan->distance[b * n], n * sizeof(uint32_t)) == 0;
}

static int number_classes(struct pm_plan *plan)
{
    uint32_t *example = pm_plan_alloc(plan, plan->n_teams, sizeof(*example));
    if (!example)
        return -ENOMEM;
    plan->n_classes = 0;
    for (uint32_t t = 0; t < plan->n_teams; t++) {
        uint32_t i = 0;
        while (i < plan->n_classes && !same_class(plan, t, example[i]))
            i++;
        if (i == plan->n_classes)
            example[plan->n_classes++] = t;
        plan->teams[t].class = i;
    }
    return 0;
}

// Near units that the team can hope for: each one is split among those that it is near to.
static int count_enough(struct pm_plan *plan)
{
    uint32_t *rivals = pm_plan_alloc(plan, plan->n_domains, sizeof(*rivals));
    if (!rivals)
        return -ENOMEM;
    for (uint32_t t = 0; t < plan->n_teams; t++)
        for (uint32_t d = 0; d < plan->n_domains; d++)
            rivals[d] += plan->near[(size_t)t * plan->n_domains + d] > 0;
    for (uint32_t t = 0; t < plan->n_teams; t++) {
        double reach = 0;
        for (uint32_t d = 0; d < plan->n_domains; d++)
            if (plan->near[(size_t)t * plan->n_domains + d] > 0)
                reach += (double)plan->domains[d].n / rivals[d];
        uint32_t fair = plan->n_units / plan->n_teams, floor = (uint32_t)(reach + 1e-9);
        fair = floor < fair ? floor : fair;
        plan->teams[t].enough = reach > 0 && fair == 0 ? 1 : fair;
    }
    return 0;
}

// How many teams each kind of core gets: one each, if that is not too few PUs for a team; then one
// after the other goes where it finds the most PUs.
static uint32_t best_kind(const struct pm_plan *plan, const uint32_t *pus, const uint32_t *units,
                          const uint32_t *teams)
{
    uint32_t best = PM_PLACE_NONE;
    for (uint32_t kind = plan->n_kinds; kind-- > 0;) {
        if (teams[kind] >= units[kind])
            continue;
        uint64_t here = best == PM_PLACE_NONE ? 1 : (uint64_t)pus[kind] * (teams[best] + 1);
        uint64_t there = best == PM_PLACE_NONE ? 0 : (uint64_t)pus[best] * (teams[kind] + 1);
        bool crowded = best != PM_PLACE_NONE &&
                       (uint64_t)pus[kind] * teams[best] > (uint64_t)pus[best] * teams[kind];
        if (here > there || (here == there && crowded))
            best = kind;
    }
    return best;
}

// Teams of the fastest kind come first.
static int give_kinds(struct pm_plan *plan)
{
    uint32_t *count = pm_plan_alloc(plan, 3 * (size_t)plan->n_kinds, sizeof(*count));
    if (!count)
        return -ENOMEM;
    uint32_t *pus = count, *units = count + plan->n_kinds, *teams = units + plan->n_kinds;
    for (uint32_t i = 0; i < plan->n_units; i++) {
        uint32_t kind = plan->machine->cores[plan->units[i].core].kind;
        pus[kind] += plan->units[i].n;
        units[kind]++;
    }
    uint32_t given = 0;
    for (uint32_t kind = plan->n_kinds; kind-- > 0 && given < plan->n_teams;)
        given += teams[kind] = units[kind] && pus[kind] >= plan->n_pus / plan->n_teams;
    for (; given < plan->n_teams; given++)
        teams[best_kind(plan, pus, units, teams)]++;
    for (uint32_t t = 0, kind = plan->n_kinds; t < plan->n_teams; t++) {
        while (kind == plan->n_kinds || teams[kind] == 0)
            kind--;
        plan->teams[t].kind = kind;
        teams[kind]--;
    }
    return 0;
}

static int set_kinds(struct pm_plan *plan)
{
    plan->n_kinds = 1;
    for (uint32_t d = 0; d < plan->n_domains; d++)
        if (plan->domains[d].kind >= plan->n_kinds)
            plan->n_kinds = plan->domains[d].kind + 1;
    for (uint32_t t = 0; t < plan->n_teams; t++)
        plan->teams[t].kind = PM_PLACE_NONE;
    return plan->n_kinds == 1 || plan->request->options.mixed_kinds ? 0 : give_kinds(plan);
}

// A unit counts as one; where kinds of cores differ, as many as it has PUs.
static int set_capacities(struct pm_plan *plan)
{
    bool differ = false;
    plan->capacity = pm_plan_alloc(plan, plan->n_domains, sizeof(*plan->capacity));
    if (!plan->capacity)
        return -ENOMEM;
    for (uint32_t d = 0; d < plan->n_domains; d++)
        differ |= plan->domains[d].kind != plan->domains[0].kind;
    for (uint32_t d = 0; d < plan->n_domains; d++) {
        uint32_t pus = 0;
        for (uint32_t i = 0; i < plan->domains[d].n; i++)
            pus += plan->units[plan->domains[d].first + i].n;
        plan->capacity[d] = differ ? (double)pus / plan->domains[d].n : 1;
    }
    return 0;
}

int pm_plan_teams(struct pm_plan *plan)
{
    uint32_t n = plan->request->n_ranks, n_pairs = 0;
    plan->n_teams = n < plan->n_units ? n : plan->n_units;
    plan->teams = pm_plan_alloc(plan, plan->n_teams, sizeof(*plan->teams));
    plan->near = pm_plan_alloc(plan, (size_t)plan->n_teams * plan->n_domains, sizeof(*plan->near));
    plan->beside =
        pm_plan_alloc(plan, (size_t)plan->n_teams * plan->n_domains, sizeof(*plan->beside));
    plan->distance =
        pm_plan_alloc(plan, (size_t)plan->n_teams * plan->n_domains, sizeof(*plan->distance));
    if (!plan->teams || !plan->near || !plan->beside || !plan->distance)
        return -ENOMEM;
    for (uint32_t r = 0; plan->has_gpus && r < n; r++)
        n_pairs += plan->gpus[r].n;
    for (uint32_t t = 0, rank = 0; t < plan->n_teams; t++) {
        plan->teams[t].first_rank = rank;
        plan->teams[t].n_ranks =
            (uint32_t)(((t + 1ull) * n + plan->n_teams - 1) / plan->n_teams) - rank;
        rank += plan->teams[t].n_ranks;
        fill_team(plan, t, n_pairs);
    }
    int rc = set_kinds(plan);
    rc = rc < 0 ? rc : set_capacities(plan);
    rc = rc < 0 ? rc : number_classes(plan);
    return rc < 0 ? rc : count_enough(plan);
}
