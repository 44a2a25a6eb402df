// SPDX-License-Identifier: Apache-2.0
//
// The result of a fence as an agent gets it from its parent: whole in one frame, or in pieces, each
// of which goes on to the children before the next has come.
//
// Children get a result from its first piece on or not at all: who gets it is decided with the
// first, by the same rule as for a whole one, and whoever asks later is answered by a result of its
// own. Pieces are in order, or the peer is broken and its link is closed. When the parent is lost in
// the middle, or begins another result because it lost its own, what is here is forgotten, whoever
// was getting it is owed it again, and it is asked for again. The local server hears of a
// success when the last piece is here.
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pmix_server/core/collective.h"

// --- The result that is under way --------------------------------------------------------------

void pm_flow_done(struct pm_flow *flow)
{
    pm_set_done(&flow->children);
    pm_set_done(&flow->nodes);
    pm_writer_done(&flow->bytes);
    *flow = (struct pm_flow){0};
}

bool pm_flow_clone(struct pm_flow *copy, const struct pm_flow *flow)
{
    *copy = *flow;
    copy->children = copy->nodes = (struct pm_set){0};
    copy->bytes = (struct pm_writer){0};
    pm_write_raw(&copy->bytes, flow->bytes.data, flow->bytes.len);
    return pm_set_copy(&copy->children, &flow->children) == 0 &&
           pm_set_copy(&copy->nodes, &flow->nodes) == 0 && !copy->bytes.error;
}

void pm_flow_digest(const struct pm_flow *flow, struct pm_digest *d)
{
    pm_digest_u64(d, flow->total);
    if (flow->total == 0)
        return;
    pm_digest_u64(d, flow->key.epoch);
    pm_digest_u64(d, flow->key.hash);
    pm_digest_u64(d, flow->key.seq);
    pm_digest_u64(d, flow->at);
    pm_digest_set(d, &flow->children);
    pm_digest_set(d, &flow->nodes);
    pm_digest_bytes(d, flow->bytes.data, flow->bytes.len);
}

static bool is_under_way(const struct pm_flow *flow, const struct pm_fence_key *key)
{
    return flow->total && flow->key.epoch == key->epoch && flow->key.hash == key->hash &&
           flow->key.seq == key->seq;
}

bool pm_flow_is_of(const struct pm_collective *c, const struct pm_signature *s,
                   const struct pm_fence *f)
{
    const struct pm_fence_key key = pm_fence_key_of(s, f->seq, false);
    return is_under_way(&c->flow, &key);
}

// NULL: it was forgotten, or there was no room for it.
static struct pm_fence *fence_of(struct pm_collective *c, struct pm_signature **ret_s)
{
    const struct pm_fence_key *key = &c->flow.key;
    *ret_s = pm_signature_find(c, key->epoch, key->hash);
    return *ret_s ? pm_signature_fence(*ret_s, key->seq) : NULL;
}

void pm_flow_abandon(struct pm_core *core)
{
    struct pm_flow *flow = &core->collective->flow;
    struct pm_signature *s;
    struct pm_fence *f = flow->total ? fence_of(core->collective, &s) : NULL;
    int rc = 0;
    if (f) {
        rc = pm_set_union(&f->from, &flow->children);
        rc = rc < 0 ? rc : pm_set_union(&f->late, &flow->nodes);
    }
    if (f && !f->decided) { // asks once more for all of them
        rc = rc < 0 ? rc : pm_set_union(&f->have, &f->late);
        pm_set_clear(&f->late);
    }
    if (rc < 0)
        pm_collective_nomem(core);
    pm_flow_done(flow);
}

// Without a record nobody here would ask the next parent for it.
void pm_flow_lose_parent(struct pm_core *core)
{
    static const struct pm_answer error = {.status = PM_STATUS_ERROR, .lost_rank = PM_RANK_NONE};
    static const struct pm_set everybody;
    struct pm_flow *flow = &core->collective->flow;
    struct pm_signature *s;
    bool is_recorded = flow->total && fence_of(core->collective, &s);
    for (uint32_t child = pm_set_next(&flow->children, 0); child != UINT32_MAX && !is_recorded;
         child = pm_set_next(&flow->children, child + 1))
        pm_fence_reply(core, child, &flow->key, &error, &everybody);
    pm_flow_abandon(core);
}

static void append(struct pm_core *core, const uint8_t *data, size_t len)
{
    struct pm_flow *flow = &core->collective->flow;
    pm_write_raw(&flow->bytes, data, len);
    if (flow->bytes.error)
        pm_collective_nomem(core);
}

// The first piece of `a` has been passed on. It is decided, so what was contributed is of no use any
// more, but who contributed is, should the rest not come.
static void begin(struct pm_core *core, const struct pm_fence_key *key, struct pm_fence *f,
                  const struct pm_answer *a)
{
    struct pm_flow *flow = &core->collective->flow;
    flow->key = (struct pm_fence_key){.epoch = key->epoch, .hash = key->hash, .seq = key->seq};
    flow->total = a->total;
    flow->at = a->len;
    flow->nodes = f->late;
    f->late = (struct pm_set){0};
    pm_fence_drop_data(f);
    f->flags &= (uint8_t)~PM_FENCE_COLLECT;
    if (f->has_local)
        append(core, a->data, a->len);
}

