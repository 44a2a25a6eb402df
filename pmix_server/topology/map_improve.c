// SPDX-License-Identifier: Apache-2.0
//
// Small changes that the flow cannot see, because they are about fixed costs (a second NUMA node,
// an L3 shared with a neighbour): exchanges between two teams of what they have in two domains, or
// in two NUMA nodes, and single units that are taken up or left idle. A change is kept if the worth
// grows. Within a kind of cores, sizes differ by one at most, before and after. The number of
// trials is limited, so that the time is.
#include "pmix_server/topology/map_internal.h"

#include <errno.h>

enum { PASSES_MAX = 8, TRIALS_MAX = 12000, TRIALS_IN_ALL = 26000, CELLS_PER_TRIAL = 8 };

struct search {
    struct pm_plan *plan;
    struct pm_fragment *fragments;
    struct pm_unit_move *moves; // of the change at hand
    uint32_t n, n_moves, trials;
    bool better;
};

static void move(struct search *s, uint32_t from, uint32_t to, uint32_t domain, uint32_t n)
{
    pm_plan_move(s->plan, from, to, domain, n);
    s->moves[s->n_moves++] = (struct pm_unit_move){from, to, domain, n};
}

// Keeps the moves, or takes them back.
static bool decide(struct search *s, bool better)
{
    s->trials++;
    for (uint32_t i = s->n_moves; i-- > 0 && !better;)
        pm_plan_move(s->plan, s->moves[i].to, s->moves[i].from, s->moves[i].domain, s->moves[i].n);
    s->n_moves = 0;
    s->better |= better;
    return better;
}

static bool may_have(const struct pm_plan *plan, uint32_t team, uint32_t domain)
{
    if (team == plan->n_teams)
        return true;
    if (plan->near_only && plan->near[(size_t)team * plan->n_domains + domain] == 0)
        return false;
    return plan->teams[team].kind == PM_PLACE_NONE ||
           plan->teams[team].kind == plan->domains[domain].kind;
}

static double worth_of_two(const struct pm_plan *plan, uint32_t a, uint32_t b)
{
    return pm_plan_worth_of(plan, a) + pm_plan_worth_of(plan, b) + pm_plan_worth_l3(plan);
}

// ---- two domains ----

static bool exchange(struct search *s, struct pm_fragment x, struct pm_fragment y, uint32_t n,
                     uint32_t m)
{
    double before = worth_of_two(s->plan, x.team, y.team);
    move(s, x.team, y.team, x.domain, n);
    move(s, y.team, x.team, y.domain, m);
    return decide(s, worth_of_two(s->plan, x.team, y.team) > before + 1e-6);
}

static uint32_t size(const struct pm_plan *plan, uint32_t team)
{
    return team == plan->n_teams ? 0 : plan->teams[team].size;
}

// What the team's GPUs gain if a unit of `to` replaces one of `from`.
static double nearer(const struct pm_plan *plan, uint32_t team, uint32_t from, uint32_t to)
{
    if (team == plan->n_teams)
        return 0;
    const double *near = &plan->near[(size_t)team * plan->n_domains];
    const double *beside = &plan->beside[(size_t)team * plan->n_domains];
    return ((near[to] - near[from]) * 2 + beside[to] - beside[from]) * plan->teams[team].pairs /
           plan->teams[team].size;
}

static bool leaves_numa(const struct pm_plan *plan, struct pm_fragment x, uint32_t n)
{
    return x.team < plan->n_teams &&
           plan->in_numa[(size_t)x.team * plan->n_numas + plan->numas[x.domain]] == n;
}

static bool changes_near(const struct pm_plan *plan, uint32_t team, uint32_t a, uint32_t b)
{
    const double *near = &plan->near[(size_t)team * plan->n_domains];
    return team < plan->n_teams && (near[a] > 0) != (near[b] > 0);
}

// A quick look whether an exchange of n units can be worth anything; most cannot.
static bool may_gain(const struct pm_plan *plan, struct pm_fragment x, struct pm_fragment y,
                     uint32_t n)
{
    if (pm_plan_worth_l3(plan) < 0)
        return true;
    if (plan->numas[x.domain] != plan->numas[y.domain] &&
        (leaves_numa(plan, x, n) || leaves_numa(plan, y, n)))
        return true;
    return changes_near(plan, x.team, x.domain, y.domain) ||
           changes_near(plan, y.team, x.domain, y.domain) ||
           nearer(plan, x.team, x.domain, y.domain) + nearer(plan, y.team, y.domain, x.domain) >
               1e-9;
}

