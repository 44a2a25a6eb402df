// SPDX-License-Identifier: Apache-2.0
//
// A whole step of real cores in virtual time (core_harness.h): form, run, fail, restart, end. What
// one module decides is tested in its own file; here is what a person would see.
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/core_harness.h"

#define KILLED       9
#define EXITED(code) ((code) << 8)

static struct harness *h;
static struct pm_options options;
static bool mute_kill; // KILL_RANK has no effect (D state)

static bool hook(struct harness *harness, void *ctx, uint32_t node, const struct pm_action *action)
{
    (void)harness;
    (void)ctx;
    return mute_kill && node == 2 &&
           (action->type == PM_ACTION_KILL_RANK || action->type == PM_ACTION_SIGNAL_RANK);
}

static void setup(void)
{
    harness_default_options(&options);
    mute_kill = false;
}

static void launch(uint32_t nnodes, uint32_t per_node)
{
    const struct harness_config config = {.nnodes = nnodes,
                                          .ranks_per_node = per_node,
                                          .options = &options,
                                          .hook = hook,
                                          .trace = getenv("TRACE") != NULL};
    h = harness_new(&config);
    harness_launch(h, 1000000);
}

static void teardown(void)
{
    harness_free(h);
}

TestSuite(life, .init = setup, .fini = teardown, .timeout = 60);

static void run_until(enum pm_state state, uint64_t max_ms)
{
    cr_assert(harness_run_until_state(h, state, max_ms), "no %s within %u ms; said: %s",
              pm_state_name(state), (unsigned)max_ms, harness_said(h));
}

static void expect_exit(int32_t status, uint64_t max_ms)
{
    int32_t got = -1;
    cr_assert(harness_run_until_exit(h, max_ms), "no exit; said: %s", harness_said(h));
    cr_assert(harness_exited(h, &got));
    cr_assert_eq(got, status, "exit %d, not %d; said: %s", got, status, harness_said(h));
}

static void expect_said(const char *text)
{
    cr_assert(strstr(harness_said(h), text), "\"%s\" is not in: %s", text, harness_said(h));
}

static void running(uint32_t nnodes, uint32_t per_node)
{
    launch(nnodes, per_node);
    run_until(PM_STATE_RUNNING, 10000);
    cr_assert_eq(harness_ranks_alive(h), nnodes * per_node);
}

static void end_well(void)
{
    harness_all_ranks_end(h);
    expect_exit(0, 20000);
}

static uint32_t epoch(void)
{
    return pm_core_epoch(harness_core(h, PM_NODE_COORDINATOR));
}

Test(life, a_step_without_failure_says_nothing_and_exits_0)
{
    running(4, 2);
    end_well();
    cr_assert_str_empty(harness_said(h));
}

Test(life, forms_quickly)
{
    launch(4, 2);
    run_until(PM_STATE_RUNNING, 1100);
}

Test(life, forms_over_a_deep_tree)
{
    options.fanout = 2;
    running(60, 2);
    harness_rank_ends(h, 59, 1, KILLED);
    harness_run_ms(h, 1000);
    run_until(PM_STATE_RUNNING, 10000);
    cr_assert_eq(epoch(), 1);
    cr_assert_eq(harness_ranks_alive(h), 120);
    end_well();
}

Test(life, a_killed_rank_restarts_the_world_in_milliseconds)
{
    running(4, 2);
    harness_run_ms(h, 60000);
    uint64_t before = harness_now_ns(h);
    harness_rank_ends(h, 1, 1, KILLED);
    run_until(PM_STATE_HALTING, 100);
    run_until(PM_STATE_RUNNING, 100);
    cr_assert_lt(harness_now_ns(h) - before, 20 * HARNESS_MS);
    cr_assert_eq(epoch(), 1);
    cr_assert_eq(harness_ranks_alive(h), 8);
    cr_assert_eq(harness_rank(h, 1, 1)->incarnation, 1);
    expect_said("killed by signal 9 after 1m0");
    expect_said("restarting 8 ranks on 4 nodes (restart 1 of 3)");
    expect_said("epoch 1 running after");
    end_well();
}

