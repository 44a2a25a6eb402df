// SPDX-License-Identifier: Apache-2.0
//
// Collectives: life, dispatch, copy and digest of what fence*.c and modex.c do. The contract of the
// module is in internal.h, its parts and their limits in collective.h.
//
// An epoch that is over is only a number: nothing of it or of an older one is accepted again, from
// the local server or from the tree.
#include "pmix_server/core/collective.h"

#include <errno.h>
#include <stdlib.h>

int pm_collective_new(struct pm_core *core)
{
    core->collective = calloc(1, sizeof(*core->collective));
    if (!core->collective)
        return -ENOMEM;
    core->collective->deadline_ns = UINT64_MAX;
    core->collective->tree = 1;
    return 0;
}

struct pm_collective *pm_collective_free(struct pm_collective *c)
{
    if (!c)
        return NULL;
    pm_signatures_drop(c, UINT32_MAX);
    for (uint32_t i = 0; i < c->n_modexes; i++)
        pm_modex_free(c->modexes[i]);
    for (uint32_t i = 0; i < c->n_fetches; i++)
        pm_set_done(&c->fetches[i].nodes);
    free(c->signatures);
    free(c->modexes);
    free(c->fetches);
    pm_set_done(&c->lost);
    pm_flow_done(&c->flow);
    free(c);
    return NULL;
}

static bool clone_signatures(struct pm_collective *copy, const struct pm_collective *c)
{
    copy->signatures = calloc(c->n_signatures + 1, sizeof(struct pm_signature *));
    copy->cap_signatures = c->n_signatures;
    if (!copy->signatures)
        return false;
    for (; copy->n_signatures < c->n_signatures; copy->n_signatures++) {
        struct pm_signature *s = pm_signature_clone(c->signatures[copy->n_signatures]);
        if (!s)
            return false;
        copy->signatures[copy->n_signatures] = s;
    }
    return true;
}

static bool clone_modexes(struct pm_collective *copy, const struct pm_collective *c)
{
    copy->modexes = calloc(c->n_modexes + 1, sizeof(struct pm_modex *));
    copy->cap_modexes = c->n_modexes;
    copy->fetches = calloc(c->n_fetches + 1, sizeof(*copy->fetches));
    copy->cap_fetches = c->n_fetches;
    if (!copy->modexes || !copy->fetches)
        return false;
    for (; copy->n_modexes < c->n_modexes; copy->n_modexes++) {
        struct pm_modex *m = pm_modex_clone(c->modexes[copy->n_modexes]);
        if (!m)
            return false;
        copy->modexes[copy->n_modexes] = m;
    }
    for (; copy->n_fetches < c->n_fetches; copy->n_fetches++) {
        struct pm_fetch *f = &copy->fetches[copy->n_fetches];
        *f = c->fetches[copy->n_fetches];
        f->nodes = (struct pm_set){0};
        if (pm_set_copy(&f->nodes, &c->fetches[copy->n_fetches].nodes) < 0)
            return false;
    }
    return true;
}

struct pm_collective *pm_collective_clone(const struct pm_collective *c)
{
    struct pm_collective *copy = malloc(sizeof(*copy));
    if (!copy)
        return NULL;
    *copy = *c;
    copy->signatures = NULL;
    copy->modexes = NULL;
    copy->fetches = NULL;
    copy->n_signatures = copy->n_modexes = copy->n_fetches = 0;
    copy->lost = (struct pm_set){0};
    copy->flow = (struct pm_flow){0};
    if (!clone_signatures(copy, c) || !clone_modexes(copy, c) ||
        !pm_flow_clone(&copy->flow, &c->flow) || pm_set_copy(&copy->lost, &c->lost) < 0)
        return pm_collective_free(copy);
    return copy;
}

