// SPDX-License-Identifier: Apache-2.0
//
// Failures that join another one where nodes wait as spares: a node that is lost in a restart, ranks that fail while
// others move. On the supervisor alone: 5 nodes of 2 tasks, the last 2 are spares.
#include <criterion/criterion.h>
#include <string.h>

#include "tests/unit/supervisor_events.h"

static struct pm_options options;

static void ended(void)
{
    stand_done();
}

TestSuite(supervisor_joining, .fini = ended, .timeout = 20);

static void running(void)
{
    if (!options.node_timeout_ms)
        stand_options(&options);
    options.spares = 2;
    stand_coordinator(5, 2, &options);
    stand_join(0, 4);
    stand_mark(PM_MARK_STARTED, 0, 0, 2);
    expect_state(PM_STATE_RUNNING);
    stand_run_ms(60000);
    stand_forget();
}

Test(supervisor_joining, a_node_lost_in_a_restart_joins_it)
{
    running();
    struct pm_failure failure = stand_failure(0, PM_CAUSE_SIGNAL, KILLED);
    stand_fail(&failure);
    expect_said("restart 1 of 3");
    stand_mark(PM_MARK_HALTED, 0, 0, 0);
    stand_run_ms(25900); // almost all the time that a halt has
    node_is_lost(1);
    stand_run_ms(9000); // and its own on top
    expect_state(PM_STATE_HALTING);
    stand_mark(PM_MARK_HALTED, 0, 2, 4);
    expect_state(PM_STATE_STARTING);
    cr_assert_eq(node_of(2), 3);
    cr_assert_eq(stand.wanted.epoch, 1);
    cr_assert_eq(stand.wanted.restart_cause, PM_CAUSE_SIGNAL);
}

static void joins_the_move(void)
{
    node_is_lost(1);
    expect_state(PM_STATE_HALTING);
    uint32_t restarts = stand.core.supervisor->restarts;
    fail_rank(4, PM_CAUSE_SIGNAL, KILLED);
    expect_state(PM_STATE_HALTING);
    cr_assert_str_eq(last_log("decision")->reason, "part of the decision before");
    cr_assert_eq(stand.core.supervisor->restarts, restarts);
    stand_mark(PM_MARK_HALTED, 0, 0, 4);
    expect_state(PM_STATE_STARTING);
    cr_assert_eq(stand.wanted.epoch, 1);
}

// The move has spent no restart, and what joins it needs none.
Test(supervisor_joining, a_rank_that_fails_while_others_move_costs_no_restart)
{
    stand_options(&options);
    options.max_restarts = 0;
    running();
    joins_the_move();
}

Test(supervisor_joining, nor_when_all_restarts_are_used)
{
    running();
    stand.core.supervisor->restarts = options.max_restarts;
    joins_the_move();
}

Test(supervisor_joining, nor_when_worlds_have_died_young)
{
    stand_options(&options);
    options.min_uptime_ms = 120000;
    running();
    stand.core.supervisor->start_failures = PM_START_FAILURES_MAX - 1;
    joins_the_move();
}

Test(supervisor_joining, an_exit_that_ends_the_step_does_so_while_others_move)
{
    running();
    node_is_lost(1);
    fail_rank(4, PM_CAUSE_EXIT, EXITED(93));
    expect_state(PM_STATE_STOPPING);
}

// Its ranks had ended well, so that its loss was none; the next world needs the place all the same.
Test(supervisor_joining, a_place_lost_before_is_filled_when_the_world_starts_again)
{
    running();
    stand_mark(PM_MARK_ENDED, 0, 1, 1);
    node_is_lost(1);
    expect_state(PM_STATE_RUNNING);
    cr_assert(last_log("failure")->idle);
    struct pm_failure failure = stand_failure(0, PM_CAUSE_SIGNAL, KILLED);
    stand_fail(&failure);
    expect_state(PM_STATE_HALTING);
    stand_mark(PM_MARK_HALTED, 0, 0, 4);
    expect_state(PM_STATE_STARTING);
    cr_assert_eq(node_of(2), 3);
}
