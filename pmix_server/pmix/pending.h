// SPDX-License-Identifier: Apache-2.0
//
// Completions that libpmix waits for: owned handles, each completed exactly once.
//
// An upcall (progress thread) puts its callback here and gets an id; the answer (main thread) takes
// it out. What is not answered when the epoch ends dies with the process.
#ifndef PM_PMIX_PENDING_H
#define PM_PMIX_PENDING_H

#include <pmix_server.h>
#include <stdbool.h>
#include <stdint.h>

// Ids are never used twice and never 0. Without memory the process ends.
uint64_t pm_pending_add(pmix_modex_cbfunc_t callback, void *callback_data);
// Takes the handle out; the caller then owns the one call of *ret_callback. False: no such id (it was
// answered before).
bool pm_pending_take(uint64_t id, pmix_modex_cbfunc_t *ret_callback, void **ret_callback_data);

#endif
