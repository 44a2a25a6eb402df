// SPDX-License-Identifier: Apache-2.0
//
// One TCP connection between two of our processes: connect, handshake, encrypted frames, bounded
// queues. Knows nothing of what frames mean.
//
// Contract: one thread, one event base. The handlers are called from the event loop or from
// pm_conn_drain(), never from inside pm_conn_send(). `down` is called at most once and never after
// pm_conn_close() or pm_conn_free(); a handler may call either of them.
#ifndef PM_IO_CONN_H
#define PM_IO_CONN_H

#include <event2/event.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pmix_server/core/core.h"
#include "pmix_server/wire/secure.h"

#define PM_CONN_QUEUE_MAX (2u * (size_t)PM_FRAME_MAX)  // bytes that wait to be sent
#define PM_CONN_ADDRESS_CAP 64                         // "[ffff:...]:65535"
#define PM_HANDSHAKE_MS 2000

struct pm_conn;

struct pm_conn_handlers {
    // The handshake is done; pm_conn_peer() is proved.
    void (*up)(struct pm_conn *link, void *arg);
    void (*frame)(struct pm_conn *link, const uint8_t *data, size_t len, void *arg);
    // Ended by the other side or by an error. `text` is one sentence without a full stop.
    void (*down)(struct pm_conn *link, enum pm_link_end end, const char *text, void *arg);
};

struct pm_conn_config {
    struct event_base *base;
    const struct pm_secure_config *secure;
    const struct pm_conn_handlers *handlers;  // static
    void *arg;
    int fd;               // taken over, also on failure; non-blocking, connected or connecting
    bool connecting;
    uint64_t handshake_ms;  // from now until `up`, else `down` with PM_LINK_STUCK or _UNREACHABLE
    const char *address;    // of the other side, for messages
};

// 0 or negative errno.
int pm_conn_new(const struct pm_conn_config *config, struct pm_conn **ret);
struct pm_conn *pm_conn_free(struct pm_conn *link);
// New owner of a link, for example after a dial.
void pm_conn_set_handlers(struct pm_conn *link, const struct pm_conn_handlers *handlers, void *arg);
// Queues one frame. A link that is not up or has too much queued drops it and goes down soon.
void pm_conn_send(struct pm_conn *link, const void *data, size_t len);
// As above, with a content that other links may send as well.
void pm_conn_send_body(struct pm_conn *link, struct pm_body *body);
// Sends what is queued, for 2 s at most, then closes and frees itself.
void pm_conn_close(struct pm_conn *link);
// Handles all input that can be read now.
void pm_conn_drain(struct pm_conn *link);
// The other side has said a HELLO that only holders of the key can have made.
bool pm_conn_is_known(const struct pm_conn *link);
// It is the other side's turn: nothing of it waits to be read.
bool pm_conn_waits(const struct pm_conn *link);
uint32_t pm_conn_peer(const struct pm_conn *link);
const char *pm_conn_address(const struct pm_conn *link);

#endif
