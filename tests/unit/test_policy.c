// SPDX-License-Identifier: Apache-2.0
//
// What a failure leads to, and the sentence a person reads about it, as strings.
#include <criterion/criterion.h>
#include <string.h>

#include "pmix_server/core/policy.h"

TestSuite(policy, .timeout = 20);

#define EXITED(code) ((code) << 8)

static struct pm_options options(enum pm_mode mode)
{
    struct pm_options o = {.mode = mode, .max_restarts = 3, .min_uptime_ms = 5000};
    o.fatal.exits[93 / 64] |= 1ull << 93 % 64;
    o.fatal.signals[0] |= 1ull << (10 - 1);
    return o;
}

static struct pm_failure failure(enum pm_cause cause, int32_t wait_status)
{
    return (struct pm_failure){
        .rank = 17, .pid = 8123, .cause = cause, .wait_status = wait_status, .uptime_ms = 724000};
}

struct row {
    enum pm_cause cause;
    int32_t wait_status;
    bool connected;
    enum pm_verdict_action world, rank, notify;
};

#define I PM_VERDICT_IGNORE
#define N PM_VERDICT_NOTIFY
#define R PM_VERDICT_RESTART_RANK
#define W PM_VERDICT_RESTART_WORLD
#define S PM_VERDICT_STOP

static const struct row rows[] = {
    {PM_CAUSE_EXIT, EXITED(0), false, I, I, I}, {PM_CAUSE_EXIT, EXITED(1), false, W, R, N},
    {PM_CAUSE_EXIT, EXITED(1), true, W, W, N},  {PM_CAUSE_EXIT, EXITED(93), false, S, S, S},
    {PM_CAUSE_SIGNAL, 9, false, W, R, N},       {PM_CAUSE_SIGNAL, 11, true, W, W, N},
    {PM_CAUSE_SIGNAL, 10, false, S, S, S},      {PM_CAUSE_OOM, 9, false, W, R, N},
    {PM_CAUSE_ABORT, EXITED(7), true, W, W, N}, {PM_CAUSE_NO_FINALIZE, 0, true, W, W, N},
    {PM_CAUSE_EXEC, EXITED(2), false, S, S, S},
    {PM_CAUSE_SHIM_LOST, 0, false, S, S, S},    {PM_CAUSE_AGENT_LOST, 0, false, S, S, S},
    {PM_CAUSE_NODE_LOST, 0, false, S, S, S},
};

Test(policy, each_cause_leads_where_the_mode_says)
{
    const enum pm_mode modes[] = {PM_MODE_WORLD, PM_MODE_RANK, PM_MODE_NOTIFY};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const enum pm_verdict_action wanted[] = {rows[i].world, rows[i].rank, rows[i].notify};
        for (int m = 0; m < 3; m++) {
            struct pm_options o = options(modes[m]);
            struct pm_failure f = failure(rows[i].cause, rows[i].wait_status);
            f.connected = rows[i].connected;
            struct pm_verdict v = pm_policy(&f, &(struct pm_history){0}, &o);
            cr_expect_eq(v.action, wanted[m], "row %zu mode %d: %s, not %s", i, m,
                         pm_verdict_name(v.action), pm_verdict_name(wanted[m]));
        }
    }
}

// A node whose ranks had ended well was lost; that alone was no reason to stop.
Test(policy, a_world_that_lost_a_place_is_not_started_again)
{
    struct pm_failure f = failure(PM_CAUSE_EXIT, EXITED(3));
    const struct pm_history history = {.place_lost = true};
    struct pm_options o = options(PM_MODE_WORLD);
    struct pm_verdict v = pm_policy(&f, &history, &o);
    cr_assert_eq(v.action, PM_VERDICT_STOP);
    cr_assert(strstr(v.why, "cannot start again"));
    o.mode = PM_MODE_RANK;
    cr_assert_eq(pm_policy(&f, &history, &o).action, PM_VERDICT_RESTART_RANK);
    o.mode = PM_MODE_NOTIFY;
    cr_assert_eq(pm_policy(&f, &history, &o).action, PM_VERDICT_NOTIFY);
}

