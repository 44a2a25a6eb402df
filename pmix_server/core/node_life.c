// SPDX-License-Identifier: Apache-2.0
//
// What an agent does about the wanted state. pm_node_drive() compares it with the facts and gives
// the actions that are due; it runs after every event, and an action that was given is a fact
// itself, so nothing is done twice.
//
// Order of a halt: the event to survivors, SIGTERM when it was raised (or 100 ms have passed),
// SIGKILL to the whole tree after the grace, halted when no process of any local rank is left. The
// next epoch's server gets ready meanwhile.
#include <errno.h>

#include "pmix_server/core/node.h"

#define SIGNAL_TERM 15

// What each phase asks for.
static const struct {
    bool start;
    bool halt;
    bool now;          // without event and grace
    bool first_server; // get e ready as soon as the world is known
    bool next_server;  // get e + 1 ready
} phases[PM_PHASE_MAX] = {
    [PM_PHASE_FORM] = {.first_server = true},
    [PM_PHASE_START] = {.start = true},
    [PM_PHASE_HALT] = {.halt = true, .next_server = true},
    [PM_PHASE_STOP] = {.halt = true},
    [PM_PHASE_KILL] = {.halt = true, .now = true},
};

struct pm_log *pm_node_log(struct pm_core *core, const char *kind, const struct pm_local *local)
{
    struct pm_log *log = pm_log_record(core, kind);
    log->node = core->config.node;
    log->epoch = local->epoch;
    log->rank = local->rank;
    log->incarnation = local->incarnation;
    log->pid = local->pid;
    return log;
}

// --- servers -----------------------------------------------------------------------------------

static void server_drop(struct pm_core *core, uint32_t epoch)
{
    struct pm_server_slot *slot = &core->node->servers[epoch & 1];
    if (slot->epoch != epoch || !slot->tries)
        return;
    pm_emit(core, PM_ACTION_DROP_SERVER)->epoch = epoch;
    *slot = (struct pm_server_slot){.epoch = epoch};
}

static struct pm_server_slot *server_of(struct pm_core *core, uint32_t epoch)
{
    struct pm_server_slot *slot = &core->node->servers[epoch & 1];
    if (slot->epoch != epoch) {
        if (slot->tries) // a slot never used says epoch 0, which may live in the other one
            server_drop(core, slot->epoch); // of an epoch whose halt this node did not see
        *slot = (struct pm_server_slot){.epoch = epoch};
    }
    return slot;
}

static bool has_ranks(const struct pm_core *core)
{
    return core->world_known && core->node->n_local > 0 &&
           !pm_set_empty(&core->world.ranks_of_node[core->config.node]);
}

// True when it is ready, or none is needed.
static bool server_prepare(struct pm_core *core, uint32_t epoch)
{
    struct pm_server_slot *slot = server_of(core, epoch);
    if (slot->tries && slot->map_version != core->world.map_version)
        server_drop(core, epoch); // it serves a world that will never be
    if (!has_ranks(core))
        return core->world_known;
    if (!slot->asked && slot->tries < PM_SERVER_TRIES_MAX) {
        slot->asked = true;
        slot->map_version = core->world.map_version;
        slot->tries++;
        pm_emit(core, PM_ACTION_PREPARE_SERVER)->epoch = epoch;
    }
    return slot->ready;
}

// --- events for survivors ----------------------------------------------------------------------

static void notice_emit(struct pm_core *core, const struct pm_notice *notice)
{
    struct pm_action *a = pm_emit(core, PM_ACTION_NOTIFY);
    a->epoch = core->node->wanted.epoch;
    a->rank = notice->rank;
    a->incarnation = notice->incarnation;
    a->cause = notice->cause;
    a->wait_status = notice->wait_status;
    pm_action_set_text(core, a, notice->text);
    if (pm_set_add(&core->node->notified, notice->rank) < 0)
        core->out->error = -ENOMEM;
}

