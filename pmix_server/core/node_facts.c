// SPDX-License-Identifier: Apache-2.0
//
// Takes in what happens on this node: shims, ranks, the server, Slurm's signals.
//
// Which exits are failures is decided here, because only this node knows the order of things: an
// exit after our own SIGTERM or SIGKILL, or after Slurm's signal (the user's stop), is none; a lost shim and an abort
// are one even then. What a failure leads to is not decided here.
#include "pmix_server/core/node.h"

#include <assert.h>
#include <errno.h>
#include <sys/wait.h>

#define SIGNAL_INT  2
#define SIGNAL_TERM 15

static uint64_t uptime_ms(const struct pm_core *core, const struct pm_local *local)
{
    return local->has_run ? (core->now_ns - local->started_ns) / PM_MS : 0;
}

static void rank_fails(struct pm_core *core, struct pm_local *local, enum pm_cause cause,
                       const char *text)
{
    if (local->has_failure)
        return;
    local->has_failure = true;
    local->failure = (struct pm_failure){.node = core->config.node,
                                         .rank = local->rank,
                                         .epoch = local->epoch,
                                         .incarnation = local->incarnation,
                                         .pid = local->pid,
                                         .cause = cause,
                                         .wait_status = local->wait_status,
                                         .uptime_ms = uptime_ms(core, local),
                                         .connected = local->connected};
    pm_text_copy(local->failure.text, sizeof(local->failure.text), text);
}

static bool user_stops(const struct pm_node *n)
{
    return n->report.user_signal || n->wanted.phase == PM_PHASE_DRAIN;
}

static struct pm_local *local_of(struct pm_core *core, const struct pm_event *event)
{
    struct pm_node *n = core->node;
    return event->local < n->n_local ? &n->locals[event->local] : NULL;
}

// The local whose present incarnation the event is about, else NULL: late news of an older one.
static struct pm_local *local_now(struct pm_core *core, const struct pm_event *event)
{
    struct pm_local *local = local_of(core, event);
    bool now = local && local->has_run && local->epoch == event->epoch &&
               local->incarnation == event->incarnation;
    return now ? local : NULL;
}

static struct pm_local *local_of_rank(struct pm_core *core, const struct pm_event *event)
{
    struct pm_node *n = core->node;
    for (uint32_t i = 0; i < n->n_local; i++)
        if (n->locals[i].rank == event->rank && n->locals[i].has_run &&
            n->locals[i].epoch == event->epoch)
            return &n->locals[i];
    return NULL;
}

static void on_shim_joined(struct pm_core *core, const struct pm_event *event)
{
    struct pm_local *local = local_of(core, event);
    if (!local)
        return;
    local->shim_joined = true;
    core->node->size = (struct pm_size){.gpus = event->gpus, .memory_mib = event->memory_mib};
}

static void on_shim_lost(struct pm_core *core, const struct pm_event *event)
{
    struct pm_local *local = local_of(core, event);
    if (!local || local->shim_lost)
        return;
    local->shim_lost = true;
    local->killed = false; // whether it has done what it was told nobody knows: we do it
    pm_node_log(core, "shim-lost", local);
    local->has_failure = false; // this is the worse one
    rank_fails(core, local, PM_CAUSE_SHIM_LOST, event->text);
}

static void on_rank_started(struct pm_core *core, const struct pm_event *event)
{
    struct pm_local *local = local_now(core, event);
    if (!local || local->state != PM_LOCAL_ASKED)
        return;
    local->state = PM_LOCAL_RUNNING;
    local->was_started = true;
    local->pid = event->pid;
    local->started_ns = core->now_ns;
    pm_node_log(core, "start", local);
    // Slurm's signal went by while this rank was on its way.
    if (user_stops(core->node))
        pm_node_signal(core, local, SIGNAL_TERM);
}

static enum pm_cause cause_of_exit(const struct pm_event *event)
{
    if (event->flag_exec)
        return PM_CAUSE_EXEC;
    if (event->flag_oom && event->wait_status != 0)
        return PM_CAUSE_OOM;
    return WIFSIGNALED(event->wait_status) ? PM_CAUSE_SIGNAL : PM_CAUSE_EXIT;
}

static void judge_exit(struct pm_core *core, struct pm_local *local, const struct pm_event *event)
{
    bool ours = local->termed || local->killed;
    if (ours || user_stops(core->node))
        return;
    if (event->wait_status != 0 || event->flag_exec)
        rank_fails(core, local, cause_of_exit(event), event->text);
    else if (local->connected && !local->finalized)
        local->linger_ns = core->now_ns + PM_LINGER_NS;
}

