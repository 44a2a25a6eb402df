// SPDX-License-Identifier: Apache-2.0
//
// What goes wrong: one row per kind with what it does, how it is undone, and how its numbers are
// drawn; what they do to the network is in fault_network.c. A fault that finds nothing to break does nothing.
#include "tests/sim/check.h"
#include "tests/sim/fault.h"
#include "tests/sim/fault_network.h"
#include "tests/sim/outcome.h"

static struct sim_rank *rank_of(struct sim *s, const struct sim_fault *f)
{
    return &s->nodes[f->node].shims[f->local].rank;
}

static void pause_proc(struct sim *s, uint32_t slot, bool paused)
{
    if (!s->procs[slot].core || s->procs[slot].paused == paused)
        return;
    sim_check_disturbed(s, slot, paused);
    s->procs[slot].paused = paused;
    if (!paused)
        sim_proc_wake(s, slot);
}

static void pause_shim(struct sim *s, uint32_t node, uint32_t local, bool paused)
{
    struct sim_shim *shim = &s->nodes[node].shims[local];
    if (!shim->alive || shim->paused == paused)
        return;
    shim->paused = paused;
    sim_check_shim_paused(s, node, local);
    if (paused)
        return;
    sim_chan_wake(s, node, false, local);
    sim_shim_look(s, node, local, sim_rng_below(&s->local, SIM_MS));
}

// --- ranks -------------------------------------------------------------------------------------

static void rank_exits(struct sim *s, const struct sim_fault *f)
{
    if (!rank_of(s, f)->plan_exec) // there is a program that can
        sim_rank_end(s, f->node, f->local, (int32_t)f->arg << 8);
}
static void rank_killed(struct sim *s, const struct sim_fault *f)
{
    sim_rank_end(s, f->node, f->local, (int32_t)f->arg);
}
static void rank_hangs(struct sim *s, const struct sim_fault *f)
{
    struct sim_rank *r = rank_of(s, f);
    if (r->alive && !r->doomed && r->step != SIM_RANK_ENDING) {
        r->step = SIM_RANK_HUNG;
        r->stamp++;
    }
}
static void rank_stubborn(struct sim *s, const struct sim_fault *f)
{
    rank_of(s, f)->stubborn = true;
}
static void rank_unreapable(struct sim *s, const struct sim_fault *f)
{
    rank_of(s, f)->unreapable_ns = s->now_ns + f->ms * SIM_MS;
}
static void rank_aborts(struct sim *s, const struct sim_fault *f)
{
    const struct sim_rank *r = rank_of(s, f);
    if (!r->alive || !r->connected || r->finalized)
        return;
    sim_check_aborts(s, f->node, f->local, (int32_t)f->arg);
    sim_server_abort(s, f->node, f->local, (int32_t)f->arg);
}
// Before PMIx_Init the others would wait for it for ever, with any launcher.
static void rank_leaves(struct sim *s, const struct sim_fault *f)
{
    if ((rank_of(s, f)->connected || !s->p.pmix) && !rank_of(s, f)->plan_exec)
        sim_rank_end(s, f->node, f->local, 0);
}
static void start_fails(struct sim *s, const struct sim_fault *f)
{
    struct sim_shim *shim = &s->nodes[f->node].shims[f->local];
    shim->start_fails = (uint8_t)(f->arg % 4 ? f->arg % 4 : 3); // an exec that fails is the end
    shim->starts_left = (uint8_t)(1 + f->arg / 4);
}
static void many_die(struct sim *s, const struct sim_fault *f)
{
    for (uint32_t i = 0; i < f->arg; i++) {
        uint32_t node = (f->node + i) % s->p.nnodes;
        for (uint32_t k = 0; k < s->nodes[node].n_local; k++)
            sim_rank_end(s, node, k, 11);
    }
}

// --- processes ---------------------------------------------------------------------------------

