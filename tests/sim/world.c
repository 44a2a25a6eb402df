// SPDX-License-Identifier: Apache-2.0
//
// A world: hosts, tasks, processes, and the handle that turns it.
#include <stdarg.h>
#include <string.h>

#include "tests/sim/check.h"
#include "tests/sim/outcome.h"
#include "tests/sim/sim.h"

uint64_t sim_seed_now;

void *sim_alloc(size_t n, size_t size)
{
    void *p = calloc(n ? n : 1, size);
    SIM_ASSERT(p);
    return p;
}

uint32_t sim_slot(const struct sim *s, uint32_t node)
{
    return node == PM_NODE_COORDINATOR ? s->p.nnodes : node;
}

uint32_t sim_node_of(const struct sim *s, uint32_t slot)
{
    return slot == s->p.nnodes ? PM_NODE_COORDINATOR : slot;
}

uint64_t sim_local_ns(const struct sim *s, uint32_t slot)
{
    return sim_clock_local_ns(&s->hosts[slot].clock, s->now_ns);
}

const struct pm_world *sim_world_of(const struct sim *s, uint32_t node)
{
    const struct pm_core *core = s->procs[node].core;
    const struct pm_world *world = core ? pm_core_world(core) : NULL;
    return world && world->map_version ? world : NULL;
}

uint32_t sim_nranks(const struct sim *s, uint32_t slot)
{
    const struct pm_world *world = sim_world_of(s, slot);
    return world ? world->nranks : s->nranks;
}

uint32_t sim_rank_of(const struct sim *s, uint32_t node, uint32_t local)
{
    const struct pm_core *core = s->procs[node].core;
    return core ? pm_core_rank_of(core, local) : PM_RANK_NONE;
}

uint32_t sim_local_of(const struct sim *s, uint32_t node, uint32_t rank)
{
    for (uint32_t i = 0; i < s->nodes[node].n_local; i++)
        if (sim_rank_of(s, node, i) == rank)
            return i;
    return SIM_NONE;
}

enum pm_state sim_state(const struct sim *s)
{
    const struct pm_core *core = s->procs[s->p.nnodes].core;
    return core ? pm_core_state(core) : PM_STATE_DONE;
}

void sim_push(struct sim *s, uint64_t at_ns, enum sim_event_kind kind, uint32_t a, uint32_t b,
              uint64_t stamp)
{
    SIM_ASSERT(at_ns >= s->now_ns);
    sim_heap_push(&s->heap,
                  (struct sim_entry){.at_ns = at_ns, .kind = kind, .a = a, .b = b, .stamp = stamp});
}

void sim_violate(struct sim *s, const char *format, ...)
{
    if (s->violation[0])
        return;
    va_list args;
    va_start(args, format);
    vsnprintf(s->violation, sizeof(s->violation), format, args);
    va_end(args);
    sim_tracef(s, "VIOLATION %s", s->violation);
}

// --- birth and end -----------------------------------------------------------------------------

// Spares offer as many tasks as any other node.
static void make_nodes(struct sim *s, struct sim_rng *r)
{
    uint32_t first_spare = s->p.nnodes - s->p.options.spares;
    s->nodes = sim_alloc(s->p.nnodes, sizeof(*s->nodes));
    s->fences = sim_alloc(s->p.nnodes, sizeof(*s->fences));
    for (uint32_t i = 0; i < s->p.nnodes; i++) {
        struct sim_node *n = &s->nodes[i];
        n->first_task = s->ntasks;
        n->n_local = s->p.uneven && i < first_spare ? 1 + sim_rng_pick(r, s->p.per_node) : s->p.per_node;
        SIM_ASSERT(n->n_local <= 64);
        n->shims = sim_alloc(n->n_local, sizeof(*n->shims));
        n->up = sim_alloc(n->n_local + SIM_SERVERS, sizeof(*n->up));
        n->down = sim_alloc(n->n_local + SIM_SERVERS, sizeof(*n->down));
        n->lease_ns = SIM_NEVER;
        s->ntasks += n->n_local;
        s->nranks += i < first_spare ? n->n_local : 0;
    }
}

