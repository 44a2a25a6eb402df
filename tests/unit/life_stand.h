// SPDX-License-Identifier: Apache-2.0
//
// One supervisor or one agent node alone, without tree, links or the rest of the core: the
// functions of internal.h that those modules call are stood in for here. Frames that they send are
// decoded and kept, actions too; the clock is the test's.
#ifndef PM_TESTS_LIFE_STAND_H
#define PM_TESTS_LIFE_STAND_H

#include "pmix_server/core/node.h"
#include "pmix_server/core/supervisor.h"

struct stand {
    struct pm_core core;
    struct pm_options options; // of the core
    struct pm_actions out;   // of all steps since stand_forget()
    struct pm_wanted wanted; // the newest that went down
    uint32_t n_wanted;       // how many went down
    uint32_t n_maps;
    struct pm_report report; // the newest that went up
    uint32_t n_reports;
    bool no_parent;
    struct pm_set dead, suspect;
    struct pm_set drained;   // what Slurm says when it is asked
    struct pm_set booted;    // likewise
    struct pm_set silent;    // of `dead`, those that were declared for their silence
    struct pm_set refused;   // of `dead`, those whose hosts refused connections
    bool slurm_is_slow;      // it does not say anything
    bool slurm_fails;        // it cannot be asked
    bool lease_not_over;
    bool membership_stopped;
    struct pm_set lost_ranks; // collective.c was told
    uint32_t epochs_over;
    char said[8192]; // every SAY, '\n' after each; lines only said with verbose start with '~'
    char wanted_bytes[65536]; // the frame of `wanted`, type included
    size_t wanted_len;
    int32_t exit_status; // of PM_ACTION_EXIT, -1 before
};

extern struct stand stand; // there is one, as Criterion runs each test in a process of its own

// The design's defaults: world mode, 3 restarts, T 10 s, grace 5 s, min-uptime 5 s, join window 15
// s ...
void stand_options(struct pm_options *o);
// A coordinator that has just heard LAUNCHED. NULL: defaults.
void stand_coordinator(uint32_t nnodes, uint32_t per_node, const struct pm_options *o);
// Agent `node` with ranks node * per_node .. of nnodes * per_node.
void stand_agent(uint32_t node, uint32_t nnodes, uint32_t per_node);
// The same in a step whose last nodes wait.
void stand_agent_with_spares(uint32_t node, uint32_t nnodes, uint32_t per_node, uint32_t spares);
void stand_done(void);
// Forgets actions and lines.
void stand_forget(void);

void stand_event(const struct pm_event *event);
// Moves the clock and lets timers run that are due on the way.
void stand_run_ms(uint64_t ms);
// Feeds a record as a frame; false: it was refused.
bool stand_report(const struct pm_report *report);
bool stand_wanted(struct pm_wanted *wanted);
void stand_map(void); // every node has its ranks in order
void stand_map_of(const struct pm_map *map, uint32_t version, uint32_t nranks);
bool stand_frame(uint8_t type, const void *data, size_t len);

// Coordinator: all nodes join, with map, node list "node[0-N]" and a port.
void stand_join(uint32_t first, uint32_t last);
void stand_mark(enum pm_mark mark, uint32_t epoch, uint32_t first, uint32_t last);
// Rank of epoch 0, incarnation as wanted, node by rank / per_node.
struct pm_failure stand_failure(uint32_t rank, enum pm_cause cause, int32_t wait_status);
void stand_fail(const struct pm_failure *failure);
// Forms, starts and runs epoch 0.
void stand_running(void);
enum pm_state stand_state(void);

// Actions of one type since stand_forget(); the last of them in *ret_last (may be NULL).
uint32_t stand_count(enum pm_action_type type, const struct pm_action **ret_last);
bool stand_said(const char *text);

#endif
