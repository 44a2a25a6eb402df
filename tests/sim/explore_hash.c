// SPDX-License-Identifier: Apache-2.0
//
// See explore.h: which worlds are the same.
//
// pm_core_digest has what a core knows by itself. Numbers that processes count for one another (views, versions
// of the wanted state, pings and grants, probes) mean something only beside those of the others, so they are
// hashed here: as far behind as they are, or as what will become of them. Attach numbers of a node are compared
// with one another only, so how far each is behind the agent's own says all. Places of links, ids and the order of what was sent on different ways
// say nothing; so does how long ago a thing was that nobody will ask about.
#include "tests/sim/explore.h"

#include <inttypes.h>
#include <string.h>

#include "pmix_server/core/membership.h"

static const struct pm_core *core_of(const struct x_world *w, uint32_t slot)
{
    return w->cores[slot] ? w->cores[slot]->core : NULL;
}

static uint32_t newest[X_NODES]; // attach number, of the world being hashed

// An agent that lives no more attaches no more: then any number will do to count from.
static void find_newest(const struct x_world *w)
{
    for (uint32_t i = 0; i < x_nnodes; i++)
        newest[i] = w->cores[i] ? w->cores[i]->core->membership->attach : 0;
}

static struct pm_digest begin(void)
{
    return (struct pm_digest){.newest = newest};
}

// --- numbers -------------------------------------------------------------------------------------

// How far behind the coordinator's.
static uint64_t view_behind(const struct x_world *w, uint64_t view)
{
    return core_of(w, x_nnodes)->membership->view - view;
}

// The numbers of an agent's pings, by the newest; when it lives no more, by the newest that `at` has heard.
struct pings {
    const struct pm_lease *lease; // NULL: it lives no more, and no lease comes of a ping
    uint32_t newest;
};

static struct pings pings_of(const struct x_world *w, uint32_t slot, uint32_t at)
{
    const struct pm_core *core = slot < x_nnodes ? core_of(w, slot) : NULL;
    const struct pm_core *parent = core_of(w, at);
    struct pm_child *c = parent && !core ? pm_child_find(parent->membership, slot) : NULL;
    if (core)
        return (struct pings){&core->membership->lease, core->membership->lease.seq};
    return (struct pings){NULL, c ? c->ping_seq : 0};
}

static void hash_seq(struct pm_digest *d, const struct pings *p, uint32_t seq)
{
    pm_digest_u64(d, seq && p->newest ? p->newest - seq : UINT64_MAX);
}

// A ping, by when it left: what is granted for it counts from there.
static void hash_ping(struct pm_digest *d, const struct x_world *w, const struct pings *p, uint32_t seq)
{
    hash_seq(d, p, seq);
    if (p->lease && seq && p->newest - seq < PM_PINGS)
        pm_digest_age(d, p->lease->sent_ns[seq % PM_PINGS], w->now_ns,
                      pm_lease_length_ns(X_T_MS * SIM_MS));
}

// A grant, by the end of the lease that it makes.
static void hash_grant(struct pm_digest *d, const struct x_world *w, const struct pings *p,
                       struct pm_reader *r)
{
    uint32_t seq = pm_read_u32(r);
    uint64_t remaining_ns = pm_read_u64(r);
    if (!p->lease || remaining_ns == 0 || p->newest - seq >= PM_PINGS) {
        pm_digest_u64(d, remaining_ns == 0);
        return;
    }
    uint64_t most_ns = pm_lease_length_ns(X_T_MS * SIM_MS);
    uint64_t end_ns = p->lease->sent_ns[seq % PM_PINGS] + pm_min_ns(remaining_ns, most_ns);
    hash_seq(d, p, seq);
    pm_digest_due(d, end_ns > p->lease->end_ns ? end_ns : 0, w->now_ns);
}

// Will the coordinator listen to what came of it?
static bool probe_counts(const struct x_world *w, uint64_t id, uint32_t target)
{
    const struct pm_membership *m = core_of(w, x_nnodes)->membership;
    for (uint32_t i = 0; i < m->judge.n; i++) {
        const struct pm_suspect *s = &m->judge.list[i];
        if (s->node == target)
            return !s->root_dead && id > s->base_id && pm_clock_slept_ns(m, w->now_ns) == 0;
    }
    return false;
}

