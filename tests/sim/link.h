// SPDX-License-Identifier: Apache-2.0
//
// What the two halves of the TCP model share: link.c (places, sending, ends, dialling) and
// link_take.c (receiving).
#ifndef PM_TESTS_SIM_LINK_H
#define PM_TESTS_SIM_LINK_H

#include "tests/sim/sim.h"

uint32_t sim_link_index(const struct sim *s, const struct sim_link *l);
void sim_link_part(struct sim *s, struct sim_link *l, uint32_t end); // its process forgets it
void sim_pipe_clear(struct sim_pipe *p);
void sim_end_clear(struct sim_link_end *e);
void sim_link_free_if_over(struct sim_link *l);
void sim_pipe_schedule(struct sim *s, struct sim_link *l, uint32_t to, uint64_t at_ns);
void sim_link_push(struct sim *s, struct sim_link *l, uint32_t to, uint8_t kind,
                   struct pm_writer *data); // takes `data`
// The core hears that its link is down; the socket is gone.
void sim_link_down(struct sim *s, struct sim_link *l, uint32_t end, enum pm_link_end why);
void sim_link_take_syn(struct sim *s, struct sim_link *l);
void sim_link_shake(struct sim *s, struct sim_link *l, uint32_t end, const struct sim_item *item);
// slow_link.c: when an item that would come at at_ns comes to `to`, if the link is slow or clogged.
uint64_t sim_slow_link_at(const struct sim *s, const struct sim_link *l, uint32_t to, uint64_t at_ns);

#endif
