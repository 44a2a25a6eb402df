// SPDX-License-Identifier: Apache-2.0
//
// srun ends with what killed its tasks, and nobody wanted that: it has given the step up after the reset of a node, or
// somebody has killed the step. Slurm tells the two apart.
#include <criterion/criterion.h>
#include <string.h>

#include "tests/unit/supervisor_stand.h"

static struct pm_options options;

static void begun(void)
{
    stand_options(&options);
    options.relaunch = 2;
}

TestSuite(supervisor_fallen, .init = begun, .fini = stand_done, .timeout = 20);

// 4 nodes of a job of 5; this one has booted.
static void runs(uint32_t booted)
{
    running(&options);
    stand.core.config.job_nodes = 5;
    if (booted != UINT32_MAX)
        cr_assert_eq(pm_set_add(&stand.booted, booted), 0);
}

static void all_die(void)
{
    for (uint32_t node = 0; node < 4; node++)
        if (!pm_set_has(&stand.dead, node))
            node_dies(node, PM_CAUSE_AGENT_LOST);
}

static void expect_relaunch_without(const char *nodes)
{
    const struct pm_action *a;
    struct pm_set out = {0};
    char buf[64];
    cr_assert_eq(stand_count(PM_ACTION_RELAUNCH, &a), 1, "said: %s", stand.said);
    cr_assert_eq(stand_count(PM_ACTION_EXIT, NULL), 0);
    struct pm_reader r = pm_reader_of(a->data, a->len);
    pm_read_set(&r, &out, 16);
    cr_expect_str_eq(pm_set_format(&out, buf, sizeof(buf)), nodes);
    cr_expect_eq(pm_core_legacy(&stand.core).nodes_out, pm_set_count(&out));
    pm_set_done(&out);
}

static void expect_end(int32_t status)
{
    expect_state(PM_STATE_DONE);
    cr_assert_eq(stand_count(PM_ACTION_RELAUNCH, NULL), 0);
    cr_assert_eq(stand.exit_status, status, "%d; said: %s", stand.exit_status, stand.said);
}

Test(supervisor_fallen, a_step_that_srun_gave_up_after_a_reset_is_launched_again)
{
    runs(2);
    all_die();
    expect_said("launching the step again on other nodes of the job (launch 2 of 3)");
    stand_forget();
    srun_exits(KILLED);
    expect_said("srun has given the step up (exit code 137), as node2 was reset: launching it again on other nodes of "
                "the job (launch 2 of 3)");
    expect_relaunch_without("2");
    struct pm_legacy legacy = pm_core_legacy(&stand.core);
    cr_expect_eq(legacy.epoch, 1);
    cr_expect_eq(legacy.node_losses, 1);
    cr_expect_eq(legacy.cause, PM_CAUSE_NODE_LOST);
}

Test(supervisor_fallen, every_node_is_waited_for_when_srun_ends_first)
{
    runs(2);
    srun_exits(KILLED);
    expect_state(PM_STATE_STOPPING);
    cr_assert_eq(stand.wanted.phase, PM_PHASE_STOP);
    stand_mark(PM_MARK_HALTED, 0, 0, 0);
    node_dies(2, PM_CAUSE_AGENT_LOST);
    node_dies(3, PM_CAUSE_AGENT_LOST);
    stand_run_ms(100);
    cr_assert_eq(stand_count(PM_ACTION_RELAUNCH, NULL), 0);
    stand.lease_not_over = true;
    node_dies(1, PM_CAUSE_AGENT_LOST);
    stand_run_ms(1000);
    cr_assert_eq(stand_count(PM_ACTION_RELAUNCH, NULL), 0);
    stand.lease_not_over = false;
    stand_run_ms(100);
    expect_relaunch_without("2");
}

Test(supervisor_fallen, a_node_that_was_silent_is_out_too)
{
    runs(2);
    cr_assert_eq(pm_set_add(&stand.silent, 0), 0);
    stand.core.config.job_nodes = 6;
    node_dies(0, PM_CAUSE_NODE_LOST);
    all_die();
    srun_exits(KILLED);
    expect_relaunch_without("0,2");
    cr_expect_eq(pm_core_legacy(&stand.core).node_losses, 2);
}

