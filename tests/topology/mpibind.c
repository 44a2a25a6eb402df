// SPDX-License-Identifier: Apache-2.0
//
// See mpibind.h.
#include "tests/topology/mpibind.h"

#include <errno.h>
#include <stdlib.h>

// A NUMA node with granted cores.
struct node {
    uint32_t place;
    uint32_t *cores, n_cores;
    uint32_t *gpus, n_gpus; // positions in case.gpus
    uint32_t n_pus, tasks;
};

struct state {
    const struct score_case *c;
    struct score_rank *ranks;
    struct node *nodes;
    uint32_t n_nodes, n_gpus;
    uint32_t *room; // behind all nodes' cores and gpus
};

// Where the i-th of `parts` even parts of n begins; the first ones have one more.
static uint32_t start_of(uint32_t n, uint32_t parts, uint32_t i)
{
    return n / parts * i + (i < n % parts ? i : n % parts);
}

// ---- what there is ----

static uint32_t count_pus(const struct score_case *c, uint32_t core)
{
    const struct pm_set *pus = &c->machine->cores[core].pus;
    uint32_t n = 0;
    for (uint32_t pu = pm_set_next(pus, 0); pu != UINT32_MAX; pu = pm_set_next(pus, pu + 1))
        n += pm_set_has(c->allowed, pu);
    return n;
}

// The first node that the GPU is near to; n_nodes: none of them.
static uint32_t node_of_gpu(const struct state *s, uint32_t gpu)
{
    const struct pm_machine *m = s->c->machine;
    const struct pm_set *near = &m->gpus[s->c->gpus[gpu]].near;
    for (uint32_t i = 0; i < s->n_nodes; i++)
        if (pm_set_empty(near) || pm_set_intersects(near, &m->numas[s->nodes[i].place].pus))
            return i;
    return s->n_nodes;
}

static void fill_node(struct state *s, uint32_t place)
{
    const struct score_case *c = s->c;
    struct node *node = &s->nodes[s->n_nodes];
    *node = (struct node){.place = place, .cores = s->room};
    for (uint32_t i = 0; i < c->machine->n_cores; i++)
        if (c->machine->cores[i].numa == place && count_pus(c, i)) {
            node->cores[node->n_cores++] = i;
            node->n_pus += count_pus(c, i);
        }
    s->room += node->n_cores;
    s->n_nodes += node->n_cores > 0;
}

static void fill_gpus(struct state *s, uint32_t at)
{
    struct node *node = &s->nodes[at];
    node->gpus = s->room;
    for (uint32_t g = 0; g < s->c->n_gpus; g++)
        if (node_of_gpu(s, g) == at)
            node->gpus[node->n_gpus++] = g;
    s->room += node->n_gpus;
    s->n_gpus += node->n_gpus;
}

// ---- what a rank gets ----

static int add_pus(const struct score_case *c, uint32_t core, uint32_t most, struct score_rank *rank)
{
    const struct pm_set *pus = &c->machine->cores[core].pus;
    for (uint32_t pu = pm_set_next(pus, 0); pu != UINT32_MAX && most; pu = pm_set_next(pus, pu + 1)) {
        if (!pm_set_has(c->allowed, pu))
            continue;
        if (pm_set_add(&rank->pus, pu) < 0)
            return -ENOMEM;
        most--;
    }
    return 0;
}

static void add_gpus(const struct node *node, uint32_t from, uint32_t to, struct score_rank *rank)
{
    for (uint32_t g = from; g < to; g++)
        rank->gpus[rank->n_gpus++] = node->gpus[g];
}

static int give_whole_nodes(struct state *s)
{
    uint32_t n = s->c->n_ranks;
    for (uint32_t r = 0; r < n; r++)
        for (uint32_t i = start_of(s->n_nodes, n, r); i < start_of(s->n_nodes, n, r + 1); i++) {
            const struct node *node = &s->nodes[i];
            for (uint32_t k = 0; k < node->n_cores; k++)
                if (add_pus(s->c, node->cores[k], UINT32_MAX, &s->ranks[r]) < 0)
                    return -ENOMEM;
            add_gpus(node, 0, node->n_gpus, &s->ranks[r]);
        }
    return 0;
}

// ---- as many ranks for each node as its part says ----

static uint32_t weight(const struct state *s, const struct node *node)
{
    return s->n_gpus ? node->n_gpus : node->n_pus;
}

