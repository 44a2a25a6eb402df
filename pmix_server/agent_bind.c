// SPDX-License-Identifier: Apache-2.0
//
// Which of this node's ranks runs where: decided when the world is known, and again only when other ranks come
// here, so that every restart finds its place. See agent_bind.h.
//
// What may be used: the step's cpuset, which is what this agent may use (its shim has widened its affinity).
// Where no cpuset confines the step, what task/affinity gave its tasks; and where that does not either, the
// whole node, if the step owns it.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pmix_server/agent_bind.h"

// --- what may be used ------------------------------------------------------------------------------------

static int refuse(struct pm_agent_bind *b, const char *why)
{
    snprintf(b->why, sizeof(b->why), "%s", why);
    return -EINVAL;
}

// Nothing is wrong, and nothing is to be done.
static int leave(struct pm_agent_bind *b, const char *why)
{
    (void)refuse(b, why);
    return -ECANCELED;
}

static const struct pm_facts *facts_of(const struct agent *a, const struct pm_bind_case *c, uint32_t k)
{
    return a->shims[c->locals[k]].facts;
}

static int add_masks(const struct agent *a, struct pm_bind_case *c)
{
    int rc = 0;
    for (uint32_t k = 0; k < c->n && rc == 0; k++) {
        const struct pm_facts *f = facts_of(a, c, k);
        rc = f ? pm_set_union(&c->allowed, &f->cpus) : -ENOMEM;
    }
    return rc;
}

// Does the step own fewer CPUs than nobody keeps it from using?
static bool shares_node(const struct agent *a, const struct pm_bind_case *c)
{
    const char *own = pm_facts_find(facts_of(a, c, 0), "SLURM_CPUS_ON_NODE");
    return pm_set_covers(&c->allowed, &a->bind->picture.machine.pus) && own &&
           strtoul(own, NULL, 10) < pm_set_count(&c->allowed);
}

static int find_allowed(struct agent *a, struct pm_bind_case *c)
{
    struct pm_agent_bind *b = a->bind;
    const struct pm_picture *p = &b->picture;
    bool confined = !pm_set_covers(&p->affinity, &p->machine.pus);
    if (confined && !b->options.keep_cpus)
        return pm_set_copy(&c->allowed, &p->affinity);
    int rc = add_masks(a, c);
    if (rc == 0 && !b->options.keep_cpus && shares_node(a, c))
        rc = leave(b, "nothing confines the step to its CPUs, and it does not own all of the node's");
    return rc;
}

// --- which GPUs --------------------------------------------------------------------------------------------

// MIG devices were looked for by the agent, whose task may open other ones than the k-th.
static struct pm_granted_sources sources_of(const struct agent *a, const struct pm_bind_case *c, uint32_t k)
{
    const struct pm_picture *p = &a->bind->picture;
    const struct pm_facts *f = facts_of(a, c, k);
    bool as_agent = pm_set_equal(&c->admitted[k], &p->admitted);
    struct pm_granted_sources s = {.step_gpus = pm_facts_find(f, "SLURM_STEP_GPUS"), .admitted = &c->admitted[k],
                                   .migs = as_agent ? p->migs : NULL, .n_migs = as_agent ? p->n_migs : 0};
    for (unsigned v = 0; v < PM_GPU_VENDORS; v++)
        s.visible[v] = pm_facts_find(f, pm_granted_variable(v));
    return s;
}

static bool same_text(const char *a, const char *b) { return a && b ? !strcmp(a, b) : a == b; }

// --gpu-bind, or what implies one: --gpus-per-task, --ntasks-per-gpu.
static bool slurm_binds_gpus(const struct agent *a, const struct pm_bind_case *c)
{
    const char *bind = pm_facts_find(facts_of(a, c, 0), "SLURMD_TRES_BIND");
    return bind && strstr(bind, "gpu:");
}

