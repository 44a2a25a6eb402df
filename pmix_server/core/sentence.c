// SPDX-License-Identifier: Apache-2.0
//
// The one line per decision that a person reads on srun's stderr: who failed where, how and after
// what time; what is done about it, and why.
#include "pmix_server/core/policy.h"

#include <stdarg.h>
#include <stdio.h>
#include <sys/wait.h>

// Text that is put together piece by piece and cut at the end of the buffer.
struct line {
    char *buf;
    size_t cap;
    size_t len;
};

__attribute__((format(printf, 2, 3))) static void put(struct line *line, const char *format, ...)
{
    if (line->len + 1 >= line->cap)
        return;
    va_list args;
    va_start(args, format);
    int n = vsnprintf(line->buf + line->len, line->cap - line->len, format, args);
    va_end(args);
    size_t room = line->cap - line->len - 1;
    if (n > 0)
        line->len += (size_t)n < room ? (size_t)n : room;
}

// ": text", if there is one.
static void put_text(struct line *line, const struct pm_failure *failure)
{
    if (failure->text[0])
        put(line, ": %s", failure->text);
}

static void put_status(struct line *line, const struct pm_failure *failure)
{
    if (WIFSIGNALED(failure->wait_status))
        put(line, "killed by signal %d", WTERMSIG(failure->wait_status));
    else
        put(line, "exited with code %d", WEXITSTATUS(failure->wait_status));
}

static void put_oom(struct line *line, const struct pm_failure *failure)
{
    put_status(line, failure);
    put(line, " for lack of memory (oom)");
}

static void put_abort(struct line *line, const struct pm_failure *failure)
{
    put(line, "called abort with status %d", WEXITSTATUS(failure->wait_status));
    if (failure->text[0])
        put(line, " (%s)", failure->text);
}

static void put_no_finalize(struct line *line, const struct pm_failure *failure)
{
    (void)failure;
    put(line, "ended without PMIx_Finalize and a collective waits for it (no-finalize)");
}

static void put_exec(struct line *line, const struct pm_failure *failure)
{
    put(line, "could not be started (exit code %d)", pm_policy_exit_of(failure->wait_status));
    put_text(line, failure);
}

static void put_server(struct line *line, const struct pm_failure *failure)
{
    put(line, "lost its PMIx server (pmix-server)");
    put_text(line, failure);
}

static void put_shim(struct line *line, const struct pm_failure *failure)
{
    put(line, "lost its shim (shim-lost)");
    put_text(line, failure);
}

static void put_agent(struct line *line, const struct pm_failure *failure)
{
    put(line, "lost its agent (agent-lost)");
    put_text(line, failure);
}

static void put_node(struct line *line, const struct pm_failure *failure)
{
    put(line, "is lost (node-lost)");
    put_text(line, failure);
}

static void put_unhealthy(struct line *line, const struct pm_failure *failure)
{
    put(line, "is not fit (unhealthy)");
    put_text(line, failure);
}

static void (*const how[PM_CAUSE_MAX])(struct line *line, const struct pm_failure *failure) = {
    [PM_CAUSE_NONE] = put_status,        [PM_CAUSE_EXIT] = put_status,
    [PM_CAUSE_SIGNAL] = put_status,      [PM_CAUSE_OOM] = put_oom,
    [PM_CAUSE_ABORT] = put_abort,        [PM_CAUSE_NO_FINALIZE] = put_no_finalize,
    [PM_CAUSE_EXEC] = put_exec,          [PM_CAUSE_PMIX_SERVER] = put_server,
    [PM_CAUSE_SHIM_LOST] = put_shim,     [PM_CAUSE_AGENT_LOST] = put_agent,
    [PM_CAUSE_NODE_LOST] = put_node,     [PM_CAUSE_UNHEALTHY] = put_unhealthy,
};

static void put_failure(struct line *line, const struct pm_story *story)
{
    const struct pm_failure *failure = story->failure;
    char uptime[32];
    if (failure->rank == PM_RANK_NONE)
        put(line, "%s ", story->host);
    else if (failure->pid)
        put(line, "rank %u (%s, pid %u) ", failure->rank, story->host, failure->pid);
    else
        put(line, "rank %u (%s) ", failure->rank, story->host);
    how[failure->cause](line, failure);
    if (failure->rank != PM_RANK_NONE && failure->cause != PM_CAUSE_EXEC && failure->uptime_ms)
        put(line, " after %s", pm_duration_format(failure->uptime_ms, uptime, sizeof(uptime)));
    if (story->more)
        put(line, ", and %u more failure%s", story->more, story->more == 1 ? "" : "s");
}

