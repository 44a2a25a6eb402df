// SPDX-License-Identifier: Apache-2.0
//
// The coordinator's shell, after pmix_server/coordinator*.c: what it does for each action of its core.
#include "tests/sim/check.h"
#include "tests/sim/outcome.h"
#include "tests/sim/sim.h"

#define END_TIMEOUT_MS 5000

enum due { DUE_LAUNCHED = 0, DUE_JOB_STATE, DUE_OUTPUT, DUE_NODES, DUE_BOOTED, DUE_NO_BOOTED, DUE_FENCED_OFF }; // the last: plus the node

static void launched(struct sim *s)
{
    if (!s->procs[s->p.nnodes].core || s->srun.launched)
        return;
    s->srun.launched = true;
    sim_proc_post(s, s->p.nnodes, (struct pm_event){.type = PM_EVENT_LAUNCHED, .job = 7,
                                                    .nnodes = s->p.nnodes, .ntasks = s->ntasks});
}

// Programs take turns, as many as may run at once. Drawn as in await_output().
static void run_fences(struct sim *s)
{
    while (s->n_fencing < PM_FENCE_OFF_AT_ONCE && s->fences_begun < s->n_fences) {
        s->n_fencing++;
        sim_push(s, s->now_ns + s->now_ns / 1000 % 3000 * SIM_MS, SIM_EVENT_COORD,
                 DUE_FENCED_OFF + s->fences[s->fences_begun++], 0, 0);
    }
}

static void fence_off(struct sim *s, uint32_t node)
{
    sim_check_fencing(s, node, true);
    SIM_ASSERT(s->n_fences < s->p.nnodes);
    s->fences[s->n_fences++] = node;
    run_fences(s);
}

// It succeeds four times of five.
static void fenced_off(struct sim *s, uint32_t node)
{
    sim_check_fencing(s, node, false);
    s->n_fencing--;
    run_fences(s);
    bool failed = (s->now_ns / 1000 + node) % 5 == 0;
    if (failed && s->p.options.fence_required)
        s->outcome->unfenced = true;
    sim_proc_post(s, s->p.nnodes, (struct pm_event){.type = PM_EVENT_FENCED_OFF, .node = node,
                                                    .flag_failed = failed, .text = failed ? "failed" : "1 s"});
}

#define SINFO_LIMIT_MS 2000

// Worlds where no node is drained have the answer at once, so that they keep their numbers; see give_health().
static void ask_nodes(struct sim *s)
{
    bool takes_time = s->p.options.health[0] || s->p.weight[SIM_FAULT_NODE_DRAINED];
    uint64_t ms = takes_time ? s->now_ns / 1000 % (SINFO_LIMIT_MS + 200) : 0;
    s->sinfo_hangs = ms > SINFO_LIMIT_MS;
    if (ms)
        sim_push(s, s->now_ns + (s->sinfo_hangs ? SINFO_LIMIT_MS : ms) * SIM_MS, SIM_EVENT_COORD, DUE_NODES, 0, 0);
    else
        sim_proc_post(s, s->p.nnodes, (struct pm_event){.type = PM_EVENT_NODE_STATES});
}

// Any time up to the limit, drawn as in await_output(); at the limit there is no answer.
static void ask_booted(struct sim *s)
{
    uint64_t ms = s->now_ns / 1000 % (SINFO_LIMIT_MS + 200);
    sim_push(s, s->now_ns + (ms < SINFO_LIMIT_MS ? ms : SINFO_LIMIT_MS) * SIM_MS, SIM_EVENT_COORD,
             ms < SINFO_LIMIT_MS ? DUE_BOOTED : DUE_NO_BOOTED, 0, 0);
}

static void answer_booted(struct sim *s, bool failed)
{
    sim_proc_post(s, s->p.nnodes, (struct pm_event){.type = PM_EVENT_BOOTED, .flag_failed = failed,
                                                    .set = failed ? NULL : &s->booted});
}

