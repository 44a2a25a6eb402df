// SPDX-License-Identifier: Apache-2.0
//
// The agent's half of supervision alone: local facts and the wanted state in; actions and the
// record of the subtree out.
#include <criterion/criterion.h>
#include <string.h>

#include "tests/unit/life_stand.h"

#define KILLED       9
#define TERMED       15
#define EXITED(code) ((code) << 8)

static struct pm_wanted wanted;

static void setup(void)
{
    stand_agent(1, 4, 2); // ranks 2 and 3
}

static void teardown(void)
{
    pm_wanted_done(&wanted);
    stand_done();
}

TestSuite(node, .init = setup, .fini = teardown, .timeout = 20);

static void event(enum pm_event_type type, uint32_t local)
{
    const struct pm_local *l = &stand.core.node->locals[local];
    stand_event(&(struct pm_event){.type = type,
                                   .local = local,
                                   .rank = l->rank,
                                   .epoch = l->epoch,
                                   .incarnation = l->incarnation,
                                   .pid = 100 + local});
}

static void exits(uint32_t local, int32_t wait_status)
{
    const struct pm_local *l = &stand.core.node->locals[local];
    stand_event(&(struct pm_event){.type = PM_EVENT_RANK_EXITED,
                                   .local = local,
                                   .epoch = l->epoch,
                                   .incarnation = l->incarnation,
                                   .pid = 100 + local,
                                   .wait_status = wait_status});
}

static void server(enum pm_event_type type, uint32_t epoch)
{
    stand_event(&(struct pm_event){.type = type, .epoch = epoch, .text = "it died"});
}

static void want(enum pm_phase phase)
{
    wanted.phase = phase;
    cr_assert(stand_wanted(&wanted));
}

static void joined(void)
{
    event(PM_EVENT_SHIM_JOINED, 0);
    event(PM_EVENT_SHIM_JOINED, 1);
}

static void starting(void)
{
    joined();
    stand_map();
    wanted.map_version = 1;
    wanted.grace_ms = 5000;
    wanted.port = 4711;
    wanted.host = 0;
    want(PM_PHASE_START);
    server(PM_EVENT_SERVER_READY, 0);
}

static void running(void)
{
    starting();
    event(PM_EVENT_RANK_STARTED, 0);
    event(PM_EVENT_RANK_STARTED, 1);
    stand_run_ms(20);
    stand_forget();
}

static void connected(void)
{
    running();
    event(PM_EVENT_CONNECTED, 0);
    event(PM_EVENT_CONNECTED, 1);
    stand_run_ms(20);
}

static bool marked(enum pm_mark mark)
{
    stand_run_ms(6);
    return pm_set_has(&stand.report.marks[mark], 1);
}

static const struct pm_action *only(enum pm_action_type type)
{
    const struct pm_action *a = NULL;
    cr_assert_eq(stand_count(type, &a), 1, "%u actions of type %d", stand_count(type, NULL), type);
    return a;
}

static void none(enum pm_action_type type)
{
    cr_assert_eq(stand_count(type, NULL), 0, "%u actions of type %d", stand_count(type, NULL),
                 type);
}

static const struct pm_failure *reported(void)
{
    stand_run_ms(6);
    cr_assert_eq(stand.report.failures.n, 1, "%u failures", stand.report.failures.n);
    return &stand.report.failures.list[0];
}

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

// --- halting -----------------------------------------------------------------------------------

static void notice_of(uint32_t rank)
{
    struct pm_failure f = {.rank = rank, .cause = PM_CAUSE_SIGNAL, .wait_status = KILLED};
    cr_assert_eq(pm_wanted_notice(&wanted, &f), 0);
    cr_assert_eq(pm_set_add(&wanted.dead, rank), 0);
}

Test(node, survivors_get_event_then_term_then_kill)
{
    connected();
    stand_forget();
    notice_of(7);
    want(PM_PHASE_HALT);
    const struct pm_action *a = only(PM_ACTION_NOTIFY);
    cr_assert_eq(a->rank, 7);
    cr_assert_eq(a->wait_status, KILLED);
    cr_assert(a->last);
    none(PM_ACTION_SIGNAL_RANK);
    cr_assert_eq(only(PM_ACTION_PREPARE_SERVER)->epoch, 1);
    server(PM_EVENT_NOTIFIED, 0);
    cr_assert_eq(stand_count(PM_ACTION_SIGNAL_RANK, &a), 2);
    cr_assert_eq(a->signal, TERMED);
    none(PM_ACTION_KILL_RANK);
    exits(0, TERMED);
    cr_assert_eq(only(PM_ACTION_KILL_RANK)->local, 0); // its descendants go with it
    stand_run_ms(4999);
    only(PM_ACTION_KILL_RANK);
    stand_run_ms(2);
    cr_assert_eq(stand_count(PM_ACTION_KILL_RANK, NULL), 2);
    exits(1, KILLED);
    event(PM_EVENT_RANK_GONE, 0);
    cr_assert(!marked(PM_MARK_HALTED));
    none(PM_ACTION_DROP_SERVER);
    event(PM_EVENT_RANK_GONE, 1);
    cr_assert(marked(PM_MARK_HALTED));
    cr_assert_eq(only(PM_ACTION_DROP_SERVER)->epoch, 0);
    cr_assert_eq(stand.report.failures.n, 0); // we caused those exits
}

