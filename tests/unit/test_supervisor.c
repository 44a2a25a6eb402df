// SPDX-License-Identifier: Apache-2.0
//
// Each cell of the world's life (design, "The world's life"), on the supervisor alone: records and
// events go in, the wanted state, lines and the verdict come out.
#include <criterion/criterion.h>
#include <string.h>

#include "tests/unit/life_stand.h"

#define KILLED       9
#define EXITED(code) ((code) << 8)

static void expect_state(enum pm_state state)
{
    cr_assert_eq(stand_state(), state, "%s, not %s; said: %s", pm_state_name(stand_state()),
                 pm_state_name(state), stand.said);
}

static void expect_said(const char *text)
{
    cr_assert(stand_said(text), "\"%s\" is not in: %s", text, stand.said);
}

static void fail_rank(uint32_t rank, enum pm_cause cause, int32_t wait_status)
{
    struct pm_failure failure = stand_failure(rank, cause, wait_status);
    stand_fail(&failure);
}

static void srun_exits(int32_t wait_status)
{
    stand_event(&(struct pm_event){.type = PM_EVENT_SRUN_EXITED, .wait_status = wait_status});
}

static void user_stops(void)
{
    stand_event(&(struct pm_event){.type = PM_EVENT_STOP, .signal = 15});
}

static void slurm_signals(void)
{
    struct pm_report report;
    pm_report_init(&report);
    report.epoch = stand.wanted.epoch;
    report.user_signal = 15;
    cr_assert(stand_report(&report));
    pm_report_done(&report);
}

static void node_dies(uint32_t node, enum pm_cause cause)
{
    cr_assert_eq(pm_set_add(&stand.dead, node), 0);
    size_t from = stand.out.n;
    pm_supervisor_on_node_dead(&stand.core, node, cause);
    for (size_t i = from; i < stand.out.n; i++)
        if (stand.out.list[i].type == PM_ACTION_SAY)
            strcat(strcat(stand.said, stand.out.list[i].text), "\n");
}

// 4 nodes of 2 ranks, long running.
static void running(const struct pm_options *o)
{
    stand_coordinator(4, 2, o);
    stand_running();
    stand_run_ms(724000);
    stand_forget();
}

static void halting(const struct pm_options *o)
{
    running(o);
    fail_rank(3, PM_CAUSE_SIGNAL, KILLED);
    expect_state(PM_STATE_HALTING);
}

static void placing(void)
{
    halting(NULL);
    cr_assert_eq(pm_set_add(&stand.suspect, 2), 0);
    stand_mark(PM_MARK_HALTED, 0, 0, 3);
    expect_state(PM_STATE_PLACING);
}

static void restarted(const struct pm_options *o)
{
    halting(o);
    stand_mark(PM_MARK_HALTED, 0, 0, 3);
    expect_state(PM_STATE_STARTING);
    stand_mark(PM_MARK_STARTED, 1, 0, 3);
    expect_state(PM_STATE_RUNNING);
}

static void stopping(void)
{
    running(NULL);
    fail_rank(3, PM_CAUSE_EXIT, EXITED(93));
    expect_state(PM_STATE_STOPPING);
}

static void ended(void)
{
    stand_done();
}

TestSuite(supervisor, .fini = ended, .timeout = 20);

// --- FORMING -----------------------------------------------------------------------------------

Test(supervisor, starts_when_all_nodes_have_joined)
{
    stand_coordinator(4, 2, NULL);
    stand_join(0, 1);
    expect_state(PM_STATE_FORMING);
    stand_join(2, 3);
    expect_state(PM_STATE_STARTING);
    cr_assert_eq(stand.n_maps, 1);
    cr_assert_eq(stand.wanted.phase, PM_PHASE_START);
    cr_assert_eq(stand.wanted.port, 5000);
    cr_assert_eq(stand.core.world.node_of_rank[5], 2);
}

Test(supervisor, does_not_count_queueing_as_start)
{
    stand_coordinator(4, 2, NULL);
    stand.core.supervisor->launched = false;
    stand.core.supervisor->deadline_ns = UINT64_MAX;
    stand_run_ms(1000ull * 3600 * 24);
    expect_state(PM_STATE_FORMING);
}

