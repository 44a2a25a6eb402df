// SPDX-License-Identifier: Apache-2.0
//
// One incarnation of the rank as a process: what START brings, the fork, and the end.
#ifndef PM_SHIM_RANK_H
#define PM_SHIM_RANK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "plugin/shim/shim.h"
#include "pmix_server/wire/buf.h"

struct pm_rank_end {
    uint32_t epoch;
    uint32_t incarnation;
    pid_t pid;  // 0: there never was a process
    int status;
    bool exec_failed;
    uint64_t user_us;
    uint64_t system_us;
    uint64_t maxrss_kib;
};

// Reads the fields of a START packet to its end. On success ret->entries is never NULL and
// pm_start_free() frees it. -EBADMSG (also for an entry without '='), or -ENOMEM: then *ret says which
// incarnation it is, without entries.
int pm_start_read(struct pm_reader *r, struct pm_shim_start *ret);
// Writes what pm_start_read() reads.
void pm_start_write(struct pm_writer *w, const struct pm_shim_start *start);
void pm_start_free(struct pm_shim_start *start);

// Forks the process that becomes the program: it dies with its parent, and the kernel's OOM killer
// prefers it by 100 points (oom_fd: /proc/self/oom_score_adj of the caller, or -1). 0 in the child,
// negative errno if there is none.
pid_t pm_rank_fork(int oom_fd);

// Reaps end->pid, which must be a zombie, and fills in the rest. exec_failed: it exited before it
// had become any program; the kernel knows (PF_FORKNOEXEC), so no exit code is taken for it.
void pm_rank_reap(struct pm_rank_end *end);

#endif