Test(policy, a_lost_server_restarts_the_world_or_stops_when_nobody_can_be_told)
{
    struct pm_failure f = failure(PM_CAUSE_PMIX_SERVER, 0);
    f.rank = PM_RANK_NONE;
    struct pm_options o = options(PM_MODE_RANK);
    cr_assert_eq(pm_policy(&f, &(struct pm_history){0}, &o).action, PM_VERDICT_RESTART_WORLD);
    o.mode = PM_MODE_NOTIFY;
    cr_assert_eq(pm_policy(&f, &(struct pm_history){0}, &o).action, PM_VERDICT_STOP);
}

Test(policy, users_stop_comes_before_everything)
{
    struct pm_options o = options(PM_MODE_WORLD);
    for (int cause = PM_CAUSE_EXIT; cause < PM_CAUSE_MAX; cause++) {
        struct pm_failure f = failure(cause, EXITED(93));
        cr_assert_eq(pm_policy(&f, &(struct pm_history){.user_stop = true}, &o).action, I);
    }
}

Test(policy, budget_at_its_limit)
{
    struct pm_options o = options(PM_MODE_WORLD);
    struct pm_failure f = failure(PM_CAUSE_SIGNAL, 9);
    cr_assert_eq(pm_policy(&f, &(struct pm_history){.restarts = 2}, &o).action, W);
    struct pm_verdict v = pm_policy(&f, &(struct pm_history){.restarts = 3}, &o);
    cr_assert_eq(v.action, S);
    cr_assert_str_eq(v.why, "3 of 3 restarts used");
    o.restart_window_ms = 3600000;
    v = pm_policy(&f, &(struct pm_history){.restarts = 3}, &o);
    cr_assert_str_eq(v.why, "3 of 3 restarts used within 1h00m");
    o.max_restarts = 0;
    cr_assert_str_eq(pm_policy(&f, &(struct pm_history){0}, &o).why, "--pm-max-restarts=0");
}

Test(policy, start_failures_at_their_limit)
{
    struct pm_options o = options(PM_MODE_WORLD);
    struct pm_failure f = failure(PM_CAUSE_SIGNAL, 9);
    cr_assert_eq(pm_policy(&f, &(struct pm_history){.start_failures = 2}, &o).action, W);
    cr_assert_eq(pm_policy(&f, &(struct pm_history){.start_failures = 3}, &o).action, S);
    o.min_uptime_ms = 0;
    cr_assert_eq(pm_policy(&f, &(struct pm_history){.start_failures = 3}, &o).action, W);
}

Test(policy, backoff_doubles_up_to_its_maximum)
{
    struct pm_options o = {.backoff_ms = 300, .backoff_max_ms = 1000};
    const uint64_t wanted[] = {0, 0, 300, 600, 1000, 1000};
    for (uint32_t n = 0; n < 6; n++)
        cr_assert_eq(pm_policy_backoff_ms(&o, n), wanted[n]);
    o.backoff_max_ms = 0;
    cr_assert_eq(pm_policy_backoff_ms(&o, 6), 4800);
    cr_assert_gt(pm_policy_backoff_ms(&o, 1000000), UINT64_MAX / 4);
    o.backoff_ms = 0;
    cr_assert_eq(pm_policy_backoff_ms(&o, 6), 0);
}

Test(policy, status_is_plain_sruns_or_1_when_our_machinery_was_lost)
{
    const struct {
        enum pm_cause cause;
        int32_t wait_status;
        int32_t status;
    } wanted[] = {
        {PM_CAUSE_EXIT, EXITED(17), 17}, {PM_CAUSE_SIGNAL, 11, 139},
        {PM_CAUSE_OOM, 9, 1},            {PM_CAUSE_SIGNAL, 11 | 0x80, 139},
        {PM_CAUSE_ABORT, EXITED(7), 7},  {PM_CAUSE_EXEC, EXITED(2), 2},
        {PM_CAUSE_PMIX_SERVER, 0, 1},    {PM_CAUSE_SHIM_LOST, 0, 1},
        {PM_CAUSE_NODE_LOST, 9, 1},      {PM_CAUSE_NO_FINALIZE, 0, 1},
        {PM_CAUSE_ABORT, 0, 1},
    };
    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
        struct pm_failure f = failure(wanted[i].cause, wanted[i].wait_status);
        cr_expect_eq(pm_policy_status(&f), wanted[i].status, "row %zu", i);
    }
}

