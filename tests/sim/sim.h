// SPDX-License-Identifier: Apache-2.0
//
// A whole step in one process and in virtual time: the real coordinator core, N real agent cores,
// and models of everything around them: hosts and their clocks, TCP, shims, ranks, PMIx servers,
// srun. One seed is one world; the same seed and build give the same trace, byte for byte.
//
// Who does what: world.c makes a world and turns its handle (heap.h, clock.h, rng.h: its time and its dice), proc.c feeds the
// cores, link.c and link_take.c are TCP, slow_link.c makes one link slow, chan.c the local sockets (local.h: what is at their ends),
// agent.c and coord.c do what the shells of the daemons do for each action, shim.c, rank.c, server*.c, health.c and srun.c are
// state machines after the real programs, fault*.c is what goes wrong, params.c draws a world from a seed, check*.c are the
// invariants, outcome.c says which ends of a step are allowed, run.c leads a seed from its birth to its verdict, trace*.c prints
// its timeline, wire.c reads frames for it.
// Who uses that: main.c and command_*.c are the commands, scenario*.c the worlds with a golden trace, plant.c those where a model
// lies, explore*.c try all futures of a small world, scale*.c is another model, of cost at 100,000 nodes.
//
// Contract: one thread. Misuse and lack of memory abort. A violation of an invariant is kept (the
// first one) and stops the world: sim_violation().
//
// For a scenario of one's own: sim_params_calm(), change what matters, sim_new(), sim_fault_at() for
// each thing that goes wrong, sim_run_to() or sim_run_to_exit(), then look at the structs below.
#ifndef PM_TESTS_SIM_SIM_H
#define PM_TESTS_SIM_SIM_H

#include <stdio.h>
#include <stdlib.h>

#include "pmix_server/core/core.h"
#include "pmix_server/wire/buf.h"
#include "tests/sim/clock.h"
#include "tests/sim/heap.h"
#include "tests/sim/local.h"
#include "tests/sim/params.h"
#include "tests/sim/rng.h"

#define SIM_US    1000ull
#define SIM_MS    1000000ull
#define SIM_S     1000000000ull
#define SIM_NEVER UINT64_MAX
#define SIM_K_NS  (300 * SIM_MS) // a signal has reached every process of a node
#define SIM_NONE  UINT32_MAX

extern uint64_t sim_seed_now; // of the newest world
#define SIM_ASSERT(cond)                                                                           \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "%s:%d: pm-sim: seed %llu: %s\n", __FILE__, __LINE__,                  \
                    (unsigned long long)sim_seed_now, #cond);                                      \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

struct sim;

// --- hosts and processes (world.c, proc.c) --------------------------------------------------------
// A slot is a node's number; the coordinator's is nnodes.
struct sim_slow_link { // slow_link.c
    bool on;
    uint32_t peer;     // slot
    uint32_t more_ms;  // for each item
    uint32_t frame_us; // between items
};

struct sim_host {
    struct sim_clock clock;
    bool off;
    bool suspended;
    uint32_t slow_ms;    // more for each item that leaves or enters
    uint32_t clog_us;    // for each frame that leaves
    uint64_t clog_until_ns; // what was sent before has left by then
    struct sim_slow_link slow_link; // one of its own
    uint32_t queue_max;  // frames that may wait on a link, 0: no limit
    uint64_t *cut;       // bit set of slots that nothing gets to
    uint64_t disturbed_ns; // how long agent or network did not work, all in all (check_judge.c)
    uint64_t disturbed_at_ns; // since when, 0: it is not
};

struct sim_proc { // an agent or the coordinator, around its core
    struct pm_core *core; // NULL: not started, or gone
    uint32_t slot;
    uint32_t life;   // grows when the process ends
    bool paused;     // by itself; see sim_proc_runs()
    bool listening;
    uint64_t timer_ns; // real time of the timer that counts, SIM_NEVER: none
    uint64_t spun_ns;  // when it last had a timer, and how often in that moment, without anything else
    uint32_t spins;
    uint32_t next_even;
    uint32_t *links; // indices of those that have an end here
    uint32_t n_links, cap_links;
};

// --- links (link.c): TCP --------------------------------------------------------------------------
enum sim_item_kind {
    SIM_ITEM_SYN = 0,
    SIM_ITEM_SYNACK,
    SIM_ITEM_HELLO,
    SIM_ITEM_WELCOME, // the acceptor's HELLO and CONFIRM
    SIM_ITEM_CONFIRM, // the dialer's
    SIM_ITEM_FRAME,
    SIM_ITEM_FIN,
    SIM_ITEM_RST,
};

