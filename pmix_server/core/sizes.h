// SPDX-License-Identifier: Apache-2.0
//
// What nodes offer beside tasks: how many GPUs Slurm granted there, and how much memory the step may use. Kept as texts
// ("4 2048") with the nodes that are alike, in a struct pm_places, which unites and carries such lists already. A
// node of which nothing is known is not in it: it needs nothing, offers no GPU, and its memory has no limit.
#ifndef PM_CORE_SIZES_H
#define PM_CORE_SIZES_H

#include "pmix_server/core/places.h"

struct pm_size {
    uint32_t gpus;
    uint64_t memory_mib; // 0: no limit
};

// 0 or -ENOMEM. *changed becomes true if that was news. A size of zeroes is not kept.
int pm_sizes_add(struct pm_places *sizes, const struct pm_size *size, uint32_t node, bool *changed);
// What one line of the list says. Another agent may have sent what is no size: then nothing is known.
struct pm_size pm_size_at(const struct pm_switch *place);
struct pm_size pm_sizes_of(const struct pm_places *sizes, uint32_t node);
// Can a node of size `offer` take the place of one of size `need`?
bool pm_size_fits(const struct pm_size *need, const struct pm_size *offer);
// <0, 0, >0: by GPUs, then by memory.
int pm_size_compare(const struct pm_size *a, const struct pm_size *b);
// "4 GPUs and 2048 MiB", for people. Returns buf.
char *pm_size_format(const struct pm_size *size, char *buf, size_t cap);

#endif
