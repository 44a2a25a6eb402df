// SPDX-License-Identifier: Apache-2.0
//
// The TCP socket on which libpmix listens for ranks.
#ifndef PM_PMIX_LISTENER_H
#define PM_PMIX_LISTENER_H

#include <stdint.h>

// After PMIx_server_init. Makes connections accepted from now on send at once: libpmix does not ask
// for it, and the second of two messages to a rank (a fence's result, then an event) would otherwise be
// held back by the kernel for 40 ms, longer than it takes to kill that rank. Returns the port, or
// negative errno (-ENOENT: libpmix does not listen on TCP).
int pm_listener_tune(void);

#endif
