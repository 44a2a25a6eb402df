// SPDX-License-Identifier: Apache-2.0
//
// Invariants 5 and 9: every question of a server is answered once, and a fence that succeeded gives
// every node the same bytes: those of exactly its participants.
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

// Ranks that the user's stop came before are not started any more: they are as good as dead.
static bool anybody_died(const struct sim *s, uint32_t epoch)
{
    const struct sim_check *c = s->check;
    if (s->outcome->user)
        return true;
    for (uint32_t i = c->n_lives; i > 0; i--)
        if (c->lives[i - 1].epoch == epoch && (c->lives[i - 1].ended || c->lives[i - 1].aborted))
            return true;
    return c->n_declared > 0;
}

static void fence_done(struct sim *s, uint32_t node, struct sim_server *v, const struct pm_action *a)
{
    for (uint8_t g = 0; g < SIM_GROUP_MAX; g++) {
        if (v->gather[g].posted != a->id)
            continue;
        v->gather[g].posted = 0;
        if (a->status == PM_STATUS_OK)
            check_data(s, node, a, g, v->gather[g].seq);
        if (a->status == PM_STATUS_LOST && !anybody_died(s, a->epoch))
            sim_violate(s, "9: a fence of epoch %u fails for a lost rank, but none was lost",
                        a->epoch);
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
