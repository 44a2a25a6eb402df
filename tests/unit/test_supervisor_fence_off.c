// SPDX-License-Identifier: Apache-2.0
//
// The site's fence program, on the supervisor alone: 4 nodes of 2 tasks, the last one a spare. Ranks move only when a
// lost node is fenced off, and a step ends only then; a failure stops the step where the site wants that.
#include <criterion/criterion.h>
#include <string.h>

#include "tests/unit/supervisor_events.h"

static struct pm_options options;

static void ended(void)
{
    stand_done();
}

TestSuite(supervisor_fence_off, .fini = ended, .timeout = 20);

static void running(const char *fence)
{
    stand_options(&options);
    options.spares = 1;
    strcpy(options.fence, fence);
    options.fence_timeout_ms = 30000;
    stand_coordinator(4, 2, &options);
    stand_join(0, 3);
    stand_mark(PM_MARK_STARTED, 0, 0, 2);
    expect_state(PM_STATE_RUNNING);
    stand_run_ms(60000);
    stand_forget();
}

static void answers(uint32_t node, bool failed, const char *text)
{
    stand_event(&(struct pm_event){.type = PM_EVENT_FENCED_OFF, .node = node, .flag_failed = failed,
                                   .text = text});
}

static uint32_t asked(void)
{
    return stand_count(PM_ACTION_FENCE_OFF, NULL);
}

// Node 1 is lost, and the others have halted.
static void placing(void)
{
    running("/site/fence");
    node_is_lost(1);
    stand_mark(PM_MARK_HALTED, 0, 0, 0);
    stand_mark(PM_MARK_HALTED, 0, 2, 3);
    expect_state(PM_STATE_PLACING);
}

Test(supervisor_fence_off, nobody_is_asked_for_without_a_program)
{
    running("");
    node_is_lost(1);
    cr_assert_eq(asked(), 0);
}

Test(supervisor_fence_off, a_spare_does_no_harm)
{
    running("/site/fence");
    node_is_lost(3);
    expect_state(PM_STATE_RUNNING);
    cr_assert_eq(asked(), 0);
}

Test(supervisor_fence_off, a_node_that_never_had_ranks_does_no_harm)
{
    stand_options(&options);
    options.spares = 1;
    strcpy(options.fence, "/site/fence");
    stand_coordinator(4, 2, &options);
    stand_join(0, 2);
    node_is_lost(1);
    expect_state(PM_STATE_FORMING);
    cr_assert_eq(asked(), 0);
}

Test(supervisor_fence_off, ranks_move_when_their_node_is_fenced_off)
{
    placing();
    const struct pm_action *a;
    cr_assert_eq(stand_count(PM_ACTION_FENCE_OFF, &a), 1);
    cr_assert_eq(a->node, 1);
    cr_assert_eq(a->cause, PM_CAUSE_NODE_LOST);
    stand_run_ms(2000);
    cr_assert_eq(stand.core.world.node_of_rank[2], 1);
    answers(1, false, "0.8 s");
    expect_said("pm-supervise: node1 is fenced off (0.8 s)\n");
    cr_assert_eq(stand.core.world.node_of_rank[2], 3);
    stand_run_ms(600); // no port comes
    expect_state(PM_STATE_STARTING);
    cr_assert_eq(asked(), 1);
}

// 3 nodes with ranks.
static void running_with_two_spares(void)
{
    stand_options(&options);
    options.spares = 2;
    strcpy(options.fence, "/site/fence");
    stand_coordinator(5, 2, &options);
    stand_join(0, 4);
    stand_mark(PM_MARK_STARTED, 0, 0, 2);
}

Test(supervisor_fence_off, each_of_two_lost_nodes_is_waited_for)
{
    running_with_two_spares();
    node_is_lost(0);
    node_is_lost(1);
    stand_mark(PM_MARK_HALTED, 0, 2, 4);
    cr_assert_eq(asked(), 2);
    answers(1, false, "1 s");
    stand_run_ms(2000);
    expect_state(PM_STATE_PLACING);
    answers(0, false, "3 s");
    stand_run_ms(600);
    expect_state(PM_STATE_STARTING);
}

