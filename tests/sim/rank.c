// SPDX-License-Identifier: Apache-2.0
//
// A rank: user's code. It boots, connects to PMIx or not, computes, fences with the others,
// finalizes and exits with 0, unless something happens to it. Each life draws its own pace.
#include "tests/sim/check.h"
#include "tests/sim/sim.h"

#define SIGNAL_KILL 9
#define REAP_NS     (500 * SIM_US) // a process that died is seen by its parent

static struct sim_rank *rank_of(struct sim *s, uint32_t node, uint32_t local)
{
    return &s->nodes[node].shims[local].rank;
}

bool sim_rank_runs(const struct sim *s, uint32_t node, uint32_t local)
{
    const struct sim_rank *r = &s->nodes[node].shims[local].rank;
    return (r->alive || r->descendants) && !r->stopped && !r->doomed && sim_host_runs(s, node);
}

static void next_step(struct sim *s, uint32_t node, uint32_t local, uint8_t step, uint64_t delay_ns)
{
    struct sim_rank *r = rank_of(s, node, local);
    if (r->doomed)
        return; // what it would do next is to die
    r->step = step;
    r->stamp++;
    r->late = false;
    sim_push(s, s->now_ns + delay_ns, SIM_EVENT_RANK, node, local, r->stamp);
}

// --- birth and death ---------------------------------------------------------------------------

void sim_rank_fork(struct sim *s, uint32_t node, uint32_t local)
{
    struct sim_shim *shim = &s->nodes[node].shims[local];
    uint32_t stamp = shim->rank.stamp;
    shim->rank = (struct sim_rank){
        .alive = true,
        .rank = shim->current.rank,
        .epoch = shim->current.epoch,
        .incarnation = shim->current.incarnation,
        .pid = ++s->next_pid,
        .fences_left = s->p.pmix ? s->p.fences : 0,
        .stamp = stamp,
        .plan_exec = shim->starts_left && shim->start_fails == 1,
    };
    struct sim_rank *r = &shim->rank;
    r->pace_ns = s->p.life_ms * SIM_MS / (r->fences_left + 1) / 2;
    r->pace_ns += sim_rng_below(&s->life, r->pace_ns + 1);
    sim_tracef(s, "rank %u starts on %u.%u epoch %u incarnation %u", r->rank, node, local, r->epoch,
               r->incarnation);
    sim_check_fork(s, node, local);
    if (shim->starts_left) {
        r->end_status = r->plan_exec ? 127 << 8 : 11;
        shim->starts_left--;
        next_step(s, node, local, SIM_RANK_ENDING, sim_rng_below(&s->life, 3 * SIM_MS));
        return;
    }
    next_step(s, node, local, SIM_RANK_BOOT, sim_rng_between(&s->life, SIM_MS, 200 * SIM_MS));
}

// The process itself is dead; its shim reaps it.
static void dies(struct sim *s, uint32_t node, uint32_t local, int32_t status)
{
    struct sim_rank *r = rank_of(s, node, local);
    r->alive = false;
    r->end_status = status;
    r->stamp++;
    r->late = false;
    if (!r->descendants && s->p.orphans_in && sim_rng_one_in(&s->life, s->p.orphans_in))
        r->descendants = 1;
    sim_tracef(s, "rank %u of epoch %u ends with %d", r->rank, r->epoch, status);
    sim_check_rank_ends(s, node, local);
    if (r->connected)
        sim_server_lost_client(s, node, local);
    sim_shim_look(s, node, local, sim_rng_between(&s->local, 10 * SIM_US, REAP_NS));
}

void sim_rank_end(struct sim *s, uint32_t node, uint32_t local, int32_t status)
{
    const struct sim_rank *r = rank_of(s, node, local);
    if (r->alive && !r->doomed)
        dies(s, node, local, status);
}

static void kill_now(struct sim *s, uint32_t node, uint32_t local)
{
    struct sim_rank *r = rank_of(s, node, local);
    r->descendants = 0;
    r->doomed = false;
    if (r->alive) {
        dies(s, node, local, SIGNAL_KILL);
        r->descendants = 0;
    } else {
        sim_shim_look(s, node, local, sim_rng_between(&s->local, 10 * SIM_US, REAP_NS));
    }
}

void sim_rank_kill(struct sim *s, uint32_t node, uint32_t local)
{
    struct sim_rank *r = rank_of(s, node, local);
    if ((!r->alive && !r->descendants) || r->doomed)
        return;
    r->doomed = true;
    r->stamp++;
    uint64_t delay_ns = sim_rng_between(&s->local, 20 * SIM_US, 3 * SIM_MS);
    uint64_t at_ns = s->now_ns + delay_ns;
    if (at_ns < r->unreapable_ns)
        at_ns = r->unreapable_ns;
    sim_check_doomed(s, node, local);
    sim_push(s, at_ns, SIM_EVENT_RANK, node, local, r->stamp);
}

// Its shim died: PDEATHSIG takes the rank, descendants live on.
void sim_rank_orphaned(struct sim *s, uint32_t node, uint32_t local)
{
    struct sim_rank *r = rank_of(s, node, local);
    if (!r->alive)
        return;
    if (r->doomed || s->now_ns < r->unreapable_ns) {
        sim_rank_kill(s, node, local);
        return;
    }
    uint32_t descendants = r->descendants;
    dies(s, node, local, SIGNAL_KILL);
    r->descendants = descendants;
    r->pid = 0;
}

