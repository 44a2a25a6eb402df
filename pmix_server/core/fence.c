// SPDX-License-Identifier: Apache-2.0
//
// Fences. The contributions of a subtree go up, the coordinator decides once (fence_root.c), the
// result goes down to where participants live (fence_result.c, fence_down.c).
//
// A node keeps its subtree's contributions until the result has arrived and tells each new parent
// all of them; a contributor counts once, however often it is heard. To save messages it waits
// until every participating node below it has come, but never longer than PM_FENCE_HOLD_MS: then it
// sends what is there, and the coordinator knows by name who is late. Nor does it wait with more than
// a piece of data, so that a large fence goes up while the rest still comes. One event causes at most
// one frame of a fence per link.
//
// `late` holds who asked after the result had passed here, or had begun to (fence_result.c).
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pmix_server/core/collective.h"

static const struct pm_set nobody;

// --- Agents: up
// -------------------------------------------------------------------------------------

static bool send_up(struct pm_core *core, struct pm_signature *s, struct pm_fence *f,
                    const struct pm_set *nodes, uint8_t flags)
{
    struct pm_writer w = {0};
    const struct pm_fence_key key = pm_fence_key_of(s, f->seq, !s->parent_knows);
    pm_write_u8(&w, PM_FRAME_FENCE_UP);
    pm_write_fence_key(&w, &key);
    pm_write_u8(&w, flags);
    pm_write_u64(&w, pm_collective_rest_ms(core, f->deadline_ns));
    pm_write_set(&w, nodes);
    if (flags & PM_FENCE_COLLECT)
        pm_fence_write_chunks(&w, f, nodes);
    bool sent = false;
    if (w.error)
        pm_collective_nomem(core);
    else
        sent = pm_send_parent(core, &w);
    pm_writer_done(&w);
    s->parent_knows |= sent;
    return sent;
}

// May contributions go up now, or is it worth waiting for the rest of the subtree?
static bool is_due(struct pm_core *core, struct pm_signature *s, const struct pm_fence *f)
{
    uint8_t news = f->flags & (uint8_t)~f->flags_sent & (PM_FENCE_FAILED | PM_FENCE_TOO_BIG);
    bool is_much = f->bytes - f->bytes_sent >= pm_fence_piece_max(core);
    return f->urgent || news || is_much || !core->world_known || core->now_ns >= f->hold_ns ||
           pm_set_covers(&f->have, pm_signature_nodes(core, s));
}

// Every node on the way may wait, so each takes only a part of what is left of the timeout.
static void hold(struct pm_core *core, struct pm_fence *f)
{
    if (f->hold_ns != UINT64_MAX)
        return;
    uint64_t wait_ns = PM_FENCE_HOLD_MS * PM_MS;
    if (f->deadline_ns != UINT64_MAX) {
        uint64_t rest_ns = f->deadline_ns > core->now_ns ? f->deadline_ns - core->now_ns : 0;
        if (rest_ns / 4 < wait_ns)
            wait_ns = rest_ns / 4;
    }
    f->hold_ns = core->now_ns + wait_ns;
    pm_collective_arm(core->collective, f->hold_ns);
}

// Sends up what the parent has not heard yet.
static void forward(struct pm_core *core, struct pm_signature *s, struct pm_fence *f)
{
    bool has_flags = f->flags & (uint8_t)~f->flags_sent & (PM_FENCE_FAILED | PM_FENCE_TOO_BIG);
    if (!has_flags && pm_set_covers(&f->sent, &f->have))
        return;
    if (!is_due(core, s, f)) {
        hold(core, f);
        return;
    }
    struct pm_set unsent = {0};
    if (pm_set_copy(&unsent, &f->have) < 0 || pm_set_subtract(&unsent, &f->sent) < 0)
        pm_collective_nomem(core);
    uint8_t flags = f->flags;
    if (flags & PM_FENCE_TOO_BIG)
        flags &= (uint8_t)~PM_FENCE_COLLECT;
    f->hold_ns = UINT64_MAX;
    if (send_up(core, s, f, &unsent, flags)) {
        f->flags_sent = f->flags;
        pm_fence_data_sent(f);
        if (pm_set_copy(&f->sent, &f->have) < 0)
            pm_collective_nomem(core);
    }
    pm_set_done(&unsent);
}

