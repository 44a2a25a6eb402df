// SPDX-License-Identifier: Apache-2.0
//
// Processes, local sockets and time of scale mode; see scale.h.
#include <malloc.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

#include "tests/sim/scale.h"

#define MOVED_NODES 500
#define MEAN_BEGUN  16u
#define MEAN_KNOWN  64u
#define FIRST_MOST_NS (200 * SIM_US)
#define MEASURED_ONE_IN 8u
#define OUTLIER     4.0
#define LARGE_BLOCK (1u << 20)
#define SHARED_FROM 4096u // nodes; then one in SHARE contributes for SHARE of them
#define SHARE       16u

// --- queue -------------------------------------------------------------------------------------------

uint32_t scale_item_new(struct scale *w)
{
    if (w->free_item) {
        uint32_t i = w->free_item - 1;
        w->free_item = w->items[i].next_free;
        w->items[i] = (struct scale_item){0};
        return i;
    }
    if (w->n_items == w->cap_items) {
        w->cap_items = w->cap_items ? 2 * w->cap_items : 1u << 16;
        w->items = reallocarray(w->items, w->cap_items, sizeof(*w->items));
        SIM_ASSERT(w->items);
    }
    w->items[w->n_items] = (struct scale_item){0};
    return w->n_items++;
}

static void item_free(struct scale *w, uint32_t kind, uint32_t i)
{
    struct scale_frame *frame = kind == SCALE_FRAME ? w->items[i].frame : NULL;
    if (frame && --frame->refs == 0)
        free(frame);
    w->items[i].next_free = w->free_item;
    w->free_item = i + 1;
}

void scale_push(struct scale *w, uint64_t at_ns, uint32_t kind, uint32_t proc, uint32_t item)
{
    scale_queue_push(&w->queue, (struct sim_entry){.at_ns = at_ns, .kind = kind, .a = proc, .b = item,
                                                   .stamp = at_ns});
}

uint32_t scale_node(const struct scale *w, uint32_t proc)
{
    return proc == w->config.nnodes ? PM_NODE_COORDINATOR : proc;
}

uint64_t scale_busy(struct scale *w, uint32_t proc, uint64_t at_ns, uint64_t cost_ns)
{
    struct scale_proc *p = &w->procs[proc];
    p->busy_ns = (at_ns > p->busy_ns ? at_ns : p->busy_ns) + cost_ns;
    p->load.cpu_ns += cost_ns;
    scale_latest(&w->now_ns, p->busy_ns);
    return p->busy_ns;
}

// --- steps -------------------------------------------------------------------------------------------

static uint64_t cpu_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (uint64_t)ts.tv_sec * SIM_S + (uint64_t)ts.tv_nsec;
}

// Steps of the same kind on the same level of the tree cost about the same.
static struct scale_mean *mean_of(struct scale *w, uint32_t proc, const struct pm_event *event)
{
    uint32_t kind = event->type;
    uint32_t level = proc == w->config.nnodes ? 0 : w->procs[proc].level;
    if (event->type == PM_EVENT_FRAME)
        kind = PM_EVENT_MAX + event->data[0] % SCALE_FRAME_TYPES;
    return &w->means[level][kind];
}

// The clock costs as much as a small step: when an agent's mean is known well, one step in some is
// measured.
static bool is_measured(const struct scale *w, uint32_t proc, struct scale_mean *mean)
{
    if (w->config.core_ns)
        return false;
    return proc == w->config.nnodes || mean->n < MEAN_KNOWN || mean->seen++ % MEASURED_ONE_IN == 0;
}

