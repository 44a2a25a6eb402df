// SPDX-License-Identifier: Apache-2.0
//
// The inside of pm-pmix-server: ranks connect, fence, ask and finalize; the agent answers for the
// rest of the world.
#include "tests/sim/server.h"

// --- what ranks do to it -------------------------------------------------------------------------

static struct sim_server *serving(struct sim *s, uint32_t node, uint32_t local)
{
    struct sim_server *v = sim_server_find(s, node, false, s->nodes[node].shims[local].rank.epoch);
    return v && v->process && v->state >= SIM_SERVER_READY ? v : NULL;
}

static uint64_t bit(uint32_t local)
{
    return 1ull << local;
}

static void answer_fetch(struct sim *s, uint32_t node, struct sim_server *v, uint32_t local,
                         int32_t status)
{
    if (!v->fetch_id[local])
        return;
    sim_server_say(s, node, v,
                   (struct sim_msg){.type = SIM_MSG_FETCHED,
                                    .id = v->fetch_id[local],
                                    .status = status,
                                    .rank = sim_rank_of(s, node, local)});
    v->fetch_id[local] = 0;
}

bool sim_server_connect(struct sim *s, uint32_t node, uint32_t local)
{
    struct sim_server *v = serving(s, node, local);
    if (!v)
        return false;
    v->connected |= bit(local);
    v->lost &= ~bit(local);
    sim_server_say(
        s, node, v,
        (struct sim_msg){.type = SIM_MSG_CONNECTED, .rank = s->nodes[node].shims[local].rank.rank});
    answer_fetch(s, node, v, local, PM_STATUS_OK);
    return true;
}

void sim_server_finalize(struct sim *s, uint32_t node, uint32_t local)
{
    struct sim_server *v = serving(s, node, local);
    if (!v)
        return;
    v->finalized |= bit(local);
    sim_server_say(
        s, node, v,
        (struct sim_msg){.type = SIM_MSG_FINALIZED, .rank = s->nodes[node].shims[local].rank.rank});
}

void sim_server_abort(struct sim *s, uint32_t node, uint32_t local, int32_t status)
{
    struct sim_server *v = serving(s, node, local);
    if (v)
        sim_server_say(s, node, v,
                       (struct sim_msg){.type = SIM_MSG_ABORT,
                                        .status = status,
                                        .rank = s->nodes[node].shims[local].rank.rank});
}

bool sim_group_has(const struct sim *s, uint32_t node, uint32_t rank, uint8_t group)
{
    bool low = rank < sim_nranks(s, node) / 2;
    return group == SIM_GROUP_ALL || (group == SIM_GROUP_LOW) == low;
}

uint64_t sim_group_locals(const struct sim *s, uint32_t node, uint8_t group)
{
    uint64_t bits = 0;
    for (uint32_t i = 0; i < s->nodes[node].n_local; i++) {
        uint32_t rank = sim_rank_of(s, node, i);
        if (rank != PM_RANK_NONE && sim_group_has(s, node, rank, group))
            bits |= bit(i);
    }
    return bits;
}

bool sim_group_on(const struct sim *s, uint32_t node, uint32_t other, uint8_t group)
{
    const struct pm_world *world = sim_world_of(s, node);
    const struct pm_set none = {0}, *ranks = world ? &world->ranks_of_node[other] : &none;
    for (uint32_t rank = pm_set_next(ranks, 0); rank != UINT32_MAX; rank = pm_set_next(ranks, rank + 1))
        if (sim_group_has(s, node, rank, group))
            return true;
    return false;
}

static bool all_local(const struct sim *s, uint32_t node, uint8_t group)
{
    for (uint32_t i = 0; i < s->p.nnodes; i++)
        if (i != node && sim_group_on(s, node, i, group))
            return false;
    return true;
}

static void release(struct sim *s, uint32_t node, struct sim_gather *g, int32_t status)
{
    uint64_t arrived = g->arrived;
    g->arrived = 0;
    g->id = 0;
    g->seq++;
    for (uint32_t i = 0; i < s->nodes[node].n_local; i++)
        if (arrived >> i & 1)
            sim_rank_fenced(s, node, i, status);
}

// All local participants have come, or never will.
static void gather_look(struct sim *s, uint32_t node, struct sim_server *v, uint8_t group)
{
    struct sim_gather *g = &v->gather[group];
    uint64_t locals = sim_group_locals(s, node, group);
    if (g->id || !g->arrived || (locals & ~(g->arrived | v->lost)))
        return;
    bool failed = (locals & v->lost & ~g->arrived) != 0;
    if (all_local(s, node, group)) {
        release(s, node, g, failed ? PM_STATUS_LOST : PM_STATUS_OK);
        return;
    }
    g->id = ++v->next_id;
    sim_server_say(s, node, v,
                   (struct sim_msg){.type = SIM_MSG_FENCE,
                                    .id = g->id,
                                    .group = group,
                                    .incarnation = g->seq,
                                    .failed = failed,
                                    .flag = true});
}

