// SPDX-License-Identifier: Apache-2.0
//
// Who hangs where, who is suspected and who is dead: whole steps of real cores in virtual time.
// T is the node timeout. Doubt and limits are in test_membership_limits.c.
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/membership_world.h"

// --- forming -----------------------------------------------------------------------------------

static void check_forms_as_numbered(uint32_t nnodes, uint32_t fanout)
{
    form(nnodes, fanout);
    for (uint32_t i = 0; i < nnodes; i++)
        cr_assert_eq(pm_parent(harness_core(h, i)), pm_tree_parent(i, fanout));
    cr_assert_leq(links_max, fanout);
    assert_all_is_well();
    done();
}

Test(form, every_node_hangs_at_its_numbered_parent, .init = setup)
{
    check_forms_as_numbered(40, 2);
    check_forms_as_numbered(40, 3);
    check_forms_as_numbered(100, 32);
    check_forms_as_numbered(1, 32);
}

Test(form, subtrees_and_next_hops_agree_at_every_node, .init = setup)
{
    form(40, 3);
    for (uint32_t i = 0; i <= n_nodes; i++) {
        const struct pm_core *core = harness_core(h, i == n_nodes ? COORDINATOR : i);
        uint32_t n;
        const uint32_t *children = pm_children(core, &n);
        for (uint32_t k = 0; k < n; k++)
            for (uint32_t node = 0; node < n_nodes; node++)
                cr_assert_eq(pm_set_has(pm_subtree(core, children[k]), node),
                             pm_next_hop(core, node) == children[k]);
    }
    cr_assert_null(pm_subtree(coordinator(), 39));
    done();
}

// One dial each, then the coordinator names the parent and its addresses.
Test(form, a_node_that_finds_nobody_by_name_is_told_by_the_coordinator, .init = setup)
{
    nameless = true;
    form(200, 4);
    assert_all_is_well();
    cr_assert_geq(named_dials, 150);
    cr_assert_leq(links_max, 4 + PM_LINKS_SPARE);
    done();
}

// The places of those that come first are taken by others when their children ask.
Test(form, without_names_those_that_come_last_find_their_places, .init = setup)
{
    nameless = true;
    make(65, 2);
    struct pm_set late = {0};
    cr_assert_eq(pm_set_add_span(&late, 0, 20), 0);
    harness_launch_without(h, &late);
    harness_run_ms(h, 1000);
    for (uint32_t i = 0; i <= 20; i++)
        harness_start_agent(h, 20 - i);
    cr_assert(harness_run_until_state(h, PM_STATE_RUNNING, 3000));
    pm_set_done(&late);
    done();
}

Test(form, a_late_parent_does_not_hold_up_its_children, .init = setup)
{
    make(15, 2);
    struct pm_set late = {0};
    cr_assert_eq(pm_set_add(&late, 1), 0);
    harness_launch_without(h, &late);
    harness_run_ms(h, 3000);
    for (uint32_t i = 0; i < 15; i++)
        if (i != 1)
            cr_assert_neq(pm_next_hop(coordinator(), i), PM_NODE_NONE, "node %u", i);
    harness_start_agent(h, 1);
    cr_assert(harness_run_until_state(h, PM_STATE_RUNNING, 1000));
    harness_run_ms(h, 1000);
    assert_all_is_well();
    pm_set_done(&late);
    done();
}

Test(form, a_coordinator_that_never_answers_ends_the_agent_in_time, .init = setup)
{
    options.start_timeout_ms = 20000;
    make(1, 2);
    harness_pause(h, COORDINATOR);
    harness_launch(h, 0);
    harness_run_ms(h, 25000);
    cr_assert_null(harness_core(h, 0));
    cr_assert(strstr(harness_died(h), "could not join the step within 20 s"), "%s%s",
              harness_died(h), harness_said(h));
    done();
}

// Whoever has not joined yet has reached at least its parent: it waits as long as the others, not for the start timeout.
static void host_goes_while_forming(uint64_t at_ms)
{
    options.node_timeout_ms = 3000;
    options.orphan_timeout_ms = 8000;
    make(15, 2);
    harness_launch(h, 100 * PM_MS);
    harness_run_ms(h, at_ms);
    harness_power_off(h, COORDINATOR);
    harness_run_ms(h, options.orphan_timeout_ms + 5000);
    for (uint32_t i = 0; i < 15; i++)
        cr_expect_null(harness_core(h, i), "node %u of a coordinator gone after %u ms", i, (unsigned)at_ms);
    done();
}

Test(form, agents_outlive_the_coordinators_host_for_the_orphan_timeout, .init = setup)
{
    for (uint64_t at_ms = 4; at_ms <= 124; at_ms += 8)
        host_goes_while_forming(at_ms);
}

