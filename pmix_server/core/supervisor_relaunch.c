// SPDX-License-Identifier: Apache-2.0
//
// Another launch of the step, when the world has too few nodes left and the job has others.
//
// This launch ends like any other step: ranks are halted, lost nodes fenced off, shims and srun ended. Only then, and
// when each node has either reported that nothing of it runs or was declared lost and its last lease is over, the
// shell is told to launch the step again. The next launch is a new step with a key, a tree and a core of its own; it
// begins with the next epoch, and the budgets go on.
//
// Who kills all of the step (scancel --signal=KILL) does not want it back: there is no further launch when no node is
// left that could tell what happened, nor when srun was killed, or ended with what killed its tasks, before we ended it;
// unless Slurm knows of a node that was reset (supervisor_fallen.c).
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "pmix_server/core/supervisor.h"

static uint64_t *times_of(uint32_t n, uint64_t now_ns)
{
    uint64_t *times = calloc((size_t)n + 1, sizeof(*times));
    for (uint32_t i = 0; times && i < n; i++)
        times[i] = now_ns;
    return times;
}

// What was spent counts in a window as if it were spent now.
int pm_supervisor_inherit(struct pm_core *core)
{
    struct pm_supervisor *s = core->supervisor;
    const struct pm_legacy *legacy = &core->config.legacy;
    if (!legacy->relaunches)
        return 0;
    s->restarts = s->n_restart_ns = legacy->restarts;
    s->n_losses = legacy->node_losses;
    s->restart_ns = times_of(s->n_restart_ns, core->now_ns);
    s->loss_ns = times_of(s->n_losses, core->now_ns);
    s->wanted.epoch = legacy->epoch;
    s->wanted.restart_cause = legacy->cause;
    s->wanted.restart_rank = PM_RANK_NONE;
    s->wanted.version = 1; // nodes hear of the epoch before they get a server ready for one
    pm_report_next_epoch(&s->seen, legacy->epoch);
    return s->restart_ns && s->loss_ns ? 0 : -ENOMEM;
}

// Nodes of the step that the next launch does without: the lost and the dead ones. Into a zeroed *ret.
static void find_out(const struct pm_core *core, struct pm_set *ret)
{
    if (core->supervisor->fall.given_up)
        pm_supervisor_fallen_out(core, ret);
    else if (pm_set_copy(ret, &core->supervisor->wanted.lost) < 0 || pm_set_union(ret, pm_dead_nodes(core)) < 0)
        core->out->error = -ENOMEM;
}

static uint32_t count_found(const struct pm_core *core)
{
    struct pm_set out = {0};
    find_out(core, &out);
    uint32_t n = (uint32_t)pm_set_count(&out);
    pm_set_done(&out);
    return n;
}

uint32_t pm_supervisor_n_out(const struct pm_core *core, uint32_t node)
{
    if (core->supervisor->fall.given_up)
        return count_found(core);
    const struct pm_set *lost = &core->supervisor->wanted.lost, *dead = pm_dead_nodes(core);
    uint32_t n = (uint32_t)pm_set_count(lost);
    for (uint32_t i = pm_set_next(dead, 0); i != UINT32_MAX; i = pm_set_next(dead, i + 1))
        n += !pm_set_has(lost, i);
    return n + (node != UINT32_MAX && !pm_set_has(lost, node) && !pm_set_has(dead, node));
}

static const char *why_not(const struct pm_core *core, uint32_t node)
{
    const struct pm_core_config *c = &core->config;
    if (c->no_relaunch)
        return c->no_relaunch;
    if (c->legacy.relaunches >= c->options->relaunch)
        return "--pm-relaunch is used up";
    uint64_t gone = pm_supervisor_n_out(core, node), nnodes = core->supervisor->nnodes;
    if (c->job_nodes < c->legacy.nodes_out + gone + nnodes)
        return "the job has too few other nodes";
    return gone >= nnodes ? "none of its nodes is left" : NULL;
}

bool pm_supervisor_can_relaunch(struct pm_core *core, uint32_t node, const char **ret_why)
{
    // While it forms nothing has run that could go on.
    bool asked = core->config.options->relaunch && core->supervisor->state != PM_STATE_FORMING;
    *ret_why = asked ? why_not(core, node) : NULL;
    return asked && !*ret_why;
}

// May ranks of this node of the world still run? *ret_in_vain: waiting does not help.
static bool may_run(struct pm_core *core, uint32_t node, bool *ret_in_vain)
{
    bool dead = pm_set_has(pm_dead_nodes(core), node);
    *ret_in_vain = !dead;
    return !pm_set_has(&core->supervisor->seen.marks[PM_MARK_HALTED], node) && (!dead || !pm_lease_over(core, node));
}

