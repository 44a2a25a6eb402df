// SPDX-License-Identifier: Apache-2.0
//
// The map rank -> node: coded in a few bytes for what Slurm usually does, exact for everything
// else, and no world for a map with a hole or an overlap.
#include <criterion/criterion.h>
#include <stdlib.h>

#include "pmix_server/core/placement.h"

TestSuite(placement, .timeout = 20);

static size_t encoded(const struct pm_map *map, struct pm_writer *w)
{
    pm_writer_reset(w);
    pm_write_map(w, map);
    cr_assert_eq(w->error, 0);
    return w->len;
}

static void expect_round_trip(const struct pm_map *map, size_t max_len)
{
    struct pm_writer w = {0};
    struct pm_map back = {0};
    cr_assert_leq(encoded(map, &w), max_len, "%zu bytes", w.len);
    struct pm_reader r = pm_reader_of(w.data, w.len);
    pm_read_map(&r, &back, PM_RANKS_MAX);
    cr_assert_eq(pm_reader_end(&r), 0);
    cr_assert_eq(back.n, map->n);
    for (uint32_t i = 0; i < map->n; i++) {
        cr_assert_eq(back.runs[i].rank, map->runs[i].rank);
        cr_assert_eq(back.runs[i].n, map->runs[i].n);
        cr_assert_eq(back.runs[i].node, map->runs[i].node);
    }
    pm_map_done(&back);
    pm_writer_done(&w);
}

static struct pm_map block_map(uint32_t nnodes, uint32_t per_node)
{
    struct pm_map map = {0};
    for (uint32_t node = 0; node < nnodes; node++)
        cr_assert_eq(pm_map_add(&map, node * per_node, per_node, node), 0);
    return map;
}

static struct pm_map cyclic_map(uint32_t nnodes, uint32_t per_node)
{
    struct pm_map map = {0};
    for (uint32_t rank = 0; rank < nnodes * per_node; rank++)
        cr_assert_eq(pm_map_add(&map, rank, 1, rank % nnodes), 0);
    return map;
}

Test(placement, usual_distributions_take_a_few_bytes_at_16k_nodes)
{
    struct pm_map map = block_map(16384, 8);
    expect_round_trip(&map, 16);
    pm_map_done(&map);
    map = cyclic_map(16384, 8);
    expect_round_trip(&map, 100);
    pm_map_done(&map);
}

Test(placement, random_maps_survive_the_wire)
{
    srand(7);
    for (int round = 0; round < 50; round++) {
        struct pm_map map = {0};
        for (uint32_t rank = 0; rank < 500;) {
            uint32_t n = 1 + (uint32_t)rand() % 4;
            cr_assert_eq(pm_map_add(&map, rank, n, (uint32_t)rand() % 20), 0);
            rank += n;
        }
        expect_round_trip(&map, 5000);
        pm_map_done(&map);
    }
}

Test(placement, union_is_idempotent_and_has_no_order)
{
    struct pm_map all = {0}, even = {0}, odd = {0};
    struct pm_map whole = block_map(100, 3);
    for (uint32_t node = 0; node < 100; node++)
        cr_assert_eq(pm_map_add(node % 2 ? &odd : &even, node * 3, 3, node), 0);
    bool changed;
    cr_assert_eq(pm_map_union(&all, &odd, &changed), 0);
    cr_assert(changed);
    cr_assert_eq(pm_map_union(&all, &even, &changed), 0);
    cr_assert(changed);
    cr_assert_eq(pm_map_union(&all, &odd, &changed), 0);
    cr_assert(!changed);
    cr_assert_eq(all.n, whole.n);
    cr_assert_arr_eq(all.runs, whole.runs, whole.n * sizeof(*whole.runs));
    pm_map_done(&all);
    pm_map_done(&even);
    pm_map_done(&odd);
    pm_map_done(&whole);
}

static int world_of(const struct pm_map *map, uint32_t nnodes, uint32_t nranks,
                    struct pm_world *ret_world, struct pm_map_fault *ret_fault)
{
    const struct pm_world shape = {.nnodes = nnodes, .nranks = nranks, .map_version = 1};
    struct pm_writer w = {0};
    encoded(map, &w);
    int rc = pm_world_from_bytes(&shape, w.data, w.len, ret_world, ret_fault);
    pm_writer_done(&w);
    return rc;
}

Test(placement, a_world_knows_both_ways)
{
    struct pm_map map = cyclic_map(10, 4);
    struct pm_world world;
    struct pm_map_fault fault;
    cr_assert_eq(world_of(&map, 10, 40, &world, &fault), 0);
    for (uint32_t rank = 0; rank < 40; rank++) {
        cr_assert_eq(world.node_of_rank[rank], rank % 10);
        cr_assert(pm_set_has(&world.ranks_of_node[rank % 10], rank));
    }
    cr_assert_eq(pm_set_count(&world.ranks_of_node[3]), 4);
    pm_world_release(&world);
    pm_map_done(&map);
}

