// SPDX-License-Identifier: Apache-2.0
//
// The core: every decision of the coordinator and of the agents, without a file descriptor, clock,
// thread, log or random source. An event goes in, actions come out; the event carries the time.
// Daemons and the simulator turn the world into events and actions into effects. Same core, same
// events: same actions, byte for byte.
//
// Contract: one thread; pm_core_step never blocks; pointers in an event are borrowed for the call;
// everything an action points to belongs to the pm_actions and lives until it is cleared. Actions
// are executed in order. After each step ask pm_core_deadline_ns() when to send PM_EVENT_TIMER.
#ifndef PM_CORE_CORE_H
#define PM_CORE_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pmix_server/wire/options.h"
#include "pmix_server/wire/server_proto.h"
#include "pmix_server/wire/set.h"

#define PM_NODE_COORDINATOR UINT32_MAX
#define PM_RANK_NONE UINT32_MAX
#define PM_TEXT_CAP 256
#define PM_FENCE_OFF_AT_ONCE 16u   // of the site's programs for lost nodes; the others wait in turn
#define PM_FENCE_PIECE (1u << 20)  // bytes of a fence's result in one frame, if it is more than two of them

struct pm_core;

enum pm_cause {
    PM_CAUSE_NONE = 0,
    PM_CAUSE_EXIT,
    PM_CAUSE_SIGNAL,
    PM_CAUSE_OOM,
    PM_CAUSE_ABORT,
    PM_CAUSE_NO_FINALIZE,
    PM_CAUSE_EXEC,
    PM_CAUSE_PMIX_SERVER,
    PM_CAUSE_SHIM_LOST,
    PM_CAUSE_AGENT_LOST,
    PM_CAUSE_NODE_LOST,
    PM_CAUSE_UNHEALTHY, // the node lives, but --pm-health takes it out
    PM_CAUSE_MAX,
};
const char *pm_cause_name(enum pm_cause cause);  // "exit", "no-finalize", ...

enum pm_state {
    PM_STATE_NONE = 0,
    PM_STATE_FORMING,
    PM_STATE_STARTING,
    PM_STATE_RUNNING,
    PM_STATE_HALTING,
    PM_STATE_PLACING,
    PM_STATE_FINISHING,
    PM_STATE_STOPPING,
    PM_STATE_DONE,
    PM_STATE_MAX,
};
const char *pm_state_name(enum pm_state state);  // "FORMING", ...

enum pm_link_end {
    PM_LINK_CLOSED = 0,   // EOF, also in the handshake
    PM_LINK_RESET,        // ECONNRESET, EPIPE
    PM_LINK_REFUSED,      // dial: nobody of ours listens
    PM_LINK_UNREACHABLE,  // dial: no route, no name, no answer to the SYN in time
    PM_LINK_STUCK,        // dial: connected, but no handshake in time
    PM_LINK_REJECTED,     // handshake: other build or launch, or wrong key; text says which
};