Test(supervisor_fallen, a_silent_node_is_taken_if_the_job_has_no_other)
{
    runs(2);
    cr_assert_eq(pm_set_add(&stand.silent, 0), 0);
    node_dies(0, PM_CAUSE_NODE_LOST);
    all_die();
    srun_exits(KILLED);
    expect_relaunch_without("2");
}

Test(supervisor_fallen, where_a_site_fences_nodes_off_each_dead_one_is_out)
{
    strcpy(options.fence, "/site/fence");
    runs(2);
    stand.core.config.job_nodes = 8;
    node_dies(3, PM_CAUSE_AGENT_LOST);
    stand_event(&(struct pm_event){.type = PM_EVENT_FENCED_OFF, .node = 3, .text = "1 s"});
    srun_exits(KILLED);
    stand_mark(PM_MARK_HALTED, 0, 0, 2);
    expect_relaunch_without("2-3");
}

// The shell asks when the step is over.
Test(supervisor_fallen, what_is_handed_on_is_what_was_decided)
{
    strcpy(options.fence, "/site/fence");
    runs(2);
    stand.core.config.job_nodes = 8;
    srun_exits(KILLED);
    stand_mark(PM_MARK_HALTED, 0, 0, 3);
    expect_relaunch_without("2");
    cr_assert_eq(pm_set_add(&stand.dead, 0), 0);
    stand.core.out = NULL;
    cr_expect_eq(pm_core_legacy(&stand.core).nodes_out, 1);
    stand.core.out = &stand.out;
}

// scancel --signal=KILL does the same to all processes.
Test(supervisor_fallen, a_step_that_was_killed_stays_dead)
{
    runs(UINT32_MAX);
    srun_exits(KILLED);
    expect_end(137);
}

Test(supervisor_fallen, one_that_was_killed_after_a_loss_stays_dead)
{
    runs(UINT32_MAX);
    node_dies(1, PM_CAUSE_AGENT_LOST);
    expect_state(PM_STATE_STOPPING);
    srun_exits(KILLED);
    expect_said("the step is not launched again: srun ended by itself (exit code 137)");
    expect_end(137);
}

Test(supervisor_fallen, without_an_answer_it_stays_dead)
{
    runs(2);
    stand.slurm_fails = true;
    srun_exits(KILLED);
    expect_said("the step is not launched again: srun ended by itself (exit code 137), and Slurm does not say whether a "
                "node was reset");
    expect_end(137);
}

Test(supervisor_fallen, the_answer_is_waited_for)
{
    runs(2);
    stand.slurm_is_slow = true;
    srun_exits(KILLED);
    cr_assert_eq(stand_count(PM_ACTION_ASK_BOOTED, NULL), 1);
    all_die();
    stand_run_ms(1000);
    cr_assert_neq(stand_state(), PM_STATE_DONE);
    cr_assert_eq(stand_count(PM_ACTION_ASK_BOOTED, NULL), 1);
    stand.slurm_is_slow = false;
    stand_event(&(struct pm_event){.type = PM_EVENT_TIMER});
    expect_relaunch_without("2");
}

// scancel --signal=KILL: all agents may be found dead before srun has ended.
Test(supervisor_fallen, what_was_killed_as_a_whole_is_neither_fenced_off_nor_launched_again)
{
    strcpy(options.fence, "/site/fence");
    runs(UINT32_MAX);
    stand.core.config.job_nodes = 9;
    for (uint32_t node = 0; node < 4; node++)
        agent_is_gone(node);
    expect_said("launching the step again on other nodes of the job");
    srun_exits(KILLED);
    expect_end(PM_EXIT_LOST);
    cr_assert_eq(stand_count(PM_ACTION_FENCE_OFF, NULL), 0);
    expect_said("the step is not launched again: srun ended by itself (exit code 137)");
}

