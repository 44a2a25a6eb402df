// SPDX-License-Identifier: Apache-2.0
//
// The agent's half of supervision alone: local facts and the wanted state in; actions and the
// record of the subtree out. Halting and what follows it is in test_node_halt.c.
#include <criterion/criterion.h>
#include <string.h>

#include "tests/unit/node_stand.h"

TestSuite(node, .init = node_setup, .fini = node_teardown, .timeout = 20);

// --- forming -----------------------------------------------------------------------------------

Test(node, joins_when_its_last_shim_is_there)
{
    event(PM_EVENT_SHIM_JOINED, 1);
    stand_run_ms(10);
    cr_assert(pm_set_empty(&stand.report.joined));
    event(PM_EVENT_SHIM_JOINED, 0);
    stand_run_ms(10);
    cr_assert(pm_set_has(&stand.report.joined, 1));
    cr_assert_str_eq(stand.report.nodelist, "node[0-99]");
    cr_assert_eq(stand.report.map.n, 1);
    cr_assert_eq(stand.report.map.runs[0].rank, 2);
    cr_assert_eq(stand.report.map.runs[0].n, 2);
}

Test(node, what_only_forming_needs_leaves_the_record)
{
    running();
    wanted.have_nodelist = true;
    want(PM_PHASE_START);
    pm_node_on_parent(&stand.core);
    cr_assert_eq(stand.report.map.n, 0);
    cr_assert_null(stand.report.nodelist);
    cr_assert(pm_set_has(&stand.report.joined, 1));
}

Test(node, gets_its_first_server_ready_as_soon_as_the_world_is_known)
{
    joined();
    none(PM_ACTION_PREPARE_SERVER);
    stand_map();
    cr_assert_eq(only(PM_ACTION_PREPARE_SERVER)->epoch, 0);
    none(PM_ACTION_START_RANK);
}

Test(node, says_that_it_cannot_start)
{
    stand_event(&(struct pm_event){.type = PM_EVENT_CANNOT_START, .text = "no room"});
    stand_run_ms(10);
    cr_assert_eq(stand.report.cannot_node, 1);
    cr_assert_str_eq(stand.report.cannot_text, "no room");
}

Test(node, only_rank_0s_node_offers_ports)
{
    stand_event(&(struct pm_event){.type = PM_EVENT_PORT, .port = 5});
    stand_run_ms(10);
    cr_assert_eq(stand.report.port_serial, 0);
    stand_done();
    stand_agent(0, 4, 2);
    stand_event(&(struct pm_event){.type = PM_EVENT_PORT, .port = 5});
    stand_event(&(struct pm_event){.type = PM_EVENT_PORT, .port = 6});
    stand_run_ms(10);
    cr_assert_eq(stand.report.port_serial, 2);
    cr_assert_eq(stand.report.port, 6);
}

// --- starting ----------------------------------------------------------------------------------

Test(node, starts_its_ranks_when_server_and_world_are_there)
{
    joined();
    wanted.map_version = 1;
    want(PM_PHASE_START);
    none(PM_ACTION_PREPARE_SERVER);
    stand_map();
    none(PM_ACTION_START_RANK);
    wanted.port = 4711;
    wanted.restart_cause = PM_CAUSE_OOM;
    wanted.restart_rank = 7;
    want(PM_PHASE_START);
    server(PM_EVENT_SERVER_READY, 0);
    const struct pm_action *a = NULL;
    cr_assert_eq(stand_count(PM_ACTION_START_RANK, &a), 2);
    cr_assert_eq(a->local, 1);
    cr_assert_eq(a->rank, 3);
    cr_assert_eq(a->incarnation, 0);
    cr_assert_eq(a->port, 4711);
    cr_assert_eq(a->peer_rank, 7);
    cr_assert_str_eq(a->text, "oom");
    event(PM_EVENT_RANK_STARTED, 0);
    cr_assert(!marked(PM_MARK_STARTED));
    event(PM_EVENT_RANK_STARTED, 1);
    cr_assert(marked(PM_MARK_STARTED));
}

