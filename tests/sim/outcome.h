// SPDX-License-Identifier: Apache-2.0
//
// A reference model of the step's end, written from the documents and not from the core: given
// what really happened, which exit statuses are allowed, and how many restarts. It says too much
// where the truth depends on who hears of what first, and never too little.
#ifndef PM_TESTS_SIM_OUTCOME_H
#define PM_TESTS_SIM_OUTCOME_H

#include "tests/sim/sim.h"

struct sim_outcome {
    bool allowed[256];
    bool any;            // whatever the real srun says
    bool lost;           // a node, agent or shim is gone
    struct pm_set nodes_lost; // where
    struct pm_set unfit; // nodes that live, but are out, or no spare any more
    bool user;           // the user, or Slurm, stops the step
    bool slurm_killed;   // slurmstepd killed the step somewhere
    int32_t user_signal;
    bool unfenced;       // a lost node could not be fenced off, and the site requires it
    bool orphan;         // an agent has given up for the orphan timeout
};

struct sim_outcome *sim_outcome_new(struct sim *s);
void sim_outcome_free(struct sim_outcome *o);
void sim_outcome_lost(struct sim *s, uint32_t node);
void sim_outcome_unfit(struct sim *s, uint32_t node);
void sim_outcome_orphan(struct sim *s);
void sim_outcome_user_stops(struct sim *s, int32_t signal);
void sim_outcome_slurm_kills(struct sim *s);
struct sim_life;
// A failure of this life stopped the step although a restart, or a move, was being carried out.
void sim_outcome_stops_a_restart(struct sim *s, const struct sim_life *life);
// The verdict is there: is it one of those allowed?
void sim_outcome_judge(struct sim *s, int32_t status);

#endif