// --- frames --------------------------------------------------------------------------------------

static void hash_rest(struct pm_digest *d, const struct pm_reader *r)
{
    pm_digest_bytes(d, r->at, r->left);
}

static void hash_edges(struct pm_digest *d, struct pm_reader *r)
{
    struct pm_edges edges;
    SIM_ASSERT(pm_edges_read(r, &edges, x_nnodes) == 0);
    pm_edges_digest(&edges, d);
    pm_edges_done(&edges);
}

static void hash_attach(struct pm_digest *d, struct pm_reader *r, uint32_t from)
{
    char text[PM_ADDRESSES_MAX];
    pm_digest_attach(d, from, pm_read_u32(r));
    pm_digest_u64(d, pm_read_u32(r)); // to avoid
    pm_read_str(r, text, sizeof(text)); // of a node always the same
    hash_edges(d, r);
}

static void hash_confirm(struct pm_digest *d, struct pm_reader *r)
{
    pm_digest_u64(d, pm_read_u32(r)); // to
    uint32_t child = pm_read_u32(r);
    pm_digest_u64(d, child);
    pm_digest_attach(d, child, pm_read_u32(r));
}

static void hash_up(struct pm_digest *d, struct pm_reader *r)
{
    char text[PM_ADDRESSES_MAX];
    hash_edges(d, r);
    for (uint64_t n = pm_read_var(r); n > 0; n--) {
        pm_digest_u64(d, pm_read_u32(r));
        pm_read_str(r, text, sizeof(text));
    }
    for (uint64_t n = pm_read_var(r); n > 0; n--) {
        uint32_t node = pm_read_u32(r);
        pm_digest_u64(d, node);
        pm_digest_attach(d, node, pm_read_u32(r));
        uint32_t parent = pm_read_u32(r);
        pm_digest_u64(d, parent);
        pm_digest_attach(d, parent, pm_read_u32(r));
        pm_digest_u64(d, pm_read_u8(r));
        for (int time = 0; time < 2; time++) // silent, granted: T is as good as more
            pm_digest_u64(d, pm_min_ns(pm_read_u64(r), X_T_MS * SIM_MS));
    }
}

static void hash_probe(struct pm_digest *d, const struct x_world *w, uint8_t type, struct pm_reader *r)
{
    uint64_t id = type == PM_FRAME_PROBED ? pm_read_u64(r) : 0;
    pm_digest_u64(d, pm_read_u32(r)); // the prober
    uint32_t target = pm_read_u32(r);
    id = type == PM_FRAME_PROBE ? pm_read_u64(r) : id;
    pm_digest_u64(d, (uint64_t)target << 1 | probe_counts(w, id, target));
    hash_rest(d, r);
}

static void hash_frame(struct pm_digest *d, const struct x_world *w, const struct x_item *item)
{
    const struct x_link *link = &w->links[item->where];
    uint32_t from = link->slot[1 - item->to], to = link->slot[item->to];
    struct pm_reader r = pm_reader_of(item->blob->data, item->blob->len);
    uint8_t type = pm_read_u8(&r);
    struct pings pings = type == PM_FRAME_GRANT ? pings_of(w, to, from) : pings_of(w, from, to);
    pm_digest_u64(d, type);
    switch (type) {
    case PM_FRAME_PING:
        hash_ping(d, w, &pings, pm_read_u32(&r));
        hash_seq(d, &pings, pm_read_u32(&r));
        break;
    case PM_FRAME_GRANT:
        hash_grant(d, w, &pings, &r);
        break;
    case PM_FRAME_ATTACH:
        hash_attach(d, &r, from);
        break;
    case PM_FRAME_CONFIRM:
        hash_confirm(d, &r);
        break;
    case PM_FRAME_ATTACHED:
        pm_digest_attach(d, to, pm_read_u32(&r));
        // fall through
    case PM_FRAME_DOWN:
        pm_digest_u64(d, view_behind(w, pm_read_u64(&r)));
        hash_rest(d, &r);
        break;
    case PM_FRAME_UP:
        hash_up(d, &r);
        break;
    case PM_FRAME_PROBE:
    case PM_FRAME_PROBED:
        hash_probe(d, w, type, &r);
        break;
    default:
        if (!x_hash_record(d, w, type, &r))
            hash_rest(d, &r);
    }
    SIM_ASSERT(r.error == 0);
}

