// SPDX-License-Identifier: Apache-2.0
//
// See explore.h: the small world, what can happen next in it, and its hash.
#include "tests/sim/explore.h"

#include <stddef.h>
#include <string.h>

#include "pmix_server/core/membership.h"

uint32_t x_nnodes = 2;
uint64_t x_delay_ns;
bool x_ranks_end;
uint8_t x_only;

// --- birth, copies, end --------------------------------------------------------------------------

static const struct pm_options *options(void)
{
    static struct sim_params p;
    struct pm_options *o = &p.options;
    if (o->fanout)
        return o;
    sim_params_calm(&p);
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

static bool is_cut(const struct x_world *w, uint32_t slot)
{
    return slot < x_nnodes && (w->nodes[slot].cut || w->nodes[slot].off);
}

static uint32_t receiver(const struct x_world *w, const struct x_item *item)
{
    return item->kind == X_EVENT ? item->where : w->links[item->where].slot[item->to];
}

static bool same_queue(const struct x_item *a, const struct x_item *b)
{
    return (a->kind == X_EVENT) == (b->kind == X_EVENT) && a->where == b->where && a->to == b->to;
}

static bool can_arrive(const struct x_world *w, uint32_t index)
{
    const struct x_item *item = &w->items[index];
    uint32_t to = receiver(w, item);
    if (w->paused[to])
        return false;
    if (item->kind != X_EVENT &&
        (is_cut(w, to) || is_cut(w, w->links[item->where].slot[1 - item->to])))
        return false;
    for (uint32_t i = 0; i < index; i++)
        if (same_queue(&w->items[i], item))
            return false;
    return true;
}

// The shell reads what came while it could not run before it looks at timers.
static bool has_read(const struct x_world *w, uint32_t slot)
{
    for (uint32_t i = 0; i < w->n_items; i++)
        if (w->items[i].at_ns <= w->awake_ns[slot] && receiver(w, &w->items[i]) == slot &&
            can_arrive(w, i))
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
    return due;
}

static bool may_pass(const struct x_world *w)
{
    uint64_t due = due_ns(w);
    if (due == UINT64_MAX || due <= w->now_ns)
        return false;
    for (uint32_t i = 0; i < w->n_items; i++)
        if (due > w->items[i].at_ns + x_delay_ns && can_arrive(w, i))
            return false;
    return true;
}

struct list {
    struct x_choice *at;
    uint32_t n;
};

static void add(struct list *list, enum x_choice_kind kind, uint32_t a)
{
    if (x_only && kind >= X_RANK_DIES && kind != x_only)
        return;
    SIM_ASSERT(list->n < X_CHOICES_MAX);
    list->at[list->n++] = (struct x_choice){(uint8_t)kind, (uint16_t)a};
}

static void add_faults(const struct x_world *w, struct list *list)
{
    for (uint32_t i = 0; i < x_nnodes; i++) {
        const struct x_node *n = &w->nodes[i];
        if (n->off)
            continue;
        if (n->alive && !n->stopped)
            add(list, X_RANK_DIES, i);
        if (w->cores[i])
            add(list, X_AGENT_KILLED, i);
        if (n->shim)
            add(list, X_HOST_LOST, i);
        if (n->shim && w->cores[i])
            add(list, X_SHIM_KILLED, i);
        if (n->ready && w->cores[i])
            add(list, X_SERVER_LOST, i);
        if (!n->cut && w->cores[i])
            add(list, X_CUT, i);
    }
    for (uint32_t i = 0; i < X_LINKS; i++)
        if (w->links[i].used && w->links[i].state[0] == X_END_UP &&
            w->links[i].state[1] == X_END_UP)
            add(list, X_LINK_RESET, i);
    for (uint32_t i = 0; i <= x_nnodes; i++)
        if (x_runs(w, i))
            add(list, X_PAUSE, i);
    if (x_runs(w, x_nnodes))
        add(list, X_USER_STOP, 0);
}

uint32_t x_world_choices(const struct x_world *w, uint32_t max_faults, struct x_choice *ret)
{
    struct list list = {ret, 0};
    if (w->done)
        return 0;
    for (uint32_t i = 0; i < w->n_items; i++)
        if (can_arrive(w, i))
            add(&list, X_DELIVER, i);
    for (uint32_t i = 0; i <= x_nnodes; i++)
        if (x_runs(w, i) && pm_core_deadline_ns(w->cores[i]->core) <= w->now_ns && has_read(w, i))
            add(&list, X_TIMER, i);
    for (uint32_t i = 0; i < X_LINKS; i++)
        if (w->links[i].used && w->links[i].due_ns && w->links[i].due_ns <= w->now_ns &&
            x_runs(w, w->links[i].slot[0]) && has_read(w, w->links[i].slot[0]))
            add(&list, X_DIAL_OVER, i);
    if (may_pass(w))
        add(&list, X_TIME, 0);
    for (uint32_t i = 0; i < x_nnodes; i++)
        if (w->nodes[i].alive && !w->nodes[i].stopped && (w->nodes[i].termed || x_ranks_end))
            add(&list, X_RANK_ENDS, i);
    for (uint32_t i = 0; i <= x_nnodes; i++)
        if (w->paused[i])
            add(&list, X_RESUME, i);
    for (uint32_t i = 0; i < x_nnodes; i++)
        if (w->nodes[i].cut)
            add(&list, X_HEAL, i);
    if (w->faults < max_faults)
        add_faults(w, &list);
    return list.n;
}

// --- it happens ----------------------------------------------------------------------------------

static void syn_arrives(struct x_world *w, uint32_t place)
{
    struct x_link *l = &w->links[place];
    uint32_t slot = l->slot[1];
    if (!w->cores[slot]) {
        x_push(w, (struct x_item){.kind = X_REFUSED, .where = (uint8_t)place, .to = 0});
        return;
    }
    l->state[1] = X_END_UP;
    l->id[1] = w->next_even[slot] += 2;
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
    if (item.kind == X_EVENT)
        local_event(w, &item);
    else
        link_item(w, &item);
    if (item.blob && --item.blob->refs == 0)
        free(item.blob);
}

static void dial_over(struct x_world *w, uint32_t place)
{
    uint32_t peer = w->links[place].slot[1];
    bool stuck = w->cores[peer] && w->paused[peer] && !is_cut(w, peer) &&
                 !is_cut(w, w->links[place].slot[0]);
    link_down(w, place, 0, stuck ? PM_LINK_STUCK : PM_LINK_UNREACHABLE);
}

static void pass(struct x_world *w)
{
    uint64_t due = due_ns(w), span = due - w->now_ns;
    for (uint32_t i = 0; i <= x_nnodes; i++)
        if (w->paused[i] || is_cut(w, i))
            w->disturbed_ns[i] += span;
    w->now_ns = due;
    for (uint32_t i = 0; i < x_nnodes; i++)
        x_look(w, i);
}

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

static void fault(struct x_world *w, struct x_choice choice)
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

void x_world_do(struct x_world *w, struct x_choice choice)
{
    x_violation[0] = '\0';
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
        w->paused[choice.a] = false;
        w->awake_ns[choice.a] = w->now_ns;
        break;
    case X_HEAL:
        w->nodes[choice.a].cut = false;
        break;
    default:
        fault(w, choice);
    }
}

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
    (void)snprintf(buf, cap, "deliver %s to %u", kinds[item->kind], receiver(w, item));
    return buf;
}