enum pm_event_type {
    PM_EVENT_NONE = 0,
    PM_EVENT_TIMER,      // nothing but the time
    // Links. Ids are never used twice in a process: those of DIAL are odd and chosen by the core, those of
    // accepted connections even and chosen by the shell.
    PM_EVENT_LINK_UP,    // link, node (who, proved by the handshake), text: address
    PM_EVENT_LINK_DOWN,  // link, node (if known, else PM_NODE_COORDINATOR-1), link_end, text
    PM_EVENT_FRAME,      // link, data, len
    // Agent: local facts
    PM_EVENT_SHIM_JOINED,   // local, pid (of the shim); gpus, memory_mib: what the tasks that have joined may use together
    PM_EVENT_SHIM_LOST,     // local
    PM_EVENT_RANK_STARTED,  // local, epoch, incarnation, pid
    PM_EVENT_RANK_EXITED,   // local, epoch, incarnation, pid, wait_status, flag_exec, flag_oom
    PM_EVENT_RANK_GONE,     // local, epoch, incarnation: no descendant left
    PM_EVENT_SIGNALLED,     // local, signal: Slurm (scancel, time limit, Ctrl-C) signalled the shim
    PM_EVENT_SERVER_READY,  // epoch: namespace registered, environments known
    PM_EVENT_SERVER_LOST,   // epoch, text: pm-pmix-server died, is stuck or says it cannot serve
    PM_EVENT_NOTIFIED,      // epoch: the server has raised all events of the last PM_ACTION_NOTIFY
    PM_EVENT_CONNECTED,     // rank (PMIx_Init) in epoch
    PM_EVENT_FINALIZED,     // rank, epoch
    PM_EVENT_ABORT,         // rank, epoch, status, text
    PM_EVENT_FENCE,         // epoch, id, set (participants), flag_collect, flag_failed, timeout_ms, data
    PM_EVENT_MODEX,         // epoch, id, rank, timeout_ms: a local client wants rank's blob
    PM_EVENT_FETCHED,       // epoch, id, status (enum pm_server_status), data: answer to PM_ACTION_FETCH
    PM_EVENT_PORT,          // port: a free port of this node, for the next MASTER_PORT
    PM_EVENT_SAY,           // text: a line of a local shim, server or the agent, for srun's stderr
    PM_EVENT_HEALTH,        // id, flag_failed, flag_exec (it is not there to be run), text: answer to PM_ACTION_CHECK_HEALTH
    PM_EVENT_CANNOT_START,  // text: this node cannot be part of the step (agent knows why)
    // Coordinator: local facts
    PM_EVENT_LAUNCHED,   // job, step, nnodes, ntasks: srun has its step, nodes start to join from now
    PM_EVENT_STOP,       // signal: the user wants the step to end (SIGTERM, SIGHUP ... to us); flag_untold:
                         // it was not passed on to srun, so nobody has told the ranks
    PM_EVENT_SRUN_EXITED,  // wait_status
    PM_EVENT_JOB_STATE,  // job_state: answer to PM_ACTION_ASK_JOB_STATE
    PM_EVENT_FENCED_OFF,   // node, flag_failed, text (how long it took, or "ended with exit code 3"): answer to PM_ACTION_FENCE_OFF
    PM_EVENT_NODE_STATES,  // set: of the nodes asked for, those that Slurm has drained or shows as down; flag_failed: it has
                           // not said; answer to PM_ACTION_ASK_NODES
    PM_EVENT_BOOTED,       // set: of the nodes asked for, those that have booted since this launch began and were started by
                           // Slurm just now; flag_failed: it has not said; answer to PM_ACTION_ASK_BOOTED
    PM_EVENT_OUTPUT_READ,  // srun has passed on what live nodes wrote: answer to PM_ACTION_AWAIT_OUTPUT, may never come
    // Agent
    PM_EVENT_BOUND,         // text: how this node's ranks are bound, for --pm-bind-report
    PM_EVENT_MAX,
};

enum pm_job_state {
    PM_JOB_UNKNOWN = 0,
    PM_JOB_RUNNING,
    PM_JOB_SUSPENDED,
    PM_JOB_GONE,
};

// Fields are used as the comments of enum pm_event_type say; the others are zero.
struct pm_event {
    enum pm_event_type type;
    uint64_t now_ns;  // CLOCK_BOOTTIME of this host, never going back
    uint32_t link;
    uint32_t node;
    uint32_t local;  // local task, 0..n_local-1
    uint32_t rank;
    uint32_t epoch;
    uint32_t incarnation;
    uint32_t pid;
    int32_t wait_status;
    int32_t signal;
    int32_t status;
    uint32_t nnodes;
    uint32_t ntasks;
    uint32_t gpus;
    uint64_t memory_mib;  // 0: no limit
    uint32_t job;
    uint32_t step;
    uint16_t port;
    uint8_t link_end;   // enum pm_link_end
    uint8_t job_state;  // enum pm_job_state
    bool flag_exec;
    bool flag_oom;
    bool flag_collect;
    bool flag_failed;
    bool flag_untold;
    uint64_t id;
    uint64_t timeout_ms;
    const struct pm_set *set;
    const uint8_t *data;
    size_t len;
    const char *text;
};

