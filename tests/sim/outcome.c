// SPDX-License-Identifier: Apache-2.0
//
// See outcome.h.
//
// 0 wants proof: every rank's last life belongs to the last epoch and ended with 0. Any other status
// wants a reason: a failure of the last epoch that cannot or may not be restarted, something lost,
// the user, srun. Where failures could be restarted and nothing else happened, the step must go on.
#include "tests/sim/outcome.h"

#include <string.h>

#include "tests/sim/check.h"

#define CANNOT_SUPERVISE 125

struct sim_outcome *sim_outcome_new(struct sim *s)
{
    (void)s;
    return sim_alloc(1, sizeof(struct sim_outcome));
}

void sim_outcome_free(struct sim_outcome *o)
{
    pm_set_done(&o->nodes_lost);
    pm_set_done(&o->unfit);
    free(o);
}

void sim_outcome_lost(struct sim *s, uint32_t node)
{
    int rc = pm_set_add(&s->outcome->nodes_lost, node);
    SIM_ASSERT(rc == 0);
    s->outcome->lost = true;
}

void sim_outcome_unfit(struct sim *s, uint32_t node)
{
    int rc = pm_set_add(&s->outcome->unfit, node);
    SIM_ASSERT(rc == 0);
}

void sim_outcome_orphan(struct sim *s)
{
    s->outcome->orphan = true;
}

void sim_outcome_user_stops(struct sim *s, int32_t signal)
{
    s->outcome->user = true;
    s->outcome->user_signal = signal;
}

void sim_outcome_slurm_kills(struct sim *s)
{
    if (!s->exited)
        s->outcome->slurm_killed = true;
}

static int32_t code_of(int32_t status)
{
    return status & 0x7f ? 128 + (status & 0x7f) : status >> 8 & 0xff;
}

static bool faults_struck(const struct sim *s, enum sim_fault_kind first, enum sim_fault_kind last)
{
    for (int k = (int)first; k <= (int)last; k++)
        if (s->stats.faults[k])
            return true;
    return false;
}

// What may cost a node or a server although nobody was killed.
static bool troubled(const struct sim *s)
{
    return faults_struck(s, SIM_FAULT_AGENT_PAUSED, SIM_FAULT_AGENT_AND_SHIMS_PAUSED) ||
           faults_struck(s, SIM_FAULT_HOST_SUSPENDED, SIM_FAULT_HOST_SUSPENDED) ||
           faults_struck(s, SIM_FAULT_LINK_RESET, SIM_FAULT_COORD_CUT) ||
           faults_struck(s, SIM_FAULT_LINK_SLOW, SIM_FAULT_LINK_CLOGGED) ||
           faults_struck(s, SIM_FAULT_JOB_SUSPENDED, SIM_FAULT_JOB_SUSPENDED) ||
           faults_struck(s, SIM_FAULT_QUEUE_FULL, SIM_FAULT_QUEUE_FULL) ||
           faults_struck(s, SIM_FAULT_RANK_UNREAPABLE, SIM_FAULT_RANK_UNREAPABLE);
}

static bool servers_failed(const struct sim *s)
{
    return faults_struck(s, SIM_FAULT_SERVER_KILLED, SIM_FAULT_SERVER_STUCK) || troubled(s);
}

// Killed, or declared dead: that nobody is declared without a reason is invariant 7.
static bool is_gone(const struct sim *s, uint32_t node)
{
    return pm_set_has(&s->outcome->nodes_lost, node) || s->check->watch[node].gone_ns;
}

// Or of no use any more.
static uint32_t nodes_gone(const struct sim *s)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->p.nnodes; i++)
        n += is_gone(s, i) || pm_set_has(&s->outcome->unfit, i);
    return n;
}

// How many nodes may be lost: as many as there are spares, or all that the world does not have to keep.
static uint32_t losses_borne(const struct sim *s)
{
    const struct pm_options *o = &s->p.options;
    return o->shrink ? s->p.nnodes - o->min_nodes : o->spares;
}

// A loss that may end the step: no spare, or no budget, for it; or it came before all had joined.
static bool loss_counts(const struct sim *s)
{
    const struct pm_options *o = &s->p.options;
    uint32_t n = nodes_gone(s);
    return s->outcome->lost && (s->p.sized || n > losses_borne(s) ||
                                n + s->p.legacy.node_losses > o->max_node_losses || !s->check->world_started ||
                                s->outcome->unfenced);
}

