// SPDX-License-Identifier: Apache-2.0
//
// See codes.h for the contract. Code numbers: PMIx standard 4.2, "Standard error constants"; which of
// them a launcher raises for what: PRRTE, src/mca/errmgr/dvm.
#include "pmix_server/pmix/codes.h"

#include <stddef.h>
#include <sys/wait.h>

#include "pmix_server/core/core.h"
#include "pmix_server/wire/server_proto.h"

static const pmix_status_t status_codes[] = {
    [PM_STATUS_OK] = PMIX_SUCCESS,
    [PM_STATUS_TIMEOUT] = PMIX_ERR_TIMEOUT,
    [PM_STATUS_LOST] = PMIX_ERR_LOST_CONNECTION,
    [PM_STATUS_NOT_FOUND] = PMIX_ERR_NOT_FOUND,
    [PM_STATUS_ABORTED] = PMIX_ERR_JOB_TERMINATED,
    [PM_STATUS_ERROR] = PMIX_ERROR,
};

static const pmix_status_t cause_codes[PM_CAUSE_MAX] = {
    [PM_CAUSE_EXIT] = PMIX_ERR_EXIT_NONZERO_TERM,
    [PM_CAUSE_SIGNAL] = PMIX_ERR_PROC_ABORTED_BY_SIG,
    [PM_CAUSE_OOM] = PMIX_ERR_PROC_ABORTED_BY_SIG,
    [PM_CAUSE_ABORT] = PMIX_ERR_PROC_REQUESTED_ABORT,
    [PM_CAUSE_NO_FINALIZE] = PMIX_ERR_PROC_TERM_WO_SYNC,
    [PM_CAUSE_EXEC] = PMIX_ERR_PROC_FAILED_TO_START,
    [PM_CAUSE_PMIX_SERVER] = PMIX_ERR_PROC_TERM_WO_SYNC,
    [PM_CAUSE_SHIM_LOST] = PMIX_ERR_PROC_TERM_WO_SYNC,
    [PM_CAUSE_AGENT_LOST] = PMIX_ERR_PROC_TERM_WO_SYNC,
    [PM_CAUSE_NODE_LOST] = PMIX_EVENT_NODE_DOWN,
    [PM_CAUSE_UNHEALTHY] = PMIX_EVENT_NODE_DOWN,
};

pmix_status_t pm_codes_of_status(int32_t status)
{
    size_t n = sizeof(status_codes) / sizeof(status_codes[0]);
    return status >= 0 && (size_t)status < n ? status_codes[status] : PMIX_ERROR;
}

pmix_status_t pm_codes_of_cause(int32_t cause)
{
    if (cause <= PM_CAUSE_NONE || cause >= PM_CAUSE_MAX)
        return PMIX_ERR_PROC_TERM_WO_SYNC;
    return cause_codes[cause];
}

int pm_codes_exit_code(int32_t wait_status)
{
    if (WIFSIGNALED(wait_status))
        return 128 + WTERMSIG(wait_status);
    return WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : 0;
}