static void on_rank_exited(struct pm_core *core, const struct pm_event *event)
{
    struct pm_local *local = local_now(core, event);
    if (!local || local->over)
        return;
    if (!local->pid)
        local->pid = event->pid;
    local->was_started |= !event->flag_exec;
    local->state = PM_LOCAL_EXITED;
    local->over = true;
    local->wait_status = event->wait_status;
    struct pm_log *log = pm_node_log(core, "exit", local);
    log->wait_status = event->wait_status;
    log->has_status = true;
    judge_exit(core, local, event);
}

static void on_rank_gone(struct pm_core *core, const struct pm_event *event)
{
    struct pm_local *local = local_now(core, event);
    if (!local || local->state == PM_LOCAL_IDLE)
        return;
    local->state = PM_LOCAL_IDLE;
    local->over = true;
    pm_node_log(core, "reap", local);
}

static void on_signalled(struct pm_core *core, const struct pm_event *event)
{
    struct pm_node *n = core->node;
    if ((event->signal != SIGNAL_TERM && event->signal != SIGNAL_INT) || n->report.user_signal)
        return;
    n->report.user_signal = event->signal;
    n->dirty = true;
}

static void on_server_ready(struct pm_core *core, const struct pm_event *event)
{
    struct pm_server_slot *slot = &core->node->servers[event->epoch & 1];
    if (slot->epoch == event->epoch && slot->asked)
        slot->ready = true;
}

static bool any_has_run(const struct pm_node *n)
{
    for (uint32_t i = 0; i < n->n_local; i++)
        if (n->locals[i].has_run)
            return true;
    return false;
}

static bool any_connected(const struct pm_node *n, uint32_t epoch)
{
    for (uint32_t i = 0; i < n->n_local; i++)
        if (n->locals[i].has_run && n->locals[i].epoch == epoch && n->locals[i].connected)
            return true;
    return false;
}

static void on_cannot_start(struct pm_core *core, const struct pm_event *event)
{
    pm_node_refuse(core, event->text);
}

// Before anybody has connected a server is replaced in silence, up to a limit.
static void on_server_lost(struct pm_core *core, const struct pm_event *event)
{
    struct pm_node *n = core->node;
    struct pm_server_slot *slot = &n->servers[event->epoch & 1];
    if (slot->epoch != event->epoch || !slot->asked || user_stops(n))
        return;
    slot->asked = slot->ready = false;
    if (event->epoch != n->wanted.epoch || n->wanted.phase > PM_PHASE_START ||
        (!any_connected(n, event->epoch) && slot->tries < PM_SERVER_TRIES_MAX))
        return;
    slot->tries = PM_SERVER_TRIES_MAX; // what follows is a decision, not another server
    if ((event->epoch == 0 || n->wanted.phase == PM_PHASE_FORM) && !any_has_run(n)) {
        on_cannot_start(core, event);
        return;
    }
    n->has_server_failure = true;
    n->server_failure = (struct pm_failure){.node = core->config.node,
                                            .rank = PM_RANK_NONE,
                                            .epoch = event->epoch,
                                            .cause = PM_CAUSE_PMIX_SERVER,
                                            .connected = true};
    pm_text_copy(n->server_failure.text, sizeof(n->server_failure.text), event->text);
}

static void on_notified(struct pm_core *core, const struct pm_event *event)
{
    struct pm_node *n = core->node;
    if (n->halt == PM_HALT_NOTIFYING && n->halt_epoch == event->epoch)
        n->halt_deadline_ns = core->now_ns;
}

static void on_connected(struct pm_core *core, const struct pm_event *event)
{
    struct pm_local *local = local_of_rank(core, event);
    if (local)
        local->connected = true;
}

static void on_finalized(struct pm_core *core, const struct pm_event *event)
{
    struct pm_local *local = local_of_rank(core, event);
    if (!local)
        return;
    local->finalized = true;
    local->linger_ns = 0;
}

// It is ours to end. That we passed Slurm's signal on does not make it so: then an abort bounds the time of the others.
static bool is_being_ended(const struct pm_node *n, const struct pm_local *local)
{
    bool halts = n->halt != PM_HALT_NONE && n->halt_epoch == local->epoch;
    return local->killed || (local->termed && halts);
}

