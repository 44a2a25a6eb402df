// SPDX-License-Identifier: Apache-2.0
//
// Where a process is to run: CPUs and a memory policy, as the kernel takes them, for START
// (shim_proto.h) and for the shim, which cannot allocate anything between fork and exec.
#ifndef PM_WIRE_PLACE_H
#define PM_WIRE_PLACE_H

#include <stdint.h>

#include "pmix_server/wire/buf.h"

#define PM_PLACE_CPU_BYTES 1024u  // 8192 CPUs
#define PM_PLACE_NODE_BYTES 128u  // 1024 memory nodes

enum pm_place_memory {
    PM_PLACE_KEEP = 0,  // whatever the task has
    PM_PLACE_PREFER,    // one node, or several (Linux 5.15)
    PM_PLACE_BIND,
    PM_PLACE_INTERLEAVE,
    PM_PLACE_MEMORIES,
};

// Bit n of byte n / 8 is CPU or node n. A zeroed one changes nothing.
struct pm_place {
    uint32_t cpu_bytes;  // up to the last byte that is not 0; 0: whatever the task has
    uint32_t node_bytes;
    enum pm_place_memory memory;
    uint8_t cpus[PM_PLACE_CPU_BYTES];
    uint8_t nodes[PM_PLACE_NODE_BYTES];
};

// Writes bytes cpus, u8 memory, bytes nodes.
void pm_write_place(struct pm_writer *w, const struct pm_place *place);
// -EBADMSG sticks to `r`: masks that are too long or have no last bit, a policy without nodes, or nodes
// without a policy.
void pm_read_place(struct pm_reader *r, struct pm_place *ret);
// Bytes of a mask up to the last one that is not 0.
uint32_t pm_place_length(const uint8_t *mask, uint32_t cap);

#endif