void sim_server_fence(struct sim *s, uint32_t node, uint32_t local, uint8_t group)
{
    struct sim_server *v = serving(s, node, local);
    if (!v) {
        sim_rank_fenced(s, node, local, PM_STATUS_ERROR);
        return;
    }
    v->gather[group].arrived |= bit(local);
    gather_look(s, node, v, group);
}

void sim_server_ask(struct sim *s, uint32_t node, uint32_t local)
{
    struct sim_server *v = serving(s, node, local);
    uint32_t rank = sim_rng_pick(&s->life, sim_nranks(s, node));
    const struct pm_world *world = sim_world_of(s, node);
    if (!v || !world || world->node_of_rank[rank] == node) {
        sim_rank_asked(s, node, local);
        return;
    }
    v->modex_id[local] = ++v->next_id;
    sim_server_say(
        s, node, v,
        (struct sim_msg){
            .type = SIM_MSG_MODEX, .id = v->modex_id[local], .rank = rank, .incarnation = local});
}

static void client_gone(struct sim *s, uint32_t node, struct sim_server *v, uint32_t local)
{
    if (v->lost & bit(local))
        return;
    v->lost |= bit(local);
    v->modex_id[local] = 0;
    for (uint8_t g = 0; g < SIM_GROUP_MAX; g++) {
        if (!v->gather[g].id)
            v->gather[g].arrived &= ~bit(local);
        gather_look(s, node, v, g);
    }
    answer_fetch(s, node, v, local, PM_STATUS_NOT_FOUND);
}

void sim_server_lost_client(struct sim *s, uint32_t node, uint32_t local)
{
    struct sim_server *v = serving(s, node, local);
    if (v && !v->stuck)
        client_gone(s, node, v, local);
}

// --- what the agent tells it ---------------------------------------------------------------------

static void take_fence_done(struct sim *s, uint32_t node, struct sim_server *v,
                            const struct sim_msg *msg)
{
    for (int g = 0; g < SIM_GROUP_MAX; g++)
        if (v->gather[g].id == msg->id)
            release(s, node, &v->gather[g], msg->status);
}

static void take_modex_done(struct sim *s, uint32_t node, struct sim_server *v,
                            const struct sim_msg *msg)
{
    for (uint32_t i = 0; i < s->nodes[node].n_local; i++)
        if (v->modex_id[i] == msg->id) {
            v->modex_id[i] = 0;
            sim_rank_asked(s, node, i);
        }
}

static void take_fetch(struct sim *s, uint32_t node, struct sim_server *v,
                       const struct sim_msg *msg)
{
    uint32_t local = sim_local_of(s, node, msg->rank); // none: the newest map has moved it away
    if (local == SIM_NONE)
        return;
    v->fetch_id[local] = msg->id;
    if (v->connected & bit(local))
        answer_fetch(s, node, v, local, PM_STATUS_OK);
    else if (v->lost & bit(local))
        answer_fetch(s, node, v, local, PM_STATUS_NOT_FOUND);
}

static void take_cancel(struct sim *s, uint32_t node, struct sim_server *v,
                        const struct sim_msg *msg)
{
    for (uint32_t i = 0; i < s->nodes[node].n_local; i++)
        if (v->fetch_id[i] == msg->id)
            v->fetch_id[i] = 0;
}

static void take_notify(struct sim *s, uint32_t node, struct sim_server *v,
                        const struct sim_msg *msg)
{
    sim_server_say(s, node, v, (struct sim_msg){.type = SIM_MSG_NOTIFIED, .id = msg->id});
}

static void take_died(struct sim *s, uint32_t node, struct sim_server *v, const struct sim_msg *msg)
{
    uint32_t local = sim_local_of(s, node, msg->rank);
    if (local != SIM_NONE)
        client_gone(s, node, v, local);
}

void sim_server_take(struct sim *s, uint32_t node, uint32_t index, const struct sim_msg *msg)
{
    static void (*const takes[SIM_MSG_MAX])(struct sim * s, uint32_t node, struct sim_server * v,
                                            const struct sim_msg *msg) = {
        [SIM_MSG_FENCE_DONE] = take_fence_done, [SIM_MSG_MODEX_DONE] = take_modex_done,
        [SIM_MSG_FETCH] = take_fetch,           [SIM_MSG_FETCH_CANCEL] = take_cancel,
        [SIM_MSG_NOTIFY] = take_notify,         [SIM_MSG_DIED] = take_died,
    };
    struct sim_server *v = sim_server_place(s, node, index);
    SIM_ASSERT(takes[msg->type]);
    if (v->process && v->stamp == msg->stamp)
        takes[msg->type](s, node, v, msg);
}
