// SPDX-License-Identifier: Apache-2.0
//
// The agent's shell, after pmix_server/agent*.c: what it does for each action of its core, and what
// it makes of the words of its shims.
#include <string.h>

#include "tests/sim/check.h"
#include "tests/sim/outcome.h"
#include "tests/sim/sim.h"

#define DIE_NS    (1000 * SIM_MS)
#define END_NS    (15000 * SIM_MS)
#define ALONE_NS  (10000 * SIM_MS)
#define REFUSE_NS (10000 * SIM_MS)
#define STANDBY_NS (2000 * SIM_MS)

enum leave { LEAVE_NOW = 0, LEAVE_ENDS }; // low bit of a stamp

static struct sim_shim *shim_of(struct sim *s, uint32_t node, uint32_t local)
{
    return &s->nodes[node].shims[local];
}

// --- leaving -----------------------------------------------------------------------------------

static void leave(struct sim *s, uint32_t node, uint64_t delay_ns)
{
    struct sim_node *n = &s->nodes[node];
    n->leave_ns = s->now_ns + delay_ns;
    sim_push(s, n->leave_ns, SIM_EVENT_LEAVE, node, 0, (uint64_t)s->procs[node].life << 1);
}

static void send_ends(struct sim *s, uint32_t node)
{
    struct sim_node *n = &s->nodes[node];
    if (n->ends_sent)
        return;
    n->ends_sent = true;
    for (uint32_t i = 0; i < n->n_local; i++) {
        struct sim_shim *shim = shim_of(s, node, i);
        shim->ended = true;
        if (shim->heard)
            sim_chan_down(s, node, i, (struct sim_msg){.type = SIM_MSG_END,
                                                       .flag = shim->end_override,
                                                       .status = shim->end_status});
    }
    leave(s, node, n->n_connected ? END_NS : 0);
}

void sim_agent_leave_due(struct sim *s, uint32_t node, uint64_t stamp)
{
    struct sim_node *n = &s->nodes[node];
    if (!s->procs[node].core || s->procs[node].life != (uint32_t)(stamp >> 1))
        return;
    if (!sim_proc_runs(s, node)) {
        if (!s->hosts[node].off)
            sim_push(s, s->now_ns + 100 * SIM_MS, SIM_EVENT_LEAVE, node, 0, stamp);
        return;
    }
    if ((stamp & 1) == LEAVE_ENDS)
        send_ends(s, node);
    else if (n->leave_ns && s->now_ns >= n->leave_ns)
        sim_proc_end(s, node, false);
}

// Its sockets are closed: shims and servers notice. Descendants that lost their shim are killed.
void sim_agent_gone(struct sim *s, uint32_t node)
{
    struct sim_node *n = &s->nodes[node];
    n->gone = true;
    for (uint32_t i = 0; i < n->n_local + SIM_SERVERS; i++)
        sim_chan_clear(&n->up[i]);
    sim_server_kill_all(s, node);
    for (uint32_t i = 0; i < n->n_local; i++) {
        if (shim_of(s, node, i)->alive)
            sim_chan_down(s, node, i, (struct sim_msg){.type = SIM_MSG_EOF});
        else
            sim_rank_kill(s, node, i); // the janitor, or Slurm at the end of the step
    }
}

static void leave_if_dead(struct sim *s, uint32_t node)
{
    const struct sim_node *n = &s->nodes[node];
    for (uint32_t i = 0; i < n->n_local; i++)
        if (n->shims[i].runs && n->shims[i].heard)
            return;
    if (n->dying)
        leave(s, node, 0);
}

static void refuse(struct sim *s, uint32_t node)
{
    struct sim_node *n = &s->nodes[node];
    n->refused = true;
    uint32_t heard = 0;
    for (uint32_t i = 0; i < n->n_local; i++)
        if (n->shims[i].heard) {
            heard++;
            sim_chan_down(s, node, i, (struct sim_msg){.type = SIM_MSG_REFUSE});
        }
    leave(s, node, heard == n->n_local ? 100 * SIM_MS : REFUSE_NS);
}