static void agent_killed(struct sim *s, const struct sim_fault *f)
{
    if (!s->procs[f->node].core)
        return;
    sim_outcome_lost(s, f->node);
    sim_proc_end(s, f->node, sim_rng_one_in(&s->faults, 2));
}
static void shim_killed(struct sim *s, const struct sim_fault *f)
{
    if (!s->nodes[f->node].shims[f->local].alive)
        return;
    sim_outcome_lost(s, f->node);
    sim_check_shim_killed(s, f->node, f->local);
    sim_shim_end(s, f->node, f->local, 9);
}
static void agent_and_shim_killed(struct sim *s, const struct sim_fault *f)
{
    if (sim_rng_one_in(&s->faults, 2)) {
        agent_killed(s, f);
        shim_killed(s, f);
    } else {
        shim_killed(s, f);
        agent_killed(s, f);
    }
}
static void agent_paused(struct sim *s, const struct sim_fault *f)
{
    pause_proc(s, f->node, true);
}
static void agent_resumed(struct sim *s, const struct sim_fault *f)
{
    pause_proc(s, f->node, false);
}
static void shim_paused(struct sim *s, const struct sim_fault *f)
{
    pause_shim(s, f->node, f->local, true);
}
static void shim_resumed(struct sim *s, const struct sim_fault *f)
{
    pause_shim(s, f->node, f->local, false);
}
static void both_paused(struct sim *s, const struct sim_fault *f)
{
    for (uint32_t i = 0; i < s->nodes[f->node].n_local; i++)
        pause_shim(s, f->node, i, true);
    pause_proc(s, f->node, true);
}
static void both_resumed(struct sim *s, const struct sim_fault *f)
{
    for (uint32_t i = 0; i < s->nodes[f->node].n_local; i++)
        pause_shim(s, f->node, i, false);
    pause_proc(s, f->node, false);
}
static void server_killed(struct sim *s, const struct sim_fault *f)
{
    sim_server_die(s, f->node, f->arg % SIM_SERVERS);
}
static void server_stuck(struct sim *s, const struct sim_fault *f)
{
    sim_server_stuck(s, f->node, f->arg % SIM_SERVERS);
}

// --- hosts -------------------------------------------------------------------------------------

static void host_off(struct sim *s, uint32_t node, bool reset)
{
    if (s->hosts[node].off)
        return;
    sim_outcome_lost(s, node);
    sim_check_disturbed(s, node, true);
    if (!reset)
        s->hosts[node].off = true; // before its sockets go: nobody hears of it
    for (uint32_t i = 0; i < s->nodes[node].n_local; i++)
        sim_check_host_off(s, node, i);
    sim_proc_end(s, node, true);
    s->hosts[node].off = true;
    for (uint32_t i = 0; i < s->nodes[node].n_local; i++) {
        struct sim_shim *shim = &s->nodes[node].shims[i];
        shim->alive = shim->linked = shim->heard = false;
        shim->stamp++;
        shim->rank.alive = shim->rank.doomed = false;
        shim->rank.descendants = 0;
        shim->rank.stamp++;
    }
}
static void host_lost(struct sim *s, const struct sim_fault *f)
{
    host_off(s, f->node, false);
}
static void host_crashed(struct sim *s, const struct sim_fault *f)
{
    host_off(s, f->node, true);
}
static void host_is_back(struct sim *s, const struct sim_fault *f)
{
    s->hosts[f->node].off = false;
    s->hosts[f->node].suspended = false;
    sim_srun_host_is_back(s, f->node);
}
static void rack_lost(struct sim *s, const struct sim_fault *f)
{
    for (uint32_t i = 0; i < f->arg; i++)
        host_off(s, (f->node + i) % s->p.nnodes, false);
}

