// SPDX-License-Identifier: Apache-2.0
//
// A world so small that all of its futures can be tried: the real cores, and around them a model
// that is coarser than the simulator's but can be copied and hashed. One rank a node, no PMIx; what
// is on its way may arrive in any order that TCP and real time allow; processes, hosts, links fail.
//
// explore_world.c: what can happen next, and what then happens. explore_fault.c: faults.
// explore_act.c: what cores do to the world. explore_hash.c: which worlds are the same.
// explore_audit.c: are they? explore_reduce.c: what need not be tried. explore.c: the search.
//
// Time: clocks agree. It passes only from one timer or arrival to the next; all that happens between is at one
// instant. Without latency what is sent arrives at the same instant, in any order: whole conversations may
// take place while one frame is on its way. With x_latency_ns it takes that long, and up to x_delay_ns more.
#ifndef PM_TESTS_SIM_EXPLORE_H
#define PM_TESTS_SIM_EXPLORE_H

#include "pmix_server/core/internal.h"
#include "tests/sim/sim.h"

#define X_NODES 3
#define X_SLOTS (X_NODES + 1)
#define X_LINKS 24
#define X_ITEMS 512

// A core that several worlds hold. It never changes: a step makes a copy (or takes the last one).
struct x_core {
    uint32_t refs;
    struct pm_core *core;
    uint64_t hashed_ns, hash; // when and as what it was hashed, beside these attach numbers
    uint32_t newest[X_NODES];
};

struct x_blob { // bytes of a frame
    uint32_t refs;
    uint32_t len;
    uint8_t data[];
};

enum x_kind { X_NONE = 0, X_SYN, X_UP, X_REFUSED, X_FRAME, X_FIN, X_EVENT };
enum x_chan { X_SHIM = 0, X_SERVER, X_LOCAL, X_SLURM }; // X_SLURM: ends all of us on its node

struct x_item {     // on its way
    uint8_t kind;
    uint8_t where;  // place of the link; X_EVENT: slot
    uint8_t to;     // end of the link; X_EVENT: enum x_chan
    uint8_t type;   // X_EVENT: enum pm_event_type
    int32_t status;
    uint32_t epoch, incarnation;
    uint64_t at_ns; // when it left
    struct x_blob *blob;
};

enum x_end { X_END_NONE = 0, X_END_DIALLING, X_END_UP };
struct x_link {
    bool used;
    uint8_t slot[2]; // 0 dialled
    uint8_t state[2];
    uint32_t id[2];
    uint64_t due_ns; // of the dial, 0: none
};

struct x_node {
    bool off, cut;
    bool shim, over; // over: srun knows of the task's end, or will
    bool alive, stopped, termed, stand; // rank; stand: the agent told the shim to stop it
    bool held, next; // START waits for its server; for the rank before it, or the lease
    bool excused;    // it was really lost, or a part of it
    bool ran;        // a rank, ever
    uint32_t start_epoch, start_incarnation;
    uint32_t epoch, incarnation; // of the rank that runs, or ran last
    uint32_t ready;              // bits: epochs with a server
    uint64_t lease_ns;
    uint64_t ran_ns; // when its rank last ceased to run, other than with its lease
};

struct x_world {
    uint64_t now_ns;
    struct x_core *cores[X_SLOTS]; // NULL: gone
    bool paused[X_SLOTS];
    uint64_t awake_ns[X_SLOTS];     // what was on its way then is read before timers are judged
    uint64_t disturbed_ns[X_SLOTS]; // paused or cut, all in all
    uint32_t next_even[X_SLOTS];
    struct x_node nodes[X_NODES];
    struct x_link links[X_LINKS];
    bool fresh;         // nothing has happened yet since time passed
    uint8_t faults;     // that struck
    bool harmed;        // not only what the tree repairs by itself
    bool coord_excused; // it was paused, or cut off: its judgement may err
    bool srun_over, done;
    bool leaving[X_SLOTS];
    int32_t status;
    uint32_t halted_epoch; // + 1 of the newest that was decided to end
    uint32_t n_items;
    struct x_item items[X_ITEMS]; // in the order in which they left; kept only as far as used
};

// What can happen next.
enum x_choice_kind {
    X_DELIVER = 0, // a: item
    X_TIMER,       // a: slot
    X_DIAL_OVER,   // a: link
    X_RANK_ENDS,   // a: node: by itself with 0, or by SIGTERM
    X_TIME,
    X_RESUME,      // a: slot
    X_HEAL,        // a: node
    X_RANK_DIES,   // from here on faults
    X_AGENT_KILLED,
    X_HOST_LOST,
    X_SHIM_KILLED,
    X_SERVER_LOST,
    X_LINK_RESET,  // a: link
    X_PAUSE,       // a: slot
    X_CUT,         // a: node
    X_USER_STOP,
    X_CHOICES,
};
struct x_choice {
    uint8_t kind;
    uint16_t a;
};
#define X_CHOICES_MAX 256
struct x_choices { // being gathered
    struct x_choice *at;
    uint32_t n;
};

