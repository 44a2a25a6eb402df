// SPDX-License-Identifier: Apache-2.0
//
// What a world is made from: what can go wrong in it, which lie may be planted, and its parameters. A seed gives
// all of them (params.c).
#ifndef PM_TESTS_SIM_PARAMS_H
#define PM_TESTS_SIM_PARAMS_H

#include <stdio.h>

#include "pmix_server/core/core.h"

// --- faults (fault.c) ----------------------------------------------------------------------------
// `node` may be the coordinator where that makes sense; ms is how long it lasts, 0: for good.
enum sim_fault_kind {
    SIM_FAULT_NONE = 0,
    // Ranks: node, local
    SIM_FAULT_RANK_EXITS,    // arg: exit code
    SIM_FAULT_RANK_KILLED,   // arg: signal
    SIM_FAULT_RANK_HANGS,    // never ends by itself
    SIM_FAULT_RANK_STUBBORN, // ignores SIGTERM from now on
    SIM_FAULT_RANK_UNREAPABLE, // SIGKILL has no effect for ms (D state)
    SIM_FAULT_RANK_ABORTS,     // arg: status
    SIM_FAULT_RANK_LEAVES,     // ends with 0 without PMIx_Finalize
    SIM_FAULT_START_FAILS,     // the next 1 + arg / 4 starts on this task: arg % 4 1 exec, 2 fork,
                               // else they die at once
    SIM_FAULT_MANY_DIE,        // every rank of arg nodes from `node` on
    // Processes of a node
    SIM_FAULT_AGENT_KILLED,
    SIM_FAULT_SHIM_KILLED,     // node, local
    SIM_FAULT_AGENT_AND_SHIM_KILLED,
    SIM_FAULT_AGENT_PAUSED,
    SIM_FAULT_SHIM_PAUSED,     // node, local
    SIM_FAULT_AGENT_AND_SHIMS_PAUSED,
    SIM_FAULT_SERVER_KILLED,
    SIM_FAULT_SERVER_STUCK,
    // Hosts
    SIM_FAULT_HOST_LOST,       // silently
    SIM_FAULT_HOST_CRASHED,    // its links are reset
    SIM_FAULT_HOST_REBOOTED,   // silent for ms, then refuses everything
    SIM_FAULT_HOST_SUSPENDED,  // every process, and the network; its clock goes on
    SIM_FAULT_RACK_LOST,       // arg hosts from `node` on, at once
    // Network
    SIM_FAULT_LINK_RESET,      // between node and peer; if there is none, any link of node
    SIM_FAULT_LINK_CUT,        // node <-> peer
    SIM_FAULT_ONE_WAY_CUT,     // node -> peer
    SIM_FAULT_NODE_CUT,        // from everybody
    SIM_FAULT_NODE_SLOW,       // arg ms more for each item
    SIM_FAULT_NODE_CLOGGED,    // arg us per frame
    SIM_FAULT_PARTITION,       // random halves
    SIM_FAULT_MASS_SILENCE,    // arg nodes from `node` on are cut
    // The coordinator
    SIM_FAULT_COORD_PAUSED,
    SIM_FAULT_COORD_CUT,
    SIM_FAULT_COORD_KILLED,
    SIM_FAULT_USER_STOP,       // arg: signal to the coordinator
    SIM_FAULT_SLURM_STOP,      // scancel, time limit, Ctrl-C: arg: signal to every task
    SIM_FAULT_JOB_SUSPENDED,   // every host but the coordinator's, and Slurm says so
    // Local events
    SIM_FAULT_LOCAL_LATE,      // answers of this node's shims and servers take up to ms longer
    SIM_FAULT_LOCAL_TWICE,     // some of the events posted next come a second time
    SIM_FAULT_QUEUE_FULL,      // of the links of node
    SIM_FAULT_SWARM_LAST = SIM_FAULT_QUEUE_FULL, // what follows is not drawn with the others, so that seeds stay what they are
    SIM_FAULT_NODE_DRAINED,    // node, in Slurm's view, from now on
    SIM_FAULT_HEALTH_FAILS,    // --pm-health fails on node from now on
    SIM_FAULT_LINK_SLOW,       // between node and peer, else any of node: arg ms more for each item
    SIM_FAULT_LINK_CLOGGED,    // the same: arg us between frames
    SIM_FAULT_MAX,
};
const char *sim_fault_name(enum sim_fault_kind kind);

struct sim_fault {
    enum sim_fault_kind kind;
    uint32_t node; // PM_NODE_COORDINATOR: the coordinator
    uint32_t local;
    uint32_t peer;
    uint32_t arg;
    uint64_t ms;
};

