// SPDX-License-Identifier: Apache-2.0
//
// The receiving side of link.c: what arrives when, what is sent again, and what it does there.
#include "tests/sim/link.h"
#include "tests/sim/wire.h"

#define RTO_NS     (200 * SIM_MS)
#define RTO_SYN_NS (1000 * SIM_MS)
#define RTO_MAX_NS (120 * SIM_S)
#define GIVE_UP_NS (924 * SIM_S) // ETIMEDOUT
#define WINDOW_MAX 10

static void take_frame(struct sim *s, struct sim_link *l, uint32_t end, struct sim_item *item)
{
    if (l->end[end].state == SIM_END_UP && !item->torn) {
        s->stats.frames++;
        sim_wire_open(s, l, end, item);
    } else if (l->end[end].state == SIM_END_UP) {
        sim_wire_keep(&l->end[end], item);
    } else if (l->end[end].state == SIM_END_NONE) {
        sim_link_push(s, l, 1 - end, SIM_ITEM_RST, NULL);
    }
}

static void take_end(struct sim *s, struct sim_link *l, uint32_t end, uint8_t kind)
{
    uint8_t state = l->end[end].state;
    if (!state) {
        sim_link_free_if_over(l);
        return;
    }
    if (l->end[1 - end].state == SIM_END_CLOSING) { // we close as well, and that ends it
        sim_link_part(s, l, 1 - end);
        sim_end_clear(&l->end[1 - end]);
    }
    if (state == SIM_END_CLOSING || (end == 1 && state != SIM_END_UP)) {
        sim_link_part(s, l, end);
        sim_end_clear(&l->end[end]);
        sim_link_free_if_over(l);
        return;
    }
    if (kind == SIM_ITEM_FIN && state == SIM_END_UP && l->end[1 - end].state)
        sim_link_push(s, l, 1 - end, SIM_ITEM_FIN, NULL);
    sim_link_down(s, l, end,
                  state == SIM_END_DIALLING ? PM_LINK_REFUSED
                  : kind == SIM_ITEM_FIN    ? PM_LINK_CLOSED
                                            : PM_LINK_RESET);
}

static void take(struct sim *s, struct sim_link *l, uint32_t to, struct sim_item *item)
{
    if (item->kind == SIM_ITEM_SYN)
        sim_link_take_syn(s, l);
    else if (item->kind == SIM_ITEM_FIN || item->kind == SIM_ITEM_RST)
        take_end(s, l, to, item->kind);
    else if (item->kind == SIM_ITEM_FRAME || item->torn)
        take_frame(s, l, to, item);
    else if (l->end[to].state)
        sim_link_shake(s, l, to, item);
    else
        sim_link_push(s, l, 1 - to, SIM_ITEM_RST, NULL);
}

static void retransmit(struct sim *s, struct sim_link *l, uint32_t to, uint8_t kind)
{
    struct sim_pipe *p = &l->pipe[to];
    struct sim_link_end *sender = &l->end[1 - to];
    if (!p->rto_ns) {
        p->rto_ns = kind == SIM_ITEM_SYN ? RTO_SYN_NS : RTO_NS;
        p->stalled_ns = s->now_ns;
    } else if (p->rto_ns < RTO_MAX_NS) {
        p->rto_ns *= 2;
    }
    if (s->now_ns - p->stalled_ns < GIVE_UP_NS) {
        sim_pipe_schedule(s, l, to, s->now_ns + p->rto_ns);
        return;
    }
    sim_pipe_clear(p);
    if (sender->state == SIM_END_UP && sim_proc_runs(s, sender->slot))
        sim_link_down(s, l, 1 - to, PM_LINK_RESET);
    else if (sender->state)
        sim_link_break(s, l, 1 - to, true);
    else
        sim_link_free_if_over(l);
}

