// SPDX-License-Identifier: Apache-2.0
//
// Whole steps of real cores in virtual time: when the coordinator doubts itself or is gone, how much of
// everything there may be, and for how long. T is the node timeout.
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/membership_world.h"

// --- doubt -------------------------------------------------------------------------------------

static void check_pause_of_the_coordinator(uint32_t nnodes, uint32_t fanout)
{
    form(nnodes, fanout);
    harness_pause(h, COORDINATOR);
    harness_run_ms(h, 3 * t_ms());
    cr_assert(harness_rank(h, 0, 0)->stopped, "a rank runs without a lease");
    harness_resume(h, COORDINATOR);
    harness_run_ms(h, 2 * t_ms());
    assert_all_is_well();
    done();
}

Test(doubt, a_stopped_coordinator_declares_nobody_when_it_goes_on, .init = setup)
{
    check_pause_of_the_coordinator(4, 32);
    check_pause_of_the_coordinator(40, 3);
    check_pause_of_the_coordinator(1, 32);
    options.node_timeout_ms = 1000;
    check_pause_of_the_coordinator(40, 3);
}

static void check_suspend(uint32_t nnodes, uint32_t fanout, uint64_t gap_ms)
{
    form(nnodes, fanout);
    harness_job_state(h, PM_JOB_SUSPENDED);
    for (uint32_t i = 0; i < nnodes; i++)
        harness_pause(h, i);
    harness_run_ms(h, 3 * t_ms());
    harness_job_state(h, PM_JOB_RUNNING);
    for (uint32_t i = 0; i < nnodes; i++) {
        harness_resume(h, i);
        harness_run_ms(h, gap_ms);
    }
    harness_run_ms(h, 2 * t_ms());
    assert_all_is_well();
    done();
}

Test(doubt, a_suspended_job_goes_on_when_it_is_resumed, .init = setup)
{
    check_suspend(1, 32, 20);
    check_suspend(2, 32, 20);
    check_suspend(2, 32, 3000); // Slurm resumes one node after the other
    check_suspend(4, 32, 20);
    check_suspend(4, 32, 1500);
    check_suspend(40, 3, 20);
    options.node_timeout_ms = 1000;
    check_suspend(4, 32, 20);
}

// Nobody had the time to look for the coordinator: what was slept does not count.
Test(doubt, a_job_suspended_for_longer_than_the_orphan_timeout_goes_on, .init = setup)
{
    options.orphan_timeout_ms = options.node_timeout_ms;
    check_suspend(1, 32, 20);
    check_suspend(2, 32, 20);
    check_suspend(4, 32, 20);
    check_suspend(40, 3, 20);
}

Test(doubt, mass_silence_is_our_own_isolation_until_the_orphan_timeout, .init = setup)
{
    form(20, 32);
    harness_cut(h, COORDINATOR);
    harness_run_ms(h, 3 * t_ms());
    cr_assert_geq(harness_stats(h)->actions[PM_ACTION_ASK_JOB_STATE], 1);
    assert_nobody_is_dead();
    cr_assert(said("20 of 20 nodes are silent at once"), "%s", harness_said(h));
    harness_heal(h, COORDINATOR);
    harness_run_ms(h, 2 * t_ms());
    assert_all_is_well();
    cr_assert(said("heard again"), "%s", harness_said(h));
    harness_cut(h, COORDINATOR);
    uint64_t ms = ms_until_stop(10 * t_ms() + options.orphan_timeout_ms);
    cr_assert(ms > options.orphan_timeout_ms && ms < options.orphan_timeout_ms + 2 * t_ms(), "%lu",
              ms);
    done();
}

static void cut_some(uint32_t n, bool cut)
{
    for (uint32_t node = 0; node < n; node++)
        (cut ? harness_cut : harness_heal)(h, node);
}

// When our own clock was late every suspicion begins anew: nobody has been heard by that.
static void check_pause_in_doubt(bool one_is_heard_before)
{
    form(20, 32);
    cut_some(10, true);
    harness_run_ms(h, 2 * t_ms());
    cr_assert(said("10 of 20 nodes are silent at once"), "%s", harness_said(h));
    if (one_is_heard_before)
        harness_heal(h, 0);
    harness_run_ms(h, t_ms() / 2);
    harness_pause(h, COORDINATOR);
    harness_run_ms(h, t_ms());
    harness_resume(h, COORDINATOR);
    harness_run_ms(h, 2 * t_ms());
    cr_assert(!said("heard again"), "%s", harness_said(h));
    cut_some(10, false);
    harness_run_ms(h, 2 * t_ms());
    cr_assert(said("heard again"), "%s", harness_said(h));
    assert_all_is_well();
    done();
}