// Nobody was ever reached: that may be a firewall, or a listener that comes late.
Test(form, an_agent_that_has_reached_nobody_has_the_start_timeout, .init = setup)
{
    options.orphan_timeout_ms = 4000;
    options.start_timeout_ms = 20000;
    make(1, 2);
    harness_power_off(h, COORDINATOR);
    harness_launch(h, 0);
    harness_run_ms(h, 15000);
    cr_assert_not_null(harness_core(h, 0));
    harness_run_ms(h, 6000);
    cr_assert_null(harness_core(h, 0));
    done();
}

// A coordinator that is cut off and comes back in time is joined.
Test(form, a_coordinator_that_is_silent_for_a_while_is_waited_for, .init = setup)
{
    options.orphan_timeout_ms = 8000;
    make(7, 2);
    harness_launch(h, 100 * PM_MS);
    harness_run_ms(h, 300);
    harness_pause(h, COORDINATOR);
    harness_run_ms(h, 6000);
    harness_resume(h, COORDINATOR);
    cr_assert(harness_run_until_state(h, PM_STATE_RUNNING, 6000), "%s", harness_said(h));
    done();
}

// Who wants ranks without a lease killed at once does not want agents killed that are about to have one.
Test(form, a_busy_coordinator_is_waited_for_whatever_the_orphan_timeout, .init = setup)
{
    options.orphan_timeout_ms = 0;
    make(15, 2);
    harness_launch(h, 100 * PM_MS);
    harness_run_ms(h, 20);
    harness_pause(h, COORDINATOR);
    harness_run_ms(h, 2000);
    harness_resume(h, COORDINATOR);
    cr_assert(harness_run_until_state(h, PM_STATE_RUNNING, 6000), "%s%s", harness_died(h), harness_said(h));
    done();
}

// --- a link ends, nobody is dead -----------------------------------------------------------------

Test(repair, a_reset_proves_only_that_a_link_ended, .init = setup)
{
    form(15, 2);
    for (uint32_t i = 0; i < 15; i++) {
        harness_reset_link(h, i, pm_parent(harness_core(h, i)));
        harness_run_ms(h, 1);
    }
    harness_run_ms(h, t_ms() / 4);
    assert_all_is_well();
    done();
}

Test(repair, children_of_a_silent_parent_move_up_and_nobody_dies, .init = setup)
{
    form(15, 2);
    uint64_t view = pm_view(coordinator());
    harness_cut(h, 2);
    harness_run_ms(h, t_ms() * 45 / 100);
    cr_assert_neq(pm_parent(harness_core(h, 6)), 2);
    harness_heal(h, 2);
    harness_run_ms(h, t_ms());
    cr_assert_gt(pm_view(coordinator()), view);
    assert_all_is_well();
    done();
}

// The edge is lost between ATTACH and ATTACHED: it would be told to the parent of before alone.
Test(repair, a_new_parent_hears_of_a_child_lost_meanwhile, .init = setup)
{
    form(30, 2);
    cr_assert_eq(pm_next_hop(harness_core(h, 0), 14), 2);
    leave_on_attach = true;
    harness_cut(h, 2);
    harness_run_ms(h, options.node_timeout_ms * 3 / 4);
    cr_assert(!leave_on_attach);
    cr_assert_eq(pm_parent(harness_core(h, 6)), 0);
    cr_assert_neq(pm_next_hop(coordinator(), 14), PM_NODE_NONE);
    cr_assert_eq(pm_next_hop(harness_core(h, 0), 14), PM_NODE_NONE);
    done();
}

Test(repair, a_paused_agent_comes_back_before_half_the_timeout, .init = setup)
{
    form(15, 2);
    harness_pause(h, 0);
    harness_run_ms(h, t_ms() * 49 / 100);
    harness_resume(h, 0);
    harness_run_ms(h, t_ms());
    assert_all_is_well();
    done();
}

// A parent that takes a node again and again, and grants it nothing, is no parent.
Test(repair, a_parent_that_resets_every_link_is_left, .init = setup)
{
    form(8, 2);
    useless = true;
    harness_run_ms(h, 2 * t_ms());
    assert_all_is_well();
    cr_assert_eq(pm_parent(harness_core(h, 4)), COORDINATOR);
    done();
}