// Slurm gave each task its own, which may be called the same, or they are the user's: no GPUs of the step.
static bool gpus_are_given(const struct agent *a, const struct pm_bind_case *c)
{
    struct pm_granted_sources first = sources_of(a, c, 0);
    bool given = !first.step_gpus || slurm_binds_gpus(a, c);
    for (uint32_t k = 1; k < c->n; k++) {
        struct pm_granted_sources s = sources_of(a, c, k);
        given |= !same_text(s.step_gpus, first.step_gpus) || !pm_set_equal(s.admitted, first.admitted);
        for (unsigned v = 0; v < PM_GPU_VENDORS; v++)
            given |= !same_text(s.visible[v], first.visible[v]);
    }
    return given;
}

// Position of a GPU among those of all tasks, which it is added to.
static int position_of(struct pm_granted *all, const struct pm_granted_gpu *gpu, uint32_t *ret)
{
    for (*ret = 0; *ret < all->n; ++*ret)
        if (all->gpus[*ret].gpu == gpu->gpu && !strcmp(all->gpus[*ret].token, gpu->token))
            return 0;
    struct pm_granted_gpu *longer = realloc(all->gpus, (all->n + 1) * sizeof(*longer));
    if (!longer)
        return -ENOMEM;
    all->gpus = longer;
    longer[all->n++] = *gpu;
    return 0;
}

// A user's own list may name what is not there: then it says nothing about where the rank should run.
static int take_given(struct agent *a, struct pm_bind_case *c, uint32_t k)
{
    struct pm_agent_bind *b = a->bind;
    struct pm_granted_sources sources = sources_of(a, c, k);
    struct pm_granted own = {0};
    char error[PM_ERROR_CAP];
    int rc = pm_granted_read(&b->picture.machine, &sources, &own, error);
    if (rc == -EINVAL)
        return sources.step_gpus ? refuse(b, error) : 0;
    uint32_t *positions = rc == 0 ? calloc(own.n + 1, sizeof(*positions)) : NULL;
    if (rc == 0 && !positions)
        rc = -ENOMEM;
    c->given[k].gpus = positions;
    for (; rc == 0 && c->given[k].n_gpus < own.n; c->given[k].n_gpus++)
        rc = position_of(&c->granted, &own.gpus[c->given[k].n_gpus], &positions[c->given[k].n_gpus]);
    pm_granted_done(&own);
    return rc;
}

// Nobody has any: then none is given, and the CPUs alone are dealt.
static void forget_empty(struct pm_bind_case *c)
{
    for (uint32_t k = 0; k < c->n && c->granted.n == 0; k++) {
        free((void *)c->given[k].gpus);
        c->given[k].gpus = NULL;
    }
}

static int find_admitted(const struct agent *a, struct pm_bind_case *c)
{
    const struct pm_picture *p = &a->bind->picture;
    int rc = 0;
    c->admitted = calloc(c->n + 1u, sizeof(*c->admitted));
    for (uint32_t k = 0; c->admitted && k < c->n && rc == 0; k++)
        rc = pm_facts_admitted(facts_of(a, c, k), &p->machine, &p->admitted, &c->admitted[k]);
    return c->admitted ? rc : -ENOMEM;
}

static int find_gpus(struct agent *a, struct pm_bind_case *c)
{
    struct pm_agent_bind *b = a->bind;
    char error[PM_ERROR_CAP];
    int rc = find_admitted(a, c);
    if (rc < 0)
        return rc;
    c->keeps_gpus = gpus_are_given(a, c);
    for (uint32_t k = 0; k < c->n && rc == 0 && c->keeps_gpus; k++)
        rc = take_given(a, c, k);
    forget_empty(c);
    if (!c->keeps_gpus) {
        struct pm_granted_sources sources = sources_of(a, c, 0);
        rc = pm_granted_read(&b->picture.machine, &sources, &c->granted, error);
        if (rc == -EINVAL)
            (void)refuse(b, error);
    }
    c->gpus = rc == 0 ? calloc(c->granted.n + 1, sizeof(*c->gpus)) : NULL;
    for (uint32_t i = 0; c->gpus && i < c->granted.n; i++)
        c->gpus[i] = c->granted.gpus[i].gpu;
    return rc < 0 || c->gpus ? rc : -ENOMEM;
}

