// SPDX-License-Identifier: Apache-2.0
//
// The invariants of doc/design/invariants.md, watched from outside the cores: what was done is compared
// with what was true. Models and faults call these as things happen; each looks only at what that
// touches. Every 1,024 events everything is looked at again.
//
// check.c keeps the truth about every life of every rank; check_decide.c watches decisions (1, 3,
// 4), check_lease.c who runs and who stands (2, 10), check_judge.c who is declared dead (7, 8),
// check_fence.c fences and other questions to the tree (5, 9), check_fence_off.c the site's fence program (15),
// check_end.c what is left (5, 6).
#ifndef PM_TESTS_SIM_CHECK_H
#define PM_TESTS_SIM_CHECK_H

#include "tests/sim/sim.h"

#define SIM_FULL_CHECK_EVENTS 1024

// One incarnation of a rank, and how it really ended.
struct sim_life {
    uint32_t rank, node, epoch, incarnation;
    int32_t status;
    bool ended;
    bool meddled;   // a signal that is no part of the program's own fate: ours, Slurm's, its shim's
    bool exec;      // the program could not be started
    bool connected, finalized;
    bool called_abort;
    bool aborted;   // before anybody meddled
    int32_t abort_code;
    bool slurm;     // of the signals, one was Slurm's
    bool decided;
    uint64_t started_ns;
    uint64_t ended_ns;
};

struct sim_watch { // per slot
    struct pm_set dead, dead_before; // whom its core knew to be dead after this step and the last
    uint64_t gone_ns;     // 0, or when its loss was declared
    uint64_t both_ns;     // when last no process of it could act for a lease, see check_lease.c
    uint64_t lease_set_ns;
    uint64_t lease_check_ns; // of the check that counts
    uint32_t firsts;      // decisions to restart that began with a rank there
    uint32_t n_troubles;  // what disturbs it now
    uint32_t parent, attach; // who took it last, and at which of its attachments
    bool shim_paused;     // at any time: its rank could not be reaped then
    bool excused;         // it was really lost, or a part of it
};

// Participants of a fence that failed for nothing but that they had not been started.
struct sim_unstarted {
    struct pm_set ranks;
    uint32_t epoch;
};

struct sim_check {
    struct sim_life *lives;
    uint32_t n_lives, cap_lives;
    uint32_t *life_of_rank; // the newest, SIM_NONE: none yet
    struct sim_watch *watch; // per slot
    uint32_t n; // slots
    uint32_t n_declared;
    uint32_t worlds_restarted; // decisions
    uint32_t worlds_moved;     // decisions to move a lost node's ranks, or to do without; not those before the first start
    bool world_started;        // for the first time
    uint32_t ranks_restarted;  // decisions, not ranks
    uint32_t *again; // per rank: decisions to start it again alone
    struct pm_set deciding;    // ranks of the newest of them
    struct pm_set on_their_way; // of those, whoever is not known to run again
    uint64_t rank_decision_ns; // on the coordinator's clock
    uint64_t world_decided_ns; // 0: no restart is under way
    uint32_t last_world_epoch; // that was decided to end, SIM_NONE: none
    struct pm_set drained;     // as the coordinator was told last
    struct pm_set refused;     // lost nodes whose host refused the connection
    struct pm_set fenced;      // nodes that the site's program was asked for
    const char *state;         // of the coordinator, by what it has logged; its core may be further by the end of a step
    struct pm_set fencing;     // nodes that the site's program is at
    uint32_t fencing_epoch;    // of the coordinator, when it asked for the last of them
    struct sim_unstarted unstarted[SIM_GROUP_MAX];
    bool job_suspended;
    uint64_t next_full;
    uint32_t n_troubled;  // slots that are disturbed now
    uint64_t troubled_ns; // the last time that anything was disturbed
};

struct sim_check *sim_check_new(struct sim *s);
void sim_check_free(struct sim_check *c);