// All cores share one heap and one cache here, and now and then a step pays for what others left behind:
// an agent is charged at most a few times what such a step takes on the mean. The coordinator pays all.
static uint64_t charge(const struct scale *w, uint32_t proc, struct scale_mean *mean, uint64_t took_ns)
{
    if (w->config.core_ns)
        return w->config.core_ns;
    if (took_ns == 0)
        return (uint64_t)mean->ns;
    uint64_t most_ns = mean->n < MEAN_BEGUN ? FIRST_MOST_NS : (uint64_t)(OUTLIER * mean->ns);
    if (proc < w->config.nnodes && took_ns > most_ns)
        took_ns = most_ns;
    uint32_t n = mean->n < 1024 ? ++mean->n : mean->n;
    mean->ns += ((double)took_ns - mean->ns) / n;
    return took_ns;
}

static void arm(struct scale *w, uint32_t proc)
{
    struct scale_proc *p = &w->procs[proc];
    uint64_t due = pm_core_deadline_ns(p->core);
    due = due > p->busy_ns ? due : p->busy_ns;
    if (due == p->timer_ns)
        return;
    p->timer_ns = due;
    if (due != SIM_NEVER)
        scale_push(w, due, SCALE_TIMER, proc, 0);
}

// What a step changed that phases wait for.
static void look(struct scale *w, uint32_t proc, bool knew_map)
{
    const struct pm_core *core = w->procs[proc].core;
    if (proc < w->config.nnodes) {
        if (!knew_map && pm_core_world(core)->nnodes)
            scale_latest(&w->times.map_ns, w->procs[proc].busy_ns);
        return;
    }
    enum pm_state state = pm_core_state(core);
    if (state == w->state)
        return;
    uint64_t now_ns = w->procs[proc].busy_ns;
    if (w->state == PM_STATE_RUNNING)
        w->times.decided_ns = now_ns;
    if (state == PM_STATE_STARTING)
        w->times.starting_ns = now_ns;
    if (state == PM_STATE_RUNNING)
        w->times.running_ns = now_ns;
    w->state = state;
}

static void act_all(struct scale *w, uint32_t proc, const struct pm_actions *actions)
{
    for (size_t i = 0; i < actions->n; i++) {
        const struct pm_action *a = &actions->list[i];
        if (a->type == PM_ACTION_SEND)
            scale_net_send(w, proc, a, i > 0 && a[-1].type == PM_ACTION_SEND);
        else
            scale_act(w, proc, a);
    }
}

void scale_step(struct scale *w, uint32_t proc, uint64_t at_ns, uint64_t cost_ns, struct pm_event *event)
{
    static struct pm_actions actions; // keeps its memory
    struct scale_proc *p = &w->procs[proc];
    event->now_ns = scale_busy(w, proc, at_ns, cost_ns);
    bool knew_map = pm_core_world(p->core)->nnodes > 0;
    struct scale_mean *mean = mean_of(w, proc, event);
    bool look_at_it = is_measured(w, proc, mean);
    uint64_t before_ns = look_at_it ? cpu_ns() : 0;
    int r = pm_core_step(p->core, event, &actions);
    SIM_ASSERT(r == 0);
    uint64_t took_ns = charge(w, proc, mean, look_at_it ? cpu_ns() - before_ns : 0);
    p->load.core_ns += took_ns;
    scale_busy(w, proc, 0, took_ns);
    w->events++;
    look(w, proc, knew_map);
    act_all(w, proc, &actions);
    pm_actions_clear(&actions);
    arm(w, proc);
}

static void local_arrives(struct scale *w, uint32_t node, const struct scale_fact *f, uint64_t at_ns)
{
    const struct scale_costs *c = &w->config.costs;
    struct pm_event event = {.type = (enum pm_event_type)f->type, .local = f->local, .rank = f->rank,
                             .epoch = f->epoch, .incarnation = f->incarnation, .pid = f->pid,
                             .wait_status = f->status, .port = f->port, .job_state = f->job_state,
                             .id = f->id, .flag_collect = f->collect};
    struct pm_span span = {0, w->config.nnodes * w->config.per_node - 1};
    const struct pm_set all = {.spans = &span, .n = 1, .cap = 1};
    const uint8_t byte = 1; // stands for w->unit of them
    if (event.type == PM_EVENT_FENCE) {
        event.set = &all;
        event.len = event.flag_collect && node % w->share == 0;
        event.data = event.len ? &byte : NULL;
    }
    if (at_ns > w->procs[node].busy_ns)
        at_ns += (uint64_t)c->local_wake_ns;
    scale_step(w, node, at_ns, (uint64_t)c->local_recv_ns, &event);
}