void sim_rank_signal(struct sim *s, uint32_t node, uint32_t local, int32_t signal)
{
    struct sim_rank *r = rank_of(s, node, local);
    sim_check_signalled(s, node, local, signal);
    if (signal == SIGNAL_KILL) {
        sim_rank_kill(s, node, local);
        return;
    }
    if (r->stubborn || r->doomed || !r->alive)
        return;
    r->end_status = signal;
    next_step(s, node, local, SIM_RANK_ENDING, sim_rng_below(&s->life, s->p.term_ms * SIM_MS + 1));
}

void sim_rank_stop(struct sim *s, uint32_t node, uint32_t local, bool stop)
{
    struct sim_rank *r = rank_of(s, node, local);
    r->stopped = stop;
    sim_tracef(s, "rank %u is %s", r->rank, stop ? "stopped" : "continued");
    sim_check_stopped(s, node, local, stop);
    if (!stop && r->late && r->alive)
        next_step(s, node, local, r->step, sim_rng_below(&s->life, SIM_MS));
}

// --- what it does ------------------------------------------------------------------------------

static void connect(struct sim *s, uint32_t node, uint32_t local)
{
    struct sim_rank *r = rank_of(s, node, local);
    if (!sim_server_connect(s, node, local)) { // no server answers: PMIx_Init fails
        r->end_status = 1 << 8;
        next_step(s, node, local, SIM_RANK_ENDING, 100 * SIM_MS);
        return;
    }
    r->connected = true;
    next_step(s, node, local, SIM_RANK_COMPUTING, sim_rng_below(&s->life, r->pace_ns + 1));
}

static void compute(struct sim *s, uint32_t node, uint32_t local)
{
    struct sim_rank *r = rank_of(s, node, local);
    if (r->connected && s->p.modex && sim_rng_one_in(&s->life, 4)) {
        r->step = SIM_RANK_ASKING;
        sim_server_ask(s, node, local);
    } else if (r->connected && r->fences_left > 0) {
        uint8_t group = sim_rank_group(s, node, r->rank, r->fences_left);
        r->fences_left--;
        r->step = SIM_RANK_FENCING;
        sim_server_fence(s, node, local, group);
    } else {
        r->end_status = 0;
        if (r->connected) {
            r->finalized = true;
            sim_server_finalize(s, node, local);
        }
        next_step(s, node, local, SIM_RANK_ENDING, sim_rng_below(&s->life, 5 * SIM_MS));
    }
}

void sim_rank_fenced(struct sim *s, uint32_t node, uint32_t local, int32_t status)
{
    struct sim_rank *r = rank_of(s, node, local);
    if (!r->alive || r->step != SIM_RANK_FENCING)
        return;
    if (status == PM_STATUS_OK || sim_rng_one_in(&s->life, 3)) {
        next_step(s, node, local, SIM_RANK_COMPUTING, sim_rng_below(&s->life, r->pace_ns + 1));
        return;
    }
    // MPI would abort, or exit with an error.
    r->end_status = 16 << 8;
    if (sim_rng_one_in(&s->life, 2)) {
        sim_check_aborts(s, node, local, 16);
        sim_server_abort(s, node, local, 16);
    }
    next_step(s, node, local, SIM_RANK_ENDING, sim_rng_below(&s->life, 50 * SIM_MS));
}

void sim_rank_asked(struct sim *s, uint32_t node, uint32_t local)
{
    struct sim_rank *r = rank_of(s, node, local);
    if (r->alive && r->step == SIM_RANK_ASKING)
        next_step(s, node, local, SIM_RANK_COMPUTING, sim_rng_below(&s->life, r->pace_ns / 4 + 1));
}

// Fences are of all ranks, and of each half of them in turn.
uint8_t sim_rank_group(const struct sim *s, uint32_t node, uint32_t rank, uint32_t fences_left)
{
    uint32_t nranks = sim_nranks(s, node);
    if (fences_left % 3 != 2 || nranks < 4)
        return SIM_GROUP_ALL;
    return rank < nranks / 2 ? SIM_GROUP_LOW : SIM_GROUP_HIGH;
}

void sim_rank_due(struct sim *s, uint32_t node, uint32_t local, uint64_t stamp)
{
    struct sim_rank *r = rank_of(s, node, local);
    if (r->stamp != (uint32_t)stamp || s->hosts[node].off)
        return;
    if (r->doomed) { // SIGKILL works on stopped processes, and on suspended hosts later
        kill_now(s, node, local);
        return;
    }
    if (r->stopped || !sim_host_runs(s, node)) {
        r->late = true;
        if (!r->stopped)
            next_step(s, node, local, r->step, 100 * SIM_MS);
        return;
    }
    switch (r->step) {
    case SIM_RANK_BOOT:
        next_step(s, node, local, s->p.pmix ? SIM_RANK_CONNECTING : SIM_RANK_COMPUTING,
                  s->p.pmix ? SIM_MS : r->pace_ns * 2);
        break;
    case SIM_RANK_CONNECTING:
        connect(s, node, local);
        break;
    case SIM_RANK_COMPUTING:
        compute(s, node, local);
        break;
    case SIM_RANK_ENDING:
        dies(s, node, local, r->end_status);
        break;
    default: // hangs
        break;
    }
}
