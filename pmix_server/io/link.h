// SPDX-License-Identifier: Apache-2.0
//
// One TCP connection between two of our processes: connect, handshake, encrypted frames, bounded
// queues. Knows nothing of what frames mean.
//
// Contract: one thread, one event base. The handlers are called from the event loop or from
// pm_link_drain(), never from inside pm_link_send(). `down` is called at most once and never after
// pm_link_close() or pm_link_free(); a handler may call either of them.
#ifndef PM_IO_LINK_H
#define PM_IO_LINK_H

#include <event2/event.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pmix_server/core/core.h"
#include "pmix_server/wire/secure.h"

#define PM_LINK_QUEUE_MAX (2u * (size_t)PM_FRAME_MAX)  // bytes that wait to be sent
#define PM_LINK_ADDRESS_CAP 64                         // "[ffff:...]:65535"
#define PM_HANDSHAKE_MS 2000

struct pm_link;

struct pm_link_handlers {
    // The handshake is done; pm_link_peer() is proved.
    void (*up)(struct pm_link *link, void *arg);
    void (*frame)(struct pm_link *link, const uint8_t *data, size_t len, void *arg);
    // Ended by the other side or by an error. `text` is one sentence without a full stop.
    void (*down)(struct pm_link *link, enum pm_link_end end, const char *text, void *arg);
};

struct pm_link_config {
    struct event_base *base;
    const struct pm_secure_config *secure;
    const struct pm_link_handlers *handlers;  // static
    void *arg;
    int fd;               // taken over, also on failure; non-blocking, connected or connecting
    bool connecting;
    uint64_t handshake_ms;  // from now until `up`, else `down` with PM_LINK_STUCK or _UNREACHABLE
    const char *address;    // of the other side, for messages
};

// 0 or negative errno.
int pm_link_new(const struct pm_link_config *config, struct pm_link **ret);
struct pm_link *pm_link_free(struct pm_link *link);
// New owner of a link, for example after a dial.
void pm_link_set_handlers(struct pm_link *link, const struct pm_link_handlers *handlers, void *arg);
// Queues one frame. A link that is not up or has too much queued drops it and goes down soon.
void pm_link_send(struct pm_link *link, const void *data, size_t len);
// Sends what is queued, for 2 s at most, then closes and frees itself.
void pm_link_close(struct pm_link *link);
// Handles all input that can be read now.
void pm_link_drain(struct pm_link *link);
uint32_t pm_link_peer(const struct pm_link *link);
const char *pm_link_address(const struct pm_link *link);

#endif
