// SPDX-License-Identifier: Apache-2.0
//
// See collective_net.h.
#include "tests/unit/collective_net.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct pm_options no_options;
static struct net *the_net; // the stand-ins below have no other way to find it

static void *need(void *p)
{
    if (!p)
        abort();
    return p;
}

#define GROW(list, n, cap)                                                                         \
    do {                                                                                           \
        if ((n) == (cap)) {                                                                        \
            (cap) = (cap) ? 2 * (cap) : 16;                                                        \
            (list) = need(realloc((list), (cap) * sizeof(*(list))));                               \
        }                                                                                          \
    } while (0)

static uint32_t index_of(uint32_t node)
{
    return node == PM_NODE_COORDINATOR ? the_net->n : node;
}

struct pm_core *net_core(struct net *net, uint32_t node)
{
    return &net->cores[node == PM_NODE_COORDINATOR ? net->n : node];
}

uint64_t net_random(struct net *net, uint64_t below)
{
    uint64_t z = net->shuffle += 0x9e3779b97f4a7c15u; // splitmix64
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (z ^ (z >> 31)) % below;
}

// --- Stand-ins for membership.c and node.c ------------------------------------------------------

static bool net_send(uint32_t from, uint32_t to, const struct pm_writer *w)
{
    struct net *net = the_net;
    GROW(net->queue, net->n_queue, net->cap_queue);
    struct net_frame *f = &net->queue[net->n_queue++];
    *f = (struct net_frame){.from = from, .to = to, .data = need(malloc(w->len)), .len = w->len};
    memcpy(f->data, w->data, w->len);
    net->sent++;
    return true;
}

bool pm_send_parent(struct pm_core *core, const struct pm_writer *frame)
{
    uint32_t parent = the_net->parent[core->config.node];
    return parent != NET_DETACHED && net_send(core->config.node, parent, frame);
}

bool pm_send_child(struct pm_core *core, uint32_t child, const struct pm_writer *frame)
{
    return the_net->parent[child] == core->config.node && net_send(core->config.node, child, frame);
}

uint32_t pm_next_hop(const struct pm_core *core, uint32_t node)
{
    while (node < the_net->n) {
        uint32_t parent = the_net->parent[node];
        if (parent == core->config.node)
            return node;
        node = parent;
    }
    return UINT32_MAX - 1;
}

const uint32_t *pm_children(const struct pm_core *core, uint32_t *ret_n)
{
    uint32_t i = index_of(core->config.node);
    *ret_n = the_net->n_children[i];
    return the_net->children[i];
}

const struct pm_set *pm_subtree(const struct pm_core *core, uint32_t child)
{
    return the_net->parent[child] == core->config.node ? &the_net->subtree[child] : NULL;
}

const struct pm_set *pm_dead_nodes(const struct pm_core *core)
{
    (void)core;
    return &the_net->dead;
}

char *pm_supervisor_names(const struct pm_core *core, const struct pm_set *nodes, char *buf,
                          size_t cap)
{
    (void)core;
    return pm_set_format(nodes, buf, cap);
}

void pm_node_fence_lost(struct pm_core *core, uint32_t epoch, uint32_t rank)
{
    (void)epoch;
    if (core->world.node_of_rank[rank] != core->config.node)
        abort();
    pm_set_add(&the_net->told, rank);
}

static void add_say(const char *text)
{
    size_t have = the_net->says ? strlen(the_net->says) : 0;
    the_net->says = need(realloc(the_net->says, have + strlen(text) + 2));
    sprintf(the_net->says + have, "%s\n", text);
}

void pm_node_say(struct pm_core *core, bool verbose, const char *text);
void pm_node_say(struct pm_core *core, bool verbose, const char *text)
{
    (void)core;
    (void)verbose;
    add_say(text);
}

// --- The world
// --------------------------------------------------------------------------------------

static uint32_t shape_parent(uint32_t node, uint32_t fanout)
{
    return node < fanout ? PM_NODE_COORDINATOR : node / fanout - 1;
}

