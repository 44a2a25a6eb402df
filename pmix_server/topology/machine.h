// SPDX-License-Identifier: Apache-2.0
//
// A machine as the mapper sees it: plain data, no hwloc. discover.c fills it from hwloc (this host,
// or an XML file of another one); tests write it by hand; map.c reads it.
//
// PUs and memory nodes are named by the operating system's numbers (hwloc's os_index), because these
// are what sched_setaffinity, set_mempolicy and Slurm speak; they may have holes. Cores, L3s, NUMA
// nodes, packages, GPUs and NICs are named by their place in the arrays below, which are sorted by
// hwloc's logical order (GPUs: by PCI address and partition). No array has a fixed size.
#ifndef PM_TOPOLOGY_MACHINE_H
#define PM_TOPOLOGY_MACHINE_H

#include <stdbool.h>
#include <stdint.h>

#include "pmix_server/wire/set.h"

#define PM_PLACE_NONE UINT32_MAX

struct pm_machine_core {
    struct pm_set pus;  // all of its hardware threads, allowed or not
    uint32_t l3;        // PM_PLACE_NONE: the machine shows none
    uint32_t numa;      // place of the NUMA node with CPUs
    uint32_t package;
    uint32_t kind;      // 0 = the least efficient kind; hwloc's cpukinds. Machines with one kind: 0
};

// A NUMA node that has CPUs. It may have no memory (then pages come from `memory_from`).
struct pm_machine_numa {
    uint32_t os_index;  // PM_PLACE_NONE: a die without memory, for which the system has no node
    struct pm_set pus;
    uint32_t package;
    uint64_t memory_bytes;
    uint32_t memory_from;  // os_index of the nearest node with ordinary memory; its own if it has some
};

struct pm_machine_domain {  // an L3 or a package
    uint32_t os_index;
    struct pm_set pus;
};

enum pm_gpu_vendor { PM_GPU_NVIDIA = 0, PM_GPU_AMD, PM_GPU_INTEL, PM_GPU_VENDORS };

struct pm_pci {
    uint32_t domain;
    uint8_t bus, device, function;
};

struct pm_machine_gpu {
    struct pm_pci pci;
    enum pm_gpu_vendor vendor;
    uint32_t partition;    // 0; 0..n-1 where one PCI function holds several GPUs (CPX, tiles)
    struct pm_set near;    // PUs of the nearest ancestor that has any; empty: unknown (some VMs)
    char model[64];        // "" = unknown
    char uuid[64];         // "" = unknown; what the vendor's runtime takes as a name
    uint32_t minor;        // N of /dev/nvidiaN or renderDN, PM_PLACE_NONE: unknown
    uint32_t runtime;      // its number in the vendor's own order, PM_PLACE_NONE: unknown
};

// Best first: InfiniBand, Slingshot, OPA, EFA; Ethernet that a verbs device stands on (RoCE); others.
enum pm_nic_class { PM_NIC_FABRIC = 0, PM_NIC_RDMA_ETHERNET, PM_NIC_ETHERNET };

struct pm_machine_nic {
    struct pm_pci pci;
    enum pm_nic_class class;
    char name[32];       // OS device that programs know: "mlx5_0", "hsi0"
    struct pm_set near;
    bool down;           // link down, as far as known
    bool second_port;    // another function or port of the same card comes first; a VF beside its card
};

// How far a NIC is from a GPU (NCCL's words), best first.
enum pm_rail { PM_RAIL_PIX = 0, PM_RAIL_PXB, PM_RAIL_PHB, PM_RAIL_NODE, PM_RAIL_PACKAGE, PM_RAIL_SYS };

struct pm_machine {
    struct pm_machine_core *cores;
    struct pm_machine_domain *l3s;
    struct pm_machine_numa *numas;
    struct pm_machine_domain *packages;
    struct pm_machine_gpu *gpus;
    struct pm_machine_nic *nics;
    uint32_t n_cores, n_l3s, n_numas, n_packages, n_gpus, n_nics;
    struct pm_set pus;       // every PU
    uint16_t *numa_hops;     // n_numas x n_numas relative distances (10 = local), NULL: unknown
    uint8_t *rails;          // n_gpus x n_nics of enum pm_rail
};

// Frees what the machine holds and zeroes it. A zeroed machine is empty.
void pm_machine_done(struct pm_machine *machine);

#endif
