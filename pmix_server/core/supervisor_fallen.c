// SPDX-License-Identifier: Apache-2.0
//
// srun has ended, and the step with it, although neither we nor the user wanted that.
//
// srun gives a whole step up, --no-kill or not, when a node of it has been reset: its connection ends with a reset, and
// slurmctld says that the step is missing there. To the tree that looks like `scancel --signal=KILL`: everything dies at
// once. Slurm knows the difference, a node of the step that has booted and is back just now, so with --pm-relaunch it is
// asked, once, and whether the step is launched again is not decided before it has answered. With such a node it is,
// without the nodes that were reset, were silent, or had been lost before this epoch; those whose processes were only
// killed with the step are as good as ever, those too whom nobody could dial, as who was to do so had died. Silent ones
// stay out only as far as the job has others: in the middle of it all an address that does not answer proves little.
// Without a node that was reset, or without an answer, the step stays dead.
//
// Where the site fences lost nodes off, those that only seemed lost may be switched off, now or before the launch: all dead
// ones are out.
#include "pmix_server/core/supervisor.h"

#include <errno.h>
#include <stdio.h>

// srun gives up at once when it hears of a node that is back, at the latest after MessageTimeout. It ends when the tasks that
// it killed have, KillWait later, and in a stop that we have decided on meanwhile anything may take its time.
#define JUST_NOW_MS 60000u

static void need(struct pm_core *core, int rc)
{
    if (rc < 0)
        core->out->error = rc;
}

void pm_supervisor_fall_begins(struct pm_core *core)
{
    struct pm_supervisor *s = core->supervisor;
    need(core, pm_set_copy(&s->fall.before, &s->wanted.lost));
    s->fall.begun_ns = core->now_ns;
}

void pm_supervisor_retire(struct pm_core *core, uint32_t node)
{
    struct pm_supervisor *s = core->supervisor;
    need(core, pm_set_add(&s->retired, node));
    need(core, pm_set_add(&s->fall.before, node)); // it is dead, too, when the step is
}

// Has the job a node for the next launch in place of one more that stays out?
static bool job_has_another(const struct pm_core *core, const struct pm_set *out)
{
    const struct pm_core_config *c = &core->config;
    return c->job_nodes > c->legacy.nodes_out + pm_set_count(out) + core->supervisor->nnodes;
}

void pm_supervisor_fallen_out(const struct pm_core *core, struct pm_set *ret)
{
    const struct pm_supervisor *s = core->supervisor;
    const struct pm_set *dead = pm_dead_nodes(core);
    int rc = pm_set_copy(ret, &s->fall.before);
    if (rc == 0)
        rc = pm_set_union(ret, &s->fall.reset);
    bool all = core->config.options->fence[0] != '\0';
    for (uint32_t node = pm_set_next(dead, 0); rc == 0 && node != UINT32_MAX; node = pm_set_next(dead, node + 1))
        if (all || (pm_was_silent(core, node) && (pm_set_has(ret, node) || job_has_another(core, ret))))
            rc = pm_set_add(ret, node);
    if (rc < 0)
        core->out->error = rc;
}

// What the step is being stopped for, if it is, must be the loss of a node.
static bool may_be_launched_again(const struct pm_core *core)
{
    const struct pm_supervisor *s = core->supervisor;
    const struct pm_core_config *c = &core->config;
    if (c->legacy.relaunches >= c->options->relaunch || c->no_relaunch || s->user_stop ||
        s->state == PM_STATE_FORMING || s->state == PM_STATE_FINISHING)
        return false;
    bool for_loss = pm_cause_is_loss(s->cause.cause) && !s->stop_line[0] && !s->fall.forbidden;
    return s->state != PM_STATE_STOPPING || s->relaunch || for_loss;
}

