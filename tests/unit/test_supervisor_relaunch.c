// SPDX-License-Identifier: Apache-2.0
//
// --pm-relaunch on the supervisor alone: a step of 3 nodes with 2 tasks each in a job of 5 nodes.
#include <criterion/criterion.h>
#include <string.h>

#include "tests/unit/supervisor_events.h"

#define TERM 15

static struct pm_options options;

static void ended(void)
{
    stand_done();
}

static void begun(void)
{
    stand_options(&options);
    options.relaunch = 2;
}

TestSuite(supervisor_relaunch, .init = begun, .fini = ended, .timeout = 20);

static void running(void)
{
    stand_coordinator(3, 2, &options);
    stand.core.config.job_nodes = 5;
    stand_join(0, 2);
    stand_mark(PM_MARK_STARTED, 0, 0, 2);
    expect_state(PM_STATE_RUNNING);
    stand_run_ms(60000);
    stand_forget();
}

static void expect_relaunch(struct pm_legacy wanted, uint32_t n_out)
{
    const struct pm_action *a;
    struct pm_set out = {0};
    cr_assert_eq(stand_count(PM_ACTION_RELAUNCH, &a), 1, "said: %s", stand.said);
    cr_assert_eq(stand_count(PM_ACTION_EXIT, NULL), 0);
    expect_state(PM_STATE_DONE);
    struct pm_reader r = pm_reader_of(a->data, a->len);
    pm_read_set(&r, &out, 16);
    cr_assert_eq(pm_set_count(&out), n_out);
    pm_set_done(&out);
    struct pm_legacy legacy = pm_core_legacy(&stand.core);
    cr_expect_eq(legacy.epoch, wanted.epoch);
    cr_expect_eq(legacy.relaunches, wanted.relaunches);
    cr_expect_eq(legacy.restarts, wanted.restarts);
    cr_expect_eq(legacy.node_losses, wanted.node_losses);
    cr_expect_eq(legacy.nodes_out, wanted.nodes_out);
    cr_expect_eq(legacy.cause, wanted.cause);
}

Test(supervisor_relaunch, a_step_with_too_few_nodes_ends_and_is_launched_again)
{
    running();
    node_is_lost(1);
    expect_said("node1 is lost (node-lost); its place in the step cannot come back: launching the step again on other "
                "nodes of the job (launch 2 of 3)");
    expect_state(PM_STATE_STOPPING);
    cr_assert_eq(stand.wanted.phase, PM_PHASE_STOP);
    stand_mark(PM_MARK_HALTED, 0, 0, 0);
    stand_mark(PM_MARK_HALTED, 0, 2, 2);
    cr_assert_eq(stand.wanted.phase, PM_PHASE_END);
    stand_event(&(struct pm_event){.type = PM_EVENT_OUTPUT_READ});
    const struct pm_action *a;
    cr_assert_eq(stand_count(PM_ACTION_END_STEP, &a), 1);
    cr_assert_eq(a->signal, KILLED);
    cr_assert_eq(stand_count(PM_ACTION_RELAUNCH, NULL), 0);
    srun_exits(KILLED);
    expect_said("nothing of the step runs any more; launch 2 of 3, without node1");
    expect_relaunch((struct pm_legacy){.epoch = 1, .relaunches = 1, .node_losses = 1, .nodes_out = 1,
                                       .cause = PM_CAUSE_NODE_LOST}, 1);
}

Test(supervisor_relaunch, the_lease_of_a_lost_node_is_waited_for)
{
    running();
    stand.lease_not_over = true;
    node_is_lost(1);
    stand_mark(PM_MARK_HALTED, 0, 0, 0);
    stand_mark(PM_MARK_HALTED, 0, 2, 2);
    stand_run_ms(6000);
    srun_exits(KILLED);
    expect_state(PM_STATE_STOPPING);
    stand_run_ms(60000);
    expect_state(PM_STATE_STOPPING);
    cr_assert_eq(stand_count(PM_ACTION_RELAUNCH, NULL), 0);
    stand.lease_not_over = false;
    stand_run_ms(100);
    cr_assert_eq(stand_count(PM_ACTION_RELAUNCH, NULL), 1);
}

// Node 1 is lost, and the site's fence program runs for it while the step ends.
static void ends_while_fencing(bool required)
{
    strcpy(options.fence, "/site/fence");
    options.fence_timeout_ms = 30000;
    options.fence_required = required;
    running();
    node_is_lost(1);
    cr_assert_eq(stand_count(PM_ACTION_FENCE_OFF, NULL), 1);
    stand_mark(PM_MARK_HALTED, 0, 0, 0);
    stand_mark(PM_MARK_HALTED, 0, 2, 2);
}

