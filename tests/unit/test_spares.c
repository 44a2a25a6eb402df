// SPDX-License-Identifier: Apache-2.0
//
// Spares without a step: which ranks the world has, who takes whose place, and what switches nodes share.
#include <criterion/criterion.h>
#include <stdlib.h>

#include "pmix_server/core/spares.h"

TestSuite(spares, .timeout = 20);

static struct pm_set set_of(uint32_t n, const uint32_t *nodes)
{
    struct pm_set set = {0};
    for (uint32_t i = 0; i < n; i++)
        cr_assert_eq(pm_set_add(&set, nodes[i]), 0);
    return set;
}
#define SET(...)                                                                                   \
    set_of(sizeof((uint32_t[]){__VA_ARGS__}) / sizeof(uint32_t), (const uint32_t[]){__VA_ARGS__})

static struct pm_map cyclic(uint32_t nnodes, uint32_t per_node)
{
    struct pm_map map = {0};
    for (uint32_t task = 0; task < nnodes * per_node; task++)
        cr_assert_eq(pm_map_add(&map, task, 1, task % nnodes), 0);
    return map;
}

static struct pm_map block(const uint32_t *counts, uint32_t nnodes)
{
    struct pm_map map = {0};
    for (uint32_t node = 0, task = 0; node < nnodes; task += counts[node++])
        cr_assert_eq(pm_map_add(&map, task, counts[node], node), 0);
    return map;
}

static struct pm_world world_of(const struct pm_map *map, uint32_t nnodes, uint32_t nranks)
{
    struct pm_writer w = {0};
    struct pm_world world;
    struct pm_map_fault fault;
    const struct pm_world shape = {.nnodes = nnodes, .nranks = nranks, .map_version = 1};
    pm_write_map(&w, map);
    cr_assert_eq(pm_world_from_bytes(&shape, w.data, w.len, &world, &fault), 0);
    pm_writer_done(&w);
    return world;
}

// --- the world ---------------------------------------------------------------------------------

Test(spares, the_world_of_a_cyclic_step_is_cyclic)
{
    struct pm_map tasks = cyclic(5, 3), map = {0}, wanted = cyclic(3, 3);
    uint32_t nranks;
    struct pm_set out = SET(3, 4);
    cr_assert_eq(pm_spares_without(&tasks, &out, &map, &nranks), 0);
    cr_assert_eq(nranks, 9);
    cr_assert_eq(pm_map_check(&map, 5, nranks).kind, PM_MAP_GOOD);
    struct pm_world a = world_of(&map, 5, 9), b = world_of(&wanted, 5, 9);
    for (uint32_t rank = 0; rank < 9; rank++)
        cr_assert_eq(a.node_of_rank[rank], b.node_of_rank[rank]);
    cr_assert(pm_set_empty(&a.ranks_of_node[4]));
    cr_assert_eq(pm_set_count(&a.hosts), 3);
    pm_set_done(&out);
    pm_world_release(&a);
    pm_world_release(&b);
    pm_map_done(&tasks);
    pm_map_done(&map);
    pm_map_done(&wanted);
}

Test(spares, the_world_of_a_block_step_is_the_first_nodes)
{
    struct pm_map tasks = block((const uint32_t[]){2, 3, 1, 4}, 4), map = {0};
    struct pm_set out = SET(3);
    uint32_t nranks;
    cr_assert_eq(pm_spares_without(&tasks, &out, &map, &nranks), 0);
    cr_assert_eq(nranks, 6);
    cr_assert_eq(map.n, 3);
    cr_assert_eq(map.runs[2].rank, 5);
    pm_set_done(&out);
    pm_map_done(&tasks);
    pm_map_done(&map);
}

Test(spares, one_that_offers_too_few_tasks_is_named)
{
    struct pm_small_spare small;
    struct pm_set spares = SET(2, 3), one = SET(2);
    struct pm_map even = block((const uint32_t[]){2, 2, 2, 2}, 4);
    cr_assert_eq(pm_spares_too_small(&even, 2, &spares, &small), 0);
    struct pm_map more = block((const uint32_t[]){2, 1, 2, 3}, 4);
    cr_assert_eq(pm_spares_too_small(&more, 2, &spares, &small), 0);
    struct pm_map less = block((const uint32_t[]){2, 3, 3, 2}, 4);
    cr_assert_eq(pm_spares_too_small(&less, 2, &one, &small), 0); // 3 is gone
    cr_assert_eq(pm_spares_too_small(&less, 2, &(struct pm_set){0}, &small), 0);
    cr_assert_eq(pm_spares_too_small(&less, 2, &spares, &small), 1);
    cr_assert_eq(small.spare, 3);
    cr_assert_eq(small.offers, 2);
    cr_assert_eq(small.node, 1);
    cr_assert_eq(small.needs, 3);
    pm_map_done(&even);
    pm_map_done(&more);
    pm_map_done(&less);
    pm_set_done(&spares);
    pm_set_done(&one);
}

