// SPDX-License-Identifier: Apache-2.0
//
// Hash of struct pm_membership, for pm_core_digest: two states with equal hashes do the same from here
// on, whatever comes.
//
// Times are relative to now. A deadline that is past is like any other that is past, and an age that is
// beyond every bound it is compared with is like any higher one: otherwise a world at rest would never be
// in the same state twice. A clock that is late will set much of this anew at the next event
// (membership.c, woke_up()), so that is hashed which it will be; and since it may be up to T/8 late before
// it counts as that, what a sleep prolongs is told apart up to T/8 beyond its bound.
//
// Left out, since they mean something only beside those of other processes: link ids (their order counts), the
// view, numbers of pings and grants, ids of probes. Who compares worlds (tests/sim/explore_hash.c) adds them.
#include "pmix_server/core/membership.h"

#define TRIES_MAX 3 // seek.c counts no further

// What is decided with a clock that is late: nothing that was measured by it.
struct clock {
    uint64_t now_ns;
    uint64_t slept_ns; // 0: it is not late
    uint64_t t_ns;
};

static void digest_heard(struct pm_digest *d, const struct clock *c, uint64_t heard_ns, uint64_t cap_ns)
{
    pm_digest_age(d, c->slept_ns ? c->now_ns : heard_ns, c->now_ns, cap_ns);
}

// Here never is as long ago as can be.
static void digest_since(struct pm_digest *d, const struct clock *c, uint64_t then_ns, uint64_t cap_ns)
{
    uint64_t age_ns = then_ns ? c->now_ns - then_ns : cap_ns;
    pm_digest_u64(d, pm_min_ns(age_ns, cap_ns));
}

// --- links and children ------------------------------------------------------------------------

static uint64_t link_hash(const struct pm_membership *m, uint32_t index, const struct clock *c)
{
    const struct pm_link *link = &m->links[index];
    struct pm_digest d = {0};
    uint64_t before = 0; // to the same node, and dialed or accepted like this one
    for (uint32_t i = 0; i < index; i++)
        before += m->links[i].node == link->node && m->links[i].id % 2 == link->id % 2;
    pm_digest_u64(&d, (uint64_t)link->node << 32 | before << 9 | (uint64_t)link->role << 1 | link->id % 2);
    if (link->role == PM_ROLE_STRANGER)
        digest_heard(&d, c, link->heard_ns, pm_max_ns(c->t_ns / 2, 1000 * PM_MS));
    else if (link->role == PM_ROLE_PARENT) // which has to be heard soon after a short sleep
        pm_digest_age(&d, c->slept_ns >= c->t_ns / 2 ? c->now_ns : link->heard_ns, c->now_ns, c->t_ns / 4);
    return d.h;
}

static void digest_links(const struct pm_membership *m, const struct clock *c, struct pm_digest *d)
{
    uint64_t sum = 0; // in any order
    for (uint32_t i = 0; i < m->n_links; i++)
        sum += link_hash(m, i, c);
    pm_digest_u64(d, sum);
}

static void digest_child(const struct pm_membership *m, const struct pm_child *child, const struct clock *c,
                         struct pm_digest *d)
{
    pm_digest_u64(d, child->node);
    pm_digest_attach(d, child->node, child->attach);
    pm_digest_u64(d, (uint64_t)child->reported << 8 | (uint64_t)child->withheld << 3 |
                         (uint64_t)child->owed << 2 | (uint64_t)(child->ping_seq != 0) << 1 |
                         (uint64_t)(child->seen_seq < child->granted_seq));
    digest_heard(d, c, child->heard_ns, c->t_ns);
    pm_digest_u64(d, child->unseen_ns != 0);
    if (child->unseen_ns)
        digest_heard(d, c, child->unseen_ns, c->t_ns);
    if (m->self != PM_NODE_COORDINATOR) // who has the same to grant at any time
        digest_since(d, c, child->ping_ns, m->lease_ns);
    digest_since(d, c, child->granted_ns, c->t_ns);
}

// --- an agent ------------------------------------------------------------------------------------

static void digest_seek(const struct pm_seek *s, const struct clock *c, struct pm_digest *d)
{
    pm_digest_u64(d, (uint64_t)s->joined | (uint64_t)s->asked << 1 | (uint64_t)s->urgent << 2 |
                         (uint64_t)(s->link != 0) << 3 | (uint64_t)(s->link && s->named) << 4);
    bool seeks = s->since_ns != 0; // else it begins anew with the next search
    pm_digest_u64(d, seeks ? (uint64_t)s->step << 32 | (uint64_t)(s->dials % 2) << 16 | pm_min_ns(s->tries, TRIES_MAX)
                           : 0);
    pm_digest_u64(d, (uint64_t)s->refusals << 32 | s->redirects);
    pm_digest_u64(d, (uint64_t)(s->link ? s->node : 0) << 32 | s->last_parent);
    pm_digest_u64(d, (uint64_t)s->avoid << 32 | s->redirect);
    pm_digest_u64(d, seeks);
    pm_digest_due(d, s->next_ns, c->now_ns);
    pm_digest_due(d, s->link ? s->until_ns : 0, c->now_ns);
    pm_digest_age(d, s->link ? s->dialed_ns : 0, c->now_ns, c->t_ns / 2);
}

