// SPDX-License-Identifier: Apache-2.0
//
// See shim.h. One poll loop over the agent's socket, a signalfd, a pidfd of slurmstepd and the timer of the lease.
//
// An incarnation is `open` from its fork until TREE_GONE has been sent. Whatever is asked for while
// it is open (a kill, a further START, END) first kills the tree and is answered when the last
// descendant has been reaped; `settle` is the one place where that is noticed and the next thing
// done. The tree stands still if the agent said PAUSE or the node's lease is over.
//
// Signals are passed on to the rank's own process; those from Slurm are reported first. Those that a
// terminal made (--pty) are neither: the kernel has given them to the rank as well.
#include "plugin/shim/shim.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "plugin/shim/fds.h"
#include "plugin/shim/internal.h"
#include "plugin/shim/link.h"
#include "plugin/shim/tree.h"

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

#define WELCOME_TIMEOUT_MS 30000
#define KILL_RETRY_MS 20
#define LEASE_RETRY_MS 100
#define LOOK_AGAIN_MS 1000

// --- the rank -----------------------------------------------------------------------------------

// The link stays: what becomes of the place that START brings is told over it. It is close-on-exec.
static void close_own(struct shim *s)
{
    close(s->signals);
    if (s->parent_watch >= 0)
        close(s->parent_watch);
    if (s->config->oom_fd >= 0)
        close(s->config->oom_fd);
    if (s->lease >= 0)
        close(s->lease);
}

// The child's last act before it goes on as the program.
static bool leave_shim(struct shim *s)
{
    struct pm_bound bound;
    if (!pm_bind_apply(&s->current.place, &bound))
        pm_shim_send_unbound(s, &bound);
    close(s->link);
    pm_writer_done(&s->out);
    (void)sigprocmask(SIG_SETMASK, &s->old_mask, NULL);
    return true;
}

// True in the heir when it has been called. Without one a start forks.
static bool make_heir(struct shim *s)
{
    if (pm_heir_fork(&s->heir, s->config->oom_fd) != 0)
        return false;
    close_own(s);
    s->config->prepare(s->config->prepare_context, &s->heir.likely);
    pm_start_free(&s->current);
    if (pm_heir_wait(&s->heir, &s->current) < 0) {
        pm_shim_complain(s->config->node, "cannot start the program: ", "out of memory");
        _exit(PM_EXIT_CANNOT_SUPERVISE);
    }
    return leave_shim(s);
}

// Calls the heir, or forks. True in the child, which is then no shim any more.
static bool start_rank(struct shim *s)
{
    pm_start_free(&s->current);
    s->current = s->next;
    s->next = (struct pm_shim_start){0};
    s->started = true;
    pid_t pid;
    if (!pm_heir_call(&s->heir, &s->current, &pid))
        pid = pm_rank_fork(s->config->oom_fd);
    if (pid == 0) {
        close_own(s);
        return leave_shim(s);
    }
    if (pid < 0) {
        pm_shim_send_say(s, "cannot fork the program: out of processes or memory");
        pm_shim_report_never_ran(s, &s->current, PM_EXIT_CANNOT_SUPERVISE << 8);
        return false;
    }
    s->rank = pid;
    s->open = true;
    s->killing = s->standing = s->still = false;
    s->killed = 0;
    pm_shim_send_started(s);
    if (s->config->on_idle)
        s->config->on_idle();
    return false;
}

const pid_t *pm_shim_not_ours(struct shim *s)
{
    size_t n = 0;
    if (s->agent > 0)
        s->not_ours[n++] = s->agent;
    if (s->heir.pid > 0)
        s->not_ours[n++] = s->heir.pid;
    s->not_ours[n] = 0;
    return s->not_ours;
}

void pm_shim_kill_tree(struct shim *s)
{
    s->killing = true;
    size_t n = pm_tree_kill(pm_shim_not_ours(s));
    if (s->killed == 0 && n > 0)
        s->killed = (uint32_t)(n - (s->rank > 0));
}

