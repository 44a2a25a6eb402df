// SPDX-License-Identifier: Apache-2.0
//
// The mapper as a function: the same answer to the same request, modes and orders, requests that
// make no sense, and the words of --pm-bind.
#include <errno.h>
#include <string.h>

#include "tests/unit/map_stand.h"

static struct map_stand s;

static void start(void)
{
    struct made_shape shape = {.packages = 2, .numas = 2, .l3s = 2, .cores = 4, .threads = 2};
    stand_start(&s, shape);
    for (uint32_t i = 0; i < 4; i++)
        stand_gpu(&s, &s.m.numas[3 - i].pus);
}

static void finish(void)
{
    stand_finish(&s);
}

TestSuite(map, .init = start, .fini = finish, .timeout = 30);

static bool same(const struct pm_binding *a, const struct pm_binding *b)
{
    for (uint32_t r = 0; r < a->n_ranks; r++) {
        const struct pm_bind_rank *x = &a->ranks[r], *y = &b->ranks[r];
        if (!pm_set_equal(&x->pus, &y->pus) || x->n_gpus != y->n_gpus || x->n_nics != y->n_nics ||
            memcmp(x->gpus, y->gpus, x->n_gpus * sizeof(*x->gpus)) != 0 || x->why.n != y->why.n)
            return false;
    }
    return a->n_ranks == b->n_ranks && a->notes.n == b->notes.n;
}

Test(map, the_same_request_has_the_same_map)
{
    for (uint32_t n = 1; n <= 64; n++) {
        struct pm_binding first = *stand_map(&s, n);
        s.binding = (struct pm_binding){0};
        stand_map(&s, n);
        cr_assert(same(&first, &s.binding), "%u ranks", n);
        pm_binding_done(&first);
    }
}

Test(map, none_changes_nothing)
{
    struct pm_bind_request request = {
        .allowed = &s.allowed, .n_ranks = 4, .options.mode = PM_BIND_NONE};
    cr_assert_eq(pm_bind_ranks(&s.m, &request, &s.binding), 0);
    cr_assert_eq(s.binding.n_ranks, 0);
    cr_assert_eq(s.binding.sentence[0], '\0');
}

Test(map, numa_gives_whole_nodes_and_shares_them)
{
    s.options.mode = PM_BIND_NUMA;
    stand_map(&s, 8);
    for (uint32_t r = 0; r < 8; r++)
        cr_assert(pm_set_equal(&s.binding.ranks[r].pus, &s.m.numas[3 - r / 2].pus), "rank %u", r);
}

Test(map, cores_come_first_and_gpus_follow)
{
    s.options.mode = PM_BIND_CORES;
    stand_map(&s, 4);
    for (uint32_t r = 0; r < 4; r++) {
        cr_assert(pm_set_equal(&s.binding.ranks[r].pus, &s.m.numas[r].pus));
        cr_assert_eq(s.binding.ranks[r].gpus[0], 3 - r);
    }
    stand_map(&s, 2);
    stand_gpus(&s, 0, "2-3");
    stand_map(&s, 7);
    stand_map(&s, 100);
}

Test(map, core_order_keeps_the_pairs)
{
    s.options.order = PM_ORDER_CORE;
    stand_map(&s, 4);
    for (uint32_t r = 0; r < 4; r++) {
        cr_assert(pm_set_equal(&s.binding.ranks[r].pus, &s.m.numas[r].pus));
        cr_assert_eq(s.binding.ranks[r].gpus[0], 3 - r);
    }
}

Test(map, cpus_are_what_each_rank_gets)
{
    s.options.cpus = 4;
    stand_map(&s, 4);
    for (uint32_t r = 0; r < 4; r++) {
        cr_assert_eq(s.binding.ranks[r].n_cores, 2);
        cr_assert(stand_inside(&s, r, &s.m.numas[3 - r].pus));
    }
    s.options.reach = PM_REACH_STRICT;
    s.options.cpus = 0;
    s.n_gpus = 1;
    stand_map(&s, 8);
    for (uint32_t r = 0; r < 8; r++)
        cr_assert(stand_inside(&s, r, &s.m.numas[3].pus));
    stand_map(&s, 20); // more than there are cores near: strict cannot be
}

