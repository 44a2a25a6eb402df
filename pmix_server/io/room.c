// SPDX-License-Identifier: Apache-2.0
//
// See room.h for the contract.
#include "pmix_server/io/room.h"

#include <errno.h>

#include "pmix_server/io/util.h"

#define LATER_MS 10

int pm_room_open(struct pm_room *room, struct event_base *base, int fd, event_callback_fn flush, void *arg)
{
    room->writable = event_new(base, fd, EV_WRITE, flush, arg);
    room->later = evtimer_new(base, flush, arg);
    return room->writable && room->later ? 0 : -ENOMEM;
}

bool pm_room_will_be(int error)
{
    return error == EAGAIN || error == ENOBUFS || error == ENOMEM;
}

int pm_room_await(struct pm_room *room, int error)
{
    const struct timeval tv = pm_timeval_of_ms(LATER_MS);
    int r = error == EAGAIN ? event_add(room->writable, NULL) : evtimer_add(room->later, &tv);
    return r ? -ENOMEM : 0;
}

void pm_room_forget(struct pm_room *room)
{
    if (room->writable)
        event_del(room->writable);
    if (room->later)
        event_del(room->later);
}

void pm_room_close(struct pm_room *room)
{
    if (room->writable)
        event_free(room->writable);
    if (room->later)
        event_free(room->later);
    *room = (struct pm_room){0};
}
