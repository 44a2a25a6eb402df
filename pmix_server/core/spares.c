// SPDX-License-Identifier: Apache-2.0
//
// See spares.h.
#include "pmix_server/core/spares.h"

#include <errno.h>
#include <stdlib.h>

int pm_spares_without(const struct pm_map *map, const struct pm_set *out, struct pm_map *ret_map,
                      uint32_t *ret_nranks)
{
    uint32_t next = 0;
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < map->n; i++) {
        const struct pm_run *run = &map->runs[i];
        if (pm_set_has(out, run->node))
            continue;
        rc = pm_map_add(ret_map, next, run->n, run->node);
        next += run->n;
    }
    *ret_nranks = next;
    return rc;
}

int pm_spares_too_small(const struct pm_map *tasks, uint32_t first_spare, const struct pm_set *spares,
                        struct pm_small_spare *ret)
{
    uint32_t nnodes = spares->n ? spares->spans[spares->n - 1].last + 1 : first_spare;
    uint32_t *counts = calloc(nnodes > first_spare ? nnodes : first_spare, sizeof(*counts));
    if (!counts)
        return -ENOMEM;
    *ret = (struct pm_small_spare){.offers = UINT32_MAX};
    for (uint32_t i = 0; i < tasks->n; i++) {
        const struct pm_run *run = &tasks->runs[i];
        if (run->node >= nnodes && run->node >= first_spare)
            continue;
        counts[run->node] += run->n;
        if (run->node >= first_spare || counts[run->node] <= ret->needs)
            continue;
        ret->node = run->node;
        ret->needs = counts[run->node];
    }
    for (uint32_t spare = pm_set_next(spares, 0); spare != UINT32_MAX; spare = pm_set_next(spares, spare + 1)) {
        if (counts[spare] < ret->offers) {
            ret->spare = spare;
            ret->offers = counts[spare];
        }
    }
    free(counts);
    return ret->offers < ret->needs;
}

// What is known of one node, looked up once: choosing compares each lost one with many spares.
struct spot {
    uint32_t node;
    struct pm_size size;
    bool below;   // the switch that all the lost ones share
    bool settled; // it has its place already, or (pm_spares_useless) is of use
};

struct table {
    struct spot *spots; // in order of `node`, until sorted otherwise
    uint32_t n;
};

// One spot for each of `nodes`, nothing known of it yet. 0 or -ENOMEM.
static int list_nodes(const struct pm_set *nodes, struct table *ret)
{
    *ret = (struct table){.spots = calloc((size_t)pm_set_count(nodes) + 1u, sizeof(*ret->spots))};
    for (uint32_t node = pm_set_next(nodes, 0); ret->spots && node != UINT32_MAX; node = pm_set_next(nodes, node + 1))
        ret->spots[ret->n++].node = node;
    return ret->spots ? 0 : -ENOMEM;
}

