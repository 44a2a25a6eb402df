// SPDX-License-Identifier: Apache-2.0
//
// Kills a rank without the help of its shim. The rank itself died with its shim (PDEATHSIG), and its
// descendants have a new parent by now, so they are found by what they carry: the job, step, task and
// incarnation in their environment. A process that wiped its environment is left to Slurm, which
// kills the step's cgroup when the step ends.
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pmix_server/agent.h"
#include "pmix_server/io/util.h"

#define ENVIRON_MAX (1u << 20)
#define PASSES 16  // a rank that forks on while it is being killed

uint64_t pm_tree_start_time(uint32_t pid)
{
    char path[64], text[1024];
    snprintf(path, sizeof(path), "/proc/%u/stat", pid);
    PM_CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    if (n <= 0)
        return 0;
    text[n] = '\0';
    // The name may contain anything; behind its closing bracket is field 3, and we want field 22.
    char *at = strrchr(text, ')');
    for (int field = 2; at && field < 22; field++)
        at = strchr(at + 1, ' ');
    return at ? strtoull(at + 1, NULL, 10) : 0;
}

static bool has_entry(const char *env, size_t len, const char *entry)
{
    size_t want = strlen(entry) + 1;
    for (size_t at = 0; at + want <= len; at += strnlen(env + at, len - at) + 1) {
        if (!memcmp(env + at, entry, want))
            return true;
    }
    return false;
}

static size_t read_environ(const char *pid, char *buf, size_t cap)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%.20s/environ", pid);
    PM_CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t have = 0;
    for (ssize_t n = 1; fd >= 0 && n > 0 && have < cap; have += n > 0 ? (size_t)n : 0)
        n = read(fd, buf + have, cap - have);
    return have;
}

static bool belongs(const struct shim *s, const char *env, size_t len)
{
    const struct pm_agent_config *c = &s->agent->config;
    char wanted[4][64];
    snprintf(wanted[0], sizeof(wanted[0]), "SLURM_JOB_ID=%u", c->job);
    snprintf(wanted[1], sizeof(wanted[1]), "SLURM_STEP_ID=%u", c->step);
    snprintf(wanted[2], sizeof(wanted[2]), "SLURM_PROCID=%u", s->start.rank);
    snprintf(wanted[3], sizeof(wanted[3]), "PM_EPOCH=%u", s->epoch);
    for (int i = 0; i < 4; i++) {
        if (!has_entry(env, len, wanted[i]))
            return false;
    }
    return true;
}

static unsigned kill_pass(const struct shim *s, char *env)
{
    unsigned killed = 0;
    DIR *proc = opendir("/proc");
    for (struct dirent *d; proc && (d = readdir(proc));) {
        pid_t pid = isdigit((unsigned char)d->d_name[0]) ? (pid_t)atol(d->d_name) : 0;
        if (!pid || pid == getpid())
            continue;
        size_t len = read_environ(d->d_name, env, ENVIRON_MAX);
        if (len && belongs(s, env, len))
            killed += kill(pid, SIGKILL) == 0;
    }
    if (proc)
        closedir(proc);
    return killed;
}

void pm_tree_signal(const struct shim *s, int signal)
{
    if (s->rank_pid && pm_tree_start_time(s->rank_pid) == s->rank_start)
        kill((pid_t)s->rank_pid, signal);
}

void pm_tree_kill(const struct shim *s)
{
    if (!s->rank_pid)
        return;
    pm_tree_signal(s, SIGKILL);
    PM_CLEANUP_FREE char *env = malloc(ENVIRON_MAX);
    for (int i = 0; env && i < PASSES; i++) {
        if (!kill_pass(s, env))
            return;
    }
}