// --- links and what is on its way ----------------------------------------------------------------

// A link by what it is: who, in which state, and the how many-th of its kind at each end.
static uint64_t hash_link(const struct x_world *w, uint32_t place)
{
    const struct x_link *l = &w->links[place];
    struct pm_digest d = {0};
    uint64_t before[2] = {0};
    for (uint32_t i = 0; i < X_LINKS; i++)
        for (uint32_t end = 0; end < 2; end++)
            before[end] += w->links[i].used && w->links[i].slot[0] == l->slot[0] &&
                           w->links[i].slot[1] == l->slot[1] && w->links[i].id[end] < l->id[end];
    pm_digest_u64(&d, (uint64_t)l->slot[0] << 24 | (uint64_t)l->slot[1] << 16 |
                          (uint64_t)l->state[0] << 8 | l->state[1]);
    pm_digest_u64(&d, before[0] << 32 | before[1]);
    pm_digest_due(&d, l->due_ns, w->now_ns);
    return d.h;
}

static uint64_t hash_item(const struct x_world *w, uint32_t index)
{
    const struct x_item *item = &w->items[index];
    struct pm_digest d = begin();
    uint32_t before = 0;
    for (uint32_t i = 0; i < index; i++)
        before += x_same_queue(&w->items[i], item);
    uint64_t age = w->now_ns - item->at_ns;
    bool unread = x_soonest_ns(item) <= w->awake_ns[x_receiver(w, item)];
    pm_digest_u64(&d, item->kind == X_EVENT ? item->where : hash_link(w, item->where));
    pm_digest_u64(&d, (uint64_t)item->kind << 32 | (uint64_t)item->to << 24 |
                          (uint64_t)item->type << 16 | before);
    pm_digest_u64(&d, (uint64_t)(uint32_t)item->status << 32 | item->epoch << 8 |
                          item->incarnation);
    pm_digest_u64(&d, pm_min_ns(age, x_latency_ns + x_delay_ns) << 1 | unread);
    if (item->blob)
        hash_frame(&d, w, item);
    return d.h;
}

// --- processes -----------------------------------------------------------------------------------

// Trouble counts while there is some, and while there may be more.
static uint64_t trouble_ns(const struct x_world *w, uint32_t node)
{
    uint64_t enough_ns = X_T_MS / 2 * SIM_MS, ns = w->disturbed_ns[node];
    bool more = w->paused[node] || w->nodes[node].cut || w->faults < x_max_faults;
    if (w->nodes[node].excused || w->coord_excused)
        return 0;
    return ns >= enough_ns ? enough_ns : more ? ns : 0;
}

static void hash_node(struct pm_digest *d, const struct x_world *w, uint32_t node)
{
    const struct x_node *n = &w->nodes[node];
    const bool flags[] = {n->off, n->cut, n->shim, n->over, n->alive, n->stopped, n->termed,
                          n->stand, n->held, n->next, n->excused, n->ran,
                          x_latency_ns > 0 && n->ran_ns == w->now_ns};
    pm_digest_bytes(d, flags, sizeof(flags));
    pm_digest_u64(d, (uint64_t)n->start_epoch << 32 | n->start_incarnation);
    pm_digest_u64(d, (uint64_t)n->epoch << 32 | n->incarnation);
    pm_digest_u64(d, n->ready);
    pm_digest_u64(d, trouble_ns(w, node));
    pm_digest_due(d, n->lease_ns, w->now_ns);
}

