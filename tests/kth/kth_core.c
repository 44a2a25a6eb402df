// SPDX-License-Identifier: Apache-2.0
//
// Steps from their start to their end, with every allocation of every core failing in turn (kth_step.c):
// joining, fences and direct modex, ranks that fail, restarts of ranks and of the world, links and nodes that
// are lost, and each way to finish. kth_core [NAME...] runs some of them alone.
#include <string.h>

#include "tests/kth/kth.h"
#include "tests/kth/kth_step.h"
#include "tests/unit/core_harness.h"

#define EXITED(code) ((code) << 8)

enum { PER_NODE = 2, LONG_MS = 300000, FENCE_PIECE = 0x35 };

static struct pm_options options;
static struct harness *h;
static uint32_t nnodes;
static uint32_t fence_piece;
static uint32_t n_pieces, n_done;

// --- what the scenarios are made of ------------------------------------------------------------------

// Counts pieces of results that node 0 sends, and answers.
static bool count(struct harness *at, void *arg, uint32_t node, const struct pm_action *a)
{
    (void)at;
    (void)arg;
    n_pieces += a->type == PM_ACTION_SEND && node == 0 && a->data[0] == FENCE_PIECE;
    n_done += a->type == PM_ACTION_FENCE_DONE && a->status == PM_STATUS_OK;
    return false;
}

static void launch(uint32_t n)
{
    const struct harness_config config = {
        .nnodes = n, .ranks_per_node = PER_NODE, .options = &options, .wait_ms = 60000,
        .fence_piece = fence_piece, .hook = count};
    n_pieces = n_done = 0;
    nnodes = n;
    h = harness_new(&config);
    harness_launch(h, 0);
}

static void until(enum pm_state state)
{
    KTH_CHECK(harness_run_until_state(h, state, LONG_MS), "it stays in %s; said: %s",
              pm_state_name(pm_core_state(harness_core(h, PM_NODE_COORDINATOR))), harness_said(h));
}

static void run(uint32_t n)
{
    launch(n);
    until(PM_STATE_RUNNING);
    harness_run_ms(h, 2);
}

static void until_exit(void)
{
    KTH_CHECK(harness_run_until_exit(h, LONG_MS), "it does not end; said: %s", harness_said(h));
}

static void post(uint32_t node, struct pm_event event)
{
    event.epoch = pm_core_epoch(harness_core(h, PM_NODE_COORDINATOR));
    harness_post(h, node, &event, 0);
}

static void all_connect(void)
{
    for (uint32_t rank = 0; rank < nnodes * PER_NODE; rank++)
        post(rank / PER_NODE, (struct pm_event){.type = PM_EVENT_CONNECTED, .rank = rank});
    harness_run_ms(h, 2);
}

// Each of the first n nodes brings its part of a fence over ranks 0..last.
static void fence(uint64_t id, uint32_t last, bool collect, uint32_t n)
{
    struct pm_set ranks = {0};
    KTH_CHECK(pm_set_add_span(&ranks, 0, last) == 0, "no memory");
    for (uint32_t node = 0; node < n; node++)
        post(node, (struct pm_event){.type = PM_EVENT_FENCE,
                                     .id = id,
                                     .set = &ranks,
                                     .flag_collect = collect,
                                     .timeout_ms = 5000,
                                     .data = (const uint8_t *)"part",
                                     .len = 4});
    pm_set_done(&ranks);
}

static void fences_and_modex(void)
{
    fence(1, nnodes * PER_NODE - 1, true, nnodes);
    harness_run_ms(h, 5);
    fence(2, 3, false, 2);
    fence(3, nnodes * PER_NODE - 1, false, nnodes - 1);  // the last one will time out
    post(0, (struct pm_event){.type = PM_EVENT_MODEX, .id = 4, .rank = nnodes * PER_NODE - 1});
    post(nnodes - 1, (struct pm_event){.type = PM_EVENT_MODEX, .id = 5, .rank = 1, .timeout_ms = 500});
    post(1, (struct pm_event){.type = PM_EVENT_MODEX, .id = 6, .rank = 2});
    harness_run_ms(h, 10);
}