static void rank_ended(struct shim *s)
{
    struct pm_rank_end end = {
        .epoch = s->current.epoch, .incarnation = s->current.incarnation, .pid = s->rank};
    pm_rank_reap(&end);
    s->rank = 0;
    if (!s->overridden)
        s->last_status = end.status;
    pm_shim_send_exited(s, &end);
}

// Reaps whoever has ended; the rank only after its /proc entry has told whether its exec failed.
static void reap(struct shim *s)
{
    for (;;) {
        siginfo_t info = {0};
        if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid == 0)
            return;
        if (info.si_pid == s->rank)
            rank_ended(s);
        else
            (void)pm_shim_reap_one(s, info.si_pid);
    }
}

// --- signals ------------------------------------------------------------------------------------

static void take_caught(struct shim *s, const struct signalfd_siginfo *info)
{
    int signal = (int)info->ssi_signo;
    if (signal == SIGCHLD || info->ssi_code == SI_KERNEL)
        return;
    // Only slurmstepd speaks for Slurm (pid 0: it is outside our PID namespace). A rank that does
    // kill(0, ...) reaches the shims of its node as well and does not mean the step.
    bool from_slurm = info->ssi_pid == (uint32_t)s->parent || info->ssi_pid == 0;
    if (s->lease >= 0) {
        if (from_slurm)
            pm_shim_send_signalled(s, signal);
        if (s->rank > 0)
            (void)kill(s->rank, signal);
    } else if (signal == SIGTERM || signal == SIGINT || signal == SIGHUP || signal == SIGQUIT) {
        pm_shim_end_with(signal);  // nothing has begun yet
    }
}

static void read_signals(struct shim *s)
{
    struct signalfd_siginfo info[8];
    ssize_t len;
    while ((len = read(s->signals, info, sizeof info)) > 0) {
        if (getppid() != s->parent)
            pm_shim_parent_gone(s);
        for (size_t i = 0; i < (size_t)len / sizeof info[0]; i++)
            take_caught(s, &info[i]);
    }
}

// --- the loop -----------------------------------------------------------------------------------

// The timer has rung and the agent has not set it anew. Nobody reads it: all shims of the node share it.
static bool lease_is_over(const struct shim *s)
{
    struct pollfd lease = {.fd = s->lease, .events = POLLIN};
    return s->lease >= 0 && poll(&lease, 1, 0) > 0;
}

static bool must_stand(const struct shim *s)
{
    return s->paused || lease_is_over(s);
}

static void obey_lease(struct shim *s)
{
    if (!s->open || s->killing)
        return;
    bool stand = must_stand(s);
    if (stand && !s->still) {
        s->standing = true;
        s->still = pm_tree_stop(pm_shim_not_ours(s));
    } else if (!stand && s->standing) {
        s->still = false;
        s->standing = !pm_tree_resume(pm_shim_not_ours(s));
    }
}

// Does what the present state allows. True in a child that is to become the program.
static bool settle(struct shim *s)
{
    reap(s);
    if (s->open && s->killing && !pm_tree_empty(pm_shim_not_ours(s))) {
        pm_shim_kill_tree(s);
        reap(s);
    }
    if (s->open && s->rank == 0 && pm_tree_empty(pm_shim_not_ours(s))) {
        s->open = false;
        pm_shim_send_tree_gone(s, &s->current, s->killed);
    }
    if (s->ending && (!s->open || pm_shim_clock_ns() >= s->end_deadline_ns)) {
        // The agent ends when the last link is closed. slurmstepd looks whether the step is empty, and
        // if not, again a second later: so the agent goes first.
        if (s->link >= 0) {
            (void)shutdown(s->link, SHUT_RDWR);  // an heir that has not ended yet has it, too
            close(s->link);
        }
        s->link = -1;
        pm_shim_await_agent(s);
        pm_shim_end_with(s->last_status);
    }
    if (s->lease < 0 && pm_shim_clock_ns() >= s->welcome_deadline_ns)
        pm_shim_cannot_start(s, "it has not answered in time");
    obey_lease(s);
    if (s->next.entries)
        return !s->open && !must_stand(s) && start_rank(s);
    return s->heir.wanted && make_heir(s);
}

