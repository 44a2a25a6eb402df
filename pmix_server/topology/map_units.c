// SPDX-License-Identifier: Apache-2.0
//
// From granted PUs to what is dealt out: units (cores, or PUs where there are more ranks than
// cores), in groups that nothing tells apart (domains). Only what the operating system granted is
// looked at: PU numbers may have holes, and a core may have been granted in part.
#include "pmix_server/topology/map_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct pm_block {
    struct pm_block *next;
    max_align_t memory[];
};

void *pm_plan_alloc(struct pm_plan *plan, size_t n, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(n, size, &bytes) || bytes > SIZE_MAX / 2)
        return NULL;
    struct pm_block *block = calloc(1, sizeof(*block) + bytes);
    if (!block)
        return NULL;
    block->next = plan->blocks;
    plan->blocks = block;
    return block->memory;
}

void pm_plan_done(struct pm_plan *plan)
{
    while (plan->blocks) {
        struct pm_block *block = plan->blocks;
        plan->blocks = block->next;
        free(block);
    }
}

// Appends the usable PUs of a core: granted, and no more than `smt`.
static uint32_t take_pus(struct pm_plan *plan, uint32_t core)
{
    const struct pm_set *pus = &plan->machine->cores[core].pus;
    uint32_t most = plan->request->options.smt, n = 0;
    for (uint32_t pu = pm_set_next(pus, 0); pu != UINT32_MAX; pu = pm_set_next(pus, pu + 1))
        if (pm_set_has(plan->request->allowed, pu) && (most == 0 || n < most))
            plan->pus[plan->n_pus + n++] = pu;
    plan->n_pus += n;
    return n;
}

static void split_into_pus(struct pm_plan *plan)
{
    struct pm_unit *by_pu = plan->units + plan->n_pus - plan->n_units;
    memmove(by_pu, plan->units, plan->n_units * sizeof(*by_pu));
    uint32_t n = 0;
    for (uint32_t i = 0; i < plan->n_cores; i++) {
        struct pm_unit core = by_pu[i];
        for (uint32_t j = 0; j < core.n; j++)
            plan->units[n++] = (struct pm_unit){core.core, core.first + j, 1};
    }
    plan->n_units = n;
}

int pm_plan_units(struct pm_plan *plan)
{
    size_t most = (size_t)pm_set_count(&plan->machine->pus);
    plan->pus = pm_plan_alloc(plan, most, sizeof(*plan->pus));
    plan->units = pm_plan_alloc(plan, most, sizeof(*plan->units));
    if (!plan->pus || !plan->units)
        return -ENOMEM;
    for (uint32_t core = 0; core < plan->machine->n_cores; core++) {
        uint32_t first = plan->n_pus, n = take_pus(plan, core);
        if (n)
            plan->units[plan->n_units++] = (struct pm_unit){core, first, n};
    }
    plan->n_cores = plan->n_units;
    if (plan->request->n_ranks > plan->n_cores)
        split_into_pus(plan);
    return 0;
}

static bool near_same_gpus(const struct pm_plan *plan, const struct pm_unit *a,
                           const struct pm_unit *b)
{
    const struct pm_bind_request *request = plan->request;
    for (uint32_t i = 0; i < request->n_gpus; i++) {
        if (request->gpus[i] == PM_PLACE_NONE)
            continue;
        const struct pm_set *near = &plan->machine->gpus[request->gpus[i]].near;
        if (pm_set_has(near, plan->pus[a->first]) != pm_set_has(near, plan->pus[b->first]))
            return false;
    }
    return true;
}

static bool same_domain(const struct pm_plan *plan, const struct pm_unit *a,
                        const struct pm_unit *b)
{
    const struct pm_machine_core *x = &plan->machine->cores[a->core],
                                 *y = &plan->machine->cores[b->core];
    return x->kind == y->kind && x->package == y->package && x->numa == y->numa && x->l3 == y->l3 &&
           near_same_gpus(plan, a, b);
}

