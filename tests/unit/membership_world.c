// SPDX-License-Identifier: Apache-2.0
//
// See membership_world.h.
#include "tests/unit/membership_world.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

struct harness *h;
struct pm_options options;
uint32_t n_nodes;
int refusals;
bool nameless;
uint32_t named_dials;
uint32_t links_max;
static bool has_left;        // and reaches none of its ancestors
bool leave_on_attach;
bool useless;
const uint32_t *rates;

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

void setup(void)
{
    harness_default_options(&options);
    nameless = leave_on_attach = has_left = useless = false;
    rates = NULL;
    refusals = 0;
    named_dials = links_max = 0;
}

void make(uint32_t nnodes, uint32_t fanout)
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

void form(uint32_t nnodes, uint32_t fanout)
{
    make(nnodes, fanout);
    harness_launch(h, 0);
    cr_assert(harness_run_until_state(h, PM_STATE_RUNNING, 30000));
    harness_run_ms(h, options.node_timeout_ms);
}

struct pm_core *coordinator(void)
{
    return harness_core(h, COORDINATOR);
}

uint64_t t_ms(void)
{
    return options.node_timeout_ms;
}

bool said(const char *what)
{
    return strstr(harness_said(h), what) != NULL;
}

void assert_nobody_is_dead(void)
{
    cr_assert(coordinator() && pm_core_state(coordinator()) == PM_STATE_RUNNING, "%s%s",
              harness_said(h), harness_died(h));
    cr_assert(pm_set_empty(pm_dead_nodes(coordinator())));
}

void assert_all_is_well(void)
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
uint64_t ms_until_stop(uint64_t max_ms)
{
    uint64_t from = harness_now_ns(h);
    bool stops = harness_run_until(h, is_stopping, NULL, max_ms);
    return stops ? (harness_now_ns(h) - from) / HARNESS_MS : UINT64_MAX;
}

void done(void)
{
    harness_free(h);
}
