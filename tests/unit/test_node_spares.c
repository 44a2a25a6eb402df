// SPDX-License-Identifier: Apache-2.0
//
// An agent whose node waits as a spare, and takes a lost node's place: node 3 of 4 with 2 tasks each; the world is
// nodes 0 to 2.
#include <criterion/criterion.h>

#include "tests/unit/life_stand.h"

#define EXITED(code) ((code) << 8)

static struct pm_wanted wanted;

static void ended(void)
{
    pm_wanted_done(&wanted);
    stand_done();
}

TestSuite(node_spares, .fini = ended, .timeout = 20);

static void happens(struct pm_event event)
{
    stand_event(&event);
}

static void want(enum pm_phase phase)
{
    wanted.phase = phase;
    wanted.version++;
    cr_assert(stand_wanted(&wanted));
}

// Ranks 2k and 2k + 1 on the k-th of three nodes.
static void map(uint32_t version, uint32_t a, uint32_t b, uint32_t c)
{
    struct pm_map m = {0};
    const uint32_t nodes[] = {a, b, c};
    for (uint32_t i = 0; i < 3; i++)
        cr_assert_eq(pm_map_add(&m, 2 * i, 2, nodes[i]), 0);
    stand_map_of(&m, version, 6);
    pm_map_done(&m);
    wanted.map_version = version;
}

static void waits(uint32_t node)
{
    stand_agent_with_spares(node, 4, 2, 1);
    wanted.launch = stand.core.config.launch;
    wanted.grace_ms = 5000;
    for (uint32_t local = 0; local < 2; local++)
        happens((struct pm_event){.type = PM_EVENT_SHIM_JOINED, .local = local, .pid = 100 + local});
    happens((struct pm_event){.type = PM_EVENT_PORT, .port = 7000});
    map(1, 0, 1, 2);
}

// The world halts, node 1 is lost, and its ranks move here.
static void takes_over(void)
{
    waits(3);
    want(PM_PHASE_START);
    want(PM_PHASE_HALT);
    stand_run_ms(200);
    stand_forget();
    map(2, 0, 3, 2);
}

Test(node_spares, a_spare_reports_its_tasks_and_reaches_every_mark_without_a_rank)
{
    waits(3);
    stand_run_ms(20);
    cr_assert_eq(stand.report.map.n, 1);
    cr_assert_eq(stand.report.map.runs[0].rank, 6);
    want(PM_PHASE_START);
    stand_run_ms(20);
    cr_assert(pm_set_has(&stand.report.marks[PM_MARK_STARTED], 3));
    cr_assert_eq(stand_count(PM_ACTION_PREPARE_SERVER, NULL), 0);
    cr_assert_eq(stand_count(PM_ACTION_START_RANK, NULL), 0);
    cr_assert(!pm_set_has(&stand.report.marks[PM_MARK_HALTED], 3));
    cr_assert_eq(stand.report.port, 0); // rank 0 is elsewhere
    want(PM_PHASE_HALT);
    stand_run_ms(200);
    cr_assert(pm_set_has(&stand.report.marks[PM_MARK_HALTED], 3));
    cr_assert_eq(pm_node_rank_of(stand.core.node, 0), PM_RANK_NONE);
}

Test(node_spares, it_tells_what_it_offers_until_the_map_is_there)
{
    stand_agent_with_spares(3, 4, 2, 1);
    for (uint32_t local = 0; local < 2; local++)
        happens((struct pm_event){.type = PM_EVENT_SHIM_JOINED, .local = local, .pid = 100 + local, .gpus = 1 + local,
                                  .memory_mib = 2048});
    stand_run_ms(20);
    cr_assert_eq(pm_sizes_of(&stand.report.sizes, 3).gpus, 2); // of both
    cr_assert_eq(pm_sizes_of(&stand.report.sizes, 3).memory_mib, 2048);
    wanted.launch = stand.core.config.launch;
    map(1, 0, 1, 2);
    want(PM_PHASE_START);
    stand_run_ms(20);
    cr_assert_eq(stand.report.sizes.n, 0);
}

Test(node_spares, without_spares_nobody_asks)
{
    stand_agent(3, 4, 1);
    happens((struct pm_event){.type = PM_EVENT_SHIM_JOINED, .pid = 100, .gpus = 2, .memory_mib = 2048});
    stand_run_ms(20);
    cr_assert(pm_set_has(&stand.report.joined, 3));
    cr_assert_eq(stand.report.sizes.n, 0);
}

Test(node_spares, tasks_that_waited_end_with_0)
{
    const struct pm_action *end;
    waits(3);
    want(PM_PHASE_START);
    want(PM_PHASE_END);
    cr_assert_eq(stand_count(PM_ACTION_END_SHIM, &end), 2);
    cr_assert(end->override);
    cr_assert_eq(end->wait_status, 0);
}

