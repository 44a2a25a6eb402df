// SPDX-License-Identifier: Apache-2.0
//
// Units of a class to its members: those near the class's GPUs in equal parts, then the others, so
// that sizes differ by one at most. The parts follow the order of the cores, and of the GPUs by PCI
// address: where a NUMA node has two L3s and two GPUs, the first goes with the first.
//
// Which members get one more is open: it is chosen so that as few parts as possible begin or end
// inside an L3, and none touches more NUMA nodes than it must (dynamic programming over the cuts).
#include "pmix_server/topology/map_internal.h"

#include <errno.h>
#include <stdlib.h>

struct line {
    uint32_t *domains; // of each unit, in order
    uint32_t *changes; // NUMA nodes entered before the unit, from the line's start
    uint32_t n;
};

struct cut {
    struct pm_plan *plan;
    uint32_t *members, n_members;
    uint32_t *parts; // per member, of the line at hand
    struct line near, far;
};

struct by_place {
    uint32_t place, team;
};

static int compare_places(const void *a, const void *b)
{
    const struct by_place *x = a, *y = b;
    return x->place != y->place ? (x->place > y->place) - (x->place < y->place)
                                : (x->team > y->team) - (x->team < y->team);
}

// The least place among the team's GPUs: machine.gpus is sorted by PCI address.
static uint32_t first_place(const struct pm_plan *plan, const struct pm_team *team)
{
    uint32_t least = PM_PLACE_NONE;
    for (uint32_t r = team->first_rank; plan->has_gpus && r < team->first_rank + team->n_ranks; r++)
        for (uint32_t i = 0; i < plan->gpus[r].n; i++) {
            uint32_t place = plan->request->gpus[plan->gpus[r].gpus[i]];
            least = place < least ? place : least;
        }
    return least;
}

static int list_members(struct cut *cut, uint32_t class)
{
    struct pm_plan *plan = cut->plan;
    struct by_place *order = pm_plan_alloc(plan, plan->n_teams, sizeof(*order));
    cut->members = pm_plan_alloc(plan, plan->n_teams, sizeof(uint32_t));
    if (!order || !cut->members)
        return -ENOMEM;
    for (uint32_t t = 0; t < plan->n_teams; t++)
        if (plan->teams[t].class == class)
            order[cut->n_members++] = (struct by_place){first_place(plan, &plan->teams[t]), t};
    qsort(order, cut->n_members, sizeof(*order), compare_places);
    for (uint32_t i = 0; i < cut->n_members; i++)
        cut->members[i] = order[i].team;
    return 0;
}

static void add_domain(const struct pm_plan *plan, struct line *line, uint32_t domain, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++, line->n++) {
        line->domains[line->n] = domain;
        line->changes[line->n] =
            line->n == 0 ? 0
                         : line->changes[line->n - 1] +
                               (plan->numas[domain] != plan->numas[line->domains[line->n - 1]]);
    }
}

static int make_lines(struct cut *cut, const uint32_t *units)
{
    struct pm_plan *plan = cut->plan;
    struct line *lines[] = {&cut->near, &cut->far};
    for (int i = 0; i < 2; i++) {
        lines[i]->domains = pm_plan_alloc(plan, plan->n_units, sizeof(uint32_t));
        lines[i]->changes = pm_plan_alloc(plan, plan->n_units, sizeof(uint32_t));
        if (!lines[i]->domains || !lines[i]->changes)
            return -ENOMEM;
    }
    const double *near = &plan->near[(size_t)cut->members[0] * plan->n_domains];
    for (uint32_t d = 0; d < plan->n_domains; d++)
        add_domain(plan, near[d] > 0 ? &cut->near : &cut->far, d, units[d]);
    return 0;
}

