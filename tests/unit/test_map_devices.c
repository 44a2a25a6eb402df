// SPDX-License-Identifier: Apache-2.0
//
// What a good mapper does, case by case (doc/pinning.md): rows 24 to 38, about NICs, partitions,
// what was given, memory and sizes. Rows that are not the mapper's: 28 in part (tokens: granted.h),
// 34 and 38 (discovery: test_discover.c), 35 in part (one variable for each vendor: whoever exports
// them).
#include <stdio.h>

#include "tests/unit/map_stand.h"

static struct map_stand s;

static void finish(void)
{
    stand_finish(&s);
}

TestSuite(map_devices, .fini = finish, .timeout = 30);

static const struct made_shape four_numas = {
    .packages = 2, .numas = 2, .l3s = 1, .cores = 4, .threads = 1};

static const struct pm_set *numa(uint32_t i)
{
    return &s.m.numas[i].pus;
}

// One GPU and one rail on each NUMA node, and what nobody should use.
static void start_rails(void)
{
    char name[16];
    stand_start(&s, four_numas);
    for (uint32_t i = 0; i < 4; i++)
        stand_gpu(&s, numa(i));
    made_nic(&s.m, PM_NIC_ETHERNET, "eth0", numa(0));
    for (uint32_t i = 0; i < 4; i++) {
        snprintf(name, sizeof(name), "mlx5_%u", i);
        made_nic(&s.m, PM_NIC_FABRIC, name, numa(i));
    }
    made_rails(&s.m);
    for (uint32_t i = 0; i < 4; i++)
        s.m.rails[i * s.m.n_nics + i + 1] = PM_RAIL_PIX;
}

static void nic_is(uint32_t rank, const char *name, enum pm_rail rail)
{
    const struct pm_bind_rank *r = &s.binding.ranks[rank];
    cr_assert_eq(r->n_nics, 1, "rank %u has %u NICs", rank, r->n_nics);
    cr_assert_str_eq(s.m.nics[r->nics[0].nic].name, name);
    cr_assert_eq(r->nics[0].rail, rail);
}

Test(map_devices, row24_each_gpu_its_rail)
{
    start_rails();
    stand_map(&s, 4);
    nic_is(0, "mlx5_0", PM_RAIL_PIX);
    nic_is(3, "mlx5_3", PM_RAIL_PIX);
    stand_map(&s, 2);
    cr_assert_eq(s.binding.ranks[0].n_nics, 2, "one for each of its GPUs");
    s.m.nics[1].down = true;
    s.m.nics[2].second_port = true;
    stand_map(&s, 4);
    cr_assert_eq(s.binding.ranks[0].n_nics, 0, "not the Ethernet port, not one that is down");
}

Test(map_devices, row24_few_rails_are_shared_evenly)
{
    stand_start(&s, four_numas);
    for (uint32_t i = 0; i < 4; i++)
        stand_gpu(&s, numa(i / 2));
    made_nic(&s.m, PM_NIC_FABRIC, "hsi0", numa(0));
    made_nic(&s.m, PM_NIC_FABRIC, "hsi1", numa(1));
    made_rails(&s.m);
    for (uint32_t i = 0; i < 8; i++)
        s.m.rails[i] = PM_RAIL_PHB; // all the same
    stand_map(&s, 4);
    uint32_t users[2] = {0};
    for (uint32_t r = 0; r < 4; r++)
        users[s.binding.ranks[r].nics[0].nic]++;
    cr_assert(users[0] == 2 && users[1] == 2);
}

Test(map_devices, row25_no_rail_of_its_own)
{
    start_rails();
    s.m.nics[2].down = true; // that of GPU 1: GPU 0's is on the same package
    stand_map(&s, 4);
    nic_is(1, "mlx5_0", PM_RAIL_PACKAGE);
    cr_assert(stand_noted(&s.binding.ranks[1].why, PM_WHY_NIC_FAR));
    s.m.nics[1].down = true;
    stand_map(&s, 4);
    cr_assert_eq(s.binding.ranks[1].n_nics, 0, "none on the other package");
    cr_assert(stand_noted(&s.binding.ranks[1].why, PM_WHY_NIC_FAR));
}