Test(supervisor, names_late_nodes_then_ends_the_step_with_125)
{
    stand_coordinator(4, 2, NULL);
    stand_join(0, 2);
    stand_run_ms(5100);
    expect_said("node3 has not joined: is pm_supervise in its plugstack.conf, and can it reach "
                "login1:40123?");
    expect_state(PM_STATE_FORMING);
    stand_run_ms(10000);
    expect_state(PM_STATE_STOPPING);
    expect_said("node3 did not join within 15 s of the first node: ranks ran unsupervised there");
    cr_assert_eq(stand_count(PM_ACTION_END_STEP, NULL), 1);
    srun_exits(KILLED);
    cr_assert_eq(stand.exit_status, 125);
}

Test(supervisor, gives_up_when_no_node_joins)
{
    stand_coordinator(4, 2, NULL);
    stand_run_ms(120100);
    expect_state(PM_STATE_STOPPING);
    expect_said("no node has joined within 2m00s of the launch");
    srun_exits(0);
    cr_assert_eq(stand.exit_status, 125);
}

Test(supervisor, passes_on_why_a_node_cannot_start)
{
    stand_coordinator(4, 2, NULL);
    stand_join(0, 2);
    struct pm_report report;
    pm_report_init(&report);
    report.cannot_node = 3;
    pm_text_copy(report.cannot_text, sizeof(report.cannot_text),
                 "cannot start the agent: no such file");
    cr_assert(stand_report(&report));
    expect_state(PM_STATE_STOPPING);
    expect_said("pm-supervise: node3: cannot start the agent: no such file\n");
    cr_assert(stand.wanted.has_end_status);
    srun_exits(EXITED(125));
    cr_assert_eq(stand.exit_status, 125);
}

static void join_as(uint32_t node, uint32_t rank)
{
    struct pm_report report;
    pm_report_init(&report);
    cr_assert_eq(pm_set_add(&report.joined, node), 0);
    cr_assert_eq(pm_map_add(&report.map, rank, 1, node), 0);
    cr_assert(stand_report(&report));
    pm_report_done(&report);
}

Test(supervisor, refuses_two_nodes_with_one_rank)
{
    stand_coordinator(2, 1, NULL);
    join_as(0, 0);
    join_as(1, 0);
    expect_state(PM_STATE_STOPPING);
    expect_said("both have rank 0");
}

Test(supervisor, refuses_a_world_with_a_hole)
{
    stand_coordinator(2, 2, NULL);
    join_as(0, 0);
    join_as(1, 3);
    expect_state(PM_STATE_STOPPING);
    expect_said("no node has rank 1");
}

Test(supervisor, stops_when_a_node_is_lost_while_forming)
{
    stand_coordinator(4, 2, NULL);
    stand_join(0, 2);
    node_dies(1, PM_CAUSE_AGENT_LOST);
    expect_state(PM_STATE_STOPPING);
    expect_said("agent-lost");
    srun_exits(0);
    cr_assert_eq(stand.exit_status, 125);
}

Test(supervisor, user_stops_while_forming)
{
    stand_coordinator(4, 2, NULL);
    stand_join(0, 2);
    user_stops();
    expect_state(PM_STATE_STOPPING);
    cr_assert_eq(stand_count(PM_ACTION_END_STEP, NULL), 1);
    srun_exits(EXITED(143));
    cr_assert_eq(stand.exit_status, 143);
}

Test(supervisor, gives_sruns_status_when_it_gets_no_step)
{
    stand_coordinator(4, 2, NULL);
    stand.core.supervisor->launched = false;
    srun_exits(EXITED(1));
    expect_state(PM_STATE_DONE);
    cr_assert_eq(stand.exit_status, 1);
    cr_assert_str_empty(stand.said);
}

Test(supervisor, says_that_ranks_ran_unsupervised_when_srun_ends_before_all_joined)
{
    stand_coordinator(4, 2, NULL);
    stand_join(0, 1);
    srun_exits(0);
    cr_assert_eq(stand.exit_status, 125);
    expect_said("2 of 4 nodes had joined");
}

Test(supervisor, waits_a_moment_for_the_port_of_rank_0)
{
    stand_coordinator(1, 1, NULL);
    join_as(0, 0);
    expect_state(PM_STATE_FORMING);
    stand_run_ms(501);
    expect_state(PM_STATE_STARTING);
    cr_assert_eq(stand.wanted.port, 0);
}

// --- STARTING ----------------------------------------------------------------------------------

Test(supervisor, runs_when_all_ranks_have_started)
{
    stand_coordinator(4, 2, NULL);
    stand_join(0, 3);
    stand_mark(PM_MARK_STARTED, 0, 0, 2);
    expect_state(PM_STATE_STARTING);
    stand_mark(PM_MARK_STARTED, 0, 3, 3);
    expect_state(PM_STATE_RUNNING);
    cr_assert(!stand_said("epoch 0 running"));
}

