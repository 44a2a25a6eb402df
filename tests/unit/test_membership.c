// SPDX-License-Identifier: Apache-2.0
//
// Who hangs where, who is suspected and who is dead: whole steps of real cores in virtual time.
// T is the node timeout.
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "pmix_server/core/membership.h"
#include "tests/unit/core_harness.h"

#define COORDINATOR PM_NODE_COORDINATOR

static struct harness *h;
static struct pm_options options;
static uint32_t n_nodes;
static int refusals;         // DIALs to the coordinator that are refused from now on
static bool nameless;        // other agents are not found by name
static uint32_t named_dials; // DIALs with addresses
static uint32_t links_max;   // most links the coordinator ever had
static bool has_left;        // and reaches none of its ancestors
static bool leave_on_attach; // node 14 is lost to node 6 when that one asks a new parent
static bool useless;         // node 1 resets its link to node 4 at every ping
static const uint32_t *rates; // of the nodes' clocks; NULL: all alike

static void fail_dial(struct harness *harness, uint32_t node, const struct pm_action *a,
                      enum pm_link_end end)
{
    struct pm_event e = {
        .type = PM_EVENT_LINK_DOWN, .link = a->link, .node = a->node, .link_end = (uint8_t)end};
    harness_post(harness, node, &e, HARNESS_MS);
}

static void maybe_leave(struct harness *harness, uint32_t node, const struct pm_action *a)
{
    if (!leave_on_attach || node != 6 || a->type != PM_ACTION_SEND || a->data[0] != PM_FRAME_ATTACH)
        return;
    leave_on_attach = false;
    has_left = true;
    harness_reset_link(harness, 6, 14);
}

static void maybe_reset(struct harness *harness, uint32_t node, const struct pm_action *a)
{
    if (useless && node == 4 && a->type == PM_ACTION_SEND && a->data[0] == PM_FRAME_PING &&
        pm_parent(harness_core(harness, 4)) == 1)
        harness_reset_link(harness, 1, 4);
}

static bool hook(struct harness *harness, void *ctx, uint32_t node, const struct pm_action *a)
{
    (void)ctx;
    maybe_leave(harness, node, a);
    maybe_reset(harness, node, a);
    if (has_left && node == 14 && a->type == PM_ACTION_DIAL &&
        pm_tree_is_ancestor(a->node, 14, options.fanout) && a->node != COORDINATOR) {
        fail_dial(harness, node, a, PM_LINK_UNREACHABLE);
        return true;
    }
    const struct pm_core *c = harness_core(harness, COORDINATOR);
    uint32_t links = c ? c->membership->n_links : 0;
    links_max = links > links_max ? links : links_max;
    if (a->type != PM_ACTION_DIAL || (a->node == COORDINATOR && refusals == 0))
        return false;
    if (a->node == COORDINATOR) {
        refusals--;
        fail_dial(harness, node, a, PM_LINK_REFUSED);
        return true;
    }
    named_dials += *a->text != 0;
    if (!nameless || *a->text)
        return false;
    fail_dial(harness, node, a, PM_LINK_UNREACHABLE);
    return true;
}

static void setup(void)
{
    harness_default_options(&options);
    nameless = leave_on_attach = has_left = useless = false;
    rates = NULL;
    refusals = 0;
    named_dials = links_max = 0;
}

static void make(uint32_t nnodes, uint32_t fanout)
{
    options.fanout = fanout;
    n_nodes = nnodes;
    const struct harness_config config = {.nnodes = nnodes,
                                          .ranks_per_node = 2,
                                          .options = &options,
                                          .hook = hook,
                                          .rates = rates,
                                          .trace = getenv("TRACE") != NULL};
    h = harness_new(&config);
}

static void form(uint32_t nnodes, uint32_t fanout)
{
    make(nnodes, fanout);
    harness_launch(h, 0);
    cr_assert(harness_run_until_state(h, PM_STATE_RUNNING, 30000));
    harness_run_ms(h, options.node_timeout_ms);
}

static struct pm_core *coordinator(void)
{
    return harness_core(h, COORDINATOR);
}

static uint64_t t_ms(void)
{
    return options.node_timeout_ms;
}

static bool said(const char *what)
{
    return strstr(harness_said(h), what) != NULL;
}

static void assert_nobody_is_dead(void)
{
    cr_assert(coordinator() && pm_core_state(coordinator()) == PM_STATE_RUNNING, "%s%s",
              harness_said(h), harness_died(h));
    cr_assert(pm_set_empty(pm_dead_nodes(coordinator())));
}

