// SPDX-License-Identifier: Apache-2.0
//
// The only place where our numbers and PMIx' meet.
#ifndef PM_PMIX_CODES_H
#define PM_PMIX_CODES_H

#include <pmix_common.h>
#include <stdint.h>

// enum pm_server_status -> what a client's PMIx_Fence or PMIx_Get returns. Unknown: PMIX_ERROR.
pmix_status_t pm_codes_of_status(int32_t status);
// enum pm_cause (core/core.h) of a dead rank -> code of the event that survivors get. Unknown causes
// are PMIX_ERR_PROC_TERM_WO_SYNC: "gone, without saying so".
pmix_status_t pm_codes_of_cause(int32_t cause);
// wait status -> PMIX_EXIT_CODE: the exit code, or 128 + signal.
int pm_codes_exit_code(int32_t wait_status);

#endif
