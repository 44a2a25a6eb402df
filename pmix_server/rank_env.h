// SPDX-License-Identifier: Apache-2.0
//
// The environment that one incarnation of a rank gets on top of its task's: what PMIx needs, what
// PyTorch, JAX and friends look for, and ours. Pure: numbers in, "NAME=value" out.
//
// SLURM_PROCID and the like are written only where ranks move (spares, --pm-shrink); else every rank is its task, and they
// are right as slurmstepd set them.
#ifndef PM_RANK_ENV_H
#define PM_RANK_ENV_H

#include <stdint.h>

#include "pmix_server/wire/buf.h"

// What Slurm's variables say of the world, not of the step.
struct pm_rank_slurm {
    uint32_t nnodes;
    const char *nodelist;
    const char *tasks_per_node;
    const char *gtids;  // ranks of this node
};

struct pm_rank_env {
    uint32_t job;
    uint32_t step;
    uint32_t epoch;
    uint32_t incarnation;
    uint32_t rank;
    uint32_t nranks;
    uint32_t local_rank;   // index among the world's ranks on this node
    uint32_t local_size;
    uint32_t node_rank;    // index of this node among those that have ranks
    uint32_t max_restarts;
    const char *master_host;  // name of rank 0's node
    uint16_t master_port;     // free there a moment ago; differs from the epoch before
    const char *cause;        // of the restart; "" in the first life
    uint32_t restart_rank;    // the rank that failed; UINT32_MAX: none
    const struct pm_rank_slurm *slurm;  // NULL: Slurm's variables are right
    // From the PMIx server, "NAME=value".
    char *const *server_env;
    uint32_t n_server_env;
    // From the map of the node (agent_bind.h), "NAME=value" or "?NAME=value".
    char *const *bind_env;
    uint32_t n_bind_env;
};

// Appends u32 n, then n strings, as PM_SHIM_START carries them ("?" in front: the user's own value
// stays, see wire/shim_proto.h). Errors stick to `w`; -E2BIG above PM_SHIM_ENV_MAX entries.
void pm_write_rank_env(struct pm_writer *w, const struct pm_rank_env *e);

#endif
