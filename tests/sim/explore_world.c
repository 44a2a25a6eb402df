// SPDX-License-Identifier: Apache-2.0
//
// See explore.h: the small world, what can happen next in it, and what then happens.
#include "tests/sim/explore.h"

#include <stddef.h>
#include <string.h>

#include "pmix_server/core/membership.h"

uint32_t x_nnodes = 2, x_spares;
uint64_t x_delay_ns, x_latency_ns;
bool x_ranks_end, x_shrink, x_relaunch;
uint8_t x_only;
uint32_t x_max_faults;

// --- birth, copies, end --------------------------------------------------------------------------

static const struct pm_options *options(void)
{
    static struct sim_params p;
    struct pm_options *o = &p.options;
    if (o->fanout)
        return o;
    sim_params_calm(&p);
    o->spares = x_spares;
    o->shrink = x_shrink;
    o->relaunch = x_relaunch;
    o->max_restarts = 1;
    o->min_uptime_ms = 0;
    o->grace_ms = 500;
    o->node_timeout_ms = X_T_MS;
    o->orphan_timeout_ms = 4000;
    o->start_timeout_ms = 8000;
    o->join_window_ms = 4000;
    o->fanout = 2;
    return o;
}

static struct x_core *new_core(uint32_t slot, uint64_t now_ns)
{
    char list[32], addresses[32];
    struct x_core *c = sim_alloc(1, sizeof(*c));
    struct pm_core_config config = {.node = slot == x_nnodes ? PM_NODE_COORDINATOR : slot,
                                    .launch = 1,
                                    .job_nodes = x_nnodes + 1,
                                    .options = options()};
    (void)snprintf(list, sizeof(list), "node[0-%u]", x_nnodes - 1);
    (void)snprintf(addresses, sizeof(addresses), "10.0.0.%u:4000", slot);
    config.addresses = addresses;
    if (slot < x_nnodes) {
        config.nnodes = config.ntasks = x_nnodes;
        config.n_local = 1;
        config.local_ranks = &slot;
        config.nodelist = list;
    }
    *c = (struct x_core){.refs = 1, .hashed_ns = UINT64_MAX};
    int r = pm_core_new(&config, now_ns, &c->core);
    SIM_ASSERT(r == 0);
    return c;
}

struct x_world *x_world_new(void)
{
    struct x_world *w = sim_alloc(1, sizeof(*w));
    w->now_ns = SIM_S;
    for (uint32_t slot = 0; slot <= x_nnodes; slot++)
        w->cores[slot] = new_core(slot, w->now_ns);
    x_event(w, x_nnodes, X_LOCAL, (struct x_item){.type = PM_EVENT_LAUNCHED});
    for (uint32_t i = 0; i < x_nnodes; i++) {
        w->nodes[i] = (struct x_node){.shim = true, .lease_ns = UINT64_MAX};
        x_event(w, i, X_SHIM, (struct x_item){.type = PM_EVENT_SHIM_JOINED});
        x_event(w, i, X_SERVER, (struct x_item){.type = PM_EVENT_PORT});
    }
    return w;
}

size_t x_world_size(const struct x_world *w)
{
    return offsetof(struct x_world, items) + w->n_items * sizeof(w->items[0]);
}

void x_world_copy(struct x_world *into, const struct x_world *from)
{
    memcpy(into, from, x_world_size(from));
    for (uint32_t i = 0; i <= x_nnodes; i++)
        if (into->cores[i])
            into->cores[i]->refs++;
    for (uint32_t i = 0; i < into->n_items; i++)
        if (into->items[i].blob)
            into->items[i].blob->refs++;
}

struct x_world *x_world_keep(const struct x_world *w)
{
    struct x_world *kept = sim_alloc(1, x_world_size(w));
    x_world_copy(kept, w);
    return kept;
}

void x_world_drop(struct x_world *w)
{
    for (uint32_t i = 0; i <= x_nnodes; i++) {
        if (w->cores[i] && --w->cores[i]->refs == 0) {
            pm_core_free(w->cores[i]->core);
            free(w->cores[i]);
        }
    }
    for (uint32_t i = 0; i < w->n_items; i++)
        if (w->items[i].blob && --w->items[i].blob->refs == 0)
            free(w->items[i].blob);
}

