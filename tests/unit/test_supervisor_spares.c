// SPDX-License-Identifier: Apache-2.0
//
// The world's life where nodes wait as spares, on the supervisor alone: 5 nodes of 2 tasks, the last 2 are spares.
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/supervisor_events.h"

static struct pm_options options;

static void ended(void)
{
    stand_done();
}

TestSuite(supervisor_spares, .fini = ended, .timeout = 20);

static void forms(void)
{
    if (!options.node_timeout_ms)
        stand_options(&options);
    options.spares = 2;
    stand_coordinator(5, 2, &options);
}

static void running(void)
{
    forms();
    stand_join(0, 4);
    stand_mark(PM_MARK_STARTED, 0, 0, 2);
    expect_state(PM_STATE_RUNNING);
    stand_run_ms(60000);
    stand_forget();
}

// A port from rank 0's node, under the map that is known now.
static void offers_port(uint32_t version, uint16_t port)
{
    struct pm_report report;
    pm_report_init(&report);
    report.epoch = stand.wanted.epoch;
    report.port = port;
    report.port_serial = (uint64_t)version << 32 | 1;
    cr_assert(stand_report(&report));
    pm_report_done(&report);
}

// --- FORMING -----------------------------------------------------------------------------------

Test(supervisor_spares, the_world_is_the_other_nodes)
{
    forms();
    stand_join(0, 3);
    expect_state(PM_STATE_FORMING); // a spare has to join as well
    stand_join(4, 4);
    expect_state(PM_STATE_STARTING);
    cr_assert_eq(stand.core.world.nranks, 6);
    cr_assert_eq(stand.core.world.nnodes, 5);
    cr_assert_eq(pm_set_count(&stand.core.world.hosts), 3);
    cr_assert_eq(node_of(5), 2);
    stand_mark(PM_MARK_STARTED, 0, 0, 1);
    expect_state(PM_STATE_STARTING);
    stand_mark(PM_MARK_STARTED, 0, 2, 2); // nobody waits for the spares
    expect_state(PM_STATE_RUNNING);
    stand_mark(PM_MARK_ENDED, 0, 0, 2);
    expect_state(PM_STATE_FINISHING);
}

Test(supervisor_spares, as_many_spares_as_nodes_are_refused)
{
    stand_options(&options);
    options.spares = 2;
    stand_coordinator(2, 2, &options);
    stand_join(0, 1);
    expect_state(PM_STATE_STOPPING);
    expect_said("--pm-spares=2 leaves no node for the ranks: the step has 2 nodes; ask for more nodes or for fewer spares; ending the step");
    cr_assert_eq(stand.core.supervisor->status, PM_EXIT_CANNOT_SUPERVISE);
}

static void joins_with(uint32_t node, uint32_t first_task, uint32_t n)
{
    struct pm_report report;
    pm_report_init(&report);
    cr_assert_eq(pm_set_add(&report.joined, node), 0);
    cr_assert_eq(pm_map_add(&report.map, first_task, n, node), 0);
    report.nodelist = strdup("node[0-99]");
    cr_assert(stand_report(&report));
    pm_report_done(&report);
}

Test(supervisor_spares, a_spare_with_too_few_tasks_is_named_before_the_start)
{
    forms();
    for (uint32_t node = 0; node < 4; node++)
        joins_with(node, 2 * node, node == 3 ? 3 : 2);
    joins_with(4, 9, 1);
    expect_state(PM_STATE_STOPPING);
    expect_said("spare node4 has 1 task, too few to take the place of node0, which has 2");
    cr_assert_eq(stand.core.supervisor->status, PM_EXIT_CANNOT_SUPERVISE);
    cr_assert_eq(stand.n_maps, 0);
}

Test(supervisor_spares, a_node_lost_while_others_join_is_replaced)
{
    forms();
    stand_join(0, 2);
    node_is_lost(1);
    expect_state(PM_STATE_FORMING);
    expect_said("node1 is lost (node-lost); spare node3 takes its place (1 spare left)");
    stand_join(3, 4);
    expect_state(PM_STATE_STARTING);
    cr_assert_eq(node_of(2), 3);
    cr_assert_eq(stand.wanted.map_version, 2);
    cr_assert_eq(stand.wanted.epoch, 0);
}

Test(supervisor_spares, a_node_lost_before_it_joined_ends_the_step)
{
    forms();
    stand_join(0, 0);
    node_is_lost(1);
    expect_state(PM_STATE_STOPPING);
    expect_said("node1 is lost (node-lost); stopping: not all its tasks had joined, and they may run unsupervised");
    cr_assert_eq(stand.core.supervisor->status, PM_EXIT_CANNOT_SUPERVISE);
}

