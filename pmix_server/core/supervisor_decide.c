// SPDX-License-Identifier: Apache-2.0
//
// From a failure to a decision: what is known already is dropped, the policy is asked, the budget
// is kept, one line and one log record say what was decided, and the wanted state or the next
// transition carries it out. What fails while a decision is being carried out joins it, unless it
// asks for more.
#include "pmix_server/core/supervisor.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Uptime from which a restart is not "consecutive" any more, when --pm-min-uptime is off.
#define HEALTHY_MS 5000u

static void need(struct pm_core *core, int rc)
{
    if (rc < 0)
        core->out->error = rc;
}

// --- what is known -----------------------------------------------------------------------------

bool pm_supervisor_knows(const struct pm_core *core, const struct pm_failure *failure)
{
    const struct pm_supervisor *s = core->supervisor;
    const struct pm_wanted *wanted = &s->wanted;
    if (s->state == PM_STATE_DONE || wanted->phase == PM_PHASE_END)
        return true;
    if (pm_supervisor_drain_keeps_node(s, failure))
        return pm_set_has(&wanted->dead, failure->rank);
    if (pm_cause_is_loss(failure->cause))
        return pm_set_has(&wanted->lost, failure->node);
    if (failure->epoch != wanted->epoch || s->state == PM_STATE_FORMING)
        return true;
    if (failure->rank == PM_RANK_NONE)
        return pm_set_has(&s->bad_servers, failure->node);
    return failure->incarnation < pm_wanted_incarnation(wanted, failure->rank) ||
           pm_set_has(&wanted->dead, failure->rank) || pm_supervisor_again_waits(s, failure->rank);
}

// A spare that took over and is lost before the world runs is replaced in the decision that it was part of.
static bool was_mover(const struct pm_supervisor *s, uint32_t node)
{
    return pm_set_has(&s->movers, node);
}

// A node of the world that is to be replaced or done without. Its loss is paid for from a budget of its own.
static void count_loss(struct pm_core *core, uint32_t node)
{
    struct pm_supervisor *s = core->supervisor;
    const struct pm_options *o = core->config.options;
    if ((!pm_options_ranks_move(o) && !o->relaunch) || pm_supervisor_is_idle(core, node) || was_mover(s, node) ||
        pm_set_has(&s->retired, node) || s->fall.given_up)
        return;
    pm_supervisor_count_loss(core);
}

void pm_supervisor_count_loss(struct pm_core *core)
{
    struct pm_supervisor *s = core->supervisor;
    uint64_t *times = realloc(s->loss_ns, (s->n_losses + 1u) * sizeof(*times));
    if (!times) {
        core->out->error = -ENOMEM;
        return;
    }
    s->loss_ns = times;
    s->loss_ns[s->n_losses++] = core->now_ns;
}

// The node's ranks are dead with it.
static void remember_loss(struct pm_core *core, const struct pm_failure *failure)
{
    struct pm_supervisor *s = core->supervisor;
    if (failure->cause == PM_CAUSE_UNHEALTHY) {
        pm_supervisor_retire(core, failure->node);
        s->wanted_dirty = true; // an agent reports only some failures at a time
    }
    count_loss(core, failure->node);
    need(core, pm_set_add(&s->wanted.lost, failure->node));
    need(core, pm_set_remove(&s->blamed, failure->node));
    if (failure->cause == PM_CAUSE_NODE_LOST && !pm_set_has(pm_dead_nodes(core), failure->node))
        need(core, pm_set_add(&s->condemned, failure->node));
    if (failure->rank != PM_RANK_NONE && failure->epoch == s->wanted.epoch)
        need(core, pm_set_add(&s->wanted.dead, failure->rank));
    else if (core->world_known) // also where ranks had other numbers when it failed
        need(core, pm_set_union(&s->wanted.dead, &core->world.ranks_of_node[failure->node]));
}

