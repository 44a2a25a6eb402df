// SPDX-License-Identifier: Apache-2.0
//
// What happens to a supervisor that stands alone (life_stand.h), in one word each, and what is expected of it. Assertions of
// Criterion fail the test that called.
#ifndef PM_TESTS_SUPERVISOR_EVENTS_H
#define PM_TESTS_SUPERVISOR_EVENTS_H

#include "tests/unit/life_stand.h"

#define KILLED       9
#define EXITED(code) ((code) << 8)

void expect_state(enum pm_state state);
// It is in what was said since stand_forget().
void expect_said(const char *text);
void fail_rank(uint32_t rank, enum pm_cause cause, int32_t wait_status);
void node_dies(uint32_t node, enum pm_cause cause);
void node_is_lost(uint32_t node); // for silence
void agent_is_gone(uint32_t node); // its host refuses connections
void srun_exits(int32_t wait_status);
void user_stops(void);
void slurm_signals(void);
// These ranks of rank mode run again, a report says.
void again(uint32_t first, uint32_t last);
// By the map that the coordinator goes by now.
uint32_t node_of(uint32_t rank);
// The last record of that kind since stand_forget(); NULL: there is none.
const struct pm_log *last_log(const char *kind);

#endif
