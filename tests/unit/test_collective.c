// SPDX-License-Identifier: Apache-2.0
//
// Fences over a tree of collective modules without links (collective_net.h): completeness, order of
// the result, several fences at once, losses, timeouts, changes of the tree, limits.
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/collective_net.h"

TestSuite(collective, .timeout = 120);

static void clear_set(struct pm_set *s)
{
    pm_set_done(s);
}
#define SET __attribute__((cleanup(clear_set))) struct pm_set

static uint64_t current_seed; // named when a random run fails

static struct pm_set span(uint32_t first, uint32_t last)
{
    struct pm_set s = {0};
    pm_set_add_span(&s, first, last);
    return s;
}

// Nodes [first, last] enter the fence with this id.
static void enter(struct net *net, uint32_t first, uint32_t last, struct net_fence fence)
{
    for (uint32_t i = first; i <= last; i++) {
        fence.node = i;
        net_fence(net, &fence);
    }
}

static void expect(const struct net *net, uint32_t first, uint32_t last, uint64_t id,
                   int32_t status)
{
    for (uint32_t i = first; i <= last; i++) {
        const struct net_done *d = net_answer(net, i, id);
        cr_assert(d, "node %u has no answer for %u (seed %u)", i, (unsigned)id,
                  (unsigned)current_seed);
        cr_assert_eq(d->status, status, "node %u: status %d, not %d", i, d->status, status);
    }
}

static void expect_none(const struct net *net, uint32_t first, uint32_t last, uint64_t id)
{
    for (uint32_t i = first; i <= last; i++)
        cr_assert_null(net_answer(net, i, id), "node %u left early", i);
}

static void expect_data(const struct net *net, uint32_t node, uint64_t id, const char *data)
{
    const struct net_done *d = net_answer(net, node, id);
    cr_assert(d);
    cr_assert_eq(d->len, strlen(data), "node %u: %zu bytes, not %zu", node, d->len, strlen(data));
    cr_assert(d->len == 0 || memcmp(d->data, data, d->len) == 0);
}

// "0;1;...;n-1;"
static char *all_data(uint32_t n)
{
    char *text = calloc(n, 12);
    size_t at = 0;
    for (uint32_t i = 0; i < n; i++)
        at += (size_t)sprintf(text + at, "%u;", i);
    return text;
}

Test(collective, fence_ends_on_every_node_when_the_last_has_come)
{
    struct net *net = net_new(40, 2, 3);
    SET all = span(0, 79);
    enter(net, 0, 38, (struct net_fence){.id = 1, .ranks = &all});
    net_advance(net, 10000);
    expect_none(net, 0, 39, 1);
    enter(net, 39, 39, (struct net_fence){.id = 1, .ranks = &all});
    net_run(net);
    expect(net, 0, 39, 1, PM_STATUS_OK);
    net_free(net);
}

Test(collective, every_late_node_is_waited_for)
{
    for (uint32_t late = 0; late < 13; late++) {
        struct net *net = net_new(13, 1, 3);
        SET all = span(0, 12);
        for (uint32_t i = 0; i < 13; i++) {
            if (i != late)
                enter(net, i, i, (struct net_fence){.id = 1, .ranks = &all, .collect = late % 2});
        }
        net_advance(net, 5000);
        expect_none(net, 0, 12, 1);
        enter(net, late, late, (struct net_fence){.id = 1, .ranks = &all, .collect = late % 2});
        net_run(net);
        expect(net, 0, 12, 1, PM_STATUS_OK);
        net_free(net);
    }
}

Test(collective, collected_data_is_in_node_order_and_the_same_everywhere)
{
    struct net *net = net_new(30, 4, 3);
    net->shuffle = 7;
    SET all = span(0, 119);
    char *expected = all_data(30);
    for (uint32_t i = 0; i < 30; i++)
        enter(net, 29 - i, 29 - i, (struct net_fence){.id = 1, .ranks = &all, .collect = true});
    net_run(net);
    for (uint32_t i = 0; i < 30; i++)
        expect_data(net, i, 1, expected);
    free(expected);
    net_free(net);
}

