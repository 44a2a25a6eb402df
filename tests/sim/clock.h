// SPDX-License-Identifier: Apache-2.0
//
// CLOCK_BOOTTIME of a simulated host: starts anywhere, runs at a rate of its own, never goes back.
// Rates lie within 1/sqrt(1.2)..sqrt(1.2) of real time, so that those of two hosts differ by 20 % at
// most, which is what a lease allows for (design, section 3: r).
#ifndef PM_TESTS_SIM_CLOCK_H
#define PM_TESTS_SIM_CLOCK_H

#include "tests/sim/rng.h"

#define SIM_RATE_ONE  (1u << 20)
#define SIM_RATE_LEAST 957212u  // 1 / sqrt(1.2), rounded up
#define SIM_RATE_MOST 1148656u // sqrt(1.2), rounded down

struct sim_clock {
    uint64_t base_ns;
    uint32_t rate; // per SIM_RATE_ONE of real time
};

static inline struct sim_clock sim_clock_of(struct sim_rng *r, bool skewed)
{
    return (struct sim_clock){
        .base_ns = 1000000000ull + sim_rng_below(r, 1000000000000ull),
        .rate = skewed ? (uint32_t)sim_rng_between(r, SIM_RATE_LEAST, SIM_RATE_MOST) : SIM_RATE_ONE,
    };
}

static inline uint64_t sim_clock_local_ns(const struct sim_clock *c, uint64_t real_ns)
{
    if (c->rate == SIM_RATE_ONE)
        return c->base_ns + real_ns;
    return c->base_ns + (uint64_t)((sim_u128)real_ns * c->rate / SIM_RATE_ONE);
}

// The first real time at which the clock shows `local_ns` or more; UINT64_MAX stays what it is.
static inline uint64_t sim_clock_real_ns(const struct sim_clock *c, uint64_t local_ns)
{
    if (local_ns == UINT64_MAX)
        return UINT64_MAX;
    if (local_ns <= c->base_ns)
        return 0;
    uint64_t since_ns = local_ns - c->base_ns;
    if (c->rate == SIM_RATE_ONE)
        return since_ns;
    return (uint64_t)(((sim_u128)since_ns * SIM_RATE_ONE + c->rate - 1) / c->rate);
}

#endif
