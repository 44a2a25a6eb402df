// SPDX-License-Identifier: Apache-2.0
//
// See exits.h for the contract.
#include "pmix_server/pmix/exits.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pmix_server/pmix/ranks.h"

#define EXITING 0x4ul  // PF_EXITING of the kernel's sched.h, set before the process' files are closed

struct process {
    uint32_t rank;
    int stat_fd;
};

static struct {
    pthread_mutex_t mutex;  // guards the rest
    struct process *list;
    size_t n;
} watched = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static struct process *process_of(uint32_t rank)
{
    for (size_t i = 0; i < watched.n; i++)
        if (watched.list[i].rank == rank)
            return &watched.list[i];
    struct process *longer = realloc(watched.list, (watched.n + 1) * sizeof(*longer));
    if (!longer)
        _exit(1);
    watched.list = longer;
    longer[watched.n] = (struct process){.rank = rank, .stat_fd = -1};
    return &longer[watched.n++];
}

void pm_exits_watch(uint32_t rank, uint32_t pid)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%u/stat", pid);
    pthread_mutex_lock(&watched.mutex);
    struct process *process = process_of(rank);
    if (process->stat_fd >= 0)
        close(process->stat_fd);
    // If it is gone already, DIED says so.
    process->stat_fd = open(path, O_RDONLY | O_CLOEXEC);
    pthread_mutex_unlock(&watched.mutex);
}

// Field 9 of proc(5)'s stat; the name in field 2 may hold anything, blanks and ")" too.
static bool is_exiting(int stat_fd)
{
    char text[512];
    ssize_t n = pread(stat_fd, text, sizeof(text) - 1, 0);
    if (n <= 0)
        return true;  // reaped
    text[n] = '\0';
    const char *rest = strrchr(text, ')');
    unsigned long flags = 0;
    return rest && sscanf(rest, ") %*c %*d %*d %*d %*d %*d %lu", &flags) == 1 && flags & EXITING;
}

void pm_exits_look(const struct pm_set *set)
{
    pthread_mutex_lock(&watched.mutex);
    for (size_t i = 0; i < watched.n; i++) {
        const struct process *process = &watched.list[i];
        bool counts = process->stat_fd >= 0 && pm_set_has(set, process->rank) &&
                      pm_ranks_has(PM_RANK_CONNECTED, process->rank) &&
                      !pm_ranks_has(PM_RANK_FINALIZED, process->rank);
        if (counts && is_exiting(process->stat_fd))
            pm_ranks_mark(PM_RANK_LOST, process->rank);
    }
    pthread_mutex_unlock(&watched.mutex);
}
