// SPDX-License-Identifier: Apache-2.0
//
// The score of a mapping, part by part, against numbers worked out by hand; the gates; what Slurm's
// rules give; and that the search only ever finds better.
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "tests/topology/cases.h"
#include "tests/topology/launchers.h"
#include "tests/topology/made.h"
#include "tests/topology/search.h"

enum { RANKS = 8 };

static struct pm_machine m;
static struct pm_set allowed;
static uint32_t gpus[RANKS], n_gpus;
static struct score_case c;
static struct score_rank ranks[RANKS];
static struct score score;

// Two packages of one NUMA node, two L3s and eight cores; one GPU each.
static void start(void)
{
    m = made_machine(
        (struct made_shape){.packages = 2, .numas = 1, .l3s = 2, .cores = 4, .threads = 1});
    for (n_gpus = 0; n_gpus < 2; n_gpus++)
        gpus[n_gpus] = made_gpu(&m, PM_GPU_NVIDIA, &m.packages[n_gpus].pus);
    cr_assert_eq(pm_set_copy(&allowed, &m.pus), 0);
}

static void finish(void)
{
    ranks_done(ranks, RANKS);
    score_case_done(&c);
    pm_set_done(&allowed);
    pm_machine_done(&m);
}

TestSuite(score, .init = start, .fini = finish, .timeout = 30);

static void begin(uint32_t n_ranks)
{
    c = (struct score_case){
        .machine = &m, .allowed = &allowed, .gpus = gpus, .n_gpus = n_gpus, .n_ranks = n_ranks};
    cr_assert_eq(score_case_init(&c), 0);
}

// gpu: a position, or -1.
static void rank_has(uint32_t rank, uint32_t first, uint32_t last, int gpu)
{
    cr_assert_eq(pm_set_add_span(&ranks[rank].pus, first, last), 0);
    if (gpu < 0)
        return;
    ranks[rank].gpus = reallocarray(ranks[rank].gpus, ranks[rank].n_gpus + 1, sizeof(uint32_t));
    cr_assert_not_null(ranks[rank].gpus);
    ranks[rank].gpus[ranks[rank].n_gpus++] = (uint32_t)gpu;
}

static void part_is(enum score_part part, double value)
{
    cr_assert_float_eq(score.part[part], value, 1e-9, "%s is %f instead of %f",
                       score_part_names[part], score.part[part], value);
}

static void total_is(double value)
{
    cr_assert_eq(score_mapping(&c, ranks, &score), 0);
    cr_assert_float_eq(score.total, value, 1e-9, "%f instead of %f", score.total, value);
}

Test(score, nothing_to_improve)
{
    begin(2);
    rank_has(0, 0, 7, 0);
    rank_has(1, 8, 15, 1);
    total_is(100);
    cr_assert(score.in_gpu_order && !score.gate);
}

Test(score, gpus_on_the_other_package)
{
    begin(2);
    rank_has(0, 0, 7, 1);
    rank_has(1, 8, 15, 0);
    total_is(60);
    part_is(SCORE_ENOUGH, 0);
    part_is(SCORE_NEAR, 0);
    part_is(SCORE_PACKAGE, 0);
    cr_assert(!score.in_gpu_order);
}

Test(score, one_gpu_for_both)
{
    begin(2);
    rank_has(0, 0, 7, 0);
    rank_has(1, 8, 15, 0);
    total_is(57.5);
    part_is(SCORE_ENOUGH, 0.5);
    part_is(SCORE_COVER, 0.5);
    part_is(SCORE_GPU_BALANCE, 0);
}

Test(score, all_gpus_for_all)
{
    begin(2);
    for (int gpu = 0; gpu < 2; gpu++) {
        rank_has(0, 0, 7, gpu);
        rank_has(1, 8, 15, gpu);
    }
    cr_assert_eq(score_mapping(&c, ranks, &score), 0);
    part_is(SCORE_GPU_BALANCE, 0.5);
    part_is(SCORE_NEAR, 0.5);
}

Test(score, a_rank_without_gpu)
{
    begin(2);
    rank_has(0, 0, 7, 0);
    rank_has(0, 0, 7, 1);
    rank_has(1, 8, 15, -1);
    cr_assert_eq(score_mapping(&c, ranks, &score), 0);
    cr_assert_eq(score.ranks_without_gpu, 1);
    cr_assert(score.total < 50, "half of what it would be");
}

