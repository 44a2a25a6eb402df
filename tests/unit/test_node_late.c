// SPDX-License-Identifier: Apache-2.0
//
// News that come to an agent out of turn: about an incarnation that is over, about ranks and epochs that it
// does not have, twice, too late or too early. They change nothing, or only what they truly say.
#include <criterion/criterion.h>
#include <string.h>

#include "tests/unit/life_stand.h"

#define KILLED       9
#define TERMED       15
#define EXITED(code) ((code) << 8)

static struct pm_wanted wanted;

static void setup(void)
{
    stand_agent(1, 4, 2); // ranks 2 and 3
}

static void teardown(void)
{
    pm_wanted_done(&wanted);
    stand_done();
}

TestSuite(node_late, .init = setup, .fini = teardown, .timeout = 20);

// --- what a node lives through -----------------------------------------------------------------------

static void want(enum pm_phase phase)
{
    wanted.phase = phase;
    cr_assert(stand_wanted(&wanted));
}

static struct pm_event of_rank(enum pm_event_type type, uint32_t local)
{
    return (struct pm_event){.type = type, .local = local, .rank = 2 + local, .pid = 100 + local};
}

static void happens(struct pm_event event)
{
    stand_event(&event);
}

static void joined(void)
{
    happens(of_rank(PM_EVENT_SHIM_JOINED, 0));
    happens(of_rank(PM_EVENT_SHIM_JOINED, 1));
    stand_map();
}

static void asked(void)
{
    joined();
    wanted.map_version = 1;
    wanted.grace_ms = 5000;
    want(PM_PHASE_START);
    happens(of_rank(PM_EVENT_SERVER_READY, 0));
}

static void running(void)
{
    asked();
    happens(of_rank(PM_EVENT_RANK_STARTED, 0));
    happens(of_rank(PM_EVENT_RANK_STARTED, 1));
    stand_run_ms(20);
    stand_forget();
}

static void connected(void)
{
    running();
    happens(of_rank(PM_EVENT_CONNECTED, 0));
    happens(of_rank(PM_EVENT_CONNECTED, 1));
    stand_run_ms(20);
    stand_forget();
}

static uint64_t digest(void)
{
    struct pm_digest d = {0};
    pm_node_digest(stand.core.node, stand.core.now_ns, &d);
    return d.h;
}

static void means_nothing(struct pm_event event, const char *what)
{
    uint64_t before = digest();
    size_t n = stand.out.n;
    happens(event);
    cr_expect_eq(stand.out.n, n, "%s: %zu actions", what, stand.out.n - n);
    cr_expect_eq(digest(), before, "%s changed something", what);
}

static uint32_t failures(void)
{
    stand_run_ms(6);
    return stand.report.failures.n;
}

// --- about something else ------------------------------------------------------------------------------

Test(node_late, news_of_another_incarnation_mean_nothing)
{
    static const enum pm_event_type types[] = {PM_EVENT_RANK_STARTED, PM_EVENT_RANK_EXITED,
                                               PM_EVENT_RANK_GONE};
    running();
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        struct pm_event event = of_rank(types[i], 0);
        event.wait_status = KILLED;
        event.incarnation = 1;
        means_nothing(event, "another incarnation");
        event.epoch = 1;
        means_nothing(event, "another epoch");
        event = of_rank(types[i], 9);
        means_nothing(event, "no local task");
    }
}

Test(node_late, news_of_ranks_of_another_epoch_mean_nothing)
{
    static const enum pm_event_type types[] = {PM_EVENT_CONNECTED, PM_EVENT_FINALIZED,
                                               PM_EVENT_ABORT};
    running();
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        struct pm_event event = of_rank(types[i], 0);
        event.epoch = 1;
        means_nothing(event, "another epoch");
        event = of_rank(types[i], 9);
        means_nothing(event, "a rank of another node");
    }
    means_nothing(of_rank(PM_EVENT_SHIM_JOINED, 9), "no local task");
    means_nothing(of_rank(PM_EVENT_SHIM_LOST, 9), "no local task");
}