enum pm_action_type {
    PM_ACTION_NONE = 0,
    // Links
    PM_ACTION_DIAL,   // link (odd), node, timeout_ms; text: addresses to try ("a:p,b:p"), or "" = find by node name
                      // and derived ports (PM_NODE_COORDINATOR: the coordinator's address list)
    PM_ACTION_SEND,   // link, data
    PM_ACTION_CLOSE,  // link: after what was sent before
    // Agent
    PM_ACTION_PREPARE_SERVER,  // epoch: have a server for it (standby one, or new), register the namespace;
                               // answered by SERVER_READY or SERVER_LOST. World is known by then (pm_core_world)
    PM_ACTION_START_RANK,      // local, rank, epoch, incarnation; text: restart cause ("" in the first life), peer_rank: PM_RESTART_RANK;
                               // port: MASTER_PORT of the epoch; host: node of rank 0 (index). Shell waits for SERVER_READY first
    PM_ACTION_SIGNAL_RANK,     // local, epoch, signal
    PM_ACTION_KILL_RANK,       // local, epoch: whole tree; answered by RANK_EXITED (if alive) and RANK_GONE
    PM_ACTION_PAUSE,           // all ranks of the node (lease over)
    PM_ACTION_RESUME,
    PM_ACTION_SET_LEASE,       // deadline_ns: publish to the shims (UINT64_MAX: none)
    PM_ACTION_NOTIFY,          // epoch, rank (dead), cause, wait_status, text: raise the PMIx event; after the last of a
                               // batch `last` is true and NOTIFIED is expected
    PM_ACTION_DROP_SERVER,     // epoch: kill that server, sweep what it and its ranks left
    PM_ACTION_FENCE_DONE,      // epoch, id, status, data
    PM_ACTION_MODEX_DONE,      // epoch, id, status, data
    PM_ACTION_FETCH,           // epoch, id, rank: blob of a local rank
    PM_ACTION_FETCH_CANCEL,    // epoch, id
    PM_ACTION_END_SHIM,        // local; override: end with wait_status instead of the rank's own last one
    PM_ACTION_END_AGENT,       // all is over: exit when the shims' links are gone
    PM_ACTION_DIE,             // text: kill every local rank at once and exit (declared dead, orphaned, refused)
    PM_ACTION_CHECK_HEALTH,    // id (number of the check, from 1): run --pm-health; always answered by HEALTH
    PM_ACTION_NODE_LOG,        // log: one record for --pm-log-nodes
    // Coordinator
    PM_ACTION_SAY,             // text, node (PM_NODE_COORDINATOR: ourselves): one line on srun's stderr; `verbose` only with --pm-verbose
    PM_ACTION_LOG,             // log: one record for --pm-log
    PM_ACTION_END_STEP,        // signal: end the srun child (SIGTERM first, SIGKILL after timeout_ms)
    PM_ACTION_FENCE_OFF,       // node, cause: run the site's fence program, in turn (PM_FENCE_OFF_AT_ONCE); always answered by FENCED_OFF
    PM_ACTION_AWAIT_OUTPUT,    // count (nodes that srun waits for in vain): answered by OUTPUT_READ
    PM_ACTION_ASK_NODES,       // data (a set of nodes as pm_write_set() writes it): always answered by NODE_STATES
    PM_ACTION_ASK_BOOTED,      // data (a set of nodes as pm_write_set() writes it), timeout_ms (how long ago "just now" may
                               // be): always answered by BOOTED
    PM_ACTION_ASK_JOB_STATE,   // answered by JOB_STATE
    PM_ACTION_EXIT,            // status: the step's verdict; nothing follows
    PM_ACTION_RELAUNCH,        // instead of EXIT: no rank of this launch runs any more; launch the step again with what
                               // pm_core_legacy() says, without the nodes of data (a set as pm_write_set() writes it)
    PM_ACTION_BOUND,           // text, data (a set of nodes as pm_write_set() writes it): coordinator: how the ranks of each are bound
    PM_ACTION_MAX,
};

// One event or decision, as data. doc/man/pm-supervise-log.5.rst says what the kinds and fields mean; zero fields are left
// out of the JSON.
struct pm_log {
    const char *kind;    // static
    uint32_t epoch;
    uint32_t rank;       // PM_RANK_NONE: none
    uint32_t incarnation;
    uint32_t node;       // UINT32_MAX: none
    uint32_t pid;
    enum pm_cause cause;
    int32_t wait_status;
    bool has_status;
    const char *action;  // static, pm_verdict_name()
    const char *from;    // static, pm_state_name()
    const char *to;
    char reason[PM_TEXT_CAP];
    uint64_t halt_ms, place_ms, start_ms, wireup_ms;
    uint32_t restarts;
    uint32_t spare;        // UINT32_MAX: none, and spares_left says nothing
    uint32_t spares_left;
    uint64_t lease_end_ns;
    uint64_t silent_ms, timeout_ms, late_ms, lost_ms;
    bool idle;             // of a lost node: its loss stops nothing, as no rank runs there, or is still to
    bool has_fence;        // `fence` and `digest` are valid
    uint64_t fence, digest;
};

struct pm_action {
    enum pm_action_type type;
    uint32_t link;
    uint32_t node;
    uint32_t local;
    uint32_t rank;
    uint32_t peer_rank;
    uint32_t host;
    uint32_t epoch;
    uint32_t incarnation;
    uint32_t count;
    int32_t wait_status;
    int32_t signal;
    int32_t status;
    uint16_t port;
    enum pm_cause cause;
    bool last;
    bool override;
    bool verbose;
    uint64_t id;
    uint64_t timeout_ms;
    uint64_t deadline_ns;
    uint8_t *data;  // owned by the pm_actions; the same bytes for several links may be one copy
    size_t len;
    bool borrowed;  // data is that of an earlier action of the list
    char *text;           // owned; NULL or NUL-terminated
    struct pm_log *log;   // owned
};

