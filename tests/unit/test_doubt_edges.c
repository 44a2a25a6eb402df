// SPDX-License-Identifier: Apache-2.0
//
// Maps that several nodes claim, worlds that differ in nothing but their shape, the shortest lease, how
// many silent nodes are a loss, a job that is gone, a child that says again where it hangs, a link
// whose node dies before it has said what it wants, and who is suspected together with whom.
#include <criterion/criterion.h>
#include <string.h>

#include "pmix_server/core/membership.h"
#include "pmix_server/core/placement.h"
#include "tests/unit/core_harness_impl.h"

#define COORDINATOR PM_NODE_COORDINATOR

TestSuite(doubt_edges, .timeout = 30);

// --- maps and worlds -----------------------------------------------------------------------------------

static void claim(struct pm_map *map, uint32_t rank, uint32_t n, uint32_t node)
{
    cr_assert_eq(pm_map_add(map, rank, n, node), 0);
}

Test(doubt_edges, claims_of_the_same_ranks_are_all_kept_in_order)
{
    struct pm_map a = {0}, b = {0};
    claim(&a, 4, 2, 1);
    claim(&a, 0, 4, 3); // not in order
    claim(&b, 0, 4, 2);
    claim(&b, 4, 1, 1);
    cr_assert_eq(pm_map_union(&a, &b, NULL), 0);
    static const struct pm_run want[] = {
        {.rank = 0, .n = 4, .node = 2}, {.rank = 0, .n = 4, .node = 3},
        {.rank = 4, .n = 1, .node = 1}, {.rank = 4, .n = 2, .node = 1}};
    cr_assert_eq(a.n, 4);
    for (uint32_t i = 0; i < 4; i++)
        cr_assert(a.runs[i].rank == want[i].rank && a.runs[i].n == want[i].n &&
                      a.runs[i].node == want[i].node, "run %u", i);
    bool changed = true;
    cr_assert(pm_map_union(&a, &b, &changed) == 0 && !changed, "again it is no news");
    pm_map_done(&a);
    pm_map_done(&b);
}

static struct pm_world world_of(const struct pm_map *map, uint32_t nnodes, uint32_t version)
{
    struct pm_world world = {0};
    struct pm_map_fault fault;
    struct pm_writer w = {0};
    const struct pm_world shape = {.nnodes = nnodes, .nranks = 4, .map_version = version};
    pm_write_map(&w, map);
    cr_assert_eq(pm_world_from_bytes(&shape, w.data, w.len, &world, &fault), 0);
    pm_writer_done(&w);
    return world;
}

Test(doubt_edges, worlds_are_one_only_if_all_of_them_is_equal)
{
    struct pm_map in_turn = {0}, blocks = {0};
    for (uint32_t rank = 0; rank < 4; rank++)
        claim(&in_turn, rank, 1, rank % 2);
    claim(&blocks, 0, 2, 0);
    claim(&blocks, 2, 2, 1);
    struct pm_world worlds[] = {world_of(&in_turn, 2, 1), world_of(&in_turn, 3, 1),
                                world_of(&in_turn, 2, 2), world_of(&blocks, 2, 1)};
    struct pm_world same = world_of(&in_turn, 2, 1);
    cr_assert_eq(same.block, worlds[0].block);
    for (int i = 1; i < 4; i++)
        cr_assert_neq(worlds[i].block, worlds[0].block, "%d", i);
    cr_assert_eq(pm_set_count(&worlds[0].ranks_of_node[0]), 2);
    cr_assert_eq(worlds[0].ranks_of_node[0].n, 2, "0 and 2");
    cr_assert_eq(worlds[3].ranks_of_node[0].n, 1, "0-1");
    for (int i = 0; i < 4; i++)
        pm_world_release(&worlds[i]); // the last made is not the first released
    pm_world_release(&same);
    pm_map_done(&in_turn);
    pm_map_done(&blocks);
}

// Two nodes report what is one run: the sets melt all the same.
Test(doubt_edges, runs_that_touch_on_one_node_are_one_span)
{
    struct pm_map a = {0}, b = {0};
    claim(&a, 2, 2, 0);
    claim(&b, 0, 2, 0);
    cr_assert_eq(pm_map_union(&a, &b, NULL), 0);
    cr_assert_eq(a.n, 2);
    struct pm_world world = world_of(&a, 1, 1);
    cr_assert_eq(world.ranks_of_node[0].n, 1);
    pm_world_release(&world);
    pm_map_done(&a);
    pm_map_done(&b);
}

