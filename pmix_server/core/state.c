// SPDX-License-Identifier: Apache-2.0
//
// Life of struct pm_membership: made, freed, copied. state_digest.c hashes it.
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pmix_server/core/membership.h"

int pm_membership_new(struct pm_core *core)
{
    struct pm_membership *m = calloc(1, sizeof(*m));
    if (!m)
        return -ENOMEM;
    core->membership = m;
    const struct pm_options *o = core->config.options;
    m->self = core->config.node;
    m->fanout = o->fanout;
    pm_node_limit_set(core, core->coordinator ? 0 : core->config.nnodes);
    m->t_ns = o->node_timeout_ms * PM_MS;
    m->lease_ns = pm_lease_length_ns(m->t_ns);
    m->orphan_ns = o->orphan_timeout_ms * PM_MS;
    m->tick_ns = core->coordinator ? UINT64_MAX : core->now_ns + m->t_ns / 8;
    m->last_dial = (uint32_t)-1; // the first one is 1
    m->parent = PM_NODE_NONE;
    m->view_due_ns = UINT64_MAX;
    m->up_due_ns = UINT64_MAX;
    m->judge.next_ns = UINT64_MAX;
    m->seek = (struct pm_seek){
        .avoid = PM_NODE_NONE,
        .redirect = PM_NODE_NONE,
        .last_parent = PM_NODE_NONE,
        .start_ns = core->now_ns,
        .since_ns = core->now_ns ? core->now_ns : 1,
    };
    return 0;
}

static void judge_done(struct pm_judge *j)
{
    for (uint32_t i = 0; i < j->n; i++)
        pm_set_done(&j->list[i].pending);
    free(j->list);
    free(j->dead);
    pm_set_done(&j->nodes);
    *j = (struct pm_judge){0};
}

static void children_done(struct pm_membership *m)
{
    while (m->n_children > 0)
        pm_child_remove(m, m->child_ids[m->n_children - 1]);
    free(m->children);
    free(m->child_ids);
}

struct pm_membership *pm_membership_free(struct pm_membership *m)
{
    if (!m)
        return NULL;
    children_done(m);
    free(m->links);
    free(m->reports);
    free(m->seek.redirect_addresses);
    pm_edges_done(&m->edges);
    pm_set_done(&m->dead);
    pm_set_done(&m->news_plain);
    pm_set_done(&m->news_known);
    pm_addresses_done(&m->news_addresses);
    pm_addresses_done(&m->addresses);
    judge_done(&m->judge);
    free(m);
    return NULL;
}

// --- copies --------------------------------------------------------------------------------------

static void *copy_array(const void *from, size_t n, size_t size, bool *ok)
{
    void *to = malloc(n * size + 1);
    if (!to)
        *ok = false;
    else if (n > 0)
        memcpy(to, from, n * size);
    return to;
}

static void copy_children(struct pm_membership *c, const struct pm_membership *m, bool *ok)
{
    c->n_children = 0;
    c->cap_children = m->n_children;
    c->child_ids = copy_array(m->child_ids, m->n_children, sizeof(*m->child_ids), ok);
    c->children = copy_array(m->children, m->n_children, sizeof(*m->children), ok);
    for (uint32_t i = 0; *ok && i < m->n_children; i++, c->n_children++) {
        struct pm_child *child = &c->children[i];
        child->subtree = (struct pm_set){0};
        child->subtree_valid = false;
        child->addresses = strdup(m->children[i].addresses ? m->children[i].addresses : "");
        *ok = child->addresses != NULL;
    }
}

static int judge_copy(struct pm_judge *to, const struct pm_judge *from)
{
    *to = *from;
    to->nodes = (struct pm_set){0};
    to->nodes_valid = false;
    to->list = calloc(from->n + 1ul, sizeof(*to->list));
    to->dead = calloc(from->n_dead + 1ul, sizeof(*to->dead));
    to->cap = from->n;
    to->cap_dead = from->n_dead;
    to->n = 0;
    if (!to->list || !to->dead)
        return -ENOMEM;
    for (; to->n < from->n; to->n++) {
        struct pm_suspect *s = &to->list[to->n];
        *s = from->list[to->n];
        s->pending = (struct pm_set){0};
        if (pm_set_copy(&s->pending, &from->list[to->n].pending) < 0)
            return -ENOMEM;
    }
    if (from->n_dead)
        memcpy(to->dead, from->dead, from->n_dead * sizeof(*to->dead));
    return 0;
}

struct pm_membership *pm_membership_clone(const struct pm_membership *m)
{
    struct pm_membership *c = malloc(sizeof(*c));
    if (!c)
        return NULL;
    bool ok = true;
    *c = *m;
    c->dead = c->news_plain = c->news_known = (struct pm_set){0};
    c->edges = (struct pm_edges){0};
    c->addresses = c->news_addresses = (struct pm_addresses){0};
    c->judge = (struct pm_judge){0};
    c->links = copy_array(m->links, m->n_links, sizeof(*m->links), &ok);
    c->cap_links = m->n_links;
    c->reports = copy_array(m->reports, m->n_reports, sizeof(*m->reports), &ok);
    c->cap_reports = m->n_reports;
    c->seek.redirect_addresses = NULL;
    if (m->seek.redirect_addresses)
        ok &= (c->seek.redirect_addresses = strdup(m->seek.redirect_addresses)) != NULL;
    copy_children(c, m, &ok);
    ok = ok && pm_set_copy(&c->dead, &m->dead) == 0;
    ok = ok && pm_set_copy(&c->news_plain, &m->news_plain) == 0;
    ok = ok && pm_set_copy(&c->news_known, &m->news_known) == 0;
    ok = ok && pm_edges_copy(&c->edges, &m->edges) == 0;
    ok = ok && pm_addresses_copy(&c->addresses, &m->addresses) == 0;
    ok = ok && pm_addresses_copy(&c->news_addresses, &m->news_addresses) == 0;
    ok = ok && judge_copy(&c->judge, &m->judge) == 0;
    return ok ? c : pm_membership_free(c);
}