Test(score, cores_idle_and_uneven)
{
    n_gpus = 0;
    begin(2);
    rank_has(0, 0, 3, -1);
    rank_has(1, 8, 15, -1);
    cr_assert_eq(score_mapping(&c, ranks, &score), 0);
    part_is(SCORE_USED, 0.75);
    part_is(SCORE_BALANCE, 0.5);
    part_is(SCORE_NUMA, 1);
    cr_assert_float_eq(score.total, 33 * 0.75 + 33 * 0.5 + 34, 1e-9);
}

Test(score, numa_nodes_and_l3s)
{
    n_gpus = 0;
    begin(2);
    rank_has(0, 0, 1, -1);
    rank_has(0, 8, 13, -1);
    rank_has(1, 2, 7, -1);
    rank_has(1, 14, 15, -1);
    cr_assert_eq(score_mapping(&c, ranks, &score), 0);
    part_is(SCORE_NUMA, 0.5);
    part_is(SCORE_L3, 0.5); // two of four are shared
    part_is(SCORE_BALANCE, 1);
}

Test(score, sharing_an_l3_that_must_be_shared_costs_nothing)
{
    n_gpus = 0;
    begin(8);
    for (uint32_t r = 0; r < 8; r++)
        rank_has(r, 2 * r, 2 * r + 1, -1);
    total_is(100);
    cr_assert_eq(c.l3_unavoidable, 4);
}

Test(score, gates)
{
    begin(2);
    rank_has(0, 0, 7, 0);
    total_is(0);
    cr_assert_str_eq(score.gate, "a rank without CPU");
    rank_has(1, 7, 9, 1);
    total_is(0);
    cr_assert_str_eq(score.gate, "a core for several ranks");
    rank_has(1, 16, 16, 1);
    total_is(0);
    cr_assert_str_eq(score.gate, "a CPU that was not granted");
    ranks_done(ranks, 2);
    rank_has(0, 0, 7, 2);
    rank_has(1, 8, 15, 1);
    total_is(0);
    cr_assert_str_eq(score.gate, "a GPU that was not granted");
}

Test(score, more_ranks_than_cores_may_share)
{
    n_gpus = 0;
    pm_set_clear(&allowed);
    cr_assert_eq(pm_set_add_span(&allowed, 0, 1), 0);
    begin(4);
    for (uint32_t r = 0; r < 4; r++)
        rank_has(r, r / 2, r / 2, -1);
    total_is(100);
    cr_assert_eq(score.split_cores, 2);
}

Test(score, kinds_of_cores)
{
    n_gpus = 0;
    for (uint32_t i = 0; i < 8; i++)
        m.cores[i].kind = 1;
    begin(2);
    rank_has(0, 0, 7, -1);
    rank_has(1, 8, 15, -1);
    total_is(100);
    ranks_done(ranks, 2);
    rank_has(0, 0, 3, -1);
    rank_has(0, 8, 11, -1);
    rank_has(1, 4, 7, -1);
    rank_has(1, 12, 15, -1);
    total_is(0);
    cr_assert_eq(score.mixed_ranks, 2);
}

// ---- Slurm's rules ----

static const struct launcher *find(const char *name)
{
    for (int i = 0; i < LAUNCHERS; i++)
        if (strcmp(launchers[i].name, name) == 0)
            return &launchers[i];
    cr_assert_fail("no %s", name);
    return NULL;
}

static void launched(const char *name, uint32_t rank, const char *pus, uint32_t first_gpu,
                     uint32_t count)
{
    char text[64];
    ranks_done(ranks, RANKS);
    cr_assert_eq(launch(find(name), &c, ranks), 0);
    cr_assert_str_eq(pm_set_format(&ranks[rank].pus, text, sizeof(text)), pus, "%s: %s", name,
                     text);
    cr_assert_eq(ranks[rank].gpus[0], first_gpu, "%s: GPU %u", name, ranks[rank].gpus[0]);
    cr_assert_eq(ranks[rank].n_gpus, count);
}

Test(score, slurm_by_its_rules)
{
    begin(4);
    launched("block + local id", 1, "4-7", 1, 1);
    launched("cyclic + local id", 1, "8-11", 1, 1);
    launched("cyclic + local id", 2, "4-7", 0, 1);
    launched("block + closest", 2, "8-11", 1, 1);
    launched("cyclic + single, 22.05", 1, "8-11", 1, 1);
    launched("block + single, 23.02.4", 3, "12-15", 1, 1);
}