// Ranks of `set` whose event was not raised yet; their details did not fit into the record.
static uint32_t notice_rest(struct pm_core *core, const struct pm_set *set, enum pm_cause cause,
                            int32_t wait_status)
{
    struct pm_node *n = core->node;
    uint32_t raised = 0;
    if (pm_set_covers(&n->notified, set))
        return 0;
    for (uint32_t rank = pm_set_next(set, 0); rank != UINT32_MAX;
         rank = pm_set_next(set, rank + 1)) {
        if (pm_set_has(&n->notified, rank))
            continue;
        const struct pm_notice notice = {.rank = rank, .cause = cause, .wait_status = wait_status};
        notice_emit(core, &notice);
        raised++;
    }
    return raised;
}

static bool any_survivor(const struct pm_node *n)
{
    for (uint32_t i = 0; i < n->n_local; i++)
        if (n->locals[i].state == PM_LOCAL_RUNNING && n->locals[i].connected)
            return true;
    return false;
}

// Nobody here could hear it; who connects later need not hear of the past.
static void notify_nobody(struct pm_core *core)
{
    struct pm_node *n = core->node;
    const struct pm_wanted *wanted = &n->wanted;
    if (wanted->n_notices)
        n->notice_serial = wanted->notices[wanted->n_notices - 1].serial;
    if (pm_set_union(&n->notified, &wanted->dead) < 0 ||
        pm_set_union(&n->notified, &wanted->left) < 0)
        core->out->error = -ENOMEM;
}

// Raises what is new; says whether there was anything.
static bool notify_new(struct pm_core *core)
{
    struct pm_node *n = core->node;
    const struct pm_wanted *wanted = &n->wanted;
    if (!server_of(core, wanted->epoch)->ready || !any_survivor(n)) {
        notify_nobody(core);
        return false;
    }
    uint32_t raised = 0;
    for (uint32_t i = 0; i < wanted->n_notices; i++) {
        const struct pm_notice *notice = &wanted->notices[i];
        if (notice->serial <= n->notice_serial)
            continue;
        n->notice_serial = notice->serial;
        // Survivors heard of it when it left.
        if (notice->cause == PM_CAUSE_NO_FINALIZE && pm_set_has(&n->notified, notice->rank))
            continue;
        notice_emit(core, notice);
        raised++;
    }
    raised += notice_rest(core, &wanted->dead, PM_CAUSE_SIGNAL, 9);
    raised += notice_rest(core, &wanted->left, PM_CAUSE_NO_FINALIZE, 0);
    if (raised && core->out->n)
        core->out->list[core->out->n - 1].last = true;
    return raised > 0;
}

// Fences and fetches that wait for ranks which stay dead end now. Idempotent there.
static void lost_ranks(struct pm_core *core, const struct pm_set *set, struct pm_set *told)
{
    if (pm_set_covers(told, set))
        return;
    for (uint32_t rank = pm_set_next(set, 0); rank != UINT32_MAX; rank = pm_set_next(set, rank + 1))
        if (!pm_set_has(told, rank))
            pm_collective_rank_lost(core, core->node->wanted.epoch, rank);
    if (pm_set_union(told, set) < 0)
        core->out->error = -ENOMEM;
}

// --- start -------------------------------------------------------------------------------------

static void rank_kill(struct pm_core *core, struct pm_local *local)
{
    struct pm_action *a = pm_emit(core, PM_ACTION_KILL_RANK);
    a->local = (uint32_t)(local - core->node->locals);
    a->epoch = local->epoch;
    a->rank = local->rank;
    a->incarnation = local->incarnation;
    local->killed = true;
    local->killed_ns = core->now_ns;
    pm_node_log(core, "kill", local);
    if (local->shim_lost)
        local->state = PM_LOCAL_IDLE; // the rank died with its shim; nobody is left to say so
}