static void remember(struct pm_core *core, const struct pm_failure *failure)
{
    struct pm_supervisor *s = core->supervisor;
    if (pm_cause_is_loss(failure->cause) && !pm_supervisor_drain_keeps_node(s, failure))
        remember_loss(core, failure);
    else if (failure->rank == PM_RANK_NONE)
        need(core, pm_set_add(&s->bad_servers, failure->node));
    else
        need(core, pm_set_add(&s->wanted.dead, failure->rank));
    if (failure->rank != PM_RANK_NONE)
        need(core, pm_wanted_notice(&s->wanted, failure));
}

// --- history -----------------------------------------------------------------------------------

// Forgets times (oldest first) that are out of the window; how many are left.
static uint32_t in_window(uint64_t *times_ns, uint32_t n, uint64_t window_ns, uint64_t now_ns)
{
    uint32_t old = 0;
    while (old < n && times_ns[old] + window_ns <= now_ns)
        old++;
    if (old)
        memmove(times_ns, times_ns + old, (n - old) * sizeof(*times_ns));
    return n - old;
}

static uint32_t restarts_used(struct pm_core *core)
{
    struct pm_supervisor *s = core->supervisor;
    uint64_t window_ns = core->config.options->restart_window_ms * PM_MS;
    if (!window_ns)
        return s->restarts;
    s->n_restart_ns = in_window(s->restart_ns, s->n_restart_ns, window_ns, core->now_ns);
    return s->n_restart_ns;
}

uint32_t pm_supervisor_losses_used(struct pm_core *core)
{
    struct pm_supervisor *s = core->supervisor;
    uint64_t window_ns = core->config.options->node_loss_window_ms * PM_MS;
    if (window_ns)
        s->n_losses = in_window(s->loss_ns, s->n_losses, window_ns, core->now_ns);
    return s->n_losses;
}

// What there is to place, and where: always of now, also for what joins a decision.
static void look_at_places(struct pm_core *core, const struct pm_failure *failure,
                           struct pm_history *history)
{
    struct pm_supervisor *s = core->supervisor;
    uint32_t lost = pm_cause_is_loss(failure->cause) ? failure->node : UINT32_MAX;
    history->can_relaunch = pm_supervisor_can_relaunch(core, lost, &history->no_relaunch);
    struct pm_housing housing = pm_supervisor_housing(core, lost);
    if (housing.gone_nodes && pm_supervisor_pardon(core))
        housing = pm_supervisor_housing(core, lost);
    history->no_house = housing.gone_nodes > 0;
    history->nodes_left = housing.nodes_left;
    history->place_lost = lost == UINT32_MAX && history->no_house &&
                          !pm_policy_may_shrink(core->config.options, history->nodes_left);
    if (lost == UINT32_MAX)
        return;
    history->no_ranks = s->first_spare < s->nnodes && pm_supervisor_is_idle(core, failure->node);
    history->spares = pm_supervisor_n_spares(core, failure->node);
    history->homeless = pm_supervisor_homeless(core, failure->node);
    history->node_losses = was_mover(s, failure->node) ? 0 : pm_supervisor_losses_used(core);
    history->unjoined = s->state == PM_STATE_FORMING && !pm_set_has(&s->seen.joined, failure->node) && !history->no_ranks;
}

// How long what failed had lived: the rank if it fails alone, else its world.
static uint64_t lived_ms(const struct pm_core *core, const struct pm_failure *failure)
{
    const struct pm_supervisor *s = core->supervisor;
    if (core->config.options->mode == PM_MODE_RANK && failure->rank != PM_RANK_NONE &&
        !failure->connected)
        return failure->uptime_ms;
    return (core->now_ns - s->starting_ns) / PM_MS;
}

