// SPDX-License-Identifier: Apache-2.0
//
// Exchanges between two teams: what the flow cannot see are fixed costs (a second NUMA node, an L3
// shared with a neighbour). Each pass tries every pair of fragments once; sizes differ by one at most,
// before and after. The number of trials is limited, so that the time is.
#include "pmix_server/topology/map_internal.h"

#include <errno.h>

enum { PASSES_MAX = 8, TRIALS_MAX = 60000 };

struct fragment {
    uint32_t team, domain;
};

struct search {
    struct pm_plan *plan;
    struct fragment *fragments;
    uint32_t n, trials;
    bool better;
};

static void list_fragments(struct search *s)
{
    s->n = 0;
    for (uint32_t t = 0; t <= s->plan->n_teams; t++)
        for (uint32_t d = 0; d < s->plan->n_domains; d++)
            if (*pm_quantity(s->plan, t, d))
                s->fragments[s->n++] = (struct fragment){t, d};
}

static bool may_have(const struct pm_plan *plan, uint32_t team, uint32_t domain)
{
    return team == plan->n_teams || plan->teams[team].kind == PM_PLACE_NONE ||
           plan->teams[team].kind == plan->domains[domain].kind;
}

static double worth_of_two(const struct pm_plan *plan, uint32_t a, uint32_t b)
{
    return pm_plan_worth_of(plan, a) + pm_plan_worth_of(plan, b) + pm_plan_worth_l3(plan);
}

// Does `n` of x go to y's team and `m` of y to x's, and is that better? If not, nothing has changed.
static bool exchange(struct search *s, struct fragment x, struct fragment y, uint32_t n, uint32_t m)
{
    double before = worth_of_two(s->plan, x.team, y.team);
    pm_plan_move(s->plan, x.team, y.team, x.domain, n);
    pm_plan_move(s->plan, y.team, x.team, y.domain, m);
    s->trials++;
    if (worth_of_two(s->plan, x.team, y.team) > before + 1e-6)
        return s->better = true;
    pm_plan_move(s->plan, y.team, x.team, x.domain, n);
    pm_plan_move(s->plan, x.team, y.team, y.domain, m);
    return false;
}

static uint32_t size(const struct pm_plan *plan, uint32_t team)
{
    return team == plan->n_teams ? 0 : plan->teams[team].size;
}

static void try_pair(struct search *s, struct fragment x, struct fragment y)
{
    struct pm_plan *plan = s->plan;
    if (x.team == y.team || x.domain == y.domain || !may_have(plan, x.team, y.domain) ||
        !may_have(plan, y.team, x.domain))
        return;
    uint32_t n = *pm_quantity(plan, x.team, x.domain), m = *pm_quantity(plan, y.team, y.domain);
    uint32_t both = n < m ? n : m;
    if (both == 0 || exchange(s, x, y, both, both))
        return;
    bool idle = x.team == plan->n_teams || y.team == plan->n_teams;
    if (!idle && n < m && size(plan, x.team) + 1 == size(plan, y.team))
        exchange(s, x, y, n, n + 1);
    else if (!idle && m < n && size(plan, y.team) + 1 == size(plan, x.team))
        exchange(s, x, y, m + 1, m);
}

static void try_all(struct search *s)
{
    for (uint32_t i = 0; i < s->n; i++)
        for (uint32_t j = i + 1; j < s->n && s->trials < TRIALS_MAX; j++)
            try_pair(s, s->fragments[i], s->fragments[j]);
}

int pm_plan_improve(struct pm_plan *plan)
{
    struct search s = {.plan = plan, .better = true};
    s.fragments = pm_plan_alloc(plan, (size_t)(plan->n_teams + 1) * plan->n_domains, sizeof(*s.fragments));
    if (!s.fragments)
        return -ENOMEM;
    for (uint32_t pass = 0; pass < PASSES_MAX && s.better && s.trials < TRIALS_MAX; pass++) {
        s.better = false;
        list_fragments(&s);
        try_all(&s);
    }
    return 0;
}
