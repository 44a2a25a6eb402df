// SPDX-License-Identifier: Apache-2.0
//
// What one launch of the step hands on to the next in its environment, what forbids another one, and the process that
// executes itself: without a loop, a core or Slurm; execv() is stood in for.
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pmix_server/coordinator.h"
#include "pmix_server/wire/buf.h"

#define EXECUTED 42

TestSuite(coordinator_relaunch, .timeout = 20);

static struct {
    struct pm_legacy legacy;  // of the core
    char excluded[256];
    int status;
} seen;

struct pm_legacy pm_core_legacy(const struct pm_core *core)
{
    (void)core;
    return seen.legacy;
}

char *pm_nodes_names(const struct coordinator *c, const struct pm_set *nodes)
{
    char buf[64], *list = NULL;
    (void)c;
    return asprintf(&list, "n[%s]", pm_set_format(nodes, buf, sizeof(buf))) < 0 ? NULL : list;
}

uint32_t pm_srun_nodes_parse(const char *text) { return (uint32_t)strtoul(text, NULL, 10); }

int pm_srun_argv_without(struct pm_srun_argv *argv, const char *nodes)
{
    (void)argv;
    (void)snprintf(seen.excluded, sizeof(seen.excluded), "%s", nodes);
    return 0;
}

void pm_coordinator_say(struct coordinator *c, const char *text)
{
    (void)c;
    cr_assert_fail("%s", text);
}

void pm_coordinator_finish(struct coordinator *c, int status)
{
    (void)c;
    seen.status = status;
}

int __wrap_execv(const char *path, char *const argv[]);
int __wrap_execv(const char *path, char *const argv[])
{
    _exit(!strcmp(path, "/proc/self/exe") && !strcmp(argv[0], "srun") ? EXECUTED : 1);
}

// --- what forbids it -------------------------------------------------------------------------------

static const char *why_not(const char *variable, const char *value)
{
    static struct pm_core_config config;
    const struct coordinator c = {.launch = 0};
    config = (struct pm_core_config){0};
    unsetenv("SLURM_HOSTFILE");
    setenv("SLURM_JOB_ID", "7", 1);
    setenv("SLURM_JOB_NUM_NODES", "5", 1);
    if (value)
        setenv(variable, value, 1);
    else
        unsetenv(variable);
    pm_relaunch_config(&c, &config);
    cr_assert_eq(config.job_nodes, 5);
    return config.no_relaunch;
}

Test(coordinator_relaunch, nodes_that_are_named_leave_no_choice)
{
    cr_expect_null(why_not("SLURM_HOSTFILE", NULL));
    cr_assert_not_null(why_not("SLURM_HOSTFILE", "/tmp/hosts"));
    cr_expect_str_eq(why_not("SLURM_HOSTFILE", "/tmp/hosts"), "SLURM_HOSTFILE names its nodes");
    cr_assert_not_null(why_not("SLURM_JOB_ID", NULL));
    cr_expect_str_eq(why_not("SLURM_JOB_ID", NULL), "srun has made the allocation itself, and it has no other nodes");
}

// --- what goes over --------------------------------------------------------------------------------

static void wanted(struct coordinator *c, uint32_t node)
{
    struct pm_set out = {0};
    struct pm_writer w = {0};
    cr_assert_eq(pm_set_add(&out, node), 0);
    pm_write_set(&w, &out);
    pm_relaunch_wanted(c, &(struct pm_action){.data = w.data, .len = w.len});
    pm_writer_done(&w);
    pm_set_done(&out);
}

Test(coordinator_relaunch, the_next_launch_reads_what_this_one_hands_on)
{
    struct coordinator this = {0}, next = {0};
    char error[PM_ERROR_CAP];
    unsetenv("SLURM_PM_STEP_LEGACY");
    unsetenv("SLURM_PM_STEP_EXCLUDE");
    cr_assert_eq(pm_relaunch_read(&next, error), 0);
    cr_assert_eq(next.launch, 0);
    seen.legacy = (struct pm_legacy){.epoch = 4, .relaunches = 2, .restarts = 1, .node_losses = 3, .nodes_out = 5,
                                     .cause = PM_CAUSE_NODE_LOST};
    wanted(&this, 3);
    wanted(&this, 8);
    cr_assert(this.relaunch);
    cr_assert_eq(pm_relaunch_read(&next, error), 0, "%s", error);
    cr_expect_eq(memcmp(&next.legacy, &seen.legacy, sizeof(seen.legacy)), 0);
    cr_expect_eq(next.launch, 2);
    cr_expect_str_eq(seen.excluded, "n[3],n[8]");
    setenv("SLURM_PM_STEP_LEGACY", "4 2 1", 1);
    cr_expect_lt(pm_relaunch_read(&next, error), 0);
    cr_expect_str_eq(error, "SLURM_PM_STEP_LEGACY=4 2 1 is none of ours; unset it");
    // The core makes room for each.
    setenv("SLURM_PM_STEP_LEGACY", "4 2 4294967295 3 5 11", 1);
    cr_expect_lt(pm_relaunch_read(&next, error), 0);
    setenv("SLURM_PM_STEP_LEGACY", "4 2 1 4294967295 5 11", 1);
    cr_expect_lt(pm_relaunch_read(&next, error), 0);
}

// Nobody reads stderr any more, so a SIGPIPE waits: it must not end the process just before its next launch.
static void launch_again_with_a_waiting_signal(void)
{
    char name[] = "srun", *argv[] = {name, NULL};
    struct inherited in = {0};
    sigset_t blocked, none;
    sigemptyset(&none);
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGPIPE);
    in.actions[SIGPIPE].sa_handler = in.actions[SIGCHLD].sa_handler = SIG_DFL;
    (void)getrlimit(RLIMIT_NOFILE, &in.nofile);
    (void)signal(SIGPIPE, SIG_DFL);
    sigprocmask(SIG_SETMASK, &blocked, NULL);
    raise(SIGPIPE);
    _exit(pm_relaunch_exec(&in, &none, argv));
}

Test(coordinator_relaunch, a_waiting_sigpipe_does_not_end_it)
{
    int status = 0;
    pid_t pid = fork();
    if (pid == 0)
        launch_again_with_a_waiting_signal();
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == EXECUTED, "%#x", (unsigned)status);
}
