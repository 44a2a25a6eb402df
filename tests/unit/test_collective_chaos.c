// SPDX-License-Identifier: Apache-2.0
//
// Many fences at once over a tree that changes at random, with and without losses, also in pieces: decided once,
// answered once, the same for all.
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/collective_fences.h"

TestSuite(collective_chaos, .timeout = 120);

// Four sets of 20 nodes that overlap; every node enters ROUNDS fences of each of its sets.
enum { CHAOS_NODES = 20, CHAOS_SETS = 4, CHAOS_ROUNDS = 6 };
struct chaos {
    struct net *net;
    struct pm_set sets[CHAOS_SETS];
    uint32_t entered[CHAOS_NODES][CHAOS_SETS];
};

static bool chaos_enter(struct chaos *c, uint32_t node, uint32_t k)
{
    bool is_member = pm_set_next(&c->sets[k], 2 * node) <= 2 * node + 1;
    if (!is_member || c->entered[node][k] == CHAOS_ROUNDS)
        return false;
    uint64_t id = k * 100 + ++c->entered[node][k];
    enter(c->net, node, node,
          (struct net_fence){.id = id, .ranks = &c->sets[k], .collect = k != 1});
    return true;
}

static void chaos_act(struct chaos *c)
{
    struct net *net = c->net;
    uint32_t node = (uint32_t)net_random(net, CHAOS_NODES);
    uint64_t what = net_random(net, 100);
    if (what < 20)
        chaos_enter(c, node, (uint32_t)net_random(net, CHAOS_SETS));
    else if (what < 22)
        net_move(net, node,
                 net_random(net, 3) ? (uint32_t)net_random(net, CHAOS_NODES) : PM_NODE_COORDINATOR);
    else if (what < 23)
        net_advance(net, net_random(net, 100));
    else
        net_step(net);
}

static void chaos_check(const struct chaos *c, uint32_t k)
{
    uint32_t first = c->sets[k].spans[0].first / 2, last = c->sets[k].spans[0].last / 2;
    char expected[128] = "";
    for (uint32_t i = first; k != 1 && i <= last; i++)
        sprintf(expected + strlen(expected), "%u;", i);
    for (uint64_t round = 1; round <= CHAOS_ROUNDS; round++) {
        expect(c->net, first, last, k * 100 + round, PM_STATUS_OK);
        for (uint32_t i = first; i <= last; i++)
            expect_data(c->net, i, k * 100 + round, expected);
    }
}

// With losses: whatever a round came to, it came to the same for all who entered.
static void chaos_check_equal(const struct chaos *c, uint32_t k)
{
    for (uint64_t round = 1; round <= CHAOS_ROUNDS; round++) {
        const struct net_done *first = NULL;
        for (uint32_t i = 0; i < CHAOS_NODES; i++) {
            if (c->entered[i][k] < round)
                continue;
            const struct net_done *d = net_answer(c->net, i, k * 100 + round);
            cr_assert(d, "node %u has no answer for %u (seed %u)", i, (unsigned)(k * 100 + round),
                      (unsigned)current_seed);
            first = first ? first : d;
            cr_assert_eq(d->status, first->status);
            cr_assert_eq(d->len, first->len);
            cr_assert(d->len == 0 || memcmp(d->data, first->data, d->len) == 0);
        }
    }
}

static void chaos_run(uint64_t seed, bool with_losses, bool is_blind, uint32_t piece)
{
    struct chaos c = {.sets = {span(0, 39), span(0, 19), span(10, 29), span(33, 34)}};
    c.net = net_new(CHAOS_NODES, 2, 2 + (uint32_t)(seed % 3));
    c.net->shuffle = seed * 77;
    c.net->is_blind = is_blind;
    for (uint32_t i = 0; i <= CHAOS_NODES; i++)
        c.net->cores[i].config.fence_piece = piece;
    for (uint32_t left = 2000; left > 0; left--) {
        chaos_act(&c);
        if (with_losses && left < 1500 && net_random(c.net, 500) == 0)
            lose(c.net, 0, (uint32_t)net_random(c.net, 2 * CHAOS_NODES));
    }
    for (uint32_t i = 0; i < CHAOS_NODES * CHAOS_SETS; i++) {
        while (chaos_enter(&c, i / CHAOS_SETS, i % CHAOS_SETS)) {
        }
    }
    net_advance(c.net, 5000);
    for (uint32_t k = 0; k < CHAOS_SETS; k++) {
        if (with_losses)
            chaos_check_equal(&c, k);
        else
            chaos_check(&c, k);
    }
    cr_assert_eq(c.net->rejected, 0);
    for (uint32_t k = 0; k < CHAOS_SETS; k++)
        pm_set_done(&c.sets[k]);
    net_free(c.net);
}

// PM_SEEDS=N: as many random schedules. `piece`: bytes of a fence in a frame; 0: all of them.
static void chaos_run_all(bool with_losses, bool is_blind, uint32_t piece)
{
    const char *seeds = getenv("PM_SEEDS");
    uint64_t n_seeds = seeds ? strtoull(seeds, NULL, 10) : 200;
    for (current_seed = 1; current_seed <= n_seeds; current_seed++)
        chaos_run(current_seed, with_losses, is_blind, piece);
}

Test(collective_chaos, decided_once_and_answered_once_under_random_changes)
{
    chaos_run_all(false, false, 0);
}

Test(collective_chaos, same_answer_for_all_under_random_changes_and_losses)
{
    chaos_run_all(true, false, 0);
}

Test(collective_chaos, nothing_depends_on_knowing_who_hangs_below_under_random_changes)
{
    chaos_run_all(false, true, 0);
    chaos_run_all(true, true, 0);
}

Test(collective_chaos, results_in_pieces_are_whole_and_the_same_under_random_changes)
{
    static const uint32_t pieces[] = {1, 7, 30};
    for (size_t i = 0; i < sizeof(pieces) / sizeof(*pieces); i++) {
        chaos_run_all(false, false, pieces[i]);
        chaos_run_all(true, false, pieces[i]);
        chaos_run_all(false, true, pieces[i]);
        chaos_run_all(true, true, pieces[i]);
    }
}
