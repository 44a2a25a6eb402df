// SPDX-License-Identifier: Apache-2.0
//
// What the agent does for each action of the core.
//
// The end of a step has an order of its own: slurmstepd kills the step's processes as soon as the last
// shim has ended, this agent included, so shims are told to end only after the servers are reaped and the
// folders are gone; and then this agent ends first.
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pmix_server/agent.h"
#include "pmix_server/io/util.h"
#include "pmix_server/rank_env.h"
#include "pmix_server/wire/hostlist.h"

#define DIE_MS 1000    // how long the ranks may take to be reaped before the agent ends anyway
#define CLEAN_MS 500   // how long the end waits for servers to be reaped
#define END_MS 15000   // and for the shims to kill what is left of their ranks

static void do_dial(struct pm_action *a, void *arg)
{
    pm_peers_dial(((struct agent *)arg)->peers, a);
}

static void do_send(struct pm_action *a, void *arg)
{
    pm_peers_send(((struct agent *)arg)->peers, a);
}

static void do_close(struct pm_action *a, void *arg)
{
    pm_peers_close(((struct agent *)arg)->peers, a);
}

// Each epoch wants a port of its own, also if rank 0 of the one before was never started.
static void do_prepare(struct pm_action *a, void *arg)
{
    pm_server_prepare(arg, a->epoch);
    pm_port_offer(arg);
}

static void do_drop(struct pm_action *a, void *arg) { pm_server_drop(arg, a->epoch); }

// --- ranks -------------------------------------------------------------------------------------------

static uint32_t node_rank_of(const struct pm_world *world, uint32_t node)
{
    uint32_t rank = 0;
    for (uint32_t i = 0; i < node && i < world->nnodes; i++)
        rank += !pm_set_empty(&world->ranks_of_node[i]);
    return rank;
}

static uint32_t local_rank_of(const struct pm_world *world, uint32_t node, uint32_t rank)
{
    uint32_t before = 0;
    const struct pm_set *ranks = &world->ranks_of_node[node];
    for (uint32_t i = 0; i < ranks->n && ranks->spans[i].first < rank; i++)
        before += (ranks->spans[i].last < rank ? ranks->spans[i].last + 1 : rank) - ranks->spans[i].first;
    return before;
}

static void write_start(struct agent *ag, const struct pm_action *a, const struct server *server,
                        struct pm_writer *w)
{
    const struct pm_agent_config *c = &ag->config;
    const struct pm_world *world = pm_core_world(ag->core);
    const struct pm_agent_world *seen = pm_agent_world(ag);
    struct pm_rank_slurm slurm = {0};
    char host[256];
    if (pm_hostlist_nth(c->nodelist, a->host, host, sizeof(host)) < 0)
        snprintf(host, sizeof(host), "localhost");
    struct pm_rank_env env = {
        .job = c->job, .step = c->step, .epoch = a->epoch, .incarnation = a->incarnation,
        .rank = a->rank, .nranks = world->nranks, .local_rank = local_rank_of(world, c->node, a->rank),
        .local_size = pm_agent_n_ranks(ag), .node_rank = seen ? seen->own : node_rank_of(world, c->node),
        .max_restarts = c->options.max_restarts, .master_host = host, .master_port = a->port,
        .cause = a->cause ? pm_cause_name(a->cause) : "", .restart_rank = a->peer_rank,
    };
    if (seen) {
        slurm = (struct pm_rank_slurm){seen->n, seen->nodelist, seen->tasks_per_node, seen->gtids};
        env.slurm = &slurm;
    }
    env.server_env = pm_server_env(server, a->local, &env.n_server_env);
    env.bind_env = pm_bind_env(ag, a->local, &env.n_bind_env);
    pm_write_u32(w, a->epoch);
    pm_write_u32(w, a->incarnation);
    pm_bind_write_place(ag, a->local, w);
    pm_write_rank_env(w, &env);
}

static void send_start(struct agent *ag, struct shim *s)
{
    const struct server *server = pm_server_of(ag, s->start.epoch);
    s->held = !server;
    if (!server)
        return;
    struct pm_writer w = {0};
    pm_write_u8(&w, PM_SHIM_START);
    write_start(ag, &s->start, server, &w);
    ag->any_started = true;
    pm_shim_send(s, &w);
    pm_writer_done(&w);
}

void pm_agent_start_held(struct agent *ag, uint32_t epoch)
{
    for (uint32_t i = 0; i < ag->config.n_local; i++) {
        struct shim *s = &ag->shims[i];
        if (s->held && s->start.epoch == epoch)
            send_start(ag, s);
    }
}

void pm_agent_prepare_starts(struct agent *ag, const struct server *standby, uint32_t epoch)
{
    for (uint32_t i = 0; i < ag->config.n_local; i++) {
        struct shim *s = &ag->shims[i];
        struct pm_action likely = s->start;
        struct pm_writer w = {0};
        if (!s->rank_pid)
            continue;
        likely.epoch = epoch;
        likely.incarnation++;
        likely.cause = 0;  // yet to be known, as is the port
        likely.port = 0;
        pm_write_u8(&w, PM_SHIM_PREPARE);
        write_start(ag, &likely, standby, &w);
        pm_shim_send(s, &w);
        pm_writer_done(&w);
    }
}

