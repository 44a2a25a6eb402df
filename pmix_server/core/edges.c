// SPDX-License-Identifier: Apache-2.0
//
// Who hangs where: edges merged in any order to the same result (see membership.h).
//
// A parent's id is below its child's (the coordinator counts as below all), or the edge is refused;
// so every walk up ends. A subtree is computed from spans: the numbered tree below a node is one
// span per level, and only nodes that hang elsewhere ("strange" ones) are looked at one by one.
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pmix_server/core/membership.h"
#include "pmix_server/core/search.h"

#define EDGES_MAX (1u << 24)

static uint32_t lower_bound(const struct pm_edges *e, uint32_t node)
{
    const struct pm_sorted sorted = {.list = e->known, .n = e->n, .stride = sizeof(*e->known), .at = offsetof(struct pm_edge, node)};
    return pm_lower_bound(sorted, node);
}

static const struct pm_edge *known_edge(const struct pm_edges *e, uint32_t node)
{
    uint32_t i = lower_bound(e, node);
    return i < e->n && e->known[i].node == node ? &e->known[i] : NULL;
}

bool pm_edges_get(const struct pm_edges *e, uint32_t node, uint32_t fanout, struct pm_edge *ret)
{
    const struct pm_edge *k = known_edge(e, node);
    if (k) {
        *ret = *k;
        return true;
    }
    if (!pm_set_has(&e->plain, node))
        return false;
    *ret = (struct pm_edge){node, pm_tree_parent(node, fanout), 1, true};
    return true;
}

bool pm_edges_newer(const struct pm_edges *e, uint32_t node, uint32_t fanout, uint32_t attach)
{
    struct pm_edge edge;
    return pm_edges_get(e, node, fanout, &edge) && edge.attach > attach;
}

static int insert_known(struct pm_edges *e, const struct pm_edge *edge)
{
    uint32_t i = lower_bound(e, edge->node);
    if (i < e->n && e->known[i].node == edge->node) {
        e->known[i] = *edge;
        return 0;
    }
    if (e->n == e->cap) {
        uint32_t cap = e->cap ? 2 * e->cap : 4;
        struct pm_edge *list = reallocarray(e->known, cap, sizeof(*list));
        if (!list)
            return -ENOMEM;
        e->known = list;
        e->cap = cap;
    }
    memmove(&e->known[i + 1], &e->known[i], (e->n - i) * sizeof(*e->known));
    e->known[i] = *edge;
    e->n++;
    return 0;
}

int pm_edges_merge(struct pm_edges *e, const struct pm_edge *edge, uint32_t fanout)
{
    struct pm_edge old = {0};
    bool had = pm_edges_get(e, edge->node, fanout, &old);
    if (had && edge->attach < old.attach)
        return 0;
    if (had && edge->attach == old.attach && (edge->attached || !old.attached))
        return 0;
    bool plain = edge->attached && edge->parent == pm_tree_parent(edge->node, fanout);
    int r = plain ? pm_set_add(&e->plain, edge->node) : pm_set_remove(&e->plain, edge->node);
    if (r == 0 && (!plain || edge->attach > 1))
        r = insert_known(e, edge);
    return r < 0 ? r : 1;
}

bool pm_edges_under(const struct pm_edges *e, uint32_t node, uint32_t top, uint32_t fanout)
{
    while (node != top) {
        struct pm_edge edge;
        if (node == PM_NODE_COORDINATOR || (top != PM_NODE_COORDINATOR && node < top))
            return false;
        if (!pm_edges_get(e, node, fanout, &edge) || !edge.attached)
            return false;
        node = edge.parent;
    }
    return true;
}

// --- subtrees ----------------------------------------------------------------------------------

// The numbered tree below a node, level by level: [first, last] of each.
struct levels {
    uint64_t first;
    uint64_t last;
    uint32_t fanout;
};

static bool levels_next(struct levels *l, uint32_t limit)
{
    l->first = l->fanout * (l->first + 1);
    l->last = l->fanout * (l->last + 1) + l->fanout - 1;
    return l->first <= limit;
}

static uint32_t set_last(const struct pm_set *s)
{
    return s->n ? s->spans[s->n - 1].last : 0;
}

// into += s within [first, last].
static int add_clipped(struct pm_set *into, const struct pm_set *s, uint64_t first, uint64_t last)
{
    uint32_t low = 0, high = s->n;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (s->spans[mid].last < first)
            low = mid + 1;
        else
            high = mid;
    }
    for (; low < s->n && s->spans[low].first <= last; low++) {
        const struct pm_span *span = &s->spans[low];
        uint32_t a = span->first > first ? span->first : (uint32_t)first;
        uint32_t b = span->last < last ? span->last : (uint32_t)last;
        int r = pm_set_add_span(into, a, b);
        if (r < 0)
            return r;
    }
    return 0;
}

static bool is_strange(const struct pm_edge *k, uint32_t fanout)
{
    return !k->attached || k->parent != pm_tree_parent(k->node, fanout);
}

// Everything below a strange node in the numbered tree, itself included, is not where it seems.
static int add_numbered(struct pm_set *into, uint32_t node, uint32_t limit, uint32_t fanout)
{
    struct levels l = {node, node, fanout};
    int r = 0;
    do {
        uint64_t last = l.last > limit ? limit : l.last;
        if (l.first <= last)
            r = pm_set_add_span(into, (uint32_t)l.first, (uint32_t)last);
    } while (r == 0 && levels_next(&l, limit));
    return r;
}

