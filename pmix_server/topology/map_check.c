// SPDX-License-Identifier: Apache-2.0
//
// The rules that no map may break, looked at once more on the finished one and by nothing that made
// it: a rank without a PU or with one that was not granted, a PU or a core for two ranks while
// there is a core for each, a GPU that does not exist, a rank without a GPU or a GPU without a
// rank.
#include "pmix_server/topology/map_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

__attribute__((format(printf, 2, 3))) static int broken(struct pm_binding *binding,
                                                        const char *format, ...)
{
    va_list args;
    int n = snprintf(binding->sentence, sizeof(binding->sentence),
                     "nothing is pinned, the map is wrong: ");
    va_start(args, format);
    vsnprintf(binding->sentence + n, sizeof(binding->sentence) - (size_t)n, format, args);
    va_end(args);
    return -EPROTO;
}

static int check_pus(const struct pm_plan *plan, struct pm_binding *binding)
{
    for (uint32_t r = 0; r < binding->n_ranks; r++) {
        if (pm_set_empty(&binding->ranks[r].pus))
            return broken(binding, "rank %" PRIu32 " has no CPU", r);
        if (!pm_set_covers(plan->request->allowed, &binding->ranks[r].pus))
            return broken(binding, "rank %" PRIu32 " has CPUs that were not granted", r);
    }
    return 0;
}

// No core for two ranks, unless there are more ranks than cores or somebody wanted it so.
static int check_sharing(const struct pm_plan *plan, struct pm_binding *binding)
{
    struct pm_set taken = {0};
    int rc = 0;
    if (binding->n_ranks > plan->n_cores || plan->request->options.mode == PM_BIND_NUMA ||
        pm_cpus_given(plan->request))
        return 0;
    for (uint32_t r = 0; r < binding->n_ranks && rc == 0; r++)
        for (uint32_t i = 0; i < binding->ranks[r].n_cores && rc == 0; i++) {
            uint32_t core = binding->ranks[r].cores[i];
            if (pm_set_has(&taken, core))
                rc = broken(binding, "rank %" PRIu32 " has a core of another rank", r);
            else
                rc = pm_set_add(&taken, core);
        }
    pm_set_done(&taken);
    return rc;
}

static int collect_gpus(const struct pm_plan *plan, struct pm_binding *binding, struct pm_set *used)
{
    for (uint32_t r = 0; r < binding->n_ranks; r++) {
        const struct pm_bind_rank *rank = &binding->ranks[r];
        if (rank->n_gpus == 0 && plan->request->n_gpus && !pm_gpus_given(plan->request))
            return broken(binding, "rank %" PRIu32 " has no GPU", r);
        for (uint32_t i = 0; i < rank->n_gpus; i++) {
            if (rank->gpus[i] >= plan->request->n_gpus)
                return broken(binding, "rank %" PRIu32 " has a GPU that was not granted", r);
            if (pm_set_add(used, rank->gpus[i]) < 0)
                return -ENOMEM;
        }
    }
    return 0;
}

static int check_gpus(const struct pm_plan *plan, struct pm_binding *binding)
{
    struct pm_set used = {0};
    int rc = collect_gpus(plan, binding, &used);
    if (rc == 0 && pm_set_count(&used) < plan->request->n_gpus && !plan->request->options.gpus &&
        !pm_gpus_given(plan->request))
        rc = broken(binding, "only %" PRIu64 " of %" PRIu32 " GPUs have a rank",
                    pm_set_count(&used), plan->request->n_gpus);
    pm_set_done(&used);
    return rc;
}

int pm_bind_check(const struct pm_plan *plan, struct pm_binding *binding)
{
    int rc = check_pus(plan, binding);
    rc = rc < 0 ? rc : check_sharing(plan, binding);
    return rc < 0 ? rc : check_gpus(plan, binding);
}
