// SPDX-License-Identifier: Apache-2.0
//
// Scale mode: one step of up to a million ranks, without faults in the network but with its costs.
// The cores, and every frame they write and read, are the real ones; everything between them is a model
// of what it costs in time: system calls, wake-ups, the cipher, the wire. See doc/scale.md for what is
// modelled how.
//
// A process (agent or coordinator) does one thing at a time. What arrives while it is busy waits; what it
// does is charged to its clock: the CPU time that the core really took here, and the costs below.
//
// Contract: one thread; misuse and lack of memory abort.
#ifndef PM_TESTS_SIM_SCALE_H
#define PM_TESTS_SIM_SCALE_H

#include "pmix_server/core/core.h"
#include "tests/sim/scale_costs.h"
#include "tests/sim/scale_queue.h"
#include "tests/sim/sim.h"

enum scale_map { SCALE_BLOCK = 0, SCALE_CYCLIC, SCALE_MOVED, SCALE_MAP_MAX };

struct scale_latency {
    uint64_t hop_ns;
    uint64_t slow_ns;  // instead of hop_ns ...
    uint32_t slow_ppm; // ... for so many frames of a million
};

struct scale_config {
    uint32_t nnodes;
    uint32_t per_node; // ranks
    uint32_t fanout;
    enum scale_map map;
    struct scale_latency latency;
    uint64_t gbit;        // of a node's network interface, each way
    uint32_t fence_bytes; // per rank, of a fence that collects
    uint64_t fork_ns;     // a shim makes a rank
    uint64_t core_ns;     // 0: charge what each step of a core takes here, else this
    uint64_t seed;
    struct scale_costs costs;
};

// What a process did in a phase.
struct scale_load {
    uint64_t frames; // in and out
    uint64_t bytes;  // of those, on the stream
    uint64_t cpu_ns; // charged
    uint64_t core_ns; // of that, in pm_core_step
    uint64_t largest; // frame, in bytes
};

struct scale_end { // of a link, in its process
    uint32_t id;
    uint32_t wire;
};

#define SCALE_LEVELS      32
#define SCALE_FRAME_TYPES 64

struct scale_mean { // of the CPU time of a kind of steps
    double ns;
    uint32_t n;
    uint32_t seen;
};

struct scale_proc {
    struct pm_core *core;
    bool off;      // the host is lost
    uint8_t level; // in the tree; the coordinator's is 0
    uint32_t next_even;
    uint64_t busy_ns;  // until then it does something
    uint64_t wire_ns;  // until then its network interface sends
    uint64_t timer_ns; // of the timer that counts
    struct scale_end *ends;
    uint32_t n_ends, cap_ends;
    struct scale_load load;
};

struct scale_wire {
    uint32_t proc[2]; // 0 dialled
    uint32_t id[2];
    bool open[2];
    uint64_t last_ns[2]; // arrival of the newest item at that end
};

struct scale_rank {
    bool alive;
    bool killed; // the tree was told to go
    uint32_t rank;
    uint32_t epoch;
    uint32_t incarnation;
};

// A frame on its way; large ones are shared by those that get the same.
struct scale_frame {
    uint32_t refs;
    uint32_t len;
    uint64_t wire_len; // as if the payload had its full length, and sealed
    uint8_t data[];
};

// What an agent and its shims and server tell each other. There are millions under way, so no pm_event.
struct scale_fact {
    uint8_t type; // enum pm_event_type; from the agent: enum pm_action_type
    uint8_t local;
    bool collect;
    uint8_t job_state;
    uint16_t port;
    uint32_t rank;
    uint32_t epoch;
    uint32_t incarnation;
    uint32_t pid;
    int32_t status; // of a rank that has ended; from the agent: the signal
    uint64_t id;
};

struct scale_item {
    union {
        struct { // over a link
            struct scale_frame *frame;
            uint32_t wire;
            uint8_t end;
            uint8_t link_end;
        };
        struct scale_fact fact; // over a local socket
        uint32_t next_free;
    };
};

// When the last of them happened.
struct scale_times {
    uint64_t map_ns;      // a node has the map
    uint64_t decided_ns;  // the coordinator has left RUNNING
    uint64_t term_ns;     // an agent has told a shim to end its rank
    uint64_t starting_ns; // the coordinator wants the next epoch
    uint64_t start_ns;    // a shim has its start message
    uint64_t running_ns;  // the coordinator knows that all ranks run
    uint64_t fence_ns;    // a server has the result
    uint64_t attached_ns; // an agent has a (new) parent
    uint32_t n_fences;
    uint32_t n_lost_links;
    uint32_t n_attached;
};

