// SPDX-License-Identifier: Apache-2.0
//
// What libpmix asks of its host: the pmix_server_module_t.
//
// Every upcall runs on the progress thread, copies what it needs, sends one frame and returns; what
// needs an answer is a handle of pending.h. No blocking PMIx call is made here, ever.
#ifndef PM_PMIX_UPCALLS_H
#define PM_PMIX_UPCALLS_H

#include <pmix_server.h>

#include "pmix_server/wire/nspace.h"

// For PMIx_server_init.
pmix_server_module_t *pm_upcalls_module(void);
// The namespace to serve; borrowed for good. Called once, before the first client can connect.
void pm_upcalls_serve(const struct pm_nspace_info *info);

#endif
