// SPDX-License-Identifier: Apache-2.0
//
// The numbered tree: where a node hangs when nothing is lost. Pure arithmetic on node ids, so every
// process knows it without being told. The coordinator is the root, its children are 0..F-1 and
// those of node i are F*(i+1)..F*(i+1)+F-1. A parent's id is smaller than its children's, which is
// why attachments that keep this order can never form a cycle.
#include <assert.h>

#include "pmix_server/core/internal.h"

uint32_t pm_tree_parent(uint32_t node, uint32_t fanout)
{
    assert(fanout > 0 && node != PM_NODE_COORDINATOR);
    return node < fanout ? PM_NODE_COORDINATOR : node / fanout - 1;
}

uint32_t pm_tree_home(uint32_t node, uint32_t fanout, uint32_t first_spare)
{
    do
        node = pm_tree_parent(node, fanout);
    while (node != PM_NODE_COORDINATOR && node >= first_spare);
    return node;
}

uint32_t pm_tree_ancestor(uint32_t node, uint32_t fanout, uint32_t steps)
{
    while (steps-- > 0 && node != PM_NODE_COORDINATOR)
        node = pm_tree_parent(node, fanout);
    return node;
}

bool pm_tree_is_ancestor(uint32_t ancestor, uint32_t node, uint32_t fanout)
{
    return pm_tree_next_hop(ancestor, node, fanout) != PM_NODE_NONE;
}

uint32_t pm_tree_next_hop(uint32_t from, uint32_t node, uint32_t fanout)
{
    while (node != PM_NODE_COORDINATOR) {
        uint32_t parent = pm_tree_parent(node, fanout);
        if (parent == from)
            return node;
        if (from != PM_NODE_COORDINATOR && node < from)
            break; // ids shrink on the way up: `from` cannot come any more
        node = parent;
    }
    return PM_NODE_NONE;
}

uint32_t pm_tree_n_children(uint32_t node, uint32_t nnodes, uint32_t fanout)
{
    uint64_t first = node == PM_NODE_COORDINATOR ? 0 : (uint64_t)fanout * (node + 1ull);
    if (first >= nnodes)
        return 0;
    uint64_t left = nnodes - first;
    return left < fanout ? (uint32_t)left : fanout;
}