// Their links have outlived it, or they hang elsewhere now.
static void check_heard_after(uint32_t fanout, uint64_t silent_ms)
{
    form(20, fanout);
    harness_cut(h, COORDINATOR);
    harness_run_ms(h, silent_ms);
    cr_assert(said("20 of 20 nodes are silent at once"), "%s", harness_said(h));
    harness_heal(h, COORDINATOR);
    harness_run_ms(h, 2 * t_ms());
    cr_assert(said("heard again"), "%s", harness_said(h));
    assert_all_is_well();
    done();
}

Test(doubt, whoever_is_heard_again_is_said_to_be, .init = setup)
{
    check_heard_after(32, t_ms() * 9 / 10);
    check_heard_after(32, 3 * t_ms());
    check_heard_after(2, t_ms() * 9 / 10);
    check_heard_after(2, 3 * t_ms());
}

Test(doubt, after_a_pause_of_our_own_nobody_is_said_to_be_heard, .init = setup)
{
    check_pause_in_doubt(false);
    check_pause_in_doubt(true);
}

// Also whose parent was cut off itself, comes back by a new link, and only now says for how long it has
// heard nothing of them.
Test(doubt, when_it_ends_the_last_silent_ones_have_their_time_again, .init = setup)
{
    form(8, 2);
    pm_judge_restart(coordinator()); // as at the end of every doubt
    const struct pm_child_report report = {.node = 7,
                                     .attach = 1,
                                     .parent = 2,
                                     .via = 1,
                                     .kind = PM_REPORT_SILENT,
                                     .silent_ns = 2 * t_ms() * PM_MS,
                                     .granted_ns = 2 * t_ms() * PM_MS};
    harness_cut(h, 7);
    pm_judge_report(coordinator(), &report);
    cr_assert(pm_set_has(pm_suspect_nodes(coordinator()), 7));
    harness_run_ms(h, t_ms() * 9 / 10);
    harness_heal(h, 7);
    harness_run_ms(h, t_ms());
    assert_all_is_well();
    done();
}

// How close it was is kept, for figures: the pings of T/8, the cut, and nothing of our own pause.
Test(doubt, the_longest_silence_and_the_latest_clock_are_kept, .init = setup)
{
    form(4, 32);
    harness_run_ms(h, t_ms());
    cr_assert_leq(pm_longest_silence_ms(coordinator()), t_ms() / 8 + 1);
    cr_assert_eq(pm_longest_late_ms(coordinator()), 0);
    harness_cut(h, 2);
    harness_run_ms(h, t_ms() / 2);
    harness_heal(h, 2);
    harness_run_ms(h, t_ms());
    uint64_t silent_ms = pm_longest_silence_ms(coordinator());
    cr_assert(silent_ms >= t_ms() / 2 - t_ms() / 8 && silent_ms <= t_ms() * 3 / 4, "%lu ms", (unsigned long)silent_ms);
    harness_pause(h, COORDINATOR);
    harness_run_ms(h, 2 * t_ms());
    harness_resume(h, COORDINATOR);
    harness_run_ms(h, t_ms());
    uint64_t late_ms = pm_longest_late_ms(coordinator());
    cr_assert(late_ms >= 2 * t_ms() - t_ms() / 8 && late_ms <= 2 * t_ms(), "%lu ms", (unsigned long)late_ms);
    cr_assert_eq(pm_longest_silence_ms(coordinator()), silent_ms);
    done();
}

// --- the coordinator is gone ---------------------------------------------------------------------

Test(orphans, a_coordinator_that_refuses_ends_everything_at_once, .init = setup)
{
    form(40, 3);
    harness_kill(h, COORDINATOR);
    harness_run_ms(h, 1000);
    cr_assert_eq(harness_ranks_alive(h), 0);
    done();
}

// Killed before anybody had joined: nobody waits for it until the start timeout.
Test(orphans, a_coordinator_that_refuses_from_the_start_ends_the_agents_in_time, .init = setup)
{
    make(7, 2);
    harness_launch(h, 0);
    harness_kill(h, COORDINATOR);
    harness_run_ms(h, t_ms() - 500);
    for (uint32_t i = 0; i < 7; i++)
        cr_assert(!harness_core(h, i)->membership->outcast);
    harness_run_ms(h, 3000);
    for (uint32_t i = 0; i < 7; i++)
        cr_assert(!harness_core(h, i) || harness_core(h, i)->membership->outcast);
    done();
}

