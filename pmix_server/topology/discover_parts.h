// SPDX-License-Identifier: Apache-2.0
//
// What the files discover_*.c share. Each pm_discover_PART() fills its part of d->machine from
// d->topology; 0 or -ENOMEM. Order: cpus, numas, gpus, nics, rails.
#ifndef PM_TOPOLOGY_DISCOVER_PARTS_H
#define PM_TOPOLOGY_DISCOVER_PARTS_H

#include <hwloc.h>

#include "pmix_server/topology/driver.h"
#include "pmix_server/topology/machine.h"

struct discovery {
    hwloc_topology_t topology;
    struct pm_machine machine;
    const struct pm_drivers *drivers;  // of this host; NULL: an XML file, whose drivers are elsewhere
    hwloc_obj_t *gpu_objs, *nic_objs;  // PCI device of machine.gpus[i], machine.nics[i]
};

int pm_discover_cpus(struct discovery *d);
int pm_discover_numas(struct discovery *d);
int pm_discover_gpus(struct discovery *d);
int pm_discover_nics(struct discovery *d);
int pm_discover_rails(struct discovery *d);

int pm_discover_set(hwloc_const_bitmap_t bitmap, struct pm_set *set);
// PUs of the nearest object above a device; empty if that only says "somewhere in this machine".
int pm_discover_near(const struct discovery *d, hwloc_obj_t device, struct pm_set *near);
struct pm_pci pm_discover_pci(hwloc_obj_t device);
// <0, 0, >0 by address.
int pm_discover_pci_compare(const struct pm_pci *a, const struct pm_pci *b);
// `prefix` and a name that a device has given itself into buf: printable ASCII, without blanks at its
// end, cut to fit. An empty or NULL name leaves buf as it is.
void pm_discover_text(char *buf, size_t cap, const char *prefix, const char *name);
// calloc that takes 0 items.
void *pm_discover_array(size_t n, size_t bytes);

#endif
