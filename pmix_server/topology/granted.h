// SPDX-License-Identifier: Apache-2.0
//
// Which GPUs Slurm granted to this step, by what it exported: an ordered list of tokens (numbers, UUIDs,
// MIG names) for each vendor's runtime, each paired with a GPU of the machine. No I/O.
//
// A number counts among the GPUs that the step can open, in the runtime's order; with a device cgroup
// these are the granted ones, renumbered from 0, without one they are all of the node. A token is passed
// on as it came: no number is ever made up. A token that fits no GPU of a machine that shows some is an
// error, because what we believe about the node is wrong then.
#ifndef PM_TOPOLOGY_GRANTED_H
#define PM_TOPOLOGY_GRANTED_H

#include "pmix_server/topology/machine.h"

#define PM_TOKEN_CAP 96

struct pm_granted_sources {
    // Values of CUDA_VISIBLE_DEVICES, ROCR_VISIBLE_DEVICES and ZE_AFFINITY_MASK; NULL: not set. Slurm
    // may set all three, to the same.
    const char *visible[PM_GPU_VENDORS];
    const char *step_gpus;          // SLURM_STEP_GPUS: numbers on the whole node; NULL: not set
    const struct pm_set *admitted;  // places in machine.gpus that can be opened (devices.h); NULL: all
    const uint32_t *migs;           // GPU (place) of each MIG device that can be opened, in their order
    uint32_t n_migs;
};

struct pm_granted_gpu {
    uint32_t gpu;      // place in machine.gpus; PM_PLACE_NONE: the machine does not show where it is
    uint32_t vendors;  // bit (1 << vendor) of each variable that the token was in
    char token[PM_TOKEN_CAP];
};

struct pm_granted {
    struct pm_granted_gpu *gpus;  // in the order of the variable; a token that repeats is in it once
    uint32_t n;
};

// The variable of a vendor's runtime: "CUDA_VISIBLE_DEVICES".
const char *pm_granted_variable(enum pm_gpu_vendor vendor);

// Fills *ret_granted, which pm_granted_done() frees. -EINVAL with a sentence in error (PM_ERROR_CAP
// bytes), or -ENOMEM; *ret_granted is then untouched.
int pm_granted_read(const struct pm_machine *machine, const struct pm_granted_sources *sources,
                    struct pm_granted *ret_granted, char *error);
void pm_granted_done(struct pm_granted *granted);

// Places of the GPUs of a vendor that are in `admitted` (NULL: all) in the order in which its runtime
// numbers them. `ret_places` has room for machine.n_gpus; returns how many there are.
uint32_t pm_gpus_in_order(const struct pm_machine *machine, enum pm_gpu_vendor vendor,
                          const struct pm_set *admitted, uint32_t *ret_places);

#endif