// A busy coordinator that answers now and then is not gone.
Test(orphans, refusals_with_an_answer_between_end_nothing, .init = setup)
{
    refusals = 12;
    form(1, 32);
    cr_assert_eq(refusals, 0);
    assert_all_is_well();
    done();
}

Test(orphans, one_refusal_alone_ends_nothing, .init = setup)
{
    form(4, 32);
    refusals = 1;
    harness_reset_link(h, 0, COORDINATOR);
    harness_run_ms(h, 1000);
    cr_assert_eq(refusals, 0);
    assert_all_is_well();
    done();
}

Test(orphans, a_silent_coordinator_stops_ranks_and_then_ends_them, .init = setup)
{
    form(15, 2);
    harness_power_off(h, COORDINATOR);
    harness_run_ms(h, t_ms());
    for (uint32_t i = 0; i < 15; i++)
        cr_assert(harness_rank(h, i, 1)->stopped);
    harness_run_ms(h, options.orphan_timeout_ms - 2 * t_ms());
    cr_assert_eq(harness_ranks_alive(h), 30);
    harness_run_ms(h, 2 * t_ms());
    cr_assert_eq(harness_ranks_alive(h), 0);
    done();
}

// --- limits, input, copies -----------------------------------------------------------------------

// Half of the coordinator's own children are lost at once: their orphans find places, within
// limits.
Test(limits, orphans_of_many_parents_fit_under_the_survivors, .init = setup)
{
    options.orphan_timeout_ms = 600000;
    form(300, 4);
    for (uint32_t i = 1; i < 4; i++)
        harness_cut(h, i);
    harness_run_ms(h, t_ms() * 9 / 10);
    for (uint32_t i = 4; i < 300; i++)
        cr_assert_neq(pm_next_hop(coordinator(), i), PM_NODE_NONE, "node %u", i);
    cr_assert_leq(links_max, 4 + PM_LINKS_SPARE);
    for (uint32_t i = 4; i < 300; i++) {
        uint32_t n;
        (void)pm_children(harness_core(h, i), &n);
        cr_assert_leq(n, 4 * 4);
    }
    done();
}

// The coordinator keeps places free for others, but not from somebody who has no other.
Test(limits, an_orphan_without_any_other_place_hangs_at_the_coordinator, .init = setup)
{
    nameless = true;
    make(16, 2);
    struct pm_set late = {0};
    cr_assert_eq(pm_set_add_span(&late, 0, 3), 0);
    harness_launch_without(h, &late);
    harness_run_ms(h, 1000);
    for (uint32_t i = 0; i <= 3; i++) {
        harness_start_agent(h, i);
        harness_run_ms(h, 500);
    }
    uint32_t n;
    (void)pm_children(coordinator(), &n);
    cr_assert_eq(n, 2 + 3 * 2);
    cr_assert_eq(pm_parent(harness_core(h, 2)), 0);
    cr_assert_eq(pm_parent(harness_core(h, 3)), 0);
    harness_cut(h, 0);
    harness_cut(h, 1);
    harness_run_ms(h, t_ms() * 9 / 10);
    for (uint32_t i = 2; i < 16; i++)
        cr_assert_not(pm_judge_is_suspect(coordinator(), i), "node %u", i);
    pm_set_done(&late);
    done();
}

// Its only possible deputy is fine, but cannot be reached by the two that look for a place.
Test(limits, an_orphan_that_cannot_reach_its_deputy_hangs_at_the_coordinator, .init = setup)
{
    nameless = true;
    make(16, 2);
    struct pm_set late = {0};
    cr_assert_eq(pm_set_add_span(&late, 0, 3), 0);
    harness_launch_without(h, &late);
    harness_run_ms(h, 1000);
    for (uint32_t i = 0; i <= 3; i++) {
        harness_start_agent(h, i);
        harness_run_ms(h, 500);
    }
    harness_cut(h, 1);
    for (uint32_t i = 2; i <= 3; i++) {
        harness_cut_one_way(h, 0, i, true);
        harness_cut_one_way(h, i, 0, true);
    }
    harness_run_ms(h, t_ms() * 9 / 10);
    cr_assert_eq(pm_parent(harness_core(h, 2)), PM_NODE_COORDINATOR);
    cr_assert_eq(pm_parent(harness_core(h, 3)), 2); // which is a deputy now
    for (uint32_t i = 2; i <= 3; i++)
        cr_assert_not(pm_judge_is_suspect(coordinator(), i), "node %u", i);
    pm_set_done(&late);
    done();
}

