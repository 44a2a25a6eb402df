// SPDX-License-Identifier: Apache-2.0
//
// Links of scale mode; see scale.h. A link is an ordered pipe each way with the latency of a hop; a host
// that is lost says nothing any more, and dials to it time out.
#include <string.h>

#include "pmix_server/wire/secure.h"
#include "tests/sim/scale.h"

#define BODY_MIN      (16u << 10) // as in pmix_server/io/peers.c
#define REALLY_SEALED 1000u       // one frame in so many
#define FENCE_UP      0x30
#define FENCE_DOWN    0x31
#define FENCE_BEGIN   0x34
#define FENCE_PIECE   0x35
#define COLLECT       1u

static uint64_t hop_ns(struct scale *w)
{
    const struct scale_latency *l = &w->config.latency;
    bool slow = l->slow_ppm && sim_rng_below(&w->net, 1000000) < l->slow_ppm;
    return slow ? l->slow_ns : l->hop_ns;
}

static struct scale_wire *wire_of(struct scale *w, uint32_t proc, uint32_t id, int *ret_end)
{
    const struct scale_proc *p = &w->procs[proc];
    for (uint32_t i = p->n_ends; i > 0; i--)
        if (p->ends[i - 1].id == id) {
            struct scale_wire *wire = &w->wires[p->ends[i - 1].wire];
            *ret_end = wire->proc[0] == proc && wire->id[0] == id ? 0 : 1;
            return wire;
        }
    return NULL;
}

static void open_end(struct scale *w, uint32_t wire, int end, uint32_t id)
{
    struct scale_proc *p = &w->procs[w->wires[wire].proc[end]];
    if (p->n_ends == p->cap_ends) {
        p->cap_ends = p->cap_ends ? 2 * p->cap_ends : 1;
        p->ends = reallocarray(p->ends, p->cap_ends, sizeof(*p->ends));
        SIM_ASSERT(p->ends);
    }
    p->ends[p->n_ends++] = (struct scale_end){id, wire};
    w->wires[wire].id[end] = id;
    w->wires[wire].open[end] = true;
}

static void close_end(struct scale *w, uint32_t wire, int end)
{
    struct scale_proc *p = &w->procs[w->wires[wire].proc[end]];
    w->wires[wire].open[end] = false;
    for (uint32_t i = 0; i < p->n_ends; i++)
        if (p->ends[i].wire == wire && p->ends[i].id == w->wires[wire].id[end]) {
            p->ends[i] = p->ends[--p->n_ends];
            return;
        }
}

// To end `end` of the wire, behind what is under way to it.
static void send_item(struct scale *w, uint32_t wire, int end, uint32_t kind, uint64_t left_ns,
                      uint32_t item)
{
    struct scale_wire *l = &w->wires[wire];
    uint64_t at_ns = left_ns + hop_ns(w);
    if (at_ns <= l->last_ns[end])
        at_ns = l->last_ns[end] + 1;
    l->last_ns[end] = at_ns;
    w->items[item].wire = wire;
    w->items[item].end = (uint8_t)end;
    scale_push(w, at_ns, kind, l->proc[end], item);
}

// --- dials -------------------------------------------------------------------------------------------

static uint32_t wire_new(struct scale *w, uint32_t from, uint32_t to)
{
    if (w->n_wires == w->cap_wires) {
        w->cap_wires = w->cap_wires ? 2 * w->cap_wires : 1u << 12;
        w->wires = reallocarray(w->wires, w->cap_wires, sizeof(*w->wires));
        SIM_ASSERT(w->wires);
    }
    w->wires[w->n_wires] = (struct scale_wire){.proc = {from, to}};
    return (uint32_t)w->n_wires++;
}

void scale_net_dial(struct scale *w, uint32_t proc, const struct pm_action *a)
{
    uint32_t to = a->node == PM_NODE_COORDINATOR ? w->config.nnodes : a->node;
    uint32_t wire = wire_new(w, proc, to), item = scale_item_new(w);
    uint64_t left_ns = scale_busy(w, proc, 0, (uint64_t)w->config.costs.connect_ns);
    open_end(w, wire, 0, a->link);
    if (w->procs[to].off || !w->procs[to].core) {
        w->items[item].link_end = PM_LINK_UNREACHABLE;
        w->items[item].wire = wire;
        scale_push(w, left_ns + a->timeout_ms * SIM_MS, SCALE_DOWN, proc, item);
        return;
    }
    // SYN and SYN-ACK are the kernels' business; then the dialer's HELLO.
    uint64_t up_ns = left_ns + hop_ns(w) + hop_ns(w);
    send_item(w, wire, 1, SCALE_HELLO, up_ns, item);
}

