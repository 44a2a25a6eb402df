// SPDX-License-Identifier: Apache-2.0
//
// Small things that every file of the shell needs: cleanup attributes, the clock, fd flags.
#ifndef PM_IO_UTIL_H
#define PM_IO_UTIL_H

#include <stdint.h>
#include <stdlib.h>
#include <sys/time.h>
#include <unistd.h>

static inline void pm_cleanup_close(int *fd)
{
    if (*fd >= 0)
        close(*fd);
}

static inline void pm_cleanup_free(void *p)
{
    free(*(void **)p);
}

#define PM_CLEANUP_FD __attribute__((cleanup(pm_cleanup_close)))
#define PM_CLEANUP_FREE __attribute__((cleanup(pm_cleanup_free)))

// Hands an fd over to somebody who closes it.
static inline int pm_take_fd(int *fd)
{
    int taken = *fd;
    *fd = -1;
    return taken;
}

static inline struct timeval pm_timeval_of_ms(uint64_t ms)
{
    return (struct timeval){.tv_sec = (time_t)(ms / 1000),
                            .tv_usec = (suseconds_t)(ms % 1000 * 1000)};
}

// CLOCK_BOOTTIME in ns: goes on while the machine sleeps, never goes back.
uint64_t pm_clock_ns(void);
// Wall clock as "2026-03-01T12:00:00.123456Z", for people and logs only.
char *pm_clock_wall(char *buf, size_t cap);
// Sets or clears flags of fcntl(F_SETFD) / O_NONBLOCK. 0 or negative errno.
int pm_fd_cloexec(int fd, int on);
int pm_fd_nonblock(int fd);
// Closes every fd from `first` on: in a child that is not exec'd.
void pm_fd_close_from(int first);
// All of `len` bytes or a negative errno; for regular files, stderr and short pipes.
int pm_fd_write_all(int fd, const void *data, size_t len);
// The result of a fence is of some 100 KiB to MiB, is copied a few times within milliseconds, and
// comes again with the next fence: free memory up to `keep` bytes stays ours, so that its pages are
// not zeroed anew each time. Before the first large malloc().
void pm_memory_keep(size_t keep);
// Gives back what pm_memory_keep() has kept. For a slow timer.
void pm_memory_trim(void);

#endif
