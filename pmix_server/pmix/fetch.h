// SPDX-License-Identifier: Apache-2.0
//
// Blobs of local ranks for clients of other nodes (FETCH). Main thread, but for the callback.
//
// libpmix parks a request for a rank that has not committed yet, has no way to withdraw it, and never
// answers for a rank that died first. So every request has a record that outlives its answer: whoever
// comes first, libpmix, a cancellation or the rank's end, answers; a late callback finds a tombstone.
#ifndef PM_PMIX_FETCH_H
#define PM_PMIX_FETCH_H

#include <stdint.h>

void pm_fetch_start(const char *nspace, uint64_t id, uint32_t rank);
void pm_fetch_cancel(uint64_t id);
// What is still open for `rank` 100 ms from now is answered "not found": a commit on its way wins.
void pm_fetch_rank_ended(uint32_t rank);
// Answers what is due; milliseconds until it must be called again, -1: not by time.
int pm_fetch_tick(void);

#endif
