// SPDX-License-Identifier: Apache-2.0
//
// One slow or clogged link: between a node and one other process, both ways, while all their other links are as
// quick as ever. Of each node at most one at a time: a new one takes the place of the old.
#include "tests/sim/check.h"
#include "tests/sim/fault.h"
#include "tests/sim/link.h"

void sim_slow_link_end(struct sim *s, uint32_t slot)
{
    struct sim_slow_link *slow = &s->hosts[slot].slow_link;
    if (!slow->on)
        return;
    slow->on = false;
    sim_check_disturbed(s, slot, false);
    sim_check_disturbed(s, slow->peer, false);
}

// The link to the peer that was drawn, else any that the node has.
void sim_slow_link_begin(struct sim *s, const struct sim_fault *f, uint32_t more_ms, uint32_t frame_us)
{
    uint32_t slot = sim_slot(s, f->node);
    const struct sim_link *l = sim_link_between(s, slot, sim_slot(s, f->peer));
    l = l ? l : sim_link_between(s, slot, SIM_NONE);
    if (!l)
        return;
    sim_slow_link_end(s, slot);
    uint32_t peer = l->end[l->end[0].slot == slot ? 1 : 0].slot;
    s->hosts[slot].slow_link = (struct sim_slow_link){true, peer, more_ms, frame_us};
    sim_check_disturbed(s, slot, true);
    sim_check_disturbed(s, peer, true);
}

static const struct sim_slow_link *slow_between(const struct sim *s, uint32_t a, uint32_t b)
{
    const struct sim_slow_link *of_a = &s->hosts[a].slow_link, *of_b = &s->hosts[b].slow_link;
    if (of_a->on && of_a->peer == b)
        return of_a;
    return of_b->on && of_b->peer == a ? of_b : NULL;
}

uint64_t sim_slow_link_at(const struct sim *s, const struct sim_link *l, uint32_t to, uint64_t at_ns)
{
    const struct sim_slow_link *slow = slow_between(s, l->end[0].slot, l->end[1].slot);
    if (!slow)
        return at_ns;
    uint64_t free_ns = l->pipe[to].last_ns + slow->frame_us * SIM_US;
    at_ns += slow->more_ms * SIM_MS;
    return at_ns > free_ns ? at_ns : free_ns;
}
