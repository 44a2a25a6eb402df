// SPDX-License-Identifier: Apache-2.0
//
// The coordinator's part of the core: supervisor.c has the table of transitions and the timers,
// supervisor_memory.c makes and frees it, supervisor_frames.c takes the records of the tree in, supervisor_states.c says
// what each state waits for and does on entry, supervisor_place.c who runs where, supervisor_candidates.c which nodes are
// fit for that, supervisor_blame.c whom failures of ranks are put down to, supervisor_decide.c turns failures into
// decisions, supervisor_again.c follows ranks that start again alone, supervisor_stop.c ends the step,
// supervisor_drain.c looks after ranks that the user's signal ends, supervisor_relaunch.c says what comes after it,
// supervisor_fallen.c finds out why srun has ended it, supervisor_fence_off.c asks the site's program to make a lost node
// harmless, supervisor_digest.c hashes it.
#ifndef PM_CORE_SUPERVISOR_H
#define PM_CORE_SUPERVISOR_H

#include "pmix_server/core/policy.h"
#include "pmix_server/core/spares.h"
#include "pmix_server/wire/exit_codes.h"

// Nodes that have not joined this long after the first one are named.
#define PM_NAME_LATE_MS          5000u
// After Ctrl-C: how long Slurm takes from SIGTERM to SIGKILL (KillWait, 30 s), and some.
#define PM_USER_STOP_MS          35000u
// A rank is gone, or its node is taken out, this long after SIGKILL.
#define PM_REAP_MS               10000u
// Ranks that fail so shortly after one another failed at once.
#define PM_AT_ONCE_MS            500u
// How long we wait for a port of rank 0's node before the world starts without one.
#define PM_PORT_WAIT_MS          500u
#define PM_PLACE_POLL_MS         50u
#define PM_END_MS                10000u
#define PM_CANNOT_END_MS         3000u
// How long srun has to pass on what live nodes wrote, when it waits for lost ones.
#define PM_OUTPUT_MS             5000u
#define PM_END_STEP_KILL_MS      5000u
#define PM_LATE_NAMES_MAX        8u
// Decision lines of one epoch on srun's stderr; the rest is in the log.
#define PM_LINES_MAX             32u
#define PM_EXIT_WAIT_OVER        137 // --wait: plain srun sends the ranks SIGKILL

// What moves the world's life on.
enum pm_input {
    PM_IN_NONE = 0,
    PM_IN_JOINED,    // all nodes have joined, their map is a world
    PM_IN_REFUSED,   // the step cannot form; s->stop_line says why
    PM_IN_STARTED,   // all ranks of the epoch started
    PM_IN_ENDED,     // all ranks of the epoch ended well
    PM_IN_WORLD,     // decision: restart the world
    PM_IN_STOP,      // decision: stop
    PM_IN_USER,      // the user's stop
    PM_IN_HALTED,    // no process of the epoch is left (where we can know)
    PM_IN_PLACED,    // the next epoch has its places
    PM_IN_WAIT_OVER, // --wait
    PM_IN_TIMEOUT,   // the state's timer
    PM_IN_OVER,      // srun has exited
    PM_IN_MAX,
};

// Whether Slurm was asked about the spares, for the decision being carried out.
enum pm_slurm_asked {
    PM_SLURM_NOT_ASKED = 0,
    PM_SLURM_ASKED,
    PM_SLURM_ANSWERED, // or did not
};

// How far the end of the step is (FINISHING, STOPPING).
enum pm_end_stage {
    PM_END_NONE = 0,
    PM_END_WAIT,  // ranks end by themselves or by our signals
    PM_END_KILL,  // they had their time
    PM_END_SHIMS, // shims and agents end, then srun
    PM_END_STEP,  // srun was told to end the step
    PM_END_GIVE_UP,
};

// srun has ended the whole step by itself, or may yet.
struct pm_fall {
    bool by_itself;           // it did, with what killed its tasks, before we had ended it
    bool by_us;               // we had told srun to end the step, and it has
    enum pm_slurm_asked slurm;
    bool given_up;            // since these nodes were reset
    struct pm_set reset;      // that Slurm says have booted anew
    struct pm_set before;     // that were lost when this epoch began, or the map of the next one was made
    uint64_t begun_ns;        // when it did
    uint64_t since_ns;        // the step is being stopped
    bool forbidden;           // the site's fence program has failed, and is required
};