Test(supervisor_spares, a_spare_lost_before_the_start_is_not_waited_for)
{
    forms();
    stand_join(0, 3);
    node_is_lost(4);
    expect_state(PM_STATE_STARTING);
    expect_said("node4 is lost (node-lost); going on: it waited as a spare, 1 is left");
}

// --- a node is lost ----------------------------------------------------------------------------

Test(supervisor_spares, a_lost_nodes_ranks_move_and_no_restart_is_spent)
{
    running();
    node_is_lost(1);
    expect_state(PM_STATE_HALTING);
    expect_said("node1 is lost (node-lost); the 2 ranks of node1 move to spare node3 (1 spare left); "
                "restarting 6 ranks on 3 nodes");
    const struct pm_log *decision = last_log("decision");
    cr_assert_str_eq(decision->action, "move-to-spare");
    cr_assert_str_eq(decision->reason, "to node3, 1 left");
    cr_assert_eq(decision->restarts, 0);
    stand_mark(PM_MARK_HALTED, 0, 0, 4);
    expect_state(PM_STATE_STARTING);
    cr_assert_eq(stand.wanted.epoch, 1);
    cr_assert_eq(stand.wanted.map_version, 2);
    cr_assert_eq(stand.n_maps, 2);
    cr_assert_eq(node_of(0), 0);
    cr_assert_eq(node_of(2), 3);
    cr_assert_eq(node_of(3), 3);
    const struct pm_log *move = last_log("move");
    cr_assert_eq(move->node, 1);
    cr_assert_eq(move->spare, 3);
    cr_assert_eq(move->rank, 2);
    cr_assert_eq(move->spares_left, 1);
    stand_mark(PM_MARK_STARTED, 1, 0, 0);
    stand_mark(PM_MARK_STARTED, 1, 2, 3);
    expect_state(PM_STATE_RUNNING);
    stand_mark(PM_MARK_ENDED, 1, 0, 0);
    stand_mark(PM_MARK_ENDED, 1, 2, 3);
    expect_state(PM_STATE_FINISHING);
}

Test(supervisor_spares, ranks_move_only_when_the_old_lease_is_over)
{
    running();
    stand.lease_not_over = true;
    node_is_lost(1);
    stand_mark(PM_MARK_HALTED, 0, 0, 0);
    stand_mark(PM_MARK_HALTED, 0, 2, 4);
    stand_run_ms(5000);
    expect_state(PM_STATE_HALTING);
    stand.lease_not_over = false;
    stand_run_ms(1000);
    stand_event(&(struct pm_event){.type = PM_EVENT_TIMER});
    expect_state(PM_STATE_STARTING);
}

Test(supervisor_spares, a_lost_spare_restarts_nothing)
{
    running();
    node_is_lost(4);
    expect_state(PM_STATE_RUNNING);
    expect_said("node4 is lost (node-lost); going on: it waited as a spare, 1 is left");
    cr_assert(last_log("failure")->idle);
    node_is_lost(3);
    expect_state(PM_STATE_RUNNING);
    expect_said("0 are left");
    node_is_lost(0);
    expect_state(PM_STATE_STOPPING);
    expect_said("stopping: no spare is left");
    cr_assert(!last_log("failure")->idle);
    cr_assert_eq(stand.core.supervisor->status, PM_EXIT_LOST);
}

Test(supervisor_spares, a_shim_that_is_lost_takes_its_whole_node_along)
{
    running();
    struct pm_failure failure = stand_failure(3, PM_CAUSE_SHIM_LOST, 0);
    stand_fail(&failure);
    expect_state(PM_STATE_HALTING);
    expect_said("lost its shim (shim-lost) after 12m04s; the 2 ranks of node1 move to spare node3");
    stand_mark(PM_MARK_HALTED, 0, 0, 4); // the node lives
    expect_state(PM_STATE_STARTING);
    cr_assert_eq(node_of(2), 3);
    cr_assert(pm_set_empty(&stand.core.world.ranks_of_node[1]));
    failure.rank = PM_RANK_NONE;
    failure.cause = PM_CAUSE_AGENT_LOST;
    stand_fail(&failure); // of a node that is out already
    expect_state(PM_STATE_STARTING);
}

Test(supervisor_spares, two_nodes_are_one_restart)
{
    running();
    node_is_lost(1);
    node_is_lost(2);
    expect_state(PM_STATE_HALTING);
    cr_assert_str_eq(last_log("decision")->reason, "part of the decision before");
    stand_mark(PM_MARK_HALTED, 0, 0, 0);
    stand_mark(PM_MARK_HALTED, 0, 3, 4);
    expect_state(PM_STATE_STARTING);
    cr_assert_eq(stand.wanted.epoch, 1);
    cr_assert_eq(node_of(2), 3);
    cr_assert_eq(node_of(4), 4);
    expect_said("pm-supervise: 2 nodes lost (node1, node2): their ranks move to node3, node4 (0 spares left)");
}

