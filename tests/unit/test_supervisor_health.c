// SPDX-License-Identifier: Apache-2.0
//
// --pm-health at the supervisor alone: 5 nodes of 2 tasks, the last 2 are spares. What nodes say of themselves is part of
// their reports.
#include <criterion/criterion.h>
#include <string.h>

#include "tests/unit/supervisor_stand.h"

static struct pm_options options;

TestSuite(supervisor_health, .fini = stand_done, .timeout = 20);

static void forms(uint32_t spares)
{
    stand_options(&options);
    options.spares = spares;
    options.health_timeout_ms = 30000;
    strcpy(options.health, "/site/health");
    stand_coordinator(5, 2, &options);
}

static void fit(uint32_t check, uint32_t first, uint32_t last)
{
    struct pm_report report;
    pm_report_init(&report);
    report.epoch = stand.wanted.epoch;
    report.check = check;
    cr_assert_eq(pm_set_add_span(&report.fit, first, last), 0);
    cr_assert(stand_report(&report));
    pm_report_done(&report);
}

static void unfit(uint32_t node)
{
    struct pm_failure failure = {.node = node,
                                 .rank = PM_RANK_NONE,
                                 .epoch = stand.wanted.epoch,
                                 .cause = PM_CAUSE_UNHEALTHY,
                                 .text = "--pm-health ended with exit code 3"};
    stand_fail(&failure);
}

static void runs(void)
{
    forms(2);
    stand_join(0, 4);
    fit(1, 0, 4);
    stand_mark(PM_MARK_STARTED, 0, 0, 4);
    expect_state(PM_STATE_RUNNING);
    stand_run_ms(60000);
    stand_forget();
}

// --- after joining -----------------------------------------------------------------------------

Test(supervisor_health, nothing_starts_before_all_nodes_have_passed)
{
    forms(2);
    stand_join(0, 4);
    cr_assert_eq(stand.n_maps, 1); // servers get ready meanwhile
    stand_run_ms(20000); // the join window does not count any more
    fit(1, 0, 3);
    expect_state(PM_STATE_FORMING);
    fit(1, 4, 4); // spares, too
    expect_state(PM_STATE_STARTING);
}

Test(supervisor_health, without_the_option_nobody_is_waited_for)
{
    stand_coordinator(4, 2, NULL);
    stand_join(0, 3);
    expect_state(PM_STATE_STARTING);
}

Test(supervisor_health, a_spare_takes_the_place_of_an_unfit_node_before_the_start)
{
    forms(2);
    stand.options.max_node_losses = 0; // nothing was lost
    stand_join(0, 4);
    fit(1, 0, 0);
    unfit(1);
    expect_said("node1 is not fit (unhealthy): --pm-health ended with exit code 3; spare node3 takes its place (1 spare left)");
    fit(1, 2, 3);
    expect_state(PM_STATE_FORMING);
    fit(1, 4, 4);
    expect_state(PM_STATE_STARTING);
    cr_assert_eq(stand.core.world.node_of_rank[2], 3);
    cr_assert_eq(stand.core.supervisor->n_losses, 0);
    cr_assert(pm_set_has(&stand.wanted.lost, 1)); // the agent need not say it again
}

Test(supervisor_health, a_spare_that_is_not_fit_is_not_one)
{
    forms(2);
    stand_join(0, 4);
    unfit(3);
    expect_said("node3 is not fit (unhealthy): --pm-health ended with exit code 3; going on: it waited as a spare, 1 is left");
    unfit(1);
    fit(1, 0, 0);
    fit(1, 2, 2);
    fit(1, 4, 4);
    expect_state(PM_STATE_STARTING);
    cr_assert_eq(stand.core.world.node_of_rank[2], 4);
}

Test(supervisor_health, without_a_spare_the_step_is_refused_with_node_and_result)
{
    forms(0);
    stand_join(0, 4);
    fit(1, 0, 2);
    unfit(3);
    expect_state(PM_STATE_STOPPING);
    expect_said("node3 is not fit (unhealthy): --pm-health ended with exit code 3; stopping: without --pm-spares every "
                "node is needed");
    cr_assert_eq(stand.core.supervisor->status, PM_EXIT_CANNOT_SUPERVISE);
    cr_assert(stand.wanted.has_end_status);
}

