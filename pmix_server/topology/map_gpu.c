// SPDX-License-Identifier: Apache-2.0
//
// Which rank uses which GPUs. Every granted GPU gets a rank and every rank a GPU; counts differ by
// at most one. Before cores are dealt out (the usual way), places decide:
//   ranks >= GPUs   each GPU gets its ranks, next to each other; the odd ones go where cores are left
//   ranks <  GPUs   GPUs of a rank have an ancestor as near as possible
// Where cores are fixed already, see map_gpu_follow.c.
#include "pmix_server/topology/map_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int pm_plan_new_gpu_lists(struct pm_plan *plan, uint32_t most)
{
    uint32_t n = plan->request->n_ranks;
    plan->gpus = pm_plan_alloc(plan, n, sizeof(*plan->gpus));
    uint32_t *room = pm_plan_alloc(plan, (size_t)n * most, sizeof(*room));
    if (!plan->gpus || !room)
        return -ENOMEM;
    for (uint32_t r = 0; r < n; r++)
        plan->gpus[r].gpus = room + (size_t)r * most;
    return 0;
}

void pm_plan_add_gpu(struct pm_plan *plan, uint32_t rank, uint32_t gpu)
{
    uint32_t most = plan->request->options.gpus;
    struct pm_gpu_list *list = &plan->gpus[rank];
    if (most == 0 || list->n < most)
        list->gpus[list->n++] = gpu;
}

static int by_first_gpu(const void *a, const void *b)
{
    const struct pm_gpu_list *x = a, *y = b;
    return (x->gpus[0] > y->gpus[0]) - (x->gpus[0] < y->gpus[0]);
}

void pm_plan_sort_gpu_lists(struct pm_plan *plan)
{
    qsort(plan->gpus, plan->request->n_ranks, sizeof(*plan->gpus), by_first_gpu);
}

// ---- ranks >= GPUs ----

static const bool *row(const struct pm_plan *plan, const bool *table, uint32_t gpu)
{
    return &table[(size_t)gpu * plan->n_domains];
}

static bool touch(const struct pm_plan *plan, const bool *table, uint32_t a, uint32_t b)
{
    for (uint32_t d = 0; d < plan->n_domains; d++)
        if (row(plan, table, a)[d] && row(plan, table, b)[d])
            return true;
    return false;
}

static uint64_t units_near(const struct pm_plan *plan, const bool *table, uint32_t gpu)
{
    uint64_t units = 0;
    for (uint32_t d = 0; d < plan->n_domains; d++)
        units += !table || row(plan, table, gpu)[d] ? plan->domains[d].n : 0;
    return units;
}

// How many more units (times ranks) of a GPU's neighbourhood one more rank there would use.
static uint64_t gain(const struct pm_plan *plan, const bool *table, uint32_t gpu,
                     const uint32_t *ranks)
{
    uint64_t units = units_near(plan, table, gpu) * plan->request->n_ranks, used = 0,
             share = plan->n_units;
    for (uint32_t i = 0; i < plan->request->n_gpus; i++)
        used += touch(plan, table, gpu, i) ? ranks[i] * share : 0;
    return used + share <= units ? share : used < units ? units - used : 0;
}

// The GPU that an odd rank should use: near units count more than those of the package.
static uint32_t best_for_one_more(const struct pm_plan *plan, const uint32_t *ranks, uint32_t least)
{
    uint32_t best = PM_PLACE_NONE;
    uint64_t most = 0;
    for (uint32_t gpu = 0; gpu < plan->request->n_gpus; gpu++) {
        if (ranks[gpu] > least)
            continue;
        uint64_t worth =
            2 * gain(plan, plan->gpu_near, gpu, ranks) + gain(plan, plan->gpu_beside, gpu, ranks);
        if (best == PM_PLACE_NONE || worth > most) {
            best = gpu;
            most = worth;
        }
    }
    return best;
}