static void answers(uint32_t node, bool failed)
{
    stand_event(&(struct pm_event){.type = PM_EVENT_FENCED_OFF, .node = node, .flag_failed = failed, .text = "0.8 s"});
}

Test(supervisor_relaunch, the_step_ends_when_the_lost_node_is_fenced_off)
{
    ends_while_fencing(false);
    stand_run_ms(5000);
    expect_state(PM_STATE_STOPPING);
    cr_assert_neq(stand.wanted.phase, PM_PHASE_END);
    answers(1, false);
    cr_assert_eq(stand.wanted.phase, PM_PHASE_END);
    stand_event(&(struct pm_event){.type = PM_EVENT_OUTPUT_READ});
    srun_exits(KILLED);
    cr_assert_eq(stand_count(PM_ACTION_RELAUNCH, NULL), 1, "said: %s", stand.said);
}

Test(supervisor_relaunch, a_node_lost_at_the_end_is_fenced_off_before_the_next_launch)
{
    ends_while_fencing(false);
    answers(1, false);
    node_is_lost(2);
    cr_assert_eq(stand_count(PM_ACTION_FENCE_OFF, NULL), 2);
    stand_event(&(struct pm_event){.type = PM_EVENT_OUTPUT_READ});
    srun_exits(KILLED);
    stand_run_ms(20000);
    expect_state(PM_STATE_STOPPING);
    cr_assert_eq(stand_count(PM_ACTION_RELAUNCH, NULL), 0);
    answers(2, false);
    cr_assert_eq(stand_count(PM_ACTION_RELAUNCH, NULL), 1, "said: %s", stand.said);
}

Test(supervisor_relaunch, a_node_that_cannot_be_fenced_off_forbids_it_where_the_site_says_so)
{
    ends_while_fencing(true);
    answers(1, true);
    expect_said("node1 could not be fenced off: fence 0.8 s; the step is not launched again, as this site has set "
                "fence-required");
    srun_exits(KILLED);
    stand_run_ms(60000);
    expect_state(PM_STATE_DONE);
    cr_assert_eq(stand_count(PM_ACTION_RELAUNCH, NULL), 0);
    cr_assert_eq(stand.exit_status, PM_EXIT_LOST);
}

static void all_others_end(void)
{
    stand_mark(PM_MARK_HALTED, 0, 0, 0);
    stand_mark(PM_MARK_HALTED, 0, 2, 2);
    stand_event(&(struct pm_event){.type = PM_EVENT_OUTPUT_READ});
}

// Whether there is another launch shows at the end of this one.
Test(supervisor_relaunch, a_node_whose_host_answered_is_fenced_off_before_the_next_launch)
{
    strcpy(options.fence, "/site/fence");
    options.fence_timeout_ms = 30000;
    running();
    agent_is_gone(1);
    all_others_end();
    cr_expect_eq(stand_count(PM_ACTION_FENCE_OFF, NULL), 0);
    srun_exits(KILLED);
    expect_state(PM_STATE_STOPPING);
    cr_assert_eq(stand_count(PM_ACTION_FENCE_OFF, NULL), 1);
    stand_run_ms(20000);
    cr_assert_eq(stand_count(PM_ACTION_RELAUNCH, NULL), 0);
    answers(1, false);
    cr_assert_eq(stand_count(PM_ACTION_RELAUNCH, NULL), 1, "said: %s", stand.said);
}

Test(supervisor_relaunch, nor_is_it_if_the_user_stops_meanwhile)
{
    strcpy(options.fence, "/site/fence");
    running();
    agent_is_gone(1);
    user_stops();
    all_others_end();
    srun_exits(KILLED);
    expect_state(PM_STATE_DONE);
    cr_expect_eq(stand_count(PM_ACTION_FENCE_OFF, NULL), 0);
}

Test(supervisor_relaunch, srun_may_end_before_the_ranks_do)
{
    running();
    node_is_lost(1);
    stand_event(&(struct pm_event){.type = PM_EVENT_SRUN_EXITED, .wait_status = 124 << 8});
    expect_state(PM_STATE_STOPPING);
    stand_mark(PM_MARK_HALTED, 0, 0, 0);
    stand_run_ms(1000);
    expect_state(PM_STATE_STOPPING);
    stand_mark(PM_MARK_HALTED, 0, 2, 2);
    cr_assert_eq(stand_count(PM_ACTION_RELAUNCH, NULL), 1);
}