// Ranks were to start there, and none did.
Test(supervisor_fence_off, a_spare_that_was_to_take_over_does_no_harm)
{
    running_with_two_spares();
    node_is_lost(0);
    stand_mark(PM_MARK_HALTED, 0, 1, 4);
    answers(0, false, "1 s");
    expect_state(PM_STATE_PLACING); // for a port
    cr_assert_eq(stand.core.world.node_of_rank[0], 3);
    node_is_lost(3);
    cr_assert_eq(asked(), 1);
    stand_run_ms(600);
    expect_state(PM_STATE_STARTING);
    cr_assert_eq(stand.core.world.node_of_rank[0], 4);
    node_is_lost(4); // this one has started ranks
    cr_assert_eq(asked(), 2);
}

// Longer than a state may take without a program.
Test(supervisor_fence_off, placing_has_the_programs_time)
{
    stand_options(&options);
    options.orphan_timeout_ms = 1000;
    options.node_timeout_ms = 1000;
    options.spares = 1;
    strcpy(options.fence, "/site/fence");
    options.fence_timeout_ms = 100000;
    stand_coordinator(4, 2, &options);
    stand_join(0, 3);
    stand_mark(PM_MARK_STARTED, 0, 0, 2);
    node_is_lost(1);
    stand_mark(PM_MARK_HALTED, 0, 0, 0);
    stand_mark(PM_MARK_HALTED, 0, 2, 3);
    for (int s = 0; s < 99; s++)
        stand_run_ms(1000);
    expect_state(PM_STATE_PLACING);
    for (int s = 0; s < 10; s++)
        stand_run_ms(1000);
    expect_state(PM_STATE_STOPPING); // the shell broke its word
}

Test(supervisor_fence_off, a_failure_is_said_and_the_step_goes_on)
{
    placing();
    answers(1, true, "ended with exit code 3");
    expect_said("pm-supervise: node1 could not be fenced off: fence ended with exit code 3; going on\n");
    stand_run_ms(600);
    expect_state(PM_STATE_STARTING);
}

Test(supervisor_fence_off, a_failure_stops_the_step_where_it_is_required)
{
    placing();
    stand.options.fence_required = 1;
    answers(1, true, "took longer than 30 s and was killed");
    expect_state(PM_STATE_STOPPING);
    expect_said("pm-supervise: node1 could not be fenced off: fence took longer than 30 s and was killed; stopping, as "
                "this site has set fence-required\n");
    cr_assert_eq(stand.wanted.phase, PM_PHASE_END); // nobody runs
    stand_event(&(struct pm_event){.type = PM_EVENT_SRUN_EXITED, .wait_status = 9});
    cr_assert_eq(stand.exit_status, 1);
}

Test(supervisor_fence_off, a_failure_while_ranks_run_halts_them_first)
{
    running("/site/fence");
    stand.options.fence_required = 1;
    stand_mark(PM_MARK_ENDED, 0, 1, 1);
    node_is_lost(1); // its ranks had ended well
    expect_state(PM_STATE_RUNNING);
    answers(1, true, "ended with exit code 1");
    expect_state(PM_STATE_STOPPING);
    cr_assert_eq(stand.wanted.phase, PM_PHASE_STOP);
}

// Both of the world's other nodes are lost, and there is one spare.
static void stopping(void)
{
    running("/site/fence");
    node_is_lost(1);
    node_is_lost(2);
    expect_state(PM_STATE_STOPPING);
    stand_mark(PM_MARK_HALTED, 0, 0, 0);
    stand_mark(PM_MARK_HALTED, 0, 3, 3);
    cr_assert_eq(asked(), 2);
}

Test(supervisor_fence_off, a_step_ends_when_its_lost_nodes_are_fenced_off)
{
    stopping();
    cr_assert_neq(stand.wanted.phase, PM_PHASE_END);
    answers(2, false, "1 s");
    cr_assert_neq(stand.wanted.phase, PM_PHASE_END);
    answers(1, true, "ended with exit code 3");
    cr_assert_eq(stand.wanted.phase, PM_PHASE_END);
    expect_said("pm-supervise: node1 could not be fenced off: fence ended with exit code 3; the step is being stopped all the same\n");
}