// --- lost nodes --------------------------------------------------------------------------------

static struct pm_failure loss(enum pm_cause cause)
{
    struct pm_failure f = failure(cause, 0);
    f.rank = PM_RANK_NONE;
    return f;
}

Test(policy, a_lost_node_leads_to_a_spare_as_long_as_there_are_enough)
{
    const enum pm_cause causes[] = {PM_CAUSE_SHIM_LOST, PM_CAUSE_AGENT_LOST, PM_CAUSE_NODE_LOST};
    struct pm_options o = options(PM_MODE_RANK);
    o.spares = 2;
    o.max_node_losses = PM_UNLIMITED;
    o.max_restarts = 0; // of programs that fail
    for (int i = 0; i < 3; i++) {
        struct pm_failure f = loss(causes[i]);
        struct pm_verdict v = pm_policy(&f, &(struct pm_history){.spares = 1, .homeless = 1}, &o);
        cr_assert_eq(v.action, PM_VERDICT_MOVE_TO_SPARE);
        v = pm_policy(&f, &(struct pm_history){.spares = 0, .homeless = 1}, &o);
        cr_assert_eq(v.action, S);
        cr_assert_str_eq(v.why, "no spare is left");
        v = pm_policy(&f, &(struct pm_history){.spares = 1, .homeless = 2}, &o);
        cr_assert_eq(v.action, S);
        cr_assert_str_eq(v.why, "2 nodes of the world are lost, and 1 spare is left");
        v = pm_policy(&f, &(struct pm_history){.spares = 1, .homeless = 1, .world_over = true}, &o);
        cr_assert_eq(v.action, I);
        v = pm_policy(&f, &(struct pm_history){.spares = 1, .homeless = 1, .user_stop = true}, &o);
        cr_assert_eq(v.action, I);
    }
}

Test(policy, a_lost_spare_is_only_reported)
{
    struct pm_options o = options(PM_MODE_WORLD);
    struct pm_failure f = loss(PM_CAUSE_NODE_LOST);
    o.spares = 2; // and not a single loss of a node of the world is allowed
    struct pm_verdict v = pm_policy(&f, &(struct pm_history){.no_ranks = true, .spares = 1}, &o);
    cr_assert_eq(v.action, I);
    cr_assert_str_eq(v.why, "it waited as a spare, 1 is left");
    v = pm_policy(&f, &(struct pm_history){.no_ranks = true, .world_over = true}, &o);
    cr_assert_eq(v.action, I);
    cr_assert_str_eq(v.why, "it waited as a spare, 0 are left");
}

Test(policy, node_losses_have_a_budget_of_their_own)
{
    struct pm_options o = options(PM_MODE_WORLD);
    struct pm_failure f = loss(PM_CAUSE_AGENT_LOST);
    struct pm_history h = {.spares = 5, .homeless = 1, .node_losses = 1, .restarts = 3};
    o.spares = 5;
    o.max_node_losses = 2;
    cr_assert_eq(pm_policy(&f, &h, &o).action, PM_VERDICT_MOVE_TO_SPARE);
    h.node_losses = 2;
    struct pm_verdict v = pm_policy(&f, &h, &o);
    cr_assert_eq(v.action, S);
    cr_assert_str_eq(v.why, "2 of 2 node losses used");
    o.node_loss_window_ms = 3600000;
    cr_assert_str_eq(pm_policy(&f, &h, &o).why, "2 of 2 node losses used within 1h00m");
    o.max_node_losses = 0;
    cr_assert_str_eq(pm_policy(&f, &h, &o).why, "--pm-max-node-losses=0");
}