struct sim_item {
    uint64_t at_ns;
    uint8_t kind;
    bool torn;    // only the first `len` bytes of it ever come
    uint32_t len;
    uint8_t *data;
};

enum sim_end_state {
    SIM_END_NONE = 0, // there is no socket (any more): what comes is answered with RST
    SIM_END_DIALLING, // SYN is out
    SIM_END_SHAKING,  // handshake
    SIM_END_UP,
    SIM_END_CLOSING,  // CLOSE was done here; what comes is thrown away
};

struct sim_link_end {
    uint32_t slot;
    uint32_t id;
    uint8_t state;
    uint64_t due_ns;          // handshake or dial must be done (real time); 0: no limit
    struct pm_secure *secure; // with params.cipher
    struct pm_writer in;      // bytes that make no whole frame yet
};

struct sim_pipe { // to end i
    struct sim_item *ring;
    uint32_t head, n, cap; // cap is a power of two
    uint64_t last_ns;
    uint64_t rto_ns;     // 0: nothing is being retransmitted
    uint64_t stalled_ns; // since when
    uint64_t due_ns;     // of the event that counts, 0: none
    uint8_t window;      // items that still go without an acknowledgement
    bool unread;         // the receiver's process does not read now
};

struct sim_link {
    bool used;
    uint32_t stamp; // grows with each use of this place
    uint64_t hop_ns;
    struct sim_link_end end[2]; // 0 dialled
    struct sim_pipe pipe[2];
};

// --- the coordinator's host (coord.c, srun.c) -----------------------------------------------------
struct sim_srun {
    bool alive;
    bool launched;
    uint32_t n_over;   // tasks whose end it knows
    uint32_t n_tasks;
    int32_t worst;     // exit code
    uint64_t first_ns; // end of the first task, 0: none
    bool killing;      // the step: SIGKILL is on its way to every node
    int32_t code;      // it exits with this then
};

struct sim_stats {
    uint64_t events;
    uint64_t steps; // of cores
    uint64_t frames;
    uint64_t checks;
    uint32_t restarts;
    uint32_t faults[SIM_FAULT_MAX];
    uint32_t cells[PM_STATE_MAX][SIM_FAULT_MAX]; // state of the coordinator when it struck
};

struct sim_check; // check.h
struct sim_outcome; // outcome.h
struct sim_trace; // trace.c

struct sim {
    struct sim_params p;
    uint64_t now_ns;
    uint32_t n; // slots
    struct sim_heap heap;
    struct sim_rng net, local, life, faults;
    struct sim_host *hosts;
    struct sim_proc *procs;
    struct sim_node *nodes;
    struct sim_link *links;
    uint32_t n_links, cap_links;
    struct sim_srun srun;
    uint32_t ntasks; // of the step
    uint32_t nranks; // of the first world
    char *nodelist;
    uint32_t next_pid;
    enum pm_job_state job_state;
    uint32_t *fences; // nodes that the site's program was asked for, in that order
    uint32_t n_fences, fences_begun, n_fencing; // asked for, of them begun, of those not ended
    struct pm_set drained; // by Slurm
    struct pm_set booted;  // hosts that are back
    bool sinfo_hangs;      // the next question is not answered in time
    bool stepping; // a core is being stepped
    struct pm_event *posted; // behind it
    uint32_t n_posted, cap_posted;
    struct pm_event *late; // to be posted later, without data
    uint32_t n_late, cap_late;
    struct sim_fault *fault; // all there ever were
    uint32_t n_fault, cap_fault;
    bool calm;     // faults have stopped
    bool exited;   // EXIT of the coordinator's core
    bool done;     // and its process is gone
    int32_t verdict;
    bool user_stop;
    uint64_t exited_ns;
    char said_last[PM_TEXT_CAP];
    char violation[1024]; // "": none
    struct sim_check *check;
    struct sim_outcome *outcome;
    struct sim_stats stats;
    FILE *trace; // NULL: none
    bool trace_all; // heartbeats too
};

