// SPDX-License-Identifier: Apache-2.0
//
// See explore.h: at one instant processes go one after the other.
//
// With --latency-us what somebody sends at an instant arrives at a later one. So what the processes do at an
// instant cannot reach one another there, and it makes no difference whose turn is first: agents go in the order
// of their nodes, the coordinator last. What one process does is still tried in every order. This leaves out
// only worlds in the middle of an instant; where time passes, they are the same ones ("instants" of explore.c's
// last line: how many, and the sum of their hashes; --every-order shows those of all orders).
//
// What the argument needs, and why it holds:
//   - Nobody's choices grow or shrink by what another does at that instant. Whatever is sent arrives later, and
//     behind what was sent before; so does the end of all agents when srun is told to end the step. A socket that is closed here drops what comes to it, and what is then sent to
//     it, in either order; a dial that is given up is not taken back when the other may be reading it just now
//     (explore_act.c, dial_arrives()). Time does not pass before what must happen has happened.
//   - What is checked does not depend on the order: a rank that ran at an instant counts as one that runs there
//     (x_node.ran_ns), whoever looks first.
//   - Faults strike anywhere, so all orders are tried as long as there may be one. Trouble ends at the beginning
//     of an instant.
//   - Nothing may be left for a later instant (x_delay_ns is 0).
#include "tests/sim/explore.h"

bool x_every_order;

bool x_one_by_one(const struct x_world *w)
{
    return !x_every_order && x_latency_ns > 0 && x_delay_ns == 0 && w->faults >= x_max_faults;
}

// Who does it, as far as it must be done before time passes; UINT32_MAX: it need not, or it is nobody's.
static uint32_t process_of(const struct x_world *w, struct x_choice c)
{
    switch (c.kind) {
    case X_DELIVER:
        return x_receiver(w, &w->items[c.a]);
    case X_TIMER:
        return c.a;
    case X_DIAL_OVER:
        return w->links[c.a].slot[0];
    default:
        return UINT32_MAX;
    }
}

void x_reduce(const struct x_world *w, struct x_choices *list)
{
    uint32_t busy = 0, n = 0;
    for (uint32_t i = 0; i < list->n; i++)
        if (process_of(w, list->at[i]) != UINT32_MAX)
            busy |= 1u << process_of(w, list->at[i]);
    uint32_t others = busy & (busy - 1); // not the first one
    for (uint32_t i = 0; i < list->n; i++) {
        struct x_choice c = list->at[i];
        uint32_t process = c.kind == X_RANK_ENDS ? c.a : process_of(w, c); // its shim is its agent's
        if (process == UINT32_MAX || !(others >> process & 1))
            list->at[n++] = c;
    }
    list->n = n;
}
