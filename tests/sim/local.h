// SPDX-License-Identifier: Apache-2.0
//
// What is on a node beside its agent's core, as state: local sockets, ranks, shims, PMIx servers. sim.h has what they
// do.
#ifndef PM_TESTS_SIM_LOCAL_H
#define PM_TESTS_SIM_LOCAL_H

#include <stdbool.h>
#include <stdint.h>

// --- local sockets (chan.c) -------------------------------------------------------------------------
enum sim_msg_type {
    SIM_MSG_NONE = 0,
    // shim -> agent
    SIM_MSG_HELLO, SIM_MSG_STARTED, SIM_MSG_EXITED, SIM_MSG_TREE_GONE, SIM_MSG_SIGNALLED,
    // agent -> shim
    SIM_MSG_REFUSE, SIM_MSG_START, SIM_MSG_SIGNAL, SIM_MSG_KILL, SIM_MSG_PAUSE, SIM_MSG_RESUME,
    SIM_MSG_END,
    // server -> agent
    SIM_MSG_READY, SIM_MSG_LOST, SIM_MSG_CONNECTED, SIM_MSG_FINALIZED, SIM_MSG_ABORT, SIM_MSG_FENCE,
    SIM_MSG_MODEX, SIM_MSG_FETCHED, SIM_MSG_NOTIFIED,
    // agent -> server
    SIM_MSG_FENCE_DONE, SIM_MSG_MODEX_DONE, SIM_MSG_FETCH, SIM_MSG_FETCH_CANCEL, SIM_MSG_NOTIFY,
    SIM_MSG_DIED,
    SIM_MSG_EOF, // both ways: the other end is gone
    SIM_MSG_MAX,
};

struct sim_msg {
    uint64_t at_ns;
    uint8_t type;
    bool flag;       // exec failed; override; collect
    bool failed;     // fence: a local participant was lost
    uint8_t group;   // fence: whose ranks, enum sim_group
    uint32_t epoch;
    uint32_t incarnation;
    uint32_t pid;
    uint32_t rank;
    int32_t status;  // wait status, signal, server status
    uint32_t stamp;  // server's
    uint64_t id;
    uint64_t check;  // hash of the data
};

struct sim_chan {
    struct sim_msg *ring;
    uint32_t head, n, cap;
    uint64_t last_ns;
    uint64_t due_ns;
    bool unread;
};

// --- ranks (rank.c), shims (shim.c), servers (server.c) -----------------------------------------------
enum sim_rank_step {
    SIM_RANK_BOOT = 0,
    SIM_RANK_CONNECTING,
    SIM_RANK_COMPUTING,
    SIM_RANK_FENCING, // waits for its server
    SIM_RANK_ASKING,  // the same, for modex
    SIM_RANK_ENDING,
    SIM_RANK_HUNG,
};

struct sim_rank { // user's code of one task: the process that the shim forked
    bool alive;     // not a zombie, not dead
    bool stopped;   // the tree was sent SIGSTOP
    bool doomed;    // SIGKILL is pending: runs no user code any more
    bool stubborn;  // ignores SIGTERM
    bool connected;
    bool finalized;
    bool late;      // its next step came due while it was stopped
    bool plan_exec; // this start fails
    uint8_t step;
    uint32_t rank;
    uint32_t epoch;
    uint32_t incarnation;
    uint32_t pid;
    uint32_t descendants;
    uint32_t fences_left;
    uint64_t pace_ns; // between fences
    uint32_t stamp;   // of its next step
    uint64_t unreapable_ns; // SIGKILL works only from then on
    int32_t end_status; // with which it ends when its step says so
    uint32_t life; // 1 + index among the checkers' lives, 0: none yet
};

struct sim_start {
    bool set;
    uint32_t epoch, incarnation, rank;
};

struct sim_shim {
    bool alive;
    bool paused;
    bool linked;    // its socket to the agent is open
    bool was_there; // agent's view: has said HELLO
    bool heard;     // agent's view: its socket is open
    uint8_t start_fails;  // how the next starts end: 1 exec, 2 fork, 3 at once
    uint8_t starts_left;  // that do so
    bool started, open, killing, standing, still, told_to_stand, ending, overridden;
    struct sim_start current, next;
    int32_t last_status;
    uint64_t end_due_ns;
    uint32_t stamp;      // of its process
    uint64_t wake_ns;    // of the timer that counts, 0: none
    struct sim_rank rank;
    // Agent's view
    bool ended;
    bool end_override;
    int32_t end_status;
    bool held;
    struct sim_start held_start;
    bool runs;  // STARTED seen, TREE_GONE not
    uint32_t run_epoch, run_incarnation;
};

#define SIM_SERVERS 4
enum sim_server_state {
    SIM_SERVER_NONE = 0,
    SIM_SERVER_STARTING,
    SIM_SERVER_READY,
    SIM_SERVER_PROVING,
    SIM_SERVER_DEAD,
};

// Fences: of all ranks, of the lower and of the upper half of them.
enum sim_group { SIM_GROUP_ALL = 0, SIM_GROUP_LOW, SIM_GROUP_HIGH, SIM_GROUP_MAX };

struct sim_gather {
    uint64_t arrived; // bits of local tasks that have entered the present fence of the group
    uint64_t id;      // of the FENCE that is out, 0: none
    uint64_t posted;  // the same, from the core's sight
    uint32_t seq;
};

struct sim_server {
    uint8_t state; // agent's view
    bool process;  // it lives
    bool standby;
    bool stuck;
    uint32_t epoch;
    uint32_t stamp; // grows with each process in this place
    uint32_t map_version; // of the world it was made for
    uint64_t next_id;
    uint64_t lost;  // bits of local tasks that are gone for it
    uint64_t connected;
    uint64_t finalized;
    uint64_t asked; // agent's view: connected at any time
    struct sim_gather gather[SIM_GROUP_MAX];
    uint64_t fetch_id[64]; // per local task: FETCH that waits for its data, 0: none
    uint64_t modex_id[64]; // per local task: its question, 0: none
    uint64_t modex_posted[64];
};

struct sim_node {
    uint32_t first_task; // Slurm's number; the rank, where there are no spares
    uint32_t n_local;
    struct sim_shim *shims;
    struct sim_server servers[SIM_SERVERS];
    struct sim_chan *up;   // per task, then per server: to the agent
    struct sim_chan *down; // from the agent
    // Agent's shell
    bool any_started, dying, ending, ends_sent, gone, refused;
    uint32_t n_connected;
    uint64_t leave_ns; // 0: it stays
    uint64_t lease_ns; // the page: local time
    uint64_t late_until_ns;
    uint32_t late_ms;
    uint32_t twice; // events still to be doubled
    uint32_t max_epoch; // newest that its core has seen
    uint32_t ports;
    bool task_over[64];
    bool standby_due;
    // --pm-health
    bool sick;       // it fails from now on
    bool found_sick; // and has
    bool in_first_world;
    uint32_t health_passed; // checks
    uint64_t health_check;  // number of the one that runs
};

#endif
