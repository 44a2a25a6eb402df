// SPDX-License-Identifier: Apache-2.0
//
// See fault_network.h.
#include "tests/sim/fault_network.h"

#include "tests/sim/check.h"
#include "tests/sim/fault.h"

static void cut(struct sim *s, uint32_t from, uint32_t to, bool is_cut)
{
    uint64_t bit = 1ull << to % 64;
    uint64_t *word = &s->hosts[from].cut[to / 64];
    if (from == to || ((*word & bit) != 0) == is_cut)
        return;
    *word ^= bit;
    sim_check_cut(s, from, to, is_cut);
}

static void cut_both(struct sim *s, uint32_t a, uint32_t b, bool is_cut)
{
    cut(s, a, b, is_cut);
    cut(s, b, a, is_cut);
}

void sim_strike_link_reset(struct sim *s, const struct sim_fault *f)
{
    uint32_t slot = sim_slot(s, f->node);
    struct sim_link *l = sim_link_between(s, slot, sim_slot(s, f->peer));
    l = l ? l : sim_link_between(s, slot, SIM_NONE);
    if (l)
        sim_link_reset(s, l);
}
void sim_strike_link_cut(struct sim *s, const struct sim_fault *f)
{
    cut_both(s, sim_slot(s, f->node), sim_slot(s, f->peer), true);
}
void sim_strike_link_healed(struct sim *s, const struct sim_fault *f)
{
    cut_both(s, sim_slot(s, f->node), sim_slot(s, f->peer), false);
}
void sim_strike_one_way_cut(struct sim *s, const struct sim_fault *f)
{
    cut(s, sim_slot(s, f->node), sim_slot(s, f->peer), true);
}
void sim_strike_node_cut(struct sim *s, const struct sim_fault *f)
{
    for (uint32_t i = 0; i < s->n; i++)
        cut_both(s, sim_slot(s, f->node), i, true);
}
void sim_strike_node_healed(struct sim *s, const struct sim_fault *f)
{
    for (uint32_t i = 0; i < s->n; i++)
        cut_both(s, sim_slot(s, f->node), i, false);
}
void sim_strike_node_slow(struct sim *s, const struct sim_fault *f)
{
    sim_check_disturbed(s, sim_slot(s, f->node), true);
    s->hosts[sim_slot(s, f->node)].slow_ms = f->arg;
}
void sim_strike_node_clogged(struct sim *s, const struct sim_fault *f)
{
    sim_check_disturbed(s, sim_slot(s, f->node), true);
    s->hosts[sim_slot(s, f->node)].clog_us = f->arg;
}
void sim_strike_node_quick(struct sim *s, const struct sim_fault *f)
{
    s->hosts[sim_slot(s, f->node)].slow_ms = 0;
    s->hosts[sim_slot(s, f->node)].clog_us = 0;
    sim_check_disturbed(s, sim_slot(s, f->node), false);
}
void sim_strike_link_slow(struct sim *s, const struct sim_fault *f)
{
    sim_slow_link_begin(s, f, f->arg, 0);
}
void sim_strike_link_clogged(struct sim *s, const struct sim_fault *f)
{
    sim_slow_link_begin(s, f, 0, f->arg);
}
void sim_strike_link_quick(struct sim *s, const struct sim_fault *f)
{
    sim_slow_link_end(s, sim_slot(s, f->node));
}
void sim_strike_partition(struct sim *s, const struct sim_fault *f)
{
    struct sim_rng r = sim_rng_of(s->p.seed, 100 + f->arg);
    uint64_t *side = sim_alloc(s->n, sizeof(*side));
    for (uint32_t i = 0; i < s->n; i++)
        side[i] = sim_rng_pick(&r, 2 + f->arg % 2);
    for (uint32_t a = 0; a < s->n; a++)
        for (uint32_t b = 0; b < s->n; b++)
            if (side[a] != side[b])
                cut(s, a, b, true);
    free(side);
}
void sim_strike_network_healed(struct sim *s, const struct sim_fault *f)
{
    (void)f;
    for (uint32_t a = 0; a < s->n; a++)
        for (uint32_t b = 0; b < s->n; b++)
            cut(s, a, b, false);
}
void sim_strike_mass_silence(struct sim *s, const struct sim_fault *f)
{
    for (uint32_t i = 0; i < f->arg; i++)
        for (uint32_t b = 0; b < s->n; b++)
            cut_both(s, (f->node + i) % s->p.nnodes, b, true);
}
void sim_strike_queue_full(struct sim *s, const struct sim_fault *f)
{
    sim_check_disturbed(s, sim_slot(s, f->node), true);
    s->hosts[sim_slot(s, f->node)].queue_max = 1 + f->arg;
}
void sim_strike_queue_free(struct sim *s, const struct sim_fault *f)
{
    s->hosts[sim_slot(s, f->node)].queue_max = 0;
    sim_check_disturbed(s, sim_slot(s, f->node), false);
}

void sim_strike_coord_cut(struct sim *s, const struct sim_fault *f)
{
    (void)f;
    for (uint32_t i = 0; i < s->p.nnodes; i++)
        cut_both(s, s->p.nnodes, i, true);
}
void sim_strike_coord_healed(struct sim *s, const struct sim_fault *f)
{
    (void)f;
    for (uint32_t i = 0; i < s->p.nnodes; i++)
        cut_both(s, s->p.nnodes, i, false);
}
