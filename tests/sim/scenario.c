// SPDX-License-Identifier: Apache-2.0
//
// See scenario.h. The order is that of the world's life; names begin with the state.
#include "tests/sim/scenario.h"

#define COORDINATOR PM_NODE_COORDINATOR
#define NOW(...)    {PM_STATE_NONE, 0, __VA_ARGS__}
#define IN(state, epoch, ...) {PM_STATE_##state, epoch, __VA_ARGS__}
#define FAULT(name, ...)      {.kind = SIM_FAULT_##name, __VA_ARGS__}

const struct scenario scenarios[] = {
    // --- FORMING ---------------------------------------------------------------------------------
    {"forming-all-joined", "FORMING, all agents joined: STARTING(0); links and views are shown",
     .show = SHOW_TREE},
    {"forming-deep-tree", "joins flow up as aggregates, the wanted state down the same way",
     .nodes = 5, .fanout = 2, .show = SHOW_TREE},
    {"forming-node-never-comes", "FORMING, a node does not join in time: STOPPING, named",
     .faults = {NOW(0, FAULT(HOST_LOST, .node = 1))}},
    {"forming-node-lost", "FORMING, a node that had joined is lost: no spare, STOPPING",
     .nodes = 3,
     .faults = {NOW(0, FAULT(HOST_LOST, .node = 2)), NOW(1000, FAULT(HOST_LOST, .node = 1))}},
    {"forming-agent-killed", "FORMING, an agent dies: STOPPING",
     .nodes = 3,
     .faults = {NOW(0, FAULT(HOST_LOST, .node = 2)), NOW(500, FAULT(AGENT_KILLED, .node = 1))}},
    {"forming-late-node", "FORMING waits for a node that is only slow",
     .faults = {NOW(0, FAULT(NODE_CUT, .node = 1, .ms = 3000))}},
    {"forming-user-stop", "FORMING, the user stops: STOPPING",
     .faults = {NOW(0, FAULT(HOST_LOST, .node = 1)),
                NOW(2000, FAULT(USER_STOP, .node = COORDINATOR, .arg = 15))}},

    // --- STARTING --------------------------------------------------------------------------------
    {"starting-rank-dies", "STARTING, a rank dies at once: HALTING, the world once more",
     .faults = {IN(STARTING, 0, 0, FAULT(START_FAILS, .node = 1, .arg = 2))}},
    {"starting-exec-fails", "a failed exec is never restarted: STOPPING with its status",
     .faults = {IN(STARTING, 0, 0, FAULT(START_FAILS, .node = 1, .arg = 0))}},
    {"starting-fork-fails", "STARTING, the shim cannot fork", .show = SHOW_LOCAL,
     .faults = {IN(STARTING, 0, 0, FAULT(START_FAILS, .node = 1, .arg = 1))}},
    {"starting-rank-mode-dies", "STARTING, mode rank: that rank alone, and the state stays",
     .mode = PM_MODE_RANK, .without_pmix = true,
     .faults = {IN(STARTING, 0, 0, FAULT(START_FAILS, .node = 1, .arg = 2))}},
    {"starting-agent-killed", "STARTING, an agent is lost: STOPPING, for there is no spare",
     .faults = {IN(STARTING, 0, 1, FAULT(AGENT_KILLED, .node = 1))}},
    {"starting-node-lost", "STARTING, a node is lost: after T and its lease STOPPING",
     .faults = {IN(STARTING, 0, 1, FAULT(HOST_LOST, .node = 1))}},
    {"starting-server-dies", "STARTING, a PMIx server dies before a rank has started: replaced, once",
     .faults = {IN(STARTING, 0, 1, FAULT(SERVER_KILLED, .node = 1, .arg = 0))}},
    {"starting-agent-paused", "STARTING goes on when an agent paused for less than T/2 does",
     .faults = {IN(STARTING, 0, 1, FAULT(AGENT_PAUSED, .node = 1, .ms = 900))}},
    {"starting-user-stop", "STARTING, the user stops: STOPPING, nothing is started any more",
     .faults = {IN(STARTING, 0, 1, FAULT(USER_STOP, .node = COORDINATOR, .arg = 15))}},

    // --- RUNNING: ranks ----------------------------------------------------------------------------
    {"running-all-end-well", "RUNNING, all ranks ended with 0: FINISHING, verdict 0", .per_node = 2,
     .show = SHOW_LOCAL | SHOW_FENCES},
    {"running-rank-killed", "RUNNING, a rank dies by a signal: event, SIGTERM, HALTING, epoch 1",
     .show = SHOW_LOCAL | SHOW_FENCES,
     .faults = {IN(RUNNING, 0, 1000, FAULT(RANK_KILLED, .node = 1, .arg = 9))}},
    {"running-rank-exits", "RUNNING, a rank exits with 3: the world once more",
     .faults = {IN(RUNNING, 0, 1000, FAULT(RANK_EXITS, .node = 1, .arg = 3))}},
    {"running-rank-aborts", "RUNNING, PMIx_Abort: a failure with cause abort",
     .faults = {IN(RUNNING, 0, 1000, FAULT(RANK_ABORTS, .node = 1, .arg = 2))}},
    {"running-rank-leaves", "status 0 without PMIx_Finalize: told; a failure when a fence waits",
     .show = SHOW_FENCES,
     .faults = {IN(RUNNING, 0, 300, FAULT(RANK_LEAVES, .node = 1))}},
    {"running-fatal-exit", "RUNNING, an exit code of --pm-fatal-exit: STOPPING with it",
     .faults = {IN(RUNNING, 0, 1000, FAULT(RANK_EXITS, .node = 1, .arg = 93))}},
    {"running-budget-used", "RUNNING, failure without restarts left: STOPPING with its status",
     .restarts = 1,
     .faults = {IN(RUNNING, 0, 1000, FAULT(RANK_EXITS, .node = 1, .arg = 3)),
                IN(RUNNING, 1, 1000, FAULT(RANK_EXITS, .node = 0, .arg = 4))}},
    {"running-no-restarts", "RUNNING, failure with --pm-max-restarts=0: STOPPING",
     .restarts = SCENARIO_ZERO,
     .faults = {IN(RUNNING, 0, 1000, FAULT(RANK_KILLED, .node = 1, .arg = 11))}},
    {"running-dies-young", "three worlds in a row younger than --pm-min-uptime: STOPPING",
     .min_uptime_ms = 5000, .restarts = 9,
     .faults = {IN(RUNNING, 0, 200, FAULT(RANK_KILLED, .node = 1, .arg = 11)),
                IN(RUNNING, 1, 200, FAULT(RANK_KILLED, .node = 1, .arg = 11)),
                IN(RUNNING, 2, 200, FAULT(RANK_KILLED, .node = 1, .arg = 11))}},
    {"running-two-die-at-once", "failures before PLACING join one decision",
     .nodes = 3,
     .faults = {IN(RUNNING, 0, 900, FAULT(NODE_SLOW, .node = COORDINATOR, .arg = 20, .ms = 500)),
                IN(RUNNING, 0, 1000, FAULT(RANK_KILLED, .node = 1, .arg = 11)),
                IN(RUNNING, 0, 1000, FAULT(RANK_KILLED, .node = 2, .arg = 6))}},
    {"running-all-die-at-once", "all ranks die together: one decision", .nodes = 2, .per_node = 2,
     .faults = {IN(RUNNING, 0, 1000, FAULT(MANY_DIE, .node = 0, .arg = 2))}},
    {"running-rank-mode", "mode rank, not connected to PMIx: that rank alone, state stays RUNNING",
     .mode = PM_MODE_RANK, .without_pmix = true,
     .faults = {IN(RUNNING, 0, 1000, FAULT(RANK_EXITS, .node = 1, .arg = 3))}},
    {"running-rank-mode-connected", "mode rank, connected to PMIx: escalated to the world",
     .mode = PM_MODE_RANK,
     .faults = {IN(RUNNING, 0, 1000, FAULT(RANK_EXITS, .node = 1, .arg = 3))}},
    {"running-rank-mode-backoff", "mode rank: the second restart in a row waits for its backoff",
     .mode = PM_MODE_RANK, .without_pmix = true, .backoff_ms = 500,
     .faults = {IN(RUNNING, 0, 500, FAULT(RANK_EXITS, .node = 1, .arg = 3)),
                IN(RUNNING, 0, 900, FAULT(RANK_EXITS, .node = 1, .arg = 3))}},
    {"running-notify", "mode notify: survivors are told, nothing restarts, the status is kept",
     .mode = PM_MODE_NOTIFY,
     .faults = {IN(RUNNING, 0, 1000, FAULT(RANK_EXITS, .node = 1, .arg = 3))}},
    {"running-rank-hangs", "a rank hangs: nothing sees it but the user, who stops the step",
     .faults = {IN(RUNNING, 0, 1000, FAULT(RANK_HANGS, .node = 1)),
                IN(RUNNING, 0, 9000, FAULT(SLURM_STOP, .node = COORDINATOR, .arg = 15))}},
    {"running-fence-survives-reset", "a reset link: the tree is repaired, the fence succeeds",
     .nodes = 3, .fanout = 2, .show = SHOW_TREE | SHOW_FENCES,
     .faults = {IN(RUNNING, 0, 1000, FAULT(LINK_RESET, .node = 0, .peer = 2))}},
    {"running-wait-option", "srun --wait: after the first end the rest has its time, then STOPPING",
     .wait_ms = 1000, .faults = {IN(RUNNING, 0, 500, FAULT(RANK_HANGS, .node = 1))},
     .without_pmix = true},

    // --- RUNNING: servers, shims, agents -----------------------------------------------------------
    {"running-server-killed", "RUNNING, a PMIx server dies: the world once more",
     .faults = {IN(RUNNING, 0, 1000, FAULT(SERVER_KILLED, .node = 1, .arg = 0))}},
    {"running-server-stuck", "RUNNING, a PMIx server is stuck: its watchdog finds it",
     .faults = {IN(RUNNING, 0, 300, FAULT(SERVER_STUCK, .node = 1, .arg = 0))}},
    {"running-shim-killed", "RUNNING, a shim dies: its place is lost, STOPPING",
     .faults = {IN(RUNNING, 0, 1000, FAULT(SHIM_KILLED, .node = 1))}},
    {"running-agent-killed", "RUNNING, an agent dies: a reset, two sides dial, refused twice: dead",
     .nodes = 3, .show = SHOW_TREE,
     .faults = {IN(RUNNING, 0, 1000, FAULT(AGENT_KILLED, .node = 1))}},
    {"running-agent-paused-shortly", "an agent paused for less than T/2 is never declared dead",
     .life_ms = 4000, .faults = {IN(RUNNING, 0, 1000, FAULT(AGENT_PAUSED, .node = 1, .ms = 900))}},
    {"running-agent-paused", "paused for long: shims stop the ranks at the lease's end; declared "
     "dead; refused when it comes back; its ranks die",
     .nodes = 3, .faults = {IN(RUNNING, 0, 1000, FAULT(AGENT_PAUSED, .node = 1, .ms = 3000))}},
    {"running-heartbeats", "pings, grants and what they become when a child falls silent",
     .show = SHOW_PINGS | SHOW_TREE, .life_ms = 1000,
     .faults = {IN(RUNNING, 0, 500, FAULT(AGENT_PAUSED, .node = 1, .ms = 700))}},

    // --- RUNNING: hosts and network -----------------------------------------------------------------
    {"running-node-lost", "a silent node: suspected, probed, declared dead after T, lease over",
     .nodes = 3, .show = SHOW_TREE, .faults = {IN(RUNNING, 0, 1000, FAULT(HOST_LOST, .node = 1))}},
    {"running-node-crashed", "a reset, and nobody answers the dials: wait for the lease",
     .nodes = 3, .faults = {IN(RUNNING, 0, 1000, FAULT(HOST_CRASHED, .node = 1))}},
    {"running-node-rebooted", "silent, then refuses: dead without waiting for T",
     .nodes = 3, .faults = {IN(RUNNING, 0, 1000, FAULT(HOST_REBOOTED, .node = 1, .ms = 700))}},
    {"running-inner-node-lost", "an inner node is lost: its orphans dial their grandparent",
     .nodes = 5, .fanout = 2, .show = SHOW_TREE,
     .faults = {IN(RUNNING, 0, 1000, FAULT(HOST_LOST, .node = 0))}},
    {"running-rack-lost", "more than max(2, 25 %) silent at once: isolation is assumed first",
     .nodes = 5, .orphan_ms = 5000,
     .faults = {IN(RUNNING, 0, 1000, FAULT(RACK_LOST, .node = 1, .arg = 3))}},
    {"running-link-cut-shortly", "a link cut for less than T/2: nobody is dead", .life_ms = 4000,
     .faults = {IN(RUNNING, 0, 1000, FAULT(LINK_CUT, .node = 1, .peer = COORDINATOR, .ms = 800))}},
    {"running-link-cut", "an inner link cut: the child finds another way, nobody is dead",
     .nodes = 3, .fanout = 2, .show = SHOW_TREE, .life_ms = 6000,
     .faults = {IN(RUNNING, 0, 1000, FAULT(LINK_CUT, .node = 2, .peer = 0, .ms = 4000))}},
    {"running-parent-cut-off", "a parent that is cut off has nothing to grant: its child finds another",
     .nodes = 3, .fanout = 2, .show = SHOW_TREE, .life_ms = 6000,
     .faults = {IN(RUNNING, 0, 1000, FAULT(LINK_CUT, .node = 0, .peer = COORDINATOR, .ms = 1900))}},
    {"running-one-way-cut", "grants do not arrive: standing still for T/2 counts as silent",
     .nodes = 3, .show = SHOW_TREE, .life_ms = 6000,
     .faults = {IN(RUNNING, 0, 1000,
                   FAULT(ONE_WAY_CUT, .node = COORDINATOR, .peer = 1, .ms = 1800))}},
    {"running-mass-silence", "mass silence: nobody is declared dead; all come back and go on",
     .nodes = 5, .orphan_ms = 20000, .life_ms = 8000,
     .faults = {IN(RUNNING, 0, 1000, FAULT(MASS_SILENCE, .node = 1, .arg = 4, .ms = 5000))}},
    {"running-job-suspended", "Slurm says suspended: nobody is declared dead, the world goes on",
     .nodes = 4, .life_ms = 4000,
     .faults = {IN(RUNNING, 0, 1000, FAULT(JOB_SUSPENDED, .node = COORDINATOR, .ms = 20000))}},
    {"running-job-suspended-small", "the same where all nodes are only one: Slurm is asked too",
     .nodes = 1, .per_node = 2, .life_ms = 4000,
     .faults = {IN(RUNNING, 0, 1000, FAULT(JOB_SUSPENDED, .node = COORDINATOR, .ms = 20000))}},

    // --- RUNNING: the coordinator, the user ---------------------------------------------------------
    {"running-coordinator-paused", "leases end, ranks stop; the coordinator comes back: they go on",
     .life_ms = 6000,
     .faults = {IN(RUNNING, 0, 1000, FAULT(COORD_PAUSED, .node = COORDINATOR, .ms = 4000))}},
    {"running-coordinator-cut", "the coordinator is isolated: it declares nobody; ranks stop, go on",
     .nodes = 3, .life_ms = 6000,
     .faults = {IN(RUNNING, 0, 1000, FAULT(COORD_CUT, .node = COORDINATOR, .ms = 5000))}},
    {"running-coordinator-lost", "cut for good: ranks are killed after the orphan timeout",
     .nodes = 3, .orphan_ms = 5000,
     .faults = {IN(RUNNING, 0, 1000, FAULT(COORD_CUT, .node = COORDINATOR))}},
    {"running-coordinator-killed", "the coordinator's address refuses the connection: ranks are killed at once",
     .faults = {IN(RUNNING, 0, 1000, FAULT(COORD_KILLED, .node = COORDINATOR))}},
    {"running-user-stop", "RUNNING, SIGTERM to srun: STOPPING",
     .faults = {IN(RUNNING, 0, 1000, FAULT(USER_STOP, .node = COORDINATOR, .arg = 15))}},
    {"running-slurm-stop", "RUNNING, scancel: ranks end by Slurm's signal, nothing restarts",
     .faults = {IN(RUNNING, 0, 1000, FAULT(SLURM_STOP, .node = COORDINATOR, .arg = 15))}},

    // --- HALTING -----------------------------------------------------------------------------------
    {"halting-rank-dies", "HALTING, a further failure: joins the same decision", .nodes = 3,
     .faults = {IN(RUNNING, 0, 900, FAULT(NODE_SLOW, .node = COORDINATOR, .arg = 20, .ms = 500)),
                IN(RUNNING, 0, 1000, FAULT(RANK_KILLED, .node = 1, .arg = 11)),
                IN(HALTING, 0, 2, FAULT(RANK_KILLED, .node = 2, .arg = 6))}},
    {"halting-rank-ends-late", "HALTING, a rank that dies after the word is our doing, no failure",
     .nodes = 3,
     .faults = {IN(RUNNING, 0, 1000, FAULT(RANK_KILLED, .node = 1, .arg = 11)),
                IN(HALTING, 0, 2, FAULT(RANK_EXITS, .node = 2, .arg = 93))}},
    {"halting-fatal-exit", "HALTING, a fatal exit joins: STOPPING after all", .nodes = 3,
     .faults = {IN(RUNNING, 0, 900, FAULT(NODE_SLOW, .node = COORDINATOR, .arg = 20, .ms = 500)),
                IN(RUNNING, 0, 1000, FAULT(RANK_KILLED, .node = 1, .arg = 11)),
                IN(RUNNING, 0, 1001, FAULT(RANK_EXITS, .node = 2, .arg = 93))}},
    {"halting-stubborn-rank", "HALTING, SIGTERM is ignored: SIGKILL after the grace",
     .grace_ms = 1000,
     .faults = {IN(RUNNING, 0, 999, FAULT(RANK_STUBBORN, .node = 0)),
                IN(RUNNING, 0, 1000, FAULT(RANK_KILLED, .node = 1, .arg = 11))}},
    {"halting-unreapable-rank", "HALTING, not reaped 10 s after SIGKILL: its node is taken out",
     .grace_ms = 1000,
     .faults = {IN(RUNNING, 0, 998, FAULT(RANK_STUBBORN, .node = 0)),
                IN(RUNNING, 0, 999, FAULT(RANK_UNREAPABLE, .node = 0, .ms = 40000)),
                IN(RUNNING, 0, 1000, FAULT(RANK_KILLED, .node = 1, .arg = 11))}},
    {"halting-slow-reap", "HALTING, reaped 5 s after SIGKILL: the world starts once more",
     .grace_ms = 1000,
     .faults = {IN(RUNNING, 0, 998, FAULT(RANK_STUBBORN, .node = 0)),
                IN(RUNNING, 0, 999, FAULT(RANK_UNREAPABLE, .node = 0, .ms = 6000)),
                IN(RUNNING, 0, 1000, FAULT(RANK_KILLED, .node = 1, .arg = 11))}},
    {"halting-node-lost", "HALTING, a node is lost: joins; its lease is waited for; no spare",
     .faults = {IN(RUNNING, 0, 1000, FAULT(RANK_KILLED, .node = 1, .arg = 11)),
                IN(HALTING, 0, 0, FAULT(HOST_LOST, .node = 0))}},
    {"halting-agent-paused", "HALTING waits for an agent that is only paused for a while",
     .faults = {IN(RUNNING, 0, 1000, FAULT(RANK_KILLED, .node = 1, .arg = 11)),
                IN(HALTING, 0, 0, FAULT(AGENT_PAUSED, .node = 0, .ms = 900))}},
    {"halting-link-reset", "HALTING, a link is reset: records come whole on the new one",
     .nodes = 3, .fanout = 2, .show = SHOW_TREE,
     .faults = {IN(RUNNING, 0, 1000, FAULT(RANK_KILLED, .node = 1, .arg = 11)),
                IN(HALTING, 0, 0, FAULT(LINK_RESET, .node = 0, .peer = 2))}},
    {"halting-user-stop", "HALTING, the user stops: STOPPING, no restart",
     .faults = {IN(RUNNING, 0, 1000, FAULT(RANK_KILLED, .node = 1, .arg = 11)),
                IN(HALTING, 0, 2, FAULT(USER_STOP, .node = COORDINATOR, .arg = 15))}},

    // --- PLACING -----------------------------------------------------------------------------------
    {"placing-backoff", "PLACING waits for the backoff of the second restart in a row",
     .backoff_ms = 1000,
     .faults = {IN(RUNNING, 0, 500, FAULT(RANK_KILLED, .node = 1, .arg = 11)),
                IN(RUNNING, 1, 500, FAULT(RANK_KILLED, .node = 0, .arg = 11))}},
    {"placing-agent-paused", "PLACING, a node is suspect: waits until it is heard again",
     .backoff_ms = 1000,
     .faults = {IN(RUNNING, 0, 500, FAULT(RANK_KILLED, .node = 1, .arg = 11)),
                IN(RUNNING, 1, 500, FAULT(RANK_KILLED, .node = 1, .arg = 11)),
                IN(PLACING, 1, 100, FAULT(AGENT_PAUSED, .node = 1, .ms = 1500))}},
    {"placing-node-lost", "PLACING, a node is lost, no spare: STOPPING", .backoff_ms = 1000,
     .faults = {IN(RUNNING, 0, 500, FAULT(RANK_KILLED, .node = 1, .arg = 11)),
                IN(RUNNING, 1, 500, FAULT(RANK_KILLED, .node = 1, .arg = 11)),
                IN(PLACING, 1, 100, FAULT(HOST_LOST, .node = 1))}},
    {"placing-user-stop", "PLACING, the user stops: STOPPING", .backoff_ms = 1000,
     .faults = {IN(RUNNING, 0, 500, FAULT(RANK_KILLED, .node = 1, .arg = 11)),
                IN(RUNNING, 1, 500, FAULT(RANK_KILLED, .node = 1, .arg = 11)),
                IN(PLACING, 1, 100, FAULT(USER_STOP, .node = COORDINATOR, .arg = 15))}},

    // --- FINISHING -----------------------------------------------------------------------------------
    {"finishing-node-lost", "FINISHING, a node is lost whose ranks had ended well: no recovery",
     .faults = {IN(FINISHING, 0, 0, FAULT(HOST_LOST, .node = 1))}},
    {"finishing-agent-killed", "FINISHING, an agent dies: no recovery, verdict 0",
     .faults = {IN(FINISHING, 0, 0, FAULT(AGENT_KILLED, .node = 1))}},
    {"finishing-user-stop", "FINISHING, the user stops: the step ends all the same",
     .faults = {IN(FINISHING, 0, 0, FAULT(USER_STOP, .node = COORDINATOR, .arg = 15))}},

    // --- STOPPING ------------------------------------------------------------------------------------
    {"stopping-rank-dies", "STOPPING, any failure: stays, and the first status stands", .nodes = 3,
     .faults = {IN(RUNNING, 0, 1000, FAULT(RANK_EXITS, .node = 1, .arg = 93)),
                IN(STOPPING, 0, 2, FAULT(RANK_KILLED, .node = 2, .arg = 6))}},
    {"stopping-node-lost", "STOPPING, a node is lost: bounded by grace + 10 s + T",
     .faults = {IN(RUNNING, 0, 1000, FAULT(RANK_EXITS, .node = 1, .arg = 93)),
                IN(STOPPING, 0, 0, FAULT(HOST_LOST, .node = 0))}},
    {"stopping-stubborn-rank", "STOPPING, SIGTERM is ignored: SIGKILL after the grace",
     .grace_ms = 1000,
     .faults = {IN(RUNNING, 0, 999, FAULT(RANK_STUBBORN, .node = 0)),
                IN(RUNNING, 0, 1000, FAULT(RANK_EXITS, .node = 1, .arg = 93))}},
    {"stopping-user-stop", "STOPPING, the user stops as well: stays",
     .faults = {IN(RUNNING, 0, 1000, FAULT(RANK_EXITS, .node = 1, .arg = 93)),
                IN(STOPPING, 0, 2, FAULT(USER_STOP, .node = COORDINATOR, .arg = 15))}},
};
const uint32_t n_scenarios = sizeof(scenarios) / sizeof(scenarios[0]);

static uint32_t or_default(uint32_t value, uint32_t otherwise)
{
    return value == SCENARIO_ZERO ? 0 : value ? value : otherwise;
}

void scenario_params(const struct scenario *c, struct sim_params *p)
{
    sim_params_calm(p);
    p->seed = 1;
    p->nnodes = or_default(c->nodes, 2);
    p->per_node = or_default(c->per_node, 1);
    p->pmix = !c->without_pmix;
    p->fences = 1;
    p->modex = c->modex;
    p->life_ms = or_default(c->life_ms, 5000);
    p->wait_ms = c->wait_ms;
    p->options.mode = c->mode ? c->mode : PM_MODE_WORLD;
    p->options.fanout = or_default(c->fanout, 32);
    p->options.max_restarts = or_default(c->restarts, 3);
    p->options.min_uptime_ms = c->min_uptime_ms;
    p->options.backoff_ms = c->backoff_ms;
    p->options.grace_ms = or_default(c->grace_ms, 5000);
    p->options.orphan_timeout_ms = or_default(c->orphan_ms, 60000);
}
