// SPDX-License-Identifier: Apache-2.0
//
// The TCP socket on which libpmix listens for ranks.
#ifndef PM_PMIX_LISTENER_H
#define PM_PMIX_LISTENER_H

#include <stdint.h>

// After PMIx_server_init. Sets for all connections accepted from now on what libpmix does not:
// - messages are sent at once. The second of two to a rank (a fence's result, then an event) would
//   otherwise be held back by the kernel for 40 ms, longer than it takes to kill that rank;
// - a peer that says nothing is dropped after a second. libpmix reads a newcomer's first message on its
//   progress thread and would wait for ever, and any user of the node can connect and be silent.
// Returns the port, or negative errno (-ENOENT: libpmix does not listen on TCP).
int pm_listener_tune(void);

#endif
