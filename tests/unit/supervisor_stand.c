// SPDX-License-Identifier: Apache-2.0
//
// See supervisor_stand.h.
#include "tests/unit/supervisor_stand.h"

#include <criterion/criterion.h>

// 4 nodes of 2 ranks, long running.
void running(const struct pm_options *o)
{
    stand_coordinator(4, 2, o);
    stand_running();
    stand_run_ms(724000);
    stand_forget();
}

void halting(const struct pm_options *o)
{
    running(o);
    fail_rank(3, PM_CAUSE_SIGNAL, KILLED);
    expect_state(PM_STATE_HALTING);
}

void placing(void)
{
    halting(NULL);
    cr_assert_eq(pm_set_add(&stand.suspect, 2), 0);
    stand_mark(PM_MARK_HALTED, 0, 0, 3);
    expect_state(PM_STATE_PLACING);
}

void restarted(const struct pm_options *o)
{
    halting(o);
    stand_mark(PM_MARK_HALTED, 0, 0, 3);
    expect_state(PM_STATE_STARTING);
    stand_mark(PM_MARK_STARTED, 1, 0, 3);
    expect_state(PM_STATE_RUNNING);
}

void stopping(void)
{
    running(NULL);
    fail_rank(3, PM_CAUSE_EXIT, EXITED(93));
    expect_state(PM_STATE_STOPPING);
}