// A process that answers dials but never comes back has its time anew with each answer, but not for ever.
Test(limits, who_only_answers_dials_is_dead_in_the_end, .init = setup)
{
    options.orphan_timeout_ms = 2 * t_ms();
    form(8, 32);
    harness_cut(h, 3);
    for (uint32_t i = 0; i < 32 && coordinator(); i++) {
        harness_run_ms(h, t_ms() / 8);
        if (coordinator() && pm_judge_is_suspect(coordinator(), 3))
            pm_judge_probed(coordinator(), coordinator()->membership->judge.last_probe_id, COORDINATOR, 3,
                            PM_PROBE_ANSWERED);
    }
    cr_assert(!coordinator() || pm_set_has(pm_dead_nodes(coordinator()), 3));
    done();
}

// Whoever is on its way to another place has time for it, and so has what hangs below the same suspect; but
// not for ever.
Test(limits, who_asks_again_and_again_is_not_waited_for_without_an_end, .init = setup)
{
    options.orphan_timeout_ms = t_ms();
    form(8, 2);
    harness_cut(h, 2);
    harness_cut(h, 6);
    for (uint32_t i = 0; i < 9 && coordinator(); i++) {
        harness_run_ms(h, t_ms() / 4);
        if (coordinator())
            pm_judge_asked(coordinator(), 6);
    }
    cr_assert(!coordinator() || pm_set_has(pm_dead_nodes(coordinator()), 6));
    done();
}

static void send_garbage(uint32_t node, uint8_t type, uint64_t seed)
{
    uint8_t data[64] = {type};
    size_t len = 1 + seed % 63;
    for (size_t i = 1; i < len; i++)
        data[i] = (uint8_t)(seed >> i % 8 * 8) ^ (uint8_t)(seed * i);
    uint32_t last = harness_core(h, node)->membership->n_links;
    if (last == 0)
        return;
    struct pm_event e = {.type = PM_EVENT_FRAME,
                         .data = data,
                         .len = len,
                         .link = harness_core(h, node)->membership->links[seed % last].id};
    harness_post(h, node, &e, 0);
    harness_run_ms(h, 1);
}

// Frames from an authentic but broken peer: links close and come back, nobody dies of it.
Test(input, garbage_costs_a_link_and_nothing_else, .init = setup, .timeout = 60)
{
    form(6, 2);
    uint64_t seed = 88172645463325252u;
    for (uint32_t i = 0; i < 2000; i++) {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        uint32_t node = i % 7 == 6 ? COORDINATOR : i % 7;
        uint8_t type = (uint8_t)(0x10 + i % 12);
        bool deadly =
            type == PM_FRAME_REFUSED || type == PM_FRAME_DOWN || type == PM_FRAME_ATTACHED;
        if (!deadly && harness_core(h, node))
            send_garbage(node, type, seed);
    }
    harness_run_ms(h, 2 * t_ms());
    assert_all_is_well();
    done();
}

Test(copies, a_clone_does_what_the_original_does, .init = setup)
{
    form(15, 2);
    harness_cut(h, 2);
    harness_run_ms(h, t_ms() / 3);
    for (uint32_t i = 0; i <= 15; i++) {
        struct pm_core *core = harness_core(h, i == 15 ? COORDINATOR : i);
        struct pm_core *clone = pm_core_clone(core);
        uint64_t now = harness_now_ns(h);
        cr_assert(clone);
        cr_assert_eq(pm_core_digest(core, now), pm_core_digest(clone, now));
        uint64_t due = pm_core_deadline_ns(core);
        cr_assert_eq(pm_core_deadline_ns(clone), due);
        struct pm_event e = {.type = PM_EVENT_TIMER, .now_ns = due > now ? due : now};
        struct pm_core *twin = pm_core_clone(clone);
        struct pm_actions a = {0}, b = {0};
        cr_assert_eq(pm_core_step(clone, &e, &a), 0);
        cr_assert_eq(pm_core_step(twin, &e, &b), 0);
        cr_assert_eq(a.n, b.n);
        for (size_t k = 0; k < a.n; k++)
            cr_assert(a.list[k].type == b.list[k].type && a.list[k].len == b.list[k].len);
        cr_assert_eq(pm_core_digest(clone, e.now_ns), pm_core_digest(twin, e.now_ns));
        pm_actions_done(&a);
        pm_actions_done(&b);
        pm_core_free(clone);
        pm_core_free(twin);
    }
    done();
}
