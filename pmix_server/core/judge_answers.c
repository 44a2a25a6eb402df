// SPDX-License-Identifier: Apache-2.0
//
// Whom the judge (judge.c) suspects, and what is known of the dead: what the coordinator's other modules ask for.
#include <stdlib.h>
#include <string.h>

#include "pmix_server/core/membership.h"
#include "pmix_server/core/search.h"

uint32_t pm_dead_index(const struct pm_judge *j, uint32_t node)
{
    const struct pm_sorted sorted = {.list = j->dead, .n = j->n_dead, .stride = sizeof(*j->dead), .at = offsetof(struct pm_dead, node)};
    return pm_lower_bound(sorted, node);
}

void pm_remember_dead(struct pm_core *core, const struct pm_dead *dead)
{
    struct pm_judge *j = &core->membership->judge;
    uint32_t i = pm_dead_index(j, dead->node);
    if (i < j->n_dead && j->dead[i].node == dead->node)
        return;
    if (j->n_dead == j->cap_dead) {
        uint32_t cap = j->cap_dead ? 2 * j->cap_dead : 8;
        struct pm_dead *list = reallocarray(j->dead, cap, sizeof(*list));
        if (!list) {
            pm_out_of_memory(core);
            return;
        }
        j->dead = list;
        j->cap_dead = cap;
    }
    memmove(&j->dead[i + 1], &j->dead[i], (j->n_dead++ - i) * sizeof(*j->dead));
    j->dead[i] = *dead;
}

static const struct pm_dead *find(const struct pm_core *core, uint32_t node)
{
    const struct pm_judge *j = &core->membership->judge;
    uint32_t i = pm_dead_index(j, node);
    return i < j->n_dead && j->dead[i].node == node ? &j->dead[i] : NULL;
}

const struct pm_set *pm_suspect_nodes(const struct pm_core *core)
{
    struct pm_judge *j = &core->membership->judge;
    if (j->nodes_valid)
        return &j->nodes;
    pm_set_clear(&j->nodes);
    j->nodes_valid = true;
    for (uint32_t i = 0; i < j->n; i++)
        if (pm_set_union(&j->nodes, &j->list[i].pending) < 0) {
            j->nodes_valid = false;
            pm_out_of_memory(core);
        }
    return &j->nodes;
}

bool pm_judge_is_suspect(const struct pm_core *core, uint32_t node)
{
    return pm_set_has(pm_suspect_nodes(core), node);
}

uint64_t pm_longest_silence_ms(const struct pm_core *core)
{
    return core->membership->longest_silence_ns / PM_MS;
}

uint64_t pm_longest_late_ms(const struct pm_core *core)
{
    return core->membership->longest_late_ns / PM_MS;
}

uint64_t pm_silent_ms(const struct pm_core *core, uint32_t node)
{
    const struct pm_dead *dead = find(core, node);
    return dead ? dead->silent_ms : 0;
}

bool pm_was_silent(const struct pm_core *core, uint32_t node)
{
    const struct pm_dead *dead = find(core, node);
    return dead && dead->silent_ms && dead->unreachable;
}

bool pm_was_refused(const struct pm_core *core, uint32_t node)
{
    const struct pm_dead *dead = find(core, node);
    return dead && dead->refused;
}

const char *pm_death_proof(const struct pm_core *core, uint32_t node)
{
    const struct pm_dead *dead = find(core, node);
    return dead ? dead->proof : "";
}

bool pm_lease_over(const struct pm_core *core, uint32_t node)
{
    const struct pm_dead *dead = find(core, node);
    return dead && core->now_ns >= dead->over_ns;
}