// Rank mode: a rank on its way from its failure to its next life.
struct pm_pending {
    uint32_t rank;
    uint32_t serial; // of struct pm_again; 0: waits for its backoff
    uint64_t decided_ns;
    uint64_t due_ns; // end of the backoff; then, when the start has taken too long
};

struct pm_supervisor {
    enum pm_state state;
    uint64_t deadline_ns; // of the state
    uint64_t timer_ms;    // its length, to wind it up again
    bool isolated;
    struct pm_wanted wanted;
    bool wanted_dirty;
    struct pm_report seen; // union of all reports; its failures are not used
    uint8_t *map_frame;
    size_t map_len;
    char *nodelist;
    bool launched;
    uint32_t nnodes;
    uint32_t ntasks; // of the step
    uint32_t nranks; // of the world; before it is known the same
    // Spares
    uint32_t first_spare;   // nnodes: there is none
    struct pm_places places;
    struct pm_places sizes;
    struct pm_set retired;  // nodes in wanted.lost that live: we took them out
    uint32_t *firsts;       // --pm-blame: how often ranks of a node were first to fail; NULL: never
    struct pm_set blamed;   // nodes of the world that are to be swapped in the restart being carried out
    enum pm_slurm_asked slurm;
    struct pm_set drained;  // spares that Slurm would not use, for this decision
    bool asked;             // the spares were, for the decision being carried out
    struct pm_set movers;   // spares that took over in the decision being carried out
    struct pm_set placed;   // of them, those that have a place in the next world: no rank was started there yet
    uint32_t told_spare;    // who the decision's line said would; UINT32_MAX: nobody
    uint32_t told_nodes;    // how many the next world has, as the decision's line said; 0: it did not
    uint64_t *loss_ns;      // of the nodes that were replaced or done without, oldest first
    uint32_t n_losses;
    // Forming
    uint64_t first_join_ns; // 0: none yet
    uint64_t join_window_ms;
    bool named_late;
    bool checking;     // only answers of --pm-health are missing
    uint64_t ready_ns; // since when only a port is missing; 0: it is not so
    // Times of this epoch and of the restart that led to it; 0: not yet
    uint64_t decided_ns, halted_ns, starting_ns, running_ns;
    bool wireup_logged;
    uint64_t wait_ns;   // --wait, UINT64_MAX: not armed
    uint64_t place_ns;  // backoff over
    uint64_t judged_ns; // the last time that timers were looked at
    // History
    uint32_t restarts;
    uint64_t *restart_ns; // of those in the window, oldest first
    uint32_t n_restart_ns;
    uint32_t start_failures;
    uint32_t streak;            // consecutive restarts
    uint64_t backoff_ms;        // of the last one
    struct pm_history decision; // what the decision in progress was made on
    struct pm_failure cause;    // first failure of it
    struct pm_set
        condemned; // nodes that have to be declared dead when the step of the core is over
    struct pm_set fencing; // lost nodes that the site's fence program runs for
    struct pm_set fence_later; // others, for which it is to run before ranks start elsewhere
    struct pm_set bad_servers; // nodes whose server failure of this epoch is known
    struct pm_pending *pending;
    uint32_t n_pending;
    // Rank mode: what fails while a decision is open joins it, once a rank.
    struct pm_set deciding;   // ranks of the newest decision
    uint64_t decision_ns;     // when it was made; 0: there is none
    uint64_t decision_due_ns; // end of its backoff
    uint32_t lines; // of this epoch
    uint16_t last_port;
    uint64_t last_port_serial;
    // End
    enum pm_end_stage end;
    int32_t status; // our verdict
    bool relaunch;  // the step ends in order to be launched again
    uint32_t n_out; // nodes that the next launch does without, once that is decided
    struct pm_fall fall;
    bool user_stop;
    bool ranks_untold;  // of the user's stop: neither Slurm nor srun signals them, so we do
    int32_t user_signal;
    bool users_verdict;   // the user stopped the step: what srun says counts
    bool step_is_foreign; // ranks may run without us: end the step itself, not only our shims
    char stop_line[2 * PM_TEXT_CAP];
    bool srun_exited;
    int32_t srun_status;
};

