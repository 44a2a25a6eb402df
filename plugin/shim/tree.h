// SPDX-License-Identifier: Apache-2.0
//
// Everything that descends from this process, as one thing that can be stopped, continued and
// killed. The caller must be a child subreaper, so that a descendant that lost its parent comes
// back to it and nothing can leave the tree by forking twice.
//
// Reads /proc/PID/task/TID/children (Linux with CONFIG_PROC_CHILDREN). One caller, one thread.
#ifndef PM_SHIM_TREE_H
#define PM_SHIM_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

// True if this kernel and this /proc let us see our children at all; if not, errno says why (ENOENT: the kernel).
bool pm_tree_supported(void);
// `except` is a list of children that are not meant, nor what is below them; it ends with 0. NULL: none.
// True if this process has no other child for sure. Zombies count as children; so does not being able to
// look (no memory, no descriptor).
bool pm_tree_empty(const pid_t *except);
// Stops (SIGSTOP) every other descendant, again and again until a pass
// finds nobody new: a process that forks faster than we look is stopped before it forks again.
// False if somebody may still run; call it again.
bool pm_tree_stop(const pid_t *except);
// False if somebody may still be stopped; call it again.
bool pm_tree_resume(const pid_t *except);
// Stops, then kills. Returns how many processes got SIGKILL. Those that lost their parent become our
// children; the caller reaps, and calls this again as long as !pm_tree_empty(). Without memory it reaches
// at least our own first children.
size_t pm_tree_kill(const pid_t *except);
// Kills the children of one of our children, once.
void pm_tree_kill_below(pid_t child);

#endif