Test(node, nothing_is_started_twice)
{
    running();
    pm_node_on_parent(&stand.core);
    cr_assert(stand_frame(PM_FRAME_WANTED, "", 0) == false);
    want(PM_PHASE_START);
    stand_run_ms(1000);
    none(PM_ACTION_START_RANK);
    none(PM_ACTION_PREPARE_SERVER);
}

Test(node, starts_nothing_of_an_older_epoch_or_version)
{
    running();
    struct pm_wanted old = {.version = wanted.version, .phase = PM_PHASE_HALT, .map_version = 1};
    wanted.epoch = 1;
    want(PM_PHASE_HALT);
    stand_forget();
    old.version = 0;
    cr_assert(stand_wanted(&old)); // late: dropped, not refused
    old.version = wanted.version + 10;
    old.epoch = 0;
    old.phase = PM_PHASE_START;
    cr_assert(stand_wanted(&old));
    cr_assert_eq(pm_node_epoch(stand.core.node), 1);
    none(PM_ACTION_START_RANK);
}

Test(node, refuses_records_of_another_launch)
{
    struct pm_writer w = {0};
    wanted.launch = 6;
    wanted.version = 99;
    pm_write_wanted(&w, &wanted);
    cr_assert(!stand_frame(PM_FRAME_WANTED, w.data, w.len));
    pm_writer_done(&w);
}

Test(node, starts_nothing_without_a_lease)
{
    joined();
    stand_map();
    wanted.map_version = 1;
    pm_node_on_lease(&stand.core, false);
    pm_node_on_lease(&stand.core, false);
    only(PM_ACTION_PAUSE);
    want(PM_PHASE_START);
    server(PM_EVENT_SERVER_READY, 0);
    none(PM_ACTION_START_RANK);
    pm_node_on_lease(&stand.core, true);
    only(PM_ACTION_RESUME);
    cr_assert_eq(stand_count(PM_ACTION_START_RANK, NULL), 2);
}

// --- exits -------------------------------------------------------------------------------------

Test(node, reports_a_failure_with_its_details_until_it_is_handled)
{
    running();
    stand_run_ms(724000);
    exits(1, KILLED);
    const struct pm_failure *f = reported();
    cr_assert_eq(f->rank, 3);
    cr_assert_eq(f->node, 1);
    cr_assert_eq(f->pid, 101);
    cr_assert_eq(f->cause, PM_CAUSE_SIGNAL);
    cr_assert_eq(f->wait_status, KILLED);
    cr_assert_geq(f->uptime_ms, 724000);
    cr_assert(!f->connected);
    want(PM_PHASE_HALT);
    stand_run_ms(10);
    cr_assert_eq(stand.report.failures.n, 0);
}

Test(node, names_exec_and_oom)
{
    running();
    const struct pm_local *l = stand.core.node->locals;
    stand_event(
        &(struct pm_event){.type = PM_EVENT_RANK_EXITED, .wait_status = KILLED, .flag_oom = true});
    stand_event(&(struct pm_event){.type = PM_EVENT_RANK_EXITED,
                                   .local = 1,
                                   .wait_status = EXITED(2),
                                   .flag_exec = true,
                                   .text = "no such file"});
    cr_assert_eq(l[0].failure.cause, PM_CAUSE_OOM);
    cr_assert_eq(l[1].failure.cause, PM_CAUSE_EXEC);
    cr_assert_str_eq(l[1].failure.text, "no such file");
}

Test(node, late_news_of_an_older_life_is_dropped)
{
    running();
    stand_event(&(struct pm_event){.type = PM_EVENT_RANK_EXITED,
                                   .local = 1,
                                   .epoch = 0,
                                   .incarnation = 4,
                                   .wait_status = KILLED});
    stand_event(&(struct pm_event){
        .type = PM_EVENT_RANK_EXITED, .local = 1, .epoch = 3, .wait_status = KILLED});
    stand_event(
        &(struct pm_event){.type = PM_EVENT_RANK_EXITED, .local = 77, .wait_status = KILLED});
    stand_run_ms(10);
    cr_assert_eq(stand.report.failures.n, 0);
    cr_assert_eq(stand.core.node->locals[1].state, PM_LOCAL_RUNNING);
}

