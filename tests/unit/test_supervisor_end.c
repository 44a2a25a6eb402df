// SPDX-License-Identifier: Apache-2.0
//
// The end of a step, on the supervisor alone: FINISHING, STOPPING, DONE, and what a coordinator that slept does to
// the time of each state.
#include <criterion/criterion.h>
#include <string.h>

#include "tests/unit/supervisor_stand.h"

TestSuite(supervisor_end, .fini = stand_done, .timeout = 20);

// --- FINISHING, STOPPING, DONE -----------------------------------------------------------------

Test(supervisor_end, a_node_lost_while_finishing_is_no_failure)
{
    running(NULL);
    stand_mark(PM_MARK_ENDED, 0, 0, 3);
    node_dies(2, PM_CAUSE_AGENT_LOST);
    expect_state(PM_STATE_FINISHING);
    user_stops();
    expect_state(PM_STATE_FINISHING);
    srun_exits(EXITED(1));
    cr_assert_eq(stand.exit_status, 0);
}

Test(supervisor_end, finishing_has_bounds)
{
    running(NULL);
    stand_mark(PM_MARK_ENDED, 0, 0, 3);
    stand_run_ms(10001);
    cr_assert_eq(stand_count(PM_ACTION_END_STEP, NULL), 1);
    stand_run_ms(15001);
    expect_state(PM_STATE_DONE);
    cr_assert_eq(stand.exit_status, 0);
    expect_said("srun does not end");
}

Test(supervisor_end, any_failure_while_stopping_stays)
{
    stopping();
    fail_rank(6, PM_CAUSE_SIGNAL, 11);
    node_dies(2, PM_CAUSE_NODE_LOST);
    expect_state(PM_STATE_STOPPING);
    stand_mark(PM_MARK_HALTED, 0, 0, 1);
    stand_mark(PM_MARK_HALTED, 0, 3, 3);
    cr_assert_eq(stand.wanted.phase, PM_PHASE_END);
    srun_exits(0);
    cr_assert_eq(stand.exit_status, 93);
}

Test(supervisor_end, stopping_is_bounded_by_grace_10_s_and_node_timeout)
{
    stopping();
    stand_run_ms(25001);
    cr_assert_eq(stand.wanted.phase, PM_PHASE_END);
    stand_run_ms(10001);
    cr_assert_eq(stand_count(PM_ACTION_END_STEP, NULL), 1);
    stand_run_ms(15001);
    cr_assert_eq(stand.exit_status, 93);
}

// How long they may take is Slurm's affair: --signal, GraceTime, KillWait.
Test(supervisor_end, ranks_that_slurm_has_signalled_have_no_bound_of_ours)
{
    running(NULL);
    slurm_signals();
    expect_state(PM_STATE_STOPPING);
    cr_assert_eq(stand.wanted.phase, PM_PHASE_DRAIN);
    expect_said("signal 15");
    stand_run_ms(600000);
    cr_assert_eq(stand.wanted.phase, PM_PHASE_DRAIN);
    slurm_signals();
    stand_run_ms(600000);
    cr_assert_eq(stand.wanted.phase, PM_PHASE_DRAIN);
    stand_mark(PM_MARK_ENDED, 0, 0, 2);
    node_dies(3, PM_CAUSE_NODE_LOST);
    cr_assert_eq(stand.wanted.phase, PM_PHASE_END, "the lost are not waited for");
}

static void ranks_leave(uint32_t first, uint32_t last)
{
    struct pm_report report;
    pm_report_init(&report);
    cr_assert_eq(pm_set_add_span(&report.left, first, last), 0);
    cr_assert(stand_report(&report));
    pm_report_done(&report);
}

// Their fences and gets fail, as in a step that nobody stops.
Test(supervisor_end, nobody_waits_for_ranks_that_slurms_signal_has_ended)
{
    running(NULL);
    slurm_signals();
    ranks_leave(2, 3);
    cr_assert_eq(stand.wanted.phase, PM_PHASE_DRAIN);
    cr_assert_eq(pm_set_count(&stand.lost_ranks), 2);
    cr_assert(pm_set_has(&stand.wanted.left, 3));
}

