// SPDX-License-Identifier: Apache-2.0
//
// File descriptors of a process that has inherited somebody else's: srun before the exec of the
// coordinator, the un-exec'd shim, and the agent before its exec.
#ifndef PM_SHIM_FDS_H
#define PM_SHIM_FDS_H

#include <stdint.h>
#include <sys/types.h>

// The shim keeps its own fds here and above, so that numbers slurmstepd knows are never reused.
#define PM_FD_FLOOR 64

// Closes every fd from `first` to `last`. Works without close_range(2) (Linux < 5.9), too.
void pm_fds_close_range(int first, int last);
// The same without an end.
void pm_fds_close_from(int first);
// Closes pipes, sockets and anonymous inodes from 3 on, except those listed in keep (n of them).
// Regular files and devices keep their numbers: slurmstepd's log file is one, and its log lines
// must not end up in an fd that got its number.
void pm_fds_close_foreign(const int *keep, int n);
// Moves fd to PM_FD_FLOOR or above, close-on-exec; returns the new number or a negative errno (fd
// is closed in both cases).
int pm_fd_raise(int fd);

#endif
