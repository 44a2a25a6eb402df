// SPDX-License-Identifier: Apache-2.0
//
// TCP between two processes, as far as it shows: what was sent arrives in order, a prefix of it. A
// path that is cut, or a host that is silent, stalls it; then the first item is sent again after
// 200 ms, 400 ms ... and the rest follows when it gets through, so the silence outlives the cut.
// The sender believes that all was sent. Acknowledgements need the way back: without it only a few
// items pass. The end of a process, or a reset, cuts off any part of what is still on its way, also
// in the middle of a frame. Two links between the same processes know nothing of each other, so the
// tail of an old one races the new one.
//
// Handshake, limits and ends are those of pmix_server/io/{dial,conn,peers}.c.
#include <string.h>

#include "tests/sim/link.h"
#include "tests/sim/wire.h"

#define HANDSHAKE_NS (2000 * SIM_MS)
#define CLOSE_NS     (2000 * SIM_MS)

// --- paths -------------------------------------------------------------------------------------

static bool is_cut(const struct sim *s, uint32_t from, uint32_t to)
{
    return s->hosts[from].cut[to / 64] >> to % 64 & 1;
}

bool sim_path_open(const struct sim *s, uint32_t from, uint32_t to)
{
    return sim_host_runs(s, from) && sim_host_runs(s, to) && !is_cut(s, from, to);
}

// --- places ------------------------------------------------------------------------------------

uint32_t sim_link_index(const struct sim *s, const struct sim_link *l)
{
    return (uint32_t)(l - s->links);
}

static struct sim_link *link_new(struct sim *s, uint32_t from, uint32_t to)
{
    struct sim_link *l = NULL;
    for (uint32_t i = 0; i < s->n_links && !l; i++)
        if (!s->links[i].used)
            l = &s->links[i];
    if (!l && s->n_links == s->cap_links) {
        s->cap_links = s->cap_links ? 2 * s->cap_links : 64;
        s->links = realloc(s->links, s->cap_links * sizeof(*s->links));
        SIM_ASSERT(s->links);
    }
    if (!l) {
        l = &s->links[s->n_links++];
        *l = (struct sim_link){0};
    }
    l->used = true;
    l->stamp++;
    l->hop_ns = s->p.hop_ns;
    l->end[0] = (struct sim_link_end){.slot = from};
    l->end[1] = (struct sim_link_end){.slot = to};
    return l;
}

static void join(struct sim *s, struct sim_link *l, uint32_t end)
{
    struct sim_proc *p = &s->procs[l->end[end].slot];
    if (p->n_links == p->cap_links) {
        p->cap_links = p->cap_links ? 2 * p->cap_links : 8;
        p->links = realloc(p->links, p->cap_links * sizeof(*p->links));
        SIM_ASSERT(p->links);
    }
    p->links[p->n_links++] = sim_link_index(s, l);
}

void sim_link_part(struct sim *s, struct sim_link *l, uint32_t end)
{
    struct sim_proc *p = &s->procs[l->end[end].slot];
    uint32_t index = sim_link_index(s, l);
    for (uint32_t i = 0; i < p->n_links; i++)
        if (p->links[i] == index) {
            p->links[i] = p->links[--p->n_links];
            return;
        }
}

static struct sim_link *link_find(struct sim *s, uint32_t slot, uint32_t id, uint32_t *ret_end)
{
    const struct sim_proc *p = &s->procs[slot];
    for (uint32_t i = 0; i < p->n_links; i++) {
        struct sim_link *l = &s->links[p->links[i]];
        for (uint32_t end = 0; end < 2; end++)
            if (l->end[end].slot == slot && l->end[end].id == id && l->end[end].state &&
                l->end[end].state != SIM_END_CLOSING) {
                *ret_end = end;
                return l;
            }
    }
    return NULL;
}

struct sim_link *sim_link_between(struct sim *s, uint32_t a, uint32_t b)
{
    const struct sim_proc *p = &s->procs[a];
    for (uint32_t i = 0; i < p->n_links; i++) {
        struct sim_link *l = &s->links[p->links[i]];
        uint32_t end = l->end[0].slot == a ? 0 : 1;
        if (l->end[end].state == SIM_END_UP && (b == SIM_NONE || l->end[1 - end].slot == b))
            return l;
    }
    return NULL;
}

