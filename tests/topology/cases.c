// SPDX-License-Identifier: Apache-2.0
//
// See cases.h. A grant is a rule for cores and a rule for GPUs; the same ones for every machine.
#include "tests/topology/cases.h"

#include <errno.h>
#include <stdlib.h>

// Where a core is: counted within its package, L3 (or NUMA node) and machine.
struct at {
    const struct pm_machine *machine;
    uint32_t core, in_package, of_package, in_group;
};

static bool every_core(const struct at *at)
{
    return true;
}

static bool half_of_each_package(const struct at *at)
{
    return at->in_package < (at->of_package + 1) / 2;
}

// The end of one package and the beginning of the next, as jobs leave them.
static bool fragments(const struct at *at)
{
    uint32_t package = at->machine->cores[at->core].package;
    return package % 2 == 0 ? at->in_package >= at->of_package * 2 / 3
                            : at->in_package < at->of_package / 4;
}

static bool last_package(const struct at *at)
{
    return at->machine->cores[at->core].package == at->machine->n_packages - 1;
}

// One core of each L3 is kept for the system.
static bool no_first_of_l3(const struct at *at)
{
    return at->in_group > 0;
}

static bool no_first_core(const struct at *at)
{
    return at->core > 0;
}

// Some here and some there; always the same ones.
static bool scattered(const struct at *at)
{
    return (at->core * 2654435761u >> 16) % 5 < 2;
}

static bool far_from_gpus(const struct at *at)
{
    for (uint32_t g = 0; g < at->machine->n_gpus; g++)
        if (pm_set_intersects(&at->machine->gpus[g].near, &at->machine->cores[at->core].pus))
            return false;
    return at->machine->n_gpus > 0;
}

static bool every_gpu(uint32_t gpu, uint32_t n)
{
    return true;
}

static bool every_second_gpu(uint32_t gpu, uint32_t n)
{
    return n > 1 && gpu % 2 == 1;
}

static bool last_gpus(uint32_t gpu, uint32_t n)
{
    return n > 2 && gpu >= n - 3;
}

static const struct rule {
    const char *name;
    bool (*core)(const struct at *at);
    bool (*gpu)(uint32_t gpu, uint32_t n);
    bool one_thread;
} rules[GRANTS] = {
    {"all", every_core, every_gpu, false},
    {"half of each package", half_of_each_package, every_gpu, false},
    {"fragments", fragments, every_gpu, false},
    {"last package", last_package, every_gpu, false},
    {"no first core of each L3", no_first_of_l3, every_gpu, false},
    {"no first core", no_first_core, every_gpu, false},
    {"scattered", scattered, every_gpu, false},
    {"far from GPUs", far_from_gpus, every_gpu, false},
    {"every second GPU", every_core, every_second_gpu, false},
    {"last GPUs, fragments", fragments, last_gpus, false},
    {"one thread per core", every_core, every_gpu, true},
};

static struct at locate(const struct pm_machine *machine, uint32_t core)
{
    struct at at = {.machine = machine, .core = core};
    const struct pm_machine_core *me = &machine->cores[core];
    for (uint32_t i = 0; i < machine->n_cores; i++) {
        const struct pm_machine_core *other = &machine->cores[i];
        bool same_group = me->l3 == PM_PLACE_NONE ? other->numa == me->numa : other->l3 == me->l3;
        at.of_package += other->package == me->package;
        at.in_package += other->package == me->package && i < core;
        at.in_group += same_group && i < core;
    }
    return at;
}

static int take_cores(const struct rule *rule, const struct pm_machine *machine,
                      const struct pm_set *usable, struct pm_set *into)
{
    for (uint32_t i = 0; i < machine->n_cores; i++) {
        const struct pm_set *pus = &machine->cores[i].pus;
        struct at at = locate(machine, i);
        bool first = true;
        for (uint32_t pu = pm_set_next(pus, 0); rule->core(&at) && pu != UINT32_MAX;
             pu = pm_set_next(pus, pu + 1)) {
            if (!pm_set_has(usable, pu) || (rule->one_thread && !first))
                continue;
            first = false;
            if (pm_set_add(into, pu) < 0)
                return -ENOMEM;
        }
    }
    return 0;
}

int grant_of(const struct pm_machine *machine, const struct pm_set *usable, uint32_t kind,
             struct grant *ret_grant)
{
    const struct rule *rule = &rules[kind];
    struct grant grant = {.name = rule->name,
                          .gpus = calloc((size_t)machine->n_gpus + 1, sizeof(uint32_t))};
    int rc = grant.gpus ? take_cores(rule, machine, usable, &grant.allowed) : -ENOMEM;
    for (uint32_t g = 0; g < machine->n_gpus && rc == 0; g++)
        if (rule->gpu(g, machine->n_gpus))
            grant.gpus[grant.n_gpus++] = g;
    bool none = pm_set_empty(&grant.allowed) || (machine->n_gpus && grant.n_gpus == 0);
    bool same = pm_set_equal(&grant.allowed, usable) && grant.n_gpus == machine->n_gpus;
    if (rc == 0 && (none || (kind > 0 && same)))
        rc = 1;
    if (rc == 0)
        *ret_grant = grant;
    else
        grant_done(&grant);
    return rc;
}

void grant_done(struct grant *grant)
{
    pm_set_done(&grant->allowed);
    free(grant->gpus);
    *grant = (struct grant){0};
}
