// SPDX-License-Identifier: Apache-2.0
//
// Which units each team gets. Teams near the same GPUs are one class. A flow from classes to
// domains finds what each class gets, near units first; within a class the members get equal parts,
// next to each other (map_cut.c); exchanges between two teams repair what neither can see.
//
// How many units a team should have is not clear from the start: all cores used may mean that
// threads sit far from their GPU. So there are some candidates, and the one that is worth the most
// is taken.
#include "pmix_server/topology/map_internal.h"

#include <errno.h>
#include <string.h>

// What a unit costs in the flow.
enum { ENOUGH = -2500, NEAR = -1000, BESIDE = -500 };

enum { SHAKES_MAX = 400, SHAKES_AT_ONCE = 3, TRIALS_ENOUGH = 18000 };

enum scope { ANYWHERE = 0, SAME_PACKAGE, NEAR_ONLY };

// Sizes to try: each team gets least..most units, or an equal share of all if `most` is 0.
struct candidate {
    enum scope scope; // where its units may be
    uint32_t least, most;
    const uint32_t *caps; // per domain: how many of its units are dealt out; NULL: all
    double worth;         // before any exchange
};
enum { CANDIDATES_MAX = 16 }; // one for each call of add_candidate()

struct dealing {
    struct pm_plan *plan;
    struct candidate candidate, candidates[CANDIDATES_MAX];
    uint32_t n_candidates;
    uint32_t *members; // per class: teams
    uint32_t *example; // per class: a team
    int *arcs;         // 2 x n_classes x n_domains
    uint32_t *best;    // quantities
    double worth;
};

