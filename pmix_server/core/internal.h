// SPDX-License-Identifier: Apache-2.0
//
// How the modules of the core fit together. Only files of pmix_server/core/ include this.
//
// core.c owns the struct and dispatches events and frames, actions.c collects what comes of them. Frame types are split
// by owner: 0x10..0x1f membership.h, 0x20..0x2f record.h (node*.c and supervisor*.c), 0x30..0x3f collective.h. A frame is
// u8 type, then the owner's payload. Modules call each other only through the functions below; each has its part of the
// struct and never touches another's.
#ifndef PM_CORE_INTERNAL_H
#define PM_CORE_INTERNAL_H

#include "pmix_server/core/core.h"
#include "pmix_server/wire/buf.h"

#define PM_MS 1000000ull  // ns
// What flows up, and views, are gathered this long after the one before; a report of a complete subtree goes at once.
#define PM_COALESCE_NS (5 * PM_MS)
#define PM_NODE_NONE (UINT32_MAX - 1)

struct pm_membership;  // membership.c, lease.c: links, heartbeats, leases, view, attach, who is alive
struct pm_node;        // node.c (agents): local ranks, the wanted state and what of it is done
struct pm_supervisor;  // supervisor.c (coordinator): the world's life
struct pm_collective;  // collective.c: fences and direct modex
struct pm_digest {
    uint64_t h;
    const uint32_t *newest; // by node, attach numbers: the others are as far behind; NULL: they are what they are
};

struct pm_core {
    struct pm_core_config config;  // with own copies of local_ranks, addresses, nodelist
    bool coordinator;
    uint64_t now_ns;  // time of the event being handled
    struct pm_world world;  // filled by node.c / supervisor.c (placement.c builds it)
    bool world_known;
    struct pm_membership *membership;
    struct pm_node *node;              // NULL at the coordinator
    struct pm_supervisor *supervisor;  // NULL at agents
    struct pm_collective *collective;
    struct pm_actions *out;  // of the step being made
};

// --- actions.c -------------------------------------------------------------------------------
// A zeroed new action, never NULL (a static scratch one after an allocation failed; error is sticky).
struct pm_action *pm_emit(struct pm_core *core, enum pm_action_type type);
// Copies into memory that the actions own.
void pm_action_set_data(struct pm_core *core, struct pm_action *a, const void *data, size_t len);
// The same for an action that has no data yet; a large frame that the action before has too is not copied
// again (the result of a fence goes to every child).
void pm_action_share_data(struct pm_core *core, struct pm_action *a, const void *data, size_t len);
void pm_action_set_text(struct pm_core *core, struct pm_action *a, const char *text);
// SAY from here. printf-like. At an agent it becomes a frame to the coordinator (node.c).
void pm_say(struct pm_core *core, const char *format, ...) __attribute__((format(printf, 2, 3)));
void pm_say_verbose(struct pm_core *core, const char *format, ...) __attribute__((format(printf, 2, 3)));
// A zeroed log record of an action (LOG at the coordinator, NODE_LOG at agents); rank, node preset to "none".
struct pm_log *pm_log_record(struct pm_core *core, const char *kind);
void pm_digest_u64(struct pm_digest *d, uint64_t v);
void pm_digest_bytes(struct pm_digest *d, const void *p, size_t n);
void pm_digest_set(struct pm_digest *d, const struct pm_set *s);
// A time as seen from now; 0 and UINT64_MAX are "never".
void pm_digest_time(struct pm_digest *d, uint64_t t_ns, uint64_t now_ns);
// The how many-th attachment of `node` something is of.
void pm_digest_attach(struct pm_digest *d, uint32_t node, uint32_t attach);
// One of which only matters when it comes: all that is past is the same.
void pm_digest_due(struct pm_digest *d, uint64_t t_ns, uint64_t now_ns);
// One that is past (0: never) and compared with bounds up to cap_ns: all that is older is the same.
void pm_digest_age(struct pm_digest *d, uint64_t t_ns, uint64_t now_ns, uint64_t cap_ns);

