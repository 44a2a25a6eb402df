// SPDX-License-Identifier: Apache-2.0
//
// The states of the world's life: what each does when it is entered, what it waits for, and what
// happens when it has waited too long. Which state follows is not said here but in supervisor.c's
// table.
#include "pmix_server/core/supervisor.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

// --- FORMING -----------------------------------------------------------------------------------

enum pm_input pm_supervisor_refuse(struct pm_core *core, int32_t status, const char *format, ...)
{
    struct pm_supervisor *s = core->supervisor;
    va_list args;
    va_start(args, format);
    (void)vsnprintf(s->stop_line, sizeof(s->stop_line), format, args);
    va_end(args);
    s->status = status;
    return PM_IN_REFUSED;
}

// A new one from rank 0's node may be a moment late.
bool pm_supervisor_port_is_here(const struct pm_core *core)
{
    const struct pm_supervisor *s = core->supervisor;
    return s->seen.port_serial > s->last_port_serial ||
           core->now_ns >= s->ready_ns + PM_PORT_WAIT_MS * PM_MS;
}

static enum pm_input cannot_start(struct pm_core *core)
{
    char host[PM_TEXT_CAP];
    const struct pm_report *seen = &core->supervisor->seen;
    return pm_supervisor_refuse(core, PM_EXIT_CANNOT_SUPERVISE, "pm-supervise: %s: %s",
                  pm_supervisor_host(core, seen->cannot_node, host), seen->cannot_text);
}

static enum pm_input forming(struct pm_core *core)
{
    struct pm_supervisor *s = core->supervisor;
    if (s->seen.cannot_node != UINT32_MAX)
        return cannot_start(core);
    if (!s->launched || !pm_supervisor_all_in(core, &s->seen.joined))
        return PM_IN_NONE;
    enum pm_input input = core->world_known ? PM_IN_NONE : pm_supervisor_build_world(core);
    if (input == PM_IN_NONE && core->world_known)
        input = pm_supervisor_rehouse(core);
    if (input != PM_IN_NONE || !core->world_known || pm_supervisor_homeless(core, UINT32_MAX))
        return input;
    bool waits = pm_supervisor_awaits_health(core) || !pm_supervisor_port_is_here(core);
    return waits ? PM_IN_NONE : PM_IN_JOINED;
}

static const char *address(const struct pm_core *core)
{
    const char *text = core->config.addresses;
    return text && text[0] ? text : "the coordinator";
}

// "node7 has not joined: ...", one line each, but not a thousand.
static void name_late(struct pm_core *core)
{
    struct pm_supervisor *s = core->supervisor;
    uint32_t named = 0, more = 0;
    for (uint32_t node = 0; node < s->nnodes; node++) {
        char host[PM_TEXT_CAP];
        if (pm_set_has(&s->seen.joined, node))
            continue;
        if (named == PM_LATE_NAMES_MAX) {
            more++;
            continue;
        }
        named++;
        pm_say(core,
               "pm-supervise: %s has not joined: is pm_supervise in its plugstack.conf, and can it "
               "reach %s?",
               pm_supervisor_host(core, node, host), address(core));
    }
    if (more)
        pm_say(core, "pm-supervise: %u more nodes have not joined", more);
}

static void forming_timed_out(struct pm_core *core)
{
    struct pm_supervisor *s = core->supervisor;
    const struct pm_options *o = core->config.options;
    char text[32], nodes[PM_TEXT_CAP];
    if (s->checking) {
        (void)pm_supervisor_refuse(core, PM_EXIT_CANNOT_SUPERVISE,
                                   "pm-supervise: %s did not say how --pm-health went within %s; ending the step",
                                   pm_supervisor_unchecked(core, nodes, sizeof(nodes)),
                                   pm_duration_format(s->timer_ms, text, sizeof(text)));
        return;
    }
    s->step_is_foreign = true;
    if (!s->first_join_ns) {
        (void)pm_supervisor_refuse(core, PM_EXIT_CANNOT_SUPERVISE,
                     "pm-supervise: no node has joined within %s of the launch: is pm_supervise in "
                     "their plugstack.conf, and can they reach %s? Ending the step",
                     pm_duration_format(o->start_timeout_ms, text, sizeof(text)), address(core));
        return;
    }
    bool window = core->now_ns >= s->first_join_ns + o->join_window_ms * PM_MS;
    (void)pm_supervisor_refuse(
        core, PM_EXIT_CANNOT_SUPERVISE,
        "pm-supervise: %s did not join within %s of the %s: ranks ran unsupervised there; "
        "ending the step",
        pm_supervisor_missing(core, &s->seen.joined, nodes, sizeof(nodes)),
        pm_duration_format(window ? o->join_window_ms : o->start_timeout_ms, text, sizeof(text)),
        window ? "first node (--pm-join-window)" : "launch (--pm-start-timeout)");
}

