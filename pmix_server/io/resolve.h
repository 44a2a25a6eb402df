// SPDX-License-Identifier: Apache-2.0
//
// Host name to addresses without ever blocking the loop: getaddrinfo() knows the site's files, DNS and
// LDAP, but it may take 30 s and cannot be cancelled. So a short-lived child asks, sends the
// answer through a pipe, and is killed when the time is over.
#ifndef PM_IO_RESOLVE_H
#define PM_IO_RESOLVE_H

#include <event2/event.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define PM_RESOLVE_MAX 8

struct pm_resolve;

struct pm_resolve_config {
    struct event_base *base;
    const char *name;
    uint64_t timeout_ms;
    // n 0: no such name, or no answer in time. The pm_resolve is gone after the call.
    void (*done)(const struct sockaddr_storage *addresses, size_t n, void *arg);
    void *arg;
};

// 0 or negative errno. The child is reaped by the owner's pm_children_reap().
int pm_resolve_new(const struct pm_resolve_config *config, struct pm_resolve **ret);
// Cancels; `done` is not called.
struct pm_resolve *pm_resolve_free(struct pm_resolve *r);

#endif
