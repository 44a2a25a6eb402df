// SPDX-License-Identifier: Apache-2.0
//
// CPUs and memory policy of an incarnation: set by the process itself, between fork and exec, and read
// back. Only system calls and the stack.
#ifndef PM_SHIM_BIND_H
#define PM_SHIM_BIND_H

#include <stdbool.h>

#include "pmix_server/wire/place.h"

// What the kernel has made of a place.
struct pm_bound {
    int error;              // of the call that set or read it, 0: none
    bool memory;            // it is about the memory policy; else about the CPUs
    struct pm_place place;  // what is in force; `memory` is KEEP for policies that are none of ours
};

// Sets what `place` says of this process. True: it is in force as it was said. False: *ret says what is
// in force instead; the process may run like that.
bool pm_bind_apply(const struct pm_place *place, struct pm_bound *ret);
// CPUs that this process may run on, into place->cpus. 0 or negative errno.
int pm_bind_read_cpus(struct pm_place *place);

#endif