Test(doubt_edges, a_timeout_shorter_than_a_kill_still_gives_a_lease)
{
    cr_assert_eq(pm_lease_length_ns(200 * PM_MS), 100 * PM_MS);
    cr_assert_lt(pm_lease_length_ns(1000 * PM_MS), 1000 * PM_MS);
}

// --- how many are too many ---------------------------------------------------------------------------------

static struct pm_options options;
static struct harness *h;

static void form_tree(uint32_t nnodes, uint32_t fanout, uint32_t isolation_floor)
{
    harness_default_options(&options);
    options.fanout = fanout;
    const struct harness_config config = {.nnodes = nnodes,
                                          .ranks_per_node = 1,
                                          .options = &options,
                                          .isolation_floor = isolation_floor};
    h = harness_new(&config);
    harness_launch(h, 0);
    cr_assert(harness_run_until_state(h, PM_STATE_RUNNING, 30000));
    harness_run_ms(h, options.node_timeout_ms);
}

static void form(uint32_t isolation_floor)
{
    form_tree(8, 32, isolation_floor);
}

static void three_fall_silent(void)
{
    for (uint32_t node = 0; node < 3; node++)
        harness_cut(h, node);
    harness_run_ms(h, 2 * options.node_timeout_ms);
}

static bool is_stopped(void)
{
    struct pm_core *core = harness_core(h, COORDINATOR);
    return !core || pm_core_state(core) >= PM_STATE_STOPPING;
}

Test(doubt_edges, three_of_eight_silent_nodes_are_a_doubt)
{
    form(0);
    three_fall_silent();
    cr_assert(pm_set_empty(pm_dead_nodes(harness_core(h, COORDINATOR))));
    harness_free(h);
}

Test(doubt_edges, three_silent_nodes_are_a_loss_where_four_may_be)
{
    form(4);
    three_fall_silent();
    cr_assert(is_stopped());
    cr_assert_not_null(strstr(harness_said(h), "lost"), "%s", harness_said(h));
    harness_free(h);
}

Test(doubt_edges, nobody_is_waited_for_when_the_job_is_gone)
{
    form(0);
    harness_job_state(h, PM_JOB_GONE);
    three_fall_silent();
    cr_assert(is_stopped());
    harness_free(h);
}

Test(doubt_edges, an_answer_that_nobody_asked_for_starts_no_suspicion)
{
    form(0);
    for (int state = PM_JOB_SUSPENDED; state >= PM_JOB_UNKNOWN; state--) {
        struct pm_event event = {.type = PM_EVENT_JOB_STATE, .job_state = (uint8_t)state};
        harness_post(h, COORDINATOR, &event, 0);
        harness_run_ms(h, 100);
    }
    cr_assert(pm_set_empty(pm_suspect_nodes(harness_core(h, COORDINATOR))));
    cr_assert_eq(pm_core_state(harness_core(h, COORDINATOR)), PM_STATE_RUNNING);
    harness_free(h);
}

// --- a child that says it again ------------------------------------------------------------------------

// What `core` does when `frame` comes on its `link`.
static void deliver(struct pm_core *core, uint32_t link, struct pm_writer *frame,
                    struct pm_actions *actions)
{
    const struct pm_event event = {.type = PM_EVENT_FRAME,
                                   .now_ns = harness_now_ns(h),
                                   .link = link,
                                   .data = frame->data,
                                   .len = frame->len};
    cr_assert_eq(pm_core_step(core, &event, actions), 0);
    pm_writer_done(frame);
}

// `number` in an ATTACH.
static void attach(struct pm_core *core, uint32_t link, uint32_t number, struct pm_actions *actions)
{
    struct pm_writer w = {0};
    pm_write_u8(&w, PM_FRAME_ATTACH);
    pm_write_u32(&w, number);
    pm_write_u32(&w, PM_NODE_NONE);
    pm_write_str(&w, "node:1");
    pm_write_u8(&w, 0);
    pm_write_u8(&w, 0);
    deliver(core, link, &w, actions);
}