static int until_welcome_ms(const struct shim *s)
{
    uint64_t now_ns = pm_shim_clock_ns();
    return now_ns < s->welcome_deadline_ns ? (int)((s->welcome_deadline_ns - now_ns) / PM_NS_PER_MS) + 1 : 0;
}

// -1: for ever. A rank under a live lease costs no wake-up: the end of the lease is a descriptor's.
static int timeout_ms(const struct shim *s)
{
    if (s->lease < 0)
        return until_welcome_ms(s);
    if (s->open && s->killing)
        return KILL_RETRY_MS;
    if (s->open ? s->standing : s->next.entries != NULL)
        return LEASE_RETRY_MS;
    return s->open && s->rank == 0 ? LOOK_AGAIN_MS : -1;  // if there was no memory to see the end of the tree
}

static void wait_and_read(struct shim *s)
{
    bool runs = s->open && !s->killing && !s->standing;  // where it stands, the timer goes on ringing
    struct pollfd fds[] = {{.fd = s->link, .events = POLLIN},
                           {.fd = s->signals, .events = POLLIN},
                           {.fd = s->parent_watch, .events = POLLIN},
                           {.fd = runs ? s->lease : -1, .events = POLLIN}};
    if (poll(fds, 4, timeout_ms(s)) <= 0)
        return;
    if (fds[2].revents && getppid() != s->parent)
        pm_shim_parent_gone(s);
    if (fds[1].revents)
        read_signals(s);
    if (fds[0].revents) {
        reap(s);  // what ended before the agent's words is told before them
        pm_shim_read_link(s);
    }
}

static void become_shim(struct shim *s)
{
    sigset_t all;
    sigfillset(&all);
    (void)sigprocmask(SIG_BLOCK, &all, &s->old_mask);
    (void)prctl(PR_SET_NAME, "pm-shim");
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1);
    // A signal that means nothing else to us: read_signals looks for the parent at every one. (It
    // also comes when only the thread ends that forked us; SIGTERM would then be taken for Slurm's.)
    (void)signal(SIGCHLD, SIG_DFL);
    (void)prctl(PR_SET_PDEATHSIG, SIGCHLD);
    if (getppid() != s->parent)
        pm_shim_parent_gone(s);
    if (!pm_tree_supported())
        pm_shim_cannot_start(s, errno == ENOENT ? "this kernel cannot list children (CONFIG_PROC_CHILDREN)"
                                                : strerror(errno));
    if (s->config->way == PM_SHIM_WAY_FORK)
        pm_fds_close_foreign(&s->config->oom_fd, 1);
    s->signals = signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
    s->signals = s->signals < 0 ? -errno : pm_fd_raise(s->signals);
    if (s->signals < 0)
        pm_shim_cannot_start(s, "no signalfd");
    s->parent_watch = (int)syscall(SYS_pidfd_open, s->parent, 0);
    if (s->parent_watch >= 0)
        s->parent_watch = pm_fd_raise(s->parent_watch);
}

static void join_agent(struct shim *s)
{
    uint32_t wait_ms = s->config->welcome_ms ? s->config->welcome_ms : WELCOME_TIMEOUT_MS;
    s->link = pm_link_connect(s->config);
    if (s->link == -EPERM)
        pm_shim_cannot_start(s, "its socket was not made by slurmstepd");
    if (s->link < 0)
        pm_shim_agent_gone(s);
    s->welcome_deadline_ns = pm_shim_clock_ns() + wait_ms * PM_NS_PER_MS;
    pm_shim_send_hello(s);
}

struct pm_shim_start *pm_shim_run(const struct pm_shim_config *config)
{
    static struct shim s;
    s = (struct shim){.config = config,
                      .link = -1,
                      .parent_watch = -1,
                      .lease = -1,
                      .parent = getppid(),
                      .agent = config->agent,
                      .last_status = PM_EXIT_CANNOT_SUPERVISE << 8};
    become_shim(&s);
    join_agent(&s);
    while (!settle(&s))
        wait_and_read(&s);
    return &s.current;
}
