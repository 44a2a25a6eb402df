// SPDX-License-Identifier: Apache-2.0
//
// --pm-shrink on the supervisor alone: 5 nodes of 2 tasks; where nothing can replace a lost one, the world goes on
// without it.
#include <criterion/criterion.h>
#include <string.h>

#include "tests/unit/supervisor_events.h"


static struct pm_options options;

static void ended(void)
{
    stand_done();
}

static void begun(void)
{
    stand_options(&options);
    options.shrink = 1;
    options.min_nodes = 2;
}

TestSuite(supervisor_shrink, .init = begun, .fini = ended, .timeout = 20);

static void running(uint32_t spares)
{
    options.spares = spares;
    stand_coordinator(5, 2, &options);
    stand_join(0, 4);
    stand_mark(PM_MARK_STARTED, 0, 0, 4 - spares);
    expect_state(PM_STATE_RUNNING);
    stand_run_ms(60000);
    stand_forget();
}

static void expect_world(uint32_t nranks, const uint32_t *nodes)
{
    const struct pm_world *world = &stand.core.world;
    cr_assert_eq(world->nranks, nranks);
    cr_assert_eq(world->nnodes, 5);
    for (uint32_t rank = 0; rank < nranks; rank++)
        cr_assert_eq(world->node_of_rank[rank], nodes[rank], "rank %u on %u", rank, world->node_of_rank[rank]);
}

Test(supervisor_shrink, the_world_goes_on_without_a_lost_node)
{
    running(0);
    node_is_lost(1);
    expect_state(PM_STATE_HALTING);
    expect_said("node1 is lost (node-lost); restarting 8 ranks on 4 nodes (was 10 on 5)");
    cr_assert_str_eq(last_log("decision")->action, "shrink");
    cr_assert_eq(last_log("decision")->restarts, 0);
    stand_mark(PM_MARK_HALTED, 0, 0, 0);
    expect_state(PM_STATE_HALTING);
    stand_mark(PM_MARK_HALTED, 0, 2, 4);
    expect_state(PM_STATE_STARTING);
    expect_world(8, (const uint32_t[]){0, 0, 2, 2, 3, 3, 4, 4});
    cr_assert_eq(stand.wanted.epoch, 1);
    cr_assert_eq(stand.wanted.map_version, 2);
    cr_assert(!stand_said("going on with")); // the decision's line has said it
    const struct pm_log *shrink = last_log("shrink");
    cr_assert_eq(shrink->node, 1);
    cr_assert_eq(shrink->rank, 2);
    cr_assert_str_eq(shrink->reason, "1 node lost: 8 ranks on 4 nodes (was 10 on 5)");
    stand_mark(PM_MARK_STARTED, 1, 0, 0);
    stand_mark(PM_MARK_STARTED, 1, 2, 4); // nobody waits for the lost one
    expect_state(PM_STATE_RUNNING);
    stand_mark(PM_MARK_ENDED, 1, 0, 0);
    stand_mark(PM_MARK_ENDED, 1, 2, 4);
    expect_state(PM_STATE_FINISHING);
    cr_assert_eq(stand.core.supervisor->status, 0);
}

Test(supervisor_shrink, nodes_lost_within_a_timeout_are_one_decision)
{
    running(0);
    node_is_lost(1);
    expect_said("restarting 8 ranks on 4 nodes (was 10 on 5)");
    node_is_lost(3);
    cr_assert_str_eq(last_log("decision")->reason, "part of the decision before");
    stand_mark(PM_MARK_HALTED, 0, 0, 0);
    stand_mark(PM_MARK_HALTED, 0, 2, 2);
    stand_mark(PM_MARK_HALTED, 0, 4, 4);
    expect_state(PM_STATE_STARTING);
    expect_said("2 nodes lost (node1, node3): going on with 6 ranks on 3 nodes (was 10 on 5)");
    expect_world(6, (const uint32_t[]){0, 0, 2, 2, 4, 4});
    cr_assert_eq(stand.wanted.epoch, 1);
}