extern uint32_t x_nnodes;
extern uint64_t x_latency_ns; // what anything takes at least to arrive
extern uint64_t x_delay_ns;   // what it may take beyond that
extern bool x_every_order;    // of processes at one instant, although one will do
extern bool x_ranks_end; // with 0, by themselves, at any time
extern uint32_t x_max_faults; // that may strike, in all
extern uint32_t x_spares;     // of the nodes
extern bool x_shrink;         // --pm-shrink
extern bool x_relaunch;       // --pm-relaunch=1, and the job has one more node
extern uint8_t x_only;    // the only kind of fault, X_DELIVER: all of them
extern char x_violation[512];  // of the step just made, "": none
extern struct sim *x_trace;    // a trace goes there; NULL: none

#define X_T_MS 2000u

struct x_world *x_world_new(void); // nothing has happened; its caller's
void x_world_copy(struct x_world *into, const struct x_world *from); // into: no world yet
struct x_world *x_world_keep(const struct x_world *w); // a copy that takes only what it needs
size_t x_world_size(const struct x_world *w);
void x_world_drop(struct x_world *w); // what it holds, not itself
enum pm_state x_world_state(const struct x_world *w);
// What can happen next, faults included while fewer than x_max_faults have struck.
uint32_t x_world_choices(const struct x_world *w, struct x_choice *ret);
void x_world_do(struct x_world *w, struct x_choice choice);
void x_choice_add(struct x_choices *list, enum x_choice_kind kind, uint32_t a); // unless not x_only's
bool x_is_cut(const struct x_world *w, uint32_t slot);
bool x_can_arrive(const struct x_world *w, uint32_t item);
uint32_t x_receiver(const struct x_world *w, const struct x_item *item); // slot
bool x_same_queue(const struct x_item *a, const struct x_item *b); // what keeps its order

bool x_runs_now(const struct x_world *w, uint32_t node); // its rank, at some time of this instant
static inline uint64_t x_soonest_ns(const struct x_item *item)
{
    return item->at_ns + x_latency_ns;
}
static inline uint64_t x_latest_ns(const struct x_item *item)
{
    return item->at_ns + x_latency_ns + x_delay_ns;
}

// --- explore_reduce.c --------------------------------------------------------------------------
bool x_one_by_one(const struct x_world *w); // may its processes go one after the other?
void x_reduce(const struct x_world *w, struct x_choices *list); // to what is worth trying then

// --- explore_fault.c ---------------------------------------------------------------------------
void x_faults_add(const struct x_world *w, struct x_choices *list);
void x_fault_do(struct x_world *w, struct x_choice choice);
const char *x_fault_name(uint8_t kind);
uint8_t x_fault_of(const char *name); // X_DELIVER: no such fault
const char *x_choice_name(const struct x_world *w, struct x_choice choice, char *buf, size_t cap);

// --- explore_hash.c ----------------------------------------------------------------------------
uint64_t x_world_hash(struct x_world *w); // equal ones have equal futures
void x_hash_tell(struct x_world *w);      // of what it is made, to stdout

// --- explore_record.c --------------------------------------------------------------------------
void x_hash_version(struct pm_digest *d, const struct x_world *w, const struct pm_core *agent);
bool x_record_is_old(const struct x_world *w, const struct x_item *item);
// False: a frame of another kind.
bool x_hash_record(struct pm_digest *d, const struct x_world *w, uint8_t type, struct pm_reader *r);

// --- explore_audit.c ---------------------------------------------------------------------------
struct x_audit *x_audit_new(void);
uint64_t x_audit_done(struct x_audit *a); // how many pairs were looked at
void x_audit_keep(struct x_audit *a, const struct x_world *w, uint64_t hash, uint32_t number); // maybe
// False, with x_violation, if a kept world of this hash has another future.
bool x_audit_same(struct x_audit *a, const struct x_world *w, uint64_t hash, uint32_t *ret_number);

// --- explore_act.c -----------------------------------------------------------------------------
void x_feed(struct x_world *w, uint32_t slot, struct pm_event event); // with all that follows at once
void x_push(struct x_world *w, struct x_item item);
void x_event(struct x_world *w, uint32_t slot, enum x_chan chan, struct x_item item);
void x_proc_ends(struct x_world *w, uint32_t slot, bool silent); // its sockets too, unless silent
void x_link_end(struct x_world *w, uint32_t link, uint32_t end);  // this end's socket goes
void x_rank_dies(struct x_world *w, uint32_t node, int32_t status);
void x_node_ends(struct x_world *w, uint32_t node); // agent, shim and rank
void x_look(struct x_world *w, uint32_t node);      // of a shim at the lease, and at what waits
void x_server_ready(struct x_world *w, uint32_t node, uint32_t epoch);
void x_srun_exits(struct x_world *w, int32_t status);
void x_violate(const char *format, ...) __attribute__((format(printf, 1, 2)));
static inline bool x_runs(const struct x_world *w, uint32_t slot)
{
    return w->cores[slot] && !w->paused[slot];
}

#endif
