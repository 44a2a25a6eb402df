// SPDX-License-Identifier: Apache-2.0
//
// What a good mapper does, case by case: cores, GPUs and threads (rows 1 to 23 of the table in
// doc/pinning.md); test_map_devices.c has the other rows. stand_map() looks at the rules that every
// map must keep: nothing outside what was granted, no core for two ranks, a GPU for each rank, and
// so on.
#include "tests/unit/map_stand.h"

static struct map_stand s;

static void finish(void)
{
    stand_finish(&s);
}

TestSuite(map_cases, .fini = finish, .timeout = 30);

static const struct made_shape two_sockets = {
    .packages = 2, .numas = 1, .l3s = 2, .cores = 4, .threads = 2};
static const struct made_shape nps4 = {
    .packages = 2, .numas = 4, .l3s = 2, .cores = 4, .threads = 1};

static const struct pm_set *numa(uint32_t i)
{
    return &s.m.numas[i].pus;
}

static uint32_t near_cores(uint32_t rank, const struct pm_set *near)
{
    const struct pm_bind_rank *r = &s.binding.ranks[rank];
    uint32_t n = 0;
    for (uint32_t i = 0; i < r->n_cores; i++)
        n += pm_set_intersects(&s.m.cores[r->cores[i]].pus, near);
    return n;
}

static void sizes_differ_by_one_at_most(void)
{
    uint32_t least = UINT32_MAX, most = 0, least_gpus = UINT32_MAX, most_gpus = 0;
    for (uint32_t r = 0; r < s.binding.n_ranks; r++) {
        const struct pm_bind_rank *rank = &s.binding.ranks[r];
        least = rank->n_cores < least ? rank->n_cores : least;
        most = rank->n_cores > most ? rank->n_cores : most;
        least_gpus = rank->n_gpus < least_gpus ? rank->n_gpus : least_gpus;
        most_gpus = rank->n_gpus > most_gpus ? rank->n_gpus : most_gpus;
    }
    cr_assert(most - least <= 1, "%u ranks: %u to %u cores", s.binding.n_ranks, least, most);
    cr_assert(most_gpus - least_gpus <= 1, "%u ranks: %u to %u GPUs", s.binding.n_ranks, least_gpus,
              most_gpus);
}

// GPUs on NUMA nodes 1, 2, 6, 7 of 8, as on a 4-GPU node with two sockets in NPS4.
static void start_nps4_with_gpus(void)
{
    static const uint32_t with_gpu[] = {1, 2, 6, 7};
    stand_start(&s, nps4);
    for (uint32_t i = 0; i < 4; i++)
        stand_gpu(&s, numa(with_gpu[i]));
}

Test(map_cases, row01_as_many_ranks_as_gpus)
{
    stand_start(&s, two_sockets);
    stand_gpu(&s, numa(1));
    stand_gpu(&s, numa(0));
    stand_map(&s, 2);
    stand_pus(&s, 0, "8-15,24-31");
    stand_pus(&s, 1, "0-7,16-23");
    stand_gpus(&s, 0, "0");
    stand_gpus(&s, 1, "1");
    cr_assert(stand_noted(&s.binding.ranks[0].why, PM_WHY_NEAR));
}

Test(map_cases, row02_gpus_on_some_numa_nodes)
{
    static const uint32_t own[] = {1, 2, 6, 7};
    start_nps4_with_gpus();
    stand_map(&s, 4);
    for (uint32_t r = 0; r < 4; r++) {
        cr_assert_eq(near_cores(r, numa(own[r])), 8, "rank %u has all of its own node", r);
        cr_assert_eq(s.binding.ranks[r].n_cores, 16, "and one that is lent");
        cr_assert(stand_inside(&s, r, &s.m.packages[r / 2].pus), "of the same package");
        cr_assert_eq(pm_set_count(&s.binding.ranks[r].memory_nodes), 2);
    }
    s.options.reach = PM_REACH_STRICT;
    stand_map(&s, 4);
    for (uint32_t r = 0; r < 4; r++)
        cr_assert(pm_set_equal(&s.binding.ranks[r].pus, numa(own[r])), "strict: only the own node");
    cr_assert(stand_noted(&s.binding.notes, PM_WHY_IDLE_CORES));
}

