// SPDX-License-Identifier: Apache-2.0
//
// What the tests of an agent's half of supervision share: node 1 of 4 with ranks 2 and 3, what happens there, and
// how far it has come (life_stand.h). Assertions of Criterion fail the test that called.
#ifndef PM_TESTS_NODE_STAND_H
#define PM_TESTS_NODE_STAND_H

#include "tests/unit/life_stand.h"

#define KILLED       9
#define TERMED       15
#define EXITED(code) ((code) << 8)

extern struct pm_wanted wanted; // the next that comes down

void node_setup(void);
void node_teardown(void);
// About the present incarnation of a local task.
void event(enum pm_event_type type, uint32_t local);
// The rank of a local task ends.
void exits(uint32_t local, int32_t wait_status);
// From the server of an epoch.
void server(enum pm_event_type type, uint32_t epoch);
// The wanted state as it is, with this phase, comes down.
void want(enum pm_phase phase);
void joined(void);
void starting(void);
void running(void);
void connected(void);
// Has this node reached it, as the record says that goes up?
bool marked(enum pm_mark mark);
// The one action of this kind since stand_forget().
const struct pm_action *only(enum pm_action_type type);
void none(enum pm_action_type type);
// The one failure in the record that goes up.
const struct pm_failure *reported(void);
void notice_of(uint32_t rank);

#endif