// Do its acknowledgements get back? A few items go without.
static bool acknowledged(struct sim *s, const struct sim_link *l, uint32_t to)
{
    struct sim_pipe *p = (struct sim_pipe *)&l->pipe[to];
    if (sim_path_open(s, l->end[to].slot, l->end[1 - to].slot)) {
        p->window = (uint8_t)sim_rng_between(&s->net, 1, WINDOW_MAX);
        return true;
    }
    if (!p->window || p->rto_ns)
        return false;
    p->window--;
    return true;
}

static bool needs_process(const struct sim_link *l, uint32_t to, uint8_t kind)
{
    return kind != SIM_ITEM_SYN && l->end[to].state != SIM_END_NONE;
}

// Gives the first item to its receiver. False: nothing more can be read now.
static bool deliver(struct sim *s, struct sim_link *l, uint32_t to)
{
    struct sim_pipe *p = &l->pipe[to];
    struct sim_item item = p->ring[p->head];
    uint32_t stamp = l->stamp, index = sim_link_index(s, l);
    if (item.at_ns > s->now_ns) {
        sim_pipe_schedule(s, l, to, item.at_ns);
        return false;
    }
    uint32_t from_slot = l->end[1 - to].slot, to_slot = l->end[to].slot;
    // The last reset of a host that crashed is on its way already.
    bool flies = item.kind == SIM_ITEM_RST && s->hosts[from_slot].off && sim_host_runs(s, to_slot);
    if (!p->unread && !flies &&
        (!sim_path_open(s, from_slot, to_slot) || !acknowledged(s, l, to))) {
        retransmit(s, l, to, item.kind);
        return false;
    }
    p->rto_ns = 0;
    p->unread = needs_process(l, to, item.kind) && !sim_proc_runs(s, to_slot);
    if (p->unread)
        return false;
    p->head = (p->head + 1) & (p->cap - 1);
    p->n--;
    take(s, l, to, &item);
    free(item.data);
    l = &s->links[index];
    return l->stamp == stamp && l->pipe[to].n > 0;
}

void sim_link_due(struct sim *s, uint32_t index, uint32_t to)
{
    struct sim_link *l = &s->links[index];
    struct sim_pipe *p = &l->pipe[to];
    if (p->due_ns != s->now_ns || p->n == 0)
        return;
    p->due_ns = 0;
    if (deliver(s, l, to)) {
        l = &s->links[index];
        sim_pipe_schedule(s, l, to, l->pipe[to].ring[l->pipe[to].head].at_ns);
    }
}

// A process that runs again finds what has come meanwhile, link by link in any order.
void sim_link_wake(struct sim *s, uint32_t slot)
{
    const struct sim_proc *p = &s->procs[slot];
    for (uint32_t i = 0; i < p->n_links; i++) {
        struct sim_link *l = &s->links[p->links[i]];
        for (uint32_t end = 0; end < 2; end++)
            if (l->end[end].slot == slot && l->pipe[end].unread)
                sim_pipe_schedule(s, l, end, s->now_ns + sim_rng_below(&s->net, 200 * SIM_US));
    }
}

// What conn.c does before a timer is judged: reads all that has come, link after link.
bool sim_link_drain(struct sim *s, uint32_t slot)
{
    uint32_t ids[256], n = 0;
    const struct sim_proc *p = &s->procs[slot];
    for (uint32_t i = 0; i < p->n_links && n < 256; i++) {
        const struct sim_link *l = &s->links[p->links[i]];
        uint32_t end = l->end[0].slot == slot ? 0 : 1;
        if (l->end[end].state == SIM_END_UP && l->pipe[end].n && l->pipe[end].unread)
            ids[n++] = p->links[i];
    }
    for (uint32_t i = 0; i < n; i++) {
        uint32_t stamp = s->links[ids[i]].stamp;
        uint32_t end = s->links[ids[i]].end[0].slot == slot ? 0 : 1;
        while (s->links[ids[i]].stamp == stamp && s->links[ids[i]].pipe[end].n &&
               deliver(s, &s->links[ids[i]], end))
            ;
    }
    return n > 0;
}
