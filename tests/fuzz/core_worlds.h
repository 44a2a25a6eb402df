// SPDX-License-Identifier: Apache-2.0
//
// The steps that fuzz_core attacks and that core_seeds listens to: 0 forms, 1 runs with fences and a
// modex on their way, 2 halts.
#ifndef PM_TESTS_FUZZ_CORE_WORLDS_H
#define PM_TESTS_FUZZ_CORE_WORLDS_H

#include "tests/unit/core_harness.h"

enum { CORE_NODES = 5, CORE_WORLDS = 3 };

// As in struct harness_config.
typedef bool (*core_world_hook)(struct harness *h, void *ctx, uint32_t node,
                                const struct pm_action *action);

// The hook of a world that only goes on: modex data stays under way.
bool core_world_keeps_fetches(struct harness *h, void *ctx, uint32_t node,
                              const struct pm_action *action);

// A new step in state `kind`; never NULL. The caller's: harness_free.
struct harness *core_world(uint32_t kind, core_world_hook hook, void *ctx);

#endif