void sim_pipe_clear(struct sim_pipe *p)
{
    for (uint32_t i = 0; i < p->n; i++)
        free(p->ring[(p->head + i) & (p->cap - 1)].data);
    *p = (struct sim_pipe){.ring = p->ring, .cap = p->cap};
}

void sim_end_clear(struct sim_link_end *e)
{
    sim_wire_done(e);
    e->state = SIM_END_NONE;
}

void sim_link_free_if_over(struct sim_link *l)
{
    if (l->end[0].state || l->end[1].state)
        return;
    sim_pipe_clear(&l->pipe[0]);
    sim_pipe_clear(&l->pipe[1]);
    l->used = false;
    l->stamp++;
}

void sim_links_done(struct sim *s)
{
    for (uint32_t i = 0; i < s->n_links; i++) {
        for (int end = 0; end < 2; end++) {
            sim_pipe_clear(&s->links[i].pipe[end]);
            sim_end_clear(&s->links[i].end[end]);
            free(s->links[i].pipe[end].ring);
        }
    }
    free(s->links);
}

// --- sending -----------------------------------------------------------------------------------

void sim_pipe_schedule(struct sim *s, struct sim_link *l, uint32_t to, uint64_t at_ns)
{
    struct sim_pipe *p = &l->pipe[to];
    if (at_ns < s->now_ns)
        at_ns = s->now_ns;
    if (p->due_ns && p->due_ns <= at_ns && p->due_ns >= s->now_ns)
        return;
    p->due_ns = at_ns;
    sim_push(s, at_ns, SIM_EVENT_LINK, sim_link_index(s, l), to, l->stamp);
}

static struct sim_item *append(struct sim_pipe *p)
{
    if (p->n == p->cap) {
        uint32_t cap = p->cap ? 2 * p->cap : 8;
        struct sim_item *ring = malloc(cap * sizeof(*ring));
        SIM_ASSERT(ring);
        for (uint32_t i = 0; i < p->n; i++)
            ring[i] = p->ring[(p->head + i) & (p->cap - 1)];
        free(p->ring);
        p->ring = ring;
        p->cap = cap;
        p->head = 0;
    }
    return &p->ring[(p->head + p->n++) & (p->cap - 1)];
}

static uint64_t transit_ns(struct sim *s, const struct sim_link *l, uint32_t to, uint8_t kind)
{
    struct sim_host *from = &s->hosts[l->end[1 - to].slot];
    const struct sim_host *into = &s->hosts[l->end[to].slot];
    uint64_t ns = l->hop_ns + sim_rng_below(&s->net, s->p.jitter_ns + 1);
    ns += (from->slow_ms + into->slow_ms) * SIM_MS;
    if (kind == SIM_ITEM_FRAME && from->clog_us) {
        uint64_t start_ns = from->clog_until_ns > s->now_ns ? from->clog_until_ns : s->now_ns;
        from->clog_until_ns = start_ns + from->clog_us * SIM_US;
        ns += from->clog_until_ns - s->now_ns;
    }
    return ns;
}

// Takes `data`.
void sim_link_push(struct sim *s, struct sim_link *l, uint32_t to, uint8_t kind,
                   struct pm_writer *data)
{
    struct sim_pipe *p = &l->pipe[to];
    uint64_t at_ns = sim_slow_link_at(s, l, to, s->now_ns + transit_ns(s, l, to, kind));
    if (at_ns < p->last_ns)
        at_ns = p->last_ns;
    p->last_ns = at_ns;
    *append(p) = (struct sim_item){.at_ns = at_ns,
                                   .kind = kind,
                                   .len = data ? (uint32_t)data->len : 0,
                                   .data = data ? data->data : NULL};
    if (p->n == 1)
        sim_pipe_schedule(s, l, to, at_ns);
}

