// SPDX-License-Identifier: Apache-2.0
//
// The process between local task 0's shim and the agent proper: it cleans up whatever happens to the agent.
//
// The shim knows this process as "the agent" and kills everything below itself except this tree when
// the agent is gone; it waits for this process before it ends, and slurmstepd kills the step only after
// that. So when the agent dies, its folder and what Open MPI left in shared memory are removed in
// time. If this process is killed, the agent dies with it; if all of it is killed (scancel
// --signal=KILL), `pm-agent --sweep` does (plugin/sweep.c), or a later agent of this user.
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pmix_server/agent.h"
#include "pmix_server/io/util.h"

#define FIRST_FD 3

// Until the agent and every server that outlived it for a moment are reaped. Returns the agent's status.
static int await(pid_t agent)
{
    int status, agent_status = PM_EXIT_CANNOT_SUPERVISE << 8;
    for (;;) {
        pid_t pid = waitpid(-1, &status, 0);
        if (pid == agent)
            agent_status = status;
        else if (pid < 0 && errno != EINTR)
            return agent_status;
    }
}

static void clean(const struct pm_agent_legacy *legacy)
{
    if (legacy->folder[0])
        pm_folder_remove(legacy->folder);
    // Ranks of the last epoch and of the one before it may have left something.
    if (legacy->n_epochs)
        pm_folder_sweep_epochs(legacy->job, legacy->step, legacy->epoch ? legacy->epoch - 1 : 0, 2);
}

__attribute__((noreturn)) static void be_janitor(pid_t agent, const struct pm_agent_legacy *legacy)
{
    pm_fd_close_from(FIRST_FD);  // the listener must not outlive the agent
    prctl(PR_SET_NAME, "pm-janitor");
    int status = await(agent);
    clean(legacy);
    if (WIFSIGNALED(status)) {
        signal(WTERMSIG(status), SIG_DFL);
        kill(getpid(), WTERMSIG(status));
    }
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : PM_EXIT_CANNOT_SUPERVISE);
}

struct pm_agent_legacy *pm_janitor_fork(void)
{
    struct pm_agent_legacy *legacy = mmap(NULL, sizeof(*legacy), PROT_READ | PROT_WRITE,
                                          MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (legacy == MAP_FAILED)
        return NULL;
    pid_t self = getpid(), pid = fork();
    if (pid > 0)
        be_janitor(pid, legacy);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() == self)
            return legacy;
        _exit(PM_EXIT_CANNOT_SUPERVISE);
    }
    munmap(legacy, sizeof(*legacy));
    return NULL;
}