static void do_start(struct pm_action *a, void *arg)
{
    struct shim *s = &((struct agent *)arg)->shims[a->local];
    s->start = *a;
    s->start.text = NULL;
    s->start.data = NULL;
    s->start.log = NULL;
    send_start(arg, s);
}

static void send_numbers(struct shim *s, enum pm_shim_msg type, uint32_t epoch, const int32_t *sig)
{
    struct pm_writer w = {0};
    pm_write_u8(&w, (uint8_t)type);
    pm_write_u32(&w, epoch);
    if (sig)
        pm_write_i32(&w, *sig);
    pm_shim_send(s, &w);
    pm_writer_done(&w);
}

static void do_signal(struct pm_action *a, void *arg)
{
    struct shim *s = &((struct agent *)arg)->shims[a->local];
    if (!s->held)
        send_numbers(s, PM_SHIM_SIGNAL, a->epoch, &a->signal);
}

// A rank that was never started for want of a server dies the same death.
static void kill_held(struct shim *s)
{
    struct pm_loop *loop = s->agent->loop;
    struct pm_event event = {.type = PM_EVENT_RANK_EXITED, .local = s->local,
                             .epoch = s->start.epoch,
                             .incarnation = s->start.incarnation, .wait_status = SIGKILL};
    s->held = false;
    pm_loop_post(loop, &event);
    event.type = PM_EVENT_RANK_GONE;
    pm_loop_post(loop, &event);
}

static void do_kill(struct pm_action *a, void *arg)
{
    struct agent *ag = arg;
    struct shim *s = &ag->shims[a->local];
    if (s->held && s->start.epoch <= a->epoch)
        kill_held(s);
    else if (s->fd >= 0)
        send_numbers(s, PM_SHIM_KILL, a->epoch, NULL);
    else
        pm_tree_kill(s);
}

static void to_all(struct agent *ag, enum pm_shim_msg type)
{
    for (uint32_t i = 0; i < ag->config.n_local; i++)
        pm_shim_send_type(&ag->shims[i], type);
}

// A shim that is stopped itself does not hear it, and its rank may soon be started elsewhere.
static void stand(struct agent *ag, enum pm_shim_msg type, int signal)
{
    for (uint32_t i = 0; i < ag->config.n_local; i++)
        pm_tree_signal(&ag->shims[i], signal);
    to_all(ag, type);
}

static void do_pause(struct pm_action *a, void *arg) { stand(arg, PM_SHIM_PAUSE, SIGSTOP); }

static void do_resume(struct pm_action *a, void *arg) { stand(arg, PM_SHIM_RESUME, SIGCONT); }

static void do_lease(struct pm_action *a, void *arg)
{
    pm_lease_set(arg, a->deadline_ns);
}

// --- the server ----------------------------------------------------------------------------------------

static void do_notify(struct pm_action *a, void *arg)
{
    struct agent *ag = arg;
    struct pm_writer w = {0};
    uint64_t id = ++ag->notices;
    pm_write_u8(&w, PM_SERVER_NOTIFY);
    pm_write_u64(&w, id);
    pm_write_i32(&w, (int32_t)a->cause);
    pm_write_u32(&w, a->rank);
    pm_write_i32(&w, a->wait_status);
    pm_write_str(&w, a->text);
    if (a->last)
        pm_server_expect_notified(ag, a->epoch, id);
    if (!pm_server_send(ag, a->epoch, &w) && a->last)
        pm_loop_post(ag->loop, &(struct pm_event){.type = PM_EVENT_NOTIFIED, .epoch = a->epoch});
    pm_writer_done(&w);
}

static void send_done(struct agent *ag, enum pm_server_msg type, const struct pm_action *a)
{
    struct pm_writer w = {0};
    pm_write_u8(&w, (uint8_t)type);
    pm_write_u64(&w, a->id);
    pm_write_i32(&w, a->status);
    pm_write_u32(&w, (uint32_t)a->len);  // `data` as pm_write_bytes() would write it
    pm_server_send_data(ag, a->epoch, &w, a->data, a->len);
    pm_writer_done(&w);
}

static void do_fence_done(struct pm_action *a, void *arg)
{
    send_done(arg, PM_SERVER_FENCE_DONE, a);
    if (a->status == PM_STATUS_OK)
        pm_server_fenced(arg);
}

static void do_modex_done(struct pm_action *a, void *arg) { send_done(arg, PM_SERVER_MODEX_DONE, a); }

static void do_fetch(struct pm_action *a, void *arg)
{
    struct agent *ag = arg;
    struct pm_writer w = {0};
    pm_write_u8(&w, PM_SERVER_FETCH);
    pm_write_u64(&w, a->id);
    pm_write_u32(&w, a->rank);
    if (!pm_server_send(ag, a->epoch, &w))
        pm_loop_post(ag->loop, &(struct pm_event){.type = PM_EVENT_FETCHED, .epoch = a->epoch,
                                                  .id = a->id, .status = PM_STATUS_ERROR});
    pm_writer_done(&w);
}