// --- the hash ------------------------------------------------------------------------------------

static void hash_frame(struct pm_digest *d, const struct x_blob *blob)
{
    struct pm_reader r = pm_reader_of(blob->data, blob->len);
    uint8_t type = pm_read_u8(&r);
    pm_digest_u64(d, type);
    if (type == PM_FRAME_PING) { // numbers that only grow say nothing
        uint32_t seq = pm_read_u32(&r);
        pm_digest_u64(d, seq - pm_read_u32(&r));
    } else if (type == PM_FRAME_GRANT) {
        (void)pm_read_u32(&r);
        pm_digest_u64(d, pm_read_u64(&r));
    } else if (type == PM_FRAME_PROBE) {
        pm_digest_u64(d, pm_read_u32(&r));
        pm_digest_u64(d, pm_read_u32(&r));
    } else if (type == PM_FRAME_PROBED) {
        (void)pm_read_u64(&r);
        pm_digest_bytes(d, blob->data + 9, blob->len - 9);
    } else {
        pm_digest_bytes(d, blob->data, blob->len);
    }
}

// A link by what it is, not by its place and numbers.
static uint64_t hash_link(const struct x_world *w, uint32_t place)
{
    const struct x_link *l = &w->links[place];
    struct pm_digest d = {0};
    uint32_t older = 0;
    for (uint32_t i = 0; i < X_LINKS; i++)
        older += w->links[i].used && w->links[i].slot[0] == l->slot[0] &&
                 w->links[i].id[0] < l->id[0];
    pm_digest_u64(&d, (uint64_t)l->slot[0] << 24 | (uint64_t)l->slot[1] << 16 |
                          (uint64_t)l->state[0] << 8 | l->state[1] | (uint64_t)older << 32);
    pm_digest_time(&d, l->due_ns, w->now_ns);
    return d.h;
}

