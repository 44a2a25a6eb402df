// SPDX-License-Identifier: Apache-2.0
//
// pm-pmix-server and the agent's side of it, after pmix_server/agent_server*.c: one per epoch and
// one on standby, started, proved, watched and killed. `state` is what the agent knows, `process`
// what is.
#include <string.h>

#include "tests/sim/server.h"

#define START_MS 30000
#define PROVE_NS (1000 * SIM_MS)
#define STANDBY  SIM_SERVERS // as an index: the timer that starts a standby server

enum due { DUE_READY = 0, DUE_PROVED, DUE_WATCH }; // low bits of the stamp of an event

struct sim_server *sim_server_place(struct sim *s, uint32_t node, uint32_t index)
{
    return &s->nodes[node].servers[index];
}

static uint32_t index_of(struct sim *s, uint32_t node, const struct sim_server *server)
{
    return (uint32_t)(server - s->nodes[node].servers);
}

struct sim_server *sim_server_find(struct sim *s, uint32_t node, bool standby, uint32_t epoch)
{
    for (uint32_t i = 0; i < SIM_SERVERS; i++) {
        struct sim_server *v = sim_server_place(s, node, i);
        if (v->state && v->standby == standby && (standby || v->epoch == epoch))
            return v;
    }
    return NULL;
}

static void push_due(struct sim *s, uint32_t node, uint32_t index, enum due what, uint64_t delay_ns)
{
    sim_push(s, s->now_ns + delay_ns, SIM_EVENT_SERVER, node, index,
             (uint64_t)sim_server_place(s, node, index)->stamp << 2 | what);
}

void sim_server_say(struct sim *s, uint32_t node, const struct sim_server *v, struct sim_msg msg)
{
    msg.epoch = v->epoch;
    msg.stamp = v->stamp;
    sim_chan_up(s, node, s->nodes[node].n_local + index_of(s, node, v), msg);
}

// --- life --------------------------------------------------------------------------------------

static struct sim_server *server_start(struct sim *s, uint32_t node, uint32_t epoch, bool standby)
{
    uint32_t i = 0;
    while (i < SIM_SERVERS && sim_server_place(s, node, i)->state)
        i++;
    SIM_ASSERT(i < SIM_SERVERS);
    struct sim_server *v = sim_server_place(s, node, i);
    *v = (struct sim_server){.state = SIM_SERVER_STARTING,
                             .process = true,
                             .epoch = epoch,
                             .standby = standby,
                             .map_version = sim_world_of(s, node) ? sim_world_of(s, node)->map_version : 0,
                             .stamp = v->stamp + 1};
    sim_chan_clear(&s->nodes[node].up[s->nodes[node].n_local + i]);
    sim_chan_clear(&s->nodes[node].down[s->nodes[node].n_local + i]);
    push_due(s, node, i, DUE_READY, sim_rng_between(&s->local, 5 * SIM_MS, 150 * SIM_MS));
    return v;
}

// The process is gone: ranks that wait for it see their connection end.
static void process_ends(struct sim *s, uint32_t node, struct sim_server *v)
{
    v->process = v->stuck = false;
    uint64_t waiting = 0;
    for (int g = 0; g < SIM_GROUP_MAX; g++)
        waiting |= v->gather[g].arrived;
    for (uint32_t i = 0; i < s->nodes[node].n_local; i++) {
        const struct sim_rank *r = &s->nodes[node].shims[i].rank;
        if (!r->alive || r->epoch != v->epoch)
            continue;
        if (waiting >> i & 1)
            sim_rank_fenced(s, node, i, PM_STATUS_ERROR);
        if (v->modex_id[i])
            sim_rank_asked(s, node, i);
    }
}

static void drop(struct sim *s, uint32_t node, struct sim_server *v)
{
    process_ends(s, node, v);
    uint32_t index = index_of(s, node, v);
    sim_chan_clear(&s->nodes[node].up[s->nodes[node].n_local + index]);
    sim_chan_clear(&s->nodes[node].down[s->nodes[node].n_local + index]);
    *v = (struct sim_server){.stamp = v->stamp + 1};
}

void sim_server_drop(struct sim *s, uint32_t node, uint32_t epoch)
{
    struct sim_server *v = sim_server_find(s, node, false, epoch);
    if (v)
        drop(s, node, v);
}

void sim_server_kill_all(struct sim *s, uint32_t node)
{
    for (uint32_t i = 0; i < SIM_SERVERS; i++)
        if (sim_server_place(s, node, i)->state)
            drop(s, node, sim_server_place(s, node, i));
}

// By a fault, or by the agent because it does not answer; the agent reaps it.
void sim_server_die(struct sim *s, uint32_t node, uint32_t index)
{
    struct sim_server *v = sim_server_place(s, node, index);
    if (!v->process)
        return;
    process_ends(s, node, v);
    sim_server_say(s, node, v, (struct sim_msg){.type = SIM_MSG_LOST});
}

