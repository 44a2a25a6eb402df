// SPDX-License-Identifier: Apache-2.0
//
// An agent looks for a parent.
//
// At the start: its parent in the numbered tree; after 1 s without success, or at once if that one
// cannot be reached at all, the coordinator, which either names an ancestor that lives, with its
// addresses, or takes the agent itself. Later, when the parent is lost or silent for T/4: the same
// parent again (a reset proves only that a link ended), then its ancestors one after another, and
// from T/2 without a grant on every other time the coordinator: a parent may also take us again and
// again and never grant. Attempts that time out are T/8 apart. There is one candidate at a time; the
// old parent stays until the candidate has said ATTACHED, so a wrong suspicion costs nothing.
//
// The search ends for good, as an outcast, when somebody says that we were declared dead, when the
// coordinator's address refuses us twice after we had joined (the coordinator is gone) or, before that,
// for T without exception (one that is merely busy has a handshake for us now and then), when
// another build or launch answers before we had joined, or when we could not join in time: within the start
// timeout, and as soon as there was a handshake with anybody, within the orphan timeout since the coordinator answered last.
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pmix_server/core/membership.h"

#define START_PATIENCE_NS (1000 * PM_MS) // with the tree parent
#define RETRY_NS          (20 * PM_MS)
#define REDIRECTS_MAX     16
#define GONE              "the coordinator is gone: its address refuses the connection"

void pm_seek_outcast(struct pm_core *core, const char *why)
{
    struct pm_membership *m = core->membership;
    if (m->outcast)
        return;
    m->outcast = true;
    m->up_due_ns = UINT64_MAX;
    pm_node_on_outcast(core, why);
}

static bool parent_is_silent(const struct pm_core *core, uint64_t limit_ns)
{
    struct pm_membership *m = core->membership;
    const struct pm_link *link = pm_link_find(m, m->parent_link);
    return !link || core->now_ns - link->heard_ns >= limit_ns;
}

// The parent answers but has nothing to grant: it is cut off itself, and we may not be.
static bool parent_is_useless(const struct pm_core *core)
{
    const struct pm_membership *m = core->membership;
    return m->parent_link != 0 && m->parent != PM_NODE_COORDINATOR && m->lease.end_ns != 0 &&
           core->now_ns - m->lease.progress_ns >= m->t_ns / 8 * 5;
}

static bool needs_parent(const struct pm_core *core)
{
    const struct pm_membership *m = core->membership;
    return m->seek.urgent || parent_is_silent(core, m->t_ns / 4) || parent_is_useless(core);
}

// --- whom to dial ------------------------------------------------------------------------------

static uint32_t next_target(struct pm_core *core)
{
    struct pm_membership *m = core->membership;
    struct pm_seek *s = &m->seek;
    if (!s->joined)
        return s->step == 0 ? pm_tree_home(m->self, m->fanout, m->first_spare) : PM_NODE_COORDINATOR;
    if (s->refusals > 0 || (!parent_is_silent(core, m->t_ns / 4) && parent_is_useless(core)))
        return PM_NODE_COORDINATOR;
    bool long_ago = core->now_ns - m->lease.renewed_ns >= m->t_ns / 2;
    if (long_ago && s->dials++ % 2 == 0) {
        if (s->avoid == PM_NODE_NONE && s->last_parent != PM_NODE_COORDINATOR)
            s->avoid = s->last_parent; // it may take us and still grant nothing
        return PM_NODE_COORDINATOR;
    }
    if (s->step == 0 && !pm_set_has(&m->dead, s->last_parent))
        return s->last_parent;
    if (s->step == 0)
        s->step = 1;
    uint32_t node = pm_tree_ancestor(m->self, m->fanout, s->step);
    while (node != PM_NODE_COORDINATOR &&
           (node == s->last_parent || node >= m->first_spare || pm_set_has(&m->dead, node)))
        node = pm_tree_ancestor(m->self, m->fanout, ++s->step);
    return node;
}

static uint64_t dial_timeout_ns(const struct pm_membership *m)
{
    uint64_t least = m->seek.joined ? 250 * PM_MS : 1000 * PM_MS;
    return m->t_ns / 8 > least ? m->t_ns / 8 : least;
}

