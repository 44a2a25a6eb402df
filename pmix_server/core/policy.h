// SPDX-License-Identifier: Apache-2.0
//
// What a failure leads to: a pure function of the failure, what happened before and the options, as
// a table of rules of which the first that fits decides. The reason is a piece of a sentence.
#ifndef PM_CORE_POLICY_H
#define PM_CORE_POLICY_H

#include "pmix_server/core/record.h"

enum pm_verdict_action {
    PM_VERDICT_NONE = 0,
    PM_VERDICT_IGNORE,
    PM_VERDICT_NOTIFY,
    PM_VERDICT_RESTART_RANK,
    PM_VERDICT_RESTART_WORLD,
    PM_VERDICT_MOVE_TO_SPARE, // the world, with this node's ranks on a spare
    PM_VERDICT_SHRINK,        // the world, without this node's ranks
    PM_VERDICT_RELAUNCH,      // the step, on other nodes of the job
    PM_VERDICT_STOP,
    PM_VERDICT_MAX,
};
// "restart-world", ...: for logs.
const char *pm_verdict_name(enum pm_verdict_action action);

// Worlds in a row that died younger than --pm-min-uptime, after which the step stops.
#define PM_START_FAILURES_MAX 3u

struct pm_history {
    uint32_t restarts;       // used, within the window if there is one
    uint32_t start_failures; // in a row, this one included
    bool paid; // it joins a decision that is being carried out: it costs nothing further
    bool user_stop;
    bool world_over; // all ranks of the world had ended well
    bool place_lost; // nodes were lost when their ranks had ended well, and there is no next world without them
    bool unjoined;   // the lost node had not joined with all its tasks
    bool no_ranks;   // the lost node has no rank: it waited as a spare
    uint32_t spares; // that wait now and can take ranks
    bool no_house;   // there is not a spare that is large enough for each of the homeless
    uint32_t homeless; // nodes of the world that are lost, this one included
    uint32_t nodes_left; // that the next world would have: spares take the places of as many as they can
    bool can_relaunch; // the step can be launched again on other nodes
    const char *no_relaunch; // why it cannot, although the user wants it; NULL: he does not, or it can
    uint32_t node_losses; // replaced or done without, within the window if there is one; this one not included
};

struct pm_verdict {
    enum pm_verdict_action action;
    bool escalated;        // asked for rank, got world
    char why[PM_TEXT_CAP]; // "" where the action says all
};

struct pm_verdict pm_policy(const struct pm_failure *failure, const struct pm_history *history,
                            const struct pm_options *options);
// May the world go on with so many nodes, where it had more?
bool pm_policy_may_shrink(const struct pm_options *options, uint32_t nodes_left);
// How long to wait before the n-th consecutive restart (n counts from 1), ms.
uint64_t pm_policy_backoff_ms(const struct pm_options *options, uint32_t n);
// What plain srun would exit with for this failure; 1 where our own machinery was lost.
int32_t pm_policy_status(const struct pm_failure *failure);
// Exit code, or 128 + signal, of a waitpid status.
int32_t pm_policy_exit_of(int32_t wait_status);

// --- sentence.c: what a person reads -----------------------------------------------------------
struct pm_story {
    const struct pm_failure *failure;
    const struct pm_verdict *verdict;
    const char *host; // name of the failure's node
    uint32_t more;    // ranks that failed with it
    uint32_t nranks, nnodes;
    uint32_t restart; // number of the restart that follows, from 1
    uint64_t backoff_ms;
    const char *spare;    // who will most likely take the ranks; NULL: nobody can be named yet
    uint32_t n_moving;    // ranks of the lost node; 0: none has started yet
    uint32_t spares_left; // then
    const char *blame;    // whom --pm-blame has swapped, or would have; NULL: nobody
    uint32_t launch;      // number of the next launch, the first is 0
    uint32_t gone_ranks, gone_nodes; // that the next world has no more; no ranks: none has started yet
};
// "rank 17 (node042, pid 8123) killed by signal 9 after 12m04s". Returns buf.
char *pm_sentence_failure(const struct pm_story *story, char *buf, size_t cap);
// The whole line, "pm-supervise: " included. Returns buf.
char *pm_sentence_decision(const struct pm_story *story, const struct pm_options *options,
                           char *buf, size_t cap);

#endif
