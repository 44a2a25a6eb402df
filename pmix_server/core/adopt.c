// SPDX-License-Identifier: Apache-2.0
//
// A node says ATTACH: it becomes a child here, or is sent to somebody else.
//
// The coordinator takes its own children of the numbered tree; any other node is sent to its
// nearest living ancestor, and taken only if there is none. An ancestor with more than 4 x fan-out
// children (the coordinator: 48 adopted ones) sends newcomers on to a child whose id is below
// theirs: a parent's id stays below its children's, so no cycle can form. Without such a child it
// takes them as long as there are links. A spare takes nobody: it stays a leaf. A child that attaches again replaces its old link without
// being lost in between.
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pmix_server/core/membership.h"

#define ADOPTIONS_MAX 48 // out of PM_LINKS_SPARE: the coordinator's; an agent's in need

struct attach {
    uint32_t node;
    uint32_t number;
    uint32_t avoid;
    char addresses[PM_ADDRESSES_MAX];
    struct pm_edges edges;
};

// A child that may take `node` in our place; PM_NODE_NONE: nobody. One that did not answer is named if
// there is no other: it may not have been found by its name, and we know its addresses.
static uint32_t deputy(struct pm_core *core, const struct attach *a)
{
    struct pm_membership *m = core->membership;
    uint32_t n = pm_child_index(m, a->node); // children with smaller ids
    uint32_t last = PM_NODE_NONE;
    for (uint32_t i = 0; i < n; i++) {
        const struct pm_child *c = &m->children[(i + a->node) % n];
        if (c->reported != PM_REPORT_FINE || c->node >= m->first_spare)
            continue;
        if (c->node != a->avoid)
            return c->node;
        last = c->node;
    }
    return last;
}

// The nearest ancestor that is attached and not in doubt; one that did not answer, and those below
// it, are not named again.
static uint32_t living_ancestor(struct pm_core *core, const struct attach *a)
{
    struct pm_membership *m = core->membership;
    uint32_t node = pm_tree_home(a->node, m->fanout, m->first_spare);
    if (a->avoid < PM_NODE_NONE && pm_tree_is_ancestor(a->avoid, a->node, m->fanout))
        node = pm_tree_home(a->avoid, m->fanout, m->first_spare);
    while (node != PM_NODE_COORDINATOR &&
           (pm_next_hop(core, node) == PM_NODE_NONE || pm_judge_is_suspect(core, node)))
        node = pm_tree_home(node, m->fanout, m->first_spare);
    return node;
}

static const char *addresses_of(struct pm_core *core, uint32_t node)
{
    struct pm_child *c = pm_child_find(core->membership, node);
    return c && c->addresses ? c->addresses : pm_addresses_get(&core->membership->addresses, node);
}

// `nobody_else`: without a place here the node has none at all, so no place is kept free for others.
static bool has_room(struct pm_core *core, bool nobody_else)
{
    struct pm_membership *m = core->membership;
    if (!core->coordinator)
        return m->n_children < 4 * m->fanout + (nobody_else ? ADOPTIONS_MAX : 0);
    uint32_t adopted = m->n_children - pm_child_index(m, m->fanout); // the others are its own
    bool few = !nobody_else && 3 * m->fanout < ADOPTIONS_MAX;
    return adopted < (few ? 3 * m->fanout : ADOPTIONS_MAX);
}

static bool is_home_of(const struct pm_membership *m, uint32_t node)
{
    return pm_tree_home(node, m->fanout, m->first_spare) == m->self;
}

static bool is_spare(const struct pm_membership *m)
{
    return m->self != PM_NODE_COORDINATOR && m->self >= m->first_spare;
}