// `root` and what hangs below it by numbered edges only.
static int add_cluster(const struct pm_edges *e, uint32_t root, uint32_t fanout,
                       struct pm_set *into)
{
    struct pm_set members = {0}, away = {0};
    uint32_t limit = set_last(&e->plain);
    if (e->n > 0 && e->known[e->n - 1].node > limit)
        limit = e->known[e->n - 1].node;
    struct levels l = {root, root, fanout};
    int r = pm_set_add(&members, root);
    while (r == 0 && levels_next(&l, limit)) {
        r = add_clipped(&members, &e->plain, l.first, l.last);
        uint32_t i = l.first > UINT32_MAX ? e->n : lower_bound(e, (uint32_t)l.first);
        for (; r == 0 && i < e->n && e->known[i].node <= l.last; i++)
            if (is_strange(&e->known[i], fanout) && !pm_set_has(&away, e->known[i].node))
                r = add_numbered(&away, e->known[i].node, limit, fanout);
    }
    if (r == 0)
        r = pm_set_subtract(&members, &away);
    if (r == 0)
        r = pm_set_union(into, &members);
    pm_set_done(&members);
    pm_set_done(&away);
    return r;
}

int pm_edges_subtree(const struct pm_edges *e, uint32_t top, uint32_t fanout, struct pm_set *into)
{
    int r = add_cluster(e, top, fanout, into);
    for (uint32_t i = 0; r == 0 && i < e->n; i++) {
        const struct pm_edge *k = &e->known[i];
        if (k->node != top && k->attached && is_strange(k, fanout) &&
            pm_edges_under(e, k->node, top, fanout))
            r = add_cluster(e, k->node, fanout, into);
    }
    return r;
}

// --- on the wire -------------------------------------------------------------------------------

static void write_edge(struct pm_writer *w, const struct pm_edge *k)
{
    pm_write_u32(w, k->node);
    pm_write_u32(w, k->parent);
    pm_write_u32(w, k->attach);
    pm_write_u8(w, k->attached);
}

void pm_edges_write(const struct pm_edges *e, uint32_t fanout, struct pm_writer *w)
{
    pm_write_set(w, &e->plain);
    pm_write_var(w, e->n);
    for (uint32_t i = 0; i < e->n; i++)
        write_edge(w, &e->known[i]);
}

void pm_edges_write_some(const struct pm_edges *e, const struct pm_set *plain,
                         const struct pm_set *known, uint32_t fanout, struct pm_writer *w)
{
    pm_write_set(w, plain);
    pm_write_var(w, pm_set_count(known));
    for (uint32_t node = pm_set_next(known, 0); node != UINT32_MAX;
         node = pm_set_next(known, node + 1)) {
        struct pm_edge edge = {0};
        bool found = pm_edges_get(e, node, fanout, &edge);
        assert(found);
        (void)found;
        write_edge(w, &edge);
    }
}

static bool edge_is_sane(const struct pm_edge *k, uint32_t limit)
{
    bool down = k->parent == PM_NODE_COORDINATOR || k->parent < k->node;
    return k->node < limit && down && k->attach > 0;
}

int pm_edges_read(struct pm_reader *r, struct pm_edges *ret, uint32_t limit)
{
    struct pm_edges e = {0};
    pm_read_set(r, &e.plain, EDGES_MAX);
    if (e.plain.n > 0 && set_last(&e.plain) >= limit)
        r->error = -EBADMSG; // a single span could be of four billion nodes
    uint32_t n = pm_read_count(r, EDGES_MAX, 13);
    e.known = n ? calloc(n, sizeof(*e.known)) : NULL;
    if (n && !e.known) {
        pm_reader_no_memory(r);
        pm_edges_done(&e);
        return -ENOMEM;
    }
    e.cap = n;
    for (; e.n < n && r->error == 0; e.n++) {
        struct pm_edge *k = &e.known[e.n];
        k->node = pm_read_u32(r);
        k->parent = pm_read_u32(r);
        k->attach = pm_read_u32(r);
        k->attached = pm_read_u8(r) != 0;
        if (!edge_is_sane(k, limit))
            r->error = -EBADMSG;
    }
    if (r->error != 0) {
        pm_edges_done(&e);
        return -EBADMSG;
    }
    *ret = e;
    return 0;
}

void pm_edges_done(struct pm_edges *e)
{
    pm_set_done(&e->plain);
    free(e->known);
    *e = (struct pm_edges){0};
}

int pm_edges_copy(struct pm_edges *to, const struct pm_edges *from)
{
    *to = (struct pm_edges){0};
    if (pm_set_copy(&to->plain, &from->plain) < 0)
        return -ENOMEM;
    to->known = from->n ? reallocarray(NULL, from->n, sizeof(*to->known)) : NULL;
    if (from->n && !to->known)
        return -ENOMEM;
    if (from->n)
        memcpy(to->known, from->known, from->n * sizeof(*to->known));
    to->n = to->cap = from->n;
    return 0;
}

void pm_edges_digest(const struct pm_edges *e, struct pm_digest *d)
{
    pm_digest_set(d, &e->plain);
    pm_digest_u64(d, e->n);
    for (uint32_t i = 0; i < e->n; i++) {
        pm_digest_u64(d, (uint64_t)e->known[i].node << 32 | e->known[i].parent);
        pm_digest_u64(d, e->known[i].attached);
        pm_digest_attach(d, e->known[i].node, e->known[i].attach);
    }
}
