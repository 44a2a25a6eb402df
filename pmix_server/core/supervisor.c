// SPDX-License-Identifier: Apache-2.0
//
// The world's life at the coordinator: one table of transitions, one timer per state.
//
// Whatever happens is turned into an input; (state, input) is looked up in `transitions`; a pair
// that is not there changes nothing. Each transition is logged once. After every event the
// condition that the present state waits for is looked at, until nothing moves; then the wanted
// state is sent, once.
#include "pmix_server/core/supervisor.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "pmix_server/wire/hostlist.h"

static const struct transition {
    enum pm_state from;
    enum pm_input input;
    enum pm_state to;
} transitions[] = {
    {PM_STATE_FORMING, PM_IN_JOINED, PM_STATE_STARTING},
    {PM_STATE_FORMING, PM_IN_REFUSED, PM_STATE_STOPPING},
    {PM_STATE_FORMING, PM_IN_STOP, PM_STATE_STOPPING},
    {PM_STATE_FORMING, PM_IN_USER, PM_STATE_STOPPING},
    {PM_STATE_FORMING, PM_IN_TIMEOUT, PM_STATE_STOPPING},
    {PM_STATE_FORMING, PM_IN_OVER, PM_STATE_DONE},

    {PM_STATE_STARTING, PM_IN_STARTED, PM_STATE_RUNNING},
    {PM_STATE_STARTING, PM_IN_WORLD, PM_STATE_HALTING},
    {PM_STATE_STARTING, PM_IN_STOP, PM_STATE_STOPPING},
    {PM_STATE_STARTING, PM_IN_REFUSED, PM_STATE_STOPPING},
    {PM_STATE_STARTING, PM_IN_USER, PM_STATE_STOPPING},
    {PM_STATE_STARTING, PM_IN_TIMEOUT, PM_STATE_STOPPING},
    {PM_STATE_STARTING, PM_IN_OVER, PM_STATE_DONE},

    {PM_STATE_RUNNING, PM_IN_ENDED, PM_STATE_FINISHING},
    {PM_STATE_RUNNING, PM_IN_WORLD, PM_STATE_HALTING},
    {PM_STATE_RUNNING, PM_IN_STOP, PM_STATE_STOPPING},
    {PM_STATE_RUNNING, PM_IN_USER, PM_STATE_STOPPING},
    {PM_STATE_RUNNING, PM_IN_WAIT_OVER, PM_STATE_STOPPING},
    {PM_STATE_RUNNING, PM_IN_OVER, PM_STATE_DONE},

    {PM_STATE_HALTING, PM_IN_HALTED, PM_STATE_PLACING},
    {PM_STATE_HALTING, PM_IN_STOP, PM_STATE_STOPPING},
    {PM_STATE_HALTING, PM_IN_USER, PM_STATE_STOPPING},
    {PM_STATE_HALTING, PM_IN_TIMEOUT, PM_STATE_STOPPING},
    {PM_STATE_HALTING, PM_IN_OVER, PM_STATE_DONE},

    {PM_STATE_PLACING, PM_IN_PLACED, PM_STATE_STARTING},
    {PM_STATE_PLACING, PM_IN_REFUSED, PM_STATE_STOPPING},
    {PM_STATE_PLACING, PM_IN_STOP, PM_STATE_STOPPING},
    {PM_STATE_PLACING, PM_IN_USER, PM_STATE_STOPPING},
    {PM_STATE_PLACING, PM_IN_TIMEOUT, PM_STATE_STOPPING},
    {PM_STATE_PLACING, PM_IN_OVER, PM_STATE_DONE},

    {PM_STATE_FINISHING, PM_IN_OVER, PM_STATE_DONE},
    {PM_STATE_STOPPING, PM_IN_OVER, PM_STATE_DONE},
};

const char *pm_input_name(enum pm_input input)
{
    static const char *const names[PM_IN_MAX] = {
        [PM_IN_NONE] = "none",           [PM_IN_JOINED] = "joined",
        [PM_IN_REFUSED] = "refused",     [PM_IN_STARTED] = "started",
        [PM_IN_ENDED] = "ended",         [PM_IN_WORLD] = "restart-world",
        [PM_IN_STOP] = "stop",           [PM_IN_USER] = "user-stop",
        [PM_IN_HALTED] = "halted",       [PM_IN_PLACED] = "placed",
        [PM_IN_WAIT_OVER] = "wait-over", [PM_IN_TIMEOUT] = "timeout",
        [PM_IN_OVER] = "srun-exited",
    };
    assert(input < PM_IN_MAX);
    return names[input];
}