// --- supervisor.c
// --------------------------------------------------------------------------------- Looks (state,
// input) up in the table of transitions and goes there. False: that pair does nothing.
bool pm_supervisor_fire(struct pm_core *core, enum pm_input input);
// Follows the conditions as far as they lead, then sends the wanted state if it changed.
void pm_supervisor_settle(struct pm_core *core);
// Winds up the state's timer.
void pm_supervisor_arm(struct pm_core *core, uint64_t ms);
// The wanted state changed; it is sent at the end of the step.
void pm_supervisor_want(struct pm_core *core, enum pm_phase phase);
// Is every node that counts in `set` or dead? All nodes before there is a world, then those that have ranks.
bool pm_supervisor_all_in(struct pm_core *core, const struct pm_set *set);
// "node3, node4 and 12 more": nodes that count and are neither in `set` nor dead. Returns buf.
char *pm_supervisor_missing(struct pm_core *core, const struct pm_set *set, char *buf, size_t cap);
const char *pm_input_name(enum pm_input input);

// --- supervisor_states.c
// -------------------------------------------------------------------------- What each state does
// when it is entered.
extern void (*const pm_supervisor_enter[PM_STATE_MAX])(struct pm_core *core, enum pm_state from);
// The input that the present state has been waiting for, if its condition holds now; else
// PM_IN_NONE.
enum pm_input pm_supervisor_condition(struct pm_core *core);
// The step cannot form or go on: the line that says why is kept, PM_IN_REFUSED comes back.
enum pm_input pm_supervisor_refuse(struct pm_core *core, int32_t status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
// A port for the next MASTER_PORT has come, or was waited for long enough.
bool pm_supervisor_port_is_here(const struct pm_core *core);
// A loss has joined a halt, or a search for places: it has its time, too.
void pm_supervisor_more_time(struct pm_core *core);
// Timers of the forming step and of --wait and backoff. UINT64_MAX: none.
uint64_t pm_supervisor_side_deadline_ns(const struct pm_supervisor *s);
void pm_supervisor_side_timers(struct pm_core *core);
void pm_supervisor_timed_out(struct pm_core *core);
// A rank that is started again alone does not start.
void pm_supervisor_rank_stuck(struct pm_core *core, uint32_t rank);

// --- supervisor_place.c -----------------------------------------------------------------------
// All nodes have said what tasks they have: is that a world? Then everybody gets its map.
enum pm_input pm_supervisor_build_world(struct pm_core *core);
// Finds new places for the ranks of lost nodes, if there are any. NONE: it is done, or spares have to
// answer first; see pm_supervisor_homeless().
enum pm_input pm_supervisor_rehouse(struct pm_core *core);
// How many nodes with ranks are lost, `node` (UINT32_MAX: none) as well.
uint32_t pm_supervisor_homeless(struct pm_core *core, uint32_t node);
// The next world, with `node` (UINT32_MAX: none) lost as well, if lost nodes are replaced as far as there are spares that
// are large enough.
struct pm_housing {
    uint32_t nodes_left;
    uint32_t gone_nodes; // that nobody replaces
    uint32_t gone_ranks; // of those
};
struct pm_housing pm_supervisor_housing(struct pm_core *core, uint32_t node);
// Spares that wait, other than `node`.
uint32_t pm_supervisor_n_spares(struct pm_core *core, uint32_t node);
// Whether it is a node without ranks.
bool pm_supervisor_is_idle(const struct pm_core *core, uint32_t node);
// Who would take the place of lost `node` now; UINT32_MAX: nobody can be named.
uint32_t pm_supervisor_likely_spare(struct pm_core *core, uint32_t node);

// Spares that wait, into a zeroed *ret.
void pm_supervisor_spares(struct pm_core *core, struct pm_set *ret);

// --- supervisor_candidates.c -------------------------------------------------------------------
// FORMING: has a node that lives not yet said how its first health check ended? The state's timer is that check's then.
bool pm_supervisor_awaits_health(struct pm_core *core);
// The names of those nodes. Returns buf.
char *pm_supervisor_unchecked(struct pm_core *core, char *buf, size_t cap);
// A node with ranks is lost: Slurm is asked about the spares, and they how they are, once in a decision.
void pm_supervisor_ask_spares(struct pm_core *core);
void pm_supervisor_node_states(struct pm_core *core, const struct pm_event *event);
// How much longer a state may take for their answers, ms.
uint64_t pm_supervisor_ask_ms(const struct pm_core *core);
// Leaves in `spares` those that may take over now.
void pm_supervisor_keep_ready(struct pm_core *core, struct pm_set *spares);

// --- supervisor_blame.c --------------------------------------------------------------------------
// This failure has led to a restart.
void pm_supervisor_was_first(struct pm_core *core, const struct pm_failure *failure);
// The world starts again, as a rank of `newest` has failed: who is to blame moves, if there are spares. What to say of it
// in buf, or NULL; of several, of `newest` if it is one.
const char *pm_supervisor_swap_blamed(struct pm_core *core, uint32_t newest, char *buf, size_t cap);
// There are too few spares: who is only blamed stays. False: there is nobody.
bool pm_supervisor_pardon(struct pm_core *core);
// These ranks have moved; if their node was only blamed it is out from now on.
void pm_supervisor_retire_blamed(struct pm_core *core, const struct pm_move *move, uint32_t spares_left);

// --- supervisor_decide.c
// How long what failed must have lived for its restart not to be a "consecutive" one.
uint64_t pm_supervisor_healthy_ms(const struct pm_core *core);
// Losses of nodes that count now; those before the window of their budget are forgotten.
uint32_t pm_supervisor_losses_used(struct pm_core *core);
// One more of the budget of lost nodes is spent.
void pm_supervisor_count_loss(struct pm_core *core);
// A failure came in; `more` others came with it.
void pm_supervisor_failure(struct pm_core *core, const struct pm_failure *failure, uint32_t more);
// Is this failure already part of a decision?
bool pm_supervisor_knows(const struct pm_core *core, const struct pm_failure *failure);
void pm_supervisor_left(struct pm_core *core, const struct pm_set *left);
// A line on srun's stderr; not `always`: at most PM_LINES_MAX of an epoch without --pm-verbose.
void pm_supervisor_say_line(struct pm_core *core, const char *line, bool always);

// --- supervisor_again.c ------------------------------------------------------------------------
// Is the rank waiting for its backoff?
bool pm_supervisor_again_waits(const struct pm_supervisor *s, uint32_t rank);
// Is a decision about other ranks open, which this one's failure joins?
bool pm_supervisor_again_joins(const struct pm_supervisor *s, uint32_t rank, uint64_t now_ns);
void pm_supervisor_again_digest(const struct pm_supervisor *s, uint64_t now_ns, struct pm_digest *d);
// A new decision, made on `history`; pm_supervisor_again() then for its rank and all that join it.
void pm_supervisor_again_decide(struct pm_core *core, const struct pm_history *history,
                                uint64_t backoff_ms);
void pm_supervisor_again(struct pm_core *core, uint32_t rank);
// What is left of the decision's backoff.
uint64_t pm_supervisor_again_wait_ms(const struct pm_core *core);
// The world or the step ends: nobody is waited for, and who waited for his backoff stays dead.
void pm_supervisor_again_forget(struct pm_core *core);
// After each report: who runs again?
void pm_supervisor_again_heard(struct pm_core *core);
uint64_t pm_supervisor_again_deadline_ns(const struct pm_supervisor *s);
void pm_supervisor_again_due(struct pm_core *core);

// --- supervisor_fallen.c ---------------------------------------------------------------------------
// An epoch begins, or its map is there: what was lost before stays out of a further launch.
void pm_supervisor_fall_begins(struct pm_core *core);
// A node is not used any more though it lives: it stays out, too.
void pm_supervisor_retire(struct pm_core *core, uint32_t node);
// srun has exited: true while Slurm is asked why.
bool pm_supervisor_awaits_reason(struct pm_core *core);
// The host of each node with ranks has refused the connection: it lives, and all agents are gone.
bool pm_supervisor_all_refused(const struct pm_core *core);
void pm_supervisor_booted(struct pm_core *core, const struct pm_event *event);
// After srun has given the step up: nodes that the next launch does without, into a zeroed *ret.
void pm_supervisor_fallen_out(const struct pm_core *core, struct pm_set *ret);
void pm_supervisor_fall_digest(const struct pm_core *core, uint64_t now_ns, struct pm_digest *d);

// --- supervisor_fence_off.c ----------------------------------------------------------------------
// A node is declared lost: the site's program is asked for, if there is one and the node has ranks.
// Or later, where the node's host has answered that only its agent is gone.
void pm_supervisor_fence_off(struct pm_core *core, uint32_t node, enum pm_cause cause);
// Ranks are about to start elsewhere: asks for those that were put off. True: there were any, and they are to be waited for.
bool pm_supervisor_fence_off_rest(struct pm_core *core);
void pm_supervisor_fenced_off(struct pm_core *core, const struct pm_event *event);
// How much longer a state may take for the programs that are waited for, ms: they take turns.
uint64_t pm_supervisor_fence_off_ms(const struct pm_core *core);

// --- supervisor_relaunch.c ---------------------------------------------------------------------
// Takes over what the launch before has left. 0 or -ENOMEM.
int pm_supervisor_inherit(struct pm_core *core);
// Can the step be launched again if `node` (UINT32_MAX: none) is lost as well? *ret_why: why not, though the user
// wants it; else NULL.
bool pm_supervisor_can_relaunch(struct pm_core *core, uint32_t node, const char **ret_why);
// How many nodes of the step the next launch would do without, with `node` unless it is UINT32_MAX.
uint32_t pm_supervisor_n_out(const struct pm_core *core, uint32_t node);
void pm_supervisor_srun_exited(struct pm_core *core, int32_t wait_status);
// srun has ended, but something of this launch may still run where we do not see it.
bool pm_supervisor_holds(struct pm_core *core);
// The launch is over: is it followed by another one? Then that has been said and done.
bool pm_supervisor_relaunches(struct pm_core *core);

// --- supervisor_stop.c -------------------------------------------------------------------------
void pm_supervisor_enter_finishing(struct pm_core *core, enum pm_state from);
void pm_supervisor_enter_stopping(struct pm_core *core, enum pm_state from);
void pm_supervisor_enter_done(struct pm_core *core, enum pm_state from);
bool pm_supervisor_quiet(struct pm_core *core);
// A lost node more is to be fenced off: ranks and nodes are waited for as long as that may take, unless they are anyway.
void pm_supervisor_stop_waits(struct pm_core *core);
// The next stage of the end: its wait is over, or its time.
void pm_supervisor_end_next(struct pm_core *core, enum pm_end_stage stage);
void pm_supervisor_user_stop(struct pm_core *core, int32_t signal);
// Ranks get SIGTERM, and SIGKILL after the grace.
void pm_supervisor_end_ranks(struct pm_core *core);
// srun has passed on what live nodes wrote.
void pm_supervisor_output_read(struct pm_core *core);

// --- supervisor_drain.c ------------------------------------------------------------------------
// These ranks take part in nothing any more: what waits for them fails.
void pm_supervisor_nobody_waits_for(struct pm_core *core, const struct pm_set *ranks);
// How long ranks may drain, ms, when it is not Slurm's affair.
uint64_t pm_supervisor_drain_ms(const struct pm_core *core);
// srun was told to stop. Ranks that Slurm has signalled, and that have no bound, are ended.
void pm_supervisor_user_insists(struct pm_core *core, int32_t signal);
// --wait is over.
void pm_supervisor_drain_wait_over(struct pm_core *core);
// A shim was lost when its rank drained: only the rank is.
bool pm_supervisor_drain_keeps_node(const struct pm_supervisor *s, const struct pm_failure *failure);
// A failure has joined a stop; does nothing unless ranks drain.
void pm_supervisor_drain_failure(struct pm_core *core, const struct pm_failure *failure);

#endif
