// SPDX-License-Identifier: Apache-2.0
//
// --pm-blame at the supervisor alone: 5 nodes of 2 tasks, the last 2 are spares.
#include <criterion/criterion.h>
#include <string.h>

#include "tests/unit/supervisor_stand.h"

TestSuite(supervisor_blame, .fini = stand_done, .timeout = 20);

static void runs(uint32_t blame, uint32_t spares)
{
    static struct pm_options options;
    stand_options(&options);
    options.max_restarts = 100;
    options.min_uptime_ms = 0;
    options.spares = spares;
    options.blame = blame;
    stand_coordinator(5, 2, &options);
    stand_running();
    stand_forget();
}

// The world halts and runs again.
static void restarts(void)
{
    uint32_t epoch = stand.wanted.epoch;
    stand_mark(PM_MARK_HALTED, epoch, 0, 4);
    stand_run_ms(600); // for a port
    expect_state(PM_STATE_STARTING);
    stand_mark(PM_MARK_STARTED, epoch + 1, 0, 4);
    expect_state(PM_STATE_RUNNING);
}

static const struct pm_log *blamed(void)
{
    const struct pm_log *last = NULL;
    for (size_t i = 0; i < stand.out.n; i++)
        if (stand.out.list[i].log && !strcmp(stand.out.list[i].log->kind, "blamed"))
            last = stand.out.list[i].log;
    return last;
}

Test(supervisor_blame, a_node_is_swapped_when_it_was_first_so_often)
{
    runs(2, 2);
    fail_rank(2, PM_CAUSE_SIGNAL, KILLED);
    restarts();
    cr_assert_eq(node_of(2), 1);
    stand_forget();
    fail_rank(3, PM_CAUSE_EXIT, EXITED(3)); // another rank of the node
    expect_said("restarting 6 ranks on 3 nodes (restart 2 of 100); node1 was first to fail 2 times: its ranks move to spare "
                "node3 (1 spare left)");
    expect_state(PM_STATE_HALTING);
    cr_assert(!pm_set_has(&stand.wanted.lost, 1)); // its halt is waited for
    stand_mark(PM_MARK_HALTED, 1, 0, 0);
    stand_mark(PM_MARK_HALTED, 1, 2, 4);
    expect_state(PM_STATE_HALTING);
    restarts();
    cr_assert_eq(node_of(2), 3);
    cr_assert(!stand_said("1 node blamed")); // the line has said it
    cr_assert(pm_set_has(&stand.wanted.lost, 1));
    cr_assert_not_null(blamed());
    cr_assert_eq(blamed()->node, 1);
    cr_assert_eq(blamed()->spare, 3);
    cr_assert_eq(blamed()->spares_left, 1);
    cr_assert_str_eq(blamed()->reason, "its ranks were first to fail 2 times");
    cr_assert_eq(stand.core.supervisor->restarts, 2); // a restart like any other
    cr_assert_eq(stand.core.supervisor->n_losses, 0);
}

Test(supervisor_blame, off_means_never)
{
    runs(0, 2);
    for (int i = 0; i < 5; i++) {
        fail_rank(2, PM_CAUSE_SIGNAL, KILLED);
        restarts();
    }
    cr_assert_eq(node_of(2), 1);
    cr_assert_null(blamed());
}

Test(supervisor_blame, only_the_first_of_a_decision_counts)
{
    runs(1, 1);
    fail_rank(0, PM_CAUSE_SIGNAL, KILLED);
    fail_rank(2, PM_CAUSE_SIGNAL, KILLED);
    restarts();
    cr_assert_eq(node_of(0), 4);
    cr_assert_eq(node_of(2), 1);
}

Test(supervisor_blame, without_a_spare_it_stays_and_the_line_says_so)
{
    runs(1, 0);
    fail_rank(2, PM_CAUSE_SIGNAL, KILLED);
    expect_said("(restart 1 of 100); node1 was first to fail 1 time, but no spare is left that can take its place: it stays");
    restarts();
    cr_assert_eq(node_of(2), 1);
    cr_assert_null(blamed());
}

Test(supervisor_blame, of_several_that_stay_the_one_that_failed_is_named)
{
    runs(1, 0);
    fail_rank(4, PM_CAUSE_SIGNAL, KILLED);
    expect_said("node2 was first to fail 1 time, but no spare is left");
    restarts();
    stand_forget();
    fail_rank(2, PM_CAUSE_SIGNAL, KILLED);
    expect_said("node1 was first to fail 1 time, but no spare is left");
}