// --- STARTING ----------------------------------------------------------------------------------

static void epoch_begins(struct pm_core *core)
{
    struct pm_supervisor *s = core->supervisor;
    pm_set_clear(&s->wanted.dead);
    pm_set_clear(&s->wanted.left);
    pm_set_clear(&s->bad_servers);
    pm_set_clear(&s->wanted.probe);
    pm_set_clear(&s->drained);
    pm_set_clear(&s->placed);
    s->slurm = PM_SLURM_NOT_ASKED;
    s->asked = false;
    s->wanted.n_notices = 0;
    pm_supervisor_fall_begins(core);
    pm_report_next_epoch(&s->seen, s->wanted.epoch);
    s->starting_ns = core->now_ns;
    s->running_ns = 0;
    s->wait_ns = UINT64_MAX;
    s->wireup_logged = false;
    s->lines = 0;
    s->status = 0;
}

static void enter_starting(struct pm_core *core, enum pm_state from)
{
    struct pm_supervisor *s = core->supervisor;
    if (from == PM_STATE_PLACING) {
        s->wanted.epoch++;
        s->wanted.restart_cause = s->cause.cause;
        s->wanted.restart_rank = s->cause.rank;
    }
    epoch_begins(core);
    s->wanted.map_version = core->world.map_version;
    s->wanted.host = core->world.node_of_rank[0];
    s->wanted.port = s->seen.port_serial > s->last_port_serial ? s->seen.port : 0;
    s->wanted.have_nodelist = s->nodelist != NULL;
    s->last_port = s->wanted.port;
    s->last_port_serial = s->seen.port_serial;
    pm_supervisor_want(core, PM_PHASE_START);
    pm_supervisor_arm(core, core->config.options->start_timeout_ms);
}

static enum pm_input starting(struct pm_core *core)
{
    struct pm_supervisor *s = core->supervisor;
    if (s->seen.cannot_node != UINT32_MAX)
        return cannot_start(core);
    return pm_supervisor_all_in(core, &s->seen.marks[PM_MARK_STARTED]) ? PM_IN_STARTED : PM_IN_NONE;
}

static void stuck(struct pm_core *core, const struct pm_set *set, const char *what, uint64_t ms)
{
    struct pm_supervisor *s = core->supervisor;
    char nodes[PM_TEXT_CAP], text[32];
    (void)pm_supervisor_refuse(core,
                 s->wanted.epoch || s->state != PM_STATE_STARTING ? PM_EXIT_LOST
                                                                  : PM_EXIT_CANNOT_SUPERVISE,
                 "pm-supervise: epoch %u: %s did not %s within %s; stopping", s->wanted.epoch,
                 pm_supervisor_missing(core, set, nodes, sizeof(nodes)), what,
                 pm_duration_format(ms, text, sizeof(text)));
}

// --- RUNNING -----------------------------------------------------------------------------------

static void enter_running(struct pm_core *core, enum pm_state from)
{
    (void)from;
    struct pm_supervisor *s = core->supervisor;
    char text[32];
    pm_set_clear(&s->movers);
    uint64_t since = s->decided_ns ? s->decided_ns : s->starting_ns;
    s->running_ns = core->now_ns;
    (void)pm_duration_format((core->now_ns - since) / PM_MS, text, sizeof(text));
    if (s->wanted.epoch)
        pm_say(core, "pm-supervise: epoch %u running after %s", s->wanted.epoch, text);
    else
        pm_say_verbose(core, "pm-supervise: epoch 0 running after %s", text);
}