Test(life, two_failures_at_once_are_one_decision)
{
    running(4, 2);
    harness_run_ms(h, 10000);
    harness_rank_ends(h, 1, 1, KILLED);
    harness_rank_ends(h, 3, 0, EXITED(3));
    run_until(PM_STATE_HALTING, 100);
    run_until(PM_STATE_RUNNING, 1000);
    cr_assert_eq(epoch(), 1);
    harness_run_ms(h, 1000);
    cr_assert_eq(epoch(), 1);
    end_well();
}

Test(life, a_failure_while_starting_restarts)
{
    launch(4, 2);
    run_until(PM_STATE_STARTING, 10000);
    while (!harness_rank(h, 2, 0)->alive)
        cr_assert(harness_step(h));
    harness_rank_ends(h, 2, 0, EXITED(1));
    harness_run_ms(h, 1000);
    cr_assert_eq(epoch(), 1);
    run_until(PM_STATE_RUNNING, 1000);
    end_well();
}

Test(life, a_failure_while_halting_joins)
{
    running(4, 2);
    harness_run_ms(h, 10000);
    harness_rank_ends(h, 0, 1, KILLED);
    run_until(PM_STATE_HALTING, 100);
    harness_rank_ends(h, 3, 1, 11);
    run_until(PM_STATE_RUNNING, 1000);
    harness_run_ms(h, 1000);
    cr_assert_eq(epoch(), 1);
    end_well();
}

Test(life, a_rank_that_ended_well_starts_again_with_its_world)
{
    running(4, 2);
    harness_run_ms(h, 10000);
    harness_rank_ends(h, 0, 1, 0);
    harness_run_ms(h, 100);
    harness_rank_ends(h, 3, 1, 11);
    run_until(PM_STATE_HALTING, 100);
    run_until(PM_STATE_RUNNING, 1000);
    cr_assert_eq(harness_ranks_alive(h), 8);
    end_well();
}

Test(life, the_budget_ends_and_the_first_failing_rank_gives_the_status)
{
    running(4, 2);
    for (uint32_t i = 0; i < 3; i++) {
        harness_run_ms(h, 10000);
        harness_rank_ends(h, 1, 1, KILLED);
        run_until(PM_STATE_HALTING, 100);
        run_until(PM_STATE_RUNNING, 1000);
    }
    harness_run_ms(h, 10000);
    harness_rank_ends(h, 1, 1, EXITED(17));
    expect_exit(17, 60000);
    expect_said("exited with code 17 after 10 s; stopping: 3 of 3 restarts used");
}

Test(life, a_fatal_exit_stops)
{
    running(4, 2);
    harness_rank_ends(h, 1, 1, EXITED(93));
    expect_exit(93, 60000);
}

Test(life, three_start_failures_stop)
{
    options.max_restarts = 100;
    running(2, 1);
    for (uint32_t i = 0; i < 2; i++) {
        harness_rank_ends(h, 1, 0, EXITED(1));
        run_until(PM_STATE_HALTING, 100);
        run_until(PM_STATE_RUNNING, 1000);
    }
    harness_rank_ends(h, 1, 0, EXITED(1));
    expect_exit(1, 60000);
    expect_said("3 times in a row");
}

Test(life, slurms_signal_stops_for_good)
{
    running(4, 2);
    for (uint32_t node = 0; node < 4; node++) {
        for (uint32_t local = 0; local < 2; local++) {
            struct pm_event e = {.type = PM_EVENT_SIGNALLED, .local = local, .signal = 15};
            harness_post(h, node, &e, node * HARNESS_MS);
        }
        harness_run_ms(h, 2);
        harness_rank_ends(h, node, 0, 15);
        harness_rank_ends(h, node, 1, 15);
    }
    cr_assert(harness_run_until_exit(h, 60000));
    expect_said("no more restarts");
    cr_assert_null(strstr(harness_said(h), "restarting"));
}

