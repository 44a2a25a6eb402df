// SPDX-License-Identifier: Apache-2.0
//
// What a distribution of units is worth: the parts and weights of doc/pinning.md that depend on it,
// as sums that each move of some units keeps up to date, so that thousands of exchanges can be
// tried. The score of tests/topology/ is another one, taken from the finished map.
#include "pmix_server/topology/map_internal.h"

#include <errno.h>
#include <stdlib.h>

struct weights {
    double enough, near, beside, used, balance, numa, l3;
};
static const struct weights with_gpus = {25, 10, 5, 10, 10, 5, 5};
static const struct weights without_gpus = {0, 0, 0, 33, 33, 17, 17};

static const struct weights *weights(const struct pm_plan *plan)
{
    return plan->has_gpus ? &with_gpus : &without_gpus;
}

// `n` may be negative: two's complement does the rest.
static void change_numa(struct pm_plan *plan, uint32_t team, uint32_t domain, uint32_t n)
{
    uint32_t *in = &plan->in_numa[(size_t)team * plan->n_numas + plan->numas[domain]];
    bool was = *in > 0;
    *in += n;
    plan->teams[team].spans += (uint32_t)(*in > 0) - (uint32_t)was;
}

static void change_l3(struct pm_plan *plan, uint32_t team, uint32_t domain, uint32_t n)
{
    uint32_t l3 = plan->l3s[domain];
    if (l3 == PM_PLACE_NONE)
        return;
    uint32_t *in = &plan->in_l3[(size_t)team * plan->n_l3s + l3], *owners = &plan->l3_owners[l3];
    bool was = *in > 0, was_shared = *owners > 1;
    *in += n;
    *owners += plan->teams[team].n_ranks * ((uint32_t)(*in > 0) - (uint32_t)was);
    plan->l3_shared += (uint32_t)(*owners > 1) - (uint32_t)was_shared;
}

static void change(struct pm_plan *plan, uint32_t t, uint32_t domain, int64_t n)
{
    struct pm_team *team = &plan->teams[t];
    const size_t at = (size_t)t * plan->n_domains + domain;
    *pm_quantity(plan, t, domain) += (uint32_t)n;
    if (t == plan->n_teams)
        return;
    team->stale = true;
    team->size += (uint32_t)n;
    team->held += plan->near[at] > 0 ? (uint32_t)n : 0;
    team->near += (double)n * plan->near[at];
    team->beside += (double)n * plan->beside[at];
    team->capacity += (double)n * plan->capacity[domain];
    change_numa(plan, t, domain, (uint32_t)n);
    change_l3(plan, t, domain, (uint32_t)n);
}

void pm_plan_move(struct pm_plan *plan, uint32_t from, uint32_t to, uint32_t domain, uint32_t n)
{
    change(plan, from, domain, -(int64_t)n);
    change(plan, to, domain, n);
}

