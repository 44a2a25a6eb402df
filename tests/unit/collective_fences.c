// SPDX-License-Identifier: Apache-2.0
//
// See collective_fences.h.
#include "tests/unit/collective_fences.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint64_t current_seed;

void clear_set(struct pm_set *s)
{
    pm_set_done(s);
}
struct pm_set span(uint32_t first, uint32_t last)
{
    struct pm_set s = {0};
    pm_set_add_span(&s, first, last);
    return s;
}

// Nodes [first, last] enter the fence with this id.
void enter(struct net *net, uint32_t first, uint32_t last, struct net_fence fence)
{
    for (uint32_t i = first; i <= last; i++) {
        fence.node = i;
        net_fence(net, &fence);
    }
}

void expect(const struct net *net, uint32_t first, uint32_t last, uint64_t id,
            int32_t status)
{
    for (uint32_t i = first; i <= last; i++) {
        const struct net_done *d = net_answer(net, i, id);
        cr_assert(d, "node %u has no answer for %u (seed %u)", i, (unsigned)id,
                  (unsigned)current_seed);
        cr_assert_eq(d->status, status, "node %u: status %d, not %d", i, d->status, status);
    }
}

void expect_none(const struct net *net, uint32_t first, uint32_t last, uint64_t id)
{
    for (uint32_t i = first; i <= last; i++)
        cr_assert_null(net_answer(net, i, id), "node %u left early", i);
}

void expect_data(const struct net *net, uint32_t node, uint64_t id, const char *data)
{
    const struct net_done *d = net_answer(net, node, id);
    cr_assert(d);
    cr_assert_eq(d->len, strlen(data), "node %u: %zu bytes, not %zu", node, d->len, strlen(data));
    cr_assert(d->len == 0 || memcmp(d->data, data, d->len) == 0);
}

// "0;1;...;n-1;"
char *all_data(uint32_t n)
{
    char *text = calloc(n, 12);
    size_t at = 0;
    for (uint32_t i = 0; i < n; i++)
        at += (size_t)sprintf(text + at, "%u;", i);
    return text;
}

void lose(struct net *net, uint32_t epoch, uint32_t rank)
{
    struct pm_actions out = {0};
    struct pm_core *core = net_core(net, PM_NODE_COORDINATOR);
    core->now_ns = net->now_ns;
    core->out = &out;
    pm_collective_rank_lost(core, epoch, rank);
    pm_actions_done(&out);
}