static void suspend(struct sim *s, uint32_t slot, bool suspended)
{
    struct sim_host *h = &s->hosts[slot];
    if (h->off || h->suspended == suspended)
        return;
    sim_check_disturbed(s, slot, suspended);
    h->suspended = suspended;
    if (slot < s->p.nnodes)
        sim_check_host_suspended(s, slot);
    if (suspended)
        return;
    sim_proc_wake(s, slot);
    for (uint32_t i = 0; slot < s->p.nnodes && i < s->nodes[slot].n_local + SIM_SERVERS; i++)
        sim_chan_wake(s, slot, false, i);
    for (uint32_t i = 0; slot < s->p.nnodes && i < s->nodes[slot].n_local; i++)
        sim_shim_look(s, slot, i, sim_rng_below(&s->local, SIM_MS));
}
static void host_suspended(struct sim *s, const struct sim_fault *f)
{
    suspend(s, f->node, true);
}
static void host_resumed(struct sim *s, const struct sim_fault *f)
{
    suspend(s, f->node, false);
}

// --- the coordinator, Slurm, local events --------------------------------------------------------

static void coord_paused(struct sim *s, const struct sim_fault *f)
{
    (void)f;
    pause_proc(s, s->p.nnodes, true);
}
static void coord_resumed(struct sim *s, const struct sim_fault *f)
{
    (void)f;
    pause_proc(s, s->p.nnodes, false);
}
// SIGKILL to the user's srun: PDEATHSIG makes the real srun end the step.
static void coord_killed(struct sim *s, const struct sim_fault *f)
{
    (void)f;
    if (!s->procs[s->p.nnodes].core)
        return;
    sim_srun_signal(s, 15, 5000);
    s->exited = s->done = true;
    s->exited_ns = s->now_ns;
    s->verdict = 128 + 9;
    sim_proc_end(s, s->p.nnodes, sim_rng_one_in(&s->faults, 2));
}
static void user_stop(struct sim *s, const struct sim_fault *f)
{
    if (!s->procs[s->p.nnodes].core || s->exited)
        return;
    if (!sim_proc_runs(s, s->p.nnodes)) {
        struct sim_fault later = *f;
        sim_fault_at(s, s->now_ns + 100 * SIM_MS, &later);
        return;
    }
    bool untold = s->srun.launched && !s->user_stop;
    if (!untold && s->srun.alive)
        sim_srun_signal(s, (int32_t)f->arg, 600000);
    s->user_stop = true;
    sim_outcome_user_stops(s, (int32_t)f->arg);
    sim_proc_post(
        s, s->p.nnodes,
        (struct pm_event){.type = PM_EVENT_STOP, .signal = (int32_t)f->arg, .flag_untold = untold});
}
static void slurm_stop(struct sim *s, const struct sim_fault *f)
{
    if (s->srun.launched && s->srun.alive)
        sim_slurm_stop(s, (int32_t)f->arg);
}
static void job_suspended(struct sim *s, const struct sim_fault *f)
{
    (void)f;
    sim_check_job(s);
    s->job_state = PM_JOB_SUSPENDED;
    for (uint32_t i = 0; i < s->p.nnodes; i++)
        suspend(s, i, true);
}
static void job_resumed(struct sim *s, const struct sim_fault *f)
{
    (void)f;
    sim_check_job(s);
    s->job_state = PM_JOB_RUNNING;
    for (uint32_t i = 0; i < s->p.nnodes; i++)
        suspend(s, i, false);
}
static void local_late(struct sim *s, const struct sim_fault *f)
{
    s->nodes[f->node].late_until_ns = s->now_ns + f->ms * SIM_MS;
    s->nodes[f->node].late_ms = f->arg;
}
static void local_twice(struct sim *s, const struct sim_fault *f)
{
    s->nodes[f->node].twice = f->arg;
}

// Of no use as a spare any more, as if it were gone.
static void node_drained(struct sim *s, const struct sim_fault *f)
{
    int rc = pm_set_add(&s->drained, f->node);
    SIM_ASSERT(rc == 0);
    sim_outcome_unfit(s, f->node);
}

static void health_fails(struct sim *s, const struct sim_fault *f)
{
    s->nodes[f->node].sick = true;
}