void sim_server_stuck(struct sim *s, uint32_t node, uint32_t index)
{
    struct sim_server *v = sim_server_place(s, node, index);
    if (!v->process || v->stuck)
        return;
    v->stuck = true;
    push_due(s, node, index, DUE_WATCH, sim_watch_ns(s));
}

static void promote(struct sim *s, uint32_t node, struct sim_server *v)
{
    v->standby = false;
    if (v->state != SIM_SERVER_READY)
        return;
    v->state = SIM_SERVER_PROVING;
    push_due(s, node, index_of(s, node, v), DUE_PROVED, PROVE_NS);
    if (v->process && !v->stuck)
        sim_server_say(s, node, v, (struct sim_msg){.type = SIM_MSG_READY});
}

void sim_server_prepare(struct sim *s, uint32_t node, uint32_t epoch)
{
    struct sim_server *old = sim_server_find(s, node, false, epoch),
                      *standby = sim_server_find(s, node, true, 0);
    const struct pm_world *world = sim_world_of(s, node);
    if (standby && (standby->epoch != epoch || (world && standby->map_version != world->map_version))) {
        drop(s, node, standby);
        standby = NULL;
    }
    if (old && old->state == SIM_SERVER_DEAD) {
        drop(s, node, old);
        server_start(s, node, epoch, false);
    } else if (!old && standby && standby->state != SIM_SERVER_DEAD) {
        promote(s, node, standby);
    } else if (!old) {
        if (standby)
            drop(s, node, standby);
        server_start(s, node, epoch, false);
    }
}

struct sim_server *sim_server_of(struct sim *s, uint32_t node, uint32_t epoch)
{
    struct sim_server *v = sim_server_find(s, node, false, epoch);
    return v && v->state == SIM_SERVER_READY ? v : NULL;
}

// --- standby and watchdog ------------------------------------------------------------------------

void sim_server_standby(struct sim *s, uint32_t node, uint64_t delay_ns)
{
    const struct pm_options *o = &s->p.options;
    struct sim_node *n = &s->nodes[node];
    if (n->standby_due || o->max_restarts == 0 || o->mode == PM_MODE_NOTIFY || n->ending)
        return;
    n->standby_due = true;
    sim_push(s, s->now_ns + delay_ns, SIM_EVENT_SERVER, node, STANDBY, s->procs[node].life);
}

static void standby_start(struct sim *s, uint32_t node)
{
    struct sim_node *n = &s->nodes[node];
    const struct sim_server *serving = NULL;
    n->standby_due = false;
    if (!sim_proc_runs(s, node) || n->ending)
        return;
    for (uint32_t i = 0; i < SIM_SERVERS; i++) {
        const struct sim_server *v = sim_server_place(s, node, i);
        if (v->state == SIM_SERVER_READY && !v->standby && (!serving || v->epoch > serving->epoch))
            serving = v;
    }
    if (serving && !sim_server_find(s, node, true, 0))
        server_start(s, node, serving->epoch + 1, true);
}

uint64_t sim_watch_ns(const struct sim *s)
{
    uint64_t ms = s->p.options.node_timeout_ms / 4;
    return 2 * (ms < 2000 ? 2000 : ms) * SIM_MS;
}

// A stuck one is found out; by an agent that runs.
static void watched(struct sim *s, uint32_t node, uint32_t index)
{
    const struct sim_server *v = sim_server_place(s, node, index);
    if (!v->stuck)
        return;
    if (sim_proc_runs(s, node))
        sim_server_die(s, node, index);
    else
        push_due(s, node, index, DUE_WATCH, sim_watch_ns(s));
}

void sim_server_due(struct sim *s, uint32_t node, uint32_t index, uint64_t stamp)
{
    if (index == STANDBY) {
        if (s->procs[node].life == stamp)
            standby_start(s, node);
        return;
    }
    struct sim_server *v = sim_server_place(s, node, index);
    if (!v->state || v->stamp != (uint32_t)(stamp >> 2) || s->hosts[node].off)
        return;
    if (!sim_host_runs(s, node)) {
        push_due(s, node, index, (enum due)(stamp & 3), 100 * SIM_MS);
    } else if ((stamp & 3) == DUE_WATCH) {
        watched(s, node, index);
    } else if ((stamp & 3) == DUE_PROVED) {
        if (v->state == SIM_SERVER_PROVING)
            sim_server_die(s, node, index);
    } else if (v->process && v->stuck) {
        push_due(s, node, index, DUE_READY, 100 * SIM_MS);
    } else if (v->process) {
        sim_server_say(s, node, v, (struct sim_msg){.type = SIM_MSG_READY});
    }
}

