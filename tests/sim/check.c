// SPDX-License-Identifier: Apache-2.0
//
// The truth about the lives of ranks, and who is asked about what. See check.h.
#include "tests/sim/check.h"

#include <string.h>

struct sim_check *sim_check_new(struct sim *s)
{
    struct sim_check *c = sim_alloc(1, sizeof(*c));
    c->life_of_rank = sim_alloc(s->nranks, sizeof(*c->life_of_rank));
    c->again = sim_alloc(s->nranks, sizeof(*c->again));
    c->watch = sim_alloc(s->n, sizeof(*c->watch));
    memset(c->life_of_rank, 0xff, s->nranks * sizeof(*c->life_of_rank));
    c->last_world_epoch = SIM_NONE;
    c->n = s->n;
    return c;
}

void sim_check_free(struct sim_check *c)
{
    pm_set_done(&c->deciding);
    pm_set_done(&c->refused);
    pm_set_done(&c->fenced);
    pm_set_done(&c->fencing);
    pm_set_done(&c->drained);
    pm_set_done(&c->on_their_way);
    for (int g = 0; g < SIM_GROUP_MAX; g++)
        pm_set_done(&c->unstarted[g].ranks);
    for (uint32_t i = 0; i < c->n; i++) {
        pm_set_done(&c->watch[i].dead);
        pm_set_done(&c->watch[i].dead_before);
    }
    free(c->lives);
    free(c->again);
    free(c->life_of_rank);
    free(c->watch);
    free(c);
}

// --- lives -------------------------------------------------------------------------------------

struct sim_life *sim_life_of(struct sim *s, uint32_t rank, uint32_t epoch, uint32_t incarnation)
{
    struct sim_check *c = s->check;
    for (uint32_t i = c->n_lives; i > 0; i--) {
        struct sim_life *life = &c->lives[i - 1];
        if (life->rank == rank && life->epoch == epoch && life->incarnation == incarnation)
            return life;
    }
    return NULL;
}

struct sim_life *sim_life_now(struct sim *s, uint32_t node, uint32_t local)
{
    uint32_t life = s->nodes[node].shims[local].rank.life;
    return life ? &s->check->lives[life - 1] : NULL;
}

bool sim_life_failed(const struct sim_life *life)
{
    if (life->aborted)
        return true;
    return life->ended && !life->meddled &&
           (life->status != 0 || (life->connected && !life->finalized));
}

static struct sim_life *life_new(struct sim *s, uint32_t node, const struct sim_start *start)
{
    struct sim_check *c = s->check;
    if (c->n_lives == c->cap_lives) {
        c->cap_lives = c->cap_lives ? 2 * c->cap_lives : 64;
        c->lives = realloc(c->lives, c->cap_lives * sizeof(*c->lives));
        SIM_ASSERT(c->lives);
    }
    c->life_of_rank[start->rank] = c->n_lives;
    struct sim_life *life = &c->lives[c->n_lives++];
    *life = (struct sim_life){.rank = start->rank, .node = node, .epoch = start->epoch,
                              .incarnation = start->incarnation, .started_ns = s->now_ns};
    return life;
}

// Does it run the user's code? Where its rank was before it has to have ended; on a node that was given up it may
// stand still for want of a lease, or wait for its SIGKILL.
static bool life_runs(struct sim *s, const struct sim_life *life, uint32_t node)
{
    if (life->ended || life->node == node)
        return !life->ended;
    const struct sim_node *n = &s->nodes[life->node];
    for (uint32_t i = 0; i < n->n_local; i++)
        if (sim_life_now(s, life->node, i) == life)
            return sim_rank_runs(s, life->node, i) && !n->shims[i].paused &&
                   !sim_lease_excused(s, life->node);
    return false;
}

