// SPDX-License-Identifier: Apache-2.0
//
// Signals as events of the loop, by signalfd: nothing runs in signal context, and the sender is known.
#ifndef PM_IO_SIGNALS_H
#define PM_IO_SIGNALS_H

#include <event2/event.h>
#include <signal.h>
#include <sys/signalfd.h>

struct pm_signals;

// Blocks `set` in this process and calls `handler` for each signal. *ret_old_mask, if not NULL, gets
// the mask from before, for children. 0 or negative errno.
int pm_signals_new(struct event_base *base, const sigset_t *set,
                   void (*handler)(const struct signalfd_siginfo *info, void *arg), void *arg,
                   struct pm_signals **ret);
struct pm_signals *pm_signals_free(struct pm_signals *s);
// Mask of the process from before pm_signals_new().
const sigset_t *pm_signals_old_mask(const struct pm_signals *s);

#endif