static void assert_all_is_well(void)
{
    assert_nobody_is_dead();
    cr_assert(pm_set_empty(pm_suspect_nodes(coordinator())));
    cr_assert_eq(harness_ranks_alive(h), 2 * n_nodes);
    for (uint32_t i = 0; i < n_nodes; i++) {
        cr_assert(harness_core(h, i), "node %u: %s", i, harness_died(h));
        cr_assert_neq(pm_next_hop(coordinator(), i), PM_NODE_NONE, "node %u", i);
        cr_assert_eq(pm_view(harness_core(h, i)), pm_view(coordinator()));
        cr_assert(harness_core(h, i)->membership->lease.held);
        cr_assert_not(harness_rank(h, i, 0)->stopped);
    }
}

static bool is_stopping(struct harness *harness, void *arg)
{
    (void)arg;
    struct pm_core *c = harness_core(harness, COORDINATOR);
    return !c || pm_core_state(c) >= PM_STATE_STOPPING;
}

// Milliseconds until the coordinator decides to stop; UINT64_MAX: not within max_ms.
static uint64_t ms_until_stop(uint64_t max_ms)
{
    uint64_t from = harness_now_ns(h);
    bool stops = harness_run_until(h, is_stopping, NULL, max_ms);
    return stops ? (harness_now_ns(h) - from) / HARNESS_MS : UINT64_MAX;
}

static void done(void)
{
    harness_free(h);
}

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

// --- doubt -------------------------------------------------------------------------------------

static void check_pause_of_the_coordinator(uint32_t nnodes, uint32_t fanout)
{
    form(nnodes, fanout);
    harness_pause(h, COORDINATOR);
    harness_run_ms(h, 3 * t_ms());
    cr_assert(harness_rank(h, 0, 0)->stopped, "a rank runs without a lease");
    harness_resume(h, COORDINATOR);
    harness_run_ms(h, 2 * t_ms());
    assert_all_is_well();
    done();
}

Test(doubt, a_stopped_coordinator_declares_nobody_when_it_goes_on, .init = setup)
{
    check_pause_of_the_coordinator(4, 32);
    check_pause_of_the_coordinator(40, 3);
    check_pause_of_the_coordinator(1, 32);
    options.node_timeout_ms = 1000;
    check_pause_of_the_coordinator(40, 3);
}

static void check_suspend(uint32_t nnodes, uint32_t fanout, uint64_t gap_ms)
{
    form(nnodes, fanout);
    harness_job_state(h, PM_JOB_SUSPENDED);
    for (uint32_t i = 0; i < nnodes; i++)
        harness_pause(h, i);
    harness_run_ms(h, 3 * t_ms());
    harness_job_state(h, PM_JOB_RUNNING);
    for (uint32_t i = 0; i < nnodes; i++) {
        harness_resume(h, i);
        harness_run_ms(h, gap_ms);
    }
    harness_run_ms(h, 2 * t_ms());
    assert_all_is_well();
    done();
}

Test(doubt, a_suspended_job_goes_on_when_it_is_resumed, .init = setup)
{
    check_suspend(1, 32, 20);
    check_suspend(2, 32, 20);
    check_suspend(2, 32, 3000); // Slurm resumes one node after the other
    check_suspend(4, 32, 20);
    check_suspend(4, 32, 1500);
    check_suspend(40, 3, 20);
    options.node_timeout_ms = 1000;
    check_suspend(4, 32, 20);
}

// Nobody had the time to look for the coordinator: what was slept does not count.
Test(doubt, a_job_suspended_for_longer_than_the_orphan_timeout_goes_on, .init = setup)
{
    options.orphan_timeout_ms = options.node_timeout_ms;
    check_suspend(1, 32, 20);
    check_suspend(2, 32, 20);
    check_suspend(4, 32, 20);
    check_suspend(40, 3, 20);
}

Test(doubt, mass_silence_is_our_own_isolation_until_the_orphan_timeout, .init = setup)
{
    form(20, 32);
    harness_cut(h, COORDINATOR);
    harness_run_ms(h, 3 * t_ms());
    cr_assert_geq(harness_stats(h)->actions[PM_ACTION_ASK_JOB_STATE], 1);
    assert_nobody_is_dead();
    cr_assert(said("20 of 20 nodes are silent at once"), "%s", harness_said(h));
    harness_heal(h, COORDINATOR);
    harness_run_ms(h, 2 * t_ms());
    assert_all_is_well();
    cr_assert(said("heard again"), "%s", harness_said(h));
    harness_cut(h, COORDINATOR);
    uint64_t ms = ms_until_stop(10 * t_ms() + options.orphan_timeout_ms);
    cr_assert(ms > options.orphan_timeout_ms && ms < options.orphan_timeout_ms + 2 * t_ms(), "%lu",
              ms);
    done();
}