// --- actions -----------------------------------------------------------------------------------

void sim_agent_port(struct sim *s, uint32_t node)
{
    struct sim_node *n = &s->nodes[node];
    sim_proc_post(s, node, (struct pm_event){.type = PM_EVENT_PORT,
                                             .port = (uint16_t)(20000 + ++n->ports)});
}

static void send_start(struct sim *s, uint32_t node, uint32_t local, const struct sim_start *start)
{
    struct sim_shim *shim = shim_of(s, node, local);
    bool lie = s->p.plant == SIM_PLANT_OLD_EPOCH && start->epoch > 0;
    shim->held = !sim_server_of(s, node, start->epoch);
    shim->held_start = *start;
    if (shim->held)
        return;
    s->nodes[node].any_started = true;
    if (shim->heard)
        sim_chan_down(s, node, local, (struct sim_msg){.type = SIM_MSG_START, .rank = start->rank,
                                                       .epoch = start->epoch - lie,
                                                       .incarnation = start->incarnation});
}

void sim_agent_start_held(struct sim *s, uint32_t node, uint32_t epoch)
{
    for (uint32_t i = 0; i < s->nodes[node].n_local; i++) {
        struct sim_shim *shim = shim_of(s, node, i);
        if (shim->held && shim->held_start.epoch == epoch)
            send_start(s, node, i, &shim->held_start);
    }
}

static void do_start(struct sim *s, uint32_t node, struct pm_action *a)
{
    const struct sim_start start = {.set = true, .epoch = a->epoch, .rank = a->rank,
                                    .incarnation = a->incarnation};
    send_start(s, node, a->local, &start);
}

static void do_signal(struct sim *s, uint32_t node, struct pm_action *a)
{
    struct sim_shim *shim = shim_of(s, node, a->local);
    if (!shim->held && shim->heard)
        sim_chan_down(s, node, a->local, (struct sim_msg){.type = SIM_MSG_SIGNAL,
                                                          .epoch = a->epoch, .status = a->signal});
}

static void kill_held(struct sim *s, uint32_t node, uint32_t local)
{
    struct sim_shim *shim = shim_of(s, node, local);
    struct pm_event event = {.type = PM_EVENT_RANK_EXITED, .local = local, .wait_status = 9,
                             .epoch = shim->held_start.epoch,
                             .incarnation = shim->held_start.incarnation};
    shim->held = false;
    sim_check_never_ran(s, node, &shim->held_start, 9);
    sim_proc_post(s, node, event);
    event.type = PM_EVENT_RANK_GONE;
    sim_proc_post(s, node, event);
}

static void do_kill(struct sim *s, uint32_t node, struct pm_action *a)
{
    struct sim_shim *shim = shim_of(s, node, a->local);
    if (shim->held && shim->held_start.epoch <= a->epoch)
        kill_held(s, node, a->local);
    else if (shim->heard)
        sim_chan_down(s, node, a->local,
                      (struct sim_msg){.type = SIM_MSG_KILL, .epoch = a->epoch});
    else
        sim_rank_kill(s, node, a->local);
}

static void to_all(struct sim *s, uint32_t node, enum sim_msg_type type)
{
    for (uint32_t i = 0; i < s->nodes[node].n_local; i++)
        if (shim_of(s, node, i)->heard)
            sim_chan_down(s, node, i, (struct sim_msg){.type = (uint8_t)type});
}

// The agent signals the ranks itself, too: a shim that is stopped does not hear it.
static void do_stand(struct sim *s, uint32_t node, struct pm_action *a)
{
    for (uint32_t i = 0; i < s->nodes[node].n_local; i++) {
        struct sim_shim *shim = shim_of(s, node, i);
        if (shim->paused && shim->runs && (shim->rank.alive || shim->rank.descendants))
            sim_rank_stop(s, node, i, a->type == PM_ACTION_PAUSE);
    }
    to_all(s, node, a->type == PM_ACTION_PAUSE ? SIM_MSG_PAUSE : SIM_MSG_RESUME);
}

