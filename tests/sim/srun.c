// SPDX-License-Identifier: Apache-2.0
//
// The real srun and what Slurm does to the step: it hears of the end of tasks from the hosts that it can
// reach, ends when all have ended, kills the step 10 s after the first end (SLURM_WAIT=10, off where the step
// outlives nodes) or when it is told to end, and does not hear of hosts that are lost.
#include "tests/sim/check.h"
#include "tests/sim/outcome.h"
#include "tests/sim/sim.h"

#define WAIT_NS   (10 * SIM_S)
#define FORCE_NS  (60 * SIM_S) // srun gives up on nodes that do not answer its kill
#define RETRY_NS  (500 * SIM_MS)
#define KILL_WAIT_MS 30000u // slurm.conf's KillWait, if it says nothing else

static int32_t code_of(int32_t status)
{
    return status & 0x7f ? 128 + (status & 0x7f) : status >> 8 & 0xff;
}

static void push(struct sim *s, uint64_t delay_ns, enum sim_srun_what what, uint32_t arg,
                 uint64_t stamp)
{
    sim_push(s, s->now_ns + delay_ns, SIM_EVENT_SRUN, what, arg, stamp);
}

// The coordinator's process ends: its listener refuses from now on.
static void coordinator_ends(struct sim *s)
{
    if (!s->procs[s->p.nnodes].core)
        return;
    sim_tracef(s, "coordinator ends with %d", s->verdict);
    sim_proc_end(s, s->p.nnodes, false);
    s->done = true;
}

static void srun_ends(struct sim *s, int32_t status)
{
    if (!s->srun.alive || s->p.plant == SIM_PLANT_NO_END)
        return;
    s->srun.alive = false;
    s->srun.code = status;
    sim_tracef(s, "srun ends with %d", status);
    push(s, sim_rng_below(&s->local, 5 * SIM_MS), SIM_SRUN_REAPED, 0, (uint64_t)(uint32_t)status);
}

static void reaped(struct sim *s, int32_t status)
{
    if (!s->procs[s->p.nnodes].core)
        return;
    if (!sim_proc_runs(s, s->p.nnodes))
        push(s, 50 * SIM_MS, SIM_SRUN_REAPED, 0, (uint64_t)(uint32_t)status);
    else if (s->exited)
        coordinator_ends(s);
    else
        sim_proc_post(s, s->p.nnodes,
                      (struct pm_event){.type = PM_EVENT_SRUN_EXITED, .wait_status = status});
}

// --- tasks -------------------------------------------------------------------------------------

static bool all_over(const struct sim *s, uint32_t node)
{
    for (uint32_t i = 0; i < s->nodes[node].n_local; i++)
        if (!s->nodes[node].task_over[i])
            return false;
    return true;
}

// slurmstepd ends with its last task, and takes along whatever of the step is left.
static void node_over(struct sim *s, uint32_t node)
{
    if (s->hosts[node].off)
        return;
    if (!sim_host_runs(s, node)) {
        push(s, RETRY_NS, SIM_SRUN_NODE_OVER, node, 0);
        return;
    }
    sim_proc_end(s, node, true);
    for (uint32_t i = 0; i < s->nodes[node].n_local; i++)
        sim_rank_kill(s, node, i);
}

void sim_srun_task_over(struct sim *s, uint32_t node, uint32_t local, int32_t status)
{
    s->nodes[node].task_over[local] = true;
    if (all_over(s, node))
        push(s, sim_rng_between(&s->local, 5 * SIM_MS, 1000 * SIM_MS), SIM_SRUN_NODE_OVER, node, 0);
    push(s, sim_rng_between(&s->local, SIM_MS, 30 * SIM_MS), SIM_SRUN_TASK, node << 8 | local,
         (uint64_t)(uint32_t)status);
}

static void task_over(struct sim *s, uint32_t arg, int32_t status)
{
    struct sim_srun *r = &s->srun;
    uint32_t node = arg >> 8;
    if (!r->alive || s->hosts[node].off)
        return;
    if (!sim_path_open(s, node, s->p.nnodes) || !sim_host_runs(s, node)) {
        push(s, RETRY_NS, SIM_SRUN_TASK, arg, (uint64_t)(uint32_t)status);
        return;
    }
    r->n_over++;
    if (code_of(status) > r->worst)
        r->worst = code_of(status);
    if (!r->first_ns) {
        r->first_ns = s->now_ns;
        if (!pm_options_outlives_nodes(&s->p.options)) // else SLURM_WAIT=0
            push(s, WAIT_NS, SIM_SRUN_WAIT, 0, 0);
    }
    if (r->n_over == r->n_tasks)
        srun_ends(s, r->worst << 8);
}

// --- the step is killed --------------------------------------------------------------------------

