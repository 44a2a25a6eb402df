// SPDX-License-Identifier: Apache-2.0
//
// Runs a program of the site's or the user's beside the loop: in a process group of its own, with /dev/null as input and
// output, and with a time limit after which the whole group is killed. One that hangs in the kernel even then is left
// behind: the answer comes in any case.
//
// Between us and the program stands a guard, a copy of this process that only waits. It keeps the limit
// also when we are gone first, and ends as the program did; a program that was killed at its limit, or that
// could not be started, is told apart by pm_program_outcome().
#ifndef PM_IO_PROGRAM_H
#define PM_IO_PROGRAM_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct pm_program {
    char *const *argv;     // argv[0]: absolute path; NULL-terminated
    char *const *env;      // "NAME=VALUE" beyond our own environment; NULL-terminated
    const sigset_t *mask;  // signals that the program finds blocked
    uint64_t limit_ms;
    bool ends_with_us;     // killed when this process ends, too
};

// Borrows `program` for the call. The guard's pid, to be watched with pm_children_watch(), or a negative errno.
pid_t pm_program_start(const struct pm_program *program);
// Has a program that ends with us killed now; its guard ends a moment later, and is then to be reaped.
void pm_program_stop(pid_t guard);
// From the guard's waitpid status: did the program end with 0? If not, `why` gets what happened, as the rest
// of a sentence about it: "ended with exit code 3", "took longer than 30 s and was killed".
bool pm_program_outcome(int wait_status, uint64_t limit_ms, char *why, size_t cap);

#endif
