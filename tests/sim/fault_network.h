// SPDX-License-Identifier: Apache-2.0
//
// What faults do to the network: links are reset, cut, slow or clogged, and healed. Only fault_strike.c, which has the table of
// faults, includes this.
#ifndef PM_TESTS_SIM_FAULT_NETWORK_H
#define PM_TESTS_SIM_FAULT_NETWORK_H

#include "tests/sim/sim.h"

void sim_strike_link_reset(struct sim *s, const struct sim_fault *f);
void sim_strike_link_cut(struct sim *s, const struct sim_fault *f);
void sim_strike_link_healed(struct sim *s, const struct sim_fault *f);
void sim_strike_one_way_cut(struct sim *s, const struct sim_fault *f);
void sim_strike_node_cut(struct sim *s, const struct sim_fault *f);
void sim_strike_node_healed(struct sim *s, const struct sim_fault *f);
void sim_strike_node_slow(struct sim *s, const struct sim_fault *f);
void sim_strike_node_clogged(struct sim *s, const struct sim_fault *f);
void sim_strike_node_quick(struct sim *s, const struct sim_fault *f);
void sim_strike_link_slow(struct sim *s, const struct sim_fault *f);
void sim_strike_link_clogged(struct sim *s, const struct sim_fault *f);
void sim_strike_link_quick(struct sim *s, const struct sim_fault *f);
void sim_strike_partition(struct sim *s, const struct sim_fault *f);
void sim_strike_network_healed(struct sim *s, const struct sim_fault *f);
void sim_strike_mass_silence(struct sim *s, const struct sim_fault *f);
void sim_strike_queue_full(struct sim *s, const struct sim_fault *f);
void sim_strike_queue_free(struct sim *s, const struct sim_fault *f);
void sim_strike_coord_cut(struct sim *s, const struct sim_fault *f);
void sim_strike_coord_healed(struct sim *s, const struct sim_fault *f);

#endif