Test(supervisor, restarts_a_world_that_fails_while_starting)
{
    stand_coordinator(4, 2, NULL);
    stand_join(0, 3);
    fail_rank(0, PM_CAUSE_SIGNAL, KILLED);
    expect_state(PM_STATE_HALTING);
}

Test(supervisor, stops_when_a_node_does_not_start_its_ranks)
{
    stand_coordinator(4, 2, NULL);
    stand_join(0, 3);
    stand_mark(PM_MARK_STARTED, 0, 0, 2);
    stand_run_ms(120001);
    expect_state(PM_STATE_STOPPING);
    expect_said("epoch 0: node3 did not start all ranks within 2m00s");
    stand_mark(PM_MARK_HALTED, 0, 0, 3);
    srun_exits(0);
    cr_assert_eq(stand.exit_status, 125);
}

Test(supervisor, user_stops_while_starting)
{
    stand_coordinator(4, 2, NULL);
    stand_join(0, 3);
    slurm_signals();
    expect_state(PM_STATE_STOPPING);
    cr_assert_eq(stand.wanted.phase, PM_PHASE_DRAIN);
}

// Shims that never had a rank end with 125; that is no verdict on us when it is the user who stops.
Test(supervisor, a_user_who_stops_before_any_rank_ran_is_not_told_125)
{
    stand_coordinator(4, 2, NULL);
    stand_join(0, 3);
    user_stops();
    expect_state(PM_STATE_STOPPING);
    srun_exits(PM_EXIT_CANNOT_SUPERVISE << 8);
    cr_assert_eq(stand.exit_status, 128 + 15);
}

Test(supervisor, failed_exec_is_never_restarted_and_keeps_its_status)
{
    stand_coordinator(4, 2, NULL);
    stand_join(0, 3);
    fail_rank(0, PM_CAUSE_EXEC, EXITED(2));
    expect_state(PM_STATE_STOPPING);
    expect_said("could not be started (exit code 2); stopping: a program that cannot be started");
    srun_exits(EXITED(2));
    cr_assert_eq(stand.exit_status, 2);
}

// --- RUNNING -----------------------------------------------------------------------------------

Test(supervisor, finishes_with_0_when_all_ranks_ended_well)
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

Test(supervisor, restarts_the_world_in_one_sentence)
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

Test(supervisor, gives_durations_of_the_restart_in_the_log)
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

Test(supervisor, ignores_marks_of_an_older_epoch)
{
    restarted(NULL);
    stand_mark(PM_MARK_ENDED, 0, 0, 3);
    expect_state(PM_STATE_RUNNING);
    struct pm_failure failure = stand_failure(3, PM_CAUSE_SIGNAL, KILLED);
    failure.epoch = failure.incarnation = 0;
    stand_fail(&failure);
    expect_state(PM_STATE_RUNNING);
}

Test(supervisor, decides_once_about_two_failures_at_once)
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

Test(supervisor, stops_on_a_fatal_exit)
{
    stopping();
    expect_said("exited with code 93 after 12m04s; stopping: exit code 93 is in --pm-fatal-exit\n");
    cr_assert_eq(stand.wanted.phase, PM_PHASE_STOP);
    stand_mark(PM_MARK_HALTED, 0, 0, 3);
    cr_assert_eq(stand.wanted.phase, PM_PHASE_END);
    srun_exits(EXITED(1));
    cr_assert_eq(stand.exit_status, 93);
}

Test(supervisor, stops_when_the_budget_is_used)
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

Test(supervisor, gets_its_budget_back_when_the_window_has_passed)
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

Test(supervisor, stops_after_three_start_failures_in_a_row)
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

Test(supervisor, a_long_life_resets_the_start_failures)
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

Test(supervisor, min_uptime_0_is_off)
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

Test(supervisor, backs_off_before_the_second_restart_in_a_row)
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

Test(supervisor, stops_when_a_node_is_lost)
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

Test(supervisor, a_lost_node_whose_ranks_had_ended_well_is_no_failure)
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

Test(supervisor, a_rank_that_fails_after_such_a_loss_stops_the_step_with_its_own_status)
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

Test(supervisor, a_dead_server_restarts_the_world_once)
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

Test(supervisor, a_lost_shim_stops_the_step)
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
Test(supervisor, a_step_that_is_killed_as_a_whole_ends_as_slurm_says)
{
    running(NULL);
    fail_rank(5, PM_CAUSE_SHIM_LOST, 0);
    expect_state(PM_STATE_STOPPING);
    srun_exits(EXITED(137));
    cr_assert_eq(stand.exit_status, 137);
    expect_said("all of the step was killed by signal 9 from outside (scancel?)");
}

