// SPDX-License-Identifier: Apache-2.0
//
// See locality.h for the contract.
#include "pmix_server/pmix/locality.h"

#include <pmix.h>
#include <pmix_server.h>
#include <stdio.h>
#include <stdlib.h>

#include "pmix_server/wire/nspace.h"

void pm_locality_add(struct pm_infos *proc, const char *cpus)
{
    if (!cpus[0])
        return;
    char text[PM_NSPACE_CPUSET_MAX + 8];
    snprintf(text, sizeof(text), "hwloc:%s", cpus);
    pm_infos_add_str(proc, PMIX_CPUSET, text);
    pmix_cpuset_t cpuset;
    PMIX_CPUSET_CONSTRUCT(&cpuset);
    if (PMIx_Parse_cpuset_string(text, &cpuset) != PMIX_SUCCESS)
        return;
    char *locality = NULL;
    if (PMIx_server_generate_locality_string(&cpuset, &locality) == PMIX_SUCCESS && locality)
        pm_infos_add_str(proc, PMIX_LOCALITY_STRING, locality);
    free(locality);
    free(cpuset.source);  // PMIx 4.2 has no call that frees the bitmap: it goes with the epoch
}