// --- world.c ---------------------------------------------------------------------------------------
struct sim *sim_new(const struct sim_params *p); // nothing has happened yet
void sim_free(struct sim *s);
void sim_launch(struct sim *s); // srun has its step, nodes start one after another
bool sim_step(struct sim *s);   // handles what is next; false: nothing left, or a violation
void sim_run_to(struct sim *s, uint64_t real_ns);
bool sim_run_to_state(struct sim *s, enum pm_state state, uint64_t max_ms);
bool sim_run_to_exit(struct sim *s, uint64_t max_ms); // until the coordinator's process is gone
uint32_t sim_slot(const struct sim *s, uint32_t node);
uint32_t sim_node_of(const struct sim *s, uint32_t slot); // PM_NODE_COORDINATOR for the last
enum pm_state sim_state(const struct sim *s);             // DONE when the coordinator is gone
uint64_t sim_local_ns(const struct sim *s, uint32_t slot);
// What the node's agent knows of the world; NULL: nothing (yet).
const struct pm_world *sim_world_of(const struct sim *s, uint32_t node);
// How many ranks the world has for the slot's core; the first world's number while it knows none.
uint32_t sim_nranks(const struct sim *s, uint32_t slot);
// The rank of a local task for its agent, PM_RANK_NONE: none.
uint32_t sim_rank_of(const struct sim *s, uint32_t node, uint32_t local);
// The local task of a rank for the agent, SIM_NONE: it is not there.
uint32_t sim_local_of(const struct sim *s, uint32_t node, uint32_t rank);

enum sim_event_kind {
    SIM_EVENT_TIMER = 1, // slot, life
    SIM_EVENT_LINK,      // link, pipe, stamp
    SIM_EVENT_LINK_END,  // link, end: its limit is over
    SIM_EVENT_CHAN_UP,   // node, index
    SIM_EVENT_CHAN_DOWN,
    SIM_EVENT_SHIM,      // node, local
    SIM_EVENT_RANK,      // node, local
    SIM_EVENT_SERVER,    // node, index
    SIM_EVENT_LEAVE,     // node: its agent's patience is over
    SIM_EVENT_START,     // slot
    SIM_EVENT_SRUN,      // a: what, b: node << 8 | local
    SIM_EVENT_COORD,     // a: what
    SIM_EVENT_FAULT,     // index of the fault
    SIM_EVENT_HEAL,      // index of the fault
    SIM_EVENT_POST,      // index of a delayed event
    SIM_EVENT_LEASE,     // node: see check_lease.c
    SIM_EVENT_HEALTH,    // node: its check is over
};
void sim_push(struct sim *s, uint64_t at_ns, enum sim_event_kind kind, uint32_t a, uint32_t b,
              uint64_t stamp);