// What is on its way to `to` breaks off somewhere, maybe in the middle of an item.
static void tear(struct sim *s, struct sim_link *l, uint32_t to)
{
    struct sim_pipe *p = &l->pipe[to];
    uint32_t keep = sim_rng_pick(&s->net, p->n + 1);
    for (uint32_t i = keep + 1; i < p->n; i++)
        free(p->ring[(p->head + i) & (p->cap - 1)].data);
    if (keep < p->n) {
        struct sim_item *item = &p->ring[(p->head + keep) & (p->cap - 1)];
        item->torn = true;
        item->len = sim_rng_pick(&s->net, item->len ? item->len : 1);
        p->n = keep + 1;
    }
}

void sim_link_send(struct sim *s, uint32_t slot, const struct pm_action *a)
{
    uint32_t end;
    struct sim_link *l = link_find(s, slot, a->link, &end);
    struct pm_writer w = {0};
    if (!l || l->end[end].state != SIM_END_UP)
        return; // ended already, and its core will hear of it
    uint32_t limit = s->hosts[slot].queue_max;
    if (limit && l->pipe[1 - end].n >= limit) {
        l->end[end].due_ns = s->now_ns; // ENOBUFS: noticed in the next turn of its loop
        sim_push(s, s->now_ns, SIM_EVENT_LINK_END, sim_link_index(s, l), end, l->stamp);
        return;
    }
    if (s->trace)
        sim_trace_send(s, slot, l->end[1 - end].slot, a->data, a->len);
    sim_wire_seal(&l->end[end], a->data, a->len, &w);
    sim_link_push(s, l, 1 - end, SIM_ITEM_FRAME, &w);
}

// --- ends --------------------------------------------------------------------------------------

// The socket of `end` goes; the other side hears of it if this host is still there.
void sim_link_break(struct sim *s, struct sim_link *l, uint32_t end, bool rst)
{
    bool unread = l->pipe[end].unread && l->pipe[end].n > 0;
    sim_link_part(s, l, end);
    sim_end_clear(&l->end[end]);
    if (!s->hosts[l->end[end].slot].off) {
        if (rst || unread)
            tear(s, l, 1 - end);
        sim_link_push(s, l, 1 - end, rst || unread ? SIM_ITEM_RST : SIM_ITEM_FIN, NULL);
    }
    sim_link_free_if_over(l);
}

void sim_link_reset(struct sim *s, struct sim_link *l)
{
    for (uint32_t end = 0; end < 2; end++) {
        tear(s, l, end);
        sim_link_push(s, l, end, SIM_ITEM_RST, NULL);
    }
}

void sim_link_close(struct sim *s, uint32_t slot, uint32_t id)
{
    uint32_t end;
    struct sim_link *l = link_find(s, slot, id, &end);
    if (!l)
        return;
    if (l->end[end].state != SIM_END_UP) {
        sim_link_break(s, l, end, false);
        return;
    }
    l->end[end].state = SIM_END_CLOSING;
    l->end[end].due_ns = s->now_ns + CLOSE_NS;
    sim_link_push(s, l, 1 - end, SIM_ITEM_FIN, NULL);
    sim_push(s, l->end[end].due_ns, SIM_EVENT_LINK_END, sim_link_index(s, l), end, l->stamp);
}

// The core hears that its link is down; the socket is gone.
void sim_link_down(struct sim *s, struct sim_link *l, uint32_t end, enum pm_link_end why)
{
    uint32_t slot = l->end[end].slot, id = l->end[end].id, peer = l->end[1 - end].slot;
    bool known = l->end[end].state == SIM_END_UP || end == 0;
    sim_link_part(s, l, end);
    sim_end_clear(&l->end[end]);
    sim_link_free_if_over(l);
    if (known)
        sim_proc_post(s, slot,
                      (struct pm_event){.type = PM_EVENT_LINK_DOWN,
                                        .link = id,
                                        .node = sim_node_of(s, peer),
                                        .link_end = (uint8_t)why,
                                        .text = ""});
}

