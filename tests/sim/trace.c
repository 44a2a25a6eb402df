// SPDX-License-Identifier: Apache-2.0
//
// A run as a timeline that a person reads and a test compares: who says what to whom, what happens
// on the nodes, what is decided. Heartbeats and what only repeats are left out.
#include <stdarg.h>
#include <string.h>

#include "pmix_server/core/membership.h"
#include "tests/sim/sim.h"
#include "tests/sim/trace_frame.h"

static void head(struct sim *s)
{
    fprintf(s->trace, "[%7llu.%03llu] ", (unsigned long long)(s->now_ns / SIM_S),
            (unsigned long long)(s->now_ns / SIM_MS % 1000));
}

void sim_tracef(struct sim *s, const char *format, ...)
{
    if (!s->trace)
        return;
    va_list args;
    va_start(args, format);
    head(s);
    vfprintf(s->trace, format, args);
    fputc('\n', s->trace);
    va_end(args);
}

static const char *name_of(const struct sim *s, uint32_t slot, char *buf)
{
    if (slot == s->p.nnodes)
        strcpy(buf, "coordinator");
    else
        snprintf(buf, 32, "agent %u", slot);
    return buf;
}

void sim_trace_send(struct sim *s, uint32_t from, uint32_t to, const uint8_t *data, size_t len)
{
    char a[32], b[32], text[1024];
    bool quiet = len && (data[0] == PM_FRAME_PING || data[0] == PM_FRAME_GRANT);
    if (quiet && !s->trace_all)
        return;
    sim_trace_frame(s, data, len, text, sizeof(text));
    sim_tracef(s, "%s > %s  %s", name_of(s, from, a), name_of(s, to, b), text);
}

static const char *const event_names[PM_EVENT_MAX] = {
    [PM_EVENT_LINK_UP] = "link up",          [PM_EVENT_LINK_DOWN] = "link down",
    [PM_EVENT_SHIM_JOINED] = "shim joined",  [PM_EVENT_SHIM_LOST] = "shim lost",
    [PM_EVENT_RANK_STARTED] = "rank started", [PM_EVENT_RANK_EXITED] = "rank exited",
    [PM_EVENT_RANK_GONE] = "rank gone",      [PM_EVENT_SIGNALLED] = "signalled",
    [PM_EVENT_SERVER_READY] = "server ready", [PM_EVENT_SERVER_LOST] = "server lost",
    [PM_EVENT_NOTIFIED] = "notified",        [PM_EVENT_CONNECTED] = "connected",
    [PM_EVENT_FINALIZED] = "finalized",      [PM_EVENT_ABORT] = "abort",
    [PM_EVENT_FENCE] = "fence",              [PM_EVENT_MODEX] = "modex",
    [PM_EVENT_FETCHED] = "fetched",          [PM_EVENT_LAUNCHED] = "launched",
    [PM_EVENT_STOP] = "stop",                [PM_EVENT_SRUN_EXITED] = "srun exited",
    [PM_EVENT_JOB_STATE] = "job state",      [PM_EVENT_OUTPUT_READ] = "output read",
    [PM_EVENT_FENCED_OFF] = "fenced off",     [PM_EVENT_HEALTH] = "health",
};

static const char *const end_names[] = {"closed", "reset", "refused", "unreachable", "stuck",
                                        "rejected"};

void sim_trace_event(struct sim *s, uint32_t slot, const struct pm_event *e)
{
    char a[32], b[32];
    if (!event_names[e->type])
        return;
    name_of(s, slot, a);
    switch (e->type) {
    case PM_EVENT_LINK_UP:
        sim_tracef(s, "%s: link %u to %s is up", a, e->link, name_of(s, sim_slot(s, e->node), b));
        break;
    case PM_EVENT_LINK_DOWN:
        sim_tracef(s, "%s: link %u to %s is %s", a, e->link, name_of(s, sim_slot(s, e->node), b),
                   end_names[e->link_end]);
        break;
    case PM_EVENT_RANK_STARTED:
    case PM_EVENT_RANK_EXITED:
    case PM_EVENT_RANK_GONE:
        sim_tracef(s, "%s: %s local %u epoch %u incarnation %u status %d", a, event_names[e->type],
                   e->local, e->epoch, e->incarnation, e->wait_status);
        break;
    case PM_EVENT_CONNECTED:
    case PM_EVENT_FINALIZED:
    case PM_EVENT_ABORT:
        sim_tracef(s, "%s: rank %u %s epoch %u", a, e->rank, event_names[e->type], e->epoch);
        break;
    case PM_EVENT_SHIM_JOINED:
    case PM_EVENT_SHIM_LOST:
    case PM_EVENT_SIGNALLED:
        sim_tracef(s, "%s: %s local %u", a, event_names[e->type], e->local);
        break;
    case PM_EVENT_HEALTH:
        sim_tracef(s, "%s: health check %u %s", a, (unsigned)e->id, e->flag_failed ? "failed" : "passed");
        break;
    default:
        sim_tracef(s, "%s: %s epoch %u", a, event_names[e->type], e->epoch);
    }
}