Test(supervisor, abort_gives_its_status_when_it_stops)
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

Test(supervisor, tells_that_slurm_reports_oom_all_the_same)
{
    running(NULL);
    fail_rank(1, PM_CAUSE_OOM, KILLED);
    expect_said(
        "for lack of memory (oom) after 12m04s; restarting 8 ranks on 4 nodes (restart 1 of 3); "
        "Slurm itself will still report OUT_OF_MEMORY for this step\n");
}

Test(supervisor, ranks_without_finalize_are_told_and_nothing_restarts)
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

Test(supervisor, a_fence_that_waits_for_such_a_rank_is_the_failure)
{
    running(NULL);
    fail_rank(2, PM_CAUSE_NO_FINALIZE, 0);
    expect_state(PM_STATE_HALTING);
    expect_said("(no-finalize)");
}

Test(supervisor, wait_option_stops_after_the_first_end)
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

// --- rank and notify modes ---------------------------------------------------------------------

static void running_in(enum pm_mode mode, uint64_t backoff_ms)
{
    struct pm_options o;
    stand_options(&o);
    o.mode = mode;
    o.backoff_ms = backoff_ms;
    running(&o);
}

static void fail_unconnected(uint32_t rank)
{
    struct pm_failure failure = stand_failure(rank, PM_CAUSE_EXIT, EXITED(4));
    failure.connected = false;
    stand_fail(&failure);
}

Test(supervisor, rank_mode_starts_one_rank_again)
{
    running_in(PM_MODE_RANK, 0);
    struct pm_failure failure = stand_failure(3, PM_CAUSE_EXIT, EXITED(4));
    failure.connected = false;
    stand_fail(&failure);
    stand_fail(&failure);
    expect_state(PM_STATE_RUNNING);
    expect_said("exited with code 4 after 12m04s; restarting this rank (restart 1 of 3)\n");
    cr_assert_eq(pm_wanted_incarnation(&stand.wanted, 3), 1);
    cr_assert_eq(pm_wanted_incarnation(&stand.wanted, 2), 0);
    cr_assert_eq(stand.wanted.n_notices, 1);
    cr_assert_eq(stand.core.supervisor->restarts, 1);
    cr_assert(pm_set_empty(&stand.lost_ranks));
}

Test(supervisor, rank_mode_escalates_when_the_rank_had_connected)
{
    running_in(PM_MODE_RANK, 0);
    fail_rank(3, PM_CAUSE_EXIT, EXITED(4));
    expect_state(PM_STATE_HALTING);
    expect_said("; it had connected to PMIx: restarting 8 ranks on 4 nodes (restart 1 of 3)");
}

Test(supervisor, rank_mode_backs_off)
{
    running_in(PM_MODE_RANK, 2000);
    fail_unconnected(3);
    cr_assert_eq(pm_wanted_incarnation(&stand.wanted, 3), 1);
    struct pm_failure failure = stand_failure(3, PM_CAUSE_EXIT, EXITED(4));
    failure.connected = false;
    failure.uptime_ms = 10;
    stand_fail(&failure);
    stand_fail(&failure);
    expect_said("restarting this rank in 2 s (restart 2 of 3)");
    cr_assert_eq(pm_wanted_incarnation(&stand.wanted, 3), 1);
    stand_run_ms(2001);
    cr_assert_eq(pm_wanted_incarnation(&stand.wanted, 3), 2);
}

static uint32_t decisions_about(uint32_t rank, uint32_t incarnation)
{
    uint32_t n = 0;
    for (size_t i = 0; i < stand.out.n; i++) {
        const struct pm_log *log = stand.out.list[i].log;
        n += log && !strcmp(log->kind, "decision") && log->rank == rank &&
             log->incarnation == incarnation;
    }
    return n;
}

Test(supervisor, a_rank_that_waits_for_its_backoff_is_decided_on_once)
{
    running_in(PM_MODE_RANK, 2000);
    fail_unconnected(3);
    struct pm_failure failure = stand_failure(3, PM_CAUSE_EXIT, EXITED(4));
    failure.connected = false;
    failure.uptime_ms = 10;
    stand_fail(&failure);
    fail_rank(2, PM_CAUSE_EXIT, EXITED(4));
    expect_state(PM_STATE_HALTING);
    stand_fail(&failure);
    cr_assert_eq(decisions_about(3, 1), 1);
}

