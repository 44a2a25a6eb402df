// SPDX-License-Identifier: Apache-2.0
//
// See node_stand.h.
#include "tests/unit/node_stand.h"

#include <criterion/criterion.h>
#include <string.h>

struct pm_wanted wanted;

void node_setup(void)
{
    stand_agent(1, 4, 2); // ranks 2 and 3
}

void node_teardown(void)
{
    pm_wanted_done(&wanted);
    stand_done();
}

void event(enum pm_event_type type, uint32_t local)
{
    const struct pm_local *l = &stand.core.node->locals[local];
    stand_event(&(struct pm_event){.type = type,
                                   .local = local,
                                   .rank = l->rank,
                                   .epoch = l->epoch,
                                   .incarnation = l->incarnation,
                                   .pid = 100 + local});
}

void exits(uint32_t local, int32_t wait_status)
{
    const struct pm_local *l = &stand.core.node->locals[local];
    stand_event(&(struct pm_event){.type = PM_EVENT_RANK_EXITED,
                                   .local = local,
                                   .epoch = l->epoch,
                                   .incarnation = l->incarnation,
                                   .pid = 100 + local,
                                   .wait_status = wait_status});
}

void server(enum pm_event_type type, uint32_t epoch)
{
    stand_event(&(struct pm_event){.type = type, .epoch = epoch, .text = "it died"});
}

void want(enum pm_phase phase)
{
    wanted.phase = phase;
    cr_assert(stand_wanted(&wanted));
}

void joined(void)
{
    event(PM_EVENT_SHIM_JOINED, 0);
    event(PM_EVENT_SHIM_JOINED, 1);
}

void starting(void)
{
    joined();
    stand_map();
    wanted.map_version = 1;
    wanted.grace_ms = 5000;
    wanted.port = 4711;
    wanted.host = 0;
    want(PM_PHASE_START);
    server(PM_EVENT_SERVER_READY, 0);
}

void running(void)
{
    starting();
    event(PM_EVENT_RANK_STARTED, 0);
    event(PM_EVENT_RANK_STARTED, 1);
    stand_run_ms(20);
    stand_forget();
}

void connected(void)
{
    running();
    event(PM_EVENT_CONNECTED, 0);
    event(PM_EVENT_CONNECTED, 1);
    stand_run_ms(20);
}

bool marked(enum pm_mark mark)
{
    stand_run_ms(6);
    return pm_set_has(&stand.report.marks[mark], 1);
}

const struct pm_action *only(enum pm_action_type type)
{
    const struct pm_action *a = NULL;
    cr_assert_eq(stand_count(type, &a), 1, "%u actions of type %d", stand_count(type, NULL), type);
    return a;
}

void none(enum pm_action_type type)
{
    cr_assert_eq(stand_count(type, NULL), 0, "%u actions of type %d", stand_count(type, NULL),
                 type);
}

const struct pm_failure *reported(void)
{
    stand_run_ms(6);
    cr_assert_eq(stand.report.failures.n, 1, "%u failures", stand.report.failures.n);
    return &stand.report.failures.list[0];
}
void notice_of(uint32_t rank)
{
    struct pm_failure f = {.rank = rank, .cause = PM_CAUSE_SIGNAL, .wait_status = KILLED};
    cr_assert_eq(pm_wanted_notice(&wanted, &f), 0);
    cr_assert_eq(pm_set_add(&wanted.dead, rank), 0);
}
