// SPDX-License-Identifier: Apache-2.0
//
// The sweep of kth_step.c works by being linked; this is all that can be asked of it.
#ifndef PM_TESTS_KTH_STEP_H
#define PM_TESTS_KTH_STEP_H

// Prints how much was tried.
void kth_step_report(void);

#endif