// With two GPUs on each package, cyclic and the rule of 22.05 leave two of them unused.
Test(score, the_old_rule_of_single_leaves_gpus_unused)
{
    gpus[2] = made_gpu(&m, PM_GPU_NVIDIA, &m.packages[0].pus);
    gpus[3] = made_gpu(&m, PM_GPU_NVIDIA, &m.packages[1].pus);
    n_gpus = 4;
    begin(4);
    cr_assert_eq(launch(find("cyclic + single, 22.05"), &c, ranks), 0);
    cr_assert_eq(score_mapping(&c, ranks, &score), 0);
    part_is(SCORE_COVER, 0.5);
    ranks_done(ranks, RANKS);
    cr_assert_eq(launch(find("cyclic + single, 23.02.4"), &c, ranks), 0);
    total_is(100);
}

// ---- mpibind ----

Test(score, mpibind_gives_whole_numa_nodes_to_few_ranks)
{
    begin(1);
    launched("mpibind", 0, "0-15", 0, 2);
    launched("mpibind, greedy 0", 0, "0-7", 0, 1);  // one node has the only rank
}

Test(score, mpibind_shares_each_numa_node_by_its_gpus)
{
    begin(3);
    launched("mpibind", 0, "0-3", 0, 1);
    launched("mpibind", 1, "4-7", 0, 1);
    launched("mpibind", 2, "8-15", 1, 1);
    cr_assert_eq(score_mapping(&c, ranks, &score), 0);
    cr_assert_eq(score.cores_apart, 4);
    cr_assert_eq(score.gpus_apart, 1);
    cr_assert(!score_keeps_to_rows(&score));
    n_gpus = 1;  // nobody is where no GPU is
    score_case_done(&c);
    begin(4);
    launched("mpibind", 3, "6-7", 0, 1);
}

// Two ranks on three granted cores of two L3s: it takes one thread of each L3.
Test(score, mpibind_loses_a_core_where_l3s_are_as_many_as_ranks)
{
    n_gpus = 0;
    pm_set_clear(&allowed);
    cr_assert_eq(pm_set_add_span(&allowed, 0, 1), 0);
    cr_assert_eq(pm_set_add(&allowed, 4), 0);
    begin(2);
    cr_assert_eq(launch(find("mpibind"), &c, ranks), 0);
    cr_assert_eq(score_mapping(&c, ranks, &score), 0);
    part_is(SCORE_USED, 2.0 / 3);
}

// GPUs that no granted core is near to are lost, and ranks with them.
Test(score, mpibind_drops_gpus_far_from_the_granted_cores)
{
    pm_set_clear(&allowed);
    cr_assert_eq(pm_set_add_span(&allowed, 0, 7), 0);
    begin(2);
    cr_assert_eq(launch(find("mpibind"), &c, ranks), 0);
    cr_assert_eq(score_mapping(&c, ranks, &score), 0);
    part_is(SCORE_COVER, 0.5);
}

Test(score, how_unequal_shares_are)
{
    n_gpus = 0;
    pm_set_clear(&allowed);
    cr_assert_eq(pm_set_add_span(&allowed, 0, 1), 0);
    begin(5);
    for (uint32_t r = 0; r < 5; r++)
        rank_has(r, r > 3, r > 3, -1);
    cr_assert_eq(score_mapping(&c, ranks, &score), 0);
    cr_assert_eq(score.cores_apart, 3, "four ranks share a core, one has its own");
}

// ---- the search ----

Test(score, the_search_finds_what_is_better)
{
    const struct search_plan plan = {3000, 3, 1}, other = {300, 3, 7};
    struct score found, again;
    begin(2);
    rank_has(0, 0, 7, 1);
    rank_has(1, 8, 15, 0);
    cr_assert_eq(search_mapping(&c, ranks, &plan, &found), 0);
    cr_assert_float_eq(found.total, 100, 1e-9, "%f", found.total);
    cr_assert_eq(search_mapping(&c, ranks, &other, &found), 0);
    cr_assert_eq(search_mapping(&c, ranks, &other, &again), 0);
    cr_assert_float_eq(found.total, again.total, 1e-12, "the same seed finds the same");
}

Test(score, grants_are_parts_of_the_machine)
{
    uint32_t kinds = 0;
    for (uint32_t kind = 0; kind < GRANTS; kind++) {
        struct grant grant;
        int rc = grant_of(&m, &m.pus, kind, &grant);
        cr_assert_geq(rc, 0);
        if (rc > 0)
            continue;
        kinds++;
        cr_assert(!pm_set_empty(&grant.allowed) && pm_set_covers(&m.pus, &grant.allowed));
        cr_assert(grant.n_gpus > 0 && grant.n_gpus <= n_gpus);
        cr_assert(kind == 0 || grant.n_gpus < n_gpus || pm_set_count(&grant.allowed) < 16);
        grant_done(&grant);
    }
    cr_assert_geq(kinds, 6);
}
