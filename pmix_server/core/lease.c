// SPDX-License-Identifier: Apache-2.0
//
// Leases: no rank runs that the coordinator may believe dead.
//
// T is the node timeout, k = 0.3 s the time in which a signal has reached every process of a node,
// r = 20 % what two machines' CLOCK_BOOTTIME rates may differ, L = (T - k) / (1 + r) what the
// coordinator grants. Clocks of two machines are never compared: a child sends PING{seq}, the
// parent answers GRANT{seq, remaining}, and the child's lease ends at its own send time of that
// ping plus `remaining`. A parent other than the coordinator counts `remaining` from its receipt of
// the ping to the end of its own lease, so no lease outlives the coordinator's grant at any depth;
// when its own lease is renewed it grants again, for the same ping. A grant that arrives late
// (buffered while the child was stopped) is worth nothing by then, because its ping is old.
//
// A child is quiet after T/4 without a frame and silent after T/2, or when the newest grant that it
// has seen stands still for T/2 while newer ones were sent (the link is dead one way). A child has also seen those
// that were worth nothing, or a parent that has withheld its grants for that reason would do so for ever. A parent
// that has reported a child silent, or adopted it, grants nothing until the coordinator has
// confirmed.
#include <errno.h>

#include "pmix_server/core/membership.h"

uint64_t pm_lease_length_ns(uint64_t t_ns)
{
    return t_ns > PM_K_NS ? (t_ns - PM_K_NS) * 10 / 12 : t_ns / 2;
}

// --- the child's side --------------------------------------------------------------------------

void pm_lease_tick(struct pm_core *core)
{
    struct pm_membership *m = core->membership;
    if (m->parent_link == 0)
        return;
    struct pm_lease *l = &m->lease;
    l->seq++;
    l->sent_ns[l->seq % PM_PINGS] = core->now_ns;
    struct pm_writer w = {0};
    pm_write_u8(&w, PM_FRAME_PING);
    pm_write_u32(&w, l->seq);
    pm_write_u32(&w, l->seen);
    pm_link_send(core, m->parent_link, &w);
}

static void publish(struct pm_core *core)
{
    pm_emit(core, PM_ACTION_SET_LEASE)->deadline_ns = core->membership->lease.end_ns;
}

static void renew(struct pm_core *core, uint64_t end_ns)
{
    struct pm_membership *m = core->membership;
    struct pm_lease *l = &m->lease;
    bool first = l->end_ns == 0, ended = !first && !l->held;
    l->end_ns = end_ns;
    l->held = true;
    l->orphan_end_ns = end_ns + m->orphan_ns;
    l->progress_ns = l->renewed_ns = core->now_ns;
    publish(core);
    if (first)
        pm_node_on_first_lease(core);
    else if (ended)
        pm_node_on_lease(core, true);
    for (uint32_t i = 0; i < m->n_children; i++) {
        struct pm_child *c = &m->children[i];
        if (core->now_ns - c->heard_ns < m->t_ns / 4)
            pm_lease_grant(core, c);
    }
}

void pm_lease_on_grant(struct pm_core *core, struct pm_reader *r)
{
    struct pm_lease *l = &core->membership->lease;
    uint32_t seq = pm_read_u32(r);
    uint64_t remaining = pm_read_u64(r);
    if (pm_reader_end(r) < 0 || seq == 0 || seq > l->seq) {
        r->error = -EBADMSG;
        return;
    }
    if (seq > l->seen)
        l->seen = seq; // also of one that is worth nothing: it says that grants arrive
    if (l->seq - seq >= PM_PINGS || remaining == 0)
        return;
    if (remaining > core->membership->lease_ns)
        remaining = core->membership->lease_ns;
    uint64_t end_ns = l->sent_ns[seq % PM_PINGS] + remaining;
    if (end_ns > l->end_ns && end_ns > core->now_ns)
        renew(core, end_ns);
}

uint64_t pm_lease_end_ns(const struct pm_core *core)
{
    return core->membership->lease.end_ns;
}

