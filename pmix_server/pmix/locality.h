// SPDX-License-Identifier: Apache-2.0
//
// Where on the node a rank runs, in the form that MPI libraries compare to find who shares a cache.
#ifndef PM_PMIX_LOCALITY_H
#define PM_PMIX_LOCALITY_H

#include "pmix_server/pmix/infos.h"

// Adds PMIX_CPUSET and PMIX_LOCALITY_STRING for a rank bound to the Linux CPUs `cpus` ("0-3,8"). Adds
// nothing for "" or when libpmix cannot tell: a client then falls back to "same node".
void pm_locality_add(struct pm_infos *proc, const char *cpus);

#endif
