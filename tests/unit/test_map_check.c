// SPDX-License-Identifier: Apache-2.0
//
// The last look at a finished map (map_check.c): whatever made a map that breaks a rule, it is thrown away, with a
// sentence that says which rank and which rule. The maps here are made by hand, as no good mapper makes them.
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "pmix_server/topology/map_internal.h"

// Two ranks, four PUs of a core each, two GPUs.
static struct pm_set allowed;
static uint32_t cores[2][2] = {{0, 1}, {2, 3}}, gpus[2][1] = {{0}, {1}}, places[2] = {0, 1};
static struct pm_bind_request request;
static struct pm_bind_rank ranks[2];
static struct pm_binding binding;
static struct pm_plan plan;

static void start(void)
{
    cr_assert_eq(pm_set_add_span(&allowed, 0, 3), 0);
    request = (struct pm_bind_request){.allowed = &allowed, .gpus = places, .n_gpus = 2, .n_ranks = 2};
    plan = (struct pm_plan){.request = &request, .n_cores = 4};
    for (uint32_t r = 0; r < 2; r++) {
        ranks[r] = (struct pm_bind_rank){.cores = cores[r], .n_cores = 2, .gpus = gpus[r], .n_gpus = 1};
        cr_assert_eq(pm_set_add_span(&ranks[r].pus, 2 * r, 2 * r + 1), 0);
    }
    binding = (struct pm_binding){.ranks = ranks, .n_ranks = 2};
}

static void finish(void)
{
    pm_set_done(&allowed);
    for (uint32_t r = 0; r < 2; r++)
        pm_set_done(&ranks[r].pus);
}

TestSuite(map_check, .init = start, .fini = finish, .timeout = 20);

static void is_thrown_away(const char *why)
{
    cr_assert_eq(pm_bind_check(&plan, &binding), -EPROTO, "%s", why);
    cr_assert_eq(strncmp(binding.sentence, "nothing is pinned, the map is wrong: ", 37), 0, "%s", binding.sentence);
    cr_assert_str_eq(binding.sentence + 37, why, "%s", binding.sentence);
}

Test(map_check, a_map_that_keeps_the_rules_passes)
{
    cr_assert_eq(pm_bind_check(&plan, &binding), 0, "%s", binding.sentence);
}

Test(map_check, a_rank_without_cpu)
{
    pm_set_clear(&ranks[1].pus);
    is_thrown_away("rank 1 has no CPU");
}

Test(map_check, a_cpu_that_was_not_granted)
{
    cr_assert_eq(pm_set_add(&ranks[0].pus, 4), 0);
    is_thrown_away("rank 0 has CPUs that were not granted");
}

Test(map_check, a_core_for_two_ranks_while_there_is_one_for_each)
{
    cores[1][0] = 1;
    is_thrown_away("rank 1 has a core of another rank");
    plan.n_cores = 1;  // fewer cores than ranks
    cr_assert_eq(pm_bind_check(&plan, &binding), 0);
    plan.n_cores = 4;
    request.options.mode = PM_BIND_NUMA;  // wanted so
    cr_assert_eq(pm_bind_check(&plan, &binding), 0);
}

Test(map_check, a_rank_without_gpu_and_a_gpu_without_rank)
{
    ranks[1].n_gpus = 0;
    is_thrown_away("rank 1 has no GPU");
    ranks[1].n_gpus = 1;
    gpus[1][0] = 0;
    is_thrown_away("only 1 of 2 GPUs have a rank");
    request.options.gpus = 1;  // more are not wanted
    cr_assert_eq(pm_bind_check(&plan, &binding), 0);
}

Test(map_check, a_gpu_that_was_not_granted)
{
    gpus[1][0] = 2;
    is_thrown_away("rank 1 has a GPU that was not granted");
}
