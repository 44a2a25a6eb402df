// SPDX-License-Identifier: Apache-2.0
//
// The coordinator's supervision at its edges: news out of turn, records of a step that is not known yet,
// names that are not there, waits that were slept through, and verdicts of steps that end in the middle.
#include <criterion/criterion.h>
#include <string.h>

#include "tests/unit/supervisor_events.h"


static struct pm_options options;

static void setup(void)
{
    stand_options(&options);
}

static void ended(void)
{
    stand_done();
}

TestSuite(supervisor_late, .init = setup, .fini = ended, .timeout = 20);

static void happens(enum pm_event_type type, int32_t number)
{
    stand_event(&(struct pm_event){.type = type, .wait_status = number, .signal = number});
}

// 4 nodes of 2 ranks, long running.
static void running(void)
{
    stand_coordinator(4, 2, &options);
    stand_running();
    stand_run_ms(724000);
    stand_forget();
}

static void restarted(void)
{
    running();
    fail_rank(3, PM_CAUSE_SIGNAL, KILLED);
    stand_mark(PM_MARK_HALTED, 0, 0, 3);
    expect_state(PM_STATE_STARTING);
    cr_assert_eq(stand.wanted.epoch, 1);
}

static void dies_silently(uint32_t node)
{
    cr_assert_eq(pm_set_add(&stand.dead, node), 0);
}

// --- before the step is known ----------------------------------------------------------------------------

static void unlaunched(void)
{
    stand_coordinator(2, 1, &options);
    stand.core.supervisor->launched = false;
    stand.core.supervisor->nnodes = stand.core.supervisor->nranks = 0;
}

static void launched(uint32_t nnodes, uint32_t ntasks)
{
    stand_event(
        &(struct pm_event){.type = PM_EVENT_LAUNCHED, .nnodes = nnodes, .ntasks = ntasks});
}

static void joins_as(uint32_t node, uint32_t rank)
{
    struct pm_report report;
    pm_report_init(&report);
    cr_assert_eq(pm_set_add(&report.joined, node), 0);
    cr_assert_eq(pm_map_add(&report.map, rank, 1, node), 0);
    cr_assert(stand_report(&report));
    pm_report_done(&report);
}

Test(supervisor_late, nodes_may_join_before_srun_has_said_how_many_there_are)
{
    unlaunched();
    joins_as(0, 0);
    joins_as(1, 1);
    expect_state(PM_STATE_FORMING);
    stand_run_ms(60000);
    expect_state(PM_STATE_FORMING);
    cr_assert_str_empty(stand.said);
    launched(2, 2);
    stand_run_ms(600);
    expect_state(PM_STATE_STARTING);
}

Test(supervisor_late, a_rank_beyond_the_step_is_refused_when_its_size_is_known)
{
    unlaunched();
    joins_as(0, 0);
    joins_as(1, 9);
    launched(2, 2);
    expect_state(PM_STATE_STOPPING);
    expect_said("claims rank 9 of a step of 2 ranks");
}

Test(supervisor_late, a_step_is_launched_once)
{
    stand_coordinator(4, 2, &options);
    launched(7, 14);
    cr_assert_eq(stand.core.supervisor->nnodes, 4);
}

Test(supervisor_late, records_of_epochs_to_come_are_dropped)
{
    stand_coordinator(4, 2, &options);
    struct pm_report report;
    pm_report_init(&report);
    report.epoch = 1;
    cr_assert_eq(pm_set_add_span(&report.joined, 0, 3), 0);
    cr_assert(stand_report(&report));
    cr_assert(pm_set_empty(&stand.core.supervisor->seen.joined));
    pm_report_done(&report);
}

Test(supervisor_late, failures_of_ranks_before_there_is_a_world_are_none)
{
    stand_coordinator(4, 2, &options);
    stand_join(0, 2);
    fail_rank(0, PM_CAUSE_EXIT, EXITED(1));
    expect_state(PM_STATE_FORMING);
}

// --- names -----------------------------------------------------------------------------------------------

Test(supervisor_late, a_node_without_a_name_has_a_number)
{
    stand_coordinator(4, 2, &options);
    stand_join(0, 2);
    free(stand.core.supervisor->nodelist);
    stand.core.supervisor->nodelist = strdup("short[0-1]");
    char buf[PM_TEXT_CAP];
    cr_assert_str_eq(pm_supervisor_host(&stand.core, 1, buf), "short1");
    cr_assert_str_eq(pm_supervisor_host(&stand.core, 2, buf), "node #2");
}

Test(supervisor_late, names_that_do_not_fit_are_counted_or_cut)
{
    struct pm_set nodes = {0};
    char buf[64];
    stand_coordinator(12, 1, &options);
    stand_join(0, 11);
    cr_assert_eq(pm_set_add_span(&nodes, 0, 9), 0);
    cr_assert_str_eq(pm_supervisor_names(&stand.core, &nodes, buf, sizeof(buf)),
                     "node0, node1, node2 and 7 more");
    for (size_t cap = 1; cap < 40; cap++) {
        memset(buf, 'x', sizeof(buf));
        pm_supervisor_names(&stand.core, &nodes, buf, cap);
        cr_assert(memchr(buf, 0, cap) && buf[cap] == 'x', "cap %zu", cap);
    }
    pm_set_done(&nodes);
}

