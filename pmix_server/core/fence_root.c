// SPDX-License-Identifier: Apache-2.0
//
// The coordinator's part of a fence: it decides, once, for all. A fence succeeds when every node
// that hosts a participant has contributed, fails when a participant is lost, and times out at the
// smallest timeout that was given; then those who had not come are named.
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pmix_server/core/collective.h"

static void log_error(struct pm_core *core, const struct pm_signature *s, const char *reason)
{
    struct pm_log *log = pm_log_record(core, "fence-error");
    log->epoch = s->epoch;
    (void)snprintf(log->reason, sizeof(log->reason), "%s", reason);
}

// "fence over ranks 0-7 timed out: ranks 4-5 on node3 had not all arrived"
static void say_missing(struct pm_core *core, struct pm_signature *s, const struct pm_fence *f)
{
    struct pm_set nodes = {0}, ranks = {0};
    int rc = pm_set_copy(&nodes, pm_signature_nodes(core, s));
    rc = rc < 0 ? rc : pm_set_subtract(&nodes, &f->have);
    for (uint32_t n = pm_set_next(&nodes, 0); rc == 0 && n != UINT32_MAX;
         n = pm_set_next(&nodes, n + 1))
        rc = pm_set_union(&ranks, &core->world.ranks_of_node[n]);
    struct pm_set others = {0}; // ranks of these nodes that do not take part
    rc = rc < 0 ? rc : pm_set_copy(&others, &ranks);
    rc = rc < 0 ? rc : pm_set_subtract(&others, &s->ranks);
    rc = rc < 0 ? rc : pm_set_subtract(&ranks, &others);
    if (rc < 0)
        pm_collective_nomem(core);
    char all[48], who[64], where[64], text[PM_TEXT_CAP];
    snprintf(text, sizeof(text),
             "fence over ranks %s timed out: ranks %s on %s had not all arrived",
             pm_set_format(&s->ranks, all, sizeof(all)), pm_set_format(&ranks, who, sizeof(who)),
             pm_supervisor_names(core, &nodes, where, sizeof(where)));
    pm_say(core, "%s", text);
    log_error(core, s, text);
    pm_set_done(&nodes);
    pm_set_done(&ranks);
    pm_set_done(&others);
}

static void explain(struct pm_core *core, struct pm_signature *s, const struct pm_fence *f,
                    const struct pm_answer *a)
{
    char all[64], text[PM_TEXT_CAP];
    pm_set_format(&s->ranks, all, sizeof(all));
    if (a->status == PM_STATUS_TIMEOUT) {
        say_missing(core, s, f);
    } else if (a->status == PM_STATUS_LOST && a->lost_rank != PM_RANK_NONE) {
        snprintf(text, sizeof(text), "fence over ranks %s failed: rank %u was lost", all,
                 a->lost_rank);
        log_error(core, s, text);
    } else if (a->status == PM_STATUS_LOST) {
        snprintf(text, sizeof(text), "fence over ranks %s failed: a participant was lost", all);
        log_error(core, s, text);
    } else {
        assert(f->flags & PM_FENCE_TOO_BIG);
        snprintf(text, sizeof(text),
                 "fence over ranks %s failed: more than %u MiB from a node or %u MiB in all", all,
                 PM_FENCE_DATA_MAX >> 20, PM_FENCE_RESULT_MAX >> 20);
        pm_say(core, "%s", text);
        log_error(core, s, text);
    }
}

void pm_fence_decide(struct pm_core *core, struct pm_signature *s, struct pm_fence *f,
                     int32_t status, uint32_t lost_rank)
{
    struct pm_answer a = {.status = status, .lost_rank = lost_rank};
    if (status == PM_STATUS_OK && (f->flags & PM_FENCE_COLLECT)) {
        if (!pm_fence_join(f)) {
            pm_collective_nomem(core);
            return;
        }
        a.data = f->data;
        a.len = a.total = f->len;
    }
    if (status != PM_STATUS_OK)
        explain(core, s, f, &a);
    static const struct pm_set everybody; // no targets: all
    pm_fence_spread(core, s, f, &a, &everybody);
    pm_set_done(&f->from);
    pm_fence_complete(core, s, f, &a);
}

// A participant that is known to be lost; PM_RANK_NONE: none.
static uint32_t lost_participant(struct pm_core *core, const struct pm_signature *s)
{
    const struct pm_collective *c = core->collective;
    if (c->lost_epoch != s->epoch)
        return PM_RANK_NONE;
    for (uint32_t i = 0; i < c->lost.n; i++) {
        uint32_t rank = pm_set_next(&s->ranks, c->lost.spans[i].first);
        if (rank <= c->lost.spans[i].last)
            return rank;
    }
    return PM_RANK_NONE;
}

static bool is_on_dead_node(struct pm_core *core, struct pm_signature *s)
{
    const struct pm_set *dead = pm_dead_nodes(core);
    return !pm_set_empty(dead) && pm_set_intersects(dead, pm_signature_nodes(core, s));
}

// A server sees a connection end before the shim sees the exit, and if the fence failed at once, the
// ranks that fail in turn would be heard of first and be blamed. The report is under way: it ends the
// fence or the whole epoch.
static bool is_unexplained(struct pm_core *core, struct pm_fence *f)
{
    if (f->hold_ns == UINT64_MAX) {
        f->hold_ns = core->now_ns + PM_FENCE_BLAME_MS * PM_MS;
        pm_collective_arm(core->collective, f->hold_ns);
    }
    return core->now_ns < f->hold_ns;
}

void pm_fence_consider(struct pm_core *core, struct pm_signature *s, struct pm_fence *f)
{
    uint32_t lost = lost_participant(core, s);
    bool failed = lost != PM_RANK_NONE || is_on_dead_node(core, s);
    if (failed || (f->flags & PM_FENCE_FAILED && !is_unexplained(core, f)))
        pm_fence_decide(core, s, f, PM_STATUS_LOST, lost);
    else if (f->flags & PM_FENCE_FAILED)
        return;
    else if (f->flags & PM_FENCE_TOO_BIG)
        pm_fence_decide(core, s, f, PM_STATUS_ERROR, PM_RANK_NONE);
    else if (core->world_known && pm_set_covers(&f->have, pm_signature_nodes(core, s)))
        pm_fence_decide(core, s, f, PM_STATUS_OK, PM_RANK_NONE);
}

static void decide_lost(struct pm_core *core, struct pm_signature *s, struct pm_fence *f)
{
    uint32_t lost = lost_participant(core, s);
    if (lost != PM_RANK_NONE)
        pm_fence_decide(core, s, f, PM_STATUS_LOST, lost);
}

void pm_fence_rank_lost(struct pm_core *core)
{
    pm_fence_for_pending(core, decide_lost);
}
