// SPDX-License-Identifier: Apache-2.0
//
// What a user can say about pinning: the words of --pm-bind (and of pm-bind --bind), read by one table.
// libc only: the plugin reads them, too.
#ifndef PM_WIRE_BIND_OPTIONS_H
#define PM_WIRE_BIND_OPTIONS_H

#include <stdint.h>

enum { PM_BIND_SENTENCE_BYTES = 320 };

enum pm_bind_mode {
    PM_BIND_AUTO = 0,  // near its GPUs, if there are any; equal shares of the cores
    PM_BIND_CORES,     // equal shares of the cores as if there were no GPUs, which follow
    PM_BIND_NUMA,      // all granted PUs of the NUMA nodes that `auto` would touch; ranks share them
    PM_BIND_NONE,      // change nothing
};

enum pm_bind_order {
    PM_ORDER_GPU = 0,  // rank i takes the i-th granted GPU (as programs that use the local rank expect)
    PM_ORDER_CORE,     // ranks follow the cores, and take GPUs near them
};

enum pm_bind_reach {  // cores that no GPU is near to
    PM_REACH_AUTO = 0,  // lent to the ranks, unless their threads would spread out too much for it
    PM_REACH_FILL,      // lent always: all granted cores are used
    PM_REACH_STRICT,    // left idle, as long as each rank has a core near its GPUs
};

enum pm_bind_memory {
    PM_MEMORY_AUTO = 0,    // one node: prefer it; several: the kernel's default (the toucher's node)
    PM_MEMORY_DEFAULT,     // no policy is set
    PM_MEMORY_PREFER,
    PM_MEMORY_BIND,        // fails where a node is full: only when asked for
    PM_MEMORY_INTERLEAVE,  // pages alternate over the rank's nodes
};

// A zeroed one is what is right for most.
struct pm_bind_options {
    enum pm_bind_mode mode;
    enum pm_bind_order order;
    enum pm_bind_reach reach;
    enum pm_bind_memory memory;
    uint32_t cpus;     // hardware threads for each rank (--cpus-per-task); 0: equal shares of all
    uint32_t smt;      // at most so many hardware threads of each core; 0: all that were granted
    uint32_t gpus;     // at most so many GPUs for each rank, spread out; 0: all are dealt out
    uint32_t mixed_kinds;  // not 0: a rank may have performance and efficiency cores
    // Not the mapper's: who asks it leaves these as Slurm has set them.
    uint32_t keep_cpus;    // not 0: --cpu-bind was given
    uint32_t keep_memory;  // not 0: --mem-bind was given
};

// Reads what a user types, words separated by commas:
//   auto | cores | numa | none       gpu-order | core-order       fill | strict
//   cpus=N   smt=N   gpus=N          memory=none|prefer|bind|interleave       mixed-kinds
//   keep-cpus   keep-memory
// Options that are not named keep their value in *options. -EINVAL: nothing was changed, and `sentence`
// says what is wrong and what can be given.
int pm_bind_options_read(const char *text, struct pm_bind_options *options,
                         char sentence[PM_BIND_SENTENCE_BYTES]);

#endif