static void timer(struct scale *w, uint32_t proc, const struct sim_entry *entry)
{
    struct scale_proc *p = &w->procs[proc];
    if (p->timer_ns != entry->stamp)
        return;
    p->timer_ns = SIM_NEVER;
    struct pm_event event = {.type = PM_EVENT_TIMER};
    scale_step(w, proc, entry->at_ns, 0, &event);
}

static void one(struct scale *w, const struct sim_entry *e)
{
    struct scale_proc *p = &w->procs[e->a];
    scale_latest(&w->now_ns, e->at_ns);
    if (e->kind == SCALE_TIMER) {
        if (p->core && !p->off)
            timer(w, e->a, e);
        return;
    }
    if (e->kind == SCALE_LOCAL || e->kind == SCALE_SHIM) {
        struct scale_fact fact = w->items[e->b].fact; // a copy: the list may move
        if (!p->off && e->kind == SCALE_LOCAL)
            local_arrives(w, e->a, &fact, e->at_ns);
        else if (!p->off)
            scale_shim_reads(w, e->a, fact, e->at_ns);
    } else if (!p->off) {
        scale_net_arrives(w, e->a, e->kind, e->b, e->at_ns);
    }
    item_free(w, e->kind, e->b);
}

static bool window(struct scale *w, uint64_t until_ns)
{
    struct sim_entry e;
    if (!scale_queue_begin(&w->queue, until_ns))
        return false;
    while (scale_queue_next(&w->queue, &e))
        one(w, &e);
    return true;
}

bool scale_run(struct scale *w, bool (*pred)(const struct scale *w), uint64_t limit_ms)
{
    uint64_t until_ns = w->now_ns + limit_ms * SIM_MS;
    while (!pred(w) && window(w, until_ns))
        ;
    return pred(w);
}

void scale_idle(struct scale *w, uint64_t ms)
{
    uint64_t until_ns = w->now_ns + ms * SIM_MS;
    while (window(w, until_ns))
        ;
    scale_latest(&w->now_ns, until_ns);
}

// --- life --------------------------------------------------------------------------------------------

static void options_of(const struct scale_config *c, struct pm_options *o)
{
    *o = (struct pm_options){
        .mode = PM_MODE_WORLD,
        .max_restarts = 1000, // the default 3 would end long series
        .grace_ms = 5000,
        .node_timeout_ms = 10000,
        .orphan_timeout_ms = 60000,
        .start_timeout_ms = 120000,
        .join_window_ms = 15000,
        .fanout = c->fanout,
    };
}

// Which block of ranks each node has: its own, but for 500 that stand in for each other.
static uint32_t *blocks_of(const struct scale_config *c)
{
    uint32_t *blocks = calloc(c->nnodes, sizeof(*blocks));
    SIM_ASSERT(blocks);
    for (uint32_t i = 0; i < c->nnodes; i++)
        blocks[i] = i;
    struct sim_rng r = sim_rng_of(c->seed, 2);
    for (uint32_t i = 0; c->map == SCALE_MOVED && i < MOVED_NODES / 2; i++) {
        uint32_t a = sim_rng_pick(&r, c->nnodes), b = sim_rng_pick(&r, c->nnodes);
        uint32_t block = blocks[a];
        blocks[a] = blocks[b];
        blocks[b] = block;
    }
    return blocks;
}

// In bytes that stand for `unit` each; 0: more than a piece from each.
static uint32_t fence_piece(const struct scale *w)
{
    return w->unit ? PM_FENCE_PIECE / w->unit : 0;
}