static void finish(void)
{
    harness_all_ranks_end(h);
    until_exit();
}

// --- scenarios -----------------------------------------------------------------------------------------

static void world_restarts(void)
{
    options.verbose = 1;
    strcpy(options.log_nodes, "/log");
    run(5);
    all_connect();
    fences_and_modex();
    harness_rank_ends(h, 2, 0, 11);
    harness_rank_ends(h, 4, 1, 9);
    until(PM_STATE_HALTING);
    until(PM_STATE_RUNNING);
    all_connect();
    fences_and_modex();
    harness_run_ms(h, 8000);
    finish();
}

static void rank_restarts(void)
{
    options.mode = PM_MODE_RANK;
    options.restart_window_ms = 60000;
    options.backoff_ms = 200;
    options.backoff_max_ms = 1000;
    options.min_uptime_ms = 0;
    options.max_restarts = 5;
    run(3);
    for (uint32_t i = 0; i < 3; i++) {
        harness_rank_ends(h, i, 0, EXITED(3));
        harness_run_ms(h, 700);
    }
    all_connect();
    harness_rank_ends(h, 1, 1, 6);  // too late for it alone
    until(PM_STATE_HALTING);
    until(PM_STATE_RUNNING);
    finish();
}

static void survivors_are_told(void)
{
    options.mode = PM_MODE_NOTIFY;
    run(4);
    all_connect();
    fence(1, 7, true, 3);
    harness_run_ms(h, 2);
    harness_rank_ends(h, 3, 0, 9);
    harness_run_ms(h, 200);
    post(1, (struct pm_event){.type = PM_EVENT_ABORT, .rank = 2, .status = 3, .text = "give up"});
    harness_run_ms(h, 200);
    finish();
}

static void server_and_shim_are_lost(void)
{
    run(3);
    post(1, (struct pm_event){.type = PM_EVENT_SERVER_LOST, .text = "it died"});
    harness_run_ms(h, 100);
    all_connect();
    post(2, (struct pm_event){.type = PM_EVENT_SERVER_LOST, .text = "it died"});
    until(PM_STATE_HALTING);
    until(PM_STATE_RUNNING);
    post(0, (struct pm_event){.type = PM_EVENT_SAY, .text = "a line"});
    post(1, (struct pm_event){.type = PM_EVENT_BOUND, .text = "one core each"});
    post(2, (struct pm_event){.type = PM_EVENT_BOUND, .text = "one core each"});
    post(2, (struct pm_event){.type = PM_EVENT_SHIM_LOST, .local = 1, .text = "its shim ended"});
    until_exit();
}

static void links_and_nodes_are_lost(void)
{
    run(7);
    all_connect();
    fence(1, 13, true, 6);
    harness_reset_link(h, 0, PM_NODE_COORDINATOR);
    harness_reset_link(h, 2, 0);
    harness_run_ms(h, 500);
    harness_cut(h, 1);
    harness_run_ms(h, 4000);
    harness_heal(h, 1);
    harness_run_ms(h, 4000);
    harness_pause(h, PM_NODE_COORDINATOR);
    harness_run_ms(h, 3000);
    harness_resume(h, PM_NODE_COORDINATOR);
    harness_run_ms(h, 2000);
    harness_power_off(h, 0);  // an inner one
    until_exit();
}

static bool is_in_the_middle(struct harness *at, void *arg)
{
    (void)at;
    (void)arg;
    return n_pieces >= 5;
}

// Two inner links are lost when a part of a result has passed.
static void fence_in_pieces(void)
{
    fence_piece = 4;
    run(7);
    all_connect();
    for (uint32_t i = 0; i < 2; i++) {
        n_pieces = 0;
        fence(1 + i, 13, true, 7);
        KTH_CHECK(harness_run_until(h, is_in_the_middle, NULL, 2000), "no pieces");
        harness_reset_link(h, 0, i ? PM_NODE_COORDINATOR : 2);
        harness_run_ms(h, 500);
    }
    KTH_CHECK(n_done == 14, "%u answers", n_done);
    finish();
    fence_piece = 0;
}