static int ranks_to_gpus(struct pm_plan *plan)
{
    uint32_t n = plan->request->n_ranks, n_gpus = plan->request->n_gpus, least = n / n_gpus;
    uint32_t *ranks = pm_plan_alloc(plan, n_gpus, sizeof(*ranks));
    if (!ranks)
        return -ENOMEM;
    for (uint32_t gpu = 0; gpu < n_gpus; gpu++)
        ranks[gpu] = least;
    for (uint32_t i = 0; i < n % n_gpus; i++)
        ranks[plan->odd_ranks_first ? i : best_for_one_more(plan, ranks, least)]++;
    for (uint32_t gpu = 0, rank = 0; gpu < n_gpus; gpu++)
        for (uint32_t i = 0; i < ranks[gpu]; i++)
            pm_plan_add_gpu(plan, rank++, gpu);
    return 0;
}

// ---- ranks < GPUs ----

// GPUs wait for a rank; those with the same key have an ancestor in common.
struct grouping {
    struct pm_plan *plan;
    uint32_t *waiting, n_waiting; // sorted by position
    uint32_t *same;               // of them, those with one key
    uint32_t n_same;
    uint32_t size;             // of a small group; a big one has one more
    uint32_t big, small;       // groups still to make
    uint32_t ranks;            // groups made
    uint64_t units, all_units; // near the keys so far at this level, near all of them
};

// Near nothing is not a place.
static bool same_place(const struct pm_plan *plan, const bool *table, uint32_t a, uint32_t b)
{
    const bool *x = table ? row(plan, table, a) : NULL, *y = table ? row(plan, table, b) : NULL;
    if (!table || a == b)
        return true;
    return memchr(x, 1, plan->n_domains) && memcmp(x, y, plan->n_domains) == 0;
}

// Moves the first waiting GPU and all with the same key from waiting to same.
static void take_same(struct grouping *g, const bool *table)
{
    uint32_t first = g->waiting[0], left = 0;
    g->n_same = 0;
    for (uint32_t i = 0; i < g->n_waiting; i++) {
        if (same_place(g->plan, table, first, g->waiting[i]))
            g->same[g->n_same++] = g->waiting[i];
        else
            g->waiting[left++] = g->waiting[i];
    }
    g->n_waiting = left;
}

// How bad it would be to make so many groups of them: GPUs left over first, then ranks too many or
// too few for the cores that are near the keys so far.
static uint64_t badness(const struct grouping *g, uint32_t big, uint32_t small)
{
    uint64_t left = g->n_same - big * (g->size + 1) - small * g->size;
    uint64_t have = (g->ranks + big + small) * g->all_units,
             due = g->units * g->plan->request->n_ranks;
    return (left << 40) + (have > due ? have - due : due - have);
}

static void choose_groups(const struct grouping *g, uint32_t *ret_big, uint32_t *ret_small)
{
    uint64_t least = UINT64_MAX;
    for (uint32_t big = 0; big <= g->big && big * (g->size + 1) <= g->n_same; big++)
        for (uint32_t small = 0;
             small <= g->small && big * (g->size + 1) + small * g->size <= g->n_same; small++)
            if (badness(g, big, small) < least) {
                least = badness(g, big, small);
                *ret_big = big;
                *ret_small = small;
            }
}

// Those with few units near come first, so that they are the ones in big groups.
static void sort_same(struct grouping *g)
{
    for (uint32_t i = 1; i < g->n_same; i++)
        for (uint32_t j = i; j > 0 && units_near(g->plan, g->plan->gpu_near, g->same[j]) <
                                          units_near(g->plan, g->plan->gpu_near, g->same[j - 1]);
             j--) {
            uint32_t gpu = g->same[j];
            g->same[j] = g->same[j - 1];
            g->same[j - 1] = gpu;
        }
}

static void make_group(struct grouping *g, uint32_t *at, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        g->plan->gpus[g->ranks].gpus[g->plan->gpus[g->ranks].n++] = g->same[(*at)++];
    g->ranks++;
}