static void log_wireup(struct pm_core *core)
{
    struct pm_supervisor *s = core->supervisor;
    if (s->wireup_logged || !pm_supervisor_all_in(core, &s->seen.marks[PM_MARK_CONNECTED]))
        return;
    s->wireup_logged = true;
    struct pm_log *log = pm_log_record(core, "wireup");
    log->epoch = s->wanted.epoch;
    log->wireup_ms = (core->now_ns - s->starting_ns) / PM_MS;
}

// --wait begins when the first rank has ended, in STOPPING, too, as long as ranks drain.
static void wait_begins(struct pm_core *core)
{
    struct pm_supervisor *s = core->supervisor;
    if (core->config.wait_ms && s->seen.any_ended && s->wait_ns == UINT64_MAX)
        s->wait_ns = core->now_ns + core->config.wait_ms * PM_MS;
}

static enum pm_input running(struct pm_core *core)
{
    struct pm_supervisor *s = core->supervisor;
    log_wireup(core);
    wait_begins(core);
    return pm_supervisor_all_in(core, &s->seen.marks[PM_MARK_ENDED]) ? PM_IN_ENDED : PM_IN_NONE;
}

static void wait_is_over(struct pm_core *core)
{
    char text[32], nodes[PM_TEXT_CAP];
    struct pm_supervisor *s = core->supervisor;
    s->wait_ns = UINT64_MAX;
    if (s->state == PM_STATE_STOPPING) {
        pm_supervisor_drain_wait_over(core);
        return;
    }
    (void)pm_supervisor_refuse(
        core, PM_EXIT_WAIT_OVER,
        "pm-supervise: ranks on %s still run %s after the first rank ended (--wait); stopping",
        pm_supervisor_missing(core, &s->seen.marks[PM_MARK_ENDED], nodes, sizeof(nodes)),
        pm_duration_format(core->config.wait_ms, text, sizeof(text)));
    (void)pm_supervisor_fire(core, PM_IN_WAIT_OVER);
}

void pm_supervisor_rank_stuck(struct pm_core *core, uint32_t rank)
{
    char text[32];
    (void)pm_supervisor_refuse(core, PM_EXIT_LOST, "pm-supervise: rank %u did not start again within %s; stopping",
                 rank,
                 pm_duration_format(core->config.options->start_timeout_ms, text, sizeof(text)));
    (void)pm_supervisor_fire(core, PM_IN_STOP);
}

// --- HALTING, PLACING --------------------------------------------------------------------------

static uint64_t halt_bound_ms(const struct pm_core *core)
{
    const struct pm_options *o = core->config.options;
    return o->grace_ms + PM_REAP_MS + o->node_timeout_ms + 1000;
}

static void enter_halting(struct pm_core *core, enum pm_state from)
{
    (void)from;
    struct pm_supervisor *s = core->supervisor;
    s->decided_ns = core->now_ns;
    pm_supervisor_again_forget(core);
    pm_collective_epoch_over(core, s->wanted.epoch);
    pm_supervisor_want(core, PM_PHASE_HALT);
    pm_supervisor_arm(core, halt_bound_ms(core));
}

// A dead node counts only when no process of it can run any more.
static enum pm_input halting(struct pm_core *core)
{
    struct pm_supervisor *s = core->supervisor;
    const struct pm_set *dead = pm_dead_nodes(core);
    const struct pm_set *halted = &s->seen.marks[PM_MARK_HALTED];
    pm_supervisor_ask_spares(core);
    if (!pm_supervisor_all_in(core, halted))
        return PM_IN_NONE;
    for (uint32_t node = pm_set_next(dead, 0); node != UINT32_MAX;
         node = pm_set_next(dead, node + 1))
        if (pm_set_has(&core->world.hosts, node) && !pm_set_has(halted, node) &&
            !pm_lease_over(core, node))
            return PM_IN_NONE;
    return PM_IN_HALTED;
}

