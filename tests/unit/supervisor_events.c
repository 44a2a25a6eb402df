// SPDX-License-Identifier: Apache-2.0
//
// See supervisor_events.h.
#include "tests/unit/supervisor_events.h"

#include <criterion/criterion.h>
#include <string.h>

void expect_state(enum pm_state state)
{
    cr_assert_eq(stand_state(), state, "%s, not %s; said: %s", pm_state_name(stand_state()),
                 pm_state_name(state), stand.said);
}

void expect_said(const char *text)
{
    cr_assert(stand_said(text), "\"%s\" is not in: %s", text, stand.said);
}

void fail_rank(uint32_t rank, enum pm_cause cause, int32_t wait_status)
{
    struct pm_failure failure = stand_failure(rank, cause, wait_status);
    stand_fail(&failure);
}

void srun_exits(int32_t wait_status)
{
    stand_event(&(struct pm_event){.type = PM_EVENT_SRUN_EXITED, .wait_status = wait_status});
}

void user_stops(void)
{
    stand_event(&(struct pm_event){.type = PM_EVENT_STOP, .signal = 15});
}

void slurm_signals(void)
{
    struct pm_report report;
    pm_report_init(&report);
    report.epoch = stand.wanted.epoch;
    report.user_signal = 15;
    cr_assert(stand_report(&report));
    pm_report_done(&report);
}

void node_dies(uint32_t node, enum pm_cause cause)
{
    cr_assert_eq(pm_set_add(&stand.dead, node), 0);
    size_t from = stand.out.n;
    pm_supervisor_on_node_dead(&stand.core, node, cause);
    for (size_t i = from; i < stand.out.n; i++)
        if (stand.out.list[i].type == PM_ACTION_SAY)
            strcat(strcat(stand.said, stand.out.list[i].text), "\n");
}

void node_is_lost(uint32_t node) { node_dies(node, PM_CAUSE_NODE_LOST); }

void agent_is_gone(uint32_t node)
{
    cr_assert_eq(pm_set_add(&stand.refused, node), 0);
    node_dies(node, PM_CAUSE_AGENT_LOST);
}

void again(uint32_t first, uint32_t last)
{
    struct pm_report report;
    pm_report_init(&report);
    cr_assert_eq(pm_set_add_span(&report.again, first, last), 0);
    cr_assert(stand_report(&report));
    pm_report_done(&report);
}

uint32_t node_of(uint32_t rank)
{
    return stand.core.world.node_of_rank[rank];
}

const struct pm_log *last_log(const char *kind)
{
    const struct pm_log *last = NULL;
    for (size_t i = 0; i < stand.out.n; i++)
        if (stand.out.list[i].log && !strcmp(stand.out.list[i].log->kind, kind))
            last = stand.out.list[i].log;
    return last;
}
