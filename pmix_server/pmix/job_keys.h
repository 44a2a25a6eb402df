// SPDX-License-Identifier: Apache-2.0
//
// What ranks can ask about their job: the keys that PMIx_server_register_nspace is given.
//
// Which keys: PMIx standard 5.0, chapter "Server-Specific Interfaces", the list that a host must
// provide, and what Open MPI 4.1, 5.0 and MPICH do not start without. A key of libpmix' own ("pmix.*")
// that is not given here is never found by a client, so more is better than less.
#ifndef PM_PMIX_JOB_KEYS_H
#define PM_PMIX_JOB_KEYS_H

#include "pmix_server/pmix/infos.h"
#include "pmix_server/wire/nspace.h"

#define PM_SERVER_NSPACE_NAME "pm-server"

// Worlds bigger than these get no array of keys per rank, or none for the other nodes. libpmix then
// derives host, node, local rank and peers from the two maps; GLOBAL_RANK, APP_RANK and a rank's
// REINCARNATION (the job's is there) cannot be asked for. The arrays cost 4 KiB a rank while they are
// built, 150 bytes a key in each client, and libpmix looks for each node in a list.
#define PM_JOB_KEYS_RANKS_MAX 16384u
#define PM_JOB_KEYS_NODES_MAX 1024u

// Session directories, all below the server's own, which the agent removes.
struct pm_job_dirs {
    char top[4096];
    char nspace[4096 + 256];
};

// Fills *ret_keys (zero-initialised). 0, -ENOMEM, or -EINVAL when libpmix refused a value (its message
// is in ret_keys->error). Takes time and memory in proportion to the ranks.
int pm_job_keys_build(const struct pm_nspace_info *info, const struct pm_job_dirs *dirs,
                      struct pm_infos *ret_keys);

#endif