// What it slept does not count against its parent, but what the parent was silent before does: else the
// node would come to the coordinator too late. `dead` are ancestors of `node`.
static void check_sleeps_below_the_dead(uint32_t node, const struct pm_set *dead, uint64_t from_ms)
{
    form(30, 2);
    for (uint32_t i = pm_set_next(dead, 0); i != UINT32_MAX; i = pm_set_next(dead, i + 1))
        harness_power_off(h, i);
    harness_run_ms(h, from_ms);
    harness_pause(h, node);
    harness_run_ms(h, t_ms() * 9 / 20);
    harness_resume(h, node);
    cr_assert_neq(ms_until_stop(2 * t_ms()), UINT64_MAX);
    harness_run_ms(h, t_ms() / 4);
    cr_assert_not(pm_set_has(pm_dead_nodes(coordinator()), node), "from %lu ms on", from_ms);
    done();
}

Test(repair, who_slept_below_a_dead_parent_has_no_time_to_lose, .init = setup)
{
    struct pm_set dead = {0};
    cr_assert_eq(pm_set_add(&dead, 0), 0);
    for (uint64_t part = 0; part < 10; part++)
        check_sleeps_below_the_dead(3, &dead, t_ms() * part / 20);
    pm_set_done(&dead);
}

// Between them it was dialling one after the other.
Test(repair, who_slept_below_two_dead_ancestors_has_even_less, .init = setup)
{
    struct pm_set dead = {0};
    cr_assert(pm_set_add(&dead, 2) == 0 && pm_set_add(&dead, 6) == 0);
    for (uint64_t part = 0; part < 12; part++)
        check_sleeps_below_the_dead(14, &dead, t_ms() * part / 20);
    pm_set_done(&dead);
}

static bool asks_node_0(struct harness *harness, void *arg)
{
    const struct pm_membership *m = arg;
    (void)harness;
    return m->seek.asked && m->seek.node == 0;
}

// While it asks its grandparent, which takes its time, its parent is heard again: then nobody else is wanted.
Test(repair, a_parent_that_is_heard_again_is_kept, .init = setup)
{
    form(15, 2);
    struct pm_membership *m = harness_core(h, 6)->membership;
    harness_cut_one_way(h, 2, 6, true);
    cr_assert(harness_run_until(h, asks_node_0, m, t_ms()));
    harness_pause(h, 0);
    harness_cut_one_way(h, 2, 6, false);
    harness_run_ms(h, t_ms() * 3 / 16);
    cr_assert_eq(m->seek.link, 0);
    harness_resume(h, 0);
    harness_run_ms(h, t_ms());
    cr_assert_eq(pm_parent(harness_core(h, 6)), 2);
    assert_all_is_well();
    done();
}

// As far apart as a lease allows for: the sleeper's clock is slow, those of its judges are fast.
Test(repair, who_slept_below_two_dead_ancestors_has_time_by_any_clock, .init = setup)
{
    uint32_t of_nodes[31];
    struct pm_set dead = {0};
    cr_assert(pm_set_add(&dead, 2) == 0 && pm_set_add(&dead, 6) == 0);
    for (uint32_t i = 0; i <= 30; i++)
        of_nodes[i] = i == 14 ? 913 : 1095;
    rates = of_nodes;
    for (uint32_t t = 0; t < 3; t++) {
        options.node_timeout_ms = (const uint64_t[]){1000, 2000, 10000}[t];
        for (uint64_t part = 0; part < 28; part++)
            check_sleeps_below_the_dead(14, &dead, t_ms() * part / 40);
    }
    pm_set_done(&dead);
}

// --- death -------------------------------------------------------------------------------------

Test(death, a_killed_agent_is_dead_when_it_refused_twice, .init = setup)
{
    for (uint32_t fanout = 2; fanout <= 32; fanout += 30) {
        form(15, fanout);
        harness_kill(h, 1);
        uint64_t ms = ms_until_stop(5000);
        cr_assert(ms >= 300 && ms < 600, "%lu ms", ms);
        cr_assert(said("agent-lost"), "%s", harness_said(h));
        cr_assert(pm_was_refused(coordinator(), 1));
        cr_assert(pm_lease_over(coordinator(), 1));
        cr_assert_eq(pm_set_count(pm_dead_nodes(coordinator())), 1);
        cr_assert(harness_run_until_exit(h, 60000));
        done();
    }
}

Test(death, a_host_without_power_is_dead_when_its_lease_is_over, .init = setup)
{
    for (uint32_t fanout = 2; fanout <= 32; fanout += 30) {
        form(15, fanout);
        harness_power_off(h, 1);
        uint64_t ms = ms_until_stop(3 * t_ms());
        cr_assert(ms >= t_ms() * 7 / 8 && ms <= t_ms() * 5 / 4, "%lu ms", ms);
        cr_assert(said("node-lost"), "%s", harness_said(h));
        cr_assert(pm_lease_over(coordinator(), 1));
        cr_assert_eq(pm_set_count(pm_dead_nodes(coordinator())), 1);
        done();
    }
}