// --- tree.c: the numbered tree, pure arithmetic --------------------------------------------------
// Coordinator is the root; its children are nodes 0..F-1, those of node i are F*(i+1)..F*(i+1)+F-1.
uint32_t pm_tree_parent(uint32_t node, uint32_t fanout);  // PM_NODE_COORDINATOR for the first F
// Where a node hangs when nothing is lost: spares (first_spare and up) are leaves, so the nearest ancestor that is
// none.
uint32_t pm_tree_home(uint32_t node, uint32_t fanout, uint32_t first_spare);
uint32_t pm_tree_ancestor(uint32_t node, uint32_t fanout, uint32_t steps);
bool pm_tree_is_ancestor(uint32_t ancestor, uint32_t node, uint32_t fanout);
// The child of `from` under which `node` hangs; UINT32_MAX - 1 if it does not hang there.
uint32_t pm_tree_next_hop(uint32_t from, uint32_t node, uint32_t fanout);
uint32_t pm_tree_n_children(uint32_t node, uint32_t nnodes, uint32_t fanout);

// --- membership.c, lease.c ---------------------------------------------------------------------------
int pm_membership_new(struct pm_core *core);
struct pm_membership *pm_membership_free(struct pm_membership *m);
struct pm_membership *pm_membership_clone(const struct pm_membership *m);
void pm_membership_digest(const struct pm_core *core, uint64_t now_ns, struct pm_digest *d);
uint64_t pm_membership_deadline_ns(struct pm_membership *m);
void pm_membership_event(struct pm_core *core, const struct pm_event *event);  // LINK_UP, LINK_DOWN, TIMER, JOB_STATE, LAUNCHED
void pm_membership_frame(struct pm_core *core, uint32_t link, uint8_t type, struct pm_reader *r);
// Before every event: notes a clock that ran late (we were paused), then a lease that has ended.
void pm_membership_clock(struct pm_core *core);
// Before every frame: its link has been heard. True, and who it is, if that is our parent or a child of ours.
bool pm_membership_hear(struct pm_core *core, uint32_t link, uint32_t *ret_node);
// The peer sent what it must not: close this link (the peer may come back on a new one).
void pm_membership_reject(struct pm_core *core, uint32_t link);
// Agent: whom we are attached to now; PM_NODE_NONE: nobody (or we are the coordinator).
uint32_t pm_parent(const struct pm_core *core);
// To the tree parent (agents). False: there is none now; level-triggered users simply wait for pm_on_parent().
bool pm_send_parent(struct pm_core *core, const struct pm_writer *frame);
// To the direct child `child`. False: not attached now.
bool pm_send_child(struct pm_core *core, uint32_t child, const struct pm_writer *frame);
// To all direct children.
void pm_send_children(struct pm_core *core, const struct pm_writer *frame);
// Direct child through which `node` is reached now (actual attachments, not the numbered tree);
// UINT32_MAX - 1: not below us (an agent then sends up).
uint32_t pm_next_hop(const struct pm_core *core, uint32_t node);
// Direct children attached now, in order of id; *ret_n of them. Borrowed until the next event.
const uint32_t *pm_children(const struct pm_core *core, uint32_t *ret_n);
uint64_t pm_view(const struct pm_core *core);  // grows with every change of the tree
// Nodes whose death was declared (coordinator: authoritative; agents: as heard).
const struct pm_set *pm_dead_nodes(const struct pm_core *core);
// Coordinator: nodes silent or being judged now. PLACING waits until this is empty.
const struct pm_set *pm_suspect_nodes(const struct pm_core *core);
// A child's subtree as attached now, the child itself included; at any node, not only at the
// coordinator (collective.c holds back until the whole own subtree has arrived). NULL: no such child.
const struct pm_set *pm_subtree(const struct pm_core *core, uint32_t child);
// Coordinator: may the ranks of a declared dead node be placed elsewhere (its last lease is over)?
bool pm_lease_over(const struct pm_core *core, uint32_t node);
// Coordinator: how long a declared dead node had been silent, ms; 0 if that was not the reason.
uint64_t pm_silent_ms(const struct pm_core *core, uint32_t node);
// Coordinator: was its host silent? It was dialled and did not answer; of some that are declared for silence nobody knows:
// they hung below a dead node, or who was asked to dial them died as well.
bool pm_was_silent(const struct pm_core *core, uint32_t node);
// Coordinator: was it declared dead as its host refused the connection? Its kernel lives, and its agent is gone.
bool pm_was_refused(const struct pm_core *core, uint32_t node);
#define PM_NO_ANSWER ", and it does not answer a connection" // what is said of its silence then
// How close it was, for figures: the longest silence, ms, of a child of ours that was then heard again,
// and the longest that our own clock was late. They decide nothing.
uint64_t pm_longest_silence_ms(const struct pm_core *core);
uint64_t pm_longest_late_ms(const struct pm_core *core);
// Coordinator: what proved that the agent of a declared dead node is gone; of one that is stuck, what to say after its
// silence; "": only its silence, or nothing did.
const char *pm_death_proof(const struct pm_core *core, uint32_t node);
// Agent: when the lease it has, or had last, ends; CLOCK_BOOTTIME ns, 0 before the first.
uint64_t pm_lease_end_ns(const struct pm_core *core);
// Coordinator: stop granting and judging (STOPPING/DONE), so that a stop is not taken for a loss.
void pm_membership_stop(struct pm_core *core);
// Coordinator: the supervisor takes a node out (rank not reaped, shim lost): declared dead now.
void pm_membership_declare(struct pm_core *core, uint32_t node, enum pm_cause cause);