Test(node, the_signal_does_not_wait_for_a_server_that_is_silent)
{
    connected();
    notice_of(7);
    want(PM_PHASE_HALT);
    stand_run_ms(99);
    none(PM_ACTION_SIGNAL_RANK);
    stand_run_ms(2);
    cr_assert_eq(stand_count(PM_ACTION_SIGNAL_RANK, NULL), 2);
}

Test(node, without_a_listener_there_is_no_event_and_no_wait)
{
    running();
    notice_of(7);
    want(PM_PHASE_HALT);
    none(PM_ACTION_NOTIFY);
    cr_assert_eq(stand_count(PM_ACTION_SIGNAL_RANK, NULL), 2);
}

Test(node, halts_at_once_when_nothing_was_started)
{
    joined();
    stand_map();
    wanted.map_version = 1;
    want(PM_PHASE_HALT);
    cr_assert(marked(PM_MARK_HALTED));
}

Test(node, kill_phase_has_no_grace)
{
    running();
    want(PM_PHASE_KILL);
    none(PM_ACTION_SIGNAL_RANK);
    cr_assert_eq(stand_count(PM_ACTION_KILL_RANK, NULL), 2);
}

Test(node, stop_overtakes_halt_without_a_second_signal)
{
    running();
    want(PM_PHASE_HALT);
    want(PM_PHASE_STOP);
    cr_assert_eq(stand_count(PM_ACTION_SIGNAL_RANK, NULL), 2);
    stand_run_ms(5001);
    cr_assert_eq(stand_count(PM_ACTION_KILL_RANK, NULL), 2);
}

Test(node, the_next_epoch_starts_on_the_server_that_was_got_ready)
{
    running();
    want(PM_PHASE_HALT);
    server(PM_EVENT_SERVER_READY, 1);
    for (uint32_t local = 0; local < 2; local++) {
        exits(local, TERMED);
        event(PM_EVENT_RANK_GONE, local);
    }
    stand_forget();
    wanted.epoch = 1;
    want(PM_PHASE_START);
    none(PM_ACTION_PREPARE_SERVER);
    const struct pm_action *a = NULL;
    cr_assert_eq(stand_count(PM_ACTION_START_RANK, &a), 2);
    cr_assert_eq(a->epoch, 1);
    cr_assert_eq(a->incarnation, 1);
    cr_assert(!marked(PM_MARK_STARTED));
    event(PM_EVENT_RANK_STARTED, 0);
    event(PM_EVENT_RANK_STARTED, 1);
    cr_assert(marked(PM_MARK_STARTED));
    cr_assert(!pm_set_has(&stand.report.marks[PM_MARK_HALTED], 1));
}

Test(node, a_process_that_does_not_go_is_a_lost_node)
{
    running();
    want(PM_PHASE_KILL);
    exits(0, KILLED);
    event(PM_EVENT_RANK_GONE, 0);
    stand_run_ms(9900);
    cr_assert_eq(stand.report.failures.n, 0);
    stand_run_ms(200);
    cr_assert_eq(reported()->cause, PM_CAUSE_NODE_LOST);
    cr_assert_eq(reported()->rank, 3);
}

Test(node, an_agent_that_slept_itself_does_not_judge)
{
    running();
    want(PM_PHASE_KILL);
    stand.core.now_ns += 60000 * PM_MS;
    stand_event(&(struct pm_event){.type = PM_EVENT_TIMER});
    stand_run_ms(9000);
    cr_assert_eq(stand.report.failures.n, 0);
    stand_run_ms(2000);
    cr_assert_eq(stand.report.failures.n, 2);
}

// --- the user's stop and the end ---------------------------------------------------------------