Test(map_cases, row03_no_granted_core_near_the_gpu)
{
    start_nps4_with_gpus();
    stand_allow_numas(&s, "04");
    s.n_gpus = 3; // on 1, 2 and 6
    stand_map(&s, 3);
    cr_assert(stand_inside(&s, 2, numa(4)), "the package of the GPU has the nearest cores");
    cr_assert(near_cores(0, numa(0)) > 0 && near_cores(1, numa(0)) > 0);
    cr_assert(stand_noted(&s.binding.notes, PM_WHY_FAR_GPUS), "one warning");
    cr_assert(stand_noted(&s.binding.ranks[0].why, PM_WHY_FAR));
}

Test(map_cases, row04_no_granted_gpu_near_the_cores)
{
    start_nps4_with_gpus();
    stand_allow_numas(&s, "13");
    s.n_gpus = 1; // on 1
    stand_map(&s, 2);
    stand_gpus(&s, 0, "0");
    stand_gpus(&s, 1, "0");
    cr_assert_eq(near_cores(0, numa(1)), 4);
    cr_assert_eq(near_cores(1, numa(1)), 4, "cores near the GPU are shared fairly");
    stand_allow_numas(&s, "4");
    stand_map(&s, 2);
    stand_gpus(&s, 1, "0");
}

// Half of the GPUs are far from all that was granted: no reason to leave a core idle.
Test(map_cases, row04_some_gpus_near_and_some_far)
{
    struct made_shape shape = {.packages = 2, .numas = 1, .l3s = 8, .cores = 3, .threads = 1};
    stand_start(&s, shape);
    for (uint32_t i = 0; i < 8; i++)
        stand_gpu(&s, numa(i / 4));
    stand_allow_numas(&s, "1");
    stand_map(&s, 5);
    uint32_t cores = 0;
    for (uint32_t r = 0; r < 5; r++)
        cores += s.binding.ranks[r].n_cores;
    cr_assert_eq(cores, 24);
}

Test(map_cases, row05_more_ranks_than_gpus)
{
    stand_start(&s, two_sockets);
    stand_gpu(&s, numa(0));
    stand_gpu(&s, numa(1));
    stand_map(&s, 5);
    uint32_t users[2] = {0}, last = 0;
    for (uint32_t r = 0; r < 5; r++) {
        cr_assert_eq(s.binding.ranks[r].n_gpus, 1);
        uint32_t gpu = s.binding.ranks[r].gpus[0];
        cr_assert(gpu >= last, "sharers are next to each other");
        users[last = gpu]++;
        cr_assert(near_cores(r, numa(gpu)) > 0);
        cr_assert(stand_noted(&s.binding.ranks[r].why, PM_WHY_GPU_SHARED));
    }
    cr_assert(users[0] + users[1] == 5 && (users[0] == 2 || users[0] == 3));
}

// Two GPUs on each package; the tokens jump between them.
static void start_four_gpus(void)
{
    stand_start(&s, two_sockets);
    for (uint32_t i = 0; i < 4; i++)
        made_gpu(&s.m, PM_GPU_NVIDIA, numa(i / 2));
    static const uint32_t tokens[] = {0, 2, 1, 3};
    for (uint32_t i = 0; i < 4; i++)
        stand_token(&s, tokens[i]);
}

Test(map_cases, row06_fewer_ranks_than_gpus)
{
    start_four_gpus();
    stand_map(&s, 2);
    stand_gpus(&s, 0, "0,2");
    stand_gpus(&s, 1, "1,3");
    stand_pus(&s, 0, "0-7,16-23");
    s.options.gpus = 1;
    stand_map(&s, 2);
    stand_gpus(&s, 0, "0");
    stand_gpus(&s, 1, "1");
    cr_assert(stand_noted(&s.binding.notes, PM_WHY_IDLE_GPUS));
    s.options.gpus = 0;
    stand_map(&s, 3);
    sizes_differ_by_one_at_most();
    stand_map(&s, 1);
    stand_gpus(&s, 0, "0-3");
}

Test(map_cases, row07_not_a_multiple)
{
    start_four_gpus();
    for (uint32_t n = 1; n <= 16; n++) {
        stand_map(&s, n);
        sizes_differ_by_one_at_most();
    }
    stand_finish(&s);
    start_nps4_with_gpus();
    for (uint32_t n = 1; n <= 64; n++) {
        stand_map(&s, n);
        sizes_differ_by_one_at_most();
    }
}

