// SPDX-License-Identifier: Apache-2.0
//
// TCP between two processes, as far as it shows: what was sent arrives in order, a prefix of it. A
// path that is cut, or a host that is silent, stalls it; then the first item is sent again after 200
// ms, 400 ms ... and the rest follows when it gets through, so the silence outlives the cut. The
// sender believes that all was sent. Acknowledgements need the way back: without it only a few
// items pass. The end of a process, or a reset, cuts off any part of what is still on its way, also in
// the middle of a frame. Two links between the same processes know nothing of each other, so the
// tail of an old one races the new one.
//
// Handshake, limits and ends are those of pmix_server/io/{dial,conn,peers}.c.
#include <string.h>

#include "tests/sim/sim.h"
#include "tests/sim/wire.h"

#define RTO_NS       (200 * SIM_MS)
#define RTO_SYN_NS   (1000 * SIM_MS)
#define RTO_MAX_NS   (120 * SIM_S)
#define GIVE_UP_NS   (924 * SIM_S) // ETIMEDOUT
#define HANDSHAKE_NS (2000 * SIM_MS)
#define CLOSE_NS     (2000 * SIM_MS)
#define WINDOW_MAX   10

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

static uint32_t index_of(const struct sim *s, const struct sim_link *l)
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
    p->links[p->n_links++] = index_of(s, l);
}