Test(node, after_slurms_signal_exits_are_no_failures)
{
    running();
    stand_event(&(struct pm_event){.type = PM_EVENT_SIGNALLED, .signal = 10});
    stand_run_ms(10);
    cr_assert_eq(stand.report.user_signal, 0); // SIGUSR1 is the program's own business
    stand_event(&(struct pm_event){.type = PM_EVENT_SIGNALLED, .signal = TERMED});
    exits(0, TERMED);
    exits(1, EXITED(1));
    cr_assert(marked(PM_MARK_ENDED));
    cr_assert_eq(stand.report.user_signal, TERMED);
    cr_assert_eq(stand.report.failures.n, 0);
}

Test(node, draining_sends_no_signal_and_starts_nothing)
{
    running();
    want(PM_PHASE_DRAIN);
    stand_run_ms(100000);
    none(PM_ACTION_SIGNAL_RANK);
    none(PM_ACTION_KILL_RANK);
    exits(0, TERMED);
    exits(1, TERMED);
    cr_assert(marked(PM_MARK_ENDED));
}

Test(node, a_rank_that_was_on_its_way_gets_slurms_signal_from_us)
{
    starting();
    want(PM_PHASE_DRAIN);
    none(PM_ACTION_SIGNAL_RANK);
    event(PM_EVENT_RANK_STARTED, 1);
    cr_assert_eq(only(PM_ACTION_SIGNAL_RANK)->local, 1);
}

Test(node, draining_before_the_start_is_over_at_once)
{
    joined();
    stand_map();
    wanted.map_version = 1;
    want(PM_PHASE_DRAIN);
    server(PM_EVENT_SERVER_READY, 0);
    none(PM_ACTION_START_RANK);
    cr_assert(marked(PM_MARK_ENDED));
}

Test(node, the_end_ends_shims_then_the_agent)
{
    running();
    exits(0, 0);
    exits(1, 0);
    wanted.has_end_status = true;
    wanted.end_status = EXITED(125);
    want(PM_PHASE_END);
    const struct pm_action *a = NULL;
    cr_assert_eq(stand_count(PM_ACTION_END_SHIM, &a), 2);
    cr_assert(a->override);
    cr_assert_eq(a->wait_status, EXITED(125));
    cr_assert_eq(stand.out.list[stand.out.n - 1].type, PM_ACTION_END_AGENT);
    stand_forget();
    event(PM_EVENT_SHIM_LOST, 0);
    want(PM_PHASE_START);
    stand_run_ms(100000);
    cr_assert_eq(stand.out.n, 0);
}

Test(node, an_outcast_dies)
{
    running();
    pm_node_on_outcast(&stand.core, "declared dead");
    cr_assert_str_eq(only(PM_ACTION_DIE)->text, "declared dead");
    pm_node_on_outcast(&stand.core, "again");
    only(PM_ACTION_DIE);
}

// --- servers -----------------------------------------------------------------------------------

Test(node, a_server_that_nobody_used_is_replaced_in_silence_but_not_for_ever)
{
    running();
    for (uint32_t i = 0; i < PM_SERVER_TRIES_MAX - 1; i++) {
        server(PM_EVENT_SERVER_LOST, 0);
        cr_assert_eq(stand_count(PM_ACTION_PREPARE_SERVER, NULL), i + 1);
        stand_run_ms(10);
        cr_assert_eq(stand.report.failures.n, 0);
    }
    server(PM_EVENT_SERVER_LOST, 0);
    cr_assert_eq(stand_count(PM_ACTION_PREPARE_SERVER, NULL), PM_SERVER_TRIES_MAX - 1);
    cr_assert_eq(reported()->cause, PM_CAUSE_PMIX_SERVER);
}

Test(node, a_step_whose_first_server_cannot_start_cannot_start)
{
    joined();
    stand_map();
    for (uint32_t i = 0; i < 2 * PM_SERVER_TRIES_MAX; i++) {
        wanted.map_version = 1;
        want(PM_PHASE_START);
        server(PM_EVENT_SERVER_LOST, 0);
    }
    stand_run_ms(10);
    cr_assert_eq(stand_count(PM_ACTION_PREPARE_SERVER, NULL), PM_SERVER_TRIES_MAX);
    cr_assert_eq(stand.report.cannot_node, 1);
    cr_assert_str_eq(stand.report.cannot_text, "it died");
    cr_assert_eq(stand.report.failures.n, 0);
}

Test(node, a_server_with_clients_is_a_failure)
{
    connected();
    server(PM_EVENT_SERVER_LOST, 0);
    const struct pm_failure *f = reported();
    cr_assert_eq(f->cause, PM_CAUSE_PMIX_SERVER);
    cr_assert_eq(f->rank, PM_RANK_NONE);
    cr_assert_str_eq(f->text, "it died");
    none(PM_ACTION_PREPARE_SERVER);
}

