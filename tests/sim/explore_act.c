// SPDX-License-Identifier: Apache-2.0
//
// See explore.h: what cores do to the small world. The shells, shims, servers and srun are modelled
// as far as the cores can see them; what they do takes no time, what they say takes its time.
#include "tests/sim/explore.h"

#include <stdarg.h>
#include <string.h>

char x_violation[512];
struct sim *x_trace;

void x_violate(const char *format, ...)
{
    va_list args;
    if (x_violation[0])
        return;
    va_start(args, format);
    (void)vsnprintf(x_violation, sizeof(x_violation), format, args);
    va_end(args);
    if (x_trace)
        sim_tracef(x_trace, "VIOLATION %s", x_violation);
}

// --- what is on its way --------------------------------------------------------------------------

static void blob_unref(struct x_blob *blob)
{
    if (blob && --blob->refs == 0)
        free(blob);
}

void x_push(struct x_world *w, struct x_item item)
{
    SIM_ASSERT(w->n_items < X_ITEMS);
    if (item.kind == X_FRAME && w->links[item.where].state[item.to] == X_END_NONE) {
        blob_unref(item.blob); // that socket is gone
        return;
    }
    item.at_ns = w->now_ns;
    w->items[w->n_items++] = item;
}

void x_event(struct x_world *w, uint32_t slot, enum x_chan chan, struct x_item item)
{
    if (!w->cores[slot])
        return;
    item.kind = X_EVENT;
    item.where = (uint8_t)slot;
    item.to = (uint8_t)chan;
    x_push(w, item);
}

// All that is on its way to a process, or on a link to one end of it, or to both.
static void items_drop(struct x_world *w, bool event, uint32_t where, uint32_t ends)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < w->n_items; i++) {
        if ((w->items[i].kind == X_EVENT) == event && w->items[i].where == where &&
            (event || ends >> w->items[i].to & 1))
            blob_unref(w->items[i].blob);
        else
            w->items[n++] = w->items[i];
    }
    w->n_items = n;
}

// Who gives up dialling takes back what is still on its way; not what the other may be reading now, for nobody
// there knows of it yet.
static bool dial_arrives(const struct x_world *w, uint32_t place)
{
    for (uint32_t i = 0; x_latency_ns > 0 && i < w->n_items; i++)
        if (w->items[i].kind == X_SYN && w->items[i].where == place)
            return x_can_arrive(w, i);
    return false;
}

void x_link_end(struct x_world *w, uint32_t place, uint32_t end)
{
    struct x_link *l = &w->links[place];
    bool told = l->state[end] != X_END_NONE;
    l->state[end] = X_END_NONE;
    l->due_ns = 0;
    if (told && end == 0 && dial_arrives(w, place)) {
        x_push(w, (struct x_item){.kind = X_FIN, .where = (uint8_t)place, .to = 1});
        return;
    }
    if (l->state[1 - end] != X_END_NONE) {
        items_drop(w, false, place, 1u << end); // nobody is there any more
        if (told)
            x_push(w, (struct x_item){.kind = X_FIN, .where = (uint8_t)place,
                                      .to = (uint8_t)(1 - end)});
        return;
    }
    items_drop(w, false, place, 3);
    *l = (struct x_link){0};
}

// --- processes -----------------------------------------------------------------------------------

void x_srun_exits(struct x_world *w, int32_t status)
{
    if (w->srun_over)
        return;
    w->srun_over = true;
    x_event(w, x_nnodes, X_LOCAL,
            (struct x_item){.type = PM_EVENT_SRUN_EXITED, .status = status});
}

static void task_over(struct x_world *w, uint32_t node)
{
    w->nodes[node].over = true;
    for (uint32_t i = 0; i < x_nnodes; i++)
        if (!w->nodes[i].over)
            return;
    x_srun_exits(w, w->nodes[0].alive ? 1 : 0);
}

bool x_runs_now(const struct x_world *w, uint32_t node)
{
    const struct x_node *n = &w->nodes[node];
    return (n->alive && !n->stopped) || (x_latency_ns > 0 && n->ran_ns == w->now_ns);
}

static void ceases(struct x_world *w, uint32_t node)
{
    if (w->nodes[node].alive && !w->nodes[node].stopped)
        w->nodes[node].ran_ns = w->now_ns;
}

void x_rank_dies(struct x_world *w, uint32_t node, int32_t status)
{
    struct x_node *n = &w->nodes[node];
    if (!n->alive)
        return;
    ceases(w, node);
    n->alive = n->stopped = n->termed = false;
    if (!n->shim)
        return;
    x_event(w, node, X_SHIM, (struct x_item){.type = PM_EVENT_RANK_EXITED, .epoch = n->epoch,
                                             .incarnation = n->incarnation, .status = status});
    x_event(w, node, X_SHIM, (struct x_item){.type = PM_EVENT_RANK_GONE, .epoch = n->epoch,
                                             .incarnation = n->incarnation});
    x_look(w, node);
}