static void do_lease(struct sim *s, uint32_t node, struct pm_action *a)
{
    s->nodes[node].lease_ns = a->deadline_ns;
}

static void do_prepare(struct sim *s, uint32_t node, struct pm_action *a)
{
    sim_server_prepare(s, node, a->epoch);
    sim_agent_port(s, node);
}

static void do_drop(struct sim *s, uint32_t node, struct pm_action *a)
{
    sim_server_drop(s, node, a->epoch);
}

// To the server of the epoch; false: there is none.
static bool tell(struct sim *s, uint32_t node, const struct pm_action *a, struct sim_msg msg)
{
    const struct sim_server *v = sim_server_of(s, node, a->epoch);
    if (!v)
        return false;
    msg.epoch = a->epoch;
    msg.stamp = v->stamp;
    sim_chan_down(s, node,
                  s->nodes[node].n_local + (uint32_t)(v - s->nodes[node].servers), msg);
    return true;
}

static void do_notify(struct sim *s, uint32_t node, struct pm_action *a)
{
    if (a->last && !tell(s, node, a, (struct sim_msg){.type = SIM_MSG_NOTIFY}))
        sim_proc_post(s, node, (struct pm_event){.type = PM_EVENT_NOTIFIED, .epoch = a->epoch});
}

static void do_fence_done(struct sim *s, uint32_t node, struct pm_action *a)
{
    (void)tell(s, node, a,
               (struct sim_msg){.type = SIM_MSG_FENCE_DONE, .id = a->id, .status = a->status});
}

static void do_modex_done(struct sim *s, uint32_t node, struct pm_action *a)
{
    (void)tell(s, node, a,
               (struct sim_msg){.type = SIM_MSG_MODEX_DONE, .id = a->id, .status = a->status});
}

static void do_fetch(struct sim *s, uint32_t node, struct pm_action *a)
{
    if (!tell(s, node, a, (struct sim_msg){.type = SIM_MSG_FETCH, .id = a->id, .rank = a->rank}))
        sim_proc_post(s, node, (struct pm_event){.type = PM_EVENT_FETCHED, .epoch = a->epoch,
                                                 .id = a->id, .status = PM_STATUS_ERROR});
}

static void do_fetch_cancel(struct sim *s, uint32_t node, struct pm_action *a)
{
    (void)tell(s, node, a, (struct sim_msg){.type = SIM_MSG_FETCH_CANCEL, .id = a->id});
}

static void do_end_shim(struct sim *s, uint32_t node, struct pm_action *a)
{
    struct sim_shim *shim = shim_of(s, node, a->local);
    shim->ended = true;
    shim->held = false;
    shim->end_override = a->override;
    shim->end_status = a->wait_status;
}

static void do_end_agent(struct sim *s, uint32_t node, struct pm_action *a)
{
    (void)a;
    s->nodes[node].ending = true;
    sim_server_kill_all(s, node);
    sim_push(s, s->now_ns + sim_rng_below(&s->local, 20 * SIM_MS), SIM_EVENT_LEAVE, node, 0,
             (uint64_t)s->procs[node].life << 1 | LEAVE_ENDS);
}

static void do_die(struct sim *s, uint32_t node, struct pm_action *a)
{
    struct sim_node *n = &s->nodes[node];
    if (strstr(a->text, "orphan timeout")) {
        sim_outcome_orphan(s);
        sim_check_orphan(s, node);
    }
    if (!n->any_started) {
        refuse(s, node);
        return;
    }
    n->dying = true;
    for (uint32_t i = 0; i < n->n_local; i++) {
        if (n->shims[i].runs && n->shims[i].heard)
            sim_chan_down(s, node, i, (struct sim_msg){.type = SIM_MSG_KILL,
                                                       .epoch = n->shims[i].run_epoch});
        if (n->shims[i].runs && n->shims[i].paused)
            sim_rank_kill(s, node, i); // the agent itself
    }
    leave(s, node, DIE_NS);
    leave_if_dead(s, node);
}

