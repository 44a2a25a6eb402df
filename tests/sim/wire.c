// SPDX-License-Identifier: Apache-2.0
//
// See wire.h.
#include "tests/sim/wire.h"

#include "pmix_server/wire/secure.h"

static const uint8_t key[PM_KEY_LEN] = "the key of a simulated launch..";

static struct pm_secure *secure_of(struct sim *s, struct sim_link *l, uint32_t end)
{
    struct sim_link_end *e = &l->end[end];
    const struct pm_secure_config config = {.key = key, .version = "sim", .launch = 1,
                                            .node = sim_node_of(s, e->slot), .dialer = end == 0,
                                            .expected = sim_node_of(s, l->end[1].slot)};
    if (!e->secure) {
        int r = pm_secure_new(&config, &e->secure);
        SIM_ASSERT(r == 0);
    }
    return e->secure;
}

void sim_wire_shake(struct sim *s, struct sim_link *l, uint32_t end, const struct sim_item *item,
                    struct pm_writer *out)
{
    struct pm_secure *secure = secure_of(s, l, end);
    size_t used = 0;
    if (item->kind == SIM_ITEM_SYNACK) {
        pm_secure_begin(secure, out);
        return;
    }
    enum pm_secure_result r = pm_secure_handshake(secure, item->data, item->len, &used, out);
    bool done = item->kind != SIM_ITEM_HELLO;
    SIM_ASSERT(r == (done ? PM_SECURE_OK : PM_SECURE_MORE) && used == item->len);
}

void sim_wire_seal(struct sim_link_end *e, const uint8_t *data, size_t len, struct pm_writer *out)
{
    if (e->secure)
        pm_secure_seal(e->secure, data, len, out);
    else
        pm_write_raw(out, data, len);
    SIM_ASSERT(!out->error);
}

static void post(struct sim *s, uint32_t slot, uint32_t id, const uint8_t *data, size_t len)
{
    sim_proc_post(s, slot, (struct pm_event){.type = PM_EVENT_FRAME, .link = id, .data = data,
                                             .len = len});
}

// The frame is moved out of the link: what the core does with it may end the link.
void sim_wire_open(struct sim *s, struct sim_link *l, uint32_t end, struct sim_item *item)
{
    struct sim_link_end *e = &l->end[end];
    struct pm_secure_frame frame = {.data = item->data, .len = item->len};
    if (e->secure) {
        // In two pieces: the first is never enough.
        size_t part = item->len ? sim_rng_below(&s->net, item->len) : 0;
        enum pm_secure_result first = pm_secure_open(e->secure, item->data, part, &frame);
        SIM_ASSERT(first == PM_SECURE_MORE);
        enum pm_secure_result r = pm_secure_open(e->secure, item->data, item->len, &frame);
        SIM_ASSERT(r == PM_SECURE_OK && frame.used == item->len);
    }
    post(s, e->slot, e->id, frame.data, frame.len);
}

void sim_wire_keep(struct sim_link_end *e, const struct sim_item *item)
{
    struct pm_secure_frame frame;
    if (e->secure && item->len) {
        enum pm_secure_result r = pm_secure_open(e->secure, item->data, item->len, &frame);
        SIM_ASSERT(r == PM_SECURE_MORE);
    }
}

void sim_wire_done(struct sim_link_end *e)
{
    e->secure = pm_secure_free(e->secure);
    pm_writer_done(&e->in);
}
