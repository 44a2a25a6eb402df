// SPDX-License-Identifier: Apache-2.0
//
// Another launch of the step: this process executes itself once more, with the command line that it got, and finds
// what the next launch takes over in its environment. So nothing of the old launch (key, tree, links, core) can be
// mistaken for the new one's, the pid stays the one that the user's shell waits for, and srun is started as ever.
//
// The variables begin with SLURM_PM_STEP_, so neither srun nor the ranks get to see them (coordinator_env.c).
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pmix_server/coordinator.h"

#define LEGACY "SLURM_PM_STEP_LEGACY"
#define EXCLUDE "SLURM_PM_STEP_EXCLUDE"
#define SPENT_MAX 1000000u // restarts and lost nodes: more than any job lives to see, and the core keeps a time of each
#define FORMAT "%" PRIu32 " %" PRIu32 " %" PRIu32 " %" PRIu32 " %" PRIu32 " %d"

static uint32_t number_of(const char *name)
{
    const char *text = getenv(name);
    return text ? pm_srun_nodes_parse(text) : 0;
}

// An srun that is started outside a job makes an allocation of just the nodes that the step needs.
void pm_relaunch_config(const struct coordinator *c, struct pm_core_config *config)
{
    config->legacy = c->legacy;
    config->job_nodes = number_of("SLURM_JOB_NUM_NODES");
    if (!config->job_nodes)
        config->job_nodes = number_of("SLURM_NNODES");
    if (!getenv("SLURM_JOB_ID"))
        config->no_relaunch = "srun has made the allocation itself, and it has no other nodes";
    else if (c->argv.no_relaunch)
        config->no_relaunch = c->argv.no_relaunch;
    else if (getenv("SLURM_HOSTFILE"))
        config->no_relaunch = "SLURM_HOSTFILE names its nodes";
}

int pm_relaunch_read(struct coordinator *c, char *error)
{
    struct pm_legacy *l = &c->legacy;
    const char *text = getenv(LEGACY), *nodes = getenv(EXCLUDE);
    int cause = 0;
    if (!text)
        return 0;
    if (!nodes || sscanf(text, FORMAT, &l->epoch, &l->relaunches, &l->restarts, &l->node_losses, &l->nodes_out,
                         &cause) != 6 ||
        cause < 0 || cause >= PM_CAUSE_MAX || l->restarts > SPENT_MAX || l->node_losses > SPENT_MAX) {
        snprintf(error, PM_ERROR_CAP, LEGACY "=%.100s is none of ours; unset it", text);
        return -EINVAL;
    }
    l->cause = (enum pm_cause)cause;
    c->launch = l->relaunches;
    return pm_srun_argv_without(&c->argv, nodes);
}

// "node3,node[7-9]", those of the launches before in front; NULL without memory. One word of the environment or of a
// command line holds 128 KiB, so the names of thousands of nodes must not be written out.
static char *nodes_out(const struct coordinator *c, const struct pm_set *out)
{
    const char *before = getenv(EXCLUDE);
    char *names = pm_nodes_names(c, out), *list = NULL;
    if (names && asprintf(&list, "%s%s%s", before ? before : "", before ? "," : "", names) < 0)
        list = NULL;
    free(names);
    return list;
}

void pm_relaunch_wanted(struct coordinator *c, const struct pm_action *a)
{
    struct pm_legacy l = pm_core_legacy(c->core);
    struct pm_reader r = pm_reader_of(a->data, a->len);
    struct pm_set out = {0};
    char text[128];
    pm_read_set(&r, &out, UINT32_MAX);
    char *list = pm_reader_end(&r) < 0 ? NULL : nodes_out(c, &out);  // half of them would start on a lost node
    pm_set_done(&out);
    (void)snprintf(text, sizeof(text), FORMAT, l.epoch, l.relaunches, l.restarts, l.node_losses, l.nodes_out,
                   (int)l.cause);
    c->relaunch = list && setenv(LEGACY, text, 1) == 0 && setenv(EXCLUDE, list, 1) == 0;
    free(list);
    if (!c->relaunch)
        pm_coordinator_say(c, "the step is not launched again: out of memory");
    pm_coordinator_finish(c, PM_EXIT_LOST);
}

int pm_relaunch_exec(const struct inherited *in, const sigset_t *mask, char **argv)
{
    sigaction(SIGCHLD, &in->actions[SIGCHLD], NULL);
    setrlimit(RLIMIT_NOFILE, &in->nofile);
    (void)signal(SIGPIPE, SIG_IGN);  // one that waits, since nobody reads stderr any more, is taken away
    sigprocmask(SIG_SETMASK, mask, NULL);
    sigaction(SIGPIPE, &in->actions[SIGPIPE], NULL);
    execv("/proc/self/exe", argv);
    fprintf(stderr, "pm-supervise: cannot launch the step again: %s\n", strerror(errno));
    return PM_EXIT_LOST;
}
