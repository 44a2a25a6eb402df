// SPDX-License-Identifier: Apache-2.0
//
// The children of this process: who they are and who wants to know when they end.
//
// Every child that changes its state is collected when the owner calls pm_children_reap(), which it
// does on SIGCHLD. Children that nobody watches (a subreaper gets other people's orphans) are reaped in
// silence. A watch made before the loop runs again cannot miss its child's end.
#ifndef PM_IO_CHILDREN_H
#define PM_IO_CHILDREN_H

#include <stdbool.h>
#include <sys/types.h>

struct pm_children;

// Called with the status of waitpid(). After an end the watch is gone; after a stop it stays.
typedef void (*pm_child_f)(pid_t pid, int wait_status, void *arg);

struct pm_children *pm_children_new(void);  // NULL without memory
struct pm_children *pm_children_free(struct pm_children *c);
// 0 or -ENOMEM.
int pm_children_watch(struct pm_children *c, pid_t pid, pm_child_f ended, void *arg);
// The child is still reaped, but nobody is told.
void pm_children_forget(struct pm_children *c, pid_t pid);
// `stops`: also report children that were stopped (WUNTRACED).
void pm_children_reap(struct pm_children *c, bool stops);

#endif