static uint32_t coordinators_end(const struct wire **ret_wire)
{
    *ret_wire = h->slots[harness_slot(h, COORDINATOR)].wires[0];
    return (*ret_wire)->node[0] == harness_slot(h, COORDINATOR) ? 0 : 1;
}

static bool does(const struct pm_actions *actions, uint8_t type, uint32_t link)
{
    for (size_t i = 0; i < actions->n; i++)
        if (actions->list[i].type == type && actions->list[i].link == link)
            return true;
    return false;
}

// Having asked somebody else in vain, it says where it hangs: it is not lost in between.
Test(doubt_edges, a_child_that_attaches_again_on_its_link_stays)
{
    form(0);
    const struct wire *wire;
    uint32_t end = coordinators_end(&wire);
    struct pm_core *core = pm_core_clone(harness_core(h, COORDINATOR));
    struct pm_actions actions = {0};
    uint32_t before, after;
    (void)pm_children(core, &before);
    attach(core, wire->id[end], 9, &actions);
    (void)pm_children(core, &after);
    cr_assert_eq(after, before);
    bool answered = false;
    for (size_t i = 0; i < actions.n; i++) {
        cr_assert_neq(actions.list[i].type, PM_ACTION_CLOSE);
        answered |= actions.list[i].type == PM_ACTION_SEND &&
                    actions.list[i].link == wire->id[end] &&
                    actions.list[i].data[0] == PM_FRAME_ATTACHED;
    }
    cr_assert(answered);
    pm_actions_done(&actions);
    pm_core_free(core);
    harness_free(h);
}

// We were asleep: what it said on a link that it has given up is read after its newest word and its end.
Test(doubt_edges, an_attachment_older_than_the_last_is_refused_even_when_that_has_ended)
{
    form(0);
    const struct wire *wire;
    uint32_t end = coordinators_end(&wire), late = 9998;
    uint32_t node = harness_node(h, wire->node[1 - end]);
    struct pm_core *core = pm_core_clone(harness_core(h, COORDINATOR));
    struct pm_actions actions = {0};
    attach(core, wire->id[end], 9, &actions);
    struct pm_event event = {.type = PM_EVENT_LINK_DOWN,
                             .now_ns = harness_now_ns(h),
                             .link = wire->id[end],
                             .node = node,
                             .link_end = PM_LINK_CLOSED};
    cr_assert_eq(pm_core_step(core, &event, &actions), 0);
    event = (struct pm_event){
        .type = PM_EVENT_LINK_UP, .now_ns = harness_now_ns(h), .link = late, .node = node};
    cr_assert_eq(pm_core_step(core, &event, &actions), 0);
    pm_actions_clear(&actions);
    attach(core, late, 8, &actions);
    cr_assert(does(&actions, PM_ACTION_CLOSE, late));
    cr_assert_not(does(&actions, PM_ACTION_SEND, late));
    cr_assert_eq(pm_next_hop(core, node), PM_NODE_NONE);
    pm_actions_done(&actions);
    pm_core_free(core);
    harness_free(h);
}

// Whatever it says on it later must change nothing.
Test(doubt_edges, a_stranger_is_refused_when_the_death_of_its_node_becomes_known)
{
    form(0);
    const uint32_t strange = 9998, other = 9996;
    struct pm_core *core = pm_core_clone(harness_core(h, 5));
    struct pm_actions actions = {0};
    struct pm_event event = {
        .type = PM_EVENT_LINK_UP, .now_ns = harness_now_ns(h), .link = strange, .node = 3};
    cr_assert_eq(pm_core_step(core, &event, &actions), 0);
    event.link = other;
    event.node = 4;
    cr_assert_eq(pm_core_step(core, &event, &actions), 0);
    struct pm_set dead = {0};
    struct pm_writer down = {0};
    cr_assert_eq(pm_set_add(&dead, 3), 0);
    pm_write_u8(&down, PM_FRAME_DOWN);
    pm_write_u64(&down, pm_view(core) + 1);
    pm_write_set(&down, &dead);
    pm_actions_clear(&actions);
    deliver(core, core->membership->parent_link, &down, &actions);
    cr_assert(does(&actions, PM_ACTION_SEND, strange));
    cr_assert(does(&actions, PM_ACTION_CLOSE, strange));
    cr_assert_not(does(&actions, PM_ACTION_CLOSE, other));
    cr_assert_not_null(pm_link_find(core->membership, other));
    pm_set_done(&dead);
    pm_actions_done(&actions);
    pm_core_free(core);
    harness_free(h);
}

