// SPDX-License-Identifier: Apache-2.0
//
// See fetch.h for the contract.
#include "pmix_server/pmix/fetch.h"

#include <pmix_server.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/queue.h>

#include "pmix_server/pmix/clock.h"
#include "pmix_server/pmix/delta.h"
#include "pmix_server/pmix/ranks.h"
#include "pmix_server/pmix/stream.h"

enum { LAST_CHANCE_MS = 100 };

struct fetch {
    LIST_ENTRY(fetch) next;  // in the list while it waits for an answer
    uint64_t id;
    uint32_t rank;
    bool answered;
    uint64_t due_ms;  // 0: waits for libpmix only
};
LIST_HEAD(fetches, fetch);

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct fetches open_fetches = LIST_HEAD_INITIALIZER(open_fetches);

static void send_fetched(uint64_t id, enum pm_server_status status, const char *data, size_t len)
{
    struct pm_writer w = {0};
    pm_stream_begin(&w, PM_SERVER_FETCHED);
    pm_write_u64(&w, id);
    pm_write_i32(&w, status);
    pm_write_bytes(&w, data, len);
    pm_stream_send(&w);
}

// True for the one who may answer. The record stays for libpmix' callback.
static bool claim(struct fetch *fetch)
{
    pthread_mutex_lock(&mutex);
    bool mine = !fetch->answered;
    if (mine)
        LIST_REMOVE(fetch, next);
    fetch->answered = true;
    pthread_mutex_unlock(&mutex);
    return mine;
}

// Progress thread; the data is libpmix' and valid for this call only.
static void blob_arrived(pmix_status_t status, char *data, size_t len, void *callback_data)
{
    struct fetch *fetch = callback_data;
    bool ok = status == PMIX_SUCCESS;
    if (ok)
        pm_delta_rank_fetched(fetch->rank);
    if (claim(fetch))
        send_fetched(fetch->id, ok ? PM_STATUS_OK : PM_STATUS_NOT_FOUND, data, ok ? len : 0);
    free(fetch);
}

void pm_fetch_start(const char *nspace, uint64_t id, uint32_t rank)
{
    if (!pm_ranks_is_local(rank) || pm_ranks_has(PM_RANK_LOST, rank)) {
        send_fetched(id, PM_STATUS_NOT_FOUND, NULL, 0);
        return;
    }
    struct fetch *fetch = calloc(1, sizeof(*fetch));
    if (!fetch)
        pm_stream_fail("out of memory");
    fetch->id = id;
    fetch->rank = rank;
    if (pm_ranks_has(PM_RANK_ENDED, rank))
        fetch->due_ms = pm_clock_ms() + LAST_CHANCE_MS;
    pthread_mutex_lock(&mutex);
    LIST_INSERT_HEAD(&open_fetches, fetch, next);
    pthread_mutex_unlock(&mutex);
    pmix_proc_t proc;
    PMIX_LOAD_PROCID(&proc, nspace, rank);
    if (PMIx_server_dmodex_request(&proc, blob_arrived, fetch) != PMIX_SUCCESS)
        blob_arrived(PMIX_ERROR, NULL, 0, fetch);
}

void pm_fetch_cancel(uint64_t id)
{
    pthread_mutex_lock(&mutex);
    struct fetch *fetch = LIST_FIRST(&open_fetches);
    while (fetch && fetch->id != id)
        fetch = LIST_NEXT(fetch, next);
    if (fetch) {
        LIST_REMOVE(fetch, next);
        fetch->answered = true;
    }
    pthread_mutex_unlock(&mutex);
}

void pm_fetch_rank_ended(uint32_t rank)
{
    uint64_t due_ms = pm_clock_ms() + LAST_CHANCE_MS;
    pthread_mutex_lock(&mutex);
    for (struct fetch *fetch = LIST_FIRST(&open_fetches); fetch; fetch = LIST_NEXT(fetch, next))
        if (fetch->rank == rank && !fetch->due_ms)
            fetch->due_ms = due_ms;
    pthread_mutex_unlock(&mutex);
}

// Takes one that is due out of the list; else says in *ret_wait_ms how long until the next is.
static bool take_due(uint64_t *ret_id, int *ret_wait_ms)
{
    uint64_t now = pm_clock_ms();
    bool found = false;
    *ret_wait_ms = -1;
    pthread_mutex_lock(&mutex);
    for (struct fetch *fetch = LIST_FIRST(&open_fetches); fetch; fetch = LIST_NEXT(fetch, next)) {
        if (!fetch->due_ms)
            continue;
        if (fetch->due_ms <= now) {
            found = true;
            *ret_id = fetch->id;
            fetch->answered = true;
            LIST_REMOVE(fetch, next);
            break;
        }
        int wait_ms = (int)(fetch->due_ms - now);
        if (*ret_wait_ms < 0 || wait_ms < *ret_wait_ms)
            *ret_wait_ms = wait_ms;
    }
    pthread_mutex_unlock(&mutex);
    return found;
}

int pm_fetch_tick(void)
{
    uint64_t id;
    int wait_ms;
    while (take_due(&id, &wait_ms))
        send_fetched(id, PM_STATUS_NOT_FOUND, NULL, 0);
    return wait_ms;
}
