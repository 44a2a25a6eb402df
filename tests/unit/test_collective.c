// SPDX-License-Identifier: Apache-2.0
//
// Fences over a tree of collective modules without links (collective_net.h): completeness, order of
// the result, several fences at once, losses, timeouts, changes of the tree.
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/collective_fences.h"

TestSuite(collective, .timeout = 120);

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