// A rack of 40 nodes, one after the other within a timeout, in a step of 160 with 40 spares.
Test(supervisor_spares, forty_nodes_are_one_restart)
{
    struct pm_report report;
    struct pm_set rack = {0};
    bool changed;
    stand_options(&options);
    options.spares = 40;
    stand_coordinator(160, 2, &options);
    pm_report_init(&report);
    (void)pm_set_add_span(&rack, 40, 79);
    cr_assert_eq(pm_places_add(&report.places, "top.s12", &rack, &changed), 0);
    cr_assert(stand_report(&report));
    pm_report_done(&report);
    stand_join(0, 159);
    stand_mark(PM_MARK_STARTED, 0, 0, 119);
    stand_run_ms(60000);
    stand_forget();
    for (uint32_t node = 40; node < 80; node++) {
        node_is_lost(node);
        stand_run_ms(100);
    }
    stand_mark(PM_MARK_HALTED, 0, 0, 39);
    stand_mark(PM_MARK_HALTED, 0, 80, 159);
    expect_state(PM_STATE_STARTING);
    cr_assert_eq(stand.wanted.epoch, 1);
    cr_assert_eq(stand.core.supervisor->n_losses, 40);
    expect_said("40 nodes lost, all under switch s12 (");
    expect_said(" (0 spares left)");
    pm_set_done(&rack);
}

Test(supervisor_spares, more_lost_nodes_than_spares_stop_the_step)
{
    running();
    node_is_lost(1);
    node_is_lost(2);
    expect_state(PM_STATE_HALTING);
    node_is_lost(0);
    expect_state(PM_STATE_STOPPING);
    expect_said("3 nodes of the world are lost, and 2 spares are left");
}

Test(supervisor_spares, what_the_lost_nodes_share_is_said)
{
    struct pm_report report;
    struct pm_set nodes = {0}, one = {0};
    bool changed;
    forms();
    pm_report_init(&report);
    (void)pm_set_add_span(&nodes, 1, 3);
    cr_assert_eq(pm_places_add(&report.places, "top.s12", &nodes, &changed), 0);
    (void)pm_set_add(&one, 4);
    cr_assert_eq(pm_places_add(&report.places, "top.s13", &one, &changed), 0);
    cr_assert(stand_report(&report));
    pm_report_done(&report);
    stand_join(0, 4);
    stand_mark(PM_MARK_STARTED, 0, 0, 2);
    node_is_lost(1);
    expect_said("move to spare node4"); // node3 hangs at the same switch
    node_is_lost(2);
    stand_mark(PM_MARK_HALTED, 0, 0, 0);
    stand_mark(PM_MARK_HALTED, 0, 3, 4);
    expect_said("2 nodes lost, all under switch s12 (node1, node2): their ranks move to node3, node4");
    cr_assert_str_eq(last_log("move")->reason, "2 nodes lost, all under switch s12");
    pm_set_done(&nodes);
    pm_set_done(&one);
}

// --- spares that are late, or die ----------------------------------------------------------------

Test(supervisor_spares, a_spare_takes_over_when_it_has_answered)
{
    running();
    node_is_lost(4);
    node_is_lost(1);
    stand_mark(PM_MARK_HALTED, 0, 0, 2);
    expect_state(PM_STATE_PLACING);
    cr_assert_eq(stand.n_maps, 1);
    stand_mark(PM_MARK_HALTED, 0, 3, 3);
    expect_state(PM_STATE_STARTING);
    cr_assert_eq(node_of(2), 3);
}

Test(supervisor_spares, nobody_suspected_takes_over_while_there_is_another)
{
    running();
    node_is_lost(1);
    cr_assert_eq(pm_set_add(&stand.suspect, 3), 0);
    stand_mark(PM_MARK_HALTED, 0, 0, 4);
    expect_state(PM_STATE_STARTING);
    cr_assert_eq(node_of(2), 4);
    expect_said("1 node lost (node1): its ranks move to node4 (1 spare left)"); // the line before said node3
}

Test(supervisor_spares, one_that_dies_while_places_are_made_is_replaced)
{
    running();
    node_is_lost(1);
    cr_assert_eq(pm_set_add(&stand.suspect, 0), 0); // keeps it in PLACING
    stand_mark(PM_MARK_HALTED, 0, 0, 4);
    expect_state(PM_STATE_PLACING);
    cr_assert_eq(node_of(2), 3);
    node_is_lost(3);
    expect_state(PM_STATE_PLACING);
    cr_assert_eq(node_of(2), 4);
    cr_assert_eq(stand.n_maps, 3);
    pm_set_clear(&stand.suspect);
    stand_run_ms(100);
    expect_state(PM_STATE_STARTING);
    cr_assert_eq(stand.wanted.epoch, 1);
    cr_assert_eq(stand.wanted.map_version, 3);
    cr_assert_eq(stand.core.supervisor->n_losses, 1);
}