Test(collective, bare_fence_carries_nothing_even_if_data_came)
{
    struct net *net = net_new(5, 1, 2);
    SET all = span(0, 4);
    enter(net, 0, 4, (struct net_fence){.id = 1, .ranks = &all, .data = "precious"});
    for (size_t i = 0; i < net->n_queue; i++)
        cr_assert_null(memmem(net->queue[i].data, net->queue[i].len, "precious", 8));
    net_run(net);
    expect(net, 0, 4, 1, PM_STATUS_OK);
    expect_data(net, 3, 1, "");
    net_free(net);
}

Test(collective, one_frame_up_and_one_down_per_link_when_all_come_in_time)
{
    struct net *net = net_new(40, 2, 3);
    SET all = span(0, 79);
    enter(net, 0, 39, (struct net_fence){.id = 1, .ranks = &all});
    net_run(net);
    cr_assert_eq(net->sent, 80);
    cr_assert_eq(net->root_frames, 3);
    net_free(net);
}

Test(collective, node_outside_the_set_only_forwards)
{
    struct net *net = net_new(12, 2, 2);
    SET far = span(16, 23); // nodes 8..11, below 3 and 4, below 0 and 1
    enter(net, 8, 11, (struct net_fence){.id = 1, .ranks = &far, .collect = true});
    net_run(net);
    expect(net, 8, 11, 1, PM_STATUS_OK);
    expect_data(net, 9, 1, "8;9;10;11;");
    cr_assert_eq(net->n_done, 4);
    cr_assert_eq(net->n_queue, 0);
    net_free(net);
}

Test(collective, same_set_again_and_again_without_waiting_for_each_other)
{
    struct net *net = net_new(9, 1, 2);
    SET all = span(0, 8);
    for (uint64_t id = 1; id <= 50; id++)
        enter(net, 0, 7, (struct net_fence){.id = id, .ranks = &all});
    net_run(net);
    for (uint64_t id = 1; id <= 50; id++) {
        expect_none(net, 0, 7, id);
        enter(net, 8, 8, (struct net_fence){.id = id, .ranks = &all});
        net_run(net);
        expect(net, 0, 8, id, PM_STATUS_OK);
    }
    net_free(net);
}

Test(collective, overlapping_sets_do_not_mix)
{
    struct net *net = net_new(9, 2, 2);
    SET a = span(0, 11); // nodes 0..5
    SET b = span(6, 17); // nodes 3..8
    enter(net, 0, 5, (struct net_fence){.id = 1, .ranks = &a, .collect = true, .data = "a"});
    enter(net, 3, 7, (struct net_fence){.id = 2, .ranks = &b, .collect = true, .data = "bb"});
    net_run(net);
    expect(net, 0, 5, 1, PM_STATUS_OK);
    expect_data(net, 4, 1, "aaaaaa");
    expect_none(net, 3, 8, 2);
    enter(net, 8, 8, (struct net_fence){.id = 2, .ranks = &b, .collect = true, .data = "bb"});
    net_run(net);
    expect_data(net, 8, 2, "bbbbbbbbbbbb");
    net_free(net);
}

Test(collective, lost_rank_ends_its_fences_everywhere_and_no_others)
{
    struct net *net = net_new(9, 2, 2);
    SET a = span(0, 11);
    SET b = span(6, 17);
    enter(net, 0, 4, (struct net_fence){.id = 1, .ranks = &a});
    enter(net, 3, 7, (struct net_fence){.id = 2, .ranks = &b});
    net_run(net);
    struct pm_core *core = net_core(net, PM_NODE_COORDINATOR);
    struct pm_actions out = {0};
    core->out = &out;
    pm_collective_rank_lost(core, 0, 1);
    cr_assert_eq(out.n, 1, "one fence-error record");
    cr_assert_str_eq(out.list[0].log->kind, "fence-error");
    cr_assert(strstr(out.list[0].log->reason, "rank 1 was lost"), "%s", out.list[0].log->reason);
    pm_actions_done(&out);
    net_run(net);
    expect(net, 0, 4, 1, PM_STATUS_LOST);
    expect_none(net, 3, 8, 2);
    cr_assert(pm_set_has(&net->told, 1),
              "the agent of the lost rank hears that a fence waited for it");
    cr_assert_eq(pm_set_count(&net->told), 1);
    enter(net, 8, 8, (struct net_fence){.id = 2, .ranks = &b});
    enter(net, 5, 5, (struct net_fence){.id = 1, .ranks = &a}); // comes after the decision
    net_run(net);
    expect(net, 3, 8, 2, PM_STATUS_OK);
    expect(net, 5, 5, 1, PM_STATUS_LOST);
    net_free(net);
}

