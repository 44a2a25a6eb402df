// SPDX-License-Identifier: Apache-2.0
//
// See agent_world.h.
#include "pmix_server/agent_world.h"

#include <stdio.h>
#include <stdlib.h>

#include "pmix_server/agent.h"
#include "pmix_server/wire/buf.h"
#include "pmix_server/wire/hostlist.h"

// Indices in the step of the nodes that have ranks, by their lowest rank: malloc'd, NULL without memory.
static uint32_t *order_nodes(const struct pm_world *world, uint32_t *ret_n)
{
    uint32_t *nodes = calloc(world->nnodes + 1u, sizeof(*nodes));
    uint32_t n = 0;
    for (uint32_t rank = 0; nodes && rank < world->nranks; rank++) {
        uint32_t node = world->node_of_rank[rank];
        if (pm_set_next(&world->ranks_of_node[node], 0) == rank)
            nodes[n++] = node;
    }
    *ret_n = n;
    return nodes;
}

static char *nodelist_of(const char *step, const uint32_t *nodes, uint32_t n)
{
    char **all = NULL, *list = NULL;
    uint32_t n_all = 0;
    char **names = calloc(n + 1u, sizeof(*names));
    if (names && pm_hostlist_expand(step, &all, &n_all) == 0) {
        for (uint32_t i = 0; i < n; i++)
            names[i] = all[nodes[i]];
        list = pm_hostlist_join(names, n);
    }
    pm_hostlist_free(all, n_all);
    free(names);
    return list;
}

// Text that grows; taken out as a malloc'd string.
static char *text_of(struct pm_writer *w)
{
    pm_write_u8(w, 0);
    if (!w->error)
        return (char *)w->data;
    pm_writer_done(w);
    return NULL;
}

// `before`, the number, `after`.
static void write_number(struct pm_writer *w, const char *before, uint64_t v, const char *after)
{
    char text[64];
    int len = snprintf(text, sizeof(text), "%s%llu%s", before, (unsigned long long)v, after);
    pm_write_raw(w, text, (size_t)len);
}

static char *tasks_of(const struct pm_set *ranks, uint32_t n)
{
    struct pm_writer w = {0};
    for (uint32_t i = 0, k; i < n; i += k) {
        uint64_t count = pm_set_count(&ranks[i]);
        for (k = 1; i + k < n && pm_set_count(&ranks[i + k]) == count;)
            k++;
        write_number(&w, i ? "," : "", count, "");
        if (k > 1)
            write_number(&w, "(x", k, ")");
    }
    return text_of(&w);
}

static char *gtids_of(const struct pm_set *ranks)
{
    struct pm_writer w = {0};
    for (uint32_t rank = pm_set_next(ranks, 0); rank != UINT32_MAX; rank = pm_set_next(ranks, rank + 1))
        write_number(&w, w.len ? "," : "", rank, "");
    return text_of(&w);
}

void pm_agent_world_done(struct agent *a)
{
    struct pm_agent_world *v = &a->world;
    free(v->ranks);
    free(v->nodelist);
    free(v->tasks_per_node);
    free(v->gtids);
    *v = (struct pm_agent_world){.own = UINT32_MAX};
}

static bool make(struct agent *a, const struct pm_world *world)
{
    struct pm_agent_world *v = &a->world;
    uint32_t *nodes = order_nodes(world, &v->n);
    v->ranks = nodes ? calloc(v->n + 1u, sizeof(*v->ranks)) : NULL;
    for (uint32_t i = 0; v->ranks && i < v->n; i++) {
        v->ranks[i] = world->ranks_of_node[nodes[i]];
        if (nodes[i] == a->config.node)
            v->own = i;
    }
    if (v->ranks) {
        v->nodelist = nodelist_of(a->config.nodelist, nodes, v->n);
        v->tasks_per_node = tasks_of(v->ranks, v->n);
        v->gtids = gtids_of(&world->ranks_of_node[a->config.node]);
    }
    free(nodes);
    return v->nodelist && v->tasks_per_node && v->gtids;
}

const struct pm_agent_world *pm_agent_world(struct agent *a)
{
    const struct pm_world *world = pm_core_world(a->core);
    if (!pm_options_ranks_move(&a->config.options) || !world->map_version)
        return NULL;
    if (a->world.map_version == world->map_version)
        return &a->world;
    pm_agent_world_done(a);
    if (!make(a, world)) {
        pm_agent_world_done(a);
        return NULL;
    }
    a->world.map_version = world->map_version;
    return &a->world;
}