static void again(uint32_t first, uint32_t last)
{
    struct pm_report report;
    pm_report_init(&report);
    cr_assert_eq(pm_set_add_span(&report.again, first, last), 0);
    cr_assert(stand_report(&report));
    pm_report_done(&report);
}

// Both with the last restart: the second failure does not find the budget used.
Test(supervisor, rank_mode_takes_two_failures_at_once_for_one_decision)
{
    struct pm_options o;
    stand_options(&o);
    o.mode = PM_MODE_RANK;
    o.max_restarts = 1;
    stand_coordinator(4, 2, &o);
    stand_running();
    stand_run_ms(60000);
    stand_forget();
    fail_unconnected(3);
    stand_run_ms(5);
    fail_unconnected(6);
    expect_state(PM_STATE_RUNNING);
    cr_assert_eq(stand.core.supervisor->restarts, 1);
    expect_said("rank 3 (node1, pid 8123) exited with code 4 after 12m04s; restarting this rank (restart 1 of 1)\n");
    expect_said("rank 6 (node3, pid 8123) exited with code 4 after 12m04s; restarting this rank (restart 1 of 1)\n");
    cr_assert_eq(pm_wanted_incarnation(&stand.wanted, 6), 1);
    stand_run_ms(20);
    again(2, 2);
    expect_said("pm-supervise: rank 6 running again after 20 ms\n");
    cr_assert_not(stand_said("rank 3 running"));
    stand_run_ms(13);
    again(1, 2);
    expect_said("pm-supervise: rank 3 running again after 38 ms\n");
    cr_assert_eq(stand_count(PM_ACTION_SAY, NULL), 4);
    // At once is a moment longer than the restart took; then the decision is over, and with it the budget.
    stand_run_ms(461);
    fail_unconnected(7);
    again(1, 3);
    cr_assert_eq(stand.core.supervisor->restarts, 1);
    stand_run_ms(1);
    fail_unconnected(0);
    expect_state(PM_STATE_STOPPING);
    expect_said("; stopping: 1 of 1 restarts used");
}

Test(supervisor, rank_mode_counts_a_rank_that_dies_again_before_others_have_started)
{
    running_in(PM_MODE_RANK, 0);
    fail_unconnected(3);
    fail_unconnected(6);
    fail_unconnected(3);
    cr_assert_eq(stand.core.supervisor->restarts, 2);
    cr_assert_eq(pm_wanted_incarnation(&stand.wanted, 3), 2);
    expect_said("(restart 2 of 3)");
    // The news of its first restart is old; only that of the others counts.
    again(1, 2);
    cr_assert_not(stand_said("rank 3 running"));
    expect_said("rank 6 running again");
    again(1, 3);
    expect_said("rank 3 running again");
    stand_run_ms(200000);
    expect_state(PM_STATE_RUNNING);
}

Test(supervisor, rank_mode_lets_those_that_join_wait_as_long)
{
    running_in(PM_MODE_RANK, 2000);
    fail_unconnected(3);
    again(1, 1);
    struct pm_failure failure = stand_failure(3, PM_CAUSE_EXIT, EXITED(4));
    failure.connected = false;
    failure.uptime_ms = 10;
    stand_fail(&failure);
    stand_run_ms(1500);
    fail_unconnected(5);
    expect_said("restarting this rank in 500 ms (restart 2 of 3)");
    stand_run_ms(499);
    cr_assert_eq(pm_wanted_incarnation(&stand.wanted, 5), 0);
    stand_run_ms(1);
    cr_assert_eq(pm_wanted_incarnation(&stand.wanted, 5), 1);
    cr_assert_eq(pm_wanted_incarnation(&stand.wanted, 3), 2);
}

Test(supervisor, rank_mode_escalates_a_failure_that_asks_for_more_than_to_join)
{
    running_in(PM_MODE_RANK, 0);
    fail_unconnected(3);
    fail_rank(6, PM_CAUSE_EXIT, EXITED(4));
    expect_state(PM_STATE_HALTING);
    expect_said("; it had connected to PMIx: restarting 8 ranks on 4 nodes (restart 2 of 3)");
    cr_assert_eq(stand.core.supervisor->n_pending, 0);
}

Test(supervisor, rank_mode_stops_when_a_rank_does_not_start_again)
{
    running_in(PM_MODE_RANK, 0);
    fail_unconnected(3);
    stand_run_ms(119999);
    expect_state(PM_STATE_RUNNING);
    stand_run_ms(1);
    expect_state(PM_STATE_STOPPING);
    expect_said("pm-supervise: rank 3 did not start again within 2m00s; stopping\n");
}

