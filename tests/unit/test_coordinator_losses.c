// SPDX-License-Identifier: Apache-2.0
//
// What the coordinator tells of lost nodes at the end of a step, without a loop, a core, programs of the site or a syslog:
// the test is all of them, and the clock.
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "pmix_server/coordinator.h"
#include "pmix_server/io/program.h"
#include "pmix_server/io/system_log.h"
#include "pmix_server/io/util.h"

#define S_NS 1000000000u

static struct {
    uint64_t now_ns;
    struct pm_log record;  // the last
    unsigned records;
    unsigned lines;
    char line[1024];  // the last
} seen;

TestSuite(coordinator_losses, .timeout = 20);

const char *pm_cause_name(enum pm_cause cause) { return cause == PM_CAUSE_NODE_LOST ? "node-lost" : "another"; }

const char *pm_state_name(enum pm_state state) { return state == PM_STATE_RUNNING ? "RUNNING" : "another"; }

uint64_t pm_clock_ns(void) { return seen.now_ns; }

char *pm_clock_wall(char *buf, size_t cap)
{
    (void)snprintf(buf, cap, "NOW");
    return buf;
}

const char *pm_core_host(const struct pm_core *core, uint32_t node, char *buf)
{
    (void)core;
    (void)snprintf(buf, PM_TEXT_CAP, "n%u", node);
    return buf;
}

void pm_syslog_warning(const char *tag, const char *text)
{
    (void)tag;
    (void)text;
}

bool pm_program_outcome(int status, uint64_t limit_ms, char *buf, size_t cap)
{
    (void)status;
    (void)limit_ms;
    (void)buf;
    (void)cap;
    return true;
}

pid_t pm_program_start(const struct pm_program *program)
{
    (void)program;
    cr_assert_fail("no program was named");
    return -1;
}

int pm_children_watch(struct pm_children *children, pid_t pid, pm_child_f ended, void *arg)
{
    (void)children;
    (void)pid;
    (void)ended;
    (void)arg;
    return 0;
}

const sigset_t *pm_signals_old_mask(const struct pm_signals *signals)
{
    (void)signals;
    return NULL;
}

void pm_coordinator_say(struct coordinator *c, const char *text)
{
    (void)c;
    seen.lines++;
    (void)snprintf(seen.line, sizeof(seen.line), "%s", text);
}

void pm_coordinator_log(struct coordinator *c, const struct pm_log *record)
{
    (void)c;
    seen.records++;
    seen.record = *record;
}

static void lose_as(struct coordinator *c, uint32_t node, bool idle)
{
    struct pm_log lost = {.kind = "lost", .rank = PM_RANK_NONE, .node = node, .spare = UINT32_MAX,
                          .cause = PM_CAUSE_NODE_LOST, .silent_ms = 3000, .idle = idle,
                          .reason = "nothing was heard of it for 3 s"};
    pm_losses_note(c, &lost);
}

static void lose(struct coordinator *c, uint32_t node) { lose_as(c, node, false); }

Test(coordinator_losses, a_record_of_the_ledger_names_no_spare)
{
    struct coordinator c = {.losses = STAILQ_HEAD_INITIALIZER(c.losses)};
    lose(&c, 4);
    pm_losses_ledger(&c);
    cr_expect_eq(seen.records, 1);
    cr_expect_str_eq(seen.record.kind, "ledger");
    cr_expect_eq(seen.record.node, 4);
    cr_expect_eq(seen.record.spare, UINT32_MAX);
    cr_expect_eq(seen.record.silent_ms, 3000);
    cr_expect_geq(seen.record.lost_ms, 3000);
    pm_losses_done(&c);
}

Test(coordinator_losses, a_hundred_have_a_line_and_all_have_a_record)
{
    struct coordinator c = {.losses = STAILQ_HEAD_INITIALIZER(c.losses)};
    for (uint32_t node = 0; node < 103; node++)
        lose(&c, node);
    pm_losses_ledger(&c);
    cr_expect_eq(seen.records, 103);
    cr_expect_eq(seen.lines, 101);
    cr_expect_str_eq(seen.line, "lost: 3 more nodes, all of them in --pm-log");
    pm_losses_done(&c);
}

// --- the time that was lost --------------------------------------------------------------------------

static void runs(struct coordinator *c, uint32_t epoch)
{
    pm_losses_note(c, &(struct pm_log){.kind = "state", .epoch = epoch, .from = "STARTING", .to = "RUNNING"});
}

static void pass_s(uint64_t s) { seen.now_ns += s * S_NS; }

static void expect_ledger(struct coordinator *c, const char *time, uint64_t lost_ms)
{
    char line[256];
    (void)snprintf(line, sizeof(line), "lost in epoch 0: n4 at NOW (node-lost): nothing was heard of it for 3 s; %s", time);
    pm_losses_ledger(c);
    cr_expect_str_eq(seen.line, line);
    cr_expect_eq(seen.record.lost_ms, lost_ms);
    pm_losses_done(c);
}

Test(coordinator_losses, time_is_lost_until_the_next_epoch_runs)
{
    struct coordinator c = {.losses = STAILQ_HEAD_INITIALIZER(c.losses)};
    runs(&c, 0);
    lose(&c, 4);
    pass_s(2);
    runs(&c, 1);
    pass_s(3600);
    expect_ledger(&c, "5 s until epoch 1 ran", 5000);
}

Test(coordinator_losses, or_until_the_step_ends)
{
    struct coordinator c = {.losses = STAILQ_HEAD_INITIALIZER(c.losses)};
    runs(&c, 0);
    lose(&c, 4);
    pass_s(2);
    expect_ledger(&c, "5 s until the step ended", 5000);
}

// Its place is taken before the first epoch begins.
Test(coordinator_losses, a_node_lost_while_the_step_forms_is_replaced_in_the_same_epoch)
{
    struct coordinator c = {.losses = STAILQ_HEAD_INITIALIZER(c.losses)};
    lose(&c, 4);
    pass_s(2);
    runs(&c, 0);
    pass_s(3600);
    expect_ledger(&c, "5 s until epoch 0 ran", 5000);
}

Test(coordinator_losses, a_node_that_nothing_stops_for_costs_no_time)
{
    struct coordinator c = {.losses = STAILQ_HEAD_INITIALIZER(c.losses)};
    runs(&c, 0);
    lose_as(&c, 4, true);
    pass_s(3600);
    runs(&c, 1);
    expect_ledger(&c, "no time lost", 0);
}