static uint64_t place_bound_ms(const struct pm_core *core)
{
    const struct pm_options *o = core->config.options;
    return core->supervisor->backoff_ms + PM_PORT_WAIT_MS + 2 * o->node_timeout_ms +
           o->orphan_timeout_ms + pm_supervisor_fence_off_ms(core) + pm_supervisor_ask_ms(core);
}

static void enter_placing(struct pm_core *core, enum pm_state from)
{
    (void)from;
    struct pm_supervisor *s = core->supervisor;
    s->halted_ns = s->ready_ns = s->judged_ns = core->now_ns;
    s->place_ns = s->decided_ns + s->backoff_ms * PM_MS;
    pm_supervisor_arm(core, place_bound_ms(core));
}

void pm_supervisor_more_time(struct pm_core *core)
{
    enum pm_state state = core->supervisor->state;
    if (state == PM_STATE_HALTING)
        pm_supervisor_arm(core, halt_bound_ms(core));
    if (state == PM_STATE_PLACING)
        pm_supervisor_arm(core, place_bound_ms(core));
    if (state == PM_STATE_STOPPING)
        pm_supervisor_stop_waits(core);
}

// Every node to be used has answered since the decision: it has reported the halt of this epoch.
static enum pm_input placing(struct pm_core *core)
{
    struct pm_supervisor *s = core->supervisor;
    if (!pm_set_empty(&s->fencing))
        return PM_IN_NONE;
    enum pm_input input = pm_supervisor_rehouse(core);
    if (input != PM_IN_NONE || pm_supervisor_homeless(core, UINT32_MAX))
        return input;
    if (core->now_ns < s->place_ns ||
        pm_set_intersects(&core->world.hosts, pm_suspect_nodes(core)) ||
        !pm_supervisor_port_is_here(core))
        return PM_IN_NONE;
    return PM_IN_PLACED;
}

// --- tables ------------------------------------------------------------------------------------

void (*const pm_supervisor_enter[PM_STATE_MAX])(struct pm_core *core, enum pm_state from) = {
    [PM_STATE_STARTING] = enter_starting,
    [PM_STATE_RUNNING] = enter_running,
    [PM_STATE_HALTING] = enter_halting,
    [PM_STATE_PLACING] = enter_placing,
    [PM_STATE_FINISHING] = pm_supervisor_enter_finishing,
    [PM_STATE_STOPPING] = pm_supervisor_enter_stopping,
    [PM_STATE_DONE] = pm_supervisor_enter_done,
};

// Stopping goes in stages of its own.
static enum pm_input ending(struct pm_core *core)
{
    if (pm_supervisor_quiet(core))
        pm_supervisor_end_next(core, PM_END_SHIMS);
    else if (core->supervisor->wanted.phase == PM_PHASE_DRAIN)
        wait_begins(core);
    return PM_IN_NONE;
}

static enum pm_input (*const conditions[PM_STATE_MAX])(struct pm_core *core) = {
    [PM_STATE_FORMING] = forming, [PM_STATE_STARTING] = starting, [PM_STATE_RUNNING] = running,
    [PM_STATE_HALTING] = halting, [PM_STATE_PLACING] = placing,   [PM_STATE_FINISHING] = ending,
    [PM_STATE_STOPPING] = ending,
};

enum pm_input pm_supervisor_condition(struct pm_core *core)
{
    struct pm_supervisor *s = core->supervisor;
    return conditions[s->state] ? conditions[s->state](core) : PM_IN_NONE;
}

static enum pm_end_stage next_stage(const struct pm_supervisor *s)
{
    static const enum pm_end_stage next[] = {
        [PM_END_NONE] = PM_END_SHIMS,   [PM_END_WAIT] = PM_END_SHIMS,
        [PM_END_KILL] = PM_END_SHIMS,   [PM_END_SHIMS] = PM_END_STEP,
        [PM_END_STEP] = PM_END_GIVE_UP, [PM_END_GIVE_UP] = PM_END_GIVE_UP,
    };
    bool drained = s->end == PM_END_WAIT && s->wanted.phase == PM_PHASE_DRAIN;
    return drained ? PM_END_KILL : next[s->end];
}