// --- what the agent hears from it
// ------------------------------------------------------------------

static void hear_ready(struct sim *s, uint32_t node, struct sim_server *v)
{
    if (v->state != SIM_SERVER_STARTING && v->state != SIM_SERVER_PROVING)
        return;
    v->state = SIM_SERVER_READY;
    if (v->standby)
        return;
    sim_agent_start_held(s, node, v->epoch);
    sim_proc_post(s, node, (struct pm_event){.type = PM_EVENT_SERVER_READY, .epoch = v->epoch});
}

static void hear_lost(struct sim *s, uint32_t node, struct sim_server *v)
{
    if (v->standby) {
        drop(s, node, v);
        return;
    }
    v->state = SIM_SERVER_DEAD;
    sim_proc_post(s, node,
                  (struct pm_event){.type = PM_EVENT_SERVER_LOST,
                                    .epoch = v->epoch,
                                    .text = "pm-pmix-server was killed by signal 9"});
}

static void hear_fence(struct sim *s, uint32_t node, struct sim_server *v,
                       const struct sim_msg *msg)
{
    struct pm_set set = {0};
    struct pm_writer data = {0};
    uint32_t nranks = sim_nranks(s, node), half = nranks / 2;
    int r = pm_set_add_span(&set, msg->group == SIM_GROUP_HIGH ? half : 0,
                            msg->group == SIM_GROUP_LOW ? half - 1 : nranks - 1);
    const uint32_t words[] = {msg->epoch, msg->group, msg->incarnation, node};
    pm_write_raw(&data, words, sizeof(words));
    SIM_ASSERT(r == 0 && !data.error);
    v->gather[msg->group].posted = msg->id;
    sim_proc_post(s, node,
                  (struct pm_event){.type = PM_EVENT_FENCE,
                                    .epoch = msg->epoch,
                                    .id = msg->id,
                                    .set = &set,
                                    .flag_collect = msg->flag,
                                    .flag_failed = msg->failed,
                                    .data = data.data,
                                    .timeout_ms = s->p.fence_timeout_ms,
                                    .len = data.len});
    pm_writer_done(&data);
    pm_set_done(&set);
}

static void hear_fetched(struct sim *s, uint32_t node, const struct sim_msg *msg)
{
    const uint32_t words[] = {msg->epoch, msg->rank};
    sim_proc_post(s, node,
                  (struct pm_event){.type = PM_EVENT_FETCHED,
                                    .epoch = msg->epoch,
                                    .id = msg->id,
                                    .status = msg->status,
                                    .data = (const uint8_t *)words,
                                    .len = msg->status ? 0 : sizeof(words)});
}

static void hear_connected(struct sim *s, uint32_t node, struct sim_server *v,
                           const struct sim_msg *msg)
{
    uint32_t local = sim_local_of(s, node, msg->rank); // none: the newest map has moved it away
    if (local == SIM_NONE)
        return;
    v->asked |= 1ull << local;
    if (v->asked == sim_group_locals(s, node, SIM_GROUP_ALL))
        sim_server_standby(s, node, 1000 * SIM_MS);
    struct pm_event event = {.type = PM_EVENT_CONNECTED, .rank = msg->rank, .epoch = msg->epoch};
    sim_agent_double(s, node, &event);
    sim_proc_post(s, node, event);
}

void sim_server_hear(struct sim *s, uint32_t node, uint32_t index, const struct sim_msg *msg)
{
    struct sim_server *v = sim_server_place(s, node, index);
    if (v->stamp != msg->stamp || v->state == SIM_SERVER_NONE)
        return;
    struct pm_event event = {
        .epoch = msg->epoch, .rank = msg->rank, .id = msg->id, .status = msg->status};
    switch (msg->type) {
    case SIM_MSG_READY:
        hear_ready(s, node, v);
        return;
    case SIM_MSG_LOST:
        hear_lost(s, node, v);
        return;
    case SIM_MSG_FENCE:
        hear_fence(s, node, v, msg);
        return;
    case SIM_MSG_FETCHED:
        hear_fetched(s, node, msg);
        return;
    case SIM_MSG_CONNECTED:
        hear_connected(s, node, v, msg);
        return;
    case SIM_MSG_MODEX:
        v->modex_posted[msg->incarnation] = msg->id;
        event.type = PM_EVENT_MODEX;
        break;
    case SIM_MSG_FINALIZED:
        event.type = PM_EVENT_FINALIZED;
        break;
    case SIM_MSG_ABORT:
        event.type = PM_EVENT_ABORT;
        event.text = "MPI_Abort";
        break;
    case SIM_MSG_NOTIFIED:
        event.type = PM_EVENT_NOTIFIED;
        break;
    default:
        SIM_ASSERT(!"message of a server");
    }
    sim_proc_post(s, node, event);
}
