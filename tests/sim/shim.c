// SPDX-License-Identifier: Apache-2.0
//
// A shim, after plugin/shim/{shim,obey,ending}.c: one task of Slurm's, parent of one rank. The
// agent's words change what it wants; look() does what its tree allows.
#include "pmix_server/wire/exit_codes.h"
#include "tests/sim/check.h"
#include "tests/sim/sim.h"

#define SIGNAL_KILL     9
#define END_TIMEOUT_NS  (10000 * SIM_MS)
#define LEASE_RETRY_NS  (100 * SIM_MS)
#define FIRST_LEASE_NS  (1000 * SIM_MS)
#define LAST_KILL_NS    (5000 * SIM_MS)
#define AGENT_GONE      (PM_EXIT_AGENT_GONE << 8)
#define CANNOT_START    (PM_EXIT_CANNOT_SUPERVISE << 8)

static struct sim_shim *shim_of(struct sim *s, uint32_t node, uint32_t local)
{
    return &s->nodes[node].shims[local];
}

bool sim_shim_runs(const struct sim *s, uint32_t node, uint32_t local)
{
    const struct sim_shim *shim = &s->nodes[node].shims[local];
    return shim->alive && !shim->paused && sim_host_runs(s, node);
}

// --- words to the agent ------------------------------------------------------------------------

static void send(struct sim *s, uint32_t node, uint32_t local, struct sim_msg msg)
{
    if (shim_of(s, node, local)->linked)
        sim_chan_up(s, node, local, msg);
}

static void send_exited(struct sim *s, uint32_t node, uint32_t local, const struct sim_msg *what)
{
    struct sim_msg msg = *what;
    msg.type = SIM_MSG_EXITED;
    send(s, node, local, msg);
}

static void send_gone(struct sim *s, uint32_t node, uint32_t local, uint32_t epoch,
                      uint32_t incarnation)
{
    send(s, node, local, (struct sim_msg){.type = SIM_MSG_TREE_GONE, .epoch = epoch,
                                          .incarnation = incarnation});
}

static void never_ran(struct sim *s, uint32_t node, uint32_t local, const struct sim_start *start,
                      int32_t status)
{
    send_exited(s, node, local, &(struct sim_msg){.epoch = start->epoch, .status = status,
                                                  .incarnation = start->incarnation});
    send_gone(s, node, local, start->epoch, start->incarnation);
}

// --- its state ---------------------------------------------------------------------------------

static bool tree_empty(const struct sim_shim *shim)
{
    return !shim->rank.alive && shim->rank.pid == 0 && shim->rank.descendants == 0;
}

static bool must_stand(struct sim *s, uint32_t node, const struct sim_shim *shim)
{
    return shim->told_to_stand || s->nodes[node].lease_ns <= sim_local_ns(s, node);
}

static void obey_lease(struct sim *s, uint32_t node, uint32_t local)
{
    struct sim_shim *shim = shim_of(s, node, local);
    bool stand = must_stand(s, node, shim);
    if (!shim->open || shim->killing || s->p.plant == SIM_PLANT_NO_STOP)
        return;
    if (stand ? shim->still : !shim->standing)
        return;
    sim_rank_stop(s, node, local, stand);
    shim->standing = shim->still = stand;
}

static void wake_at(struct sim *s, uint32_t node, uint32_t local, uint64_t at_ns)
{
    struct sim_shim *shim = shim_of(s, node, local);
    if (shim->wake_ns && shim->wake_ns <= at_ns && shim->wake_ns >= s->now_ns)
        return;
    shim->wake_ns = at_ns;
    sim_push(s, at_ns, SIM_EVENT_SHIM, node, local, shim->stamp);
}

// When poll() has to come back by itself.
static void arm(struct sim *s, uint32_t node, uint32_t local)
{
    struct sim_shim *shim = shim_of(s, node, local);
    uint64_t due_ns = SIM_NEVER;
    if (shim->ending)
        due_ns = shim->end_due_ns;
    if (shim->open || shim->next.set) {
        uint64_t lease = sim_clock_real_ns(&s->hosts[node].clock, s->nodes[node].lease_ns);
        if (shim->standing || must_stand(s, node, shim))
            lease = s->now_ns + sim_rng_between(&s->local, 1, LEASE_RETRY_NS);
        else if (lease == SIM_NEVER)
            lease = s->now_ns + FIRST_LEASE_NS;
        due_ns = lease < due_ns ? lease : due_ns;
    }
    if (due_ns != SIM_NEVER)
        wake_at(s, node, local, (due_ns > s->now_ns ? due_ns : s->now_ns) +
                                    sim_rng_below(&s->local, SIM_MS));
}

