// SPDX-License-Identifier: Apache-2.0
//
// Expands and makes Slurm's bracketed host lists ("node[001-004,9],login1", also several brackets in one
// name) without libslurm. Bad syntax is refused; the number of names is limited.
#ifndef PM_WIRE_HOSTLIST_H
#define PM_WIRE_HOSTLIST_H

#include <stddef.h>
#include <stdint.h>

#define PM_HOSTLIST_MAX 1048576u

// Writes the `index`-th name of `list` into buf. 0, -ENOENT (no such index), -EINVAL (syntax),
// -ENAMETOOLONG. Takes time in the length of the list's text, not in the number of hosts.
int pm_hostlist_nth(const char *list, uint32_t index, char *buf, size_t cap);
// Number of names, or -EINVAL / -E2BIG.
int pm_hostlist_count(const char *list);
// malloc'd array of *ret_n malloc'd names in order; free with pm_hostlist_free.
int pm_hostlist_expand(const char *list, char ***ret_names, uint32_t *ret_n);
void pm_hostlist_free(char **names, uint32_t n);
// The names in their order as one list, runs of numbers in brackets ("node[001-004,9],login1"). malloc'd; NULL
// without memory.
char *pm_hostlist_join(char *const *names, uint32_t n);

#endif