static void dial(struct pm_core *core)
{
    struct pm_membership *m = core->membership;
    struct pm_seek *s = &m->seek;
    s->urgent = false;
    s->asked = false;
    s->dialed_ns = core->now_ns;
    s->until_ns = core->now_ns + dial_timeout_ns(m) + 100 * PM_MS; // the shell says so first
    s->named = s->redirect != PM_NODE_NONE;
    if (s->named) {
        s->node = s->redirect;
        s->link = pm_link_dial(core, s->node, PM_ROLE_CANDIDATE, s->redirect_addresses,
                               dial_timeout_ns(m));
        s->redirect = PM_NODE_NONE;
        return;
    }
    s->node = next_target(core);
    s->link = pm_link_dial(core, s->node, PM_ROLE_CANDIDATE, "", dial_timeout_ns(m));
}

// --- asking ------------------------------------------------------------------------------------

static void send_attach(struct pm_core *core, uint32_t link)
{
    struct pm_membership *m = core->membership;
    const char *addresses = core->config.addresses;
    m->attach++;
    struct pm_writer w = {0};
    pm_write_u8(&w, PM_FRAME_ATTACH);
    pm_write_u32(&w, m->attach);
    pm_write_u32(&w, m->seek.avoid);
    pm_write_str(&w, strlen(addresses) < PM_ADDRESSES_MAX ? addresses : "");
    pm_edges_write(&m->edges, m->fanout, &w);
    pm_link_send(core, link, &w);
    // A candidate may send us elsewhere, and the parent that we have still waits for them.
    if (m->parent_link != 0 && m->parent_link != link)
        return;
    pm_set_clear(&m->news_plain);
    pm_set_clear(&m->news_known);
}

// A candidate that was asked may have told the coordinator that we hang there, so say it again
// where we really do.
static void forget_candidate(struct pm_core *core)
{
    struct pm_membership *m = core->membership;
    bool asked = m->seek.asked;
    m->seek.link = 0;
    m->seek.asked = false;
    if (asked && m->parent_link != 0)
        send_attach(core, m->parent_link);
}

static void drop_candidate(struct pm_core *core)
{
    pm_link_close(core, core->membership->seek.link);
    forget_candidate(core);
}

static void failed_before_joining(struct pm_core *core, uint32_t node, uint8_t end)
{
    struct pm_seek *s = &core->membership->seek;
    bool hopeless = end == PM_LINK_UNREACHABLE || end == PM_LINK_STUCK || core->now_ns - s->start_ns >= START_PATIENCE_NS;
    s->tries++;
    s->next_ns = core->now_ns;
    if (node != PM_NODE_COORDINATOR && hopeless && s->step == 0)
        s->step = 1;
    else
        s->next_ns +=
            (50ull << (s->tries < 3 ? s->tries : 3)) * PM_MS + core->config.node % 16 * PM_MS;
}

static void failed_after_joining(struct pm_core *core, uint32_t node, uint8_t end)
{
    struct pm_membership *m = core->membership;
    struct pm_seek *s = &m->seek;
    uint64_t spaced = s->dialed_ns + m->t_ns / 8;
    if (end == PM_LINK_REFUSED && s->step == 0 && s->tries++ == 0) {
        s->next_ns = core->now_ns + RETRY_NS;
        return;
    }
    bool wrap = node == PM_NODE_COORDINATOR;
    s->tries = 0;
    s->step = wrap ? 0 : s->step + 1;
    if (wrap && !parent_is_silent(core, m->t_ns / 4) && parent_is_useless(core))
        spaced = s->dialed_ns + m->t_ns / 2; // it has just been asked in vain
    s->next_ns = end == PM_LINK_REFUSED && !wrap ? core->now_ns : spaced;
}

// Once could be a listener that is only just there; one that is gone refuses again.
static void coordinator_refused(struct pm_core *core)
{
    struct pm_seek *s = &core->membership->seek;
    s->next_ns = core->now_ns + RETRY_NS;
    if (s->refusals++ > 0)
        pm_seek_outcast(core, GONE);
}

// Before we had joined.
static bool refused_for_long(struct pm_core *core)
{
    struct pm_membership *m = core->membership;
    if (m->seek.refused_ns == 0)
        m->seek.refused_ns = core->now_ns;
    if (core->now_ns - m->seek.refused_ns < m->t_ns)
        return false;
    pm_seek_outcast(core, GONE);
    return true;
}