static void ask(struct pm_core *core)
{
    struct pm_supervisor *s = core->supervisor;
    struct pm_set nodes = {0};
    struct pm_writer w = {0};
    need(core, pm_set_add_span(&nodes, 0, s->nnodes - 1));
    pm_write_set(&w, &nodes);
    need(core, w.error);
    struct pm_action *a = pm_emit(core, PM_ACTION_ASK_BOOTED);
    pm_action_set_data(core, a, w.data, w.len);
    a->timeout_ms = JUST_NOW_MS + (s->state == PM_STATE_STOPPING ? (core->now_ns - s->fall.since_ns) / PM_MS : 0);
    s->fall.slurm = PM_SLURM_ASKED;
    pm_writer_done(&w);
    pm_set_done(&nodes);
}

// Of spares nobody waits to hear.
static bool none_with_ranks_is_left(const struct pm_core *core)
{
    const struct pm_set *hosts = &core->world.hosts, *lost = &core->supervisor->wanted.lost;
    uint32_t node = pm_set_next(hosts, 0);
    while (node != UINT32_MAX && (pm_set_has(lost, node) || pm_set_has(pm_dead_nodes(core), node)))
        node = pm_set_next(hosts, node + 1);
    return node == UINT32_MAX;
}

bool pm_supervisor_all_refused(const struct pm_core *core)
{
    const struct pm_set *hosts = &core->world.hosts;
    uint32_t first = pm_set_next(hosts, 0), node = first;
    while (node != UINT32_MAX && pm_was_refused(core, node))
        node = pm_set_next(hosts, node + 1);
    return first != UINT32_MAX && node == UINT32_MAX;
}

bool pm_supervisor_awaits_reason(struct pm_core *core)
{
    struct pm_supervisor *s = core->supervisor;
    bool fell = s->fall.by_itself || none_with_ranks_is_left(core);
    if (s->srun_exited && fell && s->fall.slurm == PM_SLURM_NOT_ASKED && may_be_launched_again(core))
        ask(core);
    return s->fall.slurm == PM_SLURM_ASKED;
}

// --- the answer ------------------------------------------------------------------------------------

static void stays_dead(struct pm_core *core, const char *why)
{
    struct pm_supervisor *s = core->supervisor;
    if (!s->fall.by_itself || (!s->relaunch && !why[0]))
        return;
    s->relaunch = false;
    pm_say(core, "pm-supervise: the step is not launched again: srun ended by itself (exit code %d)%s",
           pm_policy_exit_of(s->srun_status), why);
}

static uint32_t losses_before(const struct pm_supervisor *s)
{
    uint32_t n = 0;
    while (n < s->n_losses && s->loss_ns[n] <= s->fall.begun_ns)
        n++;
    return n;
}

// The losses of this epoch that were real ones; that of a spare which has just taken over is paid for.
static void count_losses(struct pm_core *core)
{
    struct pm_supervisor *s = core->supervisor;
    struct pm_set out = {0};
    pm_supervisor_fallen_out(core, &out);
    (void)pm_supervisor_losses_used(core);
    uint32_t n = losses_before(s);
    for (uint32_t node = pm_set_next(&out, 0); node != UINT32_MAX; node = pm_set_next(&out, node + 1))
        n += pm_set_has(&core->world.hosts, node) && !pm_set_has(&s->fall.before, node) && !pm_set_has(&s->movers, node);
    pm_set_done(&out);
    // A node whose loss was not heard of yet is one more.
    while (s->n_losses < n && core->out->error == 0)
        pm_supervisor_count_loss(core);
    s->n_losses = s->n_losses < n ? s->n_losses : n;
}

static const char *why_not(struct pm_core *core)
{
    const char *why;
    if (core->supervisor->n_losses > core->config.options->max_node_losses)
        return "--pm-max-node-losses is used up";
    return pm_supervisor_can_relaunch(core, UINT32_MAX, &why) ? NULL : why;
}