void x_proc_ends(struct x_world *w, uint32_t slot, bool silent)
{
    struct x_core *c = w->cores[slot];
    if (!c)
        return;
    w->cores[slot] = NULL;
    w->paused[slot] = w->leaving[slot] = false;
    if (--c->refs == 0) {
        pm_core_free(c->core);
        free(c);
    }
    items_drop(w, true, slot, 0);
    for (uint32_t i = 0; !silent && i < X_LINKS; i++)
        for (uint32_t end = 0; end < 2; end++)
            if (w->links[i].used && w->links[i].slot[end] == slot &&
                w->links[i].state[end] != X_END_NONE)
                x_link_end(w, i, end);
}

void x_node_ends(struct x_world *w, uint32_t node)
{
    struct x_node *n = &w->nodes[node];
    ceases(w, node);
    n->alive = n->stopped = n->held = n->next = false;
    x_proc_ends(w, node, false);
    if (n->shim)
        task_over(w, node);
    n->shim = false;
}

// --- a shim and its rank -------------------------------------------------------------------------

static void check_start(const struct x_world *w, uint32_t node)
{
    const struct x_node *n = &w->nodes[node];
    if (n->start_epoch < n->epoch)
        x_violate("1: node %u starts epoch %u after %u", node, n->start_epoch, n->epoch);
    if (n->ran && n->start_epoch == n->epoch && n->start_incarnation == n->incarnation)
        x_violate("1: node %u starts epoch %u incarnation %u twice", node, n->epoch,
                  n->incarnation);
    for (uint32_t i = 0; i < x_nnodes; i++)
        if (i != node && x_runs_now(w, i) && w->nodes[i].epoch < n->start_epoch)
            x_violate("2: epoch %u starts on node %u while epoch %u runs on node %u",
                      n->start_epoch, node, w->nodes[i].epoch, i);
}

void x_look(struct x_world *w, uint32_t node)
{
    struct x_node *n = &w->nodes[node];
    bool stand = n->stand || n->lease_ns <= w->now_ns;
    if (stand)
        ceases(w, node);
    if (n->alive)
        n->stopped = stand;
    if (!n->next || n->alive || stand || !n->shim)
        return;
    check_start(w, node);
    n->next = false;
    n->alive = n->ran = true;
    n->termed = false;
    n->epoch = n->start_epoch;
    n->incarnation = n->start_incarnation;
    x_event(w, node, X_SHIM, (struct x_item){.type = PM_EVENT_RANK_STARTED, .epoch = n->epoch,
                                             .incarnation = n->incarnation});
}

static void start(struct x_world *w, uint32_t node, const struct pm_action *a)
{
    struct x_node *n = &w->nodes[node];
    n->start_epoch = a->epoch;
    n->start_incarnation = a->incarnation;
    n->held = !(n->ready >> a->epoch & 1);
    n->next = !n->held;
    if (n->next && n->alive)
        x_rank_dies(w, node, 9); // the shim kills what runs first
    x_look(w, node);
}

void x_server_ready(struct x_world *w, uint32_t node, uint32_t epoch)
{
    struct x_node *n = &w->nodes[node];
    n->ready |= 1u << epoch;
    if (n->held && n->start_epoch == epoch) {
        n->held = false;
        n->next = true;
        x_look(w, node);
    }
}

static void kill_rank(struct x_world *w, uint32_t node, const struct pm_action *a)
{
    struct x_node *n = &w->nodes[node];
    if ((n->held || n->next) && n->start_epoch <= a->epoch) { // it never ran
        n->held = n->next = false;
        x_event(w, node, X_SHIM,
                (struct x_item){.type = PM_EVENT_RANK_EXITED, .epoch = n->start_epoch,
                                .incarnation = n->start_incarnation, .status = 9});
        x_event(w, node, X_SHIM,
                (struct x_item){.type = PM_EVENT_RANK_GONE, .epoch = n->start_epoch,
                                .incarnation = n->start_incarnation});
    }
    if (n->alive && n->epoch <= a->epoch)
        x_rank_dies(w, node, 9);
}

static void drop_server(struct x_world *w, uint32_t node, uint32_t epoch)
{
    uint32_t kept = 0;
    w->nodes[node].ready &= ~(1u << epoch);
    for (uint32_t i = 0; i < w->n_items; i++) {
        const struct x_item *item = &w->items[i];
        if (item->kind != X_EVENT || item->where != node || item->to != X_SERVER ||
            item->epoch != epoch)
            w->items[kept++] = *item;
    }
    w->n_items = kept;
}

