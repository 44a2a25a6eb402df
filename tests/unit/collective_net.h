// SPDX-License-Identifier: Apache-2.0
//
// A world of collective modules without the rest of the core: n agents and a coordinator, joined by
// queues in place of links, with a virtual clock. The functions of internal.h that collective.c
// calls are stood in for here, so the tree is whatever a test says it is.
//
// Frames of one link keep their order; which link moves next is the order of sending, or with
// `shuffle` a random one. A frame on a link that was cut is lost.
#ifndef PM_TESTS_COLLECTIVE_NET_H
#define PM_TESTS_COLLECTIVE_NET_H

#include "pmix_server/core/collective.h"

#define NET_DETACHED (UINT32_MAX - 2)
#define NET_MS       PM_MS

struct net_done {
    enum pm_action_type type; // FENCE_DONE or MODEX_DONE
    uint32_t node;
    uint32_t epoch;
    uint64_t id;
    int32_t status;
    uint8_t *data;
    size_t len;
};

struct net_frame {
    uint32_t from;
    uint32_t to;
    uint8_t *data;
    size_t len;
};

struct net_fetch {
    uint32_t node;
    uint32_t epoch;
    uint64_t id;
    uint32_t rank;
    bool cancelled;
};

struct net {
    uint32_t n;
    uint32_t per_node;
    struct pm_core *cores; // n + 1; the last is the coordinator
    uint32_t *parent;      // of each node; NET_DETACHED
    struct pm_set *subtree;
    uint32_t **children; // n + 1 lists
    uint32_t *n_children;
    struct pm_set dead;
    uint64_t now_ns;
    bool is_blind;    // nobody hears of changes below its own children any more
    uint64_t shuffle; // 0: in order, else the state of the generator
    struct net_frame *queue;
    size_t n_queue, cap_queue;
    struct net_done *done;
    size_t n_done, cap_done;
    struct net_fetch *fetches;
    size_t n_fetches, cap_fetches;
    char *says; // all lines, each ended by \n
    size_t n_logs;
    size_t sent;        // frames so far
    size_t root_frames; // that the coordinator received
    size_t rejected;    // malformed frames
    struct pm_set told; // ranks that pm_node_fence_lost named
};

// Ranks are placed in blocks of `per_node`; the tree has the numbers' shape.
struct net *net_new(uint32_t n, uint32_t per_node, uint32_t fanout);
struct net *net_free(struct net *net);
struct pm_core *net_core(struct net *net, uint32_t node);
void net_event(struct net *net, uint32_t node, struct pm_event *event);
// Hands a frame to a node as if `from` had sent it; true: it was accepted.
bool net_inject(struct net *net, uint32_t from, uint32_t to, const void *data, size_t len);
struct net_fence {
    uint32_t node;
    uint64_t id;
    const struct pm_set *ranks;
    uint32_t epoch;
    bool collect;
    bool failed;
    uint64_t timeout_ms;
    const char *data; // NULL: "<node>;" when collecting
};
void net_fence(struct net *net, const struct net_fence *fence);
void net_modex(struct net *net, uint32_t node, uint64_t id, uint32_t rank, uint64_t timeout_ms);
void net_fetched(struct net *net, const struct net_fetch *fetch, int32_t status, const char *data);
// `node` hears that a rank of epoch 0 is lost.
void net_rank_lost(struct net *net, uint32_t node, uint32_t rank);
// Delivers one frame; false: none is left.
bool net_step(struct net *net);
// Delivers everything.
void net_run(struct net *net);
// Moves the clock, firing timers when they are due and delivering everything in between.
void net_advance(struct net *net, uint64_t ms);
// Cuts the link to the present parent (its frames are lost) and, unless `parent` is NET_DETACHED,
// makes a new one.
void net_move(struct net *net, uint32_t node, uint32_t parent);
// Declares it dead: cut off, its children too, everybody hears.
void net_kill(struct net *net, uint32_t node);
uint64_t net_random(struct net *net, uint64_t below);
// NULL: not answered. Fails when it was answered more than once.
const struct net_done *net_answer(const struct net *net, uint32_t node, uint64_t id);
// The digest of a core's collective, or of a copy of it.
uint64_t net_digest(const struct net *net, const struct pm_collective *c);

#endif