Test(supervisor_shrink, below_the_minimum_the_step_stops)
{
    running(0);
    node_is_lost(1);
    node_is_lost(2);
    node_is_lost(3);
    expect_state(PM_STATE_HALTING);
    node_is_lost(4);
    expect_state(PM_STATE_STOPPING);
    expect_said("stopping: 1 node would be left, and --pm-min-nodes=2");
    cr_assert_eq(stand.core.supervisor->status, PM_EXIT_LOST);
}

Test(supervisor_shrink, a_spare_is_taken_first)
{
    running(1);
    node_is_lost(1);
    expect_said("the 2 ranks of node1 move to spare node4 (0 spares left); restarting 8 ranks on 4 nodes");
    stand_mark(PM_MARK_HALTED, 0, 0, 4);
    expect_state(PM_STATE_STARTING);
    cr_assert_eq(stand.core.world.nranks, 8);
    stand_mark(PM_MARK_STARTED, 1, 0, 4);
    node_is_lost(4);
    expect_said("node4 is lost (node-lost); no spare is left: restarting 6 ranks on 3 nodes (was 8 on 4)");
    stand_mark(PM_MARK_HALTED, 1, 0, 3);
    expect_state(PM_STATE_STARTING);
    expect_world(6, (const uint32_t[]){0, 0, 2, 2, 3, 3});
}

Test(supervisor_shrink, one_of_two_lost_nodes_is_replaced_by_the_only_spare)
{
    running(1);
    node_is_lost(2);
    expect_said("move to spare node4");
    node_is_lost(1);
    stand_mark(PM_MARK_HALTED, 0, 0, 0);
    stand_mark(PM_MARK_HALTED, 0, 3, 3);
    expect_state(PM_STATE_PLACING); // the spare has not answered yet
    cr_assert_eq(stand.n_maps, 1);
    stand_mark(PM_MARK_HALTED, 0, 4, 4);
    expect_state(PM_STATE_STARTING);
    expect_said("1 node lost (node2): going on with 6 ranks on 3 nodes (was 8 on 4)");
    expect_world(6, (const uint32_t[]){0, 0, 4, 4, 3, 3});
}

Test(supervisor_shrink, a_spare_lost_in_the_search_for_places_is_done_without)
{
    running(1);
    node_is_lost(1);
    cr_assert_eq(pm_set_add(&stand.suspect, 4), 0); // keeps it in PLACING
    stand_mark(PM_MARK_HALTED, 0, 0, 3);
    expect_state(PM_STATE_PLACING);
    node_is_lost(4);
    expect_state(PM_STATE_STARTING);
    expect_world(6, (const uint32_t[]){0, 0, 2, 2, 3, 3});
    cr_assert_eq(stand.wanted.epoch, 1);
}

Test(supervisor_shrink, a_lost_shim_takes_its_node_out_and_the_rest_goes_on)
{
    running(0);
    struct pm_failure failure = stand_failure(3, PM_CAUSE_SHIM_LOST, 0);
    stand_fail(&failure);
    expect_said("restarting 8 ranks on 4 nodes (was 10 on 5)");
    stand_mark(PM_MARK_HALTED, 0, 0, 4); // the node lives
    expect_state(PM_STATE_STARTING);
    expect_world(8, (const uint32_t[]){0, 0, 2, 2, 3, 3, 4, 4});
    stand_mark(PM_MARK_STARTED, 1, 0, 4);
    node_is_lost(1); // nobody misses it
    expect_state(PM_STATE_RUNNING);
}

// Its ranks had ended well, so that its loss was none; the next world is without them.
Test(supervisor_shrink, a_place_lost_before_is_not_in_the_next_world)
{
    running(0);
    stand_mark(PM_MARK_ENDED, 0, 1, 1);
    node_is_lost(1);
    expect_state(PM_STATE_RUNNING);
    struct pm_failure failure = stand_failure(0, PM_CAUSE_SIGNAL, KILLED);
    stand_fail(&failure);
    expect_said("restart 1 of 3");
    stand_mark(PM_MARK_HALTED, 0, 0, 4);
    expect_state(PM_STATE_STARTING);
    expect_said("1 node lost (node1): going on with 8 ranks on 4 nodes (was 10 on 5)");
}

