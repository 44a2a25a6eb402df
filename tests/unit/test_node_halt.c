// SPDX-License-Identifier: Apache-2.0
//
// The agent's half of supervision alone: ranks are halted and ended, servers are lost, and what modes rank and
// notify do instead.
#include <criterion/criterion.h>
#include <string.h>

#include "tests/unit/node_stand.h"

TestSuite(node_halt, .init = node_setup, .fini = node_teardown, .timeout = 20);

// --- halting -----------------------------------------------------------------------------------

Test(node_halt, survivors_get_event_then_term_then_kill)
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

Test(node_halt, the_signal_does_not_wait_for_a_server_that_is_silent)
{
    connected();
    notice_of(7);
    want(PM_PHASE_HALT);
    stand_run_ms(99);
    none(PM_ACTION_SIGNAL_RANK);
    stand_run_ms(2);
    cr_assert_eq(stand_count(PM_ACTION_SIGNAL_RANK, NULL), 2);
}

Test(node_halt, without_a_listener_there_is_no_event_and_no_wait)
{
    running();
    notice_of(7);
    want(PM_PHASE_HALT);
    none(PM_ACTION_NOTIFY);
    cr_assert_eq(stand_count(PM_ACTION_SIGNAL_RANK, NULL), 2);
}

Test(node_halt, halts_at_once_when_nothing_was_started)
{
    joined();
    stand_map();
    wanted.map_version = 1;
    want(PM_PHASE_HALT);
    cr_assert(marked(PM_MARK_HALTED));
}

Test(node_halt, kill_phase_has_no_grace)
{
    running();
    want(PM_PHASE_KILL);
    none(PM_ACTION_SIGNAL_RANK);
    cr_assert_eq(stand_count(PM_ACTION_KILL_RANK, NULL), 2);
}

// It had its order to kill, and may not have done it; the agent does it in its place. Nobody is left who could tell.
Test(node_halt, a_shim_lost_when_it_should_have_killed_holds_no_halt_up)
{
    running();
    notice_of(7);
    want(PM_PHASE_HALT);
    stand_run_ms(5001);
    cr_assert_eq(stand_count(PM_ACTION_KILL_RANK, NULL), 2);
    exits(0, KILLED);
    event(PM_EVENT_RANK_GONE, 0);
    cr_assert(!marked(PM_MARK_HALTED));
    event(PM_EVENT_SHIM_LOST, 1);
    cr_assert_eq(stand_count(PM_ACTION_KILL_RANK, NULL), 3);
    cr_assert(marked(PM_MARK_HALTED));
    cr_assert_eq(reported()->cause, PM_CAUSE_SHIM_LOST);
}

Test(node_halt, stop_overtakes_halt_without_a_second_signal)
{
    running();
    want(PM_PHASE_HALT);
    want(PM_PHASE_STOP);
    cr_assert_eq(stand_count(PM_ACTION_SIGNAL_RANK, NULL), 2);
    stand_run_ms(5001);
    cr_assert_eq(stand_count(PM_ACTION_KILL_RANK, NULL), 2);
}

Test(node_halt, the_next_epoch_starts_on_the_server_that_was_got_ready)
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

Test(node_halt, a_process_that_does_not_go_is_a_lost_node)
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

Test(node_halt, an_agent_that_slept_itself_does_not_judge)
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

Test(node_halt, after_slurms_signal_exits_are_no_failures)
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

Test(node_halt, draining_sends_no_signal_and_starts_nothing)
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

// Nothing else ends the wait for them.
Test(node_halt, a_rank_whose_shim_is_lost_while_draining_has_ended)
{
    running();
    want(PM_PHASE_DRAIN);
    exits(0, TERMED);
    cr_assert(!marked(PM_MARK_ENDED));
    event(PM_EVENT_SHIM_LOST, 1);
    cr_assert(marked(PM_MARK_ENDED));
}

Test(node_halt, a_rank_that_was_to_start_again_does_not_and_has_ended)
{
    running();
    exits(0, EXITED(1));
    exits(1, TERMED);
    cr_assert_geq(pm_wanted_again(&wanted, stand.core.node->locals[0].rank), 0);
    want(PM_PHASE_DRAIN);
    cr_assert(marked(PM_MARK_ENDED));
}

// Else whoever goes on waits for them for ever.
Test(node_halt, ranks_that_have_ended_while_draining_are_reported_as_gone)
{
    connected();
    want(PM_PHASE_DRAIN);
    exits(0, TERMED);
    stand_run_ms(6);
    cr_assert(pm_set_has(&stand.report.left, 2));
    cr_assert(!pm_set_has(&stand.report.left, 3));
    event(PM_EVENT_SHIM_LOST, 1);
    stand_run_ms(6);
    cr_assert(pm_set_has(&stand.report.left, 3));
}

Test(node_halt, a_rank_that_ends_well_while_draining_is_not_reported_as_gone)
{
    connected();
    want(PM_PHASE_DRAIN);
    event(PM_EVENT_FINALIZED, 0);
    exits(0, 0);
    stand_run_ms(6);
    cr_assert(pm_set_empty(&stand.report.left));
}

Test(node_halt, ranks_that_had_not_started_are_gone_when_draining)
{
    joined();
    stand_map();
    wanted.map_version = 1;
    want(PM_PHASE_START);
    want(PM_PHASE_DRAIN);
    stand_run_ms(6);
    cr_assert_eq(pm_set_count(&stand.report.left), 2);
}