Test(supervisor_fallen, the_users_stop_wins)
{
    runs(2);
    stand.slurm_is_slow = true;
    srun_exits(KILLED);
    user_stops();
    stand.slurm_is_slow = false;
    stand_event(&(struct pm_event){.type = PM_EVENT_TIMER});
    all_die();
    stand_run_ms(60000);
    expect_end(137);
    cr_assert(!stand_said("launching it again"));
}

Test(supervisor_fallen, after_a_users_stop_nobody_is_asked)
{
    runs(2);
    user_stops();
    srun_exits(KILLED);
    cr_assert_eq(stand_count(PM_ACTION_ASK_BOOTED, NULL), 0);
    expect_end(137);
}

// Node 2 dies, srun ends, and Slurm has been asked.
static void is_asked(void)
{
    runs(2);
    stand.slurm_is_slow = true;
    node_dies(2, PM_CAUSE_AGENT_LOST);
    srun_exits(KILLED);
    cr_assert_eq(stand_count(PM_ACTION_ASK_BOOTED, NULL), 1);
}

static void slurm_answers(void)
{
    stand.slurm_is_slow = false;
    stand_event(&(struct pm_event){.type = PM_EVENT_TIMER});
}

// Slurm knows of no reset: somebody has killed the step.
Test(supervisor_fallen, who_kills_the_step_switches_no_node_off)
{
    strcpy(options.fence, "/site/fence");
    runs(UINT32_MAX);
    for (uint32_t node = 0; node < 4; node++)
        agent_is_gone(node);
    srun_exits(KILLED);
    expect_state(PM_STATE_DONE);
    cr_expect_eq(stand_count(PM_ACTION_FENCE_OFF, NULL), 0);
    cr_expect_eq(stand_count(PM_ACTION_RELAUNCH, NULL), 0);
}

static void halt_others(void)
{
    stand_mark(PM_MARK_HALTED, 0, 0, 1);
    stand_mark(PM_MARK_HALTED, 0, 3, 3);
}

// It cannot be switched off, so its ranks may run: that forbids a launch however late Slurm's answer is.
Test(supervisor_fallen, a_node_that_is_not_fenced_off_meanwhile_forbids_it)
{
    strcpy(options.fence, "/site/fence");
    options.fence_required = 1;
    is_asked();
    stand_event(&(struct pm_event){.type = PM_EVENT_FENCED_OFF, .node = 2, .flag_failed = true,
                                   .text = "ended with exit code 3"});
    expect_said("the step is not launched again, as this site has set fence-required");
    slurm_answers();
    halt_others();
    expect_end(1);
    cr_expect(!stand_said("launching it again"), "%s", stand.said);
    cr_expect(!stand_said("from outside"), "%s", stand.said);
}

Test(supervisor_fallen, a_failure_that_ends_the_step_meanwhile_still_does)
{
    runs(2);
    stand.slurm_is_slow = true;
    srun_exits(KILLED);
    fail_rank(1, PM_CAUSE_EXIT, EXITED(93));
    expect_state(PM_STATE_STOPPING);
    slurm_answers();
    stand_mark(PM_MARK_HALTED, 0, 0, 3);
    expect_end(93);
    cr_expect(!stand_said("launching it again"), "%s", stand.said);
}

Test(supervisor_fallen, a_step_that_ends_well_meanwhile_is_over)
{
    runs(2);
    stand.slurm_is_slow = true;
    srun_exits(KILLED);
    stand_mark(PM_MARK_ENDED, 0, 0, 3);
    expect_state(PM_STATE_FINISHING);
    slurm_answers();
    expect_end(0);
    cr_expect(!stand_said("launching it again"), "%s", stand.said);
}

