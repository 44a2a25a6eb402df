// SPDX-License-Identifier: Apache-2.0
//
// Min-cost flow by successive shortest paths (Bellman-Ford with a queue: costs may be negative, the
// graph has no cycles). Small graphs: some hundred nodes, some thousand arcs. Ties fall to the arcs
// that were added first, so that the same graph has the same flow everywhere.
#include "pmix_server/topology/map_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct arc {
    uint32_t to;
    uint32_t room;
    int64_t cost;
    int next; // of the same node, -1: none
};

struct node {
    int first, last; // arcs
    int by;          // arc of the shortest path so far
    int64_t cost;
    bool queued;
};

// Arcs 2i and 2i+1 are each other's way back.
struct pm_flow {
    struct node *nodes;
    uint32_t *queue; // ring of n_nodes + 1
    struct arc *arcs;
    uint32_t n_nodes, n_arcs, cap_arcs;
};

void pm_flow_free(struct pm_flow *flow)
{
    if (!flow)
        return;
    free(flow->nodes);
    free(flow->queue);
    free(flow->arcs);
    free(flow);
}

struct pm_flow *pm_flow_new(uint32_t n_nodes)
{
    struct pm_flow *flow = calloc(1, sizeof(*flow));
    if (!flow)
        return NULL;
    flow->n_nodes = n_nodes;
    flow->nodes = calloc(n_nodes, sizeof(*flow->nodes));
    flow->queue = calloc((size_t)n_nodes + 1, sizeof(*flow->queue));
    if (!flow->nodes || !flow->queue) {
        pm_flow_free(flow);
        return NULL;
    }
    for (uint32_t i = 0; i < n_nodes; i++)
        flow->nodes[i].first = flow->nodes[i].last = -1;
    return flow;
}

static void link_arc(struct pm_flow *flow, uint32_t from, struct arc arc)
{
    struct node *node = &flow->nodes[from];
    int number = (int)flow->n_arcs++;
    flow->arcs[number] = arc;
    if (node->last < 0)
        node->first = number;
    else
        flow->arcs[node->last].next = number;
    node->last = number;
}

int pm_flow_arc(struct pm_flow *flow, uint32_t from, uint32_t to, uint32_t capacity, int64_t cost)
{
    if (flow->n_arcs + 2 > flow->cap_arcs) {
        uint32_t cap = flow->cap_arcs ? 2 * flow->cap_arcs : 64;
        struct arc *arcs = cap > INT32_MAX / 2 ? NULL : realloc(flow->arcs, cap * sizeof(*arcs));
        if (!arcs)
            return -ENOMEM;
        flow->arcs = arcs;
        flow->cap_arcs = cap;
    }
    link_arc(flow, from, (struct arc){to, capacity, cost, -1});
    link_arc(flow, to, (struct arc){from, 0, -cost, -1});
    return (int)flow->n_arcs - 2;
}

static void relax(struct pm_flow *flow, uint32_t from, uint32_t *tail)
{
    for (int i = flow->nodes[from].first; i >= 0; i = flow->arcs[i].next) {
        const struct arc *arc = &flow->arcs[i];
        struct node *to = &flow->nodes[arc->to];
        int64_t cost = flow->nodes[from].cost + arc->cost;
        if (arc->room == 0 || cost >= to->cost)
            continue;
        to->cost = cost;
        to->by = i;
        if (to->queued)
            continue;
        to->queued = true;
        flow->queue[*tail] = arc->to;
        *tail = (*tail + 1) % (flow->n_nodes + 1);
    }
}

static bool find_path(struct pm_flow *flow)
{
    for (uint32_t i = 0; i < flow->n_nodes; i++) {
        flow->nodes[i].cost = INT64_MAX / 2;
        flow->nodes[i].queued = false;
    }
    flow->nodes[0].cost = 0;
    flow->queue[0] = 0;
    for (uint32_t head = 0, tail = 1; head != tail; head = (head + 1) % (flow->n_nodes + 1)) {
        uint32_t at = flow->queue[head];
        flow->nodes[at].queued = false;
        relax(flow, at, &tail);
    }
    return flow->nodes[1].cost < INT64_MAX / 2;
}

static void push(struct pm_flow *flow)
{
    uint32_t amount = UINT32_MAX;
    for (uint32_t at = 1; at != 0; at = flow->arcs[flow->nodes[at].by ^ 1].to)
        if (flow->arcs[flow->nodes[at].by].room < amount)
            amount = flow->arcs[flow->nodes[at].by].room;
    for (uint32_t at = 1; at != 0; at = flow->arcs[flow->nodes[at].by ^ 1].to) {
        flow->arcs[flow->nodes[at].by].room -= amount;
        flow->arcs[flow->nodes[at].by ^ 1].room += amount;
    }
}

void pm_flow_run(struct pm_flow *flow)
{
    while (find_path(flow))
        push(flow);
}

uint32_t pm_flow_on(const struct pm_flow *flow, int arc)
{
    return flow->arcs[arc + 1].room;
}