// Keeps the first one and stops the world.
void sim_violate(struct sim *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
void *sim_alloc(size_t n, size_t size); // zeroed; aborts without memory

// --- proc.c ----------------------------------------------------------------------------------------
bool sim_host_runs(const struct sim *s, uint32_t slot);
bool sim_proc_runs(const struct sim *s, uint32_t slot); // its code can run now
void sim_proc_start(struct sim *s, uint32_t slot);
void sim_proc_post(struct sim *s, uint32_t slot, struct pm_event event); // text: static; data: borrowed
void sim_proc_timer(struct sim *s, uint32_t slot, uint64_t stamp);
// A copy of an event that comes once more, later.
void sim_proc_again(struct sim *s, uint32_t slot, const struct pm_event *event, uint64_t delay_ns);
void sim_proc_late(struct sim *s, uint32_t slot, uint32_t index, uint64_t life);
void sim_proc_wake(struct sim *s, uint32_t slot); // it may run again
// The process is gone; its kernel closes its sockets: by RST if `rst`, not at all if the host is off.
void sim_proc_end(struct sim *s, uint32_t slot, bool rst);

// --- link.c ----------------------------------------------------------------------------------------
void sim_link_dial(struct sim *s, uint32_t slot, const struct pm_action *a);
void sim_link_send(struct sim *s, uint32_t slot, const struct pm_action *a);
void sim_link_close(struct sim *s, uint32_t slot, uint32_t id);
void sim_link_due(struct sim *s, uint32_t link, uint32_t pipe);
void sim_link_end_due(struct sim *s, uint32_t link, uint32_t end);
void sim_link_break(struct sim *s, struct sim_link *l, uint32_t end, bool rst); // end's socket goes
void sim_link_reset(struct sim *s, struct sim_link *l); // by something in between: both ends
void sim_link_wake(struct sim *s, uint32_t slot); // unread pipes of a process that runs again
bool sim_link_drain(struct sim *s, uint32_t slot); // reads what has come
void sim_links_done(struct sim *s);
bool sim_path_open(const struct sim *s, uint32_t from, uint32_t to);
// The link between two slots whose end at a is up; NULL: none. b SIM_NONE: any.
struct sim_link *sim_link_between(struct sim *s, uint32_t a, uint32_t b);

// --- chan.c ----------------------------------------------------------------------------------------
// Indices: 0..n_local-1 the shims, n_local.. the servers.
void sim_chan_up(struct sim *s, uint32_t node, uint32_t index, struct sim_msg msg);
void sim_chan_down(struct sim *s, uint32_t node, uint32_t index, struct sim_msg msg);
void sim_chan_due(struct sim *s, uint32_t node, uint32_t index, bool up);
void sim_chan_wake(struct sim *s, uint32_t node, bool up, uint32_t index);
// Has the agent left a shim that has not read all that it said? A real one reads all of it before it starts anything.
bool sim_chan_has_eof(const struct sim *s, uint32_t node, uint32_t local);
void sim_chan_clear(struct sim_chan *c);
void sim_chan_drain(struct sim *s, uint32_t node);
void sim_chan_drain_said(struct sim *s, uint32_t node, uint32_t rank);

// --- agent.c, coord.c -------------------------------------------------------------------------------
void sim_agent_act(struct sim *s, uint32_t node, struct pm_action *a);
void sim_agent_hear(struct sim *s, uint32_t node, uint32_t index, const struct sim_msg *msg);
void sim_agent_port(struct sim *s, uint32_t node); // offers one
void sim_agent_leave_due(struct sim *s, uint32_t node, uint64_t stamp);
void sim_agent_start_held(struct sim *s, uint32_t node, uint32_t epoch);
void sim_agent_gone(struct sim *s, uint32_t node); // its process ended: what depends on it
// With SIM_FAULT_LOCAL_TWICE: the event comes once more.
void sim_agent_double(struct sim *s, uint32_t node, const struct pm_event *event);
void sim_coord_act(struct sim *s, struct pm_action *a);
void sim_coord_due(struct sim *s, uint32_t what);

// What Slurm granted there; zeroes where all nodes are alike.
struct sim_size {
    uint32_t gpus;
    uint64_t memory_mib;
};
struct sim_size sim_size_of(const struct sim *s, uint32_t node);

// --- health.c ---------------------------------------------------------------------------------------
void sim_health_begin(struct sim *s, uint32_t node, uint64_t check);
void sim_health_due(struct sim *s, uint32_t node, uint64_t life);

// --- shim.c, rank.c, server.c, srun.c --------------------------------------------------------------
void sim_shim_start(struct sim *s, uint32_t node, uint32_t local);
void sim_shim_take(struct sim *s, uint32_t node, uint32_t local, const struct sim_msg *msg);
void sim_shim_due(struct sim *s, uint32_t node, uint32_t local, uint64_t stamp);
void sim_shim_look(struct sim *s, uint32_t node, uint32_t local, uint64_t delay_ns); // at its state
void sim_shim_end(struct sim *s, uint32_t node, uint32_t local, int32_t status); // process ends
void sim_shim_signalled(struct sim *s, uint32_t node, uint32_t local, int32_t signal); // by Slurm
bool sim_shim_runs(const struct sim *s, uint32_t node, uint32_t local);
void sim_rank_fork(struct sim *s, uint32_t node, uint32_t local);
void sim_rank_due(struct sim *s, uint32_t node, uint32_t local, uint64_t stamp);
void sim_rank_signal(struct sim *s, uint32_t node, uint32_t local, int32_t signal);
void sim_rank_end(struct sim *s, uint32_t node, uint32_t local, int32_t status); // by itself
void sim_rank_orphaned(struct sim *s, uint32_t node, uint32_t local); // its shim is gone
void sim_rank_kill(struct sim *s, uint32_t node, uint32_t local); // SIGKILL to the tree
void sim_rank_stop(struct sim *s, uint32_t node, uint32_t local, bool stop);
void sim_rank_fenced(struct sim *s, uint32_t node, uint32_t local, int32_t status);
void sim_rank_asked(struct sim *s, uint32_t node, uint32_t local);
bool sim_rank_runs(const struct sim *s, uint32_t node, uint32_t local); // user's code runs now
uint8_t sim_rank_group(const struct sim *s, uint32_t node, uint32_t rank, uint32_t fences_left);
void sim_server_prepare(struct sim *s, uint32_t node, uint32_t epoch);
void sim_server_standby(struct sim *s, uint32_t node, uint64_t delay_ns); // start one then
uint64_t sim_group_locals(const struct sim *s, uint32_t node, uint8_t group); // bits of tasks
bool sim_group_has(const struct sim *s, uint32_t node, uint32_t rank, uint8_t group); // by what `node` knows
bool sim_group_on(const struct sim *s, uint32_t node, uint32_t other, uint8_t group); // the same
void sim_server_drop(struct sim *s, uint32_t node, uint32_t epoch);
void sim_server_kill_all(struct sim *s, uint32_t node);
void sim_server_die(struct sim *s, uint32_t node, uint32_t index); // by a fault
void sim_server_stuck(struct sim *s, uint32_t node, uint32_t index);
void sim_server_due(struct sim *s, uint32_t node, uint32_t index, uint64_t stamp);
void sim_server_take(struct sim *s, uint32_t node, uint32_t index, const struct sim_msg *msg);
void sim_server_hear(struct sim *s, uint32_t node, uint32_t index, const struct sim_msg *msg); // agent
struct sim_server *sim_server_of(struct sim *s, uint32_t node, uint32_t epoch); // ready for the agent
uint64_t sim_watch_ns(const struct sim *s); // until a stuck server is found out
// What a rank does to the server of its epoch; false: there is none that serves.
bool sim_server_connect(struct sim *s, uint32_t node, uint32_t local);
void sim_server_finalize(struct sim *s, uint32_t node, uint32_t local);
void sim_server_fence(struct sim *s, uint32_t node, uint32_t local, uint8_t group);
void sim_server_ask(struct sim *s, uint32_t node, uint32_t local);
void sim_server_abort(struct sim *s, uint32_t node, uint32_t local, int32_t status);
void sim_server_lost_client(struct sim *s, uint32_t node, uint32_t local);
enum sim_srun_what {
    SIM_SRUN_TASK = 0,  // arg: node << 8 | local, stamp: status
    SIM_SRUN_REAPED,    // stamp: status
    SIM_SRUN_WAIT,      // 10 s after the first task
    SIM_SRUN_NODE,      // arg: node: slurmstepd kills the step there
    SIM_SRUN_NODE_OVER, // arg: node: its last task has ended
    SIM_SRUN_FORCE,
    SIM_SRUN_TOLD,
    SIM_SRUN_SHOT,
    SIM_SRUN_SIGNAL,    // arg: node, stamp: signal
    SIM_SRUN_KILL_WAIT,
    SIM_SRUN_COORD_ENDS,
};
void sim_srun_task_over(struct sim *s, uint32_t node, uint32_t local, int32_t status);
void sim_srun_due(struct sim *s, uint32_t what, uint32_t arg, uint64_t stamp);
void sim_srun_signal(struct sim *s, int32_t signal, uint64_t kill_after_ms); // from the coordinator
void sim_srun_kill_step(struct sim *s, int32_t code);
void sim_slurm_stop(struct sim *s, int32_t signal);
void sim_srun_host_is_back(struct sim *s, uint32_t node);

// --- fault.c ---------------------------------------------------------------------------------------
void sim_fault_at(struct sim *s, uint64_t real_ns, const struct sim_fault *f);
void sim_fault_do(struct sim *s, uint32_t index);
void sim_fault_heal(struct sim *s, uint32_t index);
void sim_fault_random(struct sim *s, uint64_t from_ns); // draws params.n_faults of them
void sim_fault_on_state(struct sim *s, enum pm_state state);
void sim_heal_all(struct sim *s); // the network and whatever is only paused
void sim_faults_done(struct sim *s);

// --- plant.c ---------------------------------------------------------------------------------------
void sim_plant_action(struct sim *s, uint32_t slot, struct pm_action *a); // lies about an action

// --- run.c -----------------------------------------------------------------------------------------
// The whole life of a seed. True: good; else sim_violation() says why not.
bool sim_run(struct sim *s);
bool sim_run_on(struct sim *s); // the rest of it, for a world that was launched
uint64_t sim_bound_ms(const struct sim *s); // from the end of the faults to the end of the step

// --- trace.c ---------------------------------------------------------------------------------------
// A line "[  1.204] ..." if there is a trace. Names: agent 3, coordinator, shim 3.0, rank 7.
void sim_tracef(struct sim *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
void sim_trace_send(struct sim *s, uint32_t from, uint32_t to, const uint8_t *data, size_t len);
void sim_trace_event(struct sim *s, uint32_t slot, const struct pm_event *event);
void sim_trace_action(struct sim *s, uint32_t slot, const struct pm_action *a);

#endif
