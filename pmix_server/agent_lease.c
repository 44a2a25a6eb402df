// SPDX-License-Identifier: Apache-2.0
//
// The page that tells the shims of this node until when they may trust their agent: it writes, they read. Its
// descriptor goes to each of them with WELCOME (agent_shims.c).
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "pmix_server/agent.h"

// Sealed, so that no shim can be made to fault by shrinking it.
int pm_lease_open(struct agent *a)
{
    long page = sysconf(_SC_PAGESIZE);
    a->lease_fd = memfd_create("pm-lease", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (a->lease_fd < 0 || ftruncate(a->lease_fd, page) < 0)
        return -errno;
    void *p = mmap(NULL, (size_t)page, PROT_READ | PROT_WRITE, MAP_SHARED, a->lease_fd, 0);
    if (p == MAP_FAILED)
        return -errno;
    a->lease = p;
    a->lease->lease_end_ns = UINT64_MAX;
    if (fcntl(a->lease_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) < 0)
        return -errno;
#ifdef F_SEAL_FUTURE_WRITE
    (void)fcntl(a->lease_fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE);  // Linux 5.1 and later
#endif
    return 0;
}

void pm_lease_set(struct agent *a, uint64_t end_ns, uint32_t epoch)
{
    if (a->lease) {
        a->lease->epoch = epoch;
        a->lease->lease_end_ns = end_ns;
    }
}

void pm_lease_done(struct agent *a)
{
    if (a->lease)
        (void)munmap(a->lease, (size_t)sysconf(_SC_PAGESIZE));
    if (a->lease_fd >= 0)
        close(a->lease_fd);
    a->lease = NULL;
    a->lease_fd = -1;
}
