// SPDX-License-Identifier: Apache-2.0
//
// Leaves out of a collecting fence what every server of the world has already.
//
// libpmix gives its host everything that the local ranks ever committed, in every fence. Here a key of
// a rank is left out if a fence over all ranks that ended well has carried the same value and nothing
// else of that key has left this server since. The library at the other end adds what it gets to what
// it has, and asks the owner's server (MODEX) for what it has not: a value left out is never missed,
// and every rule below is there so that it is never stale.
//
// - Only a fence over all ranks makes values known, and only when FENCE_DONE says OK.
// - A fence over fewer ranks, a failed one or FETCHED may have brought another value to some servers:
//   what they carry is not known any more.
// - A blob that is not understood to the last byte (modex_blob.h) is sent whole, and then nothing is
//   known.
// Values are told apart by a keyed 128-bit hash. At most PM_DELTA_KEYS_MAX keys are remembered, 48
// bytes each (24 MiB in all, as the table is never more than half full); others are sent every time.
// A process serves one epoch, so nothing outlives it. Any thread.
#ifndef PM_PMIX_DELTA_H
#define PM_PMIX_DELTA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pmix_server/wire/buf.h"

#define PM_DELTA_KEYS_MAX 262144u

// Writes what fence `id` (never used twice, not 0) has to carry of `data`, as bytes of *w. of_world: its
// participants are all ranks of the namespace.
void pm_delta_write(uint64_t id, bool of_world, const void *data, size_t len, struct pm_writer *w);
// Fence `id` has ended here. Ids that no fence has are ignored.
void pm_delta_fence_done(uint64_t id, bool ok);
// Everything that `rank` has committed goes to one other server.
void pm_delta_rank_fetched(uint32_t rank);

#endif