static void agent_new(struct scale *w, uint32_t node, uint32_t block)
{
    const struct scale_config *c = &w->config;
    char addresses[32], nodelist[32];
    uint32_t ranks[64];
    SIM_ASSERT(c->per_node <= 64);
    for (uint32_t i = 0; i < c->per_node; i++)
        ranks[i] = c->map == SCALE_CYCLIC ? node + i * c->nnodes : block * c->per_node + i;
    snprintf(addresses, sizeof(addresses), "10.%u.%u.%u:40123", node >> 16, node >> 8 & 255, node & 255);
    snprintf(nodelist, sizeof(nodelist), "node[000000-%06u]", c->nnodes - 1);
    struct pm_core_config config = {.node = node, .launch = 1, .nnodes = c->nnodes,
                                    .ntasks = c->nnodes * c->per_node, .n_local = c->per_node,
                                    .local_ranks = ranks, .addresses = addresses,
                                    .nodelist = nodelist, .options = &w->options,
                                    .fence_piece = fence_piece(w)};
    SIM_ASSERT(pm_core_new(&config, w->now_ns, &w->procs[node].core) == 0);
    w->procs[node].busy_ns = w->now_ns;
    for (uint32_t n = node; n >= c->fanout; n = n / c->fanout - 1)
        w->procs[node].level++;
    arm(w, node);
}

struct scale *scale_new(const struct scale_config *config)
{
    struct scale *w = calloc(1, sizeof(*w));
    SIM_ASSERT(w && config->nnodes > 0);
    mallopt(M_MMAP_THRESHOLD, 32 << 20);
    mallopt(M_TRIM_THRESHOLD, INT32_MAX); // giving memory back is no cost of a core
    mallopt(M_TOP_PAD, 64 << 20);
    mallopt(M_MXFAST, 0); // nor is tidying up after all the others
    w->config = *config;
    w->n = config->nnodes + 1;
    w->share = config->nnodes < SHARED_FROM ? 1 : SHARE;
    w->unit = config->fence_bytes * config->per_node * w->share;
    w->now_ns = SIM_S;
    w->net = sim_rng_of(config->seed, 1);
    uint64_t hop_ns = config->latency.hop_ns, slow_ns = config->latency.slow_ns;
    scale_queue_init(&w->queue, slow_ns < hop_ns ? slow_ns : hop_ns, sim_rng_of(config->seed, 3));
    w->procs = calloc(w->n, sizeof(*w->procs));
    w->ranks = calloc((size_t)config->nnodes * config->per_node, sizeof(*w->ranks));
    w->cipher = scale_cipher_new();
    SIM_ASSERT(w->procs && w->ranks);
    for (uint32_t i = 0; i < w->n; i++)
        w->procs[i] = (struct scale_proc){.timer_ns = SIM_NEVER, .level = 1};
    options_of(config, &w->options);
    struct pm_core_config c = {.node = PM_NODE_COORDINATOR, .launch = 1, .options = &w->options};
    c.fence_piece = fence_piece(w);
    SIM_ASSERT(pm_core_new(&c, w->now_ns, &w->procs[config->nnodes].core) == 0);
    return w;
}

void scale_launch(struct scale *w)
{
    const struct scale_config *c = &w->config;
    struct pm_event launched = {.type = PM_EVENT_LAUNCHED, .job = 7, .nnodes = c->nnodes,
                                .ntasks = c->nnodes * c->per_node};
    uint64_t start_ns = w->now_ns;
    scale_step(w, c->nnodes, start_ns, 0, &launched);
    uint32_t *blocks = blocks_of(c);
    for (uint32_t node = 0; node < c->nnodes; node++) {
        w->now_ns = start_ns;
        agent_new(w, node, blocks[node]);
        scale_post(w, node, start_ns, (struct scale_fact){.type = PM_EVENT_PORT, .port = 20000});
        for (uint32_t i = 0; i < c->per_node; i++)
            scale_post(w, node, start_ns,
                 (struct scale_fact){.type = PM_EVENT_SHIM_JOINED, .local = (uint8_t)i, .pid = ++w->next_pid});
    }
    free(blocks);
}

