// SPDX-License-Identifier: Apache-2.0
//
// Fences and modexes of whole cores (core_harness.h): with the real tree, leases and supervision
// around them, links that are reset, nodes and ranks that are lost in the middle.
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/core_harness.h"

TestSuite(fence_tree, .timeout = 100);

enum { NODES = 20, RANKS = 2, IDS = 64 };

// What each node's server was told, per id: FENCE_DONE and MODEX_DONE share the numbers here.
struct answers {
    struct harness *h;
    unsigned n[NODES][IDS];
    int32_t status[NODES][IDS];
    uint64_t hash[NODES][IDS];
    uint64_t state;
};

static uint64_t hash_of(const uint8_t *data, size_t len)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < len; i++)
        h = (h ^ data[i]) * 0x100000001b3u;
    return h;
}

static bool on_action(struct harness *h, void *ctx, uint32_t node, const struct pm_action *action)
{
    (void)h;
    struct answers *a = ctx;
    if (action->type != PM_ACTION_FENCE_DONE && action->type != PM_ACTION_MODEX_DONE)
        return false;
    cr_assert(node < NODES && action->id < IDS);
    cr_assert_eq(++a->n[node][action->id], 1, "node %u, id %u: answered twice", node,
                 (unsigned)action->id);
    a->status[node][action->id] = action->status;
    a->hash[node][action->id] = hash_of(action->data, action->len);
    return true;
}

// `piece`: bytes of a result in a frame, 0: all of them.
static void start(struct answers *a, uint32_t fanout, uint32_t piece)
{
    static struct pm_options options;
    harness_default_options(&options);
    options.fanout = fanout;
    const struct harness_config config = {
        .nnodes = NODES, .ranks_per_node = RANKS, .options = &options, .fence_piece = piece,
        .hook = on_action, .ctx = a};
    a->h = harness_new(&config);
    harness_launch(a->h, 0);
    cr_assert(harness_run_until_state(a->h, PM_STATE_RUNNING, 20000));
}

static uint32_t random_below(struct answers *a, uint32_t n)
{
    uint64_t z = a->state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (uint32_t)((z ^ (z >> 31)) % n);
}

// Nodes [first, last] enter a fence over all their ranks.
static void enter(struct answers *a, uint32_t node, uint32_t first, uint32_t last, uint64_t id,
                  uint32_t epoch)
{
    char data[16];
    struct pm_set ranks = {0};
    cr_assert_eq(pm_set_add_span(&ranks, first * RANKS, (last + 1) * RANKS - 1), 0);
    snprintf(data, sizeof(data), "%u;", node);
    struct pm_event event = {.type = PM_EVENT_FENCE,
                             .epoch = epoch,
                             .id = id,
                             .set = &ranks,
                             .flag_collect = id % 2,
                             .data = (const uint8_t *)data,
                             .len = strlen(data)};
    harness_post(a->h, node, &event, 0);
    pm_set_done(&ranks);
}

static void expect(const struct answers *a, uint32_t first, uint32_t last, uint64_t id,
                   int32_t status)
{
    for (uint32_t i = first; i <= last; i++) {
        cr_assert_eq(a->n[i][id], 1, "node %u has no answer for %u", i, (unsigned)id);
        cr_assert_eq(a->status[i][id], status, "node %u: status %d", i, a->status[i][id]);
        cr_assert_eq(a->hash[i][id], a->hash[first][id], "other bytes at node %u", i);
    }
}

// Fences over three sets and a modex of each node, while links break.
static void run_with_resets(uint64_t seed)
{
    static const uint32_t sets[3][2] = {{0, NODES - 1}, {0, 9}, {7, 15}};
    struct answers a = {.state = seed};
    start(&a, 2 + (uint32_t)(seed % 3), seed % 2 ? 0 : 1 + (uint32_t)(seed % 11));
    for (uint32_t k = 0; k < 3; k++) {
        for (uint32_t round = 0; round < 5; round++) {
            for (uint32_t node = sets[k][0]; node <= sets[k][1]; node++)
                enter(&a, node, sets[k][0], sets[k][1], 1 + 5 * k + round, 0);
        }
    }
    for (uint32_t node = 0; node < NODES; node++) {
        const struct pm_event modex = {
            .type = PM_EVENT_MODEX, .id = 40, .rank = random_below(&a, NODES * RANKS)};
        harness_post(a.h, node, &modex, 0);
    }
    for (int i = 0; i < 30; i++) {
        for (uint32_t left = random_below(&a, 60); left > 0; left--)
            harness_step(a.h);
        harness_reset_link(a.h, random_below(&a, NODES),
                           random_below(&a, 5) ? random_below(&a, 7) : PM_NODE_COORDINATOR);
    }
    harness_run_ms(a.h, 8000);
    cr_assert_eq(pm_core_state(harness_core(a.h, PM_NODE_COORDINATOR)), PM_STATE_RUNNING,
                 "seed %u: %s", (unsigned)seed, harness_said(a.h));
    for (uint32_t k = 0; k < 3; k++) {
        for (uint32_t round = 0; round < 5; round++)
            expect(&a, sets[k][0], sets[k][1], 1 + 5 * k + round, PM_STATUS_OK);
    }
    for (uint32_t node = 0; node < NODES; node++) {
        cr_assert_eq(a.n[node][40], 1, "node %u: no modex", node);
        cr_assert_eq(a.status[node][40], PM_STATUS_OK);
    }
    harness_free(a.h);
}

