// SPDX-License-Identifier: Apache-2.0
//
// See place.h. There is one way to write a mask, so that equal places are equal bytes.
#include "pmix_server/wire/place.h"

#include <errno.h>
#include <string.h>

uint32_t pm_place_length(const uint8_t *mask, uint32_t cap)
{
    while (cap > 0 && mask[cap - 1] == 0)
        cap--;
    return cap;
}

void pm_write_place(struct pm_writer *w, const struct pm_place *place)
{
    pm_write_bytes(w, place->cpus, place->cpu_bytes);
    pm_write_u8(w, (uint8_t)place->memory);
    pm_write_bytes(w, place->nodes, place->node_bytes);
}

static uint32_t read_mask(struct pm_reader *r, uint8_t *mask, uint32_t cap)
{
    size_t len;
    const uint8_t *at = pm_read_bytes(r, cap, &len);
    memset(mask, 0, cap);
    if (len > 0)
        memcpy(mask, at, len);
    if (pm_place_length(mask, cap) != len)
        r->error = -EBADMSG;
    return (uint32_t)len;
}

void pm_read_place(struct pm_reader *r, struct pm_place *ret)
{
    ret->cpu_bytes = read_mask(r, ret->cpus, sizeof ret->cpus);
    uint8_t memory = pm_read_u8(r);
    ret->node_bytes = read_mask(r, ret->nodes, sizeof ret->nodes);
    if (memory >= PM_PLACE_MEMORIES || (memory == PM_PLACE_KEEP) != (ret->node_bytes == 0))
        r->error = -EBADMSG;
    if (r->error)
        *ret = (struct pm_place){0};
    else
        ret->memory = (enum pm_place_memory)memory;
}
