// SPDX-License-Identifier: Apache-2.0
//
// Who takes whose place, of many: the same choice as the slow way makes, and none that takes minutes.
#include <criterion/criterion.h>
#include <stdio.h>

#include "pmix_server/core/spares.h"

TestSuite(spares_many, .timeout = 20);

static void place(struct pm_places *places, const char *path, uint32_t first, uint32_t last)
{
    struct pm_span span = {first, last};
    const struct pm_set nodes = {.spans = &span, .n = 1};
    bool changed = false;
    cr_assert_eq(pm_places_add(places, path, &nodes, &changed), 0);
}

static void size(struct pm_places *sizes, uint32_t node, uint32_t gpus, uint64_t memory_mib)
{
    bool changed = false;
    cr_assert_eq(pm_sizes_add(sizes, &(struct pm_size){gpus, memory_mib}, node, &changed), 0);
}

// What spares.h says of the choice, word by word: slow, and simple enough to be right.
static bool is_better(const struct pm_removal *r, const char *path, uint32_t a, uint32_t b)
{
    const struct pm_switch at_a = {.path = (char *)pm_places_of(r->places, a)};
    const struct pm_switch at_b = {.path = (char *)pm_places_of(r->places, b)};
    bool below_a = pm_switch_is_below(&at_a, path), below_b = pm_switch_is_below(&at_b, path);
    const struct pm_size size_a = pm_sizes_of(r->sizes, a), size_b = pm_sizes_of(r->sizes, b);
    int order = pm_size_compare(&size_a, &size_b);
    return below_a != below_b ? below_b : order < 0 || (order == 0 && a < b);
}

static uint32_t choose_slowly(const struct pm_removal *r, uint32_t from, const struct pm_set *taken)
{
    char path[PM_PLACE_CAP];
    uint32_t best = UINT32_MAX;
    const struct pm_size need = pm_sizes_of(r->sizes, from);
    (void)pm_places_shared(r->places, r->lost, path);
    for (uint32_t node = pm_set_next(r->ready, 0); node != UINT32_MAX; node = pm_set_next(r->ready, node + 1)) {
        const struct pm_size offer = pm_sizes_of(r->sizes, node);
        if (!pm_set_has(taken, node) && pm_size_fits(&need, &offer) &&
            (best == UINT32_MAX || is_better(r, path, node, best)))
            best = node;
    }
    return best;
}

static uint32_t next_lost(const struct pm_removal *r, const struct pm_set *done)
{
    uint32_t most = UINT32_MAX;
    for (uint32_t node = pm_set_next(r->lost, 0); node != UINT32_MAX; node = pm_set_next(r->lost, node + 1)) {
        const struct pm_size size = pm_sizes_of(r->sizes, node), largest = pm_sizes_of(r->sizes, most);
        if (!pm_set_has(done, node) && (most == UINT32_MAX || pm_size_compare(&size, &largest) > 0))
            most = node;
    }
    return most;
}

static void expect_as_slowly(const struct pm_removal *r)
{
    struct pm_moves got = {0};
    struct pm_set done = {0}, taken = {0};
    uint32_t at, n = 0;
    cr_assert_eq(pm_spares_choose(r, &got), 0);
    for (uint32_t from; (from = next_lost(r, &done)) != UINT32_MAX;) {
        uint32_t to = choose_slowly(r, from, &taken);
        cr_assert_eq(pm_set_add(&done, from), 0);
        cr_assert_eq(pm_set_has(&got.out, from), to == UINT32_MAX);
        if (to == UINT32_MAX)
            continue;
        cr_assert_eq(pm_set_add(&taken, to), 0);
        for (at = 0, n++; at < got.n && got.list[at].from != from; at++)
            ;
        cr_assert(at < got.n && got.list[at].to == to, "%u does not move to %u", from, to);
        cr_assert(at == 0 || got.list[at - 1].from < from);
    }
    cr_assert_eq(got.n, n);
    cr_assert(pm_set_equal(&got.to, &taken));
    pm_set_done(&done);
    pm_set_done(&taken);
    pm_moves_done(&got);
}