static void digest_fence(const struct pm_fence *f, uint64_t now_ns, struct pm_digest *d)
{
    pm_digest_u64(d, f->seq);
    pm_digest_u64(d, (uint64_t)f->has_local << 24 | (uint64_t)f->decided << 25 |
                         (uint64_t)f->urgent << 26 | (uint64_t)f->dropped << 27 |
                         (uint64_t)f->flags << 8 | f->flags_sent);
    pm_digest_u64(d, (uint64_t)(uint32_t)f->status << 32 | f->lost_rank);
    pm_digest_u64(d, f->has_local ? f->local_id : 0);
    pm_digest_time(d, f->deadline_ns, now_ns);
    pm_digest_time(d, f->hold_ns, now_ns);
    pm_digest_set(d, &f->have);
    pm_digest_set(d, &f->sent);
    pm_digest_set(d, &f->late);
    pm_digest_set(d, &f->from);
    pm_digest_u64(d, f->bytes - f->bytes_sent);
    for (uint32_t i = 0; i < f->n_chunks; i++) {
        pm_digest_u64(d, f->chunks[i].node);
        pm_digest_bytes(d, f->chunks[i].data, f->chunks[i].len);
    }
    pm_digest_bytes(d, f->data, f->len);
}

static void digest_signature(const struct pm_signature *s, uint64_t now_ns, struct pm_digest *d)
{
    pm_digest_u64(d, s->epoch);
    pm_digest_set(d, &s->ranks);
    pm_digest_u64(d, s->next_seq);
    pm_digest_u64(d, s->forgotten);
    pm_digest_u64(d, s->parent_knows);
    pm_digest_set(d, &s->known_children);
    for (const struct pm_fence *f = s->fences; f; f = f->next)
        digest_fence(f, now_ns, d);
}

void pm_collective_digest(const struct pm_collective *c, uint64_t now_ns, struct pm_digest *d)
{
    pm_digest_u64(d, (uint64_t)c->first_epoch << 32 | c->ready_epoch);
    pm_digest_u64(d, c->any_ready);
    pm_digest_u64(d, c->n_signatures);
    for (uint32_t i = 0; i < c->n_signatures; i++)
        digest_signature(c->signatures[i], now_ns, d);
    pm_flow_digest(&c->flow, d);
    pm_digest_u64(d, c->lost_epoch);
    pm_digest_set(d, &c->lost);
    pm_modex_digest(c, now_ns, d);
    pm_fetch_digest(c, now_ns, d);
}

// --- Time
// ---------------------------------------------------------------------------------------------

uint64_t pm_collective_deadline_ns(const struct pm_collective *c)
{
    return c->deadline_ns;
}

void pm_collective_arm(struct pm_collective *c, uint64_t t_ns)
{
    if (t_ns < c->deadline_ns)
        c->deadline_ns = t_ns;
}

uint64_t pm_collective_until(const struct pm_core *core, uint64_t timeout_ms)
{
    if (timeout_ms == 0 || timeout_ms >= (UINT64_MAX - core->now_ns) / PM_MS)
        return UINT64_MAX;
    return core->now_ns + timeout_ms * PM_MS;
}

uint64_t pm_collective_rest_ms(const struct pm_core *core, uint64_t deadline_ns)
{
    if (deadline_ns == UINT64_MAX)
        return 0;
    if (deadline_ns < core->now_ns + PM_MS)
        return 1;
    return (deadline_ns - core->now_ns) / PM_MS;
}

void pm_collective_nomem(struct pm_core *core)
{
    core->out->error = -ENOMEM;
}

static void on_timer(struct pm_core *core)
{
    struct pm_collective *c = core->collective;
    if (core->now_ns < c->deadline_ns)
        return;
    c->deadline_ns = UINT64_MAX;
    pm_fence_timer(core);
    pm_modex_timer(core);
}

// --- Dispatch
// -----------------------------------------------------------------------------------------

