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
//   - While a step stops or finishes all orders are tried: one order there missed 45 of the 7,618 worlds after a cut
//     from RUNNING, and why is not known.
//   - Nothing may be left for a later instant (x_delay_ns is 0).
//
// And of the coordinator's own orders one will do where all that can happen to it is heartbeats of children that
// it has nothing to say about, calls for a connection, and its own tick with nothing else due (all_calm()): each
// of them writes what none of the others reads. A coordinator that wakes finds many.
#include "tests/sim/explore.h"

#include "pmix_server/core/membership.h"

bool x_every_order;

bool x_one_by_one(const struct x_world *w)
{
    enum pm_state state = x_world_state(w);
    bool lives = state == PM_STATE_STARTING || state == PM_STATE_RUNNING || state == PM_STATE_HALTING ||
                 state == PM_STATE_PLACING;
    return lives && !x_every_order && x_latency_ns > 0 && x_delay_ns == 0 && w->faults >= x_max_faults;
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

// --- a calm coordinator --------------------------------------------------------------------------

// What was heard long ago is judged by the tick; a clock that is late sets it anew at once.
static bool heard_lately(const struct pm_membership *m, uint64_t now_ns)
{
    bool lately = true;
    for (uint32_t i = 0; i < m->n_children; i++) {
        const struct pm_child *c = &m->children[i];
        lately &= now_ns - c->heard_ns < m->t_ns / 4 && (c->unseen_ns == 0 || now_ns - c->unseen_ns < m->t_ns / 2);
    }
    for (uint32_t i = 0; i < m->n_links; i++)
        lately &= now_ns - m->links[i].heard_ns < m->t_ns / 2 || m->links[i].role != PM_ROLE_STRANGER;
    return lately || pm_clock_slept_ns(m, now_ns) > 0;
}

static bool nothing_to_say(const struct pm_core *core, uint64_t now_ns)
{
    const struct pm_membership *m = core->membership;
    const struct pm_judge *j = &m->judge;
    bool good = !m->stopped && j->n == 0 && !j->isolated && !j->waiting && m->view_due_ns > now_ns &&
                pm_supervisor_deadline_ns(core->supervisor) > now_ns &&
                pm_collective_deadline_ns(core->collective) > now_ns;
    for (uint32_t i = 0; i < m->n_children; i++) {
        const struct pm_child *c = &m->children[i];
        good &= c->reported == PM_REPORT_FINE && !c->withheld && !c->owed;
    }
    return good && heard_lately(m, now_ns);
}

static bool is_heartbeat(const struct x_world *w, const struct x_item *item, struct pm_membership *m)
{
    const struct x_link *l = &w->links[item->where];
    const struct pm_link *link = item->kind == X_FRAME ? pm_link_find(m, l->id[item->to]) : NULL;
    return link && link->role == PM_ROLE_CHILD && item->blob->data[0] == PM_FRAME_PING;
}

static bool all_calm(const struct x_world *w, const struct x_choices *list)
{
    const struct pm_core *core = w->cores[x_nnodes] ? w->cores[x_nnodes]->core : NULL;
    bool calm = core && nothing_to_say(core, w->now_ns);
    for (uint32_t i = 0; calm && i < list->n; i++)
        calm = list->at[i].kind != X_DIAL_OVER;
    for (uint32_t i = 0; calm && i < w->n_items; i++) {
        const struct x_item *item = &w->items[i];
        if (x_receiver(w, item) != x_nnodes || x_soonest_ns(item) > w->now_ns)
            continue;
        calm = item->kind == X_SYN ? !pm_set_has(&core->membership->dead, w->links[item->where].slot[0])
                                   : is_heartbeat(w, item, core->membership);
    }
    return calm;
}

// --- all of them ---------------------------------------------------------------------------------

void x_reduce(const struct x_world *w, struct x_choices *list)
{
    uint32_t busy = 0, n = 0;
    for (uint32_t i = 0; i < list->n; i++)
        if (process_of(w, list->at[i]) != UINT32_MAX)
            busy |= 1u << process_of(w, list->at[i]);
    uint32_t others = busy & (busy - 1); // not the first one
    bool one = busy == 1u << x_nnodes && all_calm(w, list), had = false;
    for (uint32_t i = 0; i < list->n; i++) {
        struct x_choice c = list->at[i];
        uint32_t process = c.kind == X_RANK_ENDS ? c.a : process_of(w, c); // its shim is its agent's
        bool late = one && process == x_nnodes && had;
        had |= process == x_nnodes;
        if (process == UINT32_MAX || (!(others >> process & 1) && !late))
            list->at[n++] = c;
    }
    list->n = n;
}
