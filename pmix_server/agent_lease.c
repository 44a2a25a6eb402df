// SPDX-License-Identifier: Apache-2.0
//
// The timer that tells the shims of this node until when they may trust their agent: it sets it, they wait for it. Its
// descriptor goes to each of them with WELCOME (agent_shims.c). It is the kernel's, so it also rings if the agent is
// stopped, and wakes nobody as long as the lease is renewed.
#include <errno.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "pmix_server/agent.h"

#define NS_PER_S 1000000000u

int pm_lease_open(struct agent *a)
{
    a->lease_fd = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
    return a->lease_fd < 0 ? -errno : 0;
}

void pm_lease_set(struct agent *a, uint64_t end_ns)
{
    struct itimerspec end = {.it_value = {.tv_sec = (time_t)(end_ns / NS_PER_S), .tv_nsec = (long)(end_ns % NS_PER_S)}};
    // It fails for a wrong descriptor or time only.
    (void)timerfd_settime(a->lease_fd, TFD_TIMER_ABSTIME, &end, NULL);
}

void pm_lease_done(struct agent *a)
{
    if (a->lease_fd >= 0)
        close(a->lease_fd);
    a->lease_fd = -1;
}
