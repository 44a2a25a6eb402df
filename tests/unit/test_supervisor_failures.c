// SPDX-License-Identifier: Apache-2.0
//
// RUNNING, on the supervisor alone: what a failure leads to, budget and backoff, and what is said of it.
#include <criterion/criterion.h>
#include <string.h>

#include "tests/unit/supervisor_stand.h"

TestSuite(supervisor_failures, .fini = stand_done, .timeout = 20);

// --- RUNNING -----------------------------------------------------------------------------------

Test(supervisor_failures, finishes_with_0_when_all_ranks_ended_well)
{
    running(NULL);
    stand_mark(PM_MARK_ENDED, 0, 0, 3);
    expect_state(PM_STATE_FINISHING);
    cr_assert_eq(stand.wanted.phase, PM_PHASE_END);
    cr_assert(!stand.wanted.has_end_status);
    cr_assert(stand.membership_stopped);
    srun_exits(0);
    expect_state(PM_STATE_DONE);
    cr_assert_eq(stand.exit_status, 0);
    cr_assert_str_empty(stand.said);
}

Test(supervisor_failures, restarts_the_world_in_one_sentence)
{
    halting(NULL);
    expect_said("pm-supervise: rank 3 (node1, pid 8123) killed by signal 9 after 12m04s; "
                "restarting 8 ranks on 4 nodes (restart 1 of 3)\n");
    cr_assert_eq(stand.wanted.phase, PM_PHASE_HALT);
    cr_assert_eq(stand.wanted.n_notices, 1);
    cr_assert_eq(stand.epochs_over, 1);
    stand_run_ms(30);
    stand_mark(PM_MARK_HALTED, 0, 0, 3);
    expect_state(PM_STATE_STARTING);
    cr_assert_eq(stand.wanted.epoch, 1);
    cr_assert_eq(stand.wanted.restart_cause, PM_CAUSE_SIGNAL);
    cr_assert_eq(stand.wanted.restart_rank, 3);
    cr_assert_eq(stand.wanted.port, 5001);
    cr_assert(pm_set_empty(&stand.wanted.dead));
    stand_run_ms(8);
    stand_mark(PM_MARK_STARTED, 1, 0, 3);
    expect_said("pm-supervise: epoch 1 running after 38 ms\n");
}

Test(supervisor_failures, gives_durations_of_the_restart_in_the_log)
{
    halting(NULL);
    stand_run_ms(30);
    stand_mark(PM_MARK_HALTED, 0, 0, 3);
    stand_run_ms(8);
    stand_mark(PM_MARK_STARTED, 1, 0, 3);
    const struct pm_action *a = NULL;
    cr_assert_gt(stand_count(PM_ACTION_LOG, &a), 0);
    cr_assert_str_eq(a->log->kind, "state");
    cr_assert_str_eq(a->log->to, "RUNNING");
    cr_assert_eq(a->log->halt_ms, 30);
    cr_assert_eq(a->log->start_ms, 8);
}

Test(supervisor_failures, ignores_marks_of_an_older_epoch)
{
    restarted(NULL);
    stand_mark(PM_MARK_ENDED, 0, 0, 3);
    expect_state(PM_STATE_RUNNING);
    struct pm_failure failure = stand_failure(3, PM_CAUSE_SIGNAL, KILLED);
    failure.epoch = failure.incarnation = 0;
    stand_fail(&failure);
    expect_state(PM_STATE_RUNNING);
}

Test(supervisor_failures, decides_once_about_two_failures_at_once)
{
    running(NULL);
    struct pm_report report;
    pm_report_init(&report);
    struct pm_failure a = stand_failure(3, PM_CAUSE_SIGNAL, KILLED);
    struct pm_failure b = stand_failure(6, PM_CAUSE_EXIT, EXITED(3));
    cr_assert_eq(pm_failures_add(&report.failures, &a), 0);
    cr_assert_eq(pm_failures_add(&report.failures, &b), 0);
    cr_assert(stand_report(&report));
    cr_assert(stand_report(&report));
    expect_state(PM_STATE_HALTING);
    expect_said("after 12m04s, and 1 more failure; restarting 8 ranks");
    cr_assert_eq(stand.core.supervisor->restarts, 1);
    cr_assert_eq(stand_count(PM_ACTION_SAY, NULL), 1);
    pm_report_done(&report);
}

