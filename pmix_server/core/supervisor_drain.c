// SPDX-License-Identifier: Apache-2.0
//
// Ranks that drain: the user has stopped the step, and they end by the signal that they have, or go on.
//
// When the signal came from Slurm (scancel, a time limit, preemption) there is no bound: how long they may take is what
// Slurm was told, and Slurm kills them; where it will not (scancel --signal), they go on as below plain srun. Then they
// are ended when --wait is over, when somebody stops srun as well, or some time after one of them aborts or a shim, an
// agent or a node is lost. After Ctrl-C they have that time from the beginning.
//
// Nobody waits for ranks that have ended, or that never started: fences and gets that need them fail, as in a step
// that nobody stops. No failure leads to anything else; each joins the stop.
#include "pmix_server/core/supervisor.h"

uint64_t pm_supervisor_drain_ms(const struct pm_core *core)
{
    return PM_USER_STOP_MS + core->config.options->grace_ms;
}

static bool has_no_bound(const struct pm_supervisor *s)
{
    return s->end == PM_END_WAIT && s->wanted.phase == PM_PHASE_DRAIN && s->deadline_ns == UINT64_MAX;
}

void pm_supervisor_user_insists(struct pm_core *core, int32_t signal)
{
    struct pm_supervisor *s = core->supervisor;
    if (!has_no_bound(s))
        return;
    pm_say(core, "pm-supervise: signal %d for srun: ranks that have outlived Slurm's signal are ended", signal);
    pm_supervisor_end_ranks(core);
}

void pm_supervisor_drain_wait_over(struct pm_core *core)
{
    char text[32], nodes[PM_TEXT_CAP];
    pm_say(core, "pm-supervise: ranks on %s still run %s after the first rank ended (--wait); ending them",
           pm_supervisor_missing(core, &core->supervisor->seen.marks[PM_MARK_ENDED], nodes, sizeof(nodes)),
           pm_duration_format(core->config.wait_ms, text, sizeof(text)));
    pm_supervisor_end_ranks(core);
}

// The task's end is known to srun, and no rank needs its slot any more.
bool pm_supervisor_drain_keeps_node(const struct pm_supervisor *s, const struct pm_failure *failure)
{
    return s->wanted.phase == PM_PHASE_DRAIN && failure->cause == PM_CAUSE_SHIM_LOST &&
           failure->epoch == s->wanted.epoch;
}

void pm_supervisor_nobody_waits_for(struct pm_core *core, const struct pm_set *ranks)
{
    uint32_t epoch = core->supervisor->wanted.epoch;
    for (uint32_t rank = pm_set_next(ranks, 0); rank != UINT32_MAX; rank = pm_set_next(ranks, rank + 1))
        pm_collective_rank_lost(core, epoch, rank);
}

static void has_bound_from_now(struct pm_core *core, const struct pm_failure *failure)
{
    char host[PM_TEXT_CAP], line[2 * PM_TEXT_CAP], time[32];
    const struct pm_story story = {.failure = failure, .host = pm_supervisor_host(core, failure->node, host)};
    pm_supervisor_arm(core, pm_supervisor_drain_ms(core));
    pm_say_verbose(core, "pm-supervise: %s; ranks that outlive Slurm's signal by %s from now are ended",
                   pm_sentence_failure(&story, line, sizeof(line)),
                   pm_duration_format(pm_supervisor_drain_ms(core), time, sizeof(time)));
}

void pm_supervisor_drain_failure(struct pm_core *core, const struct pm_failure *failure)
{
    struct pm_supervisor *s = core->supervisor;
    if (s->wanted.phase != PM_PHASE_DRAIN)
        return;
    bool lost = pm_cause_is_loss(failure->cause) && failure->cause != PM_CAUSE_UNHEALTHY;
    s->wanted_dirty = true;
    if (failure->rank != PM_RANK_NONE)
        pm_collective_rank_lost(core, s->wanted.epoch, failure->rank);
    else if (lost)
        pm_supervisor_nobody_waits_for(core, &core->world.ranks_of_node[failure->node]);
    if (has_no_bound(s) && (lost || failure->cause == PM_CAUSE_ABORT))
        has_bound_from_now(core, failure);
}
