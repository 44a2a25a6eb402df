// SPDX-License-Identifier: Apache-2.0
//
// See scale_run.h. Each phase forgets the loads, makes something happen, runs until its end shows, and
// takes the times that the world has noted.
#include "tests/sim/scale_run.h"

#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define LIMIT_MS   60000
#define SETTLE_MS  12 // what is still on its way, and the pauses between two reports
#define LOSS_MS    100000 // a small world doubts itself first

static const char *const names[SCALE_PHASE_MAX] = {
    [SCALE_JOIN] = "join and map spread",  [SCALE_START] = "all ranks run",
    [SCALE_FIRST] = "first fence",         [SCALE_BARRIER] = "barrier",
    [SCALE_DATA] = "fence with data",      [SCALE_DETECT] = "failure to decision",
    [SCALE_DOWN_SWEEP] = "halt sweep down", [SCALE_UP_SWEEP] = "halt sweep up",
    [SCALE_START_SWEEP] = "start sweep",   [SCALE_SWEEPS] = "three sweeps",
    [SCALE_AGAIN] = "started to running",  [SCALE_LOSS] = "node loss to decision",
    [SCALE_REPAIR] = "orphans attached",
};

const char *scale_phase_name(enum scale_phase phase)
{
    return names[phase];
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

uint64_t scale_quantile(const struct scale_sample *s, double q)
{
    if (s->n == 0)
        return 0;
    uint32_t i = (uint32_t)(q * (s->n - 1) + 0.5);
    return s->ns[i];
}

static void most(struct scale_load *of, const struct scale_load *l)
{
    of->frames = l->frames > of->frames ? l->frames : of->frames;
    of->bytes = l->bytes > of->bytes ? l->bytes : of->bytes;
    of->cpu_ns = l->cpu_ns > of->cpu_ns ? l->cpu_ns : of->cpu_ns;
    of->core_ns = l->core_ns > of->core_ns ? l->core_ns : of->core_ns;
    of->largest = l->largest > of->largest ? l->largest : of->largest;
}

static void take(const struct scale *w, struct scale_sample *s, uint64_t ns)
{
    SIM_ASSERT(s->n < SCALE_SAMPLES_MAX);
    s->ns[s->n++] = ns;
    qsort(s->ns, s->n, sizeof(*s->ns), compare);
    s->coordinator = w->procs[w->n - 1].load;
    s->busiest = (struct scale_load){0};
    for (uint32_t i = 0; i + 1 < w->n; i++)
        most(&s->busiest, &w->procs[i].load);
}

static void must(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "pm-sim scale: no end of: %s\n", what);
    exit(1);
}

// --- the step begins ---------------------------------------------------------------------------------

static bool is_starting(const struct scale *w)
{
    return w->state == PM_STATE_STARTING;
}

static bool is_running(const struct scale *w)
{
    return w->state == PM_STATE_RUNNING;
}

static bool has_decided(const struct scale *w)
{
    return w->state != PM_STATE_RUNNING;
}

static void form(struct scale *w, struct scale_result *r)
{
    uint64_t begin_ns = w->now_ns;
    scale_launch(w);
    must(scale_run(w, is_starting, LIMIT_MS), "joining");
    must(scale_run(w, is_running, LIMIT_MS), "the first start");
    take(w, &r->phases[SCALE_JOIN], w->times.map_ns - begin_ns);
    take(w, &r->phases[SCALE_START], w->times.running_ns - begin_ns);
    scale_idle(w, SETTLE_MS);
}

// --- fences ------------------------------------------------------------------------------------------

static bool is_fenced(const struct scale *w)
{
    return w->times.n_fences == w->config.nnodes;
}

static void fence(struct scale *w, struct scale_sample *s, bool collect)
{
    scale_idle(w, SETTLE_MS);
    scale_forget_loads(w);
    uint64_t begin_ns = w->now_ns;
    scale_fence(w, begin_ns, collect);
    must(scale_run(w, is_fenced, LIMIT_MS), "a fence");
    take(w, s, w->times.fence_ns - begin_ns);
}

// --- restarts ----------------------------------------------------------------------------------------

static void restart(struct scale *w, struct scale_result *r)
{
    scale_idle(w, SETTLE_MS);
    scale_forget_loads(w);
    uint64_t begin_ns = w->now_ns;
    w->times.term_ns = w->times.start_ns = 0;
    scale_rank_dies(w, w->config.nnodes - 1, 0, 9);
    must(scale_run(w, has_decided, LIMIT_MS), "a decision");
    struct scale_sample *s = r->phases;
    take(w, &s[SCALE_DETECT], w->times.decided_ns - begin_ns);
    must(scale_run(w, is_running, LIMIT_MS), "a restart");
    const struct scale_times *t = &w->times;
    take(w, &s[SCALE_DOWN_SWEEP], t->term_ns > t->decided_ns ? t->term_ns - t->decided_ns : 0);
    take(w, &s[SCALE_UP_SWEEP], t->starting_ns - (t->term_ns ? t->term_ns : t->decided_ns));
    take(w, &s[SCALE_START_SWEEP], t->start_ns - t->starting_ns);
    take(w, &s[SCALE_SWEEPS], t->start_ns - t->decided_ns);
    take(w, &s[SCALE_AGAIN], t->running_ns - t->start_ns);
}

