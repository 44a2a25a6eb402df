// SPDX-License-Identifier: Apache-2.0
//
// Invariants 2 and 10: ranks under a live lease go on, ranks without one stand still within k, and
// nobody of an old world runs when the coordinator makes places for the next. Outside the promise:
// agent and shim stopped together, and a host that is suspended as a whole.
#include "pmix_server/core/internal.h"
#include "tests/sim/check.h"

#define SLACK_NS (20 * SIM_MS) // of a machine that is not real time

static bool nobody_acts(const struct sim *s, uint32_t node, uint32_t local)
{
    const struct sim_shim *shim = &s->nodes[node].shims[local];
    bool agent = s->procs[node].core && sim_proc_runs(s, node);
    return !sim_host_runs(s, node) || (!agent && !sim_shim_runs(s, node, local)) || !shim->alive;
}

static void note_both(struct sim *s, uint32_t node)
{
    for (uint32_t i = 0; i < s->nodes[node].n_local; i++)
        if (nobody_acts(s, node, i))
            s->check->watch[node].both_ns = s->now_ns;
}

void sim_check_shim_paused(struct sim *s, uint32_t node, uint32_t local)
{
    (void)local;
    s->check->watch[node].shim_paused = true;
    s->check->watch[node].both_ns = s->now_ns;
}

void sim_check_host_suspended(struct sim *s, uint32_t node)
{
    s->check->watch[node].both_ns = s->now_ns;
}

bool sim_lease_excused(struct sim *s, uint32_t node)
{
    note_both(s, node);
    const struct sim_watch *w = &s->check->watch[node];
    return w->both_ns && s->now_ns < w->both_ns + SIM_K_NS + SLACK_NS;
}

static uint64_t over_since_ns(const struct sim *s, uint32_t node)
{
    uint64_t end_ns = sim_clock_real_ns(&s->hosts[node].clock, s->nodes[node].lease_ns);
    return end_ns < s->now_ns ? s->now_ns - end_ns : 0;
}

// A lease that is over while a rank runs, or one that is live while a rank stands.
static void check_node(struct sim *s, uint32_t node)
{
    const struct sim_node *n = &s->nodes[node];
    if (s->hosts[node].off || n->lease_ns == SIM_NEVER || n->gone)
        return;
    uint64_t over_ns = over_since_ns(s, node);
    for (uint32_t i = 0; i < n->n_local; i++) {
        const struct sim_shim *shim = &n->shims[i];
        // An agent that runs does not yet stop the rank of a shim that is stopped.
        if (over_ns > SIM_K_NS + SLACK_NS && shim->alive && !shim->paused &&
            sim_rank_runs(s, node, i) && !sim_lease_excused(s, node))
            sim_violate(s, "10: rank %u runs on node %u, whose lease is over for %llu ms",
                        shim->rank.rank, node, (unsigned long long)(over_ns / SIM_MS));
        bool live_long = over_ns == 0 && s->check->watch[node].lease_set_ns + SIM_K_NS + SLACK_NS +
                                                 20 * s->p.local_ns < s->now_ns;
        if (live_long && shim->alive && !shim->paused && shim->rank.alive && shim->rank.stopped && !shim->killing &&
            s->now_ns >= n->late_until_ns && sim_proc_runs(s, node) && !sim_lease_excused(s, node))
            sim_violate(s, "10: rank %u stands still on node %u under a live lease",
                        shim->rank.rank, node);
    }
}

static void arm(struct sim *s, uint32_t node)
{
    struct sim_watch *w = &s->check->watch[node];
    uint64_t end_ns = sim_clock_real_ns(&s->hosts[node].clock, s->nodes[node].lease_ns);
    if (w->lease_check_ns > s->now_ns || s->nodes[node].lease_ns == SIM_NEVER)
        return;
    w->lease_check_ns = (end_ns > s->now_ns ? end_ns : s->now_ns) + SIM_K_NS + 2 * SLACK_NS;
    sim_push(s, w->lease_check_ns, SIM_EVENT_LEASE, node, 0, 0);
}

void sim_check_lease_due(struct sim *s, uint32_t node)
{
    if (s->check->watch[node].lease_check_ns != s->now_ns)
        return;
    check_node(s, node);
    if (over_since_ns(s, node) == 0)
        arm(s, node);
}

void sim_check_lease_set(struct sim *s, uint32_t node, const struct pm_action *a)
{
    uint64_t old_ns = s->nodes[node].lease_ns;
    struct sim_watch *w = &s->check->watch[node];
    if (old_ns != SIM_NEVER && a->deadline_ns <= old_ns)
        sim_violate(s, "10: the lease of node %u goes back", node);
    if (old_ns == SIM_NEVER || old_ns <= sim_local_ns(s, node))
        w->lease_set_ns = s->now_ns; // live again from now
    s->nodes[node].lease_ns = a->deadline_ns; // as the shell does next
    arm(s, node);
}

void sim_check_pause(struct sim *s, uint32_t node)
{
    if (s->nodes[node].lease_ns == SIM_NEVER || sim_local_ns(s, node) < s->nodes[node].lease_ns)
        sim_violate(s, "10: node %u stops its ranks under a live lease", node);
}

// A shim starts nothing while it must stand; an agent does not even ask it to.
void sim_check_start_lease(struct sim *s, uint32_t node, uint32_t rank)
{
    uint64_t end_ns = s->nodes[node].lease_ns;
    if (end_ns == SIM_NEVER || sim_local_ns(s, node) >= end_ns)
        sim_violate(s, "10: node %u starts rank %u without a live lease", node, rank);
}

void sim_check_stopped(struct sim *s, uint32_t node, uint32_t local, bool stop)
{
    const struct sim_shim *shim = &s->nodes[node].shims[local];
    uint64_t local_ns = sim_local_ns(s, node);
    if (stop && !shim->told_to_stand && local_ns < s->nodes[node].lease_ns)
        sim_violate(s, "10: rank %u is stopped on node %u under a live lease", shim->rank.rank, node);
}

// The coordinator might now start its ranks elsewhere.
void sim_check_dead_leases(struct sim *s)
{
    const struct pm_core *core = s->procs[s->p.nnodes].core;
    for (uint32_t i = 0; core && i < s->p.nnodes; i++) {
        if (!s->check->watch[i].gone_ns || !pm_lease_over(core, i))
            continue;
        for (uint32_t k = 0; k < s->nodes[i].n_local; k++)
            if (sim_rank_runs(s, i, k) && !s->nodes[i].shims[k].paused && !sim_lease_excused(s, i))
                sim_violate(s, "2: rank %u of epoch %u runs on node %u, whose last lease is over for "
                               "the coordinator", s->nodes[i].shims[k].rank.rank,
                            s->nodes[i].shims[k].rank.epoch, i);
    }
}

void sim_check_leases(struct sim *s)
{
    for (uint32_t i = 0; i < s->p.nnodes; i++)
        check_node(s, i);
}

// The coordinator believes that no process of the old world runs any more.
void sim_check_placing(struct sim *s)
{
    for (uint32_t i = 0; i < s->p.nnodes; i++)
        for (uint32_t k = 0; k < s->nodes[i].n_local; k++)
            if (sim_rank_runs(s, i, k) && !sim_lease_excused(s, i))
                sim_violate(s, "2: places are made for the next epoch while rank %u of epoch %u runs "
                               "on node %u", s->nodes[i].shims[k].rank.rank,
                            s->nodes[i].shims[k].rank.epoch, i);
}
