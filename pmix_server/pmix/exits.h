// SPDX-License-Identifier: Apache-2.0
//
// Local ranks that are ending, seen by the kernel's own word.
//
// When the connection of a rank breaks, libpmix leaves the rank out of fences that begin later, and
// tells us of the loss in a later turn of its event loop. A fence that is handed to us between the two
// looks complete although a participant is gone. But a process is marked as exiting before its files
// are closed, so that mark, looked at when the fence is handed on, is never too late.
#ifndef PM_PMIX_EXITS_H
#define PM_PMIX_EXITS_H

#include <stdint.h>

#include "pmix_server/wire/set.h"

// BORN of server_proto.h: local `rank` runs as process `pid` (in our pid namespace, as our user). Main thread.
void pm_exits_watch(uint32_t rank, uint32_t pid);
// Marks as lost those ranks of `set` that are local, connected, not finalized, and ending. Any thread.
void pm_exits_look(const struct pm_set *set);

#endif
