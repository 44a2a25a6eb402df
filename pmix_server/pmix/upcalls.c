// SPDX-License-Identifier: Apache-2.0
//
// See upcalls.h for the contract.
//
// Return values (PMIx standard, "Server Function Pointers"): PMIX_SUCCESS = the callback will be
// called, PMIX_OPERATION_SUCCEEDED = done, no callback, anything else = refused, no callback.
#include "pmix_server/pmix/upcalls.h"

#include <pmix.h>
#include <stdlib.h>
#include <string.h>

#include "pmix_server/pmix/codes.h"
#include "pmix_server/pmix/delta.h"
#include "pmix_server/pmix/exits.h"
#include "pmix_server/pmix/pending.h"
#include "pmix_server/pmix/ranks.h"
#include "pmix_server/pmix/stream.h"

static const struct pm_nspace_info *served;

static bool is_served(const char *nspace)
{
    return served && !strncmp(nspace, served->name, PMIX_MAX_NSLEN);
}

// Adds the rank, or all ranks, that *proc stands for.
static pmix_status_t add_proc(struct pm_set *set, const pmix_proc_t *proc)
{
    if (!is_served(proc->nspace))
        return PMIX_ERR_NOT_SUPPORTED;  // other jobs: needs connect, which is refused too
    int error = 0;
    if (proc->rank == PMIX_RANK_WILDCARD)
        error = pm_set_add_span(set, 0, served->nranks - 1);
    else if (proc->rank == PMIX_RANK_LOCAL_NODE || proc->rank == PMIX_RANK_LOCAL_PEERS)
        error = pm_set_union(set, &served->ranks_of_node[served->node]);
    else if (proc->rank < served->nranks)
        error = pm_set_add(set, proc->rank);
    else
        return PMIX_ERR_BAD_PARAM;
    if (error)
        pm_stream_fail("out of memory");
    return PMIX_SUCCESS;
}

static pmix_status_t set_of_procs(const pmix_proc_t procs[], size_t n, struct pm_set *ret_set)
{
    pmix_status_t rc = PMIX_SUCCESS;
    for (size_t i = 0; rc == PMIX_SUCCESS && i < n; i++)
        rc = add_proc(ret_set, &procs[i]);
    if (rc != PMIX_SUCCESS)
        pm_set_done(ret_set);
    return rc;
}

static uint64_t seconds_to_ms(const pmix_value_t *value)
{
    switch (value->type) {
    case PMIX_INT:
        return value->data.integer > 0 ? (uint64_t)value->data.integer * 1000 : 0;
    case PMIX_INT32:
        return value->data.int32 > 0 ? (uint64_t)value->data.int32 * 1000 : 0;
    case PMIX_UINT:
        return (uint64_t)value->data.uint * 1000;
    case PMIX_UINT32:
        return (uint64_t)value->data.uint32 * 1000;
    case PMIX_SIZE:
        return (uint64_t)value->data.size * 1000;
    default:
        return 0;
    }
}

// What a client asked for with a fence or a get.
struct wishes {
    bool collect;
    bool failed;  // a local participant was lost on the way
    uint64_t timeout_ms;
};

// Directives that we do not know are refused if the client insists on them.
static pmix_status_t read_wishes(const pmix_info_t info[], size_t n, struct wishes *ret)
{
    static const char *const harmless[] = {PMIX_SORTED_PROC_ARRAY, PMIX_COLLECT_GENERATED_JOB_INFO,
                                           PMIX_REQUIRED_KEY, PMIX_GET_REFRESH_CACHE};
    for (size_t i = 0; i < n; i++) {
        if (PMIX_CHECK_KEY(&info[i], PMIX_COLLECT_DATA)) {
            ret->collect = PMIX_INFO_TRUE(&info[i]);
            continue;
        }
        if (PMIX_CHECK_KEY(&info[i], PMIX_TIMEOUT)) {
            ret->timeout_ms = seconds_to_ms(&info[i].value);
            continue;
        }
        if (PMIX_CHECK_KEY(&info[i], PMIX_LOCAL_COLLECTIVE_STATUS)) {
            ret->failed = info[i].value.data.status != PMIX_SUCCESS;
            continue;
        }
        bool known = !PMIX_INFO_IS_REQUIRED(&info[i]);
        for (size_t k = 0; !known && k < sizeof(harmless) / sizeof(harmless[0]); k++)
            known = PMIX_CHECK_KEY(&info[i], harmless[k]);
        if (!known)
            return PMIX_ERR_NOT_SUPPORTED;
    }
    return PMIX_SUCCESS;
}