static void lose(struct net *net, uint32_t epoch, uint32_t rank)
{
    struct pm_actions out = {0};
    struct pm_core *core = net_core(net, PM_NODE_COORDINATOR);
    core->now_ns = net->now_ns;
    core->out = &out;
    pm_collective_rank_lost(core, epoch, rank);
    pm_actions_done(&out);
}

Test(collective, later_fence_with_a_lost_rank_fails_at_once)
{
    struct net *net = net_new(4, 2, 2);
    SET all = span(0, 7);
    SET some = span(0, 5);
    lose(net, 0, 7);
    enter(net, 0, 0, (struct net_fence){.id = 1, .ranks = &all});
    enter(net, 0, 2, (struct net_fence){.id = 2, .ranks = &some});
    net_advance(net, PM_FENCE_HOLD_MS);
    expect(net, 0, 0, 1, PM_STATUS_LOST);
    expect(net, 0, 2, 2, PM_STATUS_OK);
    enter(net, 1, 2, (struct net_fence){.id = 1, .ranks = &all});
    net_run(net);
    expect(net, 1, 2, 1, PM_STATUS_LOST);
    net_free(net);
}

Test(collective, local_failure_ends_the_fence_everywhere)
{
    struct net *net = net_new(7, 2, 2);
    SET all = span(0, 13);
    enter(net, 0, 5, (struct net_fence){.id = 1, .ranks = &all, .collect = true});
    enter(net, 6, 6, (struct net_fence){.id = 1, .ranks = &all, .failed = true});
    net_run(net);
    net_advance(net, PM_FENCE_BLAME_MS);
    expect(net, 0, 6, 1, PM_STATUS_LOST);
    cr_assert(pm_set_has(&net->told, 12) && pm_set_has(&net->told, 13));
    net_free(net);
}

Test(collective, local_failure_does_not_wait_for_the_subtree)
{
    struct net *net = net_new(7, 2, 2);
    SET all = span(0, 13);
    enter(net, 0, 0, (struct net_fence){.id = 1, .ranks = &all, .failed = true});
    net_run(net);
    net_advance(net, PM_FENCE_BLAME_MS);
    expect(net, 0, 0, 1, PM_STATUS_LOST);
    net_free(net);
}

// Else ranks that fail because the fence failed are heard of before the one that died.
Test(collective, local_failure_waits_for_the_report_of_who_died)
{
    struct net *net = net_new(7, 2, 2);
    SET all = span(0, 13);
    enter(net, 0, 5, (struct net_fence){.id = 1, .ranks = &all, .collect = true});
    enter(net, 6, 6, (struct net_fence){.id = 1, .ranks = &all, .failed = true});
    net_run(net);
    net_advance(net, PM_FENCE_BLAME_MS - 1);
    expect_none(net, 0, 6, 1);
    lose(net, 0, 13);
    net_run(net);
    expect(net, 0, 6, 1, PM_STATUS_LOST);
    net_free(net);
}

Test(collective, dead_node_ends_fences_that_it_takes_part_in)
{
    struct net *net = net_new(14, 2, 2);
    SET all = span(0, 27);
    SET rest = span(0, 9);
    enter(net, 0, 12, (struct net_fence){.id = 1, .ranks = &all});
    enter(net, 0, 3, (struct net_fence){.id = 2, .ranks = &rest});
    net_run(net);
    net_kill(net, 13);
    net_run(net);
    expect(net, 0, 12, 1, PM_STATUS_LOST);
    enter(net, 4, 4, (struct net_fence){.id = 2, .ranks = &rest});
    net_run(net);
    expect(net, 0, 4, 2, PM_STATUS_OK);
    net_free(net);
}

Test(collective, fence_over_survivors_completes_when_an_inner_node_dies)
{
    struct net *net = net_new(14, 2, 2);
    SET leaves = span(12, 27); // nodes 6..13; node 2 is on the way of 6 and 13 and takes no part
    enter(net, 6, 13, (struct net_fence){.id = 1, .ranks = &leaves, .collect = true});
    for (int i = 0; i < 5; i++)
        net_step(net);
    net_kill(net, 2);
    net_run(net);
    expect(net, 6, 13, 1, PM_STATUS_OK);
    expect_data(net, 13, 1, "6;7;8;9;10;11;12;13;");
    net_free(net);
}