enum pm_state pm_supervisor_state(const struct pm_supervisor *s)
{
    return s->state;
}

uint32_t pm_supervisor_epoch(const struct pm_supervisor *s)
{
    return s->wanted.epoch;
}

// --- sets and names ----------------------------------------------------------------------------

// Nodes that count, less those in `set` and the dead ones, into a zeroed *ret.
static void subtract(struct pm_core *core, const struct pm_set *set, struct pm_set *ret)
{
    const struct pm_supervisor *s = core->supervisor;
    int rc = core->world_known     ? pm_set_copy(ret, &core->world.hosts)
             : s->nnodes > 0 ? pm_set_add_span(ret, 0, s->nnodes - 1)
                             : 0;
    if (rc < 0 || pm_set_subtract(ret, set) < 0 || pm_set_subtract(ret, pm_dead_nodes(core)) < 0)
        core->out->error = -ENOMEM;
}

bool pm_supervisor_all_in(struct pm_core *core, const struct pm_set *set)
{
    const struct pm_supervisor *s = core->supervisor;
    struct pm_set missing = {0};
    if (core->world_known && pm_set_covers(set, &core->world.hosts))
        return true;
    if (!core->world_known && set->n == 1 && set->spans[0].first == 0 &&
        set->spans[0].last + 1 == s->nnodes)
        return true;
    if (pm_set_empty(pm_dead_nodes(core)))
        return false;
    subtract(core, set, &missing);
    bool yes = pm_set_empty(&missing);
    pm_set_done(&missing);
    return yes;
}

const char *pm_supervisor_host(const struct pm_core *core, uint32_t node, char *buf)
{
    const char *list = core->supervisor->nodelist;
    if (!list || pm_hostlist_nth(list, node, buf, PM_TEXT_CAP) < 0)
        (void)snprintf(buf, PM_TEXT_CAP, "node #%u", node);
    return buf;
}

char *pm_supervisor_names(const struct pm_core *core, const struct pm_set *nodes, char *buf,
                          size_t cap)
{
    uint32_t named = 0, more = 0;
    size_t len = 0;
    buf[0] = '\0';
    for (uint32_t node = pm_set_next(nodes, 0); node != UINT32_MAX;
         node = pm_set_next(nodes, node + 1)) {
        char host[PM_TEXT_CAP];
        if (named == 3 || len + 1 >= cap) {
            more++;
            continue;
        }
        int n = snprintf(buf + len, cap - len, "%s%s", named++ ? ", " : "",
                         pm_supervisor_host(core, node, host));
        len += n > 0 ? (size_t)n : 0;
    }
    if (more && len + 1 < cap)
        (void)snprintf(buf + len, cap - len, " and %u more", more);
    return buf;
}

char *pm_supervisor_missing(struct pm_core *core, const struct pm_set *set, char *buf, size_t cap)
{
    struct pm_set missing = {0};
    subtract(core, set, &missing);
    (void)pm_supervisor_names(core, &missing, buf, cap);
    pm_set_done(&missing);
    return buf;
}

// --- the table at work -------------------------------------------------------------------------

void pm_supervisor_arm(struct pm_core *core, uint64_t ms)
{
    struct pm_supervisor *s = core->supervisor;
    s->timer_ms = ms;
    s->deadline_ns = core->now_ns + ms * PM_MS;
}

void pm_supervisor_want(struct pm_core *core, enum pm_phase phase)
{
    struct pm_supervisor *s = core->supervisor;
    s->wanted.phase = phase;
    s->wanted_dirty = true;
}

static uint64_t span_ms(uint64_t from_ns, uint64_t to_ns)
{
    return from_ns && to_ns > from_ns ? (to_ns - from_ns) / PM_MS : 0;
}

static void log_transition(struct pm_core *core, enum pm_state from, enum pm_input input)
{
    const struct pm_supervisor *s = core->supervisor;
    struct pm_log *log = pm_log_record(core, "state");
    log->epoch = s->wanted.epoch;
    log->from = pm_state_name(from);
    log->to = pm_state_name(s->state);
    log->restarts = s->restarts;
    pm_text_copy(log->reason, sizeof(log->reason), pm_input_name(input));
    if (s->state == PM_STATE_PLACING || s->state == PM_STATE_RUNNING)
        log->halt_ms = span_ms(s->decided_ns, s->halted_ns);
    if (s->state == PM_STATE_RUNNING) {
        log->place_ms = span_ms(s->halted_ns, s->starting_ns);
        log->start_ms = span_ms(s->starting_ns, core->now_ns);
    }
}

