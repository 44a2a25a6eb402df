// SPDX-License-Identifier: Apache-2.0
//
// The states of a step's life that tests of the supervisor alone begin in. Assertions of Criterion fail the test that
// called.
#ifndef PM_TESTS_SUPERVISOR_STAND_H
#define PM_TESTS_SUPERVISOR_STAND_H

#include "tests/unit/supervisor_events.h"

// 4 nodes of 2 ranks, long running.
void running(const struct pm_options *o);
void halting(const struct pm_options *o);
// Node 2 is suspect.
void placing(void);
void restarted(const struct pm_options *o);
// After a fatal exit.
void stopping(void);

#endif