static void rank_start(struct pm_core *core, struct pm_local *local, uint32_t incarnation)
{
    const struct pm_wanted *wanted = &core->node->wanted;
    bool alone = local->has_run && local->epoch == wanted->epoch;
    enum pm_cause cause = alone ? local->failure.cause : wanted->restart_cause;
    *local = (struct pm_local){.rank = local->rank,
                               .shim_joined = local->shim_joined,
                               .shim_lost = local->shim_lost,
                               .state = PM_LOCAL_ASKED,
                               .has_run = true,
                               .epoch = wanted->epoch,
                               .incarnation = incarnation,
                               .started_ns = core->now_ns};
    struct pm_action *a = pm_emit(core, PM_ACTION_START_RANK);
    a->local = (uint32_t)(local - core->node->locals);
    a->rank = local->rank;
    a->epoch = wanted->epoch;
    a->incarnation = incarnation;
    a->port = wanted->port;
    a->host = wanted->host;
    a->peer_rank = alone ? local->rank : wanted->restart_rank;
    a->cause = cause;
    pm_action_set_text(core, a, cause ? pm_cause_name(cause) : "");
}

// Has the rank to be started, or what is left of its last life to be killed first?
static void rank_drive(struct pm_core *core, struct pm_local *local)
{
    const struct pm_wanted *wanted = &core->node->wanted;
    if (local->rank == PM_RANK_NONE)
        return;
    uint32_t incarnation = pm_wanted_incarnation(wanted, local->rank);
    bool old = !local->has_run || local->epoch < wanted->epoch || local->incarnation < incarnation;
    if (local->shim_lost)
        return;
    if (local->state == PM_LOCAL_IDLE) {
        if (old && !core->node->report.user_signal)
            rank_start(core, local, incarnation);
        return;
    }
    // What a dead rank left behind goes too; so does one that called abort and lives on.
    bool dead = pm_set_has(&wanted->dead, local->rank);
    if ((old || dead) && !local->killed)
        rank_kill(core, local);
}

static void drive_start(struct pm_core *core)
{
    struct pm_node *n = core->node;
    if (!core->world_known || n->wanted.map_version != core->world.map_version)
        return;
    bool ready = server_prepare(core, n->wanted.epoch);
    (void)notify_new(core);
    // Nothing would stop a rank that has never had a lease.
    bool leased = pm_lease_end_ns(core) != 0;
    if (!ready || !leased || n->paused)
        return;
    for (uint32_t i = 0; i < n->n_local; i++)
        rank_drive(core, &n->locals[i]);
}

// --- halt --------------------------------------------------------------------------------------

static bool rank_lives(const struct pm_local *local)
{
    return local->state == PM_LOCAL_ASKED || local->state == PM_LOCAL_RUNNING;
}

void pm_node_signal(struct pm_core *core, struct pm_local *local, int32_t signal)
{
    struct pm_action *a = pm_emit(core, PM_ACTION_SIGNAL_RANK);
    a->local = (uint32_t)(local - core->node->locals);
    a->epoch = local->epoch;
    a->rank = local->rank;
    a->incarnation = local->incarnation;
    a->signal = signal;
    local->termed = true;
    pm_node_log(core, "stop", local);
}

static void halt_term(struct pm_core *core)
{
    struct pm_node *n = core->node;
    for (uint32_t i = 0; i < n->n_local; i++) {
        struct pm_local *local = &n->locals[i];
        if (rank_lives(local) && !local->termed && !local->shim_lost)
            pm_node_signal(core, local, SIGNAL_TERM);
    }
    n->halt = PM_HALT_GRACE;
    n->halt_deadline_ns = core->now_ns + n->wanted.grace_ms * PM_MS;
}

static void halt_begin(struct pm_core *core)
{
    struct pm_node *n = core->node;
    n->halt_epoch = n->wanted.epoch;
    n->halt = PM_HALT_NOTIFYING;
    n->halt_deadline_ns = core->now_ns + (notify_new(core) ? PM_NOTIFY_NS : 0);
    pm_collective_epoch_over(core, n->wanted.epoch);
}