Test(supervisor_health, too_few_spares_refuse_the_step)
{
    forms(1);
    stand_join(0, 4);
    unfit(0);
    unfit(1);
    expect_state(PM_STATE_STOPPING);
    cr_assert_eq(stand.core.supervisor->status, PM_EXIT_CANNOT_SUPERVISE);
}

// Nothing has run yet.
Test(supervisor_health, an_unfit_spare_that_was_to_take_over_refuses_the_step)
{
    forms(1);
    stand_join(0, 4);
    unfit(0);
    expect_state(PM_STATE_FORMING);
    unfit(4);
    expect_state(PM_STATE_STOPPING);
    expect_said("node0 is lost and nothing can take its place; stopping");
    cr_assert_eq(stand.core.supervisor->status, PM_EXIT_CANNOT_SUPERVISE);
}

Test(supervisor_health, who_never_answers_is_named)
{
    forms(2);
    stand_join(0, 4);
    fit(1, 0, 2);
    fit(1, 4, 4);
    stand_run_ms(40500); // 30 s, the node timeout, and a second to answer
    expect_state(PM_STATE_FORMING);
    stand_run_ms(1000);
    expect_state(PM_STATE_STOPPING);
    expect_said("node3 did not say how --pm-health went within 41 s; ending the step");
    cr_assert_eq(stand.core.supervisor->status, PM_EXIT_CANNOT_SUPERVISE);
    cr_assert(!stand.core.supervisor->step_is_foreign);
}

Test(supervisor_health, who_dies_meanwhile_is_not_waited_for)
{
    forms(2);
    stand_join(0, 4);
    fit(1, 0, 3);
    node_dies(4, PM_CAUSE_NODE_LOST);
    expect_state(PM_STATE_STARTING);
}

// --- before use --------------------------------------------------------------------------------

Test(supervisor_health, spares_are_asked_at_once_when_a_node_is_lost)
{
    runs();
    node_dies(1, PM_CAUSE_NODE_LOST);
    expect_state(PM_STATE_HALTING);
    cr_assert_eq(stand.wanted.check, 2);
    cr_assert_eq(pm_set_count(&stand.wanted.probe), 2);
    stand_mark(PM_MARK_HALTED, 0, 0, 4);
    expect_state(PM_STATE_PLACING);
    fit(1, 0, 4); // an old report that comes late
    expect_state(PM_STATE_PLACING);
    fit(2, 4, 4);
    expect_state(PM_STATE_STARTING);
    cr_assert_eq(stand.core.world.node_of_rank[2], 4);
    cr_assert(pm_set_empty(&stand.wanted.probe));
}

Test(supervisor_health, a_restart_without_a_loss_asks_nobody)
{
    runs();
    fail_rank(0, PM_CAUSE_SIGNAL, KILLED);
    expect_state(PM_STATE_HALTING);
    cr_assert_eq(stand.wanted.check, 0);
    stand_mark(PM_MARK_HALTED, 0, 0, 4);
    expect_state(PM_STATE_STARTING);
}

Test(supervisor_health, a_failing_spare_is_skipped_in_the_same_decision)
{
    runs();
    node_dies(1, PM_CAUSE_NODE_LOST);
    stand_mark(PM_MARK_HALTED, 0, 0, 4);
    unfit(3);
    expect_said("node3 is not fit (unhealthy): --pm-health ended with exit code 3; it takes nobody's place, 1 spare is left");
    expect_state(PM_STATE_PLACING);
    fit(2, 4, 4);
    expect_state(PM_STATE_STARTING);
    cr_assert_eq(stand.wanted.epoch, 1);
    cr_assert_eq(stand.core.world.node_of_rank[2], 4);
    expect_said("1 node lost (node1): its ranks move to node4 (0 spares left)");
    node_dies(3, PM_CAUSE_NODE_LOST); // it was taken out, and costs nothing any more
    expect_state(PM_STATE_STARTING);
}

