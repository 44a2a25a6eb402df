// SPDX-License-Identifier: Apache-2.0
//
// A node of scale mode without its core: shims, ranks and PMIx server, and the local sockets to them;
// see scale.h.
#include "tests/sim/scale.h"

#define SIGTERM_NO 15

void scale_post(struct scale *w, uint32_t node, uint64_t at_ns, struct scale_fact fact)
{
    uint32_t i = scale_item_new(w);
    w->items[i].fact = fact;
    scale_push(w, at_ns + (uint64_t)w->config.costs.local_send_ns, SCALE_LOCAL, node, i);
}

static uint64_t tell(struct scale *w, uint32_t node)
{
    const struct scale_costs *c = &w->config.costs;
    uint64_t sent = scale_busy(w, node, 0, (uint64_t)c->local_send_ns);
    return sent + (uint64_t)(c->local_wake_ns + c->local_recv_ns);
}

static struct scale_rank *rank_of(struct scale *w, uint32_t node, uint32_t local)
{
    return &w->ranks[(size_t)node * w->config.per_node + local];
}

static void rank_says(struct scale *w, uint32_t node, uint32_t local, uint64_t at_ns,
                      enum pm_event_type type, int32_t wait_status)
{
    const struct scale_rank *r = rank_of(w, node, local);
    scale_post(w, node, at_ns,
               (struct scale_fact){.type = (uint8_t)type, .local = (uint8_t)local, .rank = r->rank,
                                   .epoch = r->epoch, .incarnation = r->incarnation,
                                   .pid = ++w->next_pid, .status = wait_status});
}

static void rank_ends(struct scale *w, uint32_t node, uint32_t local, uint64_t at_ns, int32_t status)
{
    struct scale_rank *r = rank_of(w, node, local);
    if (!r->alive)
        return;
    r->alive = false;
    rank_says(w, node, local, at_ns, PM_EVENT_RANK_EXITED, status);
}

void scale_rank_dies(struct scale *w, uint32_t node, uint32_t local, int32_t wait_status)
{
    rank_ends(w, node, local, w->now_ns, wait_status);
}

void scale_shim_reads(struct scale *w, uint32_t node, struct scale_fact told, uint64_t at_ns)
{
    struct scale_rank *r = rank_of(w, node, told.local);
    if (told.type == PM_ACTION_START_RANK) {
        scale_latest(&w->times.start_ns, at_ns);
        *r = (struct scale_rank){.alive = true, .rank = told.rank, .epoch = told.epoch,
                                 .incarnation = told.incarnation};
        at_ns += w->config.fork_ns;
        rank_says(w, node, told.local, at_ns, PM_EVENT_RANK_STARTED, 0);
        rank_says(w, node, told.local, at_ns + 1, PM_EVENT_CONNECTED, 0);
        return;
    }
    bool deadly = told.type == PM_ACTION_KILL_RANK || told.status == SIGTERM_NO;
    if (deadly)
        rank_ends(w, node, told.local, at_ns, told.status ? told.status : 9);
    if (told.type == PM_ACTION_KILL_RANK)
        rank_says(w, node, told.local, at_ns + 1, PM_EVENT_RANK_GONE, 0);
}

static void to_shim(struct scale *w, uint32_t node, const struct pm_action *a)
{
    uint32_t i = scale_item_new(w);
    w->items[i].fact = (struct scale_fact){.type = (uint8_t)a->type, .local = (uint8_t)a->local,
                                           .rank = a->rank, .epoch = a->epoch, .status = a->signal,
                                           .incarnation = a->incarnation};
    uint64_t at_ns = tell(w, node);
    if (a->type == PM_ACTION_SIGNAL_RANK)
        scale_latest(&w->times.term_ns, at_ns);
    scale_push(w, at_ns, SCALE_SHIM, node, i);
}

// --- what the shell does for an action ---------------------------------------------------------------

static void prepare(struct scale *w, uint32_t node, const struct pm_action *a)
{
    uint64_t at_ns = tell(w, node);
    scale_post(w, node, at_ns, (struct scale_fact){.type = PM_EVENT_SERVER_READY, .epoch = a->epoch});
    scale_post(w, node, at_ns, (struct scale_fact){.type = PM_EVENT_PORT, .port = (uint16_t)(20000 + node % 9999)});
}

static void fence_done(struct scale *w, uint32_t node, const struct pm_action *a)
{
    SIM_ASSERT(a->status == PM_STATUS_OK);
    SIM_ASSERT(a->len == 0 || a->len == (w->config.nnodes + w->share - 1) / w->share);
    double copy_ns = (double)a->len * w->unit * w->config.costs.copy_byte_ns;
    scale_busy(w, node, 0, (uint64_t)copy_ns);
    scale_latest(&w->times.fence_ns, tell(w, node));
    w->times.n_fences++;
}

void scale_act(struct scale *w, uint32_t proc, const struct pm_action *a)
{
    switch (a->type) {
    case PM_ACTION_DIAL:
        scale_net_dial(w, proc, a);
        break;
    case PM_ACTION_CLOSE:
        scale_net_close(w, proc, a->link);
        break;
    case PM_ACTION_PREPARE_SERVER:
        prepare(w, proc, a);
        break;
    case PM_ACTION_START_RANK:
    case PM_ACTION_SIGNAL_RANK:
    case PM_ACTION_KILL_RANK:
        to_shim(w, proc, a);
        break;
    case PM_ACTION_NOTIFY:
        if (a->last)
            scale_post(w, proc, tell(w, proc),
                 (struct scale_fact){.type = PM_EVENT_NOTIFIED, .epoch = a->epoch});
        break;
    case PM_ACTION_FENCE_DONE:
        fence_done(w, proc, a);
        break;
    case PM_ACTION_ASK_JOB_STATE:
        scale_post(w, proc, w->procs[proc].busy_ns + 10 * SIM_MS,
                   (struct scale_fact){.type = PM_EVENT_JOB_STATE, .job_state = PM_JOB_RUNNING});
        break;
    case PM_ACTION_DIE:
    case PM_ACTION_EXIT:
        fprintf(stderr, "pm-sim: process %u ended: %s\n", proc, a->text ? a->text : "");
        abort();
    default:
        break; // costs nothing that matters here
    }
}