static struct pm_history history_of(struct pm_core *core, const struct pm_failure *failure)
{
    const struct pm_supervisor *s = core->supervisor;
    bool young = lived_ms(core, failure) < core->config.options->min_uptime_ms;
    return (struct pm_history){
        .restarts = restarts_used(core),
        .start_failures = young ? s->start_failures + 1 : 0,
        .user_stop = s->user_stop,
        .world_over = s->state == PM_STATE_RUNNING && pm_cause_is_loss(failure->cause) &&
                      pm_set_has(&s->seen.marks[PM_MARK_ENDED], failure->node),
    };
}

uint64_t pm_supervisor_healthy_ms(const struct pm_core *core)
{
    const struct pm_options *o = core->config.options;
    uint64_t healthy_ms = o->min_uptime_ms ? o->min_uptime_ms : HEALTHY_MS;
    uint64_t backoff_ms = core->supervisor->backoff_ms;
    return healthy_ms < backoff_ms ? backoff_ms : healthy_ms;
}

// A restart is spent; returns how long to wait before it, ms.
static uint64_t spend_restart(struct pm_core *core, const struct pm_failure *failure,
                              const struct pm_history *history)
{
    struct pm_supervisor *s = core->supervisor;
    const struct pm_options *o = core->config.options;
    bool healthy = lived_ms(core, failure) >= pm_supervisor_healthy_ms(core);
    s->streak = healthy ? 1 : s->streak + 1;
    s->backoff_ms = pm_policy_backoff_ms(o, s->streak);
    s->start_failures = history->start_failures;
    s->restarts++;
    if (!o->restart_window_ms)
        return s->backoff_ms;
    uint64_t *times = realloc(s->restart_ns, (s->n_restart_ns + 1u) * sizeof(*times));
    if (!times) {
        core->out->error = -ENOMEM;
        return s->backoff_ms;
    }
    s->restart_ns = times;
    s->restart_ns[s->n_restart_ns++] = core->now_ns;
    return s->backoff_ms;
}

// --- what is said ------------------------------------------------------------------------------

static void log_failure(struct pm_core *core, const char *kind, const struct pm_failure *failure,
                        const char *action, const char *reason)
{
    struct pm_log *log = pm_log_record(core, kind);
    // What is lost is lost to the epoch of now, though its last rank was of an older one.
    log->epoch = pm_cause_is_loss(failure->cause) ? core->supervisor->wanted.epoch : failure->epoch;
    log->rank = failure->rank;
    log->incarnation = failure->incarnation;
    log->node = failure->node;
    log->pid = failure->pid;
    log->cause = failure->cause;
    log->wait_status = failure->wait_status;
    log->has_status = failure->rank != PM_RANK_NONE && !pm_cause_is_loss(failure->cause);
    log->action = action;
    log->idle = pm_cause_is_loss(failure->cause) && pm_supervisor_does_without(core, failure->node);
    log->restarts = core->supervisor->restarts;
    pm_text_copy(log->reason, sizeof(log->reason), reason);
}

// Decisions about single ranks can be thousands in an epoch; the log has them all.
void pm_supervisor_say_line(struct pm_core *core, const char *line, bool always)
{
    struct pm_supervisor *s = core->supervisor;
    s->lines++;
    if (always || s->lines <= PM_LINES_MAX)
        pm_say(core, "%s", line);
    else
        pm_say_verbose(core, "%s", line);
    if (!always && s->lines == PM_LINES_MAX)
        pm_say(
            core,
            "pm-supervise: further decisions about single ranks of epoch %u are only in --pm-log",
            s->wanted.epoch);
}

