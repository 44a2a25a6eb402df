// SPDX-License-Identifier: Apache-2.0
//
// What lies between a core's frame and the bytes of a link. The core encodes and decodes its frames
// itself; with params.cipher they also go through wire/secure.c, handshake included, and arrive in
// pieces.
#ifndef PM_TESTS_SIM_WIRE_H
#define PM_TESTS_SIM_WIRE_H

#include "tests/sim/sim.h"

// Takes the handshake message in `item` (none for SYNACK) and appends the answer to *out.
void sim_wire_shake(struct sim *s, struct sim_link *l, uint32_t end, const struct sim_item *item,
                    struct pm_writer *out);
void sim_wire_seal(struct sim_link_end *e, const uint8_t *data, size_t len, struct pm_writer *out);
// Posts the frame, or frames, that are whole now.
void sim_wire_open(struct sim *s, struct sim_link *l, uint32_t end, struct sim_item *item);
// The beginning of a frame that never ends.
void sim_wire_keep(struct sim_link_end *e, const struct sim_item *item);
void sim_wire_done(struct sim_link_end *e);

#endif