Test(supervisor, notify_mode_tells_and_ends_with_the_first_failures_status)
{
    running_in(PM_MODE_NOTIFY, 0);
    fail_rank(3, PM_CAUSE_EXIT, EXITED(4));
    fail_rank(2, PM_CAUSE_SIGNAL, KILLED);
    expect_state(PM_STATE_RUNNING);
    expect_said("exited with code 4 after 12m04s; the other ranks are told and go on\n");
    cr_assert(pm_set_has(&stand.wanted.dead, 3));
    cr_assert_eq(stand.wanted.n_notices, 2);
    cr_assert_eq(pm_set_count(&stand.lost_ranks), 2);
    stand_mark(PM_MARK_ENDED, 0, 0, 3);
    expect_state(PM_STATE_FINISHING);
    srun_exits(EXITED(4));
    cr_assert_eq(stand.exit_status, 4);
}

Test(supervisor, notify_mode_of_many_ranks_does_not_flood_stderr)
{
    struct pm_options o;
    stand_options(&o);
    o.mode = PM_MODE_NOTIFY;
    stand_coordinator(50, 2, &o);
    stand_running();
    for (uint32_t rank = 0; rank < 100; rank++)
        fail_rank(rank, PM_CAUSE_EXIT, EXITED(4));
    cr_assert_lt(stand_count(PM_ACTION_SAY, NULL), PM_LINES_MAX + 2);
    expect_said("only in --pm-log");
    cr_assert_eq(pm_set_count(&stand.wanted.dead), 100);
}

static void starting(void)
{
    stand_coordinator(4, 2, NULL);
    stand_join(0, 3);
    expect_state(PM_STATE_STARTING);
}

Test(supervisor, passes_on_why_a_node_cannot_start_ranks)
{
    starting();
    struct pm_report report;
    pm_report_init(&report);
    report.cannot_node = 2;
    pm_text_copy(report.cannot_text, sizeof(report.cannot_text), "cannot run pm-pmix-server");
    cr_assert(stand_report(&report));
    expect_state(PM_STATE_STOPPING);
    expect_said("pm-supervise: node2: cannot run pm-pmix-server\n");
    srun_exits(EXITED(125));
    cr_assert_eq(stand.exit_status, 125);
}

Test(supervisor, srun_that_ends_while_ranks_are_started_is_a_loss)
{
    starting();
    srun_exits(0);
    expect_state(PM_STATE_DONE);
    cr_assert_eq(stand.exit_status, 1);
}

// --- HALTING, PLACING --------------------------------------------------------------------------

Test(supervisor, srun_that_ends_between_two_epochs_is_a_loss)
{
    placing();
    srun_exits(0);
    expect_state(PM_STATE_DONE);
    cr_assert_eq(stand.exit_status, 1);
}

// Whatever took the node out: the world is fixed, so it is not started without it.
Test(supervisor, never_starts_a_world_with_a_dead_node)
{
    placing();
    cr_assert_eq(pm_set_add(&stand.dead, 2), 0);
    pm_set_clear(&stand.suspect);
    stand_run_ms(100);
    expect_state(PM_STATE_STOPPING);
    expect_said("node2 is lost and nothing can take its place");
    srun_exits(EXITED(1));
    cr_assert_eq(stand.exit_status, 1);
}

Test(supervisor, failures_while_halting_join_the_decision)
{
    halting(NULL);
    fail_rank(6, PM_CAUSE_SIGNAL, 11);
    expect_state(PM_STATE_HALTING);
    cr_assert_eq(stand.core.supervisor->restarts, 1);
    cr_assert_eq(stand_count(PM_ACTION_SAY, NULL), 1);
}

Test(supervisor, a_fatal_failure_that_joins_stops_after_all)
{
    halting(NULL);
    fail_rank(6, PM_CAUSE_EXIT, EXITED(93));
    expect_state(PM_STATE_STOPPING);
    expect_said("exit code 93 is in --pm-fatal-exit");
    stand_mark(PM_MARK_HALTED, 0, 0, 3);
    srun_exits(0);
    cr_assert_eq(stand.exit_status, 93);
}

Test(supervisor, a_last_restart_is_not_lost_to_a_failure_that_joins)
{
    struct pm_options o;
    stand_options(&o);
    o.max_restarts = 1;
    halting(&o);
    fail_rank(6, PM_CAUSE_SIGNAL, 11);
    expect_state(PM_STATE_HALTING);
}