static void tell(struct pm_core *core, struct pm_story *story)
{
    char host[PM_TEXT_CAP], why[PM_TEXT_CAP], line[2 * PM_TEXT_CAP];
    const struct pm_verdict *verdict = story->verdict;
    bool single = verdict->action == PM_VERDICT_NOTIFY ||
                  verdict->action == PM_VERDICT_RESTART_RANK ||
                  verdict->action == PM_VERDICT_IGNORE;
    story->host = pm_supervisor_host(core, story->failure->node, host);
    story->nranks = core->supervisor->nranks;
    story->nnodes = core->world_known ? (uint32_t)pm_set_count(&core->world.hosts) : core->supervisor->first_spare;
    if (single)
        story->more = 0;
    if (verdict->action == PM_VERDICT_MOVE_TO_SPARE)
        (void)snprintf(why, sizeof(why), "to %.100s, %u left", story->spare ? story->spare : "a spare",
                       story->spares_left);
    else if (verdict->action == PM_VERDICT_SHRINK)
        (void)snprintf(why, sizeof(why), "%u rank%s and %u node%s less", story->gone_ranks,
                       story->gone_ranks == 1 ? "" : "s", story->gone_nodes, story->gone_nodes == 1 ? "" : "s");
    else if (verdict->why[0] || !story->restart)
        pm_text_copy(why, sizeof(why), verdict->why);
    else
        (void)snprintf(why, sizeof(why), "restart %u of %u", story->restart,
                       core->config.options->max_restarts);
    log_failure(core, "decision", story->failure, pm_verdict_name(verdict->action), why);
    (void)pm_sentence_decision(story, core->config.options, line, sizeof(line));
    if (verdict->action == PM_VERDICT_IGNORE && !pm_cause_is_loss(story->failure->cause))
        pm_say_verbose(core, "%s", line);
    else
        pm_supervisor_say_line(core, line, !single);
}

// --- what is done ------------------------------------------------------------------------------

static void do_ignore(struct pm_core *core, struct pm_story *story,
                      const struct pm_history *history)
{
    (void)history;
    remember(core, story->failure);
    tell(core, story);
}

static void do_notify(struct pm_core *core, struct pm_story *story,
                      const struct pm_history *history)
{
    (void)history;
    struct pm_supervisor *s = core->supervisor;
    remember(core, story->failure);
    tell(core, story);
    // A rank that left with 0 stays one that ended with 0.
    if (!s->status && story->failure->cause != PM_CAUSE_NO_FINALIZE)
        s->status = pm_policy_status(story->failure);
    s->wanted_dirty = true;
    if (story->failure->rank != PM_RANK_NONE)
        pm_collective_rank_lost(core, s->wanted.epoch, story->failure->rank);
}

static void do_rank(struct pm_core *core, struct pm_story *story, const struct pm_history *history)
{
    struct pm_supervisor *s = core->supervisor;
    story->restart = history->restarts + 1;
    if (!pm_supervisor_again_joins(s, story->failure->rank, core->now_ns)) {
        pm_supervisor_was_first(core, story->failure);
        pm_supervisor_again_decide(core, history, spend_restart(core, story->failure, history));
    }
    story->backoff_ms = pm_supervisor_again_wait_ms(core);
    tell(core, story);
    need(core, pm_wanted_notice(&s->wanted, story->failure));
    s->wanted_dirty = true;
    pm_supervisor_again(core, story->failure->rank);
}

static void do_world(struct pm_core *core, struct pm_story *story, const struct pm_history *history)
{
    struct pm_supervisor *s = core->supervisor;
    char blame[PM_TEXT_CAP];
    s->decision = *history;
    s->cause = *story->failure;
    story->restart = history->restarts + 1;
    story->backoff_ms = spend_restart(core, story->failure, history);
    remember(core, story->failure);
    pm_supervisor_was_first(core, story->failure);
    story->blame = pm_supervisor_swap_blamed(core, story->failure->node, blame, sizeof(blame));
    tell(core, story);
    (void)pm_supervisor_fire(core, PM_IN_WORLD);
}