static void agent_acts(struct x_world *w, uint32_t node, const struct pm_action *a)
{
    struct x_node *n = &w->nodes[node];
    switch (a->type) {
    case PM_ACTION_PREPARE_SERVER:
        x_event(w, node, X_SERVER,
                (struct x_item){.type = PM_EVENT_SERVER_READY, .epoch = a->epoch});
        x_event(w, node, X_SERVER, (struct x_item){.type = PM_EVENT_PORT, .epoch = a->epoch});
        break;
    case PM_ACTION_DROP_SERVER:
        drop_server(w, node, a->epoch);
        break;
    case PM_ACTION_NOTIFY:
        if (a->last)
            x_event(w, node, X_SERVER,
                    (struct x_item){.type = PM_EVENT_NOTIFIED, .epoch = a->epoch});
        break;
    case PM_ACTION_START_RANK:
        start(w, node, a);
        break;
    case PM_ACTION_SIGNAL_RANK:
        n->termed |= n->alive && n->epoch == a->epoch;
        break;
    case PM_ACTION_KILL_RANK:
        kill_rank(w, node, a);
        break;
    case PM_ACTION_PAUSE:
    case PM_ACTION_RESUME:
        n->stand = a->type == PM_ACTION_PAUSE;
        if (n->stand && n->alive && w->now_ns < n->lease_ns)
            x_violate("10: rank %u is stopped under a lease", node);
        x_look(w, node);
        break;
    case PM_ACTION_SET_LEASE:
        n->lease_ns = a->deadline_ns;
        x_look(w, node);
        break;
    case PM_ACTION_DIE:
    case PM_ACTION_END_AGENT:
        w->leaving[node] = true;
        break;
    default: // logs, words, END_SHIM
        break;
    }
}

// --- the coordinator -----------------------------------------------------------------------------

static void check_lost(const struct x_world *w, const struct pm_log *log)
{
    const struct x_node *n = &w->nodes[log->node];
    if (!n->excused && !w->coord_excused &&
        w->disturbed_ns[log->node] < X_T_MS / 2 * SIM_MS)
        x_violate("7: node %u is declared dead after %llu ms of trouble", log->node,
                  (unsigned long long)(w->disturbed_ns[log->node] / SIM_MS));
    if (!n->excused && x_runs_now(w, log->node) && !n->off)
        x_violate("2: node %u is declared dead while its rank runs", log->node);
}

static void check_log(struct x_world *w, const struct pm_log *log)
{
    if (!strcmp(log->kind, "lost") && log->node < x_nnodes)
        check_lost(w, log);
    if (strcmp(log->kind, "decision") || !log->action || !strcmp(log->action, "ignore"))
        return;
    if (!w->harmed)
        x_violate("4: \"%s\" although nothing failed: %s", log->action, log->reason);
    if (strcmp(log->action, "restart-world") && strcmp(log->action, "move-to-spare") && strcmp(log->action, "shrink"))
        return;
    if (log->epoch < w->halted_epoch)
        x_violate("1: epoch %u is decided to end twice", log->epoch);
    w->halted_epoch = log->epoch + 1;
}

static void step_ends(struct x_world *w)
{
    for (uint32_t i = 0; i < x_nnodes; i++)
        if (x_latency_ns > 0)
            x_event(w, i, X_SLURM, (struct x_item){0});
        else if (!w->nodes[i].off && !w->nodes[i].cut)
            x_node_ends(w, i);
    x_srun_exits(w, 9);
}

// Here the world ends: the next launch starts each rank anew.
static void launches_again(struct x_world *w)
{
    for (uint32_t i = 0; i < x_nnodes; i++)
        if (!w->nodes[i].off && x_runs_now(w, i))
            x_violate("2: the step is launched again while the rank of node %u runs", i);
    w->done = true;
    w->status = 1;
}