static void agent_is_killed(void)
{
    run(5);
    harness_kill(h, 1);
    until_exit();
}

// A spare is lost, then two nodes: rank 0's, and the one whose loss joins the decision.
static void spares_take_over(void)
{
    options.spares = 3;
    options.node_loss_window_ms = 60000;
    run(7);
    all_connect();
    harness_power_off(h, 6);
    harness_run_ms(h, 12000);
    harness_kill(h, 0);
    harness_run_ms(h, 350);
    harness_kill(h, 1);
    until(PM_STATE_HALTING);
    until(PM_STATE_RUNNING);
    finish();
}

static void coordinator_is_alone(void)
{
    run(4);
    for (uint32_t node = 0; node < 4; node++)
        harness_cut(h, node);
    harness_run_ms(h, 12000);
    for (uint32_t node = 0; node < 4; node++)
        harness_heal(h, node);
    harness_run_ms(h, 20000);
    finish();
}

static void job_is_suspended(void)
{
    run(4);
    harness_job_state(h, PM_JOB_SUSPENDED);
    for (uint32_t node = 0; node < 4; node++)
        harness_pause(h, node);
    harness_run_ms(h, 20000);
    harness_job_state(h, PM_JOB_RUNNING);
    for (uint32_t node = 0; node < 4; node++)
        harness_resume(h, node);
    harness_run_ms(h, 20000);
    finish();
}

static void user_stops(void)
{
    run(3);
    post(PM_NODE_COORDINATOR, (struct pm_event){.type = PM_EVENT_STOP, .signal = 15, .flag_untold = true});
    until_exit();
}

static void slurm_stops(void)
{
    run(3);
    for (uint32_t node = 0; node < 3; node++)
        post(node, (struct pm_event){.type = PM_EVENT_SIGNALLED, .signal = 15});
    harness_run_ms(h, 100);
    finish();
}

static void nodes_do_not_join(void)
{
    struct pm_set late = {0};
    KTH_CHECK(pm_set_add_span(&late, 2, 6) == 0, "no memory");
    const struct harness_config config = {
        .nnodes = 7, .ranks_per_node = PER_NODE, .options = &options};
    nnodes = 7;
    h = harness_new(&config);
    harness_launch_without(h, &late);
    pm_set_done(&late);
    harness_run_ms(h, 6000);
    harness_start_agent(h, 5);  // its parent is not there
    until_exit();
}

static void node_cannot_start(void)
{
    launch(3);
    harness_post(h, 1, &(struct pm_event){.type = PM_EVENT_CANNOT_START, .text = "no library"},
                 HARNESS_MS);
    until_exit();
}

static const struct {
    const char *name;
    void (*run)(void);
} scenarios[] = {
    {"world_restarts", world_restarts},
    {"rank_restarts", rank_restarts},
    {"fence_in_pieces", fence_in_pieces},
    {"survivors_are_told", survivors_are_told},
    {"server_and_shim_are_lost", server_and_shim_are_lost},
    {"links_and_nodes_are_lost", links_and_nodes_are_lost},
    {"agent_is_killed", agent_is_killed},
    {"spares_take_over", spares_take_over},
    {"coordinator_is_alone", coordinator_is_alone},
    {"job_is_suspended", job_is_suspended},
    {"user_stops", user_stops},
    {"slurm_stops", slurm_stops},
    {"nodes_do_not_join", nodes_do_not_join},
    {"node_cannot_start", node_cannot_start},
};

static bool is_wanted(const char *name, int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], name) == 0)
            return true;
    return argc == 1;
}

int main(int argc, char **argv)
{
    for (size_t i = 0; i < sizeof(scenarios) / sizeof(scenarios[0]); i++) {
        if (!is_wanted(scenarios[i].name, argc, argv))
            continue;
        harness_default_options(&options);
        options.fanout = 2;
        printf("%s\n", scenarios[i].name);
        scenarios[i].run();
        harness_free(h);
    }
    kth_step_report();
    return 0;
}