Test(supervisor_shrink, without_rank_0s_node_another_one_offers_the_port)
{
    struct pm_report report;
    running(0);
    node_is_lost(0);
    stand_mark(PM_MARK_HALTED, 0, 1, 4);
    expect_state(PM_STATE_PLACING);
    pm_report_init(&report);
    report.port = 7001;
    report.port_serial = 2ull << 32 | 1;
    cr_assert(stand_report(&report));
    pm_report_done(&report);
    expect_state(PM_STATE_STARTING);
    cr_assert_eq(stand.wanted.host, 1);
    cr_assert_eq(stand.wanted.port, 7001);
}

Test(supervisor_shrink, losses_have_their_budget)
{
    options.max_node_losses = 1;
    running(0);
    node_is_lost(1);
    stand_mark(PM_MARK_HALTED, 0, 0, 4);
    stand_mark(PM_MARK_STARTED, 1, 0, 4);
    expect_state(PM_STATE_RUNNING);
    node_is_lost(2);
    expect_state(PM_STATE_STOPPING);
    expect_said("1 of 1 node losses used");
}

// The number that a rank had before is another one's now.
Test(supervisor_shrink, a_failure_of_an_older_world_is_no_rank_of_this_one)
{
    running(0);
    node_is_lost(0);
    stand_mark(PM_MARK_HALTED, 0, 1, 4);
    stand_run_ms(600); // no port comes
    expect_state(PM_STATE_STARTING);
    struct pm_failure failure = stand_failure(4, PM_CAUSE_SHIM_LOST, 0);
    failure.epoch = 0;
    stand_fail(&failure); // of node 2, which has ranks 2 and 3 now
    expect_state(PM_STATE_HALTING);
    cr_assert(pm_set_has(&stand.wanted.dead, 2));
    cr_assert(pm_set_has(&stand.wanted.dead, 3));
    cr_assert(!pm_set_has(&stand.wanted.dead, 4));
}

Test(supervisor_shrink, a_node_lost_before_the_start_is_done_without)
{
    stand_coordinator(5, 2, &options);
    stand_join(0, 3);
    node_is_lost(1);
    expect_state(PM_STATE_FORMING);
    expect_said("node1 is lost (node-lost); going on with 4 nodes");
    stand_join(4, 4);
    expect_state(PM_STATE_STARTING);
    expect_said("1 node lost (node1): going on with 8 ranks on 4 nodes (was 10 on 5)");
    cr_assert_eq(stand.wanted.epoch, 0);
    expect_world(8, (const uint32_t[]){0, 0, 2, 2, 3, 3, 4, 4});
}

Test(supervisor_shrink, one_that_has_never_joined_may_run_without_us)
{
    stand_coordinator(5, 2, &options);
    stand_join(0, 0);
    node_is_lost(1);
    expect_state(PM_STATE_STOPPING);
    cr_assert_eq(stand.core.supervisor->status, PM_EXIT_CANNOT_SUPERVISE);
}

Test(supervisor_shrink, a_minimum_above_the_world_is_refused_before_the_start)
{
    options.min_nodes = 5;
    options.spares = 1;
    stand_coordinator(5, 2, &options);
    stand_join(0, 4);
    expect_state(PM_STATE_STOPPING);
    expect_said("--pm-min-nodes=5 is more than the 4 nodes that the ranks have; ask for more nodes or for a smaller "
                "minimum; ending the step");
    cr_assert_eq(stand.core.supervisor->status, PM_EXIT_CANNOT_SUPERVISE);
    cr_assert_eq(stand.n_maps, 0);
}

// What waits as a spare is no part of the world that is going to be.
Test(supervisor_shrink, the_size_of_a_world_that_forms_counts_no_spares)
{
    options.spares = 1;
    stand_coordinator(5, 2, &options);
    stand_join(0, 2);
    node_is_lost(0);
    node_is_lost(1);
    expect_said("going on with 3 nodes");
}
