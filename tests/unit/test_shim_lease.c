// SPDX-License-Identifier: Apache-2.0
//
// pm-shim and the lease of its node: it stops its rank when the lease is over, by itself, and does nothing before.
#include <criterion/criterion.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/timerfd.h>
#include <time.h>

#include "tests/unit/shim_stand.h"

#define LEASE_US 200000

TestSuite(shim_lease, .init = need_root, .timeout = 60);

static void lease_ends_in(long us)
{
    struct itimerspec end = {.it_value.tv_nsec = us * 1000};
    cr_assert(timerfd_settime(lease, 0, &end, NULL) == 0);
}

static void lease_ends_now(void) { lease_ends_in(1); }

// Within 5 s.
static bool rank_is_stopped(void)
{
    char path[64], state[256];
    snprintf(path, sizeof path, "/proc/%u/stat", rank_pid);
    for (int i = 0; i < 500; i++) {
        FILE *file = fopen(path, "re");
        cr_assert(file && fgets(state, sizeof state, file));
        fclose(file);
        if (strstr(state, ") T "))
            return true;
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
    return false;
}

Test(shim_lease, a_lease_that_ends_stops_the_rank_without_a_word_from_the_agent)
{
    running();
    lease_ends_now();
    cr_expect(rank_is_stopped());
    send_end(true, 0);
    ends_with_exit(0);
    rank_is_gone();
}

static unsigned wakes(void)
{
    char path[64], line[256];
    unsigned n = UINT_MAX;
    snprintf(path, sizeof path, "/proc/%d/status", (int)shim);
    FILE *file = fopen(path, "re");
    while (file && fgets(line, sizeof line, file) && sscanf(line, "voluntary_ctxt_switches: %u", &n) != 1)
        ;
    cr_assert(file && n != UINT_MAX);
    fclose(file);
    return n;
}

static uint64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

// Five leases' time. False if we were too late ourselves to renew each of them.
static bool renew_in_time(void)
{
    uint64_t begin_us = now_us(), last_us = begin_us, late_us = 0;
    while (last_us < begin_us + 5 * LEASE_US) {
        lease_ends_in(LEASE_US);
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
        uint64_t gap_us = now_us() - last_us;
        last_us += gap_us;
        late_us = gap_us > late_us ? gap_us : late_us;
    }
    return late_us < LEASE_US;
}

Test(shim_lease, a_lease_that_is_renewed_wakes_nobody)
{
    bool measured = false;
    running();
    for (int i = 0; i < 20 && !measured; i++) {
        unsigned before = wakes();
        measured = renew_in_time();
        cr_expect(!measured || wakes() - before <= 1, "it has looked at the lease %u times", wakes() - before);
    }
    cr_expect(measured, "this machine is too slow");
    send_end(true, 0);
    ends_with_exit(0);
    rank_is_gone();
}

// The agent continues the ranks itself. A shim that was stopped meanwhile hears of it when the lease is over again.
Test(shim_lease, what_the_agent_has_continued_stands_again_when_the_lease_is_over)
{
    struct pm_writer w = {0};
    running();
    lease_ends_now();
    cr_expect(rank_is_stopped());
    cr_assert(kill((pid_t)rank_pid, SIGCONT) == 0);
    pm_write_u8(&w, PM_SHIM_RESUME);
    send_packet(&w);
    cr_expect(rank_is_stopped());
    send_end(true, 0);
    ends_with_exit(0);
    rank_is_gone();
}
