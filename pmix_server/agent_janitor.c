// SPDX-License-Identifier: Apache-2.0
//
// The step's folder on this node, and the process that removes it whatever happens to this agent.
//
// The janitor is a fork that waits for the end of a pipe: closed by the agent, or by the agent's death.
// It then removes the folder, sweeps what Open MPI left in shared memory, and ends. Slurm kills the step's
// processes as soon as the last shim has ended, so an agent that ends in order waits for its janitor
// first. If the janitor is killed as well, a later agent of this user sweeps (pm_folder_sweep_stale).
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pmix_server/agent.h"
#include "pmix_server/io/util.h"

#define DONE_MS 500
#define LOCK_FD 4
#define PIPE_FD 3

// Ranks of these epochs may have left something: the last one begun and the one before it.
static void sweep(const struct pm_agent_config *c, uint32_t newest, unsigned n_epochs)
{
    for (unsigned i = 0; i < n_epochs && i < 2; i++)
        pm_folder_sweep_epoch(c, newest - i);
}

static void close_others(int first)
{
#ifdef SYS_close_range
    if (syscall(SYS_close_range, first, ~0u, 0) == 0)
        return;
#endif
    long limit = sysconf(_SC_OPEN_MAX);
    for (int fd = first; fd < (limit > 0 ? limit : 1024); fd++)
        close(fd);
}

__attribute__((noreturn)) static void be_janitor(const struct agent *a, int pipe_fd, int lock_fd)
{
    uint32_t epoch = 0, newest = 0;
    unsigned n_epochs = 0;
    prctl(PR_SET_NAME, "pm-janitor");
    // Out of the way first: either may sit on the other's number. The lock lives as long as we do.
    pipe_fd = fcntl(pipe_fd, F_DUPFD, 10);
    lock_fd = fcntl(lock_fd, F_DUPFD, 10);
    dup2(pipe_fd, PIPE_FD);
    dup2(lock_fd, LOCK_FD);
    close_others(LOCK_FD + 1);
    for (ssize_t n = 1; n != 0;) {
        n = read(PIPE_FD, &epoch, sizeof(epoch));
        if (n < 0 && errno != EINTR)
            break;
        if (n == (ssize_t)sizeof(epoch)) {
            newest = epoch;
            n_epochs++;
        }
    }
    pm_folder_remove(a->folder);
    sweep(&a->config, newest, n_epochs);
    _exit(0);
}

static void on_ended(pid_t pid, int status, void *arg)
{
    struct agent *a = arg;
    a->janitor = 0;
    a->folder[0] = '\0';
    pm_agent_end_if_clean(a);
}

static int janitor_start(struct agent *a, int lock_fd)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) < 0)
        return -errno;
    pid_t pid = fork();
    if (pid == 0)
        be_janitor(a, fds[0], lock_fd);
    int r = pid < 0 ? -errno : 0;
    close(fds[0]);
    if (r == 0)
        r = pm_children_watch(a->children, pid, on_ended, a);
    if (r < 0) {
        close(fds[1]);
        return r;
    }
    a->janitor = pid;
    a->janitor_pipe = fds[1];
    return 0;
}

static int step_folder(struct agent *a)
{
    const struct pm_agent_config *c = &a->config;
    char name[64];
    snprintf(name, sizeof(name), "pm-supervise.%u.%u.%u", c->uid, c->job, c->step);
    int lock = pm_folder_make(c->tmpdir, name, a->folder, sizeof(a->folder));
    if (lock < 0) {
        a->folder[0] = '\0';
        return lock;
    }
    int r = janitor_start(a, lock);
    close(lock);  // the janitor holds it
    if (r < 0) {
        pm_folder_remove(a->folder);
        a->folder[0] = '\0';
    }
    return r;
}

int pm_janitor_folder(struct agent *a, char *path, size_t cap)
{
    int r = a->folder[0] ? 0 : step_folder(a);
    if (r < 0)
        return r;
    int n = snprintf(path, cap, "%s/s%u", a->folder, a->n_folders++);
    if (n < 0 || (size_t)n >= cap)
        return -ENAMETOOLONG;
    return mkdir(path, 0700) < 0 ? -errno : 0;
}

void pm_janitor_note_epoch(struct agent *a, uint32_t epoch)
{
    if (a->janitor_pipe >= 0)
        (void)!write(a->janitor_pipe, &epoch, sizeof(epoch));
}

void pm_janitor_dismiss(struct agent *a)
{
    if (a->janitor_pipe >= 0)
        close(a->janitor_pipe);
    a->janitor_pipe = -1;
}

void pm_janitor_done(struct agent *a)
{
    pm_janitor_dismiss(a);
    for (int i = 0; a->janitor && i < DONE_MS && waitpid(a->janitor, NULL, WNOHANG) == 0; i++)
        usleep(1000);
}