enum pm_state x_world_state(const struct x_world *w)
{
    return w->cores[x_nnodes] ? pm_core_state(w->cores[x_nnodes]->core) : PM_STATE_DONE;
}

// --- what can happen next ------------------------------------------------------------------------

bool x_is_cut(const struct x_world *w, uint32_t slot)
{
    return slot < x_nnodes && (w->nodes[slot].cut || w->nodes[slot].off);
}

uint32_t x_receiver(const struct x_world *w, const struct x_item *item)
{
    return item->kind == X_EVENT ? item->where : w->links[item->where].slot[item->to];
}

bool x_same_queue(const struct x_item *a, const struct x_item *b)
{
    return (a->kind == X_EVENT) == (b->kind == X_EVENT) && a->where == b->where && a->to == b->to;
}

// Is its way free, and somebody there to take it?
static bool is_held_up(const struct x_world *w, const struct x_item *item)
{
    uint32_t to = x_receiver(w, item);
    if (item->kind == X_EVENT && item->to == X_SLURM) // a signal, to whom it may stop
        return x_is_cut(w, to);
    return w->paused[to] ||
           (item->kind != X_EVENT &&
            (x_is_cut(w, to) || x_is_cut(w, w->links[item->where].slot[1 - item->to])));
}

bool x_can_arrive(const struct x_world *w, uint32_t index)
{
    const struct x_item *item = &w->items[index];
    if (x_soonest_ns(item) > w->now_ns || is_held_up(w, item))
        return false;
    for (uint32_t i = 0; i < index; i++)
        if (x_same_queue(&w->items[i], item))
            return false;
    return true;
}

// The shell reads what came while it could not run before it looks at timers.
static bool has_read(const struct x_world *w, uint32_t slot)
{
    for (uint32_t i = 0; i < w->n_items; i++)
        if (x_soonest_ns(&w->items[i]) <= w->awake_ns[slot] && x_receiver(w, &w->items[i]) == slot &&
            x_can_arrive(w, i))
            return false;
    return true;
}

static uint64_t due_ns(const struct x_world *w)
{
    uint64_t due = UINT64_MAX;
    for (uint32_t i = 0; i <= x_nnodes; i++) {
        uint64_t t = x_runs(w, i) ? pm_core_deadline_ns(w->cores[i]->core) : UINT64_MAX;
        due = t < due ? t : due;
    }
    for (uint32_t i = 0; i < X_LINKS; i++)
        if (w->links[i].used && w->links[i].due_ns && x_runs(w, w->links[i].slot[0]) &&
            w->links[i].due_ns < due)
            due = w->links[i].due_ns;
    for (uint32_t i = 0; i < x_nnodes; i++)
        if (w->nodes[i].alive && !w->nodes[i].stopped && w->nodes[i].lease_ns < due)
            due = w->nodes[i].lease_ns;
    for (uint32_t i = 0; x_latency_ns && i < w->n_items; i++) {
        uint64_t at = x_soonest_ns(&w->items[i]);
        if (at > w->now_ns && at < due && !is_held_up(w, &w->items[i]))
            due = at;
    }
    return due;
}

static bool may_pass(const struct x_world *w)
{
    uint64_t due = due_ns(w);
    if (due == UINT64_MAX || due <= w->now_ns)
        return false;
    for (uint32_t i = 0; i < w->n_items; i++)
        if (due > x_latest_ns(&w->items[i]) && x_can_arrive(w, i))
            return false;
    return true;
}

void x_choice_add(struct x_choices *list, enum x_choice_kind kind, uint32_t a)
{
    if (x_only && kind >= X_RANK_DIES && kind != x_only)
        return;
    SIM_ASSERT(list->n < X_CHOICES_MAX);
    list->at[list->n++] = (struct x_choice){(uint8_t)kind, (uint16_t)a};
}