// They bound the time that the others have.
Test(node_halt, an_abort_while_draining_is_reported)
{
    connected();
    stand_event(&(struct pm_event){.type = PM_EVENT_SIGNALLED, .signal = TERMED});
    want(PM_PHASE_DRAIN);
    stand_event(&(struct pm_event){.type = PM_EVENT_ABORT, .rank = 2, .status = 7});
    cr_assert_eq(reported()->cause, PM_CAUSE_ABORT);
    cr_assert_eq(pm_set_add(&wanted.dead, 2), 0);
    want(PM_PHASE_DRAIN);
    stand_run_ms(6);
    cr_assert_eq(stand.report.failures.n, 0);
}

// The signal that we pass on is Slurm's, as is that of the others.
Test(node_halt, an_abort_of_a_rank_that_was_on_its_way_while_draining_is_reported)
{
    starting();
    want(PM_PHASE_DRAIN);
    event(PM_EVENT_RANK_STARTED, 0);
    only(PM_ACTION_SIGNAL_RANK);
    stand_event(&(struct pm_event){.type = PM_EVENT_ABORT, .rank = 2, .status = 7});
    cr_assert_eq(reported()->cause, PM_CAUSE_ABORT);
}

Test(node_halt, an_abort_of_a_rank_that_we_end_is_not_reported)
{
    running();
    want(PM_PHASE_STOP);
    stand_run_ms(101);
    cr_assert_eq(stand_count(PM_ACTION_SIGNAL_RANK, NULL), 2);
    stand_event(&(struct pm_event){.type = PM_EVENT_ABORT, .rank = 2, .status = 7});
    stand_run_ms(6);
    cr_assert_eq(stand.report.failures.n, 0);
}

Test(node_halt, a_shim_that_is_lost_while_draining_is_reported)
{
    running();
    want(PM_PHASE_DRAIN);
    event(PM_EVENT_SHIM_LOST, 1);
    cr_assert_eq(reported()->cause, PM_CAUSE_SHIM_LOST);
    cr_assert_eq(pm_set_add(&wanted.dead, 3), 0);
    want(PM_PHASE_DRAIN);
    stand_run_ms(6);
    cr_assert_eq(stand.report.failures.n, 0);
}

Test(node_halt, a_rank_that_was_on_its_way_gets_slurms_signal_from_us)
{
    starting();
    want(PM_PHASE_DRAIN);
    none(PM_ACTION_SIGNAL_RANK);
    event(PM_EVENT_RANK_STARTED, 1);
    cr_assert_eq(only(PM_ACTION_SIGNAL_RANK)->local, 1);
}

Test(node_halt, draining_before_the_start_is_over_at_once)
{
    joined();
    stand_map();
    wanted.map_version = 1;
    want(PM_PHASE_DRAIN);
    server(PM_EVENT_SERVER_READY, 0);
    none(PM_ACTION_START_RANK);
    cr_assert(marked(PM_MARK_ENDED));
}

Test(node_halt, the_end_ends_shims_then_the_agent)
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

Test(node_halt, an_outcast_dies)
{
    running();
    pm_node_on_outcast(&stand.core, "declared dead");
    cr_assert_str_eq(only(PM_ACTION_DIE)->text, "declared dead");
    pm_node_on_outcast(&stand.core, "again");
    only(PM_ACTION_DIE);
}

// --- servers -----------------------------------------------------------------------------------

Test(node_halt, a_server_that_nobody_used_is_replaced_in_silence_but_not_for_ever)
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

Test(node_halt, a_step_whose_first_server_cannot_start_cannot_start)
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

Test(node_halt, a_server_with_clients_is_a_failure)
{
    connected();
    server(PM_EVENT_SERVER_LOST, 0);
    const struct pm_failure *f = reported();
    cr_assert_eq(f->cause, PM_CAUSE_PMIX_SERVER);
    cr_assert_eq(f->rank, PM_RANK_NONE);
    cr_assert_str_eq(f->text, "it died");
    none(PM_ACTION_PREPARE_SERVER);
}

Test(node_halt, the_standby_server_is_replaced_while_halting)
{
    running();
    want(PM_PHASE_HALT);
    only(PM_ACTION_PREPARE_SERVER);
    server(PM_EVENT_SERVER_LOST, 1);
    cr_assert_eq(stand_count(PM_ACTION_PREPARE_SERVER, NULL), 2);
}

// --- rank and notify mode ----------------------------------------------------------------------

Test(node_halt, a_rank_starts_again_alone_after_its_tree_is_gone)
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

Test(node_halt, tells_by_its_serial_that_a_rank_runs_again_until_that_is_known)
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

Test(node_halt, a_rank_that_stays_dead_counts_as_ended_and_its_tree_goes)
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
Test(node_halt, a_rank_killed_alone_that_does_not_go_is_a_lost_node)
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

Test(node_halt, a_rank_that_aborted_and_lives_on_is_killed)
{
    connected();
    stand_event(&(struct pm_event){.type = PM_EVENT_ABORT, .rank = 3, .status = 7});
    notice_of(3);
    want(PM_PHASE_START);
    cr_assert_eq(only(PM_ACTION_KILL_RANK)->local, 1);
    exits(1, KILLED);
    cr_assert_eq(stand.core.node->locals[1].failure.cause, PM_CAUSE_ABORT);
}

Test(node_halt, each_dead_rank_gives_one_event_even_without_details)
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
