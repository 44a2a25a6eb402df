// SPDX-License-Identifier: Apache-2.0
//
// What will happen, in order of time. Events at the same time come in an order that the seed
// chooses: a fixed one would leave most schedules untried. Entries are values; what they refer to
// may be gone when they are due, which whoever handles them finds out.
#ifndef PM_TESTS_SIM_HEAP_H
#define PM_TESTS_SIM_HEAP_H

#include <stddef.h>
#include <stdint.h>

#include "tests/sim/rng.h"

struct sim_entry {
    uint64_t at_ns;
    uint32_t tie;
    uint32_t kind;
    uint32_t a;
    uint32_t b;
    uint64_t stamp; // of what it refers to, as its owner defines it
};

struct sim_heap {
    struct sim_entry *list;
    size_t n;
    size_t cap;
    struct sim_rng ties;
};

void sim_heap_push(struct sim_heap *h, struct sim_entry entry); // fills in `tie`
struct sim_entry sim_heap_pop(struct sim_heap *h);              // it is not empty
void sim_heap_done(struct sim_heap *h);

#endif