// Nobody's program is to blame: no restart is spent, and nothing is waited for.
static void do_move(struct pm_core *core, struct pm_story *story, const struct pm_history *history)
{
    struct pm_supervisor *s = core->supervisor;
    uint32_t node = story->failure->node;
    char spare[PM_TEXT_CAP];
    s->told_spare = pm_supervisor_likely_spare(core, node);
    story->spare = s->told_spare == UINT32_MAX ? NULL : pm_supervisor_host(core, s->told_spare, spare);
    story->spares_left = history->spares - history->homeless;
    if (s->state != PM_STATE_FORMING)
        story->n_moving = (uint32_t)pm_set_count(&core->world.ranks_of_node[node]);
    s->decision = *history;
    s->cause = *story->failure;
    s->backoff_ms = 0;
    remember(core, story->failure);
    tell(core, story);
    (void)pm_supervisor_fire(core, PM_IN_WORLD); // while it forms there is no world to halt
}

// The same, and less is left of the world.
static void do_shrink(struct pm_core *core, struct pm_story *story, const struct pm_history *history)
{
    struct pm_supervisor *s = core->supervisor;
    uint32_t hosts = core->world_known ? (uint32_t)pm_set_count(&core->world.hosts) : s->first_spare;
    story->gone_nodes = hosts - history->nodes_left;
    story->gone_ranks = pm_supervisor_housing(core, story->failure->node).gone_ranks;
    s->told_nodes = story->gone_ranks ? history->nodes_left : 0;
    s->decision = *history;
    s->cause = *story->failure;
    s->backoff_ms = 0;
    remember(core, story->failure);
    tell(core, story);
    (void)pm_supervisor_fire(core, PM_IN_WORLD);
}

static void do_stop(struct pm_core *core, struct pm_story *story, const struct pm_history *history)
{
    (void)history;
    struct pm_supervisor *s = core->supervisor;
    s->cause = *story->failure;
    // Before all have joined nothing was supervised yet, whatever the reason.
    s->status = s->state == PM_STATE_FORMING ? PM_EXIT_CANNOT_SUPERVISE : pm_policy_status(story->failure);
    remember(core, story->failure);
    tell(core, story);
    (void)pm_supervisor_fire(core, PM_IN_STOP);
}

// What may follow shows when this launch has ended.
static void do_relaunch(struct pm_core *core, struct pm_story *story, const struct pm_history *history)
{
    core->supervisor->relaunch = true;
    story->launch = core->config.legacy.relaunches + 1;
    do_stop(core, story, history);
}

static void (*const act[PM_VERDICT_MAX])(struct pm_core *core, struct pm_story *story,
                                         const struct pm_history *history) = {
    [PM_VERDICT_IGNORE] = do_ignore,     [PM_VERDICT_NOTIFY] = do_notify,
    [PM_VERDICT_RESTART_RANK] = do_rank, [PM_VERDICT_RESTART_WORLD] = do_world,
    [PM_VERDICT_MOVE_TO_SPARE] = do_move, [PM_VERDICT_SHRINK] = do_shrink,
    [PM_VERDICT_RELAUNCH] = do_relaunch,  [PM_VERDICT_STOP] = do_stop,
};

// While a decision is carried out: does this one ask for more than it?
static bool joins(const struct pm_supervisor *s, const struct pm_verdict *verdict)
{
    if (s->state == PM_STATE_STOPPING)
        return true;
    return (s->state == PM_STATE_HALTING || s->state == PM_STATE_PLACING) &&
           verdict->action != PM_VERDICT_STOP && verdict->action != PM_VERDICT_RELAUNCH;
}

// What fails while a decision is carried out is judged on what that was made on, and costs no restart: that of the
// decision is spent already, and the move of a lost node has none. Unless it asks for more than to join.
static struct pm_verdict judge(struct pm_core *core, const struct pm_failure *failure,
                               struct pm_history *ret_history)
{
    struct pm_supervisor *s = core->supervisor;
    const struct pm_options *o = core->config.options;
    bool deciding = s->state == PM_STATE_HALTING || s->state == PM_STATE_PLACING;
    bool joining = !deciding && failure->rank != PM_RANK_NONE &&
                   pm_supervisor_again_joins(s, failure->rank, core->now_ns);
    *ret_history = deciding || joining ? s->decision : history_of(core, failure);
    ret_history->paid = deciding || joining;
    ret_history->user_stop = s->user_stop;
    look_at_places(core, failure, ret_history);
    struct pm_verdict verdict = pm_policy(failure, ret_history, o);
    if (!joining || verdict.action == PM_VERDICT_RESTART_RANK)
        return verdict;
    *ret_history = history_of(core, failure);
    look_at_places(core, failure, ret_history);
    return pm_policy(failure, ret_history, o);
}