void pm_lease_clock(struct pm_core *core)
{
    struct pm_membership *m = core->membership;
    struct pm_lease *l = &m->lease;
    if (l->held && core->now_ns >= l->end_ns) {
        l->held = false;
        pm_node_on_lease(core, false);
    }
    if (l->end_ns != 0 && !l->held && core->now_ns >= l->orphan_end_ns)
        pm_seek_outcast(core, "the coordinator has not been heard of for the orphan timeout");
}

// --- the parent's side -------------------------------------------------------------------------

// What a child with this ping may have: nanoseconds from the receipt of the ping, 0: nothing.
static uint64_t remaining_ns(struct pm_core *core, const struct pm_child *c)
{
    struct pm_membership *m = core->membership;
    if (c->withheld)
        return 0;
    if (core->coordinator)
        return m->lease_ns;
    if (!m->lease.held || m->lease.end_ns <= c->ping_ns)
        return 0;
    return m->lease.end_ns - c->ping_ns;
}

void pm_lease_grant(struct pm_core *core, struct pm_child *c)
{
    if (c->ping_seq == 0)
        return;
    uint64_t remaining = remaining_ns(core, c);
    struct pm_writer w = {0};
    pm_write_u8(&w, PM_FRAME_GRANT);
    pm_write_u32(&w, c->ping_seq);
    pm_write_u64(&w, remaining);
    pm_link_send(core, c->link, &w);
    if (remaining == 0)
        return;
    c->granted_ns = core->now_ns;
    c->granted_seq = c->ping_seq;
    if (c->granted_seq > c->seen_seq && c->unseen_ns == 0)
        c->unseen_ns = core->now_ns;
}

void pm_lease_on_ping(struct pm_core *core, struct pm_child *c, struct pm_reader *r)
{
    uint32_t seq = pm_read_u32(r);
    uint32_t seen = pm_read_u32(r);
    if (pm_reader_end(r) < 0 || seq <= c->ping_seq || seen > seq) {
        r->error = -EBADMSG;
        return;
    }
    c->ping_seq = seq;
    c->ping_ns = core->now_ns;
    if (seen > c->seen_seq) {
        c->seen_seq = seen;
        c->unseen_ns = seen >= c->granted_seq ? 0 : core->now_ns;
    }
    if (c->reported != PM_REPORT_FINE)
        pm_lease_check_child(core, c, false); // what it has seen may clear it
    pm_lease_grant(core, c);
}

static uint8_t judge_child(const struct pm_membership *m, const struct pm_child *c, uint64_t now_ns)
{
    uint64_t silent = now_ns - c->heard_ns;
    uint64_t unseen = c->unseen_ns ? now_ns - c->unseen_ns : 0;
    if (silent >= m->t_ns / 2 || unseen >= m->t_ns / 2)
        return PM_REPORT_SILENT;
    return silent >= m->t_ns / 4 ? PM_REPORT_QUIET : PM_REPORT_FINE;
}

void pm_lease_check_child(struct pm_core *core, struct pm_child *c, bool repeat)
{
    struct pm_membership *m = core->membership;
    uint8_t kind = judge_child(m, c, core->now_ns);
    bool open = kind != PM_REPORT_FINE || c->withheld || c->owed;
    if (kind == c->reported && !(repeat && open))
        return;
    c->reported = kind;
    c->owed = true;
    if (kind == PM_REPORT_SILENT)
        c->withheld = true;
    uint64_t silent = core->now_ns - c->heard_ns;
    uint64_t unseen = c->unseen_ns ? core->now_ns - c->unseen_ns : 0;
    struct pm_child_report report = {
        .node = c->node,
        .attach = c->attach,
        .parent = m->self,
        .via = m->attach,
        .kind = kind,
        .silent_ns = silent > unseen ? silent : unseen,
        .granted_ns = c->granted_ns ? core->now_ns - c->granted_ns : m->t_ns,
    };
    if (core->coordinator && kind == PM_REPORT_FINE)
        c->withheld = c->owed = false;
    pm_relay_report(core, &report);
}

uint64_t pm_lease_deadline_ns(const struct pm_membership *m)
{
    if (m->lease.end_ns == 0 || m->outcast)
        return UINT64_MAX;
    return m->lease.held ? m->lease.end_ns : m->lease.orphan_end_ns;
}
