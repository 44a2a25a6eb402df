// SPDX-License-Identifier: Apache-2.0
//
// The end of the step, in stages; and its verdict, which is what srun's caller sees.
//
// After the user's stop the ranks usually have their signal already and get none from us; they may have no bound then
// (supervisor_drain.c). Every other stage has one, so that the step ends whatever is lost meanwhile. After a failure
// ranks get event, SIGTERM, grace and SIGKILL. Then shims and agents end, then srun; if srun does not, it is told to end
// the step; if that does not help, we exit without it.
#include "pmix_server/core/supervisor.h"

#include <stdio.h>

#include "pmix_server/wire/shim_proto.h"

#define SIGNAL_INT  2
#define SIGNAL_TERM 15
#define SIGNAL_KILL 9

static uint64_t stop_bound_ms(const struct pm_core *core)
{
    const struct pm_options *o = core->config.options;
    return o->grace_ms + PM_REAP_MS + o->node_timeout_ms + pm_supervisor_fence_off_ms(core);
}

// srun never hears of the end of tasks whose slurmstepd or node is lost.
static bool srun_waits_in_vain(const struct pm_supervisor *s)
{
    return !pm_set_covers(&s->retired, &s->wanted.lost);
}

static void end_shims(struct pm_core *core)
{
    struct pm_supervisor *s = core->supervisor;
    pm_supervisor_want(core, PM_PHASE_END);
    pm_membership_stop(core);
    if (srun_waits_in_vain(s)) {
        pm_emit(core, PM_ACTION_AWAIT_OUTPUT)->count =
            (uint32_t)(pm_set_count(&s->wanted.lost) - pm_set_count(&s->retired));
        pm_supervisor_arm(core, PM_OUTPUT_MS);
    } else {
        pm_supervisor_arm(core, s->status == PM_EXIT_CANNOT_SUPERVISE ? PM_CANNOT_END_MS : PM_END_MS);
    }
    if (s->step_is_foreign)
        pm_supervisor_end_next(core, PM_END_STEP);
}

void pm_supervisor_output_read(struct pm_core *core)
{
    if (core->supervisor->end == PM_END_SHIMS)
        pm_supervisor_end_next(core, PM_END_STEP);
}

// To SIGTERM srun answers with SIGKILL for the whole step, and then waits for the end of all tasks; whoever
// watches srun does the same to the step when srun itself is killed, and nobody waits.
static void end_step(struct pm_core *core)
{
    bool in_vain = srun_waits_in_vain(core->supervisor) && !core->supervisor->step_is_foreign;
    struct pm_action *a = pm_emit(core, PM_ACTION_END_STEP);
    a->signal = in_vain ? SIGNAL_KILL : SIGNAL_TERM;
    a->timeout_ms = PM_END_STEP_KILL_MS;
    pm_supervisor_arm(core, PM_END_STEP_KILL_MS + PM_END_MS);
}

void pm_supervisor_end_next(struct pm_core *core, enum pm_end_stage stage)
{
    struct pm_supervisor *s = core->supervisor;
    s->end = stage;
    switch (stage) {
    case PM_END_KILL:
        pm_say(core, "pm-supervise: some ranks have outlived the stop; killing them");
        pm_supervisor_want(core, PM_PHASE_KILL);
        pm_supervisor_arm(core, PM_REAP_MS + core->config.options->node_timeout_ms + pm_supervisor_fence_off_ms(core));
        break;
    case PM_END_SHIMS:
        end_shims(core);
        break;
    case PM_END_STEP:
        end_step(core);
        break;
    case PM_END_GIVE_UP:
        pm_say(core, "pm-supervise: srun does not end; leaving without it");
        (void)pm_supervisor_fire(core, PM_IN_OVER);
        break;
    default:
        break;
    }
}

bool pm_supervisor_quiet(struct pm_core *core)
{
    struct pm_supervisor *s = core->supervisor;
    if (s->end != PM_END_WAIT && s->end != PM_END_KILL)
        return false;
    enum pm_mark mark = s->wanted.phase == PM_PHASE_DRAIN ? PM_MARK_ENDED : PM_MARK_HALTED;
    return pm_set_empty(&s->fencing) && pm_supervisor_all_in(core, &s->seen.marks[mark]);
}