static void failed(struct pm_core *core, uint32_t node, uint8_t end, const char *text)
{
    struct pm_membership *m = core->membership;
    struct pm_seek *s = &m->seek;
    forget_candidate(core);
    if (text && *text)
        snprintf(s->why, sizeof(s->why), "%s", text);
    if (end == PM_LINK_REJECTED && !s->joined) {
        pm_seek_outcast(core, s->why);
        return;
    }
    bool refused = end == PM_LINK_REFUSED && node == PM_NODE_COORDINATOR;
    if (node == PM_NODE_COORDINATOR && s->unanswered_ns == 0)
        s->unanswered_ns = s->dialed_ns;
    if (refused && s->joined) {
        coordinator_refused(core);
        return;
    }
    if (refused && refused_for_long(core))
        return;
    s->refusals = 0;
    if (node == PM_NODE_COORDINATOR && !refused)
        s->refused_ns = 0;
    // Not found by its name is not yet not reached: the coordinator may know an address.
    if (node != PM_NODE_COORDINATOR && (s->joined || s->named))
        s->avoid = node;
    if (s->joined)
        failed_after_joining(core, node, end);
    else
        failed_before_joining(core, node, end);
}

// Its death became known while it was being dialled or asked. The link is then gone.
static bool candidate_is_dead(struct pm_core *core, const struct pm_link *link)
{
    uint32_t node = link->node;
    if (!pm_set_has(&core->membership->dead, node))
        return false;
    pm_link_close(core, link->id);
    failed(core, node, PM_LINK_CLOSED, "");
    pm_seek_tick(core);
    return true;
}

void pm_seek_news(struct pm_core *core)
{
    struct pm_membership *m = core->membership;
    const struct pm_link *link = pm_link_find(m, m->seek.link);
    if (link)
        candidate_is_dead(core, link);
}

void pm_seek_link_up(struct pm_core *core, struct pm_link *link)
{
    struct pm_membership *m = core->membership;
    if (candidate_is_dead(core, link))
        return;
    // A busy candidate may take its time; but who waits for one that has died needs time for another.
    uint64_t patience = pm_max_ns(m->t_ns / 4, pm_min_ns(m->t_ns / 2, 1000 * PM_MS));
    m->seek.asked = true;
    m->seek.refused_ns = 0;
    if (link->node == PM_NODE_COORDINATOR)
        m->seek.unanswered_ns = 0;
    m->seek.until_ns = core->now_ns + patience;
    send_attach(core, link->id);
}

void pm_seek_link_down(struct pm_core *core, uint32_t node, uint8_t end, const char *text)
{
    failed(core, node, end, text);
    pm_seek_tick(core);
}

// --- answers -----------------------------------------------------------------------------------

static void attached(struct pm_core *core, struct pm_link *link)
{
    struct pm_membership *m = core->membership;
    struct pm_seek *s = &m->seek;
    uint32_t old = m->parent_link;
    m->parent_link = link->id;
    m->parent = link->node;
    link->role = PM_ROLE_PARENT;
    *s = (struct pm_seek){
        .joined = true,
        .last_parent = link->node,
        .avoid = PM_NODE_NONE,
        .redirect = PM_NODE_NONE,
        .redirect_addresses = s->redirect_addresses,
        .reached = true,
        .unanswered_ns = s->unanswered_ns,
        .start_ns = s->start_ns,
        .next_ns = core->now_ns + RETRY_NS,
    };
    m->lease.progress_ns = core->now_ns;
    if (m->lease.renewed_ns == 0)
        m->lease.renewed_ns = core->now_ns;
    if (!pm_set_empty(&m->news_plain) || !pm_set_empty(&m->news_known))
        m->up_due_ns = core->now_ns;
    if (old != 0)
        pm_link_close(core, old); // `link` is not valid from here on
    pm_on_parent(core);
    pm_lease_tick(core);
}

static void on_attached(struct pm_core *core, struct pm_link *link, struct pm_reader *r)
{
    struct pm_set dead = {0};
    uint32_t attach = pm_read_u32(r);
    uint64_t view = pm_read_u64(r);
    pm_read_set(r, &dead, UINT32_MAX / 16);
    if (pm_reader_end(r) < 0)
        r->error = -EBADMSG;
    if (r->error == 0 && attach == core->membership->attach) {
        if (link->role == PM_ROLE_CANDIDATE)
            attached(core, link);
        pm_relay_news(core, view, &dead);
    }
    pm_set_done(&dead);
}

