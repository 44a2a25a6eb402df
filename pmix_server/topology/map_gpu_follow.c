// SPDX-License-Identifier: Apache-2.0
//
// Which GPUs a rank uses whose cores are fixed already (--cpu-bind, mode cores): some near its cores.
// Counts differ by at most one, every GPU is used; a flow finds the nearest deal of that kind.
#include "pmix_server/topology/map_internal.h"

#include <errno.h>

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

// An arc that is used at least `least` times: those come first at a price that nothing else reaches.
static int between(struct pm_flow *flow, uint32_t from, uint32_t to, uint32_t least, uint32_t most)
{
    int rc = pm_flow_arc(flow, from, to, least, -1000000000);
    return rc < 0 ? rc : pm_flow_arc(flow, from, to, most - least, 0);
}

// Nodes: 2.. ranks, then GPUs. The many get one of the few each.
static int build(const struct pm_plan *plan, struct pm_flow *flow, const struct pm_binding *binding, int *arcs)
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
    if ((plan->request->given && plan->request->given[0].gpus) || n > plan->n_units)
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