Test(node_spares, it_takes_the_ranks_of_the_lost_node)
{
    const struct pm_action *start;
    takes_over();
    cr_assert_eq(pm_node_rank_of(stand.core.node, 0), 2);
    cr_assert_eq(pm_node_rank_of(stand.core.node, 1), 3);
    cr_assert_eq(stand_count(PM_ACTION_PREPARE_SERVER, NULL), 1); // before the start
    happens((struct pm_event){.type = PM_EVENT_SERVER_READY, .epoch = 1});
    wanted.epoch = 1;
    want(PM_PHASE_START);
    cr_assert_eq(stand_count(PM_ACTION_START_RANK, &start), 2);
    cr_assert_eq(start->rank, 3);
    cr_assert_eq(start->local, 1);
    cr_assert_eq(start->incarnation, 1);
    for (uint32_t local = 0; local < 2; local++)
        happens((struct pm_event){.type = PM_EVENT_RANK_STARTED, .local = local, .epoch = 1, .incarnation = 1,
                                  .pid = 200 + local});
    stand_run_ms(20);
    cr_assert(pm_set_has(&stand.report.marks[PM_MARK_STARTED], 3));
    happens((struct pm_event){.type = PM_EVENT_RANK_EXITED, .local = 1, .epoch = 1, .incarnation = 1, .pid = 201,
                              .wait_status = EXITED(4)});
    cr_assert_eq(stand.report.failures.n, 1);
    cr_assert_eq(stand.report.failures.list[0].rank, 3);
}

Test(node_spares, one_with_more_tasks_uses_the_first_of_them)
{
    struct pm_map m = {0};
    waits(3);
    want(PM_PHASE_START);
    want(PM_PHASE_HALT);
    stand_run_ms(200);
    cr_assert_eq(pm_map_add(&m, 0, 1, 3), 0);
    cr_assert_eq(pm_map_add(&m, 1, 1, 1), 0);
    stand_map_of(&m, 2, 2);
    pm_map_done(&m);
    cr_assert_eq(pm_node_rank_of(stand.core.node, 0), 0);
    cr_assert_eq(pm_node_rank_of(stand.core.node, 1), PM_RANK_NONE);
    cr_assert_eq(stand.report.port, 7000); // rank 0 is here now
    cr_assert_eq(stand.report.port_serial >> 32, 2);
}

// It was made ready for a world in which ranks were elsewhere.
Test(node_spares, a_server_of_the_old_map_is_replaced)
{
    const struct pm_action *drop;
    waits(0);
    cr_assert_eq(pm_node_rank_of(stand.core.node, 1), 1);
    happens((struct pm_event){.type = PM_EVENT_SERVER_READY, .epoch = 0});
    want(PM_PHASE_START);
    want(PM_PHASE_HALT);
    stand_forget();
    map(2, 0, 3, 2);
    cr_assert_eq(stand_count(PM_ACTION_DROP_SERVER, &drop), 1);
    cr_assert_eq(drop->epoch, 1);
    cr_assert_eq(stand_count(PM_ACTION_PREPARE_SERVER, NULL), 1);
    stand_run_ms(100);
    cr_assert_eq(stand_count(PM_ACTION_PREPARE_SERVER, NULL), 1);
}

Test(node_spares, a_node_whose_ranks_have_moved_waits_until_the_end)
{
    const struct pm_action *end;
    takes_over();
    map(3, 0, 1, 2);
    cr_assert_eq(pm_node_rank_of(stand.core.node, 0), PM_RANK_NONE);
    wanted.epoch = 1;
    want(PM_PHASE_START);
    stand_run_ms(20);
    cr_assert_eq(stand_count(PM_ACTION_START_RANK, NULL), 0);
    cr_assert_eq(stand_count(PM_ACTION_DROP_SERVER, NULL), 1);
    want(PM_PHASE_END);
    cr_assert_eq(stand_count(PM_ACTION_END_SHIM, &end), 2);
    cr_assert(end->override);
}

// --- a smaller world -----------------------------------------------------------------------------

// Nobody takes node 1's place: what was its neighbour's moves up.
Test(node_spares, ranks_have_new_numbers_where_a_lost_node_is_done_without)
{
    const struct pm_action *start;
    struct pm_map m = {0};
    waits(2);
    want(PM_PHASE_START);
    happens((struct pm_event){.type = PM_EVENT_SERVER_READY, .epoch = 0});
    cr_assert_eq(stand_count(PM_ACTION_START_RANK, &start), 2);
    cr_assert_eq(start->rank, 5);
    for (uint32_t local = 0; local < 2; local++)
        happens((struct pm_event){.type = PM_EVENT_RANK_STARTED, .local = local, .pid = 200 + local});
    happens((struct pm_event){.type = PM_EVENT_CONNECTED, .rank = 5});
    want(PM_PHASE_HALT);
    stand_run_ms(200);
    for (uint32_t local = 0; local < 2; local++) {
        happens((struct pm_event){.type = PM_EVENT_RANK_EXITED, .local = local});
        happens((struct pm_event){.type = PM_EVENT_RANK_GONE, .local = local});
    }
    stand_run_ms(20);
    cr_assert(pm_set_has(&stand.report.marks[PM_MARK_HALTED], 2));
    cr_assert_eq(pm_map_add(&m, 0, 2, 0), 0);
    cr_assert_eq(pm_map_add(&m, 2, 2, 2), 0);
    stand_map_of(&m, 2, 4);
    pm_map_done(&m);
    // What is heard of the old world now is nothing of rank 3.
    happens((struct pm_event){.type = PM_EVENT_ABORT, .rank = 3, .status = 1});
    stand_run_ms(1000);
    cr_assert_eq(stand.report.failures.n, 0);
    stand_forget();
    wanted.map_version = 2;
    wanted.epoch = 1;
    want(PM_PHASE_START);
    happens((struct pm_event){.type = PM_EVENT_SERVER_READY, .epoch = 1});
    cr_assert_eq(stand_count(PM_ACTION_START_RANK, &start), 2);
    cr_assert_eq(start->rank, 3);
    cr_assert_eq(start->local, 1);
    cr_assert_eq(start->incarnation, 1);
}