void scale_free(struct scale *w)
{
    struct sim_entry e;
    while (scale_queue_begin(&w->queue, UINT64_MAX))
        while (scale_queue_next(&w->queue, &e))
            if (e.kind != SCALE_TIMER)
                item_free(w, e.kind, e.b);
    for (uint32_t i = 0; i < w->n; i++) {
        pm_core_free(w->procs[i].core);
        free(w->procs[i].ends);
    }
    scale_queue_done(&w->queue);
    scale_cipher_free(w->cipher);
    free(w->procs);
    free(w->ranks);
    free(w->wires);
    free(w->items);
    free(w);
}

// What was freed is sorted when a large block is asked for, some thousand blocks at a time; here, so that
// no step pays for it.
static void tidy_heap(void)
{
    for (int i = 0; i < 1000; i++) {
        void *volatile block = malloc(LARGE_BLOCK);
        free(block);
    }
}

void scale_forget_loads(struct scale *w)
{
    tidy_heap();
    for (uint32_t i = 0; i < w->n; i++)
        w->procs[i].load = (struct scale_load){0};
    // The same kind of step may do something else now: what is new soon outweighs what was.
    for (int level = 0; level < SCALE_LEVELS; level++)
        for (int kind = 0; kind < PM_EVENT_MAX + SCALE_FRAME_TYPES; kind++)
            if (w->means[level][kind].n > MEAN_BEGUN)
                w->means[level][kind].n = MEAN_BEGUN;
}

void scale_fence(struct scale *w, uint64_t at_ns, bool collect)
{
    w->times.n_fences = 0;
    w->times.fence_ns = 0;
    w->fence_id++;
    for (uint32_t node = 0; node < w->config.nnodes; node++)
        scale_post(w, node, at_ns,
             (struct scale_fact){.type = PM_EVENT_FENCE, .epoch = pm_core_epoch(w->procs[w->n - 1].core),
                                 .id = w->fence_id, .collect = collect});
}

void scale_host_dies(struct scale *w, uint32_t node)
{
    w->procs[node].off = true;
}

struct copies {
    const struct scale *w;
    uint32_t first, n, step;
    uint64_t bytes; // of all of them
};

static void *copy(void *arg)
{
    struct copies *c = arg;
    struct pm_core *cores[SCALE_COPIES_MAX];
    void *volatile first = malloc(1); // makes what a thread needs for itself
    const struct mallinfo2 before = mallinfo2();
    for (uint32_t i = 0; i < c->n; i++) {
        cores[i] = pm_core_clone(c->w->procs[c->first + i * c->step].core);
        SIM_ASSERT(cores[i]);
    }
    const struct mallinfo2 after = mallinfo2();
    for (uint32_t i = 0; i < c->n; i++)
        pm_core_free(cores[i]);
    free(first);
    c->bytes = after.uordblks + after.hblkhd - before.uordblks - before.hblkhd;
    return NULL;
}

// In a thread: what another one keeps at hand counts as used already, and a new one has nothing at hand.
// mallinfo2() looks at all that is free, so it is asked once for many.
uint64_t scale_core_bytes(const struct scale *w, uint32_t first, uint32_t n, uint32_t step)
{
    pthread_t thread;
    struct copies c = {.w = w, .first = first, .n = n, .step = step};
    SIM_ASSERT(n > 0 && n <= SCALE_COPIES_MAX);
    SIM_ASSERT(pthread_create(&thread, NULL, copy, &c) == 0 && pthread_join(thread, NULL) == 0);
    return c.bytes / n;
}