// --- who hangs below whom ------------------------------------------------------------------------------

// An UP of the coordinator's first child.
static void tell(struct pm_core *core, struct pm_edge *edge, const struct pm_child_report *report)
{
    const struct pm_edges edges = {.known = edge, .n = edge ? 1 : 0};
    struct pm_writer w = {0};
    struct pm_actions actions = {0};
    pm_write_u8(&w, PM_FRAME_UP);
    pm_edges_write(&edges, options.fanout, &w);
    pm_write_var(&w, 0); // addresses
    pm_write_var(&w, report ? 1 : 0);
    if (report) {
        pm_write_u32(&w, report->node);
        pm_write_u32(&w, report->attach);
        pm_write_u32(&w, report->parent);
        pm_write_u32(&w, report->via);
        pm_write_u8(&w, report->kind);
        pm_write_u64(&w, report->silent_ns);
        pm_write_u64(&w, report->granted_ns);
    }
    deliver(core, pm_child_find(core->membership, 0)->link, &w, &actions);
    pm_actions_done(&actions);
}

// 7 is silent below 2, and its child 17 has moved to 2 while 2 itself was lost to 0: when 2 comes back,
// 7 comes with it and is as silent as before, but 17 is not.
Test(doubt_edges, who_left_a_suspect_is_none_when_both_come_back)
{
    form_tree(18, 2, 0);
    struct pm_core *core = pm_core_clone(harness_core(h, COORDINATOR));
    const struct pm_child_report silent = {.node = 7, .attach = 1, .parent = 2, .via = 1, .kind = PM_REPORT_SILENT};
    tell(core, NULL, &silent);
    cr_assert(pm_judge_is_suspect(core, 7) && pm_judge_is_suspect(core, 16));
    tell(core, &(struct pm_edge){.node = 2, .parent = 0, .attach = 1}, NULL);
    tell(core, &(struct pm_edge){.node = 17, .parent = 2, .attach = 2, .attached = true}, NULL);
    cr_assert(pm_judge_is_suspect(core, 2) && pm_judge_is_suspect(core, 17));
    tell(core, &(struct pm_edge){.node = 2, .parent = 0, .attach = 2, .attached = true}, NULL);
    cr_assert_not(pm_judge_is_suspect(core, 2));
    cr_assert_not(pm_judge_is_suspect(core, 17));
    cr_assert(pm_judge_is_suspect(core, 7) && pm_judge_is_suspect(core, 16));
    pm_core_free(core);
    harness_free(h);
}

// 7's parent 2 has moved, and has told by its new way that 7 is heard; what its old parent still had to pass on comes
// after it, and is no news.
Test(doubt_edges, an_old_word_that_comes_late_makes_no_suspect)
{
    form_tree(18, 2, 0);
    struct pm_core *core = pm_core_clone(harness_core(h, COORDINATOR));
    struct pm_child_report report = {.node = 7, .attach = 1, .parent = 2, .via = 1, .kind = PM_REPORT_SILENT};
    tell(core, NULL, &report);
    cr_assert(pm_judge_is_suspect(core, 7));
    tell(core, &(struct pm_edge){.node = 2, .parent = 0, .attach = 2, .attached = true}, NULL);
    report.via = 2;
    report.kind = PM_REPORT_FINE;
    tell(core, NULL, &report);
    cr_assert_not(pm_judge_is_suspect(core, 7));
    report.via = 1;
    report.kind = PM_REPORT_SILENT;
    tell(core, NULL, &report);
    cr_assert_not(pm_judge_is_suspect(core, 7));
    report.via = 2;
    tell(core, NULL, &report);
    cr_assert(pm_judge_is_suspect(core, 7));
    pm_core_free(core);
    harness_free(h);
}