Test(node_late, news_of_servers_that_nobody_asked_for_mean_nothing)
{
    means_nothing(of_rank(PM_EVENT_SERVER_READY, 0), "before it was asked for");
    means_nothing(of_rank(PM_EVENT_SERVER_LOST, 0), "before it was asked for");
    running();
    struct pm_event event = {.type = PM_EVENT_SERVER_READY, .epoch = 1};
    means_nothing(event, "ready for the next epoch");
    event.type = PM_EVENT_SERVER_LOST;
    means_nothing(event, "lost of the next epoch");
    event.epoch = 2;
    means_nothing(event, "lost of an epoch to come");
    event.type = PM_EVENT_NOTIFIED;
    means_nothing(event, "notified of another epoch");
    event.epoch = 0;
    means_nothing(event, "notified, though nobody is");
}

Test(node_late, only_the_signals_of_a_stop_are_one)
{
    running();
    means_nothing((struct pm_event){.type = PM_EVENT_SIGNALLED, .signal = 10}, "SIGUSR1");
    happens((struct pm_event){.type = PM_EVENT_SIGNALLED, .signal = 2});
    stand_run_ms(6);
    cr_assert_eq(stand.report.user_signal, 2);
    happens((struct pm_event){.type = PM_EVENT_SIGNALLED, .signal = TERMED});
    stand_run_ms(6);
    cr_assert_eq(stand.report.user_signal, 2, "the first one counts");
}

// --- twice ---------------------------------------------------------------------------------------------

Test(node_late, what_was_told_is_not_told_again)
{
    running();
    means_nothing(of_rank(PM_EVENT_RANK_STARTED, 0), "started twice");
    struct pm_event exited = of_rank(PM_EVENT_RANK_EXITED, 0);
    happens(exited);
    exited.wait_status = KILLED;
    means_nothing(exited, "ended twice");
    happens(of_rank(PM_EVENT_RANK_GONE, 0));
    means_nothing(of_rank(PM_EVENT_RANK_GONE, 0), "gone twice");
    happens(of_rank(PM_EVENT_SHIM_LOST, 1));
    means_nothing(of_rank(PM_EVENT_SHIM_LOST, 1), "lost twice");
    cr_assert_eq(failures(), 1);
}

Test(node_late, the_first_reason_not_to_start_stays)
{
    struct pm_report below;
    pm_report_init(&below);
    below.cannot_node = 0;
    pm_text_copy(below.cannot_text, sizeof(below.cannot_text), "no room");
    cr_assert(stand_report(&below));
    pm_report_done(&below);
    happens((struct pm_event){.type = PM_EVENT_CANNOT_START, .text = "no library"});
    stand_run_ms(10);
    cr_assert_eq(stand.report.cannot_node, 0, "the lowest node is named");
    cr_assert_str_eq(stand.report.cannot_text, "no room");
}

// --- ends --------------------------------------------------------------------------------------------------

Test(node_late, a_shim_lost_before_its_rank_ran_has_no_uptime)
{
    joined();
    stand_run_ms(20);
    happens(of_rank(PM_EVENT_SHIM_LOST, 0));
    cr_assert_eq(failures(), 1);
    cr_assert_eq(stand.report.failures.list[0].uptime_ms, 0);
    cr_assert_eq(stand.report.failures.list[0].cause, PM_CAUSE_SHIM_LOST);
}

Test(node_late, a_program_that_could_not_be_started_is_named_by_its_pid)
{
    asked();
    struct pm_event event = of_rank(PM_EVENT_RANK_EXITED, 0);
    event.wait_status = EXITED(127);
    event.flag_exec = true;
    happens(event);
    cr_assert_eq(failures(), 1);
    cr_assert_eq(stand.report.failures.list[0].cause, PM_CAUSE_EXEC);
    cr_assert_eq(stand.report.failures.list[0].pid, 100);
    cr_assert(!pm_set_has(&stand.report.marks[PM_MARK_STARTED], 1));
}

Test(node_late, an_exec_that_failed_with_0_is_a_failure_too)
{
    asked();
    struct pm_event event = of_rank(PM_EVENT_RANK_EXITED, 0);
    event.flag_exec = true;
    happens(event);
    cr_assert_eq(failures(), 1);
}

