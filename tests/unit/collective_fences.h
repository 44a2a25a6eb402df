// SPDX-License-Identifier: Apache-2.0
//
// Fences of many nodes over the tree of collective_net.h, and what has come of them. Assertions of Criterion fail
// the test that called.
#ifndef PM_TESTS_COLLECTIVE_FENCES_H
#define PM_TESTS_COLLECTIVE_FENCES_H

#include "tests/unit/collective_net.h"

#define SET __attribute__((cleanup(clear_set))) struct pm_set

extern uint64_t current_seed; // named when a random run fails

void clear_set(struct pm_set *s);
struct pm_set span(uint32_t first, uint32_t last);
// Nodes [first, last] enter the fence with this id.
void enter(struct net *net, uint32_t first, uint32_t last, struct net_fence fence);
// They have been answered, with this status.
void expect(const struct net *net, uint32_t first, uint32_t last, uint64_t id,
            int32_t status);
void expect_none(const struct net *net, uint32_t first, uint32_t last, uint64_t id);
void expect_data(const struct net *net, uint32_t node, uint64_t id, const char *data);
// "0;1;...;n-1;"
char *all_data(uint32_t n);
// The coordinator hears that a rank is lost.
void lose(struct net *net, uint32_t epoch, uint32_t rank);

#endif