Test(node, the_standby_server_is_replaced_while_halting)
{
    running();
    want(PM_PHASE_HALT);
    only(PM_ACTION_PREPARE_SERVER);
    server(PM_EVENT_SERVER_LOST, 1);
    cr_assert_eq(stand_count(PM_ACTION_PREPARE_SERVER, NULL), 2);
}

// --- rank and notify mode ----------------------------------------------------------------------

Test(node, a_rank_starts_again_alone_after_its_tree_is_gone)
{
    running();
    exits(1, EXITED(4));
    cr_assert_eq(reported()->cause, PM_CAUSE_EXIT);
    cr_assert_eq(pm_wanted_again(&wanted, 3), 0);
    want(PM_PHASE_START);
    cr_assert_eq(only(PM_ACTION_KILL_RANK)->local, 1);
    none(PM_ACTION_START_RANK);
    event(PM_EVENT_RANK_GONE, 1);
    const struct pm_action *a = only(PM_ACTION_START_RANK);
    cr_assert_eq(a->incarnation, 1);
    cr_assert_str_eq(a->text, "exit");
    cr_assert_eq(a->peer_rank, 3);
    stand_run_ms(10);
    cr_assert_eq(stand.report.failures.n, 0);
    event(PM_EVENT_RANK_STARTED, 1);
    exits(1, 0);
    exits(0, 0);
    cr_assert(marked(PM_MARK_ENDED));
}

Test(node, tells_by_its_serial_that_a_rank_runs_again_until_that_is_known)
{
    running();
    exits(1, EXITED(4));
    (void)reported();
    cr_assert_eq(pm_wanted_again(&wanted, 3), 0);
    want(PM_PHASE_START);
    event(PM_EVENT_RANK_GONE, 1);
    stand_run_ms(10);
    cr_assert(pm_set_empty(&stand.report.again));
    event(PM_EVENT_RANK_STARTED, 1);
    stand_run_ms(10);
    cr_assert(pm_set_has(&stand.report.again, wanted.again[0].serial));
    wanted.again_known = wanted.again[0].serial;
    want(PM_PHASE_START);
    exits(0, 0);
    stand_run_ms(10);
    cr_assert(pm_set_empty(&stand.report.again));
}

Test(node, a_rank_that_stays_dead_counts_as_ended_and_its_tree_goes)
{
    connected();
    stand_forget();
    exits(1, EXITED(4));
    cr_assert_eq(reported()->rank, 3);
    notice_of(3);
    want(PM_PHASE_START);
    cr_assert_eq(only(PM_ACTION_NOTIFY)->rank, 3);
    only(PM_ACTION_KILL_RANK);
    event(PM_EVENT_RANK_GONE, 1);
    none(PM_ACTION_START_RANK);
    cr_assert(pm_set_has(&stand.lost_ranks, 3));
    event(PM_EVENT_FINALIZED, 0);
    exits(0, 0);
    cr_assert(marked(PM_MARK_ENDED));
}

// It is looked at while the others run on, too, and the timer that does so does not come again.
Test(node, a_rank_killed_alone_that_does_not_go_is_a_lost_node)
{
    connected();
    exits(1, EXITED(4));
    notice_of(3);
    want(PM_PHASE_START);
    only(PM_ACTION_KILL_RANK);
    stand_run_ms(10100);
    cr_assert_eq(reported()->cause, PM_CAUSE_NODE_LOST);
    cr_assert_eq(reported()->rank, 3);
}

Test(node, a_rank_that_aborted_and_lives_on_is_killed)
{
    connected();
    stand_event(&(struct pm_event){.type = PM_EVENT_ABORT, .rank = 3, .status = 7});
    notice_of(3);
    want(PM_PHASE_START);
    cr_assert_eq(only(PM_ACTION_KILL_RANK)->local, 1);
    exits(1, KILLED);
    cr_assert_eq(stand.core.node->locals[1].failure.cause, PM_CAUSE_ABORT);
}

Test(node, each_dead_rank_gives_one_event_even_without_details)
{
    connected();
    for (uint32_t rank = 4; rank < 8; rank++)
        cr_assert_eq(pm_set_add(&wanted.dead, rank), 0);
    cr_assert_eq(pm_set_add(&wanted.left, 0), 0);
    want(PM_PHASE_START);
    const struct pm_action *a = NULL;
    cr_assert_eq(stand_count(PM_ACTION_NOTIFY, &a), 5);
    cr_assert(a->last);
    want(PM_PHASE_START);
    cr_assert_eq(stand_count(PM_ACTION_NOTIFY, NULL), 5);
    cr_assert_eq(pm_set_count(&stand.lost_ranks), 5);
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