// Three cores for some and four for others, all of them near: no reason to lend a far one, or to leave a near one
// idle.
Test(map_cases, row07_near_cores_are_used_up_before_sizes_are_the_same)
{
    static const struct made_shape big = {
        .packages = 2, .numas = 4, .l3s = 2, .cores = 8, .threads = 1};
    uint32_t cores = 0;
    stand_start(&s, big);
    stand_gpu(&s, numa(1));
    stand_gpu(&s, numa(2));
    stand_gpu(&s, numa(6));
    stand_gpu(&s, numa(7));
    stand_map(&s, 19);
    sizes_differ_by_one_at_most();
    for (uint32_t r = 0; r < 19; r++) {
        cores += s.binding.ranks[r].n_cores;
        cr_assert_eq(s.binding.ranks[r].why.notes[0].reason, PM_WHY_NEAR, "rank %u", r);
    }
    cr_assert_eq(cores, 64);
}

Test(map_cases, row08_fragments_over_sockets)
{
    stand_start(&s, two_sockets);
    stand_gpu(&s, numa(0));
    stand_gpu(&s, numa(1));
    pm_set_clear(&s.allowed);
    stand_allow(&s, 6, 13);
    stand_allow(&s, 22, 29); // cores 6, 7 of one package, 8-13 of the other
    stand_map(&s, 2);
    sizes_differ_by_one_at_most();
    cr_assert_eq(near_cores(0, numa(0)), 2);
    cr_assert(stand_inside(&s, 1, numa(1)));
    stand_map(&s, 4);
    sizes_differ_by_one_at_most();
}

// Where a step's CPUs are read from is the agent's; here: whatever they are, none is added.
Test(map_cases, row09_other_steps_on_the_node)
{
    start_nps4_with_gpus();
    for (uint32_t seed = 1; seed < 60; seed++) {
        pm_set_clear(&s.allowed);
        for (uint32_t pu = 0; pu < 64; pu++)
            if ((pu * 2654435761u * seed >> 20) % 3 == 0)
                stand_allow(&s, pu, pu);
        if (!pm_set_empty(&s.allowed))
            stand_map(&s, 1 + seed % 9); // looks that nobody leaves them
    }
}

Test(map_cases, row10_whole_cores_with_smt)
{
    stand_start(&s, two_sockets);
    stand_map(&s, 4);
    stand_pus(&s, 0, "0-3,16-19");
    cr_assert_eq(s.binding.ranks[0].threads, 4);
    s.options.smt = 1;
    stand_map(&s, 4);
    stand_pus(&s, 0, "0-3");
    stand_map(&s, 16);
    stand_pus(&s, 15, "15");
}

Test(map_cases, row11_single_threads_granted)
{
    stand_start(&s, two_sockets);
    pm_set_clear(&s.allowed);
    stand_allow(&s, 0, 3);
    stand_allow(&s, 20, 23); // second threads of cores 4-7
    stand_map(&s, 2);
    stand_pus(&s, 0, "0-3");
    stand_pus(&s, 1, "20-23");
}

Test(map_cases, row12_holes_in_the_numbers)
{
    struct made_shape shape = {.packages = 1, .numas = 2, .l3s = 1, .cores = 2, .threads = 1};
    shape.pu_first = 8;
    shape.pu_step = 100;
    stand_start(&s, shape);
    stand_map(&s, 2);
    stand_pus(&s, 0, "8,108");
    stand_pus(&s, 1, "208,308");
}

Test(map_cases, row13_more_ranks_than_cores)
{
    struct made_shape shape = {.packages = 1, .numas = 1, .l3s = 1, .cores = 2, .threads = 2};
    stand_start(&s, shape);
    stand_map(&s, 4);
    cr_assert(stand_noted(&s.binding.notes, PM_WHY_CROWDED));
    stand_pus(&s, 0, "0");
    stand_pus(&s, 1, "2");
    cr_assert(stand_noted(&s.binding.ranks[0].why, PM_WHY_CPU_SHARED));
    stand_map(&s, 8);
    uint32_t on[4] = {0};
    for (uint32_t r = 0; r < 8; r++)
        on[pm_set_next(&s.binding.ranks[r].pus, 0)]++;
    for (uint32_t pu = 0; pu < 4; pu++)
        cr_assert_eq(on[pu], 2, "PU %u has %u ranks", pu, on[pu]);
    stand_map(&s, 200);
}