bool pm_supervisor_fire(struct pm_core *core, enum pm_input input)
{
    struct pm_supervisor *s = core->supervisor;
    for (size_t i = 0; i < sizeof(transitions) / sizeof(transitions[0]); i++) {
        if (transitions[i].from != s->state || transitions[i].input != input)
            continue;
        enum pm_state from = s->state;
        s->state = transitions[i].to;
        s->deadline_ns = UINT64_MAX;
        pm_supervisor_enter[s->state](core, from);
        log_transition(core, from, input);
        return true;
    }
    return false;
}

static void send_wanted(struct pm_core *core, uint32_t child)
{
    struct pm_writer w = {0};
    pm_write_u8(&w, PM_FRAME_WANTED);
    pm_write_wanted(&w, &core->supervisor->wanted);
    if (w.error)
        core->out->error = w.error;
    else if (child == PM_NODE_COORDINATOR)
        pm_send_children(core, &w);
    else
        (void)pm_send_child(core, child, &w);
    pm_writer_done(&w);
}

// A node that cannot reap its ranks is out: SIGKILL is pending there, no user code runs again. Not
// done where it is noticed, since membership.c tells us of the death at once.
static void declare_condemned(struct pm_core *core)
{
    struct pm_supervisor *s = core->supervisor;
    while (!pm_set_empty(&s->condemned)) {
        struct pm_set condemned = s->condemned;
        s->condemned = (struct pm_set){0};
        for (uint32_t node = pm_set_next(&condemned, 0); node != UINT32_MAX;
             node = pm_set_next(&condemned, node + 1))
            if (!pm_set_has(pm_dead_nodes(core), node))
                pm_membership_declare(core, node, PM_CAUSE_NODE_LOST);
        pm_set_done(&condemned);
    }
}

static void over(struct pm_core *core)
{
    const struct pm_supervisor *s = core->supervisor;
    if (s->srun_exited && s->state != PM_STATE_DONE && !pm_supervisor_awaits_reason(core) && !pm_supervisor_holds(core))
        (void)pm_supervisor_fire(core, PM_IN_OVER);
}

// Follows the conditions as far as they lead, then tells everybody.
void pm_supervisor_settle(struct pm_core *core)
{
    struct pm_supervisor *s = core->supervisor;
    over(core);
    for (enum pm_input input; (input = pm_supervisor_condition(core)) != PM_IN_NONE;) {
        bool fired = pm_supervisor_fire(core, input);
        assert(fired); // a state waits for nothing that its rows do not know
        (void)fired;
    }
    over(core);
    declare_condemned(core);
    if (!s->wanted_dirty || s->state == PM_STATE_DONE)
        return;
    s->wanted_dirty = false;
    s->wanted.version++;
    s->wanted.view = pm_view(core);
    send_wanted(core, PM_NODE_COORDINATOR);
}

// --- timers ------------------------------------------------------------------------------------

// While we doubt our own view of the world no timer of it counts; but a step that ends has to end,
// whatever we see of it.
static bool timers_stand_still(const struct pm_supervisor *s)
{
    return s->isolated && s->end == PM_END_NONE;
}

uint64_t pm_supervisor_deadline_ns(const struct pm_supervisor *s)
{
    if (s->state == PM_STATE_DONE || timers_stand_still(s))
        return UINT64_MAX;
    uint64_t due = s->deadline_ns;
    uint64_t side = pm_supervisor_side_deadline_ns(s);
    uint64_t pending = pm_supervisor_again_deadline_ns(s);
    due = side < due ? side : due;
    return pending < due ? pending : due;
}