// ---- what makes no sense ----

Test(map, a_machine_without_cpus)
{
    pm_machine_done(&s.m);
    stand_refused(&s, 4, "shows no CPUs");
}

Test(map, a_machine_that_contradicts_itself)
{
    s.m.cores[3].numa = 77;
    stand_refused(&s, 4, "contradicts itself at core 3");
    s.m.cores[3].numa = 0;
    s.m.cores[5].l3 = 1000;
    stand_refused(&s, 4, "core 5");
}

Test(map, nothing_granted)
{
    pm_set_clear(&s.allowed);
    stand_refused(&s, 4, "no CPU was granted");
}

Test(map, granted_outside_the_machine)
{
    stand_allow(&s, 60, 70);
    stand_refused(&s, 4, "CPUs 0-70 were granted, but the topology shows 0-63");
}

Test(map, gpus_that_do_not_exist)
{
    stand_token(&s, 4);
    stand_refused(&s, 4, "the topology shows 4 GPUs");
}

Test(map, no_ranks)
{
    stand_refused(&s, 0, "no rank");
}

Test(map, a_hundred_thousand_ranks)
{
    stand_refused(&s, 100000, "100000 ranks on 64 CPUs");
    stand_map(&s, 64 * 64);
}

Test(map, given_for_some_ranks_only)
{
    struct pm_bind_given given[2] = {{.pus = &s.m.numas[0].pus}, {0}};
    s.given = given;
    stand_refused(&s, 2, "some ranks only");
}

Test(map, given_what_was_not_granted)
{
    struct pm_bind_given given[2] = {{.pus = &s.m.numas[0].pus}, {.pus = &s.m.numas[1].pus}};
    const uint32_t gpu = 4;
    s.given = given;
    stand_allow_numas(&s, "0");
    stand_refused(&s, 2, "rank 1");
    struct pm_bind_given gpus[1] = {{.gpus = &gpu, .n_gpus = 1}};
    s.given = gpus;
    stand_refused(&s, 1, "rank 0 was given GPU 4 of 4");
}

// ---- options ----

Test(map, words_of_the_option)
{
    struct pm_bind_options options = {0};
    char sentence[PM_BIND_SENTENCE_BYTES];
    cr_assert_eq(
        pm_bind_options_read("cores,core-order,strict,memory=bind,cpus=8,smt=1,gpus=2,mixed-kinds",
                             &options, sentence),
        0);
    cr_assert_eq(options.mode, PM_BIND_CORES);
    cr_assert_eq(options.order, PM_ORDER_CORE);
    cr_assert_eq(options.reach, PM_REACH_STRICT);
    cr_assert_eq(options.memory, PM_MEMORY_BIND);
    cr_assert(options.cpus == 8 && options.smt == 1 && options.gpus == 2 && options.mixed_kinds);
    cr_assert_eq(pm_bind_options_read("auto", &options, sentence), 0);
    cr_assert_eq(options.mode, PM_BIND_AUTO);
    cr_assert_eq(options.cpus, 8, "what is not named stays");
}

Test(map, words_that_are_none)
{
    static const char *const bad[] = {"",      "gpu",     "auto,",  ",auto",
                                      "cpus=", "cpus=0",  "cpus=x", "cpus=99999999999",
                                      "autos", "memory=", "smt=-1", "AUTO"};
    struct pm_bind_options options = {.smt = 3};
    char sentence[PM_BIND_SENTENCE_BYTES];
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        cr_assert_eq(pm_bind_options_read(bad[i], &options, sentence), -EINVAL, "'%s'", bad[i]);
        cr_assert_not_null(strstr(sentence, "auto, cores, numa, none"));
        cr_assert(options.smt == 3 && options.mode == PM_BIND_AUTO && options.cpus == 0, "'%s'",
                  bad[i]);
    }
}

Test(map, every_reason_has_a_name)
{
    for (int i = 0; i < PM_BIND_REASONS; i++)
        cr_assert(pm_bind_reason_name((enum pm_bind_reason)i)[0] != '\0');
}
