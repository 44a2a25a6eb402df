// SPDX-License-Identifier: Apache-2.0
//
// Invariants 7 and 8: who was disturbed for less than T/2 in all is never declared dead, and who was
// declared dead hears nothing but refusals. How long a node was disturbed is counted in real time, by
// whatever keeps it and the coordinator apart.
#include "pmix_server/core/internal.h"
#include "pmix_server/core/membership.h"
#include "tests/sim/check.h"

uint64_t sim_disturbed_ns(const struct sim *s, uint32_t slot)
{
    const struct sim_host *h = &s->hosts[slot];
    return h->disturbed_ns + (s->check->watch[slot].n_troubles ? s->now_ns - h->disturbed_at_ns : 0);
}

void sim_check_disturbed(struct sim *s, uint32_t slot, bool begins)
{
    struct sim_watch *w = &s->check->watch[slot];
    struct sim_host *h = &s->hosts[slot];
    s->check->troubled_ns = s->now_ns;
    if (begins && w->n_troubles++ == 0) {
        h->disturbed_at_ns = s->now_ns;
        s->check->n_troubled++;
    }
    if (!begins && w->n_troubles > 0 && --w->n_troubles == 0) {
        h->disturbed_ns += s->now_ns - h->disturbed_at_ns;
        s->check->n_troubled--;
    }
}

// What Slurm says of the job changes: the coordinator waits for one that it calls suspended, also if no host is left.
void sim_check_job(struct sim *s)
{
    s->check->troubled_ns = s->now_ns;
}

void sim_check_cut(struct sim *s, uint32_t from, uint32_t to, bool is_cut)
{
    sim_check_disturbed(s, from, is_cut);
    sim_check_disturbed(s, to, is_cut);
}

// Long after the last disturbance of anybody, whoever is not dead has a lease again.
void sim_check_orphan(struct sim *s, uint32_t node)
{
    const struct sim_check *c = s->check;
    uint64_t limit_ns = 5 * s->p.options.node_timeout_ms * SIM_MS;
    bool calm = c->n_troubled == 0 && s->now_ns - c->troubled_ns > limit_ns;
    if (calm && !c->watch[node].gone_ns && s->procs[s->p.nnodes].core)
        sim_violate(s, "7: node %u is an orphan, and nobody has been disturbed for %llu ms", node,
                    (unsigned long long)((s->now_ns - c->troubled_ns) / SIM_MS));
}

static bool unreapable(const struct sim *s, uint32_t node)
{
    if (s->check->watch[node].shim_paused)
        return true;
    for (uint32_t i = 0; i < s->nodes[node].n_local; i++)
        if (s->nodes[node].shims[i].rank.unreapable_ns)
            return true;
    return false;
}

void sim_check_lost(struct sim *s, const struct pm_log *log)
{
    struct sim_check *c = s->check;
    uint32_t node = log->node;
    SIM_ASSERT(node < s->p.nnodes);
    if (c->watch[node].gone_ns)
        sim_violate(s, "8: node %u is declared dead twice", node);
    c->watch[node].gone_ns = s->now_ns ? s->now_ns : 1;
    c->n_declared++;
    sim_check_refused(s, log);
    // A tenth of slack for the coordinator's clock, and what a link takes to recover: its
    // retransmission sleeps as long again as the cut was.
    uint64_t half_ns = s->p.options.node_timeout_ms * SIM_MS / 2 * 10 / 11;
    // Who hangs below a node that is slow is heard late, and was not cut.
    bool slow = s->stats.faults[SIM_FAULT_NODE_SLOW] || s->stats.faults[SIM_FAULT_NODE_CLOGGED];
    bool shims_whole = !c->watch[node].excused && !s->hosts[node].off && s->procs[node].core;
    if (shims_whole && !slow && !unreapable(s, node) && sim_disturbed_ns(s, node) < half_ns &&
        sim_disturbed_ns(s, s->p.nnodes) < half_ns)
        sim_violate(s, "7: node %u is declared dead (%s) after %llu ms of disturbance", node,
                    pm_cause_name(log->cause),
                    (unsigned long long)(sim_disturbed_ns(s, node) / SIM_MS));
}