// It is no news that it takes nobody's place: nothing follows.
Test(supervisor_health, of_a_spare_that_fails_in_a_stop_nothing_is_said)
{
    runs();
    fail_rank(0, PM_CAUSE_EXIT, EXITED(93));
    expect_state(PM_STATE_STOPPING);
    unfit(3);
    cr_assert(!stand_said("takes nobody's place"), "%s", stand.said);
}

Test(supervisor_health, when_none_is_fit_the_step_stops)
{
    runs();
    node_dies(1, PM_CAUSE_NODE_LOST);
    stand_mark(PM_MARK_HALTED, 0, 0, 4);
    unfit(3);
    unfit(4);
    expect_state(PM_STATE_STOPPING);
    expect_said("node1 is lost and nothing can take its place");
    cr_assert_eq(stand.core.supervisor->status, PM_EXIT_LOST);
}

Test(supervisor_health, placing_gives_the_checks_their_time)
{
    runs();
    stand.options.health_timeout_ms = 600000;
    node_dies(1, PM_CAUSE_NODE_LOST);
    stand_mark(PM_MARK_HALTED, 0, 0, 4);
    stand_run_ms(600000);
    expect_state(PM_STATE_PLACING);
    fit(2, 3, 3);
    expect_state(PM_STATE_STARTING);
}

Test(supervisor_health, every_decision_asks_anew)
{
    runs();
    node_dies(1, PM_CAUSE_NODE_LOST);
    stand_mark(PM_MARK_HALTED, 0, 0, 4);
    fit(2, 3, 4);
    expect_state(PM_STATE_STARTING);
    stand_mark(PM_MARK_STARTED, 1, 0, 4);
    node_dies(2, PM_CAUSE_NODE_LOST);
    cr_assert_eq(stand.wanted.check, 3);
    cr_assert(pm_set_has(&stand.wanted.probe, 4));
    cr_assert_eq(pm_set_count(&stand.wanted.probe), 1);
    stand_mark(PM_MARK_HALTED, 1, 0, 4);
    expect_state(PM_STATE_PLACING);
    fit(3, 4, 4);
    expect_state(PM_STATE_STARTING);
}

// --- the end -----------------------------------------------------------------------------------

// Its tasks live: srun hears of their end, and is not shot.
Test(supervisor_health, an_unfit_node_ends_as_the_others_do)
{
    runs();
    unfit(4);
    expect_state(PM_STATE_RUNNING);
    stand_mark(PM_MARK_ENDED, 0, 0, 2);
    expect_state(PM_STATE_FINISHING);
    cr_assert_eq(stand_count(PM_ACTION_AWAIT_OUTPUT, NULL), 0);
}

Test(supervisor_health, one_that_dies_later_is_waited_for_in_vain)
{
    runs();
    unfit(4);
    node_dies(4, PM_CAUSE_NODE_LOST);
    stand_mark(PM_MARK_ENDED, 0, 0, 2);
    const struct pm_action *await = NULL;
    cr_assert_eq(stand_count(PM_ACTION_AWAIT_OUTPUT, &await), 1);
    cr_assert_eq(await->count, 1);
}

Test(supervisor_health, a_copy_has_the_same_hash)
{
    runs();
    node_dies(1, PM_CAUSE_NODE_LOST);
    unfit(3);
    struct pm_digest before = {0}, after = {0}, later = {0};
    struct pm_supervisor *original = stand.core.supervisor, *copy = pm_supervisor_clone(original);
    pm_supervisor_digest(&stand.core, stand.core.now_ns, &before);
    stand.core.supervisor = copy;
    pm_supervisor_digest(&stand.core, stand.core.now_ns, &after);
    cr_assert_eq(before.h, after.h);
    stand.core.supervisor = original;
    fit(2, 4, 4);
    pm_supervisor_digest(&stand.core, stand.core.now_ns, &later);
    cr_assert_neq(before.h, later.h);
    pm_supervisor_free(copy);
}
