// SPDX-License-Identifier: Apache-2.0
//
// Membership: which links there are, what may be said on them, and the clock of it all. Who says
// what is in membership.h; ATTACH is adopt.c, the search for a parent is seek.c, leases are
// lease.c, the coordinator's judgement is judge.c, the life of the struct is state.c.
//
// A link is accepted (even id, a stranger until it says what it wants) or dialed (odd id, for a
// purpose). Every frame type is allowed on some roles only; anything else closes the link. Silence
// is judged on TIMER only, when readable input has been drained; and a process whose own clock ran
// more than T/8 late (it was stopped) begins every suspicion anew. The coordinator holds fan-out +
// 64 links at most: its own children have their places, the rest is for adoptions and short
// questions.
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pmix_server/core/membership.h"

// --- frames ------------------------------------------------------------------------------------

#define ON(role) (1u << (role))

static const uint8_t allowed_on[] = {
    [PM_FRAME_ATTACH - 0x10] = ON(PM_ROLE_STRANGER) | ON(PM_ROLE_CHILD),
    [PM_FRAME_ATTACHED - 0x10] = ON(PM_ROLE_CANDIDATE) | ON(PM_ROLE_PARENT),
    [PM_FRAME_REDIRECT - 0x10] = ON(PM_ROLE_CANDIDATE),
    [PM_FRAME_REFUSED - 0x10] = ON(PM_ROLE_CANDIDATE) | ON(PM_ROLE_PARENT) | ON(PM_ROLE_PROBE),
    [PM_FRAME_PING - 0x10] = ON(PM_ROLE_CHILD),
    [PM_FRAME_GRANT - 0x10] = ON(PM_ROLE_PARENT),
    [PM_FRAME_UP - 0x10] = ON(PM_ROLE_CHILD),
    [PM_FRAME_DOWN - 0x10] = ON(PM_ROLE_PARENT),
    [PM_FRAME_CONFIRM - 0x10] = ON(PM_ROLE_PARENT),
    [PM_FRAME_PROBE - 0x10] = ON(PM_ROLE_PARENT),
    [PM_FRAME_PROBED - 0x10] = ON(PM_ROLE_CHILD),
    [PM_FRAME_CALL - 0x10] = ON(PM_ROLE_STRANGER),
};

static void handle_frame(struct pm_core *core, struct pm_link *link, uint8_t type,
                         struct pm_reader *r)
{
    switch (type) {
    case PM_FRAME_ATTACH:
        pm_adopt_on_attach(core, link, r);
        break;
    case PM_FRAME_ATTACHED:
    case PM_FRAME_REDIRECT:
    case PM_FRAME_REFUSED:
        pm_seek_frame(core, link, type, r);
        break;
    case PM_FRAME_PING:
        pm_lease_on_ping(core, pm_child_find(core->membership, link->node), r);
        break;
    case PM_FRAME_GRANT:
        pm_lease_on_grant(core, r);
        break;
    case PM_FRAME_CALL:
        if (!core->coordinator)
            pm_seek_now(core);
        break;
    default:
        pm_relay_frame(core, link, type, r);
    }
}

void pm_membership_frame(struct pm_core *core, uint32_t id, uint8_t type, struct pm_reader *r)
{
    struct pm_membership *m = core->membership;
    struct pm_link *link = pm_link_find(m, id);
    if (!link || m->outcast)
        return; // closed by us, its last frames are still coming
    uint32_t i = type - 0x10u;
    if (i >= sizeof(allowed_on) || !(allowed_on[i] & ON(link->role)))
        r->error = -EBADMSG;
    else
        handle_frame(core, link, type, r);
    pm_relay_flush(core);
}

bool pm_membership_hear(struct pm_core *core, uint32_t id, uint32_t *ret_node)
{
    struct pm_membership *m = core->membership;
    struct pm_link *link = pm_link_find(m, id);
    if (!link || m->outcast)
        return false;
    link->heard_ns = core->now_ns;
    *ret_node = link->node;
    if (link->role == PM_ROLE_CHILD) {
        struct pm_child *c = pm_child_find(m, link->node);
        assert(c && c->link == id);
        m->longest_silence_ns = pm_max_ns(m->longest_silence_ns, core->now_ns - c->heard_ns);
        c->heard_ns = core->now_ns;
        if (c->reported != PM_REPORT_FINE) {
            m->judge.heard = true;
            pm_lease_check_child(core, c, false);
        }
    }
    return link->role == PM_ROLE_CHILD || link->role == PM_ROLE_PARENT;
}

// --- links come and go ---------------------------------------------------------------------------

static void link_ended(struct pm_core *core, const struct pm_link *link, uint8_t end,
                       const char *text)
{
    struct pm_membership *m = core->membership;
    struct pm_link was = *link;
    pm_link_drop(m, was.id);
    if (was.role == PM_ROLE_CHILD)
        pm_child_lost(core, was.node);
    else if (was.role == PM_ROLE_CANDIDATE)
        pm_seek_link_down(core, was.node, end, text);
    else if (was.role == PM_ROLE_PROBE)
        pm_relay_probe_ended(core, was.probe_id, was.node, end);
    else if (was.role == PM_ROLE_PARENT)
        pm_seek_tick(core);
}

