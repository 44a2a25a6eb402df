// SPDX-License-Identifier: Apache-2.0
//
// The result of a fence at a node: down to where participants live, to the local server, and into
// the memo.
//
// A result of more than two pieces goes down in pieces, each to all children before the next, so that
// a node passes on what it has while the rest is still coming. A smaller one goes whole: it would gain
// little and cost frames.
//
// A decided fence stays for a while. Who asks again gets the same answer: from the coordinator's
// memo, or from any node's if it was an error. Only the coordinator keeps data.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pmix_server/core/collective.h"

struct pm_fence_key pm_fence_key_of(const struct pm_signature *s, uint64_t seq, bool has_ranks)
{
    return (struct pm_fence_key){
        .epoch = s->epoch, .hash = s->hash, .seq = seq, .has_ranks = has_ranks, .ranks = s->ranks};
}

// --- Results: to the local server and down ------------------------------------------------------

void pm_fence_emit_done(struct pm_core *core, uint32_t epoch, uint64_t id,
                        const struct pm_answer *a)
{
    struct pm_action *done = pm_emit(core, PM_ACTION_FENCE_DONE);
    done->epoch = epoch;
    done->id = id;
    done->status = a->status;
    if (a->status == PM_STATUS_OK && a->len)
        pm_action_set_data(core, done, a->data, a->len);
}

static void write_down(struct pm_writer *w, const struct pm_fence_key *key,
                       const struct pm_answer *a, const struct pm_set *targets)
{
    bool is_whole = a->len == a->total;
    pm_write_u8(w, is_whole ? PM_FRAME_FENCE_DOWN : PM_FRAME_FENCE_BEGIN);
    pm_write_fence_key(w, key);
    pm_write_i32(w, a->status);
    pm_write_u32(w, a->lost_rank);
    pm_write_set(w, targets);
    pm_write_bytes(w, a->data, a->len);
    if (!is_whole)
        pm_write_u32(w, (uint32_t)a->total);
}

size_t pm_fence_piece_max(const struct pm_core *core)
{
    return core->config.fence_piece ? core->config.fence_piece : PM_FENCE_PIECE;
}

// The coordinator cuts; an agent passes on what it got.
static struct pm_answer first_piece(const struct pm_core *core, const struct pm_answer *a)
{
    struct pm_answer first = *a;
    if (core->coordinator && a->len > 2 * pm_fence_piece_max(core))
        first.len = pm_fence_piece_max(core);
    return first;
}

void pm_fence_send_piece(struct pm_core *core, const struct pm_fence_key *key, size_t at,
                         const uint8_t *data, size_t len)
{
    struct pm_writer w = {0};
    pm_write_u8(&w, PM_FRAME_FENCE_PIECE);
    pm_write_fence_key(&w, key);
    pm_write_u32(&w, (uint32_t)at);
    pm_write_bytes(&w, data, len);
    const struct pm_set *children = &core->collective->flow.children;
    for (uint32_t child = pm_set_next(children, 0); child != UINT32_MAX && !w.error;
         child = pm_set_next(children, child + 1))
        pm_send_child(core, child, &w);
    if (w.error)
        pm_collective_nomem(core);
    pm_writer_done(&w);
}

// What follows the first `at` bytes, if it is here.
static void send_rest(struct pm_core *core, const struct pm_fence_key *key,
                      const struct pm_answer *a, size_t at)
{
    if (at == a->len)
        return;
    for (size_t len; at < a->len; at += len) {
        len = a->len - at < pm_fence_piece_max(core) ? a->len - at : pm_fence_piece_max(core);
        pm_fence_send_piece(core, key, at, a->data + at, len);
    }
    pm_set_clear(&core->collective->flow.children);
}

// To one child; true: it got it.
static bool send_first(struct pm_core *core, uint32_t child, const struct pm_writer *w,
                       bool is_whole)
{
    if (!pm_send_child(core, child, w))
        return false; // a child that is gone asks again when it is back
    if (!is_whole && pm_set_add(&core->collective->flow.children, child) < 0)
        pm_collective_nomem(core);
    return true;
}

static bool is_wanted_by(struct pm_core *core, struct pm_signature *s, const struct pm_set *targets,
                         uint32_t child)
{
    if (pm_set_empty(targets))
        return pm_signature_is_below(core, s, child);
    const struct pm_set *below = pm_subtree(core, child);
    return pm_set_has(targets, child) || (below && pm_set_intersects(targets, below));
}

// What is known of who hangs below a child comes late after a change; that a child has asked does
// not.
void pm_fence_spread(struct pm_core *core, struct pm_signature *s, const struct pm_fence *f,
                     const struct pm_answer *a, const struct pm_set *targets)
{
    struct pm_writer frames[2] = {0}; // without and with the set of ranks
    const struct pm_answer first = first_piece(core, a);
    uint32_t n;
    const uint32_t *children = pm_children(core, &n);
    for (uint32_t i = 0; i < n; i++) {
        if (!pm_set_has(&f->from, children[i]) && !is_wanted_by(core, s, targets, children[i]))
            continue;
        bool with_ranks = !pm_set_has(&s->known_children, children[i]);
        struct pm_writer *w = &frames[with_ranks];
        const struct pm_fence_key key = pm_fence_key_of(s, f->seq, with_ranks);
        if (w->len == 0)
            write_down(w, &key, &first, targets);
        if (send_first(core, children[i], w, first.len == first.total) &&
            pm_set_add(&s->known_children, children[i]) < 0)
            pm_collective_nomem(core);
    }
    const struct pm_fence_key key = pm_fence_key_of(s, f->seq, false);
    send_rest(core, &key, a, first.len);
    if (frames[0].error || frames[1].error)
        pm_collective_nomem(core);
    pm_writer_done(&frames[0]);
    pm_writer_done(&frames[1]);
}