// --- the map -------------------------------------------------------------------------------------------------

static void case_done(struct pm_bind_case *c)
{
    for (uint32_t k = 0; c->given && k < c->n; k++)
        free((void *)c->given[k].gpus);
    for (uint32_t k = 0; c->admitted && k < c->n; k++)
        pm_set_done(&c->admitted[k]);
    free(c->admitted);
    free(c->given);
    free(c->locals);
    free(c->gpus);
    pm_set_done(&c->allowed);
    pm_granted_done(&c->granted);
    pm_binding_done(&c->binding);
}

// Tasks that have ranks, in the order of their ranks.
static int find_ranks(const struct agent *a, struct pm_bind_case *c)
{
    c->locals = calloc(a->config.n_local + 1u, sizeof(*c->locals));
    for (uint32_t i = 0; c->locals && i < a->config.n_local; i++) {
        uint32_t rank = pm_core_rank_of(a->core, i), at = c->n;
        if (rank == PM_RANK_NONE)
            continue;
        for (; at > 0 && pm_core_rank_of(a->core, c->locals[at - 1]) > rank; at--)
            c->locals[at] = c->locals[at - 1];
        c->locals[at] = i;
        c->n++;
    }
    c->given = c->locals ? calloc(c->n + 1u, sizeof(*c->given)) : NULL;
    return c->given ? 0 : -ENOMEM;
}

// What --pm-bind says, else --cpus-per-task. A batch job exports its own, which a smaller step cannot give each rank
// (srun ignores it from 22.05 on): then equal shares are the most that there is.
static uint32_t cpus_per_rank(const struct agent *a, const struct pm_bind_case *c)
{
    const char *text = pm_facts_find(facts_of(a, c, 0), "SLURM_CPUS_PER_TASK");
    uint64_t most = pm_set_count(&c->allowed) / c->n, cpus = text ? strtoul(text, NULL, 10) : 0;
    if (a->bind->options.cpus)
        return a->bind->options.cpus;
    return cpus <= most ? (uint32_t)cpus : 0;
}

static int map(struct agent *a, struct pm_bind_case *c)
{
    struct pm_agent_bind *b = a->bind;
    bool given = b->options.keep_cpus || (c->keeps_gpus && c->granted.n);
    for (uint32_t k = 0; k < c->n && b->options.keep_cpus; k++)
        c->given[k].pus = &facts_of(a, c, k)->cpus;
    if (b->options.keep_cpus && !c->granted.n)
        return leave(b, "CPUs stay as --cpu-bind or keep-cpus wants them, and there are no GPUs");
    c->request = (struct pm_bind_request){.allowed = &c->allowed, .gpus = c->gpus, .n_gpus = c->granted.n,
                                          .n_ranks = c->n, .given = given ? c->given : NULL, .options = b->options};
    if (b->options.keep_memory)
        c->request.options.memory = PM_MEMORY_DEFAULT;
    c->request.options.cpus = cpus_per_rank(a, c);
    int rc = pm_bind_ranks(&b->picture.machine, &c->request, &c->binding);
    if (rc < 0)
        (void)refuse(b, c->binding.sentence);
    return rc;
}

static int keep_result(struct agent *a, const struct pm_bind_case *c)
{
    int rc = 0;
    for (uint32_t k = 0; k < c->n && rc == 0; k++)
        rc = pm_bound_rank_make(a->bind, c, facts_of(a, c, k), k, &a->bind->ranks[c->locals[k]]);
    return rc;
}

static int decide(struct agent *a, struct pm_bind_case *c)
{
    if (a->bind->picture.machine.n_cores == 0)
        return -ENODATA;  // `why` is there
    int rc = find_allowed(a, c);
    if (rc == 0)
        rc = find_gpus(a, c);
    if (rc == 0)
        rc = map(a, c);
    return rc < 0 ? rc : keep_result(a, c);
}