// --- node.c (agents) and supervisor.c (coordinator); record.c is their common wire format -----------
int pm_node_new(struct pm_core *core);
struct pm_node *pm_node_free(struct pm_node *n);
struct pm_node *pm_node_clone(const struct pm_node *n);
void pm_node_digest(const struct pm_node *n, uint64_t now_ns, struct pm_digest *d);
uint64_t pm_node_deadline_ns(const struct pm_node *n);
void pm_node_event(struct pm_core *core, const struct pm_event *event);  // all local facts, TIMER
void pm_node_frame(struct pm_core *core, uint32_t link, uint32_t from, uint8_t type, struct pm_reader *r);

// placement.c: worlds of equal content share one block of immutable memory (a simulator holds thousands of
// cores). Never free the arrays of a pm_world: release it. acquire makes *into one more holder of `from`.
void pm_world_acquire(struct pm_world *into, const struct pm_world *from);
void pm_world_release(struct pm_world *world);  // and zeroes it; a zeroed one is fine
// Hash of the content, for pm_core_digest.
uint64_t pm_world_hash(const struct pm_world *world);

int pm_supervisor_new(struct pm_core *core);
struct pm_supervisor *pm_supervisor_free(struct pm_supervisor *s);
struct pm_supervisor *pm_supervisor_clone(const struct pm_supervisor *s);
void pm_supervisor_digest(const struct pm_core *core, uint64_t now_ns, struct pm_digest *d);
uint64_t pm_supervisor_deadline_ns(const struct pm_supervisor *s);
void pm_supervisor_event(struct pm_core *core, const struct pm_event *event);  // LAUNCHED, STOP, SRUN_EXITED, FENCED_OFF, NODE_STATES, BOOTED, OUTPUT_READ, SAY, TIMER
void pm_supervisor_frame(struct pm_core *core, uint32_t link, uint32_t from, uint8_t type, struct pm_reader *r);
// "node3, node4, node5 and 12 more", for sentences of the coordinator. Returns buf.
char *pm_supervisor_names(const struct pm_core *core, const struct pm_set *nodes, char *buf,
                          size_t cap);