Test(map_devices, row25_ranks_without_gpus_take_one_by_their_cores)
{
    start_rails();
    s.n_gpus = 0;
    stand_map(&s, 4);
    for (uint32_t r = 0; r < 4; r++)
        cr_assert_eq(s.binding.ranks[r].nics[0].nic, r + 1);
}

Test(map_devices, row24_rdma_over_ethernet_where_there_is_no_fabric)
{
    stand_start(&s, four_numas);
    stand_gpu(&s, numa(0));
    made_nic(&s.m, PM_NIC_ETHERNET, "eth0", numa(0));
    made_nic(&s.m, PM_NIC_RDMA_ETHERNET, "mlx5_0", numa(0));
    made_rails(&s.m);
    stand_map(&s, 1);
    nic_is(0, "mlx5_0", PM_RAIL_NODE);
}

Test(map_devices, row25_plain_ethernet_is_no_reason_to_miss_a_nic)
{
    stand_start(&s, four_numas);
    stand_gpu(&s, numa(0));
    made_nic(&s.m, PM_NIC_ETHERNET, "eth0", numa(3));
    made_rails(&s.m);
    stand_map(&s, 1);
    cr_assert(!stand_noted(&s.binding.ranks[0].why, PM_WHY_NIC_FAR));
}

// Six partitions of one PCI function on each package.
Test(map_devices, row26_partitions)
{
    struct made_shape shape = {.packages = 2, .numas = 1, .l3s = 3, .cores = 8, .threads = 1};
    stand_start(&s, shape);
    for (uint32_t i = 0; i < 12; i++) {
        uint32_t gpu = stand_gpu(&s, numa(i / 6));
        s.m.gpus[gpu].pci.bus = (uint8_t)(i / 6);
        s.m.gpus[gpu].partition = i % 6;
    }
    stand_map(&s, 12);
    for (uint32_t r = 0; r < 12; r++) {
        uint32_t l3 = s.m.cores[s.binding.ranks[r].cores[0]].l3;
        cr_assert_eq(s.binding.ranks[r].n_cores, 4);
        cr_assert(stand_inside(&s, r, &s.m.l3s[l3].pus) && l3 == r / 2);
    }
}

Test(map_devices, row27_mig_slices_of_one_gpu)
{
    stand_start(&s, four_numas);
    made_gpu(&s.m, PM_GPU_NVIDIA, numa(2));
    for (int i = 0; i < 3; i++)
        stand_token(&s, 0); // three tokens, one place
    stand_map(&s, 3);
    for (uint32_t r = 0; r < 3; r++) {
        cr_assert_eq(s.binding.ranks[r].n_gpus, 1);
        cr_assert_eq(s.binding.ranks[r].gpus[0], r, "tokens are told apart");
        cr_assert(pm_set_intersects(&s.binding.ranks[r].pus, numa(2)));
    }
}

Test(map_devices, row28_only_granted_tokens)
{
    start_rails();
    s.n_gpus = 2;
    s.gpus[0] = 3;
    s.gpus[1] = 1;
    stand_map(&s, 2);
    stand_gpus(&s, 0, "0");
    cr_assert(pm_set_intersects(&s.binding.ranks[0].pus, numa(3)), "the first token's place");
    stand_gpus(&s, 1, "1");
    cr_assert(pm_set_intersects(&s.binding.ranks[1].pus, numa(1)));
    s.gpus[0] = PM_PLACE_NONE; // granted, but not found
    stand_map(&s, 2);
    stand_gpus(&s, 0, "0");
    cr_assert(stand_noted(&s.binding.ranks[0].why, PM_WHY_GPU_UNKNOWN));
    cr_assert(pm_set_intersects(&s.binding.ranks[1].pus, numa(1)));
}