Test(supervisor_failures, stops_on_a_fatal_exit)
{
    stopping();
    expect_said("exited with code 93 after 12m04s; stopping: exit code 93 is in --pm-fatal-exit\n");
    cr_assert_eq(stand.wanted.phase, PM_PHASE_STOP);
    stand_mark(PM_MARK_HALTED, 0, 0, 3);
    cr_assert_eq(stand.wanted.phase, PM_PHASE_END);
    srun_exits(EXITED(1));
    cr_assert_eq(stand.exit_status, 93);
}

Test(supervisor_failures, stops_when_the_budget_is_used)
{
    struct pm_options o;
    stand_options(&o);
    o.max_restarts = 1;
    restarted(&o);
    stand_run_ms(10000);
    fail_rank(3, PM_CAUSE_SIGNAL, 11);
    expect_state(PM_STATE_STOPPING);
    expect_said("; stopping: 1 of 1 restarts used\n");
    stand_mark(PM_MARK_HALTED, 1, 0, 3);
    srun_exits(0);
    cr_assert_eq(stand.exit_status, 139);
}

Test(supervisor_failures, gets_its_budget_back_when_the_window_has_passed)
{
    struct pm_options o;
    stand_options(&o);
    o.max_restarts = 1;
    o.restart_window_ms = 60000;
    restarted(&o);
    stand_run_ms(61000);
    fail_rank(3, PM_CAUSE_SIGNAL, KILLED);
    expect_state(PM_STATE_HALTING);
    expect_said("(restart 1 of 1 within 1m00s)");
    stand_mark(PM_MARK_HALTED, 1, 0, 3);
    stand_mark(PM_MARK_STARTED, 2, 0, 3);
    stand_run_ms(30000);
    fail_rank(3, PM_CAUSE_SIGNAL, KILLED);
    expect_state(PM_STATE_STOPPING);
    expect_said("1 of 1 restarts used within 1m00s");
}

static void restart_young(uint32_t epoch)
{
    fail_rank(3, PM_CAUSE_EXIT, EXITED(1));
    stand_mark(PM_MARK_HALTED, epoch, 0, 3);
    stand_mark(PM_MARK_STARTED, epoch + 1, 0, 3);
}

Test(supervisor_failures, stops_after_three_start_failures_in_a_row)
{
    struct pm_options o;
    stand_options(&o);
    o.max_restarts = 100;
    stand_coordinator(4, 2, &o);
    stand_running();
    restart_young(0);
    restart_young(1);
    expect_state(PM_STATE_RUNNING);
    fail_rank(3, PM_CAUSE_EXIT, EXITED(1));
    expect_state(PM_STATE_STOPPING);
    expect_said("stopping: 3 times in a row it died within 5 s (--pm-min-uptime)");
}

Test(supervisor_failures, a_long_life_resets_the_start_failures)
{
    struct pm_options o;
    stand_options(&o);
    o.max_restarts = 100;
    stand_coordinator(4, 2, &o);
    stand_running();
    restart_young(0);
    restart_young(1);
    stand_run_ms(6000);
    restart_young(2);
    restart_young(3);
    expect_state(PM_STATE_RUNNING);
}

Test(supervisor_failures, min_uptime_0_is_off)
{
    struct pm_options o;
    stand_options(&o);
    o.max_restarts = 100;
    o.min_uptime_ms = 0;
    stand_coordinator(4, 2, &o);
    stand_running();
    for (uint32_t epoch = 0; epoch < 20; epoch++)
        restart_young(epoch);
    expect_state(PM_STATE_RUNNING);
    cr_assert_eq(stand.wanted.epoch, 20);
}

Test(supervisor_failures, backs_off_before_the_second_restart_in_a_row)
{
    struct pm_options o;
    stand_options(&o);
    o.backoff_ms = 1000;
    stand_coordinator(4, 2, &o);
    stand_running();
    restart_young(0);
    expect_state(PM_STATE_RUNNING);
    fail_rank(3, PM_CAUSE_EXIT, EXITED(1));
    expect_said("restarting 8 ranks on 4 nodes in 1 s (restart 2 of 3)");
    stand_mark(PM_MARK_HALTED, 1, 0, 3);
    expect_state(PM_STATE_PLACING);
    stand_run_ms(900);
    expect_state(PM_STATE_PLACING);
    stand_run_ms(101);
    expect_state(PM_STATE_STARTING);
}