static void progress(struct pm_core *core, struct pm_signature *s, struct pm_fence *f)
{
    if (core->coordinator)
        pm_fence_consider(core, s, f);
    else
        forward(core, s, f);
}

static void set_deadline(struct pm_core *core, struct pm_fence *f, uint64_t deadline_ns)
{
    if (deadline_ns >= f->deadline_ns)
        return;
    f->deadline_ns = deadline_ns;
    if (core->coordinator)
        pm_collective_arm(core->collective, deadline_ns);
}

// --- Events
// -------------------------------------------------------------------------------------------

// Who is missing is for node.c to see: a local participant that left without finalize is the cause.
static void tell_local_failure(struct pm_core *core, const struct pm_event *event)
{
    if (!core->world_known || core->coordinator)
        return;
    const struct pm_set *local = &core->world.ranks_of_node[core->config.node];
    for (uint32_t r = pm_set_next(local, 0); r != UINT32_MAX; r = pm_set_next(local, r + 1)) {
        if (pm_set_has(event->set, r))
            pm_node_fence_lost(core, event->epoch, r);
    }
}

static void fail_event(struct pm_core *core, const struct pm_event *event, int32_t status)
{
    const struct pm_answer a = {.status = status, .lost_rank = PM_RANK_NONE};
    pm_fence_emit_done(core, event->epoch, event->id, &a);
}

static void enter(struct pm_core *core, struct pm_signature *s, struct pm_fence *f,
                  const struct pm_event *event)
{
    if (f->decided) { // by an error, before we came; a success would have waited for us
        fail_event(core, event, f->status == PM_STATUS_OK ? PM_STATUS_ERROR : f->status);
        return;
    }
    f->has_local = true;
    f->local_id = event->id;
    f->flags |= event->flag_collect ? PM_FENCE_COLLECT : 0;
    f->flags |= event->flag_failed ? PM_FENCE_FAILED : 0;
    set_deadline(core, f, pm_collective_until(core, event->timeout_ms));
    pm_fence_contribute(core, f, core->config.node, event->data, event->len);
    progress(core, s, f);
}

void pm_fence_event(struct pm_core *core, const struct pm_event *event)
{
    if (event->epoch < core->collective->first_epoch) {
        fail_event(core, event, PM_STATUS_ABORTED);
        return;
    }
    if (event->flag_failed)
        tell_local_failure(core, event);
    struct pm_signature *s = pm_signature_get(core, event->epoch, event->set);
    if (!s) {
        pm_say(core, "node %u refuses a fence: unknown ranks, or more than %u sets of ranks",
               core->config.node, PM_SIGNATURES_MAX);
        fail_event(core, event, PM_STATUS_ERROR);
        return;
    }
    uint64_t seq = s->next_seq++;
    struct pm_fence *f = pm_signature_fence(s, seq);
    if (!f)
        f = pm_signature_add_fence(core, s, seq);
    if (f) {
        enter(core, s, f, event);
        return;
    }
    pm_say(core, "node %u refuses a fence: more than %u are pending", core->config.node,
           PM_FENCE_PENDING_MAX);
    fail_event(core, event, PM_STATUS_ERROR);
    struct pm_fence refused = {.seq = seq, .deadline_ns = UINT64_MAX};
    send_up(core, s, &refused, &nobody, PM_FENCE_TOO_BIG);
}

// --- Frames
// -------------------------------------------------------------------------------------------

struct up {
    struct pm_fence_key key;
    uint8_t flags;
    uint64_t timeout_ms;
    struct pm_set nodes;
    struct pm_reader chunks;
};