Test(node_late, a_clean_exit_is_no_oom_whatever_the_cgroup_says)
{
    running();
    struct pm_event event = of_rank(PM_EVENT_RANK_EXITED, 0);
    event.flag_oom = true;
    happens(event);
    cr_assert_eq(failures(), 0);
    event = of_rank(PM_EVENT_RANK_EXITED, 1);
    event.flag_oom = true;
    event.wait_status = KILLED;
    happens(event);
    cr_assert_eq(failures(), 1);
    cr_assert_eq(stand.report.failures.list[0].cause, PM_CAUSE_OOM);
}

// A fence that fails for lack of a local rank: only one that had connected, has ended well by itself and
// did not finalize is to blame.
static void not_blamed(const char *what)
{
    pm_node_fence_lost(&stand.core, 0, 2);
    cr_expect_eq(failures(), 0, "%s is blamed", what);
}

Test(node_late, a_rank_that_has_not_connected_is_not_blamed_for_a_fence)
{
    running();
    happens(of_rank(PM_EVENT_RANK_EXITED, 0));
    not_blamed("a rank without PMIx");
    pm_node_fence_lost(&stand.core, 0, 77);
    cr_expect_eq(failures(), 0, "a rank of another node is blamed");
}

Test(node_late, a_rank_that_has_finalized_is_not_blamed_for_a_fence)
{
    connected();
    happens(of_rank(PM_EVENT_FINALIZED, 0));
    happens(of_rank(PM_EVENT_RANK_EXITED, 0));
    not_blamed("a rank that had finalized");
}

Test(node_late, a_rank_that_lives_or_failed_is_not_blamed_for_a_fence)
{
    connected();
    not_blamed("a rank that lives");
    struct pm_event event = of_rank(PM_EVENT_RANK_EXITED, 0);
    event.wait_status = EXITED(3);
    happens(event);
    pm_node_fence_lost(&stand.core, 0, 2);
    cr_assert_eq(failures(), 1);
    cr_assert_eq(stand.report.failures.list[0].cause, PM_CAUSE_EXIT, "its own failure stays");
}

Test(node_late, a_rank_that_we_end_is_not_blamed_for_a_fence)
{
    connected();
    want(PM_PHASE_HALT);
    stand_run_ms(200);
    cr_assert(stand.core.node->locals[0].termed);
    happens(of_rank(PM_EVENT_RANK_EXITED, 0));
    not_blamed("a rank after our SIGTERM");
}

Test(node_late, nobody_is_blamed_for_a_fence_when_the_user_stops)
{
    connected();
    happens((struct pm_event){.type = PM_EVENT_SIGNALLED, .signal = TERMED});
    happens(of_rank(PM_EVENT_RANK_EXITED, 0));
    not_blamed("a rank after the user's stop");
}

// --- the end of the step -----------------------------------------------------------------------------

Test(node_late, after_the_end_only_the_ends_of_ranks_are_noted)
{
    connected();
    want(PM_PHASE_END);
    cr_assert_eq(stand_count(PM_ACTION_END_AGENT, NULL), 1);
    means_nothing(of_rank(PM_EVENT_SHIM_LOST, 0), "a lost shim");
    means_nothing((struct pm_event){.type = PM_EVENT_TIMER}, "a timer");
    size_t n = stand.out.n;
    pm_node_fence_lost(&stand.core, 0, 2);
    pm_node_on_parent(&stand.core);
    pm_node_on_lease(&stand.core, false);
    pm_node_on_outcast(&stand.core, "too late");
    wanted.epoch = 1;
    want(PM_PHASE_START);
    cr_assert_eq(stand.out.n, n, "something follows the end");
    cr_assert_eq(pm_node_deadline_ns(stand.core.node), UINT64_MAX);
    happens(of_rank(PM_EVENT_RANK_EXITED, 0));
    happens(of_rank(PM_EVENT_RANK_GONE, 0));
    cr_assert_eq(stand_count(PM_ACTION_NODE_LOG, NULL), 2, "exit and reap are in the log");
}