struct pm_actions {
    struct pm_action *list;
    size_t n;
    size_t cap;
    int error;  // -ENOMEM, sticky; pm_core_step then returns it
};
// Frees everything the actions own; the struct can be used again.
void pm_actions_clear(struct pm_actions *a);
void pm_actions_done(struct pm_actions *a);

// Who runs where. Known to every agent before the first PREPARE_SERVER.
struct pm_world {
    uint32_t nnodes;
    uint32_t nranks;
    uint32_t map_version;
    struct pm_set *ranks_of_node;  // nnodes sets
    uint32_t *node_of_rank;        // nranks entries
    struct pm_set hosts;           // nodes with a rank
    struct pm_world_block *block;  // placement.c: owner of the arrays, shared and immutable
};

// What a launch of the step takes over from the one before; all zero in the first.
struct pm_legacy {
    uint32_t epoch;        // its first one
    uint32_t relaunches;   // how many launches there were before
    uint32_t restarts;     // of the budget
    uint32_t node_losses;  // the same
    uint32_t nodes_out;    // of the job: lost by the launches before
    enum pm_cause cause;   // why the last of them was given up
};

struct pm_core_config {
    uint32_t node;      // own id, or PM_NODE_COORDINATOR
    uint32_t launch;    // number of this launch
    const struct pm_options *options;  // borrowed for as long as the core or a copy of it lives
    // Agent only:
    uint32_t nnodes;
    uint32_t ntasks;
    uint32_t n_local;
    const uint32_t *local_ranks;  // copied; rank (Slurm's global task id) of each local task
    const char *addresses;        // copied; own "addr:port,..." for others to dial (coordinator: "login1:40123",
                                  // the address that a sentence tells a person to try; NULL: not named)
    const char *nodelist;         // copied; Slurm's step host list
    uint32_t fence_piece;  // bytes, for tests; 0: PM_FENCE_PIECE, the most
    const char *place;            // copied; path of switches above this node ("spine.leaf"); NULL: not known
    // Coordinator only:
    uint64_t wait_ms;  // srun's --wait=N, 0: none
    struct pm_legacy legacy;
    uint32_t job_nodes;       // how many the job has; 0: not known
    const char *no_relaunch;  // borrowed; why the step cannot be launched again, NULL: it can, if nodes are left
    uint32_t isolation_floor; // nodes that may fall silent together before we doubt ourselves; 0: default (2)
};

int pm_core_new(const struct pm_core_config *config, uint64_t now_ns, struct pm_core **ret);
struct pm_core *pm_core_free(struct pm_core *core);
// 0, -ENOMEM, or -EPROTO when the shell broke the contract (then an assert fails in debug builds).
// A malformed frame is no error: its link is closed.
int pm_core_step(struct pm_core *core, const struct pm_event *event, struct pm_actions *ret_actions);
// When the next PM_EVENT_TIMER is due (CLOCK_BOOTTIME ns), UINT64_MAX: never.
uint64_t pm_core_deadline_ns(const struct pm_core *core);
// Deep copy; NULL without memory.
struct pm_core *pm_core_clone(const struct pm_core *core);
// Hash of everything that decides future behaviour: times relative to now, no statistics.
uint64_t pm_core_digest(const struct pm_core *core, uint64_t now_ns);
// The same for who compares whole worlds: attach numbers only by how far they are behind `newest`, by node.
uint64_t pm_core_digest_beside(const struct pm_core *core, uint64_t now_ns, const uint32_t *newest);
const struct pm_world *pm_core_world(const struct pm_core *core);
enum pm_state pm_core_state(const struct pm_core *core);  // coordinator
uint32_t pm_core_epoch(const struct pm_core *core);
// Coordinator, after PM_ACTION_RELAUNCH: what the next launch takes over.
struct pm_legacy pm_core_legacy(const struct pm_core *core);
// Coordinator: the name of a node, "node #3" while it is not known. buf: PM_TEXT_CAP bytes; returns it.
const char *pm_core_host(const struct pm_core *core, uint32_t node, char *buf);
// Agent: the rank that local task `local` has in the world of pm_core_world(), PM_RANK_NONE: none (a spare's).
uint32_t pm_core_rank_of(const struct pm_core *core, uint32_t local);

#endif
