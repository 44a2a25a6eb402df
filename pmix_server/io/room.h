// SPDX-License-Identifier: Apache-2.0
//
// Room in a socket of this machine that takes nothing at the moment. A full one becomes writable again; one
// for which the kernel has no memory has been writable all the time, so it is only looked at again a
// little later.
#ifndef PM_IO_ROOM_H
#define PM_IO_ROOM_H

#include <event2/event.h>
#include <stdbool.h>

struct pm_room {
    struct event *writable;
    struct event *later;
};

// `flush` is called once for each pm_room_await(). Into a zeroed one; 0 or -ENOMEM, then pm_room_close() as
// well. Does not take `fd` over.
int pm_room_open(struct pm_room *room, struct event_base *base, int fd, event_callback_fn flush, void *arg);
// Is a failed send with this errno only a matter of time?
bool pm_room_will_be(int error);
// After such a send. 0, or -ENOMEM: nothing will call `flush`.
int pm_room_await(struct pm_room *room, int error);
// Nobody waits any more.
void pm_room_forget(struct pm_room *room);
// Before `fd` is closed; also twice, or of a zeroed one.
void pm_room_close(struct pm_room *room);

#endif