Test(collective, smallest_timeout_ends_it_for_all_and_names_who_is_missing)
{
    struct net *net = net_new(14, 2, 2);
    SET all = span(0, 27);
    enter(net, 0, 8, (struct net_fence){.id = 1, .ranks = &all, .timeout_ms = 90000});
    enter(net, 10, 13, (struct net_fence){.id = 1, .ranks = &all, .timeout_ms = 2000});
    net_advance(net, 1900);
    expect_none(net, 0, 13, 1);
    net_advance(net, 200);
    expect(net, 0, 8, 1, PM_STATUS_TIMEOUT);
    expect(net, 10, 13, 1, PM_STATUS_TIMEOUT);
    cr_assert(net->says && strstr(net->says, "ranks 18-19 on 9 "), "%s", net->says);
    cr_assert_eq(net->n_logs, 1);
    enter(net, 9, 9, (struct net_fence){.id = 1, .ranks = &all});
    net_advance(net, 1000);
    expect(net, 9, 9, 1, PM_STATUS_TIMEOUT);
    net_free(net);
}

Test(collective, tiny_timeout_still_names_only_who_is_missing)
{
    struct net *net = net_new(100, 1, 2);
    SET all = span(0, 99);
    enter(net, 0, 98, (struct net_fence){.id = 1, .ranks = &all, .timeout_ms = 20});
    net_advance(net, 25);
    expect(net, 0, 98, 1, PM_STATUS_TIMEOUT);
    cr_assert(strstr(net->says, "ranks 99 on 99 "), "%s", net->says);
    net_free(net);
}

static void end_epoch(struct net *net, uint32_t node, uint32_t epoch)
{
    struct pm_core *core = net_core(net, node);
    struct pm_actions out = {0};
    core->out = &out;
    core->now_ns = net->now_ns;
    pm_collective_epoch_over(core, epoch);
    for (size_t i = 0; i < out.n; i++)
        cr_assert_eq(out.list[i].status, PM_STATUS_ABORTED);
    cr_assert(out.n <= 1);
    pm_actions_done(&out);
}

Test(collective, epoch_over_aborts_what_is_pending_and_late_frames_change_nothing)
{
    struct net *net = net_new(5, 1, 2);
    SET all = span(0, 4);
    enter(net, 0, 4, (struct net_fence){.id = 1, .ranks = &all});
    for (uint32_t i = 0; i < 3; i++)
        end_epoch(net, i, 0);
    end_epoch(net, PM_NODE_COORDINATOR, 0);
    net_run(net);
    expect_none(net, 3, 4, 1);
    enter(net, 0, 0, (struct net_fence){.id = 2, .ranks = &all});
    expect(net, 0, 0, 2, PM_STATUS_ABORTED);
    enter(net, 0, 2, (struct net_fence){.id = 3, .ranks = &all, .epoch = 1});
    enter(net, 3, 4,
          (struct net_fence){.id = 3, .ranks = &all, .epoch = 1}); // old one not over here
    net_run(net);
    expect(net, 0, 4, 3, PM_STATUS_OK);
    end_epoch(net, 3, 0);
    net_free(net);
}

Test(collective, unknown_ranks_and_empty_sets_are_refused)
{
    struct net *net = net_new(3, 2, 2);
    SET outside = span(0, 6);
    SET nobody = {0};
    enter(net, 0, 0, (struct net_fence){.id = 1, .ranks = &outside});
    enter(net, 0, 0, (struct net_fence){.id = 2, .ranks = &nobody});
    expect(net, 0, 0, 1, PM_STATUS_ERROR);
    expect(net, 0, 0, 2, PM_STATUS_ERROR);
    cr_assert_eq(net->sent, 0);
    net_free(net);
}

static void fence_of_bytes(struct net *net, uint32_t node, const struct pm_set *ranks, uint64_t id,
                           size_t len)
{
    uint8_t *data = calloc(1, len);
    struct pm_event event = {.type = PM_EVENT_FENCE,
                             .id = id,
                             .set = ranks,
                             .flag_collect = true,
                             .data = data,
                             .len = len};
    net_event(net, node, &event);
    free(data);
}

