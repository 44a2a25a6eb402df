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

// Takes from `ready` who stands below `path`, or who does not, until everybody has one.
static void choose(const struct pm_set *ready, const struct pm_places *places, const char *path,
                   bool below, struct pm_move *moves, uint32_t *n, uint32_t wanted)
{
    for (uint32_t node = pm_set_next(ready, 0); node != UINT32_MAX && *n < wanted;
         node = pm_set_next(ready, node + 1))
        if (pm_places_under(places, path, node) == below)
            moves[(*n)++].to = node;
}

void pm_moves_done(struct pm_moves *moves)
{
    free(moves->list);
    pm_set_done(&moves->from);
    pm_set_done(&moves->to);
    pm_set_done(&moves->out);
    *moves = (struct pm_moves){0};
}

int pm_spares_choose(const struct pm_set *lost, const struct pm_set *ready, const struct pm_places *places,
                     struct pm_moves *ret)
{
    char path[PM_PLACE_CAP];
    uint32_t wanted = (uint32_t)pm_set_count(lost), at = 0;
    int rc = 0;
    ret->list = calloc(wanted + 1u, sizeof(*ret->list));
    if (!ret->list)
        return -ENOMEM;
    (void)pm_places_shared(places, lost, path);
    choose(ready, places, path, false, ret->list, &ret->n, wanted);
    choose(ready, places, path, true, ret->list, &ret->n, wanted);
    for (uint32_t node = pm_set_next(lost, 0); rc == 0 && node != UINT32_MAX; node = pm_set_next(lost, node + 1)) {
        if (at == ret->n) {
            rc = pm_set_add(&ret->out, node);
            continue;
        }
        ret->list[at].from = node;
        rc = pm_set_add(&ret->from, node);
        rc = rc < 0 ? rc : pm_set_add(&ret->to, ret->list[at++].to);
    }
    return rc;
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
