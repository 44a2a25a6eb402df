// SPDX-License-Identifier: Apache-2.0
//
// See policy.h. To change what a failure leads to, change the table `rules`.
#include "pmix_server/core/policy.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

struct question {
    const struct pm_failure *failure;
    const struct pm_history *history;
    const struct pm_options *options;
    char *why; // PM_TEXT_CAP
};

// Says why, if the rule fits.
__attribute__((format(printf, 3, 4))) static bool because(const struct question *q, bool fits,
                                                          const char *format, ...)
{
    va_list args;
    if (!fits)
        return false;
    va_start(args, format);
    (void)vsnprintf(q->why, PM_TEXT_CAP, format, args);
    va_end(args);
    return true;
}

static bool user_stops(const struct question *q)
{
    return because(q, q->history->user_stop, "the step is being stopped");
}

static bool world_is_over(const struct question *q)
{
    return because(q, q->history->world_over, "all its ranks had ended well");
}

static bool ended_well(const struct question *q)
{
    return q->failure->cause == PM_CAUSE_NONE ||
           (q->failure->cause == PM_CAUSE_EXIT && q->failure->wait_status == 0);
}

static bool spare_is_lost(const struct question *q)
{
    uint32_t left = q->history->spares;
    return because(q, pm_cause_is_loss(q->failure->cause) && q->history->no_ranks,
                   "it waited as a spare, %u %s left", left, left == 1 ? "is" : "are");
}

// Wherever else its ranks would start, they might run twice.
static bool was_not_all_here(const struct question *q)
{
    return because(q, pm_cause_is_loss(q->failure->cause) && q->history->unjoined,
                   "not all its tasks had joined, and they may run unsupervised");
}

bool pm_policy_may_shrink(const struct pm_options *options, uint32_t nodes_left)
{
    return options->shrink && nodes_left > 0 && nodes_left >= options->min_nodes;
}

// Without any spares.
static const char *why_no_place(const struct question *q)
{
    return q->failure->cause == PM_CAUSE_UNHEALTHY ? "without --pm-spares every node is needed"
                                                   : "its place in the step cannot come back";
}

static bool spares_are_too_few(const struct question *q)
{
    const struct pm_history *h = q->history;
    bool too_few = !h->spares || h->spares < h->homeless;
    bool fits = pm_cause_is_loss(q->failure->cause) && (too_few || h->no_house);
    if (h->no_house && !too_few)
        return because(q, fits, "no spare that is left has as many GPUs and as much memory");
    if (q->options->spares && h->homeless > 1)
        return because(q, fits, "%u nodes of the world are lost, and %u spare%s left", h->homeless,
                       h->spares, h->spares == 1 ? " is" : "s are");
    return because(q, fits, "%s", q->options->spares ? "no spare is left" : why_no_place(q));
}

static bool place_is_lost(const struct question *q)
{
    const struct pm_options *o = q->options;
    uint32_t left = q->history->nodes_left;
    bool too_few = spares_are_too_few(q) && !pm_policy_may_shrink(o, left);
    if (too_few && o->shrink && left)
        (void)because(q, true, "%u node%s would be left, and --pm-min-nodes=%u", left, left == 1 ? "" : "s",
                      o->min_nodes);
    if (too_few && q->history->no_relaunch) {
        size_t len = strlen(q->why);
        (void)snprintf(q->why + len, PM_TEXT_CAP - len, ", and it is not launched again: %s", q->history->no_relaunch);
    }
    return too_few;
}

// Neither spares nor fewer nodes help.
static bool world_needs_other_nodes(const struct question *q)
{
    const struct pm_history *h = q->history;
    return h->can_relaunch && spares_are_too_few(q) && !pm_policy_may_shrink(q->options, h->nodes_left);
}

static bool losses_are_used(const struct question *q)
{
    const struct pm_options *o = q->options;
    if (!pm_cause_is_loss(q->failure->cause) || q->failure->cause == PM_CAUSE_UNHEALTHY ||
        q->history->node_losses < o->max_node_losses)
        return false;
    if (!o->max_node_losses)
        return because(q, true, "--pm-max-node-losses=0");
    char window[32] = "";
    if (o->node_loss_window_ms)
        (void)pm_duration_format(o->node_loss_window_ms, window, sizeof(window));
    return because(q, true, "%u of %u node losses used%s%s", q->history->node_losses,
                   o->max_node_losses, window[0] ? " within " : "", window);
}

