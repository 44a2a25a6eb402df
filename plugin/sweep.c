// SPDX-License-Identifier: Apache-2.0
//
// The end of a supervised step in slurmstepd: the container is gone. If it was killed all at once (a
// second Ctrl-C, scancel --signal=KILL) nobody was left to remove the step's folder, so `pm-agent --sweep`
// does that now, as the user. As root nothing is looked at here: fork, become the user for good,
// exec. slurmstepd waits for a little more than a second at most.
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "plugin/plugin.h"
#include "plugin/shim/fds.h"

#define WAIT_MS 1000
#define KILLED_MS 200  // from SIGKILL to the end

// For good: failing to drop root, or being able to get it back, ends the process.
static void become_user(uid_t uid, gid_t gid)
{
    if (setgroups(1, &gid) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
        _exit(127);
    if (getuid() != uid || geteuid() != uid || (uid != 0 && setuid(0) == 0))
        _exit(127);
}

__attribute__((noreturn)) static void sweep(const char *path, uid_t uid, gid_t gid)
{
    char *const argv[] = {(char[]){"pm-agent"}, (char[]){"--sweep"}, NULL};
    char *const env[] = {NULL};
    sigset_t none;
    for (int sig = 1; sig < NSIG; sig++)
        (void)signal(sig, SIG_DFL);
    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    int null = open("/dev/null", O_RDWR);
    for (int fd = 0; fd <= 2; fd++)
        if (dup2(null, fd) < 0)
            _exit(127);
    pm_fds_close_from(3);
    become_user(uid, gid);
    if (chdir("/") == 0)
        (void)execve(path, argv, env);
    _exit(127);
}

static bool ends_within(pid_t pid, int ms)
{
    for (int i = 0; i < ms; i++) {
        if (waitpid(pid, NULL, WNOHANG) != 0)
            return true;
        (void)nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    return false;
}

// What hangs in the kernel (a dead file server) does not even die of SIGKILL: it is left behind, since Slurm drains the
// node of a slurmstepd that does not end.
static void wait_for(pid_t pid)
{
    if (ends_within(pid, WAIT_MS))
        return;
    (void)kill(pid, SIGKILL);
    (void)ends_within(pid, KILLED_MS);
}

int pm_sweep_exit(spank_t spank)
{
    const struct pm_step *step = pm_stepd_step();
    char path[PATH_MAX];
    uid_t uid;
    gid_t gid;
    if (!step || spank_get_item(spank, S_JOB_UID, &uid) != ESPANK_SUCCESS ||
        spank_get_item(spank, S_JOB_GID, &gid) != ESPANK_SUCCESS ||
        snprintf(path, sizeof path, "%s/pm-agent", step->libexec) >= (int)sizeof path)
        return 0;
    pid_t pid = fork();
    if (pid == 0)
        sweep(path, uid, gid);
    if (pid > 0)
        wait_for(pid);
    return 0;
}