// Violations that can be planted, one per invariant of the design: each is a lie of a model, never a
// change of a core (plant.c).
enum sim_plant {
    SIM_PLANT_NONE = 0,
    SIM_PLANT_OLD_EPOCH,    // 1: an agent's shell starts a rank of the epoch before
    SIM_PLANT_NO_KILL,      // 2: a shim says that its tree is gone, but did not kill it
    SIM_PLANT_NO_EXIT,      // 3: a shell keeps the end of ranks to itself
    SIM_PLANT_CLEAN_FAILS,  // 4: a shell says 1 where a rank ended with 0
    SIM_PLANT_TWICE,        // 5: a fence is answered twice
    SIM_PLANT_NO_END,       // 6: srun neither ends nor can be ended
    SIM_PLANT_DEAF,         // 7: nothing gets through to a node that nothing disturbs
    SIM_PLANT_NOT_REFUSED,  // 8: what a dead node hears is no refusal
    SIM_PLANT_OTHER_BYTES,  // 9: one node is given other bytes than the rest
    SIM_PLANT_NO_STOP,      // 10: shims do not obey leases
    SIM_PLANT_SICK,         // 11: a shell says that a check of a node's health that failed was passed
    SIM_PLANT_NOT_DRAINED,  // 12: a shell leaves out what Slurm says of a node that it has drained
    SIM_PLANT_MORE_GPUS,    // 13: a shell says that it was granted more GPUs than it was
    SIM_PLANT_FEWER_NODES,  // 14: the coordinator is told that 1 node is enough
    SIM_PLANT_NO_FENCE,     // 15: the coordinator is told that the site has no fence program
    SIM_PLANT_MAX,
};

// How a seed's world is drawn.
enum sim_profile {
    SIM_PROFILE_SWARM = 0,
    SIM_PROFILE_SPARES, // always spares, partitions, racks that are lost and one-way cuts; some shrink or are launched again
    SIM_PROFILE_MAX,
};
const char *sim_profile_name(enum sim_profile profile);

// --- parameters (params.c) -----------------------------------------------------------------------
#define SIM_SIZED_GPUS   1u // 4 or 8
#define SIM_SIZED_MEMORY 2u // 4 or 8 GiB

// scancel --signal=TERM: the signal, and that is all.
#define SIM_NO_KILL UINT32_MAX

struct sim_params {
    uint64_t seed;
    enum sim_profile profile;
    uint32_t nnodes; // options.spares of them wait
    uint32_t job_nodes; // of the job; more than that only with --pm-relaunch
    struct pm_legacy legacy; // of the launches before this one
    uint32_t per_node;
    uint8_t sized; // what nodes differ in: SIM_SIZED_...
    bool uneven;   // some nodes have fewer ranks
    bool cipher;   // every frame through wire/secure.c
    bool skewed;   // clocks run at different rates
    bool names;    // nodes can be dialled by name
    struct pm_options options;
    uint64_t wait_ms; // srun's --wait
    uint64_t kill_wait_ms; // slurm.conf's KillWait: from a signal for the step to SIGKILL; 0: 30 s; SIM_NO_KILL: none comes
    uint64_t hop_ns;  // network, one way
    uint64_t jitter_ns;
    uint64_t local_ns; // local sockets, one way
    uint64_t stagger_ns; // between the launches of nodes, at most
    uint64_t job_ask_ms; // Slurm's answer to ASK_JOB_STATE takes this long at most
    // Ranks
    bool pmix;        // they connect to PMIx, and finalize
    uint32_t fences;  // at most, per life
    uint32_t fence_piece; // bytes of a fence in a frame; 0: as in production
    bool modex;
    uint32_t fence_timeout_ms;
    uint64_t life_ms; // how long they compute between fences, all in all
    uint64_t term_ms; // from SIGTERM to their end, at most
    uint32_t orphans_in; // one in N leaves a descendant behind; 0: none
    // Faults
    uint64_t chaos_ms; // the phase of faults
    bool spark; // soon after the world runs, a rank of it dies
    uint32_t n_faults;
    uint32_t weight[SIM_FAULT_MAX]; // 0: off
    enum sim_plant plant;
};
// 4 nodes of 2 ranks, default options with T = 2 s, nothing goes wrong.
void sim_params_calm(struct sim_params *p);
void sim_params_of_seed(struct sim_params *p, uint64_t seed, enum sim_profile profile);
void sim_params_print(const struct sim_params *p, FILE *f);

#endif