static int smaller_first(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

// L3s that nobody would have to share if all units were dealt out in equal shares: the smallest
// ones, each to the team whose room it fits best.
static uint32_t count_unshared(const struct pm_plan *plan, uint32_t *l3_sizes, uint32_t *room)
{
    uint32_t n = 0;
    for (uint32_t d = 0; d < plan->n_domains; d++)
        if (plan->l3s[d] != PM_PLACE_NONE)
            l3_sizes[plan->l3s[d]] += plan->domains[d].n;
    qsort(l3_sizes, plan->n_l3s, sizeof(*l3_sizes), smaller_first);
    for (uint32_t t = 0; t < plan->n_teams; t++)
        room[t] = plan->teams[t].n_ranks == 1 ? pm_part(plan->n_units, plan->n_teams, t) : 0;
    for (; n < plan->n_l3s; n++) {
        uint32_t best = PM_PLACE_NONE;
        for (uint32_t t = 0; t < plan->n_teams; t++)
            if (room[t] >= l3_sizes[n] && (best == PM_PLACE_NONE || room[t] < room[best]))
                best = t;
        if (best == PM_PLACE_NONE)
            break;
        room[best] -= l3_sizes[n];
    }
    return n;
}

int pm_plan_start(struct pm_plan *plan)
{
    const size_t n = plan->n_teams;
    plan->quantity = pm_plan_alloc(plan, (n + 1) * plan->n_domains, sizeof(uint32_t));
    plan->in_l3 = pm_plan_alloc(plan, n * plan->n_l3s, sizeof(uint32_t));
    plan->in_numa = pm_plan_alloc(plan, n * plan->n_numas, sizeof(uint32_t));
    plan->l3_owners = pm_plan_alloc(plan, plan->n_l3s, sizeof(uint32_t));
    uint32_t *sizes = pm_plan_alloc(plan, plan->n_l3s, sizeof(*sizes));
    uint32_t *room = pm_plan_alloc(plan, n, sizeof(*room));
    if (!plan->quantity || !plan->in_l3 || !plan->in_numa || !plan->l3_owners || !sizes || !room)
        return -ENOMEM;
    for (uint32_t d = 0; d < plan->n_domains; d++)
        *pm_quantity(plan, plan->n_teams, d) = plan->domains[d].n;
    plan->l3_shared = 0;
    plan->l3_unavoidable = plan->n_l3s - count_unshared(plan, sizes, room);
    return 0;
}

void pm_plan_reset(struct pm_plan *plan)
{
    for (uint32_t t = 0; t < plan->n_teams; t++)
        for (uint32_t d = 0; d < plan->n_domains; d++)
            if (*pm_quantity(plan, t, d))
                pm_plan_move(plan, t, plan->n_teams, d, *pm_quantity(plan, t, d));
    for (uint32_t t = 0; t < plan->n_teams; t++) // no rounding stays behind
        plan->teams[t].near = plan->teams[t].beside = plan->teams[t].capacity = 0;
}

static double compute_worth(const struct pm_plan *plan, const struct pm_team *team)
{
    const struct weights *w = weights(plan);
    if (team->size == 0)
        return 0;
    double enough = team->held >= team->enough ? 1 : (double)team->held / team->enough;
    return (w->enough * enough + w->numa * plan->fewest[team->size] / team->spans +
            team->pairs * (w->near * team->near + w->beside * team->beside) / team->size) /
           plan->n_teams;
}

double pm_plan_worth_of(const struct pm_plan *plan, uint32_t t)
{
    struct pm_team *team = &plan->teams[t];
    if (t == plan->n_teams)
        return 0;
    if (team->stale)
        team->worth = compute_worth(plan, team);
    team->stale = false;
    return team->worth;
}

bool pm_plan_has_all(const struct pm_plan *plan, uint32_t t)
{
    const struct weights *w = weights(plan);
    if (t == plan->n_teams)
        return true;
    double all = w->enough + w->numa + plan->teams[t].pairs * (w->near + w->beside);
    return pm_plan_worth_of(plan, t) * plan->n_teams > all - 1e-6;
}

double pm_plan_worth_l3(const struct pm_plan *plan)
{
    uint32_t shared = plan->l3_shared, free = plan->l3_unavoidable;
    return shared <= free ? 0 : -weights(plan)->l3 * (shared - free) / plan->n_l3s;
}

static double balance(const struct pm_plan *plan)
{
    double least = plan->teams[0].capacity, most = least;
    for (uint32_t t = 1; t < plan->n_teams; t++) {
        least = plan->teams[t].capacity < least ? plan->teams[t].capacity : least;
        most = plan->teams[t].capacity > most ? plan->teams[t].capacity : most;
    }
    uint32_t floor = plan->n_units / plan->n_teams,
             ceil = floor + (plan->n_units % plan->n_teams > 0);
    double ratio = most > 0 ? least / most * ceil / floor : 0;
    return ratio < 1 ? ratio : 1;
}

// The part of the capacity that is used.
static double used_part(const struct pm_plan *plan)
{
    double used = 0, all = 0;
    for (uint32_t t = 0; t < plan->n_teams; t++)
        used += plan->teams[t].capacity;
    for (uint32_t d = 0; d < plan->n_domains; d++)
        all += plan->capacity[d] * plan->domains[d].n;
    return used / all;
}

double pm_plan_worth(const struct pm_plan *plan)
{
    double worth = pm_plan_worth_l3(plan);
    for (uint32_t t = 0; t < plan->n_teams; t++) {
        if (plan->teams[t].size == 0)
            return 0;
        worth += pm_plan_worth_of(plan, t);
    }
    return worth + weights(plan)->used * used_part(plan) + weights(plan)->balance * balance(plan);
}

// L3s only cost.
double pm_plan_worth_of_all(const struct pm_plan *plan)
{
    const struct weights *w = weights(plan);
    return w->enough + w->near + w->beside + w->used + w->balance + w->numa;
}