// srun waits for tasks that were killed; in a stop it is long since its reason, if this was one.
Test(supervisor_fallen, a_node_counts_that_booted_within_a_minute_of_the_stop)
{
    const struct pm_action *a;
    strcpy(options.fence, "/site/fence");
    options.fence_timeout_ms = 100000;
    runs(2);
    stand.slurm_is_slow = true;
    node_dies(2, PM_CAUSE_AGENT_LOST);
    expect_state(PM_STATE_STOPPING);
    for (int s = 0; s < 70; s++)
        stand_run_ms(1000);
    srun_exits(KILLED);
    cr_assert_eq(stand_count(PM_ACTION_ASK_BOOTED, &a), 1);
    cr_expect_eq(a->timeout_ms, 130000);
}

Test(supervisor_fallen, where_ranks_ran_it_is_the_last_minute)
{
    const struct pm_action *a;
    runs(2);
    stand.slurm_is_slow = true;
    srun_exits(KILLED);
    cr_assert_eq(stand_count(PM_ACTION_ASK_BOOTED, &a), 1);
    cr_expect_eq(a->timeout_ms, 60000);
}

static void nobody_is_asked(int32_t wait_status)
{
    srun_exits(wait_status);
    stand_run_ms(60000);
    cr_assert_eq(stand_count(PM_ACTION_ASK_BOOTED, NULL), 0);
    expect_state(PM_STATE_DONE);
    cr_assert_eq(stand_count(PM_ACTION_RELAUNCH, NULL), 0);
}

Test(supervisor_fallen, srun_that_fails_by_itself_is_left_alone)
{
    runs(2);
    nobody_is_asked(EXITED(1));
}

Test(supervisor_fallen, without_the_option_nobody_is_asked)
{
    options.relaunch = 0;
    runs(2);
    nobody_is_asked(KILLED);
}

Test(supervisor_fallen, a_step_that_ends_well_is_over)
{
    runs(2);
    stand_mark(PM_MARK_ENDED, 0, 0, 3);
    expect_state(PM_STATE_FINISHING);
    nobody_is_asked(KILLED);
    cr_assert_eq(stand.exit_status, 0);
}

Test(supervisor_fallen, a_failure_that_ends_the_step_still_does)
{
    runs(2);
    fail_rank(1, PM_CAUSE_EXIT, EXITED(93));
    expect_state(PM_STATE_STOPPING);
    all_die();
    nobody_is_asked(KILLED);
    cr_assert_eq(stand.exit_status, 93);
}

// --pm-max-node-losses counts it like any other.
Test(supervisor_fallen, the_budget_of_lost_nodes_holds)
{
    options.max_node_losses = 0;
    runs(2);
    srun_exits(KILLED);
    expect_said("srun has given the step up (exit code 137), as node2 was reset; it is not launched again: "
                "--pm-max-node-losses is used up");
    expect_end(137);
}

Test(supervisor_fallen, a_job_without_other_nodes_says_so)
{
    runs(2);
    stand.core.config.job_nodes = 4;
    srun_exits(KILLED);
    expect_said("as node2 was reset; it is not launched again: the job has too few other nodes");
    expect_end(137);
}

// All that had ranks is lost, so the step is being ended, and of the spare nothing was heard.
Test(supervisor_fallen, a_spare_that_was_killed_too_is_not_waited_for)
{
    options.spares = 1;
    runs(1);
    for (uint32_t node = 0; node < 3; node++)
        node_dies(node, PM_CAUSE_AGENT_LOST);
    expect_state(PM_STATE_STOPPING);
    stand_event(&(struct pm_event){.type = PM_EVENT_OUTPUT_READ});
    cr_assert_eq(stand_count(PM_ACTION_END_STEP, NULL), 1);
    srun_exits(KILLED); // by us
    expect_said("pm-supervise: no node of the step was left, and node1 was reset: launching it again");
    expect_relaunch_without("1");
}