// Index of the first spot of a node >= `node`.
static uint32_t first_from(const struct table *t, uint32_t node)
{
    uint32_t low = 0, high = t->n;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (t->spots[mid].node < node)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

// Notes at each spot of `nodes` its size, or (NULL) that it stands below the shared switch.
static void note(struct table *t, const struct pm_set *nodes, const struct pm_size *size)
{
    for (uint32_t i = 0; i < nodes->n; i++) {
        const struct pm_span *span = &nodes->spans[i];
        for (uint32_t at = first_from(t, span->first); at < t->n && t->spots[at].node <= span->last; at++) {
            if (size)
                t->spots[at].size = *size;
            else
                t->spots[at].below = true;
        }
    }
}

// From the last line on: of a node in several of them the first says how large it is, as in pm_sizes_of().
static void note_sizes(struct table *t, const struct pm_places *sizes)
{
    for (uint32_t i = sizes->n; i > 0; i--) {
        const struct pm_size size = pm_size_at(&sizes->list[i - 1]);
        note(t, &sizes->list[i - 1].nodes, &size);
    }
}

static void note_below(struct table *t, const struct pm_places *places, const char *path)
{
    for (uint32_t i = 0; path[0] && i < places->n; i++)
        if (pm_switch_is_below(&places->list[i], path))
            note(t, &places->list[i].nodes, NULL);
}

// Has each node before first_spare a size? One of which nothing is known needs nothing.
static bool all_have_sizes(const struct pm_places *sizes, uint32_t first_spare)
{
    struct pm_span span = {0, first_spare - 1};
    const struct pm_set others = {.spans = &span, .n = 1};
    uint64_t known = 0;
    for (uint32_t i = 0; i < sizes->n; i++)
        known += pm_set_common(&sizes->list[i].nodes, &others);
    return known >= first_spare;
}

// Settles the spares that can replace some node before first_spare; which of those is the smallest, the first of
// equals. Once for each size, not for each node: most nodes are alike.
static uint32_t settle_useful(struct table *spares, const struct pm_places *sizes, uint32_t first_spare)
{
    struct pm_size least = {0};
    uint32_t smallest = UINT32_MAX;
    for (uint32_t i = 0; i < sizes->n; i++) {
        const struct pm_size need = pm_size_at(&sizes->list[i]);
        uint32_t node = pm_set_next(&sizes->list[i].nodes, 0);
        if (node >= first_spare)
            continue;
        int order = smallest == UINT32_MAX ? -1 : pm_size_compare(&need, &least);
        if (order < 0 || (order == 0 && node < smallest)) {
            smallest = node;
            least = need;
        }
        for (uint32_t at = 0; at < spares->n; at++)
            spares->spots[at].settled = spares->spots[at].settled || pm_size_fits(&need, &spares->spots[at].size);
    }
    return smallest;
}

int pm_spares_useless(const struct pm_places *sizes, uint32_t first_spare, const struct pm_set *spares,
                      struct pm_move *ret)
{
    struct table t;
    uint32_t at = 0;
    if (!all_have_sizes(sizes, first_spare))
        return 0;
    if (list_nodes(spares, &t) < 0)
        return -ENOMEM;
    note_sizes(&t, sizes);
    ret->from = settle_useful(&t, sizes, first_spare);
    while (at < t.n && t.spots[at].settled)
        at++;
    int useless = at < t.n;
    ret->to = useless ? t.spots[at].node : UINT32_MAX;
    free(t.spots);
    return useless;
}

static int by_node(const struct spot *a, const struct spot *b)
{
    return (a->node > b->node) - (a->node < b->node);
}

// The largest first, the first of equals.
static int by_need(const void *x, const void *y)
{
    const struct spot *a = x, *b = y;
    int order = pm_size_compare(&b->size, &a->size);
    return order ? order : by_node(a, b);
}

// The best first.
static int by_worth(const void *x, const void *y)
{
    const struct spot *a = x, *b = y;
    if (a->below != b->below)
        return a->below ? 1 : -1;
    int order = pm_size_compare(&a->size, &b->size);
    return order ? order : by_node(a, b);
}

static int by_from(const void *x, const void *y)
{
    const struct pm_move *a = x, *b = y;
    return (a->from > b->from) - (a->from < b->from);
}

void pm_moves_done(struct pm_moves *moves)
{
    free(moves->list);
    pm_set_done(&moves->from);
    pm_set_done(&moves->to);
    pm_set_done(&moves->out);
    *moves = (struct pm_moves){0};
}

// Both tables sorted: each of `lost` takes the first of `ready` that is large enough. One that needs as much as the
// one before goes on where that one found its place: all before are taken, or too small for it as well.
static int match(const struct table *lost, struct table *ready, struct pm_moves *ret)
{
    int rc = 0;
    for (uint32_t i = 0, at = 0; rc == 0 && i < lost->n; i++) {
        const struct spot *from = &lost->spots[i];
        if (i && pm_size_compare(&from->size, &lost->spots[i - 1].size))
            at = 0;
        while (at < ready->n && (ready->spots[at].settled || !pm_size_fits(&from->size, &ready->spots[at].size)))
            at++;
        rc = pm_set_add(at == ready->n ? &ret->out : &ret->from, from->node);
        if (at == ready->n || rc < 0)
            continue;
        ready->spots[at].settled = true;
        ret->list[ret->n++] = (struct pm_move){.from = from->node, .to = ready->spots[at].node};
        rc = pm_set_add(&ret->to, ready->spots[at].node);
    }
    return rc;
}

static int choose(const struct pm_removal *r, struct table *lost, struct table *ready, struct pm_moves *ret)
{
    char path[PM_PLACE_CAP];
    note_sizes(lost, r->sizes);
    note_sizes(ready, r->sizes);
    note_below(ready, r->places, pm_places_shared(r->places, r->lost, path));
    qsort(lost->spots, lost->n, sizeof(*lost->spots), by_need);
    qsort(ready->spots, ready->n, sizeof(*ready->spots), by_worth);
    int rc = match(lost, ready, ret);
    qsort(ret->list, ret->n, sizeof(*ret->list), by_from);
    return rc;
}

int pm_spares_choose(const struct pm_removal *r, struct pm_moves *ret)
{
    struct table lost = {0}, ready = {0};
    if (pm_set_empty(r->lost)) // as in most decisions: then nothing is looked up
        return 0;
    ret->list = calloc((size_t)pm_set_count(r->lost) + 1u, sizeof(*ret->list));
    int rc = ret->list ? list_nodes(r->lost, &lost) : -ENOMEM;
    if (rc == 0)
        rc = list_nodes(r->ready, &ready);
    if (rc == 0)
        rc = choose(r, &lost, &ready, ret);
    free(lost.spots);
    free(ready.spots);
    return rc < 0 ? -ENOMEM : 0;
}

static uint32_t place_of(uint32_t node, const struct pm_moves *moves)
{
    uint32_t low = 0, high = moves->n;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (moves->list[mid].from < node)
            low = mid + 1;
        else
            high = mid;
    }
    return low < moves->n && moves->list[low].from == node ? moves->list[low].to : node;
}

int pm_spares_map(const struct pm_world *world, const struct pm_moves *moves, struct pm_map *ret_map,
                  uint32_t *ret_nranks)
{
    struct pm_map moved = {0};
    int rc = 0;
    for (uint32_t rank = 0; rc == 0 && rank < world->nranks;) {
        uint32_t node = world->node_of_rank[rank], first = rank;
        while (rank < world->nranks && world->node_of_rank[rank] == node)
            rank++;
        rc = pm_map_add(&moved, first, rank - first, place_of(node, moves));
    }
    if (rc == 0)
        rc = pm_spares_without(&moved, &moves->out, ret_map, ret_nranks);
    pm_map_done(&moved);
    return rc;
}