// Every rank of the last world ended with 0 in the last epoch, by itself.
static bool all_ended_well(struct sim *s, uint32_t epoch, uint32_t *ret_rank)
{
    const struct sim_check *c = s->check;
    for (uint32_t rank = 0; rank < sim_nranks(s, s->p.nnodes); rank++) {
        *ret_rank = rank;
        if (c->life_of_rank[rank] == SIM_NONE)
            return false;
        const struct sim_life *life = &c->lives[c->life_of_rank[rank]];
        if (life->epoch != epoch || !life->ended || life->status != 0)
            return false;
    }
    return true;
}

static bool is_fatal_code(const struct sim *s, int32_t code)
{
    return code >= 0 && code < 128 && s->p.options.fatal.exits[code / 64] >> code % 64 & 1;
}

static bool is_fatal(const struct sim *s, const struct sim_life *life)
{
    return life->exec || is_fatal_code(s, code_of(life->status));
}

static bool budget_may_be_used(const struct sim *s)
{
    const struct pm_options *o = &s->p.options;
    uint32_t decisions = s->p.legacy.restarts + s->check->worlds_restarted + s->check->ranks_restarted;
    return o->mode == PM_MODE_NOTIFY || decisions >= o->max_restarts || o->min_uptime_ms > 0;
}

static bool fits(const struct sim *s, uint32_t spare, uint32_t node)
{
    struct sim_size need = sim_size_of(s, node), offer = sim_size_of(s, spare);
    return offer.gpus >= need.gpus && offer.memory_mib >= need.memory_mib;
}

// Of the spares that wait and are fit, how many are large enough for each of the nodes that need one. (One that is so for
// some of them only may be of no use: it depends on who is heard of first.)
static uint32_t spares_for_all(const struct sim *s, const struct pm_set *homeless)
{
    const struct pm_world *world = pm_core_world(s->procs[s->p.nnodes].core);
    uint32_t n = 0;
    for (uint32_t i = s->p.nnodes - s->p.options.spares; i < s->p.nnodes; i++) {
        bool large = !is_gone(s, i) && !pm_set_has(&s->outcome->unfit, i) && pm_set_empty(&world->ranks_of_node[i]);
        for (uint32_t at = pm_set_next(homeless, 0); large && at != UINT32_MAX; at = pm_set_next(homeless, at + 1))
            large = fits(s, i, at);
        n += large;
    }
    return n;
}

// The world that halts has lost nodes that nobody replaces, and may not do without them.
static bool no_place_is_left(const struct sim *s)
{
    const struct pm_options *o = &s->p.options;
    const struct pm_world *world = pm_core_world(s->procs[s->p.nnodes].core);
    struct pm_set homeless = {0};
    uint32_t hosts = 0;
    for (uint32_t i = 0; i < s->p.nnodes; i++) {
        bool is_host = !pm_set_empty(&world->ranks_of_node[i]);
        hosts += is_host;
        int rc = is_host && is_gone(s, i) ? pm_set_add(&homeless, i) : 0;
        SIM_ASSERT(rc == 0);
    }
    uint32_t n = (uint32_t)pm_set_count(&homeless), spares = spares_for_all(s, &homeless);
    pm_set_done(&homeless);
    if (n <= spares)
        return false;
    uint32_t left = hosts - (n - spares);
    return !o->shrink || left == 0 || left < o->min_nodes;
}

// The budget is that of decisions: what joins one costs nothing further. Whether its place is lost is another question.
void sim_outcome_stops_a_restart(struct sim *s, const struct sim_life *life)
{
    bool fatal = is_fatal(s, life) || (life->aborted && is_fatal_code(s, life->abort_code));
    if (!fatal && !no_place_is_left(s))
        sim_violate(s, "4: rank %u failed while the world of epoch %u was halted to go on, and that stops the step (\"%s\")",
                    life->rank, life->epoch, s->said_last);
}

static void allow(struct sim *s, int32_t code)
{
    s->outcome->allowed[code & 0xff] = true;
}