uint32_t x_world_choices(const struct x_world *w, struct x_choice *ret)
{
    struct x_choices list = {ret, 0};
    if (w->done)
        return 0;
    for (uint32_t i = 0; i < w->n_items; i++)
        if (x_can_arrive(w, i))
            x_choice_add(&list, X_DELIVER, i);
    for (uint32_t i = 0; i <= x_nnodes; i++)
        if (x_runs(w, i) && pm_core_deadline_ns(w->cores[i]->core) <= w->now_ns && has_read(w, i))
            x_choice_add(&list, X_TIMER, i);
    for (uint32_t i = 0; i < X_LINKS; i++)
        if (w->links[i].used && w->links[i].due_ns && w->links[i].due_ns <= w->now_ns &&
            x_runs(w, w->links[i].slot[0]) && has_read(w, w->links[i].slot[0]))
            x_choice_add(&list, X_DIAL_OVER, i);
    if (may_pass(w))
        x_choice_add(&list, X_TIME, 0);
    for (uint32_t i = 0; i < x_nnodes; i++)
        if (w->nodes[i].alive && !w->nodes[i].stopped && (w->nodes[i].termed || x_ranks_end))
            x_choice_add(&list, X_RANK_ENDS, i);
    // With latency at the beginning of an instant (explore_reduce.c), or when nothing else is left.
    bool free = x_latency_ns == 0 || w->faults < x_max_faults || w->fresh || list.n == 0;
    for (uint32_t i = 0; free && i <= x_nnodes; i++)
        if (w->paused[i])
            x_choice_add(&list, X_RESUME, i);
    for (uint32_t i = 0; free && i < x_nnodes; i++)
        if (w->nodes[i].cut)
            x_choice_add(&list, X_HEAL, i);
    if (w->faults < x_max_faults)
        x_faults_add(w, &list);
    if (x_one_by_one(w))
        x_reduce(w, &list);
    return list.n;
}

// --- it happens ----------------------------------------------------------------------------------

static void syn_arrives(struct x_world *w, uint32_t place)
{
    struct x_link *l = &w->links[place];
    uint32_t slot = l->slot[1];
    if (!w->cores[slot] && l->state[0] == X_END_NONE) {
        x_link_end(w, place, 1);
        return;
    }
    if (!w->cores[slot]) {
        x_push(w, (struct x_item){.kind = X_REFUSED, .where = (uint8_t)place, .to = 0});
        return;
    }
    l->state[1] = X_END_UP;
    l->id[1] = w->next_even[slot] += 2;
    if (l->state[0] != X_END_NONE)
        x_push(w, (struct x_item){.kind = X_UP, .where = (uint8_t)place, .to = 0});
    x_feed(w, slot, (struct pm_event){.type = PM_EVENT_LINK_UP, .link = l->id[1], .text = "",
                                      .node = l->slot[0] == x_nnodes ? PM_NODE_COORDINATOR
                                                                     : l->slot[0]});
}

static void link_down(struct x_world *w, uint32_t place, uint32_t end, enum pm_link_end why)
{
    const struct x_link l = w->links[place];
    x_link_end(w, place, end);
    x_feed(w, l.slot[end],
           (struct pm_event){.type = PM_EVENT_LINK_DOWN, .link = l.id[end], .text = "",
                             .link_end = (uint8_t)why,
                             .node = l.slot[1 - end] == x_nnodes ? PM_NODE_COORDINATOR
                                                                 : l.slot[1 - end]});
}

static void link_item(struct x_world *w, const struct x_item *item)
{
    struct x_link *l = &w->links[item->where];
    uint32_t end = item->to;
    if (item->kind == X_SYN) {
        syn_arrives(w, item->where);
    } else if (l->state[end] == X_END_NONE) {
        return; // nobody is there any more
    } else if (item->kind == X_UP) {
        l->state[end] = X_END_UP;
        l->due_ns = 0;
        x_feed(w, l->slot[end],
               (struct pm_event){.type = PM_EVENT_LINK_UP, .link = l->id[end], .text = "",
                                 .node = l->slot[1] == x_nnodes ? PM_NODE_COORDINATOR
                                                                : l->slot[1]});
    } else if (item->kind == X_FRAME) {
        x_feed(w, l->slot[end], (struct pm_event){.type = PM_EVENT_FRAME, .link = l->id[end],
                                                  .data = item->blob->data,
                                                  .len = item->blob->len});
    } else {
        link_down(w, item->where, end,
                  item->kind == X_REFUSED ? PM_LINK_REFUSED : PM_LINK_CLOSED);
    }
}