Test(supervisor_blame, the_last_spare_is_for_one_node)
{
    runs(1, 1);
    fail_rank(2, PM_CAUSE_SIGNAL, KILLED);
    restarts();
    cr_assert_eq(node_of(2), 4);
    struct pm_failure failure = stand_failure(2, PM_CAUSE_SIGNAL, KILLED);
    failure.node = 4;
    stand_fail(&failure);
    expect_said("node4 was first to fail 1 time, but no spare is left that can take its place: it stays");
    restarts();
}

Test(supervisor_blame, when_the_spare_is_lost_the_node_stays)
{
    runs(1, 1);
    fail_rank(2, PM_CAUSE_SIGNAL, KILLED);
    expect_state(PM_STATE_HALTING);
    node_dies(4, PM_CAUSE_NODE_LOST);
    expect_said("no spare is left for node1: it stays");
    restarts();
    cr_assert_eq(node_of(2), 1);
    cr_assert(!pm_set_has(&stand.wanted.lost, 1));
}

Test(supervisor_blame, a_lost_node_comes_first)
{
    runs(1, 1);
    fail_rank(2, PM_CAUSE_SIGNAL, KILLED);
    node_dies(0, PM_CAUSE_NODE_LOST);
    expect_state(PM_STATE_HALTING);
    expect_said("no spare is left for node1: it stays");
    restarts();
    expect_said("pm-supervise: 1 node lost (node0): its ranks move to node4 (0 spares left)");
    cr_assert_eq(node_of(0), 4);
    cr_assert_eq(node_of(2), 1);
}

Test(supervisor_blame, a_blamed_node_that_is_lost_is_a_lost_one)
{
    runs(1, 2);
    fail_rank(2, PM_CAUSE_SIGNAL, KILLED);
    node_dies(1, PM_CAUSE_NODE_LOST);
    restarts();
    cr_assert_eq(node_of(2), 3);
    cr_assert_null(blamed());
    cr_assert_eq(stand.core.supervisor->n_losses, 1);
    cr_assert(pm_set_empty(&stand.core.supervisor->retired));
}

Test(supervisor_blame, restarts_of_ranks_alone_count)
{
    static struct pm_options options;
    stand_options(&options);
    options.mode = PM_MODE_RANK;
    options.max_restarts = 100;
    options.spares = 1;
    options.blame = 2;
    stand_coordinator(5, 2, &options);
    stand_running();
    struct pm_failure failure = stand_failure(2, PM_CAUSE_SIGNAL, KILLED);
    failure.connected = false;
    stand_fail(&failure);
    expect_state(PM_STATE_RUNNING);
    fail_rank(2, PM_CAUSE_SIGNAL, KILLED); // had connected: the world
    expect_said("node1 was first to fail 2 times: its ranks move to spare node4");
    restarts();
    cr_assert_eq(node_of(2), 4);
}

Test(supervisor_blame, a_swapped_node_ends_as_the_others_do)
{
    runs(1, 1);
    fail_rank(2, PM_CAUSE_SIGNAL, KILLED);
    restarts();
    stand_mark(PM_MARK_ENDED, 1, 0, 4);
    expect_state(PM_STATE_FINISHING);
    cr_assert_eq(stand_count(PM_ACTION_AWAIT_OUTPUT, NULL), 0);
}

Test(supervisor_blame, counts_are_part_of_a_copy_and_of_the_hash)
{
    runs(3, 1);
    struct pm_digest before = {0}, after = {0};
    fail_rank(2, PM_CAUSE_SIGNAL, KILLED);
    struct pm_supervisor *original = stand.core.supervisor, *copy = pm_supervisor_clone(original);
    pm_supervisor_digest(&stand.core, stand.core.now_ns, &before);
    stand.core.supervisor = copy;
    pm_supervisor_digest(&stand.core, stand.core.now_ns, &after);
    cr_assert_eq(before.h, after.h);
    copy->firsts[1] = 2;
    after = (struct pm_digest){0};
    pm_supervisor_digest(&stand.core, stand.core.now_ns, &after);
    cr_assert_neq(before.h, after.h);
    stand.core.supervisor = original;
    pm_supervisor_free(copy);
}