Test(collective, contribution_at_the_limit_passes_and_one_above_fails_everywhere)
{
    struct net *net = net_new(2, 1, 1);
    SET all = span(0, 1);
    fence_of_bytes(net, 0, &all, 1, PM_FENCE_DATA_MAX);
    fence_of_bytes(net, 1, &all, 1, 1);
    net_run(net);
    expect(net, 0, 1, 1, PM_STATUS_OK);
    cr_assert_eq(net_answer(net, 1, 1)->len, PM_FENCE_DATA_MAX + 1u);
    fence_of_bytes(net, 0, &all, 2, PM_FENCE_DATA_MAX + 1u);
    fence_of_bytes(net, 1, &all, 2, 1);
    net_run(net);
    expect(net, 0, 1, 2, PM_STATUS_ERROR);
    cr_assert(strstr(net->says, "64 MiB"), "%s", net->says);
    net_free(net);
}

Test(collective, result_above_the_limit_fails_everywhere)
{
    struct net *net = net_new(4, 1, 4);
    SET all = span(0, 3);
    for (uint32_t i = 0; i < 4; i++)
        fence_of_bytes(net, i, &all, 1, PM_FENCE_DATA_MAX);
    net_run(net);
    expect(net, 0, 3, 1, PM_STATUS_ERROR);
    net_free(net);
}

// A link that is cut at any moment, and the same or another parent after it.
Test(collective, a_new_parent_at_any_moment_loses_nothing_and_repeats_nothing)
{
    for (int cut = 0; cut < 60; cut++) {
        struct net *net = net_new(15, 1, 2);
        SET all = span(0, 14);
        char *expected = all_data(15);
        enter(net, 0, 14, (struct net_fence){.id = 1, .ranks = &all, .collect = true});
        for (int i = 0; i < cut; i++)
            net_step(net);
        net_move(net, 3, cut % 3 == 0 ? PM_NODE_COORDINATOR : cut % 3 == 1 ? 1 : 0);
        net_advance(net, 1000);
        expect(net, 0, 14, 1, PM_STATUS_OK);
        for (uint32_t i = 0; i < 15; i++)
            expect_data(net, i, 1, expected);
        free(expected);
        net_free(net);
    }
}

Test(collective, node_that_missed_the_result_gets_the_same_one_from_the_memo)
{
    struct net *net = net_new(15, 1, 2);
    SET all = span(0, 14);
    char *expected = all_data(15);
    enter(net, 0, 14, (struct net_fence){.id = 1, .ranks = &all, .collect = true});
    while (!net_answer(net, 6, 1))
        net_step(net); // 6 is the parent of 14 and has just forwarded
    cr_assert_null(net_answer(net, 14, 1));
    net_move(net, 14, 2);
    net_run(net);
    expect(net, 0, 14, 1, PM_STATUS_OK);
    expect_data(net, 14, 1, expected);
    free(expected);
    net_free(net);
}

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
    net_core(c.net, PM_NODE_COORDINATOR)->config.fence_piece = piece;
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

// PM_SEEDS=N: as many random schedules. `piece`: bytes of a result in a frame; 0: all of them.
static void chaos_run_all(bool with_losses, bool is_blind, uint32_t piece)
{
    const char *seeds = getenv("PM_SEEDS");
    uint64_t n_seeds = seeds ? strtoull(seeds, NULL, 10) : 200;
    for (current_seed = 1; current_seed <= n_seeds; current_seed++)
        chaos_run(current_seed, with_losses, is_blind, piece);
}

Test(collective, decided_once_and_answered_once_under_random_changes)
{
    chaos_run_all(false, false, 0);
}

Test(collective, same_answer_for_all_under_random_changes_and_losses)
{
    chaos_run_all(true, false, 0);
}

Test(collective, nothing_depends_on_knowing_who_hangs_below_under_random_changes)
{
    chaos_run_all(false, true, 0);
    chaos_run_all(true, true, 0);
}

Test(collective, results_in_pieces_are_whole_and_the_same_under_random_changes)
{
    static const uint32_t pieces[] = {1, 7, 30};
    for (size_t i = 0; i < sizeof(pieces) / sizeof(*pieces); i++) {
        chaos_run_all(false, false, pieces[i]);
        chaos_run_all(true, false, pieces[i]);
        chaos_run_all(false, true, pieces[i]);
        chaos_run_all(true, true, pieces[i]);
    }
}

