// SPDX-License-Identifier: Apache-2.0
//
// A whole step in one process and in virtual time: a coordinator core, N agent cores, TCP-like links
// between them, and stand-ins for shims, servers and srun. No thread, clock, random number or socket:
// two runs of the same test are the same, event by event.
//
// A link is an ordered pipe per direction with a fixed latency. What a fault does to it is what TCP
// would show: a killed process resets its links and its port refuses; a powered-off or cut node is
// silent, frames to it are retransmitted after a heal, dials to it time out (PM_LINK_UNREACHABLE);
// a paused process receives nothing until it is resumed and dials to it get stuck (PM_LINK_STUCK).
#ifndef PM_TESTS_CORE_HARNESS_H
#define PM_TESTS_CORE_HARNESS_H

#include "pmix_server/core/core.h"

#define HARNESS_MS 1000000ull

struct harness;

struct harness_config {
    uint32_t nnodes;
    uint32_t ranks_per_node;
    uint64_t latency_ns;               // one way; 0: 50 us
    const uint32_t *rates;  // of each node's clock, then the coordinator's, in 1/1000 of real time; NULL: all 1000
    const struct pm_options *options;  // copied; NULL: harness_default_options
    uint64_t wait_ms;                  // srun's --wait
    uint32_t isolation_floor;
    uint32_t fence_piece;  // bytes of a fence in a frame; 0: as in production
    bool trace;  // every action on stderr, as text
    // Sees every action before the harness acts on it; true: the harness shall not act. `node` is
    // PM_NODE_COORDINATOR for the coordinator. May call harness_post and the faults below.
    bool (*hook)(struct harness *h, void *ctx, uint32_t node, const struct pm_action *action);
    void *ctx;
};

// What the stand-in of one rank slot knows.
struct harness_rank {
    bool alive;
    bool stopped;  // by PAUSE
    uint32_t rank;
    uint32_t epoch;
    uint32_t incarnation;
    uint32_t pid;
};

struct harness_stats {
    uint64_t steps;    // pm_core_step calls
    uint64_t frames;   // delivered
    uint64_t bytes;    // of those
    uint64_t coordinator_frames;  // delivered to the coordinator
    uint64_t actions[PM_ACTION_MAX];
};

// The design's defaults (world mode, 3 restarts, T = 10 s, fan-out 32), without options.c.
void harness_default_options(struct pm_options *o);

// Never NULL (aborts without memory, like every misuse here). Nothing has happened yet.
struct harness *harness_new(const struct harness_config *config);
void harness_free(struct harness *h);
// LAUNCHED at the coordinator; agents start now, `stagger_ns` after one another, shims join at once.
void harness_launch(struct harness *h, uint64_t stagger_ns);
// As harness_launch, but nodes of `late` start only by harness_start_agent (or never).
void harness_launch_without(struct harness *h, const struct pm_set *late);
void harness_start_agent(struct harness *h, uint32_t node);

uint64_t harness_now_ns(const struct harness *h);  // real time
struct pm_core *harness_core(struct harness *h, uint32_t node);  // borrowed; NULL once that process is gone
const struct harness_stats *harness_stats(const struct harness *h);
struct harness_rank *harness_rank(struct harness *h, uint32_t node, uint32_t local);
uint32_t harness_ranks_alive(const struct harness *h);
// Every line said on srun's stderr so far, '\n' after each; text the agents died with, likewise.
const char *harness_said(const struct harness *h);
const char *harness_died(const struct harness *h);
bool harness_exited(const struct harness *h, int32_t *ret_status);  // PM_ACTION_EXIT was seen

// Handles the next thing that is due; false: nothing is left to happen.
bool harness_step(struct harness *h);
void harness_run_ms(struct harness *h, uint64_t ms);
// Until pred is true (checked after every step) or max_ms have passed; returns the last pred.
bool harness_run_until(struct harness *h, bool (*pred)(struct harness *h, void *arg), void *arg,
                       uint64_t max_ms);
bool harness_run_until_state(struct harness *h, enum pm_state state, uint64_t max_ms);
bool harness_run_until_exit(struct harness *h, uint64_t max_ms);

// Delivers *event to a core after delay_ns; data, text and set are copied, now_ns is filled in.
void harness_post(struct harness *h, uint32_t node, const struct pm_event *event, uint64_t delay_ns);
// A rank ends by itself (wait_status as of waitpid), its descendants with it.
void harness_rank_ends(struct harness *h, uint32_t node, uint32_t local, int32_t wait_status);
// All ranks that live end with status 0.
void harness_all_ranks_end(struct harness *h);

// Faults. Nodes may be PM_NODE_COORDINATOR.
void harness_kill(struct harness *h, uint32_t node);       // process dies; ranks of an agent die with it
void harness_power_off(struct harness *h, uint32_t node);  // host dies
void harness_pause(struct harness *h, uint32_t node);
void harness_resume(struct harness *h, uint32_t node);
void harness_cut(struct harness *h, uint32_t node);   // from everybody
void harness_heal(struct harness *h, uint32_t node);
// Frames and dials from one node to another are lost (one way) until undone.
void harness_cut_one_way(struct harness *h, uint32_t from, uint32_t to, bool cut);
// Ends the link between two nodes with RST on both sides; nothing if there is none.
void harness_reset_link(struct harness *h, uint32_t a, uint32_t b);
// What ASK_JOB_STATE is answered with, 10 ms later. Default PM_JOB_RUNNING.
void harness_job_state(struct harness *h, enum pm_job_state state);

#endif