Test(map_devices, row29_slurm_chose_the_gpus)
{
    static const uint32_t gpu_of[] = {2, 0, 3, 1};
    struct pm_bind_given given[4];
    start_rails();
    for (uint32_t r = 0; r < 4; r++)
        given[r] = (struct pm_bind_given){.gpus = &gpu_of[r], .n_gpus = 1};
    s.given = given;
    stand_map(&s, 4);
    for (uint32_t r = 0; r < 4; r++) {
        cr_assert_eq(s.binding.ranks[r].gpus[0], gpu_of[r]);
        cr_assert(pm_set_equal(&s.binding.ranks[r].pus, numa(gpu_of[r])), "cores follow");
        cr_assert(stand_noted(&s.binding.ranks[r].why, PM_WHY_GIVEN));
    }
}

Test(map_devices, row30_the_user_chose_the_cpus)
{
    static const uint32_t numa_of[] = {3, 2, 1, 0};
    struct pm_bind_given given[4] = {0};
    start_rails();
    for (uint32_t r = 0; r < 4; r++)
        given[r].pus = numa(numa_of[r]);
    s.given = given;
    stand_map(&s, 4);
    for (uint32_t r = 0; r < 4; r++) {
        cr_assert(pm_set_equal(&s.binding.ranks[r].pus, numa(numa_of[r])));
        cr_assert_eq(s.binding.ranks[r].gpus[0], numa_of[r], "GPUs follow");
        cr_assert(stand_noted(&s.binding.ranks[r].why, PM_WHY_GIVEN));
    }
}

Test(map_devices, row31_several_ranks_share_a_gpu)
{
    stand_start(&s, four_numas);
    stand_gpu(&s, numa(1));
    stand_map(&s, 4);
    for (uint32_t r = 0; r < 4; r++) {
        stand_gpus(&s, r, "0");
        cr_assert(stand_noted(&s.binding.ranks[r].why, PM_WHY_GPU_SHARED));
    }
}

Test(map_devices, row32_threads)
{
    struct made_shape shape = {.packages = 1, .numas = 1, .l3s = 2, .cores = 4, .threads = 2};
    stand_start(&s, shape);
    stand_map(&s, 2);
    cr_assert_eq(s.binding.ranks[0].threads, 4, "one for each core");
    s.options.smt = 2;
    stand_map(&s, 2);
    cr_assert_eq(s.binding.ranks[0].threads, 8, "smt=2: one for each PU");
    s.options = (struct pm_bind_options){.cpus = 6};
    stand_map(&s, 2);
    cr_assert_eq(s.binding.ranks[0].n_cores, 3);
    cr_assert_eq(s.binding.ranks[0].threads, 6, "cpus=6: six");
    s.options.cpus = 12;
    stand_map(&s, 2);
    cr_assert_eq(s.binding.ranks[0].threads, 8);
    cr_assert(stand_noted(&s.binding.notes, PM_WHY_FEWER_CPUS));
}

Test(map_devices, row33_memory_policy)
{
    stand_start(&s, four_numas);
    stand_map(&s, 4);
    cr_assert_eq(s.binding.ranks[2].memory, PM_MEMORY_PREFER, "one node: preferred, never strict");
    cr_assert(pm_set_has(&s.binding.ranks[2].memory_nodes, 2));
    stand_map(&s, 2);
    cr_assert_eq(s.binding.ranks[0].memory, PM_MEMORY_DEFAULT, "several: where they are touched");
    s.options.memory = PM_MEMORY_INTERLEAVE;
    stand_map(&s, 2);
    cr_assert_eq(s.binding.ranks[0].memory, PM_MEMORY_INTERLEAVE);
    cr_assert_eq(pm_set_count(&s.binding.ranks[0].memory_nodes), 2);
    s.options.memory = PM_MEMORY_BIND;
    stand_map(&s, 4);
    cr_assert_eq(s.binding.ranks[0].memory, PM_MEMORY_BIND);
    s.options.memory = PM_MEMORY_DEFAULT;
    stand_map(&s, 4);
    cr_assert_eq(s.binding.ranks[0].memory, PM_MEMORY_DEFAULT);
}