static void try_domains(struct search *s, struct pm_fragment x, struct pm_fragment y)
{
    struct pm_plan *plan = s->plan;
    if (x.domain == y.domain || !may_have(plan, x.team, y.domain) ||
        !may_have(plan, y.team, x.domain))
        return;
    uint32_t n = *pm_quantity(plan, x.team, x.domain), m = *pm_quantity(plan, y.team, y.domain);
    uint32_t both = n < m ? n : m;
    if (both == 0 || !may_gain(plan, x, y, both) || exchange(s, x, y, both, both))
        return;
    bool fairness = changes_near(plan, x.team, x.domain, y.domain) ||
                    changes_near(plan, y.team, x.domain, y.domain);
    if (both > 1 && fairness && exchange(s, x, y, 1, 1))
        return;
    bool idle = x.team == plan->n_teams || y.team == plan->n_teams;
    if (!idle && n < m && size(plan, x.team) + 1 == size(plan, y.team))
        exchange(s, x, y, n, n + 1);
    else if (!idle && m < n && size(plan, y.team) + 1 == size(plan, x.team))
        exchange(s, x, y, m + 1, m);
}

static void list_domains(struct search *s)
{
    s->n = 0;
    for (uint32_t t = 0; t <= s->plan->n_teams; t++)
        for (uint32_t d = 0; d < s->plan->n_domains; d++)
            if (*pm_quantity(s->plan, t, d))
                s->fragments[s->n++] = (struct pm_fragment){t, d};
}

// ---- two NUMA nodes ----

static uint32_t *in_numa(const struct pm_plan *plan, struct pm_fragment x)
{
    return &plan->in_numa[(size_t)x.team * plan->n_numas + x.domain];
}

static void move_numa(struct search *s, struct pm_fragment x, uint32_t to, uint32_t n)
{
    for (uint32_t d = 0; d < s->plan->n_domains && n; d++) {
        uint32_t have = *pm_quantity(s->plan, x.team, d);
        if (s->plan->numas[d] != x.domain || have == 0)
            continue;
        have = have < n ? have : n;
        move(s, x.team, to, d, have);
        n -= have;
    }
}

static void try_numas(struct search *s, struct pm_fragment x, struct pm_fragment y)
{
    uint32_t n = *in_numa(s->plan, x), m = *in_numa(s->plan, y);
    n = n < m ? n : m;
    const struct pm_team *a = &s->plan->teams[x.team], *b = &s->plan->teams[y.team];
    bool compact = a->spans == s->plan->fewest[a->size] && b->spans == s->plan->fewest[b->size];
    if (x.domain == y.domain || n == 0 || a->kind != b->kind ||
        (compact && pm_plan_worth_l3(s->plan) >= 0))
        return;
    double before = worth_of_two(s->plan, x.team, y.team);
    move_numa(s, x, y.team, n);
    // What y gives was in y's node before: what came from x is in another one.
    move_numa(s, y, x.team, n);
    decide(s, worth_of_two(s->plan, x.team, y.team) > before + 1e-6);
}

static void list_numas(struct search *s)
{
    s->n = 0;
    for (uint32_t t = 0; t < s->plan->n_teams; t++)
        for (uint32_t numa = 0; numa < s->plan->n_numas; numa++)
            if (*in_numa(s->plan, (struct pm_fragment){t, numa}))
                s->fragments[s->n++] = (struct pm_fragment){t, numa};
}

// ---- one unit more or less ----

// Whether nobody of its kind would differ by more than one from a team of this size.
static bool size_agrees(const struct pm_plan *plan, uint32_t team, uint32_t its_size)
{
    for (uint32_t t = 0; t < plan->n_teams; t++)
        if (t != team && plan->teams[t].kind == plan->teams[team].kind &&
            (plan->teams[t].size > its_size + 1 || its_size > plan->teams[t].size + 1))
            return false;
    return true;
}