Test(supervisor_failures, stops_when_a_node_is_lost)
{
    running(NULL);
    node_dies(2, PM_CAUSE_NODE_LOST);
    expect_state(PM_STATE_STOPPING);
    expect_said("pm-supervise: node2 is lost (node-lost); stopping: its place in the "
                "step cannot come back\n");
    stand_mark(PM_MARK_HALTED, 0, 0, 1);
    cr_assert_eq(stand.wanted.phase, PM_PHASE_STOP);
    stand_mark(PM_MARK_HALTED, 0, 3, 3);
    cr_assert_eq(stand.wanted.phase, PM_PHASE_END);
    srun_exits(0);
    cr_assert_eq(stand.exit_status, 1);
}

// srun waits for the lost node's tasks until slurmctld notices: it is ended, not before it has passed on what the
// others wrote, and 5 s later at most.
Test(supervisor, srun_does_not_wait_for_a_lost_node)
{
    running(NULL);
    node_dies(2, PM_CAUSE_NODE_LOST);
    stand_event(&(struct pm_event){.type = PM_EVENT_OUTPUT_READ}); // not asked yet
    cr_assert_eq(stand_count(PM_ACTION_AWAIT_OUTPUT, NULL), 0);
    stand_mark(PM_MARK_HALTED, 0, 0, 1);
    stand_mark(PM_MARK_HALTED, 0, 3, 3);
    const struct pm_action *a;
    cr_assert_eq(stand_count(PM_ACTION_AWAIT_OUTPUT, &a), 1);
    cr_assert_eq(a->count, 1);
    stand_run_ms(4000);
    cr_assert_eq(stand_count(PM_ACTION_END_STEP, NULL), 0);
    stand_event(&(struct pm_event){.type = PM_EVENT_OUTPUT_READ});
    stand_event(&(struct pm_event){.type = PM_EVENT_OUTPUT_READ});
    cr_assert_eq(stand_count(PM_ACTION_END_STEP, &a), 1);
    cr_assert_eq(a->signal, 9); // its answer to 15 would be to wait
    srun_exits(9);
    cr_assert_eq(stand.exit_status, 1);
}

Test(supervisor, output_that_is_never_read_does_not_hold_the_step)
{
    running(NULL);
    node_dies(2, PM_CAUSE_NODE_LOST);
    stand_mark(PM_MARK_HALTED, 0, 0, 1);
    stand_mark(PM_MARK_HALTED, 0, 3, 3);
    stand_run_ms(4900);
    cr_assert_eq(stand_count(PM_ACTION_END_STEP, NULL), 0);
    stand_run_ms(200);
    cr_assert_eq(stand_count(PM_ACTION_END_STEP, NULL), 1);
    srun_exits(9);
    cr_assert_eq(stand.exit_status, 1);
}

Test(supervisor, a_user_who_stops_a_step_with_a_lost_node_gets_his_signal_as_status)
{
    running(NULL);
    stand_mark(PM_MARK_ENDED, 0, 0, 1);
    node_dies(1, PM_CAUSE_NODE_LOST);
    user_stops();
    stand_mark(PM_MARK_ENDED, 0, 2, 3);
    stand_event(&(struct pm_event){.type = PM_EVENT_OUTPUT_READ});
    cr_assert_eq(stand_count(PM_ACTION_END_STEP, NULL), 1);
    srun_exits(9);
    cr_assert_eq(stand.exit_status, 128 + 15);
}

Test(supervisor_failures, a_lost_node_whose_ranks_had_ended_well_is_no_failure)
{
    running(NULL);
    stand_mark(PM_MARK_ENDED, 0, 0, 1);
    node_dies(1, PM_CAUSE_NODE_LOST);
    expect_state(PM_STATE_RUNNING);
    stand_mark(PM_MARK_ENDED, 0, 2, 3);
    expect_state(PM_STATE_FINISHING);
    srun_exits(0);
    cr_assert_eq(stand.exit_status, 0);
}

Test(supervisor_failures, a_rank_that_fails_after_such_a_loss_stops_the_step_with_its_own_status)
{
    running(NULL);
    stand_mark(PM_MARK_ENDED, 0, 0, 1);
    node_dies(1, PM_CAUSE_NODE_LOST);
    expect_said("node1 is lost (node-lost); going on: all its ranks had ended well");
    fail_rank(6, PM_CAUSE_EXIT, EXITED(3));
    expect_state(PM_STATE_STOPPING);
    expect_said("exited with code 3 after");
    expect_said("so the world cannot start again");
    srun_exits(EXITED(3));
    cr_assert_eq(stand.exit_status, 3);
    cr_assert_eq(stand.core.supervisor->restarts, 0);
}