// Kills who has lived long enough: everybody when the grace is over, those that have exited at once
// (what they left behind goes with them).
static void halt_kill(struct pm_core *core)
{
    struct pm_node *n = core->node;
    for (uint32_t i = 0; i < n->n_local; i++) {
        struct pm_local *local = &n->locals[i];
        bool due = n->halt == PM_HALT_KILLING || local->shim_lost ||
                   (n->halt == PM_HALT_GRACE && local->state == PM_LOCAL_EXITED);
        if (due && local->state != PM_LOCAL_IDLE && !local->killed)
            rank_kill(core, local);
    }
}

static bool all_idle(const struct pm_node *n)
{
    for (uint32_t i = 0; i < n->n_local; i++)
        if (n->locals[i].state != PM_LOCAL_IDLE)
            return false;
    return true;
}

static void halt_advance(struct pm_core *core)
{
    struct pm_node *n = core->node;
    bool now = phases[n->wanted.phase].now;
    if (n->halt == PM_HALT_NOTIFYING && !now && core->now_ns >= n->halt_deadline_ns)
        halt_term(core);
    if (n->halt == PM_HALT_GRACE && core->now_ns >= n->halt_deadline_ns)
        n->halt = PM_HALT_KILLING;
    if (now && n->halt != PM_HALT_DONE)
        n->halt = PM_HALT_KILLING;
    halt_kill(core);
}

// Reaping is the kernel's: a process that does not go is reported, once, as a lost place; also one that
// is killed while the others run on.
static void drive_unreapable(struct pm_core *core)
{
    struct pm_node *n = core->node;
    for (uint32_t i = 0; i < n->n_local; i++) {
        struct pm_local *local = &n->locals[i];
        uint64_t due = local->killed_ns + PM_UNREAPABLE_NS;
        if (local->state == PM_LOCAL_IDLE || !local->killed || core->now_ns < due ||
            (local->has_failure && local->failure.cause == PM_CAUSE_NODE_LOST))
            continue;
        if (core->now_ns > due + 1000 * PM_MS) {
            local->killed_ns = core->now_ns; // we slept ourselves: no judge of others
            continue;
        }
        local->has_failure = true;
        local->failure = (struct pm_failure){.node = core->config.node,
                                             .rank = local->rank,
                                             .epoch = local->epoch,
                                             .incarnation = local->incarnation,
                                             .pid = local->pid,
                                             .cause = PM_CAUSE_NODE_LOST};
        pm_text_copy(local->failure.text, sizeof(local->failure.text),
                     "a process is not gone 10 s after SIGKILL");
    }
}

static void drive_halt(struct pm_core *core)
{
    struct pm_node *n = core->node;
    if (n->halt == PM_HALT_NONE || n->halt_epoch != n->wanted.epoch)
        halt_begin(core);
    halt_advance(core);
    if (phases[n->wanted.phase].next_server)
        (void)server_prepare(core, n->wanted.epoch + 1);
    if (n->halt != PM_HALT_DONE && n->halt != PM_HALT_NOTIFYING && all_idle(n)) {
        n->halt = PM_HALT_DONE;
        server_drop(core, n->wanted.epoch);
    }
}

static void drive_end(struct pm_core *core)
{
    struct pm_node *n = core->node;
    pm_collective_epoch_over(core, n->wanted.epoch);
    for (uint32_t i = 0; i < n->n_local; i++) {
        struct pm_action *a = pm_emit(core, PM_ACTION_END_SHIM);
        a->local = i;
        // A task that waited has done its part, whatever its slot ran before.
        a->override = n->wanted.has_end_status || n->locals[i].rank == PM_RANK_NONE;
        a->wait_status = n->wanted.end_status;
    }
    server_drop(core, n->wanted.epoch);
    server_drop(core, n->wanted.epoch + 1);
    n->bound.due_ns = core->now_ns;  // no time to wait for others that say the same
    pm_node_bound_flush(core);
    pm_emit(core, PM_ACTION_END_AGENT);
    n->ended = true;
}

