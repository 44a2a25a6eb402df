// SPDX-License-Identifier: Apache-2.0
//
// Has srun passed on all that the live nodes have written? srun does not tell, so it is looked at from outside again
// and again: it has done its work when for a while it has read and written nothing, no connection of its has unread
// bytes, and whoever reads our stdout and stderr, which are its, takes more.
//
// The while is short when no more connections are left than nodes are lost (srun closes the one of a node that has
// sent all), and longer otherwise. A look that could not see everything counts as one at work: the caller has a
// bound of its own. Pure; no memory, no clock.
#ifndef PM_CORE_OUTPUT_H
#define PM_CORE_OUTPUT_H

#include <stdbool.h>
#include <stdint.h>

#define PM_OUTPUT_QUIET_MS 1200u       // what is left are lost nodes' connections; a live slurmstepd may sleep for 1 s as it ends
#define PM_OUTPUT_QUIET_OPEN_MS 2000u  // or it is not clear what is left

struct pm_output_look {
    uint64_t traffic;      // bytes read and written so far
    uint32_t connections;  // that srun has
    bool unread;           // one of them has bytes
    bool stuck;            // whoever reads stdout or stderr does not
    bool unknown;          // not everything could be seen
};

struct pm_output_watch {
    uint32_t lost;               // nodes that srun waits for in vain
    struct pm_output_look last;
    uint64_t busy_ns;            // when srun was last seen at work
};

// `first` is a look at srun now; the watch begins with it.
void pm_output_watch_begin(struct pm_output_watch *w, uint32_t lost, const struct pm_output_look *first, uint64_t now_ns);
// Takes the next look in. True: srun has passed on everything.
bool pm_output_watch_look(struct pm_output_watch *w, const struct pm_output_look *look, uint64_t now_ns);

#endif