static void group_same(struct grouping *g, uint32_t *left, uint32_t *n_left)
{
    uint32_t big = 0, small = 0, at = 0;
    choose_groups(g, &big, &small);
    if (big && small)
        sort_same(g);
    g->big -= big;
    g->small -= small;
    while (big-- > 0)
        make_group(g, &at, g->size + 1);
    while (small-- > 0)
        make_group(g, &at, g->size);
    while (at < g->n_same)
        left[(*n_left)++] = g->same[at++];
}

// The first of those with one key counts its units.
static uint64_t count_units(const struct grouping *g, const bool *table)
{
    uint64_t units = 0;
    for (uint32_t i = 0; i < g->n_waiting; i++) {
        uint32_t j = 0;
        while (!same_place(g->plan, table, g->waiting[j], g->waiting[i]))
            j++;
        units += j == i ? units_near(g->plan, table, g->waiting[i]) : 0;
    }
    return units;
}

static void group_level(struct grouping *g, const bool *table, uint32_t *left)
{
    uint32_t n_left = 0;
    g->units = 0;
    g->all_units = count_units(g, table);
    while (g->n_waiting) {
        g->units += units_near(g->plan, table, g->waiting[0]);
        take_same(g, table);
        group_same(g, left, &n_left);
    }
    memcpy(g->waiting, left, n_left * sizeof(*left));
    g->n_waiting = n_left;
}

// The lists are complete; what is over the user's limit goes.
static void trim(struct pm_plan *plan)
{
    uint32_t most = plan->request->options.gpus;
    for (uint32_t r = 0; most && r < plan->request->n_ranks; r++)
        plan->gpus[r].n = plan->gpus[r].n < most ? plan->gpus[r].n : most;
}

static int by_value(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static int gpus_to_ranks(struct pm_plan *plan)
{
    uint32_t n_gpus = plan->request->n_gpus, n = plan->request->n_ranks;
    struct grouping g = {.plan = plan,
                         .size = n_gpus / n,
                         .big = n_gpus % n,
                         .small = n - n_gpus % n,
                         .n_waiting = n_gpus};
    g.waiting = pm_plan_alloc(plan, n_gpus, sizeof(*g.waiting));
    g.same = pm_plan_alloc(plan, n_gpus, sizeof(*g.same));
    uint32_t *left = pm_plan_alloc(plan, n_gpus, sizeof(*left));
    if (!g.waiting || !g.same || !left)
        return -ENOMEM;
    for (uint32_t i = 0; i < n_gpus; i++)
        g.waiting[i] = i;
    group_level(&g, plan->gpu_near, left);
    group_level(&g, plan->gpu_beside, left);
    group_level(&g, NULL, left);
    for (uint32_t r = 0; r < n; r++)
        qsort(plan->gpus[r].gpus, plan->gpus[r].n, sizeof(uint32_t), by_value);
    pm_plan_sort_gpu_lists(plan);
    trim(plan);
    return 0;
}

static int take_given(struct pm_plan *plan)
{
    for (uint32_t r = 0; r < plan->request->n_ranks; r++) {
        const struct pm_bind_given *given = &plan->request->given[r];
        if (given->n_gpus)
            memcpy(plan->gpus[r].gpus, given->gpus, given->n_gpus * sizeof(*given->gpus));
        plan->gpus[r].n = given->n_gpus;
    }
    return 0;
}

int pm_plan_gpus_by_place(struct pm_plan *plan)
{
    uint32_t n_gpus = plan->request->n_gpus, n = plan->request->n_ranks;
    int rc = pm_plan_new_gpu_lists(plan, pm_gpus_given(plan->request) ? n_gpus : n_gpus / n + 1);
    if (rc < 0 || n_gpus == 0)
        return rc;
    return pm_gpus_given(plan->request) ? take_given(plan)
           : n >= n_gpus    ? ranks_to_gpus(plan)
                            : gpus_to_ranks(plan);
}