static void on_redirect(struct pm_core *core, struct pm_link *link, struct pm_reader *r)
{
    struct pm_membership *m = core->membership;
    struct pm_seek *s = &m->seek;
    uint32_t node = pm_read_u32(r);
    char *addresses = pm_read_strdup(r, PM_ADDRESSES_MAX);
    if (pm_reader_end(r) < 0 || link->role != PM_ROLE_CANDIDATE) {
        free(addresses);
        r->error = -EBADMSG;
        return;
    }
    pm_link_close(core, s->link);
    s->link = 0;
    s->asked = false;
    free(s->redirect_addresses);
    s->redirect_addresses = addresses;
    bool follow = node < m->self && s->redirects++ < REDIRECTS_MAX;
    if (!follow)
        s->redirects = 0;
    s->redirect = follow ? node : PM_NODE_NONE;
    s->next_ns = core->now_ns + (follow ? 0 : (200 + m->self % 64) * PM_MS);
    pm_seek_tick(core);
}

void pm_seek_frame(struct pm_core *core, struct pm_link *link, uint8_t type, struct pm_reader *r)
{
    if (type == PM_FRAME_ATTACHED) {
        on_attached(core, link, r);
    } else if (type == PM_FRAME_REDIRECT) {
        on_redirect(core, link, r);
    } else {
        char why[PM_TEXT_CAP];
        pm_read_str(r, why, sizeof(why));
        if (pm_reader_end(r) < 0)
            r->error = -EBADMSG;
        else
            pm_seek_outcast(core, why);
    }
}

// --- time --------------------------------------------------------------------------------------

void pm_seek_now(struct pm_core *core)
{
    struct pm_seek *s = &core->membership->seek;
    if (!parent_is_silent(core, core->membership->t_ns / 8))
        return;
    s->urgent = true;
    if (s->link == 0)
        s->next_ns = core->now_ns;
    pm_seek_tick(core);
}

// Once it has had a lease, lease.c knows better.
static bool is_orphan(struct pm_core *core)
{
    struct pm_membership *m = core->membership;
    const struct pm_seek *s = &m->seek;
    uint64_t since_ns = s->joined ? m->lease.progress_ns : s->unanswered_ns;
    uint64_t patience_ns = pm_max_ns(m->orphan_ns, m->t_ns); // a busy coordinator may miss a dial
    if (m->lease.end_ns != 0 || !s->reached || since_ns == 0 || core->now_ns - since_ns < patience_ns)
        return false;
    pm_seek_outcast(core, "the coordinator has not been heard of for the orphan timeout");
    return true;
}

static bool joined_in_time(struct pm_core *core)
{
    struct pm_seek *s = &core->membership->seek;
    uint64_t limit_ns = core->config.options->start_timeout_ms * PM_MS;
    if (s->joined || core->now_ns - s->start_ns < limit_ns)
        return true;
    char why[2 * PM_TEXT_CAP];
    snprintf(why, sizeof(why), "could not join the step within %llu s%s%s",
             (unsigned long long)(core->config.options->start_timeout_ms / 1000),
             *s->why ? ": " : "", s->why);
    pm_seek_outcast(core, why);
    return false;
}

void pm_seek_tick(struct pm_core *core)
{
    struct pm_membership *m = core->membership;
    struct pm_seek *s = &m->seek;
    if (core->coordinator || m->outcast || is_orphan(core) || !joined_in_time(core))
        return;
    if (!needs_parent(core)) {
        s->since_ns = 0;
        if (s->link != 0)
            drop_candidate(core);
        return;
    }
    if (s->since_ns == 0) {
        s->since_ns = core->now_ns;
        s->step = 0;
        s->tries = 0;
        s->dials = 0;
    }
    if (s->link != 0 && core->now_ns >= s->until_ns) {
        pm_link_close(core, s->link);
        failed(core, s->node, PM_LINK_STUCK, "no answer");
    }
    if (s->link == 0 && core->now_ns >= s->next_ns && !m->outcast)
        dial(core);
}

uint64_t pm_seek_deadline_ns(struct pm_membership *m)
{
    const struct pm_seek *s = &m->seek;
    if (m->outcast || m->self == PM_NODE_COORDINATOR)
        return UINT64_MAX;
    if (s->since_ns != 0)
        return s->link != 0 ? s->until_ns : s->next_ns;
    const struct pm_link *parent = pm_link_find(m, m->parent_link);
    return parent ? parent->heard_ns + m->t_ns / 4 : UINT64_MAX;
}
