// SPDX-License-Identifier: Apache-2.0
//
// Links and faults of the harness; see core_harness.h.
#include <string.h>

#include "tests/unit/core_harness_impl.h"

#define RETRANSMIT_NS (200 * HARNESS_MS)

static uint64_t latency(const struct harness *h)
{
    return h->config.latency_ns ? h->config.latency_ns : 50000;
}

static struct wire *wire_find(struct harness *h, uint32_t slot, uint32_t id, int *ret_end)
{
    struct slot *s = &h->slots[slot];
    for (uint32_t i = s->n_wires; i > 0; i--) {
        struct wire *w = s->wires[i - 1];
        for (int end = 0; end < 2; end++)
            if (w->node[end] == slot && w->id[end] == id && w->open[end]) {
                *ret_end = end;
                return w;
            }
    }
    return NULL;
}

static void slot_add_wire(struct slot *s, struct wire *w)
{
    if (s->n_wires == s->cap_wires) {
        s->cap_wires = s->cap_wires ? 2 * s->cap_wires : 4;
        s->wires = reallocarray(s->wires, s->cap_wires, sizeof(*s->wires));
        CHECK(s->wires);
    }
    s->wires[s->n_wires++] = w;
}

static void slot_drop_wire(struct slot *s, const struct wire *w)
{
    for (uint32_t i = 0; i < s->n_wires; i++)
        if (s->wires[i] == w) {
            memmove(&s->wires[i], &s->wires[i + 1], (s->n_wires - i - 1) * sizeof(*s->wires));
            s->n_wires--;
            return;
        }
}

static struct wire *wire_new(struct harness *h, uint32_t from, uint32_t to, uint32_t id)
{
    struct wire *w = calloc(1, sizeof(*w));
    CHECK(w);
    w->node[0] = from;
    w->node[1] = to;
    w->id[0] = id;
    w->open[0] = true;
    if (h->n_wires == h->cap_wires) {
        h->cap_wires = h->cap_wires ? 2 * h->cap_wires : 64;
        h->wires = reallocarray(h->wires, h->cap_wires, sizeof(*h->wires));
        CHECK(h->wires);
    }
    h->wires[h->n_wires++] = w;
    slot_add_wire(&h->slots[from], w);
    return w;
}

static void end_closed(struct harness *h, struct wire *w, int end)
{
    w->open[end] = false;
    slot_drop_wire(&h->slots[w->node[end]], w);
}

// Queues *item for an end of the wire, behind everything that is under way to it.
static void wire_push(struct harness *h, struct wire *w, int end, struct item *item,
                      uint64_t delay_ns)
{
    uint64_t at = h->now_ns + delay_ns;
    if (at < w->last_ns[end])
        at = w->last_ns[end];
    w->last_ns[end] = at;
    item->wire = w;
    item->end = end;
    harness_push(h, item, at);
}

static struct item *link_item(struct harness *h, struct wire *w, int end, enum pm_event_type type)
{
    struct item *item = harness_item(ITEM_EVENT, w->node[end]);
    item->event.type = type;
    item->event.node = harness_node(h, w->node[1 - end]);
    return item;
}

static void push_down(struct harness *h, struct wire *w, int end, enum pm_link_end why,
                      uint64_t delay_ns)
{
    struct item *item = link_item(h, w, end, PM_EVENT_LINK_DOWN);
    item->event.link_end = (uint8_t)why;
    wire_push(h, w, end, item, delay_ns);
}

static bool path_is_cut(const struct harness *h, uint32_t from, uint32_t to)
{
    if (h->slots[from].cut || h->slots[to].cut)
        return true;
    for (size_t i = 0; i < h->n_one_way; i++)
        if (h->one_way[i].from == from && h->one_way[i].to == to)
            return true;
    return false;
}

// --- actions -----------------------------------------------------------------------------------