static void make_hosts(struct sim *s, struct sim_rng *r)
{
    s->hosts = sim_alloc(s->n, sizeof(*s->hosts));
    s->procs = sim_alloc(s->n, sizeof(*s->procs));
    for (uint32_t i = 0; i < s->n; i++) {
        s->hosts[i].clock = sim_clock_of(r, s->p.skewed);
        s->hosts[i].cut = sim_alloc(s->n / 64 + 1, sizeof(uint64_t));
        s->procs[i].slot = i;
        s->procs[i].timer_ns = SIM_NEVER;
    }
}

struct sim *sim_new(const struct sim_params *p)
{
    struct sim *s = sim_alloc(1, sizeof(*s));
    struct sim_rng r = sim_rng_of(p->seed, 1);
    char list[32];
    sim_seed_now = p->seed;
    s->p = *p;
    s->n = p->nnodes + 1;
    s->heap.ties = sim_rng_of(p->seed, 2);
    s->net = sim_rng_of(p->seed, 3);
    s->local = sim_rng_of(p->seed, 4);
    s->life = sim_rng_of(p->seed, 5);
    s->faults = sim_rng_of(p->seed, 6);
    s->job_state = PM_JOB_RUNNING;
    snprintf(list, sizeof(list), "node[0-%u]", p->nnodes - 1);
    s->nodelist = strdup(list);
    make_hosts(s, &r);
    make_nodes(s, &r);
    s->check = sim_check_new(s);
    s->outcome = sim_outcome_new(s);
    s->srun = (struct sim_srun){.alive = true, .n_tasks = s->ntasks};
    return s;
}

static void free_node(struct sim_node *n)
{
    for (uint32_t i = 0; i < n->n_local + SIM_SERVERS; i++) {
        free(n->up[i].ring);
        free(n->down[i].ring);
    }
    free(n->up);
    free(n->down);
    free(n->shims);
}

void sim_free(struct sim *s)
{
    if (!s)
        return;
    sim_links_done(s);
    for (uint32_t i = 0; i < s->n; i++) {
        pm_core_free(s->procs[i].core);
        free(s->procs[i].links);
        free(s->hosts[i].cut);
    }
    for (uint32_t i = 0; i < s->p.nnodes; i++)
        free_node(&s->nodes[i]);
    sim_faults_done(s);
    sim_check_free(s->check);
    sim_outcome_free(s->outcome);
    pm_set_done(&s->drained);
    pm_set_done(&s->booted);
    sim_heap_done(&s->heap);
    free(s->hosts);
    free(s->procs);
    free(s->nodes);
    free(s->fences);
    free(s->nodelist);
    free(s->posted);
    free(s->late);
    free(s);
}

// slurmctld starts the nodes one after another; some come late.
void sim_launch(struct sim *s)
{
    sim_proc_start(s, s->p.nnodes);
    sim_push(s, s->now_ns + sim_rng_below(&s->local, 20 * SIM_MS), SIM_EVENT_COORD, 0, 0, 0);
    for (uint32_t i = 0; i < s->p.nnodes; i++)
        sim_push(s, s->now_ns + sim_rng_below(&s->local, s->p.stagger_ns + 1), SIM_EVENT_START, i, 0,
                 0);
}

static void start_node(struct sim *s, uint32_t node)
{
    if (s->hosts[node].off || !s->srun.alive || s->srun.killing)
        return;
    for (uint32_t i = 0; i < s->nodes[node].n_local; i++)
        sim_shim_start(s, node, i);
    sim_proc_start(s, node);
}

// --- the handle --------------------------------------------------------------------------------