Test(map_cases, row14_whole_l3s)
{
    struct made_shape shape = {.packages = 1, .numas = 1, .l3s = 6, .cores = 4, .threads = 1};
    stand_start(&s, shape);
    stand_map(&s, 3);
    stand_pus(&s, 1, "8-15");
    stand_map(&s, 6);
    for (uint32_t r = 0; r < 6; r++)
        cr_assert(stand_inside(&s, r, &s.m.l3s[r].pus));
}

Test(map_cases, row14_uneven_l3s)
{
    struct made_shape shape = {.packages = 1, .numas = 1, .l3s = 4, .cores = 8, .threads = 1};
    stand_start(&s, shape);
    pm_set_clear(&s.allowed);
    stand_allow(&s, 0, 3);   // 4 of the first
    stand_allow(&s, 8, 23);  // the second and third
    stand_allow(&s, 24, 27); // 4 of the last
    stand_map(&s, 3);
    sizes_differ_by_one_at_most();
    stand_pus(&s, 0, "0-3,24-27");
    stand_pus(&s, 1, "8-15");
    stand_pus(&s, 2, "16-23");
}

Test(map_cases, row15_l3_above_numa_nodes)
{
    struct made_shape shape = {.packages = 2, .numas = 2, .l3s = 1, .cores = 4, .threads = 1};
    stand_start(&s, shape);
    for (uint32_t i = 0; i < s.m.n_cores; i++) // one L3 for each package
        s.m.cores[i].l3 = s.m.cores[i].package;
    cr_assert_eq(pm_set_copy(&s.m.l3s[0].pus, &s.m.packages[0].pus), 0);
    cr_assert_eq(pm_set_copy(&s.m.l3s[1].pus, &s.m.packages[1].pus), 0);
    stand_map(&s, 4);
    for (uint32_t r = 0; r < 4; r++)
        cr_assert(pm_set_equal(&s.binding.ranks[r].pus, numa(r)));
}

Test(map_cases, row15_no_l3)
{
    struct made_shape shape = {.packages = 1, .numas = 4, .l3s = 0, .cores = 4, .threads = 4};
    stand_start(&s, shape);
    stand_map(&s, 4);
    for (uint32_t r = 0; r < 4; r++)
        cr_assert(pm_set_equal(&s.binding.ranks[r].pus, numa(r)));
}

// Frontier and LUMI-G: two L3s and two GPUs hang on each NUMA node, and the GPUs' numbers do not
// follow the NUMA nodes. The official table: L3 0..7 go with GPU 4, 5, 2, 3, 6, 7, 0, 1.
Test(map_cases, row16_gpu_locality_coarser_than_l3)
{
    static const uint32_t numa_of_gpu[] = {3, 3, 1, 1, 0, 0, 2, 2},
                          l3_of_gpu[] = {6, 7, 2, 3, 0, 1, 4, 5};
    struct made_shape shape = {.packages = 1, .numas = 4, .l3s = 2, .cores = 8, .threads = 2};
    stand_start(&s, shape);
    for (uint32_t i = 0; i < 8; i++)
        stand_gpu(&s, numa(numa_of_gpu[i]));
    stand_map(&s, 8);
    for (uint32_t r = 0; r < 8; r++) {
        cr_assert_eq(s.binding.ranks[r].gpus[0], r);
        cr_assert(pm_set_equal(&s.binding.ranks[r].pus, &s.m.l3s[l3_of_gpu[r]].pus), "GPU %u", r);
    }
    s.options.order = PM_ORDER_CORE;
    stand_map(&s, 8);
    for (uint32_t r = 0; r < 8; r++) {
        cr_assert(pm_set_equal(&s.binding.ranks[r].pus, &s.m.l3s[r].pus));
        cr_assert_eq(l3_of_gpu[s.binding.ranks[r].gpus[0]], r);
    }
}

// Each GPU hangs on one L3, half a NUMA node: strict means the L3.
Test(map_cases, row17_strict_is_strict)
{
    struct made_shape shape = {.packages = 2, .numas = 2, .l3s = 2, .cores = 6, .threads = 1};
    stand_start(&s, shape);
    for (uint32_t i = 0; i < 3; i++)
        stand_gpu(&s, &s.m.l3s[2 * i].pus);
    s.options.reach = PM_REACH_STRICT;
    for (uint32_t n = 1; n <= 18; n++) {
        stand_map(&s, n);
        for (uint32_t r = 0; r < n; r++)
            for (uint32_t i = 0; i < s.binding.ranks[r].n_cores; i++)
                cr_assert(s.m.cores[s.binding.ranks[r].cores[i]].l3 % 2 == 0 &&
                          s.m.cores[s.binding.ranks[r].cores[i]].l3 < 6);
    }
}

