// SPDX-License-Identifier: Apache-2.0
//
// What the judge knows of a node at the moment of its declaration, as a record: how long it was silent, and what
// speaks for its death in words.
#include <stdio.h>

#include "pmix_server/core/membership.h"

// The suspicion that `node` falls under: its own, or that of a node above it.
static const struct pm_suspect *suspicion_of(const struct pm_core *core, uint32_t node)
{
    const struct pm_judge *j = &core->membership->judge;
    const struct pm_suspect *above = NULL;
    for (uint32_t i = 0; i < j->n; i++) {
        if (!pm_set_has(&j->list[i].pending, node))
            continue;
        if (j->list[i].node == node)
            return &j->list[i];
        above = above ? above : &j->list[i];
    }
    return above;
}

static void describe(struct pm_log *log, const struct pm_suspect *s)
{
    char time[32];
    pm_duration_format(log->silent_ms, time, sizeof(time));
    const size_t cap = sizeof(log->reason);
    if (!s)
        (void)snprintf(log->reason, cap, "its ranks outlived SIGKILL");
    else if (log->cause == PM_CAUSE_AGENT_LOST && s->stuck)
        (void)snprintf(log->reason, cap, "its agent's port takes connections, but nobody answers there (stuck)");
    else if (log->cause == PM_CAUSE_AGENT_LOST)
        (void)snprintf(log->reason, cap, "its agent's port refused two connections");
    else if (s->kind == PM_REPORT_ENDED)
        (void)snprintf(log->reason, cap, "its link ended, and nothing was heard of it for %s", time);
    else
        (void)snprintf(log->reason, cap, "nothing was heard of it for %s", time);
}

uint64_t pm_evidence_log(struct pm_core *core, uint32_t node, enum pm_cause cause)
{
    const struct pm_suspect *s = suspicion_of(core, node);
    struct pm_log *log = pm_log_record(core, "lost");
    log->epoch = pm_supervisor_epoch(core->supervisor);
    log->node = node;
    log->cause = cause;
    if (s && cause == PM_CAUSE_NODE_LOST)
        log->silent_ms = (core->now_ns - s->since_ns) / PM_MS;
    log->timeout_ms = log->silent_ms ? core->membership->t_ns / PM_MS : 0;
    describe(log, s);
    return log->silent_ms;
}