Test(spares, ranks_of_lost_nodes_move_and_keep_their_numbers)
{
    struct pm_map tasks = cyclic(3, 2), map = {0};
    struct pm_world world = world_of(&tasks, 6, 6);
    struct pm_move list[] = {{0, 5}, {2, 3}};
    const struct pm_moves moves = {.list = list, .n = 2};
    uint32_t nranks;
    cr_assert_eq(pm_spares_map(&world, &moves, &map, &nranks), 0);
    cr_assert_eq(nranks, 6);
    struct pm_world next = world_of(&map, 6, 6);
    const uint32_t wanted[] = {5, 1, 3, 5, 1, 3};
    for (uint32_t rank = 0; rank < 6; rank++)
        cr_assert_eq(next.node_of_rank[rank], wanted[rank], "rank %u on %u", rank, next.node_of_rank[rank]);
    cr_assert(pm_set_empty(&next.ranks_of_node[0]));
    pm_world_release(&world);
    pm_world_release(&next);
    pm_map_done(&tasks);
    pm_map_done(&map);
}

// A hole closes, and what was cut in two by it is one again.
Test(spares, without_a_node_ranks_are_dense_again)
{
    struct pm_map tasks = cyclic(3, 2), map = {0};
    struct pm_world world = world_of(&tasks, 5, 6);
    struct pm_move list[] = {{0, 4}};
    struct pm_moves moves = {.list = list, .n = 1, .out = SET(1)};
    uint32_t nranks;
    cr_assert_eq(pm_spares_map(&world, &moves, &map, &nranks), 0);
    cr_assert_eq(nranks, 4);
    struct pm_world next = world_of(&map, 5, nranks);
    const uint32_t wanted[] = {4, 2, 4, 2};
    for (uint32_t rank = 0; rank < nranks; rank++)
        cr_assert_eq(next.node_of_rank[rank], wanted[rank], "rank %u on %u", rank, next.node_of_rank[rank]);
    cr_assert_eq(pm_set_count(&next.hosts), 2);
    pm_world_release(&world);
    pm_world_release(&next);
    pm_set_done(&moves.out);
    pm_map_done(&tasks);
    pm_map_done(&map);
}

// --- switches ----------------------------------------------------------------------------------

static void place(struct pm_places *places, const char *path, uint32_t first, uint32_t last)
{
    struct pm_span span = {first, last};
    const struct pm_set nodes = {.spans = &span, .n = 1};
    bool changed = false;
    cr_assert_eq(pm_places_add(places, path, &nodes, &changed), 0);
}

// 0-3 under a.s1, 4-7 under a.s12, 8-9 under b.s1, 10 under b.s1, 11 is not known.
static struct pm_places racks(void)
{
    struct pm_places places = {0};
    place(&places, "b.s1", 8, 9);
    place(&places, "a.s12", 4, 7);
    place(&places, "a.s1", 0, 3);
    place(&places, "b.s1", 10, 10);
    place(&places, "", 11, 11);
    cr_assert_eq(places.n, 3);
    return places;
}

static void expect_shared(const struct pm_places *places, struct pm_set nodes, const char *path)
{
    char buf[PM_PLACE_CAP];
    cr_expect_str_eq(pm_places_shared(places, &nodes, buf), path);
    pm_set_done(&nodes);
}

Test(spares, nodes_share_the_lowest_switch_above_all_of_them)
{
    struct pm_places places = racks();
    expect_shared(&places, SET(4, 7), "a.s12");
    expect_shared(&places, SET(4), "a.s12");
    expect_shared(&places, SET(3, 4), "a"); // s1 is no part of s12
    expect_shared(&places, SET(4, 8), "");
    expect_shared(&places, SET(8, 11), "");
    expect_shared(&places, (struct pm_set){0}, "");
    cr_assert_eq(pm_places_count(&places, "a"), 8);
    cr_assert_eq(pm_places_count(&places, "a.s1"), 4);
    cr_assert_eq(pm_places_count(&places, "b.s1"), 3);
    cr_assert_eq(pm_places_count(&places, "b.s"), 0);
    cr_assert_eq(pm_places_count(&places, ""), 0);
    pm_places_done(&places);
}