// Who stays silent until the patience is over is declared, and nobody is left who could be heard again; but the world
// goes on with spares, and its timers have to.
Test(doubt_edges, the_end_of_a_mass_silence_ends_the_doubt)
{
    harness_default_options(&options);
    options.node_timeout_ms = 2000;
    options.orphan_timeout_ms = 5000;
    options.spares = 4;
    const struct harness_config config = {.nnodes = 10, .ranks_per_node = 1, .options = &options};
    h = harness_new(&config);
    harness_launch(h, 0);
    cr_assert(harness_run_until_state(h, PM_STATE_RUNNING, 5000), "%s", harness_said(h));
    for (uint32_t node = 1; node < 4; node++)
        harness_power_off(h, node);
    cr_assert(harness_run_until_state(h, PM_STATE_HALTING, 20000), "%s", harness_said(h));
    cr_assert(strstr(harness_said(h), "3 of 10 nodes are silent at once"), "%s", harness_said(h));
    cr_assert(harness_run_until_state(h, PM_STATE_RUNNING, 5000), "%s", harness_said(h));
    cr_assert(strstr(harness_said(h), "3 nodes lost (node #1, node #2, node #3): their ranks move"),
              "%s", harness_said(h));
    harness_run_ms(h, 1000);
    cr_assert_not(harness_core(h, COORDINATOR)->membership->judge.isolated);
    harness_all_ranks_end(h);
    int32_t status = -1;
    cr_assert(harness_run_until_exit(h, 60000), "%s", harness_said(h));
    cr_assert(harness_exited(h, &status));
    cr_assert_eq(status, 0);
    harness_free(h);
}

// Most spares lose the nodes that they hang at, and the two that are left have no room for all: whom they send away
// they send to a child, unless all of those are spares.
Test(doubt_edges, a_spare_never_becomes_a_parent)
{
    enum { NODES = 40, SPARES = 30 };
    harness_default_options(&options);
    options.node_timeout_ms = 2000;
    options.fanout = 2;
    options.spares = SPARES;
    const struct harness_config config = {.nnodes = NODES, .ranks_per_node = 1, .options = &options};
    h = harness_new(&config);
    harness_launch(h, 0);
    cr_assert(harness_run_until_state(h, PM_STATE_RUNNING, 5000), "%s", harness_said(h));
    for (uint32_t node = 2; node < NODES - SPARES; node++)
        harness_kill(h, node);
    for (int round = 0; round < 100; round++) {
        harness_run_ms(h, 50);
        for (uint32_t node = NODES - SPARES; node < NODES; node++) {
            uint32_t n;
            (void)pm_children(harness_core(h, node), &n);
            cr_assert_eq(n, 0, "spare %u has %u children", node, n);
        }
    }
    cr_assert_eq(pm_core_state(harness_core(h, COORDINATOR)), PM_STATE_RUNNING, "%s", harness_said(h));
    cr_assert_eq(pm_set_count(pm_dead_nodes(harness_core(h, COORDINATOR))), NODES - SPARES - 2);
    harness_free(h);
}

static bool sends(const struct pm_actions *actions, uint8_t frame)
{
    for (size_t i = 0; i < actions->n; i++)
        if (actions->list[i].type == PM_ACTION_SEND && actions->list[i].data[0] == frame)
            return true;
    return false;
}

// Somebody who believes in another tree asks a spare for a place.
Test(doubt_edges, a_spare_takes_nobody)
{
    struct pm_actions actions = {0};
    harness_default_options(&options);
    options.spares = 2;
    const struct harness_config config = {.nnodes = 5, .ranks_per_node = 1, .options = &options};
    h = harness_new(&config);
    harness_launch(h, 0);
    cr_assert(harness_run_until_state(h, PM_STATE_RUNNING, 5000), "%s", harness_said(h));
    struct pm_core *core = harness_core(h, 3);
    const struct pm_event up = {.type = PM_EVENT_LINK_UP, .now_ns = harness_now_ns(h), .link = 1000, .node = 4, .text = ""};
    cr_assert_eq(pm_core_step(core, &up, &actions), 0);
    attach(core, 1000, 7, &actions);
    cr_assert(sends(&actions, PM_FRAME_REDIRECT));
    cr_assert_not(sends(&actions, PM_FRAME_ATTACHED));
    pm_actions_done(&actions);
    harness_free(h);
}
