// SPDX-License-Identifier: Apache-2.0
//
// Random numbers of a simulated world: everything random comes from its seed through these, so one
// seed is one world. Several streams keep apart what would otherwise disturb each other: another
// fault must not change the latencies before it.
#ifndef PM_TESTS_SIM_RNG_H
#define PM_TESTS_SIM_RNG_H

#include <stdbool.h>
#include <stdint.h>

__extension__ typedef unsigned __int128 sim_u128;

struct sim_rng {
    uint64_t state;
};

static inline uint64_t sim_rng_mix(uint64_t z)
{
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

// splitmix64.
static inline uint64_t sim_rng_u64(struct sim_rng *r)
{
    return sim_rng_mix(r->state += 0x9e3779b97f4a7c15ull);
}

// The stream `number` of a seed. Mixed, for the states of one splitmix stream are equally spaced.
static inline struct sim_rng sim_rng_of(uint64_t seed, uint64_t number)
{
    uint64_t state = sim_rng_mix(seed * 0xd1b54a32d192ed03ull + 1);
    return (struct sim_rng){sim_rng_mix(state + number * 0x8cb92ba72f3d8dd7ull)};
}

// 0..n-1; 0 for n = 0.
static inline uint64_t sim_rng_below(struct sim_rng *r, uint64_t n)
{
    return n ? (uint64_t)((sim_u128)sim_rng_u64(r) * n >> 64) : 0;
}

static inline uint32_t sim_rng_pick(struct sim_rng *r, uint32_t n)
{
    return (uint32_t)sim_rng_below(r, n);
}

// lo..hi, both included.
static inline uint64_t sim_rng_between(struct sim_rng *r, uint64_t lo, uint64_t hi)
{
    return lo + sim_rng_below(r, hi - lo + 1);
}

static inline bool sim_rng_one_in(struct sim_rng *r, uint32_t n)
{
    return sim_rng_below(r, n) == 0;
}

#endif
