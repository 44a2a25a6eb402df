// SPDX-License-Identifier: Apache-2.0
//
// No rank runs that the coordinator may believe dead; and nobody dies of a short disturbance. Whole
// steps of real cores in virtual time, named cases first, then random faults (seed and step of a
// failure are printed; TRACE=1 SEED=n runs one).
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pmix_server/core/membership.h"
#include "tests/unit/core_harness.h"

#define COORDINATOR PM_NODE_COORDINATOR
#define NODES_MAX   64

static struct harness *h;
static struct pm_options options;
static uint32_t n_nodes;
static uint64_t lease_ns[NODES_MAX]; // as published to the shims, 0: none yet
static uint64_t seed;
static bool no_grants; // they are lost

static bool hook(struct harness *harness, void *ctx, uint32_t node, const struct pm_action *a)
{
    (void)harness;
    (void)ctx;
    if (no_grants && a->type == PM_ACTION_SEND && a->data[0] == PM_FRAME_GRANT)
        return true;
    if (a->type == PM_ACTION_SET_LEASE) {
        cr_assert_gt(a->deadline_ns, lease_ns[node], "a lease went back");
        lease_ns[node] = a->deadline_ns;
    }
    return false;
}

static void setup(void)
{
    harness_default_options(&options);
    no_grants = false;
    seed = 0;
}

static void form(uint32_t nnodes, uint64_t latency_ns)
{
    n_nodes = nnodes;
    memset(lease_ns, 0, sizeof(lease_ns));
    const struct harness_config config = {.nnodes = nnodes,
                                          .ranks_per_node = 2,
                                          .options = &options,
                                          .latency_ns = latency_ns,
                                          .hook = hook,
                                          .trace = getenv("TRACE") != NULL};
    h = harness_new(&config);
    harness_launch(h, 0);
    cr_assert(harness_run_until_state(h, PM_STATE_RUNNING, 30000), "seed %lu", seed);
    harness_run_ms(h, options.node_timeout_ms);
}

static uint64_t t_ns(void)
{
    return options.node_timeout_ms * HARNESS_MS;
}

static uint64_t length_ns(void)
{
    return pm_lease_length_ns(t_ns());
}

// --- named cases -------------------------------------------------------------------------------

Test(lease, its_length_leaves_room_for_the_kill_and_for_clock_rates, .init = setup)
{
    for (uint64_t t_ms = 1000; t_ms <= 600000; t_ms *= 3) {
        uint64_t length = pm_lease_length_ns(t_ms * PM_MS);
        cr_assert_leq(length * 12 / 10 + PM_K_NS, t_ms * PM_MS);
        cr_assert_geq(length * 12 / 10 + PM_K_NS + 10, t_ms * PM_MS);
    }
}

// Nothing would stop it: a coordinator that is cut off at that moment may believe it dead.
Test(lease, no_rank_starts_before_its_node_has_one, .init = setup)
{
    no_grants = true;
    const struct harness_config config = {
        .nnodes = 4, .ranks_per_node = 2, .options = &options, .hook = hook};
    memset(lease_ns, 0, sizeof(lease_ns));
    h = harness_new(&config);
    harness_launch(h, 0);
    cr_assert(harness_run_until_state(h, PM_STATE_STARTING, 3000));
    harness_run_ms(h, 1000);
    cr_assert_eq(harness_stats(h)->actions[PM_ACTION_START_RANK], 0);
    no_grants = false;
    cr_assert(harness_run_until_state(h, PM_STATE_RUNNING, options.node_timeout_ms));
    harness_free(h);
}

// Thirteen levels: pushes keep the deepest lease about as long as the first.
Test(lease, depth_costs_a_lease_only_the_latency, .init = setup)
{
    options.fanout = 2;
    form(62, 1000000);
    for (uint32_t i = 0; i < n_nodes; i++) {
        cr_assert_leq(lease_ns[i], harness_now_ns(h) + length_ns());
        cr_assert_geq(lease_ns[i], harness_now_ns(h) + length_ns() - t_ns() / 4, "node %u", i);
    }
    harness_free(h);
}

static void check_no_lease_outlives_the_grant(uint32_t fanout)
{
    options.fanout = fanout;
    form(40, 1000000);
    uint64_t cut_ns = harness_now_ns(h);
    harness_cut(h, COORDINATOR);
    harness_run_ms(h, options.node_timeout_ms);
    for (uint32_t i = 0; i < n_nodes; i++) {
        cr_assert_leq(lease_ns[i], cut_ns + length_ns(), "node %u", i);
        cr_assert(harness_rank(h, i, 0)->stopped);
    }
    harness_free(h);
}

