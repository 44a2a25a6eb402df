// SPDX-License-Identifier: Apache-2.0
//
// Which ranks the world has when some nodes wait as spares, which spare takes whose place, and what is left of the
// world when nobody does. Pure functions of maps and sets.
//
// The last nodes of the step are spares. Slurm numbers tasks on all nodes; the world numbers ranks from 0 on
// the others only, in the order of their tasks. A node's ranks move together, keep their numbers, and move to a
// node that has no rank; so every spare must offer as many tasks as any other node. GPUs and memory may differ: a spare
// takes the place only of nodes that had no more of them.
#ifndef PM_CORE_SPARES_H
#define PM_CORE_SPARES_H

#include "pmix_server/core/places.h"
#include "pmix_server/core/placement.h"
#include "pmix_server/core/sizes.h"

struct pm_move {
    uint32_t from;
    uint32_t to;
};

// What becomes of the ranks of lost nodes. Zero-initialise it; pm_moves_done() frees it.
struct pm_moves {
    struct pm_move *list; // in order of `from`
    uint32_t n;
    struct pm_set from, to; // of the list
    struct pm_set out;      // lost nodes that nobody replaces
};
void pm_moves_done(struct pm_moves *moves);

// A spare with fewer tasks than a node that it may have to replace.
struct pm_small_spare {
    uint32_t spare, offers;
    uint32_t node, needs;
};

// A world's map out of a larger one (checked: no hole, no overlap): what all nodes but those of `out` have,
// numbered anew in the same order. *ret_map is zeroed before, *ret_nranks counts its ranks. 0 or -ENOMEM.
int pm_spares_without(const struct pm_map *map, const struct pm_set *out, struct pm_map *ret_map,
                      uint32_t *ret_nranks);
// Is there a spare (of `spares`) with fewer tasks than some node before first_spare? 1: *ret says which; 0: no;
// -ENOMEM.
int pm_spares_too_small(const struct pm_map *tasks, uint32_t first_spare, const struct pm_set *spares,
                        struct pm_small_spare *ret);
// Who may move where.
struct pm_removal {
    const struct pm_set *lost;  // nodes whose ranks have to move
    const struct pm_set *ready; // spares
    const struct pm_places *places;
    const struct pm_places *sizes;
};
// Is there a spare (of `spares`) that is too small for each node before first_spare? 1: ret->to is it, and ret->from
// the smallest of those nodes; 0: no; -ENOMEM.
int pm_spares_useless(const struct pm_places *sizes, uint32_t first_spare, const struct pm_set *spares,
                      struct pm_move *ret);
// One of `ready` for each of `lost` that there is one for: the largest of the lost nodes first, for each the smallest
// that is large enough; before that counts that it does not stand below the switch that all the lost ones share, after it
// the id. (Where some have more GPUs and others more memory, there may be a better way.) 0 or -ENOMEM; *ret is the caller's
// to free in either case.
int pm_spares_choose(const struct pm_removal *r, struct pm_moves *ret);
// The world's map after the moves, and without the nodes that nobody replaces: *ret_map is zeroed before,
// *ret_nranks counts its ranks. 0 or -ENOMEM.
int pm_spares_map(const struct pm_world *world, const struct pm_moves *moves, struct pm_map *ret_map,
                  uint32_t *ret_nranks);

#endif