Test(death, an_inner_node_takes_nobody_with_it, .init = setup)
{
    form(40, 3);
    harness_power_off(h, 0);
    cr_assert_neq(ms_until_stop(3 * t_ms()), UINT64_MAX);
    struct pm_set only = {0};
    cr_assert_eq(pm_set_add(&only, 0), 0);
    cr_assert(pm_set_equal(pm_dead_nodes(coordinator()), &only));
    pm_set_done(&only);
    done();
}

// Of agents that are killed below a host that loses its power nobody can tell that they would refuse.
Test(death, who_hung_below_the_dead_was_not_silent_itself, .init = setup)
{
    options.spares = 5;
    form(15, 2);
    harness_power_off(h, 1);
    harness_kill(h, 4);
    harness_kill(h, 5);
    harness_run_ms(h, 2 * t_ms());
    cr_assert_eq(pm_set_count(pm_dead_nodes(coordinator())), 3, "%s", harness_said(h));
    cr_expect(pm_was_silent(coordinator(), 1));
    cr_expect_gt(pm_silent_ms(coordinator(), 4), 0);
    cr_expect_not(pm_was_silent(coordinator(), 4));
    cr_expect_not(pm_was_silent(coordinator(), 0));
    for (uint32_t node = 0; node < 5; node++)
        cr_expect_not(pm_was_refused(coordinator(), node));
    cr_expect(said("node #1 is lost (node-lost): nothing was heard of it for 10 s, and it does not answer a connection;"));
    done();
}

// As relayed by a node whose link slept while the reporter found another way up.
Test(death, a_report_that_comes_late_kills_nobody, .init = setup)
{
    form(14, 2);
    struct pm_edges none = {0};
    struct pm_writer w = {0};
    pm_write_u8(&w, PM_FRAME_UP);
    pm_edges_write(&none, options.fanout, &w);
    pm_write_var(&w, 0); // addresses
    pm_write_var(&w, 1);
    pm_write_u32(&w, 2);
    pm_write_u32(&w, 1);
    pm_write_u32(&w, 0); // the reporter, and its attach number
    pm_write_u32(&w, 1);
    pm_write_u8(&w, PM_REPORT_SILENT);
    pm_write_u64(&w, 2 * options.node_timeout_ms * HARNESS_MS);
    pm_write_u64(&w, 2 * options.node_timeout_ms * HARNESS_MS);
    struct pm_event e = {.type = PM_EVENT_FRAME, .data = w.data, .len = w.len};
    e.link = pm_child_find(coordinator()->membership, 0)->link;
    harness_post(h, COORDINATOR, &e, 0);
    harness_run_ms(h, options.node_timeout_ms);
    cr_assert(pm_set_empty(pm_dead_nodes(coordinator())));
    cr_assert(pm_set_empty(pm_suspect_nodes(coordinator())));
    pm_writer_done(&w);
    done();
}

Test(death, a_stopped_agent_is_stuck_and_judged_by_its_lease, .init = setup)
{
    form(8, 32);
    harness_pause(h, 3);
    uint64_t ms = ms_until_stop(3 * t_ms());
    cr_assert(ms >= t_ms() * 7 / 8 && ms <= t_ms() * 5 / 4, "%lu ms", ms);
    cr_assert(said("agent-lost"), "%s", harness_said(h));
    cr_expect_not(pm_was_refused(coordinator(), 3));
    cr_assert(said("nothing was heard of it for ") && said(", and it accepts connections, but does not answer (stuck)"),
              "%s", harness_said(h));
    cr_assert_geq(pm_silent_ms(coordinator(), 3), t_ms() * 3 / 4); // the ledger's time lost begins there
    harness_resume(h, 3);
    harness_run_ms(h, 100);
    cr_assert_null(harness_core(h, 3));
    cr_assert(strstr(harness_died(h), "3: ") && strstr(harness_died(h), "declared dead"), "%s",
              harness_died(h));
    done();
}

Test(death, the_only_other_node_is_a_loss_and_no_isolation, .init = setup)
{
    for (uint32_t nnodes = 1; nnodes <= 2; nnodes++) {
        form(nnodes, 32);
        for (uint32_t i = 0; i < nnodes; i++)
            harness_power_off(h, i);
        cr_assert_leq(ms_until_stop(3 * t_ms()), t_ms() * 3 / 2);
        cr_assert(said("is lost (node-lost): nothing was heard of it for 1"), "%s", harness_said(h));
        cr_assert_eq(harness_stats(h)->actions[PM_ACTION_ASK_JOB_STATE], 1);
        done();
    }
}