static void local_event(struct x_world *w, const struct x_item *item)
{
    if (item->type == PM_EVENT_SERVER_READY)
        x_server_ready(w, item->where, item->epoch);
    x_feed(w, item->where,
           (struct pm_event){.type = (enum pm_event_type)item->type, .epoch = item->epoch,
                             .incarnation = item->incarnation, .wait_status = item->status,
                             .pid = 100 + item->where, .job = 7, .nnodes = x_nnodes,
                             .ntasks = x_nnodes, .job_state = (uint8_t)item->status,
                             .port = (uint16_t)(20000 + item->epoch), .text = "it ended"});
}

static void deliver(struct x_world *w, uint32_t index)
{
    struct x_item item = w->items[index];
    memmove(&w->items[index], &w->items[index + 1],
            (w->n_items - index - 1) * sizeof(w->items[0]));
    w->n_items--;
    if (item.kind == X_EVENT && item.to == X_SLURM)
        x_node_ends(w, item.where);
    else if (item.kind == X_EVENT)
        local_event(w, &item);
    else
        link_item(w, &item);
    if (item.blob && --item.blob->refs == 0)
        free(item.blob);
}

static void dial_over(struct x_world *w, uint32_t place)
{
    uint32_t peer = w->links[place].slot[1];
    bool stuck = w->cores[peer] && w->paused[peer] && !x_is_cut(w, peer) &&
                 !x_is_cut(w, w->links[place].slot[0]);
    link_down(w, place, 0, stuck ? PM_LINK_STUCK : PM_LINK_UNREACHABLE);
}

static void pass(struct x_world *w)
{
    uint64_t due = due_ns(w), span = due - w->now_ns;
    for (uint32_t i = 0; i <= x_nnodes; i++)
        if (w->paused[i] || x_is_cut(w, i))
            w->disturbed_ns[i] += span;
    w->now_ns = due;
    for (uint32_t i = 0; i < x_nnodes; i++) {
        x_look(w, i);
        w->nodes[i].ran_ns = 0; // not at this instant: its lease is over
    }
}

// How long it took nobody asks to the millisecond.
static void trouble_over(struct x_world *w, uint32_t slot)
{
    const uint64_t step_ns = X_T_MS / 8 * SIM_MS;
    w->disturbed_ns[slot] = (w->disturbed_ns[slot] + step_ns - 1) / step_ns * step_ns;
}

void x_world_do(struct x_world *w, struct x_choice choice)
{
    x_violation[0] = '\0';
    w->fresh = choice.kind == X_TIME || choice.kind >= X_RANK_DIES ||
               (w->fresh && (choice.kind == X_RESUME || choice.kind == X_HEAL));
    switch (choice.kind) {
    case X_DELIVER:
        deliver(w, choice.a);
        break;
    case X_TIMER:
        x_feed(w, choice.a, (struct pm_event){.type = PM_EVENT_TIMER});
        break;
    case X_DIAL_OVER:
        dial_over(w, choice.a);
        break;
    case X_RANK_ENDS:
        x_rank_dies(w, choice.a, w->nodes[choice.a].termed ? 15 : 0);
        break;
    case X_TIME:
        pass(w);
        break;
    case X_RESUME:
        trouble_over(w, choice.a);
        w->paused[choice.a] = false;
        w->awake_ns[choice.a] = w->now_ns;
        break;
    case X_HEAL:
        trouble_over(w, choice.a);
        w->nodes[choice.a].cut = false;
        break;
    default:
        x_fault_do(w, choice);
    }
}
