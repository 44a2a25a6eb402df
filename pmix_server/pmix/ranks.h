// SPDX-License-Identifier: Apache-2.0
//
// What the server knows about the ranks of its own node. Any thread.
#ifndef PM_PMIX_RANKS_H
#define PM_PMIX_RANKS_H

#include <stdbool.h>
#include <stdint.h>

#include "pmix_server/wire/set.h"

enum pm_rank_mark {
    PM_RANK_CONNECTED,  // has been in PMIx_Init
    PM_RANK_FINALIZED,  // its last PMIx_Init was followed by PMIx_Finalize
    PM_RANK_ENDED,      // its process is gone and will not be started again in this epoch
    PM_RANK_LOST,       // will never take part in anything again: ended, or its connection broke, without
                        // PMIx_Finalize
    PM_RANK_SILENT,     // ended without ever connecting, and no obituary has been sent yet (losses.h)
    PM_RANK_MARKS,
};

// Called once, before the first client can connect. 0 or -ENOMEM.
int pm_ranks_set_local(const struct pm_set *local);
bool pm_ranks_is_local(uint32_t rank);
bool pm_ranks_are_local(const struct pm_set *set);
// Marks on ranks that are not local are ignored. Without memory the process ends: a forgotten mark
// would be a wrong answer later.
void pm_ranks_mark(enum pm_rank_mark mark, uint32_t rank);
void pm_ranks_unmark(enum pm_rank_mark mark, uint32_t rank);
bool pm_ranks_has(enum pm_rank_mark mark, uint32_t rank);
bool pm_ranks_any(enum pm_rank_mark mark, const struct pm_set *set);
// Takes one rank out of those with `mark`; UINT32_MAX if there is none.
uint32_t pm_ranks_take(enum pm_rank_mark mark);
// Some local rank is connected or has been, and has not ended.
bool pm_ranks_someone_connected(void);

#endif