static uint32_t smaller(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

// ---- how many units ----

static uint32_t units_of_kind(const struct pm_plan *plan, uint32_t kind)
{
    uint32_t n = 0;
    for (uint32_t d = 0; d < plan->n_domains; d++)
        n += kind == PM_PLACE_NONE || plan->domains[d].kind == kind ? plan->domains[d].n : 0;
    return n;
}

static uint32_t teams_of_kind(const struct pm_plan *plan, uint32_t kind)
{
    uint32_t n = 0;
    for (uint32_t t = 0; t < plan->n_teams; t++)
        n += plan->teams[t].kind == kind;
    return n;
}

// What --pm-bind=cpus=N means in units, 0: not given.
static uint32_t wanted(const struct pm_plan *plan)
{
    uint64_t cpus = plan->request->options.cpus;
    return (uint32_t)((cpus * plan->n_units + plan->n_pus - 1) / plan->n_pus);
}

static void limits(const struct dealing *dealing, uint32_t class, uint32_t *ret_least,
                   uint32_t *ret_most)
{
    const struct pm_plan *plan = dealing->plan;
    uint32_t kind = plan->teams[dealing->example[class]].kind;
    uint32_t units = units_of_kind(plan, kind), teams = teams_of_kind(plan, kind);
    uint32_t least = units / teams, most = least + (units % teams > 0), wish = wanted(plan);
    if (dealing->candidate.most) {
        least = smaller(least, dealing->candidate.least);
        most = smaller(most, dealing->candidate.most);
    }
    *ret_most = wish ? smaller(wish, most) : most;
    *ret_least = smaller(least, *ret_most);
}

// ---- what each class gets ----

static bool in_scope(const struct dealing *dealing, uint32_t team, uint32_t domain)
{
    const struct pm_plan *plan = dealing->plan;
    const size_t at = (size_t)team * plan->n_domains + domain;
    if (plan->teams[team].kind != PM_PLACE_NONE &&
        plan->teams[team].kind != plan->domains[domain].kind)
        return false;
    return dealing->candidate.scope == ANYWHERE ||
           (dealing->candidate.scope == SAME_PACKAGE ? plan->beside : plan->near)[at] > 0;
}

static int64_t cost(const struct pm_plan *plan, uint32_t team, uint32_t domain)
{
    const size_t at = (size_t)team * plan->n_domains + domain;
    return (int64_t)(NEAR * plan->near[at]) + (int64_t)(BESIDE * plan->beside[at]) +
           plan->distance[at];
}

// Nodes: 2.. classes; then classes as far as near units are missed badly; then domains.
static int add_class(const struct dealing *dealing, struct pm_flow *flow, uint32_t class)
{
    const struct pm_plan *plan = dealing->plan;
    uint32_t team = dealing->example[class], n = dealing->members[class], least, most;
    uint32_t node = 2 + class, eager = node + plan->n_classes, domains = 2 + 2 * plan->n_classes;
    limits(dealing, class, &least, &most);
    bool failed = pm_flow_arc(flow, 0, node, n * least, PM_FLOW_MUST) < 0 ||
                  pm_flow_arc(flow, 0, node, n * (most - least), 0) < 0 ||
                  pm_flow_arc(flow, node, eager, n * plan->teams[team].enough, ENOUGH) < 0;
    for (uint32_t d = 0; d < plan->n_domains && !failed; d++) {
        int *arcs = &dealing->arcs[2 * ((size_t) class * plan->n_domains + d)];
        bool near = plan->near[(size_t)team * plan->n_domains + d] > 0;
        arcs[0] = arcs[1] = -1;
        if (!in_scope(dealing, team, d))
            continue;
        arcs[0] = pm_flow_arc(flow, node, domains + d, plan->n_units, cost(plan, team, d));
        if (near)
            arcs[1] = pm_flow_arc(flow, eager, domains + d, plan->n_units, cost(plan, team, d));
        failed = arcs[0] < 0 || (near && arcs[1] < 0);
    }
    return failed ? -ENOMEM : 0;
}

static int flow_to_classes(const struct dealing *dealing, struct pm_flow *flow)
{
    const struct pm_plan *plan = dealing->plan;
    for (uint32_t class = 0; class < plan->n_classes; class ++)
        if (add_class(dealing, flow, class) < 0)
            return -ENOMEM;
    for (uint32_t d = 0; d < plan->n_domains; d++)
        if (pm_flow_arc(flow, 2 + 2 * plan->n_classes + d, 1,
                        dealing->candidate.caps ? dealing->candidate.caps[d] : plan->domains[d].n,
                        0) < 0)
            return -ENOMEM;
    pm_flow_run(flow);
    return 0;
}

static int deal(struct dealing *dealing)
{
    struct pm_plan *plan = dealing->plan;
    uint32_t *units = pm_plan_alloc(plan, plan->n_domains, sizeof(*units));
    struct pm_flow *flow = pm_flow_new(2 + 2 * plan->n_classes + plan->n_domains);
    int rc = units && flow ? flow_to_classes(dealing, flow) : -ENOMEM;
    pm_plan_reset(plan);
    for (uint32_t class = 0; class < plan->n_classes && rc == 0; class ++) {
        for (uint32_t d = 0; d < plan->n_domains; d++) {
            const int *arcs = &dealing->arcs[2 * ((size_t) class * plan->n_domains + d)];
            units[d] = arcs[0] < 0 ? 0 : pm_flow_on(flow, arcs[0]);
            units[d] += arcs[1] < 0 ? 0 : pm_flow_on(flow, arcs[1]);
        }
        rc = pm_plan_cut(plan, class, units);
    }
    pm_flow_free(flow);
    return rc;
}

// ---- candidates ----

// Units that each team can have if all keep to a scope and all have the same.
static uint32_t within_reach(struct dealing *dealing, enum scope scope, uint32_t *rivals)
{
    const struct pm_plan *plan = dealing->plan;
    double least = plan->n_units;
    dealing->candidate.scope = scope;
    for (uint32_t d = 0; d < plan->n_domains; d++) {
        rivals[d] = 0;
        for (uint32_t t = 0; t < plan->n_teams; t++)
            rivals[d] += in_scope(dealing, t, d);
    }
    for (uint32_t t = 0; t < plan->n_teams; t++) {
        double reach = 0;
        for (uint32_t d = 0; d < plan->n_domains; d++)
            reach += in_scope(dealing, t, d) ? (double)plan->domains[d].n / rivals[d] : 0;
        least = reach < least ? reach : least;
    }
    return (uint32_t)(least + 1e-9);
}

static void keep_if_best(struct dealing *dealing)
{
    struct pm_plan *plan = dealing->plan;
    double worth = pm_plan_worth(plan);
    if (worth <= dealing->worth + 1e-6)
        return;
    dealing->worth = worth;
    memcpy(dealing->best, plan->quantity,
           (size_t)plan->n_teams * plan->n_domains * sizeof(uint32_t));
}

// Deals, and keeps the candidate with what it is worth so far.
static int add_candidate(struct dealing *dealing, struct candidate candidate)
{
    dealing->candidate = candidate;
    int rc = deal(dealing);
    candidate.worth = pm_plan_worth(dealing->plan);
    dealing->candidates[dealing->n_candidates++] = candidate;
    return rc;
}

// The most promising one first; stable, so that of equal ones the fuller is kept.
static void sort_candidates(struct dealing *dealing)
{
    for (uint32_t i = 1; i < dealing->n_candidates; i++)
        for (uint32_t j = i;
             j > 0 && dealing->candidates[j].worth > dealing->candidates[j - 1].worth + 1e-6; j--) {
            struct candidate one = dealing->candidates[j];
            dealing->candidates[j] = dealing->candidates[j - 1];
            dealing->candidates[j - 1] = one;
        }
}

static int improve_candidates(struct dealing *dealing)
{
    int rc = 0;
    sort_candidates(dealing);
    for (uint32_t i = 0; i < dealing->n_candidates && rc == 0; i++) {
        if (dealing->worth >= pm_plan_worth_of_all(dealing->plan) - 1e-6)
            break;
        dealing->candidate = dealing->candidates[i];
        rc = deal(dealing);
        rc = rc < 0 ? rc : pm_plan_improve(dealing->plan, dealing->worth);
        if (rc == 0)
            keep_if_best(dealing);
    }
    return rc;
}

// As much as all can have of what is near (or in the same package): just so much, or one more for
// some, from anywhere or only from there.
static int add_scope(struct dealing *dealing, enum scope scope, uint32_t *rivals)
{
    uint32_t reach = within_reach(dealing, scope, rivals);
    uint32_t fair = dealing->plan->n_units / dealing->plan->n_teams;
    reach = reach ? reach : 1;
    if (reach >= fair)
        return 0;
    int rc = add_candidate(dealing, (struct candidate){.least = reach, .most = reach});
    rc = rc < 0 ? rc
                : add_candidate(dealing, (struct candidate){.least = reach, .most = reach + 1});
    return rc < 0 ? rc
                  : add_candidate(dealing, (struct candidate){.scope = scope, .least = reach, .most = reach + 1});
}

// Teams one after the other to the group (L3s, NUMA nodes) that has the most room for one more.
static uint32_t fit_teams(const struct pm_plan *plan, const uint32_t *sizes, uint32_t n,
                          uint32_t *teams)
{
    uint32_t share = UINT32_MAX;
    for (uint32_t t = 0; t < plan->n_teams; t++) {
        uint32_t best = 0;
        for (uint32_t i = 1; i < n; i++)
            if ((uint64_t)sizes[i] * (teams[best] + 1) > (uint64_t)sizes[best] * (teams[i] + 1))
                best = i;
        teams[best]++;
    }
    for (uint32_t i = 0; i < n; i++)
        if (teams[i] && sizes[i] / teams[i] < share)
            share = sizes[i] / teams[i];
    return share;
}

// So many units for each team that none has to straddle two groups; what does not fit is left out.
static int add_groups(struct dealing *dealing, const uint32_t *group_of, uint32_t n)
{
    struct pm_plan *plan = dealing->plan;
    uint32_t *sizes = pm_plan_alloc(plan, n, sizeof(*sizes)),
             *teams = pm_plan_alloc(plan, n, sizeof(*teams));
    uint32_t *caps = pm_plan_alloc(plan, plan->n_domains, sizeof(*caps));
    if (!sizes || !teams || !caps)
        return -ENOMEM;
    for (uint32_t d = 0; d < plan->n_domains; d++)
        if (group_of[d] == PM_PLACE_NONE)
            return 0;
        else
            sizes[group_of[d]] += plan->domains[d].n;
    uint32_t share = fit_teams(plan, sizes, n, teams);
    if (share == 0 || plan->n_teams < n || share * plan->n_teams == plan->n_units)
        return 0;
    for (uint32_t d = 0; d < plan->n_domains; d++) {
        uint32_t left = share * teams[group_of[d]]; // of what the group may still deal out
        for (uint32_t e = 0; e < d; e++)
            left -= group_of[e] == group_of[d] ? caps[e] : 0;
        caps[d] = smaller(left, plan->domains[d].n);
    }
    return add_candidate(dealing, (struct candidate){.least = share, .most = share, .caps = caps});
}

// As many whole L3s as go into a fair share.
static int add_whole_l3s(struct dealing *dealing)
{
    const struct pm_plan *plan = dealing->plan;
    uint32_t largest = 1, fair = plan->n_units / plan->n_teams;
    for (uint32_t d = 0; d < plan->n_domains; d++)
        largest = plan->domains[d].n > largest ? plan->domains[d].n : largest;
    uint32_t share = fair / largest * largest;
    if (share == 0 || share == fair)
        return 0;
    return add_candidate(dealing, (struct candidate){.least = share, .most = share});
}

// Sizes that may be worth more than equal shares of everything.
static int add_sizes(struct dealing *dealing, uint32_t *rivals)
{
    const struct pm_plan *plan = dealing->plan;
    uint32_t fair = plan->n_units / plan->n_teams;
    int rc = 0;
    if (fair * plan->n_teams < plan->n_units)
        rc = add_candidate(dealing, (struct candidate){.least = fair, .most = fair});
    rc = rc < 0 ? rc : add_whole_l3s(dealing);
    rc = rc < 0 ? rc : add_groups(dealing, plan->numas, plan->n_numas);
    rc = rc < 0 ? rc : add_groups(dealing, plan->l3s, plan->n_l3s);
    if (rc < 0 || !plan->has_gpus)
        return rc;
    rc = add_scope(dealing, SAME_PACKAGE, rivals);
    return rc < 0 ? rc : add_scope(dealing, NEAR_ONLY, rivals);
}

static int add_candidates(struct dealing *dealing, uint32_t *rivals)
{
    struct pm_plan *plan = dealing->plan;
    enum pm_bind_reach reach = plan->request->options.reach;
    plan->may_resize = reach == PM_REACH_AUTO && !plan->request->options.cpus;
    int rc = 0;
    if (reach == PM_REACH_STRICT && plan->has_gpus)
        rc = add_candidate(dealing, (struct candidate){.scope = NEAR_ONLY, .least = 1, .most = plan->n_units});
    plan->near_only = dealing->n_candidates && dealing->candidates[0].worth > 0;
    if (plan->near_only) // nobody would have nothing
        return rc;
    dealing->n_candidates = 0;
    rc = rc < 0 ? rc : add_candidate(dealing, (struct candidate){0});
    return rc < 0 || !plan->may_resize ? rc : add_sizes(dealing, rivals);
}

static void take_best(const struct dealing *dealing)
{
    struct pm_plan *plan = dealing->plan;
    pm_plan_reset(plan);
    for (uint32_t t = 0; t < plan->n_teams; t++)
        for (uint32_t d = 0; d < plan->n_domains; d++) {
            uint32_t n = dealing->best[(size_t)t * plan->n_domains + d];
            if (n)
                pm_plan_move(plan, plan->n_teams, t, d, n);
        }
}

// Exchanges can end where only two of them at once would help. As long as there is time: some at
// random, and improve that.
static int search_on(struct dealing *dealing)
{
    struct pm_plan *plan = dealing->plan;
    int rc = 0;
    take_best(dealing);
    for (uint32_t i = 0, last = 0; i < SHAKES_MAX && plan->trials + last < TRIALS_ENOUGH && rc == 0;
         i++) {
        if (plan->near_only || plan->n_teams == 1 ||
            dealing->worth >= pm_plan_worth_of_all(plan) - 1e-6)
            return 0;
        for (uint32_t j = 0; j < SHAKES_AT_ONCE; j++)
            pm_plan_shake(plan);
        last = plan->trials;
        rc = pm_plan_improve(plan, dealing->worth);
        last = plan->trials - last;
        if (rc == 0)
            keep_if_best(dealing);
        take_best(dealing);
    }
    return rc;
}

int pm_plan_cores(struct pm_plan *plan)
{
    struct dealing dealing = {.plan = plan, .worth = plan->worth_before};
    size_t cells = (size_t)(plan->n_teams > plan->n_classes ? plan->n_teams : plan->n_classes) *
                   plan->n_domains;
    dealing.members = pm_plan_alloc(plan, plan->n_classes, sizeof(uint32_t));
    dealing.example = pm_plan_alloc(plan, plan->n_classes, sizeof(uint32_t));
    dealing.arcs = pm_plan_alloc(plan, 2 * cells, sizeof(int));
    dealing.best = pm_plan_alloc(plan, cells, sizeof(uint32_t));
    uint32_t *rivals = pm_plan_alloc(plan, plan->n_domains, sizeof(*rivals));
    if (!dealing.members || !dealing.example || !dealing.arcs || !dealing.best || !rivals)
        return -ENOMEM;
    for (uint32_t t = plan->n_teams; t-- > 0;) {
        dealing.members[plan->teams[t].class]++;
        dealing.example[plan->teams[t].class] = t;
    }
    int rc = pm_plan_start(plan);
    if (rc == 0)
        rc = add_candidates(&dealing, rivals);
    if (rc == 0)
        rc = improve_candidates(&dealing);
    if (rc == 0 && dealing.worth > plan->worth_before)
        rc = search_on(&dealing);
    return rc;
}
