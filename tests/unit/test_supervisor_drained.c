// SPDX-License-Identifier: Apache-2.0
//
// What Slurm says about spares, at the supervisor alone: 5 nodes of 2 tasks, the last 2 are spares.
#include <criterion/criterion.h>
#include <string.h>

#include "tests/unit/supervisor_stand.h"

TestSuite(supervisor_drained, .fini = stand_done, .timeout = 20);

static void runs(void)
{
    static struct pm_options options;
    stand_options(&options);
    options.spares = 2;
    stand_coordinator(5, 2, &options);
    stand_running();
    stand_run_ms(60000);
    stand_forget();
}

static void slurm_drains(uint32_t node)
{
    cr_assert_eq(pm_set_add(&stand.drained, node), 0);
}

static void answers(bool failed)
{
    stand_event(&(struct pm_event){.type = PM_EVENT_NODE_STATES, .flag_failed = failed, .set = &stand.drained});
}

Test(supervisor_drained, it_is_asked_once_a_decision_about_all_spares)
{
    const struct pm_action *ask = NULL;
    struct pm_set asked = {0};
    runs();
    fail_rank(0, PM_CAUSE_SIGNAL, KILLED); // needs no spare
    cr_assert_eq(stand_count(PM_ACTION_ASK_NODES, NULL), 0);
    node_dies(1, PM_CAUSE_NODE_LOST);
    node_dies(2, PM_CAUSE_NODE_LOST);
    cr_assert_eq(stand_count(PM_ACTION_ASK_NODES, &ask), 1);
    struct pm_reader r = pm_reader_of(ask->data, ask->len);
    pm_read_set(&r, &asked, 5);
    cr_assert_eq(pm_set_count(&asked), 2);
    cr_assert(pm_set_has(&asked, 3) && pm_set_has(&asked, 4));
    pm_set_done(&asked);
    stand_mark(PM_MARK_HALTED, 0, 0, 4);
    expect_state(PM_STATE_STARTING);
}

Test(supervisor_drained, a_drained_spare_is_not_chosen)
{
    runs();
    slurm_drains(3);
    slurm_drains(0); // has ranks, and stays
    node_dies(1, PM_CAUSE_NODE_LOST);
    stand_mark(PM_MARK_HALTED, 0, 0, 4);
    expect_state(PM_STATE_STARTING);
    cr_assert_eq(node_of(2), 4);
    cr_assert_eq(node_of(0), 0);
    expect_said("Slurm shows node3 as drained or down: no use as a spare now, 1 is left");
    expect_said("1 node lost (node1): its ranks move to node4 (0 spares left)");
}

Test(supervisor_drained, the_answer_is_waited_for)
{
    runs();
    stand.slurm_is_slow = true;
    node_dies(1, PM_CAUSE_NODE_LOST);
    stand_mark(PM_MARK_HALTED, 0, 0, 4);
    stand_run_ms(1900);
    expect_state(PM_STATE_PLACING);
    cr_assert_eq(stand.n_maps, 1);
    answers(false);
    expect_state(PM_STATE_STARTING);
    cr_assert_eq(node_of(2), 3);
}

Test(supervisor_drained, without_an_answer_spares_are_taken_and_it_is_said)
{
    runs();
    stand.slurm_is_slow = true;
    slurm_drains(3);
    node_dies(1, PM_CAUSE_NODE_LOST);
    stand_mark(PM_MARK_HALTED, 0, 0, 4);
    answers(true);
    expect_state(PM_STATE_STARTING);
    cr_assert_eq(node_of(2), 3);
    expect_said("Slurm does not say whether it has drained a spare; they are taken as they come");
}

Test(supervisor_drained, when_all_are_drained_the_step_stops)
{
    runs();
    slurm_drains(3);
    slurm_drains(4);
    node_dies(1, PM_CAUSE_NODE_LOST);
    stand_mark(PM_MARK_HALTED, 0, 0, 4);
    expect_state(PM_STATE_STOPPING);
    expect_said("0 are left");
    expect_said("node1 is lost and nothing can take its place");
}

Test(supervisor_drained, the_next_decision_asks_anew)
{
    runs();
    slurm_drains(3);
    node_dies(1, PM_CAUSE_NODE_LOST);
    stand_mark(PM_MARK_HALTED, 0, 0, 4);
    stand_mark(PM_MARK_STARTED, 1, 0, 4);
    expect_state(PM_STATE_RUNNING);
    pm_set_clear(&stand.drained); // resumed
    stand_forget();
    node_dies(2, PM_CAUSE_NODE_LOST);
    stand_mark(PM_MARK_HALTED, 1, 0, 4);
    expect_state(PM_STATE_STARTING);
    cr_assert_eq(node_of(4), 3);
    cr_assert(!stand_said("drained"));
}

Test(supervisor_drained, a_late_answer_changes_nothing)
{
    runs();
    slurm_drains(3);
    answers(false);
    node_dies(0, PM_CAUSE_NODE_LOST);
    answers(false);
    expect_state(PM_STATE_HALTING);
    stand_run_ms(10);
    cr_assert_eq(stand_count(PM_ACTION_ASK_NODES, NULL), 1);
    stand_mark(PM_MARK_HALTED, 0, 0, 4);
    stand_run_ms(600);
    expect_state(PM_STATE_STARTING);
    pm_set_clear(&stand.drained);
    slurm_drains(4);
    answers(false);
    cr_assert_eq(node_of(0), 4);
    expect_state(PM_STATE_STARTING);
}

Test(supervisor_drained, before_the_first_world_it_is_asked_too)
{
    static struct pm_options options;
    stand_options(&options);
    options.spares = 2;
    stand_coordinator(5, 2, &options);
    slurm_drains(3);
    stand_join(0, 3);
    node_dies(1, PM_CAUSE_NODE_LOST);
    stand_join(4, 4);
    expect_state(PM_STATE_STARTING);
    cr_assert_eq(node_of(2), 4);
}