// Answers `nodes` below the child that asked for them. It knows the set.
void pm_fence_reply(struct pm_core *core, uint32_t child, const struct pm_fence_key *asked,
                    const struct pm_answer *a, const struct pm_set *nodes)
{
    struct pm_writer w = {0};
    struct pm_fence_key key = *asked;
    key.has_ranks = false;
    const struct pm_answer first = first_piece(core, a);
    write_down(&w, &key, &first, nodes);
    if (w.error)
        pm_collective_nomem(core);
    else if (send_first(core, child, &w, first.len == first.total))
        send_rest(core, &key, a, first.len);
    pm_writer_done(&w);
}

// --- Memo of decided fences ----------------------------------------------------------------------

static void forget(struct pm_collective *c, struct pm_signature *s, struct pm_fence **at)
{
    struct pm_fence *f = *at;
    *at = f->next;
    if (f->seq >= s->forgotten)
        s->forgotten = f->seq + 1;
    c->memo_bytes -= f->len;
    s->n_decided--;
    pm_fence_free(f);
}

// Keeps the newest few; one that still owes somebody an answer stays.
static void trim_memo(struct pm_core *core, struct pm_signature *s, const struct pm_fence *newest)
{
    uint32_t keep = core->coordinator ? PM_FENCE_MEMO_ROOT : PM_FENCE_MEMO_AGENT;
    struct pm_fence **at = &s->fences;
    while (*at && s->n_decided > keep) {
        bool is_needed = !pm_set_empty(&(*at)->late) || pm_flow_is_of(core->collective, s, *at);
        if ((*at)->decided && *at != newest && !is_needed)
            forget(core->collective, s, at);
        else
            at = &(*at)->next;
    }
}

static struct pm_fence *oldest_memo(struct pm_collective *c, const struct pm_fence *newest)
{
    struct pm_fence *oldest = NULL;
    for (uint32_t i = 0; i < c->n_signatures; i++) {
        for (struct pm_fence *f = c->signatures[i]->fences; f; f = f->next) {
            bool is_candidate = f->decided && f != newest && f->data;
            if (is_candidate && (!oldest || f->decided_order < oldest->decided_order))
                oldest = f;
        }
    }
    return oldest;
}

// Gives up the data of the oldest results; whoever still asks for one of them gets an error.
static void trim_memo_bytes(struct pm_collective *c, const struct pm_fence *newest)
{
    while (c->memo_bytes > PM_FENCE_MEMO_BYTES) {
        struct pm_fence *f = oldest_memo(c, newest);
        if (!f)
            return;
        c->memo_bytes -= f->len;
        free(f->data);
        f->data = NULL;
        f->len = 0;
        f->dropped = true;
    }
}

struct pm_answer pm_fence_memo_answer(const struct pm_fence *f)
{
    if (f->dropped)
        return (struct pm_answer){.status = PM_STATUS_ERROR, .lost_rank = PM_RANK_NONE};
    return (struct pm_answer){.status = f->status,
                              .lost_rank = f->lost_rank,
                              .data = f->data,
                              .len = f->len,
                              .total = f->len};
}

// --- The end of a fence at this node
// ----------------------------------------------------------------

static void tell_node(struct pm_core *core, uint32_t epoch, uint32_t rank)
{
    const struct pm_world *world = &core->world;
    if (core->coordinator || !core->world_known || rank >= world->nranks)
        return;
    if (world->node_of_rank[rank] == core->config.node)
        pm_node_fence_lost(core, epoch, rank);
}

// With --pm-log-nodes: what this node was given, as hashes, so that logs show that all got the
// same.
static void log_success(struct pm_core *core, const struct pm_signature *s,
                        const struct pm_fence *f, const struct pm_answer *a)
{
    if (core->config.options->log_nodes[0] == '\0')
        return;
    struct pm_digest name = {0}, digest = {0};
    pm_digest_u64(&name, s->epoch);
    pm_digest_u64(&name, s->hash);
    pm_digest_u64(&name, f->seq);
    pm_digest_bytes(&digest, a->data, a->len);
    struct pm_log *log = pm_log_record(core, "fence");
    log->epoch = s->epoch;
    log->node = core->config.node;
    log->has_fence = true;
    log->fence = name.h;
    log->digest = digest.h;
}

// The result is here: the local server gets it, contributions are no longer needed.
void pm_fence_complete(struct pm_core *core, struct pm_signature *s, struct pm_fence *f,
                       const struct pm_answer *a)
{
    struct pm_collective *c = core->collective;
    f->decided = true;
    f->decided_order = ++c->decisions;
    f->status = a->status;
    f->lost_rank = a->lost_rank;
    f->deadline_ns = f->hold_ns = UINT64_MAX;
    c->n_pending--;
    s->n_decided++;
    c->memo_bytes += f->len;
    if (f->has_local)
        pm_fence_emit_done(core, s->epoch, f->local_id, a);
    if (f->has_local && a->status == PM_STATUS_OK)
        log_success(core, s, f, a);
    f->has_local = false;
    pm_fence_drop_data(f);
    pm_set_done(&f->have);
    pm_set_done(&f->sent);
    trim_memo(core, s, f);
    trim_memo_bytes(c, f);
    // Last: what node.c makes of it may come back here.
    if (a->status == PM_STATUS_LOST)
        tell_node(core, s->epoch, a->lost_rank);
}