Test(supervisor_relaunch, a_node_that_never_says_that_its_ranks_are_gone_forbids_it)
{
    running();
    node_is_lost(1);
    stand_mark(PM_MARK_HALTED, 0, 0, 0);
    stand_run_ms(120000);
    srun_exits(KILLED);
    expect_state(PM_STATE_DONE);
    expect_said("the step is not launched again: it is not sure that nothing of it runs any more");
    cr_assert_eq(stand_count(PM_ACTION_RELAUNCH, NULL), 0);
    cr_assert_eq(stand.exit_status, PM_EXIT_LOST);
}

Test(supervisor_relaunch, the_users_stop_wins)
{
    running();
    node_is_lost(1);
    stand_event(&(struct pm_event){.type = PM_EVENT_STOP, .signal = TERM, .flag_untold = true});
    stand_mark(PM_MARK_HALTED, 0, 0, 0);
    stand_mark(PM_MARK_HALTED, 0, 2, 2);
    srun_exits(KILLED);
    cr_assert_eq(stand_count(PM_ACTION_RELAUNCH, NULL), 0);
    cr_assert_eq(stand.exit_status, 128 + TERM);
}

Test(supervisor_relaunch, a_node_lost_meanwhile_counts_as_well)
{
    running();
    node_is_lost(1);
    node_is_lost(0);
    stand_mark(PM_MARK_HALTED, 0, 2, 2);
    stand_event(&(struct pm_event){.type = PM_EVENT_OUTPUT_READ});
    srun_exits(KILLED);
    expect_said("launch 2 of 3, without node0, node1");
    expect_relaunch((struct pm_legacy){.epoch = 1, .relaunches = 1, .node_losses = 2, .nodes_out = 2,
                                       .cause = PM_CAUSE_NODE_LOST}, 2);
}

Test(supervisor_relaunch, a_dead_node_is_out_before_it_is_decided_upon)
{
    running();
    node_is_lost(1);
    stand_mark(PM_MARK_HALTED, 0, 0, 0);
    stand_mark(PM_MARK_HALTED, 0, 2, 2);
    cr_assert_eq(pm_set_add(&stand.dead, 2), 0);
    srun_exits(KILLED);
    expect_relaunch((struct pm_legacy){.epoch = 1, .relaunches = 1, .node_losses = 1, .nodes_out = 2,
                                       .cause = PM_CAUSE_NODE_LOST}, 2);
}

Test(supervisor_relaunch, too_few_nodes_in_the_job_stop_the_step)
{
    running();
    node_is_lost(0);
    node_is_lost(1);
    node_is_lost(2);
    srun_exits(KILLED);
    stand_run_ms(60000);
    expect_said("the step is not launched again: the job has too few other nodes");
    cr_assert_eq(stand.exit_status, PM_EXIT_LOST);
}

// scancel --signal=KILL: an agent's end is the first that is seen of it.
Test(supervisor_relaunch, a_step_that_was_killed_from_outside_stays_dead)
{
    running();
    stand.core.config.job_nodes = 9;
    node_is_lost(1);
    srun_exits(KILLED);
    expect_state(PM_STATE_DONE);
    expect_said("the step is not launched again: srun ended by itself (exit code 137)");
    cr_assert_eq(stand_count(PM_ACTION_RELAUNCH, NULL), 0);
    cr_assert_eq(stand.exit_status, 137);
}

Test(supervisor_relaunch, one_of_which_no_node_is_left_stays_dead)
{
    running();
    stand.core.config.job_nodes = 9;
    for (uint32_t node = 0; node < 3; node++)
        node_is_lost(node);
    stand_event(&(struct pm_event){.type = PM_EVENT_OUTPUT_READ});
    srun_exits(KILLED);
    expect_said("the step is not launched again: none of its nodes is left");
    cr_assert_eq(stand_count(PM_ACTION_RELAUNCH, NULL), 0);
}

static void cannot(uint32_t job_nodes, const char *no_relaunch, const char *why)
{
    running();
    stand.core.config.job_nodes = job_nodes;
    stand.core.config.no_relaunch = no_relaunch;
    node_is_lost(1);
    expect_state(PM_STATE_STOPPING);
    expect_said(why);
    cr_assert(!stand.core.supervisor->relaunch);
}

Test(supervisor_relaunch, a_job_without_other_nodes_says_so)
{
    cannot(3, NULL, "stopping: its place in the step cannot come back, and it is not launched again: the job has too "
                    "few other nodes");
}

Test(supervisor_relaunch, an_allocation_of_srun_itself_says_so)
{
    cannot(5, "srun has made the allocation itself", "and it is not launched again: srun has made the allocation itself");
}