// A judge whose own timer came much too late was asleep (SIGSTOP, suspended host) and winds it up
// again; not at the end of the step, where nobody is judged and a busy host may always be late.
static void on_timer(struct pm_core *core)
{
    struct pm_supervisor *s = core->supervisor;
    if (timers_stand_still(s))
        return;
    if (core->now_ns >= s->deadline_ns) {
        uint64_t late_ms = (core->now_ns - s->deadline_ns) / PM_MS;
        bool slept = late_ms > core->config.options->node_timeout_ms / 8;
        if (slept && s->end == PM_END_NONE)
            pm_supervisor_arm(core, s->timer_ms);
        else
            pm_supervisor_timed_out(core);
    }
    pm_supervisor_side_timers(core);
    pm_supervisor_again_due(core);
}

// --- events ------------------------------------------------------------------------------------

static void on_launched(struct pm_core *core, const struct pm_event *event)
{
    struct pm_supervisor *s = core->supervisor;
    if (s->launched)
        return;
    s->launched = true;
    s->nnodes = event->nnodes;
    s->ntasks = s->nranks = event->ntasks;
    uint32_t spares = core->config.options->spares;
    s->first_spare = spares < s->nnodes ? s->nnodes - spares : s->nnodes;
    pm_supervisor_arm(core, core->config.options->start_timeout_ms);
}

void pm_supervisor_event(struct pm_core *core, const struct pm_event *event)
{
    struct pm_supervisor *s = core->supervisor;
    switch (event->type) {
    case PM_EVENT_LAUNCHED:
        on_launched(core, event);
        break;
    case PM_EVENT_STOP:
        s->ranks_untold |= event->flag_untold && !s->user_stop;
        pm_supervisor_user_insists(core, event->signal);
        pm_supervisor_user_stop(core, event->signal);
        break;
    case PM_EVENT_SRUN_EXITED:
        pm_supervisor_srun_exited(core, event->wait_status);
        break;
    case PM_EVENT_FENCED_OFF:
        pm_supervisor_fenced_off(core, event);
        break;
    case PM_EVENT_NODE_STATES:
        pm_supervisor_node_states(core, event);
        break;
    case PM_EVENT_BOOTED:
        pm_supervisor_booted(core, event);
        break;
    case PM_EVENT_OUTPUT_READ:
        pm_supervisor_output_read(core);
        break;
    case PM_EVENT_SAY:
        pm_say(core, "%s", event->text ? event->text : "");
        break;
    case PM_EVENT_TIMER:
        on_timer(core);
        break;
    default:
        return;
    }
    pm_supervisor_settle(core);
}

// --- the tree ----------------------------------------------------------------------------------

void pm_supervisor_on_child(struct pm_core *core, uint32_t child)
{
    struct pm_supervisor *s = core->supervisor;
    if (s->map_frame) {
        struct pm_writer w = {.data = s->map_frame, .len = s->map_len, .cap = s->map_len};
        (void)pm_send_child(core, child, &w);
    }
    if (s->wanted.version)
        send_wanted(core, child);
}

void pm_supervisor_on_child_gone(struct pm_core *core, uint32_t child)
{
    (void)core;
    (void)child; // not a death; what it had reported stays true
}

void pm_supervisor_on_node_dead(struct pm_core *core, uint32_t node, enum pm_cause cause)
{
    struct pm_supervisor *s = core->supervisor;
    struct pm_failure failure = {
        .node = node, .rank = PM_RANK_NONE, .epoch = s->wanted.epoch, .cause = cause};
    uint64_t silent_ms = pm_silent_ms(core, node);
    char time[32];
    if (s->state == PM_STATE_DONE)
        return;
    if (pm_set_remove(&s->retired, node) < 0 || pm_set_remove(&s->blamed, node) < 0)
        core->out->error = -ENOMEM;
    const char *proof = pm_death_proof(core, node);
    pm_text_copy(failure.text, sizeof(failure.text), proof);
    if (silent_ms)
        (void)snprintf(failure.text, sizeof(failure.text), "nothing was heard of it for %s%s",
                       pm_duration_format(silent_ms, time, sizeof(time)), pm_was_silent(core, node) ? PM_NO_ANSWER : proof);
    pm_supervisor_fence_off(core, node, cause);
    if (!pm_supervisor_knows(core, &failure))
        pm_supervisor_failure(core, &failure, 0);
    pm_supervisor_settle(core);
}

void pm_supervisor_on_isolated(struct pm_core *core, bool isolated)
{
    struct pm_supervisor *s = core->supervisor;
    if (timers_stand_still(s) && !isolated && s->deadline_ns != UINT64_MAX)
        pm_supervisor_arm(core, s->timer_ms);
    s->isolated = isolated;
}