Test(map_devices, row33_the_only_node_is_not_preferred_unless_asked_for)
{
    stand_start(&s, (struct made_shape){.packages = 2, .numas = 1, .l3s = 1, .cores = 2, .threads = 1});
    stand_map(&s, 2);
    cr_assert_eq(s.binding.ranks[1].memory, PM_MEMORY_PREFER);
    s.m.numas[1].memory_bytes = 0;  // memory of all comes from one node
    s.m.numas[1].memory_from = s.m.numas[0].os_index;
    stand_map(&s, 2);
    cr_assert_eq(s.binding.ranks[1].memory, PM_MEMORY_DEFAULT);
    s.options.memory = PM_MEMORY_PREFER;
    stand_map(&s, 2);
    cr_assert_eq(s.binding.ranks[1].memory, PM_MEMORY_PREFER);
}

Test(map_devices, row13_and_31_numbers_and_their_words_agree)
{
    struct made_shape shape = {.packages = 1, .numas = 1, .l3s = 1, .cores = 1, .threads = 2};
    stand_start(&s, shape);
    stand_gpu(&s, numa(0));
    stand_map(&s, 2);
    cr_assert_str_eq(s.binding.notes.notes[0].text, "2 ranks share 1 core");
    cr_assert(stand_noted(&s.binding.ranks[0].why, PM_WHY_GPU_SHARED));
    for (uint32_t i = 0; i < s.binding.ranks[0].why.n; i++)
        if (s.binding.ranks[0].why.notes[i].reason == PM_WHY_GPU_SHARED)
            cr_assert_str_eq(s.binding.ranks[0].why.notes[i].text, "1 other rank uses its GPU");
}

Test(map_devices, row35_two_vendors)
{
    stand_start(&s, four_numas);
    stand_gpu(&s, numa(0));
    stand_token(&s, made_gpu(&s.m, PM_GPU_AMD, numa(3)));
    stand_map(&s, 2);
    cr_assert(pm_set_intersects(&s.binding.ranks[0].pus, numa(0)));
    cr_assert(pm_set_intersects(&s.binding.ranks[1].pus, numa(3)));
}

Test(map_devices, row36_big_machines)
{
    struct made_shape shape = {.packages = 4, .numas = 16, .l3s = 2, .cores = 8, .threads = 2};
    stand_start(&s, shape); // 1024 cores, 2048 PUs
    for (uint32_t i = 0; i < 256; i++)
        stand_gpu(&s, numa(i / 4));
    cr_assert_eq(pm_set_count(&s.m.pus), 2048);
    stand_map(&s, 256);
    for (uint32_t r = 0; r < 256; r++)
        cr_assert(stand_inside(&s, r, numa(r / 4)));
    stand_map(&s, 16);
}

// Each node is mapped by itself; on each one the first GPUs go to the first ranks.
Test(map_devices, row37_ranks_keep_their_order)
{
    for (uint32_t n_gpus = 1; n_gpus <= 8; n_gpus++) {
        stand_start(&s, four_numas);
        for (uint32_t i = 0; i < n_gpus; i++)
            stand_gpu(&s, numa((5 * i + 3) % 4));
        for (uint32_t n = 1; n <= 16; n++) {
            stand_map(&s, n);
            for (uint32_t r = 1; r < n; r++)
                cr_assert_leq(s.binding.ranks[r - 1].gpus[0], s.binding.ranks[r].gpus[0]);
        }
        stand_finish(&s);
        s = (struct map_stand){0};
    }
}
