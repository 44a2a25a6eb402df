// SPDX-License-Identifier: Apache-2.0
//
// Ranks that drain: the user has stopped the step, and they end by the signal that they have, or go on.
//
// Nobody waits for ranks that have ended, or that never started: fences and gets that need them fail, as in a step
// that nobody stops. No failure leads to anything else; each joins the stop.
#include "pmix_server/core/supervisor.h"

void pm_supervisor_nobody_waits_for(struct pm_core *core, const struct pm_set *ranks)
{
    uint32_t epoch = core->supervisor->wanted.epoch;
    for (uint32_t rank = pm_set_next(ranks, 0); rank != UINT32_MAX; rank = pm_set_next(ranks, rank + 1))
        pm_collective_rank_lost(core, epoch, rank);
}

void pm_supervisor_drain_failure(struct pm_core *core, const struct pm_failure *failure)
{
    struct pm_supervisor *s = core->supervisor;
    if (s->wanted.phase != PM_PHASE_DRAIN)
        return;
    s->wanted_dirty = true;
    if (failure->rank != PM_RANK_NONE)
        pm_collective_rank_lost(core, s->wanted.epoch, failure->rank);
    else if (pm_cause_is_loss(failure->cause))
        pm_supervisor_nobody_waits_for(core, &core->world.ranks_of_node[failure->node]);
}
