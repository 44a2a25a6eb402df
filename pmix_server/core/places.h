// SPDX-License-Identifier: Apache-2.0
//
// Where nodes stand: for each path of switches, as Slurm's topology names it ("spine1.leaf12"), the nodes
// below it. Every agent knows its own path; reports unite them on their way up, so that a leaf switch of 40 nodes
// is one line. A step whose site has no topology has no places, and nothing is known of any node.
#ifndef PM_CORE_PLACES_H
#define PM_CORE_PLACES_H

#include "pmix_server/core/internal.h"

#define PM_PLACE_CAP 256 // bytes of a path, NUL included

struct pm_switch {
    char *path;
    struct pm_set nodes; // below it
};

// Zero-initialise it; pm_places_done() frees it.
struct pm_places {
    struct pm_switch *list; // by path
    uint32_t n;
};

void pm_places_done(struct pm_places *places);
// 0 or -ENOMEM. *changed becomes true if that was news. A path beyond PM_PLACE_CAP, or "", is no place.
int pm_places_add(struct pm_places *places, const char *path, const struct pm_set *nodes, bool *changed);
int pm_places_union(struct pm_places *into, const struct pm_places *from, bool *changed);
int pm_places_copy(struct pm_places *into, const struct pm_places *from); // into a zeroed one
void pm_write_places(struct pm_writer *w, const struct pm_places *places);
// Into a zeroed one. Nodes >= nnodes, and paths that are not in order, are an error.
void pm_read_places(struct pm_reader *r, struct pm_places *ret, uint32_t nnodes);
// The longest path that all of `nodes` stand below, in buf (PM_PLACE_CAP); "": there is none, or it is not known.
char *pm_places_shared(const struct pm_places *places, const struct pm_set *nodes, char *buf);
// The path of `node`; "": not known. Borrowed from `places`.
const char *pm_places_of(const struct pm_places *places, uint32_t node);
// Is it the switch at `path`, or one below that? None is below "".
bool pm_switch_is_below(const struct pm_switch *s, const char *path);
// How many nodes stand below `path`, of those of which it is known.
uint64_t pm_places_count(const struct pm_places *places, const char *path);
void pm_places_digest(const struct pm_places *places, struct pm_digest *d);

#endif
