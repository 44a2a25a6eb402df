// SPDX-License-Identifier: Apache-2.0
//
// Whatever bytes an attached peer sends, a core neither crashes nor breaks its own contract. The
// peer has the step's key, so this is the second wall, not the first.
//
// An input is: which world of core_worlds.h, which core of it, and frames (which of the core's links,
// u16 length, bytes); a length of 0 lets time pass. Every input starts from a clone. Its first seeds
// are what the worlds say themselves: core_seeds writes them.
#include "tests/fuzz/fuzz.h"

#include <string.h>

#include "tests/fuzz/core_worlds.h"
#include "tests/unit/core_harness_impl.h"

static struct harness *worlds[CORE_WORLDS];

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
    for (uint32_t i = 0; i < CORE_WORLDS && !worlds[i]; i++)
        worlds[i] = core_world(i, core_world_keeps_fetches, NULL);
    struct pm_reader r = pm_reader_of(data, size);
    struct harness *h = worlds[pm_read_u8(&r) % CORE_WORLDS];
    uint32_t slot = pm_read_u8(&r) % (CORE_NODES + 1);
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