Test(supervisor_end, nobody_waits_for_ranks_of_a_node_that_is_lost_after_slurms_signal)
{
    running(NULL);
    slurm_signals();
    node_dies(1, PM_CAUSE_NODE_LOST);
    cr_assert_eq(stand.wanted.phase, PM_PHASE_DRAIN);
    cr_assert_eq(pm_set_count(&stand.lost_ranks), 2);
    cr_assert(pm_set_has(&stand.wanted.dead, 3));
    fail_rank(6, PM_CAUSE_EXIT, EXITED(1)); // just before the signal
    cr_assert(pm_set_has(&stand.lost_ranks, 6));
    cr_assert(pm_set_has(&stand.wanted.dead, 6));
}

// Nobody else would end them: srun has been told to wait for all.
Test(supervisor_end, ranks_that_drain_have_no_more_time_than_the_wait_option_says)
{
    stand_coordinator(4, 2, NULL);
    stand.core.config.wait_ms = 120000;
    stand_running();
    slurm_signals();
    stand_run_ms(600000);
    cr_assert_eq(stand.wanted.phase, PM_PHASE_DRAIN);
    struct pm_report report;
    pm_report_init(&report);
    report.any_ended = true;
    cr_assert(stand_report(&report));
    stand_run_ms(119000);
    cr_assert_eq(stand.wanted.phase, PM_PHASE_DRAIN);
    stand_run_ms(1001);
    cr_assert_eq(stand.wanted.phase, PM_PHASE_STOP);
    expect_said("still run 2m00s after the first rank ended (--wait); ending them");
    srun_exits(EXITED(9));
    cr_assert_eq(stand.exit_status, 9);
}

Test(supervisor_end, a_wait_that_had_begun_when_slurm_signalled_goes_on)
{
    stand_coordinator(4, 2, NULL);
    stand.core.config.wait_ms = 120000;
    stand_running();
    struct pm_report report;
    pm_report_init(&report);
    report.any_ended = true;
    cr_assert(stand_report(&report));
    stand_run_ms(100000);
    slurm_signals();
    stand_run_ms(19000);
    cr_assert_eq(stand.wanted.phase, PM_PHASE_DRAIN);
    stand_run_ms(1001);
    cr_assert_eq(stand.wanted.phase, PM_PHASE_STOP);
}

static void has_a_bound_now(void)
{
    cr_assert_eq(stand.wanted.phase, PM_PHASE_DRAIN);
    stand_run_ms(39000);
    cr_assert_eq(stand.wanted.phase, PM_PHASE_DRAIN);
    stand_run_ms(1001);
    cr_assert_eq(stand.wanted.phase, PM_PHASE_KILL);
}

Test(supervisor_end, ranks_that_drain_have_a_bound_when_one_aborts)
{
    struct pm_options o;
    stand_options(&o);
    o.verbose = 1;
    running(&o);
    slurm_signals();
    stand_run_ms(600000);
    fail_rank(2, PM_CAUSE_EXIT, EXITED(1)); // just before the signal
    stand_run_ms(600000);
    fail_rank(6, PM_CAUSE_ABORT, EXITED(1));
    expect_said("40 s");
    has_a_bound_now();
}

Test(supervisor_end, ranks_that_drain_have_a_bound_from_the_first_loss_on)
{
    static const enum pm_cause losses[] = {PM_CAUSE_NODE_LOST, PM_CAUSE_AGENT_LOST, PM_CAUSE_SHIM_LOST};
    for (size_t i = 0; i < sizeof(losses) / sizeof(losses[0]); i++) {
        if (i)
            stand_done();
        running(NULL);
        slurm_signals();
        stand_run_ms(600000);
        if (losses[i] == PM_CAUSE_SHIM_LOST)
            fail_rank(2, losses[i], 0);
        else
            node_dies(1, losses[i]);
        has_a_bound_now();
    }
}

// srun hears of the task's end; that the slot is lost matters to nobody any more.
Test(supervisor_end, a_shim_that_is_lost_when_ranks_drain_is_no_lost_node)
{
    running(NULL);
    slurm_signals();
    fail_rank(2, PM_CAUSE_SHIM_LOST, 0);
    fail_rank(3, PM_CAUSE_SHIM_LOST, 0);
    cr_assert(pm_set_has(&stand.wanted.dead, 3));
    cr_assert(pm_set_empty(&stand.wanted.lost));
    stand_mark(PM_MARK_ENDED, 0, 0, 3);
    cr_assert_eq(stand.wanted.phase, PM_PHASE_END);
    cr_assert_eq(stand_count(PM_ACTION_AWAIT_OUTPUT, NULL), 0);
    srun_exits(EXITED(137));
    cr_assert_eq(stand.exit_status, 137);
}