Test(supervisor_late, a_few_late_nodes_are_named_and_the_rest_counted)
{
    stand_coordinator(12, 1, &options);
    stand_join(0, 0);
    stand_run_ms(5100);
    expect_said("node8 has not joined");
    cr_assert(!stand_said("node9 has not joined"));
    expect_said("3 more nodes have not joined");
}

Test(supervisor_late, without_an_address_the_coordinator_is_called_so)
{
    stand_coordinator(2, 1, &options);
    stand.core.config.addresses = "";
    stand_join(0, 0);
    stand_run_ms(5100);
    expect_said("can it reach the coordinator?");
}

Test(supervisor_late, lines_of_nodes_are_passed_on_and_broken_ones_refused)
{
    stand_coordinator(2, 1, &options);
    stand_event(&(struct pm_event){.type = PM_EVENT_SAY});
    cr_assert_str_eq(stand.said, "\n");
    cr_assert(!stand_frame(PM_FRAME_SAY, "\0\0\0\1", 4));
    cr_assert(!stand_frame(PM_FRAME_BOUND, "\0\0\0\1", 4));
}

// --- waits -----------------------------------------------------------------------------------------------

Test(supervisor_late, nodes_that_do_not_join_within_the_launch_are_named)
{
    options.start_timeout_ms = 10000;
    options.join_window_ms = 60000;
    stand_coordinator(4, 2, &options);
    stand_run_ms(1000);
    stand_join(0, 2);
    stand_run_ms(9100);
    expect_state(PM_STATE_STOPPING);
    expect_said("node3 did not join within 10 s of the launch (--pm-start-timeout)");
}

Test(supervisor_late, a_coordinator_that_slept_gives_nodes_their_time_again)
{
    stand_coordinator(4, 2, &options);
    stand_join(0, 2);
    stand.core.now_ns += 40000 * PM_MS;
    happens(PM_EVENT_TIMER, 0);
    expect_state(PM_STATE_FORMING);
    stand_run_ms(14000);
    stand_join(3, 3);
    expect_state(PM_STATE_STARTING);
}

Test(supervisor_late, a_timer_while_forming_means_nothing_before_anybody_joined)
{
    stand_coordinator(4, 2, &options);
    happens(PM_EVENT_TIMER, 0);
    expect_state(PM_STATE_FORMING);
    cr_assert_str_empty(stand.said);
}

Test(supervisor_late, ranks_that_do_not_start_again_stop_the_step_as_lost)
{
    restarted();
    stand_run_ms(120100);
    expect_state(PM_STATE_STOPPING);
    expect_said("epoch 1: node0, node1, node2 and 1 more did not start all ranks");
    happens(PM_EVENT_SRUN_EXITED, 0);
    cr_assert_eq(stand.exit_status, 1);
}

// A dead node counts only when no process of it can run any more.
Test(supervisor_late, a_halt_waits_for_the_lease_of_a_dead_node)
{
    running();
    fail_rank(3, PM_CAUSE_SIGNAL, KILLED);
    stand_mark(PM_MARK_HALTED, 0, 0, 1);
    dies_silently(2);
    dies_silently(0); // it had halted: nothing to wait for
    stand.lease_not_over = true;
    stand_mark(PM_MARK_HALTED, 0, 3, 3);
    expect_state(PM_STATE_HALTING);
    stand.lease_not_over = false;
    happens(PM_EVENT_TIMER, 0);
    expect_state(PM_STATE_STOPPING);
    expect_said("node0, node2 are lost and nothing can take their place");
}

Test(supervisor_late, a_halt_has_its_time_again_after_isolation)
{
    running();
    fail_rank(3, PM_CAUSE_SIGNAL, KILLED);
    stand_run_ms(20000);
    pm_supervisor_on_isolated(&stand.core, true);
    stand_run_ms(200000);
    expect_state(PM_STATE_HALTING);
    pm_supervisor_on_isolated(&stand.core, true);
    pm_supervisor_on_isolated(&stand.core, false);
    stand_run_ms(20000);
    expect_state(PM_STATE_HALTING);
    stand_run_ms(20000);
    expect_state(PM_STATE_STOPPING);
}

Test(supervisor_late, isolation_winds_up_no_timer_that_does_not_run)
{
    running();
    pm_supervisor_on_isolated(&stand.core, false);
    pm_supervisor_on_isolated(&stand.core, true);
    pm_supervisor_on_isolated(&stand.core, false);
    stand_run_ms(1000000);
    expect_state(PM_STATE_RUNNING);
}

// --- decisions ----------------------------------------------------------------------------------------

static void halts_and_runs_again(uint32_t epoch, uint64_t backoff_ms)
{
    stand_mark(PM_MARK_HALTED, epoch, 0, 3);
    stand_run_ms(backoff_ms + 100);
    stand_mark(PM_MARK_STARTED, epoch + 1, 0, 3);
    expect_state(PM_STATE_RUNNING);
}

