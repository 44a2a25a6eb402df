// SPDX-License-Identifier: Apache-2.0
//
// A frame of the cores as one line: "failed rank 17 epoch 0 signal 9".
#ifndef PM_TESTS_SIM_TRACE_FRAME_H
#define PM_TESTS_SIM_TRACE_FRAME_H

#include "tests/sim/sim.h"

void sim_trace_frame(const struct sim *s, const uint8_t *data, size_t len, char *buf, size_t cap);

#endif