// The answer that the main thread is to give to our own request `id`.
static void answer_ourselves(enum pm_server_msg type, uint64_t id, enum pm_server_status status)
{
    struct pm_writer w = {0};
    pm_stream_begin(&w, type);
    pm_write_u64(&w, id);
    pm_write_i32(&w, status);
    pm_write_bytes(&w, NULL, 0);
    pm_stream_inject(&w);
}

static pmix_status_t send_rank(enum pm_server_msg type, uint32_t rank)
{
    struct pm_writer w = {0};
    pm_stream_begin(&w, type);
    pm_write_u32(&w, rank);
    pm_stream_send(&w);
    return PMIX_OPERATION_SUCCEEDED;
}

static pmix_status_t client_connected(const pmix_proc_t *proc, void *object,
                                      pmix_op_cbfunc_t callback, void *data)
{
    if (!is_served(proc->nspace))
        return PMIX_ERR_NOT_SUPPORTED;
    if (pm_ranks_has(PM_RANK_LOST, proc->rank))
        return PMIX_OPERATION_SUCCEEDED;  // its obituary, see obituary.h
    pm_ranks_mark(PM_RANK_CONNECTED, proc->rank);
    pm_ranks_unmark(PM_RANK_FINALIZED, proc->rank);  // a process may start PMIx more than once
    pm_stream_wake();  // obituaries may be due
    return send_rank(PM_SERVER_CONNECTED, proc->rank);
}

// The newer form. Its refusal is ignored by 4.2, and "success" would hang 5.0.8 and later: always
// "done".
static pmix_status_t client_connected2(const pmix_proc_t *proc, void *object, pmix_info_t info[],
                                       size_t n, pmix_op_cbfunc_t callback, void *data)
{
    return client_connected(proc, object, NULL, NULL);
}

static pmix_status_t client_finalized(const pmix_proc_t *proc, void *object,
                                      pmix_op_cbfunc_t callback, void *data)
{
    if (!is_served(proc->nspace))
        return PMIX_ERR_NOT_SUPPORTED;
    pm_ranks_mark(PM_RANK_FINALIZED, proc->rank);
    return send_rank(PM_SERVER_FINALIZED, proc->rank);
}

static pmix_status_t abort_job(const pmix_proc_t *proc, void *object, int status, const char msg[],
                               pmix_proc_t procs[], size_t n, pmix_op_cbfunc_t callback, void *data)
{
    struct pm_set targets = {0};
    bool all = !procs || !n;
    for (size_t i = 0; i < n && !all; i++)
        all = procs[i].rank == PMIX_RANK_WILDCARD;
    pmix_status_t rc = all ? PMIX_SUCCESS : set_of_procs(procs, n, &targets);
    if (rc != PMIX_SUCCESS)
        return rc;
    struct pm_writer w = {0};
    pm_stream_begin(&w, PM_SERVER_ABORT);
    pm_write_u32(&w, proc->rank);
    pm_write_i32(&w, status);
    pm_write_str(&w, msg);
    pm_write_set(&w, &targets);
    pm_stream_send(&w);
    pm_set_done(&targets);
    return PMIX_OPERATION_SUCCEEDED;
}

static void send_fence(uint64_t id, const struct wishes *wishes, const struct pm_set *set,
                       const char *data, size_t len)
{
    struct pm_writer w = {0};
    pm_stream_begin(&w, PM_SERVER_FENCE);
    pm_write_u64(&w, id);
    pm_write_u8(&w, wishes->collect);
    pm_write_u64(&w, wishes->timeout_ms);
    pm_write_u8(&w, wishes->failed);
    pm_write_set(&w, set);
    // A bare barrier comes with a few bytes of framing as well: only collecting fences carry data.
    if (wishes->collect)
        pm_delta_write(id, pm_set_count(set) == served->nranks, data, len, &w);
    else
        pm_write_bytes(&w, NULL, 0);
    pm_stream_send(&w);
}