Test(collective, memo_is_bounded_and_what_it_forgot_ends_with_an_error)
{
    struct net *net = net_new(3, 1, 1);
    SET pair = span(0, 1);
    for (uint64_t id = 1; id <= 100; id++) {
        enter(net, 0, 1, (struct net_fence){.id = id, .ranks = &pair, .collect = true});
        net_run(net);
    }
    struct pm_collective *root = net_core(net, PM_NODE_COORDINATOR)->collective;
    struct pm_collective *agent = net_core(net, 0)->collective;
    cr_assert_eq(root->signatures[0]->n_decided, PM_FENCE_MEMO_ROOT);
    cr_assert_eq(agent->signatures[0]->n_decided, PM_FENCE_MEMO_AGENT);
    cr_assert_eq(root->n_pending, 0);
    cr_assert_eq(root->memo_bytes, PM_FENCE_MEMO_ROOT * 4);
    // Asked for number 0 once more.
    struct pm_writer w = {0};
    struct pm_fence_key key = {.hash = pm_set_hash(&pair), .has_ranks = true, .ranks = pair};
    SET node = span(1, 1);
    pm_write_u8(&w, PM_FRAME_FENCE_UP);
    pm_write_fence_key(&w, &key);
    pm_write_u8(&w, 0);
    pm_write_u64(&w, 0);
    pm_write_set(&w, &node);
    cr_assert(net_inject(net, 0, PM_NODE_COORDINATOR, w.data, w.len));
    cr_assert_eq(root->n_pending, 0, "no second decision");
    cr_assert_eq(net->n_queue, 1);
    pm_writer_done(&w);
    net_free(net);
}

Test(collective, memo_of_large_results_is_bounded_in_bytes)
{
    struct net *net = net_new(2, 1, 2);
    SET all = span(0, 1);
    for (uint64_t id = 1; id <= 8; id++) {
        fence_of_bytes(net, 0, &all, id, 15u << 20);
        fence_of_bytes(net, 1, &all, id, 0);
        net_run(net);
    }
    struct pm_collective *root = net_core(net, PM_NODE_COORDINATOR)->collective;
    cr_assert(root->memo_bytes <= PM_FENCE_MEMO_BYTES);
    cr_assert(root->memo_bytes >= (45u << 20));
    net_free(net);
}

Test(collective, number_of_sets_is_limited_at_the_coordinator)
{
    struct net *net = net_new(2, 20000, 2);
    for (uint32_t i = 0; i <= PM_SIGNATURES_MAX; i++) {
        SET pair = {0};
        pm_set_add(&pair, i);
        pm_set_add(&pair, 20000 + i);
        enter(net, 0, 1, (struct net_fence){.id = i + 1, .ranks = &pair});
        net_run(net);
        expect(net, 0, 1, i + 1, i < PM_SIGNATURES_MAX ? PM_STATUS_OK : PM_STATUS_ERROR);
        net->n_done = 0;
    }
    net_free(net);
}

Test(collective, set_is_sent_once_per_link)
{
    struct net *net = net_new(3, 1000, 1);
    SET many = {0};
    for (uint32_t r = 0; r < 3000; r += 2)
        pm_set_add(&many, r);
    enter(net, 0, 2, (struct net_fence){.id = 1, .ranks = &many});
    net_run(net);
    enter(net, 0, 2, (struct net_fence){.id = 2, .ranks = &many});
    for (size_t i = 0; i < net->n_queue; i++)
        cr_assert(net->queue[i].len < 64, "%zu bytes", net->queue[i].len);
    net_run(net);
    expect(net, 0, 2, 2, PM_STATUS_OK);
    net_move(net, 2, 0);
    enter(net, 0, 2, (struct net_fence){.id = 3, .ranks = &many});
    net_run(net);
    expect(net, 0, 2, 3, PM_STATUS_OK);
    net_free(net);
}

Test(collective, node_that_does_not_know_the_world_yet_forwards)
{
    struct net *net = net_new(7, 1, 2);
    net_core(net, 0)->world_known = false;
    SET leaves = span(1, 6);
    enter(net, 1, 6, (struct net_fence){.id = 1, .ranks = &leaves, .collect = true});
    net_run(net);
    expect(net, 1, 6, 1, PM_STATUS_OK);
    expect_data(net, 3, 1, "1;2;3;4;5;6;");
    net_free(net);
}