Test(lease, no_lease_outlives_the_coordinators_last_grant_at_any_depth, .init = setup)
{
    check_no_lease_outlives_the_grant(2);
    check_no_lease_outlives_the_grant(32);
}

Test(lease, ranks_go_on_when_it_is_renewed, .init = setup)
{
    form(4, 0);
    harness_cut(h, COORDINATOR);
    harness_run_ms(h, 2 * options.node_timeout_ms);
    for (uint32_t i = 0; i < 4; i++)
        cr_assert(harness_rank(h, i, 1)->stopped);
    harness_heal(h, COORDINATOR);
    harness_run_ms(h, options.node_timeout_ms);
    for (uint32_t i = 0; i < 4; i++)
        cr_assert(harness_rank(h, i, 1)->alive && !harness_rank(h, i, 1)->stopped);
    harness_free(h);
}

static bool is_suspect(struct harness *harness, void *arg)
{
    return pm_set_has(pm_suspect_nodes(harness_core(harness, COORDINATOR)), *(uint32_t *)arg);
}

// The child's frames arrive, but nothing reaches the child: no grant is seen for T/2.
Test(lease, a_link_that_is_dead_one_way_is_silent, .init = setup)
{
    options.node_timeout_ms = 4000;
    form(8, 0);
    uint32_t node = 3;
    harness_cut_one_way(h, COORDINATOR, node, true);
    cr_assert(harness_run_until(h, is_suspect, &node, options.node_timeout_ms * 3 / 4));
    harness_cut_one_way(h, COORDINATOR, node, false);
    harness_run_ms(h, options.node_timeout_ms);
    cr_assert_not(is_suspect(h, &node));
    cr_assert(pm_set_empty(pm_dead_nodes(harness_core(h, COORDINATOR))));
    harness_free(h);
}

Test(lease, a_late_grant_is_worth_nothing, .init = setup)
{
    form(1, 0);
    harness_pause(h, 0);
    harness_run_ms(h, options.node_timeout_ms * 9 / 10);
    harness_resume(h, 0); // reads the grants that lay there
    harness_run_ms(h, 0);
    cr_assert(harness_rank(h, 0, 0)->stopped);
    harness_run_ms(h, 10);
    cr_assert_not(harness_rank(h, 0, 0)->stopped); // a new one
    harness_free(h);
}

// A leaf sends a ping and gets a grant (and a push) every T/8, and nothing else happens.
Test(lease, an_idle_node_wakes_for_heartbeats_only, .init = setup)
{
    form(8, 0);
    uint64_t before = harness_stats(h)->steps;
    harness_run_ms(h, 100 * options.node_timeout_ms);
    uint64_t steps = harness_stats(h)->steps - before;
    cr_assert_leq(steps, 100 * 8 * (8 * 3 + 1) + 100, "%lu", steps);
    harness_free(h);
}

// --- random faults -----------------------------------------------------------------------------

static uint64_t below(uint64_t n)
{
    static uint64_t state;
    static uint64_t of_seed;
    if (of_seed != seed) {
        of_seed = seed;
        state = seed * 7919;
    }
    state += 0x9e3779b97f4a7c15u; // splitmix64
    uint64_t z = state;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (z ^ z >> 31) % n;
}

enum fault {
    PAUSE,
    CUT,
    RESET,
    CUT_ONE_WAY,
    SHORT_ONES,
    KILL = SHORT_ONES,
    POWER_OFF,
    FAIL,
    FAULTS
};

static void do_fault(enum fault fault, uint32_t node)
{
    switch (fault) {
    case PAUSE:
        harness_pause(h, node);
        break;
    case CUT:
        harness_cut(h, node);
        break;
    case RESET:
        harness_reset_link(h, node, below(2) ? COORDINATOR : (uint32_t)below(n_nodes));
        break;
    case CUT_ONE_WAY:
        harness_cut_one_way(h, node, COORDINATOR, true);
        break;
    case KILL:
        harness_kill(h, node);
        break;
    case POWER_OFF:
        harness_power_off(h, node);
        break;
    default:
        harness_rank_ends(h, node, 0, 9);
    }
}

static void undo_fault(enum fault fault, uint32_t node)
{
    if (fault == PAUSE)
        harness_resume(h, node);
    else if (fault == CUT)
        harness_heal(h, node);
    else if (fault == CUT_ONE_WAY)
        harness_cut_one_way(h, node, COORDINATOR, false);
}

