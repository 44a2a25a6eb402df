// SPDX-License-Identifier: Apache-2.0
//
// Which rank of a node runs where: a pure function of the machine, of what Slurm granted and of
// what the user wants. No hwloc, no I/O, no clock, no random source: the same request gives the
// same map in every shim and after every restart.
//
// Rules, in this order: nothing outside the granted PUs and GPUs; no PU for two ranks while there
// is a core for each; every granted GPU is used and no rank goes without one; equal shares; near
// its GPUs (cores, then memory, then NIC); few NUMA nodes and L3s; whole cores.
//
// A request that cannot be met by any map is refused with -EINVAL and a sentence. A map that would
// break one of the first two rules is a bug of ours: it is not handed out (-EPROTO and a sentence).
// On every error the caller changes nothing, and the program runs with the binding that it has.
#ifndef PM_TOPOLOGY_MAP_H
#define PM_TOPOLOGY_MAP_H

#include <stddef.h>

#include "pmix_server/topology/machine.h"
#include "pmix_server/wire/bind_options.h"

// What was decided for one rank before: the mapper works around it.
struct pm_bind_given {
    const struct pm_set *pus; // --cpu-bind; NULL: none. All ranks of a node have it or none has
    const uint32_t *gpus;     // positions in request.gpus (--gpu-bind, a device cgroup); NULL: none
    uint32_t n_gpus;
};

struct pm_bind_request {
    const struct pm_set *allowed; // PUs of the step on this node, by os_index
    // Granted GPUs in the order of their tokens, as places in machine.gpus. PM_PLACE_NONE: a GPU
    // that was granted but not found (near everything). A place may repeat (MIG: the locality of
    // the GPU); a token that repeats is to be given once.
    const uint32_t *gpus;
    uint32_t n_gpus;
    uint32_t n_ranks;                  // of this node, in the order of their global numbers
    const struct pm_bind_given *given; // n_ranks of them, or NULL
    struct pm_bind_options options;
};

enum pm_bind_reason {
    // of a rank
    PM_WHY_NEAR = 0,    // all of its cores are near its GPUs
    PM_WHY_LENT,        // some are not: lent by a place without GPUs
    PM_WHY_FAR,         // none is: nothing near its GPUs was granted (or it was needed by others)
    PM_WHY_EQUAL,       // no GPU matters: an equal share
    PM_WHY_GPU_SHARED,  // other ranks use its GPUs, too
    PM_WHY_GPU_UNKNOWN, // the machine does not tell where its GPU is
    PM_WHY_GIVEN,       // CPUs or GPUs were decided before
    PM_WHY_CPU_SHARED,  // more ranks than cores: it shares a core, or even a PU
    PM_WHY_MIXED,       // cores of several kinds
    PM_WHY_SPANS,       // several NUMA nodes
    PM_WHY_MEMORY_FROM, // its NUMA node has no memory
    PM_WHY_NIC_FAR,     // the nearest NIC hangs on another NUMA node or package
    // of the node
    PM_WHY_IDLE_CORES, // granted cores that no rank has
    PM_WHY_IDLE_GPUS,  // granted GPUs that no rank has (option gpus)
    PM_WHY_CROWDED,    // more ranks than granted cores
    PM_WHY_FEWER_CPUS, // not as many CPUs as asked for with option cpus
    PM_WHY_FAR_GPUS,   // GPUs that no granted core is near to
    PM_BIND_REASONS,
};

struct pm_bind_note {
    enum pm_bind_reason reason;
    char *text; // one sentence for the user
};

struct pm_bind_notes {
    struct pm_bind_note *notes;
    uint32_t n, cap;
};

struct pm_bind_nic {
    uint32_t nic;      // place in machine.nics
    enum pm_rail rail; // from the GPU it is for; without GPUs: NODE, PACKAGE or SYS
};

struct pm_bind_rank {
    struct pm_set pus;          // by os_index
    struct pm_set memory_nodes; // by os_index: nodes with ordinary memory of its PUs
    enum pm_bind_memory memory; // never AUTO
    struct pm_bind_nic *nics;   // best first, without repeats; empty: no clear answer
    uint32_t *cores;            // places in machine.cores, ascending
    uint32_t *gpus;             // positions in request.gpus, ascending
    uint32_t n_cores, n_gpus, n_nics;
    uint32_t threads; // for OMP_NUM_THREADS: one for each core, or as `smt` and `cpus` say
    struct pm_bind_notes why;
};

struct pm_binding {
    struct pm_bind_rank *ranks;
    uint32_t n_ranks;           // 0: change nothing (option none, or an error)
    struct pm_bind_notes notes; // of the node; each is worth a line on stderr, once per node
    char sentence[PM_BIND_SENTENCE_BYTES]; // why nothing is changed; "" after success
};

// Fills *ret_binding, which pm_binding_done() frees. Errors leave it empty but for the sentence:
//   -EINVAL  the request or the machine is senseless (no PUs, ranks, or GPUs that do not exist)
//   -EPROTO  the result broke a rule and was thrown away
//   -ENOMEM
int pm_bind_ranks(const struct pm_machine *machine, const struct pm_bind_request *request,
                  struct pm_binding *ret_binding);

// Frees what the map holds and zeroes it. Takes a zeroed one, too.
void pm_binding_done(struct pm_binding *binding);

// A word for a reason ("near", "lent"), for reports.
const char *pm_bind_reason_name(enum pm_bind_reason reason);

#endif