static bool is_below(const struct net *net, uint32_t ancestor, uint32_t node)
{
    while (node < net->n && node != ancestor)
        node = net->parent[node];
    return node == ancestor;
}

// Children, and for each node the set of itself and all below.
static void rebuild(struct net *net)
{
    for (uint32_t i = 0; i <= net->n; i++)
        net->n_children[i] = 0;
    for (uint32_t i = 0; i < net->n && !net->is_blind; i++)
        pm_set_clear(&net->subtree[i]);
    for (uint32_t i = 0; i < net->n; i++) {
        if (net->parent[i] != NET_DETACHED) {
            uint32_t p = index_of(net->parent[i]);
            net->children[p] =
                need(realloc(net->children[p], (net->n_children[p] + 1) * sizeof(uint32_t)));
            net->children[p][net->n_children[p]++] = i;
        }
        for (uint32_t up = i; up < net->n && !net->is_blind; up = net->parent[up])
            pm_set_add(&net->subtree[up], i);
    }
}

static void init_core(struct net *net, uint32_t i, struct pm_world *world)
{
    struct pm_core *core = &net->cores[i];
    core->coordinator = i == net->n;
    core->config.node = core->coordinator ? PM_NODE_COORDINATOR : i;
    core->config.options = &no_options;
    core->world = *world;
    core->world_known = true;
    if (pm_collective_new(core) < 0)
        abort();
}

struct net *net_new(uint32_t n, uint32_t per_node, uint32_t fanout)
{
    struct net *net = need(calloc(1, sizeof(*net)));
    the_net = net;
    *net = (struct net){.n = n, .per_node = per_node, .now_ns = 1000 * NET_MS};
    net->cores = need(calloc(n + 1, sizeof(*net->cores)));
    net->parent = need(calloc(n, sizeof(*net->parent)));
    net->subtree = need(calloc(n, sizeof(*net->subtree)));
    net->children = need(calloc(n + 1, sizeof(*net->children)));
    net->n_children = need(calloc(n + 1, sizeof(*net->n_children)));
    struct pm_world world = {.nnodes = n, .nranks = n * per_node, .map_version = 1};
    world.ranks_of_node = need(calloc(n, sizeof(*world.ranks_of_node)));
    world.node_of_rank = need(calloc(world.nranks, sizeof(*world.node_of_rank)));
    for (uint32_t i = 0; i < n; i++) {
        pm_set_add_span(&world.ranks_of_node[i], i * per_node, (i + 1) * per_node - 1);
        for (uint32_t r = 0; r < per_node; r++)
            world.node_of_rank[i * per_node + r] = i;
        net->parent[i] = shape_parent(i, fanout);
    }
    pm_set_add_span(&world.hosts, 0, n - 1);
    rebuild(net);
    for (uint32_t i = 0; i <= n; i++)
        init_core(net, i, &world);
    return net;
}

struct net *net_free(struct net *net)
{
    struct pm_world *world = &net->cores[0].world;
    for (uint32_t i = 0; i <= net->n; i++) {
        pm_collective_free(net->cores[i].collective);
        free(net->children[i]);
    }
    for (uint32_t i = 0; i < net->n; i++) {
        pm_set_done(&world->ranks_of_node[i]);
        pm_set_done(&net->subtree[i]);
    }
    for (size_t i = 0; i < net->n_queue; i++)
        free(net->queue[i].data);
    for (size_t i = 0; i < net->n_done; i++)
        free(net->done[i].data);
    pm_set_done(&world->hosts);
    free(world->ranks_of_node);
    free(world->node_of_rank);
    free(net->cores);
    free(net->parent);
    free(net->subtree);
    free(net->children);
    free(net->n_children);
    free(net->queue);
    free(net->done);
    free(net->fetches);
    free(net->says);
    pm_set_done(&net->dead);
    pm_set_done(&net->told);
    free(net);
    the_net = NULL;
    return NULL;
}

// --- Steps
// --------------------------------------------------------------------------------------------

