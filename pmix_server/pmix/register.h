// SPDX-License-Identifier: Apache-2.0
//
// Registers the namespace of an epoch and its local ranks with libpmix.
#ifndef PM_PMIX_REGISTER_H
#define PM_PMIX_REGISTER_H

#include "pmix_server/wire/nspace.h"

// After PMIx_server_init, once; main thread; waits for libpmix. dir: absolute path of the server's
// directory; session directories are made below it. Sends ENV for each local rank, then READY; on
// failure says FAILED and ends the process.
void pm_register_nspace(const struct pm_nspace_info *info, const char *dir);

#endif