// Largest remainders.
static void share_tasks(struct state *s)
{
    uint32_t n = s->c->n_ranks, given = 0, all = 0;
    for (uint32_t i = 0; i < s->n_nodes; i++)
        all += weight(s, &s->nodes[i]);
    for (uint32_t i = 0; i < s->n_nodes; i++)
        given += s->nodes[i].tasks = (uint32_t)((uint64_t)n * weight(s, &s->nodes[i]) / all);
    for (; given < n; given++) {
        uint32_t best = 0;
        int64_t most = INT64_MIN;
        for (uint32_t i = 0; i < s->n_nodes; i++) {
            int64_t missing = (int64_t)n * weight(s, &s->nodes[i]) - (int64_t)s->nodes[i].tasks * all;
            if (missing > most) {
                most = missing;
                best = i;
            }
        }
        s->nodes[best].tasks++;
    }
}

// The first core of each L3.
static uint32_t keep_one_of_each_l3(const struct score_case *c, const struct node *node, uint32_t *objects)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < node->n_cores; i++) {
        uint32_t l3 = c->machine->cores[node->cores[i]].l3;
        if (n == 0 || l3 == PM_PLACE_NONE || l3 != c->machine->cores[objects[n - 1]].l3)
            objects[n++] = node->cores[i];
    }
    return n;
}

// The `nth` hardware thread of the node.
static int add_nth_pu(const struct score_case *c, const struct node *node, uint32_t nth, struct score_rank *rank)
{
    for (uint32_t i = 0; i < node->n_cores; i++) {
        const struct pm_set *pus = &c->machine->cores[node->cores[i]].pus;
        for (uint32_t pu = pm_set_next(pus, 0); pu != UINT32_MAX; pu = pm_set_next(pus, pu + 1))
            if (pm_set_has(c->allowed, pu) && nth-- == 0)
                return pm_set_add(&rank->pus, pu);
    }
    return 0;
}

static int give_blocks(const struct state *s, const struct node *node, uint32_t *objects, struct score_rank *ranks)
{
    uint32_t threads = node->n_cores / node->tasks, n = keep_one_of_each_l3(s->c, node, objects);
    if (n < node->tasks * (threads ? threads : 1))
        for (n = 0; n < node->n_cores; n++)
            objects[n] = node->cores[n];
    for (uint32_t t = 0; t < node->tasks; t++) {
        for (uint32_t i = start_of(n, node->tasks, t); i < start_of(n, node->tasks, t + 1); i++)
            if (add_pus(s->c, objects[i], 1, &ranks[t]) < 0)
                return -ENOMEM;
        if (n < node->tasks && add_nth_pu(s->c, node, t % node->n_pus, &ranks[t]) < 0)
            return -ENOMEM;
    }
    return 0;
}

static void give_gpus(const struct node *node, struct score_rank *ranks)
{
    for (uint32_t t = 0; t < node->tasks && node->n_gpus; t++) {
        if (node->n_gpus >= node->tasks)
            add_gpus(node, start_of(node->n_gpus, node->tasks, t), start_of(node->n_gpus, node->tasks, t + 1), &ranks[t]);
        else
            add_gpus(node, t * node->n_gpus / node->tasks, t * node->n_gpus / node->tasks + 1, &ranks[t]);
    }
}

static int give_parts(struct state *s)
{
    uint32_t *objects = calloc(s->c->machine->n_cores, sizeof(*objects)), rank = 0;
    int rc = objects ? 0 : -ENOMEM;
    share_tasks(s);
    for (uint32_t i = 0; i < s->n_nodes && rc == 0; rank += s->nodes[i++].tasks) {
        if (s->nodes[i].tasks == 0)
            continue;
        rc = give_blocks(s, &s->nodes[i], objects, &s->ranks[rank]);
        give_gpus(&s->nodes[i], &s->ranks[rank]);
    }
    free(objects);
    return rc;
}

int mpibind(const struct score_case *c, bool greedy, struct score_rank *ranks)
{
    const struct pm_machine *m = c->machine;
    uint32_t *room = calloc((size_t)m->n_cores + c->n_gpus + 1, sizeof(*room));
    struct state s = {.c = c, .ranks = ranks, .nodes = calloc((size_t)m->n_numas + 1, sizeof(*s.nodes)), .room = room};
    int rc = room && s.nodes ? 0 : -ENOMEM;
    for (uint32_t i = 0; rc == 0 && i < m->n_numas; i++)
        fill_node(&s, i);
    for (uint32_t i = 0; rc == 0 && i < s.n_nodes; i++)
        fill_gpus(&s, i);
    if (rc == 0)
        rc = greedy && c->n_ranks < s.n_nodes ? give_whole_nodes(&s) : give_parts(&s);
    free(room);
    free(s.nodes);
    return rc;
}
