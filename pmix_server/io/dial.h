// SPDX-License-Identifier: Apache-2.0
//
// One call to one node: several addresses, staggered, the first that completes the handshake wins.
//
// The verdict of a failed call matters more than the call (the core judges whether a peer is dead, stuck
// or unreachable by it), so the rules are:
//   - If an address is marked `proved` (it worked before in this step), its verdict is the call's.
//   - Else REJECTED before STUCK before UNREACHABLE before CLOSED and RESET before REFUSED: REFUSED only if every
//     address refused or cannot be reached from this host at all (no route to that family of addresses).
//   - A port refuses if the kernel says that nobody listens there, or if who answers has not our key. One that
//     accepts and then ends the connection in the handshake does not: it may be ours, and full.
#ifndef PM_IO_DIAL_H
#define PM_IO_DIAL_H

#include <stdbool.h>

#include "pmix_server/io/conn.h"

#define PM_DIAL_MAX 64
#define PM_DIAL_STAGGER_MS 250

struct pm_dial;

struct pm_dial_config {
    struct event_base *base;
    struct pm_secure_config secure;
    const struct sockaddr_storage *addresses;  // copied; at most PM_DIAL_MAX are tried
    size_t n;
    bool first_proved;  // addresses[0] worked before
    uint64_t timeout_ms;
    // Once: a link that is up (the handler sets its handlers and owns it), or NULL and why. The
    // pm_dial is gone after the call. Never called from inside pm_dial_new().
    void (*done)(struct pm_conn *link, enum pm_link_end end, const char *text, void *arg);
    void *arg;
};

// 0 or negative errno.
int pm_dial_new(const struct pm_dial_config *config, struct pm_dial **ret);
// Cancels; `done` is not called.
struct pm_dial *pm_dial_free(struct pm_dial *d);

#endif