// True if somebody else shall be the parent; the link is then gone.
static bool sent_elsewhere(struct pm_core *core, uint32_t link, const struct attach *a)
{
    struct pm_membership *m = core->membership;
    if (is_spare(m)) {
        pm_link_redirect(core, link, PM_NODE_NONE, "");
        return true;
    }
    if (pm_child_find(m, a->node) || is_home_of(m, a->node))
        return false;
    uint32_t to = PM_NODE_COORDINATOR;
    if (core->coordinator)
        to = living_ancestor(core, a);
    if (to == PM_NODE_COORDINATOR && has_room(core, false))
        return false;
    if (to == PM_NODE_COORDINATOR)
        to = deputy(core, a);
    if ((to == PM_NODE_NONE || to == a->avoid) && has_room(core, true))
        return false;
    if (core->coordinator)
        pm_judge_asked(core, a->node);
    pm_link_redirect(core, link, to, to == PM_NODE_NONE ? "" : addresses_of(core, to));
    return true;
}

static void send_attached(struct pm_core *core, uint32_t link, uint32_t number)
{
    struct pm_membership *m = core->membership;
    struct pm_writer w = {0};
    pm_write_u8(&w, PM_FRAME_ATTACHED);
    pm_write_u32(&w, number);
    pm_write_u64(&w, m->view);
    pm_write_set(&w, &m->dead);
    pm_link_send(core, link, &w);
}

static void keep_addresses(struct pm_core *core, struct pm_child *c, const struct attach *a)
{
    struct pm_membership *m = core->membership;
    free(c->addresses);
    c->addresses = strdup(a->addresses);
    if (!c->addresses)
        pm_out_of_memory(core);
    bool inner = m->nnodes == 0 || pm_tree_n_children(a->node, m->nnodes, m->fanout) > 0;
    if (*a->addresses && (inner || core->coordinator))
        pm_relay_address(core, a->node, a->addresses);
}

// The child on `link` from now on. False without memory.
static bool adopt(struct pm_core *core, uint32_t link, const struct attach *a)
{
    struct pm_membership *m = core->membership;
    struct pm_child *c = pm_child_find(m, a->node);
    bool again = c && c->link == link;
    if (c && !again) {
        pm_link_close(core, c->link);
        pm_child_remove(m, a->node);
        pm_on_child_gone(core, a->node);
    }
    c = again ? c : pm_child_add(core, a->node);
    if (!c)
        return false;
    bool first = a->number == 1 && is_home_of(m, a->node);
    c->link = link;
    c->attach = a->number;
    c->heard_ns = core->now_ns;
    c->withheld = !core->coordinator && !first;
    keep_addresses(core, c, a);
    pm_link_find(m, link)->role = PM_ROLE_CHILD;
    struct pm_edge edge = {a->node, m->self, a->number, true};
    pm_relay_edge(core, &edge);
    pm_relay_edges(core, &a->edges);
    send_attached(core, link, a->number);
    if (c->withheld)
        pm_lease_check_child(core, c, true);
    if (!again)
        pm_on_child(core, a->node);
    return true;
}

// It has attached anew since, here or elsewhere. That this has ended already, as seen by somebody who
// was asleep, makes no difference.
static bool is_late(const struct pm_membership *m, const struct attach *a)
{
    struct pm_edge edge;
    return pm_edges_get(&m->edges, a->node, m->fanout, &edge) && a->number <= edge.attach;
}

static void attach(struct pm_core *core, uint32_t link, const struct attach *a)
{
    struct pm_membership *m = core->membership;
    if (pm_set_has(&m->dead, a->node)) {
        pm_link_refuse(core, link);
        return;
    }
    if (is_late(m, a)) {
        pm_membership_reject(core, link);
        return;
    }
    if (!sent_elsewhere(core, link, a) && !adopt(core, link, a))
        pm_link_close(core, link);
}

void pm_adopt_on_attach(struct pm_core *core, struct pm_link *link, struct pm_reader *r)
{
    struct pm_membership *m = core->membership;
    struct attach a = {.node = link->node};
    a.number = pm_read_u32(r);
    a.avoid = pm_read_u32(r);
    pm_read_str(r, a.addresses, sizeof(a.addresses));
    if (pm_edges_read(r, &a.edges, pm_node_limit(core)) == -ENOMEM)
        pm_out_of_memory(core);
    bool below = a.node < pm_node_limit(core) && (core->coordinator || a.node > m->self);
    if (pm_reader_end(r) < 0 || a.number == 0 || !below)
        r->error = -EBADMSG;
    else
        attach(core, link->id, &a);
    pm_edges_done(&a.edges);
}
