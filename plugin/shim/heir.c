// SPDX-License-Identifier: Apache-2.0
//
// See heir.h.
#include "plugin/shim/heir.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "plugin/shim/fds.h"
#include "plugin/shim/rank.h"

#define DISMISS_MAX_US  100000
#define DISMISS_STEP_US 200

static uint8_t packet[PM_SHIM_PACKET_MAX];

// --- the shim's side ----------------------------------------------------------------------------

static int open_pair(int *ends)
{
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
        return -errno;
    ends[0] = pm_fd_raise(ends[0]);
    ends[1] = pm_fd_raise(ends[1]);
    if (ends[0] >= 0 && ends[1] >= 0)
        return 0;
    for (int i = 0; i < 2; i++)
        if (ends[i] >= 0)
            close(ends[i]);
    return -EMFILE;
}

pid_t pm_heir_fork(struct pm_heir *heir, int oom_fd)
{
    int ends[2];
    heir->wanted = false;
    int rc = open_pair(ends);
    if (rc < 0)
        return rc;
    pid_t pid = pm_rank_fork(oom_fd);
    close(ends[pid == 0 ? 0 : 1]);
    if (pid < 0) {
        close(ends[0]);
        return pid;
    }
    heir->pid = pid;
    heir->fd = ends[pid == 0 ? 1 : 0];
    return pid;
}

// Never blocks: an heir that has been stopped does not read.
static bool hand_over(int fd, const struct pm_shim_start *start)
{
    struct pm_writer w = {0};
    pm_start_write(&w, start);
    ssize_t len = w.error ? -1 : send(fd, w.data, w.len, MSG_DONTWAIT | MSG_NOSIGNAL);
    bool done = len >= 0 && (size_t)len == w.len;
    pm_writer_done(&w);
    return done;
}

bool pm_heir_call(struct pm_heir *heir, const struct pm_shim_start *start, pid_t *ret_pid)
{
    bool done = heir->pid > 0 && pm_heir_suits(&heir->likely, start) && hand_over(heir->fd, start);
    if (done) {
        *ret_pid = heir->pid;
        pm_heir_forget(heir);
    }
    pm_heir_dismiss(heir);
    return done;
}

// SIGKILL ends what waits in recv() at once. An heir that sleeps in the kernel (it touches a page that a
// hanging file system has) may take longer, and nobody waits for that: forgotten by us, it counts as part of
// the rank's tree, is killed and reaped with it, and has its bounds.
static void reap_killed(pid_t pid)
{
    const struct timespec pause = {.tv_nsec = DISMISS_STEP_US * 1000L};
    for (int us = 0; us < DISMISS_MAX_US && waitpid(pid, NULL, WNOHANG) == 0; us += DISMISS_STEP_US)
        (void)nanosleep(&pause, NULL);
}

void pm_heir_dismiss(struct pm_heir *heir)
{
    if (heir->pid > 0) {
        (void)kill(heir->pid, SIGKILL);
        reap_killed(heir->pid);
        pm_heir_forget(heir);
    }
    heir->wanted = false;
    pm_start_free(&heir->likely);
}

void pm_heir_forget(struct pm_heir *heir)
{
    close(heir->fd);
    heir->fd = -1;
    heir->pid = 0;
}

static bool same_name(const char *a, const char *b)
{
    size_t len = strcspn(a, "=");
    return strncmp(a, b, len + 1) == 0;
}

bool pm_heir_suits(const struct pm_shim_start *likely, const struct pm_shim_start *start)
{
    uint32_t k = 0;
    for (uint32_t i = 0; i < likely->n; i++, k++) {
        while (k < start->n && !same_name(likely->entries[i], start->entries[k]))
            k++;
        if (k == start->n)
            return false;
    }
    return true;
}

// --- the heir's side ----------------------------------------------------------------------------

// Slurm signals whole process groups or trees with some proctrack plugins; what it sent while
// we were nobody was for the incarnation before. What the shim has sent is for us, after its call.
static void forget_old_signals(void)
{
    const struct timespec at_once = {0};
    sigset_t all, ours;
    siginfo_t info;
    int signal;
    sigfillset(&all);
    sigemptyset(&ours);
    while ((signal = sigtimedwait(&all, &info, &at_once)) > 0)
        if (info.si_code == SI_USER && info.si_pid == getppid())
            (void)sigaddset(&ours, signal);
    for (signal = 1; signal <= SIGRTMAX; signal++)
        if (sigismember(&ours, signal) == 1)
            (void)kill(getpid(), signal);
}

int pm_heir_wait(struct pm_heir *heir, struct pm_shim_start *ret)
{
    ssize_t len;
    while ((len = recv(heir->fd, packet, sizeof packet, 0)) < 0 && errno == EINTR)
        ;
    struct pm_reader r = pm_reader_of(packet, len > 0 ? (size_t)len : 0);
    int rc = pm_start_read(&r, ret);
    if (rc == -EBADMSG)
        _exit(PM_EXIT_AGENT_GONE);
    close(heir->fd);
    forget_old_signals();
    return rc;
}