// --- the loss of a node ------------------------------------------------------------------------------

static void lose_node(struct scale *w, struct scale_result *r)
{
    scale_idle(w, SETTLE_MS);
    scale_forget_loads(w);
    uint64_t begin_ns = w->now_ns;
    uint32_t orphans = w->procs[0].n_ends ? w->procs[0].n_ends - 1 : 0;
    w->times.n_attached = 0;
    w->times.attached_ns = 0;
    r->orphans = orphans;
    scale_host_dies(w, 0);
    must(scale_run(w, has_decided, LOSS_MS), "the decision on a lost node");
    take(w, &r->phases[SCALE_LOSS], w->times.decided_ns - begin_ns);
    if (w->times.attached_ns > begin_ns)
        take(w, &r->phases[SCALE_REPAIR], w->times.attached_ns - begin_ns);
}

// --- memory ------------------------------------------------------------------------------------------

static void measure_memory(const struct scale *w, struct scale_result *r)
{
    uint32_t nnodes = w->config.nnodes, most = nnodes - nnodes / 2; // these have no children
    uint32_t n = most < SCALE_COPIES_MAX ? most : SCALE_COPIES_MAX;
    r->core_mean = scale_core_bytes(w, nnodes / 2, n, most / n);
    r->core_most = scale_core_bytes(w, 0, 1, 1);
    r->core_coordinator = scale_core_bytes(w, nnodes, 1, 1);
    const struct pm_world *world = pm_core_world(w->procs[0].core);
    r->world_bytes = world->nranks * sizeof(*world->node_of_rank) +
                     world->nnodes * sizeof(*world->ranks_of_node);
    for (uint32_t i = 0; i < world->nnodes; i++)
        r->world_bytes += world->ranks_of_node[i].n * sizeof(struct pm_span);
}

static uint32_t depth_of(const struct scale_config *c)
{
    uint32_t depth = 0;
    for (uint64_t reached = 0, level = c->fanout; reached < c->nnodes; level *= c->fanout, depth++)
        reached += level;
    return depth;
}

// --- the whole ---------------------------------------------------------------------------------------

static double seconds(struct timeval t)
{
    return (double)t.tv_sec + (double)t.tv_usec / 1e6;
}

static void measure(const struct scale_config *config, const struct scale_plan *plan,
                    struct scale_result *ret)
{
    struct scale *w = scale_new(config);
    form(w, ret);
    fence(w, &ret->phases[SCALE_FIRST], false);
    for (uint32_t i = 0; i < plan->barriers; i++)
        fence(w, &ret->phases[SCALE_BARRIER], false);
    for (uint32_t i = 0; i < plan->data_fences; i++)
        fence(w, &ret->phases[SCALE_DATA], true);
    measure_memory(w, ret);
    for (uint32_t i = 0; i < plan->restarts; i++)
        restart(w, ret);
    if (plan->loss)
        lose_node(w, ret);
    ret->events = w->events;
    ret->frames = w->frames;
    ret->sealed = w->sealed;
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    ret->rss_mib = usage.ru_maxrss / 1024;
    ret->cpu_s = seconds(usage.ru_utime) + seconds(usage.ru_stime);
    scale_free(w);
}

static void add(struct scale_result *all, const struct scale_result *restarts)
{
    for (int i = SCALE_DETECT; i <= SCALE_AGAIN; i++)
        all->phases[i] = restarts->phases[i];
    all->events += restarts->events;
    all->frames += restarts->frames;
    all->sealed += restarts->sealed;
    all->rss_mib += restarts->rss_mib;
    all->cpu_s = restarts->cpu_s > all->cpu_s ? restarts->cpu_s : all->cpu_s;
}

struct scale_result *scale_measure(const struct scale_config *config, const struct scale_plan *plan)
{
    struct scale_result *r = mmap(NULL, 2 * sizeof(*r), PROT_READ | PROT_WRITE,
                                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    SIM_ASSERT(r != MAP_FAILED);
    struct scale_plan rest = *plan;
    const struct scale_plan restarts = {.restarts = plan->restarts};
    rest.restarts = 0;
    r->depth = depth_of(config);
    r->payload = (uint64_t)config->nnodes * config->per_node * config->fence_bytes;
    pid_t pid = plan->restarts ? fork() : 0;
    SIM_ASSERT(pid >= 0);
    if (pid == 0 && plan->restarts) {
        measure(config, &restarts, &r[1]);
        _exit(0);
    }
    measure(config, &rest, r);
    int status = 0;
    if (pid > 0 && (waitpid(pid, &status, 0) < 0 || status != 0)) {
        fprintf(stderr, "pm-sim scale: the process that measures restarts has failed\n");
        return NULL;
    }
    if (pid > 0)
        add(r, &r[1]);
    return r;
}