// --- the table ---------------------------------------------------------------------------------

const struct sim_fault_row sim_fault_rows[SIM_FAULT_MAX] = {
    [SIM_FAULT_RANK_EXITS] = {"rank-exits", rank_exits, NULL, 1, 3, 0, 0, true},
    [SIM_FAULT_RANK_KILLED] = {"rank-killed", rank_killed, NULL, 6, 11, 0, 0, true},
    [SIM_FAULT_RANK_HANGS] = {"rank-hangs", rank_hangs, NULL, 0, 0, 0, 0, true},
    [SIM_FAULT_RANK_STUBBORN] = {"rank-stubborn", rank_stubborn, NULL, 0, 0, 0, 0, true},
    [SIM_FAULT_RANK_UNREAPABLE] = {"rank-unreapable", rank_unreapable, NULL, 0, 0, 1000, 40000,
                                   true},
    [SIM_FAULT_RANK_ABORTS] = {"rank-aborts", rank_aborts, NULL, 0, 3, 0, 0, true},
    [SIM_FAULT_RANK_LEAVES] = {"rank-leaves", rank_leaves, NULL, 0, 0, 0, 0, true},
    [SIM_FAULT_START_FAILS] = {"start-fails", start_fails, NULL, 0, 19, 0, 0, true},
    [SIM_FAULT_MANY_DIE] = {"many-die", many_die, NULL, 1, 16, 0, 0, true},
    [SIM_FAULT_AGENT_KILLED] = {"agent-killed", agent_killed, NULL, 0, 0, 0, 0, true},
    [SIM_FAULT_SHIM_KILLED] = {"shim-killed", shim_killed, NULL, 0, 0, 0, 0, true},
    [SIM_FAULT_AGENT_AND_SHIM_KILLED] = {"agent-and-shim-killed", agent_and_shim_killed, NULL, 0, 0,
                                         0, 0, true},
    [SIM_FAULT_AGENT_PAUSED] = {"agent-paused", agent_paused, agent_resumed, 0, 0, 5, 15000, true},
    [SIM_FAULT_SHIM_PAUSED] = {"shim-paused", shim_paused, shim_resumed, 0, 0, 5, 15000, true},
    [SIM_FAULT_AGENT_AND_SHIMS_PAUSED] = {"agent-and-shims-paused", both_paused, both_resumed, 0, 0,
                                          5, 15000, true},
    [SIM_FAULT_SERVER_KILLED] = {"server-killed", server_killed, NULL, 0, 3, 0, 0, true},
    [SIM_FAULT_SERVER_STUCK] = {"server-stuck", server_stuck, NULL, 0, 3, 0, 0, true},
    [SIM_FAULT_HOST_LOST] = {"host-lost", host_lost, NULL, 0, 0, 0, 0, true},
    [SIM_FAULT_HOST_CRASHED] = {"host-crashed", host_crashed, NULL, 0, 0, 0, 0, true},
    [SIM_FAULT_HOST_REBOOTED] = {"host-rebooted", host_lost, host_is_back, 0, 0, 100, 30000, true},
    [SIM_FAULT_HOST_SUSPENDED] = {"host-suspended", host_suspended, host_resumed, 0, 0, 5, 15000, true},
    [SIM_FAULT_RACK_LOST] = {"rack-lost", rack_lost, NULL, 2, 5, 0, 0, true},
    [SIM_FAULT_LINK_RESET] = {"link-reset", sim_strike_link_reset, NULL, 0, 0, 0, 0, false},
    [SIM_FAULT_LINK_CUT] = {"link-cut", sim_strike_link_cut, sim_strike_link_healed, 0, 0, 5, 15000, false},
    [SIM_FAULT_ONE_WAY_CUT] = {"one-way-cut", sim_strike_one_way_cut, sim_strike_link_healed, 0, 0, 5, 15000, false},
    [SIM_FAULT_NODE_CUT] = {"node-cut", sim_strike_node_cut, sim_strike_node_healed, 0, 0, 5, 15000, true},
    [SIM_FAULT_NODE_SLOW] = {"node-slow", sim_strike_node_slow, sim_strike_node_quick, 1, 800, 5, 15000, false},
    [SIM_FAULT_NODE_CLOGGED] = {"node-clogged", sim_strike_node_clogged, sim_strike_node_quick, 100, 100000, 5, 10000, false},
    [SIM_FAULT_PARTITION] = {"partition", sim_strike_partition, sim_strike_network_healed, 0, 1000, 5, 15000, false},
    [SIM_FAULT_MASS_SILENCE] = {"mass-silence", sim_strike_mass_silence, sim_strike_network_healed, 2, 40, 5, 30000,
                                true},
    [SIM_FAULT_COORD_PAUSED] = {"coordinator-paused", coord_paused, coord_resumed, 0, 0, 5, 20000,
                                false},
    [SIM_FAULT_COORD_CUT] = {"coordinator-cut", sim_strike_coord_cut, sim_strike_coord_healed, 0, 0, 5, 30000, false},
    [SIM_FAULT_COORD_KILLED] = {"coordinator-killed", coord_killed, NULL, 0, 0, 0, 0, false},
    [SIM_FAULT_USER_STOP] = {"user-stop", user_stop, NULL, 15, 15, 0, 0, false},
    [SIM_FAULT_SLURM_STOP] = {"slurm-stop", slurm_stop, NULL, 15, 15, 0, 0, false},
    [SIM_FAULT_JOB_SUSPENDED] = {"job-suspended", job_suspended, job_resumed, 0, 0, 100, 60000,
                                 false},
    [SIM_FAULT_LOCAL_LATE] = {"local-late", local_late, NULL, 1, 3000, 100, 10000, true},
    [SIM_FAULT_LOCAL_TWICE] = {"local-twice", local_twice, NULL, 1, 8, 0, 0, true},
    [SIM_FAULT_QUEUE_FULL] = {"queue-full", sim_strike_queue_full, sim_strike_queue_free, 0, 6, 5, 5000, false},
    [SIM_FAULT_NODE_DRAINED] = {"node-drained", node_drained, NULL, 0, 0, 0, 0, true},
    [SIM_FAULT_HEALTH_FAILS] = {"health-fails", health_fails, NULL, 0, 0, 0, 0, true},
    [SIM_FAULT_LINK_SLOW] = {"link-slow", sim_strike_link_slow, sim_strike_link_quick, 1, 1500, 5, 15000, false},
    [SIM_FAULT_LINK_CLOGGED] = {"link-clogged", sim_strike_link_clogged, sim_strike_link_quick, 100, 300000, 5, 10000, false},
};

void sim_heal_all(struct sim *s)
{
    struct sim_fault f = {0};
    s->calm = true;
    sim_strike_network_healed(s, &f);
    for (uint32_t i = 0; i < s->n; i++) {
        f.node = sim_node_of(s, i);
        if (s->hosts[i].slow_ms || s->hosts[i].clog_us)
            sim_strike_node_quick(s, &f);
        sim_slow_link_end(s, i);
        if (s->hosts[i].queue_max)
            sim_strike_queue_free(s, &f);
    }
    job_resumed(s, &f);
    suspend(s, s->p.nnodes, false);
    coord_resumed(s, &f);
    for (uint32_t i = 0; i < s->p.nnodes; i++) {
        f.node = i;
        both_resumed(s, &f);
        s->nodes[i].late_until_ns = 0;
        s->nodes[i].twice = 0;
        for (uint32_t k = 0; k < s->nodes[i].n_local; k++) {
            struct sim_shim *shim = &s->nodes[i].shims[k];
            shim->starts_left = 0;
            shim->rank.stubborn = false;
        }
    }
    sim_tracef(s, "CALM");
}
