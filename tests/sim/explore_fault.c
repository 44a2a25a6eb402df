// SPDX-License-Identifier: Apache-2.0
//
// See explore.h: the faults of the small world, and the names of all that can happen in it.
#include "tests/sim/explore.h"

#include <string.h>

void x_faults_add(const struct x_world *w, struct x_choices *list)
{
    for (uint32_t i = 0; i < x_nnodes; i++) {
        const struct x_node *n = &w->nodes[i];
        if (n->off)
            continue;
        if (n->alive && !n->stopped)
            x_choice_add(list, X_RANK_DIES, i);
        if (w->cores[i])
            x_choice_add(list, X_AGENT_KILLED, i);
        if (n->shim)
            x_choice_add(list, X_HOST_LOST, i);
        if (n->shim && w->cores[i])
            x_choice_add(list, X_SHIM_KILLED, i);
        if (n->ready && w->cores[i])
            x_choice_add(list, X_SERVER_LOST, i);
        if (!n->cut && w->cores[i])
            x_choice_add(list, X_CUT, i);
    }
    for (uint32_t i = 0; i < X_LINKS; i++)
        if (w->links[i].used && w->links[i].state[0] == X_END_UP &&
            w->links[i].state[1] == X_END_UP)
            x_choice_add(list, X_LINK_RESET, i);
    for (uint32_t i = 0; i <= x_nnodes; i++)
        if (x_runs(w, i))
            x_choice_add(list, X_PAUSE, i);
    if (x_runs(w, x_nnodes))
        x_choice_add(list, X_USER_STOP, 0);
}

// --- they strike ---------------------------------------------------------------------------------

static void host_lost(struct x_world *w, uint32_t node)
{
    struct x_node *n = &w->nodes[node];
    n->off = true;
    n->alive = n->stopped = n->held = n->next = n->shim = false;
    x_proc_ends(w, node, true);
    for (uint32_t i = 0; i < X_LINKS; i++)
        for (uint32_t end = 0; end < 2; end++)
            if (w->links[i].used && w->links[i].slot[end] == node)
                w->links[i].state[end] = X_END_NONE;
}

static void shim_killed(struct x_world *w, uint32_t node)
{
    struct x_node *n = &w->nodes[node];
    n->shim = n->alive = n->stopped = n->held = n->next = false;
    n->over = true;
    bool all = true;
    for (uint32_t i = 0; i < x_nnodes; i++)
        all &= w->nodes[i].over;
    x_event(w, node, X_SHIM, (struct x_item){.type = PM_EVENT_SHIM_LOST});
    if (all)
        x_srun_exits(w, 9);
}

static void server_lost(struct x_world *w, uint32_t node)
{
    uint32_t epoch = 31u - (uint32_t)__builtin_clz(w->nodes[node].ready);
    w->nodes[node].ready &= ~(1u << epoch);
    x_event(w, node, X_SERVER, (struct x_item){.type = PM_EVENT_SERVER_LOST, .epoch = epoch});
}

static void link_reset(struct x_world *w, uint32_t place)
{
    for (uint32_t i = 0; i < w->n_items; i++) { // what was on its way is lost
        struct x_item *item = &w->items[i];
        if (item->kind == X_FRAME && item->where == place && --item->blob->refs == 0)
            free(item->blob);
        if (item->kind == X_FRAME && item->where == place)
            *item = (struct x_item){.kind = X_NONE};
    }
    uint32_t n = 0;
    for (uint32_t i = 0; i < w->n_items; i++)
        if (w->items[i].kind != X_NONE)
            w->items[n++] = w->items[i];
    w->n_items = n;
    for (uint32_t end = 0; end < 2; end++)
        x_push(w, (struct x_item){.kind = X_FIN, .where = (uint8_t)place, .to = (uint8_t)end});
}

void x_fault_do(struct x_world *w, struct x_choice choice)
{
    w->faults++;
    w->harmed |= choice.kind != X_LINK_RESET;
    if (choice.a < x_nnodes && (choice.kind == X_AGENT_KILLED || choice.kind == X_HOST_LOST ||
                                choice.kind == X_SHIM_KILLED))
        w->nodes[choice.a].excused = true;
    switch (choice.kind) {
    case X_RANK_DIES:
        x_rank_dies(w, choice.a, 11);
        break;
    case X_AGENT_KILLED:
        x_node_ends(w, choice.a);
        break;
    case X_HOST_LOST:
        host_lost(w, choice.a);
        break;
    case X_SHIM_KILLED:
        shim_killed(w, choice.a);
        break;
    case X_SERVER_LOST:
        server_lost(w, choice.a);
        break;
    case X_LINK_RESET:
        link_reset(w, choice.a);
        break;
    case X_PAUSE:
        w->paused[choice.a] = true;
        w->coord_excused |= choice.a == x_nnodes;
        break;
    case X_CUT:
        w->nodes[choice.a].cut = true;
        break;
    default:
        x_feed(w, x_nnodes,
               (struct pm_event){.type = PM_EVENT_STOP, .signal = 15, .flag_untold = true});
    }
}

// --- names ---------------------------------------------------------------------------------------

static const char *const names[X_CHOICES] = {
    "deliver",   "timer",     "dial-over",   "rank-ends",  "time",       "resume",
    "heal",      "rank-dies", "agent-killed", "host-lost", "shim-killed", "server-lost",
    "link-reset", "pause",    "cut",         "user-stop",
};

const char *x_fault_name(uint8_t kind)
{
    return names[kind];
}

uint8_t x_fault_of(const char *name)
{
    for (uint8_t kind = X_RANK_DIES; kind < X_CHOICES; kind++)
        if (!strcmp(names[kind], name))
            return kind;
    return X_DELIVER;
}

const char *x_choice_name(const struct x_world *w, struct x_choice choice, char *buf, size_t cap)
{
    static const char *const kinds[] = {"-", "syn", "up", "refused", "frame", "fin", "event"};
    if (choice.kind != X_DELIVER) {
        (void)snprintf(buf, cap, "%s%s %u", choice.kind >= X_RANK_DIES ? "FAULT " : "",
                       names[choice.kind], choice.a);
        return buf;
    }
    const struct x_item *item = &w->items[choice.a];
    (void)snprintf(buf, cap, "deliver %s to %u", kinds[item->kind], x_receiver(w, item));
    return buf;
}