Test(supervisor_fence_off, a_step_ends_without_an_answer)
{
    stopping();
    for (int s = 0; s < 80; s++)
        stand_run_ms(1000);
    expect_state(PM_STATE_DONE);
    cr_assert_eq(stand.exit_status, 1);
}

Test(supervisor_fence_off, a_user_who_stops_waits_for_the_program_and_no_longer)
{
    placing();
    stand_event(&(struct pm_event){.type = PM_EVENT_STOP, .signal = 15});
    expect_state(PM_STATE_STOPPING);
    cr_assert_neq(stand.wanted.phase, PM_PHASE_END);
    answers(1, false, "1 s");
    cr_assert_eq(stand.wanted.phase, PM_PHASE_END);
}

Test(supervisor_fence_off, an_answer_that_nobody_waits_for_is_nothing)
{
    placing();
    stand.options.fence_required = 1;
    answers(2, true, "ended with exit code 3");
    expect_state(PM_STATE_PLACING);
    answers(1, false, "1 s");
    answers(1, true, "ended with exit code 3");
    cr_assert_neq(stand_state(), PM_STATE_STOPPING);
}

// --- a rack ---------------------------------------------------------------------------------------------

// 35 of 40 nodes are silent: 16 programs run at once, so all may take three times as long as one, 100 s.
static void a_rack_is_lost(bool shrinks)
{
    stand_options(&options);
    options.shrink = shrinks;
    options.min_nodes = shrinks;
    options.orphan_timeout_ms = options.node_timeout_ms = 1000;
    strcpy(options.fence, "/site/fence");
    options.fence_timeout_ms = 100000;
    stand_coordinator(40, 1, &options);
    stand_join(0, 39);
    stand_mark(PM_MARK_STARTED, 0, 0, 39);
    for (uint32_t node = 0; node < 35; node++)
        node_is_lost(node);
    stand_mark(PM_MARK_HALTED, 0, 35, 39);
    cr_assert_eq(asked(), 35);
}

static void run_s(int seconds)
{
    for (int s = 0; s < seconds; s++)
        stand_run_ms(1000);
}

Test(supervisor_fence_off, ranks_wait_for_all_of_a_rack)
{
    a_rack_is_lost(true);
    run_s(300);
    expect_state(PM_STATE_PLACING);
    run_s(20);
    expect_state(PM_STATE_STOPPING); // the shell broke its word
}

Test(supervisor_fence_off, a_step_ends_after_all_of_a_rack)
{
    a_rack_is_lost(false);
    run_s(300);
    expect_state(PM_STATE_STOPPING);
    cr_assert_eq(stand.wanted.phase, PM_PHASE_STOP);
    run_s(20);
    cr_assert_eq(stand.wanted.phase, PM_PHASE_END);
}

Test(supervisor_fence_off, who_is_lost_last_has_its_time_too)
{
    running("/site/fence");
    node_is_lost(1);
    node_is_lost(2);
    expect_state(PM_STATE_STOPPING);
    stand_mark(PM_MARK_HALTED, 0, 3, 3);
    run_s(50); // of 56
    node_is_lost(0);
    run_s(30);
    cr_assert_eq(stand.wanted.phase, PM_PHASE_STOP);
    run_s(50);
    cr_assert_eq(stand.wanted.phase, PM_PHASE_END);
}

Test(supervisor_fence_off, who_is_lost_when_ranks_drain_has_its_time_after_them)
{
    running("/site/fence");
    user_stops();
    cr_assert_eq(stand.wanted.phase, PM_PHASE_DRAIN);
    run_s(30);
    node_is_lost(1);
    run_s(50); // 20 s without a program
    cr_assert_eq(stand.wanted.phase, PM_PHASE_KILL);
    run_s(20);
    cr_assert_eq(stand.wanted.phase, PM_PHASE_END);
}

// --- nodes whose host has answered that only the agent is gone ---------------------------------------

static void halted(uint32_t first, uint32_t last) { stand_mark(PM_MARK_HALTED, 0, first, last); }

// scancel --signal=KILL of the step: each host refuses, one after another.
Test(supervisor_fence_off, a_step_whose_agents_are_all_killed_costs_no_node)
{
    running("/site/fence");
    for (uint32_t node = 0; node < 4; node++)
        agent_is_gone(node);
    expect_state(PM_STATE_STOPPING);
    cr_expect_eq(asked(), 0);
    cr_expect_eq(stand.wanted.phase, PM_PHASE_END); // nor time
    srun_exits(137 << 8);
    expect_state(PM_STATE_DONE);
    cr_expect_eq(asked(), 0);
}

