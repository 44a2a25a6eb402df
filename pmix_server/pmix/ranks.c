// SPDX-License-Identifier: Apache-2.0
//
// See ranks.h for the contract.
#include "pmix_server/pmix/ranks.h"
#include "pmix_server/pmix/stream.h"

#include <pthread.h>

static struct {
    pthread_mutex_t mutex;  // guards marked
    struct pm_set local;    // constant once clients can connect
    struct pm_set marked[PM_RANK_MARKS];
} ranks = {.mutex = PTHREAD_MUTEX_INITIALIZER};

int pm_ranks_set_local(const struct pm_set *local)
{
    return pm_set_copy(&ranks.local, local);
}

bool pm_ranks_is_local(uint32_t rank)
{
    return pm_set_has(&ranks.local, rank);
}

bool pm_ranks_are_local(const struct pm_set *set)
{
    return pm_set_covers(&ranks.local, set);
}

void pm_ranks_mark(enum pm_rank_mark mark, uint32_t rank)
{
    if (!pm_ranks_is_local(rank))
        return;
    pthread_mutex_lock(&ranks.mutex);
    if (pm_set_add(&ranks.marked[mark], rank) < 0)
        pm_stream_fail("out of memory");
    pthread_mutex_unlock(&ranks.mutex);
}

void pm_ranks_unmark(enum pm_rank_mark mark, uint32_t rank)
{
    pthread_mutex_lock(&ranks.mutex);
    if (pm_set_remove(&ranks.marked[mark], rank) < 0)
        pm_stream_fail("out of memory");
    pthread_mutex_unlock(&ranks.mutex);
}

bool pm_ranks_has(enum pm_rank_mark mark, uint32_t rank)
{
    pthread_mutex_lock(&ranks.mutex);
    bool ret = pm_set_has(&ranks.marked[mark], rank);
    pthread_mutex_unlock(&ranks.mutex);
    return ret;
}

bool pm_ranks_any(enum pm_rank_mark mark, const struct pm_set *set)
{
    pthread_mutex_lock(&ranks.mutex);
    bool ret = pm_set_intersects(&ranks.marked[mark], set);
    pthread_mutex_unlock(&ranks.mutex);
    return ret;
}

uint32_t pm_ranks_take(enum pm_rank_mark mark)
{
    pthread_mutex_lock(&ranks.mutex);
    uint32_t rank = pm_set_next(&ranks.marked[mark], 0);
    if (rank != UINT32_MAX && pm_set_remove(&ranks.marked[mark], rank) < 0)
        pm_stream_fail("out of memory");
    pthread_mutex_unlock(&ranks.mutex);
    return rank;
}

bool pm_ranks_someone_connected(void)
{
    pthread_mutex_lock(&ranks.mutex);
    bool ret = !pm_set_covers(&ranks.marked[PM_RANK_ENDED], &ranks.marked[PM_RANK_CONNECTED]);
    pthread_mutex_unlock(&ranks.mutex);
    return ret;
}
