// SPDX-License-Identifier: Apache-2.0
//
// The world as ranks see it where nodes wait as spares: nodes by their lowest rank, and Slurm's texts about them.
#include <criterion/criterion.h>
#include <stdlib.h>

#include "pmix_server/agent.h"

static struct pm_set sets[5];
static uint32_t node_of_rank[5];
static struct pm_world world = {.nnodes = 5, .ranks_of_node = sets, .node_of_rank = node_of_rank};

const struct pm_world *pm_core_world(const struct pm_core *core)
{
    (void)core;
    return &world;
}

// rank i is on nodes[i].
static void place(uint32_t n, const uint32_t *nodes)
{
    for (uint32_t i = 0; i < 5; i++)
        pm_set_done(&sets[i]);
    for (uint32_t rank = 0; rank < n; rank++) {
        node_of_rank[rank] = nodes[rank];
        cr_assert_eq(pm_set_add(&sets[nodes[rank]], rank), 0);
    }
    world.nranks = n;
    world.map_version++;
}

static struct agent agent_of(uint32_t node, uint32_t spares)
{
    static char list[] = "node[1-5]";
    struct agent a = {.config = {.node = node, .nodelist = list}};
    a.config.options.spares = spares;
    return a;
}

Test(agent_world, nodes_are_in_the_order_of_their_lowest_rank, .timeout = 10)
{
    struct agent a = agent_of(4, 2);
    cr_assert_null(pm_agent_world(&a), "no map yet");
    place(5, (const uint32_t[]){4, 4, 1, 1, 2});
    const struct pm_agent_world *w = pm_agent_world(&a);
    cr_assert_eq(w->n, 3);
    cr_assert_eq(w->own, 0);
    cr_assert_str_eq(w->nodelist, "node[5,2-3]");
    cr_assert_str_eq(w->tasks_per_node, "2(x2),1");
    cr_assert_str_eq(w->gtids, "0,1");
    cr_assert(pm_set_has(&w->ranks[1], 3));
    pm_agent_world_done(&a);
}

Test(agent_world, it_is_made_anew_for_each_map, .timeout = 10)
{
    struct agent a = agent_of(3, 1);
    place(4, (const uint32_t[]){0, 1, 0, 1}); // cyclic
    const struct pm_agent_world *w = pm_agent_world(&a);
    cr_assert_eq(w->own, UINT32_MAX, "it waits");
    cr_assert_str_eq(w->gtids, "");
    cr_assert_str_eq(w->nodelist, "node[1-2]");
    cr_assert_eq(pm_agent_world(&a)->nodelist, w->nodelist, "made once");
    place(4, (const uint32_t[]){0, 3, 0, 3});
    w = pm_agent_world(&a);
    cr_assert_eq(w->own, 1);
    cr_assert_str_eq(w->gtids, "1,3");
    cr_assert_str_eq(w->nodelist, "node[1,4]");
    pm_agent_world_done(&a);
}

Test(agent_world, without_spares_the_step_is_the_world, .timeout = 10)
{
    struct agent a = agent_of(0, 0);
    place(1, (const uint32_t[]){0});
    cr_assert_null(pm_agent_world(&a));
}