static void cut_some(uint32_t n, bool cut)
{
    for (uint32_t node = 0; node < n; node++)
        (cut ? harness_cut : harness_heal)(h, node);
}

// When our own clock was late every suspicion begins anew: nobody has been heard by that.
static void check_pause_in_doubt(bool one_is_heard_before)
{
    form(20, 32);
    cut_some(10, true);
    harness_run_ms(h, 2 * t_ms());
    cr_assert(said("10 of 20 nodes are silent at once"), "%s", harness_said(h));
    if (one_is_heard_before)
        harness_heal(h, 0);
    harness_run_ms(h, t_ms() / 2);
    harness_pause(h, COORDINATOR);
    harness_run_ms(h, t_ms());
    harness_resume(h, COORDINATOR);
    harness_run_ms(h, 2 * t_ms());
    cr_assert(!said("heard again"), "%s", harness_said(h));
    cut_some(10, false);
    harness_run_ms(h, 2 * t_ms());
    cr_assert(said("heard again"), "%s", harness_said(h));
    assert_all_is_well();
    done();
}

// Their links have outlived it, or they hang elsewhere now.
static void check_heard_after(uint32_t fanout, uint64_t silent_ms)
{
    form(20, fanout);
    harness_cut(h, COORDINATOR);
    harness_run_ms(h, silent_ms);
    cr_assert(said("20 of 20 nodes are silent at once"), "%s", harness_said(h));
    harness_heal(h, COORDINATOR);
    harness_run_ms(h, 2 * t_ms());
    cr_assert(said("heard again"), "%s", harness_said(h));
    assert_all_is_well();
    done();
}

Test(doubt, whoever_is_heard_again_is_said_to_be, .init = setup)
{
    check_heard_after(32, t_ms() * 9 / 10);
    check_heard_after(32, 3 * t_ms());
    check_heard_after(2, t_ms() * 9 / 10);
    check_heard_after(2, 3 * t_ms());
}

Test(doubt, after_a_pause_of_our_own_nobody_is_said_to_be_heard, .init = setup)
{
    check_pause_in_doubt(false);
    check_pause_in_doubt(true);
}

// Also whose parent was cut off itself, comes back by a new link, and only now says for how long it has
// heard nothing of them.
Test(doubt, when_it_ends_the_last_silent_ones_have_their_time_again, .init = setup)
{
    form(8, 2);
    pm_judge_restart(coordinator()); // as at the end of every doubt
    const struct pm_report report = {.node = 7,
                                     .attach = 1,
                                     .kind = PM_REPORT_SILENT,
                                     .silent_ns = 2 * t_ms() * PM_MS,
                                     .granted_ns = 2 * t_ms() * PM_MS};
    harness_cut(h, 7);
    pm_judge_report(coordinator(), &report);
    cr_assert(pm_set_has(pm_suspect_nodes(coordinator()), 7));
    harness_run_ms(h, t_ms() * 9 / 10);
    harness_heal(h, 7);
    harness_run_ms(h, t_ms());
    assert_all_is_well();
    done();
}

// --- the coordinator is gone
// -----------------------------------------------------------------------

Test(orphans, a_coordinator_that_refuses_ends_everything_at_once, .init = setup)
{
    form(40, 3);
    harness_kill(h, COORDINATOR);
    harness_run_ms(h, 1000);
    cr_assert_eq(harness_ranks_alive(h), 0);
    done();
}

// Killed before anybody had joined: nobody waits for it until the start timeout.
Test(orphans, a_coordinator_that_refuses_from_the_start_ends_the_agents_in_time, .init = setup)
{
    make(7, 2);
    harness_launch(h, 0);
    harness_kill(h, COORDINATOR);
    harness_run_ms(h, t_ms() - 500);
    for (uint32_t i = 0; i < 7; i++)
        cr_assert(!harness_core(h, i)->membership->outcast);
    harness_run_ms(h, 3000);
    for (uint32_t i = 0; i < 7; i++)
        cr_assert(!harness_core(h, i) || harness_core(h, i)->membership->outcast);
    done();
}

