// SPDX-License-Identifier: Apache-2.0
//
// A process around its core, as pmix_server/io/loop.c is: one event at a time, actions in order,
// what they post follows at once, and the timer only after all readable input has been read.
#include <string.h>

#include "tests/sim/check.h"
#include "tests/sim/sim.h"

#define SPINS_MAX 100 // timers at one moment, with nothing else that happens

bool sim_host_runs(const struct sim *s, uint32_t slot)
{
    return !s->hosts[slot].off && !s->hosts[slot].suspended;
}

bool sim_proc_runs(const struct sim *s, uint32_t slot)
{
    const struct sim_proc *p = &s->procs[slot];
    return p->core && !p->paused && sim_host_runs(s, slot);
}

// --- the timer ---------------------------------------------------------------------------------

static void arm(struct sim *s, struct sim_proc *p)
{
    uint64_t real_ns =
        sim_clock_real_ns(&s->hosts[p->slot].clock, pm_core_deadline_ns(p->core));
    if (real_ns < s->now_ns)
        real_ns = s->now_ns;
    if (real_ns == p->timer_ns)
        return;
    p->timer_ns = real_ns;
    if (real_ns != SIM_NEVER)
        sim_push(s, real_ns, SIM_EVENT_TIMER, p->slot, 0, p->life);
}

static void drain(struct sim *s, uint32_t slot)
{
    sim_link_drain(s, slot);
    if (slot < s->p.nnodes)
        sim_chan_drain(s, slot);
}

// A timer is late by what the machine is busy with; seldom, by a few milliseconds.
void sim_proc_timer(struct sim *s, uint32_t slot, uint64_t life)
{
    struct sim_proc *p = &s->procs[slot];
    if (!p->core || p->life != life || p->timer_ns != s->now_ns)
        return;
    if (!sim_proc_runs(s, slot))
        return; // sim_proc_wake() looks at it
    p->spins = p->spun_ns == s->now_ns ? p->spins + 1 : 0;
    p->spun_ns = s->now_ns;
    if (p->spins > SPINS_MAX)
        sim_violate(s, "6: the timer of node %d is always due", (int)sim_node_of(s, slot));
    p->timer_ns = SIM_NEVER;
    drain(s, slot);
    if (p->core && p->life == life)
        sim_proc_post(s, slot, (struct pm_event){.type = PM_EVENT_TIMER});
}

void sim_proc_wake(struct sim *s, uint32_t slot)
{
    struct sim_proc *p = &s->procs[slot];
    if (!sim_proc_runs(s, slot))
        return;
    sim_link_wake(s, slot);
    if (slot < s->p.nnodes)
        for (uint32_t i = 0; i < s->nodes[slot].n_local + SIM_SERVERS; i++)
            sim_chan_wake(s, slot, true, i);
    if (p->timer_ns > s->now_ns && p->timer_ns != SIM_NEVER)
        return;
    p->timer_ns = s->now_ns + sim_rng_below(&s->local, 200 * SIM_US);
    sim_push(s, p->timer_ns, SIM_EVENT_TIMER, slot, 0, p->life);
}

// --- steps -------------------------------------------------------------------------------------

static void act(struct sim *s, uint32_t slot, struct pm_action *a)
{
    if (s->trace)
        sim_trace_action(s, slot, a);
    if (s->p.plant)
        sim_plant_action(s, slot, a);
    sim_check_action(s, slot, a);
    switch (a->type) {
    case PM_ACTION_DIAL:
        sim_link_dial(s, slot, a);
        break;
    case PM_ACTION_SEND:
        sim_link_send(s, slot, a);
        break;
    case PM_ACTION_CLOSE:
        sim_link_close(s, slot, a->link);
        break;
    default:
        if (slot == s->p.nnodes)
            sim_coord_act(s, a);
        else
            sim_agent_act(s, slot, a);
    }
}

static void step(struct sim *s, uint32_t slot, const struct pm_event *event)
{
    static struct pm_actions actions;
    struct sim_proc *p = &s->procs[slot];
    struct pm_event stamped = *event;
    stamped.now_ns = sim_local_ns(s, slot);
    s->stats.steps++;
    if (s->trace)
        sim_trace_event(s, slot, &stamped);
    uint32_t life = p->life;
    enum pm_state before = slot == s->p.nnodes ? pm_core_state(p->core) : PM_STATE_NONE;
    uint64_t digest = sim_check_frame_of_dead(s, slot, &stamped);
    int r = pm_core_step(p->core, &stamped, &actions);
    SIM_ASSERT(r == 0);
    if (digest)
        sim_check_unmoved(s, slot, &stamped, digest);
    sim_check_step(s, slot);
    for (size_t i = 0; i < actions.n && p->core && p->life == life; i++)
        act(s, slot, &actions.list[i]);
    pm_actions_clear(&actions);
    if (slot == s->p.nnodes && p->core && pm_core_state(p->core) != before)
        sim_fault_on_state(s, pm_core_state(p->core));
}