Test(supervisor, a_node_lost_while_halting_stops)
{
    halting(NULL);
    node_dies(2, PM_CAUSE_NODE_LOST);
    expect_state(PM_STATE_STOPPING);
    expect_said("node-lost");
}

Test(supervisor, a_rank_that_cannot_be_reaped_stops)
{
    halting(NULL);
    struct pm_failure failure = stand_failure(6, PM_CAUSE_NODE_LOST, 0);
    pm_text_copy(failure.text, sizeof(failure.text), "a process is not gone 10 s after SIGKILL");
    stand_fail(&failure);
    expect_state(PM_STATE_STOPPING);
    expect_said("a process is not gone 10 s after SIGKILL");
    cr_assert(pm_set_has(&stand.dead, 3));
    cr_assert_eq(stand_count(PM_ACTION_SAY, NULL), 2);
    stand_mark(PM_MARK_HALTED, 0, 0, 2);
    cr_assert_eq(stand.wanted.phase, PM_PHASE_END); // nobody waits for it
}

Test(supervisor, user_stops_while_halting)
{
    halting(NULL);
    slurm_signals();
    expect_state(PM_STATE_STOPPING);
    cr_assert_eq(stand.wanted.phase, PM_PHASE_STOP);
    stand_mark(PM_MARK_HALTED, 0, 0, 3);
    cr_assert_eq(stand.wanted.phase, PM_PHASE_END);
    srun_exits(15);
    cr_assert_eq(stand.exit_status, 143);
}

Test(supervisor, halting_has_a_bound)
{
    halting(NULL);
    stand_mark(PM_MARK_HALTED, 0, 0, 2);
    stand_run_ms(26100);
    expect_state(PM_STATE_STOPPING);
    expect_said("node3 did not halt");
}

Test(supervisor, placing_waits_until_nobody_is_suspect)
{
    placing();
    stand_run_ms(200);
    expect_state(PM_STATE_PLACING);
    pm_set_clear(&stand.suspect);
    stand_run_ms(60);
    expect_state(PM_STATE_STARTING);
}

Test(supervisor, a_node_lost_while_placing_stops)
{
    placing();
    node_dies(2, PM_CAUSE_NODE_LOST);
    expect_state(PM_STATE_STOPPING);
    cr_assert_eq(stand.wanted.phase, PM_PHASE_END);
}

Test(supervisor, user_stops_while_placing)
{
    placing();
    slurm_signals();
    expect_state(PM_STATE_STOPPING);
    cr_assert_eq(stand.wanted.phase, PM_PHASE_END);
}

Test(supervisor, placing_has_a_bound)
{
    placing();
    stand_run_ms(81000);
    expect_state(PM_STATE_STOPPING);
}

// --- FINISHING, STOPPING, DONE -----------------------------------------------------------------

Test(supervisor, a_node_lost_while_finishing_is_no_failure)
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

Test(supervisor, finishing_has_bounds)
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

Test(supervisor, any_failure_while_stopping_stays)
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

Test(supervisor, stopping_is_bounded_by_grace_10_s_and_node_timeout)
{
    stopping();
    stand_run_ms(25001);
    cr_assert_eq(stand.wanted.phase, PM_PHASE_END);
    stand_run_ms(10001);
    cr_assert_eq(stand_count(PM_ACTION_END_STEP, NULL), 1);
    stand_run_ms(15001);
    cr_assert_eq(stand.exit_status, 93);
}

Test(supervisor, user_stop_sends_no_signal_but_has_a_bound)
{
    running(NULL);
    slurm_signals();
    expect_state(PM_STATE_STOPPING);
    cr_assert_eq(stand.wanted.phase, PM_PHASE_DRAIN);
    expect_said("signal 15");
    stand_run_ms(39000);
    cr_assert_eq(stand.wanted.phase, PM_PHASE_DRAIN);
    stand_run_ms(1001);
    cr_assert_eq(stand.wanted.phase, PM_PHASE_KILL);
    stand_mark(PM_MARK_HALTED, 0, 0, 3);
    cr_assert_eq(stand.wanted.phase, PM_PHASE_END);
    srun_exits(KILLED);
    cr_assert_eq(stand.exit_status, 137);
}

Test(supervisor, user_stop_ends_when_all_ranks_have_ended)
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
Test(supervisor, ctrl_c_ends_with_130_though_srun_had_to_kill_the_shims)
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

