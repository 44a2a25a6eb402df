// SPDX-License-Identifier: Apache-2.0
//
// The tree of a rank: nothing below a subreaper escapes a stop or a kill, however it forks, and what
// is excepted is left alone with all that is below it.
#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "plugin/shim/tree.h"

static void become_subreaper(void)
{
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    // Criterion's own helper threads have no children; whatever we start ends with us.
    cr_assert(pm_tree_supported());
}

static void sleep_ms(long ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
}

static void end_all(void)
{
    for (int i = 0; i < 500 && !pm_tree_empty(0); i++) {
        pm_tree_kill(0);
        while (waitpid(-1, NULL, WNOHANG) > 0)
            ;
        sleep_ms(2);
    }
}

TestSuite(shim_tree, .init = become_subreaper, .fini = end_all, .timeout = 30);

// Kills and reaps as the shim does, for ten seconds at most: the machine may be busy.
static bool kill_all(const pid_t *except)
{
    for (int i = 0; i < 5000; i++) {
        pm_tree_kill(except);
        while (waitpid(-1, NULL, WNOHANG) > 0)
            ;
        if (pm_tree_empty(except))
            return true;
        sleep_ms(2);
    }
    return false;
}

static pid_t spawn(void (*body)(void))
{
    pid_t pid = fork();
    cr_assert(pid >= 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        body();
        _exit(0);
    }
    return pid;
}

static void wait_forever(void)
{
    for (;;)
        pause();
}

static char state_of(pid_t pid)
{
    char path[64], buf[512] = "";
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    int fd = open(path, O_RDONLY);
    if (fd < 0)
        return '-';
    ssize_t len = read(fd, buf, sizeof buf - 1);
    close(fd);
    const char *end = len > 0 ? strrchr(buf, ')') : NULL;
    return end ? end[2] : '-';
}

static bool reaches(pid_t pid, char state)
{
    for (int i = 0; i < 5000; i++) {
        if (state_of(pid) == state)
            return true;
        sleep_ms(2);
    }
    return false;
}

// 50 descendants: two levels, each in a session of its own, with parents that have left.
static void grow_fifty(void)
{
    for (int i = 0; i < 25; i++) {
        if (fork() == 0) {
            setsid();
            if (fork() == 0)
                wait_forever();
            if (i % 2)
                _exit(0);
            wait_forever();
        }
    }
    wait_forever();
}

// Is a new process every moment.
static void run_away(void)
{
    signal(SIGTERM, SIG_IGN);
    for (;;) {
        if (fork() != 0)
            _exit(0);
        setsid();
    }
}

Test(shim_tree, nobody_is_empty)
{
    cr_expect(pm_tree_empty(0));
    cr_expect(pm_tree_kill(0) == 0);
}

Test(shim_tree, fifty_daemonized_descendants_die)
{
    spawn(grow_fifty);
    sleep_ms(100);
    cr_expect(!pm_tree_empty(0));
    cr_expect(kill_all(0), "something is left");
}

Test(shim_tree, a_process_that_forks_all_the_time_does_not_escape)
{
    spawn(run_away);
    sleep_ms(50);
    cr_expect(kill_all(0), "it escaped");
}

Test(shim_tree, a_zombie_counts_until_it_is_reaped)
{
    pid_t pid = fork();
    if (pid == 0)
        _exit(0);
    cr_assert(reaches(pid, 'Z'));
    cr_expect(!pm_tree_empty(0));
    waitpid(pid, NULL, 0);
    cr_expect(pm_tree_empty(0));
}

Test(shim_tree, stop_and_resume_reach_everybody)
{
    pid_t child = spawn(grow_fifty);
    sleep_ms(100);
    pm_tree_stop(0);
    cr_expect(reaches(child, 'T'));
    pm_tree_resume(0);
    cr_expect(reaches(child, 'S'));
    cr_expect(kill_all(0));
}

Test(shim_tree, what_is_stopped_can_be_killed)
{
    spawn(grow_fifty);
    sleep_ms(50);
    pm_tree_stop(0);
    cr_expect(kill_all(0));
}

// Looks again and again, so that a stop that comes late is seen, too.
static bool goes_on(pid_t pid)
{
    for (int i = 0; i < 50; i++) {
        if (strchr("TtZX-", state_of(pid)))
            return false;
        sleep_ms(1);
    }
    return true;
}

static int report_end;

static void agent_with_a_server(void)
{
    pid_t server = fork();
    if (server == 0)
        wait_forever();
    (void)!write(report_end, &server, sizeof server);
    wait_forever();
}

Test(shim_tree, excepted_children_are_left_alone_with_their_own)
{
    int ends[2];
    pid_t server;
    cr_assert(pipe(ends) == 0);
    report_end = ends[1];
    pid_t agent = spawn(agent_with_a_server), heir = spawn(wait_forever);
    const pid_t others[] = {agent, heir, 0};
    cr_assert(read(ends[0], &server, sizeof server) == (ssize_t)sizeof server);
    cr_expect(pm_tree_empty(others));
    pid_t rank = spawn(wait_forever);
    cr_expect(!pm_tree_empty(others));
    pm_tree_stop(others);
    cr_expect(reaches(rank, 'T'));
    cr_expect(goes_on(agent) && goes_on(server) && goes_on(heir));
    cr_expect(kill_all(others));
    cr_expect(goes_on(agent) && goes_on(server) && goes_on(heir));
    cr_expect(kill_all(0));
}