// The local server of `epoch` answers: it said so, or it asks itself.
static void mark_ready(struct pm_core *core, uint32_t epoch, bool is_new_server)
{
    struct pm_collective *c = core->collective;
    if (epoch < c->first_epoch || (c->any_ready && epoch < c->ready_epoch))
        return;
    bool is_known = c->any_ready && c->ready_epoch == epoch;
    c->any_ready = true;
    c->ready_epoch = epoch;
    if (!is_known || is_new_server)
        pm_fetch_server_ready(core, epoch);
}

void pm_collective_event(struct pm_core *core, const struct pm_event *event)
{
    switch (event->type) {
    case PM_EVENT_FENCE:
        mark_ready(core, event->epoch, false);
        pm_fence_event(core, event);
        break;
    case PM_EVENT_MODEX:
        mark_ready(core, event->epoch, false);
        pm_modex_event(core, event);
        break;
    case PM_EVENT_FETCHED:
        pm_fetch_fetched(core, event);
        break;
    case PM_EVENT_SERVER_READY:
        mark_ready(core, event->epoch, true);
        break;
    case PM_EVENT_TIMER:
        on_timer(core);
        break;
    default:
        break;
    }
}

void pm_collective_frame(struct pm_core *core, uint32_t link, uint32_t from, uint8_t type,
                         struct pm_reader *r)
{
    (void)link;
    switch (type) {
    case PM_FRAME_FENCE_UP:
        pm_fence_frame_up(core, from, r);
        break;
    case PM_FRAME_FENCE_DOWN:
    case PM_FRAME_FENCE_BEGIN:
        pm_fence_frame_down(core, type, r);
        break;
    case PM_FRAME_FENCE_PIECE:
        pm_fence_frame_piece(core, r);
        break;
    case PM_FRAME_MODEX_ASK:
        pm_modex_frame_ask(core, from, r);
        break;
    case PM_FRAME_MODEX_ANSWER:
        pm_modex_frame_answer(core, from, r);
        break;
    default:
        r->error = -EBADMSG;
        break;
    }
    if (pm_reader_end(r) < 0)
        r->error = -EBADMSG; // the link is closed; nothing of the frame was used
}

// --- Tree, losses, end of an epoch
// ----------------------------------------------------------------------

// A child that comes back may be another process that knows none of our sets.
static void forget_child(struct pm_core *core, uint32_t child)
{
    pm_fence_forget_child(core, child);
    core->collective->tree++;
    pm_fence_on_tree(core);
}

void pm_collective_on_parent(struct pm_core *core)
{
    core->collective->tree++;
    pm_fence_on_parent(core);
    pm_modex_on_tree(core);
}

void pm_collective_on_child(struct pm_core *core, uint32_t child)
{
    forget_child(core, child);
}

void pm_collective_on_child_gone(struct pm_core *core, uint32_t child)
{
    forget_child(core, child);
}

void pm_collective_on_view(struct pm_core *core)
{
    core->collective->tree++;
    pm_fence_on_tree(core);
    pm_modex_on_tree(core);
}

void pm_collective_rank_lost(struct pm_core *core, uint32_t epoch, uint32_t rank)
{
    struct pm_collective *c = core->collective;
    if (epoch < c->first_epoch || epoch < c->lost_epoch)
        return;
    if (epoch > c->lost_epoch) {
        pm_set_clear(&c->lost);
        c->lost_epoch = epoch;
    }
    if (pm_set_add(&c->lost, rank) < 0)
        pm_collective_nomem(core);
    if (core->coordinator)
        pm_fence_rank_lost(core);
    else
        pm_modex_rank_lost(core, epoch, rank);
}

void pm_collective_epoch_over(struct pm_core *core, uint32_t epoch)
{
    struct pm_collective *c = core->collective;
    if (epoch < c->first_epoch)
        return;
    pm_fence_epoch_over(core, epoch);
    pm_modex_epoch_over(core, epoch);
    c->first_epoch = epoch + 1;
    if (c->lost_epoch <= epoch)
        pm_set_clear(&c->lost);
}
