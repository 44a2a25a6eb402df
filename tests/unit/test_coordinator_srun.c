// SPDX-License-Identifier: Apache-2.0
//
// What the coordinator makes of Ctrl-C, with another program for srun and without loop and core.
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "pmix_server/coordinator.h"

static struct coordinator c;
static char said[512];
static int srun_exited, stops, signal_of_stop;

void pm_coordinator_say(struct coordinator *coordinator, const char *text)
{
    (void)coordinator;
    (void)snprintf(said, sizeof(said), "%s", text);
}

void pm_coordinator_finish(struct coordinator *coordinator, int status)
{
    (void)coordinator;
    cr_assert_fail("finished with %d", status);
}

int pm_coordinator_log_open(struct coordinator *coordinator, char *error)
{
    (void)coordinator;
    (void)error;
    return 0;
}

char **pm_srun_environment(const struct coordinator *coordinator, char *const *from, int report_fd)
{
    (void)coordinator;
    (void)from;
    (void)report_fd;
    return calloc(1, sizeof(char *));
}

void pm_environment_free(char **env) { free(env); }

void pm_loop_post(struct pm_loop *loop, const struct pm_event *event)
{
    (void)loop;
    srun_exited += event->type == PM_EVENT_SRUN_EXITED;
    if (event->type != PM_EVENT_STOP)
        return;
    stops++;
    signal_of_stop = event->signal;
}

// A terminal stopped by Ctrl-S, with something still to show: whoever waits until it is shown waits for ever.
static int restored;
int __wrap_tcsetattr(int fd, int action, const struct termios *terminal);
int __wrap_tcsetattr(int fd, int action, const struct termios *terminal)
{
    (void)fd;
    (void)terminal;
    restored++;
    while (action != TCSANOW)
        pause();
    return 0;
}

static void start(const char *srun, const char *argument)
{
    static char *argv[3];
    argv[0] = strdup(srun);
    argv[1] = argument ? strdup(argument) : NULL;
    c = (struct coordinator){.report_fd = -1, .exe = argv[0], .argv.argv = argv, .launched = true};
    c.base = event_base_new();
    c.children = pm_children_new();
    pm_srun_inherit(&c.inherited);
    cr_assert_eq(pm_srun_start(&c), 0);
}

static void ended(void)
{
    free(c.argv.argv[0]);
    free(c.argv.argv[1]);
    pm_srun_done(&c);
    pm_children_free(c.children);
    event_base_free(c.base);
}

static void interrupt(void)
{
    said[0] = '\0';
    cr_assert_eq(kill(getpid(), SIGINT), 0);
    event_base_loop(c.base, EVLOOP_NONBLOCK);
}

TestSuite(coordinator_srun, .fini = ended, .timeout = 20);

// While the nodes of an ended launch are waited for, there is no srun that would ask.
Test(coordinator_srun, without_srun_a_ctrl_c_is_answered_and_two_stop_the_step)
{
    start("/bin/true", NULL);
    while (!srun_exited)
        event_base_loop(c.base, EVLOOP_ONCE);
    interrupt();
    cr_expect_str_eq(said, "interrupt (one more within 1 sec to stop the step)");
    cr_expect_eq(stops, 0);
    interrupt();
    cr_expect_eq(stops, 1);
    cr_expect_eq(signal_of_stop, SIGINT);
}

Test(coordinator_srun, two_that_are_far_apart_are_two_questions)
{
    start("/bin/true", NULL);
    while (!srun_exited)
        event_base_loop(c.base, EVLOOP_ONCE);
    interrupt();
    usleep(1100000);
    interrupt();
    cr_expect_str_not_empty(said);
    cr_expect_eq(stops, 0);
}

// It asks itself, and gets what kill(1) has sent.
Test(coordinator_srun, while_there_is_an_srun_the_answer_is_its_own)
{
    start("/bin/sleep", "20");
    interrupt();
    cr_expect_str_empty(said);
    while (!srun_exited)
        event_base_loop(c.base, EVLOOP_ONCE);
    cr_expect(WIFSIGNALED(c.srun_status) && WTERMSIG(c.srun_status) == SIGINT);
}

Test(coordinator_srun, a_stopped_terminal_is_restored_without_a_wait)
{
    start("/bin/sleep", "20");
    c.has_terminal = true;
    cr_assert_eq(kill(c.srun, SIGKILL), 0);
    while (!srun_exited)
        event_base_loop(c.base, EVLOOP_ONCE);
    cr_expect_eq(restored, 1);
}
