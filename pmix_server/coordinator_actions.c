// SPDX-License-Identifier: Apache-2.0
//
// What the coordinator does for each action of the core.
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "pmix_server/coordinator.h"
#include "pmix_server/io/util.h"

#define PREFIX "pm-supervise: "
#define TEXT_MAX 2048  // no sentence is longer

// Needs no memory: the lack of it is what may have to be said.
void pm_coordinator_say(struct coordinator *c, const char *text)
{
    char line[sizeof(PREFIX) + TEXT_MAX + 1];
    bool has_prefix = !strncmp(text, PREFIX, strlen(PREFIX));
    int len = snprintf(line, sizeof(line), "%s%.*s\n", has_prefix ? "" : PREFIX, TEXT_MAX, text);
    if (c->lines)
        pm_lines_put(c->lines, line, (size_t)len - 1);
    else
        pm_fd_write_all(STDERR_FILENO, line, (size_t)len);
}

static void do_dial(struct pm_action *a, void *arg)
{
    pm_peers_dial(((struct coordinator *)arg)->peers, a);
}

static void do_send(struct pm_action *a, void *arg)
{
    pm_peers_send(((struct coordinator *)arg)->peers, a);
}

static void do_close(struct pm_action *a, void *arg)
{
    pm_peers_close(((struct coordinator *)arg)->peers, a);
}

static void do_say(struct pm_action *a, void *arg)
{
    struct coordinator *c = arg;
    if (a->text && (!a->verbose || c->options.verbose))
        pm_coordinator_say(c, a->text);
}

static void do_bound(struct pm_action *a, void *arg) { pm_coordinator_bound(arg, a); }

static void do_log(struct pm_action *a, void *arg)
{
    if (!a->log)
        return;
    pm_losses_note(arg, a->log);
    pm_coordinator_log(arg, a->log);
}

static void do_end_step(struct pm_action *a, void *arg)
{
    pm_srun_end(arg, a->signal ? a->signal : SIGTERM, a->timeout_ms);
}

static void do_await_output(struct pm_action *a, void *arg) { pm_output_await(arg, a->count); }

static void do_fence_off(struct pm_action *a, void *arg) { pm_fence_off(arg, a->node, a->cause); }

static void do_ask(struct pm_action *a, void *arg) { pm_job_ask(arg); }

static void do_ask_nodes(struct pm_action *a, void *arg) { pm_nodes_ask(arg, PM_NODES_DRAINED, a); }

static void do_ask_booted(struct pm_action *a, void *arg) { pm_nodes_ask(arg, PM_NODES_BOOTED, a); }

static void do_relaunch(struct pm_action *a, void *arg) { pm_relaunch_wanted(arg, a); }

static void do_exit(struct pm_action *a, void *arg) { pm_coordinator_finish(arg, a->status); }

const pm_action_f pm_coordinator_handlers[PM_ACTION_MAX] = {
    [PM_ACTION_DIAL] = do_dial,   [PM_ACTION_SEND] = do_send,
    [PM_ACTION_CLOSE] = do_close, [PM_ACTION_SAY] = do_say,
    [PM_ACTION_BOUND] = do_bound,
    [PM_ACTION_LOG] = do_log,     [PM_ACTION_END_STEP] = do_end_step,
    [PM_ACTION_AWAIT_OUTPUT] = do_await_output, [PM_ACTION_FENCE_OFF] = do_fence_off,
    [PM_ACTION_ASK_NODES] = do_ask_nodes, [PM_ACTION_ASK_BOOTED] = do_ask_booted,
    [PM_ACTION_ASK_JOB_STATE] = do_ask, [PM_ACTION_EXIT] = do_exit,
    [PM_ACTION_RELAUNCH] = do_relaunch,
};