// Invariant 2: a rank is forked while no older life of it runs, and never an older one than before.
void sim_check_fork(struct sim *s, uint32_t node, uint32_t local)
{
    struct sim_rank *r = &s->nodes[node].shims[local].rank;
    uint32_t at = s->check->life_of_rank[r->rank];
    const struct sim_life *old = at == SIM_NONE ? NULL : &s->check->lives[at];
    if (old && life_runs(s, old, node))
        sim_violate(s, "2: rank %u starts (epoch %u incarnation %u) while incarnation %u of epoch "
                       "%u runs", r->rank, r->epoch, r->incarnation, old->incarnation, old->epoch);
    if (old && (old->epoch > r->epoch ||
                (old->epoch == r->epoch && old->incarnation >= r->incarnation)))
        sim_violate(s, "1: rank %u starts as epoch %u incarnation %u after epoch %u incarnation %u",
                    r->rank, r->epoch, r->incarnation, old->epoch, old->incarnation);
    if (r->epoch < s->nodes[node].max_epoch)
        sim_violate(s, "1: rank %u starts in epoch %u on node %u, which has seen epoch %u", r->rank,
                    r->epoch, node, s->nodes[node].max_epoch);
    sim_check_unstarted(s, r->rank, r->epoch);
    const struct sim_start start = {.rank = r->rank, .epoch = r->epoch,
                                    .incarnation = r->incarnation};
    struct sim_life *life = life_new(s, node, &start);
    life->exec = r->plan_exec;
    r->life = s->check->n_lives;
}

// Invariant 2 across launches: the next one starts each rank anew.
void sim_check_relaunch(struct sim *s)
{
    const struct sim_check *c = s->check;
    for (uint32_t i = 0; i < c->n_lives; i++)
        if (life_runs(s, &c->lives[i], SIM_NONE))
            sim_violate(s, "2: the step is launched again while rank %u of epoch %u runs on node %u",
                        c->lives[i].rank, c->lives[i].epoch, c->lives[i].node);
    if (s->p.legacy.relaunches >= s->p.options.relaunch)
        sim_violate(s, "4: the step is launched again after %u launches", s->p.legacy.relaunches + 1);
    sim_check_launch_fenced(s);
}

void sim_check_never_ran(struct sim *s, uint32_t node, const struct sim_start *start, int32_t status)
{
    struct sim_life *life = life_new(s, node, start);
    life->ended = true;
    life->meddled = status == 9;
    life->status = status;
    life->ended_ns = s->now_ns;
}

void sim_check_rank_ends(struct sim *s, uint32_t node, uint32_t local)
{
    struct sim_life *life = sim_life_now(s, node, local);
    const struct sim_rank *r = &s->nodes[node].shims[local].rank;
    life->ended = true;
    life->ended_ns = s->now_ns;
    life->status = r->end_status;
    life->connected = r->connected;
    life->finalized = r->finalized;
}

void sim_check_doomed(struct sim *s, uint32_t node, uint32_t local)
{
    struct sim_life *life = sim_life_now(s, node, local);
    if (life && !life->ended)
        life->meddled = true;
}

void sim_check_signalled(struct sim *s, uint32_t node, uint32_t local, int32_t signal)
{
    (void)signal;
    sim_check_doomed(s, node, local);
}

void sim_check_slurm_kills(struct sim *s, uint32_t node, uint32_t local)
{
    struct sim_life *life = sim_life_now(s, node, local);
    s->check->watch[node].excused = true;
    if (life && !life->ended)
        life->meddled = life->slurm = true;
}

void sim_check_aborts(struct sim *s, uint32_t node, uint32_t local, int32_t status)
{
    struct sim_life *life = sim_life_now(s, node, local);
    if (!life)
        return;
    life->called_abort = true;
    if (life->meddled || life->aborted)
        return;
    life->aborted = true;
    life->abort_code = status & 0xff ? status & 0xff : 1;
}

void sim_check_shim_killed(struct sim *s, uint32_t node, uint32_t local)
{
    s->check->watch[node].excused = true;
    sim_check_doomed(s, node, local);
}

void sim_check_host_off(struct sim *s, uint32_t node, uint32_t local)
{
    struct sim_life *life = sim_life_now(s, node, local);
    s->check->watch[node].excused = true;
    if (!life || life->ended)
        return;
    life->meddled = life->ended = true;
    life->status = 9;
    life->ended_ns = s->now_ns;
}

void sim_check_proc_ends(struct sim *s, uint32_t slot)
{
    s->check->watch[slot].excused = true;
}

// --- what cores do -----------------------------------------------------------------------------

// Invariants 1 and 10: a node that has seen e + 1 starts nothing of an older epoch, nor anything
// without a lease.
static void check_start(struct sim *s, uint32_t node, const struct pm_action *a)
{
    sim_check_start_lease(s, node, a->rank);
    sim_check_healthy(s, node);
    uint32_t seen = s->nodes[node].max_epoch;
    if (a->epoch < seen)
        sim_violate(s, "1: node %u starts rank %u of epoch %u when it has seen epoch %u", node,
                    a->rank, a->epoch, seen);
    sim_check_start_fenced(s, node, a);
}