Test(node, a_clean_exit_is_no_failure)
{
    running();
    exits(0, 0);
    cr_assert(!marked(PM_MARK_ENDED));
    cr_assert(stand.report.any_ended);
    exits(1, 0);
    cr_assert(marked(PM_MARK_ENDED));
    cr_assert_eq(stand.report.failures.n, 0);
    cr_assert(pm_set_empty(&stand.report.left));
}

Test(node, finalize_may_be_heard_after_the_exit)
{
    connected();
    exits(0, 0);
    stand_run_ms(200);
    event(PM_EVENT_FINALIZED, 0);
    stand_run_ms(1000);
    cr_assert(pm_set_empty(&stand.report.left));
}

Test(node, an_exit_without_finalize_is_told_but_no_failure)
{
    connected();
    exits(0, 0);
    stand_run_ms(260);
    cr_assert(pm_set_has(&stand.report.left, 2));
    cr_assert_eq(stand.report.failures.n, 0);
    event(PM_EVENT_FINALIZED, 1);
    exits(1, 0);
    cr_assert(marked(PM_MARK_ENDED));
}

Test(node, a_fence_that_waits_for_it_makes_it_one)
{
    connected();
    pm_node_fence_lost(&stand.core, 0, 2); // alive: no
    stand_run_ms(1500);
    event(PM_EVENT_FINALIZED, 1);
    exits(1, 0);
    pm_node_fence_lost(&stand.core, 0, 3); // finalized: no
    exits(0, 0);
    stand_run_ms(300);
    cr_assert_eq(stand.report.failures.n, 0);
    pm_node_fence_lost(&stand.core, 0, 2);
    pm_node_fence_lost(&stand.core, 0, 2);
    cr_assert_eq(reported()->cause, PM_CAUSE_NO_FINALIZE);
    cr_assert_eq(reported()->rank, 2);
}

Test(node, a_fence_that_fails_just_before_its_exit_makes_it_one)
{
    connected();
    event(PM_EVENT_FINALIZED, 1);
    exits(1, 0);
    pm_node_fence_lost(&stand.core, 0, 2); // the connection ends before the process is reaped
    exits(0, 0);
    cr_assert_not(marked(PM_MARK_ENDED), "the step would end before the failure is known");
    stand_run_ms(260);
    cr_assert_eq(reported()->cause, PM_CAUSE_NO_FINALIZE);
    cr_assert_eq(reported()->rank, 2);
}

Test(node, a_fence_that_failed_long_before_its_exit_does_not)
{
    connected();
    pm_node_fence_lost(&stand.core, 0, 2);
    stand_run_ms(1500);
    exits(0, 0);
    stand_run_ms(260);
    cr_assert_eq(stand.report.failures.n, 0);
    cr_assert(pm_set_has(&stand.report.left, 2));
}

Test(node, abort_is_reported_before_the_exit_and_the_exit_is_part_of_it)
{
    connected();
    stand_event(
        &(struct pm_event){.type = PM_EVENT_ABORT, .rank = 3, .status = 7, .text = "no hope"});
    const struct pm_failure *f = reported();
    cr_assert_eq(f->cause, PM_CAUSE_ABORT);
    cr_assert_eq(f->wait_status, EXITED(7));
    cr_assert_str_eq(f->text, "no hope");
    exits(1, EXITED(7));
    cr_assert_eq(reported()->cause, PM_CAUSE_ABORT);
}

Test(node, a_lost_shim_is_a_lost_place)
{
    running();
    event(PM_EVENT_SHIM_LOST, 1);
    cr_assert_eq(reported()->cause, PM_CAUSE_SHIM_LOST);
    exits(1, KILLED);
    cr_assert_eq(reported()->cause, PM_CAUSE_SHIM_LOST);
    wanted.phase = PM_PHASE_HALT;
    cr_assert(stand_wanted(&wanted));
    cr_assert_eq(reported()->cause, PM_CAUSE_SHIM_LOST); // not handled by a halt
}

// --- the tree ----------------------------------------------------------------------------------