Test(fence_tree, fences_and_modexes_survive_links_that_break)
{
    const char *seeds = getenv("PM_SEEDS");
    uint64_t n_seeds = seeds ? strtoull(seeds, NULL, 10) : 60;
    for (uint64_t seed = 1; seed <= n_seeds; seed++)
        run_with_resets(seed);
}

Test(fence_tree, node_lost_in_a_fence_ends_it_for_all_who_live)
{
    struct answers a = {.state = 1};
    start(&a, 3, 0);
    for (uint32_t node = 0; node < NODES - 1; node++)
        enter(&a, node, 0, NODES - 1, 1, 0);
    for (uint32_t node = 0; node < 5; node++)
        enter(&a, node, 0, 4, 2, 0);
    harness_run_ms(a.h, 500);
    expect(&a, 0, 4, 2, PM_STATUS_OK);
    harness_kill(a.h, 1); // an inner node
    cr_assert(harness_run_until_exit(a.h, 60000));
    for (uint32_t node = 0; node < NODES - 1; node++) {
        if (node == 1)
            continue;
        cr_assert_eq(a.n[node][1], 1, "node %u waits", node);
        cr_assert(a.status[node][1] == PM_STATUS_LOST || a.status[node][1] == PM_STATUS_ABORTED);
    }
    harness_free(a.h);
}

Test(fence_tree, restart_in_a_fence_aborts_it_and_the_next_epoch_fences_again)
{
    struct answers a = {.state = 1};
    start(&a, 3, 0);
    for (uint32_t node = 0; node < NODES - 1; node++)
        enter(&a, node, 0, NODES - 1, 1, 0);
    harness_run_ms(a.h, 100);
    harness_rank_ends(a.h, NODES - 1, 0, 11);
    cr_assert(harness_run_until_state(a.h, PM_STATE_HALTING, 20000));
    cr_assert(harness_run_until_state(a.h, PM_STATE_RUNNING, 20000));
    for (uint32_t node = 0; node < NODES - 1; node++) {
        cr_assert_eq(a.n[node][1], 1, "node %u waits", node);
        cr_assert_neq(a.status[node][1], PM_STATUS_OK);
    }
    for (uint32_t node = 0; node < NODES; node++)
        enter(&a, node, 0, NODES - 1, 3, 1);
    harness_run_ms(a.h, 1000);
    expect(&a, 0, NODES - 1, 3, PM_STATUS_OK);
    enter(&a, 0, 0, NODES - 1, 5, 0); // the old epoch's server, late
    harness_run_ms(a.h, 100);
    cr_assert_eq(a.status[0][5], PM_STATUS_ABORTED);
    harness_free(a.h);
}

static void post_rank(struct answers *a, uint32_t node, uint32_t local, enum pm_event_type type)
{
    const struct pm_event event = {.type = type, .local = local, .rank = node * RANKS + local};
    harness_post(a->h, node, &event, 0);
}

Test(fence_tree, rank_that_left_without_finalize_is_a_failure_once_a_fence_waits_for_it)
{
    struct answers a = {.state = 1};
    start(&a, 3, 0);
    for (uint32_t node = 0; node < NODES; node++) {
        for (uint32_t local = 0; local < RANKS; local++)
            post_rank(&a, node, local, PM_EVENT_CONNECTED);
    }
    harness_run_ms(a.h, 100);
    harness_rank_ends(a.h, 17, 0, 0);
    harness_run_ms(a.h, 3000);
    cr_assert_eq(pm_core_state(harness_core(a.h, PM_NODE_COORDINATOR)), PM_STATE_RUNNING);
    for (uint32_t node = 0; node < 5; node++)
        enter(&a, node, 0, 4, 2, 0); // others' fence
    for (uint32_t node = 0; node < 3; node++)
        enter(&a, node, 0, NODES - 1, 1, 0);
    harness_run_ms(a.h, 10);
    expect(&a, 0, 4, 2, PM_STATUS_OK);
    cr_assert(harness_run_until_state(a.h, PM_STATE_HALTING, 5000), "%s", harness_said(a.h));
    for (uint32_t node = 0; node < 3; node++) {
        cr_assert_eq(a.n[node][1], 1, "node %u waits", node);
        cr_assert_eq(a.status[node][1], PM_STATUS_LOST);
    }
    cr_assert(strstr(harness_said(a.h), "rank 34"), "%s", harness_said(a.h));
    harness_free(a.h);
}