// Ranks that drain are killed first, when their own time is over.
void pm_supervisor_stop_waits(struct pm_core *core)
{
    const struct pm_supervisor *s = core->supervisor;
    bool waits = (s->end == PM_END_WAIT && s->wanted.phase != PM_PHASE_DRAIN) || s->end == PM_END_KILL;
    uint64_t ms = pm_supervisor_fence_off_ms(core);
    if (waits && core->now_ns + ms * PM_MS > s->deadline_ns)
        pm_supervisor_arm(core, ms);
}

void pm_supervisor_enter_finishing(struct pm_core *core, enum pm_state from)
{
    (void)from;
    pm_supervisor_again_forget(core);
    pm_supervisor_end_next(core, PM_END_SHIMS);
}

static void wait_for_ranks(struct pm_core *core, enum pm_phase phase, uint64_t ms)
{
    struct pm_supervisor *s = core->supervisor;
    s->end = PM_END_WAIT;
    pm_supervisor_want(core, phase);
    pm_supervisor_arm(core, ms);
}

void pm_supervisor_end_ranks(struct pm_core *core)
{
    pm_collective_epoch_over(core, core->supervisor->wanted.epoch);
    wait_for_ranks(core, PM_PHASE_STOP, stop_bound_ms(core));
}

// A stop that no failure and no user asked for.
static void tell_stop(struct pm_core *core)
{
    struct pm_supervisor *s = core->supervisor;
    struct pm_log *log = pm_log_record(core, "decision");
    log->epoch = s->wanted.epoch;
    log->action = pm_verdict_name(PM_VERDICT_STOP);
    log->restarts = s->restarts;
    pm_text_copy(log->reason, sizeof(log->reason), s->stop_line);
    pm_say(core, "%s", s->stop_line);
}

void pm_supervisor_enter_stopping(struct pm_core *core, enum pm_state from)
{
    struct pm_supervisor *s = core->supervisor;
    pm_supervisor_again_forget(core);
    s->fall.since_ns = core->now_ns;
    s->users_verdict = s->user_stop;
    if (s->stop_line[0])
        tell_stop(core);
    if (from == PM_STATE_FORMING) {
        s->wanted.has_end_status = !s->users_verdict;
        s->wanted.end_status = PM_EXIT_CANNOT_SUPERVISE << 8;
        s->step_is_foreign |= s->user_stop;
    }
    bool none_runs = from == PM_STATE_FORMING || from == PM_STATE_PLACING;
    if (none_runs && pm_set_empty(&s->fencing)) {
        pm_supervisor_end_next(core, PM_END_SHIMS);
    } else if (s->user_stop && !s->ranks_untold && from != PM_STATE_HALTING && !none_runs) {
        wait_for_ranks(core, PM_PHASE_DRAIN, pm_supervisor_drain_ms(core));
        if (s->seen.user_signal)
            s->deadline_ns = UINT64_MAX;
    } else {
        pm_supervisor_end_ranks(core);
    }
}

void pm_supervisor_user_stop(struct pm_core *core, int32_t signal)
{
    struct pm_supervisor *s = core->supervisor;
    if (s->user_stop || s->state == PM_STATE_DONE)
        return;
    s->user_stop = true;
    s->user_signal = signal;
    struct pm_log *log = pm_log_record(core, "decision");
    log->epoch = s->wanted.epoch;
    log->action = "stop";
    (void)snprintf(log->reason, sizeof(log->reason), "user's stop, signal %d", signal);
    if (pm_supervisor_fire(core, PM_IN_USER))
        pm_say(core, "pm-supervise: the step is being stopped (signal %d); no more restarts",
               signal);
}

// --- the verdict -------------------------------------------------------------------------------

static int32_t srun_says(const struct pm_supervisor *s)
{
    return pm_policy_exit_of(s->srun_status);
}

static int32_t over_while_forming(struct pm_core *core)
{
    struct pm_supervisor *s = core->supervisor;
    if (!s->launched)
        return srun_says(s);
    if (srun_says(s) != PM_EXIT_CANNOT_SUPERVISE)
        pm_say(core,
               "pm-supervise: srun ended (exit code %d) when %u of %u nodes had joined; where "
               "pm_supervise is not in plugstack.conf, ranks ran unsupervised",
               srun_says(s), (uint32_t)pm_set_count(&s->seen.joined), s->nnodes);
    return PM_EXIT_CANNOT_SUPERVISE;
}