// Here lending would spread each rank over both sockets: by default they stay, and the node says
// so.
Test(map_cases, row17_all_gpus_on_one_socket)
{
    stand_start(&s, two_sockets);
    stand_gpu(&s, numa(0));
    stand_gpu(&s, numa(0));
    stand_map(&s, 2);
    for (uint32_t r = 0; r < 2; r++)
        cr_assert_eq(near_cores(r, numa(0)), 4, "local first");
    cr_assert(stand_noted(&s.binding.notes, PM_WHY_IDLE_CORES));
    s.options.reach = PM_REACH_FILL;
    stand_map(&s, 2);
    for (uint32_t r = 0; r < 2; r++) {
        cr_assert_eq(s.binding.ranks[r].n_cores, 8);
        cr_assert_eq(near_cores(r, numa(0)), 4, "local ones shared fairly");
        cr_assert(stand_noted(&s.binding.ranks[r].why, PM_WHY_LENT));
    }
    s.options = (struct pm_bind_options){.mode = PM_BIND_CORES};
    stand_map(&s, 2);
    stand_pus(&s, 0, "0-7,16-23");
    stand_pus(&s, 1, "8-15,24-31");
}

Test(map_cases, row18_no_gpus)
{
    stand_start(&s, nps4);
    stand_map(&s, 8);
    for (uint32_t r = 0; r < 8; r++)
        cr_assert(pm_set_equal(&s.binding.ranks[r].pus, numa(r)), "ranks follow the cores");
    stand_map(&s, 16);
    for (uint32_t r = 0; r < 16; r++)
        cr_assert(pm_set_equal(&s.binding.ranks[r].pus, &s.m.l3s[r].pus));
    for (uint32_t n = 1; n <= 64; n++) {
        stand_map(&s, n);
        sizes_differ_by_one_at_most();
    }
}

// Memory of GPUs and memory without CPUs are no NUMA nodes of a machine (discovery leaves them
// out), so what is left to look at: nothing but the cores' own nodes is ever named.
Test(map_cases, row19_and_20_only_nodes_with_cpus_give_memory)
{
    start_nps4_with_gpus();
    for (uint32_t i = 0; i < 8; i++)
        s.m.numas[i].os_index = 2 * i; // the odd ones are HBM or a GPU's
    for (uint32_t n = 1; n <= 9; n++) {
        stand_map(&s, n);
        for (uint32_t r = 0; r < n; r++) {
            const struct pm_set *nodes = &s.binding.ranks[r].memory_nodes;
            for (uint32_t node = pm_set_next(nodes, 0); node != UINT32_MAX;
                 node = pm_set_next(nodes, node + 1))
                cr_assert(node % 2 == 0 && near_cores(r, numa(node / 2)) > 0);
        }
    }
}

Test(map_cases, row21_numa_node_without_memory)
{
    struct made_shape shape = {.packages = 1, .numas = 4, .l3s = 1, .cores = 4, .threads = 1};
    stand_start(&s, shape);
    s.m.numas[1].memory_bytes = 0;
    s.m.numas[1].memory_from = 0;
    stand_map(&s, 4);
    cr_assert(pm_set_equal(&s.binding.ranks[1].pus, numa(1)));
    cr_assert(pm_set_has(&s.binding.ranks[1].memory_nodes, 0));
    cr_assert_eq(s.binding.ranks[1].memory, PM_MEMORY_PREFER);
    cr_assert(stand_noted(&s.binding.ranks[1].why, PM_WHY_MEMORY_FROM));
}

// Fast cores with two threads, and 8 slow ones with one.
static void start_hybrid(uint32_t fast)
{
    struct made_shape shape = {
        .packages = 1, .numas = 1, .l3s = 1, .cores = fast + 8, .threads = 2};
    stand_start(&s, shape);
    pm_set_clear(&s.allowed);
    stand_allow(&s, 0, 2 * fast + 7); // second threads of the first ones only
    for (uint32_t i = 0; i < fast; i++)
        s.m.cores[i].kind = 1;
}