Test(supervisor_spares, one_that_dies_while_ranks_start_is_replaced_in_the_same_decision)
{
    stand_options(&options);
    options.max_node_losses = 1;
    running();
    node_is_lost(1);
    stand_mark(PM_MARK_HALTED, 0, 0, 4);
    expect_state(PM_STATE_STARTING);
    node_is_lost(3);
    expect_state(PM_STATE_HALTING);
    stand_mark(PM_MARK_HALTED, 1, 0, 4);
    expect_state(PM_STATE_STARTING);
    cr_assert_eq(node_of(2), 4);
    cr_assert_eq(stand.wanted.epoch, 2);
    stand_mark(PM_MARK_STARTED, 2, 0, 4);
    expect_state(PM_STATE_RUNNING);
    node_is_lost(4);
    expect_state(PM_STATE_STOPPING); // this one is a loss of its own
    expect_said("no spare is left");
}

Test(supervisor_spares, the_budget_of_losses_stops_the_step)
{
    stand_options(&options);
    options.max_node_losses = 1;
    running();
    node_is_lost(1);
    stand_mark(PM_MARK_HALTED, 0, 0, 4);
    stand_mark(PM_MARK_STARTED, 1, 0, 4);
    expect_state(PM_STATE_RUNNING);
    node_is_lost(2);
    expect_state(PM_STATE_STOPPING);
    expect_said("1 of 1 node losses used");
}

Test(supervisor_spares, a_window_forgets_losses)
{
    stand_options(&options);
    options.max_node_losses = 1;
    options.node_loss_window_ms = 60000;
    running();
    node_is_lost(1);
    stand_mark(PM_MARK_HALTED, 0, 0, 4);
    stand_mark(PM_MARK_STARTED, 1, 0, 4);
    stand_run_ms(60000);
    node_is_lost(2);
    expect_state(PM_STATE_HALTING);
}

// Its last rank was of the epoch before, and it was not heard of since.
Test(supervisor_spares, a_loss_that_is_heard_of_late_is_one_of_now)
{
    running();
    node_is_lost(1);
    stand_mark(PM_MARK_HALTED, 0, 0, 4);
    expect_state(PM_STATE_STARTING);
    struct pm_failure failure = stand_failure(0, PM_CAUSE_SHIM_LOST, 0);
    failure.epoch = 0;
    stand_fail(&failure);
    expect_state(PM_STATE_HALTING);
    cr_assert_eq(last_log("decision")->epoch, 1);
}

// --- what else a move does ------------------------------------------------------------------------

Test(supervisor_spares, a_new_host_of_rank_0_offers_its_own_port)
{
    running();
    offers_port(1, 6001); // the next one of the node that is lost then
    node_is_lost(0);
    stand_mark(PM_MARK_HALTED, 0, 1, 4);
    expect_state(PM_STATE_PLACING);
    offers_port(1, 6002); // what was on its way
    expect_state(PM_STATE_PLACING);
    offers_port(2, 7001);
    expect_state(PM_STATE_STARTING);
    cr_assert_eq(stand.wanted.port, 7001);
    cr_assert_eq(stand.wanted.host, 3);
}

// Shims of spares have never had a rank, and say so by the code with which they end when their node is given up.
Test(supervisor_spares, the_end_of_all_nodes_of_a_world_that_ran_is_a_loss)
{
    running();
    stand_event(&(struct pm_event){.type = PM_EVENT_SRUN_EXITED, .wait_status = 125 << 8});
    expect_state(PM_STATE_DONE);
    cr_assert_eq(stand.exit_status, PM_EXIT_LOST);
}

Test(supervisor_spares, a_copy_has_the_same_hash_and_a_life_of_its_own)
{
    running();
    node_is_lost(1);
    struct pm_digest before = {0}, after = {0};
    struct pm_supervisor *copy = pm_supervisor_clone(stand.core.supervisor);
    pm_supervisor_digest(&stand.core, stand.core.now_ns, &before);
    struct pm_supervisor *original = stand.core.supervisor;
    stand.core.supervisor = copy;
    pm_supervisor_digest(&stand.core, stand.core.now_ns, &after);
    cr_assert_eq(before.h, after.h);
    stand.core.supervisor = original;
    stand_mark(PM_MARK_HALTED, 0, 0, 4);
    struct pm_digest moved = {0};
    pm_supervisor_digest(&stand.core, stand.core.now_ns, &moved);
    cr_assert_neq(before.h, moved.h);
    pm_supervisor_free(copy);
}