// Invariant 2, as far as membership owns it: when the coordinator may place a node's ranks
// elsewhere, they are dead, stopped, or stopped by their shims because the published lease is over.
static bool never(struct harness *harness, void *arg)
{
    (void)arg;
    const struct pm_core *c = harness_core(harness, COORDINATOR);
    for (uint32_t i = 0; c && i < n_nodes; i++) {
        if (!pm_set_has(pm_dead_nodes(c), i) || !pm_lease_over(c, i) || !harness_core(harness, i))
            continue;
        const struct harness_rank *r = harness_rank(harness, i, 0);
        cr_assert(!r->alive || r->stopped || lease_ns[i] <= harness_now_ns(harness),
                  "seed %lu: node %u runs though its lease is over", seed, i);
    }
    return false;
}

static void run(uint64_t ms)
{
    (void)harness_run_until(h, never, NULL, ms);
}

static void make_random_step(void)
{
    static const uint32_t fanouts[] = {2, 3, 5, 32};
    setup();
    seed = seed ? seed : 1;
    options.fanout = fanouts[below(4)];
    options.node_timeout_ms = below(2) ? 10000 : 1000 + below(5000);
}

// A few faults one after another, then all of them undone. Total at most budget_ms.
static void disturb(enum fault kinds, uint64_t budget_ms)
{
    enum fault fault[3];
    uint32_t node[3];
    uint64_t n = 1 + below(3);
    for (uint64_t i = 0; i < n; i++) {
        fault[i] = (enum fault)below(kinds);
        node[i] = (uint32_t)below(n_nodes + 1ul);
        if (node[i] == n_nodes)
            node[i] = fault[i] < SHORT_ONES ? COORDINATOR : 0;
        if (harness_core(h, node[i]))
            do_fault(fault[i], node[i]);
        else
            fault[i] = FAULTS;
        run(below(budget_ms / n));
    }
    for (uint64_t i = 0; i < n; i++)
        undo_fault(fault[i], node[i]);
}

static void assert_converged(void)
{
    const struct pm_core *c = harness_core(h, COORDINATOR);
    cr_assert(c, "seed %lu: %s%s", seed, harness_said(h), harness_died(h));
    cr_assert(pm_set_empty(pm_dead_nodes(c)), "seed %lu: %s", seed, harness_said(h));
    cr_assert(pm_set_empty(pm_suspect_nodes(c)), "seed %lu", seed);
    for (uint32_t i = 0; i < n_nodes; i++) {
        cr_assert(harness_core(h, i), "seed %lu: %s", seed, harness_died(h));
        cr_assert_neq(pm_next_hop(c, i), PM_NODE_NONE, "seed %lu node %u", seed, i);
        cr_assert_gt(lease_ns[i], harness_now_ns(h), "seed %lu node %u", seed, i);
        cr_assert_eq(pm_view(harness_core(h, i)), pm_view(c), "seed %lu node %u", seed, i);
        for (uint32_t k = 0; k < 2; k++)
            cr_assert(harness_rank(h, i, k)->alive && !harness_rank(h, i, k)->stopped, "seed %lu",
                      seed);
    }
}

static void ends_well(void)
{
    run(1000);
    harness_all_ranks_end(h);
    cr_assert(harness_run_until_exit(h, 200000), "seed %lu: %s%s", seed, harness_said(h),
              harness_died(h));
    harness_free(h);
}

static void short_faults(uint64_t this_seed)
{
    seed = this_seed;
    make_random_step();
    form((uint32_t)(2 + below(20)), 20000 + below(2000000));
    for (uint64_t rounds = 1 + below(5); rounds > 0; rounds--) {
        disturb(SHORT_ONES, options.node_timeout_ms * 45 / 100);
        run(2 * options.node_timeout_ms);
        assert_converged();
    }
    ends_well();
}

static void any_faults(uint64_t this_seed)
{
    seed = this_seed;
    make_random_step();
    form((uint32_t)(2 + below(20)), 20000 + below(2000000));
    for (uint64_t rounds = 1 + below(5); rounds > 0 && !harness_exited(h, NULL); rounds--) {
        disturb(FAULTS, options.node_timeout_ms * (below(3) ? 1 : 4));
        run(2 * options.node_timeout_ms);
    }
    ends_well();
}

static void for_seeds(void (*test)(uint64_t), uint64_t n)
{
    const char *one = getenv("SEED");
    for (uint64_t s = 1; s <= n; s++)
        test(one ? strtoull(one, NULL, 0) : s);
}

Test(faults, below_half_the_timeout_nobody_dies_and_the_tree_heals, .init = setup, .timeout = 100)
{
    for_seeds(short_faults, 150);
}

Test(faults, whatever_happens_no_rank_outlives_its_lease_and_the_step_ends, .init = setup,
     .timeout = 100)
{
    for_seeds(any_faults, 200);
}