static void read_up(struct pm_core *core, struct pm_reader *r, struct up *up)
{
    pm_read_fence_key(r, &up->key);
    up->flags = pm_read_u8(r);
    up->timeout_ms = pm_read_u64(r);
    pm_read_set(r, &up->nodes, PM_FENCE_SPANS_MAX);
    if (up->flags & ~(PM_FENCE_COLLECT | PM_FENCE_FAILED | PM_FENCE_TOO_BIG))
        r->error = -EBADMSG;
    bool is_outside = core->world_known && !pm_set_empty(&up->nodes) &&
                      up->nodes.spans[up->nodes.n - 1].last >= core->world.nnodes;
    if (is_outside)
        r->error = -EBADMSG;
    up->chunks = *r;
    if (!r->error && (up->flags & PM_FENCE_COLLECT))
        pm_fence_skip_chunks(r, &up->nodes);
}

static void take_contributions(struct pm_core *core, struct pm_fence *f, uint32_t from,
                               struct up *up)
{
    f->flags |= up->flags;
    if (pm_set_add(&f->from, from) < 0)
        pm_collective_nomem(core);
    // Who repeats itself has a new way up; the result may have passed while it had none, so ask
    // again.
    if (pm_set_intersects(&f->sent, &up->nodes))
        pm_fence_data_unsent(f);
    if (!core->coordinator && pm_set_subtract(&f->sent, &up->nodes) < 0)
        pm_collective_nomem(core);
    set_deadline(core, f, pm_collective_until(core, up->timeout_ms));
    if (!(up->flags & PM_FENCE_COLLECT)) {
        if (pm_set_union(&f->have, &up->nodes) < 0)
            pm_collective_nomem(core);
        return;
    }
    const struct pm_set *nodes = &up->nodes;
    for (uint32_t n = pm_set_next(nodes, 0); n != UINT32_MAX; n = pm_set_next(nodes, n + 1)) {
        size_t len;
        const uint8_t *data = pm_read_bytes(&up->chunks, PM_FENCE_DATA_MAX, &len);
        pm_fence_contribute(core, f, n, data, len);
    }
}

// Asked about a fence that is decided here, or whose result is under way and has passed this child
// by. Only the coordinator has the data of a success. What comes for the first that asked is for all
// of them (fence_down.c), so that many ask for one more result, and not each for its own.
static void answer_late(struct pm_core *core, struct pm_signature *s, struct pm_fence *f,
                        uint32_t from, struct up *up)
{
    const struct pm_answer a = pm_fence_memo_answer(f);
    if (core->coordinator || f->status != PM_STATUS_OK) {
        pm_fence_reply(core, from, &up->key, &a, &up->nodes);
        return;
    }
    bool is_asked = !pm_set_empty(&f->late);
    if (pm_set_union(&f->late, &up->nodes) < 0 || pm_set_add(&f->from, from) < 0)
        pm_collective_nomem(core);
    if (!is_asked)
        send_up(core, s, f, &f->late, 0);
}

static void handle_up(struct pm_core *core, uint32_t from, struct up *up)
{
    static const struct pm_answer error = {.status = PM_STATUS_ERROR, .lost_rank = PM_RANK_NONE};
    struct pm_signature *s = up->key.has_ranks
                                 ? pm_signature_get(core, up->key.epoch, &up->key.ranks)
                                 : pm_signature_find(core->collective, up->key.epoch, up->key.hash);
    if (!s) {
        pm_fence_reply(core, from, &up->key, &error, &up->nodes);
        return;
    }
    if (pm_set_add(&s->known_children, from) < 0)
        pm_collective_nomem(core);
    struct pm_fence *f = pm_signature_fence(s, up->key.seq);
    bool is_forgotten = core->coordinator && !f && up->key.seq < s->forgotten;
    if (!f && !is_forgotten)
        f = pm_signature_add_fence(core, s, up->key.seq);
    if (!f) {
        pm_fence_reply(core, from, &up->key, &error, &up->nodes);
        return;
    }
    // Of a result that is under way there may have been no room for a record until now.
    if (f->decided || pm_flow_is_of(core->collective, s, f)) {
        answer_late(core, s, f, from, up);
        return;
    }
    take_contributions(core, f, from, up);
    progress(core, s, f);
}

