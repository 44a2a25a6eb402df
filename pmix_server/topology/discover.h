// SPDX-License-Identifier: Apache-2.0
//
// A machine from hwloc: of this host, or of an XML file (lstopo machine.xml) of any other one.
//
// hwloc's components that load vendors' or display libraries are off, so bare PCI devices are found,
// and what this host's drivers say in /proc and /sys gives them names (driver.h). The hwloc topology is
// freed before the call returns. Nothing is restricted to a cpuset, because hwloc would drop devices
// together with their cores: the machine has everything, and what may be used is kept beside it.
//
// Discovery can hang, in a driver's file or in hwloc, and cannot be stopped from inside. So the one who
// must not wait does not call this: pm-agent runs pm-discover (discover_main.c), reads its picture
// (picture.h) from a pipe and kills it when the time is over. A process of its own, because a thread
// cannot be killed and a fork without exec would hold the agent's sockets; and hwloc's libraries never
// come into the agent. hwloc 2.9 also crashes on some damaged XML files, so that pm-bind reads them in a
// child (pm_picture_in_child).
//
// Errors are -EINVAL (the topology is unusable), -ENOMEM or what reading the file gave, with one
// sentence in error (PM_ERROR_CAP bytes); *ret_machine and *ret_allowed are then untouched.
#ifndef PM_TOPOLOGY_DISCOVER_H
#define PM_TOPOLOGY_DISCOVER_H

#include "pmix_server/topology/machine.h"

// `ret_allowed`: the PUs that whoever wrote the file was allowed to use; pm_set_done() frees it.
int pm_discover_xml(const char *path, struct pm_machine *ret_machine, struct pm_set *ret_allowed,
                    char *error);
// This host. `root` is where its /proc, /sys and /dev are: "" but in tests. Without `gpus`, for a step that has none,
// it shows devices only if some driver offers a NIC to MPI: to look through them costs more than everything else.
int pm_discover_host(const char *root, bool gpus, struct pm_machine *ret_machine, char *error);

#endif
