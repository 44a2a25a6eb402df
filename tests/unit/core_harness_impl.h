// SPDX-License-Identifier: Apache-2.0
//
// Inside of the harness: core_harness.c has the queue and the steps, core_harness_local.c stands in for what
// is on a node, core_harness_net.c has the links and the faults.
#ifndef PM_TESTS_CORE_HARNESS_IMPL_H
#define PM_TESTS_CORE_HARNESS_IMPL_H

#include <stdio.h>
#include <stdlib.h>

#include "tests/unit/core_harness.h"

#define CHECK(cond)                                                                                \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "%s:%d: harness: %s\n", __FILE__, __LINE__, #cond);                    \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

// A link between node[0], who dialed, and node[1].
struct wire {
    uint32_t node[2];
    uint32_t id[2];
    bool open[2];
    bool up[2];           // that end has seen LINK_UP
    uint64_t last_ns[2];  // when the newest item for that end arrives
    struct item *held[2]; // for that end, oldest first: lost in a cut, sent again after a heal
    struct item *held_tail[2];
};

enum item_kind { ITEM_TIMER, ITEM_EVENT, ITEM_DIAL, ITEM_START };

// Something that will happen at a node.
struct item {
    uint64_t at_ns;
    enum item_kind kind;
    uint32_t slot;
    uint64_t timeout_ns; // ITEM_DIAL
    struct wire *wire;   // link events: which link ...
    int end;             // ... and which end of it
    bool local;          // crosses no wire (dial results)
    struct pm_event event;
    struct pm_set set;
    uint8_t *data;
    char *text;
    struct item *next; // in `held` or a backlog
};

struct slot {
    struct pm_core *core;
    bool killed, off, paused, cut;
    bool ended; // as it should: END_AGENT or EXIT
    uint32_t next_even;
    uint64_t timer_ns;
    struct wire **wires;
    uint32_t n_wires, cap_wires;
    struct harness_rank *ranks;
    uint32_t n_ranks;
    struct item *backlog, *backlog_tail;
};

struct pair {
    uint32_t from, to;
};

// Keys lie in the heap itself: a comparison touches no item.
struct heap_entry {
    uint64_t at_ns;
    uint64_t seq;
    struct item *item;
};

struct harness {
    struct harness_config config;
    struct pm_options options;
    uint64_t now_ns;
    uint64_t seq;
    uint32_t n; // slots: nodes, then the coordinator
    struct slot *slots;
    struct heap_entry *heap;
    size_t n_heap, cap_heap;
    struct wire **wires; // all there ever were
    size_t n_wires, cap_wires;
    struct pair *one_way;
    size_t n_one_way;
    struct harness_stats stats;
    char *said, *died;
    size_t said_len, died_len;
    bool exited;
    int32_t status;
    uint32_t next_pid;
    enum pm_job_state job_state;
    bool srun_over;
    uint32_t n_over; // nodes whose tasks have all ended
};

uint32_t harness_slot(const struct harness *h, uint32_t node);
uint32_t harness_node(const struct harness *h, uint32_t slot);
// What the clock of a slot shows at a time, and when it shows `local_ns` or more.
uint64_t harness_local_ns(const struct harness *h, uint32_t slot, uint64_t real_ns);
uint64_t harness_real_ns(const struct harness *h, uint32_t slot, uint64_t local_ns);
// Takes the item.
void harness_push(struct harness *h, struct item *item, uint64_t at_ns);
struct item *harness_item(enum item_kind kind, uint32_t slot);
void harness_item_free(struct item *item);
void harness_step_core(struct harness *h, uint32_t slot, struct pm_event *event);

// core_harness_local.c
#define HARNESS_LOCAL_NS (100 * 1000ull) // a shim or server answers after 0.1 ms
void harness_act(struct harness *h, uint32_t slot, const struct pm_action *a);
void harness_post_simple(struct harness *h, uint32_t slot, enum pm_event_type type, uint32_t epoch,
                         uint64_t delay_ns);
void harness_slot_gone(struct harness *h, uint32_t slot); // its process is no more

// core_harness_net.c
void harness_net_dial(struct harness *h, uint32_t slot, const struct pm_action *a);
void harness_net_dial_arrives(struct harness *h, struct item *item);
void harness_net_send(struct harness *h, uint32_t slot, const struct pm_action *a);
void harness_net_close(struct harness *h, uint32_t slot, uint32_t link);
// All links of a process that ended; `end` is what peers see.
void harness_net_end_all(struct harness *h, uint32_t slot, enum pm_link_end end);
// May this link event be delivered now? If not, it is kept or dropped (the item is taken then).
bool harness_net_passes(struct harness *h, struct item *item);

#endif