// The step's own loss is one of the node's budget.
static bool other_nodes_are_not_paid_for(const struct question *q)
{
    return world_needs_other_nodes(q) && losses_are_used(q);
}

static bool node_is_lost(const struct question *q)
{
    return pm_cause_is_loss(q->failure->cause);
}

static bool exec_failed(const struct question *q)
{
    return because(q, q->failure->cause == PM_CAUSE_EXEC,
                   "a program that cannot be started is not tried again");
}

static bool is_fatal(const struct question *q)
{
    const struct pm_fatal *fatal = &q->options->fatal;
    int32_t status = q->failure->wait_status;
    if (pm_cause_is_loss(q->failure->cause) || q->failure->cause == PM_CAUSE_PMIX_SERVER)
        return false;
    if (WIFSIGNALED(status)) {
        unsigned bit = (unsigned)WTERMSIG(status) - 1;
        return because(q, fatal->signals[bit / 64] >> bit % 64 & 1,
                   "signal %d is in --pm-fatal-exit", WTERMSIG(status));
    }
    unsigned code = (unsigned)WEXITSTATUS(status);
    return because(q, fatal->exits[code / 64] >> code % 64 & 1,
                   "exit code %u is in --pm-fatal-exit", code);
}

static bool notify_without_server(const struct question *q)
{
    return because(q, q->options->mode == PM_MODE_NOTIFY &&
                      q->failure->cause == PM_CAUSE_PMIX_SERVER,
                   "survivors cannot be told of failures any more");
}

static bool mode_is_notify(const struct question *q)
{
    return q->options->mode == PM_MODE_NOTIFY;
}

static bool no_restart_allowed(const struct question *q)
{
    return because(q, !q->history->paid && q->options->max_restarts == 0, "--pm-max-restarts=0");
}

static bool budget_is_used(const struct question *q)
{
    if (q->history->paid || q->history->restarts < q->options->max_restarts)
        return false;
    if (!q->options->restart_window_ms)
        return because(q, true, "%u of %u restarts used", q->history->restarts,
                       q->options->max_restarts);
    char window[32];
    return because(q, true, "%u of %u restarts used within %s", q->history->restarts,
                   q->options->max_restarts,
                   pm_duration_format(q->options->restart_window_ms, window, sizeof(window)));
}

static bool cannot_get_up(const struct question *q)
{
    char uptime[32];
    return because(q, !q->history->paid && q->options->min_uptime_ms &&
                      q->history->start_failures >= PM_START_FAILURES_MAX,
                   "%u times in a row it died within %s (--pm-min-uptime)",
                   q->history->start_failures,
                   pm_duration_format(q->options->min_uptime_ms, uptime, sizeof(uptime)));
}

static bool rank_alone(const struct question *q)
{
    return q->options->mode == PM_MODE_RANK && q->failure->rank != PM_RANK_NONE &&
           !q->failure->connected;
}

static bool world_has_no_place(const struct question *q)
{
    return because(q, q->history->place_lost,
                   "a node or shim was lost before, so the world cannot start again%s",
                   q->options->spares ? ": no spare is left" : "");
}

static bool world_has_other_nodes(const struct question *q)
{
    return q->history->can_relaunch && world_has_no_place(q);
}

static bool rank_was_connected(const struct question *q)
{
    return because(q, q->options->mode == PM_MODE_RANK && q->failure->rank != PM_RANK_NONE,
                   "it had connected to PMIx");
}

static bool always(const struct question *q)
{
    (void)q;
    return true;
}

