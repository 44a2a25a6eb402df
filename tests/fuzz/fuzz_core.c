// SPDX-License-Identifier: Apache-2.0
//
// Whatever bytes an attached peer sends, a core neither crashes nor breaks its own contract. The
// peer has the step's key, so this is the second wall, not the first.
//
// Three worlds are brought to a state worth attacking once: forming, running with fences and a
// modex on their way, halting. An input is: which world, which core of it, and frames (u16 length,
// bytes), each sent on a link that the core has; a length of 0 lets time pass. Every input starts
// from a clone.
#include "tests/fuzz/fuzz.h"

#include <string.h>

#include "tests/unit/core_harness.h"
#include "tests/unit/core_harness_impl.h"

enum { NODES = 5, WORLDS = 3 };

static struct harness *worlds[WORLDS];

static void post_fences(struct harness *h)
{
    struct pm_set all = {0}, some = {0};
    FUZZ_CHECK(pm_set_add_span(&all, 0, 2 * NODES - 1) == 0 && pm_set_add_span(&some, 0, 5) == 0);
    for (uint32_t node = 0; node < NODES - 1; node++) {
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

static bool keeps_fetches(struct harness *h, void *ctx, uint32_t node,
                          const struct pm_action *action)
{
    (void)h;
    (void)ctx;
    (void)node;
    return action->type == PM_ACTION_FETCH;
}

static struct harness *make_world(uint32_t kind)
{
    static struct pm_options options;
    harness_default_options(&options);
    options.fanout = 2;
    const struct harness_config config = {
        .nnodes = NODES, .ranks_per_node = 2, .options = &options, .hook = keeps_fetches};
    struct harness *h = harness_new(&config);
    harness_launch(h, 0);
    if (kind == 0) {
        harness_run_ms(h, 2);
        return h;
    }
    FUZZ_CHECK(harness_run_until_state(h, PM_STATE_RUNNING, 10000));
    post_fences(h);
    const struct pm_event modex = {.type = PM_EVENT_MODEX, .id = 3, .rank = 2 * NODES - 1};
    harness_post(h, 0, &modex, 0);
    harness_run_ms(h, 3);
    if (kind == 2) {
        harness_rank_ends(h, 2, 0, 11);
        FUZZ_CHECK(harness_run_until_state(h, PM_STATE_HALTING, 10000));
    }
    return h;
}

static uint32_t link_of(const struct slot *s, uint32_t slot, uint8_t which)
{
    const struct wire *wire = s->wires[which % s->n_wires];
    return wire->id[wire->node[0] == slot ? 0 : 1];
}

// False: the core has ended its part, nothing follows.
static bool step(struct pm_core *core, struct pm_event *event)
{
    struct pm_actions actions = {0};
    FUZZ_CHECK(pm_core_step(core, event, &actions) == 0);
    bool goes_on = true;
    for (size_t i = 0; i < actions.n; i++) {
        enum pm_action_type type = actions.list[i].type;
        goes_on &= type != PM_ACTION_EXIT && type != PM_ACTION_DIE && type != PM_ACTION_END_AGENT;
    }
    pm_actions_done(&actions);
    return goes_on;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    for (uint32_t i = 0; i < WORLDS && !worlds[i]; i++)
        worlds[i] = make_world(i);
    struct pm_reader r = pm_reader_of(data, size);
    struct harness *h = worlds[pm_read_u8(&r) % WORLDS];
    uint32_t slot = pm_read_u8(&r) % (NODES + 1);
    const struct slot *s = &h->slots[slot];
    if (r.error || !s->core || s->n_wires == 0)
        return 0;
    struct pm_core *core = pm_core_clone(s->core);
    FUZZ_CHECK(core);
    struct pm_event event = {.now_ns = harness_now_ns(h)};
    for (bool goes_on = true; goes_on && r.left >= 3;) {
        event.link = link_of(s, slot, pm_read_u8(&r));
        size_t len = pm_read_u16(&r);
        len = len < r.left ? len : r.left;
        event.type = len ? PM_EVENT_FRAME : PM_EVENT_TIMER;
        event.now_ns += len ? 1000 : 300 * HARNESS_MS;
        event.data = pm_read_raw(&r, len);
        event.len = len;
        goes_on = step(core, &event);
    }
    pm_core_free(core);
    return 0;
}