// --- the lease, lines, nodes without ranks ------------------------------------------------------------

Test(node_late, a_lease_that_it_has_is_no_news)
{
    running();
    pm_node_on_lease(&stand.core, true);
    cr_assert_eq(stand_count(PM_ACTION_RESUME, NULL), 0);
}

Test(node_late, a_line_without_text_is_an_empty_one)
{
    happens((struct pm_event){.type = PM_EVENT_SAY});
    cr_assert_str_eq(stand.said, "\n");
}

Test(node_late, a_node_without_ranks_needs_no_server_and_halts_at_once)
{
    stand.core.config.n_local = stand.core.node->n_local = 0;
    stand_map();
    wanted.map_version = 1;
    want(PM_PHASE_START);
    stand_run_ms(20);
    cr_assert_eq(stand_count(PM_ACTION_PREPARE_SERVER, NULL), 0);
    cr_assert(pm_set_has(&stand.report.marks[PM_MARK_STARTED], 1));
    cr_assert(!pm_set_has(&stand.report.marks[PM_MARK_HALTED], 1));
    want(PM_PHASE_HALT);
    stand_run_ms(200);
    cr_assert(pm_set_has(&stand.report.marks[PM_MARK_HALTED], 1));
}

Test(node_late, nothing_is_started_by_a_map_that_is_to_come)
{
    joined();
    wanted.map_version = 2;
    want(PM_PHASE_START);
    happens(of_rank(PM_EVENT_SERVER_READY, 0));
    cr_assert_eq(stand_count(PM_ACTION_START_RANK, NULL), 0);
}

Test(node_late, no_rank_is_started_again_after_slurms_signal)
{
    running();
    happens((struct pm_event){.type = PM_EVENT_SIGNALLED, .signal = TERMED});
    struct pm_event event = of_rank(PM_EVENT_RANK_EXITED, 0);
    event.wait_status = TERMED;
    happens(event);
    happens(of_rank(PM_EVENT_RANK_GONE, 0));
    cr_assert_eq(pm_wanted_again(&wanted, 2), 0);
    want(PM_PHASE_START);
    cr_assert_eq(stand_count(PM_ACTION_START_RANK, NULL), 0);
}

Test(node_late, killing_what_was_killed_goes_on_until_all_are_gone)
{
    running();
    want(PM_PHASE_KILL);
    want(PM_PHASE_KILL);
    cr_assert_eq(stand_count(PM_ACTION_KILL_RANK, NULL), 2, "once each");
    happens(of_rank(PM_EVENT_RANK_GONE, 0));
    happens(of_rank(PM_EVENT_RANK_GONE, 1));
    stand_run_ms(10);
    cr_assert(pm_set_has(&stand.report.marks[PM_MARK_HALTED], 1));
    want(PM_PHASE_KILL);
    cr_assert_eq(stand_count(PM_ACTION_KILL_RANK, NULL), 2);
}

Test(node_late, survivors_hear_once_of_a_rank_that_left_and_was_missed)
{
    connected();
    const struct pm_failure missed = {.rank = 6, .cause = PM_CAUSE_NO_FINALIZE};
    cr_assert_eq(pm_set_add(&wanted.left, 6), 0);
    want(PM_PHASE_START);
    cr_assert_eq(stand_count(PM_ACTION_NOTIFY, NULL), 1, "it has left");
    cr_assert_eq(pm_wanted_notice(&wanted, &missed), 0);
    want(PM_PHASE_HALT);
    cr_assert_eq(stand_count(PM_ACTION_NOTIFY, NULL), 1, "they have heard of it");
}

Test(node_late, survivors_hear_of_a_rank_that_was_missed_at_once)
{
    connected();
    const struct pm_failure missed = {.rank = 6, .cause = PM_CAUSE_NO_FINALIZE};
    cr_assert_eq(pm_wanted_notice(&wanted, &missed), 0);
    want(PM_PHASE_HALT);
    cr_assert_eq(stand_count(PM_ACTION_NOTIFY, NULL), 1);
}