char *pm_sentence_failure(const struct pm_story *story, char *buf, size_t cap)
{
    struct line line = {.buf = buf, .cap = cap};
    buf[0] = '\0';
    put_failure(&line, story);
    return buf;
}

static const char *plural(uint32_t n)
{
    return n == 1 ? "" : "s";
}

static void put_budget(struct line *line, const struct pm_story *story,
                       const struct pm_options *options)
{
    char text[32];
    if (story->backoff_ms)
        put(line, " in %s", pm_duration_format(story->backoff_ms, text, sizeof(text)));
    put(line, " (restart %u of %u", story->restart, options->max_restarts);
    if (options->restart_window_ms)
        put(line, " within %s", pm_duration_format(options->restart_window_ms, text, sizeof(text)));
    put(line, ")");
    if (story->failure->cause == PM_CAUSE_OOM)
        put(line, "; Slurm itself will still report OUT_OF_MEMORY for this step");
}

static void put_move(struct line *line, const struct pm_story *story)
{
    if (!story->n_moving) {
        put(line, "%s%s takes its place (%u spare%s left)", story->spare ? "spare " : "a spare",
            story->spare ? story->spare : "", story->spares_left, plural(story->spares_left));
        return;
    }
    put(line, "the %u rank%s of %s move%s to %s%s (", story->n_moving, plural(story->n_moving), story->host,
        story->n_moving == 1 ? "s" : "", story->spare ? "spare " : "a spare",
        story->spare ? story->spare : "");
    put(line, "%u spare%s left); restarting %u rank%s on %u node%s", story->spares_left,
        plural(story->spares_left), story->nranks, plural(story->nranks), story->nnodes,
        plural(story->nnodes));
}

static void put_shrink(struct line *line, const struct pm_story *story, const struct pm_options *options)
{
    uint32_t ranks = story->nranks - story->gone_ranks, nodes = story->nnodes - story->gone_nodes;
    if (options->spares)
        put(line, "%s: ", story->verdict->why);
    if (!story->gone_ranks) {
        put(line, "going on with %u node%s", nodes, plural(nodes));
        return;
    }
    put(line, "restarting %u rank%s on %u node%s (was %u on %u)", ranks, plural(ranks), nodes, plural(nodes),
        story->nranks, story->nnodes);
}

static void put_what(struct line *line, const struct pm_story *story,
                     const struct pm_options *options)
{
    const struct pm_verdict *verdict = story->verdict;
    switch (verdict->action) {
    case PM_VERDICT_RESTART_WORLD:
        if (verdict->escalated)
            put(line, "%s: ", verdict->why);
        put(line, "restarting %u rank%s on %u node%s", story->nranks, plural(story->nranks),
            story->nnodes, plural(story->nnodes));
        put_budget(line, story, options);
        if (story->blame)
            put(line, "; %s", story->blame);
        break;
    case PM_VERDICT_MOVE_TO_SPARE:
        put_move(line, story);
        break;
    case PM_VERDICT_SHRINK:
        put_shrink(line, story, options);
        break;
    case PM_VERDICT_RELAUNCH:
        put(line, "%s: launching the step again on other nodes of the job (launch %u of %u)", verdict->why,
            story->launch + 1, options->relaunch + 1);
        break;
    case PM_VERDICT_RESTART_RANK:
        put(line, "restarting this rank");
        put_budget(line, story, options);
        break;
    case PM_VERDICT_NOTIFY:
        put(line, "the other ranks are told and go on");
        break;
    case PM_VERDICT_STOP:
        put(line, "stopping: %s", verdict->why);
        break;
    default:
        put(line, "going on");
        if (verdict->why[0])
            put(line, ": %s", verdict->why);
        break;
    }
}

char *pm_sentence_decision(const struct pm_story *story, const struct pm_options *options,
                           char *buf, size_t cap)
{
    struct line line = {.buf = buf, .cap = cap};
    buf[0] = '\0';
    put(&line, "pm-supervise: ");
    put_failure(&line, story);
    put(&line, "; ");
    put_what(&line, story, options);
    return buf;
}
