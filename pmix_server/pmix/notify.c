// SPDX-License-Identifier: Apache-2.0
//
// See notify.h for the contract.
//
// The recipe (what Open MPI 5 understands and libpmix 4.2 to 6.1 neither loses nor replays): the source
// is the dead process, because an event from the server itself comes back as an upcall; the range is
// CUSTOM, given as an array, because Open MPI takes every info of type "proc" for a dead rank; one event
// per dead rank, because it ignores AFFECTED_PROCS; and DO_NOT_CACHE, because the library would
// otherwise deliver it again to ranks that start later.
#include "pmix_server/pmix/notify.h"

#include <pmix.h>
#include <pmix_server.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/queue.h>

#include "pmix_server/pmix/clock.h"
#include "pmix_server/pmix/codes.h"
#include "pmix_server/pmix/infos.h"
#include "pmix_server/pmix/progress.h"
#include "pmix_server/pmix/stream.h"

// From the library's answer until the event is in the clients' sockets.
enum { HOPS_TO_SOCKET = 4, HEAD_START_MS = 5 };

// One event on its way; libpmix uses the infos until it calls back.
struct notice {
    STAILQ_ENTRY(notice) next;
    uint64_t id;
    uint64_t due_ms;
    pmix_proc_t source;
    struct pm_infos infos;
};
STAILQ_HEAD(notices, notice);

// Those that are in the clients' sockets, oldest first.
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct notices delivered = STAILQ_HEAD_INITIALIZER(delivered);

static void in_the_sockets(void *arg)
{
    struct notice *notice = arg;
    pm_infos_done(&notice->infos);
    notice->due_ms = pm_clock_ms() + HEAD_START_MS;
    pthread_mutex_lock(&mutex);
    STAILQ_INSERT_TAIL(&delivered, notice, next);
    pthread_mutex_unlock(&mutex);
    pm_stream_wake();
}

static struct notice *take_due(int *ret_wait_ms)
{
    uint64_t now = pm_clock_ms();
    *ret_wait_ms = -1;
    pthread_mutex_lock(&mutex);
    struct notice *notice = STAILQ_FIRST(&delivered);
    if (notice && notice->due_ms > now) {
        *ret_wait_ms = (int)(notice->due_ms - now);
        notice = NULL;
    }
    if (notice)
        STAILQ_REMOVE_HEAD(&delivered, next);
    pthread_mutex_unlock(&mutex);
    return notice;
}

int pm_notify_tick(void)
{
    struct notice *notice;
    int wait_ms;
    while ((notice = take_due(&wait_ms))) {
        struct pm_writer w = {0};
        pm_stream_begin(&w, PM_SERVER_NOTIFIED);
        pm_write_u64(&w, notice->id);
        pm_stream_send(&w);
        free(notice);
    }
    return wait_ms;
}

static void raised(pmix_status_t status, void *arg)
{
    pm_progress_after(HOPS_TO_SOCKET, in_the_sockets, arg);
}

static void fill_infos(struct notice *notice, const struct pm_death *death)
{
    struct pm_infos *infos = &notice->infos;
    pmix_rank_t everybody = PMIX_RANK_WILDCARD;
    int exit_code = pm_codes_exit_code(death->wait_status);
    pm_infos_add_procs(infos, PMIX_EVENT_CUSTOM_RANGE, death->nspace, &everybody, 1);
    pm_infos_add(infos, PMIX_EVENT_AFFECTED_PROC, &notice->source, PMIX_PROC);
    pm_infos_add(infos, PMIX_EXIT_CODE, &exit_code, PMIX_INT);
    pm_infos_add_flag(infos, PMIX_EVENT_DO_NOT_CACHE, true);
    if (death->text[0])
        pm_infos_add_str(infos, PMIX_EVENT_TEXT_MESSAGE, death->text);
}

void pm_notify_death(const struct pm_death *death)
{
    struct notice *notice = calloc(1, sizeof(*notice));
    if (!notice)
        pm_stream_fail("out of memory");
    notice->id = death->id;
    PMIX_LOAD_PROCID(&notice->source, death->nspace, death->rank);
    fill_infos(notice, death);
    pmix_status_t rc = notice->infos.error;
    if (rc == PMIX_ERR_NOMEM)
        pm_stream_fail("out of memory");
    if (rc == PMIX_SUCCESS)
        rc = PMIx_Notify_event(pm_codes_of_cause(death->cause), &notice->source, PMIX_RANGE_CUSTOM,
                               notice->infos.list, notice->infos.n, raised, notice);
    if (rc == PMIX_SUCCESS)
        return;
    if (rc != PMIX_OPERATION_SUCCEEDED)
        pm_stream_say("cannot tell the ranks of this node by a PMIx event that rank %u died: %s",
                      death->rank, PMIx_Error_string(rc));
    raised(rc, notice);
}
