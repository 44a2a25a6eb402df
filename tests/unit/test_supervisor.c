// SPDX-License-Identifier: Apache-2.0
//
// Each cell of the world's life (design, "The world's life"), on the supervisor alone: records and
// events go in, the wanted state, lines and the verdict come out. What a failure in RUNNING leads to is in
// test_supervisor_failures.c, modes rank and notify in test_supervisor_modes.c, the end in test_supervisor_end.c.
#include <criterion/criterion.h>
#include <string.h>

#include "tests/unit/supervisor_stand.h"

TestSuite(supervisor, .fini = stand_done, .timeout = 20);

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
    expect_said("node3 did not join within 15 s of the first node (--pm-join-window): ranks ran unsupervised there");
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