// Index of the unit's domain, which is made if there is none; the newest are the likeliest.
static uint32_t find_domain(struct pm_plan *plan, const struct pm_unit *unit,
                            const uint32_t *example)
{
    for (uint32_t d = plan->n_domains; d-- > 0;)
        if (same_domain(plan, unit, &plan->units[example[d]]))
            return d;
    const struct pm_machine_core *core = &plan->machine->cores[unit->core];
    plan->domains[plan->n_domains] = (struct pm_domain){
        .kind = core->kind, .package = core->package, .numa = core->numa, .l3 = core->l3};
    return plan->n_domains++;
}

// Sorts the units by domain; within one they keep their order.
static int sort_units(struct pm_plan *plan, const uint32_t *domain_of)
{
    struct pm_unit *sorted = pm_plan_alloc(plan, plan->n_units, sizeof(*sorted));
    uint32_t *at = pm_plan_alloc(plan, plan->n_domains, sizeof(*at));
    if (!sorted || !at)
        return -ENOMEM;
    for (uint32_t d = 1; d < plan->n_domains; d++)
        plan->domains[d].first = plan->domains[d - 1].first + plan->domains[d - 1].n;
    for (uint32_t i = 0; i < plan->n_units; i++)
        sorted[plan->domains[domain_of[i]].first + at[domain_of[i]]++] = plan->units[i];
    plan->units = sorted;
    return 0;
}

// Numbers the distinct values of one member of the domains from 0; NONE stays NONE.
static uint32_t *number(struct pm_plan *plan, size_t member, uint32_t *ret_n)
{
    uint32_t *numbers = pm_plan_alloc(plan, plan->n_domains, sizeof(*numbers)), n = 0;
    for (uint32_t d = 0; numbers && d < plan->n_domains; d++) {
        const uint32_t *value = (const uint32_t *)((const char *)&plan->domains[d] + member);
        numbers[d] = *value == PM_PLACE_NONE ? PM_PLACE_NONE : n;
        for (uint32_t e = 0; e < d && numbers[d] == n; e++)
            if (*(const uint32_t *)((const char *)&plan->domains[e] + member) == *value)
                numbers[d] = numbers[e];
        n += numbers[d] == n;
    }
    *ret_n = n;
    return numbers;
}

static int larger_first(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x < y) - (x > y);
}

static int count_fewest_numas(struct pm_plan *plan)
{
    uint32_t *sizes = pm_plan_alloc(plan, plan->n_numas, sizeof(*sizes));
    plan->fewest = pm_plan_alloc(plan, (size_t)plan->n_units + 1, sizeof(*plan->fewest));
    if (!sizes || !plan->fewest)
        return -ENOMEM;
    for (uint32_t d = 0; d < plan->n_domains; d++)
        sizes[plan->numas[d]] += plan->domains[d].n;
    qsort(sizes, plan->n_numas, sizeof(*sizes), larger_first);
    for (uint32_t i = 0, n = 0; i < plan->n_numas; i++)
        for (uint32_t j = 0; j < sizes[i]; j++)
            plan->fewest[++n] = i + 1;
    return 0;
}

int pm_plan_domains(struct pm_plan *plan)
{
    uint32_t *domain_of = pm_plan_alloc(plan, plan->n_units, sizeof(*domain_of));
    uint32_t *example = pm_plan_alloc(plan, plan->n_units, sizeof(*example));
    plan->domains = pm_plan_alloc(plan, plan->n_units, sizeof(*plan->domains));
    if (!domain_of || !example || !plan->domains)
        return -ENOMEM;
    for (uint32_t i = 0; i < plan->n_units; i++) {
        uint32_t before = plan->n_domains;
        uint32_t d = domain_of[i] = find_domain(plan, &plan->units[i], example);
        if (d == before)
            example[d] = i;
        plan->domains[d].n++;
    }
    int rc = sort_units(plan, domain_of);
    if (rc < 0)
        return rc;
    plan->l3s = number(plan, offsetof(struct pm_domain, l3), &plan->n_l3s);
    plan->numas = number(plan, offsetof(struct pm_domain, numa), &plan->n_numas);
    if (!plan->l3s || !plan->numas)
        return -ENOMEM;
    return count_fewest_numas(plan);
}
