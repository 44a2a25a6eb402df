// SPDX-License-Identifier: Apache-2.0
//
// Which GPUs this process can open. A device cgroup forbids the others, which everything else on the
// node (sysfs, /proc, hwloc) shows all the same. Opening a GPU may start it, which takes seconds: this is
// done where discovery is (discover.h).
#ifndef PM_TOPOLOGY_DEVICES_H
#define PM_TOPOLOGY_DEVICES_H

#include "pmix_server/topology/machine.h"

// Places in machine.gpus that can be opened; a GPU whose device file is not known counts as one. `root`
// goes before /dev and /proc. 0 or -ENOMEM.
int pm_devices_admitted(const char *root, const struct pm_machine *machine, struct pm_set *ret_admitted);
// The GPU (place) of each MIG compute instance that can be opened, by GPU, GPU instance and compute
// instance. malloc'd array, NULL if there is none. 0 or -ENOMEM.
int pm_devices_migs(const char *root, const struct pm_machine *machine, uint32_t **ret_gpus, uint32_t *ret_n);

#endif