static uint32_t peer_of(struct sim *s, uint32_t slot, uint32_t id)
{
    const struct sim_proc *p = &s->procs[slot];
    for (uint32_t i = 0; i < p->n_links; i++) {
        const struct sim_link *l = &s->links[p->links[i]];
        uint32_t end = l->end[0].slot == slot ? 0 : 1;
        if (l->end[end].id == id)
            return l->end[1 - end].slot;
    }
    return SIM_NONE;
}

void sim_check_known(struct sim *s, uint32_t slot)
{
    struct sim_watch *w = &s->check->watch[slot];
    if (s->check->n_declared == 0)
        return;
    const struct pm_set *dead = pm_dead_nodes(s->procs[slot].core);
    if (!pm_set_equal(&w->dead_before, &w->dead)) {
        int r = pm_set_copy(&w->dead_before, &w->dead);
        SIM_ASSERT(r == 0);
    }
    if (!pm_set_equal(&w->dead, dead)) {
        int r = pm_set_copy(&w->dead, dead);
        SIM_ASSERT(r == 0);
    }
}

// A parent takes a node's attachments in their order; a late one is refused.
static void check_attached(struct sim *s, uint32_t slot, const struct pm_action *a)
{
    struct pm_reader r = pm_reader_of(a->data + 1, a->len - 1);
    uint32_t number = pm_read_u32(&r), peer = peer_of(s, slot, a->link);
    if (peer >= s->p.nnodes)
        return;
    struct sim_watch *w = &s->check->watch[peer];
    if (w->attach > number && w->parent == slot)
        sim_violate(s, "8: node %d takes attachment %u of node %u after %u",
                    (int)sim_node_of(s, slot), number, peer, w->attach);
    w->parent = slot;
    w->attach = number;
}

// Nothing but a refusal is said to a node that the speaker has known to be dead since before this step.
void sim_check_send(struct sim *s, uint32_t slot, const struct pm_action *a)
{
    if (a->len > 1 && a->data[0] == PM_FRAME_ATTACHED)
        check_attached(s, slot, a);
    if (s->check->n_declared == 0 || pm_set_empty(&s->check->watch[slot].dead_before))
        return;
    uint32_t peer = peer_of(s, slot, a->link);
    if (peer >= s->p.nnodes || !pm_set_has(&s->check->watch[slot].dead_before, peer))
        return;
    if (a->len == 0 || (a->data[0] != PM_FRAME_REFUSED && a->data[0] != PM_FRAME_CALL &&
                        a->data[0] != PM_FRAME_ATTACH))
        sim_violate(s, "8: node %d sends frame %02x to node %u, which is dead",
                    (int)sim_node_of(s, slot), a->len ? a->data[0] : 0, peer);
}

uint64_t sim_check_frame_of_dead(struct sim *s, uint32_t slot, const struct pm_event *event)
{
    // A link that was there before is closed by the refusal.
    if (s->check->n_declared == 0 || event->type != PM_EVENT_FRAME || event->len == 0 ||
        event->data[0] == PM_FRAME_ATTACH)
        return 0;
    uint32_t peer = peer_of(s, slot, event->link);
    if (peer >= s->p.nnodes || !pm_set_has(&s->check->watch[slot].dead, peer))
        return 0;
    // What is due by the clock is not the frame's doing.
    struct pm_core *core = s->procs[slot].core;
    return pm_core_deadline_ns(core) > event->now_ns ? pm_core_digest(core, event->now_ns) : 0;
}

void sim_check_unmoved(struct sim *s, uint32_t slot, const struct pm_event *event, uint64_t before)
{
    if (pm_core_digest(s->procs[slot].core, event->now_ns) != before)
        sim_violate(s, "8: frame %02x of a dead node moves node %d", event->len ? event->data[0] : 0,
                    (int)sim_node_of(s, slot));
}