Test(map_cases, row22_kinds_of_cores_are_not_mixed)
{
    start_hybrid(4);
    for (uint32_t n = 2; n <= 12; n++) {
        stand_map(&s, n);
        for (uint32_t r = 0; r < n; r++)
            for (uint32_t i = 1; i < s.binding.ranks[r].n_cores; i++)
                cr_assert_eq(s.m.cores[s.binding.ranks[r].cores[i]].kind,
                             s.m.cores[s.binding.ranks[r].cores[0]].kind);
    }
    stand_map(&s, 2);
    stand_pus(&s, 0, "0-3,12-15");
    stand_pus(&s, 1, "4-11");
    stand_map(&s, 4); // equal capacity: four threads each
    for (uint32_t r = 0; r < 4; r++)
        cr_assert_eq(pm_set_count(&s.binding.ranks[r].pus), 4);
    s.options.mixed_kinds = 1;
    stand_map(&s, 1);
    cr_assert_eq(s.binding.ranks[0].n_cores, 12);
    cr_assert(stand_noted(&s.binding.ranks[0].why, PM_WHY_MIXED));
}

// That cores stay idle is told with its reason and with the word that uses them, which is true.
static void idle_until(const char *why, enum pm_bind_reach reach, bool mixed)
{
    const struct pm_bind_notes *notes = &s.binding.notes;
    cr_assert_eq(notes->n, 1);
    cr_assert_eq(notes->notes[0].reason, PM_WHY_IDLE_CORES);
    cr_assert(strstr(notes->notes[0].text, why), "%s", notes->notes[0].text);
    s.options.reach = reach;
    s.options.mixed_kinds = mixed;
    stand_map(&s, s.binding.n_ranks);
    cr_assert_eq(s.binding.notes.n, 0, "%s", s.binding.notes.notes[0].text);
}

Test(map_cases, row22_one_rank_leaves_a_kind_idle)
{
    start_hybrid(4);
    stand_map(&s, 1);
    idle_until("no rank has cores of two kinds (--pm-bind=mixed-kinds uses", PM_REACH_AUTO, true);
}

// 8 threads for each of two ranks; where there are no GPUs, nothing is said of them.
Test(map_cases, row22_cores_are_left_idle_where_kinds_are_not_equal)
{
    start_hybrid(6);
    stand_map(&s, 2);
    idle_until("so that shares are equal (--pm-bind=fill uses", PM_REACH_FILL, false);
}

Test(map_cases, row02_cores_far_from_gpus_are_left_idle_until_asked_for)
{
    start_nps4_with_gpus();
    stand_map(&s, 8);
    idle_until("equal and near the GPUs (--pm-bind=fill uses", PM_REACH_FILL, false);
}

Test(map_cases, row23_cores_kept_for_the_system)
{
    static const uint32_t numa_of_gpu[] = {3, 3, 1, 1, 0, 0, 2, 2};
    struct made_shape shape = {.packages = 1, .numas = 4, .l3s = 2, .cores = 8, .threads = 1};
    stand_start(&s, shape);
    for (uint32_t i = 0; i < 8; i++)
        stand_gpu(&s, numa(numa_of_gpu[i]));
    for (uint32_t l3 = 0; l3 < 8; l3++)
        cr_assert_eq(pm_set_remove(&s.allowed, 8 * l3), 0);
    stand_map(&s, 8);
    for (uint32_t r = 0; r < 8; r++) {
        cr_assert_eq(s.binding.ranks[r].n_cores, 7);
        cr_assert(stand_inside(&s, r, numa(numa_of_gpu[r])));
        uint32_t l3 = s.m.cores[s.binding.ranks[r].cores[0]].l3;
        cr_assert(stand_inside(&s, r, &s.m.l3s[l3].pus), "rank %u stays in its L3", r);
    }
}

Test(map_cases, row23_one_core_is_missing)
{
    struct made_shape shape = {.packages = 1, .numas = 4, .l3s = 2, .cores = 8, .threads = 1};
    stand_start(&s, shape);
    cr_assert_eq(pm_set_remove(&s.allowed, 0), 0);
    stand_map(&s, 8);
    for (uint32_t r = 0; r < 8; r++)
        cr_assert(stand_inside(&s, r, &s.m.l3s[r].pus), "rank %u is not shifted", r);
}
