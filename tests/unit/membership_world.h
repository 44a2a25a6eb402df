// SPDX-License-Identifier: Apache-2.0
//
// A whole step (core_harness.h) for the tests of membership, with troubles that only they need, switched on by
// variables. Assertions of Criterion fail the test that called.
#ifndef PM_TESTS_MEMBERSHIP_WORLD_H
#define PM_TESTS_MEMBERSHIP_WORLD_H

#include "pmix_server/core/membership.h"
#include "tests/unit/core_harness.h"

#define COORDINATOR PM_NODE_COORDINATOR

extern struct harness *h;
extern struct pm_options options;
extern uint32_t n_nodes;
extern int refusals;         // DIALs to the coordinator that are refused from now on
extern bool nameless;        // other agents are not found by name
extern uint32_t named_dials; // DIALs with addresses
extern uint32_t links_max;   // most links the coordinator ever had
extern bool leave_on_attach; // node 14 is lost to node 6 when that one asks a new parent
extern bool useless;         // node 1 resets its link to node 4 at every ping
extern const uint32_t *rates; // of the nodes' clocks; NULL: all alike

// Default options and no trouble; the .init of every test.
void setup(void);
// A step in which nothing has happened yet.
void make(uint32_t nnodes, uint32_t fanout);
// One that has been RUNNING for as long as T.
void form(uint32_t nnodes, uint32_t fanout);
struct pm_core *coordinator(void);
uint64_t t_ms(void);
bool said(const char *what);
void assert_nobody_is_dead(void);
void assert_all_is_well(void);
// Milliseconds until the coordinator decides to stop; UINT64_MAX: not within max_ms.
uint64_t ms_until_stop(uint64_t max_ms);
void done(void);

#endif