// Minutes after its ranks have moved a node has booted: srun still waits for its tasks.
Test(supervisor_fallen, a_node_that_was_replaced_long_ago_comes_back)
{
    options.spares = 1;
    runs(1);
    node_dies(1, PM_CAUSE_NODE_LOST);
    stand_mark(PM_MARK_HALTED, 0, 0, 0);
    stand_mark(PM_MARK_HALTED, 0, 2, 3);
    stand_mark(PM_MARK_STARTED, 1, 0, 0);
    stand_mark(PM_MARK_STARTED, 1, 2, 3);
    expect_state(PM_STATE_RUNNING);
    stand_run_ms(60000);
    stand_forget();
    srun_exits(KILLED);
    expect_state(PM_STATE_STOPPING);
    all_die();
    stand_run_ms(100);
    expect_relaunch_without("1");
    cr_expect_eq(pm_core_legacy(&stand.core).node_losses, 1);
    cr_expect_eq(pm_core_legacy(&stand.core).epoch, 2);
}

// Node 0 is lost, and node 3 is to take over; a port for its epoch is waited for.
static void places(uint32_t booted, enum pm_cause cause)
{
    options.spares = 1;
    runs(booted);
    stand.core.config.job_nodes = 6;
    node_dies(0, cause);
    stand_mark(PM_MARK_HALTED, 0, 1, 3);
    expect_state(PM_STATE_PLACING);
    cr_assert_eq(stand.core.world.node_of_rank[0], 3);
    srun_exits(KILLED);
    stand_run_ms(100);
}

Test(supervisor_fallen, a_loss_counts_when_its_ranks_have_a_new_place)
{
    places(0, PM_CAUSE_NODE_LOST);
    expect_relaunch_without("0");
    cr_expect_eq(pm_core_legacy(&stand.core).node_losses, 1);
}

Test(supervisor_fallen, what_was_lost_before_the_new_map_stays_out)
{
    places(2, PM_CAUSE_AGENT_LOST);
    expect_relaunch_without("0,2");
    cr_expect_eq(pm_core_legacy(&stand.core).node_losses, 2);
}

// A spare that took over and is lost before the world runs is no loss of its own.
Test(supervisor_fallen, a_spare_that_took_over_and_was_reset_is_paid_for)
{
    options.spares = 1;
    options.max_node_losses = 1;
    runs(3);
    stand.core.config.job_nodes = 6;
    node_dies(1, PM_CAUSE_NODE_LOST);
    stand_mark(PM_MARK_HALTED, 0, 0, 0);
    stand_mark(PM_MARK_HALTED, 0, 2, 3);
    expect_state(PM_STATE_STARTING);
    srun_exits(KILLED);
    all_die();
    stand_run_ms(100);
    expect_relaunch_without("1,3");
    cr_expect_eq(pm_core_legacy(&stand.core).node_losses, 1);
}

// The window of the budget has passed for what was lost long ago.
Test(supervisor_fallen, losses_before_the_window_are_forgotten)
{
    options.max_node_losses = 1;
    options.node_loss_window_ms = 60000;
    runs(2);
    pm_supervisor_count_loss(&stand.core);
    pm_supervisor_fall_begins(&stand.core);
    stand_run_ms(100000);
    all_die();
    srun_exits(KILLED);
    expect_relaunch_without("2");
    cr_expect_eq(pm_core_legacy(&stand.core).node_losses, 1);
}

static uint64_t hash(void)
{
    struct pm_digest d = {0};
    pm_supervisor_digest(&stand.core, stand.core.now_ns, &d);
    return d.h;
}

// How far back Slurm is asked to look, and how the end is told.
Test(supervisor_fallen, how_long_a_stop_takes_and_who_ended_srun_is_part_of_the_hash)
{
    runs(2);
    node_dies(2, PM_CAUSE_AGENT_LOST);
    expect_state(PM_STATE_STOPPING);
    struct pm_fall *fall = &stand.core.supervisor->fall;
    uint64_t since_ns = stand.core.now_ns, before = hash();
    fall->since_ns = since_ns - 1000 * PM_MS;
    cr_expect_neq(hash(), before);
    fall->since_ns = since_ns;
    fall->by_us = true;
    cr_expect_neq(hash(), before);
    fall->by_us = false;
    fall->slurm = PM_SLURM_ASKED;
    before = hash();
    fall->since_ns -= 1000 * PM_MS;
    cr_expect_eq(hash(), before, "it was asked, and is so once");
}