Test(supervisor_late, a_world_that_lives_shorter_than_the_last_wait_fails_in_a_row)
{
    options.min_uptime_ms = 1000;
    options.backoff_ms = 20000;
    options.backoff_max_ms = 100000;
    running();
    for (uint32_t epoch = 0; epoch < 2; epoch++) {
        fail_rank(3, PM_CAUSE_SIGNAL, KILLED);
        halts_and_runs_again(epoch, epoch * options.backoff_ms);
        stand_run_ms(epoch ? 10000 : 500);
    }
    expect_said("in 20 s");
    fail_rank(3, PM_CAUSE_SIGNAL, KILLED);
    expect_said("in 40 s");
}

Test(supervisor_late, an_exit_with_0_that_is_told_as_a_failure_is_ignored)
{
    options.verbose = 1;
    running();
    fail_rank(3, PM_CAUSE_EXIT, 0);
    expect_state(PM_STATE_RUNNING);
    expect_said("~pm-supervise: rank 3");
    cr_assert(!stand_said("\npm-supervise"));
}

Test(supervisor_late, the_first_failure_that_others_were_told_of_is_the_verdict)
{
    options.mode = PM_MODE_NOTIFY;
    running();
    fail_rank(1, PM_CAUSE_NO_FINALIZE, 0);
    fail_rank(3, PM_CAUSE_EXIT, EXITED(5));
    fail_rank(4, PM_CAUSE_EXIT, EXITED(6));
    struct pm_failure nobody = stand_failure(6, PM_CAUSE_EXIT, EXITED(7));
    nobody.rank = PM_RANK_NONE;
    stand_fail(&nobody);
    cr_assert(!pm_set_has(&stand.lost_ranks, PM_RANK_NONE));
    expect_state(PM_STATE_RUNNING);
    stand_mark(PM_MARK_ENDED, 0, 0, 3);
    expect_state(PM_STATE_FINISHING);
    happens(PM_EVENT_SRUN_EXITED, 0);
    cr_assert_eq(stand.exit_status, 5);
}

Test(supervisor_late, a_failure_after_the_end_is_part_of_it)
{
    running();
    stand_mark(PM_MARK_ENDED, 0, 0, 3);
    expect_state(PM_STATE_FINISHING);
    fail_rank(3, PM_CAUSE_SIGNAL, KILLED);
    happens(PM_EVENT_SRUN_EXITED, 0);
    cr_assert_eq(stand.exit_status, 0);
    fail_rank(3, PM_CAUSE_SIGNAL, KILLED);
    cr_assert_eq(stand_count(PM_ACTION_EXIT, NULL), 1);
}

// --- verdicts -----------------------------------------------------------------------------------------

Test(supervisor_late, a_second_stop_does_not_change_who_tells_the_ranks)
{
    running();
    stand_event(&(struct pm_event){.type = PM_EVENT_STOP, .signal = 15});
    expect_state(PM_STATE_STOPPING);
    cr_assert_eq(stand.wanted.phase, PM_PHASE_DRAIN);
    stand_event(&(struct pm_event){.type = PM_EVENT_STOP, .signal = 2, .flag_untold = true});
    cr_assert(!stand.core.supervisor->ranks_untold);
    cr_assert_eq(stand.core.supervisor->user_signal, 15);
}

Test(supervisor_late, a_stop_that_srun_survives_ends_with_its_signal)
{
    running();
    stand_event(&(struct pm_event){.type = PM_EVENT_STOP, .signal = 15});
    stand_run_ms(600000);
    expect_state(PM_STATE_DONE);
    expect_said("srun does not end");
    cr_assert_eq(stand.exit_status, 128 + 15);
}

Test(supervisor_late, srun_that_ends_when_all_ranks_had_ended_is_no_surprise)
{
    stand_coordinator(4, 2, &options);
    stand_join(0, 3);
    expect_state(PM_STATE_STARTING);
    stand_mark(PM_MARK_ENDED, 0, 0, 3); // STARTED is still on its way
    happens(PM_EVENT_SRUN_EXITED, 0);
    expect_state(PM_STATE_DONE);
    cr_assert_eq(stand.exit_status, 0);
    cr_assert(!stand_said("by itself"));
}

Test(supervisor_late, srun_that_cannot_supervise_has_said_why)
{
    stand_coordinator(4, 2, &options);
    stand_join(0, 1);
    happens(PM_EVENT_SRUN_EXITED, EXITED(125));
    cr_assert_eq(stand.exit_status, 125);
    cr_assert_str_empty(stand.said);
}

Test(supervisor_late, a_lost_shim_is_no_kill_from_outside_when_srun_ends_by_itself)
{
    running();
    fail_rank(3, PM_CAUSE_SHIM_LOST, 0);
    expect_state(PM_STATE_STOPPING);
    happens(PM_EVENT_SRUN_EXITED, EXITED(2));
    cr_assert_eq(stand.exit_status, 1);
    cr_assert(!stand_said("from outside"));
}