void sim_proc_post(struct sim *s, uint32_t slot, struct pm_event event)
{
    struct sim_proc *p = &s->procs[slot];
    if (s->stepping) { // only ever by an action, and without data
        SIM_ASSERT(!event.data && (!event.set || event.set == &s->drained || event.set == &s->booted));
        if (s->n_posted == s->cap_posted) {
            s->cap_posted = s->cap_posted ? 2 * s->cap_posted : 16;
            s->posted = realloc(s->posted, s->cap_posted * sizeof(*s->posted));
            SIM_ASSERT(s->posted);
        }
        s->posted[s->n_posted++] = event;
        return;
    }
    if (event.type != PM_EVENT_TIMER)
        p->spins = 0; // what has waited for a paused process may want a timer each
    uint32_t life = p->life;
    s->stepping = true;
    step(s, slot, &event);
    for (uint32_t i = 0; i < s->n_posted && p->core && p->life == life; i++) {
        struct pm_event next = s->posted[i];
        step(s, slot, &next);
    }
    s->n_posted = 0;
    s->stepping = false;
    if (p->core && p->life == life)
        arm(s, p);
}

// --- life --------------------------------------------------------------------------------------

// What it says is found in the two texts of 32 bytes.
static void agent_config(struct sim *s, uint32_t node, struct pm_core_config *c, uint32_t *ranks,
                         char (*texts)[32])
{
    const struct sim_node *n = &s->nodes[node];
    for (uint32_t i = 0; i < n->n_local; i++)
        ranks[i] = n->first_task + i;
    snprintf(texts[0], sizeof(texts[0]), "10.0.0.%u:4000", node);
    snprintf(texts[1], sizeof(texts[1]), "top.s%u", node / 4);
    c->nnodes = s->p.nnodes;
    c->ntasks = s->ntasks;
    c->n_local = n->n_local;
    c->local_ranks = ranks;
    c->addresses = texts[0];
    c->place = pm_options_ranks_move(&s->p.options) ? texts[1] : NULL;
    c->nodelist = s->nodelist;
}

// The world's, unless a plant tells cores something else.
static const struct pm_options *options_of(const struct sim *s)
{
    static struct pm_options lies;
    if (s->p.plant != SIM_PLANT_FEWER_NODES && s->p.plant != SIM_PLANT_NO_FENCE)
        return &s->p.options;
    lies = s->p.options;
    if (s->p.plant == SIM_PLANT_FEWER_NODES)
        lies.min_nodes = 1;
    else
        lies.fence[0] = '\0';
    return &lies;
}

void sim_proc_start(struct sim *s, uint32_t slot)
{
    struct sim_proc *p = &s->procs[slot];
    uint32_t ranks[64];
    char texts[2][32];
    struct pm_core_config c = {.node = sim_node_of(s, slot), .launch = 1, .options = options_of(s),
                               .fence_piece = s->p.fence_piece};
    if (slot == s->p.nnodes) {
        c.wait_ms = s->p.wait_ms;
        c.legacy = s->p.legacy;
        c.job_nodes = s->p.job_nodes;
        c.addresses = "login1:40123";
    } else {
        agent_config(s, slot, &c, ranks, texts);
    }
    int r = pm_core_new(&c, sim_local_ns(s, slot), &p->core);
    SIM_ASSERT(r == 0);
    p->listening = true;
    p->timer_ns = SIM_NEVER;
    arm(s, p);
    sim_tracef(s, "%s starts", slot == s->p.nnodes ? "coordinator" : "agent");
    if (slot < s->p.nnodes)
        sim_agent_port(s, slot);
}

void sim_proc_end(struct sim *s, uint32_t slot, bool rst)
{
    struct sim_proc *p = &s->procs[slot];
    if (!p->core)
        return;
    while (p->n_links > 0) {
        struct sim_link *l = &s->links[p->links[p->n_links - 1]];
        uint32_t end = l->end[0].slot == slot && l->end[0].state != SIM_END_NONE ? 0 : 1;
        sim_link_break(s, l, end, rst);
    }
    sim_check_proc_ends(s, slot);
    // The core that is being stepped is freed when its actions are done: see step().
    p->core = pm_core_free(p->core);
    p->life++;
    p->listening = false;
    p->paused = false;
    p->timer_ns = SIM_NEVER;
    if (slot < s->p.nnodes)
        sim_agent_gone(s, slot);
}

// --- events that come once more, late ------------------------------------------------------------

void sim_proc_again(struct sim *s, uint32_t slot, const struct pm_event *event, uint64_t delay_ns)
{
    if (s->n_late == s->cap_late) {
        s->cap_late = s->cap_late ? 2 * s->cap_late : 16;
        s->late = realloc(s->late, s->cap_late * sizeof(*s->late));
        SIM_ASSERT(s->late);
    }
    s->late[s->n_late] = *event;
    s->late[s->n_late].data = NULL;
    s->late[s->n_late].len = 0;
    sim_push(s, s->now_ns + delay_ns, SIM_EVENT_POST, slot, s->n_late++, s->procs[slot].life);
}

void sim_proc_late(struct sim *s, uint32_t slot, uint32_t index, uint64_t life)
{
    if (s->procs[slot].life == life && sim_proc_runs(s, slot))
        sim_proc_post(s, slot, s->late[index]);
}
