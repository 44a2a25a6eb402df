// SPDX-License-Identifier: Apache-2.0
//
// Invariants 5 and 9: every question of a server is answered once, and a fence that succeeded gives
// every node the same bytes: those of exactly its participants; one that failed for a lost rank had a participant that
// could not come.
#include <string.h>

#include "tests/sim/check.h"
#include "tests/sim/outcome.h"

static struct sim_server *server_of(struct sim *s, uint32_t node, uint32_t epoch)
{
    for (uint32_t i = 0; i < SIM_SERVERS; i++) {
        struct sim_server *v = &s->nodes[node].servers[i];
        if (v->state && !v->standby && v->epoch == epoch)
            return v;
    }
    return NULL;
}

static void check_data(struct sim *s, uint32_t node, const struct pm_action *a, uint8_t group,
                       uint32_t seq)
{
    size_t at = 0;
    for (uint32_t i = 0; i < s->p.nnodes; i++) {
        if (!sim_group_on(s, node, i, group))
            continue;
        const uint32_t words[] = {a->epoch, group, seq, i};
        if (at + sizeof(words) > a->len || memcmp(a->data + at, words, sizeof(words)) != 0) {
            sim_violate(s, "9: fence %u of group %u in epoch %u gives node %u other bytes than node "
                           "%u put in", seq, group, a->epoch, node, i);
            return;
        }
        at += sizeof(words);
    }
    if (at != a->len)
        sim_violate(s, "9: fence %u of group %u in epoch %u gives node %u %zu bytes too many", seq,
                    group, a->epoch, node, a->len - at);
}

// Whoever killed the rank with its shim is not seen by the agent, and a rank that cannot be reaped may live on.
static bool shim_is_gone(const struct sim *s, const struct sim_life *life)
{
    for (uint32_t i = 0; i < s->nodes[life->node].n_local; i++)
        if (s->nodes[life->node].shims[i].rank.rank == life->rank)
            return !s->nodes[life->node].shims[i].alive;
    return false;
}

enum absence { ABSENT_NOT, ABSENT_FOR_GOOD, ABSENT_UNSTARTED };

// Of the epoch. Who ended and runs again alone counts: the fence may have failed in between.
static enum absence absence_of(const struct sim *s, uint32_t node, uint32_t rank, uint32_t epoch)
{
    const struct sim_check *c = s->check;
    bool started = false;
    if (c->watch[sim_world_of(s, node)->node_of_rank[rank]].gone_ns)
        return ABSENT_FOR_GOOD;
    for (uint32_t i = c->n_lives; i > 0 && c->lives[i - 1].epoch >= epoch; i--) {
        const struct sim_life *life = &c->lives[i - 1];
        if (life->rank != rank || life->epoch != epoch)
            continue;
        started = true;
        if (life->ended || life->called_abort || shim_is_gone(s, life))
            return ABSENT_FOR_GOOD;
    }
    return started ? ABSENT_NOT : ABSENT_UNSTARTED;
}

// A fence fails when a participant cannot come: lost with its node, ended, or, since the user's stop came first, not
// started. That it is not started later either shows in sim_check_unstarted().
static void check_lost(struct sim *s, uint32_t node, uint32_t epoch, uint8_t group)
{
    struct sim_unstarted *u = &s->check->unstarted[group];
    struct pm_set never = {0};
    for (uint32_t rank = 0; rank < sim_nranks(s, node); rank++) {
        enum absence absence = sim_group_has(s, node, rank, group) ? absence_of(s, node, rank, epoch) : ABSENT_NOT;
        if (absence == ABSENT_FOR_GOOD) {
            pm_set_done(&never);
            return;
        }
        int rc = absence == ABSENT_UNSTARTED ? pm_set_add(&never, rank) : 0;
        SIM_ASSERT(rc == 0);
    }
    if (!s->outcome->user || pm_set_empty(&never))
        sim_violate(s, "9: a fence of group %u in epoch %u fails for a lost rank, but none of its ranks was lost", group,
                    epoch);
    pm_set_done(&u->ranks);
    *u = (struct sim_unstarted){.epoch = epoch, .ranks = never};
}

void sim_check_unstarted(struct sim *s, uint32_t rank, uint32_t epoch)
{
    for (uint8_t g = 0; g < SIM_GROUP_MAX; g++) {
        struct sim_unstarted *u = &s->check->unstarted[g];
        if (u->epoch != epoch || !pm_set_has(&u->ranks, rank))
            continue;
        int rc = pm_set_remove(&u->ranks, rank);
        SIM_ASSERT(rc == 0);
        if (pm_set_empty(&u->ranks))
            sim_violate(s, "9: rank %u of epoch %u starts, and a fence of group %u has failed since it would not", rank,
                        epoch, g);
    }
}

static void fence_done(struct sim *s, uint32_t node, struct sim_server *v, const struct pm_action *a)
{
    for (uint8_t g = 0; g < SIM_GROUP_MAX; g++) {
        if (v->gather[g].posted != a->id)
            continue;
        v->gather[g].posted = 0;
        if (a->status == PM_STATUS_OK)
            check_data(s, node, a, g, v->gather[g].seq);
        if (a->status == PM_STATUS_LOST)
            check_lost(s, node, a->epoch, g);
        return;
    }
    sim_violate(s, "5: node %u answers fence %llu of epoch %u, which nobody waits for", node,
                (unsigned long long)a->id, a->epoch);
}

static void modex_done(struct sim *s, uint32_t node, struct sim_server *v, const struct pm_action *a)
{
    for (uint32_t i = 0; i < s->nodes[node].n_local; i++)
        if (v->modex_posted[i] == a->id) {
            v->modex_posted[i] = 0;
            if (a->status == PM_STATUS_OK &&
                (a->len != 8 || memcmp(a->data, &a->epoch, 4) != 0))
                sim_violate(s, "2: node %u is given a blob of another epoch than %u", node, a->epoch);
            return;
        }
    sim_violate(s, "5: node %u answers modex %llu of epoch %u, which nobody waits for", node,
                (unsigned long long)a->id, a->epoch);
}

// Whatever a server asked has been answered when the core gives it up.
void sim_check_drop(struct sim *s, uint32_t node, uint32_t epoch)
{
    const struct sim_server *v = server_of(s, node, epoch);
    if (!v || v->state != SIM_SERVER_READY)
        return;
    for (uint8_t g = 0; g < SIM_GROUP_MAX; g++)
        if (v->gather[g].posted)
            sim_violate(s, "5: node %u drops the server of epoch %u, whose fence %llu it never answered",
                        node, epoch, (unsigned long long)v->gather[g].posted);
    for (uint32_t i = 0; i < s->nodes[node].n_local; i++)
        if (v->modex_posted[i])
            sim_violate(s, "5: node %u drops the server of epoch %u, whose modex %llu it never answered",
                        node, epoch, (unsigned long long)v->modex_posted[i]);
}

void sim_check_done(struct sim *s, uint32_t node, const struct pm_action *a)
{
    struct sim_server *v = server_of(s, node, a->epoch);
    if (!v || a->id == 0)
        return; // its server is gone, and the question with it
    if (a->type == PM_ACTION_FENCE_DONE)
        fence_done(s, node, v, a);
    else
        modex_done(s, node, v, a);
}
