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

static uint32_t tasks_of(const struct pm_map *tasks, uint32_t node)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < tasks->n; i++)
        n += tasks->runs[i].node == node ? tasks->runs[i].n : 0;
    return n;
}

int pm_spares_too_small(const struct pm_map *tasks, uint32_t first_spare, const struct pm_set *spares,
                        struct pm_small_spare *ret)
{
    uint32_t *counts = calloc(first_spare, sizeof(*counts));
    if (!counts)
        return -ENOMEM;
    *ret = (struct pm_small_spare){.offers = UINT32_MAX};
    for (uint32_t i = 0; i < tasks->n; i++) {
        const struct pm_run *run = &tasks->runs[i];
        if (run->node >= first_spare || (counts[run->node] += run->n) <= ret->needs)
            continue;
        ret->node = run->node;
        ret->needs = counts[run->node];
    }
    free(counts);
    for (uint32_t spare = pm_set_next(spares, 0); spare != UINT32_MAX; spare = pm_set_next(spares, spare + 1)) {
        uint32_t offers = tasks_of(tasks, spare);
        if (offers < ret->offers) {
            ret->spare = spare;
            ret->offers = offers;
        }
    }
    return ret->offers < ret->needs;
}

int pm_spares_useless(const struct pm_places *sizes, uint32_t first_spare, const struct pm_set *spares,
                      struct pm_move *ret)
{
    uint32_t smallest = 0;
    for (uint32_t spare = pm_set_next(spares, 0); spare != UINT32_MAX && sizes->n;
         spare = pm_set_next(spares, spare + 1)) {
        const struct pm_size offer = pm_sizes_of(sizes, spare);
        bool useful = false;
        for (uint32_t node = 0; node < first_spare && !useful; node++) {
            const struct pm_size need = pm_sizes_of(sizes, node), least = pm_sizes_of(sizes, smallest);
            useful = pm_size_fits(&need, &offer);
            smallest = pm_size_compare(&need, &least) < 0 ? node : smallest;
        }
        *ret = (struct pm_move){.from = smallest, .to = spare};
        if (!useful)
            return 1;
    }
    return 0;
}

// The best of `left` for a node of size `need`; UINT32_MAX: there is none.
static uint32_t best_for(const struct pm_removal *r, const struct pm_set *left, const char *path,
                         const struct pm_size *need)
{
    uint32_t best = UINT32_MAX;
    struct pm_size best_size = {0};
    bool best_below = false;
    for (uint32_t node = pm_set_next(left, 0); node != UINT32_MAX; node = pm_set_next(left, node + 1)) {
        const struct pm_size size = pm_sizes_of(r->sizes, node);
        bool below = pm_places_under(r->places, path, node);
        bool better = best == UINT32_MAX || (best_below && !below) ||
                      (below == best_below && pm_size_compare(&size, &best_size) < 0);
        if (!better || !pm_size_fits(need, &size))
            continue;
        best = node;
        best_size = size;
        best_below = below;
    }
    return best;
}

// The largest of `left`, the first of equals.
static uint32_t largest(const struct pm_places *sizes, const struct pm_set *left)
{
    uint32_t found = pm_set_next(left, 0);
    for (uint32_t node = found; sizes->n && node != UINT32_MAX; node = pm_set_next(left, node + 1)) {
        const struct pm_size size = pm_sizes_of(sizes, node), most = pm_sizes_of(sizes, found);
        found = pm_size_compare(&size, &most) > 0 ? node : found;
    }
    return found;
}

static void insert_move(struct pm_move *moves, uint32_t n, struct pm_move move)
{
    for (; n > 0 && moves[n - 1].from > move.from; n--)
        moves[n] = moves[n - 1];
    moves[n] = move;
}

void pm_moves_done(struct pm_moves *moves)
{
    free(moves->list);
    pm_set_done(&moves->from);
    pm_set_done(&moves->to);
    pm_set_done(&moves->out);
    *moves = (struct pm_moves){0};
}

static int choose(const struct pm_removal *r, struct pm_set *lost, struct pm_set *ready, struct pm_moves *ret)
{
    char path[PM_PLACE_CAP];
    int rc = 0;
    (void)pm_places_shared(r->places, r->lost, path);
    while (rc == 0 && !pm_set_empty(lost)) {
        uint32_t from = largest(r->sizes, lost);
        const struct pm_size need = pm_sizes_of(r->sizes, from);
        uint32_t to = best_for(r, ready, path, &need);
        rc = pm_set_remove(lost, from);
        if (rc == 0)
            rc = pm_set_add(to == UINT32_MAX ? &ret->out : &ret->from, from);
        if (to == UINT32_MAX || rc < 0)
            continue;
        rc = pm_set_remove(ready, to);
        if (rc == 0)
            rc = pm_set_add(&ret->to, to);
        insert_move(ret->list, ret->n++, (struct pm_move){.from = from, .to = to});
    }
    return rc;
}

int pm_spares_choose(const struct pm_removal *r, struct pm_moves *ret)
{
    struct pm_set lost = {0}, ready = {0};
    ret->list = calloc((size_t)pm_set_count(r->lost) + 1u, sizeof(*ret->list));
    int rc = ret->list ? pm_set_copy(&lost, r->lost) : -ENOMEM;
    if (rc == 0)
        rc = pm_set_copy(&ready, r->ready);
    if (rc == 0)
        rc = choose(r, &lost, &ready, ret);
    pm_set_done(&lost);
    pm_set_done(&ready);
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