Test(placement, a_node_without_ranks_is_part_of_a_world)
{
    struct pm_map map = block_map(3, 2);
    struct pm_world world;
    struct pm_map_fault fault;
    cr_assert_eq(world_of(&map, 4, 6, &world, &fault), 0);
    cr_assert(pm_set_empty(&world.ranks_of_node[3]));
    cr_assert_eq(pm_set_count(&world.hosts), 3);
    cr_assert(!pm_set_has(&world.hosts, 3));
    pm_world_release(&world);
    pm_map_done(&map);
}

Test(placement, equal_worlds_share_their_memory_and_outlive_each_other)
{
    struct pm_map map = block_map(8, 2);
    struct pm_world a, b, c, other;
    struct pm_map_fault fault;
    cr_assert_eq(world_of(&map, 8, 16, &a, &fault), 0);
    cr_assert_eq(world_of(&map, 8, 16, &b, &fault), 0);
    cr_assert_eq(world_of(&map, 9, 16, &other, &fault), 0);
    pm_world_acquire(&c, &b);
    cr_assert_eq(a.node_of_rank, c.node_of_rank);
    cr_assert_neq(a.node_of_rank, other.node_of_rank);
    pm_world_release(&a);
    pm_world_release(&b);
    pm_world_release(&other);
    cr_assert_eq(c.node_of_rank[15], 7);
    cr_assert_neq(pm_world_hash(&c), 0);
    pm_world_release(&c);
    pm_world_release(&c);
    pm_map_done(&map);
}

static void expect_fault(struct pm_map *map, enum pm_map_fault_kind kind, uint32_t rank)
{
    struct pm_world world;
    struct pm_map_fault fault;
    cr_assert_eq(world_of(map, 3, 6, &world, &fault), (int)kind);
    cr_assert_eq(fault.rank, rank);
    pm_map_done(map);
}

Test(placement, holes_overlaps_and_strangers_are_refused)
{
    struct pm_map map = {0};
    cr_assert_eq(pm_map_add(&map, 0, 2, 0), 0);
    cr_assert_eq(pm_map_add(&map, 3, 3, 1), 0);
    expect_fault(&map, PM_MAP_HOLE, 2);
    cr_assert_eq(pm_map_add(&map, 0, 4, 0), 0);
    expect_fault(&map, PM_MAP_HOLE, 4);
    cr_assert_eq(pm_map_add(&map, 0, 4, 0), 0);
    cr_assert_eq(pm_map_add(&map, 3, 3, 1), 0);
    expect_fault(&map, PM_MAP_OVERLAP, 3);
    cr_assert_eq(pm_map_add(&map, 0, 6, 3), 0);
    expect_fault(&map, PM_MAP_RANGE, 0);
    cr_assert_eq(pm_map_add(&map, 0, 7, 0), 0);
    expect_fault(&map, PM_MAP_RANGE, 0);
}

static int read_of(const uint64_t *numbers, size_t n, uint32_t max_ranks)
{
    struct pm_writer w = {0};
    struct pm_map map = {0};
    for (size_t i = 0; i < n; i++)
        pm_write_var(&w, numbers[i]);
    struct pm_reader r = pm_reader_of(w.data, w.len);
    pm_read_map(&r, &map, max_ranks);
    int rc = pm_reader_end(&r);
    pm_map_done(&map);
    pm_writer_done(&w);
    return rc;
}

// items, then rank, length, node, repeats
#define READ(max, ...)                                                                             \
    read_of((const uint64_t[]){__VA_ARGS__}, sizeof((const uint64_t[]){__VA_ARGS__}) / 8, max)

Test(placement, bad_bytes_are_refused_before_they_cost_memory)
{
    cr_assert_eq(READ(100, 1, 0, 10, 0, 10), 0);
    cr_assert_neq(READ(99, 1, 0, 10, 0, 10), 0);
    cr_assert_neq(READ(100, 1, 0, 0, 0, 1), 0);
    cr_assert_neq(READ(100, 1, 0, 1, 0, 0), 0);
    cr_assert_neq(READ(100, 1, 0, UINT64_MAX, 0, 1), 0);
    cr_assert_neq(READ(100, 1, UINT64_MAX, 1, 0, 1), 0);
    cr_assert_neq(READ(100, 1, 0, 1, PM_NODES_MAX, 1), 0);
    cr_assert_neq(READ(100, 1, 0, 1, 0, 1ull << 40), 0);
    cr_assert_neq(READ(100, 2, 0, 1, 0, 1, 0, 1, 0, 1), 0); // the same run again
    cr_assert_neq(READ(100, 2, 0, 1, 0, 1), 0);
    cr_assert_neq(READ(100, 1, 0, 1, 0, 1, 5), 0); // trailing
    cr_assert_neq(READ(100, 1ull << 31, 0), 0);
}
