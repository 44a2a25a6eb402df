// SPDX-License-Identifier: Apache-2.0
//
// The time, for short waits.
#ifndef PM_PMIX_CLOCK_H
#define PM_PMIX_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t pm_clock_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

#endif