static void trace_log(struct sim *s, const char *who, const struct pm_log *log)
{
    if (!strcmp(log->kind, "state"))
        sim_tracef(s, "%s: %s -> %s (%s) epoch %u", who, log->from, log->to, log->reason, log->epoch);
    else if (log->action)
        sim_tracef(s, "%s: %s %s: rank %d epoch %u incarnation %u node %d cause %s status %d: %s",
                   who, log->kind, log->action, (int)log->rank, log->epoch, log->incarnation,
                   (int)log->node, pm_cause_name(log->cause), log->wait_status, log->reason);
    else if (!strcmp(log->kind, "lost") || !strcmp(log->kind, "failure"))
        sim_tracef(s, "%s: %s node %d rank %d cause %s after %llu ms%s", who, log->kind, (int)log->node,
                   (int)log->rank, pm_cause_name(log->cause), (unsigned long long)log->silent_ms,
                   log->idle ? ", idle" : "");
}

void sim_trace_action(struct sim *s, uint32_t slot, const struct pm_action *a)
{
    char who[32], peer[32];
    name_of(s, slot, who);
    switch (a->type) {
    case PM_ACTION_DIAL:
        sim_tracef(s, "%s: dials %s link %u", who, name_of(s, sim_slot(s, a->node), peer), a->link);
        break;
    case PM_ACTION_CLOSE:
        sim_tracef(s, "%s: closes link %u", who, a->link);
        break;
    case PM_ACTION_PREPARE_SERVER:
    case PM_ACTION_DROP_SERVER:
        sim_tracef(s, "%s: %s server of epoch %u", who,
                   a->type == PM_ACTION_DROP_SERVER ? "drops" : "prepares", a->epoch);
        break;
    case PM_ACTION_START_RANK:
    case PM_ACTION_KILL_RANK:
        sim_tracef(s, "%s: %s rank %u epoch %u incarnation %u", who,
                   a->type == PM_ACTION_START_RANK ? "starts" : "kills", a->rank, a->epoch,
                   a->incarnation);
        break;
    case PM_ACTION_SIGNAL_RANK:
        sim_tracef(s, "%s: signal %d to rank %u epoch %u", who, a->signal, a->rank, a->epoch);
        break;
    case PM_ACTION_NOTIFY:
        sim_tracef(s, "%s: tells survivors of rank %u", who, a->rank);
        break;
    case PM_ACTION_PAUSE:
    case PM_ACTION_RESUME:
        sim_tracef(s, "%s: %s its ranks", who, a->type == PM_ACTION_PAUSE ? "stops" : "continues");
        break;
    case PM_ACTION_FENCE_DONE:
        sim_tracef(s, "%s: fence %llu of epoch %u ends with %d", who, (unsigned long long)a->id,
                   a->epoch, a->status);
        break;
    case PM_ACTION_DIE:
    case PM_ACTION_SAY:
        sim_tracef(s, "%s: %s \"%s\"", who, a->type == PM_ACTION_DIE ? "dies:" : "says", a->text);
        break;
    case PM_ACTION_END_AGENT:
        sim_tracef(s, "%s: ends", who);
        break;
    case PM_ACTION_END_STEP:
        sim_tracef(s, "%s: ends the step with signal %d", who, a->signal);
        break;
    case PM_ACTION_EXIT:
        sim_tracef(s, "%s: verdict %d", who, a->status);
        break;
    case PM_ACTION_ASK_BOOTED:
        sim_tracef(s, "%s: asks Slurm which nodes have booted", who);
        break;
    case PM_ACTION_RELAUNCH:
        sim_tracef(s, "%s: launches again", who);
        break;
    case PM_ACTION_LOG:
    case PM_ACTION_NODE_LOG:
        trace_log(s, who, a->log);
        break;
    default:
        break;
    }
}