Test(supervisor, srun_that_ends_by_itself_ends_the_step)
{
    running(NULL);
    srun_exits(EXITED(5));
    expect_state(PM_STATE_DONE);
    cr_assert_eq(stand.exit_status, 5);
    expect_said("srun ended by itself");
}

// The ranks of a world that is being restarted have ended as well.
Test(supervisor, srun_that_ends_in_a_halt_is_no_success)
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
Test(supervisor, srun_that_ends_because_all_agents_were_orphaned_is_a_loss)
{
    running(NULL);
    srun_exits(EXITED(124));
    expect_state(PM_STATE_DONE);
    cr_assert_eq(stand.exit_status, 1);
}

Test(supervisor, srun_that_ends_in_the_middle_with_0_is_a_loss)
{
    halting(NULL);
    srun_exits(0);
    expect_state(PM_STATE_DONE);
    cr_assert_eq(stand.exit_status, 1);
}

Test(supervisor, done_is_done)
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

Test(supervisor, a_timer_that_comes_much_too_late_is_wound_up_again)
{
    halting(NULL);
    stand.core.now_ns += 60000 * PM_MS; // Ctrl-Z on srun
    stand_event(&(struct pm_event){.type = PM_EVENT_TIMER});
    expect_state(PM_STATE_HALTING);
    stand_mark(PM_MARK_HALTED, 0, 0, 3);
    expect_state(PM_STATE_STARTING);
}

Test(supervisor, a_late_timer_does_not_prolong_the_end)
{
    stopping();
    for (int i = 0; i < 4; i++) {
        stand.core.now_ns += 60000 * PM_MS;
        stand_event(&(struct pm_event){.type = PM_EVENT_TIMER});
    }
    expect_state(PM_STATE_DONE);
    cr_assert_eq(stand.exit_status, 93);
}

Test(supervisor, timers_stand_still_while_the_coordinator_doubts_itself)
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
Test(supervisor, a_step_that_ends_does_so_in_bounded_time_even_in_doubt)
{
    running(NULL);
    pm_supervisor_on_isolated(&stand.core, true);
    node_dies(0, PM_CAUSE_NODE_LOST);
    expect_state(PM_STATE_STOPPING);
    stand_run_ms(60000);
    cr_assert_eq(stand.exit_status, 1);
    expect_state(PM_STATE_DONE);
}

// --- records -----------------------------------------------------------------------------------

Test(supervisor, a_new_child_gets_map_and_wanted_state)
{
    running(NULL);
    uint32_t wanted = stand.n_wanted, maps = stand.n_maps;
    pm_supervisor_on_child(&stand.core, 2);
    cr_assert_eq(stand.n_wanted, wanted + 1);
    cr_assert_eq(stand.n_maps, maps + 1);
}

Test(supervisor, malformed_frames_are_refused)
{
    running(NULL);
    struct pm_report report;
    pm_report_init(&report);
    cr_assert_eq(pm_set_add(&report.joined, 4), 0);
    cr_assert(!stand_report(&report));
    cr_assert(!stand_frame(PM_FRAME_REPORT, "x", 1));
    cr_assert(!stand_frame(PM_FRAME_WANTED, "", 0));
    pm_report_done(&report);
}

static uint64_t digest(struct pm_supervisor *s)
{
    struct pm_core core = stand.core;
    struct pm_digest d = {0};
    core.supervisor = s;
    pm_supervisor_digest(&core, stand.core.now_ns, &d);
    return d.h;
}

Test(supervisor, a_clone_has_the_same_digest_and_a_life_of_its_own)
{
    struct pm_options o;
    stand_options(&o);
    o.restart_window_ms = 60000;
    restarted(&o);
    struct pm_supervisor *clone = pm_supervisor_clone(stand.core.supervisor);
    cr_assert(clone);
    uint64_t before = digest(clone);
    cr_assert_eq(before, digest(stand.core.supervisor));
    fail_rank(3, PM_CAUSE_SIGNAL, KILLED);
    cr_assert_neq(digest(stand.core.supervisor), before);
    cr_assert_eq(digest(clone), before);
    pm_supervisor_free(clone);
}

// Else a simulator that looks for states it has seen would never find one again.
Test(supervisor, a_digest_forgets_what_decides_nothing_any_more)
{
    struct pm_options o;
    stand_options(&o);
    o.restart_window_ms = 60000;
    restarted(&o);
    stand.core.now_ns += 61000 * PM_MS;
    uint64_t before = digest(stand.core.supervisor);
    stand.core.now_ns += 3600000 * PM_MS;
    cr_assert_eq(digest(stand.core.supervisor), before);
}
