// SPDX-License-Identifier: Apache-2.0
//
// The life of a seed: the step is launched, things go wrong for a while, then nothing does any more,
// and the step has to end within its bound; then everything that belonged to it has to be gone. A
// rank that hangs is what the core does not see yet: in the end the user stops the step.
#include "tests/sim/check.h"
#include "tests/sim/outcome.h"
#include "tests/sim/sim.h"

static uint64_t backoff_ms(const struct pm_options *o)
{
    if (!o->backoff_ms)
        return 0;
    return o->backoff_max_ms ? o->backoff_max_ms : o->backoff_ms << 6;
}

// What remains when faults have stopped: those that are lost are judged, the world is halted and
// started again a few times (ranks fail once more by what they saw), lives its life, and ends.
uint64_t sim_bound_ms(const struct sim *s)
{
    const struct pm_options *o = &s->p.options;
    uint64_t judge = 3 * o->node_timeout_ms + o->orphan_timeout_ms + s->p.job_ask_ms;
    uint64_t halt = o->grace_ms + 10000 + o->node_timeout_ms + 1000;
    uint64_t start = o->start_timeout_ms + backoff_ms(o) + o->health_timeout_ms;
    uint64_t life = 2 * s->p.life_ms + s->p.fences * (250 + 2 * (uint64_t)s->p.jitter_ns / SIM_MS) +
                    s->p.wait_ms + s->p.fence_timeout_ms;
    uint64_t fence = o->fence[0] ? (s->p.nnodes / PM_FENCE_OFF_AT_ONCE + 1) * (o->fence_timeout_ms + 1000) : 0;
    uint64_t end = fence + 35000 + o->grace_ms + halt + 30000;
    return judge + halt + 3 * start + 3 * life + end + 60000;
}

static bool hangs(const struct sim *s)
{
    for (uint32_t i = 0; i < s->p.nnodes; i++)
        for (uint32_t k = 0; k < s->nodes[i].n_local; k++)
            if (s->nodes[i].shims[k].rank.alive &&
                s->nodes[i].shims[k].rank.step == SIM_RANK_HUNG)
                return true;
    return false;
}

static const char *what_runs(const struct sim *s, char *buf, size_t cap)
{
    uint32_t ranks = 0, shims = 0, agents = 0;
    for (uint32_t i = 0; i < s->p.nnodes; i++) {
        agents += s->procs[i].core != NULL;
        for (uint32_t k = 0; k < s->nodes[i].n_local; k++) {
            ranks += s->nodes[i].shims[k].rank.alive;
            shims += s->nodes[i].shims[k].alive;
        }
    }
    snprintf(buf, cap, "state %s, %u agents, %u shims, %u ranks, srun %s", pm_state_name(sim_state(s)),
             agents, shims, ranks, s->srun.alive ? "lives" : "ended");
    return buf;
}

// What every surviving process may still take when the coordinator is gone.
static uint64_t cleanup_ms(const struct sim *s)
{
    const struct pm_options *o = &s->p.options;
    return 2 * o->orphan_timeout_ms + 3 * o->node_timeout_ms + o->start_timeout_ms + 120000;
}

static void spark(struct sim *s)
{
    struct sim_fault f = {.kind = SIM_FAULT_RANK_KILLED, .arg = 9};
    f.node = sim_rng_pick(&s->faults, s->p.nnodes);
    f.local = sim_rng_pick(&s->faults, s->nodes[f.node].n_local);
    if (sim_run_to_state(s, PM_STATE_RUNNING, s->p.chaos_ms))
        sim_fault_at(s, s->now_ns + sim_rng_below(&s->faults, s->p.life_ms / 8 * SIM_MS), &f);
}

bool sim_run(struct sim *s)
{
    sim_launch(s);
    sim_fault_random(s, sim_rng_below(&s->faults, 4) ? 2000 * SIM_MS : SIM_MS);
    sim_fault_on_state(s, PM_STATE_FORMING);
    if (s->p.spark)
        spark(s);
    return sim_run_on(s);
}

bool sim_run_on(struct sim *s)
{
    char buf[128];
    uint64_t calm_ns = (s->p.chaos_ms + 2000) * SIM_MS;
    sim_run_to(s, calm_ns > s->now_ns ? calm_ns : s->now_ns);
    sim_heal_all(s);
    if (!s->done && hangs(s))
        sim_slurm_stop(s, 15);
    bool ended = sim_run_to_exit(s, sim_bound_ms(s));
    if (!ended && !s->violation[0])
        sim_violate(s, "6: the step does not end within %llu ms after the last fault: %s",
                    (unsigned long long)sim_bound_ms(s), what_runs(s, buf, sizeof(buf)));
    if (s->violation[0])
        return false;
    sim_run_to(s, s->now_ns + cleanup_ms(s) * SIM_MS);
    return !s->violation[0] && sim_check_end(s);
}