static void rank_reaped(struct sim *s, uint32_t node, uint32_t local)
{
    struct sim_shim *shim = shim_of(s, node, local);
    struct sim_rank *rank = &shim->rank;
    if (rank->pid == 0 || rank->alive)
        return;
    struct sim_msg msg = {.epoch = shim->current.epoch, .incarnation = shim->current.incarnation,
                          .pid = rank->pid, .status = rank->end_status, .flag = rank->plan_exec};
    rank->pid = 0;
    if (!shim->overridden)
        shim->last_status = rank->end_status;
    send_exited(s, node, local, &msg);
}

static void kill_tree(struct sim *s, uint32_t node, uint32_t local)
{
    shim_of(s, node, local)->killing = true;
    sim_rank_kill(s, node, local);
}

static void start_rank(struct sim *s, uint32_t node, uint32_t local)
{
    struct sim_shim *shim = shim_of(s, node, local);
    shim->current = shim->next;
    shim->next.set = false;
    shim->started = true;
    if (shim->starts_left && shim->start_fails == 2) {
        shim->starts_left--;
        sim_check_never_ran(s, node, &shim->current, CANNOT_START);
        never_ran(s, node, local, &shim->current, CANNOT_START);
        return;
    }
    sim_rank_fork(s, node, local);
    shim->open = true;
    shim->killing = shim->standing = shim->still = false;
    send(s, node, local, (struct sim_msg){.type = SIM_MSG_STARTED, .epoch = shim->current.epoch,
                                          .incarnation = shim->current.incarnation,
                                          .pid = shim->rank.pid});
}

static void look(struct sim *s, uint32_t node, uint32_t local)
{
    struct sim_shim *shim = shim_of(s, node, local);
    rank_reaped(s, node, local);
    if (shim->open && tree_empty(shim)) {
        shim->open = false;
        send_gone(s, node, local, shim->current.epoch, shim->current.incarnation);
    }
    if (shim->ending && (!shim->open || s->now_ns >= shim->end_due_ns)) {
        sim_shim_end(s, node, local, shim->last_status);
        return;
    }
    obey_lease(s, node, local);
    if (shim->next.set && !shim->open && !must_stand(s, node, shim) && !sim_chan_has_eof(s, node, local))
        start_rank(s, node, local);
    arm(s, node, local);
}

void sim_shim_due(struct sim *s, uint32_t node, uint32_t local, uint64_t stamp)
{
    struct sim_shim *shim = shim_of(s, node, local);
    if (shim->stamp != (uint32_t)stamp || shim->wake_ns != s->now_ns)
        return;
    shim->wake_ns = 0;
    if (sim_shim_runs(s, node, local))
        look(s, node, local);
    else if (shim->alive && s->hosts[node].off == false)
        shim->wake_ns = 0; // whoever lets it run again makes it look
}

void sim_shim_look(struct sim *s, uint32_t node, uint32_t local, uint64_t delay_ns)
{
    if (shim_of(s, node, local)->alive)
        wake_at(s, node, local, s->now_ns + delay_ns);
}

// --- life --------------------------------------------------------------------------------------

void sim_shim_start(struct sim *s, uint32_t node, uint32_t local)
{
    struct sim_shim *shim = shim_of(s, node, local);
    shim->alive = shim->linked = true;
    shim->last_status = CANNOT_START;
    sim_chan_up(s, node, local, (struct sim_msg){.type = SIM_MSG_HELLO, .pid = ++s->next_pid});
}

// Killed, or ended: its rank dies with it (PDEATHSIG); descendants do not.
void sim_shim_end(struct sim *s, uint32_t node, uint32_t local, int32_t status)
{
    struct sim_shim *shim = shim_of(s, node, local);
    if (!shim->alive)
        return;
    sim_tracef(s, "shim %u.%u ends with %d", node, local, status);
    bool linked = shim->linked;
    shim->alive = shim->linked = shim->paused = false;
    shim->stamp++;
    shim->wake_ns = 0;
    sim_chan_clear(&s->nodes[node].down[local]);
    sim_rank_orphaned(s, node, local);
    if (linked)
        sim_chan_up(s, node, local, (struct sim_msg){.type = SIM_MSG_EOF});
    sim_srun_task_over(s, node, local, status);
}