Test(life, rank_mode_restarts_one_rank)
{
    options.mode = PM_MODE_RANK;
    running(4, 2);
    harness_run_ms(h, 10000);
    uint32_t other = harness_rank(h, 1, 0)->pid;
    harness_rank_ends(h, 1, 1, EXITED(5));
    harness_run_ms(h, 100);
    cr_assert_eq(harness_ranks_alive(h), 8);
    cr_assert_eq(harness_rank(h, 1, 1)->incarnation, 1);
    cr_assert_eq(harness_rank(h, 1, 0)->pid, other);
    cr_assert_eq(epoch(), 0);
    expect_said("restarting this rank (restart 1 of 3)");
    end_well();
}

static void connect_rank(uint32_t node, uint32_t rank)
{
    struct pm_event e = {.type = PM_EVENT_CONNECTED, .rank = rank, .epoch = epoch()};
    harness_post(h, node, &e, 0);
    harness_run_ms(h, 1);
}

Test(life, rank_mode_escalates_for_a_connected_rank)
{
    options.mode = PM_MODE_RANK;
    running(4, 2);
    harness_run_ms(h, 10000);
    connect_rank(1, 3);
    harness_rank_ends(h, 1, 1, EXITED(5));
    run_until(PM_STATE_HALTING, 100);
    expect_said("it had connected to PMIx: restarting 8 ranks");
    run_until(PM_STATE_RUNNING, 1000);
    end_well();
}

Test(life, notify_mode_goes_on_and_ends_with_the_failures_status)
{
    options.mode = PM_MODE_NOTIFY;
    running(4, 2);
    connect_rank(0, 0);
    harness_run_ms(h, 10000);
    harness_rank_ends(h, 1, 1, KILLED);
    harness_run_ms(h, 1000);
    cr_assert_eq(harness_ranks_alive(h), 7);
    cr_assert_eq(harness_stats(h)->actions[PM_ACTION_NOTIFY], 1);
    harness_all_ranks_end(h);
    expect_exit(137, 20000);
}

Test(life, abort_ends_the_epoch_before_the_rank_exits)
{
    running(4, 2);
    connect_rank(1, 3);
    harness_run_ms(h, 10000);
    struct pm_event e = {.type = PM_EVENT_ABORT, .rank = 3, .status = 7, .text = "no hope"};
    harness_post(h, 1, &e, 0);
    run_until(PM_STATE_HALTING, 100);
    expect_said("called abort with status 7 (no hope) after");
    run_until(PM_STATE_RUNNING, 1000);
    cr_assert_eq(harness_ranks_alive(h), 8);
    end_well();
}

Test(life, a_lost_agent_stops_the_step_with_1)
{
    running(4, 2);
    harness_run_ms(h, 5000);
    harness_kill(h, 2);
    expect_exit(1, 60000);
    expect_said("agent-lost");
}

Test(life, a_lost_node_stops_the_step_with_1)
{
    running(8, 2);
    harness_run_ms(h, 5000);
    harness_power_off(h, 2);
    expect_exit(1, 90000);
    expect_said("node-lost");
}

Test(life, a_rank_in_the_kernels_hands_stops_the_step)
{
    running(4, 2);
    harness_run_ms(h, 5000);
    mute_kill = true;
    harness_rank_ends(h, 1, 1, KILLED);
    expect_exit(1, 90000);
    expect_said("a process is not gone 10 s after SIGKILL");
}

Test(life, a_dead_server_is_replaced_in_silence_when_nobody_had_connected)
{
    running(4, 2);
    harness_run_ms(h, 5000);
    uint64_t before = harness_stats(h)->actions[PM_ACTION_PREPARE_SERVER];
    struct pm_event e = {.type = PM_EVENT_SERVER_LOST, .text = "it died"};
    harness_post(h, 1, &e, 0);
    harness_run_ms(h, 1000);
    cr_assert_eq(harness_stats(h)->actions[PM_ACTION_PREPARE_SERVER], before + 1);
    cr_assert_eq(epoch(), 0);
    cr_assert_str_empty(harness_said(h));
    end_well();
}

