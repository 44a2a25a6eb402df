// SPDX-License-Identifier: Apache-2.0
//
// The local sockets between an agent, its shims and its servers: ordered, reliable, quick; what has
// come for a process that is stopped waits. A machine that is busy makes them slow.
#include "tests/sim/sim.h"

static struct sim_chan *chan_of(struct sim *s, uint32_t node, uint32_t index, bool up)
{
    struct sim_node *n = &s->nodes[node];
    return up ? &n->up[index] : &n->down[index];
}

static bool receiver_runs(const struct sim *s, uint32_t node, uint32_t index, bool up)
{
    const struct sim_node *n = &s->nodes[node];
    if (up)
        return sim_proc_runs(s, node);
    if (index < n->n_local)
        return sim_shim_runs(s, node, index);
    return sim_host_runs(s, node) && !n->servers[index - n->n_local].stuck;
}

static void schedule(struct sim *s, uint32_t node, uint32_t index, bool up, uint64_t at_ns)
{
    struct sim_chan *c = chan_of(s, node, index, up);
    if (at_ns < s->now_ns)
        at_ns = s->now_ns;
    if (c->due_ns && c->due_ns <= at_ns && c->due_ns >= s->now_ns)
        return;
    c->due_ns = at_ns;
    sim_push(s, at_ns, up ? SIM_EVENT_CHAN_UP : SIM_EVENT_CHAN_DOWN, node, index, 0);
}

static struct sim_msg *append(struct sim_chan *c)
{
    if (c->n == c->cap) {
        uint32_t cap = c->cap ? 2 * c->cap : 8;
        struct sim_msg *ring = malloc(cap * sizeof(*ring));
        SIM_ASSERT(ring);
        for (uint32_t i = 0; i < c->n; i++)
            ring[i] = c->ring[(c->head + i) & (c->cap - 1)];
        free(c->ring);
        c->ring = ring;
        c->cap = cap;
        c->head = 0;
    }
    return &c->ring[(c->head + c->n++) & (c->cap - 1)];
}

static void push(struct sim *s, uint32_t node, uint32_t index, bool up, struct sim_msg msg)
{
    struct sim_chan *c = chan_of(s, node, index, up);
    const struct sim_node *n = &s->nodes[node];
    msg.at_ns = s->now_ns + s->p.local_ns + sim_rng_below(&s->local, s->p.local_ns + 1);
    if (up && s->now_ns < n->late_until_ns)
        msg.at_ns += sim_rng_below(&s->local, n->late_ms * SIM_MS + 1);
    if (msg.at_ns < c->last_ns)
        msg.at_ns = c->last_ns;
    c->last_ns = msg.at_ns;
    *append(c) = msg;
    if (c->n == 1 && !c->unread)
        schedule(s, node, index, up, msg.at_ns);
}

void sim_chan_up(struct sim *s, uint32_t node, uint32_t index, struct sim_msg msg)
{
    if (!s->nodes[node].gone)
        push(s, node, index, true, msg);
}

void sim_chan_down(struct sim *s, uint32_t node, uint32_t index, struct sim_msg msg)
{
    push(s, node, index, false, msg);
}

static void give(struct sim *s, uint32_t node, uint32_t index, bool up, const struct sim_msg *msg)
{
    uint32_t n_local = s->nodes[node].n_local;
    if (up)
        sim_agent_hear(s, node, index, msg);
    else if (index < n_local)
        sim_shim_take(s, node, index, msg);
    else
        sim_server_take(s, node, index - n_local, msg);
}

static void take_first(struct sim *s, uint32_t node, uint32_t index, bool up)
{
    struct sim_chan *c = chan_of(s, node, index, up);
    struct sim_msg msg = c->ring[c->head];
    c->head = (c->head + 1) & (c->cap - 1);
    c->n--;
    give(s, node, index, up, &msg);
}

static bool deliver(struct sim *s, uint32_t node, uint32_t index, bool up)
{
    struct sim_chan *c = chan_of(s, node, index, up);
    if (c->ring[c->head].at_ns > s->now_ns) {
        schedule(s, node, index, up, c->ring[c->head].at_ns);
        return false;
    }
    c->unread = !receiver_runs(s, node, index, up);
    if (c->unread)
        return false;
    take_first(s, node, index, up);
    return chan_of(s, node, index, up)->n > 0;
}

void sim_chan_due(struct sim *s, uint32_t node, uint32_t index, bool up)
{
    struct sim_chan *c = chan_of(s, node, index, up);
    if (c->due_ns != s->now_ns)
        return;
    c->due_ns = 0;
    if (c->n && deliver(s, node, index, up))
        schedule(s, node, index, up, c->ring[c->head].at_ns);
}

void sim_chan_wake(struct sim *s, uint32_t node, bool up, uint32_t index)
{
    struct sim_chan *c = chan_of(s, node, index, up);
    if (!c->unread)
        return;
    c->unread = false;
    if (c->n)
        schedule(s, node, index, up, s->now_ns + sim_rng_below(&s->local, 200 * SIM_US));
}

bool sim_chan_has_eof(const struct sim *s, uint32_t node, uint32_t local)
{
    const struct sim_chan *c = &s->nodes[node].down[local];
    for (uint32_t i = 0; i < c->n; i++)
        if (c->ring[(c->head + i) & (c->cap - 1)].type == SIM_MSG_EOF)
            return true;
    return false;
}

void sim_chan_clear(struct sim_chan *c)
{
    c->n = 0;
    c->unread = false;
    c->due_ns = 0;
}

static void drain(struct sim *s, uint32_t node, uint32_t index)
{
    struct sim_chan *c = chan_of(s, node, index, true);
    while (c->n && c->ring[c->head].at_ns <= s->now_ns && deliver(s, node, index, true))
        ;
}

static bool has_said(const struct sim_chan *c, uint32_t rank)
{
    for (uint32_t i = 0; i < c->n; i++) {
        const struct sim_msg *msg = &c->ring[(c->head + i) & (c->cap - 1)];
        bool by_call = msg->type == SIM_MSG_CONNECTED || msg->type == SIM_MSG_FINALIZED ||
                       msg->type == SIM_MSG_ABORT;
        if (by_call && msg->rank == rank)
            return true;
    }
    return false;
}

static void drain_servers(struct sim *s, uint32_t node)
{
    for (uint32_t i = 0; i < SIM_SERVERS; i++)
        drain(s, node, s->nodes[node].n_local + i);
}

// What the agent does before it takes a rank's end. A server writes that a rank has connected, finalized or
// aborted before it lets the rank return from its call: it is in the socket when the rank has ended, on a slow
// machine, too, and with it all that was said before.
void sim_chan_drain_said(struct sim *s, uint32_t node, uint32_t rank)
{
    drain_servers(s, node);
    for (uint32_t i = 0; i < SIM_SERVERS; i++) {
        uint32_t index = s->nodes[node].n_local + i;
        while (receiver_runs(s, node, index, true) && has_said(chan_of(s, node, index, true), rank))
            take_first(s, node, index, true);
    }
}

// What the agent does before a timer.
void sim_chan_drain(struct sim *s, uint32_t node)
{
    drain_servers(s, node);
    for (uint32_t i = 0; i < s->nodes[node].n_local; i++)
        drain(s, node, i);
}