static void link_up(struct scale *w, uint32_t proc, uint32_t wire, int end, uint64_t at_ns)
{
    struct pm_event event = {.type = PM_EVENT_LINK_UP, .link = w->wires[wire].id[end],
                             .node = scale_node(w, w->wires[wire].proc[1 - end]),
                             .text = "10.0.0.1:40123"};
    if (proc < w->config.nnodes && end == 0) {
        w->times.n_attached++;
        if (at_ns > w->times.attached_ns)
            w->times.attached_ns = at_ns;
    }
    scale_step(w, proc, at_ns, 0, &event);
}

static void handshake(struct scale *w, uint32_t proc, uint32_t kind, uint32_t wire, uint64_t at_ns)
{
    const struct scale_costs *c = &w->config.costs;
    double cost = kind == SCALE_HELLO ? c->connect_ns : c->recv_ns;
    if (kind != SCALE_CONFIRM)
        cost += c->handshake_ns + c->send_ns;
    uint64_t done_ns = scale_busy(w, proc, at_ns, (uint64_t)cost);
    if (kind == SCALE_HELLO) {
        open_end(w, wire, 1, w->procs[proc].next_even += 2);
        send_item(w, wire, 0, SCALE_WELCOME, done_ns, scale_item_new(w));
    } else if (kind == SCALE_WELCOME) {
        send_item(w, wire, 1, SCALE_CONFIRM, done_ns, scale_item_new(w));
        link_up(w, proc, wire, 0, done_ns);
    } else {
        link_up(w, proc, wire, 1, done_ns);
    }
}

// --- frames ------------------------------------------------------------------------------------------

// Length of a fence's key and what else is before its data; for contributions only if they have any.
static size_t payload_of(const uint8_t *data, size_t len)
{
    struct pm_reader r = pm_reader_of(data, len);
    uint8_t type = pm_read_u8(&r);
    struct pm_set set = {0};
    if (type != FENCE_UP && type != FENCE_DOWN && type != FENCE_BEGIN && type != FENCE_PIECE)
        return 0;
    (void)pm_read_raw(&r, 4 + 8 + 8);
    if (pm_read_u8(&r))
        pm_read_set(&r, &set, UINT32_MAX);
    uint8_t flags = type == FENCE_UP ? pm_read_u8(&r) : COLLECT;
    (void)pm_read_raw(&r, type == FENCE_PIECE ? 4 : 8);
    if (type != FENCE_PIECE)
        pm_read_set(&r, &set, UINT32_MAX);
    // One before each node's part; BEGIN has the length of the whole as well.
    uint64_t lengths = 4 * (type == FENCE_UP ? pm_set_count(&set) : type == FENCE_BEGIN ? 2 : 1);
    pm_set_done(&set);
    return r.error || !(flags & COLLECT) || r.left < lengths ? 0 : r.left - lengths;
}

static struct scale_frame *frame_new(struct scale *w, const struct pm_action *a)
{
    struct scale_frame *frame = malloc(sizeof(*frame) + a->len);
    SIM_ASSERT(frame && a->len > 0);
    frame->refs = 0;
    frame->len = (uint32_t)a->len;
    frame->wire_len = a->len + PM_SECURE_FRAME_OVERHEAD;
    if (w->unit > 1)
        frame->wire_len += (uint64_t)payload_of(a->data, a->len) * (w->unit - 1);
    memcpy(frame->data, a->data, a->len);
    return frame;
}

static void count(struct scale_load *load, uint64_t bytes)
{
    load->frames++;
    load->bytes += bytes;
    load->largest = bytes > load->largest ? bytes : load->largest;
}