static void coordinator_acts(struct x_world *w, const struct pm_action *a)
{
    switch (a->type) {
    case PM_ACTION_LOG:
        check_log(w, a->log);
        break;
    case PM_ACTION_END_STEP:
        step_ends(w);
        break;
    case PM_ACTION_AWAIT_OUTPUT: // elsewhere its 5 s pass: what comes then is the same, and all has ended
        if (x_relaunch)
            x_event(w, x_nnodes, X_LOCAL, (struct x_item){.type = PM_EVENT_OUTPUT_READ});
        break;
    case PM_ACTION_RELAUNCH:
        launches_again(w);
        break;
    case PM_ACTION_ASK_NODES:
        x_event(w, x_nnodes, X_LOCAL, (struct x_item){.type = PM_EVENT_NODE_STATES});
        break;
    case PM_ACTION_ASK_JOB_STATE:
        x_event(w, x_nnodes, X_LOCAL,
                (struct x_item){.type = PM_EVENT_JOB_STATE, .status = PM_JOB_RUNNING});
        break;
    case PM_ACTION_EXIT:
        w->done = true;
        w->status = a->status;
        if (!w->harmed && a->status != 0)
            x_violate("4: verdict %d although nothing failed", a->status);
        break;
    default:
        break;
    }
}

// --- links ---------------------------------------------------------------------------------------

static void dial(struct x_world *w, uint32_t slot, const struct pm_action *a)
{
    uint32_t place = 0;
    while (place < X_LINKS && w->links[place].used)
        place++;
    SIM_ASSERT(place < X_LINKS);
    w->links[place] = (struct x_link){
        .used = true,
        .slot = {(uint8_t)slot, (uint8_t)(a->node == PM_NODE_COORDINATOR ? x_nnodes : a->node)},
        .state = {X_END_DIALLING, X_END_NONE},
        .id = {a->link, 0},
        .due_ns = w->now_ns + a->timeout_ms * SIM_MS,
    };
    x_push(w, (struct x_item){.kind = X_SYN, .where = (uint8_t)place, .to = 1});
}

static bool find_end(const struct x_world *w, uint32_t slot, uint32_t id, uint32_t *place,
                     uint32_t *end)
{
    for (*place = 0; *place < X_LINKS; ++*place)
        for (*end = 0; *end < 2; ++*end)
            if (w->links[*place].used && w->links[*place].slot[*end] == slot &&
                w->links[*place].id[*end] == id && w->links[*place].state[*end] != X_END_NONE)
                return true;
    return false;
}

static void send(struct x_world *w, uint32_t slot, const struct pm_action *a)
{
    uint32_t place, end;
    if (!find_end(w, slot, a->link, &place, &end) || w->links[place].state[end] != X_END_UP)
        return;
    struct x_blob *blob = malloc(sizeof(*blob) + a->len);
    SIM_ASSERT(blob);
    blob->refs = 1;
    blob->len = (uint32_t)a->len;
    memcpy(blob->data, a->data, a->len);
    x_push(w, (struct x_item){.kind = X_FRAME, .where = (uint8_t)place, .to = (uint8_t)(1 - end),
                              .blob = blob});
    if (x_trace)
        sim_trace_send(x_trace, slot, w->links[place].slot[1 - end], a->data, a->len);
}

static void act(struct x_world *w, uint32_t slot, const struct pm_action *a)
{
    uint32_t place, end;
    if (x_trace)
        sim_trace_action(x_trace, slot, a);
    if (a->type == PM_ACTION_DIAL)
        dial(w, slot, a);
    else if (a->type == PM_ACTION_SEND)
        send(w, slot, a);
    else if (a->type != PM_ACTION_CLOSE && slot == x_nnodes)
        coordinator_acts(w, a);
    else if (a->type != PM_ACTION_CLOSE)
        agent_acts(w, slot, a);
    else if (find_end(w, slot, a->link, &place, &end))
        x_link_end(w, place, end);
}

// --- a step --------------------------------------------------------------------------------------

static struct pm_core *own_core(struct x_world *w, uint32_t slot)
{
    struct x_core *c = w->cores[slot];
    c->hashed_ns = UINT64_MAX;
    if (c->refs == 1)
        return c->core;
    struct x_core *mine = sim_alloc(1, sizeof(*mine));
    *mine = (struct x_core){.refs = 1, .core = pm_core_clone(c->core), .hashed_ns = UINT64_MAX};
    SIM_ASSERT(mine->core);
    c->refs--;
    w->cores[slot] = mine;
    return mine->core;
}

void x_feed(struct x_world *w, uint32_t slot, struct pm_event event)
{
    static struct pm_actions actions;
    if (!w->cores[slot])
        return;
    event.now_ns = w->now_ns;
    if (x_trace) {
        x_trace->now_ns = w->now_ns - SIM_S;
        sim_trace_event(x_trace, slot, &event);
    }
    int r = pm_core_step(own_core(w, slot), &event, &actions);
    SIM_ASSERT(r == 0);
    for (size_t i = 0; i < actions.n; i++)
        act(w, slot, &actions.list[i]);
    pm_actions_clear(&actions);
    if (slot < x_nnodes && w->leaving[slot])
        x_node_ends(w, slot);
}