// The agent is gone: kills for good, for a bounded time, then ends.
static void agent_gone(struct sim *s, uint32_t node, uint32_t local)
{
    struct sim_shim *shim = shim_of(s, node, local);
    shim->linked = false;
    kill_tree(s, node, local);
    shim->ending = true;
    shim->overridden = true;
    shim->last_status = shim->started ? AGENT_GONE : CANNOT_START;
    shim->next.set = false;
    shim->end_due_ns = s->now_ns + LAST_KILL_NS;
}

void sim_shim_signalled(struct sim *s, uint32_t node, uint32_t local, int32_t signal)
{
    struct sim_shim *shim = shim_of(s, node, local);
    if (!sim_shim_runs(s, node, local))
        return;
    send(s, node, local, (struct sim_msg){.type = SIM_MSG_SIGNALLED, .status = signal});
    if (shim->rank.alive)
        sim_rank_signal(s, node, local, signal);
}

// --- words of the agent ------------------------------------------------------------------------

static void take_start(struct sim *s, uint32_t node, uint32_t local, const struct sim_msg *msg)
{
    struct sim_shim *shim = shim_of(s, node, local);
    if (shim->next.set)
        never_ran(s, node, local, &shim->next, SIGNAL_KILL);
    shim->next = (struct sim_start){.set = true, .epoch = msg->epoch, .rank = msg->rank,
                                    .incarnation = msg->incarnation};
    if (shim->open)
        kill_tree(s, node, local);
}

static void take_signal(struct sim *s, uint32_t node, uint32_t local, const struct sim_msg *msg)
{
    struct sim_shim *shim = shim_of(s, node, local);
    if (shim->rank.alive && msg->epoch == shim->current.epoch)
        sim_rank_signal(s, node, local, msg->status);
}

static void take_kill(struct sim *s, uint32_t node, uint32_t local, const struct sim_msg *msg)
{
    struct sim_shim *shim = shim_of(s, node, local);
    if (shim->next.set && msg->epoch >= shim->next.epoch) {
        never_ran(s, node, local, &shim->next, SIGNAL_KILL);
        shim->next.set = false;
    }
    bool lie = s->p.plant == SIM_PLANT_NO_KILL && shim->rank.alive;
    if (lie && shim->open) {
        shim->open = false;
        never_ran(s, node, local, &shim->current, SIGNAL_KILL);
    } else if (shim->open && msg->epoch >= shim->current.epoch) {
        kill_tree(s, node, local);
    }
}

static void take_stand(struct sim *s, uint32_t node, uint32_t local, const struct sim_msg *msg)
{
    struct sim_shim *shim = shim_of(s, node, local);
    shim->told_to_stand = msg->type == SIM_MSG_PAUSE;
    if (!shim->told_to_stand)
        shim->still = false;
}

static void take_end(struct sim *s, uint32_t node, uint32_t local, const struct sim_msg *msg)
{
    struct sim_shim *shim = shim_of(s, node, local);
    shim->ending = true;
    shim->end_due_ns = s->now_ns + END_TIMEOUT_NS;
    shim->next.set = false;
    if (shim->open)
        kill_tree(s, node, local);
    if (msg->flag) {
        shim->overridden = true;
        shim->last_status = msg->status;
    }
}

static void take_refuse(struct sim *s, uint32_t node, uint32_t local, const struct sim_msg *msg)
{
    (void)msg;
    struct sim_shim *shim = shim_of(s, node, local);
    shim->ending = true;
    shim->last_status = CANNOT_START;
}

static void take_eof(struct sim *s, uint32_t node, uint32_t local, const struct sim_msg *msg)
{
    (void)msg;
    struct sim_shim *shim = shim_of(s, node, local);
    if (shim->ending)
        shim->linked = false;
    else
        agent_gone(s, node, local);
}

void sim_shim_take(struct sim *s, uint32_t node, uint32_t local, const struct sim_msg *msg)
{
    static void (*const takes[SIM_MSG_MAX])(struct sim *s, uint32_t node, uint32_t local,
                                            const struct sim_msg *msg) = {
        [SIM_MSG_START] = take_start, [SIM_MSG_SIGNAL] = take_signal, [SIM_MSG_KILL] = take_kill,
        [SIM_MSG_PAUSE] = take_stand, [SIM_MSG_RESUME] = take_stand,  [SIM_MSG_END] = take_end,
        [SIM_MSG_REFUSE] = take_refuse, [SIM_MSG_EOF] = take_eof,
    };
    SIM_ASSERT(takes[msg->type]);
    rank_reaped(s, node, local); // what ended before the agent's words is told before them
    takes[msg->type](s, node, local, msg);
    look(s, node, local);
}
