// SPDX-License-Identifier: Apache-2.0
//
// What a pm-pmix-server must know to serve one epoch: the PMIx namespace, who runs where, and the
// little that ranks may ask about their job. Sent by the agent as PM_SERVER_NSPACE.
//
// Nodes are numbered as in the step's host list; a node without ranks (a spare) has an empty set
// and is left out of what ranks see. Every rank 0..nranks-1 is on exactly one node.
#ifndef PM_WIRE_NSPACE_H
#define PM_WIRE_NSPACE_H

#include <stdint.h>

#include "pmix_server/wire/buf.h"
#include "pmix_server/wire/set.h"

#define PM_NSPACE_NAME_CAP 256       // PMIX_MAX_NSLEN + 1
#define PM_NSPACE_NODES_MAX 1048576u
#define PM_NSPACE_RANKS_MAX 16777216u
#define PM_NSPACE_TEXT_MAX 16777216u // bytes of nodelist, wdir, command
#define PM_NSPACE_CPUSETS_MAX 65536u
#define PM_NSPACE_CPUSET_MAX 8192u   // bytes of one
#define PM_NSPACE_NO_PACKAGE UINT16_MAX

// Zero-initialise it; pm_nspace_info_done() frees what it points to.
struct pm_nspace_info {
    char name[PM_NSPACE_NAME_CAP];  // "pm.<job>.<step>.<epoch>"
    uint32_t job;
    uint32_t step;
    uint32_t epoch;   // also PMIX_REINCARNATION: how often the world was started before
    uint32_t node;    // own number
    uint32_t nnodes;
    uint32_t nranks;
    char *nodelist;   // Slurm's step host list; its i-th name is node i
    struct pm_set *ranks_of_node;  // nnodes sets
    char *wdir;       // working directory of the program; NULL or "": unknown
    char *command;    // the program and its arguments, joined by blanks; NULL or "": unknown
    // CPUs that each local rank is bound to, in order of rank ("0-3,8", Linux numbers); "": not bound or
    // not known. Either none (n_cpusets 0) or one for each rank of ranks_of_node[node].
    uint32_t n_cpusets;
    char **cpusets;
    // How many local ranks of lower number are on the same package, for each of cpusets;
    // PM_NSPACE_NO_PACKAGE: not known. NULL: of none.
    uint16_t *package_ranks;
};

void pm_nspace_info_done(struct pm_nspace_info *info);
// 0, or -EINVAL: a name, number or map that pm_read_nspace would refuse.
int pm_nspace_info_check(const struct pm_nspace_info *info);
void pm_write_nspace(struct pm_writer *w, const struct pm_nspace_info *info);
// Replaces *info (zero-initialised or read before). Everything that the comments above promise is
// checked; what breaks it is a malformed message. On failure r->error is set and *info is empty.
void pm_read_nspace(struct pm_reader *r, struct pm_nspace_info *info);

#endif
