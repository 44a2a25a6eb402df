// SPDX-License-Identifier: Apache-2.0
//
// The heir: the process of the next incarnation, forked ahead of its time. Where the shim is a copy
// of slurmstepd, the fork and what it costs to write to copied memory are the larger part of a
// start, and after a failure every rank of the node has to pay it at once.
//
// An heir waits in recv() with all signals blocked until the shim calls it. It is no part of the
// rank's tree: no kill, stop or count includes it. It dies with the shim. If there is none, or it
// does not suit, the shim forks as if this file did not exist.
#ifndef PM_SHIM_HEIR_H
#define PM_SHIM_HEIR_H

#include <stdbool.h>
#include <sys/types.h>

#include "plugin/shim/shim.h"

struct pm_heir {
    pid_t pid;                    // 0: none
    int fd;                       // to the other one of the two
    bool wanted;                  // `likely` has come, and nobody has been forked for it yet
    struct pm_shim_start likely;  // what it is prepared for
};

// Forks it. 0 in the heir, which then has to let go of the shim's fds, and to wait; negative errno
// if there is none.
pid_t pm_heir_fork(struct pm_heir *heir, int oom_fd);
// In the heir: returns when it is called, with what START brought, or -ENOMEM; else never. Only signals that the
// shim has sent are pending then.
int pm_heir_wait(struct pm_heir *heir, struct pm_shim_start *ret);

// In the shim: hands `start` over. True: heir->pid was it, and *ret_pid is the rank's process now. False:
// there is no heir any more.
bool pm_heir_call(struct pm_heir *heir, const struct pm_shim_start *start, pid_t *ret_pid);
// Kills it, reaps it unless it does not end within 0.1 s, and forgets it and what it was for.
void pm_heir_dismiss(struct pm_heir *heir);
// It has been reaped.
void pm_heir_forget(struct pm_heir *heir);

// True if every name of `likely` is in `start`, in the same order: an heir has set those already,
// and nothing that START does not bring may stay.
bool pm_heir_suits(const struct pm_shim_start *likely, const struct pm_shim_start *start);

#endif