static uint64_t hash_item(const struct x_world *w, uint32_t index)
{
    const struct x_item *item = &w->items[index];
    struct pm_digest d = {0};
    uint32_t before = 0;
    for (uint32_t i = 0; i < index; i++)
        before += same_queue(&w->items[i], item);
    uint64_t age = w->now_ns - item->at_ns;
    bool unread = item->at_ns <= w->awake_ns[receiver(w, item)];
    pm_digest_u64(&d, item->kind == X_EVENT ? item->where : hash_link(w, item->where));
    pm_digest_u64(&d, (uint64_t)item->kind << 32 | (uint64_t)item->to << 24 |
                          (uint64_t)item->type << 16 | before);
    pm_digest_u64(&d, (uint64_t)(uint32_t)item->status << 32 | item->epoch << 8 |
                          item->incarnation);
    pm_digest_u64(&d, (age < x_delay_ns ? age : x_delay_ns) << 1 | unread);
    if (item->blob)
        hash_frame(&d, item->blob);
    return d.h;
}

static void hash_node(struct pm_digest *d, const struct x_world *w, const struct x_node *n)
{
    const bool flags[] = {n->off, n->cut, n->shim, n->over, n->alive, n->stopped, n->termed,
                          n->stand, n->held, n->next, n->excused};
    pm_digest_bytes(d, flags, sizeof(flags));
    pm_digest_u64(d, (uint64_t)n->start_epoch << 32 | n->start_incarnation);
    pm_digest_u64(d, (uint64_t)n->epoch << 32 | n->incarnation);
    pm_digest_u64(d, n->ready);
    pm_digest_time(d, n->lease_ns > w->now_ns ? n->lease_ns : 0, w->now_ns);
}

static uint64_t hash_core(struct x_core *c, uint64_t now_ns)
{
    if (c->hashed_ns != now_ns)
        c->hash = pm_core_digest(c->core, now_ns);
    c->hashed_ns = now_ns;
    return c->hash;
}

uint64_t x_world_hash(struct x_world *w)
{
    struct pm_digest d = {0};
    uint64_t sum = 0;
    for (uint32_t i = 0; i <= x_nnodes; i++) {
        uint64_t trouble = w->disturbed_ns[i] < X_T_MS / 2 * SIM_MS ? w->disturbed_ns[i] : SIM_S;
        pm_digest_u64(&d, w->cores[i] ? hash_core(w->cores[i], w->now_ns) : 0);
        pm_digest_u64(&d, trouble << 1 | w->paused[i]);
    }
    for (uint32_t i = 0; i < x_nnodes; i++)
        hash_node(&d, w, &w->nodes[i]);
    for (uint32_t i = 0; i < X_LINKS; i++)
        if (w->links[i].used)
            sum += hash_link(w, i);
    for (uint32_t i = 0; i < w->n_items; i++)
        sum += sim_rng_mix(hash_item(w, i));
    pm_digest_u64(&d, sum);
    pm_digest_u64(&d, (uint64_t)w->halted_epoch << 32 | (uint64_t)w->faults << 8 |
                          (uint64_t)w->harmed << 3 | (uint64_t)w->coord_excused << 2 |
                          (uint64_t)w->srun_over << 1 | w->done);
    return sim_rng_mix(d.h);
}
