// SPDX-License-Identifier: Apache-2.0
//
// Modes rank and notify, on the supervisor alone: one rank again, or the others told; and what a copy of the
// supervisor and its records keep.
#include <criterion/criterion.h>
#include <string.h>

#include "tests/unit/supervisor_stand.h"

TestSuite(supervisor_modes, .fini = stand_done, .timeout = 20);

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

Test(supervisor_modes, rank_mode_starts_one_rank_again)
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

Test(supervisor_modes, rank_mode_escalates_when_the_rank_had_connected)
{
    running_in(PM_MODE_RANK, 0);
    fail_rank(3, PM_CAUSE_EXIT, EXITED(4));
    expect_state(PM_STATE_HALTING);
    expect_said("; it had connected to PMIx: restarting 8 ranks on 4 nodes (restart 1 of 3)");
}

Test(supervisor_modes, rank_mode_backs_off)
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

Test(supervisor_modes, a_rank_that_waits_for_its_backoff_is_decided_on_once)
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

// Both with the last restart: the second failure does not find the budget used.
Test(supervisor_modes, rank_mode_takes_two_failures_at_once_for_one_decision)
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

Test(supervisor_modes, rank_mode_counts_a_rank_that_dies_again_before_others_have_started)
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

Test(supervisor_modes, rank_mode_lets_those_that_join_wait_as_long)
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

Test(supervisor_modes, rank_mode_escalates_a_failure_that_asks_for_more_than_to_join)
{
    running_in(PM_MODE_RANK, 0);
    fail_unconnected(3);
    fail_rank(6, PM_CAUSE_EXIT, EXITED(4));
    expect_state(PM_STATE_HALTING);
    expect_said("; it had connected to PMIx: restarting 8 ranks on 4 nodes (restart 2 of 3)");
    cr_assert_eq(stand.core.supervisor->n_pending, 0);
}

Test(supervisor_modes, rank_mode_stops_when_a_rank_does_not_start_again)
{
    running_in(PM_MODE_RANK, 0);
    fail_unconnected(3);
    stand_run_ms(119999);
    expect_state(PM_STATE_RUNNING);
    stand_run_ms(1);
    expect_state(PM_STATE_STOPPING);
    expect_said("pm-supervise: rank 3 did not start again within 2m00s; stopping\n");
}

Test(supervisor_modes, notify_mode_tells_and_ends_with_the_first_failures_status)
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

Test(supervisor_modes, notify_mode_of_many_ranks_does_not_flood_stderr)
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

Test(supervisor_modes, passes_on_why_a_node_cannot_start_ranks)
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

Test(supervisor_modes, srun_that_ends_while_ranks_are_started_is_a_loss)
{
    starting();
    srun_exits(0);
    expect_state(PM_STATE_DONE);
    cr_assert_eq(stand.exit_status, 1);
}

// --- records -----------------------------------------------------------------------------------

Test(supervisor_modes, a_new_child_gets_map_and_wanted_state)
{
    running(NULL);
    uint32_t wanted = stand.n_wanted, maps = stand.n_maps;
    pm_supervisor_on_child(&stand.core, 2);
    cr_assert_eq(stand.n_wanted, wanted + 1);
    cr_assert_eq(stand.n_maps, maps + 1);
}

Test(supervisor_modes, malformed_frames_are_refused)
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

Test(supervisor_modes, a_clone_has_the_same_digest_and_a_life_of_its_own)
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
Test(supervisor_modes, a_digest_forgets_what_decides_nothing_any_more)
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