static void do_check_health(struct sim *s, uint32_t node, struct pm_action *a)
{
    sim_health_begin(s, node, a->id);
}

void sim_agent_act(struct sim *s, uint32_t node, struct pm_action *a)
{
    static void (*const acts[PM_ACTION_MAX])(struct sim *s, uint32_t node, struct pm_action *a) = {
        [PM_ACTION_PREPARE_SERVER] = do_prepare, [PM_ACTION_START_RANK] = do_start,
        [PM_ACTION_SIGNAL_RANK] = do_signal,     [PM_ACTION_KILL_RANK] = do_kill,
        [PM_ACTION_PAUSE] = do_stand,            [PM_ACTION_RESUME] = do_stand,
        [PM_ACTION_SET_LEASE] = do_lease,        [PM_ACTION_NOTIFY] = do_notify,
        [PM_ACTION_DROP_SERVER] = do_drop,       [PM_ACTION_FENCE_DONE] = do_fence_done,
        [PM_ACTION_MODEX_DONE] = do_modex_done,  [PM_ACTION_FETCH] = do_fetch,
        [PM_ACTION_FETCH_CANCEL] = do_fetch_cancel, [PM_ACTION_END_SHIM] = do_end_shim,
        [PM_ACTION_END_AGENT] = do_end_agent,    [PM_ACTION_DIE] = do_die,
        [PM_ACTION_CHECK_HEALTH] = do_check_health,
    };
    if (a->type == PM_ACTION_NODE_LOG)
        return;
    SIM_ASSERT(a->type < PM_ACTION_MAX && acts[a->type]);
    acts[a->type](s, node, a);
}

// --- what shims say ------------------------------------------------------------------------------

// A fault: the shell of a confused machine says it again, later.
void sim_agent_double(struct sim *s, uint32_t node, const struct pm_event *event)
{
    struct sim_node *n = &s->nodes[node];
    if (n->twice == 0)
        return;
    n->twice--;
    sim_proc_again(s, node, event, sim_rng_below(&s->local, 2000 * SIM_MS));
}

static void post(struct sim *s, uint32_t node, struct pm_event event)
{
    sim_agent_double(s, node, &event);
    sim_proc_post(s, node, event);
}

static void hear_hello(struct sim *s, uint32_t node, uint32_t local, const struct sim_msg *msg)
{
    struct sim_shim *shim = shim_of(s, node, local);
    if (s->nodes[node].refused) {
        sim_chan_down(s, node, local, (struct sim_msg){.type = SIM_MSG_REFUSE});
        return;
    }
    shim->heard = shim->was_there = true;
    s->nodes[node].n_connected++;
    bool lie = s->p.plant == SIM_PLANT_MORE_GPUS;
    struct sim_size size = sim_size_of(s, node);
    post(s, node, (struct pm_event){.type = PM_EVENT_SHIM_JOINED, .local = local, .pid = msg->pid,
                                    .gpus = lie ? 64 : size.gpus, .memory_mib = size.memory_mib});
}

static void hear_started(struct sim *s, uint32_t node, uint32_t local, const struct sim_msg *msg)
{
    struct sim_shim *shim = shim_of(s, node, local);
    shim->runs = true;
    shim->run_epoch = msg->epoch;
    shim->run_incarnation = msg->incarnation;
    sim_server_standby(s, node, STANDBY_NS);
    post(s, node, (struct pm_event){.type = PM_EVENT_RANK_STARTED, .local = local,
                                    .epoch = msg->epoch, .incarnation = msg->incarnation,
                                    .pid = msg->pid});
}