// "srun has given the step up (exit code 137), as node2 was reset", or, where srun was ended by us, what else shows it.
static void say_reset(struct pm_core *core, char *buf, size_t cap)
{
    const struct pm_supervisor *s = core->supervisor;
    char names[PM_TEXT_CAP];
    const char *verb = pm_set_count(&s->fall.reset) == 1 ? "was" : "were";
    (void)pm_supervisor_names(core, &s->fall.reset, names, sizeof(names));
    if (!s->fall.by_us)
        (void)snprintf(buf, cap, "srun has given the step up (exit code %d), as %.100s %s reset",
                       pm_policy_exit_of(s->srun_status), names, verb);
    else
        (void)snprintf(buf, cap, "no node of the step was left, and %.100s %s reset", names, verb);
}

static void tell(struct pm_core *core, const char *why)
{
    const struct pm_supervisor *s = core->supervisor;
    char what[PM_TEXT_CAP];
    struct pm_log *log = pm_log_record(core, "decision");
    log->epoch = s->wanted.epoch;
    log->node = s->cause.node;
    log->cause = s->cause.cause;
    log->action = pm_verdict_name(why ? PM_VERDICT_STOP : PM_VERDICT_RELAUNCH);
    log->restarts = s->restarts;
    say_reset(core, log->reason, sizeof(log->reason));
    if (why)
        (void)snprintf(what, sizeof(what), "; it is not launched again: %s", why);
    else
        (void)snprintf(what, sizeof(what), ": launching it again on other nodes of the job (launch %u of %u)",
                       core->config.legacy.relaunches + 2, core->config.options->relaunch + 1);
    pm_say(core, "pm-supervise: %s%s", log->reason, what);
}

static void was_given_up(struct pm_core *core)
{
    struct pm_supervisor *s = core->supervisor;
    s->fall.given_up = true;
    count_losses(core);
    s->cause = (struct pm_failure){.node = pm_set_next(&s->fall.reset, 0), .rank = PM_RANK_NONE,
                                   .epoch = s->wanted.epoch, .cause = PM_CAUSE_NODE_LOST};
    const char *why = why_not(core);
    s->relaunch = !why;
    tell(core, why);
    if (why)
        return;
    s->status = PM_EXIT_LOST; // if nothing comes of it
    (void)pm_supervisor_fire(core, PM_IN_STOP);
}

void pm_supervisor_booted(struct pm_core *core, const struct pm_event *event)
{
    struct pm_supervisor *s = core->supervisor;
    if (s->fall.slurm != PM_SLURM_ASKED)
        return;
    s->fall.slurm = PM_SLURM_ANSWERED;
    if (event->set && !event->flag_failed)
        need(core, pm_set_copy(&s->fall.reset, event->set));
    if (!may_be_launched_again(core)) // the step has come to another end meanwhile
        return;
    if (!pm_set_empty(&s->fall.reset))
        was_given_up(core);
    else
        stays_dead(core, event->flag_failed ? ", and Slurm does not say whether a node was reset" : "");
}

// How long a step has been stopping says how far back Slurm is asked to look, until it has been asked.
void pm_supervisor_fall_digest(const struct pm_core *core, uint64_t now_ns, struct pm_digest *d)
{
    const struct pm_supervisor *s = core->supervisor;
    const struct pm_fall *f = &s->fall;
    bool may_ask = s->state == PM_STATE_STOPPING && core->config.options->relaunch && f->slurm == PM_SLURM_NOT_ASKED;
    pm_digest_age(d, may_ask ? f->since_ns : 0, now_ns, JUST_NOW_MS * PM_MS);
    pm_digest_set(d, &f->before);
    pm_digest_set(d, &f->reset);
    pm_digest_u64(d, (uint64_t)losses_before(s) << 8 | (uint64_t)f->by_us << 5 | (uint64_t)f->slurm << 3 | (uint64_t)f->by_itself << 2 |
                         (uint64_t)f->given_up << 1 | f->forbidden);
}