// Only until it has joined: how long it has tried, but for the time that it slept.
static void digest_joining(const struct pm_core *core, const struct clock *c, struct pm_digest *d)
{
    const struct pm_seek *s = &core->membership->seek;
    uint64_t patience_ns = core->config.options->start_timeout_ms * PM_MS;
    uint64_t awake_ns = c->now_ns - c->slept_ns;
    pm_digest_age(d, s->start_ns, awake_ns, pm_max_ns(patience_ns, 1000 * PM_MS) + c->t_ns / 8);
    pm_digest_age(d, s->refused_ns, awake_ns, c->t_ns + c->t_ns / 8);
    pm_digest_u64(d, s->reached);
    pm_digest_age(d, s->unanswered_ns, awake_ns, pm_max_ns(core->membership->orphan_ns, c->t_ns) + c->t_ns / 8);
}

static void digest_lease(const struct pm_lease *l, const struct clock *c, struct pm_digest *d)
{
    pm_digest_u64(d, (uint64_t)l->held << 1 | (l->end_ns != 0));
    pm_digest_due(d, l->end_ns, c->now_ns);
    digest_heard(d, c, l->progress_ns, c->t_ns / 8 * 5);
    pm_digest_u64(d, pm_min_ns(c->slept_ns, c->t_ns / 2));
    bool raw = c->slept_ns > 0 && c->slept_ns < c->t_ns / 2; // what becomes of it is not decided yet
    uint64_t awake_ns = raw ? c->now_ns : c->now_ns - c->slept_ns;
    pm_digest_age(d, l->renewed_ns, awake_ns, raw ? UINT64_MAX : c->t_ns / 8 * 5);
    pm_digest_due(d, l->end_ns ? l->orphan_end_ns + c->slept_ns : 0, c->now_ns - c->t_ns / 8);
}

static void digest_news(const struct pm_membership *m, const struct clock *c, struct pm_digest *d)
{
    pm_digest_due(d, m->up_due_ns, c->now_ns);
    pm_digest_due(d, m->up_free_ns, c->now_ns);
    pm_digest_set(d, &m->news_plain);
    pm_digest_set(d, &m->news_known);
    pm_digest_u64(d, (uint64_t)m->news_addresses.n << 32 | m->n_reports);
    for (uint32_t i = 0; i < m->news_addresses.n; i++)
        pm_digest_u64(d, m->news_addresses.list[i].node);
    for (uint32_t i = 0; i < m->n_reports; i++) {
        const struct pm_child_report *r = &m->reports[i];
        pm_digest_u64(d, (uint64_t)r->node << 32 | r->kind);
        pm_digest_attach(d, r->node, r->attach);
        pm_digest_u64(d, r->parent);
        pm_digest_attach(d, r->parent, r->via);
        pm_digest_u64(d, pm_min_ns(r->silent_ns, c->t_ns));
        pm_digest_u64(d, pm_min_ns(r->granted_ns, c->t_ns));
    }
}

// --- the coordinator -----------------------------------------------------------------------------

static void digest_suspect(const struct pm_core *core, const struct pm_suspect *s, const struct clock *c,
                           struct pm_digest *d)
{
    bool late = c->slept_ns > 0;
    uint64_t orphan_ns = core->config.options->orphan_timeout_ms * PM_MS;
    pm_digest_u64(d, s->node);
    bool quiet = s->kind == PM_REPORT_QUIET;
    pm_digest_u64(d, (uint64_t)s->unreachable << 3 | (uint64_t)quiet << 2 | (uint64_t)s->root_dead << 1 | s->stuck);
    pm_digest_u64(d, !late && s->refused);
    pm_digest_set(d, &s->pending);
    pm_digest_age(d, s->first_ns, c->now_ns, pm_max_ns(orphan_ns, c->t_ns / 2));
    digest_since(d, c, s->granted_ns, c->t_ns);
    digest_since(d, c, s->asked_ns, c->t_ns / 2);
    digest_heard(d, c, s->since_ns, c->t_ns);
    pm_digest_due(d, late ? c->now_ns + c->t_ns : s->deadline_ns, c->now_ns);
    pm_digest_u64(d, !late && s->dead_ns != 0);
    pm_digest_due(d, late ? 0 : s->dead_ns, c->now_ns);
    pm_digest_due(d, late ? 0 : s->probe_ns, c->now_ns);
}