static void do_fetch_cancel(struct pm_action *a, void *arg)
{
    struct pm_writer w = {0};
    pm_write_u8(&w, PM_SERVER_FETCH_CANCEL);
    pm_write_u64(&w, a->id);
    pm_server_send(arg, a->epoch, &w);
    pm_writer_done(&w);
}

static void do_check_health(struct pm_action *a, void *arg) { pm_health_check(arg, a->id); }

// --- the end -------------------------------------------------------------------------------------------

static void do_end_shim(struct pm_action *a, void *arg)
{
    struct shim *s = &((struct agent *)arg)->shims[a->local];
    s->ended = true;
    s->held = false;
    s->end_override = a->override;
    s->end_status = a->wait_status;
}

static void send_ends(struct agent *ag)
{
    if (ag->ends_sent)
        return;
    ag->ends_sent = true;
    pm_folder_done(ag);
    for (uint32_t i = 0; i < ag->config.n_local; i++) {
        struct shim *s = &ag->shims[i];
        struct pm_writer w = {0};
        s->ended = true;
        pm_write_u8(&w, PM_SHIM_END);
        pm_write_u8(&w, s->end_override);
        pm_write_i32(&w, s->end_status);
        pm_shim_send(s, &w);
        pm_writer_done(&w);
    }
    // Each shim closes its link when it is done; local task 0's then waits for this agent, so that nobody
    // is left when the last task ends (else slurmstepd looks again only a whole second later).
    pm_agent_leave(ag, ag->n_connected ? END_MS : 0);
}

static void on_end_timer(evutil_socket_t fd, short what, void *arg) { send_ends(arg); }

void pm_agent_end_if_clean(struct agent *ag)
{
    if (ag->ending && LIST_EMPTY(&ag->servers))
        send_ends(ag);
}

static void do_end_agent(struct pm_action *a, void *arg)
{
    struct agent *ag = arg;
    struct timeval tv = pm_timeval_of_ms(CLEAN_MS);
    ag->ending = true;
    pm_health_done(ag);
    pm_servers_kill(ag);
    ag->end_timer = evtimer_new(ag->base, on_end_timer, ag);
    if (!ag->end_timer || evtimer_add(ag->end_timer, &tv))
        send_ends(ag);
    pm_agent_end_if_clean(ag);
}

static void do_die(struct pm_action *a, void *arg)
{
    struct agent *ag = arg;
    const char *why = a->text ? a->text : "it was told to end";
    if (!ag->any_started) {
        pm_agent_refuse(ag, why);
        return;
    }
    // Not simply the end of our links, which does the same: what became of the ranks is to be logged.
    ag->dying = true;
    // And not by the shims alone: one that is stopped would let its rank run on when others run elsewhere.
    for (uint32_t i = 0; i < ag->config.n_local; i++) {
        if (!ag->shims[i].rank_pid)
            continue;
        send_numbers(&ag->shims[i], PM_SHIM_KILL, ag->shims[i].epoch, NULL);
        pm_tree_signal(&ag->shims[i], SIGKILL);
    }
    pm_agent_leave(ag, DIE_MS);
    pm_agent_leave_if_dead(ag);
}

void pm_agent_leave_if_dead(struct agent *ag)
{
    for (uint32_t i = 0; i < ag->config.n_local; i++) {
        if (ag->shims[i].rank_pid && ag->shims[i].fd >= 0)
            return;
    }
    if (ag->dying)
        pm_agent_leave(ag, 0);
}

static void do_node_log(struct pm_action *a, void *arg)
{
    if (a->log)
        pm_agent_log(arg, a->log);
}

const pm_action_f pm_agent_handlers[PM_ACTION_MAX] = {
    [PM_ACTION_DIAL] = do_dial,
    [PM_ACTION_SEND] = do_send,
    [PM_ACTION_CLOSE] = do_close,
    [PM_ACTION_PREPARE_SERVER] = do_prepare,
    [PM_ACTION_START_RANK] = do_start,
    [PM_ACTION_SIGNAL_RANK] = do_signal,
    [PM_ACTION_KILL_RANK] = do_kill,
    [PM_ACTION_PAUSE] = do_pause,
    [PM_ACTION_RESUME] = do_resume,
    [PM_ACTION_SET_LEASE] = do_lease,
    [PM_ACTION_NOTIFY] = do_notify,
    [PM_ACTION_DROP_SERVER] = do_drop,
    [PM_ACTION_FENCE_DONE] = do_fence_done,
    [PM_ACTION_MODEX_DONE] = do_modex_done,
    [PM_ACTION_FETCH] = do_fetch,
    [PM_ACTION_FETCH_CANCEL] = do_fetch_cancel,
    [PM_ACTION_END_SHIM] = do_end_shim,
    [PM_ACTION_END_AGENT] = do_end_agent,
    [PM_ACTION_DIE] = do_die,
    [PM_ACTION_CHECK_HEALTH] = do_check_health,
    [PM_ACTION_NODE_LOG] = do_node_log,
};
