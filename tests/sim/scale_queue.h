// SPDX-License-Identifier: Apache-2.0
//
// What will happen in scale mode, in windows of time: no process can do anything to another one within a
// window, since a hop takes longer, so each process does all that it has to do in a window before the next
// one begins. That is the same as the order of time, but the memory of a core is fetched once per window
// instead of once per event.
//
// Contract: while a process has its turn, it puts in what is later than now for itself, and what is not in
// this window for others. Windows are begun in order of time; what is put in late comes in the next one.
#ifndef PM_TESTS_SIM_SCALE_QUEUE_H
#define PM_TESTS_SIM_SCALE_QUEUE_H

#include <stdbool.h>

#include "tests/sim/heap.h"

#define SCALE_SLOTS 4096u // windows ahead; what is later waits in a heap

struct scale_entries {
    struct sim_entry *list;
    size_t n, cap;
};

// An entry's `a` is its process.
struct scale_queue {
    uint64_t window_ns;
    uint64_t window; // its number; it begins at window * window_ns
    bool begun;
    size_t n;
    struct scale_entries slots[SCALE_SLOTS];
    struct sim_heap far;
    struct scale_entries now, spare; // of this window, by process
    size_t next;                     // of `now`
    uint32_t proc;                   // whose turn it is
    struct sim_heap near;            // of that process
};

void scale_queue_init(struct scale_queue *q, uint64_t window_ns, struct sim_rng ties);
void scale_queue_done(struct scale_queue *q);
void scale_queue_push(struct scale_queue *q, struct sim_entry entry);
// The next window that has something; false: there is none that begins by until_ns.
bool scale_queue_begin(struct scale_queue *q, uint64_t until_ns);
// The next of this window, process by process; false: it is over.
bool scale_queue_next(struct scale_queue *q, struct sim_entry *ret);

#endif