Test(supervisor_failures, a_dead_server_restarts_the_world_once)
{
    running(NULL);
    struct pm_failure failure = stand_failure(2, PM_CAUSE_PMIX_SERVER, 0);
    failure.rank = PM_RANK_NONE;
    stand_fail(&failure);
    stand_fail(&failure);
    expect_state(PM_STATE_HALTING);
    expect_said("node1 lost its PMIx server (pmix-server); restarting 8 ranks");
    cr_assert_eq(stand.core.supervisor->restarts, 1);
}

Test(supervisor_failures, a_lost_shim_stops_the_step)
{
    running(NULL);
    fail_rank(5, PM_CAUSE_SHIM_LOST, 0);
    expect_state(PM_STATE_STOPPING);
    expect_said("rank 5 (node2, pid 8123) lost its shim (shim-lost)");
    stand_mark(PM_MARK_HALTED, 0, 0, 3);
    srun_exits(0);
    cr_assert_eq(stand.exit_status, 1);
}

// scancel of a step kills everything in it at once; a shim is what is missed first.
Test(supervisor_failures, a_step_that_is_killed_as_a_whole_ends_as_slurm_says)
{
    running(NULL);
    fail_rank(5, PM_CAUSE_SHIM_LOST, 0);
    expect_state(PM_STATE_STOPPING);
    srun_exits(EXITED(137));
    cr_assert_eq(stand.exit_status, 137);
    expect_said("all of the step was killed by signal 9 from outside (scancel?)");
}

Test(supervisor_failures, abort_gives_its_status_when_it_stops)
{
    struct pm_options o;
    stand_options(&o);
    o.max_restarts = 0;
    running(&o);
    struct pm_failure failure = stand_failure(1, PM_CAUSE_ABORT, EXITED(7));
    pm_text_copy(failure.text, sizeof(failure.text), "out of luck");
    stand_fail(&failure);
    expect_said(
        "called abort with status 7 (out of luck) after 12m04s; stopping: --pm-max-restarts=0");
    stand_mark(PM_MARK_HALTED, 0, 0, 3);
    srun_exits(0);
    cr_assert_eq(stand.exit_status, 7);
}

Test(supervisor_failures, tells_that_slurm_reports_oom_all_the_same)
{
    running(NULL);
    fail_rank(1, PM_CAUSE_OOM, KILLED);
    expect_said(
        "for lack of memory (oom) after 12m04s; restarting 8 ranks on 4 nodes (restart 1 of 3); "
        "Slurm itself will still report OUT_OF_MEMORY for this step\n");
}

Test(supervisor_failures, ranks_without_finalize_are_told_and_nothing_restarts)
{
    running(NULL);
    struct pm_report report;
    pm_report_init(&report);
    cr_assert_eq(pm_set_add_span(&report.left, 2, 3), 0);
    cr_assert(stand_report(&report));
    expect_state(PM_STATE_RUNNING);
    cr_assert(pm_set_has(&stand.wanted.left, 2));
    cr_assert_eq(pm_set_count(&stand.lost_ranks), 2);
    uint32_t sent = stand.n_wanted;
    cr_assert(stand_report(&report));
    cr_assert_eq(stand.n_wanted, sent);
    pm_report_done(&report);
}

Test(supervisor_failures, a_fence_that_waits_for_such_a_rank_is_the_failure)
{
    running(NULL);
    fail_rank(2, PM_CAUSE_NO_FINALIZE, 0);
    expect_state(PM_STATE_HALTING);
    expect_said("(no-finalize)");
}

Test(supervisor_failures, wait_option_stops_after_the_first_end)
{
    stand_coordinator(4, 2, NULL);
    stand.core.config.wait_ms = 30000;
    stand_running();
    struct pm_report report;
    pm_report_init(&report);
    report.any_ended = true;
    cr_assert(stand_report(&report));
    stand_run_ms(29000);
    expect_state(PM_STATE_RUNNING);
    stand_run_ms(1001);
    expect_state(PM_STATE_STOPPING);
    expect_said("still run 30 s after the first rank ended (--wait)");
    stand_mark(PM_MARK_HALTED, 0, 0, 3);
    srun_exits(0);
    cr_assert_eq(stand.exit_status, 137);
}