struct scale {
    struct scale_config config;
    struct pm_options options; // of all cores
    uint32_t n; // processes: nodes, then the coordinator
    struct scale_proc *procs;
    struct scale_rank *ranks; // by node and local task
    struct scale_wire *wires;
    size_t n_wires, cap_wires;
    struct scale_item *items;
    uint32_t n_items, cap_items;
    uint32_t free_item; // index + 1, 0: none
    struct scale_queue queue;
    struct sim_rng net;
    struct scale_times times;
    enum pm_state state; // of the coordinator
    uint64_t now_ns;     // latest thing that was done
    uint64_t fence_id;
    uint32_t next_pid;
    uint64_t events;
    uint64_t frames;
    uint64_t sealed; // frames that were really sealed and opened
    struct scale_cipher *cipher;
    struct scale_mean means[SCALE_LEVELS][PM_EVENT_MAX + SCALE_FRAME_TYPES];
    uint32_t share; // nodes that one contributes to a fence for: no million buffers of 64 MiB
    uint32_t unit;  // bytes that one byte of a fence's payload stands for
};

// --- scale_world.c: processes, local sockets, time ---
// Nothing has happened yet.
struct scale *scale_new(const struct scale_config *config);
void scale_free(struct scale *w);
// All agents begin at once; their shims are there.
void scale_launch(struct scale *w);
void scale_forget_loads(struct scale *w);
// All ranks enter a fence over all of them at `at_ns`.
void scale_fence(struct scale *w, uint64_t at_ns, bool collect);
void scale_host_dies(struct scale *w, uint32_t node);
// Until pred or `limit_ms` later; returns the last pred.
bool scale_run(struct scale *w, bool (*pred)(const struct scale *w), uint64_t limit_ms);
void scale_idle(struct scale *w, uint64_t ms);
// Memory that a copy of a core takes, the mean of n from `first` on, each `step`th.
#define SCALE_COPIES_MAX 16u
uint64_t scale_core_bytes(const struct scale *w, uint32_t first, uint32_t n, uint32_t step);

// --- scale_local.c: shims, ranks, servers ---
// A local event for the agent, which its shim or server sends at at_ns.
void scale_post(struct scale *w, uint32_t node, uint64_t at_ns, struct scale_fact fact);
// A shim has read what its agent wrote. A rank dies at once when it is told to; a new one connects at
// once when it has been made.
void scale_shim_reads(struct scale *w, uint32_t node, struct scale_fact told, uint64_t at_ns);
// What the shell does for an action that is no SEND.
void scale_act(struct scale *w, uint32_t proc, const struct pm_action *a);
void scale_rank_dies(struct scale *w, uint32_t node, uint32_t local, int32_t wait_status);

// --- scale_world.c, for the other two ---
static inline void scale_latest(uint64_t *at, uint64_t ns)
{
    *at = ns > *at ? ns : *at;
}
uint32_t scale_item_new(struct scale *w);
void scale_push(struct scale *w, uint64_t at_ns, uint32_t kind, uint32_t proc, uint32_t item);
// The process does something that takes cost_ns, from at_ns on or when it is free; returns its end.
uint64_t scale_busy(struct scale *w, uint32_t proc, uint64_t at_ns, uint64_t cost_ns);
void scale_step(struct scale *w, uint32_t proc, uint64_t at_ns, uint64_t cost_ns,
                struct pm_event *event);
uint32_t scale_node(const struct scale *w, uint32_t proc);

// --- scale_net.c: links ---
enum scale_kind { SCALE_TIMER, SCALE_LOCAL, SCALE_SHIM, SCALE_HELLO, SCALE_WELCOME, SCALE_CONFIRM,
                  SCALE_FRAME, SCALE_DOWN };
void scale_net_dial(struct scale *w, uint32_t proc, const struct pm_action *a);
// `follows`: the action before was a SEND of the same step, maybe of the same frame.
void scale_net_send(struct scale *w, uint32_t proc, const struct pm_action *a, bool follows);
void scale_net_close(struct scale *w, uint32_t proc, uint32_t link);
void scale_net_arrives(struct scale *w, uint32_t proc, uint32_t kind, uint32_t item, uint64_t at_ns);

#endif