Test(spares_many, any_choice_is_the_one_that_is_described)
{
    static const char *const paths[] = {"", "a", "a.s1", "a.s12", "a.s1.x", "b.s1"};
    uint32_t seed = 1;
    for (uint32_t round = 0; round < 2000; round++) {
        struct pm_places places = {0}, sizes = {0};
        struct pm_set lost = {0}, ready = {0};
        for (uint32_t node = 0; node < 24; node++) {
            seed = seed * 1664525u + 1013904223u;
            place(&places, paths[(seed >> 8) % (round % 6 + 1)], node, node);
            size(&sizes, node, (seed >> 12) % (round % 3 + 1), (seed >> 16) % (round % 4 + 1));
            if (seed >> 30)
                cr_assert_eq(pm_set_add(seed >> 31 ? &ready : &lost, node), 0);
        }
        const struct pm_removal removal = {.lost = &lost, .ready = &ready, .places = &places, .sizes = &sizes};
        expect_as_slowly(&removal);
        pm_places_done(&places);
        pm_places_done(&sizes);
        pm_set_done(&lost);
        pm_set_done(&ready);
    }
}

// Half of 131,072 nodes wait, and each has its two tasks in two runs (--distribution=cyclic).
Test(spares_many, who_is_too_small_is_found_in_one_look)
{
    enum { NODES = 131072, SPARES = NODES / 2 };
    struct pm_map tasks = {0};
    struct pm_set spares = {0};
    struct pm_small_spare small;
    cr_assert_eq(pm_set_add_span(&spares, NODES - SPARES, NODES - 1), 0);
    for (uint32_t rank = 0; rank < 2 * NODES - 1; rank++)
        cr_assert_eq(pm_map_add(&tasks, rank, 1, rank % NODES), 0);
    cr_assert_eq(pm_spares_too_small(&tasks, NODES - SPARES, &spares, &small), 1);
    cr_expect(small.spare == NODES - 1 && small.offers == 1 && small.node == 0 && small.needs == 2);
    pm_map_done(&tasks);
    pm_set_done(&spares);
}

// A machine of 4,096 leaf switches of 32 nodes that loses 512 of them, one after the other: nothing here is looked up for
// each pair of a lost node and a spare, or this would take minutes.
Test(spares_many, a_choice_among_many_is_no_matter_of_minutes)
{
    enum { LEAVES = 4096, PER_LEAF = 32, SPARES = 1024, LOST = 512, FIRST_SPARE = LEAVES * PER_LEAF - SPARES };
    struct pm_places places = {0}, sizes = {0};
    struct pm_set lost = {0}, ready = {0};
    struct pm_move useless;
    for (uint32_t leaf = 0; leaf < LEAVES; leaf++) {
        char path[32];
        (void)snprintf(path, sizeof(path), "top.s%04u", leaf);
        place(&places, path, leaf * PER_LEAF, leaf * PER_LEAF + PER_LEAF - 1);
    }
    place(&sizes, "4 2000", 0, FIRST_SPARE - 1);
    place(&sizes, "4 1000", FIRST_SPARE, FIRST_SPARE + SPARES / 2 - 1);
    place(&sizes, "4 3000", FIRST_SPARE + SPARES / 2, FIRST_SPARE + SPARES - 1);
    cr_assert_eq(pm_set_add_span(&ready, FIRST_SPARE, FIRST_SPARE + SPARES - 1), 0);
    for (uint32_t i = 0; i < LOST; i++) {
        const struct pm_removal removal = {.lost = &lost, .ready = &ready, .places = &places, .sizes = &sizes};
        struct pm_moves got = {0};
        cr_assert_eq(pm_set_add(&lost, i * (FIRST_SPARE / LOST)), 0);
        cr_assert_eq(pm_spares_choose(&removal, &got), 0);
        cr_assert_eq(got.n, i + 1);
        cr_assert_eq(got.list[i].to, FIRST_SPARE + SPARES / 2 + i);
        pm_moves_done(&got);
    }
    cr_assert_eq(pm_spares_useless(&sizes, FIRST_SPARE, &ready, &useless), 1);
    cr_assert_eq(useless.to, FIRST_SPARE);
    pm_places_done(&places);
    pm_places_done(&sizes);
    pm_set_done(&lost);
    pm_set_done(&ready);
}
