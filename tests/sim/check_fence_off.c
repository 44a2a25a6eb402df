// SPDX-License-Identifier: Apache-2.0
//
// Invariant 15: what the site's fence program is for, and whom it must leave alone. Before ranks of a lost node start
// elsewhere it has ended for that node; for a node whose host has answered it runs only then.
#include <string.h>

#include "tests/sim/check.h"

static void must(int rc)
{
    SIM_ASSERT(rc >= 0);
}

static uint32_t coordinators_epoch(const struct sim *s)
{
    return pm_core_epoch(s->procs[s->p.nnodes].core);
}

// Not by what the core says of it: its host is there, and its agent is not.
void sim_check_refused(struct sim *s, const struct pm_log *lost)
{
    const struct sim_host *host = &s->hosts[lost->node];
    if (lost->cause == PM_CAUSE_AGENT_LOST && !lost->silent_ms && !host->off && !host->suspended && !s->procs[lost->node].core)
        must(pm_set_add(&s->check->refused, lost->node));
}

// Something starts elsewhere in PLACING, or it is another launch, which begins when this one's srun has ended.
static void check_wanted(struct sim *s, uint32_t node)
{
    const char *state = s->check->state ? s->check->state : "FORMING";
    bool relaunch = !strcmp(state, "STOPPING") && s->p.options.relaunch && !s->srun.alive;
    if (pm_set_has(&s->check->refused, node) && strcmp(state, "PLACING") && !relaunch)
        sim_violate(s, "15: node %u, whose host has refused a connection, is fenced off in %s", node, state);
}

void sim_check_fencing(struct sim *s, uint32_t node, bool begins)
{
    struct sim_check *c = s->check;
    must(begins ? pm_set_add(&c->fencing, node) : pm_set_remove(&c->fencing, node));
    if (!begins)
        return;
    check_wanted(s, node);
    must(pm_set_add(&c->fenced, node));
    c->fencing_epoch = coordinators_epoch(s);
}

static bool has_run_ranks(const struct sim_check *c, uint32_t node)
{
    uint32_t i = 0;
    while (i < c->n_lives && c->lives[i].node != node)
        i++;
    return i < c->n_lives;
}

void sim_check_leaves(struct sim *s, uint32_t node)
{
    const struct sim_check *c = s->check;
    if (s->p.options.fence[0] && c->watch[node].gone_ns && !pm_set_has(&c->fenced, node) && has_run_ranks(c, node))
        sim_violate(s, "15: the ranks of node %u, which is lost, are placed, and it was not fenced off", node);
}

void sim_check_start_fenced(struct sim *s, uint32_t node, const struct pm_action *a)
{
    const struct sim_check *c = s->check;
    if (!pm_set_empty(&c->fencing) && a->epoch > c->fencing_epoch)
        sim_violate(s, "15: node %u starts rank %u of epoch %u while node %u is being fenced off", node, a->rank, a->epoch,
                    pm_set_next(&c->fencing, 0));
}

void sim_check_launch_fenced(struct sim *s)
{
    const struct sim_check *c = s->check;
    const struct pm_world *world = pm_core_world(s->procs[s->p.nnodes].core);
    if (!pm_set_empty(&c->fencing))
        sim_violate(s, "15: the step is launched again while node %u is being fenced off", pm_set_next(&c->fencing, 0));
    for (uint32_t node = 0; node < world->nnodes; node++) // 0: this launch ended before it had one
        if (!pm_set_empty(&world->ranks_of_node[node]))
            sim_check_leaves(s, node);
}