// How many tasks here have a lower number than that of local task i.
static uint32_t order_of(const struct pm_core *core, uint32_t local)
{
    uint32_t order = 0;
    for (uint32_t i = 0; i < core->node->n_local; i++)
        order += core->config.local_ranks[i] < core->config.local_ranks[local];
    return order;
}

// What a local has run is history under its old rank's number; that its place is lost stays true.
static void take_rank(struct pm_local *local, uint32_t rank)
{
    if (local->rank == rank)
        return;
    struct pm_local fresh = {.rank = rank, .shim_joined = local->shim_joined, .shim_lost = local->shim_lost};
    if (local->has_failure && pm_cause_is_loss(local->failure.cause)) {
        fresh.has_failure = true;
        fresh.failure = local->failure;
    }
    *local = fresh;
}

// No rank of the world before runs: the coordinator makes a new map only when all have halted.
void pm_node_take_ranks(struct pm_core *core)
{
    struct pm_node *n = core->node;
    const struct pm_set *ranks = &core->world.ranks_of_node[core->config.node];
    if (!pm_options_ranks_move(core->config.options))
        return; // ranks are tasks
    for (uint32_t i = 0; i < n->n_local; i++) {
        uint32_t rank = pm_set_next(ranks, 0);
        for (uint32_t k = order_of(core, i); k > 0 && rank != PM_RANK_NONE; k--)
            rank = pm_set_next(ranks, rank + 1);
        take_rank(&n->locals[i], rank);
    }
    pm_node_offer_port(core);
}

void pm_node_enter_epoch(struct pm_core *core, uint32_t epoch)
{
    struct pm_node *n = core->node;
    n->notice_serial = 0;
    pm_set_clear(&n->notified);
    pm_set_clear(&n->told_lost);
    n->has_server_failure = false;
    struct pm_server_slot *slot = &n->servers[epoch & 1];
    if (!slot->asked)
        slot->tries = 0;
    for (uint32_t i = 0; i < n->n_local; i++)
        if (!pm_cause_is_loss(n->locals[i].failure.cause))
            n->locals[i].has_failure = false;
    if (epoch > 0)
        pm_collective_epoch_over(core, epoch - 1);
}

void pm_node_drive(struct pm_core *core)
{
    struct pm_node *n = core->node;
    if (n->ended)
        return;
    lost_ranks(core, &n->wanted.dead, &n->told_lost);
    lost_ranks(core, &n->wanted.left, &n->told_lost);
    if (n->wanted.phase == PM_PHASE_END)
        drive_end(core);
    else if (phases[n->wanted.phase].start)
        drive_start(core);
    else if (phases[n->wanted.phase].halt)
        drive_halt(core);
    else if (phases[n->wanted.phase].first_server)
        (void)server_prepare(core, n->wanted.epoch);
    else if (n->wanted.phase == PM_PHASE_DRAIN)
        notify_nobody(core); // whom Slurm's signal has ended is no news
    if (!n->ended)
        drive_unreapable(core);
}

uint64_t pm_node_life_deadline_ns(const struct pm_node *n)
{
    uint64_t due = UINT64_MAX;
    if (n->ended)
        return due;
    if (n->halt == PM_HALT_NOTIFYING || n->halt == PM_HALT_GRACE)
        due = n->halt_deadline_ns;
    for (uint32_t i = 0; i < n->n_local; i++) {
        const struct pm_local *local = &n->locals[i];
        if (local->linger_ns && local->linger_ns < due)
            due = local->linger_ns;
        if (local->killed && local->state != PM_LOCAL_IDLE &&
            !(local->has_failure && local->failure.cause == PM_CAUSE_NODE_LOST) &&
            local->killed_ns + PM_UNREAPABLE_NS < due)
            due = local->killed_ns + PM_UNREAPABLE_NS;
    }
    return due;
}
