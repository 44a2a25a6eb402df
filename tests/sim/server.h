// SPDX-License-Identifier: Apache-2.0
//
// What server.c (life, and the agent's side) and server_ranks.c (what ranks and agent do to it)
// share.
#ifndef PM_TESTS_SIM_SERVER_H
#define PM_TESTS_SIM_SERVER_H

#include "tests/sim/sim.h"

struct sim_server *sim_server_place(struct sim *s, uint32_t node, uint32_t index);
// NULL: there is none. `standby`: whatever its epoch.
struct sim_server *sim_server_find(struct sim *s, uint32_t node, bool standby, uint32_t epoch);
void sim_server_say(struct sim *s, uint32_t node, const struct sim_server *v, struct sim_msg msg);

#endif
