// SPDX-License-Identifier: Apache-2.0
//
// See pending.h for the contract. A hash table with chains; ids are consecutive, so that they spread
// evenly. Sized for every rank of a big node waiting at once.
#include "pmix_server/pmix/pending.h"

#include <pthread.h>
#include <stdlib.h>

#include "pmix_server/pmix/stream.h"

enum { BUCKETS = 1024 };

struct handle {
    struct handle *next;
    uint64_t id;
    pmix_modex_cbfunc_t callback;
    void *callback_data;
};

static struct {
    pthread_mutex_t mutex;
    uint64_t last_id;
    struct handle *buckets[BUCKETS];
} pending = {.mutex = PTHREAD_MUTEX_INITIALIZER};

uint64_t pm_pending_add(pmix_modex_cbfunc_t callback, void *callback_data)
{
    struct handle *handle = malloc(sizeof(*handle));
    if (!handle)
        pm_stream_fail("out of memory");
    pthread_mutex_lock(&pending.mutex);
    uint64_t id = ++pending.last_id;
    struct handle **bucket = &pending.buckets[id % BUCKETS];
    *handle = (struct handle){*bucket, id, callback, callback_data};
    *bucket = handle;
    pthread_mutex_unlock(&pending.mutex);
    return id;
}

bool pm_pending_take(uint64_t id, pmix_modex_cbfunc_t *ret_callback, void **ret_callback_data)
{
    pthread_mutex_lock(&pending.mutex);
    struct handle **at = &pending.buckets[id % BUCKETS];
    while (*at && (*at)->id != id)
        at = &(*at)->next;
    struct handle *handle = *at;
    if (handle)
        *at = handle->next;
    pthread_mutex_unlock(&pending.mutex);
    if (!handle)
        return false;
    *ret_callback = handle->callback;
    *ret_callback_data = handle->callback_data;
    free(handle);
    return true;
}