// A busy coordinator that answers now and then is not gone.
Test(orphans, refusals_with_an_answer_between_end_nothing, .init = setup)
{
    refusals = 12;
    form(1, 32);
    cr_assert_eq(refusals, 0);
    assert_all_is_well();
    done();
}

Test(orphans, one_refusal_alone_ends_nothing, .init = setup)
{
    form(4, 32);
    refusals = 1;
    harness_reset_link(h, 0, COORDINATOR);
    harness_run_ms(h, 1000);
    cr_assert_eq(refusals, 0);
    assert_all_is_well();
    done();
}

Test(orphans, a_silent_coordinator_stops_ranks_and_then_ends_them, .init = setup)
{
    form(15, 2);
    harness_power_off(h, COORDINATOR);
    harness_run_ms(h, t_ms());
    for (uint32_t i = 0; i < 15; i++)
        cr_assert(harness_rank(h, i, 1)->stopped);
    harness_run_ms(h, options.orphan_timeout_ms - 2 * t_ms());
    cr_assert_eq(harness_ranks_alive(h), 30);
    harness_run_ms(h, 2 * t_ms());
    cr_assert_eq(harness_ranks_alive(h), 0);
    done();
}

// --- limits, input, copies -----------------------------------------------------------------------

// Half of the coordinator's own children are lost at once: their orphans find places, within
// limits.
Test(limits, orphans_of_many_parents_fit_under_the_survivors, .init = setup)
{
    options.orphan_timeout_ms = 600000;
    form(300, 4);
    for (uint32_t i = 1; i < 4; i++)
        harness_cut(h, i);
    harness_run_ms(h, t_ms() * 9 / 10);
    for (uint32_t i = 4; i < 300; i++)
        cr_assert_neq(pm_next_hop(coordinator(), i), PM_NODE_NONE, "node %u", i);
    cr_assert_leq(links_max, 4 + PM_LINKS_SPARE);
    for (uint32_t i = 4; i < 300; i++) {
        uint32_t n;
        (void)pm_children(harness_core(h, i), &n);
        cr_assert_leq(n, 4 * 4);
    }
    done();
}

// The coordinator keeps places free for others, but not from somebody who has no other.
Test(limits, an_orphan_without_any_other_place_hangs_at_the_coordinator, .init = setup)
{
    nameless = true;
    make(16, 2);
    struct pm_set late = {0};
    cr_assert_eq(pm_set_add_span(&late, 0, 3), 0);
    harness_launch_without(h, &late);
    harness_run_ms(h, 1000);
    for (uint32_t i = 0; i <= 3; i++) {
        harness_start_agent(h, i);
        harness_run_ms(h, 500);
    }
    uint32_t n;
    (void)pm_children(coordinator(), &n);
    cr_assert_eq(n, 2 + 3 * 2);
    cr_assert_eq(pm_parent(harness_core(h, 2)), 0);
    cr_assert_eq(pm_parent(harness_core(h, 3)), 0);
    harness_cut(h, 0);
    harness_cut(h, 1);
    harness_run_ms(h, t_ms() * 9 / 10);
    for (uint32_t i = 2; i < 16; i++)
        cr_assert_not(pm_judge_is_suspect(coordinator(), i), "node %u", i);
    pm_set_done(&late);
    done();
}

// Its only possible deputy is fine, but cannot be reached by the two that look for a place.
Test(limits, an_orphan_that_cannot_reach_its_deputy_hangs_at_the_coordinator, .init = setup)
{
    nameless = true;
    make(16, 2);
    struct pm_set late = {0};
    cr_assert_eq(pm_set_add_span(&late, 0, 3), 0);
    harness_launch_without(h, &late);
    harness_run_ms(h, 1000);
    for (uint32_t i = 0; i <= 3; i++) {
        harness_start_agent(h, i);
        harness_run_ms(h, 500);
    }
    harness_cut(h, 1);
    for (uint32_t i = 2; i <= 3; i++) {
        harness_cut_one_way(h, 0, i, true);
        harness_cut_one_way(h, i, 0, true);
    }
    harness_run_ms(h, t_ms() * 9 / 10);
    cr_assert_eq(pm_parent(harness_core(h, 2)), PM_NODE_COORDINATOR);
    cr_assert_eq(pm_parent(harness_core(h, 3)), 2); // which is a deputy now
    for (uint32_t i = 2; i <= 3; i++)
        cr_assert_not(pm_judge_is_suspect(coordinator(), i), "node %u", i);
    pm_set_done(&late);
    done();
}

