// SPDX-License-Identifier: Apache-2.0
//
// See program.h for the contract.
#include "pmix_server/io/program.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "pmix_server/io/util.h"
#include "pmix_server/wire/options.h"

#define STATUS_CANNOT_RUN 127  // as of a shell; errno is not told on
#define SIGNAL_LIMIT SIGALRM   // the guard ends by it when the limit is over
#define KILLED_MS 500          // from SIGKILL to the end; less than the core waits beyond a limit (ANSWER_MS)

static void reset_signals(const sigset_t *mask)
{
    for (int sig = 1; sig < NSIG; sig++)
        (void)signal(sig, SIG_DFL);
    sigprocmask(SIG_SETMASK, mask, NULL);
}

__attribute__((noreturn)) static void become_program(const struct pm_program *program)
{
    setpgid(0, 0);
    reset_signals(program->mask);
    for (char *const *entry = program->env; *entry; entry++)
        putenv(*entry);
    execv(program->argv[0], program->argv);
    _exit(STATUS_CANNOT_RUN);
}

// Ends as the program did, so that our parent sees its status.
__attribute__((noreturn)) static void end_like(int wait_status)
{
    sigset_t none;
    if (!WIFSIGNALED(wait_status))
        _exit(WEXITSTATUS(wait_status));
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    raise(WTERMSIG(wait_status));
    _exit(128 + WTERMSIG(wait_status));
}

// False: it has not ended when the time is over, or our parent has said (SIGTERM, if that is in `news`) that it shall. All
// signals are blocked, and SIGCHLD also comes when it is stopped.
static bool ends_within(pid_t pid, uint64_t limit_ms, const sigset_t *news, int *ret_status)
{
    uint64_t end_ns = pm_clock_ns() + limit_ms * 1000000;
    while (waitpid(pid, ret_status, WNOHANG) == 0) {
        uint64_t now_ns = pm_clock_ns(), left_ns = end_ns > now_ns ? end_ns - now_ns : 0;
        struct timespec left = {.tv_sec = (time_t)(left_ns / 1000000000),
                                .tv_nsec = (long)(left_ns % 1000000000)};
        int sig = left_ns ? sigtimedwait(news, NULL, &left) : SIGTERM;
        if (sig != SIGCHLD && !(sig < 0 && errno == EINTR))
            return false;
    }
    return true;
}

// What hangs in the kernel (a GPU's driver, a dead file server) does not even die of SIGKILL: it is left behind, so that
// whoever asked has an answer.
static int wait_for(pid_t pid, const struct pm_program *program)
{
    int status = 0, late = 0;
    sigset_t news;
    sigemptyset(&news);
    sigaddset(&news, SIGCHLD);
    if (program->ends_with_us)
        sigaddset(&news, SIGTERM);
    if (ends_within(pid, program->limit_ms, &news, &status))
        return status;
    kill(-pid, SIGKILL);
    kill(pid, SIGKILL);  // it may not have its group yet
    sigdelset(&news, SIGTERM);
    (void)ends_within(pid, KILLED_MS, &news, &late);
    return SIGNAL_LIMIT;
}

__attribute__((noreturn)) static void guard(const struct pm_program *program)
{
    sigset_t all;
    setpgid(0, 0);
    prctl(PR_SET_NAME, "pm-guard");
    reset_signals(program->mask);
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    if (program->ends_with_us)
        prctl(PR_SET_PDEATHSIG, SIGTERM);
    int null = open("/dev/null", O_RDWR);
    for (int fd = 0; fd <= STDERR_FILENO; fd++)
        dup2(null, fd);
    pm_fd_close_from(STDERR_FILENO + 1);
    pid_t pid = fork();
    if (pid == 0)
        become_program(program);
    end_like(pid > 0 ? wait_for(pid, program) : STATUS_CANNOT_RUN << 8);
}

pid_t pm_program_start(const struct pm_program *program)
{
    pid_t pid = fork();
    if (pid == 0)
        guard(program);
    return pid < 0 ? -errno : pid;
}

void pm_program_stop(pid_t guard)
{
    kill(guard, SIGTERM);
}

bool pm_program_outcome(int wait_status, uint64_t limit_ms, char *why, size_t cap)
{
    char limit[32];
    if (WIFSIGNALED(wait_status) && WTERMSIG(wait_status) == SIGNAL_LIMIT)
        (void)snprintf(why, cap, "took longer than %s and was killed",
                       pm_duration_format(limit_ms, limit, sizeof(limit)));
    else if (WIFSIGNALED(wait_status))
        (void)snprintf(why, cap, "was killed by signal %d", WTERMSIG(wait_status));
    else if (WEXITSTATUS(wait_status) == STATUS_CANNOT_RUN)
        (void)snprintf(why, cap, "could not be run (exit code %d)", STATUS_CANNOT_RUN);
    else if (WEXITSTATUS(wait_status))
        (void)snprintf(why, cap, "ended with exit code %d", WEXITSTATUS(wait_status));
    return wait_status == 0;
}