// A spare that is not fit when it is needed.
static void tell_skipped(struct pm_core *core, const struct pm_failure *failure)
{
    char host[PM_TEXT_CAP], line[2 * PM_TEXT_CAP];
    uint32_t left = pm_supervisor_n_spares(core, failure->node);
    const struct pm_story story = {.failure = failure, .host = pm_supervisor_host(core, failure->node, host)};
    pm_say(core, "pm-supervise: %s; it takes nobody's place, %u spare%s left",
           pm_sentence_failure(&story, line, sizeof(line)), left, left == 1 ? " is" : "s are");
}

void pm_supervisor_failure(struct pm_core *core, const struct pm_failure *failure, uint32_t more)
{
    struct pm_supervisor *s = core->supervisor;
    struct pm_history history;
    struct pm_verdict verdict = judge(core, failure, &history);
    log_failure(core, "failure", failure, NULL, failure->text);
    if (joins(s, &verdict)) {
        log_failure(core, "decision", failure, pm_verdict_name(PM_VERDICT_IGNORE),
                    "part of the decision before");
        remember(core, failure);
        if (failure->cause == PM_CAUSE_UNHEALTHY && s->state != PM_STATE_STOPPING)
            tell_skipped(core, failure);
        if (pm_cause_is_loss(failure->cause))
            pm_supervisor_more_time(core);
        pm_supervisor_drain_failure(core, failure);
        return;
    }
    struct pm_story story = {.failure = failure, .verdict = &verdict, .more = more};
    act[verdict.action](core, &story, &history);
}

// --- ranks that left without PMIx_Finalize -----------------------------------------------------

static void tell_left(struct pm_core *core, const struct pm_set *fresh)
{
    struct pm_supervisor *s = core->supervisor;
    char ranks[PM_TEXT_CAP / 2];
    (void)pm_set_format(fresh, ranks, sizeof(ranks));
    pm_say_verbose(core, "pm-supervise: rank %s ended with 0 without PMIx_Finalize; going on",
                   ranks);
    struct pm_log *log = pm_log_record(core, "no-finalize");
    log->epoch = s->wanted.epoch;
    log->rank = pm_set_next(fresh, 0);
    log->cause = PM_CAUSE_NO_FINALIZE;
    log->action = "notify";
    pm_text_copy(log->reason, sizeof(log->reason), ranks);
}

// One log record per batch, not per rank. It is no failure: only what waits for these ranks ends. When ranks drain it is
// every end but those after PMIx_Finalize, and no news.
void pm_supervisor_left(struct pm_core *core, const struct pm_set *left)
{
    struct pm_supervisor *s = core->supervisor;
    bool drains = s->wanted.phase == PM_PHASE_DRAIN;
    if ((s->state != PM_STATE_STARTING && s->state != PM_STATE_RUNNING && !drains) ||
        pm_set_covers(&s->wanted.left, left))
        return;
    struct pm_set fresh = {0};
    need(core, pm_set_copy(&fresh, left));
    need(core, pm_set_subtract(&fresh, &s->wanted.left));
    need(core, pm_set_union(&s->wanted.left, &fresh));
    s->wanted_dirty = true;
    if (!drains)
        tell_left(core, &fresh);
    pm_supervisor_nobody_waits_for(core, &fresh);
    pm_set_done(&fresh);
}