// Name of a node for sentences; buf of PM_TEXT_CAP.
const char *pm_supervisor_host(const struct pm_core *core, uint32_t node, char *buf);
enum pm_state pm_supervisor_state(const struct pm_supervisor *s);
uint32_t pm_supervisor_epoch(const struct pm_supervisor *s);
// The loss of this node stops nothing: it has no ranks, or those have ended well and the others still run.
bool pm_supervisor_does_without(const struct pm_core *core, uint32_t node);
uint32_t pm_node_epoch(const struct pm_node *n);
uint32_t pm_node_rank_of(const struct pm_node *n, uint32_t local);
// Agent: a line for srun's stderr, on its way up (bounded, rate-limited, drops are counted). What pm_say calls.
void pm_node_say(struct pm_core *core, bool verbose, const char *text);
// A local rank whose fence failed for lack of a rank that left without finalize etc.: collective.c tells
// node.c why, so that the cause can be named. `rank` is the missing rank. Called at the agent that hosts
// that rank, maybe more than once, and also for a local rank that is alive or had finalized: node.c looks
// at what it knows and ignores those.
void pm_node_fence_lost(struct pm_core *core, uint32_t epoch, uint32_t rank);

// Calls from membership.c into both (core.c passes them on to node.c/supervisor.c and collective.c):
void pm_on_parent(struct pm_core *core);                    // agent: attached to a (new) parent: send the whole record
void pm_on_child(struct pm_core *core, uint32_t child);     // a child attached: send it the whole wanted state
void pm_on_child_gone(struct pm_core *core, uint32_t child);// link lost or left; not a death
void pm_on_view(struct pm_core *core);                      // view changed
void pm_on_node_dead(struct pm_core *core, uint32_t node, enum pm_cause cause);  // coordinator declared it
void pm_on_isolated(struct pm_core *core, bool isolated);   // coordinator doubts itself / no longer does
// per module targets of the above:
void pm_node_on_parent(struct pm_core *core);
void pm_node_on_child(struct pm_core *core, uint32_t child);
void pm_node_on_child_gone(struct pm_core *core, uint32_t child);
void pm_supervisor_on_child(struct pm_core *core, uint32_t child);
void pm_supervisor_on_child_gone(struct pm_core *core, uint32_t child);
void pm_supervisor_on_node_dead(struct pm_core *core, uint32_t node, enum pm_cause cause);
void pm_supervisor_on_isolated(struct pm_core *core, bool isolated);
// Agent: the lease ended / came back / we were declared dead or orphaned. node.c acts (PAUSE, RESUME, DIE).
void pm_node_on_lease(struct pm_core *core, bool held);
void pm_node_on_first_lease(struct pm_core *core);  // ranks may start from now
void pm_node_on_outcast(struct pm_core *core, const char *why);

// --- collective.c --------------------------------------------------------------------------------------
int pm_collective_new(struct pm_core *core);
struct pm_collective *pm_collective_free(struct pm_collective *c);
struct pm_collective *pm_collective_clone(const struct pm_collective *c);
void pm_collective_digest(const struct pm_collective *c, uint64_t now_ns, struct pm_digest *d);
uint64_t pm_collective_deadline_ns(const struct pm_collective *c);
void pm_collective_event(struct pm_core *core, const struct pm_event *event);  // FENCE, MODEX, FETCHED, SERVER_READY, TIMER
void pm_collective_frame(struct pm_core *core, uint32_t link, uint32_t from, uint8_t type, struct pm_reader *r);
void pm_collective_on_parent(struct pm_core *core);
void pm_collective_on_child(struct pm_core *core, uint32_t child);
void pm_collective_on_child_gone(struct pm_core *core, uint32_t child);
void pm_collective_on_view(struct pm_core *core);
// A rank of the current epoch ended (agents hear of all failed ranks by the wanted state / record): fences that wait
// for it end with PM_STATUS_LOST everywhere. Coordinator: decides the fences, and later ones over a set with
// this rank fail at once; so never call it for a rank that is restarted alone in the same epoch. Agents: ends
// the modexes that wait for it.
void pm_collective_rank_lost(struct pm_core *core, uint32_t epoch, uint32_t rank);
// The epoch is over: every pending fence and modex of it ends with PM_STATUS_ABORTED, late frames are dropped.
void pm_collective_epoch_over(struct pm_core *core, uint32_t epoch);

#endif