static void forget_ranks(struct agent *a)
{
    for (uint32_t i = 0; a->bind->ranks && i < a->config.n_local; i++)
        pm_bound_rank_done(&a->bind->ranks[i]);
}

// A line on stderr if something is wrong with this node; what the user or the site wants is none.
static void explain(struct agent *a, int rc)
{
    struct pm_agent_bind *b = a->bind;
    if (rc == -ENOMEM)
        snprintf(b->why, sizeof(b->why), "out of memory");
    if (!b->told && rc != -ECANCELED)
        pm_agent_say(a, "ranks are not bound: %s", b->why);
    b->told = true;
}

static void settle(struct agent *a)
{
    struct pm_agent_bind *b = a->bind;
    struct pm_bind_case c = {0};
    forget_ranks(a);
    int rc = find_ranks(a, &c);
    if (rc == 0 && c.n && !b->is_off)
        rc = decide(a, &c);
    if (rc < 0) {
        forget_ranks(a);
        explain(a, rc);
    }
    if (c.n)  // else it waits as a spare
        pm_bind_report(a, rc < 0 || b->is_off ? NULL : &c);
    case_done(&c);
}

// --- the agent's side ------------------------------------------------------------------------------------------

bool pm_bind_is_pending(const struct agent *a) { return a->bind->fd >= 0; }

static const struct pm_bound_rank *rank_of(struct agent *a, uint32_t local)
{
    struct pm_agent_bind *b = a->bind;
    const struct pm_world *world = pm_core_world(a->core);
    if (b->map_version != world->map_version)
        settle(a);
    b->map_version = world->map_version;
    return &b->ranks[local];
}

const char *pm_bind_cpus(struct agent *a, uint32_t local, uint16_t *ret_package_rank)
{
    *ret_package_rank = rank_of(a, local)->package_rank;
    return rank_of(a, local)->cpus;
}

void pm_bind_write_place(struct agent *a, uint32_t local, struct pm_writer *w)
{
    pm_write_place(w, &rank_of(a, local)->place);
}

char *const *pm_bind_env(struct agent *a, uint32_t local, uint32_t *ret_n)
{
    *ret_n = rank_of(a, local)->n_env;
    return rank_of(a, local)->env;
}

// What there is nothing to find out for.
static const char *why_off(const struct agent *a)
{
    const struct pm_bind_options *o = &a->bind->options;
    if (o->mode == PM_BIND_NONE)
        return "--pm-bind=none";
    return o->keep_cpus && !a->config.has_gpus ? "CPUs stay as --cpu-bind or keep-cpus wants them, and there are no GPUs"
                                               : "";
}

int pm_bind_open(struct agent *a)
{
    struct pm_agent_bind *b = calloc(1, sizeof(*b));
    char sentence[PM_BIND_SENTENCE_BYTES];
    if (!b)
        return -ENOMEM;
    a->bind = b;
    b->fd = -1;
    b->ranks = calloc(a->config.n_local + 1u, sizeof(*b->ranks));
    if (!b->ranks)
        return -ENOMEM;
    (void)pm_bind_options_read(a->config.options.bind, &b->options, sentence);  // was read before
    snprintf(b->why, sizeof(b->why), "%s", why_off(a));
    b->is_off = b->why[0];
    int rc = b->is_off ? 0 : pm_bind_picture_open(a);
    if (rc < 0)
        snprintf(b->why, sizeof(b->why), "cannot start pm-discover: %s", strerror(-rc));
    return 0;
}

void pm_bind_done(struct agent *a)
{
    if (!a->bind)
        return;
    pm_bind_picture_done(a);
    forget_ranks(a);
    free(a->bind->reported);
    free(a->bind->ranks);
    free(a->bind);
    a->bind = NULL;
}