// slurmstepd kills every process of the step on its node, also stopped ones.
static void node_killed(struct sim *s, uint32_t node)
{
    if (s->hosts[node].off)
        return;
    if (!sim_host_runs(s, node) || !sim_path_open(s, s->p.nnodes, node)) {
        push(s, RETRY_NS, SIM_SRUN_NODE, node, 0);
        return;
    }
    sim_tracef(s, "slurmstepd kills the step on node %u", node);
    sim_outcome_slurm_kills(s);
    sim_proc_end(s, node, true);
    for (uint32_t i = 0; i < s->nodes[node].n_local; i++) {
        struct sim_shim *shim = &s->nodes[node].shims[i];
        bool was = shim->alive;
        sim_check_slurm_kills(s, node, i);
        sim_shim_end(s, node, i, 9);
        sim_rank_kill(s, node, i);
        if (!was && !s->nodes[node].task_over[i]) // never started
            sim_srun_task_over(s, node, i, 9);
    }
}

void sim_srun_kill_step(struct sim *s, int32_t code)
{
    if (s->srun.killing)
        return;
    s->srun.killing = true;
    if (code > s->srun.worst)
        s->srun.worst = code;
    for (uint32_t i = 0; i < s->p.nnodes; i++)
        push(s, sim_rng_between(&s->local, 2 * SIM_MS, 100 * SIM_MS), SIM_SRUN_NODE, i, 0);
    push(s, FORCE_NS, SIM_SRUN_FORCE, 0, 0);
}

void sim_srun_signal(struct sim *s, int32_t signal, uint64_t kill_after_ms)
{
    if (!s->srun.alive)
        return;
    if (!s->srun.launched)
        srun_ends(s, signal); // nothing was started
    else if (signal == 9)
        kill_after_ms = 0;
    else
        push(s, SIM_MS, SIM_SRUN_TOLD, (uint32_t)signal, 0);
    push(s, kill_after_ms * SIM_MS, SIM_SRUN_SHOT, 0, 0);
}

// A host of the step is back without it: its connection ends with a reset, and srun gives the step up, unless it has
// heard of the end of all tasks there. Only in worlds that may be launched again, so that others keep their numbers.
void sim_srun_host_is_back(struct sim *s, uint32_t node)
{
    if (!s->p.options.relaunch || !s->srun.alive || !s->srun.launched || s->srun.killing || all_over(s, node))
        return;
    sim_tracef(s, "srun gives the step up: node %u was reset", node);
    SIM_ASSERT(pm_set_add(&s->booted, node) == 0);
    sim_srun_kill_step(s, 128 + 9);
}

// --- Slurm stops the step: scancel, the time limit, Ctrl-C --------------------------------------------

static void slurm_signals(struct sim *s, uint32_t node, int32_t signal)
{
    if (s->hosts[node].off || !sim_host_runs(s, node))
        return;
    for (uint32_t i = 0; i < s->nodes[node].n_local; i++)
        sim_shim_signalled(s, node, i, signal);
}

void sim_slurm_stop(struct sim *s, int32_t signal)
{
    sim_outcome_user_stops(s, signal);
    for (uint32_t i = 0; i < s->p.nnodes; i++)
        push(s, sim_rng_below(&s->local, 800 * SIM_MS), SIM_SRUN_SIGNAL, i, (uint64_t)signal);
    if (s->p.kill_wait_ms != SIM_NO_KILL)
        push(s, (s->p.kill_wait_ms ? s->p.kill_wait_ms : KILL_WAIT_MS) * SIM_MS, SIM_SRUN_KILL_WAIT, 0, 0);
}

void sim_srun_due(struct sim *s, uint32_t what, uint32_t arg, uint64_t stamp)
{
    switch (what) {
    case SIM_SRUN_TASK:
        task_over(s, arg, (int32_t)(uint32_t)stamp);
        break;
    case SIM_SRUN_REAPED:
        reaped(s, (int32_t)(uint32_t)stamp);
        break;
    case SIM_SRUN_WAIT:
        if (s->srun.alive)
            sim_srun_kill_step(s, s->srun.worst);
        break;
    case SIM_SRUN_NODE:
        node_killed(s, arg);
        break;
    case SIM_SRUN_NODE_OVER:
        node_over(s, arg);
        break;
    case SIM_SRUN_FORCE:
        srun_ends(s, s->srun.worst << 8);
        break;
    case SIM_SRUN_TOLD: // srun's own answer to TERM: SIGKILL for the whole step
        if (s->srun.alive)
            sim_srun_kill_step(s, 128 + 9);
        break;
    case SIM_SRUN_SHOT: // killed itself; Slurm ends the step when it notices
        if (s->srun.alive)
            sim_srun_kill_step(s, 0);
        srun_ends(s, 9);
        break;
    case SIM_SRUN_SIGNAL:
        slurm_signals(s, arg, (int32_t)stamp);
        break;
    case SIM_SRUN_KILL_WAIT:
        sim_srun_kill_step(s, 128 + 9);
        break;
    default:
        coordinator_ends(s);
        break;
    }
}