Test(spares, places_are_united_in_any_order_and_survive_the_wire)
{
    struct pm_places all = racks(), other = {0};
    bool changed = false;
    for (uint32_t i = all.n; i > 0; i--)
        place(&other, all.list[i - 1].path, all.list[i - 1].nodes.spans[0].first, 10);
    pm_places_done(&other);
    cr_assert_eq(pm_places_union(&other, &all, &changed), 0);
    cr_assert(changed);
    changed = false;
    cr_assert_eq(pm_places_union(&other, &all, &changed), 0);
    cr_assert(!changed);
    struct pm_writer w = {0};
    pm_write_places(&w, &other);
    struct pm_reader r = pm_reader_of(w.data, w.len);
    struct pm_places back = {0};
    pm_read_places(&r, &back, 12);
    cr_assert_eq(pm_reader_end(&r), 0);
    cr_assert_eq(back.n, 3);
    for (uint32_t i = 0; i < 3; i++) {
        cr_assert_str_eq(back.list[i].path, all.list[i].path);
        cr_assert(pm_set_equal(&back.list[i].nodes, &all.list[i].nodes));
    }
    pm_places_done(&back);
    r = pm_reader_of(w.data, w.len);
    pm_read_places(&r, &back, 10); // there is no node 10
    cr_assert_neq(pm_reader_end(&r), 0);
    pm_places_done(&back);
    pm_places_done(&all);
    pm_places_done(&other);
    pm_writer_done(&w);
}

Test(spares, a_path_out_of_order_or_without_nodes_is_refused)
{
    struct pm_set one = SET(1), none = {0};
    const struct {
        const char *first, *second;
        const struct pm_set *nodes;
    } bad[] = {{"b", "a", &one}, {"a", "a", &one}, {"a", "b", &none}, {"", "a", &one}};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct pm_writer w = {0};
        struct pm_places places = {0};
        pm_write_var(&w, 2);
        pm_write_str(&w, bad[i].first);
        pm_write_set(&w, &one);
        pm_write_str(&w, bad[i].second);
        pm_write_set(&w, bad[i].nodes);
        struct pm_reader r = pm_reader_of(w.data, w.len);
        pm_read_places(&r, &places, 12);
        cr_expect_neq(pm_reader_end(&r), 0, "%zu", i);
        pm_places_done(&places);
        pm_writer_done(&w);
    }
    pm_set_done(&one);
}

// --- who takes over ----------------------------------------------------------------------------

static void expect_choice(struct pm_set lost, struct pm_set ready, uint32_t n, const struct pm_move *wanted)
{
    struct pm_places places = racks();
    const struct pm_places none = {0};
    const struct pm_removal removal = {.lost = &lost, .ready = &ready, .places = &places, .sizes = &none};
    struct pm_moves got = {0};
    cr_assert_eq(pm_spares_choose(&removal, &got), 0);
    cr_expect_eq(got.n, n);
    for (uint32_t i = 0; i < got.n && i < n; i++) {
        cr_expect(got.list[i].from == wanted[i].from && got.list[i].to == wanted[i].to, "%u to %u", got.list[i].from,
                  got.list[i].to);
        cr_expect(pm_set_has(&got.from, wanted[i].from) && pm_set_has(&got.to, wanted[i].to));
    }
    cr_expect_eq(pm_set_count(&got.from) + pm_set_count(&got.out), pm_set_count(&lost));
    cr_expect(!pm_set_intersects(&got.from, &got.out));
    pm_moves_done(&got);
    pm_places_done(&places);
    pm_set_done(&lost);
    pm_set_done(&ready);
}

Test(spares, those_under_another_switch_come_first)
{
    expect_choice(SET(4, 5), SET(6, 7, 8, 9), 2, (const struct pm_move[]){{4, 8}, {5, 9}});
    expect_choice(SET(4, 5), SET(6, 8), 2, (const struct pm_move[]){{4, 8}, {5, 6}});
    expect_choice(SET(4), SET(7, 11), 1, (const struct pm_move[]){{4, 11}});
    expect_choice(SET(4, 8), SET(6, 7), 2, (const struct pm_move[]){{4, 6}, {8, 7}}); // they share none
    expect_choice(SET(4, 5), SET(9), 1, (const struct pm_move[]){{4, 9}});
    expect_choice(SET(4), (struct pm_set){0}, 0, NULL);
}

// --- sizes -------------------------------------------------------------------------------------

static void size(struct pm_places *sizes, uint32_t node, uint32_t gpus, uint64_t memory_mib)
{
    bool changed = false;
    cr_assert_eq(pm_sizes_add(sizes, &(struct pm_size){gpus, memory_mib}, node, &changed), 0);
}

static void expect_moves(const struct pm_places *sizes, struct pm_set lost, struct pm_set ready, uint32_t n,
                         const struct pm_move *wanted)
{
    const struct pm_places none = {0};
    const struct pm_removal removal = {.lost = &lost, .ready = &ready, .places = &none, .sizes = sizes};
    struct pm_moves got = {0};
    cr_assert_eq(pm_spares_choose(&removal, &got), 0);
    cr_expect_eq(got.n, n);
    for (uint32_t i = 0; i < got.n && i < n; i++)
        cr_expect(got.list[i].from == wanted[i].from && got.list[i].to == wanted[i].to, "%u to %u", got.list[i].from,
                  got.list[i].to);
    cr_expect_eq(pm_set_count(&got.out), pm_set_count(&lost) - n);
    pm_moves_done(&got);
    pm_set_done(&lost);
    pm_set_done(&ready);
}

