// SPDX-License-Identifier: Apache-2.0
//
// The agent's part of the core in five files: node.c owns it and takes frames in, node_facts.c
// takes local facts in, node_life.c compares the wanted state with them and acts, node_health.c does so about the
// node's health, node_report.c tells the parent. The last three run after everything and never do a thing twice.
#ifndef PM_CORE_NODE_H
#define PM_CORE_NODE_H

#include "pmix_server/core/bound.h"
#include "pmix_server/core/record.h"
#include "pmix_server/core/sizes.h"

// FINALIZED comes from the server and the exit from the shim, so either may be first.
#define PM_LINGER_NS        (250 * PM_MS)
// libpmix sees a connection end, and a fence fail, before the exit is known; so much earlier at
// most.
#define PM_MISSED_NS        (1000 * PM_MS)
// How long survivors' event may take before the signal follows anyway.
#define PM_NOTIFY_NS        (100 * PM_MS)
// A process that is not gone this long after SIGKILL is in the kernel's hands (D state).
#define PM_UNREAPABLE_NS    (10000 * PM_MS)
#define PM_SERVER_TRIES_MAX 5u

enum pm_local_state {
    PM_LOCAL_IDLE = 0, // no process, no descendant
    PM_LOCAL_ASKED,    // START_RANK was given
    PM_LOCAL_RUNNING,
    PM_LOCAL_EXITED, // its own process ended; descendants may be left
};

struct pm_local {
    uint32_t rank; // of the world; PM_RANK_NONE: a slot that waits
    bool shim_joined;
    bool shim_lost;
    enum pm_local_state state;
    bool has_run; // epoch and what follows are valid
    uint32_t epoch;
    uint32_t incarnation;
    uint32_t pid;
    bool was_started;
    bool over; // wait_status is valid
    bool connected;
    bool finalized;
    bool termed; // we sent SIGTERM
    bool killed; // we asked for the kill of the tree
    bool left;   // over with 0, connected, not finalized
    int32_t wait_status;
    uint64_t started_ns;
    uint64_t killed_ns;
    uint64_t linger_ns; // 0, or when to decide about `left`
    uint64_t missed_ns; // 0, or when a fence failed that it may have been missing in
    bool has_failure;
    struct pm_failure failure;
};

// Servers of epoch e and e + 1 live side by side; slot e & 1.
struct pm_server_slot {
    bool asked;
    bool ready;
    uint32_t epoch;
    uint32_t map_version; // of the world that it was prepared for
    uint32_t tries;
};

enum pm_halt_stage {
    PM_HALT_NONE = 0,
    PM_HALT_NOTIFYING, // the event is out, the signal waits for it
    PM_HALT_GRACE,     // SIGTERM is out
    PM_HALT_KILLING,
    PM_HALT_DONE,
};

struct pm_child_failures {
    uint32_t node;
    struct pm_failures failures;
};

struct pm_blob {
    uint8_t *data;
    size_t len;
};

#define PM_SAY_QUEUE_MAX 64u
#define PM_SAY_BURST     100u
#define PM_SAY_PER_S     50u
struct pm_say_line {
    uint32_t node;
    bool verbose;
    char *text;
};

struct pm_node {
    struct pm_wanted wanted;
    struct pm_blob wanted_frame; // as they came, for children
    struct pm_blob map_frame;
    struct pm_local *locals;
    uint32_t n_local;
    struct pm_server_slot servers[2];
    bool has_server_failure;
    struct pm_failure server_failure;
    enum pm_halt_stage halt;
    uint32_t halt_epoch;
    uint64_t halt_deadline_ns;
    uint64_t notice_serial;  // newest notice raised in this epoch
    struct pm_set notified;  // ranks of this epoch whose event was raised
    struct pm_set told_lost; // ranks of this epoch that collective.c knows to be lost
    uint16_t port;    // free here a moment ago; 0: not known yet
    uint32_t n_ports; // that were offered so far
    struct pm_size size;   // what this node offers
    uint32_t check;        // number of the health check that runs; 0: none
    uint32_t checked;      // of the last that is over; the first is made when all shims have joined
    bool is_unfit;         // for good; health_failure says why
    struct pm_failure health_failure;
    bool paused;
    bool ended; // END_AGENT or DIE is out; nothing follows
    // Up
    struct pm_report report; // subtree
    struct pm_child_failures *children;
    uint32_t n_children;
    bool dirty;
    bool joined_dirty;
    bool failures_dirty; // the first failure of the epoch does not wait for anything
    uint64_t sent_ns; // 0: nothing yet
    bool cut;         // no parent now: wait for pm_on_parent, not for a timer
    // Lines on their way up
    struct pm_say_line say[PM_SAY_QUEUE_MAX];
    uint32_t n_say;
    uint32_t say_dropped;
    uint32_t say_tokens;
    uint64_t say_refill_ns;
    struct pm_bound_texts bound;
};

// --- node_facts.c ------------------------------------------------------------------------------
void pm_node_fact(struct pm_core *core, const struct pm_event *event);
// If rank 0 is here, the port of this node is the world's next MASTER_PORT.
void pm_node_offer_port(struct pm_core *core);
// False: known already, or no failure.
bool pm_node_fact_fence_lost(struct pm_core *core, uint32_t epoch, uint32_t rank);

// --- node_life.c
// ---------------------------------------------------------------------------------- Does what is
// due: starts, events, signals, kills, end. Idempotent.
void pm_node_drive(struct pm_core *core);
// The node's ranks in the world that is known now: the k-th of its tasks has the k-th of them.
void pm_node_take_ranks(struct pm_core *core);
uint64_t pm_node_life_deadline_ns(const struct pm_node *n);
struct pm_log *pm_node_log(struct pm_core *core, const char *kind, const struct pm_local *local);
void pm_node_signal(struct pm_core *core, struct pm_local *local, int32_t signal);
// A new epoch: facts of the one before are history.
void pm_node_enter_epoch(struct pm_core *core, uint32_t epoch);

// --- node_health.c -----------------------------------------------------------------------------
// Begins a check that is due.
void pm_node_check(struct pm_core *core);
// The check that ran is over.
void pm_node_health(struct pm_core *core, const struct pm_event *event);

// --- node_report.c
// -------------------------------------------------------------------------------- Brings the
// subtree's record up to date and sends it when it is time.
void pm_node_report(struct pm_core *core);
// Have the shims of all local tasks joined?
bool pm_node_all_joined(const struct pm_node *n);
// This node cannot be part of the step: why.
void pm_node_refuse(struct pm_core *core, const char *why);
uint64_t pm_node_report_deadline_ns(const struct pm_node *n);
// The failures that child `from` reports now (moved out of *failures). 0 or -ENOMEM.
int pm_node_child_failures(struct pm_node *n, uint32_t from, struct pm_failures *failures);
void pm_node_child_forget(struct pm_node *n, uint32_t child);
void pm_node_say_from(struct pm_core *core, uint32_t node, bool verbose, const char *text);
void pm_node_say_flush(struct pm_core *core);
void pm_node_bound(struct pm_core *core, const struct pm_set *nodes, const char *text);
void pm_node_bound_flush(struct pm_core *core);

#endif