void pm_fence_frame_up(struct pm_core *core, uint32_t from, struct pm_reader *r)
{
    struct up up = {0};
    read_up(core, r, &up);
    if (pm_reader_end(r) == 0 && up.key.epoch >= core->collective->first_epoch)
        handle_up(core, from, &up);
    pm_set_done(&up.key.ranks);
    pm_set_done(&up.nodes);
}

// --- Time, tree, end of the epoch
// ---------------------------------------------------------------------------------

static void visit_timer(struct pm_core *core, struct pm_signature *s, struct pm_fence *f)
{
    if (core->coordinator && core->now_ns >= f->deadline_ns) {
        pm_fence_decide(core, s, f, PM_STATUS_TIMEOUT, PM_RANK_NONE);
        return;
    }
    if (!core->coordinator && core->now_ns >= f->hold_ns) {
        s->nodes_tree = 0; // who did not come may no longer be below
        forward(core, s, f);
    }
    if (core->coordinator && core->now_ns >= f->hold_ns) {
        pm_fence_consider(core, s, f);
        return;
    }
    pm_collective_arm(core->collective, f->hold_ns);
    if (core->coordinator)
        pm_collective_arm(core->collective, f->deadline_ns);
}

void pm_fence_timer(struct pm_core *core)
{
    pm_fence_for_pending(core, visit_timer);
}

void pm_fence_on_parent(struct pm_core *core)
{
    struct pm_collective *c = core->collective;
    pm_flow_lose_parent(core);
    for (uint32_t i = 0; i < c->n_signatures; i++) {
        struct pm_signature *s = c->signatures[i];
        s->parent_knows = false;
        for (struct pm_fence *f = s->fences; f; f = f->next) {
            pm_set_clear(&f->sent);
            pm_fence_data_unsent(f);
            f->flags_sent = 0;
            if (!f->decided)
                forward(core, s, f);
            else if (!pm_set_empty(&f->late))
                send_up(core, s, f, &f->late, 0);
        }
    }
}

// Nobody who contributed is left: each of them tells its new parent by itself.
static bool is_orphan(const struct pm_core *core, const struct pm_signature *s,
                      const struct pm_fence *f)
{
    return !core->coordinator && !f->has_local && pm_set_empty(&f->from) &&
           !pm_flow_is_of(core->collective, s, f);
}

static void visit_tree(struct pm_core *core, struct pm_signature *s, struct pm_fence *f)
{
    if (is_orphan(core, s, f))
        pm_signature_remove_fence(core, s, f);
    else
        progress(core, s, f);
}

void pm_fence_forget_child(struct pm_core *core, uint32_t child)
{
    struct pm_collective *c = core->collective;
    int rc = pm_set_remove(&c->flow.children, child);
    for (uint32_t i = 0; i < c->n_signatures && rc == 0; i++) {
        struct pm_signature *s = c->signatures[i];
        rc = pm_set_remove(&s->known_children, child);
        for (struct pm_fence *f = s->fences; f && rc == 0; f = f->next)
            rc = pm_set_remove(&f->from, child);
    }
    if (rc < 0)
        pm_collective_nomem(core);
}

void pm_fence_on_tree(struct pm_core *core)
{
    pm_fence_for_pending(core, visit_tree);
}

void pm_fence_epoch_over(struct pm_core *core, uint32_t epoch)
{
    struct pm_collective *c = core->collective;
    static const struct pm_answer aborted = {.status = PM_STATUS_ABORTED,
                                             .lost_rank = PM_RANK_NONE};
    for (uint32_t i = 0; i < c->n_signatures && c->signatures[i]->epoch <= epoch; i++) {
        const struct pm_signature *s = c->signatures[i];
        for (const struct pm_fence *f = s->fences; f; f = f->next) {
            if (f->has_local)
                pm_fence_emit_done(core, s->epoch, f->local_id, &aborted);
        }
    }
    pm_signatures_drop(c, epoch);
    if (c->flow.key.epoch <= epoch)
        pm_flow_done(&c->flow);
}