// Invariant 14: how much of the step a world may do without.
static void check_world(struct sim *s)
{
    const struct pm_options *o = &s->p.options;
    const struct pm_world *world = pm_core_world(s->procs[s->p.nnodes].core);
    uint32_t n = 0, least = o->shrink ? o->min_nodes : s->p.nnodes - o->spares;
    for (uint32_t i = 0; i < s->p.nnodes; i++)
        n += !pm_set_empty(&world->ranks_of_node[i]);
    if (n < least || (!o->shrink && world->nranks != s->nranks))
        sim_violate(s, "14: a world of %u ranks on %u nodes starts, and %u ranks on %u nodes are needed", world->nranks, n,
                    o->shrink ? 1 : s->nranks, least);
}

static void check_state(struct sim *s, const char *to)
{
    s->check->state = to;
    if (!strcmp(to, "STARTING"))
        check_world(s);
    if (!s->check->world_started && !strcmp(to, "STARTING"))
        sim_check_first_world(s);
    s->check->world_started |= !strcmp(to, "STARTING");
    if (!strcmp(to, "PLACING"))
        sim_check_placing(s);
    if (!strcmp(to, "RUNNING") || !strcmp(to, "STOPPING") || !strcmp(to, "DONE"))
        s->check->world_decided_ns = 0;
}

static void check_move(struct sim *s, const struct pm_log *log)
{
    sim_check_move(s, log->node, log->spare);
    sim_check_leaves(s, log->node);
}

static void check_log(struct sim *s, const struct pm_log *log)
{
    if (!strcmp(log->kind, "decision"))
        sim_check_decision(s, log);
    else if (!strcmp(log->kind, "running-again"))
        sim_check_again(s, log);
    else if (!strcmp(log->kind, "lost"))
        sim_check_lost(s, log);
    else if (!strcmp(log->kind, "move"))
        check_move(s, log);
    else if (!strcmp(log->kind, "shrink"))
        sim_check_leaves(s, log->node);
    else if (!strcmp(log->kind, "blamed"))
        sim_check_blamed(s, log->node);
    else if (!strcmp(log->kind, "state") && log->to)
        check_state(s, log->to);
}

void sim_check_drained(struct sim *s, const struct pm_set *drained)
{
    pm_set_clear(&s->check->drained);
    if (drained && pm_set_copy(&s->check->drained, drained) < 0)
        SIM_ASSERT(!"memory");
}

void sim_check_action(struct sim *s, uint32_t slot, const struct pm_action *a)
{
    s->stats.checks++;
    switch (a->type) {
    case PM_ACTION_SEND:
        sim_check_send(s, slot, a);
        break;
    case PM_ACTION_START_RANK:
        check_start(s, slot, a);
        break;
    case PM_ACTION_DROP_SERVER:
        sim_check_drop(s, slot, a->epoch);
        break;
    case PM_ACTION_SET_LEASE:
        sim_check_lease_set(s, slot, a);
        break;
    case PM_ACTION_PAUSE:
        sim_check_pause(s, slot);
        break;
    case PM_ACTION_FENCE_DONE:
    case PM_ACTION_MODEX_DONE:
        sim_check_done(s, slot, a);
        break;
    case PM_ACTION_LOG:
        check_log(s, a->log);
        break;
    default:
        break;
    }
}

void sim_check_step(struct sim *s, uint32_t slot)
{
    sim_check_known(s, slot);
    uint32_t epoch = pm_core_epoch(s->procs[slot].core);
    if (slot == s->p.nnodes) {
        s->stats.restarts = epoch + s->check->ranks_restarted;
        return;
    }
    if (epoch < s->nodes[slot].max_epoch)
        sim_violate(s, "1: node %u went back from epoch %u to %u", slot, s->nodes[slot].max_epoch,
                    epoch);
    s->nodes[slot].max_epoch = epoch;
}

void sim_check_event(struct sim *s)
{
    if (s->check->n_declared && s->stats.events % 32 == 0)
        sim_check_dead_leases(s);
    if (s->stats.events < s->check->next_full)
        return;
    s->check->next_full = s->stats.events + SIM_FULL_CHECK_EVENTS;
    sim_check_leases(s);
    sim_check_decisions(s);
    sim_check_queues(s);
}