Test(supervisor_relaunch, in_a_restart_it_takes_the_place_of_the_restart)
{
    running();
    struct pm_failure failure = stand_failure(0, PM_CAUSE_SIGNAL, KILLED);
    stand_fail(&failure);
    expect_state(PM_STATE_HALTING);
    node_is_lost(1);
    expect_state(PM_STATE_STOPPING);
    stand_mark(PM_MARK_HALTED, 0, 0, 0);
    stand_mark(PM_MARK_HALTED, 0, 2, 2);
    srun_exits(KILLED);
    expect_relaunch((struct pm_legacy){.epoch = 1, .relaunches = 1, .restarts = 1, .node_losses = 1, .nodes_out = 1,
                                       .cause = PM_CAUSE_NODE_LOST}, 1);
}

// --- the next launch -----------------------------------------------------------------------------

static void next_launch(struct pm_legacy legacy)
{
    stand_coordinator(3, 2, &options);
    pm_supervisor_free(stand.core.supervisor);
    stand.core.config.legacy = legacy;
    stand.core.config.job_nodes = 5;
    cr_assert_eq(pm_supervisor_new(&stand.core), 0);
    stand_event(&(struct pm_event){.type = PM_EVENT_LAUNCHED, .nnodes = 3, .ntasks = 6});
}

Test(supervisor_relaunch, it_begins_with_the_next_epoch_and_goes_on_counting)
{
    next_launch((struct pm_legacy){.epoch = 4, .relaunches = 1, .restarts = 2, .nodes_out = 1,
                                   .cause = PM_CAUSE_NODE_LOST});
    pm_supervisor_on_child(&stand.core, 0);
    stand_join(0, 2);
    expect_state(PM_STATE_STARTING);
    cr_assert_eq(stand.wanted.epoch, 4);
    cr_assert_eq(stand.wanted.restart_cause, PM_CAUSE_NODE_LOST);
    stand_mark(PM_MARK_STARTED, 4, 0, 2);
    expect_state(PM_STATE_RUNNING);
    stand_run_ms(60000);
    struct pm_failure failure = stand_failure(0, PM_CAUSE_SIGNAL, KILLED);
    failure.epoch = failure.incarnation = 4;
    stand_fail(&failure);
    expect_said("restart 3 of 3");
    stand_mark(PM_MARK_HALTED, 4, 0, 2);
    stand_mark(PM_MARK_STARTED, 5, 0, 2);
    stand_run_ms(60000);
    failure.epoch = failure.incarnation = 5;
    stand_fail(&failure);
    expect_said("3 of 3 restarts used");
}

Test(supervisor_relaunch, what_left_its_window_is_not_handed_on)
{
    next_launch((struct pm_legacy){.epoch = 4, .relaunches = 1, .restarts = 2, .node_losses = 3});
    stand.options.restart_window_ms = 20000;
    stand.options.node_loss_window_ms = 10000;
    struct pm_legacy legacy = pm_core_legacy(&stand.core);
    cr_expect(legacy.restarts == 2 && legacy.node_losses == 3);
    stand_run_ms(12000);
    legacy = pm_core_legacy(&stand.core);
    cr_expect(legacy.restarts == 2 && legacy.node_losses == 0);
    stand_run_ms(12000);
    cr_expect_eq(pm_core_legacy(&stand.core).restarts, 0);
}

Test(supervisor_relaunch, nodes_hear_of_the_epoch_before_the_map)
{
    next_launch((struct pm_legacy){.epoch = 4, .relaunches = 1});
    pm_supervisor_on_child(&stand.core, 0);
    cr_assert_eq(stand.wanted.epoch, 4);
    cr_assert_eq(stand.wanted.phase, PM_PHASE_FORM);
    cr_assert_eq(stand.n_maps, 0);
}

Test(supervisor_relaunch, all_launches_together_have_one_limit)
{
    next_launch((struct pm_legacy){.epoch = 4, .relaunches = 2, .nodes_out = 1});
    stand_join(0, 2);
    stand_mark(PM_MARK_STARTED, 4, 0, 2);
    node_is_lost(1);
    expect_said("and it is not launched again: --pm-relaunch is used up");
    stand_done();
    next_launch((struct pm_legacy){.epoch = 4, .relaunches = 1, .nodes_out = 2});
    stand_join(0, 2);
    stand_mark(PM_MARK_STARTED, 4, 0, 2);
    node_is_lost(1);
    expect_said("and it is not launched again: the job has too few other nodes"); // 5 - 2 - 1
}
