// SPDX-License-Identifier: Apache-2.0
//
// Invariants 1, 3 and 4: one decision per failure, none for what was no failure, and every failure
// gets one in bounded time.
#include <string.h>

#include "tests/sim/check.h"
#include "tests/sim/outcome.h"

static bool is_loss(enum pm_cause cause)
{
    return cause == PM_CAUSE_SHIM_LOST || cause == PM_CAUSE_AGENT_LOST || cause == PM_CAUSE_NODE_LOST ||
           cause == PM_CAUSE_UNHEALTHY;
}

// Does what is said to have happened agree with what did?
static void check_cause(struct sim *s, const struct pm_log *log, struct sim_life *life)
{
    bool by_end = log->cause == PM_CAUSE_EXIT || log->cause == PM_CAUSE_SIGNAL ||
                  log->cause == PM_CAUSE_OOM || log->cause == PM_CAUSE_EXEC;
    if (by_end && (!life->ended || life->meddled || life->status != log->wait_status))
        sim_violate(s, "4: decided that rank %u of epoch %u failed with status %d, but it %s with %d",
                    log->rank, log->epoch, log->wait_status,
                    !life->ended ? "runs" : life->meddled ? "was signalled by us" : "ended",
                    life->status);
    bool clean = life->ended && !life->aborted && life->status == 0 &&
                 (!life->connected || life->finalized);
    if (clean && strcmp(log->action, "ignore") != 0)
        sim_violate(s, "4: rank %u of epoch %u ended well, and the decision is %s", log->rank,
                    log->epoch, log->action);
    if (log->cause == PM_CAUSE_ABORT && !life->called_abort)
        sim_violate(s, "4: rank %u of epoch %u never called abort", log->rank, log->epoch);
}

static void must(int r)
{
    SIM_ASSERT(r == 0);
}

// What fails until all ranks of a decision run again, or within half a second on the coordinator's clock,
// is part of it, once a rank. (Counted on any other clock, there would be one too few or too many.)
static void count_rank_restart(struct sim *s, const struct pm_log *log)
{
    struct sim_check *c = s->check;
    uint64_t now_ns = sim_local_ns(s, s->p.nnodes);
    bool open = c->rank_decision_ns &&
                (!pm_set_empty(&c->on_their_way) || now_ns < c->rank_decision_ns + 500 * SIM_MS);
    if (!open || pm_set_has(&c->deciding, log->rank)) {
        c->ranks_restarted++;
        c->rank_decision_ns = now_ns;
        must(pm_set_copy(&c->deciding, &c->on_their_way));
    }
    must(pm_set_add(&c->deciding, log->rank));
    must(pm_set_add(&c->on_their_way, log->rank));
}

void sim_check_again(struct sim *s, const struct pm_log *log)
{
    if (!sim_life_of(s, log->rank, log->epoch, log->incarnation))
        sim_violate(s, "4: rank %u epoch %u incarnation %u is said to run again, and never was",
                    log->rank, log->epoch, log->incarnation);
    must(pm_set_remove(&s->check->on_their_way, log->rank));
}

// A node of --pm-blame is out, and a spare is used up.
void sim_check_blamed(struct sim *s, uint32_t node)
{
    uint32_t blame = s->p.options.blame, firsts = s->check->watch[node].firsts;
    if (!blame || firsts < blame)
        sim_violate(s, "3: node %u is swapped after its ranks were first to fail %u times, and --pm-blame is %u", node,
                    firsts, blame);
    sim_outcome_unfit(s, node);
}

// A node is lost, and the world starts again elsewhere, or smaller.
static bool moves_world(const struct pm_log *log)
{
    return !strcmp(log->action, "move-to-spare") || !strcmp(log->action, "shrink");
}