void harness_net_dial(struct harness *h, uint32_t slot, const struct pm_action *a)
{
    CHECK(a->link % 2 == 1);
    struct wire *w = wire_new(h, slot, harness_slot(h, a->node), a->link);
    struct item *item = harness_item(ITEM_DIAL, slot);
    item->wire = w;
    item->timeout_ns = harness_real_ns(h, slot, a->timeout_ms * HARNESS_MS);
    harness_push(h, item, h->now_ns + latency(h));
}

static void dial_fails(struct harness *h, struct wire *w, enum pm_link_end why, uint64_t delay_ns)
{
    struct item *item = link_item(h, w, 0, PM_EVENT_LINK_DOWN);
    item->event.link_end = (uint8_t)why;
    item->local = true;
    wire_push(h, w, 0, item, delay_ns);
}

void harness_net_dial_arrives(struct harness *h, struct item *item)
{
    struct wire *w = item->wire;
    struct slot *to = &h->slots[w->node[1]];
    if (!w->open[0])
        return;
    if (to->off || path_is_cut(h, w->node[0], w->node[1]) ||
        path_is_cut(h, w->node[1], w->node[0])) {
        dial_fails(h, w, PM_LINK_UNREACHABLE, item->timeout_ns);
    } else if (!to->core) {
        dial_fails(h, w, PM_LINK_REFUSED, latency(h));
    } else if (to->paused) {
        dial_fails(h, w, PM_LINK_STUCK, item->timeout_ns);
    } else {
        w->id[1] = to->next_even += 2;
        w->open[1] = true;
        slot_add_wire(to, w);
        wire_push(h, w, 1, link_item(h, w, 1, PM_EVENT_LINK_UP), latency(h));
        wire_push(h, w, 0, link_item(h, w, 0, PM_EVENT_LINK_UP), 2 * latency(h));
    }
}

void harness_net_send(struct harness *h, uint32_t slot, const struct pm_action *a)
{
    int end;
    struct wire *w = wire_find(h, slot, a->link, &end);
    if (!w)
        return; // ended on the other side meanwhile
    CHECK(a->data && a->len > 0);
    struct item *item = link_item(h, w, 1 - end, PM_EVENT_FRAME);
    item->data = malloc(a->len);
    CHECK(item->data);
    memcpy(item->data, a->data, a->len);
    item->event.data = item->data;
    item->event.len = a->len;
    wire_push(h, w, 1 - end, item, latency(h));
}

void harness_net_close(struct harness *h, uint32_t slot, uint32_t link)
{
    int end;
    struct wire *w = wire_find(h, slot, link, &end);
    if (!w)
        return;
    end_closed(h, w, end);
    if (w->open[1 - end] && w->id[1 - end])
        push_down(h, w, 1 - end, PM_LINK_CLOSED, latency(h));
}

void harness_net_end_all(struct harness *h, uint32_t slot, enum pm_link_end why)
{
    struct slot *s = &h->slots[slot];
    while (s->n_wires > 0) {
        struct wire *w = s->wires[s->n_wires - 1];
        int end = w->node[0] == slot && w->open[0] ? 0 : 1;
        end_closed(h, w, end);
        if (!s->off && w->open[1 - end] && w->id[1 - end])
            push_down(h, w, 1 - end, why, latency(h));
    }
}

static void hold(struct wire *w, int end, struct item *item)
{
    item->next = NULL;
    if (w->held_tail[end])
        w->held_tail[end]->next = item;
    else
        w->held[end] = item;
    w->held_tail[end] = item;
}

bool harness_net_passes(struct harness *h, struct item *item)
{
    struct wire *w = item->wire;
    int end = item->end;
    if (!w->open[end]) {
        harness_item_free(item);
        return false;
    }
    uint32_t from = w->node[1 - end];
    bool cut = !item->local && path_is_cut(h, from, w->node[end]);
    if (cut || w->held[end]) {
        hold(w, end, item);
        return false;
    }
    item->event.link = w->id[end];
    if (item->event.type == PM_EVENT_LINK_DOWN)
        end_closed(h, w, end);
    return true;
}