void pm_supervisor_timed_out(struct pm_core *core)
{
    struct pm_supervisor *s = core->supervisor;
    switch (s->state) {
    case PM_STATE_FORMING:
        forming_timed_out(core);
        break;
    case PM_STATE_STARTING:
        stuck(core, &s->seen.marks[PM_MARK_STARTED], "start all ranks", s->timer_ms);
        break;
    case PM_STATE_HALTING:
        stuck(core, &s->seen.marks[PM_MARK_HALTED], "halt", s->timer_ms);
        break;
    case PM_STATE_PLACING:
        (void)pm_supervisor_refuse(core, PM_EXIT_LOST,
                     "pm-supervise: it stays unclear whether all nodes are alive; stopping");
        break;
    case PM_STATE_FINISHING:
    case PM_STATE_STOPPING:
        pm_supervisor_end_next(core, next_stage(s));
        return;
    default:
        return;
    }
    (void)pm_supervisor_fire(core, PM_IN_TIMEOUT);
}

// --- timers beside the state's -----------------------------------------------------------------

static uint64_t after(uint64_t from_ns, uint64_t ms)
{
    return from_ns + ms * PM_MS;
}

static uint64_t earlier(uint64_t a_ns, uint64_t b_ns)
{
    return a_ns < b_ns ? a_ns : b_ns;
}

static uint64_t forming_deadline_ns(const struct pm_supervisor *s)
{
    // Once all are here: a port, then, from time to time, a spare that is a suspect or has to be lost.
    if (s->ready_ns && s->judged_ns < after(s->ready_ns, PM_PORT_WAIT_MS))
        return after(s->ready_ns, PM_PORT_WAIT_MS);
    if (s->ready_ns)
        return after(s->judged_ns, PM_PLACE_POLL_MS);
    if (!s->first_join_ns || !s->launched)
        return UINT64_MAX;
    uint64_t window = after(s->first_join_ns, s->join_window_ms);
    return s->named_late ? window : earlier(window, after(s->first_join_ns, PM_NAME_LATE_MS));
}

// The backoff has its time; port and end of a suspicion are looked for.
static uint64_t placing_deadline_ns(const struct pm_supervisor *s)
{
    uint64_t due = after(s->judged_ns, PM_PLACE_POLL_MS);
    return s->place_ns > s->judged_ns ? earlier(due, s->place_ns) : due;
}

static uint64_t stopping_deadline_ns(const struct pm_supervisor *s)
{
    if (s->wanted.phase == PM_PHASE_DRAIN)
        return s->wait_ns;
    return s->relaunch && s->srun_exited ? after(s->judged_ns, PM_PLACE_POLL_MS) : UINT64_MAX;
}

uint64_t pm_supervisor_side_deadline_ns(const struct pm_supervisor *s)
{
    switch (s->state) {
    case PM_STATE_FORMING:
        return forming_deadline_ns(s);
    case PM_STATE_RUNNING:
        return s->wait_ns;
    case PM_STATE_PLACING:
        return placing_deadline_ns(s);
    case PM_STATE_STOPPING:
        return stopping_deadline_ns(s);
    default:
        return UINT64_MAX;
    }
}

static void forming_timers(struct pm_core *core)
{
    struct pm_supervisor *s = core->supervisor;
    if (!s->first_join_ns || !s->launched || s->ready_ns)
        return;
    uint64_t window_ns = after(s->first_join_ns, s->join_window_ms);
    if (core->now_ns > window_ns + core->config.options->node_timeout_ms * PM_MS / 8) {
        s->first_join_ns = core->now_ns; // we slept: give them their time again
        return;
    }
    if (!s->named_late && core->now_ns >= after(s->first_join_ns, PM_NAME_LATE_MS)) {
        s->named_late = true;
        name_late(core);
    }
    if (core->now_ns >= window_ns)
        pm_supervisor_timed_out(core);
}

void pm_supervisor_side_timers(struct pm_core *core)
{
    struct pm_supervisor *s = core->supervisor;
    s->judged_ns = core->now_ns;
    if (s->state == PM_STATE_FORMING)
        forming_timers(core);
    bool waits = s->state == PM_STATE_RUNNING || s->wanted.phase == PM_PHASE_DRAIN;
    if (waits && core->now_ns >= s->wait_ns)
        wait_is_over(core);
}
