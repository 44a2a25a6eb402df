// SPDX-License-Identifier: Apache-2.0
//
// See exits.h for the contract.
#include "pmix_server/pmix/exits.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pmix_server/pmix/ranks.h"
#include "pmix_server/pmix/stream.h"

struct process {
    uint32_t rank;
    int statm_fd;
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
        pm_stream_fail("out of memory");
    watched.list = longer;
    longer[watched.n] = (struct process){.rank = rank, .statm_fd = -1};
    return &longer[watched.n++];
}

void pm_exits_watch(uint32_t rank, uint32_t pid)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%u/statm", pid);
    pthread_mutex_lock(&watched.mutex);
    struct process *process = process_of(rank);
    if (process->statm_fd >= 0)
        close(process->statm_fd);
    // If it is gone already, DIED says so.
    process->statm_fd = open(path, O_RDONLY | O_CLOEXEC);
    if (process->statm_fd < 0 && errno != ENOENT && errno != ESRCH)
        pm_stream_fail("cannot watch the process of rank %u: %s", rank, strerror(errno));
    pthread_mutex_unlock(&watched.mutex);
}

// A process gives up its memory before its files (do_exit() of the kernel: exit_mm, then exit_files); from
// then on all sizes of proc(5)'s statm are 0. The flag PF_EXITING in `stat` says the same for three times
// the cost.
static bool is_exiting(int statm_fd)
{
    char text[2];
    ssize_t len = pread(statm_fd, text, sizeof(text), 0);
    if (len < 0 && errno != ESRCH)
        pm_stream_fail("cannot tell whether a rank is ending: %s", strerror(errno));
    return len != sizeof(text)  // reaped
           || !memcmp(text, "0 ", sizeof(text));
}

void pm_exits_look(const struct pm_set *set)
{
    pthread_mutex_lock(&watched.mutex);
    for (size_t i = 0; i < watched.n; i++) {
        const struct process *process = &watched.list[i];
        bool counts = process->statm_fd >= 0 && pm_set_has(set, process->rank) &&
                      pm_ranks_has(PM_RANK_CONNECTED, process->rank) &&
                      !pm_ranks_has(PM_RANK_FINALIZED, process->rank);
        if (counts && is_exiting(process->statm_fd))
            pm_ranks_mark(PM_RANK_LOST, process->rank);
    }
    pthread_mutex_unlock(&watched.mutex);
}
