// SPDX-License-Identifier: Apache-2.0
//
// Which GPUs a rank uses whose cores are known already: some near its cores. Counts differ by at
// most one, every GPU is used; a flow finds the nearest deal of that kind. Cores are known because
// they were given (--cpu-bind, mode cores), or from a first deal: then GPUs follow the cores and
// cores follow the GPUs once more, and the better one of the two deals is kept.
#include "pmix_server/topology/map_internal.h"

#include <errno.h>
#include <stdlib.h>

// PUs of a rank near the GPU count ten times those of its package; per thousand.
static int64_t far(const struct pm_plan *plan, const struct pm_set *pus, uint32_t gpu)
{
    uint64_t near = 0, beside = 0, all = pm_set_count(pus);
    const size_t at = (size_t)gpu * plan->n_domains;
    for (uint32_t d = 0; d < plan->n_domains; d++) {
        const struct pm_domain *domain = &plan->domains[d];
        for (uint32_t i = domain->first; i < domain->first + domain->n; i++) {
            bool mine = pm_set_has(pus, plan->pus[plan->units[i].first]);
            near += mine && plan->gpu_near[at + d] ? plan->units[i].n : 0;
            beside += mine && plan->gpu_beside[at + d] ? plan->units[i].n : 0;
        }
    }
    return -(int64_t)((10 * near + beside) * 1000 / (all ? all : 1));
}

// An arc that is used at least `least` times.
static int between(struct pm_flow *flow, uint32_t from, uint32_t to, uint32_t least, uint32_t most)
{
    int rc = pm_flow_arc(flow, from, to, least, PM_FLOW_MUST);
    return rc < 0 ? rc : pm_flow_arc(flow, from, to, most - least, 0);
}

// Nodes: 2.. ranks, then GPUs. The many get one of the few each.
static int build(const struct pm_plan *plan, struct pm_flow *flow, const struct pm_binding *binding,
                 int *arcs)
{
    uint32_t n = plan->request->n_ranks, n_gpus = plan->request->n_gpus;
    bool failed = false;
    uint32_t per_rank = n >= n_gpus ? 1 : n_gpus / n, per_gpu = n >= n_gpus ? n / n_gpus : 1;
    uint32_t most_rank = n >= n_gpus ? 1 : (n_gpus + n - 1) / n;
    uint32_t most_gpu = n >= n_gpus ? (n + n_gpus - 1) / n_gpus : 1;
    for (uint32_t r = 0; r < n; r++)
        failed |= between(flow, 0, 2 + r, per_rank, most_rank) < 0;
    for (uint32_t r = 0; r < n; r++)
        for (uint32_t g = 0; g < n_gpus; g++) {
            int64_t cost = far(plan, &binding->ranks[r].pus, g);
            arcs[(size_t)r * n_gpus + g] = pm_flow_arc(flow, 2 + r, 2 + n + g, 1, cost);
            failed |= arcs[(size_t)r * n_gpus + g] < 0;
        }
    for (uint32_t g = 0; g < n_gpus; g++)
        failed |= between(flow, 2 + n + g, 1, per_gpu, most_gpu) < 0;
    return failed ? -ENOMEM : 0;
}

int pm_plan_gpus_by_cores(struct pm_plan *plan, const struct pm_binding *binding)
{
    uint32_t n = plan->request->n_ranks, n_gpus = plan->request->n_gpus;
    if (pm_gpus_given(plan->request) || n > plan->n_units)
        return pm_plan_gpus_by_place(plan);
    int rc = pm_plan_new_gpu_lists(plan, n_gpus / n + 1);
    int *arcs = pm_plan_alloc(plan, (size_t)n * n_gpus, sizeof(*arcs));
    struct pm_flow *flow = pm_flow_new(2 + n + n_gpus);
    if (rc == 0)
        rc = arcs && flow ? build(plan, flow, binding, arcs) : -ENOMEM;
    if (rc == 0) {
        pm_flow_run(flow);
        for (uint32_t i = 0; i < n * n_gpus; i++)
            if (pm_flow_on(flow, arcs[i]))
                pm_plan_add_gpu(plan, i / n_gpus, i % n_gpus);
    }
    pm_flow_free(flow);
    return rc;
}

// GPUs by the cores that the ranks have got.
static int follow_cores(struct pm_plan *plan)
{
    struct pm_binding binding = {.n_ranks = plan->request->n_ranks};
    binding.ranks = pm_plan_alloc(plan, binding.n_ranks, sizeof(*binding.ranks));
    int rc = binding.ranks ? pm_bind_pus(plan, &binding) : -ENOMEM;
    rc = rc < 0 ? rc : pm_plan_gpus_by_cores(plan, &binding);
    for (uint32_t r = 0; binding.ranks && r < binding.n_ranks; r++)
        pm_set_done(&binding.ranks[r].pus);
    if (rc == 0)
        pm_plan_sort_gpu_lists(plan);
    return rc;
}

// If there are odd ranks: to the first GPUs, whatever is near them.
static int odd_ranks_first(struct pm_plan *plan)
{
    plan->odd_ranks_first = true;
    return pm_plan_gpus_by_place(plan);
}

static bool has_odd_ranks(const struct pm_plan *plan)
{
    return plan->request->n_ranks > plan->request->n_gpus &&
           plan->request->n_ranks % plan->request->n_gpus;
}

// Takes the other deal, if it is worth more.
static int try_deal(struct pm_plan *plan, int (*deal_gpus)(struct pm_plan *plan))
{
    const struct pm_plan before = *plan;
    const double worth = pm_plan_worth(plan);
    plan->worth_before = worth;
    int rc = deal_gpus(plan);
    rc = rc < 0 ? rc : pm_plan_teams(plan);
    rc = rc < 0 ? rc : pm_plan_cores(plan);
    if (rc < 0 || pm_plan_worth(plan) > worth + 1e-6)
        return rc;
    struct pm_block *blocks = plan->blocks;
    uint32_t trials = plan->trials;
    *plan = before;
    plan->blocks = blocks;
    plan->trials = trials;
    return 0;
}

// With more ranks it takes time and gains nothing: all GPUs have many.
enum { DEALT_AGAIN_MAX = 64 };

int pm_plan_again(struct pm_plan *plan)
{
    const struct pm_bind_request *request = plan->request;
    if (!plan->has_gpus || request->given || request->n_ranks > DEALT_AGAIN_MAX ||
        request->n_ranks > plan->n_units ||
        pm_plan_worth(plan) >= pm_plan_worth_of_all(plan) - 1e-6)
        return 0;
    int rc = try_deal(plan, follow_cores);
    return rc < 0 || !has_odd_ranks(plan) ? rc : try_deal(plan, odd_ranks_first);
}
