// SPDX-License-Identifier: Apache-2.0
//
// Who runs where: rank -> node, gathered from what the nodes report and spread as one record.
//
// A map is a list of runs (ranks first..first+n-1 are on a node), sorted by rank. On the wire,
// equal runs on consecutive nodes are one item, so that the usual distributions of Slurm take a few
// bytes whatever their size. A world is a checked map in arrays: no hole, no rank on two nodes.
#ifndef PM_CORE_PLACEMENT_H
#define PM_CORE_PLACEMENT_H

#include "pmix_server/core/internal.h"

#define PM_NODES_MAX 1048576u
#define PM_RANKS_MAX 16777216u

struct pm_run {
    uint32_t rank;
    uint32_t n;
    uint32_t node;
};

// Zero-initialise it; pm_map_done() frees it.
struct pm_map {
    struct pm_run *runs;
    uint32_t n;
    uint32_t cap;
};

// Why a map is no world.
enum pm_map_fault_kind {
    PM_MAP_GOOD = 0,
    PM_MAP_HOLE,    // nobody has `rank`
    PM_MAP_OVERLAP, // `node` and `other` both have `rank`
    PM_MAP_RANGE,   // `node` or `rank` is beyond the step's
};
struct pm_map_fault {
    enum pm_map_fault_kind kind;
    uint32_t rank;
    uint32_t node;
    uint32_t other;
};

void pm_map_done(struct pm_map *map);
void pm_map_clear(struct pm_map *map);
// 0 or -ENOMEM; the map is untouched on failure.
int pm_map_add(struct pm_map *map, uint32_t rank, uint32_t n, uint32_t node);
// Idempotent. *ret_changed (may be NULL) says whether `from` had anything new.
int pm_map_union(struct pm_map *into, const struct pm_map *from, bool *ret_changed);
void pm_write_map(struct pm_writer *w, const struct pm_map *map);
// Replaces *map. Unsorted runs, or more than `max_ranks` ranks in all, are an error.
void pm_read_map(struct pm_reader *r, struct pm_map *map, uint32_t max_ranks);

// GOOD, or what is wrong with it as the map of nranks ranks on nnodes nodes.
struct pm_map_fault pm_map_check(const struct pm_map *map, uint32_t nnodes, uint32_t nranks);
// Builds the world from the bytes of pm_write_map. 0; -ENOMEM; -EBADMSG for bytes that are no map;
// or positive PM_MAP_*, with *ret_fault filled. *ret_world is untouched unless 0.
int pm_world_from_bytes(const struct pm_world *shape, const uint8_t *data, size_t len,
                        struct pm_world *ret_world, struct pm_map_fault *ret_fault);

#endif
