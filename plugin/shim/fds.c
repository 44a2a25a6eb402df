// SPDX-License-Identifier: Apache-2.0
//
// See fds.h. /proc/self/fd cannot be listed by an un-exec'd shim (it is not dumpable, so its /proc
// folder belongs to root, and it has to stay so: it holds a copy of slurmstepd's memory), but
// /proc/self/status can be read and tells how large the fd table is.
#include "plugin/shim/fds.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_close_range
#define SYS_close_range 436
#endif

#define FALLBACK_TABLE 65536

// No open fd of this process is at or above the result.
static int table_size(void)
{
    char buf[4096];
    int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    ssize_t len = fd < 0 ? -1 : read(fd, buf, sizeof buf - 1);
    if (fd >= 0)
        close(fd);
    if (len < 0)
        return FALLBACK_TABLE;
    buf[len] = '\0';
    const char *at = strstr(buf, "\nFDSize:");
    int size = 0;
    for (at = at ? at + 8 : ""; *at == '\t' || *at == ' '; at++)
        ;
    for (; *at >= '0' && *at <= '9'; at++)
        size = size * 10 + (*at - '0');
    return size > 0 ? size : FALLBACK_TABLE;
}

void pm_fds_close_range(int first, int last)
{
    if (first > last || syscall(SYS_close_range, (unsigned)first, (unsigned)last, 0u) == 0)
        return;
    int end = table_size();
    for (int fd = first; fd < end && fd <= last; fd++)
        close(fd);
}

void pm_fds_close_from(int first)
{
    pm_fds_close_range(first, INT_MAX);
}

static bool is_listed(int fd, const int *keep, int n)
{
    for (int i = 0; i < n; i++)
        if (keep[i] == fd)
            return true;
    return false;
}

void pm_fds_close_foreign(const int *keep, int n)
{
    struct stat st;
    for (int fd = table_size() - 1; fd > 2; fd--) {
        if (is_listed(fd, keep, n) || fstat(fd, &st) < 0)
            continue;
        // An anonymous inode (epoll, eventfd, signalfd, pidfd) has no file type at all.
        if (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode) || (st.st_mode & S_IFMT) == 0)
            close(fd);
    }
}

int pm_fd_raise(int fd)
{
    int raised = fcntl(fd, F_DUPFD_CLOEXEC, PM_FD_FLOOR);
    int error = errno;
    close(fd);
    return raised < 0 ? -error : raised;
}