Test(spares, a_size_is_what_was_said_of_the_node)
{
    struct pm_places sizes = {0};
    size(&sizes, 3, 4, 2048);
    size(&sizes, 5, 4, 2048);
    size(&sizes, 6, 0, 0);
    size(&sizes, 7, 8, 0);
    cr_assert_eq(sizes.n, 2); // equal ones are one line, and nothing is none
    cr_assert_eq(pm_sizes_of(&sizes, 5).gpus, 4);
    cr_assert_eq(pm_sizes_of(&sizes, 5).memory_mib, 2048);
    cr_assert_eq(pm_sizes_of(&sizes, 6).gpus, 0);
    cr_assert_eq(pm_sizes_of(&sizes, 7).memory_mib, 0);
    pm_places_done(&sizes);
    bool changed;
    struct pm_set nonsense = SET(1);
    cr_assert_eq(pm_places_add(&sizes, "many GPUs", &nonsense, &changed), 0);
    cr_assert_eq(pm_sizes_of(&sizes, 1).gpus, 0);
    pm_places_done(&sizes);
    pm_set_done(&nonsense);
}

Test(spares, one_fits_that_has_no_less)
{
    static const struct {
        struct pm_size need, offer;
        bool fits;
    } cases[] = {
        {{4, 1000}, {4, 1000}, true}, {{4, 1000}, {3, 2000}, false}, {{4, 1000}, {8, 999}, false},
        {{0, 0}, {0, 0}, true},       {{0, 1000}, {0, 0}, true},     {{0, 0}, {0, 1}, true},
        {{1, 0}, {0, 0}, false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        cr_expect_eq(pm_size_fits(&cases[i].need, &cases[i].offer), cases[i].fits, "case %zu", i);
}

// 0: 8 GPUs, 1: 4, 2: 4 and much memory; 10: 4, 11: 8, 12: 8 and much memory, 13: none.
static struct pm_places unlike(void)
{
    struct pm_places sizes = {0};
    size(&sizes, 0, 8, 1000);
    size(&sizes, 1, 4, 1000);
    size(&sizes, 2, 4, 9000);
    size(&sizes, 10, 4, 1000);
    size(&sizes, 11, 8, 1000);
    size(&sizes, 12, 8, 9000);
    return sizes;
}

Test(spares, the_smallest_that_is_large_enough_takes_over)
{
    struct pm_places sizes = unlike();
    expect_moves(&sizes, SET(1), SET(10, 11, 12, 13), 1, (const struct pm_move[]){{1, 10}});
    expect_moves(&sizes, SET(0), SET(10, 11, 12, 13), 1, (const struct pm_move[]){{0, 11}});
    expect_moves(&sizes, SET(2), SET(10, 11, 12, 13), 1, (const struct pm_move[]){{2, 12}});
    expect_moves(&sizes, SET(0), SET(10, 13), 0, NULL);
    expect_moves(&sizes, SET(0, 1, 2), SET(10, 11, 12), 3, (const struct pm_move[]){{0, 11}, {1, 10}, {2, 12}});
    expect_moves(&sizes, SET(0, 1), SET(11, 13), 1, (const struct pm_move[]){{0, 11}});
    pm_places_done(&sizes);
}

Test(spares, one_that_can_replace_nobody_is_named)
{
    struct pm_places sizes = unlike();
    struct pm_move useless;
    struct pm_set useful = SET(10, 11), all = SET(10, 11, 13);
    cr_assert_eq(pm_spares_useless(&sizes, 3, &useful, &useless), 0);
    cr_assert_eq(pm_spares_useless(&sizes, 3, &all, &useless), 1);
    cr_assert_eq(useless.to, 13);
    cr_assert_eq(useless.from, 1);
    cr_assert_eq(pm_spares_useless(&(struct pm_places){0}, 3, &all, &useless), 0);
    pm_places_done(&sizes);
    pm_set_done(&useful);
    pm_set_done(&all);
}

// One of which nothing is known needs nothing, so that every spare is of use.
Test(spares, none_is_useless_beside_a_node_of_unknown_size)
{
    struct pm_places sizes = unlike();
    struct pm_move useless;
    struct pm_set none = SET(13);
    cr_assert_eq(pm_spares_useless(&sizes, 4, &none, &useless), 0);
    cr_assert_eq(pm_spares_useless(&sizes, 3, &none, &useless), 1);
    pm_places_done(&sizes);
    pm_set_done(&none);
}