void pm_membership_reject(struct pm_core *core, uint32_t id)
{
    struct pm_link *link = pm_link_find(core->membership, id);
    if (!link)
        return;
    pm_emit(core, PM_ACTION_CLOSE)->link = id;
    link_ended(core, link, PM_LINK_CLOSED, "malformed frame");
}

static void accepted(struct pm_core *core, const struct pm_event *event)
{
    struct pm_membership *m = core->membership;
    uint32_t spare =
        core->coordinator ? m->fanout + PM_LINKS_SPARE : 4 * m->fanout + PM_LINKS_SPARE;
    bool own_child = event->node < m->fanout && core->coordinator;
    if ((m->n_links >= spare && !own_child) || m->outcast) {
        pm_emit(core, PM_ACTION_CLOSE)->link = event->link; // it comes again
        return;
    }
    if (m->tick_ns == UINT64_MAX)
        m->tick_ns = core->now_ns + m->t_ns / 8;
    if (pm_link_add(core, event->link, event->node, PM_ROLE_STRANGER) &&
        pm_set_has(&m->dead, event->node))
        pm_link_refuse(core, event->link);
}

static void link_up(struct pm_core *core, const struct pm_event *event)
{
    struct pm_link *link = pm_link_find(core->membership, event->link);
    core->membership->seek.reached = true;
    if (!link && event->link % 2 == 0) {
        accepted(core, event);
    } else if (!link || link->node != event->node) {
        pm_membership_reject(core, event->link);
    } else if (link->role == PM_ROLE_PROBE) {
        uint64_t id = link->probe_id;
        struct pm_writer w = {0};
        pm_write_u8(&w, PM_FRAME_CALL);
        pm_link_send(core, event->link, &w);
        pm_link_close(core, event->link);
        pm_relay_probe_ended(core, id, event->node, PM_PROBE_ANSWERED);
    } else if (link->role == PM_ROLE_CANDIDATE) {
        link->heard_ns = core->now_ns;
        pm_seek_link_up(core, link);
    }
}

static void link_down(struct pm_core *core, const struct pm_event *event)
{
    struct pm_link *link = pm_link_find(core->membership, event->link);
    if (link)
        link_ended(core, link, event->link_end, event->text);
    else if (event->link_end == PM_LINK_REJECTED && core->coordinator && event->text)
        pm_say(core, "%s", event->text);
}

// --- time --------------------------------------------------------------------------------------

// Our parent has less time to be heard again than others, unless the whole job slept: it may have been
// silent before, and whoever slept for less than T/2 must not be the one who comes too late.
static void forgive_links(struct pm_membership *m, uint64_t now_ns, uint64_t slept_ns)
{
    for (uint32_t i = 0; i < m->n_links; i++) {
        struct pm_link *link = &m->links[i];
        bool hurry = link->id == m->parent_link && slept_ns < m->t_ns / 2;
        link->heard_ns = now_ns - (hurry ? pm_min_ns(now_ns - link->heard_ns, m->t_ns / 32 * 7) : 0);
    }
    if (m->lease.renewed_ns != 0 && slept_ns >= m->t_ns / 2)
        m->lease.renewed_ns += slept_ns;
}

// We were stopped for a while (SIGSTOP, a suspended job): nobody is to blame for that time, and a
// job that was suspended for longer than the orphan timeout is no orphan.
static void woke_up(struct pm_core *core)
{
    struct pm_membership *m = core->membership;
    uint64_t slept_ns = core->now_ns - m->tick_ns;
    m->tick_ns = core->now_ns;
    forgive_links(m, core->now_ns, slept_ns);
    for (uint32_t i = 0; i < m->n_children; i++) {
        struct pm_child *c = &m->children[i];
        c->heard_ns = core->now_ns;
        c->unseen_ns = c->unseen_ns ? core->now_ns : 0;
    }
    m->lease.progress_ns = core->now_ns;
    if (m->lease.end_ns != 0)
        m->lease.orphan_end_ns += slept_ns;
    m->seek.start_ns += slept_ns;
    m->seek.refused_ns += m->seek.refused_ns ? slept_ns : 0;
    m->seek.unanswered_ns += m->seek.unanswered_ns ? slept_ns : 0;
    if (core->coordinator)
        pm_judge_restart(core);
}

void pm_membership_clock(struct pm_core *core)
{
    struct pm_membership *m = core->membership;
    if (m->outcast)
        return; // its clock stands, too: nothing becomes due any more
    if (m->tick_ns != UINT64_MAX && core->now_ns > m->tick_ns)
        m->longest_late_ns = pm_max_ns(m->longest_late_ns, core->now_ns - m->tick_ns);
    if (pm_clock_slept_ns(m, core->now_ns) > 0)
        woke_up(core);
    if (!core->coordinator)
        pm_lease_clock(core);
}