// Whom a probe is given to goes round with its number: over any of so few children. Of two nodes there is only
// one that can be asked about the other.
static uint64_t probe_round(const struct pm_membership *m)
{
    uint64_t few = m->nnodes == 0 || m->nnodes > 6 ? 0 : m->nnodes > 3 ? 60 : m->nnodes > 2 ? 6 : 1;
    return few ? m->judge.last_probe_id % few : m->judge.last_probe_id;
}

// What is reported as silent for longer than since then counts from then. A child's times are set anew by the
// same clock; what others will say of theirs is not known here.
static bool anew_matters(const struct pm_membership *m, const struct clock *c)
{
    uint64_t anew_ns = m->judge.anew_ns;
    bool others = m->edges.plain.n > 0 && m->edges.plain.spans[m->edges.plain.n - 1].last >= m->fanout;
    for (uint32_t i = 0; i < m->edges.n; i++)
        others |= m->edges.known[i].parent != PM_NODE_COORDINATOR;
    for (uint32_t i = 0; !c->slept_ns && i < m->n_children; i++) {
        const struct pm_child *child = &m->children[i];
        others |= child->heard_ns < anew_ns || (child->unseen_ns != 0 && child->unseen_ns < anew_ns);
    }
    return others;
}

static void digest_judge(const struct pm_core *core, const struct clock *c, struct pm_digest *d)
{
    const struct pm_judge *j = &core->membership->judge;
    bool asked = j->asked_ns != 0 && c->now_ns - j->asked_ns < c->t_ns;
    pm_digest_u64(d, (uint64_t)j->n << 32 | j->n_dead);
    for (uint32_t i = 0; i < j->n; i++)
        digest_suspect(core, &j->list[i], c, d);
    for (uint32_t i = 0; i < j->n_dead; i++) {
        const struct pm_dead *dead = &j->dead[i];
        pm_digest_u64(d, (uint64_t)dead->node << 2 | (uint64_t)dead->refused << 1 | pm_was_silent(core, dead->node));
        pm_digest_due(d, dead->over_ns, c->now_ns);
    }
    bool heard = j->isolated && j->heard && c->slept_ns == 0;
    pm_digest_u64(d, (uint64_t)j->isolated | (uint64_t)(asked && j->waiting) << 1 |
                         (uint64_t)heard << 2 | (uint64_t)j->job_state << 8);
    pm_digest_age(d, j->isolated ? j->isolated_ns : 0, c->now_ns,
                  core->config.options->orphan_timeout_ms * PM_MS);
    pm_digest_time(d, asked ? j->asked_ns : 0, c->now_ns);
    bool anew = anew_matters(core->membership, c);
    digest_since(d, c, !anew ? 0 : c->slept_ns ? c->now_ns : j->anew_ns, c->t_ns);
    pm_digest_due(d, c->slept_ns ? 0 : core->membership->stopped ? UINT64_MAX : j->next_ns, c->now_ns);
    pm_digest_u64(d, probe_round(core->membership));
}

static void digest_coordinator(const struct pm_core *core, const struct clock *c, struct pm_digest *d)
{
    const struct pm_membership *m = core->membership;
    pm_digest_due(d, m->view_due_ns, c->now_ns);
    pm_digest_due(d, m->view_free_ns, c->now_ns);
    pm_digest_u64(d, m->addresses.n);
    for (uint32_t i = 0; i < m->addresses.n; i++)
        pm_digest_u64(d, m->addresses.list[i].node);
    digest_judge(core, c, d);
}

// --- all of it -----------------------------------------------------------------------------------

static void digest_agent(const struct pm_core *core, const struct clock *c, struct pm_digest *d)
{
    const struct pm_membership *m = core->membership;
    digest_seek(&m->seek, c, d);
    if (!m->seek.joined)
        digest_joining(core, c, d);
    digest_lease(&m->lease, c, d);
    digest_news(m, c, d);
}

void pm_membership_digest(const struct pm_core *core, uint64_t now_ns, struct pm_digest *d)
{
    const struct pm_membership *m = core->membership;
    const struct clock c = {now_ns, pm_clock_slept_ns(m, now_ns), m->t_ns};
    pm_digest_u64(d, (uint64_t)m->stopped | (uint64_t)m->outcast << 1);
    pm_digest_u64(d, m->parent);
    if (!core->coordinator)
        pm_digest_attach(d, m->self, m->attach);
    pm_digest_u64(d, c.slept_ns > 0);
    pm_digest_time(d, c.slept_ns ? 0 : m->tick_ns, now_ns);
    pm_digest_set(d, &m->dead);
    pm_edges_digest(&m->edges, d);
    digest_links(m, &c, d);
    pm_digest_u64(d, m->n_children);
    for (uint32_t i = 0; i < m->n_children; i++)
        digest_child(m, &m->children[i], &c, d);
    if (core->coordinator)
        digest_coordinator(core, &c, d);
    else
        digest_agent(core, &c, d);
}