Test(collective, malformed_frames_are_refused_and_change_nothing)
{
    struct net *net = net_new(3, 1, 2);
    SET all = span(0, 2);
    enter(net, 1, 1, (struct net_fence){.id = 1, .ranks = &all, .collect = true});
    cr_assert_eq(net->n_queue, 1);
    const struct net_frame good = net->queue[0];
    struct pm_digest before = {0}, after = {0};
    struct pm_collective *root = net_core(net, PM_NODE_COORDINATOR)->collective;
    pm_collective_digest(root, net->now_ns, &before);
    for (size_t len = 0; len < good.len; len++)
        cr_assert_not(net_inject(net, 0, PM_NODE_COORDINATOR, good.data, len), "%zu bytes", len);
    uint8_t *longer = calloc(1, good.len + 1);
    memcpy(longer, good.data, good.len);
    cr_assert_not(net_inject(net, 0, PM_NODE_COORDINATOR, longer, good.len + 1), "trailing byte");
    longer[0] = 0x3f;
    cr_assert_not(net_inject(net, 0, PM_NODE_COORDINATOR, longer, good.len), "unknown type");
    pm_collective_digest(root, net->now_ns, &after);
    cr_assert_eq(before.h, after.h);
    free(longer);
    net_free(net);
}

Test(collective, contributor_outside_the_world_is_refused)
{
    struct net *net = net_new(3, 1, 2);
    SET all = span(0, 2);
    SET nodes = span(1, 3);
    struct pm_writer w = {0};
    struct pm_fence_key key = {.hash = pm_set_hash(&all), .has_ranks = true, .ranks = all};
    pm_write_u8(&w, PM_FRAME_FENCE_UP);
    pm_write_fence_key(&w, &key);
    pm_write_u8(&w, 0);
    pm_write_u64(&w, 0);
    pm_write_set(&w, &nodes);
    cr_assert_not(net_inject(net, 0, PM_NODE_COORDINATOR, w.data, w.len));
    cr_assert_not(net_inject(net, PM_NODE_COORDINATOR, 0, w.data, w.len - 1));
    pm_writer_done(&w);
    net_free(net);
}

Test(collective, coordinator_refuses_a_result)
{
    struct net *net = net_new(1, 1, 2);
    SET all = span(0, 0);
    enter(net, 0, 0, (struct net_fence){.id = 1, .ranks = &all});
    net_step(net);
    cr_assert_eq(net->n_queue, 1);
    cr_assert_eq(net->queue[0].data[0], PM_FRAME_FENCE_DOWN);
    cr_assert_not(net_inject(net, 0, PM_NODE_COORDINATOR, net->queue[0].data, net->queue[0].len));
    net_free(net);
}

Test(collective, clone_is_equal_and_lives_on_its_own)
{
    struct net *net = net_new(7, 2, 2);
    SET all = span(0, 13);
    SET some = span(0, 3);
    enter(net, 0, 1, (struct net_fence){.id = 1, .ranks = &some, .collect = true});
    enter(net, 0, 5,
          (struct net_fence){.id = 2, .ranks = &all, .collect = true, .timeout_ms = 500});
    net_modex(net, 0, 3, 12, 100);
    net_run(net);
    for (uint32_t i = 0; i <= 7; i++) {
        struct pm_collective *old = net->cores[i].collective;
        struct pm_collective *copy = pm_collective_clone(old);
        cr_assert_eq(net_digest(net, copy), net_digest(net, old));
        pm_collective_free(old);
        net->cores[i].collective = copy;
    }
    enter(net, 6, 6, (struct net_fence){.id = 2, .ranks = &all, .collect = true});
    net_advance(net, 1000);
    expect(net, 0, 6, 2, PM_STATUS_OK);
    net_free(net);
}

Test(collective, digest_does_not_depend_on_the_absolute_time)
{
    struct pm_digest d[2] = {{0}, {0}};
    for (int i = 0; i < 2; i++) {
        struct net *net = net_new(3, 1, 2);
        net->now_ns += (uint64_t)i * 12345 * NET_MS;
        SET all = span(0, 2);
        enter(net, 0, 1, (struct net_fence){.id = 1, .ranks = &all, .timeout_ms = 700});
        net_run(net);
        pm_collective_digest(net_core(net, PM_NODE_COORDINATOR)->collective, net->now_ns, &d[i]);
        net_free(net);
    }
    cr_assert_eq(d[0].h, d[1].h);
}
