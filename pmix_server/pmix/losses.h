// SPDX-License-Identifier: Apache-2.0
//
// What a lost local rank means for libpmix.
//
// libpmix waits for every registered client before it hands a fence to its host. It notices a broken
// connection and lets the fences that are open then end with an error; but fences that begin later
// count the dead client again, and a client that never connected is waited for for ever. So a lost client
// is deregistered (not before libpmix has noticed: 4.2 would then mix up file descriptors), and for a
// rank that ended without connecting a child connects in its name and ends: its obituary. It is sent
// when there is somebody to wait for it: programs without PMIx never pay for it.
#ifndef PM_PMIX_LOSSES_H
#define PM_PMIX_LOSSES_H

#include <pmix_common.h>
#include <stdint.h>

// Starts to listen for broken connections. After PMIx_server_init.
pmix_status_t pm_losses_watch(void);
// DIED of server_proto.h: the process of local `rank` ended and will not be started again in this epoch.
// Main thread; does not wait.
void pm_losses_rank_ended(const char *nspace, uint32_t rank);
// Sends the obituaries that are due. Main thread, after whatever may have made one due.
void pm_losses_tick(const char *nspace);
// main() of the obituary's process: PMIx_Init as the rank that the environment names, then end without
// PMIx_Finalize. Returns the exit status.
int pm_losses_obituary(void);

#endif