// Failures that are a reason to end with their status.
static void allow_failures(struct sim *s, uint32_t epoch)
{
    const struct sim_check *c = s->check;
    for (uint32_t i = 0; i < c->n_lives; i++) {
        const struct sim_life *life = &c->lives[i];
        if (!sim_life_failed(life) || life->epoch != epoch)
            continue;
        bool ends = is_fatal(s, life) || budget_may_be_used(s) || loss_counts(s) || troubled(s);
        if (!ends)
            continue;
        if (life->aborted)
            allow(s, life->abort_code);
        if (life->ended && life->status != 0)
            allow(s, code_of(life->status));
        if (life->ended && life->status == 0)
            allow(s, 1); // left without finalize
    }
}

static void allow_all(struct sim *s, uint32_t epoch)
{
    struct sim_outcome *o = s->outcome;
    uint32_t rank;
    memset(o->allowed, 0, sizeof(o->allowed));
    o->any = o->user || (o->slurm_killed && (o->lost || troubled(s)));
    if (all_ended_well(s, epoch, &rank))
        allow(s, 0);
    allow_failures(s, epoch);
    if (loss_counts(s) || troubled(s) || servers_failed(s))
        allow(s, 1);
    if ((loss_counts(s) || troubled(s) || servers_failed(s) || s->stats.faults[SIM_FAULT_LOCAL_LATE] ||
         s->stats.faults[SIM_FAULT_START_FAILS]) && epoch == s->p.legacy.epoch)
        allow(s, CANNOT_SUPERVISE);
    if (s->p.sized && epoch == s->p.legacy.epoch) // a spare that is of use to nobody is refused
        allow(s, CANNOT_SUPERVISE);
    // Shims that never started a rank end so when their agent does, and the coordinator may sleep so long
    // that its first news is srun's end.
    if (o->orphan)
        allow(s, CANNOT_SUPERVISE);
    if (loss_counts(s) || (o->lost && o->orphan)) // srun ends as soon as all shims are gone with their agents
        allow(s, 128 + 9);
    if (s->p.wait_ms)
        allow(s, 128 + 9);
    if (faults_struck(s, SIM_FAULT_RANK_HANGS, SIM_FAULT_RANK_HANGS))
        o->any |= o->user;
}

// As many worlds and lives as decisions: no restart was lost, none doubled.
static void all_restarts_happened(struct sim *s, uint32_t epoch)
{
    const struct sim_check *c = s->check;
    if (s->p.legacy.epoch + c->worlds_restarted + c->worlds_moved != epoch)
        sim_violate(s, "1: %u decisions to restart the world, %u to move a part of it or to do without, and the last "
                       "epoch is %u",
                    c->worlds_restarted, c->worlds_moved, epoch);
    for (uint32_t rank = 0; rank < sim_nranks(s, s->p.nnodes); rank++) {
        const struct sim_life *life = &c->lives[c->life_of_rank[rank]];
        // One that waits for its backoff when the world ends comes again with the world.
        uint32_t most = epoch + c->again[rank], least = s->p.options.backoff_ms ? epoch : most;
        if (life->incarnation > most || life->incarnation < least)
            sim_violate(s, "1: rank %u ends in incarnation %u of epoch %u, after %u restarts alone",
                        rank, life->incarnation, epoch, c->again[rank]);
    }
}

void sim_outcome_judge(struct sim *s, int32_t status)
{
    struct sim_outcome *o = s->outcome;
    uint32_t epoch = pm_core_epoch(s->procs[s->p.nnodes].core), rank = 0;
    allow_all(s, epoch);
    if (!o->any && !o->allowed[status & 0xff])
        sim_violate(s, "4: the step ends with %d in epoch %u, which nothing that happened explains "
                       "(\"%s\")", status, epoch, s->said_last);
    if (status == 0 && !o->user && !all_ended_well(s, epoch, &rank))
        sim_violate(s, "4: the step ends with 0, but rank %u did not in epoch %u", rank, epoch);
    if (status == 0 && !o->user)
        all_restarts_happened(s, epoch);
    const struct pm_options *opt = &s->p.options;
    if (!opt->restart_window_ms &&
        s->p.legacy.restarts + s->check->worlds_restarted + s->check->ranks_restarted > opt->max_restarts)
        sim_violate(s, "4: %u worlds and %u ranks restarted, %u restarts are allowed",
                    s->check->worlds_restarted, s->check->ranks_restarted, opt->max_restarts);
}