static void keep_done(struct net *net, uint32_t node, struct pm_action *a)
{
    GROW(net->done, net->n_done, net->cap_done);
    net->done[net->n_done++] = (struct net_done){.type = a->type,
                                                 .node = node,
                                                 .epoch = a->epoch,
                                                 .id = a->id,
                                                 .status = a->status,
                                                 .data = a->data,
                                                 .len = a->len};
    a->data = NULL;
}

static void keep_fetch(struct net *net, uint32_t node, const struct pm_action *a)
{
    GROW(net->fetches, net->n_fetches, net->cap_fetches);
    net->fetches[net->n_fetches++] =
        (struct net_fetch){.node = node, .epoch = a->epoch, .id = a->id, .rank = a->rank};
}

static void act(struct net *net, uint32_t node, struct pm_actions *out)
{
    if (out->error)
        abort();
    for (size_t i = 0; i < out->n; i++) {
        struct pm_action *a = &out->list[i];
        if (a->type == PM_ACTION_FENCE_DONE || a->type == PM_ACTION_MODEX_DONE)
            keep_done(net, node, a);
        else if (a->type == PM_ACTION_FETCH)
            keep_fetch(net, node, a);
        else if (a->type == PM_ACTION_FETCH_CANCEL)
            for (size_t k = 0; k < net->n_fetches; k++)
                net->fetches[k].cancelled |=
                    net->fetches[k].node == node && net->fetches[k].id == a->id;
        else if (a->type == PM_ACTION_SAY)
            add_say(a->text);
        else if (a->type == PM_ACTION_LOG)
            net->n_logs++;
    }
    pm_actions_done(out);
}

// Runs `code` as one step of `node`'s core, with `core` in scope.
#define STEP(net, id, code)                                                                        \
    do {                                                                                           \
        struct pm_actions out = {0};                                                               \
        struct pm_core *core = net_core(net, id);                                                  \
        core->now_ns = (net)->now_ns;                                                              \
        core->out = &out;                                                                          \
        code;                                                                                      \
        core->out = NULL;                                                                          \
        act(net, id, &out);                                                                        \
    } while (0)

void net_event(struct net *net, uint32_t node, struct pm_event *event)
{
    event->now_ns = net->now_ns;
    STEP(net, node, pm_collective_event(core, event));
}

bool net_inject(struct net *net, uint32_t from, uint32_t to, const void *data, size_t len)
{
    struct pm_reader r = pm_reader_of(data, len);
    uint8_t type = pm_read_u8(&r);
    if (to == PM_NODE_COORDINATOR)
        net->root_frames++;
    STEP(net, to, pm_collective_frame(core, 1, from, type, &r));
    net->rejected += r.error != 0;
    return r.error == 0;
}

void net_fence(struct net *net, const struct net_fence *fence)
{
    char text[32];
    snprintf(text, sizeof(text), "%u;", fence->node);
    const char *data = fence->data ? fence->data : (fence->collect ? text : "");
    struct pm_event event = {.type = PM_EVENT_FENCE,
                             .epoch = fence->epoch,
                             .id = fence->id,
                             .set = fence->ranks,
                             .flag_collect = fence->collect,
                             .flag_failed = fence->failed,
                             .timeout_ms = fence->timeout_ms,
                             .data = (const uint8_t *)data,
                             .len = strlen(data)};
    net_event(net, fence->node, &event);
}

void net_modex(struct net *net, uint32_t node, uint64_t id, uint32_t rank, uint64_t timeout_ms)
{
    struct pm_event event = {
        .type = PM_EVENT_MODEX, .id = id, .rank = rank, .timeout_ms = timeout_ms};
    net_event(net, node, &event);
}

void net_fetched(struct net *net, const struct net_fetch *fetch, int32_t status, const char *data)
{
    struct pm_event event = {.type = PM_EVENT_FETCHED,
                             .epoch = fetch->epoch,
                             .id = fetch->id,
                             .status = status,
                             .data = (const uint8_t *)data,
                             .len = strlen(data)};
    net_event(net, fetch->node, &event);
}