Test(policy, without_spares_the_world_shrinks_as_far_as_it_may)
{
    struct pm_options o = options(PM_MODE_WORLD);
    struct pm_failure f = loss(PM_CAUSE_NODE_LOST);
    struct pm_history h = {.homeless = 1, .nodes_left = 3};
    o.max_node_losses = PM_UNLIMITED;
    o.min_nodes = 3;
    cr_assert_eq(pm_policy(&f, &h, &o).action, S);
    o.shrink = 1;
    cr_assert_eq(pm_policy(&f, &h, &o).action, PM_VERDICT_SHRINK);
    h.spares = 1;
    cr_assert_eq(pm_policy(&f, &h, &o).action, PM_VERDICT_MOVE_TO_SPARE);
    h.homeless = 2; // and one of the two is replaced
    cr_assert_eq(pm_policy(&f, &h, &o).action, PM_VERDICT_SHRINK);
    h.nodes_left = 2;
    struct pm_verdict v = pm_policy(&f, &h, &o);
    cr_assert_eq(v.action, S);
    cr_assert_str_eq(v.why, "2 nodes would be left, and --pm-min-nodes=3");
    o.min_nodes = 1;
    h.nodes_left = 0; // all of it
    cr_assert_eq(pm_policy(&f, &h, &o).action, S);
    h = (struct pm_history){.homeless = 1, .nodes_left = 7, .node_losses = 2};
    o.max_node_losses = 2;
    cr_assert_str_eq(pm_policy(&f, &h, &o).why, "2 of 2 node losses used");
}

Test(policy, what_neither_spares_nor_fewer_nodes_save_is_launched_again)
{
    struct pm_options o = options(PM_MODE_WORLD);
    struct pm_failure f = loss(PM_CAUSE_AGENT_LOST);
    struct pm_history h = {.homeless = 1, .nodes_left = 3, .can_relaunch = true};
    o.max_node_losses = 2;
    o.min_nodes = 3;
    cr_assert_eq(pm_policy(&f, &h, &o).action, PM_VERDICT_RELAUNCH);
    o.shrink = 1;
    cr_assert_eq(pm_policy(&f, &h, &o).action, PM_VERDICT_SHRINK);
    h.nodes_left = 2;
    cr_assert_eq(pm_policy(&f, &h, &o).action, PM_VERDICT_RELAUNCH);
    h.spares = 1;
    cr_assert_eq(pm_policy(&f, &h, &o).action, PM_VERDICT_MOVE_TO_SPARE);
    h.spares = 0;
    h.node_losses = 2;
    struct pm_verdict v = pm_policy(&f, &h, &o);
    cr_assert_eq(v.action, S); // the budget is not for spares only
    cr_assert_str_eq(v.why, "2 of 2 node losses used");
    h.node_losses = 0;
    h.can_relaunch = false;
    h.no_relaunch = "--pm-relaunch is used up";
    v = pm_policy(&f, &h, &o);
    cr_assert_eq(v.action, S);
    cr_assert_str_eq(v.why, "2 nodes would be left, and --pm-min-nodes=3, and it is not launched again: "
                            "--pm-relaunch is used up");
    f = failure(PM_CAUSE_SIGNAL, 9);
    h = (struct pm_history){.place_lost = true};
    cr_assert_eq(pm_policy(&f, &h, &o).action, S);
    h.can_relaunch = true;
    cr_assert_eq(pm_policy(&f, &h, &o).action, PM_VERDICT_RELAUNCH);
    h.restarts = o.max_restarts;
    cr_assert_eq(pm_policy(&f, &h, &o).action, S);
}

// --- sentences ---------------------------------------------------------------------------------

static const char *sentence(const struct pm_failure *f, const struct pm_history *h,
                            const struct pm_options *o, struct pm_story story)
{
    static char line[512];
    static struct pm_verdict verdict;
    verdict = pm_policy(f, h, o);
    story.failure = f;
    story.verdict = &verdict;
    story.host = "node042";
    story.nranks = story.nranks ? story.nranks : 64;
    story.nnodes = story.nnodes ? story.nnodes : 8;
    story.restart = h->restarts + 1;
    return pm_sentence_decision(&story, o, line, sizeof(line));
}

#define SENTENCE(f, text) SENTENCE_OF(f, text, .more = 0)
#define SENTENCE_OF(f, text, ...)                                                                  \
    cr_expect_str_eq(sentence(&(f), &(struct pm_history){0}, &o, (struct pm_story){__VA_ARGS__}),  \
                     "pm-supervise: " text)