// What a core shares with others.
static void hash_shared(struct pm_digest *d, const struct x_world *w, uint32_t slot)
{
    const struct pm_core *core = core_of(w, slot);
    const struct pm_membership *m = core->membership;
    for (uint32_t i = 0; i < m->n_children; i++) {
        const struct pm_child *c = &m->children[i];
        struct pings pings = pings_of(w, c->node, slot);
        hash_ping(d, w, &pings, c->ping_seq);
        hash_seq(d, &pings, c->granted_seq);
        hash_seq(d, &pings, c->seen_seq);
    }
    for (uint32_t i = 0; i < m->n_links; i++)
        if (m->links[i].role == PM_ROLE_PROBE)
            pm_digest_u64(d, (uint64_t)m->links[i].node << 1 |
                                 probe_counts(w, m->links[i].probe_id, m->links[i].node));
    if (core->coordinator)
        return;
    pm_digest_u64(d, view_behind(w, m->view));
    x_hash_version(d, w, core);
    struct pings own = pings_of(w, slot, slot);
    hash_seq(d, &own, own.lease->seen);
}

static void hash_core(struct pm_digest *d, const struct x_world *w, uint32_t slot)
{
    struct x_core *c = w->cores[slot];
    bool wakes = w->awake_ns[slot] == w->now_ns; // what comes at this instant is read first, too
    pm_digest_u64(d, (uint64_t)wakes << 1 | w->paused[slot]);
    if (!c) {
        pm_digest_u64(d, 0);
        return;
    }
    if (c->hashed_ns != w->now_ns || memcmp(c->newest, newest, sizeof(newest)) != 0)
        c->hash = pm_core_digest_beside(c->core, w->now_ns, newest);
    c->hashed_ns = w->now_ns;
    memcpy(c->newest, newest, sizeof(newest));
    pm_digest_u64(d, c->hash);
    hash_shared(d, w, slot);
}

uint64_t x_world_hash(struct x_world *w)
{
    struct pm_digest d = {0};
    uint64_t sum = 0;
    find_newest(w);
    for (uint32_t i = 0; i <= x_nnodes; i++)
        hash_core(&d, w, i);
    for (uint32_t i = 0; i < x_nnodes; i++)
        hash_node(&d, w, i);
    for (uint32_t i = 0; i < X_LINKS; i++)
        if (w->links[i].used)
            sum += sim_rng_mix(hash_link(w, i));
    for (uint32_t i = 0; i < w->n_items; i++)
        sum += sim_rng_mix(hash_item(w, i));
    pm_digest_u64(&d, sum);
    pm_digest_u64(&d, x_latency_ns > 0 && w->fresh);
    pm_digest_u64(&d, (uint64_t)w->halted_epoch << 32 | (uint64_t)w->faults << 8 |
                          (uint64_t)w->harmed << 3 | (uint64_t)w->coord_excused << 2 |
                          (uint64_t)w->srun_over << 1 | w->done);
    return sim_rng_mix(d.h);
}

void x_hash_tell(struct x_world *w)
{
    find_newest(w);
    for (uint32_t i = 0; i <= x_nnodes; i++) {
        struct pm_digest d = {0};
        hash_core(&d, w, i);
        printf("    core %u %016" PRIx64 " with others %016" PRIx64, i, w->cores[i] ? w->cores[i]->hash : 0, d.h);
        if (i < x_nnodes) {
            struct pm_digest node = {0};
            hash_node(&node, w, i);
            printf(" node %016" PRIx64, node.h);
        }
        printf("\n");
    }
    for (uint32_t i = 0; i < X_LINKS; i++)
        if (w->links[i].used)
            printf("    link %u-%u %016" PRIx64 "\n", w->links[i].slot[0], w->links[i].slot[1],
                   hash_link(w, i));
    for (uint32_t i = 0; i < w->n_items; i++)
        printf("    to %u kind %u type %u %016" PRIx64 "\n", x_receiver(w, &w->items[i]),
               w->items[i].kind, w->items[i].blob ? w->items[i].blob->data[0] : w->items[i].type,
               hash_item(w, i));
}