static void part(struct sim *s, struct sim_link *l, uint32_t end)
{
    struct sim_proc *p = &s->procs[l->end[end].slot];
    uint32_t index = index_of(s, l);
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

static void pipe_clear(struct sim_pipe *p)
{
    for (uint32_t i = 0; i < p->n; i++)
        free(p->ring[(p->head + i) & (p->cap - 1)].data);
    *p = (struct sim_pipe){.ring = p->ring, .cap = p->cap};
}

static void end_clear(struct sim_link_end *e)
{
    sim_wire_done(e);
    e->state = SIM_END_NONE;
}

static void free_if_over(struct sim_link *l)
{
    if (l->end[0].state || l->end[1].state)
        return;
    pipe_clear(&l->pipe[0]);
    pipe_clear(&l->pipe[1]);
    l->used = false;
    l->stamp++;
}

void sim_links_done(struct sim *s)
{
    for (uint32_t i = 0; i < s->n_links; i++) {
        for (int end = 0; end < 2; end++) {
            pipe_clear(&s->links[i].pipe[end]);
            end_clear(&s->links[i].end[end]);
            free(s->links[i].pipe[end].ring);
        }
    }
    free(s->links);
}

// --- sending -----------------------------------------------------------------------------------

static void schedule(struct sim *s, struct sim_link *l, uint32_t to, uint64_t at_ns)
{
    struct sim_pipe *p = &l->pipe[to];
    if (at_ns < s->now_ns)
        at_ns = s->now_ns;
    if (p->due_ns && p->due_ns <= at_ns && p->due_ns >= s->now_ns)
        return;
    p->due_ns = at_ns;
    sim_push(s, at_ns, SIM_EVENT_LINK, index_of(s, l), to, l->stamp);
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
static void push(struct sim *s, struct sim_link *l, uint32_t to, uint8_t kind, struct pm_writer *data)
{
    struct sim_pipe *p = &l->pipe[to];
    uint64_t at_ns = s->now_ns + transit_ns(s, l, to, kind);
    if (at_ns < p->last_ns)
        at_ns = p->last_ns;
    p->last_ns = at_ns;
    *append(p) = (struct sim_item){.at_ns = at_ns, .kind = kind,
                                   .len = data ? (uint32_t)data->len : 0,
                                   .data = data ? data->data : NULL};
    if (p->n == 1)
        schedule(s, l, to, at_ns);
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
        sim_push(s, s->now_ns, SIM_EVENT_LINK_END, index_of(s, l), end, l->stamp);
        return;
    }
    if (s->trace)
        sim_trace_send(s, slot, l->end[1 - end].slot, a->data, a->len);
    sim_wire_seal(&l->end[end], a->data, a->len, &w);
    push(s, l, 1 - end, SIM_ITEM_FRAME, &w);
}

// --- ends --------------------------------------------------------------------------------------

// The socket of `end` goes; the other side hears of it if this host is still there.
void sim_link_break(struct sim *s, struct sim_link *l, uint32_t end, bool rst)
{
    bool unread = l->pipe[end].unread && l->pipe[end].n > 0;
    part(s, l, end);
    end_clear(&l->end[end]);
    if (!s->hosts[l->end[end].slot].off) {
        if (rst || unread)
            tear(s, l, 1 - end);
        push(s, l, 1 - end, rst || unread ? SIM_ITEM_RST : SIM_ITEM_FIN, NULL);
    }
    free_if_over(l);
}

void sim_link_reset(struct sim *s, struct sim_link *l)
{
    for (uint32_t end = 0; end < 2; end++) {
        tear(s, l, end);
        push(s, l, end, SIM_ITEM_RST, NULL);
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
    push(s, l, 1 - end, SIM_ITEM_FIN, NULL);
    sim_push(s, l->end[end].due_ns, SIM_EVENT_LINK_END, index_of(s, l), end, l->stamp);
}

// The core hears that its link is down; the socket is gone.
static void down(struct sim *s, struct sim_link *l, uint32_t end, enum pm_link_end why)
{
    uint32_t slot = l->end[end].slot, id = l->end[end].id, peer = l->end[1 - end].slot;
    bool known = l->end[end].state == SIM_END_UP || end == 0;
    part(s, l, end);
    end_clear(&l->end[end]);
    free_if_over(l);
    if (known)
        sim_proc_post(s, slot, (struct pm_event){.type = PM_EVENT_LINK_DOWN, .link = id,
                                                 .node = sim_node_of(s, peer),
                                                 .link_end = (uint8_t)why, .text = ""});
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
        push(s, l, 1 - end, state == SIM_END_UP ? SIM_ITEM_RST : SIM_ITEM_FIN, NULL);
    down(s, l, end, state == SIM_END_DIALLING  ? PM_LINK_UNREACHABLE
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
        sim_push(s, e->due_ns, SIM_EVENT_LINK_END, index_of(s, l), 0, l->stamp);
        return;
    }
    e->due_ns = s->now_ns + a->timeout_ms * SIM_MS;
    sim_push(s, e->due_ns, SIM_EVENT_LINK_END, index_of(s, l), 0, l->stamp);
    push(s, l, 1, SIM_ITEM_SYN, NULL);
}

// The kernel of the dialled host answers, whatever its process does.
static void take_syn(struct sim *s, struct sim_link *l)
{
    struct sim_proc *p = &s->procs[l->end[1].slot];
    if (!p->core || !p->listening) {
        push(s, l, 0, SIM_ITEM_RST, NULL);
        return;
    }
    join(s, l, 1);
    l->end[1].state = SIM_END_SHAKING;
    l->end[1].due_ns = s->now_ns + HANDSHAKE_NS;
    sim_push(s, l->end[1].due_ns, SIM_EVENT_LINK_END, index_of(s, l), 1, l->stamp);
    push(s, l, 0, SIM_ITEM_SYNACK, NULL);
}

static void up(struct sim *s, struct sim_link *l, uint32_t end)
{
    struct sim_link_end *e = &l->end[end];
    e->state = SIM_END_UP;
    e->due_ns = 0;
    if (end == 1)
        e->id = s->procs[e->slot].next_even += 2;
    sim_proc_post(s, e->slot, (struct pm_event){.type = PM_EVENT_LINK_UP, .link = e->id,
                                                .node = sim_node_of(s, l->end[1 - end].slot),
                                                .text = ""});
}

static void shake(struct sim *s, struct sim_link *l, uint32_t end, const struct sim_item *item)
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
        push(s, l, 1 - end, answer[item->kind], &out);
    if (item->kind == SIM_ITEM_WELCOME || item->kind == SIM_ITEM_CONFIRM)
        up(s, l, end);
}

// --- receiving ---------------------------------------------------------------------------------

static void take_frame(struct sim *s, struct sim_link *l, uint32_t end, struct sim_item *item)
{
    if (l->end[end].state == SIM_END_UP && !item->torn) {
        s->stats.frames++;
        sim_wire_open(s, l, end, item);
    } else if (l->end[end].state == SIM_END_UP) {
        sim_wire_keep(&l->end[end], item);
    } else if (l->end[end].state == SIM_END_NONE) {
        push(s, l, 1 - end, SIM_ITEM_RST, NULL);
    }
}

static void take_end(struct sim *s, struct sim_link *l, uint32_t end, uint8_t kind)
{
    uint8_t state = l->end[end].state;
    if (!state) {
        free_if_over(l);
        return;
    }
    if (l->end[1 - end].state == SIM_END_CLOSING) { // we close as well, and that ends it
        part(s, l, 1 - end);
        end_clear(&l->end[1 - end]);
    }
    if (state == SIM_END_CLOSING || (end == 1 && state != SIM_END_UP)) {
        part(s, l, end);
        end_clear(&l->end[end]);
        free_if_over(l);
        return;
    }
    if (kind == SIM_ITEM_FIN && state == SIM_END_UP && l->end[1 - end].state)
        push(s, l, 1 - end, SIM_ITEM_FIN, NULL);
    down(s, l, end, state != SIM_END_UP      ? PM_LINK_REFUSED
                    : kind == SIM_ITEM_FIN ? PM_LINK_CLOSED
                                           : PM_LINK_RESET);
}

static void take(struct sim *s, struct sim_link *l, uint32_t to, struct sim_item *item)
{
    if (item->kind == SIM_ITEM_SYN)
        take_syn(s, l);
    else if (item->kind == SIM_ITEM_FIN || item->kind == SIM_ITEM_RST)
        take_end(s, l, to, item->kind);
    else if (item->kind == SIM_ITEM_FRAME || item->torn)
        take_frame(s, l, to, item);
    else if (l->end[to].state)
        shake(s, l, to, item);
    else
        push(s, l, 1 - to, SIM_ITEM_RST, NULL);
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
        schedule(s, l, to, s->now_ns + p->rto_ns);
        return;
    }
    pipe_clear(p);
    if (sender->state == SIM_END_UP && sim_proc_runs(s, sender->slot))
        down(s, l, 1 - to, PM_LINK_RESET);
    else if (sender->state)
        sim_link_break(s, l, 1 - to, true);
    else
        free_if_over(l);
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
    uint32_t stamp = l->stamp, index = index_of(s, l);
    if (item.at_ns > s->now_ns) {
        schedule(s, l, to, item.at_ns);
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
        schedule(s, l, to, l->pipe[to].ring[l->pipe[to].head].at_ns);
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
                schedule(s, l, end, s->now_ns + sim_rng_below(&s->net, 200 * SIM_US));
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
