// SPDX-License-Identifier: Apache-2.0
//
// Which GPUs this process may open, by the names of their device files. A device cgroup of its own is how Slurm gives
// each task its GPUs (--gpus-per-task), and then the numbers that it exports are 0 for all of them.
#ifndef PM_SHIM_DEVICES_H
#define PM_SHIM_DEVICES_H

#include <stddef.h>

// "nvidia0,nvidia3,renderD128" into buf (cap bytes), in no order; `root` goes before /dev. "" for none, and if there are
// more than fit. Nothing is opened: access() asks the device cgroup, and the driver is not woken.
void pm_shim_devices(const char *root, char *buf, size_t cap);

#endif
