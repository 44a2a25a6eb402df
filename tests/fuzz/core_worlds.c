// SPDX-License-Identifier: Apache-2.0
//
// The steps that fuzz_core attacks, each brought to a state worth attacking: see core_worlds.h.
#include "tests/fuzz/core_worlds.h"

#include "tests/fuzz/fuzz.h"

static void post_fences(struct harness *h)
{
    struct pm_set all = {0}, some = {0};
    FUZZ_CHECK(pm_set_add_span(&all, 0, 2 * CORE_NODES - 1) == 0 && pm_set_add_span(&some, 0, 5) == 0);
    for (uint32_t node = 0; node < CORE_NODES - 1; node++) {
        struct pm_event event = {.type = PM_EVENT_FENCE,
                                 .id = 1,
                                 .set = &all,
                                 .flag_collect = true,
                                 .timeout_ms = 60000,
                                 .data = (const uint8_t *)"abc",
                                 .len = 3};
        harness_post(h, node, &event, 0);
        event.id = 2;
        event.set = &some;
        if (node < 2)
            harness_post(h, node, &event, 0);
    }
    pm_set_done(&all);
    pm_set_done(&some);
}

bool core_world_keeps_fetches(struct harness *h, void *ctx, uint32_t node,
                              const struct pm_action *action)
{
    (void)h;
    (void)ctx;
    (void)node;
    return action->type == PM_ACTION_FETCH;
}

struct harness *core_world(uint32_t kind, core_world_hook hook, void *ctx)
{
    static struct pm_options options;
    harness_default_options(&options);
    options.fanout = 2;
    const struct harness_config config = {
        .nnodes = CORE_NODES, .ranks_per_node = 2, .options = &options, .hook = hook, .ctx = ctx};
    struct harness *h = harness_new(&config);
    harness_launch(h, 0);
    if (kind == 0) {
        harness_run_ms(h, 2);
        return h;
    }
    FUZZ_CHECK(harness_run_until_state(h, PM_STATE_RUNNING, 10000));
    post_fences(h);
    const struct pm_event modex = {.type = PM_EVENT_MODEX, .id = 3, .rank = 2 * CORE_NODES - 1};
    harness_post(h, 0, &modex, 0);
    harness_run_ms(h, 3);
    if (kind == 2) {
        harness_rank_ends(h, 2, 0, 11);
        FUZZ_CHECK(harness_run_until_state(h, PM_STATE_HALTING, 10000));
    }
    return h;
}