// pm_server_rank_ended: the server is told, unless the rank may come again.
static void tell_died(struct sim *s, uint32_t node, uint32_t local, uint32_t epoch)
{
    const struct sim_server *v = sim_server_of(s, node, epoch);
    struct pm_action a = {.epoch = epoch};
    if (!v || (!(v->asked >> local & 1) && s->p.options.mode == PM_MODE_RANK))
        return;
    (void)tell(s, node, &a, (struct sim_msg){.type = SIM_MSG_DIED,
                                             .rank = shim_of(s, node, local)->held_start.rank});
}

static void hear_exited(struct sim *s, uint32_t node, uint32_t local, const struct sim_msg *msg)
{
    uint32_t life = s->procs[node].life;
    sim_chan_drain_said(s, node, shim_of(s, node, local)->held_start.rank);
    if (s->procs[node].life != life)
        return;
    tell_died(s, node, local, msg->epoch);
    if (s->p.plant == SIM_PLANT_NO_EXIT)
        return;
    bool lie = s->p.plant == SIM_PLANT_CLEAN_FAILS && msg->status == 0;
    post(s, node, (struct pm_event){.type = PM_EVENT_RANK_EXITED, .local = local,
                                    .epoch = msg->epoch, .incarnation = msg->incarnation,
                                    .pid = msg->pid,
                                    .wait_status = lie ? 1 << 8 : msg->status,
                                    .flag_exec = msg->flag});
}

static void hear_gone(struct sim *s, uint32_t node, uint32_t local, const struct sim_msg *msg)
{
    struct sim_shim *shim = shim_of(s, node, local);
    if (msg->epoch == shim->run_epoch && msg->incarnation == shim->run_incarnation)
        shim->runs = false;
    if (s->p.plant == SIM_PLANT_NO_EXIT)
        return;
    post(s, node, (struct pm_event){.type = PM_EVENT_RANK_GONE, .local = local, .epoch = msg->epoch,
                                    .incarnation = msg->incarnation});
    if (s->procs[node].core)
        leave_if_dead(s, node);
}

static void hear_signalled(struct sim *s, uint32_t node, uint32_t local, const struct sim_msg *msg)
{
    post(s, node,
         (struct pm_event){.type = PM_EVENT_SIGNALLED, .local = local, .signal = msg->status});
}

static void hear_eof(struct sim *s, uint32_t node, uint32_t local, const struct sim_msg *msg)
{
    (void)msg;
    struct sim_shim *shim = shim_of(s, node, local);
    struct sim_node *n = &s->nodes[node];
    if (!shim->heard)
        return;
    shim->heard = false;
    n->n_connected--;
    if (!n->n_connected)
        leave(s, node, n->ending ? 0 : ALONE_NS);
    if (shim->ended)
        return;
    sim_rank_kill(s, node, local);
    sim_proc_post(s, node, (struct pm_event){.type = PM_EVENT_SHIM_LOST, .local = local,
                                             .text = "its shim ended"});
}

void sim_agent_hear(struct sim *s, uint32_t node, uint32_t index, const struct sim_msg *msg)
{
    static void (*const hears[SIM_MSG_MAX])(struct sim *s, uint32_t node, uint32_t local,
                                            const struct sim_msg *msg) = {
        [SIM_MSG_HELLO] = hear_hello,         [SIM_MSG_STARTED] = hear_started,
        [SIM_MSG_EXITED] = hear_exited,       [SIM_MSG_TREE_GONE] = hear_gone,
        [SIM_MSG_SIGNALLED] = hear_signalled, [SIM_MSG_EOF] = hear_eof,
    };
    if (index >= s->nodes[node].n_local) {
        sim_server_hear(s, node, index - s->nodes[node].n_local, msg);
        return;
    }
    SIM_ASSERT(hears[msg->type]);
    hears[msg->type](s, node, index, msg);
}