void sim_check_decision(struct sim *s, const struct pm_log *log)
{
    struct sim_check *c = s->check;
    bool moved = moves_world(log) && c->world_started, joins = c->last_world_epoch == log->epoch;
    if (moved || !strcmp(log->action, "restart-world")) {
        if (c->last_world_epoch == log->epoch)
            sim_violate(s, "1: two decisions to restart the world of epoch %u", log->epoch);
        c->last_world_epoch = log->epoch;
        c->worlds_moved += moved;
        c->worlds_restarted += !moved;
        c->world_decided_ns = s->now_ns;
        pm_set_clear(&c->on_their_way);
        c->rank_decision_ns = 0;
    }
    if (!strcmp(log->action, "restart-rank")) {
        count_rank_restart(s, log);
        c->again[log->rank]++;
    }
    if (log->cause == PM_CAUSE_NONE || log->rank == PM_RANK_NONE || is_loss(log->cause))
        return;
    struct sim_life *life = sim_life_of(s, log->rank, log->epoch, log->incarnation);
    if (!life) {
        sim_violate(s, "4: a decision about rank %u epoch %u incarnation %u, which never was",
                    log->rank, log->epoch, log->incarnation);
        return;
    }
    if (life->decided)
        sim_violate(s, "1: a second decision about rank %u epoch %u incarnation %u: %s", log->rank,
                    log->epoch, log->incarnation, log->action);
    life->decided = true;
    c->watch[log->node].firsts += strncmp(log->action, "restart", 7) == 0;
    check_cause(s, log, life);
    if (joins && !strcmp(log->action, "stop"))
        sim_outcome_stops_a_restart(s, life);
}

static uint64_t bound_ns(const struct sim *s)
{
    const struct pm_options *o = &s->p.options;
    uint64_t ms = o->node_timeout_ms + o->grace_ms + 10000 + o->start_timeout_ms + o->health_timeout_ms +
                  (o->backoff_max_ms > o->backoff_ms ? o->backoff_max_ms : o->backoff_ms * 1024);
    return ms * SIM_MS;
}

// A restart that was decided on has led to a world, or to a stop.
static void check_restart(struct sim *s)
{
    const struct sim_check *c = s->check;
    uint64_t since_ns = c->world_decided_ns;
    if (!s->procs[s->p.nnodes].core) // killed after its decision: there is nobody to act on it
        return;
    if (!since_ns || (c->n_troubled && !s->calm))
        return;
    if (since_ns < c->troubled_ns)
        since_ns = c->troubled_ns;
    // A coordinator that hears nobody at all gives them the orphan timeout.
    if (s->now_ns - since_ns > bound_ns(s) + s->p.options.orphan_timeout_ms * SIM_MS)
        sim_violate(s, "3: the world of epoch %u was to be restarted %llu ms ago, and still is %s",
                    c->last_world_epoch, (unsigned long long)((s->now_ns - since_ns) / SIM_MS),
                    pm_state_name(sim_state(s)));
}

// A failure of the world that runs, older than the bound, and nothing was made of it. Only when nothing
// has disturbed the world since.
void sim_check_decisions(struct sim *s)
{
    const struct sim_check *c = s->check;
    enum pm_state state = sim_state(s);
    check_restart(s);
    if ((state != PM_STATE_RUNNING && state != PM_STATE_STARTING) || (c->n_troubled && !s->calm))
        return;
    uint32_t epoch = pm_core_epoch(s->procs[s->p.nnodes].core);
    for (uint32_t i = c->n_lives; i > 0 && c->lives[i - 1].epoch == epoch; i--) {
        const struct sim_life *life = &c->lives[i - 1];
        uint64_t since_ns = life->ended_ns > c->troubled_ns ? life->ended_ns : c->troubled_ns;
        bool left = life->ended && life->status == 0; // without finalize: may be nothing
        bool untold = s->hosts[life->node].off || !s->procs[life->node].core; // the node's loss is decided instead
        if (!life->ended || life->decided || untold || left || !sim_life_failed(life) ||
            s->now_ns - since_ns <= bound_ns(s))
            continue;
        sim_violate(s, "3: rank %u of epoch %u failed %llu ms ago and nothing was decided",
                    life->rank, epoch, (unsigned long long)((s->now_ns - life->ended_ns) / SIM_MS));
    }
}