Test(policy, sentences_of_world_mode)
{
    struct pm_options o = options(PM_MODE_WORLD);
    struct pm_failure f = failure(PM_CAUSE_SIGNAL, 9);
    SENTENCE(f, "rank 17 (node042, pid 8123) killed by signal 9 after 12m04s; restarting 64 ranks "
                "on 8 nodes (restart 1 of 3)");
    SENTENCE_OF(f,
                "rank 17 (node042, pid 8123) killed by signal 9 after 12m04s, and 3 more failures; "
                "restarting 1 rank on 1 node in 2 s (restart 1 of 3)",
                .more = 3, .nranks = 1, .nnodes = 1, .backoff_ms = 2000);
    o.restart_window_ms = 600000;
    SENTENCE(f, "rank 17 (node042, pid 8123) killed by signal 9 after 12m04s; restarting 64 ranks "
                "on 8 nodes (restart 1 of 3 within 10m00s)");
    o.restart_window_ms = 0;
    f = failure(PM_CAUSE_OOM, 9);
    SENTENCE(f, "rank 17 (node042, pid 8123) killed by signal 9 for lack of memory (oom) after "
                "12m04s; restarting 64 ranks on 8 nodes (restart 1 of 3); Slurm itself will still "
                "report OUT_OF_MEMORY for this step");
    f = failure(PM_CAUSE_EXIT, EXITED(93));
    SENTENCE(f, "rank 17 (node042, pid 8123) exited with code 93 after 12m04s; stopping: exit code "
                "93 is in --pm-fatal-exit");
    f = failure(PM_CAUSE_SIGNAL, 10);
    SENTENCE(f, "rank 17 (node042, pid 8123) killed by signal 10 after 12m04s; stopping: signal 10 "
                "is in --pm-fatal-exit");
    f = failure(PM_CAUSE_EXEC, EXITED(2));
    pm_text_copy(f.text, sizeof(f.text), "execve(): prog: No such file or directory");
    SENTENCE(
        f, "rank 17 (node042, pid 8123) could not be started (exit code 2): execve(): prog: No "
           "such file or directory; stopping: a program that cannot be started is not tried again");
    f = failure(PM_CAUSE_ABORT, EXITED(7));
    SENTENCE(f, "rank 17 (node042, pid 8123) called abort with status 7 after 12m04s; restarting "
                "64 ranks on 8 nodes (restart 1 of 3)");
    f = failure(PM_CAUSE_NO_FINALIZE, 0);
    SENTENCE(f,
             "rank 17 (node042, pid 8123) ended without PMIx_Finalize and a collective waits for "
             "it (no-finalize) after 12m04s; restarting 64 ranks on 8 nodes (restart 1 of 3)");
}

Test(policy, sentences_of_losses)
{
    struct pm_options o = options(PM_MODE_WORLD);
    struct pm_failure f = failure(PM_CAUSE_SHIM_LOST, 0);
    SENTENCE(f, "rank 17 (node042, pid 8123) lost its shim (shim-lost) after 12m04s; stopping: its place in the step cannot come back");
    f = failure(PM_CAUSE_AGENT_LOST, 0);
    f.rank = PM_RANK_NONE;
    SENTENCE(f, "node042 lost its agent (agent-lost); stopping: its place in the step "
                "cannot come back");
    f.cause = PM_CAUSE_NODE_LOST;
    SENTENCE(
        f,
        "node042 is lost (node-lost); stopping: its place in the step cannot come back");
    f.cause = PM_CAUSE_PMIX_SERVER;
    pm_text_copy(f.text, sizeof(f.text), "it does not answer");
    SENTENCE(f, "node042 lost its PMIx server (pmix-server): it does not answer; restarting 64 "
                "ranks on 8 nodes (restart 1 of 3)");
}

