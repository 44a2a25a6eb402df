// SPDX-License-Identifier: Apache-2.0
//
// --pm-health at an agent alone: node 1 of 4. When it is run, and what is told of it.
#include <criterion/criterion.h>
#include <string.h>

#include "tests/unit/node_stand.h"

static void setup(void)
{
    node_setup();
    strcpy(stand.options.health, "/site/health");
}

TestSuite(node_health, .init = setup, .fini = node_teardown, .timeout = 20);

static void ends(uint64_t check, bool failed, bool missing)
{
    stand_event(&(struct pm_event){.type = PM_EVENT_HEALTH, .id = check, .flag_failed = failed, .flag_exec = missing,
                                   .text = failed ? "--pm-health ended with exit code 3" : ""});
    stand_run_ms(6);
}

static void probed(uint32_t check)
{
    wanted.check = check;
    cr_assert_eq(pm_set_add(&wanted.probe, 1), 0);
    want(PM_PHASE_HALT);
}

Test(node_health, it_is_run_once_when_all_tasks_have_joined)
{
    event(PM_EVENT_SHIM_JOINED, 0);
    none(PM_ACTION_CHECK_HEALTH);
    event(PM_EVENT_SHIM_JOINED, 1);
    cr_assert_eq(only(PM_ACTION_CHECK_HEALTH)->id, 1);
    stand_run_ms(6);
    cr_assert(pm_set_has(&stand.report.joined, 1)); // it has joined before
    cr_assert_eq(stand.report.check, 0);
    ends(1, false, false);
    cr_assert_eq(stand.report.check, 1);
    cr_assert(pm_set_has(&stand.report.fit, 1));
    cr_assert_eq(stand.report.failures.n, 0);
    want(PM_PHASE_FORM);
    only(PM_ACTION_CHECK_HEALTH);
}

Test(node_health, without_the_option_nothing_is_run)
{
    stand.options.health[0] = '\0';
    joined();
    probed(2);
    none(PM_ACTION_CHECK_HEALTH);
}

Test(node_health, a_failure_is_reported_until_it_is_handled)
{
    joined();
    ends(1, true, false);
    cr_assert_eq(reported()->cause, PM_CAUSE_UNHEALTHY);
    cr_assert_eq(reported()->rank, PM_RANK_NONE);
    cr_assert_str_eq(reported()->text, "--pm-health ended with exit code 3");
    cr_assert(!pm_set_has(&stand.report.fit, 1));
    cr_assert_eq(pm_set_add(&wanted.lost, 1), 0);
    want(PM_PHASE_FORM);
    stand_run_ms(6);
    cr_assert_eq(stand.report.failures.n, 0);
    probed(2); // an unfit node is not asked again
    only(PM_ACTION_CHECK_HEALTH);
}

Test(node_health, what_is_not_there_to_be_run_is_refused)
{
    joined();
    ends(1, true, true);
    cr_assert_eq(stand.report.cannot_node, 1);
    cr_assert_eq(stand.report.failures.n, 0);
}

Test(node_health, what_has_gone_since_is_a_failure)
{
    joined();
    ends(1, false, false);
    probed(2);
    ends(2, true, true);
    cr_assert_eq(stand.report.cannot_node, UINT32_MAX);
    cr_assert_eq(reported()->cause, PM_CAUSE_UNHEALTHY);
}

Test(node_health, it_is_run_again_when_the_coordinator_asks)
{
    joined();
    ends(1, false, false);
    stand_forget();
    wanted.check = 2; // others are asked
    want(PM_PHASE_HALT);
    none(PM_ACTION_CHECK_HEALTH);
    probed(2);
    cr_assert_eq(only(PM_ACTION_CHECK_HEALTH)->id, 2);
    cr_assert_eq(stand.report.check, 1);
    ends(1, false, false); // of before
    cr_assert_eq(stand.report.check, 1);
    ends(2, false, false);
    cr_assert_eq(stand.report.check, 2);
    cr_assert(pm_set_has(&stand.report.fit, 1));
}

Test(node_health, one_runs_at_a_time)
{
    joined();
    ends(1, false, false);
    probed(2);
    stand_forget();
    probed(3);
    none(PM_ACTION_CHECK_HEALTH);
    ends(2, false, false);
    cr_assert_eq(only(PM_ACTION_CHECK_HEALTH)->id, 3);
    cr_assert_eq(stand.report.check, 2);
    ends(3, false, false);
    cr_assert_eq(stand.report.check, 3);
}

Test(node_health, the_newest_check_of_the_subtree_counts)
{
    struct pm_report child;
    joined();
    pm_report_init(&child);
    child.check = 2;
    cr_assert_eq(pm_set_add(&child.fit, 3), 0);
    cr_assert(stand_report(&child));
    pm_report_done(&child);
    ends(1, false, false); // nobody asks for that any more
    cr_assert_eq(stand.report.check, 2);
    cr_assert(!pm_set_has(&stand.report.fit, 1));
    cr_assert(pm_set_has(&stand.report.fit, 3));
}

Test(node_health, nothing_is_run_when_the_step_ends)
{
    joined();
    ends(1, false, false);
    stand_forget();
    wanted.check = 2;
    cr_assert_eq(pm_set_add(&wanted.probe, 1), 0);
    want(PM_PHASE_STOP);
    none(PM_ACTION_CHECK_HEALTH);
}

Test(node_health, a_copy_has_the_same_hash)
{
    joined();
    ends(1, true, false);
    struct pm_digest before = {0}, after = {0};
    struct pm_node *copy = pm_node_clone(stand.core.node);
    pm_node_digest(stand.core.node, stand.core.now_ns, &before);
    pm_node_digest(copy, stand.core.now_ns, &after);
    cr_assert_eq(before.h, after.h);
    copy->is_unfit = false;
    after = (struct pm_digest){0};
    pm_node_digest(copy, stand.core.now_ns, &after);
    cr_assert_neq(before.h, after.h);
    pm_node_free(copy);
}