// scancel --signal=KILL of a step: its agents' ports may have refused everybody before srun has ended.
Test(supervisor_end, all_of_a_step_that_is_killed_is_no_step_that_has_lost_all_its_nodes)
{
    running(NULL);
    for (uint32_t node = 0; node < 4; node++)
        agent_is_gone(node);
    srun_exits(EXITED(137));
    expect_said("all of the step was killed by signal 9 from outside");
    cr_assert_eq(stand.exit_status, 137);
}

// Spares die, too, but a step that stops looks at none.
Test(supervisor_end, a_step_that_is_killed_may_have_had_spares)
{
    struct pm_options options;
    stand_options(&options);
    options.spares = 1;
    running(&options);
    for (uint32_t node = 0; node < 3; node++)
        agent_is_gone(node);
    srun_exits(EXITED(137));
    cr_assert_eq(stand.exit_status, 137, "%d; said: %s", stand.exit_status, stand.said);
}

// One that is silent may have lost its power, and srun was told of it by Slurm.
Test(supervisor_end, a_step_that_has_lost_all_its_nodes_was_not_killed)
{
    running(NULL);
    for (uint32_t node = 1; node < 4; node++)
        agent_is_gone(node);
    node_dies(0, PM_CAUSE_NODE_LOST);
    srun_exits(EXITED(137));
    cr_assert_eq(stand.exit_status, PM_EXIT_LOST);
}

// SIGTERM to srun, or Ctrl-C twice.
Test(supervisor_end, whoever_stops_srun_as_well_ends_ranks_that_have_outlived_slurms_signal)
{
    for (int untold = 0; untold < 2; untold++) {
        if (untold)
            stand_done();
        running(NULL);
        slurm_signals();
        stand_run_ms(600000);
        stand_event(&(struct pm_event){.type = PM_EVENT_STOP, .signal = 15, .flag_untold = untold});
        cr_assert_eq(stand.wanted.phase, PM_PHASE_STOP);
        expect_said("signal 15");
        stand_run_ms(25001);
        cr_assert_eq(stand.wanted.phase, PM_PHASE_END);
        srun_exits(EXITED(137));
        cr_assert_eq(stand.exit_status, 137);
    }
}

Test(supervisor_end, user_stop_at_the_terminal_sends_no_signal_but_has_a_bound)
{
    running(NULL);
    stand_event(&(struct pm_event){.type = PM_EVENT_STOP, .signal = 2});
    expect_state(PM_STATE_STOPPING);
    cr_assert_eq(stand.wanted.phase, PM_PHASE_DRAIN);
    expect_said("signal 2");
    slurm_signals();
    stand_run_ms(39000);
    cr_assert_eq(stand.wanted.phase, PM_PHASE_DRAIN);
    stand_run_ms(1001);
    cr_assert_eq(stand.wanted.phase, PM_PHASE_KILL);
    stand_mark(PM_MARK_HALTED, 0, 0, 3);
    cr_assert_eq(stand.wanted.phase, PM_PHASE_END);
    srun_exits(KILLED);
    cr_assert_eq(stand.exit_status, 130);
}

Test(supervisor_end, user_stop_ends_when_all_ranks_have_ended)
{
    running(NULL);
    slurm_signals();
    fail_rank(1, PM_CAUSE_SIGNAL, 15);
    expect_state(PM_STATE_STOPPING);
    stand_mark(PM_MARK_ENDED, 0, 0, 3);
    cr_assert_eq(stand.wanted.phase, PM_PHASE_END);
    srun_exits(15);
    cr_assert_eq(stand.exit_status, 143);
    cr_assert_eq(stand.core.supervisor->restarts, 0);
}