// 124 is no rank's code but that of shims which lost their agent: on the whole step at once, when we
// were stopped for longer than the orphan timeout. Nor is 125, of shims that never had a rank, once a world ran.
static int32_t over_unexpectedly(struct pm_core *core, enum pm_state from)
{
    struct pm_supervisor *s = core->supervisor;
    int32_t code = srun_says(s);
    // In a halt ranks have ended, too, but not well.
    bool ran = from == PM_STATE_STARTING || from == PM_STATE_RUNNING;
    if (ran && pm_supervisor_all_in(core, &s->seen.marks[PM_MARK_ENDED]))
        return s->status;
    (void)snprintf(s->stop_line, sizeof(s->stop_line),
                   "pm-supervise: srun ended by itself (exit code %d) in epoch %u; stopping", code,
                   s->wanted.epoch);
    tell_stop(core);
    bool none_ran = from == PM_STATE_STARTING && s->wanted.epoch == 0;
    bool of_shims = code == PM_EXIT_AGENT_GONE || (code == PM_EXIT_CANNOT_SUPERVISE && !none_ran);
    return code && !of_shims ? code : PM_EXIT_LOST;
}

// Somebody killed all of the step at once (scancel of a step does): the shim or agent that seemed to be lost
// was the first that we saw of it. What one process that is lost leads to looks different: the others halt
// their ranks, and their shims stay until we have said that they shall end. Unless no other is left, since nodes
// were lost before, too: srun then ends by itself, with what the first task of them left behind. Nor where Slurm knows of
// a node that was reset: then srun itself has given the step up.
static bool killed_from_outside(const struct pm_core *core)
{
    const struct pm_supervisor *s = core->supervisor;
    bool one_by_one = s->n_losses > 0 && pm_set_count(&s->wanted.lost) == s->nnodes;
    // With all agents gone there are no ranks to wait for, and srun is about to end.
    bool untold = s->end == PM_END_WAIT || (s->end == PM_END_SHIMS && pm_supervisor_all_refused(core));
    return s->status == PM_EXIT_LOST && untold && srun_says(s) > 128 && !one_by_one && pm_set_empty(&s->fall.reset);
}

// To the second Ctrl-C srun kills everything right after it has passed SIGINT on: the ranks have ended by
// that, but the shims cannot say so any more. (A rank that caught SIGINT and was killed is one of these, too.)
static int32_t users_status(const struct pm_supervisor *s)
{
    bool interrupted = s->user_signal == SIGNAL_INT && srun_says(s) == 128 + SIGNAL_KILL;
    bool none_ran = srun_says(s) == PM_EXIT_CANNOT_SUPERVISE; // a shim's word that never had a rank
    bool shot = s->end == PM_END_STEP && srun_waits_in_vain(s); // by us
    bool trusted = s->srun_exited && !interrupted && !none_ran && !shot;
    return trusted ? srun_says(s) : 128 + s->user_signal;
}

static int32_t verdict(struct pm_core *core, enum pm_state from)
{
    struct pm_supervisor *s = core->supervisor;
    if (from == PM_STATE_FORMING)
        return over_while_forming(core);
    if (from != PM_STATE_FINISHING && from != PM_STATE_STOPPING)
        return over_unexpectedly(core, from);
    if (s->users_verdict)
        return users_status(s);
    if (s->relaunch && s->user_stop)
        return 128 + s->user_signal;
    if (!killed_from_outside(core))
        return s->status;
    pm_say(core, "pm-supervise: all of the step was killed by signal %d from outside (scancel?)",
           SIGNAL_KILL);
    return 128 + SIGNAL_KILL;
}

void pm_supervisor_enter_done(struct pm_core *core, enum pm_state from)
{
    struct pm_supervisor *s = core->supervisor;
    pm_membership_stop(core);
    if (pm_supervisor_relaunches(core))
        return;
    s->status = verdict(core, from);
    struct pm_log *log = pm_log_record(core, "exit");
    log->epoch = s->wanted.epoch;
    log->wait_status = s->status << 8;
    log->has_status = true;
    log->restarts = s->restarts;
    log->silent_ms = pm_longest_silence_ms(core);
    log->late_ms = pm_longest_late_ms(core);
    pm_emit(core, PM_ACTION_EXIT)->status = s->status;
}
