// SPDX-License-Identifier: Apache-2.0
//
// GPUs and memory of spares, at the supervisor alone: 5 nodes of 2 tasks, the last 2 are spares.
#include <criterion/criterion.h>
#include <string.h>

#include "tests/unit/supervisor_stand.h"

TestSuite(supervisor_sizes, .fini = stand_done, .timeout = 20);

static void forms(const struct pm_size *sizes, uint32_t blame)
{
    static struct pm_options options;
    struct pm_report report;
    bool changed = false;
    stand_options(&options);
    options.spares = 2;
    options.blame = blame;
    options.min_uptime_ms = 0;
    stand_coordinator(5, 2, &options);
    pm_report_init(&report);
    for (uint32_t node = 0; node < 5; node++)
        cr_assert_eq(pm_sizes_add(&report.sizes, &sizes[node], node, &changed), 0);
    cr_assert(stand_report(&report));
    pm_report_done(&report);
    stand_join(0, 4);
}

// Node 0 has 8 GPUs, the others 4; of the spares 3 has 4 and 4 has 8.
static void runs(uint32_t blame)
{
    forms((const struct pm_size[]){{8, 1000}, {4, 1000}, {4, 1000}, {4, 1000}, {8, 1000}}, blame);
    stand_mark(PM_MARK_STARTED, 0, 0, 4);
    expect_state(PM_STATE_RUNNING);
    stand_forget();
}

static void restarts(void)
{
    uint32_t epoch = stand.wanted.epoch;
    stand_mark(PM_MARK_HALTED, epoch, 0, 4);
    stand_run_ms(600);
    stand_mark(PM_MARK_STARTED, epoch + 1, 0, 4);
    expect_state(PM_STATE_RUNNING);
}

Test(supervisor_sizes, a_large_node_gets_the_large_spare)
{
    runs(0);
    node_dies(0, PM_CAUSE_NODE_LOST);
    expect_said("move to spare node4");
    restarts();
    cr_assert_eq(node_of(0), 4);
    node_dies(2, PM_CAUSE_NODE_LOST);
    restarts();
    cr_assert_eq(node_of(4), 3);
}

Test(supervisor_sizes, a_small_node_leaves_the_large_spare)
{
    runs(0);
    node_dies(1, PM_CAUSE_NODE_LOST);
    node_dies(0, PM_CAUSE_NODE_LOST);
    restarts();
    cr_assert_eq(node_of(2), 3);
    cr_assert_eq(node_of(0), 4);
}

Test(supervisor_sizes, without_a_large_one_the_step_stops_at_once)
{
    runs(0);
    node_dies(4, PM_CAUSE_NODE_LOST);
    node_dies(0, PM_CAUSE_NODE_LOST);
    expect_state(PM_STATE_STOPPING);
    expect_said("stopping: no spare that is left has as many GPUs and as much memory");
    cr_assert_eq(stand.core.supervisor->status, PM_EXIT_LOST);
}

Test(supervisor_sizes, one_that_is_large_enough_is_waited_for)
{
    runs(0);
    node_dies(0, PM_CAUSE_NODE_LOST);
    stand_mark(PM_MARK_HALTED, 0, 0, 3);
    stand_run_ms(600);
    expect_state(PM_STATE_PLACING); // the small one has answered
    stand_mark(PM_MARK_HALTED, 0, 4, 4);
    stand_run_ms(600);
    expect_state(PM_STATE_STARTING);
    cr_assert_eq(node_of(0), 4);
}

Test(supervisor_sizes, a_blamed_node_stays_if_no_spare_is_as_large)
{
    runs(1);
    node_dies(4, PM_CAUSE_NODE_LOST);
    fail_rank(0, PM_CAUSE_SIGNAL, KILLED);
    expect_said("node0 was first to fail 1 time, but no spare is left that can take its place: it stays");
    restarts();
    cr_assert_eq(node_of(0), 0);
}

Test(supervisor_sizes, a_spare_that_can_replace_nobody_is_refused)
{
    forms((const struct pm_size[]){{8, 1000}, {4, 2000}, {4, 1000}, {4, 999}, {8, 1000}}, 0);
    expect_state(PM_STATE_STOPPING);
    expect_said("spare node3 can take nobody's place: it offers 4 GPUs and 999 MiB, and the smallest of the other nodes, node2, has "
                "4 GPUs and 1000 MiB");
    cr_assert_eq(stand.core.supervisor->status, PM_EXIT_CANNOT_SUPERVISE);
    cr_assert_eq(stand.n_maps, 0);
}

Test(supervisor_sizes, nodes_of_which_nothing_is_known_are_alike)
{
    forms((const struct pm_size[5]){{0}}, 0);
    expect_state(PM_STATE_STARTING);
}
