// SPDX-License-Identifier: Apache-2.0
//
// What the tests of the supervisor alone share: what happens to a step (life_stand.h), and the states of its life
// that they begin in. Assertions of Criterion fail the test that called.
#ifndef PM_TESTS_SUPERVISOR_STAND_H
#define PM_TESTS_SUPERVISOR_STAND_H

#include "tests/unit/life_stand.h"

#define KILLED       9
#define EXITED(code) ((code) << 8)

void expect_state(enum pm_state state);
// It is in what was said since stand_forget().
void expect_said(const char *text);
void fail_rank(uint32_t rank, enum pm_cause cause, int32_t wait_status);
void srun_exits(int32_t wait_status);
void user_stops(void);
void slurm_signals(void);
void node_dies(uint32_t node, enum pm_cause cause);
// 4 nodes of 2 ranks, long running.
void running(const struct pm_options *o);
void halting(const struct pm_options *o);
// Node 2 is suspect.
void placing(void);
void restarted(const struct pm_options *o);
// After a fatal exit.
void stopping(void);
// These ranks of rank mode run again, a report says.
void again(uint32_t first, uint32_t last);

#endif
