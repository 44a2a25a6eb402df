// SPDX-License-Identifier: Apache-2.0
//
// A program of the site's or the user's beside the loop: its guard always answers, also for one that SIGKILL does not
// end. waitpid() is stood in for: the guard, a fork of this process, then never hears of the program's end.
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pmix_server/io/program.h"
#include "pmix_server/io/util.h"

#define NS_PER_MS 1000000u

static bool hangs_in_the_kernel;

pid_t __real_waitpid(pid_t pid, int *status, int options);
pid_t __wrap_waitpid(pid_t pid, int *status, int options);

pid_t __wrap_waitpid(pid_t pid, int *status, int options)
{
    while (hangs_in_the_kernel && !(options & WNOHANG))
        pause();
    return hangs_in_the_kernel ? 0 : __real_waitpid(pid, status, options);
}

TestSuite(program, .timeout = 30);

static struct {
    bool good;
    char why[128];
    uint64_t took_ms;
} seen;

static void run(const char *script, uint64_t limit_ms)
{
    sigset_t none;
    sigemptyset(&none);
    char *argv[] = {(char *)(uintptr_t)"/bin/sh", (char *)(uintptr_t)"-c", (char *)(uintptr_t)script, NULL};
    char *env[] = {(char *)(uintptr_t)"PM_TEST=7", NULL};
    const struct pm_program p = {.argv = argv, .env = env, .mask = &none, .limit_ms = limit_ms};
    uint64_t began_ns = pm_clock_ns();
    int status = -1;
    pid_t guard = pm_program_start(&p);
    cr_assert_gt(guard, 0);
    cr_assert_eq(__real_waitpid(guard, &status, 0), guard);
    seen.took_ms = (pm_clock_ns() - began_ns) / NS_PER_MS;
    seen.why[0] = '\0';
    seen.good = pm_program_outcome(status, limit_ms, seen.why, sizeof(seen.why));
}

static void expect_why(const char *why)
{
    cr_expect(!seen.good);
    cr_expect_str_eq(seen.why, why);
}

Test(program, one_that_ends_with_0_is_good)
{
    run("test $PM_TEST = 7", 20000);
    cr_expect(seen.good, "%s", seen.why);
}

Test(program, how_it_ended_is_told)
{
    run("exit 3", 20000);
    expect_why("ended with exit code 3");
    run("kill -TERM $$", 20000);
    expect_why("was killed by signal 15");
    run("exit 127", 20000);
    expect_why("could not be run (exit code 127)");
}

// Also what it has started: a pipe that only they hold ends.
Test(program, one_that_takes_too_long_is_killed_with_its_group)
{
    char path[] = "/tmp/pm-test-program.XXXXXX", script[128];
    cr_assert(mkdtemp(path));
    (void)snprintf(script, sizeof(script), "(sleep 2; : >%s/outlived) & sleep 30", path);
    run(script, 200);
    expect_why("took longer than 200 ms and was killed");
    cr_expect_lt(seen.took_ms, 15000);
    sleep(3);
    cr_expect_eq(rmdir(path), 0); // nothing in it
}

Test(program, one_that_sigkill_does_not_end_is_left_behind)
{
    hangs_in_the_kernel = true;
    run("sleep 1", 200);
    expect_why("took longer than 200 ms and was killed");
    cr_expect_geq(seen.took_ms, 200);
    cr_expect_lt(seen.took_ms, 15000);
}