static void on_timer(struct sim *s, const struct sim_entry *e)
{
    sim_proc_timer(s, e->a, e->stamp);
}
static void on_link(struct sim *s, const struct sim_entry *e)
{
    if (s->links[e->a].stamp == (uint32_t)e->stamp)
        sim_link_due(s, e->a, e->b);
}
static void on_link_end(struct sim *s, const struct sim_entry *e)
{
    if (s->links[e->a].stamp == (uint32_t)e->stamp)
        sim_link_end_due(s, e->a, e->b);
}
static void on_chan_up(struct sim *s, const struct sim_entry *e)
{
    sim_chan_due(s, e->a, e->b, true);
}
static void on_chan_down(struct sim *s, const struct sim_entry *e)
{
    sim_chan_due(s, e->a, e->b, false);
}
static void on_shim(struct sim *s, const struct sim_entry *e)
{
    sim_shim_due(s, e->a, e->b, e->stamp);
}
static void on_rank(struct sim *s, const struct sim_entry *e)
{
    sim_rank_due(s, e->a, e->b, e->stamp);
}
static void on_server(struct sim *s, const struct sim_entry *e)
{
    sim_server_due(s, e->a, e->b, e->stamp);
}
static void on_leave(struct sim *s, const struct sim_entry *e)
{
    sim_agent_leave_due(s, e->a, e->stamp);
}
static void on_start(struct sim *s, const struct sim_entry *e)
{
    start_node(s, e->a);
}
static void on_srun(struct sim *s, const struct sim_entry *e)
{
    sim_srun_due(s, e->a, e->b, e->stamp);
}
static void on_coord(struct sim *s, const struct sim_entry *e)
{
    sim_coord_due(s, e->a);
}
static void on_fault(struct sim *s, const struct sim_entry *e)
{
    sim_fault_do(s, e->a);
}
static void on_heal(struct sim *s, const struct sim_entry *e)
{
    sim_fault_heal(s, e->a);
}

static void on_post(struct sim *s, const struct sim_entry *e)
{
    sim_proc_late(s, e->a, e->b, e->stamp);
}

static void on_lease(struct sim *s, const struct sim_entry *e)
{
    sim_check_lease_due(s, e->a);
}

static void on_health(struct sim *s, const struct sim_entry *e)
{
    sim_health_due(s, e->a, e->stamp);
}

static void (*const handlers[])(struct sim *s, const struct sim_entry *e) = {
    [SIM_EVENT_TIMER] = on_timer,       [SIM_EVENT_LINK] = on_link,
    [SIM_EVENT_LINK_END] = on_link_end, [SIM_EVENT_CHAN_UP] = on_chan_up,
    [SIM_EVENT_CHAN_DOWN] = on_chan_down, [SIM_EVENT_SHIM] = on_shim,
    [SIM_EVENT_RANK] = on_rank,         [SIM_EVENT_SERVER] = on_server,
    [SIM_EVENT_LEAVE] = on_leave,       [SIM_EVENT_START] = on_start,
    [SIM_EVENT_SRUN] = on_srun,         [SIM_EVENT_COORD] = on_coord,
    [SIM_EVENT_FAULT] = on_fault,       [SIM_EVENT_HEAL] = on_heal,
    [SIM_EVENT_POST] = on_post,         [SIM_EVENT_LEASE] = on_lease,
    [SIM_EVENT_HEALTH] = on_health,
};

bool sim_step(struct sim *s)
{
    if (s->heap.n == 0 || s->violation[0])
        return false;
    struct sim_entry e = sim_heap_pop(&s->heap);
    s->now_ns = e.at_ns;
    s->stats.events++;
    handlers[e.kind](s, &e);
    sim_check_event(s);
    return !s->violation[0];
}

void sim_run_to(struct sim *s, uint64_t real_ns)
{
    while (s->heap.n > 0 && s->heap.list[0].at_ns <= real_ns)
        if (!sim_step(s))
            return;
    if (real_ns > s->now_ns)
        s->now_ns = real_ns;
}

bool sim_run_to_state(struct sim *s, enum pm_state state, uint64_t max_ms)
{
    uint64_t until_ns = s->now_ns + max_ms * SIM_MS;
    while (sim_state(s) != state) {
        if (s->heap.n == 0 || s->heap.list[0].at_ns > until_ns || !sim_step(s))
            return false;
    }
    return true;
}

bool sim_run_to_exit(struct sim *s, uint64_t max_ms)
{
    uint64_t until_ns = s->now_ns + max_ms * SIM_MS;
    while (!s->done) {
        if (s->heap.n == 0 || s->heap.list[0].at_ns > until_ns || !sim_step(s))
            return false;
    }
    return true;
}
