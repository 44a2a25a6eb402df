// SPDX-License-Identifier: Apache-2.0
//
// What the coordinator tells of lost nodes at the end of a step, without a loop, a core, programs of the site or a syslog:
// the test is all of them.
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "pmix_server/coordinator.h"
#include "pmix_server/io/program.h"
#include "pmix_server/io/system_log.h"

static struct {
    struct pm_log record;  // the last
    unsigned records;
    unsigned lines;
    char line[1024];  // the last
} seen;

TestSuite(coordinator_losses, .timeout = 20);

const char *pm_cause_name(enum pm_cause cause) { return cause == PM_CAUSE_NODE_LOST ? "node-lost" : "another"; }

const char *pm_state_name(enum pm_state state) { return state == PM_STATE_RUNNING ? "RUNNING" : "another"; }

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

static void lose(struct coordinator *c, uint32_t node)
{
    struct pm_log lost = {.kind = "lost", .rank = PM_RANK_NONE, .node = node, .spare = UINT32_MAX,
                          .cause = PM_CAUSE_NODE_LOST, .silent_ms = 3000, .reason = "nothing was heard of it for 3 s"};
    pm_losses_note(c, &lost);
}

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
