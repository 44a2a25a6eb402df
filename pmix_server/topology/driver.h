// SPDX-License-Identifier: Apache-2.0
//
// What the drivers of this host say about its GPUs and NICs, without any vendor's library: NVIDIA in
// /proc/driver/nvidia, AMD in the KFD topology, all in /sys/bus/pci. They show all devices of the node,
// also to a process that may not open them; KFD alone hides what the device cgroup forbids.
#ifndef PM_TOPOLOGY_DRIVER_H
#define PM_TOPOLOGY_DRIVER_H

#include "pmix_server/topology/machine.h"

struct pm_driver_gpu {
    struct pm_pci pci;  // function 0 for AMD: its number may mean a partition
    enum pm_gpu_vendor vendor;
    char model[64], uuid[64];    // "" = unknown
    uint32_t minor, runtime;     // as in struct pm_machine_gpu
};

struct pm_drivers {
    const char *root;  // borrowed
    struct pm_driver_gpu *gpus;
    uint32_t n, cap;
};

// `root` goes before /proc and /sys: "" but in tests. 0 or -ENOMEM; files that are not there or make no
// sense tell nothing.
int pm_drivers_read(const char *root, struct pm_drivers *ret_drivers);
void pm_drivers_done(struct pm_drivers *drivers);

// The `nth` GPU or partition at this address, NULL: no more of them.
const struct pm_driver_gpu *pm_drivers_gpu(const struct pm_drivers *drivers, const struct pm_pci *pci,
                                           uint32_t nth);
// False if the device belongs to somebody else's driver (vfio-pci) or to none.
bool pm_drivers_usable(const struct pm_drivers *drivers, const struct pm_pci *pci, enum pm_gpu_vendor vendor);
// N of its /dev/dri/renderDN, PM_PLACE_NONE: it has none.
uint32_t pm_drivers_render(const struct pm_drivers *drivers, const struct pm_pci *pci);
// A virtual function whose physical one is on this host.
bool pm_drivers_is_virtual(const struct pm_drivers *drivers, const struct pm_pci *pci);
// Some driver offers a NIC for MPI: verbs (InfiniBand, RoCE, Omni-Path, EFA) or Slingshot.
bool pm_drivers_have_fabric(const struct pm_drivers *drivers);
// The network interface is known to be down.
bool pm_drivers_link_down(const struct pm_drivers *drivers, const char *interface);

#endif
