// SPDX-License-Identifier: Apache-2.0
//
// Ranks that start again alone (rank mode), on their way from the decision to the next life: the
// backoff, then the start, of which the rank's node tells by the serial of the restart.
//
// The decision is open until all its ranks run again, but for PM_AT_ONCE_MS at least, and a rank that
// fails meanwhile joins it: same number of the budget, same end of the backoff. A rank is part of a
// decision once, so one that dies again and again spends a restart each time.
#include "pmix_server/core/supervisor.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static struct pm_pending *find(struct pm_supervisor *s, uint32_t rank)
{
    for (uint32_t i = 0; i < s->n_pending; i++)
        if (s->pending[i].rank == rank)
            return &s->pending[i];
    return NULL;
}

static void drop(struct pm_supervisor *s, struct pm_pending *pending)
{
    *pending = s->pending[--s->n_pending];
}

// What nobody waits for any more may leave the reports.
static void note_known(struct pm_supervisor *s)
{
    s->wanted.again_known = s->wanted.again_serial;
    for (uint32_t i = 0; i < s->n_pending; i++)
        if (s->pending[i].serial && s->pending[i].serial <= s->wanted.again_known)
            s->wanted.again_known = s->pending[i].serial - 1;
}

bool pm_supervisor_again_waits(const struct pm_supervisor *s, uint32_t rank)
{
    for (uint32_t i = 0; i < s->n_pending; i++)
        if (s->pending[i].rank == rank)
            return s->pending[i].serial == 0;
    return false;
}

static bool is_open(const struct pm_supervisor *s, uint64_t now_ns)
{
    return s->decision_ns && (s->n_pending || now_ns < s->decision_ns + PM_AT_ONCE_MS * PM_MS);
}

bool pm_supervisor_again_joins(const struct pm_supervisor *s, uint32_t rank, uint64_t now_ns)
{
    return is_open(s, now_ns) && !pm_set_has(&s->deciding, rank);
}

static void ask(struct pm_core *core, struct pm_pending *pending)
{
    struct pm_supervisor *s = core->supervisor;
    if (pm_wanted_again(&s->wanted, pending->rank) < 0) {
        core->out->error = -ENOMEM;
        return;
    }
    s->wanted_dirty = true;
    pending->serial = s->wanted.again_serial;
    pending->due_ns = core->now_ns + core->config.options->start_timeout_ms * PM_MS;
}

uint64_t pm_supervisor_again_wait_ms(const struct pm_core *core)
{
    uint64_t due_ns = core->supervisor->decision_due_ns;
    return due_ns > core->now_ns ? (due_ns - core->now_ns) / PM_MS : 0;
}

void pm_supervisor_again(struct pm_core *core, uint32_t rank)
{
    struct pm_supervisor *s = core->supervisor;
    struct pm_pending *pending = find(s, rank);
    if (!pending) {
        struct pm_pending *more = realloc(s->pending, (s->n_pending + 1u) * sizeof(*more));
        if (!more || pm_set_add(&s->deciding, rank) < 0) {
            s->pending = more ? more : s->pending;
            core->out->error = -ENOMEM;
            return;
        }
        s->pending = more;
        pending = &more[s->n_pending++];
    }
    *pending = (struct pm_pending){
        .rank = rank, .decided_ns = core->now_ns, .due_ns = s->decision_due_ns};
    if (core->now_ns >= pending->due_ns)
        ask(core, pending);
    note_known(s);
}

void pm_supervisor_again_decide(struct pm_core *core, const struct pm_history *history,
                                uint64_t backoff_ms)
{
    struct pm_supervisor *s = core->supervisor;
    s->decision = *history;
    s->decision_ns = core->now_ns;
    s->decision_due_ns = core->now_ns + backoff_ms * PM_MS;
    pm_set_clear(&s->deciding);
    for (uint32_t i = 0; i < s->n_pending; i++) // still on their way from the one before
        if (pm_set_add(&s->deciding, s->pending[i].rank) < 0)
            core->out->error = -ENOMEM;
}

void pm_supervisor_again_forget(struct pm_core *core)
{
    struct pm_supervisor *s = core->supervisor;
    for (uint32_t i = 0; i < s->n_pending; i++)
        if (!s->pending[i].serial && pm_set_add(&s->wanted.dead, s->pending[i].rank) < 0)
            core->out->error = -ENOMEM;
    s->n_pending = 0;
    s->decision_ns = 0;
    note_known(s);
}

void pm_supervisor_again_digest(const struct pm_supervisor *s, uint64_t now_ns, struct pm_digest *d)
{
    if (is_open(s, now_ns)) {
        pm_digest_set(d, &s->deciding);
        pm_digest_u64(d, s->decision.restarts);
        pm_digest_time(d, s->decision_ns, now_ns);
        pm_digest_time(d, s->decision_due_ns, now_ns);
    }
    pm_digest_u64(d, (uint64_t)is_open(s, now_ns) << 32 | s->n_pending);
    for (uint32_t i = 0; i < s->n_pending; i++) {
        pm_digest_u64(d, (uint64_t)s->pending[i].rank << 32 | s->pending[i].serial);
        pm_digest_time(d, s->pending[i].due_ns, now_ns);
    }
}

// --- what becomes of them ----------------------------------------------------------------------

static void tell(struct pm_core *core, const struct pm_pending *pending)
{
    char line[PM_TEXT_CAP], text[32];
    struct pm_supervisor *s = core->supervisor;
    uint64_t took_ms = (core->now_ns - pending->decided_ns) / PM_MS;
    struct pm_log *log = pm_log_record(core, "running-again");
    log->epoch = s->wanted.epoch;
    log->rank = pending->rank;
    log->incarnation = pm_wanted_incarnation(&s->wanted, pending->rank);
    log->start_ms = took_ms;
    (void)snprintf(line, sizeof(line), "pm-supervise: rank %u running again after %s",
                   pending->rank, pm_duration_format(took_ms, text, sizeof(text)));
    pm_supervisor_say_line(core, line, false);
}

void pm_supervisor_again_heard(struct pm_core *core)
{
    struct pm_supervisor *s = core->supervisor;
    for (uint32_t i = 0; i < s->n_pending;) {
        struct pm_pending *pending = &s->pending[i];
        if (pending->serial && pm_set_has(&s->seen.again, pending->serial)) {
            tell(core, pending);
            drop(s, pending);
        } else {
            i++;
        }
    }
    note_known(s);
}

uint64_t pm_supervisor_again_deadline_ns(const struct pm_supervisor *s)
{
    uint64_t due = UINT64_MAX;
    for (uint32_t i = 0; i < s->n_pending; i++)
        if (s->pending[i].due_ns < due)
            due = s->pending[i].due_ns;
    return due;
}

// A judge who was asleep himself gives the start its time again.
static void started_late(struct pm_core *core, struct pm_pending *pending)
{
    const struct pm_options *o = core->config.options;
    if (core->now_ns - pending->due_ns > o->node_timeout_ms * PM_MS / 8)
        pending->due_ns = core->now_ns + o->start_timeout_ms * PM_MS;
    else
        pm_supervisor_rank_stuck(core, pending->rank);
}

void pm_supervisor_again_due(struct pm_core *core)
{
    struct pm_supervisor *s = core->supervisor;
    for (uint32_t i = 0; i < s->n_pending; i++) {
        struct pm_pending *pending = &s->pending[i];
        if (core->now_ns < pending->due_ns)
            continue;
        if (pending->serial)
            started_late(core, pending);
        else
            ask(core, pending);
    }
    note_known(s);
}
