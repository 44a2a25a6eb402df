// SPDX-License-Identifier: Apache-2.0
//
// The end of a supervised step in slurmstepd: the container is gone. If it was killed all at once (a
// second Ctrl-C, scancel --signal=KILL) nobody was left to remove the step's folder, so `pm-agent --sweep`
// does that now, as the user: fork, become the user for good, exec. slurmstepd waits for a little more than a second at
// most. And the start of slurmd: a node that lost its power has the folders of what ran there still on its disk. As
// root only the owners of folders are looked at, and nothing is waited for: what is not done goes with the user's next
// step.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "plugin/plugin.h"
#include "plugin/shim/fds.h"

#define WAIT_MS 1000
#define KILLED_MS 200  // from SIGKILL to the end
#define PREFIX "pm-supervise."  // of the names of steps' folders
// At the start of slurmd, when programs may have to come from a cold disk.
#define USERS_MAX 256
#define USER_WAIT_MS 20000
#define ALL_S 600
#define NOBODYS ((uid_t)-1)
#define NO_GROUP 65534  // who removes what is their own needs none, and the folder's is not Slurm's word

// For good: failing to drop root, or being able to get it back, ends the process.
static void become_user(uid_t uid, gid_t gid)
{
    if (setgroups(1, &gid) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
        _exit(127);
    if (getuid() != uid || geteuid() != uid || (uid != 0 && setuid(0) == 0))
        _exit(127);
    // Until the exec it has the memory of a daemon of root's.
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0) < 0)
        _exit(127);
}

// Nothing of Slurm's that a further process could hold on to: its sockets, its pid file.
static void leave_slurm(void)
{
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
}

__attribute__((noreturn)) static void sweep(const char *path, uid_t uid, gid_t gid)
{
    char *const argv[] = {(char[]){"pm-agent"}, (char[]){"--sweep"}, NULL};
    char *const env[] = {NULL};
    leave_slurm();
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
static void wait_for(pid_t pid, int ms)
{
    if (ends_within(pid, ms))
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
        wait_for(pid, WAIT_MS);
    return 0;
}

// Names are anybody's to give, owners are not, but for those of a file system that somebody has mounted there: it is not
// asked, and not believed.
static uid_t owner_of(int dir, const char *name)
{
    struct statx all, st;
    const int flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC;
    if (strncmp(name, PREFIX, sizeof PREFIX - 1) != 0 || statx(dir, "", AT_EMPTY_PATH, STATX_TYPE, &all) < 0 ||
        statx(dir, name, flags, STATX_TYPE | STATX_UID, &st) < 0)
        return NOBODYS;
    bool mounted = st.stx_dev_major != all.stx_dev_major || st.stx_dev_minor != all.stx_dev_minor;
    return S_ISDIR(st.stx_mode) && !mounted ? st.stx_uid : NOBODYS;
}

static bool add_user(uid_t *users, int *n, uid_t uid)
{
    for (int i = 0; i < *n; i++)
        if (users[i] == uid)
            return false;
    users[(*n)++] = uid;
    return true;
}

__attribute__((noreturn)) static void sweep_all(const char *path)
{
    uid_t users[USERS_MAX], uid;
    int n = 0;
    leave_slurm();
    (void)prctl(PR_SET_NAME, "pm-sweep");
    (void)alarm(ALL_S);
    DIR *dir = opendir("/tmp");
    for (struct dirent *d; dir && n < USERS_MAX && (d = readdir(dir));) {
        if ((uid = owner_of(dirfd(dir), d->d_name)) == NOBODYS || !add_user(users, &n, uid))
            continue;
        pid_t pid = fork();
        if (pid == 0)
            sweep(path, uid, NO_GROUP);
        if (pid > 0)
            wait_for(pid, USER_WAIT_MS);
    }
    _exit(0);
}

int pm_sweep_start(int ac, char **av)
{
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/pm-agent", pm_plugin_libexec(ac, av)) >= (int)sizeof path)
        return 0;
    pid_t pid = fork();
    if (pid == 0) {
        if (fork() == 0)
            sweep_all(path);
        _exit(0);  // so that slurmd has no child to wait for
    }
    while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    return 0;
}