Test(life, a_dead_server_restarts_the_world_when_a_rank_had_connected)
{
    running(4, 2);
    harness_run_ms(h, 5000);
    connect_rank(1, 3);
    struct pm_event e = {.type = PM_EVENT_SERVER_LOST, .text = "it died"};
    harness_post(h, 1, &e, 0);
    run_until(PM_STATE_HALTING, 100);
    expect_said("lost its PMIx server (pmix-server): it died; restarting 8 ranks");
    run_until(PM_STATE_RUNNING, 1000);
    end_well();
}

Test(life, a_node_that_does_not_join_ends_the_step_with_125)
{
    const struct harness_config config = {.nnodes = 4, .ranks_per_node = 2, .options = &options};
    h = harness_new(&config);
    struct pm_set late = {0};
    cr_assert_eq(pm_set_add(&late, 3), 0);
    harness_launch_without(h, &late);
    pm_set_done(&late);
    expect_exit(125, 60000);
    expect_said("has not joined: is pm_supervise in its plugstack.conf");
    expect_said("ranks ran unsupervised there");
}

Test(life, lines_of_agents_come_out_once)
{
    options.fanout = 2;
    running(12, 1);
    struct pm_event e = {.type = PM_EVENT_SAY, .text = "hello from below"};
    harness_post(h, 11, &e, 0);
    harness_run_ms(h, 100);
    cr_assert_str_eq(harness_said(h), "hello from below\n");
    end_well();
}

static void bound(uint32_t node, const char *text)
{
    struct pm_event e = {.type = PM_EVENT_BOUND, .text = text};
    harness_post(h, node, &e, 0);
}

// Each level gathers for a moment what comes from below.
Test(life, nodes_that_are_bound_alike_are_told_as_one)
{
    options.fanout = 2;
    running(12, 1);
    for (uint32_t node = 0; node < 12; node++)
        bound(node, node == 5 ? "two cores each" : "one core each");
    harness_run_ms(h, 300);
    const char *said = harness_said(h);
    uint32_t lines = 0;
    for (const char *at = said; (at = strchr(at, '\n')); at++)
        lines++;
    cr_assert_lt(lines, 12, "%s", said);
    expect_said("6-9: one core each");
    expect_said("5: two cores each");
    end_well();
}

// Nobody has time to wait for others then.
Test(life, what_is_said_of_binding_at_the_end_still_comes)
{
    running(2, 1);
    bound(1, "as it is");
    end_well();
    expect_said("1: as it is");
}

Test(life, a_flood_of_lines_is_limited_and_counted)
{
    running(2, 1);
    for (uint32_t i = 0; i < 1000; i++) {
        struct pm_event e = {.type = PM_EVENT_SAY, .text = "noise"};
        harness_post(h, 1, &e, 0);
    }
    harness_run_ms(h, 10000);
    expect_said("lines dropped here");
    cr_assert_lt(strlen(harness_said(h)), 300 * strlen("noise\n"));
    end_well();
}

Test(life, clones_go_on_as_their_originals)
{
    running(4, 2);
    harness_rank_ends(h, 1, 1, KILLED);
    run_until(PM_STATE_HALTING, 100);
    for (uint32_t i = 0; i < 5; i++) {
        uint32_t node = i < 4 ? i : PM_NODE_COORDINATOR;
        struct pm_core *core = harness_core(h, node);
        struct pm_core *clone = pm_core_clone(core);
        cr_assert(clone);
        cr_assert_eq(pm_core_digest(core, harness_now_ns(h)),
                     pm_core_digest(clone, harness_now_ns(h)));
        pm_core_free(clone);
    }
    run_until(PM_STATE_RUNNING, 1000);
    end_well();
}