static void close_idle_strangers(struct pm_core *core)
{
    struct pm_membership *m = core->membership;
    uint64_t patience = m->t_ns / 2 > 1000 * PM_MS ? m->t_ns / 2 : 1000 * PM_MS;
    for (uint32_t i = m->n_links; i > 0; i--) {
        const struct pm_link *link = &m->links[i - 1];
        if (link->role == PM_ROLE_STRANGER && core->now_ns - link->heard_ns >= patience)
            pm_link_close(core, link->id);
    }
}

static void timer(struct pm_core *core)
{
    struct pm_membership *m = core->membership;
    if (m->outcast)
        return;
    if (core->now_ns >= m->tick_ns) {
        m->tick_ns = core->now_ns + m->t_ns / 8;
        if (!core->coordinator)
            pm_lease_tick(core);
        for (uint32_t i = 0; i < m->n_children; i++)
            pm_lease_check_child(core, &m->children[i], true);
        close_idle_strangers(core);
    }
    if (core->coordinator)
        pm_judge_tick(core);
    else
        pm_seek_tick(core);
}

void pm_membership_event(struct pm_core *core, const struct pm_event *event)
{
    if (event->type == PM_EVENT_TIMER)
        timer(core);
    else if (event->type == PM_EVENT_LINK_UP)
        link_up(core, event);
    else if (event->type == PM_EVENT_LINK_DOWN)
        link_down(core, event);
    else if (event->type == PM_EVENT_LAUNCHED)
        pm_node_limit_set(core, event->nnodes);
    else if (event->type == PM_EVENT_JOB_STATE)
        pm_judge_job_state(core, event->job_state);
    pm_relay_flush(core);
}

uint64_t pm_membership_deadline_ns(struct pm_membership *m)
{
    if (m->outcast)
        return UINT64_MAX;
    uint64_t d = pm_min_ns(m->tick_ns, pm_seek_deadline_ns(m));
    d = pm_min_ns(d, m->view_due_ns);
    d = pm_min_ns(d, pm_lease_deadline_ns(m));
    if (m->parent_link != 0)
        d = pm_min_ns(d, m->up_due_ns);
    if (m->self == PM_NODE_COORDINATOR && !m->stopped)
        d = pm_min_ns(d, m->judge.next_ns);
    return d;
}

void pm_membership_stop(struct pm_core *core)
{
    struct pm_membership *m = core->membership;
    m->stopped = true;
    while (m->judge.n > 0) {
        m->judge.n--;
        pm_set_done(&m->judge.list[m->judge.n].pending);
    }
    m->judge.nodes_valid = false;
}

// --- for the other modules -----------------------------------------------------------------------

bool pm_send_parent(struct pm_core *core, const struct pm_writer *frame)
{
    if (core->membership->parent_link == 0)
        return false;
    pm_link_emit(core, core->membership->parent_link, frame);
    return true;
}

bool pm_send_child(struct pm_core *core, uint32_t child, const struct pm_writer *frame)
{
    const struct pm_child *c = pm_child_find(core->membership, child);
    if (!c)
        return false;
    pm_link_emit(core, c->link, frame);
    return true;
}

void pm_send_children(struct pm_core *core, const struct pm_writer *frame)
{
    struct pm_membership *m = core->membership;
    for (uint32_t i = 0; i < m->n_children; i++)
        pm_link_emit(core, m->children[i].link, frame);
}

uint32_t pm_next_hop(const struct pm_core *core, uint32_t node)
{
    struct pm_membership *m = core->membership;
    struct pm_edge edge;
    while (node != PM_NODE_COORDINATOR && pm_edges_get(&m->edges, node, m->fanout, &edge)) {
        if (!edge.attached)
            break;
        if (edge.parent == m->self)
            return pm_child_find(m, node) ? node : PM_NODE_NONE;
        node = edge.parent;
    }
    return PM_NODE_NONE;
}

uint32_t pm_parent(const struct pm_core *core)
{
    return core->membership->parent;
}

const uint32_t *pm_children(const struct pm_core *core, uint32_t *ret_n)
{
    *ret_n = core->membership->n_children;
    return core->membership->child_ids;
}

uint64_t pm_view(const struct pm_core *core)
{
    return core->membership->view;
}

const struct pm_set *pm_dead_nodes(const struct pm_core *core)
{
    return &core->membership->dead;
}

const struct pm_set *pm_subtree(const struct pm_core *core, uint32_t child)
{
    struct pm_membership *m = core->membership;
    struct pm_child *c = pm_child_find(m, child);
    if (!c)
        return NULL;
    if (!c->subtree_valid) {
        pm_set_clear(&c->subtree);
        c->subtree_valid = pm_edges_subtree(&m->edges, child, m->fanout, &c->subtree) == 0;
        if (!c->subtree_valid)
            pm_out_of_memory(core);
    }
    return &c->subtree;
}