void sim_link_end_due(struct sim *s, uint32_t index, uint32_t end)
{
    struct sim_link *l = &s->links[index];
    struct sim_link_end *e = &l->end[end];
    if (!e->state || !e->due_ns || s->now_ns < e->due_ns)
        return;
    if (!sim_proc_runs(s, e->slot)) { // looks again when it is awake
        e->due_ns = s->now_ns + 50 * SIM_MS;
        sim_push(s, e->due_ns, SIM_EVENT_LINK_END, index, end, l->stamp);
        return;
    }
    uint8_t state = e->state;
    if (state != SIM_END_DIALLING)
        sim_link_push(s, l, 1 - end, state == SIM_END_UP ? SIM_ITEM_RST : SIM_ITEM_FIN, NULL);
    sim_link_down(s, l, end,
                  state == SIM_END_DIALLING  ? PM_LINK_UNREACHABLE
                  : state == SIM_END_SHAKING ? PM_LINK_STUCK
                                             : PM_LINK_RESET);
}

// --- dialling ----------------------------------------------------------------------------------

void sim_link_dial(struct sim *s, uint32_t slot, const struct pm_action *a)
{
    uint32_t to = sim_slot(s, a->node);
    struct sim_link *l = link_new(s, slot, to);
    struct sim_link_end *e = &l->end[0];
    bool by_name = (!a->text || !*a->text) && a->node != PM_NODE_COORDINATOR;
    join(s, l, 0);
    e->id = a->link;
    e->state = SIM_END_DIALLING;
    if (by_name && !s->p.names) { // the resolver says so a little later
        e->due_ns = s->now_ns + 2 * SIM_MS;
        sim_push(s, e->due_ns, SIM_EVENT_LINK_END, sim_link_index(s, l), 0, l->stamp);
        return;
    }
    e->due_ns = s->now_ns + a->timeout_ms * SIM_MS;
    sim_push(s, e->due_ns, SIM_EVENT_LINK_END, sim_link_index(s, l), 0, l->stamp);
    sim_link_push(s, l, 1, SIM_ITEM_SYN, NULL);
}

// The kernel of the dialled host answers, whatever its process does.
void sim_link_take_syn(struct sim *s, struct sim_link *l)
{
    struct sim_proc *p = &s->procs[l->end[1].slot];
    if (!p->core || !p->listening) {
        sim_link_push(s, l, 0, SIM_ITEM_RST, NULL);
        return;
    }
    join(s, l, 1);
    l->end[1].state = SIM_END_SHAKING;
    l->end[1].due_ns = s->now_ns + HANDSHAKE_NS;
    sim_push(s, l->end[1].due_ns, SIM_EVENT_LINK_END, sim_link_index(s, l), 1, l->stamp);
    sim_link_push(s, l, 0, SIM_ITEM_SYNACK, NULL);
}

static void up(struct sim *s, struct sim_link *l, uint32_t end)
{
    struct sim_link_end *e = &l->end[end];
    e->state = SIM_END_UP;
    e->due_ns = 0;
    if (end == 1)
        e->id = s->procs[e->slot].next_even += 2;
    sim_proc_post(s, e->slot,
                  (struct pm_event){.type = PM_EVENT_LINK_UP,
                                    .link = e->id,
                                    .node = sim_node_of(s, l->end[1 - end].slot),
                                    .text = ""});
}

void sim_link_shake(struct sim *s, struct sim_link *l, uint32_t end, const struct sim_item *item)
{
    static const uint8_t answer[] = {[SIM_ITEM_SYNACK] = SIM_ITEM_HELLO,
                                     [SIM_ITEM_HELLO] = SIM_ITEM_WELCOME,
                                     [SIM_ITEM_WELCOME] = SIM_ITEM_CONFIRM};
    struct pm_writer out = {0};
    if (s->p.cipher)
        sim_wire_shake(s, l, end, item, &out);
    if (item->kind == SIM_ITEM_SYNACK)
        l->end[end].state = SIM_END_SHAKING;
    if (item->kind != SIM_ITEM_CONFIRM)
        sim_link_push(s, l, 1 - end, answer[item->kind], &out);
    if (item->kind == SIM_ITEM_WELCOME || item->kind == SIM_ITEM_CONFIRM)
        up(s, l, end);
}