// Fences among local ranks come here only if one of them is lost: libpmix completes the others by
// itself. Mind that 4.2 calls this also when a participant's connection breaks, and then forgets those
// who wait if it is refused: nothing that depends on the moment may lead to a refusal. Without
// memory the process ends.
static pmix_status_t fence(const pmix_proc_t procs[], size_t n, const pmix_info_t info[],
                           size_t n_info, char *data, size_t len, pmix_modex_cbfunc_t callback,
                           void *callback_data)
{
    struct pm_set set = {0};
    struct wishes wishes = {0};
    pmix_status_t rc = set_of_procs(procs, n, &set);
    if (rc == PMIX_SUCCESS)
        rc = read_wishes(info, n_info, &wishes);
    if (rc == PMIX_SUCCESS) {
        uint64_t id = pm_pending_add(callback, callback_data);
        // libpmix does not count those who were lost before the fence began.
        pm_exits_look(&set);
        wishes.failed |= pm_ranks_any(PM_RANK_LOST, &set);
        if (wishes.failed && pm_ranks_are_local(&set))
            answer_ourselves(PM_SERVER_FENCE_DONE, id, PM_STATUS_LOST);
        else
            send_fence(id, &wishes, &set, data, len);
    }
    free(data);  // ours, by the standard
    pm_set_done(&set);
    return rc;
}

static pmix_status_t direct_modex(const pmix_proc_t *proc, const pmix_info_t info[], size_t n_info,
                                  pmix_modex_cbfunc_t callback, void *callback_data)
{
    struct wishes wishes = {0};
    if (!is_served(proc->nspace))
        return PMIX_ERR_NOT_SUPPORTED;
    if (proc->rank >= served->nranks)
        return PMIX_ERR_NOT_FOUND;
    pmix_status_t rc = read_wishes(info, n_info, &wishes);
    if (rc != PMIX_SUCCESS)
        return rc;
    uint64_t id = pm_pending_add(callback, callback_data);
    if (pm_ranks_is_local(proc->rank)) {
        // libpmix serves its own ranks; this one is lost and was deregistered.
        answer_ourselves(PM_SERVER_MODEX_DONE, id, PM_STATUS_NOT_FOUND);
        return PMIX_SUCCESS;
    }
    struct pm_writer w = {0};
    pm_stream_begin(&w, PM_SERVER_MODEX);
    pm_write_u64(&w, id);
    pm_write_u32(&w, proc->rank);
    pm_write_u64(&w, wishes.timeout_ms);
    pm_stream_send(&w);
    return PMIX_SUCCESS;
}

// Must be there: without it libpmix refuses also what it does by itself, the registration of files to
// remove when a client ends.
static pmix_status_t job_control(const pmix_proc_t *requestor, const pmix_proc_t targets[],
                                 size_t n_targets, const pmix_info_t directives[], size_t n,
                                 pmix_info_cbfunc_t callback, void *data)
{
    return PMIX_ERR_NOT_SUPPORTED;
}

static pmix_status_t register_events(pmix_status_t *codes, size_t n_codes, const pmix_info_t info[],
                                     size_t n, pmix_op_cbfunc_t callback, void *data)
{
    return PMIX_OPERATION_SUCCEEDED;
}

static pmix_status_t deregister_events(pmix_status_t *codes, size_t n_codes,
                                       pmix_op_cbfunc_t callback, void *data)
{
    return PMIX_OPERATION_SUCCEEDED;
}

// A client raised an event. libpmix has told the ranks of this node; other nodes cannot be reached,
// and the client is told so.
static pmix_status_t notify_event(pmix_status_t code, const pmix_proc_t *source,
                                  pmix_data_range_t range, pmix_info_t info[], size_t n,
                                  pmix_op_cbfunc_t callback, void *data)
{
    bool stays_here = range == PMIX_RANGE_LOCAL || range == PMIX_RANGE_PROC_LOCAL;
    if (!stays_here && served)
        stays_here = pm_set_count(&served->ranks_of_node[served->node]) == served->nranks;
    return stays_here ? PMIX_OPERATION_SUCCEEDED : PMIX_ERR_NOT_SUPPORTED;
}

// PMIx_server_init copies as many bytes as the *library's* struct has, and releases after 4.2 have more
// members: what follows ours must be zero.
static union {
    pmix_server_module_t module;
    char room[8 * sizeof(pmix_server_module_t)];
} host = {.module = {
    .client_connected = client_connected,
    .client_connected2 = client_connected2,
    .client_finalized = client_finalized,
    .abort = abort_job,
    .fence_nb = fence,
    .direct_modex = direct_modex,
    .register_events = register_events,
    .deregister_events = deregister_events,
    .notify_event = notify_event,
    .job_control = job_control,
}};

pmix_server_module_t *pm_upcalls_module(void)
{
    return &host.module;
}

void pm_upcalls_serve(const struct pm_nspace_info *info)
{
    served = info;
}
