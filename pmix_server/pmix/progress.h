// SPDX-License-Identifier: Apache-2.0
//
// Round trips through libpmix' progress thread.
#ifndef PM_PMIX_PROGRESS_H
#define PM_PMIX_PROGRESS_H

// Calls fn(arg) on the progress thread after `hops` turns of its event loop. What was queued there
// before has then been executed; what that put on sockets needs three more turns to be written.
// Never called if the progress thread hangs, which is what a watchdog wants to know. Any thread.
void pm_progress_after(unsigned hops, void (*fn)(void *arg), void *arg);

#endif
