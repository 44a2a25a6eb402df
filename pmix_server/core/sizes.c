// SPDX-License-Identifier: Apache-2.0
//
// See sizes.h.
#include "pmix_server/core/sizes.h"

#include <inttypes.h>
#include <stdio.h>

char *pm_size_format(const struct pm_size *size, char *buf, size_t cap)
{
    char memory[32] = "";
    if (size->memory_mib)
        (void)snprintf(memory, sizeof(memory), " and %" PRIu64 " MiB", size->memory_mib);
    (void)snprintf(buf, cap, "%" PRIu32 " GPU%s%s", size->gpus, size->gpus == 1 ? "" : "s", memory);
    return buf;
}

int pm_sizes_add(struct pm_places *sizes, const struct pm_size *size, uint32_t node, bool *changed)
{
    char text[PM_PLACE_CAP] = "";
    struct pm_span own = {node, node};
    const struct pm_set self = {.spans = &own, .n = 1};
    if (size->gpus || size->memory_mib)
        (void)snprintf(text, sizeof(text), "%" PRIu32 " %" PRIu64, size->gpus, size->memory_mib);
    return pm_places_add(sizes, text, &self, changed);
}

static struct pm_size parse(const char *text)
{
    struct pm_size size = {0};
    if (sscanf(text, "%" SCNu32 " %" SCNu64, &size.gpus, &size.memory_mib) != 2)
        return (struct pm_size){0};
    return size;
}

struct pm_size pm_size_at(const struct pm_switch *place)
{
    return parse(place->path);
}

struct pm_size pm_sizes_of(const struct pm_places *sizes, uint32_t node)
{
    return parse(pm_places_of(sizes, node));
}

bool pm_size_fits(const struct pm_size *need, const struct pm_size *offer)
{
    bool memory = !need->memory_mib || !offer->memory_mib || offer->memory_mib >= need->memory_mib;
    return memory && offer->gpus >= need->gpus;
}

int pm_size_compare(const struct pm_size *a, const struct pm_size *b)
{
    if (a->gpus != b->gpus)
        return a->gpus < b->gpus ? -1 : 1;
    return (a->memory_mib > b->memory_mib) - (a->memory_mib < b->memory_mib);
}