// Of a part that has units [from, from + n) of the line.
static uint32_t part_cost(const struct pm_plan *plan, const struct line *line, uint32_t from,
                          uint32_t n)
{
    uint32_t end = from + n;
    if (n == 0)
        return 0;
    uint32_t numas = 1 + line->changes[end - 1] - line->changes[from];
    uint32_t more = numas > plan->fewest[n] ? numas - plan->fewest[n] : 0;
    return 4 * more + (end < line->n && line->domains[end - 1] == line->domains[end]);
}

// What the parts from the i-th on cost at best, `extra` of those before having one unit more.
struct costs {
    const struct cut *cut;
    const struct line *line;
    uint32_t *best, width;
    uint32_t least, most_extra;
};
enum { IMPOSSIBLE = INT32_MAX };

static uint32_t *best(const struct costs *c, uint32_t i, uint32_t extra)
{
    return &c->best[(size_t)i * c->width + extra];
}

// The i-th part has `more` (0 or 1) than the least.
static uint32_t cost_with(const struct costs *c, uint32_t i, uint32_t extra, uint32_t more)
{
    uint32_t rest = extra + more > c->most_extra ? IMPOSSIBLE : *best(c, i + 1, extra + more);
    if (rest >= IMPOSSIBLE)
        return IMPOSSIBLE;
    return rest + part_cost(c->cut->plan, c->line, i * c->least + extra, c->least + more);
}

// Filled from the last part backwards.
static int choose_parts(struct cut *cut, const struct line *line)
{
    uint32_t k = cut->n_members, extra = line->n % k;
    struct costs c = {cut, line, NULL, extra + 1, line->n / k, extra};
    c.best = pm_plan_alloc(cut->plan, (size_t)(k + 1) * c.width, sizeof(*c.best));
    if (!c.best)
        return -ENOMEM;
    for (uint32_t e = 0; e < extra; e++)
        *best(&c, k, e) = IMPOSSIBLE;
    for (uint32_t i = k; i-- > 0;)
        for (uint32_t e = 0; e <= extra; e++) {
            uint32_t more = e > i ? IMPOSSIBLE : cost_with(&c, i, e, 1);
            uint32_t same = e > i ? IMPOSSIBLE : cost_with(&c, i, e, 0);
            *best(&c, i, e) = more < same ? more : same;
        }
    for (uint32_t i = 0, e = 0; i < k; i++) {
        bool more = cost_with(&c, i, e, 1) == *best(&c, i, e);
        cut->parts[i] = c.least + more;
        e += more;
    }
    return 0;
}

static void hand_out(struct cut *cut, const struct line *line)
{
    for (uint32_t i = 0, at = 0; i < cut->n_members; i++)
        for (uint32_t j = 0; j < cut->parts[i]; j++)
            pm_plan_move(cut->plan, cut->plan->n_teams, cut->members[i], line->domains[at++], 1);
}

// Whoever has one near unit more has one unit more in all, too, as far as there are such.
static void fill_up(struct cut *cut)
{
    uint32_t k = cut->n_members, all = cut->near.n + cut->far.n, extra = all % k;
    uint32_t least_near = cut->near.n / k;
    for (uint32_t round = 0; round < 2; round++)
        for (uint32_t i = 0; i < k; i++) {
            uint32_t near = cut->plan->teams[cut->members[i]].size;
            if ((near > least_near) != (round == 0))
                continue;
            cut->parts[i] = all / k + (extra > 0) - near;
            extra -= extra > 0;
        }
}

int pm_plan_cut(struct pm_plan *plan, uint32_t class, const uint32_t *units)
{
    struct cut cut = {.plan = plan};
    int rc = list_members(&cut, class);
    cut.parts = pm_plan_alloc(plan, plan->n_teams, sizeof(uint32_t));
    if (rc < 0 || !cut.parts || make_lines(&cut, units) < 0)
        return -ENOMEM;
    struct line *first = cut.near.n ? &cut.near : &cut.far;
    rc = choose_parts(&cut, first);
    if (rc < 0)
        return rc;
    hand_out(&cut, first);
    if (first == &cut.near && cut.far.n) {
        fill_up(&cut);
        hand_out(&cut, &cut.far);
    }
    return 0;
}