static void try_unit(struct search *s, uint32_t from, uint32_t to, uint32_t domain)
{
    uint32_t team = from == s->plan->n_teams ? to : from;
    uint32_t size_then = s->plan->teams[team].size + (team == to ? 1 : UINT32_MAX);
    if (*pm_quantity(s->plan, from, domain) == 0 || !may_have(s->plan, to, domain) ||
        size_then == 0 || !size_agrees(s->plan, team, size_then))
        return;
    double before = pm_plan_worth(s->plan);
    move(s, from, to, domain, 1);
    decide(s, pm_plan_worth(s->plan) > before + 1e-6);
}

static void try_units(struct search *s)
{
    uint32_t idle = s->plan->n_teams;
    for (uint32_t d = 0; d < s->plan->n_domains; d++)
        for (uint32_t t = 0; t < s->plan->n_teams && s->trials < TRIALS_MAX; t++) {
            try_unit(s, idle, t, d);
            try_unit(s, t, idle, d);
        }
}

// ----

// Nor have two teams anything to exchange that have all they want, or want the same and have one
// unit.
static bool nothing_to_gain(const struct pm_plan *plan, uint32_t a, uint32_t b)
{
    if (pm_plan_worth_l3(plan) >= 0 && pm_plan_has_all(plan, a) && pm_plan_has_all(plan, b))
        return true;
    return a == b || (a < plan->n_teams && b < plan->n_teams &&
                      plan->teams[a].class == plan->teams[b].class && plan->teams[a].size == 1 &&
                      plan->teams[b].size == 1 && plan->teams[a].n_ranks == plan->teams[b].n_ranks);
}

static void try_all(struct search *s,
                    void (*try)(struct search *s, struct pm_fragment x, struct pm_fragment y))
{
    for (uint32_t i = 0; i < s->n; i++)
        for (uint32_t j = i + 1; j < s->n && s->trials < TRIALS_MAX; j++)
            if (!nothing_to_gain(s->plan, s->fragments[i].team, s->fragments[j].team))
                try(s, s->fragments[i], s->fragments[j]);
}

// What passes from the n-th on seldom add up to.
static const double gains[] = {6, 2, 1, 0.5};

static void pass(struct search *s)
{
    s->better = false;
    if (!s->plan->near_only) {
        list_numas(s);
        try_all(s, try_numas);
    }
    list_domains(s);
    try_all(s, try_domains);
    if (s->plan->may_resize)
        try_units(s);
}

int pm_plan_improve(struct pm_plan *plan, double to_beat)
{
    const size_t cells = (size_t)(plan->n_teams + 1) * (plan->n_domains + plan->n_numas);
    if (!plan->fragments)
        plan->fragments = pm_plan_alloc(plan, cells, sizeof(*plan->fragments));
    if (!plan->moves)
        plan->moves = pm_plan_alloc(plan, 2 * (size_t)plan->n_domains + 2, sizeof(*plan->moves));
    if (!plan->fragments || !plan->moves)
        return -ENOMEM;
    struct search s = {
        .plan = plan, .fragments = plan->fragments, .moves = plan->moves, .better = true};
    for (uint32_t i = 0;
         i < PASSES_MAX && s.better && s.trials < TRIALS_MAX && plan->trials < TRIALS_IN_ALL; i++) {
        if (pm_plan_worth(plan) + gains[i < 3 ? i : 3] <= to_beat)
            break;
        pass(&s);
    }
    plan->trials += s.trials + (uint32_t)(cells / CELLS_PER_TRIAL);
    return 0;
}

// ---- out of dead ends ----

static uint32_t below(struct pm_plan *plan, uint32_t n)
{
    plan->random = plan->random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((plan->random >> 33) % n);
}

// The domain of any one of the team's units.
static uint32_t some_domain(struct pm_plan *plan, uint32_t team)
{
    uint32_t unit = below(plan, plan->teams[team].size), d = 0;
    while (unit >= *pm_quantity(plan, team, d))
        unit -= *pm_quantity(plan, team, d++);
    return d;
}

void pm_plan_shake(struct pm_plan *plan)
{
    uint32_t a = below(plan, plan->n_teams), b = below(plan, plan->n_teams);
    uint32_t x = some_domain(plan, a), y = some_domain(plan, b);
    uint32_t n = *pm_quantity(plan, a, x), m = *pm_quantity(plan, b, y);
    if (a == b || x == y || plan->teams[a].kind != plan->teams[b].kind)
        return;
    pm_plan_move(plan, a, b, x, n < m ? n : m);
    pm_plan_move(plan, b, a, y, n < m ? n : m);
}