// --- what happens ------------------------------------------------------------------------------
void sim_check_event(struct sim *s); // after every event
void sim_check_action(struct sim *s, uint32_t slot, const struct pm_action *a); // before it is done
void sim_check_step(struct sim *s, uint32_t slot);
// A frame of a node that this core has known to be dead: the digest before, 0 for all others; and
// after it.
uint64_t sim_check_frame_of_dead(struct sim *s, uint32_t slot, const struct pm_event *event);
void sim_check_unmoved(struct sim *s, uint32_t slot, const struct pm_event *event, uint64_t before);
void sim_check_fork(struct sim *s, uint32_t node, uint32_t local);
void sim_check_never_ran(struct sim *s, uint32_t node, const struct sim_start *start, int32_t status);
void sim_check_rank_ends(struct sim *s, uint32_t node, uint32_t local);
void sim_check_doomed(struct sim *s, uint32_t node, uint32_t local);  // SIGKILL is pending
void sim_check_signalled(struct sim *s, uint32_t node, uint32_t local, int32_t signal);
void sim_check_stopped(struct sim *s, uint32_t node, uint32_t local, bool stop);
void sim_check_aborts(struct sim *s, uint32_t node, uint32_t local, int32_t status);
void sim_check_connected(struct sim *s, uint32_t node, uint32_t local, bool finalized);
void sim_check_relaunch(struct sim *s); // nothing of this launch may run from now on
void sim_check_slurm_kills(struct sim *s, uint32_t node, uint32_t local);
void sim_check_proc_ends(struct sim *s, uint32_t slot);
void sim_check_shim_killed(struct sim *s, uint32_t node, uint32_t local);
void sim_check_shim_paused(struct sim *s, uint32_t node, uint32_t local);
void sim_check_host_off(struct sim *s, uint32_t node, uint32_t local);
void sim_check_host_suspended(struct sim *s, uint32_t node);
// Slurm calls the job suspended, or running again.
void sim_check_job(struct sim *s);
// The agent ends since it was an orphan for too long.
void sim_check_orphan(struct sim *s, uint32_t node);
void sim_check_healthy(struct sim *s, uint32_t node); // health.c: a rank is about to start there
// Slurm has told the coordinator which nodes it has drained; NULL: it did not answer.
void sim_check_drained(struct sim *s, const struct pm_set *drained);
void sim_check_move(struct sim *s, uint32_t from, uint32_t to); // health.c
void sim_check_first_world(struct sim *s);
void sim_check_refused(struct sim *s, const struct pm_log *lost); // why a node was declared lost
void sim_check_fencing(struct sim *s, uint32_t node, bool begins);
void sim_check_leaves(struct sim *s, uint32_t node); // its ranks start elsewhere, or not any more
void sim_check_start_fenced(struct sim *s, uint32_t node, const struct pm_action *a);
void sim_check_launch_fenced(struct sim *s);
// Something that a node is not to blame for begins or ends: paused, cut, slow.
void sim_check_disturbed(struct sim *s, uint32_t slot, bool begins);
void sim_check_cut(struct sim *s, uint32_t from, uint32_t to, bool is_cut);
void sim_check_lease_due(struct sim *s, uint32_t node); // an event of its own: SIM_EVENT_LEASE
bool sim_check_end(struct sim *s); // the step is over, and everything has had its time

// --- for the checkers --------------------------------------------------------------------------
struct sim_life *sim_life_of(struct sim *s, uint32_t rank, uint32_t epoch, uint32_t incarnation);
struct sim_life *sim_life_now(struct sim *s, uint32_t node, uint32_t local);
bool sim_life_failed(const struct sim_life *life); // ended, not as meant, and not by us
uint64_t sim_disturbed_ns(const struct sim *s, uint32_t slot); // in all, so far
void sim_check_decision(struct sim *s, const struct pm_log *log);
void sim_check_again(struct sim *s, const struct pm_log *log);
void sim_check_lost(struct sim *s, const struct pm_log *log);
void sim_check_blamed(struct sim *s, uint32_t node);
void sim_check_known(struct sim *s, uint32_t slot); // whom its core knows to be dead, after a step
void sim_check_send(struct sim *s, uint32_t slot, const struct pm_action *a);
void sim_check_done(struct sim *s, uint32_t node, const struct pm_action *a); // fence, modex
void sim_check_unstarted(struct sim *s, uint32_t rank, uint32_t epoch); // this one starts
void sim_check_drop(struct sim *s, uint32_t node, uint32_t epoch);
void sim_check_lease_set(struct sim *s, uint32_t node, const struct pm_action *a);
void sim_check_pause(struct sim *s, uint32_t node);
void sim_check_start_lease(struct sim *s, uint32_t node, uint32_t rank);
void sim_check_placing(struct sim *s);
bool sim_lease_excused(struct sim *s, uint32_t node); // nobody there could act for its lease lately
void sim_check_dead_leases(struct sim *s); // often, when somebody was declared dead
void sim_check_leases(struct sim *s);    // full
void sim_check_decisions(struct sim *s); // full
void sim_check_queues(struct sim *s);    // full

#endif
