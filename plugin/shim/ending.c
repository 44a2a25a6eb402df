// SPDX-License-Identifier: Apache-2.0
//
// The ways a shim ends when nothing can go on, and the way it ends well: so that slurmstepd sees
// the rank's own status. Before the last resort everything below us is killed and reaped.
#include <poll.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "plugin/shim/internal.h"
#include "plugin/shim/tree.h"

#define LAST_KILL_TIMEOUT_MS 5000
#define AGENT_END_TIMEOUT_MS 1000
#define COMPLAIN_MS 100  // a stderr that nobody reads holds up no end

uint64_t pm_shim_clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return (uint64_t)now.tv_sec * 1000 * PM_NS_PER_MS + (uint64_t)now.tv_nsec;
}

void pm_shim_complain(const char *node, const char *text, const char *detail)
{
    struct pollfd out = {.fd = STDERR_FILENO, .events = POLLOUT};
    char line[1200] = "pm-supervise: ";
    strncat(line, node, 256);
    strcat(line, ": ");
    strncat(line, text, 256);
    strncat(line, detail, 512);
    strcat(line, "\n");
    if (poll(&out, 1, COMPLAIN_MS) > 0 && out.revents & POLLOUT)
        (void)!write(STDERR_FILENO, line, strlen(line));
}

// Ends in the way that gives slurmstepd this wait status, without a second core file.
void pm_shim_end_with(int status)
{
    sigset_t none;
    if (!WIFSIGNALED(status))
        _exit(WIFEXITED(status) ? WEXITSTATUS(status) : PM_EXIT_CANNOT_SUPERVISE);
    // A core_pattern that is a pipe (systemd-coredump) does not ask for the limit.
    (void)setrlimit(RLIMIT_CORE, &(struct rlimit){0});
    (void)prctl(PR_SET_DUMPABLE, 0);
    (void)signal(WTERMSIG(status), SIG_DFL);
    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)kill(getpid(), WTERMSIG(status));
    _exit(128 + WTERMSIG(status));
}

bool pm_shim_reap_one(struct shim *s, pid_t which)
{
    int status;
    pid_t pid = waitpid(which, &status, WNOHANG);
    if (pid > 0 && pid == s->agent) {
        s->agent = 0;
        s->agent_status = status;
    }
    if (pid > 0 && pid == s->heir.pid)
        pm_heir_forget(&s->heir);
    return pid > 0;
}

// Nobody to report to any more: kill and reap everything, for a bounded time.
static void kill_for_good(struct shim *s)
{
    uint64_t deadline_ns = pm_shim_clock_ns() + LAST_KILL_TIMEOUT_MS * PM_NS_PER_MS;
    pm_heir_dismiss(&s->heir);
    for (;;) {
        (void)pm_tree_kill(pm_shim_not_ours(s));
        while (pm_shim_reap_one(s, -1))
            ;
        if (pm_tree_empty(pm_shim_not_ours(s)) || pm_shim_clock_ns() > deadline_ns)
            return;
        (void)nanosleep(&(struct timespec){.tv_nsec = 2 * (long)PM_NS_PER_MS}, NULL);
    }
}

// Our child is the agent's janitor, which cleans up behind it: so the agent is what is killed. There may be
// none yet.
static void end_agent(struct shim *s)
{
    uint64_t deadline_ns = pm_shim_clock_ns() + AGENT_END_TIMEOUT_MS * PM_NS_PER_MS;
    while (s->agent > 0 && !pm_shim_reap_one(s, s->agent) && pm_shim_clock_ns() < deadline_ns) {
        pm_tree_kill_below(s->agent);
        (void)nanosleep(&(struct timespec){.tv_nsec = (long)PM_NS_PER_MS / 2}, NULL);
    }
    if (s->agent > 0)
        (void)kill(s->agent, SIGKILL);
}

void pm_shim_cannot_start(struct shim *s, const char *why)
{
    // One line a node is enough; the others end for the same reason.
    if (s->config->local == 0)
        pm_shim_complain(s->config->node, "cannot start the agent: ", why);
    end_agent(s);
    _exit(PM_EXIT_CANNOT_SUPERVISE);
}

// "it ended with exit status 3" needs no stdio.
static const char *describe_end(int status, char *buf)
{
    int number = WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status);
    char digits[] = {(char)('0' + number / 100), (char)('0' + number / 10 % 10),
                     (char)('0' + number % 10), '\0'};
    const char *shown = digits + (number < 10 ? 2 : number < 100 ? 1 : 0);
    strcpy(buf, WIFSIGNALED(status) ? "it was killed by signal " : "it ended with exit status ");
    return strcat(buf, shown);
}

// Our own child: its zombie may come a moment after the end of its connection.
void pm_shim_await_agent(struct shim *s)
{
    for (int i = 0; i < 200 && s->agent > 0 && !pm_shim_reap_one(s, s->agent); i++)
        (void)nanosleep(&(struct timespec){.tv_nsec = (long)PM_NS_PER_MS / 2}, NULL);
}

void pm_shim_agent_gone(struct shim *s)
{
    char how[64] = "its connection ended";
    bool had_rank = s->open;
    kill_for_good(s);
    pm_shim_await_agent(s);
    if (s->config->agent > 0 && s->agent == 0)
        describe_end(s->agent_status, how);
    if (!s->started)
        pm_shim_cannot_start(s, how);
    if (s->config->local == 0)
        pm_shim_complain(s->config->node,
                         had_rank ? "the agent is gone, its ranks were killed: "
                                  : "the agent is gone: ", how);
    _exit(PM_EXIT_AGENT_GONE);
}

void pm_shim_parent_gone(struct shim *s)
{
    kill_for_good(s);
    _exit(PM_EXIT_AGENT_GONE);
}