void net_rank_lost(struct net *net, uint32_t node, uint32_t rank)
{
    STEP(net, node, pm_collective_rank_lost(core, 0, rank));
}

bool net_step(struct net *net)
{
    if (net->n_queue == 0)
        return false;
    size_t at = net->shuffle ? net_random(net, net->n_queue) : 0;
    for (size_t i = 0; i < at; i++) { // the oldest of that link
        if (net->queue[i].from == net->queue[at].from && net->queue[i].to == net->queue[at].to)
            at = i;
    }
    struct net_frame f = net->queue[at];
    net->n_queue--;
    memmove(&net->queue[at], &net->queue[at + 1], (net->n_queue - at) * sizeof(f));
    net_inject(net, f.from, f.to, f.data, f.len);
    free(f.data);
    return true;
}

void net_run(struct net *net)
{
    while (net_step(net)) {
    }
}

static void fire_timers(struct net *net)
{
    for (uint32_t i = 0; i <= net->n; i++) {
        uint32_t node = net->cores[i].config.node;
        if (pm_collective_deadline_ns(net->cores[i].collective) > net->now_ns)
            continue;
        struct pm_event event = {.type = PM_EVENT_TIMER};
        net_event(net, node, &event);
    }
}

void net_advance(struct net *net, uint64_t ms)
{
    uint64_t end = net->now_ns + ms * NET_MS;
    net_run(net);
    for (;;) {
        uint64_t next = UINT64_MAX;
        for (uint32_t i = 0; i <= net->n; i++) {
            uint64_t d = pm_collective_deadline_ns(net->cores[i].collective);
            next = d < next ? d : next;
        }
        if (next > end)
            break;
        if (next > net->now_ns)
            net->now_ns = next;
        fire_timers(net);
        net_run(net);
    }
    net->now_ns = end;
}

// --- Changes of the tree
// -------------------------------------------------------------------------------

static void drop_frames(struct net *net, uint32_t a, uint32_t b)
{
    size_t kept = 0;
    for (size_t i = 0; i < net->n_queue; i++) {
        struct net_frame *f = &net->queue[i];
        if ((f->from == a && f->to == b) || (f->from == b && f->to == a))
            free(f->data);
        else
            net->queue[kept++] = *f;
    }
    net->n_queue = kept;
}

static void tell_views(struct net *net)
{
    for (uint32_t i = 0; i <= net->n; i++)
        STEP(net, net->cores[i].config.node, pm_collective_on_view(core));
}

void net_move(struct net *net, uint32_t node, uint32_t parent)
{
    uint32_t old = net->parent[node];
    if (parent < net->n && is_below(net, node, parent))
        return;
    net->parent[node] = parent;
    rebuild(net);
    if (old != NET_DETACHED) {
        drop_frames(net, node, old);
        STEP(net, old, pm_collective_on_child_gone(core, node));
    }
    if (parent != NET_DETACHED) {
        STEP(net, parent, pm_collective_on_child(core, node));
        STEP(net, node, pm_collective_on_parent(core));
        tell_views(net);
    }
}

void net_kill(struct net *net, uint32_t node)
{
    uint32_t old = net->parent[node];
    net_move(net, node, NET_DETACHED);
    for (uint32_t i = 0; i < net->n; i++) {
        if (net->parent[i] == node)
            net_move(net, i, old == NET_DETACHED ? PM_NODE_COORDINATOR : old);
    }
    pm_set_add(&net->dead, node);
    tell_views(net);
}

const struct net_done *net_answer(const struct net *net, uint32_t node, uint64_t id)
{
    const struct net_done *found = NULL;
    for (size_t i = 0; i < net->n_done; i++) {
        if (net->done[i].node != node || net->done[i].id != id)
            continue;
        if (found) {
            fprintf(stderr, "node %u id %llu was answered twice\n", node, (unsigned long long)id);
            abort();
        }
        found = &net->done[i];
    }
    return found;
}

uint64_t net_digest(const struct net *net, const struct pm_collective *c)
{
    struct pm_digest d = {0};
    pm_collective_digest(c, net->now_ns, &d);
    return d.h;
}
