// SPDX-License-Identifier: Apache-2.0
//
// The other end of direct modex: what nodes want of a rank that lives here. There is one fetch per
// local rank, whoever asks; it waits in the server until the rank has published, and its answer
// goes to all.
#include <errno.h>
#include <stdlib.h>

#include "pmix_server/core/collective.h"

static void issue(struct pm_core *core, struct pm_fetch *f)
{
    struct pm_action *fetch = pm_emit(core, PM_ACTION_FETCH);
    fetch->epoch = f->epoch;
    fetch->id = f->id;
    fetch->rank = f->rank;
    f->issued = true;
}

static struct pm_fetch *add_fetch(struct pm_core *core, uint32_t epoch, uint32_t rank)
{
    struct pm_collective *c = core->collective;
    if (c->n_fetches == c->cap_fetches) {
        uint32_t cap = c->cap_fetches ? 2 * c->cap_fetches : 4;
        struct pm_fetch *list = realloc(c->fetches, cap * sizeof(*list));
        if (!list) {
            pm_collective_nomem(core);
            return NULL;
        }
        c->fetches = list;
        c->cap_fetches = cap;
    }
    struct pm_fetch *f = &c->fetches[c->n_fetches++];
    *f = (struct pm_fetch){.epoch = epoch, .rank = rank, .id = ++c->next_fetch_id};
    return f;
}

// `node` wants a local rank's blob. There is at most one fetch per local rank, so this is bounded.
void pm_fetch_want(struct pm_core *core, const struct pm_ask *ask)
{
    struct pm_collective *c = core->collective;
    struct pm_fetch *f = NULL;
    for (uint32_t i = 0; i < c->n_fetches && !f; i++) {
        if (c->fetches[i].epoch == ask->epoch && c->fetches[i].rank == ask->rank)
            f = &c->fetches[i];
    }
    if (!f)
        f = add_fetch(core, ask->epoch, ask->rank);
    if (!f)
        return;
    if (pm_set_add(&f->nodes, ask->from) < 0)
        pm_collective_nomem(core);
    uint64_t deadline_ns = pm_collective_until(core, ask->timeout_ms);
    if (deadline_ns > f->deadline_ns)
        f->deadline_ns = deadline_ns;
    pm_collective_arm(c, f->deadline_ns);
    if (!f->issued && c->any_ready && c->ready_epoch == ask->epoch)
        issue(core, f);
}

static void remove_fetch(struct pm_collective *c, struct pm_fetch *f)
{
    pm_set_done(&f->nodes);
    *f = c->fetches[--c->n_fetches];
}

static void cancel(struct pm_core *core, struct pm_fetch *f)
{
    if (f->issued) {
        struct pm_action *cancelled = pm_emit(core, PM_ACTION_FETCH_CANCEL);
        cancelled->epoch = f->epoch;
        cancelled->id = f->id;
    }
    remove_fetch(core->collective, f);
}

// Gives everybody who asked the answer.
static void distribute(struct pm_core *core, const struct pm_fetch *f, const struct pm_answer *a)
{
    struct pm_ask ask = {.epoch = f->epoch, .node = core->config.node, .rank = f->rank};
    for (uint32_t n = pm_set_next(&f->nodes, 0); n != UINT32_MAX;
         n = pm_set_next(&f->nodes, n + 1)) {
        ask.from = n;
        pm_modex_answer(core, &ask, a);
    }
}

void pm_fetch_fetched(struct pm_core *core, const struct pm_event *event)
{
    struct pm_collective *c = core->collective;
    for (uint32_t i = 0; i < c->n_fetches; i++) {
        struct pm_fetch *f = &c->fetches[i];
        if (f->epoch != event->epoch || f->id != event->id)
            continue;
        struct pm_answer a = {.status = event->status, .data = event->data, .len = event->len};
        if (event->len > PM_FENCE_DATA_MAX || event->status < 0 || event->status > PM_STATUS_ERROR)
            a = (struct pm_answer){.status = PM_STATUS_ERROR};
        distribute(core, f, &a);
        remove_fetch(c, f);
        return;
    }
}

// A server that was replaced has forgotten what the one before was asked.
void pm_fetch_server_ready(struct pm_core *core, uint32_t epoch)
{
    struct pm_collective *c = core->collective;
    for (uint32_t i = 0; i < c->n_fetches; i++) {
        if (c->fetches[i].epoch == epoch)
            issue(core, &c->fetches[i]);
    }
}

void pm_fetch_timer(struct pm_core *core)
{
    struct pm_collective *c = core->collective;
    for (uint32_t i = 0; i < c->n_fetches;) {
        if (core->now_ns >= c->fetches[i].deadline_ns) {
            cancel(core, &c->fetches[i]);
            continue;
        }
        pm_collective_arm(c, c->fetches[i++].deadline_ns);
    }
}

void pm_fetch_rank_lost(struct pm_core *core, uint32_t epoch, uint32_t rank)
{
    static const struct pm_answer lost = {.status = PM_STATUS_LOST};
    struct pm_collective *c = core->collective;
    for (uint32_t i = 0; i < c->n_fetches; i++) {
        if (c->fetches[i].epoch != epoch || c->fetches[i].rank != rank)
            continue;
        distribute(core, &c->fetches[i], &lost);
        cancel(core, &c->fetches[i]);
        return;
    }
}

void pm_fetch_epoch_over(struct pm_core *core, uint32_t epoch)
{
    struct pm_collective *c = core->collective;
    for (uint32_t i = 0; i < c->n_fetches;) {
        if (c->fetches[i].epoch <= epoch)
            cancel(core, &c->fetches[i]);
        else
            i++;
    }
}

void pm_fetch_digest(const struct pm_collective *c, uint64_t now_ns, struct pm_digest *d)
{
    pm_digest_u64(d, c->next_fetch_id);
    pm_digest_u64(d, c->n_fetches);
    for (uint32_t i = 0; i < c->n_fetches; i++) {
        pm_digest_u64(d, (uint64_t)c->fetches[i].epoch << 32 | c->fetches[i].rank);
        pm_digest_u64(d, c->fetches[i].id << 1 | c->fetches[i].issued);
        pm_digest_time(d, c->fetches[i].deadline_ns, now_ns);
        pm_digest_set(d, &c->fetches[i].nodes);
    }
}