// srun passes the second Ctrl-C on and kills the step right after it: 130 is what plain srun gives.
Test(supervisor_end, ctrl_c_ends_with_130_though_srun_had_to_kill_the_shims)
{
    static const struct {
        int32_t signal, srun, wanted;
    } cases[] = {{2, 137, 130}, {2, 130, 130}, {2, 1, 1}, {3, 137, 137}, {15, 137, 137}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        if (i)
            stand_done();
        running(NULL);
        stand_event(&(struct pm_event){.type = PM_EVENT_STOP, .signal = cases[i].signal});
        expect_state(PM_STATE_STOPPING);
        srun_exits(EXITED(cases[i].srun));
        cr_expect_eq(stand.exit_status, cases[i].wanted, "signal %d and %d of srun give %d",
                     cases[i].signal, cases[i].srun, stand.exit_status);
    }
}

Test(supervisor_end, srun_that_ends_by_itself_ends_the_step)
{
    running(NULL);
    srun_exits(EXITED(5));
    expect_state(PM_STATE_DONE);
    cr_assert_eq(stand.exit_status, 5);
    expect_said("srun ended by itself");
}

// The ranks of a world that is being restarted have ended as well.
Test(supervisor_end, srun_that_ends_in_a_halt_is_no_success)
{
    running(NULL);
    fail_rank(3, PM_CAUSE_EXIT, EXITED(4));
    stand_mark(PM_MARK_ENDED, 0, 0, 3);
    expect_state(PM_STATE_HALTING);
    srun_exits(EXITED(137));
    expect_state(PM_STATE_DONE);
    cr_assert_eq(stand.exit_status, 137);
}

// What shims exit with that lost their agent is no rank's code.
Test(supervisor_end, srun_that_ends_because_all_agents_were_orphaned_is_a_loss)
{
    running(NULL);
    srun_exits(EXITED(124));
    expect_state(PM_STATE_DONE);
    cr_assert_eq(stand.exit_status, 1);
}

Test(supervisor_end, srun_that_ends_in_the_middle_with_0_is_a_loss)
{
    halting(NULL);
    srun_exits(0);
    expect_state(PM_STATE_DONE);
    cr_assert_eq(stand.exit_status, 1);
}

Test(supervisor_end, done_is_done)
{
    running(NULL);
    srun_exits(EXITED(5));
    stand_forget();
    user_stops();
    fail_rank(3, PM_CAUSE_SIGNAL, KILLED);
    node_dies(2, PM_CAUSE_NODE_LOST);
    stand_run_ms(1000000);
    cr_assert_eq(stand.out.n, 0);
}

// --- time --------------------------------------------------------------------------------------

Test(supervisor_end, a_timer_that_comes_much_too_late_is_wound_up_again)
{
    halting(NULL);
    stand.core.now_ns += 60000 * PM_MS; // Ctrl-Z on srun
    stand_event(&(struct pm_event){.type = PM_EVENT_TIMER});
    expect_state(PM_STATE_HALTING);
    stand_mark(PM_MARK_HALTED, 0, 0, 3);
    expect_state(PM_STATE_STARTING);
}

Test(supervisor_end, a_late_timer_does_not_prolong_the_end)
{
    stopping();
    for (int i = 0; i < 4; i++) {
        stand.core.now_ns += 60000 * PM_MS;
        stand_event(&(struct pm_event){.type = PM_EVENT_TIMER});
    }
    expect_state(PM_STATE_DONE);
    cr_assert_eq(stand.exit_status, 93);
}

Test(supervisor_end, timers_stand_still_while_the_coordinator_doubts_itself)
{
    halting(NULL);
    pm_supervisor_on_isolated(&stand.core, true);
    stand_run_ms(1000000);
    expect_state(PM_STATE_HALTING);
    pm_supervisor_on_isolated(&stand.core, false);
    stand_run_ms(25000);
    expect_state(PM_STATE_HALTING);
    stand_run_ms(1100);
    expect_state(PM_STATE_STOPPING);
}

// The nodes were declared lost because we doubted ourselves for long enough: srun has to be ended.
Test(supervisor_end, a_step_that_ends_does_so_in_bounded_time_even_in_doubt)
{
    running(NULL);
    pm_supervisor_on_isolated(&stand.core, true);
    node_dies(0, PM_CAUSE_NODE_LOST);
    expect_state(PM_STATE_STOPPING);
    stand_run_ms(60000);
    cr_assert_eq(stand.exit_status, 1);
    expect_state(PM_STATE_DONE);
}