Test(supervisor_fence_off, nor_does_one_that_could_have_shrunk)
{
    stand_options(&options);
    options.shrink = 1;
    options.min_nodes = 1;
    strcpy(options.fence, "/site/fence");
    stand_coordinator(4, 2, &options);
    stand_join(0, 3);
    stand_mark(PM_MARK_STARTED, 0, 0, 3);
    agent_is_gone(0);
    expect_state(PM_STATE_HALTING);
    for (uint32_t node = 1; node < 4; node++)
        agent_is_gone(node);
    expect_state(PM_STATE_STOPPING);
    cr_expect_eq(asked(), 0);
}

// The spares are not judged yet, when all others are known to be gone.
Test(supervisor_fence_off, a_spare_that_may_be_gone_too_is_waited_for)
{
    running("/site/fence");
    cr_assert_eq(pm_set_add(&stand.suspect, 3), 0);
    agent_is_gone(1);
    halted(0, 0);
    halted(2, 2);
    expect_state(PM_STATE_PLACING);
    stand_run_ms(500);
    cr_expect_eq(asked(), 0);
    agent_is_gone(3);
    expect_state(PM_STATE_STOPPING);
    cr_expect_eq(asked(), 0);
}

Test(supervisor_fence_off, it_is_asked_for_before_ranks_move)
{
    const struct pm_action *a;
    running("/site/fence");
    agent_is_gone(1);
    expect_state(PM_STATE_HALTING);
    cr_expect_eq(asked(), 0);
    halted(0, 0);
    halted(2, 3);
    expect_state(PM_STATE_PLACING);
    cr_assert_eq(stand_count(PM_ACTION_FENCE_OFF, &a), 1);
    cr_expect_eq(a->node, 1);
    cr_expect_eq(a->cause, PM_CAUSE_AGENT_LOST);
    stand_run_ms(2000);
    cr_assert_eq(node_of(2), 1);
    answers(1, false, "0.8 s");
    cr_assert_eq(node_of(2), 3);
    stand_run_ms(600); // no port comes
    expect_state(PM_STATE_STARTING);
    cr_expect_eq(asked(), 1);
}

Test(supervisor_fence_off, a_silent_node_is_not_spared)
{
    running("/site/fence");
    agent_is_gone(1);
    node_is_lost(2);
    expect_state(PM_STATE_STOPPING);
    const struct pm_action *a;
    cr_assert_eq(stand_count(PM_ACTION_FENCE_OFF, &a), 1);
    cr_expect_eq(a->node, 2);
    node_dies(0, PM_CAUSE_AGENT_LOST); // it accepts connections and does not answer
    cr_expect_eq(asked(), 2);
}

Test(supervisor_fence_off, a_failure_stops_the_step_before_ranks_move_too)
{
    running("/site/fence");
    stand.options.fence_required = 1;
    agent_is_gone(1);
    halted(0, 0);
    halted(2, 3);
    answers(1, true, "ended with exit code 1");
    expect_state(PM_STATE_STOPPING);
}

// All nodes are lost and the last ones are still being fenced off when srun ends. The first of them was killed long
// ago, and its status is what srun tells: nobody has killed the step as a whole.
Test(supervisor_fence_off, nodes_that_are_lost_one_after_another_are_no_scancel)
{
    placing();
    answers(1, false, "0.8 s");
    stand_run_ms(600); // no port comes
    stand_mark(PM_MARK_STARTED, 1, 0, 0);
    stand_mark(PM_MARK_STARTED, 1, 2, 3);
    expect_state(PM_STATE_RUNNING);
    node_is_lost(0);
    node_is_lost(2);
    node_is_lost(3);
    expect_state(PM_STATE_STOPPING);
    stand_event(&(struct pm_event){.type = PM_EVENT_SRUN_EXITED, .wait_status = 137 << 8});
    expect_state(PM_STATE_DONE);
    cr_assert_eq(stand.exit_status, PM_EXIT_LOST);
}