static void end(struct pm_core *core)
{
    struct pm_collective *c = core->collective;
    struct pm_flow flow = c->flow;
    struct pm_signature *s;
    struct pm_fence *f = fence_of(c, &s);
    c->flow = (struct pm_flow){0};
    static const struct pm_answer error = {.status = PM_STATUS_ERROR, .lost_rank = PM_RANK_NONE};
    const struct pm_answer a = {.status = PM_STATUS_OK,
                                .lost_rank = PM_RANK_NONE,
                                .data = flow.bytes.data,
                                .len = flow.bytes.len,
                                .total = flow.total};
    // Who enters only now was not waited for; for all others the fence is a success.
    if (f && f->has_local && flow.bytes.len < flow.total) {
        pm_fence_emit_done(core, s->epoch, f->local_id, &error);
        f->has_local = false;
    }
    if (f && !f->decided)
        pm_fence_complete(core, s, f, &a);
    pm_flow_done(&flow);
}

// --- Frames ------------------------------------------------------------------------------------

struct down {
    struct pm_fence_key key;
    struct pm_answer answer;
    struct pm_set targets;
};

static bool is_sound(const struct pm_answer *a, bool in_pieces)
{
    if (a->status < 0 || a->status > PM_STATUS_ERROR)
        return false;
    if (!in_pieces)
        return true;
    return a->status == PM_STATUS_OK && a->len && a->len < a->total &&
           a->total <= PM_FENCE_RESULT_MAX;
}

static void read_down(struct pm_core *core, struct pm_reader *r, bool in_pieces, struct down *down)
{
    struct pm_answer *a = &down->answer;
    pm_read_fence_key(r, &down->key);
    a->status = pm_read_i32(r);
    a->lost_rank = pm_read_u32(r);
    pm_read_set(r, &down->targets, PM_FENCE_SPANS_MAX);
    a->data = pm_read_bytes(r, in_pieces ? PM_FENCE_PIECE : 2 * PM_FENCE_PIECE, &a->len);
    a->total = in_pieces ? pm_read_u32(r) : a->len;
    if (core->coordinator || !is_sound(a, in_pieces))
        r->error = -EBADMSG;
}

static void handle_down(struct pm_core *core, struct down *down)
{
    struct pm_signature *s =
        down->key.has_ranks ? pm_signature_get(core, down->key.epoch, &down->key.ranks)
                            : pm_signature_find(core->collective, down->key.epoch, down->key.hash);
    if (!s)
        return;
    s->parent_knows = true;
    struct pm_fence *f = pm_signature_fence(s, down->key.seq);
    bool is_first = !f || !f->decided;
    bool is_for_all = pm_set_empty(&down->targets);
    if (!is_first && is_for_all && pm_set_empty(&f->late))
        return;                                       // heard before, by another way
    struct pm_fence passing = {.seq = down->key.seq}; // without memory or room it still goes on
    if (!f)
        f = pm_signature_add_fence(core, s, down->key.seq);
    if (!f)
        f = &passing;
    // Whoever is known to wait below gets the answer too, whoever it was sent for.
    const struct pm_set *waiting = is_first ? &f->have : &f->late;
    if (!(is_first && is_for_all) && pm_set_union(&down->targets, waiting) < 0)
        pm_collective_nomem(core);
    const struct pm_answer *a = &down->answer;
    pm_fence_spread(core, s, f, a, &down->targets);
    if (a->len < a->total)
        begin(core, &down->key, f, a);
    pm_set_clear(&f->late);
    pm_set_clear(&f->from);
    if (is_first && f != &passing && a->len == a->total)
        pm_fence_complete(core, s, f, a);
}

void pm_fence_frame_down(struct pm_core *core, uint8_t type, struct pm_reader *r)
{
    struct down down = {0};
    bool in_pieces = type == PM_FRAME_FENCE_BEGIN;
    read_down(core, r, in_pieces, &down);
    if (pm_reader_end(r) == 0) {
        // An error may come in between: the parent has it from its memo.
        if (in_pieces || is_under_way(&core->collective->flow, &down.key))
            pm_flow_abandon(core);
        if (down.key.epoch >= core->collective->first_epoch)
            handle_down(core, &down);
    }
    pm_set_done(&down.key.ranks);
    pm_set_done(&down.targets);
}

static void handle_piece(struct pm_core *core, const uint8_t *data, size_t len)
{
    struct pm_flow *flow = &core->collective->flow;
    pm_fence_send_piece(core, &flow->key, flow->at, data, len);
    flow->at += len;
    if (flow->bytes.len)
        append(core, data, len);
    if (flow->at == flow->total)
        end(core);
}

void pm_fence_frame_piece(struct pm_core *core, struct pm_reader *r)
{
    struct pm_flow *flow = &core->collective->flow;
    struct pm_fence_key key;
    size_t len;
    pm_read_fence_key(r, &key);
    size_t at = pm_read_u32(r);
    const uint8_t *data = pm_read_bytes(r, PM_FENCE_PIECE, &len);
    if (core->coordinator || key.has_ranks || len == 0)
        r->error = -EBADMSG;
    bool is_wanted = is_under_way(flow, &key); // else of a result that this node has already
    if (is_wanted && (at != flow->at || len > flow->total - flow->at))
        r->error = -EBADMSG;
    if (pm_reader_end(r) == 0 && is_wanted)
        handle_piece(core, data, len);
    pm_set_done(&key.ranks);
}
