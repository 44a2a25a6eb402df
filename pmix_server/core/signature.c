// SPDX-License-Identifier: Apache-2.0
//
// Signatures: the sets of ranks that fence with each other in an epoch, which nodes host them, and
// the fences of each. See collective.h.
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pmix_server/core/collective.h"

// Index of the first signature not below (epoch, hash).
static uint32_t lower(const struct pm_collective *c, uint32_t epoch, uint64_t hash)
{
    uint32_t lo = 0, hi = c->n_signatures;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        const struct pm_signature *s = c->signatures[mid];
        if (s->epoch < epoch || (s->epoch == epoch && s->hash < hash))
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

struct pm_signature *pm_signature_find(struct pm_collective *c, uint32_t epoch, uint64_t hash)
{
    uint32_t at = lower(c, epoch, hash);
    if (at == c->n_signatures)
        return NULL;
    struct pm_signature *s = c->signatures[at];
    return s->epoch == epoch && s->hash == hash ? s : NULL;
}

static bool reserve_one(struct pm_collective *c)
{
    if (c->n_signatures < c->cap_signatures)
        return true;
    uint32_t cap = c->cap_signatures ? 2 * c->cap_signatures : 4;
    struct pm_signature **list = realloc(c->signatures, cap * sizeof(struct pm_signature *));
    if (!list)
        return false;
    c->signatures = list;
    c->cap_signatures = cap;
    return true;
}

static bool is_in_world(const struct pm_core *core, const struct pm_set *ranks)
{
    if (pm_set_empty(ranks))
        return false;
    return !core->world_known || ranks->spans[ranks->n - 1].last < core->world.nranks;
}

static struct pm_signature *insert(struct pm_core *core, uint32_t epoch, const struct pm_set *ranks)
{
    struct pm_collective *c = core->collective;
    struct pm_signature *s = calloc(1, sizeof(*s));
    if (!s || !reserve_one(c) || pm_set_copy(&s->ranks, ranks) < 0) {
        pm_signature_free(s);
        pm_collective_nomem(core);
        return NULL;
    }
    s->epoch = epoch;
    s->hash = pm_set_hash(ranks);
    uint32_t at = lower(c, epoch, s->hash);
    memmove(&c->signatures[at + 1], &c->signatures[at],
            (c->n_signatures - at) * sizeof(struct pm_signature *));
    c->signatures[at] = s;
    c->n_signatures++;
    return s;
}

struct pm_signature *pm_signature_get(struct pm_core *core, uint32_t epoch,
                                      const struct pm_set *ranks)
{
    struct pm_collective *c = core->collective;
    struct pm_signature *s = pm_signature_find(c, epoch, pm_set_hash(ranks));
    if (s)
        return pm_set_equal(&s->ranks, ranks) ? s : NULL;
    uint32_t limit = core->coordinator ? PM_SIGNATURES_MAX : 2 * PM_SIGNATURES_MAX;
    if (!is_in_world(core, ranks) || c->n_signatures >= limit)
        return NULL;
    return insert(core, epoch, ranks);
}

struct pm_signature *pm_signature_free(struct pm_signature *s)
{
    if (!s)
        return NULL;
    for (struct pm_fence *f = s->fences, *next; f; f = next) {
        next = f->next;
        pm_fence_free(f);
    }
    pm_set_done(&s->ranks);
    pm_set_done(&s->nodes);
    pm_set_done(&s->known_children);
    free(s);
    return NULL;
}

struct pm_signature *pm_signature_clone(const struct pm_signature *s)
{
    struct pm_signature *copy = malloc(sizeof(*copy));
    if (!copy)
        return NULL;
    *copy = *s;
    copy->fences = NULL;
    copy->ranks = copy->nodes = copy->known_children = (struct pm_set){0};
    if (pm_set_copy(&copy->ranks, &s->ranks) < 0 || pm_set_copy(&copy->nodes, &s->nodes) < 0 ||
        pm_set_copy(&copy->known_children, &s->known_children) < 0)
        return pm_signature_free(copy);
    struct pm_fence **end = &copy->fences;
    for (const struct pm_fence *f = s->fences; f; f = f->next) {
        *end = pm_fence_clone(f);
        if (!*end)
            return pm_signature_free(copy);
        end = &(*end)->next;
    }
    return copy;
}

void pm_signatures_drop(struct pm_collective *c, uint32_t epoch)
{
    uint32_t n = 0;
    while (n < c->n_signatures && c->signatures[n]->epoch <= epoch) {
        for (const struct pm_fence *f = c->signatures[n]->fences; f; f = f->next) {
            c->n_pending -= !f->decided;
            c->memo_bytes -= f->decided ? f->len : 0;
        }
        pm_signature_free(c->signatures[n++]);
    }
    c->n_signatures -= n;
    if (n)
        memmove(c->signatures, c->signatures + n, c->n_signatures * sizeof(struct pm_signature *));
}

// The last rank of the node's run that holds `rank`: placing ranks in blocks makes this a jump over
// the whole node.
static uint32_t run_end(const struct pm_set *ranks, uint32_t rank)
{
    for (uint32_t i = 0; i < ranks->n; i++) {
        if (ranks->spans[i].first <= rank && rank <= ranks->spans[i].last)
            return ranks->spans[i].last;
    }
    return rank;
}

// A fence over all ranks, the most frequent one: its nodes are known as intervals, and nobody has to look at
// each of a hundred thousand.
static bool is_everybody(const struct pm_world *world, const struct pm_signature *s)
{
    return s->ranks.n == 1 && s->ranks.spans[0].first == 0 &&
           s->ranks.spans[0].last + 1 == world->nranks && !pm_set_empty(&world->hosts);
}

static int add_all_nodes(const struct pm_world *world, struct pm_signature *s)
{
    if (is_everybody(world, s))
        return pm_set_copy(&s->nodes, &world->hosts);
    for (uint32_t i = 0; i < s->ranks.n; i++) {
        const struct pm_span span = s->ranks.spans[i];
        uint32_t rank = span.first;
        while (rank <= span.last && rank < world->nranks) {
            uint32_t node = world->node_of_rank[rank];
            int rc = pm_set_add(&s->nodes, node);
            if (rc < 0)
                return rc;
            rank = run_end(&world->ranks_of_node[node], rank) + 1;
        }
    }
    return 0;
}

// Searches from the shorter side: a node has few ranks, a set may have very many spans.
static bool is_host(const struct pm_world *world, const struct pm_signature *s, uint32_t node)
{
    if (node >= world->nnodes)
        return false;
    const struct pm_set *ranks = &world->ranks_of_node[node];
    for (uint32_t i = 0; i < ranks->n; i++) {
        if (pm_set_next(&s->ranks, ranks->spans[i].first) <= ranks->spans[i].last)
            return true;
    }
    return false;
}

static int add_hosts(const struct pm_core *core, struct pm_signature *s, const struct pm_set *among)
{
    int rc = 0;
    for (uint32_t i = 0; i < among->n && rc == 0; i++) {
        for (uint64_t node = among->spans[i].first; node <= among->spans[i].last && rc == 0;
             node++) {
            if (is_host(&core->world, s, (uint32_t)node))
                rc = pm_set_add(&s->nodes, (uint32_t)node);
        }
    }
    return rc;
}

static int add_subtree(const struct pm_core *core, struct pm_set *into)
{
    uint32_t n;
    const uint32_t *children = pm_children(core, &n);
    int rc = pm_set_add(into, core->config.node);
    for (uint32_t i = 0; i < n && rc == 0; i++) {
        const struct pm_set *below = pm_subtree(core, children[i]);
        rc = pm_set_add(into, children[i]);
        if (below && rc == 0)
            rc = pm_set_union(into, below);
    }
    return rc;
}

static int add_subtree_hosts(const struct pm_core *core, struct pm_signature *s)
{
    struct pm_set others = {0};
    int rc = add_subtree(core, &s->nodes);
    if (rc == 0)
        rc = pm_set_copy(&others, &s->nodes);
    if (rc == 0)
        rc = pm_set_subtract(&others, &core->world.hosts);
    if (rc == 0)
        rc = pm_set_subtract(&s->nodes, &others);
    pm_set_done(&others);
    return rc;
}

static int add_subtree_nodes(const struct pm_core *core, struct pm_signature *s)
{
    if (is_everybody(&core->world, s))
        return add_subtree_hosts(core, s);
    uint32_t n;
    const uint32_t *children = pm_children(core, &n);
    int rc =
        is_host(&core->world, s, core->config.node) ? pm_set_add(&s->nodes, core->config.node) : 0;
    for (uint32_t i = 0; i < n && rc == 0; i++) {
        const struct pm_set *below = pm_subtree(core, children[i]);
        if (is_host(&core->world, s, children[i]))
            rc = pm_set_add(&s->nodes, children[i]);
        if (below && rc == 0)
            rc = add_hosts(core, s, below);
    }
    return rc;
}

const struct pm_set *pm_signature_nodes(struct pm_core *core, struct pm_signature *s)
{
    // The coordinator's answer does not depend on the tree.
    uint64_t tree = core->coordinator ? 1 : core->collective->tree;
    bool is_fresh = s->nodes_tree == tree && s->nodes_map == core->world.map_version;
    if (!core->world_known || is_fresh)
        return &s->nodes;
    pm_set_clear(&s->nodes);
    int rc = core->coordinator ? add_all_nodes(&core->world, s) : add_subtree_nodes(core, s);
    if (rc < 0)
        pm_collective_nomem(core);
    s->nodes_tree = tree;
    s->nodes_map = core->world.map_version;
    return &s->nodes;
}

bool pm_signature_is_below(struct pm_core *core, struct pm_signature *s, uint32_t child)
{
    if (!core->world_known)
        return true;
    const struct pm_set *nodes = pm_signature_nodes(core, s);
    const struct pm_set *below = pm_subtree(core, child);
    return pm_set_has(nodes, child) || (below && pm_set_intersects(nodes, below));
}

struct pm_fence *pm_signature_fence(const struct pm_signature *s, uint64_t seq)
{
    struct pm_fence *f = s->fences;
    while (f && f->seq < seq)
        f = f->next;
    return f && f->seq == seq ? f : NULL;
}

struct pm_fence *pm_signature_add_fence(struct pm_core *core, struct pm_signature *s, uint64_t seq)
{
    struct pm_collective *c = core->collective;
    if (c->n_pending >= PM_FENCE_PENDING_MAX)
        return NULL;
    struct pm_fence *f = calloc(1, sizeof(*f));
    if (!f) {
        pm_collective_nomem(core);
        return NULL;
    }
    *f = (struct pm_fence){
        .seq = seq,
        .urgent = seq < s->forgotten,
        .lost_rank = PM_RANK_NONE,
        .deadline_ns = UINT64_MAX,
        .hold_ns = UINT64_MAX,
    };
    struct pm_fence **at = &s->fences;
    while (*at && (*at)->seq < seq)
        at = &(*at)->next;
    f->next = *at;
    *at = f;
    c->n_pending++;
    return f;
}

void pm_signature_remove_fence(struct pm_core *core, struct pm_signature *s, struct pm_fence *f)
{
    struct pm_fence **at = &s->fences;
    while (*at != f)
        at = &(*at)->next;
    *at = f->next;
    core->collective->n_pending--;
    pm_fence_free(f);
}

// Calls `visit` for every fence that is not decided. It may decide it.
void pm_fence_for_pending(struct pm_core *core,
                          void (*visit)(struct pm_core *, struct pm_signature *, struct pm_fence *))
{
    struct pm_collective *c = core->collective;
    for (uint32_t i = 0; i < c->n_signatures && c->n_pending; i++) {
        struct pm_signature *s = c->signatures[i];
        for (struct pm_fence *f = s->fences, *next; f; f = next) {
            next = f->next; // a decision frees no fence with a higher number
            if (!f->decided)
                visit(core, s, f);
        }
    }
}

void pm_write_fence_key(struct pm_writer *w, const struct pm_fence_key *key)
{
    pm_write_u32(w, key->epoch);
    pm_write_u64(w, key->hash);
    pm_write_u64(w, key->seq);
    pm_write_u8(w, key->has_ranks);
    if (key->has_ranks)
        pm_write_set(w, &key->ranks);
}

void pm_read_fence_key(struct pm_reader *r, struct pm_fence_key *key)
{
    *key = (struct pm_fence_key){0};
    key->epoch = pm_read_u32(r);
    key->hash = pm_read_u64(r);
    key->seq = pm_read_u64(r);
    uint8_t with_ranks = pm_read_u8(r);
    if (with_ranks > 1)
        r->error = -EBADMSG;
    key->has_ranks = with_ranks == 1;
    if (!key->has_ranks)
        return;
    pm_read_set(r, &key->ranks, PM_FENCE_SPANS_MAX);
    if (!r->error && (pm_set_empty(&key->ranks) || pm_set_hash(&key->ranks) != key->hash))
        r->error = -EBADMSG;
}