// --- faults ------------------------------------------------------------------------------------

static void release(struct harness *h, struct wire *w, int end)
{
    uint64_t at = h->now_ns + RETRANSMIT_NS;
    struct item *item = w->held[end];
    w->held[end] = w->held_tail[end] = NULL;
    if (item && at > w->last_ns[end])
        w->last_ns[end] = at;
    while (item) {
        struct item *next = item->next;
        harness_push(h, item, w->last_ns[end]);
        item = next;
    }
}

// What was held on links that nothing cuts any more is sent again.
static void release_all(struct harness *h)
{
    for (size_t i = 0; i < h->n_wires; i++)
        for (int end = 0; end < 2; end++) {
            struct wire *w = h->wires[i];
            if (w->held[end] && !path_is_cut(h, w->node[1 - end], w->node[end]))
                release(h, w, end);
        }
}

void harness_kill(struct harness *h, uint32_t node)
{
    uint32_t slot = harness_slot(h, node);
    struct slot *s = &h->slots[slot];
    s->killed = true;
    harness_net_end_all(h, slot, PM_LINK_RESET);
    harness_slot_gone(h, slot);
}

void harness_power_off(struct harness *h, uint32_t node)
{
    h->slots[harness_slot(h, node)].off = true;
    harness_kill(h, node);
}

void harness_pause(struct harness *h, uint32_t node)
{
    h->slots[harness_slot(h, node)].paused = true;
}

// Input first, then the timer: what a shell does.
void harness_resume(struct harness *h, uint32_t node)
{
    struct slot *s = &h->slots[harness_slot(h, node)];
    struct item *item = s->backlog;
    bool was_paused = s->paused;
    s->paused = false;
    s->backlog = s->backlog_tail = NULL;
    while (item) {
        struct item *next = item->next;
        if (item->kind == ITEM_TIMER)
            harness_item_free(item);
        else
            harness_push(h, item, h->now_ns);
        item = next;
    }
    if (was_paused && s->core) {
        s->timer_ns = h->now_ns;
        harness_push(h, harness_item(ITEM_TIMER, harness_slot(h, node)), h->now_ns);
    }
}

void harness_cut(struct harness *h, uint32_t node)
{
    h->slots[harness_slot(h, node)].cut = true;
}

void harness_heal(struct harness *h, uint32_t node)
{
    h->slots[harness_slot(h, node)].cut = false;
    release_all(h);
}

void harness_cut_one_way(struct harness *h, uint32_t from, uint32_t to, bool cut)
{
    struct pair p = {harness_slot(h, from), harness_slot(h, to)};
    if (cut) {
        h->one_way = reallocarray(h->one_way, h->n_one_way + 1, sizeof(p));
        CHECK(h->one_way);
        h->one_way[h->n_one_way++] = p;
        return;
    }
    for (size_t i = h->n_one_way; i > 0; i--)
        if (h->one_way[i - 1].from == p.from && h->one_way[i - 1].to == p.to)
            h->one_way[i - 1] = h->one_way[--h->n_one_way];
    release_all(h);
}

void harness_reset_link(struct harness *h, uint32_t a, uint32_t b)
{
    uint32_t slot = harness_slot(h, a), peer = harness_slot(h, b);
    struct slot *s = &h->slots[slot];
    for (uint32_t i = 0; i < s->n_wires; i++) {
        struct wire *w = s->wires[i];
        if (w->node[0] != peer && w->node[1] != peer)
            continue;
        for (int end = 0; end < 2; end++)
            if (w->open[end] && w->id[end]) {
                struct item *item = link_item(h, w, end, PM_EVENT_LINK_DOWN);
                item->event.link_end = PM_LINK_RESET;
                wire_push(h, w, end, item, 0);
            }
        return;
    }
}