static void child_reports(uint32_t first, uint32_t last, uint32_t failures)
{
    struct pm_report report;
    pm_report_init(&report);
    report.epoch = wanted.epoch;
    cr_assert_eq(pm_set_add_span(&report.joined, first, last), 0);
    for (uint32_t i = 0; i < failures; i++) {
        struct pm_failure f = {
            .node = 2, .rank = 4 + i, .epoch = wanted.epoch, .cause = PM_CAUSE_EXIT};
        cr_assert_eq(pm_failures_add(&report.failures, &f), 0);
    }
    cr_assert(stand_report(&report));
    pm_report_done(&report);
}

Test(node, news_of_children_are_gathered_for_a_moment)
{
    joined();
    stand_run_ms(100);
    uint32_t before = stand.n_reports;
    child_reports(2, 2, 0);
    cr_assert_eq(stand.n_reports, before + 1);
    child_reports(3, 3, 0);
    child_reports(3, 3, 0);
    cr_assert_eq(stand.n_reports, before + 1);
    stand_run_ms(6);
    cr_assert_eq(stand.n_reports, before + 2);
    cr_assert_eq(pm_set_count(&stand.report.joined), 3);
    child_reports(3, 3, 0);
    stand_run_ms(100);
    cr_assert_eq(stand.n_reports, before + 2); // nothing new, nothing sent
}

Test(node, failures_of_a_child_leave_when_they_are_handled)
{
    running();
    child_reports(2, 2, 3);
    stand_run_ms(10);
    cr_assert_eq(stand.report.failures.n, 3);
    cr_assert_eq(pm_set_add_span(&wanted.dead, 4, 5), 0);
    want(PM_PHASE_START);
    stand_run_ms(10);
    cr_assert_eq(reported()->rank, 6);
    pm_node_on_child_gone(&stand.core, 0); // stand frames come from node 0
    event(PM_EVENT_CONNECTED, 0);
    stand_run_ms(10);
    cr_assert_eq(stand.report.failures.n, 0);
}

Test(node, without_a_parent_no_timer_runs_and_nothing_is_lost)
{
    joined();
    stand_run_ms(100);
    stand.no_parent = true;
    child_reports(2, 3, 0);
    pm_node_say(&stand.core, false, "hello");
    cr_assert_eq(pm_node_deadline_ns(stand.core.node), UINT64_MAX);
    stand_run_ms(100000);
    cr_assert(!stand_said("hello"));
    stand.no_parent = false;
    pm_node_on_parent(&stand.core);
    cr_assert_eq(pm_set_count(&stand.report.joined), 3);
    cr_assert(stand_said("hello"));
}

Test(node, lines_beyond_the_limit_are_counted)
{
    stand.no_parent = true;
    for (uint32_t i = 0; i < PM_SAY_QUEUE_MAX + 7; i++)
        pm_node_say(&stand.core, false, "noise");
    stand.no_parent = false;
    pm_node_on_parent(&stand.core);
    stand_run_ms(1000);
    cr_assert(stand_said("7 lines dropped here"));
}

Test(node, bad_frames_are_refused)
{
    running();
    cr_assert(!stand_frame(PM_FRAME_REPORT, "x", 1));
    cr_assert(!stand_frame(PM_FRAME_MAP, "xxxx", 4));
    cr_assert(!stand_frame(PM_FRAME_SAY, "xxxx", 4));
    cr_assert(!stand_frame(PM_FRAME_BOUND, "\1\7\1\0\0\0\0", 7), "a node beyond the step");
    cr_assert(!stand_frame(PM_FRAME_BOUND, "\1\0\1\0\0\0\4x", 8), "a text that is cut");
    cr_assert(!stand_frame(0x2f, "", 0));
}

static uint64_t digest(const struct pm_node *n)
{
    struct pm_digest d = {0};
    pm_node_digest(n, stand.core.now_ns, &d);
    return d.h;
}

Test(node, a_clone_has_the_same_digest_and_a_life_of_its_own)
{
    running();
    child_reports(2, 3, 2);
    stand.no_parent = true;
    pm_node_say(&stand.core, false, "hello");
    struct pm_node *clone = pm_node_clone(stand.core.node);
    cr_assert(clone);
    uint64_t before = digest(clone);
    cr_assert_eq(before, digest(stand.core.node));
    exits(1, KILLED);
    cr_assert_neq(digest(stand.core.node), before);
    cr_assert_eq(digest(clone), before);
    pm_node_free(clone);
}