// The decision does not wait for the exit: an aborting rank may well hang in its last call.
static void on_abort(struct pm_core *core, const struct pm_event *event)
{
    struct pm_local *local = local_of_rank(core, event);
    if (!local || is_being_ended(core->node, local))
        return;
    int32_t code = event->status & 0xff;
    rank_fails(core, local, PM_CAUSE_ABORT, event->text);
    if (local->failure.cause == PM_CAUSE_ABORT) {
        local->failure.wait_status = (code ? code : 1) << 8;
        local->failure.connected = true;
    }
}

// Where ranks move the map's version comes first in the serial: when rank 0 has moved, no port of its old node
// counts any more.
void pm_node_offer_port(struct pm_core *core)
{
    struct pm_node *n = core->node;
    bool rank_0 = false;
    for (uint32_t i = 0; i < n->n_local; i++)
        rank_0 |= n->locals[i].rank == 0;
    if (!rank_0 || !n->port)
        return;
    n->report.port = n->port;
    uint64_t version = pm_options_ranks_move(core->config.options) ? core->world.map_version : 0;
    n->report.port_serial = version << 32 | n->n_ports;
    n->dirty = true;
}

static void on_port(struct pm_core *core, const struct pm_event *event)
{
    core->node->port = event->port;
    core->node->n_ports++;
    pm_node_offer_port(core);
}

static void on_say(struct pm_core *core, const struct pm_event *event)
{
    pm_node_say(core, false, event->text ? event->text : "");
}

static void on_bound(struct pm_core *core, const struct pm_event *event)
{
    struct pm_set own = {0};
    if (pm_set_add(&own, core->config.node) < 0)
        core->out->error = -ENOMEM;
    else
        pm_node_bound(core, &own, event->text ? event->text : "");
    pm_set_done(&own);
}

static void on_timer(struct pm_core *core, const struct pm_event *event)
{
    (void)event;
    struct pm_node *n = core->node;
    for (uint32_t i = 0; i < n->n_local; i++) {
        struct pm_local *local = &n->locals[i];
        if (!local->linger_ns || core->now_ns < local->linger_ns)
            continue;
        local->linger_ns = 0;
        if (local->missed_ns && core->now_ns - local->missed_ns < PM_MISSED_NS + PM_LINGER_NS) {
            rank_fails(core, local, PM_CAUSE_NO_FINALIZE, "");
            continue;
        }
        local->left = true;
        pm_node_log(core, "no-finalize", local);
    }
    pm_node_say_flush(core);
    pm_node_bound_flush(core);
}

static void (*const handlers[PM_EVENT_MAX])(struct pm_core *core, const struct pm_event *event) = {
    [PM_EVENT_TIMER] = on_timer,
    [PM_EVENT_SHIM_JOINED] = on_shim_joined,
    [PM_EVENT_SHIM_LOST] = on_shim_lost,
    [PM_EVENT_RANK_STARTED] = on_rank_started,
    [PM_EVENT_RANK_EXITED] = on_rank_exited,
    [PM_EVENT_RANK_GONE] = on_rank_gone,
    [PM_EVENT_SIGNALLED] = on_signalled,
    [PM_EVENT_SERVER_READY] = on_server_ready,
    [PM_EVENT_SERVER_LOST] = on_server_lost,
    [PM_EVENT_NOTIFIED] = on_notified,
    [PM_EVENT_CONNECTED] = on_connected,
    [PM_EVENT_FINALIZED] = on_finalized,
    [PM_EVENT_ABORT] = on_abort,
    [PM_EVENT_PORT] = on_port,
    [PM_EVENT_SAY] = on_say,
    [PM_EVENT_BOUND] = on_bound,
    [PM_EVENT_HEALTH] = pm_node_health,
    [PM_EVENT_CANNOT_START] = on_cannot_start,
};

void pm_node_fact(struct pm_core *core, const struct pm_event *event)
{
    assert(handlers[event->type]); // core.c sends no others
    handlers[event->type](core, event);
}

bool pm_node_fact_fence_lost(struct pm_core *core, uint32_t epoch, uint32_t rank)
{
    struct pm_event event = {.epoch = epoch, .rank = rank};
    struct pm_local *local = local_of_rank(core, &event);
    if (!local || !local->connected || local->finalized || local->termed || local->killed ||
        user_stops(core->node))
        return false;
    local->missed_ns = core->now_ns;
    if (!local->over || local->wait_status != 0)
        return false;
    rank_fails(core, local, PM_CAUSE_NO_FINALIZE, "");
    return true;
}