// A process that answers dials but never comes back has its time anew with each answer, but not for ever.
Test(limits, who_only_answers_dials_is_dead_in_the_end, .init = setup)
{
    options.orphan_timeout_ms = 2 * t_ms();
    form(8, 32);
    harness_cut(h, 3);
    for (uint32_t i = 0; i < 32 && coordinator(); i++) {
        harness_run_ms(h, t_ms() / 8);
        if (coordinator() && pm_judge_is_suspect(coordinator(), 3))
            pm_judge_probed(coordinator(), coordinator()->membership->judge.last_probe_id, COORDINATOR, 3,
                            PM_PROBE_ANSWERED);
    }
    cr_assert(!coordinator() || pm_set_has(pm_dead_nodes(coordinator()), 3));
    done();
}

// Whoever is on its way to another place has time for it, and so has what hangs below the same suspect; but
// not for ever.
Test(limits, who_asks_again_and_again_is_not_waited_for_without_an_end, .init = setup)
{
    options.orphan_timeout_ms = t_ms();
    form(8, 2);
    harness_cut(h, 2);
    harness_cut(h, 6);
    for (uint32_t i = 0; i < 9 && coordinator(); i++) {
        harness_run_ms(h, t_ms() / 4);
        if (coordinator())
            pm_judge_asked(coordinator(), 6);
    }
    cr_assert(!coordinator() || pm_set_has(pm_dead_nodes(coordinator()), 6));
    done();
}

static void send_garbage(uint32_t node, uint8_t type, uint64_t seed)
{
    uint8_t data[64] = {type};
    size_t len = 1 + seed % 63;
    for (size_t i = 1; i < len; i++)
        data[i] = (uint8_t)(seed >> i % 8 * 8) ^ (uint8_t)(seed * i);
    uint32_t last = harness_core(h, node)->membership->n_links;
    if (last == 0)
        return;
    struct pm_event e = {.type = PM_EVENT_FRAME,
                         .data = data,
                         .len = len,
                         .link = harness_core(h, node)->membership->links[seed % last].id};
    harness_post(h, node, &e, 0);
    harness_run_ms(h, 1);
}

// Frames from an authentic but broken peer: links close and come back, nobody dies of it.
Test(input, garbage_costs_a_link_and_nothing_else, .init = setup, .timeout = 60)
{
    form(6, 2);
    uint64_t seed = 88172645463325252u;
    for (uint32_t i = 0; i < 2000; i++) {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        uint32_t node = i % 7 == 6 ? COORDINATOR : i % 7;
        uint8_t type = (uint8_t)(0x10 + i % 12);
        bool deadly =
            type == PM_FRAME_REFUSED || type == PM_FRAME_DOWN || type == PM_FRAME_ATTACHED;
        if (!deadly && harness_core(h, node))
            send_garbage(node, type, seed);
    }
    harness_run_ms(h, 2 * t_ms());
    assert_all_is_well();
    done();
}

Test(copies, a_clone_does_what_the_original_does, .init = setup)
{
    form(15, 2);
    harness_cut(h, 2);
    harness_run_ms(h, t_ms() / 3);
    for (uint32_t i = 0; i <= 15; i++) {
        struct pm_core *core = harness_core(h, i == 15 ? COORDINATOR : i);
        struct pm_core *clone = pm_core_clone(core);
        uint64_t now = harness_now_ns(h);
        cr_assert(clone);
        cr_assert_eq(pm_core_digest(core, now), pm_core_digest(clone, now));
        uint64_t due = pm_core_deadline_ns(core);
        cr_assert_eq(pm_core_deadline_ns(clone), due);
        struct pm_event e = {.type = PM_EVENT_TIMER, .now_ns = due > now ? due : now};
        struct pm_core *twin = pm_core_clone(clone);
        struct pm_actions a = {0}, b = {0};
        cr_assert_eq(pm_core_step(clone, &e, &a), 0);
        cr_assert_eq(pm_core_step(twin, &e, &b), 0);
        cr_assert_eq(a.n, b.n);
        for (size_t k = 0; k < a.n; k++)
            cr_assert(a.list[k].type == b.list[k].type && a.list[k].len == b.list[k].len);
        cr_assert_eq(pm_core_digest(clone, e.now_ns), pm_core_digest(twin, e.now_ns));
        pm_actions_done(&a);
        pm_actions_done(&b);
        pm_core_free(clone);
        pm_core_free(twin);
    }
    done();
}