static void answer_nodes(struct sim *s)
{
    static const struct pm_set none;
    const struct pm_set *drained = s->p.plant == SIM_PLANT_NOT_DRAINED ? &none : &s->drained;
    sim_check_drained(s, s->sinfo_hangs ? NULL : &s->drained);
    sim_proc_post(s, s->p.nnodes, (struct pm_event){.type = PM_EVENT_NODE_STATES, .flag_failed = s->sinfo_hangs,
                                                    .set = s->sinfo_hangs ? NULL : drained});
}

void sim_coord_due(struct sim *s, uint32_t what)
{
    if (!sim_proc_runs(s, s->p.nnodes)) {
        if (s->procs[s->p.nnodes].core)
            sim_push(s, s->now_ns + 50 * SIM_MS, SIM_EVENT_COORD, what, 0, 0);
        return;
    }
    if (what == DUE_LAUNCHED)
        launched(s);
    else if (what >= DUE_FENCED_OFF)
        fenced_off(s, what - DUE_FENCED_OFF);
    else if (what == DUE_NODES)
        answer_nodes(s);
    else if (what == DUE_BOOTED || what == DUE_NO_BOOTED)
        answer_booted(s, what == DUE_NO_BOOTED);
    else if (what == DUE_OUTPUT)
        sim_proc_post(s, s->p.nnodes, (struct pm_event){.type = PM_EVENT_OUTPUT_READ});
    else
        sim_proc_post(s, s->p.nnodes, (struct pm_event){.type = PM_EVENT_JOB_STATE,
                                                        .job_state = (uint8_t)s->job_state});
}

// srun has passed on what live nodes wrote after any time, or in one world of five never. Drawn from the clock, so that
// a world without a loss keeps its numbers.
static void await_output(struct sim *s)
{
    uint64_t draw = s->now_ns / 1000 % 5000;
    if (draw >= 1000)
        sim_push(s, s->now_ns + draw * SIM_MS, SIM_EVENT_COORD, DUE_OUTPUT, 0, 0);
}

// The verdict is there; the process waits for the end of srun.
static void finish(struct sim *s, int32_t status)
{
    s->exited = true;
    s->verdict = status;
    s->exited_ns = s->now_ns;
    sim_outcome_judge(s, status);
    if (s->srun.alive)
        sim_srun_signal(s, 15, END_TIMEOUT_MS);
    else
        sim_push(s, s->now_ns, SIM_EVENT_SRUN, SIM_SRUN_COORD_ENDS, 0, 0);
}

void sim_coord_act(struct sim *s, struct pm_action *a)
{
    switch (a->type) {
    case PM_ACTION_END_STEP:
        sim_srun_signal(s, a->signal ? a->signal : 15, a->timeout_ms);
        break;
    case PM_ACTION_AWAIT_OUTPUT:
        await_output(s);
        break;
    case PM_ACTION_FENCE_OFF:
        fence_off(s, a->node);
        break;
    case PM_ACTION_ASK_NODES:
        ask_nodes(s);
        break;
    case PM_ACTION_ASK_BOOTED:
        ask_booted(s);
        break;
    case PM_ACTION_ASK_JOB_STATE:
        sim_push(s, s->now_ns + sim_rng_between(&s->local, 1, s->p.job_ask_ms) * SIM_MS,
                 SIM_EVENT_COORD, DUE_JOB_STATE, 0, 0);
        break;
    case PM_ACTION_EXIT:
        finish(s, a->status);
        break;
    case PM_ACTION_RELAUNCH: // here the world ends; the next launch is another seed's
        sim_check_relaunch(s);
        finish(s, 1);
        break;
    case PM_ACTION_SAY:
        if (a->text)
            snprintf(s->said_last, sizeof(s->said_last), "%s", a->text);
        break;
    case PM_ACTION_LOG:
        break;
    default:
        SIM_ASSERT(!"action of a coordinator");
    }
}