// The first rule that fits decides. `escalated`: less was asked for than is done.
static const struct rule {
    bool (*fits)(const struct question *q);
    enum pm_verdict_action action;
    bool escalated;
} rules[] = {
    {user_stops, PM_VERDICT_IGNORE, false},
    {spare_is_lost, PM_VERDICT_IGNORE, false},
    {ended_well, PM_VERDICT_IGNORE, false},
    {world_is_over, PM_VERDICT_IGNORE, false},
    {was_not_all_here, PM_VERDICT_STOP, false},
    {other_nodes_are_not_paid_for, PM_VERDICT_STOP, false},
    {world_needs_other_nodes, PM_VERDICT_RELAUNCH, false},
    {place_is_lost, PM_VERDICT_STOP, false},
    {losses_are_used, PM_VERDICT_STOP, false},
    {spares_are_too_few, PM_VERDICT_SHRINK, false},
    {node_is_lost, PM_VERDICT_MOVE_TO_SPARE, false},
    {exec_failed, PM_VERDICT_STOP, false},
    {is_fatal, PM_VERDICT_STOP, false},
    {notify_without_server, PM_VERDICT_STOP, false},
    {mode_is_notify, PM_VERDICT_NOTIFY, false},
    {no_restart_allowed, PM_VERDICT_STOP, false},
    {budget_is_used, PM_VERDICT_STOP, false},
    {cannot_get_up, PM_VERDICT_STOP, false},
    {rank_alone, PM_VERDICT_RESTART_RANK, false},
    {world_has_other_nodes, PM_VERDICT_RELAUNCH, false},
    {world_has_no_place, PM_VERDICT_STOP, false},
    {rank_was_connected, PM_VERDICT_RESTART_WORLD, true},
    {always, PM_VERDICT_RESTART_WORLD, false},
};

struct pm_verdict pm_policy(const struct pm_failure *failure, const struct pm_history *history,
                            const struct pm_options *options)
{
    struct pm_verdict verdict = {0};
    const struct question q = {
        .failure = failure, .history = history, .options = options, .why = verdict.why};
    const struct rule *rule = rules;
    while (!rule->fits(&q))
        rule++;
    verdict.action = rule->action;
    verdict.escalated = rule->escalated;
    return verdict;
}

const char *pm_verdict_name(enum pm_verdict_action action)
{
    static const char *const names[PM_VERDICT_MAX] = {
        [PM_VERDICT_NONE] = "none",
        [PM_VERDICT_IGNORE] = "ignore",
        [PM_VERDICT_NOTIFY] = "notify",
        [PM_VERDICT_RESTART_RANK] = "restart-rank",
        [PM_VERDICT_RESTART_WORLD] = "restart-world",
        [PM_VERDICT_MOVE_TO_SPARE] = "move-to-spare",
        [PM_VERDICT_SHRINK] = "shrink",
        [PM_VERDICT_RELAUNCH] = "relaunch",
        [PM_VERDICT_STOP] = "stop",
    };
    return (unsigned)action < PM_VERDICT_MAX ? names[action] : "?";
}

uint64_t pm_policy_backoff_ms(const struct pm_options *options, uint32_t n)
{
    if (n < 2 || !options->backoff_ms)
        return 0;
    uint64_t wait = options->backoff_ms;
    for (uint32_t i = 2; i < n && wait < UINT64_MAX / 2; i++) {
        wait *= 2;
        if (options->backoff_max_ms && wait >= options->backoff_max_ms)
            break;
    }
    return options->backoff_max_ms && wait > options->backoff_max_ms ? options->backoff_max_ms
                                                                     : wait;
}

int32_t pm_policy_exit_of(int32_t wait_status)
{
    return WIFSIGNALED(wait_status) ? 128 + WTERMSIG(wait_status) : WEXITSTATUS(wait_status);
}

int32_t pm_policy_status(const struct pm_failure *failure)
{
    switch (failure->cause) {
    case PM_CAUSE_EXIT:
    case PM_CAUSE_SIGNAL:
    case PM_CAUSE_ABORT:
    case PM_CAUSE_EXEC: {
        int32_t status = pm_policy_exit_of(failure->wait_status);
        return status ? status : 1;
    }
    case PM_CAUSE_OOM: // srun makes Slurm's OUT_OF_MEMORY a 1, and not the 137 of a SIGKILL
    default:
        return 1;
    }
}