// `wait`: only nodes that are worth waiting for.
static bool any_may_run(struct pm_core *core, bool wait)
{
    const struct pm_set *hosts = &core->world.hosts;
    for (uint32_t node = pm_set_next(hosts, 0); node != UINT32_MAX; node = pm_set_next(hosts, node + 1)) {
        bool in_vain;
        if (may_run(core, node, &in_vain) && !(wait && in_vain))
            return true;
    }
    return false;
}

void pm_supervisor_srun_exited(struct pm_core *core, int32_t wait_status)
{
    struct pm_supervisor *s = core->supervisor;
    s->srun_exited = true;
    s->srun_status = wait_status;
    s->fall.by_us = s->end == PM_END_STEP;
    // Shims of which no agent lives were told nothing.
    bool untold = s->end == PM_END_SHIMS && pm_supervisor_all_refused(core);
    bool asked = s->end != PM_END_NONE && s->end != PM_END_WAIT && s->end != PM_END_KILL && !untold;
    s->fall.by_itself = !asked && pm_policy_exit_of(wait_status) > 128;
}

bool pm_supervisor_holds(struct pm_core *core)
{
    struct pm_supervisor *s = core->supervisor;
    const char *why;
    if (!s->relaunch || s->state != PM_STATE_STOPPING || s->user_stop)
        return false;
    if (s->end == PM_END_WAIT || s->end == PM_END_KILL)
        return true;
    if (pm_supervisor_can_relaunch(core, UINT32_MAX, &why))
        (void)pm_supervisor_fence_off_rest(core);
    if (pm_set_empty(&s->fencing) && !any_may_run(core, true))
        return false;
    s->deadline_ns = UINT64_MAX; // a lease ends for sure, and the shell answers for each node
    return true;
}

static void tell(struct pm_core *core, const struct pm_set *out)
{
    const struct pm_supervisor *s = core->supervisor;
    char names[PM_TEXT_CAP];
    struct pm_log *log = pm_log_record(core, "relaunch");
    log->epoch = s->wanted.epoch;
    log->restarts = s->restarts;
    (void)snprintf(log->reason, sizeof(log->reason), "launch %u of %u, without %.200s",
                   core->config.legacy.relaunches + 2, core->config.options->relaunch + 1,
                   pm_supervisor_names(core, out, names, sizeof(names)));
    pm_say(core, "pm-supervise: nothing of the step runs any more; %s", log->reason);
}

bool pm_supervisor_relaunches(struct pm_core *core)
{
    struct pm_supervisor *s = core->supervisor;
    const char *why;
    if (!s->relaunch || s->user_stop)
        return false;
    bool can = pm_supervisor_can_relaunch(core, UINT32_MAX, &why);
    if (!pm_set_empty(&s->fencing) || !pm_set_empty(&s->fence_later))
        why = "a lost node is not fenced off yet";
    else if (!s->srun_exited || any_may_run(core, false))
        why = "it is not sure that nothing of it runs any more";
    if (!can || why) {
        pm_say(core, "pm-supervise: the step is not launched again: %s", why ? why : "");
        return false;
    }
    struct pm_set out = {0};
    struct pm_writer w = {0};
    find_out(core, &out);
    s->n_out = (uint32_t)pm_set_count(&out);
    pm_write_set(&w, &out);
    tell(core, &out);
    if (w.error)
        core->out->error = w.error;
    else
        pm_action_set_data(core, pm_emit(core, PM_ACTION_RELAUNCH), w.data, w.len);
    pm_writer_done(&w);
    pm_set_done(&out);
    return true;
}

// Of n times, oldest first, those in a window that ends now; window_ms 0: all.
static uint32_t recent(const uint64_t *times_ns, uint32_t n, uint64_t window_ms, uint64_t now_ns)
{
    uint32_t old = 0;
    while (window_ms && old < n && times_ns[old] + window_ms * PM_MS <= now_ns)
        old++;
    return n - old;
}

// Asked outside a step, where there is no output that could bear an error: nothing here needs memory.
struct pm_legacy pm_core_legacy(const struct pm_core *core)
{
    const struct pm_supervisor *s = core->supervisor;
    const struct pm_options *o = core->config.options;
    const struct pm_legacy *old = &core->config.legacy;
    return (struct pm_legacy){
        .epoch = s->wanted.epoch + 1,
        .relaunches = old->relaunches + 1,
        .restarts = o->restart_window_ms ? recent(s->restart_ns, s->n_restart_ns, o->restart_window_ms, core->now_ns)
                                         : s->restarts,
        .node_losses = recent(s->loss_ns, s->n_losses, o->node_loss_window_ms, core->now_ns),
        .nodes_out = old->nodes_out + s->n_out,
        .cause = s->cause.cause,
    };
}
