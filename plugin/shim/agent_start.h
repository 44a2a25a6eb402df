// SPDX-License-Identifier: Apache-2.0
//
// Starts pm-agent as a child of local task 0's shim: as the user, in the task's cgroup, with
// nothing inherited but the step's listener (fd 3) and the step key (a pipe on fd 4). Signal state,
// limits, memory policy and environment are those of a fresh process; its CPUs are all that the
// step's cpuset allows; it leads a session of its own, so that the terminal of --pty and signals to
// the tasks' process group do not reach it.
#ifndef PM_SHIM_AGENT_START_H
#define PM_SHIM_AGENT_START_H

#include <sys/types.h>

#define PM_KEY_SIZE 32
#define PM_KEY_HEX 64

struct pm_agent_start {
    const char *path;  // absolute
    char *const *env;  // whole environment of the agent, NULL-terminated
    int listener;      // stays open here, the caller closes it
    int key;           // read end of a pipe that holds PM_KEY_SIZE bytes; stays open here
};

// Forks and execs. Returns the pid, or the negative errno of fork or of the exec itself (then
// nothing is left behind). Waits only until the exec is done.
pid_t pm_agent_start(const struct pm_agent_start *start);

// A pipe whose read end (returned, close-on-exec) gives the PM_KEY_SIZE bytes of `hex` and then end
// of file. Negative errno; -EINVAL if hex is not PM_KEY_HEX digits.
int pm_agent_key_pipe(const char *hex);

#endif
