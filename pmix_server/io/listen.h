// SPDX-License-Identifier: Apache-2.0
//
// A TCP listener on all addresses of this host, IPv6 and IPv4, on one port out of a list.
#ifndef PM_IO_LISTEN_H
#define PM_IO_LISTEN_H

#include <event2/event.h>
#include <stddef.h>
#include <stdint.h>

struct pm_listener;

struct pm_listen_config {
    struct event_base *base;
    // Ports to try in order; 0 stands for "any free one".
    const uint16_t *ports;
    size_t n_ports;
    // `fd` is connected, non-blocking, CLOEXEC and owned by the handler; `address` says from where.
    void (*accepted)(int fd, const char *address, void *arg);
    void *arg;
};

// 0, or the negative errno of the last port tried.
int pm_listener_new(const struct pm_listen_config *config, struct pm_listener **ret);
struct pm_listener *pm_listener_free(struct pm_listener *l);
uint16_t pm_listener_port(const struct pm_listener *l);
// Connections wait in the kernel's queue until resumed.
void pm_listener_pause(struct pm_listener *l);
void pm_listener_resume(struct pm_listener *l);

// All ports of min..max in an order that starts at random (two steps of one host rarely collide);
// {0} if min is 0. malloc'd, *ret_n entries; NULL without memory.
uint16_t *pm_listen_ports_of_range(uint32_t min, uint32_t max, size_t *ret_n);

// "a:port,[v6]:port": the addresses of this host that others can use; loopback only if there is no
// other. malloc'd, NULL without memory.
char *pm_listen_addresses(uint16_t port);

#endif