// CPU of the sender. What is large is encrypted once for all that get it.
static uint64_t send_cost(const struct scale *w, const struct scale_frame *frame, bool again)
{
    const struct scale_costs *c = &w->config.costs;
    double bytes = (double)frame->wire_len, cost = c->seal_ns + c->send_ns + bytes * c->copy_byte_ns;
    if (frame->wire_len < BODY_MIN)
        cost += bytes * c->seal_byte_ns;
    else if (!again)
        cost += bytes * c->body_byte_ns;
    return (uint64_t)cost;
}

void scale_net_send(struct scale *w, uint32_t proc, const struct pm_action *a, bool follows)
{
    static struct scale_frame *before; // of the last send; valid while `follows`
    int end;
    struct scale_wire *wire = wire_of(w, proc, a->link, &end);
    if (!wire || !wire->open[1 - end]) { // ended on the other side meanwhile
        before = NULL;
        return;
    }
    bool again = follows && before && before->len == a->len &&
                 memcmp(before->data, a->data, a->len) == 0;
    struct scale_frame *frame = again ? before : frame_new(w, a);
    before = frame;
    frame->refs++;
    struct scale_proc *p = &w->procs[proc];
    uint64_t left_ns = scale_busy(w, proc, 0, send_cost(w, frame, again));
    if (left_ns < p->wire_ns)
        left_ns = p->wire_ns;
    left_ns += frame->wire_len * 8 / w->config.gbit;
    p->wire_ns = left_ns;
    count(&p->load, frame->wire_len);
    uint32_t item = scale_item_new(w);
    w->items[item].frame = frame;
    if (++w->frames % REALLY_SEALED == 0) {
        scale_cipher_check(w->cipher, frame->data, frame->len);
        w->sealed++;
    }
    send_item(w, (uint32_t)(wire - w->wires), 1 - end, SCALE_FRAME, left_ns, item);
}

static void frame_arrives(struct scale *w, uint32_t proc, uint32_t item, uint64_t at_ns)
{
    const struct scale_costs *c = &w->config.costs;
    const struct scale_wire *wire = &w->wires[w->items[item].wire];
    int end = w->items[item].end;
    if (!wire->open[end])
        return;
    struct scale_frame *frame = w->items[item].frame;
    double bytes = (double)frame->wire_len;
    double cost = c->recv_ns + c->open_ns + bytes * (c->copy_byte_ns + c->open_byte_ns);
    count(&w->procs[proc].load, frame->wire_len);
    struct pm_event event = {.type = PM_EVENT_FRAME, .link = wire->id[end], .data = frame->data,
                             .len = frame->len};
    scale_step(w, proc, at_ns, (uint64_t)cost, &event);
}

void scale_net_close(struct scale *w, uint32_t proc, uint32_t link)
{
    int end;
    struct scale_wire *wire = wire_of(w, proc, link, &end);
    if (!wire)
        return;
    uint32_t index = (uint32_t)(wire - w->wires);
    close_end(w, index, end);
    if (wire->open[1 - end])
        send_item(w, index, 1 - end, SCALE_DOWN, w->procs[proc].busy_ns, scale_item_new(w));
}

static void down(struct scale *w, uint32_t proc, uint32_t item, uint64_t at_ns)
{
    uint32_t wire = w->items[item].wire;
    int end = w->items[item].end;
    if (!w->wires[wire].open[end])
        return;
    struct pm_event event = {.type = PM_EVENT_LINK_DOWN, .link = w->wires[wire].id[end],
                             .node = scale_node(w, w->wires[wire].proc[1 - end]),
                             .link_end = w->items[item].link_end, .text = "closed"};
    close_end(w, wire, end);
    w->times.n_lost_links++;
    scale_step(w, proc, at_ns, (uint64_t)w->config.costs.recv_ns, &event);
}

void scale_net_arrives(struct scale *w, uint32_t proc, uint32_t kind, uint32_t item, uint64_t at_ns)
{
    if (at_ns > w->procs[proc].busy_ns) // it sleeps
        at_ns += (uint64_t)w->config.costs.wake_ns;
    if (kind == SCALE_FRAME)
        frame_arrives(w, proc, item, at_ns);
    else if (kind == SCALE_DOWN)
        down(w, proc, item, at_ns);
    else
        handshake(w, proc, kind, w->items[item].wire, at_ns);
}
