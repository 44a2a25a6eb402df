// SPDX-License-Identifier: Apache-2.0
//
// Direct modex: a local rank wants what another rank has published. One question per rank and node
// is on its way, however many ask; it is routed through the tree to the node of that rank, waits
// there until the server has the data, and the answer is routed back. Nodes in between keep
// nothing: whoever asks repeats the question after every change of the tree and, ever more rarely,
// by time. Each local question is answered exactly once: data, not found, timeout, lost, or epoch
// over.
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pmix_server/core/collective.h"

#define NO_HOP (UINT32_MAX - 1)

// --- Local questions
// --------------------------------------------------------------------------------

static uint32_t lower(const struct pm_collective *c, uint32_t epoch, uint32_t rank)
{
    uint32_t lo = 0, hi = c->n_modexes;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        const struct pm_modex *m = c->modexes[mid];
        if (m->epoch < epoch || (m->epoch == epoch && m->rank < rank))
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static struct pm_modex *find(const struct pm_collective *c, uint32_t epoch, uint32_t rank)
{
    uint32_t at = lower(c, epoch, rank);
    if (at == c->n_modexes || c->modexes[at]->epoch != epoch || c->modexes[at]->rank != rank)
        return NULL;
    return c->modexes[at];
}

struct pm_modex *pm_modex_free(struct pm_modex *m)
{
    free(m->asks);
    free(m);
    return NULL;
}

struct pm_modex *pm_modex_clone(const struct pm_modex *m)
{
    struct pm_modex *copy = malloc(sizeof(*copy));
    if (!copy)
        return NULL;
    *copy = *m;
    copy->cap = m->n ? m->n : 1;
    copy->asks = malloc(copy->cap * sizeof(*copy->asks));
    if (!copy->asks)
        return pm_modex_free(copy);
    if (m->n)
        memcpy(copy->asks, m->asks, m->n * sizeof(*copy->asks));
    return copy;
}

static struct pm_modex *insert(struct pm_core *core, uint32_t epoch, uint32_t rank)
{
    struct pm_collective *c = core->collective;
    struct pm_modex *m = calloc(1, sizeof(*m));
    if (m && c->n_modexes == c->cap_modexes) {
        uint32_t cap = c->cap_modexes ? 2 * c->cap_modexes : 8;
        struct pm_modex **list = realloc(c->modexes, cap * sizeof(struct pm_modex *));
        if (!list) {
            m = pm_modex_free(m);
        } else {
            c->modexes = list;
            c->cap_modexes = cap;
        }
    }
    if (!m) {
        pm_collective_nomem(core);
        return NULL;
    }
    *m = (struct pm_modex){.epoch = epoch,
                           .rank = rank,
                           .node = core->world.node_of_rank[rank],
                           .resend_ns = UINT64_MAX,
                           .resend_step_ms = PM_MODEX_RESEND_MS};
    uint32_t at = lower(c, epoch, rank);
    memmove(&c->modexes[at + 1], &c->modexes[at], (c->n_modexes - at) * sizeof(struct pm_modex *));
    c->modexes[at] = m;
    c->n_modexes++;
    return m;
}

static bool add_ask(struct pm_core *core, struct pm_modex *m, uint64_t id, uint64_t deadline_ns)
{
    if (m->n == m->cap) {
        uint32_t cap = m->cap ? 2 * m->cap : 4;
        struct pm_modex_ask *asks = realloc(m->asks, cap * sizeof(*asks));
        if (!asks) {
            pm_collective_nomem(core);
            return false;
        }
        m->asks = asks;
        m->cap = cap;
    }
    m->asks[m->n++] = (struct pm_modex_ask){.id = id, .deadline_ns = deadline_ns};
    core->collective->n_asks++;
    pm_collective_arm(core->collective, deadline_ns);
    return true;
}

static void emit_done(struct pm_core *core, uint32_t epoch, uint64_t id, const struct pm_answer *a)
{
    struct pm_action *done = pm_emit(core, PM_ACTION_MODEX_DONE);
    done->epoch = epoch;
    done->id = id;
    done->status = a->status;
    if (a->status == PM_STATUS_OK && a->len)
        pm_action_set_data(core, done, a->data, a->len);
}

static void finish(struct pm_core *core, struct pm_modex *m, const struct pm_answer *a)
{
    struct pm_collective *c = core->collective;
    for (uint32_t i = 0; i < m->n; i++)
        emit_done(core, m->epoch, m->asks[i].id, a);
    c->n_asks -= m->n;
    uint32_t at = lower(c, m->epoch, m->rank);
    c->n_modexes--;
    memmove(&c->modexes[at], &c->modexes[at + 1], (c->n_modexes - at) * sizeof(struct pm_modex *));
    pm_modex_free(m);
}

void pm_modex_finish(struct pm_core *core, uint32_t epoch, uint32_t rank, const struct pm_answer *a)
{
    struct pm_modex *m = find(core->collective, epoch, rank);
    if (m)
        finish(core, m, a);
}

static uint64_t most_patient(const struct pm_modex *m)
{
    uint64_t deadline_ns = 0;
    for (uint32_t i = 0; i < m->n; i++) {
        if (m->asks[i].deadline_ns > deadline_ns)
            deadline_ns = m->asks[i].deadline_ns;
    }
    return deadline_ns;
}

// --- The way
// -----------------------------------------------------------------------------------------

// `from` handed it to us. What came from above and is not for below is dropped, not sent back: the
// parent's picture of our subtree is older than ours, and the two of us would play ball with it.
static void route(struct pm_core *core, uint32_t from, uint32_t node, const struct pm_writer *w)
{
    uint32_t hop = pm_next_hop(core, node);
    bool is_from_above = from != core->config.node && pm_next_hop(core, from) == NO_HOP;
    if (hop != NO_HOP)
        pm_send_child(core, hop, w);
    else if (!core->coordinator && !is_from_above)
        pm_send_parent(core, w);
}

static bool is_dead(struct pm_core *core, uint32_t node)
{
    return pm_set_has(pm_dead_nodes(core), node);
}

// Lost on the way: it will be repeated.
static void route_and_free(struct pm_core *core, uint32_t from, uint32_t node, struct pm_writer *w)
{
    if (w->error)
        pm_collective_nomem(core);
    else
        route(core, from, node, w);
    pm_writer_done(w);
}

static void send_ask(struct pm_core *core, uint32_t from, const struct pm_ask *ask)
{
    struct pm_writer w = {0};
    pm_write_u8(&w, PM_FRAME_MODEX_ASK);
    pm_write_u32(&w, ask->epoch);
    pm_write_u32(&w, ask->node);
    pm_write_u32(&w, ask->from);
    pm_write_u32(&w, ask->rank);
    pm_write_u64(&w, ask->timeout_ms);
    route_and_free(core, from, ask->node, &w);
}

// To the node that asks.
static void send_answer(struct pm_core *core, uint32_t from, const struct pm_ask *ask,
                        const struct pm_answer *a)
{
    struct pm_writer w = {0};
    pm_write_u8(&w, PM_FRAME_MODEX_ANSWER);
    pm_write_u32(&w, ask->epoch);
    pm_write_u32(&w, ask->from);
    pm_write_u32(&w, ask->rank);
    pm_write_i32(&w, a->status);
    pm_write_bytes(&w, a->data, a->status == PM_STATUS_OK ? a->len : 0);
    route_and_free(core, from, ask->from, &w);
}

// --- Events and frames
// --------------------------------------------------------------------------------

// Asks once more, or for the first time, and sets the time of the next repetition.
static void ask_again(struct pm_core *core, struct pm_modex *m)
{
    const struct pm_ask ask = {.epoch = m->epoch,
                               .node = m->node,
                               .from = core->config.node,
                               .rank = m->rank,
                               .timeout_ms = pm_collective_rest_ms(core, most_patient(m))};
    if (m->node == core->config.node) {
        pm_fetch_want(core, &ask);
        return;
    }
    m->resend_ns = core->now_ns + m->resend_step_ms * PM_MS;
    m->resend_step_ms *= 2;
    if (m->resend_step_ms > PM_MODEX_RESEND_MAX_MS)
        m->resend_step_ms = PM_MODEX_RESEND_MAX_MS;
    pm_collective_arm(core->collective, m->resend_ns);
    send_ask(core, core->config.node, &ask);
}

static bool is_lost(struct pm_core *core, uint32_t epoch, uint32_t rank)
{
    const struct pm_collective *c = core->collective;
    return is_dead(core, core->world.node_of_rank[rank]) || (c->lost_epoch == epoch && pm_set_has(&c->lost, rank));
}

// The answer that needs no question; PM_STATUS_OK: there is none.
static int32_t refusal(struct pm_core *core, const struct pm_event *event)
{
    const struct pm_collective *c = core->collective;
    if (event->epoch < c->first_epoch)
        return PM_STATUS_ABORTED;
    if (!core->world_known || event->rank >= core->world.nranks)
        return PM_STATUS_NOT_FOUND;
    if (is_lost(core, event->epoch, event->rank))
        return PM_STATUS_LOST;
    return c->n_asks >= PM_MODEX_PENDING_MAX ? PM_STATUS_ERROR : PM_STATUS_OK;
}

void pm_modex_event(struct pm_core *core, const struct pm_event *event)
{
    const struct pm_answer refused = {.status = refusal(core, event)};
    if (refused.status != PM_STATUS_OK) {
        emit_done(core, event->epoch, event->id, &refused);
        return;
    }
    struct pm_modex *m = find(core->collective, event->epoch, event->rank);
    bool is_new = !m;
    if (!m)
        m = insert(core, event->epoch, event->rank);
    if (!m)
        return;
    uint64_t before_ns = most_patient(m),
             deadline_ns = pm_collective_until(core, event->timeout_ms);
    // Who is more patient than those before must not be given up with them.
    if (add_ask(core, m, event->id, deadline_ns) && (is_new || deadline_ns > before_ns))
        ask_again(core, m);
}

// For this node: what it wants, or why it cannot be.
static void take_ask(struct pm_core *core, const struct pm_ask *ask)
{
    static const struct pm_answer unknown = {.status = PM_STATUS_NOT_FOUND};
    if (!core->world_known)
        return; // it will be repeated
    bool is_here =
        ask->rank < core->world.nranks && core->world.node_of_rank[ask->rank] == core->config.node;
    if (is_here)
        pm_fetch_want(core, ask);
    else
        pm_modex_answer(core, ask, &unknown);
}

void pm_modex_answer(struct pm_core *core, const struct pm_ask *ask, const struct pm_answer *a)
{
    if (ask->from == core->config.node)
        pm_modex_finish(core, ask->epoch, ask->rank, a);
    else
        send_answer(core, core->config.node, ask, a);
}

void pm_modex_frame_ask(struct pm_core *core, uint32_t from, struct pm_reader *r)
{
    struct pm_ask ask = {.epoch = pm_read_u32(r)};
    ask.node = pm_read_u32(r);
    ask.from = pm_read_u32(r);
    ask.rank = pm_read_u32(r);
    ask.timeout_ms = pm_read_u64(r);
    if (ask.node >= NO_HOP || ask.from >= NO_HOP)
        r->error = -EBADMSG;
    if (pm_reader_end(r) < 0 || ask.epoch < core->collective->first_epoch)
        return;
    static const struct pm_answer lost = {.status = PM_STATUS_LOST};
    if (is_dead(core, ask.node))
        pm_modex_answer(core, &ask, &lost);
    else if (ask.node == core->config.node)
        take_ask(core, &ask);
    else
        send_ask(core, from, &ask);
}

void pm_modex_frame_answer(struct pm_core *core, uint32_t from, struct pm_reader *r)
{
    struct pm_answer a = {.lost_rank = PM_RANK_NONE};
    struct pm_ask ask = {.epoch = pm_read_u32(r)};
    ask.from = pm_read_u32(r);
    ask.rank = pm_read_u32(r);
    a.status = pm_read_i32(r);
    a.data = pm_read_bytes(r, PM_FENCE_DATA_MAX, &a.len);
    if (a.status < 0 || a.status > PM_STATUS_ERROR || ask.from >= NO_HOP)
        r->error = -EBADMSG;
    if (pm_reader_end(r) < 0 || ask.epoch < core->collective->first_epoch)
        return;
    if (ask.from == core->config.node)
        pm_modex_finish(core, ask.epoch, ask.rank, &a);
    else
        send_answer(core, from, &ask, &a);
}

// --- Time, tree, losses
// ---------------------------------------------------------------------------------

// Ends the questions whose time is over. False: none is left, and the record with it.
static bool expire(struct pm_core *core, struct pm_modex *m)
{
    static const struct pm_answer timeout = {.status = PM_STATUS_TIMEOUT};
    uint32_t kept = 0;
    for (uint32_t i = 0; i < m->n; i++) {
        if (core->now_ns < m->asks[i].deadline_ns) {
            pm_collective_arm(core->collective, m->asks[i].deadline_ns);
            m->asks[kept++] = m->asks[i];
        } else {
            emit_done(core, m->epoch, m->asks[i].id, &timeout);
        }
    }
    core->collective->n_asks -= m->n - kept;
    m->n = kept;
    if (kept)
        return true;
    finish(core, m, &timeout);
    return false;
}

void pm_modex_timer(struct pm_core *core)
{
    struct pm_collective *c = core->collective;
    for (uint32_t i = 0; i < c->n_modexes;) {
        struct pm_modex *m = c->modexes[i];
        if (!expire(core, m))
            continue;
        if (core->now_ns >= m->resend_ns)
            ask_again(core, m);
        pm_collective_arm(c, m->resend_ns);
        i++;
    }
    pm_fetch_timer(core);
}

void pm_modex_on_tree(struct pm_core *core)
{
    static const struct pm_answer lost = {.status = PM_STATUS_LOST};
    struct pm_collective *c = core->collective;
    for (uint32_t i = 0; i < c->n_modexes;) {
        struct pm_modex *m = c->modexes[i];
        if (is_dead(core, m->node)) {
            finish(core, m, &lost);
            continue;
        }
        m->resend_step_ms = PM_MODEX_RESEND_MS;
        if (m->node != core->config.node)
            ask_again(core, m);
        i++;
    }
}

void pm_modex_rank_lost(struct pm_core *core, uint32_t epoch, uint32_t rank)
{
    static const struct pm_answer lost = {.status = PM_STATUS_LOST};
    pm_fetch_rank_lost(core, epoch, rank);
    pm_modex_finish(core, epoch, rank, &lost);
}

void pm_modex_epoch_over(struct pm_core *core, uint32_t epoch)
{
    static const struct pm_answer aborted = {.status = PM_STATUS_ABORTED};
    struct pm_collective *c = core->collective;
    while (c->n_modexes && c->modexes[0]->epoch <= epoch)
        finish(core, c->modexes[0], &aborted);
    pm_fetch_epoch_over(core, epoch);
}

void pm_modex_digest(const struct pm_collective *c, uint64_t now_ns, struct pm_digest *d)
{
    pm_digest_u64(d, c->n_modexes);
    for (uint32_t i = 0; i < c->n_modexes; i++) {
        const struct pm_modex *m = c->modexes[i];
        pm_digest_u64(d, (uint64_t)m->epoch << 32 | m->rank);
        pm_digest_time(d, m->resend_ns, now_ns);
        pm_digest_u64(d, m->n);
        for (uint32_t k = 0; k < m->n; k++) {
            pm_digest_u64(d, m->asks[k].id);
            pm_digest_time(d, m->asks[k].deadline_ns, now_ns);
        }
    }
}
