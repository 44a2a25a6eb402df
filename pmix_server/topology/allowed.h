// SPDX-License-Identifier: Apache-2.0
//
// Which CPUs a process may use: its affinity, and its cpuset cgroup. A task that Slurm bound has a narrow
// affinity inside the step's wider cgroup; sched_setaffinity may widen it again up to the cgroup.
#ifndef PM_TOPOLOGY_ALLOWED_H
#define PM_TOPOLOGY_ALLOWED_H

#include <sys/types.h>

#include "pmix_server/wire/set.h"

// Reads a list as Linux and people write it: "0-3,8,10-11"; blanks and a newline at its end are taken.
// Replaces *set. -EINVAL (syntax, a number above 1048575; the set is then empty) or -ENOMEM.
int pm_cpu_list_read(const char *text, struct pm_set *set);
// Affinity of a process, 0: of this one. 0 or a negative errno.
int pm_allowed_affinity(pid_t pid, struct pm_set *ret_cpus);
// CPUs of the innermost cpuset that this process is in, version 1 or 2; `root` goes before /proc and
// /sys. -ENOENT: it is in none.
int pm_allowed_cgroup(const char *root, struct pm_set *ret_cpus);

#endif