Test(policy, sentences_of_moves)
{
    struct pm_options o = options(PM_MODE_WORLD);
    struct pm_failure f = loss(PM_CAUSE_NODE_LOST);
    struct pm_history h = {.spares = 2, .homeless = 1};
    struct pm_story story = {.spare = "node063", .n_moving = 8, .spares_left = 1};
    o.spares = 2;
    o.max_node_losses = PM_UNLIMITED;
    pm_text_copy(f.text, sizeof(f.text), "nothing was heard of it for 10 s");
    cr_expect_str_eq(sentence(&f, &h, &o, story),
                     "pm-supervise: node042 is lost (node-lost): nothing was heard of it for 10 s; the 8 ranks "
                     "of node042 move to spare node063 (1 spare left); restarting 64 ranks on 8 nodes");
    story = (struct pm_story){.n_moving = 1, .spares_left = 0};
    f = failure(PM_CAUSE_SHIM_LOST, 0);
    cr_expect_str_eq(sentence(&f, &h, &o, story),
                     "pm-supervise: rank 17 (node042, pid 8123) lost its shim (shim-lost) after 12m04s; the 1 rank "
                     "of node042 moves to a spare (0 spares left); restarting 64 ranks on 8 nodes");
    h = (struct pm_history){.no_ranks = true, .spares = 1};
    f = loss(PM_CAUSE_NODE_LOST);
    cr_expect_str_eq(sentence(&f, &h, &o, story),
                     "pm-supervise: node042 is lost (node-lost); going on: it waited as a spare, 1 is left");
}

Test(policy, sentences_of_a_world_that_shrinks)
{
    struct pm_options o = options(PM_MODE_WORLD);
    struct pm_failure f = loss(PM_CAUSE_NODE_LOST);
    struct pm_history h = {.homeless = 2, .nodes_left = 6};
    o.max_node_losses = PM_UNLIMITED;
    o.shrink = 1;
    cr_expect_str_eq(sentence(&f, &h, &o, (struct pm_story){.gone_ranks = 16, .gone_nodes = 2}),
                     "pm-supervise: node042 is lost (node-lost); restarting 48 ranks on 6 nodes (was 64 on 8)");
    cr_expect_str_eq(sentence(&f, &h, &o, (struct pm_story){.gone_nodes = 1}),
                     "pm-supervise: node042 is lost (node-lost); going on with 7 nodes");
    o.spares = 1;
    cr_expect_str_eq(sentence(&f, &h, &o, (struct pm_story){.nranks = 2, .nnodes = 2, .gone_ranks = 1, .gone_nodes = 1}),
                     "pm-supervise: node042 is lost (node-lost); 2 nodes of the world are lost, and 0 spares are "
                     "left: restarting 1 rank on 1 node (was 2 on 2)");
}

Test(policy, sentences_of_a_further_launch)
{
    struct pm_options o = options(PM_MODE_WORLD);
    struct pm_failure f = loss(PM_CAUSE_NODE_LOST);
    struct pm_history h = {.homeless = 1, .can_relaunch = true};
    o.max_node_losses = PM_UNLIMITED;
    o.relaunch = 2;
    cr_expect_str_eq(sentence(&f, &h, &o, (struct pm_story){.launch = 1}),
                     "pm-supervise: node042 is lost (node-lost); its place in the step cannot come back: launching the "
                     "step again on other nodes of the job (launch 2 of 3)");
}

Test(policy, sentences_of_rank_and_notify_mode)
{
    struct pm_options o = options(PM_MODE_RANK);
    struct pm_failure f = failure(PM_CAUSE_EXIT, EXITED(4));
    SENTENCE(f, "rank 17 (node042, pid 8123) exited with code 4 after 12m04s; restarting this rank "
                "(restart 1 of 3)");
    f.connected = true;
    SENTENCE(f, "rank 17 (node042, pid 8123) exited with code 4 after 12m04s; it had connected to "
                "PMIx: restarting 64 ranks on 8 nodes (restart 1 of 3)");
    o.mode = PM_MODE_NOTIFY;
    SENTENCE(f, "rank 17 (node042, pid 8123) exited with code 4 after 12m04s; the other ranks are "
                "told and go on");
}

Test(policy, a_long_sentence_is_cut_not_overrun)
{
    struct pm_options o = options(PM_MODE_WORLD);
    struct pm_failure f = failure(PM_CAUSE_EXEC, EXITED(2));
    memset(f.text, 'x', sizeof(f.text) - 1);
    struct pm_verdict verdict = pm_policy(&f, &(struct pm_history){0}, &o);
    struct pm_story story = {.failure = &f, .verdict = &verdict, .host = "node042"};
    char line[32];
    memset(line, '#', sizeof(line));
    pm_sentence_decision(&story, &o, line, 16);
    cr_assert_str_eq(line, "pm-supervise: r");
    cr_assert_eq(line[16], '#');
}
